import numpy as np
import pytest
from cifar10_resnet.pictures import EXAMPLES, center_crop, network_input
from PIL import Image


@pytest.mark.parametrize(("height", "width"), [(32, 32), (1, 1), (7, 500), (301, 200), (2000, 3000)])
def test_any_size_becomes_the_networks(height: int, width: int) -> None:
    picture = np.full((height, width, 3), (10, 120, 250), dtype=np.uint8)
    seen = network_input(picture)
    assert seen.shape == (32, 32, 3)
    assert (seen == (10, 120, 250)).all()


def test_the_middle_is_kept() -> None:
    picture = np.zeros((10, 30, 3), dtype=np.uint8)
    picture[:, 10:20] = 255
    assert (center_crop(picture) == 255).all()
    assert center_crop(picture).shape == (10, 10, 3)


def test_a_picture_of_the_networks_size_is_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(network_input(picture), picture)


def test_the_examples_are_pictures() -> None:
    assert [path.stem for path in EXAMPLES] == ["airplane", "automobile", "frog", "ship", "truck"]
    for path in EXAMPLES:
        with Image.open(path) as image:
            assert image.size == (160, 160)
