import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, top_k_accuracy_score

from dlcommon.runtime.evaluation.classification import (
    accuracy_interval,
    evaluate_classifier,
    expected_calibration_error,
    reliability,
)
from dlcommon.runtime.evaluation.figures import classification_figures, picture_grid, save, training_curves
from dlcommon.runtime.evaluation.overlay import heat_overlay

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
    f1 = [row["f1"] for row in found.tables["per_class"]]
    assert f1 == pytest.approx(f1_score(labels, predicted, average=None))
    assert np.asarray(found.tables["confusion"]).sum() == 500


def test_calibration_error_of_a_worked_example() -> None:
    # Two samples at 0.9, one right; two at 0.6, both right: 1/2 · |0.5 - 0.9| + 1/2 · |1 - 0.6|.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    rows = reliability(probabilities, np.array([0, 1, 0, 0]))
    assert [row["count"] for row in rows] == [2, 2]
    assert expected_calibration_error(rows) == pytest.approx(0.4)


def test_the_interval_is_near_the_exact_one_and_stays_within_bounds() -> None:
    low, high = accuracy_interval(9100, 10_000)
    assert (low, high) == pytest.approx((beta.ppf(0.025, 9100, 901), beta.ppf(0.975, 9101, 900)), abs=2e-4)
    assert accuracy_interval(10, 10)[1] == 1.0
    assert accuracy_interval(0, 10)[0] == 0.0


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_outputs_that_are_no_probabilities_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        evaluate_classifier(np.full((4, 2), value), np.zeros(4, dtype=int), ("a", "b"))


def test_figures_are_written_as_png(tmp_path) -> None:
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


def test_the_overlay_is_bright_where_the_evidence_is() -> None:
    picture = np.full((32, 32, 3), 128, dtype=np.uint8)
    drawn = heat_overlay(picture, np.array([[3.0, -1.0], [-1.0, -1.0]]), 64).astype(int)
    assert drawn.shape == (64, 64, 3)
    assert drawn[8, 8].sum() > drawn[-8, -8].sum() + 60
    assert np.array_equal(heat_overlay(picture, np.zeros((0, 0)), 64), np.full((64, 64, 3), 128))
