"""`eval`: a model on the whole test set, with intervals and figures; `--record` keeps the result."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.capstone import Capstone, Predict
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors, write_json
from dlcommon.runtime.output import Output, warn

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet
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
    """Where eval.json and the figures go; those of other data into a folder below it."""
    runs_on: str
    labels: list[str]
    """Classes that it was trained to tell apart; empty where it is no classifier."""
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
    if options.data is not None:
        located: LocatedDataSet | None = data.resolve(options.data, capstone.datasets)
    else:
        located = (capstone.own_data(subject.run.config) if subject.run else None) or data.find(known)
    if located is None:
        raise UserError(
            f"this model was trained on {known}, which is not on this machine; type `data fetch {known}`, or name "
            f"another with --data"
        )
    output.first_line(capstone.name, "eval", f"data {located.describe()}", subject.runs_on)
    _warn_of_other_classes(subject, located)
    folder = subject.folder if located.name == subject.data_name else subject.folder / f"eval-{located.name}"
    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    evaluation = capstone.evaluate(subject.predict, located, folder)
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
    facts = {"trained_on": subject.data_name, "intervals": evaluation.intervals}
    write_json(folder / "eval.json", {**result, **facts, **evaluation.tables, **evaluation.shown})
    for name, value in evaluation.metrics.items():
        interval = evaluation.intervals.get(name)
        shown = f"  (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
        output.say(f"{name:28} {value:.4f}{shown}")
    output.say(f"{evaluation.n} samples in {seconds:.1f} s; figures and eval.json: {folder}")
    if options.record:
        from dlcommon.runtime.records import record_evaluation

        assert subject.run is not None
        path = record_evaluation(capstone, subject.run, located, evaluation, seconds)
        output.say(f"record: {path}; render RESULTS.md with `uv run results`")
    following = "export      or: … demo" if subject.run else "demo"
    output.say(f"next: uv run --package {capstone.name} {following}")
    output.result(result)
    return 0


def _warn_of_other_classes(subject: Subject, located: "LocatedDataSet") -> None:
    if located.name == subject.data_name or not subject.labels:
        return
    classes = list(getattr(located.load(), "classes", subject.labels))
    if classes != subject.labels:
        warn(
            f"this model was trained on {subject.data_name} to tell {', '.join(subject.labels)}; {located.name} "
            f"holds other classes ({', '.join(classes)}), so the figures below mean nothing"
        )


def find_subject(capstone: Capstone[Any], run: Path | None, model: Path | None) -> Subject:
    """The run or model named, else the newest run, else the model that the package carries.

    Raises:
        UserError: there is none of them, or the model is another capstone's.
    """
    from dlcommon.runtime.run_directory import newest_run, open_run, pretrained_model, runs_root

    saved = None if model else open_run(capstone, run) if run else newest_run(capstone)
    if saved is not None:
        predict = capstone.predictor(saved)
        labels = list(saved.summary["training"].get("classes", ()))
        return Subject(predict, saved.data_name, saved.directory, _runs_on(predict), labels, saved)
    path = model or pretrained_model(capstone)
    if path is None:
        raise UserError(f"there is no run of {capstone.name} to evaluate; make one with `{capstone.name} train`")

    from dlcommon.runtime.evaluation.batched import in_batches
    from dlcommon.runtime.onnx_model import OnnxModel

    onnx = OnnxModel(path)
    if (made_by := onnx.metadata.get("capstone")) != capstone.name:
        raise UserError(f"{path} is a model of {made_by or 'an unknown project'}, not of {capstone.name}")
    folder = runs_root() / capstone.name / f"eval-{path.stem}"
    return Subject(in_batches(onnx), onnx.data_name, folder, onnx.runtime, onnx.labels, None)


def _runs_on(predict: Predict) -> str:
    from dlcommon.runtime.predict import ModulePredictor

    if isinstance(predict, ModulePredictor):
        return f"torch {predict.device} {'bf16' if predict.bf16 else 'fp32'}"
    return "cpu"
