"""`export`: ONNX with dynamic batch, compared with the original on the whole test set; int8 where it pays; latency."""

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.capstone import Capstone, ConvertedGraph, Evaluation, ExportGraph
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.output import Output

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.run_directory import SavedRun

LARGEST_PRETRAINED = 10_000_000
"""Bytes of a model that a package may carry."""
INT8, FLOAT16 = "model.int8.onnx", "model.float16.onnx"
INT8_LOSS = 0.005
"""Of the headline metric: a smaller graph that loses more is not kept."""


@dataclass(frozen=True)
class ExportOptions:
    run: Path | None = None
    """Run to export; by default the newest."""
    int8: bool = True
    """Also try an int8 graph."""
    latency: bool = True
    """Also measure the latency of each runtime."""
    pretrained: bool = False
    """Put the model into the package as a pretrained one."""
    name: str | None = None
    """What that pretrained model is called, beside others; by default as the package."""
    json: bool = False
    """Print one JSON object on stdout, all else on stderr."""


def main(capstone: Capstone[Any], argv: list[str]) -> int:
    options = parse(ExportOptions, argv, f"{capstone.name} export", f"{capstone.title}: ONNX for inference")
    if options.name is not None and not options.pretrained:
        raise UsageError("--name names the model that --pretrained puts into the package; type both, or neither")
    if options.name is not None and not re.fullmatch(r"\w[\w.-]*", options.name):
        raise UsageError(f"--name {options.name}: use letters, digits, '.', '-' and '_'")

    from dlcommon.runtime import data
    from dlcommon.runtime.run_directory import newest_run, open_run

    output = Output(options.json)
    saved = open_run(capstone, options.run) if options.run else newest_run(capstone)
    if saved is None:
        raise UserError(f"there is no run of {capstone.name} to export; make one with `{capstone.name} train`")
    located = capstone.own_data(saved.config) or data.find(saved.data_name)
    if located is None:
        raise UserError(
            f"{saved.data_name}, which the run was trained on and is compared on, is not on this machine; "
            f"type `data fetch {saved.data_name}`"
        )
    output.first_line(capstone.name, "export", f"data {located.describe()}", "cpu fp32", str(saved.directory))
    record = export(capstone, saved, located, options, output)
    output.say(f"next: uv run --package {capstone.name} demo")
    output.result(
        {
            "capstone": capstone.name,
            "data": located.name,
            "split": "test",
            "n": record["parity"]["n"],
            "metrics": {capstone.headline: record["parity"]["onnx"]},
            "seconds": record["seconds"],
            "run": str(saved.directory),
        }
    )
    return 0


def export(
    capstone: Capstone[Any],
    saved: "SavedRun[Any]",
    located: "LocatedDataSet",
    options: ExportOptions,
    output: Output,
) -> dict[str, Any]:
    """Writes model.onnx, perhaps model.int8.onnx, and export.json into the run, once all of it is known to be right.

    Raises:
        UserError: the graph cannot be exported, or does not agree with the original.
    """
    import time

    import torch

    from dlcommon.runtime.export.graph import write_converted, write_onnx
    from dlcommon.runtime.export.parity import compare
    from dlcommon.runtime.files import explained_disk_errors, write_bytes, write_json
    from dlcommon.runtime.hardware import describe
    from dlcommon.runtime.onnx_model import OnnxModel
    from dlcommon.runtime.predict import ModulePredictor
    from dlcommon.runtime.run_directory import EXPORTED

    threads = torch.get_num_threads()
    started = time.perf_counter()
    graph = capstone.export_graph(saved)
    original = (
        graph.original
        if isinstance(graph, ConvertedGraph)
        else ModulePredictor(graph.module, tuple(graph.example), graph.outputs, metadata=graph.metadata)
    )
    reference = capstone.evaluate(original, located, None)
    folder = saved.directory
    with (
        explained_disk_errors(folder),
        tempfile.TemporaryDirectory(prefix=".export-", dir=folder, ignore_cleanup_errors=True) as name,
    ):
        fp32 = Path(name) / EXPORTED
        metadata = model_metadata(capstone, saved, reference, graph)
        if isinstance(graph, ConvertedGraph):
            write_converted(graph, metadata, fp32)
        else:
            write_onnx(graph, metadata, fp32)
        models = {"onnxruntime fp32": OnnxModel(fp32, threads)}
        parity = compare(capstone, reference, models["onnxruntime fp32"], located)
        output.say(
            f"{capstone.headline} {parity.onnx:.4f} with ONNX, {parity.original:.4f} without; "
            f"outputs differ by at most {parity.max_abs_difference:.1e}"
        )
        record: dict[str, Any] = {
            "run": folder.name,
            "parity": asdict(parity),
            "bytes": fp32.stat().st_size,
            "int8": None,
            "latency": None,
            "hardware": describe(),
        }
        smaller = {"int8": Path(name) / INT8, "float16": Path(name) / FLOAT16}
        if options.int8 and graph.quantize:
            record["int8"] = _smaller("int8", capstone, located, fp32, smaller["int8"], parity.onnx, output)
            if "bytes" in record["int8"]:
                models["onnxruntime int8"] = OnnxModel(smaller["int8"], threads)
        if options.pretrained and fp32.stat().st_size > LARGEST_PRETRAINED:
            record["float16"] = _smaller("float16", capstone, located, fp32, smaller["float16"], parity.onnx, output)
        if options.latency:
            record["latency"] = _latency(graph, models, threads, output)
        record["seconds"] = round(time.perf_counter() - started, 2)
        for kind, path in smaller.items():
            (folder / path.name).unlink(missing_ok=True)
            if (record.get(kind) or {}).get("kept"):
                write_bytes(folder / path.name, path.read_bytes())
        write_bytes(folder / EXPORTED, fp32.read_bytes())
        write_json(folder / "export.json", record)
    output.say(f"model: {folder / EXPORTED}")
    if options.pretrained:
        output.say(f"pretrained: {_install(capstone, folder, options.name or capstone.name)}")
    return record


