"""Reads annotations in COCO's layout: JSON files of images, annotations and categories.

A box is `[x, y, width, height]` in pixels (Lin et al. 2014, arXiv:1405.0312; https://cocodataset.org/#format-data). Ids
of categories may have gaps; classes are in the order of their ids, as in pycocotools' `COCOeval`.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, TypeGuard

from dlcommon.runtime.data.annotated_pictures import (
    AnnotatedFile,
    DetectionFiles,
    Findings,
    Split,
    StatedBox,
    path_inside,
    split_in,
    split_of,
)
from dlcommon.runtime.data.detection import Box
from dlcommon.runtime.data.picture_folder import picture_files, visible_files
from dlcommon.runtime.errors import UsageError

KEYS = ("images", "annotations", "categories")


def find_coco(root: Path) -> list[Path]:
    """Returns the JSON files that hold images, annotations and categories; `instances_…` alone where there are some.

    Raises:
        UsageError: a file with one of COCO's usual names is not JSON.
    """
    found = []
    for path in visible_files(root, (".json",)):
        try:
            content = _load(root / path)
        except UsageError:
            if "coco" in path.name.lower() or path.parent.name == "annotations" or path.name.startswith("instances"):
                raise
            continue
        if isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content:
            found.append(root / path)
    instances = [path for path in found if path.name.startswith("instances")]
    return instances or found


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise UsageError(f"{path} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise UsageError(f"{path} is not valid JSON ({error}); export it again") from error


def read_coco(findings: Findings, sources: list[Path]) -> DetectionFiles:
    """Reads the files that `find_coco` returns.

    Raises:
        UsageError: a file lacks one of the three lists, or its categories cannot be used.
    """
    split_by_source = {source: _split_of_file(source, findings.root) for source in sources}
    if any(split_by_source.values()):
        for source in [source for source, split in split_by_source.items() if split is None]:
            findings.count("file left out: its name says no split, as others do", findings.name(source))
            del split_by_source[source]
    contents = {source: _checked(_load(source), source) for source in split_by_source}
    categories = {source: _categories(content["categories"], source) for source, content in contents.items()}
    classes = _classes(categories, contents, findings)
    pictures = Pictures(findings.root)
    splits: dict[Split, list[AnnotatedFile]] = {}
    unsplit: list[AnnotatedFile] = []
    for source, content in contents.items():
        labels = {number: classes.index(name) for number, name in categories[source].items() if name in classes}
        split = split_by_source[source]
        files = _read_file(content, source, labels, pictures, findings)
        (splits.setdefault(split, []) if split else unsplit).extend(files)
    return DetectionFiles("COCO", classes, splits, unsplit, list(contents))


def _split_of_file(source: Path, root: Path) -> Split | None:
    return split_in(source.stem) or split_of(source.relative_to(root))


def _checked(content: Any, source: Path) -> dict[str, list[Any]]:
    for key in KEYS:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UsageError(f"{source} holds no list {key!r}; COCO's format needs {', '.join(KEYS)}")
    return content  # type: ignore[no-any-return]


def _categories(stated: list[Any], source: Path) -> dict[int, str]:
    """Returns the names of categories by id, in the order of the ids."""
    names: dict[int, str] = {}
    for row, category in enumerate(stated):
        number, name = (category.get("id"), category.get("name")) if isinstance(category, dict) else (None, None)
        if not _is_id(number) or not isinstance(name, str) or not name.strip():
            raise UsageError(f"{source}, categories[{row}]: needs an id, which is a whole number, and a name")
        if number in names or name.strip() in names.values():
            raise UsageError(f"{source}, categories[{row}]: its id or name ({number}, {name!r}) is there before")
        names[number] = name.strip()
    return dict(sorted(names.items()))


def _classes(
    categories: dict[Path, dict[int, str]], contents: dict[Path, dict[str, list[Any]]], findings: Findings
) -> tuple[str, ...]:
    """Returns the names of all files' categories, without those that only group others and that no object has."""
    classes = list(dict.fromkeys(name for names in categories.values() for name in names.values()))
    parents = {category.get("supercategory") for content in contents.values() for category in content["categories"]}
    used = {
        categories[source].get(number)
        for source, content in contents.items()
        for annotation in content["annotations"]
        if isinstance(annotation, dict) and _is_id(number := annotation.get("category_id"))
    }
    for name in [name for name in classes if name in parents and name not in used]:
        classes.remove(name)
        findings.notes.append(f"category {name!r} only groups others and no object has it: it is no class")
    if not classes:
        raise UsageError(f"{findings.root}: no category is named in {', '.join(map(findings.name, categories))}")
    return tuple(classes)


