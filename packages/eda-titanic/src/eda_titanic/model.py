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

from eda_titanic.config import Config
from eda_titanic.data import own_data
from eda_titanic.importance import background, players_for
from eda_titanic.ladder import TableModel
from eda_titanic.problem import Problem, pose

SAME = 1e-4
"""Largest difference between the probabilities of a run and those of its rebuilt model."""


def rebuilt(saved: SavedRun[Config]) -> tuple[Problem, TableModel, dict[str, Any]]:
    """Fits the run's model again.

    Raises:
        UserError: its data is not here or has changed, or today's libraries fit another model.
    """
    located = training_data(saved, own_data(saved.config))
    problem, facts = pose(located.load()), read_json(saved.directory / "model.json")
    model = TableModel(problem.columns, facts["rungs"], facts["choice"], saved.config.companions, saved.config.seed)
    model.fit(problem.arrays, problem.target)
    difference = np.abs(model.predict_proba(problem.arrays) - np.array(facts["fitted"])).max()
    if difference > SAME:
        raise UserError(
            f"{saved.directory}: rebuilt, the model's probabilities differ by {difference:.1g}; the libraries are "
            f"others than those it was trained with, so train again"
        )
    return problem, model, facts


def export_graph(saved: SavedRun[Config]) -> ConvertedGraph:
    """Returns the trained model of a run as it is exported."""
    problem, model, facts = rebuilt(saved)
    players = players_for(problem.columns, facts["importance"])
    metadata = {
        "labels": json.dumps(problem.classes),
        "question": problem.question,
        "target": problem.table.target,
        "columns": json.dumps(facts["columns"]),
        "model": " + ".join(facts["rungs"]),
        "companions": str(saved.config.companions).lower(),
        "players": json.dumps(players),
        "background": json.dumps(background(problem, players, saved.config.seed)),
        "validation": json.dumps(facts["validation"]),
        "importance": json.dumps(facts["importance"]),
    }
    example = {name: values[:2] for name, values in problem.arrays.items()}

    def original(arrays: Arrays) -> dict[str, np.ndarray]:
        return {"probabilities": model.predict_proba(arrays).astype(np.float32)}

    return ConvertedGraph(model.to_onnx(len(problem.classes)), original, "scikit-learn", example, metadata)
