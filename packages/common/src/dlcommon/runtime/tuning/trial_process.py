"""One trial: the capstone's `train` in a process of its own, followed by its log.

So a trial is exactly what the user can type, it can be stopped at any time and resumed bit for bit, and what it
allocates is gone when it ends.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from dlcommon.runtime.run_directory import CONFIG, METRICS, SUMMARY

POLL_SECONDS = 0.5
GRACE_SECONDS = 120
"""After SIGTERM, a training writes a checkpoint before it ends."""


@dataclass(frozen=True)
class Outcome:
    """Says how a trial ended, and why if it failed."""

    state: Literal["finished", "pruned", "stopped", "failed"]
    values: list[float]
    """The metric at each evaluation."""
    reason: str = ""


class TrialProcess:
    """Runs `train` in a folder of its own.

    Args:
        capstone: its name.
        folder: of the trial; its run and its output lie there.
        metric: name in the run's log.
        threads: for numerical libraries.
    """

    def __init__(self, capstone: str, folder: Path, metric: str, threads: int) -> None:
        self.capstone, self.folder, self.metric, self.threads = capstone, folder, metric, threads

    @property
    def run(self) -> Path | None:
        """The trial's run directory, once there is one."""
        return next((path.parent for path in self.folder.glob(f"{self.capstone}/*/{CONFIG}")), None)

    def values(self) -> list[float]:
        """Reads the metric at each evaluation so far."""
        log = self.run / METRICS if self.run is not None else None
        if log is None or not log.is_file():
            return []
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half written
        return [row[self.metric] for row in rows if self.metric in row]

    def start(self, flags: list[str]) -> psutil.Popen:
        """Starts the training, or continues it if it was stopped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["--resume", "--run", str(self.run)] if self.run is not None else flags
        threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self.threads)}
        with (self.folder / "output.txt").open("ab") as output:
            return psutil.Popen(
                [sys.executable, "-m", "dlcommon.runtime", self.capstone, "train", *words],
                env={**os.environ, **threads, "DL_RUNS_DIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops its trials in good order
            )

    def follow(
        self, process: psutil.Popen, each: Callable[[int, float], bool], should_stop: Callable[[], bool]
    ) -> Outcome:
        """Waits for the training's end.

        Args:
            each: is told each value of the metric with its number, and answers whether to prune the trial.
            should_stop: is asked again and again whether to stop the trial, to be resumed later.
        """
        seen = 0
        while True:
            code = process.poll()
            values = self.values()
            for number, value in enumerate(values[seen:], start=seen):
                if each(number, value) and code is None:
                    end(process)
                    return Outcome("pruned", values[: number + 1])
            seen = max(seen, len(values))
            if code is not None:
                return self._outcome(code, values)
            if should_stop():
                end(process)
                finished = self.run is not None and (self.run / SUMMARY).is_file()
                return Outcome("finished" if finished else "stopped", self.values())
            time.sleep(POLL_SECONDS)

    def _outcome(self, code: int, values: list[float]) -> Outcome:
        if code == 0 and values:
            return Outcome("finished", values)
        if code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
            return Outcome("stopped", values)
        said = (self.folder / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = f"its log holds no {self.metric}" if code == 0 else (said[-1] if said else f"exit code {code}")
        return Outcome("failed", values, reason)


def end(process: psutil.Process) -> None:
    """Ends a training: SIGTERM, with time to write a checkpoint, then SIGKILL."""
    try:
        process.terminate()
        process.wait(GRACE_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    except psutil.NoSuchProcess:
        pass
