"""Object detection: VOC folders are read, degenerate boxes skipped and named, damage named by file and row."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.data import DATA_SETS, LocatedDataSet, cell_scenes
from dlcommon.runtime.data.dataset import DamagedDataError, DataSet
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.data.voc import FILES, count_skipped, read_annotation, read_voc
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.skips import data_set_or_skip
from PIL import Image

CLASSES = ("cat", "dog")
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def annotation(*objects: tuple[object, ...], width: object = 40, height: object = 30) -> str:
    boxes = "".join(OBJECT.format(*parts) for parts in objects)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{boxes}</annotation>"


def write_image(path: Path, width: int, height: int) -> None:
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four images of two sizes: two to train, one to validate, one to test."""
    folder = tmp_path / "set"
    for number, (name, width, height) in enumerate([("a", 40, 30), ("b", 20, 50), ("c", 40, 30), ("d", 40, 30)]):
        write_image(folder / "JPEGImages" / f"{name}.jpg", width, height)
        path = folder / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        objects = [("cat", 1, 2, 10.5, 12), ("dog", 5, 5, 15, 9)][:number]
        path.write_text(annotation(*objects, width=width, height=height))
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split, names in {"train": "b\na\n", "val": "c", "test": "d\n\n"}.items():
        (lists / f"{split}.txt").write_text(names)
    return folder


def write_objects(folder: Path, *objects: tuple[object, ...]) -> Path:
    path = folder / "Annotations" / "a.xml"
    path.write_text(annotation(*objects))
    return path


def test_images_of_any_size_with_their_boxes(voc: Path) -> None:
    data = read_voc(voc, CLASSES)
    assert [sample.name for sample in data.train] == ["b", "a"]  # in the order of the list
    assert [len(split) for split in (data.train, data.validation, data.test)] == [2, 1, 1]
    assert data.train[0].image.shape == (50, 20, 3)
    assert data.train[0].image.dtype == np.uint8
    assert data.train[0].boxes.tolist() == [[1, 2, 10.5, 12]]
    assert data.train[1].boxes.shape == (0, 4)  # an image without objects is an example, too
    assert data.test[0].labels.tolist() == [0, 1]
    assert data.test[0].boxes.dtype == np.float32
    assert data.test[0].labels.dtype == np.int64
    assert data.skipped == ()


def test_boxes_without_an_area_are_skipped_named_and_counted(voc: Path) -> None:
    path = write_objects(
        voc, ("cat", 3, 3, 3, 9), ("dog", 2, 2, 8, 8), ("dog", 9, 9, 5, 12), ("cat", 50, 2, 60, 9), ("cat", 1, 7, 9, 7)
    )
    data = read_voc(voc, CLASSES)
    assert data.train[1].boxes.tolist() == [[2, 2, 8, 8]]
    assert data.train[1].labels.tolist() == [1]
    assert [line.partition(":")[0] for line in data.skipped] == [f"{path}, row {row}" for row in (0, 2, 3, 4)]
    assert data.skipped[0].endswith("the box (3, 3, 3, 9) has no area inside the image")
    assert count_skipped(voc, CLASSES) == 4


def test_boxes_are_cut_off_at_the_border(voc: Path) -> None:
    path = write_objects(voc, ("cat", -2, 5, 41, 31))
    assert read_annotation(path, CLASSES).boxes == [(0, 5, 40, 30)]


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ([("cat", 1, 1, 5, 5), ("cow", 1, 1, 5, 5)], "row 1: the class is 'cow', not one of cat, dog"),
        ([("cat", 1, 1, "five", 5)], "row 0: bndbox/xmax is 'five', not a number"),
        ([("cat", 1, "nan", 5, 5)], "row 0: bndbox/ymin is 'nan', not a number of pixels"),
        ([("cat", 1, 1, "inf", 5)], "row 0: bndbox/xmax is 'inf', not a number of pixels"),
        ([("cat", 1, 1, "", 5)], "row 0: bndbox/xmax is '', not a number"),
    ],
)
def test_wrong_objects_are_named(voc: Path, objects: list[tuple[object, ...]], problem: str) -> None:
    path = write_objects(voc, *objects)
    with pytest.raises(DamagedDataError) as caught:
        read_voc(voc, CLASSES)
    assert f"{path}, {problem}" == str(caught.value)


