from typing import ClassVar

from char_lm.capstone import CAPSTONE
from dlcommon.testing.contract import CapstoneContract


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    cannot_read = "cannot be read: this model knows the 65 characters"
    flags: ClassVar = (
        "--data", "python-manual", "--epochs", "0.25", "--min-steps", "0", "--layers", "2",
        "--dim", "32", "--heads", "2",
        "--context-lengths", "16", "32", "--stages", "0.5", "--batch-size", "256", "--evaluate-every", "0.125",
        "--ema-decay", "0.9", "--validation-share", "0.1",
    )  # fmt: skip
