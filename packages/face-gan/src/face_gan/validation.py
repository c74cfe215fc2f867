"""Validates a training: how far the faces of its generator are from training pictures that were kept back.

The figure is what `face-gan tune` chooses by. The test pictures play no part in it.
"""

import numpy as np
import torch
from dlcommon.generative.sample_distances import kernel_distance
from dlcommon.runtime.batches import generator_for
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.evaluation.image_features import ASSET, ImageFeatures, features_for
from dlcommon.runtime.training_run import TrainingRun
from torch import nn

from face_gan.config import VALIDATION_FIGURE, Config
from face_gan.model import pixels

SAMPLES = 500
"""Faces to draw: the kernel distance is unbiased, so few are only less precise."""
AT_ONCE = 100
FEWEST = 50
"""Held-out pictures that are enough for a figure."""


def hold_out(images: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits training pictures into those that are trained on and those that are kept back, evenly spaced.

    Raises:
        UsageError: the share keeps too few of them.
    """
    if not share:
        return images, images[:0]
    count = round(share * len(images))
    if count < FEWEST:
        raise UsageError(
            f"--validation-share {share} keeps {count} of {len(images)} pictures, and at least {FEWEST} are needed"
        )
    kept = np.zeros(len(images), bool)
    kept[np.linspace(0, len(images) - 1, count).round().astype(int)] = True
    return images[~kept], images[kept]


def features_of(run: TrainingRun[Config]) -> ImageFeatures:
    """Returns the features that the test pictures will be compared by too, on the run's GPU if it has one."""
    with torch.random.fork_rng(devices=[]):  # a network is made with random weights before it gets its own
        features = features_for(run.data, None if run.data.builtin else run.asset(ASSET))
    return features.on(run.device) if run.device.type == "cuda" else features


class Validation:
    """Computes the kernel distance of generated faces to held-out ones; always draws from the same noise.

    Args:
        held_out: uint8 [pictures, 64, 64, 3].
    """

    def __init__(self, run: TrainingRun[Config], features: ImageFeatures, held_out: np.ndarray) -> None:
        self._run, self._features = run, features
        self._real = features.cached(held_out)
        self._noise = torch.randn(SAMPLES, run.config.noise_dim, generator=generator_for("validation"))

    def evaluate(self, generator: nn.Module) -> dict[str, float]:
        """Judges a generator; returns the distance and its standard error."""
        training = generator.training
        generator.eval()
        with torch.inference_mode(), self._run.autocast():
            parts = [pixels(generator(noise.to(self._run.device))) for noise in self._noise.split(AT_ONCE)]
        generator.train(training)
        distance = kernel_distance(self._real, self._features(np.concatenate(parts)))
        return {VALIDATION_FIGURE: distance.value, f"{VALIDATION_FIGURE}_error": distance.standard_error}
