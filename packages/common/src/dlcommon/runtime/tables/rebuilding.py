"""Rebuilding a tabular model from its training table.

A tabular model is quickly fitted again, and nothing that is stored has to be unpickled.
"""

from typing import Any

from dlcommon.runtime import data
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.saved_run import SavedRun


def training_data(saved: SavedRun[Any], own: data.LocatedDataSet | None = None) -> data.LocatedDataSet:
    """Finds the data set that a run was trained on.

    Args:
        own: the user's own files, where the run was trained on such.

    Raises:
        UserError: it is not on this machine, or has changed.
    """
    located = own or data.find(saved.data_name)
    if located is None:
        raise UserError(f"{saved.data_name}, from which the run's model is rebuilt, is not on this machine")
    if located.fingerprint() != saved.summary["data"]["fingerprint"]:
        raise UserError(f"{located.name} has changed since {saved.directory} was trained; train again")
    return located
