"""BERT, a bidirectional Transformer encoder (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

With the same weights its outputs and gradients are those of transformers' `BertModel`, `BertForMaskedLM` and
`BertForSequenceClassification`; `dlcommon.transformer.bert_weights` loads them.

Shapes: token ids [batch, tokens]; features [batch, tokens, dim].
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from dlcommon.transformer.encoder import TransformerEncoder

IGNORED = -100
"""Label of a token that takes no part in the loss; `ignore_index` of `F.cross_entropy`."""


@dataclass(frozen=True)
class BertConfig:
    """Describes the architecture of a `Bert`; the defaults are those of BERT-base.

    Raises:
        ValueError: `dim` cannot be split into the heads.
    """

    vocab_size: int
    """Number of different tokens."""
    dim: int = 768
    """Width of the features; each head gets dim / num_heads of it."""
    num_layers: int = 12
    num_heads: int = 12
    feedforward_dim: int = 3072
    """Width of the hidden layer in each feed-forward network."""
    max_tokens: int = 512
    """Largest number of tokens: each has a learned position."""
    num_segments: int = 2
    """Number of parts that a text may consist of, such as a question and a passage."""
    dropout: float = 0.1
    """Probability of zeroing an attention weight, or a feature after the embeddings and each sublayer, in training."""
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    """Token that fills up the shorter texts of a batch."""

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of num_heads {self.num_heads}")

    @classmethod
    def from_json(cls, path: Path) -> "BertConfig":
        """Reads the `config.json` that stands beside a model's weights on the hub.

        Raises:
            ValueError: it is no JSON object, lacks a size, or describes an architecture that `Bert` does not implement.
            OSError: it cannot be read.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no JSON object")
        _require_plain_bert(content, path)
        sizes = {ours: content.get(theirs) for ours, theirs in _SIZES.items()}
        for ours, size in sizes.items():
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{path}: {_SIZES[ours]} must be a positive integer, not {size!r}")
        others = {ours: content[theirs] for ours, theirs in _OTHERS.items() if content.get(theirs) is not None}
        for ours, number in others.items():
            if not isinstance(number, int | float):
                raise ValueError(f"{path}: {_OTHERS[ours]} must be a number, not {number!r}")
        values: dict[str, Any] = {**sizes, **others}
        return cls(**values)


_SIZES = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "feedforward_dim": "intermediate_size",
    "max_tokens": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
_OTHERS = {"dropout": "hidden_dropout_prob", "layer_norm_eps": "layer_norm_eps", "pad_token_id": "pad_token_id"}
_PLAIN = {
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False, None),
    "add_cross_attention": (False, None),
    "tie_word_embeddings": (True, None),
}
"""Values of the hub's settings that `Bert` implements; `None`: the setting may be left out."""


def _require_plain_bert(content: dict[str, Any], path: Path) -> None:
    """Raises ValueError unless `Bert` implements the architecture."""
    for setting, implemented in _PLAIN.items():
        if content.get(setting) not in implemented:
            wanted = " or ".join(repr(value) for value in implemented if value is not None)
            raise ValueError(f"{path}: {setting} is {content.get(setting)!r}, but Bert implements only {wanted}")
    dropout, attention_dropout = (content.get(f"{part}_dropout_prob", 0.1) for part in ("hidden", "attention_probs"))
    if dropout != attention_dropout:
        raise ValueError(
            f"{path}: hidden_dropout_prob {dropout} and attention_probs_dropout_prob {attention_dropout} differ, "
            f"but Bert has one dropout; set both to the same"
        )


