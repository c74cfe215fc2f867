"""A row of a table as the item of a request: one field for each column, all of them optional."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, create_model, model_validator

from dlcommon.runtime.data.cells import LARGEST_NUMBER
from dlcommon.runtime.serving.service import Item
from dlcommon.runtime.tables.columns import Column

LONGEST_TEXT = 10_000


class Row(Item):
    """Holds one row's values; `row_type` makes a subclass with a field for each column."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    def values(self) -> dict[str, float | str | None]:
        """Returns the values by column name."""
        return self.model_dump(by_alias=True)


def row_type(name: str, columns: Sequence[Column], descriptions: Mapping[str, str] | None = None) -> type[Row]:
    """Makes the class of such rows. A field left out, or null, is an unknown value.

    Text is read as training read it: white space around it is left out, and what meant "not known" still does. Fields
    have the columns' names as aliases, since a column may be called what no Python name can be.
    """
    by_name = {column.name: column for column in columns}

    def check(values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        read = dict(values)
        for key, value in values.items():
            if key not in by_name or isinstance(value, bool) or not isinstance(value, int | float | str):
                continue
            column = by_name[key]
            if isinstance(value, str):
                if column.kind == "number" and not column.is_date:
                    continue  # refused by the field
                parsed = column.parse(value)
                if problem := column.problem(parsed):
                    raise ValueError(problem)
                read[key] = parsed if column.kind != "number" or parsed is None else value.strip()
            elif column.kind == "number" and not column.is_date and (problem := column.problem(value)):
                raise ValueError(problem)
        return read

    fields: dict[str, Any] = {}
    for number, column in enumerate(columns):
        text = (descriptions or {}).get(column.name, "")
        if column.is_date:
            example = column.shown(column.low) if column.low is not None else "2024-12-31"
            bound = Field(None, alias=column.name, description=f"{text} A date such as {example}.", max_length=100)
            fields[f"field_{number}"] = (str | None, bound)
        elif column.kind == "number":
            bound = Field(None, alias=column.name, description=text, ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)
            fields[f"field_{number}"] = (float | None, bound)
        else:
            allowed = f" One of {', '.join(column.categories)}." if column.kind == "category" else ""
            bound = Field(None, alias=column.name, description=text + allowed, max_length=LONGEST_TEXT)
            fields[f"field_{number}"] = (str | None, bound)
    validators: dict[str, Any] = {"check": model_validator(mode="before")(check)}
    made: type[Row] = create_model(name, __base__=Row, __validators__=validators, **fields)
    return made


def row_arrays(values: Mapping[str, float | str | None], columns: Sequence[Column]) -> dict[str, np.ndarray]:
    """Turns one row into a model's inputs without the batch axis, as `as_arrays` gives them with it.

    Missing numbers are NaN, which a server's queue refuses: see `TableService.prepare`.
    """
    arrays: dict[str, np.ndarray] = {}
    for column in columns:
        value = values.get(column.name)
        if column.is_date and isinstance(value, str):
            value = column.parse(value)
        if column.kind == "number":
            arrays[column.name] = np.array([np.nan if value is None else value], np.float32)
        else:
            arrays[column.name] = np.array([value or ""], dtype=object)
    return arrays
