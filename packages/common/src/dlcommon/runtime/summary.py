"""The end of a training: the model on the test set, `summary.json` and `curves.png`."""

import time
from typing import Any

from dlcommon.runtime import run_directory
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.chance import chance_remark
from dlcommon.runtime.evaluation.figures import save, training_curves
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.origin import check_data
from dlcommon.runtime.output import Output, warn
from dlcommon.runtime.predict import fastest_predictor
from dlcommon.runtime.revision import git_revision
from dlcommon.runtime.run import Run
from dlcommon.runtime.saved_run import SavedRun


def summarize(capstone: Capstone[Any], run: Run[Any], located: LocatedDataSet, output: Output) -> None:
    """Evaluates the finished run on the test set, writes summary.json and curves.png, and says what to type next.

    Raises:
        UserError: the data have changed since the training began.
    """
    check_data(run.directory, run.origin, located)
    summary: dict[str, Any] = {
        "capstone": capstone.name,
        **run.origin,
        "data": {
            "name": located.name,
            "builtin": located.builtin,
            "fingerprint": located.fingerprint(),
            "description": located.describe(),
        },
        "assets": list(run.assets.values()),
        "seed": run.config.seed,
        "training": run.facts,
        "files": run.files,
        "hardware": describe(),
        "git": git_revision(),
    }
    saved = SavedRun(run.directory, run.config, located.name, summary)
    started = time.monotonic()
    evaluation = capstone.evaluate(fastest_predictor(capstone.export_graph(saved), saved), located, None)
    summary["evaluation_seconds"] = round(time.monotonic() - started, 2)
    summary["test"] = {"n": evaluation.n, "metrics": evaluation.metrics, "intervals": evaluation.intervals}
    log = run.directory / run_directory.METRICS
    rows = read_metrics(log) if log.is_file() else []
    if rows:
        save(training_curves(rows), run.directory / "curves.png")
    run.write_summary(summary)

    headline = capstone.headline.name
    low_high = evaluation.intervals.get(headline)
    interval = f" (95 % interval {low_high[0]:.4f} to {low_high[1]:.4f})" if low_high else ""
    minutes = run.facts["minutes"]
    output.say(
        f"test {headline} {evaluation.metrics[headline]:.4f}{interval} on {evaluation.n} samples of {located.name}, "
        f"{minutes:.1f} minutes of training"
    )
    if (remark := chance_remark(evaluation)) is not None:
        warn(remark)
    output.say(f"run: {run.directory}")
    output.say(f"next: uv run --package {capstone.name} eval      or: … export, … demo")
    output.result(
        {
            "capstone": capstone.name,
            "data": located.name,
            "split": "test",
            "n": evaluation.n,
            "metrics": evaluation.metrics,
            "seconds": round(60 * minutes, 2),
            "run": str(run.directory),
        }
    )
