"""The service: draws faces by seed."""

from typing import Annotated, Any, ClassVar

import numpy as np
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.media import PngBytes, encode_png
from dlcommon.runtime.serving.service import Answer, BatchedService, Item
from pydantic import Field

from face_gan.latents import COMPONENTS, LARGEST_SEED, Latents, interpolated
from face_gan.pictures import as_pixels, grid

MOST = 64
"""Faces that one item may ask for."""
FARTHEST = 4.0
"""Standard deviations to go along a direction of the latent space."""
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


class Faces(Item):
    """Which faces to draw: always the same ones for the same numbers."""

    seed: Seed = Field(default=0, description="Of the first face; the others have the seeds that follow.")
    count: Annotated[int, Field(ge=1, le=MOST)] = Field(default=1, description="How many faces to draw.")
    truncation: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.7, description="How far from the mean face: 0 is the mean itself, 1 all that was learnt."
    )
    to_seed: Seed | None = Field(default=None, description="Another face to walk towards.")
    share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.5, description="Share of the way to `to_seed`; with several faces, they lie evenly on the whole way."
    )
    mix_seed: Seed | None = Field(default=None, description="A face whose fine features are taken.")
    mix_from: Annotated[int, Field(ge=1)] = Field(
        default=2, description="Block of the generator from which on `mix_seed` decides: the larger, the less it does."
    )
    components: Annotated[list[Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]], Field(max_length=COMPONENTS)] = (
        Field(default_factory=list, description="How far to go along each latent direction, in standard deviations.")
    )
    separate: bool = Field(default=False, description="Whether the answer holds each face as a picture of its own too.")


class Drawing(Answer):
    """The faces, side by side in one picture."""

    seeds: list[int] = Field(description="Seed of each face, row by row.")
    picture: PngBytes
    pictures: list[PngBytes] = Field(description="Each face by itself, where the item asks for them separately.")


class FaceService(BatchedService[Faces, Drawing]):
    item = Faces
    answer = Drawing
    example: ClassVar = {"seed": 7, "truncation": 0.7}
    text = "seed"

    def __init__(self, model: OnnxModel) -> None:
        super().__init__(model)
        self.latents = Latents.of(model.metadata)

    def seeds(self, item: Faces) -> list[int]:
        """Returns the seed of each face.

        Raises:
            InvalidInputError: one would be beyond the largest.
        """
        if item.to_seed is not None:
            return [item.seed] * item.count
        if item.seed + item.count - 1 > LARGEST_SEED:
            raise InvalidInputError(f"seed {item.seed} and the {item.count - 1} after it are beyond {LARGEST_SEED}")
        return list(range(item.seed, item.seed + item.count))

    def noise(self, item: Faces) -> np.ndarray:
        """Returns the noise of each face: float32 [count, blocks, dim].

        Raises:
            InvalidInputError: the item asks for what this model does not have.
        """
        noise = np.stack([self.latents.noise(seed) for seed in self.seeds(item)])
        if item.to_seed is not None:
            shares = np.linspace(0, 1, item.count) if item.count > 1 else np.array([item.share])
            other = self.latents.noise(item.to_seed)
            noise = np.stack([interpolated(one, other, float(share)) for one, share in zip(noise, shares, strict=True)])
        if item.mix_seed is not None:
            if item.mix_from >= self.latents.blocks:
                blocks = self.latents.blocks
                raise InvalidInputError(
                    f"mix_from must be less than the generator's {blocks} blocks, not {item.mix_from}"
                    if blocks > 1
                    else "this model has no styles to mix; leave mix_seed out"
                )
            noise[:, item.mix_from :] = self.latents.noise(item.mix_seed)[item.mix_from :]
        return noise

    def prepare(self, item: Faces) -> dict[str, np.ndarray]:
        amounts = np.zeros((item.count, COMPONENTS), np.float32)
        amounts[:, : len(item.components)] = item.components
        return {**self.latents.inputs(self.noise(item), item.truncation), "components": amounts}

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Draws face by face, so that a seed gives the same pixels whatever else is asked for at the same time."""
        flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}
        faces = [
            as_pixels(model({name: array[[row]] for name, array in flat.items()})["images"])
            for row in range(len(flat["noise"]))
        ]
        items, count = arrays["truncation"].shape
        drawn = np.concatenate(faces)
        return {"pixels": drawn.reshape(items, count, *drawn.shape[1:])}

    def answer_for(self, item: Faces, outputs: dict[str, np.ndarray]) -> Drawing:
        pixels = outputs["pixels"]
        columns = int(np.ceil(np.sqrt(item.count)))
        separate = [encode_png(face) for face in pixels] if item.separate else []
        return Drawing(seeds=self.seeds(item), picture=encode_png(grid(pixels, columns)), pictures=separate)

    def cells(self, answer: Drawing) -> dict[str, Any]:
        return {"seeds": " ".join(map(str, answer.seeds))}

    def files(self, item: Faces, answer: Drawing) -> dict[str, bytes]:
        """Returns the picture of all faces, or, of an item that asks for them separately, one for each face."""
        if not item.separate:
            return {".png": answer.picture}
        names = answer.seeds if item.to_seed is None else range(len(answer.pictures))
        return {f"-{name}.png": picture for name, picture in zip(names, answer.pictures, strict=True)}
