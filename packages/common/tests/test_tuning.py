"""The search for better options: which trials run, how they end, and what goes on after a stop."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import psutil
import pytest
from dlcommon.runtime.commands import tune
from dlcommon.runtime.commands.options import is_given, parse_with_config
from dlcommon.runtime.config import RunConfig, TrainConfig, as_flags
from dlcommon.runtime.dispatch import load
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning import report
from dlcommon.runtime.tuning import study as studies
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.runtime.tuning.trial_process import Outcome, TrialProcess
from dlcommon.runtime.tuning.tuner import Tuner
from dlcommon.testing.commands import environment, run
from dlcommon.testing.toy_distribution import write_distribution
from dlcommon.training.search_space import Choice, Integers, SearchSpace, Uniform
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

LOSS = Metric("validation_loss", "minimize", unit="plain")
SPACE: SearchSpace = {"rate": Uniform(1e-3, 1.0, log=True), "depth": Integers(1, 8), "widths": Choice(((4, 8), (8, 8)))}


def open_study(folder: Path, pruner: str = "median") -> optuna.Study:
    return studies.open_study("toy", f"sqlite:///{folder / 'study.db'}", LOSS, "random", pruner, seed=0)


class FakeProcess(TrialProcess):
    """Trains nothing: its loss is a function of the flags."""

    def __init__(self, folder: Path, curve: Callable[[dict[str, Any]], list[float] | Outcome]) -> None:
        super().__init__("toy", folder, LOSS.name, 1)
        self.curve = curve

    def start(self, flags: list[str]) -> psutil.Popen:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chosen = dict(zip(flags[::2], flags[1::2], strict=True))
        return cast(psutil.Popen, psutil.Process())

    def follow(
        self, process: psutil.Popen, each: Callable[[int, float], bool], should_stop: Callable[[], bool]
    ) -> Outcome:
        values = self.curve(self.chosen)
        if isinstance(values, Outcome):
            return values
        for number, value in enumerate(values):
            if each(number, value):
                return Outcome("pruned", values[: number + 1])
        return Outcome("finished", values)


def flags(chosen: Mapping[str, Any]) -> list[str]:
    if chosen["depth"] == 7:
        raise ValueError("depth 7 does not go with anything")
    return [str(word) for option in chosen.items() for word in option]


def tuner(
    study: optuna.Study,
    folder: Path,
    curve: Callable[[dict[str, Any]], list[float] | Outcome],
    trials: int = 8,
    **changes: Any,
) -> tuple[Tuner, list[FrozenTrial]]:
    ended: list[FrozenTrial] = []
    arguments: dict[str, Any] = {
        "process": lambda place: FakeProcess(place, curve),
        "flags": flags,
        "should_stop": lambda: False,
        "report": ended.append,
    }
    return Tuner(study=study, space=SPACE, folder=folder / "trials", trials=trials, **(arguments | changes)), ended


def bowl(chosen: dict[str, Any]) -> list[float]:
    loss = abs(float(chosen["rate"]) - 0.1) + int(chosen["depth"]) / 100
    return [loss + 1 / step for step in (1, 2, 4, 8)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_study_ends_with_as_many_trials_as_were_asked_for(tmp_path: Path, jobs: int) -> None:
    study = open_study(tmp_path, "none")
    first, ended = tuner(study, tmp_path, bowl)
    first.run(jobs)
    assert len(ended) == 8
    more, ended = tuner(open_study(tmp_path, "none"), tmp_path, bowl, trials=10)
    more.run(jobs)
    assert len(ended) == 2
    best = report.finished(study)
    assert best[0].values[0] == min(trial.values[0] for trial in best)
    assert isinstance(studies.options_of(best[0].params, SPACE)["widths"], tuple)


def test_what_is_worse_than_the_median_ends_early_and_what_is_not_a_number_at_once(tmp_path: Path) -> None:
    curves = iter([[5.0, 4.0, 3.0]] * 5 + [[5.0, 9.0, 1.0], [5.0, 1.0, 0.5], [float("nan"), 1.0, 1.0]])
    study = open_study(tmp_path)
    search, ended = tuner(study, tmp_path, lambda chosen: next(curves), flags=lambda chosen: ["rate", "1"])
    search.run(1)
    assert [trial.state for trial in ended] == [
        *[TrialState.COMPLETE] * 5, TrialState.PRUNED, TrialState.COMPLETE, TrialState.PRUNED
    ]  # fmt: skip
    assert ended[5].intermediate_values == {0: 5.0, 1: 9.0}
    assert ended[7].intermediate_values == {}


def test_options_that_do_not_go_together_are_a_bad_trial_and_no_end(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    for depth in (3, 7, 4):
        study.enqueue_trial({"rate": 0.1, "depth": depth, "widths": "4 8"})
    search, ended = tuner(study, tmp_path, bowl, trials=3)
    search.run(1)
    assert [trial.state for trial in ended] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert ended[1].user_attrs[studies.REASON] == "depth 7 does not go with anything"


def test_a_fault_that_is_not_in_the_settings_ends_the_search(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    search, ended = tuner(study, tmp_path, lambda chosen: Outcome("failed", [], "error: no data"))
    with pytest.raises(UserError, match="first 3 trials failed, the last with: error: no data"):
        search.run(1)
    assert len(ended) == 3


def test_a_stopped_trial_is_continued_in_its_folder(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    stopped = tuner(study, tmp_path, lambda chosen: Outcome("stopped", [1.0]), should_stop=iter([False, True]).__next__)
    stopped[0].run(1)
    assert stopped[1] == []
    asked: list[tuple[Path, dict[str, Any]]] = []

    def curve(chosen: dict[str, Any]) -> list[float]:
        asked.append((process[-1].folder, chosen))
        return bowl(chosen)

    process: list[FakeProcess] = []

    def make(folder: Path) -> FakeProcess:
        process.append(FakeProcess(folder, curve))
        return process[-1]

    again, ended = tuner(open_study(tmp_path), tmp_path, curve, trials=1, process=make)
    again.run(1)
    (failed,) = study.get_trials(states=(TrialState.FAIL,))
    assert len(ended) == 1
    assert ended[0].params == failed.params
    assert asked[0][0] == tmp_path / "trials" / "trial-0000"


def test_the_trial_of_a_process_that_died_is_taken_over_and_its_training_ended(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    background = ["sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!"]
    orphan = psutil.Process(int(subprocess.run(background, capture_output=True, text=True, check=True).stdout))
    died = subprocess.Popen([sys.executable, "-c", ""])
    trials = [study.ask(studies.distributions(SPACE)) for _ in range(3)]
    for trial in trials:
        studies.mark(trial, tmp_path / f"trial-{trial.number}", orphan)
    dead = {"host": socket.gethostname(), "pid": died.pid, "began": 0.0}
    died.wait()
    trials[1].set_user_attr(studies.OWNER, dead)
    trials[2].set_user_attr(studies.OWNER, dead | {"host": "elsewhere"})
    assert studies.take_over(study) == [1]
    orphan.wait(10)
    trials[2].set_user_attr(studies.SEEN, time.time() - studies.STALE_SECONDS - 1)
    assert studies.take_over(study) == [2]
    assert studies.take_over(study) == []
    waiting = study.get_trials(states=(TrialState.WAITING,))
    assert [trial.user_attrs[studies.FOLDER] for trial in waiting] == [str(tmp_path / f"trial-{n}") for n in (1, 2)]
    assert [trial.system_attrs["fixed_params"] for trial in waiting] == [trials[1].params, trials[2].params]


def test_a_fault_of_the_search_itself_leaves_no_training_behind(tmp_path: Path) -> None:
    started: list[psutil.Popen] = []

    class Sleeping(TrialProcess):
        def start(self, flags: list[str]) -> psutil.Popen:
            started.append(psutil.Popen([sys.executable, "-c", "import time; time.sleep(600)"]))
            return started[-1]

        def values(self) -> list[float]:
            if len(started) == 2:
                raise OSError("the database is gone")
            return []

    study = open_study(tmp_path)
    search, ended = tuner(study, tmp_path, bowl, process=lambda place: Sleeping("toy", place, LOSS.name, 1))
    with pytest.raises(OSError, match="the database is gone"):
        search.run(2)
    assert ended == []
    assert [process.wait(10) for process in started] == [-signal.SIGTERM] * 2


def test_a_study_goes_on_only_as_it_began(tmp_path: Path) -> None:
    problem = {"data": "toys 0123", "options": {"epochs": 3.0, "widths": (1, 2)}}
    studies.check_problem(open_study(tmp_path), problem)
    studies.check_problem(open_study(tmp_path), problem)
    with pytest.raises(UsageError, match=r"the study toy began differently \(data was toys 0123, is toys 4567\)"):
        studies.check_problem(open_study(tmp_path), problem | {"data": "toys 4567"})


@pytest.mark.parametrize("url", ["nonsense", "nosuchbase://host/name", "mysql://host/name"])
def test_an_address_that_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=f"--storage {url}"):
        studies.open_study("toy", url, LOSS, "tpe", "median", 0)


def test_a_database_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the database cannot be used: unable to open"):
        studies.open_study("toy", f"sqlite:///{tmp_path}/missing/study.db", LOSS, "tpe", "median", 0)


def test_options_become_flags_and_options_again() -> None:
    config = TrainConfig(epochs=2.5, trackers=("tensorboard", "mlflow"), compile=True, max_minutes=3.0, seed=7)
    words = as_flags(config.changes_from(TrainConfig()))
    assert parse_with_config(tune.TuneOptions, TrainConfig(), words, "toy", "")[1] == config
    back = as_flags(TrainConfig().changes_from(config))
    assert "--no-compile" in back
    assert is_given(["--no-compile"], "compile")
    assert is_given(["--batch-size=3"], "batch_size")
    assert not is_given(["--batch", "3"], "batch_size")


def test_a_search_space_of_options_that_do_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no_such: no such option"):
        Tuning(metric=LOSS, space={"no_such": Uniform(0, 1)}).check(RunConfig)


def test_importance_is_measured_on_the_scale_that_was_searched() -> None:
    study, random = optuna.create_study(), np.random.default_rng(0)
    spans = {
        "rate": FloatDistribution(1e-4, 1, log=True),
        "share": FloatDistribution(0, 1),
        "n": IntDistribution(1, 9, log=True),
    }
    for rate, share in random.random((80, 2)):
        params = {"rate": 10 ** (-4 * rate), "share": share, "n": 1 + int(9 * share)}
        # Half of the rates, by their logarithm, are bad; of evenly spaced ones, it would be one in a hundred.
        loss = float(params["rate"] < 1e-2) + share
        study.add_trial(create_trial(params=params, distributions=spans, value=loss))
    found = report.importances(study)
    assert set(found) == set(spans)
    assert found["rate"] == pytest.approx(0.75, abs=0.1)  # a variance of 1/4, beside 1/12


def test_the_report_names_the_best_and_what_mattered(tmp_path: Path) -> None:
    study = open_study(tmp_path, "none")
    study.enqueue_trial({"rate": 0.1, "depth": 7, "widths": "4 8"})
    tuner(study, tmp_path, bowl, trials=12)[0].run(1)
    weights = report.importances(study)
    assert set(weights) == set(SPACE)
    assert sum(weights.values()) == pytest.approx(1)
    text = report.write_report(study, LOSS, tmp_path, "toy train --rate 0.1", "toys").read_text()
    assert "toy train --rate 0.1" in text
    assert f"| {report.finished(study)[0].number} | {LOSS.show(report.finished(study)[0].values[0])} |" in text
    assert "- 0: depth 7 does not go with anything" in text
    for name in ("history", "curves", "options"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


# -- the command, with trials in processes of their own

CAPSTONE = """
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.search_space import Tuning
from dlcommon.training.search_space import Uniform
from toyparabola.config import Config
CAPSTONE = Capstone(
    name="toy-parabola", title=LocalizedText("Parabola", "抛物线"), summary=LocalizedText("x", "x"), config=Config,
    data_sets=("mnist-sample",), headline=Metric("loss"),
    tuning=Tuning(
        metric=Metric("validation_loss", "minimize", unit="plain"),
        space={"x": Uniform(-4, 4)}, settings={"steps": 4},
    ),
)
"""
CONFIG = """
from dataclasses import dataclass
from dlcommon.runtime.config import RunConfig
@dataclass(frozen=True)
class Config(RunConfig):
    x: float = 3.0
    steps: int = 2
    wait: float = 0.0
    still: bool = False
    def __post_init__(self):
        super().__post_init__()
        if self.still and self.x != 3.0:
            raise ValueError("x must be 3 where all is still")
