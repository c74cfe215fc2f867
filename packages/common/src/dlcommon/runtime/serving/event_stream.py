"""Server-sent events: an answer that comes piece by piece, such as a text as it is written."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from dlcommon.runtime.serving.errors import RequestError

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(StreamingResponse):
    """Sends pieces as they come, and closes their generator whatever ends the response.

    Args:
        first: the first piece, which is there before the status is sent.
        rest: the pieces after it.
        send_seconds: how long a client may take to read what was sent before it counts as gone.
        written: writes the pieces as events; by default `events` does.
    """

    def __init__(
        self,
        first: BaseModel,
        rest: AsyncGenerator[BaseModel, None],
        send_seconds: float,
        written: Callable[[BaseModel, AsyncGenerator[BaseModel, None]], AsyncGenerator[bytes, None]] | None = None,
    ) -> None:
        self._rest = rest
        self._send_seconds = send_seconds
        super().__init__((written or events)(first, rest), media_type="text/event-stream", headers=HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(self._send_seconds):
                    await send(message)
            except TimeoutError:  # without a limit, a client that does not read would hold its slot for ever
                raise ClientDisconnect from None

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            # A response that is cancelled while it sends leaves its generator suspended, and with it a slot taken.
            await self._rest.aclose()


async def events(first: BaseModel, rest: AsyncGenerator[BaseModel, None]) -> AsyncGenerator[bytes, None]:
    """Yields the pieces as `data:` events, then `event: end`; where one fails, `event: error` with the reason.

    The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html.
    """
    yield b"data: " + first.model_dump_json().encode() + b"\n\n"
    try:
        async for piece in rest:
            yield b"data: " + piece.model_dump_json().encode() + b"\n\n"
    except RequestError as error:
        yield b"event: error\ndata: " + error.body() + b"\n\n"
        return
    yield b"event: end\ndata: {}\n\n"
