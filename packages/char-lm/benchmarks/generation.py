"""Tokens a second of the exported graph, of torch with the same weights, and of a memory that only had to feed them.

    uv run --package char-lm python packages/char-lm/benchmarks/generation.py --presets default fast lstm

Each preset's network is exported with random weights, which cost what trained ones do, and held to write the same
tokens in both runtimes. Then both write one text at a time, token after token, each with its state (the GPT's cache,
the LSTM's memory) and with the same number of threads; runs alternate and medians count. "As served" is the exported
graph with everything that the server does for a token: sampling, probabilities, text.

The bound: to write one token every weight is read once, and of the cache what was written so far. No program is faster
than those bytes over the bandwidth at which this machine copies a block as large as the weights (what is read and what
is written both count). Weights that fit into the processor's cache are read faster than memory gives them; the rate of
a block far larger than any cache is stated beside it.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from char_lm.config import PRESETS, Config
from char_lm.generation import Decoder
from char_lm.model import LSTMLanguageModel, build, decoding_graph
from char_lm.tokenizer import CharacterTokenizer
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.hardware import copy_bandwidth, describe
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.transformer.gpt import GPT
from dlcommon.transformer.sampling import Sampling

ALPHABET = CharacterTokenizer("".join(map(chr, range(32, 97))))
"""65 characters, as many as Tiny Shakespeare has."""
LARGE = 2**29
"""Bytes of a block that no cache holds."""

Network = GPT | LSTMLanguageModel


def written_by_onnx(decoder: Decoder, count: int) -> list[int]:
    """That many tokens, each the most probable, after token 0."""
    state, tokens = decoder.initial_state(1), [0]
    for position in range(count):
        logits, state = decoder.step(np.asarray([tokens[-1:]], np.int64), position, state)
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[1:]


@torch.inference_mode()
def written_by_torch(network: Network, count: int) -> list[int]:
    state, tokens = network.initial_state(1), [0]
    for position in range(count):
        logits, state = network.step(torch.tensor([tokens[-1:]]), torch.tensor([position]), state)
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[1:]


def bytes_per_token(network: Network, count: int) -> int:
    """Read for one of `count` tokens, on average; of the GPT's embedding one row is read, and of its cache half."""
    weights = 4 * sum(parameter.numel() for parameter in network.parameters())
    if not isinstance(network, GPT):
        return weights
    shape = network.config
    table = 4 * network.embedding.weight.numel()
    return weights - table + 4 * shape.dim + 4 * 2 * shape.num_layers * shape.dim * count // 2


def rate(write: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    write()
    return count / (time.perf_counter() - started)


def measure(preset: str, threads: int, rounds: int, folder: Path) -> dict[str, Any]:
    config = dataclasses.replace(Config(), **PRESETS.get(preset, {}))
    torch.manual_seed(0)
    network = build(config, ALPHABET.size).eval()
    with torch.no_grad():  # a fresh GPT's last layer is zero: every token would be as probable
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    graph = decoding_graph(network, config, ALPHABET)
    path = folder / f"{preset}.onnx"
    write_onnx(graph, graph.metadata, path)
    decoder = Decoder(OnnxModel(path, threads), graph.metadata)
    count = config.context_lengths[-1]
    if written_by_onnx(decoder, count) != written_by_torch(network, count):
        raise SystemExit(f"{preset}: the two runtimes write different tokens")

    def as_served() -> None:
        for _ in decoder.write(np.zeros(1, np.int64), count, Sampling(0.8), np.random.default_rng(0)):
            pass

    writers: dict[str, Callable[[], object]] = {
        "onnx": lambda: written_by_onnx(decoder, count),
        "torch": lambda: written_by_torch(network, count),
        "as_served": as_served,
    }
    rates: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(rounds):
        for name, write in writers.items():
            rates[name].append(rate(write, count))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    needed = bytes_per_token(network, count)
    bandwidth = copy_bandwidth(needed)
    return {
        "network": graph.metadata["network"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "tokens": count,
        "tokens_per_second": {name: round(value) for name, value in medians.items()},
        "onnx_over_torch": round(medians["onnx"] / medians["torch"], 2),
        "bytes_per_token": needed,
        "copied_gb_per_second": round(bandwidth / 1e9, 1),
        "bound_tokens_per_second": round(bandwidth / needed),
        "onnx_over_bound": round(medians["onnx"] * needed / bandwidth, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["default", *PRESETS]
    parser.add_argument("--presets", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=9, help="of each runtime")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of both runtimes")
    parser.add_argument("--output", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    figures: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds}
    figures["large_block_gb_per_second"] = round(copy_bandwidth(LARGE, 2.0) / 1e9, 1)
    with tempfile.TemporaryDirectory() as name:
        for preset in options.presets:
            figures[preset] = measure(preset, options.threads, options.rounds, Path(name))
            print(preset, json.dumps(figures[preset], indent=2), flush=True)
    figures["hardware"] = describe()
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
