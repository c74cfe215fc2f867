"""Sentences as ids of subwords, and back."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from dlcommon.transformer.byte_pair_encoding import BytePairEncoding

TOKENIZER = "tokenizer.json"
"""File of a run that holds its tokenizer."""
PAD, BEGIN, END, UNKNOWN = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
SPACE = "▁"
"""Stands for the space before a word, so that pieces say where words begin."""
LONGEST_WORD = 100
WORD = re.compile(rf"{SPACE}?(?:\w{{1,{LONGEST_WORD}}}|[^\w{SPACE}])|{SPACE}")
"""A run of letters and digits, or one other character, each with the space before it. Chinese puts no spaces between
words, so a run is a whole clause, of which the encoding learns the frequent parts."""
VARIANTS = {
    **{"’": "'", "‘": "'", "‚": ",", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "–": "-", "—": "-"},
    **{"，": ",", "！": "!", "？": "?", "：": ":", "；": ";", "（": "(", "）": ")"},
}
"""Typographic characters, and what stands for one that the vocabulary lacks."""
PLAIN = re.compile("[^，！？：；（）]+")
"""Text without Chinese punctuation, which NFKC would turn into that of other languages."""


def clean(text: str) -> str:
    """Writes equal text equally: characters composed (NFKC), single spaces, no line breaks."""
    composed = PLAIN.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    return " ".join(composed.replace(SPACE, "_").split())


def words_of(text: str) -> list[str]:
    """Cuts cleaned text into words and punctuation, in which `SPACE` stands for the space before."""
    return WORD.findall(SPACE + text.replace(" ", SPACE)) if text else []


@dataclass(frozen=True)
class Encoded:
    """Holds a sentence as the model reads it."""

    ids: list[int]
    """Without the end token."""
    unknown: tuple[str, ...]
    """Characters that the vocabulary lacks, each once, in the order in which they come."""


class Tokenizer:
    """Cuts sentences of both languages into pieces of one vocabulary."""

    def __init__(self, encoding: BytePairEncoding) -> None:
        self.encoding = encoding

    @classmethod
    def train(cls, sentences: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Learns the vocabulary of these sentences.

        Raises:
            ValueError: `vocab_size` is less than the characters that they hold.
        """
        counts = Counter(word for sentence in sentences for word in words_of(clean(sentence)))
        return cls(BytePairEncoding.train(counts, vocab_size, SPECIAL, SPECIAL[UNKNOWN]))

    @property
    def size(self) -> int:
        """Number of pieces."""
        return len(self.encoding.pieces)

    def encode(self, sentence: str) -> Encoded:
        """Turns a sentence into ids; a character that the vocabulary lacks is `UNKNOWN`."""
        text, known = clean(sentence), self.encoding.ids
        unknown = set(text) - known.keys() - {" "}
        if unknown:
            text = "".join(
                VARIANTS.get(character, character) if character in unknown else character for character in text
            )
            unknown = set(text) - known.keys() - {" "}
        return Encoded(self.encoding.encode(words_of(text)), tuple(sorted(unknown, key=text.index)))

    def decode(self, ids: Iterable[int]) -> str:
        """Turns ids into the sentence; special pieces but `UNKNOWN` are left out."""
        pieces = self.encoding.pieces
        joined = "".join("�" if number == UNKNOWN else pieces[number] for number in ids if number >= UNKNOWN)
        return joined.replace(SPACE, " ").strip()

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the pieces as they are in the vocabulary."""
        return [self.encoding.pieces[number] for number in ids]

    def to_json(self) -> str:
        return json.dumps(self.encoding.state(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads a tokenizer that `to_json` wrote."""
        return cls(BytePairEncoding.from_state(json.loads(text)))


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Puts rows of ids of different lengths below each other, filled up with `PAD`: int64 [rows, longest]."""
    array = np.full((len(rows), max(map(len, rows))), PAD, np.int64)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array
