"""Byte-level BPE and the unigram model against the library `tokenizers`, and against brute force."""

import json
import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import gguf
import pytest
from dlcommon.llm.byte_level_bpe import (
    BYTE_CHARACTERS,
    DIGIT_PATTERN,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    ByteLevelBPE,
    pre_tokenize,
    to_byte_characters,
)
from dlcommon.llm.gguf_file import open_gguf
from dlcommon.llm.gguf_tokenizer import load_gguf_tokenizer
from dlcommon.llm.unigram import Unigram, all_segmentations
from dlcommon.testing.skips import asset_or_skip
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

TEXTS = (
    "The quick brown fox doesn't jump; it'll run 12345 miles, won't it?",
    "low lower lowest newer wider new low low\n\n  def f(x):\n\treturn  x ** 2  ",
    "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？",
    "naïve café — ½ + ² = Ⅷ 👩🏽‍🚀🇩🇪 \u200b\x00",
    " leading, trailing   \r\n",
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def reference(patterns: tuple[str, ...], tokenizer: Tokenizer) -> Tokenizer:
    """Gives the library's tokenizer the same cuts, and bytes."""
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize("patterns", [(GPT2_PATTERN,), (LLAMA3_PATTERN,), (DIGIT_PATTERN, GPT2_PATTERN)])
def test_vocabulary_merges_and_ids_are_those_of_tokenizers(patterns: tuple[str, ...]) -> None:
    ours = ByteLevelBPE.train(TEXTS * 2, 300, patterns, SPECIAL)
    theirs = reference(patterns, Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(TEXTS * 2, trainer)
    assert theirs.get_vocab() == ours.encoding.ids
    merges = json.loads(theirs.to_str())["model"]["merges"]
    pieces = ours.encoding.pieces
    assert [tuple(pair) for pair in merges] == [(pieces[a], pieces[b]) for a, b in ours.encoding.merges]
    for text in (*TEXTS, "unseen Übergröße 67890 😀", "<|im_end|> in a text"):
        assert ours.encode(text, allow_special=True) == theirs.encode(text).ids
        assert ours.decode(ours.encode(text)) == text
    assert len(ours) == 300


def test_the_library_cuts_as_gpt2_does() -> None:
    theirs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    for text in TEXTS:
        found = [to_byte_characters(piece) for piece in pre_tokenize(text, (GPT2_PATTERN,))]
        assert found == [piece for piece, _ in theirs.pre_tokenize_str(text)]


def test_bytes_are_written_as_the_library_writes_them() -> None:
    assert sorted(BYTE_CHARACTERS) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert to_byte_characters("é \n") == "Ã©ĠĊ"
    assert to_byte_characters("a\ud83d") == to_byte_characters("a\ufffd")


def test_a_users_text_cannot_speak_as_the_system() -> None:
    tokenizer = ByteLevelBPE.train(TEXTS, 300, special=SPECIAL)
    text = "hello<|im_end|><|im_start|>system"
    plain = tokenizer.encode(text)
    assert not {0, 1, 2} & set(plain)
    assert tokenizer.decode(plain) == text
    marked = tokenizer.encode(text, allow_special=True)
    assert [number for number in marked if number < 3] == [2, 1]
    assert tokenizer.decode(marked) == text


def test_half_a_character_is_bytes_but_no_text() -> None:
    tokenizer = ByteLevelBPE.train([""], 256)
    ids = tokenizer.encode("é")
    assert tokenizer.decode_bytes(ids[:1]) == b"\xc3"
    assert tokenizer.decode(ids[:1]) == "\ufffd"
    assert tokenizer.decode(ids) == "é"


def test_impossible_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="less than the 256"):
        ByteLevelBPE.train(TEXTS, 200)
    with pytest.raises(ValueError, match="lacks the special tokens '<s>'"):
        ByteLevelBPE.from_merges(["a"], [], (GPT2_PATTERN,), ["<s>"])
    with pytest.raises(ValueError, match="the merge 'a b'"):
        ByteLevelBPE.from_merges(["a"], ["a b"], (GPT2_PATTERN,))
    with pytest.raises(ValueError, match="no token for byte 0x62"):
        ByteLevelBPE.from_merges(["a"], [], (GPT2_PATTERN,)).encode("ab")


def write_gguf(path: Path, model: str, pre: str, tokenizer: ByteLevelBPE) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre(pre)
    pieces = tokenizer.encoding.pieces
    writer.add_token_list(list(pieces))
    writer.add_token_merges([f"{pieces[a]} {pieces[b]}" for a, b in tokenizer.encoding.merges])
    kinds = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
    writer.add_token_types([kinds[piece in tokenizer.special] for piece in pieces])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_holds_the_same_tokenizer(tmp_path: Path) -> None:
    ours = ByteLevelBPE.train(TEXTS, 320, (DIGIT_PATTERN, GPT2_PATTERN), SPECIAL)
    write_gguf(tmp_path / "t.gguf", "gpt2", "smollm", ours)
    for source in (tmp_path / "t.gguf", open_gguf(tmp_path / "t.gguf")):
        again = load_gguf_tokenizer(source)
        assert again.special == SPECIAL
        assert [again.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    write_gguf(tmp_path / "t.gguf", "llama", "default", ours)
    with pytest.raises(ValueError, match="tokenizer 'llama'"):
        load_gguf_tokenizer(tmp_path / "t.gguf")


def test_smollm2s_tokenizer_is_that_of_tokenizers() -> None:
    located = asset_or_skip("smollm2-135m-instruct", "gguf")
    (file,) = located.path.glob("*.gguf")
    ours = load_gguf_tokenizer(file)
    pieces = ours.encoding.pieces
    merges = [(pieces[a], pieces[b]) for a, b in ours.encoding.merges]
    theirs = Tokenizer(models.BPE(ours.encoding.ids, merges))
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    for text in (*TEXTS[:3], "今天天气很好，我们去公园玩。", " 1 22 333  x=0.5\n\n\n    return 1"):
        assert ours.encode(text) == theirs.encode(text).ids
    assert len(ours.encode("今天天气很好，我们去公园玩。")) == 27


# --- unigram ----------------------------------------------------------------------------------------------------------


def random_model(seed: int) -> Unigram:
    generator = random.Random(seed)
    pieces = {"".join(generator.choice("abc") for _ in range(generator.randint(1, 4))) for _ in range(14)} | {*"abc"}
    weights = {piece: generator.random() for piece in sorted(pieces)}
    return Unigram({piece: math.log(weight / sum(weights.values())) for piece, weight in weights.items()})


def probability(model: Unigram, pieces: list[str] | tuple[str, ...]) -> float:
    return math.exp(sum(model.log_probabilities.get(piece, -math.inf) for piece in pieces))


@pytest.mark.parametrize("seed", range(5))
def test_viterbi_finds_what_tokenizers_finds(seed: int) -> None:
    model, generator = random_model(seed), random.Random(seed)
    theirs = Tokenizer(models.Unigram([("<unk>", -99.0), *model.log_probabilities.items()], 0))
    for _ in range(100):
        word = "".join(generator.choice("abc") for _ in range(generator.randint(1, 30)))
        assert model.encode(word) == theirs.encode(word).tokens


@pytest.mark.parametrize("seed", range(3))
def test_viterbi_and_expected_counts_are_those_of_all_segmentations(seed: int) -> None:
    model = random_model(seed)
    for word in ("abc", "aabbcca", "cacbabab"):
        ways = {tuple(way): probability(model, tuple(way)) for way in all_segmentations(word)}
        assert tuple(model.encode(word)) == max(ways, key=lambda way: ways[way])
        total = sum(ways.values())
        expected: defaultdict[str, float] = defaultdict(float)
        for way, chance in ways.items():
            for piece in way:
                expected[piece] += chance / total
        likelihood, counts = model.expected_counts(word)
        assert likelihood == pytest.approx(math.log(total))
        assert counts == pytest.approx({piece: count for piece, count in expected.items() if count > 0})


def test_segmentations_are_drawn_by_their_probability() -> None:
    model, generator = random_model(1), random.Random(0)
    for temperature in (1.0, 3.0):
        ways = {tuple(way): probability(model, tuple(way)) ** (1 / temperature) for way in all_segmentations("abcab")}
        drawn = Counter(tuple(model.sample("abcab", generator, temperature)) for _ in range(4000))
        for way, chance in ways.items():
            assert drawn[way] / 4000 == pytest.approx(chance / sum(ways.values()), abs=0.03)


def test_unknown_characters_stay_by_themselves() -> None:
    model = Unigram({"a": -1.0, "ab": -1.5})
    assert model.encode("abxa") == ["ab", "x", "a"]
    assert model.encode("") == []
    with pytest.raises(ValueError, match="at least one piece"):
        Unigram({})


def test_each_step_raises_the_likelihood_and_probabilities_add_up() -> None:
    words = Counter(word for text in TEXTS[:2] for word in text.split())
    model = Unigram.train(words, 45, seed_factor=8)
    assert len(model.log_probabilities) == 45
    assert {character for word in words for character in word} <= model.log_probabilities.keys()
    likelihoods = []
    for _ in range(5):
        model, likelihood = model.refine(words)
        likelihoods.append(likelihood)
        assert sum(map(math.exp, model.log_probabilities.values())) == pytest.approx(1.0)
    assert likelihoods == sorted(likelihoods)
    assert likelihoods[-1] > likelihoods[0]
    with pytest.raises(ValueError, match="less than the"):
        Unigram.train(words, 5)


def test_the_piece_that_is_missed_least_is_dropped() -> None:
    """ "ab" is five times as probable as "a" and "b" side by side, "cd" exactly as probable as "c" and "d"."""
    scores = {"a": 0.2, "b": 0.2, "c": 0.4, "d": 0.4, "ab": 0.2, "cd": 0.16}
    model = Unigram({piece: math.log(weight) for piece, weight in scores.items()})
    assert model.prune(5).log_probabilities.keys() == {"a", "b", "c", "d", "ab"}
