"""The toy's metrics and figures."""

from pathlib import Path

from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures
from dlcommon.runtime.evaluation.result import Evaluation


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    loaded = data.load()
    probabilities = predict({"images": loaded.test_images})["probabilities"]
    evaluation = evaluate_classifier(probabilities, loaded.test_labels, loaded.classes)
    if figures is not None:
        classification_figures(figures, evaluation.tables, 0.0)
    return evaluation
