import json
from pathlib import Path
from typing import Any

import pytest

from dlcommon.runtime import records
from dlcommon.runtime.commands import results
from dlcommon.runtime.errors import UserError


def record(seed: int, accuracy: float) -> dict[str, Any]:
    return {
        "schema": 1, "capstone": "toy", "preset": "default", "seed": seed, "headline": "accuracy", "n": 1000,
        "metrics": {"accuracy": accuracy}, "intervals": {}, "data": {"name": "toys", "description": "toys (built-in)"},
        "training": {"minutes": 2.0 + seed, "flops": 3e15},
        "milestones": [
            {"metric": "test_accuracy", "threshold": 0.9, "epoch": 2.0 + seed, "seconds": 60.0, "flops": 1e15}
        ],
        "hardware": {"cores": 2, "processor": "abacus", "gpus": []}, "git": {"commit": "0123456789", "changed": False},
        "command": "toy train",
    }  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages" / "toy" / "results"
    folder.mkdir(parents=True)
    (tmp_path / "uv.lock").write_text("")
    for seed, accuracy in [(0, 0.91), (1, 0.93)]:
        (folder / f"default-toys-seed{seed}.json").write_text(json.dumps(record(seed, accuracy)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_seeds_are_one_row_with_mean_and_standard_deviation(workspace: Path) -> None:
    text = records.render(workspace)
    assert "| default | toys (built-in) | 92.00 % ± 1.41 | 0, 1 | 2.50 | 3.000 | 2 cores, abacus | 01234567 |" in text
    assert "| default | toys (built-in) | test accuracy ≥ 90 % | 2.5 | 1.00 | 1.000 |" in text


def test_check_fails_once_a_record_changes(workspace: Path) -> None:
    with pytest.raises(UserError, match="uv run results"):
        results.main(["--check"])
    assert results.main([]) == 0
    assert results.main(["--check"]) == 0
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    path.write_text(path.read_text().replace("0.91", "0.99"))
    with pytest.raises(UserError, match="does not agree"):
        results.main(["--check"])


@pytest.mark.parametrize("field", ["schema", "metrics", "command"])
def test_a_record_without_a_field_is_named(workspace: Path, field: str) -> None:
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    content = record(0, 0.9)
    del content[field]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"seed0.json: field '{field}'"):
        records.render(workspace)


def test_a_damaged_record_is_named(workspace: Path) -> None:
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    path.write_text('{"schema": 1,')
    with pytest.raises(UserError, match="seed0.json is damaged"):
        records.render(workspace)
