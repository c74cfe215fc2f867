"""What the server counts, for Prometheus; every label takes values from a small fixed set."""

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
    """The instruments of one server."""

    def __init__(self) -> None:
        disable_created_metrics()
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
            "dl_model_seconds", "One run of the model.", buckets=SECONDS, registry=self.registry
        )
        self.queue_length = Gauge("dl_queue_length", "Items that wait for the model.", registry=self.registry)
        self.in_flight = Gauge("dl_items_in_flight", "Items accepted and not yet answered.", registry=self.registry)
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
