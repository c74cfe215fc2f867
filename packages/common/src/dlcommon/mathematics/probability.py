"""Bayes's rule, densities, and the plainest classifier made of them, in logarithms so that nothing underflows."""

import numpy as np


def log_sum_exp(x: np.ndarray) -> np.ndarray:
    """log Σ eˣ over the last axis, with the largest taken out first: at least one exponential is then 1."""
    largest = x.max(axis=-1, keepdims=True)
    return largest[..., 0] + np.log(np.exp(x - largest).sum(axis=-1))


def posterior(log_prior: np.ndarray, log_likelihood: np.ndarray) -> np.ndarray:
    """p(class | data) = p(data | class) p(class) / p(data).

    This is the softmax of log-likelihood + log-prior: a classifier's logits are such sums.

    Args:
        log_prior: [classes].
        log_likelihood: [..., classes].

    Returns:
        [..., classes], sums to one.
    """
    joint = log_prior + log_likelihood
    return np.exp(joint - log_sum_exp(joint)[..., None])


def gaussian_log_density(x: np.ndarray, mean: np.ndarray | float = 0.0, std: np.ndarray | float = 1.0) -> np.ndarray:
    """log N(x; μ, σ²), of each element."""
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


class BernoulliNaiveBayes:
    """Binary features, independent of each other given the class; fitted by maximum likelihood, which is counting.

    Args:
        smoothing: pretended observations of each value in each class (Laplace's rule at 1), so that what was never
            seen is improbable and not impossible.
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        if not smoothing > 0:
            raise ValueError(f"smoothing must be positive, not {smoothing}")
        self.smoothing = smoothing

    def fit(self, features: np.ndarray, labels: np.ndarray) -> "BernoulliNaiveBayes":
        """From boolean [samples, features] and labels [samples] in 0 … classes − 1, each of which occurs."""
        one_hot = np.eye(labels.max() + 1)[labels]  # [samples, classes]
        counts = one_hot.sum(axis=0)
        self.log_prior = np.log(counts / counts.sum())  # [classes]
        self.probability = (one_hot.T @ features + self.smoothing) / (counts[:, None] + 2 * self.smoothing)
        """[classes, features], of a feature being true."""
        return self

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        """log p(features | class), boolean [samples, features] to [samples, classes]: linear in the features."""
        log_true, log_false = np.log(self.probability), np.log1p(-self.probability)
        return features @ (log_true - log_false).T + log_false.sum(axis=1)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """p(class | features), [samples, classes]."""
        return posterior(self.log_prior, self.log_likelihood(features))
