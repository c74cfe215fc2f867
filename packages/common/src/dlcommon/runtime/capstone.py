"""What a capstone declares, and where the commands find the rest of it.

A capstone is a package of modules ("rooms") that have the same names in every capstone: `config`, `train`, `evaluate`,
`model`, `service`, `page`, and `data` where users can bring their own files; docs/ARCHITECTURE.md lists what each
defines. The commands import a room when they need it, so that `--help` is quick and the declaration imports nothing but
the config.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from inspect import isabstract, isclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning

if TYPE_CHECKING:  # heavy: loaded by the commands that need them
    import gradio as gr
    import numpy as np

    from dlcommon.runtime.arrays import Predict
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.evaluation.result import Evaluation
    from dlcommon.runtime.export.graph import ConvertedGraph, ExportGraph
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.run import Run
    from dlcommon.runtime.saved_run import SavedRun
    from dlcommon.runtime.serving.service import PagePredict, Service

Config = TypeVar("Config", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Capstone(Generic[Config]):
    """Declares one project of the portfolio. Its methods are the commands' way into the rooms beside its config."""

    name: str
    """The distribution's name, such as `mnist-classifier`."""
    title: LocalizedText
    summary: LocalizedText
    config: type[Config]
    """Options of `train`, in the room `config`."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Name to the fields that `--preset NAME` changes."""
    data_sets: tuple[str, ...]
    """Names in the data registry: the default first, the built-in sample last."""
    headline: Metric
    """The metric that records, parity and int8 are judged by."""
    thresholds: Mapping[Metric, tuple[float, ...]] = field(default_factory=dict)
    """Logged metric to the values whose first reaching records state, with minutes and FLOPs."""
    tuning: Tuning | None = None
    """What `tune` varies, and by which figure it chooses."""
    licence: str = "Apache-2.0"
    resume: Literal["bit for bit", "finished pieces"] = "bit for bit"
    """What `train --resume` promises after a kill: the files that an uninterrupted run would have left, or, around a
    library whose results differ from run to run, that no finished piece of work is done again."""
    phase: int | None = None
    """The phase of the learning plan that it ends."""

    def __post_init__(self) -> None:
        if self.tuning is not None:
            self.tuning.check(self.config)

    @cached_property
    def package(self) -> str:
        """The import package in which the rooms are: that of the config."""
        return self.config.__module__.rpartition(".")[0]

    @cached_property
    def folder(self) -> Path:
        """The folder of the package's project, which holds `results/` and `pretrained/`."""
        spec = find_spec(self.package)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parents[2]

    def defaults(self, preset: str | None) -> Config:
        """Returns the config's defaults as the preset changes them.

        Raises:
            UsageError: there is no preset of that name.
        """
        if preset is None:
            return self.config()
        if preset not in self.presets:
            raise UsageError(f"--preset {preset}: choose one of {', '.join(self.presets) or '(none in this capstone)'}")
        return dataclasses.replace(self.config(), **self.presets[preset])

    def own_data(self, config: Config) -> "LocatedDataSet | None":
        """Returns the user's own files, where the options of `train` name some (see `data.own_files`).

        Raises:
            UserError: they cannot be used.
        """
        room = self._room("data") if self.package and find_spec(f"{self.package}.data") else None
        own_data = getattr(room, "own_data", None)  # a capstone may bring data sets, but take none of its user's
        own: LocatedDataSet | None = own_data(config) if own_data is not None else None
        return own

    def train(self, run: "Run[Config]") -> None:
        """Trains from start to end (or from where the run stopped) and saves with `run.finish`."""
        self._function("train", "train")(run)

    def evaluate(self, predict: "Predict", data: "LocatedDataSet", figures: Path | None) -> "Evaluation":
        """Runs the model over the test set; draws its figures into the folder where one is given."""
        evaluation: Evaluation = self._function("evaluate", "evaluate")(predict, data, figures)
        return evaluation

    def export_graph(self, saved: "SavedRun[Config]") -> "ExportGraph | ConvertedGraph":
        """Returns a run's trained model in the form that is exported to ONNX.

        Raises:
            UserError: the weights are of a network of another shape than the run's options describe.
        """
        try:
            graph: ExportGraph | ConvertedGraph = self._function("model", "export_graph")(saved)
        except RuntimeError as error:
            if "state_dict" not in str(error):
                raise
            problem = " ".join(str(error).split()[:40])
            raise UserError(
                f"the weights of {saved.directory} do not fit its config.json ({problem} …); put back what was "
                f"changed, or train again"
            ) from error
        return graph

    def calibration(self, data: "LocatedDataSet") -> "Iterator[dict[str, np.ndarray]]":
        """Yields batches of training inputs for static quantization, where the graph asks for it."""
        batches: Iterator[dict[str, np.ndarray]] = self._function("model", "calibration")(data)
        return batches

    def service(self, model: "OnnxModel") -> "Service[Any, Any]":
        """Makes the service that answers requests with an exported model.

        Raises:
            UserError: there is no module `service`, or it does not define exactly one service.
        """
        from dlcommon.runtime.serving.service import Service

        room = self._room("service")
        classes = [one for one in vars(room).values() if isclass(one) and one.__module__ == room.__name__]
        services = [one for one in classes if issubclass(one, Service) and not isabstract(one)]
        if len(services) != 1:
            names = ", ".join(one.__name__ for one in services) or "none"
            raise UserError(f"{self._file('service')} must define one subclass of Service, but defines {names}")
        service: Service[Any, Any] = services[0](model)
        return service

    def page(self, service: "Service[Any, Any]", predict: "PagePredict[Any, Any]") -> "gr.Blocks":
        """Builds the demo page of a service."""
        page: gr.Blocks = self._function("page", "build_page")(self.title, self.summary, service, predict)
        return page

    def _file(self, room: str) -> str:
        """Returns the path of a room's file, whether it is there or not, for messages."""
        spec = find_spec(self.package) if self.package else None
        folder = Path(spec.origin).parent if spec is not None and spec.origin else Path(self.package)
        return str(folder / f"{room}.py")

    def _room(self, room: str) -> ModuleType:
        """Imports a room.

        Raises:
            UserError: the package has none of that name.
        """
        name = f"{self.package}.{room}"
        if not self.package or find_spec(name) is None:
            raise UserError(f"{self.name} has no {self._file(room)}; write it, as docs/ARCHITECTURE.md says")
        return import_module(name)

    def _function(self, room: str, name: str) -> Any:
        """Returns a function of a room.

        Raises:
            UserError: there is no such room, or it does not define the function.
        """
        module = self._room(room)
        if not hasattr(module, name):
            raise UserError(f"{self._file(room)} defines no function {name}; write it, as docs/ARCHITECTURE.md says")
        return getattr(module, name)
