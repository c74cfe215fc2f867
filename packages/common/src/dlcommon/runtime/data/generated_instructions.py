"""Generates instructions on words and numbers with their answers, for machines without real ones.

Each answer follows from its instruction, so that a program can tell a right one; the rejected answer is a wrong one.
"""

import random
from collections.abc import Callable
from pathlib import Path

from dlcommon.llm.chat_template import Message
from dlcommon.runtime.data.conversations import Conversation, Conversations, Preference
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.localization import LocalizedText

WORDS = tuple(
    "apple bridge candle desert engine flower garden hammer island jacket kettle ladder mirror needle orange pencil "
    "quilt river silver tunnel umbrella valley window yellow zebra anchor basket castle dragon eagle forest "
    "guitar".split()
)
UNITS = (("kilometers", "meters", 1000), ("hours", "minutes", 60), ("kilograms", "grams", 1000), ("weeks", "days", 7))
Pattern = Callable[[random.Random], tuple[str, str, str]]
"""Draws an instruction, its answer and a wrong answer."""


def _uppercase(draw: random.Random) -> tuple[str, str, str]:
    word = draw.choice(WORDS)
    return f"Write the word {word} in capital letters.", word.upper(), word.capitalize()


def _reverse(draw: random.Random) -> tuple[str, str, str]:
    word = draw.choice(WORDS)
    return f"Spell the word {word} backwards.", word[::-1], word


def _first_letter(draw: random.Random) -> tuple[str, str, str]:
    word = draw.choice(WORDS)
    wrong = draw.choice([letter for letter in word if letter != word[0]])
    return f"What is the first letter of {word}?", f"The first letter is {word[0]}.", f"The first letter is {wrong}."


def _add(draw: random.Random) -> tuple[str, str, str]:
    a, b = draw.randrange(1, 50), draw.randrange(1, 50)
    return f"Add {a} and {b}.", f"{a} + {b} = {a + b}.", f"{a} + {b} = {a + b + draw.choice((-2, -1, 1, 2))}."


def _convert(draw: random.Random) -> tuple[str, str, str]:
    (large, small, factor), count = draw.choice(UNITS), draw.randrange(2, 30)
    question = f"Convert {count} {large} to {small}."
    return question, f"{count} {large} are {count * factor} {small}.", f"{count} {large} are {count} {small}."


def _sort(draw: random.Random) -> tuple[str, str, str]:
    words = draw.sample(WORDS, 3)
    ordered = sorted(words)
    question = f"Sort these words alphabetically: {', '.join(words)}."
    return question, ", ".join(ordered), ", ".join(reversed(ordered))


PATTERNS: tuple[Pattern, ...] = (_uppercase, _reverse, _first_letter, _add, _convert, _sort)


def generate(train: int, test: int, seed: int = 0) -> Conversations:
    """Generates different instructions in random order.

    Args:
        train: number of instructions to train with.
        test: number of instructions to test with; none of them is among those to train with.
        seed: of the random choices.
    """
    draw, found = random.Random(seed), dict[str, Conversation]()
    while len(found) < train + test:
        question, answer, wrong = draw.choice(PATTERNS)(draw)
        messages = (Message("user", question), Message("assistant", answer))
        found.setdefault(question, Conversation(messages, Preference(answer, wrong)))
    rows = tuple(found.values())
    return Conversations(rows[:train], rows[train:])


def load(folder: Path) -> Conversations:
    """Generates the set's instructions; nothing is read."""
    return generate(train=900, test=100)


DATA_SET = DataSet(
    name="generated-instructions",
    title=LocalizedText("Generated instructions", "生成的指令"),
    description="1,000 short instructions on words and numbers with right and wrong answers, generated from patterns",
    licence="Apache-2.0",
    home="",
    load=load,
    builtin=True,
)
