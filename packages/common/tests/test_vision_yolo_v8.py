"""YOLOv8 against ultralytics' own: parameters by name, outputs, assignment, and the loss in value and gradient.

The reference is configured to write nothing outside the test's folder and to reach for no network.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dlcommon.testing.ultralytics_import import ultralytics_settings
from dlcommon.vision.anchor_points import boxes_to_distances, distances_to_boxes, make_anchor_points
from dlcommon.vision.boxes import cxcywh_to_xyxy
from dlcommon.vision.distribution_focal_loss import distribution_focal_loss, expected_distance
from dlcommon.vision.task_aligned_assignment import (
    Targets,
    pad_targets,
    points_inside,
    target_scores,
    task_aligned_assignment,
)
from dlcommon.vision.yolo_loss import YoloLoss
from dlcommon.vision.yolo_v8 import SCALES, STRIDES, Predictions, Scale, YoloV8, decode

GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Imports what is compared with."""
    with ultralytics_settings(tmp_path_factory.mktemp("ultralytics")):
        from ultralytics.nn.tasks import DetectionModel
        from ultralytics.utils.loss import DFLoss, v8DetectionLoss
        from ultralytics.utils.tal import TaskAlignedAssigner

        yield SimpleNamespace(
            DetectionModel=DetectionModel, loss=v8DetectionLoss, Assigner=TaskAlignedAssigner, DFLoss=DFLoss
        )


