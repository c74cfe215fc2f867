# %% [markdown]
# # Learning-rate schedules · 学习率调度

# %% [markdown] lang="en"
# After this lesson you can write the common schedules (step, linear, cosine, one-cycle, warm restarts, inverse square
# root, warm-up–stable–decay), find a learning rate with a range test, and say what a decay, a warm-up and a late
# decision about the end are good for, and when they are not. You need SGD and Adam (03/06, 09/01, 09/02).

# %% [markdown] lang="zh"
# 学完本课，你能写出常用的学习率调度（阶梯、线性、余弦、one-cycle、热重启、平方根倒数、预热–稳定–衰减），
# 能用范围测试找到学习率，并说清衰减、预热、“最后才决定何时结束”各有什么用，什么时候没用。先修：SGD 与 Adam（03/06、09/01、09/02）。

# %%
import copy
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.neural_networks.stacked_models import StackedModels
from dlcommon.training import schedules
from dlcommon.training.lr_finder import learning_rate_range_test
from dlcommon.training.momentum import noise_floor
from dlcommon.training.schedules import (
    constant,
    cosine,
    inverse_sqrt,
    linear,
    one_cycle,
    set_learning_rate,
    warm_restarts,
    wsd,
)
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A gradient from a minibatch is the true gradient plus noise. With a large learning rate you get near the minimum fast,
# and then the noise throws you about it for ever. With a small one you would come to rest close to it, but you never
# arrive in time. One fixed number has to be both, and cannot.
#
# So the rate changes while you train: a *schedule* maps how far the training is to a multiplier of the base rate. There
# are a dozen shapes and as many opinions. Which differences are real? And how large should the base rate be at all?

# %% [markdown] lang="zh"
# 小批量的梯度是真实梯度加上噪声。学习率大，很快就到最小值附近，然后噪声让你一直在它周围乱跳；
# 学习率小，最终会停得很近，但来不及走到。一个固定的数要两者兼顾，做不到。
#
# 所以学习率要随训练变化：*调度*（schedule）把训练进度映射成基础学习率的倍数。
# 形状有十来种，说法也有十来种。哪些差别是真的？基础学习率又该取多大？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One weight, loss $w^2/2$, so the gradient is $w$; each measured gradient has noise of variance 1 added. We start at
# $w = 10$ and take 100 steps of SGD. Each step multiplies the mean of $w$ by $1 - \eta$, and turns its variance $v$
# into $(1 - \eta)^2 v + \eta^2$: the old error shrinks, new noise comes in.
#
# $\eta = 0.5$: the mean is gone after ten steps ($10 \cdot 0.5^{10} = 0.01$), but the variance settles where
# $v = 0.25 v + 0.25$, at 0.333. It stays there for the other ninety steps. $\eta = 0.01$: the variance would settle at
# 0.005, but after 100 steps the mean is still $10 \cdot 0.99^{100} = 3.66$. The expected loss is half the mean's square
# plus half the variance: 0.167 for the large rate, 6.70 for the small one. The best constant rate lies between, at
# 0.05, with 0.0146. A rate that falls linearly from 0.5 to 0 gets 0.0161 without having been tuned, and 0.0079 with its
# own best start, 0.11: the decay halves the loss, and a start that is far too high costs it little.

# %% [markdown] lang="zh"
# 一个权重，损失 $w^2/2$，梯度就是 $w$；每次测到的梯度都加上方差为 1 的噪声。从 $w = 10$ 出发，走 100 步 SGD。
# 每一步把 $w$ 的均值乘以 $1 - \eta$，把方差 $v$ 变成 $(1 - \eta)^2 v + \eta^2$：旧误差缩小，新噪声进来。
#
# $\eta = 0.5$：十步之后均值就没了（$10 \cdot 0.5^{10} = 0.01$），但方差停在 $v = 0.25 v + 0.25$ 的解，即 0.333，后面九十步都不再下降。
# $\eta = 0.01$：方差本可以降到 0.005，但 100 步之后均值还有 $10 \cdot 0.99^{100} = 3.66$。
# 期望损失等于均值平方的一半加方差的一半：大学习率是 0.167，小学习率是 6.70。
# 最好的固定学习率在两者之间，是 0.05，损失 0.0146。从 0.5 线性降到 0，不用调就是 0.0161；
# 换成它自己最好的起点 0.11，则是 0.0079：衰减使损失减半，而且起点取得过高也损失不大。

# %%
STEPS = 100


def expected_loss(rates: list[float]) -> float:
    """Expected w² / 2 after SGD on one weight from w = 10, with gradient noise of variance 1: exact, nothing drawn."""
    mean, variance = 10.0, 0.0
    for eta in rates:
        mean, variance = (1 - eta) * mean, (1 - eta) ** 2 * variance + eta**2
    return (mean**2 + variance) / 2


SHAPES = {
    "constant": constant,
    "step": schedules.step((0.5, 0.75)),
    "linear": linear(),
    "cosine": cosine(),
    "one-cycle": one_cycle(),
    "restarts": warm_restarts(3),
    "WSD": wsd(warmup=0.05, decay=0.2),
    "inverse √": inverse_sqrt(warmup=0.05),
}


def started_at(base: float, shape) -> float:
    return expected_loss([base * shape(s / STEPS) for s in range(STEPS)])


tuned = {name: min((k / 100 for k in range(1, 100)), key=lambda b: started_at(b, SHAPES[name])) for name in SHAPES}
table(
    ["schedule", "expected loss from 0.5", "from 0.01", "from its best base", "which is"],
    [(n, *(started_at(b, SHAPES[n]) for b in (0.5, 0.01, tuned[n])), tuned[n]) for n in SHAPES],
)
moments = (0.0, 0.025, 0.25, 0.5, 0.75, 0.9)
table(["multiplier at", *(f"{p:.1%}" for p in moments)], [(n, *(s(p) for p in moments)) for n, s in SHAPES.items()])

figure, axes = plt.subplots(2, 4, figsize=(13, 4.6), layout="constrained", sharex=True, sharey=True)
for axis, (name, shape) in zip(axes.flat, SHAPES.items(), strict=True):
    points = [p / 1000 for p in range(1000)]
    axis.plot(points, [shape(p) for p in points])
    axis.set_title(name)
