"""Regular expressions over bytes, and the automaton that reads them one byte at a time.

Thompson's construction turns an expression into a nondeterministic automaton; sets of its states, computed when they
are first reached and then kept, are the states of a deterministic one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

State = frozenset[int]
"""The states that the automaton may be in after the bytes so far; empty where no continuation is possible."""


class Expression:
    """Describes a set of byte strings."""


@dataclass(frozen=True)
class ByteRange(Expression):
    """Matches one byte from `low` to `high`, both included."""

    low: int
    high: int


@dataclass(frozen=True)
class Concatenation(Expression):
    """Matches the parts one after the other; without parts, the empty string."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Alternation(Expression):
    """Matches what any of the choices matches.

    Raises:
        ValueError: there are no choices, so that nothing could match.
    """

    choices: tuple[Expression, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("an alternation needs at least one choice")


@dataclass(frozen=True)
class Repetition(Expression):
    """Matches `least` to `most` times what the part matches; `most` of `None` sets no limit.

    Raises:
        ValueError: `most` is below `least`, or `least` is negative.
    """

    part: Expression
    least: int = 0
    most: int | None = None

    def __post_init__(self) -> None:
        if self.least < 0 or (self.most is not None and self.most < self.least):
            raise ValueError(f"cannot repeat from {self.least} to {self.most} times")


EMPTY = Concatenation(())


def literal(text: str) -> Expression:
    """Matches exactly the UTF-8 bytes of a text."""
    return Concatenation(tuple(ByteRange(byte, byte) for byte in text.encode()))


def concatenate(*parts: Expression) -> Expression:
    return Concatenation(parts)


def alternate(choices: Iterable[Expression]) -> Expression:
    return Alternation(tuple(choices))


class ByteAutomaton:
    """Reads byte strings and says which bytes may follow.

    There are no dead ends: whatever is not refused at once can be completed to a match.
    """

    def __init__(self, expression: Expression) -> None:
        self._bytes: list[list[tuple[int, int, int]]] = []
        """For each state, the transitions that read a byte: lowest byte, highest byte, next state."""
        self._empty: list[list[int]] = []
        """For each state, the transitions that read nothing."""
        start, self._final = self._new(), self._new()
        self._add(expression, start, self._final)
        self._known: dict[tuple[State, int], State] = {}
        self.start = self._closure([start])

    def step(self, state: State, byte: int) -> State:
        """Returns the state after one more byte; empty where it is not allowed."""
        if (state, byte) not in self._known:
            reached = [to for at in state for low, high, to in self._bytes[at] if low <= byte <= high]
            self._known[state, byte] = self._closure(reached)
        return self._known[state, byte]

    def read(self, data: bytes, state: State | None = None) -> State:
        """Returns the state after these bytes, read from `state` or the start; empty where they are not allowed."""
        state = self.start if state is None else state
        for byte in data:
            state = self.step(state, byte)
        return state

    def allowed(self, state: State) -> frozenset[int]:
        """Returns the bytes that may follow."""
        ranges = {(low, high) for at in state for low, high, _ in self._bytes[at]}
        return frozenset(byte for low, high in ranges for byte in range(low, high + 1))

    def accepts(self, state: State) -> bool:
        """Checks whether the bytes so far are a whole match."""
        return self._final in state

    def matches(self, data: bytes) -> bool:
        return self.accepts(self.read(data))

    def _new(self) -> int:
        self._bytes.append([])
        self._empty.append([])
        return len(self._bytes) - 1

    def _add(self, expression: Expression, start: int, end: int) -> None:
        """Adds states that lead from `start` to `end` by exactly what the expression matches."""
        match expression:
            case ByteRange(low, high):
                self._bytes[start].append((low, high, end))
            case Concatenation(parts):
                self._chain(parts, start, end)
            case Alternation(choices):
                for choice in choices:
                    self._add(choice, start, end) if isinstance(choice, ByteRange) else self._detour(choice, start, end)
            case Repetition(part, least, None):
                loop = self._new()
                self._chain((part,) * least, start, loop)
                self._detour(part, loop, loop)
                self._empty[loop].append(end)
            case Repetition(part, least, int(most)):
                at = self._new()
                self._chain((part,) * least, start, at)
                for _ in range(most - least):
                    self._empty[at].append(end)
                    after = self._new()
                    self._detour(part, at, after)
                    at = after
                self._empty[at].append(end)
            case _:
                raise TypeError(f"{expression!r} is no expression")

    def _chain(self, parts: Sequence[Expression], start: int, end: int) -> None:
        at = start
        for part in parts:
            after = self._new()
            self._add(part, at, after)
            at = after
        self._empty[at].append(end)

    def _detour(self, expression: Expression, start: int, end: int) -> None:
        """Adds an expression between states of its own, so that its loops cannot be entered from other choices."""
        first, last = self._new(), self._new()
        self._empty[start].append(first)
        self._add(expression, first, last)
        self._empty[last].append(end)

    def _closure(self, states: Iterable[int]) -> State:
        """Adds the states that are reached without reading a byte."""
        found, left = set(states), list(states)
        while left:
            for to in self._empty[left.pop()]:
                if to not in found:
                    found.add(to)
                    left.append(to)
        return frozenset(found)
