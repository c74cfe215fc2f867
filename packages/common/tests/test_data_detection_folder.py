"""Detection folders of any format: formats told apart, VOC without lists, rotated and large pictures, leaks."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.data.annotated_decoding import TURNS
from dlcommon.runtime.data.annotated_pictures import path_inside, split_in
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.data.detection_folder import list_folder, read_detection_folder
from dlcommon.runtime.data.fingerprint import fingerprint
from dlcommon.runtime.data.picture_folder import patterns_of, picture_files
from dlcommon.runtime.errors import UsageError
from dlcommon.testing.detection_folders import voc_text, write_coco, write_picture, write_text, write_yolo
from dlcommon.testing.skips import data_set_or_skip
from PIL import Image, ImageOps

PET = ("cat", 1, 2, 10.5, 12)


def write_voc(folder: Path, names: list[str], pictures: str = "", annotations: str = "") -> Path:
    for name in names:
        write_picture(folder / pictures / f"{name}.png")
        write_text(folder / annotations / f"{name}.xml", voc_text([PET, ("dog", 5, 5, 15, 9)]))
    return folder


def note(data: ObjectDetection, part: str) -> str:
    (found,) = (line for line in data.notes if part in line)
    return found


def names(data: ObjectDetection) -> list[set[str]]:
    return [{Path(sample.name).stem for sample in split} for split in (data.train, data.validation, data.test)]


@pytest.mark.parametrize(("pictures", "annotations"), [("", ""), ("images", "Annotations"), ("JPEGImages", "xml")])
def test_voc_without_lists(tmp_path: Path, pictures: str, annotations: str) -> None:
    data = read_detection_folder(write_voc(tmp_path, [f"{number}" for number in range(10)], pictures, annotations))
    assert [len(split) for split in names(data)] == [8, 1, 1]
    assert data.classes == ("cat", "dog")
    assert data.train[0].boxes.tolist() == [[1, 2, 10.5, 12], [5, 5, 15, 9]]
    assert data.train[0].labels.tolist() == [0, 1]
    assert data.notes[0] == "VOC format, 2 classes (cat, dog); pictures: 8 train, 1 val, 1 test"


@pytest.mark.parametrize("form", ["{0}", "images/{0}", "{0}/images"])
def test_voc_in_folders_of_splits(tmp_path: Path, form: str) -> None:
    """The names are the same in all splits: a picture belongs to the annotation in the folder of its own split."""
    for split in ("train", "valid", "test"):
        place = form.format(split)
        write_voc(tmp_path, ["1", "2"], place, place.replace("images", "Annotations"))
    write_voc(tmp_path, ["3"])
    data = read_detection_folder(tmp_path)
    assert names(data) == [{"1", "2"}] * 3
    assert note(data, "1 × picture left out: it lies in none of the folders of the splits").endswith(": 3.png")


def test_voc_with_some_lists(tmp_path: Path) -> None:
    write_voc(tmp_path, [f"{number}" for number in range(14)], "JPEGImages", "Annotations")
    write_text(tmp_path / "ImageSets/Main/train.txt", "\n".join(map(str, range(10))))
    write_text(tmp_path / "ImageSets/Main/val.txt", "10\n11\n12\nnone")
    data = read_detection_folder(tmp_path)
    assert [len(split) for split in names(data)] == [9, 1, 3]
    assert names(data)[2] == {"10", "11", "12"}
    assert "JPEGImages/13.png" in note(data, "no list of ImageSets/Main names it")
    assert "none of ImageSets/Main/val.txt" in note(data, "it is listed, but")
    write_text(tmp_path / "ImageSets/Main/val.txt", "10\n9")
    with pytest.raises(UsageError, match=r"val\.txt: line 2: 9 stands in train\.txt already"):
        read_detection_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            voc_text([PET, ("cat", 1, 1, "five", 5)]),
            "row skipped: its box is not four numbers: 0.xml, row 1 (bndbox/xm",
        ),
        (voc_text([PET, ("cat", 1, 1, "nan", 5)]), "row skipped: its box is not four numbers: 0.xml, row 1"),
        (voc_text([PET, ("", 1, 1, 5, 5)]), "row skipped: it names no class: 0.xml, row 1"),
        (voc_text([PET, ("cat", 3, 3, 3, 9)]), "row skipped: its box has no area: 0.xml, row 1 (3, 3, 3, 9)"),
        (voc_text([PET, ("cat", 50, 3, 60, 9)]), "row skipped: its box lies outside of the picture: 0.xml, row 1 (50"),
        (voc_text([PET, ("cat", 3, 3, 60, 9)]), "box cut off at the border of its picture: 0.xml, row 1 (3, 3, 60, 9)"),
        (
            voc_text([PET], size=(50, 30)),
            "picture skipped: its annotation states 50×30 pixels, but it has 40×30: 0.png",
        ),
        (voc_text([PET], size=(0, 0)), None),
        ("<annotation><size>", "picture skipped: its annotation file cannot be read as XML: 0.xml ("),
        (voc_text([]), "picture without objects: 0.png"),
        (None, "picture without an annotation file, left out: 0.png"),
    ],
)
def test_damage_in_voc_is_named(tmp_path: Path, text: str | None, said: str | None) -> None:
    write_voc(tmp_path, [f"{number}" for number in range(12)])
    path = tmp_path / "0.xml"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    data = read_detection_folder(tmp_path)
    assert [line[:40] for line in data.notes[2:]] == ([f"1 × {said}"[:40]] if said else [])
    assert said is None or f"1 × {said}" in data.notes[2]
    everything = (*data.train, *data.validation, *data.test)
    sizes = {Path(sample.name).stem: len(sample.boxes) for sample in everything}
    kept = text is not None and "picture skipped" not in (said or "")
    assert ("0" in sizes) == kept
    if kept:
        assert sizes["0"] == (2 if said and "cut off" in said else 0 if said and "without objects" in said else 1)


def test_two_annotations_of_a_picture_are_an_error(tmp_path: Path) -> None:
    write_voc(tmp_path, ["1", "2"], "images", "Annotations")
    write_text(tmp_path / "old/1.xml", voc_text([PET]))
    with pytest.raises(UsageError, match=r"two annotation files are of images/1\.png, one of them old/1\.xml"):
        read_detection_folder(tmp_path)


def test_a_folder_in_no_format_or_several(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        read_detection_folder(tmp_path / "none")
    write_picture(tmp_path / "a.png")
    write_text(tmp_path / "notes.json", '{"categories": []}')
    write_text(tmp_path / "settings.yaml", "a: b")
    with pytest.raises(UsageError) as caught:
        read_detection_folder(tmp_path)
    for part in ("no annotations in a format that is known here", "data.yaml", "instances_train.json", "a.xml"):
        assert part in str(caught.value)
    write_yolo(tmp_path)
    write_coco(tmp_path / "result.json", [], [])
    write_text(tmp_path / "a.xml", voc_text([]))
    with pytest.raises(UsageError) as caught:
        read_detection_folder(tmp_path)
    assert "in more than one format: YOLO (data.yaml), COCO (result.json), VOC (a.xml); move those" in str(caught.value)
    assert list_folder(tmp_path / "data.yaml")[0].format == "YOLO"  # the file itself says which is meant
    write_text(tmp_path / "other.yaml", "names: [cat]")
    for path in (tmp_path / "result.json", tmp_path / "a.xml"):
        path.unlink()
    with pytest.raises(UsageError, match=r"several YAML files of data sets \(data\.yaml, other\.yaml\); name the one"):
        read_detection_folder(tmp_path)
    with pytest.raises(UsageError, match=r"a\.png is a file; name a folder, or a \.yaml or \.json file"):
        read_detection_folder(tmp_path / "a.png")


def painted(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return pixels


def seen_box(image: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(image[..., 0] > 128)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(("orientation", "before"), [*((o, False) for o in range(1, 9)), *((o, True) for o in TURNS)])
def test_boxes_of_rotated_pictures(tmp_path: Path, orientation: int, before: bool) -> None:
    """A box is where it was drawn: on the picture as shown, or, by the size that is stated, on the stored one."""
    write_voc(tmp_path, [f"{number}" for number in range(9)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = (5, 3, 17, 9)
    Image.fromarray(painted((40, 30), stored)).save(tmp_path / "0.png", exif=exif)
    with Image.open(tmp_path / "0.png") as opened:
        upright = ImageOps.exif_transpose(opened)
    edges, size = (stored, (40, 30)) if before else (seen_box(np.array(upright)), upright.size)
    write_text(tmp_path / "0.xml", voc_text([("cat", *edges)], size))
    data = read_detection_folder(tmp_path)
    (sample,) = (one for one in (*data.train, *data.validation, *data.test) if one.name == "0.png")
    assert sample.image.shape == (upright.height, upright.width, 3)
    assert sample.boxes.tolist() == [seen_box(sample.image)]
    assert any("turned with the picture" in line for line in data.notes) == before


def test_large_pictures_are_shrunk_with_their_boxes(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    pixels = painted((400, 300), (0, 75, 200, 225))
    Image.fromarray(pixels).save(tmp_path / "images/train/train0.png")
    data = read_detection_folder(tmp_path, longest_side=100)
    assert data.train[0].image.shape == (75, 100, 3)
    np.testing.assert_allclose(data.train[0].boxes, [[0, 18.75, 50, 56.25], [62.5, 0, 87.5, 75]])
    assert np.abs(np.array(seen_box(data.train[0].image)) - data.train[0].boxes[0]).max() < 1
    assert data.train[1].image.shape == (30, 40, 3)  # never enlarged
    assert data.train[0].boxes.dtype == np.float32


def test_a_very_long_picture_is_skipped_and_a_long_one_is_not(tmp_path: Path) -> None:
    write_yolo(tmp_path, per_split=5)
    write_picture(tmp_path / "images/train/train0.png", (1000, 1))
    write_picture(tmp_path / "images/train/train1.png", (1000, 10))
    data = read_detection_folder(tmp_path, longest_side=20)
    assert note(data, "smaller than 10×10 pixels").endswith(": images/train/train0.png")
    assert data.train[0].image.shape == (1, 20, 3)


def test_broken_pictures_are_named_and_those_of_other_kinds_counted(tmp_path: Path) -> None:
    write_yolo(tmp_path, per_split=5)
    path = tmp_path / "images/train/train0.png"
    path.write_bytes(path.read_bytes()[:500])
    write_text(tmp_path / "images/train/extra.tif", "II*")
    write_text(tmp_path / "images/train/._train1.png", "what macOS puts into archives")
    data = read_detection_folder(tmp_path)
    assert names(data)[0] == {"train1", "train2", "train3", "train4"}
    assert note(data, "damaged or cut off") == (
        "1 × picture skipped: the image is damaged or cut off: images/train/train0.png"
    )
    assert "images/train/extra.tif" in note(data, "convert it to PNG or JPEG")
    for picture in (tmp_path / "images/train").glob("train*.png"):
        picture.write_bytes(b"")
    with pytest.raises(UsageError, match="5 of 15 pictures are unusable, more than 20%"):
        read_detection_folder(tmp_path)


def test_copies_in_two_stated_splits_are_an_error_and_by_chance_are_left_out(tmp_path: Path) -> None:
    write_yolo(tmp_path, per_split=20)
    images, labels = tmp_path / "images", tmp_path / "labels"
    shutil.copy(images / "train/train0.png", images / "train/again.png")
    shutil.copy(labels / "train/train0.txt", labels / "train/again.txt")
    assert "again" in names(read_detection_folder(tmp_path))[0]  # within a split, nothing leaks
    shutil.copy(images / "train/train0.png", images / "val/val0.png")
    with pytest.raises(UsageError, match=r"byte for byte the same.*images/train/again\.png and images/val/val0\.png"):
        read_detection_folder(tmp_path)
    path = tmp_path / "data.yaml"
    path.write_text("train: [images/train, images/val, images/test]\nnames: [cat, dog]")
    for number in range(5):  # enough of them that the drawing puts some into two splits
        shutil.copy(images / f"train/train{number}.png", images / f"test/test{number}.png")
    data = read_detection_folder(tmp_path)
    seen = [{sample.image.tobytes() for sample in split} for split in (data.train, data.validation, data.test)]
    assert not seen[0] & seen[1]
    assert not seen[2] & (seen[0] | seen[1])
    assert note(data, "its copy, byte for byte, is in train")


def test_a_split_that_loses_all_its_pictures_is_an_error(tmp_path: Path) -> None:
    write_yolo(tmp_path, per_split=1)
    for number in range(1, 9):
        write_picture(tmp_path / f"images/train/{number}.png")
    (tmp_path / "images/test/test0.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"no usable picture is left for test, of 11 pictures; add some"):
        read_detection_folder(tmp_path)


def test_no_box_to_learn_from_is_an_error(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for path in (tmp_path / "labels/train").glob("*.txt"):
        path.write_text("")
    with pytest.raises(UsageError, match="no picture to train on has a box"):
        read_detection_folder(tmp_path)


def test_many_places_are_counted_not_listed(tmp_path: Path) -> None:
    write_yolo(tmp_path, per_split=20)
    for number in range(9):
        write_text(tmp_path / f"labels/train/train{number}.txt", "0 0.5 0.5 0.5 0.5\n9 0.5 0.5 0.5 0.5")
    data = read_detection_folder(tmp_path)
    said = note(data, "row skipped: the class is not one of 0 to 1")
    assert said.startswith("9 × ")
    assert said.endswith("labels/train/train4.txt, line 2 (9) …") or said.count("labels/") == 5
    assert len(data.skipped) == 9


@pytest.mark.parametrize(
    ("stated", "inside"),
    [
        ("images/a.png", "images/a.png"),
        ("./images/../b.png", "b.png"),
        ("images\\a.png", "images/a.png"),
        (".", "."),
        ("..", None),
        ("../x.png", None),
        ("images/../../x.png", None),
        ("/etc/passwd", None),
        ("\\\\server\\share", None),
        ("C:/x.png", None),
        ("file:///etc/passwd", None),
        ("a\0b", None),
        ("", None),
    ],
)
def test_paths_stay_inside(tmp_path: Path, stated: str, inside: str | None) -> None:
    assert path_inside(stated, tmp_path, tmp_path) == (None if inside is None else tmp_path / inside)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_train2017", "train"),
        ("valid", "val"),
        ("Validation", "val"),
        ("val_set", "val"),
        ("test-dev", "test"),
        ("trainval", None),
        ("contest", None),
        ("train_test", None),
        ("result", None),
    ],
)
def test_splits_are_told_by_words(name: str, split: str | None) -> None:
    assert split_in(name) == split


def test_the_fingerprint_follows_names(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path / "my [1] pets")
    patterns = patterns_of([folder / path for path in picture_files(folder)], folder)
    assert patterns == ("images/test/*.png", "images/train/*.png", "images/val/*.png")
    before = fingerprint(folder, patterns)
    (folder / "images/val/val0.png").rename(folder / "images/train/val0.png")
    assert fingerprint(folder, patterns) != before


def test_names_in_another_encoding(tmp_path: Path) -> None:
    """As from an archive that was packed on a Chinese Windows: the bytes of the names are no UTF-8."""
    folder = write_yolo(tmp_path)
    name = os.fsdecode("照片".encode("gbk"))
    (folder / "images/train/train0.png").rename(folder / f"images/train/{name}.png")
    (folder / "labels/train/train0.txt").rename(folder / f"labels/train/{name}.txt")
    data = read_detection_folder(folder)
    assert len(data.train[-1].boxes) == 2
    assert "\ufffd" in data.train[-1].name
    assert b"".join(bytes(part) for part in data.contents())
    patterns = patterns_of([folder / path for path in picture_files(folder)], folder)
    assert len(fingerprint(folder, patterns)) == 64


@pytest.mark.real_data
def test_bccd_is_what_the_registry_reads() -> None:
    located = data_set_or_skip("bccd")
    assert located.path is not None
    expected: ObjectDetection = located.load()
    data = read_detection_folder(located.path)
    assert data.classes == tuple(sorted(expected.classes))
    for mine, theirs in (
        (data.train, expected.train),
        (data.validation, expected.validation),
        (data.test, expected.test),
    ):
        assert [sample.name for sample in mine] == [f"JPEGImages/{sample.name}.jpg" for sample in theirs]
        for one, other in zip(mine, theirs, strict=True):
            assert np.array_equal(one.image, other.image)
            assert np.array_equal(one.boxes, other.boxes)
            assert [data.classes[label] for label in one.labels] == [expected.classes[label] for label in other.labels]
    assert len(data.skipped) == len(expected.skipped) == 2
