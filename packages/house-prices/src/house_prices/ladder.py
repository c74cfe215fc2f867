"""The model of a price: features, on them the ladder's rungs, their weighted mean, and the interval around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import onnx
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.tables.columns import Column
from dlcommon.runtime.tables.features import Features, OneHot, text_type
from dlcommon.runtime.tables.graph import Graph

from house_prices.config import Config
from house_prices.houses import GROUPS, ImputedColumns, house_blocks
from house_prices.network import Network
from house_prices.regressors import Boosting, Regressor, SupportVectors, TrimmedElasticNet

LADDER: tuple[str, ...] = ("elastic net", "support vectors", "boosting", "network")
RUNGS: tuple[str, ...] = (*LADDER, "blend")


@dataclass(frozen=True)
class Interval:
    """Computes half the width of an interval of log prices: `scale` · (`floor` + the rungs' standard deviation)."""

    floor: float
    scale: float


class HouseModel:
    """Maps raw columns to log prices; everything that is learnt is learnt by `fit`, or restored from arrays."""

    def __init__(self, columns: Sequence[Column], config: Config, seed: int) -> None:
        self.columns = [column for column in columns if column.kind != "text"]
        self.filled, self.features = ImputedColumns(columns), Features(house_blocks(columns))
        self.config, self.seed = config, seed

    def _prepared(self, arrays: Arrays, log_prices: np.ndarray) -> np.ndarray:
        self.filled.fit(arrays)
        features = self.features.fit_transform(self.filled.transform(arrays), log_prices)
        config, seed, linear = self.config, self.seed, TrimmedElasticNet()
        self.rungs: dict[str, Regressor] = {  # in the order in which they are fitted
            "elastic net": linear,
            "support vectors": SupportVectors(linear),
            "boosting": Boosting(seed, config.members, config.trees, config.tree_rate),
            "network": Network(self._categories(), seed, config.members, config.epochs),
        }
        return features

    def _categories(self) -> list[slice]:
        """Finds where each category's flags stand among the features."""
        slices, place = [], 0
        for block in self.features.blocks:
            if isinstance(block, OneHot):
                slices.append(slice(place, place + len(block.names)))
            place += len(block.names)
        return slices

    def fit(self, arrays: Arrays, log_prices: np.ndarray) -> Self:
        """Trains on rows [rows, 1] a column and log prices [rows]."""
        features = self._prepared(arrays, log_prices)
        for rung in self.rungs.values():
            rung.fit(features, log_prices)
        return self

    def restored(self, arrays: Arrays, log_prices: np.ndarray, learnt: Mapping[str, np.ndarray]) -> Self:
        """Restores the state after `fit` on the same rows; `learnt` is what `learnt_arrays` returned."""
        self._prepared(arrays, log_prices)
        for name, rung in self.rungs.items():
            prefix = f"{name}/"
            rung.restored({k.removeprefix(prefix): v for k, v in learnt.items() if k.startswith(prefix)})
        return self

    def learnt_arrays(self) -> dict[str, np.ndarray]:
        return {f"{name}/{key}": v for name, rung in self.rungs.items() for key, v in rung.arrays.items()}

    def predict(self, arrays: Arrays) -> np.ndarray:
        """Predicts the log prices of every rung, [rows, rungs]."""
        features = self.features.transform(self.filled.transform(arrays))
        return np.stack([rung.predict(features) for rung in self.rungs.values()], axis=1)

    def profile(self, arrays: Arrays) -> np.ndarray:
        """Computes what each group of columns adds to the linear rung's log price, [rows, groups].

        Houses that are alike in what buyers pay for are near each other in it.
        """
        linear = self.rungs["elastic net"]
        features = self.features.transform(self.filled.transform(arrays))
        return np.asarray(linear.scaler.transform(features) @ self._group_weights())

    def _group_weights(self) -> np.ndarray:
        """Spreads the linear rung's weights, each into the column of its feature's group, [features, groups]."""
        weights = self.rungs["elastic net"].arrays["weights"][:, 0]
        sources = [source for block in self.features.blocks for source in block.sources_of_each()]
        names = list(GROUPS)
        result = np.zeros((len(weights), len(names)), np.float32)
        for place, (weight, columns) in enumerate(zip(weights, sources, strict=True)):
            group = next((name for name in names if set(GROUPS[name]) & set(columns)), names[-1])
            result[place, names.index(group)] = weight
        return result

    def to_onnx(self, weights: Sequence[float], interval: Interval) -> onnx.ModelProto:
        """Writes the whole model, from columns as they are in the file to dollars.

        Outputs: `price` [rows, 1], `interval` [rows, 2], `rungs` [rows, rungs] and `profile` [rows, groups].
        """
        graph = Graph()
        filled = self.filled.write(graph, {column.name: column.name for column in self.columns})
        features = self.features.write(graph, filled)
        logs = graph.add("Concat", *[rung.write(graph, features) for rung in self.rungs.values()], axis=1)
        blend = graph.add("MatMul", logs, graph.constant(np.array(weights)[:, None]))
        mean = graph.add("ReduceMean", logs, graph.constant([1], np.int64))
        centred = graph.add("Sub", logs, mean)
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), graph.constant([1], np.int64))
        spread = graph.add("Add", graph.add("Sqrt", variance), graph.constant(interval.floor))
        half = graph.add("Mul", spread, graph.constant([[-interval.scale, interval.scale]]))
        scaled = self.rungs["elastic net"].scaler.write(graph, features)
        outputs = {
            "price": (graph.add("Exp", blend), 1),
            "interval": (graph.add("Exp", graph.add("Add", blend, half)), 2),
            "rungs": (graph.add("Exp", logs), len(self.rungs)),
            "profile": (graph.add("MatMul", scaled, graph.constant(self._group_weights())), len(GROUPS)),
        }
        kinds = {column.name: text_type(column.kind != "number") for column in self.columns}
        return graph.model(kinds, outputs)


def answers(model: HouseModel, arrays: Arrays, weights: Sequence[float], interval: Interval) -> dict[str, np.ndarray]:
    """Computes the same outputs in NumPy."""
    logs = model.predict(arrays)
    blend = logs @ np.array(weights)
    half = interval.scale * (logs.std(axis=1) + interval.floor)
    return {
        "price": np.exp(blend)[:, None].astype(np.float32),
        "interval": np.exp(np.stack([blend - half, blend + half], axis=1)).astype(np.float32),
        "rungs": np.exp(logs).astype(np.float32),
        "profile": model.profile(arrays).astype(np.float32),
    }
