"""Counting operations, predicting in batches, and the log of metrics."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dlcommon.runtime import hardware, run_directory
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.flops import FlopsPerSample, flops_of, training_flops
from dlcommon.runtime.metrics_log import MetricsLog, read_metrics
from dlcommon.runtime.predict import ModulePredictor
from torch import nn


def test_products_and_convolutions_are_counted() -> None:
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert flops_of(lambda: a @ b) == 2 * 3 * 4 * 5
    convolution = nn.Conv2d(2, 6, 3, padding=1)
    assert flops_of(lambda: convolution(torch.ones(1, 2, 8, 8))) == 2 * 8 * 8 * 6 * 2 * 9


def test_training_costs_forward_and_both_gradients() -> None:
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Linear(8, 2, bias=False))
    # Forward, the weights' gradients, and the hidden activations' (the input needs none).
    assert training_flops(model, torch.ones(5, 4)) == 2 * 5 * (2 * (4 * 8 + 8 * 2) + 8 * 2)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    model[2].eval()  # frozen statistics
    model(torch.randn(6, 4)).square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    counter = FlopsPerSample(model)
    assert counter(torch.ones(6, 4)) == counter(torch.ones(2, 4)) == 2 * 2 * 4 * 4
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
    torch.testing.assert_close(dict(model.state_dict()), state)
    assert [module.training for module in model] == [True, True, False]


class TwoInputs(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return a.float() @ torch.ones(3, 2) + b[:, None], b.argsort(stable=True) * 0 + b.long()


@pytest.mark.parametrize("rows", [1, 7, 8, 20])
def test_prediction_in_batches_is_that_of_the_whole(rows: int) -> None:
    predict = ModulePredictor(TwoInputs(), ("a", "b"), ("x", "y"), batch_size=7)
    a, b = np.arange(rows * 3, dtype=np.uint8).reshape(rows, 3), np.arange(rows, dtype=np.float32)
    outputs = predict({"b": b, "a": a})
    np.testing.assert_allclose(outputs["x"], np.tile(a.sum(1)[:, None] + b[:, None], (1, 2)))
    np.testing.assert_array_equal(outputs["y"], np.arange(rows))
    assert outputs["x"].dtype == np.float32


def test_prediction_in_bf16_answers_in_float32_and_without_dropout() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9))
    arrays = {"x": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)}
    exact = ModulePredictor(model, ("x",), ("y",))(arrays)["y"]
    rounded = ModulePredictor(model, ("x",), ("y",), bf16=True)(arrays)["y"]
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.05


def test_metrics_are_read_back_and_cut_off(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.size() == 0
    log.truncate(0)
    log.append({"step": 1, "loss": 0.5})
    size = log.size()
    log.append({"step": 2, "loss": math.inf})
    assert read_metrics(log.path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": math.inf}]
    log.truncate(size)
    assert read_metrics(log.path) == [{"step": 1, "loss": 0.5}]
    MetricsLog(log.path, enabled=False).append({"step": 3})
    assert log.size() == size


def test_a_damaged_metrics_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        read_metrics(path)


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "cpu:x", "xpu"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"--device {name}"):
        hardware.choose_device(name)


def test_runs_of_one_second_get_directories_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path))
    made = [run_directory.create_run_directory("toy", "data") for _ in range(5)]
    assert len(set(made)) == 5
    assert all(path.parent == tmp_path / "toy" and path.name.startswith("data-") for path in made)
    assert run_directory.list_runs("toy") == [], "a run begins with its config"
    for path in (made[3], made[1]):
        (path / "config.json").write_text("{}")
    assert set(run_directory.list_runs("toy")) == {made[1], made[3]}
    (made[1] / "summary.json").write_text("{}")
    assert run_directory.newest_unfinished("toy") == made[3]


def test_runs_lie_beside_the_lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DL_RUNS_DIR", raising=False)
    (tmp_path / "uv.lock").write_text("")
    deep = tmp_path / "packages" / "x"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert run_directory.runs_root() == tmp_path.resolve() / "runs"
