"""Bayes, sampling, intervals and information against SciPy, scikit-learn and torch."""

import numpy as np
import pytest
import torch
from dlcommon.mathematics import sampling
from dlcommon.mathematics.derivatives import numerical_gradient
from dlcommon.mathematics.information import (
    cross_entropy,
    entropy,
    gaussian_kl,
    js_divergence,
    kl_divergence,
    mutual_information,
)
from dlcommon.mathematics.intervals import bootstrap_interval, wald_interval, wilson_interval
from dlcommon.mathematics.probability import BernoulliNaiveBayes, gaussian_log_density, logsumexp, posterior
from scipy import special, stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import mutual_info_score
from sklearn.naive_bayes import BernoulliNB


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def distributions(*shape: int, seed: int = 0) -> np.ndarray:
    """With a zero in each."""
    p = generator(seed).dirichlet(np.ones(shape[-1]), size=shape[:-1])
    p[..., 0] = 0.0
    normalized: np.ndarray = p / p.sum(axis=-1, keepdims=True)
    return normalized


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_log_sum_exp_equals_scipys(scale: float) -> None:
    x = scale * generator().standard_normal((4, 5))
    np.testing.assert_allclose(logsumexp(x), special.logsumexp(x, axis=-1), rtol=1e-12)


def test_posterior_is_bayess_rule_and_survives_tiny_likelihoods() -> None:
    prior, likelihood = np.array([0.01, 0.99]), np.array([0.9, 0.05])
    expected = prior * likelihood / (prior * likelihood).sum()
    np.testing.assert_allclose(posterior(np.log(prior), np.log(likelihood)), expected, rtol=1e-12)
    np.testing.assert_allclose(posterior(np.log(prior), np.log(likelihood) - 5000.0), expected, rtol=1e-9)


def test_gaussian_density_equals_scipys() -> None:
    x, mean, std = generator().standard_normal((3, 20)) + np.array([[0.0], [2.0], [5.0]])
    std = np.abs(std)
    np.testing.assert_allclose(gaussian_log_density(x, mean, std), stats.norm.logpdf(x, mean, std), rtol=1e-10)


@pytest.mark.parametrize("smoothing", [1.0, 0.1])
def test_naive_bayes_equals_scikit_learns(smoothing: float) -> None:
    random = generator()
    features, labels = random.random((60, 8)) < 0.3, np.concatenate([np.arange(3), random.integers(3, size=57)])
    ours = BernoulliNaiveBayes(smoothing).fit(features, labels)
    theirs = BernoulliNB(alpha=smoothing).fit(features, labels)
    tested = random.random((10, 8)) < 0.5
    np.testing.assert_allclose(ours.predict_proba(tested), theirs.predict_proba(tested), rtol=1e-10)
    joint = ours.log_prior + ours.log_likelihood(tested)
    np.testing.assert_allclose(joint, theirs.predict_joint_log_proba(tested), rtol=1e-10)


def test_without_smoothing_the_unseen_would_be_impossible() -> None:
    with pytest.raises(ValueError, match="alpha"):
        BernoulliNaiveBayes(0.0)


def test_samples_of_the_exponential_and_the_normal_pass_kolmogorov_and_smirnov() -> None:
    exponential = sampling.exponential_by_inverse(2.5, (4000,), generator())
    assert stats.kstest(exponential, stats.expon(scale=1 / 2.5).cdf).pvalue > 0.01
    assert stats.kstest(exponential, stats.expon(scale=1 / 2.2).cdf).pvalue < 0.001
    normal = sampling.box_muller(4001, generator())
    assert normal.shape == (4001,)
    assert stats.kstest(normal, stats.norm.cdf).pvalue > 0.01
    assert abs(np.corrcoef(normal[:2000], normal[2001:4001])[0, 1]) < 0.07  # the two halves of each pair


@pytest.mark.parametrize("method", ["inverse", "gumbel"])
def test_classes_come_with_their_probabilities(method: str) -> None:
    logits = np.array([1.0, -1.0, 0.0, 2.0]) + 300.0
    p = special.softmax(logits)
    if method == "inverse":
        drawn = sampling.categorical_by_inverse(p, 20_000, generator())
    else:
        drawn = sampling.gumbel_max(logits, 20_000, generator())
    counts = np.bincount(drawn, minlength=4)
    assert stats.chisquare(counts, p * 20_000).pvalue > 0.01
    assert stats.chisquare(counts, np.roll(p, 1) * 20_000).pvalue < 0.001


