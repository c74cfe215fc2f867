"""Dynamic batching: items of many requests go through the model together, on one worker thread."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from dlcommon.runtime.serving.errors import overloaded
from dlcommon.runtime.serving.metrics import Metrics

logger = logging.getLogger("dlcommon.serving")

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
"""The model: arrays [batch, …] to arrays [batch, …]."""


@dataclass(frozen=True, eq=False)
class _Entry:
    arrays: Arrays
    result: "asyncio.Future[Arrays]"

    def settle(self, result: "Arrays | Exception") -> None:
        """Hands the result to whoever still waits for it."""
        if self.result.done():
            return
        if isinstance(result, StopIteration):  # a future cannot hold one
            result = RuntimeError("the model raised StopIteration")
        if isinstance(result, Exception):
            self.result.set_exception(result)
        else:
            self.result.set_result(result)

    def key(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """Items of one key can be stacked."""
        return tuple((name, array.dtype.str, array.shape) for name, array in sorted(self.arrays.items()))


class Admission:
    """The places that one request holds."""

    def __init__(self, batcher: "Batcher", places: int) -> None:
        self._batcher = batcher
        self._to_come = places

    async def submit(self, arrays: Arrays) -> Arrays:
        """Waits for the outputs of one item; cancelled, the item leaves the queue."""
        self._to_come -= 1
        return await self._batcher._submit(arrays)

    def forgo(self, places: int) -> None:
        """Says that this many items will not be submitted after all."""
        self._to_come -= places
        self._batcher._forgo(places)


class Batcher:
    """A bounded queue in front of a model; used from one event loop."""

    def __init__(self, run: Run, max_batch: int, max_wait: float, capacity: int, metrics: Metrics) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._capacity = capacity
        self._metrics = metrics
        self._numbers = itertools.count()
        self._waiting: dict[int, _Entry] = {}
        self._admitted = 0
        self._to_come = 0
        self._arrived = asyncio.Event()
        self._gathered = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    @property
    def admitted(self) -> int:
        """Items accepted whose request has not been answered yet."""
        return self._admitted

    def start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="batcher")

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def admit(self, items: int) -> Iterator[Admission]:
        """Holds places for the items of one request until it is answered.

        Raises:
            RequestError: 503, the queue is full.
        """
        if self._admitted + items > self._capacity:
            raise overloaded()
        self._admitted += items
        self._to_come += items
        self._metrics.in_flight.set(self._admitted)
        admission = Admission(self, items)
        try:
            yield admission
        finally:
            admission.forgo(admission._to_come)
            self._admitted -= items
            self._metrics.in_flight.set(self._admitted)

    def _forgo(self, places: int) -> None:
        self._to_come -= places
        self._signal()

    def _signal(self) -> None:
        self._metrics.queue_length.set(len(self._waiting))
        if self._waiting:
            self._arrived.set()
        if self._to_come == 0 or len(self._waiting) >= self._max_batch:
            self._gathered.set()

    async def _submit(self, arrays: Arrays) -> Arrays:
        number = next(self._numbers)
        entry = _Entry(arrays, asyncio.get_running_loop().create_future())
        self._waiting[number] = entry
        self._to_come -= 1
        self._signal()
        try:
            return await entry.result
        finally:
            self._waiting.pop(number, None)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            # Waiting pays only while further items are on their way: being parsed, decoded, prepared.
            if self._to_come and self._max_wait and len(self._waiting) < self._max_batch:
                self._gathered.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._max_wait):
                        await self._gathered.wait()
            numbers = list(itertools.islice(self._waiting, self._max_batch))
            taken = [self._waiting.pop(number) for number in numbers]
            if not self._waiting:
                self._arrived.clear()
            self._metrics.queue_length.set(len(self._waiting))
            groups: dict[object, list[_Entry]] = {}
            for entry in taken:
                groups.setdefault(entry.key(), []).append(entry)
            for group in groups.values():
                wanted = [entry for entry in group if not entry.result.done()]
                arrays = [entry.arrays for entry in wanted]
                results = await loop.run_in_executor(self._thread, self._run_group, arrays)
                for entry, result in zip(wanted, results, strict=True):
                    entry.settle(result)

    def _run_group(self, items: list[Arrays]) -> "list[Arrays | Exception]":
        """On the worker thread. A batch that fails is run again item by item: only the bad one fails."""
        if not items:
            return []
        try:
            return list(self._run_batch(items))
        except Exception as error:
            if len(items) == 1:
                return [error]
            logger.warning("a batch of %d failed (%s); running its items alone", len(items), type(error).__name__)
        results: list[Arrays | Exception] = []
        for item in items:
            results += self._run_group([item])
        return results

    def _run_batch(self, items: list[Arrays]) -> list[Arrays]:
        batch = {name: np.stack([item[name] for item in items]) for name in items[0]}
        started = time.perf_counter()
        outputs = self._run(batch)
        self._metrics.model_seconds.observe(time.perf_counter() - started)
        self._metrics.batch_size.observe(len(items))
        for name, output in outputs.items():
            if len(output) != len(items):
                raise ValueError(f"output {name} has {len(output)} rows for a batch of {len(items)}")
        return [{name: output[row] for name, output in outputs.items()} for row in range(len(items))]
