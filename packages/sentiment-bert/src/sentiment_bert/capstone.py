"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from sentiment_bert.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="sentiment-bert",
    phase=11,
    title=LocalizedText("Sentiment analysis", "情感分析"),
    summary=LocalizedText(
        "Type a text: a BERT says whether it is positive or negative, sentence by sentence, and which words moved it.",
        "写一段文字：BERT 逐句判断正面还是负面，并标出影响判断的词。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("sst2", "chinese-reviews", "generated-reviews"),
    headline=Metric("accuracy"),
    tuning=TUNING,
)
