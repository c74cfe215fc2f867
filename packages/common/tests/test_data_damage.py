"""Damaged data is named by file and row, and never loaded."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dlcommon.runtime.data import (
    DamagedDataError,
    ImageClassification,
    anime_faces,
    cifar10,
    find,
    mnist,
    mnist_sample,
    package_files,
)
from dlcommon.runtime.data.cache import decoded_folders
from dlcommon.runtime.data.image_table import first_encoding, read_images, write_images
from dlcommon.runtime.errors import UserError
from dlcommon.testing.data_files import put_small_cifar10
from PIL import Image

ROWS = 30

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cifar10_copy(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small copy of CIFAR-10 of random pixels, in DL_DATA_DIR; returns its folder."""
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "own"))
    return put_small_cifar10(tmp_path / "own", ROWS)


def encoded(kind: str, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def image(content: bytes | None) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[17]["img"].update(bytes=content)


def label_of_first(label: int) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[0].update(label=label)


def bomb() -> bytes:
    """A PNG whose header claims 60,000×60,000 pixels."""
    content = bytearray(encoded("PNG"))
    content[16:24] = struct.pack(">2I", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (image(bomb()), "row 17: the image cannot be decoded (Image size (3600000000 pixels)"),
        (image(encoded("PNG")[:-300]), "row 17: the image cannot be decoded"),
        (image(encoded("JPEG")[:-300]), "row 17: the image cannot be decoded"),
        (image(encoded("PNG")[:20]), "row 17: the image cannot be decoded"),
        (image(encoded("GIF")), "row 17: the image is neither JPEG nor PNG"),
        (image(b""), "row 17: the image is missing"),
        (image(None), "row 17: the image is missing"),
        (image(encoded("PNG", (64, 32))), "row 17: the image has 64×32 pixels, not 32×32"),
        (lambda rows: rows[5].update(label=10), "row 5: the label is 10, not from 0 to 9"),
        (lambda rows: rows[5].update(label=-1), "row 5: the label is -1, not from 0 to 9"),
        (lambda rows: rows[5].update(label=None), "row 5: the label is None, not from 0 to 9"),
        (lambda rows: [row.update(label=0.5) for row in rows], "column 'label' is of type double"),
        (lambda rows: [row.pop("label") for row in rows], "has no column 'label', only img"),
        (lambda rows: [row.update(img=b"\xff\xd8\xff") for row in rows], "column 'img' is of type binary"),
    ],
)
def test_damaged_row_is_named(cifar10_copy: Path, change: Callable[[list[dict[str, Any]]], None], problem: str) -> None:
    rewrite(cifar10_copy / cifar10.TRAIN, change)
    located = find("cifar10")
    assert located is not None
    with pytest.raises(UserError) as caught:
        located.load()
    assert f"{cifar10_copy / cifar10.TRAIN}" in str(caught.value)
    assert problem in str(caught.value)
    assert "unset DL_DATA_DIR" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 5000])
def test_file_that_is_no_table(cifar10_copy: Path, keep: int) -> None:
    for name in cifar10.DATA_SET.files:
        path = cifar10_copy / name
        path.write_bytes(path.read_bytes()[:keep])
    located = find("cifar10")
    assert located is not None
    with pytest.raises(UserError, match="the file is empty" if keep == 0 else "not a whole parquet file"):
        located.load()
    with pytest.raises(UserError, match=r"test-00000.*unset DL_DATA_DIR"):
        located.describe()


def test_damage_inside_a_table_is_found(cifar10_copy: Path) -> None:
    """Bytes in the middle: either the format's own checks or the image decoder must notice, never neither."""
    path = cifar10_copy / cifar10.TEST
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(DamagedDataError, match="test-00000"):
        cifar10.load(cifar10_copy)


def test_table_without_rows(tmp_path: Path) -> None:
    write_images(tmp_path / "t.parquet", np.empty((0, 32, 32, 3), np.uint8), np.empty(0, np.int64), ("a",))
    for read in (first_encoding, lambda path: read_images(path, (32, 32), 10)):
        with pytest.raises(DamagedDataError, match="has no rows"):
            read(tmp_path / "t.parquet")


def test_encodings_are_told_apart(cifar10_copy: Path) -> None:
    located = find("cifar10")
    assert located is not None
    assert located.describe() == "cifar10 (DL_DATA_DIR, PNG-encoded)"
    assert located.load().encoding == "PNG"
    rewrite(cifar10_copy / cifar10.TEST, lambda rows: rows[0]["img"].update(bytes=encoded("JPEG")))
    assert located.load().encoding == "JPEG+PNG"


def test_grey_images_become_rgb(cifar10_copy: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), 77).save(buffer, "PNG")
    rewrite(cifar10_copy / cifar10.TRAIN, image(buffer.getvalue()))
    assert (cifar10.load(cifar10_copy).train_images[17] == 77).all()


