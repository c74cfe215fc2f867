"""Positional encodings against transformers' and against the formulas of their papers."""

from typing import Any

import pytest
import torch
from dlcommon.transformer.attention import causal_mask, scaled_dot_product_attention
from dlcommon.transformer.positional_encoding import (
    LearnedPositionalEmbedding,
    RelativePositionBias,
    alibi_bias,
    alibi_slopes,
    relative_position_bucket,
    relative_positions,
    sinusoidal_encoding,
)
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin
from transformers import LlamaConfig, T5Config
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.pegasus.modeling_pegasus import PegasusSinusoidalPositionalEmbedding
from transformers.models.t5.modeling_t5 import T5Attention


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sinusoidal_encoding_is_the_papers_formula_and_transformers() -> None:
    ours = sinusoidal_encoding(torch.arange(300), 10)
    positions, pairs = torch.arange(300).double()[:, None], torch.arange(5).double()
    angles = positions / 10_000 ** (2 * pairs / 10)
    # Angles are float32: one of 300 radians is known to 300 · 2^−24, about 2e-5.
    torch.testing.assert_close(ours[:, 0::2].double(), angles.sin(), rtol=0, atol=5e-5)
    torch.testing.assert_close(ours[:, 1::2].double(), angles.cos(), rtol=0, atol=5e-5)
    theirs: Any = PegasusSinusoidalPositionalEmbedding(300, 10)
    torch.testing.assert_close(
        torch.cat((ours[:, 0::2], ours[:, 1::2]), dim=1), theirs.create_weight(), rtol=0, atol=5e-5
    )


def test_sinusoidal_encoding_is_defined_for_any_position_and_even_width() -> None:
    positions = torch.tensor([[3, 100_000], [0, 7]])
    assert sinusoidal_encoding(positions, 8).shape == (2, 2, 8)
    torch.testing.assert_close(sinusoidal_encoding(positions, 8)[1, 0], torch.tensor([0.0, 1.0] * 4))
    with pytest.raises(ValueError, match="dim must be even, not 7"):
        sinusoidal_encoding(positions, 7)


def test_learned_embedding_returns_the_rows_asked_for_and_learns_only_those() -> None:
    embedding = LearnedPositionalEmbedding(6, 4)
    assert torch.equal(embedding(2, start=3), embedding.weight[3:5])
    embedding(2, start=3).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.sum(dim=1).tolist() == [0, 0, 0, 4, 4, 0]
    assert len(embedding(6)) == 6
    with pytest.raises(ValueError, match="position 6 has no embedding: there are 6"):
        embedding(3, start=4)


@pytest.mark.parametrize("num_heads", [1, 2, 6, 8, 12, 16])
def test_alibi_equals_blooms_once_the_softmax_is_taken(num_heads: int) -> None:
    tokens = 9
    theirs = build_alibi_tensor(torch.ones(1, tokens), num_heads, torch.float32)
    mask = causal_mask(tokens)
    logits = random(num_heads, tokens, tokens)
    # BLOOM adds slope · key position: the same up to a constant of each query, which the softmax ignores.
    expected = (logits + theirs).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    found = (logits + alibi_bias(num_heads, tokens)).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_alibi_is_slope_times_distance() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-power for power in range(1, 9)]
    assert alibi_bias(8, 3)[0].tolist() == [[0, -0.5, -1], [-0.5, 0, -0.5], [-1, -0.5, 0]]
    torch.testing.assert_close(alibi_bias(3, 2, cached=4), alibi_bias(3, 6)[:, 4:])


def test_relative_positions_count_from_the_query() -> None:
    assert relative_positions(2, cached=2).tolist() == [[-2, -1, 0, 1], [-3, -2, -1, 0]]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (12, 64), (4, 3)])
def test_buckets_are_t5s(bidirectional: bool, num_buckets: int, max_distance: int) -> None:
    distances = torch.arange(-600, 601)
    ours = relative_position_bucket(
        distances, bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance
    )
    t5: Any = T5Attention
    theirs = t5._relative_position_bucket(distances, bidirectional, num_buckets, max_distance)
    assert torch.equal(ours, theirs)
    assert set(ours.tolist()) <= set(range(num_buckets))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_position_bias_is_t5s_in_value_and_gradient(bidirectional: bool) -> None:
    config = T5Config(num_heads=3, is_decoder=not bidirectional)
    theirs: Any = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = RelativePositionBias(3, bidirectional=bidirectional)
    with torch.no_grad():
        ours.weight.copy_(random(32, 3))
        theirs.relative_attention_bias.weight.copy_(ours.weight)
    found, expected = ours(200), theirs.compute_bias(200, 200)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    upstream = random(3, 200, 200, seed=1)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.relative_attention_bias.weight.grad, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(ours(3, cached=20), ours(23)[:, 20:])


def test_buckets_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="num_buckets must be at least 4, not 3"):
        RelativePositionBias(2, num_buckets=3)
    with pytest.raises(ValueError, match="max_distance 8 must be above 8"):
        RelativePositionBias(2, max_distance=8)
    assert RelativePositionBias(2, bidirectional=False, num_buckets=2)(5).shape == (2, 5, 5)


def test_rotary_embedding_equals_llamas_in_value_and_gradient() -> None:
    query, key = random(2, 3, 9, 8).requires_grad_(), random(2, 3, 9, 8, seed=1).requires_grad_()
    config = LlamaConfig(hidden_size=24, num_attention_heads=3)
    positions = torch.arange(9)[None]
    theirs = apply_rotary_pos_emb(query, key, *LlamaRotaryEmbedding(config)(query, positions))
    turned = rotary_cos_sin(torch.arange(9), 8)
    ours = (apply_rotary_emb(query, *turned), apply_rotary_emb(key, *turned))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    (found, _), (expected, _) = (scaled_dot_product_attention(each[0], each[1], key) for each in (ours, theirs))
    torch.testing.assert_close(
        torch.autograd.grad(found.square().sum(), (query, key)),
        torch.autograd.grad(expected.square().sum(), (query, key)),
        rtol=1e-4,
        atol=1e-5,
    )
