"""The rungs of the ladder besides the network: linear regression, support vectors, boosted trees.

All fit the logarithm of the price. A fitted one is a few named arrays (`arrays`), from which it predicts in NumPy and
writes itself as ONNX nodes: nothing has to be unpickled, and no training library is needed to predict.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from catboost import CatBoostRegressor
from dlcommon.runtime.tables.graph import Graph
from onnx import TensorProto
from sklearn.linear_model import ElasticNetCV
from sklearn.svm import SVR

from house_prices.scaling import Scaler

OUTLIER = 5.0
"""Robust standard deviations beyond which a training row's residual excludes it from the linear fit."""


class Regressor(ABC):
    """Features [rows, features] to a number [rows]."""

    arrays: dict[str, np.ndarray]
    """What was learnt."""

    @abstractmethod
    def fit(self, features: np.ndarray, target: np.ndarray) -> Self: ...

    @abstractmethod
    def predict(self, features: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def write(self, graph: Graph, features: str) -> str:
        """Writes the same as nodes; the result is [rows, 1]."""

    def restored(self, arrays: Mapping[str, np.ndarray]) -> Self:
        self.arrays = dict(arrays)
        return self

    @property
    def scaler(self) -> Scaler:
        return Scaler(self.arrays)


class TrimmedElasticNet(Regressor):
    """Fits a linear model with L1 and L2 penalties twice: the second time without the rows that the first one is
    far off on (as least trimmed squares does, Rousseeuw 1984). The penalty's strength is chosen by cross-validation
    within the training rows.
    """

    def fit(self, features: np.ndarray, target: np.ndarray) -> Self:
        scaler, mean = Scaler.fitted(features), float(target.mean())
        scaled = scaler.transform(features).astype(np.float64)

        def fitted(rows: np.ndarray) -> ElasticNetCV:
            search = ElasticNetCV(l1_ratio=0.5, alphas=np.geomspace(0.0015, 0.02, 8), cv=5, max_iter=5000)
            return search.fit(scaled[rows], target[rows] - mean)

        first = fitted(np.ones(len(target), bool))
        residual = np.abs(target - mean - first.predict(scaled))
        deviation = 1.4826 * np.median(residual)  # the normal distribution's, from the median absolute deviation
        final = fitted(residual < OUTLIER * deviation)
        return self.restored({
            **scaler.arrays, "weights": final.coef_.astype(np.float32)[:, None],
            "bias": np.array([final.intercept_ + mean], np.float32),
        })  # fmt: skip

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.scaler.transform(features) @ self.arrays["weights"] + self.arrays["bias"])[:, 0]

    def write(self, graph: Graph, features: str) -> str:
        scaled = self.scaler.write(graph, features)
        return graph.add("Gemm", scaled, graph.constant(self.arrays["weights"]), graph.constant(self.arrays["bias"]))


class SupportVectors(Regressor):
    """Applies support vector regression (Drucker et al. 1996) with a Gaussian kernel that weights the features.

    A feature's distance counts in proportion to `floor` plus its weight in the linear model, in units of the weights'
    root mean square.

    Args:
        linear: that model, fitted on the same rows.
        penalty: of a residual beyond the tube.
        gamma: of the kernel exp(-gamma · squared distance), where squared norms have mean one.
        tube: half the width of the tube in which residuals cost nothing.
        floor: relevance of a feature that the linear model does not use.
    """

    def __init__(
        self,
        linear: TrimmedElasticNet,
        penalty: float = 1.0,
        gamma: float = 0.25,
        tube: float = 0.03,
        floor: float = 0.3,
    ) -> None:
        self.linear, self.penalty, self.gamma, self.tube, self.floor = linear, penalty, gamma, tube, floor

    def fit(self, features: np.ndarray, target: np.ndarray) -> Self:
        scaler, mean = self.linear.scaler, float(target.mean())
        weights = np.abs(self.linear.arrays["weights"][:, 0])
        size = np.sqrt(np.mean(weights**2)) or 1.0  # a linear model that found nothing finds nothing relevant
        relevance = self.floor + weights / size
        scaled = scaler.transform(features)
        norm = np.mean((scaled * relevance) ** 2) * scaled.shape[1]
        relevance = (relevance * np.sqrt(self.gamma / norm)).astype(np.float32)
        machine = SVR(C=self.penalty, gamma=1.0, epsilon=self.tube).fit(scaled * relevance, target - mean)
        return self.restored({
            **scaler.arrays, "relevance": relevance, "vectors": machine.support_vectors_.astype(np.float32),
            "weights": machine.dual_coef_.T.astype(np.float32),
            "bias": np.array([machine.intercept_[0] + mean], np.float32),
        })  # fmt: skip

    def predict(self, features: np.ndarray) -> np.ndarray:
        places = self.scaler.transform(features) * self.arrays["relevance"]
        vectors = self.arrays["vectors"]
        distances = (places**2).sum(axis=1)[:, None] + (vectors**2).sum(axis=1) - 2 * places @ vectors.T
        return np.asarray(np.exp(-np.maximum(distances, 0)) @ self.arrays["weights"] + self.arrays["bias"])[:, 0]

    def write(self, graph: Graph, features: str) -> str:
        vectors = self.arrays["vectors"]
        places = graph.add("Mul", self.scaler.write(graph, features), graph.constant(self.arrays["relevance"]))
        own = graph.add("ReduceSumSquare", places, graph.constant([1], np.int64))
        others = graph.constant((vectors**2).sum(axis=1)[None])
        crossed = graph.add("MatMul", places, graph.constant(-2 * vectors.T))
        distances = graph.add("Relu", graph.add("Add", graph.add("Add", own, others), crossed))
        kernel = graph.add("Exp", graph.add("Neg", distances))
        return graph.add("Gemm", kernel, graph.constant(self.arrays["weights"]), graph.constant(self.arrays["bias"]))


