"""Speculative decoding: a small model guesses, the large model checks several guesses at once (Leviathan et al. 2023).

https://arxiv.org/abs/2211.17192; Chen et al. 2023, https://arxiv.org/abs/2302.01318. A large model reads all its
weights for each call, whether it computes one token or five. So a draft model proposes some tokens, the target computes
its distributions after each of them in one call, and a rule accepts as many as it can. What comes out has exactly the
target's distribution; the draft only decides how many calls it takes.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from dlcommon.llm.llama import Llama
from dlcommon.transformer.kv_cache import KVCache


class Verdict(NamedTuple):
    """Says how many proposed tokens are kept, and which token follows them."""

    accepted: torch.Tensor
    """[batch], from 0 to the number of proposed tokens."""
    next_token: torch.Tensor
    """[batch]; in place of the first rejected token, or after all accepted ones."""


def acceptance_probability(target: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
    """Computes Σ min(p, q), the probability that a token drawn from the draft is kept: [..., vocab] to [...].

    It is 1 minus the total variation distance of the two distributions (Leviathan et al. 2023, corollary 3.6).
    """
    return torch.minimum(target, draft).sum(dim=-1)


def residual_distribution(target: torch.Tensor, draft: torch.Tensor) -> torch.Tensor:
    """Computes max(p − q, 0), normalized: what a rejected token is replaced from, [..., vocab].

    Where p equals q nothing is ever rejected, and p itself is returned.
    """
    excess = (target - draft).clamp(min=0)
    total = excess.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, excess / total.clamp(min=1e-30), target)


def verify(
    target: torch.Tensor, draft: torch.Tensor, proposed: torch.Tensor, generator: torch.Generator | None = None
) -> Verdict:
    """Accepts each proposed token with probability min(1, p / q) until one is rejected (algorithm 1).

    Args:
        target: the target's distributions p before the first proposed token and after each, [batch, proposed + 1,
            vocab].
        draft: the draft's distributions q that the tokens were drawn from, [batch, proposed, vocab].
        proposed: the tokens, [batch, proposed].
        generator: makes the draws.
    """
    count = proposed.size(1)
    p, q = (each[:, :count].gather(2, proposed[:, :, None]).squeeze(2) for each in (target, draft))
    kept = torch.rand(p.shape, generator=generator, dtype=p.dtype) * q < p  # [batch, proposed]
    accepted = kept.long().cumprod(dim=1).sum(dim=1)  # up to the first rejection
    # A draft of probability 0 after the last proposed token makes the residual there the target's own distribution.
    corrected = residual_distribution(target, F.pad(draft, (0, 0, 0, 1)))
    chosen = corrected[torch.arange(len(proposed)), accepted]  # [batch, vocab]
    return Verdict(accepted, torch.multinomial(chosen, 1, generator=generator).squeeze(1))


def expected_tokens(acceptance: float, lookahead: int) -> float:
    """Computes the tokens that one call of the target yields, (1 − α^(γ + 1)) / (1 − α) (equation 1).

    Args:
        acceptance: α, probability that a proposed token is accepted, taken to be the same for each.
        lookahead: γ, how many tokens are proposed.
    """
    return lookahead + 1.0 if acceptance == 1 else (1 - acceptance ** (lookahead + 1)) / (1 - acceptance)


class Generation(NamedTuple):
    """Holds a continuation, and what it took."""

    tokens: list[int]
    """The new tokens."""
    target_calls: int
    proposed: int
    accepted: int


@torch.no_grad()
def speculative_generate(
    target: Llama,
    draft: Llama,
    prompt: list[int],
    num_tokens: int,
    lookahead: int = 4,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Generation:
    """Continues a prompt with tokens of the target's distribution.

    Args:
        target: the model that is to be sampled from.
        draft: a cheaper model with the same vocabulary.
        prompt: at least one token.
        num_tokens: how many tokens to write.
        lookahead: how many tokens the draft proposes each time.
        temperature: divides the logits of both; 0 always takes the most probable token.
        generator: makes the draws.

    Raises:
        ValueError: the prompt is empty, or `lookahead` is below 1.
    """
    if not prompt or lookahead < 1:
        raise ValueError("the prompt must have a token, and lookahead must be at least 1")
    tokens, calls, num_proposed, num_accepted = list(prompt), 0, 0, 0
    target_cache, draft_cache = target.initial_state(1), draft.initial_state(1)
    while len(tokens) < len(prompt) + num_tokens:
        proposed: list[int] = []
        distributions: list[torch.Tensor] = []
        for _ in range(lookahead):
            unread = (tokens + proposed)[draft_cache.keys.size(3) :]
            logits, draft_cache = draft.step(torch.tensor([unread]), draft_cache)
            distributions.append(_distribution(logits[0, -1], temperature))
            proposed.append(int(torch.multinomial(distributions[-1], 1, generator=generator)))
        unread = (tokens + proposed)[target_cache.keys.size(3) :]
        logits, target_cache = target.step(torch.tensor([unread]), target_cache)
        checked = _distribution(logits[:, -lookahead - 1 :], temperature)  # [1, lookahead + 1, vocab]
        accepted, following = verify(checked, torch.stack(distributions)[None], torch.tensor([proposed]), generator)
        calls, num_proposed, num_accepted = calls + 1, num_proposed + lookahead, num_accepted + int(accepted)
        tokens += [*proposed[: int(accepted)], int(following)]
        # Neither model has read the last token; what was computed for rejected ones is dropped.
        target_cache, draft_cache = (_first(cache, len(tokens) - 1) for cache in (target_cache, draft_cache))
    return Generation(tokens[len(prompt) : len(prompt) + num_tokens], calls, num_proposed, num_accepted)


def _distribution(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.size(-1)).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


def _first(cache: KVCache, count: int) -> KVCache:
    return KVCache(cache.keys[..., :count, :], cache.values[..., :count, :])
