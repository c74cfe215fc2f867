"""Packed documents compute what each alone computes, and the loss of answers is cross-entropy of these alone."""

import random

import pytest
import torch
from dlcommon.llm.answer_loss import AnswerTokens, answer_log_probs, answer_loss
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


@pytest.mark.parametrize("prefix_length", [0, 4])
def test_documents_in_one_row_have_the_features_and_gradients_of_each_alone(network: Llama, prefix_length: int) -> None:
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
    packed, _ = network.features(
        tokens, document_positions(numbers, prefix_length), document_mask(numbers, prefix_length)
    )
    parts = packed[0, prefix_length : prefix_length + 15].split([len(one) for one in documents])
    for got, want in zip(parts, alone, strict=True):
        torch.testing.assert_close(got, want)
    total = torch.stack([(features * weight).sum() for features, weight in zip(parts, weights, strict=True)]).sum()
    for got, want in zip(torch.autograd.grad(total, parameters), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_answer_loss_is_the_cross_entropy_of_the_answers_alone() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 6, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    tokens, is_answer = torch.randint(20, (3, 6)), torch.rand(3, 6) < 0.5
    labels = torch.where(is_answer, tokens, -100)[:, 1:]
    logits = (features @ weight.T)[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=-100)
    wanted = torch.autograd.grad(expected, (features, weight))

    answers = AnswerTokens.of(tokens, is_answer)
    loss = answer_loss(features, answers, weight)
    torch.testing.assert_close(loss, expected)
    for got, want in zip(torch.autograd.grad(loss, (features, weight)), wanted, strict=True):
        torch.testing.assert_close(got, want)
    chosen = logits.softmax(-1)[is_answer[:, 1:]].gather(1, answers.targets[:, None])[:, 0]
    torch.testing.assert_close(answer_log_probs(features, answers, weight).exp(), chosen.float())
