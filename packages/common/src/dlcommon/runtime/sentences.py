"""Text cut into sentences, and put together again as it was."""

import re
import unicodedata
from dataclasses import dataclass

# A line break; or the space after a full stop, if what follows begins like a sentence. Abbreviations can fool it.
# A run of white space is looked at once, from its beginning: from each of its places, a long one would take for ever.
LINE_BREAK = r"(?<!\s)\s*\n\s*"
FULL_STOP = r"(?:(?<=[.!?…])|(?<=[.!?…][\"'»”)]))\s+(?=[\"'«„“¿¡(]?[A-ZÀ-ÖØ-Þ])"
# A Chinese full stop, and the quotation mark or bracket that it closes with; no space needs to follow.
CHINESE = r"(?:(?<=[。！？])|(?<=[。！？][”’」』）]))(?![。！？”’」』）])\s*(?=\S)"
BOUNDARY = re.compile(f"({LINE_BREAK}|{FULL_STOP}|{CHINESE})")


@dataclass(frozen=True)
class Sentence:
    text: str
    """Not blank."""
    after: str
    """White space between it and the next: none where Chinese sentences follow each other."""


def split_sentences(text: str) -> tuple[str, list[Sentence]]:
    """Cuts a text at line breaks and ends of sentences.

    Returns:
        The white space before the first sentence, and the sentences; all of it in a row is the text again.
    """
    body = text.strip()
    before = text[: len(text) - len(text.lstrip())]
    if not body:
        return text, []
    parts = [*BOUNDARY.split(body), text[len(before) + len(body) :]]
    return before, [Sentence(sentence, after) for sentence, after in zip(parts[::2], parts[1::2], strict=True)]


def join_translations(sentences: list[Sentence], translations: list[str], is_end: bool) -> str:
    """Puts translations together with the white space that was between their sentences.

    Where there was none, a space follows a translation, unless that ends with a character as wide as Chinese ones.

    Args:
        sentences: those that were translated.
        translations: one of each.
        is_end: whether the last of them ends the text.
    """
    parts = []
    for number, (sentence, translation) in enumerate(zip(sentences, translations, strict=True), start=1):
        is_last = is_end and number == len(sentences)
        narrow = translation and unicodedata.east_asian_width(translation[-1]) not in "FW"
        parts += [translation, sentence.after or (" " if narrow and not is_last else "")]
    return "".join(parts)
