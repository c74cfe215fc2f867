"""Skips tests whose data set or asset is not on this machine, and says how to get it."""

import os

import pytest

from dlcommon.runtime.data import LocatedAsset, LocatedDataSet, find, require_asset
from dlcommon.runtime.errors import DataUnavailableError


def data_set_or_skip(name: str) -> LocatedDataSet:
    """Returns the copy of a real data set in `DL_DATA_DIR`; skips the test where there is none."""
    located = find(name)
    if located is None or located.origin != "DL_DATA_DIR":
        pytest.skip(f"{name} is not in DL_DATA_DIR ({os.environ.get('DL_DATA_DIR') or 'not set'})")
    return located


def asset_or_skip(name: str, form: str | None = None) -> LocatedAsset:
    """Returns an asset that is on this machine, verified; skips the test where it is not, saying how to get it."""
    try:
        return require_asset(name, form)
    except DataUnavailableError as error:
        pytest.skip(str(error))
