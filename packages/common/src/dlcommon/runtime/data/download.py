"""Downloads one file over HTTP: resumes it where it broke off, tries again where that helps, and verifies it."""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dlcommon.runtime.data.progress import DownloadProgress
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.files import explained_disk_errors

if TYPE_CHECKING:
    import httpx2

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
LARGEST = 20 * 10**9
"""Bytes that are accepted at most of a file whose size nothing states."""


class _TooLargeError(DataUnavailableError):
    """Reports a file that is larger than it can be."""


@dataclass(frozen=True)
class DownloadSettings:
    """Sets the timeouts and retries of a download."""

    timeout: float = 20.0
    """Seconds without a byte after which a connection counts as stalled."""
    attempts: int = 4
    """Failures in a row, without a byte of progress between them, after which it is given up."""
    backoff: float = 1.0
    """Seconds before the second attempt; each further wait is twice as long."""
    longest_wait: float = 30.0
    """Seconds that a server's Retry-After is obeyed for at most."""

    @classmethod
    def from_environment(cls) -> "DownloadSettings":
        """Reads DL_DOWNLOAD_TIMEOUT (seconds) and DL_DOWNLOAD_ATTEMPTS.

        Raises:
            UsageError: one of them is not a positive number.
        """
        timeout = _positive("DL_DOWNLOAD_TIMEOUT", cls.timeout)
        return cls(timeout, max(1, round(_positive("DL_DOWNLOAD_ATTEMPTS", cls.attempts))))


