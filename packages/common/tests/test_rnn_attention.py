"""Attention against its formulas element by element, and the decoders that use it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dlcommon.rnn.attention import AdditiveAttention, DotProductAttention, GeneralAttention
from dlcommon.rnn.seq2seq import BOS, EOS, PAD, BahdanauDecoder, Decoder, Encoder, LuongDecoder, Seq2Seq
from torch import nn
from torch.nn import functional as F

BATCH, QUERIES, POSITIONS, QUERY, KEY = 3, 4, 5, 6, 7
LENGTHS = torch.tensor([5, 2, 1])
MASK = torch.arange(POSITIONS) < LENGTHS[:, None]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def additive_score(attention: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
    return attention.score.weight[0] @ torch.tanh(attention.query_proj.weight @ query + attention.key_proj.weight @ key)


def general_score(attention: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
    return query @ attention.key_proj.weight @ key


def dot_score(attention: Any, query: torch.Tensor, key: torch.Tensor) -> Any:
    return query @ key


@pytest.mark.parametrize(
    ("attention", "score"),
    [
        pytest.param(AdditiveAttention(QUERY, KEY, 8), additive_score, id="bahdanau"),
        pytest.param(GeneralAttention(QUERY, KEY), general_score, id="luong-general"),
        pytest.param(DotProductAttention(), dot_score, id="luong-dot"),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_its_formula(attention: nn.Module, score: Callable[..., torch.Tensor], masked: bool) -> None:
    attention = attention.double()
    keys = random(BATCH, POSITIONS, KEY, seed=1)
    query = random(BATCH, QUERIES, KEY if isinstance(attention, DotProductAttention) else QUERY, seed=2)
    context, weights = attention(query, keys, MASK if masked else None)
    for row in range(BATCH):
        length = int(LENGTHS[row]) if masked else POSITIONS
        for asked in range(QUERIES):
            scores = [score(attention, query[row, asked], keys[row, place]).exp() for place in range(length)]
            expected = torch.stack(scores) / sum(scores)
            torch.testing.assert_close(weights[row, asked, :length], expected, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(context[row, asked], expected @ keys[row, :length], rtol=1e-10, atol=1e-12)
        assert not weights[row, :, length:].any()


def test_dot_attention_equals_torchs_in_value_and_gradient() -> None:
    query, keys = random(BATCH, QUERIES, KEY).requires_grad_(), random(BATCH, POSITIONS, KEY, seed=1).requires_grad_()
    ours, _ = DotProductAttention()(query, keys, MASK)
    theirs = F.scaled_dot_product_attention(query, keys, keys, MASK[:, None, :], scale=1.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(ours.square().sum(), (query, keys)),
        torch.autograd.grad(theirs.square().sum(), (query, keys)),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("attention", [AdditiveAttention(QUERY, KEY, 8), GeneralAttention(QUERY, KEY)])
def test_gradient_equals_finite_differences(attention: nn.Module) -> None:
    attention = attention.double()
    query, keys = random(2, 3, QUERY).requires_grad_(), random(2, 4, KEY, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: attention(q, k)[0], (query, keys))


VOCAB_SIZE, HIDDEN = 9, 8
DECODERS = [Decoder, BahdanauDecoder, LuongDecoder]


def network(decoder: type[Decoder]) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(Encoder(VOCAB_SIZE, HIDDEN), decoder(VOCAB_SIZE, HIDDEN)).double()


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.randint(3, VOCAB_SIZE, (BATCH, POSITIONS), generator=torch.Generator().manual_seed(1))
    return source.masked_fill(~MASK, PAD), LENGTHS


@pytest.mark.parametrize("decoder", DECODERS)
def test_teacher_forcing_is_the_same_as_step_by_step(decoder: type[Decoder]) -> None:
    model, (source, lengths) = network(decoder), sources()
    tokens = torch.randint(3, VOCAB_SIZE, (BATCH, 6), generator=torch.Generator().manual_seed(2))
    at_once = model(source, lengths, tokens)
    encoder_outputs, state = model.encoder(source, lengths)
    steps = []
    for time in range(6):
        logits, state, _ = model.decoder(tokens[:, time : time + 1], state, encoder_outputs, source != PAD)
        steps.append(logits)
    torch.testing.assert_close(at_once.logits, torch.cat(steps, dim=1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(at_once.state, state, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decoder", DECODERS)
def test_padding_of_the_source_changes_nothing(decoder: type[Decoder]) -> None:
    model, (source, lengths) = network(decoder), sources()
    tokens = torch.full((BATCH, 3), BOS)
    together = model(source, lengths, tokens)
    for row, length in enumerate(lengths.tolist()):
        alone = model(source[row : row + 1, :length], lengths[row : row + 1], tokens[:1])
        torch.testing.assert_close(together.logits[row], alone.logits[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decoder", DECODERS)
def test_greedy_feeds_back_what_it_says_and_stops_at_the_end(decoder: type[Decoder]) -> None:
    model, (source, lengths) = network(decoder), sources()
    with torch.no_grad():  # an untrained network says one word for ever: make it say several, and stop
        for parameter in model.parameters():
            parameter.mul_(3)
        model.decoder.output.bias[:EOS] = -50
        for bias in torch.linspace(-4, 4, 81):
            model.decoder.output.bias[EOS] = bias
            said, weights = model.greedy_decode(source, lengths, 12)
            if len(set((said == EOS).int().argmax(dim=1).tolist())) > 1:
                break
    assert (said == EOS).any(dim=1).any()
    assert not (said[:, 0] == EOS).all()
    for row in range(BATCH):
        words = said[row].tolist()
        length = words.index(EOS) + 1 if EOS in words else len(words)
        assert all(word == PAD for word in words[length:])
        tokens = torch.tensor([[BOS, *words[: length - 1]]])
        single = slice(row, row + 1)
        again = model(source[single], lengths[single], tokens)
        assert again.logits.argmax(dim=2)[0].tolist() == words[:length]
    if decoder is Decoder:
        assert weights is None
    else:
        assert weights is not None
        assert weights.shape == (BATCH, 12, POSITIONS)
        torch.testing.assert_close(weights.sum(dim=2), torch.ones(BATCH, 12, dtype=torch.float64))


def test_the_bahdanau_step_is_the_papers() -> None:
    """s_i = GRU([E y_{i−1}; c_i], s_{i−1}) with c_i from s_{i−1}; an attention that sees s_i would fail here."""
    model, (source, lengths) = network(BahdanauDecoder), sources()
    decoder = model.decoder
    assert isinstance(decoder, BahdanauDecoder)
    encoder_outputs, state = model.encoder(source, lengths)
    token = torch.full((BATCH, 1), BOS)
    context, weights = decoder.attention(state[0].transpose(0, 1), encoder_outputs, source != PAD)
    outputs, after = decoder.gru(torch.cat([decoder.embedding(token), context], dim=2), state)
    decoded = decoder(token, state, encoder_outputs, source != PAD)
    torch.testing.assert_close(decoded.state, after)
    torch.testing.assert_close(decoded.attention_weights, weights)
    torch.testing.assert_close(decoded.logits, decoder.output(torch.cat([outputs, context], dim=2)))
