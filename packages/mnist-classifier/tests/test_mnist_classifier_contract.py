from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from mnist_classifier.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "mnist-sample", "--preset", "fast", "--epochs", "2", "--widths", "8", "16", "16",
        "--kernels", "3", "5", "--dropout", "0.1", "--ema-decay", "0.9", "--evaluate-every", "0.5",
    )  # fmt: skip
