"""Tables that nobody has described: numbers as people write them, codes, dates, long and wide files."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dlcommon.runtime.data import DamagedDataError
from dlcommon.runtime.data.cells import CellReader, split_unit
from dlcommon.runtime.data.own_table import OwnTable, read_own_table
from dlcommon.runtime.tables.columns import Column, describe


def own(folder: Path, text: str | bytes, rows: int = 1000) -> OwnTable:
    path = folder / "own.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_own_table(path, lambda text: None, rows=rows)


def column(folder: Path, cells: list[str], separator: str = ",") -> tuple[pd.Series, CellReader, str]:
    """Reads a column `x` of these cells, and returns it, its reader and what is said."""
    rows = "\n".join(f'"{cell}"{separator}1' for cell in cells)
    read = own(folder, f"x{separator}y\n{rows}\n")
    assert list(read.frame.columns) == ["x", "y"]
    return read.frame["x"], read.readers["x"], " ".join(note.en for note in read.notes)


@pytest.mark.parametrize(
    ("cells", "separator", "numbers"),
    [
        (["150,0", "1000,25", "-3"], ";", [150, 1000.25, -3]),
        (["1.234,5", "2.000.000,00"], ";", [1234.5, 2_000_000]),
        (["1.234,5", "7"], ",", [1234.5, 7]),
        (["30,000", "1,234,567.5", "12"], ",", [30_000, 1_234_567.5, 12]),
        (["1,234", "5,678"], ",", [1234, 5678]),
        (["1,234", "5,678"], ";", [1.234, 5.678]),
        (["$1,000.50", "$2", "-$3", "($4.00)"], ",", [1000.5, 2, -3, -4]),
        (["1 234,50 €", "1\u00a0000 €", "3\u202f000,5€"], ";", [1234.5, 1000, 3000.5]),
        (["EUR 5", "EUR 1,250"], ",", [5, 1250]),
        (["12.5%", "7 %", "100%"], ",", [12.5, 7, 100]),
        (["12,5 %", "7 %"], ";", [12.5, 7]),
        (["1’234.5", "10’000"], ",", [1234.5, 10_000]),
        (["¥1,200", "¥90"], ",", [1200, 90]),
        (["−5,5", "3,25"], ";", [-5.5, 3.25]),
    ],
)
def test_numbers_are_read_as_people_write_them(
    cells: list[str], separator: str, numbers: list[float], tmp_path: Path
) -> None:
    values, reader, said = column(tmp_path, [*cells, ""], separator)
    assert values.tolist()[:-1] == numbers
    assert np.isnan(values.iloc[-1])
    assert "x is read as numbers" in said
    again = CellReader.from_json(reader.as_json())
    assert again == reader
    assert [again.parse(cell) for cell in cells] == numbers
    with pytest.raises(ValueError, match=r"is 'many', which is not a number such as .*234"):
        again.parse("many")


@pytest.mark.parametrize(
    "cells",
    [
        ["$5", "€5"],
        ["5", "5%"],
        ["1,23,4", "5"],
        ["1.2.3", "1"],
        ["5 apples", "6"],
        ["12:30", "1"],
        ["A1", "B2"],
        ["-", "1,5"],
    ],
)
def test_what_is_not_one_kind_of_number_stays_text(cells: list[str], tmp_path: Path) -> None:
    values, reader, _ = column(tmp_path, cells)
    assert (reader.kind, values.tolist()) == ("text", cells)


def test_points_are_thousands_beside_columns_with_decimal_commas(tmp_path: Path) -> None:
    read = own(tmp_path, "a;b;c\n1,5;1.234;1.5\n2,5;20.000;2.25\n")
    assert read.frame["b"].tolist() == [1234, 20_000]
    assert read.frame["c"].tolist() == [1.5, 2.25]
    assert "points between thousands" in " ".join(note.en for note in read.notes)


def test_brackets_and_signs_are_split_from_units() -> None:
    assert split_unit("-$5") == split_unit("($5)") == split_unit("$-5") == ("$", "-5")
    assert split_unit("5 kr") == ("kr", "5")
    assert split_unit("$5 €") is None
    assert split_unit("five") is None


@pytest.mark.parametrize("cells", [["00123", "94110", "02139"], ["007", "8", "9"]])
def test_leading_zeros_stay(cells: list[str], tmp_path: Path) -> None:
    values, reader, said = column(tmp_path, cells)
    assert values.tolist() == cells
    assert reader.kind == "text"
    assert f"x has leading zeros ({cells[0]}), so it is kept as text" in said


def test_zeros_before_a_point_are_numbers(tmp_path: Path) -> None:
    assert column(tmp_path, ["0.5", "0", "-0.25"])[0].tolist() == [0.5, 0, -0.25]


@pytest.mark.parametrize("digits", [19, 30, 400])
def test_integers_too_long_for_a_number_name_the_rows(digits: int, tmp_path: Path) -> None:
    cells = [str(10 ** (digits - 1) + number) for number in range(30)]
    values, _, said = column(tmp_path, cells)
    assert values.tolist() == cells
    assert f"integers of up to {digits} digits" in said
    assert describe(values.to_frame())[0].kind == "text"


@pytest.mark.parametrize("odd", ["inf", "-Infinity", "1e308", "-1e31", "1e999", "1" + "0" * 40])
def test_what_no_model_can_compute_with_counts_as_not_known(odd: str, tmp_path: Path) -> None:
    values, reader, said = column(tmp_path, ["1", "2.5", odd, "4"])
    assert values.isna().tolist() == [False, False, True, False]
    assert "count as not known" in said
    assert reader.parse(odd) is None
    with pytest.raises(ValueError, match="beyond 1e"):
        reader.parse("1e300" if odd != "1e308" else "1e309"[:-1] + "7")


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["1970-01-02", "2024-03-01"], [1, 19783]),
        (["1970-01-02T12:00:00Z", "1970-01-03 00:00:00+00:00"], [1.5, 2]),
        (["1970-01-01T12:00:00+12:00", "1970-01-02T00:00:00-12:00"], [0, 1.5]),
        (["1970-01-01 06:00", "1970-01-02 18:00"], [0.25, 1.75]),
        (["1970-01-01T00:00:00.250Z", "1970-01-02T00:00:00Z"], [0.25 / 86_400, 1]),
        (["02.01.1970", "31.12.1969"], [1, -1]),
        (["1970/01/02", "1970/01/05"], [1, 4]),
        (["1970年1月2日", "1970年01月05日"], [1, 4]),
        (["13/01/1970", "02/01/1970"], [12, 1]),
        (["01/13/1970", "01/02/1970"], [12, 1]),
        (["2 Jan 1970", "13 Jan 1970"], [1, 12]),
        (["Jan 2, 1970", "Jan 13, 1970"], [1, 12]),
    ],
)
def test_dates_are_days_in_utc(cells: list[str], days: list[float], tmp_path: Path) -> None:
    values, reader, said = column(tmp_path, [*cells, ""])
    assert values.tolist()[:2] == pytest.approx(days, abs=1e-9)
    assert np.isnan(values.iloc[2])
    assert "x is read as dates" in said
    (described,) = describe(values.to_frame(), {"x": reader})
    again = Column.from_json(described.as_json())
    assert (again.kind, again.is_date) == ("number", True)
    assert [again.parse(cell) for cell in cells] == pytest.approx(days, abs=1e-9)
    assert again.parse(again.shown(days[0])) == pytest.approx(days[0], abs=1e-5)


def test_a_day_that_may_be_a_month_is_said(tmp_path: Path) -> None:
    values, reader, said = column(tmp_path, ["01/02/2024", "03/04/2024"])
    assert (values.iloc[0], reader.kind) == ("01/02/2024", "text")
    assert "day and month cannot be told apart in '01/02/2024'" in said


def test_a_category_that_reads_as_missing_is_said(tmp_path: Path) -> None:
    values, _, said = column(tmp_path, ["NA", "ZA", "KE"])
    assert values.isna().tolist() == [True, False, False]
    assert "x: cells that read NA count as not known" in said


def test_a_long_table_is_a_stated_sample_in_bounded_memory(tmp_path: Path) -> None:
    text = "n,half\n" + "".join(f"{n},{n % 2}\n" for n in range(60_000))
    tracemalloc.start()
    read = own(tmp_path, text, rows=500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6, "more is held than the sample and a buffer"
    assert (read.rows, len(read.frame)) == (60_000, 500)
    assert read.frame["n"].is_monotonic_increasing
    assert 27_000 < read.frame["n"].mean() < 33_000
    assert own(tmp_path, text, rows=500).frame.equals(read.frame)
    assert "own.csv has 60,000 rows; 500 of them, drawn at random, are read" in read.notes[0].en


def test_a_wide_table_keeps_its_first_columns_and_those_that_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("\n".join([",".join(f"c{n}" for n in range(3000)), *[",".join(["1"] * 3000)] * 3]))
    read = read_own_table(path, columns=4, wanted=["c2000"])
    assert list(read.frame.columns) == ["c0", "c1", "c2", "c2000"]
    assert "wide.csv has 3,000 columns; the first 4 of them are read" in read.notes[0].en


def test_progress_is_told_in_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlcommon.runtime.data.own_table.SECONDS_BETWEEN_NOTES", 0.0)
    path = tmp_path / "large.csv"
    path.write_text("a,b\n" + "1,2\n" * 20_000)
    said: list[str] = []
    read_own_table(path, said.append)
    assert any(text.startswith("reading large.csv: ") and text.endswith(" %") for text in said)


def test_damage_is_named_even_beyond_the_sample(tmp_path: Path) -> None:
    with pytest.raises(DamagedDataError, match=r"row 302: has 1 cells where the header names 2 columns"):
        own(tmp_path, "a,b\n" + "1,2\n" * 300 + "1\n", rows=10)
    with pytest.raises(DamagedDataError, match="has a header, but no rows"):
        own(tmp_path, "a,b\n")
