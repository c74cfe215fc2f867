"""Decoded images kept in the cache, so that only the first load of a data set has to decode them."""

import shutil
from collections.abc import Callable
from pathlib import Path

from dlcommon.runtime.data.dataset import ImageClassification
from dlcommon.runtime.data.locate import cache_root, hash_of_files
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, whole_folder, write_json

FORMAT = 1
"""Part of the key: raise it when the decoding changes."""


def decoded_folders(name: str) -> list[Path]:
    return sorted((cache_root() / "decoded").glob(f"{name}-*"))


def cached(name: str, files: list[Path], decode: Callable[[], ImageClassification]) -> ImageClassification:
    """What `decode` returns, from the cache where these very files were decoded before.

    A cache that cannot be written costs time, nothing else. Only the newest two copies are kept.
    """
    folder = cache_root() / "decoded" / f"{name}-{FORMAT}-{hash_of_files(files)[:24]}"
    if (kept := _read(folder)) is not None:
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


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def _write(folder: Path, data: ImageClassification) -> None:
    import numpy as np

    with whole_folder(folder) as temporary:
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(data, name), allow_pickle=False)
        write_json(temporary / "facts.json", {"classes": data.classes, "encoding": data.encoding})


def _read(folder: Path) -> ImageClassification | None:
    """The copy in this folder; None where there is none, or a damaged one."""
    import numpy as np

    try:
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
        facts = read_json(folder / "facts.json")
        return ImageClassification(**arrays, classes=tuple(facts["classes"]), encoding=facts["encoding"])
    except (OSError, UserError, ValueError, KeyError):
        return None
