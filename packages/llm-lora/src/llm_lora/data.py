"""The user's own conversations as a data set: a JSON, JSON Lines or CSV file."""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from dlcommon.runtime.data import DamagedDataError, DataSet, LocatedDataSet, own_files
from dlcommon.runtime.data.conversations import BadConversationError, Conversation, Conversations, read_conversation
from dlcommon.runtime.data.delimited import column_names, records, text_lines
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.data.text_encoding import say
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.localization import LocalizedText

from llm_lora.config import Config

FEWEST = 20
"""Different conversations that are enough to train on and to test."""
HELD_OUT, LARGEST_HELD_OUT = 0.1, 500
"""Share of the conversations that is kept for the test, and how many at most."""
NAMED = 5
"""Bad rows that an error describes."""


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the conversations that `--text` names, if it names some.

    Raises:
        UserError: as of `own_conversations`.
    """
    return own_conversations(Path(config.text).expanduser().resolve()) if config.text else None


def own_conversations(path: Path) -> LocatedDataSet:
    """Returns a file of conversations as a data set, split at random but always alike.

    Raises:
        UsageError: there is no such file, it is of another kind, or there are too few conversations.
        UserError: it is damaged, or rows hold no conversation; says which and why.
    """
    if not path.is_file():
        raise UsageError(f"--text {path}: there is no such file")
    if path.suffix.lower() not in (".json", ".jsonl", ".csv", ".tsv"):
        raise UsageError(f"--text {path}: conversations are read from .json, .jsonl, .csv and .tsv files")

    def load(root: Path) -> Conversations:
        return split(read_file(root / path.name), path)

    name = re.sub(r"[^\w-]+", "-", path.stem).strip("-").lower() or "conversations"
    title = LocalizedText(path.name, path.name)
    dataset = DataSet(name, title, "the user's own conversations", "the user's own", "", load, files=(path.name,))
    return own_files(dataset, path.parent)


def read_file(path: Path) -> list[Conversation]:
    """Reads every row of a file; see `read_conversation` for the forms.

    Raises:
        DamagedDataError: rows hold no conversation, or the file is not of its kind; says which and why.
    """
    found, bad, count = [], [], 0
    for where, row in _rows(path):
        count += 1
        try:
            found.append(read_conversation(row))
        except BadConversationError as error:
            bad.append(f"{where} {error}")
    if bad:
        more = f"; and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
        described = "; ".join(bad[:NAMED])
        raise DamagedDataError(path, f"{len(bad):,} of {count:,} rows cannot be used: {described}{more}")
    return found


def _rows(path: Path) -> Iterator[tuple[str, object]]:
    """Yields each row with the words that name its place."""
    kind = path.suffix.lower()
    if kind == ".json":
        try:
            rows = json.loads(read_text(path, say))
        except ValueError as error:
            raise DamagedDataError(path, f"is no JSON: {error}") from error
        if not isinstance(rows, list):
            raise DamagedDataError(path, "is no JSON list of conversations")
        yield from ((f"row {number}", row) for number, row in enumerate(rows))
    elif kind == ".jsonl":
        for number, line in enumerate(read_text(path, say).split("\n"), start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise DamagedDataError(path, f"line {number} is no JSON: {error}") from error
                yield f"line {number}", row
    else:
        with path.open("rb") as file:
            lines = records(text_lines(file, path, say), path, "\t" if kind == ".tsv" else None)
            names = column_names(next(lines, (1, []))[1])
            for number, cells in lines:
                if len(cells) != len(names):
                    raise DamagedDataError(path, f"line {number} has {len(cells)} cells instead of {len(names)}")
                yield f"line {number}", {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}


def split(conversations: list[Conversation], path: Path) -> Conversations:
    """Splits conversations at random, by a fixed seed; all that ask the same are in the same part.

    Raises:
        UsageError: there are too few.
    """
    by_question: dict[tuple[object, ...], list[Conversation]] = {}
    for one in conversations:
        by_question.setdefault(one.prompt, []).append(one)
    if len(by_question) < FEWEST:
        raise UsageError(
            f"--text {path}: {len(by_question)} different conversations are too few; at least {FEWEST} are needed"
        )
    groups = list(by_question.values())
    random.Random(0).shuffle(groups)
    held_out = min(LARGEST_HELD_OUT, max(2, round(HELD_OUT * len(groups))))
    train, test = groups[held_out:], groups[:held_out]
    return Conversations(tuple(one for group in train for one in group), tuple(one for group in test for one in group))