def test_a_class_without_probability_is_never_drawn() -> None:
    drawn = sampling.categorical_by_inverse(np.array([0.0, 0.5, 0.0, 0.5, 0.0]), 5000, generator())
    assert set(drawn) == {1, 3}


@pytest.mark.parametrize("successes", [0, 1, 50, 97, 100])
def test_wilsons_interval_equals_scipys(successes: int) -> None:
    expected = stats.binomtest(successes, 100).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(successes, 100), (expected.low, expected.high), atol=1e-12)


def test_walds_interval_is_the_normal_approximation() -> None:
    low, high = wald_interval(np.array([80, 100]), 100, confidence=0.9)
    np.testing.assert_allclose([low[0], high[0]], stats.norm.interval(0.9, 0.8, 0.04), rtol=1e-12)
    assert low[1] == high[1] == 1.0


def test_bootstrap_interval_equals_scipys_percentiles() -> None:
    samples = generator().exponential(size=80)
    ours = bootstrap_interval(samples, lambda drawn: drawn.mean(axis=1), generator(1), n_resamples=20_000)
    theirs = stats.bootstrap((samples,), np.mean, n_resamples=20_000, method="percentile", rng=generator(2))
    width = ours[1] - ours[0]
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.03 * width)  # both are random


def test_entropies_equal_scipys() -> None:
    p, q = distributions(6, 5), distributions(6, 5, seed=1)
    np.testing.assert_allclose(entropy(p), stats.entropy(p, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(kl_divergence(p, q), stats.entropy(p, q, axis=-1), rtol=1e-10)
    np.testing.assert_allclose(cross_entropy(p, q), entropy(p) + kl_divergence(p, q), rtol=1e-12)
    np.testing.assert_allclose(js_divergence(p, q), jensenshannon(p, q, axis=-1) ** 2, rtol=1e-10)


def test_the_impossible_costs_infinitely_much_and_js_stays_finite() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.0, 1.0])
    assert kl_divergence(p, q) == cross_entropy(p, q) == np.inf
    assert js_divergence(p, q) == pytest.approx(np.log(2))


def test_a_small_divergence_keeps_its_digits() -> None:
    p = np.array([0.5, 0.5])
    q = np.array([0.5 + 1e-6, 0.5 - 1e-6])
    assert kl_divergence(p, q) == pytest.approx(2e-12, rel=1e-3)


def test_mutual_information_equals_scikit_learns() -> None:
    random = generator()
    x = random.integers(4, size=500)
    y = np.where(random.random(500) < 0.4, x, random.integers(3, size=500))
    joint = np.zeros((4, 4))
    np.add.at(joint, (x, y), 1 / 500)
    assert mutual_information(joint) == pytest.approx(mutual_info_score(x, y), rel=1e-10)
    np.testing.assert_allclose(mutual_information(np.stack([joint, np.full((4, 4), 1 / 16)]))[1], 0.0, atol=1e-15)


def test_gaussian_divergence_equals_torchs() -> None:
    mean, std, other_mean, other_std = np.abs(generator().standard_normal((4, 7))) + 0.1
    ours = gaussian_kl(mean, std, other_mean, other_std)
    normal = torch.distributions.Normal
    theirs = torch.distributions.kl_divergence(
        normal(torch.tensor(mean), torch.tensor(std)), normal(torch.tensor(other_mean), torch.tensor(other_std))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_gradients_of_divergences_equal_torchs() -> None:
    logits, p = generator().standard_normal(5), distributions(5)
    tensor = torch.tensor(logits, requires_grad=True)
    torch.nn.functional.kl_div(torch.log_softmax(tensor, -1), torch.tensor(p), reduction="sum").backward()
    found = numerical_gradient(lambda z: float(kl_divergence(p, special.softmax(z))), logits)
    assert tensor.grad is not None
    np.testing.assert_allclose(found, tensor.grad, atol=1e-9)
    np.testing.assert_allclose(found, special.softmax(logits) - p, atol=1e-9)


@pytest.mark.parametrize("wrong", [[0.5, 0.6], [1.5, -0.5], [np.nan, 1.0]])
def test_what_is_no_distribution_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="sums to one"):
        entropy(np.array(wrong))
