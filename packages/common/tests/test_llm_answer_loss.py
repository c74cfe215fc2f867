"""The loss of the answers equals torch's with labels of -100, in value and gradients."""

import torch
from dlcommon.llm.answer_loss import AnswerTokens, answer_log_probs, answer_loss
from torch.nn import functional as F

IGNORED = -100  # the label by which transformers and torch leave a token out


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    tokens, is_answer = torch.randint(11, (3, 8)), torch.rand(3, 8) < 0.4
    is_answer[1, 0] = True  # the first token has nothing before it
    features = torch.randn(3, 8, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    return tokens, is_answer, features, weight


def test_value_and_gradients_equal_torchs() -> None:
    tokens, is_answer, features, weight = batch()
    ours = answer_loss(features, AnswerTokens.of(tokens, is_answer), weight)
    labels = tokens.masked_fill(~is_answer, IGNORED)[:, 1:].flatten()
    expected = F.cross_entropy((features @ weight.T)[:, :-1].flatten(0, 1), labels, ignore_index=IGNORED)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=1e-6)
    for found, wanted in zip(
        torch.autograd.grad(ours, (features, weight)), torch.autograd.grad(expected, (features, weight)), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_each_place_predicts_the_token_after_it() -> None:
    tokens, is_answer = torch.tensor([[5, 6, 7], [8, 9, 4]]), torch.tensor([[True, False, True], [False, True, True]])
    answers = AnswerTokens.of(tokens, is_answer)
    assert answers.places.tolist() == [1, 3, 4]
    assert answers.targets.tolist() == [7, 9, 4]


def test_log_probabilities_are_float32_for_rounded_features() -> None:
    tokens, is_answer, features, weight = batch()
    found = answer_log_probs(features.bfloat16(), AnswerTokens.of(tokens, is_answer), weight.bfloat16())
    assert found.dtype == torch.float32
    assert (found < 0).all()
