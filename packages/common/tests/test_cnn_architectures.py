"""AlexNet, VGG, MobileNets and EfficientNet against torchvision's and timm's with the same weights; LeNet-5 against
its layers written out map by map."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision.models as reference
from dlcommon.cnn.alexnet import AlexNet
from dlcommon.cnn.efficientnet import SCALES, EfficientNet, StochasticDepth, efficientnet
from dlcommon.cnn.lenet import CONNECTIONS, LeNet5, Subsampling, modern_lenet
from dlcommon.cnn.mobilenet import MobileNetV1, MobileNetV2, round_channels
from dlcommon.cnn.mobilenet_v3 import (
    V3_LARGE,
    HardSigmoid,
    HardSwish,
    MobileNetV3,
    mobilenet_v3_large,
    mobilenet_v3_small,
)
from dlcommon.cnn.squeeze_excitation import SqueezeExcitation
from dlcommon.cnn.vgg import VGG, vgg
from torch import nn
from torch.nn import functional as F

Build = Callable[..., nn.Module]


def timm_mobilenet_v1(num_classes: int = 1000) -> nn.Module:
    timm = pytest.importorskip("timm", reason="timm is no dependency of dlcommon; the capstones' environment has it")
    network: nn.Module = timm.create_model("mobilenetv1_100", num_classes=num_classes)
    return network


ARCHITECTURES = [
    pytest.param(AlexNet, reference.alexnet, 64, 61_100_840, id="alexnet"),
    pytest.param(lambda n=1000: vgg(16, n), reference.vgg16, 32, 138_357_544, id="vgg16"),
    pytest.param(lambda n=1000: vgg(11, n, batch_norm=True), reference.vgg11_bn, 32, 132_868_840, id="vgg11-bn"),
    pytest.param(MobileNetV1, timm_mobilenet_v1, 32, 4_231_976, id="mobilenet-v1"),
    pytest.param(MobileNetV2, reference.mobilenet_v2, 32, 3_504_872, id="mobilenet-v2"),
    pytest.param(mobilenet_v3_large, reference.mobilenet_v3_large, 32, 5_483_032, id="mobilenet-v3-large"),
    pytest.param(mobilenet_v3_small, reference.mobilenet_v3_small, 32, 2_542_856, id="mobilenet-v3-small"),
    pytest.param(lambda n=1000: efficientnet(0, n), reference.efficientnet_b0, 32, 5_288_548, id="efficientnet-b0"),
]


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def narrowed(network: nn.Module) -> nn.Module:
    """With 4096 units replaced by 8: AlexNet's and VGG's wide linear layers hold nine tenths of the weights."""
    for layers in network.modules():
        if isinstance(layers, nn.Sequential):
            for number, layer in enumerate(layers):
                if isinstance(layer, nn.Linear) and 4096 in (layer.in_features, layer.out_features):
                    inputs, outputs = (8 if n == 4096 else n for n in (layer.in_features, layer.out_features))
                    layers[number] = nn.Linear(inputs, outputs)
    return network


def fill(network: nn.Module) -> nn.Module:
    """A network of the meta device, in float64 with random weights and statistics that keep the signal's size."""
    generator = torch.Generator().manual_seed(1)
    network = network.double().to_empty(device="cpu")
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            value.zero_()
            continue
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var") or (value.dim() == 1 and name.endswith("weight")):
            value.copy_(noise.abs() + 0.5)
        elif value.dim() == 1:
            value.copy_(0.2 * noise)
        else:
            value.copy_(noise * (2 / value[0].numel()) ** 0.5)
    return network


