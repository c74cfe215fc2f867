"""Pictures of an evaluation."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def draw(folder: Path, tables: dict[str, Any]) -> None:
    """Draws predicted.png, neighborhoods.png, importance.png and dependence.png, where the tables have the data."""
    if "errors" in tables:
        _predicted(folder / "predicted.png", tables["errors"])
    _neighborhoods(folder / "neighborhoods.png", tables["neighborhoods"])
    if "importance" in tables:
        _importance(folder / "importance.png", tables["importance"]["columns"])
        _dependence(folder / "dependence.png", tables["dependence"])


def _predicted(path: Path, errors: dict[str, list[float]]) -> None:
    true, predicted = (np.array(errors[name]) / 1000 for name in ("price", "predicted"))
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    axes.scatter(true, predicted, s=8, alpha=0.4)
    ends = [true.min(), true.max()]
    axes.plot(ends, ends, color="black", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="sold for, thousand dollars", ylabel="predicted when left out")
    axes.set_title("Prices of houses that the model had not seen")
    _save(figure, path)


def _neighborhoods(path: Path, places: dict[str, dict[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(7, 0.26 * len(places) + 1), layout="constrained")
    names = list(places)[::-1]
    axes.barh([f"{name} ({places[name]['houses']:.0f})" for name in names], [places[name]["rmsle"] for name in names])
    axes.set(xlabel="RMSLE", title="Errors by neighbourhood (houses)")
    _save(figure, path)


def _importance(path: Path, columns: dict[str, float]) -> None:
    top = list(columns.items())[:20][::-1]
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    axes.barh([name for name, _ in top], [rise for _, rise in top])
    axes.set(xlabel="rise of RMSLE when the column is shuffled", title="What the prices rest on")
    _save(figure, path)


def _dependence(path: Path, curves: dict[str, list[list[Any]]]) -> None:
    figure, grid = plt.subplots(3, 3, figsize=(11, 9), layout="constrained", squeeze=False)
    for axes, (name, points) in zip(grid.flat, curves.items(), strict=False):
        values, prices = [value for value, _ in points], [price / 1000 for _, price in points]
        if isinstance(values[0], str):
            order = np.argsort(prices)
            axes.barh([values[i] for i in order], [prices[i] for i in order])
            axes.tick_params(axis="y", labelsize=6 if len(values) > 10 else 8)
            axes.set_xlabel("thousand dollars")
        else:
            axes.plot(values, prices, marker=".")
            axes.set_ylabel("thousand dollars")
        axes.set_title(name)
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_axis_off()
    figure.suptitle("The mean price if all houses had this value")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
