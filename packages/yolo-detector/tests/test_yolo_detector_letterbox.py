"""Pictures fitted into what the network sees."""

import numpy as np
import pytest
from dlcommon.runtime.data.detection import AnnotatedImage
from yolo_detector.detections import FittedPictures
from yolo_detector.letterbox import GRAY, letterbox, padded_size


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (33, 500), (10_000, 1), (1, 1), (320, 320)])
def test_sides_are_multiples_of_32_and_boxes_come_back(width: int, height: int) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    fitted, how = letterbox(image, 320)
    assert fitted.shape[0] % 32 == fitted.shape[1] % 32 == 0
    assert max(fitted.shape[:2]) == 320
    assert fitted.shape[1::-1] == padded_size(width, height, 320)
    box = np.array([[0.1 * width, 0.2 * height, 0.9 * width, 0.8 * height]], np.float32)
    np.testing.assert_allclose(how.restore(how.fit(box)), box, rtol=1e-4, atol=0.01)
    left, top, right, bottom = how.fit(np.array([[0, 0, width, height]], np.float32))[0].round().astype(int)
    assert (fitted[top : max(bottom, top + 1), left : max(right, left + 1)] == 255).all()
    assert ((fitted == 255) | (fitted == GRAY)).all()


def test_boxes_are_cut_off_at_the_picture() -> None:
    _, how = letterbox(np.zeros((100, 200, 3), np.uint8), 320)
    assert how.restore(np.array([[-50, -50, 999, 999]], np.float32)).tolist() == [[0, 0, 200, 100]]


def test_pictures_of_different_sizes_share_one_size() -> None:
    sizes = [(100, 200), (300, 150), (64, 64)]
    samples = [
        AnnotatedImage(str(i), np.zeros((*size, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
        for i, size in enumerate(sizes)
    ]
    pictures = FittedPictures.of(samples, 128)
    assert pictures.images.shape == (3, 128, 128, 3)
    rows = np.zeros((3, 300, 6), np.float32)
    for i, (height, width) in enumerate(sizes):
        rows[i, 0] = *pictures.fitted[i].fit(np.array([[0, 0, width, height]], np.float32))[0], 0.5, 1
    for one, (height, width) in zip(pictures.read(rows), sizes, strict=True):
        np.testing.assert_allclose(one.boxes, [[0, 0, width, height]], atol=0.02)
        assert one.labels.tolist() == [1]
