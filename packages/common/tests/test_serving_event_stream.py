"""Streams whose client does not read, or leaves in the middle of an event."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from dlcommon.runtime.serving.event_stream import EventStream
from dlcommon.testing.toy_serving import Letters
from starlette.requests import ClientDisconnect
from starlette.types import Message

SCOPE: dict[str, Any] = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Pieces:
    """Pieces without end, and whether their generator was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def generate(self) -> AsyncGenerator[Letters, None]:
        try:
            while True:
                yield Letters(text="a")
        finally:
            self.closed = True


def stream(pieces: Pieces, send_seconds: float) -> EventStream:
    return EventStream(Letters(text="first"), pieces.generate(), send_seconds)


def test_a_client_that_does_not_read_is_dropped() -> None:
    pieces, sent = Pieces(), []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 4:
            await asyncio.Event().wait()  # the transport's buffer is full

    async def main() -> None:
        with pytest.raises(ClientDisconnect):
            await stream(pieces, 0.01)(SCOPE, receive, send)
        assert pieces.closed

    asyncio.run(main())
    assert len(sent) == 4


def test_a_client_that_leaves_while_it_is_sent_an_event_closes_the_generator() -> None:
    pieces = Pieces()

    async def main() -> None:
        sending = asyncio.Event()
        sent: list[Message] = []

        async def receive() -> Message:
            await sending.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)
            if len(sent) == 4:
                sending.set()
                await asyncio.Event().wait()

        await stream(pieces, 60)(SCOPE, receive, send)
        assert pieces.closed

    asyncio.run(main())
