"""Answers items in order with a service, in batches, without a server: reading, preparing and computing overlap."""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from dlcommon.runtime.batch_inference.items import Entry
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.hardware import available_cores
from dlcommon.runtime.serving.batch import Outputs, Prepared, prepare_item, run_batch, stacking_key
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.generation_loop import GenerationLoop
from dlcommon.runtime.serving.service import (
    AnyService,
    BatchedService,
    BatchGeneratingService,
    GeneratingService,
    Step,
)
from dlcommon.runtime.serving.validation import validate_item

Element = TypeVar("Element")


def in_groups(elements: Iterable[Element], size: int) -> Iterator[list[Element]]:
    """Yields lists of `size` elements, the last of which may be shorter."""
    iterator = iter(elements)
    while group := list(islice(iterator, size)):
        yield group


@dataclass(frozen=True)
class Answered:
    """An item with its answer."""

    item: BaseModel
    answer: BaseModel


@dataclass(frozen=True)
class Failed:
    """Why an item has no answer."""

    reason: str


Outcome: TypeAlias = Answered | Failed | None
"""None for a blank line."""


def explained(error: Exception) -> Failed:
    """Says why an item has no answer."""
    known = isinstance(error, RequestError | InvalidInputError)
    return Failed(str(error) if known else f"the model fails on it ({type(error).__name__}: {error})")


class Runner(Protocol):
    """Computes the answers of several items at a time."""

    @property
    def items(self) -> int:
        """How many items it is given at once."""
        ...

    @property
    def ahead(self) -> int:
        """How many groups of items may be under way."""
        ...

    def submit(self, raws: Sequence[Any]) -> "Future[list[Outcome]]":
        """Starts to compute the answers."""
        ...

    def stop(self) -> None:
        """Drops what has not begun."""
        ...


class BatchRunner:
    """Prepares items on several threads, and runs them in batches on one."""

    ahead = 2

    def __init__(self, service: BatchedService[Any, Any], batch_size: int) -> None:
        self._service, self._batch_size = service, batch_size
        # Pictures are large. Of texts several batches are read at once, so that those of one length can be stacked.
        self.items = batch_size if service.upload is not None else 8 * batch_size
        self._preparing = ThreadPoolExecutor(available_cores(), thread_name_prefix="prepare")
        self._model = ThreadPoolExecutor(1, thread_name_prefix="model")

    def submit(self, raws: Sequence[Any]) -> "Future[list[Outcome]]":
        prepared = [self._preparing.submit(self._prepare, raw) for raw in raws]
        return self._model.submit(self._answers, prepared)

    def stop(self) -> None:
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self._model.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, raw: Any) -> Prepared | Failed:
        try:
            return prepare_item(self._service, raw)
        except Exception as error:
            return explained(error)

    def _answers(self, futures: "Sequence[Future[Prepared | Failed]]") -> list[Outcome]:
        outcomes: list[Outcome] = []
        stackable: dict[Any, list[tuple[int, Prepared]]] = {}
        for place, future in enumerate(futures):
            prepared = future.result()
            outcomes.append(prepared if isinstance(prepared, Failed) else None)
            if not isinstance(prepared, Failed):
                stackable.setdefault(stacking_key(prepared[1]), []).append((place, prepared))
        for group in stackable.values():
            for batch in in_groups(group, self._batch_size):
                for place, outcome in zip([p for p, _ in batch], self._run([one for _, one in batch]), strict=True):
                    outcomes[place] = outcome
        return outcomes

    def _run(self, batch: Sequence[Prepared]) -> list[Outcome]:
        """Runs one batch; one that fails is run again item by item, so that only the bad one fails."""
        try:
            arrays = [one for _, one in batch]
            outputs = run_batch(lambda stacked: self._service.run(self._service.model, dict(stacked)), arrays)
        except Exception as error:
            return [explained(error)] if len(batch) == 1 else [self._run([one])[0] for one in batch]
        return [self._answer(item, one) for (item, _), one in zip(batch, outputs, strict=True)]

    def _answer(self, item: BaseModel, outputs: Outputs) -> Outcome:
        try:
            return Answered(item, self._service.answer_for(item, outputs))
        except Exception as error:
            return explained(error)


