"""The perceptron against scikit-learn's, the convergence theorem, and all Boolean functions of two and three inputs."""

import itertools

import numpy as np
import pytest
from dlcommon.neural_networks.perceptron import mistake_bound, train_perceptron
from sklearn.linear_model import Perceptron as SklearnPerceptron
from sklearn.linear_model import SGDClassifier


def two_classes(distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.where(random.random(200) < 0.5, 1, -1)
    return random.standard_normal((200, 5)) + distance * labels[:, None], labels


@pytest.mark.parametrize("distance", [0.3, 2.0])
def test_weights_are_scikit_learns_after_every_number_of_epochs(distance: float) -> None:
    inputs, labels = two_classes(distance)
    for epochs in (1, 2, 7):
        ours = train_perceptron(inputs, labels, epochs)
        theirs = SklearnPerceptron(max_iter=epochs, tol=None, shuffle=False).fit(inputs, labels)
        np.testing.assert_allclose(ours.weights, theirs.coef_[0], rtol=1e-10)
        assert ours.bias == theirs.intercept_[0]
        np.testing.assert_array_equal(ours.predict(inputs), theirs.predict(inputs))


def test_the_average_is_scikit_learns() -> None:
    inputs, labels = two_classes(0.3)
    ours = train_perceptron(inputs, labels, 5)
    theirs = SGDClassifier(
        loss="perceptron",
        penalty=None,
        learning_rate="constant",
        eta0=1,
        max_iter=5,
        tol=None,
        shuffle=False,
        average=True,
    ).fit(inputs, labels)
    np.testing.assert_allclose(ours.averaged_weights, theirs.coef_[0], rtol=1e-10)
    np.testing.assert_allclose(ours.averaged_bias, theirs.intercept_[0], rtol=1e-10)
    np.testing.assert_array_equal(ours.predict_averaged(inputs), theirs.predict(inputs))


@pytest.mark.parametrize("seed", range(5))
def test_separable_samples_are_separated_within_the_bound(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.standard_normal(4)
    inputs = random.standard_normal((300, 4))
    inputs = inputs[np.abs(inputs @ truth - 0.5) > 0.1]
    labels = np.where(inputs @ truth - 0.5 > 0, 1, -1)
    trained = train_perceptron(inputs, labels, 10_000)
    assert trained.converged
    assert trained.cycle_length is None
    np.testing.assert_array_equal(trained.predict(inputs), labels)
    assert sum(trained.mistakes) <= mistake_bound(inputs, labels, truth, -0.5)


def test_the_bound_can_be_reached() -> None:
    # One sample is as far from its own hyperplane as it is long, so that R = γ; it is missed once, at the start.
    inputs, labels = np.array([[2.0, 0.0]]), np.array([1])
    trained = train_perceptron(inputs, labels, 5)
    assert trained.mistakes == [1, 0]
    assert mistake_bound(inputs, labels, trained.weights, trained.bias) == pytest.approx(1.0)


@pytest.mark.parametrize(("inputs", "separable"), [(1, 4), (2, 14), (3, 104)])
def test_it_decides_which_boolean_functions_a_plane_can_separate(inputs: int, separable: int) -> None:
    corners = np.array(list(itertools.product((0, 1), repeat=inputs)))
    outcomes = [
        train_perceptron(corners, np.array(labels), 1000) for labels in itertools.product((-1, 1), repeat=len(corners))
    ]
    assert all(outcome.converged != (outcome.cycle_length is not None) for outcome in outcomes)
    assert sum(outcome.converged for outcome in outcomes) == separable


@pytest.mark.parametrize("labels", [[0, 1], [1], [1, 2]])
def test_labels_are_plus_and_minus_one(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="each 1 or -1"):
        train_perceptron(np.eye(2), np.array(labels), 1)


def test_no_epoch_and_no_margin_are_refused() -> None:
    with pytest.raises(ValueError, match="epochs"):
        train_perceptron(np.eye(2), np.array([1, -1]), 0)
    with pytest.raises(ValueError, match="separates"):
        mistake_bound(np.eye(2), np.array([1, -1]), np.ones(2))
