"""Exports a finished run: ONNX, parity with the original, smaller graphs where they pay, latency, `export.json`."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from dlcommon.runtime.arrays import Predict
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.data import LocatedAsset, LocatedDataSet
from dlcommon.runtime.evaluation.batched import in_batches
from dlcommon.runtime.evaluation.result import Evaluation
from dlcommon.runtime.export import pretrained
from dlcommon.runtime.export.adapter import leave_out
from dlcommon.runtime.export.float16 import store_as_float16
from dlcommon.runtime.export.graph import ConvertedGraph, ExportGraph
from dlcommon.runtime.export.latency import measure
from dlcommon.runtime.export.onnx_file import add_metadata, write_converted, write_onnx
from dlcommon.runtime.export.parity import compare
from dlcommon.runtime.export.quantize import quantize, quantize_dynamically
from dlcommon.runtime.export.suppress_output import first_line
from dlcommon.runtime.files import explained_disk_errors, write_bytes, write_json
from dlcommon.runtime.hardware import describe
from dlcommon.runtime.onnx_model import OnnxModel
from dlcommon.runtime.output import Output
from dlcommon.runtime.predict import original_predictor
from dlcommon.runtime.run_directory import EXPORTED
from dlcommon.runtime.saved_run import SavedRun


@dataclass(frozen=True)
class Exporter:
    """Turns one finished run into checked ONNX files."""

    capstone: Capstone[Any]
    saved: SavedRun[Any]
    data: LocatedDataSet
    """The data set that the run was trained on: its test set is what both are compared on."""
    output: Output

    def export(self, int8: bool, latency: bool, for_package: bool) -> dict[str, Any]:
        """Writes model.onnx, perhaps model.int8.onnx, and export.json into the run, once all checks have passed.

        Args:
            int8: also try an int8 graph, where the capstone's graph asks for it.
            latency: also measure the latency of each runtime.
            for_package: also store the weights as float16 where the model is too large for the package.

        Raises:
            UserError: the graph cannot be exported, or does not agree with the original.
        """
        threads, started = torch.get_num_threads(), time.perf_counter()
        graph = self.capstone.export_graph(self.saved)
        reference = self.capstone.evaluate(original_predictor(graph), self.data, None)
        folder = self.saved.directory
        with (
            explained_disk_errors(folder),
            tempfile.TemporaryDirectory(prefix=".export-", dir=folder, ignore_cleanup_errors=True) as name,
        ):
            whole, fp32 = Path(name) / "whole.onnx", Path(name) / EXPORTED
            self._write(graph, reference, whole)
            required = self._required(graph)
            shutil.copyfile(whole, fp32)
            leave_out(fp32, required)
            models: dict[str, Predict] = {"onnxruntime fp32": OnnxModel(fp32, threads)}
            parity = compare(self.capstone, reference, models["onnxruntime fp32"], self.data)
            self.output.say(
                f"{self.capstone.headline.name} {parity.onnx:.4f} with ONNX, {parity.original:.4f} without; "
                f"outputs differ by at most {parity.max_abs_difference:.1e}"
            )
            record: dict[str, Any] = {
                "run": folder.name,
                "parity": asdict(parity),
                "bytes": fp32.stat().st_size,
                "requires": [located.record() for located in required],
                "int8": None,
                "latency": None,
                "hardware": describe(),
            }
            smaller = {"int8": Path(name) / pretrained.INT8, "float16": Path(name) / pretrained.FLOAT16}
            if int8 and graph.quantize:
                record["int8"] = self._smaller("int8", graph, required, whole, smaller["int8"], parity.onnx)
                if "bytes" in record["int8"]:
                    models["onnxruntime int8"] = OnnxModel(smaller["int8"], threads)
            if for_package and fp32.stat().st_size > pretrained.LARGEST_PRETRAINED:
                record["float16"] = self._smaller("float16", graph, required, fp32, smaller["float16"], parity.onnx)
            if latency:
                record["latency"] = self._latency(graph, models, threads)
            record["seconds"] = round(time.perf_counter() - started, 2)
            for kind, path in smaller.items():
                (folder / path.name).unlink(missing_ok=True)
                if (record.get(kind) or {}).get("kept"):
                    write_bytes(folder / path.name, path.read_bytes())
            write_bytes(folder / EXPORTED, fp32.read_bytes())
            write_json(folder / "export.json", record)
        self.output.say(f"model: {folder / EXPORTED}")
        return record

    def _write(self, graph: ExportGraph | ConvertedGraph, reference: Evaluation, path: Path) -> None:
        metadata = model_metadata(self.capstone, self.saved, reference, graph)
        if isinstance(graph, ConvertedGraph):
            write_converted(graph, metadata, path)
        else:
            write_onnx(graph, metadata, path)

    def _required(self, graph: ExportGraph | ConvertedGraph) -> list[LocatedAsset]:
        """Returns the assets that the graph leaves out: the very ones that the run began with."""
        return [self.saved.asset(name) for name in graph.requires] if isinstance(graph, ExportGraph) else []

    def _smaller(
        self,
        kind: str,
        graph: ExportGraph | ConvertedGraph,
        required: Sequence[LocatedAsset],
        source: Path,
        target: Path,
        fp32: float,
    ) -> dict[str, Any]:
        """Tries an int8 or a float16 graph: its metric, its size and whether it is kept; else why there is none.

        Whatever goes wrong here costs the smaller graph, never the float32 one.
        """
        headline = self.capstone.headline
        try:
            if kind == "float16":
                store_as_float16(source, target)  # of a source that has left out already what the assets hold
            elif isinstance(graph, ExportGraph) and graph.quantization == "dynamic":
                quantize_dynamically(source, target)
            elif isinstance(graph, ExportGraph) and graph.calibration is not None:
                quantize(source, target, graph.calibration())
            else:
                quantize(source, target, self.capstone.calibration(self.data))
            if kind != "float16":
                leave_out(target, required)
            metrics = self.capstone.evaluate(in_batches(OnnxModel(target)), self.data, None).metrics
            add_metadata(target, {"metrics": _rounded(metrics)})
        except OSError:
            raise  # a full disk is not the graph's fault
        except Exception as error:  # the tools raise whatever they meet
            self.output.say(f"{kind}: unavailable ({first_line(error)})")
            return {"kept": False, "reason": first_line(error)}
        value, size, allowed = metrics[headline.name], target.stat().st_size, headline.allowed_loss(fp32)
        kept = headline.tolerates(fp32, value)
        self.output.say(
            f"{kind}: {headline.name} {value:.4f}, {size / 1e6:.1f} MB instead of {source.stat().st_size / 1e6:.1f}; "
            + ("kept" if kept else f"not kept, since it loses more than {allowed:.3g}")
        )
        return {headline.name: value, "bytes": size, "kept": kept, "largest_loss": allowed}

    def _latency(self, graph: ExportGraph | ConvertedGraph, models: dict[str, Predict], threads: int) -> dict[str, Any]:
        rows = measure(graph, models)
        self.output.say(f"latency in ms, {threads} threads")
        for row in rows:
            facts = (
                f"skipped: {row['skipped']}"
                if "skipped" in row
                else f"p50 {row['p50_ms']:9.2f}  p95 {row['p95_ms']:9.2f}"
            )
            self.output.say(f"  batch {row['batch']:3}  {row['runtime']:18} {facts}")
        return {"threads": threads, "rows": rows}


def model_metadata(
    capstone: Capstone[Any], saved: SavedRun[Any], evaluation: Evaluation, graph: ExportGraph | ConvertedGraph
) -> dict[str, str]:
    """Returns the metadata to store in the ONNX file."""
    summary = saved.summary
    assets = {"assets": json.dumps(summary["assets"])} if summary.get("assets") else {}
    if isinstance(graph, ExportGraph) and graph.requires:
        # Found again, and compared with what the run began with, before the file says that it needs them.
        assets["requires"] = json.dumps([saved.asset(name).record() for name in graph.requires])
    return {
        "capstone": capstone.name,
        "title": str(capstone.title),
        "data": saved.data_name,
        "data_builtin": str(summary["data"]["builtin"]).lower(),
        "data_description": summary["data"]["description"],
        **assets,
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
