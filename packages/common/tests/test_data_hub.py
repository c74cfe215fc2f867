"""CIFAR-10 from the hub and its mirrors, by several processes at once, and from the original archive."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dlcommon.runtime.data import cifar10, find
from dlcommon.runtime.data.download import DownloadSettings
from dlcommon.runtime.data.progress import DownloadProgress
from dlcommon.runtime.data.sources import HubSource
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.testing.data_files import files_below, put_small_cifar10
from dlcommon.testing.faulty_server import FaultyServer

HUB = "uoft-cs/cifar10"

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


def tables_in(root: Path) -> dict[str, bytes]:
    """What the hub holds: the contents of CIFAR-10's files (small ones) by name."""
    folder = put_small_cifar10(root)
    return {name: (folder / name).read_bytes() for name in cifar10.DATA_SET.files}


def data_command(*words: str, endpoint: str) -> "subprocess.Popen[str]":
    """`data …` in a process of its own, since the hub's library reads HF_ENDPOINT when it is imported.

    A proxy that does not exist keeps it from reaching anything but the local server.
    """
    program = "from dlcommon.runtime.cli import data; data()"
    variables = {
        "HF_ENDPOINT": endpoint.rstrip("/"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "DL_DOWNLOAD_ATTEMPTS": "3",
        "DL_DOWNLOAD_TIMEOUT": "10",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *words],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_mirror_of_the_hub(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    tables = tables_in(tmp_path)
    first, second = (server.serve_hub_file(HUB, name, content) for name, content in tables.items())
    server.faults[first] = [503, "break"]  # the first for the library's HEAD, the second for our GET
    process = data_command("fetch", "cifar10", "--json", endpoint=server.url)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert json.loads(out)["data_sets"][0]["origin"] == "cache"
    assert "503" in err
    assert "trying again" in err
    located = find("cifar10")
    assert located is not None
    assert {name: (located.path or tmp_path).joinpath(name).read_bytes() for name in tables} == tables
    assert located.describe() == "cifar10 (cache, PNG-encoded)"
    assert json.loads((cache / "manifests" / "cifar10.json").read_text())["source"] == "hub-uoft-cs-cifar10"
    # All files are of the commit that the first was of.
    assert not server.asked(second)
    assert server.asked(second.replace("/main/", f"/{'0' * 40}/"))


def test_token_stays_with_the_hub(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub sends large files from another server, which must not see the user's token."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with FaultyServer() as storage:
        for number, (name, content) in enumerate(tables_in(tmp_path).items()):
            storage.files[f"/{number}"] = content
            path = server.serve_hub_file(HUB, name, content)
            redirect = {**server.headers[path], "Location": f"{storage.url}{number}"}
            for revision in (path, path.replace("/main/", f"/{'0' * 40}/")):
                server.faults[revision] = [(302, redirect)]
        process = data_command("fetch", "cifar10", endpoint=server.url)
        _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    asked = [request for request in server.requests if request.path.startswith("/datasets/")]
    assert [request.headers["authorization"] for request in asked] == ["Bearer hf_secret"] * 2
    assert [request.path for request in storage.requests] == ["/0", "/1"]
    assert not any("authorization" in request.headers for request in storage.requests)


def test_killed_process_is_continued(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    paths = [server.serve_hub_file(HUB, name, content) for name, content in tables_in(tmp_path).items()]
    half = len(server.files[paths[0]]) // 2
    server.faults[paths[0]] = ["slow", "stall"]  # the first for the library's HEAD, which has no body
    process = data_command("fetch", "cifar10", endpoint=server.url)
    part = cache / "partial" / "cifar10" / "hub-uoft-cs-cifar10" / f"{cifar10.TRAIN}.part"
    deadline = time.monotonic() + 600
    while not (part.is_file() and part.stat().st_size == half) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert find("cifar10") is None
    process = data_command("fetch", "cifar10", endpoint=server.url)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert server.asked(paths[0])[-1].headers["range"] == f"bytes={half}-"
    located = find("cifar10")
    assert located is not None
    assert len(located.load().train_images) == 20
    assert files_below(cache / "data" / "cifar10") == sorted(cifar10.DATA_SET.files)


def test_bytes_that_the_hub_did_not_state_are_refused(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    for name, content in tables_in(tmp_path).items():
        path = server.serve_hub_file(HUB, name, content)
        server.files[path] = content[:-1] + b"!"
    process = data_command("fetch", "cifar10", endpoint=server.url)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "do not have the published sha256" in err
    assert "www.cs.toronto.edu" in err  # the next source, out of reach here
    assert "Traceback" not in err
    assert files_below(cache / "data") == []


def test_a_file_is_cut_off_at_the_size_that_the_hub_states(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/one.bin"], server.faults["/one.bin"] = bytes(9000), ["endless"]
    stated = SimpleNamespace(etag="0" * 64, size=9000, location=f"{server.url}one.bin", commit_hash=None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda address, timeout: stated)
    with DownloadProgress() as progress, pytest.raises(DataUnavailableError, match="more than the 9,000 bytes"):
        HubSource(HUB, ("one.bin",)).fetch(tmp_path / "partial", tmp_path / "set", DownloadSettings(), progress)
    assert files_below(tmp_path) == []


def test_two_processes_fetch_one_copy(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    paths = [server.serve_hub_file(HUB, name, content) for name, content in tables_in(tmp_path).items()]
    server.faults[paths[0]] = ["slow", "slow"]
    processes = [data_command("fetch", "cifar10", endpoint=server.url) for _ in range(2)]
    results = [(process.communicate(timeout=600)[1], process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0], results
    assert len(server.asked(paths[0])) == 1
    located = find("cifar10")
    assert located is not None
    assert len(located.load().train_images) == 20
    assert [folder.name for folder in (cache / "data").iterdir()] == ["cifar10"]


def archive_of(batches: dict[str, np.ndarray], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, records in batches.items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = records.nbytes
            archive.addfile(info, io.BytesIO(records.tobytes()))
    return path


def test_original_archive_becomes_the_hubs_tables(tmp_path: Path, cache: Path) -> None:
    random = np.random.default_rng(0)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    batches = {name: random.integers(0, 256, (4, 3073), np.uint8) for name in [*names, "test_batch.bin"]}
    for records in batches.values():
        records[:, 0] %= 10
    cifar10.convert_archive(archive_of(batches, tmp_path / "whole.tar.gz"), tmp_path / "out")
    data = cifar10.load(tmp_path / "out")
    expected = np.concatenate([batches[name] for name in names])
    assert data.encoding == "PNG"
    assert (data.train_labels == expected[:, 0]).all()
    assert (data.train_images.transpose(0, 3, 1, 2).reshape(20, -1) == expected[:, 1:]).all()
    assert (data.test_labels == batches["test_batch.bin"][:, 0]).all()

    del batches["data_batch_3.bin"]
    with pytest.raises(DataUnavailableError, match=r"data_batch_3\.bin is missing or broken off"):
        cifar10.convert_archive(archive_of(batches, tmp_path / "part.tar.gz"), tmp_path / "out2")
