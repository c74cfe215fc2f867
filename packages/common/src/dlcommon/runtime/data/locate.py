"""Where a data set lies: `DL_DATA_DIR`, else the cache."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlcommon.runtime.data import registry
from dlcommon.runtime.data.dataset import DamagedDataError, DataSet, Loaded
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import sha256

Origin = Literal["DL_DATA_DIR", "cache", "built-in", "file"]

_fingerprints: dict[tuple[Any, ...], str] = {}
_last_loaded: dict[tuple[Any, ...], Any] = {}
"""The data set loaded last: training, evaluation and export of one process read it one after the other."""


def cache_root() -> Path:
    """`DL_CACHE_DIR`, else the user's cache folder."""
    import platformdirs

    if chosen := os.environ.get("DL_CACHE_DIR"):
        return Path(chosen).expanduser().resolve()
    return Path(platformdirs.user_cache_dir("dlcommon"))


def data_cache() -> Path:
    """The folder that fetched data sets are put in, laid out as `DL_DATA_DIR` is."""
    return cache_root() / "data"


def data_dir() -> Path | None:
    """`DL_DATA_DIR`, where it is set.

    Raises:
        UserError: it names something that is not a folder.
    """
    chosen = os.environ.get("DL_DATA_DIR")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"DL_DATA_DIR is {chosen!r}, but {folder} is not a folder; correct it or unset it")
    return folder


@dataclass(frozen=True)
class LocatedDataSet:
    """A data set that can be loaded here and now."""

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
        return [self.path / name for name in self.dataset.files] if self.path else []

    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.files())

    def load(self) -> Any:
        """The data in memory. Whoever loads the set again in this process may be given the same object.

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
        """sha256 over the contents of the files; of a built-in set, over what it loads."""
        key = self._key()
        if key not in _fingerprints:
            _fingerprints[key] = _hash_of_loaded(self.load()) if self.builtin else hash_of_files(self.files())
        return _fingerprints[key]

    def describe(self) -> str:
        """Name, origin, and what is special about this copy: `cifar10 (DL_DATA_DIR, JPEG-encoded)`."""
        facts: list[str] = [self.origin]
        if self.dataset.details is not None:
            try:
                facts.append(self.dataset.details(self.path or Path()))
            except DamagedDataError as error:
                raise UserError(f"{error}; {self._advice()}") from error
        return f"{self.name} ({', '.join(facts)})"

    def _key(self) -> tuple[Any, ...]:
        """Changes when a file does."""
        stamps = tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in self.files())
        return (self.dataset, self.path, stamps)

    def _advice(self) -> str:
        if self.origin == "file":
            return "correct the file, or name another"
        if self.origin == "cache":
            return f"fetch it again with `data remove {self.name}` and `data fetch {self.name}`"
        if self.origin == "DL_DATA_DIR":
            return "put a whole copy there, or unset DL_DATA_DIR to have it downloaded"
        return "reinstall the library that ships it"


def hash_of_files(files: list[Path]) -> str:
    """sha256 over the contents of the files in this order; their names and folders do not matter."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{sha256(file)}\n".encode())
    return digest.hexdigest()


def _hash_of_loaded(data: Loaded) -> str:
    digest = hashlib.sha256()
    for part in data.contents():
        digest.update(part)
    return digest.hexdigest()


def own_files(dataset: DataSet, folder: Path) -> LocatedDataSet:
    """A user's own files as a data set, which no registry knows.

    Raises:
        UserError: one of the files is not there.
    """
    for file in dataset.files:
        if not (folder / file).is_file():
            raise UserError(f"{folder / file} is not a file; correct the path")
    return LocatedDataSet(dataset, folder.resolve(), "file")


def find(name: str) -> LocatedDataSet | None:
    """The data set where it lies already: in `DL_DATA_DIR`, else in the cache; a built-in set always is.

    Raises:
        UsageError: there is no data set of that name.
        UserError: `DL_DATA_DIR` names something that is not a folder.
    """
    dataset = registry.get(name)
    if dataset.builtin:
        return LocatedDataSet(dataset, None, "built-in")
    places: list[tuple[Path | None, Origin]] = [(data_dir(), "DL_DATA_DIR"), (data_cache(), "cache")]
    for root, origin in places:
        if root is not None and holds(root, dataset):
            return LocatedDataSet(dataset, root / dataset.folder, origin)
    return None


def holds(root: Path, dataset: DataSet) -> bool:
    return all((root / dataset.folder / file).is_file() for file in dataset.files)
