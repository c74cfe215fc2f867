"""Residual networks against torchvision's, and the whitening convolution against its definition."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from dlcommon.cnn.residual import BasicBlock, ResNet, resnet18, resnet34, resnet50
from dlcommon.cnn.whitening import WhiteningConv
from torch import nn

Build = Callable[..., nn.Module]
PAIRS = [
    pytest.param(resnet18, torchvision.models.resnet18, id="resnet18"),
    pytest.param(resnet50, torchvision.models.resnet50, id="resnet50"),
]


def filled(model: nn.Module) -> nn.Module:
    """A model of the meta device, in float64 with random weights and statistics: no zero hides a difference."""
    generator = torch.Generator().manual_seed(1)
    state = model.double().to_empty(device="cpu").state_dict()
    for name, value in state.items():
        if not value.is_floating_point():
            value.zero_()
        else:
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            positive = name.endswith("running_var") or value.dim() == 1
            value.copy_(noise.abs() + 0.5 if positive else noise * 0.05)
    return model


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_resnet_equals_torchvision_in_value_and_gradient(ours: Build, theirs: Build) -> None:
    with torch.device("meta"):  # so that no time goes into weights that are replaced
        reference, model = theirs(num_classes=7), ours(num_classes=7).double()
    reference, model = filled(reference), model.to_empty(device="cpu")
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    results = []
    for network in (model, reference):
        x = images.clone().requires_grad_()
        logits = network.train()(x)
        logits.square().mean().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        with torch.no_grad():
            deployed = network.eval()(images)
        results.append(
            {"logits": logits, "input": x.grad, "eval": deployed, **gradients, **dict(network.named_buffers())}
        )
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("build", "parameters"), [(resnet18, 11_689_512), (resnet34, 21_797_672)])
def test_parameter_counts_are_those_of_the_paper(build: Build, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build().parameters()) == parameters


def test_small_images_keep_their_size_through_the_stem() -> None:
    with torch.device("meta"):
        model = resnet18(num_classes=10, small_images=True)
        images = torch.empty(4, 3, 32, 32)
        assert model.features(images).shape == (4, 512, 4, 4)
        assert model(images).shape == (4, 10)
        assert model.conv1.weight.shape == (64, 3, 3, 3)
        assert resnet18().features(images).shape == (4, 512, 1, 1)


def test_every_block_starts_as_the_identity() -> None:
    block = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=2, small_images=True, widths=(4, 4, 4, 4)).layer1[0].eval()
    x = torch.rand(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x)


def correlated_images() -> torch.Tensor:
    """Smooth images [64, 3, 12, 12] whose neighbouring pixels and channels go together."""
    noise = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mixed = torch.einsum("bchw,cd->bdhw", noise, torch.tensor([[1.0, 0.8, 0.2], [0, 1, 0.5], [0, 0, 1]]).double())
    return nn.functional.avg_pool2d(mixed, 5, stride=1)


def test_whitened_patches_are_uncorrelated_with_unit_variance() -> None:
    images = correlated_images()
    convolution = WhiteningConv(3, 2).double()
    convolution.fit(images, eps=0.0)
    with torch.no_grad():
        outputs = convolution(images)  # [64, 24, 11, 11]
    half = outputs[:, :12].permute(0, 2, 3, 1).reshape(-1, 12)
    # The filters are computed in float32.
    torch.testing.assert_close(half.T @ half / len(half), torch.eye(12, dtype=torch.float64), rtol=0, atol=2e-3)
    torch.testing.assert_close(outputs[:, 12:], -outputs[:, :12])
    before = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    correlation = torch.corrcoef(before.T)
    assert (correlation - torch.eye(12)).abs().max() > 0.5, "the inputs were uncorrelated already"


def test_only_the_whitening_bias_is_trained() -> None:
    convolution = WhiteningConv(3, 2)
    assert [name for name, parameter in convolution.named_parameters() if parameter.requires_grad] == ["bias"]


def test_epsilon_bounds_what_noise_is_amplified_to() -> None:
    flat = torch.zeros(8, 1, 6, 6)
    convolution = WhiteningConv(1, 2)
    convolution.fit(flat, eps=0.01)
    norms = convolution.weight.flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, 10.0))
