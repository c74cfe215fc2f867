"""The gradient of a BERT classifier's score with respect to its word vectors, written out without autograd.

Autograd cannot be exported to ONNX; these formulas can, so that a server computes integrated gradients without torch.
They hold for inference: no dropout. A test compares them with autograd.

Shapes: x, gradients [batch, tokens, dim]; heads [batch, heads, tokens, head_dim]; mask bool [batch, tokens].
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from dlcommon.transformer.bert import BertForSequenceClassification
from dlcommon.transformer.encoder import TransformerEncoderLayer
from torch import nn
from torch.nn import functional as F

Backward = Callable[[torch.Tensor], torch.Tensor]
"""Maps the gradient of an output to that of the input."""


def linear_backward(layer: Any, gradient: torch.Tensor) -> torch.Tensor:
    """Maps the gradient of W x + b to that of x: g W."""
    mapped: torch.Tensor = gradient @ layer.weight
    return mapped


def norm(layer: nn.LayerNorm, x: torch.Tensor) -> tuple[torch.Tensor, Backward]:
    """Normalizes x̂ = (x − mean) / σ, y = γ x̂ + β; backward: (h − mean(h) − x̂ mean(h x̂)) / σ with h = γ g."""
    centered = x - x.mean(dim=-1, keepdim=True)
    inverse = (centered.square().mean(dim=-1, keepdim=True) + layer.eps).rsqrt()  # 1 / σ
    normalized = centered * inverse

    def backward(gradient: torch.Tensor) -> torch.Tensor:
        h = gradient * layer.weight
        along = (h * normalized).mean(dim=-1, keepdim=True)
        return inverse * (h - h.mean(dim=-1, keepdim=True) - normalized * along)

    return normalized * layer.weight + layer.bias, backward


def gelu(x: torch.Tensor) -> tuple[torch.Tensor, Backward]:
    """Computes x Φ(x), whose derivative is Φ(x) + x φ(x)."""
    cumulative = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    density = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return x * cumulative, lambda gradient: gradient * (cumulative + x * density)


def layer_with_backward(
    layer: TransformerEncoderLayer, x: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, Backward]:
    """Applies one post-norm layer; attention, sum and norm, feed-forward, sum and norm."""
    attention, feed_forward = layer.self_attention, layer.feed_forward
    heads = attention.num_heads
    scale = 1 / math.sqrt(x.size(-1) // heads)

    def split(features: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = features.shape
        return features.view(batch, tokens, heads, dim // heads).transpose(1, 2)

    def merge(features: torch.Tensor) -> torch.Tensor:
        return features.transpose(1, 2).flatten(start_dim=2)

    query, key, value = (split(part(x)) for part in (attention.query_proj, attention.key_proj, attention.value_proj))
    logits = scale * query @ key.transpose(-2, -1)  # [batch, heads, queries, keys]
    weights = logits.masked_fill(~mask[:, None, None, :], -1e9).softmax(dim=-1)
    attended, attention_norm = norm(layer.attention_residual.norm, x + attention.out_proj(merge(weights @ value)))
    hidden, gelu_backward = gelu(feed_forward.up_proj(attended))
    output, output_norm = norm(layer.feed_forward_residual.norm, attended + feed_forward.down_proj(hidden))

    def backward(gradient: torch.Tensor) -> torch.Tensor:
        gradient = output_norm(gradient)
        inner = gelu_backward(linear_backward(feed_forward.down_proj, gradient))
        gradient = attention_norm(gradient + linear_backward(feed_forward.up_proj, inner))
        heads_gradient = split(linear_backward(attention.out_proj, gradient))
        value_gradient = weights.transpose(-2, -1) @ heads_gradient
        weights_gradient = heads_gradient @ value.transpose(-2, -1)
        # Softmax: p (g − Σ g p)
        logits_gradient = weights * (weights_gradient - (weights_gradient * weights).sum(dim=-1, keepdim=True))
        query_gradient = scale * logits_gradient @ key
        key_gradient = scale * logits_gradient.transpose(-2, -1) @ query
        return (
            gradient
            + linear_backward(attention.query_proj, merge(query_gradient))
            + linear_backward(attention.key_proj, merge(key_gradient))
            + linear_backward(attention.value_proj, merge(value_gradient))
        )

    return output, backward


def word_gradient(
    network: BertForSequenceClassification, words: torch.Tensor, mask: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    """Computes the gradient of Σ direction · logits with respect to word vectors, [batch, tokens, dim].

    Args:
        network: with mean pooling, in eval mode.
        words: word vectors, [batch, tokens, dim].
        mask: true for tokens, false for padding.
        direction: weight of each class's logit, [batch, classes].
    """
    embeddings = network.bert.embeddings
    positions = embeddings.position(torch.arange(words.size(1), device=words.device))
    x, first = norm(embeddings.norm, words + embeddings.segment.weight[0] + positions)
    backwards = [first]
    for layer in network.bert.encoder.layers:
        x, backward = layer_with_backward(layer, x, mask)
        backwards.append(backward)
    share = mask.to(x.dtype)[:, :, None]
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1)  # the mean's weight of each token
    gradient = F.linear(direction, network.classifier.weight.T)[:, None, :] * share
    for backward in reversed(backwards):
        gradient = backward(gradient)
    return gradient
