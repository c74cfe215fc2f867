"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from translator.config import PRESETS, TUNING, Config

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
    data_sets=("multi30k", "xquad-questions", "generated-captions"),
    # The learning curve of a recipe, in the record of each of its runs.
    thresholds={Metric("validation_loss", "minimize", unit="plain"): (2.0, 1.8, 1.7, 1.6, 1.5, 1.45)},
    # int8 may cost less than seeds differ by.
    headline=Metric("bleu", tolerance=0.3, unit="plain"),
    tuning=TUNING,
)
