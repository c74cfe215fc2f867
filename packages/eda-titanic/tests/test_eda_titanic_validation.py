"""Cross-validation: what it sees, what it must not see, and the error it states."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import Table
from dlcommon.runtime.tables.cross_validation import corrected_standard_error
from eda_titanic import network, validation
from eda_titanic.problem import Problem, pose
from eda_titanic.scores import cross_validated, scored


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well the network is trained matters to none of these tests."""
    monkeypatch.setattr(network, "FEWEST_STEPS", 60)


def table(rows: int, signal: float, seed: int = 0) -> Table:
    """Two numbers and a category; the class is a coin's, or follows the first number."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    label = np.where(random.random(rows) < 1 / (1 + np.exp(-signal * x)), "yes", "no")
    frame = pd.DataFrame({"x": x, "z": random.normal(size=rows), "c": random.choice(list("ab"), rows), "y": label})
    return Table(frame.astype({"c": "str", "y": "str"}), None, "y", None)


def nested(problem: Problem) -> list[dict[str, Any]]:
    splits = validation.splits(problem.target, 2, 0)
    return [validation.outer_fold(problem, train, test, 2, True, 0) for train, test in splits]


def test_coins_cannot_be_predicted_and_a_signal_can() -> None:
    coins, signal = pose(table(400, 0.0)), pose(table(400, 4.0))
    accuracies = []
    for problem in (coins, signal):
        probabilities = validation.out_of_fold(nested(problem), problem, None)
        accuracies.append((probabilities.argmax(axis=1) == problem.target).mean())
    assert 0.40 < accuracies[0] < 0.60  # two standard errors of 400 coins: 0.05
    assert accuracies[1] > 0.78


def test_test_rows_do_not_reach_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing the labels of the test rows changes nothing that is chosen or predicted."""
    problem = pose(table(240, 2.0))
    train, test = validation.splits(problem.target, 3, 0)[0]
    before = validation.outer_fold(problem, train, test, 2, True, 0)
    target = problem.target.copy()
    target[test] = 1 - target[test]
    changed = Problem(problem.table, problem.columns, problem.arrays, target, problem.classes, problem.question)
    after = validation.outer_fold(changed, train, test, 2, True, 0)
    assert before == after


def test_groups_stay_whole_and_every_row_is_tested_once() -> None:
    random = np.random.default_rng(0)
    target, groups = random.integers(0, 2, 300), random.integers(0, 60, 300)
    folds = validation.splits(target, 5, 0, groups)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(300))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
    assert any(set(groups[train]) & set(groups[test]) for train, test in validation.splits(target, 5, 0))


def test_corrected_standard_error() -> None:
    scores = [0.80, 0.84, 0.82, 0.78, 0.86, 0.80, 0.83, 0.81, 0.79, 0.87]
    expected = np.sqrt((1 / 10 + 1 / 4) * np.var(scores, ddof=1))
    assert corrected_standard_error(scores, 5) == pytest.approx(expected)
    assert corrected_standard_error(scores, 5) > np.std(scores, ddof=1) / np.sqrt(10)
    assert corrected_standard_error([0.8], 5) == 0


def test_scores_of_two_classes_are_the_usual_ones() -> None:
    from sklearn.metrics import brier_score_loss, log_loss

    random = np.random.default_rng(1)
    target, p = random.integers(0, 2, 500), random.random(500)
    probabilities = np.column_stack([1 - p, p])
    evaluation = scored(probabilities, target, ["no", "yes"])
    assert evaluation.metrics["brier"] == pytest.approx(brier_score_loss(target, p))
    assert evaluation.metrics["cross_entropy"] == pytest.approx(log_loss(target, p))


def test_repetitions_are_averaged() -> None:
    target = np.array([0, 1] * 20)
    right, wrong = np.eye(2)[target], np.eye(2)[1 - target]
    mixed = cross_validated([right, wrong], target, ["a", "b"], [1.0, 1.0, 0.0, 0.0])
    assert mixed.metrics["accuracy"] == 0.5
    assert mixed.n == 40
    assert mixed.metrics["accuracy_spread_of_repeats"] == pytest.approx(np.std([1, 0], ddof=1))
