"""`lesson progress`: the plan's table in its own words, milestones, projects, the reading list."""

import json
from fnmatch import fnmatch
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from dlcommon.course import catalogue, cli, progress, projects
from dlcommon.course.milestones import MILESTONES
from dlcommon.course.plan import PHASES, lesson_key
from dlcommon.course.reading import PAPERS, READINGS
from dlcommon.runtime.dispatch import installed
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.metric import Metric

TABLE = """
| 1     | Phase 1  | 0/7        | 探索性数据分析 | ⏳ 待开始 |
| 2-3   | Phase 2  | 0/7        | -              | ⏳ 待开始 |
| 4     | Phase 3  | 0/10       | MNIST 分类     | ⏳ 待开始 |
| 5     | Phase 4  | 0/9        | 房价预测       | ⏳ 待开始 |
| 6-7   | Phase 5  | 0/12       | CIFAR-10       | ⏳ 待开始 |
| 8-9   | Phase 6  | 0/9        | 文本生成       | ⏳ 待开始 |
| 10-12 | Phase 7  | 0/10       | 机器翻译       | ⏳ 待开始 |
| 13-14 | Phase 8  | 0/8        | 图像生成       | ⏳ 待开始 |
| 15    | Phase 9  | 0/10       | -              | ⏳ 待开始 |
| 16-17 | Phase 10 | 0/8        | 目标检测       | ⏳ 待开始 |
| 18-19 | Phase 11 | 0/8        | 情感分析       | ⏳ 待开始 |
| 20-22 | Phase 12 | 0/10       | LLM 微调       | ⏳ 待开始 |
"""
PAPERS_OF_PHASE = {5: 3, 6: 2, 7: 5, 8: 3, 12: 2}
STARS = {5: 3, 6: 3, 7: 5, 8: 4, 12: 4}


@pytest.fixture(autouse=True)
def capstones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of the plan's projects, as the environment would have them; two lessons are written."""
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    for name in ("01-data-science/01-numpy-basics", "05-cnn/07-resnet"):
        path = tmp_path / "lessons" / f"{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text("")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: tmp_path / "lessons")
    declared = [
        SimpleNamespace(
            name=name, phase=phase, data_sets=(data, "sample"), headline=headline, folder=tmp_path / name
        )
        for name, phase, data, headline in (
            ("digits", 3, "mnist", Metric("accuracy")),
            ("pictures", 5, "cifar10", Metric("accuracy")),
            ("text", 6, "plays", Metric("bits", "minimize", unit="plain")),
            ("beside-the-plan", None, "plays", Metric("bits", "minimize", unit="plain")),
        )
    ]  # fmt: skip
    points = {item.name: SimpleNamespace(load=lambda item=item: item) for item in declared}
    monkeypatch.setattr(projects, "installed", lambda: points)


