"""DCGAN against PyTorch's example with the same weights; minibatch standard deviation against its definition."""

import pytest
import torch
from dlcommon.generative.dcgan import SIZES, Discriminator, Generator, stage_widths
from dlcommon.generative.gan_losses import GAN_LOSSES
from dlcommon.generative.gradient_penalties import zero_centered_penalty
from dlcommon.generative.minibatch_stddev import MinibatchStddev
from torch import nn


def examples_generator(nz: int, ngf: int, nc: int) -> nn.Sequential:
    """The 64×64 generator of PyTorch's DCGAN example (its last layer without bias)."""
    return nn.Sequential(
        nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
        nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
        nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


def examples_discriminator(nc: int, ndf: int) -> nn.Sequential:
    """The 64×64 discriminator of PyTorch's DCGAN example, without its sigmoid."""
    return nn.Sequential(
        nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 4), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 8), nn.LeakyReLU(0.2),
        nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False),
    )  # fmt: skip


def share_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Copies weights to the example in the order of the layers; our biases, 0 at the beginning, have no counterpart."""
    for kind in ((nn.Conv2d, nn.ConvTranspose2d), (nn.BatchNorm2d,)):
        sources = [module for module in ours.modules() if isinstance(module, kind)]
        targets = [module for module in theirs.modules() if isinstance(module, kind)]
        for mine, reference in zip(sources, targets, strict=True):
            reference.load_state_dict({name: mine.state_dict()[name] for name in reference.state_dict()})


def test_both_networks_equal_pytorchs_example_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    generator, discriminator = Generator(64, 3, 10, width=4).double(), Discriminator(64, 3, width=4).double()
    theirs = examples_generator(10, 4, 3).double(), examples_discriminator(3, 4).double()
    share_weights(generator, theirs[0])
    share_weights(discriminator, theirs[1])
    noise = torch.randn(5, 10, dtype=torch.float64, requires_grad=True)
    images, expected_images = generator(noise), theirs[0](noise[:, :, None, None])
    torch.testing.assert_close(images, expected_images, rtol=1e-9, atol=1e-12)
    logits, expected = discriminator(images), theirs[1](expected_images).flatten()
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(logits.square().sum(), noise),
        torch.autograd.grad(expected.square().sum(), noise),
        rtol=1e-8,
        atol=1e-14,
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_and_number_of_channels(size: int, channels: int) -> None:
    torch.manual_seed(0)
    images = Generator(size, channels, latent_dim=7, width=2)(torch.randn(4, 7))
    assert images.shape == (4, channels, size, size)
    assert images.abs().max() <= 1
    discriminator = Discriminator(size, channels, width=2, stddev_group=2)
    assert discriminator(images).shape == (4,)
    assert discriminator.features(images).shape == (4, stage_widths(size, 2)[-1], 4, 4)


def test_weights_begin_as_in_the_paper() -> None:
    torch.manual_seed(0)
    for network in (Generator(32, width=32), Discriminator(32, width=32)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
                assert module.bias is None or not module.bias.any()
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.5)


def test_a_discriminator_without_batch_norm_takes_penalties_and_spectral_norm() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(8, 1, width=4, batch_norm=False, spectral=True, stddev_group=4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())
    images = torch.randn(4, 1, 8, 8, requires_grad=True)
    logits = discriminator(images)
    loss = GAN_LOSSES["relativistic"].discriminator(logits, logits.flip(0)) + zero_centered_penalty(logits, images)
    loss.backward()
    for parameter in discriminator.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_batch_norm_would_mix_samples_and_its_absence_does_not() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 1, 16, 16)
    changed = images.clone()
    changed[3] += 1
    for batch_norm in (True, False):
        network = Discriminator(16, 1, width=4, batch_norm=batch_norm)
        same = torch.allclose(network(images)[:3], network(changed)[:3], rtol=0, atol=1e-7)
        assert same is not batch_norm


def test_impossible_sizes_are_refused() -> None:
    for size in (0, 4, 28, 128):
        with pytest.raises(ValueError, match=f"image_size must be one of 8, 16, 32, 64, not {size}"):
            Generator(size)
    with pytest.raises(ValueError, match="width must be positive"):
        Discriminator(8, width=0)


def stddev_by_loops(x: torch.Tensor, group: int, parts: int) -> torch.Tensor:
    """The definition, one number at a time: what is appended to each sample, [batch, parts]."""
    batch, channels, height, width = x.shape
    groups, size = batch // group, channels // parts
    result = torch.zeros(batch, parts, dtype=x.dtype)
    for sample in range(batch):
        members = [other for other in range(batch) if other % groups == sample % groups]
        for part in range(parts):
            deviations = []
            for channel in range(part * size, (part + 1) * size):
                for row in range(height):
                    for column in range(width):
                        values = x[members, channel, row, column]
                        deviations.append(((values - values.mean()).square().mean() + 1e-8).sqrt())
            result[sample, part] = torch.stack(deviations).mean()
    return result


@pytest.mark.parametrize(("group", "parts"), [(2, 1), (3, 2), (6, 1), (50, 2)])
def test_minibatch_stddev_equals_its_definition_in_value_and_gradient(group: int, parts: int) -> None:
    x = torch.randn(6, 4, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    output = MinibatchStddev(group, parts)(x)
    expected = stddev_by_loops(x, min(group, 6), parts)
    assert torch.equal(output[:, :4], x)
    torch.testing.assert_close(output[:, 4:], expected[:, :, None, None].expand(-1, -1, 2, 2), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(output[:, 4:].mean(dim=(2, 3)).square().sum(), x),
        torch.autograd.grad(expected.square().sum(), x),
        rtol=1e-9,
        atol=1e-12,
    )


def test_minibatch_stddev_of_equal_samples_is_almost_0_and_differentiable() -> None:
    x = torch.ones(4, 2, 3, 3, requires_grad=True)
    output = MinibatchStddev()(x)
    assert output[:, 2:].max().item() == pytest.approx(1e-4)
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_batches_that_cannot_be_grouped_are_refused() -> None:
    with pytest.raises(ValueError, match="6 samples and 3 channels cannot be split into groups of 4"):
        MinibatchStddev(4)(torch.zeros(6, 3, 2, 2))
    with pytest.raises(ValueError, match="group_size ≥ 2"):
        MinibatchStddev(1)
