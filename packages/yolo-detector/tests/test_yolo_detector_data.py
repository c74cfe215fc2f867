"""The user's own pictures with boxes: read as a data set, shrunk to what the network sees, faults named on stderr."""

from pathlib import Path

import pytest
from dlcommon.runtime.errors import UsageError
from dlcommon.testing.detection_folders import voc_text, write_coco, write_picture, write_text, write_yolo
from yolo_detector.config import Config
from yolo_detector.data import own_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_yolo(tmp_path / "my [1] pets")


def test_a_folder_is_a_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    assert located.name == "my-1-pets"
    assert located.describe() == "my-1-pets (file)"
    assert located.dataset.description == "the user's own pictures with boxes, in YOLO format"
    assert len(located.files()) == 9 + 9 + 1  # pictures, labels, data.yaml
    data = located.load()
    assert [len(split) for split in (data.train, data.validation, data.test)] == [3, 3, 3]
    assert data.classes == ("cat", "dog")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "my [1] pets: YOLO format, 2 classes (cat, dog); pictures: 3 train, 3 val, 3 test\n"
    again = own_data(Config(data_folder=str(folder)))
    assert again is not None
    assert again.load() is data  # training and evaluation in one process decode once
    assert own_data(Config()) is None


@pytest.mark.parametrize("name", ["labels/train/train0.txt", "images/train/train0.png", "data.yaml"])
def test_the_fingerprint_follows_every_file(folder: Path, name: str) -> None:
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    before = located.fingerprint()
    with (folder / name).open("a") as file:
        file.write("\n# more")
    assert located.fingerprint() != before


def test_a_picture_that_is_moved_to_another_split_changes_the_fingerprint(folder: Path) -> None:
    prints = []
    for move in (False, True):
        if move:
            (folder / "images/val/val0.png").rename(folder / "images/train/val0.png")
            (folder / "labels/val/val0.txt").rename(folder / "labels/train/val0.txt")
        located = own_data(Config(data_folder=str(folder)))
        assert located is not None
        prints.append(located.fingerprint())
    assert prints[0] != prints[1]


def test_large_pictures_are_shrunk_to_the_side_that_training_keeps(folder: Path) -> None:
    write_picture(folder / "images/train/train0.png", (960, 720))
    located = own_data(Config(data_folder=str(folder), image_size=320))
    assert located is not None
    sample = located.load().train[0]
    assert sample.image.shape == (360, 480, 3)
    assert sample.boxes.tolist() == [[0, 90, 240, 270], [300, 0, 420, 360]]


def test_broken_rows_are_named_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(folder / "labels/train/train0.txt", "0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n")
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    assert len(located.load().train[0].boxes) == 1
    said = "1 × row skipped: the class is not one of 0 to 1: labels/train/train0.txt, line 2 (7)"
    assert f"my [1] pets: {said}\n" in capsys.readouterr().err


def test_coco_and_voc(tmp_path: Path) -> None:
    boxes = [{"id": number, "image_id": number, "category_id": 3, "bbox": [1, 2, 10, 10]} for number in range(10)]
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(10)]
    for number in range(10):
        write_picture(tmp_path / f"coco/{number}.png")
        write_picture(tmp_path / f"voc/{number}.png")
        write_text(tmp_path / f"voc/{number}.xml", voc_text([("cat", 1, 2, 11, 12)]))
    path = write_coco(tmp_path / "coco/annotations.json", images, boxes)
    for source, classes in ((tmp_path / "coco", ("cat", "dog")), (path, ("cat", "dog")), (tmp_path / "voc", ("cat",))):
        located = own_data(Config(data_folder=str(source)))
        assert located is not None
        assert located.path == (path.parent if source == path else source)
        data = located.load()
        assert data.classes == classes
        assert len(data.train) == 8
        assert data.train[0].boxes.tolist() == [[1, 2, 11, 12]]


def test_what_cannot_be_used_is_an_error_of_usage(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--data-folder .*none: there is no such folder"):
        own_data(Config(data_folder=str(tmp_path / "none")))
    with pytest.raises(UsageError, match=r"--data-folder .*holds no annotations in a format that is known here"):
        own_data(Config(data_folder=str(folder / "images")))
    located = own_data(Config(data_folder=str(folder)))
    assert located is not None
    for picture in folder.glob("images/train/*"):
        picture.write_bytes(b"")
    with pytest.raises(UsageError, match=r"--data-folder .*: 3 of 9 pictures are unusable"):
        located.load()
