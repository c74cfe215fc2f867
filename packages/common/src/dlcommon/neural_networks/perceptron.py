"""The perceptron (Rosenblatt 1958): one unit, one rule, and a proof of when it works.

With labels y = ±1, whenever y (w·x + b) ≤ 0 the rule adds y x to w and y to b. There is no learning rate: the weights
start at 0, so that one would scale all of them alike and change no decision.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Perceptron:
    """A trained unit and how it came about."""

    weights: np.ndarray
    """[features]."""
    bias: float
    mistakes: list[int]
    """How many samples were on the wrong side in each epoch, each at the moment when it was shown."""
    average_weights: np.ndarray
    """[features]: the mean over all samples shown of the weights just after, calmer than the last weights where the
    classes overlap (Freund & Schapire 1999)."""
    average_bias: float
    period: int | None
    """After this many epochs the weights came back to what they had been, so that they go round for ever."""

    @property
    def converged(self) -> bool:
        """Whether the last epoch was without a mistake; it then separates the samples."""
        return self.mistakes[-1] == 0

    def decide(self, inputs: np.ndarray) -> np.ndarray:
        """±1 for each of [samples, features]."""
        return np.where(inputs @ self.weights + self.bias > 0, 1, -1)

    def decide_by_average(self, inputs: np.ndarray) -> np.ndarray:
        """±1 for each of [samples, features], by the averaged weights."""
        return np.where(inputs @ self.average_weights + self.average_bias > 0, 1, -1)


def train_perceptron(inputs: np.ndarray, labels: np.ndarray, epochs: int) -> Perceptron:
    """Shows the samples in their order, epoch after epoch, until one passes without a mistake, or weights come back.

    Weights that come back prove that no hyperplane separates the samples: the rule is deterministic and would stop
    after finitely many mistakes if one did. Integer inputs always end in one or the other, given epochs enough, since
    the weights stay bounded (the perceptron cycling theorem; Block & Levin 1970).

    Args:
        inputs: [samples, features].
        labels: [samples], each 1 or −1.
        epochs: at most so many.

    Raises:
        ValueError: labels other than ±1, another number of them than of inputs, or no epoch.
    """
    if len(labels) != len(inputs) or not np.isin(labels, (-1, 1)).all():
        raise ValueError(f"{len(inputs)} samples need as many labels, each 1 or -1")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}")
    samples = with_bias(inputs)
    unit = np.zeros(samples.shape[1])
    total = np.zeros_like(unit)
    seen = {unit.tobytes(): 0}
    mistakes: list[int] = []
    period = None
    for epoch in range(1, epochs + 1):
        wrong = 0
        for sample, label in zip(samples, labels, strict=True):
            if label * (unit @ sample) <= 0:
                unit = unit + label * sample
                wrong += 1
            total += unit
        mistakes.append(wrong)
        if wrong == 0:
            break
        if (before := seen.setdefault(unit.tobytes(), epoch)) != epoch:
            period = epoch - before
            break
    average = total / (len(mistakes) * len(samples))
    return Perceptron(unit[:-1], float(unit[-1]), mistakes, average[:-1], float(average[-1]), period)


def mistake_bound(inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, bias: float = 0.0) -> float:
    """(R / γ)²: the rule never makes more mistakes than this, in whatever order samples come (Novikoff 1962).

    R is the length of the longest sample and γ the margin, the smallest distance of a sample from the hyperplane; both
    with the bias taken as one more weight, of an input that is always 1. Any hyperplane that separates gives a bound,
    that of the widest margin the best.

    Args:
        inputs: [samples, features].
        labels: [samples], each 1 or −1.
        weights: [features], of any length.

    Raises:
        ValueError: this hyperplane does not separate the samples.
    """
    samples, unit = with_bias(inputs), np.append(weights, bias)
    margin = (labels * (samples @ unit)).min() / np.linalg.norm(unit)
    if margin <= 0:
        raise ValueError("the bound needs a hyperplane that separates the samples")
    return float((np.linalg.norm(samples, axis=1).max() / margin) ** 2)


def with_bias(inputs: np.ndarray) -> np.ndarray:
    """[samples, features] to [samples, features + 1] in float64: a last input that is always 1."""
    return np.column_stack([inputs, np.ones(len(inputs))])
