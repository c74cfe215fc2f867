"""Advances the generations of a `BatchGeneratingService` together: each joins and leaves between two steps.

Known as continuous batching (Yu et al. 2022, Orca). One step reads all weights of the model once, however many
generations it advances, so that ten of them take little longer than one.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dlcommon.runtime.serving.service import BatchGeneratingService, Step

logger = logging.getLogger("dlcommon.serving")

AHEAD = 64
"""Steps that a generation may be ahead of whoever takes its pieces; then it pauses, and costs nothing."""


class Ticket:
    """Stands for a generation in the loop."""

    def __init__(
        self, loop: "GenerationLoop", generation: Any, on_step: Callable[[Step | Exception], None], most: int | None
    ) -> None:
        self._loop, self.generation, self.on_step, self._most = loop, generation, on_step, most
        self.ahead = 0
        self.cancelled = False

    @property
    def is_ready(self) -> bool:
        """Whether it may make another step."""
        return not self.cancelled and (self._most is None or self.ahead < self._most)

    def taken(self) -> None:
        """Says that a step has been taken, so that the generation may make another."""
        self._loop.change(self, -1)

    def cancel(self) -> None:
        """Ends the generation before the next step; does nothing if it has ended."""
        self._loop.cancel(self)


class GenerationLoop:
    """Runs the steps on a thread of its own, which lives as long as there is work.

    Args:
        service: whose generations; `advance` and `release` are called from that thread alone.
        around_step: entered around each step with the number of generations, to measure it.
    """

    def __init__(
        self,
        service: BatchGeneratingService[Any, Any],
        around_step: Callable[[int], AbstractContextManager[Any]] = lambda _: nullcontext(),
    ) -> None:
        self._service, self._around_step = service, around_step
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._lock = threading.Lock()
        self._tickets: list[Ticket] = []
        self._running = self._stopped = False

    def submit(self, generation: Any, on_step: Callable[[Step | Exception], None], ahead: int | None = AHEAD) -> Ticket:
        """Adds a generation from any thread.

        Args:
            generation: as `begin` returned it.
            on_step: called on the loop's thread after each of its steps, or with the error that ends it.
            ahead: steps that it may be ahead of those that are `taken`; None where nobody takes them one by one.
        """
        ticket = Ticket(self, generation, on_step, ahead)
        with self._lock:
            if self._stopped:
                raise RuntimeError("the loop has been stopped")
            self._tickets.append(ticket)
            self._wake()
        return ticket

    def change(self, ticket: Ticket, steps: int) -> None:
        """Counts steps that a ticket is ahead."""
        with self._lock:
            ticket.ahead += steps
            self._wake()

    def cancel(self, ticket: Ticket) -> None:
        with self._lock:
            ticket.cancelled = True
            self._wake()

    def stop(self) -> None:
        """Ends all generations after the step that they are in; waits for nothing."""
        with self._lock:
            self._stopped = True
        self._executor.shutdown(wait=False)

    def _wake(self) -> None:
        """Starts the thread if there is work for it; the lock is held."""
        if not self._running and not self._stopped and (self._ready() or any(one.cancelled for one in self._tickets)):
            self._running = True
            self._executor.submit(self._run)

    def _ready(self) -> list[Ticket]:
        return [one for one in self._tickets if one.is_ready]

    def _run(self) -> None:
        while True:
            with self._lock:
                gone = [one for one in self._tickets if one.cancelled or self._stopped]
                self._tickets = [one for one in self._tickets if one not in gone]
                ready = self._ready()
                self._running = bool(ready)
            for ticket in gone:
                self._release(ticket)
            if not ready:
                return
            for ticket, step in zip(ready, self._advance(ready), strict=True):
                if isinstance(step, Exception) or step.ended:
                    with self._lock:
                        self._tickets.remove(ticket)
                    self._release(ticket)
                else:
                    with self._lock:
                        ticket.ahead += 1
                self._tell(ticket, step)

    def _advance(self, tickets: Sequence[Ticket]) -> Sequence[Step | Exception]:
        """Makes a step. One that fails is made again by each generation alone: only the bad one ends."""
        try:
            with self._around_step(len(tickets)):
                return self._service.advance([ticket.generation for ticket in tickets])
        except Exception as error:
            if len(tickets) == 1:
                return [error]
            logger.warning("a step of %d failed (%s); making it one by one", len(tickets), type(error).__name__)
        return [step for ticket in tickets for step in self._advance([ticket])]

    def _release(self, ticket: Ticket) -> None:
        try:
            self._service.release(ticket.generation)
        except Exception:
            logger.exception("releasing a generation failed")

    def _tell(self, ticket: Ticket, step: Step | Exception) -> None:
        try:
            ticket.on_step(step)
        except RuntimeError:  # the event loop that waited for it is closed
            self.cancel(ticket)
