"""Finds pairs of tokens that belong together: phrases in English, words in Chinese.

Mikolov et al. 2013 (https://arxiv.org/abs/1310.4546, section 4) join words into phrases such as New_York_Times. Applied
to characters, the same score finds words without a dictionary.
"""

from collections.abc import Callable, Sequence

import numpy as np


def phrase_scores(ids: np.ndarray, discount: float) -> tuple[np.ndarray, np.ndarray]:
    """Computes how many times as often each pair of neighbors occurs as it would by chance.

    This is equation 6 of the paper, times the number of tokens, so that 1 means independence and a threshold does not
    depend on the length of the corpus.

    Args:
        ids: numbers of the tokens, int64 [tokens].
        discount: δ, subtracted from the count of each pair, so that rare pairs do not score high by accident.

    Returns:
        The different pairs, [pairs, 2], and their scores, [pairs].
    """
    counts = np.bincount(ids)
    keys, together = np.unique(ids[:-1] * len(counts) + ids[1:], return_counts=True)  # a pair as one number
    first, second = np.divmod(keys, len(counts))
    scores = (together - discount) / (counts[first] * counts[second]) * len(ids)
    return np.stack((first, second), axis=1), scores


def join_phrases(
    tokens: Sequence[str], discount: float, threshold: float, may_join: Callable[[str, str], bool], separator: str = ""
) -> list[str]:
    """Joins neighbors whose score is above the threshold, from left to right; a token is joined at most once.

    Called again on its own result, it joins longer phrases.

    Args:
        tokens: of the corpus.
        discount: δ of the score.
        threshold: of the score; higher means fewer phrases.
        may_join: whether a pair can be a phrase at all, such as no pair with punctuation.
        separator: written between the two.
    """
    index = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    words, ids = list(index), np.fromiter(map(index.__getitem__, tokens), np.int64, len(tokens))
    pairs, scores = phrase_scores(ids, discount)
    phrases = [a * len(words) + b for a, b in pairs[scores > threshold].tolist() if may_join(words[a], words[b])]
    joins = np.isin(ids[:-1] * len(words) + ids[1:], phrases)  # [tokens - 1]
    # In a run of pairs that overlap (a b, b c, c d), every other one is joined, beginning with the first.
    places = np.arange(len(joins))
    begins = joins & ~np.concatenate(([False], joins[:-1]))
    since = places - np.maximum.accumulate(np.where(begins, places, 0))
    joined = np.append(joins & (since % 2 == 0), False)  # [tokens]: whether a token is joined with the next one
    consumed = np.concatenate(([False], joined[:-1]))
    return [
        tokens[n] + separator + tokens[n + 1] if joined[n] else tokens[n] for n in np.flatnonzero(~consumed).tolist()
    ]
