"""Takes the questions of XQuAD as parallel text.

They were translated by people. A reading test, not a translation set: 1,190 questions are too few to learn to translate
from, but they are aligned Chinese, English and German sentences.
"""

import dataclasses
from pathlib import Path

from dlcommon.runtime.data import xquad
from dlcommon.runtime.data.parallel_text import Lines, ParallelText
from dlcommon.runtime.localization import LocalizedText

ONE_IN = 8
"""Of so many articles one is in the test split, and one in the validation split."""


def load(folder: Path) -> ParallelText:
    """Reads the questions; all of an article are in the same split.

    Raises:
        DamagedDataError: a file is damaged, or two do not hold the same questions.
    """
    articles = xquad.load(folder).articles  # the same in all languages, in the same order

    def split(*remainders: int) -> Lines:
        return {
            language: tuple(
                " ".join(question.text.split())
                for number, article in enumerate(of_language)
                if number % ONE_IN in remainders
                for passage in article.passages
                for question in passage.questions
            )
            for language, of_language in articles.items()
        }

    return ParallelText(split(*range(2, ONE_IN)), split(1), split(0))


DATA_SET = dataclasses.replace(
    xquad.DATA_SET,
    name="xquad-questions",
    title=LocalizedText("XQuAD's questions", "XQuAD 的问题"),
    description="1,190 questions in English, German and Chinese: too few to learn from, aligned to try Chinese with",
    load=load,
)
