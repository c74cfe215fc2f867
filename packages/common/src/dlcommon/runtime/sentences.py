"""Text cut into sentences."""

import re
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
