"""Forgetting: how well a model still predicts text that it was not fine-tuned on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from dlcommon.llm.bits_per_byte import bits_per_byte, perplexity
from dlcommon.llm.fused_cross_entropy import fused_cross_entropy
from dlcommon.mathematics.intervals import bootstrap_interval

from llm_lora.bases import Base

WINDOW = 512
"""Tokens of a window; each window is read without those before it."""


@dataclass(frozen=True)
class TextLoss:
    """Holds what the windows of a text cost a model."""

    nats: np.ndarray
    """Negative log-likelihood of each window, float64 [windows]."""
    tokens: int
    """Predicted tokens of all windows."""
    num_bytes: np.ndarray
    """UTF-8 bytes that the predicted tokens of each window stand for, [windows]."""

    @property
    def _mean(self) -> float:
        """Nats a token."""
        return float(self.nats.sum() / self.tokens)

    @property
    def perplexity(self) -> float:
        """Per token; comparable among models with the same tokenizer only."""
        return perplexity(self._mean)

    @property
    def bits_per_byte(self) -> float:
        """Comparable among all models."""
        return bits_per_byte(self._mean, self.tokens, int(self.num_bytes.sum()))


@torch.inference_mode()
def text_loss(base: Base, text: str, *, max_tokens: int = 16_384, window: int = WINDOW, batch: int = 4) -> TextLoss:
    """Computes the loss of a text, cut into windows.

    Args:
        base: the model, on any device, with its tokenizer.
        text: plain text, not a conversation.
        max_tokens: how much of its beginning is read; 0 for all.
        window: tokens of a window.
        batch: windows that are read at a time.

    Raises:
        ValueError: the text has fewer than two tokens.
    """
    tokens = base.tokenizer.encode(text)
    tokens = tokens[:max_tokens] if max_tokens else tokens
    pieces = [tokens[start : start + window] for start in range(0, len(tokens), window)]
    pieces = [piece for piece in pieces if len(piece) > 1]
    if not pieces:
        raise ValueError(f"a text of {len(tokens)} tokens cannot be predicted; at least two are needed")
    network = base.network
    device = network.model.norm.weight.device
    output = network.model.embed_tokens.weight if network.lm_head is None else network.lm_head.weight
    nats: list[float] = []
    for start in range(0, len(pieces), batch):
        some = pieces[start : start + batch]
        longest = max(map(len, some))
        rows = torch.tensor([piece + [0] * (longest - len(piece)) for piece in some], device=device)
        features, _ = network.features(rows)  # padding stands behind, so that no token sees it
        for piece, row, of_row in zip(some, rows, features, strict=True):
            last = len(piece) - 1
            nats.append(fused_cross_entropy(of_row[:last], output, row[1 : len(piece)]).double().sum().item())
    lengths = [_num_bytes(base, piece[1:]) for piece in pieces]
    return TextLoss(np.array(nats), sum(len(piece) - 1 for piece in pieces), np.array(lengths))


def _num_bytes(base: Base, tokens: Sequence[int]) -> int:
    return len(base.tokenizer.decode(tokens).encode())


@dataclass(frozen=True)
class Forgetting:
    """Holds bits per byte before and after fine-tuning, on the same windows."""

    before: float
    after: float
    increase: float
    """After minus before; positive where something was forgotten."""
    interval: tuple[float, float]
    """95 % bootstrap interval of the increase, over windows, paired."""


def forgetting(before: TextLoss, after: TextLoss, seed: int = 0) -> Forgetting:
    """Compares two models with the same tokenizer on the same text.

    Raises:
        ValueError: the windows are not the same.
    """
    if before.tokens != after.tokens or not np.array_equal(before.num_bytes, after.num_bytes):
        raise ValueError("the two losses are not of the same windows")
    samples = np.stack([after.nats - before.nats, before.num_bytes], axis=1)  # [windows, 2]

    def increase(drawn: np.ndarray) -> np.ndarray:
        sums: np.ndarray = drawn.sum(axis=1)  # [resamples, 2]
        bits: np.ndarray = sums[:, 0] / sums[:, 1] / math.log(2)
        return bits

    interval = bootstrap_interval(samples, increase, np.random.default_rng(seed))
    difference = after.bits_per_byte - before.bits_per_byte
    return Forgetting(before.bits_per_byte, after.bits_per_byte, difference, interval)
