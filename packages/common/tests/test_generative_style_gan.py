"""A small StyleGAN2: modulated convolutions as the paper writes them, and gradients that reach everything."""

import pytest
import torch
from dlcommon.generative.style_gan import ModulatedConv, ResidualDiscriminator, StyleGenerator
from torch.nn import functional as F


def paper_modulated_conv(layer: ModulatedConv, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """Modulates and demodulates a kernel for each picture (equations 1 and 3), and convolves picture by picture."""
    outputs = []
    for picture, scale in zip(x, layer.affine(style), strict=True):
        weight = layer.weight * scale[None, :, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        outputs.append(F.conv2d(picture[None], weight, layer.bias, padding=layer.padding))
    return torch.cat(outputs)


def test_a_modulated_convolution_is_that_of_the_paper_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    layer = ModulatedConv(6, 5, style_dim=4)
    x, style = torch.randn(3, 6, 7, 8, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    weight = torch.randn(3, 5, 7, 8)
    found, expected = layer(x, style), paper_modulated_conv(layer, x, style)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    inputs = (x, style, *layer.parameters())
    ours, theirs = (torch.autograd.grad((out * weight).sum(), inputs) for out in (found, expected))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


def test_activations_start_with_a_variance_of_about_1() -> None:
    torch.manual_seed(0)
    layer, style = ModulatedConv(64, 64, 32), torch.randn(4, 32)
    assert layer(torch.randn(4, 64, 16, 16), style).std().item() == pytest.approx(1, abs=0.15)
    images = StyleGenerator(16, 64)(torch.randn(16, 128))
    assert 0.1 < images.std().item() < 1.5
    scores = ResidualDiscriminator(8, 64)(torch.randn(16, 3, 64, 64))
    assert scores.abs().max().item() < 10


@pytest.mark.parametrize("size", [16, 32, 64])
def test_images_have_the_size_asked_for_and_every_weight_gets_a_gradient(size: int) -> None:
    torch.manual_seed(0)
    generator, discriminator = StyleGenerator(8, 16, 12, 10, size), ResidualDiscriminator(4, 16, size)
    images = generator(torch.randn(4, 12))
    assert images.shape == (4, 3, size, size)
    scores = discriminator(images)
    assert scores.shape == (4,)
    scores.sum().backward()
    parameters = [*generator.named_parameters(), *discriminator.named_parameters()]
    assert [name for name, value in parameters if value.grad is None or not value.grad.any()] == []


def test_mixed_styles_are_one_noise_for_coarse_and_another_for_fine_blocks() -> None:
    torch.manual_seed(0)
    generator = StyleGenerator(8, 16, 12, 10, 32).eval()
    one, other = torch.randn(2, 12), torch.randn(2, 12)
    alone = generator(one)
    blocks = torch.stack([one] * generator.num_blocks, dim=1)
    torch.testing.assert_close(generator(blocks), alone)
    blocks[:, -1] = other
    assert (generator(blocks) - alone).abs().max() > 1e-3


def test_the_length_of_the_noise_does_not_matter() -> None:
    torch.manual_seed(0)
    generator, noise = StyleGenerator(8, 16, 12, 10, 16), torch.randn(2, 12)
    torch.testing.assert_close(generator(noise), generator(3 * noise), rtol=1e-4, atol=1e-5)


def test_the_four_pixels_of_one_place_start_alike() -> None:
    torch.manual_seed(0)
    images = StyleGenerator(8, 16, 12, 10, 32)(torch.randn(2, 12))
    torch.testing.assert_close(images[:, :, ::2, ::2], images[:, :, 1::2, 1::2])
    torch.testing.assert_close(images[:, :, ::2, ::2], images[:, :, ::2, 1::2])
