"""The blend's weights, the intervals and the errors of figures."""

import numpy as np
import pytest
from house_prices.config import Config
from house_prices.validation import blend_weights, covered, fit_interval, paired, rmsle, splits, stacked


def predictions(seed: int, rows: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Three models' log prices, the last of them useless, and the truth; where they disagree they err."""
    random = np.random.default_rng(seed)
    truth = random.normal(12, 0.4, rows)
    difficulty = random.gamma(2, 0.05, rows)
    good = truth[:, None] + difficulty[:, None] * random.normal(0, 1, (rows, 2))
    return np.hstack([good, random.normal(12, 0.4, (rows, 1))]), truth


def test_weights_are_positive_add_up_to_one_and_err_least() -> None:
    given, truth = predictions(0)
    weights = blend_weights(given, truth)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[2] < 0.05
    best = rmsle(given @ weights - truth)
    for other in np.random.default_rng(1).dirichlet(np.ones(3), 200):
        assert best <= rmsle(given @ other - truth) + 1e-6


def test_the_blend_of_a_fold_does_not_know_its_prices() -> None:
    given, truth = predictions(0, 200)
    tests = [test for _, test in splits(200, 4, 0)]
    before = stacked(given, truth, tests)
    changed = truth.copy()
    changed[tests[0]] += 1
    after = stacked(given, changed, tests)
    np.testing.assert_array_equal(before[tests[0]], after[tests[0]])
    assert not np.array_equal(before[tests[1]], after[tests[1]])


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_intervals_hold_the_share_that_they_promise(coverage: float) -> None:
    given, truth = predictions(0)
    blend = given[:, :2].mean(axis=1)
    tests = [test for _, test in splits(len(truth), 5, 0)]
    inside, half = covered(given[:, :2], blend, truth, tests, coverage)
    assert inside.mean() == pytest.approx(coverage, abs=0.025)
    assert np.corrcoef(half, np.abs(given[:, 0] - given[:, 1]))[0, 1] > 0.9


def test_the_intervals_scale_is_the_corrected_quantile() -> None:
    spread = np.tile([[-1.0, 1.0]], (9, 1))  # a standard deviation of one in every row
    interval = fit_interval(spread, np.zeros(9), np.arange(1, 10.0), coverage=0.8)
    assert interval.floor == 1
    assert interval.scale == pytest.approx(8 / 2)  # ceil(0.8 · 10) = 8th smallest error, over floor + 1


def test_paired_differences_are_of_the_same_folds() -> None:
    found = paired([0.1, 0.2, 0.3, 0.4], [0.11, 0.21, 0.31, 0.41], folds=2)
    assert found["difference"] == pytest.approx(0.01)
    assert found["standard_error"] == pytest.approx(0, abs=1e-9)


def test_every_row_is_tested_once_in_a_repetition() -> None:
    tests = np.concatenate([test for _, test in splits(103, 5, 3)])
    assert sorted(tests) == list(range(103))
    assert not np.array_equal(tests, np.concatenate([test for _, test in splits(103, 5, 4)]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"folds": 1}, "folds must be at least 2 and at most 50"),
        ({"tree_rate": 0.0}, "tree_rate must be above 0"),
        ({"coverage": 1.0}, "coverage must be at least 0.5"),
    ],
)
def test_impossible_options_are_refused(flags: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**flags)  # type: ignore[arg-type]
