"""Temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2)."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Finds the T > 0 for which softmax(logits / T) maximizes the likelihood of held-out labels.

    The mean cross-entropy is convex in 1 / T, so there is one minimum. Accuracy does not change. As in Platt 1999
    (section 2.2), one of n + 2 samples counts as drawn from any class: otherwise a model that makes no error on few
    samples would become infinitely confident.

    Args:
        logits: [samples, num_classes], of data that the model was not trained on; log-probabilities will do.
        labels: [samples], class indices.

    Raises:
        ValueError: there are no samples.
    """
    if len(labels) == 0:
        raise ValueError("a temperature is fitted on held-out samples, and there are none")
    logits = np.asarray(logits, dtype=np.float64)
    smoothing = 1 / (len(labels) + 2)
    # Expected logit of the smoothed label, [samples].
    truth = (1 - smoothing) * logits[np.arange(len(labels)), labels] + smoothing * logits.mean(axis=1)

    def cross_entropy(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float((logsumexp(inverse * logits, axis=1) - inverse * truth).mean())

    found = minimize_scalar(cross_entropy, bounds=(np.log(1e-2), np.log(1e2)), method="bounded")
    return float(np.exp(-found.x))
