"""Remembers where fetched files came from, and the sha256 that each of them had then."""

from pathlib import Path

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.fingerprint import relative_name
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_object, sha256, write_json


def write_manifest(path: Path, source: str, checksums: dict[str, str]) -> None:
    """Writes a manifest.

    Args:
        checksums: sha256 of each file by its path below the folder.
    """
    write_json(path, {"source": source, "files": checksums})


def check_against_manifest(path: Path, folder: Path, files: list[Path]) -> None:
    """Compares the files below the folder with the manifest, reading each from end to end.

    A folder without a manifest passes: its files were put there by hand.

    Raises:
        DamagedDataError: a file differs from what was fetched, is missing, or was added.
        UserError: the manifest itself is damaged.
    """
    if not path.exists():
        return
    expected = read_object(path).get("files")
    if not isinstance(expected, dict):
        raise UserError(f"{path} is damaged (it lists no files); remove it or restore it from a copy")
    for name, checksum in expected.items():
        file = folder / name
        if not file.is_file():
            raise DamagedDataError(file, "is missing, though it was fetched")
        if sha256(file) != checksum:
            raise DamagedDataError(file, "is not what was fetched: its checksum differs")
    for file in files:
        if relative_name(file, folder) not in expected:
            raise DamagedDataError(file, "was not fetched with the others")