class Boosting(Regressor):
    """CatBoost's oblivious trees (Prokhorenkova et al. 2018, https://arxiv.org/abs/1706.09516), the mean of members
    that differ in their seed.

    A split sees one feature in twenty, so that correlated ones, such as areas, share the work. In an oblivious tree
    all nodes of a level ask the same question, so a tree is `depth` questions, whose answers are the bits of a leaf's
    number; ONNX's tree operator would need each of the 2^depth - 1 nodes instead.
    """

    def __init__(self, seed: int, members: int, trees: int, learning_rate: float, depth: int = 5) -> None:
        self.seed, self.members, self.depth = seed, members, depth
        self.settings: dict[str, Any] = {
            "iterations": trees, "learning_rate": learning_rate, "depth": depth, "rsm": 0.05, "verbose": False,
            "allow_writing_files": False,
        }  # fmt: skip

    def fit(self, features: np.ndarray, target: np.ndarray) -> Self:
        models = []
        for member in range(self.members):
            model = CatBoostRegressor(random_seed=self.seed + member, **self.settings)
            model.fit(features, target)
            with TemporaryDirectory() as folder:
                path = Path(folder) / "model.json"
                model.save_model(str(path), format="json")
                models.append(json.loads(path.read_text()))
        return self.restored(_oblivious(models, self.depth))

    def predict(self, features: np.ndarray) -> np.ndarray:
        asked, borders = self.arrays["questions"], self.arrays["borders"]  # [trees, depth]
        powers = 1 << np.arange(self.depth)
        result = np.zeros(len(features))
        for question, border, leaves in zip(asked, borders, self.arrays["leaves"], strict=True):
            result += leaves[(features[:, question] > border) @ powers]
        return result + float(self.arrays["bias"][0])

    def write(self, graph: Graph, features: str) -> str:
        asked, leaves = self.arrays["questions"], self.arrays["leaves"]
        trees, size = leaves.shape
        values = graph.add("Gather", features, graph.constant(asked.reshape(-1), np.int64), axis=1)
        answers = graph.cast(graph.add("Greater", values, graph.constant(self.arrays["borders"].reshape(1, -1))))
        bits = graph.add("Reshape", answers, graph.constant([-1, trees, self.depth], np.int64))
        numbers = graph.add("MatMul", bits, graph.constant(2.0 ** np.arange(self.depth)))
        places = graph.add("Add", numbers, graph.constant((np.arange(trees) * size)[None]))
        found = graph.add("Gather", graph.constant(leaves.reshape(-1)), graph.cast(places, TensorProto.INT64))
        total = graph.add("ReduceSum", found, graph.constant([1], np.int64), keepdims=1)
        return graph.add("Add", total, graph.constant(self.arrays["bias"]))


def _oblivious(models: list[dict[str, Any]], depth: int) -> dict[str, np.ndarray]:
    """Converts CatBoost's own JSON to arrays; a tree that stopped early asks what is never so."""
    questions, borders, leaves = [], [], []
    for model in models:
        scale = model["scale_and_bias"][0]
        for tree in model["oblivious_trees"]:
            splits = tree["splits"] or []
            missing = depth - len(splits)
            questions.append([split["float_feature_index"] for split in splits] + [0] * missing)
            borders.append([split["border"] for split in splits] + [np.inf] * missing)
            values = np.array(tree["leaf_values"]) * scale / len(models)
            leaves.append(np.concatenate([values, np.zeros((1 << depth) - len(values))]))
    bias = sum(model["scale_and_bias"][1][0] for model in models) / len(models)
    return {
        "questions": np.array(questions, np.int64),
        "borders": np.array(borders, np.float32),
        "leaves": np.array(leaves, np.float32),
        "bias": np.array([bias], np.float32),
    }
