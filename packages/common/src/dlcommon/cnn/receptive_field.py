"""Receptive fields of convolutional networks: computed for any module, and measured by gradients.

Along one axis, output i of a layer sees the inputs from `first + jump·i` to `last + jump·i`. A convolution widens that
interval and multiplies the jump; where branches meet, it is the smallest one that contains both (Araujo et al. 2019,
https://doi.org/10.23915/distill.00021). The module is run once, on tensors of the meta device, and each of torch's
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
    """Describes the pixels that output i sees along one axis: `first + jump·i` to `last + jump·i`, padding included."""

    first: float
    last: float
    jump: int
    """Pixels between the fields of neighboring outputs: the product of all strides so far."""

    @property
    def size(self) -> float:
        """Number of pixels; infinite where everything is seen."""
        return self.last - self.first + 1

    def after(self, kernel_size: int, stride: int, padding: int, dilation: int = 1) -> "Span":
        """Computes the span after one more convolution or pooling."""
        # Output i of the new layer reads inputs stride·i − padding + dilation·(0 … kernel_size − 1) of the one before,
        # each of which is `jump` pixels from the next.
        first = self.first - padding * self.jump
        return Span(first, self.last + (dilation * (kernel_size - 1) - padding) * self.jump, self.jump * stride)

    def union(self, other: "Span") -> "Span":
        """Computes the smallest span that contains those of two branches.

        Raises:
            ValueError: the branches have different strides.
        """
        if self == EVERYTHING or other == EVERYTHING:
            return EVERYTHING
        if self.jump != other.jump:
            raise ValueError(f"branches meet that have strides {self.jump} and {other.jump}")
        return Span(min(self.first, other.first), max(self.last, other.last), self.jump)

    def pixels(self, output: int, size: int) -> tuple[int, int]:
        """Returns the first and last pixel that one output sees of an axis of `size` pixels, without the padding."""
        first = max(0, self.first + self.jump * output)
        return int(first), int(min(size - 1, self.last + self.jump * output))


EVERYTHING = Span(-torch.inf, torch.inf, 0)
"""The span after global pooling, flattening or squeeze-and-excitation (an upper bound: strides can skip an edge)."""

PIXEL = Span(0, 0, 1)
"""The span of the image itself."""


@dataclass(frozen=True)
class ReceptiveField:
    """Pairs the spans along the two axes of an image."""

    rows: Span
    columns: Span

    def map_axes(self, change: Callable[[int, Span], Span]) -> "ReceptiveField":
        """Applies `change(axis, span)` to axes 0 and 1."""
        return ReceptiveField(change(0, self.rows), change(1, self.columns))

    def union(self, other: "ReceptiveField") -> "ReceptiveField":
        """Computes the smallest field that contains both."""
        return ReceptiveField(self.rows.union(other.rows), self.columns.union(other.columns))


GLOBAL = ReceptiveField(EVERYTHING, EVERYTHING)

CONVOLUTIONS = {aten.convolution.default}
POOLINGS = {aten.max_pool2d_with_indices.default, aten.avg_pool2d.default}
ADAPTIVE_POOLINGS = {aten._adaptive_avg_pool2d.default, aten.adaptive_max_pool2d.default}
POSITION_PRESERVING = {
    aten.native_batch_norm.default,
    aten._native_batch_norm_legit_no_training.default,
    aten.native_dropout.default,
    aten.detach.default,
    aten.alias.default,
    aten.cat.default,
}
"""Operations that compute each position from the same one; pointwise ones, which torch tags, are not listed."""

POSITION_MIXING = {aten.native_group_norm.default, aten.native_layer_norm.default}
"""Operations that keep the size, but bring statistics of the whole image into each position."""


class _Fields(TorchDispatchMode):
    """Passes receptive fields from the inputs of each operation to its outputs."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
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
        """Computes the field of an operation's result from those of its inputs."""
        before: ReceptiveField = self.of[inputs[0]]
        for tensor in inputs[1:]:
            before = before.union(self.of[tensor])
        if result.dim() != 4 or function in POSITION_MIXING or result.shape[2:] == (1, 1) != inputs[0].shape[2:]:
            return GLOBAL  # no longer a map of positions, or one of a single position
        named = {argument.name: value for argument, value in zip(function._schema.arguments, args, strict=False)}
        if function in POOLINGS or (function in CONVOLUTIONS and not named["transposed"]):
            kernel_size = _pair(named["weight"].shape[2:] if function in CONVOLUTIONS else named["kernel_size"])
            stride, padding = _pair(named.get("stride") or kernel_size), _pair(named.get("padding", 0))
            dilation = _pair(named.get("dilation", 1))
            return before.map_axes(lambda a, span: span.after(kernel_size[a], stride[a], padding[a], dilation[a]))
        if function in ADAPTIVE_POOLINGS:
            sizes, parts = inputs[0].shape[2:], result.shape[2:]
            if any(size % part for size, part in zip(sizes, parts, strict=True)):
                return GLOBAL  # windows of several sizes
            return before.map_axes(lambda a, span: span.after(sizes[a] // parts[a], sizes[a] // parts[a], 0))
        if torch.Tag.pointwise in function.tags or function in POSITION_PRESERVING:
            return before
        raise ValueError(f"the effect of {function} on the receptive field is not known")


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    """Returns the value for rows and columns, which torch takes as one number or two."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def receptive_fields(module: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, ReceptiveField]:
    """Computes the receptive field of each submodule's output, by name in the order of execution.

    The module itself has the name "".

    Args:
        module: takes one tensor [batch, channels, height, width].
        image_shape: channels, height and width.

    Raises:
        ValueError: the module uses an operation with unknown effect, such as a transposed convolution or permutation.
    """
    found: dict[str, ReceptiveField] = {}
    fields = _Fields()

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(submodule: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output in fields.of:
                found.pop(name, None)  # a submodule that is called again moves to the end
                found[name] = fields.of[output]

        return hook

    # Meta tensors have shapes but no contents: running a large network on a large image costs nothing.
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in _state(module)}
    x = torch.empty(1, *image_shape, device="meta", dtype=next((p.dtype for p in module.parameters()), None))
    training = [submodule for submodule in module.modules() if submodule.training]
    handles = [submodule.register_forward_hook(record(name)) for name, submodule in module.named_modules()]
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
    """Computes how strongly each pixel influences one position of the module's output: [height, width].

    This is the mean, over images and channels, of |∂ (sum of the output's channels at row, column) / ∂ pixel|. It is
    nonzero within the receptive field; its distribution there is the effective one (Luo et al. 2016,
    https://arxiv.org/abs/1701.04128).
    """
    x = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(module(x)[:, :, row, column].sum(), x)
    return gradient.abs().mean(dim=(0, 1))
