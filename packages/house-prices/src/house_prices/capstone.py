"""The capstone's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric

from house_prices.config import PRESETS, TUNING, Config

CAPSTONE = Capstone(
    name="house-prices",
    phase=4,
    title=LocalizedText("House prices", "房价预测"),
    summary=LocalizedText(
        "What a house in Ames, Iowa, sells for, between which bounds, what moved the price, and which sold ones are "
        "like it.",
        "预测艾姆斯（美国爱荷华州）的房价：价格、区间、影响因素与相似的已售房屋。",
    ),
    config=Config,
    presets=PRESETS,
    data_sets=("house-prices", "ames"),
    headline=Metric("rmsle", "minimize", unit="plain"),
    tuning=TUNING,
)
