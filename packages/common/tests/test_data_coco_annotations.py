"""Folders in COCO's format: equal to pycocotools' reader, splits by file names, each kind of damage named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.data.detection_folder import read_detection_folder
from dlcommon.runtime.errors import UsageError
from dlcommon.testing.detection_folders import write_coco, write_picture, write_text
from pycocotools.coco import COCO

SPLITS = ("train", "val", "test")


def image(number: int, name: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": name, "width": 40, "height": 30, **more}


def box(number: int, image_id: int, category: int = 3, bbox: Any = (1, 2, 10, 12.5), **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": bbox, "iscrowd": 0, **more}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A folder as COCO's own: a JSON file for each split, pictures in folders of the splits."""
    for start, split in zip((10, 20, 30), SPLITS, strict=True):
        pictures = range(start, start + 4)
        for number in pictures:
            write_picture(tmp_path / f"{split}2017" / f"{number}.png")
        objects = [box(100 + number, number) for number in pictures] + [box(start, start, 7, [5, 5, 20, 20])]
        write_coco(
            tmp_path / f"annotations/instances_{split}2017.json",
            [image(number, f"{number}.png") for number in pictures],
            objects,
        )
        write_text(tmp_path / f"annotations/captions_{split}2017.json", '{"images": [], "annotations": []}')
    return tmp_path


def change(path: Path, **parts: list[Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **parts}))


def note(data: ObjectDetection, part: str) -> str:
    (found,) = (line for line in data.notes if part in line)
    return found


