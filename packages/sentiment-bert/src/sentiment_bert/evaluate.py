"""How good the answers are: accuracy, calibration, what is left unanswered, robustness, errors and their reasons."""

from pathlib import Path
from typing import Any

import numpy as np
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.data import LocatedDataSet
from dlcommon.runtime.data.text_classification import TextClassification
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.classification import evaluate_classifier
from dlcommon.runtime.evaluation.figures import classification_figures
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.files import write_bytes

from sentiment_bert.classifying import Reader, direction_of, probabilities_of
from sentiment_bert.colouring import document, spans_of_words, word_weights
from sentiment_bert.robustness import ALWAYS, CHANGES, CONTRASTS, changed

EXPLAINED = 16
"""Test texts whose attributions two runtimes are compared on."""
WORST = 20
BANDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
LENGTHS = ((0, 9), (10, 19), (20, 29), (30, 59), (60, 10_000))
"""Words of a text, of Chinese its characters, in groups."""


def evaluate(predict: Predict, data: LocatedDataSet, figures: Path | None) -> Evaluation:
    """Classifies the test texts, and counts."""
    text: TextClassification = data.load()
    metadata, classes = metadata_of(predict), text.classes
    reader = Reader(predict, metadata)
    rows = reader.rows(reader.tokenizer.encode_batch(text.test.texts))
    labels = np.array(text.test.labels)
    logits = reader.logits(rows, len(classes))
    if not np.isfinite(logits).all():
        raise UserError("the model's logits are not finite; train it again with a lower learning rate")
    probabilities = probabilities_of(logits)
    first = reader.tokenizer.padded(rows[:EXPLAINED])
    explained = reader.explain(first, direction_of(logits[: len(first)]))
    outputs = {"logits": logits, "attributions": explained.tokens}
    evaluation = evaluate_classifier(probabilities, labels, classes, outputs)
    evaluation.tables["largest_attribution_gap"] = float(explained.gap.max())
    evaluation.shown["answers above a confidence"] = answered_above(probabilities, labels)
    evaluation.shown["accuracy by length"] = by_length(text.test.texts, probabilities, labels)
    if figures is not None:
        evaluation.shown["robustness"] = robustness(reader, text, probabilities, metadata["language"])
        evaluation.tables["worst"] = worst(reader, text, rows, logits, figures)
        calibration_error = evaluation.metrics["expected_calibration_error"]
        classification_figures(figures, evaluation.tables, calibration_error)
    return evaluation


def answered_above(probabilities: np.ndarray, labels: np.ndarray) -> list[dict[str, str | int | float]]:
    """Returns, for each lowest confidence, how many texts are answered and how many of those rightly."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    rows: list[dict[str, str | int | float]] = []
    for band in BANDS:
        answered = confidence >= band
        if answered.any():
            share = float(answered.mean())
            rows.append({"confidence": f"≥ {band:g}", "answered": share, "accuracy": float(correct[answered].mean())})
    return rows


def by_length(
    texts: tuple[str, ...], probabilities: np.ndarray, labels: np.ndarray
) -> list[dict[str, str | int | float]]:
    """Returns the accuracy of texts of similar length."""
    words = np.array([len(spans_of_words(text)) for text in texts])
    correct = probabilities.argmax(axis=1) == labels
    rows: list[dict[str, str | int | float]] = []
    for low, high in LENGTHS:
        chosen = (low <= words) & (words <= high)
        if chosen.any():
            name = f"{low} to {high}" if high < 1000 else f"{low} and more"
            rows.append({"words": name, "texts": int(chosen.sum()), "accuracy": float(correct[chosen].mean())})
    return rows


def robustness(
    reader: Reader, text: TextClassification, probabilities: np.ndarray, language: str
) -> list[dict[str, str | int | float]]:
    """Returns accuracy after changes that keep the meaning, and on pairs of sentences of opposite meaning."""
    labels, before = np.array(text.test.labels), probabilities.argmax(axis=1)
    table: list[dict[str, str | int | float]] = []

    def classified(texts: list[str]) -> np.ndarray:
        rows = reader.rows(reader.tokenizer.encode_batch(texts))
        found: np.ndarray = reader.logits(rows, len(text.classes)).argmax(axis=1)
        return found

    for name, change in CHANGES.get(language, ALWAYS).items():
        found = classified(changed(change, text.test.texts))
        accuracy, turned = float((found == labels).mean()), float((found != before).mean())
        table.append({"test": name, "texts": len(labels), "accuracy": accuracy, "answers that turned": turned})
    if text.classes == ("negative", "positive"):  # the pairs are of these two
        for kind, pairs in CONTRASTS.get(language, {}).items():
            found = classified([sentence for pair in pairs for sentence in pair]).reshape(-1, 2)
            right = found == np.array([[0, 1]])
            table.append(
                {
                    "test": f"contrast pairs: {kind}",
                    "texts": 2 * len(pairs),
                    "accuracy": float(right.mean()),
                    "answers that turned": float((found[:, 0] != found[:, 1]).mean()),
                }
            )
    return table


def worst(
    reader: Reader, text: TextClassification, rows: list[list[int]], logits: np.ndarray, folder: Path
) -> list[dict[str, Any]]:
    """Lists the most confident errors, and writes them down with what moved each of them."""
    probabilities, labels = probabilities_of(logits), np.array(text.test.labels)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:WORST]
    table: list[dict[str, Any]] = []
    drawn = []
    for number in chosen:
        original = text.test.texts[number]
        ids = np.array([rows[number]], np.int64)
        found = reader.explain(ids, direction_of(logits[number : number + 1]))
        encoded = reader.tokenizer.encode(original)
        spans = encoded.spans[: len(rows[number]) - 2]
        words = spans_of_words(original)
        weights = word_weights(words, spans, found.tokens[0, 1:-1])
        title = f"{text.classes[predicted[number]]} {confidence[number]:.1%}, labelled {text.classes[labels[number]]}"
        drawn.append((title, original, words, weights))
        largest = sorted(zip(words, weights, strict=True), key=lambda one: -abs(one[1]))[:5]
        table.append(
            {
                "text": original,
                "label": text.classes[labels[number]],
                "answer": text.classes[predicted[number]],
                "confidence": float(confidence[number]),
                "moved_by": [{"word": original[a:b], "weight": float(weight)} for (a, b), weight in largest],
            }
        )
    write_bytes(folder / "worst_errors.html", document("Most confident errors", drawn).encode())
    return table
