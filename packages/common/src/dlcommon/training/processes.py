"""Runs a function in several processes that exchange tensors (gloo, on this machine).

Every new interpreter takes seconds to import torch. Here one process imports it, the fork server, and the others are
its forks; a fork of the caller itself, which may have threads, could hang. Functions that no module holds travel by
value (cloudpickle), so that a notebook's or a script's own can run.
"""

import multiprocessing
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import torch
from torch import distributed

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT: ForkServerContext | SpawnContext = (
    multiprocessing.get_context("forkserver") if CAN_FORK else multiprocessing.get_context("spawn")
)
PRELOADED = [__name__, "torch._dynamo"]  # the second is what DDP, FSDP and the first optimizer import
if CAN_FORK:
    CONTEXT.set_forkserver_preload(PRELOADED)


def run_processes(
    target: Callable[..., Any], *args: Any, world_size: int = 2, timeout: float = 300, group: bool = True
) -> list[Any]:
    """Calls `target(*args)` in `world_size` new processes of one process group, and waits for all of them.

    Args:
        target: asks `torch.distributed` for its rank.
        group: whether they form a group; without one, a target can set up its own.
        timeout: seconds after which processes that are still at work are killed.

    Returns:
        What each process returned, in the order of their ranks.

    Raises:
        RuntimeError: a process failed, and the others were killed; the message holds its rank and traceback.
        NotImplementedError: it failed with this one.
        TimeoutError: they were not done in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        call = cloudpickle.dumps((target, args))
        receivers: dict[Any, int] = {}
        processes = []
        with _without_main():
            for rank in range(world_size):
                receiver, sender = CONTEXT.Pipe(duplex=False)
                arguments = (sender, Path(folder, "store"), rank, world_size, call, group)
                processes.append(CONTEXT.Process(target=_enter, args=arguments))
                processes[-1].start()
                sender.close()  # so that the pipe ends when the process does
                receivers[receiver] = rank
        try:
            results = _collect(receivers, timeout)
            for process in processes:
                process.join(timeout)
        finally:
            for process in processes:
                process.kill()
                process.join()
            for receiver in receivers:
                receiver.close()
    return [results[rank] for rank in range(world_size)]


def _collect(receivers: dict[Any, int], timeout: float) -> dict[int, Any]:
    results: dict[int, Any] = {}
    failures: list[tuple[float, int, str, Any]] = []
    while len(results) < len(receivers):
        waiting = [pipe for pipe, rank in receivers.items() if rank not in results]
        # One that fails takes the others with it: after the first, only look who else has, to tell of the earliest.
        ready = wait(waiting, 0 if failures else timeout)
        for pipe in ready:
            assert isinstance(pipe, Connection)
            rank = receivers[pipe]
            try:
                moment, failure, results[rank] = pickle.loads(pipe.recv_bytes())
            except EOFError:
                moment, failure, results[rank] = 0.0, "it was killed", None
            if failure is not None:
                failures.append((moment, rank, failure, results[rank]))
        if failures and not ready:
            break
        if not ready:
            missing = sorted(set(receivers.values()) - set(results))
            raise TimeoutError(f"ranks {missing} were not done after {timeout:g} seconds, and were killed")
    if failures:
        _, rank, failure, unwritten = min(failures, key=lambda each: each[0])
        if unwritten is not None:
            raise unwritten
        raise RuntimeError(f"rank {rank} of {len(receivers)} failed: {failure}")
    return results


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides `__main__`, which new processes would otherwise run again, such as a script that starts processes."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _enter(sender: Connection, store: Path, rank: int, world_size: int, call: bytes, group: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        if group:
            exchange = distributed.FileStore(str(store), world_size)  # type: ignore[attr-defined]
            options: dict[str, Any] = {"rank": rank, "world_size": world_size, "timeout": timedelta(seconds=60)}
            distributed.init_process_group("gloo", store=exchange, **options)
        # As bytes, since a tensor in a queue of its own would be shared memory that ends with this process.
        target, args = pickle.loads(call)
        answer = cloudpickle.dumps((0.0, None, target(*args)))
        if group:
            distributed.barrier()  # nobody leaves while another one still reads from it
            distributed.destroy_process_group()
    except BaseException as error:
        told = f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
        unwritten = NotImplementedError(*error.args) if isinstance(error, NotImplementedError) else None
        answer = pickle.dumps((time.monotonic(), told, unwritten))
    sender.send_bytes(answer)
