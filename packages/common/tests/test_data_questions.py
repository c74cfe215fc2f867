"""Question answering sets: what is damaged is named by its question, and languages must be parallel."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.data import DATA_SETS, find, generated_questions, xquad
from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.question_answering import QuestionAnswering, read_parallel_squad, read_squad
from dlcommon.runtime.files import sha256
from dlcommon.testing.skips import data_set_or_skip


def squad() -> dict[str, Any]:
    """Two passages with a question each, as SQuAD 1.1 writes them."""
    passages = [
        {
            "context": "The Rhine is 1,233 km long.",
            "qas": [{"id": "a", "question": "How long?", "answers": [{"text": "1,233 km", "answer_start": 13}]}],
        },
        {
            "context": "Köln lies on the Rhine.",
            "qas": [{"id": "b", "question": "Where?", "answers": [{"text": "Rhine", "answer_start": 17}]}],
        },
    ]
    return {"version": "1.1", "data": [{"title": "Rhine", "paragraphs": passages}]}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    (article,) = read_squad(write(tmp_path / "x.json", squad()))
    assert article.title == "Rhine"
    assert [passage.text for passage in article.passages] == ["The Rhine is 1,233 km long.", "Köln lies on the Rhine."]
    found = article.passages[1].questions[0].answers[0]
    assert article.passages[1].text[found.start : found.end] == found.text == "Rhine"


def question(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the first passage's question."""
    found: dict[str, Any] = passage(content, 0)["qas"][0]
    return found


def answer(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = question(content)["answers"][0]
    return found


def passage(content: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = content["data"][0]["paragraphs"][number]
    return found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c.pop("data"), "not a SQuAD file: data: Field required"),
        (lambda c: c.update(data=[]), "not a SQuAD file: data: List should have at least 1 item"),
        (lambda c: passage(c, 1).pop("context"), "data.0.paragraphs.1.context: Field required"),
        (lambda c: passage(c, 1).update(context=""), "data.0.paragraphs.1.context: String should have at least 1"),
        (lambda c: question(c).update(question=None), "paragraphs.0.qas.0.question: Input should be a valid"),
        (lambda c: question(c).update(answers=[]), "paragraphs.0.qas.0.answers: List should have at least"),
        (lambda c: answer(c).update(answer_start="13"), "answer_start: Input should be a valid"),
        (lambda c: answer(c).update(answer_start=-1), "answer_start: Input should be greater"),
        (lambda c: answer(c).update(answer_start=14),
         "question a: the answer '1,233 km' is not at character 14"),
        (lambda c: answer(c).update(answer_start=10**9), "question a: the answer '1,233 km'"),
        (lambda c: passage(c, 1)["qas"][0].update(id="a"), "two questions have the id a"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], None], problem: str) -> None:
    content = squad()
    change(content)
    with pytest.raises(DamagedDataError) as caught:
        read_squad(write(tmp_path / "x.json", content))
    assert str(caught.value).startswith(str(tmp_path / "x.json"))
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (json.dumps(squad()).encode()[:100], "not a SQuAD file: Invalid JSON"),
        (b"<html>404</html>", "not a SQuAD file: Invalid JSON"),
        (json.dumps(squad(), ensure_ascii=False).encode("latin-1"), "not UTF-8"),
        (b"[]", "not a SQuAD file: Input should be an object"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedDataError) as caught:
        read_squad(tmp_path / "x.json")
    assert problem in str(caught.value)


def test_languages_must_have_the_same_questions(tmp_path: Path) -> None:
    paths = {language: write(tmp_path / f"{language}.json", squad()) for language in ("en", "de")}
    assert list(read_parallel_squad(paths).articles) == ["en", "de"]
    other = squad()
    passage(other, 1)["qas"][0]["id"] = "c"
    write(paths["de"], other)
    with pytest.raises(DamagedDataError, match=r"de\.json: a passage of Rhine has other questions than .* in en\.json"):
        read_parallel_squad(paths)
    other["data"][0]["paragraphs"] = other["data"][0]["paragraphs"][:1]
    write(paths["de"], other)
    with pytest.raises(DamagedDataError, match=r"de\.json: has 1 passages, but en\.json has 2"):
        read_parallel_squad(paths)


def test_contents_follow_every_part(tmp_path: Path) -> None:
    def contents(change: Callable[[dict[str, Any]], object] = lambda content: None, language: str = "en") -> bytes:
        content = squad()
        change(content)
        articles = read_squad(write(tmp_path / "x.json", content))
        return b"".join(QuestionAnswering({language: articles}).contents())

    assert contents() == contents()
    others = [
        contents(language="de"),
        contents(lambda c: c["data"][0].update(title="River")),
        contents(lambda c: passage(c, 0).update(context="The Rhine is 1,233 km long!")),
        contents(lambda c: question(c).update(question="How far?")),
    ]
    assert len({contents(), *others}) == 5


def test_generated_questions_are_answered_by_their_passages(cache: Path) -> None:
    located = find("generated-questions")
    assert located is not None
    articles = located.load().articles
    assert set(articles) == {"en", "zh"}
    ids = {}
    for language, found in articles.items():
        passages = [each for article in found for each in article.passages]
        questions = [asked for each in passages for asked in each.questions]
        assert (len(found), len(passages), len(questions)) == (24, 72, 288)
        for each in passages:
            for asked in each.questions:
                (expected,) = asked.answers
                assert each.text[expected.start : expected.end] == expected.text
        ids[language] = [asked.id for asked in questions]
        assert len(set(ids[language])) == 288
    assert ids["en"] == ids["zh"]
    assert generated_questions.generate(2, seed=1) != generated_questions.generate(2)
    assert "288" in DATA_SETS["generated-questions"].description


@pytest.mark.real_data
def test_real_xquad() -> None:
    articles = data_set_or_skip("xquad").load().articles
    assert list(articles) == list(xquad.FILES)
    for found in articles.values():
        passages = [each for article in found for each in article.passages]
        assert (len(found), len(passages), sum(len(each.questions) for each in passages)) == (48, 240, 1190)
    assert articles["zh"][0].passages[0].questions[0].answers[0].text == "308"


@pytest.mark.real_data
def test_checksums_are_those_of_the_real_files() -> None:
    located = data_set_or_skip("xquad")
    assert {path.name: sha256(path) for path in located.files()} == {
        xquad.FILES[language]: checksum for language, checksum in xquad.CHECKSUMS.items()
    }
