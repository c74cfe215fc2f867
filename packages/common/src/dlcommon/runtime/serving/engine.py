"""The way of every item, from REST and from the page: validate, prepare, batch, answer."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from dlcommon.runtime.errors import InvalidInputError, UserError
from dlcommon.runtime.hardware import available_cores
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.batcher import Arrays, Batcher
from dlcommon.runtime.serving.errors import RequestError, explain, internal, invalid_item, timed_out
from dlcommon.runtime.serving.images import ImageLimits
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import Service
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.runtime.serving.streams import StreamWorkers

MAX_REASONS = 3
"""Problems that one message lists."""

Prepared = tuple[BaseModel, Arrays]


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def validation_message(error: ValidationError) -> str:
    """What is wrong with an item, field by field, without repeating what was sent."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    reasons = []
    for problem in problems[:MAX_REASONS]:
        place = ".".join(_shortened(str(part), 40) for part in problem["loc"])
        reasons.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    if len(problems) > MAX_REASONS:
        reasons.append(f"and {len(problems) - MAX_REASONS} more")
    return _shortened("; ".join(reasons), 500)


class Engine:
    """Answers items with a service and its model."""

    def __init__(self, service: Service, model: OnnxModel, settings: ServeConfig, metrics: Metrics) -> None:
        service.image_limits = ImageLimits(settings.max_pixels)
        self.service = service
        self.model = model
        self.settings = settings
        self.metrics = metrics
        self.batcher = Batcher(
            lambda arrays: service.run(model, arrays),
            max_batch=settings.max_batch,
            max_wait=settings.max_wait_ms / 1000,
            capacity=settings.queue,
            metrics=metrics,
        )
        self._pool = ThreadPoolExecutor(min(4, available_cores()), thread_name_prefix="prepare")
        self._streams = StreamWorkers(settings.streams, settings.timeout)

    def self_test(self) -> None:
        """Answers the service's example.

        Raises:
            UserError: this model and this service do not belong together.
        """
        try:
            item, arrays = self._prepare(dict(self.service.example))
            batch = {name: np.stack([array, array]) for name, array in arrays.items()}
            outputs = self.service.run(self.model, batch)
            self.service.answer_for(item, {name: output[1] for name, output in outputs.items()})
        except Exception as error:
            reason = _shortened(str(error), 300)
            raise UserError(
                f"{self.model.path} does not answer this capstone's own example ({reason}); "
                "export the model again, or name another with --model"
            ) from error

    def start(self) -> None:
        self.batcher.start()

    async def stop(self) -> None:
        await self.batcher.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._streams.stop()

    async def in_pool(self, function: Any, *arguments: Any) -> Any:
        """Runs what takes longer than a moment beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def answers(self, raw: Sequence[Any]) -> list[BaseModel | RequestError]:
        """Each item's answer, or why it has none; items are dicts, bytes (an upload) or item objects.

        Raises:
            RequestError: 503 where the queue is full, 504 where no answer came in time.
        """
        with self.batcher.admit(len(raw)) as admission:
            try:
                async with asyncio.timeout(self.settings.timeout):
                    prepared = await self.in_pool(self._prepare_all, raw)
                    good = [one for one in prepared if not isinstance(one, RequestError)]
                    admission.forgo(len(prepared) - len(good))
                    outputs = await asyncio.gather(
                        *(admission.submit(arrays) for _, arrays in good), return_exceptions=True
                    )
                    answered = iter(await self.in_pool(self._answer_all, good, outputs))
            except TimeoutError:
                self.metrics.items.labels("timeout").inc(len(raw))
                raise timed_out(self.settings.timeout) from None
            except asyncio.CancelledError:
                self.metrics.items.labels("abandoned").inc(len(raw))
                raise
        results = [one if isinstance(one, RequestError) else next(answered) for one in prepared]
        for result in results:
            failed = isinstance(result, RequestError)
            outcome = "answered" if not failed else "refused" if result.status < 500 else "failed"
            self.metrics.items.labels(outcome).inc()
        return results

    async def stream(self, raw: Any) -> AsyncGenerator[BaseModel, None]:
        """One item's answer, piece by piece.

        Raises:
            RequestError: the item is refused, 503 where too much is waiting, 504 where a piece does not come.
        """
        outcome = "abandoned"
        with self.batcher.admit(1) as admission:
            admission.forgo(1)  # its place counts, but the batcher has nothing to wait for
            try:
                item = await self.in_pool(self._validated, raw)
                async for piece in self._streams.pieces(self.service.stream(item)):
                    yield piece
                outcome = "answered"
            except RequestError as error:
                outcome = "refused" if error.status < 500 else "failed"
                raise
            finally:
                self.metrics.items.labels(outcome).inc()

    def _validated(self, raw: Any) -> BaseModel:
        try:
            return raw if isinstance(raw, BaseModel) else self.service.item.model_validate(raw)
        except ValidationError as error:
            raise invalid_item(validation_message(error)) from None

    async def answer(self, item: BaseModel) -> BaseModel:
        """One item's answer; raises `RequestError` where there is none."""
        result = (await self.answers([item]))[0]
        if isinstance(result, RequestError):
            raise result
        return result

    def _prepare(self, raw: Any) -> Prepared:
        if isinstance(raw, bytes):
            raw = {self.service.upload: raw}
        item = raw if isinstance(raw, BaseModel) else self.service.item.model_validate(raw)
        arrays = {name: np.asarray(array) for name, array in self.service.prepare(item).items()}
        for name, array in arrays.items():
            if array.dtype.kind in "fc" and not np.isfinite(array).all():
                raise InvalidInputError(f"{name} holds NaN or infinite values")
        return item, arrays

    def _prepare_all(self, raw: Sequence[Any]) -> list[Prepared | RequestError]:
        results: list[Prepared | RequestError] = []
        for one in raw:
            try:
                results.append(self._prepare(one))
            except ValidationError as error:
                results.append(invalid_item(validation_message(error)))
            except Exception as error:
                results.append(explain(error))
        return results

    def _answer_all(
        self, prepared: list[Prepared], outputs: list[Arrays | BaseException]
    ) -> list[BaseModel | RequestError]:
        results: list[BaseModel | RequestError] = []
        for (item, _), output in zip(prepared, outputs, strict=True):
            if isinstance(output, BaseException):
                results.append(internal(output, "model_failed"))
                continue
            try:
                results.append(self.service.answer_for(item, output))
            except Exception as error:
                results.append(explain(error))
        return results
