"""A table of sold houses as a problem of regression."""

from dataclasses import dataclass

import numpy as np
from dlcommon.runtime.data import Table
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.tables.columns import as_arrays, describe
from dlcommon.runtime.tables.problem import TableProblem
from safetensors.numpy import load

from house_prices.config import Config
from house_prices.houses import GROUPS
from house_prices.ladder import HouseModel

NEEDED = ("GrLivArea", "YearBuilt", "LotArea", "1stFlrSF", "YrSold", "Neighborhood")
"""Columns without which a table is no list of sold houses."""
FEWEST_ROWS = 60


@dataclass(frozen=True)
class Problem(TableProblem):
    """Adds the prices to what the models see of a table."""

    log_prices: np.ndarray
    """float64 [rows]."""

    def restored(self, config: Config, learnt: bytes) -> HouseModel:
        """Restores the model of all rows from what `learnt_arrays` had, as safetensors."""
        return HouseModel(self.columns, config, config.seed).restored(self.arrays, self.log_prices, load(learnt))


def pose(table: Table) -> Problem:
    """Turns a table into the problem that it poses.

    Raises:
        UserError: a column that every such list has is missing, or there are too few houses.
    """
    if missing := [name for name in NEEDED if name not in table.train]:
        raise UserError(f"a list of sold houses needs the column {missing[0]}")
    if len(table.train) < FEWEST_ROWS:
        raise UserError(f"{len(table.train)} houses are too few to learn from; at least {FEWEST_ROWS} are needed")
    known = {name for columns in GROUPS.values() for name in columns}
    columns = [c for c in describe(table.train[table.features], table.readers) if c.name in known and c.kind != "text"]
    prices = table.train[table.target].to_numpy(np.float64)
    return Problem(table, columns, as_arrays(table.train, columns), np.log(prices))
