"""The networks: a fast one made for time-to-accuracy, the ResNets, and any of timm's.

Shapes: images [batch, 3, height, width], normalized; features [batch, channels, height, width].
"""

import json
from collections.abc import Iterator

import numpy as np
import torch
from dlcommon.cnn.grad_cam import class_activation_maps
from dlcommon.cnn.residual import ResNet, convolution, resnet18, resnet34, resnet50
from dlcommon.cnn.whitening import WhiteningConv
from dlcommon.neural_networks.ensemble import Ensemble
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from torch import nn
from torch.nn import functional as F

from cifar10_resnet.config import Config

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the training set's channels, in [0, 1]."""

OUTPUTS = ("probabilities", "activation_maps")
"""Names of what `InferenceModel` returns."""


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Makes a batch norm with fast statistics, since training is short, and no scale, since the next kernel has one."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


class Stage(nn.Module):
    """Halves the image: convolution, pooling, then a residual block of two convolutions."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, out_channels, 3)
        self.norm1 = batch_norm(out_channels)
        self.conv2 = convolution(out_channels, out_channels, 3)
        self.norm2 = batch_norm(out_channels)
        self.conv3 = convolution(out_channels, out_channels, 3)
        self.norm3 = batch_norm(out_channels)
        for conv in (self.conv1, self.conv2, self.conv3):
            # The first channels pass through unchanged at the start, as in an identity network.
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        residual = F.gelu(self.norm2(self.conv2(x)))
        return F.gelu(x + self.norm3(self.conv3(residual)))


class FastResNet(nn.Module):
    """Classifies images with a whitening convolution, three stages, global max pooling, linear layer.

    The shape is that of Jordan 2024 (https://arxiv.org/abs/2404.00498), which goes back to Page's ResNet-9
    (https://myrtle.ai/learn/how-to-train-your-resnet/).
    """

    def __init__(self, widths: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.whitening = WhiteningConv(3, kernel_size=2)
        self.stages = nn.Sequential(
            Stage(self.whitening.out_channels, widths[0]),
            Stage(widths[0], widths[1]),
            Stage(widths[1], widths[2]),
        )
        self.fc = nn.Linear(widths[2], num_classes, bias=False)
        nn.init.normal_(self.fc.weight, std=1 / widths[2])

    def features(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.stages(F.gelu(self.whitening(images)))
        return features

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Computes logits [batch, num_classes]."""
        # Not `amax`, whose gradient compares the values with their maximum: compiled in bf16, none equals it.
        logits: torch.Tensor = self.fc(F.max_pool2d(features, features.shape[2:]).flatten(1))
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(images))


def build(config: Config, num_classes: int) -> Ensemble:
    """Builds the config's networks, with random weights.

    Raises:
        UsageError: as of `network`.
    """
    return Ensemble([network(config.model, num_classes, config.widths) for _ in range(config.members)])


def network(name: str, num_classes: int, widths: tuple[int, int, int]) -> nn.Module:
    """Builds the network of that name, with random weights.

    Raises:
        UsageError: `timm/…` names no model of timm's, or timm is not installed.
    """
    builders = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
    if name == "fast":
        return FastResNet(widths, num_classes)
    if name in builders:
        return builders[name](num_classes, small_images=True)
    import timm

    model_name = name.removeprefix("timm/")
    if not timm.is_model(model_name):
        close = ", ".join(timm.list_models(f"*{model_name[:6]}*")[:5]) or "see timm.list_models()"
        raise UsageError(f"--model {name}: timm has no model {model_name!r}; similar: {close}")
    return timm.create_model(model_name, num_classes=num_classes)


class Normalize(nn.Module):
    """Turns uint8 [batch, height, width, 3] into normalized float [batch, 3, height, width]."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.permute(0, 3, 1, 2).float() - self.mean) / self.std


VIEW_WEIGHTS = (0.25, 0.25, 0.125, 0.125, 0.125, 0.125)
"""Of the six views: as it is, mirrored; shifted up-left, mirrored; shifted down-right, mirrored."""


def six_views(images: torch.Tensor) -> torch.Tensor:
    """Augments at test time as in Jordan 2024: [batch, …] to [6 · batch, …], view by view."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
    shifted = (images, padded[:, :, :height, :width], padded[:, :, 2:, 2:])
    return torch.cat([view for picture in shifted for view in (picture, picture.flip(-1))])


class InferenceModel(nn.Module):
    """Adds preprocessing, test-time augmentation and activation maps: this is evaluated and exported."""

    def __init__(self, networks: Ensemble, tta: bool, temperature: float = 1.0) -> None:
        super().__init__()
        self.normalize, self.networks, self.tta, self.temperature = Normalize(), networks, tta, temperature
        self.register_buffer("weights", torch.tensor(VIEW_WEIGHTS if tta else (1.0,)), persistent=False)

    weights: torch.Tensor

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes probabilities [batch, num_classes] and class activation maps [batch, num_classes, rows, columns].

        Logits and maps are the mean of the networks'. The maps are empty for networks that do not end in global pooling
        and one linear layer.
        """
        views = self.normalize(images)
        if self.tta:
            views = six_views(views)
        answers = [self._answer(member, views, images.size(0)) for member in self.networks.members]
        logits, maps = (torch.stack(each).mean(dim=0) for each in zip(*answers, strict=True))
        by_view = logits.reshape(len(self.weights), -1, logits.size(1))  # [views, batch, num_classes]
        averaged = (self.weights[:, None, None] * by_view).sum(dim=0)
        return (averaged / self.temperature).softmax(dim=1), maps

    @staticmethod
    def _answer(member: nn.Module, views: torch.Tensor, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Computes one network's logits [views · batch, num_classes], and its maps of the first view."""
        if not isinstance(member, FastResNet | ResNet):
            logits = member(views).float()
            return logits, logits.new_zeros(batch, logits.size(1), 0, 0)
        features = member.features(views)
        maps = class_activation_maps(features[:batch].float(), member.fc.weight)
        return member.classify(features).float(), maps


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns the trained networks of a run as they are exported."""
    config, facts = saved.config, saved.summary["training"]
    classes = facts["classes"]
    networks = build(config, len(classes))
    networks.load_state_dict(saved.weights())
    module = InferenceModel(networks, config.tta, facts["temperature"]).eval()
    example = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    labels = {
        "labels": json.dumps(classes),
        "views": "6" if config.tta else "1",
        "network": f"{config.model} × {config.members}",
    }
    return ExportGraph(module, {"images": example}, OUTPUTS, labels)


def calibration(data: LocatedDataSet) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches of training images to quantize with."""
    images = data.load().train_images
    for start in range(0, min(512, len(images)), 64):
        yield {"images": images[start : start + 64]}
