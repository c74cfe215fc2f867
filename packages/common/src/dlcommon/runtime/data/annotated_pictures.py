"""Holds what the readers of detection folders share: pictures with stated boxes, splits, safe paths, and findings."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from dlcommon.runtime.data.detection import Box
from dlcommon.runtime.errors import UsageError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_SPLIT_NAME = re.compile(r"(?<![a-z])(train|val|valid|validation|test)(?![a-z])")

MOST_BROKEN = 0.2
"""Fraction of rows or of pictures that may be unusable; beyond it, the reader has probably misunderstood the folder."""
NAMED = 5
"""Places that a message names before it only counts."""


@dataclass(frozen=True)
class StatedBox:
    """Holds one object as an annotation file states it."""

    place: str
    """File and row, for messages."""
    label: int
    edges: Box
    """Left, top, right, bottom: pixels, or fractions of width and height."""


@dataclass(frozen=True)
class AnnotatedFile:
    """Holds a picture that is not yet decoded, with its objects."""

    path: Path
    objects: list[StatedBox]
    in_fractions: bool = False
    size: tuple[int, int] | None = None
    """Width and height that the annotation states."""


@dataclass(frozen=True)
class DetectionFiles:
    """Holds what a folder says, before any picture is decoded."""

    format: str
    classes: tuple[str, ...]
    splits: dict[Split, list[AnnotatedFile]]
    """Splits that the folder states."""
    unsplit: list[AnnotatedFile]
    """Pictures of a folder without splits; empty where it states some."""
    annotation_files: list[Path]


@dataclass
class Findings:
    """Collects what a reader skips, grouped by reason, and what else its user has to know."""

    root: Path
    rows: int = 0
    """Rows that state an object, broken ones included."""
    pictures: int = 0
    notes: list[str] = field(default_factory=list)
    skipped_rows: list[str] = field(default_factory=list)
    _groups: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _broken: dict[str, list[str]] = field(default_factory=lambda: {"row": [], "picture": []})

    def name(self, path: Path) -> str:
        """Returns a path below the folder as messages show it."""
        return shown_path(path, self.root)

    def count(self, reason: str, place: str) -> None:
        """Records what is worth a message but is no fault, such as a picture without objects."""
        self._groups[reason].append(place)

    def skip_row(self, reason: str, place: str, *, broken: bool = True) -> None:
        """Records a row that is skipped; `broken` ones are bounded by `check`."""
        self._groups[f"row skipped: {reason}"].append(place)
        self.skipped_rows.append(f"{place}: {reason}")
        if broken:
            self._broken["row"].append(f"{place}: {reason}")

    def skip_picture(self, reason: str, place: str) -> None:
        """Records a picture that is skipped."""
        self._groups[f"picture skipped: {reason}"].append(place)
        self._broken["picture"].append(f"{place}: {reason}")

    def messages(self) -> tuple[str, ...]:
        """Returns one line for each note and each reason, with the first few places and their number."""
        return (
            *self.notes,
            *(f"{len(places)} × {reason}: {listed(places)}" for reason, places in self._groups.items()),
        )

    def check(self) -> None:
        """Checks that most of the folder can be used.

        Raises:
            UsageError: more rows or pictures are broken than `MOST_BROKEN`.
        """
        for kind, total in (("row", self.rows), ("picture", self.pictures)):
            broken = self._broken[kind]
            if len(broken) > MOST_BROKEN * total:
                shown = "\n  ".join(broken[:NAMED]) + ("\n  …" if len(broken) > NAMED else "")
                raise UsageError(
                    f"{self.root}: {len(broken)} of {total} {kind}s are unusable, more than {MOST_BROKEN:.0%}; "
                    f"correct them, or remove them from the folder:\n  {shown}"
                )


def shown_path(path: Path, root: Path) -> str:
    """Returns a path relative to the folder, where it lies there; bytes of a name that are no text are replaced."""
    relative = path.relative_to(root) if path.is_relative_to(root) else path
    return os.fsencode(relative.as_posix()).decode("utf-8", "replace")


def listed(places: list[str]) -> str:
    """Names the first few places."""
    return "; ".join(places[:NAMED]) + (" …" if len(places) > NAMED else "")


def path_inside(stated: str, base: Path, root: Path) -> Path | None:
    """Returns the path that a file of the folder states, relative to `base`; None if it leads outside of `root`.

    Addresses, drives and absolute paths elsewhere are outside, too; the file system is not asked.
    """
    text = stated.strip().replace("\\", "/")
    if not text or "\0" in text or "://" in text or re.match(r"[A-Za-z]:", text):
        return None
    path = Path(os.path.normpath(base / text))
    return path if path.is_relative_to(root) else None


def split_in(name: str) -> Split | None:
    """Returns the split that a name contains as a word: `instances_train2017`, `valid`; None for `trainval`."""
    found = {match[1][:5].removesuffix("id") for match in _SPLIT_NAME.finditer(name.lower())}
    return next((split for split in SPLITS if found == {split}), None)


def split_of(path: Path) -> Split | None:
    """Returns the split that the innermost folder named after one states, for a path below the data set's folder."""
    return next((split for part in reversed(path.parent.parts) if (split := split_in(part))), None)


