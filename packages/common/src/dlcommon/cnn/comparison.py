"""Training small networks briefly and all in the same way, so that what differs is the architecture.

Shapes: images [batch, 3, side, side], labels [batch].
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dlcommon.training.schedules import linear, set_learning_rate


def sample(
    images: np.ndarray, labels: np.ndarray, count: int, side: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Some images of a data set, in random order, as these networks take them.

    Args:
        images: uint8 [n, height, width, 1 or 3]; grey ones are given to all three channels.
        count: how many, or all if there are fewer.
        side: height and width of the result; pixels are averaged down to it.
    """
    rows = np.random.default_rng(seed).permutation(len(images))[:count]
    x = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float()
    x = F.interpolate((x - 127.5) / 64, (side, side), mode="area")
    return x.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels[rows])


def fit(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    learning_rate: float = 4e-3,
    batch: int = 64,
    seed: int = 0,
) -> list[float]:
    """Adam, whose rate rises over the first quarter of the steps and falls to zero over the others.

    Args:
        seed: of the order of the images; every network sees the same batches.

    Returns:
        The loss at each step. The network is left in evaluation mode.
    """
    order = torch.Generator().manual_seed(seed)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(images), generator=order).split(batch)]
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule, losses = linear(warmup=0.25), []
    network.train()
    for step, rows in enumerate(batches):
        set_learning_rate(optimizer, schedule((step + 1) / len(batches)))
        loss = F.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    settle_statistics(network, images[:1000])
    return losses


@torch.no_grad()
def settle_statistics(network: nn.Module, images: torch.Tensor, batch: int = 250) -> None:
    """Sets batch norms' running statistics to plain means over these images ("precise" batch norm, Wu & Johnson
    2021, https://arxiv.org/abs/2105.07576, section 3): moving averages are far behind after so few steps."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None  # a cumulative mean
    for part in images.split(batch):
        network(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


@torch.no_grad()
def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int = 250) -> float:
    """Share of the images that the network, in evaluation mode, classifies rightly."""
    predicted = torch.cat([network(part).argmax(dim=1) for part in images.split(batch)])
    return (predicted == labels).float().mean().item()


@torch.no_grad()
def costs(network: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Parameters, and multiply-adds of the network's products and convolutions, for one image; on the meta device as
    well. The network is left in evaluation mode.

    Args:
        image: [1, channels, height, width].
    """
    with FlopCounterMode(display=False) as counter:
        network.eval()(image)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2
