"""The network, and the graph that is exported.

Shapes: input_ids int64 [batch, tokens], filled up with [PAD]; logits [batch, classes].
"""

import json
from pathlib import Path

import numpy as np
import torch
from dlcommon.nlp.lora import LoRAConfig, LoRALinear, add_lora
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.saved_run import SavedRun
from dlcommon.runtime.stored_weights import StoredWeights
from dlcommon.transformer.bert import Bert, BertConfig, BertForSequenceClassification
from dlcommon.transformer.bert_weights import load_pretrained
from torch import nn
from torch.nn import functional as F

from sentiment_bert.config import HEAD_DIM, Config
from sentiment_bert.difference import store_differences
from sentiment_bert.gradient import word_gradient
from sentiment_bert.tokenizer import TOKENIZER, Tokenizer

PRETRAINED = "all-minilm-l6-v2"
"""The asset that a pretrained encoder comes from."""
PRETRAINED_LANGUAGE = "en"


def build(config: Config, tokenizer: Tokenizer, num_classes: int, folder: Path | None) -> BertForSequenceClassification:
    """Builds the network that is trained: what stays as it was pretrained is frozen.

    Args:
        folder: of the pretrained encoder's files; None for random weights.

    Raises:
        ValueError: the files do not hold a BERT.
    """
    if folder is None:
        shape = BertConfig(
            tokenizer.size,
            dim=config.dim,
            num_layers=config.layers,
            num_heads=config.dim // HEAD_DIM,
            feedforward_dim=4 * config.dim,
            max_tokens=512,
            dropout=config.dropout,
            pad_token_id=tokenizer.pad,
        )
        bert = Bert(shape, pooler=False)
        set_dropout(bert, config)
        return BertForSequenceClassification(bert, num_classes, pooling="mean")
    bert = load_pretrained(folder)
    bert.pooler = None
    set_dropout(bert, config)
    bert.requires_grad_(False)
    layers = list(bert.encoder.layers)
    for layer in layers[max(0, len(layers) - config.trained_layers) :]:
        if config.adaptation == "lora":
            add_lora(layer, LoRAConfig(config.lora_rank, 2 * config.lora_rank, targets=("*_proj",)))
        else:
            layer.requires_grad_(True)
    return BertForSequenceClassification(bert, num_classes, pooling="mean", dropout=config.dropout)


def set_dropout(bert: Bert, config: Config) -> None:
    """Sets the dropout of features; attention weights keep all: a CPU takes long to drop them."""
    bert.embeddings.dropout.p = config.dropout
    for layer in bert.encoder.layers:
        layer.self_attention.dropout = 0.0
        for residual in (layer.attention_residual, layer.feed_forward_residual):
            residual.dropout.p = config.dropout


class MergedLinear(nn.Module):
    """Computes with W + scaling · B A, added up in the graph, so that an exported one can leave the pretrained W out.

    ONNX Runtime adds them up once, while it loads.
    """

    def __init__(self, adapter: LoRALinear) -> None:
        super().__init__()
        self.base, self.lora_a, self.lora_b = adapter.base, adapter.lora_a, adapter.lora_b
        self.scaling = adapter.scaling

    @property
    def weight(self) -> torch.Tensor:
        """The matrix with its update, [out_features, in_features]."""
        weight: torch.Tensor = self.base.weight + self.scaling * (self.lora_b @ self.lora_a)
        return weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.base.bias)


def merge_in_graph(module: nn.Module) -> None:
    """Replaces every adapter inside a module by a `MergedLinear` of the same parameters."""
    for name, child in module.named_children():
        if isinstance(child, LoRALinear):
            setattr(module, name, MergedLinear(child))
        else:
            merge_in_graph(child)


class Classifier(nn.Module):
    """Computes logits of padded texts; what the training loop calls."""

    def __init__(self, network: BertForSequenceClassification, pad: int) -> None:
        super().__init__()
        self.network, self.pad = network, pad

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(input_ids, input_ids != self.pad)
        return logits


