"""LeNet-5 as it was published (LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, section II.B),
and the form in which it is taught today.

The published network has 60,000 parameters to train, and differs from today's in four places: pooling has weights,
the third layer sees only some of the second's maps, the activation is a scaled tanh, and the outputs are distances to
codes that are not learned. Shapes: images [batch, 1, 32, 32].
"""

import torch
from torch import nn
from torch.nn import functional as F

CONNECTIONS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip
"""Table I: which of the six maps of S2 each of the sixteen maps of C3 takes."""


def scaled_tanh(x: torch.Tensor) -> torch.Tensor:
    """1.7159 · tanh(2x/3), so that ±1 goes to ±1, where the curvature is largest (appendix A)."""
    return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """The mean of 2×2 pixels times a trained coefficient plus a trained bias, one of each for a map.

    The paper adds the four pixels; the mean is the same function with a coefficient four times as large.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(maps)), nn.Parameter(torch.zeros(maps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """A 5×5 convolution whose outputs each see some of the inputs only. Has exactly the weights that it uses."""

    def __init__(self, connections: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.connections = connections
        self.kernels = nn.ParameterList(torch.empty(1, len(maps), 5, 5) for maps in connections)
        self.bias = nn.Parameter(torch.zeros(len(connections)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # One convolution with zeros for what is not connected is quicker than one for each output.
        dense = x.new_zeros(len(self.connections), x.size(1), 5, 5)
        for output, (maps, kernel) in enumerate(zip(self.connections, self.kernels, strict=True)):
            dense[output, list(maps)] = kernel[0]
        return F.conv2d(x, dense, self.bias)


class LeNet5(nn.Module):
    """The published network; names are the paper's. Trains 60,000 parameters.

    Each output is the squared distance between F6 and the class's code of 84 signs (equation 7). The paper draws the
    codes as 7×12 pictures of the characters and names random signs as the alternative; those are used here.
    """

    codes: torch.Tensor

    def __init__(self, classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        self.c1, self.s2 = nn.Conv2d(1, 6, 5), Subsampling(6)
        self.c3, self.s4 = PartialConvolution(CONNECTIONS), Subsampling(16)
        self.c5, self.f6 = nn.Conv2d(16, 120, 5), nn.Linear(120, 84)
        signs = torch.randint(2, (classes, 84), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
        self.register_buffer("codes", signs)
        for kernel in (self.c1.weight, *self.c3.kernels, self.c5.weight, self.f6.weight):
            fan_in = kernel[0].numel()
            nn.init.uniform_(kernel, -2.4 / fan_in, 2.4 / fan_in)  # appendix A

    def distances(self, images: torch.Tensor) -> torch.Tensor:
        """To the codes [batch, classes]: small for the class that the network sees."""
        x = scaled_tanh(self.s2(scaled_tanh(self.c1(images))))
        x = scaled_tanh(self.s4(scaled_tanh(self.c3(x))))
        x = scaled_tanh(self.f6(scaled_tanh(self.c5(x)).flatten(1)))
        return (x[:, None] - self.codes).square().sum(dim=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [batch, classes]: minus the distances. Their cross-entropy is the paper's criterion (equation 9)
        without its constant."""
        return -self.distances(images)


def modern_lenet(classes: int = 10, channels: int = 1) -> nn.Sequential:
    """The same plan with today's parts: ReLU, max pooling, full connections, a linear layer at the end."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, classes),
    )  # fmt: skip
