"""LeNet-5 as it was published (LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, section II.B),
and the form in which it is taught today.

The published network has 60,000 trainable parameters and differs from today's in four respects: pooling has weights,
the third layer is connected to only some of the second's maps, the activation is a scaled tanh, and the outputs are
distances to fixed codes. Shapes: images [batch, 1, 32, 32].
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
"""Maps of S2 (of six) that each of the sixteen maps of C3 is connected to: table I."""


def scaled_tanh(x: torch.Tensor) -> torch.Tensor:
    """Computes 1.7159 · tanh(2x/3), which maps ±1 to ±1, where its curvature is largest (appendix A)."""
    return 1.7159 * torch.tanh(2 / 3 * x)


class Subsampling(nn.Module):
    """Averages 2×2 pixels, then applies a trainable scale and bias per map: halves height and width.

    The paper adds the four pixels; the mean is the same function with a scale four times as large.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, channels, height, width] to [batch, channels, height / 2, width / 2]."""
        return F.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """Convolves by 5×5, each output map from some of the input maps only; holds no other weights than it uses.

    Args:
        connections: for each output map, the indices of its input maps.
    """

    def __init__(self, connections: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.connections = connections
        self.kernels = nn.ParameterList(torch.empty(1, len(maps), 5, 5) for maps in connections)
        self.bias = nn.Parameter(torch.zeros(len(connections)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [batch, in_channels, height, width] to [batch, len(connections), height − 4, width − 4]."""
        # One dense convolution, with zeros where nothing is connected, is faster than one for each output.
        dense = x.new_zeros(len(self.connections), x.size(1), 5, 5)
        for output, (maps, kernel) in enumerate(zip(self.connections, self.kernels, strict=True)):
            dense[output, list(maps)] = kernel[0]
        return F.conv2d(x, dense, self.bias)


class LeNet5(nn.Module):
    """Implements the published network, with the paper's names and 60,000 trainable parameters.

    Each output is the squared distance between F6 and the class's code of 84 signs (equation 7). In the paper the codes
    are 7×12 pictures of the characters; random signs, which it names as an alternative, are used here.

    Args:
        num_classes: number of codes.
        seed: of the codes.
    """

    codes: torch.Tensor

    def __init__(self, num_classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        self.c1, self.s2 = nn.Conv2d(1, 6, 5), Subsampling(6)
        self.c3, self.s4 = PartialConvolution(CONNECTIONS), Subsampling(16)
        self.c5, self.f6 = nn.Conv2d(16, 120, 5), nn.Linear(120, 84)
        signs = torch.randint(2, (num_classes, 84), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
        self.register_buffer("codes", signs)
        for kernel in (self.c1.weight, *self.c3.kernels, self.c5.weight, self.f6.weight):
            fan_in = kernel[0].numel()
            nn.init.uniform_(kernel, -2.4 / fan_in, 2.4 / fan_in)  # appendix A

    def distances(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the squared distances to the codes, [batch, num_classes]: small for the predicted class."""
        x = scaled_tanh(self.s2(scaled_tanh(self.c1(images))))  # [batch, 6, 14, 14]
        x = scaled_tanh(self.s4(scaled_tanh(self.c3(x))))  # [batch, 16, 5, 5]
        x = scaled_tanh(self.f6(scaled_tanh(self.c5(x)).flatten(1)))  # [batch, 84]
        return (x[:, None] - self.codes).square().sum(dim=2)  # [batch, 1, 84] − [num_classes, 84]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Computes the logits [batch, num_classes], the negative distances.

        Their cross-entropy is the paper's criterion (equation 9) without its constant.
        """
        return -self.distances(images)


def modern_lenet(num_classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """Builds the same layout with today's layers: ReLU, max pooling, dense convolutions, a linear output layer."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, num_classes),
    )  # fmt: skip
