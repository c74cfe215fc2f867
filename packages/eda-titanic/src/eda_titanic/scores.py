"""From out-of-fold probabilities to figures with their errors."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from dlcommon.runtime.evaluation.classification import (
    accuracy_interval,
    evaluate_classifier,
    expected_calibration_error,
    reliability,
)
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.tables.cross_validation import corrected_standard_error


def scored(probabilities: np.ndarray, target: np.ndarray, classes: Sequence[str]) -> Evaluation:
    """Evaluates as `evaluate_classifier`, but the Brier score of two classes is that of one, as usual (0 to 1)."""
    evaluation = evaluate_classifier(probabilities, target, tuple(classes))
    if len(classes) > 2:
        return evaluation
    return dataclasses.replace(evaluation, metrics=evaluation.metrics | {"brier": evaluation.metrics["brier"] / 2})


def cross_validated(
    repetitions: Sequence[np.ndarray], target: np.ndarray, classes: Sequence[str], fold_accuracies: Sequence[float]
) -> Evaluation:
    """Averages the metrics of a cross-validation's repetitions, each of out-of-fold probabilities [rows, classes].

    The accuracy's interval is Wilson's for the rows: chance in who is in the table outweighs chance in the splits,
    which `accuracy_standard_error` also covers.
    """
    each = [scored(probabilities, target, classes) for probabilities in repetitions]
    metrics = {name: float(np.mean([one.metrics[name] for one in each])) for name in each[0].metrics}
    folds = len(fold_accuracies) // len(repetitions)
    spread = np.std([one.metrics["accuracy"] for one in each], ddof=1) if len(each) > 1 else 0.0
    metrics["accuracy_standard_error"] = corrected_standard_error(fold_accuracies, folds)
    metrics["accuracy_spread_of_repeats"] = float(spread)
    pooled = reliability(np.vstack(repetitions), np.tile(target, len(repetitions)))
    return Evaluation(
        n=len(target),
        metrics=metrics,
        outputs=each[0].outputs,
        intervals={"accuracy": accuracy_interval(round(metrics["accuracy"] * len(target)), len(target))},
        tables=each[0].tables | {"reliability": pooled, "pooled_calibration_error": expected_calibration_error(pooled)},
    )


def ladder_row(evaluation: Evaluation) -> dict[str, Any]:
    """Selects what a table of models shows of one of them."""
    names = ("accuracy", "accuracy_standard_error", "cross_entropy", "brier", "expected_calibration_error")
    return {name: evaluation.metrics[name] for name in names}
