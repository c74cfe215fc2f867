"""Which model a command works on: a run that is named, the newest run, or one that the package carries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlcommon.runtime.capstone import Capstone, Config
from dlcommon.runtime.data.locate_asset import find_asset, how_to_get
from dlcommon.runtime.data.registry import ASSETS
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, read_object
from dlcommon.runtime.origin import check_options
from dlcommon.runtime.output import warn
from dlcommon.runtime.run_directory import CONFIG, EXPORTED, SUMMARY, list_runs
from dlcommon.runtime.saved_run import SavedRun


def open_run(capstone: Capstone[Config], directory: Path) -> SavedRun[Config]:
    """Reads a finished run.

    Raises:
        UserError: there is no such run, it has not finished, or its files were damaged or edited.
    """
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory} is not a run: it holds no {CONFIG}")
    if not (directory / SUMMARY).is_file():
        raise UserError(f"{directory} has not finished; continue it with `{capstone.name} train --resume`")
    summary = read_object(directory / SUMMARY)
    facts, training = summary.get("data"), summary.get("training")
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str) or not isinstance(training, dict):
        raise UserError(f"{directory / SUMMARY} is damaged: it does not say what was trained on what; train again")
    if summary.get("capstone") != capstone.name:
        raise UserError(f"{directory} is a run of {summary.get('capstone')}, not of {capstone.name}")
    config = capstone.config.load(directory / CONFIG)
    check_options(directory, summary.get("options"), config)
    return SavedRun(directory, config, facts["name"], summary)


def newest_run(capstone: Capstone[Config]) -> SavedRun[Config] | None:
    """Reads the newest finished run, if there is one."""
    for directory in reversed(list_runs(capstone.name)):
        if (directory / SUMMARY).is_file():
            return open_run(capstone, directory)
    return None


def exports(capstone: str) -> list[Path]:
    """Lists the `model.onnx` of the runs that were exported, the latest first."""
    paths = [run / EXPORTED for run in list_runs(capstone) if (run / EXPORTED).is_file()]
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def exported_runs(capstone: Capstone[Config]) -> Iterator[SavedRun[Config]]:
    """Reads the finished runs that were exported, the latest export first; warns of those that cannot be read."""
    for path in exports(capstone.name):
        try:
            yield open_run(capstone, path.parent)
        except UserError as error:
            warn(f"{error}; it is passed over")


def newest_export(capstone: str) -> Path | None:
    """Finds the latest `model.onnx` of a run."""
    return next(iter(exports(capstone)), None)


def packaged_models(capstone: Capstone[Any]) -> list[Path]:
    """Lists the exported models that the package itself carries: first the one of its own name, the others by name."""
    models = (capstone.folder / "pretrained").glob("*.onnx")
    return sorted(models, key=lambda path: (path.stem != capstone.name, path.stem))


def packaged_model(capstone: Capstone[Any]) -> Path | None:
    """Finds the first of the models that the package carries, if there is one.

    A model whose pretrained base is not on this machine is passed over, with a warning, where another needs none.
    """
    models = packaged_models(capstone)
    for path in models:
        if not (missing := missing_assets(capstone, path)):
            return path
        if path != models[-1]:
            ways = "; ".join(how_to_get(ASSETS.find(name)) for name in missing)
            warn(f"{path.name} needs {', '.join(missing)}, which is not on this machine; {ways}. Taking another model")
    return models[0] if models else None


def missing_assets(capstone: Capstone[Any], model: Path) -> list[str]:
    """Lists the assets that a packaged model needs, as its export's record says, and that are not on this machine."""
    record = model.with_name("export.json" if model.stem == capstone.name else f"{model.stem}.json")
    required = read_json(record).get("requires", []) if record.is_file() else []
    return [asset["name"] for asset in required if find_asset(asset["name"], asset["form"]) is None]


def find_model(capstone: Capstone[Any], model: Path | None, run: Path | None = None) -> Path:
    """Returns the model that is named, or that of the run, else the newest export, else what the package carries.

    Raises:
        UserError: there is none of them, or the run was not exported.
    """
    if run is not None:
        open_run(capstone, run)
        if not (run / EXPORTED).is_file():
            raise UserError(f"{run} has not been exported; type `{capstone.name} export --run {run}`")
        return run / EXPORTED
    path = model or newest_export(capstone.name) or packaged_model(capstone)
    if path is None:
        raise UserError(
            f"{capstone.name} has no exported model yet; make one with `{capstone.name} train` and "
            f"`{capstone.name} export`, or name one with --model"
        )
    return path
