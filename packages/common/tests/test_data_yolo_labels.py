"""Folders in YOLO's layout: paths and classes, rows equal to ultralytics' reader, each kind of damage named."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dlcommon.runtime.data.annotated_pictures import Findings
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.data.detection_folder import read_detection_folder
from dlcommon.runtime.data.yolo_labels import read_labels
from dlcommon.runtime.errors import UsageError
from dlcommon.testing.detection_folders import write_picture, write_text, write_yolo
from dlcommon.testing.ultralytics_import import ultralytics_settings


@pytest.fixture(scope="module")
def verify_image_label(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Ultralytics' reader of one picture and its label file."""
    with ultralytics_settings(tmp_path_factory.mktemp("ultralytics")):
        from ultralytics.data.utils import verify_image_label

        yield verify_image_label


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_yolo(tmp_path / "pets")


def names(data: ObjectDetection) -> list[list[str]]:
    return [[sample.name for sample in split] for split in (data.train, data.validation, data.test)]


def note(data: ObjectDetection, part: str) -> str:
    (found,) = (line for line in data.notes if part in line)
    return found


def test_pictures_boxes_and_classes(folder: Path) -> None:
    data = read_detection_folder(folder)
    assert data.classes == ("cat", "dog")
    assert names(data)[1:] == [
        [f"images/val/val{number}.png" for number in range(3)],
        [f"images/test/test{number}.png" for number in range(3)],
    ]
    assert data.train[0].image.shape == (30, 40, 3)
    assert data.train[0].boxes.tolist() == [[0, 7.5, 20, 22.5], [25, 0, 35, 30]]
    assert data.train[0].labels.tolist() == [0, 1]
    assert data.skipped == ()
    assert data.notes == ("YOLO format, 2 classes (cat, dog); pictures: 3 train, 3 val, 3 test",)


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images/train\nval: images/val\ntest: images/test\nnames: {1: dog, 0: cat}",
        "path: .\ntrain: [images/train]\nval: images/val/\ntest: ./images/test\nnc: 2\nnames:\n  0: cat\n  1: dog",
        "train: ../images/train\nval: ../images/val\ntest: ../images/test\nnc: 2\nnames: ['cat', 'dog']",  # Roboflow's
        "train: train.txt\nval: val.txt\ntest: images/test\nnames: [cat, dog]",
        "path: /home/somebody/pets\ntrain: images/train\nvalidation: images/val\ntest: images/test\nnames: [cat, dog]",
        "train: {root}/images/train\nval: images\\val\ntest: images/test\nnames: [cat, dog]",
    ],
)
def test_every_way_to_write_the_yaml(folder: Path, yaml: str) -> None:
    expected = read_detection_folder(folder)
    write_text(folder / "train.txt", "".join(f"./images/train/train{number}.png\n" for number in range(3)))
    write_text(folder / "val.txt", "".join(f"images/val/val{number}.png\n" for number in range(3)))
    write_text(folder / "data.yaml", yaml.replace("{root}", str(folder)))
    data = read_detection_folder(folder)
    assert list(data.contents()) == list(expected.contents())
    assert ("is not a folder inside" in " ".join(data.notes)) == ("/home/somebody" in yaml)


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt", "obj.names"])
def test_without_yaml_classes_come_from_a_list(folder: Path, place: str) -> None:
    expected = read_detection_folder(folder)
    (folder / "data.yaml").unlink()
    write_text(folder / place, "cat\ndog\n")
    assert list(read_detection_folder(folder).contents()) == list(expected.contents())


def test_labels_beside_pictures(tmp_path: Path) -> None:
    write_text(tmp_path / "classes.txt", "cat")
    for number in range(10):
        write_picture(tmp_path / f"{number}.png")
        write_text(tmp_path / f"{number}.txt", "0 0.5 0.5 0.5 0.5")
    data = read_detection_folder(tmp_path)
    assert [len(split) for split in names(data)] == [8, 1, 1]
    assert "80 % train, 10 % val and 10 % test, drawn at random (seed 0)" in note(data, "no splits")
    assert names(data) == names(read_detection_folder(tmp_path))


