"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning, Uniform

from translator.config import PRESETS, Config

CAPSTONE = Capstone(
    name="translator",
    phase=7,
    title=LocalizedText("Translator", "机器翻译"),
    summary=LocalizedText(
        "Type a sentence: a Transformer translates it, and shows where it looked for each word.",
        "写一句话：Transformer 翻译它，并显示译每个词时注意了哪里。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("multi30k", "xquad", "generated-captions"),
    # int8 may cost less than seeds differ by.
    # The learning curve of a recipe, in the record of each of its runs.
    thresholds={Metric("validation_loss", "minimize", unit="plain"): (2.0, 1.8, 1.7, 1.6, 1.5, 1.45)},
    headline=Metric("bleu", tolerance=0.3, unit="plain"),
    tuning=Tuning(
        metric=Metric("validation_loss", "minimize", unit="plain"),
        space={
            "learning_rate": Uniform(0.005, 0.06, log=True),
            "adam_lr": Uniform(0.0005, 0.01, log=True),
            "weight_decay": Uniform(0.0, 0.3),
            "dropout": Uniform(0.0, 0.4),
            "warmup": Uniform(0.0, 0.2),
        },
    ),
)
