"""Adapters beside full fine-tuning, at an equal number of steps or in equal time, and the base beside both.

    uv run --package llm-lora python packages/llm-lora/benchmarks/full_finetuning.py --epochs 2 --seeds 0 1 2
    uv run --package llm-lora python packages/llm-lora/benchmarks/full_finetuning.py --minutes 5 --seeds 0 1 2

Runs `llm-lora train` again and again, one after the other, each in a process of its own whose peak memory in training
is kept (resident memory, or on CUDA what torch allocates), and measures each model: perplexity of held-out answers, win
rate against the base by `llm_lora.judge`, constraints followed, preferences, bits per byte of WikiText-2 before and
after. All go into full_finetuning.json; figures that are there already are kept. In the end the answers of full
fine-tuning and of adapters are compared with each other, over all seeds.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from dlcommon.llm.process_memory import peak_mib, reset_peak
from dlcommon.runtime import data
from dlcommon.runtime.ablation import run_ablation
from dlcommon.runtime.cli import enter, named
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.runtime.files import read_json, write_json
from dlcommon.runtime.locate_model import open_run
from dlcommon.runtime.output import warn
from llm_lora import train as training
from llm_lora.assessment import Assessment, assess, compare_assessments
from llm_lora.bases import PRETRAINED, TINY, Base, load_base
from llm_lora.capstone import CAPSTONE
from llm_lora.judge import win_rate
from llm_lora.model import load_tuned

BASE_ONLY = "--base-only"
VARIANTS: dict[str, tuple[str, ...]] = {
    "base": (BASE_ONLY,),
    "LoRA": ("--learning-rate", "1e-3"),
    "LoRA of rank 32": ("--rank", "32", "--alpha", "64", "--learning-rate", "1e-3"),
    "full": ("--preset", "full"),
}
MINUTES = "minutes" if "--minutes" in sys.argv else "epochs"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
OUT = Path(__file__).with_suffix(".json")
BASE = os.environ.get("LLM_LORA_BENCHMARK_BASE", PRETRAINED)
"""The base; `tiny` shows that everything runs."""


@functools.cache
def untouched_text() -> str | None:
    """Returns WikiText-2's test articles, or None, with a warning, where they are not at hand."""
    try:
        text: str = data.resolve("wikitext-2", ("wikitext-2",)).load().test
    except DataUnavailableError as error:
        warn(f"forgetting is not measured: {error}")
        return None
    return text


@functools.cache
def assessed_base() -> Assessment:
    return assessed(load_base(None if BASE == TINY else data.require_asset(BASE)))


def assessed(base: Base) -> Assessment:
    base.network.to(DEVICE)
    test = data.resolve(None, CAPSTONE.data_sets).load().test
    return assess(base, test, untouched_text(), batch_size=64 if DEVICE.type == "cuda" else 16)


def train(flags: tuple[str, ...], seed: int, budget: float) -> dict[str, Any]:
    """Trains once, or takes the base as it is; returns the figures of the model on the test set."""
    before = assessed_base()
    if flags == (BASE_ONLY,):
        return {**before.figures(), "answers": before.answers, "references": before.references}
    words = ["train", *flags, "--base", BASE, "--seed", str(seed), "--json"]
    words += ["--max-minutes", str(budget), "--epochs", "10000"] if MINUTES == "minutes" else ["--epochs", str(budget)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DL_RUNS_DIR": folder}
        memory = Path(folder) / "memory.json"
        command = [sys.executable, __file__, "--measured", str(memory), *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        printed = json.loads(done.stdout)
        saved = open_run(CAPSTONE, Path(printed["run"]))
        after = assessed(load_tuned(saved))
        facts = saved.summary["training"]
        peak = read_json(memory)["peak_mib"]
    won, lost = compare_assessments(before, after)
    return {
        **after.figures(),
        "win_rate": won.rate,
        "win_rate_interval": won.interval,
        "wins_ties_losses": (won.wins, won.ties, won.losses),
        "forgotten_bits_per_byte": None if lost is None else lost.increase,
        "forgotten_interval": None if lost is None else lost.interval,
        "peak_mib": peak,
        "trained_parameters": facts["trained_parameters"],
        "steps": facts["steps"],
        "minutes": facts["minutes"],
        "answers": after.answers,
        "references": after.references,
    }


def measured(path: Path, words: list[str]) -> None:
    """Runs a command of the capstone, and writes the peak memory of its training."""
    plain = training.train

    def train_and_measure(run: Any) -> None:
        reset_peak(run.device)
        plain(run)
        write_json(path, {"peak_mib": round(peak_mib(run.device)), "device": run.device.type})

    training.train = train_and_measure
    enter(lambda: named(CAPSTONE.name, words))


def head_to_head() -> None:
    """Compares full fine-tuning with adapters of the same budget and seed, over all seeds, and keeps the result."""
    found = read_json(OUT)
    runs: dict[str, dict[str, Any]] = found["runs"]
    pairs: dict[str, list[tuple[list[str], list[str], list[str]]]] = {}
    for key, run in runs.items():
        name, _, rest = key.partition(", ")
        other = runs.get(f"full, {rest}")
        if name not in ("base", "full") and other is not None:
            budget = rest.rpartition(", seed")[0]
            pairs.setdefault(f"full over {name}, {budget}", []).append(
                (other["answers"], run["answers"], run["references"])
            )
    found["comparisons"] = {}
    for name, rows in pairs.items():
        full, adapted, references = ([one for row in rows for one in row[part]] for part in range(3))
        rate = win_rate(full, adapted, references)
        found["comparisons"][name] = {"seeds": len(rows), "win_rate": rate.rate, "interval": rate.interval}
        print(f"{name}: win rate {rate.rate:.3f} ({rate.interval[0]:.3f} to {rate.interval[1]:.3f})")
    write_json(OUT, found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measured"]:
        measured(Path(sys.argv[2]), sys.argv[3:])
    run_ablation(VARIANTS, train, shown="perplexity", budget=MINUTES, default=2.0, out=OUT)
    if "--out" not in sys.argv:
        head_to_head()
