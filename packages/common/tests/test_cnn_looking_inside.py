"""Grad-CAM and Grad-CAM++ against definitions worked out another way; activations and their maximization against
cases whose answer is known."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.cnn.feature_visualization import (
    activation_maximization,
    color_correlation_sqrt,
    image_from_spectrum,
    record_outputs,
    top_activations,
)
from dlcommon.cnn.grad_cam import class_activation_maps, grad_cam, grad_cam_plus_plus, to_heatmap
from dlcommon.cnn.residual import BasicBlock, ResNet
from torch import nn

EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}


class Network(nn.Module):
    """Features of 4×3 places, then a head that is piecewise linear in them."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 3, 6), nn.ReLU(), nn.Linear(6, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.features(x))
        return y


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network().double().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(4, 2, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


CLASSES = torch.tensor([0, 3, 4, 1])


def score(network: Network, features: torch.Tensor, image: int) -> torch.Tensor:
    logits: torch.Tensor = network.head(features)
    return logits[0, CLASSES[image]]


def test_grad_cam_equals_its_definition_by_differences(network: Network, images: torch.Tensor) -> None:
    maps = grad_cam(network, "features", images, CLASSES)
    for image in range(len(images)):
        with torch.no_grad():
            features = network.features(images[image : image + 1])
            expected = torch.zeros(4, 3, dtype=torch.float64)
            for k in range(3):
                slopes = []
                for place in range(12):
                    step = torch.zeros_like(features)
                    step[0, k].view(-1)[place] = 1e-6
                    up, down = score(network, features + step, image), score(network, features - step, image)
                    slopes.append((up - down) / 2e-6)
                expected += torch.stack(slopes).mean() * features[0, k]
        # Central differences of a piecewise linear function: rounding only.
        torch.testing.assert_close(maps[image], expected.clamp(min=0), rtol=1e-6, atol=1e-8)
    assert maps.max() > 0.01


def test_grad_cam_plus_plus_equals_its_definition_by_third_derivatives(network: Network, images: torch.Tensor) -> None:
    """Equation 19 with Y = exp(score), each derivative taken by automatic differentiation, one value at a time."""
    maps = grad_cam_plus_plus(network, "features", images, CLASSES)
    for image in range(len(images)):
        features = network.features(images[image : image + 1]).detach()
        expected = torch.zeros(4, 3, dtype=torch.float64)
        for k in range(3):
            weight = torch.zeros((), dtype=torch.float64)
            for place in range(12):
                value = torch.zeros((), dtype=torch.float64, requires_grad=True)
                mask = torch.zeros_like(features)
                mask[0, k].view(-1)[place] = 1
                derivatives = [score(network, features + value * mask, image).exp()]
                for _ in range(3):
                    derivatives += torch.autograd.grad(derivatives[-1], value, create_graph=True)
                _, first, second, third = derivatives
                below = 2 * second + features[0, k].sum() * third
                if below != 0:
                    weight = weight + second / below * first.clamp(min=0)
            expected += weight.detach() * features[0, k]
        scale = score(network, features, image).exp().detach()
        torch.testing.assert_close(maps[image] * scale, expected.clamp(min=0), **EXACT)
    assert maps.max() > 0.01


def test_grad_cam_is_the_class_activation_map_where_that_exists() -> None:
    torch.manual_seed(0)
    network = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=5, small_images=True, widths=(4, 4, 6, 8)).double().eval()
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    features = network.features(x)
    maps = class_activation_maps(features, network.fc.weight)
    torch.testing.assert_close(maps.mean(dim=(2, 3)) + network.fc.bias, network(x), **EXACT)
    of_class = maps[torch.arange(4), CLASSES]
    found = grad_cam(network, "layer4", x, CLASSES)
    torch.testing.assert_close(found, of_class.clamp(min=0) / of_class[0].numel(), **EXACT)
    assert found.max() > 0


@pytest.mark.parametrize("method", [grad_cam, grad_cam_plus_plus])
def test_maps_need_no_trainable_weights_and_leave_no_trace(
    method: Callable[..., torch.Tensor], network: Network, images: torch.Tensor
) -> None:
    expected = method(network, "features", images, CLASSES)
    network.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(method(network, "features", images, CLASSES), expected)
    assert not expected.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.features._forward_hooks


