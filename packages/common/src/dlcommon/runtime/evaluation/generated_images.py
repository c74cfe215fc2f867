"""Judges a generator of pictures by a fixed protocol, the same for every capstone that draws.

- The kernel distance (KID) to held-out pictures, which were never trained on, over all pairs, with its standard error.
- The Fréchet distance to as many training pictures, only where there are `FRECHET_SAMPLES` of each: it is biased by the
  number of samples. It is not FID, whose features are InceptionV3's.
- Precision and recall against held-out pictures, as many of each: faithfulness, and coverage, which a collapse lowers.
- Memorization: how near a sample is to its nearest of ten thousand training pictures, over how near a held-out picture
  is to its own. 1 is as near as a new picture is; far below 1, the generator repeats what it was shown.
"""

from dataclasses import dataclass

import numpy as np

from dlcommon.generative.sample_distances import frechet_distance, kernel_distance, nearest, precision_recall
from dlcommon.runtime.evaluation.image_features import ImageFeatures

SAMPLES = FRECHET_SAMPLES = 10_000
"""Pictures to draw; fewer where fewer are trained on."""
Z = 1.96
"""Standard errors on either side of a 95 % confidence interval."""


@dataclass(frozen=True)
class Judgement:
    """Holds the figures of a generator's pictures, and their nearest training pictures."""

    metrics: dict[str, float]
    interval: tuple[float, float]
    """95 % confidence interval of the kernel distance."""
    nearest: np.ndarray
    """Index of each sample's nearest training picture, int64 [samples]."""
    nearest_distances: np.ndarray


def sample_count(train: np.ndarray) -> int:
    """Returns how many pictures to draw for a data set with these training pictures."""
    return min(SAMPLES, len(train))


def judge(
    features: ImageFeatures,
    train: np.ndarray,
    held_out: np.ndarray,
    generated: np.ndarray,
) -> Judgement:
    """Compares generated pictures with real ones.

    Args:
        features: the network to compare them by.
        train: uint8 [pictures, height, width, 3], what the generator was trained on.
        held_out: what it never saw.
        generated: `sample_count` pictures.
    """
    # Evenly spaced, where there are more than the Fréchet distance takes: features of all would take minutes.
    compared = np.linspace(0, len(train) - 1, min(len(train), FRECHET_SAMPLES)).astype(int)
    of_train, of_held_out = features.cached(train[compared]), features.cached(held_out)
    of_generated = features(generated)
    distance = kernel_distance(of_held_out, of_generated)
    equal = min(len(of_held_out), len(of_generated))
    precision, recall = precision_recall(of_held_out[:equal], of_generated[:equal])
    indices, distances = nearest(of_generated, of_train)
    _, expected = nearest(of_held_out, of_train)
    typical = float(np.median(expected))
    metrics = {
        "kernel_distance": distance.value,
        "kernel_distance_error": distance.standard_error,
        "precision": precision,
        "recall": recall,
        "nearest_training_distance": float(np.median(distances)) / typical if typical else 1.0,
    }
    if min(len(generated), len(train)) >= FRECHET_SAMPLES:
        metrics["frechet_distance"] = frechet_distance(of_train, of_generated[:FRECHET_SAMPLES])
    low, high = (distance.value + side * Z * distance.standard_error for side in (-1, 1))
    return Judgement(metrics, (low, high), compared[indices], distances)
