"""Attention between a decoder and the states of an encoder: Bahdanau's and Luong's scores.

A query is compared with every key; the softmax of the scores says how much of each key goes into the context.

Shapes: query [batch, queries, query_size], keys [batch, positions, key_size], mask bool [batch, positions] (true where
there is something to look at), context [batch, queries, key_size], weights [batch, queries, positions].
"""

import torch
from torch import nn


def attend(scores: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Context and weights for scores [batch, queries, positions]; masked positions get weight zero."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
    weights = scores.softmax(dim=2)
    return weights @ keys, weights


class AdditiveAttention(nn.Module):
    """score = vᵀ tanh(W query + U key) (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2)."""

    def __init__(self, query_size: int, key_size: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, hidden, bias=False)
        self.key = nn.Linear(key_size, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        compared = torch.tanh(self.query(query)[:, :, None] + self.key(keys)[:, None])  # [batch, queries, positions, …]
        return attend(self.score(compared).squeeze(3), keys, mask)


class DotAttention(nn.Module):
    """score = queryᵀ key (Luong et al. 2015, https://arxiv.org/abs/1508.04025, equation 8, "dot")."""

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return attend(query @ keys.transpose(1, 2), keys, mask)


class GeneralAttention(nn.Module):
    """score = queryᵀ W key (Luong et al. 2015, equation 8, "general")."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(key_size, query_size, bias=False)

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return attend(query @ self.key(keys).transpose(1, 2), keys, mask)
