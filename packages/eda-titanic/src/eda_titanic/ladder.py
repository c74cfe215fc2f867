"""The models: features, and on them logistic regression, gradient boosting, a small network, or the mean of the three.

Each rung of the ladder has a few settings to choose among; the choice is made by cross-entropy in cross-validation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import onnx
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.features import Block, Features, Number, OneHot, Patterns, text_type
from dlcommon.runtime.tables.graph import OPSETS, Graph
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from eda_titanic.network import NetworkClassifier
from eda_titanic.passengers import CompanionFate, is_passenger_list, passenger_blocks

LADDER: tuple[str, ...] = ("logistic regression", "gradient boosting", "network")
RUNGS: tuple[str, ...] = (*LADDER, "blend")

SETTINGS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "logistic regression": [{"C": 0.01}, {"C": 0.03}, {"C": 0.1}, {"C": 0.3}],
    "gradient boosting": [
        {"max_depth": 2, "n_estimators": 150},
        {"max_depth": 3, "n_estimators": 100},
        {"max_depth": 4, "n_estimators": 60},
    ],
    "network": [{"width": 16, "dropout": 0.3}, {"width": 32, "dropout": 0.5}],
}
Choice = dict[str, int]
"""Rung to the number of its setting."""


class Estimator(Protocol):
    """Describes what scikit-learn's classifiers and ours have in common."""

    def fit(self, features: np.ndarray, target: np.ndarray) -> Any: ...
    def predict_proba(self, features: np.ndarray) -> np.ndarray: ...


def make_estimator(rung: str, setting: int, seed: int) -> Estimator:
    options = SETTINGS[rung][setting]
    if rung == "logistic regression":
        pipeline: Estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, **options))
        return pipeline
    if rung == "gradient boosting":
        boosting: Estimator = GradientBoostingClassifier(
            learning_rate=0.05, subsample=0.7, max_features=0.4, min_samples_leaf=8, random_state=seed, **options
        )
        return boosting
    return NetworkClassifier(epochs=25, members=2, decay=0.2, seed=seed, **options)


def blocks_for(columns: Sequence[Column], companions: bool) -> list[Block]:
    """Makes the features that suit a table. A column of free text only counts as present or not."""
    if is_passenger_list(columns):
        return passenger_blocks(columns, companions)
    blocks: list[Block] = []
    for column in columns:
        if column.kind == "number" and column.distinct:
            skewed = (
                column.low is not None
                and column.low >= 0
                and (column.high or 0) > 20 * (float(column.typical or 0) + 1)
            )
            blocks.append(Number(column.name, logarithm=skewed))
            if column.whole and 2 < column.distinct <= 10:
                blocks.append(OneHot(column.name))
        elif column.kind == "category":
            blocks.append(OneHot(column.name))
        elif 0.01 < column.missing < 0.99:
            blocks.append(Patterns(column.name, {f"{column.name} known": "(?s).+"}))
    return blocks


class TableModel:
    """Maps raw columns to probabilities; everything that is learnt is learnt by `fit`.

    Args:
        rungs: estimators whose probabilities are averaged.
    """

    def __init__(
        self, columns: Sequence[Column], rungs: Sequence[str], choice: Choice, companions: bool, seed: int
    ) -> None:
        self.columns = list(columns)
        self.features = Features(blocks_for(columns, companions))
        self.estimators = [make_estimator(rung, choice[rung], seed) for rung in rungs]

    def fit(self, arrays: Arrays, target: np.ndarray) -> Self:
        """Trains on rows [rows, 1] a column and classes [rows] as 0, 1, …."""
        features, target = prepared(self.features, arrays, target)
        for estimator in self.estimators:
            estimator.fit(features, target)
        return self

    def predict_proba(self, arrays: Arrays) -> np.ndarray:
        """Predicts probabilities [rows, classes], the mean of the estimators'."""
        features = self.features.transform(arrays)
        return np.asarray(np.mean([estimator.predict_proba(features) for estimator in self.estimators], axis=0))

    def to_onnx(self, num_classes: int) -> onnx.ModelProto:
        """Writes the whole model: preprocessing node by node, scikit-learn's estimators converted by skl2onnx."""
        graph = Graph()
        features = self.features.write(graph, {column.name: column.name for column in self.columns})
        outputs = []
        for estimator in self.estimators:
            if isinstance(estimator, NetworkClassifier):
                outputs.append(estimator.write(graph, features))
            else:
                outputs.append(graph.embed(_converted(estimator, len(self.features.names)), features, "probabilities"))
        mean = graph.add("Mean", *outputs) if len(outputs) > 1 else outputs[0]
        kinds = {column.name: text_type(column.kind != "number") for column in self.columns}
        return graph.model(kinds, {"probabilities": (mean, num_classes)})


def prepared(features: Features, arrays: Arrays, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns training features and classes; where companions' fate is among them, every row comes twice.

    In the second copy it is zeros, as for someone without known companions: a model that has only seen families whose
    fate it knew would take the silence about another family for a sign.
    """
    made = features.fit_transform(arrays, target)
    fates = [isinstance(block, CompanionFate) for block in features.blocks for _ in block.names]
    if not any(fates):
        return made, target
    return np.vstack([made, np.where(fates, np.float32(0), made)]), np.concatenate([target, target])


def _converted(estimator: Pipeline | GradientBoostingClassifier, features: int) -> onnx.ModelProto:
    model: onnx.ModelProto = to_onnx(
        estimator, initial_types=[("features", FloatTensorType([None, features]))], target_opset=OPSETS,
        options={"zipmap": False},
    )  # fmt: skip
    return model
