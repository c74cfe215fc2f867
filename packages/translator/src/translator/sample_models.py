"""Small untrained models, for tests of what holds for any model."""

from collections.abc import Sequence
from pathlib import Path

from dlcommon.runtime.export.onnx_file import write_onnx
from dlcommon.runtime.files import write_json

from translator.config import Config
from translator.model import build, decoding_graph
from translator.tokenizer import Tokenizer

SENTENCES = ("a dog and a cat run", "ein hund und eine katze rennen", "un chien et un chat courent") * 2


def write_run(folder: Path, source: str, target: str, sentences: Sequence[str] = SENTENCES) -> Path:
    """Writes what the server reads of a finished and exported run; returns its model, which writes random pieces."""
    config = Config(
        source=source, target=target, dim=16, heads=2, encoder_layers=1, decoder_layers=1, feedforward_dim=16
    )
    tokenizer = Tokenizer.train(sentences, 60)
    graph = decoding_graph(build(config, tokenizer.size).eval(), config, tokenizer)
    folder.mkdir(parents=True)
    config.save(folder / "config.json")
    write_json(folder / "summary.json", {"capstone": "translator", "data": {"name": "multi30k"}, "training": {}})
    write_onnx(graph, {**graph.metadata, "capstone": "translator", "data": "multi30k"}, folder / "model.onnx")
    return folder / "model.onnx"
