# %% [markdown]
# # Hyper-parameter tuning · 超参数调优

# %% [markdown] lang="en"
# After this lesson you can choose settings by grid, by random search, by successive halving and by Hyperband, at an equal
# number of training steps; say why random search beats a grid when few settings matter; and say by how much the figure
# of the winner is too good. You need a training loop and a validation set (03/09) and learning rates (09/01 to 09/03).

# %% [markdown] lang="zh"
# 学完本课，你能在训练步数相等的条件下，用网格搜索、随机搜索、逐次减半和 Hyperband 选择超参数；
# 能说明只有少数超参数重要时随机搜索为什么胜过网格；并能说出胜者的成绩好得过头了多少。
# 先修：训练循环与验证集（03/09）、学习率（09/01 至 09/03）。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.training.hyperparameter_search import (
    Rung,
    chance_of_a_good_one,
    grid,
    halving_schedule,
    hyperband_schedule,
    random_settings,
    spaced,
    successive_halving,
    units,
)
from dlcommon.training.search_space import Choice, Uniform
from dlcommon.training.tuning_task import UNITS, Networks, digits, train
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, KFold, ParameterGrid, ParameterSampler

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A training has knobs that gradient descent does not turn: learning rate, momentum, weight decay, the scale of the initial
# weights. They are *hyper-parameters*. There is no gradient for them: each try is a full training run, and its
# result depends on the seed as well.
#
# You have a budget of 16 training runs, and four knobs. Which 16 settings do you try? Do you train all of them to the end?
# And when the best has an error of 4 % on the validation data, what do you tell your customer?

# %% [markdown] lang="zh"
# 训练中有一些旋钮是梯度下降不会去转的：学习率、动量、权重衰减、初始权重的尺度。它们就是*超参数*。
# 没有梯度指向它们，因为试一次就是一次完整的训练，而且结果还取决于随机种子。
#
# 给你 16 次训练的预算和四个旋钮。试哪 16 组设置？每一组都训练到底吗？
# 如果最好的一组在验证集上错误率是 4 %，你对客户说多少？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Grid or random.* Nine runs, two knobs. A 3×3 grid tries three learning rates, each of them three times. Nine random
# points try nine learning rates. If the other knob does nothing, the grid has wasted six runs.
#
# *How many random points?* Each lies among the best 5 % of the space with probability 0.05, whatever the space looks like and
# however many knobs it has. All 60 miss with probability $0.95^{60} = 0.046$; so 60 hit with probability 0.95.
#
# *Log scale.* Learning rates from 0.001 to 10, drawn uniformly: 90 % lie above 1, and 0.99 % below 0.1. Drawn uniformly in the
# logarithm, each of the four factors of ten gets a quarter: half-way between 0.001 and 10 lies $\sqrt{0.001 \cdot 10} = 0.1$.
#
# *Halving.* Nine candidates, a factor of 3. All nine train for 1 unit; the best three go on to 3 units, the best of
# these to 9 units. That costs $9 \cdot 1 + 3 \cdot 2 + 1 \cdot 6 = 21$ units, since survivors continue from where they are. With 21 units,
# plain random search trains two settings to the end and leaves a third unfinished.

# %% [markdown] lang="zh"
# *网格还是随机。* 九次训练，两个旋钮。3×3 的网格只试三个学习率，每个试三遍。九个随机点试九个学习率。
# 如果另一个旋钮不起作用，网格就浪费了六次训练。
#
# *随机点要多少个？* 不论空间什么样、有几个旋钮，每个点落在最好的 5 % 里的概率都是 0.05。
# 60 个全都落空的概率是 $0.95^{60} = 0.046$；所以 60 个点至少命中一次的概率是 0.95。
#
# *对数尺度。* 在 0.001 到 10 之间均匀地取学习率：90 % 大于 1，只有 0.99 % 小于 0.1。
# 按对数均匀地取，四个十倍区间各占四分之一：0.001 与 10 的中点是 $\sqrt{0.001 \cdot 10} = 0.1$。
#
# *减半。* 九个候选，因子为 3。九个都训练 1 个单位；最好的三个继续到 3 个单位；其中最好的一个继续到 9。
# 代价是 $9 \cdot 1 + 3 \cdot 2 + 1 \cdot 6 = 21$ 个单位，因为留下来的不必从头开始。
# 同样 21 个单位，普通的随机搜索只能把两组训练到底，第三组训练不完。

# %%
space_of_two = {"learning rate": Uniform(0, 1), "other": Uniform(0, 1)}
points = {
    "grid": grid(spaced(space_of_two, 3)),
    "random": random_settings(space_of_two, 9, np.random.default_rng(9)),
}
rates_tried = {name: len({point["learning rate"] for point in tried}) for name, tried in points.items()}
figure, axes = plt.subplots(1, 3, figsize=(14, 3.9), layout="constrained")
shares = np.linspace(0, 1, 200)
for axis, (name, tried) in zip(axes, points.items(), strict=False):
    axis.plot(shares, 1.1 + 0.3 * np.exp(-((shares - 0.62) ** 2) / 0.005), color="tab:green")
    for point in tried:
        axis.plot(point["learning rate"], point["other"], "o", color="tab:blue")
        axis.plot([point["learning rate"]] * 2, [1.06, 1.1], color="tab:orange", linewidth=3)
    axis.set(title=f"{name}: {rates_tried[name]} learning rates", xlabel="learning rate, which matters")
    axis.set(ylabel="the other, which does not", ylim=(-0.05, 1.45))
by_hand = halving_schedule(9, 1, 9)
left, before = 0, 0
for rung in by_hand:
    axes[2].bar(left, rung.candidates, rung.resource - before, align="edge", edgecolor="white")
    axes[2].text(left + (rung.resource - before) / 2, rung.candidates + 0.2, f"{rung.candidates}", ha="center")
    left, before = rung.resource, rung.resource
