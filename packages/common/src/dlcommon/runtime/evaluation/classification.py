"""Evaluation of classifiers: accuracy with its interval, per-class figures, confusion, calibration.

Probabilities are [samples, classes], labels integers [samples].
"""

from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.result import Evaluation

BINS = 15
"""Number of bins of the reliability diagram (Guo et al. 2017)."""


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """Computes the 95 % confidence interval of a proportion (Wilson 1927)."""
    interval = binomtest(correct, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Computes count, mean confidence and accuracy for each equal-width bin of confidence that holds samples."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        {
            "count": int(chosen.sum()),
            "confidence": float(confidence[chosen].mean()),
            "accuracy": float(correct[chosen].mean()),
        }
        for chosen in (index == number for number in range(bins))
        if chosen.any()
    ]


def expected_calibration_error(rows: list[dict[str, float]]) -> float:
    """Averages the gap between confidence and accuracy over the bins, weighted by count (Guo et al. 2017, eq. 3)."""
    total = sum(row["count"] for row in rows)
    return sum(row["count"] / total * abs(row["accuracy"] - row["confidence"]) for row in rows)


def evaluate_classifier(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    outputs: dict[str, np.ndarray] | None = None,
) -> Evaluation:
    """Computes a classifier's metrics, per-class figures, confusion and calibration, for eval.json.

    Args:
        outputs: the arrays that export compares between runtimes; the probabilities by default.

    Raises:
        UserError: the probabilities are not finite, or do not sum to one.
        ValueError: there is no sample, or not one row a label and one column a class.
    """
    n, indices = len(labels), list(range(len(classes)))
    if not n or probabilities.shape != (n, len(classes)):
        raise ValueError(f"{probabilities.shape} probabilities for {n} labels of {len(classes)} classes")
    if not np.isfinite(probabilities).all():
        raise UserError("the model's outputs are not finite; train it again with a lower learning rate, or in float32")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        raise UserError("the model's outputs are not probabilities: they do not sum to one; end it in a softmax")
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == labels).sum())
    calibration = reliability(probabilities, labels)
    one_hot = np.eye(len(classes))[labels]
    likelihood = np.maximum(probabilities[np.arange(n), labels].astype(np.float64), 1e-12)
    metrics = {
        "accuracy": correct / n,
        "cross_entropy": float(-np.log(likelihood).mean()),
        "brier": float(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "expected_calibration_error": expected_calibration_error(calibration),
    }
    if len(classes) > 5:
        top5 = np.argpartition(-probabilities, 4, axis=1)[:, :5]
        metrics["top5_accuracy"] = float((top5 == labels[:, None]).any(axis=1).mean())
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=indices, zero_division=0.0
    )
    per_class: list[dict[str, Any]] = [
        {
            "class": name,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(classes)
    ]
    return Evaluation(
        n=n,
        metrics=metrics,
        outputs=outputs if outputs is not None else {"probabilities": probabilities},
        intervals={"accuracy": accuracy_interval(correct, n)},
        tables={
            "classes": list(classes),
            "per_class": per_class,
            "confusion": confusion_matrix(labels, predicted, labels=indices).tolist(),
            "reliability": calibration,
        },
    )
