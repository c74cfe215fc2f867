"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from cifar10_resnet.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="cifar10-resnet",
    phase=5,
    title=LocalizedText("CIFAR-10 image classification", "CIFAR-10 图像分类"),
    summary=LocalizedText(
        "Which of ten things is in the picture? A residual network trained from scratch, on a CPU, in minutes.",
        "图片里是十种事物中的哪一种？在 CPU 上几分钟内从零训练的残差网络。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("cifar10", "colour-scenes"),
    headline=Metric("accuracy"),
    thresholds={Metric("test_accuracy_one_view"): (0.85, 0.90)},
    tuning=TUNING,
)
