"""Decoding with a cache, with each kind of model."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from char_lm.config import Config
from char_lm.evaluate import by_context, cross_entropy, longest_copy
from char_lm.generation import Decoder
from char_lm.model import LSTMLanguageModel, build, decoding_graph
from char_lm.tokenizer import CharacterTokenizer
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import ModulePredictor
from dlcommon.transformer.gpt import GPT
from dlcommon.transformer.sampling import Sampling
from dlcommon.transformer.stop_strings import beginning_of_stop, first_stop
from torch.nn import functional as F

ALPHABET = CharacterTokenizer("\n abcdefgh")

Kind = Literal["gpt", "lstm"]


def config(kind: Kind) -> Config:
    return Config(model=kind, layers=2, dim=16, heads=2, context_lengths=(4, 8), stages=(0.5,))


def model(kind: Kind) -> GPT | LSTMLanguageModel:
    torch.manual_seed(0)
    network = build(config(kind), ALPHABET.size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network.eval()


def decoder(network: GPT | LSTMLanguageModel, kind: Kind, context: int = 8) -> Decoder:
    graph = decoding_graph(network, config(kind), ALPHABET)
    predict = ModulePredictor(graph.module, tuple(graph.example), graph.outputs)
    return Decoder(predict, graph.metadata | {"context": str(context)})


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_step_by_step_is_the_whole_text_at_once(kind: Kind) -> None:
    network = model(kind)
    tokens = torch.randint(10, (3, 8), generator=torch.Generator().manual_seed(1))
    state: Any = network.initial_state(3)
    found = []
    for start, length in ((0, 3), (3, 1), (4, 4)):
        position = torch.full((3,), start)
        logits, state = network.step(tokens[:, start : start + length], position, state)
        found.append(logits)
    torch.testing.assert_close(torch.cat(found, dim=1), network(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_the_exported_graph_carries_its_state_from_token_to_token(kind: Kind, tmp_path: Path) -> None:
    network = model(kind)
    graph = decoding_graph(network, config(kind), ALPHABET)
    write_onnx(graph, graph.metadata, tmp_path / "model.onnx")
    onnx = OnnxModel(tmp_path / "model.onnx")
    writer = Decoder(onnx, onnx.metadata)
    for batch in (1, 3):  # the graph was traced with 2
        tokens = torch.randint(10, (batch, 8), generator=torch.Generator().manual_seed(batch))
        state, found = writer.initial_state(batch), []
        for start, end in ((0, 3), (3, 4), (4, 5), (5, 8)):
            logits, state = writer.step(tokens[:, start:end].numpy(), start, state)
            found.append(torch.from_numpy(logits))
        torch.testing.assert_close(torch.cat(found, dim=1), network(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_greedy_writing_takes_the_most_probable_each_time(kind: Kind) -> None:
    network = model(kind)
    writer = decoder(network, kind, context=100)
    prompt = ALPHABET.encode("abc")
    found = "".join(one.text for one in writer.write(prompt, 12, Sampling(0), np.random.default_rng(0)))
    text = torch.from_numpy(prompt)[None]
    for _ in range(12):
        text = torch.cat((text, network(text)[:, -1:].argmax(dim=2)), dim=1)
    assert found == ALPHABET.decode(text[0, 3:].numpy())


def test_writing_goes_on_beyond_the_context_and_looks_back_no_further() -> None:
    writer = decoder(model("gpt"), "gpt", context=8)
    written = list(writer.write(ALPHABET.encode("abcdefgh" * 5), 40, Sampling(), np.random.default_rng(0)))
    assert len(written) == 40
    short, long = (
        next(writer.write(ALPHABET.encode(text), 1, Sampling(), np.random.default_rng(0))).next
        for text in ("cdefghab", "ffff" + "cdefghab")
    )
    assert short == pytest.approx(long)


def test_an_empty_prompt_begins_a_line() -> None:
    writer = decoder(model("gpt"), "gpt")
    first = next(writer.write(np.zeros(0, np.int64), 1, Sampling(), np.random.default_rng(0)))
    after = next(writer.write(ALPHABET.encode("\n"), 1, Sampling(), np.random.default_rng(0)))
    assert first == after


def test_the_same_seed_writes_the_same() -> None:
    writer = decoder(model("lstm"), "lstm")

    def text(seed: int) -> str:
        return "".join(
            one.text for one in writer.write(ALPHABET.encode("a"), 30, Sampling(), np.random.default_rng(seed))
        )

    assert text(1) == text(1) != text(2)


def test_stop_strings_are_found_and_their_beginnings_held_back() -> None:
    assert first_stop("one END two", ["END", "two"]) == 4
    assert first_stop("one", ["END"]) is None
    assert beginning_of_stop("one EN", ["END", "x"]) == 2
    assert beginning_of_stop("one END", ["END"]) == 0
    assert beginning_of_stop("one", []) == 0


def test_loss_by_context_is_that_of_shorter_windows() -> None:
    losses = np.arange(40.0)[None].repeat(2, axis=0)
    rows = [list(row.values()) for row in by_context(losses)]
    assert rows == [[16, 11.5, 7.5], [32, 23.5, 15.5], [40, 29.5, 19.5]]
    assert [row["tokens of context"] for row in by_context(losses[:, :8])] == [8]


def test_cross_entropy_is_torchs() -> None:
    random = np.random.default_rng(0)
    logits, targets = random.standard_normal((3, 5, 7)).astype(np.float32), random.integers(0, 7, (3, 5))
    expected = F.cross_entropy(
        torch.from_numpy(logits).flatten(0, 1), torch.from_numpy(targets).flatten(), reduction="none"
    )
    assert cross_entropy(logits, targets).flatten() == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "copied"), [("xxabcdyy", "abcd"), ("zzz", ""), ("", ""), ("abcdef", "abcdef"), ("aab", "ab")]
)
def test_the_longest_copied_stretch(text: str, copied: str) -> None:
    assert longest_copy(text, "..abcdef..") == copied
