"""Where runs lie: `runs/<capstone>/<data>-<time>/`, and the names of their files."""

from datetime import UTC, datetime
from pathlib import Path

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import explained_disk_errors, folder_named_by

CONFIG, ORIGIN, ASSETS, SUMMARY = "config.json", "origin.json", "assets.json", "summary.json"
METRICS, WEIGHTS, EXPORTED = "metrics.jsonl", "model.safetensors", "model.onnx"


def workspace_root(start: Path | None = None) -> Path | None:
    """Finds the folder at or above `start` (the current one by default) that holds `uv.lock`."""
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "uv.lock").is_file()), None)


def runs_root() -> Path:
    """Returns `DL_RUNS_DIR`, else `runs` beside `uv.lock`, else `runs` in the current directory.

    Raises:
        UserError: `DL_RUNS_DIR` leads nowhere.
    """
    return folder_named_by("DL_RUNS_DIR") or (workspace_root() or Path.cwd()) / "runs"


def create_run_directory(capstone: str, data: str) -> Path:
    """Creates a new run directory, unique even if several runs start within the same second.

    Raises:
        UserError: the folder cannot be written.
    """
    parent = runs_root() / capstone
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    with explained_disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("", *(f"-{number}" for number in range(2, 1000))):
            try:
                directory = parent / f"{data}-{stamp}{suffix}"
                directory.mkdir()
            except FileExistsError:
                continue
            return directory
    raise UserError(f"{parent} holds a thousand runs of this second; set DL_RUNS_DIR to another folder")


def list_runs(capstone: str) -> list[Path]:
    """Lists the directories of this capstone's runs, oldest first."""
    folder = runs_root() / capstone
    if not folder.is_dir():
        return []
    runs = [run for run in folder.iterdir() if (run / CONFIG).is_file()]
    return sorted(runs, key=lambda run: (run / CONFIG).stat().st_mtime_ns)


def newest_unfinished(capstone: str) -> Path | None:
    """Finds the newest run that has not finished: what `train --resume` continues."""
    runs = [run for run in list_runs(capstone) if not (run / SUMMARY).is_file()]
    return runs[-1] if runs else None
