"""Figures in one style. Each function returns a figure; `save` writes it whole or not at all."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dlcommon.runtime.files import write_bytes

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#94a3b8"
LARGEST_MATRIX = 30
"""Classes up to which the confusion matrix holds its counts as numbers; beyond, the colours alone."""


def figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    """Makes a figure of that size in inches, and its axes as an array [rows, columns]; touches no global state."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, columns, squeeze=False, **options)


def save(made: Figure, path: Path) -> Path:
    """Writes a PNG."""
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=120)
    write_bytes(path, buffer.getvalue())
    return path


def _plain(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return axes


def training_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draws every logged quantity over the steps, one panel each."""
    fixed = {"step", "epoch", "samples", "seconds", "flops"}
    names = sorted({name for row in rows for name in row} - fixed)
    columns = max(1, len(names))
    made, panels = figure(4.5 * columns, 3.2, columns=columns)
    for axes, name in zip(panels[0], names, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        _plain(axes).plot(*zip(*points, strict=True), color=BLUE, marker="o", markersize=3)
        axes.set(xlabel="step", title=name.replace("_", " "))
    return made


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Draws a confusion matrix: rows are true classes, colour is the share of the row, small shares stand out."""
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2 + 0.55 * min(len(classes), LARGEST_MATRIX)
    made, panels = figure(size, size)
    axes = panels[0, 0]
    colours = PowerNorm(0.4, vmin=0, vmax=1)
    axes.imshow(share, cmap="Blues", norm=colours)
    ticks = range(len(classes))
    axes.set(xticks=ticks, yticks=ticks, xlabel="predicted", ylabel="true")
    axes.set_xticklabels(classes, rotation=45, ha="right")
    axes.set_yticklabels(classes)
    for row in ticks if len(classes) <= LARGEST_MATRIX else ():
        for column in np.flatnonzero(counts[row]):
            colour = "white" if colours(share[row, column]) > 0.6 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    return made


def reliability_diagram(rows: Sequence[dict[str, float]], error: float) -> Figure:
    """Draws accuracy over confidence, and how many samples each point stands for.

    On the diagonal, accuracy equals confidence; above it, the model is underconfident.
    """
    made, panels = figure(4.2, 5.4, rows=2, sharex=True, height_ratios=(3, 1))
    axes, below = _plain(panels[0, 0]), _plain(panels[1, 0])
    confidence = [row["confidence"] for row in rows]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfect calibration")
    axes.plot(confidence, [row["accuracy"] for row in rows], color=BLUE, marker="o", clip_on=False, label="model")
    axes.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=f"calibration error {error:.4f}")
    axes.legend(frameon=False)
    below.bar(confidence, [row["count"] for row in rows], width=0.03, color=BLUE)
    below.set(xlabel="confidence", ylabel="samples", yscale="log")
    return made


def per_class_scores(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draws precision and recall of each class as points, since the axis does not start at zero."""
    made, panels = figure(2 + 0.6 * len(rows), 3.4)
    axes = _plain(panels[0, 0])
    place = np.arange(len(rows))
    for name, colour, shift in (("precision", BLUE, -0.08), ("recall", ORANGE, 0.08)):
        axes.plot(place + shift, [row[name] for row in rows], "o", color=colour, label=name, clip_on=False)
    axes.set_xticks(place, [row["class"] for row in rows], rotation=30, ha="right")
    axes.set_ylim(top=1)
    made.legend(frameon=False, loc="outside upper right", ncols=2)
    return made


def picture_grid(pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> Figure:
    """Draws a grid of images [height, width, 1 or 3], each with a caption."""
    rows = -(-len(pictures) // columns)
    made, panels = figure(1.4 * columns, 1.75 * rows, rows, columns)
    for axes in panels.flat:
        axes.axis("off")
    for axes, picture, caption in zip(panels.flat, pictures, captions, strict=False):
        axes.imshow(picture.squeeze(), cmap="gray" if picture.shape[-1] == 1 else None, interpolation="nearest")
        axes.set_title(caption, fontsize=7)
    return made


def worst_errors(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], shown: int = 32
) -> Figure | None:
    """Draws the most confident errors of an image classifier; returns None where it makes none.

    Args:
        images: [samples, height, width, 1 or 3].
        probabilities: [samples, classes].
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong])][:shown]
    if not len(worst):
        return None
    captions = [f"{classes[labels[i]]} as\n{classes[predicted[i]]} {confidence[i]:.0%}" for i in worst]
    return picture_grid([images[i] for i in worst], captions)


def classification_figures(folder: Path, tables: dict[str, Any], error: float) -> None:
    """Draws confusion matrix, reliability diagram and per-class scores of `evaluate_classifier`."""
    save(confusion(tables["confusion"], tables["classes"]), folder / "confusion.png")
    save(reliability_diagram(tables["reliability"], error), folder / "reliability.png")
    save(per_class_scores(tables["per_class"]), folder / "per_class.png")
