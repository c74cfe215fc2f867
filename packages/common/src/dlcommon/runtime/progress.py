"""The live display of training: a bar in a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from dlcommon.runtime.output import Output

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows loss, throughput and time left; evaluations are printed above the bar and stay."""

    def __init__(self, output: Output, enabled: bool = True) -> None:
        self.output, self.enabled = output, enabled
        self.total = self.done_before = 0
        self.began = time.monotonic()
        self.last_line = time.monotonic()
        self.task: TaskID | None = None
        self.bar: RichProgress | None = None
        if enabled and sys.stderr.isatty():
            self.bar = RichProgress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, total: int, done: int) -> None:
        """Starts the display at `done` of `total` steps; `done` were completed before this process started."""
        self.total, self.done_before, self.began = total, done, time.monotonic()
        if self.bar is not None:
            self.task = self.bar.add_task("train", total=total, completed=done, facts="")

    def losses(self, step: int, losses: Mapping[str, float], throughput: float, unit: str) -> None:
        """Shows the running losses by name; throughput is in units (samples, tokens) a second."""
        shown = "  ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        facts = f"{shown}  {throughput:,.0f} {unit}/s"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, facts=facts)
        elif self.enabled and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            done = step - self.done_before
            left = (time.monotonic() - self.began) * (self.total - step) / max(done, 1) / 60
            self.output.say(f"step {step}/{self.total}  {facts}  about {left:.0f} min left")

    def show(self, step: int, **metrics: float) -> None:
        """Prints an evaluation's metrics."""
        if not self.enabled:
            return
        line = f"step {step}/{self.total}  " + "  ".join(f"{k} {v:.4f}" for k, v in metrics.items())
        if self.bar is not None:
            self.bar.console.print(line, highlight=False)
        else:
            self.output.say(line)
