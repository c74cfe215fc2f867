"""Stopping a run in good order: SIGINT (Ctrl-C) and SIGTERM are noted, and acted on at the next safe moment."""

import signal
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self


class Interrupted(Exception):  # noqa: N818 — not an error
    """Ends a run that was asked to stop, after it has saved where it was."""

    def __init__(self, signal_number: int, directory: Path) -> None:
        super().__init__(f"stopped; continue with --resume ({directory})")
        self.exit_code = 128 + signal_number


class StopSignal:
    """Notes SIGINT and SIGTERM inside its `with` block, and restores the previous handlers afterwards."""

    def __init__(self) -> None:
        self.received: int | None = None
        """Number of the first signal, or None."""
        self._handlers = ExitStack()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handlers.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # a second Ctrl-C does not wait for the step to end
            raise KeyboardInterrupt
        self.received = number

    def raise_if_received(self, directory: Path) -> None:
        """Ends the run if a signal has come.

        Raises:
            Interrupted: one has.
        """
        if self.received is not None:
            raise Interrupted(self.received, directory)