def test_decoded_copy_is_used_and_keyed_by_content(
    cifar10_copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cifar10.load(cifar10_copy)
    decodings: list[Path] = []
    original = cifar10._decode

    def counted(folder: Path) -> ImageClassification:
        decodings.append(folder)
        return original(folder)

    monkeypatch.setattr(cifar10, "_decode", counted)
    again = cifar10.load(cifar10_copy)
    assert decodings == []
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert (getattr(first, name) == getattr(again, name)).all()
        assert getattr(again, name).flags.writeable  # torch.from_numpy warns about arrays that are not
    assert (again.classes, again.encoding) == (first.classes, first.encoding)

    for number in range(3):
        rewrite(cifar10_copy / cifar10.TRAIN, label_of_first(number + 1))
        assert cifar10.load(cifar10_copy).train_labels[0] == number + 1
    assert len(decodings) == 3
    assert len(decoded_folders("cifar10")) == 2


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x93NUM")])
def test_damaged_decoded_copy_is_made_again(cifar10_copy: Path, cache: Path, damage: Callable[[Path], None]) -> None:
    expected = cifar10.load(cifar10_copy)
    damage(decoded_folders("cifar10")[0] / "test_images.npy")
    assert (cifar10.load(cifar10_copy).test_images == expected.test_images).all()
    assert (decoded_folders("cifar10")[0] / "test_images.npy").stat().st_size > 1000


def test_cache_that_cannot_be_written_costs_only_time(cifar10_copy: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert len(cifar10.load(cifar10_copy).train_images) == ROWS


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist_copy(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for names in (mnist.TRAIN, mnist.TEST):
        write_idx(tmp_path / names[0], random.integers(0, 256, (ROWS, 28, 28), np.uint8))
        write_idx(tmp_path / names[1], (np.arange(ROWS) % 10).astype(np.uint8))
    return tmp_path


def test_mnist_as_written(mnist_copy: Path) -> None:
    data = mnist.load(mnist_copy)
    assert data.train_images.shape == data.test_images.shape == (ROWS, 28, 28, 1)
    assert data.train_labels.tolist() == [row % 10 for row in range(ROWS)]
    assert data.train_labels.dtype == np.int64
    assert data.train_images.dtype == np.uint8
    assert data.train_images[3].tobytes() == (mnist_copy / mnist.TRAIN[0]).read_bytes()[16 + 3 * 784 :][:784]
    assert mnist.details(mnist_copy) == "30 of the 60,000 training digits"


IMAGES, LABELS = mnist.TRAIN


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (IMAGES, lambda content: content[: 16 + 784 * 7 + 100], "row 7: the file breaks off"),
        (IMAGES, lambda content: content + b"x", "goes on after the 30 rows"),
        (IMAGES, lambda content: b"", "the file is empty"),
        (IMAGES, lambda content: content[:9], "not an idx file with 3 axes"),
        (IMAGES, lambda content: gzip.compress(content), "not an idx file with 3 axes (starts with 1f8b08"),
        (IMAGES, lambda content: content[:7] + b"\x1d" + content[8:], "goes on after the 29 rows"),
        (LABELS, lambda content: content[: 8 + 12], "row 12: the file breaks off"),
        (LABELS, lambda content: content[:7] + b"\x1d" + content[8:-1], "holds 29 labels for 30 images"),
        (LABELS, lambda content: content[: 8 + 4] + b"\x0a" + content[8 + 5 :], "row 4: the label is 10"),
    ],
)
def test_damaged_mnist(mnist_copy: Path, name: str, change: Callable[[bytes], bytes], problem: str) -> None:
    path = mnist_copy / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DamagedDataError) as caught:
        mnist.load(mnist_copy)
    assert f"{path}" in str(caught.value)
    assert problem in str(caught.value)


def test_damaged_library_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    monkeypatch.setattr(mnist_sample, "package_file", lambda *_, **__: path)
    row = ",".join(["0"] * 785) + "\n"
    for content in (
        b"",
        gzip.compress(row.encode() * 9),
        gzip.compress(b"a,b\n"),
        gzip.compress(b"0,1\n")[:-9],
    ):
        path.write_bytes(content)
        with pytest.raises(DamagedDataError, match="mnist_5k"):
            mnist_sample.load(tmp_path)


def test_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    located = find("mnist-sample")
    assert located is not None
    monkeypatch.setattr(package_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"uv add .dlcommon\[mnist\]"):
        mnist_sample.load(Path())


def write_faces(path: Path, contents: list[bytes], column: str = "image") -> None:
    pq.write_table(pa.Table.from_pylist([{column: {"bytes": content, "path": ""}} for content in contents]), path)


def test_unlabelled_images_are_split_and_kept_decoded(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / anime_faces.FILE
    write_faces(path, [encoded("PNG", (64, 64))] * 24 + [encoded("JPEG", (64, 64))])
    for _ in range(2):  # the second time from the cache
        data = anime_faces.load(tmp_path)
        assert (data.train.shape, data.test.shape) == ((23, 64, 64, 3), (2, 64, 64, 3))
        assert data.train.dtype == np.uint8
        assert data.encoding == "JPEG+PNG"
    assert len(decoded_folders("anime-faces-64")) == 1
    assert len(b"".join(bytes(part) for part in data.contents())) > 25 * 64 * 64 * 3
    assert anime_faces.details(tmp_path) == "PNG-encoded"


def test_damaged_unlabelled_image_is_named(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / anime_faces.FILE
    write_faces(path, [encoded("PNG", (64, 64)), encoded("PNG", (64, 64))[:-40]])
    with pytest.raises(DamagedDataError, match="row 1: the image cannot be decoded"):
        anime_faces.load(tmp_path)
    write_faces(path, [encoded("PNG", (64, 64))], column="img")
    with pytest.raises(DamagedDataError, match="has no column 'image', only img"):
        anime_faces.load(tmp_path)
    write_faces(path, [encoded("PNG", (32, 64))])
    with pytest.raises(DamagedDataError, match="row 0: the image has 32×64 pixels, not 64×64"):
        anime_faces.load(tmp_path)
