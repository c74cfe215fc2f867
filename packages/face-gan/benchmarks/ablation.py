"""What each part of the recipe brings at equal time: trains the recipe, and variants that differ from it in one thing.

    uv run --package face-gan python packages/face-gan/benchmarks/ablation.py --minutes 20 --seeds 0 1 2

Runs `face-gan train` again and again, one after the other, and writes the figures of each into ablation.json. Figures
that are there already are kept, so that an interrupted series goes on where it was.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dlcommon.runtime.ablation import run_ablation

VARIANTS: dict[str, tuple[str, ...]] = {
    "recipe": (),
    "dcgan": ("--preset", "dcgan"),
    "non-saturating loss": ("--loss", "non-saturating"),
    "hinge loss": ("--loss", "hinge"),
    "no gradient penalty": ("--gradient-penalty", "0"),
    "gradient penalty in each step": ("--penalty-every", "1"),
    "no moving average": ("--ema-decay", "0"),
    "differentiable augmentation": ("--augment", "colour", "translation", "cutout"),
    "narrower networks": ("--generator-width", "32", "--discriminator-width", "24"),
}


def train(flags: tuple[str, ...], seed: int, minutes: float) -> dict[str, Any]:
    """Trains once; returns the figures on the test set."""
    command = [str(Path(sys.executable).parent / "face-gan"), "train", *flags]
    command += ["--seed", str(seed), "--max-minutes", str(minutes), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    metrics: dict[str, Any] = json.loads(done.stdout)["metrics"]
    return metrics


if __name__ == "__main__":
    out = Path(__file__).with_suffix(".json")
    run_ablation(VARIANTS, train, shown="kernel_distance", budget="minutes", default=20.0, out=out)
