"""Takes what a lesson shows (checks, tables, figures, sources, questions) in place of the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Recorder = Callable[[str, dict[str, Any]], None]
"""Called with the kind of what is shown and its content, which can be stored as JSON."""

_recorder: Recorder | None = None


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Hands what lessons show to the recorder until the block ends."""
    global _recorder
    before, _recorder = _recorder, recorder
    try:
        yield
    finally:
        _recorder = before


def recorded(kind: str, **content: Any) -> bool:
    """Hands over what a lesson shows; returns False where nobody records and it is to be printed."""
    if _recorder is None:
        return False
    _recorder(kind, content)
    return True
