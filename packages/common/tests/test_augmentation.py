"""Augmentation of whole batches against slicing, padding and transforming image by image."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.transforms.v2.functional as reference
from dlcommon.pytorch_core.augmentation import cutout, pad_reflect, random_affine, random_crop, random_horizontal_flip
from torch.nn import functional as F


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(5), dtype=dtype)


AUGMENTATIONS: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "flip": random_horizontal_flip,
    "crop": lambda images, g: random_crop(images, 6, g),
    "cutout": lambda images, g: cutout(images, 3, g),
    "affine": lambda images, g: random_affine(images, g, degrees=30, translate=0.2, scale=0.2, shear=0.2),
}


@pytest.mark.parametrize("margin", [1, 4, 7])
def test_pad_reflect_equals_torchs(margin: int) -> None:
    images = noise(2, 3, 8, 11)
    assert torch.equal(pad_reflect(images, margin), F.pad(images, (margin,) * 4, mode="reflect"))
    integers = (images.abs() * 50).to(torch.uint8)
    assert torch.equal(pad_reflect(integers, margin).float(), F.pad(integers.float(), (margin,) * 4, mode="reflect"))


def test_random_crop_cuts_every_window_and_nothing_else() -> None:
    image = noise(1, 2, 7, 6)
    crops = random_crop(image.expand(400, -1, -1, -1), 4, generator())
    assert crops.shape == (400, 2, 4, 4)
    windows = {(r, c): image[0, :, r : r + 4, c : c + 4] for r in range(4) for c in range(3)}
    seen = {key for crop in crops for key, window in windows.items() if torch.equal(crop, window)}
    assert seen == set(windows)
    assert all(any(torch.equal(crop, window) for window in windows.values()) for crop in crops)
    assert crops.is_contiguous(memory_format=torch.channels_last)


def test_random_flip_mirrors_about_half_and_leaves_the_others() -> None:
    images = noise(400, 1, 3, 4)
    flipped = random_horizontal_flip(images, generator())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def test_cutout_blanks_one_whole_square() -> None:
    images = torch.ones(200, 2, 9, 7)
    blanked = cutout(images, 3, generator(), fill=-1.0)
    hole = blanked[:, 0] == -1
    assert torch.equal(hole, blanked[:, 1] == -1)
    assert (hole.flatten(1).sum(1) == 9).all()
    assert (hole.any(2).sum(1) == 3).all()
    assert (hole.any(1).sum(1) == 3).all()
    assert hole.any(0).all(), "some pixel is never reached"
    assert (blanked[~hole[:, None].expand_as(blanked)] == 1).all()


def test_affine_of_no_strength_changes_nothing() -> None:
    images = noise(4, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(random_affine(images, generator()), images, rtol=0, atol=1e-5)


@pytest.fixture
def largest(monkeypatch: pytest.MonkeyPatch) -> torch.Generator:
    """A generator whose uniform draws are all 1, so that every strength is at its limit."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(*shape))
    return generator()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param({"degrees": 30.0}, {"angle": -30.0}, id="rotation"),
        pytest.param({"translate": 0.25}, {"translate": [-3.0, -3.0]}, id="shift"),
        pytest.param({"scale": 0.5}, {"scale": 1.5}, id="scale"),
        pytest.param({"degrees": 20.0, "scale": 0.25}, {"angle": -20.0, "scale": 1.25}, id="rotation-and-scale"),
    ],
)
def test_affine_equals_torchvisions(ours: dict[str, Any], theirs: dict[str, Any], largest: torch.Generator) -> None:
    images = noise(2, 3, 12, 12)
    full = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0], **theirs}
    expected = reference.affine(images, **full, interpolation=reference.InterpolationMode.BILINEAR)
    got = random_affine(images, largest, **ours)
    # At the rim torchvision fades to its fill value where ours fades to 0: the inside is compared.
    torch.testing.assert_close(got[..., 3:9, 3:9], expected[..., 3:9, 3:9], rtol=0, atol=1e-4)
    assert (got - images).abs().max() > 0.1


def test_affine_shifts_up_to_its_limit() -> None:
    """A dot at the centre moves by no more than a tenth of the width, either way."""
    images = torch.zeros(200, 1, 21, 21)
    images[:, :, 10, 10] = 1
    moved = random_affine(images, generator(), translate=0.1)
    position = torch.arange(21.0)
    for axis in (2, 3):
        centre = (moved.sum((1, 5 - axis)) * position).sum(1)
        assert centre.min() == pytest.approx(10 - 2.1, abs=0.1)
        assert centre.max() == pytest.approx(10 + 2.1, abs=0.1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_is_decided_by_its_generator_alone(name: str) -> None:
    augment, images = AUGMENTATIONS[name], noise(16, 3, 8, 8)
    before = images.clone()
    first = augment(images, generator(1))
    torch.manual_seed(99)
    assert torch.equal(first, augment(images, generator(1)))
    assert not torch.equal(first, augment(images, generator(2)))
    assert torch.equal(images, before), "the input was written to"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_stays_on_the_images_device(name: str) -> None:
    # Operations across devices are refused for the meta device as they are for an accelerator.
    images = torch.empty(4, 3, 8, 8, device="meta")
    assert AUGMENTATIONS[name](images, generator()).device.type == "meta"
