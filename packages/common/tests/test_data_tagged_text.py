"""Tagged sentences: what is damaged is named by its line; the generated and the real set hold what they say."""

from collections import Counter
from pathlib import Path

import pytest
from dlcommon.nlp.bio_tags import is_valid, spans_of
from dlcommon.runtime.data import DATA_SETS, find, generated_names, wnut17
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.token_classification import TaggedText, TokenClassification, read_conll
from dlcommon.testing.skips import data_set_or_skip

LABELS = ("person", "place")


def test_columns_are_read(tmp_path: Path) -> None:
    (tmp_path / "x.conll").write_text(
        "\n@Ann\tB-person\nLee\tI-person\n:\tO\n\t\n\nIn\tO\r\nRome\tB-place\n\n\n", newline=""
    )
    assert read_conll(tmp_path / "x.conll", LABELS) == TaggedText(
        (("@Ann", "Lee", ":"), ("In", "Rome")), (("B-person", "I-person", "O"), ("O", "B-place"))
    )
    (tmp_path / "x.conll").write_text("In\tO")  # no newline at the end
    assert read_conll(tmp_path / "x.conll", LABELS) == TaggedText((("In",),), (("O",),))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("Rome B-place", "line 3 has no tab between a token and its tag"),
        ("\tB-place", "line 3 has no token"),
        ("Rome\tB-city", "line 3: the tag is 'B-city', not O, or B- or I- and one of person, place"),
        ("Rome\tplace", "line 3: the tag is 'place'"),
        ("Rome\t", "line 3: the tag is ''"),
        ("Rome\tI-place", "line 3: I-place continues nothing"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "train.conll").write_text(f"Ann\tB-person\nin\tO\n{line}\n\nhi\tO\n")
    with pytest.raises(DamagedDataError) as caught:
        read_conll(tmp_path / "train.conll", LABELS)
    assert f"{tmp_path / 'train.conll'}: {problem}" in str(caught.value)


def test_a_span_does_not_reach_into_the_next_sentence(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ann\tB-person\n\nLee\tI-person\n")
    with pytest.raises(DamagedDataError, match="line 3: I-person continues nothing"):
        read_conll(tmp_path / "train.conll", LABELS)


@pytest.mark.parametrize(("content", "problem"), [(b"", "the file is empty"), (b"caf\xe9\tO\n", "not UTF-8 (line 1")])
def test_files_that_are_no_text_are_named(tmp_path: Path, content: bytes, problem: str) -> None:
    for name in (wnut17.TRAIN, wnut17.VALIDATION, wnut17.TEST):
        (tmp_path / name).write_text("Ann\tB-person\n")
    (tmp_path / wnut17.VALIDATION).write_bytes(content)
    with pytest.raises(DamagedDataError) as caught:
        wnut17.load(tmp_path)
    assert wnut17.VALIDATION in str(caught.value)
    assert problem in str(caught.value)


def test_contents_follow_tokens_tags_and_sentences() -> None:
    def contents(*sentences: tuple[tuple[str, ...], tuple[str, ...]]) -> bytes:
        split = TaggedText(tuple(tokens for tokens, _ in sentences), tuple(tags for _, tags in sentences))
        return b"".join(TokenClassification(split, split, split, LABELS).contents())

    variants = [
        contents((("a", "b"), ("O", "O"))),
        contents((("a", "c"), ("O", "O"))),
        contents((("a", "b"), ("O", "B-place"))),
        contents((("a",), ("O",)), (("b",), ("O",))),
    ]
    assert len(set(variants)) == 4
    assert contents((("a", "b"), ("O", "O"))) == variants[0]


@pytest.mark.real_data
def test_real_wnut17() -> None:
    data: TokenClassification = data_set_or_skip("wnut17").load()
    assert [len(split.sentences) for split in (data.train, data.validation, data.test)] == [3_394, 1_009, 1_287]
    assert "5,690" in DATA_SETS["wnut17"].description
    counts = [
        Counter(span.label for tags in split.tags for span in spans_of(tags))
        for split in (data.train, data.validation, data.test)
    ]
    assert [sum(count.values()) for count in counts] == [1_975, 836, 1_079]
    assert (counts[0]["person"], counts[2]["creative-work"]) == (660, 142)
    assert all(is_valid(tags) for split in (data.train, data.validation, data.test) for tags in split.tags)


def test_generated_names_are_at_hand_and_half_of_those_in_the_test_are_new(cache: Path) -> None:
    located = find("generated-names")
    assert located is not None
    data = located.load()
    assert isinstance(data, TokenClassification)
    assert [len(split.sentences) for split in (data.train, data.validation, data.test)] == [1200, 300, 500]
    assert "2,000" in DATA_SETS["generated-names"].description

    def names(split: TaggedText) -> list[str]:
        assert all(is_valid(tags) for tags in split.tags)
        return [
            " ".join(tokens[start:end]).lower()
            for tokens, tags in zip(split.sentences, split.tags, strict=True)
            for start, end, _ in spans_of(tags)
        ]

    known = set(names(data.train))
    new = [name not in known for name in names(data.test)]
    assert 0.4 < sum(new) / len(new) < 0.6


def test_generated_names_depend_on_their_seed_alone() -> None:
    assert generated_names.generate(50, 5, 10) == generated_names.generate(50, 5, 10)
    assert generated_names.generate(50, 5, 10) != generated_names.generate(50, 5, 10, seed=1)
