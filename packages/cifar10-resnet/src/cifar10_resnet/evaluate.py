"""The metrics and figures of the trained networks."""

from pathlib import Path

import numpy as np
from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures, picture_grid, save, worst_errors
from dlcommon.runtime.evaluation.overlay import heat_overlay
from dlcommon.runtime.evaluation.result import Evaluation

SHOWN = 32
"""Pictures in each grid."""


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    loaded = data.load()
    images, labels, classes = loaded.test_images, loaded.test_labels, loaded.classes
    outputs = predict({"images": images})
    evaluation = evaluate_classifier(outputs["probabilities"], labels, classes, outputs)
    if figures is not None:
        classification_figures(figures, evaluation.tables, evaluation.metrics["expected_calibration_error"])
        worst = worst_errors(images, labels, outputs["probabilities"], classes, SHOWN)
        if worst is not None:
            save(worst, figures / "worst_errors.png")
        if outputs["activation_maps"].size:
            draw_evidence(figures, images, labels, classes, outputs)
    return evaluation


def draw_evidence(
    folder: Path, images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], outputs: dict[str, np.ndarray]
) -> None:
    """Draws where the evidence lay in some of the images."""
    probabilities, maps = outputs["probabilities"], outputs["activation_maps"]
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    some = np.linspace(0, len(images) - 1, SHOWN // 2).astype(int)
    overlays = [heat_overlay(images[i], maps[i, predicted[i]], 128) for i in some]
    grid = [picture for i, drawn in zip(some, overlays, strict=True) for picture in (images[i], drawn)]
    captions = [text for i in some for text in (classes[labels[i]], f"{classes[predicted[i]]} {confidence[i]:.0%}")]
    save(picture_grid(grid, captions), folder / "evidence.png")
