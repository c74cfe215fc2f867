"""Computed receptive fields against what reaches an output: a NaN put into each pixel, and gradients."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from dlcommon.cnn.alexnet import AlexNet
from dlcommon.cnn.efficientnet import EfficientNet
from dlcommon.cnn.mobilenet import MobileNetV2
from dlcommon.cnn.receptive_field import EVERYTHING, GLOBAL, PIXEL, Span, gradient_map, receptive_fields
from dlcommon.cnn.residual import BasicBlock, ResNet, resnet18
from torch import nn
from torch.nn import functional as F


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, (3, 5), padding=(1, 0)), nn.BatchNorm2d(3), nn.ReLU6(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(3, 2, 3, dilation=2, padding=1), nn.SiLU(), nn.Dropout(), nn.AvgPool2d(2), nn.Conv2d(2, 2, 2),
    )  # fmt: skip


class Joined(nn.Module):
    """A residual of two 3×3 convolutions, and a 5×5 one beside it, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.beside = nn.Conv2d(2, 2, (1, 5), stride=2, padding=(0, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first(x))
        return torch.cat([y + self.second(y), self.beside(x)], dim=1)


def reached(network: nn.Module, height: int, width: int, row: int, column: int) -> tuple[int, int, int, int]:
    """First and last row, first and last column of the pixels from which a NaN reaches one place of the output.

    A NaN passes convolutions whatever their weights, ReLU and the maximum.
    """
    places = torch.arange(height * width)
    images = torch.rand(height * width, 2, height, width, dtype=torch.float64)
    images[places, :, places // width, places % width] = torch.nan
    hit = network(images)[:, :, row, column].isnan().any(dim=1).view(height, width)
    rows, columns = hit.any(dim=1).nonzero(), hit.any(dim=0).nonzero()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "chain": chain,
    "joined": Joined,
    "residual": lambda: nn.Sequential(nn.Conv2d(2, 3, 1), BasicBlock(3, 3), BasicBlock(3, 4, stride=2)),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_nan_reaches_an_output_from_exactly_its_receptive_field(name: str) -> None:
    torch.manual_seed(0)
    height, width = 22, 25
    network = NETWORKS[name]().double().eval()
    field = receptive_fields(network, (2, height, width))[""]
    rows, columns = network(torch.zeros(1, 2, height, width, dtype=torch.float64)).shape[2:]
    for row, column in [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (0, columns // 3)]:
        expected = (*field.rows.pixels(row, height), *field.columns.pixels(column, width))
        assert reached(network, height, width, row, column) == expected


def test_gradients_are_zero_outside_the_field_and_reach_its_edges() -> None:
    torch.manual_seed(0)
    network = resnet18(num_classes=2, small_images=True).eval()
    network.load_state_dict({name: tensor.abs() + 0.01 for name, tensor in network.state_dict().items()})
    layer2 = nn.Sequential(network.conv1, network.bn1, nn.ReLU(), network.layer1, network.layer2)
    field = receptive_fields(layer2, (3, 64, 64))[""]
    strength = gradient_map(layer2, torch.rand(1, 3, 64, 64), 16, 16)
    rows = strength.amax(dim=1).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == field.rows.pixels(16, 64)
    assert field.rows.size == field.columns.size == 25


def test_known_fields() -> None:
    """Araujo et al. 2019, table 1: AlexNet 195, VGG-16 212, ResNet-50 483 pixels."""
    with torch.device("meta"):
        alexnet, vgg16, resnet = AlexNet(), torchvision.models.vgg16().features, torchvision.models.resnet50()
    assert receptive_fields(alexnet, (3, 224, 224))["features"].rows.size == 195
    assert receptive_fields(vgg16, (3, 224, 224))[""].rows.size == 212
    found = receptive_fields(resnet, (3, 224, 224))
    assert list(found)[:4] == ["conv1", "bn1", "relu", "maxpool"]
    assert found["layer4"].rows == Span(-213, 213, 32)
    assert found[""] == GLOBAL
    for block in resnet.modules():  # the table's has its strides in the 1×1 convolutions, as in the paper
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    assert receptive_fields(resnet, (3, 224, 224))["layer4"].rows.size == 483


def test_squeeze_and_excitation_sees_everything_and_separable_convolutions_do_not() -> None:
    assert receptive_fields(EfficientNet(5), (3, 64, 64))["features.2"] == GLOBAL
    assert receptive_fields(MobileNetV2(5), (3, 64, 64))["features.2"].rows.size == 11


def test_a_group_norm_sees_everything() -> None:
    assert receptive_fields(nn.GroupNorm(1, 2), (2, 8, 8))[""] == GLOBAL


@pytest.mark.parametrize(
    ("module", "operation"),
    [(nn.ConvTranspose2d(2, 2, 2, stride=2), "convolution"), (nn.PixelShuffle(2), "pixel_shuffle|view|permute")],
    ids=["transposed", "shuffled"],
)
def test_what_is_not_known_is_said(module: nn.Module, operation: str) -> None:
    with pytest.raises(ValueError, match=operation):
        receptive_fields(module, (4 if "shuffle" in operation else 2, 8, 8))


def test_branches_of_different_strides_do_not_meet() -> None:
    with pytest.raises(ValueError, match="strides 1 and 2"):
        PIXEL.union(PIXEL.after(3, 2, 1))
    assert PIXEL.union(EVERYTHING) == EVERYTHING
    assert PIXEL.after(3, 2, 1).after(3, 1, 1) == Span(-3, 3, 2)


def test_the_module_stays_as_it_was() -> None:
    network = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=2, widths=(4, 4, 4, 4)).train()
    network.bn1.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    receptive_fields(network, (3, 32, 32))
    assert network.training
    assert not network.bn1.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.conv1._forward_hooks
