"""Sampling answers from the model that is being trained."""

from typing import NamedTuple

import torch

from dlcommon.llm.llama import Llama


class Rollouts(NamedTuple):
    """Holds sampled answers after their prompts."""

    tokens: torch.Tensor
    """[batch, prompt tokens + answer tokens]; after an end token there are only end tokens."""
    mask: torch.Tensor
    """Bool of the same shape, true at the answers' tokens, the first end token included."""


@torch.no_grad()
def sample_answers(
    model: Llama, prompts: torch.Tensor, num_tokens: int, generator: torch.Generator, end_token: int | None = None
) -> Rollouts:
    """Continues each prompt by tokens drawn from the model's own distribution, without temperature or truncation.

    Policy gradients need answers of just that distribution.

    Args:
        model: the policy.
        prompts: of one length, [batch, prompt tokens]; repeat a prompt to sample several answers to it.
        num_tokens: length of the longest answer.
        generator: makes the draws.
        end_token: the token that ends an answer; `None` if all answers have `num_tokens` tokens.
    """
    cache, new, ended = model.initial_state(len(prompts)), prompts, torch.zeros(len(prompts), dtype=torch.bool)
    tokens, mask = [prompts], [torch.zeros_like(prompts, dtype=torch.bool)]
    for _ in range(num_tokens):
        logits, cache = model.step(new, cache)
        new = torch.multinomial(logits[:, -1].softmax(dim=-1), 1, generator=generator)  # [batch, 1]
        if end_token is not None:
            new = new.masked_fill(ended[:, None], end_token)
        tokens.append(new)
        mask.append(~ended[:, None])
        if end_token is not None:
            ended = ended | (new[:, 0] == end_token)
    return Rollouts(torch.cat(tokens, dim=1), torch.cat(mask, dim=1))