def sort_into_splits(
    files: Iterable[AnnotatedFile], findings: Findings
) -> tuple[dict[Split, list[AnnotatedFile]], list[AnnotatedFile]]:
    """Sorts pictures by the names of their folders.

    Returns:
        The splits and no other picture, or, where no folder is named after a split, no split and all pictures.
    """
    splits: dict[Split, list[AnnotatedFile]] = {}
    others: list[AnnotatedFile] = []
    for file in files:
        split = split_of(file.path.relative_to(findings.root))
        (splits.setdefault(split, []) if split else others).append(file)
    if not splits:
        return {}, others
    for file in others:
        findings.count("picture left out: it lies in none of the folders of the splits", findings.name(file.path))
    return splits, []


def complete_splits(files: DetectionFiles, findings: Findings) -> dict[Split, list[AnnotatedFile]]:
    """Returns train, val and test; draws what the folder does not state, always alike, and notes how.

    Raises:
        UsageError: a picture is named twice, or there is none to train on.
    """
    seen: dict[Path, str] = {}
    for name, members in [*files.splits.items(), *([("the folder", files.unsplit)] if files.unsplit else [])]:
        for file in members:
            if file.path in seen:  # in two splits, a model would be tested on what it was trained on
                raise UsageError(
                    f"{findings.root}: {findings.name(file.path)} is named in {seen[file.path]} and again in {name}; "
                    "every picture belongs to one split, once (without val or test, they are split off from train)"
                )
            seen[file.path] = name
    splits: dict[Split, list[AnnotatedFile]] = {split: list(files.splits.get(split, [])) for split in SPLITS}
    if not files.splits:
        splits["train"], rest = _draw(files.unsplit, 0.8)
        splits["val"], splits["test"] = _draw(rest, 0.5)
        findings.notes.append("no splits are stated: 80 % train, 10 % val and 10 % test, drawn at random (seed 0)")
    elif not splits["test"] and splits["val"]:
        splits["test"] = splits["val"]
        splits["train"], splits["val"] = _draw(splits["train"], 0.9)
        findings.notes.append(
            "no test split is stated: val is what the model is tested on, and a tenth of train, drawn at random "
            "(seed 0), is what it is validated on"
        )
    elif not splits["val"] and splits["test"]:
        splits["train"], splits["val"] = _draw(splits["train"], 0.9)
        findings.notes.append("no val split is stated: it is a tenth of train, drawn at random (seed 0)")
    elif not splits["val"]:
        splits["train"], rest = _draw(splits["train"], 0.8)
        splits["val"], splits["test"] = _draw(rest, 0.5)
        findings.notes.append("only train is stated: a tenth each is val and test, drawn at random (seed 0)")
    return splits


def _draw(files: list[AnnotatedFile], fraction: float) -> tuple[list[AnnotatedFile], list[AnnotatedFile]]:
    """Draws a fraction of the pictures; both parts keep the order."""
    chosen = set(np.random.default_rng(0).permutation(len(files))[: round(fraction * len(files))].tolist())
    first = [file for place, file in enumerate(files) if place in chosen]
    return first, [file for place, file in enumerate(files) if place not in chosen]
