"""The live display of training: a bar in a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from dlcommon.runtime.output import Output

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Loss, throughput and time left; evaluations are printed above the bar and stay."""

    def __init__(self, output: Output, enabled: bool = True) -> None:
        self.output, self.enabled = output, enabled
        self.total = 0
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
        """Steps in all, and those done before this sitting."""
        self.total = total
        if self.bar is not None:
            self.task = self.bar.add_task("train", total=total, completed=done, facts="")

    def loss(self, step: int, loss: float, throughput: float) -> None:
        """A look at the running loss; throughput is in samples/s."""
        facts = f"loss {loss:.4f}  {throughput:,.0f} samples/s"
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, facts=facts)
        elif self.enabled and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.output.say(f"step {step}/{self.total}  {facts}")

    def show(self, step: int, **metrics: float) -> None:
        """An evaluation."""
        if not self.enabled:
            return
        line = f"step {step}/{self.total}  " + "  ".join(f"{k} {v:.4f}" for k, v in metrics.items())
        if self.bar is not None:
            self.bar.console.print(line, highlight=False)
        else:
            self.output.say(line)
