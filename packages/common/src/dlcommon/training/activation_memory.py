"""How much memory a forward pass keeps for the backward pass, counted exactly instead of read off a process."""

from collections.abc import Callable, Iterable

import torch


def saved_bytes(forward: Callable[[], torch.Tensor], parameters: Iterable[torch.Tensor] = ()) -> int:
    """Counts the bytes that a forward pass saves for its backward pass.

    Several views of one storage count once, with its whole size.

    Args:
        forward: computes something from which `backward` could be called.
        parameters: not counted, since they are there anyway; their casts to other dtypes are.
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    # Holding the storages keeps their addresses from being used again during the pass.
    held: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in held.values())
