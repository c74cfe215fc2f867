import pytest
from translator.tokenizer import UNKNOWN, Tokenizer, clean, padded, words_of

SENTENCES = (
    "A little girl climbing into a wooden playhouse.",
    "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
    'He says "no", doesn\'t he? (Twice - 2 times!)',
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES * 3, 120)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences_come_back_as_they_were(tokenizer: Tokenizer, sentence: str) -> None:
    encoded = tokenizer.encode(sentence)
    assert encoded.unknown == ()
    assert tokenizer.decode(encoded.ids) == sentence
    assert max(encoded.ids) < tokenizer.size <= 120


def test_a_stored_tokenizer_is_the_same(tokenizer: Tokenizer) -> None:
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.size == tokenizer.size
    assert [again.encode(one) for one in SENTENCES] == [tokenizer.encode(one) for one in SENTENCES]


def test_white_space_and_line_breaks_are_one_space(tokenizer: Tokenizer) -> None:
    assert clean("  a\n\tb\u00a0c ") == "a b c"
    assert tokenizer.encode(" A little\r\n  girl ") == tokenizer.encode("A little girl")
    assert tokenizer.encode(" \n ").ids == []


def test_unknown_characters_are_read_as_one_token_each_and_named(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode("A 🐶 girl 猫猫")
    assert encoded.unknown == ("🐶", "猫")
    assert encoded.ids.count(UNKNOWN) == 3
    assert "�" in tokenizer.decode(encoded.ids)


def test_typographic_characters_are_read_as_plain_ones(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("He says “no”, doesn’t he?") == tokenizer.encode('He says "no", doesn\'t he?')
    assert tokenizer.encode("Ｔｗｉｃｅ") == tokenizer.encode("Twice")  # full width
    assert tokenizer.encode("Ma\u0308dchen") == tokenizer.encode("Mädchen")  # composed


def test_html_is_text(tokenizer: Tokenizer) -> None:
    assert words_of(clean("<b>a</b>")) == ["▁<", "b", ">", "a", "<", "/", "b", ">"]
    assert set(tokenizer.encode("<b>girl</b>").unknown) == {"<", ">", "/"}


def test_the_sign_for_spaces_is_no_space(tokenizer: Tokenizer) -> None:
    assert "▁" in tokenizer.encoding.ids
    assert tokenizer.encode("A▁girl") == tokenizer.encode("A_girl")


def test_rows_are_padded_to_the_longest() -> None:
    assert padded([[5], [6, 7]]).tolist() == [[5, 0], [6, 7]]
