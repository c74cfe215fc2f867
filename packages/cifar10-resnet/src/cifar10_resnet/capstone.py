"""The capstone's declaration."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dlcommon.runtime.capstone import Capstone, Evaluation, ExportGraph, Predict
from dlcommon.runtime.localization import LocalizedText

from cifar10_resnet.config import PRESETS, Config

if TYPE_CHECKING:
    import numpy as np
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run_directory import SavedRun
    from dlcommon.runtime.serving.service import Service
    from dlcommon.runtime.training_run import TrainingRun


class Cifar10ResNet(Capstone[Config]):
    name = "cifar10-resnet"
    phase = 5
    title = LocalizedText("CIFAR-10 image classification", "CIFAR-10 图像分类")
    summary = LocalizedText(
        "Which of ten things is in the picture? A residual network trained from scratch, on a CPU, in minutes.",
        "图片里是十种事物中的哪一种？在 CPU 上几分钟内从零训练的残差网络。",
    )
    folder = Path(__file__).parents[2]
    config = Config
    presets = PRESETS
    datasets = ("cifar10", "colour-scenes")
    headline = "accuracy"
    thresholds: ClassVar = {"test_accuracy_one_view": (0.85, 0.90)}

    def train(self, run: "TrainingRun[Config]") -> None:
        from cifar10_resnet.train import train

        train(run)

    def evaluate(self, predict: Predict, data: "LocatedDataSet", figures: Path | None) -> Evaluation:
        from cifar10_resnet.evaluate import evaluate

        return evaluate(predict, data, figures)

    def export_graph(self, saved: "SavedRun[Config]") -> ExportGraph:
        from cifar10_resnet.evaluate import export_graph

        return export_graph(saved)

    def calibration(self, data: "LocatedDataSet") -> "Iterator[dict[str, np.ndarray]]":
        images = data.load().train_images
        for start in range(0, min(512, len(images)), 64):
            yield {"images": images[start : start + 64]}

    def service(self, model: "OnnxModel") -> "Service":
        from cifar10_resnet.service import PictureService

        return PictureService(model)


CAPSTONE = Cifar10ResNet()
