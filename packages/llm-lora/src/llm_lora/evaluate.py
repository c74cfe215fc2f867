"""How good a model is: the perplexity of held-out answers, and what it answers itself, beside its base."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dlcommon.mathematics.intervals import bootstrap_interval
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.conversations import Conversation, Conversations
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.transformer.sampling import Sampling

from llm_lora.adapter_matrix import SCALE, AdapterLayout
from llm_lora.catalog import read_tokenizer
from llm_lora.decoder import Decoder, Drawn, Writing
from llm_lora.judge import mean_rouge, win_rate
from llm_lora.tokenizer import Tokenizer

TOGETHER = 8
"""Conversations evaluated at once."""
LONGEST_ANSWER = 64
"""Tokens of an answer that the model writes in an evaluation."""
SHOWN = 8
"""Answers that RESULTS.md shows."""
BRIEF = 160
"""Characters of them."""


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Computes the cross-entropy of the test's last answers, each token given what stands before it.

    With figures, the model also answers by itself, greedily, with its adapter and without.

    Raises:
        UserError: no conversation fits the model's context.
    """
    conversations: Conversations = data.load()
    metadata = metadata_of(predict)
    tokenizer = read_tokenizer(metadata)
    losses = [found for found in answer_losses(predict, tokenizer, conversations.test) if len(found)]
    if not losses:
        raise UserError(f"{data.name}: no conversation of the test fits the model's context")
    nats, counts = np.array([found.sum() for found in losses]), np.array([len(found) for found in losses])
    tokens = np.concatenate(losses)

    def mean(drawn: np.ndarray) -> np.ndarray:
        result: np.ndarray = drawn[..., 0].sum(axis=-1) / drawn[..., 1].sum(axis=-1)
        return result

    pairs = np.stack((nats, counts), axis=1)
    low, high = bootstrap_interval(pairs, mean, np.random.default_rng(0))
    loss = float(nats.sum() / counts.sum())
    metrics = {"perplexity": math.exp(loss), "loss": loss}
    intervals = {"perplexity": (math.exp(low), math.exp(high)), "loss": (low, high)}
    tables: dict[str, Any] = {"conversations": len(losses), "answer_tokens": len(tokens)}
    shown: dict[str, list[dict[str, str | int | float]]] = {}
    if figures is not None:
        compared = Comparison(predict, tokenizer, conversations.test)
        metrics |= compared.metrics
        intervals |= compared.intervals
        tables["answers"] = compared.rows
        shown = {"answers": compared.in_brief(), "answers beside the base's": [compared.win_row]}
        text = "\n\n".join("\n".join(f"{name}: {value}" for name, value in row.items()) for row in compared.rows)
        (figures / "answers.txt").write_text(text + "\n", encoding="utf-8")
    return Evaluation(len(losses), metrics, {"log_probs": -tokens}, intervals, tables, shown)


def answer_losses(
    predict: Predict, tokenizer: Tokenizer, conversations: Sequence[Conversation], adapted: bool = True
) -> list[np.ndarray]:
    """Computes the negative log-likelihood of each token of the last answers, float64 [answer tokens] each.

    Those of conversations that are longer than the model's context are empty.

    Args:
        adapted: whether the graph's adapter is used, or the base alone.
    """
    metadata = metadata_of(predict)
    context = int(metadata["context"])
    rows: list[tuple[list[int], list[int]]] = []
    for one in conversations:
        tokens, is_answer = tokenizer.encode_chat(one.messages)
        begin = len(tokenizer.encode_chat(one.prompt, add_generation_prompt=True)[0])
        places = [place for place in range(begin, len(tokens)) if is_answer[place]]
        rows.append((tokens[: places[-1] + 1], places) if len(tokens) <= context else ([], []))
    order = sorted((number for number, (tokens, _) in enumerate(rows) if tokens), key=lambda one: len(rows[one][0]))
    found = [np.zeros(0) for _ in rows]
    for start in range(0, len(order), TOGETHER):
        chosen = order[start : start + TOGETHER]
        logits = _logits(predict, [rows[number] for number in chosen], adapted)
        for number, of_row in zip(chosen, logits, strict=True):
            tokens, places = rows[number]
            found[number] = _cross_entropy(of_row[: len(places)], np.array(tokens)[places])
    return found


