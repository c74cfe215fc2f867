"""Two-dimensional convolution in three ways: by loops, by a matrix product (im2col), by the Fourier transform.

    y[n, o, i, j] = bias[o] + Σ_c,u,v weight[o, c, u, v] · x[n, c, stride·i + dilation·u − padding, stride·j + …]

As in every deep-learning library this is a cross-correlation: the kernel is not flipped. Dumoulin & Visin 2016
(https://arxiv.org/abs/1603.07285) draw the geometry. Stride, padding and dilation apply to both directions; arguments
are those of `torch.nn.functional.conv2d`.

Shapes: x [batch, in_channels, height, width], weight [out_channels, in_channels / groups, kernel height, kernel width],
bias [out_channels], y [batch, out_channels, rows, columns]. A position is one of the rows · columns of the output.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch.nn import functional as F


def conv_output_size(size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Counts the positions along one axis at which the (dilated) kernel fits.

    Raises:
        ValueError: the kernel fits nowhere.
    """
    spare = size + 2 * padding - dilation * (kernel_size - 1) - 1
    if spare < 0:
        raise ValueError(
            f"a kernel of {kernel_size}, dilation {dilation}, does not fit into {size} + 2·{padding} pixels"
        )
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
    """Computes the convolution by its definition: at each position, the sum of kernel times patch."""
    rows, columns = _output_shape(x, weight, stride, padding, dilation, groups)
    padded = F.pad(x, (padding,) * 4)
    y = x.new_empty(len(x), len(weight), rows, columns)
    for index in product(*map(range, y.shape)):
        # [in_channels / groups, u, v], both.
        y[index] = (padded[_patch(index, weight, stride, dilation, groups)] * weight[index[1]]).sum()
    return y if bias is None else y + bias[:, None, None]


