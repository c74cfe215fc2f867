"""A capstone small enough to test the server with: `python -m dlcommon.testing.toy_serving --model FILE`."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.serving.images import Base64Image, decode_image
from dlcommon.runtime.serving.service import Answer, Item, Service

ROWS = 10
"""Rows of the model's table; an item that asks for another makes the model itself fail."""
DELAY = "TOY_MODEL_SECONDS"
"""Variable that makes each run of the model take that long."""


class ToyItem(Item):
    """Four numbers, or an image whose mean colour and width become the four."""

    pixels: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None
    image: Base64Image | None = None
    row: Annotated[int, Field(ge=0, le=2**31)] = 0


class ToyAnswer(Answer):
    """The four numbers plus a row of the table."""

    scores: list[float]
    total: float


class ToyService(Service[ToyItem, ToyAnswer]):
    item = ToyItem
    answer = ToyAnswer
    example: ClassVar = {"pixels": [0.0, 0.5, 1.0, 2.0], "row": 1}
    upload = "image"
    streams = True

    def __init__(self, model: Any) -> None:
        self.model = model
        self.delay = float(os.environ.get(DELAY, "0"))

    def prepare(self, item: ToyItem) -> dict[str, np.ndarray]:
        if (item.pixels is None) == (item.image is None):
            raise InvalidInputError("send either pixels or an image")
        if item.image is not None:
            image = decode_image(item.image, self.image_limits)
            values = [*(image.mean((0, 1)) / 255), float(image.shape[1])]
        else:
            values = list(item.pixels or [])
        return {"pixels": np.asarray(values, np.float32), "row": np.asarray(item.row, np.int64)}

    def run(self, model: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(self.delay)
        return model(arrays)

    def stream(self, item: ToyItem) -> Iterator[ToyAnswer]:
        """One score at a time, each with the sum so far; after them comes row + 1's, which the last row lacks."""
        row = self.prepare(item)
        batch = {name: array[None] for name, array in row.items()}
        outputs = self.run(self.model, batch)
        total = 0.0
        for score in outputs["scores"][0].tolist():
            time.sleep(self.delay)
            total += score
            yield ToyAnswer(scores=[score], total=total)
        self.run(self.model, batch | {"row": batch["row"] + 1})

    def answer_for(self, item: ToyItem, outputs: dict[str, np.ndarray]) -> ToyAnswer:
        return ToyAnswer(scores=outputs["scores"].tolist(), total=float(outputs["total"]))

    def page(self, predict: Any) -> Any:
        import gradio as gr

        from dlcommon.runtime.serving.theme import page_frame

        async def describe(path: str | None) -> dict[str, Any]:
            if path is None:
                raise gr.Error("choose a picture first", print_exception=False)
            return (await predict(ToyItem(image=Path(path).read_bytes()))).model_dump()

        title, summary = ToyCapstone.title, ToyCapstone.summary
        with page_frame(title, summary, self.model) as page:
            picture = gr.Image(type="filepath", label="Picture")
            button = gr.Button("Describe", variant="primary")
            result = gr.JSON(label="Answer")
            button.click(describe, picture, result, api_name="describe")
        return page


class ToyCapstone:
    """What the serve command needs of a capstone."""

    name = "toy"
    title = LocalizedText("A toy", "玩具")
    summary = LocalizedText("Adds a row of a table to four numbers.", "把表中的一行加到四个数上。")
    folder = Path("nowhere")

    def service(self, model: Any) -> ToyService:
        return ToyService(model)


def write_toy_model(path: Path, **metadata: str) -> Path:
    """scores [batch, 4] = pixels [batch, 4] + table [10, 4] at row [batch]; total [batch] is their sum."""
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
    from dlcommon.runtime.cli import guarded
    from dlcommon.runtime.commands import serve

    capstone: Any = ToyCapstone()
    return guarded(lambda: serve.main(capstone, sys.argv[1:], open_browser=False))


if __name__ == "__main__":
    sys.exit(main())
