"""The user's own labelled texts as a data set: a CSV or TSV file with a header."""

import random
import re
from collections import Counter
from pathlib import Path

from dlcommon.runtime.data import DamagedDataError, DataSet, LocatedDataSet, own_files
from dlcommon.runtime.data.delimited import column_names, records, text_lines
from dlcommon.runtime.data.text_classification import LabelledText, TextClassification
from dlcommon.runtime.data.text_encoding import say
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.localization import LocalizedText

from sentiment_bert.config import Config

FEWEST = 40
"""Different texts that are enough to train on and to test."""
FEWEST_OF_A_CLASS = 5
MOST_CLASSES = 50
HELD_OUT, LARGEST_HELD_OUT = 0.15, 2000
"""Share of the texts that is kept for the test, and how many at most."""
NAMED = 5
"""Bad rows that an error names."""


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the texts that `--text` names, if it names some.

    Raises:
        UserError: as of `own_text`.
    """
    if config.text is None:
        return None
    path = Path(config.text).expanduser().resolve()
    return own_text(path, config.column, config.label_column)


def own_text(path: Path, column: str | None, label_column: str) -> LocatedDataSet:
    """Returns a file of labelled texts as a data set, split at random but always alike.

    Args:
        column: that holds the texts; may be left out where the file has one other column than that of the labels.
        label_column: that holds the labels.

    Raises:
        UsageError: there is no such file or column, or there are too few texts or classes.
        UserError: the file is no text, or rows are bad.
    """
    if not path.is_file():
        raise UsageError(f"--text {path}: there is no such file")

    def load(root: Path) -> TextClassification:
        return split(read_rows(root / path.name, column, label_column), path)

    name = re.sub(r"[^\w-]+", "-", path.stem).strip("-").lower() or "text"
    title = LocalizedText(path.name, path.name)
    dataset = DataSet(name, title, "the user's own labelled texts", "the user's own", "", load, files=(path.name,))
    return own_files(dataset, path.parent)


def read_rows(path: Path, column: str | None, label_column: str) -> list[tuple[str, str]]:
    """Reads the text and the label of every row.

    Raises:
        UsageError: a column is missing.
        DamagedDataError: rows lack a text or a label, or cells; names the first of them.
    """
    separator = "\t" if path.suffix.lower() == ".tsv" else None
    with path.open("rb") as file:
        rows = records(text_lines(file, path, say), path, separator)
        _, header = next(rows, (1, []))
        names = column_names(header)
        if not names:
            raise DamagedDataError(path, "the file is empty")
        text_at, label_at = find_columns(path, names, column, label_column)
        pairs, bad, count = [], [], 0
        for line, cells in rows:
            count += 1
            if len(cells) != len(names) or not (cells[text_at].strip() and cells[label_at].strip()):
                bad.append(line)
            else:
                pairs.append((cells[text_at].strip(), cells[label_at].strip()))
    if bad:
        named = ", ".join(f"{number:,}" for number in bad[:NAMED]) + (" …" if len(bad) > NAMED else "")
        raise DamagedDataError(
            path,
            f"{len(bad):,} of {count:,} rows lack a text, a label or a cell; they begin in lines {named}; "
            f"correct or remove them",
        )
    return pairs


def find_columns(path: Path, names: list[str], column: str | None, label_column: str) -> tuple[int, int]:
    """Returns the numbers of the columns that hold the texts and the labels.

    Raises:
        UsageError: one is missing or stands there twice, or it is not clear which holds the texts.
    """
    shown = ", ".join(names[:20])
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{path}: the header names column {twice[0]!r} {names.count(twice[0])} times")
    if label_column not in names:
        raise UsageError(f"{path} has no column {label_column!r}; name one of {shown} with --label-column")
    if column is None:
        others = [name for name in names if name != label_column]
        if len(others) != 1:
            raise UsageError(f"{path}: which column holds the texts? Type --column with one of {shown}")
        column = others[0]
    if column not in names:
        raise UsageError(f"{path} has no column {column!r}; its columns are {shown}")
    if column == label_column:
        raise UsageError(f"--column and --label-column both name {column!r}; name two columns")
    return names.index(column), names.index(label_column)


def split(rows: list[tuple[str, str]], path: Path) -> TextClassification:
    """Splits labelled texts at random, by a fixed seed; a text that occurs several times counts once.

    Raises:
        UserError: a text has two different labels.
        UsageError: there are too few texts or classes, or far too many classes.
    """
    labels: dict[str, str] = {}
    for text, label in rows:
        if labels.setdefault(text, label) != label:
            shown = text if len(text) <= 60 else f"{text[:60]}…"
            raise UserError(f"{path}: {shown!r} is labelled {labels[text]!r} and {label!r}; keep one of them")
    counts = Counter(labels.values())
    classes = tuple(sorted(counts))
    if len(labels) < FEWEST:
        raise UsageError(f"--text {path}: {len(labels)} different texts are too few; at least {FEWEST} are needed")
    if not 2 <= len(classes) <= MOST_CLASSES:
        shown = ", ".join(classes[:NAMED]) + (" …" if len(classes) > NAMED else "")
        raise UsageError(
            f"--text {path}: the label column holds {len(classes)} different labels ({shown}), but 2 to {MOST_CLASSES} "
            f"can be learned; is --label-column right?"
        )
    if rare := [name for name in classes if counts[name] < FEWEST_OF_A_CLASS]:
        raise UsageError(
            f"--text {path}: label {rare[0]!r} has {counts[rare[0]]} texts; at least {FEWEST_OF_A_CLASS} of each are "
            f"needed"
        )
    train, test = [], []
    for number, name in enumerate(classes):  # class by class, so that both parts hold each
        texts = [text for text, label in labels.items() if label == name]
        random.Random(number).shuffle(texts)
        held_out = min(LARGEST_HELD_OUT // len(classes), max(1, round(HELD_OUT * len(texts))))
        test += [(text, number) for text in texts[:held_out]]
        train += [(text, number) for text in texts[held_out:]]
    random.Random(0).shuffle(train)
    random.Random(1).shuffle(test)

    def labelled(part: list[tuple[str, int]]) -> LabelledText:
        texts, numbers = zip(*part, strict=True)
        return LabelledText(texts, numbers)

    return TextClassification(labelled(train), labelled(test), classes)
