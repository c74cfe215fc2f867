from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from dlcommon.runtime.arrays import Arrays
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.evaluation.batched import in_batches
from dlcommon.runtime.evaluation.classification import (
    accuracy_interval,
    evaluate_classifier,
    expected_calibration_error,
    reliability,
)
from dlcommon.runtime.evaluation.figures import (
    classification_figures,
    confusion,
    picture_grid,
    save,
    training_curves,
)
from dlcommon.runtime.evaluation.overlay import heat_overlay
from PIL import Image
from scipy.stats import beta, norm
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

CLASSES = tuple("abcdefg")


def random_predictions(n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, len(CLASSES), n)
    logits = random.normal(size=(n, len(CLASSES))) + 1.5 * np.eye(len(CLASSES))[labels]
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=1, keepdims=True), labels


def test_metrics_equal_scikit_learns() -> None:
    probabilities, labels = random_predictions()
    found = evaluate_classifier(probabilities, labels, CLASSES)
    predicted = probabilities.argmax(axis=1)
    assert found.n == 500
    assert found.metrics["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found.metrics["cross_entropy"] == pytest.approx(log_loss(labels, probabilities))
    assert found.metrics["top5_accuracy"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    brier = brier_score_loss(labels, probabilities, labels=range(len(CLASSES)), scale_by_half=False)
    assert found.metrics["brier"] == pytest.approx(brier)
    for name, reference in {"f1": f1_score, "precision": precision_score, "recall": recall_score}.items():
        values = [row[name] for row in found.tables["per_class"]]
        assert values == pytest.approx(reference(labels, predicted, average=None)), name
    assert [row["support"] for row in found.tables["per_class"]] == np.bincount(labels).tolist()
    assert found.tables["confusion"] == confusion_matrix(labels, predicted).tolist()
    assert found.intervals["accuracy"][0] < found.metrics["accuracy"] < found.intervals["accuracy"][1]


def test_a_class_that_is_never_predicted_or_never_true_counts_zero() -> None:
    probabilities = np.tile([0.9, 0.1, 0.0], (4, 1))
    found = evaluate_classifier(probabilities, np.array([0, 0, 0, 1]), ("a", "b", "c"))
    recall = [(row["precision"], row["recall"], row["support"]) for row in found.tables["per_class"]]
    assert recall == [(0.75, 1.0, 3), (0.0, 0.0, 1), (0.0, 0.0, 0)]
    assert "top5_accuracy" not in found.metrics


def test_calibration_error_of_a_worked_example() -> None:
    # Two samples at 0.9, one right; two at 0.6, both right: 1/2 · |0.5 - 0.9| + 1/2 · |1 - 0.6|.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    rows = reliability(probabilities, np.array([0, 1, 0, 0]))
    assert [row["count"] for row in rows] == [2, 2]
    assert expected_calibration_error(rows) == pytest.approx(0.4)


def test_calibration_error_is_that_of_independent_code() -> None:
    probabilities, labels = random_predictions()
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in pairwise(edges):  # (low, high], as in the paper
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(reliability(probabilities, labels)) == pytest.approx(expected)


def test_the_interval_is_wilsons() -> None:
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    n, p, z = 10_000, 0.91, norm.ppf(0.975)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n))
    assert accuracy_interval(9100, n) == pytest.approx(expected, rel=1e-12)


def test_the_interval_is_near_the_exact_one_and_stays_within_bounds() -> None:
    low, high = accuracy_interval(9100, 10_000)
    assert (low, high) == pytest.approx((beta.ppf(0.025, 9100, 901), beta.ppf(0.975, 9101, 900)), abs=2e-4)
    assert accuracy_interval(10, 10)[1] == 1.0
    assert accuracy_interval(0, 10)[0] == 0.0


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "not finite"), (0.0, "do not sum to one")])
def test_outputs_that_are_no_probabilities_are_refused(value: float, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        evaluate_classifier(np.full((4, 2), value), np.zeros(4, dtype=int), ("a", "b"))


@pytest.mark.parametrize(("rows", "columns", "labels"), [(0, 2, 0), (4, 2, 3), (4, 3, 4)])
def test_shapes_that_do_not_fit_are_refused(rows: int, columns: int, labels: int) -> None:
    with pytest.raises(ValueError, match="labels of 2 classes"):
        evaluate_classifier(np.full((rows, columns), 1 / columns), np.zeros(labels, dtype=int), ("a", "b"))


def test_batches_of_every_size_reach_the_model() -> None:
    sizes = []

    def model(arrays: Arrays) -> dict[str, np.ndarray]:
        sizes.append(len(arrays["x"]))
        return {"y": arrays["x"] + 1}

    out = in_batches(model, 20, first=(1, 2, 3, 7))({"x": np.arange(50)})
    assert sizes == [1, 2, 3, 7, 20, 17]
    assert np.array_equal(out["y"], np.arange(50) + 1)


def test_a_model_that_fails_or_answers_too_few_is_named() -> None:
    def fails(arrays: Arrays) -> dict[str, np.ndarray]:
        raise RuntimeError("Got: 1 Expected: 2\nmore")

    with pytest.raises(UserError, match=r"fails on a batch of 1; .* Got: 1 Expected: 2$"):
        in_batches(fails)({"x": np.zeros(1)})
    with pytest.raises(UserError, match="'y' is \\(2,\\) for a batch of 3"):
        in_batches(lambda arrays: {"y": np.zeros(2)})({"x": np.zeros(3)})


def test_figures_are_written_as_png(tmp_path: Path) -> None:
    probabilities, labels = random_predictions()
    found = evaluate_classifier(probabilities, labels, CLASSES)
    classification_figures(tmp_path, found.tables, 0.1)
    save(picture_grid([np.zeros((8, 8, 3), np.uint8)] * 9, ["caption"] * 9), tmp_path / "grid.png")
    rows = [{"step": 1, "seconds": 1.0, "loss": 2.0}, {"step": 2, "seconds": 2.0, "loss": 1.0, "accuracy": 0.5}]
    save(training_curves(rows), tmp_path / "curves.png")
    pictures = sorted(path.name for path in tmp_path.iterdir())
    assert pictures == ["confusion.png", "curves.png", "grid.png", "per_class.png", "reliability.png"]
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_figures_of_the_smallest_and_of_many_classes_can_be_drawn(tmp_path: Path) -> None:
    save(training_curves([{"step": 1, "seconds": 1.0}]), tmp_path / "nothing.png")
    save(confusion(np.eye(100, dtype=int).tolist(), [str(i) for i in range(100)]), tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert max(picture.size) < 3000


def test_the_overlay_is_bright_where_the_evidence_is() -> None:
    picture = np.full((32, 32, 3), 128, dtype=np.uint8)
    drawn = heat_overlay(picture, np.array([[3.0, -1.0], [-1.0, -1.0]]), 64).astype(int)
    assert drawn.shape == (64, 64, 3)
    assert drawn[8, 8].sum() > drawn[-8, -8].sum() + 60
    assert np.array_equal(heat_overlay(picture, np.zeros((0, 0)), 64), np.full((64, 64, 3), 128))
