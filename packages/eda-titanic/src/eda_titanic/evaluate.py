"""The metrics and figures of the trained model."""

import json
from pathlib import Path

import numpy as np
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.figures import classification_figures
from dlcommon.runtime.evaluation.result import Evaluation

from eda_titanic.problem import pose
from eda_titanic.scores import cross_validated, scored


def evaluate(predict: Predict, located: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Evaluates a model of a table.

    On the table that it was trained on, by the nested cross-validation that the model carries, whose figures are those
    of rows that were left out. On another table, the model as it is, on rows that it may or may not have seen.

    Raises:
        UserError: the table asks another question.
    """
    metadata, problem = metadata_of(predict), pose(located.load())
    labels = json.loads(metadata["labels"])
    if labels != problem.classes:
        raise UserError(
            f"this model tells {', '.join(labels)} apart; {located.name} asks for {', '.join(problem.classes)}"
        )
    outputs = problem.predictions(predict, "probabilities")
    apparent = scored(outputs["probabilities"], problem.target, problem.classes)
    facts = json.loads(metadata["validation"])
    if facts["fingerprint"] == problem.fingerprint:
        repetitions = [with_first_class(np.array(held_out)) for held_out in facts["out_of_fold"]]
        result = cross_validated(repetitions, problem.target, problem.classes, facts["fold_accuracies"])
        result.metrics["accuracy_on_training_rows"] = apparent.metrics["accuracy"]
        result.tables["validation"] = {name: facts[name] for name in ("ladder", "chosen", "splits")}
        result.tables["evaluated"] = "rows left out by nested cross-validation"
    else:
        result = apparent
        result.tables["evaluated"] = "another table than the model was trained on; some rows may be the same"
    if figures is not None:
        classification_figures(figures, result.tables, result.metrics["expected_calibration_error"])
    return Evaluation(result.n, result.metrics, outputs, result.intervals, result.tables)


def with_first_class(others: np.ndarray) -> np.ndarray:
    """Completes probabilities [rows, classes] from those of all classes but the first."""
    return np.hstack([1 - others.sum(axis=1, keepdims=True), others])
