"""Semantic segmentation: metrics against scikit-learn, losses against transformers, upsampling against torch."""

import numpy as np
import pytest
import torch
from dlcommon.cnn.receptive_field import receptive_fields
from dlcommon.vision.blood_scenes import BACKGROUND, PLATELET, RED, WHITE, draw_blood_scenes
from dlcommon.vision.fully_convolutional import (
    FCN,
    DilatedNetwork,
    bilinear_kernel,
    bilinear_upsampling,
    coarse_to_fine_agreement,
)
from dlcommon.vision.segmentation_losses import balanced_class_weights, binary_dice_loss, dice_loss
from dlcommon.vision.segmentation_metrics import confusion_matrix, dice_per_class, iou_per_class, pixel_accuracy
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F
from transformers.loss.loss_for_object_detection import dice_loss as transformers_dice_loss


def labels(*shape: int, classes: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_metrics_equal_scikit_learns() -> None:
    target, predicted = labels(3, 8, 9), labels(3, 8, 9, seed=1)
    predicted = torch.where(labels(3, 8, 9, classes=3, seed=2) > 0, target, predicted)  # two in three are right
    found, flat = confusion_matrix(predicted, target, 4), (target.flatten().numpy(), predicted.flatten().numpy())
    assert found.tolist() == metrics.confusion_matrix(*flat).tolist()
    assert iou_per_class(found).tolist() == pytest.approx(metrics.jaccard_score(*flat, average=None), abs=1e-6)
    assert dice_per_class(found).tolist() == pytest.approx(metrics.f1_score(*flat, average=None), abs=1e-6)
    assert pixel_accuracy(found).item() == pytest.approx(metrics.accuracy_score(*flat))
    iou = iou_per_class(found)
    torch.testing.assert_close(dice_per_class(found), 2 * iou / (1 + iou))


def test_ignored_pixels_are_not_counted_and_absent_classes_have_no_score() -> None:
    target, predicted = torch.tensor([[0, 1, 255, 1]]), torch.tensor([[0, 1, 2, 0]])
    found = confusion_matrix(predicted, target, 3)
    assert found.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert iou_per_class(found)[:2].tolist() == [0.5, 0.5]
    assert iou_per_class(found)[2].isnan()
    assert iou_per_class(found).nanmean().item() == 0.5


def test_labels_out_of_range_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="target has labels 0 to 4; there are 4"):
        confusion_matrix(torch.tensor([0, 0]), torch.tensor([0, 4]), 4)
    with pytest.raises(ValueError, match="predicted has labels -1 to 0"):
        confusion_matrix(torch.tensor([-1, 0]), torch.tensor([0, 0]), 4)
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(torch.zeros(2), torch.zeros(3), 4)


def test_the_binary_dice_loss_equals_transformers_in_value_and_gradient() -> None:
    x, target = logits(3, 6, 5), labels(3, 6, 5, classes=2).double()
    target[2] = 0  # a picture with nothing to find
    found, expected = binary_dice_loss(x, target), transformers_dice_loss(x, target.flatten(1), num_boxes=3)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match="shape"):
        binary_dice_loss(x, target[:2])


def test_of_two_classes_the_dice_loss_is_the_mean_of_two_binary_ones() -> None:
    """The softmax of (0, x) is the sigmoid of x, and of one picture the sums over the batch are those over it."""
    x, target = logits(1, 6, 5), labels(1, 6, 5, classes=2)
    found = dice_loss(torch.stack((torch.zeros_like(x), x), dim=1), target)
    expected = (
        transformers_dice_loss(x, target.flatten(1), 1) + transformers_dice_loss(-x, 1 - target.flatten(1), 1)
    ) / 2
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-14)


def test_of_hard_predictions_the_dice_loss_is_one_less_the_mean_dice_coefficient() -> None:
    target, predicted = labels(2, 8, 8), labels(2, 8, 8, seed=1)
    hard = 1e4 * F.one_hot(predicted, 4).permute(0, 3, 1, 2).double()
    expected = metrics.f1_score(target.flatten().numpy(), predicted.flatten().numpy(), average="macro")
    assert dice_loss(hard, target, smooth=0).item() == pytest.approx(1 - expected)