def test_grad_cam_plus_plus_is_zero_where_nothing_speaks_for_the_class() -> None:
    linear = nn.Linear(8, 3)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), linear)
    nn.init.zeros_(linear.weight)
    maps = grad_cam_plus_plus(network, "0", torch.rand(1, 1, 2, 2), torch.tensor([0]))
    assert torch.equal(maps, torch.zeros(1, 2, 2))
    assert torch.equal(to_heatmap(maps, 4, 4), torch.zeros(1, 4, 4))


def test_heat_has_the_images_size_and_a_maximum_of_one() -> None:
    maps = torch.rand(3, 4, 5) * torch.tensor([1.0, 10, 1e-6])[:, None, None]
    large = to_heatmap(maps, 16, 20)
    assert large.shape == (3, 16, 20)
    torch.testing.assert_close(large.amax(dim=(1, 2)), torch.ones(3))


def test_recorded_outputs_are_those_of_the_layers(network: Network, images: torch.Tensor) -> None:
    with record_outputs(network, "features.0", "head.1") as outputs:
        network(images)
    torch.testing.assert_close(outputs["features.0"], network.features[0](images))
    torch.testing.assert_close(outputs["head.1"], network.head[1](network.head[0](network.features(images))))
    outputs["features.0"].sum().backward()  # the graph is still there
    assert network.features[0].weight.grad is not None


def test_recording_names_the_layers_there_are_and_ends_with_its_block(network: Network, images: torch.Tensor) -> None:
    with (
        pytest.raises(ValueError, match=r"no layer 'layer9'; there are features, features\.0"),
        record_outputs(network, "layer9"),
    ):
        pass
    with pytest.raises(ZeroDivisionError), record_outputs(network, "features"):
        raise ZeroDivisionError
    assert not network.features._forward_hooks


def test_the_strongest_places_are_found_one_in_each_image() -> None:
    maps = torch.zeros(3, 2, 4, 5)
    maps[2, 1, 3, 4], maps[2, 1, 0, 0], maps[0, 1, 1, 2], maps[1, 0, 0, 0] = 9, 8, 5, 99
    assert top_activations(maps, channel=1, k=2) == [(2, 3, 4), (0, 1, 2)]


def test_colour_mixing_gives_independent_channels_the_images_covariance() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.einsum(
        "bchw,dc->bdhw",
        torch.randn(20, 3, 8, 8, generator=generator, dtype=torch.float64),
        torch.tensor([[1.0, 0, 0], [0.8, 0.3, 0], [0.5, 0.2, 0.1]], dtype=torch.float64),
    )
    mixing = color_correlation_sqrt(images)
    torch.testing.assert_close(mixing @ mixing.T, torch.cov(images.transpose(0, 1).flatten(1)), **EXACT)


def test_a_spectrum_without_decay_or_mixing_is_that_of_the_logits_of_the_image() -> None:
    image = torch.rand(2, 3, 6, 6, dtype=torch.float64) * 0.9 + 0.05
    spectrum = torch.view_as_real(torch.fft.rfft2(image.logit(), norm="ortho"))
    found = image_from_spectrum(spectrum, 6, decay_power=0, color_correlation=torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(found, image)


def test_maximization_finds_the_image_of_a_linear_unit() -> None:
    """Of all images from 0 to 1, the product with w is largest where w > 0 is white and the rest black."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 8, 8, generator=generator)
    image = activation_maximization(
        lambda x: (x * w).sum(dim=(1, 2, 3)), 8, torch.eye(3), num_images=2, steps=200, lr=0.5, decay_power=0,
        generator=generator,
    )  # fmt: skip
    assert image.shape == (2, 3, 8, 8)
    assert ((image > 0.5) == (w > 0)).float().mean() > 0.97
    assert (image * w).sum(dim=(1, 2, 3)).min() > 0.97 * w.clamp(min=0).sum()


def test_decay_makes_images_smoother() -> None:
    def roughness(decay: float) -> float:
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(1, 16, 16, generator=generator)
        x = activation_maximization(
            lambda images: (images * w).sum(dim=(1, 2, 3)),
            16,
            torch.eye(1),
            steps=20,
            decay_power=decay,
            generator=generator,
        )
        return (x.diff(dim=2).square().mean() / x.var()).item()

    assert roughness(1.5) < 0.5 * roughness(0.0)
