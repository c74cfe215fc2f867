"""RoI pooling and RoI align equal torchvision's, in value and gradient."""

import pytest
import torch
from dlcommon.vision.roi import roi_align, roi_pool
from torchvision import ops


@pytest.fixture
def features() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 13, 17, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def boxes() -> list[torch.Tensor]:
    """Boxes in an image of 208 × 272 pixels (stride 16), some tiny, some beyond the border."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for count in (20, 15):
        corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor([260.0, 200.0]) - 20
        side = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 150
        made.append(torch.cat((corner, corner + side), 1))
    made[0][0] = torch.tensor([8.0, 24.0, 40.0, 56.0])  # halves of a cell, which C rounds away from zero
    return made


def assert_equal(features: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    weight = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients = [torch.autograd.grad((pooled * weight).sum(), features)[0] for pooled in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)
    assert gradients[0].abs().max() > 0.1


@pytest.mark.parametrize("size", [2, 7])
def test_roi_pool(features: torch.Tensor, boxes: list[torch.Tensor], size: int) -> None:
    assert_equal(features, roi_pool(features, boxes, size, 1 / 16), ops.roi_pool(features, boxes, size, 1 / 16))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [1, 2, -1])
def test_roi_align(features: torch.Tensor, boxes: list[torch.Tensor], sampling_ratio: int, aligned: bool) -> None:
    theirs = ops.roi_align(features, boxes, 7, 1 / 16, sampling_ratio, aligned)
    assert_equal(features, roi_align(features, boxes, 7, 1 / 16, sampling_ratio, aligned), theirs)


def test_images_without_boxes(features: torch.Tensor, boxes: list[torch.Tensor]) -> None:
    none = torch.zeros(0, 4, dtype=torch.float64)
    assert roi_pool(features, [none, none], 7, 1 / 16).shape == (0, 3, 7, 7)
    assert roi_align(features, [none, none], 7, 1 / 16).shape == (0, 3, 7, 7)
    some = roi_align(features, [none, boxes[1]], 7, 1 / 16)
    torch.testing.assert_close(some, ops.roi_align(features, [none, boxes[1]], 7, 1 / 16, 2, True))
