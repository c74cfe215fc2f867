"""The mixture of experts against transformers' Mixtral."""

import pytest
import torch
from dlcommon.llm.mixture_of_experts import MixtureOfExperts, Router, collect_router_logits, load_balancing_loss
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

DIM, HIDDEN, EXPERTS = 12, 20, 6


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("experts_per_token", [1, 2, 6])
def test_the_block_is_mixtrals_in_value_and_gradient(experts_per_token: int) -> None:
    config = MixtralConfig(
        hidden_size=DIM, intermediate_size=HIDDEN, num_local_experts=EXPERTS, num_experts_per_tok=experts_per_token
    )
    config._experts_implementation = "eager"
    theirs, ours = MixtralSparseMoeBlock(config), MixtureOfExperts(DIM, HIDDEN, EXPERTS, experts_per_token)
    with torch.no_grad():
        for number, parameter in enumerate(ours.parameters()):
            parameter.copy_(random(*parameter.shape, seed=number))
    theirs.load_state_dict(ours.state_dict())
    inputs = [random(2, 7, DIM, seed=9).requires_grad_() for _ in range(2)]
    found, expected = ours(inputs[0]), theirs(inputs[1])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    upstream = random(2, 7, DIM, seed=10)
    found.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-3, atol=1e-3)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-3)


def test_all_experts_chosen_is_the_weighted_sum_of_all() -> None:
    mixture, x = MixtureOfExperts(DIM, HIDDEN, EXPERTS, EXPERTS), random(5, DIM)
    probabilities = (x @ mixture.gate.weight.T).softmax(dim=1)
    expected = torch.zeros_like(x)
    for expert in range(EXPERTS):
        gate, up = (x @ mixture.experts.gate_up_proj[expert].T).chunk(2, dim=1)
        hidden = torch.nn.functional.silu(gate) * up
        expected += probabilities[:, expert, None] * (hidden @ mixture.experts.down_proj[expert].T)
    torch.testing.assert_close(mixture(x[None])[0], expected)


@pytest.mark.parametrize("experts_per_token", [1, 2, 3])
def test_the_loss_is_mixtrals_in_value_and_gradient(experts_per_token: int) -> None:
    ours, theirs = ([random(11, EXPERTS, seed=seed).requires_grad_() for seed in (1, 2)] for _ in range(2))
    found = load_balancing_loss(ours, experts_per_token)
    expected = load_balancing_loss_func(tuple(theirs), EXPERTS, experts_per_token)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_the_loss_is_k_when_even_and_rises_to_the_number_of_experts() -> None:
    even = 20.0 * torch.eye(EXPERTS).repeat(3, 1)  # each expert is chosen by three tokens
    torch.testing.assert_close(load_balancing_loss([even], 1), torch.tensor(1.0))
    one = 20.0 * torch.eye(EXPERTS)[[0] * 8]
    torch.testing.assert_close(load_balancing_loss([one], 1), torch.tensor(float(EXPERTS)), rtol=1e-4, atol=0)


def test_router_logits_are_collected_inside_the_block_only() -> None:
    mixture = MixtureOfExperts(DIM, HIDDEN, EXPERTS, 2)
    x = random(1, 3, DIM)
    with collect_router_logits(mixture) as collected:
        mixture(x)
        mixture(x)
    mixture(x)
    assert [tuple(logits.shape) for logits in collected] == [(3, EXPERTS)] * 2
    assert isinstance(mixture.gate, Router)
    load_balancing_loss(collected, 2).backward()
    assert mixture.gate.weight.grad is not None
    assert mixture.gate.weight.grad.any()
