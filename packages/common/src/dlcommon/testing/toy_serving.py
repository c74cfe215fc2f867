"""A capstone small enough to test the server with: `python -m dlcommon.testing.toy_serving --model FILE`.

Its model's metadata say which of three services answers: `describer` (by default), `painter` or `writer`.
"""

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dlcommon.runtime.cli import guarded
from dlcommon.runtime.commands import serve
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.images import Base64Image, decode_image
from dlcommon.runtime.serving.media import PngBytes, encode_png
from dlcommon.runtime.serving.service import Answer, AnyService, BatchedService, GeneratingService, Item
from dlcommon.testing.held_steps import hold

ROWS = 10
"""Rows of the model's table; an item that asks for another makes the model itself fail."""
TITLE = LocalizedText("A toy", "玩具")
SUMMARY = LocalizedText("Adds a row of a table to four numbers.", "把表中的一行加到四个数上。")


class ToyItem(Item):
    """Four numbers, or an image whose mean colour and width become the four."""

    pixels: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    image: Base64Image | None = None
    row: Annotated[int, Field(ge=0, le=2**31)] = 0
    held: bool = Field(default=False, description="Whether the test holds the model's run up (see `held_steps`).")


class ToyAnswer(Answer):
    """The four numbers plus a row of the table."""

    scores: list[float]
    total: float


class ToyService(BatchedService[ToyItem, ToyAnswer]):
    item = ToyItem
    answer = ToyAnswer
    example: ClassVar = {"pixels": [0.0, 0.5, 1.0, 2.0], "row": 1}
    upload = "image"

    def prepare(self, item: ToyItem) -> dict[str, np.ndarray]:
        if (item.pixels is None) == (item.image is None):
            raise InvalidInputError("send either pixels or an image")
        if item.image is not None:
            image = decode_image(item.image, self.image_limits)
            values = [*(image.mean((0, 1)) / 255), float(image.shape[1])]
        else:
            values = list(item.pixels or [])
        return {
            "pixels": np.asarray(values, np.float32),
            "row": np.asarray(item.row, np.int64),
            "held": np.asarray(item.held),
        }

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = dict(arrays)
        if inputs.pop("held").any():
            hold(f"batch of {len(inputs['row'])}")
        return model(inputs)

    def answer_for(self, item: ToyItem, outputs: dict[str, np.ndarray]) -> ToyAnswer:
        return ToyAnswer(scores=outputs["scores"].tolist(), total=float(outputs["total"]))


class Painting(Answer):
    """The sums as the gray values of two by two pixels."""

    picture: PngBytes
    total: float


class ToyPainter(BatchedService[ToyItem, Painting]):
    """Answers with a picture."""

    item = ToyItem
    answer = Painting
    example: ClassVar = {"pixels": [0.0, 50.0, 100.0, 200.0]}
    upload = "image"

    def __init__(self, model: OnnxModel) -> None:
        super().__init__(model)
        self._toy = ToyService(model)

    def prepare(self, item: ToyItem) -> dict[str, np.ndarray]:
        return self._toy.prepare(item)

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return self._toy.run(model, arrays)

    def answer_for(self, item: ToyItem, outputs: dict[str, np.ndarray]) -> Painting:
        pixels = outputs["scores"].reshape(2, 2).clip(0, 255).astype(np.uint8)
        return Painting(picture=encode_png(pixels), total=float(outputs["total"]))


class Line(Item):
    """A line of letters to write."""

    letters: Annotated[int, Field(ge=1, le=10**6)] = 3
    word: Annotated[str, Field(min_length=1)] = "toy"
    quiet: bool = Field(default=False, description="Whether only the last step has a piece.")
    fails_after: int | None = Field(default=None, description="Letters after which the service fails.")
    held: str = Field(default="", description="Name under which the test holds each step up (see `held_steps`).")


class Letters(Answer):
    """What was written."""

    text: str


