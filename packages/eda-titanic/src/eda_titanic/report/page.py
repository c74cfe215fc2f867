"""The report as one HTML file: no script or picture from elsewhere, English and Chinese in one page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.data.table import Table
from dlcommon.runtime.data.text_encoding import Note
from dlcommon.runtime.evaluation.classification import expected_calibration_error, reliability
from dlcommon.runtime.tables.columns import Column
from jinja2 import Environment
from markupsafe import Markup

from eda_titanic.report import charts, pictures, statistics
from eda_titanic.report.finding import Finding
from eda_titanic.report.findings import findings
from eda_titanic.report.pictures import Subject

FOLDER = Path(__file__).parent
MOST_PAIRS = 4
MOST_IN_MATRIX = 24
MATRIX_STRIPES = 60
EXAMPLES = 5


def report(table: Table, title: str, facts: dict[str, Any] | None = None) -> str:
    """Renders the report of a table with a target.

    Args:
        facts: a run's `model.json`, where models were fitted.

    Raises:
        UserError: the target cannot be told apart (see `problem.pose`).
    """
    return render(pictures.subject_of(table), title, facts)


def render(subject: Subject, title: str, facts: dict[str, Any] | None = None, note: Note | None = None) -> str:
    """Renders the report as one HTML page.

    Args:
        facts: a run's `model.json`, where models were fitted.
        note: is told now and then how far it is.
    """
    pairs = statistics.associations(subject.frame, subject.columns, note)
    found = findings(subject, pairs, facts)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((FOLDER / "report.html").read_text(encoding="utf-8"))
    topics: dict[str, list[Finding]] = {}
    for finding in found:
        topics.setdefault(finding.topic, []).append(finding)
    return template.render(
        title=title,
        style=Markup("".join((FOLDER / name).read_text(encoding="utf-8") for name in ("report.css", "charts.css"))),
        subject=subject,
        rows=len(subject.frame),
        topics=topics,
        warnings=sum(finding.warns for finding in found),
        columns=[column_section(subject, column) for column in subject.columns],
        gaps=Markup(missing_picture(subject.frame)) if subject.frame.isna().any().any() else None,
        associations=association_picture(subject, pairs),
        pairs=[Markup(pictures.two_columns(subject, *pair)) for pair in shown_pairs(subject, pairs)],
        by_target=target_rows(subject),
        models=model_section(facts) if facts else None,
        head=subject.frame.head(EXAMPLES),
        blank=pd.isna,
    )


def column_section(subject: Subject, column: Column) -> dict[str, Any]:
    """Collects what the report says of one column."""
    values = subject.frame[column.name]
    facts = {"distinct": f"{column.distinct:,}", "missing": f"{column.missing:.1%}"}
    if column.is_date:
        found = statistics.number_facts(values)
        facts |= {name: column.shown(found[name]) for name in ("min", "median", "max") if name in found}
    elif column.kind == "number":
        facts |= {name: charts.number(value) for name, value in statistics.number_facts(values).items()}
        for share in ("zeros", "outliers"):
            if share in facts:
                facts[share] = f"{statistics.number_facts(values)[share]:.1%}"
    elif column.kind == "category":
        facts["most frequent"] = str(column.typical)
    else:
        words = values.dropna()
        if len(words):
            facts["length"] = f"{int(words.str.len().min())} – {int(words.str.len().max())}"
            facts["example"] = charts.short(words.iloc[0], 28)
    by_target = pictures.by_target(subject, column.name)
    return {
        "column": column,
        "facts": facts,
        "picture": Markup(pictures.distribution(subject, column.name)),
        "by_target": Markup(by_target) if by_target else None,
    }


def missing_picture(frame: pd.DataFrame) -> str:
    """Gaps over the table: rows from left to right in stripes, the deeper the colour the more of them are empty."""
    names = [name for name in frame.columns if frame[name].isna().any()][:40]
    stripes = min(MATRIX_STRIPES, len(frame))
    cuts = np.array_split(np.arange(len(frame)), stripes)
    left, width, row = 130.0, (charts.WIDTH - 190) / stripes, 20.0
    parts = []
    for place, name in enumerate(names):
        gaps = frame[name].isna().to_numpy()
        y = 6 + row * place
        parts.append(charts.text(left - 6, y + 13, charts.short(name, 18), "end"))
        for number, rows in enumerate(cuts):
            share = gaps[rows].mean()
            tip = f"{name}, rows {rows[0] + 1}–{rows[-1] + 1}: {share:.0%}"
            style = f"fill-opacity:{0.05 + 0.95 * share:.2f}"
            parts.append(charts.rectangle(left + width * number, y, width + 0.3, row - 4, "heat", tip, style))
        parts.append(charts.text(charts.WIDTH - 4, y + 13, f"{gaps.mean():.1%}", "end", "small"))
    return charts.drawing(parts, 10 + row * len(names), "missing")


def association_picture(subject: Subject, pairs: list[statistics.Association]) -> Markup | None:
    """Draws how strongly every two columns go together; None where fewer than two can be measured."""
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.left, pair.right)))[:MOST_IN_MATRIX]
    names = [column.name for column in subject.columns if column.name in names]
    if len(names) < 2:
        return None
    values = np.full((len(names), len(names)), np.nan)
    texts = [["" for _ in names] for _ in names]
    for pair in pairs:
        if pair.left in names and pair.right in names:
            a, b = names.index(pair.left), names.index(pair.right)
            for r, c in ((a, b), (b, a)):
                values[r, c], texts[r][c] = (
                    pair.strength,
                    f"{pair.strength:.2f} ({pair.measure}, p = {pair.p_value:.2g})",
                )
    return Markup(charts.heat(names, names, values, texts, "0 – 1"))


def shown_pairs(subject: Subject, pairs: list[statistics.Association]) -> list[tuple[str, str]]:
    """Chooses the pairs to draw: with a target those of its strongest columns, else the strongest pairs."""
    if subject.positive is None:
        return [(pair.left, pair.right) for pair in pairs[:MOST_PAIRS]]
    names = [row["name"] for row in target_rows(subject)][:4]
    return [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]][:MOST_PAIRS]


def target_rows(subject: Subject) -> list[dict[str, Any]]:
    """Lists how strongly each column goes with the target, the strongest first."""
    if subject.codes is None or subject.target is None:
        return []
    labels = pd.Series([subject.classes[code] for code in subject.codes], subject.frame.index, dtype="str")
    goal = Column(subject.target, "category", 0.0, len(subject.classes), categories=subject.classes)
    rows = []
    for column in subject.columns:
        found = statistics.association(subject.frame[column.name], column, labels, goal)
        if found is not None:
            rows.append({"name": column.name, "strength": found.strength, "measure": found.measure, "p": found.p_value})
    return sorted(rows, key=lambda row: -float(row["strength"]))


def model_section(facts: dict[str, Any]) -> dict[str, Any]:
    """Collects the ladder, the calibration, what the answers rest on, and the comparison by groups."""
    validation, importance = facts["validation"], facts["importance"]
    repetitions = [np.array(held_out) for held_out in validation["out_of_fold"]]
    labels = np.array(facts["target"])
    stacked = np.vstack([np.hstack([1 - r.sum(axis=1, keepdims=True), r]) for r in repetitions])
    points = reliability(stacked, np.tile(labels, len(repetitions)))
    top = max([*importance.values(), 1e-9])
    shown = dict(list(importance.items())[:12])
    splits = validation["splits"]
    return {
        "ladder": validation["ladder"],
        "chosen": validation["chosen"],
        "repeats": len(repetitions),
        "final": " + ".join(facts["rungs"]),
        "question": facts["question"],
        "calibration": Markup(charts.reliability(points, "confidence → accuracy")),
        "calibration_error": expected_calibration_error(points),
        "importance": Markup(importance_picture(shown, top)),
        "splits": splits and {
            split: {variant: (float(np.mean(v)), float(np.std(v))) for variant, v in variants.items()}
            for split, variants in splits["accuracy"].items()
        },
    }  # fmt: skip


def importance_picture(losses: dict[str, float], top: float) -> str:
    left, row = 150.0, 24.0
    parts = []
    for place, (name, loss) in enumerate(losses.items()):
        y = 8 + row * place
        width = (charts.WIDTH - 90 - left) * max(loss, 0) / top
        parts.append(charts.text(left - 6, y + 13, charts.short(name), "end"))
        parts.append(charts.rectangle(left, y, width, row - 7, "c1", f"{name}: {loss:.4f}"))
        parts.append(charts.text(charts.WIDTH - 4, y + 13, f"{loss:+.3f}", "end", "small"))
    base = 8 + row * len(losses)
    parts.append(charts.line(left, 4, left, base))
    return charts.drawing(parts, base + 8, "importance")
