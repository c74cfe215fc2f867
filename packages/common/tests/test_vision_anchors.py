"""Anchors, their assignment and box codes equal torchvision's."""

import pytest
import torch
from dlcommon.vision.anchors import (
    BELOW,
    cell_anchors,
    decode_boxes,
    encode_boxes,
    grid_anchors,
    match_anchors,
    sample_matches,
)
from dlcommon.vision.boxes import box_iou
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

SIZES, RATIOS = (16, 32), (0.5, 1.0, 2.0)


def test_grid_of_anchors() -> None:
    (expected,) = AnchorGenerator((SIZES,), (RATIOS,))(
        ImageList(torch.zeros(1, 3, 48, 80), [(48, 80)]), [torch.zeros(1, 8, 6, 10)]
    )
    found = grid_anchors(cell_anchors(SIZES, RATIOS), 6, 10, 8)
    assert found.shape == (6 * 10 * 6, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    return torch.cat((corner, corner + 5 + 30 * torch.rand(count, 2, generator=generator)), 1)


@pytest.mark.parametrize("force", [True, False])
def test_assignment(force: bool) -> None:
    iou = box_iou(random_boxes(6, 0), grid_anchors(cell_anchors(SIZES, RATIOS), 6, 10, 8))
    expected = Matcher(0.7, 0.3, allow_low_quality_matches=force)(iou)
    assert match_anchors(iou, 0.7, 0.3, force).tolist() == expected.tolist()
    assert (expected >= 0).any() == force  # otherwise the case would not be covered
    assert {-1, -2} <= set(expected.tolist())
    assert match_anchors(iou[:0], 0.7, 0.3, force).unique().tolist() == [BELOW]


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_codes(weights: tuple[float, float, float, float]) -> None:
    boxes, anchors, coder = random_boxes(40, 1).double(), random_boxes(40, 2).double(), BoxCoder(weights)
    codes = encode_boxes(boxes, anchors, weights)
    torch.testing.assert_close(codes, coder.encode_single(boxes, anchors))
    torch.testing.assert_close(decode_boxes(codes, anchors, weights), boxes)
    by_class = (
        5 * torch.randn(40, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ).requires_grad_()
    ours = decode_boxes(by_class, anchors, weights)
    theirs = coder.decode_single(by_class.flatten(1), anchors).view(40, 3, 4)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(each.square().sum(), by_class)[0] for each in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_a_sample_is_balanced() -> None:
    matches = torch.tensor([0] * 10 + [BELOW] * 100 + [-2] * 50)
    positive, negative = sample_matches(matches, 16, 0.5, torch.Generator().manual_seed(0))
    assert (len(positive), len(negative)) == (8, 8)
    assert (matches[positive] >= 0).all()
    assert (matches[negative] == BELOW).all()
    positive, negative = sample_matches(matches, 40, 0.5)
    assert (len(positive), len(negative)) == (10, 30)
