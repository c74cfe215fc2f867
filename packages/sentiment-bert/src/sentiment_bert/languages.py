"""Tells whether a text is in the language that a model was trained on."""

import unicodedata
from collections import Counter

import py3langid

SCRIPTS = {
    "ar": "ARABIC", "be": "CYRILLIC", "bg": "CYRILLIC", "bn": "BENGALI", "el": "GREEK", "fa": "ARABIC", "he": "HEBREW",
    "hi": "DEVANAGARI", "hy": "ARMENIAN", "ja": "CJK", "ka": "GEORGIAN", "ko": "HANGUL", "mk": "CYRILLIC",
    "ru": "CYRILLIC", "sr": "CYRILLIC", "ta": "TAMIL", "th": "THAI", "uk": "CYRILLIC", "zh": "CJK",
}  # fmt: skip
"""Scripts of languages that are not written in Latin letters, as Unicode names them."""
ALSO = {"ja": ("HIRAGANA", "KATAKANA"), "zh": ("FULLWIDTH",)}
NAMES = {"CJK": "Chinese characters", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
MOST_FOREIGN = 0.5
"""Share of letters in another script from which a text is refused."""
MARGIN = 25.0
"""How much more likely another language must be, in nats, before a text is refused; short texts never reach it."""


def script_of(letter: str) -> str:
    """Returns the script of a letter, such as LATIN, by the first word of its Unicode name."""
    return unicodedata.name(letter, "UNKNOWN").split()[0].removesuffix("-UNIFIED")


def foreign_script(text: str, language: str) -> str | None:
    """Returns the script that most letters of a text are in, unless it is one of the language; else None."""
    counts = Counter(script_of(letter) for letter in text if letter.isalpha())
    own = (SCRIPTS.get(language, "LATIN"), *ALSO.get(language, ()))
    foreign = {name: count for name, count in counts.items() if name not in own}
    if sum(foreign.values()) <= MOST_FOREIGN * sum(counts.values()):
        return None
    script = max(foreign, key=lambda name: foreign[name])
    return NAMES.get(script, script.capitalize())


def other_language(text: str, language: str) -> str | None:
    """Returns the code of the language that a text is far more likely to be in than in `language`, if there is one."""
    scores = dict(py3langid.rank(text))
    if language not in scores:  # one that the library does not know
        return None
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] - scores[language] > MARGIN else None


def why_foreign(text: str, language: str) -> str | None:
    """Says in what a text is written, if it is not the language; None where it is, or is too short to tell.

    Letters of another script are told at once; languages of the same script by py3langid (n-grams of bytes), which is
    right about whole sentences and not asked to be sure of two words.
    """
    if script := foreign_script(text, language):
        return script
    found = other_language(text, language)
    return None if found is None else f"the language {found!r}"
