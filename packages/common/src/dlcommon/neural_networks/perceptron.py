"""The perceptron (Rosenblatt 1958, https://doi.org/10.1037/h0042519): one unit, one rule, and a proof of when it works.

With labels y = ±1, whenever y (w·x + b) ≤ 0 the rule adds y x to w and y to b. There is no learning rate: the weights
start at 0, so that it would scale all of them alike and change no prediction.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Perceptron:
    """Holds a trained unit and the history of its training."""

    weights: np.ndarray
    """[features]."""
    bias: float
    mistakes: list[int]
    """Number of samples in each epoch that were misclassified when they were shown."""
    averaged_weights: np.ndarray
    """[features]: mean of the weights after every sample shown, steadier than the last weights where the classes
    overlap (Freund & Schapire 1999, https://doi.org/10.1023/A:1007662407062)."""
    averaged_bias: float
    cycle_length: int | None
    """Number of epochs after which the weights repeated, so that training would never end; None if they did not."""

    @property
    def converged(self) -> bool:
        """Tells whether the last epoch was without a mistake; the unit then separates the samples."""
        return self.mistakes[-1] == 0

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Predicts ±1 for inputs [samples, features]: [samples]."""
        return np.where(inputs @ self.weights + self.bias > 0, 1, -1)

    def predict_averaged(self, inputs: np.ndarray) -> np.ndarray:
        """Predicts ±1 for inputs [samples, features] by the averaged weights: [samples]."""
        return np.where(inputs @ self.averaged_weights + self.averaged_bias > 0, 1, -1)


def train_perceptron(inputs: np.ndarray, labels: np.ndarray, max_epochs: int) -> Perceptron:
    """Trains on the samples in their order until an epoch passes without a mistake, or the weights repeat.

    Weights that repeat prove that no hyperplane separates the samples: the rule is deterministic and would stop
    after finitely many mistakes if one did. With integer inputs one or the other always happens, given enough
    epochs, since the weights stay bounded (the perceptron cycling theorem; Block & Levin 1970).

    Args:
        inputs: [samples, features].
        labels: [samples], each 1 or −1.
        max_epochs: at least 1.

    Raises:
        ValueError: a label is not ±1, inputs and labels differ in number, or `max_epochs` is less than 1.
    """
    if len(labels) != len(inputs) or not np.isin(labels, (-1, 1)).all():
        raise ValueError(f"{len(inputs)} samples need as many labels, each 1 or -1")
    if max_epochs < 1:
        raise ValueError(f"max_epochs must be at least 1, not {max_epochs}")
    samples = append_ones(inputs)
    w = np.zeros(samples.shape[1])  # the bias is its last element
    total = np.zeros_like(w)
    seen = {w.tobytes(): 0}  # weights at the end of each epoch: training is deterministic, so a repetition is a cycle
    mistakes: list[int] = []
    cycle_length = None
    for epoch in range(1, max_epochs + 1):
        wrong = 0
        for sample, label in zip(samples, labels, strict=True):
            if label * (w @ sample) <= 0:  # on the wrong side, or on the hyperplane itself
                w = w + label * sample
                wrong += 1
            total += w
        mistakes.append(wrong)
        if wrong == 0:
            break
        if (before := seen.setdefault(w.tobytes(), epoch)) != epoch:
            cycle_length = epoch - before
            break
    # Every sample shown contributed the weights just after it.
    averaged = total / (len(mistakes) * len(samples))
    return Perceptron(w[:-1], float(w[-1]), mistakes, averaged[:-1], float(averaged[-1]), cycle_length)


def mistake_bound(inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, bias: float = 0.0) -> float:
    """Computes (R / γ)², which the number of mistakes never exceeds, in whatever order samples come (Novikoff 1962).

    R is the length of the longest sample and γ the margin, the smallest distance of a sample from the hyperplane; both
    with the bias taken as one more weight, of an input that is always 1. Any separating hyperplane gives a bound, that
    of the widest margin the tightest.

    Args:
        inputs: [samples, features].
        labels: [samples], each 1 or −1.
        weights: [features], normal to the hyperplane, of any length.
        bias: of the hyperplane.

    Raises:
        ValueError: the hyperplane does not separate the samples.
    """
    samples, w = append_ones(inputs), np.append(weights, bias)
    margin = (labels * (samples @ w)).min() / np.linalg.norm(w)
    if margin <= 0:
        raise ValueError("the bound needs a hyperplane that separates the samples")
    return float((np.linalg.norm(samples, axis=1).max() / margin) ** 2)


def append_ones(inputs: np.ndarray) -> np.ndarray:
    """Appends an input that is always 1, for the bias: [samples, features] to [samples, features + 1] in float64."""
    return np.column_stack([inputs, np.ones(len(inputs))])
