"""Transposed convolution: every input pixel stamps the kernel onto a larger output (Dumoulin & Visin 2016)."""

import torch


def conv_transpose2d(x: torch.Tensor, weight: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
    """Adds weight · x[i, j] to the output at rows and columns from stride · i and stride · j on, then crops the border.

    It is the transpose of the convolution with the same weight, stride and padding: what convolution does to gradients
    on their way back. An output is (size − 1) · stride + kernel − 2 · padding wide.

    Args:
        x: [batch, in_channels, height, width].
        weight: [in_channels, out_channels, kernel height, kernel width], as torch.
        stride: distance of two stamps in the output.
        padding: width of the border that is cut off.

    Returns:
        [batch, out_channels, new height, new width].

    Raises:
        ValueError: the channels differ, or nothing is left after cropping.
    """
    batch, channels, height, width = x.shape
    if weight.size(0) != channels:
        raise ValueError(f"input has {channels} channels, weight is for {weight.size(0)}")
    kernel_height, kernel_width = weight.shape[2:]
    full_height, full_width = (height - 1) * stride + kernel_height, (width - 1) * stride + kernel_width
    if min(full_height, full_width) <= 2 * padding:
        raise ValueError(f"padding {padding} leaves nothing of an output of {full_height}×{full_width}")
    output = x.new_zeros(batch, weight.size(1), full_height, full_width)
    for row in range(kernel_height):
        for column in range(kernel_width):
            # One kernel entry of all stamps at once: they land `stride` apart, so that none covers another.
            stamps = torch.einsum("bihw,io->bohw", x, weight[:, :, row, column])
            output[:, :, row : row + stride * height : stride, column : column + stride * width : stride] += stamps
    return output[:, :, padding : full_height - padding, padding : full_width - padding]


def overlap_counts(size: int, kernel_size: int, stride: int, padding: int = 0) -> torch.Tensor:
    """Counts how many stamps reach each output pixel of a `size`×`size` input: the cause of checkerboards.

    Away from the border the count is the same everywhere exactly if the stride divides the kernel size (Odena et al.
    2016, https://distill.pub/2016/deconv-checkerboard/).

    Returns:
        [new size, new size].
    """
    ones = torch.ones(1, 1, size, size), torch.ones(1, 1, kernel_size, kernel_size)
    return conv_transpose2d(*ones, stride, padding)[0, 0]