axes[2].set(
    title=f"halving: {units(by_hand)} units in all", xlabel="units of training", ylabel="candidates", ylim=(0, 10)
)
show(figure, "by-hand")
table(["round", "candidates", "units each", "units spent"], [
    (number, rung.candidates, rung.resource, units(by_hand[:number])) for number, rung in enumerate(by_hand, start=1)
])  # fmt: skip
hit = chance_of_a_good_one(60, 0.05)
print(f"  60 random trials, at least one among the best 5 %: {hit:.3f}")
print(
    f"  half-way from 0.001 to 10: {Uniform(1e-3, 10, log=True).at(0.5):.3f} by logarithm, {Uniform(1e-3, 10).at(0.5):.3f}"
)

# %% [markdown]
# ## Formula · 公式
#
# $$x(u) = a + u\,(b - a), \qquad x(u) = a \left(\frac{b}{a}\right)^u$$
#
# $$P_n = 1 - (1 - q)^n$$
#
# $$n_{i+1} = \left\lceil \frac{n_i}{\eta} \right\rceil, \qquad r_{i+1} = \eta\, r_i, \qquad C = \sum_i n_i\,(r_i - r_{i-1})$$
#
# $$s_{\max} = \lfloor \log_\eta R \rfloor, \qquad n^{(s)} = \left\lceil \frac{s_{\max} + 1}{s + 1}\, \eta^s \right\rceil, \qquad r^{(s)} = R\, \eta^{-s}$$
#
# $$\mathbb{E}\Big[\min_k \hat e_k\Big] \;\le\; \min_k\, \mathbb{E}[\hat e_k] = \min_k e_k$$

# %% [markdown] lang="en"
# - $x(u)$: the value at the share $u \in [0, 1]$ of a span from $a$ to $b$, on a linear and on a logarithmic scale. With $u$
#   drawn uniformly it is a random value; with $u$ evenly spaced it is a grid's.
# - $P_n$: the chance that at least one of $n$ random settings is among the best share $q$ (Bergstra & Bengio 2012 have the
#   argument for few dimensions that matter).
# - $n_i$: the candidates of round $i$; $r_i$: the units each has been trained for by its end, $r_{-1} = 0$; $\eta$: the
#   factor; $C$: what it costs (Jamieson & Talwalkar 2016; the rounding is scikit-learn's).
# - $R$: the units of a full run; $s$: a bracket of Hyperband, from $s_{\max}$, which begins with many candidates and
#   little training, to 0, which is random search; $n^{(s)}$ candidates begin with $r^{(s)}$ units (Li et al. 2018,
#   Algorithm 1).
# - $e_k$: the true error of setting $k$; $\hat e_k$: its error on the validation data, right on average. The smallest of
#   many is chosen partly because its noise was favorable: so it is too small on average. That is the *winner's curse*.

# %% [markdown] lang="zh"
# - $x(u)$：从 $a$ 到 $b$ 的范围里份额 $u \in [0, 1]$ 处的值，左边是线性尺度，右边是对数尺度。
#   $u$ 均匀随机就得到随机值，$u$ 等距就得到网格。
# - $P_n$：$n$ 组随机设置中至少有一组属于最好的份额 $q$ 的概率（关于“只有少数维度重要”的论证见 Bergstra & Bengio 2012）。
# - $n_i$：第 $i$ 轮的候选数；$r_i$：该轮结束时每个候选训练过的单位，$r_{-1} = 0$；$\eta$：因子；
#   $C$：总代价（Jamieson & Talwalkar 2016；取整方式同 scikit-learn）。
# - $R$：一次完整训练的单位；$s$：Hyperband 的一个组（bracket），从候选多、训练少的 $s_{\max}$ 到等于随机搜索的 0；
#   $n^{(s)}$ 个候选从 $r^{(s)}$ 个单位开始（Li 等 2018，算法 1）。
# - $e_k$：设置 $k$ 的真实错误率；$\hat e_k$：它在验证集上的错误率，平均而言是对的。
#   许多个里最小的那个，被选中部分是因为噪声对它有利：所以平均而言它偏小。这就是*赢家诅咒*。

# %% [markdown]
# ## Code · 代码

# %%
source(Uniform.at)
source(grid)
source(random_settings)
source(halving_schedule)
source(hyperband_schedule)
source(successive_halving)

# %% [markdown] lang="en"
# A span knows one thing: its value at a share. `random_settings` draws one share for each knob and each setting;
# `grid(spaced(space, 3))` takes every combination of three evenly spaced shares.
#
# `halving_schedule` counts the rounds first, in whole numbers: the logarithm of 243 to the base 3 is 4.999… in floating
# point. `successive_halving` knows nothing of models. It asks for the loss of a candidate after some units, sorts, and cuts
# off. `sorted` keeps the order of equals, and a loss that is not a number counts as infinite: a training that diverged must
# not win because every comparison with it is false.

# %% [markdown] lang="zh"
# 一个范围只需要知道一件事：某个份额处的值。`random_settings` 为每组设置的每个旋钮抽一个份额；
# `grid(spaced(space, 3))` 取三个等距份额的所有组合。
#
# `halving_schedule` 先用整数算轮数：用浮点数算，以 3 为底 243 的对数是 4.999…。
# `successive_halving` 对模型一无所知：它问某个候选训练若干单位之后的损失，排序，截断。
# `sorted` 不改变相等者的次序；不是数的损失算作无穷大：发散的训练不能因为“与它比较总是假”而获胜。

# %% [markdown]
# ## Experiment: few knobs matter · 实验：少数旋钮重要

