"""Clipping against torch's and, where torch has none, timm's; and what only ours can do."""

import math
from collections.abc import Callable

import pytest
import torch
from dlcommon.training.gradient_clipping import (
    PercentileClipping,
    clip_adaptively,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
)
from timm.utils.agc import adaptive_clip_grad
from torch import nn

Clip = Callable[[list[nn.Parameter]], torch.Tensor | None]


def gradients(clip: Clip | None, scale: float = 5.0) -> torch.Tensor:
    """All gradients of a small network after `clip`, as one vector; what it returns comes first, if anything."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)  # has no gradient
    nn.init.zeros_(parameters[5])
    (scale * model(torch.ones(4, 2, 3, 3).double()).square().sum()).backward()
    norm = clip(parameters) if clip else None
    found = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
    return torch.cat([*([] if norm is None else [norm.view(1)]), *found])


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 1e3, math.inf])
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_the_global_norm_is_clipped_as_torch_does(max_norm: float, norm_type: float) -> None:
    ours = gradients(lambda parameters: clip_by_global_norm(parameters, max_norm, norm_type))
    theirs = gradients(lambda parameters: nn.utils.clip_grad_norm_(parameters, max_norm, norm_type))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert ours[0] > 1, "a threshold of 1 has something to clip"


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e6])
def test_values_are_clipped_as_torch_does(limit: float) -> None:
    def theirs(parameters: list[nn.Parameter]) -> None:
        nn.utils.clip_grad_value_(parameters, limit)

    ours = gradients(lambda parameters: clip_by_value(parameters, limit))
    assert torch.equal(ours, gradients(theirs))
    assert ours.abs().max() <= limit


def test_each_tensor_is_clipped_by_its_own_norm() -> None:
    def theirs(parameters: list[nn.Parameter]) -> None:
        for parameter in parameters:
            nn.utils.clip_grad_norm_([parameter], 2.0)

    ours = gradients(lambda parameters: clip_by_norm(parameters, 2.0))
    torch.testing.assert_close(ours, gradients(theirs), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours, gradients(lambda p: clip_by_global_norm(p, 2.0))[1:])


@pytest.mark.parametrize("clip_factor", [0.01, 0.3, 1e6])
def test_units_are_clipped_as_timm_does(clip_factor: float) -> None:
    ours = gradients(lambda parameters: clip_adaptively(parameters, clip_factor))
    theirs = gradients(lambda parameters: adaptive_clip_grad(parameters, clip_factor))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert torch.equal(ours, gradients(None)) == (clip_factor == 1e6)


def test_units_are_rows_and_kernels() -> None:
    kernel = nn.Parameter(torch.ones(2, 3, 2, 2))
    kernel.grad = torch.ones(2, 3, 2, 2)
    kernel.grad[1] *= 1e-3
    small = kernel.grad[1].clone()
    clip_adaptively([kernel], 0.1)
    assert kernel.grad[0].norm().item() == pytest.approx(0.1 * 12**0.5)
    assert torch.equal(kernel.grad[1], small)


def clip_to(clipping: PercentileClipping, norm: float) -> tuple[float, float]:
    """Norms before and after a step whose gradient has this norm."""
    w = nn.Parameter(torch.zeros(2))
    w.grad = torch.tensor([0.6 * norm, 0.8 * norm])
    return clipping([w]).item(), w.grad.norm().item()


def test_a_percentile_follows_the_norms() -> None:
    clipping = PercentileClipping(percentile=50, window=3)
    assert clip_to(clipping, 2.0) == pytest.approx((2, 2), rel=1e-5)
    assert clip_to(clipping, 4.0) == pytest.approx((4, 3), rel=1e-5)
    assert clip_to(clipping, 1000.0) == pytest.approx((1000, 4), rel=1e-5)  # the median of 2, 4 and 1000
    assert clip_to(clipping, 6.0) == pytest.approx((6, 6), rel=1e-5)  # of 4, 1000 and 6: the oldest is forgotten
    assert clip_to(PercentileClipping(100), 5.0) == pytest.approx((5, 5), rel=1e-5)


def test_a_norm_that_is_not_finite_is_not_remembered() -> None:
    clipping = PercentileClipping(percentile=100)
    clip_to(clipping, math.inf)
    assert not clipping.norms
    clip_to(clipping, 3.0)
    assert list(clipping.norms) == pytest.approx([3.0])
    with pytest.raises(ValueError, match="percentile"):
        PercentileClipping(101)


def test_clipping_does_not_hide_what_is_not_finite() -> None:
    w = nn.Parameter(torch.zeros(2))
    for bad in (math.inf, math.nan):
        w.grad = torch.tensor([1.0, bad])
        assert not clip_by_global_norm([w], 1.0).isfinite()
        assert w.grad.isnan().any()


def test_the_global_norm_of_many_is_that_of_one_vector() -> None:
    tensors = [torch.tensor([3.0]), torch.tensor([[4.0, 0.0]]), torch.tensor(12.0)]
    assert global_norm(tensors).item() == 13
    assert global_norm(tensors, math.inf).item() == 12
