"""Sample data from a small grammar: what people and animals do, where and when, in English, German and French.

German agrees in gender and case and puts the verb second, French puts colours behind the noun, so that there is order
and agreement to learn; but there are few words, and a model that knows them all knows nothing of the real task.
"""

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dlcommon.runtime.data import DataSet
from dlcommon.runtime.data.parallel_text import Lines, ParallelText
from dlcommon.runtime.localization import LocalizedText

LANGUAGES = ("en", "de", "fr")
TRAIN, HELD_OUT = 4000, 200
"""Sentences of the training split, and of the validation and the test split each."""


@dataclass(frozen=True)
class Noun:
    en: tuple[str, str]
    """Singular and plural."""
    de: tuple[str, str]
    fr: tuple[str, str]
    german_gender: str
    """m, f or n."""
    french_gender: str
    """m or f."""


NOUNS = (
    Noun(("dog", "dogs"), ("Hund", "Hunde"), ("chien", "chiens"), "m", "m"),
    Noun(("cat", "cats"), ("Katze", "Katzen"), ("chatte", "chattes"), "f", "f"),
    Noun(("child", "children"), ("Kind", "Kinder"), ("enfant", "enfants"), "n", "m"),
    Noun(("girl", "girls"), ("Mädchen", "Mädchen"), ("fille", "filles"), "n", "f"),
    Noun(("horse", "horses"), ("Pferd", "Pferde"), ("cheval", "chevaux"), "n", "m"),
    Noun(("woman", "women"), ("Frau", "Frauen"), ("femme", "femmes"), "f", "f"),
    Noun(("man", "men"), ("Mann", "Männer"), ("homme", "hommes"), "m", "m"),
    Noun(("cow", "cows"), ("Kuh", "Kühe"), ("vache", "vaches"), "f", "f"),
)
ADJECTIVES = (
    ("small", "klein", ("petit", "petite"), True),
    ("tall", "groß", ("grand", "grande"), True),
    ("young", "jung", ("jeune", "jeune"), True),
    ("pretty", "hübsch", ("joli", "jolie"), True),
    ("clever", "klug", ("intelligent", "intelligente"), False),
    ("tired", "müde", ("fatigué", "fatiguée"), False),
    ("happy", "fröhlich", ("content", "contente"), False),
)
"""English, German stem, French masculine and feminine, and whether it precedes the noun in French."""
VERBS = (
    ("sleeping", ("schläft", "schlafen"), ("dort", "dorment")),
    ("playing", ("spielt", "spielen"), ("joue", "jouent")),
    ("eating", ("isst", "essen"), ("mange", "mangent")),
    ("running", ("rennt", "rennen"), ("court", "courent")),
    ("waiting", ("wartet", "warten"), ("attend", "attendent")),
    ("dancing", ("tanzt", "tanzen"), ("danse", "dansent")),
)
PLACES = (
    ("in the park", "im Park", "dans le parc"),
    ("on the beach", "am Strand", "sur la plage"),
    ("in the snow", "im Schnee", "dans la neige"),
    ("in front of a house", "vor einem Haus", "devant une maison"),
    ("on a green meadow", "auf einer grünen Wiese", "sur une prairie verte"),
    ("near the river", "am Fluss", "près de la rivière"),
    ("in the kitchen", "in der Küche", "dans la cuisine"),
)
NUMBERS = (("a", "", ""), ("two", "zwei", "deux"), ("three", "drei", "trois"), ("four", "vier", "quatre"))
HOURS = tuple(zip(
    "one two three four five six seven eight nine ten".split(),
    "ein zwei drei vier fünf sechs sieben acht neun zehn".split(),
    "une deux trois quatre cinq six sept huit neuf dix".split(),
    strict=True,
))  # fmt: skip
GERMAN_ARTICLE = {"m": "ein", "f": "eine", "n": "ein"}
GERMAN_ENDING = {"m": "er", "f": "e", "n": "es"}


def sentence(draw: random.Random) -> tuple[str, str, str]:
    """Draws one sentence in the three languages."""
    noun, (en, de, (masculine, feminine), first), verb = draw.choice(NOUNS), draw.choice(ADJECTIVES), draw.choice(VERBS)
    number, place, hour = draw.choice(NUMBERS), draw.choice(PLACES), draw.choice((None, *HOURS))
    plural = number[0] != "a"
    stem = de.removesuffix("e")
    german = (
        f"{number[1]} {stem}e {noun.de[1]}"
        if plural
        else f"{GERMAN_ARTICLE[noun.german_gender]} {stem}{GERMAN_ENDING[noun.german_gender]} {noun.de[0]}"
    )
    adjective = (masculine if noun.french_gender == "m" else feminine) + ("s" if plural else "")
    name = noun.fr[plural]
    french = f"{adjective} {name}" if first else f"{name} {adjective}"
    french = f"{number[2] if plural else 'un' if noun.french_gender == 'm' else 'une'} {french}"
    english = f"{number[0]} {en} {noun.en[plural]} {'are' if plural else 'is'} {verb[0]} {place[0]}"
    if hour is None:
        german = f"{german} {verb[1][plural]} {place[1]}"
        french = f"{french} {verb[2][plural]} {place[2]}"
    else:  # a German sentence that begins with the time has its verb before the subject
        english = f"{english} at {hour[0]} o'clock"
        german = f"um {hour[1]} Uhr {verb[1][plural]} {german} {place[1]}"
        french = f"à {hour[2]} heure{'s' if hour[2] != 'une' else ''}, {french} {verb[2][plural]} {place[2]}"
    english, german, french = (f"{text[0].upper()}{text[1:]}." for text in (english, german, french))
    return english, german, french


def load(folder: Path) -> ParallelText:
    """Draws the data set, always the same; no sentence comes twice."""
    draw = random.Random(0)
    different = dict.fromkeys(sentence(draw) for _ in range(4 * (TRAIN + 2 * HELD_OUT)))
    drawn = iter(different)

    def part(count: int) -> Lines:
        return dict(zip(LANGUAGES, zip(*islice(drawn, count), strict=True), strict=True))

    return ParallelText(part(TRAIN), part(HELD_OUT), part(HELD_OUT))


DATA_SET = DataSet(
    name="generated-captions",
    title=LocalizedText("Generated captions", "生成的图片说明"),
    description="4,400 sentences of a small grammar in English, German and French: 4,000 to train and 200 to test",
    licence="Apache-2.0 (generated by this project)",
    home="",
    load=load,
    builtin=True,
)
