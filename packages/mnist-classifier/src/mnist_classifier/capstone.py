"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning, Uniform

from mnist_classifier.config import PRESETS, Config

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
    tuning=Tuning(
        metric=Metric("validation_loss", "minimize", unit="plain"),
        space={
            "learning_rate": Uniform(0.01, 0.2, log=True),
            "head_lr": Uniform(5e-4, 0.02, log=True),
            "label_smoothing": Uniform(0.0, 0.15),
            "dropout": Uniform(0.0, 0.4),
            "degrees": Uniform(0.0, 30.0),
            "translate": Uniform(0.0, 0.15),
        },
    ),
)
