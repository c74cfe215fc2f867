"""Fetches data sets and assets into the cache: one process at a time, whole or not at all."""

import os
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import filelock

from dlcommon.runtime.data.cache import data_cache, lock_path, manifest_path, partial_path
from dlcommon.runtime.data.dataset import DataSet, Source
from dlcommon.runtime.data.download import DownloadSettings
from dlcommon.runtime.data.fingerprint import matching_files, missing_files, relative_name
from dlcommon.runtime.data.locate import LocatedDataSet, data_dir, find
from dlcommon.runtime.data.locate_asset import LocatedAsset, chosen_forms, find_asset, how_to_get, require_asset
from dlcommon.runtime.data.manifest import write_manifest
from dlcommon.runtime.data.progress import DownloadProgress
from dlcommon.runtime.data.registry import ASSETS, DATA_SETS
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors, sha256, whole_folder
from dlcommon.runtime.output import warn


@contextmanager
def exclusive(key: str) -> Iterator[None]:
    """Lets one process at a time change these files in the cache; others wait.

    Raises:
        UserError: the cache cannot be written.
    """
    path = lock_path(key)
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            with DownloadProgress() as progress:
                progress.note(f"waiting for another process that is fetching {key}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download_into_cache(
    key: str,
    subfolder: str,
    files: Collection[str],
    sources: Collection[Source],
    is_here: Callable[[], bool],
    checksums: Mapping[str, str | None] | None = None,
) -> list[str]:
    """Fetches files from the first source that has them.

    Args:
        key: name of the lock, the manifest and the folder of unfinished downloads.
        subfolder: below the cache of data; replaced as a whole.
        files: paths or patterns that must be there afterwards.
        is_here: asked once the lock is held, since another process may have been quicker.
        checksums: sha256 by path that the files must have, whatever the source says.

    Returns:
        Why each source failed; empty where the files are here now or there is no source.

    Raises:
        UserError: the cache cannot be written.
    """
    if not sources:
        return []
    if variable := _offline():
        return [f"{variable} turns downloads off"]
    settings, reasons = DownloadSettings.from_environment(), []
    target = data_cache() / subfolder
    with exclusive(key), DownloadProgress() as progress:
        if is_here():
            return []
        _sweep(target)
        for source in sources:
            progress.note(f"fetching {key} from {source.name}")
            try:
                with whole_folder(target) as folder:
                    source.fetch(partial_path(key) / source.name, folder, settings, progress)
                    if missing := missing_files(folder, files):
                        raise DataUnavailableError(f"{source.name} lacks {', '.join(missing)}")
                    fetched = {relative_name(file, folder): sha256(file) for file in matching_files(folder, files)}
                    for file, checksum in (checksums or {}).items():
                        if checksum not in (None, fetched[file]):
                            raise DataUnavailableError(f"{source.name} has another version of {file}")
            except DataUnavailableError as error:
                progress.note(str(error))
                reasons.append(str(error))
                continue
            write_manifest(manifest_path(key), source.name, fetched)
            shutil.rmtree(partial_path(key), ignore_errors=True)
            return []
    return reasons


def fetch(name: str) -> LocatedDataSet:
    """Downloads a data set to the cache, unless it lies there or in `DL_DATA_DIR` already.

    Raises:
        UsageError: there is no data set of that name.
        DataUnavailableError: no source has it; says why, for each.
        UserError: the cache cannot be written.
    """
    if located := find(name):
        return located
    dataset = DATA_SETS.find(name)
    reasons = _download_into_cache(name, dataset.folder, dataset.files, dataset.sources, lambda: find(name) is not None)
    if located := find(name):
        return located
    raise DataUnavailableError(_explained(dataset, reasons))


def fetch_asset(name: str, form: str | None = None) -> LocatedAsset:
    """Downloads an asset to the cache, unless it is on this machine already; verifies its checksums in any case.

    Args:
        form: the only form that will do; None: any that is here, else the first that can be downloaded.

    Raises:
        UsageError: there is no asset of that name, or it has no such form.
        DataUnavailableError: no source has it; says why, for each, and how else to get it.
        UserError: the cache cannot be written, or a file that is here already is damaged.
    """
    if find_asset(name, form):
        return require_asset(name, form)
    asset, reasons = ASSETS.find(name), []
    for candidate in chosen_forms(asset, form):
        reasons += _download_into_cache(
            asset.key(candidate),
            asset.folder(candidate),
            candidate.files,
            candidate.sources,
            lambda: find_asset(name, form) is not None,
            checksums=candidate.files,
        )
        if find_asset(name, form):
            return require_asset(name, form)
    why = f" and could not be downloaded: {'; '.join(dict.fromkeys(reasons))}." if reasons else ";"
    raise DataUnavailableError(f"{name} is not on this machine{why} {_capitalized(how_to_get(asset, form), reasons)}")


def resolve(name: str | None, candidates: tuple[str, ...]) -> LocatedDataSet:
    """Returns the data set that a command works on, fetched if it must be.

    Args:
        name: as the user gave it outright: this one or an error. None: the first candidate, or, where it
            is unavailable, the last with a warning that cannot be missed.
        candidates: what the capstone can work on: the default first, the built-in sample last.

    Raises:
        UsageError: there is no data set of that name, or the capstone cannot work on it.
        DataUnavailableError: the data set named outright is unavailable.
    """
    if name is not None:
        dataset = DATA_SETS.find(name)
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
            f"DATA SET UNAVAILABLE: {default}\n! {_wrapped(str(error))}\n"
            f"! Going on with {located.describe()}: {located.dataset.description}\n"
            f"! Its results say nothing about {default}."
        )
        return located


def _explained(dataset: DataSet, reasons: list[str]) -> str:
    root = data_dir()
    place = f"{root} (DL_DATA_DIR)" if root else "the folder that DL_DATA_DIR names"
    files = ", ".join(f"{dataset.folder}/{file}" for file in dataset.files)
    install = f"install it with `{dataset.package.install_command}`, " if dataset.package is not None else ""
    if not dataset.sources:
        return (
            f"{dataset.name} is not on this machine, and there is no free download of it: "
            f"{install + 'or ' if install else ''}get it from {dataset.home} and put {files} into {place}"
        )
    return (
        f"{dataset.name} is not on this machine and could not be downloaded: {'; '.join(reasons)}. "
        f"Try again with `data fetch {dataset.name}`, set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, "
        f"{install}or put {files} into {place}"
    )


def _capitalized(text: str, reasons: list[str]) -> str:
    return text[:1].upper() + text[1:] if reasons else text


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 78, subsequent_indent="! ", break_long_words=False, break_on_hyphens=False)


def _offline() -> str | None:
    """Returns the variable that forbids downloads, if one does."""
    for variable in ("DL_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            return f"{variable}={os.environ[variable]}"
    return None


def _sweep(target: Path) -> None:
    """Removes the leftovers of a process that was killed while it moved files into place."""
    for leftover in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
