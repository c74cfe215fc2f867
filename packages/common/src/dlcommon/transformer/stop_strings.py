"""Ends a text that is written piece by piece before a stop string, of which no part is ever shown."""

from collections.abc import Sequence


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Returns where the first of the stop strings begins; None where none occurs."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return min(found, default=None)


def beginning_of_stop(text: str, stops: Sequence[str]) -> int:
    """Returns how many characters at the end may be the beginning of a stop string, and must be held back."""
    lengths = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return max(lengths, default=0)
