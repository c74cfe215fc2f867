"""Which models a service that answers with several offers."""

from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.model_catalog import available_models
from dlcommon.testing.toy_serving import ToyCapstone, write_toy_model


@pytest.fixture
def capstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ToyCapstone, "folder", tmp_path / "package")
    (tmp_path / "package" / "pretrained").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    return ToyCapstone()


def test_the_one_named_then_those_beside_it_then_the_packages_own(capstone: Any, tmp_path: Path) -> None:
    run, package = tmp_path / "run", tmp_path / "package" / "pretrained"
    for path in (run / "model.onnx", run / "beside.onnx", package / "alpha.onnx", package / "toy.onnx"):
        write_toy_model(path, data=path.stem)
    write_toy_model(package / "beside.onnx", data="hidden by the one beside the model")
    offered = available_models(capstone, OnnxModel(run / "model.onnx"))
    assert [(name, model.data_name) for name, model in offered.items()] == [
        ("model", "model"),
        ("beside", "beside"),
        ("toy", "toy"),
        ("alpha", "alpha"),
    ]


def test_what_cannot_be_offered_does_not_keep_the_rest_from_it(
    capstone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    write_toy_model(run / "model.onnx")
    write_toy_model(run / "foreign.onnx", capstone="another")
    (run / "cut.onnx").write_bytes(b"half a model")
    assert list(available_models(capstone, OnnxModel(run / "model.onnx"))) == ["model"]
    assert "cut.onnx is not a whole ONNX model" in capsys.readouterr().err
