"""The `lesson` command, on lessons of the test's own: list, run, next, verify."""

import json
import sys
from pathlib import Path

import pytest
from dlcommon.course import catalogue, cli, lesson, progress, runner
from dlcommon.runtime.data import ASSETS, Asset, AssetForm
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.localization import LocalizedText

HEAD = "# %% [markdown]\n# # A title · 标题\n\n# %%\n"
FRAME = "from dlcommon.course.lesson import check, check_close, show, table, data\n"
SOURCES = {
    "05-cnn/01-convolution-basics": 'print("measured", 3)\ncheck("three is odd", 3 % 2)\n',
    "05-cnn/07-resnet": 'check("two is odd", 2 % 2)\n',
    "06-rnn/01-rnn-basics": "1 / 0\n",
    "06-rnn/02-bptt": "pass\n",
    "06-rnn/09-time-series": 'import sys\ncheck("has a file", sys.argv[1:] == ["--csv", "mine.csv"])\n',
}
FOLLOWED = """# %% [markdown]
# # A title · 标题

# %%
from dlcommon.course.lesson import check

# %% [markdown]
# ## Problem · 问题
#
# $$x$$

# %% [markdown] lang="en"
# It
# falls. Not said.

# %% [markdown] lang="zh"
# 它下降。不说的。

# %%
print("measured")
check("true", True)
"""


@pytest.fixture(autouse=True)
def lessons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in SOURCES.items():
        path = tmp_path / "lessons" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + FRAME + source, encoding="utf-8")
    monkeypatch.setattr(catalogue, "lessons_folder", lambda: tmp_path / "lessons")
    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path / "progress"))
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path


def done() -> set[str]:
    return set(progress.read_progress())


def test_a_lesson_whose_checks_hold_is_passed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "5/1"]) == 0
    printed = capsys.readouterr().out
    assert "measured 3" in printed
    assert "✓ three is odd" in printed
    assert done() == {"05-cnn/01-convolution-basics"}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("05/07", "does not hold: two is odd"),
        ("06-rnn/01-rnn-basics", "ZeroDivisionError"),
        ("06/02", "without a single check"),
    ],
)
def test_any_other_is_not(key: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", key]) == 1
    assert reason in capsys.readouterr().err
    assert done() == set()


def test_further_flags_go_to_the_lesson_and_nowhere_else() -> None:
    assert cli.main(["run", "06/09", "--csv", "mine.csv"]) == 0
    with pytest.raises(UsageError, match="--csv"):
        cli.main(["list", "--csv", "mine.csv"])


@pytest.mark.parametrize("key", ["99/01", "05/02", "resnet", "", "05"])
def test_a_lesson_that_is_not_there_is_a_usage_error(key: str) -> None:
    with pytest.raises(UsageError, match="lesson list"):
        cli.main(["run", key])


def test_next_says_what_to_do_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["next"]) == 0
    printed = capsys.readouterr().out
    assert "lesson 05/01" in printed
    assert "uv run lesson read 05/01\n  uv run lesson run 05/01" in printed
    assert done() == set()
    cli.main(["run", "05/01"])
    cli.main(["next"])
    assert "lesson 05/07" in capsys.readouterr().out, "without an exercise a run is enough"


