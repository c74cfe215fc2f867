"""Side by side with ydata-profiling: time, size, and which of a table's properties each report states.

ydata-profiling needs older libraries than this project, so it runs in an environment of its own:

    uv venv /tmp/ydata --python 3.11
    VIRTUAL_ENV=/tmp/ydata uv pip install ydata-profiling "setuptools<81"
    uv run --package eda-titanic python benchmarks/profiling.py FILE.csv --target COLUMN --peer /tmp/ydata/bin/python

Both write their page from the same file in a process of its own, in turns; the ratio of the medians is what counts.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

PEER = """
import sys, warnings
warnings.filterwarnings("ignore")
import pandas as pd
from ydata_profiling import ProfileReport
ProfileReport(pd.read_csv(sys.argv[1]), title="peer", progress_bar=False).to_file(sys.argv[2], silent=True)
"""
ADDRESSES = ('src="http', 'href="http', "url(http", "@import")


@dataclass(frozen=True)
class Options:
    """Times our report and ydata-profiling's on one CSV file."""

    file: tyro.conf.Positional[Path]
    target: str
    """Column that ours explains."""
    peer: Path
    """Python of the environment that holds ydata-profiling."""
    repeats: int = 3
    """Runs of each, in turns."""


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name:
        pages = {"ours": Path(name, "ours.html"), "ydata-profiling": Path(name, "peer.html")}
        script = str(Path(sys.executable).parent / "eda-report")
        commands = {
            "ours": [script, str(options.file), "--target", options.target, "--output", str(pages["ours"])],
            "ydata-profiling": [str(options.peer), "-c", PEER, str(options.file), str(pages["ydata-profiling"])],
        }
        seconds: dict[str, list[float]] = {who: [] for who in commands}
        for _ in range(options.repeats):
            for who, command in commands.items():
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[who].append(time.perf_counter() - started)
        medians = {who: statistics.median(values) for who, values in seconds.items()}
        result = {
            "file": options.file.name,
            "seconds": {who: [round(v, 2) for v in values] for who, values in seconds.items()},
            "ratio_of_medians": round(medians["ydata-profiling"] / medians["ours"], 2),
            "megabytes": {who: round(page.stat().st_size / 1e6, 2) for who, page in pages.items()},
            "addresses_elsewhere": {
                who: sum(page.read_text(encoding="utf-8").count(address) for address in ADDRESSES)
                for who, page in pages.items()
            },
        }
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Options))
