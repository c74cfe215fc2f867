"""A trained model in the form that is exported: what a capstone's `export_graph` returns."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
from torch import nn

from dlcommon.runtime.arrays import Predict


@dataclass(frozen=True)
class ExportGraph:
    """Describes a torch module to export to ONNX, with its preprocessing inside."""

    module: nn.Module
    """In eval mode, on the CPU, float32; takes the inputs by position and returns a tensor or a tuple."""
    example: dict[str, np.ndarray]
    """Input name to an array [batch, …] that the graph is traced with; the batch is exported as dynamic."""
    outputs: tuple[str, ...]
    """Names of the outputs, in order."""
    metadata: dict[str, str]
    """What a server must know besides the graph: labels, preprocessing."""
    quantize: bool = True
    """Whether an int8 graph is tried as well."""
    quantization: Literal["static", "dynamic"] = "static"
    """Whether ranges of activations are fixed, by the capstone's calibration batches, or taken from each input."""
    calibration: Callable[[], Iterator[dict[str, np.ndarray]]] | None = None
    """Yields batches to quantize with, where they depend on the graph alone; by default the capstone's, of its data."""
    requires: tuple[str, ...] = ()
    """Names of the run's assets that the graph does not hold, such as the base that it is an adapter of."""
    dynamic: dict[str, dict[int, str]] = field(default_factory=dict)
    """Axes besides the batch that vary: input name to {axis: symbol}."""
    defaults: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further inputs of the module that callers of the graph may leave out, and what they are then, such as the
    matrices of an adapter. None of their axes is the batch; `dynamic` names those that vary."""
    translations: Mapping[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)
    """Custom operators of torch (`torch.library`) to what computes them in ONNX, an onnxscript function."""


@dataclass(frozen=True)
class ConvertedGraph:
    """Holds a model that another library's converter (skl2onnx, onnxmltools) turned to ONNX, preprocessing inside."""

    model: onnx.ModelProto
    """The first axis of its inputs and outputs is the batch, left open."""
    original: Predict
    """The same model in its own library: what ONNX is compared with."""
    original_name: str
    """Name of the source library."""
    example: dict[str, np.ndarray]
    """Input name to an array [batch, …] that the model accepts."""
    metadata: dict[str, str]
    """What a server must know besides the graph: labels, preprocessing."""
    quantize: bool = False
    """Whether an int8 graph is tried as well."""
