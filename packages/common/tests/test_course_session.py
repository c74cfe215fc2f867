"""A lesson gives the same numbers however it is started; its notebook works anywhere and records progress."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from dlcommon.course import catalogue, cli, notebook, questions, session
from dlcommon.course.catalogue import all_lessons, find_lesson, measured_seconds
from dlcommon.course.notebook import requirement
from dlcommon.course.progress import read_progress
from dlcommon.course.schematic import Schematic
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.random_state import random_state, restore_random_state

DRAWS = "[random.random(), np.random.rand(), torch.rand(1).item()]"
SCRIPT = f"""# %%
import random

import numpy as np
import torch
from dlcommon.course.lesson import check, data, show

# %%
print({DRAWS}, torch.get_num_threads())
"""


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lesson outside the checkout."""
    path = tmp_path / "lessons" / "05-cnn" / "01-convolution-basics.py"
    path.parent.mkdir(parents=True)
    head = '# %% [markdown]\n# # A title · 标题\n\n# %% [markdown] lang="zh"\n# 一行\n# 两行\n\n'
    body = 'draws = [torch.rand(1).item()]\ncheck("true", True)\nprint(show.__module__)\n'
    path.write_text(f"{head}{SCRIPT.split('# %%')[1].join(['# %%', ''])}\n# %%\n{body}", encoding="utf-8")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: tmp_path / "lessons")
    monkeypatch.setattr(notebook, "lessons_folder", lambda: tmp_path / "lessons")
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))
    monkeypatch.setenv("DL_EXERCISES_DIR", str(tmp_path / "mine"))
    monkeypatch.setattr(session, "lesson_name", None)
    monkeypatch.setattr(questions, "language", "both")
    monkeypatch.chdir(tmp_path)
    return path


def test_a_plain_script_is_seeded_and_keeps_to_one_thread(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True, env=environment)
    state = random_state()
    session.prepare_process()
    here = eval(DRAWS, {"random": random, "np": np, "torch": torch})
    restore_random_state(state)
    assert done.stdout.strip() == f"{here} 1"


def test_the_notebook_runs_anywhere_and_records(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["notebook", "05/01", "--language", "zh"]) == 0
    found = nbformat.read("01-convolution-basics.ipynb", as_version=4)
    nbformat.validate(found)
    assert [cell.cell_type for cell in found.cells] == ["markdown", "code", "markdown", "code", "code", "code"]
    assert found.cells[0].source == "# 标题"
    assert found.cells[2].source == "一行两行"
    assert found.cells[2].metadata["lang"] == "zh"
    assert f'"{requirement()}"' in found.cells[1].source
    namespace: dict[str, Any] = {}
    for cell in found.cells:
        if cell.cell_type == "code":
            exec(cell.source, namespace)
    assert read_progress()["05-cnn/01-convolution-basics"].checks == 1
    assert "recorded" in capsys.readouterr().out


def test_a_notebook_that_is_there_is_not_written_over(example: Path, tmp_path: Path) -> None:
    path = tmp_path / "01-convolution-basics.ipynb"
    path.write_text("mine")
    with pytest.raises(UserError, match="--replace"):
        cli.main(["notebook", "05/01"])
    assert path.read_text() == "mine"
    assert cli.main(["notebook", "05/01", "--replace"]) == 0
    with pytest.raises(UsageError, match="ipynb"):
        cli.main(["notebook", "05/01", "--output", "lesson.txt"])


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [("https://example.org/x.git", "git+https://example.org/x.git#subdirectory=packages/common"), ("", "file:///")],
)
def test_the_notebook_installs_from_where_the_checkout_came_from(
    example: Path, monkeypatch: pytest.MonkeyPatch, origin: str, wanted: str
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=f"{origin}\n"))
    assert requirement().startswith(f"dlcommon[course] @ {wanted}")


def test_it_opens_in_the_editor_or_as_a_notebook(
    example: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    called: list[list[str]] = []

    def call(command: list[str]) -> int:
        called.append(command)
        return 3

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "code --wait")
    assert cli.main(["open", "05/01"]) == 3
    monkeypatch.delenv("EDITOR")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert cli.main(["open", "05/01"]) == 3
    written = tmp_path / "mine" / "notebooks" / "05-cnn" / "01-convolution-basics.ipynb"
    assert called == [["code", "--wait", str(example)], ["/bin/jupyter-lab", str(written)]]
    written.write_text("mine")
    cli.main(["open", "05/01"])
    assert written.read_text() == "mine"
    with pytest.raises(UserError, match="EDITOR"):
        cli.main(["open", "05/01", "--using", "editor"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="JupyterLab"):
        cli.main(["open", "05/01"])


def test_an_editor_that_cannot_be_started_is_told(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", "no-such-editor-here")
    with pytest.raises(UserError, match="cannot start no-such-editor-here: No such file"):
        cli.main(["open", "05/01"])


@pytest.mark.parametrize(
    ("language", "seen", "unseen"), [("en", "The training loop", "训练循环"), ("zh", "训练循环", "The training loop")]
)
def test_a_lesson_is_read_in_the_terminal(
    language: str, seen: str, unseen: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "130")
    assert cli.main(["read", "03/09", "--language", language]) == 0
    printed = capsys.readouterr().out
    assert seen in printed
    assert unseen not in printed
    assert "dlcommon/pytorch_core/training_loop.py:" in printed
    assert "optimizer.zero_grad()  # else this step's gradient" in printed, "the module's own source"
    assert "θₜ₊₁ = θₜ - ηₜ u(ĝₜ)" in printed
    assert "lesson hint 03/09" in printed
    assert "best epoch\n    lies `patience`" not in printed, "hints are not given away"
    assert "$" not in printed.replace("`$", "")


def test_every_lesson_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    for lesson in all_lessons():
        assert cli.main(["read", lesson.key, "--json"]) == 0
    assert capsys.readouterr().out.count('"cells"') == len(all_lessons())


def test_lessons_are_measured_and_short() -> None:
    measured = measured_seconds()
    missing = [lesson.name for lesson in all_lessons() if lesson.name not in measured]
    assert missing == [], "type `uv run lesson verify --record PHASE/LESSON`"
    assert sorted(measured.values())[len(measured) // 2] <= 10
    assert find_lesson("03/09").name in measured


def test_a_schematic_draws_its_boxes_and_arrows() -> None:
    drawing = Schematic(6, 2, "A title")
    drawing.box("input", 1, 1, "x", "data")
    drawing.box("weights", 3, 1, kind="parameter")
    drawing.arrow("input", "weights", "times", bend=0.3)
    drawing.text(5, 1, "note")
    texts = {text.get_text() for text in drawing.axes.texts}
    assert texts == {"x", "weights", "times", "note", ""}
    assert len(drawing.axes.patches) == 2
    with pytest.raises(KeyError):
        drawing.arrow("input", "nowhere")
    drawing.figure.clear()
    plt.close(drawing.figure)
