"""Changes of test texts that keep the meaning, and contrast pairs."""

import random

import pytest
from sentiment_bert.robustness import CHANGES, CONTRASTS, changed, drop_punctuation, typo


@pytest.mark.parametrize(
    ("text", "plain"),
    [("房间很干净，服务“很好”！", "房间很干净服务很好"), ("well , it 's a 5-star $ film .", "well it s a 5star film")],
)
def test_punctuation_of_both_languages_is_dropped(text: str, plain: str) -> None:
    assert drop_punctuation(text, random.Random(0)) == plain


def test_a_typo_swaps_letters_inside_words() -> None:
    text = "a wonderful film about nothing in particular"
    other = typo(text, random.Random(0))
    assert other != text
    assert [sorted(word) for word in other.split()] == [sorted(word) for word in text.split()]


@pytest.mark.parametrize("language", CHANGES)
def test_changes_are_always_alike_and_leave_no_text_empty(language: str) -> None:
    texts = ("...", "。。。", "It is good, 很好。")
    for change in CHANGES[language].values():
        assert changed(change, texts) == changed(change, texts)
        assert all(changed(change, texts))


@pytest.mark.parametrize("language", CONTRASTS)
def test_contrast_pairs_differ_and_none_stands_twice(language: str) -> None:
    sentences = [one for pairs in CONTRASTS[language].values() for pair in pairs for one in pair]
    assert len(sentences) == len(set(sentences)) >= 40
