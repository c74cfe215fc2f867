"""Quantizes to int8, statically or dynamically, with ONNX Runtime's own tools."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from dlcommon.runtime.export.onnx_file import set_metadata
from dlcommon.runtime.export.suppress_output import suppress_output


class Batches:
    """Yields calibration batches one after the other, as ONNX Runtime's `CalibrationDataReader` does."""

    def __init__(self, batches: Iterator[dict[str, np.ndarray]]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantize(source: Path, target: Path, calibration: Iterator[dict[str, np.ndarray]]) -> None:
    """Writes the graph with int8 weights (per channel) and uint8 activations, ranges taken from the batches.

    Convolutions and matrix products are quantized; what lies between them stays float32.
    The metadata is the source's, and `precision`.
    """
    with tempfile.TemporaryDirectory() as folder, suppress_output():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Batches(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    _keep_metadata(source, target)


def quantize_dynamically(source: Path, target: Path) -> None:
    """Writes the graph with int8 weights (per channel); activations are quantized by the range of each input.

    Matrix products with weights are quantized. No calibration is needed, and inputs of any length keep their own range.
    The metadata is the source's, and `precision`.
    """
    onnxruntime.set_default_logger_severity(3)  # errors; else its own session warns of inputs that have a default
    with tempfile.TemporaryDirectory() as folder, suppress_output():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(target),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    _keep_metadata(source, target)


def _keep_metadata(source: Path, target: Path) -> None:
    """Replaces the notes of ONNX Runtime's tools by the source's metadata."""
    kept = {prop.key: prop.value for prop in onnx.load(source, load_external_data=False).metadata_props}
    model = onnx.load(target)
    set_metadata(model, kept | {"precision": "int8"})
    onnx.save(model, target)
