"""Reads annotations in the layout of Ultralytics' YOLO: a text file for each picture, beside a YAML file of paths.

A row is `class x y width height`, center and size in fractions of the picture, or `class x1 y1 x2 y2 x3 y3 …`, a
polygon (https://docs.ultralytics.com/datasets/detect). The path of a label file is that of its picture with the last
folder `images` replaced by `labels`. Nothing of a YAML file is run, and no cache is read.
"""

import math
from pathlib import Path

from dlcommon.runtime.data.annotated_pictures import (
    AnnotatedFile,
    DetectionFiles,
    Findings,
    Split,
    StatedBox,
    sort_into_splits,
)
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.detection import Box
from dlcommon.runtime.data.picture_folder import picture_files, visible_files
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.data.yolo_yaml import (
    checked_classes,
    classes_of_yaml,
    keypoint_columns,
    load_yaml,
    names_classes,
    stated_pictures,
)
from dlcommon.runtime.errors import UsageError

NAMES = ("classes.txt", "obj.names")
"""Files that name one class a line, where there is no YAML file."""
TOLERANCE = 0.01
"""By which a number may lie outside of 0…1, as in Ultralytics' reader; such a box is clipped to the picture."""


def find_yolo(root: Path) -> list[Path]:
    """Returns the files that say a folder is in this layout: YAML files, else a list of classes, else a label file."""
    candidates = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml") and path.is_file())
    if found := [path for path in candidates if names_classes(path)]:
        return found
    if found := [place / name for place in (root, root / "labels") for name in NAMES if (place / name).is_file()]:
        return found[:1]
    labels = (path for path in visible_files(root, (".txt",)) if "labels" in path.parent.parts)
    return [root / path for path in labels][:1]


def read_yolo(findings: Findings, source: Path) -> DetectionFiles:
    """Reads all label files.

    Args:
        source: the YAML file or, where there is none, the list of classes.

    Raises:
        UsageError: the classes or the paths of the YAML file cannot be used.
    """
    stated: dict[Split, list[Path]] = {}
    used = [source]
    key_points = 0
    if source.suffix.lower() in (".yaml", ".yml"):
        content = load_yaml(source)
        classes = classes_of_yaml(content, source)
        key_points = keypoint_columns(content, source)
        stated = stated_pictures(content, source, findings, used)
    elif source.name in NAMES:
        classes = _classes_of_list(source)
    else:
        raise UsageError(
            f"{findings.root}: there are label files such as {findings.name(source)}, but nothing names their classes; "
            f"write a data.yaml, or a {NAMES[0]} with one class a line"
        )
    missing = 0

    def annotated(picture: Path) -> AnnotatedFile | None:
        nonlocal missing
        label_file = label_path(picture, findings.root)
        if not label_file.is_file():
            if picture.is_file():  # else it is named when it is decoded
                missing += 1
                findings.count("picture without a label file, taken as one without objects", findings.name(picture))
            return AnnotatedFile(picture, [], in_fractions=True)
        used.append(label_file)
        objects = read_labels(label_file, len(classes), findings, key_points)
        return None if objects is None else AnnotatedFile(picture, objects, in_fractions=True)

    if stated:
        splits = {split: [file for path in paths if (file := annotated(path))] for split, paths in stated.items()}
        unsplit: list[AnnotatedFile] = []
        findings.pictures += sum(map(len, stated.values()))
    else:
        paths = [findings.root / path for path in picture_files(findings.root)]
        findings.pictures += len(paths)
        splits, unsplit = sort_into_splits([file for path in paths if (file := annotated(path))], findings)
    _count_orphans(findings, set(used))
    if missing == findings.pictures > 0:
        raise UsageError(
            f"{findings.root}: none of its {missing} pictures has a label file; the labels of images/a.jpg belong in "
            "labels/a.txt"
        )
    return DetectionFiles("YOLO", classes, splits, unsplit, used)


def label_path(picture: Path, root: Path) -> Path:
    """Returns where the labels of a picture are: its last folder `images` replaced by `labels`, else beside it."""
    parts = list(picture.relative_to(root).with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return root.joinpath(*parts)


def read_labels(path: Path, num_classes: int, findings: Findings, keypoint_columns: int = 0) -> list[StatedBox] | None:
    """Reads a label file; boxes are in fractions. Broken rows are recorded and skipped, lines counted from 1.

    Args:
        keypoint_columns: columns of key points that may follow a box; they are not used.

    Returns:
        None for a file that is no text, whose picture is skipped.
    """
    try:
        text = read_text(path) if path.read_bytes().strip() else ""
    except OSError as error:
        findings.skip_picture(f"its label file cannot be read ({error.strerror})", findings.name(path))
        return None
    except DamagedDataError as error:
        findings.skip_picture("its label file is not text", f"{findings.name(path)} ({error.problem})")
        return None
    boxes = []
    seen: dict[tuple[float, ...], int] = {}
    for line, row in enumerate(text.split("\n"), start=1):
        if not (words := row.split()):
            continue
        findings.rows += 1
        place = f"{findings.name(path)}, line {line}"
        if keypoint_columns and len(words) == 5 + keypoint_columns:
            words = words[:5]
        numbers = _numbers(words)
        if numbers is None:
            findings.skip_row("not all of it is numbers", f"{place} ({row.strip()[:40]!r})")
        elif problem := _problem(numbers, num_classes):
            reason, value = problem
            findings.skip_row(reason, f"{place} ({value})")
        elif numbers in seen:
            findings.skip_row("the same row again", f"{place} (as line {seen[numbers]})", broken=False)
        else:
            seen[numbers] = line
            boxes.append(StatedBox(place, int(numbers[0]), _edges(numbers[1:])))
    if not text.strip():
        findings.count("picture with an empty label file, one without objects", findings.name(path))
    return boxes


def _numbers(words: list[str]) -> tuple[float, ...] | None:
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _problem(numbers: tuple[float, ...], num_classes: int) -> tuple[str, str] | None:
    """Returns what is wrong with a row, as a reason and the value that shows it."""
    columns = len(numbers)
    if columns != 5 and (columns < 7 or columns % 2 == 0):
        hint = "; with a confidence it is a prediction, no label" if columns == 6 else ""
        return "neither 5 columns (a box) nor a class and 3 or more points", f"{columns} columns{hint}"
    if not (numbers[0].is_integer() and 0 <= numbers[0] < num_classes):
        return f"the class is not one of 0 to {num_classes - 1}", f"{numbers[0]:g}"
    wrong = [number for number in numbers[1:] if not -TOLERANCE <= number <= 1 + TOLERANCE]
    if wrong:
        return "a number outside of 0 to 1, while coordinates are fractions of the picture", f"{wrong[0]:g}"
    return None


def _edges(numbers: tuple[float, ...]) -> Box:
    """Returns the edges of a box given by center and size, or of the smallest box around a polygon."""
    if len(numbers) > 4:
        return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])
    x, y, width, height = numbers
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _count_orphans(findings: Findings, used: set[Path]) -> None:
    for path in visible_files(findings.root, (".txt",)):
        if "labels" in path.parent.parts and findings.root / path not in used and path.name not in NAMES:
            findings.count("label file without a picture, not used", findings.name(findings.root / path))


def _classes_of_list(path: Path) -> tuple[str, ...]:
    try:
        names = [line.strip() for line in read_text(path).rstrip().split("\n")]
    except DamagedDataError as error:
        raise UsageError(str(error)) from error
    return checked_classes(names, path)
