"""Changes the frequencies of rotary embedding, so that a model reads longer texts than it was trained on."""

import math
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class RopeScaling:
    """States how a model's rotary frequencies are slowed down.

    Raises:
        ValueError: the factors are not positive, or the high one does not exceed the low one.
    """

    kind: Literal["linear", "llama3"]
    """`linear` divides all frequencies (Chen et al. 2023, https://arxiv.org/abs/2306.15595); `llama3`, of Llama 3.1,
    divides the slow ones only, so that near tokens are told apart as before."""
    factor: float
    """How many times slower a frequency becomes."""
    low_freq_factor: float = 1.0
    """`llama3`: wavelengths above original_context_length / low_freq_factor are divided."""
    high_freq_factor: float = 4.0
    """`llama3`: wavelengths below original_context_length / high_freq_factor are kept."""
    original_context_length: int = 8192
    """`llama3`: tokens that the model was trained on before."""

    def __post_init__(self) -> None:
        if self.factor <= 0 or not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ValueError("a RoPE scaling needs factor > 0 and 0 < low_freq_factor < high_freq_factor")

    def scale(self, frequencies: torch.Tensor) -> torch.Tensor:
        """Returns the slowed frequencies: [head_dim / 2], radians per token, to the same."""
        slowed = frequencies / self.factor
        if self.kind == "linear":
            return slowed
        # Turns that a pair of coordinates makes within the original context: many for the fast pairs.
        turns = self.original_context_length * frequencies / (2 * math.pi)  # [head_dim / 2]
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        return torch.lerp(slowed, frequencies, kept.clamp(0.0, 1.0))
