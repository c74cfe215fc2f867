"""Training pictures: boxes lie where their objects are drawn, whatever is done to them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dlcommon.runtime.data.detection import AnnotatedImage
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from yolo_detector.augmentation import Augmentation, Draws, draw
from yolo_detector.config import Config
from yolo_detector.letterbox import GRAY
from yolo_detector.pictures import Pictures, pack

SIDE = 160
PLAIN = Config(batch_size=8, image_size=SIDE, hue=0, saturation=0, brightness=0)


def pictures(count: int = 8) -> Pictures:
    """Makes black pictures of different sizes, with a white rectangle in each of two boxes apart."""
    random = np.random.default_rng(0)
    samples = []
    for number in range(count):
        height, width = random.integers(90, 260, 2)
        image, boxes = np.zeros((height, width, 3), np.uint8), []
        for place in range(2):
            w, h = random.integers(14, 40, 2)
            x, y = random.integers(0, width - w), place * height // 2 + random.integers(0, max(height // 2 - h, 1))
            image[y : y + h, x : x + w] = 255
            boxes.append([x, y, x + w, min(y + h, height)])
        samples.append(AnnotatedImage(str(number), image, np.array(boxes, np.float32), np.array([0, 1])))
    return pack(samples, 200)


def batch(config: Config, mosaic: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Draws]:
    packed = pictures()
    draws = draw(config, len(packed), mosaic, torch.Generator().manual_seed(seed))
    images, targets = Augmentation(config, packed)(torch.arange(8), draws)
    return images, targets.boxes, targets.valid, draws


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_boxes_lie_on_their_objects(mosaic: float, turned: float) -> None:
    images, boxes, valid, _ = batch(replace(PLAIN, rotate=turned), mosaic)
    assert images.shape == (8, 3, SIDE, SIDE)
    assert valid.sum() > 10
    white = images.amin(1) > 0.75  # neither black nor the gray of the padding
    covered = torch.zeros_like(white)
    for row in range(8):
        for box, real in zip(boxes[row].round().int().tolist(), valid[row], strict=True):
            if real:
                left, top, right, bottom = box
                assert images[row, 0, top + 1 : bottom - 1, left + 1 : right - 1].min() > 0.7, (row, box)
                covered[row, max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = True
    assert (white & ~covered).sum() < 0.02 * white.sum()  # only what is left of objects that are mostly cut off


def test_a_whole_picture_is_letterboxed_where_nothing_is_drawn() -> None:
    still = replace(PLAIN, scale=0.0, translate=0.0, flip=0.0, flip_vertical=0.0)
    images, _, valid, _ = batch(still, 0.0)
    assert valid.sum(1).tolist() == [2] * 8
    sizes = pictures().sizes
    for row, (width, height) in enumerate(sizes.tolist()):
        gray = (images[row] * 255).round() == GRAY
        share = 1 - min(width, height) / max(width, height)
        assert float(gray.all(0).float().mean()) == pytest.approx(share, abs=0.02)


def test_mirrors_move_pictures_and_boxes_alike() -> None:
    plain = replace(PLAIN, flip=0.0, flip_vertical=0.0)
    images, boxes, valid, _ = batch(plain, 1.0)
    mirrored, mirrored_boxes, _, _ = batch(replace(plain, flip=1.0, flip_vertical=1.0), 1.0)
    torch.testing.assert_close(mirrored, images.flip(2, 3))
    torch.testing.assert_close(mirrored_boxes[valid], SIDE - boxes[valid][:, [2, 3, 0, 1]])


def test_colors_change_as_in_hsv() -> None:
    config = Config(batch_size=4, image_size=32, hue=0.0)
    augmentation = Augmentation(config, pictures())
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 255
    draws = torch.tensor([[0.0, -0.5, 0.3], [0.0, 1.0, -1.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.9]])
    ours = augmentation._colored(images, draws).permute(0, 2, 3, 1).numpy() / 255
    hsv = rgb_to_hsv(images.permute(0, 2, 3, 1).numpy() / 255)
    gains = 1 + draws.numpy() * np.array([0.0, config.saturation, config.brightness])
    hsv = np.clip(hsv * gains[:, None, None], 0, 1)
    # Where the brightness is cut off at 1, channels are cut one by one here, and together in HSV.
    uncut = hsv[..., 2] < 1
    np.testing.assert_allclose(ours[uncut], hsv_to_rgb(hsv)[uncut], atol=2e-5)


def test_a_turn_of_the_hue_keeps_gray_and_the_sum_of_channels() -> None:
    config = Config(batch_size=1, image_size=32, hue=0.5, saturation=0.0, brightness=0.0)
    augmentation = Augmentation(config, pictures())
    red = torch.tensor([90.0, 60.0, 60.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    third = torch.tensor([[2 / 3, 0.0, 0.0]])  # of half a circle: a third of the whole one
    torch.testing.assert_close(augmentation._colored(red, third)[0, :, 0, 0], torch.tensor([60.0, 90.0, 60.0]))
    gray = torch.full((1, 3, 2, 2), 77.0)
    torch.testing.assert_close(augmentation._colored(gray, third), gray)


def test_mixup_shows_both_pictures_with_the_objects_of_both() -> None:
    images, boxes, valid, _ = batch(PLAIN, 0.0)
    mixed, _, mixed_valid, draws = batch(replace(PLAIN, mixup=0.5), 0.0)
    chosen = draws.is_mixed
    assert 0 < chosen.sum() < 8
    torch.testing.assert_close(mixed[~chosen], images[~chosen])
    torch.testing.assert_close(mixed[chosen], ((images + images.roll(1, 0)) / 2)[chosen])
    assert mixed_valid.sum(1).tolist() == (valid.sum(1) + valid.roll(1, 0).sum(1) * chosen).tolist()
    assert boxes.shape[-1] == 4


def test_two_processes_draw_what_one_does() -> None:
    draws = draw(PLAIN, 8, 1.0, torch.Generator().manual_seed(0))
    parts = [draws.part(rank, 2) for rank in (0, 1)]
    for name, whole in draws._asdict().items():
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), whole)
