"""Exercises: what the learner is given, and what the judge says of it."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dlcommon.course import exercises
from dlcommon.course.catalogue import find_lesson
from dlcommon.course.exercises import PLACEHOLDER, exercise, load_exercise
from dlcommon.course.lesson import CheckFailedError, check_close
from dlcommon.course.module_source import module_source
from dlcommon.neural_networks.normalization import BatchNorm, normalize, normalize_backward
from dlcommon.pytorch_core import training_loop
from dlcommon.pytorch_core.optimizers import Adam
from dlcommon.rnn.cells import lstm_cell


def defined(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(source, "exercise.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ([training_loop.fit], ("fit",)),
        ([lstm_cell], ("lstm_cell",)),
        ([Adam._adam_step], ("Adam",)),
        ([BatchNorm], ("BatchNorm",)),
        ([normalize, normalize_backward], ("normalize", "normalize_backward")),
    ],
)
def test_the_file_runs_and_holds_signature_and_docstring_without_the_body(
    targets: list[Any], names: tuple[str, ...]
) -> None:
    declared = exercise(*targets)(lambda yours, reference: None)
    assert declared.names == names
    file = declared.file("Heading")
    learner = defined(file)
    assert learner["__doc__"] == "Heading"
    for target in targets:
        reference = getattr(target, "forward", target)
        mine = learner[names[0]] if len(names) == 1 else learner[target.__name__]
        for part in reference.__qualname__.split(".")[1:]:
            mine = getattr(mine, part)
        assert mine.__doc__ == reference.__doc__
        assert mine.__annotations__.keys() == reference.__annotations__.keys()
    assert PLACEHOLDER in file
    body = module_source(declared.module).source(targets[0].__qualname__).split("\n")[-1].strip()
    assert body in declared.solution()
    assert body not in file


def test_only_the_named_methods_of_a_class_are_cut() -> None:
    file = exercise(Adam._adam_step)(lambda yours, reference: None).file("Heading")
    assert file.count(PLACEHOLDER) == 1
    assert "self._adam_step(w, g + group" in file
    whole = exercise(BatchNorm)(lambda yours, reference: None).file("Heading")
    assert "super().__init__()" in whole


def test_an_exercise_is_of_one_module() -> None:
    with pytest.raises(ValueError, match="one module"):
        exercise(lstm_cell, training_loop.fit)


LESSON = find_lesson("03/09")
EXERCISE = load_exercise(LESSON.cells(), LESSON.path)
SOLUTION = f"{EXERCISE.file('Mine').split('def fit')[0]}{EXERCISE.solution()}\n"


def judged(source: str) -> None:
    EXERCISE.judge(SimpleNamespace(**defined(source)), sys.modules[EXERCISE.module])


def test_the_solution_passes_its_judge(capsys: pytest.CaptureFixture[str]) -> None:
    judged(SOLUTION)
    assert capsys.readouterr().out.count("✓") == 14


@pytest.mark.parametrize(
    ("line", "instead", "told"),
    [
        ("optimizer.zero_grad()", "pass", "gradients do not add up"),
        ("set_learning_rate(optimizer, schedule((epoch + step / len(loader)) / epochs))", "pass", "with a schedule"),
        ("(epoch + step / len(loader)) / epochs", "epoch / epochs", "learning rates with a schedule"),
        ("network.train()", "pass", "weights after a single step"),
        ("parameters(), max_grad_norm)", "parameters(), 1e9)", "=0.01"),
        ("norms.append(norm.item())", "norms.append(min(norm.item(), max_grad_norm))", "before clipping"),
        ("history.losses.append(loss.item())", "pass", "shapes (0,) and (3,)"),
        ("evaluate(network, *validation)[0])", "cross_entropy(network(validation[0]), validation[1]).item())", "mode"),
        ("evaluate(network, *validation)[0]", "evaluate(network.eval(), *validation)[0]", "training mode again"),
        (">= patience", "> patience", "number of epochs"),
        ("history.validation_losses[-1], epoch", "history.validation_losses[-1], epoch + 1", "best_epoch"),
        ("copy.deepcopy(network.state_dict())  #", "network.state_dict()  #", "not the last one's"),
        ("if not loss.isfinite():", "if False:", "raises FloatingPointError"),
        ("optimizer.step()", "optimizer.zero_grad()", "weights after a single step"),
    ],
)  # fmt: skip
def test_the_judge_names_what_is_wrong(line: str, instead: str, told: str) -> None:
    assert line in SOLUTION
    with pytest.raises(CheckFailedError) as failed:
        judged(SOLUTION.replace(line, instead))
    assert told in str(failed.value)


def test_a_notebooks_own_definition_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlcommon.course import session
    from dlcommon.course.progress import read_progress

    monkeypatch.setenv("DL_PROGRESS_DIR", str(tmp_path))
    monkeypatch.setattr(session, "lesson_name", LESSON.name)
    with pytest.raises(TypeError, match="fit=…"):
        EXERCISE(fitted=training_loop.fit)
    with pytest.raises(TypeError):
        EXERCISE(fit=lambda: None)
    assert read_progress() == {}
    EXERCISE(fit=defined(SOLUTION)["fit"])
    assert read_progress()[LESSON.name].state == "passed"


@pytest.mark.parametrize(
    ("mine", "told"),
    [
        ([[-1.0, -2.0], [-3.0, -4.0]], "only its sign is wrong"),
        ([[2.0, 4.0], [6.0, 8.0]], "2 times as large throughout"),
        ([[1.0, 3.0], [2.0, 4.0]], "it is transposed"),
        ([[0.0, 0.0], [0.0, 0.0]], "0 everywhere"),
        ([[1.0, float("nan")], [3.0, 4.0]], "not a number"),
        ([[1.0, 2.0], [3.0, 4.5]], "differs by 0.5, more than 1e-05"),
        ([1.0, 2.0], r"shapes \(2,\) and \(2, 2\)"),
    ],
)
def test_a_difference_is_described(mine: list[float] | list[list[float]], told: str) -> None:
    with pytest.raises(CheckFailedError, match=f"the output.*{told}"):
        check_close("the output", mine, [[1.0, 2.0], [3.0, 4.0]])


def test_judges_are_told_by_their_decorator() -> None:
    assert exercises.has_exercise(LESSON.cells())
    assert not exercises.has_exercise(find_lesson("03/08").cells())
