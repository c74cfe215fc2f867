"""Truncation, padding and sentence vectors equal those of tokenizers and transformers."""

import pytest
import torch
import transformers
from dlcommon.nlp.text_batches import batches_by_length, pad_batch, padded_share, sentence_vectors, truncate_pair
from tokenizers import Tokenizer, models, pre_tokenizers, processors


@pytest.mark.parametrize("max_tokens", [1, 2, 5, 6, 9, 30])
def test_pairs_are_truncated_as_by_tokenizers(max_tokens: int) -> None:
    vocabulary = {"[CLS]": 0, "[SEP]": 1} | {f"w{number}": number + 2 for number in range(20)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[CLS]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    tokenizer.enable_truncation(max_tokens + 3, strategy="longest_first")
    for first in range(1, 10):
        for second in range(1, 10):
            words = [[f"w{number}" for number in range(count)] for count in (first, second)]
            encoded = tokenizer.encode(" ".join(words[0]), " ".join(words[1]))
            left, right = ([vocabulary[word] for word in each] for each in words)
            ours = truncate_pair(left, right, max_tokens)
            assert [0, *ours[0], 1, *ours[1], 1] == encoded.ids, (first, second)


def test_a_pair_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens must be at least 1"):
        truncate_pair([1], [2], 0)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("multiple_of", [1, 8])
def test_batches_are_padded_as_by_transformers(side: str, multiple_of: int) -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1}, unk_token="a")),
        pad_token="[PAD]",
        padding_side=side,
    )
    rows = [[5, 6, 7], [1], [2, 3, 4, 5, 6]]
    collator = transformers.DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple_of)
    expected = collator([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows])
    ids, mask = pad_batch(rows, 0, multiple_of=multiple_of, side="left" if side == "left" else "right")
    assert torch.equal(ids, expected["input_ids"])
    assert torch.equal(mask, expected["attention_mask"])


def test_a_batch_needs_rows() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        pad_batch([], 0)
    ids, mask = pad_batch([[], [3]], 0)
    assert (ids.tolist(), mask.tolist()) == ([[0], [3]], [[0], [1]])


def test_batches_by_length_hold_each_text_once_and_pad_less() -> None:
    lengths = [3, 9, 4, 8]
    assert batches_by_length(lengths, 2) == [[0, 2], [3, 1]]
    assert padded_share(lengths, [[0, 1], [2, 3]]) == pytest.approx(1 - 24 / 34)
    assert padded_share(lengths, batches_by_length(lengths, 2)) == pytest.approx(1 - 24 / 26)
    assert sorted(number for batch in batches_by_length(lengths, 3) for number in batch) == [0, 1, 2, 3]


def test_sentence_vectors_ignore_padding_and_have_length_one() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    vectors = sentence_vectors(features, mask)
    expected = features[0, :3].mean(dim=0)
    torch.testing.assert_close(vectors[0], expected / expected.square().sum().sqrt())
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(vectors.sum(), features)
    assert (gradient[0, 3] == 0).all()
    assert (gradient[0, :3] != 0).any()
