"""What a capstone declares: one object that the commands drive."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:  # heavy: loaded by the commands that need them
    import numpy as np
    import onnx
    from torch import nn

    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run_directory import SavedRun
    from dlcommon.runtime.serving.service import Service

Config = TypeVar("Config", bound=RunConfig)

Arrays = Mapping[str, "np.ndarray"]
"""Named arrays that share their first axis, the batch."""

Predict = Callable[[Arrays], dict[str, "np.ndarray"]]
"""A trained model, whichever library runs it: named input arrays to named output arrays."""


def metadata_of(predict: Predict) -> Mapping[str, str]:
    """What the graph behind a predictor says about itself, such as its vocabulary; empty where it says nothing."""
    return getattr(predict, "metadata", {})


@dataclass(frozen=True)
class Evaluation:
    """What a model did on a whole test set."""

    n: int
    """Samples evaluated."""
    metrics: dict[str, float]
    """Name to value; the capstone's headline metric is among them."""
    outputs: "dict[str, np.ndarray]"
    """The model's raw outputs, one row a sample: what export compares between two runtimes."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95 % confidence intervals of some of the metrics."""
    tables: dict[str, Any] = field(default_factory=dict)
    """Anything else worth keeping in eval.json, such as per-class figures."""
    shown: dict[str, list[dict[str, str | int | float]]] = field(default_factory=dict)
    """Small tables that records keep and RESULTS.md shows: title to rows of column to value."""


@dataclass(frozen=True)
class ExportGraph:
    """A torch module as ONNX shall hold it, preprocessing inside."""

    module: "nn.Module"
    """In eval mode, on the CPU, float32; takes the inputs by position and returns a tensor or a tuple."""
    example: "dict[str, np.ndarray]"
    """Input name to an array [batch, …] that the graph is traced with; the batch is exported as dynamic."""
    outputs: tuple[str, ...]
    """Names of the outputs, in order."""
    metadata: dict[str, str]
    """What a server must know besides the graph: labels, preprocessing."""
    quantize: bool = True
    """Whether an int8 graph is tried as well."""
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    """Axes besides the batch that vary: input name to {axis: symbol}."""


@dataclass(frozen=True)
class ConvertedGraph:
    """A model that another library's converter has turned to ONNX (skl2onnx, onnxmltools), preprocessing inside."""

    model: "onnx.ModelProto"
    """Its inputs' and outputs' first axis is the batch, left open."""
    original: Predict
    """The same model in its own library: what ONNX is compared with."""
    original_name: str
    """Of that library."""
    example: "dict[str, np.ndarray]"
    """Input name to an array [batch, …] that the model accepts."""
    metadata: dict[str, str]
    """What a server must know besides the graph: labels, preprocessing."""
    quantize: bool = False
    """Whether an int8 graph is tried as well."""


class Capstone(ABC, Generic[Config]):
    """One project of the portfolio. Methods import what is heavy themselves, so that `--help` is quick."""

    name: ClassVar[str]
    """The distribution's name, such as `mnist-classifier`."""
    title: ClassVar[LocalizedText]
    summary: ClassVar[LocalizedText]
    phase: ClassVar[int | None] = None
    """The phase of the learning plan that it ends."""
    licence: ClassVar[str] = "Apache-2.0"
    folder: ClassVar[Path]
    """The package folder, which holds `results/` and `pretrained/`."""
    config: type[Config]
    """Options of `train`."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Name to the fields that `--preset NAME` changes."""
    datasets: ClassVar[tuple[str, ...]]
    """Names in the data registry: the default first, the built-in sample last."""
    headline: ClassVar[str]
    """The metric that records and parity are stated in."""
    lower_is_better: ClassVar[bool] = False
    """Whether the headline is an error or a loss; it is then shown as it is, not in per cent."""
    thresholds: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    """Logged metric to the values whose first reaching records state, with minutes and FLOPs."""

    def own_data(self, config: Config) -> "LocatedDataSet | None":
        """The user's own files, where the options of `train` name some (see `data.own_files`).

        Raises:
            UserError: they cannot be used.
        """
        return None

    @abstractmethod
    def train(self, run: Any) -> None:
        """Trains from start to end (or from where the run stopped) and saves with `run.finish`.

        Args:
            run: a `TrainingRun` where the config is a `TrainConfig`, else a `Run`.
        """

    def predictor(self, saved: "SavedRun[Config]") -> Predict:
        """The trained model of a run, ready to predict in its own library: by default the graph that is exported.

        A torch module computes on the device and in the precision that the machine is fastest in.
        """
        from dlcommon.runtime.hardware import choose_device, computes_in_bf16
        from dlcommon.runtime.predict import ModulePredictor

        graph = self.export_graph(saved)
        if isinstance(graph, ConvertedGraph):
            return graph.original
        device = choose_device("auto")
        bf16 = saved.summary["training"]["precision"] == "bf16" and computes_in_bf16(device)
        return ModulePredictor(graph.module, tuple(graph.example), graph.outputs, device, bf16, metadata=graph.metadata)

    @abstractmethod
    def evaluate(self, predict: Predict, data: "LocatedDataSet", figures: Path | None) -> Evaluation:
        """Runs the model over the test set; draws its figures into the folder where one is given."""

    @abstractmethod
    def export_graph(self, saved: "SavedRun[Config]") -> ExportGraph | ConvertedGraph:
        """The trained model as ONNX shall hold it."""

    def calibration(self, data: "LocatedDataSet") -> "Iterator[dict[str, np.ndarray]]":
        """Batches of training inputs for static quantization, where the graph asks for it."""
        raise NotImplementedError(f"{self.name} quantizes, but gives no batches to calibrate with")

    @abstractmethod
    def service(self, model: "OnnxModel") -> "Service":
        """What the server answers, and its page."""
