import numpy as np
import pytest
from face_gan.health import diversity, overfitting, warning

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (40, 1, 1, 3)) * np.ones((1, 64, 64, 1))


def test_diversity_is_the_mean_distance_of_two_pictures() -> None:
    colours = PICTURES[:, 0, 0]
    expected = [np.sqrt(((a - b) ** 2).mean()) for i, a in enumerate(colours) for b in colours[i + 1 :]]
    assert diversity(PICTURES.astype(np.uint8)) == pytest.approx(np.mean(expected), rel=1e-6)


def test_texture_alone_is_no_diversity() -> None:
    same = np.full((20, 64, 64, 3), 128) + RANDOM.integers(-60, 60, (20, 64, 64, 3))
    assert diversity(same.astype(np.uint8)) < 0.1 * diversity(PICTURES.astype(np.uint8))


def test_overfitting_is_the_share_of_the_way_to_generated_pictures() -> None:
    assert overfitting(train=2, held_out=2, fake=-2) == 0
    assert overfitting(train=2, held_out=-2, fake=-2) == 1
    assert overfitting(train=2, held_out=1, fake=-2) == pytest.approx(0.25)
    assert overfitting(train=1, held_out=1, fake=1) == 0


def test_what_goes_wrong_is_said_with_what_to_try() -> None:
    assert warning(1.0, 0.1) is None
    collapsed, memorized = warning(0.2, 0.0), warning(1.0, 0.8)
    assert collapsed is not None
    assert "mode collapse: samples differ only 20%" in collapsed
    assert "--gradient-penalty" in collapsed
    assert memorized is not None
    assert "80%" in memorized
    assert "--augment" in memorized
