"""The console scripts: the five commands, each capstone's own, and `data`, `results`, `lesson`."""

import sys
from collections.abc import Callable
from typing import Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.dispatch import choose, load
from dlcommon.runtime.errors import UserError

COMMANDS = ("train", "eval", "export", "serve", "demo")


def _run(capstone: Capstone[Any], command: str, argv: list[str]) -> int:
    """Runs one command of one capstone; each is imported only when it is called for."""
    match command:
        case "train":
            from dlcommon.runtime.commands import train

            return train.main(capstone, argv)
        case "eval":
            from dlcommon.runtime.commands import evaluate

            return evaluate.main(capstone, argv)
        case "export":
            from dlcommon.runtime.commands import export

            return export.main(capstone, argv)
        case _:
            from dlcommon.runtime.commands import serve

            return serve.main(capstone, argv, open_browser=command == "demo")


def guarded(action: Callable[[], int]) -> int:
    """The exit code of an action, its user errors told in one line."""
    try:
        return action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        return 1


def _dispatched(command: str) -> None:
    sys.exit(guarded(lambda: _run(load(choose(command)), command, sys.argv[1:])))


def train() -> None:
    _dispatched("train")


def evaluate() -> None:
    _dispatched("eval")


def export() -> None:
    _dispatched("export")


def serve() -> None:
    _dispatched("serve")


def demo() -> None:
    _dispatched("demo")


def data() -> None:
    from dlcommon.runtime.commands import data

    sys.exit(guarded(lambda: data.main(sys.argv[1:])))


def results() -> None:
    from dlcommon.runtime.commands import results

    sys.exit(guarded(lambda: results.main(sys.argv[1:])))


def lesson() -> None:
    from dlcommon.course import cli

    sys.exit(guarded(lambda: cli.main(sys.argv[1:])))


def capstone_main(capstone: Capstone[Any]) -> None:
    """The script of a capstone's own name: `cifar10-resnet train …`."""
    argv = sys.argv[1:]
    if argv and argv[0] in COMMANDS:
        sys.exit(guarded(lambda: _run(capstone, argv[0], argv[1:])))
    asked = bool(argv) and argv[0] in ("-h", "--help")
    usage = f"usage: {capstone.name} {{{','.join(COMMANDS)}}} [options]   (add --help for a command's options)"
    if asked:
        print(f"{usage}\n\n{capstone.title}\n{capstone.summary}")
        sys.exit(0)
    problem = f"unknown command {argv[0]!r}" if argv else "which command?"
    print(f"error: {problem}\n{usage}", file=sys.stderr)
    sys.exit(2)
