"""Loads an exported model and its metadata, with ONNX Runtime alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from dlcommon.runtime.data import LocatedAsset, require_recorded_asset
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.external_weights import read_external, read_header
from dlcommon.runtime.run_directory import EXPORTED

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


@dataclass(frozen=True)
class TensorInfo:
    """Describes one input or output of the graph."""

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...]
    """Sizes; a string names an axis that varies."""

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} [{', '.join(str(size) for size in self.shape)}]"


def _tensor_info(value: Any) -> TensorInfo:
    return TensorInfo(value.name, np.dtype(_DTYPES.get(value.type, np.object_)), tuple(value.shape))


class OnnxModel:
    """Implements `Predict` with an ONNX file, and gives the metadata that the export wrote into it."""

    def __init__(self, path: Path | str, threads: int | None = None) -> None:
        """Loads the graph.

        Raises:
            UserError: there is no such file, it is damaged, or its metadata cannot be read.
            DataUnavailableError: it is an adapter, and the asset that it adapts is not here; says how to get it.
        """
        self.path, self.threads = Path(path), threads
        if not self.path.is_file():
            raise UserError(f"{self.path} does not exist; make one with `train` and `export`, or name it with --model")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads or 0
        # Threads that spin while they wait take the cores from the server's own work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        header = read_header(self.path)
        self.metadata = header.metadata
        self.labels: list[str] = self._parsed("labels", list)
        self.metrics: dict[str, Any] = self._parsed("metrics", dict)
        required = [require_recorded_asset(record) for record in self._parsed("requires", list)]
        self.assets: dict[str, LocatedAsset] = {located.name: located for located in required}
        """Pretrained assets that the graph does not hold but needs, by name."""
        if header.external:
            weights = read_external(self.path, header.external, self.assets)
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
            options.add_external_initializers(list(weights), values)
        try:
            self._session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors share no base class of their own
            raise UserError(
                f"{self.path} is not a whole ONNX model; export it again, or name another with --model"
            ) from error
        self.inputs = [_tensor_info(value) for value in self._session.get_inputs()]
        self.defaults = [_tensor_info(value) for value in self._session.get_overridable_initializers()]
        """Inputs that may be left out, since the file holds what they are then."""
        self.outputs = [_tensor_info(value) for value in self._session.get_outputs()]

    def _parsed(self, key: str, kind: type) -> Any:
        if key not in self.metadata:
            return kind()
        try:
            value = json.loads(self.metadata[key])
        except ValueError:
            value = None
        if not isinstance(value, kind):
            raise UserError(f"{self.path}: its metadata {key!r} is damaged; export the model again")
        return value

    def check_capstone(self, name: str) -> None:
        """Checks that it is a model of this capstone, or of none in particular.

        Raises:
            UserError: it is another's.
        """
        if (owner := self.metadata.get("capstone", name)) != name:
            raise UserError(f"{self.path} is a model of {owner}, not of {name}")

    @property
    def name(self) -> str:
        """Name by which it is told from others: that of its file, or of the folder of a run's `model.onnx`."""
        return self.path.resolve().parent.name if self.path.name == EXPORTED else self.path.stem

    @property
    def runtime(self) -> str:
        """Name and version of the runtime that computes the graph."""
        return f"onnxruntime {onnxruntime.__version__} cpu"

    @property
    def data_name(self) -> str:
        """Name of the data set that the model was trained on."""
        return self.metadata.get("data", "unknown")

    @property
    def data_is_builtin(self) -> bool:
        """Whether the model was trained on the built-in sample data, which says nothing about the real task."""
        return self.metadata.get("data_builtin", "false").lower() == "true"

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph: input name to array [batch, …], output name to array [batch, …]."""
        names = [output.name for output in self.outputs]
        return dict(zip(names, self._session.run(names, dict(arrays)), strict=True))