ROWS = [
    ("0 0.5 0.5 0.5", "neither 5 columns", "(4 columns)"),
    ("0 0.5 0.5 0.5 0.5 0.9", "neither 5 columns", "(6 columns; with a confidence it is a prediction, no label)"),
    ("0 0.1 0.1 0.5 0.5 0.9 0.9 0.3", "neither 5 columns", "(8 columns)"),
    ("2 0.5 0.5 0.5 0.5", "the class is not one of 0 to 1", "(2)"),
    ("-1 0.5 0.5 0.5 0.5", "the class is not one of 0 to 1", "(-1)"),
    ("0.5 0.5 0.5 0.5 0.5", "the class is not one of 0 to 1", "(0.5)"),
    ("cat 0.5 0.5 0.5 0.5", "not all of it is numbers", "('cat 0.5 0.5 0.5 0.5')"),
    ("0 nan 0.5 0.5 0.5", "not all of it is numbers", "('0 nan 0.5 0.5 0.5')"),
    ("0 0.5 inf 0.5 0.5", "not all of it is numbers", "('0 0.5 inf 0.5 0.5')"),
    ("0 0,5 0.5 0.5 0.5", "not all of it is numbers", "('0 0,5 0.5 0.5 0.5')"),
    ("0 20 15 20 15", "a number outside of 0 to 1", "(20)"),
    ("0 0.5 0.5 -0.5 0.5", "a number outside of 0 to 1", "(-0.5)"),
    ("0 0.5 0.5 0 0.5", "its box has no area", "(0.5, 0.25, 0.5, 0.75)"),
    ("0 0.5 0.5 0.004 0.5\n0 0.5 0.5 0.004 0.5", "the same row again", "(as line 2)"),
]


@pytest.mark.parametrize(("row", "reason", "shown"), ROWS)
def test_broken_rows_are_named_and_skipped(folder: Path, row: str, reason: str, shown: str) -> None:
    write_text(folder / "labels/train/train1.txt", f"0 0.5 0.5 0.1 0.1\n{row}\n\n1 0.5 0.5 0.2 0.2\n")
    data = read_detection_folder(folder)
    assert len(data.train[1].boxes) == (2 if "\n" not in row else 3)
    line = 3 if "\n" in row else 2
    said = note(data, f"row skipped: {reason}")
    assert said.startswith("1 × ")
    assert f"labels/train/train1.txt, line {line} " in said
    assert shown in said
    assert len(data.skipped) == 1


def test_a_box_beyond_the_border_is_clipped_and_one_outside_skipped(folder: Path) -> None:
    rows = "0 0 0.5 0.5 0.5\n1 1.01 0.5 0.01 0.5\n0 0.5 0.5 1.005 0.5\n"
    write_text(folder / "labels/train/train0.txt", rows)
    data = read_detection_folder(folder)
    assert data.train[0].boxes.tolist() == [[0, 7.5, 10, 22.5], [0, 7.5, 40, 22.5]]
    assert note(data, "cut off").startswith(
        "1 × box cut off at the border of its picture: labels/train/train0.txt, line 1"
    )
    assert "labels/train/train0.txt, line 2" in note(data, "row skipped: its box lies outside of the picture")


def test_pictures_without_objects_are_counted(folder: Path) -> None:
    write_text(folder / "labels/train/train0.txt", "")
    (folder / "labels/train/train1.txt").unlink()
    write_text(folder / "labels/train/nobody.txt", "0 0.5 0.5 0.5 0.5")
    data = read_detection_folder(folder)
    assert [sample.boxes.shape for sample in data.train] == [(0, 4), (0, 4), (2, 4)]
    assert "labels/train/train0.txt" in note(data, "1 × picture with an empty label file")
    assert "images/train/train1.png" in note(data, "1 × picture without a label file")
    assert "labels/train/nobody.txt" in note(data, "1 × label file without a picture")


