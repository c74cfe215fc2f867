"""Decoding over the exported step: equal to decoding without a cache, in torch and in ONNX Runtime."""

from collections.abc import Generator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from dlcommon.runtime.arrays import Predict, metadata_of
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import original_predictor
from dlcommon.transformer.beam_search import run_to_end
from dlcommon.transformer.transformer import Transformer
from translator.config import Config
from translator.model import build, decoding_graph
from translator.tokenizer import BEGIN, END, PAD, UNKNOWN, Encoded, Tokenizer
from translator.translation import Search, Translation, Translator, longest_target

CONFIG = Config(dim=32, heads=2, encoder_layers=2, decoder_layers=2, feedforward_dim=32)
SENTENCES = ("a dog runs on the beach", "two dogs", "one small dog and a cat run", "beach")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES * 2, 40)


@pytest.fixture(scope="module")
def network(tokenizer: Tokenizer) -> Transformer:
    torch.manual_seed(3)
    network = build(CONFIG, tokenizer.size).eval()
    for parameter in network.parameters():  # residual branches start at zero, which would test little
        torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module")
def onnx(network: Transformer, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    graph = decoding_graph(network, CONFIG, tokenizer)
    path: Path = tmp_path_factory.mktemp("graph") / "model.onnx"
    write_onnx(graph, graph.metadata, path)
    return OnnxModel(path, threads=1)


@pytest.fixture(scope="module", params=["torch", "onnx"])
def predict(request: pytest.FixtureRequest, network: Transformer, tokenizer: Tokenizer, onnx: OnnxModel) -> Predict:
    return onnx if request.param == "onnx" else original_predictor(decoding_graph(network, CONFIG, tokenizer))


@pytest.fixture(scope="module")
def encoded(tokenizer: Tokenizer) -> list[Encoded]:
    return [tokenizer.encode(sentence) for sentence in SENTENCES]


def greedy_without_cache(network: Transformer, sentence: Encoded) -> list[int]:
    """Writes the most probable token again and again, the whole prefix computed anew for each."""
    source, tokens = torch.tensor([[*sentence.ids, END]]), [BEGIN]
    while len(tokens) <= longest_target(source.size(1)):
        with torch.no_grad():
            logits = network(source, torch.tensor([tokens]))[0, -1]
        logits[[PAD, BEGIN, UNKNOWN]] = -torch.inf
        tokens.append(int(logits.argmax()))
        if tokens[-1] == END:
            break
    return tokens[1:]


def test_greedy_search_with_the_cache_writes_what_full_decoding_writes(
    predict: Predict, network: Transformer, encoded: list[Encoded], tokenizer: Tokenizer
) -> None:
    translator = Translator(predict, metadata_of(predict))
    found = translator.translate(encoded, Search(num_beams=1))
    for sentence, (best,) in zip(encoded, found, strict=True):
        expected = greedy_without_cache(network, sentence)
        assert best.pieces == tuple(tokenizer.pieces(expected))
        assert best.ended == (expected[-1] == END)


def test_a_sentence_is_translated_alike_alone_and_in_a_batch(predict: Predict, encoded: list[Encoded]) -> None:
    translator, search = Translator(predict, metadata_of(predict)), Search(num_beams=3, num_hypotheses=3)
    together = translator.translate(encoded, search)
    for sentence, ranked in zip(encoded, together, strict=True):
        (alone,) = translator.translate([sentence], search)
        assert [one.text for one in alone] == [one.text for one in ranked]
        np.testing.assert_allclose([one.score for one in alone], [one.score for one in ranked], atol=1e-4)
        assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


def test_a_beam_finds_what_is_at_least_as_probable(predict: Predict, encoded: list[Encoded]) -> None:
    translator = Translator(predict, metadata_of(predict))
    for (greedy,), (beam,) in zip(
        translator.translate(encoded, Search(num_beams=1, length_penalty=0.0)),
        translator.translate(encoded, Search(num_beams=20, length_penalty=0.0)),
        strict=True,
    ):
        assert beam.log_probability >= greedy.log_probability - 1e-4


def test_log_probabilities_are_those_of_the_network(
    predict: Predict, network: Transformer, encoded: list[Encoded]
) -> None:
    translator = Translator(predict, metadata_of(predict))
    found = translator.log_probabilities(encoded, encoded[::-1])
    for sentence, target, row in zip(encoded, encoded[::-1], found, strict=True):
        given = torch.tensor([[BEGIN, *target.ids]])
        with torch.no_grad():
            logits = network(torch.tensor([[*sentence.ids, END]]), given)[0]
        expected = logits.log_softmax(dim=1)[range(given.size(1)), [*target.ids, END]]
        np.testing.assert_allclose(row[: given.size(1)], expected, atol=1e-4)
        assert not row[given.size(1) :].any()


def test_attention_is_a_distribution_over_the_source(predict: Predict, encoded: list[Encoded]) -> None:
    translator = Translator(predict, metadata_of(predict))
    for sentence, (best,) in zip(encoded, translator.translate(encoded, Search(2), attention=True), strict=True):
        assert best.attention.shape == (2, 2, len(best.pieces), len(sentence.ids) + 1)
        np.testing.assert_allclose(best.attention.sum(axis=3), 1, atol=1e-5)


def test_it_pauses_after_every_run_of_the_model(onnx: OnnxModel, encoded: list[Encoded]) -> None:
    runs: list[int] = []

    def counted(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        runs.append(len(arrays["tokens"]))
        return onnx(arrays)

    steps = Translator(counted, onnx.metadata).translate_steps(encoded, Search(2, 1.0, 2), attention=True)
    pauses = 0

    def checked() -> Generator[None, None, list[list[Translation]]]:
        nonlocal pauses
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: list[list[Translation]] = end.value
                return result
            pauses += 1
            assert len(runs) == pauses
            yield

    found = run_to_end(checked())
    assert pauses > 5
    assert [[one.attention.size > 0 for one in ranked] for ranked in found] == [[True, False]] * len(encoded)


def test_only_the_beginning_of_an_endless_sentence_is_read(onnx: OnnxModel, tokenizer: Tokenizer) -> None:
    translator = Translator(onnx, onnx.metadata)
    assert translator.read([tokenizer.encode("beach " * 1000)]).shape == (1, 200)
