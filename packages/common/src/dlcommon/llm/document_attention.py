"""Attention of packed documents, one document at a time instead of one mask over the whole row.

A row of 16 documents has 16 times as many pairs of tokens as its documents have among themselves, and a mask only hides
the others: they are computed all the same. Here the documents of all rows are laid side by side as a padded batch for
attention alone; every linear layer still sees the packed row, without padding.

Shapes: queries [rows, heads, tokens, head_dim], keys and values [rows, kv heads, tokens, head_dim].
"""

import torch
from torch.nn import functional as F


class DocumentAttention:
    """Computes what attention with `document_mask(documents, prefix_length)` computes; in padding, zeros.

    `Llama` takes it in place of the mask. Made once for each batch.

    Args:
        documents: numbers as of `document_numbers`, [rows, tokens].
        prefix_length: tokens of the first document of each row that all others continue; 0 where they are unrelated.
    """

    def __init__(self, documents: torch.Tensor, prefix_length: int = 0) -> None:
        tokens = documents.size(1)
        flat = documents.flatten()
        place = torch.arange(len(flat), device=flat.device)
        begins = torch.ones_like(flat, dtype=torch.bool)
        begins[1:] = (flat[1:] != flat[:-1]) | (place[1:] % tokens == 0)
        begins &= flat > 0
        starts = place[begins]  # [documents]
        number = begins.cumsum(0) - 1  # of each token's document among those of all rows
        lengths = torch.bincount(number[flat > 0], minlength=len(starts))
        self.longest = int(lengths.max()) if len(starts) else 0
        self.count = len(starts)
        self.tokens = place[flat > 0]
        """Places of the documents' tokens in the flattened rows."""
        self.padded = (number * self.longest + place - starts[number.clamp(min=0)])[flat > 0]
        """Their places in the flattened batch [documents · longest]."""
        self.prefix_length = prefix_length
        row = starts // tokens
        self.prefix = row[:, None] * tokens + torch.arange(prefix_length, device=flat.device)
        """Places of the prefix that each document continues, [documents, prefix_length]."""
        own = torch.ones(self.longest, self.longest, dtype=torch.bool, device=flat.device).tril()
        continues = (starts % tokens != 0)[:, None, None].expand(-1, self.longest, prefix_length)
        # Padding stands behind a document, so that the causal order hides it from the document's own tokens.
        self.mask = torch.cat((continues, own.expand(self.count, -1, -1)), dim=2)[:, None]
        """True where a token may attend: [documents, 1, longest, prefix_length + longest]."""

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Attends from each document's tokens to the prefix and to themselves; returns a tensor like `query`."""
        flat = [x.transpose(1, 2).flatten(0, 1) for x in (query, keys, values)]  # [rows · tokens, heads, head_dim]
        queries, own_keys, own_values = (self._pad(x) for x in flat)  # [documents, heads, longest, head_dim]
        if self.prefix_length:
            own_keys, own_values = (
                torch.cat((x[self.prefix].transpose(1, 2), own), dim=2)
                for x, own in zip(flat[1:], (own_keys, own_values), strict=True)
            )
        attended = _attention(queries, own_keys, own_values, self.mask)
        chosen = attended.transpose(1, 2).flatten(0, 1).index_select(0, self.padded)  # [tokens of documents, heads, …]
        rows, _, tokens, _ = query.shape
        output = torch.zeros_like(flat[0]).index_copy(0, self.tokens, chosen)
        output = output.view(rows, tokens, *output.shape[1:])
        return output.transpose(1, 2)

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [rows · tokens, heads, head_dim] to [documents, heads, longest, head_dim]."""
        padded = x.new_zeros(self.count * self.longest, *x.shape[1:])
        if len(self.tokens) < len(x):  # the rows have padding
            x = x.index_select(0, self.tokens)
        padded = padded.index_copy(0, self.padded, x)
        return padded.view(self.count, self.longest, *x.shape[1:]).transpose(1, 2)


def _attention(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Computes attention by the quickest way: torch's fused kernel, or on the CPU two batched products.

    torch's kernel for the CPU is made for long texts: backward in bfloat16, over 16 documents of 50 tokens, it takes
    8.6 ms a layer of SmolLM2, and the two products 1.1 ms.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)
    batch, heads, tokens, head_dim = query.shape
    kv_heads, reading = keys.size(1), keys.size(2)
    # The query heads that share a head of keys and values stand one below the other.
    queries = (query * head_dim**-0.5).reshape(batch * kv_heads, -1, head_dim)
    scores = queries @ keys.reshape(batch * kv_heads, reading, head_dim).transpose(1, 2)
    scores = scores.view(batch, heads, tokens, reading).masked_fill(~mask, float("-inf"))
    with torch.autocast("cpu", enabled=False):  # which would write the weights in float32, only to round them again
        weights = scores.softmax(dim=-1).view(batch * kv_heads, -1, reading)
    attended: torch.Tensor = (weights @ values.reshape(batch * kv_heads, reading, head_dim)).view(query.shape)
    return attended
