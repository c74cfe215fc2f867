"""OKS and its average precision against pycocotools, PCK against counting."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.vision.keypoint_similarity import (
    COCO_SIGMAS,
    keypoint_average_precision,
    object_keypoint_similarity,
    percentage_of_correct_keypoints,
    pose_overlaps,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

IMAGES = 12


def triples(points: torch.Tensor, third: torch.Tensor) -> list[float]:
    return torch.cat((points, third.double()[:, None]), dim=1).flatten().tolist()


@pytest.fixture(scope="module")
def scenes() -> list[dict[str, torch.Tensor]]:
    """Images of 1 to 4 people; predictions near them, doubled, and beside them, more than 20 in the last image."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    found = []
    for image in range(IMAGES):
        people = 1 + image % 4
        truth = 200 + 150 * normal(people, 1, 2) + 30 * normal(people, 17, 2)
        visible = torch.rand(people, 17, generator=generator) < 0.7
        visible[:, 0] = True
        near = truth + torch.tensor([4.0, 12.0, 30.0, 2.0])[:people, None, None] * normal(people, 17, 2)
        copies = 25 if image == IMAGES - 1 else 2
        doubled = near.repeat(copies, 1, 1) + 3 * normal(copies * people, 17, 2)
        predicted = torch.cat((near, doubled, 200 + 100 * normal(2, 17, 2)))
        scores = torch.rand(len(predicted), generator=generator, dtype=torch.float64)
        scores[:people] += 0.6  # the better ones are mostly the surer ones
        area = 3000 + 2000 * torch.rand(people, generator=generator, dtype=torch.float64)
        found.append({"predicted": predicted, "scores": scores, "truth": truth, "visible": visible, "area": area})
    return found


@pytest.fixture(scope="module")
def reference(scenes: list[dict[str, torch.Tensor]]) -> Any:
    """pycocotools' evaluation of the scenes."""
    annotations = [
        {
            "id": 100 * image + person + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
            "area": scene["area"][person].item(), "bbox": [0, 0, 1, 1], "num_keypoints": 17,
            "keypoints": triples(scene["truth"][person], 2 * scene["visible"][person]),
        }
        for image, scene in enumerate(scenes)
        for person in range(len(scene["truth"]))
    ]  # fmt: skip
    results = [
        {"image_id": image, "category_id": 1, "keypoints": triples(pose, torch.ones(17)), "score": score.item()}
        for image, scene in enumerate(scenes)
        for pose, score in zip(scene["predicted"], scene["scores"], strict=True)
    ]
    coco: Any = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = {
            "images": [{"id": image} for image in range(IMAGES)],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
            "info": {},
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_sigmas_are_cocos() -> None:
    assert Params("keypoints").kpt_oks_sigmas.tolist() == pytest.approx(list(COCO_SIGMAS))


def test_oks_is_pycocotools(scenes: list[dict[str, torch.Tensor]], reference: Any) -> None:
    compared = 0
    for image, scene in enumerate(scenes):
        order = torch.argsort(scene["scores"], descending=True, stable=True)[:20]
        ours = object_keypoint_similarity(
            scene["predicted"][order][:, None], scene["truth"], scene["visible"], scene["area"]
        )
        np.testing.assert_allclose(ours.numpy(), reference.ious[image, 1], rtol=1e-10, atol=1e-14)
        compared += ours.numel()
    assert compared > 200


def test_average_precision_is_pycocotools(scenes: list[dict[str, torch.Tensor]], reference: Any) -> None:
    overlaps = [pose_overlaps(**scene) for scene in scenes]
    found = [keypoint_average_precision(overlaps, thresholds) for thresholds in ((0.5,), (0.75,))]
    assert keypoint_average_precision(overlaps) == pytest.approx(reference.stats[0], abs=1e-12)
    assert found == pytest.approx(list(reference.stats[1:3]), abs=1e-12)
    assert 0.05 < reference.stats[0] < found[0] < 0.95


def test_a_person_without_labelled_keypoints_and_an_area_of_zero_divide_nothing_by_zero() -> None:
    points, area = torch.zeros(1, 17, 2), torch.zeros(1)
    assert object_keypoint_similarity(points, points, torch.zeros(1, 17, dtype=torch.bool), area).item() == 0
    assert object_keypoint_similarity(points, points, torch.ones(1, 17, dtype=torch.bool), area).item() == 1
    assert np.isnan(keypoint_average_precision([]))


def test_pck_counts_visible_keypoints_within_each_persons_own_length() -> None:
    truth = torch.zeros(2, 3, 2)
    predicted = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [6.0, 0.0]], [[3.0, 4.0], [0.0, 5.1], [0.0, 0.0]]])
    visible = torch.tensor([[True, True, True], [True, True, False]])
    found = percentage_of_correct_keypoints(predicted, truth, visible, torch.tensor([10.0, 10.0]), 0.5)
    assert found.item() == pytest.approx(3 / 5)
    longer = percentage_of_correct_keypoints(predicted, truth, visible, torch.tensor([12.0, 10.0]), 0.5)
    assert longer.item() == pytest.approx(4 / 5)
    assert percentage_of_correct_keypoints(predicted, truth, visible & False, torch.ones(2)).isnan()