@pytest.fixture(scope="module")
def twins(reference: Any) -> tuple[YoloV8, Any]:
    """Our YOLOv8n with 5 classes and ultralytics', with the same weights, in training mode."""
    torch.manual_seed(0)
    theirs = reference.DetectionModel("yolov8n.yaml", nc=5, verbose=False)
    theirs.args = GAINS
    for module in theirs.modules():  # running statistics and biases that matter
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
            torch.nn.init.normal_(module.weight, 1, 0.1)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    ours = YoloV8(5)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def scene(seed: int = 0) -> tuple[torch.Tensor, dict[str, torch.Tensor], Targets]:
    """Draws 3 images of 96×128 with 4, 0 and 7 objects: for ultralytics in fractions, for us in pixels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 96, 128, generator=generator)
    index = torch.tensor([0] * 4 + [2] * 7)
    labels = torch.randint(5, (11,), generator=generator)
    sides = 0.04 + 0.5 * torch.rand(11, 2, generator=generator)  # some narrower than a cell
    centers = sides / 2 + (1 - sides) * torch.rand(11, 2, generator=generator)
    fractions = torch.cat((centers, sides), dim=1)
    batch = {"batch_idx": index.float(), "cls": labels.float()[:, None], "bboxes": fractions}
    pixels = cxcywh_to_xyxy(fractions * torch.tensor([128.0, 96.0, 128.0, 96.0]))
    return images, batch, pad_targets(index, labels, pixels, 3)


@pytest.mark.parametrize(("name", "parameters"), [("n", 3_157_200), ("s", 11_166_560), ("m", 25_902_640)])
def test_the_published_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = YoloV8(80, SCALES[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == parameters - 16


def test_the_state_dict_of_a_deeper_and_wider_scale_has_the_same_names_and_shapes(reference: Any) -> None:
    with torch.device("meta"):
        ours = YoloV8(7, SCALES["m"]).state_dict()
    theirs = reference.DetectionModel("yolov8m.yaml", nc=7, verbose=False).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


def test_initial_biases_and_normalization_are_those_of_the_reference(twins: tuple[YoloV8, Any]) -> None:
    fresh, theirs = YoloV8(5), twins[1]
    for name, value in theirs.state_dict().items():
        if name.startswith("model.22") and (name.endswith("2.bias") or "dfl" in name):
            torch.testing.assert_close(fresh.state_dict()[name], value)
    norms = [
        {(m.eps, m.momentum) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
        for model in (fresh, theirs)
    ]
    assert norms[0] == norms[1] == {(1e-3, 0.03)}


@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_equal_with_the_same_weights(twins: tuple[YoloV8, Any], training: bool) -> None:
    ours, theirs = (model.train(training) for model in twins)
    images = scene()[0]
    with torch.no_grad():
        found = ours(images)
        raw = theirs(images)
        if not training:
            decoded, raw = raw
            boxes, scores = decoded.mT.split((4, 5), dim=2)  # centers and sides in pixels, probabilities
            torch.testing.assert_close(found.boxes, cxcywh_to_xyxy(boxes), rtol=1e-5, atol=1e-3)
            torch.testing.assert_close(found.logits.sigmoid(), scores, rtol=1e-4, atol=1e-7)
    anchors = 12 * 16 + 6 * 8 + 3 * 4
    assert found.distributions.shape == (3, anchors, 4, 16)
    torch.testing.assert_close(found.distributions.flatten(2).mT, raw["boxes"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.logits.mT, raw["scores"], rtol=1e-4, atol=1e-4)


def test_the_loss_is_equal_in_value_and_in_the_gradient_of_every_weight(
    reference: Any, twins: tuple[YoloV8, Any]
) -> None:
    ours, theirs = (model.train() for model in twins)
    images, batch, targets = scene(1)
    criterion = reference.loss(theirs)
    gradients = []
    for model in (ours, theirs):
        model.zero_grad()
        if model is ours:
            terms = YoloLoss()(ours(images), targets)
            loss = 3 * terms.total
        else:
            expected, _ = criterion(theirs(images), batch)
            torch.testing.assert_close(3 * torch.stack(terms), expected, rtol=1e-4, atol=1e-5)
            loss = expected.sum()
        loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert min(terms) > 0
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == len(list(ours.parameters())) - 1, "all but the constant bins"
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=2e-3, atol=2e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_of_random_predictions_is_equal_in_double_precision(reference: Any, seed: int) -> None:
    """Compares each term by itself, with other gains."""
    generator = torch.Generator().manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    try:
        _, batch, _ = scene(seed)
        batch = {name: value.double() for name, value in batch.items()}
        index = batch["batch_idx"].long()
        pixels = cxcywh_to_xyxy(batch["bboxes"] * torch.tensor([128.0, 96.0, 128.0, 96.0]))
        targets = pad_targets(index, batch["cls"][:, 0].long(), pixels, 3)
        maps = [torch.zeros(3, 1, 96 // stride, 128 // stride) for stride in STRIDES]
        raw = {
            "boxes": 2 * torch.randn(3, 64, 252, generator=generator),
            "scores": torch.randn(3, 5, 252, generator=generator),
        }
        head = SimpleNamespace(stride=torch.tensor(STRIDES, dtype=torch.float64), nc=5, reg_max=16)
        model = SimpleNamespace(
            parameters=lambda: iter([torch.zeros(1)]), args=SimpleNamespace(box=3.0, cls=0.7, dfl=2.0), model=[head]
        )
        leaves = (raw["boxes"].requires_grad_(), raw["scores"].requires_grad_())
        expected, _ = reference.loss(model)({**raw, "feats": maps}, batch)
        predictions = decode(*leaves, [(x.size(2), x.size(3)) for x in maps], STRIDES, torch.arange(16.0))
        terms = YoloLoss(box_gain=3.0, class_gain=0.7, distance_gain=2.0)(predictions, targets)
        torch.testing.assert_close(3 * torch.stack(terms), expected, rtol=1e-6, atol=1e-8)
        for term, theirs in zip(terms, expected, strict=True):
            for leaf in leaves:
                mine, wanted = (
                    torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
                    for loss in (3 * term, theirs)
                )
                torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-8)
    finally:
        torch.set_default_dtype(torch.float32)


def near_predictions(targets: Targets, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns points, strides, boxes that resemble an object of their image, and scores."""
    generator = torch.Generator().manual_seed(seed)
    points, strides = make_anchor_points([(12, 16), (6, 8), (3, 4)], STRIDES, torch.zeros(1))
    rows = torch.randint(targets.boxes.size(1), (3, len(points)), generator=generator)
    boxes = targets.boxes.gather(1, rows[..., None].expand(-1, -1, 4)) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    noise = 4 * torch.randn(boxes.shape, generator=generator)
    boxes = (boxes + noise).unflatten(2, (2, 2)).sort(dim=2).values.flatten(2)
    return points, strides, boxes + torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.rand(3, 252, 5, generator=generator)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("top_k", "alpha", "beta"), [(10, 0.5, 6.0), (3, 1.0, 2.0)])
