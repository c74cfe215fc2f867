"""The Transformer's encoder: layers of self-attention and a feed-forward network (Vaswani et al. 2017, section 3).

Shapes: features [batch, tokens, dim]; attention weights of a layer [batch, heads, queries, keys]. A mask is boolean,
true where a query may attend to a key, or a float bias, and is broadcast to the shape of the weights, as in
`dlcommon.transformer.attention`.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dlcommon.transformer.attention import MultiHeadAttention

Activation = Literal["relu", "gelu"]
ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class FeedForward(nn.Module):
    """Computes W_down activation(W_up x + b_up) + b_down for each token by itself (equation 2).

    Args:
        dim: width of the features.
        hidden_dim: width between the two matrices, usually 4 · dim.
        dropout: probability of zeroing a hidden unit while training.
        activation: "relu", as in the paper, or "gelu", as in BERT and GPT-2.
    """

    def __init__(self, dim: int, hidden_dim: int, *, dropout: float = 0.1, activation: Activation = "relu") -> None:
        super().__init__()
        self.up_proj, self.down_proj = nn.Linear(dim, hidden_dim), nn.Linear(hidden_dim, dim)
        self.dropout, self.activation = nn.Dropout(dropout), ACTIVATIONS[activation]
        for projection in (self.up_proj, self.down_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, tokens, dim] to the same; no token sees another."""
        hidden = self.dropout(self.activation(self.up_proj(x)))  # [batch, tokens, hidden_dim]
        output: torch.Tensor = self.down_proj(hidden)
        return output


class Residual(nn.Module):
    """Adds a sublayer's output to its input, with layer normalization before the sublayer or after the sum.

    Pre-norm (Xiong et al. 2020, https://arxiv.org/abs/2002.04745) computes x + sublayer(norm(x)), post-norm (Vaswani et
    al. 2017, section 3.1) norm(x + sublayer(x)); in both, dropout is applied to the sublayer's output.

    Args:
        dim: width of the features.
        dropout: probability of zeroing an output of the sublayer while training.
        norm_first: whether to normalize before the sublayer.
        layer_norm_eps: added to the variance.
    """

    def __init__(
        self, dim: int, *, dropout: float = 0.1, norm_first: bool = True, layer_norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.norm, self.dropout, self.norm_first = nn.LayerNorm(dim, layer_norm_eps), nn.Dropout(dropout), norm_first

    def sublayer_input(self, x: torch.Tensor) -> torch.Tensor:
        """Returns what the sublayer is to compute on: norm(x) in pre-norm, x itself in post-norm."""
        return self.norm(x) if self.norm_first else x

    def add(self, x: torch.Tensor, sublayer_output: torch.Tensor) -> torch.Tensor:
        """Adds the sublayer's output to its x, and in post-norm normalizes the sum."""
        total: torch.Tensor = x + self.dropout(sublayer_output)
        return total if self.norm_first else self.norm(total)


class TransformerEncoderLayer(nn.Module):
    """Lets every token attend to all, then applies a feed-forward network to each.

    Equals `torch.nn.TransformerEncoderLayer(dim, num_heads, feedforward_dim, batch_first=True)` with the same weights.

    Args:
        dim: width of the features.
        num_heads: number of attention heads, each dim / num_heads wide.
        feedforward_dim: width of the hidden layer.
        dropout: probability of zeroing an attention weight, a hidden unit or a sublayer's output while training.
        norm_first: whether each sublayer is normalized before (pre-norm) or after (post-norm).
        activation: "relu" or "gelu".
        hidden_dropout: probability of zeroing a hidden unit, if it is not `dropout`; BERT zeroes none.
        layer_norm_eps: added to the variance in layer normalization.

    Raises:
        ValueError: `dim` is no multiple of `num_heads`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        *,
        dropout: float = 0.1,
        norm_first: bool = True,
        activation: Activation = "relu",
        hidden_dropout: float | None = None,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, num_heads, dropout=dropout)
        hidden_dropout = dropout if hidden_dropout is None else hidden_dropout
        self.feed_forward = FeedForward(dim, feedforward_dim, dropout=hidden_dropout, activation=activation)
        self.attention_residual, self.feed_forward_residual = (
            Residual(dim, dropout=dropout, norm_first=norm_first, layer_norm_eps=layer_norm_eps) for _ in range(2)
        )

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps features [batch, tokens, dim] to the same.

        Args:
            x: features.
            mask: broadcastable to [batch, heads, tokens, tokens]; `padding_mask` hides what follows a sequence's end.
            need_weights: whether the attention weights are returned.

        Returns:
            The features, and the weights [batch, heads, queries, keys] or `None`.
        """
        attended, weights = self.self_attention(
            self.attention_residual.sublayer_input(x), mask=mask, need_weights=need_weights
        )
        x = self.attention_residual.add(x, attended)  # [batch, tokens, dim]
        transformed = self.feed_forward(self.feed_forward_residual.sublayer_input(x))
        return self.feed_forward_residual.add(x, transformed), weights


class TransformerEncoder(nn.Module):
    """Applies `num_layers` encoder layers one after the other; arguments as of `TransformerEncoderLayer`.

    In pre-norm a final layer normalization follows, since the sum of all sublayers' outputs would leave unnormalized.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        feedforward_dim: int,
        num_layers: int,
        *,
        dropout: float = 0.1,
        norm_first: bool = True,
        activation: Activation = "relu",
        hidden_dropout: float | None = None,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        layers = nn.ModuleList(
            TransformerEncoderLayer(
                dim,
                num_heads,
                feedforward_dim,
                dropout=dropout,
                norm_first=norm_first,
                activation=activation,
                hidden_dropout=hidden_dropout,
                layer_norm_eps=layer_norm_eps,
            )
            for _ in range(num_layers)
        )
        # A ModuleList does not know the type of its modules.
        self.layers = cast("Sequence[TransformerEncoderLayer]", layers)
        self.norm = nn.LayerNorm(dim, layer_norm_eps) if norm_first else nn.Identity()
        self.gradient_checkpointing = False
        """Whether training keeps only each layer's input and computes the rest again in the backward pass."""

    def forward(
        self, x: torch.Tensor, mask: torch.Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Maps features [batch, tokens, dim] to the same.

        Returns:
            The features, and the attention weights of all layers [batch, layers, heads, queries, keys] or `None`.
        """
        layer_weights = []
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:  # Chen et al. 2016, https://arxiv.org/abs/1604.06174
                x, weights = checkpoint(layer, x, mask, need_weights=need_weights, use_reentrant=False)
            else:
                x, weights = layer(x, mask, need_weights=need_weights)
            layer_weights.append(weights)
        return self.norm(x), stack_weights(layer_weights)


def stack_weights(layers: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Stacks the attention weights of all layers, [batch, layers, heads, queries, keys], if they were asked for."""
    present = [weights for weights in layers if weights is not None]
    return torch.stack(present, dim=1) if present else None
