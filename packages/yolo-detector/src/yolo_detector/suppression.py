"""Non-maximum suppression as one operator, which torch computes and ONNX has: dense, so that shapes stay known."""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20 as op
from torchvision.ops import batched_nms

MOST = 300
"""Detections of a picture, and of each of its classes, at most."""


@torch.library.custom_op("yolo_detector::suppress", mutates_args=())
def suppress(boxes: torch.Tensor, scores: torch.Tensor, iou: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    """Keeps the scores of those boxes that no better one of their class overlaps; all others become 0.

    Args:
        boxes: [batch, anchors, 4].
        scores: [batch, classes, anchors].
        iou: greatest IoU that two kept boxes of a class may have, [1].
        confidence: scores up to this are dropped, [1].

    Returns:
        [batch, classes, anchors].
    """
    kept = torch.zeros_like(scores)
    for each, (picture, of_picture) in enumerate(zip(boxes, scores, strict=True)):
        label, anchor = (of_picture > confidence).nonzero(as_tuple=True)
        found = of_picture[label, anchor]
        # One class after the other: boxes moved apart by class, as `batched_nms` may do, would lose digits.
        for each_label in label.unique():
            rows = (label == each_label).nonzero()[:, 0]
            best = rows[batched_nms(picture[anchor[rows]], found[rows], label[rows] * 0, float(iou))[:MOST]]
            kept[each, label[best], anchor[best]] = found[best]
    return kept


@suppress.register_fake
def _(boxes: torch.Tensor, scores: torch.Tensor, iou: torch.Tensor, confidence: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(scores)


def _suppress_onnx(boxes: Any, scores: Any, iou: Any, confidence: Any) -> Any:
    most: Any = op.Constant(value_ints=[MOST])
    zero: Any = op.Constant(value_float=0.0)
    chosen = op.NonMaxSuppression(boxes, scores, most, iou, confidence)  # [kept, 3]: picture, class, anchor
    return op.ScatterND(op.Mul(scores, zero), chosen, op.GatherND(scores, chosen))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.yolo_detector.suppress.default: _suppress_onnx}
"""For the exporter: the operator in ONNX."""
