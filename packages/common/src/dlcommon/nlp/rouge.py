"""ROUGE-L: how much of a reference's word order an answer keeps (Lin 2004, https://aclanthology.org/W04-1013).

Equal to `rougeL` of Google's package rouge-score, without its stemmer, for texts in ASCII.
"""

import re
from collections.abc import Sequence

_TOKEN = re.compile(r"[a-z0-9]+|[^\W\x00-\x7f]")


def rouge_tokens(text: str) -> list[str]:
    """Cuts a text into lower-case words of ASCII letters and digits; each other letter, such as 中, is a token."""
    return _TOKEN.findall(text.lower())


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Computes the length of the longest sequence that both contain in order, with gaps."""
    lengths = [0] * (len(other) + 1)  # with each beginning of the other
    for token in one:
        before = 0  # of one token less on both sides
        for place, against in enumerate(other, start=1):
            longest = before + 1 if token == against else max(lengths[place], lengths[place - 1])
            before, lengths[place] = lengths[place], longest
    return lengths[-1]


def rouge_l(prediction: str, reference: str) -> float:
    """Computes the harmonic mean of the longest common subsequence's shares in both texts, from 0 to 1."""
    predicted, expected = rouge_tokens(prediction), rouge_tokens(reference)
    if not predicted or not expected:
        return 0.0
    common = longest_common_subsequence(predicted, expected)
    return 2 * common / (len(predicted) + len(expected))
