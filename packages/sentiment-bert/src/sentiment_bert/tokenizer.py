"""WordPiece tokens of texts, with the place of each in the text; by the library `tokenizers`, without torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dlcommon.runtime.errors import UserError
from dlcommon.transformer.byte_pair_encoding import BytePairEncoding
from tokenizers import Regex
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Normalizer, Replace
from tokenizers.normalizers import Sequence as InSequence
from tokenizers.pre_tokenizers import BertPreTokenizer

TOKENIZER = "tokenizer.json"
"""Its file, in a run and in an asset."""
TREEBANK = (
    # "wo n't", "film 's": the parts of a contraction come together, as BERT has read them.
    (r" (?=(?:n't|'s|'re|'ve|'ll|'d|'m)\b)", ""),
    (r"-[lL][rR][bB]-", "("),
    (r"-[rR][rR][bB]-", ")"),
    (r"\\/", "/"),
)
"""What corpora like SST-2 write otherwise than people do, who split texts as the Penn Treebank does."""
UNSPACED = ("ja", "th", "zh")
"""Languages that are written without spaces between words."""
CONTINUES = "##"
"""What stands before a piece that continues a word."""
LONGEST_WORD, LONGEST_CLAUSE = 100, 10_000
"""Characters of what is cut into pieces; anything longer is unknown."""
PRIVATE_USE = 0xF0000
"""The first code point that no text uses."""
PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Encoded:
    """The tokens of a text, without [CLS] and [SEP]."""

    ids: list[int]
    spans: list[tuple[int, int]]
    """Where each token begins and ends in the text, in characters."""


def natural(normalizer: Normalizer) -> Normalizer:
    """Puts what a corpus writes in the Treebank's way into everyday writing before it is normalized."""
    return InSequence([*(Replace(Regex(pattern), content) for pattern, content in TREEBANK), normalizer])


def learn_vocabulary(word_counts: Mapping[str, int], vocab_size: int, prefix: str) -> list[str]:
    """Learns WordPiece's vocabulary: the special tokens, then pieces, with `prefix` before those that continue a word.

    Raises:
        ValueError: the words have more different characters than `vocab_size` allows.
    """
    if not prefix:
        return list(BytePairEncoding.train(word_counts, vocab_size, SPECIAL, UNKNOWN).pieces)
    continuing = sorted({character for word in word_counts for character in word[1:]})
    # For byte-pair encoding a character inside a word is another one than at its beginning: one of a private plane.
    private = {character: chr(PRIVATE_USE + number) for number, character in enumerate(continuing)}
    marked = {
        word[0] + "".join(private[character] for character in word[1:]): count
        for word, count in sorted(word_counts.items())
    }
    learnt = BytePairEncoding.train(marked, vocab_size, SPECIAL, UNKNOWN).pieces[len(SPECIAL) :]
    plain = {mark: character for character, mark in private.items()}
    pieces = ["".join(plain.get(character, character) for character in piece) for piece in learnt]
    return [
        *SPECIAL,
        *(f"{prefix}{text}" if piece[0] in plain else text for piece, text in zip(learnt, pieces, strict=True)),
    ]


class Tokenizer:
    """Turns texts into ids of WordPiece tokens, in lower case and without accents.

    Raises:
        UserError: a special token is missing.
    """

    def __init__(self, backend: Backend) -> None:
        # A file may say that texts are cut and padded; how long a text may be is the caller's business.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        ids = {token: backend.token_to_id(token) for token in SPECIAL}
        known = [number for number in ids.values() if number is not None]
        if len(known) < len(SPECIAL):
            raise UserError(f"the tokenizer lacks {', '.join(token for token, i in ids.items() if i is None)}")
        self.pad, self.unknown, self.cls, self.sep, self.mask = known

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, language: str = "en") -> "Tokenizer":
        """Learns a vocabulary of at most `vocab_size` pieces by byte-pair encoding, the same from the same texts.

        In a language without spaces, pieces are found in whole clauses, so that common words become pieces; BERT's own
        tokenizer would read every Chinese character by itself. (The library's own trainer breaks ties differently in
        each process.)

        Raises:
            ValueError: the texts have more different characters than that.
        """
        spaced = language not in UNSPACED
        prefix = CONTINUES if spaced else ""
        normalizer = natural(BertNormalizer(lowercase=True, handle_chinese_chars=spaced))
        words = BertPreTokenizer()
        counts = Counter(word for text in texts for word, _ in words.pre_tokenize_str(normalizer.normalize_str(text)))
        vocabulary = {piece: number for number, piece in enumerate(learn_vocabulary(counts, vocab_size, prefix))}
        backend = Backend(
            WordPiece(
                vocabulary,
                unk_token=UNKNOWN,
                continuing_subword_prefix=prefix,
                max_input_chars_per_word=LONGEST_WORD if spaced else LONGEST_CLAUSE,
            )
        )
        backend.normalizer, backend.pre_tokenizer = normalizer, words
        backend.decoder = WordPieceDecoder(prefix=prefix)
        return cls(backend)

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads a tokenizer that `to_json` wrote.

        Raises:
            UserError: it is damaged.
        """
        try:
            return cls(Backend.from_str(text))
        except Exception as error:  # the library raises plain Exception
            raise UserError(f"the tokenizer is damaged ({str(error).splitlines()[0]}); train again") from error

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        return cls.from_json(path.read_text(encoding="utf-8"))

    @classmethod
    def from_pretrained(cls, folder: Path) -> "Tokenizer":
        """Reads a pretrained model's tokenizer."""
        tokenizer = cls.from_file(folder / TOKENIZER)
        tokenizer._backend.normalizer = natural(tokenizer._backend.normalizer)
        return tokenizer

    def to_json(self) -> str:
        return str(self._backend.to_str())

    @property
    def size(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, text: str) -> Encoded:
        """Returns a text's tokens."""
        found = self._backend.encode(text, add_special_tokens=False)
        return Encoded(found.ids, found.offsets)

    def encode_batch(self, texts: Sequence[str]) -> list[Encoded]:
        """Returns the tokens of many texts, on all cores."""
        return [Encoded(one.ids, one.offsets) for one in self._backend.encode_batch(texts, add_special_tokens=False)]

    def token(self, number: int) -> str:
        return str(self._backend.id_to_token(number))

    def row(self, ids: Sequence[int]) -> list[int]:
        """Puts [CLS] before and [SEP] behind the ids of a text."""
        return [self.cls, *ids, self.sep]

    def padded(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Puts rows of ids below each other, filled up with [PAD]: int64 [rows, longest]."""
        array = np.full((len(rows), max(map(len, rows))), self.pad, np.int64)
        for number, row in enumerate(rows):
            array[number, : len(row)] = row
        return array
