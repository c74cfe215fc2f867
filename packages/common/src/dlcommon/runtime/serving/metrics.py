"""What the server counts, for Prometheus; every label takes values from a small fixed set."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Holds one server's Prometheus metrics."""

    def __init__(self) -> None:
        without_creation_times: Callable[[], None] = disable_created_metrics  # the library gives no types
        without_creation_times()
        self.registry = CollectorRegistry()
        self.requests = Counter("dl_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "dl_request_seconds",
            "From the first byte of a request to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.items = Counter("dl_items", "Items by outcome.", ("outcome",), registry=self.registry)
        self.batch_size = Histogram(
            "dl_batch_size",
            "Items that the model was given at once.",
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "dl_model_seconds",
            "One run of the model: a batch, or one step of a generation.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queue_length = Gauge("dl_queue_length", "Items that wait for the model.", registry=self.registry)
        self.in_flight = Gauge("dl_items_in_flight", "Items accepted and not yet answered.", registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._running: dict[object, float] = {}

    @contextmanager
    def model_call(self) -> Iterator[None]:
        """Times one run of the model, on whichever thread it runs."""
        started = time.perf_counter()
        with self.piece_of_work():
            try:
                yield
            finally:
                self.model_seconds.observe(time.perf_counter() - started)

    @contextmanager
    def piece_of_work(self) -> Iterator[None]:
        """Notes what a thread does that cannot be interrupted: a run of the model, or the reading of one item."""
        work = object()
        self._running[work] = time.perf_counter()
        try:
            yield
        finally:
            del self._running[work]

    def longest_work(self) -> float:
        """Returns for how many seconds the oldest piece of work has been going on; 0 where none is."""
        # Copied in one step, since the threads add and delete meanwhile.
        started = list(self._running.values())
        return time.perf_counter() - min(started) if started else 0.0

    def text(self) -> bytes:
        """Returns all values in Prometheus' text format."""
        return generate_latest(self.registry)
