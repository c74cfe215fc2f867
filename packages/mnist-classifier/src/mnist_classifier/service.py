"""What the server answers about a digit."""

import base64
import io
from typing import Annotated, ClassVar

import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.images import Base64Image, decode_image
from dlcommon.runtime.serving.service import Answer, BatchedService, Item
from PIL import Image, ImageDraw
from pydantic import Field

from mnist_classifier.preprocessing import SIDE, network_input

Pixel = Annotated[float, Field(ge=0, le=255)]
Row = Annotated[list[Pixel], Field(min_length=SIDE, max_length=SIDE)]


class Digit(Item):
    """One handwritten digit: either a picture of it, or the pixels as MNIST has them."""

    image: Base64Image | None = Field(
        None, description="A picture of one digit, of any size, dark on light or light on dark: base64, or a data: URL."
    )
    pixels: Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)] | None = Field(
        None, description="28 rows of 28 numbers from 0 (paper) to 255 (ink), taken as they are."
    )


class Reading(Answer):
    """Which digit it is, how sure the network is of each of the ten, and what it was shown."""

    digit: str
    probabilities: dict[str, float]
    seen: list[list[int]] = Field(description="The network's input: 28 rows of 28 numbers, 0 black to 255 white.")


def drawn_seven() -> bytes:
    """Draws a 7 in three strokes, as a PNG."""
    picture = Image.new("L", (140, 140), 255)
    ImageDraw.Draw(picture).line([(40, 35), (100, 37), (62, 110)], fill=20, width=10, joint="curve")
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class DigitService(BatchedService[Digit, Reading]):
    item = Digit
    answer = Reading
    example: ClassVar = {"image": base64.b64encode(drawn_seven()).decode()}
    upload = "image"

    def prepare(self, item: Digit) -> dict[str, np.ndarray]:
        if (item.image is None) == (item.pixels is None):
            raise InvalidInputError("send either image or pixels")
        if item.image is not None:
            return {"images": network_input(decode_image(item.image, self.image_limits))}
        pixels = np.asarray(item.pixels).round().astype(np.uint8)
        if not pixels.any():
            raise InvalidInputError("the pixels hold no ink: all of them are 0")
        return {"images": pixels}

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return model(arrays) | {"seen": arrays["images"]}

    def answer_for(self, item: Digit, outputs: dict[str, np.ndarray]) -> Reading:
        probabilities = outputs["probabilities"]
        return Reading(
            digit=self.model.labels[int(probabilities.argmax())],
            probabilities=dict(zip(self.model.labels, probabilities.tolist(), strict=True)),
            seen=outputs["seen"].tolist(),
        )
