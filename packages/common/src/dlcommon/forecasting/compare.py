"""Many forecasters on one series, measured against "tomorrow is as today"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dlcommon.forecasting.backtest import Backtest, Forecaster, walk_forward
from dlcommon.forecasting.baselines import Naive
from dlcommon.forecasting.diebold_mariano import diebold_mariano
from dlcommon.forecasting.scores import absolute_error, coverage, crps, skill

Verdict = Literal["better", "no difference shown", "worse", "the reference"]


@dataclass(frozen=True)
class Comparison:
    """One forecaster; skill and test refer to the naive forecast."""

    name: str
    backtest: Backtest
    error: float
    """Mean absolute error of the median."""
    skill: float
    """1 − error / error of the naive forecast."""
    crps: float
    coverage: float
    """Of the interval that should hold 90 %."""
    p_value: float
    """Of the Diebold-Mariano test on absolute errors, after Holm's correction for asking of several forecasters."""
    verdict: Verdict


def compare(
    values: np.ndarray, forecasters: Sequence[Forecaster], first: int, horizon: int = 1, refit_every: int = 250
) -> list[Comparison]:
    """Backtests each forecaster from the same origins; the naive forecast, which is added, comes first.

    A forecaster is better, or worse, where the test says so at 5 % for the whole family; anything else is no
    difference that these origins can show. Losses are averaged over the horizon, one for each origin.
    """
    from statsmodels.stats.multitest import multipletests

    backtests = [walk_forward(values, model, first, horizon, refit_every) for model in (Naive(), *forecasters)]
    losses = [absolute_error(backtest.quantiles, backtest.actual).mean(axis=1) for backtest in backtests]
    tested = [diebold_mariano(losses[0], loss, horizon).p_value for loss in losses[1:]]
    p_values = [1.0, *multipletests(tested, method="holm")[1]] if tested else [1.0]
    rows = []
    for name, backtest, loss, p in zip(
        [Naive.name, *(model.name for model in forecasters)], backtests, losses, p_values, strict=True
    ):
        verdict: Verdict = (
            "no difference shown" if p >= 0.05 else "better" if loss.mean() < losses[0].mean() else "worse"
        )
        rows.append(
            Comparison(
                name,
                backtest,
                float(loss.mean()),
                skill(loss, losses[0]),
                float(crps(backtest.quantiles, backtest.actual).mean()),
                coverage(backtest.quantiles, backtest.actual),
                float(p),
                verdict if backtest is not backtests[0] else "the reference",
            )
        )
    return rows
