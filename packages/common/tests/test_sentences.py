import pytest
from dlcommon.runtime.sentences import split_sentences

TEXTS = (
    'A dog runs. A cat sleeps!\n\n Two men wait? "Yes." Or no',
    "one line\nanother line\n",
    "  \n indented.\tAnd more  ",
    "Dr. no. 5 is e.g. here",
    "",
    " \n ",
    "a" + " " * 19_000 + "b" + "\n" * 900 + "c",
)


@pytest.mark.parametrize("text", TEXTS)
def test_the_parts_in_a_row_are_the_text(text: str) -> None:
    before, sentences = split_sentences(text)
    assert before + "".join(one.text + one.after for one in sentences) == text
    assert all(one.text == one.text.strip() != "" for one in sentences)


def test_a_sentence_ends_at_a_line_break_or_before_a_capital() -> None:
    _, sentences = split_sentences(TEXTS[0])
    assert [one.text for one in sentences] == ["A dog runs.", "A cat sleeps!", "Two men wait?", '"Yes."', "Or no"]
    assert [one.after for one in sentences] == [" ", "\n\n ", " ", " ", ""]
    assert len(split_sentences(TEXTS[3])[1]) == 1
