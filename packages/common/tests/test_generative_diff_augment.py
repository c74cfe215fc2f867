"""Differentiable augmentation: what it changes by hand, the same for all, and with gradients."""

import pytest
import torch
from dlcommon.generative.diff_augment import AUGMENTATIONS, colour, cutout, diff_augment, translation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_translation_moves_whole_pixels_and_brings_in_0() -> None:
    images = torch.rand(32, 3, 16, 16) + 1
    moved = translation(images, generator())
    shifts = set()
    for before, after in zip(images, moved, strict=True):
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(torch.nn.functional.pad(before, (2, 2, 2, 2))[:, 2 + dy : 18 + dy, 2 + dx : 18 + dx], after)
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert {dy for dy, _ in shifts} == set(range(-2, 3)) == {dx for _, dx in shifts}


def test_cutout_blanks_a_square_of_half_the_sides_and_leaves_the_rest() -> None:
    images = torch.rand(64, 3, 16, 16) + 1
    cut = cutout(images, generator())
    blank = (cut == 0).all(dim=1)
    assert torch.equal(cut.where(~blank[:, None], images), images)
    assert blank.sum(dim=(1, 2)).max() == 8 * 8
    assert blank.sum(dim=(1, 2)).min() >= 4 * 4  # in a corner a quarter of it is inside


def test_colour_changes_brightness_saturation_and_contrast_alone() -> None:
    images = torch.rand(8, 3, 8, 8)
    changed = colour(images, generator())
    # All three are affine in each picture, so that pixels that are alike stay alike.
    gray = images[:, :1].expand(-1, 3, -1, -1).contiguous()
    grays = colour(gray, generator())
    torch.testing.assert_close(grays[:, 0], grays[:, 1])
    assert (changed - images).abs().flatten(1).max(dim=1).values.min() > 1e-3
    contrast = grays.std(dim=(1, 2, 3)) / gray.std(dim=(1, 2, 3))
    assert contrast.min() > 0.49
    assert contrast.max() < 1.51


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_it_is_drawn_from_the_generator_alone_and_has_gradients(name: str) -> None:
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    once, again = (diff_augment(images, [name], generator(3)) for _ in range(2))
    torch.testing.assert_close(once, again)
    assert not torch.equal(once, diff_augment(images, [name], generator(4)))
    (gradient,) = torch.autograd.grad(once.square().sum(), images)
    assert gradient.flatten(1).any(dim=1).all()
