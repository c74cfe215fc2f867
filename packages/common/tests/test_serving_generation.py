"""Generations that take turns, without a server around them."""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.generation import Scheduler
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import GeneratingService
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing.toy_serving import Letters, Line, ToyWriter


class Writer(ToyWriter):
    """Notes the first letter of the word at each step; waits at the first step until it is let go."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.log: list[str] = []
        self.closed: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def generate(self, item: Line) -> Iterator[Letters | None]:
        try:
            for piece in super().generate(item):
                self.log.append(item.word[0])
                self.begun.set()
                assert self.go.wait(600)
                yield piece
        finally:
            self.closed.append(item.word[0])


def engine_of(service: GeneratingService[Any, Any], **options: Any) -> Engine:
    return Engine(service, None, ServeConfig(demo=False, **options), Metrics())  # type: ignore[arg-type]


async def others_have_run() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def ask(engine: Engine, *items: dict[str, Any]) -> list[Any]:
    results: list[Any] = await engine.answers(items)
    return [result.content() if isinstance(result, RequestError) else result.text for result in results]


def outcomes(engine: Engine) -> dict[str, float]:
    (items,) = engine._metrics.items.collect()
    return {sample.labels["outcome"]: sample.value for sample in items.samples}


def test_answers_are_the_joined_pieces_and_a_bad_item_fails_alone() -> None:
    async def main() -> None:
        engine = engine_of(ToyWriter(None))  # type: ignore[arg-type]
        engine.self_test()
        found = await ask(
            engine,
            {"letters": 4},
            {"letters": 0},
            {"word": "a b"},
            {"letters": 3, "fails_after": 1},
            {"letters": 5, "quiet": True},
        )
        assert (found[0], found[4]) == ("toyt", "toyto")
        assert [entry["error"]["code"] for entry in found[1:4]] == ["invalid_input", "invalid_input", "internal"]
        assert outcomes(engine) == {"answered": 2, "refused": 2, "failed": 1}
        await engine.stop()

    asyncio.run(main())


def test_a_short_generation_does_not_wait_for_the_end_of_a_long_one() -> None:
    log: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def generator(name: str, steps: int) -> Generator[str, None, None]:
        for _ in range(steps):
            log.append(name)
            begun.set()
            assert go.wait(600)
            yield name

    async def main() -> None:
        scheduler = Scheduler(slots=4, threads=1, metrics=Metrics())

        async def taken(name: str, steps: int) -> list[str]:
            return [piece async for piece in scheduler.steps(generator(name, steps))]

        long = asyncio.ensure_future(taken("long", 500))
        await asyncio.to_thread(begun.wait, 60)
        short = asyncio.ensure_future(taken("short", 5))
        await others_have_run()  # its first step is queued behind the one that runs
        go.set()
        assert await short == ["short"] * 5
        assert await long == ["long"] * 500
        scheduler.stop()

    asyncio.run(main())
    end_of_short = max(place for place, name in enumerate(log) if name == "short")
    # In turn: at most two steps of the long one before each of the short one's, for the first is queued while one runs.
    assert log[: end_of_short + 1].count("long") <= 2 * 5, log[: end_of_short + 1]


def test_items_of_one_request_share_one_slot() -> None:
    async def main() -> None:
        service = Writer()
        service.go.set()
        engine = engine_of(service)
        await ask(engine, {"word": "a", "letters": 3}, {"word": "b", "letters": 2})
        assert service.log == ["a", "a", "a", "b", "b"]
        await engine.stop()

    asyncio.run(main())


def test_what_is_abandoned_ends_after_the_step_that_it_is_in_and_frees_its_slot() -> None:
    async def main() -> None:
        service = Writer()
        engine = engine_of(service, slots=1)
        left = asyncio.ensure_future(ask(engine, {"word": "a", "letters": 1000}, {"word": "b", "letters": 1000}))
        await asyncio.to_thread(service.begun.wait, 60)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert service.closed == []  # the step still runs
        service.go.set()
        assert await ask(engine, {"word": "c", "letters": 2}) == ["cc"]
        await until(lambda: "a" in service.closed)
        assert service.log == ["a", "c", "c"]
        assert outcomes(engine) == {"abandoned": 2, "answered": 1}
        await engine.stop()

    asyncio.run(main())


def test_a_stream_that_is_closed_between_two_pieces_makes_no_more() -> None:
    async def main() -> None:
        service = Writer()
        service.go.set()
        engine = engine_of(service, slots=1)
        pieces = engine.stream({"word": "a", "letters": 1000})
        assert (await anext(pieces)).text == "a"  # type: ignore[attr-defined]
        await pieces.aclose()
        assert (service.log, service.closed) == (["a"], ["a"])
        assert await ask(engine, {"word": "b", "letters": 1}) == ["b"]
        await engine.stop()

    asyncio.run(main())


def test_one_that_waits_for_a_slot_can_leave() -> None:
    async def main() -> None:
        service = Writer()
        engine = engine_of(service, slots=1)
        first = asyncio.ensure_future(ask(engine, {"word": "a", "letters": 2}))
        await asyncio.to_thread(service.begun.wait, 60)
        waiting = asyncio.ensure_future(ask(engine, {"word": "b", "letters": 2}))
        await others_have_run()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        service.go.set()
        assert await first == ["aa"]
        assert service.log == ["a", "a"]
        await engine.stop()

    asyncio.run(main())


def test_a_timeout_frees_the_model_and_a_stalled_step_shows_in_the_status() -> None:
    async def main() -> None:
        service = Writer()
        engine = engine_of(service, timeout=0.1)
        assert engine.status() == "ready"
        while not service.begun.is_set():  # on a busy machine its time may be up before the first step
            with pytest.raises(RequestError) as late:
                await ask(engine, {"word": "a", "letters": 1000})
            assert late.value.status == 504
        await until(lambda: engine.status() == "stalled")
        service.go.set()
        await until(lambda: engine.status() == "ready")
        await until(lambda: service.closed == ["a"])
        assert service.log == ["a"]
        assert set(outcomes(engine)) == {"timeout"}
        await engine.stop()

    asyncio.run(main())


def test_the_tokens_of_a_request_are_bounded_together() -> None:
    async def main() -> None:
        service = Writer()
        service.go.set()
        engine = engine_of(service, max_tokens=10)
        assert await ask(engine, {"letters": 5}, {"letters": 5}) == ["toyto", "toyto"]
        for refused in (ask(engine, {"letters": 5}, {"letters": 6}), anext(engine.stream({"letters": 11}))):
            with pytest.raises(RequestError, match="ask for 11 tokens together; at most 10") as error:
                await refused
            assert (error.value.status, error.value.code) == (413, "too_many_tokens")
        assert service.log == ["t"] * 10
        await engine.stop()

    asyncio.run(main())


def test_a_stop_interrupts_what_is_left_and_what_comes_later() -> None:
    async def main() -> None:
        service = Writer()
        service.go.set()
        engine = engine_of(service)
        pieces = engine.stream({"word": "a", "letters": 1000})
        await anext(pieces)
        service.go.clear()
        service.begun.clear()
        joined = asyncio.ensure_future(ask(engine, {"word": "b", "letters": 1000}))
        await asyncio.to_thread(service.begun.wait, 60)
        engine.interrupt()
        for interrupted in (joined, anext(pieces), ask(engine, {"letters": 1})):
            with pytest.raises(RequestError) as error:
                await interrupted
            assert (error.value.status, error.value.code) == (503, "stopping")
        assert outcomes(engine) == {"stopped": 3}
        service.go.set()
        await engine.stop()

    asyncio.run(main())


def test_a_service_that_yields_nothing_is_an_error() -> None:
    class Silent(ToyWriter):
        example: ClassVar = {"letters": 1}

        def generate(self, item: Line) -> Iterator[Letters | None]:
            yield from ()

        def join(self, pieces: Sequence[Letters]) -> Letters:
            return pieces[0]

    async def main() -> None:
        engine = engine_of(Silent(None))  # type: ignore[arg-type]
        (entry,) = await ask(engine, {"letters": 1})
        assert entry["error"]["code"] == "internal"
        await engine.stop()

    asyncio.run(main())
