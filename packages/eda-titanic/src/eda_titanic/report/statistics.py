"""The numbers behind the report: rates with intervals, associations, what is missing, what would leak."""

import time
import warnings
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.data.own_table import SECONDS_BETWEEN_NOTES
from dlcommon.runtime.data.text_encoding import Note
from dlcommon.runtime.evaluation.classification import accuracy_interval
from dlcommon.runtime.tables.columns import Column
from scipy import stats

MOST_LEVELS = 12
"""Of a category that a picture shows; the rarest others are put together."""
OTHER = "(other)"
MISSING = "(missing)"
MOST_ROWS = 20_000
"""For associations, of longer tables every so many rows."""


@dataclass(frozen=True)
class Rate:
    """Tells how often the class in question occurs among the rows of a level."""

    level: str
    n: int
    share: float
    low: float
    high: float


def levels(values: pd.Series, column: Column, bins: int = 5) -> pd.Series:
    """Groups a column into few levels: the rarest categories together, numbers in bins of about equally many rows."""
    if column.kind == "number":
        known = values.dropna()
        if known.nunique() <= bins + 3:
            named = values.map(column.shown, na_action="ignore").astype(object)
        else:
            edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
            codes = np.clip(np.searchsorted(edges, values, side="left"), 1, len(edges) - 1)
            shown = column.shown if column.is_date else "{:.4g}".format
            names = [f"{shown(low)} – {shown(high)}" for low, high in pairwise(edges)]
            named = pd.Series([names[code - 1] for code in codes], values.index, dtype=object)
            named[values.isna()] = None
    else:
        counts = values.value_counts()
        named = values.astype(object)
        if len(counts) > MOST_LEVELS:
            named = named.where(named.isin(counts.index[: MOST_LEVELS - 1]) | named.isna(), OTHER)
    return named.where(named.notna(), MISSING)


def ordered_levels(named: pd.Series, values: pd.Series, column: Column) -> list[str]:
    """Sorts levels: numbers by size, categories by count; the others and the missing last."""
    if column.kind == "number":
        firsts = values.groupby(named).min()
        order = [str(level) for level in firsts.sort_values().index if level != MISSING]
    else:
        order = [str(level) for level in named.value_counts().index if level not in (MISSING, OTHER)]
    present = set(named)
    return [*order, *(extra for extra in (OTHER, MISSING) if extra in present)]


def rates(values: pd.Series, column: Column, positive: np.ndarray) -> list[Rate]:
    """Computes the share of positive rows on each level of a column, with Wilson's 95 % interval."""
    named = levels(values, column)
    result = []
    for level in ordered_levels(named, values, column):
        chosen = (named == level).to_numpy()
        n, hits = int(chosen.sum()), int(positive[chosen].sum())
        result.append(Rate(level, n, hits / n, *accuracy_interval(hits, n)))
    return result


@dataclass(frozen=True)
class Association:
    """Measures how strongly two columns go together."""

    left: str
    right: str
    strength: float
    """0 (none) to 1: |Spearman's ρ|, the correlation ratio η of ranks, or Cramér's V corrected for chance."""
    p_value: float
    measure: str


