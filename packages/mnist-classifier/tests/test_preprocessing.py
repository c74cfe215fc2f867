import numpy as np
import pytest
from dlcommon.runtime import data
from dlcommon.runtime.errors import InvalidInputError
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from mnist_classifier.capstone import CAPSTONE
from mnist_classifier.preprocessing import network_input
from PIL import Image, ImageDraw


def seven(side: int, left: int, top: int, size: int, ink: int = 0, paper: int = 255) -> np.ndarray:
    """A page with a 7 of that size drawn on it."""
    page = Image.new("RGB", (side, side), (paper,) * 3)
    corners = [(left, top), (left + size, top), (left + size // 3, top + 3 * size // 2)]
    ImageDraw.Draw(page).line(corners, fill=(ink,) * 3, width=max(1, size // 6), joint="curve")
    return np.asarray(page)


def test_place_and_size_on_the_page_do_not_matter() -> None:
    large = network_input(seven(400, 100, 60, 160))
    corner = network_input(seven(3000, 2700, 2600, 160))
    assert np.array_equal(large, corner)
    page = Image.new("RGB", (1500, 900), "white")
    page.paste(Image.fromarray(seven(400, 100, 60, 160)).reduce(4), (1390, 790))
    small = network_input(np.asarray(page))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.97


def test_light_on_dark_is_the_same_as_dark_on_light() -> None:
    page = seven(300, 90, 60, 120)
    assert np.array_equal(network_input(page), network_input(255 - page))
    grey = network_input(seven(300, 90, 60, 120, ink=80, paper=200))
    assert np.abs(grey.astype(int) - network_input(page)).max() <= 2


def test_the_ink_fills_twenty_pixels_with_its_mass_in_the_middle() -> None:
    field = network_input(seven(500, 30, 200, 150)).astype(float)
    assert field.shape == (28, 28)
    assert field.max() == 255
    rows, columns = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    centre = [(field.sum(axis=axis) @ np.arange(28)) / field.sum() for axis in (0, 1)]
    assert centre == pytest.approx([14, 14], abs=0.5)


def test_shadows_and_noise_are_not_ink() -> None:
    page = seven(400, 100, 60, 160).astype(int)
    noise = np.random.default_rng(0).integers(-25, 26, page.shape[:2])[:, :, None]
    shadow = np.linspace(0, -40, 400).astype(int)[None, :, None]
    spoilt = np.clip(page + noise + shadow, 0, 255).astype(np.uint8)
    clean = network_input(page.astype(np.uint8)).astype(int)
    assert np.abs(network_input(spoilt) - clean).mean() < 12


def test_ink_as_bright_as_its_paper_is_seen_by_its_colour() -> None:
    grey = seven(300, 90, 60, 120)
    red, green = np.array([255, 0, 0]), np.array([0, 130, 0])
    coloured = np.where(grey > 127, green, red).astype(np.uint8)
    assert np.ptp(np.asarray(Image.fromarray(coloured).convert("L"))) <= 1
    assert np.array_equal(network_input(coloured), network_input(np.where(grey > 127, 255, 0).astype(np.uint8)))


@pytest.mark.parametrize("paper", [0, 128, 255])
def test_an_empty_page_is_refused(paper: int) -> None:
    with pytest.raises(InvalidInputError, match="no ink"):
        network_input(np.full((50, 80, 3), paper, dtype=np.uint8))


@pytest.mark.parametrize("shape", [(1, 2), (2, 1), (28, 28), (1, 4000), (4000, 1)])
def test_any_shape_with_ink_becomes_the_networks(shape: tuple[int, int]) -> None:
    page = np.full((*shape, 3), 255, dtype=np.uint8)
    page[0, 0] = 0
    assert network_input(page).shape == (28, 28)


def test_digits_on_a_page_are_read_as_well_as_mnists_own() -> None:
    """Five times as large, black on white, in a corner: what comes out is close to what MNIST made."""
    path = packaged_model(CAPSTONE)
    assert path is not None
    found = data.find("mnist-sample")
    assert found is not None
    images, labels = found.load().test_images[:300, :, :, 0], found.load().test_labels[:300]
    again = []
    for image in images:
        page = np.full((400, 400, 3), 255, dtype=np.uint8)
        page[10:150, 250:390] = 255 - np.asarray(Image.fromarray(image).resize((140, 140)))[:, :, None]
        again.append(network_input(page))
    predicted = OnnxModel(path)({"images": np.stack(again)})["probabilities"].argmax(axis=1)
    assert (predicted == labels).mean() >= 0.98
