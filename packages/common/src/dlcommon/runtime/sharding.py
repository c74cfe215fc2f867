"""Training whose weights, gradients and optimizer state are split over the processes (FSDP, Zhao et al. 2023).

PyTorch's `fully_shard` does it: a process holds its share of every tensor (a `DTensor`), and a layer's weights are
gathered when its turn comes. What is here lets the rest of the runtime see whole tensors, in checkpoints and
evaluations; for these each process also keeps an unsplit copy of the weights.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dlcommon.runtime.stored_weights import StoredWeights


class Sharding:
    """Splits the models in place, and has the optimizers step on their parts.

    Each member of a `ModuleList` or `Sequential` is gathered on its own, and the rest of a model at once. All processes
    have to call these methods together, since each holds a part.
    """

    def __init__(
        self, models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer], device: torch.device
    ) -> None:
        mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        self._copies = {model: copy.deepcopy(model) for model in models}
        parts = {}
        for model in models:
            names = {parameter: name for name, parameter in model.named_parameters()}
            for parameter in names:
                parameter.data = parameter.data.contiguous()  # `fully_shard` does not take channels_last
            for module in reversed(list(model.modules())):  # the inner ones first
                for member in module if isinstance(module, (nn.ModuleList, nn.Sequential)) else ():
                    if not isinstance(member, nn.ModuleList) and any(True for _ in member.parameters()):
                        fully_shard(member, mesh=mesh)
            fully_shard(model, mesh=mesh)
            split = dict(model.named_parameters())
            parts.update({parameter: split[name] for parameter, name in names.items()})
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [parts.get(parameter, parameter) for parameter in group["params"]]

    @torch.inference_mode(False)  # what is split must stay such that gradients can be taken
    @torch.no_grad()
    def unsplit(self, model: nn.Module) -> nn.Module:
        """Returns an unsplit copy of the model, with its current weights and the first process's buffers.

        The buffers are each process's own, such as batch statistics.
        """
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)
        self._copies[model].load_state_dict(self.gathered(model.state_dict()))
        return self._copies[model]

    def gathered(self, tree: Any) -> Any:
        """Returns the tree of dicts, lists and values with every split tensor gathered into a whole one."""
        if isinstance(tree, DTensor):
            return tree.full_tensor()
        if isinstance(tree, dict):
            return {key: self.gathered(value) for key, value in tree.items()}
        return [self.gathered(value) for value in tree] if isinstance(tree, list) else tree

    def copy_of(self, model: nn.Module) -> nn.Module:
        """Returns the model's unsplit copy as `unsplit` last left it; gathers nothing."""
        return self._copies[model]

    def load(self, model: nn.Module, stored: StoredWeights, weights: Mapping[str, torch.Tensor]) -> None:
        """Gives the split model these whole weights, and leaves those that are not stored as they are."""
        parts = model.state_dict()
        whole = stored.complete(weights)
        split = {name: _split(parts.get(name), value) for name, value in whole.items()}
        model.load_state_dict({**{name: parts[name] for name in stored.omitted}, **split})

    def split_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Splits what the optimizer has loaded whole for each parameter, as the parameter itself is."""
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                values[name] = _split(parameter, value)


def _split(part: Any, value: Any) -> Any:
    if isinstance(part, DTensor) and isinstance(value, torch.Tensor) and value.shape == part.shape:
        return distribute_tensor(value.to(part.device), part.device_mesh, part.placements)
    return value
