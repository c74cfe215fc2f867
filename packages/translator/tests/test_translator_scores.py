import numpy as np
import pytest
import sacrebleu
from translator import scores

REFERENCES = ("Ein Hund läuft am Strand.", "Zwei Männer warten auf den Zug.", "Eine Frau singt ein Lied im Park.")
HYPOTHESES = ("Ein Hund rennt am Strand.", "Zwei Männer warten auf einen Bus.", "Eine Frau singt ein Lied.")


def test_bleu_from_counts_is_that_of_sacrebleu() -> None:
    expected = sacrebleu.corpus_bleu(list(HYPOTHESES), [list(REFERENCES)]).score
    bleu, signature = scores.sacrebleu_score(HYPOTHESES, REFERENCES, "de")
    assert bleu == pytest.approx(expected)
    assert scores.ngram_counts(HYPOTHESES, REFERENCES, "de").bleu() == pytest.approx(expected)
    assert "case:mixed" in signature
    assert "tok:13a" in signature
    assert scores.chrf_score(HYPOTHESES, REFERENCES) == pytest.approx(
        sacrebleu.corpus_chrf(list(HYPOTHESES), [list(REFERENCES)]).score
    )


def test_case_and_punctuation_marks_count_in_sacrebleu_alone() -> None:
    lower = [text.lower() for text in REFERENCES]
    assert scores.tokenized_bleu(lower, REFERENCES, "de") == pytest.approx(100)
    assert scores.sacrebleu_score(lower, REFERENCES, "de")[0] < 80


def test_the_interval_holds_the_score() -> None:
    counts = scores.ngram_counts(HYPOTHESES * 20, REFERENCES * 20, "de")
    low, high = scores.bootstrap_interval(counts)
    assert low < counts.bleu() < high
    same = scores.ngram_counts(REFERENCES * 20, REFERENCES * 20, "de")
    assert scores.bootstrap_interval(same) == pytest.approx((100, 100))


def test_by_length_takes_each_sentence_once() -> None:
    counts = scores.ngram_counts(HYPOTHESES, REFERENCES, "de")
    rows = scores.by_length(counts, [5, 9, 30])
    assert [row["words of the source"] for row in rows] == ["1 to 8", "9 to 12", "more than 20"]
    assert rows[0]["BLEU"] == pytest.approx(counts.bleu(np.array([0])))


def test_by_frequency_by_hand() -> None:
    rows = scores.by_frequency(["ein hund ein"], ["ein hund katze"], ["ein ein ein hund"])
    found = {row["times in training"]: row["F-score"] for row in rows}
    assert found == {"never": 0, "1 to 2": 1, "3 to 9": pytest.approx(2 / 3)}


def test_copied_words_and_repeated_phrases() -> None:
    assert scores.copied("A man plays Frisbee", "Ein Mann spielt Frisbee") == 0.25
    assert scores.copied("anything", "") == 0
    assert scores.repeats("ein Hund und ein Hund und ein Ball")
    assert scores.repeats("sehr sehr sehr groß")
    assert not scores.repeats("eine Frau und ein Mann und ein Kind")
    assert not scores.repeats("")
