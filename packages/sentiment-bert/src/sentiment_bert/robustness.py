"""Whether answers hold, and turn, where they should: changed test texts, and contrast sets of our own.

A contrast set (Gardner et al. 2020, https://arxiv.org/abs/2004.02709) is a pair of sentences that differ little and
mean the opposite; a model that reads single words gets one of the two wrong.
"""

import random
import string
from collections.abc import Callable, Mapping

NEGATIVE, POSITIVE = 0, 1

CONTRASTS: Mapping[str, tuple[tuple[str, str], ...]] = {
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
    """Removes all punctuation."""
    return " ".join(text.translate(str.maketrans("", "", string.punctuation)).split())


CHANGES: Mapping[str, Callable[[str, random.Random], str]] = {
    "UPPER CASE": lambda text, generator: text.upper(),
    "typos in a fifth of the words": typo,
    "no punctuation": drop_punctuation,
    "a neutral sentence before": lambda text, generator: f"i saw it on a tuesday . {text}",
    "exclamation marks behind": lambda text, generator: f"{text} ! ! !",
}
"""Changes after which a text means the same."""


def changed(change: str, texts: tuple[str, ...]) -> list[str]:
    """Applies a change to all texts, always alike; a text of which nothing would be left stays."""
    return [CHANGES[change](text, random.Random(number)) or text for number, text in enumerate(texts)]
