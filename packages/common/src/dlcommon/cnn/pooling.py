"""Pooling: each channel's map summarized window by window. Shapes: x [batch, channels, height, width]."""

import torch
from torch.nn import functional as F

from dlcommon.cnn.convolution import output_size


def windows(
    x: torch.Tensor, kernel: int, stride: int | None = None, padding: int = 0, fill: float = 0.0
) -> torch.Tensor:
    """All windows [batch, channels, rows, columns, kernel · kernel]; the stride is the kernel if not given.

    Raises:
        ValueError: the kernel is larger than the padded input, or the padding more than half of the kernel (a window
            could then hold nothing but padding).
    """
    stride = kernel if stride is None else stride
    if padding > kernel // 2:
        raise ValueError(f"padding {padding} is more than half of the kernel, {kernel}")
    for size in x.shape[2:]:
        output_size(size, kernel, stride, padding)
    padded = F.pad(x, (padding,) * 4, value=fill)
    return padded.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(-2)


def max_pool2d(
    x: torch.Tensor, kernel: int, stride: int | None = None, padding: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value of each window, and where it was (row · width + column of the unpadded input).

    Both have the shape [batch, channels, rows, columns]. The gradient goes to that one pixel alone.
    """
    values, winner = windows(x, kernel, stride, padding, fill=-torch.inf).max(dim=-1)
    numbers = torch.arange(x.size(2) * x.size(3), device=x.device).view(1, 1, x.size(2), x.size(3))
    where = windows(numbers, kernel, stride, padding, fill=-1).expand(*winner.shape, -1)
    return values, where.gather(-1, winner.unsqueeze(-1)).squeeze(-1)


def max_unpool2d(values: torch.Tensor, indices: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Puts each value back where `max_pool2d` found it, zeros elsewhere: [batch, channels, height, width]."""
    flat = values.new_zeros(*values.shape[:2], height * width)
    return flat.scatter(2, indices.flatten(2), values.flatten(2)).unflatten(2, (height, width))


def avg_pool2d(
    x: torch.Tensor, kernel: int, stride: int | None = None, padding: int = 0, count_padding: bool = True
) -> torch.Tensor:
    """The mean of each window; `count_padding` says whether padded zeros count as pixels."""
    total = windows(x, kernel, stride, padding).sum(dim=-1)
    if count_padding:
        return total / kernel**2
    return total / windows(torch.ones_like(x[:1, :1]), kernel, stride, padding).sum(dim=-1)


def adaptive_avg_pool2d(x: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Means over rows × columns windows that cover the input, whatever its size; (1, 1) is global average pooling.

    Window i of n along an axis of s pixels goes from ⌊i·s/n⌋ to ⌈(i+1)·s/n⌉, so that neighbours overlap by a pixel
    where n does not divide s.
    """
    for axis, parts in ((2, rows), (3, columns)):
        size = x.size(axis)
        bounds = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
        x = torch.stack([x.narrow(axis, a, b - a).mean(dim=axis) for a, b in bounds], dim=axis)
    return x


def blur_pool2d(x: torch.Tensor, stride: int = 2) -> torch.Tensor:
    """Blurs with the binomial kernel [1, 2, 1] / 4 in both directions, then keeps every `stride`-th pixel.

    Subsampling folds frequencies above half the new rate onto lower ones, so that a shift by one pixel changes the
    result; the blur takes most of them out first (Zhang 2019, https://arxiv.org/abs/1904.11486).
    """
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line).expand(x.size(1), 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=stride, groups=x.size(1))
