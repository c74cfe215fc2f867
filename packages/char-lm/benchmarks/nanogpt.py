"""Time to the loss that nanoGPT's CPU setting ends at, theirs over ours, on this machine and Tiny Shakespeare.

    git clone https://github.com/karpathy/nanoGPT
    uv run --package char-lm python packages/char-lm/benchmarks/nanogpt.py nanoGPT

Theirs is run as its README says for a computer without a GPU; its iterations are timed by its own log, those that
evaluate counted like the others. Ours is the preset `fast`, with its evaluations counted. Both losses are those of the
last tenth of the text, theirs estimated from 20 batches of windows of 64, ours over all of it in windows of 128. Runs
alternate.
"""

import argparse
import json
import os
import pickle
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SETTING = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size=64 "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0"
)


def prepare_data(folder: Path) -> None:
    """The files that nanoGPT's own preparation writes."""
    from dlcommon.runtime import data

    corpus = data.resolve("tinyshakespeare", ("tinyshakespeare",)).load()
    characters = sorted(set(corpus.train + corpus.test))
    number = {character: index for index, character in enumerate(characters)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("train", corpus.train), ("val", corpus.test)):
        np.array([number[character] for character in text], dtype=np.uint16).tofile(folder / f"{name}.bin")
    meta = {"vocab_size": len(characters), "stoi": number, "itos": dict(enumerate(characters))}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))


def run_nanogpt(source: Path, seed: int, folder: Path) -> dict[str, float]:
    """Their last validation loss, and the seconds of their iterations until then."""
    code = (source / "train.py").read_text(encoding="utf-8")
    seeded = code.replace("torch.manual_seed(1337", f"torch.manual_seed({1337 + seed}")
    if seeded == code and seed:
        raise SystemExit(f"{source / 'train.py'} has changed: it no longer contains its seed")
    program = source / "train_seeded.py"
    program.write_text(seeded, encoding="utf-8")
    command = [sys.executable, program.name, *SETTING.split(), f"--out_dir={folder}"]
    done = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, text=True, check=True)
    losses = [float(loss) for loss in re.findall(r"^step \d+: .*val loss ([\d.]+)", done.stdout, re.MULTILINE)]
    times = [float(time) for time in re.findall(r"^iter \d+: .*time ([\d.]+)ms", done.stdout, re.MULTILINE)]
    usual = statistics.median(times)
    # An iteration that evaluates takes many times as long; training is what is compared.
    return {"loss": losses[-1], "seconds": sum(min(time, 5 * usual) for time in times) / 1000}


def run_ours(seed: int, flags: list[str], folder: Path, target: float) -> dict[str, float | None]:
    """When our loss first was at most `target`, and where it ended."""
    command = ["char-lm", "train", "--data", "tinyshakespeare", "--preset", "fast", "--seed", str(seed), "--json"]
    done = subprocess.run(
        [*command, *flags], env=os.environ | {"DL_RUNS_DIR": str(folder)}, stdout=subprocess.PIPE, text=True, check=True
    )
    log = Path(json.loads(done.stdout.splitlines()[-1])["run"]) / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    reached = next((row["seconds"] for row in rows if row["test_loss"] <= target), None)
    return {"loss": rows[-1]["test_loss"], "seconds": reached, "seconds_in_all": rows[-1]["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", type=Path, help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--runs", type=int, default=1, help="of each side")
    parser.add_argument("--output", type=Path, help="write the figures there as JSON")
    options, flags = parser.parse_known_args()  # what it does not know goes to our train
    if not (options.nanogpt / "train.py").is_file():
        parser.error(f"{options.nanogpt} is no checkout of nanoGPT")
    source = options.nanogpt.resolve()
    prepare_data(source / "data" / "shakespeare_char")
    theirs: list[dict[str, float]] = []
    ours: list[dict[str, float | None]] = []
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.runs):
            theirs.append(run_nanogpt(source, seed, Path(name) / "theirs"))
            print("nanoGPT", theirs[-1], flush=True)
            ours.append(run_ours(seed, flags, Path(name) / "ours", theirs[-1]["loss"]))
            print("char-lm", ours[-1], flush=True)
    reached = [run["seconds"] for run in ours if run["seconds"] is not None]
    if len(reached) < len(ours):
        raise SystemExit("a run of ours never reached their loss")
    ratio = statistics.median(run["seconds"] for run in theirs) / statistics.median(reached)
    figures = {"nanoGPT": theirs, "char-lm": ours, "theirs_over_ours": round(ratio, 2)}
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
