"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from mnist_classifier.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="mnist-classifier",
    phase=3,
    title=LocalizedText("Handwritten digits", "手写数字识别"),
    summary=LocalizedText(
        "Draw a digit: a small convolutional network, trained on a CPU in minutes, reads it.",
        "写一个数字：在 CPU 上几分钟训练好的小型卷积网络来识别。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("mnist", "mnist-sample"),
    headline=Metric("accuracy"),
    tuning=TUNING,
)
