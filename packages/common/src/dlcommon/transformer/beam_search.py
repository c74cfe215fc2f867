"""Beam search: keeps the best partial sequences at every step, instead of the single best one.

NumPy only: services search over the logits of ONNX Runtime, without torch.

A finished sequence y of |y| tokens, the end token included, scores log p(y) / |y|^α, as in fairseq and transformers.
α = 1 is the mean log-probability per token. Wu et al. 2016 (https://arxiv.org/abs/1609.08144, equation 14) divide by
((5 + |y|) / 6)^α instead, which is milder for short sequences. With α = 0 longer sequences always score lower.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Result = TypeVar("Result")
State = Mapping[str, np.ndarray]
"""All that the model needs besides the next token (caches, positions, what an encoder read): arrays [rows, ...]."""
Step = Callable[[np.ndarray, State], tuple[np.ndarray, State]]
"""Reads one more token per row: (int64 [rows], state) to (logits [rows, vocab_size], the state after it).

The number of rows changes from call to call.
"""


@dataclass(frozen=True)
class Hypothesis:
    """One sequence that the search found."""

    tokens: np.ndarray
    """int64 [length], without the first token and the end token."""
    score: float
    """The log-probability over the length penalty: what hypotheses are ranked by."""
    log_probability: float
    """Natural logarithm of the sequence's probability, the end token's included if it ended."""
    ended: bool
    """Whether the model ended it. False: it was cut off at its maximal length."""


def beam_search(
    step: Step,
    state: State,
    first_tokens: np.ndarray,
    *,
    max_length: int | np.ndarray,
    end_token: int | None = None,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    num_hypotheses: int = 1,
    early_stopping: bool = True,
) -> list[list[Hypothesis]]:
    """Searches for the most probable continuations of several sentences at once.

    Equals `generate(num_beams=…)` of transformers. One beam is greedy search. Sentences that are done leave the batch.

    Args:
        step: the model.
        state: of the sentences, one row each. It is reordered, repeated and shortened by indexing its rows.
        first_tokens: int64 [sentences], read first: a start token, or the last token of a prompt whose other tokens
            the state has seen.
        max_length: most new tokens, the end token included; one for all sentences or int [sentences].
        end_token: ends a sequence; None: all sequences run to their maximal length.
        num_beams: partial sequences that are kept for each sentence, and finished ones that are ranked.
        length_penalty: the exponent α ≥ 0 of the length.
        num_hypotheses: how many are returned for each sentence, best first.
        early_stopping: True: a sentence is done when it has `num_beams` finished sequences. False: it goes on until no
            partial sequence can still overtake the worst of them, which with α > 0 takes much longer.

    Returns:
        Hypotheses for each sentence; fewer than asked for if there are no more that have a probability above 0.

    Raises:
        ValueError: an argument is out of its range.
    """
    steps = beam_search_steps(
        step,
        state,
        first_tokens,
        max_length=max_length,
        end_token=end_token,
        num_beams=num_beams,
        length_penalty=length_penalty,
        num_hypotheses=num_hypotheses,
        early_stopping=early_stopping,
    )
    return run_to_end(steps)


def run_to_end(steps: Generator[None, None, Result]) -> Result:
    """Runs a generator without stopping at its pauses; returns what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def beam_search_steps(
    step: Step,
    state: State,
    first_tokens: np.ndarray,
    *,
    max_length: int | np.ndarray,
    end_token: int | None = None,
    num_beams: int = 4,
    length_penalty: float = 1.0,
    num_hypotheses: int = 1,
    early_stopping: bool = True,
) -> Generator[None, None, list[list[Hypothesis]]]:
    """Searches as `beam_search` does, and pauses after every step of the model, so that others get their turn.

    Closed at a pause, it computes no more. Returns the hypotheses, for `yield from`.
    """
    sentences = len(first_tokens)
    max_lengths = np.broadcast_to(np.asarray(max_length, np.int64), (sentences,))
    if num_beams < 1 or not 1 <= num_hypotheses <= num_beams:
        raise ValueError(f"num_hypotheses must be from 1 to num_beams, not {num_hypotheses} of {num_beams}")
    if length_penalty < 0 or (max_lengths < 1).any():
        raise ValueError("length_penalty must be at least 0, and every maximal length at least 1")
    finished: list[list[Hypothesis]] = [[] for _ in range(sentences)]

    def finish(sentence: int, tokens: np.ndarray, log_probability: float, ended: bool) -> None:
        score = log_probability / len(tokens) ** length_penalty
        ranked = finished[sentence]
        ranked.append(Hypothesis(tokens[:-1] if ended else tokens, score, log_probability, ended))
        ranked.sort(key=lambda hypothesis: -hypothesis.score)
        del ranked[num_beams:]

    # The sentences still searched for, each with the same number of live beams: one at first, then num_beams.
    active = np.arange(sentences)
    tokens = np.empty((sentences, 1, 0), np.int64)  # [active, beams, length]
    log_probs = np.zeros((sentences, 1))  # [active, beams]
    last = np.asarray(first_tokens, np.int64)  # [active · beams]: the model's rows, sentence by sentence
    while active.size:
        logits, state = step(last, state)
        beams, vocab_size = log_probs.shape[1], logits.shape[1]
        totals = log_probs[:, :, None] + _log_softmax(logits).reshape(len(active), beams, vocab_size)
        # At most one of a beam's candidates ends it, so twice as many as beams always hold enough that go on.
        candidates = _largest(totals.reshape(len(active), -1), 2 * num_beams)  # [active, candidates], best first
        parents, next_tokens = candidates // vocab_size, candidates % vocab_size
        rows = np.arange(len(active))[:, None]
        candidate_log_probs = totals[rows, parents, next_tokens]
        extended = np.concatenate((tokens[rows, parents], next_tokens[:, :, None]), axis=2)

        ends = np.zeros(candidates.shape, bool) if end_token is None else next_tokens == end_token
        last_length = max_lengths[active] == extended.shape[2]  # [active]
        possible = candidate_log_probs > -np.inf
        # A candidate that ends counts only where it would also have been kept as a beam.
        for row, rank in np.argwhere((ends | last_length[:, None])[:, :num_beams] & possible[:, :num_beams]).tolist():
            log_probability = float(candidate_log_probs[row, rank])
            finish(active.item(row), extended[row, rank], log_probability, ended=bool(ends[row, rank]))

        # The first candidates that go on are the beams of the next step. A stable sort keeps their order.
        num_live = min(num_beams, int((~ends).sum(axis=1).min()))
        live = np.argsort(ends, axis=1, kind="stable")[:, :num_live]  # [active, beams], indices of candidates
        log_probs = candidate_log_probs[rows, live]
        best = log_probs.max(axis=1, initial=-np.inf)  # [active]
        unfinished = ~last_length & (best > -np.inf)
        for row in np.flatnonzero(unfinished).tolist():
            ranked = finished[active[row]]
            if len(ranked) == num_beams:
                # Log-probabilities only fall; the longest sequence is divided by most.
                attainable = best[row] / max_lengths[active[row]] ** length_penalty
                unfinished[row] = not early_stopping and attainable > ranked[-1].score

        model_rows = (rows * beams + parents[rows, live])[unfinished].reshape(-1)
        state = {name: array[model_rows] for name, array in state.items()}
        tokens, log_probs, active = extended[rows, live][unfinished], log_probs[unfinished], active[unfinished]
        last = tokens[:, :, -1].reshape(-1)
        yield
    return [ranked[:num_hypotheses] for ranked in finished]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Computes the natural logarithms of the probabilities, [rows, vocab_size]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalized: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalized


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices of the largest values of each row, largest first, the earlier of two equal ones first."""
    count = min(count, values.shape[1])
    unsorted = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, unsorted, axis=1), axis=1, kind="stable")
    return np.take_along_axis(unsorted, order, axis=1)
