"""A fixed judge that runs offline: which of two answers to the same instruction is closer to the reference.

What it does, all of it: an answer's score is its ROUGE-L with the reference (`dlcommon.nlp.rouge`). An empty answer has
score 0, and so has one that rambles: more than `RAMBLING` times the reference's words, and more than `SHORT` words. The
higher score wins; scores that differ by less than `TIE` are a tie, which counts half. It rewards saying what the
reference says, so it suits instructions with one right answer and is no judge of style or of open questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from dlcommon.mathematics.intervals import bootstrap_interval
from dlcommon.nlp.rouge import rouge_l, rouge_tokens

Verdict = Literal["first", "second", "tie"]
RAMBLING, SHORT = 4, 30
TIE = 0.05


def score_answer(answer: str, reference: str) -> float:
    """Computes an answer's score, from 0 to 1."""
    length = len(rouge_tokens(answer))
    if length > SHORT and length > RAMBLING * len(rouge_tokens(reference)):
        return 0.0
    return rouge_l(answer, reference)


def compare(first: str, second: str, reference: str) -> Verdict:
    """Returns which answer is better."""
    difference = score_answer(first, reference) - score_answer(second, reference)
    if abs(difference) < TIE:
        return "tie"
    return "first" if difference > 0 else "second"


@dataclass(frozen=True)
class WinRate:
    """Holds the result of comparing a model's answers with another's."""

    wins: int
    ties: int
    losses: int
    rate: float
    """(wins + ties / 2) / comparisons: 0.5 where neither is better."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the rate, over instructions."""


def win_rate(answers: Sequence[str], others: Sequence[str], references: Sequence[str], seed: int = 0) -> WinRate:
    """Compares a model's answers to the same instructions with another model's.

    Args:
        answers: of the model whose rate is computed.
        others: of the model that it is compared with.
        references: right answers.
        seed: of the bootstrap.

    Raises:
        ValueError: there are no instructions, or not one answer of each model to each.
    """
    if not references or not len(answers) == len(others) == len(references):
        raise ValueError(f"{len(answers)} and {len(others)} answers to {len(references)} instructions")
    verdicts = [compare(*three) for three in zip(answers, others, references, strict=True)]
    points = np.array([{"first": 1.0, "tie": 0.5, "second": 0.0}[verdict] for verdict in verdicts])
    interval = bootstrap_interval(points, lambda drawn: drawn.mean(axis=1), np.random.default_rng(seed))
    wins, ties = verdicts.count("first"), verdicts.count("tie")
    return WinRate(wins, ties, len(verdicts) - wins - ties, float(points.mean()), interval)


def mean_rouge(answers: Sequence[str], references: Sequence[str], seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Computes the mean ROUGE-L of answers, and its 95 % bootstrap interval over instructions."""
    scores = np.array([rouge_l(*pair) for pair in zip(answers, references, strict=True)])
    interval = bootstrap_interval(scores, lambda drawn: drawn.mean(axis=1), np.random.default_rng(seed))
    return float(scores.mean()), interval
