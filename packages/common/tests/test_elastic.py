import pytest
import torch
import torchvision.transforms.v2.functional as reference
from dlcommon.pytorch_core.augmentation import random_affine, smooth_displacement

N, HEIGHT, WIDTH = 3, 20, 20


def seeded(numbers_drawn: int = 0) -> torch.Generator:
    generator = torch.Generator().manual_seed(3)
    torch.rand(numbers_drawn, generator=generator)
    return generator


def test_bending_alone_equals_torchvisions_elastic_transform() -> None:
    images = torch.rand(N, 2, HEIGHT, WIDTH, generator=seeded())
    bent = random_affine(images, seeded(), elastic=1.5)
    generator = seeded()
    for _ in range(5):  # what the affine part draws: angle, size, slant and two shifts
        torch.rand(N, generator=generator)
    field = 2 * 1.5 * smooth_displacement(N, HEIGHT, WIDTH, generator) / torch.tensor([WIDTH, HEIGHT])
    expected = torch.stack(
        [reference.elastic_image(image, one[None]) for image, one in zip(images, field, strict=True)]
    )
    assert torch.allclose(bent, expected, atol=1e-5)
    assert not torch.allclose(bent, images, atol=0.1)


def test_displacements_are_of_unit_size_and_smooth() -> None:
    field = smooth_displacement(2000, 28, 28, seeded())
    assert field.shape == (2000, 28, 28, 2)
    corners = field[:, [0, 0, 27, 27], [0, 27, 0, 27]]
    assert float(corners.std()) == pytest.approx(1, abs=0.03)
    assert float(field.mean()) == pytest.approx(0, abs=0.03)
    steps = (field[:, 1:] - field[:, :-1]).std()
    assert steps < 0.25  # unsmoothed noise would have √2


def test_the_grain_is_where_noise_was_drawn() -> None:
    """With as many points as pixels nothing is interpolated."""
    field = smooth_displacement(2, 6, 6, seeded(), grain=6)
    noise = torch.randn(2, 2, 6, 6, generator=seeded())
    assert torch.allclose(field, noise.permute(0, 2, 3, 1), atol=1e-5)
