"""What a passenger list holds besides its columns: titles, decks, families, companions.

The features are built from whichever of Kaggle's columns a table has. Everything counted or averaged is fitted on
training rows alone.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.features import (
    Block,
    Number,
    OneHot,
    Patterns,
    Product,
    rounded_logarithm,
    write_rounded_logarithm,
)
from dlcommon.runtime.tables.graph import Graph
from onnx import TensorProto
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

TITLES = {
    title: rf"(?s)[^,]*, *(?:{spelled})\b.*"
    for title, spelled in {"Mr": "Mr", "Mrs": "Mrs|Mme", "Miss": "Miss|Mlle|Ms", "Master": "Master"}.items()
}
"""As both lists write them ("Braund, Mr. Owen Harris", "Allen, Miss Elisabeth Walton"); no match: another title."""
DECKS = {f"deck {deck}": rf"(?s){deck}.*" for deck in "ABCDEF"} | {"cabin known": r"(?s).+"}
CHILD = 14
"""Years below which a passenger counts as a child."""
SHRINKAGE = 0.5
"""Imagined companions of average fate, so that one companion is not certainty."""


def is_passenger_list(columns: Sequence[Column]) -> bool:
    """Tells whether a table has the columns that every passenger list has."""
    kinds = {column.name: column.kind for column in columns}
    expected = {"Name": "text", "Sex": "category", "Age": "number", "Pclass": "number"}
    return all(kinds.get(name) == kind for name, kind in expected.items())


class Age(Block):
    """Computes the age, the median of the same title where it is missing; whether it was; whether this is a child."""

    names: list[str] = ["Age", "Age missing", "child"]  # noqa: RUF012 — the base class's is no class variable
    sources = ("Age", "Name")

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        self.titles = Patterns("Name", TITLES)
        flags, age = self.titles.transform(columns), columns["Age"][:, 0]
        known = ~np.isnan(age)
        self.base = np.float32(np.median(age[known]) if known.any() else 30)
        medians = [age[known & (flag > 0)] for flag in flags.T]
        self.offsets = np.array([np.median(m) - self.base if m.size else 0 for m in medians], np.float32)[:, None]

    def transform(self, columns: Arrays) -> np.ndarray:
        age = columns["Age"]
        missing = np.isnan(age)
        filled = np.where(missing, self.titles.transform(columns) @ self.offsets + self.base, age)
        return np.hstack([filled, missing, filled < CHILD]).astype(np.float32)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        missing = graph.add("IsNaN", inputs["Age"])
        shift = graph.add("MatMul", self.titles.write(graph, inputs), graph.constant(self.offsets))
        typical = graph.add("Add", shift, graph.constant(self.base))
        filled = graph.add("Where", missing, typical, inputs["Age"])
        child = graph.add("Less", filled, graph.constant(CHILD))
        return graph.add("Concat", filled, graph.cast(missing), graph.cast(child), axis=1)


class Family(Block):
    """Computes the size of the family aboard, whether there is none, whether it is large; unknown counts are 0."""

    names: list[str] = ["family size", "alone", "large family"]  # noqa: RUF012
    sources = ("SibSp", "Parch")

    def transform(self, columns: Arrays) -> np.ndarray:
        size = np.nan_to_num(columns["SibSp"]) + np.nan_to_num(columns["Parch"]) + 1
        return np.hstack([size, size == 1, size >= 5]).astype(np.float32)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        size = write_family_size(graph, inputs)
        alone = graph.add("Equal", size, graph.constant(1))
        large = graph.add("Greater", size, graph.constant(4))
        return graph.add("Concat", size, graph.cast(alone), graph.cast(large), axis=1)


def write_family_size(graph: Graph, inputs: Mapping[str, str]) -> str:
    zero = graph.constant(0)
    known = [graph.add("Where", graph.add("IsNaN", inputs[name]), zero, inputs[name]) for name in ("SibSp", "Parch")]
    return graph.add("Add", graph.add("Add", *known), graph.constant(1))


class Ticket(Block):
    """Counts the training passengers who share the ticket; adds the fare, and the fare per head."""

    names: list[str] = ["ticket group", "fare", "fare per head"]  # noqa: RUF012
    sources = ("Ticket", "Fare", "SibSp", "Parch")

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        fare = columns["Fare"]
        self.median = np.float32(np.nanmedian(fare) if np.isfinite(fare).any() else 0)
        counts = Counter(ticket for ticket in columns["Ticket"][:, 0] if ticket)
        self.sizes = {ticket: float(count) for ticket, count in counts.items() if count > 1}

    def transform(self, columns: Arrays) -> np.ndarray:
        group = np.array([[self.sizes.get(ticket, 1.0)] for ticket in columns["Ticket"][:, 0]], np.float32)
        family = np.nan_to_num(columns["SibSp"]) + np.nan_to_num(columns["Parch"]) + np.float32(1)
        fare = np.where(np.isnan(columns["Fare"]), self.median, columns["Fare"]).astype(np.float32)
        per_head = fare / np.maximum(np.maximum(group, family), np.float32(1))
        return np.hstack([group, rounded_logarithm(fare), rounded_logarithm(per_head)])

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        group = graph.lookup(inputs["Ticket"], self.sizes, 1.0)
        fare = graph.add("Where", graph.add("IsNaN", inputs["Fare"]), graph.constant(self.median), inputs["Fare"])
        heads = graph.add("Max", group, write_family_size(graph, inputs), graph.constant(1))
        per_head = write_rounded_logarithm(graph, graph.add("Div", fare, heads))
        return graph.add("Concat", group, write_rounded_logarithm(graph, fare), per_head, axis=1)


class CompanionFate(Block):
    """Tells how the training passengers who share the ticket, or the surname and class of a family, fared.

    For each of the two: the companions' balance of survivors against the average, shrunk, and their number. A
    training passenger's own fate is left out of his own features, and a passenger without known companions has zeros:
    then the feature says nothing, as on another ship. Classes must be 0 and 1.
    """

    names: list[str] = [  # noqa: RUF012
        "fate of the ticket's others", "ticket's others known", "fate of the family", "family known",
    ]  # fmt: skip
    sources = ("Ticket", "Name", "Pclass", "SibSp", "Parch")

    def keys(self, columns: Arrays) -> tuple[list[str], list[str]]:
        """Returns ticket and family of each passenger, "" where there is none."""
        size = np.nan_to_num(columns["SibSp"]) + np.nan_to_num(columns["Parch"]) + 1
        families = [
            f"{(name + ',').split(',', 1)[0]}|{int(np.nan_to_num(pclass))}" if name and members > 1 else ""
            for name, pclass, members in zip(columns["Name"][:, 0], columns["Pclass"][:, 0], size[:, 0], strict=True)
        ]
        return list(columns["Ticket"][:, 0]), families

    def fit(self, columns: Arrays, target: np.ndarray) -> None:
        self.average = float(target.mean())
        self.tables: list[dict[str, tuple[int, int]]] = []
        for keys in self.keys(columns):
            members, survivors = Counter(keys), Counter(k for k, fate in zip(keys, target, strict=True) if fate == 1)
            self.tables.append({key: (survivors[key], count) for key, count in members.items() if key})

    def balance(self, survivors: float, companions: float) -> float:
        return (survivors - self.average * companions) / (companions + SHRINKAGE)

    def _features(self, columns: Arrays, own: np.ndarray | None) -> np.ndarray:
        result = np.zeros((len(columns["Ticket"]), 4), np.float32)
        for place, (keys, table) in enumerate(zip(self.keys(columns), self.tables, strict=True)):
            for row, key in enumerate(keys):
                survivors, companions = table.get(key, (0, 0))
                if own is not None and key:
                    survivors, companions = survivors - int(own[row]), companions - 1
                result[row, 2 * place : 2 * place + 2] = self.balance(survivors, companions), companions
        return result

    def transform(self, columns: Arrays) -> np.ndarray:
        return self._features(columns, None)

    def fit_transform(self, columns: Arrays, target: np.ndarray) -> np.ndarray:
        self.fit(columns, target)
        return self._features(columns, target)

    def write(self, graph: Graph, inputs: Mapping[str, str]) -> str:
        name, comma = inputs["Name"], graph.constant([[","]], object)
        parts = graph.add("StringSplit", graph.add("StringConcat", name, comma), delimiter=",", maxsplit=1)
        graph.nodes[-1].output.append(f"{parts}_counts")
        surname = graph.add("Gather", parts, graph.constant(0, np.int64), axis=2)
        known = graph.add("IsNaN", inputs["Pclass"])
        pclass = graph.add("Where", known, graph.constant(0), inputs["Pclass"])
        pclass = graph.cast(graph.cast(pclass, TensorProto.INT64), TensorProto.STRING)
        separator = graph.constant([["|"]], object)
        family = graph.add("StringConcat", graph.add("StringConcat", surname, separator), pclass)
        has_family = graph.cast(graph.add("Greater", write_family_size(graph, inputs), graph.constant(1)))
        named = graph.cast(graph.add("RegexFullMatch", name, pattern="(?s).+"))
        counted = graph.add("Mul", has_family, named)
        written = []
        for place, (key, table) in enumerate(zip((inputs["Ticket"], family), self.tables, strict=True)):
            balances = {k: self.balance(*counts) for k, counts in table.items()}
            numbers = {k: counts[1] for k, counts in table.items()}
            for values in (graph.lookup(key, balances, 0.0), graph.lookup(key, numbers, 0.0)):
                written.append(values if place == 0 else graph.add("Mul", values, counted))
        return graph.add("Concat", *written, axis=1)


def passenger_blocks(columns: Sequence[Column], companions: bool) -> list[Block]:
    """Makes the features of a passenger list; a column that is not a known one is used as in any table."""
    names = {column.name for column in columns}
    blocks: list[Block] = [
        OneHot("Sex"), OneHot("Pclass"), Number("Pclass"), Patterns("Name", TITLES), Age(),
        Product(OneHot("Sex"), OneHot("Pclass")),
    ]  # fmt: skip
    if relatives := {"SibSp", "Parch"} <= names:
        blocks += [Family(), Number("SibSp"), Number("Parch")]
    if relatives and {"Ticket", "Fare"} <= names:
        blocks.append(Ticket())
        if companions:
            blocks.append(CompanionFate())
    if "Cabin" in names:
        blocks.append(Patterns("Cabin", DECKS))
    if "Embarked" in names:
        blocks.append(OneHot("Embarked"))
    return blocks


def groups(columns: Arrays) -> np.ndarray:
    """Numbers the groups of passengers tied by a ticket or a family, [rows]."""
    n = len(columns["Name"])
    if not {"Ticket", "SibSp", "Parch"} <= set(columns):
        keys = [[surname(name) for name in columns["Name"][:, 0]]]
    else:
        keys = list(CompanionFate().keys(columns))
    links: list[tuple[int, int]] = []
    seen: dict[tuple[int, str], int] = {}
    for kind, values in enumerate(keys):
        for row, key in enumerate(values):
            links.append((row, seen.setdefault((kind, key), row) if key else row))
    left, right = np.array(links).T
    return np.asarray(connected_components(coo_matrix((np.ones(len(left)), (left, right)), (n, n)), False)[1])


def surname(name: str) -> str:
    return re.split(",", name, maxsplit=1)[0]