def no_box(text: str) -> str:
    return text.replace("bndbox", "polygon")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("Annotations/a.xml", "<annotation><size>", "a.xml: cannot be read as XML"),
        ("Annotations/a.xml", None, "a.xml: cannot be read as XML"),
        ("Annotations/a.xml", "<annotation/>", "a.xml: has no size/width"),
        ("Annotations/a.xml", annotation(width=0), "a.xml: size/width is 0, not a number of pixels"),
        ("Annotations/a.xml", annotation(width=39), "a.xml: states 39×30 pixels, but the image has 40×30"),
        ("Annotations/a.xml", no_box(annotation(("cat", 1, 1, 5, 5))), "a.xml, row 0: has no bndbox/xmin"),
        ("JPEGImages/a.jpg", None, "a.jpg: cannot be read"),
        ("JPEGImages/a.jpg", "", "a.jpg: the image is missing"),
        ("JPEGImages/a.jpg", "GIF89a", "a.jpg: the image is neither JPEG nor PNG"),
        ("JPEGImages/a.jpg", "cut", "a.jpg: the image cannot be decoded"),
        ("ImageSets/Main/val.txt", "c\na\n", "val.txt: line 2: a stands in train.txt already"),
        ("ImageSets/Main/train.txt", "a\nb\nb\n", "train.txt: line 3: b stands in train.txt already"),
        ("ImageSets/Main/train.txt", "../a\n", "train.txt: line 1: '../a' is not the name of an image"),
        ("ImageSets/Main/train.txt", "", "train.txt: the file is empty"),
        ("ImageSets/Main/test.txt", "d\ne\n", "e.jpg: cannot be read (No such file or directory)"),
    ],
)
def test_damaged_files_are_named(voc: Path, name: str, content: str | None, problem: str) -> None:
    path = voc / name
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_text(content)
    with pytest.raises(DamagedDataError) as caught:
        read_voc(voc, CLASSES)
    assert problem in str(caught.value)


def located(folder: Path) -> LocatedDataSet:
    def load(where: Path) -> ObjectDetection:
        return read_voc(where, CLASSES)

    dataset = DataSet("pets", LocalizedText("Pets", "宠物"), "pets", "CC0", "", load, "set", FILES)
    return LocatedDataSet(dataset, folder, "DL_DATA_DIR")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "Annotations" / "a.xml").write_text(annotation(("dog", 1, 2, 3, 4))),
        lambda folder: write_image(folder / "JPEGImages" / "a.jpg", 40, 31),
        lambda folder: (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n"),
        lambda folder: (folder / "Annotations" / "e.xml").write_text(annotation()),
    ],
)
def test_fingerprint_follows_every_file(voc: Path, change: Callable[[Path], object]) -> None:
    before = located(voc).fingerprint()
    assert before == located(voc).fingerprint()
    change(voc)
    assert located(voc).fingerprint() != before


def test_contents_cover_images_boxes_and_labels(voc: Path) -> None:
    def contents() -> bytes:
        return b"".join(bytes(part) for part in read_voc(voc, CLASSES).contents())

    seen = {contents()}  # without an object
    for objects in (("cat", 1, 1, 5, 5), ("dog", 1, 1, 5, 5), ("dog", 1, 1, 5, 6)):
        write_objects(voc, objects)
        seen.add(contents())
    assert len(seen) == 4


def test_damage_comes_with_advice(voc: Path) -> None:
    (voc / "Annotations" / "b.xml").write_text("<annotation>")
    with pytest.raises(UserError, match=r"b\.xml: cannot be read as XML.*put a whole copy there"):
        located(voc).load()


@pytest.mark.real_data
def test_real_bccd() -> None:
    copy = data_set_or_skip("bccd")
    assert copy.describe() == "bccd (DL_DATA_DIR, 2 boxes without an area skipped)"
    data: ObjectDetection = copy.load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [205, 87, 72]
    names = sorted(Path(line.split(",")[0]).stem for line in data.skipped)
    assert names == ["BloodImage_00338", "BloodImage_00343"]
    samples = (*data.train, *data.validation, *data.test)
    labels = np.concatenate([sample.labels for sample in samples])
    assert np.bincount(labels).tolist() == [4153, 372, 361]
    boxes = np.concatenate([sample.boxes for sample in samples])
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [640, 480, 640, 480]).all()
    assert {sample.image.shape for sample in samples} == {(480, 640, 3)}
    assert f"{len(boxes):,} boxes" in DATA_SETS["bccd"].description


def test_image_is_rgb_whatever_the_file_holds(voc: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (40, 30), 90).save(buffer, "JPEG")
    (voc / "JPEGImages" / "a.jpg").write_bytes(buffer.getvalue())
    assert (read_voc(voc, CLASSES).train[1].image == 90).all()


def test_generated_cells_are_reproducible_and_their_boxes_are_tight() -> None:
    found, again, other = (cell_scenes.generate(train=6, validation=1, test=1, seed=seed) for seed in (0, 0, 1))
    assert list(found.contents()) == list(again.contents())
    assert list(found.contents()) != list(other.contents())
    assert {label for sample in found.train for label in sample.labels.tolist()} == {0, 1, 2}
    for sample in found.train:
        height, width = sample.image.shape[:2]
        assert len(sample.boxes) >= 6
        assert (sample.boxes[:, 2:] > sample.boxes[:, :2]).all()
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= [width, height, width, height]).all()
    canvas = np.zeros((cell_scenes.HEIGHT, cell_scenes.WIDTH, 3), np.float32)
    left, top, right, bottom = cell_scenes.draw_cell(canvas, cell_scenes.RED, 100, 90, np.random.default_rng(0))
    painted = np.argwhere(canvas.sum(2) > 1)  # rows and columns of the cell
    assert np.abs(painted.min(0) - [top, left]).max() <= 1
    assert np.abs(painted.max(0) + 1 - [bottom, right]).max() <= 1
