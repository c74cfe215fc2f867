"""The run: repeated cross-validation of the ladder, the blend and its interval, the model of all rows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.run import Run
from dlcommon.runtime.run_directory import WEIGHTS
from dlcommon.runtime.tables.columns import as_arrays
from safetensors.numpy import save

from house_prices import validation
from house_prices.config import Config
from house_prices.importance import partial_dependence, shuffled_errors
from house_prices.ladder import LADDER, HouseModel, answers
from house_prices.problem import Problem, pose


def train(run: Run[Config]) -> None:
    config, problem = run.config, pose(run.data.load())
    repetitions = [repetition(run, problem, repeat) for repeat in range(config.repeats)]
    mean = np.mean(repetitions, axis=0)  # [rows, rungs], log prices of rows left out
    weights = validation.blend_weights(mean, problem.log_prices)
    interval = validation.fit_interval(mean, mean @ weights, problem.log_prices, config.coverage)
    importance = run.cached("importance", lambda: shuffled_errors(problem, config, weights))

    def fit(folder: Path) -> None:
        model = HouseModel(problem.columns, config, config.seed).fit(problem.arrays, problem.log_prices)
        write_bytes(folder / WEIGHTS, save(model.learnt_arrays()))

    learnt = (run.cached_files("model", fit) / WEIGHTS).read_bytes()
    model = problem.restored(config, learnt)
    dependence = run.cached("dependence", lambda: partial_dependence(problem, model, weights, importance["columns"]))
    given = answers(model, problem.arrays, weights.tolist(), interval)
    facts = {
        "columns": [column.as_json() for column in problem.columns],
        "weights": weights.tolist(),
        "interval": {"floor": interval.floor, "scale": interval.scale, "coverage": config.coverage},
        "importance": importance,
        "dependence": dependence,
        "validation": {
            "fingerprint": problem.fingerprint,
            "repeats": config.repeats,
            "folds": config.folds,
            "seed": config.seed,
            "out_of_fold": [np.round(repetition, 4).tolist() for repetition in repetitions],
        },
        "fitted": np.round(given["price"][:, 0]).tolist(),
    }
    files = {"model.json": json.dumps(facts).encode(), WEIGHTS: learnt}
    if problem.table.test is not None:
        files["submission.csv"] = submission(problem, model, problem.table.test, weights)
    run.finish(files, rungs=list(LADDER), weights=dict(zip(LADDER, np.round(weights, 3).tolist(), strict=True)))


def repetition(run: Run[Config], problem: Problem, repeat: int) -> np.ndarray:
    """Predicts log prices [rows, rungs] of one repetition, each row's from the fold that left it out; each fold is a
    piece of work that a resumed run does not do again."""
    config, seed = run.config, run.config.seed + repeat
    result = np.empty((len(problem.log_prices), len(LADDER)))
    folds = validation.splits(len(result), config.folds, seed)
    for number, fold in enumerate(folds):

        def predicted(fold: tuple[np.ndarray, np.ndarray] = fold) -> list[list[float]]:
            _, found = validation.held_out(problem.columns, problem.arrays, problem.log_prices, fold, config, seed)
            rounded: list[list[float]] = np.round(found, 6).tolist()
            return rounded

        result[fold[1]] = run.cached(f"repeat-{repeat + 1}-fold-{number + 1}", predicted)
        errors = result[fold[1]] - problem.log_prices[fold[1], None]
        names = [f"{rung}_rmsle".replace(" ", "_") for rung in LADDER]
        run.log(**{name: validation.rmsle(column) for name, column in zip(names, errors.T, strict=True)})
    blend = validation.stacked(result, problem.log_prices, [test for _, test in folds])
    error = validation.rmsle(blend - problem.log_prices)
    run.log(validation_rmsle=error)
    run.output.say(f"repetition {repeat + 1}: RMSLE {error:.4f}")
    return result


def submission(problem: Problem, model: HouseModel, test: pd.DataFrame, weights: np.ndarray) -> bytes:
    """Writes the price of every row of the test table."""
    prices = np.exp(model.predict(as_arrays(test, problem.columns)) @ weights)
    return problem.submission(test, prices.round(2))
