"""The bound on accepted work."""

from collections.abc import Iterator
from contextlib import contextmanager

from dlcommon.runtime.serving.errors import overloaded
from dlcommon.runtime.serving.metrics import Metrics


class Admission:
    """Counts items from acceptance to answer, and refuses more than its capacity; used from one event loop."""

    def __init__(self, capacity: int, metrics: Metrics) -> None:
        self._capacity = capacity
        self._metrics = metrics
        self._admitted = 0

    @property
    def is_full(self) -> bool:
        return self._admitted >= self._capacity

    @contextmanager
    def admit(self, items: int) -> Iterator[None]:
        """Holds places for the items of one request until it is answered or abandoned.

        Raises:
            RequestError: 503, there are not that many places.
        """
        if self._admitted + items > self._capacity:
            raise overloaded()
        self._count(items)
        try:
            yield
        finally:
            self._count(-items)

    def _count(self, items: int) -> None:
        self._admitted += items
        self._metrics.in_flight.set(self._admitted)
