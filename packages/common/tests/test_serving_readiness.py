"""What /readyz goes by: a server in which nothing moves is not ready, whatever stands still."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.serving.engine import Engine
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.metrics import Metrics
from dlcommon.runtime.serving.service import AnyService
from dlcommon.runtime.serving.settings import ServeConfig
from dlcommon.testing.toy_serving import Letters, Line, ToyAnswer, ToyItem, ToyService, ToyWriter

NO_MODEL: Any = None
NUMBERS, LINE = {"pixels": [0, 0, 0, 0]}, {"letters": 1}
OUTPUTS = {"scores": np.zeros((1, 4)), "total": np.zeros(1)}


class Held:
    """Stops whoever comes by until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go.wait(600)


def preparing(hold: Held) -> tuple[AnyService, dict[str, Any]]:
    class Service(ToyService):
        def prepare(self, item: ToyItem) -> dict[str, np.ndarray]:
            hold()
            return super().prepare(item)

        def run(self, model: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return OUTPUTS

    return Service(NO_MODEL), NUMBERS


def computing(hold: Held) -> tuple[AnyService, dict[str, Any]]:
    class Service(ToyService):
        def run(self, model: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            hold()
            return OUTPUTS

    return Service(NO_MODEL), NUMBERS


def answering(hold: Held) -> tuple[AnyService, dict[str, Any]]:
    class Service(ToyService):
        def run(self, model: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return OUTPUTS

        def answer_for(self, item: ToyItem, outputs: dict[str, np.ndarray]) -> ToyAnswer:
            hold()
            return super().answer_for(item, outputs)

    return Service(NO_MODEL), NUMBERS


def counting_tokens(hold: Held) -> tuple[AnyService, dict[str, Any]]:
    class Service(ToyWriter):
        def tokens(self, item: Line) -> int:
            hold()
            return 1

    return Service(NO_MODEL), LINE


def joining(hold: Held) -> tuple[AnyService, dict[str, Any]]:
    class Service(ToyWriter):
        def join(self, pieces: Sequence[Letters]) -> Letters:
            hold()
            return super().join(pieces)

    return Service(NO_MODEL), LINE


@pytest.mark.parametrize("build", [preparing, computing, answering, counting_tokens, joining])
def test_a_server_in_which_nothing_moves_is_not_ready(
    build: Callable[[Held], tuple[AnyService, dict[str, Any]]],
) -> None:
    async def main() -> None:
        hold = Held()
        service, item = build(hold)
        engine = Engine(service, NO_MODEL, ServeConfig(demo=False, timeout=0.1), Metrics())
        engine.start()
        assert engine.status() == "ready"
        while not hold.begun.is_set():  # on a busy machine its time may be up before it begins
            with pytest.raises(RequestError) as late:
                await engine.answers([item])
            assert late.value.status == 504
        await until(lambda: engine.status() == "stalled")
        hold.go.set()
        await until(lambda: engine.status() == "ready")
        await engine.stop()

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    asyncio.run(main())
