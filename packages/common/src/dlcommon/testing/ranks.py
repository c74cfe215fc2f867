"""Runs a function in several processes that train together (gloo, on this machine), as torchrun would start them."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dlcommon.testing.forked import FORKING


@dataclass(frozen=True)
class Ended:
    """Holds a process's exit code and what it printed."""

    code: int | None
    printed: str


def run_ranks(target: Callable[..., None], *args: Any, world_size: int = 2, timeout: float = 600) -> list[Ended]:
    """Calls `target(*args)` in `world_size` new processes and waits for all; those still alive then are killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world_size)}
    shared |= {"LOCAL_WORLD_SIZE": str(world_size), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, str(rank)) for rank in range(world_size)]
        processes = []
        for rank, output in enumerate(outputs):
            env = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(FORKING.Process(target=_enter, args=(env, str(output), target, args)))
            processes[-1].start()
        try:
            for process in processes:
                process.join(timeout)
            return [Ended(p.exitcode, out.read_text()) for p, out in zip(processes, outputs, strict=True)]
        finally:
            for process in processes:
                process.kill()


def _enter(env: dict[str, str], output: str, target: Callable[..., None], args: tuple[Any, ...]) -> None:

    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(1)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.argv = ["rank"]
    target(*args)
