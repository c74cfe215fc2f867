"""Ring all-reduce: every process sends to the next one only, and all end with the sum (Patarasuk & Yuan 2009).

The data are cut into one chunk for each of n processes. In n − 1 steps every chunk travels around the ring and collects
what each process has of it (reduce-scatter); in n − 1 more the finished chunks travel around once (all-gather). A
process sends 2(n − 1)/n of the data, however many there are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import distributed


def pass_on(outgoing: torch.Tensor, incoming: torch.Tensor) -> None:
    """Sends one tensor to the next process of the ring while receiving another from the previous one."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    # Were all to send first and receive then, each would wait for the other's receive.
    request = distributed.isend(outgoing, (rank + 1) % world_size)
    distributed.recv(incoming, (rank - 1) % world_size)
    assert request is not None
    request.wait()


def ring_reduce_scatter(chunks: Sequence[torch.Tensor]) -> int:
    """Sums chunks over the ring in place, such that this process ends with the whole sum of one of them.

    Args:
        chunks: as many as processes, of the same shapes on each.

    Returns:
        The number of the chunk that is whole here: (rank + 1) mod n. The others hold partial sums.
    """
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    for step in range(world_size - 1):
        outgoing, incoming = (rank - step) % world_size, (rank - step - 1) % world_size
        received = torch.empty_like(chunks[incoming])
        pass_on(chunks[outgoing], received)
        chunks[incoming].add_(received)
    return (rank + 1) % world_size


def ring_all_gather(chunks: Sequence[torch.Tensor]) -> None:
    """Copies chunk (rank + 1) mod n of every process to all of them, in place."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    for step in range(world_size - 1):
        outgoing, incoming = (rank + 1 - step) % world_size, (rank - step) % world_size
        pass_on(chunks[outgoing], chunks[incoming])


def ring_all_reduce(values: torch.Tensor) -> None:
    """Replaces a contiguous tensor by its sum over all processes, in place."""
    chunks = values.view(-1).tensor_split(distributed.get_world_size())
    ring_reduce_scatter(chunks)
    ring_all_gather(chunks)


@dataclass
class Traffic:
    messages: int = 0
    bytes: int = 0


@contextmanager
def count_sent() -> Iterator[Traffic]:
    """Counts what this process sends with `distributed.isend`."""
    traffic, isend = Traffic(), distributed.isend

    def counted(tensor: torch.Tensor, *args: Any, **options: Any) -> Any:
        traffic.messages += 1
        traffic.bytes += tensor.numel() * tensor.element_size()
        return isend(tensor, *args, **options)

    with mock.patch.object(distributed, "isend", counted):
        yield traffic
