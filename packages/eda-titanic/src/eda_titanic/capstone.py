"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from eda_titanic.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="eda-titanic",
    phase=1,
    title=LocalizedText("Titanic, analysed", "泰坦尼克号数据分析"),
    summary=LocalizedText(
        "A report for any table, and for the Titanic: who survived, how sure that is, and why.",
        "为任意表格生成分析报告；对泰坦尼克号：谁生还、有多大把握、为什么。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("titanic", "iris", "titanic-sample"),
    headline=Metric("accuracy"),
    tuning=TUNING,
)
