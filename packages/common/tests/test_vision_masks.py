"""U-Net, Otsu's threshold, the mask head and mask metrics, against torchvision, scikit-learn and pycocotools."""

import numpy as np
import pytest
import torch
from dlcommon.vision.average_precision import mean_average_precision
from dlcommon.vision.blood_scenes import draw_blood_scenes
from dlcommon.vision.mask_head import MaskHead, mask_loss, mask_targets, paste_masks
from dlcommon.vision.mask_metrics import mask_iou, mask_overlaps, panoptic_quality
from dlcommon.vision.otsu import dark_objects, otsu_threshold
from dlcommon.vision.unet import UNet, border_weights, predict_tiles, separate_instances
from pycocotools import mask as coco_mask
from scipy import ndimage
from torch.nn import functional as F
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss, paste_masks_in_image, project_masks_on_boxes
from torchvision.ops import masks_to_boxes


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def some_boxes(count: int, size: int, seed: int = 0) -> torch.Tensor:
    corners = size * (1.4 * random(count, 2, 2, seed=seed) - 0.2)  # some reach beyond the picture
    return torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1)


@pytest.mark.parametrize("skips", [True, False])
def test_a_unet_keeps_the_size_and_skips_carry_detail(skips: bool) -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, (4, 6, 8), skips=skips).eval()
    assert network(torch.zeros(2, 3, 16, 24)).shape == (2, 2, 16, 24)
    with pytest.raises(ValueError, match="multiples of 4"):
        network(torch.zeros(1, 3, 18, 16))
    with torch.no_grad():  # with the way up blocked, only a skip can bring anything
        for parameter in network.up[-1].parameters():
            parameter.zero_()
    x = random(1, 3, 16, 16)
    assert torch.equal(network(x), network(x.flip(3))) is not skips


def test_nothing_beyond_the_margin_influences_a_pixel() -> None:
    torch.manual_seed(0)
    network, x = UNet(1, 1, (8, 8, 8)).double().eval(), random(1, 1, 96, 96).double().requires_grad_()
    assert network.margin == 28
    for row, column in ((48, 48), (47, 47), (45, 46)):
        (gradient,) = torch.autograd.grad(network(x)[0, 0, row, column], x)
        rows, columns = gradient[0, 0].nonzero().T
        assert len(rows) > 100
        assert max((rows - row).abs().max(), (columns - column).abs().max()) <= network.margin


def test_tiles_with_the_full_margin_are_the_whole() -> None:
    torch.manual_seed(0)
    network, image = UNet(3, 2, (4, 6, 8)).double().eval(), random(3, 50, 41).double()
    with torch.no_grad():
        at_once = predict_tiles(network, image, 64, network.margin)
        tiles, without = predict_tiles(network, image, 16, network.margin), predict_tiles(network, image, 16, 0)
    assert tiles.shape == (2, 50, 41)
    torch.testing.assert_close(tiles, at_once, rtol=1e-9, atol=1e-12)
    assert (without - at_once).abs().max() > 1e-3


def test_border_weights_follow_the_papers_equation() -> None:
    instances = torch.zeros(2, 7, 12, dtype=torch.long)
    instances[0, :, :4], instances[0, :, 6:] = 1, 2  # a gap of two columns: d₁ + d₂ = 1 + 2
    instances[1, 2, 2] = 5
    found = border_weights(instances, w0=10.0, sigma=5.0)
    torch.testing.assert_close(found[0, :, 4:6], torch.full((7, 2), 10 * float(np.exp(-9 / 50))))
    assert found[0, :, :4].count_nonzero() == 0
    assert found[1].count_nonzero() == 0, "one cell has no gap"


def test_separated_cells_are_as_many_connected_parts() -> None:
    instances = torch.tensor([[[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2], [0, 0, 0, 2, 2, 2]]])
    expected = [[1, 1, 1, 0, 1, 1], [1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 1, 1]]
    assert separate_instances(instances)[0].tolist() == expected
    scenes = draw_blood_scenes(4, 64, clustered=0.95)
    parts = [ndimage.label(mask.numpy(), np.ones((3, 3)))[1] for mask in separate_instances(scenes.instances)]
    assert sum(parts) >= sum(len(scenes.masks(picture)) for picture in range(4))


def test_otsus_threshold_leaves_the_least_variance_within() -> None:
    values = np.random.default_rng(0).normal((80, 170), (20, 12), (500, 2)).clip(0, 255).astype(np.uint8)
    within = {
        t: (values <= t).mean() * values[values <= t].var() + (values > t).mean() * values[values > t].var()
        for t in range(int(values.min()), int(values.max()))
    }
    assert within[otsu_threshold(values)] == pytest.approx(min(within.values()))
    assert otsu_threshold(np.full((3, 3), 7, np.uint8)) in range(256), "a constant picture has no two classes"


def test_the_rule_fills_the_pale_middle() -> None:
    picture = np.full((20, 20, 3), 220, np.uint8)
    picture[4:14, 4:14], picture[8:10, 8:10] = 120, 210
    assert dark_objects(picture).sum() == 100


