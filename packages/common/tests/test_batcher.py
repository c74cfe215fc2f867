"""Dynamic batching, without a server around it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.serving.batcher import Batcher
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.limits import Admission
from dlcommon.runtime.serving.metrics import Metrics
from numpy.typing import ArrayLike


class Doubler:
    """A model that doubles, notes its batches, can be held up, and refuses negative numbers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.running = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.running.set()
        assert self.go.wait(600)
        self.batches.append(len(arrays["x"]))
        self.threads.add(threading.current_thread().name)
        if (arrays["x"] < 0).any():
            raise ValueError("negative")
        return {"y": arrays["x"] * 2}


@asynccontextmanager
async def batching(model: Any, **options: Any) -> AsyncIterator[Batcher]:
    settings = {"max_batch": 4, "max_wait": 60.0, "metrics": Metrics(), **options}
    batcher = Batcher(model, **settings)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


async def ask(batcher: Batcher, *values: ArrayLike) -> list[Any]:
    with batcher.expect(len(values)) as expected:
        arrays = [{"x": np.asarray(value, np.float32)} for value in values]
        results = await asyncio.gather(*(expected.submit(one) for one in arrays), return_exceptions=True)
    return [result if isinstance(result, BaseException) else result["y"] for result in results]


async def others_have_run() -> None:
    """Gives every task that could go on the chance to."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_items_of_one_request_go_together_in_batches_of_the_largest_size() -> None:
    async def main() -> None:
        model = Doubler()
        async with batching(model) as batcher:
            assert await ask(batcher, *range(10)) == [2 * value for value in range(10)]
        assert model.batches == [4, 4, 2]
        assert len(model.threads) == 1

    asyncio.run(main())


def test_items_of_many_requests_share_a_batch_and_keep_their_answers() -> None:
    async def main() -> None:
        model = Doubler()
        async with batching(model, max_batch=8) as batcher:
            answers = await asyncio.gather(*(ask(batcher, value) for value in range(8)))
        assert answers == [[2 * value] for value in range(8)]
        assert model.batches == [8]

    asyncio.run(main())


def test_a_lone_item_does_not_wait_for_others() -> None:
    async def main() -> None:
        async with batching(Doubler()) as batcher:  # would wait a minute for others that are on their way
            assert await asyncio.wait_for(ask(batcher, 1), 50) == [2]

    asyncio.run(main())


def test_items_still_being_prepared_are_waited_for() -> None:
    async def main() -> None:
        model = Doubler()
        async with batching(model) as batcher:
            with batcher.expect(2) as expected:
                first = asyncio.ensure_future(expected.submit({"x": np.asarray(1, np.float32)}))
                await others_have_run()
                assert not model.running.is_set()
                await expected.submit({"x": np.asarray(2, np.float32)})
                await first
        assert model.batches == [2]

    asyncio.run(main())


def test_an_item_that_is_never_submitted_holds_a_batch_up_for_the_longest_wait_at_most() -> None:
    async def main() -> None:
        async with batching(Doubler(), max_wait=0.05) as batcher:
            with batcher.expect(2) as expected:
                await asyncio.wait_for(expected.submit({"x": np.asarray(1, np.float32)}), 50)

    asyncio.run(main())


def test_items_of_other_shapes_run_in_batches_of_their_own() -> None:
    async def main() -> None:
        model = Doubler()
        async with batching(model) as batcher:
            answers = await ask(batcher, [1, 2], [3], [4, 5])
        assert [answer.tolist() for answer in answers] == [[2, 4], [6], [8, 10]]
        assert sorted(model.batches) == [1, 2]

    asyncio.run(main())


def test_one_bad_item_fails_alone() -> None:
    async def main() -> None:
        model = Doubler()
        async with batching(model) as batcher:
            first, bad, last = await ask(batcher, 1, -1, 3)
        assert (first, last) == (2, 6)
        assert isinstance(bad, ValueError)
        assert model.batches == [3, 1, 1, 1]

    asyncio.run(main())


def test_a_model_that_loses_rows_is_an_error() -> None:
    async def main() -> None:
        async with batching(lambda arrays: {"y": arrays["x"][:0]}) as batcher:
            assert all(isinstance(result, ValueError) for result in await ask(batcher, 1, 2))

    asyncio.run(main())


def test_whatever_the_model_raises_the_next_item_is_answered() -> None:
    async def main() -> None:
        raised: list[Exception] = [StopIteration(), MemoryError(), TimeoutError(), KeyError("x")]

        def model(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if raised:
                raise raised.pop()
            return {"y": arrays["x"]}

        async with batching(model) as batcher:
            for _ in range(4):
                (failed,) = await ask(batcher, 1)
                assert isinstance(failed, Exception)
            assert await ask(batcher, 1) == [1]

    asyncio.run(main())


def test_a_full_queue_refuses_and_recovers() -> None:
    metrics = Metrics()
    admission = Admission(3, metrics)
    with admission.admit(2):
        with pytest.raises(RequestError) as refused, admission.admit(2):
            pass
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        with admission.admit(1):
            assert admission.is_full
    assert not admission.is_full
    assert b"dl_items_in_flight 0.0" in metrics.text()


def test_cancelled_items_leave_the_queue_unrun() -> None:
    async def main() -> None:
        model = Doubler()
        model.go.clear()
        async with batching(model, max_batch=1) as batcher:
            running = asyncio.ensure_future(ask(batcher, 1))
            await asyncio.to_thread(model.running.wait, 60)
            waiting = [asyncio.ensure_future(ask(batcher, value)) for value in (2, 3)]
            await others_have_run()
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            model.go.set()
            assert await running == [2]
        assert model.batches == [1]

    asyncio.run(main())


def test_items_cancelled_while_another_shape_is_run_are_not_run() -> None:
    async def main() -> None:
        model = Doubler()
        model.go.clear()
        async with batching(model) as batcher:
            # Both items are taken from the queue at once, and run one after the other since they cannot be stacked.
            with batcher.expect(2) as expected:
                first = asyncio.ensure_future(expected.submit({"x": np.asarray([1], np.float32)}))
                second = asyncio.ensure_future(expected.submit({"x": np.asarray([2, 2], np.float32)}))
                await asyncio.to_thread(model.running.wait, 60)
                second.cancel()
                await others_have_run()
                model.go.set()
                assert (await first)["y"] == [2]
        assert model.batches == [1]

    asyncio.run(main())


def test_items_of_a_failed_batch_that_nobody_waits_for_are_not_run_alone() -> None:
    async def main() -> None:
        model = Doubler()
        model.go.clear()
        async with batching(model) as batcher:
            with batcher.expect(2) as expected:
                bad = asyncio.ensure_future(expected.submit({"x": np.asarray(-1, np.float32)}))
                gone = asyncio.ensure_future(expected.submit({"x": np.asarray(2, np.float32)}))
                await asyncio.to_thread(model.running.wait, 60)
                gone.cancel()
                await others_have_run()
                model.go.set()
                with pytest.raises(ValueError, match="negative"):
                    await bad
        assert model.batches == [2, 1]

    asyncio.run(main())
