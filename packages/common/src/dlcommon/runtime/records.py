"""Records of real runs, in `packages/<capstone>/results/`, and the page rendered from them."""

import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcommon.runtime.capstone import Capstone, Evaluation
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import read_json, write_json

if TYPE_CHECKING:
    from dlcommon.runtime.data import LocatedDataSet
    from dlcommon.runtime.run_directory import SavedRun

SCHEMA = 1
REQUIRED = {
    "schema": int, "capstone": str, "preset": str, "seed": int, "headline": str, "n": int, "metrics": dict,
    "intervals": dict, "data": dict, "training": dict, "hardware": dict, "command": str,
}  # fmt: skip


def record_evaluation(
    capstone: Capstone[Any],
    saved: "SavedRun[Any]",
    located: "LocatedDataSet",
    evaluation: Evaluation,
    seconds: float,
) -> Path:
    """Writes `results/<preset>-<data>-seed<seed>.json`; returns its path.

    Raises:
        UserError: the data is not what the run was trained on.
    """
    summary = saved.summary
    if located.fingerprint() != summary["data"]["fingerprint"]:
        raise UserError(f"{located.name} is not the data that {saved.directory} was trained on: nothing is recorded")
    record = {
        "schema": SCHEMA,
        "capstone": capstone.name,
        "preset": summary["preset"],
        "seed": summary["seed"],
        "headline": capstone.headline,
        "n": evaluation.n,
        "metrics": evaluation.metrics,
        "intervals": evaluation.intervals,
        "evaluation_seconds": round(seconds, 2),
        "data": summary["data"],
        "training": summary["training"],
        "milestones": milestones(capstone, saved),
        "hardware": summary["hardware"],
        "git": summary["git"],
        "command": summary["command"],
        "run": saved.directory.name,
    }
    path = capstone.folder / "results" / f"{summary['preset']}-{located.name}-seed{summary['seed']}.json"
    write_json(path, record)
    return path


def milestones(capstone: Capstone[Any], saved: "SavedRun[Any]") -> list[dict[str, Any]]:
    """When each of the capstone's thresholds was first seen to be reached."""
    from dlcommon.runtime.metrics_log import read_metrics
    from dlcommon.runtime.run_directory import METRICS

    log = saved.directory / METRICS
    rows = read_metrics(log) if log.is_file() else []
    reached = []
    for metric, values in capstone.thresholds.items():
        for value in values:
            first = next((row for row in rows if row.get(metric, -1.0) >= value), None)
            if first is not None:
                reached.append({"metric": metric, "threshold": value, **first})
    return reached


def read_record(path: Path) -> dict[str, Any]:
    """A record.

    Raises:
        UserError: a field is missing or of the wrong kind; the message names file and field.
    """
    record = read_json(path)
    for name, kind in REQUIRED.items():
        if not isinstance(record.get(name), kind):
            raise UserError(f"{path}: field {name!r} is missing or is not of type {kind.__name__}")
    if record["schema"] != SCHEMA:
        raise UserError(f"{path}: schema {record['schema']} is not {SCHEMA}; record the run again")
    if record["headline"] not in record["metrics"]:
        raise UserError(f"{path}: its headline metric {record['headline']!r} is not among its metrics")
    return record


def render(root: Path) -> str:
    """RESULTS.md from all records below `packages/`."""
    lines = [
        "# Results",
        "",
        "Rendered by `uv run results` from the records in `packages/*/results/`, which `eval --record` wrote.",
        "A row is one preset on one data set; ± is the standard deviation over seeds.",
        "Minutes are the wall time of training.",
    ]
    for folder in sorted(root.glob("packages/*/results")):
        groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for path in sorted(folder.glob("*.json")):
            record = read_record(path)
            groups[record["preset"], record["data"]["description"]].append(record)
        if groups:
            headline = next(iter(groups.values()))[0]["headline"].replace("_", " ")
            lines += ["", f"## {folder.parent.name}", ""]
            columns = [
                "preset",
                "data",
                f"test {headline}",
                "seeds",
                "minutes",
                "PFLOPs",
                "hardware",
                "commit",
                "command",
            ]
            lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
            lines += [_row(preset, data, records) for (preset, data), records in sorted(groups.items())]
            lines += _milestone_table(groups)
    return "\n".join(lines) + "\n"


def _row(preset: str, data: str, records: list[dict[str, Any]]) -> str:
    values = [100 * record["metrics"][record["headline"]] for record in records]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    minutes = statistics.mean(record["training"]["minutes"] for record in records)
    flops = [record["training"]["flops"] / 1e15 for record in records if "flops" in record["training"]]
    first = records[0]
    hardware = f"{first['hardware']['cores']} cores, {first['hardware']['processor']}"
    if first["hardware"]["gpus"]:
        hardware = f"{len(first['hardware']['gpus'])} × {first['hardware']['gpus'][0]}"
    commits = sorted({(record["git"] or {}).get("commit", "unknown")[:8] for record in records})
    cells = [
        preset,
        data,
        f"{statistics.mean(values):.2f} %{spread}",
        ", ".join(str(record["seed"]) for record in records),
        f"{minutes:.2f}",
        f"{statistics.mean(flops):.3f}" if flops else "—",
        hardware,
        ", ".join(commits),
        f"`{first['command']}`",
    ]
    return "| " + " | ".join(cells) + " |"


def _milestone_table(groups: dict[tuple[str, str], list[dict[str, Any]]]) -> list[str]:
    """Means over seeds of the time and arithmetic to each threshold; evaluations lie some epochs apart."""
    found: dict[tuple[str, str, str, float], list[dict[str, Any]]] = defaultdict(list)
    for (preset, data), records in groups.items():
        for record in records:
            for milestone in record["milestones"]:
                found[preset, data, milestone["metric"], milestone["threshold"]].append(milestone)
    if not found:
        return []
    lines = ["", "| preset | data | first evaluation with | epochs | minutes | PFLOPs |", "|---|---|---|---|---|---|"]
    for (preset, data, metric, threshold), seen in sorted(found.items()):
        epochs, seconds = (statistics.mean(row[name] for row in seen) for name in ("epoch", "seconds"))
        flops = statistics.mean(row.get("flops", 0) for row in seen) / 1e15
        reached = f"{metric.replace('_', ' ')} ≥ {100 * threshold:g} %"
        lines.append(f"| {preset} | {data} | {reached} | {epochs:.1f} | {seconds / 60:.2f} | {flops:.3f} |")
    return lines
