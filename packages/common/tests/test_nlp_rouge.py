"""ROUGE-L equals Google's rouge-score 0.1.2, whose results these are."""

import pytest
from dlcommon.nlp.rouge import longest_common_subsequence, rouge_l

SPELLING = 'The spelling of the given phrase "freind" is incorrect, the correct spelling is "friend".'


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("The cat sat on the mat.", "The cat lay on a mat", 0.6666666666666666),
        ("police killed the gunman", "the gunman police killed", 0.5),
        ("It's 3.14, isn't it?", "it is 3.14", 0.5454545454545454),
        ("", "a", 0.0),
        ("no overlap here", "something else", 0.0),
        ("The spelling of 'freind' is wrong; it's \"friend\".", SPELLING, 0.5217391304347826),
        ("a_b c-d", "a b c d", 1.0),
    ],
)
def test_rouge_l_is_that_of_google_s_package(prediction: str, reference: str, expected: float) -> None:
    assert rouge_l(prediction, reference) == pytest.approx(expected, abs=1e-12)
    assert rouge_l(reference, prediction) == pytest.approx(expected, abs=1e-12)  # F1 is symmetric


def test_chinese_characters_are_tokens() -> None:
    assert rouge_l("今天天气很好", "今天天气不好") == pytest.approx(5 / 6)
    assert rouge_l("今天", "你们") == 0


def test_the_longest_common_subsequence_may_have_gaps() -> None:
    assert longest_common_subsequence("ABCBDAB", "BDCABA") == 4
    assert longest_common_subsequence("", "AB") == 0
    assert longest_common_subsequence("AAAA", "AA") == 2
