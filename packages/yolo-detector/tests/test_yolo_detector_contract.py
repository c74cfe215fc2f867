from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from yolo_detector.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "cell-scenes", "--image-size", "64", "--batch-size", "8", "--epochs", "0.4", "--min-steps", "0",
        "--evaluate-every", "0.2", "--train-on", "train", "--mixup", "0.2", "--ema-decay", "0.9",
    )  # fmt: skip
