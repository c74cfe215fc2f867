"""Precision, recall and F1 of whole spans, as CoNLL-2003 counts them (Tjong Kim Sang & De Meulder 2003).

A predicted span is right if its first token, its last token and its label are; one token too many is an error twice,
a span too many and a span missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dlcommon.nlp.bio_tags import spans_of


@dataclass(frozen=True)
class SpanScores:
    """Counts spans that are right, predicted, and true; a ratio without a denominator is 0."""

    right: int
    predicted: int
    true: int

    @property
    def precision(self) -> float:
        """Share of the predicted spans that are right."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true spans that were found."""
        return self.right / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall: 2PR / (P + R)."""
        total = self.predicted + self.true
        return 2 * self.right / total if total else 0.0


def span_scores(
    true: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], label: str | None = None
) -> SpanScores:
    """Compares the spans in the BIO tags of sentences; sums over all of them (micro average).

    Args:
        true: tags of each sentence.
        predicted: tags of the same sentences; an I that continues nothing begins a span.
        label: counts spans of this label only.

    Raises:
        ValueError: the sentences differ in number or length; says where.
    """
    if len(true) != len(predicted):
        raise ValueError(f"there are true tags of {len(true)} sentences, but predicted ones of {len(predicted)}")
    right = found = existing = 0
    for number, (ours, theirs) in enumerate(zip(true, predicted, strict=True)):
        if len(ours) != len(theirs):
            raise ValueError(f"sentence {number} has {len(ours)} true tags, but {len(theirs)} predicted ones")
        expected, guessed = (
            {span for span in spans_of(tags) if label in (None, span.label)} for tags in (ours, theirs)
        )
        right += len(expected & guessed)
        found += len(guessed)
        existing += len(expected)
    return SpanScores(right, found, existing)
