"""The multilayer perceptron against its layers written out."""

import torch
from dlcommon.neural_networks.mlp import MLP
from torch import nn
from torch.nn import functional as F


def test_mlp_equals_its_definition_in_value_and_gradient() -> None:
    model = MLP(12, (5, 4), 3).double()
    first, second, last = (layer for layer in model.layers if isinstance(layer, nn.Linear))

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        for linear in (first, second):
            h = x @ linear.weight.T  # [batch, width]
            mean, variance = h.mean(0), h.var(0, correction=0)
            x = ((h - mean) / (variance + 1e-5).sqrt()).clamp(min=0)  # batch norm's weight is 1, its bias 0
        return x @ last.weight.T + last.bias

    images = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = [first.weight, second.weight, last.weight, last.bias]
    got, expected = model(images), by_hand(images.flatten(1))
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(
        torch.autograd.grad(got.square().sum(), weights),
        torch.autograd.grad(expected.square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_without_hidden_layers_it_is_a_linear_map() -> None:
    model = MLP(4, (), 2)
    x = torch.randn(3, 2, 2)
    (linear,) = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    torch.testing.assert_close(model(x), F.linear(x.flatten(1), linear.weight, linear.bias))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    model = MLP(4, (64,), 2, dropout=0.5)
    x = torch.randn(8, 4)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))
