"""A reward model, learned from pairs of answers of which people preferred one (Ouyang et al. 2022).

https://arxiv.org/abs/2203.02155. Where nobody can say what an answer is worth, people can say which of two is better.
The Bradley-Terry model explains such choices by a number for each answer; here a language model learns to give it.
"""

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.llm.llama import Llama


class RewardModel(nn.Module):
    """Gives a number to a text: a language model whose output layer is replaced by one row of weights.

    As a reward model it scores the whole text, by the features of its last token. As the critic of PPO it scores every
    beginning of the text, by the features of each token. The new row starts at zero, and so do all scores.

    Args:
        backbone: the language model that it starts from; its weights are trained on, its output layer is not used.
    """

    def __init__(self, backbone: Llama) -> None:
        super().__init__()
        self.backbone = backbone
        self.score = nn.Linear(backbone.config.dim, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Scores texts: [batch, tokens] to [batch].

        Args:
            tokens: prompt, answer and padding, [batch, tokens].
            lengths: tokens of each text without the padding after it, [batch]; `None` where there is none.
        """
        scores = self.token_scores(tokens)
        if lengths is None:
            return scores[:, -1]
        return scores.gather(1, lengths[:, None] - 1).squeeze(1)

    def token_scores(self, tokens: torch.Tensor) -> torch.Tensor:
        """Scores the text up to and including each token: [batch, tokens] to the same."""
        scores: torch.Tensor = self.score(self.backbone.features(tokens)[0])  # [batch, tokens, 1]
        return scores.squeeze(2)


def bradley_terry_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Computes −log σ(r(chosen) − r(rejected)) for each pair (Ouyang et al. 2022, equation 1).

    σ(r₁ − r₂) is the Bradley-Terry model's probability that the first answer is preferred. Only differences count: the
    loss does not change if a constant is added to all rewards.

    Args:
        chosen: rewards of the preferred answers, [batch].
        rejected: rewards of the others, [batch].

    Returns:
        [batch].
    """
    return -F.logsigmoid(chosen - rejected)
