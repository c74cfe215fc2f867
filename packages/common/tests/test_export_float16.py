"""Weights stored as float16: half the file, the same graph to a rounding."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from dlcommon.runtime.export.float16 import store_as_float16
from dlcommon.runtime.onnx_model import OnnxModel
from onnx import TensorProto, helper, numpy_helper


def write(path: Path, weight: np.ndarray) -> Path:
    """y [batch, 64] = x [batch, 64] · weight [64, 64]."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "product",
        [value("x", TensorProto.FLOAT, ["batch", 64])],
        [value("y", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"capstone": "toy"})
    onnx.save(model, path)
    return path


def test_the_file_halves_and_the_outputs_move_by_a_rounding(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    source = write(tmp_path / "source.onnx", random.standard_normal((64, 64)))
    store_as_float16(source, tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * source.stat().st_size
    x = random.standard_normal((3, 64)).astype(np.float32)
    whole, half = OnnxModel(source), OnnxModel(tmp_path / "half.onnx")
    expected, found = whole({"x": x})["y"], half({"x": x})["y"]
    assert found.dtype == np.float32
    # Sixty-four products, each of which a weight's rounding changes by at most 2⁻¹¹ of it.
    assert 0 < np.abs(found - expected).max() < 2**-11 * 64
    assert half.metadata == {"capstone": "toy", "precision": "float32, weights stored as float16"}


@pytest.mark.parametrize("scale", [1e6, 1e-9])
def test_what_float16_cannot_hold_stays_float32(tmp_path: Path, scale: float) -> None:
    source = write(tmp_path / "source.onnx", scale * np.random.default_rng(0).standard_normal((64, 64)))
    store_as_float16(source, tmp_path / "half.onnx")
    x = np.eye(64, dtype=np.float32)
    assert np.array_equal(OnnxModel(tmp_path / "half.onnx")({"x": x})["y"], OnnxModel(source)({"x": x})["y"])


def test_an_input_with_a_default_is_of_float16_and_may_still_be_given(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((64, 64)).astype(np.float32)
    source = write(tmp_path / "source.onnx", weight)
    model = onnx.load(source)
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [64, "columns"]))
    onnx.save(model, source)
    store_as_float16(source, tmp_path / "half.onnx")
    half = OnnxModel(tmp_path / "half.onnx")
    assert [(one.name, str(one.dtype)) for one in half.defaults] == [("weight", "float16")]
    x = random.standard_normal((3, 64)).astype(np.float32)
    assert np.abs(half({"x": x})["y"] - x @ weight).max() < 2**-11 * 64
    np.testing.assert_allclose(half({"x": x, "weight": np.eye(64, 5, dtype=np.float16)})["y"], x[:, :5])
