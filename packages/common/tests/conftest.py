"""Fixtures of several modules."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dlcommon.runtime.capstone import Capstone
    from dlcommon.testing.toy_colours.config import Config


@pytest.fixture
def fresh_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of runs of the test's own; accelerate's process-wide state as in a new process."""
    from dlcommon.testing.toy_training import reset_accelerate

    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    yield
    reset_accelerate()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of downloads of the test's own, no `DL_DATA_DIR`, no proxy on the way to a local server."""
    for variable in ("DL_DATA_DIR", "HF_HUB_OFFLINE", "DL_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Capstone[Config]":
    """A capstone with two data sets, whose runs and package are in the test's own folder."""
    from dlcommon.runtime.capstone import Capstone
    from dlcommon.runtime.data import DATA_SETS
    from dlcommon.testing.toy_colours.capstone import TOY
    from dlcommon.testing.toy_colours.config import CLASSES
    from dlcommon.testing.toy_colours.runs import data_set

    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setitem(DATA_SETS, "colours", data_set("colours", CLASSES))
    monkeypatch.setitem(DATA_SETS, "shades", data_set("shades", ("dark", "light", "grey")))
    monkeypatch.setattr(Capstone, "folder", tmp_path / "package")
    return TOY
