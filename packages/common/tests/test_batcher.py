"""Dynamic batching, without a server around it."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.serving.batcher import Arrays, Batcher
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.metrics import Metrics
from numpy.typing import ArrayLike


class Doubler:
    """A model that doubles, notes its batches, can be held up, and refuses negative numbers."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, arrays: Arrays) -> Arrays:
        assert self.go.wait(10)
        self.batches.append(len(arrays["x"]))
        self.threads.add(threading.current_thread().name)
        if (arrays["x"] < 0).any():
            raise ValueError("negative")
        return {"y": arrays["x"] * 2}


@asynccontextmanager
async def batching(model: Any, **options: Any) -> AsyncIterator[Batcher]:
    settings = {"max_batch": 4, "max_wait": 1.0, "capacity": 16, "metrics": Metrics(), **options}
    batcher = Batcher(model, **settings)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


async def ask(batcher: Batcher, *values: ArrayLike) -> list[Any]:
    with batcher.admit(len(values)) as admission:
        arrays = [{"x": np.asarray(value, np.float32)} for value in values]
        results = await asyncio.gather(*(admission.submit(one) for one in arrays), return_exceptions=True)
    return [result if isinstance(result, BaseException) else result["y"] for result in results]


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
        async with batching(Doubler(), max_wait=10) as batcher:
            await asyncio.wait_for(ask(batcher, 1), 5)

    asyncio.run(main())


def test_items_still_being_prepared_are_waited_for() -> None:
    async def main() -> None:
        model = Doubler()
        async with batching(model) as batcher:
            with batcher.admit(2) as admission:
                first = asyncio.ensure_future(admission.submit({"x": np.asarray(1, np.float32)}))
                await asyncio.sleep(0.05)
                assert model.batches == []
                await admission.submit({"x": np.asarray(2, np.float32)})
                await first
        assert model.batches == [2]

    asyncio.run(main())


def test_an_item_that_is_never_submitted_holds_a_batch_up_for_the_longest_wait_at_most() -> None:
    async def main() -> None:
        async with batching(Doubler(), max_wait=0.05) as batcher:
            with batcher.admit(2) as admission:
                await asyncio.wait_for(admission.submit({"x": np.asarray(1, np.float32)}), 5)

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

        def model(arrays: Arrays) -> Arrays:
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
    async def main() -> None:
        model = Doubler()
        model.go.clear()
        async with batching(model, capacity=3) as batcher:
            accepted = [asyncio.ensure_future(ask(batcher, value)) for value in range(3)]
            await asyncio.sleep(0.05)
            with pytest.raises(RequestError) as refused:
                await ask(batcher, 9)
            assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
            model.go.set()
            assert await asyncio.gather(*accepted) == [[0], [2], [4]]
            assert await ask(batcher, 9) == [18]
            assert batcher.admitted == 0

    asyncio.run(main())


def test_cancelled_items_leave_the_queue_unrun() -> None:
    async def main() -> None:
        model = Doubler()
        model.go.clear()
        async with batching(model, max_batch=1, capacity=4) as batcher:
            running = asyncio.ensure_future(ask(batcher, 1))
            await asyncio.sleep(0.05)
            waiting = [asyncio.ensure_future(ask(batcher, value)) for value in (2, 3)]
            await asyncio.sleep(0.05)
            assert batcher.admitted == 3
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert batcher.admitted == 1
            model.go.set()
            assert await running == [2]
        assert model.batches == [1]

    asyncio.run(main())
