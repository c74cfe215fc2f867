"""Attention from a decoder to the states of an encoder, with Bahdanau's and Luong's scores.

Each query is scored against every key; the softmax of the scores weights the keys, and their weighted sum is the
context.

Shapes: query [batch, queries, query_size]; keys [batch, positions, key_size]; mask bool [batch, positions], true where
a key may be attended to; context [batch, queries, key_size]; weights [batch, queries, positions].
"""

import torch
from torch import nn


def attend(scores: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes context and attention weights from scores [batch, queries, positions].

    Positions where `mask` is false get weight zero; `None` masks nothing.
    """
    if mask is not None:
        # exp(−∞) = 0: masked positions take no part in the softmax, rather than a small one.
        scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
    weights = scores.softmax(dim=2)
    return weights @ keys, weights  # [batch, queries, positions] @ [batch, positions, key_size]


class AdditiveAttention(nn.Module):
    """Scores with vᵀ tanh(W query + U key) (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2).

    Args:
        query_size: features of a query.
        key_size: features of a key.
        hidden_size: width of the space in which the two are added.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int) -> None:
        super().__init__()
        self.query_proj = nn.Linear(query_size, hidden_size, bias=False)
        self.key_proj = nn.Linear(key_size, hidden_size, bias=False)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the context [batch, queries, key_size] and the weights [batch, queries, positions]."""
        # Every query meets every key: [batch, queries, 1, hidden_size] + [batch, 1, positions, hidden_size].
        features = torch.tanh(self.query_proj(query)[:, :, None] + self.key_proj(keys)[:, None])
        return attend(self.score(features).squeeze(3), keys, mask)


class DotProductAttention(nn.Module):
    """Scores with queryᵀ key (Luong et al. 2015, https://arxiv.org/abs/1508.04025, equation 8, "dot")."""

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the context [batch, queries, key_size] and the weights; query_size must equal key_size."""
        return attend(query @ keys.transpose(1, 2), keys, mask)


class GeneralAttention(nn.Module):
    """Scores with queryᵀ W key (Luong et al. 2015, equation 8, "general"), so that the two may differ in size."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.key_proj = nn.Linear(key_size, query_size, bias=False)

    def forward(
        self, query: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the context [batch, queries, key_size] and the weights [batch, queries, positions]."""
        return attend(query @ self.key_proj(keys).transpose(1, 2), keys, mask)
