"""`eval`: a model on the whole test set, with intervals and figures; `--record` keeps the result."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.capstone import Capstone, Predict
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors, write_json
from dlcommon.runtime.output import Output

if TYPE_CHECKING:
    from dlcommon.runtime.run_directory import SavedRun


@dataclass(frozen=True)
class EvalOptions:
    run: Path | None = None
    """Run to evaluate; by default the newest, else the model that the package carries."""
    model: Path | None = None
    """Exported ONNX model to evaluate instead of a run."""
    data: str | None = None
    """Data set; by default the one that the model was trained on."""
    record: bool = False
    """Keep the result in the package's results/, from which RESULTS.md is rendered."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated."""

    predict: Predict
    data_name: str
    folder: Path
    """Where eval.json and the figures go."""
    runs_on: str
    run: "SavedRun[Any] | None"


def main(capstone: Capstone[Any], argv: list[str]) -> int:
    options = parse(EvalOptions, argv, f"{capstone.name} eval", f"{capstone.title}: test-set metrics and figures")
    if options.run and options.model:
        raise UsageError("--run and --model name two models; type one of them")
    output = Output(options.json)
    subject = find_subject(capstone, options.run, options.model)
    if options.record and subject.run is None:
        raise UsageError("--record keeps the result of a run; train one first, or name it with --run")

    from dlcommon.runtime import data

    known = options.data or subject.data_name
    located = data.find(known) if options.data is None else data.resolve(known, capstone.datasets)
    if located is None:
        raise UserError(
            f"this model was trained on {known}, which is not on this machine; type `data fetch {known}`, or name "
            f"another with --data"
        )
    output.first_line(capstone.name, "eval", f"data {located.describe()}", subject.runs_on)
    with explained_disk_errors(subject.folder):
        subject.folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    evaluation = capstone.evaluate(subject.predict, located, subject.folder)
    seconds = time.perf_counter() - started
    result = {
        "capstone": capstone.name,
        "data": located.name,
        "split": "test",
        "n": evaluation.n,
        "metrics": evaluation.metrics,
        "seconds": round(seconds, 2),
        "run": str(subject.folder),
    }
    write_json(subject.folder / "eval.json", {**result, "intervals": evaluation.intervals, **evaluation.tables})
    for name, value in evaluation.metrics.items():
        interval = evaluation.intervals.get(name)
        shown = f"  (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
        output.say(f"{name:28} {value:.4f}{shown}")
    output.say(f"{evaluation.n} samples in {seconds:.1f} s; figures and eval.json: {subject.folder}")
    if options.record:
        from dlcommon.runtime.records import record_evaluation

        assert subject.run is not None
        path = record_evaluation(capstone, subject.run, located, evaluation, seconds)
        output.say(f"record: {path}; render RESULTS.md with `uv run results`")
    output.say(f"next: uv run --package {capstone.name} export      or: … demo")
    output.result(result)
    return 0


def find_subject(capstone: Capstone[Any], run: Path | None, model: Path | None) -> Subject:
    """The run or model named, else the newest run, else the model that the package carries.

    Raises:
        UserError: there is none of them.
    """
    from dlcommon.runtime.run_directory import newest_run, open_run, pretrained_model, runs_root

    saved = None if model else open_run(capstone, run) if run else newest_run(capstone)
    if saved is not None:
        return Subject(capstone.predictor(saved), saved.data_name, saved.directory, "torch cpu", saved)
    path = model or pretrained_model(capstone)
    if path is None:
        raise UserError(f"there is no run of {capstone.name} to evaluate; make one with `{capstone.name} train`")

    from dlcommon.runtime.onnx_model import OnnxModel

    onnx = OnnxModel(path)
    folder = runs_root() / capstone.name / f"eval-{path.stem}"
    return Subject(in_batches(onnx), onnx.data_name, folder, "onnxruntime cpu", None)


def in_batches(model: Predict, size: int = 250) -> Predict:
    """A predictor that hands the model at most `size` samples at once."""

    def predict(arrays: Any) -> Any:
        import numpy as np

        n = len(next(iter(arrays.values())))
        parts = [model({k: v[i : i + size] for k, v in arrays.items()}) for i in range(0, n, size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return predict
