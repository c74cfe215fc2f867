import os
import subprocess
import sys

import numpy as np
import pytest
from dlcommon.runtime.errors import UserError
from dlcommon.testing.skips import asset_or_skip
from sentiment_bert.colouring import spans_of_words, word_weights
from sentiment_bert.tokenizer import SPECIAL, Tokenizer, learn_vocabulary

TEXTS = ("It won't be the film's best (1/2).", "Café, café!", "a very bad film")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 2, 200)


def test_tokens_know_their_place_in_the_text(tokenizer: Tokenizer) -> None:
    text = "It wo n't be a  very Café"
    encoded = tokenizer.encode(text)
    assert [text[start:end] for start, end in encoded.spans] == ["It", "wo n", "'", "t", "be", "a", "very", "Café"]


def test_what_a_corpus_writes_otherwise_is_read_as_people_write(tokenizer: Tokenizer) -> None:
    plain = tokenizer.encode(TEXTS[0]).ids
    assert tokenizer.encode("it wo n't be the film 's best -lrb- 1\\/2 -rrb- .").ids == plain
    assert tokenizer.unknown not in plain


def test_a_stored_tokenizer_is_the_same(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.size == tokenizer.size
    assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS) == [tokenizer.encode(text) for text in TEXTS]


def test_unknown_words_are_one_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a 🐶 film").ids.count(tokenizer.unknown) == 1
    assert tokenizer.encode(" \n ").ids == []


def test_rows_are_padded_to_the_longest(tokenizer: Tokenizer) -> None:
    rows = [tokenizer.row([9]), tokenizer.row([7, 8])]
    assert tokenizer.padded(rows).tolist() == [
        [tokenizer.cls, 9, tokenizer.sep, tokenizer.pad],
        [tokenizer.cls, 7, 8, tokenizer.sep],
    ]


def test_a_damaged_file_is_named() -> None:
    with pytest.raises(UserError, match="the tokenizer is damaged"):
        Tokenizer.from_json("{")


def test_the_pretrained_tokenizer_neither_cuts_nor_pads() -> None:
    tokenizer = Tokenizer.from_pretrained(asset_or_skip("all-minilm-l6-v2").path)
    assert len(tokenizer.encode("good " * 500).ids) == 500
    assert tokenizer.encode("do n't").ids == tokenizer.encode("don't").ids
    assert (tokenizer.pad, tokenizer.size) == (0, 30522)


def test_the_vocabulary_is_the_same_in_every_process(tokenizer: Tokenizer) -> None:
    train = f"from sentiment_bert.tokenizer import Tokenizer; print(Tokenizer.train({TEXTS * 2!r}, 200).to_json())"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", train], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == tokenizer.to_json()


def test_a_vocabulary_has_pieces_that_begin_words_and_pieces_that_continue_them() -> None:
    vocabulary = learn_vocabulary({"aba": 5, "ab": 4, "bab": 1}, 11, "##")
    assert vocabulary == [*SPECIAL, "a", "b", "##a", "##b", "ab", "aba"]
    with pytest.raises(ValueError, match="vocab_size 6"):
        learn_vocabulary({"aba": 5}, 6, "##")


def test_chinese_words_become_pieces_and_keep_their_place() -> None:
    texts = ("房间很干净，服务很好", "房间很大", "服务不好，房间不好") * 3
    tokenizer = Tokenizer.train(texts, 40, "zh")
    text = "服务很好！房间Wifi"
    encoded = tokenizer.encode(text)
    assert [text[start:end] for start, end in encoded.spans][:2] == ["服务很好", "！"]
    assert tokenizer.encode(texts[0] * 100).ids == tokenizer.encode(texts[0]).ids * 100
    assert Tokenizer.from_json(tokenizer.to_json()).encode(text) == encoded


def test_a_token_of_several_words_counts_for_each_alike() -> None:
    words = spans_of_words("服务很好 ok")
    tokens = np.array([1.0, 3.0, -1.0])
    assert word_weights(words, [(0, 2), (2, 4), (5, 7)], tokens) == [0.5, 0.5, 1.5, 1.5, -1.0]
    assert word_weights(spans_of_words("can't"), [(0, 3), (3, 5)], np.ones(2)) == [2.0]
    assert word_weights([], [(0, 1)], np.ones(1)) == []
