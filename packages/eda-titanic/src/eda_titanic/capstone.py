"""The capstone's declaration."""

from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.capstone import Capstone, ConvertedGraph, Evaluation, Predict
from dlcommon.runtime.localization import LocalizedText

from eda_titanic.config import PRESETS, Config

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run import Run
    from dlcommon.runtime.run_directory import SavedRun
    from dlcommon.runtime.serving.service import Service


class EdaTitanic(Capstone[Config]):
    name = "eda-titanic"
    phase = 1
    title = LocalizedText("Titanic, analysed", "泰坦尼克号数据分析")
    summary = LocalizedText(
        "A report for any table, and for the Titanic: who survived, how sure that is, and why.",
        "为任意表格生成分析报告；对泰坦尼克号：谁生还、有多大把握、为什么。",
    )
    folder = Path(__file__).parents[2]
    config = Config
    presets = PRESETS
    datasets = ("titanic", "iris", "titanic-sample")
    headline = "accuracy"

    def own_data(self, config: Config) -> "LocatedDataSet | None":
        from eda_titanic.problem import own_table

        return own_table(Path(config.csv), config.target) if config.csv and config.target else None

    def train(self, run: "Run[Config]") -> None:
        from eda_titanic.train import train

        train(run)

    def evaluate(self, predict: Predict, data: "LocatedDataSet", figures: Path | None) -> Evaluation:
        from eda_titanic.evaluate import evaluate

        return evaluate(predict, data, figures)

    def export_graph(self, saved: "SavedRun[Config]") -> ConvertedGraph:
        from eda_titanic.evaluate import export_graph

        return export_graph(saved)

    def service(self, model: "OnnxModel") -> "Service":
        from eda_titanic.service import RowService

        return RowService(model)


CAPSTONE = EdaTitanic()
