"""Sentences to begin with, in the language that a model reads."""

from translator.tokenizer import SPACE, SPECIAL, Tokenizer

EXAMPLES = {
    "en": (
        "A dog is running on the beach.",
        "Two young girls are playing soccer in the park.",
        "A man in a blue shirt is standing on a ladder cleaning a window.",
        "People are waiting for the train. It is raining.",
    ),
    "de": (
        "Ein Hund läuft am Strand.",
        "Zwei junge Mädchen spielen Fußball im Park.",
        "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    ),
    "zh": ("两只小狗正在公园里睡觉。", "三点钟，一位高大的男士正在河边等待。"),
    "fr": ("Un chien court sur la plage.", "Deux jeunes filles jouent au football dans le parc."),
}
MADE_OF = 3
"""Pieces that an example is made of where none is at hand."""


def example_text(language: str, tokenizer: Tokenizer) -> str:
    """Returns a text that a model can read: an example in its language, else the longest pieces that it knows.

    A language that is not among the examples, or text in another script under its name, has characters of its own.
    """
    for text in EXAMPLES.get(language, ()):
        if not tokenizer.encode(text).unknown:
            return text
    pieces = sorted(tokenizer.encoding.pieces[len(SPECIAL) :], key=len, reverse=True)
    return "".join(pieces[:MADE_OF]).replace(SPACE, " ").strip()