for axis in axes[1]:
    axis.set_xlabel("progress")
for axis in axes[:, 0]:
    axis.set_ylabel("multiplier")
show(figure, "shapes")

# %% [markdown]
# ## Formula · 公式
#
# $$\text{step:} \quad m(p) = \gamma^{\,\#\{i \,:\, p_i \le p\}} \qquad\qquad \text{linear:} \quad m(p) = 1 + (e - 1)\, p$$
#
# $$\text{cosine:} \quad c(p) = e + \frac{1 - e}{2} \left(1 + \cos \pi p\right) \qquad\qquad \text{inverse square root:} \quad m(p) = \sqrt{\omega / p} \quad (p \ge \omega)$$
#
# $$\text{one-cycle:} \quad m(p) = s + \frac{1 - s}{2} \left(1 - \cos (\pi p / \omega)\right) \ (p < \omega), \qquad m(p) = c\!\left(\frac{p - \omega}{1 - \omega}\right) \ (p \ge \omega)$$
#
# $$\text{warm restarts:} \quad m(p) = c\!\left(\frac{p - b_k}{b_{k+1} - b_k}\right) \quad (b_k \le p < b_{k+1})$$
#
# $$\text{WSD:} \quad m(p) = p / \omega \ (p < \omega), \qquad m(p) = 1 \ (\omega \le p \le 1 - \delta), \qquad m(p) = 1 + (e - 1)\, \frac{p - 1 + \delta}{\delta} \ (p > 1 - \delta)$$
#
# $$v_\infty = \frac{\eta\, \sigma^2}{\lambda\, (2 - \eta \lambda)}$$

# %% [markdown] lang="en"
# - $p$: progress, the share of the training that is done, in $[0, 1]$; $m(p)$: the multiplier of the base rate.
# - $p_i$: the milestones of the step schedule; $\gamma$: what each of them multiplies the rate by, often 0.1.
# - $\omega$: the share of the warm-up, in which the rate rises; linearly except in one-cycle.
# - $s$, $e$: multipliers at the start and at the end.
# - $c(p)$: half a cosine from 1 to $e$ (Loshchilov & Hutter 2017, equation 5, written as a multiplier).
# - $b_k$: the bounds of the cycles, $b_0 = 0$; each cycle may be longer than the last by a whole factor.
# - $\delta$: the share of the decay of WSD. With the warm-up fixed in steps, the rate before the decay does not depend
#   on when the training ends.
# - $v_\infty$: the variance at which SGD with the constant rate $\eta$ settles on the loss $\lambda w^2 / 2$ with
#   gradient noise of variance $\sigma^2$: solve $v = (1 - \eta\lambda)^2 v + \eta^2 \sigma^2$. It is about proportional
#   to $\eta$: this is the noise floor (09/01), which a decay lowers. For $\eta \lambda \ge 2$ there is none: SGD
#   diverges.

# %% [markdown] lang="zh"
# - $p$：进度，即训练已完成的比例，在 $[0, 1]$ 内；$m(p)$：基础学习率的倍数。
# - $p_i$：阶梯调度的里程碑；$\gamma$：每个里程碑把学习率乘以多少，常取 0.1。
# - $\omega$：预热所占比例，这期间学习率上升；除 one-cycle 外都是线性上升。
# - $s$、$e$：起点和终点的倍数。
# - $c(p)$：从 1 到 $e$ 的半个余弦（Loshchilov 与 Hutter 2017，式 5，写成倍数形式）。
# - $b_k$：各周期的边界，$b_0 = 0$；每个周期可以比前一个长整数倍。
# - $\delta$：WSD 衰减段所占比例。若预热按步数固定，衰减之前的学习率与训练何时结束无关。
# - $v_\infty$：在损失 $\lambda w^2 / 2$、梯度噪声方差 $\sigma^2$ 下，学习率固定为 $\eta$ 的 SGD 最终停在的方差，
#   由 $v = (1 - \eta\lambda)^2 v + \eta^2 \sigma^2$ 解出。它大致与 $\eta$ 成正比：衰减压低的就是这个噪声底（09/01）。$\eta \lambda \ge 2$ 时没有噪声底：SGD 发散。

# %% [markdown]
# ## Code · 代码

# %%
source(schedules.step)
source(one_cycle)
source(warm_restarts)
source(wsd)
source(set_learning_rate)
source(learning_rate_range_test)

# %% [markdown] lang="en"
# A schedule here is a plain function from progress to a multiplier; `step(…)`, `wsd(…)` return such a function. It
# knows nothing of epochs or steps, so the same one serves a budget of steps, epochs or minutes, and since it has no
# state, there is none to store or to restore. `bisect_right` counts the milestones that are passed. torch's schedulers
# count calls of `scheduler.step()` instead; the values are the same.
#
# `warm_restarts` computes each bound as one quotient of whole numbers. With remainders (`progress % length`) a step
# that should begin a cycle would, by a rounding error, end one: its rate would be 0 instead of 1.
#
# `learning_rate_range_test` trains a few dozen steps while the rate grows by the same factor each time, until the loss
# explodes, and then puts weights and optimizer back. The loss of single batches jumps, so an average is kept; dividing
# by $1 - 0.9^{t}$ corrects its start at 0, as in Adam.

# %% [markdown] lang="zh"
# 这里的调度就是从进度到倍数的普通函数；`step(…)`、`wsd(…)` 返回这样的函数。它不知道 epoch 和步数，
# 所以同一个函数适用于以步数、epoch 或分钟计的预算；它没有状态，也就没有什么要保存和恢复。
# `bisect_right` 数已经过了几个里程碑。torch 的调度器则是数 `scheduler.step()` 的调用次数；数值是一样的。
#
# `warm_restarts` 的每个边界都是两个整数的一次除法。如果用取余（`progress % length`），
# 由于舍入误差，本该开始新周期的一步会变成旧周期的结尾：学习率是 0 而不是 1。
#
# `learning_rate_range_test` 训练几十步，每步学习率乘以同一个因子，直到损失爆炸，然后把权重和优化器恢复原样。
# 单个批次的损失会跳动，所以取滑动平均；除以 $1 - 0.9^{t}$ 修正它从 0 开始的偏差，与 Adam 一样。