# %% [markdown] lang="en"
# The task: digits of 8×8 pixels, 500 to train on, a network of one hidden layer (`dlcommon.training.tuning_task`). A
# full run is 27 units of 8 steps and takes about ten milliseconds, so that whole *searches* can be repeated. Of the
# 1,297 other digits, 300 are for choosing (validation) and 997 for judging (test): the test set takes no part in any choice.
#
# Four knobs, 16 runs in a search. A grid of 16 has $2^4$ points: two values for each knob. It is repeated 24 times, each
# time shifted at random, so that no lucky place of the grid decides; so is random search.

# %% [markdown] lang="zh"
# 任务：8×8 像素的数字，500 个用于训练，网络只有一个隐藏层（`dlcommon.training.tuning_task`）。
# 一次完整训练是 27 个单位，每单位 8 步，约十毫秒，所以可以把整个*搜索*重复很多遍。
# 其余 1,297 个数字中，300 个用来选择（验证集），997 个用来评判（测试集）：测试集不参与任何选择。
#
# 四个旋钮，每次搜索 16 次训练。16 个点的网格就是 $2^4$：每个旋钮只有两个值。
# 网格重复 24 次，每次随机平移，免得由网格碰巧的位置决定；随机搜索也重复 24 次。

# %%
quiz(
    "wins",
    en="In how many of 24 searches is random search better than the grid, on the test digits?",
    zh="24 次搜索中，按测试集看，随机搜索有几次胜过网格？",
)

# %%
SEARCHES, TRIALS = 24, 16
trained_on, held_out = digits()
validation, test = held_out.part(slice(300)), held_out.part(slice(300, None))
SPACE = {
    "learning_rate": Uniform(1e-3, 10, log=True),
    "momentum": Uniform(0, 0.5),
    "weight_decay": Uniform(1e-6, 1e-3, log=True),
    "init_scale": Uniform(0.7, 1.4),
}


def follow(settings: list[dict], seed: int) -> tuple[np.ndarray, Networks]:
    """Trains all settings; returns their validation errors after each unit, [units, settings], and the networks."""
    errors = []
    for networks in train(settings, trained_on, seed):
        errors.append(networks.error(validation))
    return np.array(errors), networks


def searched(chosen_by: np.ndarray, judged_by: np.ndarray) -> np.ndarray:
    """Judges the setting that each search of 16 chooses, [searches]."""
    choices, judgements = (errors.reshape(SEARCHES, TRIALS) for errors in (chosen_by, judged_by))
    return judgements[np.arange(SEARCHES), choices.argmin(axis=1)]


random = np.random.default_rng(0)
tried = {"random": random_settings(SPACE, SEARCHES * TRIALS, random)}
tried["grid"] = [
    setting
    for _ in range(SEARCHES)
    for setting in grid({name: spaced({name: span}, 2, random.random())[name] for name, span in SPACE.items()})
]
linear = {**SPACE, "learning_rate": Uniform(1e-3, 10)}
tried["random, linear scale"] = random_settings(linear, SEARCHES * TRIALS, random)
curves, trained, reached = {}, {}, {}
for seed, (name, settings) in enumerate(tried.items(), start=1):
    curves[name], trained[name] = follow(settings, seed)
    reached[name] = searched(curves[name][-1], trained[name].error(test))
wins = int((reached["random"] < reached["grid"]).sum())
settle("wins", wins)
table(
    ["search of 16", "learning rates tried", "test error of the chosen: mean", "median", "worst of 24"],
    [
        (
            name,
            len({setting["learning_rate"] for setting in settings[:TRIALS]}),
            *(f"{value:.1%}" for value in (found.mean(), np.median(found), found.max())),
        )
        for (name, settings), found in zip(tried.items(), reached.values(), strict=True)
    ],
)
below_one = np.mean([setting["learning_rate"] < 1 for setting in tried["random, linear scale"]])
print(
    f"  random is better than the grid in {wins} of {SEARCHES}; on a linear scale {below_one:.0%} of the rates are < 1"
)

figure, axes = plt.subplots(1, 5, figsize=(16, 3.6), layout="constrained")
errors = trained["random"].error(test)
for axis, (name, span) in zip(axes, SPACE.items(), strict=False):
    axis.plot([setting[name] for setting in tried["random"]], errors, ".", alpha=0.6)
    axis.set(xlabel=name, xscale="log" if span.log else "linear")
axes[0].set(ylabel="test error", title="this one matters")
axes[1].set(title="these hardly do")
axes[4].boxplot([reached[name] for name in reached], whis=(0, 100))
axes[4].set_xticks([1, 2, 3], ["random", "grid", "random,\nlinear"])
axes[4].set(title="error of the chosen, 24 searches", ylim=(0, None))
show(figure, "grid-and-random")

# %% [markdown] lang="en"
# The first picture is a valley, the others are clouds: one knob decides, within a factor of ten. Two learning rates for each
# grid are too few to hit the valley's floor; sixteen are enough. Nobody knew beforehand which knob it would be, and random search
# need not know. On a linear scale almost all learning rates are too large, and many searches find nothing that learns.

# %% [markdown] lang="zh"
# 第一张图是一个山谷，其余是一片云：起决定作用的只有一个旋钮，而且要准到十倍以内。
# 网格每次只有两个学习率，很难碰到谷底；十六个就够了。事先没人知道会是哪个旋钮，而随机搜索不需要知道。
# 在线性尺度上，几乎所有学习率都太大，很多次搜索找不到任何学得动的设置。

# %% [markdown]
# ## Experiment: stop early · 实验：提前停止

# %% [markdown] lang="en"
# Why finish training a setting that is already bad after a tenth of the steps? *Successive halving* on 27 random candidates costs 81 units, the
# price of three full runs. *Hyperband* runs four brackets, in case early results mislead: 357 units, 13 full
# runs. Each is compared with random search for at most the same number of units. 300 repetitions draw their
# candidates from the 384 runs above, whose curves are known.

