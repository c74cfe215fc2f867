"""Small networks are trained the same way, and judged with statistics that are not behind."""

import numpy as np
import torch
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample, update_bn_stats
from torch import nn
from torch.nn import functional as F


def bright_and_dark(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey images of two classes that differ in brightness, uint8 [n, 8, 8, 1]."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    images = random.integers(0, 120, (count, 8, 8, 1)) + 100 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def small_network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


def test_images_are_drawn_averaged_and_given_three_channels() -> None:
    images, labels = bright_and_dark(50, 0)
    x, y = sample(images, labels, 20, 4)
    assert x.shape == (20, 3, 4, 4)
    rows = np.random.default_rng(0).permutation(50)[:20]
    assert (y.numpy() == labels[rows]).all()
    expected = (F.avg_pool2d(torch.from_numpy(images[rows, :, :, 0]).float()[:, None], 2) - 127.5) / 64
    for channel in range(3):
        torch.testing.assert_close(x[:, channel : channel + 1], expected)


def test_a_network_learns_and_the_same_seed_gives_the_same_losses() -> None:
    x, y = sample(*bright_and_dark(400, 0), 400, 8)
    networks = [small_network(0) for _ in range(2)]
    first, second = (fit(network, x, y, epochs=4) for network in networks)
    assert first == second
    assert len(first) == 4 * 7
    assert first[-1] < 0.5 * first[0]
    assert not networks[0].training
    assert accuracy(networks[0], *sample(*bright_and_dark(200, 1), 200, 8)) > 0.95


def test_settled_statistics_are_the_plain_mean_over_the_batches() -> None:
    network = small_network(0)
    x, _ = sample(*bright_and_dark(300, 0), 300, 8)
    update_bn_stats(network, x, batch_size=100)
    convolution, norm, *_ = network.children()
    with torch.no_grad():
        features = convolution(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, features.mean(1))
    torch.testing.assert_close(norm.running_var, features.var(1), rtol=0.02, atol=0)
    assert norm.momentum == 0.1
    assert not norm.training


def test_accuracy_counts_the_rightly_classified() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.one_hot((x.mean((1, 2, 3)) > 0).long(), 2).float()

    x = torch.cat([torch.ones(3, 3, 2, 2), -torch.ones(5, 3, 2, 2)])
    assert accuracy(Fixed(), x, torch.ones(8, dtype=torch.long), batch_size=3) == 3 / 8


def test_costs_are_those_that_one_counts_by_hand() -> None:
    with torch.device("meta"):
        network, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 9, 2)), torch.empty(1, 3, 5, 5)
    products = 9 * (4 * 3 * 9) + 2 * 36
    assert count_params_and_macs(network, image) == ((4 * 3 * 9 + 4) + (2 * 36 + 2), products)
    assert not network.training
