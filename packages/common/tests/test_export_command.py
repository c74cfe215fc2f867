"""`export`, `eval` and `eval --record`, as the commands of a capstone with a tiny network."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dlcommon.runtime.capstone import Capstone, Evaluation, ExportGraph, Predict
from dlcommon.runtime.commands import evaluate, export
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.data import DATA_SETS, DataSet, ImageClassification, find
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.records import read_record
from dlcommon.runtime.run_directory import pretrained_model, pretrained_models
from dlcommon.runtime.text import Text
from safetensors.torch import save_file
from torch import nn

CLASSES = ("red", "green", "blue")


@dataclass(frozen=True)
class Config(TrainConfig):
    width: int = 64
    noise: float = 0.0


class Network(nn.Module):
    """The larger the colour's sum, the likelier its class; convolutions in between make up its size."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, config.width, 3), nn.ReLU(), nn.Conv2d(config.width, config.width, 3))
        self.fc = nn.Linear(config.width, 3)
        self.noise = config.noise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = images.permute(0, 3, 1, 2) / 255
        images = nn.functional.dropout(images, self.noise, training=self.noise > 0)
        return (10 * images.mean(dim=(2, 3)) + 0.1 * self.fc(self.conv(images).mean(dim=(2, 3)))).softmax(dim=1)


class Toy(Capstone[Config]):
    name = "toy"
    title = Text("Toy", "玩具")
    summary = Text("Which colour is it?", "是什么颜色？")
    config = Config
    datasets = ("colours", "shades")
    headline = "accuracy"

    def train(self, run: Any) -> None:
        raise NotImplementedError

    def evaluate(self, predict: Predict, data: Any, figures: Path | None) -> Evaluation:
        loaded = data.load()
        probabilities = predict({"images": loaded.test_images})["probabilities"]
        evaluation = evaluate_classifier(probabilities, loaded.test_labels, loaded.classes)
        if figures is not None:
            classification_figures(figures, evaluation.tables, 0.0)
        return evaluation

    def export_graph(self, saved: Any) -> ExportGraph:
        network = Network(saved.config)
        network.load_state_dict(saved.weights())
        example = {"images": np.zeros((2, 8, 8, 3), dtype=np.uint8)}
        return ExportGraph(network.eval(), example, ("probabilities",), {"labels": json.dumps(CLASSES)})

    def calibration(self, data: Any) -> Iterator[dict[str, np.ndarray]]:
        yield {"images": data.load().train_images}

    def service(self, model: OnnxModel) -> Any:
        raise NotImplementedError


def colours(classes: tuple[str, ...]) -> ImageClassification:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 60)
    images = random.integers(0, 128, (60, 8, 8, 3)) + 100 * np.eye(3, dtype=int)[labels][:, None, None, :]
    return ImageClassification(images.astype(np.uint8), labels, images.astype(np.uint8), labels, classes)


def data_set(name: str, classes: tuple[str, ...]) -> DataSet:
    return DataSet(name, Text(name, name), name, "none", "", load=lambda folder: colours(classes), builtin=True)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setitem(DATA_SETS, "colours", data_set("colours", CLASSES))
    monkeypatch.setitem(DATA_SETS, "shades", data_set("shades", ("dark", "light", "grey")))
    monkeypatch.setattr(Toy, "folder", tmp_path / "package", raising=False)
    return Toy()


