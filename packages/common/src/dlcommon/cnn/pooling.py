"""Pooling: every channel summarized window by window. Shapes: x [batch, channels, height, width]."""

import torch
from torch.nn import functional as F

from dlcommon.cnn.convolution import conv_output_size


def sliding_windows(
    x: torch.Tensor, kernel_size: int, stride: int | None = None, padding: int = 0, fill_value: float = 0.0
) -> torch.Tensor:
    """Extracts all windows, [batch, channels, rows, columns, kernel_size²]; by default the stride is `kernel_size`.

    Raises:
        ValueError: the kernel is larger than the padded input, or the padding more than half of the kernel, so that a
            window could hold nothing but padding.
    """
    stride = kernel_size if stride is None else stride
    if padding > kernel_size // 2:
        raise ValueError(f"padding {padding} is more than half of the kernel, {kernel_size}")
    for size in x.shape[2:]:
        conv_output_size(size, kernel_size, stride, padding)
    padded = F.pad(x, (padding,) * 4, value=fill_value)
    # Each `unfold` turns an axis into positions and appends one of the pixels in the window.
    return padded.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)


def max_pool2d(
    x: torch.Tensor, kernel_size: int, stride: int | None = None, padding: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the maximum of each window, and its index row · width + column in the unpadded input.

    Both are [batch, channels, rows, columns]. The gradient flows to the maximum alone.
    """
    # Padding must never win, not even over negative values.
    values, argmax = sliding_windows(x, kernel_size, stride, padding, fill_value=-torch.inf).max(dim=-1)
    # The same windows over an image of pixel indices say which pixel each position of a window is.
    indices = torch.arange(x.size(2) * x.size(3), device=x.device).view(1, 1, x.size(2), x.size(3))
    index_windows = sliding_windows(indices, kernel_size, stride, padding, fill_value=-1).expand(*argmax.shape, -1)
    return values, index_windows.gather(-1, argmax.unsqueeze(-1)).squeeze(-1)


def max_unpool2d(values: torch.Tensor, indices: torch.Tensor, output_size: tuple[int, int]) -> torch.Tensor:
    """Puts each value back where `max_pool2d` found it, and zeros elsewhere: [batch, channels, *output_size]."""
    flat = values.new_zeros(*values.shape[:2], output_size[0] * output_size[1])
    output: torch.Tensor = flat.scatter(2, indices.flatten(2), values.flatten(2)).unflatten(2, output_size)
    return output


def avg_pool2d(
    x: torch.Tensor, kernel_size: int, stride: int | None = None, padding: int = 0, count_include_pad: bool = True
) -> torch.Tensor:
    """Computes the mean of each window; padded zeros count as pixels if `count_include_pad`."""
    total = sliding_windows(x, kernel_size, stride, padding).sum(dim=-1)
    if count_include_pad:
        return total / kernel_size**2
    return total / sliding_windows(torch.ones_like(x[:1, :1]), kernel_size, stride, padding).sum(dim=-1)


def adaptive_avg_pool2d(x: torch.Tensor, output_size: tuple[int, int]) -> torch.Tensor:
    """Averages over output_size windows that cover the input, whatever its size; (1, 1) is global average pooling.

    Window i of n along an axis of s pixels goes from ⌊i·s/n⌋ to ⌈(i+1)·s/n⌉, so that neighbors overlap by a pixel
    where n does not divide s.
    """
    for axis, parts in zip((2, 3), output_size, strict=True):
        size = x.size(axis)
        # −(−a // b) rounds up.
        bounds = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
        x = torch.stack([x.narrow(axis, a, b - a).mean(dim=axis) for a, b in bounds], dim=axis)
    return x


def blur_pool2d(x: torch.Tensor, stride: int = 2) -> torch.Tensor:
    """Blurs with the binomial kernel [1, 2, 1] / 4 in both directions, then keeps every `stride`-th pixel.

    Subsampling aliases frequencies above half the new sampling rate to lower ones, so that a shift by one pixel changes
    the result; the blur removes most of them first (Zhang 2019, https://arxiv.org/abs/1904.11486).
    """
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line).expand(x.size(1), 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=stride, groups=x.size(1))
