from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.neural_networks.ensemble import Ensemble, mean_cross_entropy
from mnist_classifier.config import PRESETS, Config
from mnist_classifier.model import InferenceModel, Normalize, build
from mnist_classifier.train import optimizers
from torch import nn

SMALL = Config(widths=(4, 8, 8), kernels=(3, 5))


def digits(n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8))


@pytest.mark.parametrize(
    "config", [SMALL, Config(model="mlp", widths=(32, 16), kernels=(3, 3, 3)), Config(**PRESETS["fast"])]
)
def test_every_network_reads_digits(config: Config) -> None:
    probabilities = InferenceModel(build(config, 10)).eval()(digits(3))
    assert probabilities.shape == (3, 10)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(3), atol=1e-6)


def test_the_ensemble_averages_its_members_probabilities() -> None:
    network = build(SMALL, 10).eval()
    images = Normalize()(digits(4))
    expected = sum(member(images).softmax(dim=1) for member in network.members) / 2
    assert torch.allclose(InferenceModel(network).eval()(digits(4)), expected, atol=1e-6)
    first, second = (member(images) for member in network.members)
    assert not torch.allclose(first, second)


def test_normalize_gives_black_and_white_their_distance_from_mnists_mean() -> None:
    images = Normalize()(torch.tensor([[[0, 255]]], dtype=torch.uint8))
    assert images.shape == (1, 1, 1, 2)
    assert torch.allclose(images.flatten(), torch.tensor([-0.4242, 2.8215]), atol=1e-4)


def last_weight(member: nn.Module) -> torch.Tensor:
    assert isinstance(member.fc, nn.Linear)
    return member.fc.weight


def test_each_parameter_has_one_optimizer_and_last_layers_are_not_muons() -> None:
    network = build(SMALL, 10)
    chosen = optimizers(network, SMALL, torch.float32)
    muon, adam = ([p for group in one.param_groups for p in group["params"]] for one in chosen)
    assert sorted(map(id, [*muon, *adam])) == sorted(map(id, network.parameters()))
    assert all(parameter.dim() == 4 for parameter in muon)
    assert {id(last_weight(member)) for member in network.members} <= {id(parameter) for parameter in adam}


def test_members_learn_as_they_would_alone() -> None:
    torch.manual_seed(0)
    network = build(SMALL, 10)
    images, labels = Normalize()(digits(6)), torch.arange(6)
    logits = network(images)
    loss = mean_cross_entropy(logits, labels, 0.1)
    together = torch.autograd.grad(len(logits) * loss, last_weight(network.members[1]))[0]
    alone = Ensemble([network.members[1]])
    loss = nn.functional.cross_entropy(alone(images)[0], labels, label_smoothing=0.1)
    assert torch.allclose(torch.autograd.grad(loss, last_weight(alone.members[0]))[0], together, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": ()},
        {"depths": (1, 2)},
        {"kernels": (2,)},
        {"kernels": ()},
        {"widths": (8,) * 6, "depths": (1,) * 6},
        {"dropout": 1.0},
        {"validation_size": -1},
        {"learning_rate": 0.0},
    ],
)
def test_impossible_configs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Config(**change)