@pytest.mark.parametrize("content", [b"\xff\xfe0\x00", b"0 0.5\0", b"\x81\x8d\xff 0.5"])
def test_a_label_file_that_is_no_text_costs_its_picture(folder: Path, content: bytes) -> None:
    (folder / "labels/train/train0.txt").write_bytes(content)
    data = read_detection_folder(folder)
    assert len(data.train) == 2
    assert "labels/train/train0.txt" in note(data, "1 × picture skipped: its label file is not text")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names: [cat, dog]": "names: [cat, dog"}, "is not valid YAML"),
        ({"names: [cat, dog]": "names: [cat, cat]"}, "the classes 0 and 1 are both called 'cat'"),
        ({"names: [cat, dog]": "names: [cat, '']"}, "the name of class 1 is empty"),
        ({"names: [cat, dog]": "names: []"}, "no class is named"),
        ({"names: [cat, dog]": "names: cat"}, "names must list the classes"),
        ({"names: [cat, dog]": "names: {0: cat, 2: dog}"}, "from 0 to 1 without a gap"),
        ({"names: [cat, dog]": "names: {a: cat, b: dog}"}, "must be numbers from 0, not a, b"),
        ({"names: [cat, dog]": "nc: 999999999999"}, "names must list the classes"),
        ({"names: [cat, dog]": "names: [cat, [dog]]"}, "the name of a class is list, not text"),
        ({"names: [cat, dog]": "names: [cat, dog]\nnc: 3"}, "nc is 3, but names holds 2"),
        ({"images/train": "images/none"}, "`train: images/none`: there is no "),
        ({"images/train": "7"}, "train must be a folder or a list of folders, not 7"),
        ({"images/train": "/etc"}, "`train: /etc` leads outside of "),
        ({"images/train": "../../etc"}, "`train: ../../etc` leads outside of "),
        ({"images/train": "https://example.com/a.zip"}, "leads outside of "),
        ({"images/train": "C:\\pictures"}, "leads outside of "),
        ({"images/val": "images/train"}, "is named in train and again in val; every picture belongs to one split"),
        ({"names: [cat, dog]": "names: !!python/object/apply:os.getcwd []"}, "is not valid YAML"),
    ],
)
def test_yaml_files_that_cannot_be_used(folder: Path, change: dict[str, str], message: str) -> None:
    path = folder / "data.yaml"
    for before, after in change.items():
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(UsageError) as caught:
        read_detection_folder(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)


