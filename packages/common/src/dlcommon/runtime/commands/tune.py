"""`tune`: searches a capstone's declared space of options for better ones, with Optuna."""

import dataclasses
import math
import os
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dlcommon.runtime import data
from dlcommon.runtime.bounds import Count, Positive, check_bounds
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import is_given, parse_with_config, value_of
from dlcommon.runtime.config import RunConfig, as_flags
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors
from dlcommon.runtime.output import Output
from dlcommon.runtime.run_directory import runs_root
from dlcommon.runtime.tuning.search_space import Tuning

NAME = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class TuneOptions:
    preset: str | None = None
    """Named set of defaults for the options of `train`."""
    trials: Count = 20
    """Trials in all; the same command goes on."""
    jobs: Count = 1
    """Trials that train at the same time."""
    tune_minutes: Positive | None = None
    """Time after which no trial begins."""
    study: str | None = None
    """Name; by default of data and preset."""
    storage: str | None = None
    """Database that machines share; by default a file."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How settings are proposed."""
    pruner: Literal["median", "halving", "none"] = "median"
    """Which trials end early."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Search:
    """Says what one study varies, and how its settings are typed.

    Args:
        tuning: with the space that the command line leaves.
        config: options that every trial starts from.
        defaults: of `train` with this preset.
        kept: options of `tuning.settings` that the command line does not set, which only trials have.
    """

    capstone: Capstone[Any]
    tuning: Tuning
    preset: str | None
    config: RunConfig
    defaults: RunConfig
    kept: Mapping[str, Any]

    def check_space(self) -> None:
        """Checks that each option of the space has a value that goes with the options that all trials share.

        Raises:
            UsageError: one has none, so that every trial would fail.
        """
        for name, span in self.tuning.space.items():
            problems = []
            for value in span.examples():
                chosen: dict[str, Any] = {name: value}
                try:
                    dataclasses.replace(self.config, **chosen)
                except ValueError as error:
                    problems.append(error)
            if len(problems) == len(span.examples()):
                given = " ".join(as_flags({name: getattr(self.config, name)}))
                raise UsageError(f"{problems[0]}; give it ({given}), and it is left out of the search")

    def trial_flags(self, chosen: Mapping[str, Any]) -> list[str]:
        """Writes the flags of a trial.

        Raises:
            ValueError: the options do not go together.
        """
        return self._flags(dataclasses.replace(self.config, **chosen))

    def train_command(self, chosen: Mapping[str, Any]) -> str:
        """Writes the command that trains with the settings of a trial, without what only trials have."""
        usual = {name: getattr(self.defaults, name) for name in self.kept}
        flags = self._flags(dataclasses.replace(self.config, **usual, **chosen))
        return shlex.join([self.capstone.name, "train", *flags])

    def _flags(self, config: RunConfig) -> list[str]:
        preset = ["--preset", self.preset] if self.preset is not None else []
        return preset + as_flags(config.changes_from(self.defaults))

    def usual(self) -> dict[str, Any] | None:
        """Returns the recipe's own settings, if they lie in the space."""
        usual = {name: getattr(self.config, name) for name in self.tuning.space}
        inside = all(span.contains(usual[name]) for name, span in self.tuning.space.items())
        return usual if inside else None

    def problem(self, located: LocatedDataSet) -> dict[str, Any]:
        """Describes what is searched, so that a study goes on only as it began."""
        options = dataclasses.asdict(self.config)
        return {
            "data": f"{located.name} {located.fingerprint()}",
            "metric": f"{self.tuning.metric.direction} {self.tuning.metric.name}",
            "space": {name: str(span) for name, span in self.tuning.space.items()},
            "options": {name: value for name, value in options.items() if name not in self.tuning.space},
        }


