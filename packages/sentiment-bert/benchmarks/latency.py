"""Latency of the served model over transformers' pipeline with a network of the same size, on this machine.

    uv run --package sentiment-bert python packages/sentiment-bert/benchmarks/latency.py

Both go from texts to answers, tokenizing included: ours is what the server does for a request (cutting into sentences,
language check, ONNX Runtime in float32, and in int8 where the run has such a graph), the peer is
`pipeline("text-classification")` over the same MiniLM with a classifier, padded to the longest text of a batch. Rounds
alternate; the medians of each round's seconds are compared. Texts are the first test sentences of SST-2.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from dlcommon.runtime import data
from dlcommon.runtime.data import require_asset
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.locate_model import packaged_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.batch import run_batch, stacking_key
from sentiment_bert.capstone import CAPSTONE
from sentiment_bert.service import SentimentService, Text
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

BATCHES = (1, 32)
Call = Callable[[Sequence[str]], Any]


def ours(path: Path, threads: int) -> Call:
    model = OnnxModel(path, threads)
    service = SentimentService(model)

    def call(texts: Sequence[str]) -> Any:
        items = [Text(text=text) for text in texts]
        prepared = [service.prepare(item) for item in items]
        groups: dict[object, list[int]] = {}
        for number, arrays in enumerate(prepared):
            groups.setdefault(stacking_key(arrays), []).append(number)
        outputs: dict[int, Any] = {}
        for numbers in groups.values():
            found = run_batch(lambda batch: service.run(model, dict(batch)), [prepared[number] for number in numbers])
            outputs.update(zip(numbers, found, strict=True))
        return [service.answer_for(item, outputs[number]) for number, item in enumerate(items)]

    return call


def transformers_pipeline() -> Call:
    folder = require_asset("all-minilm-l6-v2").path
    network = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    classify = pipeline(
        "text-classification", model=network, tokenizer=AutoTokenizer.from_pretrained(folder), device=-1
    )
    return lambda texts: classify(list(texts), batch_size=len(texts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="exported model; by default the one that the package carries")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    path = options.model or packaged_model(CAPSTONE)
    assert path is not None
    texts = data.resolve("sst2", ("sst2",)).load().test.texts
    programs = {"onnx": ours(path, options.threads), "transformers": transformers_pipeline()}
    if (int8 := path.with_name("model.int8.onnx")).is_file():
        programs["onnx int8"] = ours(int8, options.threads)
    rows = []
    for batch in BATCHES:
        times: dict[str, list[float]] = {name: [] for name in programs}
        for number in range(options.rounds + 1):
            chosen = texts[number * batch : (number + 1) * batch]
            for name, call in programs.items():
                begun = time.perf_counter()
                call(chosen)
                if number:  # the first warms up
                    times[name].append(1000 * (time.perf_counter() - begun))
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows.append(
            {
                "batch": batch,
                "milliseconds": {name: round(value, 2) for name, value in medians.items()},
                "transformers_over_onnx": round(medians["transformers"] / medians["onnx"], 2),
            }
        )
        print(json.dumps(rows[-1]))
    result = {
        "rows": rows,
        "rounds": options.rounds,
        "threads": options.threads,
        "model": OnnxModel(path).metadata.get("network"),
        "hardware": describe(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
