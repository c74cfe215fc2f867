"""Generates sentences with made-up names of people, places and companies, for machines without real ones.

Names are made of syllables, so that they never run out: half of the names in the test sentences are new. The words
around them tell the type, and so does, now and then, a part of the name (`Zoltown`, `Bemir Inc`).
"""

import random
from pathlib import Path

from dlcommon.nlp.bio_tags import Span, tags_of
from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.token_classification import TaggedText, TokenClassification
from dlcommon.runtime.localization import LocalizedText

LABELS = ("corporation", "location", "person")
SYLLABLES = "ba be bi da do fa go ka ki la lo ma mi na no pa ra ri sa so ta ti va vo za zo".split()
ENDINGS = {
    "corporation": ("{} Inc", "{} Motors", "{}soft", "{}"),
    "location": ("{}town", "{}ville", "Port {}", "{}"),
    "person": ("{} {}son", "{} {}", "{}", "{} van {}"),
}
PATTERNS = tuple(
    pattern.split()
    for pattern in (
        "{person} is moving to {location} next week",
        "just met {person} in {location} , so nice",
        "why did {corporation} fire {person} ?",
        "shares of {corporation} fall again",
        "{corporation} opens a new office in {location}",
        "i love {person} and {person} so much",
        "it is raining in {location} today",
        "Who is {person} ? Asking for a friend",
        "working at {corporation} since Monday",
        "Greetings from {location} and {location} !",
        "My phone by {corporation} is broken again",
        "The road to {location} is closed",
        "nothing to see here , good night",
        "Happy Birthday to my best friend",
    )
)


def new_name(label: str, generator: random.Random) -> str:
    """Makes up a name of one to three words."""
    ending = generator.choice(ENDINGS[label])
    parts = ("".join(generator.sample(SYLLABLES, generator.choice((2, 2, 3)))).title() for _ in range(2))
    return ending.format(*parts)


def generate(train: int, validation: int, test: int, seed: int = 0) -> TokenClassification:
    """Generates tagged sentences.

    Args:
        train: number of sentences to train with; their names come from a list of 60 a type.
        validation: number of sentences to choose by.
        test: number of sentences to test with. In these and the validation's half of the names are new.
        seed: of the random choices.
    """
    generator = random.Random(seed)
    known = {label: [new_name(label, generator) for _ in range(60)] for label in LABELS}

    def tagged(count: int, new: float) -> TaggedText:
        sentences, tags = [], []
        for _ in range(count):
            tokens: list[str] = []
            spans: list[Span] = []
            for word in generator.choice(PATTERNS):
                label = word.strip("{}")
                if label not in LABELS:
                    tokens.append(word)
                    continue
                fresh = generator.random() < new
                name = new_name(label, generator) if fresh else generator.choice(known[label])
                words = name.lower().split() if generator.random() < 0.2 else name.split()
                spans.append(Span(len(tokens), len(tokens) + len(words), label))
                tokens += words
            sentences.append(tuple(tokens))
            tags.append(tuple(tags_of(spans, len(tokens))))
        return TaggedText(tuple(sentences), tuple(tags))

    return TokenClassification(tagged(train, 0.0), tagged(validation, 0.5), tagged(test, 0.5), LABELS)


def load(folder: Path) -> TokenClassification:
    """Generates the set's sentences; nothing is read."""
    return generate(train=1200, validation=300, test=500)


DATA_SET = DataSet(
    name="generated-names",
    title=LocalizedText("Generated names", "生成的命名实体短句"),
    description="2,000 short sentences with made-up names of people, places and companies, generated from patterns",
    licence="Apache-2.0",
    home="",
    load=load,
    builtin=True,
)