class InferenceModel(nn.Module):
    """Computes calibrated logits, and the gradients that integrated gradients are made of."""

    def __init__(self, network: BertForSequenceClassification, pad: int, temperature: float) -> None:
        super().__init__()
        self.network, self.pad, self.temperature = network, pad, temperature

    def forward(
        self, input_ids: torch.Tensor, baseline_ids: torch.Tensor, direction: torch.Tensor, path: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits at the temperature, and gradient · (x − x′) at each point of the path.

        Args:
            input_ids: the texts.
            baseline_ids: the texts that the path begins at, [batch, tokens].
            direction: weight of each class's logit, [batch, classes].
            path: points from 0 (baseline) to 1 (text), [batch, points]; without points no gradient is computed.

        Returns:
            Logits, and [batch, points, tokens].
        """
        network, mask = self.network, input_ids != self.pad
        logits = network(input_ids, mask) / self.temperature
        word = network.bert.embeddings.word
        start = word(baseline_ids)
        difference = word(input_ids) - start  # [batch, tokens, dim]
        (batch, points), (_, tokens, dim) = path.shape, difference.shape
        between = start[:, None] + path[:, :, None, None] * difference[:, None]
        gradient = word_gradient(
            network,
            between.reshape(batch * points, tokens, dim),
            mask[:, None].expand(batch, points, tokens).reshape(batch * points, tokens),
            direction[:, None].expand(batch, points, direction.size(1)).reshape(batch * points, direction.size(1)),
        )
        moved = (gradient.view(batch, points, tokens, dim) * difference[:, None]).sum(dim=3) / self.temperature
        return logits.float(), moved.float()


def encoder_folder(saved: SavedRun[Config]) -> Path | None:
    """Returns the files of the pretrained encoder that a run began with, if it began with one."""
    return saved.asset(PRETRAINED).path if saved.summary["training"]["encoder"] == "pretrained" else None


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Returns a finished run's network as it is exported."""
    facts = saved.summary["training"]
    tokenizer = Tokenizer.from_file(saved.directory / TOKENIZER)
    folder = encoder_folder(saved)
    classes = list(facts["classes"])
    network = build(saved.config, tokenizer, len(classes), folder)
    model = Classifier(network, tokenizer.pad)
    stored = StoredWeights.of(model, [] if folder is None else [network.bert])
    stored.load(model, saved.weights())
    if folder is not None:
        # The file that is exported holds what the training changed, in few megabytes.
        store_differences(network.bert.encoder, load_pretrained(folder).encoder)
    return inference_graph(
        network,
        tokenizer,
        classes,
        facts["temperature"],
        language=facts.get("language", saved.config.language),  # earlier runs state it in the config alone
        network_name=facts["network"],
        requires=() if folder is None else (PRETRAINED,),
    )


def inference_graph(
    network: BertForSequenceClassification,
    tokenizer: Tokenizer,
    classes: list[str],
    temperature: float,
    *,
    language: str,
    network_name: str,
    requires: tuple[str, ...] = (),
) -> ExportGraph:
    """Returns a network as a graph; what a service must know is in the metadata."""
    merge_in_graph(network)
    metadata = {
        "labels": json.dumps(classes, ensure_ascii=False),
        "language": language,
        "tokenizer": tokenizer.to_json(),
        "max_tokens": str(network.bert.config.max_tokens),
        "network": network_name,
    }
    ids = np.array([[tokenizer.cls, tokenizer.unknown, tokenizer.sep, tokenizer.pad]] * 2, np.int64)
    ids[0, 2:] = tokenizer.unknown, tokenizer.sep
    example: dict[str, np.ndarray] = {
        "input_ids": ids,
        "baseline_ids": ids,
        "direction": np.ones((2, len(classes)), np.float32),
        "path": np.full((2, 3), 0.5, np.float32),
    }
    dynamic = {"input_ids": {1: "tokens"}, "baseline_ids": {1: "tokens"}, "path": {1: "points"}}
    return ExportGraph(
        InferenceModel(network, tokenizer.pad, temperature).eval(),
        example,
        ("logits", "attributions"),
        metadata,
        quantization="dynamic",
        dynamic=dynamic,
        requires=requires,
    )
