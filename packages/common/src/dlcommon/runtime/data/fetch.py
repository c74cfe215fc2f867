"""Fetching a data set into the cache: by one process at a time, whole or not at all."""

import os
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlcommon.runtime.data import registry
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.download import DownloadSettings
from dlcommon.runtime.data.locate import LocatedDataSet, cache_root, data_cache, data_dir, find
from dlcommon.runtime.data.progress import DownloadProgress
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors, sha256, whole_folder, write_json
from dlcommon.runtime.output import warn


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Held by the one process that changes this data set in the cache; others wait.

    Raises:
        UserError: the cache cannot be written.
    """
    import filelock

    path = cache_root() / "locks" / f"{name}.lock"
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            with DownloadProgress() as progress:
                progress.note(f"waiting for another process that is fetching {name}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def manifest_path(name: str) -> Path:
    """Says where a fetched set came from and the sha256 of its files as they were then."""
    return cache_root() / "manifests" / f"{name}.json"


def partial_path(name: str) -> Path:
    """Holds unfinished downloads."""
    return cache_root() / "partial" / name


def fetch(name: str) -> LocatedDataSet:
    """Downloads the data set to the cache, unless it lies there or in `DL_DATA_DIR` already.

    Raises:
        UsageError: there is no data set of that name.
        DataUnavailableError: no source has it; says why, for each.
        UserError: the cache cannot be written.
    """
    if located := find(name):
        return located
    dataset = registry.get(name)
    if variable := _offline():
        raise DataUnavailableError(_explained(dataset, [f"{variable} turns downloads off"]))
    settings, reasons = DownloadSettings.from_environment(), []
    with exclusive(name), DownloadProgress() as progress:
        if located := find(name):  # another process was quicker
            return located
        _sweep(data_cache(), dataset)
        for source in dataset.sources:
            progress.note(f"fetching {name} from {source.name}")
            try:
                with whole_folder(data_cache() / dataset.folder) as folder:
                    source.fetch(partial_path(name) / source.name, folder, settings, progress)
                    if missing := [file for file in dataset.files if not (folder / file).is_file()]:
                        raise DataUnavailableError(f"{source.name} lacks {', '.join(missing)}")
                    manifest = {file: sha256(folder / file) for file in dataset.files}
            except DataUnavailableError as error:
                progress.note(str(error))
                reasons.append(str(error))
                continue
            write_json(manifest_path(name), {"source": source.name, "files": manifest})
            shutil.rmtree(partial_path(name), ignore_errors=True)
            return LocatedDataSet(dataset, data_cache() / dataset.folder, "cache")
    raise DataUnavailableError(_explained(dataset, reasons))


def resolve(name: str | None, candidates: tuple[str, ...]) -> LocatedDataSet:
    """The data set that a command works on, fetched if it must be.

    Args:
        name: as the user gave it outright: this one or an error. None: the first candidate, or, where it
            cannot be had, the last with a warning that cannot be missed.
        candidates: what the capstone can work on: the default first, the built-in sample last.

    Raises:
        UsageError: there is no data set of that name, or the capstone cannot work on it.
        DataUnavailableError: the data set named outright cannot be had.
    """
    if name is not None:
        dataset = registry.get(name)
        if name not in candidates:
            raise UsageError(f"{dataset.name} cannot be used here; choose one of {', '.join(candidates)}")
        return find(name) or fetch(name)
    default, sample = candidates[0], candidates[-1]
    if located := find(default):
        return located
    try:
        return fetch(default)
    except UserError as error:
        located = find(sample)
        if located is None:
            raise
        warn(
            f"THE REAL DATA COULD NOT BE HAD.\n! {_wrapped(str(error))}\n"
            f"! Going on with {located.describe()}: {located.dataset.description}\n"
            f"! Its results say nothing about {default}."
        )
        return located


def _explained(dataset: DataSet, reasons: list[str]) -> str:
    root = data_dir()
    place = f"{root} (DL_DATA_DIR)" if root else "the folder that DL_DATA_DIR names"
    files = ", ".join(f"{dataset.folder}/{file}" for file in dataset.files)
    if not dataset.sources:
        return (
            f"{dataset.name} is not on this machine, and only those who sign in can download it: "
            f"get it from {dataset.home} and put {files} into {place}"
        )
    return (
        f"{dataset.name} is not on this machine and could not be downloaded: {'; '.join(reasons)}. "
        f"Try again with `data fetch {dataset.name}`, set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, "
        f"or put {files} into {place}"
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 78, subsequent_indent="! ", break_long_words=False, break_on_hyphens=False)


def _offline() -> str | None:
    """The variable that forbids downloads, if one does."""
    for variable in ("DL_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            return f"{variable}={os.environ[variable]}"
    return None


def _sweep(root: Path, dataset: DataSet) -> None:
    """Removes what a process that was killed while it put files in place has left."""
    for leftover in root.glob(f".{dataset.folder}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
