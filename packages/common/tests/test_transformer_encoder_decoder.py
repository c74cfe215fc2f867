"""The Transformer's encoder and decoder against torch's, values and gradients, in float64."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from dlcommon.transformer.attention import causal_mask, padding_mask
from dlcommon.transformer.decoder import TransformerDecoder, TransformerDecoderLayer
from dlcommon.transformer.encoder import Activation, Residual, TransformerEncoder, TransformerEncoderLayer
from dlcommon.transformer.kv_cache import KVCache
from dlcommon.transformer.torch_names import torch_names
from torch import nn

DIM, HEADS, HIDDEN, LAYERS = 12, 3, 20, 2
LENGTHS = torch.tensor([5, 3])
NORM_ORDERS = pytest.mark.parametrize("norm_first", [True, False], ids=["pre-norm", "post-norm"])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Network = TypeVar("Network", bound=nn.Module)


def with_random_weights(module: Network) -> Network:
    """Weights that are 0 or 1 at the start, of biases and norms, are made to matter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def assert_same(
    ours: nn.Module,
    theirs: nn.Module,
    our_output: Callable[[], torch.Tensor],
    their_output: Callable[[], torch.Tensor],
    counted: torch.Tensor | None = None,
) -> None:
    """Compares values, and the gradients of all weights, where the bool `counted` is true."""
    theirs.double().load_state_dict(torch_names(ours.state_dict()))
    found, expected = our_output(), their_output()
    if counted is not None:
        found, expected = found[counted], expected[counted]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    upstream = random(*found.shape, seed=9)
    found.backward(upstream)
    expected.backward(upstream)
    found_gradients = torch_names({name: p.grad for name, p in ours.named_parameters() if p.grad is not None})
    expected_gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert found_gradients.keys() == expected_gradients.keys()
    torch.testing.assert_close(found_gradients, expected_gradients, rtol=1e-8, atol=1e-9)


