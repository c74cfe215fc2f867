"""Side by side with what else one would take for such a table: errors on the same folds, at equal time.

    uv run --package house-prices --with pytabkit --with lightgbm python packages/house-prices/benchmarks/peers.py \
        --output packages/house-prices/benchmarks/peers.json

Ours is the whole blend, a fold's weights chosen on the other folds' held-out rows; in the line below it, the plain mean
of the same rungs, which needs no such rows. Peers get the columns of Kaggle's file: "NA" read as data_description.txt
says, MSSubClass as the code that it is, missing values as each library takes them. All learn the price's logarithm.

Equal time: on each fold a peer that used less time than ours is fitted again, with another seed, until it has used at
least ours; what counts is the mean of its fits. Linear regression has no seed, and stops sooner. On one thread the time
is the processor's, which other programs hardly lengthen, otherwise the clock's; a library's first use is not timed.
Settings: LightGBM's are those published for this table in Kaggle's "Stacked Regressions" (Serigne 2017), CatBoost's the
library's defaults, RealMLP's and TabM's the defaults of pytabkit (https://arxiv.org/abs/2407.04491,
https://arxiv.org/abs/2410.24210), which stop early on a fifth of the rows, drawn anew for each fit.
"""

import argparse
import dataclasses
import importlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from catboost import CatBoostRegressor
from dlcommon.runtime import data, hardware
from house_prices.config import PRESETS, Config
from house_prices.problem import Problem, pose
from house_prices.validation import held_out, paired, rmsle, splits, stacked
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNetCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

OURS, EQUAL = "house-prices", "house-prices, equal weights"
Scores = dict[str, list[dict[str, float]]]  # RMSLE, seconds and fits of each model on each fold


@dataclasses.dataclass(frozen=True)
class Given:
    """What a peer is given: training rows, log prices of these, rows to predict; categories have that dtype."""

    train: pd.DataFrame
    log_prices: np.ndarray
    test: pd.DataFrame
    seed: int
    threads: int

    def categories(self) -> list[str]:
        return list(self.train.select_dtypes("category").columns)

    def imputed(self) -> list[pd.DataFrame]:
        """Both tables; missing numbers are the median, and a flag says so."""
        names = self.categories()
        numbers = SimpleImputer(strategy="median", add_indicator=True).set_output(transform="pandas")
        numbers.fit(self.train.drop(columns=names))
        return [table[names].join(numbers.transform(table.drop(columns=names))) for table in (self.train, self.test)]


def elastic_net(given: Given) -> np.ndarray:
    numbers = StandardScaler(), make_column_selector(dtype_include="number")
    flags = OneHotEncoder(handle_unknown="ignore", sparse_output=False), given.categories()
    search = ElasticNetCV(l1_ratio=[0.1, 0.5, 0.7, 0.9, 0.95, 0.99, 1], cv=5, max_iter=10_000)  # the manual's ratios
    train, test = given.imputed()
    return make_pipeline(make_column_transformer(numbers, flags), search).fit(train, given.log_prices).predict(test)


def lightgbm(given: Given) -> np.ndarray:
    from lightgbm import LGBMRegressor

    model = LGBMRegressor(
        n_estimators=720, learning_rate=0.05, num_leaves=5, max_bin=55, subsample=0.8, subsample_freq=5,
        colsample_bytree=0.2319, min_child_samples=6, min_child_weight=11, random_state=given.seed,
        n_jobs=given.threads, verbose=-1,
    )  # fmt: skip
    return model.fit(given.train, given.log_prices).predict(given.test)


def catboost(given: Given) -> np.ndarray:
    missing = dict.fromkeys(names := given.categories(), "missing")
    train, test = (table.astype(dict.fromkeys(names, object)).fillna(missing) for table in (given.train, given.test))
    settings = {"thread_count": given.threads, "verbose": False, "allow_writing_files": False}
    model = CatBoostRegressor(cat_features=names, random_seed=given.seed, **settings)
    return model.fit(train, given.log_prices).predict(test)


def pytabkit(name: str, given: Given) -> np.ndarray:
    train, test = given.imputed()
    settings = {"device": "cpu", "random_state": given.seed, "n_threads": given.threads}
    model = getattr(importlib.import_module("pytabkit"), name)(**settings)
    return model.fit(train, given.log_prices).predict(test)


PEERS: dict[str, tuple[str, Callable[[Given], np.ndarray]]] = {  # distribution, log prices of the rows to predict
    "elastic net": ("scikit-learn", elastic_net),
    "LightGBM": ("lightgbm", lightgbm),
    "CatBoost": ("catboost", catboost),
    "RealMLP": ("pytabkit", partial(pytabkit, "RealMLP_TD_Regressor")),
    "TabM": ("pytabkit", partial(pytabkit, "TabM_D_Regressor")),
}


