import pytest
import torch
from dlcommon.llm.attention_traffic import (
    fast_memory_needed,
    largest_query_block,
    standard_traffic,
    tiled_traffic,
)
from dlcommon.llm.flash_attention import flash_attention, online_softmax_step
from dlcommon.llm.peak_memory import peak_bytes
from dlcommon.training.activation_memory import saved_bytes
from dlcommon.transformer.attention import causal_mask, padding_mask, scaled_dot_product_attention
from torch.nn import functional as F

BATCH, HEADS = 3, 2
LENGTHS = torch.tensor([9, 4, 0])  # the last sequence is all padding


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def heads(queries: int, keys: int) -> Heads:
    """Queries, keys and values; values may be of another width."""
    query, key, value = (
        (2 * random(BATCH, HEADS, *shape, seed=seed)).requires_grad_()
        for seed, shape in enumerate(((queries, 6), (keys, 6), (keys, 5)))
    )
    return query, key, value


@pytest.mark.parametrize("queries", [9, 4])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (4, 2), (64, 64)])
def test_equals_torchs_in_value_and_gradient(queries: int, padded: bool, causal: bool, sizes: tuple[int, int]) -> None:
    inputs, mask = heads(queries, 9), torch.ones(BATCH, 1, queries, 9, dtype=torch.bool)
    if causal:
        mask = mask & causal_mask(queries, 9 - queries)
    if padded:
        mask = mask & padding_mask(LENGTHS, 9)
    ours = flash_attention(
        *inputs, causal=causal, lengths=LENGTHS if padded else None, query_block=sizes[0], key_block=sizes[1]
    )
    theirs = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    upstream = random(*ours.shape, seed=7)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        rtol=1e-9,
        atol=1e-12,
    )


def test_numerical_gradient() -> None:
    inputs = [each[:1, :1].detach().requires_grad_() for each in heads(4, 5)]
    assert torch.autograd.gradcheck(
        lambda *each: flash_attention(*each, causal=True, query_block=2, key_block=2), inputs
    )


def test_large_logits_do_not_overflow() -> None:
    query, key, value = (each.detach() for each in heads(9, 9))
    ours = flash_attention(500 * query, key, value, query_block=2, key_block=2)
    torch.testing.assert_close(ours, scaled_dot_product_attention(500 * query, key, value)[0])


def test_low_precision_sums_in_float32() -> None:
    query, key, value = (each.detach().bfloat16() for each in heads(9, 9))
    ours = flash_attention(query, key, value, causal=True, query_block=2, key_block=2)
    assert ours.dtype == torch.bfloat16
    expected, _ = scaled_dot_product_attention(query.float(), key.float(), value.float(), causal_mask(9))
    torch.testing.assert_close(ours.float(), expected, rtol=0.01, atol=0.01)  # half a bfloat16 step


def test_an_online_softmax_does_not_depend_on_the_order_of_its_blocks() -> None:
    logits, value = 3 * random(4, 12), random(12, 5, seed=1)
    for order in (torch.arange(12), torch.randperm(12, generator=torch.Generator().manual_seed(0))):
        state = torch.full((4, 1), -torch.inf).double(), torch.zeros(4, 1).double(), torch.zeros(4, 5).double()
        for start in range(0, 12, 5):
            chosen = order[start : start + 5]
            state = online_softmax_step(*state, logits[:, chosen], value[chosen])
        maximum, total, output = state
        torch.testing.assert_close(output / total, logits.softmax(dim=1) @ value)
        torch.testing.assert_close(maximum + total.log(), logits.logsumexp(dim=1, keepdim=True))


def test_nothing_is_saved_that_grows_as_the_square_of_the_tokens() -> None:
    def saved(tokens: int, attend) -> int:  # type: ignore[no-untyped-def]
        inputs = [random(1, 1, tokens, 8, seed=seed).float().requires_grad_() for seed in range(3)]
        return saved_bytes(lambda: attend(*inputs), inputs)

    def standard(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value)[0]

    assert saved(256, flash_attention) == 2 * saved(128, flash_attention) == 4 * (256 * 8 + 256)
    assert saved(256, standard) > 3.5 * saved(128, standard) > 4 * 128 * 128


def test_peak_memory_counts_what_is_there_at_once() -> None:
    def two_at_a_time() -> torch.Tensor:
        first = torch.ones(1000)
        second = first + 1
        del first
        return second + 1

    assert peak_bytes(two_at_a_time) == pytest.approx(2 * 4000, abs=200)
    query, key, value = (each.detach().float() for each in heads(256, 256))
    tiled = peak_bytes(lambda: flash_attention(query, key, value, query_block=16, key_block=16))
    assert tiled < peak_bytes(lambda: scaled_dot_product_attention(query, key, value)) / 5


def test_traffic_is_that_of_the_paper() -> None:
    tokens, dim = 1024, 64
    assert standard_traffic(tokens, tokens, dim) == 4 * tokens**2 + 4 * tokens * dim
    for rows in (32, 64, 128):
        expected = 2 * tokens * dim + tokens + 2 * tokens * dim * tokens // rows
        assert tiled_traffic(tokens, tokens, dim, rows, 16) == expected
    causal = tiled_traffic(tokens, tokens, dim, 32, 32, causal=True)
    assert 0.5 < causal / tiled_traffic(tokens, tokens, dim, 32, 32) < 0.55
    # Queries 4 to 6 of 7 in blocks of 2: the first reads 6 keys, which is 7 in blocks of 4, the second all 7.
    assert tiled_traffic(3, 7, 2, 2, 4, causal=True) == 3 * 2 + 3 * 3 + 2 * 2 * (7 + 7)


def test_the_largest_block_fits_and_one_more_query_does_not() -> None:
    found = largest_query_block(64, 50_000, 64)
    assert fast_memory_needed(64, found, 64) <= 50_000 < fast_memory_needed(64, found + 1, 64)
    with pytest.raises(ValueError, match="choose a smaller key_block"):
        largest_query_block(64, 8_000, 64)


def test_what_makes_no_sense_is_refused() -> None:
    inputs = heads(9, 9)
    with pytest.raises(ValueError, match="at least one token"):
        flash_attention(*inputs, key_block=0)
    with pytest.raises(ValueError, match="9 queries are more than 4 keys"):
        flash_attention(inputs[0], inputs[1][..., :4, :], inputs[2][..., :4, :], causal=True)
