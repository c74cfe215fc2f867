"""Runs the trials of a study, several at a time."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.tuning import study as studies
from dlcommon.runtime.tuning.trial_process import Outcome, TrialProcess, end
from dlcommon.training.search_space import SearchSpace

MOST_FAILURES = 3
"""So many failures before any trial went well end the search: the fault is not in the settings."""


@dataclass
class Tuner:
    """Asks the study for settings, trains with them, and tells it what came of it.

    Args:
        study: shared with other processes, if they use the same database.
        process: makes the process of a trial in the folder given.
        flags: turns options into the words of the command line.
        folder: where trials that begin here lie.
        trials: of the study in all, finished and running.
        should_stop: whether to end; trials that run are stopped and put back.
        report: is told of each trial that has ended.
        deadline: of `time.monotonic`, after which no trial begins.
    """

    study: optuna.Study
    space: SearchSpace
    process: Callable[[Path], TrialProcess]
    flags: Callable[[Mapping[str, Any]], list[str]]
    folder: Path
    trials: int
    should_stop: Callable[[], bool]
    report: Callable[[FrozenTrial], None]
    deadline: float = math.inf
    _asking: threading.Lock = field(default_factory=threading.Lock)
    _failures: list[str] = field(default_factory=list)
    _broken: threading.Event = field(default_factory=threading.Event)

    def run(self, jobs: int) -> None:
        """Runs trials until the study has enough of them.

        Raises:
            UserError: the first trials all failed.
        """
        with ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(self._work) for _ in range(jobs)]:
                done.result()
        if self._hopeless():
            raise UserError(f"the first {len(self._failures)} trials failed, the last with: {self._failures[-1]}")

    def _stopping(self) -> bool:
        return self.should_stop() or self._broken.is_set()

    def _hopeless(self) -> bool:
        if len(self._failures) < MOST_FAILURES:
            return False
        return not self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def _work(self) -> None:
        try:
            while (trial := self._next()) is not None:
                self._try(trial)
        except BaseException:
            self._broken.set()  # the other threads stop their trials too
            raise

    def _next(self) -> optuna.Trial | None:
        with self._asking:
            if self._stopping() or time.monotonic() > self.deadline or self._hopeless():
                return None
            studies.take_over(self.study)
            if len(self.study.get_trials(deepcopy=False, states=studies.COUNTED)) >= self.trials:
                return None
            return self.study.ask(studies.distributions(self.space))

    def _try(self, trial: optuna.Trial) -> None:
        # A trial that was stopped goes on in its folder, if that is on this machine.
        earlier = Path(trial.user_attrs.get(studies.FOLDER, ""))
        folder = earlier if earlier.name and earlier.is_dir() else self.folder / f"trial-{trial.number:04d}"
        training = self.process(folder)
        try:
            flags = self.flags(studies.options_of(trial.params, self.space))
        except ValueError as error:  # options that do not go together
            self._tell(trial, Outcome("failed", [], str(error)))
            return
        process = training.start(flags)
        studies.mark(trial, folder, process)
        seen = time.monotonic()

        def each(number: int, value: float) -> bool:
            if not math.isfinite(value):
                return True
            trial.report(value, number)
            return trial.should_prune()

        def should_stop() -> bool:
            nonlocal seen
            if time.monotonic() - seen > studies.STALE_SECONDS / 10:
                trial.set_user_attr(studies.SEEN, time.time())
                seen = time.monotonic()
            return self._stopping()

        try:
            outcome = training.follow(process, each, should_stop)
        except BaseException:  # such as a database that is gone
            end(process)
            raise
        self._tell(trial, outcome)

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        if outcome.state == "stopped":
            studies.put_back(self.study, trial)
            return
        if outcome.state == "finished" and math.isfinite(outcome.values[-1]):
            frozen = self.study.tell(trial, outcome.values[-1])
        else:
            if outcome.state == "failed":
                trial.set_user_attr(studies.REASON, outcome.reason)
                self._failures.append(outcome.reason)
            # Not FAIL, which samplers ignore: they shall learn that these settings are bad.
            frozen = self.study.tell(trial, state=TrialState.PRUNED)
        self.report(frozen)
