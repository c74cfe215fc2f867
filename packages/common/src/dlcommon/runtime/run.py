"""A run: a directory of its own, a clock, a log, a progress display and a stop signal around work of any kind.

Work that is not one training loop of ours (a grid of models, cross-validation, another library's trainer) is done in
named pieces:

    with Run.start(name, config, data) as run:
        scores = [run.cached(f"fold-{fold}", lambda: score(fold)) for fold in range(5)]
        run.log(accuracy=mean(scores))
        run.finish({"model.json": model_as_bytes})
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from PIL import Image

from dlcommon.runtime import run_directory
from dlcommon.runtime.artifacts import Picture, write_picture
from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import LocatedAsset, LocatedDataSet, fetch_asset, read_asset_records, require_recorded_asset
from dlcommon.runtime.elastic import launch_origin
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import full_disk_error, write_bytes, write_json
from dlcommon.runtime.metrics_log import MetricsLog
from dlcommon.runtime.origin import check_data, check_options, read_origin, write_origin
from dlcommon.runtime.output import Output
from dlcommon.runtime.pieces import PieceContext, PieceStore
from dlcommon.runtime.progress import Progress
from dlcommon.runtime.random_state import seed_everything
from dlcommon.runtime.run_lock import RunLock
from dlcommon.runtime.stop_signal import Interrupted, StopSignal

__all__ = ["Interrupted", "Run", "RunClock"]

Config = TypeVar("Config", bound=RunConfig)


class RunClock:
    """Counts the wall time and the CPU time of a run in seconds, over all the sittings of a resumed one.

    CPU time is this process's, all its threads together: it depends less than wall time on how busy the machine is.
    """

    def __init__(self) -> None:
        self.continue_from(0.0, 0.0)

    @property
    def seconds(self) -> float:
        """Wall seconds of work so far."""
        return self._before + time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of work so far."""
        return self._cpu_before + time.process_time() - self._cpu_started

    @property
    def training_seconds(self) -> float:
        """Wall seconds since the first step: what a budget of minutes is compared with."""
        return self.seconds - self.setup_seconds

    def end_setup(self) -> None:
        """Says that what came before was set-up: data, networks, compilation."""
        self.setup_seconds = self.seconds

    def continue_from(self, seconds: float, cpu_seconds: float, setup_seconds: float = 0.0) -> None:
        """Continues from the readings that an interrupted run stored."""
        self.setup_seconds = setup_seconds
        self._before, self._started = seconds, time.monotonic()
        self._cpu_before, self._cpu_started = cpu_seconds, time.process_time()


