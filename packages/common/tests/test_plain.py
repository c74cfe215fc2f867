from typing import Any

import pytest
import torch
from dlcommon.cnn.plain import PlainCNN
from torch.nn import functional as F


def small(**options: Any) -> PlainCNN:
    torch.manual_seed(0)
    return PlainCNN(2, (3, 4), (1, 2), num_classes=5, **options).double()


def by_hand(network: PlainCNN, x: torch.Tensor) -> torch.Tensor:
    """The same layers, written out, with batch statistics."""

    def layer(x: torch.Tensor, stage: int, index: int) -> torch.Tensor:
        block: Any = network.stages[stage]
        conv, norm = block.convolutions[index], block.norms[index]
        x = F.conv2d(x, conv.weight, padding="same")
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
        x = (x - mean) / (variance + norm.eps).sqrt()
        return F.relu(x * norm.weight[:, None, None] + norm.bias[:, None, None])

    x = layer(x, 0, 0)
    x = F.max_pool2d(x, 2)
    x = layer(layer(x, 1, 0), 1, 1)
    return x.flatten(2).max(dim=2).values @ network.fc.weight.T + network.fc.bias


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_values_and_gradients_equal_the_layers_written_out(kernel: int) -> None:
    network = small(kernel_size=kernel).train()
    images = torch.randn(4, 2, 9, 8, dtype=torch.float64)
    logits, expected = network(images), by_hand(network, images)
    assert logits.shape == (4, 5)
    assert torch.allclose(logits, expected, rtol=1e-10)
    weights = torch.randn(4, 5, dtype=torch.float64)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad((logits * weights).sum(), parameters)
    references = torch.autograd.grad((expected * weights).sum(), parameters)
    for gradient, reference in zip(gradients, references, strict=True):
        assert torch.allclose(gradient, reference, rtol=1e-8, atol=1e-12)


def test_dropout_acts_while_training_only() -> None:
    network = small(dropout=0.5)
    images = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    network.train()
    assert not torch.equal(network(images), network(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_widths_without_their_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 widths for 1 depths"):
        PlainCNN(1, (8, 16), (1,), num_classes=10)
