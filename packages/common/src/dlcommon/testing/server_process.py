"""Starts a real server in a process of its own, for tests that talk HTTP to it."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.testing.commands import script

START_SECONDS = 120


@dataclass(frozen=True)
class ServerProcess:
    """Holds a running server that answers requests."""

    url: str
    ready: dict[str, Any]
    """What `--json` printed."""
    process: psutil.Popen
    log: Path
    """Its stderr."""

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, seconds: float = 600) -> int:
        """Asks for a graceful stop and returns the exit code."""
        if self.process.is_running():
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)


@contextmanager
def serving(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """Runs `command --port 0 --json` until the block ends.

    Raises:
        AssertionError: it ends, or does not get ready, before it serves; the message holds its log.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "stdout"), Path(folder, "stderr")
        with out.open("wb") as stdout, log.open("wb") as stderr:
            process = psutil.Popen(
                [*command, "--port", "0", "--json"],
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(environment or {})},
            )
        try:
            ready = _wait_until_ready(process, out, log)
            yield ServerProcess(ready["url"], ready, process, log)
        finally:
            if process.is_running():
                process.terminate()
                try:
                    process.wait(timeout=600)
                except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                    process.kill()
                    process.wait(timeout=600)


@contextmanager
def serving_pretrained(capstone: Capstone[Any], *options: str) -> Iterator[ServerProcess]:
    """Serves the model that the package carries, through the capstone's own script."""
    model = packaged_model(capstone)
    assert model is not None, f"{capstone.folder / 'pretrained'} holds no model"
    with serving([script(capstone.name), "serve", "--model", str(model), *options]) as server:
        yield server


def _wait_until_ready(process: psutil.Popen, out: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = out.read_text(encoding="utf-8")
        if text.endswith("\n"):
            ready: dict[str, Any] = json.loads(text.splitlines()[-1])
            return ready
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        time.sleep(0.05)
    raise AssertionError(f"the server is not ready after {START_SECONDS} s:\n{log.read_text()}")
