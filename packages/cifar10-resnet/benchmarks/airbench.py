"""Time to airbench's final accuracy, theirs over ours, on this machine and this data.

    git clone https://github.com/KellerJordan/cifar10-airbench
    uv run --package cifar10-resnet python packages/cifar10-resnet/benchmarks/airbench.py cifar10-airbench

airbench94_muon.py (the fastest published recipe) is written for one CUDA device in half precision. It is run as it
is but for that: on the CPU in the precision that ours has there (bfloat16 where the processor computes in it, or else
float32), and a clock in place of CUDA events. Both sides are timed from random weights to the accuracy of the test set
with the same six views, decoding of the data left out; evaluations that either makes between epochs are not counted.
Where ours does not reach their accuracy, there is no ratio; `--epochs` sets how long it trains. Runs alternate; with
`--together` both sides run at once, each on half of the cores, so that whatever else the machine does slows both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from dlcommon.runtime import data
from dlcommon.runtime.hardware import computes_in_bf16, describe

REPLACEMENTS = {
    'torch.device("cuda")': 'torch.device("cpu")',
    ".half()": ".float()",
    "G.bfloat16()": "G.to(DTYPE)",
    "torch.cuda.Event(enable_timing=True)": "Clock()",
    "torch.cuda.synchronize()": "None",
    "sys.argv[0]": "__file__",
}


class Clock:
    """Stands in for a CUDA event."""

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def elapsed_time(self, end: "Clock") -> float:
        return 1000 * (end.seconds - self.seconds)


def run_airbench(source: Path, seed: int) -> dict[str, float]:
    """Their recipe in this process: accuracy and seconds of its own clock."""
    code = source.read_text(encoding="utf-8")
    for old, new in REPLACEMENTS.items():
        if old not in code:
            raise SystemExit(f"{source} has changed: it no longer contains {old!r}")
        code = code.replace(old, new)
    dtype = torch.bfloat16 if computes_in_bf16(torch.device("cpu")) else torch.float32
    # Their clock is a local of main(); what it holds at the end is what they print.
    seconds: list[float] = []
    space: dict[str, Any] = {"__name__": "airbench", "__file__": str(source), "Clock": Clock, "DTYPE": dtype}
    exec(compile(code, str(source), "exec"), space)
    printed = space["print_training_details"]

    def keep(variables: dict[str, object], is_final_entry: bool) -> None:
        seconds.append(float(str(variables["time_seconds"])))
        printed(variables, is_final_entry)

    space["print_training_details"] = keep
    torch.manual_seed(seed)
    network = space["CifarNet"]().to(memory_format=torch.channels_last)
    if dtype == torch.bfloat16:
        network.forward = torch.autocast("cpu", dtype=dtype)(network.forward)
    accuracy = float(space["main"](seed, network))
    return {"accuracy": round(accuracy, 4), "seconds": round(seconds[-1], 1)}


def start(command: list[str], folder: Path, cores: list[int]) -> subprocess.Popen[str]:
    """The command on these cores, its printed lines in a pipe."""
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    environment = os.environ | {"DL_RUNS_DIR": str(folder / "runs"), "OMP_NUM_THREADS": str(len(cores))}
    return subprocess.Popen(pinned, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True)


def last_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it printed last, as JSON, once it has ended."""
    printed = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{process.args!r} ended with {process.returncode}")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def result_of_ours(printed: dict[str, Any]) -> dict[str, float]:
    """Accuracy, and the seconds of training and of the final evaluation."""
    summary = json.loads((Path(printed["run"]) / "summary.json").read_text())
    seconds = printed["seconds"] + summary["evaluation_seconds"]
    return {"accuracy": printed["metrics"]["accuracy"], "seconds": round(seconds, 1)}


def prepare_data(folder: Path) -> None:
    """The same images as airbench stores them: uint8 [samples, height, width, channels]."""
    located = data.resolve("cifar10", ("cifar10",))
    images = located.load()
    (folder / "cifar10").mkdir()
    for name in ("train", "test"):
        content = {
            "images": torch.from_numpy(getattr(images, f"{name}_images")),
            "labels": torch.from_numpy(getattr(images, f"{name}_labels")),
            "classes": list(images.classes),
        }
        torch.save(content, folder / "cifar10" / f"{name}.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("airbench", type=Path, help="a checkout of KellerJordan/cifar10-airbench")
    parser.add_argument("--runs", type=int, default=1, help="of each side")
    parser.add_argument("--together", action="store_true", help="both sides at once, each on half of the cores")
    parser.add_argument("--only-airbench", type=int, metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="write the figures there as JSON")
    options, flags = parser.parse_known_args()  # what it does not know goes to our train
    source = (options.airbench / "airbench94_muon.py").resolve()
    if not source.is_file():
        parser.error(f"{source} does not exist")
    if options.only_airbench is not None:
        print(json.dumps(run_airbench(source, options.only_airbench)))
        return
    cores = sorted(os.sched_getaffinity(0))
    if options.together and len(cores) < 2:
        parser.error("--together needs two cores or more")
    half = len(cores) // 2
    their_cores, our_cores = (cores[:half], cores[half : 2 * half]) if options.together else (cores, cores)
    their_command = [sys.executable, str(Path(__file__).resolve()), str(options.airbench.resolve()), "--only-airbench"]
    our_command = ["cifar10-resnet", "train", "--data", "cifar10", "--preset", "fast", "--json"]
    our_command += ["--evaluate-every", "1000", *flags, "--seed"]
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_data(folder)
        for seed in range(options.runs):
            their_run = start([*their_command, str(seed)], folder, their_cores)
            if not options.together:
                their_run.wait()
            our_run = start([*our_command, str(seed)], folder, our_cores)
            ours.append(result_of_ours(last_line(our_run)))
            print("cifar10-resnet ", ours[-1], flush=True)
            theirs.append(last_line(their_run))
            print("airbench94_muon", theirs[-1], flush=True)
    ratio = statistics.median(run["seconds"] for run in theirs) / statistics.median(run["seconds"] for run in ours)
    ours_reached, theirs_reached = (statistics.mean(run["accuracy"] for run in runs) for runs in (ours, theirs))
    figures = {
        "airbench94_muon": theirs,
        "cifar10-resnet": ours,
        "flags": " ".join(flags),
        "theirs_over_ours": round(ratio, 2) if ours_reached >= theirs_reached else None,
        "cores_of_each": len(our_cores),
        "together": options.together,
        "hardware": describe(),
    }
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
