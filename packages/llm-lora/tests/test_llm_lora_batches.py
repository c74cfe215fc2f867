"""Packed batches hold every conversation once, and give the log-probabilities that each alone has."""

import pytest
import torch
from dlcommon.llm.chat_template import Message
from llm_lora.bases import tiny_base
from llm_lora.batches import PackedBatches, TokenSequence, Unit, common_prefix
from llm_lora.model import AnswerModel, sum_by_sequence


def unit(*texts: str) -> Unit:
    tokenizer = tiny_base().tokenizer
    return tuple(
        TokenSequence(*tokenizer.encode_chat((Message("user", "Say it."), Message("assistant", text))))
        for text in texts
    )


UNITS = [unit(text) for text in ("yes", "no, never", "maybe", "a longer answer than the others", "x")]
PAIRS = [unit("good", "bad one"), unit("right", "wrong"), unit("a", "bb")]


def test_the_common_prefix_ends_before_the_first_answer() -> None:
    prefix = common_prefix(UNITS)
    text = tiny_base().tokenizer.decode(prefix)
    assert text == "user\nSay it.\nassistant"  # without its last token, since the next one is learned from that
    assert common_prefix([unit("yes"), (TokenSequence([9, 9, 9], [False, False, True]),)]) == []


@pytest.mark.parametrize("world_size", [1, 2])
def test_an_epoch_holds_every_unit_once_whoever_computes_it(world_size: int) -> None:
    many = UNITS * 7
    parts = [PackedBatches(many, 128, 2, 3, rank, world_size) for rank in range(world_size)]
    seen = []
    for epoch in range(2):
        found = [list(part.epoch(epoch)) for part in parts]
        assert {len(batches) for batches in found} == {parts[0].length(epoch)}
        numbers = [n for batches in found for batch in batches if batch.weight for n in batch.tensors[3].tolist()]
        assert sorted(numbers) == list(range(len(many)))
        for together in zip(*found, strict=True):
            assert sum(batch.weight for batch in together) == together[0].total_weight
            for batch in together:
                assert not batch.weight or batch.tensors[2][:, 1:].sum() == batch.weight
        seen.append(numbers)
    assert seen[0] != seen[1]
    resumed = list(parts[0].epoch(1, 1))
    for one, other in zip(resumed, list(parts[0].epoch(1))[1:], strict=True):
        assert all(torch.equal(*pair) for pair in zip(one.tensors, other.tensors, strict=True))


@pytest.mark.parametrize("units", [UNITS, PAIRS])
def test_log_probabilities_of_packed_sequences_are_those_of_each_alone(units: list[Unit]) -> None:
    network = tiny_base().network.double()
    batches = PackedBatches(units, 192, 2, 0)
    assert batches.prefix
    model = AnswerModel(network, len(batches.prefix)).eval()
    found: dict[int, list[float]] = {}
    with torch.inference_mode():
        for tokens, documents, is_answer, numbers in batches.in_order():
            sums = sum_by_sequence(model(tokens, documents, is_answer), documents, is_answer)
            for number, of_unit in zip(numbers.tolist(), sums.view(len(numbers), -1), strict=True):
                found[number] = of_unit.tolist()
        for number, of_unit in enumerate(units):
            for one, got in zip(of_unit, found[number], strict=True):
                ids = torch.tensor([one.tokens])
                log_probs = network(ids).log_softmax(-1)[0, :-1]
                alone = log_probs.gather(1, ids[0, 1:, None])[torch.tensor(one.is_answer[1:])].sum()
                assert got == pytest.approx(alone.item(), abs=1e-5)


def test_errors() -> None:
    with pytest.raises(ValueError, match="no conversations"):
        PackedBatches([], 64, 1, 0)
    with pytest.raises(ValueError, match="does not fit a row"):
        PackedBatches([(TokenSequence([1] * 70, [False] + [True] * 69),)], 64, 1, 0)
    with pytest.raises(ValueError, match="3 rows in a batch cannot be shared equally by 2"):
        PackedBatches(UNITS, 256, 3, 0, 0, 2)