def test_every_box_is_that_of_pycocotools(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = coco / "annotations/instances_train2017.json"
    numbers = np.random.default_rng(0).uniform(1, 15, (12, 4)).round(2).tolist()
    objects = [box(row, 10 + row % 3, (3, 7)[row % 2], numbers[row], iscrowd=int(row == 5)) for row in range(12)]
    change(path, annotations=objects)
    data = read_detection_folder(coco)
    theirs = COCO(str(path))
    capsys.readouterr()
    ids = sorted(theirs.getCatIds())
    assert [category["name"] for category in theirs.loadCats(ids)] == list(data.classes) == ["cat", "dog"]
    assert len(data.train) == len(theirs.getImgIds()) == 4
    for sample in data.train:
        expected = theirs.loadAnns(theirs.getAnnIds(int(Path(sample.name).stem), iscrowd=False))
        corners = [(x, y, x + width, y + height) for x, y, width, height in (one["bbox"] for one in expected)]
        np.testing.assert_allclose(sample.boxes, np.array(corners).reshape(-1, 4), rtol=1e-6)
        assert [ids[label] for label in sample.labels] == [one["category_id"] for one in expected]
    assert "annotations[5] (id 5)" in note(data, "1 × row skipped: iscrowd")
    assert "train2017/13.png" in note(data, "1 × picture without objects")
    assert data.notes[0] == "COCO format, 2 classes (cat, dog); pictures: 4 train, 4 val, 4 test"


def test_a_file_for_each_split_beside_its_pictures(tmp_path: Path) -> None:
    """As Roboflow exports: the folder `valid`, and a category that only groups the others."""
    for split in ("train", "valid", "test"):
        write_picture(tmp_path / split / "1.jpg")
        categories = [{"id": 0, "name": "pets"}, {"id": 1, "name": "cat", "supercategory": "pets"}]
        write_coco(tmp_path / split / "_annotations.coco.json", [image(0, "1.jpg")], [box(0, 0, 1)], categories)
    data = read_detection_folder(tmp_path)
    assert [split[0].name for split in (data.train, data.validation, data.test)] == [
        "train/1.jpg",
        "valid/1.jpg",
        "test/1.jpg",
    ]
    assert data.classes == ("cat",)
    assert "'pets' only groups others" in note(data, "pets")


def test_one_file_alone_is_split_by_a_stated_rule(tmp_path: Path) -> None:
    for number in range(20):
        write_picture(tmp_path / "pictures" / f"{number}.png")
    images = [image(number, f"pictures/{number}.png") for number in range(20)]
    write_coco(tmp_path / "result.json", images, [box(number, number) for number in range(20)])
    data = read_detection_folder(tmp_path)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [16, 2, 2]
    assert "drawn at random (seed 0)" in note(data, "no splits")
    assert list(read_detection_folder(tmp_path / "result.json").contents()) == list(data.contents())


def test_without_a_test_split_val_is_tested_on(coco: Path) -> None:
    (coco / "annotations/instances_test2017.json").unlink()
    for number in range(40, 50):
        write_picture(coco / "train2017" / f"{number}.png")
    numbers = [*range(10, 14), *range(40, 50)]
    write_coco(
        coco / "annotations/instances_train2017.json",
        [image(number, f"{number}.png") for number in numbers],
        [box(number, number) for number in numbers],
    )
    data = read_detection_folder(coco)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [13, 1, 4]
    assert {Path(sample.name).parent.name for sample in data.test} == {"val2017"}
    assert {Path(sample.name).parent.name for sample in data.validation} == {"train2017"}
    assert "val is what the model is tested on" in note(data, "no test split")


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (box(5, 99), "no image has its image_id: {} (id 5) (99)"),
        (box(5, 10, 1), "no category has its category_id: {} (id 5) (1)"),
        (box(5, 10, bbox=[1, 2, 3]), "its bbox is not four numbers x, y, width, height: {} (id 5) ([1, 2, 3])"),
        (box(5, 10, bbox=[1, 2, 3, "4"]), "its bbox is not four numbers"),
        (box(5, 10, bbox=[1, float("nan"), 3, 4]), "its bbox is not four numbers"),
        (box(5, 10, bbox=[1, 2, float("inf"), 4]), "its bbox is not four numbers"),
        ({"image_id": 10, "category_id": 3}, "its bbox is not four numbers x, y, width, height: {} (None)"),
        ("text", "it is not an object with keys"),
        (box(5, 10, bbox=[1, 2, 0, 4]), "its box has no area: {} (id 5) (1, 2, 1, 6)"),
        (box(5, 10, bbox=[9, 2, -3, 4]), "its box has no area"),
        (box(5, 10, bbox=[50, 2, 5, 4]), "its box lies outside of the picture: {} (id 5) (50, 2, 55, 6)"),
    ],
)
def test_broken_annotations_are_named_and_skipped(coco: Path, annotation: Any, reason: str) -> None:
    path = coco / "annotations/instances_train2017.json"
    rows = json.loads(path.read_text())["annotations"]
    change(path, annotations=[*rows[:2], annotation, *rows[2:]])
    data = read_detection_folder(coco)
    assert sum(len(sample.boxes) for sample in data.train) == 5
    where = "annotations/instances_train2017.json, annotations[2]"
    assert reason.format(where) in note(data, "1 × row skipped: ")
    assert where in note(data, "1 × row skipped: ")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"file_name": "x.png"}, "it has no id or no file_name"),
        (image(10, "11.png"), "its id is that of an image before"),
        (image(50, "none.png"), "there is no picture of its file_name"),
        (image(50, "../../../../secret.png"), "its file_name leads outside of the folder"),
        (image(50, "/etc/passwd"), "its file_name leads outside of the folder"),
        (image(50, "https://example.com/a.png"), "its file_name leads outside of the folder"),
        (image(50, "broken.png"), "this is not an image in PNG, JPEG, WebP, GIF or BMP"),
        (image(50, "small.png", width=5, height=30), "smaller than 10×10 pixels"),
        (image(50, "other.png", width=50), "its annotation states 50×30 pixels, but it has 40×30"),
        (image(50, "same.png"), "several pictures have its file_name"),
    ],
)
def test_pictures_that_cannot_be_used_are_named(tmp_path: Path, coco: Path, entry: Any, reason: str) -> None:
    write_picture(tmp_path.parent.parent / "secret.png")
    write_text(coco / "train2017/broken.png", "no picture")
    write_picture(coco / "train2017/small.png", (5, 30))
    write_picture(coco / "train2017/other.png")
    write_picture(coco / "a/same.png")
    write_picture(coco / "b/same.png")
    path = coco / "annotations/instances_train2017.json"
    change(path, images=[*json.loads(path.read_text())["images"], entry])
    data = read_detection_folder(coco)
    assert len(data.train) == 4
    assert note(data, "1 × picture skipped: ").startswith(f"1 × picture skipped: {reason}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"images": [], "annotations": []}', "holds no list 'categories'"),
        ('{"images": [], "annotations": {}, "categories": []}', "holds no list 'annotations'"),
        ('{"images": [], "annotations": [], "categories": [{"id": "1", "name": "cat"}]}', "categories[0]: needs an id"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "categories[1]: its id or name (1, 'b') is there before",
        ),
    ],
)
def test_files_that_cannot_be_used(coco: Path, content: str, message: str) -> None:
    write_text(coco / "annotations/instances_train2017.json", content)
    with pytest.raises(UsageError) as caught:
        read_detection_folder(coco)
    assert message in str(caught.value)
    assert "instances_train2017.json" in str(caught.value)


def test_a_picture_in_two_splits_is_an_error(coco: Path) -> None:
    path = coco / "annotations/instances_val2017.json"
    change(path, images=[*json.loads(path.read_text())["images"], image(50, "train2017/10.png")])
    with pytest.raises(
        UsageError, match=r"train2017/10\.png is named in train and again in val; every picture belongs"
    ):
        read_detection_folder(coco)


def test_too_many_missing_pictures_are_an_error(coco: Path) -> None:
    for number in range(10, 13):
        (coco / f"train2017/{number}.png").unlink()
    with pytest.raises(UsageError, match="3 of 12 pictures are unusable, more than 20%"):
        read_detection_folder(coco)
