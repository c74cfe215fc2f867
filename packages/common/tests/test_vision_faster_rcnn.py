"""Faster R-CNN equals torchvision's with the same weights: detections, the four losses and all gradients."""

from functools import partial

import pytest
import torch
from dlcommon.vision.anchors import cell_anchors
from dlcommon.vision.faster_rcnn import FasterRCNN, RoIHeads
from dlcommon.vision.roi import roi_align, roi_pool
from dlcommon.vision.rpn import RegionProposalNetwork
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

CHANNELS, CLASSES, STRIDE, SIZE = 8, 3, 8, (96, 128)
SIZES, RATIOS = (16, 32), (0.5, 1.0, 2.0)


class Backbone(nn.Sequential):
    """Two convolutions, stride 8."""

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, CHANNELS, 8, 8), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))


@pytest.fixture(scope="module")
def models() -> tuple[FasterRCNN, nn.Module]:
    """Ours and torchvision's, in float64, with equal random weights; samples are so large that all take part."""
    torch.manual_seed(0)
    rpn = RegionProposalNetwork(
        CHANNELS, cell_anchors(SIZES, RATIOS), STRIDE, before_nms=200, after_nms=60, sample=10**6
    )
    pool = partial(roi_align, output_size=7, spatial_scale=1 / STRIDE, aligned=False)  # as torchvision's detectors do
    heads = RoIHeads(CHANNELS, CLASSES, STRIDE, pool=pool, hidden=32, sample=10**6, positive_fraction=0.5)
    ours = FasterRCNN(Backbone(), rpn, heads).double()
    theirs = detection.FasterRCNN(
        Backbone(),
        num_classes=None,
        min_size=SIZE[0],
        max_size=SIZE[1],
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator((SIZES,), (RATIOS,)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=detection.faster_rcnn.TwoMLPHead(CHANNELS * 49, 32),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(32, CLASSES + 1),
        box_batch_size_per_image=10**6,
        box_positive_fraction=0.5,
        rpn_batch_size_per_image=10**6,
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=60,
        rpn_post_nms_top_n_test=60,
    ).double()
    for name, parameter in ours.named_parameters():
        if "bbox_pred" in name or "cls" in name:
            nn.init.normal_(parameter, std=0.3)  # so that boxes move and classes differ
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def targets() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    made = []
    for count in (4, 2):
        corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 60
        side = 15 + 20 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
        made.append((torch.cat((corner, corner + side), 1), torch.randint(CLASSES, (count,), generator=generator)))
    return made


def test_detections(models: tuple[FasterRCNN, nn.Module], images: torch.Tensor) -> None:
    ours, theirs = models
    theirs.eval()
    for found, expected in zip(ours(images), theirs(list(images)), strict=True):
        assert len(found.boxes) >= 20
        assert (found.labels + 1).tolist() == expected["labels"].tolist()
        torch.testing.assert_close(found.boxes, expected["boxes"].detach())
        torch.testing.assert_close(found.scores, expected["scores"].detach())


def test_losses_and_their_gradients(
    models: tuple[FasterRCNN, nn.Module], images: torch.Tensor, targets: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    ours, theirs = models
    theirs.train()
    found = ours.losses(images, targets)
    expected = theirs(list(images), [{"boxes": boxes, "labels": labels + 1} for boxes, labels in targets])
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        torch.testing.assert_close(
            loss, expected[name], rtol=1e-5, atol=1e-7, check_dtype=False
        )  # theirs is partly float32
    gradients = [
        torch.autograd.grad(torch.stack(list(losses.values())).sum(), list(model.parameters()))
        for losses, model in ((found, ours), (expected, theirs))
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-6)


def test_an_image_without_objects_teaches_background(
    models: tuple[FasterRCNN, nn.Module], images: torch.Tensor
) -> None:
    none = (torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0, dtype=torch.long))
    losses = models[0].losses(images[:1], [none])
    assert losses["loss_objectness"] > 0
    assert losses["loss_classifier"] > 0
    assert losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0


def test_roi_pool_can_take_the_place_of_align(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    pool = partial(roi_pool, output_size=2, spatial_scale=1 / STRIDE)
    heads = RoIHeads(CHANNELS, CLASSES, STRIDE, pool=pool, pooled_size=2, hidden=16, min_score=0.0)
    rpn = RegionProposalNetwork(CHANNELS, cell_anchors(SIZES, RATIOS), STRIDE, after_nms=10)
    found = FasterRCNN(Backbone(), rpn, heads)(images.float())
    assert len(found) == 2
    assert all(len(each.boxes) for each in found)
