import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from dlcommon.runtime.data import ASSETS, Asset, AssetForm, LocatedAsset, require_asset
from dlcommon.runtime.errors import DataUnavailableError, UserError
from dlcommon.runtime.evaluation.batched import in_batches
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.export.adapter import leave_out
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.export.latency import measure
from dlcommon.runtime.export.onnx_file import add_metadata, write_onnx
from dlcommon.runtime.export.parity import compare
from dlcommon.runtime.export.quantize import quantize, quantize_dynamically
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import ModulePredictor
from safetensors.torch import save_file
from torch import nn

IMAGES = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 40)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU())
        self.fc = nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.conv(images).mean(dim=(2, 3)))
        return logits.softmax(dim=1)


class Toy:
    headline = Metric("accuracy")

    def evaluate(self, predict: Any, data: Any, figures: Path | None) -> Evaluation:
        return evaluate_classifier(predict({"images": IMAGES})["probabilities"], LABELS, ("a", "b", "c"))


TOY: Any = Toy()
NO_DATA: Any = None
"""The parts of a capstone and of a data set that a comparison needs."""


def graph_of(module: nn.Module) -> ExportGraph:
    return ExportGraph(module.eval(), {"images": IMAGES[:2]}, ("probabilities",), {})


def calibration() -> Iterator[dict[str, np.ndarray]]:
    yield {"images": IMAGES}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportGraph, Path]:
    torch.manual_seed(0)
    graph, path = graph_of(Network()), tmp_path_factory.mktemp("export") / "model.onnx"
    write_onnx(graph, {"capstone": "toy", "labels": '["a", "b", "c"]'}, path)
    return graph, path


def reference_of(module: nn.Module) -> Evaluation:
    return Toy().evaluate(ModulePredictor(module, ["images"], ["probabilities"]), None, None)


def test_onnx_agrees_with_torch_at_batch_sizes_it_was_not_traced_with(exported: tuple[ExportGraph, Path]) -> None:
    graph, path = exported
    parity = compare(TOY, reference_of(graph.module), OnnxModel(path), NO_DATA)
    assert parity.max_abs_difference < 1e-5
    assert parity.original == parity.onnx
    assert parity.n == 40


def test_the_file_holds_no_path_of_this_machine(exported: tuple[ExportGraph, Path]) -> None:
    content = exported[1].read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(__file__).parent).encode() not in content


def test_the_file_says_what_it_is(exported: tuple[ExportGraph, Path]) -> None:
    model = OnnxModel(exported[1])
    assert model.metadata["capstone"] == "toy"
    assert model.labels == ["a", "b", "c"]
    assert isinstance(model.inputs[0].shape[0], str), "the batch axis is not dynamic"


def test_an_adapter_names_the_asset_that_it_needs(
    exported: tuple[ExportGraph, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    title = LocalizedText("Base", "基座")
    forms = (AssetForm("raw", {"base.bin": None}),)
    monkeypatch.setitem(ASSETS, "toy-base", Asset("toy-base", title, "", "none", "", forms))
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    base = tmp_path / "assets" / "toy-base" / "raw" / "base.bin"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"weights")
    adapter = tmp_path / "adapter.onnx"
    adapter.write_bytes(exported[1].read_bytes())
    add_metadata(adapter, {"requires": json.dumps([require_asset("toy-base").record()])})
    assert OnnxModel(adapter).assets["toy-base"].path == base.parent
    base.unlink()
    with pytest.raises(DataUnavailableError, match=r"toy-base is not on this machine; put assets/toy-base/raw"):
        OnnxModel(adapter)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LocatedAsset, dict[str, torch.Tensor]]:
    """An asset of two large tensors."""
    title, forms = LocalizedText("Base", "基座"), (AssetForm("safetensors", {"base.safetensors": None}),)
    monkeypatch.setitem(ASSETS, "toy-base", Asset("toy-base", title, "", "none", "", forms))
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    torch.manual_seed(5)
    weights = {"inner.weight": torch.randn(40, 30), "inner.bias": torch.randn(40)}
    file = tmp_path / "assets" / "toy-base" / "safetensors" / "base.safetensors"
    file.parent.mkdir(parents=True)
    save_file(weights, file)
    return require_asset("toy-base"), weights


