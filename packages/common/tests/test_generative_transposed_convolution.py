"""Transposed convolution against torch in value and gradient; stacked perceptrons against separate ones."""

import pytest
import torch
from dlcommon.generative.stacked_mlp import StackedMLP
from dlcommon.generative.transposed_convolution import conv_transpose2d, overlap_counts
from torch import nn
from torch.nn import functional as F


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(4, 2, 1), (3, 2, 0), (3, 1, 1), (2, 3, 0), (5, 3, 2)])
def test_equals_torch_in_value_and_gradient(kernel: int, stride: int, padding: int) -> None:
    x, weight = random(2, 3, 4, 5), random(3, 2, kernel, kernel, seed=1)
    found, expected = conv_transpose2d(x, weight, stride, padding), F.conv_transpose2d(x, weight, None, stride, padding)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    upstream = random(*expected.shape, seed=2).detach()
    gradients = [torch.autograd.grad((each * upstream).sum(), (x, weight)) for each in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


def test_it_is_the_transpose_of_convolution() -> None:
    """⟨conv(y), x⟩ = ⟨y, transposed(x)⟩ for all x and y."""
    x, y, weight = random(1, 3, 4, 4), random(1, 2, 8, 8, seed=1), random(3, 2, 4, 4, seed=2)
    convolved, transposed = F.conv2d(y, weight, None, 2, 1), conv_transpose2d(x, weight, 2, 1)
    torch.testing.assert_close((convolved * x).sum(), (y * transposed).sum())


def test_overlaps_are_even_only_if_the_stride_divides_the_kernel() -> None:
    assert overlap_counts(4, 3, 2)[2].tolist() == [2, 2, 4, 2, 4, 2, 4, 2, 2]
    assert overlap_counts(6, 4, 2, 1)[2:-2, 2:-2].unique().tolist() == [4]


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels, weight is for 2"):
        conv_transpose2d(torch.zeros(1, 3, 2, 2), torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match="padding 2 leaves nothing"):
        conv_transpose2d(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 3, 3), padding=2)


def test_stacked_perceptrons_train_as_separate_ones() -> None:
    torch.manual_seed(0)
    stacked, x = StackedMLP(2, 3, 5, 1).double(), random(2, 4, 3).detach()
    separate = [nn.Sequential(nn.Linear(3, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1)).double() for _ in range(2)]
    with torch.no_grad():
        for copy, network in enumerate(separate):
            for layer, linear in enumerate((network[0], network[2])):
                assert isinstance(linear, nn.Linear)
                linear.weight.copy_(stacked.weights[layer][copy].T)
                linear.bias.copy_(stacked.biases[layer][copy, 0])
    optimizer = torch.optim.Adam(stacked.parameters(), lr=0.1)
    optimizers = [torch.optim.Adam(network.parameters(), lr=0.1) for network in separate]
    for _ in range(3):
        optimizer.zero_grad()
        stacked(x).square().mean(dim=(1, 2)).sum().backward()
        optimizer.step()
        for inputs, network, own in zip(x, separate, optimizers, strict=True):
            own.zero_grad()
            network(inputs).square().mean().backward()
            own.step()
    expected = torch.stack([network(inputs) for inputs, network in zip(x, separate, strict=True)])
    torch.testing.assert_close(stacked(x), expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="an input and an output size"):
        StackedMLP(2, 3)
