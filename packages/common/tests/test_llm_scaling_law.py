"""The fit recovers known laws and equals SciPy's; the optimum equals a numerical search."""

import numpy as np
import pytest
from dlcommon.llm.bits_per_byte import bits_per_byte, perplexity
from dlcommon.llm.scaling_law import (
    CHINCHILLA,
    CHINCHILLA_REFITTED,
    ScalingLaw,
    compute_optimal,
    fit_scaling_law,
    training_flops,
)
from scipy.optimize import curve_fit, minimize_scalar

GRID = np.array([(n, d) for n in (1e8, 1e9, 1e10, 7e10) for d in (1e9, 2e10, 3e11)])


@pytest.mark.parametrize("law", [CHINCHILLA, CHINCHILLA_REFITTED])
def test_a_law_of_parameters_and_tokens_is_recovered(law: ScalingLaw) -> None:
    found = fit_scaling_law(GRID, law.loss(*GRID.T))
    np.testing.assert_allclose(found.floor, law.floor, rtol=1e-4)
    np.testing.assert_allclose(found.exponents, law.exponents, rtol=1e-3)
    np.testing.assert_allclose(found.coefficients, law.coefficients, rtol=2e-2)


def test_a_fit_to_noisy_losses_equals_scipys() -> None:
    compute, known = np.geomspace(1e6, 1e10, 12), ScalingLaw(2.0, (40.0,), (0.25,))
    losses = known.loss(compute) * (1 + 0.01 * np.random.default_rng(0).standard_normal(12))
    found = fit_scaling_law(compute, losses)
    expected, _ = curve_fit(
        lambda x, floor, log_a, alpha: np.log(floor + np.exp(log_a - alpha * np.log(x))),
        compute,
        np.log(losses),
        p0=(2.0, np.log(40.0), 0.25),
    )
    np.testing.assert_allclose([found.floor, np.log(found.coefficients[0]), found.exponents[0]], expected, rtol=1e-3)


def test_hubers_loss_withstands_an_outlier() -> None:
    compute, known = np.geomspace(1e6, 1e10, 12), ScalingLaw(2.0, (40.0,), (0.25,))
    losses = known.loss(compute)
    losses[4] *= 1.3
    robust, squares = fit_scaling_law(compute, losses, huber_delta=1e-3), fit_scaling_law(compute, losses)
    errors = [abs(float(law.loss(1e12)) - float(known.loss(1e12))) for law in (robust, squares)]
    assert errors[0] < 0.05 * errors[1]


@pytest.mark.parametrize("flops", [1e20, 5.76e23])
def test_the_optimum_is_where_a_search_finds_it(flops: float) -> None:
    size, tokens = compute_optimal(CHINCHILLA_REFITTED, flops)
    found = minimize_scalar(
        lambda log: float(CHINCHILLA_REFITTED.loss(np.exp(log), flops / (6 * np.exp(log)))),
        bounds=(np.log(1e6), np.log(1e13)),
        method="bounded",
    )
    assert np.log(size) == pytest.approx(found.x, abs=1e-3)
    assert training_flops(size, tokens) == pytest.approx(flops)


def test_bits_per_byte_do_not_depend_on_the_tokenizer() -> None:
    """A fair die for each of 10 bytes, or a larger one for each of 5 pairs."""
    assert bits_per_byte(np.log(256), 10, 10) == pytest.approx(8)
    assert bits_per_byte(np.log(65_536), 5, 10) == pytest.approx(8)
    assert perplexity(np.log(65_536)) == pytest.approx(65_536)


def test_errors() -> None:
    with pytest.raises(ValueError, match="empty text"):
        bits_per_byte(1.0, 0, 0)
    with pytest.raises(ValueError, match="2 points cannot determine the 3 constants"):
        fit_scaling_law([1.0, 2.0], [3.0, 2.0])
    with pytest.raises(ValueError, match="must be positive"):
        fit_scaling_law([1.0, 2.0, 0.0], [3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="zip"):
        CHINCHILLA.loss(1e9)
