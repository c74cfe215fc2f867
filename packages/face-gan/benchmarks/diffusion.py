"""The GAN beside a flow-matching model that is trained on the same faces for the same time: quality, and time to draw.

    uv run --package face-gan python packages/face-gan/benchmarks/diffusion.py --minutes 60 --model FILE.onnx

Trains a U-Net of the course by flow matching (`dlcommon.generative`), in bf16 where the processor computes in it, keeps
the average of its weights, and judges it and the exported GAN (by default the one in the package) by the same protocol
on the same number of pictures. Writes diffusion.json, and grids of both into `--pictures`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from dlcommon.generative.flow_matching import flow_matching_loss, flow_sample
from dlcommon.generative.unet import UNet
from dlcommon.runtime import data
from dlcommon.runtime.batches import TensorBatches, generator_for
from dlcommon.runtime.evaluation.generated_images import judge
from dlcommon.runtime.evaluation.image_features import ImageFeatures, features_for
from dlcommon.runtime.hardware import computes_in_bf16, describe, keep_freed_memory
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.training.averaging import ExponentialMovingAverage
from dlcommon.training.schedules import linear, set_learning_rate
from face_gan.capstone import CAPSTONE
from face_gan.evaluate import draw, save_grid
from face_gan.latents import Latents
from face_gan.model import SIZE, pixels
from face_gan.train import augment
from torch import nn
from torch.nn import functional as F

BATCH, LEARNING_RATE, DECAY = 32, 1e-3, 0.998
SHOWN, COLUMNS = 60, 10


class FoldedUNet(nn.Module):
    """Folds two by two pixels into channels, as the GAN's networks do, so that a step takes a quarter of the time."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.network = UNet(12, channels=channels)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Maps x_t [batch, 3, 64, 64] and timesteps [batch] to the velocity."""
        velocity: torch.Tensor = F.pixel_shuffle(self.network(F.pixel_unshuffle(x, 2), timesteps), 2)
        return velocity


def train(images: np.ndarray, minutes: float, channels: tuple[int, ...], bf16: bool) -> tuple[nn.Module, int]:
    """Trains for so many minutes; returns the averaged network and the pictures that it saw."""
    model = FoldedUNet(channels).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    average, schedule = ExponentialMovingAverage(model, DECAY), linear(warmup=0.02, end=0.1)
    batches = TensorBatches(torch.from_numpy(images), batch_size=BATCH, seed=0, transform=augment)
    begun, epoch, seen = time.monotonic(), 0, 0
    while True:
        for (real,) in batches.epoch(epoch):
            progress = (time.monotonic() - begun) / (60 * minutes)
            if progress >= 1:
                return average.model, seen
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = flow_matching_loss(model, real)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            set_learning_rate(optimizer, schedule(progress))
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
            seen += len(real)
            if seen % (200 * BATCH) == 0:
                print(f"{seen:,} pictures, {progress:.0%}, loss {loss.item():.3f}", flush=True)
        epoch += 1


def sample(model: nn.Module, count: int, steps: int, bf16: bool) -> np.ndarray:
    """Draws pictures uint8 [count, 64, 64, 3]."""
    random, parts = generator_for("flow", steps), []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for start in range(0, count, 50):
            noise = torch.randn(min(50, count - start), 3, SIZE, SIZE, generator=random)
            parts.append(pixels(flow_sample(lambda x, t: model(x, t).float(), noise, steps)))
    return np.concatenate(parts)


def judged(
    features: ImageFeatures, images: data.UnlabelledImages, drawn: np.ndarray, seconds: float
) -> dict[str, float]:
    metrics = judge(features, images.train, images.test, drawn).metrics
    return {**{name: round(value, 5) for name, value in metrics.items()}, "pictures_per_second": len(drawn) / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pictures-judged", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 128])
    parser.add_argument("--data", default="anime-faces-64")
    parser.add_argument("--model", type=Path, help="exported GAN; by default the one in the package")
    parser.add_argument("--pictures", type=Path, default=Path("runs/face-gan-diffusion"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    bf16 = computes_in_bf16(torch.device("cpu"))
    located = data.resolve(options.data, (options.data,))
    images, features = located.load(), features_for(located)
    path = options.model or packaged_model(CAPSTONE)
    assert path is not None, "name the exported GAN with --model"
    gan = OnnxModel(path)
    noise = Latents.of(gan.metadata).sample(options.pictures_judged, 1)
    begun = time.perf_counter()
    drawn = draw(gan, noise)
    models = {"gan": judged(features, images, drawn, time.perf_counter() - begun)}
    save_grid(options.pictures / "gan.png", drawn[:SHOWN], COLUMNS)
    network, seen = train(images.train, options.minutes, tuple(options.channels), bf16)
    for steps in options.steps:
        begun = time.perf_counter()
        drawn = sample(network, options.pictures_judged, steps, bf16)
        models[f"flow matching, {steps} steps"] = judged(features, images, drawn, time.perf_counter() - begun)
        save_grid(options.pictures / f"flow-{steps}.png", drawn[:SHOWN], COLUMNS)
    result = {
        "models": models,
        "minutes": options.minutes,
        "pictures_seen": seen,
        "flow_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "features": features.name,
        "hardware": describe(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(models, indent=2))


if __name__ == "__main__":
    main()