class Run(Generic[Config]):
    """Holds what every run has. `Run.start` makes one; a training loop's is a `TrainingRun`.

    Args:
        directory: of this run, which exists.
        resumed: whether the directory holds an unfinished run that this one continues.
        is_main: whether this process writes: of several that train together, one does.
        runs_on: device and precision, as people read it.
    """

    def __init__(
        self,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path,
        output: Output,
        resumed: bool,
        *,
        is_main: bool = True,
        runs_on: str = "cpu",
    ) -> None:
        self.capstone, self.config, self.data = capstone, config, data
        self.directory, self.output, self.resumed = directory, output, resumed
        self.is_main, self.runs_on = is_main, runs_on
        self.clock, self.stop = RunClock(), StopSignal()
        self.log_file = MetricsLog(directory / run_directory.METRICS, enabled=is_main)
        self.progress_display = Progress(output, enabled=is_main)
        self.facts: dict[str, Any] = {}
        """Facts about the finished training, for its summary."""
        self.files: list[str] = []
        """Names of the finished model's files."""
        self.lock = RunLock(directory)
        self.origin: dict[str, Any] = {}
        """Command, data and options that the run began with, as its summary states them."""
        noted = directory / run_directory.ASSETS
        self.assets: dict[str, dict[str, str]] = read_asset_records(noted) if resumed and noted.exists() else {}
        """Pretrained assets that the run builds on: name to `LocatedAsset.record`."""
        self._pieces = PieceStore(directory / "checkpoints", output.say)
        self._rows = self._rows_written = 0
        seed_everything(config.seed)

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
        """Starts a new run, or, where a directory is given, continues the one in it; on every process of a training.

        Args:
            origin: preset and command that a new run came from, which its summary states even if it is resumed.

        Raises:
            UserError: the folder cannot be written, or the config asks for a device or a tracker that is not there; of
                a run to continue, another process trains it, or its data, its options or its notes have changed.
        """
        data.fingerprint()  # computed, and data that cannot be read refused, before there is a folder
        run = cls._create(capstone, config, data, directory, output or Output(), origin or {})
        began_with = dataclasses.replace(config, data=data.name)
        if run.is_main:
            run.lock.acquire()
        if run.resumed:
            run._check_origin(began_with)
        elif run.is_main:
            # Before the config, which is what makes a folder a run.
            run.origin = write_origin(run.directory, {**(origin or {}), **launch_origin()}, began_with, data)
            began_with.save(run.directory / run_directory.CONFIG)
        return run

    def _check_origin(self, config: Config) -> None:
        """Holds a run that is to be continued against what it began with."""
        if (self.directory / run_directory.SUMMARY).is_file():
            raise UserError(f"{self.directory} has finished meanwhile; there is nothing left to resume")
        self.origin = read_origin(self.directory)
        check_options(self.directory, self.origin.get("options"), config)
        if not check_data(self.directory, self.origin, self.data) and self.is_main:
            self.output.say("an earlier version began this run and recorded no fingerprint of its data: not compared")

    @classmethod
    def _create(
        cls,
        capstone: str,
        config: Config,
        data: LocatedDataSet,
        directory: Path | None,
        output: Output,
        origin: Mapping[str, str],
    ) -> Self:
        chosen = directory or run_directory.create_run_directory(capstone, data.name)
        return cls(capstone, config, data, chosen, output, resumed=directory is not None)

    def __enter__(self) -> Self:
        self.stop.__enter__()
        self.progress_display.__enter__()
        if self.resumed:
            self._resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress_display.__exit__(kind, error, trace)
        self.stop.__exit__(kind, error, trace)
        if error is not None and (full := full_disk_error(error, self.directory)) is not None:
            raise full from error

    def _resume(self) -> None:
        """Cuts off the log's rows that the work will write again: those after the last finished piece."""
        self._rows_written = self._pieces.rows_of_whole_pieces()
        self.log_file.truncate_rows(self._rows_written)

    @property
    def seconds(self) -> float:
        """Wall time of the work, over all the sittings of a resumed run."""
        return self.clock.seconds

    @property
    def stop_requested(self) -> bool:
        """Whether Ctrl-C or SIGTERM has asked the run to end; a loop of another library looks at it between steps."""
        return self.stop.received is not None

    def raise_if_stopped(self) -> None:
        """Ends the run if it was asked to stop.

        Raises:
            Interrupted: it was.
        """
        self.stop.raise_if_received(self.directory)

    # -- work in pieces

    def cached(self, name: str, compute: Callable[[], Any]) -> Any:
        """Does a piece of work whose result is kept in the run, so that a resumed run does not do it again.

        Args:
            name: unique in the run; the pieces must be asked for in the same order each time.
            compute: the work; returns what JSON can hold.

        Returns:
            The result as JSON gives it back (tuples are lists), whether computed now or read.

        Raises:
            Interrupted: the run was asked to stop, before or while the piece was made; a finished piece is kept.
        """
        path = self._pieces.next_path(name)
        if (piece := self._pieces.read(path)) is not None:
            self.clock.continue_from(piece.context.seconds, piece.context.cpu_seconds)
            value = piece.value
        else:
            self.raise_if_stopped()
            value = self._pieces.write_value(path, compute(), self._context())
        self.raise_if_stopped()
        return value

    def cached_files(self, name: str, make: Callable[[Path], None]) -> Path:
        """Does a piece of work that leaves files: weights, pictures, another library's checkpoint.

        Args:
            name: as for `cached`, with which it shares the order.
            make: writes the files into the folder that it is given.

        Returns:
            The folder of the files, each compared with its checksum.

        Raises:
            Interrupted: the run was asked to stop, before or while the piece was made; a finished piece is kept.
        """
        path = self._pieces.next_path(name)
        if (piece := self._pieces.read(path)) is not None:
            self.clock.continue_from(piece.context.seconds, piece.context.cpu_seconds)
        else:
            self.raise_if_stopped()
            self._pieces.write_files(path, make, self._context)
        self.raise_if_stopped()
        return path

    def _context(self) -> PieceContext:
        return PieceContext(self.seconds, self.clock.cpu_seconds, self._rows)

    # -- what the work starts from

    def asset(self, name: str, form: str | None = None) -> LocatedAsset:
        """Returns a pretrained asset, downloaded if need be, and notes it in the run, its record and its export.

        Args:
            form: the only form that will do; None: any. A resumed run takes the form and version it began with.

        Raises:
            DataUnavailableError: it is not on this machine and cannot be downloaded; says how to get it.
            UserError: a file of it is damaged, or it has changed since the run began.
        """
        if name in self.assets:
            if form not in (None, self.assets[name]["form"]):
                raise UserError(f"{name}: the run began with its form {self.assets[name]['form']}, not {form}")
            return require_recorded_asset(self.assets[name])
        located = fetch_asset(name, form)
        self.assets[name] = located.record()
        if self.is_main:
            write_json(self.directory / run_directory.ASSETS, self.assets)
        return located

    # -- what the work may tell

    def log(self, **values: float) -> None:
        """Adds a row to metrics.jsonl, with the seconds so far; `step` counts rows where no `step` is given."""
        self._rows += 1
        if self._rows > self._rows_written:  # else the resumed run has come by a row that is there already
            self.log_file.append({"step": self._rows, "seconds": round(self.seconds, 2), **values})

    def artifact(self, name: str, picture: Picture) -> Path:
        """Keeps a picture, such as a grid of samples, as `artifacts/NAME-NUMBER.png` in the run.

        The number is that of the step in a training loop, else of the log's rows.
        """
        path = self.directory / "artifacts" / f"{name}-{self._artifact_number:08d}.png"
        if self.is_main:
            self._track(name, write_picture(path, picture))
        return path

    @property
    def _artifact_number(self) -> int:
        return self._rows

    def _track(self, name: str, image: Image.Image) -> None:
        """Sends a picture to the trackers; only a training loop has some."""

    def finish(self, model: Mapping[str, bytes], /, **facts: Any) -> None:
        """Stores the finished model's files by name, and facts for the summary."""
        for name, content in model.items():
            write_bytes(self.directory / name, content)
        self.files = sorted(model)
        minutes = {"minutes": round(self.seconds / 60, 3), "cpu_minutes": round(self.clock.cpu_seconds / 60, 3)}
        self.facts = {**minutes, "device": "cpu", **facts}

    def discard_if_empty(self) -> None:
        """Removes a run that was refused before it saved or logged anything: there is nothing in it to resume."""
        if not self.log_file.size() and not any(self.directory.glob("checkpoints/*")):
            self.lock.release()
            shutil.rmtree(self.directory)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json, which marks the run as finished."""
        if self.is_main:
            write_json(self.directory / run_directory.SUMMARY, summary)
