"""Runs commands as forks of a process that has the libraries imported.

The code that runs is the script's, in a process of its own that can be stopped and killed. What it saves are the
seconds in which every new interpreter imports torch, of which a contract would spend most of its time. How a command
starts, and the training that others are compared with, are tested with the script itself (`commands.run`).
"""

import os
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

from dlcommon.testing.commands import Finished
from dlcommon.training.processes import CONTEXT, PRELOADED

FORKING = CONTEXT  # one server for both, with this list, whichever is imported first
# What is not installed is passed over.
FORKING.set_forkserver_preload(
    [
        *PRELOADED,
        "torchvision.transforms.v2",
        "accelerate",
        "dlcommon.runtime.training_run",
        "dlcommon.runtime.commands.train",
        "dlcommon.runtime.evaluation.figures",
        "dlcommon.runtime.export.onnx_file",
        "matplotlib.pyplot",
        "onnxruntime.quantization",
        "sklearn.ensemble",
        "catboost",
    ]
)


class Forked:
    """Starts a command as a fork; has the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, command: list[str], env: dict[str, str], stdout: str = os.devnull, stderr: str = os.devnull
    ) -> None:
        self._process = FORKING.Process(target=_become, args=(command, env, stdout, stderr))
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run_forked(command: list[str], env: dict[str, str], timeout: float = 600) -> Finished:
    """Runs a command to its end in a fork; returns what `commands.run` does."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder, "stdout"), Path(folder, "stderr")
        process = Forked(command, env, str(stdout), str(stderr))
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return Finished(code, stdout.read_text(encoding="utf-8"), stderr.read_text(encoding="utf-8"))


def _become(command: list[str], env: dict[str, str], stdout: str, stderr: str) -> None:
    """Turns this process into the command, as its console script would be."""
    os.environ.clear()
    os.environ.update(env)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = list(command)
    (script,) = entry_points(group="console_scripts", name=Path(command[0]).name)
    sys.exit(script.load()())
