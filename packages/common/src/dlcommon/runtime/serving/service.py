"""What a capstone says about how it is served: its items, its answers and its page."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from dlcommon.runtime.serving.images import ImageLimits

if TYPE_CHECKING:
    import gradio as gr

    from dlcommon.runtime.onnx_model import OnnxModel


class Item(BaseModel):
    """Base of request items: unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="forbid")


RequestItem = TypeVar("RequestItem", bound=BaseModel)
ResponseItem = TypeVar("ResponseItem", bound=BaseModel)
_Asked = TypeVar("_Asked", bound=BaseModel, contravariant=True)
_Answered = TypeVar("_Answered", bound=BaseModel, covariant=True)


class PagePredict(Protocol[_Asked, _Answered]):
    """How a page's handlers reach the model."""

    async def __call__(self, item: _Asked) -> _Answered:
        """The answer; a refusal is shown on the page."""
        ...

    def stream(self, item: _Asked) -> AsyncIterator[_Answered]:
        """The answer piece by piece, where the service streams."""
        ...


class Service(ABC, Generic[RequestItem, ResponseItem]):
    """Turns items into arrays and arrays into answers; everything around that is the server's."""

    item: type[RequestItem]
    """One item of a request."""
    answer: type[ResponseItem]
    """The answer to one item."""
    example: ClassVar[Mapping[str, Any]]
    """An item, as JSON, for the documentation page and the server's self-test."""
    streams: ClassVar[bool] = False
    """Whether `stream` is offered as well, at /v1/stream."""
    upload: ClassVar[str | None] = None
    """The item's bytes field that an uploaded file fills; None where files make no sense."""
    models: "Mapping[str, OnnxModel]" = MappingProxyType({})
    """Where it answers with several: all of them by the name that its items choose one by (see `available_models`)."""
    image_limits: ImageLimits = ImageLimits()
    """Set by the server from its options before the first item."""

    @abstractmethod
    def prepare(self, item: RequestItem) -> dict[str, np.ndarray]:
        """The model's inputs for one item, without the batch axis; called from several threads.

        Raises:
            InvalidInputError: the item cannot be used; the message is shown to the client.
        """

    def run(self, model: "OnnxModel", arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model on a batch of prepared items of equal shape; a decoder overrides it with its loop."""
        return model(arrays)

    def stream(self, item: RequestItem) -> Iterator[ResponseItem]:
        """The answer piece by piece, each an answer to what is new in it; iterated on a thread of its own.

        Raises:
            InvalidInputError: before the first piece: the item cannot be used.
        """
        raise NotImplementedError

    @abstractmethod
    def answer_for(self, item: RequestItem, outputs: dict[str, np.ndarray]) -> ResponseItem:
        """The answer to one item from the outputs of that item, without the batch axis."""

    @abstractmethod
    def page(self, predict: "PagePredict[RequestItem, ResponseItem]") -> "gr.Blocks":
        """The demo. Its handlers are `async def` and await `predict(item)`, which goes the way of REST requests, or
        iterate `predict.stream(item)`.

        A picture component is a `gr.Image(type="filepath")`, whose file becomes the item's bytes, so that
        it is bounded and decoded like an uploaded one.
        """
