"""The wall time of a run, over all the sittings of a resumed one."""

import time


class RunClock:
    """Counts the seconds since its creation, plus those that a resumed run had taken before."""

    def __init__(self) -> None:
        self._before = 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of work so far."""
        return self._before + time.monotonic() - self._started

    def continue_from(self, seconds: float) -> None:
        """Continues from `seconds`, the reading that an interrupted run stored."""
        self._before, self._started = seconds, time.monotonic()
