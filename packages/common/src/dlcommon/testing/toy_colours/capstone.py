"""The toy's declaration."""

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.testing.toy_colours.config import Config

TOY = Capstone(
    name="toy",
    title=LocalizedText("Toy", "玩具"),
    summary=LocalizedText("Which colour is it?", "是什么颜色？"),
    config=Config,
    data_sets=("colours", "shades"),
    headline=Metric("accuracy"),
)
