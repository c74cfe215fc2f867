"""Dynamic batching: items of many requests go through the model together, on one worker thread."""

import asyncio
import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dlcommon.runtime.arrays import Arrays, Predict
from dlcommon.runtime.serving.batch import Outputs, run_batch, stacking_key
from dlcommon.runtime.serving.metrics import Metrics

logger = logging.getLogger("dlcommon.serving")


@dataclass(frozen=True, eq=False)
class _Entry:
    """Holds one item of the queue, and the future of its result."""

    arrays: Arrays
    result: "asyncio.Future[Outputs]"

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for the result.

        The worker thread asks too: reading the state is safe there, setting a result is not.
        """
        return not self.result.done()

    def settle(self, result: "Outputs | Exception") -> None:
        """Hands the result to whoever still waits for it."""
        if not self.is_wanted:
            return
        if isinstance(result, StopIteration):  # a future cannot hold one
            result = RuntimeError("the model raised StopIteration")
        if isinstance(result, Exception):
            self.result.set_exception(result)
        else:
            self.result.set_result(result)


class ExpectedItems:
    """Tracks the items of one request that the batcher expects before they are submitted."""

    def __init__(self, batcher: "Batcher", items: int) -> None:
        self._batcher = batcher
        self._to_come = items

    async def submit(self, arrays: Arrays) -> Outputs:
        """Waits for the outputs of one item; if cancelled, the item leaves the queue."""
        self._to_come -= 1
        return await self._batcher._submit(arrays)

    def forgo(self, items: int | None = None) -> None:
        """Says that this many items, by default all that are left, will not be submitted after all."""
        dropped = self._to_come if items is None else items
        self._to_come -= dropped
        self._batcher._forgo(dropped)


class Batcher:
    """Queues items in front of a model and runs them in batches; used from one event loop."""

    def __init__(self, predict: Predict, max_batch: int, max_wait: float, metrics: Metrics) -> None:
        self._predict = predict
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._metrics = metrics
        self._numbers = itertools.count()
        self._waiting: dict[int, _Entry] = {}
        self._to_come = 0
        self._arrived = asyncio.Event()
        self._gathered = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._worker = asyncio.get_running_loop().create_task(self._work(), name="batcher")

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def expect(self, items: int) -> Iterator[ExpectedItems]:
        """Announces the items of one request, so that a batch waits a moment for those still being prepared."""
        self._to_come += items
        expected = ExpectedItems(self, items)
        try:
            yield expected
        finally:
            expected.forgo()

    def _forgo(self, items: int) -> None:
        self._to_come -= items
        self._signal()

    def _signal(self) -> None:
        self._metrics.queue_length.set(len(self._waiting))
        if self._waiting:
            self._arrived.set()
        if self._to_come == 0 or len(self._waiting) >= self._max_batch:
            self._gathered.set()

    async def _submit(self, arrays: Arrays) -> Outputs:
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
                groups.setdefault(stacking_key(entry.arrays), []).append(entry)
            for group in groups.values():
                # Asked for each group: a client may have left while an earlier group was computed.
                wanted = [entry for entry in group if entry.is_wanted]
                if not wanted:
                    continue
                results = await loop.run_in_executor(self._thread, self._run_group, wanted)
                for entry, result in zip(wanted, results, strict=True):
                    entry.settle(result)

    def _run_group(self, entries: list[_Entry]) -> "list[Outputs | Exception]":
        """Runs on the worker thread. A batch that fails is run again item by item: only the bad one fails."""
        try:
            return list(self._run_batch(entries))
        except Exception as error:
            if len(entries) == 1:
                return [error]
            logger.warning("a batch of %d failed (%s); running its items alone", len(entries), type(error).__name__)
        results: list[Outputs | Exception] = []
        for entry in entries:
            results += self._run_group([entry]) if entry.is_wanted else [RuntimeError("abandoned")]
        return results

    def _run_batch(self, entries: list[_Entry]) -> list[Outputs]:
        with self._metrics.model_call():
            outputs = run_batch(self._predict, [entry.arrays for entry in entries])
        self._metrics.batch_size.observe(len(entries))
        return outputs
