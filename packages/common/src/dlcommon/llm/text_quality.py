"""Rules that tell prose from the rest of a web page, those of Gopher's corpus.

Rae et al. 2021 (https://arxiv.org/abs/2112.11446), appendix A.1.
"""

import re

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
"""Words of which English prose of any length has at least two."""


def quality_problems(text: str, min_words: int = 50, max_words: int = 100_000) -> list[str]:
    """Lists the rules of the Gopher model's corpus that a document breaks; it is kept if there are none.

    Args:
        text: of one document.
        min_words: fewest words of a document.
        max_words: most words of a document.
    """
    words, lines = text.split(), [line.strip() for line in text.splitlines() if line.strip()]
    if not words:
        return ["no words"]
    marks = max(text.count("#"), text.count("...") + text.count("…"))
    rules = {
        "number of words": min_words <= len(words) <= max_words,
        "mean word length": 3 <= sum(map(len, words)) / len(words) <= 10,
        "hashes and ellipses": marks <= 0.1 * len(words),
        "bullet points": sum(line.startswith(("•", "-", "*")) for line in lines) <= 0.9 * len(lines),
        "lines ending in an ellipsis": sum(line.endswith(("...", "…")) for line in lines) <= 0.3 * len(lines),
        "words with a letter": sum(bool(re.search(r"[^\W\d_]", word)) for word in words) >= 0.8 * len(words),
        "stop words": len(STOP_WORDS & {word.strip(".,;:!?\"'()").lower() for word in words}) >= 2,
    }
    return [name for name, holds in rules.items() if not holds]
