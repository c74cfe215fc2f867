# %% [markdown]
# # Tuning with Optuna · 用 Optuna 自动调参

# %% [markdown] lang="en"
# After this lesson you can write the tree-structured Parzen estimator in one dimension and get Optuna's proposals to the last
# digit, define a search space while it runs, prune hopeless trials, let several processes share one study, and say which
# options mattered. You need random search, halving and the winner's curse (09/09).

# %% [markdown] lang="zh"
# 学完本课，你能写出一维的树结构 Parzen 估计器（TPE），并与 Optuna 的提议逐位一致；
# 能边运行边定义搜索空间，剪掉没有希望的试验，让多个进程共享一个 study，并说出哪些选项重要。
# 先修：随机搜索、逐次减半与赢家诅咒（09/09）。

# %%
import math
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optuna
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.runtime.metric import Metric
from dlcommon.runtime.tuning import report
from dlcommon.training.pruning import median_prune, variance_shares
from dlcommon.training.tree_parzen import ParzenEstimator, bandwidths, good_count, propose, split, weights
from dlcommon.training.tuning_task import Networks, digits, train
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial
from sklearn.ensemble import RandomForestRegressor

optuna.logging.set_verbosity(optuna.logging.ERROR)

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Random search learns nothing. If the first twenty trials show that learning rates above 1 diverge, the twenty-first is as
# likely to lie there as the first was. A person would look at the list, see where the good ones lie, and try near them,
# with a look elsewhere now and then. How is that written down, for any number of knobs, some of which exist only if
# another is turned on?
#
# And then there is the work around it: trials that run side by side on several machines and must know of each other, trials
# that are stopped because they cannot win any more, a machine that is switched off in the middle.

# %% [markdown] lang="zh"
# 随机搜索什么也不学。前二十次试验如果表明大于 1 的学习率都会发散，第二十一次落在那里的可能性仍和第一次一样。
# 人会看一眼列表，看好的都在哪里，然后在附近再试，偶尔也看看别处。
# 怎样把这写成算法，而且适用于任意多个旋钮，其中有些只有在另一个打开时才存在？
#
# 此外还有周边的工作：试验在几台机器上并行，彼此要知道对方；不可能再赢的试验要停掉；某台机器中途关机。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Two densities.* A knob from 0 to 10. The good trials were at 1, 2 and 5, the bad ones at 7, 8 and 9. Put a bell curve
# on each; its width is the distance to the farther of its two neighbors, and at the ends to the only neighbor: 1, 3 and 3 for the
# good ones. But no width is below $10 / 5 = 2$, so it is 2, 3 and 3, and for the bad ones 2, 2 and 2. A fourth curve as wide as
# the span, the prior, keeps every place possible. At 2 the good ones have a density of 0.156, the bad ones 0.028: the ratio
# is 5.5. At 8 it is 0.27. Try 2 rather than 8.
#
# *The median rule.* At the second evaluation, finished trials had losses of 0.4, 0.5 and 0.9. Yours had 1.2, then 0.6. The
# best so far is 0.6, above the median 0.5: stop. With 0.45 at the first evaluation and 0.6 now, it goes on.
#
# *What mattered?* Two options with two values each; the losses are 1 and 3 in the first row, 2 and 4 in the second. The
# variance is 1.25. Means of the rows: 2 and 3, variance 0.25, a share of 20 %. Means of the columns: 1.5 and 3.5, variance
# 1, a share of 80 %. Together 100 %: no interaction. If the 4 were a 6, something would be left over.

# %% [markdown] lang="zh"
# *两个密度。* 一个从 0 到 10 的旋钮。好的试验在 1、2、5，差的在 7、8、9。在每个点上放一条钟形曲线，
# 宽度取到两个邻居中较远者的距离，两端的只取唯一的邻居：好的是 1、3、3。
# 但宽度不能小于 $10 / 5 = 2$，所以是 2、3、3，差的是 2、2、2。第四条曲线和整个范围一样宽，叫先验，使任何位置都有可能。
# 在 2 处，好的密度是 0.156，差的是 0.028：比值 5.5。在 8 处是 0.27。宁可试 2，不试 8。
#
# *中位数规则。* 第二次评估时，已完成的试验损失为 0.4、0.5、0.9。你的试验先是 1.2，再是 0.6。
# 目前最好的是 0.6，高于中位数 0.5：停止。如果第一次评估是 0.45，现在是 0.6，就继续。
#
# *哪个选项重要？* 两个选项各有两个值；第一行损失为 1 和 3，第二行为 2 和 4。方差是 1.25。
# 各行均值 2 和 3，方差 0.25，占 20 %。各列均值 1.5 和 3.5，方差 1，占 80 %。
# 合起来 100 %：没有交互作用。如果把 4 换成 6，就会有剩余。

