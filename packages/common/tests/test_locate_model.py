"""Which of the models that a package carries is taken."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dlcommon.runtime.data import ASSETS, Asset, AssetForm
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.locate_model import packaged_model


@pytest.fixture
def capstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a package with an adapter of its own name, and a model that needs nothing."""
    title, forms = LocalizedText("Base", "基座"), (AssetForm("raw", {"base.bin": None}),)
    monkeypatch.setitem(ASSETS, "toy-base", Asset("toy-base", title, "", "none", "", forms))
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    folder = tmp_path / "pretrained"
    folder.mkdir()
    for name in ("toy", "toy-small"):
        (folder / f"{name}.onnx").write_bytes(b"")
    record = {"requires": [{"name": "toy-base", "form": "raw", "fingerprint": "0", "description": ""}]}
    (folder / "export.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "toy-small.json").write_text(json.dumps({"requires": []}), encoding="utf-8")
    return SimpleNamespace(name="toy", folder=tmp_path)


def test_the_model_of_the_packages_name_is_taken_where_its_base_is_at_hand(
    capstone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "assets" / "toy-base" / "raw" / "base.bin"
    base.parent.mkdir(parents=True)
    base.write_bytes(b"weights")
    assert packaged_model(capstone) == tmp_path / "pretrained" / "toy.onnx"
    assert not capsys.readouterr().err


def test_else_the_next_one_is_taken_and_that_is_said(
    capstone: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert packaged_model(capstone) == tmp_path / "pretrained" / "toy-small.onnx"
    said = capsys.readouterr().err
    assert "toy.onnx needs toy-base, which is not on this machine; put assets/toy-base/raw/base.bin" in said


def test_where_none_can_be_loaded_the_first_says_why(capstone: Any, tmp_path: Path) -> None:
    (tmp_path / "pretrained" / "toy-small.onnx").unlink()
    assert packaged_model(capstone) == tmp_path / "pretrained" / "toy.onnx"
    (tmp_path / "pretrained" / "toy.onnx").unlink()
    assert packaged_model(capstone) is None
