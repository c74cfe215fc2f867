"""What the numbers say, in sentences: each is written from figures computed here, in English and Chinese."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from dlcommon.runtime.localization import LocalizedText

from eda_titanic.report.charts import number
from eda_titanic.report.finding import Finding, percent, probability, with_interval
from eda_titanic.report.model_findings import by_group, models
from eda_titanic.report.pictures import Subject
from eda_titanic.report.statistics import (
    MISSING,
    Association,
    best_single_column,
    drift,
    levels,
    missing_together,
    number_facts,
    rates,
    ties,
)

SIGNIFICANT = 0.01
FEWEST = 20
"""Rows of a level that a sentence is written about."""


def findings(subject: Subject, pairs: list[Association], facts: dict[str, Any] | None) -> list[Finding]:
    """Lists all findings in the report's order.

    Args:
        facts: a run's `model.json`, where models were fitted.
    """
    found = [*quality(subject, pairs)]
    if subject.positive is not None:
        found += [*target(subject), *leakage(subject, facts)]
    if facts is not None:
        found += [*models(facts)]
    return found


def quality(subject: Subject, pairs: list[Association]) -> Iterator[Finding]:
    """Finds gaps, duplicates, and columns that say nothing or the same."""
    frame = subject.frame
    rows, cells = len(frame), frame.size
    gaps = int(frame.isna().sum().sum())
    kinds = {kind: sum(column.kind == kind for column in subject.columns) for kind in ("number", "category", "text")}
    yield Finding("quality", LocalizedText(
        f"{rows:,} rows, {len(subject.columns)} columns: {kinds['number']} of numbers, {kinds['category']} of "
        f"categories, {kinds['text']} of free text. {percent(gaps / max(cells, 1))} of the cells are empty.",
        f"{rows:,} 行，{len(subject.columns)} 列：数值列 {kinds['number']}，类别列 {kinds['category']}，自由文本列 "
        f"{kinds['text']}。{percent(gaps / max(cells, 1))} 的单元格为空。",
    ))  # fmt: skip
    for note in subject.notes:
        yield Finding("quality", note)
    worst = frame.isna().mean().sort_values(ascending=False)
    if len(worst := worst[worst > 0.05]):
        listed = ", ".join(f"{name} ({percent(share)})" for name, share in worst.head(6).items())
        yield Finding("quality", LocalizedText(f"Often missing: {listed}.", f"经常缺失：{listed}。"), warns=True)
    if copies := int(frame.duplicated().sum()):
        yield Finding("quality", LocalizedText(
            f"{copies:,} rows ({percent(copies / rows)}) repeat an earlier row in all columns.",
            f"{copies:,} 行 ({percent(copies / rows)}) 与前面的某行完全相同。",
        ), warns=True)  # fmt: skip
    for column in subject.columns:
        values = frame[column.name]
        if column.distinct == 1:
            yield Finding("quality", LocalizedText(
                f"{column.name} has one value only.", f"{column.name} 只有一个取值。"), warns=True)  # fmt: skip
        elif column.distinct == rows > 20 and (column.kind == "text" or column.whole):
            yield Finding("quality", LocalizedText(
                f"{column.name} differs in every row: it names the rows and cannot be learnt from as it is.",
                f"{column.name} 每行都不同：它是标识，不能直接用于学习。",
            ))  # fmt: skip
        if column.kind == "text" and column.distinct:
            looks = pd.to_numeric(values.dropna(), errors="coerce").notna()
            if 0.5 < looks.mean() < 1:
                other = values.dropna()[~looks].iloc[0]
                yield Finding("quality", LocalizedText(
                    f"{column.name} holds numbers in {percent(looks.mean())} of its rows and text in the others "
                    f"(such as “{str(other)[:20]}”).",
                    f"{column.name} 有 {percent(looks.mean())} 是数字，其余是文本（例如“{str(other)[:20]}”）。",
                ))  # fmt: skip
        if column.kind == "number" and not column.is_date and (numbers := number_facts(values)):
            if abs(numbers["skewness"]) > 2 and column.distinct > 10:
                yield Finding("quality", LocalizedText(
                    f"{column.name} is skewed ({numbers['skewness']:.1f}): its median is {number(numbers['median'])}, "
                    f"its mean {number(numbers['mean'])}, its maximum {number(numbers['max'])}; "
                    f"{percent(numbers['outliers'])} lie outside Tukey's fences.",
                    f"{column.name} 分布偏斜 ({numbers['skewness']:.1f})：中位数 {number(numbers['median'])}，均值 "
                    f"{number(numbers['mean'])}，最大值 {number(numbers['max'])}；{percent(numbers['outliers'])} "
                    f"在 Tukey 界限之外。",
                ))  # fmt: skip
            if 0 < numbers["zeros"] < 0.05 and column.distinct > 20:
                zeros = round(numbers["zeros"] * (1 - column.missing) * rows)
                yield Finding("quality", LocalizedText(
                    f"{column.name} is 0 in {zeros} rows: perhaps a way to write that it is not known.",
                    f"{column.name} 有 {zeros} 行为 0：也许表示未知。",
                ), warns=True)  # fmt: skip
    for pair in [pair for pair in pairs if pair.strength > 0.8][:3]:
        yield Finding("quality", LocalizedText(
            f"{pair.left} and {pair.right} say much the same ({pair.measure} {pair.strength:.2f}).",
            f"{pair.left} 与 {pair.right} 信息大体重复（{pair.measure} {pair.strength:.2f}）。",
        ))  # fmt: skip


def target(subject: Subject) -> Iterator[Finding]:
    """Finds where the class in question is frequent and where it is rare."""
    positive, name = subject.positive, subject.positive_name
    assert positive is not None
    assert subject.codes is not None
    base = float(positive.mean())
    counts = np.bincount(subject.codes, minlength=len(subject.classes))
    spread = ", ".join(f"{label} {count:,}" for label, count in zip(subject.classes, counts, strict=True))
    yield Finding("target", LocalizedText(
        f"Classes: {spread}. Whoever always answers “{subject.classes[int(counts.argmax())]}” is right in "
        f"{percent(counts.max() / counts.sum())}.",
        f"类别：{spread}。总是回答“{subject.classes[int(counts.argmax())]}”的正确率为 "
        f"{percent(counts.max() / counts.sum())}。",
    ))  # fmt: skip
    spreads = []
    for column in subject.columns:
        if column.kind == "text":
            continue
        known = [r for r in rates(subject.frame[column.name], column, positive) if r.n >= FEWEST and r.level != MISSING]
        if len(known) > 1:
            low, high = min(known, key=lambda r: r.share), max(known, key=lambda r: r.share)
            spreads.append((high.share - low.share, column.name, low, high))
    for _, column_name, low, high in sorted(spreads, key=lambda spread: -spread[0])[:5]:
        if high.low > low.high:
            yield Finding("target", LocalizedText(
                f"{column_name}: “{name}” holds for {with_interval(high)} of {high.level} (n = {high.n}), but for "
                f"{with_interval(low)} of {low.level} (n = {low.n}).",
                f"{column_name}：“{name}”在 {high.level} 中占 {with_interval(high)}（n = {high.n}），"
                f"在 {low.level} 中仅占 "
                f"{with_interval(low)}（n = {low.n}）。",
            ))  # fmt: skip
    if best := strongest_cell(subject):
        yield Finding("target", LocalizedText(
            f"Two columns together go further than either: {best['high']} has {percent(best['high_share'])} (n = "
            f"{best['high_n']}), {best['low']} has {percent(best['low_share'])} (n = {best['low_n']}); on average it "
            f"is {percent(base)}.",
            f"两列合在一起区分度更大：{best['high']} 为 {percent(best['high_share'])}（n = {best['high_n']}），"
            f"{best['low']} 为 {percent(best['low_share'])}（n = {best['low_n']}）；平均为 {percent(base)}。",
        ))  # fmt: skip
    for column_name, (gap, known_rate, p) in missing_together(subject.frame, positive).items():
        if p < SIGNIFICANT:
            yield Finding("target", LocalizedText(
                f"That {column_name} is missing says something itself: {with_interval(gap)} “{name}” where it is, "
                f"{with_interval(known_rate)} where it is known (Fisher's {probability(p)}).",
                f"{column_name} 是否缺失本身就有信息：缺失时“{name}”占 {with_interval(gap)}，已知时占 "
                f"{with_interval(known_rate)}（Fisher 检验 {probability(p)}）。",
            ))  # fmt: skip


def strongest_cell(subject: Subject) -> dict[str, Any] | None:
    """Finds the pair of columns whose cells' shares of positive rows lie furthest apart.

    Returns:
        Its lowest and highest cell, of the first 20 columns that are not free text; None where no pair has two cells
        of `FEWEST` rows.
    """
    positive = subject.positive
    assert positive is not None
    usable = [column for column in subject.columns if column.kind != "text" and column.distinct > 1][:20]
    named: dict[str, tuple[Any, Any]] = {
        column.name: pd.factorize(levels(subject.frame[column.name], column, bins=3).replace(MISSING, None))
        for column in usable
    }
    best: dict[str, Any] | None = None
    for a, b in combinations(usable, 2):
        (left, rows), (right, columns) = named[a.name], named[b.name]
        known = (left >= 0) & (right >= 0)
        cells, size = (left * len(columns) + right)[known], len(rows) * len(columns)
        counts = np.bincount(cells, minlength=size)
        with np.errstate(invalid="ignore"):
            shares = np.bincount(cells, positive[known], minlength=size) / counts
        shares[counts < FEWEST] = np.nan
        if np.isfinite(shares).sum() < 2:
            continue
        ends = {"low": int(np.nanargmin(shares)), "high": int(np.nanargmax(shares))}
        width = float(shares[ends["high"]] - shares[ends["low"]])
        if best is None or width > best["width"]:
            best = {"width": width}
            for side, at in ends.items():
                best[side] = f"{a.name} = {rows[at // len(columns)]}, {b.name} = {columns[at % len(columns)]}"
                best[f"{side}_share"], best[f"{side}_n"] = float(shares[at]), int(counts[at])
    return best


def leakage(subject: Subject, facts: dict[str, Any] | None) -> Iterator[Finding]:
    """Finds leakage, which would make a model look better than it is."""
    frame, positive = subject.frame, subject.positive
    assert positive is not None
    quiet = True
    if (single := best_single_column(frame, subject.columns, positive)) is not None:
        name, area = single
        if area > 0.98:
            quiet = False
            yield Finding("leakage", LocalizedText(
                f"{name} alone tells the classes apart almost perfectly (area under the curve {area:.3f}): is it known "
                f"before the target is?",
                f"仅凭 {name} 就几乎能完全区分类别（AUC {area:.3f}）：在目标已知之前它就已知吗？",
            ), warns=True)  # fmt: skip
        else:
            yield Finding("leakage", LocalizedText(
                f"No column gives the answer away: the best alone, {name}, has an area under the curve of {area:.3f}.",
                f"没有哪一列直接泄露答案：单列最好的是 {name}，AUC 为 {area:.3f}。",
            ))  # fmt: skip
    keys = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    alike = pd.Series(positive).groupby(keys).agg(["nunique", "count"])
    if contradicting := int(alike.loc[alike["nunique"] > 1, "count"].sum()):
        quiet = False
        yield Finding("leakage", LocalizedText(
            f"{contradicting} rows agree with another in all columns but not in the target: no model can tell them "
            f"apart.",
            f"{contradicting} 行与另一行特征完全相同而目标不同：任何模型都无法区分。",
        ))  # fmt: skip
    order = pd.Series(np.arange(len(positive))).corr(pd.Series(positive.astype(float)), method="spearman")
    if abs(order) * np.sqrt(len(positive)) > 3.3:
        quiet = False
        yield Finding("leakage", LocalizedText(
            f"The order of the rows goes with the target (Spearman {order:.2f}): shuffle before splitting.",
            f"行的顺序与目标相关（Spearman {order:.2f}）：划分前应打乱。",
        ), warns=True)  # fmt: skip
    for tie in ties(frame, subject.columns, positive):
        quiet = False
        yield Finding("leakage", LocalizedText(
            f"{tie['rows']} rows share a {tie['column']} with others, and {percent(tie['agree'])} of such pairs are "
            f"of one class (by chance: {percent(tie['expected'])}). A random split puts pairs on both sides; compare "
            f"the figures by whole groups.",
            f"{tie['rows']} 行与其他行共享 {tie['column']}，其中 {percent(tie['agree'])} 的配对属于同一类（随机情形："
            f"{percent(tie['expected'])}）。随机划分会把配对分到两边，请比较按整组划分的结果。",
        ), warns=True)  # fmt: skip
    if subject.test is not None:
        test = subject.test[list(frame.columns)]
        shifted = [name for name, p in drift(frame, test, subject.columns) if p < SIGNIFICANT]
        same = int(np.isin(pd.util.hash_pandas_object(test, index=False).to_numpy(), keys).sum())
        text_en = f"differ in {', '.join(shifted)}" if shifted else "do not differ in any column"
        text_zh = f"在 {', '.join(shifted)} 上分布不同" if shifted else "在各列上分布无显著差异"
        yield Finding("leakage", LocalizedText(
            f"The {len(test):,} rows to predict and the training rows {text_en} (Kolmogorov–Smirnov and χ², adjusted "
            f"p < {SIGNIFICANT}); {same} of them are also training rows.",
            f"待预测的 {len(test):,} 行与训练行{text_zh}（KS 与 χ² 检验，校正后 p < {SIGNIFICANT}）；其中 {same} 行"
            f"同时是训练行。",
        ), warns=bool(shifted or same))  # fmt: skip
    splits = (facts or {}).get("validation", {}).get("splits")
    if splits:
        yield from by_group(splits)
    elif quiet:
        yield Finding("leakage", LocalizedText("No sign of leakage was found.", "未发现数据泄露的迹象。"))
