"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from llm_lora.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="llm-lora",
    phase=12,
    title=LocalizedText("Language model with adapters", "大语言模型 LoRA 微调"),
    summary=LocalizedText(
        "Chat with a small language model, before and after it was taught to answer briefly. It reads English.",
        "和一个小语言模型聊天，比较微调前后的回答。它只懂英文。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("instructions", "generated-instructions"),
    headline=Metric("perplexity", "minimize", unit="plain"),
    tuning=TUNING,
)
