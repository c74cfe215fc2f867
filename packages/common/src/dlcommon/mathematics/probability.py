"""Bayes's rule, densities, and naive Bayes, in logarithms so that nothing underflows."""

import numpy as np


def logsumexp(x: np.ndarray) -> np.ndarray:
    """Computes log Σ eˣ over the last axis; the maximum is subtracted first, so that one exponential is 1."""
    largest = x.max(axis=-1, keepdims=True)
    result: np.ndarray = largest[..., 0] + np.log(np.exp(x - largest).sum(axis=-1))
    return result


def posterior(log_prior: np.ndarray, log_likelihood: np.ndarray) -> np.ndarray:
    """Computes p(class | data) = p(data | class) p(class) / p(data).

    This is the softmax of log-likelihood + log-prior: a classifier's logits are such sums.

    Args:
        log_prior: [num_classes].
        log_likelihood: [..., num_classes].

    Returns:
        [..., num_classes], summing to one.
    """
    joint = log_prior + log_likelihood
    result: np.ndarray = np.exp(joint - logsumexp(joint)[..., None])
    return result


def gaussian_log_density(x: np.ndarray, mean: np.ndarray | float = 0.0, std: np.ndarray | float = 1.0) -> np.ndarray:
    """Computes log N(x; μ, σ²) for each element."""
    result: np.ndarray = -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return result


class BernoulliNaiveBayes:
    """Classifies binary features that are assumed independent given the class; fitting is counting.

    Args:
        alpha: added observations of each value in each class (Laplace's rule at 1), so that what was never seen is
            improbable instead of impossible.

    Raises:
        ValueError: `alpha` is not positive.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        self.alpha = alpha

    def fit(self, features: np.ndarray, labels: np.ndarray) -> "BernoulliNaiveBayes":
        """Fits boolean features [samples, features] and labels [samples] in 0 … num_classes − 1, all of which occur."""
        one_hot = np.eye(labels.max() + 1)[labels]  # [samples, num_classes]
        counts = one_hot.sum(axis=0)
        self.log_prior = np.log(counts / counts.sum())  # [num_classes]
        self.feature_prob = (one_hot.T @ features + self.alpha) / (counts[:, None] + 2 * self.alpha)
        """Probability that a feature is true, [num_classes, features]."""
        return self

    def log_likelihood(self, features: np.ndarray) -> np.ndarray:
        """Computes log p(features | class), [samples, num_classes], which is linear in the features."""
        # Σ f log θ + (1 − f) log(1 − θ) = f · (log θ − log(1 − θ)) + Σ log(1 − θ), for all samples in one product.
        log_true, log_false = np.log(self.feature_prob), np.log1p(-self.feature_prob)
        result: np.ndarray = features @ (log_true - log_false).T + log_false.sum(axis=1)
        return result

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Computes p(class | features), [samples, num_classes]."""
        return posterior(self.log_prior, self.log_likelihood(features))
