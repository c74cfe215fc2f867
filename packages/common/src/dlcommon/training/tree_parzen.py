"""The tree-structured Parzen estimator in one dimension (Bergstra et al. 2011, section 4), with Optuna's choices.

Trials are split into good and bad ones. A density of each is estimated, and the next value is where the good ones are
dense and the bad ones are not. Shapes: values [trials], of a span from `low` to `high`; of a logarithmic one, the
logarithms of both.
"""

import math

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

CANDIDATES = 24
"""Values drawn from the density of the good trials, of which the best is proposed."""
RECENT = 25
"""Trials that have full weight in a density; of older ones, the oldest has the least."""


def good_count(trials: int) -> int:
    """Returns how many of the trials count as good: a tenth, rounded up, at most 25."""
    return min(math.ceil(0.1 * trials), 25)


def weights(trials: int) -> np.ndarray:
    """Returns the weights of trials, oldest first, and of the prior after them; they sum to 1."""
    older = np.linspace(1 / trials, 1, trials - RECENT) if trials > RECENT else np.ones(0)
    raw = np.concatenate((older, np.ones(min(trials, RECENT)), [1.0]))
    shares: np.ndarray = raw / raw.sum()
    return shares


def bandwidths(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns the width of each value's kernel: the distance to its farther neighbor, within bounds.

    At the ends, where one neighbor is an end of the span, only the other one counts, if there are two values or more.
    """
    if len(values) == 0:
        return np.ones(0)
    order = np.argsort(values)
    gaps = np.diff(np.concatenate(([low], values[order], [high])))
    widths = np.maximum(gaps[:-1], gaps[1:])
    if len(values) > 1:
        widths[0], widths[-1] = gaps[1], gaps[-2]
    narrowest = (high - low) / min(100, 2 + len(values))
    clipped = np.empty_like(widths)
    clipped[order] = widths.clip(narrowest, high - low)
    return clipped


class ParzenEstimator:
    """Estimates a density by one normal kernel for each value and a wide prior, cut off at the span's ends."""

    def __init__(self, values: np.ndarray, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.weights = weights(len(values))
        self.means = np.append(values, (low + high) / 2)
        self.widths = np.append(bandwidths(values, low, high), high - low)
        ends = [ndtr((end - self.means) / self.widths) for end in (low, high)]
        self.below, self.inside = ends[0], ends[1] - ends[0]
        """Mass of each kernel below the span, and within it."""

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Computes the logarithm of the density at x [n], within the span."""
        z = (x[:, None] - self.means) / self.widths  # [n, kernels]
        kernels = -(z**2) / 2 - np.log(self.widths * math.sqrt(2 * math.pi) * self.inside)
        result: np.ndarray = logsumexp(kernels, b=self.weights, axis=1)
        return result

    def sample(self, count: int, random: np.random.RandomState | np.random.Generator) -> np.ndarray:
        """Draws values: a kernel by its weight, then a value from it by the inverse of its distribution function."""
        kernel = random.choice(len(self.weights), p=self.weights, size=count)
        shares = random.uniform(size=count)
        standardized = ndtri(self.below[kernel] + shares * self.inside[kernel])
        values: np.ndarray = self.means[kernel] + self.widths[kernel] * standardized
        return values


def split(values: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits the values of trials into those with the lowest losses and all others, in the order they were tried."""
    good = np.zeros(len(values), bool)
    good[np.argsort(losses, kind="stable")[: good_count(len(values))]] = True
    return values[good], values[~good]


def propose(
    values: np.ndarray, losses: np.ndarray, low: float, high: float, random: np.random.RandomState | np.random.Generator
) -> float:
    """Proposes the next value: of some drawn from l, the one with the largest l(x) / g(x).

    The ratio rises with the expected improvement over the worst of the good losses (Bergstra et al. 2011, section 4.1).
    """
    good, bad = (ParzenEstimator(part, low, high) for part in split(values, losses))
    candidates = good.sample(CANDIDATES, random)
    return float(candidates[np.argmax(good.log_density(candidates) - bad.log_density(candidates))])