def test_a_run_can_be_followed(lessons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lessons / "lessons" / "05-cnn" / "07-resnet.py"
    path.write_text(FOLLOWED, encoding="utf-8")
    for language, heading, said, other in (
        ("en", "== Problem", "It falls.", "问题"),
        ("zh", "== 问题", "它下降。", "It"),
    ):
        assert cli.main(["run", "05/07", "--language", language]) == 0
        printed = capsys.readouterr().out
        assert printed.index(heading) < printed.index(said) < printed.index("measured")
        assert other not in printed.split(heading)[1].split("measured")[0]
        assert "Not said" not in printed


def test_a_run_says_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    catalogue.record_seconds({"05-cnn/01-convolution-basics": 7.26})
    cli.main(["run", "05/01"])
    assert "about 7 s" in capsys.readouterr().out
    cli.main(["run", "05/01"])
    assert "about 1 s, as last time" in capsys.readouterr().out
    cli.main(["list"])
    assert "   7 s  " in next(line for line in capsys.readouterr().out.splitlines() if "05/01" in line)


def test_programs_read_json(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["run", "05/01", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["checks"] == 1
    cli.main(["list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert [row["lesson"] for row in listed["lessons"] if row["state"] == "run"] == ["05/01"]
    assert all(Path(row["path"]).is_file() for row in listed["lessons"])
    assert listed["planned"] == 108


def test_verify_runs_all_and_counts_for_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "05"]) == 1
    assert "1 of 2 pass" in capsys.readouterr().out
    assert cli.main(["verify", "05/01", "--record"]) == 0
    assert catalogue.measured_seconds().keys() == {"05-cnn/01-convolution-basics"}
    assert done() == set()


@pytest.mark.parametrize("key", ["07", "0", "five", "05/07/1", "²"])
def test_lessons_that_are_not_there_are_usage_errors(key: str) -> None:
    for command in ("verify", "interview"):
        with pytest.raises(UsageError, match="lesson list"):
            cli.main([command, key])


def test_damaged_progress_is_named_and_left_alone() -> None:
    path = progress.progress_file()
    path.parent.mkdir(parents=True)
    path.write_text("[1, 2")
    with pytest.raises(UserError, match=r"progress\.json is damaged"):
        cli.main(["list"])
    assert path.read_text() == "[1, 2"


def test_what_a_lesson_changes_globally_is_put_back(tmp_path: Path) -> None:
    import matplotlib as mpl
    import torch

    path = tmp_path / "lessons" / "05-cnn" / "01-convolution-basics.py"
    path.write_text(
        HEAD + FRAME + "import torch, matplotlib\ntorch.set_default_dtype(torch.float64)\n"
        'matplotlib.rcParams["lines.linewidth"] = 9\nprint(torch.rand(1).item())\ncheck("done", True)\n'
    )
    before = torch.get_rng_state(), mpl.rcParams["lines.linewidth"], list(sys.argv)
    assert runner.run_lesson(catalogue.find_lesson("05/01")).passed
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (mpl.rcParams["lines.linewidth"], sys.argv) == before[1:]


def test_close_means_close_and_of_one_shape() -> None:
    lesson.check_close("same", [1.0, 1e6], [1.0 + 1e-7, 1e6 + 1])
    for wrong in ([1.0, 2.0], [[1.0]], [float("nan")]):
        with pytest.raises(lesson.CheckFailedError, match="are equal"):
            lesson.check_close("are equal", wrong, [1.0])


def test_figures_lie_in_the_lessons_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    monkeypatch.delenv("DL_FIGURES_DIR", raising=False)
    path = lesson.show(Figure(), "empty")
    assert path == tmp_path / "runs" / "lessons" / Path(__file__).parent.name / Path(__file__).stem / "empty.png"
    assert path.stat().st_size > 0


def test_data_at_hand_is_taken_and_nothing_is_fetched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path))
    assert len(lesson.data("mnist", "mnist-sample").train_images) == 4000
    assert "mnist-sample (built-in)" in capsys.readouterr().out
    with pytest.raises(UserError, match="data fetch mnist"):
        lesson.data("mnist")


def test_an_asset_that_is_missing_is_named_with_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    monkeypatch.setenv("DL_CACHE_DIR", str(tmp_path))
    form = AssetForm("text", {"words.txt": None})
    monkeypatch.setitem(ASSETS, "toy-words", Asset("toy-words", LocalizedText("Words", "词"), "", "", "", (form,)))
    assert lesson.asset("toy-words") is None
    assert "toy-words is not on this machine; put assets/toy-words/text/words.txt into" in capsys.readouterr().out
    monkeypatch.setenv("DL_DATA_DIR", str(tmp_path))
    folder = tmp_path / "assets" / "toy-words" / "text"
    folder.mkdir(parents=True)
    (folder / "words.txt").write_text("a b")
    assert lesson.asset("toy-words") == folder
    assert "asset: toy-words (text, DL_DATA_DIR)" in capsys.readouterr().out
