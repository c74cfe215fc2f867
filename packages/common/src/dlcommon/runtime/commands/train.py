"""`train`: prepares data, trains, evaluates on the test set, and says where the run is and what to type next."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcommon.runtime import data
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import is_given, parse_with_config, value_of
from dlcommon.runtime.config import RunConfig, TrainConfig, as_flags
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.origin import read_origin
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import CONFIG, SUMMARY, newest_unfinished


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
    defaults = capstone.defaults(value_of(argv, "--preset"))
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
    output = Output(options.json)
    directory = _unfinished(capstone, options.run) if options.resume else None
    if directory is not None:
        began_with = capstone.config.load(directory / CONFIG)
        _refuse_other_options(options, config, began_with, argv, directory)
        config = began_with
    located = capstone.own_data(config) or data.resolve(config.data, capstone.data_sets)

    # What computes is imported here, so that `--help` and refusals do without it.
    from dlcommon.runtime.run import Interrupted, Run
    from dlcommon.runtime.summary import summarize

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
        try:
            with run:
                capstone.train(run)
        except UserError:
            if directory is None and run.is_main:
                run.discard_if_empty()
            raise
        if run.is_main:
            summarize(capstone, run, located, output)
    except Interrupted as stop:
        output.say(f"stopped; continue with `{capstone.name} train --resume`")
        return stop.exit_code
    finally:
        run.lock.release()
    return 0


def _refuse_other_options(
    options: TrainOptions, given: RunConfig, began_with: RunConfig, argv: list[str], directory: Path
) -> None:
    """Refuses flags that would change what a resumed run began with.

    Not even a budget may change: learning rates and stages are functions of the share of it that is used, so that steps
    done under another budget would belong to no schedule, and the result to no command.

    Raises:
        UsageError: there are some; the message names them.
    """
    preset = read_origin(directory).get("preset", "default")
    other = [f"--preset {options.preset} (the run has {preset})"] if options.preset not in (None, preset) else []
    for name, value in given.changes_from(began_with).items():
        if is_given(argv, name):
            kept = " ".join(as_flags({name: getattr(began_with, name)}))
            other.append(f"{' '.join(as_flags({name: value}))} (the run has {kept})")
    if other:
        raise UsageError(
            f"a resumed run keeps the options that it began with, on which its schedule and the order of its data "
            f"depend, so it cannot take {', '.join(other)}. Leave that out to finish {directory}, or leave --resume "
            f"out to start a new run"
        )


def _unfinished(capstone: Capstone[Any], named: Path | None) -> Path:
    directory = named or newest_unfinished(capstone.name)
    if directory is None:
        raise UserError(f"there is no unfinished run to resume; start one with `{capstone.name} train`")
    if not (directory / CONFIG).is_file():
        raise UserError(f"{directory} is not a run: it holds no {CONFIG}")
    if (directory / SUMMARY).is_file():
        raise UserError(f"{directory} has finished; look at it with `{capstone.name} eval --run {directory}`")
    return directory.resolve()
