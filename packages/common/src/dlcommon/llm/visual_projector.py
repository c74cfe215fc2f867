"""Lets a language model read pictures: their features, projected to its width, take the place of token embeddings.

The projector is that of LLaVA (Liu et al. 2023, https://arxiv.org/abs/2304.08485), a linear layer, or LLaVA-1.5's
(Liu et al. 2023, https://arxiv.org/abs/2310.03744), two layers with a GELU between them. Writing several tokens for
one feature vector is what Frozen does (Tsimpoukelli et al. 2021, https://arxiv.org/abs/2106.13884).
"""

import torch
from torch import nn

from dlcommon.llm.llama import Llama


class VisualProjector(nn.Module):
    """Maps a picture's features to embeddings that a language model reads like words.

    Args:
        image_dim: width of the picture encoder's features.
        dim: width of the language model.
        tokens_per_feature: embeddings for each feature vector; 1 for an encoder that gives one vector for each patch.
        hidden_dim: width of the hidden layer; `None` for a single linear layer.
    """

    def __init__(self, image_dim: int, dim: int, *, tokens_per_feature: int = 1, hidden_dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        out = dim * tokens_per_feature
        self.layers = (
            nn.Linear(image_dim, out)
            if hidden_dim is None
            else nn.Sequential(nn.Linear(image_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out))
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Maps features [batch, positions, image_dim] to [batch, positions · tokens_per_feature, dim]."""
        projected: torch.Tensor = self.layers(features)  # [batch, positions, tokens_per_feature · dim]
        return projected.reshape(len(features), -1, self.dim)


def insert_image_embeddings(
    token_embeddings: torch.Tensor, is_image: torch.Tensor, image_embeddings: torch.Tensor
) -> torch.Tensor:
    """Replaces the embeddings of the placeholders by those of the pictures, in order.

    Args:
        token_embeddings: of text and placeholders, [batch, tokens, dim].
        is_image: bool, true at placeholders, [batch, tokens]; in each row as many as the picture has embeddings.
        image_embeddings: [batch, image tokens, dim].

    Returns:
        [batch, tokens, dim]; the inputs are not changed.

    Raises:
        ValueError: a row has more or fewer placeholders than its picture has embeddings.
    """
    expected = image_embeddings.size(1)
    if (counts := is_image.sum(dim=1)).ne(expected).any():
        raise ValueError(f"a row has {counts.tolist()} placeholders, a picture {expected} embeddings")
    return token_embeddings.masked_scatter(is_image[..., None], image_embeddings.to(token_embeddings.dtype))


class VisionLanguageModel(nn.Module):
    """Predicts each next token of a text that has a picture among its tokens.

    Args:
        language_model: reads the embeddings.
        projector: makes them from a picture encoder's features.
        image_token: the id of the placeholder; the text holds one for each of the picture's embeddings.
    """

    def __init__(self, language_model: Llama, projector: VisualProjector, image_token: int) -> None:
        super().__init__()
        self.language_model, self.projector, self.image_token = language_model, projector, image_token

    def forward(self, tokens: torch.Tensor, image_features: torch.Tensor) -> torch.Tensor:
        """Computes the logits of every next token, [batch, tokens, vocab_size].

        Args:
            tokens: text and placeholders, [batch, tokens].
            image_features: of the picture encoder, [batch, positions, image_dim].
        """
        embeddings = insert_image_embeddings(
            self.language_model.model.embed_tokens(tokens),
            tokens == self.image_token,
            self.projector(image_features),
        )
        return self.language_model.logits(self.language_model.features(tokens, embeddings=embeddings)[0])
