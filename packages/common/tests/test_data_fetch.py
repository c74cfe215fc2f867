"""Finding, fetching and resolving data sets; mirrors; several processes at once."""

import dataclasses
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.data import DATA_SETS, DataSet, cifar10, fetch, find, resolve
from dlcommon.runtime.data.image_table import write_images
from dlcommon.runtime.data.sources import RemoteFile, WebSource, gunzip_into
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.text import Text
from dlcommon.testing.faulty_server import FaultyServer

LETTERS = b"alpha beta gamma " * 4000
PACKED = gzip.compress(LETTERS, mtime=0)
HUB = "uoft-cs/cifar10"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, no `DL_DATA_DIR`, no retries, no proxy on the way to the server."""
    for variable in ("DL_DATA_DIR", "HF_HUB_OFFLINE", "DL_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DL_DOWNLOAD_TIMEOUT", "1")
    monkeypatch.setenv("DL_DOWNLOAD_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer({"/letters.gz": PACKED}) as running:
        yield running


def web_source(*mirrors: str) -> WebSource:
    file = RemoteFile("letters.gz", f"sha256:{hashlib.sha256(PACKED).hexdigest()}")
    return WebSource("web", mirrors, (file,), gunzip_into("raw"))


@pytest.fixture
def letters(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A data set of one text file, which the local server has."""
    dataset = DataSet(
        name="letters",
        title=Text("Letters", "字母"),
        description="words",
        licence="CC0",
        home="",
        folder="letters",
        files=("raw/letters",),
        sources=(web_source(server.url),),
        load=lambda folder: (folder / "raw" / "letters").read_bytes(),
    )
    monkeypatch.setitem(DATA_SETS, "letters", dataset)
    return dataset


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_fetched_into_the_cache_once(letters: DataSet, server: FaultyServer, cache: Path) -> None:
    assert find("letters") is None
    located = fetch("letters")
    assert (located.path, located.origin) == (cache / "data" / "letters", "cache")
    assert located.load() == LETTERS
    assert located.describe() == "letters (cache)"
    fetch("letters")
    assert len(server.asked("/letters.gz")) == 1
    assert files_below(cache) == ["data/letters/raw/letters", "manifests/letters.json"]


def test_data_dir_comes_before_the_cache(letters: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = fetch("letters")
    own = tmp_path / "own" / "letters" / "raw" / "letters"
    own.parent.mkdir(parents=True)
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path / "own"))
    assert find("letters") == cached  # DL_DATA_DIR holds the folder, but not the file
    own.write_bytes(b"mine")
    located = resolve(None, ("letters", "colour-scenes"))
    assert located.describe() == "letters (DL_DATA_DIR)"
    assert located.load() == b"mine"
    assert located.fingerprint() != cached.fingerprint()


def test_fingerprint_follows_the_contents(letters: DataSet) -> None:
    located = fetch("letters")
    before = located.fingerprint()
    assert before == located.fingerprint()
    (located.files()[0]).write_bytes(LETTERS + b"!")
    assert located.fingerprint() != before
    assert located.load() == LETTERS + b"!"


