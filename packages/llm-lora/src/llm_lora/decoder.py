"""Writes several answers at once with one step of the model for all; NumPy and an exported graph alone.

Each generation has a row of the cache. Rows that end are filled by the last one, so that the rows in use are always the
first ones, and are handed to the graph without a copy.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from dlcommon.runtime.arrays import Predict
from dlcommon.transformer.sampling import Sampling

from llm_lora.adapter_matrix import ADAPTER, SCALE

CHUNK = 256
"""Tokens of prompts that one step reads at most, so that answers in progress do not wait for a long prompt."""
FEWEST_PLACES = 128
"""Smallest capacity of the cache, in tokens; it is doubled as answers grow."""


@dataclass(frozen=True)
class TokenChance:
    """Holds a token with the logarithm of its probability, before temperature and filters."""

    token: int
    log_prob: float


@dataclass(frozen=True)
class Drawn:
    """Holds the token that a step has drawn."""

    token: int
    log_prob: float | None = None
    """Logarithm of its probability, before temperature and filters; None where it was not asked for."""
    top: tuple[TokenChance, ...] = ()
    """The most probable tokens, as many as were asked for."""


@dataclass(eq=False)
class Writing:
    """Holds one text that is being written: what was read, and how to go on."""

    prompt: np.ndarray
    """int64 [tokens], at least one."""
    sampling: Sampling
    random: np.random.Generator
    adapter: str | None = None
    """Name of the adapter; None: the base alone."""
    log_probs: bool = False
    """Whether the probabilities of drawn tokens are computed."""
    top: int = 0
    """Most probable tokens to report with each."""
    row: int | None = None
    """Its row of the cache, from its first step on."""
    read: int = 0
    """Tokens that are in the cache."""
    tokens: list[int] = field(default_factory=list)
    """Tokens that were drawn; the last is not in the cache yet."""
    seen: np.ndarray | None = None
    """bool [vocabulary], the tokens that occurred; kept where they are penalized."""

    @property
    def reads_prompt(self) -> bool:
        return self.read < len(self.prompt)


class Decoder:
    """Holds the cache of the texts in progress, and makes steps.

    Args:
        predict: `DecodingStep` as a predictor.
        metadata: of the graph.
        adapter: matrix of all adapters, [all ranks, size]; None: what the graph holds.
        scales: name of each adapter to its `lora_scale`, [all ranks].
    """

    def __init__(
        self,
        predict: Predict,
        metadata: Mapping[str, str],
        adapter: np.ndarray | None = None,
        scales: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._predict, self._scales = predict, dict(scales or {})
        self._defaults = {} if adapter is None else {ADAPTER: adapter}
        self._layers, self._kv_heads, self._head_dim = self.cache_shape(metadata)
        self._rows: list[Writing] = []
        self._keys = self._values = self._empty(0, 0)

    @staticmethod
    def cache_shape(metadata: Mapping[str, str]) -> tuple[int, int, int]:
        """Returns layers, heads of keys and values, and width of a head, from the metadata of a graph."""
        layers, kv_heads, head_dim = json.loads(metadata["cache"])
        return layers, kv_heads, head_dim

    @property
    def rows_in_use(self) -> int:
        return len(self._rows)

    def step(self, sequences: Sequence[Writing]) -> list[Drawn | Exception | None]:
        """Advances these texts by one token each; those whose prompts are long are given None while they are read.

        First all drawn tokens are read together, then prompts, in order, as many tokens as `CHUNK`. Where the first
        fails, that is raised and nothing has changed; where reading a prompt fails, that text alone is given the error.
        """
        for one in sequences:
            if one.row is None:
                one.row = len(self._rows)
                self._rows.append(one)
        drawn: dict[int, Drawn | Exception] = {}
        writing = [one for one in sequences if not one.reads_prompt]
        if writing:
            logits = self._read_drawn(writing)
            drawn |= {id(one): self._draw(one, logits[one.row]) for one in writing}
        left = CHUNK
        for one in sequences:
            if one.reads_prompt and one not in writing and left > 0:
                part = one.prompt[one.read : one.read + left]
                left -= len(part)
                try:
                    logits = self._read_prompt(one, part)
                    if not one.reads_prompt:
                        drawn[id(one)] = self._draw(one, logits)
                except Exception as error:  # whatever the runtime raises, such as for want of memory
                    drawn[id(one)] = error
        return [drawn.get(id(one)) for one in sequences]

    def release(self, sequence: Writing) -> None:
        """Gives the row of a text to others."""
        if sequence.row is None:
            return
        last = self._rows.pop()
        if last is not sequence:  # fills the gap
            row = sequence.row
            for cache in (self._keys, self._values):
                cache[row, :, :, : last.read] = cache[last.row, :, :, : last.read]
            self._rows[row], last.row = last, row
        sequence.row = None
        if not self._rows:
            self._keys = self._values = self._empty(0, 0)

    def _read_drawn(self, writing: Sequence[Writing]) -> np.ndarray:
        """Reads the last token of each text; returns logits [rows, vocabulary]."""
        self._make_room(1 + max(one.read for one in writing))
        # Rows that wait go through the step as well: that takes less time than to copy the others' caches.
        count = len(self._rows)
        tokens = np.zeros((count, 1), np.int64)
        for one in writing:
            tokens[one.row] = one.tokens[-1]
        outputs = self._run(slice(0, count), tokens, np.zeros((count, 1), np.int64))
        for one in writing:
            self._keep(one, outputs, one.row, 1)
        return outputs["logits"][:, 0]

    def _read_prompt(self, one: Writing, part: np.ndarray) -> np.ndarray:
        """Reads some tokens of a prompt; returns the logits after the last of them, [vocabulary]."""
        assert one.row is not None
        self._make_room(one.read + len(part))
        wanted = np.array([[len(part) - 1]], np.int64)
        outputs = self._run(slice(one.row, one.row + 1), part[None], wanted)
        self._keep(one, outputs, 0, len(part))
        logits: np.ndarray = outputs["logits"][0, 0]
        return logits

    def _run(self, rows: slice, tokens: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
        running = self._rows[rows]
        longest = max(one.read for one in running)
        # A first chunk needs no cache; else the whole capacity goes in, of which the graph reads what is filled.
        keys, values = (cache[rows] if longest else cache[rows, :, :, :0] for cache in (self._keys, self._values))
        arrays = {
            "tokens": tokens,
            "past_lengths": np.array([one.read for one in running], np.int64),
            "keys": keys,
            "values": values,
            "wanted": wanted,
        }
        if self._scales:
            nothing = np.zeros_like(next(iter(self._scales.values())))
            arrays[SCALE] = np.stack([nothing if one.adapter is None else self._scales[one.adapter] for one in running])
        return self._predict({**arrays, **self._defaults})

    def _keep(self, one: Writing, outputs: Mapping[str, np.ndarray], place: int | None, count: int) -> None:
        """Stores what a step has computed for the cache."""
        for cache, name in ((self._keys, "new_keys"), (self._values, "new_values")):
            cache[one.row, :, :, one.read : one.read + count] = outputs[name][place, :, :, :count]
        one.read += count

    def _make_room(self, places: int) -> None:
        rows, capacity = self._keys.shape[0], self._keys.shape[3]
        if len(self._rows) <= rows and places <= capacity:
            return
        while rows < len(self._rows):
            rows = max(1, 2 * rows)
        while capacity < places:
            capacity = max(FEWEST_PLACES, 2 * capacity)
        larger = []
        for cache in (self._keys, self._values):
            grown = self._empty(rows, capacity)
            for one in self._rows:
                if one.read:
                    grown[one.row, :, :, : one.read] = cache[one.row, :, :, : one.read]
            larger.append(grown)
        self._keys, self._values = larger

    def _empty(self, rows: int, capacity: int) -> np.ndarray:
        return np.zeros((rows, self._layers, self._kv_heads, capacity, self._head_dim), np.float32)

    def _draw(self, one: Writing, logits: np.ndarray) -> Drawn:
        """Draws the next token from logits [vocabulary]."""
        if one.seen is None:
            one.seen = np.zeros(len(logits), dtype=bool)
            one.seen[one.prompt] = True
        probabilities = one.sampling.probabilities(logits, one.seen)
        greedy = one.sampling.temperature == 0
        token = int(probabilities.argmax() if greedy else one.random.choice(len(probabilities), p=probabilities))
        one.tokens.append(token)
        one.seen[token] = True
        if not one.log_probs:
            return Drawn(token)
        log_probs = log_softmax(logits)
        top = np.argsort(-log_probs, kind="stable")[: one.top]
        chances = tuple(TokenChance(int(place), float(log_probs[place])) for place in top)
        return Drawn(token, float(log_probs[token]), chances)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Computes the logarithms of the probabilities, float64 [vocabulary]."""
    shifted = logits.astype(np.float64) - float(logits.max())
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum())
    return result
