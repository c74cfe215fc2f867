"""Contrastive search (Su et al. 2022, https://arxiv.org/abs/2202.06417): probable, but unlike what was written before.

NumPy only, like the other ways of decoding.
"""

from collections.abc import Callable

import numpy as np

from dlcommon.transformer.beam_search import State

Step = Callable[[np.ndarray, State], tuple[np.ndarray, np.ndarray, State]]
"""Reads one more token per row: (int64 [rows], state) to (logits [rows, vocab_size], features [rows, dim], state)."""


def contrastive_search(
    step: Step,
    state: State,
    logits: np.ndarray,
    features: np.ndarray,
    *,
    num_tokens: int,
    k: int = 4,
    alpha: float = 0.6,
) -> np.ndarray:
    """Continues one text by equation 5 of the paper.

    Of the k most probable tokens v, each step takes the one with the largest (1 − α) p(v) − α max_j cos(h_v, h_j):
    h_v is the feature vector after v was read, h_j are those of all tokens before it. α = 0 is greedy search.

    Args:
        step: the model.
        state: after the prompt, arrays [1, ...]; rows are repeated and chosen by indexing.
        logits: of the token after the prompt, [vocab_size].
        features: of the prompt's tokens, [prompt length, dim]: the last hidden states, from which logits are computed.
        num_tokens: how many tokens are written.
        k: candidates for each token.
        alpha: weight of the penalty, from 0 to 1.

    Returns:
        The new tokens, int64 [num_tokens].
    """
    written = np.empty(num_tokens, np.int64)
    seen = _unit(features)  # [tokens so far, dim]
    for position in range(num_tokens):
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        candidates = np.argsort(-probabilities, kind="stable")[:k]
        # All candidates are read at once, as a batch of k texts that differ in the last token.
        repeated = {name: array[np.zeros(len(candidates), np.int64)] for name, array in state.items()}
        all_logits, candidate_features, candidate_states = step(candidates, repeated)
        similarity = _unit(candidate_features) @ seen.T  # [k, tokens so far]: cosines
        scores = (1 - alpha) * probabilities[candidates] - alpha * similarity.max(axis=1)
        best = int(scores.argmax())
        written[position] = candidates[best]
        logits, state = all_logits[best], {name: array[[best]] for name, array in candidate_states.items()}
        seen = np.concatenate((seen, _unit(candidate_features[best : best + 1])))
    return written


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors [n, dim] to length 1."""
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