def model_metadata(
    capstone: Capstone[Any], saved: "SavedRun[Any]", evaluation: Evaluation, graph: ExportGraph | ConvertedGraph
) -> dict[str, str]:
    """What the file says about itself."""
    summary = saved.summary
    return {
        "capstone": capstone.name,
        "title": str(capstone.title),
        "data": saved.data_name,
        "data_builtin": str(summary["data"]["builtin"]).lower(),
        "data_description": summary["data"]["description"],
        "metrics": _rounded(evaluation.metrics),
        "licence": capstone.licence,
        "run": saved.directory.name,
        "preset": summary["preset"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": (summary["git"] or {}).get("commit", "unknown"),
        **graph.metadata,
    }


def _rounded(metrics: dict[str, float]) -> str:
    return json.dumps({name: round(value, 6) for name, value in metrics.items()})


def _smaller(
    kind: str,
    capstone: Capstone[Any],
    located: "LocatedDataSet",
    source: Path,
    target: Path,
    fp32: float,
    output: Output,
) -> dict[str, Any]:
    """Tries an int8 or a float16 graph: its metric, its size and whether it is kept; else why there is none.

    Whatever goes wrong here costs the smaller graph, never the float32 one.
    """
    from dlcommon.runtime.evaluation.batched import in_batches
    from dlcommon.runtime.export.float16 import store_as_float16
    from dlcommon.runtime.export.graph import add_metadata
    from dlcommon.runtime.export.quantize import quantize
    from dlcommon.runtime.export.suppress_output import first_line
    from dlcommon.runtime.onnx_model import OnnxModel

    try:
        if kind == "int8":
            quantize(source, target, capstone.calibration(located))
        else:
            store_as_float16(source, target)
        metrics = capstone.evaluate(in_batches(OnnxModel(target)), located, None).metrics
        add_metadata(target, {"metrics": _rounded(metrics)})
    except OSError:
        raise  # a full disk is not the graph's fault
    except Exception as error:  # the tools raise whatever they meet
        output.say(f"{kind}: cannot be had ({first_line(error)})")
        return {"kept": False, "reason": first_line(error)}
    value, size = metrics[capstone.headline], target.stat().st_size
    loss = value - fp32 if capstone.lower_is_better else fp32 - value
    kept = loss <= INT8_LOSS
    output.say(
        f"{kind}: {capstone.headline} {value:.4f}, {size / 1e6:.1f} MB instead of {source.stat().st_size / 1e6:.1f}; "
        + ("kept" if kept else f"not kept, since it loses more than {INT8_LOSS}")
    )
    return {capstone.headline: value, "bytes": size, "kept": kept, "largest_loss": INT8_LOSS}


def _latency(graph: ExportGraph | ConvertedGraph, models: Any, threads: int, output: Output) -> dict[str, Any]:
    from dlcommon.runtime.export.latency import measure

    rows = measure(graph, models)
    output.say(f"latency in ms, {threads} threads")
    for row in rows:
        facts = (
            f"skipped: {row['skipped']}" if "skipped" in row else f"p50 {row['p50_ms']:9.2f}  p95 {row['p95_ms']:9.2f}"
        )
        output.say(f"  batch {row['batch']:3}  {row['runtime']:18} {facts}")
    return {"threads": threads, "rows": rows}


def _install(capstone: Capstone[Any], run: Path, name: str) -> Path:
    """Copies the model into the package, and beside it its record.

    The first of float32, weights in float16, and int8 that is small enough.

    Raises:
        UserError: none is.
    """
    from dlcommon.runtime.files import write_bytes
    from dlcommon.runtime.run_directory import EXPORTED

    candidates = [run / kind for kind in (EXPORTED, FLOAT16, INT8) if (run / kind).is_file()]
    small = [path for path in candidates if path.stat().st_size <= LARGEST_PRETRAINED]
    if not small:
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in candidates)
        raise UserError(f"no exported model is at most {LARGEST_PRETRAINED / 1e6:.0f} MB: {sizes}")
    target = capstone.folder / "pretrained"
    model = target / f"{name}.onnx"
    record = "export.json" if name == capstone.name else f"{name}.json"
    write_bytes(model, small[0].read_bytes())
    write_bytes(target / record, (run / "export.json").read_bytes())
    return model