def trained(tmp_path: Path, seed: int = 0, nan: bool = False, **options: Any) -> Path:
    """A finished run, as `train` leaves it."""
    folder = tmp_path / "runs" / "toy" / f"colours-{seed}"
    folder.mkdir(parents=True)
    config = Config(data="colours", seed=seed, **options)
    config.save(folder / "config.json")
    torch.manual_seed(seed)
    weights = Network(config).state_dict()
    if nan:
        weights["fc.bias"] = weights["fc.bias"] * torch.nan
    save_file(weights, folder / "model.safetensors")
    located = find("colours")
    assert located is not None
    summary = {
        "capstone": "toy",
        "preset": "default",
        "command": "toy train",
        "data": {
            "name": "colours",
            "builtin": True,
            "fingerprint": located.fingerprint(),
            "description": located.describe(),
        },
        "seed": seed,
        "training": {"minutes": 0.1, "device": "cpu", "precision": "fp32", "classes": list(CLASSES)},
        "hardware": {"processor": "abacus", "cores": 1, "gpus": [], "versions": {"torch": torch.__version__}},
        "git": None,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


# -- export


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
    monkeypatch.setattr(Toy, "calibration", lambda self, data: iter(()))
    assert export.main(toy, ["--no-latency"]) == 0
    assert "int8: cannot be had" in capsys.readouterr().out
    assert (folder / "model.onnx").is_file()
    assert not (folder / "model.int8.onnx").exists()
    assert not json.loads((folder / "export.json").read_text())["int8"]["kept"]


def test_an_int8_graph_that_loses_too_much_is_not_kept(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(tmp_path)
    monkeypatch.setattr(export, "INT8_LOSS", -1.0)
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
    monkeypatch.setattr(export, "LARGEST_PRETRAINED", sizes["model.int8.onnx"] + 500)
    package = tmp_path / "package" / "pretrained"
    assert export.main(toy, ["--no-latency", "--pretrained"]) == 0
    assert sorted(file.name for file in package.iterdir()) == ["export.json", "toy.onnx"]
    assert OnnxModel(package / "toy.onnx").metadata["precision"] == "int8"
    monkeypatch.setattr(export, "LARGEST_PRETRAINED", sizes["model.onnx"] - 1)
    assert export.main(toy, ["--no-latency", "--pretrained"]) == 0
    assert OnnxModel(package / "toy.onnx").metadata["precision"] == "float32, weights stored as float16"
    assert json.loads((package / "export.json").read_text())["float16"]["kept"]
    monkeypatch.setattr(export, "LARGEST_PRETRAINED", 100)
    with pytest.raises(UserError, match=r"no exported model is at most .*model\.onnx 0\.\d MB"):
        export.main(toy, ["--no-latency", "--no-int8", "--pretrained"])


def test_a_package_carries_further_models_by_name_after_its_own(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path)
    assert export.main(toy, ["--no-latency", "--no-int8", "--pretrained", "--name", "broad"]) == 0
    assert [path.stem for path in pretrained_models(toy)] == ["broad"]
    assert export.main(toy, ["--no-latency", "--no-int8", "--pretrained"]) == 0
    assert [path.stem for path in pretrained_models(toy)] == ["toy", "broad"]
    assert pretrained_model(toy) == pretrained_models(toy)[0]
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


# -- eval


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

    class Other(Toy):
        name = "other"

    with pytest.raises(UserError, match="model of toy, not of other"):
        evaluate.main(Other(), ["--model", str(model)])


def test_records_name_the_recipe_with_what_was_changed(toy: Toy, tmp_path: Path) -> None:
    for seed, options in enumerate([{}, {"width": 8, "epochs": 2.0, "checkpoint_minutes": 9.0}]):
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


def test_milestones_are_the_first_evaluations_that_reach_a_threshold(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(tmp_path)
    rows = [
        {"step": step, "epoch": float(step), "seconds": 10.0 * step, "flops": step * 10, "test_accuracy": value}
        for step, value in enumerate([0.5, 0.86, 0.84, 0.91], start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(Toy, "thresholds", {"test_accuracy": (0.85, 0.9, 0.95)})
    assert evaluate.main(toy, ["--record"]) == 0
    record = read_record(tmp_path / "package" / "results" / "default-colours-seed0.json")
    assert [(m.threshold, m.epoch, m.seconds) for m in record.milestones] == [(0.85, 2.0, 20.0), (0.9, 4.0, 40.0)]
