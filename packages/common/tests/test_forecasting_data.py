"""The stock prices, and a user's own CSV: what is read, and what is told where it cannot be."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.data import find
from dlcommon.runtime.data.series import LEAST, SeriesOptions, own_series, read_series, series_options
from dlcommon.runtime.errors import UsageError, UserError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writer(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "mine.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return writer


def test_stocks_are_real_and_whole() -> None:
    pytest.importorskip("bokeh_sampledata")
    located = find("stocks")
    assert located is not None
    prices = located.load().prices
    assert sorted(prices) == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    for table in prices.values():
        assert len(table.dates) == len(table.close) > 150
        assert (np.diff(table.dates).astype(int) > 0).all()
        for column in (table.open, table.high, table.low, table.close, table.adjusted_close):
            assert (column > 0).all()
        assert (table.high >= table.low).all()
    apple = prices["AAPL"]
    assert str(apple.dates[0]) == "2000-03-01"
    split = int(np.flatnonzero(apple.dates == np.datetime64("2005-02-28"))[0])  # two shares for one
    assert apple.close[split] / apple.close[split - 1] == pytest.approx(0.5, abs=0.05)
    assert apple.adjusted_close[split] / apple.adjusted_close[split - 1] == pytest.approx(1, abs=0.05)
    again = find("stocks")
    assert again is not None
    assert located.fingerprint() == again.fingerprint()


def test_a_plain_file_is_read(write: Write) -> None:
    series = read_series(write("Date,Open,Close\n2024-01-01,1,2.5\n2024-01-02,1,3\n\n2024-01-03,1,-4e1\n"))
    assert series.name == "mine.csv, Close"
    assert series.values.tolist() == [2.5, 3, -40]
    assert series.dates is not None
    assert [str(date)[:10] for date in series.dates] == ["2024-01-01", "2024-01-02", "2024-01-03"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("Date,Close\n2024-01-02,2\n2024-01-01,1\n", [1, 2], id="newest first"),
        pytest.param("﻿date;price\n31.12.2023;1\n01.01.2024;2\n", [1, 2], id="semicolons, byte-order mark"),
        pytest.param("Date\tValue\n01/13/2024\t1\n02/01/2024\t2\n", [1, 2], id="tabs, month first"),
        pytest.param(
            "Date,Value\n02/01/2024,1\n03/01/2024,2\n01/02/2024,3\n",
            [1, 2, 3],
            id="day first, since month first is unordered",
        ),
        pytest.param('Date,Value\n"Jan 02, 2024",1\n"Jan 03, 2024",2\n', [1, 2], id="quoted"),
        pytest.param("日期,收盘\n2024年1月2日,1\n2024年1月3日,2\n", [1, 2], id="Chinese"),
        pytest.param("anything\n1\n2\n", [1, 2], id="one column"),
        pytest.param("name,x\na,1\nb,2\n", [1, 2], id="the only numbers"),
        pytest.param("Date,Adj_Close,Close\n2024-01-01,1,9\n2024-01-02,2,9\n", [1, 2], id="adjusted before plain"),
        pytest.param("Date,Close\r\n2024-01-01,1\r\n2024-01-02,2\r\n", [1, 2], id="line ends of Windows"),
    ],
)
def test_many_ways_of_writing_it_are_understood(write: Write, text: str, values: list[int]) -> None:
    assert read_series(write(text)).values.tolist() == values


def test_a_column_can_be_named(write: Write) -> None:
    path = write("Date,Open,Close\n2024-01-01,1,2\n2024-01-02,3,4\n")
    assert read_series(path, "open").values.tolist() == [1, 3]
    with pytest.raises(UsageError, match=r"--column High: .* has the columns Date, Open, Close"):
        read_series(path, "High")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Date,Close\n2024-01-01,1\n2024-01-02,abc\n", r"line 3, column 'Close': 'abc' is not a number; correct it"),
        (
            'Date,Close\n2024-01-01,"1,234.5"\n',
            r"line 2, column 'Close': '1,234.5' is not a number; write it as 1234.5",
        ),
        ("Date,Close\n2024-01-01,1\n\n2024-01-03,\n", r"line 4, column 'Close': the cell is empty"),
        ("Date,Close\n2024-01-01,nan\n", r"line 2, column 'Close': 'nan' is not a finite number"),
        ("Date,Close\n2024-01-01,inf\n", r"line 2, column 'Close': 'inf' is not a finite number"),
        ("Date,Close\n2024-01-01,1\n2024-01-02,2,3\n", r"line 3: 3 cells, but the heading line has 2"),
        ("Date,Close\n2024-01-01,1\nsoon,2\n", r"line 3, column 'Date': 'soon' is not a date"),
        (
            "Date,Close\n2024-01-01,1\n2024-01-03,2\n2024-01-02,3\n",
            r"line 4, column 'Date': '2024-01-02' does not follow",
        ),
        ("Date,Close\n2024-01-01,1\n2024-01-01,2\n", r"line 3, column 'Date': '2024-01-01' does not follow"),
        ("Date,Close\n", "nothing below it"),
        ("", "the file is empty"),
        ('Date,Close\n2024-01-01,"1\n', "not a line of CSV"),
        ("Date,a,b\n2024-01-01,1,2\n", r"several columns of numbers; say which one with --column"),
        ("Date,a\n2024-01-01,x\n", "no column with a number"),
    ],
)
def test_a_bad_file_is_told_where_and_what_to_do(write: Write, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_series(write(text))


def test_other_encodings_and_missing_files_are_told(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = read_series(write("日期,收盘价\n2024-01-01,1\n", "gb18030"), "收盘价")
    assert (read.values.tolist(), read.name[-3:]) == ([1.0], "收盘价")
    assert "is read as GBK (simplified Chinese)" in capsys.readouterr().err
    with pytest.raises(UserError, match="there is no such file"):
        read_series(tmp_path / "none.csv")


def test_options_of_the_lesson(tmp_path: Path) -> None:
    assert series_options([]).csv is None
    options = series_options(["--csv", "mine.csv", "--column", "Close", "--season", "7"])
    assert (options.csv, options.column, options.season) == (Path("mine.csv"), "Close", 7)
    for wrong in (["--season", "0"], ["--column", "Close"]):
        with pytest.raises(UsageError):
            series_options(wrong)
    with pytest.raises(SystemExit) as stopped:
        series_options(["--cvs", "mine.csv"])
    assert stopped.value.code == 2


def test_the_script_s_own_words_are_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["09-time-series.py", "--csv", "mine.csv"])
    assert series_options().csv == Path("mine.csv")


def test_a_series_must_be_fit_for_a_backtest(write: Write) -> None:
    def options(values: Iterable[int], *words: str) -> SeriesOptions:
        path = write("Close\n" + "\n".join(str(value) for value in values) + "\n")
        return series_options(["--csv", str(path), *words])

    assert own_series(series_options([])) is None
    series = own_series(options(range(LEAST)))
    assert series is not None
    assert len(series.values) == LEAST
    with pytest.raises(UserError, match="199 values; at least 200"):
        own_series(options(range(LEAST - 1)))
    with pytest.raises(UserError, match="all values are 3; there is nothing to forecast"):
        own_series(options([3] * LEAST))
    with pytest.raises(UsageError, match="--season 60: 200 values hold fewer than four"):
        own_series(options(range(LEAST), "--season", "60"))
