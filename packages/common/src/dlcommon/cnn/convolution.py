"""Two-dimensional convolution three ways: by loops, by a matrix product (im2col), by the Fourier transform.

    y[n, o, i, j] = bias[o] + Σ_c,u,v weight[o, c, u, v] · x[n, c, stride·i + dilation·u − padding, stride·j + …]

As in every deep-learning library this is a cross-correlation: the kernel is not flipped. Dumoulin & Visin 2016
(https://arxiv.org/abs/1603.07285) draw the geometry. Shapes: x [batch, channels, height, width], weight [outputs,
channels / groups, kernel height, kernel width], bias [outputs], y [batch, outputs, rows, columns]. Stride, padding
and dilation hold in both directions.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch.nn import functional as F


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Places along one axis at which the (dilated) kernel fits.

    Raises:
        ValueError: it fits nowhere.
    """
    spare = size + 2 * padding - dilation * (kernel - 1) - 1
    if spare < 0:
        raise ValueError(f"a kernel of {kernel} (dilation {dilation}) does not fit into {size} + 2·{padding} pixels")
    return spare // stride + 1


def conv2d_loops(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """The definition: at each place the kernel is multiplied with the patch under it, and summed."""
    rows, columns = _output_shape(x, weight, stride, padding, dilation, groups)
    padded = F.pad(x, (padding,) * 4)
    y = x.new_empty(len(x), len(weight), rows, columns)
    for index in product(*map(range, y.shape)):
        y[index] = (padded[_patch(index, weight, stride, dilation, groups)] * weight[index[1]]).sum()
    return y if bias is None else y + bias[:, None, None]


def conv2d_loops_backward(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of x, weight and bias from that of y, `gradient` [batch, outputs, rows, columns].

    Each output hands its gradient back the way it was made: to the kernel in proportion to the patch, to the patch
    in proportion to the kernel. What overlapping patches share adds up.
    """
    padded = F.pad(x, (padding,) * 4)
    padded_gradient, weight_gradient = torch.zeros_like(padded), torch.zeros_like(weight)
    for index in product(*map(range, gradient.shape)):
        patch = _patch(index, weight, stride, dilation, groups)
        weight_gradient[index[1]] += gradient[index] * padded[patch]
        padded_gradient[patch] += gradient[index] * weight[index[1]]
    return _crop(padded_gradient, padding), weight_gradient, gradient.sum(dim=(0, 2, 3))


def _patch(
    index: tuple[int, ...], weight: torch.Tensor, stride: int, dilation: int, groups: int
) -> tuple[int, slice, slice, slice]:
    """Where, in the padded input, the output at index (image, output, row, column) looks: [channels / groups, u, v]."""
    image, output, row, column = index
    outputs, channels, height, width = weight.shape
    first = output // (outputs // groups) * channels
    top, left = stride * row, stride * column
    down = slice(top, top + dilation * (height - 1) + 1, dilation)
    across = slice(left, left + dilation * (width - 1) + 1, dilation)
    return image, slice(first, first + channels), down, across


def im2col(x: torch.Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int) -> torch.Tensor:
    """All patches as columns [batch, channels · kernel height · kernel width, rows · columns], like `F.unfold`."""
    padded = F.pad(x, (padding,) * 4)
    shifted = [padded[:, :, down, across] for down, across in _taps(x, kernel, stride, padding, dilation)]
    return torch.stack(shifted, dim=2).flatten(3).flatten(1, 2)


def col2im(
    patches: torch.Tensor, x: torch.Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int
) -> torch.Tensor:
    """The transpose of `im2col`: adds what lies in the columns onto the pixels that it came from, like `F.fold`.

    Args:
        patches: as `im2col` returns them.
        x: of the shape of the result [batch, channels, height, width].
    """
    padded = F.pad(torch.zeros_like(x), (padding,) * 4)
    shifted = patches.unflatten(1, (x.size(1), -1)).unbind(dim=2)
    for part, (down, across) in zip(shifted, _taps(x, kernel, stride, padding, dilation), strict=True):
        target = padded[:, :, down, across]
        target += part.view_as(target)
    return _crop(padded, padding)


def _taps(
    x: torch.Tensor, kernel: tuple[int, int], stride: int, padding: int, dilation: int
) -> Iterator[tuple[slice, slice]]:
    """For each weight of the kernel, the pixels of the padded input that it meets: one for each output."""
    rows = output_size(x.size(2), kernel[0], stride, padding, dilation)
    columns = output_size(x.size(3), kernel[1], stride, padding, dilation)
    for u, v in product(range(kernel[0]), range(kernel[1])):
        top, left = dilation * u, dilation * v
        yield (
            slice(top, top + stride * (rows - 1) + 1, stride),
            slice(left, left + stride * (columns - 1) + 1, stride),
        )


class _Im2colConvolution(torch.autograd.Function):
    """Forward y = W · im2col(x); backward ∂W = ∂y · im2col(x)ᵀ and ∂x = col2im(Wᵀ · ∂y), for each group."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, geometry: tuple[int, int, int, int]) -> torch.Tensor:
        stride, padding, dilation, groups = geometry
        rows, columns = _output_shape(x, weight, stride, padding, dilation, groups)
        kernel = (weight.size(2), weight.size(3))
        patches = im2col(x, kernel, stride, padding, dilation).unflatten(
            1, (groups, -1)
        )  # [batch, groups, c·u·v, places]
        matrix = weight.reshape(groups, len(weight) // groups, -1)  # [groups, outputs / groups, c·u·v]
        ctx.save_for_backward(x, patches, matrix)
        ctx.geometry, ctx.kernel, ctx.weight_shape = geometry, kernel, weight.shape
        return (matrix @ patches).reshape(len(x), -1, rows, columns)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, patches, matrix = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        grouped = gradient.flatten(2).unflatten(1, (groups, -1))  # [batch, groups, outputs / groups, places]
        weight_gradient = torch.einsum("ngop,ngkp->gok", grouped, patches).reshape(ctx.weight_shape)
        patch_gradient = (matrix.mT @ grouped).flatten(1, 2)
        return col2im(patch_gradient, x, ctx.kernel, stride, padding, dilation), weight_gradient, None


def conv2d_im2col(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """One matrix product for all places (Chellapilla et al. 2006), with its own backward pass.

    Pays with memory, in which each pixel lies once for each weight of the kernel.
    """
    y = _Im2colConvolution.apply(x, weight, (stride, padding, dilation, groups))
    return y if bias is None else y + bias[:, None, None]


def conv2d_fft(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """The convolution theorem: a product of spectra, whose cost does not grow with the kernel (Mathieu et al. 2014).

    A stride saves nothing here: all places are computed, then most are dropped.
    """
    rows, columns = _output_shape(x, weight, stride, padding, dilation, groups)
    padded = F.pad(x, (padding,) * 4)
    size = (padded.size(2), padded.size(3))
    spread = weight.new_zeros(*weight.shape[:2], *(dilation * (side - 1) + 1 for side in weight.shape[2:]))
    spread[:, :, ::dilation, ::dilation] = weight
    spectrum = torch.fft.rfft2(padded).unflatten(1, (groups, -1))
    kernel_spectrum = torch.fft.rfft2(spread, s=size).unflatten(0, (groups, -1))
    # The conjugate makes it a correlation. It is circular, but places where the kernel fits do not wrap around.
    product_spectrum = torch.einsum("ngcuv,gocuv->ngouv", spectrum, kernel_spectrum.conj()).flatten(1, 2)
    everywhere = torch.fft.irfft2(product_spectrum, s=size)
    y = everywhere[:, :, ::stride, ::stride][:, :, :rows, :columns]
    return y if bias is None else y + bias[:, None, None]


def _output_shape(
    x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, dilation: int, groups: int
) -> tuple[int, int]:
    outputs, channels, height, width = weight.shape
    if x.size(1) != channels * groups or outputs % groups:
        raise ValueError(
            f"{x.size(1)} channels and {outputs} outputs in {groups} groups do not go with a weight for {channels}"
        )
    return (
        output_size(x.size(2), height, stride, padding, dilation),
        output_size(x.size(3), width, stride, padding, dilation),
    )


def _crop(padded: torch.Tensor, padding: int) -> torch.Tensor:
    return padded[:, :, padding : padded.size(2) - padding, padding : padded.size(3) - padding]
