"""The user's own labelled texts."""

from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.data.text_classification import LabelledText, TextClassification
from dlcommon.runtime.errors import UsageError, UserError
from sentiment_bert.config import Config
from sentiment_bert.data import own_data
from sentiment_bert.train import choose, hold_out


def written(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def many(count: int, separator: str = ",") -> list[str]:
    return [
        f"{number},text number {number},{'good' if number % 3 else 'bad'}".replace(",", separator)
        for number in range(count)
    ]


def loaded(path: Path, **options: Any) -> TextClassification:
    located = own_data(Config(text=str(path), **options))
    assert located is not None
    text = located.load()
    assert isinstance(text, TextClassification)
    return text


@pytest.mark.parametrize(("name", "separator"), [("my.csv", ","), ("my.csv", ";"), ("my.tsv", "\t")])
def test_a_file_is_split_into_train_and_test(tmp_path: Path, name: str, separator: str) -> None:
    header = "id,review,label".replace(",", separator)
    text = loaded(written(tmp_path / name, header, *many(100, separator)), column="review")
    assert text.classes == ("bad", "good")
    assert (len(text.train.texts), len(text.test.texts)) == (85, 15)
    assert not set(text.train.texts) & set(text.test.texts)
    assert {text.classes[label] for label in text.test.labels} == {"bad", "good"}


def test_the_only_other_column_holds_the_texts(tmp_path: Path) -> None:
    rows = [f"text {number},{number % 2}" for number in range(60)]
    assert loaded(written(tmp_path / "a.csv", "text,label", *rows)).classes == ("0", "1")


def test_a_line_for_excel_and_texts_of_several_lines_are_read(tmp_path: Path) -> None:
    rows = [f'"text {number};\nof two lines";{number % 2}' for number in range(60)]
    text = loaded(written(tmp_path / "a.csv", "sep=;", "text;label", *rows))
    assert "\n" in text.train.texts[0]


@pytest.mark.parametrize(
    ("rows", "options", "kind", "message"),
    [
        (["text,label", *(f"t {n},{n % 2}" for n in range(60)), "no label,", ",1", "a,b,c"], {}, UserError,
         "3 of 63 rows lack a text, a label or a cell; they begin in lines 62, 63, 64"),
        (["text,label", "a,1", "b,0"], {}, UsageError, "2 different texts are too few; at least 40"),
        (["text,label", *(f"t {n},1" for n in range(60))], {}, UsageError, "holds 1 different labels"),
        (["text,label", *(f"t {n},{n}" for n in range(60))], {}, UsageError, "holds 60 different labels"),
        (["text,label", *(f"t {n},{int(n > 57)}" for n in range(60))], {}, UsageError, "label '1' has 2 texts"),
        (["text,label", *(f"t {n % 50},{n % 3}" for n in range(90))], {}, UserError, "is labelled '0' and '2'"),
        (["text,stars", "a,1"], {}, UsageError, "has no column 'label'; name one of text, stars with --label-column"),
        (["id,text,label", "1,a,1"], {}, UsageError, "which column holds the texts"),
        (["id,text,label", "1,a,1"], {"column": "review"}, UsageError, "has no column 'review'"),
        (["id,text,label", "1,a,1"], {"column": "label"}, UsageError, "both name 'label'"),
        (["text,text,label", "1,a,1"], {"column": "text"}, UsageError, "names column 'text' 2 times"),
        ([""], {}, UserError, "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, rows: list[str], options: dict[str, str], kind: type[UserError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        loaded(written(tmp_path / "a.csv", *rows), **options)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        own_data(Config(text=str(tmp_path / "none.csv")))
    with pytest.raises(ValueError, match="type both"):
        Config(column="text")


def test_few_texts_are_drawn_with_equal_classes() -> None:
    text = LabelledText(tuple(map(str, range(100))), tuple(int(n >= 80) for n in range(100)))
    chosen = choose(text, 20, seed=0)
    assert sum(chosen.labels) == 10
    assert chosen == choose(text, 20, seed=0) != choose(text, 20, seed=1)
    assert sum(choose(text, 60, seed=0).labels) == 20
    assert choose(text, None, seed=0) is text
    with pytest.raises(UsageError, match="more than the 100 training texts"):
        choose(text, 101, seed=0)


def test_what_is_held_out_is_not_trained_on() -> None:
    text = LabelledText(tuple(map(str, range(100))), (0,) * 100)
    train, validation = hold_out(text, 0.1, seed=3)
    assert (len(train.texts), len(validation.texts)) == (90, 10)
    assert set(train.texts) | set(validation.texts) == set(text.texts)
