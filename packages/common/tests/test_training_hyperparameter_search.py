"""Grid, random search and halving do what scikit-learn's and Optuna's do; spans are scipy's distributions."""

from typing import Any, cast

import numpy as np
import optuna
import pytest
import torch
from dlcommon.training.hyperparameter_search import (
    Rung,
    chance_of_a_good_one,
    grid,
    halving_schedule,
    hyperband_schedule,
    random_settings,
    spaced,
    successive_halving,
    units,
)
from dlcommon.training.search_space import Choice, Integers, Uniform
from dlcommon.training.tuning_task import DEFAULTS, HIDDEN, STEPS, UNITS, digits, train
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, KFold, ParameterGrid, ParameterSampler
from torch.nn import functional as F

SHARES = np.random.default_rng(0).random(200)


def test_spans_are_scipys_distributions() -> None:
    for span, law in (
        (Uniform(-2, 3), stats.uniform(-2, 5)),
        (Uniform(1e-4, 10, log=True), stats.loguniform(1e-4, 10)),
        (Integers(2, 9), stats.randint(2, 10)),
        (Choice((0, 1, 2)), stats.randint(0, 3)),
    ):
        np.testing.assert_allclose([span.at(share) for share in SHARES], law.ppf(SHARES), rtol=1e-12)


def test_integers_on_a_log_scale_have_the_weight_of_their_cell() -> None:
    span = Integers(1, 3, log=True)
    drawn = np.array([span.at(share) for share in np.linspace(0, 1, 20_001)])
    expected = np.log([2 / 1, 3 / 2, 4 / 3]) / np.log(4)
    np.testing.assert_allclose([(drawn == value).mean() for value in (1, 2, 3)], expected, atol=1e-3)


@pytest.mark.parametrize("span", [Uniform(0.1, 2), Uniform(0.1, 2, log=True), Integers(0, 4), Choice(("a", "b"))])
def test_every_share_is_in_the_span(span: Uniform | Integers | Choice) -> None:
    for share in (0.0, 0.3, 1 - 1e-12):
        assert span.contains(span.at(share))
    assert all(span.contains(value) for value in span.examples())


def test_the_grid_is_scikit_learns() -> None:
    values: dict[str, list[Any]] = {"b": [1, 2], "a": ["x", "y", "z"], "c": [0.5]}
    assert grid(values) == list(ParameterGrid(values))


def test_a_grid_takes_few_values_of_each_span_and_random_search_as_many_as_trials() -> None:
    space = {"x": Uniform(0, 1), "y": Uniform(1, 100, log=True)}
    assert spaced(space, 2) == {"x": [0.25, 0.75], "y": [pytest.approx(10**0.5), pytest.approx(10**1.5)]}
    assert spaced(space, 3, offset=0.0)["x"] == pytest.approx([0, 1 / 3, 2 / 3])
    assert len({setting["x"] for setting in grid(spaced(space, 3))}) == 3
    assert len({setting["x"] for setting in random_settings(space, 9, np.random.default_rng(0))}) == 9


def test_random_search_draws_what_scikit_learns_draws_from_the_same_generator() -> None:
    ours = random_settings({"lr": Uniform(1e-4, 1, log=True), "drop": Uniform(0, 0.5)}, 20, np.random.RandomState(7))
    laws = {"lr": stats.loguniform(1e-4, 1), "drop": stats.uniform(0, 0.5)}
    for mine, theirs in zip(ours, ParameterSampler(laws, 20, random_state=7), strict=True):
        assert mine == pytest.approx(dict(theirs), rel=1e-12)


def test_the_chance_of_a_good_trial_is_the_share_of_searches_that_have_one() -> None:
    searches = np.random.default_rng(0).random((20_000, 60)).min(axis=1) < 0.05
    assert chance_of_a_good_one(60, 0.05) == pytest.approx(searches.mean(), abs=0.005)


class Recorded(BaseEstimator):  # type: ignore[misc]
    """Has the loss of a candidate after some units, and learns nothing."""

    losses = np.random.default_rng(1).random((100, 200))

    def __init__(self, candidate: int = 0, resource: int = 1) -> None:
        self.candidate, self.resource = candidate, resource

    def fit(self, x: Any, y: Any = None) -> "Recorded":
        return self

    def score(self, x: Any, y: Any = None) -> float:
        return -float(self.losses[self.candidate, self.resource])


