"""Answers the items of a `GeneratingService`: generations that take turns, piece by piece."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing
from typing import Any, TypeVar

from pydantic import BaseModel

from dlcommon.runtime.hardware import available_cores
from dlcommon.runtime.serving.batch_scheduler import BatchScheduler
from dlcommon.runtime.serving.errors import RequestError, explain, too_many_tokens
from dlcommon.runtime.serving.limits import Deadlines
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import BatchGeneratingService, GeneratingService
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.runtime.serving.validation import validate_item

logger = logging.getLogger("dlcommon.serving")

Piece = TypeVar("Piece")
END = object()
"""Stands for the end of a generation."""


class Scheduler:
    """Advances many generators on a few threads, in turn; used from one event loop.

    A generator has at most one step in the executor's queue, which is first in, first out, and its next step is queued
    only once the piece before has been taken. So each generator that holds a slot makes one step a round, however long
    it is; and one from which nobody takes any more costs nothing.
    """

    def __init__(self, slots: int, threads: int, metrics: Metrics) -> None:
        self.slots = asyncio.Semaphore(slots)
        """Bounds the generators that hold their state in memory; handed on in the order in which they are asked for."""
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._metrics = metrics

    async def steps(self, generator: Generator[Piece, None, None]) -> AsyncGenerator[Piece, None]:
        """Yields what the generator yields; closed early, closes the generator after the step that it is in."""
        step: Future[Any] | None = None
        try:
            while True:
                step = self._executor.submit(self._next, generator)
                piece = await asyncio.wrap_future(step)
                if piece is END:
                    return
                yield piece
        finally:
            # Nothing may be awaited here, since the task is being cancelled. A step that is still queued is taken out;
            # one that runs cannot be stopped, and its generator cannot be closed before it has yielded.
            if step is None or step.cancel():
                self._close(generator)
            else:
                step.add_done_callback(lambda _: self._close(generator))

    def stop(self) -> None:
        """Drops queued steps; those that run go on, and nobody waits for them."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _next(self, generator: Generator[Piece, None, None]) -> Any:
        with self._metrics.model_call():
            return next(generator, END)

    @staticmethod
    def _close(generator: Generator[Piece, None, None]) -> None:
        try:
            generator.close()
        except Exception:
            logger.exception("closing a generation failed")


class GeneratedAnswers:
    """Generates the items of one request one after the other, so that each request has an equal share of the model."""

    def __init__(
        self,
        service: GeneratingService[Any, Any],
        settings: ServeConfig,
        metrics: Metrics,
        pool: ThreadPoolExecutor,
        deadlines: Deadlines,
    ) -> None:
        self._service = service
        self._max_tokens = settings.max_tokens
        self._pool = pool
        self._deadlines = deadlines
        self._scheduler: Scheduler | BatchScheduler
        if isinstance(service, BatchGeneratingService):
            self._scheduler = BatchScheduler(service, settings.slots, metrics, pool)
        else:
            self._scheduler = Scheduler(settings.slots, min(settings.slots, available_cores()), metrics)

    def self_test(self) -> None:
        """Generates the answer to the service's example."""
        item = validate_item(self._service, dict(self._service.example))
        self._service.join([piece for piece in self._generate(item) if piece is not None])

    def start(self) -> None:
        """Does nothing: the threads start with the first step."""

    async def stop(self) -> None:
        self._scheduler.stop()

    async def answers(self, raw: Sequence[Any]) -> list[BaseModel | RequestError]:
        """Returns each item's answer, or why it has none.

        Raises:
            RequestError: 413, the items ask for too many tokens together.
        """
        items = await asyncio.get_running_loop().run_in_executor(self._pool, self._validate, raw)
        async with self._scheduler.slots:
            return [item if isinstance(item, RequestError) else await self._answer(item) for item in items]

    async def stream(self, raw: Any) -> AsyncGenerator[BaseModel, None]:
        """Yields one item's answer, piece by piece.

        Raises:
            RequestError: the item is refused, 504 where a piece does not come in time.
        """
        async with AsyncExitStack() as held:
            async with self._deadlines.limit():
                (item,) = await asyncio.get_running_loop().run_in_executor(self._pool, self._validate, [raw])
                if isinstance(item, RequestError):
                    raise item
                await held.enter_async_context(self._scheduler.slots)
            steps = await held.enter_async_context(aclosing(self._steps(item)))
            while True:
                # The deadline is not held while a piece is handed over: how long a client takes to read is bounded
                # elsewhere, and a deadline belongs to the task that entered it.
                async with self._deadlines.limit():
                    piece = await self._next_piece(steps)
                if piece is None:
                    return
                yield piece

    def _steps(self, item: BaseModel) -> AsyncGenerator[BaseModel | None, None]:
        if isinstance(self._scheduler, BatchScheduler):
            return self._scheduler.steps(item)
        return self._scheduler.steps(self._generate(item))

    async def _next_piece(self, steps: AsyncGenerator[BaseModel | None, None]) -> BaseModel | None:
        """Takes steps until one has a piece; None after the last step."""
        try:
            async for piece in steps:
                if piece is not None:
                    return piece
        except Exception as error:
            raise explain(error) from None
        return None

    async def _answer(self, item: BaseModel) -> BaseModel | RequestError:
        try:
            async with aclosing(self._steps(item)) as steps:
                pieces = [piece async for piece in steps if piece is not None]
            joined: BaseModel = await asyncio.get_running_loop().run_in_executor(self._pool, self._service.join, pieces)
            return joined
        except Exception as error:
            return explain(error)

    def _generate(self, item: BaseModel) -> Generator[BaseModel | None, None, None]:
        """Makes a generator of whatever iterator the service returns, and calls the service only in the first step."""
        yield from self._service.generate(item)

    def _validate(self, raw: Sequence[Any]) -> list[BaseModel | RequestError]:
        items: list[BaseModel | RequestError] = []
        tokens = 0
        for one in raw:
            try:
                item = validate_item(self._service, one)
                tokens += self._service.tokens(item)
                items.append(item)
            except Exception as error:
                items.append(explain(error))
        if tokens > self._max_tokens:
            raise too_many_tokens(tokens, self._max_tokens)
        return items
