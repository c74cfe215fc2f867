"""Error rates of verification against scikit-learn and against counting."""

import numpy as np
import pytest
from dlcommon.vision.verification import (
    equal_error_rate,
    false_alarm_rate,
    tar_at_far,
    threshold_at_far,
    verification_curve,
)
from scipy.optimize import brentq
from sklearn.metrics import roc_curve


@pytest.mark.parametrize("decimals", [1, 12])
def test_the_curve_is_scikit_learns_also_where_scores_are_equal(decimals: int) -> None:
    random = np.random.default_rng(0)
    same = random.random(500) < 0.2
    scores = np.round(random.normal(same.astype(float), 1.0), decimals)
    curve = verification_curve(scores, same)
    far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.far, far, atol=1e-15)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-15)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    rate, threshold = equal_error_rate(curve)
    expected = brentq(lambda each: each - (1 - np.interp(each, far, tar)), 0, 1)
    assert rate == pytest.approx(expected, abs=1e-9)
    accepted = scores >= threshold
    assert abs(accepted[~same].mean() - rate) <= curve.far[np.argmax(curve.thresholds <= threshold)] + 1e-9
    for wanted in (0.0, 0.003, 0.01, 0.1, 1.0):
        threshold, tar_there = threshold_at_far(curve, wanted)
        accepted = scores >= threshold
        assert accepted[~same].mean() <= wanted
        assert tar_there == tar_at_far(curve, wanted) == pytest.approx(accepted[same].mean())
        lower = scores[scores < threshold]
        assert not len(lower) or (scores >= lower.max())[~same].mean() > wanted  # a lower one would accept too many


def test_rates_of_six_pairs_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.2])
    same = np.array([True, True, False, True, False, False])
    curve = verification_curve(scores, same)
    assert curve.far.tolist() == pytest.approx([0, 0, 0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert curve.frr.tolist() == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3, 0, 0, 0])
    rate, threshold = equal_error_rate(curve)
    assert rate == pytest.approx(1 / 3)
    assert threshold == 0.7
    assert tar_at_far(curve, 0.3) == pytest.approx(2 / 3)


def test_perfect_and_useless_scores() -> None:
    same = np.array([True, True, False, False])
    assert equal_error_rate(verification_curve(np.array([3.0, 2.0, 1.0, 0.0]), same))[0] == 0
    assert equal_error_rate(verification_curve(np.zeros(4), same))[0] == 0.5
    assert equal_error_rate(verification_curve(np.array([0.0, 1.0, 2.0, 3.0]), same))[0] == 1


def test_pairs_of_one_kind_only_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of 3 pairs are of one person; both kinds"):
        verification_curve(np.zeros(3), np.ones(3, bool))


def test_false_alarms_grow_with_the_gallery() -> None:
    assert false_alarm_rate(0.01, 1) == pytest.approx(0.01)
    assert false_alarm_rate(1e-4, 10_000) == pytest.approx(1 - 0.9999**10_000)
    assert false_alarm_rate(1e-15, 1000) == pytest.approx(1e-12)