@pytest.mark.parametrize(
    ("candidates", "most", "factor"), [(27, 27, 3), (20, 27, 3), (27, 10, 3), (2, 50, 3), (9, 64, 2), (50, 100, 4)]
)
def test_halving_has_the_schedule_and_the_survivors_of_scikit_learns(candidates: int, most: int, factor: int) -> None:
    search = HalvingRandomSearchCV(
        Recorded(), {"candidate": list(range(candidates))}, n_candidates=candidates, factor=factor,
        resource="resource", min_resources=1, max_resources=most, cv=KFold(2), random_state=0, refit=False,
    ).fit(np.zeros((4, 1)), np.zeros(4))  # fmt: skip
    schedule = halving_schedule(candidates, 1, most, factor)
    assert schedule == [Rung(*rung) for rung in zip(search.n_candidates_, search.n_resources_, strict=True)]
    found = successive_halving(schedule, lambda candidate, resource: Recorded.losses[candidate, resource])
    results = search.cv_results_
    for number, ranking in enumerate(found):
        theirs = {p["candidate"] for p, i in zip(results["params"], results["iter"], strict=True) if i == number}
        assert set(ranking) == theirs
    assert found[-1][0] == results["params"][search.best_index_]["candidate"]


def test_the_budget_counts_only_what_is_trained_on() -> None:
    schedule = halving_schedule(9, 1, 9)
    assert [(rung.candidates, rung.resource) for rung in schedule] == [(9, 1), (3, 3), (1, 9)]
    trained = dict.fromkeys(range(9), 0)
    for rung, staying in zip(schedule, successive_halving(schedule, lambda c, r: c), strict=True):
        for candidate in staying:
            trained[candidate] = rung.resource
    assert units(schedule) == sum(trained.values()) == 9 + 6 + 6


def test_hyperbands_brackets_are_those_of_the_paper_and_of_optuna() -> None:
    brackets = hyperband_schedule(81)
    assert [[(rung.candidates, rung.resource) for rung in bracket] for bracket in brackets] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    for most, factor in ((81, 3), (100, 3), (16, 2), (1, 3)):
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=factor)
        pruner._try_initialization(optuna.create_study())
        ours = [bracket[0].candidates for bracket in hyperband_schedule(most, factor)]
        assert ours == pruner._trial_allocation_budgets


def test_what_is_no_number_is_the_worst_and_resources_must_suffice() -> None:
    losses = [float("nan"), 2.0, 1.0]
    assert successive_halving([Rung(3, 1)], lambda candidate, _: losses[candidate]) == [[2, 1, 0]]
    with pytest.raises(ValueError, match="min_resource ≤ max_resource, not 5 and 4"):
        halving_schedule(9, 5, 4)


def test_the_task_trains_as_torchs_sgd_does() -> None:
    trained, held_out = digits()
    assert (len(trained.labels), len(held_out.labels)) == (500, 1297)
    setting = {"learning_rate": 0.1, "momentum": 0.4, "weight_decay": 1e-2, "init_scale": 0.8}
    networks = train([setting, DEFAULTS], trained, seed=3)
    ours = next(networks)
    random = np.random.default_rng(3)
    scale = np.array([0.8, 1.0], np.float32)[:, None, None]
    first, second = (random.standard_normal((2, *shape), np.float32) * scale for shape in ((64, HIDDEN), (HIDDEN, 10)))
    w1, b1 = torch.tensor(first[0] * np.float32(np.sqrt(2 / 64))), torch.zeros(1, HIDDEN)
    w2, b2 = torch.tensor(second[0] * np.float32(np.sqrt(1 / HIDDEN))), torch.zeros(1, 10)
    parameters = [parameter.requires_grad_() for parameter in (w1, b1, w2, b2)]
    sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.4, weight_decay=1e-2)
    for _ in range(STEPS):
        chosen = random.integers(len(trained.labels), size=(2, 20))[0]
        logits = (torch.tensor(trained.images[chosen]) @ w1 + b1).relu() @ w2 + b2
        sgd.zero_grad()
        F.cross_entropy(logits, torch.tensor(trained.labels[chosen])).backward()
        sgd.step()
    for mine, theirs in zip(ours.parameters, parameters, strict=True):
        np.testing.assert_allclose(mine[0], theirs.detach().numpy(), rtol=1e-4, atol=1e-5)
    *_, ours = networks
    errors = ours.error(held_out)
    assert errors.shape == (2,)
    assert errors.max() < 0.2
    np.testing.assert_allclose(errors, ours.wrong(held_out).mean(axis=1))


def test_a_diverging_setting_spoils_no_other_and_warns_of_nothing() -> None:
    trained, held_out = digits()
    *_, networks = train([{"learning_rate": 1e6}, {"learning_rate": 0.1}], trained, seed=0)
    bad, good = networks.error(held_out)
    assert bad > 0.5
    assert good < 0.2
    assert sum(1 for _ in train([cast(Any, {})], trained, seed=0)) == UNITS
