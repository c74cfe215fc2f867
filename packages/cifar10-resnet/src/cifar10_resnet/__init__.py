"""CIFAR-10 from scratch to 91 % and beyond on two CPU cores, with residual networks."""

from cifar10_resnet.capstone import CAPSTONE
from dlcommon.runtime.cli import capstone_main


def main() -> None:
    capstone_main(CAPSTONE)


__all__ = ["CAPSTONE", "main"]
