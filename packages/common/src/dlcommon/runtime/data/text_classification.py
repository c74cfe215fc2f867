"""Defines the type that text classification sets are loaded as: sentences with a label each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.text_corpus import read_text


@dataclass(frozen=True)
class LabelledText:
    """Holds sentences and their labels; number i of both belong together."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    """Each an index into the data set's `classes`."""


@dataclass(frozen=True)
class TextClassification:
    """Holds labelled sentences in memory."""

    train: LabelledText
    test: LabelledText
    classes: tuple[str, ...]
    language: str = "en"
    """Of the sentences (ISO 639-1)."""

    def contents(self) -> Iterator[bytes]:
        yield repr(self.classes).encode()
        for split in (self.train, self.test):
            yield f"{len(split.texts)}\0".encode()
            yield "\n".join(split.texts).encode()
            yield bytes(split.labels)


def read_labelled_lines(path: Path, num_classes: int) -> LabelledText:
    """Reads lines that hold a sentence, a tab, and a label from 0 to `num_classes` - 1; lines are counted from 1.

    Raises:
        DamagedDataError: the file is no UTF-8 text, or a line has another form.
    """
    texts, labels = [], []
    for number, line in enumerate(read_text(path).removesuffix("\n").split("\n"), start=1):
        text, tab, label = line.rpartition("\t")
        if not tab:
            raise DamagedDataError(path, f"line {number} has no tab between a sentence and its label")
        if not text.strip():
            raise DamagedDataError(path, f"line {number} has no sentence")
        if not (label.strip().isdecimal() and int(label) < num_classes):
            raise DamagedDataError(
                path, f"line {number}: the label is {label.strip()!r}, not from 0 to {num_classes - 1}"
            )
        texts.append(text.strip())
        labels.append(int(label))
    return LabelledText(tuple(texts), tuple(labels))
