"""Defines data sets, and the type that image classification sets are loaded as."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dlcommon.runtime.data.package_files import InstalledPackage
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import numpy as np

    from dlcommon.runtime.data.download import DownloadSettings
    from dlcommon.runtime.data.progress import DownloadProgress


class DamagedDataError(UserError):
    """Reports a damaged file of a data set: which file and, where there is one, which row."""

    def __init__(self, path: Path, problem: str, row: int | None = None) -> None:
        where = f"{path}, row {row}" if row is not None else str(path)
        super().__init__(f"{where}: {problem}")
        self.path, self.problem, self.row = path, problem, row


class Source(Protocol):
    """Fetches files from one place, such as a server or the hub."""

    @property
    def name(self) -> str:
        """Names the source in progress and errors; also names its folder of unfinished downloads."""
        ...

    def fetch(self, downloads: Path, folder: Path, settings: "DownloadSettings", progress: "DownloadProgress") -> None:
        """Fills `folder` with the files, all of them verified.

        `downloads` stays as it is when this fails, so that the next call goes on from there.

        Raises:
            DataUnavailableError: the files are unavailable here, or are not what they should be.
        """
        ...


@dataclass(frozen=True)
class Entry:
    """Describes what the registry knows by a name: a data set or an asset."""

    name: str
    title: LocalizedText
    description: str
    """One line."""
    licence: str
    home: str
    """Address of the page that says what it is and who made it; empty for what this project generates."""


@dataclass(frozen=True)
class DataSet(Entry):
    """Describes a data set: where its files lie, where they come from, and how they are loaded.

    Errors count rows from 0 and lines of text from 1.
    """

    load: Callable[[Path], "Loaded"]
    """Reads and validates the files below the folder; a built-in set ignores the folder."""
    folder: str = ""
    """Below `DL_DATA_DIR` or the cache, in the layout that the set's standard loader expects."""
    files: tuple[str, ...] = ()
    """Paths below the folder that must be there, or patterns such as `Annotations/*.xml` that must match a file."""
    sources: tuple[Source, ...] = ()
    """Tried in order."""
    package: InstalledPackage | None = None
    """Carries the files too."""
    builtin: bool = False
    """Ships with a library or is generated: there is nothing to fetch."""
    details: Callable[[Path], str] | None = None
    """Returns what a record must say about the copy in this folder, such as how its images are encoded."""


class Loaded(Protocol):
    """Holds a data set in memory."""

    def contents(self) -> Iterator[bytes | memoryview]:
        """Yields all of it, in a fixed order: the input of its fingerprint."""
        ...


@dataclass(frozen=True)
class ImageClassification:
    """Holds labelled images in memory."""

    train_images: "np.ndarray"
    """uint8 [samples, height, width, channels]."""
    train_labels: "np.ndarray"
    """int64 [samples], an index into `classes`."""
    test_images: "np.ndarray"
    test_labels: "np.ndarray"
    classes: tuple[str, ...]
    encoding: str = "uncompressed"
    """How the files hold the images: JPEG loses detail, PNG and uncompressed do not."""

    def contents(self) -> Iterator[bytes | memoryview]:
        yield repr(self.classes).encode()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            yield f"{array.dtype}{array.shape}".encode()
            yield array.data.cast("B")


@dataclass(frozen=True)
class UnlabelledImages:
    """Holds images without labels in memory, such as a generator is trained on."""

    train: "np.ndarray"
    """uint8 [samples, height, width, channels]."""
    test: "np.ndarray"
    """Never trained on: what generated images are compared with."""
    encoding: str = "uncompressed"

    def contents(self) -> Iterator[bytes | memoryview]:
        for array in (self.train, self.test):
            yield f"{array.dtype}{array.shape}".encode()
            yield array.data.cast("B")
