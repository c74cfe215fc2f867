"""Fixtures of several modules."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def fresh_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder of runs of the test's own; accelerate's process-wide state as in a new process."""
    from dlcommon.testing.toy_training import reset_accelerate

    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    yield
    reset_accelerate()
