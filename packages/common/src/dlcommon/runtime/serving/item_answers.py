"""What routes that a service adds can ask of the server: the engine, as a service sees it."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.errors import RequestError
from dlcommon.runtime.serving.settings import ServeConfig

Result = TypeVar("Result")


class ItemAnswers(Protocol):
    """Answers items within the server's bounds of queue and time; see `dlcommon.runtime.serving.engine.Engine`."""

    model: OnnxModel
    settings: ServeConfig

    async def in_pool(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Runs a slow function on the pool's threads, without blocking the event loop."""
        ...

    async def answers(self, raw: Sequence[Any]) -> list[BaseModel | RequestError]:
        """Returns each item's answer, or why it has none; raises `RequestError` where the request fails as a whole."""
        ...

    def stream(self, raw: Any) -> AsyncGenerator[BaseModel, None]:
        """Yields one item's answer, piece by piece; raises `RequestError` where it is refused or comes too late."""
        ...
