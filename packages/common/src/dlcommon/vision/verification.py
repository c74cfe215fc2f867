"""Verification: are two pictures of one person? Error rates over thresholds, for pairs of known answer.

A pair is accepted if its score is at least the threshold. FAR: the share of pairs of different people that are accepted
(false match rate); TAR: the share of pairs of one person that are accepted; FRR = 1 − TAR: those that are rejected.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VerificationCurve:
    """Holds the error rates at each threshold, from one that accepts nothing to the lowest score."""

    far: np.ndarray
    """False acceptance rates, rising, [thresholds]."""
    tar: np.ndarray
    """True acceptance rates, rising, [thresholds]."""
    thresholds: np.ndarray
    """Falling; the first is infinite."""

    @property
    def frr(self) -> np.ndarray:
        """Returns the false rejection rates, falling, [thresholds]."""
        return 1 - self.tar


def verification_curve(scores: np.ndarray, same: np.ndarray) -> VerificationCurve:
    """Computes FAR and TAR at every score that occurs, as sklearn.metrics.roc_curve does.

    Args:
        scores: the higher, the more alike, [pairs].
        same: bool [pairs]: whether a pair is of one person.

    Raises:
        ValueError: pairs of one kind are missing, so that a rate would be 0 / 0.
    """
    same = np.asarray(same, bool)
    if not same.any() or same.all():
        raise ValueError(f"{same.sum()} of {len(same)} pairs are of one person; both kinds of pairs are needed")
    order = np.argsort(-scores, kind="stable")
    scores, same = scores[order], same[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of those with equal scores
    accepted = np.cumsum(same)[last]
    wrongly = last + 1 - accepted
    return VerificationCurve(
        far=np.append(0.0, wrongly / wrongly[-1]),
        tar=np.append(0.0, accepted / accepted[-1]),
        thresholds=np.append(np.inf, scores[last]),
    )


def equal_error_rate(curve: VerificationCurve) -> tuple[float, float]:
    """Finds where FAR and FRR are equal, between two thresholds by linear interpolation.

    Returns:
        The rate, and the lower of the two thresholds between which it is reached.
    """
    gap = curve.far - curve.frr  # rises from −1 to 1
    above = int(np.argmax(gap >= -1e-12))  # equal rates can differ in their last bit
    share = -gap[above - 1] / (gap[above] - gap[above - 1])
    rate = curve.far[above - 1] + share * (curve.far[above] - curve.far[above - 1])
    return float(rate), float(curve.thresholds[above])


def threshold_at_far(curve: VerificationCurve, far: float) -> tuple[float, float]:
    """Finds the lowest threshold whose FAR is not above the one asked for.

    Returns:
        The threshold, and the TAR that it has.
    """
    place = int(np.searchsorted(curve.far, far, side="right")) - 1
    return float(curve.thresholds[place]), float(curve.tar[place])


def tar_at_far(curve: VerificationCurve, far: float) -> float:
    """Returns the share of pairs of one person that are accepted where at most `far` of the others are."""
    return threshold_at_far(curve, far)[1]


def false_alarm_rate(far: float, gallery: int) -> float:
    """Computes how often a stranger is taken for someone of a gallery, if its comparisons err independently.

    Returns:
        1 − (1 − far)^gallery.
    """
    return float(-np.expm1(gallery * np.log1p(-far)))
