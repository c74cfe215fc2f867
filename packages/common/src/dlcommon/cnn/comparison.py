"""Short trainings of small networks, all by the same recipe, so that only the architectures differ.

Shapes: images [batch, 3, size, size], labels int64 [batch].
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dlcommon.training.schedules import linear, set_learning_rate


def sample(
    images: np.ndarray, labels: np.ndarray, num_images: int, size: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws images of a data set in random order and normalizes them for these networks.

    Args:
        images: uint8 [n, height, width, 1 or 3]; one channel is repeated to three.
        labels: [n].
        num_images: number of draws; all images if there are fewer.
        size: height and width of the result; pixels are averaged down to it.
        seed: of the draws.
    """
    rows = np.random.default_rng(seed).permutation(len(images))[:num_images]
    x = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float()
    # "area" averages the pixels under each new one; the divisor makes the standard deviation about 1.
    x = F.interpolate((x - 127.5) / 64, (size, size), mode="area")
    return x.expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels[rows])


def fit(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    lr: float = 4e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> list[float]:
    """Trains with Adam; the learning rate rises over the first quarter of the steps and then falls to zero.

    Args:
        network: maps images to logits; left in evaluation mode.
        images: to train on.
        labels: of the images.
        epochs: passes over the images.
        lr: peak learning rate.
        batch_size: images for one step.
        seed: of the order of the images; every network sees the same batches.

    Returns:
        The loss at each step.
    """
    order = torch.Generator().manual_seed(seed)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(images), generator=order).split(batch_size)]
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    schedule, losses = linear(warmup=0.25), []
    network.train()
    for step, rows in enumerate(batches):
        set_learning_rate(optimizer, schedule((step + 1) / len(batches)))
        loss = F.cross_entropy(network(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    update_bn_stats(network, images[:1000])
    return losses


@torch.no_grad()
def update_bn_stats(network: nn.Module, images: torch.Tensor, batch_size: int = 250) -> None:
    """Sets the running statistics of batch norms to plain means over these images.

    This is "precise" batch norm (Wu & Johnson 2021, https://arxiv.org/abs/2105.07576, section 3): after so few steps
    the moving averages lag far behind. The network is left in evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train().momentum = None  # torch's sign for a cumulative mean
    for part in images.split(batch_size):
        network(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


@torch.no_grad()
def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch_size: int = 250) -> float:
    """Computes the fraction of images that the network, in evaluation mode, classifies correctly."""
    predicted = torch.cat([network(part).argmax(dim=1) for part in images.split(batch_size)])
    return (predicted == labels).float().mean().item()


@torch.no_grad()
def count_params_and_macs(network: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Counts parameters, and the multiply-adds (MACs) of matrix products and convolutions for one image.

    Works on the meta device as well. The network is left in evaluation mode.

    Args:
        network: any network.
        image: [1, channels, height, width].
    """
    with FlopCounterMode(display=False) as counter:
        network.eval()(image)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2
