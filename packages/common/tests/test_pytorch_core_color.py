"""Colour operations and RandAugment against torchvision's, image by image."""

from collections.abc import Callable

import pytest
import torch
from dlcommon.pytorch_core import color
from dlcommon.pytorch_core.rand_augment import LEVELS, OPERATIONS, rand_augment
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as reference

Operation = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(channels: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """[6, channels, 40, 30]: noise, with an even picture, a black one, and grey, saturated and tied pixels."""
    images = torch.rand(6, channels, 40, 30, generator=generator(5), dtype=dtype)
    images[1], images[2] = 0.4, 0.0
    images[3, :, :10] = images[3, :1, :10]
    images[4, 0, :5], images[5, -1, :5] = 1.0, 0.0
    if channels == 3:
        images[4, 1, :5] = 1.0
    return images


STRENGTHS = {
    "brightness": (color.adjust_brightness, reference.adjust_brightness, [0.0, 0.3, 1.0, 1.5, 2.0, 0.9]),
    "contrast": (color.adjust_contrast, reference.adjust_contrast, [0.0, 0.3, 1.0, 1.5, 2.0, 0.9]),
    "saturation": (color.adjust_saturation, reference.adjust_saturation, [0.0, 0.3, 1.0, 1.5, 2.0, 0.9]),
    "hue": (color.adjust_hue, reference.adjust_hue, [-0.5, -0.2, 0.0, 0.1, 0.33, 0.5]),
    "sharpness": (color.adjust_sharpness, reference.adjust_sharpness, [0.0, 0.3, 1.0, 1.5, 2.0, 0.9]),
    "posterize": (color.posterize, reference.posterize, [1, 2, 4, 6, 7, 8]),
    "solarize": (color.solarize, reference.solarize, [0.0, 0.2, 0.4, 0.6, 0.9, 1.0]),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("ours", "theirs", "strengths"), STRENGTHS.values(), ids=STRENGTHS)
def test_each_image_is_adjusted_as_torchvision_does(
    ours: Operation, theirs: Callable[..., torch.Tensor], strengths: list[float], channels: int
) -> None:
    images = pictures(channels)
    adjusted = ours(images, torch.tensor(strengths))
    for row, strength in enumerate(strengths):
        # Float32, and the order of operations differs: 1e-5 of a range of 1.
        torch.testing.assert_close(adjusted[row], theirs(images[row], strength), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(color.autocontrast, reference.autocontrast), (color.equalize, reference.equalize)],
    ids=["autocontrast", "equalize"],
)
def test_what_has_no_strength_is_torchvisions(
    ours: Callable[..., torch.Tensor], theirs: Callable[..., torch.Tensor], channels: int
) -> None:
    images = pictures(channels)
    torch.testing.assert_close(ours(images), theirs(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_gradients_are_torchvisions(name: str) -> None:
    ours, theirs, _ = STRENGTHS[name]
    images = pictures(dtype=torch.float64)[:1]
    weights = torch.rand(images.shape, generator=generator(8), dtype=torch.float64)
    gradients = []
    for adjust in (lambda x: ours(x, torch.tensor([1.3])), lambda x: theirs(x, 1.3)):
        inputs = images.clone().requires_grad_()
        gradients.append(torch.autograd.grad((weights * adjust(inputs)).sum(), inputs)[0])
    # 1.3 is float32 in ours.
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("adjust", "strengths"), [(color.adjust_hue, [0.2, -0.4]), (color.adjust_sharpness, [0.4, 1.2])]
)
def test_gradients_that_torchvision_does_not_have_are_right(adjust: Operation, strengths: list[float]) -> None:
    images = torch.rand(2, 3, 4, 4, generator=generator(3), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: adjust(x, torch.tensor(strengths)), images)


def test_the_gradient_of_a_turned_hue_is_finite_in_grey() -> None:
    grey = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
    color.adjust_hue(grey, torch.tensor([0.2])).sum().backward()
    assert grey.grad is not None
    assert grey.grad.isfinite().all()


def test_jitter_is_torchvisions_operations_in_one_order() -> None:
    images = pictures()
    limits = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.3, "hue": 0.1}
    jittered = color.color_jitter(images, generator(4), **limits)
    drawing = generator(4)
    factors = [
        low + (high - low) * torch.rand(len(images), generator=drawing)
        for low, high in ((0.6, 1.4), (0.0, 2.5), (0.7, 1.3), (-0.1, 0.1))
    ]
    names, order = list(limits), torch.randperm(4, generator=drawing).tolist()
    for row, image in enumerate(images):
        for number in order:
            image = getattr(reference, f"adjust_{names[number]}")(image, factors[number][row].item())
        torch.testing.assert_close(jittered[row], image, rtol=0, atol=2e-5)  # four operations