def _read_file(
    content: dict[str, list[Any]], source: Path, labels: dict[int, int], pictures: "Pictures", findings: Findings
) -> list[AnnotatedFile]:
    images: dict[Any, dict[str, Any]] = {}
    name = findings.name(source)
    findings.pictures += len(content["images"])
    for row, image in enumerate(content["images"]):
        place = f"{name}, images[{row}]"
        if not isinstance(image, dict) or not _is_id(image.get("id")) or not isinstance(image.get("file_name"), str):
            findings.skip_picture("it has no id or no file_name", place)
        elif image["id"] in images:
            findings.skip_picture("its id is that of an image before", f"{place} (id {image['id']})")
        else:
            images[image["id"]] = {**image, "place": place}
    objects: dict[Any, list[StatedBox]] = defaultdict(list)
    for row, annotation in enumerate(content["annotations"]):
        findings.rows += 1
        place = f"{name}, annotations[{row}]"
        if not isinstance(annotation, dict):
            findings.skip_row("it is not an object with keys", place)
            continue
        place += f" (id {annotation['id']})" if _is_id(annotation.get("id")) else ""
        image_id, category, box = (annotation.get(key) for key in ("image_id", "category_id", "bbox"))
        if not _is_id(image_id) or image_id not in images:
            findings.skip_row("no image has its image_id", f"{place} ({image_id!r})")
        elif not _is_id(category) or category not in labels:
            findings.skip_row("no category has its category_id", f"{place} ({category!r})")
        elif annotation.get("iscrowd"):
            findings.skip_row("iscrowd, a box around a crowd", place, broken=False)
        elif (edges := _edges(box)) is None:
            findings.skip_row("its bbox is not four numbers x, y, width, height", f"{place} ({str(box)[:60]})")
        else:
            objects[image_id].append(StatedBox(place, labels[category], edges))
    files = []
    for number, image in images.items():
        found = pictures.find(image["file_name"], source)
        if isinstance(found, str):
            findings.skip_picture(found, f"{image['place']} ({image['file_name'][:80]!r})")
            continue
        if not objects[number]:
            findings.count("picture without objects", findings.name(found))
        width, height = image.get("width"), image.get("height")
        size = (width, height) if _is_id(width) and _is_id(height) else None  # the picture itself says it, too
        files.append(AnnotatedFile(found, objects[number], size=size))
    return files


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _edges(box: Any) -> Box | None:
    if not isinstance(box, list) or len(box) != 4:
        return None
    if not all(
        isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e9 for number in box
    ):
        return None  # also for nan
    x, y, width, height = map(float, box)
    return x, y, x + width, y + height


class Pictures:
    """Finds the picture that a `file_name` means, wherever in the folder it lies."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in picture_files(root):
            self.by_name[path.name].append(root / path)

    def find(self, file_name: str, source: Path) -> Path | str:
        """Returns the path, or why there is none."""
        bases = [source.parent, self.root, self.root / "images"]
        folders = [source.stem.rpartition("_")[2], split_in(source.stem) or ""]  # `train2017`, `train`
        bases += [base / folder for base in (self.root, self.root / "images") for folder in folders if folder]
        outside = True
        for base in bases:
            if (path := path_inside(file_name, base, self.root)) is not None:
                outside = False
                if path.is_file():
                    return path
        if outside:
            return "its file_name leads outside of the folder"
        others = self.by_name[Path(file_name.replace("\\", "/")).name]
        if len(others) == 1:
            return others[0]
        return "several pictures have its file_name" if others else "there is no picture of its file_name"
