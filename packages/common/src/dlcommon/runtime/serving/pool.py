"""Threads beside the event loop, for what takes longer than a moment."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Pool:
    """Runs functions on a few threads; a call that is cancelled before it has begun never runs."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(
        self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result:
        """Waits for the result."""
        return await asyncio.wrap_future(self._executor.submit(function, *arguments, **named))

    def stop(self) -> None:
        """Drops what has not begun; what runs goes on, and nobody waits for it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
