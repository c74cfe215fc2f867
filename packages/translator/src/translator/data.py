"""The user's own sentences as a data set: two files that translate each other line by line, or one TSV file."""

import random
import re
from pathlib import Path

from dlcommon.runtime.data import DamagedDataError, DataSet, LocatedDataSet, own_files
from dlcommon.runtime.data.parallel_text import Lines, ParallelText, Split, read_aligned
from dlcommon.runtime.data.text_corpus import read_text
from dlcommon.runtime.data.text_encoding import say
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.localization import LocalizedText

from translator.config import Config

FEWEST = 50
"""Pairs that are enough to train on, validate and test."""
HELD_OUT = 0.05
LARGEST_HELD_OUT = 1000
"""Pairs of the validation and of the test split: a twentieth each, but not more than this."""
NAMED = 5
"""Bad rows that an error names."""


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the sentences that `--text` names, if it names some.

    Raises:
        UserError: as of `own_text`.
    """
    paths = tuple(Path(name).expanduser().resolve() for name in config.text)
    return own_text(paths, config.source, config.target) if paths else None


def own_text(paths: tuple[Path, ...], source: str, target: str) -> LocatedDataSet:
    """Returns aligned files as a data set, split at random but always alike.

    Args:
        paths: a file in each language, or one TSV file of two columns.
        source: language of the first file or column.
        target: language of the second.

    Raises:
        UsageError: there is no such file, or there are too few pairs.
        UserError: a file is no UTF-8 text, the files have different numbers of lines, or rows are bad.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--text {path}: there is no such file")
    folder = paths[0].parent
    # Paths below one folder where they can be, else as they are.
    names = tuple(path.name if path.parent == folder else str(path) for path in paths)

    def load(root: Path) -> ParallelText:
        files = [root / name for name in names]
        lines = (
            read_tsv(files[0], source, target)
            if len(files) == 1
            else read_aligned(dict(zip((source, target), files, strict=True)), say)
        )
        pairs = list(dict.fromkeys(zip(lines[source], lines[target], strict=True)))
        if len(pairs) < FEWEST:
            raise UsageError(
                f"--text {paths[0]}: {len(pairs)} different pairs are too few; at least {FEWEST} are needed"
            )
        return split(pairs, source, target)

    name = re.sub(r"[^\w-]+", "-", paths[0].stem).strip("-").lower() or "text"
    title = LocalizedText(paths[0].name, paths[0].name)
    dataset = DataSet(name, title, "the user's own sentences", "the user's own", "", load, files=names)
    return own_files(dataset, folder)


def read_tsv(path: Path, source: str, target: str) -> dict[str, tuple[str, ...]]:
    """Reads a sentence and its translation from each row, separated by a tab; rows are counted from 1.

    Raises:
        DamagedDataError: rows do not have exactly two columns that hold something; names the first of them.
    """
    rows = [[cell.strip() for cell in line.split("\t")] for line in read_text(path, say).removesuffix("\n").split("\n")]
    bad = [number for number, row in enumerate(rows, start=1) if len(row) != 2 or not all(row)]
    if bad:
        named = ", ".join(f"{number:,}" for number in bad[:NAMED]) + (" …" if len(bad) > NAMED else "")
        raise DamagedDataError(
            path, f"{len(bad):,} of {len(rows):,} lines do not hold two texts with a tab between: {named}"
        )
    sources, targets = zip(*rows, strict=True)
    return {source: sources, target: targets}


def split(pairs: list[tuple[str, str]], source: str, target: str) -> ParallelText:
    """Splits pairs at random, by a fixed seed; no source sentence is in two splits."""
    by_source: dict[str, list[tuple[str, str]]] = {}
    for pair in pairs:
        by_source.setdefault(pair[0], []).append(pair)
    groups = list(by_source.values())
    random.Random(0).shuffle(groups)
    held_out = min(LARGEST_HELD_OUT, max(1, int(HELD_OUT * len(groups))))
    parts = groups[2 * held_out :], groups[:held_out], groups[held_out : 2 * held_out]

    def lines(part: list[list[tuple[str, str]]]) -> Lines:
        sources, targets = zip(*(pair for group in part for pair in group), strict=True)
        return {source: sources, target: targets}

    return ParallelText(*map(lines, parts))


def pairs_of(text: ParallelText, split: Split, source: str, target: str, name: str) -> list[tuple[str, str]]:
    """Returns the pairs of a split.

    Raises:
        UsageError: the data set lacks one of the languages.
    """
    for language in (source, target):
        if language not in text.train:
            known = ", ".join(sorted(text.train))
            raise UsageError(f"{name} holds no {language!r}, but {known}; name two of them with --source and --target")
    return text.pairs(split, source, target)
