"""Everything that a checkpoint of a training loop holds: weights, optimizers, averages, counters, random generators."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import nn

from dlcommon.runtime.compute import Compute
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.stored_weights import StoredWeights
from dlcommon.training.averaging import ExponentialMovingAverage

if TYPE_CHECKING:
    from dlcommon.runtime.sharding import Sharding


@dataclass
class Counters:
    """Counts the batches, epochs and samples that a training has done, and tracks its best evaluation."""

    step: int = 0
    """Batches so far."""
    epoch: int = 0
    """Whole epochs so far."""
    batch: int = 0
    """Batches of the epoch so far."""
    samples: int = 0
    weight: float = 0.0
    """What the batches' weights add up to, such as tokens."""
    flops: int = 0
    """Floating-point operations so far, where the loop counts them."""
    best: float | None = None
    """Best value of the metric that evaluations are judged by; larger is better."""
    evaluations_without_best: int = 0
    """Evaluations since the best one."""


class PreparedModel:
    """Holds a model as it was given and as the loop calls it, and which of its tensors are stored."""

    def __init__(self, module: nn.Module, pretrained: Collection[nn.Module]) -> None:
        self.module = module
        self.wrapped: nn.Module = module
        """With what distribution wraps around it."""
        self.stored = StoredWeights.of(module, pretrained)

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that gradients are computed for."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Records no gradients for the model's parameters; gradients still pass through it to its inputs."""
        parameters = self.trained
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)

    def check_omitted(self) -> None:
        """Checks that no parameter is trained that is not stored.

        Raises:
            ValueError: one was unfrozen after `prepare`.
        """
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            if name in self.stored.omitted and parameter.requires_grad:
                raise ValueError(
                    f"{name} was frozen when `prepare` was called, so that it is not stored, but it is trained now"
                )


