"""Defines the type that tagging sets are loaded as: sentences in tokens, with a BIO tag each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlcommon.nlp.bio_tags import bio_tags, can_follow
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.text_corpus import read_text


@dataclass(frozen=True)
class TaggedText:
    """Holds sentences and their tags; number i of both belong together and are equally long."""

    sentences: tuple[tuple[str, ...], ...]
    """Tokens of each sentence."""
    tags: tuple[tuple[str, ...], ...]
    """`O`, `B-label` or `I-label` of each token."""


@dataclass(frozen=True)
class TokenClassification:
    """Holds tagged sentences in memory."""

    train: TaggedText
    validation: TaggedText
    test: TaggedText
    labels: tuple[str, ...]
    """Of spans, such as person and location."""
    language: str = "en"
    """Of the sentences (ISO 639-1)."""

    def contents(self) -> Iterator[bytes]:
        yield repr(self.labels).encode()
        for split in (self.train, self.validation, self.test):
            yield f"{len(split.sentences)}\0".encode()
            for tokens, tags in zip(split.sentences, split.tags, strict=True):
                yield repr((tokens, tags)).encode()


def read_conll(path: Path, labels: tuple[str, ...]) -> TaggedText:
    """Reads lines that hold a token, a tab and its BIO tag; a blank line ends a sentence. Lines are counted from 1.

    Raises:
        DamagedDataError: the file is no UTF-8 text, or a line has another form; or an I continues nothing.
    """
    known = frozenset(bio_tags(labels))
    sentences: list[tuple[str, ...]] = []
    tagged: list[tuple[str, ...]] = []
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate((*read_text(path).split("\n"), ""), start=1):
        if not line.strip():
            if tokens:
                sentences.append(tuple(tokens))
                tagged.append(tuple(tags))
                tokens, tags = [], []
            continue
        token, tab, tag = line.rpartition("\t")
        if not tab:
            raise DamagedDataError(path, f"line {number} has no tab between a token and its tag")
        if not token.strip():
            raise DamagedDataError(path, f"line {number} has no token")
        if tag.strip() not in known:
            raise DamagedDataError(
                path, f"line {number}: the tag is {tag.strip()!r}, not O, or B- or I- and one of {', '.join(labels)}"
            )
        if not can_follow(tags[-1] if tags else None, tag.strip()):
            raise DamagedDataError(path, f"line {number}: {tag.strip()} continues nothing; a span begins with B-")
        tokens.append(token.strip())
        tags.append(tag.strip())
    return TaggedText(tuple(sentences), tuple(tagged))
