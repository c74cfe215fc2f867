"""Files that were damaged or edited by hand, and folders that cannot be: one line each, and before any training."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from dlcommon.runtime import checkpoint
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.cli import guarded
from dlcommon.runtime.commands import train as command
from dlcommon.runtime.data import DamagedDataError
from dlcommon.runtime.data.manifest import check_against_manifest
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import write_json
from dlcommon.runtime.locate_model import newest_run, open_run
from dlcommon.testing.toy_colours.config import Config
from dlcommon.testing.toy_colours.runs import trained
from dlcommon.testing.toy_training import reset_accelerate, start, train

FLAGS = ("--data", "colours", "--device", "cpu", "--precision", "fp32")

Damage = Callable[[Path], object]


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def write(text: str) -> Damage:
    return lambda path: path.write_text(text)


def change(**values: object) -> Damage:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGES = [a_folder, Path.unlink, write("{"), write("[]"), write("5"), write("[" * 100_000), write("\x00")]


@pytest.fixture
def unfinished(tmp_path: Path, toy: Capstone[Config]) -> Path:
    """A run of the toy that has not finished, and whose weights fit its options."""
    directory = trained(tmp_path, width=4)
    summary = json.loads((directory / "summary.json").read_text())
    (directory / "summary.json").unlink()
    origin = {name: summary[name] for name in ("preset", "command", "data", "options")}
    write_json(directory / "origin.json", origin)
    return directory


@pytest.fixture
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Capstone[Config], run: object) -> None:
        pytest.fail("the training began")

    monkeypatch.setattr(Capstone, "train", fail)


def refusal(capsys: pytest.CaptureFixture[str], action: Callable[[], int]) -> str:
    """Runs a command that is refused; returns the one line that it prints."""
    reset_accelerate()
    assert guarded(action) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.usefixtures("never_trained")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["origin.json", "config.json", "assets.json"])
def test_a_damaged_file_of_a_run_is_named_before_it_is_resumed(
    name: str, damage: Damage, unfinished: Path, toy: Capstone[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "assets.json":
        (unfinished / name).write_text("{}")
        if damage is Path.unlink:
            pytest.skip("a run without assets has no such file")
    damage(unfinished / name)
    said = refusal(capsys, lambda: command.main(toy, ["--resume", "--run", str(unfinished)]))
    assert str(unfinished / name) in said or (name in said and str(unfinished) in said)


@pytest.mark.usefixtures("never_trained")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change(batch_size=3), "batch_size is 3, but was 512"),
        (change(seed=7, width=8), "seed is 7, but was 0, width is 8, but was 4"),
        (change(precision="fp8"), "precision must be one of auto, fp32, bf16, not fp8"),
        (change(trackers="wandb"), "trackers must be a list, not wandb"),
        (change(width=[4]), "width must be a whole number"),
    ],
)
def test_edited_options_of_an_unfinished_run_are_refused_by_name(
    damage: Damage, words: str, unfinished: Path, toy: Capstone[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(unfinished / "config.json")
    assert words in refusal(capsys, lambda: command.main(toy, ["--resume"]))


def test_edited_options_of_a_finished_run_are_refused_by_name(tmp_path: Path, toy: Capstone[Config]) -> None:
    directory = trained(tmp_path, width=4)
    change(width=8)(directory / "config.json")
    with pytest.raises(UserError, match=r"config.json is not what the run was trained with \(width is 8, but was 4\)"):
        open_run(toy, directory)
    change(options=None)(directory / "summary.json")  # as earlier versions left it
    with pytest.raises(UserError, match=r"the weights of .* do not fit its config\.json .*size mismatch"):
        toy.export_graph(open_run(toy, directory))


@pytest.mark.parametrize("name", ["summary.json", "config.json"])
@pytest.mark.parametrize(
    "damage", [a_folder, *map(write, ["{", "[]", "{}", '{"capstone": "toy", "data": [], "training": {}}'])]
)
def test_a_damaged_file_of_a_finished_run_is_named(
    name: str, damage: Damage, tmp_path: Path, toy: Capstone[Config]
) -> None:
    directory = trained(tmp_path)
    damage(directory / name)
    if (name, directory.joinpath(name).is_dir()) == ("summary.json", False):
        with pytest.raises(UserError, match=rf"{name} is damaged"):
            newest_run(toy)
    with pytest.raises(UserError, match=str(directory)):
        open_run(toy, directory)


@pytest.mark.usefixtures("fresh_runs")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_whose_manifest_is_damaged_is_passed_over(
    damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(checkpoint_minutes=0, epochs=1)
    train(run)
    newest = checkpoint.list_checkpoints(run.directory / "checkpoints")[-1]
    damage(newest / "manifest.json")
    resumed = start(run.directory, checkpoint_minutes=0, epochs=1)
    train(resumed)
    said = capsys.readouterr().out
    assert f"checkpoint {newest.name} is damaged and passed over" in said
    assert "resumed at step 5" in said


@pytest.mark.parametrize("damage", [a_folder, *map(write, ["{", "[]", "{}", '{"files": 3}'])])
def test_a_damaged_manifest_of_fetched_files_is_named(damage: Damage, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    damage(path)
    with pytest.raises(UserError, match=str(path)) as refused:
        check_against_manifest(path, tmp_path, [])
    assert not isinstance(refused.value, DamagedDataError), "the files themselves are whole"


# -- folders that cannot be


def loop(folder: Path) -> str:
    (folder / "loop").symlink_to(folder / "loop")
    return str(folder / "loop")


@pytest.mark.usefixtures("never_trained")
@pytest.mark.parametrize("words", [FLAGS, ("--resume",)])
@pytest.mark.parametrize(
    "place",
    [
        loop,
        lambda folder: loop(folder) + "/runs",
        lambda folder: str(folder / ("x" * 300)),
        lambda folder: "~nobody_/x",
    ],
)
def test_a_folder_of_runs_that_cannot_be_is_one_line(
    place: Callable[[Path], str],
    words: tuple[str, ...],
    tmp_path: Path,
    toy: Capstone[Config],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = place(tmp_path)
    monkeypatch.setenv("DL_RUNS_DIR", chosen)
    assert chosen.rpartition("/")[2][:100] in refusal(capsys, lambda: command.main(toy, list(words)))


@pytest.mark.usefixtures("never_trained")
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_in_which_none_can_be_made_is_one_line(
    toy: Capstone[Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", "/proc")
    assert "/proc/toy: no folder can be made there" in refusal(capsys, lambda: command.main(toy, list(FLAGS)))


def test_a_run_that_is_named_with_too_long_a_name_is_one_line(
    toy: Capstone[Config], capsys: pytest.CaptureFixture[str]
) -> None:
    refusal(capsys, lambda: command.main(toy, ["--resume", "--run", "x" * 300]))

    def opened() -> int:
        open_run(toy, Path("x" * 300))
        return 0

    refusal(capsys, opened)
