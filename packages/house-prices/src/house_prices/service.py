"""What the server answers about a house."""

import json
from typing import Any

import numpy as np
from dlcommon.runtime.data.house_prices import READERS
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import Answer
from dlcommon.runtime.tables.columns import Column, with_readers
from dlcommon.runtime.tables.items import Row
from dlcommon.runtime.tables.table_service import EXPLAIN, TableService
from pydantic import BaseModel, Field

from house_prices.houses import DESCRIPTIONS, GROUPS

MOST_SIMILAR = 5
HOUSE = {
    "Neighborhood": "NAmes", "GrLivArea": 1500, "LotArea": 9500, "YearBuilt": 1970, "OverallQual": 6, "OverallCond": 6,
    "YearRemodAdd": 1990, "1stFlrSF": 1100, "2ndFlrSF": 400, "TotalBsmtSF": 1000, "FullBath": 2, "GarageCars": 2,
}  # fmt: skip


class SoldHouse(BaseModel):
    """A sold house that resembles the one asked about."""

    price: float = Field(description="Dollars that it sold for.")
    facts: dict[str, float | str | None] = Field(description="Some of its columns.")
    distance: float = Field(
        description="Between what the groups of columns add to the log price of either, by the linear model."
    )


class Price(Answer):
    """The price, its interval, the sold houses that are most alike, and, where asked for, what moved it."""

    price: float = Field(description="Dollars.")
    low: float = Field(description="Lower end of the interval, dollars.")
    high: float = Field(description="Upper end of the interval, dollars.")
    coverage: float = Field(description="Share of houses whose price such an interval holds.")
    models: dict[str, float] = Field(description="What each model of the blend says, dollars.")
    similar: list[SoldHouse]
    unknown: list[str] = Field(description="Columns that were not given; what is typical is assumed of them.")
    unusual: list[str] = Field(description="Values outside what the model was trained on: trust the price less.")
    baseline: float | None = Field(default=None, description="Price of a house that is typical in every column.")
    contributions: dict[str, float] | None = Field(
        default=None,
        description="Exact Shapley values in dollars: what each group of columns adds to the baseline.",
    )


class HouseService(TableService[Price]):
    """Answers rows with the columns that the model's file names."""

    row_name = "House"
    answer = Price

    def __init__(self, model: OnnxModel) -> None:
        columns = with_readers([Column.from_json(one) for one in json.loads(model.metadata["columns"])], READERS)
        names = [column.name for column in columns]
        players = {group: [name for name in members if name in names] for group, members in GROUPS.items()}
        super().__init__(model, columns, players, typical_house(columns), DESCRIPTIONS)
        self.importance: dict[str, float] = json.loads(model.metadata["importance"])["columns"]
        self.coverage: float = json.loads(model.metadata["interval"])["coverage"]
        self.rungs: dict[str, float] = json.loads(model.metadata["rungs"])
        sold = json.loads(model.metadata["sold"])
        self.profiles, self.prices = np.array(sold.pop("profile"), np.float32), sold.pop("price")
        self.sold: dict[str, list[Any]] = sold
        self.example = self.example_of(HOUSE)  # type: ignore[misc]

    def explained(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        return outputs["price"]

    def answer_for(self, item: Row, outputs: dict[str, np.ndarray]) -> Price:
        price = Price(
            price=float(outputs["price"][0]),
            low=float(outputs["interval"][0]),
            high=float(outputs["interval"][1]),
            coverage=self.coverage,
            models={name: float(value) for name, value in zip(self.rungs, outputs["rungs"], strict=True)},
            similar=self.similar(outputs["profile"]),
            unknown=self.unknown(item),
            unusual=self.unusual(item),
        )
        if not item.values().get(EXPLAIN):
            return price
        return price.model_copy(update={
            "baseline": float(outputs["baselines"][0]),
            "contributions": self.named(outputs["contributions"][:, 0]),
        })  # fmt: skip

    def similar(self, profile: np.ndarray) -> list[SoldHouse]:
        """Finds the training houses nearest to a profile [groups]."""
        distances = np.sqrt(np.square(self.profiles - profile).sum(axis=1))
        return [
            SoldHouse(
                price=self.prices[place],
                facts={name: values[place] for name, values in self.sold.items()},
                distance=float(distances[place]),
            )
            for place in np.argsort(distances, kind="stable")[:MOST_SIMILAR].tolist()
        ]


def typical_house(columns: list[Column]) -> dict[str, np.ndarray]:
    """Makes one row of every column's typical value, [1, 1] each."""
    return {
        column.name: np.array([[column.typical]], np.float32 if column.kind == "number" else object)
        for column in columns
    }
