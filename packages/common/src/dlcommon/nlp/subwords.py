"""fastText's subwords: a word's vector is made of the vectors of its character n-grams.

Bojanowski et al. 2017 (https://arxiv.org/abs/1607.04606). N-grams share a fixed number of rows through a hash, so that
a word that was never seen has a vector too.
"""

from collections.abc import Sequence

import numpy as np


def character_ngrams(word: str, shortest: int = 3, longest: int = 6) -> list[str]:
    """Lists the n-grams of <word>; its boundary marks tell prefixes and suffixes from middles (section 3.2)."""
    marked = f"<{word}>"
    return [
        marked[start : start + length]
        for start in range(len(marked))
        for length in range(shortest, longest + 1)
        if start + length <= len(marked)
    ]


def fnv_1a(text: str) -> int:
    """Hashes a text's UTF-8 bytes to 32 bits by FNV-1a, bytes taken as signed, as fastText's program does."""
    value = 2_166_136_261
    for byte in text.encode():
        signed = byte - 256 if byte > 127 else byte
        value = (value ^ (signed & 0xFFFFFFFF)) * 16_777_619 & 0xFFFFFFFF
    return value


def ngram_rows(word: str, buckets: int, shortest: int = 3, longest: int = 6) -> list[int]:
    """Returns the row of each n-gram of a word, from 0 to buckets - 1; different n-grams may share one."""
    return [fnv_1a(ngram) % buckets for ngram in character_ngrams(word, shortest, longest)]


def subword_table(words: Sequence[str], buckets: int, shortest: int = 3, longest: int = 6) -> np.ndarray:
    """Lists the rows that each word's input vector is the mean of: its own, then those of its n-grams.

    The rows of the words come first, those of the n-grams follow.

    Returns:
        int64 [words, width], -1 where a word has fewer.
    """
    rows = [
        [number, *(len(words) + row for row in ngram_rows(word, buckets, shortest, longest))]
        for number, word in enumerate(words)
    ]
    table = np.full((len(rows), max(map(len, rows))), -1)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
