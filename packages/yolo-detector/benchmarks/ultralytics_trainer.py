"""The capstone's training beside ultralytics' own trainer, on the same pictures for the same time.

    uv run --package yolo-detector python packages/yolo-detector/benchmarks/ultralytics_trainer.py --minutes 15

Both train YOLOv8n from scratch on all training and validation pictures at 320 pixels, in batches of 16, on one thread
each and at the same time, so that both meet the same machine. Theirs is `YOLO("yolov8n.yaml").train(…)` with its
defaults (mosaic, `optimizer="auto"`, EMA, fp32) and pictures cached in memory, its schedule fitted to the time by its
option `time`. Each one's averaged weights are then evaluated by the capstone's metrics.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dlcommon.runtime import data
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.detection import AnnotatedImage
from dlcommon.runtime.files import read_json, write_json
from dlcommon.runtime.hardware import describe, keep_freed_memory
from dlcommon.runtime.predict import ModulePredictor
from dlcommon.vision.yolo_v8 import YoloV8
from PIL import Image
from safetensors.torch import load_file, save_file
from yolo_detector.evaluate import evaluate
from yolo_detector.model import INPUTS, OUTPUTS, Detector
from yolo_detector.ultralytics_network import quiet_ultralytics

SIDE, BATCH = 320, 16


def write_yolo(folder: Path, samples: Sequence[AnnotatedImage], classes: Sequence[str]) -> Path:
    """Writes pictures and labels in YOLO's format; returns the configuration."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for sample in samples:
        height, width = sample.image.shape[:2]
        Image.fromarray(sample.image).save(folder / "images" / f"{sample.name}.png")
        center, size = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2, sample.boxes[:, 2:] - sample.boxes[:, :2]
        rows = np.concatenate([center, size], 1) / np.array([width, height] * 2)
        pairs = zip(sample.labels, rows, strict=True)
        lines = [f"{label} {' '.join(f'{value:.6f}' for value in row)}\n" for label, row in pairs]
        (folder / "labels" / f"{sample.name}.txt").write_text("".join(lines), encoding="utf-8")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(classes))
    path = folder / "data.yaml"
    path.write_text(f"path: {folder}\ntrain: images\nval: images\nnames:\n{names}", encoding="utf-8")
    return path


def theirs(folder: Path, configuration: Path, minutes: float) -> dict[str, Any]:
    """Trains with ultralytics' trainer, and stores the averaged weights."""
    keep_freed_memory()
    with quiet_ultralytics():
        from ultralytics import YOLO

        pictures = 0

        def count(trainer: Any) -> None:
            nonlocal pictures
            pictures += trainer.batch_size

        model = YOLO("yolov8n.yaml", task="detect")
        model.add_callback("on_train_batch_end", count)
        begun, cpu = time.perf_counter(), time.process_time()
        model.train(
            data=str(configuration), imgsz=SIDE, batch=BATCH, time=minutes / 60, epochs=10_000, device="cpu",
            workers=0, cache="ram", val=False, plots=False, project=str(folder), name="run", verbose=False, seed=0,
        )  # fmt: skip
        wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
        averaged = model.trainer.ema.ema.float().state_dict()
    save_file({name: value.contiguous() for name, value in averaged.items()}, folder / "theirs.safetensors")
    return {"pictures": pictures, "wall_seconds": wall, "cpu_seconds": cpu}


def ours(folder: Path, data_set: str, minutes: float) -> dict[str, Any]:
    """Trains with the capstone's command; returns its summary."""
    command = [str(Path(sys.executable).parent / "yolo-detector"), "train", "--data", data_set]
    command += ["--max-minutes", str(minutes), "--epochs", "10000", "--min-steps", "0", "--json"]
    environment = {**os.environ, "DL_RUNS_DIR": str(folder / "runs")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    summary: dict[str, Any] = read_json(Path(json.loads(done.stdout)["run"]) / "summary.json")
    return summary


def judged(weights: Path, located: LocatedDataSet) -> dict[str, float]:
    """Evaluates weights of YOLOv8n on the test set."""
    network = YoloV8(len(located.load().classes))
    network.load_state_dict(load_file(weights))
    predict = ModulePredictor(Detector(network), INPUTS, OUTPUTS, batch_size=16, metadata={"image_size": str(SIDE)})
    return evaluate(predict, located, None).metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--data", default="bccd")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--theirs", type=Path, nargs=2, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.theirs:
        print(json.dumps(theirs(*options.theirs, options.minutes)))
        return
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    located = data.resolve(options.data, (options.data,))
    loaded = located.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration = write_yolo(folder / "yolo", loaded.train + loaded.validation, loaded.classes)
        command = [sys.executable, __file__, "--minutes", str(options.minutes), "--theirs", name, str(configuration)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
            summary = ours(folder, options.data, options.minutes)
            printed, _ = peer.communicate()
        if peer.returncode:
            raise SystemExit(peer.returncode)
        their = json.loads(printed.strip().splitlines()[-1])
        their_metrics = judged(folder / "theirs.safetensors", located)
        our_metrics = judged(next((folder / "runs").rglob("model.safetensors")), located)
    chosen = ("map50", "map50_95", "map50_ultralytics")
    training = summary["training"]
    their_speed = their["pictures"] / their["wall_seconds"]
    our_speed = training["samples"] / (60 * training["minutes"])
    write_json(
        options.out,
        {
            "minutes": options.minutes,
            "ours": {"pictures_per_second": our_speed, **{key: our_metrics[key] for key in chosen}},
            "theirs": {"pictures_per_second": their_speed, **{key: their_metrics[key] for key in chosen}},
            "ours_over_theirs": our_speed / their_speed,
            "hardware": describe(),
        },
    )
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
