"""CIFAR-10 from scratch to 91 % and beyond on two CPU cores, with residual networks."""

from dlcommon.runtime.cli import capstone_main

from cifar10_resnet.capstone import CAPSTONE


def main() -> None:
    capstone_main(CAPSTONE)


__all__ = ["CAPSTONE", "main"]