def _positive(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise UsageError(f"{variable} must be a positive number, not {text!r}")


class Retries:
    """Counts failures in a row, waits between them, and ends in an error that says what went wrong."""

    def __init__(self, what: str, settings: DownloadSettings, progress: DownloadProgress) -> None:
        self.what, self.settings, self.progress = what, settings, progress
        self.failures = 0

    def failed(self, reason: str, retry_after: float | None = None) -> None:
        """Waits until it is time to try again.

        Raises:
            DataUnavailableError: that was the last attempt.
        """
        self.failures += 1
        if self.failures >= self.settings.attempts:
            raise DataUnavailableError(f"{self.what}: {reason} ({self.failures} attempts)")
        wait = self.settings.backoff * 2 ** (self.failures - 1) if retry_after is None else retry_after
        wait = min(wait, self.settings.longest_wait)
        self.progress.note(f"{self.what}: {reason}; trying again in {wait:.1f} s")
        time.sleep(wait)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that the server asks to wait, where it gives them as a number."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None


def reason_of(error: Exception) -> str:
    """Returns the error in words, also where its own message is empty."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def cannot_connect(url: str, error: Exception) -> str:
    return f"{urlsplit(url).netloc} cannot be reached ({error or type(error).__name__})"


def checksum_of(path: Path, algorithm: str) -> str:
    """Returns the file's checksum in hexadecimal digits.

    Args:
        algorithm: `sha256`, `md5`, or `git-sha1`, which git (and the hub, for small files) calls a blob's id.
    """
    if algorithm == "git-sha1":
        header = f"blob {path.stat().st_size}\0".encode()
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.sha1(header, usedforsecurity=False)).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def matches(path: Path, checksum: str) -> bool:
    """Says whether the file has the checksum, which is written `sha256:…`, `md5:…` or `git-sha1:…`."""
    algorithm, _, expected = checksum.partition(":")
    return checksum_of(path, algorithm) == expected


def download(
    url: str,
    target: Path,
    checksum: str | None,
    settings: DownloadSettings,
    progress: DownloadProgress,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = LARGEST,
) -> None:
    """Downloads to `target`, through `target.part`, which an interrupted download leaves to be resumed.

    Proxies are taken from the environment (HTTPS_PROXY, NO_PROXY, …).

    Args:
        checksum: `sha256:…`, `md5:…` or `git-sha1:…`; None where the server packs the file anew for each
            request, so that the caller must verify what is in it. Such a file is not resumed by the next process.
        headers: sent along, such as an authorization.
        max_bytes: the file's size, or the most that it may have; a server that sends more is cut off.

    Raises:
        DataUnavailableError: the server cannot be reached, refuses, or sends something else or too much; in the last
            two cases nothing is left behind.
        UserError: the disk is full or the folder cannot be written.
    """
    import httpx2

    if checksum is not None and target.is_file() and matches(target, checksum):
        return
    part = target.with_name(f"{target.name}.part")
    with explained_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if checksum is None:
            part.unlink(missing_ok=True)  # what is left of another packing does not fit this one
        timeout = httpx2.Timeout(settings.timeout, connect=min(10.0, settings.timeout))
        with httpx2.Client(timeout=timeout, follow_redirects=True, headers=headers) as client:
            begun_with = _receive_all(client, url, part, settings, progress, max_bytes)
            if checksum is not None and begun_with and not matches(part, checksum):
                progress.note(f"{url}: what was left of an earlier download does not fit; downloading it anew")
                part.unlink()
                _receive_all(client, url, part, settings, progress, max_bytes)
        if checksum is not None and not matches(part, checksum):
            algorithm, size = checksum.partition(":")[0], part.stat().st_size
            part.unlink()
            raise DataUnavailableError(
                f"{url}: the {size:,} bytes received do not have the published {algorithm}, so they were "
                f"deleted; try again; if it stays so, the server or a proxy on the way sends something else"
            )
        part.replace(target)


def _receive_all(
    client: "httpx2.Client",
    url: str,
    part: Path,
    settings: DownloadSettings,
    progress: DownloadProgress,
    max_bytes: int,
) -> int:
    """Brings `part` to its full length; returns how many of its bytes were there before."""
    import httpx2

    begun_with = part.stat().st_size if part.is_file() else 0
    retries = Retries(url, settings, progress)
    received_any = False
    while True:
        before = part.stat().st_size if part.is_file() else 0
        wait: float | None = None
        try:
            _receive(client, url, part, progress, max_bytes)
            return begun_with
        except _TooLargeError:
            part.unlink(missing_ok=True)
            raise
        except httpx2.HTTPStatusError as error:
            status = error.response.status_code
            reason = f"the server answered {status} {error.response.reason_phrase}"
            if status == 416 and before:  # the file there is not longer than what lies here
                return begun_with
            if status not in TRANSIENT:
                raise DataUnavailableError(f"{url}: {reason}") from error
            wait = retry_after(error.response.headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            if not received_any:
                raise DataUnavailableError(cannot_connect(url, error)) from error
            reason = cannot_connect(url, error)
        except httpx2.TimeoutException:
            reason = f"no byte for {settings.timeout:g} s"
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = reason_of(error)
        if part.is_file() and part.stat().st_size > before:
            retries.failures, received_any = 0, True
        retries.failed(reason, wait)


def _receive(client: "httpx2.Client", url: str, part: Path, progress: DownloadProgress, max_bytes: int) -> None:
    """Requests what is still missing of `part`, and appends it.

    Raises:
        _TooLargeError: the server announces or sends more than `max_bytes`.
    """
    done = part.stat().st_size if part.is_file() else 0
    # identity: ranges and lengths count the bytes of the file itself, not of a compressed transfer.
    wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with client.stream("GET", url, headers=wanted) as response:
        response.raise_for_status()
        start = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
        if done and not (response.status_code == 206 and start and int(start[1]) == done):
            done = 0  # the server starts over
        length = response.headers.get("content-length", "")
        missing = int(length) if length.isdecimal() else None
        _check_size(url, done + (missing or 0), max_bytes)
        _check_space(part, missing or 0)
        progress.begin(Path(response.url.path).name, None if missing is None else done + missing, done)
        with part.open("r+b" if done else "wb", buffering=0) as file:  # unbuffered: a killed process keeps it all
            file.seek(done)
            for chunk in response.iter_raw():  # as they come: nothing that arrived is lost when it breaks off
                done += len(chunk)
                _check_size(url, done, max_bytes)  # a body without a stated length may never end
                file.write(chunk)
                progress.advance(done)


def _check_size(url: str, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise _TooLargeError(
            f"{url}: the server sends more than the {max_bytes:,} bytes that this file can have, so it was cut off and "
            f"nothing was kept; the server or a proxy on the way sends something else"
        )


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise UserError(
            f"cannot download to {part.parent}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are "
            f"free; free some space, or set DL_CACHE_DIR to another disk"
        )
