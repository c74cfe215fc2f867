"""What a training shows as it goes: the same faces again and again, and figures about both networks."""

import io
from pathlib import Path

import torch
from dlcommon.runtime.batches import generator_for
from dlcommon.runtime.data.dataset import UnlabelledImages
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.training_run import TrainingRun
from PIL import Image
from torch import nn

from face_gan.config import Config
from face_gan.health import diversity, overfitting, warning
from face_gan.model import pixels
from face_gan.pictures import grid

ROWS, COLUMNS = 6, 10
"""Of the grid of samples."""
JUDGED = 256
"""Pictures of each kind that the discriminator scores."""
AT_ONCE = 64
SETTLED = 1000
"""Steps after which samples that are all alike are a collapse."""
PROGRESS = "progress.webp"
MILLISECONDS = 300
"""For which one grid is shown."""


def write_progress(directory: Path) -> None:
    """Joins the grids that a run has kept into an animation, `progress.webp`."""
    paths = sorted((directory / "artifacts").glob("samples-*.png"))
    if not paths:
        return
    frames = [Image.open(path).convert("RGB") for path in paths]
    file = io.BytesIO()
    times = [MILLISECONDS] * (len(frames) - 1) + [10 * MILLISECONDS]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=times, loop=0, quality=70)
    write_bytes(directory / PROGRESS, file.getvalue())


class Monitor:
    """Collects what the next evaluation of a training logs."""

    def __init__(
        self, run: TrainingRun[Config], generator: nn.Module, discriminator: nn.Module, data: UnlabelledImages
    ) -> None:
        self._run, self._generator, self._discriminator = run, generator, discriminator
        self._train, self._held_out = (torch.from_numpy(images[:JUDGED]) for images in (data.train, data.test))
        self._real_diversity = diversity(data.train[: ROWS * COLUMNS])
        self._noise = torch.randn(ROWS * COLUMNS, run.config.noise_dim, generator=generator_for("grid"))
        self._noted: dict[str, float] = {}

    def note(self, network: nn.Module, **losses: torch.Tensor) -> None:
        """Keeps losses and the norm of the gradient at hand for the evaluation that this step ends with."""
        if not self._run.should_evaluate:
            return
        name = "generator" if network is self._generator else "discriminator"
        norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        self._noted[f"{name}_gradient_norm"] = float(whole)
        self._noted |= {key: value.item() for key, value in losses.items()}

    def evaluate(self) -> dict[str, float]:
        """Draws the grid of samples, scores pictures, and warns of collapse and memorization; returns the figures."""
        averaged = self._run.ema_model(self._generator)
        training = averaged.training
        averaged.eval()
        with torch.inference_mode(), self._run.autocast():
            images = averaged(self._noise.to(self._run.device)).float()
        averaged.train(training)
        pictures = pixels(images)
        self._run.artifact("samples", grid(pictures, COLUMNS))
        of_train, of_held_out = (
            self._score(part.permute(0, 3, 1, 2) / 127.5 - 1) for part in (self._train, self._held_out)
        )
        of_fake = self._score(images.clone())
        relative = diversity(pictures) / self._real_diversity if self._real_diversity else 1.0
        memorized = overfitting(of_train, of_held_out, of_fake)
        # At first the generator draws blots, all alike.
        if self._run.is_main and self._run.step >= SETTLED and (said := warning(relative, memorized)):
            self._run.output.say(f"step {self._run.step + 1}: {said}")
        figures = {"diversity": relative, "discriminator_overfitting": memorized}
        return {**self._noted, **figures, "score_train": of_train, "score_held_out": of_held_out, "score_fake": of_fake}

    def _score(self, images: torch.Tensor) -> float:
        """Computes the discriminator's mean score of images [samples, 3, height, width]."""
        self._discriminator.eval()
        usable = images[: len(images) // 4 * 4].to(self._run.device)  # groups of the minibatch deviation
        with torch.no_grad(), self._run.autocast():
            scores = [self._discriminator(part).float() for part in usable.split(AT_ONCE)]
        self._discriminator.train()
        return torch.cat(scores).mean().item()
