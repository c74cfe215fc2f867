"""Generations that advance together: who joins, who leaves, who fails, who waits."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dlcommon.runtime.batch_inference.answers import Answered, Failed, answer_in_order, runner_for
from dlcommon.runtime.batch_inference.items import Entry
from dlcommon.runtime.batch_inference.sources import Source
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.app import create_app
from dlcommon.runtime.serving.batch_scheduler import BatchScheduler
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.generation_loop import AHEAD, GenerationLoop
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import Answer, BatchGeneratingService, Item, Step
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing.toy_serving import write_toy_model
from pydantic import Field


class Count(Item):
    name: str
    to: int = Field(ge=0, le=100_000)


class Number(Answer):
    text: str


@dataclass(eq=False)
class Counting:
    item: Count
    at: int = 0
    steps: int = 0


@dataclass
class Log:
    """Notes what the service was asked for."""

    together: list[list[str]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    """Steps wait for it."""


class Counter(BatchGeneratingService[Count, Number]):
    """Counts to a number; names that begin with 'bad' make a step of several fail, and their own."""

    item = Count
    answer = Number
    example: ClassVar = {"name": "x", "to": 2}

    def __init__(self, model: Any = None) -> None:
        self.model = model
        self.log = Log()
        self.log.held.set()

    def tokens(self, item: Count) -> int:
        return item.to

    def begin(self, item: Count) -> Counting:
        if item.name == "refused":
            raise InvalidInputError("no such name")
        return Counting(item)

    def advance(self, generations: Sequence[Counting]) -> list[Step | Exception]:
        assert self.log.held.wait(30)
        if any(one.item.name.startswith("bad") for one in generations):
            raise ValueError("a bad one")
        self.log.together.append([one.item.name for one in generations])
        for one in generations:
            one.at += 1
        return [Step(Number(text=f"{one.at} "), one.at >= one.item.to) for one in generations]

    def release(self, generation: Counting) -> None:
        self.log.released.append(generation.item.name)

    def join(self, pieces: Sequence[Number]) -> Number:
        return Number(text="".join(piece.text for piece in pieces))


def collected(loop: GenerationLoop, service: Counter, name: str, to: int) -> Future[str]:
    """Submits a generation whose pieces are taken at once."""
    done: Future[str] = Future()
    texts: list[str] = []

    def on_step(step: Step | Exception) -> None:
        if isinstance(step, Exception):
            done.set_exception(step)
            return
        texts.append(step.piece.text)
        if step.ended:
            done.set_result("".join(texts))

    loop.submit(service.begin(Count(name=name, to=to)), on_step, ahead=None)
    return done


def test_generations_join_and_leave_between_steps() -> None:
    service = Counter()
    service.log.held.clear()
    loop = GenerationLoop(service)
    futures = [collected(loop, service, "a", 3), collected(loop, service, "b", 2)]
    service.log.held.set()
    assert [future.result(30) for future in futures] == ["1 2 3 ", "1 2 "]
    # The thread may have begun with the first alone; then both advance together.
    assert ["a", "b"] in service.log.together
    assert service.log.released.count("a") == service.log.released.count("b") == 1
    assert collected(loop, service, "c", 1).result(30) == "1 "  # after it had nothing to do
    loop.stop()


def test_only_the_bad_one_of_a_step_fails() -> None:
    service = Counter()
    service.log.held.clear()
    loop = GenerationLoop(service)
    good, bad = collected(loop, service, "a", 3), collected(loop, service, "bad", 3)
    service.log.held.set()
    with pytest.raises(ValueError, match="a bad one"):
        bad.result(30)
    assert good.result(30) == "1 2 3 "
    assert sorted(service.log.released) == ["a", "bad"]
    loop.stop()


def test_one_from_which_nobody_takes_pauses_and_goes_on_when_one_does() -> None:
    service, steps = Counter(), []
    loop = GenerationLoop(service)
    enough, ended = threading.Event(), threading.Event()

    def on_step(step: Step | Exception) -> None:
        steps.append(step)
        if len(steps) == AHEAD:
            enough.set()
        if isinstance(step, Step) and step.ended:
            ended.set()

    ticket = loop.submit(service.begin(Count(name="a", to=AHEAD + 2)), on_step)
    assert enough.wait(30)
    assert collected(loop, service, "b", 20).result(30)  # others go on
    assert len(steps) == AHEAD
    ticket.taken()
    ticket.taken()
    assert ended.wait(30)
    loop.stop()


def test_a_stop_ends_what_is_under_way() -> None:
    service = Counter()
    service.log.held.clear()
    loop = GenerationLoop(service)
    collected(loop, service, "a", 100_000)
    loop.stop()
    service.log.held.set()
    loop._executor.shutdown(wait=True)
    assert service.log.released == ["a"]
    assert len(service.log.together) <= 1
    with pytest.raises(RuntimeError, match="stopped"):
        collected(loop, service, "b", 1)


def test_whoever_leaves_the_stream_ends_the_generation() -> None:
    async def leave() -> Counter:
        service, pool = Counter(), ThreadPoolExecutor(1)
        scheduler = BatchScheduler(service, 2, Metrics(), pool)
        async with aclosing(scheduler.steps(Count(name="long", to=100_000))) as steps:
            async for piece in steps:
                assert isinstance(piece, Number)
                break
        other = [piece async for piece in scheduler.steps(Count(name="short", to=3))]
        assert len(other) == 3
        scheduler.stop()
        return service

    service = asyncio.run(leave())
    assert "long" in service.log.released
    assert sum("long" in names for names in service.log.together) <= AHEAD + 3


def test_the_server_answers_with_it_and_refuses_what_is_too_much(tmp_path: Path) -> None:
    model = OnnxModel(write_toy_model(tmp_path / "toy.onnx"))
    service = Counter(model)
    app = create_app(service, model, ServeConfig(slots=2, queue=3, max_tokens=200_000, demo=False))
    engine = app.state.engine
    service.log.released.clear()

    async def ask() -> None:
        (answer,) = await engine.answers([{"name": "a", "to": 3}])
        assert answer == Number(text="1 2 3 ")
        (refused,) = await engine.answers([{"name": "refused", "to": 3}])
        assert isinstance(refused, RequestError)
        assert (refused.status, refused.message) == (422, "no such name")
        service.log.held.clear()
        waiting = [asyncio.create_task(engine.answers([{"name": f"w{i}", "to": 1}])) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as overloaded:
            await engine.answers([{"name": "late", "to": 1}])
        assert (overloaded.value.status, overloaded.value.headers) == (503, {"Retry-After": "1"})
        waiting[2].cancel()
        service.log.held.set()
        assert all(await asyncio.gather(*waiting[:2]))
        await engine.stop()

    asyncio.run(ask())
    assert "w2" not in {name for names in service.log.together for name in names}
    assert sorted(service.log.released) == ["a", "w0", "w1"]


def test_predict_answers_many_together_and_in_order() -> None:
    service = Counter()
    source = Source(Path("items.jsonl"), "jsonl", None)
    raws = [{"name": f"n{i}", "to": 5 - i % 4} for i in range(12)] + [{"name": "refused", "to": 1}, {"to": 1}]
    entries = [Entry(source, number, raw) for number, raw in enumerate(raws)]
    outcomes = [outcome for _, outcome in answer_in_order(entries, runner_for(service, 4))]
    answers: list[Any] = [one.answer for one in outcomes if isinstance(one, Answered)]
    assert [len(one.text.split()) for one in answers] == [5, 4, 3, 2] * 3
    assert [isinstance(one, Failed) for one in outcomes] == [False] * 12 + [True, True]
    assert max(map(len, service.log.together)) == 4
