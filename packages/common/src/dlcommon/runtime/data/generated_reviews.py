"""Generates short film reviews, positive or negative, for machines without real ones.

Each sentence fills a pattern with words of one sentiment, so that a model which has read many of them, unlabelled, can
find out which words belong together.
"""

import random
from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.text_classification import LabelledText, TextClassification
from dlcommon.runtime.localization import LocalizedText

CLASSES = ("negative", "positive")
ADJECTIVES = (
    tuple(
        "awful boring bland clumsy dreadful dull empty flat forgettable hollow lazy lifeless messy painful pointless "
        "poor predictable shallow silly sloppy stale terrible tired tedious weak".split()
    ),
    tuple(
        "amazing beautiful brilliant captivating charming clever delightful elegant excellent fine fresh funny "
        "gripping inspired lovely magnificent moving original perfect powerful smart stunning touching warm "
        "wonderful".split()
    ),
)
VERBS = (tuple("bores fails drags annoys disappoints".split()), tuple("shines works delights charms soars".split()))
SUBJECTS = tuple("film movie story plot cast script dialogue acting music ending direction camera".split())
PATTERNS = (
    "the {noun} is {adjective} and {other}",
    "a {adjective} {noun} that {verb}",
    "{adjective} {noun} , {other} {second}",
    "this {adjective} , {other} {noun} {verb}",
    "the {noun} {verb} and the {second} is {adjective}",
)


def generate(train: int, test: int, seed: int = 0) -> TextClassification:
    """Generates different sentences, half of them positive, in random order.

    Args:
        train: number of sentences to train with.
        test: number of sentences to test with; none of them is among those to train with.
        seed: of the random choices.
    """
    generator, sentences = random.Random(seed), dict[str, int]()
    while len(sentences) < train + test:
        label = len(sentences) % 2
        adjective, other = generator.sample(ADJECTIVES[label], 2)
        noun, second = generator.sample(SUBJECTS, 2)
        verb = generator.choice(VERBS[label])
        pattern = generator.choice(PATTERNS)
        text = pattern.format(adjective=adjective, other=other, noun=noun, second=second, verb=verb)
        sentences.setdefault(text, label)
    rows = list(sentences.items())
    generator.shuffle(rows)
    texts, labels = zip(*rows, strict=True)
    return TextClassification(
        LabelledText(texts[:train], labels[:train]), LabelledText(texts[train:], labels[train:]), CLASSES
    )


def load(folder: Path) -> TextClassification:
    """Generates the set's sentences; nothing is read."""
    return generate(train=4000, test=500)


DATA_SET = DataSet(
    name="generated-reviews",
    title=LocalizedText("Generated film reviews", "生成的影评短句"),
    description="4,500 short sentences of film reviews, positive or negative, generated from patterns",
    licence="Apache-2.0",
    home="",
    load=load,
    builtin=True,
)
