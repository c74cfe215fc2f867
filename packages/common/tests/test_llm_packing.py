"""Packed documents compute what each alone computes, and the loss of answers is cross-entropy of these alone."""

import random
from collections.abc import Callable

import pytest
import torch
from dlcommon.llm.answer_loss import AnswerTokens, answer_log_probs, answer_loss
from dlcommon.llm.document_attention import DocumentAttention
from dlcommon.llm.fused_cross_entropy import fused_cross_entropy
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.packing import document_mask, document_numbers, document_positions, pack
from torch.nn import functional as F


@pytest.mark.parametrize("seed", range(20))
def test_every_document_is_packed_once_into_few_rows(seed: int) -> None:
    draw = random.Random(seed)
    row_length = draw.randint(20, 64)
    lengths = [draw.randint(1, 20) for _ in range(draw.randint(1, 60))]
    rows = pack(lengths, row_length)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert max(sum(lengths[number] for number in row) for row in rows) <= row_length
    fewest = -(-sum(lengths) // row_length)
    assert len(rows) <= 11 / 9 * fewest + 1


@pytest.mark.parametrize("length", [0, 9])
def test_a_document_that_fits_no_row_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=f"document 1 has {length} tokens; a row holds 1 to 8"):
        pack([3, length], 8)
    with pytest.raises(ValueError, match="documents of 9 tokens do not fit a row of 8"):
        document_numbers([[4, 5]], 8)


def test_numbers_positions_and_mask() -> None:
    documents = document_numbers([[2, 3], [1]], 6)
    assert documents.tolist() == [[1, 1, 2, 2, 2, 0], [1, 0, 0, 0, 0, 0]]
    assert document_positions(documents).tolist() == [[0, 1, 0, 1, 2, 0], [0, 0, 1, 2, 3, 4]]
    assert document_positions(documents, 2).tolist()[0] == [0, 1, 2, 3, 4, 2]
    mask = document_mask(documents)
    assert mask.shape == (2, 1, 6, 6)
    assert mask[0, 0, 4].tolist() == [False, False, True, True, True, False]
    assert document_mask(documents, 2)[0, 0, 4].tolist() == [True, True, True, True, True, False]
    assert mask.diagonal(dim1=2, dim2=3).all()


@pytest.fixture(scope="module")
def network() -> Llama:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        dim=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        feedforward_dim=48,
        tie_embeddings=True,
    )
    network = Llama(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network.double()


@pytest.mark.parametrize("attention", [document_mask, DocumentAttention])
@pytest.mark.parametrize("prefix_length", [0, 4])
def test_documents_in_one_row_have_the_features_and_gradients_of_each_alone(
    network: Llama, prefix_length: int, attention: Callable[[torch.Tensor, int], torch.Tensor | DocumentAttention]
) -> None:
    torch.manual_seed(1)
    prefix = torch.randint(50, (prefix_length,))
    documents = [torch.randint(50, (length,)) for length in (5, 3, 7)]
    alone = [network.features(torch.cat((prefix, one))[None])[0][0, prefix_length:] for one in documents]
    weights = [torch.randn(len(one), 32, dtype=torch.float64) for one in documents]
    parameters = list(network.parameters())
    total = torch.stack([(features * weight).sum() for features, weight in zip(alone, weights, strict=True)]).sum()
    expected = torch.autograd.grad(total, parameters)

    lengths = [*([prefix_length] if prefix_length else []), *(len(one) for one in documents)]
    numbers = document_numbers([lengths], 24)
    tokens = F.pad(torch.cat((prefix, *documents)), (0, 24 - prefix_length - 15))[None]
    packed, _ = network.features(tokens, document_positions(numbers, prefix_length), attention(numbers, prefix_length))
    parts = packed[0, prefix_length : prefix_length + 15].split([len(one) for one in documents])
    for got, want in zip(parts, alone, strict=True):
        torch.testing.assert_close(got, want)
    total = torch.stack([(features * weight).sum() for features, weight in zip(parts, weights, strict=True)]).sum()
    for got, want in zip(torch.autograd.grad(total, parameters), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("prefix_length", [0, 3])
def test_attention_by_documents_is_attention_with_their_mask(prefix_length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = document_numbers([[3, 5, 2, 6], [3, 9], [3, 1]], 20)
    query, keys, values = (
        torch.randn(3, heads, 20, 8, dtype=torch.float64, generator=generator, requires_grad=True)
        for heads in (4, 2, 2)
    )
    expected = F.scaled_dot_product_attention(
        query, keys, values, attn_mask=document_mask(numbers, prefix_length), enable_gqa=True
    )
    is_document = (numbers > 0)[:, None, :, None]
    got = DocumentAttention(numbers, prefix_length).attend(query, keys, values)
    torch.testing.assert_close(got, expected * is_document)
    weight = torch.randn(got.shape, dtype=torch.float64, generator=generator) * is_document
    wanted = torch.autograd.grad((expected * weight).sum(), (query, keys, values))
    for one, other in zip(torch.autograd.grad((got * weight).sum(), (query, keys, values)), wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("tokens", "chunk"), [(10, 4), (8, 4), (3, 4), (0, 4)])
def test_fused_cross_entropy_is_that_of_the_whole_logits(tokens: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(tokens, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(15, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(15, (tokens,), generator=generator)
    scale = torch.randn(tokens, dtype=torch.float64, generator=generator)  # each token's loss counts differently
    expected = F.cross_entropy(F.linear(features, weight), targets, reduction="none")
    wanted = torch.autograd.grad((expected * scale).sum(), (features, weight))
    losses = fused_cross_entropy(features, weight, targets, chunk)
    torch.testing.assert_close(losses, expected)
    for got, want in zip(torch.autograd.grad((losses * scale).sum(), (features, weight)), wanted, strict=True):
        torch.testing.assert_close(got, want)
    frozen = fused_cross_entropy(features, weight.detach(), targets, chunk)  # the matrix's gradient is not asked for
    torch.testing.assert_close(torch.autograd.grad((frozen * scale).sum(), features)[0], wanted[0])


def test_fused_cross_entropy_computes_in_autocast_s_type() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 16, generator=generator, requires_grad=True)
    weight = torch.randn(15, 16, generator=generator, requires_grad=True)
    targets = torch.randint(15, (7,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        losses = fused_cross_entropy(features, weight, targets)
        expected = F.cross_entropy(F.linear(features, weight).float(), targets, reduction="none")
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, expected)
    wanted = torch.autograd.grad(expected.sum(), (features, weight))
    for got, want in zip(torch.autograd.grad(losses.sum(), (features, weight)), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=0.02, atol=0.02)  # bfloat16 has 8 significant bits


def test_answer_loss_is_the_cross_entropy_of_the_answers_alone() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 6, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    tokens, is_answer = torch.randint(20, (3, 6)), torch.rand(3, 6) < 0.5
    labels = torch.where(is_answer, tokens, -100)[:, 1:]
    logits = (features @ weight.T)[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    wanted = torch.autograd.grad(expected, (features, weight))

    answers = AnswerTokens.of(tokens, is_answer)
    loss = answer_loss(features, answers, weight)
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, (features, weight)), wanted, strict=True):
        torch.testing.assert_close(got, want)
    chosen = logits.softmax(-1)[is_answer[:, 1:]].gather(1, answers.targets[:, None])[:, 0]
    torch.testing.assert_close(answer_log_probs(features, answers, weight).exp(), chosen)
