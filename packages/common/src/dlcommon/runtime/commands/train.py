"""`train`: prepares data, trains, evaluates on the test set, says where all is and what to type next."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import parse_with_config, value_of, with_preset
from dlcommon.runtime.config import RunConfig, TrainConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import read_json
from dlcommon.runtime.output import Output

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet


@dataclass(frozen=True)
class TrainOptions:
    preset: str | None = None
    """Named set of defaults for the flags below."""
    resume: bool = False
    """Continue the newest unfinished run, with the options it was started with."""
    run: Path | None = None
    """The run directory that --resume continues."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


def main(capstone: Capstone[Any], argv: list[str]) -> int:
    preset = value_of(argv, "--preset")
    defaults = with_preset(capstone.config, capstone.presets, preset)
    presets = f" Presets: {', '.join(capstone.presets)}." if capstone.presets else ""
    options, config = parse_with_config(
        TrainOptions,
        defaults,
        argv,
        f"{capstone.name} train",
        f"{capstone.title}. {capstone.summary.en}{presets}",
    )
    if options.run and not options.resume:
        raise UsageError("--run names the run that --resume continues; type both, or neither")
    return _train(capstone, options, config, argv)


def _train(capstone: Capstone[Any], options: TrainOptions, config: RunConfig, argv: list[str]) -> int:
    from dlcommon.runtime import data

    output = Output(options.json)
    directory = _unfinished(capstone, options.run) if options.resume else None
    if directory is not None:
        from dlcommon.runtime.run_directory import CONFIG

        config = capstone.config.load(directory / CONFIG)
    located = capstone.own_data(config) or data.resolve(config.data, capstone.datasets)

    from dlcommon.runtime.run import Interrupted, Run

    kind: type[Run[Any]] = Run
    if isinstance(config, TrainConfig):
        from dlcommon.runtime.training_run import TrainingRun

        kind = TrainingRun
    origin = {"preset": options.preset or "default", "command": shlex.join([capstone.name, "train", *argv])}
    run = kind.start(capstone.name, config, located, directory, output, origin)
    facts = [f"data {located.describe()}", run.runs_on]
    if run.is_main:
        output.first_line(capstone.name, "train", *facts, str(run.directory))
    try:
        with run:
            capstone.train(run)
    except Interrupted as stop:
        output.say(f"stopped; continue with `{capstone.name} train --resume`")
        return stop.exit_code
    except UserError:
        if directory is None and run.is_main:
            run.discard_if_empty()
        raise
    if run.is_main:
        _summarize(capstone, run, located, output)
    return 0


def _unfinished(capstone: Capstone[Any], named: Path | None) -> Path:
    from dlcommon.runtime.run_directory import CONFIG, SUMMARY, newest_unfinished

    directory = named or newest_unfinished(capstone.name)
    if directory is None:
        raise UserError(f"there is no unfinished run to resume; start one with `{capstone.name} train`")
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory} is not a run: it holds no {CONFIG}")
    if (directory / SUMMARY).is_file():
        raise UserError(f"{directory} has finished; look at it with `{capstone.name} eval --run {directory}`")
    return directory.resolve()


def _summarize(
    capstone: Capstone[Any],
    run: Any,
    located: "LocatedDataSet",
    output: Output,
) -> None:
    """Evaluates the finished run on the test set and writes summary.json and curves.png."""
    import time

    from dlcommon.runtime import run_directory
    from dlcommon.runtime.evaluation.figures import save, training_curves
    from dlcommon.runtime.hardware import describe
    from dlcommon.runtime.metrics_log import read_metrics
    from dlcommon.runtime.revision import git_revision

    summary: dict[str, Any] = {
        "capstone": capstone.name,
        **read_json(run.directory / run_directory.ORIGIN),
        "data": {
            "name": located.name,
            "builtin": located.builtin,
            "fingerprint": located.fingerprint(),
            "description": located.describe(),
        },
        "seed": run.config.seed,
        "training": run.facts,
        "files": run.files,
        "hardware": describe(),
        "git": git_revision(),
    }
    saved = run_directory.SavedRun(run.directory, run.config, located.name, summary)
    started = time.monotonic()
    evaluation = capstone.evaluate(capstone.predictor(saved), located, None)
    summary["evaluation_seconds"] = round(time.monotonic() - started, 2)
    summary["test"] = {"n": evaluation.n, "metrics": evaluation.metrics, "intervals": evaluation.intervals}
    log = run.directory / run_directory.METRICS
    rows = read_metrics(log) if log.is_file() else []
    if rows:
        save(training_curves(rows), run.directory / "curves.png")
    run.write_summary(summary)

    headline = evaluation.metrics[capstone.headline]
    low_high = evaluation.intervals.get(capstone.headline)
    interval = f" (95 % interval {low_high[0]:.4f} to {low_high[1]:.4f})" if low_high else ""
    minutes = run.facts["minutes"]
    output.say(
        f"test {capstone.headline} {headline:.4f}{interval} on {evaluation.n} samples of {located.name}, "
        f"{minutes:.1f} minutes of training"
    )
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
