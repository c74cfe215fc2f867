"""Which pixels a unit of a convolutional network can see: computed for any module, and measured by gradients.

Along one axis, output i of a layer sees the inputs from `first + jump·i` to `last + jump·i`. A convolution widens that
interval and multiplies the jump; where branches meet, it is the smallest that holds both (Araujo et al. 2019,
https://doi.org/10.23915/distill.00021). The module is run once, on tensors without contents, and each of torch's
operations passes the intervals on, so that any control flow is followed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten


@dataclass(frozen=True)
class Span:
    """What output i sees along one axis: pixels `first + jump·i` to `last + jump·i`, some perhaps in the padding."""

    first: float
    last: float
    jump: int
    """Pixels from one output's field to the next one's."""

    @property
    def size(self) -> float:
        """Pixels, infinite where everything is seen."""
        return self.last - self.first + 1

    def through(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Span":
        """Behind one more convolution or pooling."""
        first = self.first - padding * self.jump
        return Span(first, self.last + (dilation * (kernel - 1) - padding) * self.jump, self.jump * stride)

    def joined(self, other: "Span") -> "Span":
        """What is seen through either of two branches.

        Raises:
            ValueError: the branches move at different speeds over the image.
        """
        if self == EVERYTHING or other == EVERYTHING:
            return EVERYTHING
        if self.jump != other.jump:
            raise ValueError(f"branches meet that have strides {self.jump} and {other.jump}")
        return Span(min(self.first, other.first), max(self.last, other.last), self.jump)

    def within(self, output: int, pixels: int) -> tuple[int, int]:
        """First and last pixel that one output sees of an axis of the image; what is padding does not count."""
        first = max(0, self.first + self.jump * output)
        return int(first), int(min(pixels - 1, self.last + self.jump * output))


EVERYTHING = Span(-torch.inf, torch.inf, 0)
"""Behind global pooling, flattening or squeeze-and-excitation (an upper bound: strides can skip the image's edge)."""

PIXEL = Span(0, 0, 1)
"""Of the image itself."""


@dataclass(frozen=True)
class ReceptiveField:
    rows: Span
    columns: Span

    def both(self, change: Callable[[int, Span], Span]) -> "ReceptiveField":
        """`change` is given the axis, 0 or 1, and its span."""
        return ReceptiveField(change(0, self.rows), change(1, self.columns))

    def joined(self, other: "ReceptiveField") -> "ReceptiveField":
        return ReceptiveField(self.rows.joined(other.rows), self.columns.joined(other.columns))


GLOBAL = ReceptiveField(EVERYTHING, EVERYTHING)

CONVOLUTIONS = {aten.convolution.default}
POOLINGS = {aten.max_pool2d_with_indices.default, aten.avg_pool2d.default}
ADAPTIVE_POOLINGS = {aten._adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default}
KEEP_PLACES = {
    aten.native_batch_norm.default,
    aten._native_batch_norm_legit_no_training.default,
    aten.native_dropout.default,
    aten.detach.default,
    aten.alias.default,
    aten.cat.default,
}
"""Besides pointwise operations, which torch marks as such."""

MIX_PLACES = {aten.native_group_norm.default, aten.native_layer_norm.default}
"""The size stays, but statistics over the whole image enter each place."""


class _Fields(TorchDispatchMode):
    """Passes receptive fields from the inputs of each operation to its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.of: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        inputs = [tensor for tensor in torch.utils._pytree.tree_leaves(args) if tensor in self.of]
        if inputs:
            for result in torch.utils._pytree.tree_leaves(results):
                if isinstance(result, torch.Tensor):
                    self.of[result] = self._field(function, args, inputs, result)
        return results

    def _field(
        self, function: Any, args: tuple[Any, ...], inputs: list[torch.Tensor], result: torch.Tensor
    ) -> ReceptiveField:
        before: ReceptiveField = self.of[inputs[0]]
        for tensor in inputs[1:]:
            before = before.joined(self.of[tensor])
        if result.dim() != 4 or function in MIX_PLACES or result.shape[2:] == (1, 1) != inputs[0].shape[2:]:
            return GLOBAL
        named = {argument.name: value for argument, value in zip(function._schema.arguments, args, strict=False)}
        if function in POOLINGS or (function in CONVOLUTIONS and not named["transposed"]):
            kernel = _pair(named["weight"].shape[2:] if function in CONVOLUTIONS else named["kernel_size"])
            stride, padding = _pair(named.get("stride") or kernel), _pair(named.get("padding", 0))
            dilation = _pair(named.get("dilation", 1))
            return before.both(lambda a, span: span.through(kernel[a], stride[a], padding[a], dilation[a]))
        if function in ADAPTIVE_POOLINGS:
            sizes, parts = inputs[0].shape[2:], result.shape[2:]
            if any(size % part for size, part in zip(sizes, parts, strict=True)):
                return GLOBAL  # windows of several sizes
            return before.both(lambda a, span: span.through(sizes[a] // parts[a], sizes[a] // parts[a], 0))
        if torch.Tag.pointwise in function.tags or function in KEEP_PLACES:
            return before
        raise ValueError(f"what {function} does to the receptive field is not known")


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """For rows and columns, whichever way torch's operation was given it."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def receptive_fields(module: nn.Module, image: tuple[int, int, int]) -> dict[str, ReceptiveField]:
    """Of each submodule's output, by name in the order of execution; that of the module itself has the name "".

    Args:
        module: takes one tensor [batch, channels, height, width].
        image: channels, height and width.

    Raises:
        ValueError: it does to its maps what is not known here (such as a transposed convolution or a permutation).
    """
    found: dict[str, ReceptiveField] = {}
    fields = _Fields()

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(submodule: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output in fields.of:
                found.pop(name, None)
                found[name] = fields.of[output]

        return hook

    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in _state(module)}
    x = torch.empty(1, *image, device="meta", dtype=next((p.dtype for p in module.parameters()), None))
    training = [submodule for submodule in module.modules() if submodule.training]
    handles = [submodule.register_forward_hook(note(name)) for name, submodule in module.named_modules()]
    try:
        module.eval()
        fields.of[x] = ReceptiveField(PIXEL, PIXEL)
        with torch.no_grad(), fields:
            functional_call(module, empty, (x,))
    finally:
        for handle in handles:
            handle.remove()
        for submodule in training:
            submodule.training = True
    return found


def _state(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def gradient_map(
    module: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, row: int, column: int
) -> torch.Tensor:
    """How strongly each pixel moves one place of the module's output: [height, width].

    The mean, over images and channels, of |∂ (sum of the output's channels at row, column) / ∂ pixel|. Where it is not
    zero lies the receptive field; how it is distributed there is the effective one (Luo et al. 2016,
    https://arxiv.org/abs/1701.04128).
    """
    x = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, :, row, column].sum(), x)
    return gradient.abs().mean(dim=(0, 1))
