"""A run: a directory of its own, signals, progress and records, for work of any kind.

Work that is not one training loop (a grid of models, cross-validation) is done in named pieces:

    with Run.start(name, config, data) as run:
        scores = [run.cached(f"fold-{fold}", lambda: score(fold)) for fold in range(5)]
        run.log(accuracy=mean(scores))
        run.finish({"model.json": model_as_bytes})
"""

import dataclasses
import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Generic, Self, TypeVar

from dlcommon.runtime import run_directory
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, write_bytes, write_json
from dlcommon.runtime.metrics_log import MetricsLog
from dlcommon.runtime.output import Output
from dlcommon.runtime.progress import Progress
from dlcommon.runtime.random_state import seed_everything

Config = TypeVar("Config", bound=RunConfig)


class Interrupted(Exception):  # noqa: N818 — not an error
    """The run was asked to stop, and has saved where it was."""

    def __init__(self, signal_number: int, directory: Path) -> None:
        super().__init__(f"stopped; continue with --resume ({directory})")
        self.exit_code = 128 + signal_number


class Run(Generic[Config]):
    """What every run has. Made by `Run.start`; a training loop's is a `TrainingRun`."""

    is_main = True
    """Whether this process writes: of several that train together, one does."""
    runs_on = "cpu"
    """Device and precision, as people read it."""

    def __init__(
        self,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path,
        output: Output,
        resumed: bool,
    ) -> None:
        self.capstone, self.config, self.data = capstone, config, data
        self.directory, self.output, self.resumed = directory, output, resumed
        self.facts: dict[str, Any] = {}
        """Of the finished training, for its summary."""
        self.files: list[str] = []
        """Names of the finished model's files."""
        self._pieces = self._rows = 0
        self._stop_signal: int | None = None
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._exit = ExitStack()
        seed_everything(config.seed)

    def _open(self) -> None:
        """Opens what only the writing process has, once it is known which process that is."""
        self.log_file = MetricsLog(self.directory / run_directory.METRICS, enabled=self.is_main)
        self.progress_display = Progress(self.output, enabled=self.is_main)

    @classmethod
    def start(
        cls,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path | None = None,
        output: Output | None = None,
        origin: dict[str, str] | None = None,
    ) -> Self:
        """A new run, or, where a directory is given, the continuation of the one in it.

        Args:
            origin: preset and command that a new run came from, which its summary states even if it is resumed.
        """
        resumed = directory is not None
        output = output or Output()
        run = cls(capstone, config, data, directory or cls._new_directory(capstone, config, data.name), output, resumed)
        run._open()
        if run.is_main and not resumed:
            write_json(run.directory / run_directory.ORIGIN, origin or {})  # before the config, which makes it a run
            dataclasses.replace(config, data=data.name).save(run.directory / run_directory.CONFIG)
        return run

    @classmethod
    def _new_directory(cls, capstone: str, config: Config, data: str) -> Path:
        return run_directory.create_run_directory(capstone, data)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.signal(number, self._request_stop)
            self._exit.callback(signal.signal, number, previous)
        self._exit.enter_context(self.progress_display)
        if self.resumed:
            self._resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self._stop_signal is not None:  # a second Ctrl-C does not wait for the step to end
            raise KeyboardInterrupt
        self._stop_signal = number

    def _stop_if_asked(self) -> None:
        if self._stop_signal is not None:
            raise Interrupted(self._stop_signal, self.directory)

    def _resume(self) -> None:
        """Work in pieces runs through again from the start, so the log does as well."""
        self.log_file.truncate(0)

    @property
    def seconds(self) -> float:
        """Wall time of the work, over all the sittings of a resumed run."""
        return self._seconds_before + time.monotonic() - self._started

    # -- work in pieces

    def cached(self, name: str, compute: Callable[[], Any]) -> Any:
        """A piece of work whose result is kept in the run: whoever resumes it does not do it again.

        Args:
            name: unique in the run; the pieces must be asked for in the same order each time.
            compute: the work; returns what JSON can hold.

        Returns:
            The result as JSON gives it back (tuples are lists), whether computed now or read.

        Raises:
            Interrupted: the run was asked to stop, before or while the piece was made; a finished piece is kept.
        """
        self._pieces += 1
        path = self.directory / "checkpoints" / f"piece-{self._pieces:04d}-{name}.json"
        kept = self._kept(path)
        if kept is None:
            self._stop_if_asked()
            value = json.dumps(compute())
            kept = {"sha256": hashlib.sha256(value.encode()).hexdigest(), "value": value, "seconds": self.seconds}
            write_json(path, kept)
        self._stop_if_asked()
        return json.loads(kept["value"])

    def _kept(self, path: Path) -> dict[str, Any] | None:
        """A piece that was finished earlier, if it is whole."""
        if not path.is_file():
            return None
        try:
            kept: dict[str, Any] = read_json(path)
            whole = hashlib.sha256(kept["value"].encode()).hexdigest() == kept["sha256"]
        except (UserError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            self.output.say(f"checkpoint {path.name} is damaged; it is made again")
            return None
        # The clock goes on from the last piece that is there.
        self._seconds_before, self._started = kept["seconds"], time.monotonic()
        return kept

    # -- what the work may tell

    def log(self, **values: float) -> None:
        """Adds a row to metrics.jsonl."""
        self._rows += 1
        self.log_file.append({"step": self._rows, "seconds": round(self.seconds, 2), **values})

    def finish(self, model: Mapping[str, bytes], /, **facts: Any) -> None:
        """Stores the finished model's files by name, and facts for the summary."""
        for name, content in model.items():
            write_bytes(self.directory / name, content)
        self.files = sorted(model)
        self.facts = {"minutes": round(self.seconds / 60, 3), "device": "cpu", **facts}

    def discard_if_empty(self) -> None:
        """Removes a run that was refused before it saved or logged anything: there is nothing in it to resume."""
        if not self.log_file.size() and not any(self.directory.glob("checkpoints/*")):
            shutil.rmtree(self.directory)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Marks the run as finished: what it reached, on what, and how."""
        if self.is_main:
            write_json(self.directory / run_directory.SUMMARY, summary)
