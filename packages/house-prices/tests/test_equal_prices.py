"""A house gets one price, whether it comes by the page, by REST, by `predict` or in the submission."""

import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from dlcommon.runtime.data import house_prices
from dlcommon.runtime.export.onnx_file import set_metadata
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.table_answers import check_equal_answers
from house_prices.capstone import CAPSTONE
from house_prices.config import Config
from house_prices.ladder import LADDER, HouseModel, Interval
from house_prices.page import prices
from house_prices.problem import pose
from house_prices.service import HouseService
from house_prices.train import submission


def houses(count: int, seed: int) -> pd.DataFrame:
    """Houses without alley, basement or fence ("NA"), with unknown frontages and wiring ("NA" and empty)."""
    random = np.random.default_rng(seed)
    columns: dict[str, object] = {name: random.choice(["NA", "Gd", " TA"], count) for name in house_prices.NONE_COLUMNS}
    columns |= {name: random.choice(["TA", "Gd"], count) for name in house_prices.TEXT_COLUMNS}
    columns |= {name: random.integers(0, 3, count) for name in house_prices.OTHER_NUMBERS}
    area = random.integers(600, 4000, count)
    columns |= {name: random.integers(0, 2000, count) for name in house_prices.AREAS}
    return pd.DataFrame({
        **columns, "Id": np.arange(count) + 1000 * seed, "GrLivArea": area,
        "Electrical": random.choice(["SBrkr", "NA", ""], count), "MasVnrType": random.choice(["None", "Stone"], count),
        "LotFrontage": [("NA", "60", "", "80.5")[n % 4] for n in range(count)],
        "OverallQual": random.integers(1, 11, count), "OverallCond": random.integers(1, 11, count),
        "MoSold": random.integers(1, 13, count), "MSSubClass": random.choice([20, 60], count),
        **{name: random.integers(1900, 2011, count) for name in ("YearBuilt", "YearRemodAdd", "YrSold")},
        "GarageYrBlt": [("NA" if n % 5 == 0 else "1999") for n in range(count)],
        "SalePrice": 100 * area + random.integers(0, 90_000, count),
    })  # fmt: skip


def test_houses(tmp_path: Path) -> None:
    houses(120, 1).to_csv(tmp_path / "train.csv", index=False)
    houses(30, 2).drop(columns="SalePrice").iloc[:, ::-1].to_csv(tmp_path / "test.csv", index=False)
    table = house_prices.load(tmp_path)
    problem = pose(table)
    config = Config(trees=5, tree_rate=0.5, epochs=1, members=1)
    model = HouseModel(problem.columns, config, seed=0).fit(problem.arrays, problem.log_prices)
    weights = np.full(len(LADDER), 1 / len(LADDER))
    graph = model.to_onnx(weights.tolist(), Interval(0.1, 1.0))
    set_metadata(graph, {
        "capstone": CAPSTONE.name, "columns": json.dumps([column.as_json() for column in problem.columns]),
        "rungs": json.dumps(dict.fromkeys(LADDER, 1 / len(LADDER))), "interval": json.dumps({"coverage": 0.9}),
        "importance": json.dumps({"columns": {}}),
        "sold": json.dumps({"profile": model.profile(problem.arrays).tolist(), "price": [1] * 120}),
    })  # fmt: skip
    (tmp_path / "model.onnx").write_bytes(graph.SerializeToString())
    service = HouseService(OnnxModel(tmp_path / "model.onnx"))
    assert table.test is not None
    submitted = csv.DictReader(io.StringIO(submission(problem, model, table.test, weights).decode()))
    check_equal_answers(
        CAPSTONE, service, tmp_path / "test.csv", partial(prices, service), "price",
        lambda answer: float(answer["price"]), [float(row["SalePrice"]) for row in submitted], decimals=0,
    )  # fmt: skip
