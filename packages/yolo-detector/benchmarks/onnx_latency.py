"""Latency of the capstone's exported graph beside ultralytics' own export of the same weights, suppression inside both.

    uv run --package yolo-detector python packages/yolo-detector/benchmarks/onnx_latency.py --run RUN

Ultralytics exports with `YOLO(…).export(format="onnx", dynamic=True, nms=True)`. Both get the same letterboxed pictures
in the form that each takes (uint8 here, float32 there), a confidence of 0.25 and an overlap of 0.7, and run in ONNX
Runtime on one thread. Rounds alternate. What both find is counted as well.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from dlcommon.runtime import data
from dlcommon.runtime.files import write_json
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.onnx_model import OnnxModel
from safetensors.torch import load_file
from yolo_detector.detections import OVERLAP, FittedPictures
from yolo_detector.ultralytics_network import quiet_ultralytics

CONFIDENCE = 0.25


def export_theirs(weights: Path, classes: int, side: int, folder: Path) -> Path:
    """Exports the weights as ultralytics does."""
    with quiet_ultralytics():
        from ultralytics import YOLO

        model = YOLO("yolov8n.yaml", task="detect")
        from ultralytics.nn.tasks import DetectionModel

        network = DetectionModel("yolov8n.yaml", nc=classes, verbose=False)
        network.load_state_dict(load_file(weights))
        network.args, network.task = model.model.args, "detect"
        model.model = network.eval()
        previous = Path.cwd()
        os.chdir(folder)  # it writes beside the configuration's name
        try:
            path = model.export(
                format="onnx",
                imgsz=side,
                dynamic=True,
                nms=True,
                conf=CONFIDENCE,
                iou=OVERLAP,
                simplify=False,
                device="cpu",
            )
        finally:
            os.chdir(previous)
    return folder / str(path)


def median_seconds(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Times each piece of work in turn, the first round as warm-up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, run in work.items():
            begun = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished and exported run of yolov8n")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    model = OnnxModel(options.run / "model.onnx", 1)
    int8 = options.run / "model.int8.onnx"
    side = int(model.metadata["image_size"])
    samples = data.resolve(model.data_name, (model.data_name,)).load().test
    pictures = FittedPictures.of(samples, side)
    result: dict[str, Any] = {"rounds": options.rounds, "hardware": describe(), "milliseconds": {}}
    with tempfile.TemporaryDirectory() as name:
        path = export_theirs(options.run / "model.safetensors", len(model.labels), side, Path(name))
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = 1
        peer = onnxruntime.InferenceSession(path, session, providers=["CPUExecutionProvider"])
        for batch in (1, 8):
            arrays = {key: value[:batch] for key, value in pictures.inputs().items()}
            arrays["confidence"] = np.full(batch, CONFIDENCE, np.float32)
            floats = arrays["images"].transpose(0, 3, 1, 2).astype(np.float32) / 255
            work: dict[str, Callable[[], Any]] = {
                "ours": lambda arrays=arrays: model(arrays),
                "ultralytics": lambda floats=floats: peer.run(None, {"images": floats}),
            }
            if int8.is_file():
                quantized = OnnxModel(int8, 1)
                work["ours, int8"] = lambda arrays=arrays, quantized=quantized: quantized(arrays)
            times = median_seconds(work, options.rounds)
            result["milliseconds"][f"batch {batch}"] = {key: round(1000 * each, 2) for key, each in times.items()}
            result[f"ultralytics_over_ours_batch_{batch}"] = round(times["ultralytics"] / times["ours"], 3)
        found = [int((row[:, 4] > 0).sum()) for row in model(arrays)["detections"]]
        their = [int((row[:, 4] > 0).sum()) for row in peer.run(None, {"images": floats})[0]]
    result["detections"] = {"ours": found, "ultralytics": their}
    write_json(options.out, result)
    print(json.dumps({name: value for name, value in result.items() if name != "hardware"}, indent=2))


if __name__ == "__main__":
    main()
