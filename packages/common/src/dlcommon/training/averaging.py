"""Exponential moving average of weights (Polyak & Juditsky 1992; Tarvainen & Valpola 2017)."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps a copy of a model whose weights are the exponential moving average of the model's.

    After each step, average ← decay · average + (1 − decay) · weights. The effective decay is
    min(decay, (1 + step) / (10 + step)), so that the random initial weights are soon forgotten. Buffers, such as batch
    norm's statistics, are averaged likewise; integer buffers are copied.

    Args:
        model: deep-copied; the copy, `self.model`, is in evaluation mode and its averaged parameters require no
            gradient.
        decay: in [0, 1).
        shared: parameters that training does not change; the copy uses the same tensors instead of copies.

    Raises:
        ValueError: `decay` is out of range.
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
        """Moves the average toward the weights of `model`; call it after each optimizer step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        floats, values = [], []
        for average, value in zip(_tensors(self.model), _tensors(model), strict=True):
            if id(average) in self._shared:
                continue
            if value.is_floating_point():
                floats.append(average)
                values.append(value.to(average.dtype))
            else:  # counters, such as num_batches_tracked, have no mean
                average.copy_(value)
        # One fused kernel for all tensors instead of one per tensor.
        torch._foreach_lerp_(floats, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps and the averaged weights."""
        return {"steps": self.steps, "weights": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["weights"])


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yields parameters and buffers, each once, even where two layers share it."""
    yield from model.parameters()
    yield from model.buffers()
