"""A headline metric of any scale: what a smaller graph may cost, and what two runtimes may differ by."""

import math

import pytest
from dlcommon.runtime.metric import Metric

ACCURACY = Metric("accuracy")
FRECHET = Metric("frechet_distance", "minimize", tolerance=0.02, relative=True, unit="plain")
BLEU = Metric("bleu", "maximize", tolerance=0.3, unit="plain")
MEAN_AVERAGE_PRECISION = Metric("mean_average_precision", tolerance=0.01)
BITS = Metric("bits_per_character", "minimize", tolerance=0.005, unit="plain")


@pytest.mark.parametrize(
    ("metric", "fp32", "int8", "kept"),
    [
        (FRECHET, 15.0, 15.2, True),
        (FRECHET, 15.0, 15.4, False),
        (FRECHET, 15.0, 9.0, True),  # lower is better
        (FRECHET, 150.0, 152.0, True),  # the same loss is more where the distance is small
        (FRECHET, 0.15, 2.15, False),
        (BLEU, 38.0, 37.8, True),
        (BLEU, 38.0, 37.6, False),
        (BLEU, 38.0, 38.9, True),
        (MEAN_AVERAGE_PRECISION, 0.9, 0.893, True),
        (MEAN_AVERAGE_PRECISION, 0.9, 0.88, False),
        (ACCURACY, 0.95, 0.9451, True),
        (ACCURACY, 0.95, 0.944, False),
        (BITS, 2.134, 2.138, True),
        (BITS, 2.134, 2.145, False),
        (FRECHET, 15.0, math.nan, False),
    ],
)
def test_a_smaller_model_is_kept_where_it_loses_little(metric: Metric, fp32: float, int8: float, kept: bool) -> None:
    assert metric.tolerates(fp32, int8) is kept


@pytest.mark.parametrize(
    ("metric", "torch", "onnx", "n", "same"),
    [
        (FRECHET, 15.0, 15.01, 10_000, True),  # sums in another order
        (FRECHET, 15.0, 15.1, 10_000, False),
        (FRECHET, 15.0, 14.9, 10_000, False),  # better is as wrong as worse
        (BLEU, 38.0, 38.05, 1_000, True),  # a sentence whose best two words swapped
        (BLEU, 38.0, 37.5, 1_000, False),
        (BLEU, 38.0, 38.5, 1_000, False),
        (MEAN_AVERAGE_PRECISION, 0.9, 0.9008, 5_000, True),
        (MEAN_AVERAGE_PRECISION, 0.9, 0.89, 5_000, False),
        (ACCURACY, 0.95, 0.9502, 10_000, True),  # two samples
        (ACCURACY, 0.95, 0.951, 10_000, False),
        (ACCURACY, 0.5, 0.45, 40, True),  # two of 40 samples
        (ACCURACY, 0.5, 0.4, 40, False),
        (ACCURACY, 0.5, math.nan, 40, False),
    ],
)
def test_two_runtimes_agree_where_they_differ_by_rounding(
    metric: Metric, torch: float, onnx: float, n: int, same: bool
) -> None:
    assert metric.agrees(torch, onnx, n) is same


def test_a_threshold_is_reached_from_the_better_side() -> None:
    assert ACCURACY.reaches(0.9, 0.9)
    assert not ACCURACY.reaches(0.89, 0.9)
    assert FRECHET.reaches(14.0, 15.0)
    assert not FRECHET.reaches(16.0, 15.0)


@pytest.mark.parametrize(
    ("metric", "value", "shown", "threshold"),
    [
        (ACCURACY, 0.9169, "91.69 %", "≥ 91.69 %"),
        (MEAN_AVERAGE_PRECISION, 0.9, "90.00 %", "≥ 90 %"),
        (BITS, 2.1338, "2.1338", "≤ 2.1338"),
        (FRECHET, 15.234, "15.23", "≤ 15.234"),
        (BLEU, 38.0, "38.00", "≥ 38"),
    ],
)
def test_a_value_is_shown_in_its_unit(metric: Metric, value: float, shown: str, threshold: str) -> None:
    assert metric.show(value) == shown
    assert metric.show_threshold(value) == threshold


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="tolerance of accuracy"):
        Metric("accuracy", tolerance=-0.1)
