"""Byte-level byte-pair encoding, the tokenizer of GPT-2 and of most language models since (Radford et al. 2019).

A text is cut by a regular expression into pieces, words as a rule; the UTF-8 bytes of each piece are merged. With all
256 bytes in the vocabulary, every text can be written, and read back exactly.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import regex

from dlcommon.transformer.byte_pair_encoding import BytePairEncoding, Pair

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""A word, a number or a run of punctuation, with the space before it."""
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""As GPT-4's: numbers three digits at a time, without a space, and line breaks apart from other spaces."""
DIGIT_PATTERN = r"\p{N}"


def _byte_characters() -> tuple[str, ...]:
    """Gives each byte a character that can be printed: itself where it can, else one from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))


BYTE_CHARACTERS = _byte_characters()
"""The character that stands for each byte in a vocabulary file, as in GPT-2's: the space is Ġ, the line break Ċ."""
_MISSING = -1
"""Stands for a byte that the vocabulary lacks; SmolLM2's lacks some that UTF-8 hardly ever holds."""
_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def to_byte_characters(text: str) -> str:
    """Writes the UTF-8 bytes of a text as one character each: "é" becomes "Ã©".

    A half of a surrogate pair, which UTF-8 cannot hold, is written as the replacement character U+FFFD.
    """
    encoded = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return "".join(BYTE_CHARACTERS[byte] for byte in encoded)


def pre_tokenize(text: str, patterns: Sequence[str]) -> list[str]:
    """Cuts a text into pieces that no token crosses: by each pattern, into its matches and what is between them.

    The pieces put together are the text.
    """
    pieces = [text]
    for pattern in patterns:
        # A group in parentheses makes `split` keep the matches.
        pieces = [part for piece in pieces for part in regex.split(f"({pattern})", piece) if part]
    return pieces


class ByteLevelBPE:
    """Turns texts into ids and back.

    Args:
        encoding: the merges, of words whose bytes are written as `BYTE_CHARACTERS`.
        patterns: as of `pre_tokenize`.
        special: tokens such as `<|im_end|>` that stand for more than their letters; they are pieces of `encoding`.

    Raises:
        ValueError: the vocabulary lacks a special token.
    """

    def __init__(self, encoding: BytePairEncoding, patterns: Sequence[str], special: Sequence[str] = ()) -> None:
        if missing := [token for token in special if token not in encoding.ids]:
            raise ValueError(f"the vocabulary lacks the special tokens {', '.join(map(repr, missing[:5]))}")
        self.encoding, self.patterns, self.special = encoding, tuple(patterns), tuple(special)
        self._special_ids = {encoding.ids[token] for token in special}
        longest_first = sorted(special, key=len, reverse=True)
        self._special_pattern = regex.compile(f"({'|'.join(map(regex.escape, longest_first))})") if special else None

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        patterns: Sequence[str] = (GPT2_PATTERN,),
        special: Sequence[str] = (),
    ) -> "ByteLevelBPE":
        """Learns merges from texts until there are `vocab_size` tokens; ids as of `tokenizers.trainers.BpeTrainer`.

        Raises:
            ValueError: the bytes and special tokens alone are more than `vocab_size`.
        """
        counts = Counter(to_byte_characters(piece) for text in texts for piece in pre_tokenize(text, patterns))
        first = (*special, *sorted(BYTE_CHARACTERS))
        return cls(BytePairEncoding.train(counts, vocab_size, first, first[0]), patterns, special)

    @classmethod
    def from_merges(
        cls, pieces: Sequence[str], merges: Iterable[str], patterns: Sequence[str], special: Sequence[str] = ()
    ) -> "ByteLevelBPE":
        """Makes a tokenizer of a vocabulary and merges such as `"Ġ t"`, as files hold them.

        Raises:
            ValueError: they do not fit each other.
        """
        ids = {piece: number for number, piece in enumerate(pieces)}
        pairs: list[Pair] = []
        for merge in merges:
            left, _, right = merge.partition(" ")
            if left not in ids or right not in ids:
                raise ValueError(f"the merge {merge!r} joins what is not in the vocabulary")
            pairs.append((ids[left], ids[right]))
        return cls(BytePairEncoding(pieces, pairs, _MISSING), patterns, special)

    def __len__(self) -> int:
        """Returns the number of tokens."""
        return len(self.encoding.pieces)

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Returns the ids of a text.

        Args:
            text: any text.
            allow_special: whether `<|im_end|>` in the text means the special token. Only for text that the program
                wrote itself: in a user's text it is ten letters and signs, else users could end their turn and speak
                for the system.

        Raises:
            ValueError: the vocabulary lacks a byte of the text; one that `train` made lacks none.
        """
        if not allow_special or self._special_pattern is None:
            return self._encode_plain(text)
        ids: list[int] = []
        for number, part in enumerate(self._special_pattern.split(text)):
            ids += [self.encoding.ids[part]] if number % 2 else self._encode_plain(part)  # every other is a match
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        ids = self.encoding.encode(map(to_byte_characters, pre_tokenize(text, self.patterns)))
        if _MISSING in ids:
            missing = sorted({*to_byte_characters(text)} - {*self.encoding.ids})
            raise ValueError(f"the vocabulary has no token for byte {_BYTES[missing[0]]:#04x}")
        return ids

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Returns the bytes of these tokens. One token, or the tokens so far, may end within a character."""
        return b"".join(
            self.encoding.pieces[number].encode()
            if number in self._special_ids
            else bytes(_BYTES[character] for character in self.encoding.pieces[number])
            for number in ids
        )

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of these tokens; what is not UTF-8 becomes the replacement character U+FFFD."""
        return self.decode_bytes(ids).decode(errors="replace")
