"""Flags, presets, exit codes, and what is printed where."""

import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from dlcommon.runtime import cli
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands import train
from dlcommon.runtime.commands.options import parse_with_config, value_of
from dlcommon.runtime.config import TrainConfig
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.output import Output


@dataclass(frozen=True)
class ToyConfig(TrainConfig):
    epochs: float = 3.0
    width: int = 8
    """Width of the network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width > 100:
            raise ValueError(f"width must be at most 100, not {self.width}")


TOY = Capstone(
    name="toy-capstone",
    title=LocalizedText("A toy", "玩具"),
    summary=LocalizedText("Learns nothing.", "什么也不学。"),
    config=ToyConfig,
    presets={"fast": {"epochs": 0.5, "width": 4}, "best": {"epochs": 50}},
    data_sets=("no-such-data",),
    headline=Metric("accuracy"),
)


def parsed(*argv: str) -> ToyConfig:
    defaults = TOY.defaults(value_of(list(argv), "--preset"))
    return parse_with_config(train.TrainOptions, defaults, list(argv), "toy train", "A toy")[1]


@pytest.mark.parametrize(
    ("argv", "changes"),
    [
        ("", {}),
        ("--epochs 7 --width=9", {"epochs": 7.0, "width": 9}),
        ("--preset fast", {"epochs": 0.5, "width": 4}),
        ("--preset=fast --epochs 2", {"epochs": 2.0, "width": 4}),
        ("--epochs 2 --preset fast", {"epochs": 2.0, "width": 4}),
        ("--preset best --preset fast", {"epochs": 0.5, "width": 4}),
        ("--max-minutes 1.5 --compile --no-json", {"max_minutes": 1.5, "compile": True}),
        ("--max-minutes None --trackers tensorboard wandb", {"trackers": ("tensorboard", "wandb")}),
        ("--max-grad-norm 1 --precision bf16", {"max_grad_norm": 1.0, "precision": "bf16"}),
    ],
)
def test_flags_change_the_defaults_of_the_preset(argv: str, changes: dict[str, Any]) -> None:
    assert parsed(*argv.split()) == dataclasses.replace(ToyConfig(), **changes)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--no-such-flag", "no-such-flag"),
        ("--epochs", "epochs"),
        ("--epochs many", "many"),
        ("--precision fp8", "fp8"),
        ("--trackers pencil", "pencil"),
        ("--batch-size 1.5", "1.5"),
        ("stray", "stray"),
    ],
)
def test_a_wrong_flag_is_named_with_exit_code_2(argv: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train.main(TOY, argv.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert words in err
    assert out == ""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("--width 101", "width must be at most 100, not 101"),
        ("--epochs 0", "epochs must be above 0, not 0.0"),
        ("--epochs nan", "epochs must be a finite number, not nan"),
        ("--epochs inf", "epochs must be a finite number, not inf"),
        ("--ema-decay 1", "ema_decay"),
        ("--max-minutes 0", "max_minutes must be above 0"),
        ("--seed -1", "seed must be at least 0 and below 9223372036854775808, not -1"),
        ("--checkpoint-minutes -1", "checkpoint_minutes"),
        ("--preset nonesuch", "choose one of fast, best"),
        ("--run somewhere", "type both, or neither"),
    ],
)
def test_an_impossible_value_is_one_line_with_exit_code_2(
    argv: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.guarded(lambda: train.main(TOY, argv.split())) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert err.count("\n") == 1
    assert out == ""


def test_help_shows_the_presets_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        train.main(TOY, ["--preset", "fast", "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "default: 0.5" in out
    assert "Width of the network." in out
    assert "Presets: fast, best." in out


def test_a_run_that_cannot_be_resumed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path))
    with pytest.raises(UserError, match="no unfinished run"):
        train.main(TOY, ["--resume"])
    with pytest.raises(UserError, match="is not a run"):
        train.main(TOY, ["--resume", "--run", str(tmp_path)])
    ToyConfig().save(tmp_path / "config.json")
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match="has finished"):
        train.main(TOY, ["--resume", "--run", str(tmp_path)])


# -- the config on disk


def test_a_config_is_read_as_it_was_saved(tmp_path: Path) -> None:
    config = ToyConfig(width=5, trackers=("wandb",), max_minutes=2.0, data="d")
    config.save(tmp_path / "config.json")
    assert ToyConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"depth": 3}, "unknown option depth for ToyConfig"),
        ({"width": 1000}, "width must be at most 100"),
        ({"epochs": "ten"}, "epochs must be a finite number, not ten"),
    ],
)
def test_a_config_that_does_not_fit_is_named(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=words) as caught:
        ToyConfig.load(path)
    assert str(path) in str(caught.value)


# -- exit codes and output


def raiser(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("the disk is full"), 1, "error: the disk is full\n"),
        (UsageError("no such flag"), 2, "error: no such flag\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_user_errors_are_one_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.guarded(raiser(error)) == code
    assert capsys.readouterr() == ("", said)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        cli.guarded(raiser(KeyError("bug")))


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ("", 2, "which command?"),
        ("fly", 2, "unknown command 'fly'\n"),
        ("trian", 2, "unknown command 'trian'; did you mean train?"),
        ("--version", 0, "toy-capstone 1.2.3"),
        ("--help", 0, "Learns nothing."),
        ("train --no-such-flag", 2, "no-such-flag"),
        ("train --width 101", 2, "width must be"),
    ],
)
def test_the_script_of_a_capstones_own_name(
    argv: str, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/toy-capstone", *argv.split()])
    monkeypatch.setattr(cli, "load", {"toy-capstone": TOY}.__getitem__)
    monkeypatch.setattr(metadata, "version", {"toy-capstone": "1.2.3"}.__getitem__)
    with pytest.raises(SystemExit) as caught:
        cli.capstone()
    assert caught.value.code == code
    out, err = capsys.readouterr()
    assert words in (out if code == 0 else err)


def test_json_stands_alone_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        output = Output(as_json)
        output.first_line("toy", "train", "data 数", "cpu")
        output.result({"accuracy": 0.5, "title": "玩具"})
        out, err = capsys.readouterr()
        told, other = (err, out) if as_json else (out, err)
        assert told == "toy · train · data 数 · cpu\n"
        assert other == ('{"accuracy": 0.5, "title": "玩具"}\n' if as_json else "")


def test_a_config_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"accumulate": 3, "clip_norm": 0.5, "width": 4}')
    assert ToyConfig.load(path) == ToyConfig(gradient_accumulation_steps=3, max_grad_norm=0.5, width=4)


@pytest.mark.parametrize("words", [["--accumulate", "2"], ["--clip-norm=1.0"]])
def test_an_option_of_an_earlier_version_is_refused_with_its_new_name(words: list[str]) -> None:
    new = {"--accumulate": "--gradient-accumulation-steps", "--clip-norm": "--max-grad-norm"}[words[0].split("=")[0]]
    with pytest.raises(UsageError, match=f"is called {new} now"):
        parse_with_config(train.TrainOptions, ToyConfig(), words, "toy", "")
