"""MinHash estimates the Jaccard similarity without bias; bands find what they should; groups keep one document."""

import numpy as np
import pytest
from dlcommon.llm.near_duplicates import (
    MinHash,
    candidate_pairs,
    candidate_probability,
    estimated_jaccard,
    jaccard,
    shingles,
    without_near_duplicates,
)
from dlcommon.llm.text_quality import quality_problems

PROSE = "The quick brown fox jumps over the lazy dog and runs back to the house of the farmer, that have two dogs. " * 3


def test_shingles_are_runs_of_words_in_lower_case() -> None:
    assert shingles("The cat, sat: on", 3) == {"the cat sat", "cat sat on"}
    assert shingles("Too short", 5) == {"too short"}
    assert shingles(" … ", 5) == set()


def test_jaccard() -> None:
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert jaccard(set(), set()) == 1.0
    assert jaccard(set(), {"a"}) == 0.0


@pytest.mark.parametrize("common", [10, 50, 90])
def test_the_estimate_is_unbiased(common: int) -> None:
    first = {f"a{number}" for number in range(100 - common)} | {f"c{number}" for number in range(common)}
    second = {f"b{number}" for number in range(100 - common)} | {f"c{number}" for number in range(common)}
    hasher, expected = MinHash(4000, seed=3), jaccard(first, second)
    found = estimated_jaccard(hasher.signature(first), hasher.signature(second))
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


def test_a_signature_is_the_least_of_each_hash_function() -> None:
    hasher, elements = MinHash(64), {"a", "b", "c"}
    each = np.stack([hasher.signature({one}) for one in elements])
    np.testing.assert_array_equal(hasher.signature(elements), each.min(axis=0))
    np.testing.assert_array_equal(MinHash(64).signature(elements), hasher.signature(elements))
    assert (MinHash(64, seed=1).signature(elements) != hasher.signature(elements)).mean() > 0.9


def test_candidates_agree_in_a_whole_band() -> None:
    signatures = np.array([[1, 2, 3, 4], [1, 2, 9, 9], [9, 2, 3, 9], [8, 8, 3, 4]], dtype=np.uint64)
    assert candidate_pairs(signatures, 2) == {(0, 1), (0, 3)}
    assert candidate_pairs(signatures, 4) == {(0, 1), (0, 2), (0, 3), (1, 2), (2, 3)}
    with pytest.raises(ValueError, match="cannot be divided into 3"):
        candidate_pairs(signatures, 3)


def test_candidates_are_as_frequent_as_the_formula_says() -> None:
    draws = np.random.default_rng(0)
    first = draws.integers(1 << 30, size=(3000, 32), dtype=np.uint64)
    second = np.where(draws.random((3000, 32)) < 0.7, first, first + np.uint64(1 << 31))  # 70 % of the entries agree
    bands = (first == second).reshape(3000, 8, 4).all(axis=2).any(axis=1).mean()
    assert bands == pytest.approx(candidate_probability(0.7, 8, 4), abs=0.03)


def test_one_document_of_each_group_is_kept() -> None:
    words = [f"word{number}" for number in range(120)]
    texts = [
        " ".join(words),
        "something else altogether, of other words than these",
        " ".join(words[:-1]),  # near the first
        " ".join(words[:-2]),  # near the third
        "something else altogether of other words than these!",
        "a last one that is like none of the others before it",
    ]
    assert without_near_duplicates(texts) == [0, 1, 5]
    assert without_near_duplicates(texts[1:2]) == [0]


def test_prose_breaks_no_rule_and_each_rule_can_be_broken() -> None:
    assert quality_problems(PROSE) == []
    assert quality_problems("") == ["no words"]
    broken = {
        "number of words": "the cat and the dog",
        "mean word length": "a b c to be of and i " * 20,
        "hashes and ellipses": PROSE.replace(" the", " #the"),
        "bullet points": "\n".join(f"- {PROSE}" for _ in range(4)),
        "lines ending in an ellipsis": "\n".join(PROSE.strip() + "..." for _ in range(3)),
        "words with a letter": PROSE + "1234 " * 40,
        "stop words": "lorem ipsum dolor sit amet " * 20,
    }
    for rule, text in broken.items():
        assert quality_problems(text) == [rule], rule
