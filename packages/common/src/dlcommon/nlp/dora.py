"""DoRA: magnitude and direction of each row of a matrix, trained apart (Liu et al. 2024, arxiv.org/abs/2402.09353)."""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.nlp.lora import LoRAConfig, LoRALinear


class DoRALinear(LoRALinear):
    """Computes with m · (W + scaling · B A) / ‖W + scaling · B A‖ (equation 5), where each output has one norm.

    LoRA changes the direction; the magnitude m [out_features], at first the norms of W's rows, is trained beside it.
    The norm in the denominator gets no gradient (section 4.3). Equals peft's layer with `use_dora`.

    Args:
        base: the pretrained layer, of floating-point weights; its parameters are frozen.
        config: rank, scaling and dropout.

    Raises:
        ValueError: the weights are quantized.
    """

    trained: ClassVar[tuple[str, ...]] = ("lora_a", "lora_b", "magnitude")

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(base, config)
        if not base.weight.is_floating_point():
            raise ValueError("DoRA needs the norms of the weights, and these are quantized; use LoRALinear")
        self.magnitude = nn.Parameter(self.norm())
        self.merged_norm: torch.Tensor | None = None

    @torch.no_grad()
    def norm(self) -> torch.Tensor:
        """Computes the norm of each row of W + scaling · B A, [out_features]."""
        return torch.linalg.vector_norm(self.base.weight.to(self.lora_a.dtype) + super().update(), dim=1)

    def adapt(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Replaces the pretrained layer's output [..., out_features] by that of the rescaled matrix."""
        factor = self.magnitude / self.norm()  # [out_features]
        dropped = self.dropout(x)
        if self.training and self.dropout.p:  # what the factor changes is computed from what the dropout leaves
            plain = F.linear(dropped, self.base.weight.to(x.dtype))
        else:
            plain = output if self.base.bias is None else output - self.base.bias
        change = self.scaling * F.linear(F.linear(dropped, self.lora_a), self.lora_b)
        return output + (factor - 1) * plain + factor * change

    def update(self) -> torch.Tensor:
        """Computes the change of the matrix, [out_features, in_features]; W must not be merged."""
        weight = self.base.weight.to(self.lora_a.dtype)
        return (self.magnitude / self.norm())[:, None] * (weight + super().update()) - weight

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the change to W, unless it has been added."""
        if not self.merged:
            self.merged_norm = self.norm()  # which unmerging cannot compute
        super().merge()

    @torch.no_grad()
    def unmerge(self) -> None:
        """Takes the change out of W again, which restores it up to rounding."""
        if self.merged and self.merged_norm is not None:
            merged = self.base.weight.to(self.lora_a.dtype)
            self.base.weight.copy_((self.merged_norm / self.magnitude)[:, None] * merged - super().update())
            self.merged = False
