"""The Parzen estimator, the median rule and the variance shares are Optuna's, proposal by proposal."""

from typing import Any

import numpy as np
import optuna
import pytest
from dlcommon.training.pruning import median_prune, variance_shares
from dlcommon.training.tree_parzen import ParzenEstimator, bandwidths, good_count, propose, split, weights
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator
from optuna.samplers._tpe.sampler import default_gamma
from optuna.trial import TrialState, create_trial
from scipy.integrate import quad

optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(values: np.ndarray, losses: np.ndarray, span: FloatDistribution, seed: int) -> optuna.Study:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=0))
    for value, loss in zip(values, losses, strict=True):
        study.add_trial(create_trial(params={"x": value}, distributions={"x": span}, value=loss))
    return study


@pytest.mark.parametrize("trials", [0, 1, 2, 9, 24, 25, 26, 60, 400])
def test_the_density_is_optunas(trials: int) -> None:
    random = np.random.default_rng(trials)
    values, x = random.uniform(-3, 5, trials), np.linspace(-3, 5, 50)
    sampler: Any = optuna.samplers.TPESampler()
    theirs = _ParzenEstimator({"x": values}, {"x": FloatDistribution(-3, 5)}, sampler._parzen_estimator_parameters)
    ours = ParzenEstimator(values, -3, 5)
    np.testing.assert_allclose(ours.log_density(x), theirs.log_pdf({"x": x}), rtol=1e-9, atol=1e-9)
    assert good_count(trials) == default_gamma(trials)


def test_the_density_integrates_to_one_and_is_what_is_drawn_from() -> None:
    estimator = ParzenEstimator(np.array([0.1, 0.15, 0.9]), 0, 1)

    def density(x: float) -> float:
        return float(np.exp(estimator.log_density(np.array([x]))[0]))

    assert quad(density, 0, 1, points=[0.1, 0.15, 0.9])[0] == pytest.approx(1, abs=1e-6)
    drawn = estimator.sample(20_000, np.random.default_rng(0))
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    for end in (0.12, 0.5, 0.8):
        assert (drawn < end).mean() == pytest.approx(quad(density, 0, end)[0], abs=0.015)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("trials", [1, 12, 40])
def test_each_proposal_is_the_one_that_optuna_makes(trials: int, log: bool) -> None:
    random = np.random.default_rng(trials)
    span = FloatDistribution(1e-3, 10, log=log)
    values = np.exp(random.uniform(np.log(1e-3), np.log(10), trials)) if log else random.uniform(1e-3, 10, trials)
    losses = np.log(values) ** 2 + random.standard_normal(trials)
    study, ours = study_of(values, losses, span, seed=5), np.random.RandomState(5)
    low, high = (np.log(1e-3), np.log(10)) if log else (1e-3, 10)
    for _ in range(3):
        trial = study.ask()
        theirs = trial.suggest_float("x", 1e-3, 10, log=log)
        inside = np.log(values) if log else values
        mine = propose(inside, losses, low, high, ours)
        assert (np.exp(mine) if log else mine) == pytest.approx(theirs, rel=1e-6)
        loss = float(np.log(theirs) ** 2)
        study.tell(trial, loss)
        values, losses = np.append(values, theirs), np.append(losses, loss)


def test_good_ones_are_those_of_the_lowest_loss_and_stay_in_order() -> None:
    values = np.arange(12.0)
    losses = np.array([5, 4, 3, 0.5, 9, 9, 9, 0.2, 9, 9, 9, 9])
    good, bad = split(values, losses)
    assert good.tolist() == [3, 7]
    assert bad.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]


def test_kernels_are_as_wide_as_the_gap_to_the_farther_neighbor() -> None:
    assert bandwidths(np.array([5.0, 1.0, 2.0]), 0, 10) == pytest.approx([3, 2, 3], abs=1e-9)
    assert bandwidths(np.array([4.0]), 0, 10) == pytest.approx([6])
    assert weights(3) == pytest.approx([0.25] * 4)
    old = weights(100)
    assert old[0] == pytest.approx(old[-1] / 100)
    assert old[-26:] == pytest.approx(old[-1])


@pytest.mark.parametrize(("startup", "warmup"), [(5, 0), (2, 3), (0, 0)])
def test_the_median_rule_is_optunas(startup: int, warmup: int) -> None:
    random = np.random.default_rng(0)
    study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=warmup))
    finished: list[list[float]] = []
    decided = []
    for number in range(14):
        trial = study.ask()
        curve = (random.random() * np.linspace(1, 0.5, 8) + 0.05 * random.standard_normal(8)).tolist()
        if number == 6:
            curve[2] = float("nan")
        curve = curve[: 5 if number % 5 == 4 else 8]
        for step, loss in enumerate(curve):
            trial.report(loss, step)
            ours = median_prune(curve[: step + 1], finished, startup, warmup)
            decided.append(ours)
            assert ours == trial.should_prune(), (number, step)
        if number % 3 == 2:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, curve[-1])
            finished.append(curve)
    assert 5 < sum(decided) < len(decided) - 5
    assert median_prune([float("nan")], [[1.0]], startup=0), "what is not a number is ended"


def test_variance_shares_are_those_of_a_function_that_is_known() -> None:
    x, y = np.linspace(-1, 1, 41)[:, None], np.linspace(-1, 1, 41)[None]
    shares, rest = variance_shares(3 * x + y)
    assert shares == pytest.approx([0.9, 0.1])
    assert rest == pytest.approx(0, abs=1e-12)
    shares, rest = variance_shares(x * y)
    assert shares == pytest.approx([0, 0], abs=1e-12)
    assert rest == pytest.approx(1)
    with pytest.raises(ValueError, match="no option explains"):
        variance_shares(np.ones((3, 3)))


def test_variance_shares_of_a_forest_on_a_grid_are_fanovas() -> None:
    random = np.random.default_rng(0)
    study = optuna.create_study()
    spans: dict[str, BaseDistribution] = {
        "a": FloatDistribution(0, 1),
        "b": FloatDistribution(0, 1),
        "c": FloatDistribution(0, 1),
    }
    for _ in range(100):
        params = dict(zip(spans, random.random(3), strict=True))
        loss = 3 * (params["a"] - 0.4) ** 2 + 0.3 * params["b"]
        study.add_trial(create_trial(params=params, distributions=spans, value=loss))
    fanova = optuna.importance.FanovaImportanceEvaluator(seed=0)
    theirs = optuna.importance.get_param_importances(study, evaluator=fanova)
    forest: Any = fanova._evaluator._forest
    axis = (np.arange(20) + 0.5) / 20
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    shares, _ = variance_shares(forest.predict(points).reshape(20, 20, 20))
    for name, share in zip("abc", shares / shares.sum(), strict=True):
        assert share == pytest.approx(theirs[name], abs=0.06)
