"""Finds the files that belong to a data set, and computes a sha256 over all of their contents."""

import hashlib
import os
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from dlcommon.runtime.files import sha256


def is_pattern(file: str) -> bool:
    """Says whether an entry of `files` is a glob pattern such as `Annotations/*.xml` instead of a path."""
    return any(character in file for character in "*?[")


def matching_files(folder: Path, files: Iterable[str]) -> list[Path]:
    """Lists the files below the folder, in the order of `files`; those of one pattern are sorted by path."""
    found: list[Path] = []
    for file in files:
        if is_pattern(file):
            found.extend(sorted(path for path in folder.glob(file) if path.is_file()))
        elif (folder / file).is_file():
            found.append(folder / file)
    return found


def missing_files(folder: Path, files: Iterable[str]) -> list[str]:
    """Lists the paths that are not there and the patterns that no file matches."""
    return [file for file in files if not matching_files(folder, (file,))]


def relative_name(path: Path, folder: Path) -> str:
    """Returns the path below the folder, with forward slashes on every system."""
    return path.relative_to(folder).as_posix()


def cached_sha256(path: Path) -> str:
    """Returns a file's sha256, computed once a process unless the file's size or time changes."""
    stat = path.stat()
    return _sha256_of_version(os.fspath(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _sha256_of_version(path: str, size: int, modified: int) -> str:
    return sha256(Path(path))


def hash_of_files(files: Iterable[Path]) -> str:
    """Returns a sha256 over the contents of the files in this order; their names and folders do not matter."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{cached_sha256(file)}\n".encode())
    return digest.hexdigest()


def fingerprint(folder: Path, files: Collection[str]) -> str:
    """Returns a sha256 over the contents of a data set's files.

    Where `files` has a pattern, the names of the files count too: with a plain list, a file that was renamed is
    missing, but with a pattern an annotation could silently become that of another image.
    """
    found = matching_files(folder, files)
    if not any(is_pattern(file) for file in files):
        return hash_of_files(found)
    digest = hashlib.sha256()
    for file in found:
        digest.update(f"{cached_sha256(file)} {relative_name(file, folder)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
