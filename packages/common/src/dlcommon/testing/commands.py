"""Runs the real commands in processes of their own, as a user would."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Finished:
    """Holds a command's exit code and output."""

    code: int
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object that `--json` puts last on stdout."""
        result: dict[str, Any] = json.loads(self.stdout.strip().splitlines()[-1])
        return result

    def check_success(self) -> "Finished":
        assert self.code == 0, f"exit code {self.code}\n{self.stdout[-3000:]}\n{self.stderr[-6000:]}"
        assert "Traceback" not in self.stdout + self.stderr
        return self

    def check_refusal(self, code: int, *expected: str) -> "Finished":
        """Checks for a clear error: this exit code, these words, and no traceback."""
        text = self.stdout + self.stderr
        assert self.code == code, f"exit code {self.code}, not {code}\n{text[-3000:]}"
        assert "Traceback" not in text, text[-3000:]
        for word in expected:
            assert word in text, f"{word!r} is not in: {text[-3000:]}"
        return self


def script(name: str) -> str:
    """Returns the path of this environment's console script of that name."""
    suffix = ".exe" if os.name == "nt" else ""
    return str(Path(sys.executable).parent / f"{name}{suffix}")


def environment(runs: Path, **changes: str) -> dict[str, str]:
    """Returns this process's environment, with the runs kept in the test's own folder and no `DL_CAPSTONE`."""
    clean = {k: v for k, v in os.environ.items() if k != "DL_CAPSTONE"}
    return clean | {"DL_RUNS_DIR": str(runs), "PYTHONUNBUFFERED": "1"} | changes


def run(command: list[str], env: dict[str, str], timeout: float = 600, cwd: Path | None = None) -> Finished:
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=timeout, cwd=cwd, stdin=subprocess.DEVNULL
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def two_processes(command: list[str]) -> list[str]:
    """Returns the command line with which torchrun starts two processes of the command, on a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python"]
    return [*launcher, "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *command]
