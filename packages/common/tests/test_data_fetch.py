"""Finding, fetching and resolving data sets."""

import dataclasses
import gzip
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.runtime.data import DATA_SETS, DataSet, fetch, find, resolve
from dlcommon.runtime.data.sources import RemoteFile, WebSource, gunzip_into
from dlcommon.runtime.errors import DataUnavailableError, UsageError, UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.data_files import FileContents, files_below
from dlcommon.testing.faulty_server import FaultyServer

LETTERS = b"alpha beta gamma " * 4000
PACKED = gzip.compress(LETTERS, mtime=0)


@pytest.fixture(autouse=True)
def cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one; downloads are tried once."""
    monkeypatch.setenv("DL_DOWNLOAD_TIMEOUT", "1")
    monkeypatch.setenv("DL_DOWNLOAD_ATTEMPTS", "1")
    return cache


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
        title=LocalizedText("Letters", "字母"),
        description="words",
        licence="CC0",
        home="",
        folder="letters",
        files=("raw/letters",),
        sources=(web_source(server.url),),
        load=lambda folder: FileContents((folder / "raw" / "letters").read_bytes()),
    )
    monkeypatch.setitem(DATA_SETS, "letters", dataset)
    return dataset


def test_fetched_into_the_cache_once(letters: DataSet, server: FaultyServer, cache: Path) -> None:
    assert find("letters") is None
    located = fetch("letters")
    assert (located.path, located.origin) == (cache / "data" / "letters", "cache")
    assert located.load().content == LETTERS
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
    assert located.load().content == b"mine"
    assert located.fingerprint() != cached.fingerprint()


def test_fingerprint_follows_the_contents(letters: DataSet) -> None:
    located = fetch("letters")
    before = located.fingerprint()
    assert before == located.fingerprint()
    (located.files()[0]).write_bytes(LETTERS + b"!")
    assert located.fingerprint() != before
    assert located.load().content == LETTERS + b"!"


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
    assert "DATA SET UNAVAILABLE: letters" in output.err
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


def test_a_mirror_that_sends_more_than_the_registry_allows_is_left_for_the_next(
    letters: DataSet, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = letters.sources
    assert isinstance(source, WebSource)
    file = dataclasses.replace(source.files[0], max_bytes=len(PACKED))
    endless = dataclasses.replace(source, mirrors=(f"{server.url}endless/", server.url), files=(file,))
    monkeypatch.setitem(DATA_SETS, "letters", dataclasses.replace(letters, sources=(endless,)))
    server.files["/endless/letters.gz"], server.faults["/endless/letters.gz"] = PACKED, ["endless"] * 9
    assert fetch("letters").load().content == LETTERS