@NORM_ORDERS
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_is_torchs(norm_first: bool, activation: Activation) -> None:
    ours = with_random_weights(
        TransformerEncoderLayer(DIM, HEADS, HIDDEN, dropout=0.0, norm_first=norm_first, activation=activation)
    )
    theirs = nn.TransformerEncoderLayer(
        DIM, HEADS, HIDDEN, 0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    x, keep = random(2, 5, DIM), padding_mask(LENGTHS, 5)
    assert_same(
        ours,
        theirs,
        lambda: ours(x, keep)[0],
        lambda: theirs(x, src_key_padding_mask=~keep[:, 0, 0]),
        counted=keep[:, 0, 0],
    )


@NORM_ORDERS
def test_encoder_is_torchs(norm_first: bool) -> None:
    ours = with_random_weights(TransformerEncoder(DIM, HEADS, HIDDEN, LAYERS, dropout=0.0, norm_first=norm_first))
    layer = nn.TransformerEncoderLayer(DIM, HEADS, HIDDEN, 0.0, batch_first=True, norm_first=norm_first)
    norm = nn.LayerNorm(DIM) if norm_first else None
    theirs = nn.TransformerEncoder(layer, LAYERS, norm, enable_nested_tensor=False)
    x, keep = random(2, 5, DIM), padding_mask(LENGTHS, 5)
    assert_same(
        ours,
        theirs,
        lambda: ours(x, keep)[0],
        lambda: theirs(x, src_key_padding_mask=~keep[:, 0, 0]),
        counted=keep[:, 0, 0],
    )


@NORM_ORDERS
def test_decoder_layer_is_torchs(norm_first: bool) -> None:
    ours = with_random_weights(TransformerDecoderLayer(DIM, HEADS, HIDDEN, dropout=0.0, norm_first=norm_first))
    theirs = nn.TransformerDecoderLayer(DIM, HEADS, HIDDEN, 0.0, batch_first=True, norm_first=norm_first)
    x, memory, keep = random(2, 4, DIM), random(2, 5, DIM, seed=1), padding_mask(LENGTHS, 5)
    assert_same(
        ours,
        theirs,
        lambda: ours(x, memory, memory_mask=keep)[0],
        lambda: theirs(x, memory, tgt_mask=~causal_mask(4), memory_key_padding_mask=~keep[:, 0, 0]),
    )


@NORM_ORDERS
def test_decoder_is_torchs_and_padding_behind_a_target_changes_nothing_before(norm_first: bool) -> None:
    ours = with_random_weights(TransformerDecoder(DIM, HEADS, HIDDEN, LAYERS, dropout=0.0, norm_first=norm_first))
    layer = nn.TransformerDecoderLayer(DIM, HEADS, HIDDEN, 0.0, batch_first=True, norm_first=norm_first)
    theirs = nn.TransformerDecoder(layer, LAYERS, nn.LayerNorm(DIM) if norm_first else None)
    x, memory, keep = random(2, 4, DIM), random(2, 5, DIM, seed=1), padding_mask(LENGTHS, 5)
    written = padding_mask(torch.tensor([4, 2]), 4)[:, 0, 0]
    assert_same(
        ours,
        theirs,
        lambda: ours(x, memory, memory_mask=keep)[0],
        lambda: theirs(
            x,
            memory,
            tgt_mask=~causal_mask(4),
            tgt_key_padding_mask=~written,
            memory_key_padding_mask=~keep[:, 0, 0],
        ),
        counted=written,
    )


@NORM_ORDERS
@pytest.mark.parametrize("pieces", [[6], [1] * 6, [3, 1, 2]])
def test_decoding_with_a_state_is_decoding_without(norm_first: bool, pieces: list[int]) -> None:
    decoder = with_random_weights(TransformerDecoder(DIM, HEADS, HIDDEN, LAYERS, dropout=0.0, norm_first=norm_first))
    x, memory, keep = random(2, 6, DIM), random(2, 5, DIM, seed=1), padding_mask(LENGTHS, 5)
    expected, expected_weights = decoder(x, memory, memory_mask=keep, need_weights=True)
    state, found, found_weights = decoder.start(memory, keep), [], []
    for piece in x.split(pieces, dim=1):
        features, state, weights = decoder.step(piece, state, need_weights=True)
        assert weights is not None
        found.append(features)
        found_weights.append(weights)
    torch.testing.assert_close(torch.cat(found, dim=1), expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(torch.cat(found_weights, dim=3), expected_weights, rtol=1e-9, atol=1e-10)
    assert state.keys.shape == state.values.shape == (2, LAYERS, HEADS, 6, DIM // HEADS)


def test_the_memorys_keys_and_values_are_computed_once() -> None:
    decoder = with_random_weights(TransformerDecoder(DIM, HEADS, HIDDEN, LAYERS))
    state = decoder.start(random(2, 5, DIM))
    for layer in decoder.layers:
        for projection in (layer.cross_attention.key_proj, layer.cross_attention.value_proj):
            projection.register_forward_pre_hook(lambda *_: pytest.fail("the memory is projected again"))
    _, after, weights = decoder.step(random(2, 1, DIM), state)
    assert after.memory_keys is state.memory_keys
    assert weights is None


def test_sequences_of_a_state_can_be_reordered_and_repeated() -> None:
    decoder = with_random_weights(TransformerDecoder(DIM, HEADS, HIDDEN, LAYERS)).eval()
    x, memory, keep = random(2, 4, DIM), random(2, 5, DIM, seed=1), padding_mask(LENGTHS, 5)
    _, state, _ = decoder.step(x[:, :3], decoder.start(memory, keep))
    beams = torch.tensor([1, 0, 1])
    chosen = type(state)(*(part[beams] for part in state))
    found, _, _ = decoder.step(x[beams, 3:], chosen)
    expected, _ = decoder(x, memory, memory_mask=keep)
    torch.testing.assert_close(found, expected[beams, 3:], rtol=1e-9, atol=1e-10)


def test_weights_are_asked_for_per_layer_and_head() -> None:
    x, keep = random(2, 5, DIM), padding_mask(LENGTHS, 5)
    encoder = with_random_weights(TransformerEncoder(DIM, HEADS, HIDDEN, LAYERS)).eval()
    plain, none = encoder(x, keep)
    found, weights = encoder(x, keep, need_weights=True)
    assert none is None
    torch.testing.assert_close(found, plain)
    assert weights.shape == (2, LAYERS, HEADS, 5, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
    assert weights[1, ..., 3:].abs().max() == 0
    decoder = with_random_weights(TransformerDecoder(DIM, HEADS, HIDDEN, LAYERS)).eval()
    _, weights = decoder(random(2, 4, DIM), x, memory_mask=keep, need_weights=True)
    assert weights.shape == (2, LAYERS, HEADS, 4, 5)
    assert weights[1, ..., 3:].abs().max() == 0


@NORM_ORDERS
def test_dropout_is_applied_while_training_only(norm_first: bool) -> None:
    layer = with_random_weights(TransformerDecoderLayer(DIM, HEADS, HIDDEN, dropout=0.5, norm_first=norm_first))
    x, memory = random(2, 4, DIM), random(2, 5, DIM, seed=1)
    assert not torch.equal(layer(x, memory)[0], layer(x, memory)[0])
    layer.eval()
    assert torch.equal(layer(x, memory)[0], layer(x, memory)[0])
    residual = Residual(DIM, dropout=1.0, norm_first=True)
    assert torch.equal(residual.add(x.float(), x.float()), x.float())  # all of the sublayer is dropped, none of x


def test_a_cache_of_a_layer_is_extended_and_left_as_it_was() -> None:
    layer = with_random_weights(TransformerDecoderLayer(DIM, HEADS, HIDDEN, dropout=0.0))
    memory = layer.cross_attention.project_keys_values(random(2, 5, DIM, seed=1))
    _, first, _ = layer.step(random(2, 2, DIM), None, memory)
    kept = KVCache(first.keys.clone(), first.values.clone())
    _, second, _ = layer.step(random(2, 1, DIM, seed=2), first, memory)
    assert torch.equal(first.keys, kept.keys)
    assert torch.equal(second.keys[:, :, :2], kept.keys)
    assert second.values.size(2) == 3
