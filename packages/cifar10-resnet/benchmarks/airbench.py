"""Time to airbench's final accuracy, theirs over ours, on this machine and this data.

    git clone https://github.com/KellerJordan/cifar10-airbench
    uv run --package cifar10-resnet python packages/cifar10-resnet/benchmarks/airbench.py cifar10-airbench

airbench94_muon.py (the fastest published recipe) is written for one CUDA device in half precision. It is run as it
is but for that: bfloat16 autocast on the CPU, as ours, and a clock in place of CUDA events. Both sides are timed from
random weights to the accuracy of the test set with the same six views, decoding of the data left out; evaluations
that airbench makes between epochs are not counted. Runs alternate.
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

import torch

REPLACEMENTS = {
    'torch.device("cuda")': 'torch.device("cpu")',
    ".half()": ".float()",
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


def run_airbench(source: Path, seed: int, folder: Path) -> dict[str, float]:
    """Their recipe in this process: accuracy and seconds of its own clock."""
    os.chdir(folder)
    code = source.read_text(encoding="utf-8")
    for old, new in REPLACEMENTS.items():
        if old not in code:
            raise SystemExit(f"{source} has changed: it no longer contains {old!r}")
        code = code.replace(old, new)
    # Their clock is a local of main(); what it holds at the end is what they print.
    seconds: list[float] = []
    space = {"__name__": "airbench", "__file__": str(source), "Clock": Clock}
    exec(compile(code, str(source), "exec"), space)
    printed = space["print_training_details"]

    def keep(variables: dict[str, object], is_final_entry: bool) -> None:
        seconds.append(float(str(variables["time_seconds"])))
        printed(variables, is_final_entry)

    space["print_training_details"] = keep
    torch.manual_seed(seed)
    network = space["CifarNet"]().to(memory_format=torch.channels_last)
    network.forward = torch.autocast("cpu", dtype=torch.bfloat16)(network.forward)
    accuracy = float(space["main"](seed, network))
    return {"accuracy": accuracy, "seconds": seconds[-1]}


def run_ours(seed: int, flags: list[str], folder: Path) -> dict[str, float]:
    """Our recipe through its command: accuracy, and the seconds of training and of the final evaluation."""
    command = [
        "cifar10-resnet",
        "train",
        "--data",
        "cifar10",
        "--preset",
        "fast",
        "--seed",
        str(seed),
        "--json",
        *flags,
    ]
    done = subprocess.run(
        command, env=os.environ | {"DL_RUNS_DIR": str(folder)}, stdout=subprocess.PIPE, text=True, check=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    summary = json.loads((Path(result["run"]) / "summary.json").read_text())
    return {
        "accuracy": result["metrics"]["accuracy"],
        "seconds": result["seconds"] + summary["evaluation_seconds"],
    }


def prepare_data(folder: Path) -> None:
    """The same images as airbench stores them: uint8 [samples, height, width, channels]."""
    from dlcommon.runtime import data

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
    parser.add_argument("--only-airbench", type=int, metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="write the figures there as JSON")
    options, flags = parser.parse_known_args()  # what it does not know goes to our train
    source = (options.airbench / "airbench94_muon.py").resolve()
    if not source.is_file():
        parser.error(f"{source} does not exist")
    if options.only_airbench is not None:
        print(json.dumps(run_airbench(source, options.only_airbench, Path.cwd())))
        return
    theirs, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_data(folder)
        for seed in range(options.runs):
            command = [sys.executable, str(Path(__file__).resolve()), str(options.airbench.resolve())]
            done = subprocess.run(
                [*command, "--only-airbench", str(seed)],
                cwd=folder,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            theirs.append(json.loads(done.stdout.splitlines()[-1]))
            print("airbench94_muon", theirs[-1], flush=True)
            ours.append(run_ours(seed, flags, folder / "runs"))
            print("cifar10-resnet ", ours[-1], flush=True)
    ratio = statistics.median(run["seconds"] for run in theirs) / statistics.median(run["seconds"] for run in ours)
    figures = {"airbench94_muon": theirs, "cifar10-resnet": ours, "theirs_over_ours": round(ratio, 2)}
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
