"""What an exchange of gradients costs: the α–β model, the all-reduce, and what of it hides behind the backward pass.

The α–β model (Hockney 1994): a message of m bytes takes α + m/B seconds, a latency and the time on the wire.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LinkCost:
    """Describes a connection between two processes."""

    latency: float
    """α, seconds per message."""
    bandwidth: float
    """B, bytes per second in each direction."""

    def message_seconds(self, size: float) -> float:
        """Returns the time of one message of `size` bytes."""
        return self.latency + size / self.bandwidth

    def ring_seconds(self, size: float, world_size: int) -> float:
        """Returns the time of a ring all-reduce of `size` bytes: 2(n − 1) messages of size/n, one after the other."""
        return 2 * (world_size - 1) * self.message_seconds(size / world_size)

    def star_seconds(self, size: float, world_size: int) -> float:
        """Returns the time of sending all to one process, which adds up, and back: 2(n − 1) whole messages."""
        return 2 * (world_size - 1) * self.message_seconds(size)


def fit_link_cost(sizes: Sequence[float], seconds: Sequence[float], world_size: int) -> LinkCost:
    """Fits latency and bandwidth to times of ring all-reduces of `sizes` bytes, by least relative squares.

    Relative, since the times span orders of magnitude, and the latency shows in the small ones only.
    """
    size, time = np.asarray(sizes, dtype=float), np.asarray(seconds, dtype=float)
    messages = 2 * (world_size - 1)
    columns = np.stack([np.full_like(size, messages), messages * size / world_size], axis=1)  # of α and of 1/B
    (latency, per_byte), *_ = np.linalg.lstsq(columns / time[:, None], np.ones_like(time), rcond=None)
    return LinkCost(float(latency), float(1 / per_byte))


def make_buckets(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Groups parameters into buckets that are exchanged in one message each.

    The last parameter comes first, since backward reaches it first. A bucket is closed when it holds `limit` bytes or
    more.

    Args:
        sizes: bytes of each parameter's gradient, in the order of the forward pass.

    Returns:
        The positions of the parameters in each bucket.
    """
    buckets: list[list[int]] = [[]]
    held = 0
    for position in reversed(range(len(sizes))):
        if held >= limit:
            buckets.append([])
            held = 0
        buckets[-1].append(position)
        held += sizes[position]
    return buckets


def overlapped_seconds(ready: Sequence[float], durations: Sequence[float]) -> float:
    """Returns when the last exchange ends.

    Exchanges go one after the other, each as soon as its gradients are ready.

    Args:
        ready: when the backward pass has computed each bucket, in seconds, ascending.
        durations: seconds that each bucket's exchange takes.
    """
    end = 0.0
    for begins, takes in zip(ready, durations, strict=True):
        end = max(end, begins) + takes
    return end


def scaling_efficiency(seconds_of_one: float, seconds_of_many: float, world_size: int) -> float:
    """Returns the speedup per process: T₁ / (n·Tₙ), the same work in both; 1 is perfect."""
    return seconds_of_one / (world_size * seconds_of_many)
