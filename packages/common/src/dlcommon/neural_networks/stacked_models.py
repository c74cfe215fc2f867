"""Models of one structure that are trained at once, such as those of several seeds."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

Model = TypeVar("Model", bound=nn.Module)


class StackedModels(Generic[Model]):
    """Computes models of one structure side by side: one batched product for all, instead of a small one for each.

    Each model sees inputs of its own, and learns as it would alone under an optimizer that treats every weight by
    itself, such as SGD or Adam. (Clipping by the norm of all gradients would mix them.)

    Args:
        models: modules with the same parameters in name and shape, without buffers; their weights are copied.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = list(models)
        self._weights, _ = stack_module_state(self._models)  # name to [models, …]

        def compute(weights: dict[str, torch.Tensor], *inputs: torch.Tensor) -> Any:
            return functional_call(self._models[0], weights, inputs)

        self._compute = vmap(compute)

    def parameters(self) -> list[torch.Tensor]:
        """Returns the stacked weights, each [models, …], for an optimizer."""
        return list(self._weights.values())

    def __call__(self, *inputs: torch.Tensor) -> Any:
        """Computes the models' outputs, whose first axis is the models', of inputs [models, batch, …]."""
        return self._compute(self._weights, *inputs)

    def unstack(self) -> list[Model]:
        """Copies the weights back into the models and returns these."""
        for number, model in enumerate(self._models):
            model.load_state_dict({name: weight[number].detach() for name, weight in self._weights.items()})
        return self._models
