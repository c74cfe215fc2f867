"""How good drawn faces are: the protocol's figures, and grids that people look at."""

from pathlib import Path

import numpy as np
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.dataset import UnlabelledImages
from dlcommon.runtime.evaluation.generated_images import judge, sample_count
from dlcommon.runtime.evaluation.image_features import features_for
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.serving.media import encode_png

from face_gan.latents import COMPONENTS, Latents
from face_gan.pictures import as_pixels, grid

SEED = 1
"""Of the noise that is judged."""
AT_ONCE = 250
COMPARED = 500
"""Pictures whose floats two runtimes are compared by: the whole ten thousand would take 490 MB."""
ROWS, COLUMNS = 8, 12
TRUNCATIONS = (0.3, 0.5, 0.7, 0.85, 1.0)
NEAREST = 12
STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


def draw(predict: Predict, noise: np.ndarray, truncation: float = 1.0) -> np.ndarray:
    """Draws pictures uint8 [batch, 64, 64, 3], some at a time."""
    latents = Latents.of(metadata_of(predict))
    parts = range(0, len(noise), AT_ONCE)
    return np.concatenate(
        [as_pixels(predict(latents.inputs(noise[at : at + AT_ONCE], truncation))["images"]) for at in parts]
    )


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Draws faces and compares them with held-out ones of the data set."""
    images: UnlabelledImages = data.load()
    latents = Latents.of(metadata_of(predict))
    noise = latents.sample(sample_count(images.train), SEED)
    generated = draw(predict, noise)
    features = features_for(data)
    judged = judge(features, images.train, images.test, generated)
    outputs = predict(latents.inputs(noise[:COMPARED]))
    shown: dict[str, list[dict[str, str | int | float]]] = {
        "protocol": [
            {"figure": name, "value": value, "features": features.name, "generated": len(generated)}
            for name, value in judged.metrics.items()
        ]
    }
    if figures is not None:
        save_grid(figures / "samples.png", generated[: ROWS * COLUMNS], COLUMNS)
        shown["truncation"] = []
        rows = []
        for truncation in TRUNCATIONS:
            drawn = draw(predict, noise[: len(images.test)], truncation)
            rows.append(drawn[:COLUMNS])
            metrics = judge(features, images.train, images.test, drawn).metrics
            names = ("kernel_distance", "precision", "recall")
            shown["truncation"].append({"truncation": truncation, **{name: metrics[name] for name in names}})
        save_grid(figures / "truncation.png", np.concatenate(rows), COLUMNS)
        save_grid(figures / "directions.png", directions(predict, latents), len(STRENGTHS))
        # Those nearest of all to a training picture, each above it: for the run's folder, not to be shared.
        order = np.argsort(judged.nearest_distances)[:NEAREST]
        pairs = np.concatenate((generated[order], images.train[judged.nearest[order]]))
        save_grid(figures / "nearest_training.png", pairs, NEAREST)
    return Evaluation(
        n=len(generated),
        metrics=judged.metrics,
        outputs=outputs,
        intervals={"kernel_distance": judged.interval},
        tables={"features": features.name, "held_out": len(images.test), "training": len(images.train)},
        shown=shown,
    )


def directions(predict: Predict, latents: Latents) -> np.ndarray:
    """Draws one face moved along each direction of the latent space, a row each: uint8 [pictures, 64, 64, 3]."""
    amounts = np.zeros((COMPONENTS * len(STRENGTHS), COMPONENTS), np.float32)
    for row in range(COMPONENTS):
        amounts[row * len(STRENGTHS) : (row + 1) * len(STRENGTHS), row] = STRENGTHS
    noise = np.broadcast_to(latents.noise(0), (len(amounts), latents.blocks, latents.dim))
    return as_pixels(predict({**latents.inputs(noise, 0.7), "components": amounts})["images"])


def save_grid(path: Path, pictures: np.ndarray, columns: int) -> None:
    """Writes pictures side by side as a PNG."""
    write_bytes(path, encode_png(grid(pictures, columns)))
