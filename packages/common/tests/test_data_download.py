"""One file from a server that stalls, breaks off, lies or refuses."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.runtime.data.download import DownloadSettings, download
from dlcommon.runtime.data.progress import DownloadProgress
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.testing.faulty_server import FaultyServer

CONTENT = bytes(range(256)) * 1200
CHECKSUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
QUICK = DownloadSettings(timeout=0.3, attempts=3, backoff=0.01, longest_wait=0.02)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultyServer({"/set.bin": CONTENT}) as running:
        yield running


def get(server: FaultyServer, folder: Path, checksum: str = CHECKSUM) -> Path:
    target = folder / "set.bin"
    with DownloadProgress() as progress:
        download(f"{server.url}set.bin", target, checksum, QUICK, progress)
    return target


def test_whole_file_is_verified_and_not_fetched_twice(server: FaultyServer, tmp_path: Path) -> None:
    assert get(server, tmp_path).read_bytes() == CONTENT
    get(server, tmp_path, f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    assert len(server.asked("/set.bin")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set.bin"]


def test_broken_off_half_way_resumes_where_it_was(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/set.bin"] = ["break"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    ranges = [request.headers.get("range") for request in server.asked("/set.bin")]
    assert ranges == [None, f"bytes={len(CONTENT) // 2}-"]


def test_stall_times_out_and_resumes(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/set.bin"] = ["stall", "stall"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked("/set.bin")) == 3


def test_server_without_ranges_starts_over(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/set.bin"] = ["break", "no-ranges"]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_more_breaks_than_attempts_succeed_while_bytes_arrive(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/set.bin"] = ["break"] * 8
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_interrupted_process_is_resumed_by_the_next(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked("/set.bin")[0].headers["range"] == "bytes=1000-"


def test_partial_file_of_another_version_is_thrown_away(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(b"\xff" * 1000)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked("/set.bin")) == 2


@pytest.mark.parametrize("extra", [b"", b"more than the file has"])
def test_partial_file_as_long_as_the_file_or_longer(server: FaultyServer, tmp_path: Path, extra: bytes) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT + extra)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_wrong_bytes_leave_nothing_behind(server: FaultyServer, tmp_path: Path) -> None:
    server.files["/set.bin"] = CONTENT[:-1] + b"!"
    with pytest.raises(DataUnavailableError, match=r"do not have the published sha256.*deleted; try again"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("checksum", [CHECKSUM, None])
def test_a_body_without_an_end_is_cut_off(server: FaultyServer, tmp_path: Path, checksum: str | None) -> None:
    server.faults["/set.bin"] = ["endless"] * 9
    with (
        DownloadProgress() as progress,
        pytest.raises(DataUnavailableError, match=r"set\.bin: the server sends more than the 400,000 bytes"),
    ):
        download(f"{server.url}set.bin", tmp_path / "set.bin", checksum, QUICK, progress, max_bytes=400_000)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked("/set.bin")) == 1, "tried again"


def test_a_length_that_is_too_large_is_refused_before_its_bytes_are_read(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/set.bin"] = ["stall"]  # would time out
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    with DownloadProgress() as progress, pytest.raises(DataUnavailableError, match="sends more than the 300,000 bytes"):
        download(f"{server.url}set.bin", tmp_path / "set.bin", CHECKSUM, QUICK, progress, max_bytes=300_000)
    assert list(tmp_path.iterdir()) == []


def test_404_is_final(server: FaultyServer, tmp_path: Path) -> None:
    del server.files["/set.bin"]
    with pytest.raises(DataUnavailableError, match=r"set\.bin: the server answered 404 Not Found"):
        get(server, tmp_path)
    assert len(server.asked("/set.bin")) == 1


def test_503_is_tried_again(server: FaultyServer, tmp_path: Path) -> None:
    server.faults["/set.bin"] = [503, 429]
    assert get(server, tmp_path).read_bytes() == CONTENT
    server.faults["/set.bin"] = [503] * 9
    (tmp_path / "set.bin").unlink()
    with pytest.raises(DataUnavailableError, match=r"503 Service Unavailable \(3 attempts\)"):
        get(server, tmp_path)


def test_retry_after_is_obeyed_within_limits(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.faults["/set.bin"] = [(503, {"Retry-After": "7"}), (503, {"Retry-After": "3600"}), 503]
    settings = DownloadSettings(timeout=1, attempts=9, backoff=1, longest_wait=30)
    with DownloadProgress() as progress:
        download(f"{server.url}set.bin", tmp_path / "set.bin", CHECKSUM, settings, progress)
    assert waits == [7, 30, 4]


def test_silent_server_is_given_up(server: FaultyServer, tmp_path: Path) -> None:
    server.files["/set.bin"] = b"\0"  # half of one byte: the headers, then nothing
    server.faults["/set.bin"] = ["stall"] * 9
    with pytest.raises(DataUnavailableError, match=r"no byte for 0\.3 s \(3 attempts\)"):
        get(server, tmp_path)


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultyServer() as server:
        url = server.url
    with (
        DownloadProgress() as progress,
        pytest.raises(DataUnavailableError, match=r"127\.0\.0\.1:\d+ cannot be reached \(.*refused"),
    ):
        download(f"{url}set.bin", tmp_path / "set.bin", CHECKSUM, QUICK, progress)


def test_full_disk_is_told_before_the_download(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="DL_CACHE_DIR"):
        get(server, tmp_path)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_DOWNLOAD_TIMEOUT", "2.5")
    monkeypatch.setenv("DL_DOWNLOAD_ATTEMPTS", "7")
    assert DownloadSettings.from_environment() == DownloadSettings(timeout=2.5, attempts=7)
    monkeypatch.setenv("DL_DOWNLOAD_TIMEOUT", "soon")
    with pytest.raises(UsageError, match="DL_DOWNLOAD_TIMEOUT must be a positive number"):
        DownloadSettings.from_environment()
