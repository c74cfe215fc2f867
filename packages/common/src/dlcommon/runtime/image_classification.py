"""What trainings of image classifiers share: images held out, and the averaged network's probabilities for them.

Shapes: images uint8 [samples, …], labels int64 [samples], probabilities float32 [samples, classes].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from torch import nn

from dlcommon.runtime.data import ImageClassification
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.predict import ModulePredictor
from dlcommon.runtime.training_run import TrainingRun
from dlcommon.training.temperature import fit_temperature

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ImageSplit:
    """Holds the training images, and the last of them as a validation set."""

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray

    def score(self, probabilities: np.ndarray) -> tuple[float, float]:
        """Returns accuracy and mean cross-entropy of probabilities for the validation images."""
        labels = self.validation_labels
        likelihood = probabilities[np.arange(len(labels)), labels].clip(1e-12)
        return float((probabilities.argmax(axis=1) == labels).mean()), float(-np.log(likelihood).mean())

    def temperature(self, probabilities: np.ndarray) -> float:
        """Fits the temperature that calibrates probabilities for the validation images."""
        return fit_temperature(np.log(probabilities.clip(1e-12)), self.validation_labels)


def split_images(data: ImageClassification, validation_size: int, batch_size: int) -> ImageSplit:
    """Holds the last training images out.

    Raises:
        UsageError: fewer than one batch are left to train on.
    """
    size = len(data.train_images) - validation_size
    if size < batch_size:
        raise UsageError(
            f"--validation-size {validation_size} leaves fewer images than one batch of {batch_size}; lower it, or "
            f"--batch-size"
        )
    images, labels = data.train_images, data.train_labels
    return ImageSplit(images[:size], labels[:size], images[size:], labels[size:])


def predict_probabilities(
    run: TrainingRun[Any],
    network: Network,
    deploy: Callable[[Network], nn.Module],
    images: np.ndarray,
    outputs: Sequence[str] = ("probabilities",),
) -> np.ndarray:
    """Predicts with the run's averaged network, in the form in which it is deployed; the network stays in train mode.

    Args:
        deploy: wraps the network in what is exported, such as its preprocessing.
        outputs: names of what the wrapped network returns; `probabilities` is among them.
    """
    module = deploy(run.ema_model(network))
    predict = ModulePredictor(module, ["images"], outputs, run.device, bf16=run.precision == "bf16")
    probabilities = predict({"images": images})["probabilities"]
    network.train()
    return probabilities