# %% [markdown] lang="zh"
# 一组设置训练了十分之一就很差，为什么还要训练到底？对 27 个随机候选做*逐次减半*，代价是 81 个单位，等于三次完整训练。
# *Hyperband* 跑四个组，以防早期结果误导：357 个单位，合 13 次完整训练。
# 两者都与单位数不超过它的随机搜索比较。300 次重复，候选都从上面 384 次训练中抽取，它们的曲线是已知的。

# %%
quiz(
    "cheaper",
    en="Halving costs 81 units. How many does random search need until its mean test error is as low?",
    zh="减半花 81 个单位。随机搜索要花多少个单位，平均测试错误率才同样低？",
)

# %%
pool, pool_test = curves["random"], trained["random"].error(test)
HALVING, HYPERBAND = halving_schedule(27, 1, UNITS), hyperband_schedule(UNITS)
SPENT = {"random, 3 runs": 3 * UNITS, "halving of 27": units(HALVING)}
SPENT |= {"random, 13 runs": 13 * UNITS, "Hyperband": sum(units(bracket) for bracket in HYPERBAND)}
MANY = 20


def winner(schedule: list[Rung], candidates: np.ndarray) -> int:
    """Halves the candidates, numbers of the pool; returns the one that wins."""
    rankings = successive_halving(schedule, lambda number, spent: pool[spent - 1, candidates[number]])
    return int(candidates[rankings[-1][0]])


found: dict[str, list[int]] = {name: [] for name in SPENT}
best_of = np.zeros((300, MANY))  # test error of the setting that the first 1, 2, … runs would choose
for repetition in range(300):
    candidates = random.permutation(len(pool_test))
    chosen = [int(candidates[pool[-1, candidates[:count]].argmin()]) for count in range(1, MANY + 1)]
    best_of[repetition] = pool_test[chosen]
    for count in (3, 13):
        found[f"random, {count} runs"].append(chosen[count - 1])
    found["halving of 27"].append(winner(HALVING, candidates))
    rest, winners = candidates, []
    for bracket in HYPERBAND:
        winners.append(winner(bracket, rest))
        rest = rest[bracket[0].candidates :]
    found["Hyperband"].append(min(winners, key=lambda number: pool[-1, number]))
by_search = {name: pool_test[chosen] for name, chosen in found.items()}
table(
    ["search", "units", "test error: mean", "10 %", "median", "90 %"],
    [
        (name, SPENT[name], f"{of.mean():.1%}", *(f"{value:.1%}" for value in np.quantile(of, (0.1, 0.5, 0.9))))
        for name, of in by_search.items()
    ],
)
as_good = int(np.argmax(best_of.mean(axis=0) <= by_search["halving of 27"].mean())) + 1
settle("cheaper", as_good * UNITS, tolerance=0.2)
agreement = {spent: stats.spearmanr(pool[spent - 1], pool[-1]).statistic for spent in (1, 3, 9)}
for spent, value in agreement.items():
    print(f"  rank correlation of the errors after {spent} and after {UNITS} units: {value:.2f}")

figure, axes = plt.subplots(1, 2, figsize=(13, 4.2), layout="constrained")
example = np.arange(27)
rankings = successive_halving(HALVING, lambda number, spent: pool[spent - 1, number])
for number in example:
    stayed = max(rung.resource for rung, ranking in zip(HALVING, rankings, strict=True) if number in ranking)
    last = number == rankings[-1][0]
    axes[0].plot(range(1, UNITS + 1), pool[:, number], color="lightgrey", linewidth=0.8, zorder=1)
    color = "tab:orange" if last else "tab:blue"
    axes[0].plot(range(1, stayed + 1), pool[:stayed, number], ".-", color=color, markersize=3, zorder=3 if last else 2)
axes[0].set(
    xscale="log", xlabel="units (grey: not trained on)", ylabel="validation error", title="halving of 27 candidates"
)
axes[0].set_xticks([1, 3, 9, 27], ["1", "3", "9", "27"])
places = np.arange(len(by_search))
middle = np.array([np.median(of) for of in by_search.values()])
ends = np.array([np.quantile(of, (0.1, 0.9)) for of in by_search.values()])
axes[1].errorbar(places, middle, np.abs(ends.T - middle), fmt="o", capsize=5)
axes[1].set_xticks(places, [f"{name}\n{SPENT[name]} units" for name in by_search], fontsize=8)
axes[1].set(ylabel="test error: median, 10 to 90 %", title="300 repetitions", yscale="log")
axes[1].set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
axes[1].minorticks_off()
show(figure, "halving")

# %% [markdown] lang="en"
# Halving looks at 27 settings for the price of three; plain random search needs about four times as much to do as well.
# That works since a bad learning rate shows early. It is no law: after one unit the ranks agree only in part, and a setting that learns slowly and ends well (a small learning rate, strong
# regularization) is thrown out. Hyperband insures against that by also running brackets that are patient, and pays for them.

# %% [markdown] lang="zh"
# 减半用三次训练的价钱看了 27 组设置；普通的随机搜索要花大约四倍才能做得一样好。这行得通，是因为坏的学习率很早就露馅。
# 但这不是定律：一个单位之后的名次只有部分可信，学得慢而结果好的设置（小学习率、强正则化）会被淘汰。
# Hyperband 同时运行一些有耐心的组来防备这一点，并为此付出代价。

# %% [markdown]
# ## Experiment: the winner's curse · 实验：赢家诅咒

# %% [markdown] lang="en"
# Now the sober part. 384 runs of *one and the same* setting, a learning rate of 0.15: they differ in nothing but the
# seed. We draw 200 of the 1,297 digits to validate on, choose the best of $k$ runs by them, and look at its error on the
# other 1,097; 60 times. The same with the 384 random settings.