def test_the_assignment_is_that_of_the_reference(
    reference: Any, seed: int, top_k: int, alpha: float, beta: float
) -> None:
    targets = scene(seed)[2]
    points, _, boxes, scores = near_predictions(targets, seed)
    assigner = reference.Assigner(topk=top_k, num_classes=5, alpha=alpha, beta=beta, stride=list(STRIDES))
    _, their_boxes, their_scores, positive, rows = assigner(
        scores, boxes, points, targets.labels[..., None], targets.boxes, targets.valid[..., None].float()
    )
    found = task_aligned_assignment(scores, boxes, points, targets, top_k=top_k, alpha=alpha, beta=beta)
    assert found.positive.sum() > 15
    assert torch.equal(found.positive, positive)
    assert torch.equal(found.objects[positive], rows[positive])
    torch.testing.assert_close(found.boxes[positive], their_boxes[positive])
    torch.testing.assert_close(target_scores(found, 5), their_scores, rtol=1e-4, atol=1e-6)


def test_a_contested_anchor_goes_to_the_object_that_it_overlaps_most() -> None:
    points, strides = make_anchor_points([(4, 4)], [8], torch.zeros(1))
    targets = pad_targets(
        torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([[0.0, 0, 20, 20], [2, 2, 30, 30]]), 1
    )
    boxes = targets.boxes[:, 1:].expand(1, 16, 4).contiguous()  # every anchor predicts the second object
    found = task_aligned_assignment(torch.full((1, 16, 2), 0.5), boxes, points, targets, top_k=16)
    assert strides.unique().tolist() == [8]
    inside = points_inside(points, targets.boxes)[0]
    assert (inside[0] & inside[1]).any()
    assert (found.objects[0][inside[1]] == 1).all()
    torch.testing.assert_close(found.strengths[0][inside[1]], torch.ones(int(inside[1].sum())))


def test_a_batch_without_objects_trains_the_scores_only() -> None:
    model = YoloV8(2, Scale(0.33, 0.125, 1024))
    nothing = pad_targets(torch.empty(0, dtype=torch.long), torch.empty(0), torch.empty(0, 4), 2)
    terms = YoloLoss()(model(torch.rand(2, 3, 32, 64)), nothing)
    assert terms.box == terms.distances == 0
    assert terms.classes > 0
    terms.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_targets_are_padded_in_order_whatever_the_order_of_images() -> None:
    boxes = torch.arange(16.0).view(4, 4)
    padded = pad_targets(torch.tensor([2, 0, 2, 2]), torch.tensor([5, 6, 7, 8]), boxes, 4)
    assert padded.labels.tolist() == [[6, 0, 0], [0, 0, 0], [5, 7, 8], [0, 0, 0]]
    assert padded.valid.sum(dim=1).tolist() == [1, 0, 3, 0]
    assert torch.equal(padded.boxes[2], boxes[[0, 2, 3]])


def test_the_distribution_loss_is_that_of_the_reference(reference: Any) -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 4, 16, dtype=torch.float64, requires_grad=True)
    target = 18 * torch.rand(50, 4, dtype=torch.float64) - 1  # some out of range
    ours = distribution_focal_loss(logits, target).mean(dim=1, keepdim=True)
    theirs = reference.DFLoss(16)(logits.view(-1, 16), target.clone())
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    gradients = [torch.autograd.grad((loss * weight).sum(), logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_distances_and_boxes_are_inverse() -> None:
    torch.manual_seed(0)
    points, distances = torch.randn(6, 2), torch.rand(3, 6, 4)
    torch.testing.assert_close(boxes_to_distances(points, distances_to_boxes(points, distances)), distances)
    one = torch.full((16,), -30.0)
    one[5] = 30.0
    torch.testing.assert_close(expected_distance(one, torch.arange(16.0)), torch.tensor(5.0))


def test_half_precision_is_decoded_in_float32() -> None:
    raw = torch.zeros(1, 64, 8400, dtype=torch.bfloat16), torch.zeros(1, 3, 8400, dtype=torch.bfloat16)
    sizes = [(80, 80), (40, 40), (20, 20)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found: Predictions = decode(*raw, sizes, STRIDES, torch.arange(16, dtype=torch.bfloat16))
    assert {value.dtype for value in found} == {torch.float32}
    torch.testing.assert_close(found.boxes[0, -1], torch.tensor([624.0 - 240, 624 - 240, 624 + 240, 624 + 240]))


def test_sides_that_do_not_fit_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"an image of 100×64 pixels .* pad both sides to multiples of 32"):
        YoloV8(2, Scale(0.33, 0.125, 1024))(torch.zeros(1, 3, 64, 100))
