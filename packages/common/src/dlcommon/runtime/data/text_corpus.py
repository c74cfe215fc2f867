"""Reads plain text to train a language model on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.text_encoding import Note, decoded

TRAINED = 0.9
"""Fraction of a text without a split of its own that is trained on: its beginning, as in nanoGPT."""
LEAST = 1000
"""Fewest characters that are a corpus."""


@dataclass(frozen=True)
class TextCorpus:
    """Holds text to train on and text to test on."""

    train: str
    test: str

    def contents(self) -> Iterator[bytes]:
        yield self.train.encode()
        yield b"\0"
        yield self.test.encode()


def split(text: str) -> TextCorpus:
    """Splits a text: the first nine tenths to train, the rest to test."""
    at = int(TRAINED * len(text))
    return TextCorpus(text[:at], text[at:])


def read_text(path: Path, note: Note | None = None) -> str:
    """Reads a text file, its line ends as \\n, without a byte-order mark.

    Args:
        note: is told of another encoding than UTF-8, which is then recognized; None: only UTF-8 is read.

    Raises:
        DamagedDataError: it is empty, binary, or in another encoding; says which it may be, and where it fails.
    """
    content = path.read_bytes()
    if not content.strip():
        raise DamagedDataError(path, "the file is empty")
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DamagedDataError(path, "the file holds zero bytes: it is not text")
    text = decoded(content, path, note) if note is not None else _utf8(content, path)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _utf8(content: bytes, path: Path) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DamagedDataError(path, f"the file is UTF-16, not UTF-8; convert it: {_convert(path, 'UTF-16')}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        guess = _encoding_of(content)
        hint = f"it may be {guess}; convert it: {_convert(path, guess)}" if guess else "and in no encoding known here"
        line = content[: error.start].count(b"\n") + 1
        raise DamagedDataError(path, f"the file is not UTF-8 (line {line}, byte {error.start}); {hint}") from error


def _encoding_of(content: bytes) -> str | None:
    """Guesses the encoding of a text that is not UTF-8; None if no common one fits."""
    for name in ("gb18030", "big5", "shift_jis", "cp1252"):
        try:
            content.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return None


def _convert(path: Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"


def load_text(path: Path) -> TextCorpus:
    """Reads one file as a corpus.

    Raises:
        DamagedDataError: it is no UTF-8 text, or too short to learn from.
    """
    text = read_text(path)
    if len(text) < LEAST:
        raise DamagedDataError(path, f"holds {len(text)} characters; at least {LEAST:,} are needed")
    return split(text)
