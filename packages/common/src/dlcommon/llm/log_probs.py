"""Log-probabilities that a language model gives to the tokens of a text: what preference and policy losses are made of.

Shapes: logits [batch, tokens, vocab_size]; tokens and masks [batch, tokens]; one number fewer for each text, since
nothing predicts the first token.
"""

import torch
from torch.nn import functional as F


def token_log_probs(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Computes the log-probability of every token but the first, given those before it.

    Args:
        logits: of the next tokens, [batch, tokens, vocab_size]: those at position t are about token t + 1.
            Half-precision logits are summed in float32.
        tokens: [batch, tokens].

    Returns:
        [batch, tokens − 1]; number t belongs to token t + 1.
    """
    about = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(about.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return -loss.view(tokens.size(0), -1)


def sequence_log_probs(logits: torch.Tensor, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Computes log π(answer | prompt): the sum of the log-probabilities of an answer's tokens.

    Args:
        logits: of the next tokens, [batch, tokens, vocab_size].
        tokens: prompt, answer and padding, [batch, tokens].
        mask: bool [batch, tokens], true at the answer's tokens, the end-of-text token included. The first token never
            counts, because nothing predicts it.

    Returns:
        [batch].
    """
    return (token_log_probs(logits, tokens) * mask[:, 1:]).sum(dim=1)
