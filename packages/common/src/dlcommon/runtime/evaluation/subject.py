"""Finds the model that `eval` evaluates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.batched import in_batches
from dlcommon.runtime.locate_model import newest_run, open_run, packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import ModulePredictor, fastest_predictor
from dlcommon.runtime.run_directory import runs_root
from dlcommon.runtime.saved_run import SavedRun


@dataclass(frozen=True)
class Subject:
    """Holds the model under evaluation, and the run that it came from, if any."""

    predict: Predict
    data_name: str
    folder: Path
    """Where eval.json and the figures go; those of other data into a folder below it."""
    runs_on: str
    labels: list[str]
    """Classes that it was trained to tell apart; empty where it is no classifier."""
    run: SavedRun[Any] | None


def find_subject(capstone: Capstone[Any], run: Path | None, model: Path | None) -> Subject:
    """Finds the run or model named, else the newest run, else the model that the package carries.

    Raises:
        UserError: there is none of them, or the model is another capstone's.
    """
    saved = None if model else open_run(capstone, run) if run else newest_run(capstone)
    if saved is not None:
        predict = fastest_predictor(capstone.export_graph(saved), saved)
        runs_on = str(predict) if isinstance(predict, ModulePredictor) else "cpu"
        labels = list(saved.summary["training"].get("classes", ()))
        return Subject(predict, saved.data_name, saved.directory, runs_on, labels, saved)
    path = model or packaged_model(capstone)
    if path is None:
        raise UserError(f"there is no run of {capstone.name} to evaluate; make one with `{capstone.name} train`")
    onnx = OnnxModel(path)
    if (made_by := onnx.metadata.get("capstone")) != capstone.name:
        raise UserError(f"{path} is a model of {made_by or 'an unknown project'}, not of {capstone.name}")
    folder = runs_root() / capstone.name / f"eval-{path.stem}"
    return Subject(in_batches(onnx), onnx.data_name, folder, onnx.runtime, onnx.labels, None)
