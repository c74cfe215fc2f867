from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from sentiment_bert.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "generated-reviews", "--encoder", "scratch", "--members", "1", "--epochs", "1.5", "--min-steps", "0",
        "--dim", "32", "--layers", "1", "--vocab-size", "200", "--batch-size", "4096", "--r-drop", "0.5",
        "--evaluate-every", "0.5",
    )  # fmt: skip
