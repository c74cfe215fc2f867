"""Archives that are packed anew for each request: verified by what is in them."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dlcommon.runtime.data import DATA_SETS, DataSet, fetch
from dlcommon.runtime.data.archive import unzip
from dlcommon.runtime.data.fingerprint import fingerprint
from dlcommon.runtime.data.sources import RemoteFile, WebSource
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.data_files import FileContents, files_below
from dlcommon.testing.faulty_server import FaultyServer

FILES = ("lists/*.txt", "labels.csv")
CONTENTS = {"lists/a.txt": b"first" * 500, "lists/b.txt": b"second" * 500, "labels.csv": b"0,1\n"}

pytestmark = pytest.mark.usefixtures("cache")


def packed(contents: dict[str, bytes], level: int = 9) -> bytes:
    """A zip file as servers of repositories make it, with files that are none of the data set's."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        archive.writestr("repository-1a2b/README.md", "about")
        archive.writestr("repository-1a2b/data/../../evil.txt", "climbs out")
        for name, content in contents.items():
            archive.writestr(f"repository-1a2b/data/{name}", content)
        archive.writestr("repository-1a2b/data/more.bin", "more")
    return buffer.getvalue()


def load(folder: Path) -> FileContents:
    return FileContents((folder / "labels.csv").read_bytes())


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer({"/zip/1a2b": packed(CONTENTS)}) as running:
        yield running


@pytest.fixture
def letters(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A data set in such an archive."""
    for name, content in CONTENTS.items():
        (tmp_path / "true" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "true" / name).write_bytes(content)
    expected = fingerprint(tmp_path / "true", FILES)
    source = WebSource("git", (f"{server.url}zip/",), (RemoteFile("1a2b", None),), unzip("data", FILES, expected))
    monkeypatch.setenv("DL_DOWNLOAD_ATTEMPTS", "2")
    dataset = DataSet(
        "letters", LocalizedText("Letters", "字母"), "words", "CC0", "", load, "letters", FILES, (source,)
    )
    monkeypatch.setitem(DATA_SETS, "letters", dataset)
    return dataset


@pytest.mark.parametrize("level", [1, 9])
def test_contents_are_verified_not_the_packing(letters: DataSet, server: FaultyServer, cache: Path, level: int) -> None:
    server.files["/zip/1a2b"] = packed(CONTENTS, level)
    located = fetch("letters")
    assert located.path == cache / "data" / "letters"
    assert files_below(located.path) == sorted(CONTENTS)
    located.verify()


def test_download_that_breaks_off_is_tried_again(letters: DataSet, server: FaultyServer) -> None:
    server.faults["/zip/1a2b"] = ["break"]
    assert fetch("letters").size() == sum(len(content) for content in CONTENTS.values())


def test_what_an_earlier_process_left_is_not_continued(letters: DataSet, server: FaultyServer, cache: Path) -> None:
    left = cache / "partial" / "letters" / "git" / "1a2b.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"part of another packing")
    (left.parent / "1a2b").write_bytes(b"whole, but of another time")
    fetch("letters")
    assert [request.headers.get("range") for request in server.asked("/zip/1a2b")] == [None]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (packed({**CONTENTS, "labels.csv": b"1,0\n"}), "1a2b does not hold the published files of data"),
        (packed({name: CONTENTS[name] for name in CONTENTS if name != "lists/b.txt"}), "does not hold the published"),
        (packed({**CONTENTS, "lists/c.txt": b"third"}), "does not hold the published"),
        (packed(CONTENTS)[:-40], "1a2b is not a whole zip file"),
        (b"<html>sign in</html>", "1a2b is not a whole zip file"),
    ],
)
def test_wrong_contents_are_never_used(
    letters: DataSet, server: FaultyServer, cache: Path, content: bytes, problem: str
) -> None:
    server.files["/zip/1a2b"] = content
    with pytest.raises(DataUnavailableError, match=problem):
        fetch("letters")
    assert files_below(cache / "data") == []


def test_an_archive_that_unpacks_to_more_than_the_files_can_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.zip").write_bytes(packed({"labels.csv": bytes(3_000_000)}))
    with pytest.raises(DataUnavailableError, match="unpacks to more than 1,000,000 bytes"):
        unzip("data", FILES, "", max_bytes=1_000_000)(tmp_path / "bomb.zip", tmp_path / "set")
    assert not (tmp_path / "set" / "labels.csv").exists()
