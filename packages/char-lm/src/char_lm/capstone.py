"""The capstone's declaration."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dlcommon.runtime.capstone import Capstone, Evaluation, ExportGraph, Predict
from dlcommon.runtime.localization import LocalizedText

from char_lm.config import PRESETS, Config

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run_directory import SavedRun
    from dlcommon.runtime.serving.service import Service
    from dlcommon.runtime.training_run import TrainingRun


class CharLM(Capstone[Config]):
    name = "char-lm"
    phase = 6
    title = LocalizedText("Character language model", "字符级语言模型")
    summary = LocalizedText(
        "Begin a text: a model that has read one book, letter by letter, writes on.",
        "写个开头：一个逐字读过一本书的模型会接着往下写。",
    )
    folder = Path(__file__).parents[2]
    config = Config
    presets = PRESETS
    datasets = ("tinyshakespeare", "wikitext-2", "python-manual")
    headline = "bits_per_character"
    lower_is_better = True
    thresholds: ClassVar = {"test_loss": (1.88, 1.55, 1.48, 1.46)}

    def own_data(self, config: Config) -> "LocatedDataSet | None":
        from char_lm.corpus import own_text

        return own_text(Path(config.text)) if config.text else None

    def train(self, run: "TrainingRun[Config]") -> None:
        from char_lm.train import train

        train(run)

    def evaluate(self, predict: Predict, data: "LocatedDataSet", figures: Path | None) -> Evaluation:
        from char_lm.evaluate import evaluate

        return evaluate(predict, data, figures)

    def export_graph(self, saved: "SavedRun[Config]") -> ExportGraph:
        from char_lm.graph import export_graph

        return export_graph(saved)

    def service(self, model: "OnnxModel") -> "Service":
        from char_lm.service import CharService

        return CharService(model)


CAPSTONE = CharLM()