# %% [markdown] lang="zh"
# 现在是让人清醒的部分。把*同一组*设置（学习率 0.15）训练 384 次：除了种子没有任何不同。
# 从 1,297 个数字里抽 200 个做验证，按它们从 $k$ 次训练中选最好的一次，再看它在其余 1,097 个上的错误率；重复 60 次。
# 对 384 组随机设置也这样做。

# %%
quiz(
    "optimism",
    en="Best of 256 equal settings: by how many percentage points is its validation error below its error on new digits?",
    zh="256 组相同设置中最好的一组：它的验证错误率比新数字上的错误率低几个百分点？",
)

# %%
SAME = [{"learning_rate": 0.15}] * (SEARCHES * TRIALS)
_, same = follow(SAME, seed=10)
wrong = {
    "one setting, other seeds": same.wrong(held_out).astype(np.float32),
    "other settings": trained["random"].wrong(held_out).astype(np.float32),
}
SIZES, SHOWN = (1, 4, 16, 64, 256), 200
promised = {name: np.zeros((60, len(SIZES))) for name in wrong}
kept = {name: np.zeros((60, len(SIZES))) for name in wrong}
for name, answers in wrong.items():
    for repetition in range(60):
        shown = np.zeros(len(held_out.labels), np.float32)
        shown[random.permutation(len(shown))[:SHOWN]] = 1
        seen, unseen = answers @ shown / SHOWN, answers @ (1 - shown) / (len(shown) - SHOWN)
        order = random.permutation(len(answers))
        for column, count in enumerate(SIZES):
            chosen = order[seen[order[:count]].argmin()]
            promised[name][repetition, column], kept[name][repetition, column] = seen[chosen], unseen[chosen]
optimism = {name: (kept[name] - promised[name]).mean(axis=0) for name in wrong}
settle("optimism", 100 * optimism["one setting, other seeds"][-1], tolerance=0.2)
table(
    ["best of", *(str(count) for count in SIZES)],
    [
        (f"{name}: {what}", *(f"{value:.1%}" for value in of[name].mean(axis=0)))
        for name in wrong
        for what, of in (("validation", promised), ("new digits", kept))
    ],
)
leaders = np.argsort(pool[-1], kind="stable")[:8]
again, _ = follow([tried["random"][number] for number in leaders for _ in range(20)], seed=11)
retrained = again[-1].reshape(8, 20)
seed_spread, leader_means = retrained.std(axis=1, ddof=1), retrained.mean(axis=1)
print(
    f"  the 8 leaders of 384: chosen at {pool[-1, leaders].mean():.1%}; trained again with 20 seeds: {leader_means.mean():.1%}"
)

figure, axes = plt.subplots(1, 2, figsize=(13, 4.2), layout="constrained")
for name, color in zip(wrong, ("tab:blue", "tab:orange"), strict=True):
    axes[0].plot(SIZES, promised[name].mean(axis=0), "o:", color=color, label=f"{name}: as chosen")
    axes[0].plot(SIZES, kept[name].mean(axis=0), "o-", color=color, label=f"{name}: on new digits")
axes[0].set(xscale="log", xlabel="runs to choose from", ylabel="error", ylim=(0, 0.16), title="winner's curse")
axes[0].set_xticks(SIZES, [str(count) for count in SIZES])
axes[0].legend(fontsize=8)
axes[1].boxplot(list(retrained), whis=(0, 100))
axes[1].plot(range(1, 9), pool[-1, leaders], "D", color="tab:orange", label="the figure it was chosen by")
axes[1].set(
    xlabel="place among 384 settings",
    ylabel="validation error",
    title="the leaders, with 20 new seeds each",
    ylim=(0, 0.2),
)
axes[1].legend()
show(figure, "winners-curse")

# %% [markdown] lang="en"
# The dotted blue line falls although there is *nothing to be found*: all settings are the same. It is noise, of the seed
# and of the 200 digits, and the best of many has the most favorable noise. The orange lines first fall together, since
# there are bad settings to be avoided; then only the dotted one goes on falling. Trained again with new seeds, the leaders
# fall back, and the seeds of one leader differ by more than the leaders do among each other.
#
# Hence three rules. Report the error on a test set that no choice has seen. Train the finalists again with several
# seeds before you believe a ranking. And stop searching once differences are smaller than your validation data can resolve.

# %% [markdown] lang="zh"
# 蓝色点线在下降，尽管*什么也没有可找的*：所有设置都一样。下降的是噪声，来自种子和那 200 个数字，许多次里最好的一次噪声最有利。
# 两条橙线起初一起下降，因为有坏设置可以避开；之后只有点线还在下降。
# 用新种子重新训练，领先者纷纷回落；同一个领先者换种子的差别，比领先者彼此之间的差别还大。
#
# 由此得出三条规则：报告没有参与过任何选择的测试集上的错误率；在相信名次之前，用几个种子重新训练入围者；
# 验证集分辨不出的差别，就不要再搜索下去。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# scikit-learn has all but Hyperband. `ParameterGrid` and `ParameterSampler` give the same settings, the sampler from the same
# generator number by number. `HalvingRandomSearchCV` halves: given the recorded curves of our runs as its estimator, it
# must keep the same candidates in every round.

# %% [markdown] lang="zh"
# 除 Hyperband 外 scikit-learn 都有。`ParameterGrid` 和 `ParameterSampler` 给出相同的设置，后者用同一个生成器时逐个数字都相同。
# `HalvingRandomSearchCV` 做减半：把我们训练记录下来的曲线当作它的估计器，它每一轮必须留下同样的候选。


# %%
class Recorded(BaseEstimator):
    """Replays a training of the pool: its score is known for every number of units."""

    def __init__(self, candidate: int = 0, units: int = 1) -> None:
        self.candidate, self.units = candidate, units

    def fit(self, x, y=None):
        return self

    def score(self, x, y=None) -> float:
        return -(pool[self.units - 1, self.candidate] + 1e-6 * self.candidate)  # no two are equal


