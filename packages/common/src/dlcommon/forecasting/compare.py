"""Comparison of forecasters on one series with the naive forecast, "tomorrow is as today"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dlcommon.forecasting.backtest import Backtest, Forecaster, walk_forward
from dlcommon.forecasting.baselines import Naive
from dlcommon.forecasting.diebold_mariano import diebold_mariano
from dlcommon.forecasting.scores import absolute_error, coverage, crps, skill_score

Verdict = Literal["better", "no difference shown", "worse", "the reference"]


@dataclass(frozen=True)
class Comparison:
    """Holds one forecaster's results; skill and test are relative to the naive forecast."""

    name: str
    backtest: Backtest
    error: float
    """Mean absolute error of the median."""
    skill: float
    """1 − error / error of the naive forecast."""
    crps: float
    """Mean over origins and horizon."""
    coverage: float
    """Fraction of values in the 90 % interval."""
    p_value: float
    """From the Diebold-Mariano test on absolute errors, with Holm's correction for the number of forecasters."""
    verdict: Verdict


def compare(
    values: np.ndarray, forecasters: Sequence[Forecaster], first: int, horizon: int = 1, refit_every: int = 250
) -> list[Comparison]:
    """Backtests each forecaster from the same origins; the naive forecast is added and comes first.

    A forecaster is better, or worse, if the test says so at 5 % for the whole family; otherwise these origins show no
    difference. Losses are averaged over the horizon, one per origin. Arguments are those of `walk_forward`.
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
                skill_score(loss, losses[0]),
                float(crps(backtest.quantiles, backtest.actual).mean()),
                coverage(backtest.quantiles, backtest.actual),
                float(p),
                verdict if backtest is not backtests[0] else "the reference",
            )
        )
    return rows
