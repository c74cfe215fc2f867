"""Integrated gradients: how much each token moved the answer (Sundararajan et al. 2017, arxiv.org/abs/1703.01365).

The attribution of token i is (xᵢ − x′ᵢ) · ∫ ∂F(x′ + α (x − x′)) / ∂xᵢ dα over α from 0 to 1 (equation 1), where F is
the difference of logits, x the word vectors and x′ those of a text of [MASK]s of the same length. They sum to
F(x) − F(x′) (completeness, proposition 1). The graph computes the gradients; here they are summed up with NumPy.
"""

from dataclasses import dataclass

import numpy as np
from dlcommon.runtime.arrays import Predict

STEPS = 24
"""Points on the path: of Gauss and Legendre, whose sum is exact for polynomials up to degree 2 · STEPS − 1."""
TOKENS_AT_ONCE = 2048
"""Tokens, times points, that go through the network together."""


@dataclass(frozen=True)
class Attribution:
    """What moved the answers about some texts."""

    tokens: np.ndarray
    """float32 [texts, tokens]: how far each token moved the score; 0 for padding."""
    score: np.ndarray
    """float32 [texts]: the logits along the direction."""
    baseline: np.ndarray
    """float32 [texts]: the same for the text of masks."""

    @property
    def gap(self) -> np.ndarray:
        """By how much the tokens' sum misses score − baseline: the error of the sum over the path."""
        missed: np.ndarray = np.abs(self.tokens.sum(axis=1) - (self.score - self.baseline))
        return missed


def empty_path(texts: int) -> np.ndarray:
    """Returns no points on the path, for which the graph computes no gradients: float32 [texts, 0]."""
    return np.zeros((texts, 0), np.float32)


def integrated_gradients(
    predict: Predict, input_ids: np.ndarray, direction: np.ndarray, masked: np.ndarray, steps: int = STEPS
) -> Attribution:
    """Attributes a difference of logits to the tokens.

    Args:
        predict: the exported graph.
        input_ids: int64 [texts, tokens], padded.
        direction: weight of each class's logit, float32 [texts, classes]; (−1, 1) is positive over negative.
        masked: the baseline's ids, int64 [texts, tokens].
        steps: points on the path.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    nodes, weights = (nodes + 1) / 2, weights / 2
    tokens = np.zeros(input_ids.shape, np.float32)
    each = max(1, TOKENS_AT_ONCE // input_ids.shape[1])
    for start in range(0, steps, each):
        path = np.repeat(nodes[None, start : start + each], len(input_ids), axis=0).astype(np.float32)
        found = predict({"input_ids": input_ids, "baseline_ids": masked, "direction": direction, "path": path})
        tokens += (found["attributions"] * weights[start : start + each, None].astype(np.float32)).sum(axis=1)
    nothing = {"baseline_ids": masked, "direction": direction, "path": empty_path(len(input_ids))}
    score, baseline = (
        (predict({"input_ids": ids, **nothing})["logits"] * direction).sum(axis=1) for ids in (input_ids, masked)
    )
    return Attribution(tokens, score, baseline)
