"""Text as numbers: by characters, by UTF-8 bytes, or by byte pairs."""

import codecs
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable

import numpy as np
from dlcommon.runtime.errors import InvalidInputError, UserError
from dlcommon.transformer.byte_pair_encoding import BytePairEncoding

from char_lm.plain import in_vocabulary

TOKENIZER = "tokenizer.json"
"""File of a run that holds its tokenizer."""
SHOWN = 5
"""Unknown characters that an error names."""


class Tokenizer(ABC):
    """Turns text into tokens and back; `decoder()` turns tokens that come one by one into whole characters."""

    kind: str
    size: int
    """Tokens in the vocabulary."""

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Turns text into tokens, int64 [tokens].

        Raises:
            InvalidInputError: the vocabulary lacks a character.
        """

    def encode_prompt(self, text: str) -> tuple[np.ndarray, dict[str, str]]:
        """Turns text that somebody typed into tokens, with plain counterparts of characters that it does not know.

        Returns:
            int64 [tokens], and what was replaced by what.

        Raises:
            InvalidInputError: the vocabulary lacks a character, and whatever could stand for it.
        """
        return self.encode(text), {}

    @abstractmethod
    def decoder(self) -> Callable[[int], str]:
        """Returns a function of each next token, which returns the text that the token completes, if any."""

    @abstractmethod
    def state(self) -> object:
        """Returns what `from_json` makes it from."""

    def decode(self, tokens: np.ndarray) -> str:
        following = self.decoder()
        return "".join(following(int(token)) for token in tokens)

    def to_json(self) -> str:
        return json.dumps({"kind": self.kind, "state": self.state()}, ensure_ascii=False)


class CharacterTokenizer(Tokenizer):
    """Makes each character that the corpus holds a token."""

    kind = "characters"

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.size = len(characters)
        self._numbers = {character: number for number, character in enumerate(characters)}

    @classmethod
    def of(cls, text: str) -> "CharacterTokenizer":
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> np.ndarray:
        try:
            return np.fromiter((self._numbers[character] for character in text), np.int64, len(text))
        except KeyError:
            unknown = sorted(set(text) - set(self._numbers))
            named = ", ".join(map(repr, unknown[:SHOWN])) + (" …" if len(unknown) > SHOWN else "")
            raise InvalidInputError(
                f"this model knows the {self.size} characters of its training text, without {named}"
            ) from None

    def encode_prompt(self, text: str) -> tuple[np.ndarray, dict[str, str]]:
        plain, replaced = in_vocabulary(text, self._numbers)
        return self.encode(plain), replaced

    def decoder(self) -> Callable[[int], str]:
        return self.characters.__getitem__

    def state(self) -> str:
        return self.characters


class ByteTokenizer(Tokenizer):
    """Makes each UTF-8 byte a token: covers any text, a Chinese character in three."""

    kind, size = "bytes", 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)

    def decoder(self) -> Callable[[int], str]:
        whole = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: whole.decode(bytes([token]))

    def state(self) -> None:
        return None


class BpeTokenizer(Tokenizer):
    """Applies byte-level byte-pair encoding (Sennrich et al. 2016, on bytes as in GPT-2).

    A byte is written as the character of that number, so that the symbols of a word are its bytes.
    """

    kind = "bpe"
    word = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
    """What pairs are merged within: words with the space before them, as in GPT-2."""

    def __init__(self, encoding: BytePairEncoding) -> None:
        self._encoding, self.size = encoding, len(encoding.pieces)

    @classmethod
    def of(cls, text: str, size: int) -> "BpeTokenizer":
        letters = [chr(byte) for byte in range(256)]
        return cls(BytePairEncoding.train(Counter(cls._words(text)), size, letters, letters[0]))

    @classmethod
    def _words(cls, text: str) -> list[str]:
        return [word.encode("utf-8", "replace").decode("latin-1") for word in cls.word.findall(text)]

    def encode(self, text: str) -> np.ndarray:
        return np.asarray(self._encoding.encode(self._words(text)), np.int64)

    def decoder(self) -> Callable[[int], str]:
        whole = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: whole.decode(self._encoding.pieces[token].encode("latin-1"))

    def state(self) -> object:
        return self._encoding.state()


def build(kind: str, train: str, everything: str, size: int) -> Tokenizer:
    """Builds a tokenizer for a corpus: characters of all of it, byte pairs of the training text."""
    match kind:
        case "characters":
            return CharacterTokenizer.of(everything)
        case "bytes":
            return ByteTokenizer()
        case _:
            return BpeTokenizer.of(train, size)


def from_json(text: str) -> Tokenizer:
    """Reads a tokenizer that `to_json` wrote.

    Raises:
        UserError: an earlier version wrote it, whose byte pairs were another library's.
    """
    content = json.loads(text)
    match content["kind"]:
        case "characters":
            return CharacterTokenizer(content["state"])
        case "bytes":
            return ByteTokenizer()
        case _ if isinstance(content["state"], str):
            raise UserError("this model's byte pairs were stored by an earlier version; train with --tokens bpe again")
        case _:
            return BpeTokenizer(BytePairEncoding.from_state(content["state"]))
