"""Boxes, their losses and suppression equal torchvision's, in value and gradient."""

import pytest
import torch
from dlcommon.vision.boxes import box_area, box_iou, clip_boxes, cxcywh_to_xyxy, xyxy_to_cxcywh
from dlcommon.vision.iou_losses import ciou_loss, diou_loss, giou_loss, iou_loss
from dlcommon.vision.suppression import batched_nms, nms, soft_nms
from torchvision import ops


def random_boxes(count: int, seed: int, spread: float = 60.0) -> torch.Tensor:
    """Boxes [count, 4] of sides from 5 to 45, many of which overlap, some not."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * spread
    return torch.cat((corner, corner + 5 + 40 * torch.rand(count, 2, generator=generator, dtype=torch.float64)), 1)


def test_conversion_area_overlap_and_clipping_equal_torchvisions() -> None:
    boxes, others = random_boxes(50, 0), random_boxes(30, 1)
    torch.testing.assert_close(xyxy_to_cxcywh(boxes), ops.box_convert(boxes, "xyxy", "cxcywh"))
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes)
    torch.testing.assert_close(box_area(boxes), ops.box_area(boxes))
    torch.testing.assert_close(box_iou(boxes, others), ops.box_iou(boxes, others))
    torch.testing.assert_close(clip_boxes(boxes - 10, 40, 50), ops.clip_boxes_to_image(boxes - 10, (40, 50)))
    assert box_iou(boxes, boxes[:0]).shape == (50, 0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (giou_loss, ops.generalized_box_iou_loss),
        (diou_loss, ops.distance_box_iou_loss),
        (ciou_loss, ops.complete_box_iou_loss),
    ],
)
def test_losses_equal_torchvisions_in_value_and_gradient(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    predicted, target = random_boxes(200, 2).requires_grad_(), random_boxes(200, 3)
    expected, found = theirs(predicted, target), ours(predicted, target)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(loss.sum(), predicted)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_only_the_plain_loss_has_no_gradient_where_boxes_are_apart() -> None:
    predicted = torch.tensor([[0.0, 0.0, 10.0, 10.0]], requires_grad=True)
    target = torch.tensor([[30.0, 0.0, 40.0, 10.0]])
    (plain,) = torch.autograd.grad(iou_loss(predicted, target).sum(), predicted)
    assert plain.abs().max() == 0
    for loss in (giou_loss, diou_loss, ciou_loss):
        (gradient,) = torch.autograd.grad(loss(predicted, target).sum(), predicted)
        assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_suppression_equals_torchvisions(threshold: float) -> None:
    boxes = random_boxes(300, 4).float()
    generator = torch.Generator().manual_seed(5)
    scores = (torch.rand(300, generator=generator) * 50).round() / 50  # with equal scores
    labels = torch.randint(3, (300,), generator=generator)
    assert nms(boxes, scores, threshold).tolist() == ops.nms(boxes, scores, threshold).tolist()
    distinct = torch.rand(300, generator=generator)
    assert (
        batched_nms(boxes, distinct, labels, threshold).tolist()
        == ops.batched_nms(boxes, distinct, labels, threshold).tolist()
    )
    assert 1 < len(nms(boxes, scores, threshold)) < 300


def test_suppression_of_nothing() -> None:
    empty = torch.zeros(0, 4)
    assert nms(empty, torch.zeros(0), 0.5).shape == (0,)
    assert batched_nms(empty, torch.zeros(0), torch.zeros(0, dtype=torch.long), 0.5).shape == (0,)
    assert [each.shape for each in soft_nms(empty, torch.zeros(0))] == [(0,), (0,)]


def reference_soft_nms(boxes: torch.Tensor, scores: torch.Tensor, decay) -> list[tuple[int, float]]:  # type: ignore[no-untyped-def]
    """The paper's Figure 3, with lists."""
    open_boxes = dict(enumerate(scores.tolist()))
    picked = []
    while open_boxes:
        best = max(open_boxes, key=lambda box: open_boxes[box])
        picked.append((best, open_boxes.pop(best)))
        for box in open_boxes:
            open_boxes[box] *= decay(ops.box_iou(boxes[best, None], boxes[box, None]).item())
    return picked


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_suppression_follows_the_paper(method) -> None:  # type: ignore[no-untyped-def]
    boxes, scores = random_boxes(40, 6), torch.rand(40, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    decays = {
        "linear": lambda iou: 1 - iou if iou > 0.3 else 1.0,
        "gaussian": lambda iou: torch.tensor(-iou * iou / 0.5).exp().item(),
    }
    expected = reference_soft_nms(boxes, scores, decays[method])
    indices, lowered = soft_nms(boxes, scores, method, min_score=0.0)
    assert indices.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(lowered.tolist(), [score for _, score in expected], rtol=1e-5, atol=1e-7)
    kept, _ = soft_nms(boxes, scores, method, min_score=0.2)
    assert kept.tolist() == [index for index, score in expected if score >= 0.2]


def test_a_predicted_box_without_height_has_a_gradient() -> None:
    predicted = torch.tensor([[1.0, 2.0, 5.0, 2.0]], requires_grad=True)
    ciou_loss(predicted, torch.tensor([[0.0, 0.0, 4.0, 3.0]])).sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
