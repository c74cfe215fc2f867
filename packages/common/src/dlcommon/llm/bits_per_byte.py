"""Measures of a language model's loss: per token, and per byte of text, which does not depend on the tokenizer."""

import math


def perplexity(nats_per_token: float) -> float:
    """Computes e^loss: among how many equally probable tokens the model hesitates on average."""
    return math.exp(nats_per_token)


def bits_per_byte(nats_per_token: float, num_tokens: int, num_bytes: int) -> float:
    """Computes the bits that the model takes to encode each byte of a text.

    Args:
        nats_per_token: mean cross-entropy over the tokens of the text.
        num_tokens: tokens of the text.
        num_bytes: bytes of the text in UTF-8.

    Raises:
        ValueError: the text has no bytes.
    """
    if num_bytes < 1:
        raise ValueError("an empty text has no bits per byte")
    return nats_per_token / math.log(2) * num_tokens / num_bytes
