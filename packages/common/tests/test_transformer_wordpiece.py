"""WordPiece against the library `tokenizers`."""

import random

import pytest
from dlcommon.testing.skips import asset_or_skip
from dlcommon.transformer.wordpiece import wordpiece
from tokenizers import Tokenizer, models

VOCABULARY = ("un", "##aff", "##able", "##a", "##b", "a", "ab", "##bc", "##ab")


def test_the_longest_piece_is_taken_first() -> None:
    assert wordpiece("unaffable", VOCABULARY) == ["un", "##aff", "##able"]
    assert wordpiece("unhappy", VOCABULARY) == ["[UNK]"]
    assert wordpiece("abbc", VOCABULARY) == ["ab", "##bc"]
    assert wordpiece("abc", VOCABULARY) == ["[UNK]"]  # greedy: "a" + "##bc" is not tried after "ab"
    assert wordpiece("", VOCABULARY) == []


@pytest.mark.parametrize("seed", range(5))
def test_random_words_are_split_as_tokenizers_does(seed: int) -> None:
    generator = random.Random(seed)

    def drawn(longest: int) -> str:
        return "".join(generator.choice("abcé") for _ in range(generator.randint(1, longest)))

    pieces = {drawn(3) for _ in range(10)} | {"##" + drawn(3) for _ in range(14)}
    vocabulary = {piece: number for number, piece in enumerate(["[UNK]", *sorted(pieces)])}
    theirs = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=8))
    words = [drawn(10) for _ in range(200)]
    found = [wordpiece(word, vocabulary, max_characters=8) for word in words]
    assert found == [theirs.encode(word).tokens for word in words]
    unknown = sum(pieces == ["[UNK]"] for pieces in found)
    assert 0 < unknown < 200


def test_words_of_the_pretrained_vocabulary() -> None:
    theirs = Tokenizer.from_file(str(asset_or_skip("all-minilm-l6-v2").path / "tokenizer.json"))
    theirs.no_padding()  # the file asks for 128 tokens
    vocabulary = theirs.get_vocab()
    for word in ("embeddings", "tokenization", "supercalifragilistic", "bert", "qqqzx", "1789", "☃", "a" * 101):
        assert wordpiece(word, vocabulary) == theirs.encode(word, add_special_tokens=False).tokens