class TrainingState:
    """Holds everything that a checkpoint has to store for a killed training to resume exactly."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.models: list[PreparedModel] = []
        self.stateful: dict[str, Any] = {}
        """Whatever else has `state_dict` and `load_state_dict`, by name."""
        self.average: ExponentialMovingAverage | None = None
        self.averaged: PreparedModel | None = None
        """The model that the average is of."""
        self._trains_averaged: dict[torch.optim.Optimizer, bool] = {}
        self.sharding: Sharding | None = None
        """What splits the models over the processes, where something does."""

    def prepare(
        self,
        objects: Sequence[Any],
        config: TrainConfig,
        compute: Compute,
        average: nn.Module | None,
        pretrained: Collection[nn.Module],
    ) -> tuple[Any, ...]:
        """Adds models and other objects with a state; see `TrainingRun.prepare`.

        Returns:
            The objects, each model on the device and wrapped for distribution.

        Raises:
            ValueError: there are several models and none is named to be averaged, or it is the second call.
        """
        if self.models:
            raise ValueError("`prepare` was called before; give it all models and optimizers at once")
        for thing in objects:
            if isinstance(thing, nn.Module):
                self.models.append(PreparedModel(thing.to(compute.device), pretrained))
            else:
                self.stateful[f"{type(thing).__name__}-{len(self.stateful)}"] = thing
        if config.ema_decay:
            self._add_average(average, config.ema_decay)
        if config.compile:
            for model in self.models:
                model.module.compile()
        if config.shard and compute.world_size > 1:
            self._shard(compute.device)
        else:
            for model in self.models:
                if model.trained:
                    model.wrapped = compute.accelerator.prepare_model(model.module, device_placement=False)
        return tuple(self.find(thing).wrapped if isinstance(thing, nn.Module) else thing for thing in objects)

    def _add_average(self, module: nn.Module | None, decay: float) -> None:
        """Starts a moving average of a model's weights: of the one named, by default of the only one.

        Raises:
            ValueError: there are several, and none is named.
        """
        if module is None and len(self.models) != 1:
            raise ValueError("there are several models: say which is averaged, with prepare(…, average=model)")
        model = self.models[0] if module is None else self.find(module)
        named = dict(model.module.named_parameters(remove_duplicate=False))
        shared = [named[name] for name in model.stored.omitted]
        self.average, self.averaged = ExponentialMovingAverage(model.module, decay, shared), model

    def _shard(self, device: torch.device) -> None:
        """Splits the models, and what the optimizers keep for them, over the processes."""
        from dlcommon.runtime.sharding import Sharding  # takes half a second to import

        optimizers = [thing for thing in self.stateful.values() if isinstance(thing, torch.optim.Optimizer)]
        self.sharding = Sharding([model.module for model in self.models], optimizers, device)

    def find(self, module: nn.Module) -> PreparedModel:
        """Finds the prepared model of a module that the loop holds: wrapped, unwrapped, averaged or unsplit.

        Raises:
            ValueError: the module was not given to `prepare`.
        """
        inner = extract_model_from_parallel(module, keep_torch_compile=False)
        for model in self.models:
            copy = self.sharding.copy_of(model.module) if self.sharding else None
            average = self.average.model if self.average and self.averaged is model else None
            if any(inner is candidate for candidate in (model.module, copy, average)):
                return model
        raise ValueError(f"this {type(inner).__name__} was not given to `prepare`")

    @contextmanager
    def forward(self, trained: Sequence[nn.Module], compute: Compute, exchange: bool) -> Iterator[None]:
        """Freezes all models but those that a forward pass trains.

        Args:
            exchange: whether the processes exchange the gradients of this pass.

        Raises:
            ValueError: several models were prepared, and none is named; or one that was not.
        """
        if not trained and len(self.models) > 1:
            raise ValueError("there are several models: name those that this pass trains, with forward(model)")
        named = [self.find(model) for model in trained] or self.models
        with ExitStack() as stack:
            for model in self.models:
                if model not in named:
                    stack.enter_context(model.frozen())
                if model not in named or not exchange:
                    stack.enter_context(compute.accelerator.no_sync(model.wrapped))
            yield

    def unwrap(self, model: PreparedModel) -> nn.Module:
        """Returns the model without its distribution wrapper; under `--shard`, an unsplit copy with current weights."""
        return self.sharding.unsplit(model.module) if self.sharding else model.module

    def averaged_module(self, model: PreparedModel) -> nn.Module:
        """Returns the averaged model if this model's average is kept, else the unwrapped model."""
        return self.average.model if self.average and self.averaged is model else self.unwrap(model)

    def update_average(self, optimizers: Collection[torch.optim.Optimizer]) -> None:
        """Updates the average after a step, if one of these optimizers trains the averaged model."""
        if self.average is None or self.averaged is None:
            return
        for optimizer in optimizers:
            if optimizer not in self._trains_averaged:  # once, not in every step
                own = set(self.averaged.module.parameters())
                groups = optimizer.param_groups
                self._trains_averaged[optimizer] = any(p in own for group in groups for p in group["params"])
        if any(self._trains_averaged[optimizer] for optimizer in optimizers):
            self.average.update(self.unwrap(self.averaged))

    def weights(self) -> dict[str, torch.Tensor]:
        """Collects the stored tensors of all models: `0.NAME` of the first, `1.NAME` of the second.

        Raises:
            ValueError: a frozen pretrained parameter was unfrozen after `prepare`.
        """
        for model in self.models:
            model.check_omitted()
        return {
            f"{index}.{name}": value
            for index, model in enumerate(self.models)
            for name, value in model.stored.select(self.unwrap(model)).items()
        }

    def is_finite(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Tells whether every parameter is finite, since a step can overflow although its loss was finite."""
        names = {f"{index}.{name}" for index, m in enumerate(self.models) for name, _ in m.module.named_parameters()}
        return all(bool(value.isfinite().all()) for name, value in weights.items() if name in names)

    def rest(self) -> dict[str, Any]:
        """Collects everything but the weights in a tree: counters, optimizers, other stateful objects, the average."""
        tree: dict[str, Any] = {
            "counters": dataclasses.asdict(self.counters),
            "stateful": {name: thing.state_dict() for name, thing in self.stateful.items()},
            "average": None,
        }
        if self.average is not None and self.averaged is not None:
            stored = self.averaged.stored.select(self.average.model)
            tree["average"] = {"steps": self.average.steps, "weights": stored}
        return tree if self.sharding is None else self.sharding.gathered(tree)

    def load(self, weights: Mapping[str, torch.Tensor], rest: Mapping[str, Any]) -> None:
        """Restores the state from what `weights` and `rest` returned."""
        for index, model in enumerate(self.models):
            prefix = f"{index}."
            own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            if self.sharding:
                self.sharding.load(model.module, model.stored, own)
            else:
                model.stored.load(model.module, own)
        for name, thing in self.stateful.items():
            thing.load_state_dict(rest["stateful"][name])
            if self.sharding and isinstance(thing, torch.optim.Optimizer):
                self.sharding.split_state(thing)
        if self.average is not None and self.averaged is not None:
            self.average.steps = rest["average"]["steps"]
            self.averaged.stored.load(self.average.model, rest["average"]["weights"])
        self.counters = Counters(**rest["counters"])
