"""Data parallelism: every process holds the whole model and a part of the batch, and gradients are averaged.

As in `DistributedDataParallel` (Li et al. 2020), a bucket of gradients is sent as soon as backward has filled it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import distributed, nn

from dlcommon.training.communication_cost import make_buckets


def weighted_mean_gradients(
    gradients: Sequence[Sequence[torch.Tensor]], counts: Sequence[int]
) -> tuple[torch.Tensor, ...]:
    """Averages the gradients of replicas, each of which is that of a mean over `counts[r]` samples.

    The result is the gradient of the mean over all samples together: Σ nᵣ gᵣ / Σ nᵣ.

    Args:
        gradients: for each replica, one tensor for each parameter.
    """
    total = sum(counts)
    weighted = [[g * (count / total) for g in of_replica] for of_replica, count in zip(gradients, counts, strict=True)]
    return tuple(torch.stack(of_parameter).sum(dim=0) for of_parameter in zip(*weighted, strict=True))


class GradientReducer:
    """Averages a model's gradients over the processes of the group, while backward is still computing the others.

    Args:
        model: gets the first process's parameters and buffers, so that all begin alike.
        bucket_bytes: gradients are exchanged together until they are this large.
    """

    def __init__(self, model: nn.Module, bucket_bytes: int = 25 * 2**20) -> None:
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor.detach(), src=0)
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        sizes = [parameter.numel() * parameter.element_size() for parameter in self._parameters]
        self._buckets = make_buckets(sizes, bucket_bytes)
        self._missing = [len(bucket) for bucket in self._buckets]
        self._sent: list[tuple[list[torch.Tensor], torch.Tensor, Any]] = []
        for number, bucket in enumerate(self._buckets):
            for position in bucket:
                self._parameters[position].register_post_accumulate_grad_hook(self._hook(number))

    @property
    def num_buckets(self) -> int:
        """How many messages one backward pass sends."""
        return len(self._buckets)

    def _hook(self, number: int) -> Callable[[torch.Tensor], None]:
        def arrived(_: torch.Tensor) -> None:
            self._missing[number] -= 1
            if self._missing[number] == 0:
                self._send(number)

        return arrived

    def _send(self, number: int) -> None:
        gradients = [gradient for p in self._buckets[number] if (gradient := self._parameters[p].grad) is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message instead of many
        self._sent.append((gradients, flat, distributed.all_reduce(flat, async_op=True)))
        self._missing[number] = len(self._buckets[number])

    def wait(self) -> None:
        """Waits for the exchange and puts the mean into every parameter's gradient; call it before the optimizer.

        Raises:
            RuntimeError: a parameter took no part in the loss, so that its bucket was never sent.
        """
        if len(self._sent) < len(self._buckets):
            raise RuntimeError(
                f"{len(self._buckets) - len(self._sent)} of {len(self._buckets)} buckets wait for a gradient: a "
                f"parameter takes no part in the loss; freeze it, or use it on every process"
            )
        for gradients, flat, request in self._sent:
            request.wait()
            flat /= distributed.get_world_size()
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))
        self._sent.clear()
