"""Dropout: hidden units zeroed at random while training (Srivastava et al. 2014, JMLR 15, 1929–1958).

The surviving units are divided by the probability of survival, so that every unit keeps its expectation and nothing has
to be scaled at inference ("inverted" dropout; the paper scales the weights at inference instead).
"""

import torch
from torch import nn


def dropout(x: torch.Tensor, p: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """Computes x · m / (1 − p) with a random mask m of x's shape: 0 with probability p, else 1.

    The gradient passes where the value passed, with the same factor. From the same generator state the result is, on
    the CPU, that of `torch.nn.functional.dropout` bit for bit.

    Raises:
        ValueError: `p` is outside 0 … 1.
    """
    _check_probability(p)
    if p == 1:
        return x * 0  # 0 / 0 otherwise
    mask = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * mask.div_(1 - p)


class Dropout(nn.Module):
    """Applies `dropout` in training mode, and nothing in evaluation mode.

    Args:
        p: probability that an element is zeroed.

    Raises:
        ValueError: `p` is outside 0 … 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        _check_probability(p)
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps any shape to the same."""
        return dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


@torch.no_grad()
def monte_carlo_dropout(network: nn.Module, x: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Computes the outputs of `num_samples` randomly thinned networks, whose spread measures uncertainty.

    Only dropout layers (ours and torch's) draw; batch norm and everything else stays in evaluation mode. Gal &
    Ghahramani 2016 (https://arxiv.org/abs/1506.02142) interpret the outputs as samples of an approximate posterior.
    The network's modes are restored afterwards.

    Returns:
        [num_samples, *output shape].
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    for module in network.modules():
        if isinstance(module, Dropout | nn.Dropout):
            module.training = True
    try:
        return torch.stack([network(x) for _ in range(num_samples)])
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"the dropout probability must lie in 0 … 1, not {p}")