class GenerationRunner:
    """Generates the answers of several items at once, each on a thread."""

    items = 1

    def __init__(self, service: GeneratingService[Any, Any]) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(available_cores(), thread_name_prefix="model")
        self._stopped = threading.Event()
        self.ahead = 2 * available_cores()

    def submit(self, raws: Sequence[Any]) -> "Future[list[Outcome]]":
        return self._threads.submit(lambda: [self._answer(raw) for raw in raws])

    def stop(self) -> None:
        self._stopped.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answer(self, raw: Any) -> Outcome:
        try:
            item = validate_item(self._service, raw)
            pieces = []
            for piece in self._service.generate(item):
                if self._stopped.is_set():
                    break
                if piece is not None:
                    pieces.append(piece)
            return Answered(item, self._service.join(pieces))
        except Exception as error:
            return explained(error)


class BatchGenerationRunner:
    """Generates the answers of several items together, one step of the model for all; a new one joins for each ended.

    Args:
        size: how many are generated together.
    """

    items = 1

    def __init__(self, service: BatchGeneratingService[Any, Any], size: int) -> None:
        self._service = service
        self._loop = GenerationLoop(service)
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._free = threading.Semaphore(size)
        self._stopped = threading.Event()
        self.ahead = 2 * size

    def submit(self, raws: Sequence[Any]) -> "Future[list[Outcome]]":
        outcome: Future[list[Outcome]] = Future()
        self._preparing.submit(self._start, raws, outcome)
        return outcome

    def stop(self) -> None:
        self._stopped.set()
        self._free.release()
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self._loop.stop()

    def _start(self, raws: Sequence[Any], outcome: "Future[list[Outcome]]") -> None:
        if not raws:  # a blank line
            outcome.set_result([])
            return
        try:
            item = validate_item(self._service, raws[0])
            generation = self._service.begin(item)
        except Exception as error:
            outcome.set_result([explained(error)])
            return
        self._free.acquire()
        if self._stopped.is_set():
            return
        pieces: list[BaseModel] = []

        def on_step(step: Step | Exception) -> None:
            if isinstance(step, Step) and step.piece is not None:
                pieces.append(step.piece)
            if isinstance(step, Step) and not step.ended:
                return
            self._free.release()
            outcome.set_result([self._joined(item, pieces) if isinstance(step, Step) else explained(step)])

        self._loop.submit(generation, on_step, ahead=None)

    def _joined(self, item: BaseModel, pieces: list[BaseModel]) -> Outcome:
        try:
            return Answered(item, self._service.join(pieces))
        except Exception as error:
            return explained(error)


def runner_for(service: AnyService, batch_size: int) -> Runner:
    """Chooses the runner for a service's kind."""
    if isinstance(service, BatchGeneratingService):
        return BatchGenerationRunner(service, batch_size)
    if isinstance(service, GeneratingService):
        return GenerationRunner(service)
    assert isinstance(service, BatchedService)
    return BatchRunner(service, batch_size)


def answer_in_order(entries: Iterable[Entry], runner: Runner) -> Generator[tuple[Entry, Outcome], None, None]:
    """Yields each entry with its outcome, in order; reads no more of them than are under way."""
    waiting: deque[tuple[list[Entry], Future[list[Outcome]]]] = deque()
    try:
        for group in in_groups(entries, runner.items):
            waiting.append((group, runner.submit([one.raw for one in group if isinstance(one.raw, dict)])))
            while waiting and (len(waiting) > runner.ahead or waiting[0][1].done()):
                yield from _outcomes(*waiting.popleft())
        while waiting:
            yield from _outcomes(*waiting.popleft())
    finally:
        runner.stop()


def _outcomes(group: Sequence[Entry], future: "Future[list[Outcome]]") -> Iterator[tuple[Entry, Outcome]]:
    computed = iter(future.result())
    for entry in group:
        if isinstance(entry.raw, InvalidInputError):
            yield entry, Failed(str(entry.raw))
        else:
            yield entry, None if entry.raw is None else next(computed)
