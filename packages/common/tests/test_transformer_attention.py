"""Attention against torch's, in value and gradient, and against its own shortcuts."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.transformer.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from torch import nn
from torch.nn import functional as F

BATCH, HEADS, QUERIES, KEYS, DIM = 2, 3, 4, 5, 12
LENGTHS = torch.tensor([5, 3])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values; values may be wider than keys."""
    return (
        random(BATCH, HEADS, QUERIES, 6).requires_grad_(),
        random(BATCH, HEADS, KEYS, 6, seed=1).requires_grad_(),
        random(BATCH, HEADS, KEYS, 7, seed=2).requires_grad_(),
    )


def dead_row() -> torch.Tensor:
    mask = random(BATCH, 1, QUERIES, KEYS, seed=9) > 0
    mask[..., 0] = True
    mask[1, :, 2] = False  # one query of the second sequence may attend to nothing
    return mask


MASKS = {
    "none": None,
    "padding": padding_mask(LENGTHS, KEYS),
    "causal": causal_mask(QUERIES, KEYS - QUERIES),
    "bias": random(HEADS, QUERIES, KEYS, seed=8),
    "nothing to attend to": dead_row(),
    "nothing to attend to, as a bias": torch.zeros(BATCH, 1, QUERIES, KEYS, dtype=torch.float64).masked_fill(
        ~dead_row(), -torch.inf
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_equals_torchs_in_value_and_gradient(name: str) -> None:
    inputs, mask = heads(), MASKS[name]
    ours, weights = scaled_dot_product_attention(*inputs, mask)
    theirs = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(weights @ inputs[2], ours, rtol=1e-10, atol=1e-12)
    upstream = random(*ours.shape, seed=7)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        rtol=1e-9,
        atol=1e-12,
    )


def test_a_query_that_may_attend_to_nothing_gets_zeros_and_no_gradient() -> None:
    inputs = heads()
    output, weights = scaled_dot_product_attention(*inputs, dead_row())
    assert not output[1, :, 2].any()
    assert not weights[1, :, 2].any()
    gradients = torch.autograd.grad(output[1, :, 2].sum(), inputs)
    assert not any(gradient.any() for gradient in gradients)
    others = weights.sum(dim=-1)
    others[1, :, 2] = 1
    torch.testing.assert_close(others, torch.ones_like(others))


def test_dropout_zeroes_weights_and_scales_the_rest() -> None:
    torch.manual_seed(0)
    query, key, value = (random(1, 1, 200, 4, seed=seed) for seed in range(3))
    _, full = scaled_dot_product_attention(query, key, value)
    output, weights = scaled_dot_product_attention(query, key, value, dropout=0.25)
    dropped = weights == 0
    assert float(dropped.double().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(weights[~dropped], full[~dropped] / 0.75)
    torch.testing.assert_close(output, weights @ value)


def test_a_mask_of_integers_is_refused() -> None:
    inputs, mask = heads(), torch.ones(QUERIES, KEYS, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"not torch\.int64; use mask\.bool\(\)"):
        scaled_dot_product_attention(*inputs, mask)
    for need_weights in (False, True):
        with pytest.raises(TypeError, match=r"use mask\.bool\(\)"):
            network()(random(BATCH, QUERIES, DIM), random(BATCH, KEYS, DIM), mask=mask, need_weights=need_weights)


def test_the_masks_are_what_their_names_say() -> None:
    assert causal_mask(3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert causal_mask(2, cached=2).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    mask = padding_mask(torch.tensor([2, 0]), 3)
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].int().tolist() == [[1, 1, 0], [0, 0, 0]]


def network(dropout: float = 0.0, bias: bool = True) -> MultiHeadAttention:
    torch.manual_seed(0)
    attention = MultiHeadAttention(DIM, HEADS, dropout=dropout, bias=bias).double()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.1)  # biases that matter
    return attention


def torchs(ours: MultiHeadAttention) -> nn.MultiheadAttention:
    bias = ours.out_proj.bias is not None
    theirs = nn.MultiheadAttention(DIM, HEADS, dropout=ours.dropout, bias=bias, batch_first=True).double()
    projections = (ours.query_proj, ours.key_proj, ours.value_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
            theirs.out_proj.bias.copy_(ours.out_proj.bias)
    return theirs


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_equals_torchs_in_value_and_gradient(bias: bool, cross: bool, need_weights: bool) -> None:
    ours = network(bias=bias)
    theirs = torchs(ours)
    memory = random(BATCH, KEYS, DIM, seed=1).requires_grad_()
    x = random(BATCH, QUERIES, DIM, seed=2).requires_grad_() if cross else memory
    hidden = ~padding_mask(LENGTHS, KEYS)[:, 0, 0]  # torch's: true is forbidden
    found, weights = ours(x, memory if cross else None, mask=padding_mask(LENGTHS, KEYS), need_weights=need_weights)
    expected, expected_weights = theirs(
        x, memory, memory, key_padding_mask=hidden, need_weights=need_weights, average_attn_weights=False
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-10, atol=1e-12)
    upstream = random(*found.shape, seed=3)
    names = [name for name, _ in ours.named_parameters()]
    inputs = (x, memory) if cross else (memory,)
    mine = torch.autograd.grad(found, (*inputs, *ours.parameters()), upstream)
    parameters = [theirs.in_proj_weight, theirs.out_proj.weight]
    if bias:
        parameters += [theirs.in_proj_bias, theirs.out_proj.bias]
    reference = torch.autograd.grad(expected, (*inputs, *parameters), upstream)
    torch.testing.assert_close(mine[: len(inputs)], reference[: len(inputs)], rtol=1e-9, atol=1e-11)
    by_name = dict(zip(names, mine[len(inputs) :], strict=True))
    kinds = ["weight", "bias"] if bias else ["weight"]
    packed = [torch.cat([by_name[f"{part}_proj.{kind}"] for part in ("query", "key", "value")]) for kind in kinds]
    outer = [by_name[f"out_proj.{kind}"] for kind in kinds]
    in_order = [gradient for pair in zip(packed, outer, strict=True) for gradient in pair]
    torch.testing.assert_close(in_order, list(reference[len(inputs) :]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MASKS)
def test_asking_for_the_weights_changes_no_output_and_no_gradient(name: str) -> None:
    attention, mask = network(), MASKS[name]
    x, memory = random(BATCH, QUERIES, DIM).requires_grad_(), random(BATCH, KEYS, DIM, seed=1).requires_grad_()
    fused, nothing = attention(x, memory, mask=mask)
    plain, weights = attention(x, memory, mask=mask, need_weights=True)
    assert nothing is None
    assert weights.shape == (BATCH, HEADS, QUERIES, KEYS)
    torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(fused.square().sum(), (x, memory)),
        torch.autograd.grad(plain.square().sum(), (x, memory)),
        rtol=1e-9,
        atol=1e-12,
    )


def test_token_by_token_with_caches_equals_all_at_once() -> None:
    attention, x = network().eval(), random(BATCH, KEYS, DIM)
    expected, _ = attention(x, mask=causal_mask(KEYS))
    cache = attention.project_keys_values(x[:, :0])  # [batch, heads, 0, head_dim]
    outputs = []
    for start, end in ((0, 2), (2, 3), (3, 5)):
        new = x[:, start:end]
        cache = cache.append(attention.project_keys_values(new))
        output, _ = attention.attend(new, cache, mask=causal_mask(end - start, cached=start))
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), expected, rtol=1e-10, atol=1e-12)


