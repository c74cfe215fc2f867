"""Scores predicted answers as the official scripts do: exact match and F1 of tokens.

SQuAD's script for English (Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250, section 6.1), MLQA's for German and
Chinese (Lewis et al. 2020, https://arxiv.org/abs/1910.07475), where each Chinese character is a token.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

Language = Literal["en", "de", "zh"]

_ARTICLES = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    "zh": None,
}
CHINESE_CHARACTER = re.compile("([\u4e00-\u9fa5])")


def answer_tokens(text: str, language: Language = "en") -> list[str]:
    """Normalizes an answer and splits it: lower case, without punctuation and articles.

    English loses ASCII punctuation only, as in SQuAD's script; the other languages lose all that Unicode calls
    punctuation, as in MLQA's.
    """
    text = text.lower()
    text = "".join(character for character in text if not _is_punctuation(character, language))
    if (articles := _ARTICLES[language]) is not None:
        text = articles.sub(" ", text)
    if language == "zh":
        text = CHINESE_CHARACTER.sub(r" \1 ", text)  # each Chinese character on its own, other words whole
    return text.split()


def _is_punctuation(character: str, language: Language) -> bool:
    if character in string.punctuation:
        return True
    return language != "en" and unicodedata.category(character).startswith("P")


def exact_match(prediction: str, answer: str, language: Language = "en") -> float:
    """Returns 1 if the two have the same tokens in the same order, else 0."""
    return float(answer_tokens(prediction, language) == answer_tokens(answer, language))


def token_f1(prediction: str, answer: str, language: Language = "en") -> float:
    """Computes the harmonic mean of precision and recall of tokens, whatever their order.

    Where one of the two has no tokens, such as 'no answer', it is 1 if the other has none either, else 0.
    """
    predicted, expected = answer_tokens(prediction, language), answer_tokens(answer, language)
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()  # a token counts as often as both have it
    return 2 * shared / (len(predicted) + len(expected))


def score_answer(prediction: str, answers: Sequence[str], language: Language = "en") -> tuple[float, float]:
    """Returns exact match and F1 with the answer that suits the prediction best, each for itself.

    Raises:
        ValueError: there is no answer to compare with; for 'no answer' give an empty one.
    """
    if not answers:
        raise ValueError("a prediction is compared with at least one answer; for 'no answer' give an empty one")
    return (
        max(exact_match(prediction, answer, language) for answer in answers),
        max(token_f1(prediction, answer, language) for answer in answers),
    )
