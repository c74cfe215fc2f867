"""BIO tags and span scores against seqeval, on random sequences, valid or not."""

import random
import warnings

import pytest
from dlcommon.nlp.bio_tags import Span, bio_tags, can_follow, is_valid, repair, spans_of, tags_of
from dlcommon.nlp.span_metrics import SpanScores, span_scores
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

LABELS = ("person", "creative-work", "place")


def random_tags(seed: int, sentences: int = 60) -> list[list[str]]:
    """Sentences of one to twelve tags, drawn independently: most are not valid."""
    draw = random.Random(seed)
    return [draw.choices(bio_tags(LABELS), k=draw.randint(1, 12)) for _ in range(sentences)]


def test_spans_are_read_and_written() -> None:
    tags = ["B-person", "I-person", "B-person", "O", "B-creative-work", "O", "I-place", "I-place", "I-person"]
    spans = spans_of(tags)
    assert spans == [
        Span(0, 2, "person"),
        Span(2, 3, "person"),
        Span(4, 5, "creative-work"),
        Span(6, 8, "place"),
        Span(8, 9, "person"),
    ]
    assert tags_of(spans, 9) == repair(tags)
    assert spans_of([]) == []
    assert tags_of([], 2) == ["O", "O"]


def test_spans_are_those_of_seqeval() -> None:
    for tags in random_tags(0):
        assert [(span.label, span.start, span.end - 1) for span in spans_of(tags)] == get_entities(tags)


def test_dropped_orphans_leave_the_spans_of_seqevals_strict_mode() -> None:
    for tags in random_tags(1):
        expected = [(entity.start, entity.end, entity.tag) for entity in Entities([tags], IOB2).entities[0]]
        assert [tuple(span) for span in spans_of(repair(tags, "drop"))] == expected


@pytest.mark.parametrize("orphans", ["begin", "drop"])
def test_repair_makes_every_sequence_valid_and_changes_no_valid_one(orphans: str) -> None:
    sequences = random_tags(2)
    assert not all(is_valid(tags) for tags in sequences)
    for tags in sequences:
        repaired = repair(tags, orphans)  # type: ignore[arg-type]
        assert is_valid(repaired)
        assert repair(repaired, orphans) == repaired  # type: ignore[arg-type]
        assert tags_of(spans_of(repaired), len(tags)) == repaired


def test_what_may_follow_what() -> None:
    assert [can_follow(None, tag) for tag in ("O", "B-a", "I-a")] == [True, True, False]
    assert [can_follow(before, "I-a") for before in ("O", "B-a", "I-a", "B-b", "I-b")] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert all(can_follow(before, tag) for before in ("O", "B-a", "I-a") for tag in ("O", "B-a", "B-b"))


@pytest.mark.parametrize("tag", ["", "B", "B-", "S-person", "person", "o"])
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(ValueError, match="is no BIO tag"):
        spans_of(["O", tag])


def test_spans_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="2 to 4 is not within 3"):
        tags_of([Span(2, 4, "a")], 3)
    with pytest.raises(ValueError, match="1 to 1 is not within 3"):
        tags_of([Span(1, 1, "a")], 3)
    with pytest.raises(ValueError, match="overlaps another"):
        tags_of([Span(0, 2, "a"), Span(1, 3, "b")], 3)


@pytest.mark.parametrize("seed", [3, 4])
def test_scores_are_seqevals(seed: int) -> None:
    true = [repair(tags) for tags in random_tags(seed)]
    draw = random.Random(seed)
    predicted = [[tag if draw.random() < 0.8 else draw.choice(bio_tags(LABELS)) for tag in tags] for tags in true]
    scores = span_scores(true, predicted)
    assert scores.precision == pytest.approx(precision_score(true, predicted), abs=1e-12)
    assert scores.recall == pytest.approx(recall_score(true, predicted), abs=1e-12)
    assert scores.f1 == pytest.approx(f1_score(true, predicted), abs=1e-12)
    assert 0.3 < scores.f1 < 0.9
    report = classification_report(true, predicted, output_dict=True)
    for label in LABELS:
        of_label = span_scores(true, predicted, label)
        expected = report[label]
        assert of_label.precision == pytest.approx(expected["precision"], abs=1e-12)
        assert of_label.recall == pytest.approx(expected["recall"], abs=1e-12)
        assert of_label.f1 == pytest.approx(expected["f1-score"], abs=1e-12)
        assert of_label.true == expected["support"]


def test_scores_without_spans_are_zero_as_seqevals() -> None:
    nothing, one = [["O", "O"]], [["B-a", "O"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns of ratios without a denominator
        for true, predicted in ((nothing, nothing), (nothing, one), (one, nothing)):
            scores = span_scores(true, predicted)
            assert (scores.precision, scores.recall, scores.f1) == (
                precision_score(true, predicted),
                recall_score(true, predicted),
                f1_score(true, predicted),
            )
    assert span_scores(one, one) == SpanScores(1, 1, 1)


def test_sentences_that_do_not_match_are_named() -> None:
    with pytest.raises(ValueError, match="true tags of 1 sentences, but predicted ones of 2"):
        span_scores([["O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="sentence 1 has 2 true tags, but 1 predicted ones"):
        span_scores([["O"], ["O", "O"]], [["O"], ["O"]])
