from typing import ClassVar

from dlcommon.testing.contract import CapstoneContract
from eda_titanic.capstone import CAPSTONE


class TestContract(CapstoneContract):
    capstone = CAPSTONE
    flags: ClassVar = ("--data", "titanic-sample", "--repeats", "1", "--folds", "2", "--inner-folds", "2")
