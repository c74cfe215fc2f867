"""`export`, as the command of a capstone with a tiny network."""

import json
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands import evaluate, export
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.export import pretrained
from dlcommon.runtime.locate_model import packaged_model, packaged_models
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.toy_colours import model
from dlcommon.testing.toy_colours.config import CLASSES, Config
from dlcommon.testing.toy_colours.runs import trained

Toy = Capstone[Config]


def test_export_leaves_both_graphs_and_its_record(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path)
    assert export.main(toy, ["--no-latency", "--pretrained", "--json"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result | {"seconds": 0} == {
        "capstone": "toy",
        "data": "colours",
        "split": "test",
        "n": 60,
        "metrics": {"accuracy": 1.0},
        "seconds": 0,
        "run": str(folder),
    }
    assert printed.err.startswith("toy · export · data colours (built-in) · cpu fp32")
    assert "Warning" not in printed.err

    record = json.loads((folder / "export.json").read_text())
    assert record["parity"]["max_abs_difference"] < 1e-5
    assert record["parity"]["n"] == 60
    assert record["int8"]["kept"]
    assert record["int8"]["bytes"] < 0.4 * record["bytes"]
    model, int8 = OnnxModel(folder / "model.onnx"), OnnxModel(folder / "model.int8.onnx")
    assert record["bytes"] == model.path.stat().st_size
    for graph in (model, int8):
        assert (graph.metadata["capstone"], graph.data_name, graph.data_is_builtin) == ("toy", "colours", True)
        assert graph.labels == list(CLASSES)
        assert graph.metadata["run"] == folder.name
        assert graph.metadata["commit"] == "unknown"
        assert graph.metrics["accuracy"] == 1.0
    assert int8.metrics != model.metrics, "the int8 graph claims the float32 graph's metrics"
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "export.json",
        "model.int8.onnx",
        "model.onnx",
        "model.safetensors",
        "summary.json",
    ]
    package = tmp_path / "package" / "pretrained"
    assert (package / "toy.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert (package / "export.json").read_bytes() == (folder / "export.json").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "reason"), [({"nan": True}, "not finite"), ({"noise": 0.5}, "eval mode")], ids=["nan", "dropout"]
)
def test_a_wrong_graph_leaves_nothing(toy: Toy, tmp_path: Path, wrong: dict[str, Any], reason: str) -> None:
    folder = trained(tmp_path, **wrong)
    before = sorted(folder.iterdir())
    with pytest.raises(UserError, match=reason):
        export.main(toy, ["--no-latency"])
    assert sorted(folder.iterdir()) == before


def test_a_graph_that_cannot_be_quantized_is_exported_all_the_same(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path)
    (folder / "model.int8.onnx").write_bytes(b"of an earlier export")
    monkeypatch.setattr(model, "calibration", lambda data: iter(()))
    assert export.main(toy, ["--no-latency"]) == 0
    assert "int8: unavailable" in capsys.readouterr().out
    assert (folder / "model.onnx").is_file()
    assert not (folder / "model.int8.onnx").exists()
    assert not json.loads((folder / "export.json").read_text())["int8"]["kept"]


def test_an_int8_graph_that_loses_too_much_is_not_kept(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(tmp_path)
    monkeypatch.setattr(Metric, "tolerates", lambda *_: False)
    assert export.main(toy, ["--no-latency"]) == 0
    found = json.loads((folder / "export.json").read_text())["int8"]
    assert (found["kept"], found["accuracy"]) == (False, 1.0)
    assert not (folder / "model.int8.onnx").exists()


def test_a_package_takes_int8_where_float32_is_too_large_and_else_nothing(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(tmp_path)
    sizes = {}
    assert export.main(toy, ["--no-latency"]) == 0
    for name in ("model.onnx", "model.int8.onnx"):
        sizes[name] = (folder / name).stat().st_size
    monkeypatch.setattr(pretrained, "LARGEST_PRETRAINED", sizes["model.int8.onnx"] + 500)
    package = tmp_path / "package" / "pretrained"
    assert export.main(toy, ["--no-latency", "--pretrained"]) == 0
    assert sorted(file.name for file in package.iterdir()) == ["export.json", "toy.onnx"]
    assert OnnxModel(package / "toy.onnx").metadata["precision"] == "int8"
    monkeypatch.setattr(pretrained, "LARGEST_PRETRAINED", sizes["model.onnx"] - 1)
    assert export.main(toy, ["--no-latency", "--pretrained"]) == 0
    assert OnnxModel(package / "toy.onnx").metadata["precision"] == "float32, weights stored as float16"
    assert json.loads((package / "export.json").read_text())["float16"]["kept"]
    monkeypatch.setattr(pretrained, "LARGEST_PRETRAINED", 100)
    with pytest.raises(UserError, match=r"no exported model is at most .*model\.onnx 0\.\d MB"):
        export.main(toy, ["--no-latency", "--no-int8", "--pretrained"])


def test_a_package_carries_further_models_by_name_after_its_own(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    assert export.main(toy, ["--no-latency", "--no-int8", "--pretrained", "--name", "broad"]) == 0
    assert [path.stem for path in packaged_models(toy)] == ["broad"]
    assert export.main(toy, ["--no-latency", "--no-int8", "--pretrained"]) == 0
    assert [path.stem for path in packaged_models(toy)] == ["toy", "broad"]
    assert packaged_model(toy) == packaged_models(toy)[0]
    package = tmp_path / "package" / "pretrained"
    assert sorted(path.name for path in package.glob("*.json")) == ["broad.json", "export.json"]


@pytest.mark.parametrize(
    "flags", [("--name", "broad"), ("--pretrained", "--name", "../broad"), ("--pretrained", "--name", "")]
)
def test_a_name_that_cannot_be_used_is_refused(toy: Toy, flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--name"):
        export.main(toy, list(flags))


def test_nothing_to_export_or_evaluate_is_said(toy: Toy) -> None:
    with pytest.raises(UserError, match="no run of toy to export"):
        export.main(toy, [])
    with pytest.raises(UserError, match="no run of toy to evaluate"):
        evaluate.main(toy, [])