def test_data_dir_that_is_none_is_an_error(letters: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_DATA_DIR", "/no/such/folder")
    with pytest.raises(UserError, match="DL_DATA_DIR is '/no/such/folder'"):
        resolve(None, ("letters", "colour-scenes"))


def test_next_mirror_and_next_source_are_tried(
    letters: DataSet, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = web_source(f"{server.url}gone/")
    mirrored = web_source(f"{server.url}gone/", server.url)
    changed = dataclasses.replace(letters, sources=(broken, dataclasses.replace(mirrored, name="second")))
    monkeypatch.setitem(DATA_SETS, "letters", changed)
    fetch("letters")
    assert len(server.asked("/gone/letters.gz")) == 2


def test_wrong_bytes_are_never_used(letters: DataSet, server: FaultyServer, cache: Path) -> None:
    server.files["/letters.gz"] = gzip.compress(b"something else")
    with pytest.raises(DataUnavailableError, match="do not have the published sha256"):
        fetch("letters")
    assert files_below(cache) == []
    assert find("letters") is None


def test_named_outright_never_falls_back(letters: DataSet, server: FaultyServer) -> None:
    server.faults["/letters.gz"] = [503]
    with pytest.raises(DataUnavailableError) as caught:
        resolve("letters", ("letters", "colour-scenes"))
    for part in ("503", "data fetch letters", "HF_ENDPOINT", "letters/raw/letters", "DL_DATA_DIR"):
        assert part in str(caught.value)


def test_default_falls_back_loudly(letters: DataSet, server: FaultyServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.faults["/letters.gz"] = [503]
    located = resolve(None, ("letters", "colour-scenes"))
    assert (located.name, located.origin, located.builtin) == ("colour-scenes", "built-in", True)
    output = capsys.readouterr()
    assert "THE REAL DATA COULD NOT BE HAD" in output.err
    assert "503" in output.err
    assert "colour-scenes" in output.err
    assert output.out == ""
    assert resolve(None, ("letters", "colour-scenes")).name == "letters"  # the server is well again


@pytest.mark.parametrize("variable", ["DL_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(
    letters: DataSet, server: FaultyServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(DataUnavailableError, match=f"{variable}=1 turns downloads off"):
        fetch("letters")
    assert server.requests == []


def test_names_that_do_not_exist_or_do_not_fit(letters: DataSet) -> None:
    with pytest.raises(UsageError, match="did you mean colour-scenes"):
        resolve("color-scenes", ("letters",))
    with pytest.raises(UsageError, match="choose one of cifar10"):
        find("xyz")
    with pytest.raises(UsageError, match="mnist cannot be used here; choose one of letters, colour-scenes"):
        resolve("mnist", ("letters", "colour-scenes"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_cache_is_explained(letters: DataSet, cache: Path) -> None:
    cache.mkdir(mode=0o500)
    with pytest.raises(UserError, match="choose another folder"):
        fetch("letters")


def test_cache_path_that_is_a_file_is_explained(
    letters: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot write"):
        fetch("letters")


def test_leftovers_of_a_killed_process_are_swept(letters: DataSet, cache: Path) -> None:
    leftover = cache / "data" / ".letters.killed" / "raw"
    leftover.mkdir(parents=True)
    (leftover / "letters").write_bytes(LETTERS[:99])
    assert find("letters") is None
    fetch("letters")
    assert files_below(cache) == ["data/letters/raw/letters", "manifests/letters.json"]


def small_tables(folder: Path) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    for name in cifar10.DATA_SET.files:
        images = random.integers(0, 256, (20, 32, 32, 3), np.uint8)
        write_images(folder / name, images, np.arange(20) % 10, cifar10.CLASSES)
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
    tables = small_tables(tmp_path / "made")
    first, second = (server.serve_hub_file(HUB, name, content) for name, content in tables.items())
    server.faults[first] = [503, "break"]  # the first for the library's HEAD, the second for our GET
    process = data_command("fetch", "cifar10", "--json", endpoint=server.url)
    out, err = process.communicate(timeout=60)
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
        for number, (name, content) in enumerate(small_tables(tmp_path / "made").items()):
            storage.files[f"/{number}"] = content
            path = server.serve_hub_file(HUB, name, content)
            redirect = {**server.headers[path], "Location": f"{storage.url}{number}"}
            for revision in (path, path.replace("/main/", f"/{'0' * 40}/")):
                server.faults[revision] = [(302, redirect)]
        process = data_command("fetch", "cifar10", endpoint=server.url)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    asked = [request for request in server.requests if request.path.startswith("/datasets/")]
    assert [request.headers["authorization"] for request in asked] == ["Bearer hf_secret"] * 2
    assert [request.path for request in storage.requests] == ["/0", "/1"]
    assert not any("authorization" in request.headers for request in storage.requests)


def test_killed_process_is_continued(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    paths = [server.serve_hub_file(HUB, name, content) for name, content in small_tables(tmp_path / "made").items()]
    half = len(server.files[paths[0]]) // 2
    server.faults[paths[0]] = ["slow", "stall"]  # the first for the library's HEAD, which has no body
    process = data_command("fetch", "cifar10", endpoint=server.url)
    part = cache / "partial" / "cifar10" / "hub-uoft-cs-cifar10" / f"{cifar10.TRAIN}.part"
    deadline = time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size == half) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert find("cifar10") is None
    process = data_command("fetch", "cifar10", endpoint=server.url)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert server.asked(paths[0])[-1].headers["range"] == f"bytes={half}-"
    located = find("cifar10")
    assert located is not None
    assert len(located.load().train_images) == 20
    assert files_below(cache / "data") == [f"cifar10/{name}" for name in sorted(cifar10.DATA_SET.files)]


def test_bytes_that_the_hub_did_not_state_are_refused(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    for name, content in small_tables(tmp_path / "made").items():
        path = server.serve_hub_file(HUB, name, content)
        server.files[path] = content[:-1] + b"!"
    process = data_command("fetch", "cifar10", endpoint=server.url)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "do not have the published sha256" in err
    assert "www.cs.toronto.edu" in err  # the next source, out of reach here
    assert "Traceback" not in err
    assert files_below(cache / "data") == []


def test_two_processes_fetch_one_copy(server: FaultyServer, tmp_path: Path, cache: Path) -> None:
    paths = [server.serve_hub_file(HUB, name, content) for name, content in small_tables(tmp_path / "made").items()]
    server.faults[paths[0]] = ["slow", "slow"]
    processes = [data_command("fetch", "cifar10", endpoint=server.url) for _ in range(2)]
    results = [(process.communicate(timeout=90)[1], process.returncode) for process in processes]
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
