"""Exponential moving average of weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017)."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps a second copy of a model whose weights follow the first one's slowly.

    After each step, average ← decay · average + (1 − decay) · weights. The effective decay is
    min(decay, (1 + step) / (10 + step)), so that the early average is not held back by the random start.
    Buffers, such as batch-norm statistics, are averaged alike; integer buffers are copied.

    Args:
        model: what is averaged.
        decay: in [0, 1).
        shared: parameters that training does not change; the copy uses the same tensors instead of copies of them.
    """

    def __init__(self, model: nn.Module, decay: float, shared: Iterable[nn.Parameter] = ()) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, not {decay}")
        self.decay = decay
        self.steps = 0
        memo: dict[int, Any] = {id(parameter): parameter for parameter in shared}
        self.model = copy.deepcopy(model, memo).eval()
        self._shared = frozenset(memo)
        for parameter in self.model.parameters():
            if id(parameter) not in self._shared:
                parameter.requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        floats, values = [], []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if id(average) in self._shared:
                continue
            if value.is_floating_point():
                floats.append(average)
                values.append(value.to(average.dtype))
            else:
                average.copy_(value)
        torch._foreach_lerp_(floats, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "weights": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.model.load_state_dict(state["weights"])


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Parameters and buffers, each once, also where two layers share it."""
    yield from model.parameters()
    yield from model.buffers()