def test_the_mask_head_is_torchvisions() -> None:
    heads, predictor = MaskRCNNHeads(6, (8, 8), 1), MaskRCNNPredictor(8, 8, 3)
    ours, x = MaskHead(6, 3, width=8, depth=2), random(4, 6, 7, 7).requires_grad_()
    ours.convs.load_state_dict(heads.state_dict())
    ours.predictor.load_state_dict(predictor.state_dict())
    found, expected = ours(x), predictor(heads(x))
    assert found.shape == (4, 3, 14, 14)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.square().sum(), x)[0] for each in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_targets_and_loss_are_torchvisions() -> None:
    masks = [random(3, 32, 32, seed=picture) > 0.5 for picture in range(2)]
    boxes, labels = [some_boxes(3, 32, seed) for seed in (2, 3)], [torch.tensor([1, 0, 2]), torch.tensor([2, 2, 1])]
    order = torch.arange(3)
    expected = torch.cat([project_masks_on_boxes(mask, box, order, 14) for mask, box in zip(masks, boxes, strict=True)])
    found = mask_targets(masks, boxes, 14)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    logits = random(6, 3, 14, 14, seed=4).requires_grad_()
    losses = (
        mask_loss(logits, torch.cat(labels), found),
        maskrcnn_loss(logits, boxes, masks, labels, [order, order]),
    )
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)
    assert mask_loss(logits[:0], torch.zeros(0, dtype=torch.long), found[:0]).item() == 0
    assert mask_targets([masks[0][:0]], [boxes[0][:0]], 14).shape == (0, 14, 14)


def test_pasting_is_torchvisions() -> None:
    boxes = some_boxes(20, 40, seed=5)
    boxes = boxes[(boxes[:, :2] < 32).all(dim=1) & (boxes[:, 2:] > 4).all(dim=1)]  # torchvision's needs some overlap
    masks = random(len(boxes), 14, 14)
    assert len(boxes) > 8
    found = paste_masks(masks, boxes, 40, 36)
    torch.testing.assert_close(found, paste_masks_in_image(masks[:, None], boxes, (40, 36))[:, 0])
    assert paste_masks(masks[:0], boxes[:0], 40, 36).shape == (0, 40, 36)
    outside = torch.tensor([[100.0, 100, 120, 120], [-30, -30, -10, -10]])
    assert paste_masks(masks[:2], outside, 40, 36).count_nonzero() == 0


def test_a_mask_that_is_cut_out_and_pasted_comes_back() -> None:
    scenes = draw_blood_scenes(1, 64, seed=2)
    masks = scenes.masks(0)[scenes.labels(0) < 3]
    boxes = masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1])
    pasted = paste_masks(mask_targets([masks], [boxes], 28), boxes, 64, 64) > 0.5
    assert mask_iou(pasted, masks).diagonal().min() > 0.8


def test_mask_iou_is_that_of_pycocotools() -> None:
    masks1, masks2 = random(5, 20, 30) > 0.6, random(4, 20, 30, seed=1) > 0.3
    encoded = [
        coco_mask.encode(np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8)))
        for masks in (masks1, masks2)
    ]
    expected = coco_mask.iou(*encoded, [0] * 4)
    assert mask_iou(masks1, masks2).numpy() == pytest.approx(expected, abs=1e-6)
    assert mask_iou(masks1[:1] & False, masks2[:1] & False).item() == 0


def test_mask_ap_counts_by_masks_not_boxes() -> None:
    truth = torch.zeros(1, 20, 20, dtype=torch.bool)
    truth[0, :10, :10] = True
    ring = truth.clone()
    ring[0, 2:8, 2:8] = False  # the same box, an IoU of 0.64
    one = torch.tensor([1])
    for mask, expected in ((truth, 1.0), (ring, 0.3)):  # right at 0.50, 0.55 and 0.60
        overlaps = mask_overlaps(mask, torch.tensor([0.9]), one, truth, one)
        assert np.nanmean(mean_average_precision([overlaps], 2)) == pytest.approx(expected)


def test_panoptic_quality_by_hand() -> None:
    found = panoptic_quality([torch.tensor([[0.8, 0.1], [0.0, 0.5], [0.0, 0.0]]), torch.tensor([[0.6]])])
    assert found.segmentation_quality == pytest.approx(0.7)
    assert found.recognition_quality == pytest.approx(2 * 2 / (4 + 3))
    assert found.quality == pytest.approx(0.7 * 4 / 7)
    assert panoptic_quality([]).quality == 0
    assert panoptic_quality([torch.zeros(0, 3)]).quality == 0


def test_the_loss_of_other_classes_masks_is_left_alone() -> None:
    logits, labels = random(2, 3, 4, 4).requires_grad_(), torch.tensor([2, 0])
    (gradient,) = torch.autograd.grad(mask_loss(logits, labels, torch.ones(2, 4, 4)), logits)
    touched = gradient.flatten(2).abs().sum(dim=2) > 0
    assert torch.equal(touched, F.one_hot(labels, 3).bool())
