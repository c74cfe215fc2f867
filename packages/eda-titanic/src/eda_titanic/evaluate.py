"""The trained model: how it is evaluated, rebuilt and exported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from dlcommon.runtime import data
from dlcommon.runtime.capstone import Arrays, ConvertedGraph, Evaluation, Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.figures import classification_figures
from dlcommon.runtime.files import read_json
from dlcommon.runtime.run_directory import SavedRun
from dlcommon.runtime.tables.columns import Column, as_arrays

from eda_titanic.config import Config
from eda_titanic.importance import background, players_for
from eda_titanic.model import TableModel
from eda_titanic.problem import Problem, fingerprint, pose
from eda_titanic.scores import cross_validated, scored

SAME = 1e-4
"""Largest difference between the probabilities of a run and those of its rebuilt model."""


class Original:
    """The model in scikit-learn and NumPy, and what it says about itself."""

    def __init__(self, model: TableModel, metadata: Mapping[str, str]) -> None:
        self.model, self.metadata = model, metadata

    def __call__(self, arrays: Arrays) -> dict[str, np.ndarray]:
        return {"probabilities": self.model.predict_proba(arrays).astype(np.float32)}


def evaluate(predict: Predict, located: LocatedDataSet, figures: Path | None) -> Evaluation:
    """On the table that it was trained on: the nested cross-validation that the model carries, whose figures are those
    of rows that were left out. On another table: the model as it is, on rows that it may or may not know.

    Raises:
        UserError: the table asks another question.
    """
    metadata, problem = metadata_of(predict), pose(located.load())
    columns = [Column.from_json(column) for column in json.loads(metadata["columns"])]
    labels = json.loads(metadata["labels"])
    if labels != problem.classes:
        raise UserError(
            f"this model tells {', '.join(labels)} apart; {located.name} asks for {', '.join(problem.classes)}"
        )
    outputs = {"probabilities": predict(as_arrays(problem.table.train, columns))["probabilities"]}
    apparent = scored(outputs["probabilities"], problem.target, problem.classes)
    facts = json.loads(metadata["validation"])
    if problem.table.test is not None:
        outputs["unlabelled"] = predict(as_arrays(problem.table.test, columns))["probabilities"]
    if facts["fingerprint"] == fingerprint(problem):
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
    """Probabilities [rows, classes] from those of all classes but the first."""
    return np.hstack([1 - others.sum(axis=1, keepdims=True), others])


def rebuilt(saved: SavedRun[Config]) -> tuple[Problem, TableModel, dict[str, Any]]:
    """The run's model, fitted again: a second's work, and nothing that is stored has to be unpickled.

    Raises:
        UserError: its data is not here or has changed, or today's libraries fit another model.
    """
    from eda_titanic.capstone import CAPSTONE

    located = CAPSTONE.own_data(saved.config) or data.find(saved.data_name)
    if located is None:
        raise UserError(f"{saved.data_name}, from which the run's model is rebuilt, is not on this machine")
    if located.fingerprint() != saved.summary["data"]["fingerprint"]:
        raise UserError(f"{located.name} has changed since {saved.directory} was trained; train again")
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
    return ConvertedGraph(
        model.to_onnx(len(problem.classes)), Original(model, metadata), "scikit-learn", example, metadata
    )
