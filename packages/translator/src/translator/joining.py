"""Translations of sentences put together as their sentences were."""

import unicodedata

from dlcommon.runtime.sentences import Sentence


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
