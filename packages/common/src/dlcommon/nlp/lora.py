"""LoRA: fine-tuning through a low-rank change of weight matrices (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

`add_lora` puts adapters into any pretrained network, encoder or causal language model; `merge_lora` adds what they have
learned to the weights, so that inference costs nothing extra; `lora_disabled` shows the network as it was before.
`dlcommon.nlp.lora_checkpoint` stores adapters as peft does; `dlcommon.nlp.dora` and `dlcommon.nlp.pissa` are variants.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable
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
    same weights. Where W is half precision or quantized, A and B are float32, as peft's are.

    Args:
        base: the pretrained layer; its parameters are frozen.
        config: rank, scaling and dropout.
    """

    trained: ClassVar[tuple[str, ...]] = ("lora_a", "lora_b")
    """Names of the parameters that are trained."""

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__()
        self.base, self.config = base.requires_grad_(False), config
        weight = base.weight
        dtype = torch.promote_types(weight.dtype, torch.float32) if weight.is_floating_point() else torch.float32
        self.lora_a = nn.Parameter(torch.empty(config.rank, base.in_features, dtype=dtype, device=weight.device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, config.rank, dtype=dtype, device=weight.device))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as nn.Linear's weights start
        self.dropout, self.scaling = nn.Dropout(config.dropout), config.scaling
        self.merged, self.enabled = False, True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        if self._is_plain_training_step(x):
            fused: torch.Tensor = _FusedLoRA.apply(
                x, self.base.weight, self.base.bias, self.lora_a, self.lora_b, self.scaling
            )
            return fused
        output: torch.Tensor = self.base(x)
        if self.merged or not self.enabled:
            return output
        return self.adapt(x.to(self.lora_a.dtype), output).to(output.dtype)

    def adapt(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Adds the change to the pretrained layer's output [..., out_features]."""
        low_rank = F.linear(self.dropout(x), self.lora_a)  # [..., rank]
        return output + self.scaling * F.linear(low_rank, self.lora_b)

    def _is_plain_training_step(self, x: torch.Tensor) -> bool:
        """Tells whether `_FusedLoRA` computes what this layer does, and gradients are wanted."""
        return (
            type(self) is LoRALinear
            and type(self.base) is nn.Linear
            and self.enabled
            and not self.merged
            and not (self.training and self.dropout.p)
            and torch.is_grad_enabled()
            and self.lora_a.requires_grad
            and not any(parameter.requires_grad for parameter in self.base.parameters())
            and x.dtype == self.base.weight.dtype
            and _autocast_dtype(x) in (None, x.dtype)
        )

    def update(self) -> torch.Tensor:
        """Computes the change scaling · B A of the matrix, [out_features, in_features]."""
        return self.scaling * (self.lora_b @ self.lora_a)

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the change to W, unless it has been added: the same outputs, at the cost of the plain layer.

        Raises:
            ValueError: W is quantized.
        """
        if not self.base.weight.is_floating_point():
            raise ValueError("the weights of this layer are quantized; dequantize them before merging")
        if not self.merged:
            self.base.weight += self.update()  # added in the wider type, then rounded to that of W
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """Subtracts the change from W again, which restores it up to rounding."""
        if self.merged:
            self.base.weight -= self.update()
            self.merged = False


def _autocast_dtype(x: torch.Tensor) -> torch.dtype | None:
    """Returns the dtype that autocast multiplies in, where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


class _FusedLoRA(torch.autograd.Function):
    """Computes W x + b + scaling · B A x in one step of the graph.

    Kept for the backward pass are x and A x, nothing as wide as the output; the two products with W and with the
    adapter are added up by the matrix multiplication itself. Where W is half precision, A and B are rounded to it once,
    which is what autocast does: a LoRA step of SmolLM2 in bfloat16 is a quarter faster than through `adapt`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        lora_a: torch.Tensor,
        lora_b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.size(-1))  # [rows, in_features]; `x` may be a single vector
        a, b = lora_a.to(weight.dtype), lora_b.to(weight.dtype)
        low_rank = rows @ a.T  # [rows, rank]
        output = F.linear(rows, weight, bias).addmm_(low_rank, b.T, alpha=scaling)
        ctx.save_for_backward(rows, weight, a, b, low_rank)
        ctx.scaling, ctx.shape, ctx.dtype = scaling, x.shape, lora_a.dtype
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Computes the gradients of x, A and B."""
        rows, weight, a, b, low_rank = ctx.saved_tensors
        gradient = outputs[0].reshape(-1, outputs[0].size(-1))  # [rows, out_features]
        low_rank_gradient = (gradient @ b).mul_(ctx.scaling)  # [rows, rank]
        grad_a = (low_rank_gradient.T @ rows).to(ctx.dtype)
        grad_b = (gradient.T @ low_rank).to(ctx.dtype).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (gradient @ weight).addmm_(low_rank_gradient, a).view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


def add_lora(model: nn.Module, config: LoRAConfig, layer: type[LoRALinear] = LoRALinear) -> list[str]:
    """Freezes a network and puts an adapter into each of its linear layers that `config.targets` names.

    Whatever else is to be trained, such as a new head, is unfrozen afterwards with `requires_grad_(True)`.

    Args:
        model: any network; attention's projections must be modules that it calls.
        config: rank, scaling, dropout and targets.
        layer: kind of adapter: this one, `dlcommon.nlp.dora.DoRALinear` or `dlcommon.nlp.pissa.PiSSALinear`.

    Returns:
        Dotted names of the layers with an adapter.

    Raises:
        ValueError: a target names no linear layer, or the network has adapters already.
    """
    if lora_layers(model):
        raise ValueError("this network has adapters already; call merge_lora(model) and unload_lora(model) first")
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name]
    for target in config.targets:
        if not any(_matches(name, target) for name in linears):
            raise ValueError(f"target {target!r} names no linear layer; they are {', '.join(linears) or 'none'}")
    chosen = [name for name in linears if any(_matches(name, target) for target in config.targets)]
    wrap_layers(model, chosen, config, layer)
    return chosen


