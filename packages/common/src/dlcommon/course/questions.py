"""Questions within a lesson: predict first, then let the lesson compute the answer.

`quiz` stands before the cell that computes, `settle` after it. At a terminal and in a notebook the learner is asked;
Enter passes a question over. Elsewhere the question and its answer are only shown.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dlcommon.course.cells import Language
from dlcommon.course.recorder import recorded

Asking = Literal["where possible", "always", "never"]


@dataclass
class Question:
    name: str
    text: str
    choices: dict[str, str]
    """Key to what is shown; empty: the answer is a number."""
    guess: float | str | None = None
    """A number or a choice's key; None: passed over."""
    right: bool | None = None
    """None until settled, and where it was passed over."""
    settled: bool = False


asking: Asking = "where possible"
"""Whether questions wait for an answer; `lesson quiz` reads answers from any standard input."""
language: Language = "both"
"""Whose text is shown."""
questions: dict[str, Question] = {}
"""Questions of the running lesson by name."""


def quiz(name: str, en: str, zh: str, choices: Mapping[str, str] | None = None) -> None:
    """Asks for a prediction of what the next cells compute.

    Args:
        name: the name that `settle` refers to.
        en: the question in English, with the unit if the answer is a number.
        zh: the same in Chinese.
        choices: two to four keys, each with its text (`higher · 更高`); without them, a number is asked for.
    """
    text = {"en": en, "zh": zh, "both": f"{en}\n    {zh}"}[language]
    shown = {key: _in_language(choice) for key, choice in (choices or {}).items()}
    question = questions[name] = Question(name, text, shown)
    if recorded("question", name=name, en=en, zh=zh, choices=dict(choices or {})):
        return
    letters = dict(zip("abcd", question.choices, strict=False))
    print(f"  ? {question.text}")
    for letter, key in letters.items():
        print(f"      {letter}) {question.choices[key]}")
    if not _can_ask():
        return
    wanted = " / ".join(letters) if letters else _in_language("a number · 一个数")
    while True:
        try:
            typed = input(f"    {wanted} (Enter: {_in_language('pass · 跳过')}): ").strip()
        except (EOFError, OSError, RuntimeError):  # no standard input, or a kernel whose front end has none
            print()
            return
        if not typed:
            return
        guess = letters.get(typed.lower().rstrip(").")) if letters else _number(typed)
        if guess is not None:
            question.guess = guess
            return
        print(f"    type {wanted}")


def settle(name: str, answer: float | str, tolerance: float = 0.1) -> None:
    """Reveals the question's answer, as the lesson has computed it, and judges the prediction.

    Args:
        name: the question's name, as given to `quiz`.
        answer: the number, or the key of the right choice.
        tolerance: how far a predicted number may lie off, as a fraction of the answer.

    Raises:
        KeyError: no such question was asked.
        ValueError: the answer is none of the question's choices.
    """
    question = questions[name]
    if question.choices and answer not in question.choices:
        raise ValueError(f"question {name}: {answer!r} is none of {list(question.choices)}")
    shown = question.choices[str(answer)] if question.choices else f"{float(answer):.4g}"
    question.settled, verdict = True, ""
    if recorded("answer", name=name, answer=answer if question.choices else shown):
        return
    if question.guess is not None:
        if question.choices:
            question.right, guessed = question.guess == answer, question.choices[str(question.guess)]
        else:
            distance = abs(float(question.guess) - float(answer))
            question.right, guessed = distance <= tolerance * abs(float(answer)), f"{question.guess:g}"
        said, judged = _in_language("you said · 你的预测"), "right · 正确" if question.right else "not so · 不对"
        verdict = f"; {said} {guessed}: {_in_language(judged)}"
    print(f"  = {name}: {shown}{verdict}")


def _in_language(choice: str) -> str:
    """Selects the shown language's part of a text such as `higher · 更高`; returns a text without parts whole."""
    parts = choice.split(" · ")
    return choice if language == "both" or len(parts) != 2 else parts[language == "zh"]


def _can_ask() -> bool:
    if asking == "where possible":
        return "ipykernel" in sys.modules or (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty())
    return asking == "always"


def _number(typed: str) -> float | None:
    try:
        return float(typed.rstrip("%")) / (100 if typed.endswith("%") else 1)
    except ValueError:
        return None
