from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from face_gan.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "drawn-faces", "--epochs", "0.5", "--min-steps", "0", "--generator-width", "4",
        "--discriminator-width", "4", "--noise-dim", "16", "--evaluate-every", "0.25", "--penalty-every", "2",
        "--validation-share", "0.1",
        "--max-minutes", "None",  # else the clock decides about the first learning rates
    )  # fmt: skip
