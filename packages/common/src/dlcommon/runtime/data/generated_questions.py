"""Generates passages on invented towns and questions on them, in English and Chinese, for machines without real ones.

Each passage tells of two towns in the same words, so that a question is answered only by who finds the right one.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.question_answering import Answer, Article, Passage, Question, QuestionAnswering
from dlcommon.runtime.localization import LocalizedText

TOWNS = (
    ("Alder", "阿尔德"), ("Brenfield", "布伦菲"), ("Corvale", "科维尔"), ("Dunmere", "邓米尔"), ("Eastwick", "伊斯特"),
    ("Fernley", "弗恩利"), ("Garrow", "加罗"), ("Haldon", "哈尔登"), ("Istria", "伊斯特里"), ("Jorvik", "约维克"),
    ("Kelmont", "凯尔蒙"), ("Lorne", "洛恩"), ("Marwick", "马威克"), ("Norbury", "诺伯里"), ("Orsted", "奥斯特"),
    ("Pelham", "佩勒姆"), ("Quorn", "昆恩"), ("Ravel", "拉威尔"), ("Selwick", "塞尔威"), ("Tarvin", "塔文"),
    ("Ulster", "乌斯特"), ("Varden", "瓦登"), ("Wexcombe", "韦克斯"), ("Yarrow", "亚罗"),
)  # fmt: skip
PEOPLE = (
    ("Anna Weber", "安娜·韦伯"), ("Boris Lind", "鲍里斯·林德"), ("Clara Moss", "克拉拉·莫斯"),
    ("David Ross", "大卫·罗斯"), ("Emil Stark", "埃米尔·斯塔克"), ("Greta Holm", "格蕾塔·霍尔姆"),
    ("Hugo Klein", "雨果·克莱因"), ("Iris Falk", "艾丽斯·法尔克"), ("Jonas Berg", "约纳斯·贝格"),
    ("Karin Vogel", "卡琳·福格尔"), ("Lukas Brandt", "卢卡斯·勃兰特"), ("Mira Sand", "米拉·桑德"),
)  # fmt: skip
GOODS = (
    ("glass", "玻璃"), ("silk", "丝绸"), ("paper", "纸张"), ("salt", "食盐"), ("clocks", "钟表"),
    ("cheese", "奶酪"), ("copper", "铜器"), ("tea", "茶叶"), ("linen", "亚麻布"), ("violins", "小提琴"),
    ("bricks", "砖块"), ("honey", "蜂蜜"),
)  # fmt: skip
RIVERS = (
    ("Arne", "阿恩河"), ("Bela", "贝拉河"), ("Calder", "考尔德河"), ("Derwent", "德文特河"), ("Esk", "埃斯克河"),
    ("Fulda", "富尔达河"), ("Glen", "格伦河"), ("Hull", "赫尔河"), ("Isar", "伊萨尔河"), ("Leine", "莱讷河"),
)  # fmt: skip
FACTS = {  # what is told, how it is told, how it is asked for, in English and in Chinese
    "year": (
        ("{town} was founded in {answer} by merchants.", "{town}由商人建于{answer}年。"),
        ("When was {town} founded?", "{town}建于哪一年？"),
    ),
    "mayor": (
        ("The first mayor of {town} was {answer}.", "{town}的首任市长是{answer}。"),
        ("Who was the first mayor of {town}?", "{town}的首任市长是谁？"),
    ),
    "goods": (
        ("For a long time {town} lived by making {answer}.", "{town}长期靠生产{answer}为生。"),
        ("What did people make in {town}?", "{town}的人们生产什么？"),
    ),
    "river": (
        ("{town} lies on the river {answer}, below the hills.", "{town}位于山脚下的{answer}畔。"),
        ("On which river does {town} lie?", "{town}位于哪条河畔？"),
    ),
}
LANGUAGES = ("en", "zh")


@dataclass
class _Draft:
    """Collects a passage's text and its questions in one language."""

    text: str = ""
    questions: list[Question] = field(default_factory=list)

    def tell(self, sentence: str, space: str) -> int:
        """Adds a sentence; returns its first character."""
        self.text += space if self.text else ""
        self.text += sentence
        return len(self.text) - len(sentence)


def generate(articles: int, passages: int = 3, seed: int = 0) -> QuestionAnswering:
    """Generates articles whose passages hold four questions each.

    Args:
        articles: their number.
        passages: of each article.
        seed: of the random choices.
    """
    generator = random.Random(seed)
    found: dict[str, list[Article]] = {language: [] for language in LANGUAGES}
    for number in range(articles):
        drawn = [_passage(generator, f"{number}-{part}") for part in range(passages)]
        for index, language in enumerate(LANGUAGES):
            title = f"Towns {number + 1}" if language == "en" else f"城镇 {number + 1}"
            found[language].append(Article(title, tuple(each[index] for each in drawn)))
    return QuestionAnswering({language: tuple(found[language]) for language in LANGUAGES})


def _passage(generator: random.Random, id_prefix: str) -> list[Passage]:
    """Writes one passage on two towns, in each language; every fact of it is told, half of them are asked for."""
    towns = generator.sample(TOWNS, 2)
    asked = {fact: generator.randrange(2) for fact in FACTS}  # which of the towns the question is on
    values = {
        "year": [(str(year), str(year)) for year in generator.sample(range(1100, 1900), 2)],
        "mayor": generator.sample(PEOPLE, 2),
        "goods": generator.sample(GOODS, 2),
        "river": generator.sample(RIVERS, 2),
    }
    told = [(town, fact) for town in range(2) for fact in FACTS]
    generator.shuffle(told)
    passages = []
    for index, space in enumerate((" ", "")):
        draft = _Draft()
        for town, fact in told:
            statements, questions = FACTS[fact]
            before, after = statements[index].format(town=towns[town][index], answer="\0").split("\0")
            answer = values[fact][town][index]
            start = draft.tell(before + answer + after, space) + len(before)
            if asked[fact] == town:
                question = questions[index].format(town=towns[town][index])
                draft.questions.append(Question(f"{id_prefix}-{fact}", question, (Answer(answer, start),)))
        passages.append(Passage(draft.text, tuple(draft.questions)))
    return passages


def load(folder: Path) -> QuestionAnswering:
    """Generates the set's articles; nothing is read."""
    return generate(articles=24)


DATA_SET = DataSet(
    name="generated-questions",
    title=LocalizedText("Generated questions", "生成的问答"),
    description="288 questions on 72 short passages on invented towns, in English and Chinese, generated from patterns",
    licence="Apache-2.0",
    home="",
    load=load,
    builtin=True,
)
