"""Words and their numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Vocabulary:
    """Holds the words that a corpus has often enough, the most frequent first; a word's number is its place."""

    words: tuple[str, ...]
    counts: np.ndarray
    """How often each occurs in the corpus, int64 [vocab]."""

    @classmethod
    def build(cls, tokens: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Counts the words of a corpus and keeps those that occur `min_count` times or more.

        Raises:
            ValueError: no word is that frequent.
        """
        kept = [(word, count) for word, count in Counter(tokens).most_common() if count >= min_count]
        if not kept:
            raise ValueError(f"no word occurs {min_count} times; lower min_count")
        return cls(tuple(word for word, _ in kept), np.array([count for _, count in kept]))

    @cached_property
    def index(self) -> dict[str, int]:
        """Number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Returns the numbers of tokens, int64 [known tokens]; unknown ones are dropped, and their neighbors meet."""
        return np.fromiter((self.index[token] for token in tokens if token in self.index), np.int64)

    def known(self, words: Sequence[str]) -> list[int]:
        """Returns the numbers of those words that it has."""
        return [self.index[word] for word in words if word in self.index]
