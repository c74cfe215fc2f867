"""Initial weights against torch.nn.init: the same numbers from the same generator."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from dlcommon.neural_networks import initialization as ours
from torch import nn
from torch.nn import functional as F

Rule = Callable[..., torch.Tensor]
FAN_OUT: dict[str, Any] = {"mode": "fan_out", "nonlinearity": "relu"}
SHAPES = [(7, 5), (5, 7), (6, 3, 3, 2)]


def filled(rule: Rule, shape: tuple[int, ...]) -> torch.Tensor:
    weight = torch.empty(shape, dtype=torch.float64)
    returned = rule(weight, generator=torch.Generator().manual_seed(0))
    assert returned is weight
    return weight


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (ours.xavier_normal_, nn.init.xavier_normal_),
        (ours.xavier_uniform_, nn.init.xavier_uniform_),
        (partial(ours.xavier_uniform_, gain=5 / 3), partial(nn.init.xavier_uniform_, gain=5 / 3)),
        (ours.kaiming_normal_, partial(nn.init.kaiming_normal_, nonlinearity="relu")),
        (ours.kaiming_uniform_, partial(nn.init.kaiming_uniform_, nonlinearity="relu")),
        (
            partial(ours.kaiming_normal_, mode="fan_out"),
            partial(nn.init.kaiming_normal_, **FAN_OUT),
        ),
        (
            partial(ours.kaiming_uniform_, mode="fan_out"),
            partial(nn.init.kaiming_uniform_, **FAN_OUT),
        ),
        (partial(ours.kaiming_normal_, gain=1), partial(nn.init.kaiming_normal_, nonlinearity="linear")),
        (ours.orthogonal_, nn.init.orthogonal_),
        (partial(ours.orthogonal_, gain=2.0), partial(nn.init.orthogonal_, gain=2.0)),
    ],
    ids=lambda rule: str(getattr(rule, "keywords", "")),
)
def test_numbers_are_torchs(rule: Rule, reference: Rule, shape: tuple[int, ...]) -> None:
    torch.testing.assert_close(filled(rule, shape), filled(reference, shape), rtol=1e-12, atol=1e-14)


def test_torchs_default_linear_is_he_uniform_with_gain_one_third() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    torch.manual_seed(0)
    torch.testing.assert_close(ours.kaiming_uniform_(torch.empty(4, 6), gain=math.sqrt(1 / 3)), layer.weight.detach())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_orthogonal_rows_or_columns_are_orthonormal(shape: tuple[int, ...]) -> None:
    matrix = filled(ours.orthogonal_, shape).flatten(1)
    smaller = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(smaller, torch.eye(len(smaller), dtype=torch.float64), rtol=0, atol=1e-12)


def test_fans_of_a_convolution_count_its_kernel() -> None:
    convolution = nn.Conv2d(3, 6, (3, 2))
    assert ours.calculate_fan_in_and_fan_out(convolution.weight) == (18, 36)
    with pytest.raises(ValueError, match=r"shape \[4\] has no fans"):
        ours.calculate_fan_in_and_fan_out(torch.empty(4))


@pytest.mark.parametrize(
    ("activation", "gain"),
    [
        pytest.param(lambda z: z, nn.init.calculate_gain("linear"), id="identity"),
        pytest.param(torch.relu, nn.init.calculate_gain("relu"), id="relu"),
        pytest.param(partial(F.leaky_relu, negative_slope=0.2), nn.init.calculate_gain("leaky_relu", 0.2), id="leaky"),
        pytest.param(torch.selu, 1.0, id="selu"),  # its constants were chosen so (Klambauer et al. 2017)
    ],
)
def test_preserving_gain_is_the_known_one(activation: Callable[[torch.Tensor], torch.Tensor], gain: float) -> None:
    assert ours.calculate_gain(activation) == pytest.approx(gain, rel=1e-6)


@pytest.mark.parametrize("activation", [torch.tanh, F.gelu, F.silu, torch.sigmoid])
def test_preserving_gain_is_what_samples_say(activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
    z = torch.randn(2_000_000, generator=torch.Generator().manual_seed(0))
    sampled = activation(z).square().mean().item() ** -0.5
    assert ours.calculate_gain(activation) == pytest.approx(sampled, rel=3e-3)


def test_initialize_reaches_every_layer_and_leaves_the_norms() -> None:
    convolution, norm, linear = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(32, 4, bias=False)
    network = nn.Sequential(convolution, norm, nn.Flatten(), linear)
    with torch.no_grad():
        norm.bias.fill_(3)
    ours.init_weights(network, partial(ours.kaiming_normal_, mode="fan_out"), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for weight in (convolution.weight, linear.weight):
        expected = ours.kaiming_normal_(torch.empty_like(weight), mode="fan_out", generator=generator)
        torch.testing.assert_close(weight.detach(), expected)
    assert convolution.bias is not None
    assert convolution.bias.eq(0).all()
    assert norm.bias.eq(3).all()
    assert linear.weight.requires_grad
