"""Files and folders that are whole or not there."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dlcommon.runtime import files
from dlcommon.runtime.errors import UserError

WRITER = """
import sys
from pathlib import Path
from dlcommon.runtime.files import write_bytes
path = Path(sys.argv[1])
while True:
    for letter in b"ab":
        write_bytes(path, bytes([letter]) * 300_000)
"""


def test_a_file_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    files.write_bytes(path, b"first")
    files.write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_file_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "file", b"")
        with files.whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_write_that_fails_leaves_what_was_there(
    moment: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_bytes(path, b"old")

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os if moment == "fsync" else Path, moment, fail)
        with pytest.raises(type(error)):
            files.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for pause in (0.0, 0.003, 0.007):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)]) as writer:
            deadline = time.monotonic() + 600
            seen = path.stat().st_mtime_ns if path.exists() else 0
            while not path.exists() or path.stat().st_mtime_ns == seen:
                assert writer.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "may not write"),
        (errno.EPERM, "may not write"),
        (errno.EROFS, "read-only"),
    ],
)
def test_the_disks_errors_are_explained(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=words) as caught:
        files.write_json(tmp_path / "file.json", {})
    assert "file.json" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        files.write_json(tmp_path / "file" / "below" / "x.json", {})


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_explained(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may not write"):
        files.write_json(tmp_path / "x.json", {})


def test_other_errors_keep_their_traceback(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), files.explained_disk_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with files.whole_folder(path) as temporary:
        (temporary / "one").write_text("1")
        assert not path.exists()

    def failing() -> None:
        with files.whole_folder(path) as temporary:
            (temporary / "two").write_text("2")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert [entry.name for entry in path.iterdir()] == ["one"]
    with files.whole_folder(path) as temporary:
        (temporary / "three").write_text("3")
    assert [entry.name for entry in path.iterdir()] == ["three"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"), [(None, "does not exist"), (b'{"a": ', "is damaged"), (b"\xff\xfe\x00", "is damaged")]
)
def test_a_missing_or_damaged_json_is_named(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)


def test_json_is_read_as_written(tmp_path: Path) -> None:
    content = {"数": [1, 2.5, None, True, float("inf")], "nested": {"a": "é"}}
    files.write_json(tmp_path / "x.json", content)
    assert files.read_json(tmp_path / "x.json") == content
    assert "数" in (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == content
