"""What a run began with: the command, the fingerprint of its data, and its options, to which it is held afterwards."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_object, write_json
from dlcommon.runtime.run_directory import CONFIG, ORIGIN


def write_origin(directory: Path, launch: Mapping[str, str], config: RunConfig, data: LocatedDataSet) -> dict[str, Any]:
    """Notes what a new run begins with, and returns it.

    Args:
        launch: preset and command, and what torchrun calls the launch.
    """
    facts = {"name": data.name, "fingerprint": data.fingerprint()}
    origin = {**launch, "data": facts, "options": dataclasses.asdict(config)}
    write_json(directory / ORIGIN, origin)
    return origin


def read_origin(directory: Path) -> dict[str, Any]:
    """Reads what a run began with.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return read_object(directory / ORIGIN)
    except UserError as error:
        raise UserError(
            f"{error}; without it a resumed run does not know the data and the options that it began with. Restore it, "
            f"or start a new run without --resume"
        ) from error


def check_options(directory: Path, recorded: object, config: RunConfig) -> None:
    """Holds a run's config.json against the options that were recorded elsewhere.

    Args:
        recorded: the options as JSON holds them; None where an earlier version recorded none.

    Raises:
        UserError: they differ; the message names those that do.
    """
    if recorded is None:
        return
    began = type(config).from_dict(recorded, origin=str(directory / ORIGIN))
    if changed := config.changes_from(began):
        named = ", ".join(f"{name} is {value}, but was {getattr(began, name)}" for name, value in changed.items())
        raise UserError(
            f"{directory / CONFIG} is not what the run was trained with ({named}); put it back, or train a new run"
        )


def check_data(directory: Path, origin: Mapping[str, Any], data: LocatedDataSet) -> bool:
    """Holds the data of a run against the fingerprint that it recorded at its start.

    Returns:
        Whether it recorded one; earlier versions did not.

    Raises:
        UserError: they are not the same data.
    """
    recorded = origin.get("data")
    if recorded is None:
        return False
    if not isinstance(recorded, dict) or not isinstance(expected := recorded.get("fingerprint"), str):
        raise UserError(f"{directory / ORIGIN} is damaged: it states no fingerprint; restore it, or start a new run")
    if (found := data.fingerprint()) != expected:
        files = data.files()
        place = f" ({files[0] if len(files) == 1 else data.path})" if files else ""
        raise UserError(
            f"the data of this run have changed since it began: {data.name}{place} has the fingerprint {found[:12]}…, "
            f"not {expected[:12]}…. Put the data back as they were and continue {directory}, or start a new run "
            f"without --resume"
        )
    return True
