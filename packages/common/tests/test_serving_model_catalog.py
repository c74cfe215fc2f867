"""Which models a service that answers with several offers."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.model_catalog import available_models
from dlcommon.testing.toy_colours.config import Config
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
        ("run", "model"),
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
    assert list(available_models(capstone, OnnxModel(run / "model.onnx"))) == ["run"]
    assert "cut.onnx is not a whole ONNX model" in capsys.readouterr().err


def write_run(folder: Path, age: int, **summary: object) -> Path:
    """Writes what of a finished and exported run is looked at here; returns its model."""
    folder.mkdir(parents=True)
    Config().save(folder / "config.json")
    content = {"capstone": "toy", "data": {"name": folder.name.partition("-")[0]}, "training": {}, **summary}
    (folder / "summary.json").write_text(json.dumps(content), encoding="utf-8")
    model = write_toy_model(folder / "model.onnx", data=folder.name)
    os.utime(model, (1e9 - age, 1e9 - age))
    return model


def test_of_each_task_the_latest_run_is_offered(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs" / "toy"
    for age, name in enumerate(("colours-1", "shades-2", "colours-3", "shades-4")):
        write_run(runs / name, age)
    write_run(runs / "stripes-5", 9, capstone="another")
    (runs / "dots-6").mkdir()  # was never exported
    served = OnnxModel(runs / "shades-2" / "model.onnx")
    assert list(available_models(toy, served)) == ["shades-2"]
    offered = available_models(toy, served, lambda saved: saved.data_name)
    assert {name: model.data_name for name, model in offered.items()} == {
        "shades-2": "shades-2",
        "colours-1": "colours-1",
    }
    assert "stripes-5 is a run of another, not of toy; it is passed over" in capsys.readouterr().err
