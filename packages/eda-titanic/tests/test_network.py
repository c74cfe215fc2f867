import numpy as np
import pytest
import torch
from dlcommon.neural_networks.mlp import MLP, fuse_batch_norms
from eda_titanic import network
from eda_titanic.network import NetworkClassifier
from sklearn.datasets import make_moons


def test_folded_layers_equal_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standardization and batch norm folded into the affine layers, against torch's own forward pass."""
    random = np.random.default_rng(0)
    features = random.normal(3, 7, (300, 5)).astype(np.float32)
    features[:, 4] = 2.0  # a constant feature has no deviation to divide by
    target = random.integers(0, 3, 300)
    kept: list[tuple[MLP, np.ndarray, np.ndarray]] = []

    def remembered(trained: MLP, mean: np.ndarray, deviation: np.ndarray) -> object:
        kept.append((trained, mean, deviation))
        return fuse_batch_norms(trained, mean, deviation)

    monkeypatch.setattr(network, "fuse_batch_norms", remembered)
    model = NetworkClassifier(width=8, dropout=0.2, epochs=3, members=2, decay=0.01, seed=1).fit(features, target)
    expected = []
    for trained, mean, deviation in kept:
        inputs = torch.from_numpy((features - mean) / deviation)
        expected.append(trained(inputs).softmax(dim=1).detach().numpy())
    np.testing.assert_allclose(model.predict_proba(features), np.mean(expected, axis=0), atol=1e-5)


def test_it_learns_what_is_not_linear() -> None:
    features, target = make_moons(600, noise=0.15, random_state=0)
    model = NetworkClassifier(width=32, dropout=0.0, epochs=60, members=1, decay=0.0, seed=0)
    model.fit(features[:400].astype(np.float32), target[:400])
    accuracy = (model.predict_proba(features[400:].astype(np.float32)).argmax(axis=1) == target[400:]).mean()
    assert accuracy > 0.95  # a line reaches 0.88


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    features, target = make_moons(200, random_state=0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fitted = [
        NetworkClassifier(8, 0.1, 2, 1, 0.0, seed)
        .fit(features.astype(np.float32), target)
        .predict_proba(features.astype(np.float32))
        for seed in (0, 0, 1)
    ]
    assert (fitted[0] == fitted[1]).all()
    assert (fitted[0] != fitted[2]).any()
    assert (torch.get_rng_state() == before).all()
