"""How good a model is: bits per character, and what people look at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.text_corpus import TextCorpus
from dlcommon.runtime.errors import InvalidInputError, UserError
from dlcommon.runtime.evaluation.figures import BLUE, figure, save
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.transformer.sampling import Sampling

from char_lm.generation import Decoder

TOGETHER = 16
"""Windows evaluated at once: the states that come out of the graph are large."""
TEMPERATURES = (0.5, 0.8, 1.0)
SAMPLE = 400
"""Tokens of each sample."""
BRIEF = 200
"""Characters of a sample that RESULTS.md shows."""


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Computes the cross-entropy over consecutive windows of the test text, each read from an empty state.

    Raises:
        UserError: the model does not know a character of the text, or the text is shorter than two windows.
    """
    corpus: TextCorpus = data.load()
    decoder = Decoder(predict, metadata_of(predict))
    try:
        tokens, context = decoder.tokenizer.encode(corpus.test), decoder.context
    except InvalidInputError as error:
        raise UserError(f"{data.name} cannot be read: {error}; train on it with --data {data.name}") from error
    windows = (len(tokens) - 1) // context
    if windows < 2:
        raise UserError(
            f"the test text of {data.name} has {len(tokens):,} tokens, but an interval takes two windows of {context}; "
            f"give more text, or train with shorter --context-lengths"
        )
    inputs, targets = (tokens[i : i + windows * context].reshape(windows, context) for i in (0, 1))
    parts = (inputs[start : start + TOGETHER] for start in range(0, windows, TOGETHER))
    logits = np.concatenate([decoder.step(part, 0, decoder.initial_state(len(part)))[0] for part in parts])
    losses = cross_entropy(logits, targets)  # [windows, context], in nats
    characters = len(decoder.tokenizer.decode(targets.flatten()))
    bits = losses.sum() / math.log(2) / characters
    # Of the mean, nats a token, in bits a character.
    standard_error = losses.mean(axis=1).std(ddof=1) / math.sqrt(windows) / math.log(2) * losses.size / characters
    metrics = {
        "bits_per_character": float(bits),
        "cross_entropy": float(losses.mean()),
        "perplexity": float(math.exp(losses.mean())),
        "accuracy": float((logits.argmax(axis=2) == targets).mean()),
    }
    low, high = float(bits - 1.96 * standard_error), float(bits + 1.96 * standard_error)
    tables = {"loss_by_position": losses.mean(axis=0).round(5).tolist(), "standard_error": float(standard_error)}
    shown = {"loss by context": by_context(losses)}
    if figures is not None:
        tables["samples"] = found = samples(decoder, corpus)
        shown["samples"] = [in_brief(one) for one in found]
        draw_positions(losses, figures / "loss_by_position.png")
        text = "\n\n".join(f"--- temperature {one['temperature']}\n{one['text']}" for one in found)
        (figures / "samples.txt").write_text(text + "\n", encoding="utf-8")
    return Evaluation(windows, metrics, {"logits": logits}, {"bits_per_character": (low, high)}, tables, shown)


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Computes nats for each token: [windows, context] from logits [windows, context, vocabulary]."""
    highest = logits.max(axis=2)
    log_total = np.log(np.exp(logits - highest[:, :, None]).sum(axis=2)) + highest
    return np.asarray(log_total - np.take_along_axis(logits, targets[:, :, None], axis=2)[:, :, 0])


def by_context(losses: np.ndarray) -> list[dict[str, str | int | float]]:
    """Measures how much each doubling of the context helps, and the loss over windows as short as that.

    The latter is what a model with that context would be stated with: losses of two models are comparable over windows
    of the same length only, since the first tokens of each are the hardest.
    """
    context = losses.shape[1]
    lengths = [2**power for power in range(4, context.bit_length()) if 2**power < context] + [context]
    return [
        {
            "tokens of context": length,
            "loss of the second half (nats)": float(losses[:, length // 2 : length].mean()),
            "loss (nats)": float(losses[:, :length].mean()),
        }
        for length in lengths
    ]


def in_brief(sample: dict[str, Any]) -> dict[str, str | int | float]:
    """Shortens a sample to a row of a table."""
    return {
        "temperature": sample["temperature"],
        "longest copied text (characters)": sample["copied"],
        "copied": sample["longest_copy"],
        "beginning of the sample": sample["text"][:BRIEF],
    }


def samples(decoder: Decoder, corpus: TextCorpus) -> list[dict[str, Any]]:
    """Writes texts at several temperatures, each with the longest stretch that it copies from the training text."""
    found: list[dict[str, Any]] = []
    for temperature in TEMPERATURES:
        random = np.random.default_rng(0)
        written = decoder.write(np.zeros(0, np.int64), SAMPLE, Sampling(temperature), random)
        text = "".join(piece.text for piece in written)
        copied = longest_copy(text, corpus.train)
        found.append({"temperature": temperature, "text": text, "longest_copy": copied, "copied": len(copied)})
    return found


def longest_copy(text: str, source: str) -> str:
    """Finds the longest part of `text` that occurs in `source`."""
    best, start = "", 0
    while start + len(best) < len(text):
        # Only a longer part than the best so far is of interest; where it occurs it is made as long as it goes.
        while start + len(best) < len(text) and text[start : start + len(best) + 1] in source:
            best = text[start : start + len(best) + 1]
        start += 1
    return best


def draw_positions(losses: np.ndarray, path: Path) -> None:
    """Draws how much each further token of context helps."""
    made, panels = figure(6, 3.5)
    axes = panels[0, 0]
    axes.plot(np.arange(1, losses.shape[1] + 1), losses.mean(axis=0), color=BLUE)
    axes.set(xscale="log", xlabel="tokens read before", ylabel="cross-entropy in nats", title="loss by position")
    save(made, path)
