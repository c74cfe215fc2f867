"""Requests per second and latency of `serve` beside LitServe and plain FastAPI, on the same ONNX file and items.

    uv run --with litserve python packages/common/benchmarks/serving.py --package NAME

All three read, prepare and answer an item with the capstone's own service, and run the model in ONNX Runtime with the
same number of threads. LitServe batches as `serve` does; the FastAPI program is what its documentation teaches: a
function that answers one item. `wrk` (apt-get install wrk) sends the service's example over connections that are kept
open. Rounds alternate between the servers; medians are reported, and written to `--out FILE`.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dlcommon.runtime.dispatch import load
from dlcommon.runtime.files import write_json
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.locate_model import find_model
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.serving.service import BatchedService

SERVERS = ("serve", "litserve", "fastapi")
MAX_BATCH, MAX_WAIT = 32, 0.002
START_SECONDS = 120


def service_of(package: str, model: Path, threads: int) -> BatchedService[Any, Any]:
    """Loads a model with its service."""
    service = load(package).service(OnnxModel(model, threads))
    if not isinstance(service, BatchedService):
        raise SystemExit(f"{package} generates piece by piece, which the peers here do not")
    return service


def answer(service: BatchedService[Any, Any], items: list[Any], prepared: list[Any]) -> list[dict[str, Any]]:
    """Runs one batch, and returns the answers as JSON."""
    from dlcommon.runtime.serving.batch import run_batch

    outputs = run_batch(lambda arrays: service.run(service.model, dict(arrays)), prepared)
    answers = [service.answer_for(item, output) for item, output in zip(items, outputs, strict=True)]
    return [one.model_dump(mode="json") for one in answers]


def serve_litserve(package: str, model: Path, threads: int, port: int) -> None:
    """Serves with LitServe until the process is ended."""
    import litserve
    from litserve_peer import API

    server = litserve.LitServer(API(package, model, threads), accelerator="cpu")
    server.run("127.0.0.1", port, log_level="error", generate_client_file=False)


def serve_fastapi(package: str, model: Path, threads: int, port: int) -> None:
    """Serves with FastAPI until the process is ended."""
    import uvicorn
    from fastapi import FastAPI

    service = service_of(package, model, threads)
    app = FastAPI()

    @app.post("/predict")
    def predict(request: dict[str, Any]) -> dict[str, Any]:
        item = service.item.model_validate(request)
        return answer(service, [item], [service.prepare(item)])[0]

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


@contextmanager
def started(name: str, package: str, model: Path, threads: int) -> Iterator[tuple[str, float]]:
    """Starts a server in a process of its own; yields the address that predicts, and the seconds until it did."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, __file__, "--package", package, "--model", str(model), "--threads", str(threads)]
    words += ["--only", name, "--port", str(port)]
    if name == "serve":
        options = ["--model", str(model), "--threads", str(threads), "--no-demo", "--port", str(port)]
        words = [sys.executable, "-m", "dlcommon.runtime", package, "serve", *options]
    url = f"http://127.0.0.1:{port}" + ("/v1/predict" if name == "serve" else "/predict")
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        example = dict(load(package).service(OnnxModel(model, threads)).example)
        content = json.dumps({"items": [example]} if name == "serve" else example).encode()
        request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60):
                    break
            except OSError as error:
                if process.poll() is not None or time.perf_counter() - begun > START_SECONDS:
                    raise SystemExit(f"{name} does not answer: {error}") from error
                time.sleep(0.05)
        yield url, time.perf_counter() - begun
    finally:
        os.killpg(process.pid, 15)  # LitServe's workers too
        process.wait()


def measure(url: str, body: Path, connections: int, seconds: int) -> dict[str, float]:
    """Lets wrk send requests; returns requests per second, and the latencies' median and 99th percentile in ms."""
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency", "-s", str(body), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if failed := re.search(r"Non-2xx.*|Socket errors.*", said):
        raise SystemExit(f"{url}: {failed[0].strip()}")
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    latencies = {
        share: float(number) * units[unit] for share, number, unit in re.findall(r"(\d+)% +([\d.]+)(us|ms|s)\b", said)
    }
    rate = re.search(r"Requests/sec: +([\d.]+)", said)
    assert rate is not None, said
    return {"requests_per_second": float(rate[1]), "p50_ms": latencies["50"], "p99_ms": latencies["99"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", required=True)
    parser.add_argument("--model", type=Path, help="ONNX file; by default the one that `serve` takes")
    parser.add_argument("--threads", type=int, default=2, help="of the model")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of one measurement")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--only", choices=SERVERS[1:], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run = {"litserve": serve_litserve, "fastapi": serve_fastapi}[options.only]
        run(options.package, options.model, options.threads, options.port)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("wrk sends the requests: apt-get install wrk")
    model = find_model(load(options.package), options.model)
    item = dict(service_of(options.package, model, options.threads).example)
    measured: dict[str, dict[int, list[dict[str, float]]]] = {name: {} for name in SERVERS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        urls, ready = {}, {}
        for name in SERVERS:
            content = json.dumps({"items": [item]} if name == "serve" else item)
            header = 'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
            (folder / f"{name}.lua").write_text(f"{header}wrk.body = [==[{content}]==]\n", encoding="utf-8")
            urls[name], ready[name] = stack.enter_context(started(name, options.package, model, options.threads))
        for number in range(options.rounds + 1):
            for connections in options.connections:
                for name in SERVERS:
                    figures = measure(urls[name], folder / f"{name}.lua", connections, options.seconds if number else 1)
                    if number:  # the first round warms up
                        measured[name].setdefault(connections, []).append(figures)
    results = {
        name: {
            str(connections): {figure: statistics.median(one[figure] for one in runs) for figure in runs[0]}
            for connections, runs in by_connections.items()
        }
        for name, by_connections in measured.items()
    }
    for connections in options.connections:
        for name in SERVERS:
            rate, p50, p99 = results[name][str(connections)].values()
            print(f"{connections:3} connections  {name:9} {rate:8.1f} requests/s  p50 {p50:7.1f} ms  p99 {p99:7.1f} ms")
    seconds = {name: round(value, 2) for name, value in ready.items()}
    print("first answer after s: " + ", ".join(f"{name} {value}" for name, value in seconds.items()))
    settings = {name: getattr(options, name) for name in ("package", "threads", "rounds", "seconds")}
    record = {"settings": settings, "model": model.name, "servers": results, "first_answer_s": seconds}
    if options.out is not None:
        write_json(options.out, {**record, "hardware": describe()})


if __name__ == "__main__":
    main()