# %%
by_hand = {"good": np.array([1.0, 2.0, 5.0]), "bad": np.array([7.0, 8.0, 9.0])}
densities = {name: ParzenEstimator(values, 0, 10) for name, values in by_hand.items()}
places = np.array([1.0, 2.0, 5.0, 8.0])
at_hand = {name: np.exp(density.log_density(places)) for name, density in densities.items()}
ratios = at_hand["good"] / at_hand["bad"]
table(
    ["x", "l(x), good", "g(x), bad", "l / g"],
    zip(places.tolist(), *(at_hand[n].tolist() for n in at_hand), ratios.tolist(), strict=True),
)
stopped = [median_prune([first, 0.6], [[0, 0.4], [0, 0.5], [0, 0.9]], startup=3) for first in (1.2, 0.45)]
small_shares, small_rest = variance_shares(np.array([[1.0, 3.0], [2.0, 4.0]]))
print(
    f"  the median rule: after 1.2 and 0.6 {'stop' if stopped[0] else 'go on'}, after 0.45 and 0.6 {'stop' if stopped[1] else 'go on'}"
)
print(f"  shares of the variance: {small_shares.round(2).tolist()}, left over {small_rest:.2f}")
x = np.linspace(0, 10, 300)
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for (name, density), color in zip(densities.items(), ("tab:blue", "tab:red"), strict=True):
    axis.plot(x, np.exp(density.log_density(x)), color=color, label=f"{name} trials")
    axis.plot(by_hand[name], np.zeros(3) - 0.008, "^", color=color)
    for mean, width, weight, inside in zip(density.means, density.widths, density.weights, density.inside, strict=True):
        kernel = weight / inside * np.exp(-(((x - mean) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
        axis.plot(x, kernel, ":", color=color, linewidth=0.8)
axis.set(xlabel="value of the knob", ylabel="density", title="Dotted: one kernel for each trial, and the wide prior")
axis.legend()
show(figure, "by-hand")

# %% [markdown]
# ## Formula · 公式
#
# $$l(x) = \frac{1}{n_l + 1} \Big( p(x) + \sum_{i \in \text{good}} \mathcal N_{[a,b]}(x;\, x_i, \sigma_i^2) \Big)$$
#
# $$\mathrm{EI}(x) \;\propto\; \left( \gamma + \frac{g(x)}{l(x)}\,(1 - \gamma) \right)^{-1}$$
#
# $$\text{stop if } \min_{s \le t} y_s \;>\; \mathrm{median}_j\, y^{(j)}_t$$
#
# $$\mathrm{Var}[f] = \sum_k V_k + V_{\text{interactions}}, \qquad V_k = \mathrm{Var}_{x_k}\big[\, \mathbb{E}[f \mid x_k] \,\big]$$

# %% [markdown] lang="en"
# - $l$, $g$: densities of the values of good trials and, likewise, of the bad ones, within the span from $a$ to $b$ (on a logarithmic scale,
#   of the logarithms).
# - $n_l$: the number of good trials, a tenth of all, rounded up, at most 25 (Optuna's choice); $\gamma$: their share.
# - $\sigma_i$: the width of the kernel at $x_i$, from its neighbors; $p$: the prior, a normal density at the middle, as wide as
#   the span. All are cut off at $a$ and $b$ and divided by what is left within.
# - $\mathrm{EI}$: the expected improvement over the loss that separates both kinds (Bergstra et al. 2011, section 4.1): it
#   rises with $l / g$, so whatever maximizes the ratio maximizes it. No model of the loss itself is needed.
# - $y_s$: the loss of this trial at evaluation $s$, $t$ the present one; $y^{(j)}$: that of finished trial $j$ (Golovin et al.
#   2017 have the same rule with averages of curves).
# - $V_k$: the variance that option $k$ explains alone, $\mathbb{E}[f \mid x_k]$ the mean loss at one value of it over all values
#   of the others (Hutter et al. 2014; they get $f$ from a random forest fitted to the trials).

# %% [markdown] lang="zh"
# - $l$、$g$：好试验的值的密度，和同样得出的差试验的值的密度，限制在从 $a$ 到 $b$ 的范围内（对数尺度时，取的是对数的密度）。
# - $n_l$：好试验的个数，取全部的十分之一，向上取整，最多 25（Optuna 的选择）；$\gamma$：它们的份额。
# - $\sigma_i$：$x_i$ 处核的宽度，由邻居决定；$p$：先验，中心在正中、和范围一样宽的正态密度。
#   所有核都在 $a$ 和 $b$ 处截断，再除以剩在里面的质量。
# - $\mathrm{EI}$：相对于分开两类的那个损失的期望改进（Bergstra 等 2011，第 4.1 节）：
#   它随 $l / g$ 增大，所以使比值最大的就使它最大。不需要对损失本身建模。
# - $y_s$：本次试验在第 $s$ 次评估的损失，$t$ 是当前这次；$y^{(j)}$：已完成的试验 $j$ 的损失（Golovin 等 2017 有同样的规则，用的是曲线的平均）。
# - $V_k$：选项 $k$ 单独解释的方差（Hutter 等 2014，他们的 $f$ 来自对试验拟合的随机森林）；
#   $\mathbb{E}[f \mid x_k]$：它取某个值时，对其他选项所有取值的平均损失。

# %% [markdown]
# ## Code · 代码

# %%
source(bandwidths)
source(ParzenEstimator)
source(propose)
source(median_prune)
source(variance_shares)

# %% [markdown] lang="en"
# `log_density` compares every x with every kernel, `[n, kernels]`, and adds up in logarithms, since far from all kernels a
# density underflows. `sample` draws a kernel by its weight and then a share of the mass that it has *within* the span; the
# inverse normal distribution function turns that into a value, so that none has to be rejected.
#
# `propose` draws 24 candidates from $l$, not from the whole span: where $l$ is dense, the good ones lie. Among them the ratio
# decides. That the best of only 24 is taken, and not the maximum, keeps it exploring. With few trials $l$ is mostly
# prior, and the proposals are wide.

# %% [markdown] lang="zh"
# `log_density` 把每个 x 与每个核比较，`[n, kernels]`，用对数求和，因为远离所有核的地方密度会下溢。
# `sample` 按权重抽一个核，再在它位于范围*之内*的质量里抽一个份额；正态分布函数的反函数把它变成值，这样就没有要丢弃的。
#
# `propose` 从 $l$ 而不是从整个范围抽 24 个候选：$l$ 密的地方就是好试验所在。候选之中由比值决定。
# 只取 24 个里最好的，而不取真正的最大值，正是它保持好奇的原因。试验还少时 $l$ 大部分是先验，提议就很分散。

# %% [markdown]
# ## Experiment: does it learn? · 实验：它在学习吗？

# %% [markdown] lang="en"
# The task of 09/09, with wide ranges: learning rates from $10^{-5}$ to 100, weight decay up to 1, initial weights from a hundredth
# to ten times the usual; and momentum, which is a knob only if the optimizer has any. Optuna defines a space *by running*:
# `suggest_float` in the midst of ordinary code is what declares a knob, so that `if` makes it conditional.
#
# Ten studies by TPE, ten by random search, 30 trials each. `ask` and `tell` leave the loop in our hands: all twenty studies
# are asked, their twenty settings trained side by side, and the results told. `study.optimize(objective)` is the same loop for
# one.

# %% [markdown] lang="zh"
# 仍是 09/09 的任务，但范围很宽：学习率从 $10^{-5}$ 到 100，权重衰减最大 1，初始权重从通常的百分之一到十倍；
# 还有动量，只有当优化器带动量时才是一个旋钮。Optuna 的空间是*边运行边定义*的：
# 普通代码中的一句 `suggest_float` 就声明了一个旋钮，用 `if` 就能让它有条件地存在。
#
# 十个 TPE 的 study，十个随机搜索的 study，各 30 次试验。`ask` 和 `tell` 把循环留在我们手里：
# 向二十个 study 各要一组设置，把二十组并排训练，再把结果告诉它们。`study.optimize(objective)` 就是单个 study 的同样循环。

# %%
quiz(
    "good ones",
    en="Of the last 15 trials of random search, 7 % have an error below 10 %. How many percent of TPE's?",
    zh="随机搜索的后 15 次试验中，7 % 的错误率低于 10 %。TPE 的是百分之几？",
)

# %%
STUDIES, TRIALS = 10, 30
EVALUATED = np.arange(3, 28, 3)
"""Units after which a training is evaluated."""
trained_on, held_out = digits()
validation, test = held_out.part(slice(300)), held_out.part(slice(300, None))


def suggest(trial: optuna.Trial) -> dict[str, float]:
    """Asks for a setting; declares the space by doing so."""
    setting = {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 100, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1, log=True),
        "init_scale": trial.suggest_float("init_scale", 0.01, 10, log=True),
    }
    if trial.suggest_categorical("optimizer", ["sgd", "momentum"]) == "momentum":
        setting["momentum"] = trial.suggest_float("momentum", 0.1, 0.9)
    return setting


def follow(settings: list[dict[str, float]], seed: int) -> tuple[np.ndarray, Networks]:
    """Trains all settings; returns validation errors at each evaluation, [evaluations, settings], and the networks."""
    curves = []
    for spent, networks in enumerate(train(settings, trained_on, seed), start=1):
        if spent in EVALUATED:
            curves.append(networks.error(validation))
    return np.array(curves), networks


SAMPLERS = {"TPE": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
studies = {
    name: [optuna.create_study(sampler=SAMPLERS[name](seed=seed)) for seed in range(STUDIES)] for name in SAMPLERS
}
both = [study for name in SAMPLERS for study in studies[name]]
curves = np.zeros((TRIALS, len(EVALUATED), len(both)))
tested = np.zeros((TRIALS, len(both)))
for number in range(TRIALS):
    trials = [study.ask() for study in both]
    curves[number], networks = follow([suggest(trial) for trial in trials], seed=number)
    tested[number] = networks.error(test)
    for study, trial, error in zip(both, trials, curves[number, -1], strict=True):
        study.tell(trial, float(error))
validated = curves[:, -1]  # [trials, studies]
of = {"TPE": slice(0, STUDIES), "random": slice(STUDIES, None)}
best_so_far = np.array([
    tested[validated[:count].argmin(axis=0), np.arange(len(both))] for count in range(1, TRIALS + 1)
])  # fmt: skip
good = {name: (tested[TRIALS // 2 :, of[name]] < 0.1).mean() for name in of}
settle("good ones", 100 * good["TPE"], tolerance=0.3)
table(
    ["sampler", "good ones among the last 15", "test error of the chosen: mean", "best of 10", "worst of 10"],
    [
        (name, f"{good[name]:.0%}", *(f"{v:.1%}" for v in (chosen.mean(), chosen.min(), chosen.max())))
        for name in of
        for chosen in (best_so_far[-1, of[name]],)
    ],
)

figure, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
for axis, name in zip(axes, of, strict=False):
    for number in range(TRIALS):
        rates = [study.trials[number].params["learning_rate"] for study in studies[name]]
        axis.scatter([number] * STUDIES, rates, c=tested[number, of[name]], cmap="viridis_r", vmin=0, vmax=0.9, s=12)
    axis.set(yscale="log", xlabel="trial", ylabel="learning rate", title=f"{name}: ten studies (dark: a large error)")
for name, color in zip(of, ("tab:blue", "tab:orange"), strict=True):
    part = best_so_far[:, of[name]]
    axes[2].plot(range(1, TRIALS + 1), part.mean(axis=1), color=color, label=f"{name}, mean")
    axes[2].fill_between(range(1, TRIALS + 1), part.min(axis=1), part.max(axis=1), color=color, alpha=0.15)
axes[2].set(
    yscale="log", xlabel="trials", ylabel="test error of the best so far", title="the band: from best to worst of ten"
)
axes[2].set_yticks([0.05, 0.1, 0.2, 0.5, 0.9], ["0.05", "0.1", "0.2", "0.5", "0.9"])
axes[2].legend()
show(figure, "tpe-and-random")

# %% [markdown] lang="en"
# The first ten trials of TPE are random (`n_startup_trials`). Then its points gather where errors are small, and some of
# them still go elsewhere. Its gain is mainly *insurance*: the worst of ten studies is far less bad. The best studies gain nothing:
# 30 random trials may be lucky as well, and at errors near 5 % seeds differ by more than settings do (09/09).
# Expect little of TPE in twenty trials, and in spaces of many knobs.

# %% [markdown] lang="zh"
# TPE 的前十次试验是随机的（`n_startup_trials`）。之后它的点聚到错误率低的地方，但仍有一些去别处。
# 它带来的主要是*保险*：十个 study 中最差的那个远没有那么差。
# 最好的 study 则没有什么可多得的：30 次随机试验也可能走运，而错误率在 5 % 附近时种子之间的差别大于设置之间的（09/09）。
# 试验只有二十次，或旋钮很多时，不要对 TPE 期望过高。

# %% [markdown]
# ## Experiment: prune · 实验：剪枝

# %% [markdown] lang="en"
# The 300 random trials have curves of nine evaluations. We replay 60 of them in random order, twenty times: each is ended
# by the median rule as soon as it is worse than half of the finished ones; the first five and the first evaluation are
# spared. What is saved, and is the best one lost?

# %% [markdown] lang="zh"
# 300 次随机试验各有九次评估的曲线。我们按随机次序重放其中 60 次，共二十遍：
# 一旦比一半已完成的试验差，就按中位数规则结束；前五次试验和第一次评估不剪。节省了多少，最好的那次会不会丢？

# %%
quiz(
    "spent",
    en="What percentage of the units is still trained under the median rule?",
    zh="用中位数规则，还要训练百分之几的单位？",
)

# %%
pool = curves[:, :, of["random"]].transpose(0, 2, 1).reshape(-1, len(EVALUATED))  # [300 trials, evaluations]
random = np.random.default_rng(0)


def replay(order: np.ndarray) -> tuple[list[int], list[list[float]]]:
    """Runs trials under the median rule; returns the evaluations that each reached, and the curves of the finished."""
    reached, finished = [], []
    for number in order:
        curve = pool[number].tolist()
        ends = (step for step in range(1, len(curve) + 1) if median_prune(curve[:step], finished, startup=5, warmup=1))
        reached.append(next(ends, len(curve)))
        if reached[-1] == len(curve):
            finished.append(curve)
    return reached, finished


spent, lost = [], []
for _ in range(20):
    order = random.permutation(len(pool))[:60]
    reached, finished = replay(order)
    spent.append(sum(reached) / (60 * len(EVALUATED)))
    lost.append(min(curve[-1] for curve in finished) - pool[order, -1].min())
settle("spent", 100 * float(np.mean(spent)), tolerance=0.2)
table(
    ["60 trials", "units trained", "least", "most", "replays in which the best is lost"],
    [
        (
            "median rule",
            *(f"{value:.0%}" for value in (np.mean(spent), min(spent), max(spent))),
            f"{np.count_nonzero(lost)} of 20",
        )
    ],
)

# %% [markdown] lang="en"
# More than half of the work is saved, and the winner stays. Pruning is halving without rounds (09/09): it decides about each
# trial when it gets there, compared with whatever has been finished by then. Optuna's `SuccessiveHalvingPruner` (ASHA) asks
# whether a trial is among the best fraction of those that reached the same rung, and its `HyperbandPruner` deals trials
# to brackets. All of them share halving's weakness: a slow starter is lost.

# %% [markdown] lang="zh"
# 省下了一半以上的工作，胜者也还在。剪枝就是没有轮次的减半（09/09）：试验到哪里就在哪里决定，与当时已完成的相比。
# Optuna 的 `SuccessiveHalvingPruner`（ASHA）问一次试验在到达同一级的试验中是否属于最好的那一部分，
# `HyperbandPruner` 则把试验分到几个组里。它们都有减半的弱点：起步慢的会丢掉。

# %% [markdown]
# ## Experiment: two processes, one study · 实验：两个进程，一个 study

# %% [markdown] lang="en"
# A study lives in a storage: in memory, in a journal file, in SQLite, in PostgreSQL or MySQL. Whoever opens the same storage
# under the same name takes part: it asks for a trial, tells the result, and sees what all others have told. Here are two
# processes and a journal file, to which each appends a line for whatever it does, under a lock. A short sleep stands for the
# training. Running trials of the other process count as bad ones (`constant_liar`), so that both do not try the same.

# %% [markdown] lang="zh"
# study 存放在一个存储里：内存、日志文件、SQLite、PostgreSQL 或 MySQL。
# 谁用同样的名字打开同一个存储，谁就参与：要一次试验，告诉结果，并看到其他人告诉过的一切。
# 这里是两个进程和一个日志文件，每做一件事就在锁的保护下追加一行。用短暂的睡眠代替训练。
# 对方正在运行的试验算作差的（`constant_liar`），免得两边试同一处。

# %%
WORKER = """
import math, sys, time
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.ERROR)
path, worker = sys.argv[1], int(sys.argv[2])
sampler = optuna.samplers.TPESampler(seed=worker, n_startup_trials=4)
study = optuna.load_study(study_name="shared", storage=JournalStorage(JournalFileBackend(path)), sampler=sampler)
study.set_user_attr(f"worker {worker} is ready", True)
while len(study.user_attrs) < 2:  # neither begins before the other is there
    time.sleep(0.01)

def objective(trial):
    trial.set_user_attr("worker", worker)
    rate = trial.suggest_float("learning_rate", 1e-5, 1, log=True)
    time.sleep(0.03)
    return (math.log10(rate) + 2) ** 2

study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(16)])
"""
with tempfile.TemporaryDirectory() as folder:
    journal = str(Path(folder) / "study.log")
    shared = optuna.create_study(study_name="shared", storage=JournalStorage(JournalFileBackend(journal)))
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, journal, str(number)]) for number in (1, 2)]
    try:
        codes = [worker.wait(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()  # does nothing to one that has ended
    shared_trials, shared_best = shared.get_trials(), shared.best_params["learning_rate"]
    lines = Path(journal).read_text(encoding="utf-8").count("\n")
by_worker = [[trial.number for trial in shared_trials if trial.user_attrs["worker"] == number] for number in (1, 2)]
for number, numbers in enumerate(by_worker, start=1):
    print(f"  worker {number} ran trials {', '.join(map(str, numbers))}")
print(f"  {len(shared_trials)} trials, best learning rate {shared_best:.3g}, {lines} lines of journal")

# %% [markdown] lang="en"
# No number twice, none left out, and the study may end with one trial more than asked for: each process stops when it sees
# 16 finished ones, and the other may be in the middle of one. A process that is killed leaves a trial that runs forever;
# somebody has to notice. Optuna has heartbeats for databases; the `tune` of this repository notes host, process and time of
# each trial, and whoever finds an owner gone takes its trial over and resumes it from its checkpoint.

# %% [markdown] lang="zh"
# 没有编号重复，也没有遗漏；study 可能比要求的多一次试验：每个进程看到 16 次完成就停，而另一个可能正做到一半。
# 被杀掉的进程会留下一次永远在运行的试验，必须有人发现。Optuna 对数据库有心跳机制；
# 本仓库的 `tune` 记下每次试验的主机、进程和时间，谁发现主人不在了，就接管它的试验，从检查点续训。

# %% [markdown]
# ## Experiment: what mattered? · 实验：哪些选项重要？

# %% [markdown] lang="en"
# Back to the trials by random search. fANOVA fits a random forest to them, since no full table of losses exists, and splits
# the variance of each tree. We do it on a grid of the four knobs that all trials have. The pictures are those that `tune`
# puts into its report (`dlcommon.runtime.tuning.report`); Optuna's own are in `optuna.visualization`, for Plotly and for
# matplotlib.

# %% [markdown] lang="zh"
# 回到随机搜索的试验。没有完整的损失表，所以 fANOVA 用随机森林拟合它们，再分解每棵树的方差。
# 我们在所有试验都有的四个旋钮的网格上做。下面的图就是 `tune` 放进报告的图（`dlcommon.runtime.tuning.report`）；
# Optuna 自带的图在 `optuna.visualization` 里，有 Plotly 和 matplotlib 两种。

# %%
KNOBS = ("learning_rate", "weight_decay", "init_scale", "optimizer")
merged = optuna.create_study()
for study in studies["random"][:5]:
    merged.add_trials(study.trials)


def coordinates(trial: optuna.trial.FrozenTrial) -> list[float]:
    """Returns the logarithms of a trial's numbers, and 0 or 1 for its optimizer."""
    return [*(math.log10(trial.params[name]) for name in KNOBS[:3]), float(trial.params["optimizer"] == "momentum")]


points = np.array([coordinates(trial) for trial in merged.trials])  # [trials, knobs]
losses = np.array([trial.value for trial in merged.trials])
forest = RandomForestRegressor(50, random_state=0).fit(points, losses)
cells = (np.arange(15) + 0.5) / 15
sides = [low + cells * (high - low) for low, high in ((-5, 2), (-6, 0), (-2, 1))] + [np.array([0.0, 1.0])]


def explained(model: RandomForestRegressor, sides: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Splits the variance of each tree's losses on the grid of these values; returns the means over the trees."""
    places = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(sides))
    tables = [tree.predict(places).reshape([len(side) for side in sides]) for tree in model.estimators_]
    shares, rests = zip(*map(variance_shares, tables), strict=True)
    return np.mean(shares, axis=0), float(np.mean(rests))


main_effects, interactions = explained(forest, sides)
ours = dict(zip(KNOBS, main_effects / main_effects.sum(), strict=True))
fanova = report.importances(merged)  # what the report of `tune` holds: Optuna's evaluator, given logarithms
evenly = optuna.importance.get_param_importances(merged, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
table(
    ["share of the main effects", *KNOBS],
    [
        ("ours, on a grid", *(f"{ours[name]:.0%}" for name in KNOBS)),
        ("Optuna's fANOVA, of the logarithms", *(f"{fanova[name]:.0%}" for name in KNOBS)),
        ("Optuna's fANOVA as it is", *(f"{evenly[name]:.0%}" for name in KNOBS)),
    ],
)
print(f"  share of the whole variance that only interactions explain: {interactions:.0%}")
METRIC = Metric("validation_error", "minimize", unit="plain")
show(report.history_figure(studies["TPE"][0], METRIC), "history")
show(report.options_figure(report.finished(merged), list(KNOBS), METRIC), "options")

# %% [markdown] lang="en"
# Read shares with care. Optuna's evaluator weighs the values of an option evenly, also where it was searched by its
# logarithm: for it, nine tenths of the learning rates lie between 10 and 100, where nothing learns and other options seem to matter.
# The report of `tune` therefore hands it logarithms. And shares say how much an option moved the loss *over the range that
# was searched*: a range of seven factors of ten makes the learning rate important, since most of it is bad. A narrow range around the best value makes the
# same option unimportant. And an interaction says that no option can be chosen by itself.

# %% [markdown] lang="zh"
# 读这些份额要小心。Optuna 的评估器把一个选项的所有值等权看待，即使它是按对数搜索的：
# 在它看来，十分之九的学习率在 10 到 100 之间，那里什么也学不会，于是别的选项显得重要。所以 `tune` 的报告交给它的是对数。
# 另外，份额说的是*在搜索过的范围内*一个选项使损失变化了多少：七个十倍的范围使学习率显得重要，因为其中大部分都很差；
# 如果只在最好的值附近取很窄的范围，同一个选项就变得不重要。有交互作用，则说明不能单独选定某个选项。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Optuna's `TPESampler` is given the same twelve trials and the same seed as our `propose`, on a logarithmic scale. Both then make
# five proposals, one after the other. Our median rule and Optuna's `MedianPruner` judge the same curves.

# %% [markdown] lang="zh"
# 给 Optuna 的 `TPESampler` 和我们的 `propose` 同样的十二次试验和同样的种子，对数尺度。两者先后各提出五个提议。
# 我们的中位数规则和 Optuna 的 `MedianPruner` 评判同样的曲线。

# %%
SPAN = FloatDistribution(1e-5, 100, log=True)
known = studies["random"][0].trials[:12]
same_trials = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=7, n_startup_trials=0))
for trial in known:
    same_trials.add_trial(
        create_trial(params={"rate": trial.params["learning_rate"]}, distributions={"rate": SPAN}, value=trial.value)
    )
tried = np.log([trial.params["learning_rate"] for trial in known])
their_losses = np.array([trial.value for trial in known])
generator = np.random.RandomState(7)
proposals: dict[str, list[float]] = {"ours": [], "Optuna's": []}
for _ in range(5):
    proposals["ours"].append(propose(tried, their_losses, math.log(1e-5), math.log(100), generator))
    asked = same_trials.ask()
    proposals["Optuna's"].append(math.log(asked.suggest_float("rate", 1e-5, 100, log=True)))
    loss = (proposals["Optuna's"][-1] - math.log(0.1)) ** 2
    same_trials.tell(asked, loss)
    tried, their_losses = np.append(tried, proposals["ours"][-1]), np.append(their_losses, loss)
table(
    ["proposal", *range(1, 6)], [(name, *(math.exp(value) for value in values)) for name, values in proposals.items()]
)

pruned_by_optuna = []
judging = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1))
for curve in pool[:25]:
    judged = judging.ask()
    for step, error in enumerate(curve):
        judged.report(float(error), step)
        if judged.should_prune():
            break
    pruned_by_optuna.append(step + 1)
    judging.tell(judged, state=optuna.trial.TrialState.PRUNED if step + 1 < len(curve) else None, values=(
        None if step + 1 < len(curve) else float(curve[-1])
    ))  # fmt: skip

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: widths 2, 3, 3 and the prior's 10", densities["good"].widths, [2, 3, 3, 10])
check_close("by hand: densities at 2", [at_hand["good"][1], at_hand["bad"][1]], [0.156, 0.028], 1e-3)
check_close("by hand: the ratio at 2 and at 8", ratios[[1, 3]], [5.54, 0.27], 1e-2)
check("by hand: 1.2 and 0.6 is stopped, 0.45 and 0.6 is not", stopped == [True, False])
check_close("by hand: 20 % and 80 %, nothing left over", [*small_shares, small_rest], [0.2, 0.8, 0.0])
check_close("our five proposals are Optuna's", proposals["ours"], proposals["Optuna's"], 1e-6)
check_close("our median rule ends the same trials at the same step", replay(np.arange(25))[0], pruned_by_optuna)
check("TPE tries good settings at least twice as often", good["TPE"] > 2 * good["random"])
check(
    "its worst study of ten is far less bad",
    best_so_far[-1, of["TPE"]].max() < 0.7 * best_so_far[-1, of["random"]].max(),
)
check("its mean is lower", best_so_far[-1, of["TPE"]].mean() < best_so_far[-1, of["random"]].mean())
check("the median rule saves more than a third of the units in every replay", max(spent) < 0.67)
check("the best of 60 is lost in two replays of twenty at most", np.count_nonzero(lost) <= 2)
check("both processes ended well and both ran trials", codes == [0, 0] and all(by_worker))
check(
    "together they ran each number once, and at most one more than asked for",
    sorted(by_worker[0] + by_worker[1]) == list(range(len(shared_trials))) and 16 <= len(shared_trials) <= 17,
)
check_close(
    "shares of the main effects agree with Optuna's fANOVA", [ours[n] for n in KNOBS], [fanova[n] for n in KNOBS], 0.05
)
check(
    "the learning rate matters most, by both", max(ours, key=ours.get) == max(fanova, key=fanova.get) == "learning_rate"
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `uv run --package char-lm tune --trials 40 --jobs 2` searches the space that the capstone declares in its `config.py`. Each
# trial is `char-lm train …` in a process and a folder of its own, followed by its log: the validation figure of every
# evaluation goes to `trial.report`, and a trial that the median rule ends gets SIGTERM. The first line says capstone, data and
# how many trials there are already. Each trial that ends has a line of its own: its figure, or `pruned`, or why it failed; the
# best so far; its settings. At the end comes the report, with the importance of options and the curves, and the command that
# trains with the best settings. The study is a SQLite file, so that the same command goes on after Ctrl-C;
# `--storage postgresql+psycopg://HOST/NAME` on several machines makes them share it. An option that is given, such as
# `--epochs 2`, is the same in every trial. The first trial is the recipe as it is.
#
# Papers: [Bergstra et al. 2011](https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization), TPE;
# [Watanabe 2023](https://arxiv.org/abs/2304.11127), its parts explained; [Akiba et al. 2019](https://arxiv.org/abs/1907.10902),
# Optuna; [Golovin et al. 2017](https://doi.org/10.1145/3097983.3098043), Vizier and its median rule;
# [Hutter et al. 2014](https://proceedings.mlr.press/v32/hutter14.html), fANOVA. With this the phase of training techniques ends;
# next: detection, 10/01.

# %% [markdown] lang="zh"
# `uv run --package char-lm tune --trials 40 --jobs 2` 搜索该项目在 `config.py` 里声明的空间。
# 每次试验就是一个独立进程、独立文件夹里的 `char-lm train …`，`tune` 跟踪它的日志：
# 每次评估的验证数值交给 `trial.report`，被中位数规则结束的试验收到 SIGTERM。
# 第一行说明项目、数据和已有的试验次数。每次试验结束各有一行：它的数值，或 `pruned`，或失败原因；目前最好的；它的设置。
# 最后是报告，含各选项的重要性和曲线，以及用最好的设置训练的命令。
# study 是一个 SQLite 文件，所以 Ctrl-C 之后用同一条命令就能继续；
# 在几台机器上用 `--storage postgresql+psycopg://HOST/NAME`，它们就共享同一个 study。
# 在命令行给出的选项（如 `--epochs 2`）在每次试验中都相同。第一次试验就是现有的配方。
#
# 论文：[Bergstra 等 2011](https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization)，TPE；
# [Watanabe 2023](https://arxiv.org/abs/2304.11127)，逐项解释它的组成；[Akiba 等 2019](https://arxiv.org/abs/1907.10902)，Optuna；
# [Golovin 等 2017](https://doi.org/10.1145/3097983.3098043)，Vizier 及其中位数规则；
# [Hutter 等 2014](https://proceedings.mlr.press/v32/hutter14.html)，fANOVA。训练技巧这一阶段到此结束；下一课：目标检测，10/01。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `good_count`, `weights`, `bandwidths`, `ParzenEstimator`, `split` and `propose` yourself.
# `uv run lesson exercise 09/10` makes a file with their signatures, `uv run lesson check 09/10` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `good_count`、`weights`、`bandwidths`、`ParzenEstimator`、`split` 和 `propose`。
# `uv run lesson exercise 09/10` 生成带有签名的文件，`uv run lesson check 09/10` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Weights: beyond 25 trials, the older ones get `np.linspace(1 / n, 1, n - 25)`; then 25 ones; then a one for the prior.
#    Divide by the sum.
# 2. Widths: sort, put `low` and `high` at the ends, take `np.diff`; each value lies between two gaps. The first and the last
#    value use the inner gap only, if there are two values. Clip between `(high - low) / min(100, 2 + n)` and the span's length,
#    and undo the sorting with `clipped[order] = …`.
# 3. `log_density`: `logsumexp` of the log kernels with `b=weights`; subtract the logarithm of each kernel's mass within the
#    span.
# 4. `sample`: first all kernels with one `random.choice`, then all shares with one `random.uniform`: the order of draws must be
#    kept, else the generators differ. `ndtri(below + share * inside)` is the standardized value.
# 5. `split`: `np.argsort(losses, kind="stable")`, a mask, and both parts in the order of the trials: weights depend on age.

# %% [markdown] lang="zh"
# 1. 权重：超过 25 次时，较旧的取 `np.linspace(1 / n, 1, n - 25)`；然后 25 个 1；最后给先验一个 1。除以总和。
# 2. 宽度：排序，两端放上 `low` 和 `high`，取 `np.diff`；每个值位于两个间隔之间。有两个以上的值时，第一个和最后一个只用靠里的间隔。
#    限制在 `(high - low) / min(100, 2 + n)` 与范围长度之间，再用 `clipped[order] = …` 还原次序。
# 3. `log_density`：对数核的 `logsumexp`，`b=weights`；减去每个核在范围内质量的对数。
# 4. `sample`：先用一次 `random.choice` 抽所有的核，再用一次 `random.uniform` 抽所有份额：抽取的次序必须一致，否则生成器的状态不同。
#    `ndtri(below + share * inside)` 就是标准化的值。
# 5. `split`：`np.argsort(losses, kind="stable")`，一个掩码，两部分都保持试验的次序：权重取决于新旧。


# %%
@exercise(good_count, weights, bandwidths, ParzenEstimator.log_density, ParzenEstimator.sample, split, propose)
def judge(yours, reference):
    for trials in (0, 1, 10, 11, 249, 1000):
        check(f"good_count({trials})", yours.good_count(trials) == reference.good_count(trials))
    for trials in (0, 3, 25, 26, 80):
        check_close(f"weights({trials}) sum to 1", np.sum(yours.weights(trials)), 1)
        check_close(f"weights({trials})", yours.weights(trials), reference.weights(trials))
    random = np.random.default_rng(0)
    for count in (0, 1, 2, 7, 120):
        values = random.uniform(-2, 6, count)
        check_close(
            f"bandwidths of {count} values", yours.bandwidths(values, -2, 6), reference.bandwidths(values, -2, 6)
        )
    values, x = random.uniform(-2, 6, 9), np.linspace(-2, 6, 40)
    mine, theirs = (each.ParzenEstimator(values, -2, 6) for each in (yours, reference))
    check_close("log_density", mine.log_density(x), theirs.log_density(x))
    far = reference.ParzenEstimator(np.full(60, -2.0), -2, 6)
    again = yours.ParzenEstimator(np.full(60, -2.0), -2, 6)
    check_close("log_density far from all values", again.log_density(x), far.log_density(x))
    check_close("sample", *(each.sample(30, np.random.default_rng(1)) for each in (mine, theirs)))
    losses = random.permutation(25).astype(float) // 2
    tried = random.uniform(-2, 6, 25)
    for part, my_part, their_part in zip(
        ("good", "bad"), yours.split(tried, losses), reference.split(tried, losses), strict=True
    ):
        check_close(f"split: the {part} ones", my_part, their_part)
    for seed in range(3):
        proposed = [each.propose(tried, losses, -2, 6, np.random.RandomState(seed)) for each in (yours, reference)]
        check_close(f"propose with seed {seed}", *proposed)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### How does TPE choose the next setting? · TPE 怎样选择下一组设置？

# %% [markdown] lang="en"
# It splits past trials by loss into a small good part and the rest, estimates a density of the settings for each, $l$ and
# $g$, draws candidates from $l$ and takes the one with the largest $l / g$. That ratio grows with the expected improvement.
# Gaussian processes model the loss given the setting, $p(y \mid x)$; TPE models $p(x \mid y)$, which is cheap, handles conditional and
# categorical options, and needs no covariance matrix.

# %% [markdown] lang="zh"
# 它按损失把过去的试验分成一小部分好的和其余，各估计一个设置的密度 $l$ 和 $g$，从 $l$ 抽候选，取 $l / g$ 最大的。
# 这个比值随期望改进增大。高斯过程对给定设置的损失 $p(y \mid x)$ 建模；TPE 对 $p(x \mid y)$ 建模，
# 这很便宜，能处理有条件的和类别型的选项，也不需要协方差矩阵。

# %%
good_part, bad_part = split(tried, their_losses)
print(f"  of {len(tried)} trials {len(good_part)} count as good; learning rates {np.exp(good_part).round(3).tolist()}")

# %% [markdown]
# ### Where does TPE explore? · TPE 的探索从哪里来？

# %% [markdown] lang="en"
# From the prior kernel, which has as much weight as one trial and is as wide as the span; from wide kernels, where trials are
# few; from sampling the candidates instead of maximizing; and from the first, random trials. With many trials the prior's
# weight becomes small, and it exploits.

# %% [markdown] lang="zh"
# 来自先验核，它的权重等于一次试验，宽度等于整个范围；来自试验稀疏处较宽的核；
# 来自候选是抽样而不是求最大；也来自开头的随机试验。试验多了以后先验的权重变小，就偏向利用。

# %%
for count in (0, 3, 24, 200):
    print(f"  the prior's weight beside {count} trials: {weights(count)[-1]:.1%}")

# %% [markdown]
# ### What does define-by-run mean for a search space? · 搜索空间的“边运行边定义”是什么意思？

# %% [markdown] lang="en"
# The space is not declared beforehand; each `suggest_…` call while a trial runs declares an option and returns its value. So
# loops and conditions of the language make dynamic spaces: the widths of as many layers as another option says, momentum only
# for an optimizer that has it. The price: samplers see a space only through past trials, and an option that only some
# trials have is sampled by itself rather than jointly.

# %% [markdown] lang="zh"
# 空间不是事先声明的；试验运行时每次 `suggest_…` 调用都声明一个选项并返回它的值。
# 于是语言本身的循环和条件就构成动态空间：层数由另一个选项决定时的各层宽度，只有带动量的优化器才有的动量。
# 代价是：采样器只能从过去的试验看到空间，只有部分试验才有的选项会被单独而不是联合地采样。

# %%
having = [trial for trial in merged.trials if "momentum" in trial.params]
print(f"  {len(having)} of {len(merged.trials)} trials have the option momentum; all of them: ", end="")
print({trial.params["optimizer"] for trial in having})

# %% [markdown]
# ### When is pruning dangerous? · 剪枝什么时候危险？

# %% [markdown] lang="en"
# When early figures do not predict late ones: long warm-up, small learning rates, schedules whose drop comes late,
# objectives that are noisy at first. Also when trials differ in what one step means, as with other batch sizes, or when the
# metric reported is not the one that counts. Give it a warm-up and some startup trials, report at equal amounts of
# training, or compare averaged curves.

# %% [markdown] lang="zh"
# 早期数值不能预示后期时：长预热、小学习率、很晚才下降的调度、开头噪声大的目标。
# 还有各次试验“一步”的含义不同（如批大小不同），或上报的指标不是真正要的指标时。
# 应设预热步数和若干起始试验，在相同训练量处上报，或比较平滑后的曲线。

# %%
for warmup in (0, 1, 3):
    ended = [
        next((s for s in range(1, 10) if median_prune(pool[n, :s].tolist(), pool[60:90].tolist(), 5, warmup)), 9)
        for n in range(60)
    ]
    kept = np.flatnonzero(np.array(ended) == 9)
    print(
        f"  warm-up {warmup}: {sum(ended) / 540:.0%} of the units, best kept {pool[kept, -1].min():.1%}, best of all {pool[:60, -1].min():.1%}"
    )

# %% [markdown]
# ### How do several machines work on one study? · 几台机器怎样共同做一个 study？

# %% [markdown] lang="en"
# Through a shared storage: a database server, for one machine a SQLite file, on a network file system a journal file, since
# SQLite's locks are not reliable there. Workers are equal, there is no master: each reads all trials, proposes by itself and
# writes its own. Running trials are treated as bad ones so that proposals spread. Dead workers are found by heartbeat or by
# owner, and their trials put back. More workers in parallel mean less information for each proposal: a hundred trials at a
# time are nearly random search.

# %% [markdown] lang="zh"
# 通过共享存储：数据库服务器；单机用 SQLite 文件；网络文件系统上用日志文件，因为 SQLite 的锁在那里不可靠。
# 各个 worker 平等，没有主节点：各自读取所有试验，自己提议，写自己的。正在运行的试验当作差的，使提议分散开。
# 死掉的 worker 靠心跳或所有者信息发现，它的试验放回队列。
# 并行的 worker 越多，每次提议依据的信息越少：同时跑一百个试验就几乎是随机搜索。

# %%
switches = sum(a.user_attrs["worker"] != b.user_attrs["worker"] for a, b in pairwise(shared_trials))
print(f"  the two workers took turns {switches} times in {len(shared_trials)} trials")

# %% [markdown]
# ### What does an importance of 60 % say, and what not? · 重要性 60 % 说明什么，不说明什么？

# %% [markdown] lang="en"
# That over the searched range, and averaged over the other options, this option explains 60 % of the variance (of the main
# effects, if shares are normalized) of a model fitted to the trials. It does not say that the default is bad, nor that
# tuning it brings 60 %; it depends on the range, on where the trials lie (a sampler that has converged has seen little
# else), and it leaves interactions out.

# %% [markdown] lang="zh"
# 它说明：在搜索过的范围内，对其他选项取平均，该选项解释了拟合模型方差的 60 %（若份额已归一化，则是主效应方差的 60 %）。
# 它不说明默认值不好，也不说明调它能带来 60 %；它取决于范围，取决于试验分布在哪里（收敛后的采样器很少看别处），并且没有计入交互作用。

# %%
inner = np.abs(points[:, 0] + 0.9) < 0.7  # learning rates from 0.025 to 0.63
narrow = RandomForestRegressor(50, random_state=0).fit(points[inner], losses[inner])
narrow_shares, _ = explained(narrow, [np.linspace(-1.6, -0.2, 15), *sides[1:]])
print(
    f"  share of the learning rate: {ours['learning_rate']:.0%}; over a narrow range: {narrow_shares[0] / narrow_shares.sum():.0%}"
)