def test_jitter_without_limits_changes_nothing() -> None:
    torch.testing.assert_close(color.color_jitter(pictures(), generator()), pictures(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("limits", [{"contrast": -0.1}, {"hue": 0.6}])
def test_impossible_limits_are_named(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        color.color_jitter(pictures(), generator(), **limits)


def test_four_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="three channels"):
        color.adjust_saturation(torch.zeros(1, 4, 5, 5), torch.ones(1))


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_of_randaugment_is_torchvisions(name: str, magnitude: int) -> None:
    images = pictures()
    level = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]) * magnitude / LEVELS
    changed = OPERATIONS[name](images, level)
    theirs = v2.RandAugment(interpolation=InterpolationMode.BILINEAR)
    magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
    values = magnitudes(LEVELS + 1, *images.shape[-2:])
    strength = 0.0 if values is None else float(values[magnitude])
    for row, image in enumerate(images):
        direction = -1 if signed and row % 2 else 1
        expected = theirs._apply_image_or_video_transform(
            image, name, direction * strength, InterpolationMode.BILINEAR, theirs._fill
        )
        # Float32 grids: coordinates of up to 20 pixels are rounded at 1e-6, times the step between two pixels.
        torch.testing.assert_close(changed[row], expected, rtol=0, atol=2e-5)


def test_operations_are_the_papers() -> None:
    assert set(OPERATIONS) == set(v2.RandAugment._AUGMENTATION_SPACE)


def test_every_image_of_a_batch_gets_its_own_operations() -> None:
    images = torch.rand(60, 3, 16, 16, generator=generator(1))
    augmented = rand_augment(images, generator(2), num_ops=2, magnitude=12)
    drawing, names = generator(2), list(OPERATIONS)
    draws = [
        (torch.randint(len(names), (60,), generator=drawing), 2 * torch.randint(2, (60,), generator=drawing) - 1)
        for _ in range(2)
    ]
    assert len(draws[0][0].unique()) == len(names)
    for row in range(60):
        image = images[row : row + 1]
        for drawn, direction in draws:
            image = OPERATIONS[names[int(drawn[row])]](image, direction[row : row + 1] * 12 / LEVELS)
        torch.testing.assert_close(augmented[row : row + 1], image, rtol=0, atol=1e-6)


RANDOM: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "jitter": lambda images, g: color.color_jitter(images, g, 0.4, 0.4, 0.4, 0.1),
    "randaugment": rand_augment,
}


@pytest.mark.parametrize("name", RANDOM)
def test_the_generator_alone_decides(name: str) -> None:
    augment, images = RANDOM[name], torch.rand(16, 3, 12, 12, generator=generator(1))
    before = images.clone()
    first = augment(images, generator(1))
    torch.manual_seed(99)
    assert torch.equal(first, augment(images, generator(1)))
    assert not torch.equal(first, augment(images, generator(2)))
    assert torch.equal(images, before), "the input was written to"
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("name", RANDOM)
def test_everything_stays_on_the_images_device(name: str) -> None:
    assert RANDOM[name](torch.empty(40, 3, 8, 8, device="meta"), generator()).device.type == "meta"


def test_magnitude_has_limits() -> None:
    with pytest.raises(ValueError, match="magnitude"):
        rand_augment(pictures(), generator(), magnitude=31)
