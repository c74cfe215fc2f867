"""The cache that lets a decoder compute each token's attention keys and values only once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch


class KVCache(NamedTuple):
    """Holds the attention keys and values of the tokens seen so far, so that no token is computed twice.

    Inside one layer each tensor is [batch, heads, cached tokens, head_dim]. A whole model may stack its layers into
    one cache, [batch, layers, heads, cached tokens, head_dim].
    """

    keys: torch.Tensor
    values: torch.Tensor

    def append(self, new: "KVCache") -> "KVCache":
        """Returns a cache that holds these tokens and the new ones after them; neither of the two is changed."""
        return KVCache(torch.cat((self.keys, new.keys), dim=-2), torch.cat((self.values, new.values), dim=-2))

    @staticmethod
    def stack(layers: "Sequence[KVCache]") -> "KVCache":
        """Stacks the layers' caches into the whole model's: each tensor [batch, layers, heads, tokens, head_dim]."""
        keys, values = zip(*layers, strict=True)
        return KVCache(torch.stack(keys, dim=1), torch.stack(values, dim=1))

    def layer(self, number: int) -> "KVCache":
        """Returns one layer of the whole model's cache."""
        return KVCache(self.keys[:, number], self.values[:, number])
