"""Base classes of services: a capstone's items and its answers.

A service subclasses one of these classes:

- `BatchedService` turns items into arrays and arrays into answers; items of many requests share a batch.
- `GeneratingService` answers each item by itself, piece by piece, with the model in its own hands: text generation,
  beam search, diffusion. A `BatchGeneratingService` is one that advances several items with one step of the model.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from dlcommon.runtime.serving.answer_files import answer_cells, answer_files
from dlcommon.runtime.serving.images import SUFFIXES, ImageLimits
from dlcommon.runtime.serving.item_fields import fields_by_name, first_text_field, value_from_text

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI

    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.serving.item_answers import ItemAnswers


class Item(BaseModel):
    """Refuses unknown fields, NaN and infinity: the base class of request items."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Answer(BaseModel):
    """Base class of answers. A picture is a field of type `PngBytes` (see `media`)."""

    model_config = ConfigDict(extra="forbid")


RequestItem = TypeVar("RequestItem", bound=BaseModel)
ResponseItem = TypeVar("ResponseItem", bound=BaseModel)
_Item = TypeVar("_Item", bound=BaseModel, contravariant=True)
_Answer = TypeVar("_Answer", bound=BaseModel, covariant=True)
_Answer_in = TypeVar("_Answer_in", bound=BaseModel, contravariant=True)


class PagePredict(Protocol[_Item, _Answer]):
    """Answers the handlers of a page; items take the same path as those of REST requests.

    Handlers are `async def` and await `predict(item)`, or iterate over `predict.stream(item)`. A picture component is a
    `picture_input`, whose file becomes the item's bytes, so that it is bounded and decoded like an uploaded one.
    """

    async def __call__(self, item: _Item) -> _Answer:
        """Returns the answer; a refusal is shown on the page."""
        ...

    def stream(self, item: _Item) -> AsyncIterator[_Answer]:
        """Yields the answer piece by piece, where the service generates."""
        ...


PageBuilder = Callable[[PagePredict[Any, Any]], "gr.Blocks"]
"""Builds a demo page whose handlers reach the model through what it is given."""


class JointFile(Protocol[_Item, _Answer_in]):
    """Takes the answers to the items of one file in order, such as a video's frames, and makes one file of them."""

    @property
    def path(self) -> Path:
        """Where the file is."""
        ...

    def write(self, item: _Item, answer: _Answer_in) -> None:
        """Adds an answer."""
        ...

    def close(self) -> None:
        """Ends the file."""
        ...


class Service(ABC, Generic[RequestItem, ResponseItem]):
    """Declares what both kinds of services have: the types of items and answers, an example, the models."""

    item: type[RequestItem]
    """One item of a request."""
    answer: type[ResponseItem]
    """The answer to one item."""
    example: ClassVar[Mapping[str, Any]]
    """An item, as JSON, for the documentation page and the server's self-test."""
    upload: ClassVar[str | None] = None
    """The item's bytes field that an uploaded file fills; None where the service takes no files."""
    suffixes: ClassVar[Sequence[str]] = SUFFIXES
    """Endings of the names of the files that `predict` looks for in folders, where the service takes files."""
    part: ClassVar[str | None] = None
    """What one of several items in a file is called, such as a frame; None where a file is always one item."""
    text: ClassVar[str | None] = None
    """The item's field that a line of a text file fills; None for the first that is a text, if no file is taken."""
    models: "Mapping[str, OnnxModel]" = MappingProxyType({})
    """All models by name, where items choose among several (see `available_models`)."""
    image_limits: ImageLimits = ImageLimits()
    """Set by the server from its options before the first item."""

    def __init__(self, model: "OnnxModel") -> None:
        self.model = model

    @property
    def text_field(self) -> str | None:
        """The item's field that a line of a text file fills; None where the service takes no text."""
        return self.text or (first_text_field(self.item) if self.upload is None else None)

    @property
    def row_columns(self) -> Sequence[str]:
        """The columns of a CSV file that `item_from_row` reads; none of them has to be there."""
        return list(fields_by_name(self.item))

    def item_from_row(self, cells: Mapping[str, str]) -> dict[str, Any]:
        """Turns a row of a CSV file, cells by column, into a raw item; empty cells and other columns are left out.

        Raises:
            InvalidInputError: a cell cannot be used; the message names its column.
        """
        fields = fields_by_name(self.item)
        given = {name: cell.strip() for name, cell in cells.items() if name in fields}
        return {name: value_from_text(fields[name], cell) for name, cell in given.items() if cell}

    def add_routes(self, app: "FastAPI", answers: "ItemAnswers") -> None:
        """Adds routes of its own to the server, such as those of another protocol; they come before the server's."""

    def parts(self, file: BinaryIO, head: bytes) -> Iterator[dict[str, Any]] | None:
        """Returns the raw items of a file that holds several, such as a video's frames; by default it is one item.

        Args:
            file: at its beginning; nothing of it may be read where it is one item.
            head: its first bytes, at most 64.

        Raises:
            InvalidInputError: between items; the file cannot be read further.
        """
        return None

    def joint_file(self, stem: Path) -> JointFile[RequestItem, ResponseItem] | None:
        """Returns what `predict --out FOLDER` writes the answers to a file's `parts` to; by default `files` of each.

        Args:
            stem: the file's path without an ending.
        """
        return None

    def cells(self, answer: ResponseItem) -> dict[str, Any]:
        """Returns an answer as the cells of a CSV row, by column; all answers have the same columns.

        By default all fields: a probability for each label, other lists and dicts as JSON, without pictures and grids.
        """
        return answer_cells(answer, self.model.labels)

    def files(self, item: RequestItem, answer: ResponseItem) -> dict[str, bytes]:
        """Returns what `predict --out FOLDER` writes for an item, by the ending that the files' names get.

        By default the answer's pictures, and what else has a media type.
        """
        return answer_files(answer)


