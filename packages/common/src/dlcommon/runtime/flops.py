"""Counting the arithmetic of training."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops_of(work: Callable[[], object]) -> int:
    """Counts the floating-point operations of matrix products and convolutions (a multiply and an add are two)."""
    with FlopCounterMode(display=False) as counter:
        work()
    flops: int = counter.get_total_flops()
    return flops


def training_flops(model: torch.nn.Module, sample: torch.Tensor) -> int:
    """Counts the floating-point operations of one forward and backward pass over the batch.

    The parameters' gradients are left as they were.

    Args:
        sample: a batch as the model takes it; its first axis is the batch.
    """
    saved = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = None  # else backward would add to the tensors saved
    training = [module for module in model.modules() if module.training]
    model.eval()  # so that running statistics stay as they are
    total = flops_of(lambda: model(sample).float().sum().backward())
    for module in training:
        module.training = True
    for parameter, gradient in zip(model.parameters(), saved, strict=True):
        parameter.grad = gradient
    return total


class FlopsPerSample:
    """Counts the floating-point operations of training on one sample, once for each shape of a batch."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.counted: dict[tuple[int, ...], int] = {}

    def __call__(self, batch: torch.Tensor) -> int:
        shape = tuple(batch.shape[1:])
        if shape not in self.counted:
            self.counted[shape] = training_flops(self.model, batch[:1])
        return self.counted[shape]