"""
TRAIN = """
import time
def train(run):
    for step in range(run.config.steps):
        run.cached(f"step-{step}", lambda: time.sleep(run.config.wait) or step)
        run.log(validation_loss=(run.config.x - 1) ** 2 + 1 / (step + 1))
    run.finish({"model.json": b"{}"})
"""
MODEL = """
from dlcommon.runtime.export.graph import ConvertedGraph
def export_graph(saved):
    return ConvertedGraph(None, lambda inputs: inputs, "nothing", {}, {})
"""
EVALUATE = """
from dlcommon.runtime.evaluation.result import Evaluation
def evaluate(predict, data, figures):
    return Evaluation(1, {"loss": 1.0}, {})
"""


@pytest.fixture
def parabola(tmp_path: Path) -> dict[str, str]:
    """The environment of a capstone whose training takes no time; returns environment variables."""
    site = write_distribution(
        tmp_path / "site", "toy-parabola", {}, {"dlcommon.capstones": {"toy-parabola": "toyparabola.capstone:CAPSTONE"}}
    )
    package = site / "toyparabola"
    package.mkdir()
    rooms = {"capstone": CAPSTONE, "config": CONFIG, "train": TRAIN, "evaluate": EVALUATE, "model": MODEL}
    for room, text in ({"__init__": ""} | rooms).items():
        (package / f"{room}.py").write_text(text, encoding="utf-8")
    return environment(tmp_path / "runs", PYTHONPATH=str(site))


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "dlcommon.runtime", "toy-parabola", "tune", *options]


def test_tune_is_stopped_goes_on_and_says_what_to_type(tmp_path: Path, parabola: dict[str, str]) -> None:
    options = ["--trials", "3", "--wait", "0.4", "--jobs", "2"]
    process = subprocess.Popen(command(*options), env=parabola, stdout=subprocess.PIPE, text=True)
    folder = tmp_path / "runs" / "toy-parabola" / "studies" / "mnist-sample-default"
    deadline = time.monotonic() + 120
    while not list(folder.glob("trials/*/toy-parabola/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command continues the study" in printed
    done = run(command(*options, "--json"), parabola).check_success()
    assert done.result["metric"] == "validation_loss"
    words = done.result["command"].split()
    assert words[:2] == ["toy-parabola", "train"]
    assert "--steps" not in words, "what only trials have is not for the training"
    x = float(words[words.index("--x") + 1]) if "--x" in words else 3.0
    assert done.result["value"] == pytest.approx((x - 1) ** 2 + 0.25)
    outputs = [path.read_text() for path in folder.glob("trials/*/output.txt")]
    assert any(text.count("· train ·") == 2 for text in outputs), "a trial was continued, not begun anew"
    states = [trial.state for trial in optuna.load_study(
        study_name="toy-parabola/mnist-sample-default", storage=f"sqlite:///{folder / 'study.db'}"
    ).trials]  # fmt: skip
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 3
    refused = run(command("--trials", "4", "--seed", "1"), parabola)
    refused.check_refusal(2, "began differently", "--study NAME")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--trials", "0"], "trials must be at least 1"),
        (["--x", "2"], "nothing is left to search"),
        (["--study", "../up"], "--study ../up"),
        (["--storage", "nonsense"], "--storage nonsense"),
        (["--preset", "none"], "--preset none"),
        (["--still"], "x must be 3 where all is still; give it (--x 3.0), and it is left out of the search"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    options: list[str],
    words: str,
    parabola: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(parabola["PYTHONPATH"])
    monkeypatch.setenv("DL_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises((UsageError, SystemExit)) as refused:
        tune.main(load("toy-parabola"), options)
    assert words in f"{refused.value} {capsys.readouterr().err}"
    assert not list(tmp_path.glob("runs/**/trial-*"))
