"""The toy's data sets, and runs as `train` leaves them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from dlcommon.runtime.data import DataSet, ImageClassification, find
from dlcommon.runtime.localization import LocalizedText
from dlcommon.testing.toy_colours.config import CLASSES, Config
from dlcommon.testing.toy_colours.model import Network


def colours(classes: tuple[str, ...]) -> ImageClassification:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    images = random.integers(0, 128, (60, 8, 8, 3)) + 100 * np.eye(3, dtype=int)[labels][:, None, None, :]
    return ImageClassification(images.astype(np.uint8), labels, images.astype(np.uint8), labels, classes)


def data_set(name: str, classes: tuple[str, ...]) -> DataSet:
    return DataSet(
        name, LocalizedText(name, name), name, "none", "", load=lambda folder: colours(classes), builtin=True
    )


def trained(tmp_path: Path, seed: int = 0, nan: bool = False, **options: Any) -> Path:
    """Writes a finished run, as `train` leaves it; returns its directory. `nan` spoils the weights."""
    folder = tmp_path / "runs" / "toy" / f"colours-{seed}"
    folder.mkdir(parents=True)
    config = Config(data="colours", seed=seed, **options)
    config.save(folder / "config.json")
    torch.manual_seed(seed)
    weights = Network(config).state_dict()
    if nan:
        weights["fc.bias"] = weights["fc.bias"] * torch.nan
    save_file(weights, folder / "model.safetensors")
    located = find("colours")
    assert located is not None
    summary = {
        "capstone": "toy",
        "preset": "default",
        "command": "toy train",
        "data": {
            "name": "colours",
            "builtin": True,
            "fingerprint": located.fingerprint(),
            "description": located.describe(),
        },
        "options": dataclasses.asdict(config),
        "seed": seed,
        "training": {"minutes": 0.1, "device": "cpu", "precision": "fp32", "classes": list(CLASSES)},
        "hardware": {"processor": "abacus", "cores": 1, "gpus": [], "versions": {"torch": torch.__version__}},
        "git": None,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
