"""Each rung equals the library that it was fitted with, in NumPy and as ONNX nodes."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from catboost import CatBoostRegressor
from dlcommon.runtime.tables.features import text_type
from dlcommon.runtime.tables.graph import Graph
from house_prices import network
from house_prices.network import HouseNetwork, Network
from house_prices.regressors import Boosting, Regressor, SupportVectors, TrimmedElasticNet
from house_prices.scaling import REACH, Scaler
from sklearn.svm import SVR

ROWS, NUMBERS, FLAGS = 400, 6, 8


def sample(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and the flags of one category, and a log price."""
    random = np.random.default_rng(seed)
    numbers = random.normal(5, 2, (rows, NUMBERS))
    level = random.integers(0, FLAGS, rows)
    flags = np.eye(FLAGS)[level]
    target = 12 + 0.1 * numbers[:, 0] - 0.05 * numbers[:, 1] * (level > 3) + random.normal(0, 0.05, rows)
    return np.hstack([numbers, flags]).astype(np.float32), target


def as_onnx(regressor: Regressor, features: np.ndarray) -> np.ndarray:
    graph = Graph()
    columns = {f"x{i}": features[:, i : i + 1] for i in range(features.shape[1])}
    joined = graph.add("Concat", *columns, axis=1)
    model = graph.model({name: text_type(False) for name in columns}, {"y": (regressor.write(graph, joined), 1)})
    result: np.ndarray = onnxruntime.InferenceSession(model.SerializeToString()).run(None, columns)[0][:, 0]
    return result


RUNGS: dict[str, Callable[[], Regressor]] = {
    "elastic net": TrimmedElasticNet,
    "support vectors": lambda: SupportVectors(TrimmedElasticNet().fit(*sample(0))),
    "boosting": lambda: Boosting(seed=0, members=2, trees=400, learning_rate=0.1),
    "network": lambda: Network([slice(NUMBERS, NUMBERS + FLAGS)], seed=0, members=2, epochs=10),
}


@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_learns_is_restored_and_is_the_same_as_nodes(name: str) -> None:
    features, target = sample(0)
    others, truth = sample(1)
    fitted = RUNGS[name]().fit(features, target)
    predicted = fitted.predict(others)
    assert predicted.shape == (ROWS,)
    assert np.sqrt(np.mean((predicted - truth) ** 2)) < 0.6 * truth.std()
    again = RUNGS[name]().restored(fitted.arrays)
    np.testing.assert_array_equal(again.predict(others), predicted)
    np.testing.assert_allclose(as_onnx(again, others), predicted, rtol=1e-5)
    assert {array.dtype.kind for array in fitted.arrays.values()} <= {"f", "i"}


def test_the_same_seed_learns_the_same_and_leaves_torchs_state_alone() -> None:
    features, target = sample(0)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = (RUNGS["network"]().fit(features, target).predict(features) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_support_vectors_equal_scikit_learns() -> None:
    """On features scaled by their relevance, which is highest where the linear model's weight is."""
    features, target = sample(0)
    net = TrimmedElasticNet().fit(features, target)
    machine = SupportVectors(net)
    predicted = machine.fit(features, target).predict(features)
    relevance = machine.arrays["relevance"]
    scaled = Scaler.fitted(features).transform(features) * relevance
    np.testing.assert_allclose((scaled**2).sum(axis=1).mean(), machine.gamma, rtol=1e-5)
    np.testing.assert_array_equal(np.argsort(relevance), np.argsort(np.abs(net.arrays["weights"][:, 0])))
    reference = SVR(C=machine.penalty, gamma=1.0, epsilon=machine.tube).fit(scaled, target - target.mean())
    np.testing.assert_allclose(predicted, reference.predict(scaled) + target.mean(), rtol=1e-5)


def test_support_vectors_do_without_a_linear_model_that_found_nothing() -> None:
    features, target = sample(0)
    net = TrimmedElasticNet().fit(features, target)
    net.restored({**net.arrays, "weights": np.zeros_like(net.arrays["weights"])})
    predicted = SupportVectors(net).fit(features, target).predict(features)
    assert np.sqrt(np.mean((predicted - target) ** 2)) < 0.8 * target.std()


def test_trees_as_arrays_equal_catboosts() -> None:
    features, target = sample(0)
    trees = Boosting(seed=3, members=2, trees=50, learning_rate=0.1).fit(features, target)
    members = [
        CatBoostRegressor(random_seed=seed, **trees.settings).fit(features, target).predict(features) for seed in (3, 4)
    ]
    np.testing.assert_allclose(trees.predict(features), np.mean(members, axis=0), rtol=1e-5)


def test_trees_that_run_out_of_questions_equal_catboosts() -> None:
    """One flag allows one question; CatBoost's trees are then less deep than the arrays."""
    features = (np.arange(100) % 2).astype(np.float32)[:, None]
    target = features[:, 0] + np.random.default_rng(0).normal(0, 0.1, 100)
    trees = Boosting(seed=0, members=1, trees=20, learning_rate=0.1).fit(features, target)
    reference = CatBoostRegressor(random_seed=0, **trees.settings).fit(features, target)
    np.testing.assert_allclose(trees.predict(features), reference.predict(features), rtol=1e-5)
    assert not np.isfinite(trees.arrays["borders"]).all()


def test_a_folded_network_equals_the_trained_one(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[HouseNetwork] = []
    arrays = HouseNetwork.arrays

    def remembered(self: HouseNetwork) -> dict[str, np.ndarray]:
        trained.append(self)
        return arrays(self)

    monkeypatch.setattr(HouseNetwork, "arrays", remembered)
    features, target = sample(0)
    fitted = RUNGS["network"]().fit(features, target)
    inputs = torch.from_numpy(fitted.scaler.transform(features))
    with torch.no_grad():
        each = torch.stack([member(inputs) for member in trained]).mean(0).numpy()
    np.testing.assert_allclose(fitted.predict(features), each * target.std() + target.mean(), rtol=1e-5)
    assert len(trained[0].embeddings) == 1
    assert trained[0].embeddings[0].weight.shape == (network.EMBEDDING, FLAGS)


def test_the_linear_rung_leaves_out_rows_that_do_not_fit() -> None:
    features, target = sample(0)
    spoiled = target.copy()
    spoiled[:4] -= 5
    clean = TrimmedElasticNet().fit(features[4:], target[4:]).predict(features)
    np.testing.assert_allclose(TrimmedElasticNet().fit(features, spoiled).predict(features), clean, atol=0.01)


def test_no_scaled_feature_exceeds_the_reach() -> None:
    features, _ = sample(0)
    scaler = Scaler.fitted(features)
    far = features.copy()
    far[0] = 1e9
    scaled = scaler.transform(far)
    assert np.abs(scaled).max() <= REACH
    constant = np.hstack([features, np.ones((ROWS, 1), np.float32)])
    np.testing.assert_array_equal(Scaler.fitted(constant).transform(constant)[:, -1], 0)
