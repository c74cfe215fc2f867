"""The run: nested cross-validation of the ladder, its comparison by whole groups, the model on all rows, the report."""

import json
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.run import Run
from dlcommon.runtime.tables.columns import as_arrays

from eda_titanic import validation
from eda_titanic.config import Config
from eda_titanic.importance import shuffled_losses
from eda_titanic.ladder import LADDER, RUNGS, SETTINGS, Choice, TableModel, blocks_for
from eda_titanic.passengers import CompanionFate, is_passenger_list
from eda_titanic.problem import Problem, pose
from eda_titanic.report.page import report
from eda_titanic.scores import cross_validated, ladder_row

GROUP_SEED = 1000
"""Added to the seeds of splits by group."""


def train(run: Run[Config]) -> None:
    config, problem = run.config, pose(run.data.load())
    if not blocks_for(problem.columns, config.companions):
        raise UserError(
            f"no column tells anything to predict {problem.table.target} by: numbers, and texts with few values, would"
        )
    groups = problem.groups_by(config.group)
    nested = [nested_repetition(run, problem, repeat) for repeat in range(config.repeats)]
    choice, best = run.cached(
        "choice",
        lambda: validation.choose(
            problem, np.arange(len(problem.target)), config.inner_folds, config.companions, config.seed
        ),
    )
    rungs = list(LADDER) if best == "blend" else [best]
    tied = compare_splits(run, problem, choice, groups)
    importance = run.cached(
        "importance", lambda: shuffled_losses(problem, choice, config.folds, config.companions, config.seed)
    )
    fitted = TableModel(problem.columns, rungs, choice, config.companions, config.seed)
    fitted.fit(problem.arrays, problem.target)
    facts = {
        "question": problem.question,
        "classes": problem.classes,
        "columns": [column.as_json() for column in problem.columns],
        "rungs": rungs,
        "choice": choice,
        "importance": importance,
        "validation": validation_facts(problem, nested, tied),
        "fitted": np.round(fitted.predict_proba(problem.arrays), 5).tolist(),
    }
    files = {"model.json": json.dumps(facts).encode()}
    if problem.table.test is not None:
        files["submission.csv"] = submission(problem, fitted, problem.table.test)
    files["report.html"] = report(problem.table, run.data.title, {**facts, "target": problem.target.tolist()}).encode()
    run.finish(files, classes=problem.classes, rungs=rungs, settings=settings_of(choice))
    run.output.say(f"report: {run.directory / 'report.html'}")


def nested_repetition(run: Run[Config], problem: Problem, repeat: int) -> list[dict[str, Any]]:
    """Runs the outer folds of one repetition, each a piece of work that a resumed run does not do again."""
    config, seed = run.config, run.config.seed + repeat
    folds: list[dict[str, Any]] = []
    for number, (rows, test) in enumerate(validation.splits(problem.target, config.folds, seed)):

        def fold(rows: np.ndarray = rows, test: np.ndarray = test) -> dict[str, Any]:
            return validation.outer_fold(problem, rows, test, config.inner_folds, config.companions, seed)

        done = run.cached(f"nested-{repeat + 1}-{number + 1}", fold)
        folds.append(done)
        accuracies = fold_accuracies([done], problem)
        run.log(**{f"{rung}_accuracy".replace(" ", "_"): values[0] for rung, values in accuracies.items()})
    chosen = validation.out_of_fold(folds, problem, None).argmax(axis=1)
    accuracy = float((chosen == problem.target).mean())
    run.log(validation_accuracy=accuracy)
    run.output.say(f"repetition {repeat + 1}: nested accuracy {accuracy:.4f}")
    return folds


def fold_accuracies(folds: list[dict[str, Any]], problem: Problem) -> dict[str, list[float]]:
    """Computes the accuracy in each fold of each rung, and of the one that the inner folds chose."""
    result: dict[str, list[float]] = {name: [] for name in (*RUNGS, "chosen")}
    for fold in folds:
        for name in result:
            predicted = np.argmax(fold["probabilities"][fold["best"] if name == "chosen" else name], axis=1)
            result[name].append(float((predicted == problem.target[fold["rows"]]).mean()))
    return result


def compare_splits(
    run: Run[Config], problem: Problem, choice: Choice, groups: np.ndarray | None
) -> dict[str, Any] | None:
    """Measures the blend's accuracy by random folds and by folds of whole groups, with and without companions' fate.

    Settings are those chosen on all rows, so that only the split and the features differ.
    """
    config = run.config
    if groups is None or len(np.unique(groups)) < config.folds:
        return None
    fate = is_passenger_list(problem.columns) and any(
        isinstance(block, CompanionFate)
        for block in TableModel(problem.columns, [], choice, companions=True, seed=0).features.blocks
    )
    variants = [True, False] if fate else [False]
    table: dict[str, dict[str, list[float]]] = {}
    for split in ("random", "grouped"):
        for repeat in range(config.repeats):
            seed = config.seed + GROUP_SEED + repeat
            folds = validation.splits(problem.target, config.folds, seed, groups if split == "grouped" else None)

            def compared(folds: list[tuple[np.ndarray, np.ndarray]] = folds, seed: int = seed) -> list[dict[str, Any]]:
                return [validation.compared_fold(problem, *fold, choice, variants, seed) for fold in folds]

            done = run.cached(f"{split}-{repeat + 1}", compared)
            for variant in done[0]["correct"]:
                accuracy = sum(fold["correct"][variant] for fold in done) / len(problem.target)
                table.setdefault(split, {}).setdefault(variant, []).append(accuracy)
    sizes = np.bincount(groups)
    return {
        "groups": len(sizes),
        "in_groups": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max()),
        "accuracy": table,
    }


def validation_facts(
    problem: Problem, nested: list[list[dict[str, Any]]], tied: dict[str, Any] | None
) -> dict[str, Any]:
    """Collects what the model file says about rows that the model has not seen."""
    accuracies = fold_accuracies([fold for repetition in nested for fold in repetition], problem)
    ladder = {}
    for name in (*RUNGS, "chosen"):
        rung = None if name == "chosen" else name
        repetitions = [validation.out_of_fold(folds, problem, rung) for folds in nested]
        ladder[name] = ladder_row(cross_validated(repetitions, problem.target, problem.classes, accuracies[name]))
    chosen = [validation.out_of_fold(folds, problem, None) for folds in nested]
    wins = [fold["best"] for repetition in nested for fold in repetition]
    return {
        "fingerprint": problem.fingerprint,
        "out_of_fold": [np.round(probabilities[:, 1:], 4).tolist() for probabilities in chosen],
        "fold_accuracies": accuracies["chosen"],
        "ladder": ladder,
        "chosen": {rung: wins.count(rung) for rung in RUNGS},
        "splits": tied,
    }


def settings_of(choice: Choice) -> dict[str, Any]:
    return {rung: dict(SETTINGS[rung][setting]) for rung, setting in choice.items()}


def submission(problem: Problem, fitted: TableModel, test: pd.DataFrame) -> bytes:
    """Writes the predicted class of every row of the test table."""
    levels = np.sort(problem.table.train[problem.table.target].unique())
    predicted = fitted.predict_proba(as_arrays(test, problem.columns)).argmax(axis=1)
    return problem.submission(test, levels[predicted])
