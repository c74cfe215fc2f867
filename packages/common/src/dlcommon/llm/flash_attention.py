"""FlashAttention: exact attention tile by tile, without ever holding the matrix of weights (Dao et al. 2022).

Queries and keys are cut into blocks. A block of queries is compared with one block of keys after the other, and an
online softmax (Milakov & Gimelshein 2018, https://arxiv.org/abs/1805.02867) keeps what is needed to end with the
softmax over all keys: the largest logit so far, the sum of exponentials, and the output so far. The backward pass
computes the weights again, from the saved logarithm of that sum. This is FlashAttention-2 (Dao 2023,
https://arxiv.org/abs/2307.08691): algorithm 1, and algorithm 2 with its loops the other way round. On a GPU each is one
kernel, whose tiles stay in the chip's fast memory; here each line is an operation of torch, so that memory is saved but
no time.

Shapes: heads [batch, heads, tokens, head_dim]. Query i is token keys − queries + i, as with a cache of earlier keys.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch


def key_blocks(rows: slice, queries: int, keys: int, block_size: int, causal: bool) -> Iterator[slice]:
    """Cuts the keys into the blocks that the queries `rows` need: with a causal mask, none that all of them precede."""
    last = keys - queries + rows.stop if causal else keys  # one past the last key that the last query may attend to
    for start in range(0, min(last, keys), block_size):
        yield slice(start, min(start + block_size, keys))


def blocks(length: int, block_size: int) -> Iterator[slice]:
    """Cuts a sequence into blocks; the last one may be shorter."""
    for start in range(0, length, block_size):
        yield slice(start, min(start + block_size, length))


def _hidden(
    rows: slice, columns: slice, queries: int, keys: int, causal: bool, lengths: torch.Tensor | None
) -> torch.Tensor | None:
    """Computes which logits of a tile are masked, broadcastable to [batch, heads, block, block]; `None` if none is."""
    device = None if lengths is None else lengths.device
    column = torch.arange(columns.start, columns.stop, device=device)  # [block of keys]
    hidden = None
    if causal and columns.stop - 1 > keys - queries + rows.start:  # only tiles on the diagonal need it
        row = torch.arange(rows.start, rows.stop, device=device)[:, None]
        hidden = column > row + (keys - queries)
    if lengths is not None:
        padding = column >= lengths[:, None, None, None]  # [batch, 1, 1, block of keys]
        hidden = padding if hidden is None else hidden | padding
    return hidden


def _logits(query: torch.Tensor, key: torch.Tensor, hidden: torch.Tensor | None, scale: float) -> torch.Tensor:
    logits = query @ key.transpose(-2, -1) * scale  # [batch, heads, block of queries, block of keys]
    return logits if hidden is None else logits.masked_fill(hidden.to(logits.device), -torch.inf)


def online_softmax_step(
    maximum: torch.Tensor, total: torch.Tensor, output: torch.Tensor, logits: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Takes one more block of keys into an unfinished softmax.

    Exponentials are relative to the largest logit so far. If a block brings a larger one, what was summed before is
    scaled down by exp(old maximum − new maximum): the same factor everywhere, so that nothing has to be kept.

    Args:
        maximum: largest logit so far, [..., queries, 1]; −∞ before the first block.
        total: sum of exp(logit − maximum) so far, [..., queries, 1].
        output: sum of exp(logit − maximum) · value so far, [..., queries, value_dim].
        logits: of the new block, [..., queries, keys].
        value: of the new block, [..., keys, value_dim].

    Returns:
        The three, updated. Attention's output is `output / total` after the last block.
    """
    larger = torch.maximum(maximum, logits.amax(dim=-1, keepdim=True))
    reference = larger.masked_fill(larger == -torch.inf, 0.0)  # all masked so far: −∞ − (−∞) is not a number
    weights = (logits - reference).exp()
    rescale = (maximum - reference).exp()
    return larger, rescale * total + weights.sum(dim=-1, keepdim=True), rescale * output + weights @ value