class ToyWriter(GeneratingService[Line, Letters]):
    """Writes a word's letters over and over, one a step."""

    item = Line
    answer = Letters
    example: ClassVar = {"letters": 3}

    def tokens(self, item: Line) -> int:
        return item.letters

    def generate(self, item: Line) -> Iterator[Letters | None]:
        if " " in item.word:
            raise InvalidInputError("the word must not hold spaces")
        text = ""
        for number in range(item.letters):
            if item.held:
                hold(item.held)
            if number == item.fails_after:
                raise RuntimeError("the writer's pencil broke")
            text += item.word[number % len(item.word)]
            if item.quiet and number + 1 < item.letters:
                yield None
            else:
                yield Letters(text=text)
                text = ""

    def join(self, pieces: Sequence[Letters]) -> Letters:
        return Letters(text="".join(piece.text for piece in pieces))


def build_describing_page(service: ToyService, predict: Any) -> Any:
    """Builds a page with a picture, a button and the answer."""
    import gradio as gr

    from dlcommon.runtime.serving.theme import page_frame

    async def describe(path: str | None) -> dict[str, Any]:
        if path is None:
            raise gr.Error("choose a picture first", print_exception=False)
        answer: ToyAnswer = await predict(ToyItem(image=Path(path).read_bytes()))
        return answer.model_dump()

    with page_frame(TITLE, SUMMARY, service.model) as page:
        picture = gr.Image(type="filepath", label="Picture")
        button = gr.Button("Describe", variant="primary")
        result = gr.JSON(label="Answer")
        button.click(describe, picture, result, api_name="describe")
    return page


def build_writing_page(service: ToyWriter, predict: Any) -> Any:
    """Builds a page that shows the letters as they come, until it is stopped."""
    import gradio as gr

    from dlcommon.runtime.serving.theme import page_frame

    async def write(name: str) -> AsyncIterator[str]:
        text = ""
        async for piece in predict.stream(Line(letters=1000, held=name)):
            text += piece.text
            yield text

    with page_frame(TITLE, SUMMARY, service.model) as page:
        name = gr.Textbox("page", label="Name of the steps")
        start, stop = gr.Button("Write"), gr.Button("Stop")
        text = gr.Textbox(label="Text")
        writing = start.click(write, name, text, api_name="write")
        stop.click(None, cancels=[writing])
    return page


SERVICES: dict[str, type[ToyService] | type[ToyPainter] | type[ToyWriter]] = {
    "describer": ToyService,
    "painter": ToyPainter,
    "writer": ToyWriter,
}


class ToyCapstone:
    """Has the attributes and methods of a capstone that the serve command uses."""

    name = "toy"
    title = TITLE
    summary = SUMMARY
    folder = Path("nowhere")

    def service(self, model: OnnxModel) -> AnyService:
        return SERVICES[model.metadata.get("service", "describer")](model)

    def page(self, service: Any, predict: Any) -> Any:
        builds = build_writing_page if isinstance(service, ToyWriter) else build_describing_page
        return builds(service, predict)


def write_toy_model(path: Path, **metadata: str) -> Path:
    """Writes scores [batch, 4] = pixels [batch, 4] + table [10, 4] at row [batch]; total [batch] is their sum."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "row"], ["picked"], axis=0),
            helper.make_node("Add", ["pixels", "picked"], ["scores"]),
            helper.make_node("ReduceSum", ["scores", "axis"], ["total"], keepdims=0),
        ],
        "toy",
        [
            helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("row", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch"]),
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.asarray([1], np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    known = {"capstone": "toy", "title": "A toy", "data": "toy-data", "metrics": '{"accuracy": 0.5}'}
    helper.set_model_props(model, {**known, "labels": '["a", "b"]', **metadata})
    onnx.save(model, path)
    return path


def main() -> int:

    capstone: Any = ToyCapstone()
    return guarded(lambda: serve.main(capstone, sys.argv[1:], open_browser=False))


if __name__ == "__main__":
    sys.exit(main())