def test_dropout_is_for_training_only_and_on_both_paths() -> None:
    attention, x = network(dropout=0.5), random(BATCH, KEYS, DIM)
    for need_weights in (False, True):
        attention.train()
        assert not torch.equal(attention(x, need_weights=need_weights)[0], attention(x, need_weights=need_weights)[0])
        attention.eval()
        torch.testing.assert_close(attention(x, need_weights=need_weights)[0], network()(x)[0])


def test_a_bias_of_float32_fits_features_of_bfloat16() -> None:
    attention, x = network().bfloat16(), random(BATCH, KEYS, DIM).bfloat16()
    bias = random(HEADS, KEYS, KEYS, seed=1).float()
    torch.testing.assert_close(
        attention(x, mask=bias)[0].double(), network()(x.double(), mask=bias.double())[0], rtol=0.05, atol=0.05
    )


def test_features_that_cannot_be_split_into_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="dim 10 must be a multiple of num_heads 3"):
        MultiHeadAttention(10, 3)


class _Exported(nn.Module):
    """Attends to `memory` of given lengths, and shows the weights as well."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = network().float().eval()

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        own, _ = self.attention(x, mask=causal_mask(x.size(1)))
        mask = padding_mask(lengths, memory.size(1))
        fused, _ = self.attention(own, memory, mask=mask)
        plain, weights = self.attention(own, memory, mask=mask, need_weights=True)
        return fused, plain, weights


def test_the_exported_graph_equals_torch_at_other_sizes(tmp_path: Path) -> None:
    def inputs(batch: int, queries: int, lengths: list[int]) -> dict[str, np.ndarray]:
        x, memory = random(batch, queries, DIM).float(), random(batch, max(lengths), DIM, seed=1).float()
        return {"x": x.numpy(), "memory": memory.numpy(), "lengths": np.array(lengths)}

    module = _Exported()
    graph = ExportGraph(
        module,
        inputs(2, 4, [6, 3]),
        ("fused", "plain", "weights"),
        {},
        dynamic={"x": {1: "queries"}, "memory": {1: "keys"}},
    )
    write_onnx(graph, {}, tmp_path / "attention.onnx")
    session = ort.InferenceSession(tmp_path / "attention.onnx", providers=["CPUExecutionProvider"])
    other = inputs(3, 7, [2, 9, 0])  # the last has nothing to attend to
    found = session.run(None, other)
    with torch.no_grad():
        expected = module(*(torch.from_numpy(array) for array in other.values()))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


def test_training_in_bfloat16_gives_what_the_fused_kernel_gives() -> None:
    """Few tokens are attended to with plain products, since the kernel's backward pass is slow on a CPU."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 2)
    x, mask = torch.randn(3, 7, 16), padding_mask(torch.tensor([7, 4, 1]), 7)
    gradients, outputs = [], []
    for dtype in (torch.float32, torch.bfloat16):
        attention.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            output, weights = attention(x, mask=mask)
        assert weights is None
        output.float().square().sum().backward()
        outputs.append(output.detach().float())
        gradients.append(torch.cat([p.grad.flatten() for p in attention.parameters() if p.grad is not None]))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0.05, atol=0.02)
    assert torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.999
