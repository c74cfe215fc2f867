"""Counting the arithmetic of training."""

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def flops_of(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions (a multiply and an add are two)."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def training_flops(model: torch.nn.Module, sample: torch.Tensor) -> int:
    """Of one forward and backward pass over the batch; parameters' gradients are left as they were.

    Args:
        sample: a batch as the model takes it; its first axis is the batch.
    """
    saved = [parameter.grad for parameter in model.parameters()]
    was_training = model.training
    model.eval()  # so that running statistics stay as they are
    total = flops_of(lambda: model(sample).float().sum().backward())
    model.train(was_training)
    for parameter, gradient in zip(model.parameters(), saved, strict=True):
        parameter.grad = gradient
    return total
