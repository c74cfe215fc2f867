"""Records of real runs, in `packages/<capstone>/results/`: what `eval --record` writes and RESULTS.md is made of."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.config import RunConfig, as_flags
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.files import read_json, write_json
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.metrics_log import read_metrics
from dlcommon.runtime.run_directory import METRICS
from dlcommon.runtime.saved_run import SavedRun

NOT_THE_RECIPE = {"seed", "data", "device", "checkpoint_minutes", "trackers"}
"""Options that a run may change and still be a run of its preset; the record holds what they were."""


class Facts(BaseModel):
    """Validates a part of a record: fields without a default are required, unknown ones are kept. A base class."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class DataRecord(Facts):
    name: str
    builtin: bool
    fingerprint: str
    description: str
    """With what is special about the copy, such as its encoding."""


class AssetRecord(Facts):
    """Describes an asset, with the fields that `LocatedAsset.record` returns."""

    name: str
    form: str
    fingerprint: str
    description: str


class Training(Facts):
    minutes: float
    cpu_minutes: float | None = None
    """CPU time of all threads, where one process trained on the CPU alone."""
    device: str
    """cpu, or a torch device such as cuda:0."""
    processes: int = 1
    """Each on a device of its own."""
    flops: float | None = None


class Hardware(Facts):
    processor: str
    instructions: str = ""
    """The widest vectors that torch computes with, since processors of one name differ in them."""
    cores: int
    gpus: list[str]
    versions: dict[str, str]


class Git(Facts):
    commit: str
    changed: bool
    """Whether tracked files differed from the commit."""


class Milestone(Facts):
    """Describes the first evaluation that reached a threshold."""

    metric: Metric
    threshold: float
    epoch: float
    seconds: float
    flops: float | None = None


class Record(BaseModel):
    """Describes one evaluation of one run."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    version: Literal[2] = Field(alias="schema")
    capstone: str
    preset: str
    """Its name, and the options that the run changed of it."""
    seed: int
    headline: Metric
    n: int = Field(gt=0)
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """95 % confidence intervals of some of the metrics."""
    evaluation_seconds: float
    data: DataRecord
    assets: list[AssetRecord] = []
    """Pretrained assets that the training started from."""
    training: Training
    milestones: list[Milestone]
    tables: dict[str, list[dict[str, str | int | float]]] = {}
    """What else its capstone shows of it: title to rows of column to value."""
    hardware: Hardware
    git: Git | None
    command: str
    run: str

    @model_validator(mode="after")
    def _has_its_headline(self) -> "Record":
        if self.headline.name not in self.metrics:
            raise ValueError(f"the headline metric {self.headline.name!r} is not among the metrics")
        return self


def record_evaluation(
    capstone: Capstone[Any],
    saved: SavedRun[Any],
    located: LocatedDataSet,
    evaluation: Evaluation,
    seconds: float,
) -> Path:
    """Writes `results/<preset>-<data>-seed<seed>.json`, with the kind of device if it is no CPU; returns its path.

    Raises:
        UserError: the data is not what the run was trained on.
    """
    summary = saved.summary
    if located.fingerprint() != summary["data"]["fingerprint"]:
        raise UserError(f"{located.name} is not the data that {saved.directory} was trained on: nothing is recorded")
    preset = recipe(capstone, saved.config, summary["preset"])
    record = {
        "schema": 2,
        "capstone": capstone.name,
        "preset": preset,
        "seed": summary["seed"],
        "headline": dataclasses.asdict(capstone.headline),
        "n": evaluation.n,
        "metrics": evaluation.metrics,
        "intervals": evaluation.intervals,
        "evaluation_seconds": round(seconds, 2),
        "data": summary["data"],
        "assets": summary.get("assets", []),
        "training": summary["training"],
        "milestones": milestones(capstone, saved),
        "tables": evaluation.shown,
        "hardware": summary["hardware"],
        "git": summary["git"],
        "command": summary["command"],
        "run": saved.directory.name,
    }
    device = validated(record, saved.directory).training.device.partition(":")[0]
    parts = [preset, located.name, f"seed{summary['seed']}", *([] if device == "cpu" else [device])]
    name = re.sub(r"[^\w.]+", "-", "-".join(parts))
    path = capstone.folder / "results" / f"{name}.json"
    write_json(path, record)
    return path


def recipe(capstone: Capstone[Any], config: RunConfig, preset: str) -> str:
    """Names a run's preset and what the run changed of it, so that an experiment is never averaged with the preset."""
    plain = capstone.defaults(None if preset == "default" else preset)
    changed = {name: value for name, value in config.changes_from(plain).items() if name not in NOT_THE_RECIPE}
    return " ".join([preset, *as_flags(changed)])


def milestones(capstone: Capstone[Any], saved: SavedRun[Any]) -> list[dict[str, Any]]:
    """Finds the first evaluation that reached each of the capstone's thresholds."""
    log = saved.directory / METRICS
    rows = read_metrics(log) if log.is_file() else []
    reached = []
    for metric, values in capstone.thresholds.items():
        for value in values:
            logged = (row for row in rows if metric.name in row)
            first = next((row for row in logged if metric.reaches(row[metric.name], value)), None)
            if first is not None:
                reached.append({"metric": dataclasses.asdict(metric), "threshold": value, **first})
    return reached


def read_record(path: Path) -> Record:
    """Reads a record.

    Raises:
        UserError: it is damaged, or a field is missing or of the wrong kind; the message names file and field.
    """
    return validated(read_json(path), path)


def validated(content: Any, origin: Path) -> Record:
    """Checks the content of a record.

    Raises:
        UserError: a field is missing or of the wrong kind; the message names the origin and the field.
    """
    try:
        return Record.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = f"field {field!r}: {first['msg']}" if field else first["msg"]
        raise UserError(f"{origin}: {problem}; record the run again") from error
