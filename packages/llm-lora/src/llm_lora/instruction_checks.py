"""How well a model does as it is told: 60 prompts with constraints that a program checks, as in IFEval.

The prompts are fixed: simple subjects that a small model can write about, and to each one or two constraints drawn by
a fixed seed. Strict and loose accuracy are those of the paper (https://arxiv.org/abs/2311.07911, section 2.2).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dlcommon.runtime.evaluation.classification import accuracy_interval

from llm_lora import constraints as c
from llm_lora.constraints import Constraint, follows, follows_loosely

COUNT, SEED = 60, 2023

SUBJECTS: tuple[tuple[str, str, str], ...] = (
    ("Describe a rainy day.", "umbrella", "wet"),
    ("Explain what a magnet does.", "iron", "force"),
    ("Why do leaves fall in autumn?", "tree", "cold"),
    ("Give advice to someone who cannot sleep.", "night", "coffee"),
    ("Write about a cat that likes boxes.", "cardboard", "meow"),
    ("How do you make tea?", "water", "cup"),
    ("Tell me why exercise is good.", "heart", "healthy"),
    ("Describe the moon.", "light", "round"),
    ("Invite a friend to a birthday party.", "cake", "party"),
    ("Explain why we have seasons.", "sun", "earth"),
    ("Write about a day at the beach.", "sand", "sun"),
    ("What is a library good for?", "book", "read"),
    ("Thank a teacher for a lesson.", "learn", "school"),
    ("Describe your favorite breakfast.", "bread", "eggs"),
    ("Explain how a bicycle works.", "wheel", "pedal"),
    ("Write about a dog that found a ball.", "garden", "happy"),
    ("Why is the sky blue?", "light", "ocean"),
    ("Recommend a way to save money.", "plan", "bank"),
    ("Describe a city at night.", "street", "dark"),
    ("Tell me about the first snow of the year.", "white", "winter"),
)
"""What to write about, a word that suits it, and one that comes to mind but can be avoided."""

_EXCLUDING = {
    frozenset(pair)
    for pair in (
        ("case", "beginning"), ("case", "ending"), ("case", "form"), ("case", "wrapping"), ("form", "length"),
        ("form", "title"), ("form", "wrapping"), ("form", "ending"), ("form", "highlights"), ("form", "beginning"),
        ("wrapping", "beginning"), ("wrapping", "ending"), ("length", "letter"),
    )
}  # fmt: skip
"""Kinds that are not asked for together, since one answer can hardly meet both, or one counts the other's signs."""


@dataclass(frozen=True)
class CheckedPrompt:
    """Holds a question and the constraints on its answer."""

    text: str
    """The question, and the sentences that ask for the constraints."""
    constraints: tuple[Constraint, ...]


def make_prompts(count: int = COUNT, seed: int = SEED) -> tuple[CheckedPrompt, ...]:
    """Makes the prompts, the same every time: every subject equally often, two of three with a single constraint."""
    draw = random.Random(seed)
    prompts: dict[str, CheckedPrompt] = {}
    sorts: list[int] = []
    while len(prompts) < count:
        number = len(prompts)
        question, suitable, avoided = SUBJECTS[number % len(SUBJECTS)]
        possible = _possible(draw, suitable, avoided)
        if not sorts:  # every sort of constraint comes equally often
            sorts = draw.sample(range(len(possible)), len(possible))
        chosen = [possible[sorts.pop()]]
        if number % 3 == 2:
            chosen.append(draw.choice([one for one in possible if _compatible(one, chosen[0])]))
        text = " ".join((question, *(one.instruction for one in chosen)))
        prompts.setdefault(text, CheckedPrompt(text, tuple(chosen)))
    return tuple(prompts.values())


def _possible(draw: random.Random, suitable: str, avoided: str) -> list[Constraint]:
    """Returns one constraint of each sort, with numbers and words drawn for this prompt."""
    return [
        c.fewer_words(draw.choice((15, 20, 30))), c.more_words(draw.choice((30, 40, 60))),
        c.sentences(draw.choice((1, 2, 3))), c.bullets(draw.choice((2, 3, 4))), c.paragraphs(2),
        c.json_object(draw.choice(("answer", "text"))), c.includes(suitable), c.avoids(avoided),
        c.repeats(suitable, draw.choice((2, 3))), c.letter(draw.choice("wkg"), draw.choice((3, 5))),
        c.lower_case(), c.upper_case(), c.no_comma(),
        c.begins_with(draw.choice(("My answer:", "Well", "Dear reader"))),
        c.ends_with(draw.choice(("That is all.", "The end."))), c.question_mark(), c.quoted(), c.title(),
        c.postscript(), c.highlights(draw.choice((2, 3))), c.placeholders(draw.choice((2, 3))), c.digits(),
        c.english_letters(),
    ]  # fmt: skip


def _compatible(one: Constraint, other: Constraint) -> bool:
    return one.kind != other.kind and frozenset((one.kind, other.kind)) not in _EXCLUDING


PROMPTS = make_prompts()


@dataclass(frozen=True)
class InstructionScores:
    """Holds accuracies and their 95 % intervals (Wilson), by the names `prompt_strict`, `prompt_loose`,
    `instruction_strict` and `instruction_loose`."""

    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    followed: tuple[bool, ...]
    """Whether each prompt's constraints are all met, strictly."""


def score_instructions(answers: Sequence[str], prompts: Sequence[CheckedPrompt] = PROMPTS) -> InstructionScores:
    """Computes the share of prompts all of whose constraints are met, and the share of constraints that are met.

    Args:
        answers: to the prompts, in their order.
        prompts: that were asked.

    Raises:
        ValueError: there is not one answer to each prompt.
    """
    if len(answers) != len(prompts) or not prompts:
        raise ValueError(f"{len(answers)} answers to {len(prompts)} prompts; there must be one to each")
    metrics, intervals = {}, {}
    for name, check in (("strict", follows), ("loose", follows_loosely)):
        met = [
            [check(one, answer) for one in prompt.constraints] for prompt, answer in zip(prompts, answers, strict=True)
        ]
        for level, found in (
            ("prompt", [all(row) for row in met]),
            ("instruction", [one for row in met for one in row]),
        ):
            metrics[f"{level}_{name}"] = sum(found) / len(found)
            intervals[f"{level}_{name}"] = accuracy_interval(sum(found), len(found))
    followed = tuple(
        all(follows(one, answer) for one in prompt.constraints) for prompt, answer in zip(prompts, answers, strict=True)
    )
    return InstructionScores(metrics, intervals, followed)