with_sklearn = HalvingRandomSearchCV(
    Recorded(), {"candidate": list(range(27))}, n_candidates=27, factor=3, resource="units", min_resources=1,
    max_resources=UNITS, cv=KFold(2), random_state=0, refit=False,
).fit(np.zeros((4, 1)), np.zeros(4))  # fmt: skip
results = with_sklearn.cv_results_
survivors = [
    sorted(p["candidate"] for p, i in zip(results["params"], results["iter"], strict=True) if i == number)
    for number in range(len(HALVING))
]
values = {"learning_rate": [0.01, 0.1, 1.0], "momentum": [0.0, 0.5], "init_scale": [1.0]}
sampled = random_settings(SPACE, 50, np.random.RandomState(3))
laws = {
    name: stats.loguniform(span.low, span.high) if span.log else stats.uniform(span.low, span.high - span.low)
    for name, span in SPACE.items()
}
by_sklearn = list(ParameterSampler(laws, 50, random_state=3))

# %% [markdown]
# ## Checks · 检验

# %%
check_close(
    "by hand: the three rounds", [(rung.candidates, rung.resource) for rung in by_hand], [(9, 1), (3, 3), (1, 9)]
)
check_close("by hand: 21 units", units(by_hand), 21)
check_close("by hand: 60 trials hit the best 5 % with probability 0.95", hit, 0.9539, 1e-3)
check("a grid of nine tries three learning rates, nine random points nine", rates_tried == {"grid": 3, "random": 9})
check("the grid is scikit-learn's", grid(values) == list(ParameterGrid(values)))
check_close(
    "random settings are scikit-learn's, drawn from the same generator",
    [[setting[name] for name in sorted(SPACE)] for setting in sampled],
    [[setting[name] for name in sorted(SPACE)] for setting in by_sklearn],
)
check_close(
    "halving's candidates are scikit-learn's", [rung.candidates for rung in HALVING], with_sklearn.n_candidates_
)
check_close("so are its units", [rung.resource for rung in HALVING], with_sklearn.n_resources_)
check("it keeps the same candidates in every round", [sorted(ranking) for ranking in rankings] == survivors)
check_close(
    "Hyperband's brackets for 81 units begin as in the paper's algorithm",
    [(bracket[0].candidates, bracket[0].resource) for bracket in hyperband_schedule(81)],
    [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)],
)
check("random search is better than the grid on average, and more often than not", wins > SEARCHES / 2)
check("its mean error is lower", reached["random"].mean() < reached["grid"].mean() - 0.01)
check("its worst of 24 is far better", reached["random"].max() < reached["grid"].max() - 0.05)
check("a linear scale ruins it", reached["random, linear scale"].mean() > 2 * reached["random"].mean())
check("halving costs no more than random search of three", SPENT["halving of 27"] <= SPENT["random, 3 runs"])
check(
    "and is better by far: its 90 % quantile lies below the other's median",
    np.quantile(by_search["halving of 27"], 0.9) < np.median(by_search["random, 3 runs"]),
)
check("random search needs at least three times the units to do as well", as_good * UNITS >= 3 * SPENT["halving of 27"])
check(
    "Hyperband is no worse than random search of 13",
    by_search["Hyperband"].mean() <= by_search["random, 13 runs"].mean(),
)
check("early ranks agree the better, the later they are taken", agreement[1] < agreement[3] < agreement[9])
check("with one training there is no optimism", abs(optimism["one setting, other seeds"][0]) < 0.01)
check("it grows with the number of runs", np.all(np.diff(optimism["one setting, other seeds"]) > 0))
check(
    "the best of 256 seeds promises at least two points more than it keeps",
    optimism["one setting, other seeds"][-1] > 0.02,
)
check(
    "from 64 to 256 settings the promise improves, what is kept hardly does",
    promised["other settings"][:, 3].mean() - promised["other settings"][:, 4].mean() > 0.002
    and kept["other settings"][:, 3].mean() - kept["other settings"][:, 4].mean() < 0.005,
)
check("trained again, the leaders fall back", leader_means.mean() > 1.2 * pool[-1, leaders].mean())
check("seeds differ by more than the leaders do", seed_spread.mean() > leader_means.std(ddof=1))

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every capstone searches with one command: `uv run --package mnist-classifier tune --sampler random --pruner halving`.
# Its search space is written in the same spans (`dlcommon.training.search_space`), in the capstone's `config.py`; its
# halving is asynchronous (ASHA, Li et al. 2020): no trial waits for a round to be full. The report says of the best
# figure that it is too good by chance, and gives the command to train it again. Lesson 09/10 takes the same tool apart.
#
# Papers: [Bergstra & Bengio 2012](https://jmlr.org/papers/v13/bergstra12a.html), random search;
# [Jamieson & Talwalkar 2016](https://proceedings.mlr.press/v51/jamieson16.html), successive halving;
# [Li et al. 2018](https://jmlr.org/papers/v18/16-558.html), Hyperband; [Li et al. 2020](https://arxiv.org/abs/1810.05934), ASHA;
# [Cawley & Talbot 2010](https://jmlr.org/papers/v11/cawley10a.html), overfitting to validation data.

