"""WordPiece, the tokenizer of BERT (Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 4.1)."""

from collections.abc import Container


def wordpiece(
    word: str,
    vocabulary: Container[str],
    *,
    unknown_token: str = "[UNK]",
    continuing_prefix: str = "##",
    max_characters: int = 100,
) -> list[str]:
    """Splits a word into pieces of the vocabulary, always taking the longest that fits, from left to right.

    Equals the model `tokenizers.models.WordPiece`. In the uncased BERTs the text has been put into lower case, stripped
    of accents and split at spaces and punctuation before.

    Args:
        word: a word without spaces.
        vocabulary: the pieces; those that continue a word begin with `continuing_prefix`.
        unknown_token: stands for a word that cannot be put together.
        max_characters: longer words are unknown, since the search takes time quadratic in the length.

    Returns:
        The pieces, such as `["token", "##ization"]`, or the unknown token alone if the pieces do not reach the end.
    """
    if len(word) > max_characters:
        return [unknown_token]
    pieces, start = [], 0
    while start < len(word):
        prefix = continuing_prefix if start else ""
        ends = range(len(word), start, -1)  # the longest piece first
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return [unknown_token]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces
