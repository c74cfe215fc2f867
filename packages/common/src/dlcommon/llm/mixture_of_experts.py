"""A sparse mixture of experts (Shazeer et al. 2017, https://arxiv.org/abs/1701.06538; Mixtral, Jiang et al. 2024).

Shapes: features [batch, tokens, dim]; N = batch · tokens; E experts, K of them for each token.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F


class Router(nn.Module):
    """Chooses the K experts of each token."""

    def __init__(self, dim: int, num_experts: int, experts_per_token: int) -> None:
        super().__init__()
        self.experts_per_token = experts_per_token
        self.weight = nn.Parameter(0.02 * torch.randn(num_experts, dim))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Maps features [N, dim] to logits [N, E], the chosen experts' weights [N, K] and their numbers [N, K].

        The weights are the K largest probabilities, divided by their sum.
        """
        logits = F.linear(x, self.weight)  # [N, E]
        weights, chosen = logits.float().softmax(dim=-1).topk(self.experts_per_token, dim=-1)  # each [N, K]
        return logits, weights / weights.sum(dim=-1, keepdim=True), chosen


class Experts(nn.Module):
    """Holds E SwiGLU networks in two tensors, gate above up, as transformers does."""

    def __init__(self, dim: int, feedforward_dim: int, num_experts: int) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(0.02 * torch.randn(num_experts, 2 * feedforward_dim, dim))
        self.down_proj = nn.Parameter(0.02 * torch.randn(num_experts, dim, feedforward_dim))

    def forward(self, x: torch.Tensor, weights: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Adds up the weighted outputs of each token's experts: [N, dim], [N, K], [N, K] to [N, dim]."""
        output = torch.zeros_like(x)
        for expert in range(self.gate_up_proj.size(0)):
            tokens, places = torch.where(chosen == expert)  # the tokens that chose it, and as their which choice
            if not len(tokens):
                continue
            gate, up = F.linear(x[tokens], self.gate_up_proj[expert]).chunk(2, dim=-1)
            hidden = F.linear(F.silu(gate) * up, self.down_proj[expert])  # [chosen by, dim]
            output = output.index_add(0, tokens, (hidden * weights[tokens, places, None]).to(x.dtype))
        return output


class MixtureOfExperts(nn.Module):
    """Sends each token through K of E feed-forward networks, and adds their outputs by the router's weights.

    Equals transformers' `MixtralSparseMoeBlock`, and has its parameters' names.
    """

    def __init__(self, dim: int, feedforward_dim: int, num_experts: int, experts_per_token: int) -> None:
        super().__init__()
        self.gate = Router(dim, num_experts, experts_per_token)
        self.experts = Experts(dim, feedforward_dim, num_experts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, tokens, dim] to the same."""
        flat = x.flatten(0, -2)  # [N, dim]: tokens are routed one by one, whatever sequence they are from
        _, weights, chosen = self.gate(flat)
        output: torch.Tensor = self.experts(flat, weights, chosen)
        return output.view_as(x)


@contextmanager
def collect_router_logits(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the logits [N, E] of each router in `model`, in the order in which the layers run inside the block."""
    collected: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda _module, _inputs, output: collected.append(output[0]))
        for module in model.modules()
        if isinstance(module, Router)
    ]
    try:
        yield collected
    finally:
        for handle in handles:
            handle.remove()


def load_balancing_loss(router_logits: Sequence[torch.Tensor], experts_per_token: int) -> torch.Tensor:
    """Computes E · Σ_e f_e P_e (Fedus et al. 2021, https://arxiv.org/abs/2101.03961, equation 4).

    f_e is how many of the tokens' K choices fall on expert e, per token, so that Σ f_e = K; P_e is the mean of its
    probability. With even routing the loss is K, its usual lower end; f has no gradient, P has.

    Args:
        router_logits: of each layer, [N, E].
        experts_per_token: K.
    """
    logits = torch.cat(tuple(router_logits))  # [layers · N, E]
    probabilities = logits.softmax(dim=-1)
    chosen = probabilities.topk(experts_per_token, dim=-1).indices  # [layers · N, K]
    num_experts = logits.size(1)
    share = F.one_hot(chosen, num_experts).sum(dim=1).float().mean(dim=0)  # f, [E]
    return num_experts * (share * probabilities.mean(dim=0)).sum()
