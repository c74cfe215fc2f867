"""ZeRO: n processes that train together keep the optimizer's state, the gradients or the weights once, not n times.

Rajbhandari et al. 2020: stage 1 splits the optimizer's state, stage 2 the gradients as well, stage 3 (FSDP, Zhao et al.
2023) also the weights.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor

from dlcommon.training.ring_all_reduce import ring_all_gather, ring_reduce_scatter


@dataclass(frozen=True)
class Memory:
    """Holds bytes that one process keeps between two steps; activations and buffers come on top."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


def memory_per_process(
    parameters: int, world_size: int, stage: int, weight: int = 4, gradient: int = 4, optimizer: int = 8
) -> Memory:
    """Computes the bytes that a process holds (figure 1 of the paper).

    Args:
        parameters: their number.
        stage: 0, plain data parallelism, to 3.
        weight: bytes of a parameter; so `gradient` and `optimizer`, by default of float32 and Adam's two moments. In
            mixed precision 2, 2 and 12, since the optimizer also keeps a float32 copy of the weights.

    Raises:
        ValueError: there is no such stage.
    """
    if stage not in range(4):
        raise ValueError(f"ZeRO has stages 0 to 3, not {stage}")
    shares = [1 / world_size if stage >= since else 1.0 for since in (3, 2, 1)]
    whole = (weight * parameters, gradient * parameters, optimizer * parameters)
    return Memory(*(size * share for size, share in zip(whole, shares, strict=True)))


class ZeroOptimizer:
    """Updates a model's weights with optimizer state for a share of them (stage 1, from its two ring passes).

    An all-reduce is a reduce-scatter and an all-gather. Here the optimizer steps in between: after the first a process
    has the whole gradient of its share, and the second carries the new weights. It costs no more bytes than DDP.

    Args:
        make: makes the optimizer of this process's share. It has to treat every number on its own, as SGD and Adam do.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    ) -> None:
        self._parameters = list(parameters)
        self._world_size = distributed.get_world_size()
        chunks = self._flat([p.detach() for p in self._parameters]).tensor_split(self._world_size)
        whole = (distributed.get_rank() + 1) % self._world_size  # the chunk that the ring makes whole here
        self._own = chunks[whole].clone()
        self.optimizer = make([self._own])

    @staticmethod
    def _flat(tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([tensor.flatten() for tensor in tensors])

    @torch.no_grad()
    def step(self) -> None:
        """Averages the gradients over the processes and updates the weights."""
        gradients = self._flat([p.grad if p.grad is not None else torch.zeros_like(p) for p in self._parameters])
        chunks = gradients.tensor_split(self._world_size)
        whole = ring_reduce_scatter(chunks)
        self._own.grad = chunks[whole] / self._world_size
        self.optimizer.step()
        self._own.grad = None
        chunks[whole].copy_(self._own)  # the gradients are not needed any more: their place takes the new weights
        ring_all_gather(chunks)
        sizes = [parameter.numel() for parameter in self._parameters]
        for parameter, new in zip(self._parameters, gradients.split(sizes), strict=True):
            parameter.copy_(new.view_as(parameter))


def held_memory(parameters: Iterable[torch.Tensor], optimizer: torch.optim.Optimizer) -> Memory:
    """Counts the bytes that this process holds: of split tensors, its part; of the state, all but single numbers."""

    def held(tensors: Iterable[torch.Tensor | None]) -> int:
        local = [t.to_local() if isinstance(t, DTensor) else t for t in tensors if t is not None]
        return sum(t.numel() * t.element_size() for t in local)

    parameters = list(parameters)
    state = [value for values in optimizer.state.values() for value in values.values()]
    return Memory(
        held(parameters),
        held(parameter.grad for parameter in parameters),
        held(value for value in state if isinstance(value, torch.Tensor) and value.dim() > 0),
    )