def fold_of(problem: Problem, fold: tuple[np.ndarray, np.ndarray], seed: int, threads: int) -> Given:
    table, (train, test) = problem.table.train[problem.table.features].astype({"MSSubClass": str}), fold
    for name in table.select_dtypes(exclude="number"):
        table[name] = pd.Categorical(table[name].where(table[name].isin(table[name].iloc[train])))
    return Given(table.iloc[train], problem.log_prices[train], table.iloc[test], seed, threads)


def fit_peer(name: str, given: Given, budget: float, now: Callable[[], float]) -> tuple[np.ndarray, dict[str, float]]:
    start, found = now(), []
    while not found or (now() - start < budget and name != "elastic net"):
        found.append(PEERS[name][1](dataclasses.replace(given, seed=1000 * given.seed + len(found))))
    return np.mean(found, axis=0), {"seconds": round(now() - start, 2), "fits": len(found)}


def repetition(problem: Problem, config: Config, peers: list[str], first: int | None, threads: int) -> Scores:
    now = time.process_time if threads == 1 else time.perf_counter
    logs, seed = problem.log_prices, config.seed
    ours = partial(held_out, problem.columns, problem.arrays, logs, seed=seed)
    small = np.arange(100), np.arange(100, 110)  # a first use, of everything
    ours(small, Config(trees=1, epochs=1, members=1))
    for name in peers:
        fit_peer(name, fold_of(problem, small, seed, threads), 0, now)
    folds, rungs = splits(len(logs), config.folds, seed)[:first], []
    scores: Scores = {name: [] for name in (OURS, EQUAL, *peers)}

    def keep(name: str, errors: np.ndarray, facts: dict[str, float]) -> None:
        scores[name].append({"rmsle": round(rmsle(errors), 5), **facts})
        print(f"fold {len(scores[name])}: {name}", scores[name][-1], file=sys.stderr, flush=True)

    for fold in folds:
        start = now()
        rungs.append(ours(fold, config)[1])
        facts = {"seconds": round(now() - start, 2), "fits": 1}
        keep(EQUAL, rungs[-1].mean(axis=1) - logs[fold[1]], facts)
        for name in peers:
            found, used = fit_peer(name, fold_of(problem, fold, seed, threads), facts["seconds"], now)
            keep(name, found - logs[fold[1]], used)
    rows, ends = np.concatenate([test for _, test in folds]), np.cumsum([len(test) for _, test in folds])
    places = np.split(np.arange(len(rows)), ends[:-1])
    blend = stacked(np.concatenate(rungs), logs[rows], places) if len(folds) > 1 else rungs[0].mean(axis=1)
    for place, fold in zip(places, scores[EQUAL], strict=True):
        keep(OURS, blend[place] - logs[rows[place]], {key: fold[key] for key in ("seconds", "fits")})
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--first", type=int, help="only so many of the folds; of one, the blend has equal weights")
    parser.add_argument("--repeats", type=int, default=1, help="each with folds of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--preset", choices=PRESETS, help="of ours")
    parser.add_argument("--output", type=Path, help="write the figures there as JSON")
    o = parser.parse_args()
    config = Config(**{**PRESETS.get(o.preset, {}), "seed": o.seed, "folds": o.folds, "repeats": o.repeats})
    warnings.simplefilter("ignore")  # peers' own, about their use of other libraries
    logging.disable(logging.WARNING)
    if hasattr(os, "sched_setaffinity"):  # CatBoost in ours would take what cores there are
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: o.threads])
    problem = pose(data.resolve("house-prices", ("house-prices",)).load())
    with threadpool_limits(o.threads):
        configs = [dataclasses.replace(config, seed=o.seed + repeat) for repeat in range(o.repeats)]
        found = [repetition(problem, each, o.peers, o.first, o.threads) for each in configs]
    models: dict[str, Any] = {}
    print("| | RMSLE | behind ours | seconds a fold | fits a fold |\n|---|---|---|---|---|")
    for name in (OURS, EQUAL, *o.peers):
        folds = [fold for scores in found for fold in scores[name]]
        ours = [fold["rmsle"] for scores in found for fold in scores[OURS]]
        means = {key: float(np.mean([fold[key] for fold in folds])) for key in ("rmsle", "seconds", "fits")}
        behind = paired(ours, [fold["rmsle"] for fold in folds], o.folds)
        models[name] = {**means, "behind_ours": behind, "folds": folds}
        text = "" if name == OURS else f"{behind['difference']:+.4f} ± {behind['standard_error']:.4f}"
        print(f"| {name} | {means['rmsle']:.4f} | {text} | {means['seconds']:.1f} | {means['fits']:.1f} |")
    described = hardware.describe()
    packages = sorted({"scikit-learn", "catboost", *(PEERS[name][0] for name in o.peers)})
    described["versions"] |= {package: metadata.version(package) for package in packages}
    used = {"first": o.first, "threads": o.threads, "preset": o.preset, "config": dataclasses.asdict(config)}
    if o.output:
        o.output.write_text(json.dumps({"models": models, **used, "hardware": described}, indent=2) + "\n")


if __name__ == "__main__":
    main()
