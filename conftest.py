"""Tests run side by side, one process a core; each then computes on one thread, or they wait for each other."""

import os
from typing import Any

from xdist.scheduler import LoadScopeScheduling

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is imported


class ModulesTogether(LoadScopeScheduling):
    """The tests of a module stay in one process, for the fixtures that they share; lessons share none."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "/test_lessons.py::" in nodeid else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: Any, log: Any) -> LoadScopeScheduling:
    return ModulesTogether(config, log)
