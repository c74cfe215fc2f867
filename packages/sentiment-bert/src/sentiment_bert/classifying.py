"""Classifies and explains texts with a model of any runtime: an exported graph or a torch module."""

from collections.abc import Mapping, Sequence

import numpy as np
from dlcommon.runtime.arrays import Predict

from sentiment_bert.attribution import Attribution, empty_path, integrated_gradients
from sentiment_bert.tokenizer import Encoded, Tokenizer

LONGEST_PART = 126
"""Tokens of a sentence that are read at once, as in training; a longer sentence is read in parts."""
TOKENS_TOGETHER = 8192
"""Tokens of texts, padding included, that go through the network together."""


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of logits [..., classes]."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


class Reader:
    """Reads texts with a model's graph.

    Args:
        predict: `InferenceModel` as a predictor.
        metadata: of the graph: `tokenizer`.
    """

    def __init__(self, predict: Predict, metadata: Mapping[str, str]) -> None:
        self._predict = predict
        self.tokenizer = Tokenizer.from_json(metadata["tokenizer"])

    def rows(self, encoded: Sequence[Encoded]) -> list[list[int]]:
        """Returns texts as the graph reads them; of a longer one only the beginning."""
        return [self.tokenizer.row(one.ids[:LONGEST_PART]) for one in encoded]

    def logits(self, rows: Sequence[Sequence[int]], classes: int) -> np.ndarray:
        """Computes logits, float32 [rows, classes]; rows of similar length go through the network together."""
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        found = np.zeros((len(rows), classes), np.float32)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(rows[order[end]]) <= TOKENS_TOGETHER:
                end += 1
            numbers = order[start:end]
            ids = self.tokenizer.padded([rows[number] for number in numbers])
            found[numbers] = self.padded_logits(ids, classes)
            start = end
        return found

    def padded_logits(self, ids: np.ndarray, classes: int) -> np.ndarray:
        """Computes logits of padded rows, float32 [rows, classes]."""
        direction = np.zeros((len(ids), classes), np.float32)
        arrays = {"input_ids": ids, "baseline_ids": ids, "direction": direction, "path": empty_path(len(ids))}
        logits: np.ndarray = self._predict(arrays)["logits"]
        return logits

    def explain(self, ids: np.ndarray, direction: np.ndarray) -> Attribution:
        """Attributes logits along a direction [rows, classes] to the tokens of padded rows."""
        return integrated_gradients(self._predict, ids, direction, self.masked(ids))

    def masked(self, ids: np.ndarray) -> np.ndarray:
        """Returns padded rows with [MASK] in place of every token but [CLS], [SEP] and [PAD]."""
        kept = np.isin(ids, (self.tokenizer.cls, self.tokenizer.sep, self.tokenizer.pad))
        return np.where(kept, ids, self.tokenizer.mask)


def direction_of(logits: np.ndarray) -> np.ndarray:
    """Returns what an explanation explains: of two classes, the second over the first; of more, the best over the rest.

    Weights of the logits, float32 [rows, classes], which sum to 0.
    """
    rows, classes = logits.shape
    if classes == 2:
        return np.repeat(np.array([[-1, 1]], np.float32), rows, axis=0)
    direction = np.full((rows, classes), -1 / (classes - 1), np.float32)
    direction[np.arange(rows), logits.argmax(axis=1)] = 1
    return direction