class BertEmbeddings(nn.Module):
    """Adds up what each token is, which part of the text it is in, and where it stands (section 3, figure 2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        # The padding's vector gets no gradient.
        self.word = nn.Embedding(config.vocab_size, config.dim, padding_idx=config.pad_token_id)
        self.segment = nn.Embedding(config.num_segments, config.dim)
        self.position = nn.Embedding(config.max_tokens, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Maps token ids [batch, tokens] to features [batch, tokens, dim].

        Args:
            input_ids: int64 [batch, tokens].
            token_type_ids: which part each token belongs to, int64 [batch, tokens]; `None`: all to the first.
        """
        return self.add_context(self.word(input_ids), token_type_ids)

    def add_context(self, words: torch.Tensor, token_type_ids: torch.Tensor | None = None) -> torch.Tensor:
        """Adds segments and positions to word vectors [batch, tokens, dim], normalizes, and applies dropout.

        Raises:
            ValueError: there are more tokens than positions.
        """
        tokens, limit = words.size(1), self.position.num_embeddings
        # Not while tracing: the exporter would demand that the caller declares the limit as well.
        if not torch.compiler.is_compiling() and tokens > limit:
            raise ValueError(f"{tokens} tokens, but this model has positions for {limit}; shorten the text")
        # [dim], the same for all tokens, or [batch, tokens, dim]
        segments = self.segment.weight[0] if token_type_ids is None else self.segment(token_type_ids)
        positions = torch.arange(tokens, device=words.device)
        output: torch.Tensor = self.dropout(self.norm(words + segments + self.position(positions)))
        return output