# %% [markdown] lang="zh"
# 每个实战项目都用一条命令搜索：`uv run --package mnist-classifier tune --sampler random --pruner halving`。
# 搜索空间用同样的范围（`dlcommon.training.search_space`）写在项目的 `config.py` 里；
# 它的减半是异步的（ASHA，Li 等 2020）：没有哪次试验要等一轮凑满。
# 报告会说明最好的数字因偶然而偏好，并给出重新训练的命令。下一课 09/10 拆解这个工具。
#
# 论文：[Bergstra & Bengio 2012](https://jmlr.org/papers/v13/bergstra12a.html)，随机搜索；
# [Jamieson & Talwalkar 2016](https://proceedings.mlr.press/v51/jamieson16.html)，逐次减半；
# [Li 等 2018](https://jmlr.org/papers/v18/16-558.html)，Hyperband；[Li 等 2020](https://arxiv.org/abs/1810.05934)，ASHA；
# [Cawley & Talbot 2010](https://jmlr.org/papers/v11/cawley10a.html)，对验证集的过拟合。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `grid`, `random_settings`, `halving_schedule`, `hyperband_schedule`, `units` and `successive_halving` yourself.
# `uv run lesson exercise 09/09` makes a file with their signatures, `uv run lesson check 09/09` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `grid`、`random_settings`、`halving_schedule`、`hyperband_schedule`、`units` 和 `successive_halving`。
# `uv run lesson exercise 09/09` 生成带有签名的文件，`uv run lesson check 09/09` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `itertools.product` of the lists of values, names sorted first; `dict(zip(names, chosen))` makes a setting.
# 2. One share for each name in alphabetical order, setting by setting: `space[name].at(random.random())`.
# 3. Rounds: $1 + \lfloor \log_\eta \min(n, \lfloor R / r_0 \rfloor) \rfloor$, the logarithm by `whole_log`. Candidates are
#    rounded up with `math.ceil`.
# 4. Hyperband: for each $s$ from $s_{\max}$ down to 0, round $i$ keeps `n // factor**i` and has `max_resource // factor**(s - i)`
#    units.
# 5. Survivors pay only for new units: candidates times the difference to the round before.
# 6. Before each round, cut the last ranking to the round's number of candidates, then sort by loss; NaN must become infinite.

# %% [markdown] lang="zh"
# 1. 先把名字排序，再对各个值的列表取 `itertools.product`；`dict(zip(names, chosen))` 就是一组设置。
# 2. 一组一组地，按名字的字母顺序各抽一个份额：`space[name].at(random.random())`。
# 3. 轮数是 $1 + \lfloor \log_\eta \min(n, \lfloor R / r_0 \rfloor) \rfloor$，对数用 `whole_log`。候选数用 `math.ceil` 向上取整。
# 4. Hyperband：$s$ 从 $s_{\max}$ 降到 0，第 $i$ 轮留下 `n // factor**i` 个，每个 `max_resource // factor**(s - i)` 个单位。
# 5. 留下来的只为新增部分付费：候选数乘以与上一轮的差。
# 6. 每轮之前，先把上一轮的排名截到本轮的候选数，再按损失排序；NaN 必须变成无穷大。


# %%
@exercise(grid, random_settings, halving_schedule, hyperband_schedule, units, successive_halving)
def judge(yours, reference):
    values = {"b": [1, 2], "a": ["x", "y", "z"], "c": [0.5]}
    check("grid: the number of combinations", len(yours.grid(values)) == 6)
    check("grid: their order", yours.grid(values) == reference.grid(values))
    space = {"b": Uniform(1e-3, 1, log=True), "a": Uniform(0, 5), "c": Choice(("x", "y"))}
    mine, theirs = (each.random_settings(space, 20, np.random.default_rng(2)) for each in (yours, reference))
    check(
        "random_settings: one dictionary for each setting, with every name", [set(m) for m in mine] == [set(space)] * 20
    )
    check_close("random_settings: the values", [[m["a"], m["b"]] for m in mine], [[t["a"], t["b"]] for t in theirs])
    check("random_settings: a choice", [m["c"] for m in mine] == [t["c"] for t in theirs])
    for asked in ((27, 1, 27, 3), (20, 1, 27, 3), (27, 2, 30, 3), (9, 1, 64, 2), (2, 5, 50, 3), (1, 1, 9, 3)):
        mine, theirs = (each.halving_schedule(*asked) for each in (yours, reference))
        check(f"halving_schedule{asked}: the number of rounds", len(mine) == len(theirs))
        check(f"halving_schedule{asked}", mine == theirs)
    for asked in ((81, 3), (27, 3), (16, 2), (100, 3), (243, 3), (1, 3)):
        mine, theirs = (each.hyperband_schedule(*asked) for each in (yours, reference))
        check(f"hyperband_schedule{asked}: the brackets' first rounds", [b[0] for b in mine] == [b[0] for b in theirs])
        check(f"hyperband_schedule{asked}: all rounds", mine == theirs)
    for schedule in reference.hyperband_schedule(81):
        check(f"units of {schedule}", yours.units(schedule) == reference.units(schedule))
    losses = np.random.default_rng(0).random((27, 28))
    losses[5, 3] = np.nan
    schedule = reference.halving_schedule(27, 1, 27)
    mine, theirs = (each.successive_halving(schedule, lambda c, r: losses[c, r]) for each in (yours, reference))
    check("successive_halving: candidates in each round", [len(ranking) for ranking in mine] == [27, 9, 3, 1])
    check("successive_halving: the first ranking", list(mine[0]) == theirs[0])
    check("successive_halving: all rankings", [list(ranking) for ranking in mine] == theirs)
    broken = yours.successive_halving([Rung(3, 1)], lambda c, r: [float("nan"), 2.0, 1.0][c])
    check("successive_halving: a loss that is not a number comes last", list(broken[0]) == [2, 1, 0])


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is random search often better than a grid? · 随机搜索为什么往往比网格好？

# %% [markdown] lang="en"
# Of the hyper-parameters, few matter for a given task. A grid of $n$ points in $d$ dimensions has only $n^{1/d}$ values
# of each; all others are repetitions with another value of something that does not matter. Random points have $n$ different
# values in every dimension, so that the projection on those that matter is dense. Besides, random search can be stopped or
# extended at any time and runs in parallel without coordination.

