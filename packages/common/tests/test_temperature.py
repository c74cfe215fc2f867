"""The temperature is the one that torch's optimizer finds, and it mends what it is meant to mend."""

import numpy as np
import pytest
import torch
from dlcommon.training.temperature import fit_temperature
from torch.nn import functional as F


def drawn(temperature: float, samples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sharp by `temperature`, and labels drawn from what they should say."""
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((samples, 10))
    labels = np.array([random.choice(10, p=row) for row in torch.tensor(logits).softmax(dim=1).numpy()])
    return temperature * logits, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_it_finds_the_temperature_that_labels_were_drawn_with(temperature: float) -> None:
    logits, labels = drawn(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_it_is_where_the_gradient_of_torchs_cross_entropy_vanishes() -> None:
    logits, labels = drawn(2.5, samples=500)
    fitted = torch.tensor(fit_temperature(logits, labels), dtype=torch.float64, requires_grad=True)
    F.cross_entropy(torch.tensor(logits) / fitted, torch.tensor(labels), label_smoothing=1 / 502).backward()
    assert fitted.grad is not None
    assert abs(float(fitted.grad)) < 1e-4


def test_log_probabilities_and_logits_give_the_same() -> None:
    logits, labels = drawn(0.5, samples=500)
    logarithms = torch.tensor(logits).log_softmax(dim=1).numpy()
    assert fit_temperature(logarithms, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


def test_no_error_on_few_samples_is_no_proof_of_infallibility() -> None:
    logits = np.eye(10)[np.arange(200) % 10] * 5.0
    confidence = 1 / (1 + 9 * np.exp(-5 / fit_temperature(logits, np.arange(200) % 10)))
    assert 1 - 1 / 100 < confidence < 1 - 1 / 400


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="there are none"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))
