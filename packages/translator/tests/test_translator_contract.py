from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from translator.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "generated-captions", "--epochs", "0.4", "--min-steps", "0", "--dim", "16", "--heads", "2",
        "--encoder-layers", "1", "--decoder-layers", "1", "--feedforward-dim", "16", "--vocab-size", "300",
        "--batch-size", "4096", "--evaluate-every", "0.2",
    )  # fmt: skip