class FlashAttention(torch.autograd.Function):
    """Implements `flash_attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: torch.Tensor | None,
        causal: bool,
        query_block: int,
        key_block: int,
    ) -> torch.Tensor:
        """Computes the output, and saves it with the logarithm of each query's sum of exponentials."""
        queries, keys, scale = query.size(-2), key.size(-2), 1 / math.sqrt(query.size(-1))
        output = torch.empty(*query.shape[:-1], value.size(-1), dtype=query.dtype, device=query.device)
        log_total = torch.empty(query.shape[:-1], dtype=_wide(query), device=query.device)  # [batch, heads, queries]
        for rows in blocks(queries, query_block):
            q = query[..., rows, :].to(_wide(query))
            maximum = q.new_full((*q.shape[:-1], 1), -torch.inf)
            total, o = torch.zeros_like(maximum), q.new_zeros(*q.shape[:-1], value.size(-1))
            for columns in key_blocks(rows, queries, keys, key_block, causal):
                k, v = key[..., columns, :].to(q.dtype), value[..., columns, :].to(q.dtype)
                logits = _logits(q, k, _hidden(rows, columns, queries, keys, causal, lengths), scale)
                maximum, total, o = online_softmax_step(maximum, total, o, logits, v)
            empty = total == 0  # a query that may attend to nothing gets 0
            output[..., rows, :] = o / total.masked_fill(empty, 1.0)
            # One number for each query is all that the backward pass needs: weight = exp(logit − log_total).
            log_total[..., rows] = (maximum + total.log()).masked_fill(empty, torch.inf).squeeze(-1)
        ctx.save_for_backward(query, key, value, output, log_total, lengths)
        ctx.options = (causal, query_block, key_block)
        return output

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradients of queries, keys and values from that of the output; other arguments get `None`.

        With P the weights, dO the output's gradient and D = rowsum(O ∘ dO): dV = Pᵀ dO, dP = dO Vᵀ, dS = P ∘ (dP − D),
        dQ = dS K · scale and dK = dSᵀ Q · scale.
        """
        query, key, value, output, log_total, lengths = ctx.saved_tensors
        causal, query_block, key_block = ctx.options
        queries, keys, scale = query.size(-2), key.size(-2), 1 / math.sqrt(query.size(-1))
        wide = _wide(query)
        query_grad, key_grad, value_grad = (torch.zeros_like(each, dtype=wide) for each in (query, key, value))
        # Σ_j weight_ij · (∂L/∂weight_ij) = output_i · (∂L/∂output_i): the softmax's gradient needs no row of weights.
        inner = (output.to(wide) * upstream[0].to(wide)).sum(dim=-1, keepdim=True)  # [batch, heads, queries, 1]
        for rows in blocks(queries, query_block):
            q, up = query[..., rows, :].to(wide), upstream[0][..., rows, :].to(wide)
            for columns in key_blocks(rows, queries, keys, key_block, causal):
                k, v = key[..., columns, :].to(wide), value[..., columns, :].to(wide)
                logits = _logits(q, k, _hidden(rows, columns, queries, keys, causal, lengths), scale)
                weights = (logits - log_total[..., rows, None]).exp()  # as they were, without a second softmax
                value_grad[..., columns, :] += weights.transpose(-2, -1) @ up
                logits_grad = weights * (up @ v.transpose(-2, -1) - inner[..., rows, :]) * scale
                query_grad[..., rows, :] += logits_grad @ k
                key_grad[..., columns, :] += logits_grad.transpose(-2, -1) @ q
        gradients = (
            grad.to(each.dtype)
            for grad, each in zip((query_grad, key_grad, value_grad), (query, key, value), strict=True)
        )
        return (*gradients, None, None, None, None)


def _wide(x: torch.Tensor) -> torch.dtype:
    """Chooses the dtype of sums: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    causal: bool = False,
    lengths: torch.Tensor | None = None,
    query_block: int = 64,
    key_block: int = 64,
) -> torch.Tensor:
    """Computes softmax(Q Kᵀ / √head_dim) V in tiles; equals `scaled_dot_product_attention` in value and gradient.

    A query that may attend to no key gets zeros.

    Args:
        query: [batch, heads, queries, head_dim].
        key: [batch, heads, keys, head_dim].
        value: [batch, heads, keys, value_dim].
        causal: whether query i attends to keys 0 … keys − queries + i only, as by `causal_mask`.
        lengths: how many keys of each sequence are no padding, [batch], as for `padding_mask`.
        query_block: queries in a tile.
        key_block: keys in a tile.

    Returns:
        [batch, heads, queries, value_dim].

    Raises:
        ValueError: a block has no tokens, or there are more queries than keys under a causal mask.
    """
    if query_block < 1 or key_block < 1:
        raise ValueError(f"blocks must hold at least one token, not {query_block} queries and {key_block} keys")
    if causal and query.size(-2) > key.size(-2):
        raise ValueError(f"{query.size(-2)} queries are more than {key.size(-2)} keys; each query is one of the keys")
    result: torch.Tensor = FlashAttention.apply(query, key, value, lengths, causal, query_block, key_block)
    return result
