from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from house_prices import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = (
        "--data", "ames", "--repeats", "1", "--folds", "2", "--trees", "40", "--tree-rate", "0.3", "--epochs", "2",
        "--members", "1",
    )  # fmt: skip
