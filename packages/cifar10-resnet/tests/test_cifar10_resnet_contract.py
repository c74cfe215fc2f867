from typing import ClassVar

from cifar10_resnet.capstone import CAPSTONE
from dlcommon.testing.contract import CapstoneContract


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "colour-scenes", "--epochs", "1.5", "--widths", "8", "16", "16", "--evaluate-every", "0.5",
        "--ema-decay", "0.9", "--cutout", "8", "--no-tta", "--members", "2",
    )  # fmt: skip
