"""An analysis report for any table, honest models for it, and who survived the Titanic."""

from dlcommon.runtime.cli import capstone_main

from eda_titanic.capstone import CAPSTONE


def main() -> None:
    capstone_main(CAPSTONE)


__all__ = ["CAPSTONE", "main"]
