"""Byte-pair encoding: subwords learnt by merging the most frequent pair of symbols again and again.

Gage 1994 compressed files this way; Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909) cut words for translation
with it, so that a rare word is a few known pieces and no word is unknown. The same merges, in the same order and with
the same ids, as the `tokenizers` library learns from the same word counts.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TypedDict

Pair = tuple[int, int]
CACHED_WORDS = 2**16
"""Words whose encoding is remembered: a text has few different ones, and they come again and again."""


class BytePairState(TypedDict):
    """What a `BytePairEncoding` is stored as, in JSON."""

    pieces: list[str]
    merges: list[list[int]]
    unknown: int


class BytePairEncoding:
    """Cuts words into pieces of a fixed vocabulary.

    What a word is, and whether its symbols are characters or bytes, is up to the caller: a word is any string, and its
    symbols are its characters. Byte-level encoding (Radford et al. 2019) writes each byte as a character.

    Args:
        pieces: the vocabulary; a piece's id is its place.
        merges: pairs of ids, the earliest learnt first; each pair's pieces joined are a piece.
        unknown: id for symbols that the vocabulary lacks.

    Raises:
        ValueError: two pieces are equal, or a merge makes something that is no piece.
    """

    def __init__(self, pieces: Sequence[str], merges: Sequence[Pair], unknown: int) -> None:
        self.pieces, self.merges, self.unknown = tuple(pieces), tuple(merges), unknown
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        if len(self.ids) < len(self.pieces):
            raise ValueError("the vocabulary holds a piece twice")
        self._ranks: dict[Pair, tuple[int, int]] = {}
        """Pair to its rank, low ranks first, and the id of what it becomes."""
        for rank, (left, right) in enumerate(self.merges):
            merged = self.ids.get(self.pieces[left] + self.pieces[right])
            if merged is None:
                raise ValueError(f"{self.pieces[left]!r} and {self.pieces[right]!r} do not make a piece")
            self._ranks[left, right] = (rank, merged)
        self.encode_word = lru_cache(CACHED_WORDS)(self._encode_word)

    @classmethod
    def train(
        cls, word_counts: Mapping[str, int], vocab_size: int, special: Sequence[str], unknown: str
    ) -> "BytePairEncoding":
        """Learns merges until the vocabulary has `vocab_size` pieces, or no pair is left.

        Pair counts are updated where a merge changes them, instead of being counted anew for each merge: with n merges,
        that is the difference between n passes over all words and about one.

        Args:
            word_counts: how often each word occurs.
            vocab_size: number of pieces: the special ones, all characters, and one for each merge.
            special: pieces with the first ids, such as an end token, or all 256 bytes.
            unknown: one of them, for characters that are not in the vocabulary.

        Raises:
            ValueError: the special pieces and the characters alone are more than `vocab_size`.
        """
        pieces = [*special, *sorted({symbol for word in word_counts for symbol in word} - {*special})]
        if len(pieces) > vocab_size:
            raise ValueError(f"vocab_size {vocab_size} is less than the {len(pieces)} characters and special pieces")
        ids = {piece: number for number, piece in enumerate(pieces)}
        words = [[ids[symbol] for symbol in word] for word in word_counts]
        counts = list(word_counts.values())
        pair_counts: defaultdict[Pair, int] = defaultdict(int)
        where: defaultdict[Pair, set[int]] = defaultdict(set)
        """Pair to the words that hold it, or held it once."""
        for number, word in enumerate(words):
            for pair in pairwise(word):
                pair_counts[pair] += counts[number]
                where[pair].add(number)
        # The most frequent pair first; among equals, the one with the lowest ids. Counts may be out of date.
        queue = [(-count, pair) for pair, count in pair_counts.items()]
        heapq.heapify(queue)
        merges: list[Pair] = []
        while queue and len(pieces) < vocab_size:
            negative, pair = heapq.heappop(queue)
            count = pair_counts[pair]
            if count < 1:
                continue
            if count != -negative:
                heapq.heappush(queue, (-count, pair))
                continue
            joined = pieces[pair[0]] + pieces[pair[1]]
            if joined not in ids:
                ids[joined] = len(pieces)
                pieces.append(joined)
            merges.append(pair)
            changed: set[Pair] = set()
            for number in where.pop(pair):
                before = words[number]
                after = merge(before, pair, ids[joined])
                for old in pairwise(before):
                    pair_counts[old] -= counts[number]
                for new in pairwise(after):
                    pair_counts[new] += counts[number]
                    where[new].add(number)
                    changed.add(new)
                words[number] = after
            for new in changed:
                if ids[joined] in new:  # other pairs became rarer, and are in the queue already
                    heapq.heappush(queue, (-pair_counts[new], new))
        return cls(pieces, merges, ids[unknown])

    def _encode_word(self, word: str) -> tuple[int, ...]:
        """Applies the merges to a word in the order in which they were learnt; returns the ids of its pieces."""
        symbols = [self.ids.get(symbol, self.unknown) for symbol in word]
        while len(symbols) > 1:
            known = [(self._ranks[pair], pair) for pair in pairwise(symbols) if pair in self._ranks]
            if not known:
                break
            (_, merged), pair = min(known)
            symbols = merge(symbols, pair, merged)
        return tuple(symbols)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Returns the ids of the pieces of these words, one word after the other."""
        return [number for word in words for number in self.encode_word(word)]

    def state(self) -> BytePairState:
        """Returns what `from_state` makes the same encoding from; JSON can hold it."""
        return {"pieces": list(self.pieces), "merges": [list(pair) for pair in self.merges], "unknown": self.unknown}

    @classmethod
    def from_state(cls, state: BytePairState) -> "BytePairEncoding":
        """Makes the encoding that `state` described."""
        return cls(state["pieces"], [(left, right) for left, right in state["merges"]], state["unknown"])


def merge(symbols: Sequence[int], pair: Pair, merged: int) -> list[int]:
    """Replaces each occurrence of the pair, from left to right: "aaa" with (a, a) becomes "A a"."""
    result: list[int] = []
    position = 0
    while position < len(symbols):
        if position + 1 < len(symbols) and (symbols[position], symbols[position + 1]) == pair:
            result.append(merged)
            position += 2
        else:
            result.append(symbols[position])
            position += 1
    return result