def association(a: pd.Series, left: Column, b: pd.Series, right: Column) -> Association | None:
    """Measures how strongly two columns go together, by what suits their kinds.

    Returns:
        None where one column is free text, or where the rows that have both are under 8 or constant in one of them.
    """
    if "text" in (left.kind, right.kind) or min(left.distinct, right.distinct) < 2:
        return None
    known = (a.notna() & b.notna()).to_numpy()
    a, b = a[known], b[known]
    if len(a) < 8 or a.nunique() < 2 or b.nunique() < 2:
        return None
    if left.kind == right.kind == "number":
        result = stats.spearmanr(a, b)
        return Association(left.name, right.name, abs(float(result.statistic)), float(result.pvalue), "Spearman")
    if left.kind == right.kind == "category":
        table = counted(a, b)
        chi, p, _, _ = stats.chi2_contingency(table, correction=False)
        return Association(left.name, right.name, cramers_v(table, float(chi)), float(p), "Cramér's V")
    numbers, groups = (a, b) if left.kind == "number" else (b, a)
    ranks, codes = stats.rankdata(numbers), pd.factorize(groups)[0]
    samples = [ranks[codes == code] for code in range(codes.max() + 1)]
    between = sum(len(s) * (s.mean() - ranks.mean()) ** 2 for s in samples)
    total = float(((ranks - ranks.mean()) ** 2).sum())
    p = float(stats.kruskal(*samples).pvalue) if total else 1.0
    return Association(left.name, right.name, float(np.sqrt(between / total)) if total else 0.0, p, "η")


def counted(a: pd.Series, b: pd.Series) -> np.ndarray:
    """Counts the rows that have each value of one column and each of the other, [values, values]."""
    (left, rows), (right, columns) = pd.factorize(a), pd.factorize(b)
    return np.bincount(left * len(columns) + right, minlength=len(rows) * len(columns)).reshape(len(rows), -1)


def cramers_v(table: np.ndarray, chi: float) -> float:
    """Computes Cramér's V of a table of counts from its χ², corrected for what chance alone gives (Bergsma 2013)."""
    n, (rows, columns) = table.sum(), table.shape
    phi = max(0.0, chi / n - (rows - 1) * (columns - 1) / (n - 1))
    rows_left, columns_left = rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)
    least = min(rows_left, columns_left) - 1
    return float(np.sqrt(phi / least)) if least > 0 else 0.0


