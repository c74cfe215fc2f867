"""How good translations are: scores with intervals, and what people look at."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.parallel_text import ParallelText
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.figures import BLUE, figure, save
from dlcommon.runtime.evaluation.result import Evaluation

from translator import scores
from translator.data import pairs_of
from translator.tokenizer import Encoded
from translator.translation import Search, Translation, Translator

TOGETHER = 100
"""Sentences that are translated at once."""
SEARCH = Search(num_beams=5, length_penalty=1.0)
LEAST_COPIED = 0.5
"""A translation half of whose words stand in its source is said to copy it."""
EXAMPLES, WORST = 8, 8


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Translates the test sentences with beam search and compares them with their references."""
    text: ParallelText = data.load()
    translator = Translator(predict, metadata_of(predict))
    pairs = pairs_of(text, "test", translator.source, translator.target, data.name)
    sources, references = zip(*pairs, strict=True)
    encoded = [translator.tokenizer.encode(source) for source in sources]
    if not all(sentence.ids for sentence in encoded):
        raise UserError(f"{data.name} holds an empty test sentence")
    found = in_order_of_length(translator, encoded, SEARCH)
    hypotheses = [translation.text for translation in found]

    log_probabilities = reference_log_probabilities(translator, encoded, references)
    bleu, signature = scores.sacrebleu_score(hypotheses, references, translator.target)
    counts = scores.ngram_counts(hypotheses, references, translator.target)
    metrics = {
        "bleu": bleu,
        "bleu_tokenized_lowercased": scores.tokenized_bleu(hypotheses, references, translator.target),
        "chrf": scores.chrf_score(hypotheses, references),
        "perplexity": math.exp(-log_probabilities.sum() / (log_probabilities != 0).sum()),
        "length_ratio": float(counts.lengths[:, 0].sum() / counts.lengths[:, 1].sum()),
        "copied": float(
            np.mean([scores.copied(*one) >= LEAST_COPIED for one in zip(sources, hypotheses, strict=True)])
        ),
        "repeating": float(np.mean([scores.repeats(hypothesis) for hypothesis in hypotheses])),
        "unfinished": float(np.mean([not translation.ended for translation in found])),
    }
    tables: dict[str, Any] = {"signature": signature, "search": f"beam {SEARCH.num_beams}, length penalty 1"}
    shown = {"BLEU by length": scores.by_length(counts, [scores.count_words(source) for source in sources])}
    if figures is not None:
        greedy = [one.text for one in in_order_of_length(translator, encoded, Search(num_beams=1))]
        greedy_bleu, _ = scores.sacrebleu_score(greedy, references, translator.target)
        shown["scores"] = [
            {"score": f"sacreBLEU, beam {SEARCH.num_beams}", "value": bleu, "how": signature},
            {"score": "sacreBLEU, greedy", "value": greedy_bleu, "how": signature},
            {
                "score": "BLEU of papers",
                "value": metrics["bleu_tokenized_lowercased"],
                "how": "Moses tokens, lower case",
            },
            {"score": "chrF2", "value": metrics["chrf"], "how": "characters up to 6-grams"},
        ]
        shown["words by frequency"] = scores.by_frequency(hypotheses, references, text.train[translator.target])
        each = np.array([counts.bleu(slice(row, row + 1)) for row in range(len(pairs))])
        order = np.argsort(each, kind="stable")
        rows = [
            {"source": source, "translation": hypothesis, "reference": reference, "BLEU": float(score)}
            for source, hypothesis, reference, score in zip(sources, hypotheses, references, each, strict=True)
        ]
        # The middle of each eighth, from the worst to the best, so that examples are neither chosen nor lucky.
        middles = [order[(2 * i + 1) * len(order) // (2 * EXAMPLES)] for i in range(EXAMPLES)]
        shown["translations, from the worst eighth to the best"] = [rows[i] for i in middles]
        tables["worst"] = [rows[i] for i in order[:WORST]]
        tables["copied"] = [row for row in rows if scores.copied(row["source"], row["translation"]) >= LEAST_COPIED]
        tables["repeating"] = [row for row in rows if scores.repeats(row["translation"])]
        draw(shown, translator, encoded[middles[-1]], figures)
        (figures / "translations.txt").write_text("\n".join(hypotheses) + "\n", encoding="utf-8")
    outputs = {"log_probabilities": log_probabilities}
    return Evaluation(len(pairs), metrics, outputs, {"bleu": scores.bootstrap_interval(counts)}, tables, shown)


def in_order_of_length(translator: Translator, encoded: list[Encoded], search: Search) -> list[Translation]:
    """Returns the best translation of each sentence; those of similar length are translated together."""
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number].ids))
    found: dict[int, Translation] = {}
    for start in range(0, len(order), TOGETHER):
        numbers = order[start : start + TOGETHER]
        for number, (best, *_) in zip(
            numbers, translator.translate([encoded[i] for i in numbers], search), strict=True
        ):
            found[number] = best
    return [found[number] for number in range(len(encoded))]


def reference_log_probabilities(
    translator: Translator, sources: list[Encoded], references: tuple[str, ...]
) -> np.ndarray:
    """Computes the log-probability of each reference's tokens, [sentences, longest]; 0 behind its end."""
    targets = [translator.tokenizer.encode(reference) for reference in references]
    parts = [
        translator.log_probabilities(sources[start : start + TOGETHER], targets[start : start + TOGETHER])
        for start in range(0, len(targets), TOGETHER)
    ]
    longest = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, longest - part.shape[1]))) for part in parts])


def draw(shown: dict[str, Any], translator: Translator, sentence: Encoded, folder: Path) -> None:
    """Draws BLEU by length, words by frequency, and where one translation looked."""
    made, panels = figure(10, 3.5, columns=2)
    for axes, (title, label, value) in zip(
        panels[0],
        (("BLEU by length", "words of the source", "BLEU"), ("words by frequency", "times in training", "F-score")),
        strict=True,
    ):
        axes.bar([row[label] for row in shown[title]], [row[value] for row in shown[title]], color=BLUE)
        axes.set(xlabel=label, ylabel=value, title=title)
        axes.tick_params(axis="x", labelsize=7)
    save(made, folder / "by_length_and_frequency.png")
    best = translator.translate([sentence], SEARCH, attention=True)[0][0]
    made, panels = figure(6, 5)
    axes = panels[0, 0]
    axes.imshow(best.attention.mean(axis=(0, 1)), cmap="Blues", vmin=0)
    source = [*translator.tokenizer.pieces(sentence.ids), "</s>"]
    axes.set_xticks(range(len(source)), source, rotation=60, ha="right")
    axes.set_yticks(range(len(best.pieces)), best.pieces)
    axes.set_title("cross-attention, mean of layers and heads")
    save(made, folder / "attention.png")
