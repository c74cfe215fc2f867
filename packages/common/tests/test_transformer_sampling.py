"""How the next token is drawn from a distribution."""

import subprocess
import sys

import numpy as np
import pytest
from dlcommon.transformer.sampling import Sampling

NOTHING = np.zeros(5, dtype=bool)
LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05]))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.4, 0.3, 0.15, 0.1, 0.05]),
        (Sampling(0), [1, 0, 0, 0, 0]),
        (Sampling(0.5), np.array([0.4, 0.3, 0.15, 0.1, 0.05]) ** 2 / 0.285),
        (Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(top_k=99), [0.4, 0.3, 0.15, 0.1, 0.05]),
        (Sampling(top_p=0.5), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(top_p=0.01), [1, 0, 0, 0, 0]),
        (Sampling(min_p=0.3), [8 / 17, 6 / 17, 3 / 17, 0, 0]),
        (Sampling(min_p=1.0), [1, 0, 0, 0, 0]),
    ],
)
def test_each_way_of_sampling_leaves_its_distribution(sampling: Sampling, expected: list[float] | np.ndarray) -> None:
    assert sampling.probabilities(LOGITS, NOTHING) == pytest.approx(np.asarray(expected, float))


def test_the_most_probable_of_a_large_vocabulary_takes_no_square_of_its_memory() -> None:
    logits = np.zeros(2**20)
    logits[-1] = 1
    assert Sampling(0).probabilities(logits, logits > 2).nonzero()[0].tolist() == [2**20 - 1]


def test_a_repetition_penalty_lowers_what_occurred_whatever_its_sign() -> None:
    logits, seen = np.array([2.0, -2.0, 2.0, -2.0]), np.array([True, True, False, False])
    found = Sampling(repetition_penalty=2.0).probabilities(logits, seen)
    expected = np.exp([1.0, -4.0, 2.0, -2.0])
    assert found == pytest.approx(expected / expected.sum())


def test_filters_act_together_and_after_the_temperature() -> None:
    p = np.array([0.4, 0.3, 0.15, 0.1, 0.05]) ** 2
    found = Sampling(0.5, top_k=4, top_p=0.9, min_p=0.2).probabilities(LOGITS, NOTHING)
    # Of 0.561, 0.316, 0.079 …, top-p 0.9 keeps three, min-p 0.2 two.
    assert found == pytest.approx(np.array([p[0], p[1], 0, 0, 0]) / (p[0] + p[1]))


@pytest.mark.parametrize("module", ["sampling", "beam_search", "contrastive_search"])
def test_decoding_needs_no_torch(module: str) -> None:
    code = f"import sys, dlcommon.transformer.{module}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
