"""LoRA: fine-tuning through a low-rank change of weight matrices (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

`add_lora` puts adapters into a pretrained network, `lora_state_dict` returns what they have learned, a few percent of
the network's size, and `merge_lora` adds it to the weights, so that inference costs nothing extra.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class LoRAConfig:
    """Describes the adapters of a network.

    Raises:
        ValueError: a value is out of range, or there are no targets.
    """

    rank: int
    """Largest rank of the change to a matrix."""
    alpha: float
    """The change is scaled by alpha / rank."""
    targets: tuple[str, ...]
    """Linear layers that get an adapter: each a dotted name or its last parts, with * and ? as in file names, such as
    `query_proj`, `layers.5.*` or, for all, `*`."""
    rank_stabilized: bool = False
    """Scales by alpha / √rank instead, so that a higher rank is not trained more slowly (rsLoRA, Kalajdzievski 2023,
    https://arxiv.org/abs/2312.03732)."""
    dropout: float = 0.0
    """Probability of zeroing a feature that enters an adapter in training."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, not {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if not self.targets or isinstance(self.targets, str):
            raise ValueError(f"targets must be names of linear layers, such as ('query_proj',), not {self.targets!r}")

    @property
    def scaling(self) -> float:
        """Factor of the product of the two matrices."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


class LoRALinear(nn.Module):
    """Computes W x + b + scaling · B A dropout(x) (equation 3), where W and b, the pretrained layer's, are frozen.

    A starts random and B at zero, so that nothing changes before the first step. Equals peft's `lora.Linear` with the
    same weights.

    Args:
        base: the pretrained layer; its parameters are frozen.
        config: rank, scaling and dropout.
    """

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(base.weight.new_empty(config.rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, config.rank))
        self.dropout, self.scaling = nn.Dropout(config.dropout), config.scaling
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as nn.Linear's weights start

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        low_rank = F.linear(self.dropout(x), self.lora_a)  # [..., rank]
        output: torch.Tensor = self.base(x) + self.scaling * F.linear(low_rank, self.lora_b)
        return output

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Adds scaling · B A to W and returns the plain layer, which computes the same; use the adapter no more."""
        self.base.weight += self.scaling * (self.lora_b @ self.lora_a)
        return self.base.requires_grad_(True)


def add_lora(model: nn.Module, config: LoRAConfig) -> list[str]:
    """Freezes a network and puts an adapter into each of its linear layers that `config.targets` names.

    Whatever else is to be trained, such as a new head, is unfrozen afterwards with `requires_grad_(True)`.

    Returns:
        Dotted names of the layers with an adapter.

    Raises:
        ValueError: a target names no linear layer, or the network has adapters already.
    """
    if _adapters(model):
        raise ValueError("this network has adapters already; merge them first with merge_lora(model)")
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name]
    for target in config.targets:
        if not any(_matches(name, target) for name in linears):
            raise ValueError(f"target {target!r} names no linear layer; they are {', '.join(linears) or 'none'}")
    chosen = [name for name in linears if any(_matches(name, target) for target in config.targets)]
    model.requires_grad_(False)
    for name in chosen:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, LoRALinear(linear, config).train(linear.training))
    return chosen


def merge_lora(model: nn.Module) -> None:
    """Replaces each adapter by its plain layer with the change added to the weights; the outputs stay the same."""
    for name, adapter in _adapters(model).items():
        model.set_submodule(name, adapter.merge())


def lora_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the matrices A and B of all adapters and nothing else, by their names in `model.state_dict()`."""
    return {
        f"{name}.{matrix}": getattr(adapter, matrix).detach()
        for name, adapter in _adapters(model).items()
        for matrix in ("lora_a", "lora_b")
    }


@torch.no_grad()
def load_lora_state_dict(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copies what `lora_state_dict` returned into a network that `add_lora` gave the same adapters.

    Raises:
        ValueError: names or shapes differ; nothing has been copied.
    """
    own = lora_state_dict(model)
    if differing := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"the adapters are others than the network's; these stand on one side only: {differing}")
    for name, matrix in own.items():
        if matrix.shape != state[name].shape:
            shapes = f"{list(state[name].shape)}, but the network's is {list(matrix.shape)}"
            raise ValueError(f"{name} is {shapes}; add the adapters with the rank that they were trained with")
    for name, matrix in own.items():
        matrix.copy_(state[name])


def _adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """Finds the adapters in a network by their names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def _matches(name: str, target: str) -> bool:
    """Tells whether a target is the dotted name, or its last parts."""
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")
