"""What the models' validation says, in sentences."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from dlcommon.runtime.localization import LocalizedText

from eda_titanic.report.finding import Finding, percent


def by_group(splits: dict[str, Any]) -> Iterator[Finding]:
    """Says what splitting by whole groups changes."""
    means = {
        (split, variant): float(np.mean(values))
        for split, variants in splits["accuracy"].items()
        for variant, values in variants.items()
    }
    yield Finding("leakage", LocalizedText(
        f"{splits['in_groups']} rows belong to groups of up to {splits['largest']} (shared ticket or family). Without "
        f"the companions' fate the blend is right in {percent(means['random', 'without'])} with random folds and "
        f"{percent(means['grouped', 'without'])} when groups stay whole.",
        f"{splits['in_groups']} 行属于至多 {splits['largest']} 人的小组（同票或同家庭）。"
        f"不使用同伴结局时，混合模型在随机折下正确率 {percent(means['random', 'without'])}，"
        f"按整组划分为 {percent(means['grouped', 'without'])}。",
    ))  # fmt: skip
    if ("random", "with") in means:
        yield Finding("leakage", LocalizedText(
            f"The fate of companions in the training rows lifts that to {percent(means['random', 'with'])} with random "
            f"folds, but to {percent(means['grouped', 'with'])} by whole groups: it helps for passengers whose "
            f"companions are known, as in Kaggle's test file, and says nothing about another ship.",
            f"使用训练行中同伴的结局，随机折下升至 {percent(means['random', 'with'])}，而按整组划分为 "
            f"{percent(means['grouped', 'with'])}：它只对同伴已知的乘客（如 Kaggle 测试集）有用，对另一艘船没有意义。",
        ), warns=True)  # fmt: skip


def models(facts: dict[str, Any]) -> Iterator[Finding]:
    """Says what the ladder reached on rows that were left out."""
    validation = facts["validation"]
    ladder = validation["ladder"]
    chosen = ladder["chosen"]
    repeats = len(validation["out_of_fold"])
    yield Finding("models", LocalizedText(
        f"Nested cross-validation, repeated {repeats} times: the model that the inner folds choose is right in "
        f"{percent(chosen['accuracy'])} of the rows left out (standard error "
        f"{100 * chosen['accuracy_standard_error']:.1f} points), with a Brier score of {chosen['brier']:.3f} and a "
        f"calibration error of {percent(chosen['expected_calibration_error'])}.",
        f"嵌套交叉验证重复 {repeats} 次：由内层折选出的模型在留出行上的正确率为 {percent(chosen['accuracy'])}（标准误 "
        f"{100 * chosen['accuracy_standard_error']:.1f} 个百分点），Brier 分数 {chosen['brier']:.3f}，校准误差 "
        f"{percent(chosen['expected_calibration_error'])}。",
    ))  # fmt: skip
    rungs = {name: row for name, row in ladder.items() if name != "chosen"}
    best, first = min(rungs, key=lambda name: rungs[name]["cross_entropy"]), next(iter(rungs))
    gain = rungs[best]["accuracy"] - rungs[first]["accuracy"]
    yield Finding("models", LocalizedText(
        f"The lowest cross-entropy is that of “{best}” ({rungs[best]['cross_entropy']:.3f}; {first}: "
        f"{rungs[first]['cross_entropy']:.3f}); in accuracy it is {100 * abs(gain):.1f} points "
        f"{'above' if gain >= 0 else 'below'} {first}.",
        f"交叉熵最低的是“{best}”（{rungs[best]['cross_entropy']:.3f}；{first}：{rungs[first]['cross_entropy']:.3f}）；"
        f"正确率比 {first} {'高' if gain >= 0 else '低'} {100 * abs(gain):.1f} 个百分点。",
    ))  # fmt: skip
    leading = [name for name, loss in facts["importance"].items() if loss > 0.005][:4]
    if leading:
        yield Finding("models", LocalizedText(
            f"The answers rest most on {', '.join(leading)} (cross-entropy when a column is shuffled).",
            f"预测最依赖的列：{', '.join(leading)}（打乱该列后交叉熵的增加）。",
        ))  # fmt: skip
