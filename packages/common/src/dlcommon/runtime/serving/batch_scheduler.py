"""Brings the steps of a `GenerationLoop` to the server's event loop."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

from dlcommon.runtime.serving.generation_loop import GenerationLoop
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import BatchGeneratingService, Step


class BatchScheduler:
    """Lets generations advance together, as many as there are slots; used from one event loop."""

    def __init__(self, service: BatchGeneratingService[Any, Any], slots: int, metrics: Metrics, pool: Executor) -> None:
        self.slots = asyncio.Semaphore(slots)
        """Bounds the generations that hold their state in memory; handed on in the order in which they are asked."""
        self._service, self._metrics, self._pool = service, metrics, pool
        self._loop = GenerationLoop(service, self._measured)

    async def steps(self, item: BaseModel) -> AsyncGenerator[BaseModel | None, None]:
        """Yields what each step adds to the answer; closed early, ends the generation before its next step.

        Raises:
            InvalidInputError: the item cannot be used.
        """
        running = asyncio.get_running_loop()
        steps: asyncio.Queue[Step | Exception] = asyncio.Queue()
        generation = await running.run_in_executor(self._pool, self._service.begin, item)
        ticket = self._loop.submit(generation, lambda step: running.call_soon_threadsafe(steps.put_nowait, step))
        try:
            while True:
                step = await steps.get()
                ticket.taken()
                if isinstance(step, Exception):
                    raise step
                yield step.piece
                if step.ended:
                    return
        finally:
            ticket.cancel()

    def stop(self) -> None:
        """Ends all generations; the step that runs goes on, and nobody waits for it."""
        self._loop.stop()

    @contextmanager
    def _measured(self, generations: int) -> Iterator[None]:
        with self._metrics.model_call():
            yield
        self._metrics.batch_size.observe(generations)