def thinned(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[:: max(1, -(-len(frame) // MOST_ROWS))]


def associations(frame: pd.DataFrame, columns: list[Column], note: Note | None = None) -> list[Association]:
    """Measures all pairs of columns and returns the strongest first.

    Args:
        note: is told now and then how far it is.
    """
    frame = thinned(frame)
    pairs = list(combinations(columns, 2))
    found, due = [], time.monotonic() + SECONDS_BETWEEN_NOTES
    for number, (a, b) in enumerate(pairs):
        if note is not None and time.monotonic() > due:
            due += SECONDS_BETWEEN_NOTES
            note(f"comparing columns: {number:,} of {len(pairs):,} pairs")
        found.append(association(frame[a.name], a, frame[b.name], b))
    return sorted((one for one in found if one is not None), key=lambda one: -one.strength)


def missing_together(frame: pd.DataFrame, positive: np.ndarray) -> dict[str, tuple[Rate, Rate, float]]:
    """Compares the positive share where a column is missing and where it is known.

    Returns:
        The two rates and Fisher's p for each column that is missing in 5 rows or more and known in 5 or more.
    """
    result = {}
    for name in frame.columns:
        gaps = frame[name].isna().to_numpy()
        if 5 <= gaps.sum() <= len(frame) - 5:
            table = [[int(positive[m].sum()), int((~positive[m]).sum())] for m in (gaps, ~gaps)]
            both = [
                Rate(label, sum(row), row[0] / sum(row), *accuracy_interval(row[0], sum(row)))
                for label, row in zip(("missing", "known"), table, strict=True)
            ]
            result[name] = (both[0], both[1], float(stats.fisher_exact(table).pvalue))
    return result


def number_facts(values: pd.Series) -> dict[str, float]:
    """Summarizes a column of numbers; returns nothing where every value is missing."""
    known = values.dropna().astype(float)
    if known.empty:
        return {}
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):  # squares of numbers like 1e300
        return _number_facts(known)


def _number_facts(known: pd.Series) -> dict[str, float]:
    q1, median, q3 = np.quantile(known, [0.25, 0.5, 0.75])
    outside = ((known < q1 - 1.5 * (q3 - q1)) | (known > q3 + 1.5 * (q3 - q1))).mean()
    return {
        "mean": float(known.mean()), "sd": float(known.std()) if len(known) > 1 else 0.0, "min": float(known.min()),
        "q1": float(q1), "median": float(median), "q3": float(q3), "max": float(known.max()),
        "skewness": float(stats.skew(known)) if known.nunique() > 1 else 0.0,
        "zeros": float((known == 0).mean()), "outliers": float(outside),
    }  # fmt: skip


def ties(frame: pd.DataFrame, columns: list[Column], positive: np.ndarray) -> list[dict[str, Any]]:
    """Finds columns of text whose values several rows share, and whether those rows then share their class.

    A split that puts such rows on both sides tests a model on what it has partly seen.
    """
    found = []
    for column in columns:
        counts = frame[column.name].value_counts()
        shared = counts[(counts > 1) & (counts <= max(20, len(frame) // 50))]
        if column.kind != "text" or column.distinct < 0.3 * len(frame) or shared.sum() < 0.05 * len(frame):
            continue
        agree = pairs = 0.0
        values = frame[column.name].to_numpy()
        by_value = pd.Series(positive).groupby(values).agg(["sum", "count"])
        for hits, n in by_value.loc[shared.index].to_numpy():
            agree += hits * (hits - 1) / 2 + (n - hits) * (n - hits - 1) / 2
            pairs += n * (n - 1) / 2
        base = positive.mean() ** 2 + (1 - positive.mean()) ** 2
        found.append(
            {"column": column.name, "rows": int(shared.sum()), "agree": agree / pairs, "expected": float(base)}
        )
    return found


def drift(train: pd.DataFrame, test: pd.DataFrame, columns: list[Column]) -> list[tuple[str, float]]:
    """Tests for each column whether its values differ between two tables; free text is left out.

    Returns:
        Columns and p-values, the smallest first: Kolmogorov–Smirnov for numbers, χ² for categories, adjusted for
        the number of tests (Benjamini and Hochberg 1995).
    """
    names, p_values = [], []
    for column in columns:
        a, b = train[column.name].dropna(), test[column.name].dropna()
        if column.kind == "text" or not len(a) or not len(b):
            continue
        if column.kind == "number":
            p_values.append(float(stats.ks_2samp(a, b).pvalue))
        else:
            table = pd.DataFrame({"a": a.value_counts(), "b": b.value_counts()}).fillna(0)
            p_values.append(float(stats.chi2_contingency(table.to_numpy()).pvalue) if len(table) > 1 else 1.0)
        names.append(column.name)
    adjusted = stats.false_discovery_control(p_values) if p_values else []
    return sorted(((name, float(p)) for name, p in zip(names, adjusted, strict=True)), key=lambda pair: pair[1])


def area_under_curve(values: np.ndarray, positive: np.ndarray) -> float:
    """Computes the ROC AUC of a number as a score for the positive class, whichever way round (Mann and Whitney)."""
    known = ~np.isnan(values)
    values, positive = values[known], positive[known]
    hits, misses = positive.sum(), (~positive).sum()
    if not hits or not misses:
        return 0.5
    u = stats.rankdata(values)[positive].sum() - hits * (hits + 1) / 2
    return float(max(u / (hits * misses), 1 - u / (hits * misses)))


def best_single_column(frame: pd.DataFrame, columns: list[Column], positive: np.ndarray) -> tuple[str, float] | None:
    """Finds the column that alone tells the classes apart best, and its area under the ROC curve."""
    best: tuple[str, float] | None = None
    for column in columns:
        values = frame[column.name]
        if column.kind == "number":
            scores = values.to_numpy(float)
        elif column.kind == "category":
            scores = values.map(pd.Series(positive, frame.index).groupby(values).mean()).to_numpy(float)
        else:
            continue
        area = area_under_curve(scores, positive)
        if best is None or area > best[1]:
            best = (column.name, area)
    return best
