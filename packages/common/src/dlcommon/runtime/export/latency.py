"""Measures the latency of one call, by runtime and batch size."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.export.graph import ConvertedGraph, ExportGraph
from dlcommon.runtime.export.suppress_output import first_line, suppress_output

BATCHES = (1, 64)
SECONDS, LONGEST = 3.0, 10.0
"""Seconds of measuring for each batch size and runtime; `LONGEST` where `ENOUGH` calls take that long."""
ENOUGH = 20


def torch_calls(graph: ExportGraph) -> dict[str, Callable[[Mapping[str, np.ndarray]], Any]]:
    """Returns the module as it is called eagerly and compiled."""
    compiled = torch.compile(graph.module, dynamic=False)

    def call(module: Callable[..., Any]) -> Callable[[Mapping[str, np.ndarray]], Any]:
        def run(arrays: Mapping[str, np.ndarray]) -> Any:
            with torch.inference_mode():
                return module(*(torch.from_numpy(array) for array in arrays.values()))

        return run

    return {"torch eager": call(graph.module), "torch.compile": call(compiled)}


def _originals(graph: ExportGraph | ConvertedGraph) -> Mapping[str, Callable[[Mapping[str, np.ndarray]], Any]]:
    return {graph.original_name: graph.original} if isinstance(graph, ConvertedGraph) else torch_calls(graph)


def measure(graph: ExportGraph | ConvertedGraph, models: dict[str, Predict]) -> list[dict[str, Any]]:
    """Measures p50 and p95 in milliseconds, the runtimes taking turns so that noise hits all alike.

    A runtime that fails, such as torch.compile without a C++ compiler, is listed with the reason.
    """
    rows: list[dict[str, Any]] = []
    random = np.random.default_rng(0)
    calls: dict[str, Callable[[Mapping[str, np.ndarray]], Any]] = {**_originals(graph), **models}
    for batch in BATCHES:
        arrays = {name: _filled(random, batch, array) for name, array in graph.example.items()}
        times: dict[str, list[float]] = {}
        for name, call in calls.items():
            try:
                with suppress_output():
                    for _ in range(3):  # the first compiles, the others fill caches
                        call(arrays)
                times[name] = []
            except Exception as error:
                rows.append({"runtime": name, "batch": batch, "skipped": first_line(error)})
        begun, rounds = time.perf_counter(), 0
        while times and time.perf_counter() - begun < len(times) * (SECONDS if rounds >= ENOUGH else LONGEST):
            rounds += 1
            for name in times:
                started = time.perf_counter()
                calls[name](arrays)
                times[name].append(1000 * (time.perf_counter() - started))
        for name, values in times.items():
            p50, p95 = np.percentile(values, [50, 95])
            row = {"runtime": name, "batch": batch, "p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}
            rows.append({**row, "repeats": len(values)})
    return rows


def _filled(random: np.random.Generator, batch: int, example: np.ndarray) -> np.ndarray:
    """Fills a batch with noise, or with values drawn from the example if these are whole or one number a sample."""
    shape = (batch, *example.shape[1:])
    if np.issubdtype(example.dtype, np.floating) and example.ndim > 1:
        return random.standard_normal(shape).astype(example.dtype)
    return random.choice(example.ravel(), shape)