def test_aliases_do_not_grow(folder: Path) -> None:
    """A few lines that would print as 10 to the power of 12 words."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        bomb += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"
    for use in ("names: *a11", "names: [cat]\ntrain: *a11", "names: [cat]\nnc: *a11", "names: [cat]\nkpt_shape: *a11"):
        write_text(folder / "data.yaml", bomb + use)
        with pytest.raises(UsageError) as caught:
            read_detection_folder(folder)
        assert len(str(caught.value)) < 500


def test_scripts_of_the_yaml_are_never_run(folder: Path, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    with (folder / "data.yaml").open("a") as file:
        file.write(f"download: |\n  from pathlib import Path\n  Path({str(harm)!r}).touch()\n")
    (folder / "images/train.cache").write_bytes(b"\x80\x04\x95")  # a pickle, as ultralytics leaves them
    data = read_detection_folder(folder)
    assert note(data, "download") == "data.yaml: `download:` is ignored; nothing is fetched or run"
    assert not harm.exists()


def test_a_list_that_leads_outside_is_not_followed(folder: Path, tmp_path: Path) -> None:
    write_picture(tmp_path / "secret.png")
    lines = [f"./images/train/train{number}.png" for number in range(3)]
    write_text(folder / "train.txt", "\n".join([*lines, "../secret.png", "images/train/none.png"]))
    path = folder / "data.yaml"
    path.write_text(path.read_text().replace("images/train", "train.txt"))
    data = read_detection_folder(folder)
    assert len(data.train) == 3
    assert "train.txt, line 4" in note(data, "1 × picture skipped: its path leads outside of the folder")
    assert "images/train/none.png" in note(data, "1 × picture skipped: it cannot be read (No such file")


def test_too_many_broken_rows_are_an_error(folder: Path) -> None:
    for number in range(3):
        write_text(folder / f"labels/train/train{number}.txt", "0 0.5 0.5 0.5 0.5\n0 20 15 20 15\n0 10 15 20 15")
    with pytest.raises(UsageError) as caught:
        read_detection_folder(folder)
    assert "6 of 21 rows are unusable, more than 20%" in str(caught.value)
    assert "labels/train/train0.txt, line 2 (20): a number outside of 0 to 1" in str(caught.value)


def test_no_label_file_at_all_is_an_error(folder: Path) -> None:
    for path in folder.rglob("*.txt"):
        path.unlink()
    with pytest.raises(
        UsageError, match=r"none of its 9 pictures has a label file; the labels of images/a\.jpg belong"
    ):
        read_detection_folder(folder)


def test_no_class_names_at_all_is_an_error(folder: Path) -> None:
    (folder / "data.yaml").unlink()
    with pytest.raises(UsageError, match=r"nothing names their classes; write a data\.yaml, or a classes\.txt"):
        read_detection_folder(folder)


@pytest.mark.parametrize(
    "rows",
    [
        "0 0.25 0.5 0.5 0.5\n1 0.75 0.5 0.25 1\n",
        "\ufeff1 0.751234 0.5 0.25 1\n\n0 5e-1 0.5 0.5 0.5\n",
        "0 0.1 0.1 0.9 0.2 0.5 0.7\n1.0 0.2 0.2 0.8 0.2 0.8 0.6 0.2 0.6\n",  # polygons
        "0 0.25 0.5 0.5 0.5\n0 0.25 0.5 0.5 0.5\n1 0.5 0.5 1.01 1\n",  # a row twice, and the tolerance
        "",
    ],
)
def test_rows_are_those_of_ultralytics(tmp_path: Path, verify_image_label: Callable[..., Any], rows: str) -> None:
    picture = write_picture(tmp_path / "a.png")
    labels = write_text(tmp_path / "a.txt", rows)
    _, expected, *_, found, empty, corrupt, message = verify_image_label(
        (str(picture), str(labels), "", False, 2, 0, 0, False)
    )
    assert (found, corrupt) == (1, 0), message
    mine = read_labels(labels, 2, Findings(tmp_path))
    assert mine is not None
    assert empty == (not mine)
    boxes = np.array([(box.label, *box.edges) for box in mine]).reshape(-1, 5)
    sizes, centers = boxes[:, 3:] - boxes[:, 1:3], (boxes[:, 3:] + boxes[:, 1:3]) / 2
    ours = np.concatenate((boxes[:, :1], centers, sizes), 1)
    order = np.lexsort(ours.T[::-1])
    their_order = np.lexsort(expected.T[::-1])
    np.testing.assert_allclose(ours[order], expected[their_order], atol=1e-6)


def test_key_points_after_a_box_are_left_out(folder: Path, verify_image_label: Callable[..., Any]) -> None:
    row = "1 0.5 0.5 0.2 0.4 " + "0.1 0.9 " * 4  # without kpt_shape, a polygon
    labels = write_text(folder / "labels/train/train0.txt", row)
    with (folder / "data.yaml").open("a") as file:
        file.write("kpt_shape: [4, 2]\n")
    _, expected, *_ = verify_image_label(
        (str(folder / "images/train/train0.png"), str(labels), "", False, 2, 4, 2, False)
    )
    np.testing.assert_allclose(expected, [[1, 0.5, 0.5, 0.2, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(read_detection_folder(folder).train[0].boxes, [[16, 9, 24, 21]], rtol=1e-6)
    write_text(folder / "data.yaml", (folder / "data.yaml").read_text().replace("[4, 2]", "4"))
    with pytest.raises(UsageError, match="kpt_shape must be two numbers"):
        read_detection_folder(folder)


@pytest.mark.parametrize(("row", "reason", "shown"), [case for case in ROWS if "no area" not in case[1]])
def test_ultralytics_finds_the_same_rows_broken(
    tmp_path: Path, verify_image_label: Callable[..., Any], row: str, reason: str, shown: str
) -> None:
    picture, labels = write_picture(tmp_path / "a.png"), write_text(tmp_path / "a.txt", row)
    *_, corrupt, message = verify_image_label((str(picture), str(labels), "", False, 2, 0, 0, False))
    assert corrupt or "duplicate" in message or "nan" in row


def test_label_paths_are_those_of_ultralytics(tmp_path: Path, verify_image_label: Callable[..., Any]) -> None:
    from dlcommon.runtime.data.yolo_labels import label_path
    from ultralytics.data.utils import img2label_paths

    for name in ("images/a.jpg", "train/images/a.b.png", "images/x/images/y/a.jpeg", "a.jpg", "train/a.jpg"):
        assert str(label_path(tmp_path / name, tmp_path)) == img2label_paths([str(tmp_path / name)])[0]
