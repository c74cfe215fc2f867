"""Moving tensors to where they are computed with."""

import torch


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copies a tensor from the CPU's memory without waiting for the device's queue of work.

    An ordinary copy to a GPU returns only when all that was asked of it before is done, so that the GPU then idles
    while the next step's kernels are launched one by one. From page-locked memory a copy takes its place in the queue.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
