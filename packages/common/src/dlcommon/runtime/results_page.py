"""RESULTS.md, rendered from the records, and the figures that a README's links to it show."""

import re
import statistics
from collections import defaultdict
from pathlib import Path

from dlcommon.runtime.metric import Metric
from dlcommon.runtime.records import Milestone, Record, read_record

HEAD = """\
# Results

Rendered by `uv run results` from the records in `packages/*/results/`, which `eval --record` wrote.
A row is one recipe on one data set and one machine: the mean over its seeds ± their standard deviation. The interval
is the 95 % confidence interval from test-set sampling, averaged over the seeds.
Minutes are the wall time of training."""

Group = list[Record]
"""Runs that differ in nothing but the seed, by which they are sorted."""


def pages(root: Path) -> dict[Path, str]:
    """Renders RESULTS.md, and the figures in the workspace's READMEs.

    Raises:
        UserError: a record is damaged; the message names it.
    """
    recorded = _recorded(root)
    readmes = {path: with_figures(path.read_text(encoding="utf-8"), recorded) for path in root.glob("README*.md")}
    return {root / "RESULTS.md": render(recorded)} | readmes


def _recorded(root: Path) -> dict[str, list[Group]]:
    """Reads all records below `packages/`, by capstone."""
    recorded = {}
    for folder in sorted(root.glob("packages/*/results")):
        groups: dict[tuple[str, str, str], Group] = defaultdict(list)
        for path in sorted(folder.glob("*.json")):
            record = read_record(path)
            groups[record.preset, record.data.fingerprint, machine(record)].append(record)
        if groups:
            recorded[folder.parent.name] = [
                sorted(groups[key], key=lambda record: record.seed) for key in sorted(groups)
            ]
    return recorded


def render(recorded: dict[str, list[Group]]) -> str:
    """Renders RESULTS.md."""
    lines = [HEAD]
    for capstone, groups in recorded.items():
        lines += ["", f"## {capstone}", *_results(groups), *_milestones(groups), *_shown_tables(groups)]
    return "\n".join(lines) + "\n"


def with_figures(text: str, recorded: dict[str, list[Group]]) -> str:
    """Updates a text's links to capstones' results with the default recipe's headline metric and minutes.

    If it is recorded on several data sets or machines, takes real data, and then the machine with the fewest GPUs.
    """

    def shown(link: re.Match[str]) -> str:
        groups = [group for group in recorded.get(link["capstone"], []) if group[0].preset == "default"]
        if not groups:
            return link[0]
        group = min(groups, key=lambda group: (group[0].data.builtin, _gpus(group[0])))
        return f"[{_headline(group)}, {_minutes(group):.3g} min](RESULTS.md#{link['capstone']})"

    return re.sub(r"\[[^\]]*\]\(RESULTS\.md#(?P<capstone>[\w-]+)\)", shown, text)


def machine(record: Record) -> str:
    """Describes what a run was trained on."""
    hardware, gpus = record.hardware, _gpus(record)
    found = f"{gpus} × {hardware.gpus[0]}" if gpus else f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}"
    processor = f"{hardware.processor} ({hardware.instructions})" if hardware.instructions else hardware.processor
    return f"{found}, {processor}, torch {hardware.versions.get('torch', 'unknown')}"


def _gpus(record: Record) -> int:
    """Counts the GPUs that a run was trained on, which may be fewer than the machine has."""
    return record.training.processes if record.hardware.gpus and record.training.device != "cpu" else 0


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return ["", lines[0], "|" + "---|" * len(columns), *lines[1:]]


def _results(groups: list[Group]) -> list[str]:
    headline = groups[0][0].headline.name
    columns = ["recipe", "data", f"test {headline.replace('_', ' ')}", "interval", "n", "seeds", "minutes"]
    columns += ["CPU minutes", "PFLOPs", "hardware", "commit", "command"]
    return _table(columns, [_row(group) for group in groups])


def _row(group: Group) -> list[str]:
    first = group[0]
    name = first.headline.name
    intervals = [record.intervals[name] for record in group if name in record.intervals]
    bounds = [statistics.mean(bound) for bound in zip(*intervals, strict=True)]
    cpu = [record.training.cpu_minutes for record in group if record.training.cpu_minutes is not None]
    flops = [record.training.flops / 1e15 for record in group if record.training.flops]
    commits = sorted({_commit(record) for record in group})
    return [
        first.preset,
        first.data.description,
        _headline(group),
        " to ".join(first.headline.show(bound, with_unit=False) for bound in bounds) or "—",
        str(first.n),
        ", ".join(str(record.seed) for record in group),
        f"{_minutes(group):.2f}",
        f"{statistics.mean(cpu):.2f}" if cpu else "—",
        f"{statistics.mean(flops):.3f}" if flops else "—",
        machine(first),
        ", ".join(commits),
        f"`{first.command}`",
    ]


def _headline(group: Group) -> str:
    """Formats the mean over the seeds ± their standard deviation."""
    headline = group[0].headline
    values = [record.metrics[headline.name] for record in group]
    spread = f" ± {headline.show(statistics.stdev(values), with_unit=False)}" if len(values) > 1 else ""
    return headline.show(statistics.mean(values)) + spread


def _minutes(group: Group) -> float:
    return statistics.mean(record.training.minutes for record in group)


def _commit(record: Record) -> str:
    if record.git is None:
        return "unknown"
    return record.git.commit[:8] + (" (changed)" if record.git.changed else "")


def _milestones(groups: list[Group]) -> list[str]:
    """Tabulates what each recipe needs to reach a threshold, which is seen at the evaluation that follows it."""
    rows = []
    for group in groups:
        reached: dict[tuple[Metric, float], list[Milestone]] = defaultdict(list)
        for record in group:
            for milestone in record.milestones:
                reached[milestone.metric, milestone.threshold].append(milestone)
        first = group[0]
        rows += [
            [first.preset, first.data.description, *_needed(seen, group), machine(first)] for seen in reached.values()
        ]
    columns = ["recipe", "data", "first evaluation with", "seeds that reached it", "epochs", "minutes", "PFLOPs"]
    return _table([*columns, "hardware"], rows) if rows else []


def _shown_tables(groups: list[Group]) -> list[str]:
    """Tabulates what a capstone shows besides its metrics, of each recipe's first seed."""
    lines = []
    for group in groups:
        first = group[0]
        for title, rows in first.tables.items():
            cells = [[_cell(value) for value in row.values()] for row in rows]
            if cells:
                lines += ["", f"{title}: {first.preset}, {first.data.description}, seed {first.seed}"]
                lines += _table(list(rows[0]), cells)
    return lines


def _cell(value: str | float) -> str:
    """Formats a text as code, so that nothing of it is read as markup; line breaks are shown."""
    if isinstance(value, str):
        return f"`{value.replace('`', 'ˋ').replace(chr(10), '⏎')}`"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _needed(seen: list[Milestone], group: Group) -> list[str]:
    metric, flops = seen[0].metric, [milestone.flops / 1e15 for milestone in seen if milestone.flops]
    return [
        f"{metric.name.replace('_', ' ')} {metric.show_threshold(seen[0].threshold)}",
        f"{len(seen)} of {len(group)}",
        f"{statistics.mean(milestone.epoch for milestone in seen):.1f}",
        f"{statistics.mean(milestone.seconds for milestone in seen) / 60:.2f}",
        f"{statistics.mean(flops):.3f}" if flops else "—",
    ]
