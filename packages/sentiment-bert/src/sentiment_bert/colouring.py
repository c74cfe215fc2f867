"""Draws a text coloured by how far each word moved the answer."""

import html
import re
from collections.abc import Sequence

import numpy as np

Span = tuple[int, int]

CSS = """
.coloured { line-height: 2; font-size: 1.05rem; overflow-wrap: anywhere; white-space: pre-wrap; }
.coloured mark { color: inherit; border-radius: .25rem; padding: .1rem .05rem; }
.coloured .neutral { border-bottom: 2px dotted #94a3b8; }
.coloured .sentence { margin: 0 0 .4rem; }
.coloured .said { font-size: .85rem; color: var(--body-text-color-subdued, #475569); margin-inline-start: .5rem; }
"""
TOWARDS, AGAINST = "22,163,74", "220,38,38"
"""Green moves the score up, red down; the word's tooltip states the number, for those who cannot tell the colours."""
WORD = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]|[^\s\u3400-\u9fff\uf900-\ufaff]+")


def spans_of_words(text: str) -> list[Span]:
    """Returns where words begin and end: runs without white space; each character of scripts without spaces."""
    return [match.span() for match in WORD.finditer(text)]


def word_weights(words: Sequence[Span], spans: Sequence[Span], tokens: np.ndarray) -> list[float]:
    """Sums the attributions of tokens up for each word, by where the tokens lie in the text.

    A token of several words, such as a piece of several Chinese characters, counts for each of them alike.

    Args:
        words: in order.
        spans: of the tokens, in order.
        tokens: the tokens' attributions.
    """
    weights, word = [0.0] * len(words), 0
    for (start, stop), weight in zip(spans, tokens.tolist(), strict=True):
        while word + 1 < len(words) and start >= words[word][1]:
            word += 1
        last = word
        while last + 1 < len(words) and stop > words[last + 1][0]:
            last += 1
        for number in range(word, min(last + 1, len(words))):
            weights[number] += weight / (last + 1 - word)
    return weights


def coloured(text: str, words: Sequence[Span], weights: Sequence[float], largest: float) -> str:
    """Returns a text as HTML, each word on a background whose strength is its weight over the largest one."""
    parts, end = [], 0
    for (start, stop), weight in zip(words, weights, strict=True):
        colour = TOWARDS if weight > 0 else AGAINST
        strength = min(1.0, abs(weight) / largest) * 0.6 if largest else 0.0
        parts.append(html.escape(text[end:start]))
        parts.append(
            f'<mark style="background:rgba({colour},{strength:.2f})" title="{weight:+.2f}">'
            f"{html.escape(text[start:stop])}</mark>"
        )
        end = stop
    return "".join(parts) + html.escape(text[end:])


def document(title: str, rows: Sequence[tuple[str, str, Sequence[Span], Sequence[float]]]) -> str:
    """Returns an HTML page of texts with a heading each, coloured."""
    body = "".join(
        f"<p><b>{html.escape(heading)}</b><br>{coloured(text, words, weights, max(map(abs, weights), default=0.0))}</p>"
        for heading, text, words, weights in rows
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{CSS}'
        f"body {{ font-family: sans-serif; max-width: 45rem; margin: 2rem auto; }}</style>"
        f'<h1>{html.escape(title)}</h1><div class="coloured">{body}</div></html>\n'
    )
