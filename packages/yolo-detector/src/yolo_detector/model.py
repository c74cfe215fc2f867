"""The network, and the detector around it that is evaluated and exported: pixels in, detections out."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.vision.yolo_v8 import SCALES, YoloV8
from torch import nn

from yolo_detector.config import Config
from yolo_detector.letterbox import letterbox
from yolo_detector.suppression import MOST, TRANSLATIONS, suppress
from yolo_detector.weights import load_matching

INPUTS = ("images", "confidence", "iou")
OUTPUTS = ("detections", "boxes", "scores")
CONFIDENCE = 0.25
"""Score above which an object counts, where an evaluation has not said better."""
OURS = {f"yolov8{scale}": scale for scale in SCALES}


def build(config: Config, num_classes: int) -> nn.Module:
    """Builds the config's network, with random weights or those of its file.

    Raises:
        UsageError: there is no network of that name, or the file of weights cannot be used.
    """
    network: nn.Module
    if config.model in OURS:
        network = YoloV8(num_classes, SCALES[OURS[config.model]])
    else:
        from yolo_detector.ultralytics_network import UltralyticsNetwork  # ultralytics takes seconds to import

        network = UltralyticsNetwork(config.model, num_classes)
    if config.weights is not None:
        load_matching(network, Path(config.weights))
    return network


class Detector(nn.Module):
    """Adds what comes before and after the network: scaling of pixels, and non-maximum suppression."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, images: torch.Tensor, confidence: torch.Tensor, iou: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Detects objects.

        Args:
            images: uint8 [batch, height, width, 3], both sides multiples of 32.
            confidence: each picture's own least score, [batch].
            iou: greatest IoU that two detections of one class may have, [batch]; the largest counts for all.

        Returns:
            Detections [batch, 300, 6], best first: left, top, right, bottom in pixels, score and class; rows of score
            0 are padding. Boxes [batch, anchors, 4] and scores [batch, classes, anchors] before suppression.
        """
        predictions = self.network(images.permute(0, 3, 1, 2).float() / 255)
        boxes, scores = predictions.boxes, predictions.logits.sigmoid().mT  # [batch, classes, anchors]
        kept = suppress(boxes, scores.contiguous(), iou.amax(0, keepdim=True), confidence.amin(0, keepdim=True))
        kept = torch.where(kept > confidence[:, None, None], kept, 0.0)
        classes, anchors = scores.shape[1:]
        best = nn.functional.pad(kept.flatten(1), (0, MOST)).topk(MOST, dim=1)  # padded, for there may be fewer
        real = (best.values > 0)[..., None]
        place = best.indices * real[..., 0]  # what is padding points at the first box
        anchor = torch.arange(anchors, device=boxes.device).expand(classes, -1).flatten()[place]
        label = torch.arange(classes, device=boxes.device)[:, None].expand(-1, anchors).flatten()[place]
        found = boxes.gather(1, anchor[..., None].expand(-1, -1, 4))
        detections = torch.cat((found, best.values[..., None], label[..., None].to(found.dtype)), 2)
        return detections * real, boxes, scores


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns the trained network of a run as it is exported."""
    classes = saved.summary["training"]["classes"]
    network = build_for(saved, len(classes))
    side = saved.config.image_size
    # Of the finished run; while it is evaluated, there is none yet.
    confidence = saved.summary.get("test", {}).get("metrics", {}).get("best_confidence", CONFIDENCE)
    example: dict[str, np.ndarray] = {
        "images": np.random.default_rng(0).integers(0, 256, (2, max(side, 96), max(side - 64, 64), 3), dtype=np.uint8),
        "confidence": np.full(2, 0.25, np.float32),
        "iou": np.full(2, 0.7, np.float32),
    }
    return ExportGraph(
        Detector(network).eval(),
        example,
        OUTPUTS,
        {
            "labels": json.dumps(classes),
            "image_size": str(side),
            "network": saved.config.model,
            "confidence": str(confidence),
        },
        dynamic={"images": {1: "height", 2: "width"}},
        translations=TRANSLATIONS,
    )


def build_for(saved: SavedRun[Config], num_classes: int) -> nn.Module:
    """Builds the network of a run with its trained weights."""
    network = build(dataclasses.replace(saved.config, weights=None), num_classes)
    network.load_state_dict(saved.weights())
    return network


def calibration(data: LocatedDataSet) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches of training pictures to quantize with."""
    for sample in data.load().train[:64]:
        image, _ = letterbox(sample.image, 320)
        yield {
            "images": image[None],
            "confidence": np.full(1, 0.25, np.float32),
            "iou": np.full(1, 0.7, np.float32),
        }
