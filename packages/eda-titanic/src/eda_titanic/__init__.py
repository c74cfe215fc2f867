"""Handwritten digits, drawn with the mouse or the finger and read by a network trained from scratch."""

from dlcommon.runtime.cli import capstone_main

from eda_titanic.capstone import CAPSTONE


def main() -> None:
    capstone_main(CAPSTONE)


__all__ = ["CAPSTONE", "main"]
