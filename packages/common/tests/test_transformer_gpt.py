"""GPT and its parts against torch and against the formulas they come from."""

import math
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from dlcommon.transformer.gpt import GPT, CausalSelfAttention, GPTConfig
from dlcommon.transformer.kv_cache import KVCache
from dlcommon.transformer.rms_norm import RMSNorm, rms_norm
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin
from torch.nn import functional as F

CONFIG = GPTConfig(vocab_size=11, context_length=16, num_layers=3, num_heads=2, dim=16)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


Network = TypeVar("Network", bound=torch.nn.Module)


def trained_looking(network: Network) -> Network:
    """Weights that are zero at the start are made to matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(CONFIG.vocab_size, (batch, length), generator=torch.Generator().manual_seed(1))


def test_rms_norm_is_torchs_in_value_and_gradient() -> None:
    ours, theirs = (random(4, 5, 8).requires_grad_() for _ in range(2))
    layer = RMSNorm(8)
    with torch.no_grad():
        layer.weight.copy_(random(8, seed=1))
    upstream = random(4, 5, 8, seed=2)
    found = layer(ours)
    expected = F.rms_norm(theirs, (8,), layer.weight.detach(), eps=1e-6)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


def test_rms_norm_of_bfloat16_is_computed_in_float32() -> None:
    x = (100 * random(64, 256)).bfloat16()
    expected = F.rms_norm(x.float(), (256,), eps=1e-6)
    torch.testing.assert_close(rms_norm(x).float(), expected, rtol=2**-8, atol=0)


def test_rotation_is_multiplication_by_a_complex_phase() -> None:
    x = random(2, 3, 7, 10).double()
    cos, sin = rotary_cos_sin(torch.arange(7), 10)
    frequencies = 10_000.0 ** (-torch.arange(5).double() * 2 / 10)
    phase = torch.polar(torch.ones(7, 5).double(), torch.arange(7).double()[:, None] * frequencies)
    turned = torch.complex(x[..., :5], x[..., 5:]) * phase
    expected = torch.cat((turned.real, turned.imag), dim=-1)
    torch.testing.assert_close(apply_rotary_emb(x, cos, sin), expected, rtol=0, atol=1e-5)  # the angles are float32


def test_rotated_dot_products_see_only_the_distance() -> None:
    query, key = random(1, 1, 1, 8), random(1, 1, 1, 8, seed=1)

    def product(at: int, to: int) -> float:
        turned = [
            apply_rotary_emb(x, *rotary_cos_sin(torch.tensor([place]), 8)) for x, place in ((query, at), (key, to))
        ]
        return float((turned[0] * turned[1]).sum())

    assert product(9, 4) == pytest.approx(product(105, 100), abs=1e-4)
    assert product(9, 4) != pytest.approx(product(9, 5), abs=1e-3)


def test_rotary_embedding_of_an_odd_head_is_refused() -> None:
    with pytest.raises(ValueError, match="even, not 7"):
        rotary_cos_sin(torch.arange(3), 7)
    with pytest.raises(ValueError, match="multiple of twice"):
        GPTConfig(vocab_size=3, dim=20, num_heads=3)


def test_attention_is_the_formula_token_by_token_in_value_and_gradient() -> None:
    attention = trained_looking(CausalSelfAttention(CONFIG))
    ours, plain = (random(2, 6, 16, seed=5).requires_grad_() for _ in range(2))
    angles = rotary_cos_sin(torch.arange(6), 8)
    found, _ = attention(ours, *angles)
    query, key, value = attention.qkv_proj(plain).view(2, 6, 3, 2, 8).unbind(2)  # each [batch, tokens, heads, head_dim]
    rows = []
    for token in range(6):
        heads = []
        for head in range(2):
            at = slice(token, token + 1)
            q = apply_rotary_emb(rms_norm(query[:, at, head])[:, None], angles[0][at], angles[1][at])[:, 0, 0]
            k = apply_rotary_emb(
                rms_norm(key[:, : token + 1, head])[:, None], angles[0][: token + 1], angles[1][: token + 1]
            )
            weights = (torch.einsum("bd,btd->bt", q, k[:, 0]) / 8**0.5).softmax(dim=1)
            heads.append(torch.einsum("bt,btd->bd", weights, value[:, : token + 1, head]))
        rows.append(torch.cat(heads, dim=1))
    expected = attention.out_proj(torch.stack(rows, dim=1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    upstream = random(2, 6, 16, seed=6)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-4, atol=1e-4)


def test_no_token_sees_those_behind_it() -> None:
    model, first = trained_looking(GPT(CONFIG)), tokens(1, 8)
    second = first.clone()
    second[0, 5:] = (second[0, 5:] + 1) % CONFIG.vocab_size
    torch.testing.assert_close(model(first)[:, :5], model(second)[:, :5])
    assert not torch.allclose(model(first)[:, 5:], model(second)[:, 5:])


@pytest.mark.parametrize("pieces", [[8], [1] * 8, [3, 1, 4]])
def test_decoding_with_a_cache_is_decoding_without(pieces: list[int]) -> None:
    model, ids = trained_looking(GPT(CONFIG)), tokens(2, 8)
    state, found, start = model.initial_state(2), [], 0
    for length in pieces:
        logits, state = model.step(ids[:, start : start + length], torch.full((2,), start), state)
        found.append(logits)
        start += length
    torch.testing.assert_close(torch.cat(found, dim=1), model(ids), rtol=1e-4, atol=1e-4)
    assert state[0].shape == (2, 3, 2, 8, 8)


def test_the_oldest_tokens_can_be_forgotten() -> None:
    model, ids = trained_looking(GPT(GPTConfig(vocab_size=11, num_layers=1, num_heads=2, dim=16))), tokens(1, 9)
    _, (keys, values) = model.step(ids[:, :8], torch.zeros(1, dtype=torch.long), model.initial_state(1))
    found, _ = model.step(ids[:, 8:], torch.tensor([8]), KVCache(keys[:, :, :, 3:], values[:, :, :, 3:]))
    # One layer: what it sees of a token does not depend on those before it.
    torch.testing.assert_close(found[:, 0], model(ids[:, 3:])[:, -1], rtol=1e-4, atol=1e-4)


def test_it_starts_with_no_opinion_and_learns_a_cycle() -> None:
    torch.manual_seed(0)
    model = GPT(CONFIG)
    cycle = (torch.arange(17) % 5)[None]
    assert F.cross_entropy(model(cycle[:, :-1])[0], cycle[0, 1:]).item() == pytest.approx(math.log(11))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(cycle[:, :-1])[0], cycle[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_the_exported_step_is_the_models_own_at_any_length(tmp_path: Path) -> None:
    import numpy as np
    from dlcommon.runtime.export.graph import ExportGraph
    from dlcommon.runtime.export.onnx_file import write_onnx
    from dlcommon.runtime.onnx_model import OnnxModel

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = trained_looking(GPT(CONFIG))

        def forward(
            self, ids: torch.Tensor, position: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
        ) -> tuple[torch.Tensor, ...]:
            logits, (keys, values) = self.model.step(ids, position, KVCache(keys, values))
            return logits, keys, values

    step, state = Step().eval(), np.zeros((2, 3, 2, 5, 8), np.float32)
    example = {"ids": np.zeros((2, 3), np.int64), "position": np.full(2, 5), "keys": state, "values": state}
    dynamic = {"ids": {1: "new"}, "keys": {3: "past"}, "values": {3: "past"}}
    graph = ExportGraph(step, example, ("logits", "next_keys", "next_values"), {}, dynamic=dynamic)
    write_onnx(graph, {}, tmp_path / "gpt.onnx")
    onnx, ids = OnnxModel(tmp_path / "gpt.onnx"), tokens(3, 9)
    keys = values = np.zeros((3, 3, 2, 0, 8), np.float32)
    found, start = [], 0
    for length in (4, 1, 1, 3):
        arrays = {"ids": ids[:, start : start + length].numpy(), "position": np.full(3, start)}
        outputs = onnx({**arrays, "keys": keys, "values": values})
        keys, values = outputs["next_keys"], outputs["next_values"]
        found.append(torch.from_numpy(outputs["logits"]))
        start += length
    torch.testing.assert_close(torch.cat(found, dim=1), step.model(ids), rtol=1e-4, atol=1e-4)
