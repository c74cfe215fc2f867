"""What the server answers about a row: a passenger, or whatever table the model was trained on."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import Answer, PagePredict, Service
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.contributions import shapley_values
from dlcommon.runtime.tables.items import Row, row_arrays, row_type
from pydantic import Field

from eda_titanic.importance import background_arrays
from eda_titanic.passengers import is_passenger_list

if TYPE_CHECKING:
    import gradio as gr

KNOWN, EXPLAIN = "known values", "explain"
"""Arrays beside the columns: which numbers are known, since the server lets no NaN pass; whether to explain."""

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
    explained: str | None = Field(default=None, description="The class whose probability is explained.")
    baseline: float | None = Field(default=None, description="Its mean probability over rows drawn column by column.")
    contributions: dict[str, float] | None = Field(
        default=None,
        description="Exact Shapley values: what each group of columns adds to the baseline; their sum is exact.",
    )


class RowService(Service[Row, Prediction]):
    """Made for the columns that the model's file names."""

    answer = Prediction

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        facts = {name: json.loads(model.metadata[name]) for name in ("columns", "players", "background", "importance")}
        self.columns = [Column.from_json(column) for column in facts["columns"]]
        self.players: dict[str, list[str]] = facts["players"]
        self.importance: dict[str, float] = facts["importance"]
        self.background = background_arrays(facts["background"], self.columns)
        self.passengers = is_passenger_list(self.columns)
        described = PASSENGER_COLUMNS if self.passengers else {}
        row = row_type("Passenger" if self.passengers else "Row", self.columns, described)
        self.item = type(row.__name__, (row,), {
            "__annotations__": {"explain": bool},
            "__module__": __name__,
            "__doc__": "One row; a field that is left out, or null, is not known.",
            "explain": Field(False, description="Also say what moved the answer."),
        })  # fmt: skip
        self.example = self._example()  # type: ignore[misc]

    def _example(self) -> dict[str, Any]:
        if self.passengers:
            names = {column.name for column in self.columns}
            known = {name: value for name, value in PASSENGER.items() if name in names}
        else:
            known = {column.name: column.typical for column in self.columns if column.typical is not None}
        return {**known, "explain": True}

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
        probabilities = model(rows)["probabilities"]
        contributions = np.zeros((len(explain), len(self.players)))
        baselines = np.zeros(len(explain))
        for number in np.flatnonzero(explain):
            row = {name: values[number] for name, values in rows.items()}
            which = self.explained_class(probabilities[number])
            found, base = shapley_values(
                lambda inputs, which=which: model(inputs)["probabilities"][:, which : which + 1],  # type: ignore[misc]
                row, self.background, self.players,
            )  # fmt: skip
            contributions[number], baselines[number] = found[:, 0], base[0]
        return {"probabilities": probabilities, "contributions": contributions, "baselines": baselines}

    @staticmethod
    def explained_class(probabilities: np.ndarray) -> int:
        """Of two classes the second, whatever the answer; of more the likeliest."""
        return 1 if len(probabilities) == 2 else int(probabilities.argmax())

    def answer_for(self, item: Row, outputs: dict[str, np.ndarray]) -> Prediction:
        probabilities, labels = outputs["probabilities"], self.model.labels
        values = item.values()
        unknown = [column.name for column in self.columns if values.get(column.name) in (None, "")]
        prediction = Prediction(
            answer=labels[int(probabilities.argmax())],
            probabilities={label: float(p) for label, p in zip(labels, probabilities, strict=True)},
            unknown=unknown,
        )
        if not values.get(EXPLAIN):
            return prediction
        named = zip(self.players, outputs["contributions"], strict=True)
        return prediction.model_copy(update={
            "explained": labels[self.explained_class(probabilities)],
            "baseline": float(outputs["baselines"]),
            "contributions": {player: float(value) for player, value in named},
        })  # fmt: skip

    def page(self, predict: "PagePredict[Row, Prediction]") -> "gr.Blocks":
        from eda_titanic.capstone import CAPSTONE
        from eda_titanic.demo import build_page

        return build_page(CAPSTONE.title, CAPSTONE.summary, self, predict)
