"""Answers that come piece by piece, such as a text as it is written."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel

from dlcommon.runtime.serving.errors import RequestError, explain, timed_out

END = object()
"""Marks the last piece."""


class StreamWorkers:
    """Threads that make streams: each works on one, the others wait their turn."""

    def __init__(self, threads: int, timeout: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="stream")
        self._timeout = timeout

    async def pieces(self, make: Iterator[BaseModel]) -> AsyncGenerator[BaseModel, None]:
        """What the iterator makes, as it is made; whoever stops listening stops the making.

        Raises:
            RequestError: the iterator failed, or made nothing for `timeout` seconds.
        """
        loop, made, left = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

        def put(piece: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(made.put_nowait, piece)

        def work() -> None:
            try:
                for piece in make:
                    if left.is_set():
                        return
                    put(piece)
                put(END)
            except Exception as error:
                put(error)

        future = self._pool.submit(work)
        try:
            while (piece := await self._next(made)) is not END:
                if isinstance(piece, Exception):
                    raise explain(piece)
                yield piece
        finally:
            left.set()
            future.cancel()

    async def _next(self, made: "asyncio.Queue[Any]") -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await made.get()
        except TimeoutError:
            raise timed_out(self._timeout) from None

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def server_sent_events(first: BaseModel, rest: AsyncIterator[BaseModel]) -> AsyncGenerator[bytes, None]:
    """The pieces as `data:` events, then `event: end`; where one fails, `event: error` with the reason.

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
