"""What a training computes on and in: device, precision, and the processes that share the work."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, broadcast_object_list, gather_object, parse_flag_from_env
from PIL import Image
from torch import distributed

from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.hardware import choose_device, computes_in_bf16, keep_freed_memory

Value = TypeVar("Value")

CALLS = ("step", "progress", "log_evaluation", "unwrap_model", "checkpoint", "finish")
"""What processes that train together have to call together, by the number that they exchange."""


class Compute:
    """Sets up accelerate's `Accelerator` as a config says, and lets the processes agree.

    Raises:
        UserError: the device is not there, or a tracker is not installed.
        UsageError: accelerate was told to split the model in a way of its own.
    """

    def __init__(self, config: TrainConfig) -> None:
        for name in ("FSDP", "DEEPSPEED"):
            if parse_flag_from_env(f"ACCELERATE_USE_{name}"):
                raise UsageError(f"accelerate was launched with {name}; launch it without, and give `train --shard`")
        keep_freed_memory()
        device = choose_device(config.device)
        bf16 = config.precision == "bf16" or (config.precision == "auto" and computes_in_bf16(device))
        self.precision = "bf16" if bf16 else "fp32"
        trackers: dict[str, Any] = {"log_with": list(config.trackers)} if config.trackers else {}
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="no",  # the loop enters autocast in sight
            step_scheduler_with_optimizer=False,
            # Trackers write into the run's directory, which the processes agree on after this.
            project_config=ProjectConfiguration(project_dir="."),
            **trackers,
        )
        if missing := set(config.trackers) - {str(tracker) for tracker in self.accelerator.log_with}:
            names = ", ".join(sorted(missing))
            raise UserError(f"--trackers: {names} is not installed; add it with `uv pip install`, or leave it out")
        self.device = self.accelerator.device if device.index is None else device
        self.rank, self.world_size = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        # Apart from the exchange of gradients, so that a call that one process alone makes meets no other exchange,
        # and on the CPU, so that no device has to be waited for.
        self._control: Any = distributed.new_group(backend="gloo") if self.world_size > 1 else None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of matrix products: bfloat16 under bf16, else float32."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[None]:
        """Enters bf16 autocast if the run's precision is bf16; also for evaluation."""
        return cast(
            AbstractContextManager[None],
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"),
        )

    def broadcast(self, call: str, value: float = 0.0) -> float:
        """Returns the first process's value, so that all processes take the same decision.

        Args:
            call: which of `CALLS` asks; all processes have to be there.

        Raises:
            RuntimeError: another process is at another call.
        """
        if self._control is None:
            return value
        own = torch.tensor([CALLS.index(call), value], dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.world_size)]
        distributed.all_gather(found, own, group=self._control)
        calls = [CALLS[int(pair[0])] for pair in found]
        if set(calls) != {call}:
            raise RuntimeError(
                f"the processes of this training called different things: {', '.join(calls)}; each of them has to be "
                f"called by all processes, not below `if run.is_main`"
            )
        return float(found[0][1])

    def of_all(self, value: Value) -> list[Value]:
        """Gathers every process's value, in the order of their ranks."""
        return cast(list[Value], gather_object([value])) if self.world_size > 1 else [value]

    def local(self, tensor: torch.Tensor) -> torch.Tensor:
        """Moves this process's equal part of a tensor to the device; the tensor's first axis is the whole batch.

        Raises:
            ValueError: the axis cannot be divided by the number of processes.
        """
        size, rest = divmod(len(tensor), self.world_size)
        if rest:
            raise ValueError(f"a batch of {len(tensor)} cannot be divided among {self.world_size} processes")
        return tensor[self.rank * size : (self.rank + 1) * size].to(self.device)

    def of_main(self, choose: Callable[[], Value]) -> Value:
        """Returns one value for all the processes of a training: the first one's choice."""
        chosen = [choose() if self.is_main else None]
        if self.world_size > 1:
            broadcast_object_list(chosen)
        return cast(Value, chosen[0])

    def begin_trackers(self, name: str, config: TrainConfig, directory: Path) -> None:
        """Opens the trackers of the config; those that write files do so in the directory."""
        if config.trackers:
            self.accelerator.project_configuration.logging_dir = str(directory)
            values = dataclasses.asdict(config).items()
            plain = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in values}
            self.accelerator.init_trackers(name, config=plain)

    def track_image(self, name: str, image: Image.Image, step: int) -> None:
        """Sends a picture to those trackers that take pictures."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                tracker.log_images({name: np.asarray(image.convert("RGB"))[None]}, step=step, dataformats="NHWC")
            elif hasattr(tracker, "log_images"):
                tracker.log_images({name: [image]}, step=step)

    def end(self) -> None:
        """Ends the trackers and the exchange with the other processes."""
        self.accelerator.end_training()
        if self.world_size > 1:
            # A thread of gloo that still holds a tensor when Python ends aborts the process
            # (https://github.com/pytorch/pytorch/issues/190489). It lets go as soon as nobody else runs Python.
            time.sleep(0.5)


def out_of_memory(error: BaseException | None) -> bool:
    """Tells whether an error means that memory ran out, on the accelerator or the CPU."""
    told = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return told or isinstance(error, (torch.OutOfMemoryError, MemoryError))
