"""Reads the YAML file of a data set in Ultralytics' format: paths of pictures and names of classes.

Paths that lead outside of the folder are refused, and nothing of the file is run
(https://docs.ultralytics.com/datasets/detect).
"""

from pathlib import Path
from typing import Any

import yaml

from dlcommon.runtime.data.annotated_pictures import SPLITS, Findings, Split, path_inside
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.picture_folder import picture_files
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.errors import UsageError

MOST_CLASSES = 100_000
"""Classes that `nc` may state without naming them."""
MOST_BYTES = 1_000_000
"""Size of a YAML file beyond which it is none that names paths and classes."""


def names_classes(path: Path) -> bool:
    """Tells whether a YAML file is one of a data set, also if it is a damaged one of the usual name."""
    try:
        content = load_yaml(path)
    except UsageError:
        return path.stem.lower() in ("data", "dataset")
    return "names" in content or ("nc" in content and "train" in content)


def load_yaml(path: Path) -> dict[Any, Any]:
    """Reads a YAML file of keys and values.

    Raises:
        UsageError: it cannot be read, is not valid YAML, or is something else.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} has {path.stat().st_size:,} bytes, too many for a file of paths and class names")
        content = yaml.safe_load(read_text(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    except DamagedDataError as error:
        raise UsageError(str(error)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: an impossible date
        problem = " ".join(str(error).split()) if not isinstance(error, RecursionError) else "it is nested too deeply"
        raise UsageError(f"{path} is not valid YAML: {problem}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds no keys such as `train:` and `names:`")
    return content


def classes_of_yaml(content: dict[Any, Any], path: Path) -> tuple[str, ...]:
    """Returns the names of the classes, which are a list or numbered from 0.

    Raises:
        UsageError: they are missing, or not that.
    """
    names, count = content.get("names"), content.get("nc")
    if names is None and isinstance(count, int) and not isinstance(count, bool) and 0 < count <= MOST_CLASSES:
        names = [f"class_{number}" for number in range(count)]  # as Ultralytics calls them
    if isinstance(names, dict):
        try:
            by_number = {int(number): name for number, name in names.items()}
        except (TypeError, ValueError):
            raise UsageError(
                f"{path}: the keys of names must be numbers from 0, not {', '.join(map(str, names))}"
            ) from None
        if sorted(by_number) != list(range(len(names))):
            raise UsageError(f"{path}: names must number the classes from 0 to {len(names) - 1} without a gap")
        names = [by_number[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise UsageError(f"{path}: names must list the classes, such as `names: [cat, dog]`")
    if count is not None and _shown(count) != str(len(names)):
        raise UsageError(f"{path}: nc is {_shown(count)}, but names holds {len(names)}; correct one of them")
    if nested := [name for name in names if isinstance(name, list | dict)]:
        raise UsageError(f"{path}: the name of a class is {_shown(nested[0])}, not text")
    return checked_classes([str(name).strip() for name in names], path)


def _shown(value: object) -> str:
    """Returns a value for a message; of lists only the type, since aliases of YAML make a few bytes into gigabytes."""
    return type(value).__name__ if isinstance(value, list | dict) else str(value)[:80]


def checked_classes(names: list[str], path: Path) -> tuple[str, ...]:
    """Returns the names of classes that a file lists.

    Raises:
        UsageError: there is none, or one is empty or there twice.
    """
    if not names:
        raise UsageError(f"{path}: no class is named")
    for place, name in enumerate(names):
        if not name:
            raise UsageError(f"{path}: the name of class {place} is empty")
        if name in names[:place]:
            raise UsageError(f"{path}: the classes {names.index(name)} and {place} are both called {name!r}")
    return tuple(names)


def keypoint_columns(content: dict[Any, Any], path: Path) -> int:
    """Returns how many columns of key points follow a box in the labels of a pose data set.

    Raises:
        UsageError: `kpt_shape` is not two numbers.
    """
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not isinstance(shape, list) or len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise UsageError(
            f"{path}: kpt_shape must be two numbers, of key points and of numbers each, not {_shown(shape)}"
        )
    return int(shape[0] * shape[1])


def stated_pictures(
    content: dict[Any, Any], source: Path, findings: Findings, used: list[Path]
) -> dict[Split, list[Path]]:
    """Lists the pictures of each split that a YAML file states.

    Raises:
        UsageError: a path leads outside of the folder, or is not there.
    """
    if content.get("download"):
        findings.notes.append(f"{findings.name(source)}: `download:` is ignored; nothing is fetched or run")
    base = source.parent
    if content.get("path") is not None:
        inside = path_inside(_shown(content["path"]), source.parent, findings.root)
        if inside is not None and inside.is_dir():
            base = inside
        else:
            findings.notes.append(
                f"{findings.name(source)}: `path: {_shown(content['path'])}` is not a folder inside {findings.root} "
                "and is ignored; paths count from where the file is"
            )
    if "val" not in content and "validation" in content:
        content = {**content, "val": content["validation"]}
    pictures: dict[Split, list[Path]] = {}
    for split in SPLITS:
        stated = content.get(split)
        if stated is None or stated == "":
            continue
        for one in stated if isinstance(stated, list) else [stated]:
            if not isinstance(one, str):
                raise UsageError(f"{source}: {split} must be a folder or a list of folders, not {_shown(one)}")
            place = _resolve(one, base, findings, f"{source}: `{split}: {one}`")
            pictures.setdefault(split, []).extend(_pictures_of(place, base, findings, used))
    return pictures


def _resolve(stated: str, base: Path, findings: Findings, where: str) -> Path:
    """Returns the path that is stated; like Ultralytics' reader, it forgives a leading `../`, as Roboflow writes it."""
    found = path_inside(stated, base, findings.root)
    if (found is None or not found.exists()) and stated.startswith("../"):
        found = path_inside(stated[3:], base, findings.root)
    if found is None:
        raise UsageError(f"{where} leads outside of {findings.root}; write a path relative to that folder")
    if not found.exists():
        raise UsageError(f"{where}: there is no {found}; correct the path, or remove the line")
    return found


def _pictures_of(place: Path, base: Path, findings: Findings, used: list[Path]) -> list[Path]:
    """Lists the pictures of a folder, or those that a text file lists, one a line."""
    if place.is_dir():
        return [place / path for path in picture_files(place)]
    used.append(place)
    try:
        lines = read_text(place).split("\n")
    except DamagedDataError as error:
        raise UsageError(str(error)) from error
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        # Ultralytics: `./` is where the list is; other paths count from the working directory, here from `path`.
        path = path_inside(line, place.parent if line.startswith("./") else base, findings.root)
        if path is None:
            findings.pictures += 1
            findings.skip_picture("its path leads outside of the folder", f"{findings.name(place)}, line {number}")
        else:
            found.append(path)
    return found
