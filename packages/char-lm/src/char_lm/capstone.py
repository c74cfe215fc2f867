"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from char_lm.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="char-lm",
    phase=6,
    title=LocalizedText("Character language model", "字符级语言模型"),
    summary=LocalizedText(
        "Begin a text: a model that has read one book, letter by letter, writes on.",
        "写个开头：一个逐字读过一本书的模型会接着往下写。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("tinyshakespeare", "wikitext-2", "python-manual"),
    headline=Metric("bits_per_character", "minimize", unit="plain"),
    thresholds={Metric("test_loss", "minimize", unit="plain"): (1.88, 1.55, 1.48, 1.46)},
    tuning=TUNING,
)
