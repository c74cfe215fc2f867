"""Keeps decoded images in the cache, so that only the first load of a data set has to decode them."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dlcommon.runtime.data.cache import decoded_folder, decoded_folders
from dlcommon.runtime.data.fingerprint import hash_of_files
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, whole_folder, write_json

FORMAT = 1
"""Part of the key: raise it when the decoding changes."""

FACTS = "facts.json"
Decoded = TypeVar("Decoded")


def load_decoded(name: str, files: list[Path], decode: Callable[[], Decoded], decoded_type: type[Decoded]) -> Decoded:
    """Returns what `decode` returns, from the cache where these very files were decoded before.

    A cache that cannot be written costs time, nothing else. Only the newest two copies are kept.

    Args:
        decoded_type: a dataclass whose fields are numpy arrays, strings, and tuples of strings.
    """
    folder = decoded_folder(name, f"{FORMAT}-{hash_of_files(files)[:24]}")
    if (kept := _read(folder, decoded_type)) is not None:
        return kept
    data = decode()
    try:
        _write(folder, data)
    except (UserError, OSError):  # the second: another process has just put its equal copy there
        return data
    by_age = sorted(decoded_folders(name), key=lambda copy: copy.stat().st_mtime_ns)
    for old in by_age[:-2]:
        shutil.rmtree(old, ignore_errors=True)
    return data


def _write(folder: Path, data: Any) -> None:

    facts: dict[str, Any] = {}
    with whole_folder(folder) as temporary:
        for field in dataclasses.fields(data):
            value = getattr(data, field.name)
            if isinstance(value, np.ndarray):
                np.save(temporary / f"{field.name}.npy", value, allow_pickle=False)
            else:
                facts[field.name] = value
        write_json(temporary / FACTS, facts)


def _read(folder: Path, decoded_type: type[Decoded]) -> Decoded | None:
    """Reads the copy in this folder; None where there is none, or a damaged one."""
    try:
        facts = read_json(folder / FACTS)
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()}
        for field in dataclasses.fields(decoded_type):  # type: ignore[arg-type]
            if field.name not in values:
                values[field.name] = np.load(folder / f"{field.name}.npy", allow_pickle=False)
        return decoded_type(**values)
    except (OSError, UserError, ValueError, TypeError, AttributeError):
        return None
