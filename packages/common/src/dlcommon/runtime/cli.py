"""The console scripts: the seven commands, each capstone's own, and `data`, `results`, `lesson`, `docs`."""

import difflib
import errno
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from dlcommon.runtime import streams
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands import data as data_command
from dlcommon.runtime.commands import evaluate as evaluate_command
from dlcommon.runtime.commands import export as export_command
from dlcommon.runtime.commands import predict as predict_command
from dlcommon.runtime.commands import results as results_command
from dlcommon.runtime.commands import serve as serve_command
from dlcommon.runtime.commands import train as train_command
from dlcommon.runtime.commands import tune as tune_command
from dlcommon.runtime.dispatch import choose, load
from dlcommon.runtime.errors import UserError

UNUSABLE = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})
"""Error numbers of paths that only the user can put right."""
COMMANDS = ("train", "eval", "export", "serve", "demo", "predict", "tune")


def _run(capstone: Capstone[Any], command: str, argv: list[str]) -> int:
    """Runs one command of one capstone."""
    match command:
        case "train":
            return train_command.main(capstone, argv)
        case "eval":
            return evaluate_command.main(capstone, argv)
        case "export":
            return export_command.main(capstone, argv)
        case "predict":
            return predict_command.main(capstone, argv)
        case "tune":
            return tune_command.main(capstone, argv)
        case _:
            return serve_command.main(capstone, argv, open_browser=command == "demo")


def guarded(action: Callable[[], int]) -> int:
    """Returns the exit code of an action; a user error is printed as one line."""
    try:
        return action()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a command's answers has gone, as with `predict … | head`
        return 1
    except OSError as error:
        if error.errno not in UNUSABLE or not error.filename:
            raise
        print(f"error: {error.filename} cannot be used: {error.strerror}; correct it or name another", file=sys.stderr)
        return 1


def enter(action: Callable[[], int]) -> NoReturn:
    """Ends the process with the exit code of an action, as a console script does."""
    sys.exit(streams.run(lambda: guarded(action)))


def _dispatched(command: str) -> NoReturn:
    enter(lambda: _run(load(choose(command)), command, sys.argv[1:]))


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


def predict() -> None:
    _dispatched("predict")


def tune() -> None:
    _dispatched("tune")


def data() -> None:
    enter(lambda: data_command.main(sys.argv[1:]))


def results() -> None:
    enter(lambda: results_command.main(sys.argv[1:]))


def lesson() -> None:
    from dlcommon.course import cli

    enter(lambda: cli.main(sys.argv[1:]))


def docs() -> None:
    from dlcommon.site import command

    enter(lambda: command.main(sys.argv[1:]))


def capstone() -> None:
    """Runs the script of a capstone's own name: `cifar10-resnet train …`."""
    enter(lambda: named(Path(sys.argv[0]).name.removesuffix(".exe"), sys.argv[1:]))


def named(name: str, argv: list[str]) -> int:
    """Runs the command that the first word names, of the capstone of that name."""
    chosen = load(name)
    if argv and argv[0] in COMMANDS:
        return _run(chosen, argv[0], argv[1:])
    usage = f"usage: {name} {{{','.join(COMMANDS)}}} [options]   (add --help for a command's options)"
    if argv and argv[0] in ("-h", "--help"):
        print(f"{usage}\n\n{chosen.title}\n{chosen.summary}")
        return 0
    if argv and argv[0] == "--version":
        print(f"{name} {metadata.version(name)}")
        return 0
    close = difflib.get_close_matches(argv[0].lower(), COMMANDS, n=1) if argv else []
    hint = f"; did you mean {close[0]}?" if close else ""
    problem = f"unknown command {argv[0]!r}{hint}" if argv else "which command?"
    print(f"error: {problem}\n{usage}", file=sys.stderr)
    return 2
