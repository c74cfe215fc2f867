"""The U-Net and its blocks against diffusers', with the same weights."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d import UNet2DModel
from dlcommon.generative.unet import UNet
from dlcommon.generative.unet_blocks import AttentionBlock, Downsample, ResidualBlock, Upsample, timestep_embedding
from torch import nn


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomize(module: nn.Module) -> None:
    """Gives every parameter weights that matter; some begin at zero."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
            theirs.copy_(ours)


def assert_same(outputs: tuple[torch.Tensor, torch.Tensor], inputs: torch.Tensor, modules: Iterable[nn.Module]) -> None:
    """Checks that two outputs agree, and their gradients by the input and by all parameters, summed by kind."""
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    ours, theirs = (
        torch.autograd.grad(output.square().sum(), [inputs, *module.parameters()])
        for output, module in zip(outputs, modules, strict=True)
    )
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)
    # Parameters stand in another order; equal sets of gradients have equal sorted norms.
    norms = [torch.stack([gradient.norm() for gradient in each[1:]]).sort().values for each in (ours, theirs)]
    torch.testing.assert_close(*norms, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("timesteps", [torch.tensor([0, 3, 999]), torch.tensor([0.5, 250.25, 1000.0])])
def test_timestep_embedding_is_diffusers(timesteps: torch.Tensor) -> None:
    expected = get_timestep_embedding(timesteps, 16, flip_sin_to_cos=True, downscale_freq_shift=0)
    # Angles of a thousand radians are known to 1000 · 2^−24 in float32.
    torch.testing.assert_close(timestep_embedding(timesteps, 16), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("out_channels", [8, 16])
def test_residual_block_is_diffusers(out_channels: int) -> None:
    ours = ResidualBlock(8, out_channels, 12, groups=4)
    theirs: Any = ResnetBlock2D(in_channels=8, out_channels=out_channels, temb_channels=12, groups=4, eps=1e-5)
    x, embedding = random(2, 8, 6, 6).requires_grad_(), random(2, 12, seed=1)
    if out_channels == 8:
        assert torch.equal(ours(x, embedding), x)  # untrained, it passes on what it gets
    randomize(ours)
    copy_parameters(ours, theirs)
    assert_same((ours(x, embedding), theirs(x, embedding)), x, (ours, theirs))


def test_attention_block_is_diffusers() -> None:
    ours = AttentionBlock(16, groups=4, head_dim=8)
    theirs: Any = Attention(16, heads=2, dim_head=8, norm_num_groups=4, bias=True, residual_connection=True, eps=1e-5)
    randomize(ours)
    copy_parameters(ours, theirs)
    x = random(2, 16, 5, 3).requires_grad_()
    assert_same((ours(x), theirs(x)), x, (ours, theirs))
    with pytest.raises(ValueError, match="channels 12 must be a multiple of head_dim 8"):
        AttentionBlock(12, groups=4)


def of_type(kind: type[nn.Module] | tuple[type[nn.Module], ...], *parents: nn.Module) -> list[nn.Module]:
    return [module for parent in parents for module in parent.modules() if isinstance(module, kind)]


def copy_unet(ours: UNet, theirs: Any) -> None:
    """Copies all weights, block by block in the order in which they are applied."""
    parts = (theirs.down_blocks, theirs.mid_block, theirs.up_blocks)
    own = (ours.down, ours.middle, ours.up)
    pairs = [
        (ours.conv_in, theirs.conv_in),
        (ours.time_mlp, theirs.time_embedding),
        (ours.norm_out, theirs.conv_norm_out),
        (ours.conv_out, theirs.conv_out),
        *zip(of_type(ResidualBlock, *own), of_type(ResnetBlock2D, *parts), strict=True),
        *zip(of_type(AttentionBlock, *own), of_type(Attention, *parts), strict=True),
    ]
    resamplers = [module for block in parts[0] for module in block.downsamplers or ()]
    resamplers += [module for block in parts[2] for module in block.upsamplers or ()]
    pairs += zip(of_type((Downsample, Upsample), *own), resamplers, strict=True)
    if ours.class_embedding is not None:
        pairs.append((ours.class_embedding, theirs.class_embedding))
    for mine, other in pairs:
        copy_parameters(mine, other)
    counts = [sum(parameter.numel() for parameter in each.parameters()) for each in (ours, theirs)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("size", "channels", "attention", "blocks", "num_classes"),
    [
        (8, (8, 16), (False, True), 1, 11),
        (16, (8, 8, 16), (False, True, False), 2, None),
        (64, (8, 8, 8, 16), (False, False, False, True), 1, None),
    ],
)
def test_the_whole_network_is_diffusers(
    size: int, channels: tuple[int, ...], attention: tuple[bool, ...], blocks: int, num_classes: int | None
) -> None:
    ours = UNet(3, channels=channels, attention=attention, blocks=blocks, num_classes=num_classes, groups=4)
    theirs: Any = UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=channels,
        layers_per_block=blocks,
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attention),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attention)),
        norm_num_groups=4,
        attention_head_dim=8,
        num_class_embeds=num_classes,
    )
    randomize(ours)
    copy_unet(ours, theirs)
    x, timesteps = random(2, 3, size, size).requires_grad_(), torch.tensor([3, 700])
    labels = None if num_classes is None else torch.tensor([0, num_classes - 1])
    assert_same((ours(x, timesteps, labels), theirs(x, timesteps, labels).sample), x, (ours, theirs))


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_any_power_of_two_and_any_channels(size: int, in_channels: int) -> None:
    network = UNet(in_channels, channels=(8, 8, 8), blocks=1, out_channels=2 * in_channels)
    found = network(random(1, in_channels, size, size), torch.tensor([5]))
    assert found.shape == (1, 2 * in_channels, size, size)
    assert not found.any()  # untrained, it predicts the mean of noise


def test_impossible_shapes_and_labels_are_named() -> None:
    with pytest.raises(ValueError, match="attention has 1 levels, channels has 2"):
        UNet(1, channels=(8, 8), attention=(True,))
    with pytest.raises(ValueError, match="must be multiples of groups 8"):
        UNet(1, channels=(8, 12))
    network = UNet(1, channels=(8, 8, 8), blocks=1, num_classes=3)
    with pytest.raises(ValueError, match="10 × 8 pixels cannot be halved 2 times; sides must be multiples of 4"):
        network(random(1, 1, 10, 8), torch.tensor([5]), torch.tensor([0]))
    with pytest.raises(ValueError, match="pass labels to a network with num_classes"):
        network(random(1, 1, 8, 8), torch.tensor([5]))
