"""Chinese: no spaces, wide punctuation, and parallel text to try it with."""

import re
from pathlib import Path

import pytest
from dlcommon.runtime.data.parallel_text import ParallelText
from dlcommon.runtime.sentences import split_sentences
from dlcommon.testing.skips import data_set_or_skip
from translator import scores
from translator.config import Config
from translator.data import own_data
from translator.generated_captions import load
from translator.joining import join_translations
from translator.tokenizer import Tokenizer, clean

TEXT = "你好！今天天气很好。我们去公园（很近。）好吗？\n他说：“好。”她走了"


def test_sentences_end_without_a_space() -> None:
    _, sentences = split_sentences(TEXT)
    assert [one.text for one in sentences] == [
        "你好！", "今天天气很好。", "我们去公园（很近。）", "好吗？", "他说：“好。”", "她走了",
    ]  # fmt: skip
    assert [one.after for one in sentences] == ["", "", "", "\n", "", ""]


def test_a_space_follows_a_translation_only_where_its_script_has_spaces() -> None:
    _, sentences = split_sentences("你好！今天天气很好。我们去")
    english = ["Hello!", "The weather is fine.", "We go"]
    assert join_translations(sentences, english, is_end=True) == "Hello! The weather is fine. We go"
    assert join_translations(sentences, ["甲！", "乙。", "丙"], is_end=True) == "甲！乙。丙"
    assert join_translations(sentences[:2], english[:2], is_end=False) == "Hello! The weather is fine. "
    _, spaced = split_sentences("A dog. A cat.\nA cow.")
    assert join_translations(spaced, ["一只狗。", "一只猫。", "一头牛。"], is_end=True) == "一只狗。 一只猫。\n一头牛。"


def test_its_punctuation_stays_wide_and_is_read_as_narrow_by_a_model_that_lacks_it() -> None:
    assert clean("你好，\u3000Ｂ！") == "你好， B！"
    chinese = Tokenizer.train(["你好，世界！", "你好，狗！"], 60)
    assert chinese.decode(chinese.encode("你好，狗！").ids) == "你好，狗！"
    english = Tokenizer.train(["Hello, dog!", "Hello, world!"], 60)
    assert english.encode("Hello， dog！") == english.encode("Hello, dog!")


def test_frequent_parts_of_clauses_become_pieces() -> None:
    tokenizer = Tokenizer.train(["我喜欢公园", "她喜欢公园", "他不喜欢狗"] * 3, 40)
    pieces = tokenizer.pieces(tokenizer.encode("我们喜欢狗").ids)
    assert "喜欢" in pieces


def test_characters_count_as_words_and_bleu_is_over_characters() -> None:
    assert scores.words("我有 2 dogs") == ["我", "有", "2", "dogs"]
    assert scores.count_words("我有 2 big-eyed dogs") == 5
    reference, near = ("一只小狗正在公园里睡觉。",), ("一只小狗正在河边睡觉。",)
    bleu, signature = scores.sacrebleu_score(near, reference, "zh-CN")
    assert 30 < bleu < 90
    assert "tok:zh" in signature
    assert scores.ngram_counts(near, reference, "zh").bleu() == pytest.approx(bleu)
    assert scores.tokenized_bleu(near, reference, "zh") == pytest.approx(bleu)
    # By 13a, the whole sentence would be one word.
    assert scores.sacrebleu_score(near, reference, "en")[0] < 5


@pytest.mark.real_data
def test_xquads_questions_are_aligned() -> None:
    text = data_set_or_skip("xquad-questions").load()
    assert isinstance(text, ParallelText)
    splits = (text.train, text.validation, text.test)
    assert sum(len(split["zh"]) for split in splits) == 1190
    assert all(set(split) == {"en", "de", "zh"} for split in splits)
    assert ("黑豹队的防守丢了多少分？", "How many points did the Panthers defense surrender?") in text.pairs(
        "test", "zh", "en"
    )


def test_own_chinese_sentences_and_generated_ones(tmp_path: Path) -> None:
    pairs = load(tmp_path).pairs("train", "zh", "en")[:100]
    assert all(re.fullmatch(r"(..?点钟，)?[一两三四][只个匹位头]\w+正在\w+。", chinese) for chinese, _ in pairs)
    own = tmp_path / "own.tsv"
    own.write_text("".join(f"{one}\t{other}\n" for one, other in pairs), encoding="utf-8")
    located = own_data(Config(text=(str(own),), source="zh", target="en"))
    assert located is not None
    text = located.load()
    assert isinstance(text, ParallelText)
    assert {
        *text.pairs("train", "zh", "en"),
        *text.pairs("validation", "zh", "en"),
        *text.pairs("test", "zh", "en"),
    } == {*pairs}
