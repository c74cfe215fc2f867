"""What a training loop stores to go on later to the same bits: weights, optimizers, counters, random generators."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import extract_model_from_parallel
from safetensors.torch import save
from torch import nn

from dlcommon.runtime import checkpoint
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.random_state import random_state, restore_random_state

if TYPE_CHECKING:
    from dlcommon.runtime.sharding import Sharding


def weights_as_bytes(model: nn.Module) -> bytes:
    """The weights as a safetensors file, which refuses those that two layers share: so copies."""
    weights = model.state_dict().items()
    return save({name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in weights})


@dataclass
class Counters:
    """How far a training is."""

    step: int = 0
    """Batches so far."""
    epoch: int = 0
    """Whole epochs so far."""
    batch: int = 0
    """Batches of the epoch so far."""
    samples: int = 0
    flops: int = 0
    """Floating-point operations so far, where the loop counts them."""
    best: float | None = None
    """Of the metric that evaluations are judged by."""
    evaluations_without_best: int = 0
    """Since the best one."""


PARTS = frozenset(["counters", "facts", "stateful", "random"])
"""Of the state that a checkpoint holds beside the weights."""


class TrainingState:
    """Everything that checkpoints hold; what is not in here does not survive a `kill`."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.models: list[nn.Module] = []
        self.stateful: dict[str, Any] = {}
        """Whatever else has `state_dict` and `load_state_dict`, by name."""
        self.sharding: Sharding | None = None
        """What splits the models over the processes, where something does."""

    def shard(self, device: torch.device) -> None:
        """Splits the models, and what the optimizers keep for them, over the processes."""
        from dlcommon.runtime.sharding import Sharding  # takes half a second to import

        optimizers = [thing for thing in self.stateful.values() if isinstance(thing, torch.optim.Optimizer)]
        self.sharding = Sharding(self.models, optimizers, device)

    def unwrap_model(self, model: nn.Module) -> nn.Module:
        """The model itself, without what distribution and compilation wrapped around it.

        Of a split one, an unsplit copy with the weights of now: all processes have to ask for it.
        """
        return self.sharding.unsplit(model) if self.sharding else _unwrapped(model)

    def save(self, folder: Path, facts: Mapping[str, float], write: bool = True) -> bool:
        """Writes a checkpoint of this step; the facts come back from `restore`.

        Args:
            write: off where another process does it; all have to call it, since each may hold a part.

        Returns:
            Whether every weight is a number, else nothing is written: a loss can be finite, and the step taken after
            it not.
        """
        models = [self.unwrap_model(model) for model in self.models]
        if not all(bool(p.isfinite().all()) for model in models for p in model.parameters()):
            return False
        weights = {
            f"{index}.{name}": value for index, model in enumerate(models) for name, value in model.state_dict().items()
        }
        state = {
            "counters": dataclasses.asdict(self.counters),
            "facts": dict(facts),
            "stateful": {name: thing.state_dict() for name, thing in self.stateful.items()},
            "random": random_state(),
        }
        if self.sharding:
            state = self.sharding.gathered(state)
        if write:
            checkpoint.save(folder, self.counters.step, weights, state)
        return True

    def restore(self, folder: Path, say: Callable[[str], None]) -> tuple[str, dict[str, float]] | None:
        """Puts back the newest whole checkpoint: its name and facts, or None if there is none.

        Raises:
            UserError: the checkpoint holds other things than this training does.
        """
        loaded = checkpoint.load_newest(folder, say)
        if loaded is None:
            return None
        path, weights, state = loaded
        if set(state) != PARTS or set(state["stateful"]) != set(self.stateful):
            raise UserError(f"{path} is of another version of this training and cannot be resumed; start a new run")
        for index, model in enumerate(self.models):
            inner = _below(f"{index}.", weights)
            if self.sharding:
                self.sharding.load(model, inner)
            else:
                _unwrapped(model).load_state_dict(inner)
        for name, thing in self.stateful.items():
            thing.load_state_dict(state["stateful"][name])
            if self.sharding and isinstance(thing, torch.optim.Optimizer):
                self.sharding.split_state(thing)
        self.counters = Counters(**state["counters"])
        restore_random_state(state["random"])
        return path.name, state["facts"]


def _unwrapped(model: nn.Module) -> nn.Module:
    return extract_model_from_parallel(model, keep_torch_compile=False)


def _below(prefix: str, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