def conv2d_loops_backward(
    grad_output: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Computes the gradients of x, weight and bias from `grad_output` [batch, out_channels, rows, columns].

    Each output is a sum of products, so its gradient passes to the kernel in proportion to the patch, and to the patch
    in proportion to the kernel. Gradients of overlapping patches add up.
    """
    padded = F.pad(x, (padding,) * 4)
    grad_padded, grad_weight = torch.zeros_like(padded), torch.zeros_like(weight)
    for index in product(*map(range, grad_output.shape)):  # (image, output channel, row, column)
        patch = _patch(index, weight, stride, dilation, groups)
        grad_weight[index[1]] += grad_output[index] * padded[patch]
        grad_padded[patch] += grad_output[index] * weight[index[1]]
    return _crop(grad_padded, padding), grad_weight, grad_output.sum(dim=(0, 2, 3))


def _patch(
    index: tuple[int, ...], weight: torch.Tensor, stride: int, dilation: int, groups: int
) -> tuple[int, slice, slice, slice]:
    """Locates the patch [in_channels / groups, u, v] of the padded input that one output is computed from.

    The output is given by its index (image, output channel, row, column).
    """
    image, out_channel, row, column = index
    out_channels, group_channels, height, width = weight.shape
    # The group of the output channel says where its input channels begin.
    first = out_channel // (out_channels // groups) * group_channels
    top, left = stride * row, stride * column
    down = slice(top, top + dilation * (height - 1) + 1, dilation)
    across = slice(left, left + dilation * (width - 1) + 1, dilation)
    return image, slice(first, first + group_channels), down, across


def im2col(x: torch.Tensor, kernel_size: tuple[int, int], stride: int, padding: int, dilation: int) -> torch.Tensor:
    """Copies all patches into columns, [batch, channels·u·v, positions] for a kernel of u × v, like `F.unfold`."""
    padded = F.pad(x, (padding,) * 4)
    # One strided slice per weight of the kernel, each [batch, channels, rows, columns], instead of one per position.
    taps = [padded[:, :, down, across] for down, across in _taps(x, kernel_size, stride, padding, dilation)]
    stacked = torch.stack(taps, dim=2)  # [batch, channels, u·v, rows, columns]
    return stacked.flatten(3).flatten(1, 2)


def col2im(
    columns: torch.Tensor, x: torch.Tensor, kernel_size: tuple[int, int], stride: int, padding: int, dilation: int
) -> torch.Tensor:
    """Adds every entry of the columns to the pixel that it was copied from: the transpose of `im2col`, like `F.fold`.

    Args:
        columns: as `im2col` returns them, [batch, channels·u·v, positions].
        x: gives the shape of the result, [batch, channels, height, width].
        kernel_size: as passed to `im2col`, like stride, padding and dilation.
        stride: of the convolution.
        padding: of the convolution.
        dilation: of the convolution.
    """
    padded = F.pad(torch.zeros_like(x), (padding,) * 4)
    # [batch, channels, u·v, positions], one tensor per weight of the kernel.
    taps = columns.reshape(len(columns), x.size(1), -1, columns.size(2)).unbind(dim=2)
    for tap, (down, across) in zip(taps, _taps(x, kernel_size, stride, padding, dilation), strict=True):
        # Within one tap no pixel occurs twice, so that adding to a slice loses nothing.
        target = padded[:, :, down, across]
        target += tap.view_as(target)
    return _crop(padded, padding)


def _taps(
    x: torch.Tensor, kernel_size: tuple[int, int], stride: int, padding: int, dilation: int
) -> Iterator[tuple[slice, slice]]:
    """Yields, for each weight of the kernel, the pixels of the padded input that it meets: one per position."""
    rows = conv_output_size(x.size(2), kernel_size[0], stride, padding, dilation)
    columns = conv_output_size(x.size(3), kernel_size[1], stride, padding, dilation)
    for u, v in product(range(kernel_size[0]), range(kernel_size[1])):
        top, left = dilation * u, dilation * v
        yield (
            slice(top, top + stride * (rows - 1) + 1, stride),
            slice(left, left + stride * (columns - 1) + 1, stride),
        )


class _Im2colConvolution(torch.autograd.Function):
    """Computes y = W · im2col(x) forward, and ∂W = ∂y · im2col(x)ᵀ and ∂x = col2im(Wᵀ · ∂y) backward, per group."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, geometry: tuple[int, int, int, int]) -> torch.Tensor:
        stride, padding, dilation, groups = geometry
        rows, columns = _output_shape(x, weight, stride, padding, dilation, groups)
        kernel_size = (weight.size(2), weight.size(3))
        patches = im2col(x, kernel_size, stride, padding, dilation)  # [batch, in_channels·u·v, positions]
        # [batch, groups, c·u·v, positions] with c = in_channels / groups
        patches = patches.reshape(len(x), groups, -1, rows * columns)
        matrix = weight.reshape(groups, len(weight) // groups, -1)  # [groups, out_channels / groups, c·u·v]
        ctx.save_for_backward(x, patches, matrix)
        ctx.geometry, ctx.kernel_size, ctx.weight_shape = geometry, kernel_size, weight.shape
        # [batch, groups, out_channels / groups, positions]: the matrix is broadcast over the batch.
        return (matrix @ patches).reshape(len(x), -1, rows, columns)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, patches, matrix = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        batch, out_channels, rows, columns = grad_output.shape
        # [batch, groups, out_channels / groups, positions]
        grouped = grad_output.reshape(batch, groups, out_channels // groups, rows * columns)
        # n: image, g: group, o: output channel, p: position, k: weight of the kernel; summed over images and positions.
        grad_weight = torch.einsum("ngop,ngkp->gok", grouped, patches).reshape(ctx.weight_shape)
        grad_patches = (matrix.mT @ grouped).flatten(1, 2)  # [batch, in_channels·u·v, positions]
        return col2im(grad_patches, x, ctx.kernel_size, stride, padding, dilation), grad_weight, None


def conv2d_im2col(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Computes all positions by one matrix product (Chellapilla et al. 2006), with a backward pass of its own.

    The price is memory, which holds each pixel once for every weight of the kernel.
    """
    y: torch.Tensor = _Im2colConvolution.apply(x, weight, (stride, padding, dilation, groups))
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
    """Multiplies spectra, by the convolution theorem; the cost does not grow with the kernel (Mathieu et al. 2014).

    A stride saves nothing here: all positions are computed, then most are dropped.
    """
    rows, columns = _output_shape(x, weight, stride, padding, dilation, groups)
    padded = F.pad(x, (padding,) * 4)
    size = (padded.size(2), padded.size(3))
    # Dilation puts zeros between the weights of the kernel.
    dilated = weight.new_zeros(*weight.shape[:2], *(dilation * (side - 1) + 1 for side in weight.shape[2:]))
    dilated[:, :, ::dilation, ::dilation] = weight
    x_spectrum = torch.fft.rfft2(padded)  # [batch, in_channels, u, v], v up to half the width: the input is real
    x_spectrum = x_spectrum.reshape(len(x), groups, -1, *x_spectrum.shape[2:])
    kernel_spectrum = torch.fft.rfft2(dilated, s=size)  # [out_channels, in_channels / groups, u, v]
    kernel_spectrum = kernel_spectrum.reshape(groups, -1, *kernel_spectrum.shape[1:])
    # The conjugate makes it a correlation. It is circular, but positions where the kernel fits do not wrap around.
    # n: image, g: group, c: input channel, o: output channel.
    y_spectrum = torch.einsum("ngcuv,gocuv->ngouv", x_spectrum, kernel_spectrum.conj()).flatten(1, 2)
    y = torch.fft.irfft2(y_spectrum, s=size)[:, :, ::stride, ::stride][:, :, :rows, :columns]
    output: torch.Tensor = y if bias is None else y + bias[:, None, None]
    return output


def _output_shape(
    x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, dilation: int, groups: int
) -> tuple[int, int]:
    """Counts rows and columns of the output.

    Raises:
        ValueError: channels and groups do not fit, or the kernel is larger than the padded input.
    """
    out_channels, group_channels, height, width = weight.shape
    if x.size(1) != group_channels * groups or out_channels % groups:
        raise ValueError(
            f"{x.size(1)} input channels and {out_channels} output channels in {groups} groups do not go with a weight"
            f" for {group_channels}"
        )
    return (
        conv_output_size(x.size(2), height, stride, padding, dilation),
        conv_output_size(x.size(3), width, stride, padding, dilation),
    )


def _crop(padded: torch.Tensor, padding: int) -> torch.Tensor:
    """Removes the padding from height and width."""
    return padded[:, :, padding : padded.size(2) - padding, padding : padded.size(3) - padding]
