"""Where runs lie: `runs/<capstone>/<data>-<time>/`, and how a finished one is read."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import explained_disk_errors, read_json

if TYPE_CHECKING:
    import torch

    from dlcommon.runtime.capstone import Capstone

Config = TypeVar("Config", bound=RunConfig)

CONFIG, ORIGIN, SUMMARY = "config.json", "origin.json", "summary.json"
METRICS, WEIGHTS, EXPORTED = "metrics.jsonl", "model.safetensors", "model.onnx"


def workspace_root(start: Path | None = None) -> Path | None:
    """The folder at or above `start` (the current one by default) that holds `uv.lock`."""
    start = (start or Path.cwd()).resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "uv.lock").is_file()), None)


def runs_root() -> Path:
    """`DL_RUNS_DIR`, else `runs` beside `uv.lock`, else `runs` in the current directory."""
    if chosen := os.environ.get("DL_RUNS_DIR"):
        return Path(chosen).expanduser().resolve()
    return (workspace_root() or Path.cwd()) / "runs"


def create_run_directory(capstone: str, data: str) -> Path:
    """A new directory of its own, also when several runs start within the same second.

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
    """Directories of this capstone's runs, oldest first."""
    folder = runs_root() / capstone
    if not folder.is_dir():
        return []
    runs = [run for run in folder.iterdir() if (run / CONFIG).is_file()]
    return sorted(runs, key=lambda run: (run / CONFIG).stat().st_mtime_ns)


@dataclass(frozen=True)
class SavedRun(Generic[Config]):
    """A run that ended: its config, its summary and its weights."""

    directory: Path
    config: Config
    data_name: str
    summary: dict[str, Any]

    def weights(self) -> "dict[str, torch.Tensor]":
        """The final weights, by parameter name.

        Raises:
            UserError: the file is missing or damaged.
        """
        from safetensors import SafetensorError

        from dlcommon.runtime.stored_weights import read_weights

        path = self.directory / WEIGHTS
        try:
            return read_weights(path)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; train again, or name another run with --run") from error
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}); train again or name another run") from error


def open_run(capstone: "Capstone[Config]", directory: Path) -> SavedRun[Config]:
    """Reads a finished run.

    Raises:
        UserError: there is no such run, or it has not finished.
    """
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory} is not a run: it holds no {CONFIG}")
    if not (directory / SUMMARY).is_file():
        raise UserError(f"{directory} has not finished; continue it with `{capstone.name} train --resume`")
    summary = read_json(directory / SUMMARY)
    if summary.get("capstone") != capstone.name:
        raise UserError(f"{directory} is a run of {summary.get('capstone')}, not of {capstone.name}")
    return SavedRun(directory, capstone.config.load(directory / CONFIG), summary["data"]["name"], summary)


def newest_run(capstone: "Capstone[Config]") -> SavedRun[Config] | None:
    """The newest finished run, if there is one."""
    for directory in reversed(list_runs(capstone.name)):
        if (directory / SUMMARY).is_file():
            return open_run(capstone, directory)
    return None


def newest_unfinished(capstone: str) -> Path | None:
    """The newest run that has not finished: what `train --resume` continues."""
    runs = [run for run in list_runs(capstone) if not (run / SUMMARY).is_file()]
    return runs[-1] if runs else None


def newest_export(capstone: str) -> Path | None:
    """The `model.onnx` of the newest run that was exported."""
    exported = [run / EXPORTED for run in list_runs(capstone) if (run / EXPORTED).is_file()]
    return max(exported, key=lambda path: path.stat().st_mtime_ns, default=None)


def pretrained_models(capstone: "Capstone[Config]") -> list[Path]:
    """The exported models that the package itself carries: first the one of its own name, the others by name."""
    models = (capstone.folder / "pretrained").glob("*.onnx")
    return sorted(models, key=lambda path: (path.stem != capstone.name, path.stem))


def pretrained_model(capstone: "Capstone[Config]") -> Path | None:
    """The first of them, if there is one."""
    return next(iter(pretrained_models(capstone)), None)
