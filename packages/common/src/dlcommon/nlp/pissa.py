"""PiSSA: adapters that start as the principal part of each matrix (Meng et al. 2024, arxiv.org/abs/2404.02948)."""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.nlp.lora import LoRAConfig, LoRALinear


class PiSSALinear(LoRALinear):
    """Computes (W − scaling · B₀ A₀) x + b + scaling · B A dropout(x), where A and B start as A₀ and B₀.

    scaling · B₀ A₀ is the best approximation of W of that rank: its largest singular values. Nothing changes before the
    first step, as in LoRA, but the first steps move what matters most in W. Equals peft's `init_lora_weights="pissa"`;
    there W itself is overwritten, here it is kept, so that `lora_disabled` gives the pretrained network, and what is
    stored, as LoRA of twice the rank, fits the pretrained W.

    Args:
        base: the pretrained layer, of floating-point weights; its parameters are frozen.
        config: rank, scaling and dropout.

    Raises:
        ValueError: the weights are quantized.
    """

    initial_a: torch.Tensor
    initial_b: torch.Tensor

    def __init__(self, base: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(base, config)
        if not base.weight.is_floating_point():
            raise ValueError("PiSSA needs the singular values of the weights, and these are quantized; use LoRALinear")
        u, s, vh = torch.linalg.svd(base.weight.detach().to(self.lora_a.dtype), full_matrices=False)
        root = (s[: config.rank] / self.scaling).sqrt()  # split evenly between B and A
        self.register_buffer("initial_a", root[:, None] * vh[: config.rank])
        self.register_buffer("initial_b", u[:, : config.rank] * root)
        self.lora_a = nn.Parameter(self.initial_a.clone())
        self.lora_b = nn.Parameter(self.initial_b.clone())

    def adapt(self, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Adds the change since the start to the pretrained layer's output [..., out_features]."""
        start = F.linear(F.linear(x, self.initial_a), self.initial_b)
        return super().adapt(x, output) - self.scaling * start

    def update(self) -> torch.Tensor:
        """Computes the change scaling · (B A − B₀ A₀) of the matrix, [out_features, in_features]."""
        return super().update() - self.scaling * (self.initial_b @ self.initial_a)
