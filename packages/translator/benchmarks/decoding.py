"""Sentences per second of the exported model in ONNX Runtime and of the same network in torch.

    uv run --package translator python packages/translator/benchmarks/decoding.py RUN

RUN is a finished and exported run. Both translate the same test sentences with the same search over the same step, one
at a time and 32 together; rounds alternate.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from dlcommon.runtime import data
from dlcommon.runtime.files import read_json
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.predict import original_predictor
from dlcommon.runtime.saved_run import SavedRun
from translator.config import Config
from translator.model import export_graph
from translator.tokenizer import Encoded
from translator.translation import Search, Translator

SEARCHES = {"greedy": Search(num_beams=1), "beam 5": Search(num_beams=5)}


def seconds(translator: Translator, encoded: list[Encoded], together: int, search: Search) -> float:
    begun = time.perf_counter()
    for start in range(0, len(encoded), together):
        translator.translate(encoded[start : start + together], search)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    summary = read_json(options.run / "summary.json")
    saved = SavedRun(options.run, Config.load(options.run / "config.json"), summary["data"]["name"], summary)
    graph, threads = export_graph(saved), torch.get_num_threads()
    translators = {
        "onnxruntime": Translator(OnnxModel(options.run / "model.onnx", threads), graph.metadata),
        "torch": Translator(original_predictor(graph), graph.metadata),
    }
    text = data.resolve(saved.data_name, (saved.data_name,)).load()
    first = translators["torch"]
    encoded = [first.tokenizer.encode(one) for one in text.test[saved.config.source][: options.sentences]]
    rows = []
    for name, search in SEARCHES.items():
        for together in (1, 32):
            times: dict[str, list[float]] = {runtime: [] for runtime in translators}
            for number in range(options.rounds + 1):
                for runtime, translator in translators.items():
                    taken = seconds(translator, encoded, together, search)
                    if number:  # the first warms up
                        times[runtime].append(taken)
            speeds = {runtime: len(encoded) / statistics.median(values) for runtime, values in times.items()}
            row = {"search": name, "batch": together, **{key: round(value, 1) for key, value in speeds.items()}}
            rows.append({**row, "ratio": round(speeds["onnxruntime"] / speeds["torch"], 2)})
            print(rows[-1], flush=True)
    result = {"sentences_per_second": rows, "rounds": options.rounds, "threads": threads, "hardware": describe()}
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
