"""What a training computes on and in: device, precision, and the processes that share the work."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, broadcast_object_list, parse_flag_from_env

from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.hardware import choose_device, computes_in_bf16, keep_freed_memory


class Compute:
    """Accelerate's `Accelerator`, set up as a config says.

    Raises:
        UserError: the device is not there, or a tracker is not installed.
        UsageError: accelerate was told to split the model in a way of its own.
    """

    def __init__(self, config: TrainConfig, directory: Path) -> None:
        for name in ("FSDP", "DEEPSPEED"):
            if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
                raise UsageError(f"accelerate was launched with {name}; launch it without, and give `train --shard`")
        keep_freed_memory()
        device = choose_device(config.device)
        bf16 = config.precision == "bf16" or (config.precision == "auto" and computes_in_bf16(device))
        self.precision = "bf16" if bf16 else "fp32"
        trackers = {"log_with": list(config.trackers), "project_dir": directory} if config.trackers else {}
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no",  # the loop enters autocast in sight
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            step_scheduler_with_optimizer=False,
            **cast(Any, trackers),
        )
        if missing := set(config.trackers) - {str(tracker) for tracker in self.accelerator.log_with}:
            names = ", ".join(sorted(missing))
            raise UserError(f"--trackers: {names} is not installed; add it with `uv pip install`, or leave it out")
        self.device = self.accelerator.device if device.index is None else device
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes

    @property
    def dtype(self) -> torch.dtype:
        """What matrices are multiplied in."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[None]:
        """Mixed precision where the precision is one; also for evaluation."""
        return cast(
            AbstractContextManager[None],
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"),
        )

    def broadcast(self, value: float) -> float:
        """The first process's value, so that all take the same decision by it."""
        if self.world_size == 1:
            return value
        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=self.device)))

    def begin_trackers(self, name: str, config: TrainConfig) -> None:
        if config.trackers:
            values = dataclasses.asdict(config).items()
            plain = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in values}
            self.accelerator.init_trackers(name, config=plain)

    def end(self) -> None:
        """Ends the trackers and the exchange with the other processes."""
        self.accelerator.end_training()
        if self.world_size > 1:
            # A thread of gloo that still holds a tensor when Python ends aborts the process
            # (https://github.com/pytorch/pytorch/issues/190489). It lets go as soon as nobody else runs Python.
            time.sleep(0.5)


def broadcast_directory(choose: Callable[[], Path], config: TrainConfig) -> Path:
    """One directory for all the processes of a training: the first one's choice."""
    state = PartialState(cpu=choose_device(config.device).type == "cpu")
    chosen = [choose() if state.is_main_process else None]
    if state.num_processes > 1:
        broadcast_object_list(chosen)
    return cast(Path, chosen[0])


def out_of_memory(error: BaseException | None) -> bool:
    """Whether it is an accelerator's error, Python's, or what torch says where the CPU's memory does not suffice."""
    told = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return told or isinstance(error, (torch.OutOfMemoryError, MemoryError))
