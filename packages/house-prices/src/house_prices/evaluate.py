"""The trained model: how it is evaluated, rebuilt and exported."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from dlcommon.runtime import data
from dlcommon.runtime.capstone import Arrays, ConvertedGraph, Evaluation, Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json
from dlcommon.runtime.run_directory import SavedRun
from dlcommon.runtime.tables.columns import Column, as_arrays

from house_prices.config import Config
from house_prices.figures import draw
from house_prices.model import LADDER, HouseModel, Interval, answers
from house_prices.problem import Problem, fingerprint, pose
from house_prices.scores import apparent, cross_validated

SAME = 1e-3
"""Largest relative difference between the prices of a run and those of its rebuilt model."""
SHOWN = "Neighborhood YrSold YearBuilt GrLivArea LotArea OverallQual BedroomAbvGr".split()
"""What the demo says of a sold house."""


class Original:
    """The model in NumPy, and what it says about itself."""

    def __init__(
        self, model: HouseModel, weights: list[float], interval: Interval, metadata: Mapping[str, str]
    ) -> None:
        self.model, self.weights, self.interval, self.metadata = model, weights, interval, metadata

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        return answers(self.model, arrays, self.weights, self.interval)


def evaluate(predict: Predict, located: LocatedDataSet, figures: Path | None) -> Evaluation:
    """On the table that it was trained on: the repeated cross-validation that the model carries, whose figures are
    those of rows that were left out. On another table: the model as it is, on rows that it may or may not know."""
    metadata, problem = metadata_of(predict), pose(located.load())
    columns = [Column.from_json(column) for column in json.loads(metadata["columns"])]
    outputs = {"price": predict(as_arrays(problem.table.train, columns))["price"]}
    if problem.table.test is not None:
        outputs["unpriced"] = predict(as_arrays(problem.table.test, columns))["price"]
    facts = json.loads(metadata["validation"])
    if facts["fingerprint"] == fingerprint(problem):
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


def rebuilt(saved: SavedRun[Config]) -> tuple[Problem, HouseModel, dict[str, Any]]:
    """The run's model. The features' medians and levels are taken from its data again; what the rungs learnt is kept.

    Raises:
        UserError: its data is not here or has changed.
    """
    located = data.find(saved.data_name)
    if located is None:
        raise UserError(f"{saved.data_name}, from which the run's features are made, is not on this machine")
    if located.fingerprint() != saved.summary["data"]["fingerprint"]:
        raise UserError(f"{located.name} has changed since {saved.directory} was trained; train again")
    problem, facts = pose(located.load()), read_json(saved.directory / "model.json")
    model = problem.restored(saved.config, (saved.directory / "model.safetensors").read_bytes())
    try:
        prices = np.exp(model.predict(problem.arrays) @ np.array(facts["weights"]))
    except (KeyError, ValueError) as error:  # other arrays, or of other features
        raise UserError(f"{saved.directory} was trained by another version of house-prices; train again") from error
    if np.abs(prices / np.array(facts["fitted"]) - 1).max() > SAME:
        raise UserError(f"{saved.directory}: the rebuilt model gives other prices than the trained one; train again")
    return problem, model, facts


def export_graph(saved: SavedRun[Config]) -> ConvertedGraph:
    problem, model, facts = rebuilt(saved)
    interval = Interval(facts["interval"]["floor"], facts["interval"]["scale"])
    shown = [name for name in SHOWN if name in problem.table.train]
    metadata = {
        "columns": json.dumps(facts["columns"]),
        "target": problem.table.target,
        "rungs": json.dumps(dict(zip(LADDER, facts["weights"], strict=True))),
        "interval": json.dumps(facts["interval"]),
        "validation": json.dumps(facts["validation"]),
        "importance": json.dumps(facts["importance"]),
        "dependence": json.dumps(facts["dependence"]),
        "sold": json.dumps({
            "profile": model.profile(problem.arrays).round(3).tolist(),
            "price": problem.table.train[problem.table.target].tolist(),
            **{name: problem.table.train[name].tolist() for name in shown},
        }),
    }  # fmt: skip
    example = {name: values[:2] for name, values in problem.arrays.items()}
    return ConvertedGraph(
        model.to_onnx(facts["weights"], interval),
        Original(model, facts["weights"], interval, metadata),
        "NumPy",
        example,
        metadata,
    )
