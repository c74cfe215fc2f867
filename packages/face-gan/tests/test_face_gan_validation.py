from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.evaluation.image_features import random_features
from dlcommon.runtime.random_state import random_state
from dlcommon.runtime.training_run import TrainingRun
from face_gan.config import Config
from face_gan.drawn_faces import split
from face_gan.validation import SAMPLES, Validation, features_of, hold_out
from torch import nn

IMAGES = np.arange(1000, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
RUN = cast(
    TrainingRun[Config],
    SimpleNamespace(
        device=torch.device("cpu"),
        config=Config(noise_dim=4),
        autocast=lambda: torch.autocast("cpu", enabled=False),
        data=SimpleNamespace(builtin=True),
    ),
)


class Repeating(nn.Module):
    """Returns pictures that it was given, in order."""

    def __init__(self, pictures: np.ndarray) -> None:
        super().__init__()
        self.images, self.at = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1, 0

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.at += len(noise)
        return self.images[self.at - len(noise) : self.at]


def test_pictures_are_kept_back_evenly_and_all_others_trained_on() -> None:
    numbered = np.arange(1000).reshape(-1, 1, 1, 1)
    trained, held_out = hold_out(numbered, 0.1)
    assert len(held_out) == 100
    assert sorted(np.concatenate((trained, held_out)).ravel()) == list(range(1000))
    assert np.diff(held_out.ravel()).max() <= 11


def test_by_default_all_pictures_are_trained_on() -> None:
    trained, held_out = hold_out(IMAGES, Config().validation_share)
    assert trained is IMAGES
    assert len(held_out) == 0


def test_too_few_to_validate_on_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--validation-share 0.01 keeps 10 of 1000 pictures, and at least 50"):
        hold_out(IMAGES, 0.01)


def test_patience_needs_pictures_to_validate_on() -> None:
    with pytest.raises(ValueError, match="set validation_share"):
        Config(patience=3)
    assert Config(patience=3, validation_share=0.1).patience == 3


def test_faithful_faces_are_nearer_than_blurred_ones_and_no_random_number_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = random_state()
    validation = Validation(RUN, features_of(RUN), split(100, 7))
    faithful = split(SAMPLES, 8)
    blurred = faithful.reshape(SAMPLES, 8, 8, 8, 8, 3).mean(axis=(2, 4)).repeat(8, axis=1).repeat(8, axis=2)
    figures = [validation.evaluate(Repeating(pictures.astype(np.uint8))) for pictures in (faithful, blurred)]
    good, bad = (figure["validation_kernel_distance"] for figure in figures)
    error = figures[0]["validation_kernel_distance_error"]
    assert abs(good) < 4 * error, "pictures of the same kind have no distance"
    assert bad > 5 * error
    after: dict[str, Any] = random_state()
    assert torch.equal(before["torch"], after["torch"])
    assert before["python"] == after["python"]
    assert torch.equal(before["numpy"][1], after["numpy"][1])


def test_features_on_another_device_are_cached_by_themselves() -> None:
    features = random_features()
    moved = features.on(torch.device("cpu"))
    assert moved.version != features.version
    pictures = split(4, 1)
    np.testing.assert_array_equal(moved(pictures), features(pictures))
