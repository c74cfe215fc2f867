"""`eval`: a model on the whole test set, with intervals and figures; `--record` keeps the result."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime import data
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors, write_json
from dlcommon.runtime.output import Output, warn
from dlcommon.runtime.records import record_evaluation

if TYPE_CHECKING:
    from dlcommon.runtime.evaluation.subject import Subject


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


def main(capstone: Capstone[Any], argv: list[str]) -> int:
    options = parse(EvalOptions, argv, f"{capstone.name} eval", f"{capstone.title}: test-set metrics and figures")
    if options.run and options.model:
        raise UsageError("--run and --model name two models; type one of them")

    # What computes is imported here, so that `--help` does without it.
    from dlcommon.runtime.evaluation.subject import find_subject

    output = Output(options.json)
    subject = find_subject(capstone, options.run, options.model)
    if options.record and subject.run is None:
        raise UsageError("--record keeps the result of a run; train one first, or name it with --run")

    known = options.data or subject.data_name
    if options.data is not None:
        located: data.LocatedDataSet | None = data.resolve(options.data, capstone.data_sets)
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
        assert subject.run is not None
        path = record_evaluation(capstone, subject.run, located, evaluation, seconds)
        output.say(f"record: {path}; render RESULTS.md with `uv run results`")
    following = "export      or: … demo" if subject.run else "demo"
    output.say(f"next: uv run --package {capstone.name} {following}")
    output.result(result)
    return 0


def _warn_of_other_classes(subject: "Subject", located: data.LocatedDataSet) -> None:
    if located.name == subject.data_name or not subject.labels:
        return
    classes = list(getattr(located.load(), "classes", subject.labels))
    if classes != subject.labels:
        warn(
            f"this model was trained on {subject.data_name} to tell {', '.join(subject.labels)}; {located.name} "
            f"holds other classes ({', '.join(classes)}), so the figures below mean nothing"
        )
