"""Reads a user's folder of PASCAL VOC annotations: an XML file for each picture, wherever the two lie.

What `voc` reads strictly for the registry's data sets is read here with broken rows named and skipped. Classes are
those that the files name, in alphabetical order; `ImageSets/Main` states the splits where it is there.
"""

from collections import defaultdict
from pathlib import Path

from dlcommon.runtime.data.annotated_pictures import (
    SPLITS,
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
from dlcommon.runtime.data.voc import parse_xml, read_class, read_edges, read_size, read_splits, split_list
from dlcommon.runtime.errors import UsageError

FOLDERS = ("annotations", "jpegimages", "images", "xml", "labels")
"""Folders that hold files of one kind: a picture and its annotation differ by these."""


def find_voc(root: Path) -> list[Path]:
    """Returns the first file that says a folder is in this layout."""
    for path in visible_files(root, (".xml",)):
        with (root / path).open("rb") as file:
            if b"<annotation" in file.read(2000):
                return [root / path]
    return []


def read_voc_folder(findings: Findings) -> DetectionFiles:
    """Reads all XML files.

    Raises:
        UsageError: no object has a class, or the lists of `ImageSets/Main` cannot be used.
    """
    root = findings.root
    pictures = picture_files(root)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in pictures:
        by_stem[path.stem].append(path)
    read: dict[Path, tuple[list[tuple[str, str, Box]], tuple[int, int] | None]] = {}
    unreadable = set()
    annotations = visible_files(root, (".xml",))
    for path in annotations:
        place = findings.name(root / path)
        picture = _picture_of(path, by_stem)
        if isinstance(picture, str):
            findings.pictures += 1
            findings.skip_picture(picture, place)
        elif picture in read:
            raise UsageError(
                f"{root}: two annotation files are of {findings.name(root / picture)}, one of them {place}; remove one"
            )
        elif (objects := _read_objects(root / path, findings)) is not None:
            read[picture] = objects
        else:
            findings.pictures += 1
            unreadable.add(picture)
    classes = tuple(sorted({name for objects, _ in read.values() for _, name, _ in objects}))
    if not classes:
        raise UsageError(f"{root}: no object of its {len(annotations)} XML files can be used")
    files = {
        picture: AnnotatedFile(
            root / picture, [StatedBox(place, classes.index(name), edges) for place, name, edges in objects], size=size
        )
        for picture, (objects, size) in sorted(read.items())
    }
    findings.pictures += len(files)
    for picture in pictures:
        if picture not in files and picture not in unreadable:
            findings.count("picture without an annotation file, left out", findings.name(root / picture))
    for picture, file in files.items():
        if not file.objects:
            findings.count("picture without objects", findings.name(root / picture))
    lists = [split for split in SPLITS if split_list(root, split).is_file()]
    if lists:
        splits, unsplit = _stated_splits(files, lists, findings), list[AnnotatedFile]()
    else:
        splits, unsplit = sort_into_splits(files.values(), findings)
    sources = [*(root / path for path in annotations), *(split_list(root, split) for split in lists)]
    return DetectionFiles("VOC", classes, splits, unsplit, sources)


def _picture_of(annotation: Path, by_stem: dict[str, list[Path]]) -> Path | str:
    """Returns the picture of the same name, or why there is none; both paths are below the data set's folder."""
    found = by_stem[annotation.stem]
    if len(found) > 1:
        beside = [path for path in found if path.parent == annotation.parent]
        found = beside or [path for path in found if _common_parts(path) == _common_parts(annotation)]
    if len(found) == 1:
        return found[0]
    return "several pictures have the name of an annotation file" if found else "no picture has the annotation's name"


def _common_parts(path: Path) -> list[str]:
    return [part for part in path.parent.parts if part.lower() not in FOLDERS]


def _read_objects(path: Path, findings: Findings) -> tuple[list[tuple[str, str, Box]], tuple[int, int] | None] | None:
    """Reads place, class and edges of each object, and the size of the picture; None if the file cannot be read."""
    try:
        root = parse_xml(path)
    except DamagedDataError as error:
        findings.skip_picture("its annotation file cannot be read as XML", f"{findings.name(path)} ({error.problem})")
        return None
    try:
        size = read_size(root, path)
    except DamagedDataError:
        size = None  # some tools write 0; the picture itself says its size
    objects = []
    for row, element in enumerate(root.findall("object")):
        findings.rows += 1
        place = f"{findings.name(path)}, row {row}"
        name = read_class(element)
        try:
            edges = read_edges(element, path, row)
        except DamagedDataError as error:
            findings.skip_row("its box is not four numbers", f"{place} ({error.problem})")
            continue
        if name:
            objects.append((place, name, edges))
        else:
            findings.skip_row("it names no class", place)
    return objects, size


def _stated_splits(
    files: dict[Path, AnnotatedFile], lists: list[Split], findings: Findings
) -> dict[Split, list[AnnotatedFile]]:
    try:
        stated = read_splits(findings.root, lists)
    except DamagedDataError as error:
        raise UsageError(str(error)) from error
    by_stem: dict[str, list[AnnotatedFile]] = defaultdict(list)
    for picture, file in files.items():
        by_stem[picture.stem].append(file)
    splits: dict[Split, list[AnnotatedFile]] = {}
    listed = set()
    for split, names in stated.items():
        splits[split] = []
        for name in names:
            listed.add(name)
            if len(by_stem[name]) == 1:
                splits[split].append(by_stem[name][0])
            else:
                findings.pictures += 1
                reason = "it is listed, but has no usable annotation or picture, or several"
                findings.skip_picture(reason, f"{name} of {findings.name(split_list(findings.root, split))}")
    for picture in files:
        if picture.stem not in listed:
            findings.count(
                "picture left out: no list of ImageSets/Main names it", findings.name(findings.root / picture)
            )
    return splits
