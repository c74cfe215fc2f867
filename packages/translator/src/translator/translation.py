"""Translates sentences with a model of any runtime: an exported graph or a torch module."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from dlcommon.runtime.arrays import Predict
from dlcommon.transformer.beam_search import Hypothesis, State, beam_search_steps, run_to_end

from translator.tokenizer import BEGIN, END, PAD, UNKNOWN, Encoded, Tokenizer, padded

LONGEST_SOURCE = 200
"""Pieces of a sentence that are read; training saw at most half as many."""
GRAPH_STATE = ("keys", "values", "memory_keys", "memory_values", "memory_mask")
"""Inputs of the graph that hold what it has read and written, the batch first in each; `next_…` are the outputs."""


@dataclass(frozen=True)
class Search:
    """How translations are searched for."""

    num_beams: int = 5
    """Partial translations that are kept at each step; 1 is greedy."""
    length_penalty: float = 1.0
    """Exponent of the length that a log-probability is divided by; 0 prefers short translations."""
    num_hypotheses: int = 1
    """How many translations are returned, at most `num_beams`."""


@dataclass(frozen=True)
class Translation:
    """One translation of a sentence."""

    text: str
    pieces: tuple[str, ...]
    """Pieces of the translation, the end token included where it was written."""
    score: float
    """Log-probability over the length penalty."""
    log_probability: float
    ended: bool
    """Whether the model ended it; False: it was cut off at its longest length."""
    attention: np.ndarray
    """Cross-attention, float32 [layers, heads, pieces, source pieces]; empty where it was not asked for, and for all
    but the best."""


def longest_target(source_tokens: int) -> int:
    """Bounds a translation: half as long again as its source, and ten more."""
    return source_tokens + source_tokens // 2 + 10


class Translator:
    """Encodes sentences, searches with the model's graph, and decodes what was found.

    Args:
        predict: `Step` as a predictor.
        metadata: of the graph: `tokenizer`, `decoder`, `source` and `target`.
    """

    def __init__(self, predict: Predict, metadata: Mapping[str, str]) -> None:
        self._predict = predict
        self.tokenizer = Tokenizer.from_json(metadata["tokenizer"])
        self.layers, self.heads, self.head_dim = map(int, metadata["decoder"].split())
        """Of the decoder."""
        self.source, self.target = metadata["source"], metadata["target"]
        """Languages."""

    def read(self, encoded: Sequence[Encoded]) -> np.ndarray:
        """Returns sentences as the graph reads them, int64 [sentences, tokens]; of a longer one only the beginning."""
        return padded([[*sentence.ids[: LONGEST_SOURCE - 1], END] for sentence in encoded])

    def initial_state(self, batch: int) -> dict[str, np.ndarray]:
        """Returns the state of a model that has read and written nothing."""
        empty = np.zeros((batch, self.layers, self.heads, 0, self.head_dim), np.float32)
        return {**dict.fromkeys(GRAPH_STATE[:-1], empty), "memory_mask": np.zeros((batch, 0), np.bool_)}

    def step(
        self, source: np.ndarray, tokens: np.ndarray, position: np.ndarray, state: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Runs the graph once.

        Args:
            source: int64 [batch, tokens to read], not empty in the first step alone.
            tokens: int64 [batch, new], target tokens to continue with.
            position: int64 [batch], target tokens before them.
            state: of `initial_state` or of the step before.

        Returns:
            Logits [batch, new, vocabulary], cross-attention [batch, layers, heads, new, source], and the next state.
        """
        outputs = self._predict({"source": source, "tokens": tokens, "position": position, **state})
        return outputs["logits"], outputs["attention"], {name: outputs[f"next_{name}"] for name in GRAPH_STATE}

    def translate(
        self, encoded: Sequence[Encoded], search: Search, *, attention: bool = False
    ) -> list[list[Translation]]:
        """Translates sentences together.

        The encoder runs in the first step, once for each sentence; the others continue from the state.

        Args:
            encoded: sentences of at least one token.
            search: how to search.
            attention: whether the best translation of each sentence comes with its attention weights.

        Returns:
            Translations of each sentence, the best first.
        """
        return run_to_end(self.translate_steps(encoded, search, attention=attention))

    def translate_steps(
        self, encoded: Sequence[Encoded], search: Search, *, attention: bool = False
    ) -> Generator[None, None, list[list[Translation]]]:
        """Translates as `translate` does, and pauses after every run of the model.

        Closed at a pause, it computes no more.
        """
        source = self.read(encoded)
        lengths = (source != PAD).sum(axis=1)

        def step(last: np.ndarray, state: State) -> tuple[np.ndarray, State]:
            rest = {name: state[name] for name in GRAPH_STATE}
            logits, _, rest = self.step(state["to_read"], last[:, None], state["position"], rest)
            scores = logits[:, 0]
            scores[:, [PAD, BEGIN, UNKNOWN]] = -np.inf  # what is not to be written
            return scores, {**rest, "position": state["position"] + 1, "to_read": state["to_read"][:, :0]}

        found = yield from beam_search_steps(
            step,
            {**self.initial_state(len(source)), "position": np.zeros(len(source), np.int64), "to_read": source},
            np.full(len(source), BEGIN, np.int64),
            max_length=np.array([longest_target(int(length)) for length in lengths]),
            end_token=END,
            num_beams=search.num_beams,
            length_penalty=search.length_penalty,
            num_hypotheses=search.num_hypotheses,
        )
        translations = []
        for row, ranked in enumerate(found):
            looked = source[row, : lengths[row]] if attention else None
            translations.append([self._translation(one, None if rank else looked) for rank, one in enumerate(ranked)])
            if attention:
                yield
        return translations

    def _translation(self, found: Hypothesis, source: np.ndarray | None) -> Translation:
        tokens = np.append(found.tokens, END) if found.ended else found.tokens
        weights = self.attention(source, tokens) if source is not None else np.zeros((0, 0, 0, 0), np.float32)
        text, pieces = self.tokenizer.decode(found.tokens), tuple(self.tokenizer.pieces(tokens))
        return Translation(text, pieces, found.score, found.log_probability, found.ended, weights)

    def attention(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Computes where the decoder looked as it wrote each token, float32 [layers, heads, target, source].

        Args:
            source: int64 [source], its end token included.
            target: int64 [target], without the begin token.
        """
        # Each token is written from those before it.
        given = np.append(BEGIN, target)[: len(target)].astype(np.int64)[None]
        _, weights, _ = self.step(source[None], given, np.zeros(1, np.int64), self.initial_state(1))
        first: np.ndarray = weights[0]
        return first

    def log_probabilities(self, sources: Sequence[Encoded], targets: Sequence[Encoded]) -> np.ndarray:
        """Computes the logarithm of each target token's probability, given those before: float32 [sentences, longest].

        The last token of each is the end token; behind it stands 0.
        """
        wanted = padded([[*target.ids, END] for target in targets])
        given = np.concatenate((np.full((len(wanted), 1), BEGIN), wanted[:, :-1]), axis=1)
        state, position = self.initial_state(len(wanted)), np.zeros(len(wanted), np.int64)
        logits, _, _ = self.step(self.read(sources), given, position, state)
        logits -= logits.max(axis=2, keepdims=True)
        chosen = np.take_along_axis(logits, wanted[:, :, None], axis=2)[:, :, 0]
        found: np.ndarray = chosen - np.log(np.exp(logits).sum(axis=2))
        return np.where(wanted == PAD, np.float32(0), found)
