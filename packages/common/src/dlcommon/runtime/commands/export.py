"""`export`: ONNX with dynamic batch, compared with the original on the whole test set; int8 where it pays; latency."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlcommon.runtime import data
from dlcommon.runtime.capstone import Capstone
from dlcommon.runtime.commands.options import parse
from dlcommon.runtime.errors import UsageError, UserError
from dlcommon.runtime.export.pretrained import install
from dlcommon.runtime.locate_model import newest_run, open_run
from dlcommon.runtime.output import Output


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

    # What computes is imported here, so that `--help` does without it.
    from dlcommon.runtime.export.export_run import Exporter

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
    exporter = Exporter(capstone, saved, located, output)
    record = exporter.export(int8=options.int8, latency=options.latency, for_package=options.pretrained)
    if options.pretrained:
        output.say(f"pretrained: {install(capstone, saved.directory, options.name or capstone.name)}")
    output.say(f"next: uv run --package {capstone.name} demo")
    output.result(
        {
            "capstone": capstone.name,
            "data": located.name,
            "split": "test",
            "n": record["parity"]["n"],
            "metrics": {capstone.headline.name: record["parity"]["onnx"]},
            "seconds": record["seconds"],
            "run": str(saved.directory),
        }
    )
    return 0
