"""What the server answers about a row: a passenger, or whatever table the model was trained on."""

import json
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.data.titanic import READERS
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import Answer
from dlcommon.runtime.tables.columns import Column, as_arrays, with_readers
from dlcommon.runtime.tables.items import Row
from dlcommon.runtime.tables.table_service import EXPLAIN, TableService
from pydantic import Field

from eda_titanic.passengers import is_passenger_list

PASSENGER_COLUMNS = {
    "Pclass": "1, 2 or 3.",
    "Name": "As the list writes it: “Surname, Title. First names”; the title matters.",
    "Age": "In years.",
    "SibSp": "Siblings and spouses aboard.",
    "Parch": "Parents and children aboard.",
    "Ticket": "Number; companions are looked up by it.",
    "Fare": "Pounds paid for the whole ticket.",
    "Cabin": "Its first letter is the deck.",
    "Embarked": "Port: Cherbourg, Queenstown or Southampton.",
}
PASSENGER = {
    "Pclass": 3, "Name": "Dawson, Mr. Jack", "Sex": "male", "Age": 20, "SibSp": 0, "Parch": 0, "Fare": 8.05,
    "Embarked": "S",
}  # fmt: skip


class Prediction(Answer):
    """The likeliest class, the probability of each, and, where asked for, what moved the answer."""

    answer: str
    probabilities: dict[str, float]
    unknown: list[str] = Field(description="Columns that were not given; the model counts them as missing.")
    unusual: list[str] = Field(description="Values outside what the model was trained on: trust the answer less.")
    explained: str | None = Field(default=None, description="The class whose probability is explained.")
    baseline: float | None = Field(default=None, description="Its mean probability over rows drawn column by column.")
    contributions: dict[str, float] | None = Field(
        default=None,
        description="Exact Shapley values: what each group of columns adds to the baseline; their sum is exact.",
    )


class RowService(TableService[Prediction]):
    """Answers rows with the columns that the model's file names."""

    answer = Prediction

    def __init__(self, model: OnnxModel) -> None:
        facts = {name: json.loads(model.metadata[name]) for name in ("columns", "players", "background", "importance")}
        columns = [Column.from_json(column) for column in facts["columns"]]
        self.importance: dict[str, float] = facts["importance"]
        self.passengers = is_passenger_list(columns)
        if self.passengers:
            columns = with_readers(columns, READERS)
        self.row_name = "Passenger" if self.passengers else "Row"  # type: ignore[misc]
        described = PASSENGER_COLUMNS if self.passengers else {}
        super().__init__(model, columns, facts["players"], background_arrays(facts["background"], columns), described)
        self.example = self.example_of(PASSENGER if self.passengers else {})  # type: ignore[misc]

    def explained(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        return outputs["probabilities"]

    @staticmethod
    def explained_class(probabilities: np.ndarray) -> int:
        """Chooses the class to explain: of two the second, whatever the answer; of more the most probable."""
        return 1 if len(probabilities) == 2 else int(probabilities.argmax())

    def answer_for(self, item: Row, outputs: dict[str, np.ndarray]) -> Prediction:
        probabilities, labels = outputs["probabilities"], self.model.labels
        prediction = Prediction(
            answer=labels[int(probabilities.argmax())],
            probabilities={label: float(p) for label, p in zip(labels, probabilities, strict=True)},
            unknown=self.unknown(item),
            unusual=self.unusual(item),
        )
        if not item.values().get(EXPLAIN):
            return prediction
        which = self.explained_class(probabilities)
        return prediction.model_copy(update={
            "explained": labels[which],
            "baseline": float(outputs["baselines"][which]),
            "contributions": self.named(outputs["contributions"][:, which]),
        })  # fmt: skip


def background_arrays(rows: dict[str, list[Any]], columns: list[Column]) -> dict[str, np.ndarray]:
    """Turns the rows of `importance.background` into a model's inputs."""
    kinds = {column.name: "float64" if column.kind == "number" else "str" for column in columns}
    return as_arrays(pd.DataFrame(rows).astype(kinds), columns)
