"""Cross-entropy of the answers alone, with logits computed at those tokens only.

A language model's output layer is wide (49,152 tokens in SmolLM2, a fifth of all multiplications). Instruction tuning
asks for the next token only where that is part of an answer; elsewhere the layer would compute for nothing.
"""

from dataclasses import dataclass

import torch

from dlcommon.llm.fused_cross_entropy import fused_cross_entropy


@dataclass(frozen=True)
class AnswerTokens:
    """Lists the places whose next token is part of an answer.

    Attributes:
        places: indices into the flattened [batch · tokens], int64 [answer tokens].
        targets: the next tokens, int64 [answer tokens].
    """

    places: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, tokens: torch.Tensor, is_answer: torch.Tensor) -> "AnswerTokens":
        """Finds them.

        Args:
            tokens: ids, [batch, tokens].
            is_answer: bool, [batch, tokens]; the first token of a row is no answer, since nothing precedes it.
        """
        wanted = is_answer[:, 1:]
        rows, columns = wanted.nonzero(as_tuple=True)
        return cls(rows * tokens.size(1) + columns, tokens[:, 1:][wanted])


def answer_log_probs(features: torch.Tensor, answers: AnswerTokens, output_weight: torch.Tensor) -> torch.Tensor:
    """Computes the logarithm of each answer token's probability, float32 [answer tokens].

    Args:
        features: the decoder's last ones, [batch, tokens, dim].
        answers: of these tokens.
        output_weight: matrix of the output layer, [vocab_size, dim].
    """
    chosen = features.flatten(0, 1)[answers.places]  # [answer tokens, dim]
    return -fused_cross_entropy(chosen, output_weight, answers.targets)


def answer_loss(features: torch.Tensor, answers: AnswerTokens, output_weight: torch.Tensor) -> torch.Tensor:
    """Computes the mean cross-entropy of the answer tokens, []; arguments as of `answer_log_probs`."""
    return -answer_log_probs(features, answers, output_weight).mean()
