"""The capstone's declaration."""

from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.capstone import Capstone, ConvertedGraph, Evaluation, Predict
from dlcommon.runtime.localization import LocalizedText

from house_prices.config import PRESETS, Config

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run import Run
    from dlcommon.runtime.run_directory import SavedRun
    from dlcommon.runtime.serving.service import Service


class HousePrices(Capstone[Config]):
    name = "house-prices"
    phase = 4
    title = LocalizedText("House prices", "房价预测")
    summary = LocalizedText(
        "What a house in Ames, Iowa, sells for, between which bounds, what moved the price, and which sold ones are "
        "like it.",
        "预测艾姆斯（美国爱荷华州）的房价：价格、区间、影响因素与相似的已售房屋。",
    )
    folder = Path(__file__).parents[2]
    config = Config
    presets = PRESETS
    datasets = ("house-prices", "ames")
    headline = "rmsle"
    lower_is_better = True

    def train(self, run: "Run[Config]") -> None:
        from house_prices.train import train

        train(run)

    def evaluate(self, predict: Predict, data: "LocatedDataSet", figures: Path | None) -> Evaluation:
        from house_prices.evaluate import evaluate

        return evaluate(predict, data, figures)

    def export_graph(self, saved: "SavedRun[Config]") -> ConvertedGraph:
        from house_prices.evaluate import export_graph

        return export_graph(saved)

    def service(self, model: "OnnxModel") -> "Service":
        from house_prices.service import HouseService

        return HouseService(model)


CAPSTONE = HousePrices()