# %% [markdown] lang="zh"
# 对一个具体任务，重要的超参数很少。$d$ 维、$n$ 个点的网格，每一维只有 $n^{1/d}$ 个不同的值，
# 其余都是在无关紧要的维度上换个值的重复。随机点在每一维上都有 $n$ 个不同的值，投影到重要的维度上就很密。
# 此外随机搜索可以随时停止或追加，并行时也不需要协调。

# %%
for dimensions in (1, 2, 4, 8):
    print(
        f"  a grid of 256 points in {dimensions} dimensions: {256 ** (1 / dimensions):.0f} values of each; random: 256"
    )

# %% [markdown]
# ### How many random trials do you need? · 需要多少次随机试验？

# %% [markdown] lang="en"
# To hit the best share $q$ of the space with probability $p$: $n = \log(1 - p) / \log(1 - q)$, 59 for 5 % and 95 %, independent
# of the number of dimensions. That is the best 5 % of the *space*, not within 5 % of the best loss: if the range is badly
# chosen, 5 % of it may all be bad.

# %% [markdown] lang="zh"
# 要以概率 $p$ 命中空间中最好的份额 $q$：$n = \log(1 - p) / \log(1 - q)$，5 % 与 95 % 时是 59 次，与维数无关。
# 注意这是*空间*里最好的 5 %，不是“损失与最优相差 5 % 以内”：范围选得不好时，其中最好的 5 % 可能也都很差。

# %%
print(f"  trials needed: {np.log(0.05) / np.log(0.95):.1f}; with 59: {chance_of_a_good_one(59, 0.05):.3f}")

# %% [markdown]
# ### When does successive halving choose badly? · 逐次减半什么时候会选错？

# %% [markdown] lang="en"
# When early losses do not rank as late ones do: settings that learn slowly at first (small learning rates, long warm-up,
# strong regularization, larger networks at equal steps), or schedules that depend on the total budget (a cosine that ends at
# the first round is another training than the first part of a long cosine). Remedies: begin with more units, a smaller
# factor, or Hyperband's more patient brackets.

# %% [markdown] lang="zh"
# 早期损失的名次与最终不一致时：开头学得慢的设置（小学习率、长预热、强正则化、同样步数下更大的网络），
# 或学习率调度取决于总预算时（在第一轮就走完的余弦，与长余弦的前一段并不是同一种训练）。
# 补救：从更多单位开始、用更小的因子，或用 Hyperband 中更有耐心的组。

# %%
thrown_out = [pool_test[number] for number in example if number not in rankings[1]]
print(
    f"  thrown out in the first round: the best of them would have had {min(thrown_out):.1%}; the winner {pool_test[rankings[-1][0]]:.1%}"
)

# %% [markdown]
# ### Why is the best validation score optimistic, and what do you do? · 最好的验证成绩为什么偏乐观，怎么办？

# %% [markdown] lang="en"
# A score is the truth plus noise, from the sample and from the seed; the maximum over many prefers favorable noise. The
# bias grows with the number of tries and with the noise, and exists even where all settings are the same. Report on a test
# set that took no part in any choice (or by nested cross-validation), train the finalists again with several seeds, validate
# on more data.

# %% [markdown] lang="zh"
# 成绩是真值加噪声，噪声来自样本和种子；在许多个中取最好的，就偏向噪声有利的那个。
# 偏差随尝试次数和噪声增大，即使所有设置都一样也存在。
# 应在没有参与过任何选择的测试集上报告（或用嵌套交叉验证），用几个种子重新训练入围者，并用更多数据验证。

# %%
for name in wrong:
    print(f"  {name}: best of 256 promises {promised[name][:, -1].mean():.1%} and keeps {kept[name][:, -1].mean():.1%}")

# %% [markdown]
# ### Two settings differ by one point in validation error. Is one better? · 两组设置的验证错误率差一个百分点，哪组更好？

# %% [markdown] lang="en"
# Compare it with the noise. Of 300 samples at 6 % error, the standard error is $\sqrt{0.06 \cdot 0.94 / 300} = 1.4$ points, and
# other seeds scatter as much again. Train both with several seeds, on the same validation samples, and look at the paired
# differences with their interval (06/09 does so for forecasts).

# %% [markdown] lang="zh"
# 与噪声比一比。300 个样本、6 % 错误率时，标准误是 $\sqrt{0.06 \cdot 0.94 / 300} = 1.4$ 个百分点，换种子的波动还要再来一份。
# 应把两组各用几个种子训练，用同样的验证样本，看成对差值及其区间（06/09 对预测就是这样做的）。

# %%
print(f"  standard error of the sample: {np.sqrt(0.06 * 0.94 / 300):.1%}")
print(f"  spread over seeds of the eight leaders: {', '.join(f'{value:.1%}' for value in seed_spread)}")

# %% [markdown]
# ### Which hyper-parameters belong on a logarithmic scale? · 哪些超参数应该用对数尺度？

# %% [markdown] lang="en"
# Those whose effect depends on the ratio: learning rate, weight decay, widths, batch size, and $1 - \beta$ of an average
# (0.9 and 0.99 differ as 0.99 and 0.999 do). Those that may be 0 or are shares, such as dropout, stay linear. If the best
# trials lie at the edge of the range, move the range and search again.

# %% [markdown] lang="zh"
# 效果取决于比值的：学习率、权重衰减、宽度、批大小，以及滑动平均的 $1 - \beta$（0.9 与 0.99 的差别同 0.99 与 0.999 一样）。
# 可以为 0 的或本身是份额的，如 dropout，用线性尺度。如果最好的试验都落在范围边上，就移动范围再搜索。

# %%
for span in (SPACE["learning_rate"], linear["learning_rate"]):
    drawn = [span.at(share) for share in random.random(1000)]
    print(
        f"  log={span.log}: {np.mean(np.array(drawn) < 0.1):.0%} below 0.1, {np.mean(np.array(drawn) > 1):.0%} above 1"
    )
