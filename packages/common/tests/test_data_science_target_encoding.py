"""Target encoding against scikit-learn's, and its promise: no row is encoded with its own target."""

import numpy as np
import pytest
from dlcommon.data_science.target_encoding import TargetEncoding, cross_fit_encode
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import TargetEncoder

TARGETS = {"binary": lambda random: random.integers(0, 2, 300), "continuous": lambda random: random.normal(5, 2, 300)}
CATEGORIES = {"text": np.array([f"street {number}" for number in range(80)]), "integers": np.arange(80) * 7 - 100}


def rows(kind: str, target: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """300 rows over 80 categories: some frequent, many of a single row, some never seen."""
    random = np.random.default_rng(seed)
    frequencies = 1 / np.arange(1, 81)
    number = random.choice(80, 300, p=frequencies / frequencies.sum())
    return CATEGORIES[kind][number], TARGETS[target](random)


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", CATEGORIES)
def test_encodes_seen_and_unseen_categories_as_scikit_learn(kind: str, target: str, smoothing: float) -> None:
    categories, targets = rows(kind, target)
    reference = TargetEncoder(smooth=smoothing, target_type=target).fit(categories[:, None], targets)
    every = CATEGORIES[kind]
    ours = TargetEncoding.fit(categories, targets, smoothing)
    np.testing.assert_allclose(ours.encode(every), reference.transform(every[:, None])[:, 0], rtol=1e-12)
    unseen = ~np.isin(every, categories)
    assert unseen.any()
    assert (ours.encode(every)[unseen] == ours.overall).all()


@pytest.mark.parametrize("smoothing", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("target", TARGETS)
def test_cross_fitting_equals_scikit_learns(target: str, smoothing: float) -> None:
    categories, targets = rows("text", target)
    folds = (StratifiedKFold if target == "binary" else KFold)(5, shuffle=True, random_state=3)
    reference = TargetEncoder(smooth=smoothing, target_type=target, cv=folds)
    expected = reference.fit_transform(categories[:, None], targets)[:, 0]
    ours = cross_fit_encode(categories, targets, folds.split(categories, targets), smoothing)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("row", [0, 1, 150, 299])
def test_a_row_is_not_encoded_with_its_own_target(row: int) -> None:
    categories, targets = rows("integers", "continuous")
    changed = targets.copy()
    changed[row] += 1e6
    before, after = (cross_fit_encode(categories, y, KFold(5).split(categories)) for y in (targets, changed))
    assert before[row] == after[row]
    assert not np.array_equal(before, after)
    leaking, leaked = (TargetEncoding.fit(categories, y).encode(categories) for y in (targets, changed))
    assert leaking[row] != leaked[row]


def test_what_cannot_be_fitted_is_refused() -> None:
    categories, targets = rows("text", "binary")
    for wrong in ((categories[:0], targets[:0], 1.0), (categories, targets[1:], 1.0), (categories, targets, -1.0)):
        with pytest.raises(ValueError, match="categories"):
            TargetEncoding.fit(*wrong)


def test_folds_encode_every_row_once() -> None:
    categories, targets = rows("text", "binary")
    folds = list(KFold(5).split(categories))
    with pytest.raises(ValueError, match="60 rows are not encoded exactly once"):
        cross_fit_encode(categories, targets, folds[1:])
    with pytest.raises(ValueError, match="60 rows are not encoded exactly once"):
        cross_fit_encode(categories, targets, [*folds, folds[0]])
