"""The gradient that is written out, against autograd; integrated gradients, in torch and in ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch
from dlcommon.nlp.lora import LoRAConfig, add_lora
from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.export.graph import ExportGraph
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import original_predictor
from dlcommon.transformer.bert import BertForSequenceClassification
from sentiment_bert.attribution import integrated_gradients
from sentiment_bert.classifying import Reader, direction_of
from sentiment_bert.config import Config
from sentiment_bert.gradient import word_gradient
from sentiment_bert.model import build, inference_graph, merge_in_graph
from sentiment_bert.tokenizer import Tokenizer

TEXTS = ("a gripping and funny film", "it is slow , very , very slow .", "good", "not good at all , and not funny")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 2, 100)


@pytest.fixture(scope="module")
def network(tokenizer: Tokenizer) -> BertForSequenceClassification:
    """Returns a network of large weights, with adapters, whose answers depend on every token."""
    torch.manual_seed(1)
    network = build(Config(dim=32, layers=2), tokenizer, 3, None)
    add_lora(network.bert.encoder, LoRAConfig(2, 2.0, ("*_proj",)))
    for name, parameter in network.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    merge_in_graph(network)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def graph(network: BertForSequenceClassification, tokenizer: Tokenizer) -> ExportGraph:
    return inference_graph(network, tokenizer, ["a", "b", "c"], 1.5, language="en", network_name="toy")


@pytest.fixture(scope="module", params=["torch", "onnx"])
def predict(request: pytest.FixtureRequest, graph: ExportGraph, tmp_path_factory: pytest.TempPathFactory) -> Predict:
    if request.param == "torch":
        return original_predictor(graph)
    path: Path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(graph, graph.metadata, path)
    return OnnxModel(path, threads=1)


def test_the_gradient_is_autograds(network: BertForSequenceClassification, tokenizer: Tokenizer) -> None:
    network = network.double()
    rows = [tokenizer.row(one.ids) for one in tokenizer.encode_batch(TEXTS)]
    ids = torch.from_numpy(tokenizer.padded(rows))
    mask = ids != tokenizer.pad
    words = network.bert.embeddings.word(ids).requires_grad_()
    direction = torch.randn(len(ids), 3, dtype=torch.float64)
    features = network.bert.encode(network.bert.embeddings.add_context(words), mask)
    (expected,) = torch.autograd.grad((network.classify(features, mask) * direction).sum(), words)
    found = word_gradient(network, words, mask, direction)
    torch.testing.assert_close(found[mask], expected[mask])
    assert expected[mask].abs().max() > 1e-3
    network.float()


def test_attributions_sum_to_the_difference_of_logits(predict: Predict, graph: ExportGraph) -> None:
    """Completeness: what the words moved is all that moved."""
    reader = Reader(predict, graph.metadata)
    rows = reader.rows(reader.tokenizer.encode_batch(TEXTS))
    ids = reader.tokenizer.padded(rows)
    logits = reader.padded_logits(ids, 3)
    found = integrated_gradients(predict, ids, direction_of(logits), reader.masked(ids), steps=256)
    assert np.abs(found.score - found.baseline).max() > 0.1
    np.testing.assert_allclose(found.tokens.sum(axis=1), found.score - found.baseline, atol=5e-3)
    assert not found.tokens[ids == reader.tokenizer.pad].any()
    assert not found.tokens[ids == reader.tokenizer.cls].any()


def test_a_text_is_explained_alike_alone_and_in_a_batch(predict: Predict, graph: ExportGraph) -> None:
    reader = Reader(predict, graph.metadata)
    rows = reader.rows(reader.tokenizer.encode_batch(TEXTS))
    ids, direction = reader.tokenizer.padded(rows), np.tile(np.array([1, -1, 0], np.float32), (len(rows), 1))
    together = reader.explain(ids, direction)
    for number, row in enumerate(rows):
        alone = reader.explain(np.array([row]), direction[:1])
        np.testing.assert_allclose(alone.tokens[0], together.tokens[number, : len(row)], atol=1e-4)


def test_logits_do_not_depend_on_padding_or_on_how_texts_are_grouped(predict: Predict, graph: ExportGraph) -> None:
    reader = Reader(predict, graph.metadata)
    rows = reader.rows(reader.tokenizer.encode_batch(TEXTS))
    np.testing.assert_allclose(
        reader.logits(rows, 3), reader.padded_logits(reader.tokenizer.padded(rows), 3), atol=1e-4
    )


def test_the_path_may_be_split(predict: Predict, graph: ExportGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(predict, graph.metadata)
    ids = np.array([reader.rows(reader.tokenizer.encode_batch(TEXTS[:1]))[0]])
    direction, masked = np.array([[1, 0, -1]], np.float32), reader.masked(ids)
    whole = integrated_gradients(predict, ids, direction, masked)
    monkeypatch.setattr("sentiment_bert.attribution.TOKENS_AT_ONCE", 2 * ids.shape[1])
    np.testing.assert_allclose(integrated_gradients(predict, ids, direction, masked).tokens, whole.tokens, atol=1e-5)
