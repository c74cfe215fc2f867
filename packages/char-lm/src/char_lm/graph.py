"""The trained model as ONNX holds it: one step of decoding, with what it has read as inputs and outputs."""

import json

import numpy as np
from dlcommon.runtime.capstone import ExportGraph
from dlcommon.runtime.run_directory import SavedRun
from dlcommon.transformer.gpt import GPT

from char_lm import tokenizer as tokenizers
from char_lm.config import Config
from char_lm.model import STATES, LSTMLanguageModel, Step, build
from char_lm.tokenizer import Tokenizer
from char_lm.train import TOKENIZER


def export_graph(saved: SavedRun[Config]) -> ExportGraph:
    """Of a finished run."""
    tokenizer = tokenizers.from_json((saved.directory / TOKENIZER).read_text(encoding="utf-8"))
    network = build(saved.config, tokenizer.size)
    network.load_state_dict(saved.weights())
    return decoding_graph(network, saved.config, tokenizer)


def decoding_graph(network: GPT | LSTMLanguageModel, config: Config, tokenizer: Tokenizer) -> ExportGraph:
    """A network as a graph; what a `Decoder` must know is in the metadata."""
    names = STATES[config.model]
    empty = dict(zip(names, network.initial_state(2), strict=True))
    state = {name: np.zeros(part.shape, np.float32) for name, part in empty.items()}
    shapes = {name: list(part.shape[1:]) for name, part in state.items()}
    dynamic = {"tokens": {1: "new"}}
    if config.model == "gpt":  # its state grows with the text
        state = {name: np.zeros((2, *part.shape[1:3], 3, part.shape[4]), np.float32) for name, part in state.items()}
        dynamic |= {name: {3: "past"} for name in names}
    metadata = {
        "tokenizer": tokenizer.to_json(),
        "context": str(config.context_lengths[-1]),
        "state": json.dumps(shapes),
        "network": f"{config.model}, {config.layers} layers of {config.dim}",
    }
    example: dict[str, np.ndarray] = {
        "tokens": np.zeros((2, 2), np.int64),
        "position": np.full(2, 3, np.int64),
        **state,
    }
    outputs = ("logits", *(f"next_{name}" for name in names))
    return ExportGraph(Step(network).eval(), example, outputs, metadata, quantize=False, dynamic=dynamic)
