"""Byte-pair encoding against the `tokenizers` library, which learns the same from the same word counts."""

import json
from collections import Counter

import pytest
from dlcommon.transformer.byte_pair_encoding import BytePairEncoding, merge
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

SPECIAL = ("<pad>", "<unk>")
SENTENCES = (
    "low lower lowest newer wider new low low",
    "eine kleine Katze schläft auf der Bank, und eine große Katze schläft nicht.",
    "a dog is running, another dogs' dog runs; the runner run!",
    "aaaa aaa aa banana bananas ananas",
    "学而时习之，不亦说乎？",
)


def reference(word_counts: Counter[str], vocab_size: int) -> Tokenizer:
    """Trains the library on the same words, each as often as it is counted."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "removed")
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator([" ".join([word] * count) for word, count in word_counts.items()], trainer)
    return tokenizer


@pytest.fixture(scope="module")
def word_counts() -> Counter[str]:
    return Counter(word for sentence in SENTENCES for word in sentence.split())


@pytest.mark.parametrize("vocab_size", [60, 80, 1000])
def test_vocabulary_merges_and_ids_are_those_of_tokenizers(word_counts: Counter[str], vocab_size: int) -> None:
    encoding = BytePairEncoding.train(word_counts, vocab_size, SPECIAL, "<unk>")
    library = reference(word_counts, vocab_size)
    assert library.get_vocab() == encoding.ids
    merges = json.loads(library.to_str())["model"]["merges"]
    assert [tuple(pair) for pair in merges] == [(encoding.pieces[a], encoding.pieces[b]) for a, b in encoding.merges]
    for sentence in (*SENTENCES, "lowlow unseen Катя schlafende 猫"):
        assert encoding.encode(sentence.split()) == library.encode(sentence).ids


def test_it_learns_by_hand() -> None:
    """In "aab" three times and "ab" once, a b (4 times) is merged before a a (3 times); then there is a ab."""
    encoding = BytePairEncoding.train({"aab": 3, "ab": 1}, 100, ("<unk>",), "<unk>")
    assert encoding.pieces == ("<unk>", "a", "b", "ab", "aab")
    assert encoding.encode(["aab", "ab", "aa", "ba"]) == [4, 3, 1, 1, 2, 1]


def test_a_pair_is_merged_from_left_to_right() -> None:
    assert merge([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]
    assert merge([], (1, 1), 9) == []


def test_symbols_that_the_vocabulary_lacks_are_unknown_one_by_one(word_counts: Counter[str]) -> None:
    encoding = BytePairEncoding.train(word_counts, 200, SPECIAL, "<unk>")
    assert encoding.encode(["猫犬"]) == [1, 1]
    assert encoding.encode([""]) == encoding.encode([]) == []


def test_a_stored_encoding_is_the_same(word_counts: Counter[str]) -> None:
    encoding = BytePairEncoding.train(word_counts, 80, SPECIAL, "<unk>")
    again = BytePairEncoding.from_state(json.loads(json.dumps(encoding.state())))
    assert (again.pieces, again.merges) == (encoding.pieces, encoding.merges)
    assert again.encode(SENTENCES[1].split()) == encoding.encode(SENTENCES[1].split())


def test_a_long_word_does_not_take_long() -> None:
    """Its merges are applied one kind at a time, so that passes over it are few."""
    encoding = BytePairEncoding.train({"a" * 64: 1}, 100, ("<unk>",), "<unk>")
    assert len(encoding.encode(["a" * 100_000])) == -(-100_000 // 64)


def test_impossible_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="less than the 4 characters and special pieces"):
        BytePairEncoding.train({"abc": 1}, 3, ("<unk>",), "<unk>")
    with pytest.raises(ValueError, match="twice"):
        BytePairEncoding(["<unk>", "a", "a"], [], 0)
    with pytest.raises(ValueError, match="do not make a piece"):
        BytePairEncoding(["<unk>", "a", "b"], [(1, 2)], 0)
