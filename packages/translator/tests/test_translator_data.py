"""The user's own sentences, and the generated ones."""

from pathlib import Path

import pytest
from dlcommon.runtime.data.parallel_text import ParallelText
from dlcommon.runtime.errors import UsageError, UserError
from translator.config import Config
from translator.data import own_data, pairs_of
from translator.generated_captions import load


def lines(count: int, prefix: str) -> str:
    return "".join(f"{prefix} number {number}\n" for number in range(count))


def loaded(*paths: Path) -> ParallelText:
    located = own_data(Config(text=tuple(map(str, paths)), source="en", target="nl"))
    assert located is not None
    text = located.load()
    assert isinstance(text, ParallelText)
    return text


def test_two_aligned_files_are_split_into_three(tmp_path: Path) -> None:
    source, target = tmp_path / "my.en", tmp_path / "my.nl"
    source.write_text(lines(200, "line"), encoding="utf-8")
    target.write_text(lines(200, "regel"), encoding="utf-8")
    text = loaded(source, target)
    assert [len(split["en"]) for split in (text.train, text.validation, text.test)] == [180, 10, 10]
    pairs = [pair for split in ("train", "validation", "test") for pair in text.pairs(split, "en", "nl")]
    assert len(set(pairs)) == 200
    assert all(one.replace("line", "regel") == other for one, other in pairs)
    assert loaded(source, target) == text


def test_files_in_different_folders(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    source, target = tmp_path / "a.txt", tmp_path / "other" / "a.txt"
    source.write_text(lines(60, "line"), encoding="utf-8")
    target.write_text(lines(60, "regel"), encoding="utf-8")
    assert loaded(source, target).train["nl"][0].startswith("regel")


def test_a_tsv_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"line {i}\tregel {i}\r\n" for i in range(60)), encoding="utf-8")
    assert len(loaded(path).train["en"]) == 54


def test_a_source_with_two_translations_is_in_one_split(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"line {i % 60}\tregel {i}\n" for i in range(120)), encoding="utf-8")
    text = loaded(path)
    assert not set(text.train["en"]) & {*text.test["en"], *text.validation["en"]}


@pytest.mark.parametrize("row", ["no tab here", "one\t", "\tother", "three\tcolumns\there"])
def test_bad_rows_are_named(tmp_path: Path, row: str) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("a\tb\n" * 3 + f"{row}\n" + "a\tb\n" * 60 + f"{row}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"pairs\.tsv: 2 of 65 lines do not hold two texts with a tab between: 4, 65;"):
        loaded(path)


def test_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.nl"
    source.write_text(lines(60, "line"), encoding="utf-8")
    target.write_text(lines(59, "regel"), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.nl: ends with line 59, but a\.en has 60"):
        loaded(source, target)
    target.write_text(lines(30, "regel") + "\n" + lines(29, "regel"), encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.nl: line 31 is empty"):
        loaded(source, target)


def test_what_is_missing_or_too_little_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        own_data(Config(text=(str(tmp_path / "none.tsv"),)))
    path = tmp_path / "few.tsv"
    path.write_text("a\tb\n" * 100, encoding="utf-8")
    with pytest.raises(UsageError, match="1 different pairs are too few; at least 50"):
        loaded(path)
    assert own_data(Config()) is None
    with pytest.raises(ValueError, match="one TSV file or two files, not 3"):
        Config(text=("a", "b", "c"))
    with pytest.raises(ValueError, match="name two languages"):
        Config(source="de")


def test_generated_captions_agree_and_do_not_repeat(tmp_path: Path) -> None:
    text = load(tmp_path)
    pairs = dict(pairs_of(text, "train", "en", "de", "generated-captions"))
    french = dict(pairs_of(text, "train", "en", "fr", "generated-captions"))
    assert len(pairs) == 4000
    assert not set(text.test["en"]) & set(text.train["en"])
    english = next(one for one in pairs if one.startswith("A small cow is") and one.endswith("o'clock."))
    assert " eine kleine Kuh " in pairs[english]
    assert pairs[english].startswith("Um ")
    assert " petite vache " in french[english]
    with pytest.raises(UsageError, match="holds no 'nl', but de, en, fr, zh"):
        pairs_of(text, "train", "en", "nl", "generated-captions")
