"""The report of a study: its best trials, which options mattered, and pictures of both."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning.study import REASON


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that ended with a value, the best first."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
    return sorted(trials, key=lambda trial: sign * trial.values[0])


def importances(study: optuna.Study) -> dict[str, float]:
    """Estimates the share of the figure's variance that each option explains (fANOVA, Hutter et al. 2014).

    The variance is that over the space as it was searched. Empty where fewer than four trials, or trials all alike,
    say nothing.
    """
    values = {trial.value for trial in finished(study)}
    if len(values) < 4:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return dict(optuna.importance.get_param_importances(on_linear_scale(study), evaluator=evaluator))


def on_linear_scale(study: optuna.Study) -> optuna.Study:
    """Copies the finished trials, with the logarithms of options that were searched on a logarithmic scale.

    Optuna's fANOVA weighs all values of an option alike: of a learning rate from 0.001 to 1, nine tenths of the weight
    would lie above 0.1.
    """
    copied = optuna.create_study(direction=study.direction)
    for trial in finished(study):
        params: dict[str, Any] = dict(trial.params)
        distributions: dict[str, BaseDistribution] = dict(trial.distributions)
        for name, span in trial.distributions.items():
            if isinstance(span, (FloatDistribution, IntDistribution)) and span.log:
                params[name] = math.log(params[name])
                distributions[name] = FloatDistribution(math.log(span.low), math.log(span.high))
        copied.add_trial(create_trial(params=params, distributions=distributions, value=trial.values[0]))
    return copied


def show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def result_of(trial: FrozenTrial, metric: Metric) -> str:
    """Describes how a trial ended: its figure, `pruned`, or why it failed."""
    if trial.state == TrialState.COMPLETE:
        return f"{metric.name} {metric.show(trial.values[0])}"
    return f"failed: {trial.user_attrs[REASON]}" if REASON in trial.user_attrs else "pruned"


def write_report(study: optuna.Study, metric: Metric, folder: Path, best_command: str, data: str) -> Path:
    """Writes `report.md` and its pictures into the folder; returns the report's path."""
    best, weights = finished(study), importances(study)
    pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    failed = [trial for trial in pruned if REASON in trial.user_attrs]
    names = list(weights) or sorted({name for trial in best for name in trial.params})
    lines = [
        f"# {study.study_name}: {metric.name}",
        "",
        f"{len(best)} trials finished, {len(pruned) - len(failed)} were pruned, {len(failed)} failed. Data: {data}.",
        "",
        f"The best reached {metric.show(best[0].values[0])}. It is the best of {len(best)} on the same validation "
        "data, so its figure is too good by chance: train it again, with several seeds, before you believe it.",
        "",
        "```bash",
        best_command,
        "```",
        "",
        "![every trial](history.png)",
        "",
        "## The best trials · 最好的几次",
        "",
        f"| trial | {metric.name} | {' | '.join(names)} |",
        f"|{'---|' * (2 + len(names))}",
    ]
    for trial in best[:10]:
        cells = [str(trial.number), metric.show(trial.values[0])]
        lines.append(f"| {' | '.join(cells + [show(trial.params.get(name, '')) for name in names])} |")
    if weights:
        lines += ["", "## Which options mattered · 哪些选项重要", "", "| option | share of the variance |", "|---|---|"]
        lines += [f"| {name} | {weight:.0%} |" for name, weight in weights.items()]
    lines += ["", "![value by option](options.png)", "", "![curves of all trials](curves.png)"]
    if failed:
        lines += ["", "## Failed · 失败", ""]
        lines += [f"- {trial.number}: {trial.user_attrs[REASON]} ({_settings(trial)})" for trial in failed]
    _save(history_figure(study, metric), folder / "history.png")
    _save(curves_figure(study, metric), folder / "curves.png")
    _save(options_figure(best, names, metric), folder / "options.png")
    path = folder / "report.md"
    write_bytes(path, ("\n".join(lines) + "\n").encode())
    return path


def _settings(trial: FrozenTrial) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in trial.params.items())


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)


def history_figure(study: optuna.Study, metric: Metric) -> Figure:
    """Draws every finished trial, and the best so far."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    trials = sorted(finished(study), key=lambda trial: trial.number)
    numbers = [trial.number for trial in trials]
    values = np.array([trial.value for trial in trials], dtype=float)
    best = np.minimum.accumulate(values) if metric.direction == "minimize" else np.maximum.accumulate(values)
    axes.plot(numbers, values, "o", color="tab:blue", label="a trial")
    axes.step(numbers, best, where="post", color="tab:orange", label="the best so far")
    axes.set(xlabel="trial", ylabel=metric.name)
    axes.legend()
    return figure


def curves_figure(study: optuna.Study, metric: Metric) -> Figure:
    """Draws the metric of every trial as it trained; pruned trials end early."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    best = finished(study)[0].number
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        steps = sorted(trial.intermediate_values)
        complete = trial.state == TrialState.COMPLETE
        colour = "tab:orange" if trial.number == best else "tab:blue" if complete else "tab:gray"
        values = [trial.intermediate_values[step] for step in steps]
        axes.plot([step + 1 for step in steps], values, ".-", color=colour, alpha=1 if trial.number == best else 0.5)
    axes.set(xlabel="evaluation (orange: the best trial, grey: pruned)", ylabel=metric.name)
    return figure


def options_figure(trials: Sequence[FrozenTrial], names: Sequence[str], metric: Metric) -> Figure:
    """Draws the figure reached against the value of each option."""
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, name in zip(grid, names, strict=False):
        chosen = [trial for trial in trials if name in trial.params]
        given = [trial.params[name] for trial in chosen]
        numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in given)
        axes.plot(given if numeric else [str(value) for value in given], [trial.value for trial in chosen], "o")
        if chosen and getattr(chosen[0].distributions[name], "log", False):
            axes.set_xscale("log")
        axes.set(xlabel=name)
    for axes in grid[len(names) :]:
        axes.remove()
    figure.supylabel(metric.name)
    return figure
