"""The path of every item, from REST and from the page: admit, answer within the deadline, count."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.hardware import available_cores
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.batched import BatchedAnswers
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.generation import GeneratedAnswers
from dlcommon.runtime.serving.images import ImageLimits
from dlcommon.runtime.serving.limits import Admission, Deadlines
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import AnyService, BatchedService, GeneratingService
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.runtime.serving.validation import shortened

Result = TypeVar("Result")
OUTCOMES = {"timeout": "timeout", "stopping": "stopped"}
"""How items are counted whose request failed as a whole, by the error's code."""


class Engine:
    """Answers items with a service and its model."""

    def __init__(self, service: AnyService, model: OnnxModel, settings: ServeConfig, metrics: Metrics) -> None:
        service.image_limits = ImageLimits(settings.max_pixels)
        self.service = service
        self.model = model
        self.settings = settings
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(min(4, available_cores()), thread_name_prefix="prepare")
        self._admission = Admission(settings.queue, metrics)
        self._deadlines = Deadlines(settings.timeout)
        self._answers: BatchedAnswers | GeneratedAnswers
        if isinstance(service, GeneratingService):
            self._answers = GeneratedAnswers(service, settings, metrics, self._pool, self._deadlines)
        elif isinstance(service, BatchedService):
            self._answers = BatchedAnswers(service, model, settings, metrics, self._pool)
        else:
            raise TypeError(f"{type(service).__name__} is neither a BatchedService nor a GeneratingService")

    @property
    def streams(self) -> bool:
        """Whether answers can be streamed."""
        return isinstance(self._answers, GeneratedAnswers)

    @property
    def max_values(self) -> int:
        """How many values the JSON of one request may hold."""
        return self.settings.max_items * self.service.max_values

    def self_test(self) -> None:
        """Answers the service's example.

        Raises:
            UserError: this model and this service do not belong together.
        """
        try:
            self._answers.self_test()
        except Exception as error:
            raise UserError(
                f"{self.model.path} does not answer this capstone's own example ({shortened(str(error), 300)}); "
                "export the model again, or name another with --model"
            ) from error

    def start(self) -> None:
        """Starts accepting items; called on the event loop."""
        self._answers.start()

    async def stop(self) -> None:
        """Stops accepting items; threads end after their current computation."""
        await self._answers.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def interrupt(self) -> None:
        """Answers all pending items with 503 `stopping`."""
        self._deadlines.expire_all()

    def status(self) -> Literal["ready", "overloaded", "stalled"]:
        """Tells whether a request that arrives now can be answered in time.

        'stalled' means that one run of the model, or the reading of one item, has been going on for longer than any
        request may wait.
        """
        if self._metrics.longest_work() > self.settings.timeout:
            return "stalled"
        return "overloaded" if self._admission.is_full else "ready"

    async def in_pool(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a slow function on the pool's threads, without blocking the event loop."""

        def noted() -> Result:
            with self._metrics.piece_of_work():
                return function(*arguments)

        return await asyncio.get_running_loop().run_in_executor(self._pool, noted)

    async def answers(self, raw: Sequence[Any]) -> list[BaseModel | RequestError]:
        """Returns each item's answer, or why it has none; items are dicts, bytes (an upload) or item objects.

        Raises:
            RequestError: 503 where the queue is full or the server stops, 504 where no answer came in time, 413.
        """
        with self._admission.admit(len(raw)):
            try:
                async with self._deadlines.limit():
                    results = await self._answers.answers(raw)
            except asyncio.CancelledError:
                self._count("abandoned", len(raw))
                raise
            except RequestError as error:
                self._count(_outcome(error), len(raw))
                raise
        for result in results:
            self._count(_outcome(result))
        return results

    async def stream(self, raw: Any) -> AsyncGenerator[BaseModel, None]:
        """Yields one item's answer, piece by piece.

        Raises:
            RequestError: the item is refused, 503 where too much is waiting, 504 where a piece does not come.
        """
        assert isinstance(self._answers, GeneratedAnswers), "only a GeneratingService streams"
        outcome = "abandoned"
        with self._admission.admit(1):
            try:
                async with aclosing(self._answers.stream(raw)) as pieces:
                    async for piece in pieces:
                        yield piece
                outcome = "answered"
            except RequestError as error:
                outcome = _outcome(error)
                raise
            finally:
                self._count(outcome)

    async def answer(self, item: BaseModel) -> BaseModel:
        """Returns one item's answer; raises `RequestError` where there is none."""
        result = (await self.answers([item]))[0]
        if isinstance(result, RequestError):
            raise result
        return result

    def _count(self, outcome: str, items: int = 1) -> None:
        self._metrics.items.labels(outcome).inc(items)


def _outcome(result: BaseModel | RequestError) -> str:
    if not isinstance(result, RequestError):
        return "answered"
    return OUTCOMES.get(result.code, "refused" if result.status < 500 else "failed")
