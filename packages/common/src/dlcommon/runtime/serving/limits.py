"""Bounds the size of request bodies while they stream in."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import Message, Receive

from dlcommon.runtime.serving.errors import RequestError, overloaded

BODIES_AT_ONCE = 16
"""All bodies in memory together may be as large as this many of the largest size."""


@dataclass
class BodyBudget:
    """Bounds the bytes of one body, and of all bodies that are in memory together."""

    max_bytes: int
    seconds: float
    """Time for one body to arrive."""
    held: int = field(default=0, init=False)

    def too_large(self) -> RequestError:
        return RequestError(413, "too_large", f"the request is larger than {self.max_bytes / 2**20:g} MiB")

    def check_announced(self, content_length: bytes | None) -> None:
        """Refuses a body by its announced length, before any of it is read."""
        if content_length is not None and content_length.isdigit() and int(content_length[:20]) > self.max_bytes:
            raise self.too_large()

    @contextmanager
    def reader(self, receive: Receive) -> "Iterator[BodyReader]":
        reader = BodyReader(self, receive)
        try:
            yield reader
        finally:
            self.held -= reader.size


class BodyReader:
    """Wraps `receive`: raises `RequestError` where the body is too large or too slow."""

    def __init__(self, budget: BodyBudget, receive: Receive) -> None:
        self._budget = budget
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
            self._budget.held += length
            if self.size > self._budget.max_bytes:
                raise self._budget.too_large()
            if self._budget.held > BODIES_AT_ONCE * self._budget.max_bytes:
                raise overloaded()
            self._whole = not received.get("more_body", False)
        return received
