"""The protocol for generated pictures: validated on damage whose order is known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dlcommon.runtime.data import find
from dlcommon.runtime.data.colour_scenes import split
from dlcommon.runtime.evaluation.generated_images import FRECHET_SAMPLES, judge
from dlcommon.runtime.evaluation.image_features import (
    ASSET,
    ImageFeatures,
    RandomConvolutions,
    efficientnet_features,
    features_for,
    random_features,
)
from dlcommon.testing.skips import asset_or_skip, data_set_or_skip
from scipy.ndimage import gaussian_filter

Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def blurred(sigma: float) -> Damage:
    return lambda images, _: gaussian_filter(images, (0, sigma, sigma, 0))


def noisy(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return (images + 25 * random.standard_normal(images.shape)).clip(0, 255).astype(np.uint8)


def few(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return images[random.integers(10, size=len(images))]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path))
    return tmp_path


def judged(features: ImageFeatures, images: np.ndarray, damage: Damage | None) -> dict[str, float]:
    """Judges a third of the pictures, damaged, against the other two thirds, trained on and held out."""
    third = len(images) // 3
    generated = images[2 * third :]
    if damage is not None:
        generated = damage(generated, np.random.default_rng(0))
    return judge(features, images[:third], images[third : 2 * third], generated).metrics


def check_known_damage(features: ImageFeatures, images: np.ndarray) -> None:
    real = judged(features, images, None)
    assert abs(real["kernel_distance"]) < 3 * real["kernel_distance_error"]
    assert real["precision"] > 0.5
    assert real["recall"] > 0.5
    assert real["nearest_training_distance"] == pytest.approx(1, abs=0.15)
    found = {"little blur": blurred(0.8), "blur": blurred(3), "noise": noisy, "few": few}
    metrics = {name: judged(features, images, damage) for name, damage in found.items()}
    for name, of_damaged in metrics.items():
        assert of_damaged["kernel_distance"] > 4 * real["kernel_distance_error"], name
    assert metrics["little blur"]["kernel_distance"] < metrics["blur"]["kernel_distance"]
    assert metrics["blur"]["precision"] < 0.85 * real["precision"]
    # Ten pictures again and again are each faithful: only recall shows what is missing.
    assert metrics["few"]["precision"] > 0.7 * real["precision"]
    assert metrics["few"]["recall"] < 0.3 * real["recall"]


def test_random_features_know_damage() -> None:
    check_known_damage(random_features(), split(900, 3)[0])


@pytest.mark.real_data
def test_efficientnet_features_know_damage_of_faces() -> None:
    located = asset_or_skip(ASSET)
    images = data_set_or_skip("anime-faces-64").load().test[:900]
    check_known_damage(efficientnet_features(located), images)


def test_a_copy_of_the_training_pictures_is_seen() -> None:
    images = split(300, 3)[0]
    copied = judge(random_features(), images[:100], images[100:200], images[:100]).metrics
    assert copied["nearest_training_distance"] < 0.1


def test_frechet_distance_only_where_there_are_enough() -> None:
    images = split(120, 3)[0]
    assert "frechet_distance" not in judge(random_features(), images[:40], images[40:80], images[80:]).metrics
    many = np.resize(np.random.default_rng(0).integers(0, 256, (2000, 8, 8, 3), np.uint8), (FRECHET_SAMPLES, 8, 8, 3))
    metrics = judge(random_features(), many, many[:500], many).metrics
    assert metrics["frechet_distance"] == pytest.approx(0, abs=1e-3)


def test_built_in_data_is_judged_by_random_features() -> None:
    located = find("colour-scenes")
    assert located is not None
    features = features_for(located)
    assert features.name == "random-convolutions"
    assert features(np.zeros((3, 16, 16, 3), np.uint8)).shape == (3, 448)


def test_features_of_real_pictures_are_kept_and_a_damaged_copy_is_not_used(own_cache: Path) -> None:
    images, features = split(20, 3)[0], random_features()
    expected = features.cached(images)
    (kept,) = own_cache.rglob("features.npy")

    class Forbidden(RandomConvolutions):
        def features(self, images: torch.Tensor) -> torch.Tensor:
            raise AssertionError("computed again")

    unused = ImageFeatures(features.name, Forbidden(), features.version)
    np.testing.assert_array_equal(unused.cached(images), expected)
    with pytest.raises(AssertionError, match="computed again"):
        unused.cached(images[:10])
    kept.write_bytes(kept.read_bytes()[:100])
    np.testing.assert_array_equal(features.cached(images), expected)