class Train(Protocol):
    def __call__(self, capstone: str, data: str, run: str = "1", **metrics: float) -> None: ...


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Writes a finished run of a capstone."""

    def write(capstone: str, data: str, run: str = "1", **metrics: float) -> None:
        folder = tmp_path / "runs" / capstone / f"{data}-{run}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        summary = {"capstone": capstone, "data": {"name": data}, "test": {"metrics": metrics}}
        (folder / "summary.json").write_text(json.dumps(summary))

    return write


def shown(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert cli.main(["progress", *options]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    progress: dict[str, Any] = json.loads(shown(capsys, "--json", *options))
    return progress


def test_the_table_is_the_plans_own_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    table = shown(capsys, "--language", "zh").splitlines()
    assert table[0].split() == ["周次", "阶段", "完成文件数", "已运行", "实战项目", "状态"]
    for line, wanted in zip(table[1:], TABLE.strip().splitlines(), strict=False):
        weeks, phase, files, project, state = (cell.strip() for cell in wanted.strip("|").split("|"))
        assert line.startswith(f"{weeks} ")
        assert f" {phase} " in line
        assert f" {files} " in line
        assert f" {project} " in line
        assert state in line
    assert len(TABLE.strip().splitlines()) == len(PHASES)
    assert "股票预测 → 06/09" in table[13]


def test_english_stands_beside(capsys: pytest.CaptureFixture[str]) -> None:
    english = shown(capsys, "--language", "en")
    assert "Phase 6 Recurrent networks" in english
    assert "After week 8 (phases 5-6 complete)" in english
    assert "待" not in english.split("BOOKS")[0]


def test_the_plan_holds_108_files_each_once() -> None:
    names = [name for phase in PHASES for name in phase.names]
    assert len(set(names)) == len(names) == 108
    for phase in PHASES:
        assert [name[:3] for name in phase.lessons] == [f"{number:02d}-" for number in range(1, phase.count + 1)]
    assert [phase.number for phase in PHASES] == list(range(1, 13))
    assert PHASES[0].weeks[0] == 1
    for phase, following in pairwise(PHASES):
        assert following.weeks[0] == phase.weeks[1] + 1, "no week is without a phase"


def test_lessons_that_exist_are_told_apart_from_those_to_come(capsys: pytest.CaptureFixture[str]) -> None:
    progress.record_run("01-data-science/01-numpy-basics", 1.0, 3)
    found = as_json(capsys)
    states = {name: state for row in found["phases"] for name, state in row["lessons"].items()}
    assert states["01-data-science/01-numpy-basics"] == "run"
    assert states["05-cnn/07-resnet"] == "open"
    assert states["12-llm/10-agents-tools"] == "to come"
    assert (found["done"], found["run"], found["to_come"], found["lessons"]) == (0, 1, 106, 108)
    assert found["phases"][0]["state"] == "under way"


def test_a_phase_is_done_when_every_lesson_is_passed(capsys: pytest.CaptureFixture[str]) -> None:
    for name in PHASES[1].names:
        progress.record_pass(name)
    row = as_json(capsys)["phases"][1]
    assert (row["done"], row["state"]) == (7, "done")
    assert "7/7" in shown(capsys).splitlines()[2]


def test_the_first_milestone_holds_when_its_lessons_are_passed_and_its_project_is_trained(
    capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    names = [name for phase in PHASES[:3] for name in phase.names]
    for name in names[:-1]:
        progress.record_pass(name)
    progress.record_run(names[-1], 1.0, 3)
    train("digits", "mnist", accuracy=0.99)
    first = as_json(capsys)["milestones"][0]
    assert not first["holds"], "a lesson that was only run is not passed"
    assert first["passed"] == len(first["lessons"]) - 1 == 23
    assert [demand["holds"] for demand in first["demands"]] == [True, True, False, True]
    progress.record_pass(names[-1])
    milestones = as_json(capsys)["milestones"]
    assert [milestone["holds"] for milestone in milestones] == [True, False, False, False, False]
    assert "[x] 第 4 周后（Phase 1-3 完成）" in shown(capsys, "--language", "zh")


def project(capsys: pytest.CaptureFixture[str], phase: int) -> dict[str, Any]:
    projects: list[dict[str, Any]] = as_json(capsys)["projects"]
    return next(row for row in projects if row["phase"] == phase)


def test_a_project_counts_when_trained_on_its_own_data_to_the_plans_goal(
    capsys: pytest.CaptureFixture[str], train: Train
) -> None:
    assert project(capsys, 5)["state"] == "not trained"
    train("pictures", "sample", accuracy=0.99)
    assert project(capsys, 5)["state"] == "other data"
    train("pictures", "cifar10", accuracy=0.899)
    assert project(capsys, 5)["state"] == "below goal"
    train("pictures", "cifar10", run="2", accuracy=0.9)
    train("pictures", "cifar10", run="3", accuracy=0.5)
    reached = project(capsys, 5)
    assert reached["state"] == "trained"
    assert reached["best"]["value"] == 0.9
    assert reached["best"]["run"].endswith("cifar10-2")


def test_of_a_loss_the_lowest_is_best(capsys: pytest.CaptureFixture[str], train: Train) -> None:
    train("text", "plays", bits=2.2)
    train("text", "plays", run="2", bits=2.5)
    assert project(capsys, 6)["best"]["value"] == 2.2


def test_projects_that_do_not_exist_yet_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert project(capsys, 12) | {"state": "to come", "capstone": None} == project(capsys, 12)
    assert "LLM 微调：项目待编写" in shown(capsys, "--language", "zh")


@pytest.mark.parametrize("damaged", ["{", "[]", '{"data": {"name": "mnist"}}'])
def test_a_damaged_run_is_named_and_hides_nothing_else(
    damaged: str, capsys: pytest.CaptureFixture[str], train: Train, tmp_path: Path
) -> None:
    train("digits", "mnist", accuracy=0.99)
    train("digits", "mnist", run="2")
    path = tmp_path / "runs" / "digits" / "mnist-2" / "summary.json"
    path.write_text(damaged)
    assert cli.main(["progress", "--json"]) == 0
    captured = capsys.readouterr()
    assert f"{path} is damaged" in captured.err
    assert json.loads(captured.out)["projects"][1]["state"] == "trained"


def test_a_damaged_record_is_named_and_hides_nothing_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "digits" / "results" / "default.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert cli.main(["progress"]) == 0
    assert f"{path}: field 'schema'" in capsys.readouterr().err


def test_every_demand_names_lessons_of_the_plan_or_projects() -> None:
    keys = [lesson_key(name) for phase in PHASES for name in phase.names]
    with_project = {phase.number for phase in PHASES if phase.project}
    for demand in (demand for milestone in MILESTONES for demand in milestone.demands):
        assert demand.lessons or demand.projects
        assert all(any(fnmatch(key, wanted) for key in keys) for wanted in demand.lessons)
        assert set(demand.projects) <= with_project


def test_installed_capstones_end_a_phase_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[EntryPoint] = list(installed().values())
    phases = [point.load().phase for point in points]
    assert len(set(phases)) == len(phases)
    assert set(phases) <= {phase.number for phase in PHASES if phase.project}


def test_the_last_lesson_of_a_phase_names_the_command_of_its_capstone() -> None:
    lessons = Path(catalogue.__file__).parents[3] / "lessons"
    for name, point in installed().items():
        path = lessons / f"{PHASES[point.load().phase - 1].names[-1]}.py"
        if not path.parent.is_dir():  # a phase that has no lessons yet
            continue
        assert f"\n# uv run --package {name} train\n" in path.read_text(encoding="utf-8"), path


def test_readings_are_ticked_off_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "--read", "resnet", "cs231n", "d2l", "--unread", "d2l")
    assert {row["name"] for row in found["reading"] if row["read_at"]} == {"resnet", "cs231n"}
    assert "[x]  resnet" in shown(capsys)
    with pytest.raises(UsageError, match=r"renset: not on the reading list, which holds deep-learning, d2l"):
        cli.main(["progress", "--read", "renset"])


def test_each_paper_has_its_stars_its_address_and_a_lesson_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    keys = {lesson_key(name) for phase in PHASES for name in phase.names}
    assert {phase: sum(paper.phase == phase for paper in PAPERS) for phase in PAPERS_OF_PHASE} == PAPERS_OF_PHASE
    assert all(paper.stars == STARS[paper.phase] and paper.lesson in keys for paper in PAPERS)
    assert all(reading.address.startswith("https://") for reading in READINGS.values())
    line = next(line for line in shown(capsys, "--language", "zh").splitlines() if "1512.03385" in line)
    assert "Phase 5 " in line
    assert "⭐⭐⭐ " in line
    assert "→ 05/07 未学" in line
