import json

import numpy as np
import pytest
from char_lm import tokenizer as tokenizers
from char_lm.tokenizer import BpeTokenizer, ByteTokenizer, CharacterTokenizer
from dlcommon.runtime.errors import InvalidInputError, UserError

CORPUS = "To be, or not to be: that is the question.\n学而时习之，不亦说乎？\n😀 naïve\n" * 20
KINDS = ["characters", "bytes", "bpe"]


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back_whole_and_token_by_token(kind: str) -> None:
    tokenizer = tokenizers.build(kind, CORPUS, CORPUS, 400)
    tokens = tokenizer.encode(CORPUS)
    assert tokens.dtype == np.int64
    assert 0 <= tokens.min() <= tokens.max() < tokenizer.size
    assert tokenizer.decode(tokens) == CORPUS
    following = tokenizer.decoder()
    assert "".join(following(int(token)) for token in tokens[:300]) in CORPUS


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_tokenizer_is_the_same(kind: str) -> None:
    tokenizer = tokenizers.build(kind, CORPUS, CORPUS, 400)
    again = tokenizers.from_json(tokenizer.to_json())
    assert again.size == tokenizer.size
    assert np.array_equal(again.encode(CORPUS), tokenizer.encode(CORPUS))


def test_a_character_of_several_tokens_appears_when_it_is_whole() -> None:
    tokenizer = ByteTokenizer()
    following = tokenizer.decoder()
    assert [following(int(token)) for token in tokenizer.encode("学a")] == ["", "", "学", "a"]


def test_unknown_characters_are_named_and_counted() -> None:
    tokenizer = CharacterTokenizer.of("abc\n")
    with pytest.raises(InvalidInputError, match=r"4 characters of its training text, without '!', 'é'$"):
        tokenizer.encode("abé!é")
    with pytest.raises(InvalidInputError, match="…"):
        tokenizer.encode("defghijk")


@pytest.mark.parametrize(
    ("typed", "read", "replaced"),
    [
        ("a\r\nb", "a\nb", {"\r\n": "\n"}),
        ("don’t", "don't", {"’": "'"}),
        ("a\tb", "a    b", {"\t": "    "}),
        ("a\u00a0b — “c”…", "a b -- ''c''...", {"\u00a0": " ", "—": "--", "“": "''", "”": "''", "…": "..."}),
        ("café ﬁn ａ！", "cafe fin a!", {"é": "e", "ﬁ": "fi", "ａ": "a", "！": "!"}),
        ("e\u0301", "e", {"\u0301": ""}),
        ("plain", "plain", {}),
    ],
)
def test_a_prompt_is_read_in_plain_characters(typed: str, read: str, replaced: dict[str, str]) -> None:
    tokenizer = CharacterTokenizer.of("abcdefghijklmnopqrstuvwxyz .!-'\n")
    tokens, said = tokenizer.encode_prompt(typed)
    assert tokenizer.decode(tokens) == read
    assert said == replaced
    with pytest.raises(InvalidInputError, match="without '学'"):
        tokenizer.encode_prompt("学’")


def test_what_a_vocabulary_holds_is_not_replaced() -> None:
    tokenizer = CharacterTokenizer.of("don’t\t'")
    tokens, said = tokenizer.encode_prompt("d’\t")
    assert (tokenizer.decode(tokens), said) == ("d’\t", {})
    assert ByteTokenizer().encode_prompt("’\r\n")[1] == {}


def test_byte_pairs_are_fewer_than_bytes_and_take_any_text() -> None:
    tokenizer = BpeTokenizer.of(CORPUS, 400)
    assert 256 < tokenizer.size <= 400
    assert len(tokenizer.encode(CORPUS)) < len(CORPUS.encode()) / 2
    assert tokenizer.decode(tokenizer.encode("Ünseen ☂ text")) == "Ünseen ☂ text"


@pytest.mark.parametrize("text", ["", "\x00\x7f", "a\u0300 _x__ 12\u00b2 \u0661", " \n \n  x\t", "'s 'll don't"])
def test_byte_pairs_lose_nothing_of_any_text(text: str) -> None:
    tokenizer = BpeTokenizer.of(CORPUS, 300)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_byte_pairs_of_an_earlier_version_are_refused() -> None:
    with pytest.raises(UserError, match="stored by an earlier version; train with --tokens bpe again"):
        tokenizers.from_json(json.dumps({"kind": "bpe", "state": "{}"}))
