"""Ways of drawing the next token from a language model's distribution: temperature, top-k, top-p, min-p, penalty.

NumPy only: services sample from the logits of ONNX Runtime, without torch.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """Draws the next token from the model's distribution, reshaped. The defaults change nothing."""

    temperature: float = 1.0
    """Divides the logits; 0 always takes the most probable token."""
    top_k: int | None = None
    """Only the k most probable tokens."""
    top_p: float | None = None
    """Only the most probable tokens that together reach this probability (Holtzman et al. 2020)."""
    min_p: float | None = None
    """Only tokens at least this share as probable as the most probable one (Nguyen et al. 2025)."""
    repetition_penalty: float = 1.0
    """Tokens that occurred are made less probable: their logits are divided by it, or multiplied where negative
    (Keskar et al. 2019)."""

    def probabilities(self, logits: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Computes the distribution that the next token is drawn from: float64 [vocabulary].

        The penalty acts first, then the temperature; top-k, top-p and min-p each look at the distribution after
        these two, and a token stays if all of them keep it.

        Args:
            logits: [vocabulary].
            seen: bool [vocabulary], the tokens that occurred.
        """
        logits = logits.astype(np.float64)
        if self.repetition_penalty != 1.0:
            penalty = np.where(logits > 0, 1 / self.repetition_penalty, self.repetition_penalty)
            logits = np.where(seen, logits * penalty, logits)
        if self.temperature == 0:
            most_probable = np.zeros(len(logits))
            most_probable[logits.argmax()] = 1
            return most_probable
        scaled = logits / self.temperature
        probabilities: np.ndarray = np.exp(scaled - scaled.max())
        probabilities /= probabilities.sum()
        kept = np.ones(len(logits), dtype=bool)
        if self.top_k is not None or self.top_p is not None:  # sorting a large vocabulary takes milliseconds
            order = np.argsort(-probabilities, kind="stable")
            if self.top_k is not None:
                kept[order[self.top_k :]] = False
            if self.top_p is not None:
                before = np.cumsum(probabilities[order]) - probabilities[order]
                kept[order[before >= self.top_p]] = False  # the first is always kept
        if self.min_p is not None:
            kept &= probabilities >= self.min_p * probabilities.max()
        probabilities = np.where(kept, probabilities, 0.0)
        probabilities /= probabilities.sum()
        return probabilities
