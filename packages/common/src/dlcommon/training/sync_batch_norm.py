"""Batch norm whose mean and variance are those of the whole batch, over all processes that hold a part of it."""

import torch
from torch import distributed, nn
from torch.nn import functional as F

from dlcommon.training.collectives import all_reduce_sum


class SyncBatchNorm(nn.BatchNorm2d):
    """Normalizes as one process with the whole batch would; a group need not hold equal parts.

    torch's own `nn.SyncBatchNorm` computes on accelerators only. Evaluation is that of `nn.BatchNorm2d`.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalizes [batch, channels, ...] for each channel."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        others = [dim for dim in range(x.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        count = torch.tensor(float(x.numel() // x.size(1)))
        distributed.all_reduce(count)
        mean = all_reduce_sum(x.sum(others)) / count  # [channels]
        deviations = x - mean.view(shape)
        # Of the deviations, since E[x²] − E[x]² would lose digits.
        variance = all_reduce_sum(deviations.square().sum(others)) / count
        self._update_running(mean.detach(), variance.detach() * count / (count - 1))
        normalized = deviations * (variance + self.eps).rsqrt().view(shape)
        return normalized * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
