"""Loads daily prices of five American stocks, 2000 to 2013, which bokeh-sampledata ships."""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet
from dlcommon.runtime.data.package_files import package_file
from dlcommon.runtime.localization import LocalizedText

COLUMNS = ("Open", "High", "Low", "Close", "Adj Close", "Volume")


@dataclass(frozen=True)
class Prices:
    """Holds one stock, day after day; prices in US dollars, each array [days]."""

    dates: "np.ndarray"
    """datetime64[D], ascending."""
    open: "np.ndarray"
    high: "np.ndarray"
    low: "np.ndarray"
    close: "np.ndarray"
    adjusted_close: "np.ndarray"
    """Adjusted for later splits and dividends: its changes are an owner's total return."""
    volume: "np.ndarray"
    """Shares."""


@dataclass(frozen=True)
class Stocks:
    """Holds prices by the stock's symbol."""

    prices: dict[str, Prices]

    def contents(self) -> Iterator[bytes]:
        for symbol, table in self.prices.items():
            yield symbol.encode()
            for column in vars(table).values():
                yield column.tobytes()


def load(folder: Path) -> Stocks:
    """Reads all five stocks.

    Raises:
        UserError: bokeh-sampledata is not installed.
        DamagedDataError: its file is damaged.
    """
    path = package_file("bokeh_sampledata", "_data/stocks.csv.gz", "stocks")
    rows: dict[str, list[tuple[str, list[float]]]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["Ticker"], []).append((row["Date"], [float(row[name]) for name in COLUMNS]))
        return Stocks({symbol: _prices(days) for symbol, days in rows.items()})
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DamagedDataError(path, f"cannot be read ({error})") from error


def _prices(days: list[tuple[str, list[float]]]) -> Prices:

    dates = np.array([date for date, _ in days], dtype="datetime64[D]")
    if (np.diff(dates) <= np.timedelta64(0, "D")).any():
        raise ValueError("its days are not in order")
    return Prices(dates, *np.array([values for _, values in days]).T.copy())


DATA_SET = DataSet(
    name="stocks",
    title=LocalizedText("Daily stock prices", "每日股价"),
    description="daily prices of AAPL, FB, GOOG, IBM and MSFT, 2000 to 2013, which bokeh-sampledata ships",
    licence="public domain (Quandl WIKI prices)",
    home="https://www.kaggle.com/datasets/marketneutral/quandl-wiki-prices-us-equites",
    load=load,
    builtin=True,
)
