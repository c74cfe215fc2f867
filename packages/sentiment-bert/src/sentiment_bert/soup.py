"""Averages the weights of several fine-tunings (Wortsman et al. 2022, https://arxiv.org/abs/2203.05482)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class WeightSoup:
    """Runs several fine-tunings one after the other in one training, and averages what they end with.

    All begin with the same weights, the random ones of the classifier included, without which their mean would mean
    nothing; they see the batches in another order, and draw other dropout. The mean is one network, as quick as each.

    Args:
        parameters: what is trained, as it is at the beginning.
        members: number of fine-tunings; 1 averages nothing.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], members: int) -> None:
        self.parameters, self.members = list(parameters), members
        self._start = [parameter.detach().clone() for parameter in self.parameters] if members > 1 else []
        self._total = [torch.zeros_like(start) for start in self._start]
        self.member = 0
        """The fine-tuning that is going on."""
        self._added = 0

    def state_dict(self) -> dict[str, Any]:
        return {"member": self.member, "added": self._added, "total": self._total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.member, self._added = state["member"], state["added"]
        for total, stored in zip(self._total, state["total"], strict=True):
            total.copy_(stored)

    def progress(self, progress: float) -> float:
        """Returns how far the present fine-tuning is, where all together are this far; both in [0, 1]."""
        return min(1.0, max(0.0, progress * self.members - self.member))

    @torch.no_grad()
    def begin_step(self, progress: float, optimizer: torch.optim.Optimizer) -> None:
        """Begins the next fine-tuning where the time of the present one is over: from the first weights."""
        member = min(int(progress * self.members), self.members - 1)
        if member == self.member:
            return
        self._add()
        self.member = member
        for parameter, start in zip(self.parameters, self._start, strict=True):
            parameter.copy_(start)
        optimizer.state.clear()

    @torch.no_grad()
    def finish(self) -> None:
        """Gives the network the mean of all fine-tunings' weights; the present one is over."""
        if self.members == 1:
            return
        self._add()
        for parameter, total in zip(self.parameters, self._total, strict=True):
            parameter.copy_(total / self._added)

    def _add(self) -> None:
        self._added += 1
        for parameter, total in zip(self.parameters, self._total, strict=True):
            total += parameter