def wrap_layers(model: nn.Module, names: Iterable[str], config: LoRAConfig, layer: type[LoRALinear]) -> None:
    """Freezes a network and puts an adapter into the linear layers of exactly these dotted names."""
    model.requires_grad_(False)
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        model.set_submodule(name, layer(linear, config).train(linear.training))


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Finds the layers with an adapter by their dotted names."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def merge_lora(model: nn.Module) -> None:
    """Adds all changes to the weights; the outputs stay the same up to rounding, and `unmerge_lora` takes it back.

    Raises:
        ValueError: a layer is quantized, or shares its weight with another that merging would change as well; nothing
            has been merged.
    """
    layers = lora_layers(model)
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    for name, layer in layers.items():
        if others := [user for user in users[id(layer.base.weight)] if user != f"{name}.base.weight"]:
            raise ValueError(
                f"merging {name} would also change {others[0]}, which has the same weight; use the adapters unmerged, "
                f"or leave {name} out of the targets"
            )
        if not layer.base.weight.is_floating_point():
            raise ValueError(f"the weights of {name} are quantized; dequantize them before merging")
    for layer in layers.values():
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Subtracts all changes from the weights again, which restores them up to rounding."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def unload_lora(model: nn.Module) -> None:
    """Takes the adapters out: plain layers stay, with the change if it was merged, else as they were pretrained."""
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.base.requires_grad_(True))


@contextmanager
def lora_disabled(model: nn.Module) -> Iterator[None]:
    """Lets the network compute without its adapters inside a `with` block, as the pretrained one does.

    A reference model, as DPO needs it, then takes no memory of its own.

    Raises:
        ValueError: adapters are merged.
    """
    layers = list(lora_layers(model).values())
    if any(layer.merged for layer in layers):
        raise ValueError("merged adapters cannot be disabled; call unmerge_lora(model) first")
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True


def lora_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the trained matrices of all adapters and nothing else, by their names in `model.state_dict()`."""
    return {
        f"{name}.{matrix}": getattr(layer, matrix).detach()
        for name, layer in lora_layers(model).items()
        for matrix in layer.trained
    }


@torch.no_grad()
def load_lora_state_dict(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copies what `lora_state_dict` returned into a network that `add_lora` gave the same adapters.

    Raises:
        ValueError: names or shapes differ, or adapters are merged; nothing has been copied.
    """
    if any(layer.merged for layer in lora_layers(model).values()):
        raise ValueError("the adapters are merged into the weights; call unmerge_lora(model) before loading others")
    own = lora_state_dict(model)
    if differing := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"the adapters are others than the network's; these stand on one side only: {differing}")
    for name, matrix in own.items():
        if matrix.shape != state[name].shape:
            shapes = f"{list(state[name].shape)}, but the network's is {list(matrix.shape)}"
            raise ValueError(f"{name} is {shapes}; add the adapters with the rank that they were trained with")
    for name, matrix in own.items():
        matrix.copy_(state[name])


def _matches(name: str, target: str) -> bool:
    """Tells whether a target is the dotted name, or its last parts."""
    return fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}")