class Adapted(nn.Module):
    """A pretrained layer with a change of rank 1, and a head."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(30, 40), nn.Linear(40, 3)
        self.inner.load_state_dict({name.removeprefix("inner."): value for name, value in weights.items()})
        self.a, self.b = nn.Parameter(torch.randn(1, 30)), nn.Parameter(torch.randn(40, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        changed = nn.functional.linear(x, self.inner.weight + self.b @ self.a, self.inner.bias)
        output: torch.Tensor = self.head(changed + self.inner(x))
        return output


def test_an_adapter_leaves_the_assets_weights_out_and_computes_the_same(
    base: tuple[LocatedAsset, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    located, weights = base
    module, path = Adapted(weights).eval(), tmp_path / "model.onnx"
    graph = ExportGraph(module, {"x": np.ones((2, 30), np.float32)}, ("y",), {})
    write_onnx(graph, {"requires": json.dumps([located.record()])}, path)
    before = path.stat().st_size
    saved = leave_out(path, [located])
    assert saved >= weights["inner.weight"].numel() * 4
    assert path.stat().st_size < before - saved + 2000
    x = np.random.default_rng(0).normal(size=(5, 30)).astype(np.float32)
    expected = module(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(OnnxModel(path)({"x": x})["y"], expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_cannot_read_other_files(base: tuple[LocatedAsset, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    located, weights = base
    path = tmp_path / "model.onnx"
    graph = ExportGraph(Adapted(weights).eval(), {"x": np.ones((2, 30), np.float32)}, ("y",), {})
    write_onnx(graph, {"requires": json.dumps([located.record()])}, path)
    leave_out(path, [located])
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = entry.value.replace("base.safetensors", "other.safetensors")
    onnx.save(model, path)
    with pytest.raises(UserError, match="in none of the assets that it names"):
        OnnxModel(path)


def test_a_module_that_computes_otherwise_is_refused(exported: tuple[ExportGraph, Path]) -> None:
    other = Network().eval()
    with pytest.raises(UserError, match="differ by"):
        compare(TOY, reference_of(other), OnnxModel(exported[1]), NO_DATA)


def test_outputs_that_are_not_finite_are_refused(exported: tuple[ExportGraph, Path]) -> None:
    reference = reference_of(exported[0].module)
    reference.outputs["probabilities"] = reference.outputs["probabilities"] * np.nan
    with pytest.raises(UserError, match="not finite"):
        compare(TOY, reference, OnnxModel(exported[1]), NO_DATA)


def test_a_headline_metric_that_differs_is_refused(exported: tuple[ExportGraph, Path]) -> None:
    reference = reference_of(exported[0].module)
    reference.metrics["accuracy"] += 0.1
    with pytest.raises(UserError, match="accuracy is"):
        compare(TOY, reference, OnnxModel(exported[1]), NO_DATA)


def test_a_module_tied_to_one_batch_size_or_one_path_is_refused(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.reshape(2, 3 * 8 * 8)

    class Unexportable(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(UserError, match="dynamic batch: it only works where input 'images' has 2 on axis 0"):
        write_onnx(graph_of(Tied()), {}, tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"cannot export this module with a dynamic batch: .*data-dependent"):
        write_onnx(graph_of(Unexportable()), {}, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_module_that_gives_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    class Pairs(Network):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).reshape(2, -1)

    graph, path = graph_of(Pairs()), tmp_path / "model.onnx"
    write_onnx(graph, {}, path)
    with pytest.raises(UserError, match="not one row a sample"):
        Toy().evaluate(in_batches(OnnxModel(path), first=(4,)), None, None)


class AcrossTheBatch(Network):
    """Each row depends on the others, as in a batch norm left in train mode."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(3 * (images - images.mean(dim=0)))


class DropoutLeftOn(Network):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.dropout(images, 0.5, training=True))


@pytest.mark.parametrize("wrong", [AcrossTheBatch, DropoutLeftOn])
def test_a_module_whose_rows_are_not_reproducible_is_refused(wrong: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph, path = graph_of(wrong()), tmp_path / "model.onnx"
    write_onnx(graph, {}, path)
    with pytest.raises(UserError, match="in eval mode, and independent of the batch size"):
        compare(TOY, reference_of(graph.module), OnnxModel(path), NO_DATA)


def test_int8_is_smaller_and_close(exported: tuple[ExportGraph, Path], tmp_path: Path) -> None:
    path = exported[1]
    quantize(path, tmp_path / "int8.onnx", calibration())
    assert (tmp_path / "int8.onnx").stat().st_size < 0.4 * path.stat().st_size
    model = OnnxModel(tmp_path / "int8.onnx")
    assert model.metadata["precision"] == "int8"
    assert model.labels == ["a", "b", "c"]
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    expected = OnnxModel(path)({"images": IMAGES})["probabilities"]
    assert np.abs(model({"images": IMAGES})["probabilities"] - expected).max() < 0.05


def test_dynamic_int8_takes_the_range_of_each_input(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 8)).eval()
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    write_onnx(ExportGraph(module, {"x": x}, ("y",), {}), {"labels": "[]"}, tmp_path / "model.onnx")
    quantize_dynamically(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * (tmp_path / "model.onnx").stat().st_size
    exact, int8 = OnnxModel(tmp_path / "model.onnx"), OnnxModel(tmp_path / "int8.onnx")
    assert (int8.metadata["labels"], int8.metadata["precision"]) == ("[]", "int8")
    for scale in (1, 1000):  # ranges that were fixed for one would cut off, or blur, the other
        expected = exact({"x": scale * x})["y"]
        assert np.abs(int8({"x": scale * x})["y"] - expected).max() < 0.03 * np.abs(expected).max()


def test_latency_names_every_runtime_and_batch(
    exported: tuple[ExportGraph, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlcommon.runtime.export.latency.SECONDS", 0.05)
    monkeypatch.setattr("dlcommon.runtime.export.latency.ENOUGH", 3)
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: module)
    rows = measure(exported[0], {"onnxruntime fp32": OnnxModel(exported[1])})
    assert {(row["runtime"], row["batch"]) for row in rows} == {
        (name, batch) for name in ("torch eager", "torch.compile", "onnxruntime fp32") for batch in (1, 64)
    }
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows)
    assert all(row["repeats"] >= 3 for row in rows)


def test_latency_says_why_a_runtime_is_left_out(
    exported: tuple[ExportGraph, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(module: nn.Module, dynamic: bool) -> Any:
        def run(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler found\nat all")

        return run

    monkeypatch.setattr("dlcommon.runtime.export.latency.SECONDS", 0.01)
    monkeypatch.setattr("dlcommon.runtime.export.latency.ENOUGH", 3)
    monkeypatch.setattr(torch, "compile", no_compiler)
    rows = measure(exported[0], {})
    left_out = [row for row in rows if "skipped" in row]
    assert left_out == [
        {"runtime": "torch.compile", "batch": batch, "skipped": "no C++ compiler found"} for batch in (1, 64)
    ]
    assert len(rows) == 4
