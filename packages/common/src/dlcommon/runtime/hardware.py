"""The hardware found, and the settings that suit it."""

import ctypes
import os
import platform
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import psutil

from dlcommon.runtime.errors import UsageError

if TYPE_CHECKING:
    import torch


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Counts the cores that this process may use; in a container, they may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Describes the hardware and the library versions, for records."""
    import torch

    versions = {"python": platform.python_version()}
    for package in ("dlcommon", "torch", "accelerate", "numpy", "onnxruntime"):
        versions[package] = metadata.version(package)
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": min(available_cores(), torch.get_num_threads()),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def choose_device(name: str) -> "torch.device":
    """Chooses the device: for `auto` CUDA, then MPS, then the CPU; otherwise the one named.

    Raises:
        UsageError: torch knows no such device, or it is not in this machine.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: no such device; use auto, cpu, cuda, cuda:1 or mps") from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise UsageError(f"--device {name}: this machine has none that torch can use; try --device auto")
    return device


def computes_in_bf16(device: "torch.device") -> bool:
    """Tells whether the device computes in bf16 natively, faster than in fp32, rather than emulating it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def keep_freed_memory() -> bool:
    """Makes glibc keep freed blocks instead of handing them back to the kernel.

    Activations of a training step are large blocks that are freed and asked for again every step. By default
    glibc maps each afresh, and the kernel's zeroing of the new pages costs more than the arithmetic of an
    elementwise operation. Must be called before the first large allocation; does nothing outside glibc.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    # Names and values from glibc's malloc.h.
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    libc = ctypes.CDLL(None)
    largest = 2**31 - 1
    kept = libc.mallopt(mmap_threshold, 2**30) and libc.mallopt(trim_threshold, largest)
    return bool(kept and libc.mallopt(top_pad, 64 * 2**20))


def copy_bandwidth(size: int, seconds: float = 0.5) -> float:
    """Measures how many bytes a second are read and written while a block of that size is copied again and again.

    The best time counts. No program that reads a model's weights once for each token writes tokens faster than this
    bandwidth over the size of the weights.

    Args:
        size: of the block, in bytes.
        seconds: how long to measure.
    """
    import torch

    source, target = torch.ones(size // 4), torch.empty(size // 4)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - started)
    return 2 * size / best
