"""Whether answers hold, and turn, where they should: changed test texts, and contrast sets of our own.

A contrast set (Gardner et al. 2020, https://arxiv.org/abs/2004.02709) is a pair of sentences that differ little and
mean the opposite; a model that reads single words gets one of the two wrong.
"""

import random
import string
import unicodedata
from collections.abc import Callable, Mapping

NEGATIVE, POSITIVE = 0, 1

ENGLISH: Mapping[str, tuple[tuple[str, str], ...]] = {
    "negation": (
        ("This film is not good.", "This film is not bad."),
        ("I would not watch it again.", "I would gladly watch it again."),
        ("There is nothing here that is worth your time.", "There is nothing here that wastes your time."),
        ("The jokes never work.", "The jokes never fail."),
        ("It is hardly an interesting story.", "It is hardly a boring story."),
        ("Nobody will enjoy this.", "Nobody will regret seeing this."),
        ("I didn't like the ending.", "I couldn't dislike the ending."),
        ("It isn't funny, and it isn't clever.", "It isn't dull, and it isn't silly."),
        ("No scene is memorable.", "No scene is forgettable."),
        ("The acting lacks any charm.", "The acting lacks nothing."),
    ),
    "one word": (
        ("The plot is predictable from the first minute.", "The plot is gripping from the first minute."),
        ("A waste of a wonderful cast.", "A showcase for a wonderful cast."),
        ("The director ruins a great book.", "The director honors a great book."),
        ("It feels much longer than two hours.", "It feels much shorter than two hours."),
        ("I left the cinema bored.", "I left the cinema delighted."),
        ("The dialogue is painfully bad.", "The dialogue is wickedly good."),
        ("It starts well and falls apart.", "It starts well and gets better."),
        ("She is the worst thing in it.", "She is the best thing in it."),
        ("The script is too thin for its talented actors.", "The script is a gift for its talented actors."),
        ("A soulless remake of a classic.", "A soulful remake of a classic."),
    ),
    "but": (
        ("The pictures are beautiful, but the story is dead.", "The story is slow, but the pictures are beautiful."),
        ("Great actors, but they cannot save it.", "A weak script, but the actors save it."),
        ("I wanted to love it, but I was bored.", "I expected to be bored, but I loved it."),
        ("It looks expensive, but it feels cheap.", "It looks cheap, but it feels rich."),
        ("It has good intentions and no ideas.", "It has no budget and brilliant ideas."),
        ("Funny at first, tiresome in the end.", "Tiresome at first, funny in the end."),
        ("As pretty as a postcard, and as deep.", "As simple as a postcard, and as touching."),
        ("The trailer is fantastic; the film is not.", "The trailer is awful; the film is not."),
    ),
    "comparison": (
        ("The first film was better.", "It is better than the first film."),
        ("I have seen school plays with more talent.", "I have seen no film with more talent this year."),
        ("It could have been a masterpiece.", "It is a masterpiece."),
        ("If only it were as clever as it thinks.", "It is even cleverer than it thinks."),
        ("You would have more fun at the dentist.", "You will have more fun than at a carnival."),
        ("A good film is hidden somewhere in here.", "A good film, and nothing in here is hidden."),
        ("It should be shorter.", "It could be twice as long."),
        ("Less would have been more.", "More of this, please."),
    ),
}  # fmt: skip
"""Kind of contrast to pairs: the negative sentence first."""

CHINESE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "negation": (
        ("质量不好。", "质量不错。"),
        ("我不会再买了。", "我一定会再买。"),
        ("没有一个地方让人满意。", "没有一个地方让人不满意。"),
        ("这本书不值得看。", "这本书不能不看。"),
        ("服务员一点也不热情。", "服务员没有一点不耐烦。"),
        ("看完一点收获都没有。", "看完收获很多。"),
    ),
    "one word": (
        ("房间又小又脏。", "房间又大又干净。"),
        ("内容空洞，浪费时间。", "内容充实，节省时间。"),
        ("电池用得太快了。", "充电非常快。"),
        ("早餐难吃。", "早餐好吃。"),
        ("客服态度恶劣。", "客服态度和蔼。"),
        ("让人失望的一次入住。", "让人难忘的一次入住。"),
    ),
    "but": (
        ("位置很好，但是房间太吵。", "房间不大，但是很安静。"),
        ("封面漂亮，可惜内容很差。", "封面普通，可是内容精彩。"),
        ("看起来不错，用了三天就坏了。", "看起来一般，用了三年还很好。"),
        ("本来很期待，结果很失望。", "本来没有期待，结果很惊喜。"),
    ),
    "comparison": (
        ("上一本好多了。", "比上一本好多了。"),
        ("同样的价格可以住更好的酒店。", "同样的价格住不到更好的酒店。"),
        ("如果屏幕再清楚一点就好了。", "屏幕再清楚不过了。"),
        ("没有比这更差的了。", "没有比这更好的了。"),
    ),
}  # fmt: skip

CONTRASTS: Mapping[str, Mapping[str, tuple[tuple[str, str], ...]]] = {"en": ENGLISH, "zh": CHINESE}
"""Language to contrast pairs."""


def typo(text: str, generator: random.Random) -> str:
    """Swaps two neighboring letters inside one of every five words, at least in one."""
    words = text.split(" ")
    long = [number for number, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    for number in generator.sample(long, min(len(long), max(1, len(words) // 5))):
        word = words[number]
        at = generator.randrange(1, len(word) - 2)
        words[number] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def drop_punctuation(text: str, generator: random.Random) -> str:
    """Removes all punctuation, Chinese included."""
    kept = (letter for letter in text if not (letter in string.punctuation or unicodedata.category(letter)[0] == "P"))
    return " ".join("".join(kept).split())


Change = Callable[[str, random.Random], str]
ALWAYS: Mapping[str, Change] = {"no punctuation": drop_punctuation}
CHANGES: Mapping[str, Mapping[str, Change]] = {
    "en": {
        **ALWAYS,
        "UPPER CASE": lambda text, generator: text.upper(),
        "typos in a fifth of the words": typo,
        "a neutral sentence before": lambda text, generator: f"i saw it on a tuesday . {text}",
        "exclamation marks behind": lambda text, generator: f"{text} ! ! !",
    },
    "zh": {
        **ALWAYS,
        "a neutral sentence before": lambda text, generator: f"我是星期二买的。{text}",
        "exclamation marks behind": lambda text, generator: f"{text}！！！",
    },
}
"""Language to changes after which a text means the same."""


def changed(change: Change, texts: tuple[str, ...]) -> list[str]:
    """Applies a change to all texts, always alike; a text of which nothing would be left stays."""
    return [change(text, random.Random(number)) or text for number, text in enumerate(texts)]
