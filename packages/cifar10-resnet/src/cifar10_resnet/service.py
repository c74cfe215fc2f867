"""What the server answers about a picture."""

import base64
import io
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from cifar10_resnet.capstone import CAPSTONE
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.images import Base64Image, decode_image
from dlcommon.runtime.serving.service import Answer, Item, Service

if TYPE_CHECKING:
    import gradio as gr

SIDE = 32
"""Pixels of the network's input."""


class Picture(Item):
    """A picture of anything; what matters is best in the middle."""

    image: Base64Image


class Guess(Answer):
    """One class and how sure the network is of it."""

    label: str
    probability: float


class Classification(Answer):
    """The five likeliest classes, and where in the picture the first of them was seen."""

    top: list[Guess]
    activation_map: list[list[float]] = Field(
        description="Evidence for the first class by place (rows from the top), scaled to 0 … 1; "
        "empty for a network that has no such map."
    )


def middle_square(picture: np.ndarray) -> np.ndarray:
    """The largest square in the middle of [height, width, 3]."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def network_input(content: bytes, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """The picture as the network sees it: its middle square, uint8 [32, 32, 3]."""
    square = Image.fromarray(middle_square(decode(content)))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=3.0))


def example_picture() -> bytes:
    """A small drawing of a ship at sea, as PNG."""
    image = Image.new("RGB", (96, 96), (150, 200, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 62, 96, 96), fill=(20, 70, 130))
    draw.polygon([(10, 56), (86, 56), (72, 72), (24, 72)], fill=(90, 40, 30))
    draw.rectangle((34, 40, 62, 56), fill=(235, 235, 235))
    draw.rectangle((44, 22, 52, 40), fill=(200, 60, 40))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class PictureService(Service[Picture, Classification]):
    item = Picture
    answer = Classification
    example: ClassVar = {"image": base64.b64encode(example_picture()).decode()}
    upload = "image"

    def __init__(self, model: OnnxModel) -> None:
        self.model = model

    def prepare(self, item: Picture) -> dict[str, np.ndarray]:
        return {"images": network_input(item.image, lambda content: decode_image(content, self.image_limits))}

    def answer_for(self, item: Picture, outputs: dict[str, np.ndarray]) -> Classification:
        probabilities, maps = outputs["probabilities"], outputs["activation_maps"]
        order = np.argsort(-probabilities)[:5]
        top = [Guess(label=self.model.labels[i], probability=float(probabilities[i])) for i in order]
        evidence = maps[order[0]]
        if evidence.size:
            low, high = evidence.min(), evidence.max()
            evidence = (evidence - low) / (high - low if high > low else 1.0)
        return Classification(top=top, activation_map=np.round(evidence, 4).tolist())

    def page(self, predict: Callable[[Picture], Awaitable[Classification]]) -> "gr.Blocks":
        from cifar10_resnet.demo import build_page

        return build_page(CAPSTONE.title, CAPSTONE.summary, self, predict)
