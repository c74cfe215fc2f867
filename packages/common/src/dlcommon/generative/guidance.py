"""Classifier-free guidance: conditions are followed more strictly than they were learned (Ho & Salimans 2022).

https://arxiv.org/abs/2207.12598. One network is trained with labels and, where they were dropped, without.
"""

from collections.abc import Callable

import torch

ConditionalDenoiser = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps noisy data [batch, ...], timesteps [batch] and labels [batch] to its prediction, shaped like the data."""


def drop_labels(
    labels: torch.Tensor, null_label: int, probability: float = 0.1, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Replaces labels [batch] by `null_label` at random, so that the network learns both tasks (algorithm 1).

    Raises:
        ValueError: `probability` is not from 0 to 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be from 0 to 1, not {probability}")
    dropped = torch.rand(labels.shape, generator=generator, device=labels.device) < probability
    return labels.masked_fill(dropped, null_label)


class ClassifierFreeGuidance:
    """Combines a network's conditional and unconditional predictions into one denoiser.

    prediction = unconditional + scale · (conditional − unconditional). 1 is the conditional model, 0 the unconditional
    one; above 1, samples follow their label more strictly and vary less. The paper's w is scale − 1 (equation 6).
    It works for ε-, x_0- and v-predictions and for velocities alike, since all of them are linear in each other.

    Args:
        network: the conditional denoiser.
        labels: what to sample, [batch].
        null_label: the label that stands for none.
        scale: strength of the guidance.
    """

    def __init__(self, network: ConditionalDenoiser, labels: torch.Tensor, null_label: int, scale: float) -> None:
        self.network, self.labels, self.null_label, self.scale = network, labels, null_label, scale

    def __call__(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Predicts from noisy data [batch, ...] and timesteps [batch], in one pass over twice the batch."""
        if self.scale == 1:
            return self.network(x, timesteps, self.labels)
        labels = torch.cat((self.labels, torch.full_like(self.labels, self.null_label)))
        both = self.network(torch.cat((x, x)), torch.cat((timesteps, timesteps)), labels)
        conditional, unconditional = both.chunk(2)
        return unconditional + self.scale * (conditional - unconditional)
