"""Bounds on how long requests wait."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from dlcommon.runtime.serving.errors import stopping, timed_out


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
