"""A table as a problem to learn: inputs, what is asked of them, and a model's answers for its rows."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data.table import Table
from dlcommon.runtime.tables.columns import Column, as_arrays


@dataclass(frozen=True)
class TableProblem:
    """Holds a table and the inputs that a capstone's models see of it; a subclass adds the target."""

    table: Table
    columns: list[Column]
    """The inputs."""
    arrays: dict[str, np.ndarray]
    """Of the training rows, [rows, 1] each."""

    def question_facts(self) -> Sequence[Any]:
        """Returns what is asked of the rows, where that is not in the rows themselves."""
        return ()

    @property
    def fingerprint(self) -> str:
        """Hashes (sha256) the training rows and what is asked of them."""
        question = self.question_facts()
        digest = hashlib.sha256(json.dumps(question).encode() if question else b"")
        digest.update(self.table.train.to_csv(index=False).encode())
        return digest.hexdigest()

    def predictions(self, predict: Predict, output: str) -> dict[str, np.ndarray]:
        """Predicts the training rows and, where there are any, the unlabelled test rows.

        Args:
            predict: a model whose metadata says what columns it takes.
            output: name of the model's output.

        Returns:
            The output for the training rows under its own name, that for the test rows as `unlabelled`.
        """
        columns = [Column.from_json(column) for column in json.loads(metadata_of(predict)["columns"])]
        found = {output: predict(as_arrays(self.table.train, columns))[output]}
        if self.table.test is not None:
            found["unlabelled"] = predict(as_arrays(self.table.test, columns))[output]
        return found

    def submission(self, test: pd.DataFrame, answers: np.ndarray) -> bytes:
        """Writes Kaggle's CSV file: the identifier and the answer of every row of the test table."""
        rows: dict[str, Any] = {self.table.target: answers}
        if self.table.identifier is not None:
            rows = {self.table.identifier: test[self.table.identifier], **rows}
        content: str = pd.DataFrame(rows).to_csv(index=False)
        return content.encode()
