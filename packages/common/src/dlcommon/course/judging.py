"""Judging a learner's file in a process of its own, which is stopped when it runs away."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from dlcommon.course.catalogue import Lesson
from dlcommon.runtime.files import read_json

OUTPUT_BYTES = 50_000
MEMORY_BYTES = 4 * 2**30
STARTING_SECONDS = 300.0


@dataclass(frozen=True)
class Verdict:
    problem: str | None
    """What is wrong, in a line; None: passed."""
    output: str
    """What the judge and the learner's code printed, up to the limit."""

    @property
    def passed(self) -> bool:
        return self.problem is None


def judge_file(lesson: Lesson, code: Path, seconds: float = 60.0) -> Verdict:
    """Judges the definitions in a file.

    Args:
        seconds: time limit of the learner's code; the imports before it do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        verdict = Path(folder) / "verdict.json"
        command = [sys.executable, "-m", "dlcommon.course.judge_process", str(lesson.path), str(code), str(verdict)]
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},  # as it is decoded here, whatever the terminal is
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert process.stdout is not None
        output = _Output(process.stdout)
        try:
            problem = _watch(process, output, verdict, seconds)
        finally:
            _kill(process)
            output.thread.join(5)
        if problem is None:
            content = read_json(verdict) if verdict.is_file() else {}
            if "problem" in content:
                problem = content["problem"]
            elif "began" in content:
                problem = f"your code ended the process (exit code {process.returncode}) before the judge was done"
            else:
                problem = f"the judge of {lesson.key} could not start:\n{output.text()}"
        return Verdict(problem, output.text())


class _Output:
    """Reads the output of a process in a thread, up to `OUTPUT_BYTES`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.content, self.full = stream, bytearray(), threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with self.stream:
            while chunk := self.stream.read(65_536):
                self.content += chunk
                if len(self.content) > OUTPUT_BYTES:
                    self.full.set()
                    return

    def text(self) -> str:
        return bytes(self.content[:OUTPUT_BYTES]).decode(errors="replace")


def _watch(process: "subprocess.Popen[bytes]", output: _Output, verdict: Path, seconds: float) -> str | None:
    """Waits until the process ends. Returns why it has to be stopped, or None if it ended by itself."""
    started, began = time.monotonic(), None
    watched = psutil.Process(process.pid)
    while True:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
        else:
            output.thread.join(5)
            return _too_much() if output.full.is_set() else None
        now = time.monotonic()
        if began is None and verdict.exists():
            began = now
        if output.full.is_set():
            return _too_much()
        if began is not None and now - began > seconds:
            return f"stopped after {seconds:g} seconds: a loop does not end, or is far too slow (--seconds allows more)"
        if now - started > STARTING_SECONDS + seconds:
            return f"stopped: nothing happened in {STARTING_SECONDS + seconds:g} seconds"
        try:
            memory = watched.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        if memory > MEMORY_BYTES:
            return f"stopped: your code took more than {MEMORY_BYTES / 2**30:g} GiB of memory"


def _too_much() -> str:
    return f"stopped: your code printed more than {OUTPUT_BYTES // 1000} kB"


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kills the process and all of its descendants."""
    try:
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
