"""Features that pictures are compared by: of EfficientNet-Lite0, or, for generated data, of fixed random convolutions.

Which of the two is decided by the data set alone, so that no figure depends on what a machine happens to have.
"""

import dataclasses
import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from dlcommon.cnn.efficientnet_lite import EfficientNetLite0, fold_batch_norms
from dlcommon.runtime.data.cache import decoded_folder, decoded_folders
from dlcommon.runtime.data.locate_asset import LocatedAsset, require_asset
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import whole_folder

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet

ASSET = "efficientnet-lite0"
PIXELS = 128
"""Sides that pictures are resized to for EfficientNet-Lite0."""
AT_ONCE = 100
RANDOM_WIDTHS = (32, 64, 128)
KEPT = 6
"""Sets of features of one network that the cache holds."""


class FeatureNetwork(Protocol):
    """Maps images [batch, 3, height, width] in [−1, 1] to features [batch, dim]."""

    def features(self, images: torch.Tensor) -> torch.Tensor: ...

    def to(self, device: torch.device) -> Self: ...


class RandomConvolutions(nn.Module):
    """Convolves with random kernels, always the same, and describes three resolutions by means and deviations.

    Good enough to tell blur, noise and repetition from faithful pictures, as a test holds; blind to meaning.
    """

    def __init__(self) -> None:
        super().__init__()
        random = np.random.Generator(np.random.Philox(0))
        self.layers = nn.ModuleList()
        for inputs, outputs in zip((3, *RANDOM_WIDTHS[:-1]), RANDOM_WIDTHS, strict=True):
            layer = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            drawn = random.standard_normal((outputs, inputs, 3, 3), np.float32) * np.sqrt(2 / (9 * inputs))
            layer.weight = nn.Parameter(torch.from_numpy(drawn.astype(np.float32)), requires_grad=False)
            self.layers.append(layer)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [batch, 3, height, width] to [batch, 448]."""
        parts, x = [], images
        for layer in self.layers:
            x = F.relu(layer(x))
            parts += [x.mean(dim=(2, 3)), x.var(dim=(2, 3), correction=0).add(1e-8).sqrt()]
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class ImageFeatures:
    """Computes features of pictures with a fixed network."""

    name: str
    """Of the network, which stands beside every figure made with it."""
    network: FeatureNetwork
    version: str
    """Changes when the network does: part of the cache's key."""
    pixels: int | None = None
    """Sides that pictures are resized to; None leaves them as they are."""
    device: str = "cpu"

    def on(self, device: torch.device) -> "ImageFeatures":
        """Moves the network to a device, whose features may differ in the last digits and are cached by themselves."""
        network = self.network.to(device)
        return dataclasses.replace(self, network=network, device=str(device), version=f"{self.version} {device.type}")

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Computes features float32 [samples, dim] of pictures uint8 [samples, height, width, 3]."""
        parts = []
        for start in range(0, len(images), AT_ONCE):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + AT_ONCE])).to(self.device)
            x = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
            if self.pixels is not None:
                x = F.interpolate(x, (self.pixels, self.pixels), mode="bilinear", antialias=True)
            parts.append(self.network.features(x.contiguous(memory_format=torch.channels_last)).cpu().numpy())
        return np.concatenate(parts)

    def cached(self, images: np.ndarray) -> np.ndarray:
        """Returns the features of real pictures, from the cache where they were computed before.

        A cache that cannot be written costs time, nothing else. Only the newest few sets are kept.
        """
        digest = hashlib.sha256(f"{self.version}{images.shape}".encode())
        digest.update(np.ascontiguousarray(images).data.cast("B"))
        name = f"features-{self.name}"
        folder = decoded_folder(name, digest.hexdigest()[:24])
        try:
            kept: np.ndarray = np.load(folder / "features.npy", allow_pickle=False)
            if len(kept) == len(images):
                return kept
        except (OSError, ValueError):  # not there, or damaged
            pass
        computed = self(images)
        try:
            with whole_folder(folder) as temporary:
                np.save(temporary / "features.npy", computed, allow_pickle=False)
            for old in sorted(decoded_folders(name), key=lambda copy: copy.stat().st_mtime_ns)[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
        except (UserError, OSError):
            pass
        return computed


def efficientnet_features(located: LocatedAsset) -> ImageFeatures:
    """Returns the features of EfficientNet-Lite0, trained on ImageNet-1k, of pictures enlarged to 128×128 pixels."""
    (path,) = [file for file in located.files() if file.suffix in (".pth", ".safetensors")]
    weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    network = EfficientNetLite0().eval()
    network.load_weights(weights)
    fold_batch_norms(network)
    return ImageFeatures(
        ASSET, network.to(memory_format=torch.channels_last), f"{located.fingerprint()} {PIXELS}", PIXELS
    )


def random_features() -> ImageFeatures:
    """Returns features that need no trained weights."""
    return ImageFeatures("random-convolutions", RandomConvolutions().eval(), f"1 {RANDOM_WIDTHS}")


def features_for(data: "LocatedDataSet", asset: LocatedAsset | None = None) -> ImageFeatures:
    """Returns the features that pictures of this data set are judged by: random ones where it is built in.

    Args:
        asset: EfficientNet-Lite0, where the caller has it.

    Raises:
        DataUnavailableError: EfficientNet-Lite0 is needed and not on this machine; says how to get it.
    """
    return random_features() if data.builtin else efficientnet_features(asset or require_asset(ASSET))
