"""Trains a recipe and its variants one after the other, for the ablations in the capstones' `benchmarks/`."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlcommon.runtime.files import read_json, write_json
from dlcommon.runtime.hardware import describe

Train = Callable[[tuple[str, ...], int, float], dict[str, Any]]
"""Trains once, with these flags, this seed and this budget; returns the figures."""


def run_ablation(
    variants: Mapping[str, tuple[str, ...]], train: Train, *, shown: str, budget: str, default: float, out: Path
) -> None:
    """Trains every variant with every seed, and writes the figures of each as soon as they are there.

    Figures that are in the file already are kept, so that an interrupted series goes on where it was. The command line
    may name other seeds, another budget, some of the variants and another file.

    Args:
        variants: name to the flags in which it differs from the recipe.
        shown: name of the figure that is printed.
        budget: unit of the budget, `minutes` or `epochs`, and so the flag that sets it.
        default: the budget.
        out: the file.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument(f"--{budget}", dest="budget", type=float, default=default)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=variants, default=list(variants))
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    found: dict[str, Any] = read_json(options.out) if options.out.is_file() else {"runs": {}}
    for seed in options.seeds:
        for name in options.only:
            key = f"{name}, {options.budget:g} {budget}, seed {seed}"
            if key not in found["runs"]:
                found["runs"][key] = train(variants[name], seed, options.budget)
                found["hardware"] = describe()
                write_json(options.out, found)
            print(f"{found['runs'][key][shown]:.4f}  {key}", flush=True)
