"""Text as numbers: by characters, by UTF-8 bytes, or by byte pairs."""

import codecs
import json
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import tokenizers
from dlcommon.runtime.errors import InvalidInputError
from tokenizers import decoders, models, pre_tokenizers, trainers

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
    """Applies byte-level byte-pair encoding (Sennrich et al. 2016, on bytes as in GPT-2), through `tokenizers`."""

    kind = "bpe"

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer, self.size = tokenizer, tokenizer.get_vocab_size()

    @classmethod
    def of(cls, text: str, size: int) -> "BpeTokenizer":
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
        return cls(tokenizer)

    def encode(self, text: str) -> np.ndarray:
        return np.asarray(self._tokenizer.encode(text).ids, np.int64)

    def decoder(self) -> Callable[[int], str]:
        stream = decoders.DecodeStream(skip_special_tokens=False)
        return lambda token: stream.step(self._tokenizer, token) or ""

    def state(self) -> str:
        return self._tokenizer.to_str()


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
    """Reads a tokenizer that `to_json` wrote."""
    content = json.loads(text)
    match content["kind"]:
        case "characters":
            return CharacterTokenizer(content["state"])
        case "bytes":
            return ByteTokenizer()
        case _:
            return BpeTokenizer(tokenizers.Tokenizer.from_str(content["state"]))
