"""What a model that is rebuilt from its training table needs: the table itself, unchanged, and a way to know it again.

A tabular model is quickly fitted again, and nothing that is stored has to be unpickled.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

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


def fingerprint(rows: pd.DataFrame, question: Sequence[Any] = ()) -> str:
    """Returns the sha256 of training rows, and of what is asked of them where that is not in the rows."""
    digest = hashlib.sha256(json.dumps(question).encode() if question else b"")
    digest.update(rows.to_csv(index=False).encode())
    return digest.hexdigest()
