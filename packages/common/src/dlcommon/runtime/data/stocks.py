"""Daily prices of five American stocks, 2000 to 2013, which bokeh-sampledata ships."""

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dlcommon.runtime.data.dataset import DamagedDataError, DataSet
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.localization import LocalizedText

if TYPE_CHECKING:
    import numpy as np

COLUMNS = ("Open", "High", "Low", "Close", "Adj Close", "Volume")


@dataclass(frozen=True)
class Prices:
    """One stock, day after day; prices in US dollars, each array [days]."""

    dates: "np.ndarray"
    """datetime64[D], ascending."""
    open: "np.ndarray"
    high: "np.ndarray"
    low: "np.ndarray"
    close: "np.ndarray"
    adjusted_close: "np.ndarray"
    """As if all later splits and dividends had been paid before: the one whose changes are what an owner earned."""
    volume: "np.ndarray"
    """Shares."""


@dataclass(frozen=True)
class Stocks:
    """Prices by the stock's symbol."""

    prices: dict[str, Prices]

    def contents(self) -> Iterator[bytes]:
        for symbol, table in self.prices.items():
            yield symbol.encode()
            for column in vars(table).values():
                yield column.tobytes()


def source_file() -> Path:
    """The table inside the installed library.

    Raises:
        UserError: the library is not installed.
    """
    spec = find_spec("bokeh_sampledata")
    if spec is None or spec.origin is None:
        raise UserError(
            "stocks comes with bokeh-sampledata, which is not installed; add it with `uv add 'dlcommon[tables]'`"
        )
    return Path(spec.origin).parent / "_data" / "stocks.csv.gz"


def load(folder: Path) -> Stocks:
    """All five stocks.

    Raises:
        UserError: bokeh-sampledata is not installed.
        DamagedDataError: its file is damaged.
    """
    path = source_file()
    rows: dict[str, list[tuple[str, list[float]]]] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["Ticker"], []).append((row["Date"], [float(row[name]) for name in COLUMNS]))
        return Stocks({symbol: _prices(days) for symbol, days in rows.items()})
    except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DamagedDataError(path, f"cannot be read ({error})") from error


def _prices(days: list[tuple[str, list[float]]]) -> Prices:
    import numpy as np

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
