"""What each part of the recipe brings: trains the recipe, and variants that differ from it in one thing.

    uv run --package yolo-detector python packages/yolo-detector/benchmarks/ablation.py --epochs 40 --seeds 0

Trains on the training pictures alone and states COCO's mean average precision at an IoU of 0.5 on the validation
pictures, so that nothing is chosen by the test set. Figures that are in ablation.json already are kept, so that an
interrupted series goes on where it was.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dlcommon.runtime.ablation import run_ablation
from dlcommon.runtime.files import read_json
from yolo_detector.config import VALIDATION_FIGURE

VARIANTS: dict[str, tuple[str, ...]] = {
    "recipe": (),
    "AdamW for all": ("--optimizer", "adamw"),
    "AdamW for all, twice the rate": ("--optimizer", "adamw", "--learning-rate", "2e-3"),
    "Muon at 0.02": ("--muon-learning-rate", "0.02"),
    "no mosaic": ("--mosaic", "0"),
    "mosaic to the end": ("--close-mosaic", "0"),
    "mixup of a tenth": ("--mixup", "0.1"),
    "right angles": ("--rotate", "0.5"),
    "no colors": ("--hue", "0", "--saturation", "0", "--brightness", "0"),
    "no mirrors": ("--flip", "0", "--flip-vertical", "0"),
    "less scale": ("--scale", "0.2"),
    "no moving average": ("--ema-decay", "0"),
    "no warm-up": ("--warmup", "0"),
    "256 pixels": ("--image-size", "256"),
    "416 pixels": ("--image-size", "416"),
}


def train(flags: tuple[str, ...], seed: int, epochs: float) -> dict[str, Any]:
    """Trains once; returns the last figure on the validation pictures, and the processor's minutes."""
    command = [str(Path(sys.executable).parent / "yolo-detector"), "train", "--train-on", "train", *flags]
    command += ["--seed", str(seed), "--epochs", str(epochs), "--min-steps", "0", "--evaluate-every", str(epochs)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DL_RUNS_DIR": folder}
        done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE, text=True, env=environment)
        run = Path(json.loads(done.stdout)["run"])
        log = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        minutes = read_json(run / "summary.json")["training"]["cpu_minutes"]
    figures = [row[VALIDATION_FIGURE] for row in map(json.loads, log) if VALIDATION_FIGURE in row]
    return {VALIDATION_FIGURE: figures[-1], "cpu_minutes": minutes}


if __name__ == "__main__":
    out = Path(__file__).with_suffix(".json")
    run_ablation(VARIANTS, train, shown=VALIDATION_FIGURE, budget="epochs", default=40.0, out=out)
