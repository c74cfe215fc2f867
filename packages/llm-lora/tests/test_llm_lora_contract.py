"""The contract, with the smallest training: a tiny random network of bytes."""

from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from llm_lora.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--base", "tiny", "--data", "generated-instructions", "--epochs", "0.4", "--rank", "4",
        "--targets", "q_proj", "v_proj", "--learning-rate", "0.01", "--evaluate-every", "0.2",
    )  # fmt: skip
