"""Runs a command of an installed capstone by its name: `python -m dlcommon.runtime cifar10-resnet train …`."""

import sys

from dlcommon.runtime.cli import enter, named

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m dlcommon.runtime CAPSTONE COMMAND [options]")
    enter(lambda: named(sys.argv[1], sys.argv[2:]))
