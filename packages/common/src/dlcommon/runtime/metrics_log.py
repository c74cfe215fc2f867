"""metrics.jsonl: one JSON object a line, in the order of training."""

import json
import os
from pathlib import Path
from typing import Any

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import explained_disk_errors


class MetricsLog:
    """Appends rows to metrics.jsonl; a resumed run first cuts off the rows that it will write again."""

    def __init__(self, path: Path, enabled: bool = True) -> None:
        self.path, self.enabled = path, enabled

    def append(self, row: dict[str, Any]) -> None:
        if self.enabled:
            with explained_disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def size(self) -> int:
        """Flushes the log to disk and returns its size in bytes, so that a checkpoint can count on them."""
        if not self.path.is_file():
            return 0
        with explained_disk_errors(self.path), self.path.open("rb+") as file:
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_size

    def truncate(self, size: int) -> None:
        """Keeps the first `size` bytes."""
        if self.enabled and self.path.is_file():
            with explained_disk_errors(self.path):
                os.truncate(self.path, size)

    def truncate_rows(self, rows: int) -> None:
        """Keeps the first `rows` rows."""
        if self.enabled and self.path.is_file():
            lines = self.path.read_bytes().splitlines(keepends=True)
            self.truncate(sum(len(line) for line in lines[:rows]))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads the rows of a metrics.jsonl.

    Raises:
        UserError: a line is not JSON; the message names it.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}") from error
    return rows