class BatchedService(Service[RequestItem, ResponseItem]):
    """Turns items into arrays and arrays into answers; the server batches what lies between."""

    @abstractmethod
    def prepare(self, item: RequestItem) -> dict[str, np.ndarray]:
        """Returns the model's inputs for one item, without the batch axis; called from several threads.

        Raises:
            InvalidInputError: the item cannot be used; the message is shown to the client.
        """

    def run(self, model: "OnnxModel", arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the model on a batch of prepared items of equal shape."""
        return model(arrays)

    @abstractmethod
    def answer_for(self, item: RequestItem, outputs: dict[str, np.ndarray]) -> ResponseItem:
        """Returns the answer to one item from its outputs, without the batch axis."""


class GeneratingService(Service[RequestItem, ResponseItem]):
    """Answers each item by itself, piece by piece.

    The pieces are streamed at /v1/stream, and joined into one answer at /v1/predict. The server takes them one at a
    time and lets other generations have a turn in between, so one step should take milliseconds rather than seconds.
    A generation whose client has hung up, or whose time is up, is closed after the step that it is in.
    """

    @abstractmethod
    def generate(self, item: RequestItem) -> Iterator[ResponseItem | None]:
        """Yields the answer piece by piece, each holding what is new; None after a step that adds nothing yet.

        Steps of several items run at the same time in different threads, those of one item never do.

        Raises:
            InvalidInputError: before the first piece; the item cannot be used, and the client is told why.
        """

    @abstractmethod
    def join(self, pieces: Sequence[ResponseItem]) -> ResponseItem:
        """Returns the whole answer from all of its pieces, of which there is at least one."""

    @abstractmethod
    def tokens(self, item: RequestItem) -> int:
        """Returns how many tokens (or other steps of the model) the item may take; `--max-tokens` bounds their sum."""


@dataclass(frozen=True)
class Step:
    """Tells what one step of a generation has brought."""

    piece: Any = None
    """What is new of the answer; None where it adds nothing yet."""
    ended: bool = False
    """Whether it was the last; then there is a piece, unless there was one before."""


class BatchGeneratingService(GeneratingService[RequestItem, ResponseItem]):
    """Answers items piece by piece, where one step of the model advances many of them at once: language models.

    Items join and leave between two steps. What `generate` is for other services, `begin`, `advance` and `release` are
    here.
    """

    @abstractmethod
    def begin(self, item: RequestItem) -> Any:
        """Returns the generation of an item, which holds nothing yet that must be released; called from many threads.

        Raises:
            InvalidInputError: the item cannot be used, and the client is told why.
        """

    @abstractmethod
    def advance(self, generations: Sequence[Any]) -> Sequence[Step | Exception]:
        """Makes one step of each of these generations; an error in place of a step ends that one alone.

        It and `release` are called from one thread at a time. Where it raises, no generation has advanced.
        """

    @abstractmethod
    def release(self, generation: Any) -> None:
        """Frees what a generation holds, once it has ended or nobody waits for it any more."""

    def generate(self, item: RequestItem) -> Iterator[ResponseItem | None]:
        """Generates one answer with nothing beside it."""
        generation = self.begin(item)
        try:
            ended = False
            while not ended:
                (step,) = self.advance([generation])
                if isinstance(step, Exception):
                    raise step
                yield step.piece
                ended = step.ended
        finally:
            self.release(generation)


AnyService: TypeAlias = Service[Any, Any]
