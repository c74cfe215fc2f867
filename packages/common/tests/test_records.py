import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime import results_page
from dlcommon.runtime.commands import results
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.metric import Metric

ACCURACY, LOGGED = (dataclasses.asdict(Metric(name)) for name in ("accuracy", "test_accuracy"))


def record(seed: int, accuracy: float, preset: str = "default") -> dict[str, Any]:
    return {
        "schema": 2,
        "capstone": "toy",
        "preset": preset,
        "seed": seed,
        "headline": ACCURACY,
        "n": 1000,
        "metrics": {"accuracy": accuracy},
        "intervals": {"accuracy": [accuracy - 0.01, accuracy + 0.02]},
        "evaluation_seconds": 0.5,
        "data": {"name": "toys", "builtin": True, "fingerprint": "f", "description": "toys (built-in)"},
        "training": {"minutes": 2.0 + seed, "cpu_minutes": 4.0, "device": "cpu", "flops": 3e15, "steps": 10},
        "milestones": [
            {
                "metric": ACCURACY | {"name": "test_accuracy"},
                "threshold": 0.9,
                "step": 5,
                "epoch": 2.0,
                "seconds": 60.0,
                "flops": 1e15,
            }
        ][seed:],
        "hardware": {"cores": 2, "processor": "abacus", "gpus": [], "versions": {"torch": "2.15"}},
        "git": {"commit": "0123456789", "changed": False},
        "command": "toy train",
        "run": "toys-1",
    }


