"""A server's answers about rows of a table: values that are not known, and what moved an answer."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from pydantic import Field

from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import Answer, BatchedService
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.contributions import shapley_values
from dlcommon.runtime.tables.items import Row, row_arrays, row_type

KNOWN, EXPLAIN = "known values", "explain"
"""Arrays beside the columns: which numbers are known, since the server lets no NaN pass; whether to explain."""

RowAnswer = TypeVar("RowAnswer", bound=Answer)


class TableService(BatchedService[Row, RowAnswer]):
    """Answers rows of a model's columns; a row's field `explain` asks which columns moved the answer.

    Where it is set, `answer_for` also gets `contributions` [players, numbers] and `baselines` [numbers] among the
    outputs, else zeros.

    Args:
        players: name to the columns that are explained together; every column belongs to one of them.
        background: the rows that an explained one is compared with, [rows, 1] a column.
        descriptions: of columns, for the API's page.
    """

    row_name: ClassVar[str] = "Row"

    def __init__(
        self,
        model: OnnxModel,
        columns: Sequence[Column],
        players: Mapping[str, Sequence[str]],
        background: Arrays,
        descriptions: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(model)
        self.columns = list(columns)
        self.players, self.background = dict(players), background
        row = row_type(self.row_name, self.columns, descriptions)
        self.item = type(row.__name__, (row,), {
            "__annotations__": {"explain": bool},
            "__module__": type(self).__module__,
            "__doc__": "One row; a field that is left out, or null, is not known.",
            "explain": Field(False, description="Also say what moved the answer."),
        })  # fmt: skip

    @abstractmethod
    def explained(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Selects the numbers among a model's outputs that are explained, [rows, numbers]."""

    @property
    def row_columns(self) -> list[str]:
        return [column.name for column in self.columns]

    def item_from_row(self, cells: Mapping[str, str]) -> dict[str, Any]:
        values = {}
        for column in self.columns:
            if column.name in cells and (value := column.parse(cells[column.name])) is not None:
                values[column.name] = cells[column.name].strip() if column.is_date else value
        return values

    def prepare(self, item: Row) -> dict[str, np.ndarray]:
        values = item.values()
        explain = bool(values.pop(EXPLAIN, False))
        arrays = row_arrays(values, self.columns)
        known = [column.kind != "number" or values.get(column.name) is not None for column in self.columns]
        for column in self.columns:
            if column.kind == "number":
                arrays[column.name] = np.nan_to_num(arrays[column.name])
        return {**arrays, KNOWN: np.array(known), EXPLAIN: np.array([explain])}

    def run(self, model: OnnxModel, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        known, explain = arrays[KNOWN], arrays[EXPLAIN][:, 0]
        rows: dict[str, np.ndarray] = {}
        for place, column in enumerate(self.columns):
            values = arrays[column.name]
            if column.kind == "number":
                rows[column.name] = np.where(known[:, place : place + 1], values, np.float32(np.nan))
            else:
                rows[column.name] = values.astype(object)
        outputs = model(rows)
        numbers = self.explained(outputs).shape[1]
        contributions = np.zeros((len(explain), len(self.players), numbers))
        baselines = np.zeros((len(explain), numbers))
        for number in np.flatnonzero(explain):
            row = {name: values[number] for name, values in rows.items()}
            contributions[number], baselines[number] = shapley_values(
                lambda inputs: self.explained(model(inputs)), row, self.background, self.players
            )
        return {**outputs, "contributions": contributions, "baselines": baselines}

    def unknown(self, item: Row) -> list[str]:
        """Lists the columns that a row does not give."""
        values = item.values()
        return [column.name for column in self.columns if values.get(column.name) in (None, "")]

    def unusual(self, item: Row) -> list[str]:
        """Says which numbers of a row lie outside of those that were trained on."""
        values = item.values()
        found = []
        for column in self.columns:
            value = values.get(column.name)
            number = column.parse(value) if column.is_date and isinstance(value, str) else value
            found.append(column.unusual(number))
        return [text for text in found if text is not None]

    def named(self, contributions: np.ndarray) -> dict[str, float]:
        """Returns contributions [players] by the players' names."""
        return {player: float(value) for player, value in zip(self.players, contributions, strict=True)}

    def example_of(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a row for the API's page: known values of the columns that there are, or typical ones."""
        names = {column.name for column in self.columns}
        values = {name: value for name, value in known.items() if name in names}
        typical = {
            column.name: column.shown(column.typical) if column.is_date and isinstance(column.typical, float)
            else column.typical
            for column in self.columns if column.typical is not None
        }  # fmt: skip
        return {**(values or typical), "explain": True}
