"""The capstone's declaration."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.capstone import Capstone, Evaluation, ExportGraph, Predict
from dlcommon.runtime.localization import LocalizedText

from mnist_classifier.config import PRESETS, Config

if TYPE_CHECKING:
    import numpy as np
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run_directory import SavedRun
    from dlcommon.runtime.serving.service import Service
    from dlcommon.runtime.training_run import TrainingRun


class MnistClassifier(Capstone[Config]):
    name = "mnist-classifier"
    phase = 3
    title = LocalizedText("Handwritten digits", "手写数字识别")
    summary = LocalizedText(
        "Draw a digit: a small convolutional network, trained on a CPU in minutes, reads it.",
        "写一个数字：在 CPU 上几分钟训练好的小型卷积网络来识别。",
    )
    folder = Path(__file__).parents[2]
    config = Config
    presets = PRESETS
    datasets = ("mnist", "mnist-sample")
    headline = "accuracy"

    def train(self, run: "TrainingRun[Config]") -> None:
        from mnist_classifier.train import train

        train(run)

    def evaluate(self, predict: Predict, data: "LocatedDataSet", figures: Path | None) -> Evaluation:
        from mnist_classifier.evaluate import evaluate

        return evaluate(predict, data, figures)

    def export_graph(self, saved: "SavedRun[Config]") -> ExportGraph:
        from mnist_classifier.evaluate import export_graph

        return export_graph(saved)

    def calibration(self, data: "LocatedDataSet") -> "Iterator[dict[str, np.ndarray]]":
        digits = data.load().train_images[:, :, :, 0]
        for start in range(0, min(512, len(digits)), 64):
            yield {"images": digits[start : start + 64]}

    def service(self, model: "OnnxModel") -> "Service":
        from mnist_classifier.service import DigitService

        return DigitService(model)


CAPSTONE = MnistClassifier()
