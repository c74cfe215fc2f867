"""Defines the type that question answering sets are loaded as: passages with questions, whose answers are spans."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from dlcommon.runtime.data.dataset import DamagedDataError
from dlcommon.runtime.data.text_corpus import read_text


@dataclass(frozen=True)
class Answer:
    text: str
    start: int
    """Its first character in the passage."""

    @property
    def end(self) -> int:
        """Returns the character after its last."""
        return self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    id: str
    """The same in all languages."""
    text: str
    answers: tuple[Answer, ...]
    """At least one."""


@dataclass(frozen=True)
class Passage:
    text: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Article:
    title: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class QuestionAnswering:
    """Holds articles with their questions in memory, the same in each language and in the same order."""

    articles: Mapping[str, tuple[Article, ...]]
    """By language code (ISO 639-1)."""

    def contents(self) -> Iterator[bytes]:
        for language in sorted(self.articles):
            yield language.encode()
            for article in self.articles[language]:
                yield repr(article).encode()


class _Answer(BaseModel):
    text: Annotated[str, StringConstraints(min_length=1)]
    answer_start: Annotated[int, Field(ge=0, strict=True)]


class _Question(BaseModel):
    id: Annotated[str, StringConstraints(min_length=1)]
    question: Annotated[str, StringConstraints(min_length=1)]
    answers: Annotated[list[_Answer], Field(min_length=1)]


class _Paragraph(BaseModel):
    context: Annotated[str, StringConstraints(min_length=1)]
    qas: list[_Question]


class _Article(BaseModel):
    title: str
    paragraphs: list[_Paragraph]


class _File(BaseModel):
    data: Annotated[list[_Article], Field(min_length=1)]


def read_squad(path: Path) -> tuple[Article, ...]:
    """Reads a file in the format of SQuAD 1.1.

    Raises:
        DamagedDataError: it is not such a file, a question's id occurs twice, or an answer is not where it is said to
            be.
    """
    text = read_text(path)
    try:
        content = _File.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DamagedDataError(path, f"not a SQuAD file: {where + ': ' if where else ''}{first['msg']}") from error
    seen: set[str] = set()
    articles = []
    for article in content.data:
        passages = []
        for paragraph in article.paragraphs:
            for question in paragraph.qas:
                if question.id in seen:
                    raise DamagedDataError(path, f"two questions have the id {question.id}")
                seen.add(question.id)
            questions = tuple(_question(path, each, paragraph.context) for each in paragraph.qas)
            passages.append(Passage(paragraph.context, questions))
        articles.append(Article(article.title, tuple(passages)))
    return tuple(articles)


def _question(path: Path, question: _Question, context: str) -> Question:
    for answer in question.answers:
        if not context.startswith(answer.text, answer.answer_start):
            raise DamagedDataError(
                path,
                f"question {question.id}: the answer {answer.text!r} is not at character {answer.answer_start} of its "
                f"passage",
            )
    answers = tuple(Answer(answer.text, answer.answer_start) for answer in question.answers)
    return Question(question.id, question.question, answers)


def read_parallel_squad(paths: Mapping[str, Path]) -> QuestionAnswering:
    """Reads files that translate each other, passage by passage and question by question.

    Args:
        paths: file by language code.

    Raises:
        DamagedDataError: a file is damaged, or has other questions than the first one.
    """
    articles = {language: read_squad(path) for language, path in paths.items()}
    first = next(iter(paths))
    expected = _outline(articles[first])
    for language, path in paths.items():
        for (own_title, own_ids), (title, ids) in zip(_outline(articles[language]), expected, strict=False):
            if own_ids != ids:
                raise DamagedDataError(
                    path, f"a passage of {own_title} has other questions than that of {title} in {paths[first].name}"
                )
        if len(_outline(articles[language])) != len(expected):
            raise DamagedDataError(
                path, f"has {len(_outline(articles[language]))} passages, but {paths[first].name} has {len(expected)}"
            )
    return QuestionAnswering(articles)


def _outline(articles: tuple[Article, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """Lists each passage's article and the ids of its questions."""
    return [
        (article.title, tuple(question.id for question in passage.questions))
        for article in articles
        for passage in article.passages
    ]
