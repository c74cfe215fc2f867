"""Terminals that are not UTF-8, readers that leave, full disks, closed streams: output degrades, work goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dlcommon.runtime import streams
from dlcommon.testing.commands import script

WORK = """
import sys
from pathlib import Path
from dlcommon.runtime import streams
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.output import Output, warn
from dlcommon.runtime.cli import enter

def work():
    for number in range(3):
        Output().say(f"toy · train · step {number} …")
        warn("玩具")
    Path(sys.argv[1]).write_text("done")
    Output(as_json=True).result({"title": "玩具", "n": 1})
    if len(sys.argv) > 2:
        raise UserError("“no” — 不")
    return 0

enter(work)
"""
needs_posix = pytest.mark.skipif(os.name != "posix", reason="pipes and shells of POSIX")


def work(tmp_path: Path, redirection: str = "", *words: str, **env: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs WORK in a shell, its output redirected so; checks that the work was done."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -W error -c "$1" "$2" {" ".join(words)} {redirection}', sys.executable, WORK, "done"],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
    )
    assert (tmp_path / "done").read_text() == "done", "the work was stopped"
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize("encoding", ["ascii", "cp936", "cp1252"])
@needs_posix
def test_what_an_encoding_lacks_is_written_plainly(encoding: str, tmp_path: Path) -> None:
    done = work(tmp_path, "", "fail", PYTHONIOENCODING=encoding)
    codec = encoding.partition(":")[0]
    said, told = done.stdout.decode(codec).splitlines(), done.stderr.decode(codec)
    exact = "toy · train · step 2 …"
    assert said[2] in (exact, "toy * train * step 2 ...", "toy · train · step 2 ...")
    assert json.loads(said[3]) == {"title": "玩具", "n": 1}, "what programs read is not degraded"
    assert told.splitlines()[-1] in ('error: "no" - ?', "error: “no” — 不", "error: “no” — ?")
    assert ("玩具" in told) == (encoding == "cp936")
    assert done.returncode == 1


@needs_posix
def test_the_users_own_choice_of_an_error_handler_is_kept(tmp_path: Path) -> None:
    done = work(tmp_path, PYTHONIOENCODING="ascii:ignore")
    assert done.stdout.splitlines()[0] == b"toy  train  step 0 "


@pytest.mark.parametrize(
    ("character", "spelling"),
    [("é", "e"), ("½", "1/2"), ("，", ","), ("╭", "+"), ("─", "-"), ("数", "?"), ("\udcff", r"\xff"), ("≥", ">=")],
)
def test_characters_are_spelled_in_ascii(character: str, spelling: str) -> None:
    assert streams.plain(character) == spelling


@pytest.mark.parametrize("redirection", ["| head -n 1", "2>&1 | head -n 1"])
@needs_posix
def test_a_reader_that_leaves_stops_nothing(redirection: str, tmp_path: Path) -> None:
    done = work(tmp_path, redirection)
    assert done.stdout.splitlines()[0].startswith((b"toy", b"!!!"))


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
@needs_posix
def test_streams_that_are_closed_from_the_start_stop_nothing(closed: str, tmp_path: Path) -> None:
    done = work(tmp_path, closed)
    assert done.returncode == 0
    assert (b"step 2" in done.stdout) == (closed == "2>&-")
    assert b"!!!" not in done.stdout, "warnings went to stdout"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_once_and_costs_the_exit_code_alone(tmp_path: Path) -> None:
    done = work(tmp_path, ">/dev/full")
    assert done.returncode == 1
    assert done.stderr.count(b"stdout cannot be written (No space left on device); going on without it") == 1
    assert work(tmp_path, "2>/dev/full").returncode == 0


# -- the real commands


@pytest.mark.parametrize(("words", "code"), [("data list", 0), ("data --help", 0), ("lesson list", 0)])
def test_commands_print_on_a_terminal_of_ascii(words: str, code: int, tmp_path: Path) -> None:
    name, *rest = words.split()
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "DL_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([script(name), *rest], env=env, capture_output=True)
    assert done.returncode == code, done.stderr
    (done.stdout + done.stderr).decode("ascii")
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_list_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([script("data"), "--help"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), done.stderr
    assert b"No space left on device" in done.stderr
