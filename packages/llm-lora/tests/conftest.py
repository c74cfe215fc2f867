"""A tiny network with random adapters, exported once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from dlcommon.llm.llama import Llama
from dlcommon.nlp.lora import LoRAConfig, add_lora, lora_layers
from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.testing.commands import script
from dlcommon.testing.server_process import ServerProcess, serving
from llm_lora.bases import TINY, tiny_base
from llm_lora.decoding_graph import decoding_graph
from llm_lora.service import ChatService
from onnx import numpy_helper


def tuned_network() -> Llama:
    """Makes the network; its weights are large, so that what it writes is not always the same."""
    torch.manual_seed(0)
    network = tiny_base().network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(6 if parameter.dim() == 2 else 1)
    add_lora(network, LoRAConfig(4, 8, ("q_proj", "v_proj", "down_proj")))
    for layer in lora_layers(network).values():
        torch.nn.init.normal_(layer.lora_b, std=0.3)
    return network.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Llama, Path]:
    """Returns the network in torch and as a file; `other.onnx` beside it has another adapter of the same base."""
    folder = tmp_path_factory.mktemp("models")
    graph = decoding_graph(tuned_network(), tiny_base().tokenizer, TINY)
    path = folder / "tuned.onnx"
    metadata = {"capstone": "llm-lora", "title": "Chat", "data": "toy", "created": "2026-01-01T00:00:00+00:00"}
    write_onnx(graph, {**graph.metadata, **metadata}, path)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "adapter":
            random = np.random.default_rng(1)
            matrix = random.normal(0, 0.2, (3, tensor.dims[1])).astype(np.float32)  # of another rank
            tensor.CopyFrom(numpy_helper.from_array(matrix, "adapter"))
    onnx.save(model, folder / "other.onnx")
    return tuned_network(), path


@pytest.fixture(scope="session")
def service(exported: tuple[Llama, Path]) -> ChatService:
    return ChatService(OnnxModel(exported[1], 1))


@pytest.fixture(scope="session")
def server(exported: tuple[Llama, Path]) -> Iterator[ServerProcess]:
    command = [script("llm-lora"), "serve", "--model", str(exported[1]), "--slots", "3", "--queue", "6"]
    with serving([*command, "--max-tokens", "2000", "--threads", "1"], {"OMP_NUM_THREADS": "1"}) as process:
        yield process
