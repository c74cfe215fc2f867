"""The user's own pictures, and the faces that are always at hand."""

from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.errors import UsageError
from face_gan.config import Config
from face_gan.data import FEWEST, own_data, read_picture
from face_gan.drawn_faces import draw, generate
from PIL import Image

RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds just enough good pictures of many sizes, in two folders."""
    root = tmp_path / "my [1] faces"
    (root / "more").mkdir(parents=True)
    for number in range(FEWEST):
        size = (40 + number, 64)
        picture = Image.fromarray(RANDOM.integers(0, 256, (*size, 3), np.uint8))
        picture.save(root / ("more" if number % 2 else ".") / f"{number} [a].png")
    return root


def test_own_pictures_are_read_and_split_always_alike(folder: Path) -> None:
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    assert located.name == "my-1-faces"
    images = located.load()
    assert images.train.shape == (FEWEST * 9 // 10, 64, 64, 3)
    assert images.test.shape == (FEWEST // 10, 64, 64, 3)
    assert len(located.fingerprint()) == 64
    assert own_data(Config()) is None


def test_bad_files_are_named_and_skipped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    Image.new("RGB", (20, 20), "red").save(folder / "tiny.png")
    Image.new("L", (80, 80), 90).save(folder / "gray.png")
    Image.merge("RGB", [Image.new("L", (80, 80), 90)] * 3).save(folder / "gray too.png")
    (folder / "notes.txt").write_text("not a picture")
    (folder / "._0 [a].png").write_bytes(b"what macOS puts into archives")
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    assert len(located.load().train) == FEWEST * 9 // 10
    said = capsys.readouterr().err
    assert "skipped 1 of my [1] faces, the image is damaged or cut off: broken.jpg" in said
    assert "skipped 1 of my [1] faces, smaller than 32×32 pixels: tiny.png" in said
    assert "skipped 2 of my [1] faces, without colour" in said
    assert "gray too.png, gray.png" in said


def test_too_few_pictures_are_refused(folder: Path) -> None:
    next(folder.glob("*.png")).unlink()
    with pytest.raises(UsageError, match="99 pictures are too few; at least 100 are needed"):
        own_data(Config(data_folder=str(folder)))
    Image.new("RGB", (20, 20), "red").save(folder / "tiny.png")
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    with pytest.raises(UsageError, match="99 pictures can be used, and at least 100 are needed"):
        located.load()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        own_data(Config(data_folder=str(tmp_path / "none")))


def test_a_picture_is_cropped_in_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = (250, 40, 40)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    picture = read_picture(tmp_path / "wide.png")
    assert isinstance(picture, np.ndarray)
    assert (picture == (250, 40, 40)).all()


def test_a_picture_is_upright_and_on_white(tmp_path: Path) -> None:
    turned = Image.new("RGB", (64, 64), (250, 40, 40))
    turned.paste((40, 40, 250), (0, 0, 64, 32))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    picture = read_picture(tmp_path / "turned.png")
    assert isinstance(picture, np.ndarray)
    assert picture[50, 32].tolist() == [40, 40, 250]
    shape = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    shape.paste((250, 40, 40, 255), (16, 16, 48, 48))
    shape.save(tmp_path / "shape.png")
    picture = read_picture(tmp_path / "shape.png")
    assert isinstance(picture, np.ndarray)
    assert picture[2, 2].tolist() == [255, 255, 255]


def test_drawn_faces_are_always_the_same_and_all_different() -> None:
    images = generate(30, 10)
    assert images.train.shape == (30, 64, 64, 3)
    np.testing.assert_array_equal(images.train, generate(30, 10).train)
    faces = np.concatenate((images.train, images.test)).reshape(40, -1)
    assert len(np.unique(faces, axis=0)) == 40
    assert draw(2, np.random.default_rng(1)).dtype == np.uint8
