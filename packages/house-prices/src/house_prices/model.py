"""The trained model of a run, rebuilt and exported."""

import json
from typing import Any

import numpy as np
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.export.graph import ConvertedGraph
from dlcommon.runtime.files import read_json
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.runtime.tables.rebuilding import training_data

from house_prices.config import Config
from house_prices.ladder import LADDER, HouseModel, Interval, answers
from house_prices.problem import Problem, pose

SAME = 1e-3
"""Largest relative difference between the prices of a run and those of its rebuilt model."""
SHOWN = "Neighborhood YrSold YearBuilt GrLivArea LotArea OverallQual BedroomAbvGr".split()
"""Facts that the page tells of a sold house."""


def rebuilt(saved: SavedRun[Config]) -> tuple[Problem, HouseModel, dict[str, Any]]:
    """Rebuilds the run's model: what the features learn is fitted again, what the rungs learnt is read.

    Raises:
        UserError: its data is not here or has changed, another version of house-prices trained it, or the rebuilt model
            gives other prices than the trained one.
    """
    problem, facts = pose(training_data(saved).load()), read_json(saved.directory / "model.json")
    model = problem.restored(saved.config, (saved.directory / "model.safetensors").read_bytes())
    try:
        prices = np.exp(model.predict(problem.arrays) @ np.array(facts["weights"]))
    except (KeyError, ValueError) as error:  # other arrays, or of other features
        raise UserError(f"{saved.directory} was trained by another version of house-prices; train again") from error
    if np.abs(prices / np.array(facts["fitted"]) - 1).max() > SAME:
        raise UserError(f"{saved.directory}: the rebuilt model gives other prices than the trained one; train again")
    return problem, model, facts


def export_graph(saved: SavedRun[Config]) -> ConvertedGraph:
    """Returns the trained model of a run as it is exported."""
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

    def original(arrays: Arrays) -> dict[str, np.ndarray]:
        return answers(model, arrays, facts["weights"], interval)

    return ConvertedGraph(model.to_onnx(facts["weights"], interval), original, "NumPy", example, metadata)
