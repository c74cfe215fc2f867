"""Lists the pictures of a user's folder, and names data sets after it."""

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from dlcommon.runtime.batch_inference.sources import is_hidden
from dlcommon.runtime.serving.images import SUFFIXES


def picture_files(folder: Path) -> list[Path]:
    """Lists the pictures of a folder and of those below it, relative to it; passes over what no file manager shows."""
    return visible_files(folder, SUFFIXES)


def visible_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Lists the files below a folder whose names end in one of `suffixes`, relative to it and sorted."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in paths if not is_hidden(path) and (folder / path).is_file())


def folder_name(folder: Path) -> str:
    """Returns the name of a data set that is read from this folder: letters, digits, `_` and `-`."""
    return re.sub(r"[^\w-]+", "-", folder.name).strip("-").lower() or "folder"


def patterns_of(files: Iterable[Path], folder: Path) -> tuple[str, ...]:
    """Returns patterns, for `DataSet.files`, of these files and of those of the same kind beside them.

    A fingerprint over patterns covers names as well, so that it changes when a picture is moved to another split.
    """
    places = {(file.relative_to(folder).parent, file.suffix) for file in files}
    return tuple(sorted(f"{glob.escape((parent / '_').as_posix())[:-1]}*{glob.escape(end)}" for parent, end in places))
