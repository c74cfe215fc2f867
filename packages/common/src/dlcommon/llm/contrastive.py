"""Trains pictures and texts into one space, as CLIP and SigLIP do, and classifies by texts alone.

CLIP: Radford et al. 2021, https://arxiv.org/abs/2103.00020. SigLIP: Zhai et al. 2023, https://arxiv.org/abs/2303.15343.
Row i of a batch's pictures belongs to row i of its texts; every other pair of the batch is a negative.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def contrastive_logits(
    image_embeddings: torch.Tensor, text_embeddings: torch.Tensor, scale: torch.Tensor | float
) -> torch.Tensor:
    """Computes scale · cosine of every picture with every text.

    Args:
        image_embeddings: of any length, [images, dim].
        text_embeddings: [texts, dim].
        scale: the inverse of the temperature.

    Returns:
        [images, texts].
    """
    return scale * F.normalize(image_embeddings, dim=1) @ F.normalize(text_embeddings, dim=1).T


def clip_loss(logits: torch.Tensor) -> torch.Tensor:
    """Computes CLIP's symmetric cross-entropy (InfoNCE): each picture chooses its text, each text its picture.

    Args:
        logits: [pairs, pairs], the true pairs on the diagonal.

    Returns:
        The mean over pictures and texts, a scalar; ln(pairs) if all logits are equal.
    """
    own = logits.diagonal()
    choose_text = logits.logsumexp(dim=1) - own  # −ln softmax over the texts, [pairs]
    choose_image = logits.logsumexp(dim=0) - own  # −ln softmax over the pictures, [pairs]
    return (choose_text + choose_image).mean() / 2


def siglip_loss(logits: torch.Tensor) -> torch.Tensor:
    """Computes SigLIP's loss: each pair by itself is classified as true or not (Zhai et al. 2023, section 3.2).

    No sum runs over the batch, so that parts of the matrix can be computed on different machines.

    Args:
        logits: scale · cosine + bias, [pairs, pairs], the true pairs on the diagonal.

    Returns:
        The sum over the pairs of pictures and texts, divided by the number of pictures; a scalar.
    """
    signs = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1  # 1 on the diagonal, else −1
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def class_embeddings(prompt_embeddings: torch.Tensor) -> torch.Tensor:
    """Averages the directions of several prompts for each class: a classifier that no picture was needed for.

    Args:
        prompt_embeddings: of the texts "a photo of a …", "a drawing of a …" of each class, [classes, prompts, dim].

    Returns:
        Vectors of length 1, [classes, dim] (Radford et al. 2021, section 3.1.4).
    """
    return F.normalize(F.normalize(prompt_embeddings, dim=2).mean(dim=1), dim=1)


class DualEncoder(nn.Module):
    """Embeds pictures and texts in one space by an encoder for each; a scale, and in SigLIP a bias, are learned.

    Args:
        image_encoder: maps pictures to features [batch, image_dim].
        image_dim: their width.
        text_encoder: maps tokens to features [batch, text_dim].
        text_dim: their width.
        embedding_dim: width of the common space.
        temperature: what the logits are divided by at the start; CLIP begins with 0.07.
        bias: what is added to the logits at the start; SigLIP begins with −10, CLIP has none (0, and it stays 0).

    The scale is learned as its logarithm and, as in CLIP, never exceeds 100.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        image_dim: int,
        text_encoder: nn.Module,
        text_dim: int,
        embedding_dim: int,
        *,
        temperature: float = 0.07,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_proj = nn.Linear(image_dim, embedding_dim, bias=False)
        self.text_proj = nn.Linear(text_dim, embedding_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=bias != 0)

    @property
    def scale(self) -> torch.Tensor:
        """Returns the inverse temperature, a scalar."""
        return self.log_scale.exp().clamp(max=100.0)

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """Returns vectors of length 1, [batch, embedding_dim]."""
        return F.normalize(self.image_proj(self.image_encoder(images)), dim=1)

    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns vectors of length 1, [batch, embedding_dim]."""
        return F.normalize(self.text_proj(self.text_encoder(tokens)), dim=1)

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Computes the logits of all pairs, [images, texts]."""
        return contrastive_logits(self.embed_images(images), self.embed_texts(tokens), self.scale) + self.bias
