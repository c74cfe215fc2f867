"""`eval` and `eval --record`, as the command of a capstone with a tiny network."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands import evaluate, export
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.records import read_record
from dlcommon.testing.toy_colours.config import CLASSES, Config
from dlcommon.testing.toy_colours.runs import trained

Toy = Capstone[Config]


def test_eval_writes_metrics_figures_and_says_what_ran(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path)
    assert evaluate.main(toy, []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy · eval · data colours (built-in) · torch cpu fp32"
    assert lines[1].startswith("accuracy                     1.0000  (95 % interval 0.9")
    assert lines[-1].startswith("next: uv run --package toy export")
    written = json.loads((folder / "eval.json").read_text())
    assert written["metrics"]["accuracy"] == 1.0
    assert [row["class"] for row in written["per_class"]] == list(CLASSES)
    assert {file.name for file in folder.glob("*.png")} == {"confusion.png", "reliability.png", "per_class.png"}


def test_eval_on_data_with_other_classes_warns_and_leaves_the_runs_own_alone(
    toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path)
    assert evaluate.main(toy, ["--data", "shades", "--json"]) == 0
    printed = capsys.readouterr()
    assert "shades holds other classes (dark, light, grey)" in printed.err
    assert json.loads(printed.out)["data"] == "shades"
    assert not (folder / "eval.json").exists()
    assert json.loads((folder / "eval-shades" / "eval.json").read_text())["trained_on"] == "colours"


def test_eval_of_an_onnx_file(toy: Toy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path)
    assert export.main(toy, ["--no-latency", "--no-int8"]) == 0
    assert not (folder / "model.int8.onnx").exists()
    capsys.readouterr()
    model = folder / "model.onnx"
    assert evaluate.main(toy, ["--model", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "onnxruntime" in lines[0]
    assert lines[-1] == "next: uv run --package toy demo"
    assert (tmp_path / "runs" / "toy" / "eval-model" / "eval.json").is_file()
    with pytest.raises(UsageError, match="two models"):
        evaluate.main(toy, ["--model", str(model), "--run", str(folder)])
    with pytest.raises(UsageError, match="--record keeps the result of a run"):
        evaluate.main(toy, ["--model", str(model), "--record"])
    with pytest.raises(UserError, match="model of toy, not of other"):
        evaluate.main(dataclasses.replace(toy, name="other"), ["--model", str(model)])


def test_records_name_the_recipe_with_what_was_changed(toy: Toy, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"width": 8, "epochs": 2.0, "checkpoint_minutes": 9.0}]
    for seed, options in enumerate(changes):
        folder = trained(tmp_path, seed, **options)
        assert evaluate.main(toy, ["--run", str(folder), "--record"]) == 0
    results = sorted((tmp_path / "package" / "results").iterdir())
    assert [path.name for path in results] == [
        "default-colours-seed0.json",
        "default-epochs-2.0-width-8-colours-seed1.json",
    ]
    plain, changed = (read_record(path) for path in results)
    assert (plain.preset, changed.preset) == ("default", "default --epochs 2.0 --width 8")
    assert plain.metrics["accuracy"] == 1.0
    assert plain.intervals["accuracy"][1] == 1.0
    assert plain.training.minutes == 0.1


def test_a_gpus_record_is_beside_the_processors(toy: Toy, tmp_path: Path) -> None:
    folder = trained(tmp_path)
    assert evaluate.main(toy, ["--record"]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    summary["training"]["device"] = "cuda:0"
    (folder / "summary.json").write_text(json.dumps(summary))
    assert evaluate.main(toy, ["--record"]) == 0
    results = sorted(path.name for path in (tmp_path / "package" / "results").iterdir())
    assert results == ["default-colours-seed0-cuda.json", "default-colours-seed0.json"]


def test_a_record_and_an_export_name_the_assets_that_training_started_from(toy: Toy, tmp_path: Path) -> None:
    folder = trained(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    asset = {"name": "backbone", "form": "onnx", "fingerprint": "f" * 64, "description": "backbone (onnx, cache)"}
    (folder / "summary.json").write_text(json.dumps(summary | {"assets": [asset]}))
    assert evaluate.main(toy, ["--record"]) == 0
    record = read_record(tmp_path / "package" / "results" / "default-colours-seed0.json")
    assert [one.model_dump() for one in record.assets] == [asset]
    assert export.main(toy, ["--no-latency", "--no-int8"]) == 0
    assert json.loads(OnnxModel(folder / "model.onnx").metadata["assets"]) == [asset]


def test_other_data_is_not_recorded(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained(tmp_path)
    with pytest.raises(UserError, match=r"not the data that .* was trained on"):
        evaluate.main(toy, ["--data", "shades", "--record"])
    assert not (tmp_path / "package").exists()
    summary = json.loads((folder / "summary.json").read_text())
    del summary["data"]["builtin"]
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match=r"field 'data.builtin'"):
        evaluate.main(toy, ["--record"])
    assert not (tmp_path / "package").exists()


def test_milestones_are_the_first_evaluations_that_reach_a_threshold(toy: Toy, tmp_path: Path) -> None:
    folder = trained(tmp_path)
    rows = [
        {"step": step, "epoch": float(step), "seconds": 10.0 * step, "flops": step * 10, "test_accuracy": value}
        for step, value in enumerate([0.5, 0.86, 0.84, 0.91], start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    toy = dataclasses.replace(toy, thresholds={Metric("test_accuracy"): (0.85, 0.9, 0.95)})
    assert evaluate.main(toy, ["--record"]) == 0
    record = read_record(tmp_path / "package" / "results" / "default-colours-seed0.json")
    assert [(m.threshold, m.epoch, m.seconds) for m in record.milestones] == [(0.85, 2.0, 20.0), (0.9, 4.0, 40.0)]
