"""Writes a service's own example as a user would have it: a picture, a line of text, a row of CSV."""

import base64
import csv
import json
import math
from pathlib import Path
from typing import Any

from dlcommon.runtime.serving.service import AnyService


def write_example(service: AnyService, folder: Path) -> list[str]:
    """Writes the example into the folder; returns the words after `predict` that make the same item of it."""
    example = dict(service.example)
    if service.upload is not None and service.upload in example:
        path = folder / "example.png"
        path.write_bytes(base64.b64decode(example.pop(service.upload)))
    elif service.text_field is not None and service.text_field in example:
        path = folder / "example.txt"
        path.write_text(f"{example.pop(service.text_field)}\n", encoding="utf-8")
    else:
        row = {name: value for name, value in example.items() if name in service.row_columns}
        example = {name: value for name, value in example.items() if name not in row}
        path = folder / "example.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerow(
                {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
            )
    settings = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in example.items()]
    return [str(path), *(word for setting in settings for word in ("--set", setting))]


def agree(one: Any, other: Any) -> bool:
    """Tells whether two answers in JSON are the same but for the rounding of batches of different sizes."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-5)
    return bool(one == other)
