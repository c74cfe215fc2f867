"""What the server answers about a picture."""

import base64
from typing import Any, ClassVar

import numpy as np
from dlcommon.runtime.serving.images import Base64Image, decode_image
from dlcommon.runtime.serving.service import Answer, BatchedService, Item
from pydantic import Field

from cifar10_resnet.pictures import EXAMPLES, network_input


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


class PictureService(BatchedService[Picture, Classification]):
    item = Picture
    answer = Classification
    example: ClassVar = {"image": base64.b64encode(EXAMPLES[0].read_bytes()).decode()}
    upload = "image"

    def prepare(self, item: Picture) -> dict[str, np.ndarray]:
        return {"images": network_input(decode_image(item.image, self.image_limits))}

    def answer_for(self, item: Picture, outputs: dict[str, np.ndarray]) -> Classification:
        probabilities, maps = outputs["probabilities"], outputs["activation_maps"]
        order = np.argsort(-probabilities)[:5]
        top = [Guess(label=self.model.labels[i], probability=float(probabilities[i])) for i in order]
        evidence = maps[order[0]]
        if evidence.size:
            low, high = evidence.min(), evidence.max()
            evidence = (evidence - low) / (high - low if high > low else 1.0)
        return Classification(top=top, activation_map=np.round(evidence, 4).tolist())

    def cells(self, answer: Classification) -> dict[str, Any]:
        return answer.top[0].model_dump()
