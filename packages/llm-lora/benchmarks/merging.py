"""What merging a run's adapter costs, at each precision of the base; see `llm_lora.merging`.

    uv run --package llm-lora python packages/llm-lora/benchmarks/merging.py RUN

Predicts the beginning of WikiText-2's test articles with the adapter merged and unmerged, and writes merging.json.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from dlcommon.runtime import data
from dlcommon.runtime.files import write_json
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.locate_model import open_run
from llm_lora.capstone import CAPSTONE
from llm_lora.merging import measure_merging, worst
from llm_lora.model import load_tuned

TOKENS = 256

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    saved = open_run(CAPSTONE, parser.parse_args().run)
    tuned = load_tuned(saved)
    text = data.resolve("wikitext-2", ("wikitext-2",)).load().test
    tokens = torch.tensor([tuned.tokenizer.encode(text)[:TOKENS]])
    errors = measure_merging(tuned.network, tokens)
    if (bad := worst(errors)) is not None:
        raise SystemExit(f"{bad.precision}: merging costs {bad.divergence:.1e} nats, more than its tolerance")
    found = [asdict(error) for error in errors]
    for error in found:
        print(f"{error['precision']:16}  KL {error['divergence']:.1e}, of the adapter's {error['adapter_effect']:.3f}")
    result = {"run": saved.directory.name, "tokens": TOKENS, "errors": found, "hardware": describe()}
    write_json(Path(__file__).with_suffix(".json"), result)
