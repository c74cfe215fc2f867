"""Asks a model of a table in every way that users can, and holds the answers against each other."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands import predict
from dlcommon.runtime.data.cells import parse_number
from dlcommon.runtime.tables.columns import parse_rows
from dlcommon.runtime.tables.table_service import TableService
from dlcommon.testing.service_answers import batched_answers


def check_equal_answers(
    capstone: Capstone[Any],
    service: TableService[Any],
    rows: Path,
    page: Callable[[pd.DataFrame], pd.DataFrame],
    column: str,
    field: Callable[[dict[str, Any]], float],
    trained: Sequence[float],
    decimals: int,
) -> None:
    """Checks that a file's rows get one answer from the page's upload, REST, `predict` and the trained model itself.

    Args:
        rows: CSV file in UTF-8, with commas.
        page: answers rows as the page's tab of files does.
        column: of the page's table, which holds the number to compare.
        field: selects that number in an answer of REST or `predict`.
        trained: the number of each row by the model that training left, which writes the submission.
        decimals: to which the page rounds it.

    Raises:
        AssertionError: they differ.
    """
    said: list[str] = []
    frame = parse_rows(rows.read_bytes(), rows, service.columns, said.append)
    expected = np.asarray(trained, dtype=np.float64)
    with rows.open(encoding="utf-8", newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(expected) == len(cells)
    rest = [
        field(answer.model_dump()) for answer in batched_answers(service, *[_as_json(service, row) for row in cells])
    ]
    out = rows.with_name("answers.jsonl")
    assert predict.main(capstone, [str(rows), "--model", str(service.model.path), "--out", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    command = [field(line["answer"]) for line in lines]
    np.testing.assert_allclose(rest, expected, rtol=1e-4, err_msg="REST")
    np.testing.assert_allclose(command, expected, rtol=1e-4, err_msg="predict")
    np.testing.assert_allclose(page(frame)[column], expected, rtol=1e-4, atol=0.51 * 10.0**-decimals, err_msg="page")


def _as_json(service: TableService[Any], row: dict[str, str]) -> dict[str, Any]:
    """Makes the item that a client sends of a row: numbers as such, text as it is in the file, nothing for no cell."""
    item: dict[str, Any] = {}
    for column in service.columns:
        cell = row.get(column.name, "")
        if column.kind == "number" and not column.is_date:
            value = column.parse(cell)
            assert value is None or parse_number(cell) in (value, None)
        else:
            value = cell
        if cell.strip() and value is not None:
            item[column.name] = value
    return item
