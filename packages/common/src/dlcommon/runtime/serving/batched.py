"""Answers the items of a `BatchedService`: prepare, batch, answer."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import BaseModel

from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.batch import Outputs, Prepared, prepare_item, run_batch
from dlcommon.runtime.serving.batcher import Batcher
from dlcommon.runtime.serving.errors import RequestError, explain, internal
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import BatchedService
from dlcommon.runtime.serving.settings import ServeConfig

Given = TypeVar("Given")
Result = TypeVar("Result")


class BatchedAnswers:
    """Prepares items on the pool's threads, and runs them in batches on the model's."""

    def __init__(
        self,
        service: BatchedService[Any, Any],
        model: OnnxModel,
        settings: ServeConfig,
        metrics: Metrics,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._service = service
        self._model = model
        self._metrics = metrics
        self._pool = pool
        self._batcher = Batcher(
            lambda arrays: service.run(model, dict(arrays)),
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            metrics=metrics,
        )

    def self_test(self) -> None:
        """Answers the service's example, in a batch of two."""
        item, arrays = self._prepare(dict(self._service.example))
        outputs = run_batch(lambda batch: self._service.run(self._model, dict(batch)), [arrays, arrays])
        self._service.answer_for(item, outputs[1])

    def start(self) -> None:
        self._batcher.start()

    async def stop(self) -> None:
        await self._batcher.stop()

    async def answers(self, raw: Sequence[Any]) -> list[BaseModel | RequestError]:
        """Returns each item's answer, or why it has none. Once cancelled, computes only what has begun."""
        loop = asyncio.get_running_loop()
        # A function that runs on a thread cannot be cancelled, so it looks at this before each item.
        abandoned = threading.Event()
        try:
            with self._batcher.expect(len(raw)) as expected:
                prepared = await loop.run_in_executor(self._pool, _each, self._prepare, raw, abandoned)
                good = [one for one in prepared if not isinstance(one, RequestError)]
                expected.forgo(len(prepared) - len(good))
                outputs = await asyncio.gather(*(expected.submit(arrays) for _, arrays in good), return_exceptions=True)
            computed = list(zip(good, outputs, strict=True))
            answered = iter(await loop.run_in_executor(self._pool, _each, self._answer, computed, abandoned))
        finally:
            abandoned.set()
        return [one if isinstance(one, RequestError) else next(answered) for one in prepared]

    def _prepare(self, raw: Any) -> Prepared:
        with self._metrics.piece_of_work():
            return prepare_item(self._service, raw)

    def _answer(self, computed: tuple[Prepared, Outputs | BaseException]) -> BaseModel:
        (item, _), outputs = computed
        if isinstance(outputs, BaseException):
            raise internal(outputs, "model_failed")
        with self._metrics.piece_of_work():
            answer: BaseModel = self._service.answer_for(item, outputs)
        return answer


def _each(
    function: Callable[[Given], Result], values: Sequence[Given], abandoned: threading.Event
) -> list[Result | RequestError]:
    """Applies the function to each value; what it raises stands in its place. Ends early once abandoned."""
    results: list[Result | RequestError] = []
    for value in values:
        if abandoned.is_set():
            break
        try:
            results.append(function(value))
        except Exception as error:
            results.append(explain(error))
    return results
