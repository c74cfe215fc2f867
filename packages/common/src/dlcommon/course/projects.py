"""Finds the plan's projects among the installed capstones, and what the learner has trained of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlcommon.course.plan import PHASES, Phase
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.dispatch import installed
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.output import warn
from dlcommon.runtime.records import read_record
from dlcommon.runtime.run_directory import SUMMARY, list_runs

State = Literal["to come", "not trained", "other data", "below goal", "trained"]


@dataclass(frozen=True)
class Result:
    """Holds a metric on the test set, and the run or record that it was read from."""

    value: float
    source: Path


@dataclass(frozen=True)
class Project:
    """Describes the project of a phase and how far the learner has come with it."""

    phase: Phase
    capstone: str | None = None
    """None where it does not exist yet."""
    data: str | None = None
    """The capstone's default data set; only runs on it count, since sample data shows nothing."""
    metric: str | None = None
    goal: float | None = None
    """What the plan demands of the metric."""
    best: Result | None = None
    """Of the learner's own finished runs."""
    recorded: Result | None = None
    """Of the results that the repository holds: a mark to reach, which counts for nobody."""
    state: State = "to come"

    @property
    def done(self) -> bool:
        return self.state == "trained"


def projects() -> dict[int, Project]:
    """Returns the plan's projects by phase, with the best of the learner's runs and of the repository's records.

    A run or record that cannot be read is skipped with a warning.
    """
    loaded: list[Capstone[Any]] = [point.load() for point in installed().values()]
    capstones = {capstone.phase: capstone for capstone in loaded}
    return {
        phase.number: _of_capstone(phase, capstones[phase.number]) if phase.number in capstones else Project(phase)
        for phase in PHASES
        if phase.project is not None
    }


def _of_capstone(phase: Phase, capstone: Capstone[Any]) -> Project:
    name, goal = phase.goal or (capstone.headline.name, None)
    metric = capstone.headline if name == capstone.headline.name else Metric(name)
    data, runs = capstone.data_sets[0], list_runs(capstone.name)
    trained = [result for run in runs if (result := _read(run / SUMMARY, data, name)) is not None]
    records = sorted((capstone.folder / "results").glob("*.json"))
    recorded = [result for path in records if (result := _read_record(path, data, name)) is not None]
    best = _best(trained, metric)
    state: State = "not trained"
    if best is not None:
        state = "trained" if goal is None or metric.reaches(best.value, goal) else "below goal"
    elif any((run / SUMMARY).is_file() for run in runs):
        state = "other data"
    return Project(phase, capstone.name, data, name, goal, best, _best(recorded, metric), state)


def _best(results: Sequence[Result], metric: Metric) -> Result | None:
    choose = min if metric.direction == "minimize" else max
    return choose(results, key=lambda result: result.value) if results else None


def _read(path: Path, data: str, metric: str) -> Result | None:
    """Reads the metric from a finished run's summary.

    Returns None if the run used other data, has not finished, or cannot be read (with a warning).
    """
    if not path.is_file():
        return None
    try:
        summary = read_json(path)
        if summary["data"]["name"] != data:
            return None
        return Result(float(summary["test"]["metrics"][metric]), path.parent)
    except UserError as error:
        warn(str(error))
    except (KeyError, TypeError, ValueError):
        warn(f"{path} is damaged: it states no {metric} on {data}; train again")
    return None


def _read_record(path: Path, data: str, metric: str) -> Result | None:
    try:
        record = read_record(path)
    except UserError as error:
        warn(str(error))
        return None
    return Result(record.metrics[metric], path) if record.data.name == data and metric in record.metrics else None
