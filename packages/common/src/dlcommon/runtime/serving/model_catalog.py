"""Finds the models that a service can offer side by side."""

from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.locate_model import exported_runs, packaged_models
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.output import warn
from dlcommon.runtime.run_directory import EXPORTED
from dlcommon.runtime.saved_run import SavedRun


def available_models(
    capstone: Capstone[Any], model: OnnxModel, task: Callable[[SavedRun[Any]], Hashable] | None = None
) -> dict[str, OnnxModel]:
    """Returns models by name (`OnnxModel.name`): this one, those beside it, those of other tasks, those of the package.

    Of two models with the same name the first is kept. Skips models of other capstones and, with a warning, damaged
    files.

    Args:
        capstone: whose models.
        model: the one that is served.
        task: says what a run was trained to do, such as its data and languages. Of each task the latest exported run is
            offered; without it, no other runs are.
    """
    runs = newest_of_each(capstone, task) if task is not None else ()
    models = {model.name: model}
    for path in (*sorted(model.path.parent.glob("*.onnx")), *runs, *packaged_models(capstone)):
        if path.resolve() == model.path.resolve():
            continue
        try:
            other = OnnxModel(path, model.threads)
        except UserError as error:
            warn(f"{error}; it is not offered")
            continue
        if other.metadata.get("capstone") == capstone.name:
            models.setdefault(other.name, other)
    return models


def newest_of_each(capstone: Capstone[Any], task: Callable[[SavedRun[Any]], Hashable]) -> Iterator[Path]:
    """Yields the model of the latest exported run of each task, the latest first."""
    seen = set()
    for saved in exported_runs(capstone):
        if (done := task(saved)) not in seen:
            seen.add(done)
            yield saved.directory / EXPORTED