def _logits(predict: Predict, rows: Sequence[tuple[list[int], list[int]]], adapted: bool) -> np.ndarray:
    """Computes the logits that predict the tokens at these places, [rows, most places, vocabulary]."""
    metadata = metadata_of(predict)
    layers, heads, head_dim = Decoder.cache_shape(metadata)
    tokens = np.zeros((len(rows), max(len(ids) for ids, _ in rows) - 1), np.int64)
    wanted = np.zeros((len(rows), max(len(places) for _, places in rows)), np.int64)
    for row, (ids, places) in enumerate(rows):
        tokens[row, : len(ids) - 1] = ids[:-1]  # the last one is predicted, and predicts nothing
        wanted[row, : len(places)] = np.array(places) - 1
    empty = np.zeros((len(rows), layers, heads, 0, head_dim), np.float32)
    past = np.zeros(len(rows), np.int64)
    arrays: dict[str, np.ndarray] = {
        "tokens": tokens,
        "past_lengths": past,
        "keys": empty,
        "values": empty,
        "wanted": wanted,
    }
    rank = int(metadata.get("rank", 0))
    if rank:
        arrays[SCALE] = np.full((len(rows), rank), float(adapted), np.float32)
    return predict(arrays)["logits"]


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Computes the nats of each token: float64 [tokens] from logits [tokens, vocabulary]."""
    logits = logits.astype(np.float64)
    highest = logits.max(axis=1)
    log_total = np.log(np.exp(logits - highest[:, None]).sum(axis=1)) + highest
    result: np.ndarray = log_total - logits[np.arange(len(targets)), targets]
    return result


def write_answers(
    predict: Predict, tokenizer: Tokenizer, conversations: Sequence[Conversation], adapted: bool = True
) -> list[str]:
    """Answers the last question of each conversation greedily, several at a time."""
    metadata = metadata_of(predict)
    rank = int(metadata.get("rank", 0))
    decoder = Decoder(predict, metadata, scales={"own": np.ones(rank, np.float32)} if rank else None)
    waiting = [
        Writing(
            np.array(tokenizer.encode_chat(one.prompt, add_generation_prompt=True)[0]),
            Sampling(temperature=0),
            np.random.default_rng(0),
            "own" if rank and adapted else None,
        )
        for one in conversations
    ]
    texts, running = list(waiting), list[Writing]()
    while waiting or running:
        while waiting and len(running) < TOGETHER:
            running.append(waiting.pop(0))
        drawn = decoder.step(running)
        for one, result in zip(list(running), drawn, strict=True):
            if isinstance(result, Exception):
                raise result
            if isinstance(result, Drawn) and (result.token == tokenizer.end or len(one.tokens) == LONGEST_ANSWER):
                decoder.release(one)
                running.remove(one)
    return [tokenizer.decode(one.tokens) for one in texts]


class Comparison:
    """Holds the answers of a model and of its base to the test's last questions, and how they compare.

    The judge is `llm_lora.judge`: ROUGE-L with the reference, nothing else.
    """

    def __init__(self, predict: Predict, tokenizer: Tokenizer, conversations: Sequence[Conversation]) -> None:
        references = [one.messages[-1].content for one in conversations]
        own = write_answers(predict, tokenizer, conversations)
        rouge, interval = mean_rouge(own, references)
        self.metrics: dict[str, float] = {"rouge_l": rouge}
        self.intervals: dict[str, tuple[float, float]] = {"rouge_l": interval}
        self.win_row: dict[str, str | int | float] = {"compared": "its base is not in the graph"}
        base = [""] * len(own)
        if AdapterLayout.from_json(metadata_of(predict)["adapter_layout"]).names:
            base = write_answers(predict, tokenizer, conversations, adapted=False)
            before = answer_losses(predict, tokenizer, conversations, adapted=False)
            found = win_rate(own, base, references)
            base_rouge, _ = mean_rouge(base, references)
            total = np.concatenate(before)
            self.metrics |= {
                "win_rate": found.rate,
                "base_rouge_l": base_rouge,
                "base_perplexity": math.exp(float(total.mean())),
            }
            self.intervals["win_rate"] = found.interval
            self.win_row = {"wins": found.wins, "ties": found.ties, "losses": found.losses, "win rate": found.rate}
        self.rows = [
            {"question": one.prompt[-1].content, "reference": reference, "answer": answer, "base": other}
            for one, reference, answer, other in zip(conversations, references, own, base, strict=True)
        ]

    def in_brief(self) -> list[dict[str, str | int | float]]:
        """Returns some of the answers, shortened to rows of a table."""
        step = max(1, len(self.rows) // SHOWN)
        return [{name: text[:BRIEF] for name, text in row.items()} for row in self.rows[::step][:SHOWN]]
