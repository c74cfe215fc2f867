"""Figures of an evaluation: curves of precision over recall, counts, and the pictures that are worst."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dlcommon.runtime.data.detection import AnnotatedImage
from dlcommon.runtime.evaluation.figures import figure, save
from matplotlib.patches import Rectangle

from yolo_detector.classes import COLORS
from yolo_detector.detections import Detections
from yolo_detector.metrics import Matches

SHOWN = 12
"""Pictures in the figure of the worst."""


def draw_figures(
    folder: Path,
    samples: Sequence[AnnotatedImage],
    found: Sequence[Detections],
    classes: Sequence[str],
    matches: Sequence[Matches],
    confidence: float,
) -> None:
    """Draws all figures into a folder."""
    draw_curves(folder / "precision_recall.png", classes, matches)
    draw_counts(folder / "counts.png", samples, found, classes, confidence)
    draw_worst(folder / "worst_pictures.png", samples, found, matches, confidence)


def draw_curves(path: Path, classes: Sequence[str], matches: Sequence[Matches]) -> None:
    """Draws precision over recall at an IoU of 0.5, a line for each class."""
    made, panels = figure(5, 4)
    axes = panels[0, 0]
    for label, (name, each) in enumerate(zip(classes, matches, strict=True)):
        if each.objects.sum():
            _, precision, recall = each.curve()
            caption = f"{name} {each.average_precision():.3f}"
            axes.plot(recall, precision, color=_color(label), label=caption)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="IoU ≥ 0.5")
    axes.legend(frameon=False, loc="lower left")
    save(made, path)


def draw_counts(
    path: Path,
    samples: Sequence[AnnotatedImage],
    found: Sequence[Detections],
    classes: Sequence[str],
    confidence: float,
) -> None:
    """Draws how many objects of each class were found in each picture over how many there are."""
    made, panels = figure(3.2 * len(classes), 3.2, columns=len(classes))
    for label, (name, axes) in enumerate(zip(classes, panels[0], strict=True)):
        there = np.array([(sample.labels == label).sum() for sample in samples])
        counted = np.array([(one.above(confidence).labels == label).sum() for one in found])
        most = max(there.max(initial=1), counted.max(initial=1))
        axes.plot([0, most], [0, most], color="#94a3b8", linewidth=1)
        axes.plot(there, counted, "o", color=_color(label), alpha=0.5, markersize=4)
        axes.set(title=name, xlabel="boxes in the data", ylabel=f"found, score > {confidence:.2f}")
    save(made, path)


def draw_worst(
    path: Path,
    samples: Sequence[AnnotatedImage],
    found: Sequence[Detections],
    matches: Sequence[Matches],
    confidence: float,
) -> None:
    """Draws the pictures with most errors: the data's boxes thin and white, the detections in their class's color."""
    errors = np.zeros(len(samples))
    for each in matches:
        for row, (scores, correct, objects) in enumerate(zip(each.scores, each.correct, each.objects, strict=True)):
            right = (correct & (scores > confidence)).sum()
            errors[row] += (scores > confidence).sum() + objects - 2 * right  # found wrongly, and not found
    columns, worst = 4, np.argsort(-errors, kind="stable")[:SHOWN]
    made, panels = figure(3.2 * columns, 2.6 * -(-len(worst) // columns), -(-len(worst) // columns), columns)
    for axes in panels.flat:
        axes.axis("off")
    for axes, row in zip(panels.flat, worst, strict=False):
        axes.imshow(samples[row].image)
        axes.set_title(f"{samples[row].name}: {int(errors[row])} errors", fontsize=8)
        for box in samples[row].boxes:
            axes.add_patch(_rectangle(box, "white", 0.8))
        shown = found[row].above(confidence)
        for box, label in zip(shown.boxes, shown.labels, strict=True):
            axes.add_patch(_rectangle(box, _color(label), 1.4))
    save(made, path)


def _rectangle(box: np.ndarray, color: str, width: float) -> Rectangle:
    left, top, right, bottom = box.tolist()
    return Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=width)


def _color(label: int) -> tuple[float, float, float]:
    """Returns a class's color as matplotlib takes it."""
    red, green, blue = COLORS[label % len(COLORS)]
    return red / 255, green / 255, blue / 255
