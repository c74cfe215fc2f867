"""Draws tokens one after the other from a model that keeps a state of what it has read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from dlcommon.runtime.arrays import Predict
from dlcommon.transformer.sampling import Sampling

from char_lm import tokenizer as tokenizers
from char_lm.tokenizer import Tokenizer

SHOWN = 5
"""Most probable tokens that are reported with each step."""


@dataclass(frozen=True)
class Written:
    """Holds one drawn token."""

    text: str
    """The characters it completes; empty while a character is still in parts."""
    next: dict[str, float] = field(default_factory=dict)
    """The most probable tokens, by the text that each would add, with their probabilities."""


class Decoder:
    """Writes with a model of any runtime: an exported graph or a torch module.

    Args:
        predict: `Step` as a predictor.
        metadata: of the graph: `tokenizer`, `context` and `state`.
    """

    def __init__(self, predict: Predict, metadata: Mapping[str, str]) -> None:
        self._predict = predict
        self.tokenizer: Tokenizer = tokenizers.from_json(metadata["tokenizer"])
        self.context = int(metadata["context"])
        self._state: dict[str, list[int]] = json.loads(metadata["state"])
        """Name to shape of an empty state, without the batch."""

    def initial_state(self, batch: int) -> dict[str, np.ndarray]:
        return {name: np.zeros((batch, *shape), np.float32) for name, shape in self._state.items()}

    def step(
        self, tokens: np.ndarray, position: int, state: dict[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns logits [batch, tokens, vocabulary] and the state after these tokens [batch, tokens]."""
        arrays = {"tokens": tokens, "position": np.full(len(tokens), position, np.int64), **state}
        outputs = self._predict(arrays)
        return outputs["logits"], {name: outputs[f"next_{name}"] for name in state}

    def write(
        self, prompt: np.ndarray, tokens: int, sampling: Sampling, random: np.random.Generator
    ) -> Iterator[Written]:
        """Draws this many tokens after the prompt, int64 [length].

        The model looks back over its last `context` tokens: only the end of a longer prompt is read, and tokens
        further back are forgotten. An empty prompt starts like a new line of the text.
        """
        prompt = prompt[-self.context :]
        seen = np.zeros(self.tokenizer.size, dtype=bool)
        seen[prompt] = True
        decode = self.tokenizer.decoder()
        feed = prompt if len(prompt) else self._start()
        state, position = self.initial_state(1), 0
        for _ in range(tokens):
            logits, state = self.step(feed[None], position, state)
            position += len(feed)
            state = self._recent(state)
            probabilities = sampling.probabilities(logits[0, -1], seen)
            token = int(random.choice(len(probabilities), p=probabilities))
            likely = np.argsort(-probabilities, kind="stable")[:SHOWN]
            told = {self._shown(int(one)): float(probabilities[one]) for one in likely if probabilities[one] > 0}
            yield Written(decode(token), told)
            seen[token] = True
            feed = np.asarray([token], np.int64)

    def _start(self) -> np.ndarray:
        """Returns a line break where the vocabulary has one, else its first token, as int64 [1]."""
        try:
            return self.tokenizer.encode("\n")[-1:]
        except ValueError:
            return np.zeros(1, np.int64)

    def _recent(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Forgets what lies more than a context back; leaves a state that does not grow as it is."""
        if "keys" not in state:
            return state
        return {name: array[:, :, :, -(self.context - 1) :] for name, array in state.items()}

    def _shown(self, token: int) -> str:
        return self.tokenizer.decode(np.asarray([token]))
