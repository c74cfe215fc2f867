"""Restarts by torchrun: a training that lost a process is started again, and continues the run that it began."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_object
from dlcommon.runtime.run_directory import ORIGIN, SUMMARY, list_runs
from dlcommon.runtime.run_lock import is_locked


def launch_id() -> str | None:
    """Returns the name that torchrun's user gave the launch (`--rdzv-id`), or None."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name


def was_restarted() -> bool:
    """Tells whether torchrun has started this process again after a failure on its machine."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def launch_origin() -> dict[str, str]:
    """Returns what a new run remembers of its launch, by which a restart finds it."""
    name = launch_id()
    return {"launch": name} if name is not None else {}


def run_to_continue(capstone: str, origin: Mapping[str, str], restarted: bool) -> Path | None:
    """Finds the unfinished run that an earlier start of this launch has left.

    It was begun by the same command and under the same `--rdzv-id`, and no process trains it. Without an id only a
    restarted training has one: the newest that was begun by the same command.

    Args:
        origin: of the training that starts now, with its command.
        restarted: whether any of its processes was; not all know of it, since each machine counts its own failures.
    """
    name = launch_id()
    if name is None and not restarted:
        return None
    for directory in reversed(list_runs(capstone)):
        stored = _origin(directory)
        same = stored.get("command") == origin.get("command") and stored.get("launch") == name
        if same and not (directory / SUMMARY).is_file() and not is_locked(directory):
            return directory.resolve()
    return None


def _origin(directory: Path) -> dict[str, Any]:
    """Reads what a run began with; of a run whose notes are missing or damaged nothing is known, so it is no match."""
    try:
        return read_object(directory / ORIGIN)
    except UserError:
        return {}
