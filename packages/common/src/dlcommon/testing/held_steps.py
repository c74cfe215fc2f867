"""Steps of a model in another process that go on only when the test says so: events, where a test would need a clock.

with HeldSteps() as steps, serving(command, steps.environment) as server:
    ...                       # ask the server for an item whose field `held` names its steps "long"
    with steps.next() as name:
        assert name == "long"  # the model is inside this step until the block ends
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from dlcommon.testing.raw_http import PATIENCE

PORT = "TOY_STEPS_PORT"


def hold(name: str) -> None:
    """Announces a step of a toy model, and waits until the test lets it go on; returns at once outside such a test."""
    port = os.environ.get(PORT)
    if port is None:
        return
    try:
        with socket.create_connection(("127.0.0.1", int(port))) as connection:
            connection.sendall(name.encode() + b"\n")
            connection.recv(1)
    except OSError:
        pass  # the test has ended, and the process is about to


class HeldSteps:
    """Holds the steps of a model in another process until the test releases them."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listening.settimeout(PATIENCE)

    @property
    def environment(self) -> dict[str, str]:
        """Returns the variable that the server process needs."""
        return {PORT: str(self._listening.getsockname()[1])}

    @contextmanager
    def next(self) -> Iterator[str]:
        """Waits for the next step, yields its name, and lets it go on after the block."""
        connection, _ = self._listening.accept()
        with connection, connection.makefile() as lines:
            yield lines.readline().strip()

    def pass_on(self, count: int) -> list[str]:
        """Lets this many steps go on, one after the other, and returns their names."""
        names = []
        for _ in range(count):
            with self.next() as name:
                names.append(name)
        return names

    def __enter__(self) -> "HeldSteps":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
