"""Bounds on what is accepted: the bytes of request bodies, items at once, and how long requests wait."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from starlette.types import Message, Receive

from dlcommon.runtime.serving.errors import RequestError, overloaded, stopping, timed_out
from dlcommon.runtime.serving.metrics import Metrics

BODIES_AT_ONCE = 16
"""All bodies in memory together may be as large as this many of the largest size, those of one client as half of it."""


@dataclass
class BodyBudget:
    """Bounds the bytes of one body, and of all bodies that are in memory together."""

    max_bytes: int
    seconds: float
    """Time for one body to arrive."""
    held: Counter[str] = field(default_factory=Counter, init=False)
    """Bytes in memory, by client."""

    def too_large(self) -> RequestError:
        return RequestError(413, "too_large", f"the request is larger than {self.max_bytes / 2**20:g} MiB")

    def check_announced(self, content_length: bytes | None) -> None:
        """Refuses a body by its announced length, before any of it is read."""
        if content_length is not None and content_length.isdigit() and int(content_length[:20]) > self.max_bytes:
            raise self.too_large()

    @contextmanager
    def reader(self, receive: Receive, client: str) -> "Iterator[BodyReader]":
        reader = BodyReader(self, receive, client)
        try:
            yield reader
        finally:
            self.held[client] -= reader.size
            if not self.held[client]:
                del self.held[client]

    def hold(self, client: str, length: int) -> None:
        """Counts bytes that have arrived.

        Raises:
            RequestError: 503, this client's bodies or all bodies would take too much memory.
        """
        self.held[client] += length
        most = BODIES_AT_ONCE * self.max_bytes
        if self.held[client] > most // 2 or self.held.total() > most:
            raise overloaded()


class BodyReader:
    """Wraps `receive`: raises `RequestError` where the body is too large or too slow."""

    def __init__(self, budget: BodyBudget, receive: Receive, client: str) -> None:
        self._budget = budget
        self._client = client
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + budget.seconds
        self._whole = False
        self.size = 0

    async def __call__(self) -> Message:
        """Returns the next message.

        Raises:
            RequestError: 413, 408, or 503 where all bodies together would take too much memory.
        """
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                received = await self._receive()
        except TimeoutError:
            message = f"the request did not arrive within {self._budget.seconds:g} s"
            raise RequestError(408, "too_slow", message) from None
        if received["type"] == "http.request":
            length = len(received.get("body", b""))
            self.size += length
            self._budget.hold(self._client, length)
            if self.size > self._budget.max_bytes:
                raise self._budget.too_large()
            self._whole = not received.get("more_body", False)
        return received


class Admission:
    """Counts items from acceptance to answer, and refuses more than its capacity; used from one event loop."""

    def __init__(self, capacity: int, metrics: Metrics) -> None:
        self._capacity = capacity
        self._metrics = metrics
        self._admitted = 0

    @property
    def is_full(self) -> bool:
        return self._admitted >= self._capacity

    @contextmanager
    def admit(self, items: int) -> Iterator[None]:
        """Holds places for the items of one request until it is answered or abandoned.

        Raises:
            RequestError: 503, there are not that many places.
        """
        if self._admitted + items > self._capacity:
            raise overloaded()
        self._count(items)
        try:
            yield
        finally:
            self._count(-items)

    def _count(self, items: int) -> None:
        self._admitted += items
        self._metrics.in_flight.set(self._admitted)


class Deadlines:
    """Gives every wait a deadline, and ends all of them at once where the server has to stop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._open: set[asyncio.Timeout] = set()
        self._expired_early = False

    @asynccontextmanager
    async def limit(self) -> AsyncGenerator[None, None]:
        """Cancels the block when its time is up.

        Raises:
            RequestError: 504 after `seconds`; 503 once `expire_all` was called.
        """
        deadline = asyncio.timeout(0 if self._expired_early else self._seconds)
        try:
            async with deadline:
                self._open.add(deadline)
                try:
                    yield
                finally:
                    self._open.discard(deadline)
        except TimeoutError:
            if not deadline.expired():  # the block's own, such as one that the model raised
                raise
            raise (stopping() if self._expired_early else timed_out(self._seconds)) from None

    def expire_all(self) -> None:
        """Ends the waits that are open, and those that begin later, with 503 `stopping`."""
        self._expired_early = True
        for deadline in self._open:
            if deadline.expired():  # its time is up already
                continue
            deadline.reschedule(asyncio.get_running_loop().time())
