"""Rank, scale, targets, learning rate and kind of adapter: trains adapters of rank 8, and variants that differ in one thing.

    uv run --package llm-lora python packages/llm-lora/benchmarks/sweep.py --epochs 2 --seeds 0 1 2

Runs `llm-lora train` again and again, one after the other, and writes into sweep.json the loss on the validation
conversations, in nats a token, the number of trained parameters and the minutes of each. Nothing is chosen by the test
set. Figures that are there already are kept, so that an interrupted series goes on where it was.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dlcommon.runtime.ablation import run_ablation
from dlcommon.runtime.files import read_json

FIGURE = "validation_loss"
BASE = os.environ.get("LLM_LORA_BENCHMARK_BASE", "auto")
"""The base; `tiny` shows that everything runs."""
COMMON = ("--learning-rate", "1e-3")
"""What all have in common, unless they differ in it: a rate that suits every rank."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "rank 8, learning rate 1e-3": (),
    "rank 1": ("--rank", "1", "--alpha", "2"),
    "rank 2": ("--rank", "2", "--alpha", "4"),
    "rank 32": ("--rank", "32", "--alpha", "64"),
    "rank 128": ("--rank", "128", "--alpha", "256"),
    "alpha 4": ("--alpha", "4"),
    "alpha 64": ("--alpha", "64"),
    "queries and values": ("--targets", "q_proj", "v_proj"),
    "attention": ("--targets", "q_proj", "k_proj", "v_proj", "o_proj"),
    "feed-forward": ("--targets", "gate_proj", "up_proj", "down_proj"),
    "learning rate 1e-4": ("--learning-rate", "1e-4"),
    "learning rate 3e-4": ("--learning-rate", "3e-4"),
    "learning rate 3e-3": ("--learning-rate", "3e-3"),
    "learning rate 1e-2": ("--learning-rate", "1e-2"),
    "rsLoRA, rank 32": ("--method", "rslora", "--rank", "32"),
    "DoRA": ("--method", "dora"),
    "PiSSA": ("--method", "pissa"),
    "QLoRA": ("--quantize", "nf4"),
    "dropout 0.1": ("--lora-dropout", "0.1"),
    "half a batch": ("--batch-size", "512", "--row-length", "512"),
    "twice a batch": ("--batch-size", "2048", "--row-length", "2048"),
}


def train(flags: tuple[str, ...], seed: int, epochs: float) -> dict[str, Any]:
    """Trains once; returns the last figure on the validation conversations, and what it cost."""
    command = [sys.executable, "-m", "dlcommon.runtime", "llm-lora", "train", *COMMON, *flags, "--base", BASE]
    command += ["--seed", str(seed), "--epochs", str(epochs), "--evaluate-every", str(epochs), "--json"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DL_RUNS_DIR": folder}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        run = Path(json.loads(done.stdout)["run"])
        log = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        facts = read_json(run / "summary.json")["training"]
    found = [row[FIGURE] for row in map(json.loads, log) if FIGURE in row]
    return {
        FIGURE: found[-1],
        "trained_parameters": facts["trained_parameters"],
        "steps": facts["steps"],
        "minutes": facts["minutes"],
    }


if __name__ == "__main__":
    out = Path(__file__).with_suffix(".json")
    run_ablation(VARIANTS, train, shown=FIGURE, budget="epochs", default=2.0, out=out)
