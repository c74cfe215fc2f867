"""Extractive question answering: the answer is a span of the passage, found by its first and its last token.

As in BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, sections 4.2 and 4.3). Long passages are read in
overlapping windows; token 0 of each window, [CLS], stands for 'the answer is not here'.

Shapes: logits [windows, tokens]; a span (first, last) includes both of its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


def sliding_windows(length: int, size: int, overlap: int) -> list[tuple[int, int]]:
    """Cuts a passage into windows, each of which repeats the last tokens of the one before.

    Equals the truncation of `tokenizers` with `stride=overlap`.

    Args:
        length: number of tokens of the passage.
        size: largest number of tokens in a window.
        overlap: number of tokens that two neighboring windows share.

    Returns:
        The first token and the one after the last token of each window; one window for a short passage.

    Raises:
        ValueError: the windows would not advance.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"overlap must be from 0 to size - 1 = {size - 1}, not {overlap}")
    windows = [(0, min(size, length))]
    while windows[-1][1] < length:
        start = windows[-1][0] + size - overlap
        windows.append((start, min(start + size, length)))
    return windows


def token_span(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """Finds the tokens of a window that cover the characters `start` to `end - 1` of the passage.

    Args:
        offsets: first character of each token, and the one after its last; (0, 0) for special tokens.
        start: first character of the answer.
        end: the one after its last.

    Returns:
        The first and the last token; or `None` where the window does not hold the whole answer.
    """
    covering = [token for token, (first, after) in enumerate(offsets) if first < end and after > start]
    if not covering or offsets[covering[0]][0] > start or offsets[covering[-1]][1] < end:
        return None
    return covering[0], covering[-1]


def span_loss(
    start_logits: torch.Tensor, end_logits: torch.Tensor, starts: torch.Tensor, ends: torch.Tensor
) -> torch.Tensor:
    """Computes the mean of two cross-entropies, of the first and of the last token.

    Args:
        start_logits: [windows, tokens]; -inf for padding.
        end_logits: [windows, tokens].
        starts: the first token of each answer, 0 where the window has none; int64 [windows].
        ends: the last token; int64 [windows].
    """
    return (F.cross_entropy(start_logits, starts) + F.cross_entropy(end_logits, ends)) / 2


def span_scores(
    start_logits: torch.Tensor, end_logits: torch.Tensor, allowed: torch.Tensor, max_tokens: int
) -> torch.Tensor:
    """Scores every span by the sum of its two logits.

    Args:
        start_logits: [windows, tokens].
        end_logits: [windows, tokens].
        allowed: true for tokens that an answer may begin or end with: not for the question, [CLS] and padding; bool
            [windows, tokens].
        max_tokens: largest number of tokens in an answer.

    Returns:
        [windows, tokens, tokens], by first and last token; -inf for spans that end before they begin, are too long, or
        begin or end at a token that is not allowed.
    """
    scores = start_logits[:, :, None] + end_logits[:, None, :]  # [windows, first, last]
    tokens = torch.arange(scores.size(1), device=scores.device)
    length = tokens[None, :] - tokens[:, None] + 1  # [first, last]
    possible = (length >= 1) & (length <= max_tokens) & allowed[:, :, None] & allowed[:, None, :]
    return scores.masked_fill(~possible, -torch.inf)


@dataclass(frozen=True)
class Span:
    window: int
    first: int
    """Token of the window."""
    last: int
    score: float
    """Sum of the two logits."""


def best_span(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    allowed: torch.Tensor,
    max_tokens: int,
    null_threshold: float | None = None,
) -> Span | None:
    """Finds the answer in all windows of one passage.

    Args:
        start_logits: [windows, tokens]; those of token 0 score 'no answer'.
        end_logits: [windows, tokens].
        allowed: tokens that an answer may begin or end with, bool [windows, tokens].
        max_tokens: largest number of tokens in an answer.
        null_threshold: by how much a span must outscore 'no answer', for which the least sure window stands; `None`:
            there is always an answer.

    Returns:
        The span with the largest score; `None` if no span is possible, or none outscores 'no answer'.
    """
    scores = span_scores(start_logits, end_logits, allowed, max_tokens)
    best = int(scores.argmax())
    score = float(scores.flatten()[best])
    if score == -torch.inf:
        return None
    if null_threshold is not None:
        null_score = float((start_logits[:, 0] + end_logits[:, 0]).min())
        if score <= null_score + null_threshold:
            return None
    tokens = scores.size(1)
    return Span(best // tokens**2, best // tokens % tokens, best % tokens, score)


class SpanExtractionHead(nn.Module):
    """Computes two logits for each token: of being the first and of being the last token of the answer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps features [windows, tokens, dim] to start and end logits, each [windows, tokens]."""
        start_logits, end_logits = self.linear(features).unbind(dim=-1)
        return start_logits, end_logits
