"""What a house in Ames sells for, between which bounds, and why."""

from dlcommon.runtime.cli import capstone_main

from house_prices.capstone import CAPSTONE


def main() -> None:
    capstone_main(CAPSTONE)


__all__ = ["CAPSTONE", "main"]
