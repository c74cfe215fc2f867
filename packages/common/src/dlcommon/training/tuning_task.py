"""A task that trains in milliseconds, to try searches on: digits of 8×8 pixels, a perceptron with one hidden layer.

All settings are trained at the same time: every array has their axis first. Shapes: S settings, B samples of a batch,
64 pixels, H hidden units, 10 classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

HIDDEN = 16
BATCH = 20
STEPS = 8
"""Updates in one unit of training."""
UNITS = 27
"""Units of a whole training."""
TRAINED = 500
"""Digits that are trained on; the other 1,297 are held out."""
DEFAULTS = {"learning_rate": 0.3, "momentum": 0.0, "weight_decay": 0.0, "init_scale": 1.0}


@dataclass(frozen=True)
class Digits:
    """Holds images float32 [samples, 64] of about unit size, and labels int64 [samples]."""

    images: np.ndarray
    labels: np.ndarray

    def part(self, samples: slice | np.ndarray) -> "Digits":
        return Digits(self.images[samples], self.labels[samples])


def digits(split_seed: int = 0) -> tuple[Digits, Digits]:
    """Loads scikit-learn's digits; returns those to train on and those held out, shuffled."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(split_seed).permutation(len(images))
    both = Digits((images[order] / 8 - 1).astype(np.float32), labels[order])
    return both.part(slice(TRAINED)), both.part(slice(TRAINED, None))


class Networks:
    """Holds one perceptron for each setting, each with random weights of its own."""

    def __init__(self, init_scale: np.ndarray, random: np.random.Generator) -> None:
        count, scale = len(init_scale), init_scale.astype(np.float32)[:, None, None]

        def normal(*shape: int) -> np.ndarray:
            return random.standard_normal((count, *shape), np.float32) * scale

        self.parameters = [
            normal(64, HIDDEN) * np.float32(np.sqrt(2 / 64)),
            np.zeros((count, 1, HIDDEN), np.float32),
            normal(HIDDEN, 10) * np.float32(np.sqrt(1 / HIDDEN)),
            np.zeros((count, 1, 10), np.float32),
        ]

    def forward(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Computes hidden activations [S, B, H] and logits [S, B, 10] of images [S or 1, B, 64]."""
        w1, b1, w2, b2 = self.parameters
        hidden = np.maximum(images @ w1 + b1, 0)
        return hidden, hidden @ w2 + b2

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        """Computes the gradients of each setting's mean cross-entropy on its own batch [S, B, 64] and [S, B]."""
        hidden, logits = self.forward(images)
        error = np.exp(logits - logits.max(axis=2, keepdims=True))
        error /= error.sum(axis=2, keepdims=True)
        np.put_along_axis(error, labels[..., None], np.take_along_axis(error, labels[..., None], 2) - 1, 2)
        error /= labels.shape[1]
        back = (error @ self.parameters[2].transpose(0, 2, 1)) * (hidden > 0)
        return [
            images.transpose(0, 2, 1) @ back,
            back.sum(axis=1, keepdims=True),
            hidden.transpose(0, 2, 1) @ error,
            error.sum(axis=1, keepdims=True),
        ]

    def wrong(self, digits: Digits) -> np.ndarray:
        """Marks the digits that each network takes for others: bool [S, samples]."""
        with np.errstate(over="ignore", invalid="ignore"):
            _, logits = self.forward(digits.images[None])
        answers: np.ndarray = logits.argmax(axis=2) != digits.labels
        return answers

    def error(self, digits: Digits) -> np.ndarray:
        """Computes the share of wrong answers of each network, [S]."""
        rates: np.ndarray = self.wrong(digits).mean(axis=1)
        return rates


def train(settings: Sequence[Mapping[str, float]], digits: Digits, seed: int) -> Iterator[Networks]:
    """Trains one network for each setting by stochastic gradient descent; yields them after every unit.

    Args:
        settings: any of the names in `DEFAULTS`.
        seed: of all initial weights and batches, which differ from setting to setting.
    """
    options = {
        name: np.array([setting.get(name, usual) for setting in settings], np.float32)[:, None, None]
        for name, usual in DEFAULTS.items()
    }
    random = np.random.default_rng(seed)
    networks = Networks(options["init_scale"].ravel(), random)
    velocities = [np.zeros_like(parameter) for parameter in networks.parameters]
    for _ in range(UNITS):
        with np.errstate(over="ignore", invalid="ignore"):  # too large a learning rate ends in numbers that are none
            for _ in range(STEPS):
                chosen = random.integers(len(digits.labels), size=(len(settings), BATCH))
                gradients = networks.gradients(digits.images[chosen], digits.labels[chosen])
                for parameter, velocity, gradient in zip(networks.parameters, velocities, gradients, strict=True):
                    velocity *= options["momentum"]
                    velocity += gradient + options["weight_decay"] * parameter
                    parameter -= options["learning_rate"] * velocity
        yield networks
