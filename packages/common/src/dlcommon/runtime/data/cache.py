"""Names the folders of the cache: fetched files, unfinished downloads, and decoded images."""

from pathlib import Path

import platformdirs

from dlcommon.runtime.files import folder_named_by


def cache_root() -> Path:
    """Returns `DL_CACHE_DIR`, else the user's cache folder."""
    return folder_named_by("DL_CACHE_DIR") or Path(platformdirs.user_cache_dir("dlcommon"))


def data_cache() -> Path:
    """Returns the folder that fetched data sets and assets are put in, laid out as `DL_DATA_DIR` is."""
    return cache_root() / "data"


def manifest_path(key: str) -> Path:
    """Returns the file that states where fetched files came from, and the sha256 that each had then."""
    return cache_root() / "manifests" / f"{key}.json"


def partial_path(key: str) -> Path:
    """Returns the folder of unfinished downloads."""
    return cache_root() / "partial" / key


def lock_path(key: str) -> Path:
    """Returns the lock file that is held by the process that changes these files."""
    return cache_root() / "locks" / f"{key}.lock"


def decoded_folder(name: str, version: str) -> Path:
    """Returns the folder of one version of a data set's decoded images."""
    return cache_root() / "decoded" / name / version


def decoded_folders(name: str) -> list[Path]:
    """Lists the folders of all kept versions of a data set's decoded images."""
    return sorted((cache_root() / "decoded" / name).glob("*"))