class Bert(nn.Module):
    """Computes features of tokens, each of which attends to all tokens before and after it.

    Args:
        config: the architecture.
        pooler: whether there are weights for `pool`.
    """

    def __init__(self, config: BertConfig, *, pooler: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.encoder = TransformerEncoder(
            config.dim,
            config.num_heads,
            config.feedforward_dim,
            config.num_layers,
            dropout=config.dropout,
            norm_first=False,
            activation="gelu",
            hidden_dropout=0.0,
            layer_norm_eps=config.layer_norm_eps,
        )
        self.pooler = nn.Linear(config.dim, config.dim) if pooler else None
        self.apply(_initialize)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Maps token ids [batch, tokens] to features [batch, tokens, dim].

        Args:
            input_ids: int64 [batch, tokens].
            attention_mask: 1 or true for a token, 0 or false for padding, [batch, tokens]; `None`: no padding.
            token_type_ids: which part each token belongs to, int64 [batch, tokens]; `None`: all to the first.
        """
        return self.encode(self.embeddings(input_ids, token_type_ids), attention_mask)

    def encode(self, x: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Maps embeddings [batch, tokens, dim] to features of that shape; no token attends to padding."""
        # [batch, 1, 1, tokens]: the same for all heads and for all tokens that ask.
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        features: torch.Tensor
        features, _ = self.encoder(x, mask)
        return features

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """Computes tanh(W x + b) of the first token's features, [CLS]: [batch, tokens, dim] to [batch, dim].

        Raises:
            ValueError: the model was built without a pooler.
        """
        if self.pooler is None:
            raise ValueError("this Bert has no pooler; build it with Bert(config, pooler=True)")
        return torch.tanh(self.pooler(features[:, 0]))


def _initialize(module: nn.Module) -> None:
    """Draws the weights from a normal distribution with standard deviation 0.02, and sets biases to zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()


def mean_pool(features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Averages the features of each text's tokens, without the padding (Reimers & Gurevych 2019, section 3).

    Args:
        features: [batch, tokens, dim].
        attention_mask: 1 or true for a token, 0 or false for padding, [batch, tokens]; `None`: no padding.

    Returns:
        One vector a text, [batch, dim].
    """
    if attention_mask is None:
        return features.mean(dim=1)
    weights = attention_mask.to(features.dtype)[:, :, None]  # [batch, tokens, 1]
    return (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


Pooling = Literal["cls", "mean"]


class BertForSequenceClassification(nn.Module):
    """Classifies texts from the pooled [CLS] token (section 4.1), or from the mean of all tokens.

    Args:
        bert: the encoder.
        num_classes: number of classes.
        pooling: "cls", as in the paper and transformers, goes through the encoder's pooler; "mean" needs no pooler, and
            suits encoders that were trained to put a sentence's meaning into the mean of its tokens.
        dropout: probability of zeroing a pooled feature in training; `None`: the encoder's.

    Raises:
        ValueError: `pooling` is "cls" and the encoder has no pooler.
    """

    def __init__(self, bert: Bert, num_classes: int, *, pooling: Pooling = "cls", dropout: float | None = None) -> None:
        super().__init__()
        if pooling == "cls" and bert.pooler is None:
            raise ValueError("pooling 'cls' needs the pooler; build the encoder with Bert(config, pooler=True)")
        self.bert, self.pooling = bert, pooling
        self.dropout = nn.Dropout(bert.config.dropout if dropout is None else dropout)
        self.classifier = nn.Linear(bert.config.dim, num_classes)
        _initialize(self.classifier)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Maps token ids [batch, tokens] to logits [batch, num_classes]; arguments as in `Bert.forward`."""
        return self.classify(self.bert(input_ids, attention_mask, token_type_ids), attention_mask)

    def classify(self, features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Maps the encoder's features [batch, tokens, dim] to logits [batch, num_classes]."""
        pooled = self.bert.pool(features) if self.pooling == "cls" else mean_pool(features, attention_mask)
        logits: torch.Tensor = self.classifier(self.dropout(pooled))
        return logits

    def parts(self) -> list[nn.Module]:
        """Lists the parts from the input to the output, as fine-tuning needs them: embeddings, each layer, the head.

        The head is the classifier, with "cls" the pooler as well.
        """
        pooler = [] if self.pooling == "mean" or self.bert.pooler is None else [self.bert.pooler]
        head = nn.ModuleList([*pooler, self.classifier])
        return [self.bert.embeddings, *self.bert.encoder.layers, head]


class BertForMaskedLM(nn.Module):
    """Predicts the tokens that were masked (section 3.1, task 1), with the word embeddings as output weights."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert
        self.transform = nn.Linear(bert.config.dim, bert.config.dim)
        self.norm = nn.LayerNorm(bert.config.dim, eps=bert.config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(bert.config.vocab_size))
        _initialize(self.transform)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Maps token ids [batch, tokens] to logits [batch, tokens, vocab_size]; arguments as in `Bert.forward`."""
        return self.predict(self.bert(input_ids, attention_mask, token_type_ids))

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """Maps the encoder's features [..., dim], of all tokens or of the masked ones only, to logits."""
        features = self.norm(F.gelu(self.transform(features)))
        # [..., dim] times [dim, vocab_size]: each word's logit is a dot product with its embedding.
        return F.linear(features, self.bert.embeddings.word.weight, self.bias)


def mask_tokens(
    input_ids: torch.Tensor,
    maskable: torch.Tensor,
    *,
    mask_token_id: int,
    vocab_size: int,
    generator: torch.Generator,
    probability: float = 0.15,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Chooses tokens to be predicted and hides most of them (section 3.1: 80 % masked, 10 % random, 10 % unchanged).

    Args:
        input_ids: int64 [batch, tokens].
        maskable: true for tokens that may be chosen, that is neither special nor padding; bool [batch, tokens].
        mask_token_id: id of [MASK].
        vocab_size: random tokens are drawn below it.
        generator: source of the randomness, on the CPU.
        probability: of choosing a token.

    Returns:
        The ids to read and the labels, both int64 [batch, tokens]; labels are `IGNORED` where nothing is predicted.
    """

    def drawn() -> torch.Tensor:
        return torch.rand(input_ids.shape, generator=generator).to(input_ids.device)

    chosen = maskable & (drawn() < probability)
    labels = input_ids.masked_fill(~chosen, IGNORED)
    share = drawn()  # of the chosen ones: below 0.8 masked, below 0.9 random
    random_ids = torch.randint(vocab_size, input_ids.shape, generator=generator).to(input_ids.device)
    corrupted = torch.where(chosen & (share < 0.8), mask_token_id, input_ids)
    return torch.where(chosen & (share >= 0.8) & (share < 0.9), random_ids, corrupted), labels
