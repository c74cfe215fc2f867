import numpy as np
import pytest
from face_gan.latents import LARGEST_SEED, Latents, interpolated


def test_a_seed_is_the_same_numbers_on_every_machine() -> None:
    noise = Latents(2, 4).noise(7)
    expected = np.random.Generator(np.random.Philox(7)).standard_normal(4, np.float32)
    np.testing.assert_array_equal(noise, [expected, expected])
    assert Latents(1, 3).noise(LARGEST_SEED).shape == (1, 3)


def test_what_is_stored_is_read_back() -> None:
    assert Latents.of({"latents": str(Latents(4, 128))}) == Latents(4, 128)


def test_samples_differ_and_share_their_noise_among_blocks() -> None:
    drawn = Latents(3, 5).sample(4, 0)
    assert drawn.shape == (4, 3, 5)
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert len(np.unique(drawn[:, 0], axis=0)) == 4


def test_a_walk_keeps_the_length_of_the_noise() -> None:
    latents = Latents(1, 128)
    first, second = latents.noise(1), latents.noise(2)
    np.testing.assert_allclose(interpolated(first, second, 0), first, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(interpolated(first, second, 1), second, rtol=1e-4, atol=1e-5)
    middle = np.linalg.norm(interpolated(first, second, 0.5))
    assert middle == pytest.approx(np.linalg.norm(first), rel=0.15)
    assert np.linalg.norm((first + second) / 2) < 0.85 * middle
    np.testing.assert_allclose(interpolated(first, first, 0.3), first, rtol=1e-4)
