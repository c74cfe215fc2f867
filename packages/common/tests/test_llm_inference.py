"""Speculative decoding, the paged cache and batching against plain decoding, exact distributions and counts by hand."""

import itertools

import pytest
import torch
from dlcommon.llm.continuous_batching import Request, schedule
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.paged_cache import OutOfBlocksError, PagedKVCache, decode, prefill
from dlcommon.llm.speculative_decoding import (
    acceptance_probability,
    expected_tokens,
    residual_distribution,
    speculative_generate,
    verify,
)

VOCAB = 5


def tiny(seed: int, layers: int = 2, dim: int = 16) -> Llama:
    torch.manual_seed(seed)
    model = Llama(LlamaConfig(VOCAB, dim, layers, 2, 1, 8, 32))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


TARGET, DRAFT = tiny(0), tiny(1, layers=1, dim=8)


def distributions(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).softmax(dim=-1)


@torch.no_grad()
def greedy(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(TARGET(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


def chi_square(counts: torch.Tensor, probabilities: torch.Tensor) -> float:
    expected = counts.sum() * probabilities
    return ((counts - expected).square() / expected).sum().item()


def test_accepting_and_replacing_give_the_targets_distribution_exactly() -> None:
    p, q = distributions(50, 7, seed=0), distributions(50, 7, seed=1)
    alpha = acceptance_probability(p, q)
    kept = q * (p / q).clamp(max=1)  # the token is drawn from q and accepted
    torch.testing.assert_close(kept.sum(1), alpha)
    torch.testing.assert_close(kept + (1 - alpha)[:, None] * residual_distribution(p, q), p)
    torch.testing.assert_close(1 - alpha, (p - q).abs().sum(1) / 2)
    torch.testing.assert_close(residual_distribution(p, p), p)


def test_the_tokens_that_verify_lets_through_have_the_targets_joint_distribution() -> None:
    samples, generator = 60_000, torch.Generator().manual_seed(0)
    p, q = distributions(3, 3, seed=2), distributions(2, 3, seed=3)  # p and q after any token: 3 and 2 places
    proposed = torch.stack([torch.multinomial(row, samples, True, generator=generator) for row in q], dim=1)
    found = verify(p.expand(samples, 3, 3), q.expand(samples, 2, 3), proposed, generator)
    first = torch.where(found.accepted > 0, proposed[:, 0], found.next_token)
    assert chi_square(torch.bincount(first, minlength=3), p[0]) < 13.8  # 99.9 % quantile, 2 degrees of freedom
    second = torch.where(found.accepted > 1, proposed[:, 1], found.next_token)[found.accepted > 0]
    assert chi_square(torch.bincount(second, minlength=3), p[1]) < 13.8
    third = found.next_token[found.accepted == 2]
    assert chi_square(torch.bincount(third, minlength=3), p[2]) < 13.8
    assert found.accepted.double().mean() == pytest.approx(
        sum(acceptance_probability(p[: n + 1], q[: n + 1]).prod().item() for n in range(2)), abs=0.01
    )


@pytest.mark.parametrize("lookahead", [1, 3, 6])
def test_greedy_speculation_writes_what_the_target_writes_alone(lookahead: int) -> None:
    found = speculative_generate(TARGET, DRAFT, [1, 2, 3], 20, lookahead, temperature=0)
    assert found.tokens == greedy([1, 2, 3], 20)
    itself = speculative_generate(TARGET, TARGET, [1, 2, 3], 20, lookahead, temperature=0)
    assert itself.tokens == found.tokens
    assert itself.accepted == itself.proposed
    assert itself.target_calls == -(-20 // (lookahead + 1))


def test_sampled_texts_have_the_targets_distribution() -> None:
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(VOCAB, VOCAB)
    for _ in range(120):
        first, second = speculative_generate(TARGET, DRAFT, [1], 2, 2, generator=generator).tokens
        counts[first, second] += 1
    texts = torch.tensor([[1, *pair] for pair in itertools.product(range(VOCAB), repeat=2)])
    with torch.no_grad():
        log_probs = TARGET(texts[:, :2]).log_softmax(2)
    exact = log_probs.gather(2, texts[:, 1:, None]).sum((1, 2)).exp().view(VOCAB, VOCAB)
    assert chi_square(counts.sum(1), exact.sum(1)) < 18.5  # 99.9 % quantile, 4 degrees of freedom
    assert chi_square(counts.sum(0), exact.sum(0)) < 18.5


def test_expected_tokens_is_the_mean_of_a_geometric_number_that_is_cut_off() -> None:
    for acceptance, lookahead in ((0.0, 3), (0.6, 1), (0.8, 5)):
        runs = sum(acceptance**n * (1 - acceptance) * (n + 1) for n in range(lookahead))
        assert expected_tokens(acceptance, lookahead) == pytest.approx(runs + acceptance**lookahead * (lookahead + 1))
    assert expected_tokens(1.0, 4) == 5


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt"):
        speculative_generate(TARGET, DRAFT, [], 3)
    with pytest.raises(ValueError, match="request"):
        schedule([], 2, continuous=True)


@pytest.mark.parametrize("block_size", [1, 3, 4, 16])
def test_sequences_in_blocks_decode_as_they_do_alone(block_size: int) -> None:
    cache = PagedKVCache(TARGET.config, 80, block_size)
    texts = {0: [1, 2, 3, 4, 0], 1: [2], 2: [4, 4, 1]}
    for number, prompt in texts.items():
        cache.add(number)
        logits = prefill(TARGET, cache, number, prompt)
        torch.testing.assert_close(logits, TARGET(torch.tensor([prompt]))[0, -1].detach(), rtol=1e-4, atol=1e-5)
        prompt.append(int(logits.argmax()))
    for step in range(6):
        running = [0, 1, 2] if step < 3 else [2, 0]
        logits = decode(TARGET, cache, running, [texts[number][-1] for number in running])
        for row, number in enumerate(running):
            alone = TARGET(torch.tensor([texts[number]]))[0, -1].detach()
            torch.testing.assert_close(logits[row], alone, rtol=1e-4, atol=1e-5)
            texts[number].append(int(logits[row].argmax()))
    assert cache.lengths == {number: len(text) - 1 for number, text in texts.items()}
    assert cache.blocks_used == sum(-(-length // block_size) for length in cache.lengths.values())


def test_a_fork_shares_blocks_until_it_writes_and_leaves_the_original_alone() -> None:
    cache = PagedKVCache(TARGET.config, 6, 4)
    cache.add(0)
    prefill(TARGET, cache, 0, [1, 2, 3, 4, 0, 1])  # a full block and a half
    before = cache.gather([0]).cache.keys.clone()
    cache.fork(0, 1)
    assert cache.blocks_used == 2
    logits = prefill(TARGET, cache, 1, [2])
    torch.testing.assert_close(
        logits, TARGET(torch.tensor([[1, 2, 3, 4, 0, 1, 2]]))[0, -1].detach(), rtol=1e-4, atol=1e-5
    )
    assert cache.blocks_used == 3  # the half block was copied, the full one is still shared
    assert cache.tables[0][0] == cache.tables[1][0]
    torch.testing.assert_close(cache.gather([0]).cache.keys, before, rtol=0, atol=0)
    prefill(TARGET, cache, 0, [3])
    assert cache.blocks_used == 3  # the original is now alone with its own half block
    cache.release(0)
    assert cache.blocks_used == 2
    cache.release(1)
    assert cache.blocks_used == 0


def test_a_full_pool_is_an_error_that_says_what_to_do() -> None:
    cache = PagedKVCache(TARGET.config, 1, 2)
    cache.add(0)
    with pytest.raises(OutOfBlocksError, match="release a sequence or enlarge the pool"):
        prefill(TARGET, cache, 0, [1, 2, 3])


def test_schedules_counted_by_hand() -> None:
    requests = [Request(0, 4), Request(0, 1), Request(0, 2), Request(1, 1)]
    static, continuous = (schedule(requests, 2, continuous=each) for each in (False, True))
    # Static: 0 and 1 in steps 1 to 4, then 2 and 3. Continuous: 2 takes over from 1 in step 2, 3 from 2 in step 4.
    assert static.finished == (4, 1, 6, 5)
    assert continuous.finished == (4, 1, 3, 4)
    assert (static.busy_steps, continuous.busy_steps) == (6, 4)
    assert (static.utilization, continuous.utilization) == (8 / 12, 1.0)
    assert (static.mean_latency(requests), continuous.mean_latency(requests)) == (15 / 4, 11 / 4)


def test_idle_steps_before_an_arrival_are_not_busy() -> None:
    found = schedule([Request(5, 2), Request(0, 1)], 1, continuous=True)
    assert found.finished == (7, 1)
    assert found.busy_steps == 3
