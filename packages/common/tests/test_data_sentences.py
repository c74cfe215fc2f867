"""Parallel text and text classification: what is misaligned or damaged is named by its line."""

from pathlib import Path

import pytest
from dlcommon.runtime.data import DATA_SETS, find, generated_reviews, sst2
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.parallel_text import ParallelText, read_aligned, read_lines
from dlcommon.runtime.data.text_classification import LabelledText, TextClassification, read_labelled_lines
from dlcommon.testing.skips import data_set_or_skip


def test_aligned_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.en").write_text("A dog .\n Two\u2028cats .\r\n", newline="")
    (tmp_path / "x.zh").write_text("一只狗。\n两只猫。")
    lines = read_aligned({"en": tmp_path / "x.en", "zh": tmp_path / "x.zh"})
    assert lines == {"en": ("A dog .", "Two\u2028cats ."), "zh": ("一只狗。", "两只猫。")}
    text = ParallelText(lines, {"en": ("One .",), "zh": ("一。",)}, lines)
    assert text.pairs("train", "en", "zh") == [("A dog .", "一只狗。"), ("Two\u2028cats .", "两只猫。")]
    assert text.pairs("validation", "zh", "en") == [("一。", "One .")]


def test_files_of_different_length_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("a\nb\nc\n")
    (tmp_path / "train.de").write_text("a\nb\n")
    with pytest.raises(DamagedDataError) as caught:
        read_aligned({"de": tmp_path / "train.de", "en": tmp_path / "train.en"})
    assert str(caught.value).startswith(f"{tmp_path / 'train.de'}: ends with line 2, but train.en has 3 lines")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a\n\nc\n", "line 2 is empty"),
        (b"a\n \t\nc\n", "line 2 is empty"),
        (b"a\nb\n\n", "line 3 is empty"),
        (b"", "the file is empty"),
        ("été\n".encode("latin-1"), "not UTF-8 (line 1"),
        (b"a\0b\n", "zero bytes"),
    ],
)
def test_lines_that_are_no_sentences_are_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "train.en").write_bytes(content)
    with pytest.raises(DamagedDataError) as caught:
        read_lines(tmp_path / "train.en")
    assert "train.en" in str(caught.value)
    assert problem in str(caught.value)


def test_contents_of_parallel_text_follow_every_sentence() -> None:
    def contents(*lines: str) -> bytes:
        split = {"en": lines, "de": lines}
        return b"".join(ParallelText(split, split, split).contents())

    assert contents("a", "b") == contents("a", "b")
    assert len({contents("a", "b"), contents("b", "a"), contents("a"), contents("ab")}) == 4


def test_labelled_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("good\tfilm \t1\nbad\t0", newline="")
    assert read_labelled_lines(tmp_path / "train.tsv", 2) == LabelledText(("good\tfilm", "bad"), (1, 0))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("fine 1", "line 2 has no tab"),
        ("fine\t2", "line 2: the label is '2', not from 0 to 1"),
        ("fine\t-1", "line 2: the label is '-1'"),
        ("fine\tpositive", "line 2: the label is 'positive'"),
        ("fine\t", "line 2: the label is ''"),
        ("\t1", "line 2 has no sentence"),
        ("", "line 2 has no tab"),
    ],
)
def test_damaged_labelled_lines_are_named(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "train.tsv").write_text(f"good\t1\n{line}\nbad\t0\n")
    with pytest.raises(DamagedDataError) as caught:
        read_labelled_lines(tmp_path / "train.tsv", 2)
    assert f"{tmp_path / 'train.tsv'}: {problem}" in str(caught.value)


def test_contents_of_labelled_text_follow_texts_and_labels() -> None:
    def contents(texts: tuple[str, ...], labels: tuple[int, ...], classes: tuple[str, ...] = ("a", "b")) -> bytes:
        split = LabelledText(texts, labels)
        return b"".join(TextClassification(split, split, classes).contents())

    first = contents(("x", "y"), (0, 1))
    assert first == contents(("x", "y"), (0, 1))
    others = [contents(("x", "z"), (0, 1)), contents(("x", "y"), (1, 1)), contents(("x", "y"), (0, 1), ("a", "c"))]
    assert first not in others


@pytest.mark.real_data
def test_real_multi30k() -> None:
    data: ParallelText = data_set_or_skip("multi30k").load()
    for split, count in (("train", 29_000), ("validation", 1_014), ("test", 1_000)):
        assert {language: len(lines) for language, lines in getattr(data, split).items()} == dict.fromkeys(
            ("en", "de", "fr"), count
        )
    first = data.pairs("train", "de", "en")[0]
    assert first[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
    assert first[1] == "Two young, White males are outside near many bushes."
    assert "31,014" in DATA_SETS["multi30k"].description


@pytest.mark.real_data
def test_real_sst2() -> None:
    data: TextClassification = data_set_or_skip("sst2").load()
    assert (len(data.train.texts), len(data.test.texts)) == (6_920, 872)
    assert (sum(data.train.labels), sum(data.test.labels)) == (3_610, 444)
    assert data.test.texts[0] == "one long string of cliches"
    assert data.classes[data.test.labels[0]] == "negative"
    assert data.classes == sst2.CLASSES


def test_generated_reviews_are_at_hand_and_each_is_of_one_sentiment(cache: Path) -> None:
    located = find("generated-reviews")
    assert located is not None
    reviews = located.load()
    assert isinstance(reviews, TextClassification)
    assert (len(reviews.train.texts), len(reviews.test.texts)) == (4000, 500)
    texts, labels = reviews.train.texts + reviews.test.texts, reviews.train.labels + reviews.test.labels
    assert len(set(texts)) == 4500
    assert sum(labels) == 2250
    assert 200 < sum(reviews.test.labels) < 300
    for text, label in zip(texts, labels, strict=True):
        words = set(text.split())
        assert words & {*generated_reviews.ADJECTIVES[label], *generated_reviews.VERBS[label]}
        assert not words & {*generated_reviews.ADJECTIVES[1 - label], *generated_reviews.VERBS[1 - label]}


def test_generated_reviews_depend_on_their_seed_alone() -> None:
    assert generated_reviews.generate(50, 10) == generated_reviews.generate(50, 10)
    assert generated_reviews.generate(50, 10) != generated_reviews.generate(50, 10, seed=1)
