"""Fetches files from web servers and from repositories of the Hugging Face hub."""

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from dlcommon.runtime.data.download import (
    LARGEST,
    TRANSIENT,
    DownloadSettings,
    Retries,
    cannot_connect,
    download,
    reason_of,
    retry_after,
)
from dlcommon.runtime.data.progress import DownloadProgress
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.runtime.files import explained_disk_errors


@dataclass(frozen=True)
class RemoteFile:
    """Names a file that one or more servers have."""

    name: str
    checksum: str | None
    """`sha256:…` or `md5:…`, as its publisher states it; None where `unpack` verifies what is in the file."""
    max_bytes: int = 50 * 10**6
    """The most that is downloaded of it; a file that is larger than most states more."""


@dataclass(frozen=True)
class WebSource:
    """Fetches files that lie side by side on a server, or on mirrors of it."""

    name: str
    mirrors: tuple[str, ...]
    """Addresses that a file's name is appended to, tried in order."""
    files: tuple[RemoteFile, ...]
    unpack: Callable[[Path, Path], None]
    """Turns one downloaded, verified file into files of the data set: (file, folder of the data set)."""

    def fetch(self, downloads: Path, folder: Path, settings: DownloadSettings, progress: DownloadProgress) -> None:
        for file in self.files:
            target = downloads / file.name
            self._download(file, target, settings, progress)
            self.unpack(target, folder)

    def _download(self, file: RemoteFile, target: Path, settings: DownloadSettings, progress: DownloadProgress) -> None:
        reasons = []
        for mirror in self.mirrors:
            try:
                return download(mirror + file.name, target, file.checksum, settings, progress, max_bytes=file.max_bytes)
            except DataUnavailableError as error:
                reasons.append(str(error))
        raise DataUnavailableError("; ".join(reasons))


def put(downloaded: Path, folder: Path) -> None:
    """Copies the file as it is."""
    target = folder / downloaded.name
    with explained_disk_errors(target):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(downloaded, target)


def gunzip_into(subfolder: str) -> Callable[[Path, Path], None]:
    """Returns a function that unpacks `name.gz` to `subfolder/name`."""

    def unpack(packed: Path, folder: Path) -> None:
        target = folder / subfolder / packed.name.removesuffix(".gz")
        with explained_disk_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with gzip.open(packed) as source, target.open("wb") as unpacked:
                shutil.copyfileobj(source, unpacked)

    return unpack


@dataclass(frozen=True)
class HubSource:
    """Fetches files of a repository of the hub; HF_ENDPOINT names a mirror, HF_TOKEN the account that asks.

    The library resolves addresses and checksums; the bytes go through `download`, because the library throws
    away what it has of a file when a download breaks off, and compares only its length.
    """

    repository: str
    files: tuple[str, ...]
    revision: str = "main"
    kind: Literal["dataset", "model"] = "dataset"

    @property
    def name(self) -> str:
        return f"hub-{self.repository.replace('/', '-')}"

    def fetch(self, downloads: Path, folder: Path, settings: DownloadSettings, progress: DownloadProgress) -> None:
        revision = self.revision
        for path in self.files:
            url, checksum, size, headers, commit = self._resolve(path, revision, settings, progress)
            revision = commit or revision  # all files from one commit, also if a new one is pushed meanwhile
            fetched = downloads / path
            download(url, fetched, checksum, settings, progress, headers, size)
            with explained_disk_errors(folder / path):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fetched, folder / path)

    def _resolve(
        self, path: str, revision: str, settings: DownloadSettings, progress: DownloadProgress
    ) -> tuple[str, str, int, dict[str, str], str | None]:
        """Returns the file's address, checksum and size, headers to send, and the commit that it belongs to."""
        import httpx2
        from huggingface_hub import get_hf_file_metadata, get_token, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError

        address = hf_hub_url(self.repository, path, repo_type=self.kind, revision=revision)
        retries = Retries(address, settings, progress)
        while True:
            wait: float | None = None
            try:
                metadata = get_hf_file_metadata(address, timeout=settings.timeout)
                break
            except HfHubHTTPError as error:
                reason = f"the hub answered {error.response.status_code}"
                if error.response.status_code not in TRANSIENT:
                    raise DataUnavailableError(f"{address}: {reason}") from error
                wait = retry_after(error.response.headers)
            except (httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.ReadError) as error:
                reason = reason_of(error)
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
                raise DataUnavailableError(cannot_connect(address, error)) from error
            retries.failed(reason, wait)
        algorithm = {64: "sha256", 40: "git-sha1"}.get(len(metadata.etag or ""))  # of large and of small files
        if algorithm is None or not re.fullmatch(r"[0-9a-f]+", metadata.etag or ""):
            raise DataUnavailableError(
                f"{address}: the server states no checksum for this file, so it cannot be verified; "
                f"check that HF_ENDPOINT names a mirror of the hub"
            )
        same_server = urlsplit(metadata.location)[:2] == urlsplit(address)[:2]
        token = get_token() if same_server else None  # none for the server that stores the bytes
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        size = min(metadata.size or LARGEST, LARGEST)
        return metadata.location, f"{algorithm}:{metadata.etag}", size, headers, metadata.commit_hash
