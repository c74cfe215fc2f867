"""Judges a tool call as the Berkeley Function Calling Leaderboard does: by its name and arguments, not by its spelling.

Patil et al. 2025, https://proceedings.mlr.press/v267/patil25a.html: an argument is right if it is one of the accepted
values, and an optional one may be left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlcommon.llm.tools import ToolCall


@dataclass(frozen=True)
class ExpectedCall:
    """States which calls are right."""

    name: str
    arguments: Mapping[str, Sequence[Any]]
    """For each argument, the values that are accepted."""
    optional: frozenset[str] = frozenset()
    """Arguments that may be left out."""


def call_matches(call: ToolCall, expected: ExpectedCall) -> bool:
    """Checks name and arguments; 3 and 3.0 are equal, 1 and true are not, and texts are compared as they stand."""
    if call.name != expected.name or not call.arguments.keys() <= expected.arguments.keys():
        return False
    if not expected.arguments.keys() - expected.optional <= call.arguments.keys():
        return False
    return all(
        any(value == accepted and isinstance(value, bool) == isinstance(accepted, bool) for accepted in values)
        for name, values in expected.arguments.items()
        if name in call.arguments
        for value in [call.arguments[name]]
    )
