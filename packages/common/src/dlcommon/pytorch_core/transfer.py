"""Transfer of tensors to a device."""

import torch


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Copies a tensor from the CPU to a device without waiting for the work queued there.

    An ordinary copy to a GPU returns only when everything queued before is done, so that the GPU idles while the next
    step's kernels are launched one by one. A copy from page-locked memory is queued like a kernel.
    """
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