class ExactHardSigmoid(nn.Module):
    """torch's takes 1/6 in float32 in its gradient, also of float64: 5e-9 off, 1e-5 after many layers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu6(x + 3) / 6


def exact(network: nn.Module) -> nn.Module:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Hardsigmoid):
                setattr(module, name, ExactHardSigmoid())
    return network


@pytest.mark.parametrize(("build", "reference_for", "side", "count"), ARCHITECTURES)
def test_values_and_gradients_equal_the_references(build: Build, reference_for: Build, side: int, count: int) -> None:
    with torch.device("meta"):
        ours, theirs = build(), reference_for()
        assert shapes(ours) == shapes(theirs)
        assert parameters(ours) == count
        theirs, ours = narrowed(reference_for(num_classes=7)), narrowed(build(7))
    theirs = exact(fill(theirs))
    ours = ours.double().to_empty(device="cpu")
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    results = []
    for network in (ours, theirs):
        x = images.clone().requires_grad_()
        logits = network.eval()(x)
        (logits * torch.arange(1.0, 8, dtype=torch.float64)).sum().backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        results.append({"logits": logits.detach(), "input": x.grad, **gradients})
    assert results[0]["logits"].std() > 1e-3
    assert results[0]["input"].abs().max() > 1e-6
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("build", "reference_for"),
    [
        *((partial(vgg, n), getattr(reference, f"vgg{n}")) for n in (11, 13, 19)),
        *((partial(efficientnet, n), getattr(reference, f"efficientnet_b{n}")) for n in (1, 4, 7)),
    ],
    ids=["vgg11", "vgg13", "vgg19", "b1", "b4", "b7"],
)
def test_larger_members_have_the_references_names_and_shapes(build: Build, reference_for: Build) -> None:
    with torch.device("meta"):
        assert shapes(build()) == shapes(reference_for())


def test_the_width_multiplier_is_the_references() -> None:
    with torch.device("meta"):
        assert shapes(MobileNetV2(width_mult=0.35)) == shapes(reference.mobilenet_v2(width_mult=0.35))
        ours, theirs = MobileNetV3(V3_LARGE, 1280, width_mult=0.75), reference.mobilenet_v3_large(width_mult=0.75)
        assert shapes(ours) == shapes(theirs)
    assert [round_channels(n) for n in (3, 11, 12, 19.2, 36)] == [8, 16, 16, 24, 40]  # 11 to 8 would lose a quarter


def test_stochastic_depth_grows_to_its_share_and_leaves_out_whole_images() -> None:
    with torch.device("meta"):
        ours, theirs = efficientnet(0), reference.efficientnet_b0()
    drops = [m.p for m in ours.modules() if isinstance(m, StochasticDepth)]
    expected = [m.p for m in theirs.modules() if type(m).__name__ == "StochasticDepth"]
    assert drops == expected
    torch.manual_seed(0)
    layer = StochasticDepth(0.3)
    branch = torch.rand(4000, 2, 1, 3) + 1
    factors = layer(branch) / branch
    for image in (factors == 0, factors.sub(1 / 0.7).abs() < 1e-6):
        assert torch.equal(image.any(dim=(1, 2, 3)), image.all(dim=(1, 2, 3)))
    assert factors.mean() == pytest.approx(1, abs=0.05)  # its deviation is 0.01
    assert torch.equal(layer.eval()(branch), branch)
    with pytest.raises(ValueError, match="must lie in"):
        StochasticDepth(1.0)


def test_without_squeeze_or_stride_the_rest_stays() -> None:
    with torch.device("meta"):
        plain = EfficientNet(10, use_se=False, stem_stride=1)
        assert not any(isinstance(m, SqueezeExcitation) for m in plain.modules())
        assert plain.features(torch.empty(2, 3, 32, 32)).shape == (2, 1280, 2, 2)
    assert len(SCALES) == 8


def test_squeeze_and_excitation_equals_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = torchvision_squeeze(6, 3).double()
    ours = SqueezeExcitation(6, 3).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.scale(x).shape == (2, 6, 1, 1)


def torchvision_squeeze(channels: int, squeezed: int) -> nn.Module:
    from torchvision.ops import SqueezeExcitation as Theirs

    layer: nn.Module = Theirs(channels, squeezed)
    return layer


@pytest.mark.parametrize(("ours", "theirs"), [(HardSigmoid(), F.hardsigmoid), (HardSwish(), F.hardswish)])
def test_hard_activations_equal_torchs(ours: nn.Module, theirs: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.linspace(-5, 5, 41, dtype=torch.float64) + 0.05  # not on the corners, where the gradient is a choice
    results = []
    for function in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        results.append((y.detach(), torch.autograd.grad(y.square().sum(), leaf)[0]))
    torch.testing.assert_close(results[0], results[1])


def lenet_by_hand(network: LeNet5, images: torch.Tensor) -> torch.Tensor:
    """Section II.B written out, C3 map by map."""

    def squash(x: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(x * 2 / 3)

    def subsample(x: torch.Tensor, layer: Subsampling) -> torch.Tensor:
        summed = x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]
        return squash(summed * (layer.weight / 4).view(-1, 1, 1) + layer.bias.view(-1, 1, 1))

    s2 = subsample(squash(F.conv2d(images, network.c1.weight, network.c1.bias)), network.s2)
    maps = [
        F.conv2d(s2[:, list(inputs)], network.c3.kernels[k], network.c3.bias[k : k + 1])
        for k, inputs in enumerate(CONNECTIONS)
    ]
    s4 = subsample(squash(torch.cat(maps, dim=1)), network.s4)
    assert network.c5.bias is not None
    c5 = squash(s4.flatten(1) @ network.c5.weight.flatten(1).T + network.c5.bias)
    f6 = squash(c5 @ network.f6.weight.T + network.f6.bias)
    return -torch.stack([(f6 - code).pow(2).sum(dim=1) for code in network.codes], dim=1)


def test_lenet5_equals_the_paper_written_out_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    network = LeNet5().double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    results = []
    for forward in (network, lambda x: lenet_by_hand(network, x)):
        logits = forward(images)
        results.append([logits, *torch.autograd.grad(logits.sin().sum(), list(network.parameters()))])
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_lenet5_trains_the_papers_60000_parameters() -> None:
    network = LeNet5()
    layers = {name: parameters(layer) for name, layer in network.named_children()}
    assert layers == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert set(network.codes.unique().tolist()) == {-1.0, 1.0}
    assert parameters(modern_lenet()) == 61_706


@pytest.mark.parametrize(
    "network",
    [
        AlexNet(5, widths=(4, 4, 4, 4, 4), hidden_features=8, small_images=True),
        VGG((1, 1, 1), 5, widths=(4, 4, 4), hidden_features=8, pool_size=4),
        MobileNetV1(5, 0.25, ((16, 1, 2),), stem_stride=1),
        MobileNetV2(5, 0.25, ((2, 16, 1, 2),), stem_stride=1, last_channel=16),
        MobileNetV3(V3_LARGE[:2], 16, 5, stem_stride=1),
    ],
    ids=lambda network: type(network).__name__,
)
def test_small_versions_take_small_images(network: nn.Module) -> None:
    assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_a_width_without_its_depth_is_refused() -> None:
    with pytest.raises(ValueError):
        VGG((1, 1), widths=(4, 4, 4))