# %% [markdown]
# ## Experiment: find the rate · 实验：找学习率

# %% [markdown] lang="en"
# 4,000 real digits, pixels averaged to 14 × 14, an MLP with two hidden layers, plain SGD, batches of 32. In 100 steps
# the rate rises from 0.001 to 30.

# %% [markdown] lang="zh"
# 4,000 张真实的手写数字，像素平均到 14 × 14，两个隐藏层的 MLP，普通 SGD，批量 32。学习率在 100 步内从 0.001 升到 30。

# %%
quiz(
    "turning point",
    en="At about which rate does the smoothed loss stop falling?",
    zh="平滑后的损失大约在多大的学习率处不再下降？",
    choices={"0.004": "0.004", "0.04": "0.04", "0.4": "0.4", "4": "4"},
)

# %%
SEEDS = (0, 1, 2)
digits = data("mnist-sample")


def inputs(images) -> torch.Tensor:
    """Pixels averaged two by two, from −1 to 3, [images, 196]."""
    pixels = torch.from_numpy(images[..., 0]).float()[:, None] / 255  # [images, 1, 28, 28]
    return 4 * F.avg_pool2d(pixels, 2).flatten(1) - 1


x_train, y_train = inputs(digits.train_images), torch.from_numpy(digits.train_labels).long()
x_test, y_test = inputs(digits.test_images), torch.from_numpy(digits.test_labels).long()


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )  # fmt: skip


def rows(seed: int, steps: int) -> torch.Tensor:
    """Numbers of the digits in each batch, [steps, 32]."""
    return torch.randint(len(x_train), (steps, 32), generator=torch.Generator().manual_seed(seed))


def batch_loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(x_train[batch]), y_train[batch])


tests = []
for seed in SEEDS:
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    tests.append(
        learning_rate_range_test(model, optimizer, rows(seed, 100), batch_loss, lowest=1e-3, highest=30.0, steps=100)
    )
table(
    ["seed", "steepest at", "lowest loss at", "a third of it", "ended at"],
    [(seed, t.steepest, t.lowest, t.lowest / 3, t.rates[-1]) for seed, t in zip(SEEDS, tests, strict=True)],
)
turning = sorted(test.lowest for test in tests)[1]
settle("turning point", min(("0.004", "0.04", "0.4", "4"), key=lambda c: abs(math.log(turning / float(c)))))

figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
for seed, test in zip(SEEDS, tests, strict=True):
    (line,) = axis.plot(test.rates, test.smoothed, label=f"seed {seed}")
    axis.plot(test.rates, test.losses, ".", color=line.get_color(), alpha=0.3)
    axis.axvline(test.lowest, color=line.get_color(), linestyle=":")
axis.set(xscale="log", xlabel="learning rate", ylabel="loss (dots: batches)", ylim=(0, 4), title="Range test")
axis.legend()
show(figure, "range-test")

# %% [markdown] lang="en"
# Left: so slow that nothing happens. Middle: the loss falls. Right: it explodes. The rate where the loss is lowest is
# already on the verge: a longer training with it would be thrown about. The usual advice is a tenth to a third of it; a
# schedule that decays can begin nearer to it, as the next experiment shows. The test gives the order of magnitude for
# the price of 100 steps. A finer answer takes a search (09/09).

# %% [markdown] lang="zh"
# 左边：慢得什么都不发生。中间：损失下降。右边：爆炸。损失最低处的学习率已经在边缘：用它长时间训练会乱跳。
# 通常的建议是取它的十分之一到三分之一；会衰减的调度可以从更接近它的地方开始，下一个实验会看到。
# 这个测试只花 100 步就给出数量级；更精细的答案要靠搜索（09/09）。

# %% [markdown]
# ## Experiment: eight schedules, three rates · 实验：八种调度，三个学习率

# %% [markdown] lang="en"
# Each schedule trains for 200 steps with the base rates 0.1, 0.3 and 0.7, and with three seeds: 72 networks. A step of
# plain SGD is rate times gradient, so we can train all of them at once: each one's loss is multiplied by its rate, and
# one optimizer with rate 1 serves them all.

# %% [markdown] lang="zh"
# 每种调度用三个基础学习率（0.1、0.3、0.7）、三个种子各训练 200 步，共 72 个网络。普通 SGD 的一步是学习率乘梯度，
# 所以可以同时训练全部网络：每个网络的损失乘以它自己的学习率，用一个学习率为 1 的优化器即可。

# %%
quiz(
    "same winner",
    en="WSD or inverse square root: does the one that is better at base rate 0.1 also win at 0.7?",
    zh="WSD 与平方根倒数：在基础学习率 0.1 时较好的那个，在 0.7 时也更好吗？",
    choices={"yes": "yes · 是", "no": "no · 不是"},
)


