"""Dropout: hidden units zeroed at random while training (Srivastava et al. 2014, JMLR 15, 1929–1958).

What is left is divided by the share that is kept, so that every unit keeps its expectation and nothing has to be
scaled when the network is used ("inverted" dropout; the paper scales the weights afterwards instead).
"""

import torch
from torch import nn


def dropout(x: torch.Tensor, share: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """x · m / (1 − share), with each element of m drawn: 0 with the probability `share`, else 1.

    The gradient passes where the value passed, with the same factor. From the same generator state it is, on the CPU,
    `torch.nn.functional.dropout` to the last bit.

    Raises:
        ValueError: `share` is outside 0 … 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of dropped units must lie in 0 … 1, not {share}")
    if share == 1:
        return x * 0  # 0 / 0 otherwise
    kept = torch.empty_like(x).bernoulli_(1 - share, generator=generator)
    return x * kept.div_(1 - share)


class Dropout(nn.Module):
    """`dropout` in training, nothing in evaluation.

    Args:
        share: of the elements that are zeroed.

    Raises:
        ValueError: `share` is outside 0 … 1.
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"the share of dropped units must lie in 0 … 1, not {share}")
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        return dropout(x, self.share) if self.training and self.share else x

    def extra_repr(self) -> str:
        return f"share={self.share}"


@torch.no_grad()
def monte_carlo(network: nn.Module, x: torch.Tensor, samples: int) -> torch.Tensor:
    """Outputs of `samples` thinned networks, [samples, *output]: their spread says how sure the network is.

    Only dropout (ours and torch's) draws; batch norm and all else stay in evaluation. Gal & Ghahramani 2016
    (https://arxiv.org/abs/1506.02142) read the samples as draws from an approximate posterior. The network's modes
    are afterwards as they were.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    for module in network.modules():
        if isinstance(module, Dropout | nn.Dropout):
            module.training = True
    try:
        return torch.stack([network(x) for _ in range(samples)])
    finally:
        for module, mode in modes.items():
            module.training = mode