GPUS = {"hardware": record(0, 0)["hardware"] | {"gpus": ["H1", "H1"]}}
ON_A_GPU = GPUS | {"training": record(0, 0)["training"] | {"device": "cuda"}}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "packages" / "toy" / "results"
    folder.mkdir(parents=True)
    (tmp_path / "uv.lock").write_text("")
    for seed, accuracy in [(0, 0.91), (1, 0.93)]:
        (folder / f"default-toys-seed{seed}.json").write_text(json.dumps(record(seed, accuracy)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rendered(root: Path) -> str:
    return results_page.pages(root)[root / "RESULTS.md"]


def test_seeds_are_one_row_with_mean_and_standard_deviation(workspace: Path) -> None:
    text = rendered(workspace)
    assert (
        "| default | toys (built-in) | 92.00 % ± 1.41 | 91.00 to 94.00 | 1000 | 0, 1 | 2.50 | 4.00 | 3.000 "
        "| 2 cores, abacus, torch 2.15 | 01234567 | `toy train` |"
    ) in text
    milestone = "| default | toys (built-in) | test accuracy ≥ 90 % | 1 of 2 | 2.0 | 1.00 | 1.000 "
    assert milestone + "| 2 cores, abacus, torch 2.15 |" in text


def test_a_recipes_tables_are_those_of_its_first_seed_and_no_markup(workspace: Path) -> None:
    folder = workspace / "packages" / "toy" / "results"
    for seed in (1, 0):
        tables = {"samples": [{"temperature": 0.5, "copied": 3, "text": f"`<b>|\nseed {seed}"}], "none": []}
        (folder / f"default-toys-seed{seed}.json").write_text(json.dumps(record(seed, 0.9) | {"tables": tables}))
    page = rendered(workspace)
    assert page.count("samples: default, toys (built-in), seed 0") == 1
    assert "| temperature | copied | text |" in page
    assert "| 0.5000 | 3 | `ˋ<b>\\|⏎seed 0` |" in page
    assert "seed 1`" not in page
    assert "none:" not in page


@pytest.mark.parametrize(
    "other",
    [
        {"preset": "default --epochs 1"},
        {"data": record(0, 0)["data"] | {"fingerprint": "g"}},
        {"hardware": record(0, 0)["hardware"] | {"processor": "slide rule"}},
        {"hardware": record(0, 0)["hardware"] | {"instructions": "AVX2"}},
        ON_A_GPU,
    ],
    ids=["preset", "data", "processor", "instructions", "gpu"],
)
def test_what_differs_in_more_than_the_seed_is_a_row_of_its_own(workspace: Path, other: dict[str, Any]) -> None:
    path = workspace / "packages/toy/results/another.json"
    path.write_text(json.dumps(record(2, 0.5) | other))
    text = rendered(workspace)
    assert "92.00 % ± 1.41" in text
    assert "| 50.00 % |" in text


def test_the_gpus_of_a_machine_are_named_where_they_were_trained_on(workspace: Path) -> None:
    path = workspace / "packages/toy/results/another.json"
    path.write_text(json.dumps(record(2, 0.5) | ON_A_GPU))
    assert "| 1 × H1, abacus, torch 2.15 |" in rendered(workspace)
    path.write_text(json.dumps(record(2, 0.5) | GPUS | {"training": ON_A_GPU["training"] | {"processes": 2}}))
    assert "| 2 × H1, abacus, torch 2.15 |" in rendered(workspace)
    path.write_text(json.dumps(record(2, 0.92) | GPUS))
    assert "| 0, 1, 2 |" in rendered(workspace)


def test_a_result_of_changed_files_says_so(workspace: Path) -> None:
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    path.write_text(json.dumps(record(0, 0.9) | {"git": {"commit": "9876543210", "changed": True}}))
    assert "| 01234567, 98765432 (changed) |" in rendered(workspace)


def test_check_fails_once_a_record_changes(workspace: Path) -> None:
    with pytest.raises(UserError, match="uv run results"):
        results.main(["--check"])
    assert results.main([]) == 0
    assert results.main(["--check"]) == 0
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    path.write_text(path.read_text().replace("0.91", "0.99"))
    with pytest.raises(UserError, match="does not agree"):
        results.main(["--check"])


def test_readmes_show_the_default_recipe_on_real_data_and_without_a_gpu(workspace: Path) -> None:
    folder = workspace / "packages/toy/results"
    real = record(0, 0.8) | {"data": record(0, 0)["data"] | {"builtin": False, "fingerprint": "z"}}
    (folder / "default-real-seed0.json").write_text(json.dumps(real))
    (folder / "best-real-seed0.json").write_text(json.dumps(real | {"preset": "best", "metrics": {"accuracy": 0.99}}))
    (folder / "default-real-seed0-cuda.json").write_text(json.dumps(real | ON_A_GPU | {"metrics": {"accuracy": 0.7}}))
    text = "accuracy [{}](RESULTS.md#toy), [none yet](RESULTS.md#other), [all](RESULTS.md)"
    (workspace / "README.zh-CN.md").write_text(text.format("?"))
    with pytest.raises(UserError, match=r"README\.zh-CN\.md"):
        results.main(["--check"])
    assert results.main([]) == 0
    assert (workspace / "README.zh-CN.md").read_text() == text.format("80.00 %, 2 min")
    assert results.main(["--check"]) == 0


@pytest.mark.parametrize("field", ["schema", "metrics", "command", "training.minutes", "hardware.cores"])
def test_a_record_without_a_field_is_named(workspace: Path, field: str) -> None:
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    content = record(0, 0.9)
    *parents, name = field.split(".")
    part = content[parents[0]] if parents else content
    del part[name]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"seed0.json: field '{field}'"):
        rendered(workspace)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 1}, "field 'schema'"),
        ({"n": 0}, "field 'n'"),
        ({"seed": "0"}, "field 'seed'"),
        ({"metrics": {"accuracy": float("nan")}}, "field 'metrics.accuracy'"),
        ({"metrics": {"loss": 1.0}}, "headline metric 'accuracy' is not among the metrics"),
        ({"colour": "red"}, "field 'colour'"),
    ],
    ids=str,
)
def test_a_record_with_a_wrong_value_is_named(workspace: Path, change: dict[str, Any], reason: str) -> None:
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    path.write_text(json.dumps(record(0, 0.9) | change))
    with pytest.raises(UserError, match=r"seed0.json: .*record the run again") as caught:
        rendered(workspace)
    assert reason in str(caught.value)


@pytest.mark.parametrize(("content", "reason"), [('{"schema": 2,', "is damaged"), ("[]", "should be an object")])
def test_a_damaged_record_is_named(workspace: Path, content: str, reason: str) -> None:
    path = workspace / "packages/toy/results/default-toys-seed0.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"seed0.json.*{reason}"):
        rendered(workspace)


def test_a_workspace_without_records_has_a_page(tmp_path: Path) -> None:
    assert rendered(tmp_path) == results_page.HEAD + "\n"


def test_outside_a_workspace_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="inside the workspace"):
        results.main([])


def test_json_is_one_object_on_stdout(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main(["--json"]) == 0
    written = capsys.readouterr()
    assert json.loads(written.out) == {"path": str(workspace / "RESULTS.md"), "changed": ["RESULTS.md"]}
