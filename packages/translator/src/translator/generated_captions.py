"""Sample data from a small grammar: what people and animals do, where and when, in four languages.

German agrees in gender and case and puts the verb second, French puts some adjectives behind the noun, Chinese has a
measure word for each noun, the place before the verb and no spaces, so that there is order and agreement to learn; but
there are few words, and a model that knows them all knows nothing of the real task.
"""

import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dlcommon.runtime.data import DataSet
from dlcommon.runtime.data.parallel_text import Lines, ParallelText
from dlcommon.runtime.localization import LocalizedText

LANGUAGES = ("en", "de", "fr", "zh")
TRAIN, HELD_OUT = 4000, 200
"""Sentences of the training split, and of the validation and the test split each."""


@dataclass(frozen=True)
class Noun:
    en: tuple[str, str]
    """Singular and plural."""
    de: tuple[str, str]
    fr: tuple[str, str]
    zh: tuple[str, str]
    """Measure word and noun."""
    german_gender: str
    """m, f or n."""
    french_gender: str
    """m or f."""


NOUNS = (
    Noun(("dog", "dogs"), ("Hund", "Hunde"), ("chien", "chiens"), ("只", "狗"), "m", "m"),
    Noun(("cat", "cats"), ("Katze", "Katzen"), ("chatte", "chattes"), ("只", "猫"), "f", "f"),
    Noun(("child", "children"), ("Kind", "Kinder"), ("enfant", "enfants"), ("个", "孩子"), "n", "m"),
    Noun(("girl", "girls"), ("Mädchen", "Mädchen"), ("fille", "filles"), ("个", "女孩"), "n", "f"),
    Noun(("horse", "horses"), ("Pferd", "Pferde"), ("cheval", "chevaux"), ("匹", "马"), "n", "m"),
    Noun(("woman", "women"), ("Frau", "Frauen"), ("femme", "femmes"), ("位", "女士"), "f", "f"),
    Noun(("man", "men"), ("Mann", "Männer"), ("homme", "hommes"), ("位", "男士"), "m", "m"),
    Noun(("cow", "cows"), ("Kuh", "Kühe"), ("vache", "vaches"), ("头", "母牛"), "f", "f"),
)
ADJECTIVES = (
    ("small", "klein", ("petit", "petite"), True, "小"),
    ("tall", "groß", ("grand", "grande"), True, "高大的"),
    ("young", "jung", ("jeune", "jeune"), True, "年轻的"),
    ("pretty", "hübsch", ("joli", "jolie"), True, "漂亮的"),
    ("clever", "klug", ("intelligent", "intelligente"), False, "聪明的"),
    ("tired", "müde", ("fatigué", "fatiguée"), False, "疲倦的"),
    ("happy", "fröhlich", ("content", "contente"), False, "快乐的"),
)
"""English, German stem, French masculine and feminine, whether it precedes the noun in French, and Chinese."""
VERBS = (
    ("sleeping", ("schläft", "schlafen"), ("dort", "dorment"), "睡觉"),
    ("playing", ("spielt", "spielen"), ("joue", "jouent"), "玩耍"),
    ("eating", ("isst", "essen"), ("mange", "mangent"), "吃东西"),
    ("running", ("rennt", "rennen"), ("court", "courent"), "跑步"),
    ("waiting", ("wartet", "warten"), ("attend", "attendent"), "等待"),
    ("dancing", ("tanzt", "tanzen"), ("danse", "dansent"), "跳舞"),
)
PLACES = (
    ("in the park", "im Park", "dans le parc", "在公园里"),
    ("on the beach", "am Strand", "sur la plage", "在海滩上"),
    ("in the snow", "im Schnee", "dans la neige", "在雪地里"),
    ("in front of a house", "vor einem Haus", "devant une maison", "在一座房子前"),
    ("on a green meadow", "auf einer grünen Wiese", "sur une prairie verte", "在绿色的草地上"),
    ("near the river", "am Fluss", "près de la rivière", "在河边"),
    ("in the kitchen", "in der Küche", "dans la cuisine", "在厨房里"),
)
NUMBERS = (
    ("a", "", "", "一"),
    ("two", "zwei", "deux", "两"),
    ("three", "drei", "trois", "三"),
    ("four", "vier", "quatre", "四"),
)
HOURS = tuple(zip(
    "one two three four five six seven eight nine ten".split(),
    "ein zwei drei vier fünf sechs sieben acht neun zehn".split(),
    "une deux trois quatre cinq six sept huit neuf dix".split(),
    "一两三四五六七八九十",
    strict=True,
))  # fmt: skip
GERMAN_ARTICLE = {"m": "ein", "f": "eine", "n": "ein"}
GERMAN_ENDING = {"m": "er", "f": "e", "n": "es"}


def sentence(draw: random.Random) -> tuple[str, str, str, str]:
    """Draws one sentence in the four languages."""
    noun, adjective, verb = draw.choice(NOUNS), draw.choice(ADJECTIVES), draw.choice(VERBS)
    en, de, (masculine, feminine), first, zh = adjective
    number, place, hour = draw.choice(NUMBERS), draw.choice(PLACES), draw.choice((None, *HOURS))
    plural = number[0] != "a"
    stem = de.removesuffix("e")
    german = (
        f"{number[1]} {stem}e {noun.de[1]}"
        if plural
        else f"{GERMAN_ARTICLE[noun.german_gender]} {stem}{GERMAN_ENDING[noun.german_gender]} {noun.de[0]}"
    )
    agreeing = (masculine if noun.french_gender == "m" else feminine) + ("s" if plural else "")
    name = noun.fr[plural]
    french = f"{agreeing} {name}" if first else f"{name} {agreeing}"
    french = f"{number[2] if plural else 'un' if noun.french_gender == 'm' else 'une'} {french}"
    english = f"{number[0]} {en} {noun.en[plural]} {'are' if plural else 'is'} {verb[0]} {place[0]}"
    chinese = f"{number[3]}{noun.zh[0]}{zh}{noun.zh[1]}正{place[3]}{verb[3]}。"
    if hour is None:
        german = f"{german} {verb[1][plural]} {place[1]}"
        french = f"{french} {verb[2][plural]} {place[2]}"
    else:  # a German sentence that begins with the time has its verb before the subject
        english = f"{english} at {hour[0]} o'clock"
        german = f"um {hour[1]} Uhr {verb[1][plural]} {german} {place[1]}"
        french = f"à {hour[2]} heure{'s' if hour[2] != 'une' else ''}, {french} {verb[2][plural]} {place[2]}"
        chinese = f"{hour[3]}点钟，{chinese}"
    english, german, french = (f"{text[0].upper()}{text[1:]}." for text in (english, german, french))
    return english, german, french, chinese


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
    description="4,400 sentences of a small grammar in English, German, French and Chinese: 200 of them to test",
    licence="Apache-2.0 (generated by this project)",
    home="",
    load=load,
    builtin=True,
)
