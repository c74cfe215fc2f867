"""Shows the progress of downloads on stderr: a bar in a terminal, a line now and then in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

SECONDS_BETWEEN_LINES = 10.0


class DownloadProgress:
    """Shows one file at a time; notes stay visible above the bar."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self.bar = Progress(*columns, console=self.console)
        self.name, self.total, self.last_line = "", 0, 0.0

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def begin(self, name: str, total: int | None, done: int) -> None:
        """Begins a file of `total` bytes (None if the server does not say), of which `done` are here already."""
        resumed = f", resumed at {done / 1e6:.1f} MB" if done else ""
        size = f"{total / 1e6:.1f} MB" if total else "unknown size"
        self.name, self.total, self.last_line = name, total or 0, time.monotonic()
        if self.bar is None:
            self.note(f"downloading {name} ({size}{resumed})")
            return
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(name, total=total, completed=done)

    def advance(self, done: int) -> None:
        """Shows that `done` bytes of the file are here."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=done)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            share = f" ({done / self.total:.0%})" if self.total else ""
            self.note(f"downloading {self.name}: {done / 1e6:.1f} MB{share}")