def main(capstone: Capstone[Any], argv: list[str]) -> int:
    tuning = capstone.tuning
    defaults = capstone.defaults(value_of(argv, "--preset"))
    varied = (
        f"Searches for better options of {capstone.name} train: {', '.join(tuning.space)}; the best have the "
        f"{'highest' if tuning.metric.direction == 'maximize' else 'lowest'} {tuning.metric.name}. An option that is "
        f"given is the same in every trial."
        if tuning is not None
        else f"{capstone.name} declares no search space."
    )
    options, config = parse_with_config(
        TuneOptions,
        dataclasses.replace(defaults, **(tuning.settings if tuning is not None else {})),
        argv,
        f"{capstone.name} tune",
        varied,
    )
    if tuning is None:
        raise UsageError(f"{capstone.name} declares no search space; give its Capstone a `tuning` (CONTRIBUTING)")
    space = {name: span for name, span in tuning.space.items() if not is_given(argv, name)}
    if not space:
        raise UsageError("every option of the search space is given, so that nothing is left to search")
    kept = {name: value for name, value in tuning.settings.items() if not is_given(argv, name)}
    tuning = dataclasses.replace(tuning, space=space)
    search = Search(capstone, tuning, options.preset, config, defaults, kept)
    search.check_space()
    return _tune(search, options)


def _tune(search: Search, options: TuneOptions) -> int:
    capstone, config, metric = search.capstone, search.config, search.tuning.metric
    output = Output(options.json)
    located = capstone.own_data(config) or data.resolve(config.data, capstone.data_sets)
    name = options.study or f"{located.name}-{options.preset or 'default'}"
    if not NAME.fullmatch(name):
        raise UsageError(f"--study {name}: letters, digits and - only, since a folder is named after it")
    folder = runs_root() / capstone.name / "studies" / name
    with explained_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    url = options.storage or f"sqlite:///{folder / 'study.db'}"

    # Optuna is imported here, so that `--help` and refusals do without it.
    from optuna.trial import FrozenTrial, TrialState

    from dlcommon.runtime.stop_signal import StopSignal
    from dlcommon.runtime.tuning import report
    from dlcommon.runtime.tuning import study as studies
    from dlcommon.runtime.tuning.trial_process import TrialProcess
    from dlcommon.runtime.tuning.tuner import Tuner

    study = studies.open_study(f"{capstone.name}/{name}", url, metric, options.sampler, options.pruner, config.seed)
    problem = search.problem(located)
    studies.check_problem(study, problem)
    if not study.get_trials(deepcopy=False) and (usual := search.usual()) is not None:
        # First the recipe as it is, so that the search cannot end with worse.
        study.enqueue_trial({option: studies.label(value) for option, value in usual.items()})
    done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
    output.first_line(capstone.name, "tune", f"data {located.describe()}", f"{done} of {options.trials} trials", name)

    def say(trial: FrozenTrial) -> None:
        best = report.finished(study)[:1]
        against = f" (best {metric.show(best[0].values[0])}, trial {best[0].number})" if best else ""
        settings = "  ".join(f"{option} {report.show(value)}" for option, value in trial.params.items())
        output.say(f"trial {trial.number}: {report.result_of(trial, metric)}{against}  ·  {settings}")

    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    with StopSignal() as stop:
        tuner = Tuner(
            study=study,
            space=search.tuning.space,
            process=lambda place: TrialProcess(capstone.name, place, metric.name, threads),
            flags=search.trial_flags,
            folder=folder / "trials",
            trials=options.trials,
            should_stop=lambda: stop.received is not None,
            report=say,
            deadline=math.inf if options.tune_minutes is None else time.monotonic() + 60 * options.tune_minutes,
        )
        tuner.run(options.jobs)
    best = report.finished(study)[:1]
    for trial in best:
        command = search.train_command(studies.options_of(trial.params, search.tuning.space))
        path = report.write_report(study, metric, folder, command, str(located.describe()))
        output.say(f"report: {path}\nbest: {command}")
        output.result(
            {"best": trial.number, "value": trial.values[0], "metric": metric.name, "command": command,
             "trials": len(study.get_trials(deepcopy=False)), "report": str(path)}
        )  # fmt: skip
    if stop.received is not None:
        output.say("stopped; the same command continues the study")
        return 128 + stop.received
    if not best:
        raise UserError(f"no trial finished; what they printed lies in {folder / 'trials'}/*/output.txt")
    return 0
