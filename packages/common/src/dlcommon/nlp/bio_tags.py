"""BIO tags, which turn spans of tokens into one tag a token (Ramshaw & Marcus 1995, https://aclanthology.org/W95-0107).

`B-person` begins a person, `I-person` continues the person of the token before, `O` is outside of all spans. This is
the variant IOB2: every span begins with a B.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal, NamedTuple

OUTSIDE = "O"


class Span(NamedTuple):
    """Names the tokens `start` to `end`, `end` not among them, and their label."""

    start: int
    end: int
    label: str


@cache
def split_tag(tag: str) -> tuple[str, str]:
    """Splits `B-creative-work` into `B` and `creative-work`, and `O` into `O` and an empty label.

    Raises:
        ValueError: it is no BIO tag.
    """
    prefix, _, label = tag.partition("-")
    if tag != OUTSIDE and not (prefix in ("B", "I") and label):
        raise ValueError(f"{tag!r} is no BIO tag: O, B-label or I-label")
    return prefix, label


def bio_tags(labels: Iterable[str]) -> tuple[str, ...]:
    """Lists the tags of these labels: O, then B and I of each."""
    return (OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in ("B", "I")))


@cache
def can_follow(before: str | None, tag: str) -> bool:
    """Checks whether a tag may stand after the tag `before`; `None`: at the beginning.

    Only an I is bound: it continues a B or an I of its own label.
    """
    prefix, label = split_tag(tag)
    return prefix != "I" or (before is not None and before in (f"B-{label}", f"I-{label}"))


def is_valid(tags: Sequence[str]) -> bool:
    """Checks whether every I continues something."""
    return all(can_follow(before, tag) for before, tag in zip((None, *tags), tags, strict=False))


def repair(tags: Sequence[str], orphans: Literal["begin", "drop"] = "begin") -> list[str]:
    """Makes a sequence valid by changing each I that continues nothing, an orphan.

    Args:
        tags: of one sentence.
        orphans: "begin" turns an orphan into a B, as seqeval by default reads it; "drop" turns it into
            O, and what continues it as well, as seqeval does in its strict mode.
    """
    repaired: list[str] = []
    for tag in tags:
        if not can_follow(repaired[-1] if repaired else None, tag):
            tag = f"B-{split_tag(tag)[1]}" if orphans == "begin" else OUTSIDE
        repaired.append(tag)
    return repaired


def spans_of(tags: Sequence[str]) -> list[Span]:
    """Reads the spans from one sentence's tags; an I that continues nothing begins a span."""
    spans: list[Span] = []
    for place, tag in enumerate(repair(tags)):
        prefix, label = split_tag(tag)
        if prefix == "B":
            spans.append(Span(place, place + 1, label))
        elif prefix == "I":
            spans[-1] = spans[-1]._replace(end=place + 1)
    return spans


def tags_of(spans: Iterable[Span], length: int) -> list[str]:
    """Writes spans as the tags of a sentence of `length` tokens.

    Raises:
        ValueError: a span is empty, reaches beyond the sentence, or overlaps another.
    """
    tags = [OUTSIDE] * length
    for start, end, label in spans:
        if not 0 <= start < end <= length:
            raise ValueError(f"the span {start} to {end} is not within {length} tokens")
        if any(tag != OUTSIDE for tag in tags[start:end]):
            raise ValueError(f"the span {start} to {end} overlaps another; BIO tags cannot say that")
        tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return tags