# %%
def train_all(rates: torch.Tensor, measured_at: tuple[int, ...]) -> dict[int, torch.Tensor]:
    """Trains a network of each seed with each column of rates [steps, runs]; test losses [runs, seeds] after some steps."""
    steps, runs = rates.shape
    models = StackedModels([network(seed) for _ in range(runs) for seed in SEEDS])
    optimizer = torch.optim.SGD(models.parameters(), lr=1.0)
    order = torch.stack([rows(seed, steps) for seed in SEEDS], dim=1).repeat(1, runs, 1)  # [steps, runs · seeds, 32]
    own = rates.repeat_interleave(len(SEEDS), dim=1)  # [steps, runs · seeds]

    def losses(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean loss of each network, [runs · seeds]."""
        return F.cross_entropy(models(x).flatten(0, 1), y.flatten(), reduction="none").view(len(y), -1).mean(dim=1)

    found = {}
    for step in range(steps):
        optimizer.zero_grad()
        (own[step] * losses(x_train[order[step]], y_train[order[step]])).sum().backward()
        optimizer.step()
        if step + 1 in measured_at:
            with torch.no_grad():
                count = runs * len(SEEDS)
                test = losses(x_test.expand(count, -1, -1), y_test.expand(count, -1))
            found[step + 1] = test.view(runs, len(SEEDS))
    return found


LENGTH, BASES = 200, (0.1, 0.3, 0.7)
rates = torch.tensor([[base * SHAPES[n](s / LENGTH) for n in SHAPES for base in BASES] for s in range(LENGTH)])
ends = train_all(rates, (LENGTH,))[LENGTH].view(len(SHAPES), len(BASES), len(SEEDS))
reached = {(n, base): ends[i, j].tolist() for i, n in enumerate(SHAPES) for j, base in enumerate(BASES)}


def written(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


table(
    ["schedule", *(f"test loss from {base:g}, three seeds" for base in BASES)],
    [(n, *(written(reached[n, base]) for base in BASES)) for n in SHAPES],
)
better = [min(("WSD", "inverse √"), key=lambda n: sum(reached[n, base])) for base in (0.1, 0.7)]
settle("same winner", "yes" if better[0] == better[1] else "no")

figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")
for j, base in enumerate(BASES):
    for i, name in enumerate(SHAPES):
        axis.plot([i + 0.2 * j - 0.2] * len(SEEDS), reached[name, base], "o", color=f"C{j}", alpha=0.7)
    axis.plot([], [], "o", color=f"C{j}", label=f"base rate {base:g}")
axis.set_xticks(range(len(SHAPES)), list(SHAPES))
axis.set(ylabel="test loss after 200 steps", yscale="log", title="One dot for each seed")
axis.legend()
show(figure, "comparison")

# %% [markdown] lang="en"
# Two things hold with every seed. At 0.7 a constant rate fails, while those that leave the high rate early (inverse
# square root, linear) survive. And the order turns round: WSD, which stays high for long, is better than the inverse
# square root at 0.1 and worse at 0.7.
#
# So "which schedule is best?" has no answer without the rate: a schedule is also a choice of the mean rate. Whoever
# compares two at one rate, tuned for one of them, measures the tuning. At 0.3 linear and cosine cannot be told apart,
# since their seeds overlap.

# %% [markdown] lang="zh"
# 有两点对每个种子都成立。在 0.7 处固定学习率失败，而早早离开高学习率的（平方根倒数、线性）活了下来。
# 而且次序会颠倒：长时间保持高学习率的 WSD，在 0.1 处比平方根倒数好，在 0.7 处比它差。
#
# 所以“哪种调度最好”离开学习率就没有答案：选调度也就选了平均学习率。在一个只为其中一方调好的学习率上比较两者，测到的是调参。
# 在 0.3 处，线性和余弦分不出高下，因为各种子的结果互相重叠。

# %% [markdown]
# ## Experiment: why warm up? · 实验：为什么要预热？

# %% [markdown] lang="en"
# Adam divides the mean gradient by the root of the mean square. In the first step both come from one single batch, so
# the quotient is ±1 for every weight, however small or noisy its gradient is: every weight moves by the full learning
# rate in a direction that one batch has chosen. Later the quotient is smaller, since gradients of different signs
# cancel in the mean, but not in the mean square.

# %% [markdown] lang="zh"
# Adam 用平均梯度除以均方的平方根。第一步两者都来自同一个批次，所以不管梯度多小、噪声多大，每个权重的商都是 ±1：
# 每个权重都朝一个批次选定的方向移动整整一个学习率。后来商变小，因为符号不同的梯度在平均中互相抵消，在均方中却不会。

# %%
quiz(
    "first update",
    en="Adam's base rate is 0.03, a typical weight 0.06. How far does a weight move in the first step, on average?",
    zh="Adam 的基础学习率是 0.03，典型的权重大小是 0.06。第一步平均每个权重移动多远？",
)


# %%
def warmed(optimizer_class, lr: float, warmup: float, **options) -> tuple[list[float], list[float]]:
    """Trains 200 steps with a linear schedule; test losses by seed, and the mean move of a weight in each step."""
    models = StackedModels([network(seed) for seed in SEEDS])
    optimizer = optimizer_class(models.parameters(), lr=lr, **options)
    order, moved = torch.stack([rows(seed, LENGTH) for seed in SEEDS], dim=1), []
    for step in range(LENGTH):
        set_learning_rate(optimizer, linear(warmup=warmup, start=0.01)(step / LENGTH))
        before = models.parameters()[2].detach().clone()  # [seeds, 64, 64], the middle layer
        losses = F.cross_entropy(models(x_train[order[step]]).flatten(0, 1), y_train[order[step]].flatten())
        optimizer.zero_grad()
        (len(SEEDS) * losses).backward()
        optimizer.step()
        moved.append((models.parameters()[2].detach() - before).abs().mean().item())
    with torch.no_grad():
        logits = models(x_test.expand(len(SEEDS), -1, -1))
    return [F.cross_entropy(each, y_test).item() for each in logits], moved


cold, cold_moves = warmed(torch.optim.Adam, 0.03, 0.0)
warm, warm_moves = warmed(torch.optim.Adam, 0.03, 0.2)
typical = network(0)[2].weight.abs().mean().item()
table(
    ["Adam, base 0.03", "test loss, three seeds", "step 1 moves a weight by", "step 10", "step 50"],
    [
        ("no warm-up", written(cold), cold_moves[0], cold_moves[9], cold_moves[49]),
        ("warm-up of 20 %", written(warm), warm_moves[0], warm_moves[9], warm_moves[49]),
    ],
)
print(f"  a typical weight of this layer: {typical:.3f}")
settle("first update", cold_moves[0], tolerance=0.005)

# %% [markdown] lang="en"
# The first step moves the weights by almost half of their own size, without warm-up: the initialization, carefully
# scaled (04/09), is overwritten by one batch. With warm-up the end is better with every seed, though its rate is lower
# for a fifth of the training. (It moves a little less than 0.03, since the gradient of dead units is exactly 0.)
#
# Warm-up also helps for reasons that have nothing to do with Adam: the loss is often most curved at the start, and
# large batches want large rates (Goyal et al. 2017). Where the rate is safe from the start, it only costs steps.

# %% [markdown] lang="zh"
# 不预热时，第一步就让权重移动了自身大小的近一半：精心缩放的初始化（04/09）被一个批次改写。
# 有预热时，尽管五分之一的训练里学习率更低，每个种子的最终结果都更好。（移动略小于 0.03，因为死单元的梯度恰好为 0。）
#
# 预热还有与 Adam 无关的理由：损失在开始时往往最弯，大批量需要大学习率（Goyal 等 2017）。如果学习率从一开始就安全，预热只是浪费步数。

# %% [markdown]
# ## Experiment: choose the end late · 实验：最后再决定何时结束

# %% [markdown] lang="en"
# A cosine needs to know the end when it begins. WSD does not: one long run at the stable rate, and from any of its
# checkpoints a short decay. We train one such trunk of 300 steps at rate 0.3, branch off decays that end at steps 150,
# 200, 250 and 300 (each over the last fifth), and compare with a cosine that was planned for each of these ends from
# the start, which takes four trainings.

# %% [markdown] lang="zh"
# 余弦在开始时就要知道终点，WSD 不用：一次长的稳定训练，从它的任何检查点出发做一小段衰减即可。
# 我们以学习率 0.3 训练一条 300 步的主干，分出在第 150、200、250、300 步结束的衰减（各占最后五分之一），
# 并与一开始就为每个终点计划好的余弦比较，后者需要四次独立的训练。

# %%
ENDS, RISE = (150, 200, 250, 300), 10  # steps of the warm-up


def planned(shape, end: int) -> list[float]:
    """Rates of a schedule that is planned for `end` steps; 0 after it, which leaves the weights as they are."""
    return [0.3 * shape(s / end) if s < end else 0.0 for s in range(ENDS[-1])]


columns = [[0.3 * min(1.0, s / RISE) for s in range(ENDS[-1])]]  # the trunk
columns += [planned(wsd(RISE / end, 0.2), end) for end in ENDS]
columns += [planned(cosine(RISE / end), end) for end in ENDS]
late = train_all(torch.tensor(columns).T, ENDS)
trunk = {end: late[end][0].tolist() for end in ENDS}
branches = {end: late[end][1 + i].tolist() for i, end in enumerate(ENDS)}
cosines = {end: late[end][1 + len(ENDS) + i].tolist() for i, end in enumerate(ENDS)}
table(
    ["end", "trunk, no decay", "WSD: branch of the trunk", "mean", "cosine planned for this end", "mean"],
    [
        (e, written(trunk[e]), written(branches[e]), sum(branches[e]) / 3, written(cosines[e]), sum(cosines[e]) / 3)
        for e in ENDS
    ],
)
steps_wsd, steps_cosine = ENDS[-1] + sum(end // 5 for end in ENDS[:-1]), sum(ENDS)
print(f"  steps for all four ends: WSD {steps_wsd}, cosines {steps_cosine}")

figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
for i, end in enumerate(ENDS):
    axes[0].plot(columns[1 + i][:end], color="C0", label="WSD" if i == 0 else None)
    axes[0].plot(columns[1 + len(ENDS) + i][:end], "--", color="C1", label="cosine" if i == 0 else None)
axes[0].set(xlabel="step", ylabel="learning rate", title="Planned for four ends")
for found, label, color in ((trunk, "trunk, no decay", "grey"), (branches, "WSD", "C0"), (cosines, "cosine", "C1")):
    axes[1].plot(ENDS, [sum(found[end]) / 3 for end in ENDS], "o-", color=color, label=label)
axes[1].set(xlabel="end, in steps", ylabel="test loss, mean of three seeds", title="What each end reaches")
for axis in axes:
    axis.legend()
show(figure, "late")

# %% [markdown] lang="en"
# Each decay lowers the loss below the trunk's, with every seed: the trunk had learned more than its noise let one see.
# The branches are no worse than cosines that knew their end from the start, on average over the seeds, and all four
# ends cost less than half of the steps. (That WSD is even ahead here is due to the rate: the table above shows the
# reverse at 0.7.)
#
# A cosine that has ended cannot be continued, since its rate is 0: to go on, the rate must jump up again, and the loss
# with it. That is why long trainings whose budget may change use WSD, and why scaling laws can be measured with one
# trunk instead of one training for each length (Hägele et al. 2024).

# %% [markdown] lang="zh"
# 每次衰减都让损失降到主干以下，每个种子都是如此：主干学到的比噪声让人看到的多。
# 按种子平均，这些分支不比一开始就知道终点的余弦差，而四个终点合计只用了不到一半的步数。（WSD 在这里甚至领先，是学习率的缘故：上面的表显示 0.7 处正相反。）
#
# 结束了的余弦无法继续，因为学习率已经是 0：要继续就必须让学习率跳回去，损失也跟着跳。
# 所以预算可能改变的长训练用 WSD；也因此，测量缩放律只需一条主干，而不必每个长度各训练一次（Hägele 等 2024）。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch's schedulers keep a counter and write the rate into the optimizer. We compare the values at every step, and then
# the weights of a network that is trained with either. `OneCycleLR` counts a little differently: of its `total_steps`,
# the last is progress 1, and its rise ends at step `pct_start · total_steps − 1`. In use, look out for two things:
# torch's schedulers advance by `scheduler.step()` *after* `optimizer.step()`, and most of them count whatever you call
# them for, so `T_max` in epochs with a call for each batch ends (and with a cosine: rises again) far too early.

# %% [markdown] lang="zh"
# torch 的调度器维护一个计数器，把学习率写进优化器。我们逐步比较数值，再比较用两者训练出的网络权重。
# `OneCycleLR` 的计数略有不同：`total_steps` 中的最后一步是进度 1，上升段结束于第 `pct_start · total_steps − 1` 步。
# 使用时注意两点：torch 的调度器要在 `optimizer.step()` *之后*调用 `scheduler.step()`；
# 它们数的是被调用的次数，所以 `T_max` 按 epoch 设、却每个批次调用一次，就会过早结束（余弦还会再升上去）。

# %%
BASE, N = 0.3, 60


def ours(shape) -> list[float]:
    return [BASE * shape(s / N) for s in range(N)]


def torchs(build) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=BASE)
    scheduler, rates = build(optimizer), []
    for _ in range(N):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def torchs_wsd(o: torch.optim.Optimizer) -> lr_scheduler.SequentialLR:
    parts = [lr_scheduler.LambdaLR(o, lambda s: s / 6), lr_scheduler.ConstantLR(o, 1.0)]
    return lr_scheduler.SequentialLR(o, [*parts, lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=12)], [6, 48])


library = {
    "step": (schedules.step((0.5, 0.75)), lambda o: lr_scheduler.MultiStepLR(o, [30, 45])),
    "linear": (linear(end=0.1), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=N)),
    "cosine": (cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, N)),
    "one-cycle": (
        one_cycle((0.3 * (N + 1) - 1) / N),
        lambda o: lr_scheduler.OneCycleLR(o, BASE, total_steps=N + 1, cycle_momentum=False),
    ),
    "warm restarts": (warm_restarts(3), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 20)),
    "WSD": (wsd(0.1, 0.2), torchs_wsd),
    "inverse square root": (
        inverse_sqrt(0.1),
        lambda o: lr_scheduler.LambdaLR(o, lambda s: min(s / 6, (6 / max(s, 1)) ** 0.5)),
    ),
}


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


both = {name: (ours(shape), torchs(build)) for name, (shape, build) in library.items()}
trained = {}
for whose in ("ours", "torch"):
    model = network(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=BASE)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, N) if whose == "torch" else None
    for step, batch in enumerate(rows(0, N)):
        if scheduler is None:
            set_learning_rate(optimizer, cosine()(step / N))
        optimizer.zero_grad()
        batch_loss(model, batch).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    trained[whose] = flat(model)

finished = {}
for whose in ("planned", "branch"):
    model = network(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=BASE, momentum=0.9)
    for step, batch in enumerate(rows(1, N)):
        if whose == "branch" and step == 48:  # a checkpoint of the trunk: weights, momentum, and nothing of a schedule
            weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
            model = network(2)
            model.load_state_dict(weights)
            optimizer = torch.optim.SGD(model.parameters(), lr=BASE, momentum=0.9)
            optimizer.load_state_dict(state)
        trunk_rate = min(1.0, step / 6) if step < 48 else linear()((step - 48) / 12)
        set_learning_rate(optimizer, wsd(0.1, 0.2)(step / N) if whose == "planned" else trunk_rate)
        optimizer.zero_grad()
        batch_loss(model, batch).backward()
        optimizer.step()
    finished[whose] = flat(model)

# %% [markdown]
# ## Checks · 检验

# %%
check_close(
    "by hand: the losses 0.167 and 6.70", [started_at(0.5, constant), started_at(0.01, constant)], [0.1667, 6.701], 1e-3
)
settled = 0.0
for _ in range(2000):
    settled = (1 - 0.1 * 2.0) ** 2 * settled + 0.1**2
check_close("the variance settles at ησ² / (λ(2 − ηλ))", settled, 0.1 / (2.0 * (2 - 0.1 * 2.0)), 1e-9)
floor = noise_floor(torch.tensor([2.0]), torch.tensor([1.0]), lr=0.1)
check_close("half of it, times λ, is the noise floor of 09/01", settled * 2.0 / 2, floor, 1e-6)
check(
    "by hand, a decay to 0 gets less than any constant rate, each from its best base",
    max(started_at(tuned[n], SHAPES[n]) for n in ("linear", "cosine", "one-cycle"))
    < started_at(tuned["constant"], constant),
)
for name, (mine, theirs) in both.items():
    check_close(f"{name} equals torch's at each of {N} steps", mine, theirs, 1e-9)
check_close("a network trained with either has the same weights", trained["ours"], trained["torch"], 1e-6)
check_close("a decay from a checkpoint equals the WSD that was planned", finished["branch"], finished["planned"], 1e-6)
check(
    "the range test's turning point is between 0.2 and 0.8, with every seed", all(0.2 < t.lowest < 0.8 for t in tests)
)


def below(lower: list[float], upper: list[float]) -> bool:
    """Whether it is lower with every seed."""
    return all(a < b for a, b in zip(lower, upper, strict=True))


check(
    "at 0.7 linear and inverse √ end below the constant rate, with every seed",
    all(below(reached[n, 0.7], reached["constant", 0.7]) for n in ("linear", "inverse √")),
)
check("WSD beats inverse √ at 0.1, with every seed", below(reached["WSD", 0.1], reached["inverse √", 0.1]))
check("inverse √ beats WSD at 0.7, with every seed", below(reached["inverse √", 0.7], reached["WSD", 0.7]))
check("linear from 0.3 beats linear from 0.1, with every seed", below(reached["linear", 0.3], reached["linear", 0.1]))
check(
    "at 0.3 linear and cosine overlap",
    max(reached["linear", 0.3]) > min(reached["cosine", 0.3])
    and max(reached["cosine", 0.3]) > min(reached["linear", 0.3]),
)
check("Adam's first step moves a weight by most of the learning rate", 0.02 < cold_moves[0] <= 0.0301)
check("Adam at 0.03 ends lower with warm-up, with every seed", below(warm, cold))
check("each decay ends below its trunk, with every seed", all(below(branches[end], trunk[end]) for end in ENDS))
check(
    "at no end are the branches worse than planned cosines, on average",
    all(sum(branches[end]) < 1.02 * sum(cosines[end]) for end in ENDS),
)
check("and they take less than half of the steps", steps_wsd < steps_cosine / 2)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstones' training loops use `linear`: a warm-up, then a straight fall, over whatever budget they are given,
# epochs or minutes: `uv run --package cifar10-resnet train --max-minutes 5` reaches 0 just when the five minutes are
# over, since the schedule is a function of progress, not of steps. The line is in
# `packages/cifar10-resnet/src/cifar10_resnet/train.py`: `schedule=linear(warmup=config.warmup)`.
#
# Papers: [Smith 2017](https://arxiv.org/abs/1506.01186), the range test (section 3.3); [Loshchilov & Hutter
# 2017](https://arxiv.org/abs/1608.03983), cosine and warm restarts; [Smith & Topin
# 2018](https://arxiv.org/abs/1708.07120), one-cycle; [Goyal et al. 2017](https://arxiv.org/abs/1706.02677), warm-up for
# large batches; [Hu et al. 2024](https://arxiv.org/abs/2404.06395), WSD; [Hägele et al.
# 2024](https://arxiv.org/abs/2405.18392), the end chosen late. Next: what to do when a gradient is suddenly huge,
# 09/04.

# %% [markdown] lang="zh"
# 各实战项目的训练循环都用 `linear`：先预热，再直线下降，预算可以是 epoch 也可以是分钟：
# `uv run --package cifar10-resnet train --max-minutes 5` 恰好在五分钟用完时降到 0，因为调度是进度的函数，而不是步数的函数。
# 这一行在 `packages/cifar10-resnet/src/cifar10_resnet/train.py`：`schedule=linear(warmup=config.warmup)`。
#
# 论文：[Smith 2017](https://arxiv.org/abs/1506.01186)，范围测试（第 3.3 节）；
# [Loshchilov 与 Hutter 2017](https://arxiv.org/abs/1608.03983)，余弦与热重启；
# [Smith 与 Topin 2018](https://arxiv.org/abs/1708.07120)，one-cycle；[Goyal 等 2017](https://arxiv.org/abs/1706.02677)，大批量的预热；
# [Hu 等 2024](https://arxiv.org/abs/2404.06395)，WSD；[Hägele 等 2024](https://arxiv.org/abs/2405.18392)，最后再定终点。
# 下一课：梯度突然变得巨大怎么办，09/04。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `step`, `one_cycle`, `warm_restarts` and `wsd` yourself. `uv run lesson exercise 09/03` makes a file with their
# signatures, `uv run lesson check 09/03` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `step`、`one_cycle`、`warm_restarts` 和 `wsd`。
# `uv run lesson exercise 09/03` 生成带有签名的文件，`uv run lesson check 09/03` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Each returns a function of progress: define `multiplier(progress)` inside and return it. Check the arguments first,
#    so that a mistake is told when the schedule is made, not in the middle of the training.
# 2. `step`: `bisect_right(milestones, progress)` counts the milestones at or before the progress.
#    `pairwise((0, *milestones, 1))` gives neighbors to compare.
# 3. `one_cycle`: up, the cosine runs from $\cos 0$ to $\cos \pi$ with a minus sign; down, the fraction is that of what
#    is left after the warm-up.
# 4. `warm_restarts`: cycle $k$ begins at $(1 + g + \dots + g^{k-1}) / (1 + g + \dots + g^{n-1})$. Find the cycle with
#    `bisect_right(bounds, progress) - 1`; at progress 1 stay in the last one.
# 5. `wsd`: three cases. If `decay` is 0, nothing is ever divided by it: progress is never above 1.

# %% [markdown] lang="zh"
# 1. 每个函数都返回一个进度的函数：在里面定义 `multiplier(progress)` 再返回。先检查参数，
#    这样错误在创建调度时就报出来，而不是在训练中途。
# 2. `step`：`bisect_right(milestones, progress)` 数出不晚于当前进度的里程碑。`pairwise((0, *milestones, 1))` 给出相邻的两个数。
# 3. `one_cycle`：上升时余弦从 $\cos 0$ 走到 $\cos \pi$，带负号；下降时用的是预热之后剩余部分的比例。
# 4. `warm_restarts`：第 $k$ 个周期从 $(1 + g + \dots + g^{k-1}) / (1 + g + \dots + g^{n-1})$ 开始。
#    用 `bisect_right(bounds, progress) - 1` 找到周期；进度为 1 时留在最后一个周期。
# 5. `wsd`：三种情况。`decay` 为 0 时不会除以它：进度不会超过 1。


# %%
@exercise(schedules.step, one_cycle, warm_restarts, wsd)
def judge(yours, reference):
    points = [p / 60 for p in range(61)]

    def compare(claim, name, *arguments, **options):
        mine, theirs = (getattr(each, name)(*arguments, **options) for each in (yours, reference))
        check_close(claim, [mine(p) for p in points], [theirs(p) for p in points], 1e-9)

    def refused(name, *arguments):
        try:
            getattr(yours, name)(*arguments)
        except ValueError:
            return True
        return False

    compare("step with one milestone", "step", (0.5,))
    compare("step with three milestones and another gamma", "step", (0.25, 0.5, 0.9), 0.3)
    check("step with milestones that do not rise raises ValueError", refused("step", (0.5, 0.5)))

    mine, theirs = (each.one_cycle(0.25, 0.1, 0.01) for each in (yours, reference))
    check_close("one_cycle: where it starts", mine(0.0), theirs(0.0))
    check_close("one_cycle: the rise", [mine(p) for p in points[:16]], [theirs(p) for p in points[:16]], 1e-9)
    check_close("one_cycle: the fall", [mine(p) for p in points[16:]], [theirs(p) for p in points[16:]], 1e-9)
    compare("one_cycle as it is by default", "one_cycle")
    check("one_cycle without a rise raises ValueError", refused("one_cycle", 0.0))

    compare("warm_restarts: a single cycle", "warm_restarts", 1)
    compare("warm_restarts: three equal cycles", "warm_restarts", 3)
    compare("warm_restarts: an end above 0", "warm_restarts", 3, end=0.2)
    compare("warm_restarts: growing cycles", "warm_restarts", 4, growth=2)
    check("warm_restarts without a cycle raises ValueError", refused("warm_restarts", 0))

    compare("wsd: rise and stable part", "wsd", 0.2, 0.0)
    compare("wsd: all three parts", "wsd", 0.1, 0.3, 0.2)
    check("wsd with parts of more than 1 raises ValueError", refused("wsd", 0.6, 0.5))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does lowering the learning rate lower the loss at once? · 为什么学习率一降，损失立刻下降？

# %% [markdown] lang="en"
# Not because the model suddenly learns faster, but because it stops jumping. With a constant rate SGD hovers about the
# minimum with a variance about proportional to the rate. A smaller rate averages the noise of more batches, and the
# weights fall toward the center of the cloud. Averaging the weights of the last steps shows the same without a decay.

# %% [markdown] lang="zh"
# 不是模型突然学得更快，而是它不再乱跳。学习率固定时，SGD 以大致与学习率成正比的方差在最小值周围徘徊。
# 学习率小了，就对更多批次的噪声取了平均，权重落向云团的中心。对最后若干步的权重取平均，不衰减也能看到同样的效果。

# %%
variance = 0.0
for step in range(300):
    eta = 0.5 if step < 100 else 0.05
    variance = (1 - eta) ** 2 * variance + eta**2
    if step in (99, 109, 119, 299):
        print(f"  step {step + 1}, rate {eta:g}: expected loss {variance / 2:.4f}")

# %% [markdown]
# ### What is warm-up good for? · 预热有什么用？

# %% [markdown] lang="en"
# At the start the loss is often sharply curved and the gradients are large, and Adam's averages rest on a single batch,
# so that its first step moves every weight by the full rate. A rate that is right later would wreck the initialization.
# Large batches need it more, since their base rate is larger. It is not always needed: if the rate is low enough for
# the first step, it only costs time.

# %% [markdown] lang="zh"
# 开始时损失往往很弯、梯度很大，而且 Adam 的平均只基于一个批次，第一步就让每个权重移动整整一个学习率。
# 后期合适的学习率，此时会毁掉初始化。批量越大越需要预热，因为基础学习率更大。预热并非总有必要：
# 如果学习率对第一步来说已经够低，它只是耗时间。

# %%
for name, moves, losses in (("without", cold_moves, cold), ("with", warm_moves, warm)):
    print(
        f"  {name} warm-up: the first step moves weights by {moves[0] / typical:.0%} of their size; ends at {written(losses)}"
    )

# %% [markdown]
# ### How does a range test work, and what does it not tell? · 范围测试怎么做，它不能告诉你什么？

# %% [markdown] lang="en"
# Train for some dozens of steps while the rate grows exponentially, plot the smoothed loss against it, and take a rate
# below the turning point. It tells which rates are too high *now*, for this batch size, optimizer and initialization.
# It does not tell what is best over the whole training, nor after a warm-up, and the smoothing shifts the curve to the
# right.

# %% [markdown] lang="zh"
# 训练几十步，学习率按指数增长，画出平滑损失，取转折点以下的学习率。
# 它告诉你*此刻*、对这个批量、优化器和初始化，哪些学习率太高。它不告诉你整个训练中什么最好，也不告诉你预热之后如何，
# 而且平滑会使曲线右移。

# %%
for smoothing in (0.0, 0.9, 0.97):
    model = network(0)
    found = learning_rate_range_test(
        model, torch.optim.SGD(model.parameters(), lr=1.0), rows(0, 100), batch_loss, 1e-3, 30.0, 100, smoothing
    )
    print(f"  smoothing {smoothing}: lowest loss at {found.lowest:.2f}")

# %% [markdown]
# ### Cosine or WSD for a long pretraining? · 长时间预训练用余弦还是 WSD？

# %% [markdown] lang="en"
# If the length is certain, both do; tune the rate for whichever you take. If it may change, or checkpoints of several
# lengths are wanted, WSD: its rate does not depend on the end until the decay, so a trunk can be extended, and any
# checkpoint of it finished. A cosine that is stopped early has not decayed, and one that has ended cannot be continued.

# %% [markdown] lang="zh"
# 长度确定时两者都行，为选定的那个调好学习率即可。长度可能变，或需要多个长度的检查点时用 WSD：
# 衰减之前它的学习率与终点无关，主干可以延长，任何检查点都可以收尾。提前停下的余弦还没衰减，已结束的余弦无法继续。

# %%
for name, shape in (("cosine", cosine), ("WSD", wsd)):
    early, late_end = shape(), shape()
    print(
        f"  {name}: rate at step 100, planned for 200 steps {early(100 / 200):.2f}, for 1,000 steps {late_end(100 / 1000):.2f}"
    )

# %% [markdown]
# ### The batch becomes k times as large. What about the rate? · 批量变为 k 倍，学习率怎么办？

# %% [markdown] lang="en"
# For SGD, multiply it by k, with warm-up (the linear scaling rule, Goyal et al. 2017): the noise's variance falls to
# 1/k, so k times the rate has about the same floor, and takes k times as long steps in 1/k of the number. It ends where
# the curvature, not the noise, limits the rate. For Adam, the square root of k is the usual advice (Malladi et al.
# 2022), since its update is divided by the gradient's root mean square, which falls with the noise.

# %% [markdown] lang="zh"
# 对 SGD，乘以 k 并预热（线性缩放规则，Goyal 等 2017）：噪声方差降到 1/k，所以 k 倍的学习率对应差不多的噪声底，
# 用 1/k 的步数走 k 倍长的步子。当限制学习率的是曲率而不是噪声时，这条规则就到头了。
# 对 Adam，通常建议乘以 k 的平方根（Malladi 等 2022），因为更新量除以梯度的均方根，而它会随噪声一起变小。

# %%
for k in (1, 4, 16, 64):
    eta, variance = 0.03 * k, 0.0
    for _ in range(2000):
        variance = (1 - eta) ** 2 * variance + eta**2 / k
    print(f"  batch × {k}, rate {eta:.2f}: variance {variance:.4f}")

# %% [markdown]
# ### A run is resumed in the middle. What of the schedule must be restored? · 训练中途恢复，调度的什么需要恢复？

# %% [markdown] lang="en"
# How far the training is, and nothing else, if the schedule is a function of progress. torch's schedulers hold a
# counter and the base rates: store their `state_dict` with the optimizer's. Forgetting it starts the warm-up anew with
# trained weights, which shows as a bump of the loss.

# %% [markdown] lang="zh"
# 如果调度是进度的函数，只需要恢复训练进度。torch 的调度器带有计数器和基础学习率：要把它的 `state_dict` 与优化器的一起保存。
# 忘了它，预热就会在训练好的权重上重新开始，损失会鼓起一个包。

# %%
optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 100)
for _ in range(70):
    optimizer.step()
    scheduler.step()
print(f"  at step 70: torch {scheduler.get_last_lr()[0]:.4f}, function of progress {cosine()(70 / 100):.4f}")
forgotten = lr_scheduler.CosineAnnealingLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0), 100)
print(f"  a scheduler whose state was not restored begins at {forgotten.get_last_lr()[0]:.4f}; it would be right with:")
print(f"  {scheduler.state_dict()}")