def test_balanced_weights_equal_scikit_learns() -> None:
    target = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 0]])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target.flatten().numpy())
    assert balanced_class_weights(target, 3).tolist() == pytest.approx(list(expected))
    with pytest.raises(ValueError, match="no pixel of class 3"):
        balanced_class_weights(target, 4)


@pytest.mark.parametrize("stride", [2, 3, 4, 8])
def test_upsampling_begins_as_bilinear_interpolation(stride: int) -> None:
    x, layer = logits(2, 3, 6, 7).float(), bilinear_upsampling(3, stride)
    found, expected = layer(x), F.interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
    assert found.shape == expected.shape
    inner = slice(stride, -stride)  # torch repeats what is at the border
    torch.testing.assert_close(found[..., inner, inner], expected[..., inner, inner], rtol=1e-5, atol=1e-6)


def test_the_bilinear_kernel_is_the_papers() -> None:
    torch.testing.assert_close(bilinear_kernel(2)[1], torch.tensor([0.25, 0.75, 0.75, 0.25]) * 0.75)
    assert bilinear_kernel(3).shape == (5, 5)


@pytest.mark.parametrize("skips", [0, 1, 2])
def test_an_fcn_scores_every_pixel_of_any_size(skips: int) -> None:
    network = FCN(3, 5, (4, 6, 8), skips)
    for height, width in ((16, 24), (40, 8)):
        assert network(torch.zeros(2, 3, height, width)).shape == (2, 5, height, width)
    assert len(network.scores) == skips + 1
    with pytest.raises(ValueError, match="multiples of 8"):
        network(torch.zeros(2, 3, 12, 16))
    with pytest.raises(ValueError, match="2 finer ones to skip from, not 3"):
        FCN(3, 5, (4, 6, 8), 3)


def test_an_fcn_with_skips_overfits_one_picture() -> None:
    torch.manual_seed(0)
    scenes, network = draw_blood_scenes(1, 32, seed=3), FCN(3, 4, (8, 12, 16))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(network(scenes.images), scenes.classes).backward()
        optimizer.step()
    assert pixel_accuracy(confusion_matrix(network(scenes.images).argmax(1), scenes.classes, 4)) > 0.97


def test_dilation_widens_the_receptive_field_at_no_cost_in_weights() -> None:
    plain, dilated = DilatedNetwork(3, 4, 8, (1, 1, 1, 1)), DilatedNetwork(3, 4, 8, (1, 2, 4, 8))
    fields = [receptive_fields(network, (3, 64, 64))[""] for network in (plain, dilated)]
    assert [(field.rows.size, field.rows.jump) for field in fields] == [(9, 1), (31, 1)]
    assert len({sum(p.numel() for p in network.parameters()) for network in (plain, dilated)}) == 1


def test_a_finer_stride_loses_less() -> None:
    target = draw_blood_scenes(4, 64).classes
    scores = [
        iou_per_class(confusion_matrix(coarse_to_fine_agreement(target, stride, 4), target, 4)) for stride in (1, 2, 8)
    ]
    assert scores[0].tolist() == [1, 1, 1, 1]
    assert (scores[1] >= scores[2]).all()


def test_scenes_are_the_same_for_the_same_seed_and_their_labels_agree() -> None:
    first, again, other = (draw_blood_scenes(6, 48, seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (6, 3, 48, 48)
    assert first.images.min() >= 0
    assert first.images.max() <= 1
    assert torch.equal(first.classes == BACKGROUND, first.instances == 0)
    assert set(first.classes.unique().tolist()) == {BACKGROUND, RED, WHITE, PLATELET}
    for picture in range(6):
        masks = first.masks(picture)
        assert torch.equal(masks.sum(dim=0), (first.classes[picture] > 0).long()), "each pixel is of one cell"
        for mask, label in zip(masks, first.labels(picture), strict=True):
            assert first.classes[picture][mask].unique().tolist() == [label]
