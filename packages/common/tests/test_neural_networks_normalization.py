"""Batch norm against torch's: outputs, gradients and running statistics, in training and evaluation."""

import pytest
import torch
from dlcommon.neural_networks.normalization import BatchNorm, fuse_linear_bn, normalize, normalize_backward
from torch import nn

SHAPES = {(6, 5): nn.BatchNorm1d, (4, 5, 7): nn.BatchNorm1d, (3, 5, 4, 2): nn.BatchNorm2d, (1, 5, 3): nn.BatchNorm1d}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2 + 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(shape: tuple[int, ...], momentum: float = 0.1) -> tuple[BatchNorm, nn.Module]:
    """Ours and torch's, with the same weights and running statistics."""
    ours, theirs = BatchNorm(5, momentum=momentum).double(), SHAPES[shape](5, momentum=momentum).double()
    with torch.no_grad():
        for number, tensor in enumerate((theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var)):
            assert tensor is not None
            tensor.copy_(noise(5, seed=10 + number).abs())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def output_and_gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    inputs = x.clone().requires_grad_()
    y = layer(inputs)
    return [y.detach(), *torch.autograd.grad(y, [inputs, *layer.parameters()], noise(*x.shape, seed=1))]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_gradients_and_state_are_torchs(shape: tuple[int, ...], training: bool) -> None:
    ours, theirs = (layer.train(training) for layer in pair(shape))
    for batch in range(3):
        x = noise(*shape, seed=batch)
        for got, expected in zip(output_and_gradients(ours, x), output_and_gradients(theirs, x), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    for name, expected in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], expected, rtol=1e-10, atol=0)


def test_backward_is_what_differences_say() -> None:
    torch.autograd.gradcheck(BatchNorm(5).double(), noise(4, 5, 2).requires_grad_())


def test_float32_is_as_near_to_float64_as_torchs() -> None:
    x = noise(64, 5) * 100
    exact = BatchNorm(5).double()(x)
    ours, theirs = BatchNorm(5)(x.float()), nn.BatchNorm1d(5)(x.float())
    assert (ours - exact).abs().max() < 2 * (theirs - exact).abs().max() + 1e-6


def test_the_gradient_has_no_part_along_one_or_along_the_values() -> None:
    x = noise(50, 5)
    values, _, _, scale = normalize(x, eps=0.0)
    gradient = normalize_backward(noise(50, 5, seed=1), values, scale)
    zeros = torch.zeros(5, dtype=torch.float64)
    torch.testing.assert_close(gradient.sum(0), zeros, rtol=0, atol=1e-12)
    torch.testing.assert_close((gradient * values).sum(0), zeros, rtol=0, atol=1e-12)


def test_one_value_a_feature_is_refused_in_training_only() -> None:
    layer, x = BatchNorm(5), torch.ones(1, 5)
    with pytest.raises(ValueError, match=r"at least two values per feature, not \[1, 5\]"):
        layer(x)
    assert layer.running_mean.eq(0).all()
    assert layer.eval()(x).shape == (1, 5)


@pytest.mark.parametrize("bias", [True, False])
def test_folded_layer_is_both(bias: bool) -> None:
    linear = nn.Linear(3, 5, bias=bias).double()
    norm = pair((6, 5))[0].eval()
    x = noise(8, 3)
    torch.testing.assert_close(fuse_linear_bn(linear, norm)(x), norm(linear(x)), rtol=1e-11, atol=1e-11)
