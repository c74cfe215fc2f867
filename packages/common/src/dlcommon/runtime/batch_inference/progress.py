"""The live display of a prediction: a bar at a terminal, nothing elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich import progress
from rich.console import Console


class PredictionProgress:
    """Shows how much of the input is read and answered; notes are printed above the bar and stay."""

    def __init__(self, size: int | None, stdout_is_free: bool) -> None:
        """Starts at nothing.

        Args:
            size: bytes of the input, None if not known.
            stdout_is_free: whether the answers go elsewhere; at a terminal they would break the bar.
        """
        self._bar: progress.Progress | None = None
        self._task: progress.TaskID | None = None
        if sys.stderr.isatty() and (stdout_is_free or not sys.stdout.isatty()):
            facts = progress.TextColumn("{task.fields[facts]}")
            left = (progress.TextColumn("left"), progress.TimeRemainingColumn()) if size is not None else ()
            columns = (progress.BarColumn(), facts, progress.TimeElapsedColumn(), *left)
            self._bar = progress.Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task("predict", total=size, facts="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Prints a line on stderr."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def advance(self, size: int, answered: int, failed: int) -> None:
        """Shows that `size` more bytes have been done, and the counts so far."""
        if self._bar is not None and self._task is not None:
            facts = f"{answered:,} answered" + (f", {failed:,} failed" if failed else "")
            self._bar.update(self._task, advance=size, facts=facts)
