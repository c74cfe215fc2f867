"""Peak memory of this process as the system sees it: on the accelerator where one is used, else resident memory."""

import resource
import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> bool:
    """Lets the peak be counted from now on; returns False where the system can only tell that since the start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _CLEAR.write_text("5", encoding="ascii")  # proc(5): resets the high-water mark to what is resident now
    except OSError:
        return False
    return True


def peak_mib(device: torch.device) -> float:
    """Returns the peak, in MiB: what torch has allocated on CUDA, or what was resident of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        return float(_STATUS.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, others KiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
