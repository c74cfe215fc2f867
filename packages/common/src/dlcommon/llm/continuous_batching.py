"""Counts the steps of static and of continuous batching (Yu et al. 2022, Orca: iteration-level scheduling).

https://www.usenix.org/conference/osdi22/presentation/yu. A step is one call of the model; it writes one token for each
sequence in the batch, and takes about as long for one as for many.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """States when a request arrives and how many tokens are to be written."""

    arrival: int
    """The step before which it is there."""
    num_tokens: int
    """At least 1."""


@dataclass(frozen=True)
class Schedule:
    """States what a server has done."""

    finished: tuple[int, ...]
    """The step after which each request is answered, in the order of the requests."""
    busy_steps: int
    """Steps with at least one sequence in the batch."""
    tokens: int
    slots: int

    @property
    def utilization(self) -> float:
        """Returns the share of the slots of busy steps that wrote a token."""
        return self.tokens / (self.busy_steps * self.slots)

    def mean_latency(self, requests: Sequence[Request]) -> float:
        """Computes the steps from arrival to answer, averaged over the requests."""
        waits = [end - request.arrival for end, request in zip(self.finished, requests, strict=True)]
        return sum(waits) / len(waits)


def schedule(requests: Sequence[Request], slots: int, continuous: bool) -> Schedule:
    """Simulates a server that answers requests in the order of their arrival.

    Args:
        requests: in any order, at least one.
        slots: size of the largest batch.
        continuous: whether a free slot is filled before the next step; otherwise a batch is only begun when the one
            before has been written to its last token.

    Raises:
        ValueError: there is no request or no slot, or a request writes nothing.
    """
    if not requests or slots < 1 or min(request.num_tokens for request in requests) < 1:
        raise ValueError("there must be a request and a slot, and each request must write at least one token")
    waiting = sorted(range(len(requests)), key=lambda number: requests[number].arrival)
    running: dict[int, int] = {}  # request: tokens still to be written
    finished, step, busy = [0] * len(requests), 0, 0
    while waiting or running:
        if continuous or not running:
            while waiting and len(running) < slots and requests[waiting[0]].arrival <= step:
                number = waiting.pop(0)
                running[number] = requests[number].num_tokens
        step += 1
        busy += bool(running)
        for number in list(running):
            running[number] -= 1
            if running[number] == 0:
                finished[number] = step
                del running[number]
    return Schedule(tuple(finished), busy, sum(request.num_tokens for request in requests), slots)
