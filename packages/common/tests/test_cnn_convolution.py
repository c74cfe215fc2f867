"""The three convolutions and the poolings against torch's: values, gradients, geometry."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.cnn.convolution import (
    col2im,
    conv2d_fft,
    conv2d_im2col,
    conv2d_loops,
    conv2d_loops_backward,
    conv_output_size,
    im2col,
)
from dlcommon.cnn.pooling import adaptive_avg_pool2d, avg_pool2d, blur_pool2d, max_pool2d, max_unpool2d
from torch.nn import functional as F

EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}

Operation = Callable[..., torch.Tensor]
GEOMETRIES = [
    pytest.param({}, id="plain"),
    pytest.param({"stride": 2, "padding": 1}, id="stride-padding"),
    pytest.param({"dilation": 2, "padding": 3}, id="dilation"),
    pytest.param({"groups": 2, "stride": 3}, id="groups"),
    pytest.param({"groups": 4, "padding": 1}, id="depthwise"),
    pytest.param({"stride": 2, "padding": 2, "dilation": 2, "groups": 2}, id="all"),
]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tensors(groups: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, weight and bias; images and kernels that are not square, so that rows and columns cannot be confused."""
    x, weight, bias = random(2, 4, 7, 9), random(8, 4 // groups, 2, 3, seed=1), random(8, seed=2)
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("convolve", [conv2d_loops, conv2d_im2col, conv2d_fft])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_torch_in_value_and_gradient(convolve: Operation, geometry: dict[str, Any]) -> None:
    given = tensors(geometry.get("groups", 1))
    expected = F.conv2d(*given, **geometry)
    loss_weights = random(*expected.shape, seed=3)
    references = torch.autograd.grad((expected * loss_weights).sum(), given)
    gradients: tuple[torch.Tensor, ...]
    if convolve is conv2d_loops:
        with torch.no_grad():
            y = conv2d_loops(*given, **geometry)
            gradients = conv2d_loops_backward(loss_weights, *given[:2], **geometry)
    else:
        y = convolve(*given, **geometry)
        gradients = torch.autograd.grad((y * loss_weights).sum(), given)
    torch.testing.assert_close(y, expected, **EXACT)
    torch.testing.assert_close(list(gradients), list(references), **EXACT)


@pytest.mark.parametrize("convolve", [conv2d_loops, conv2d_im2col, conv2d_fft])
def test_a_bias_is_optional(convolve: Operation) -> None:
    x, weight, _ = (tensor.detach() for tensor in tensors())
    torch.testing.assert_close(convolve(x, weight), F.conv2d(x, weight), **EXACT)


@pytest.mark.parametrize("convolve", [conv2d_loops, conv2d_im2col, conv2d_fft])
def test_what_does_not_fit_is_refused(convolve: Operation) -> None:
    x, weight, _ = (tensor.detach() for tensor in tensors())
    with pytest.raises(ValueError, match="does not fit"):
        convolve(x[:, :, :1], weight)
    with pytest.raises(ValueError, match="3 input channels and 8 output channels in 1 groups"):
        convolve(x[:, :3], weight)
    with pytest.raises(ValueError, match="3 groups"):
        convolve(random(2, 12, 7, 9), weight, groups=3)


def test_im2col_and_col2im_are_unfold_and_fold_and_each_others_transpose() -> None:
    x = random(2, 3, 6, 7)
    patches = im2col(x, (3, 2), stride=2, padding=1, dilation=1)
    torch.testing.assert_close(patches, F.unfold(x, (3, 2), stride=2, padding=1))
    other = random(*patches.shape, seed=1)
    back = col2im(other, x, (3, 2), stride=2, padding=1, dilation=1)
    torch.testing.assert_close(back, F.fold(other, (6, 7), (3, 2), stride=2, padding=1))
    torch.testing.assert_close((patches * other).sum(), (x * back).sum())


def test_output_size_counts_the_places_at_which_the_kernel_fits() -> None:
    for size, kernel, stride, padding, dilation in [(7, 3, 1, 0, 1), (8, 3, 2, 1, 1), (9, 3, 2, 2, 3), (5, 5, 3, 0, 1)]:
        starts = range(-padding, size + padding - dilation * (kernel - 1), stride)
        assert conv_output_size(size, kernel, stride, padding, dilation) == len(starts)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 1), (2, 3, 0)])
def test_poolings_equal_torchs_in_value_and_gradient(kernel: int, stride: int | None, padding: int) -> None:
    pairs: list[tuple[Operation, Operation]] = [
        (lambda x: max_pool2d(x, kernel, stride, padding)[0], lambda x: F.max_pool2d(x, kernel, stride, padding)),
        (lambda x: avg_pool2d(x, kernel, stride, padding), lambda x: F.avg_pool2d(x, kernel, stride, padding)),
        (
            lambda x: avg_pool2d(x, kernel, stride, padding, count_include_pad=False),
            lambda x: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False),
        ),
    ]
    for ours, theirs in pairs:
        results = []
        for pool in (ours, theirs):
            x = random(2, 3, 7, 8).requires_grad_()
            y = pool(x)
            results.append((y.detach(), *torch.autograd.grad(y.sin().sum(), x)))
        torch.testing.assert_close(results[0], results[1], **EXACT)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 1, 1)])
def test_the_places_of_maxima_are_torchs_also_among_equal_values(kernel: int, stride: int | None, padding: int) -> None:
    x = random(2, 3, 7, 8).mul(2).round()  # many ties
    assert len(x.unique()) < 20
    values, indices = max_pool2d(x, kernel, stride, padding)
    expected = F.max_pool2d(x, kernel, stride, padding, return_indices=True)
    assert torch.equal(values, expected[0])
    assert torch.equal(indices, expected[1])


def test_unpooling_puts_the_maxima_back() -> None:
    x = random(2, 3, 6, 8)
    values, indices = max_pool2d(x, 2)
    restored = max_unpool2d(values, indices, (6, 8))
    torch.testing.assert_close(restored, F.max_unpool2d(values, indices, (2, 2)))
    kept = restored != 0
    assert torch.equal(restored[kept], x[kept])
    assert kept.sum() == values.numel()


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 4), (5, 2), (9, 7)])
def test_adaptive_average_pooling_equals_torchs(rows: int, columns: int) -> None:
    results = []
    for pool in (adaptive_avg_pool2d, F.adaptive_avg_pool2d):
        x = random(2, 3, 7, 8).requires_grad_()
        y = pool(x, (rows, columns))
        results.append((y.detach(), *torch.autograd.grad(y.sin().sum(), x)))
    torch.testing.assert_close(results[0], results[1], **EXACT)


def test_blur_pooling_is_averaging_twice_then_subsampling() -> None:
    x = random(2, 3, 7, 8)
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    expected = F.avg_pool2d(F.avg_pool2d(padded, 2, 1), 2, 1)[:, :, ::2, ::2]
    torch.testing.assert_close(blur_pool2d(x), expected, **EXACT)
    constant = torch.full((1, 2, 6, 6), 3.0)
    torch.testing.assert_close(blur_pool2d(constant), torch.full((1, 2, 3, 3), 3.0))


def test_pooling_refuses_what_it_cannot_pool() -> None:
    x = random(1, 1, 4, 4)
    with pytest.raises(ValueError, match="does not fit"):
        avg_pool2d(x, 5)
    with pytest.raises(ValueError, match="more than half"):
        max_pool2d(x, 3, padding=2)
