"""Language models that learn a text character by character, and write along with you."""

from dlcommon.runtime.cli import capstone_main

from char_lm.capstone import CAPSTONE


def main() -> None:
    capstone_main(CAPSTONE)


__all__ = ["CAPSTONE", "main"]
