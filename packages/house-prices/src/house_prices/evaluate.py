"""The metrics and figures of the trained model."""

import json
from dataclasses import replace
from pathlib import Path

from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.result import Evaluation

from house_prices.figures import draw
from house_prices.problem import pose
from house_prices.scores import apparent, cross_validated


def evaluate(predict: Predict, located: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Evaluates a model of a table of houses.

    On the table that it was trained on, by the repeated cross-validation that the model carries, whose figures are
    those of rows that were left out. On another table, the model as it is, on rows that it may or may not have seen.
    """
    metadata, problem = metadata_of(predict), pose(located.load())
    outputs = problem.predictions(predict, "price")
    facts = json.loads(metadata["validation"])
    if facts["fingerprint"] == problem.fingerprint:
        result = cross_validated(problem, facts, json.loads(metadata["interval"])["coverage"])
        result.metrics["rmsle_on_training_rows"] = apparent(problem, outputs["price"]).metrics["rmsle"]
        result.tables["importance"] = json.loads(metadata["importance"])
        result.tables["dependence"] = json.loads(metadata["dependence"])
        result.tables["evaluated"] = "rows left out by repeated cross-validation"
    else:
        result = apparent(problem, outputs["price"])
        result.tables["evaluated"] = "another table than the model was trained on; some rows may be the same"
    if figures is not None:
        draw(figures, result.tables)
    return replace(result, outputs=outputs)
