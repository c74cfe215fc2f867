# %% [markdown]
# # Batch normalization · 批归一化

# %% [markdown] lang="en"
# After this lesson you can write batch norm forward and backward by hand, say what ε, γ, β and the running averages are
# for, and explain why a network that trains well may fail in use because of them. You need the chain rule (02/04) and
# a multilayer network (04/02, 04/03).

# %% [markdown] lang="zh"
# 学完本课，你能手写批归一化的前向与反向，能说清楚 ε、γ、β 和滑动平均各有什么用，
# 也能解释为什么训练得好好的网络会因为它们在使用时出错。先修：链式法则（02/04）和多层网络（04/02、04/03）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.neural_networks.initialization import init_weights, kaiming_normal_
from dlcommon.neural_networks.normalization import BatchNorm, fuse_linear_bn, normalize, normalize_backward
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD
from torch import nn

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You stack eight layers instead of two, and nothing trains: the loss stays at that of a guess. In each layer the
# signal is multiplied by weights that are a little too small, and after eight of them hardly anything is left. With
# weights a little too large it explodes instead. Careful initial weights (04/09) help at the start, but each step of
# training changes them, and the layers behind have to adapt to inputs of ever another size. Only a narrow range of
# learning rates works.
#
# What if each layer's inputs were brought to mean 0 and variance 1, at every step, whatever the weights before do?

# %% [markdown] lang="zh"
# 把两层网络换成八层，就什么也学不到了：损失一直停在瞎猜的水平。每一层都让信号乘上稍微偏小的权重，
# 过了八层几乎什么也不剩；权重稍微偏大，信号又会爆炸。精心的初始化（04/09）能保证起点，
# 但训练的每一步都在改变权重，后面的层不得不去适应大小不断变化的输入，只有很窄的一段学习率可用。
#
# 如果不管前面的权重怎么变，每一步都把每层的输入调整到均值 0、方差 1，会怎样？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One feature, a batch of eight samples: 2, 4, 4, 4, 5, 5, 7, 9. Their mean is 5. The squared distances from it are 9,
# 1, 1, 1, 0, 0, 4, 16, on average 4, so the standard deviation is 2. Subtract 5 and divide by 2:
# $-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2$. These have mean 0 and variance 1. A learned scale $\gamma = 3$ and shift
# $\beta = 1$ then give $-3.5, -0.5, -0.5, -0.5, 1, 1, 4, 7$.
#
# Later, in use, a single sample arrives and there is no batch to take a mean of. So two running averages are kept
# during training. They start at 0 and 1 and move a tenth of the way to each batch's statistics: the mean from 0 to
# $0.9 \cdot 0 + 0.1 \cdot 5 = 0.5$. For the variance the sum is divided by 7 instead of 8, which makes it right on
# average: $32/7 = 4.571$, and the running variance goes from 1 to $0.9 + 0.4571 = 1.357$.
#
# In a layer there are many features; each column of `[batch, features]` is treated by itself. The first
# picture shows that for six samples and four features, the second the whole layer.

# %% [markdown] lang="zh"
# 一个特征，一批八个样本：2、4、4、4、5、5、7、9。均值是 5。与均值之差的平方为 9、1、1、1、0、0、4、16，
# 平均是 4，所以标准差是 2。减 5 再除以 2：$-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2$，均值为 0，方差为 1。
# 再用可学习的缩放 $\gamma = 3$ 和平移 $\beta = 1$，得到 $-3.5, -0.5, -0.5, -0.5, 1, 1, 4, 7$。
#
# 以后真正使用时，来的是单个样本，没有批次可以求均值。所以训练时要另外维护两个滑动平均。
# 它们从 0 和 1 开始，每次向本批统计量移动十分之一：均值从 0 变成 $0.9 \cdot 0 + 0.1 \cdot 5 = 0.5$。
# 方差求和后除以 7 而不是 8，这样平均起来才无偏：$32/7 = 4.571$，滑动方差从 1 变成 $0.9 + 0.4571 = 1.357$。
#
# 一层里有许多特征；`[batch, features]` 的每一列各算各的。
# 第一张图是六个样本、四个特征的例子，第二张图是整个层的结构。

# %%
by_hand = BatchNorm(1).double()
with torch.no_grad():
    by_hand.weight.fill_(3.0)
    by_hand.bias.fill_(1.0)
eight = torch.tensor([2.0, 4, 4, 4, 5, 5, 7, 9], dtype=torch.float64)[:, None]  # [batch, 1]
hat, output = normalize(eight).x_hat[:, 0], by_hand(eight).detach()[:, 0]
table(
    ["x", "x̂", "3 x̂ + 1"],
    [(int(x), round(a, 3), round(b, 3)) for x, a, b in zip(eight[:, 0], hat.tolist(), output.tolist(), strict=True)],
)
print(f"  running mean {by_hand.running_mean.item():.4f}, running variance {by_hand.running_var.item():.4f}")

generator = torch.Generator().manual_seed(0)
batch = torch.randn(6, 4, generator=generator) * torch.tensor([0.3, 3.0, 1.0, 6.0]) + torch.tensor(
    [1.0, -4.0, 0.0, 8.0]
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, values, limit, title in (
    (axes[0], batch.numpy(), 15, "A batch: columns of any size"),
    (axes[1], normalize(batch).x_hat.numpy(), 3, "Each column normalized by itself"),
):
    axis.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for row, column in [(row, column) for row in range(6) for column in range(4)]:
        axis.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center", fontsize=9)
    axis.set(title=title, xlabel="feature", ylabel="sample", xticks=range(4), yticks=range(6))
figure.tight_layout()
show(figure, "columns")

drawing = Schematic(12.2, 3.7, "Batch norm in training (solid) and in evaluation (dashed)")
drawing.box("x", 0.9, 2.9, "x [N, C]", "data", width=1.2)
drawing.box("center", 3.1, 2.9, "− mean", width=1.4)
drawing.box("scale", 5.6, 2.9, "÷ √(var + ε)", width=1.7)
drawing.box("affine", 8.6, 2.9, "× γ, + β", width=1.5)
drawing.box("y", 11.1, 2.9, "y [N, C]", "data", width=1.2)
drawing.box("gamma", 8.6, 1.3, "γ, β [C]", "parameter", width=1.4)
drawing.box("batch", 2.2, 1.3, "mean, var\nof the batch [C]", width=2.1, height=0.8)
drawing.box("running", 5.4, 1.3, "running mean,\nrunning var [C]", "data", width=2.1, height=0.8)
for start, end, label in (("x", "center", ""), ("center", "scale", ""), ("scale", "affine", "x̂"), ("affine", "y", "")):
    drawing.arrow(start, end, label)
drawing.arrow("gamma", "affine")
drawing.arrow("x", "batch")
drawing.arrow("batch", "center")
drawing.arrow("batch", "scale")
drawing.arrow("batch", "running", "0.1")
drawing.arrow("running", "center", dashed=True)
drawing.arrow("running", "scale", dashed=True)
drawing.text(5.4, 0.5, "one mean and one variance per feature; no gradient goes into the running averages")
show(drawing.figure, "modes")

# %% [markdown]
# ## Formula · 公式
#
# $$\mu_B = \frac{1}{m} \sum_{i=1}^{m} x_i, \qquad \sigma_B^2 = \frac{1}{m} \sum_{i=1}^{m} (x_i - \mu_B)^2, \qquad \hat x_i = \frac{x_i - \mu_B}{\sqrt{\sigma_B^2 + \varepsilon}}, \qquad y_i = \gamma \hat x_i + \beta$$
#
# $$\mu \leftarrow (1 - \alpha) \mu + \alpha \mu_B, \qquad \sigma^2 \leftarrow (1 - \alpha) \sigma^2 + \alpha \frac{m}{m - 1} \sigma_B^2$$
#
# $$\text{evaluation:} \quad y = a x + b, \qquad a = \frac{\gamma}{\sqrt{\sigma^2 + \varepsilon}}, \qquad b = \beta - a \mu$$
#
# $$\frac{\partial L}{\partial x_i} = \frac{1}{\sqrt{\sigma_B^2 + \varepsilon}} \left( g_i - \frac{1}{m} \sum_{j=1}^{m} g_j - \hat x_i \cdot \frac{1}{m} \sum_{j=1}^{m} g_j \hat x_j \right), \qquad g_i = \gamma \frac{\partial L}{\partial y_i}$$
#
# $$\frac{\partial L}{\partial \gamma} = \sum_{i=1}^{m} \frac{\partial L}{\partial y_i} \hat x_i, \qquad \frac{\partial L}{\partial \beta} = \sum_{i=1}^{m} \frac{\partial L}{\partial y_i}$$

# %% [markdown] lang="en"
# - $x_i$: one feature's value in sample $i$; everything here happens for each feature by itself.
# - $m$: how many values a feature has in the batch: $N$ for inputs `[N, C]`, $N \cdot H \cdot W$ for images
#   `[N, C, H, W]`.
# - $\mu_B$, $\sigma_B^2$: mean and variance of the batch; $\hat x_i$: the normalized value.
# - $\varepsilon$: a small number ($10^{-5}$) that keeps the division finite where a feature hardly varies.
# - $\gamma$, $\beta$: learned scale and shift, one per feature, 1 and 0 at first (`weight` and `bias`). They let a
#   layer have any mean and variance that serves it; with $\gamma = \sqrt{\sigma_B^2 + \varepsilon}$, $\beta = \mu_B$
#   the layer gives its input back.
# - $\mu$, $\sigma^2$: the running averages; $\alpha$: the weight of the newest batch, 0.1 (torch calls it `momentum`).
# - $L$: the loss; $g_i$: its gradient with respect to $\hat x_i$.
#
# The first line is algorithm 1 of Ioffe & Szegedy 2015, evaluation is its algorithm 2; the gradients stand at the end
# of section 3, in more steps. Three paths lead from $x_i$ to the loss (02/04): directly, through the mean and through
# the variance; they are the three terms in the brackets. The second takes from the gradient its mean, the third its
# part along $\hat x$: moving or stretching all of $x$ would change nothing, so it is of no use to try.

# %% [markdown] lang="zh"
# - $x_i$：样本 $i$ 中某一个特征的值；下面的一切都对每个特征单独进行。
# - $m$：一个特征在批次里有多少个值：输入 `[N, C]` 时是 $N$，图像 `[N, C, H, W]` 时是 $N \cdot H \cdot W$。
# - $\mu_B$、$\sigma_B^2$：批次的均值和方差；$\hat x_i$：归一化后的值。
# - $\varepsilon$：很小的数（$10^{-5}$），在特征几乎不变时防止除以零。
# - $\gamma$、$\beta$：可学习的缩放与平移，每个特征一对，初始为 1 和 0（即 `weight` 和 `bias`）。
#   有了它们，一层可以取任何对它有利的均值和方差；取 $\gamma = \sqrt{\sigma_B^2 + \varepsilon}$、$\beta = \mu_B$ 时，输出就等于输入。
# - $\mu$、$\sigma^2$：滑动平均；$\alpha$：最新一批所占的权重，0.1（torch 称之为 `momentum`）。
# - $L$：损失；$g_i$：损失对 $\hat x_i$ 的梯度。
#
# 第一行是 Ioffe 与 Szegedy 2015 的算法 1，评估模式是其算法 2；梯度在论文第 3 节末尾，分成了更多步。
# 从 $x_i$ 到损失有三条路（02/04）：直接的、经过均值的、经过方差的，正是括号里的三项。
# 第二项去掉梯度的均值，第三项去掉梯度沿 $\hat x$ 的部分：把 $x$ 整体平移或拉伸，输出都不变，往这两个方向走没有用。

# %% [markdown]
# ## Code · 代码

# %%
source(normalize)
source(normalize_backward)
source(BatchNorm.forward)
source(BatchNorm.scale_and_shift)

# %% [markdown] lang="en"
# `normalize` reduces over all axes but axis 1, the features: for `[N, C]` over the batch, for `[N, C, H, W]` over batch
# and positions. `keepdim=True` leaves the statistics as `[1, C]` or `[1, C, 1, 1]`, so that they broadcast against `x`.
# `torch.rsqrt(v)` is $1/\sqrt v$.
#
# `BatchNorm.forward` has two branches. In training, `BatchNormFunction` joins `normalize` and `normalize_backward` into
# one step that autograd can use (04/03), times `weight` `[C]`, plus `bias` `[C]`. Then the running averages move:
# `lerp_(new, 0.1)` goes a tenth of the way to `new`, in place; it stands in `no_grad`, since nothing should be learned
# through them. In evaluation the layer is one multiplication and one addition per value, and looks at no other sample.

# %% [markdown] lang="zh"
# `normalize` 对除轴 1（特征）以外的所有轴求平均：`[N, C]` 是对批次，`[N, C, H, W]` 是对批次和位置。
# `keepdim=True` 让统计量保持 `[1, C]` 或 `[1, C, 1, 1]` 的形状，可以与 `x` 广播。`torch.rsqrt(v)` 就是 $1/\sqrt v$。
#
# `BatchNorm.forward` 有两个分支。训练时，`BatchNormFunction` 把 `normalize` 与 `normalize_backward` 合成 autograd 可用的一步（04/03），
# 再乘 `weight` `[C]`、加 `bias` `[C]`。随后更新滑动平均：
# `lerp_(new, 0.1)` 就地向 `new` 移动十分之一；它放在 `no_grad` 里，因为不应通过它们学习。
# 评估时，这一层对每个值只做一次乘法和一次加法，也不看其他样本。

# %% [markdown]
# ## Experiment: what ε does · 实验：ε 的作用

# %% [markdown] lang="en"
# Features of ever smaller spread are normalized with $\varepsilon = 10^{-5}$, whose root is 0.00316. A feature that is
# constant in the batch is the extreme case: a pixel at the border of all digits, for example.

# %% [markdown] lang="zh"
# 让特征的波动越来越小，用 $\varepsilon = 10^{-5}$ 归一化，它的平方根是 0.00316。
# 极端情形是特征在批次内完全不变：例如所有数字图像边缘上的一个像素。

# %%
quiz(
    "quiet feature",
    en="A feature has the standard deviation 0.00316, the root of ε. What is it after normalization?",
    zh="某个特征的标准差是 0.00316，即 ε 的平方根。归一化之后标准差是多少？",
)

# %%
unit = torch.randn(4096, 1, generator=generator, dtype=torch.float64)
unit = (unit - unit.mean()) / unit.std(correction=0)
spreads_in = [1.0, 0.1, 0.01, math.sqrt(1e-5), 0.001, 0.0]
spreads_out = [normalize(7 + spread * unit).x_hat.std(correction=0).item() for spread in spreads_in]
without_eps = [normalize(7 + spread * unit, eps=0.0).x_hat.std(correction=0).item() for spread in spreads_in]
settle("quiet feature", spreads_out[3], tolerance=0.05)
table(
    ["standard deviation before", "after, ε = 1e-5", "after, ε = 0"],
    zip(spreads_in, spreads_out, without_eps, strict=True),
)

# %% [markdown]
# ## Experiment: how fast the running averages follow · 实验：滑动平均跟得多快

# %% [markdown] lang="en"
# Batches of 256 values with mean 2 and variance 9. The running mean starts at 0; after $k$ batches it has come the
# share $1 - 0.9^k$ of the way.

# %% [markdown] lang="zh"
# 每批 256 个值，均值 2，方差 9。滑动均值从 0 开始；经过 $k$ 批之后，走完了路程的 $1 - 0.9^k$。

# %%
quiz(
    "running mean",
    en="The features' mean is 2. What is the running mean after 10 batches?",
    zh="特征的均值是 2。10 批之后滑动均值是多少？",
)

# %%
following, averages = BatchNorm(64).double(), []
for number in range(1, 61):
    following(2 + 3 * torch.randn(256, 64, generator=generator, dtype=torch.float64))
    if number in (1, 5, 10, 20, 60):
        averages.append(
            (number, following.running_mean.mean().item(), 2 * (1 - 0.9**number), following.running_var.mean().item())
        )
settle("running mean", averages[2][1])
table(["batches", "running mean (over 64 features)", "2 (1 − 0.9ᵏ)", "running variance"], averages)

# %% [markdown]
# ## Experiment: which learning rates work · 实验：哪些学习率可用

# %% [markdown] lang="en"
# Eight hidden layers of 64 units with ReLU, plain SGD, 60 batches of real digits, three seeds; the mean loss of the
# last 20 steps. Without batch norm, once from torch's default weights and once from He's, which suit ReLU (04/09);
# with batch norm from the default ones. A guess has the loss $\log 10 = 2.303$.

# %% [markdown] lang="zh"
# 八个隐藏层，每层 64 个单元，ReLU，普通 SGD，真实数字 60 个批次，三个种子；看最后 20 步的平均损失。
# 不用批归一化时，分别用 torch 的默认初始化和适合 ReLU 的 He 初始化（04/09）；用批归一化时从默认权重开始。
# 瞎猜的损失是 $\log 10 = 2.303$。

# %%
quiz(
    "rate of one",
    en="Which of the three trains at a learning rate of 1.0, with every seed?",
    zh="学习率为 1.0 时，哪一个在每个种子下都能训练？",
    choices={
        "none": "none · 都不能",
        "batch norm": "only with batch norm · 只有批归一化",
        "He": "batch norm and He's weights · 批归一化和 He 初始化",
        "all": "all · 全部",
    },
)

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:4000])
tests = torch.from_numpy(digits.test_images[:1000]).float().flatten(1) / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])


def deep_network(with_norm: bool, with_he: bool, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs in [784, *[64] * 7]:
            layers += [nn.Linear(inputs, 64, bias=not with_norm), *([BatchNorm(64)] if with_norm else []), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(64, 10))
        if with_he:
            init_weights(network, kaiming_normal_)
        return network


def trained(with_norm: bool, with_he: bool, rate: float, seed: int, steps: int = 60) -> tuple[nn.Sequential, float]:
    """The network, and its mean loss in the last 20 steps."""
    network, losses = deep_network(with_norm, with_he, seed), []
    optimizer, draw = SGD(network.parameters(), lr=rate), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(images), (64,), generator=draw)
        optimizer.zero_grad()
        loss = cross_entropy(network(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, sum(losses[-20:]) / 20


rates, seeds = [0.03, 0.1, 0.3, 1.0], (0, 1, 2)
kinds = {"default weights": (False, False), "He's weights": (False, True), "batch norm": (True, False)}
runs = {
    (name, rate, seed): trained(*kind, rate, seed) for name, kind in kinds.items() for rate in rates for seed in seeds
}
losses = {name: [[runs[name, rate, seed][1] for seed in seeds] for rate in rates] for name in kinds}
table(
    ["network", "rate", "loss, seed 0", "seed 1", "seed 2"],
    [(name, rate, *row) for name, by_rate in losses.items() for rate, row in zip(rates, by_rate, strict=True)],
)
trains = {name: all(loss < 1.8 for loss in by_rate[-1]) for name, by_rate in losses.items()}
settle("rate of one", {0: "none", 1: "batch norm", 2: "He", 3: "all"}[sum(trains.values())])

# %% [markdown]
# ## Experiment: a sample and its batch · 实验：样本与同批样本

# %% [markdown] lang="en"
# In training mode the same image gets other logits in another batch. The statistics are means over $n$ samples, so this
# noise falls about as $1/\sqrt n$: large in batches of four. In evaluation mode it is gone, if the running averages are
# good: after five steps of training they have come only 41 % of the way from 0 and 1, and the network fails although its weights are no
# worse than in training mode.
#
# In evaluation a batch norm is $a x + b$, so it can be multiplied into the linear layer before it: it then costs
# nothing.

# %% [markdown] lang="zh"
# 训练模式下，同一张图换一批同伴，logits 就不同。统计量是 $n$ 个样本的平均，这种噪声大致按 $1/\sqrt n$ 下降：
# 每批四张时很大。评估模式下没有这种噪声，前提是滑动平均已经可靠：只训练五步时，它们从 0 和 1 出发只走了 41 % 的路程，
# 权重并不比训练模式下差，网络却不会认数字。
#
# 评估时批归一化就是 $a x + b$，可以乘进前面的线性层，此后不再有任何开销。

# %%
sizes = [4, 8, 16, 32, 64, 128, 256]
noise: dict[int, list[float]] = {}
for seed in seeds:
    noisy, draw, noise[seed] = trained(True, False, 0.1, seed)[0], torch.Generator().manual_seed(seed), []
    for size in sizes:
        logits = []
        for _ in range(40):
            others = torch.randint(1, len(images), (size - 1,), generator=draw)
            with torch.no_grad():
                logits.append(noisy(torch.cat([images[:1], images[others]]))[0])  # still in training mode
        noise[seed].append(torch.stack(logits).std(0).mean().item())
falls_as = {
    seed: math.log(row[-1] / row[2]) / math.log(sizes[-1] / sizes[2]) for seed, row in noise.items()
}  # exponent of n between 16 and 256
table(
    ["images in the batch", *(f"spread of logits, seed {seed}" for seed in seeds)],
    zip(sizes, *noise.values(), strict=True),
)
print("  from 16 to 256 images the spread falls as n to the", ", ".join(f"{power:.2f}" for power in falls_as.values()))


def accuracy(network: nn.Module) -> float:
    with torch.no_grad():
        return (network(tests).argmax(1) == test_labels).float().mean().item()


def accuracies(seed: int, steps: int) -> tuple[float, float]:
    """In training mode, normalized by the 1,000 tests themselves, and in evaluation mode."""
    network = trained(True, False, 0.3, seed, steps)[0].eval()
    evaluated = accuracy(network)
    return accuracy(network.train()), evaluated


early, late = ({seed: accuracies(seed, steps) for seed in seeds} for steps in (5, 60))
table(
    ["steps", "seed", "accuracy by batch statistics", "by running averages"],
    [(steps, seed, *pair) for steps, pairs in ((5, early), (60, late)) for seed, pair in pairs.items()],
)
network = trained(True, False, 0.3, seed=0)[0].eval()
with torch.no_grad():
    alone, together = network(tests[:1]), network(tests)[:1]
layers = list(network)
fused = nn.Sequential(
    *(
        fuse_linear_bn(layer, layers[n + 1]) if n + 1 < len(layers) and isinstance(layers[n + 1], BatchNorm) else layer
        for n, layer in enumerate(layers)
        if not isinstance(layer, BatchNorm)
    )
)
print(
    f"  fused: {len(layers)} layers become {len(fused)}, test accuracy {accuracy(fused):.3f} and {accuracy(network):.3f}"
)

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for (name, by_rate), style in zip(losses.items(), (":", "--", "-"), strict=True):
    mean = [sum(row) / 3 for row in by_rate]
    (line,) = left.semilogx(rates, mean, f"o{style}", label=name)
    left.vlines(rates, [min(row) for row in by_rate], [max(row) for row in by_rate], color=line.get_color())
    diverged = [rate for rate, loss in zip(rates, mean, strict=True) if not loss < 2.6]
    left.plot(diverged, [2.5] * len(diverged), "x", color=line.get_color(), markersize=10)
left.axhline(math.log(10), color="grey", linewidth=1, label="a guess, log 10")
left.set(
    title="Training loss, three seeds (×: diverged)",
    xlabel="learning rate",
    ylabel="mean loss of steps 40 to 60",
    ylim=(0, 2.7),
)
left.legend(fontsize=8)
for (seed, row), marker in zip(noise.items(), "os^", strict=True):
    right.loglog(sizes, row, f"{marker}-", label=f"seed {seed}")
right.loglog(sizes, [noise[0][3] * (sizes[3] / size) ** 0.5 for size in sizes], ":", color="grey", label="1/√n")
right.set_xticks(sizes, [str(size) for size in sizes])
right.minorticks_off()
right.set(
    title="How much its batch changes one image's logits", xlabel="images in the batch", ylabel="standard deviation"
)
right.legend(fontsize=8)
show(figure, "rates-and-batches")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Output, gradients of input, weight and bias, and running averages after three batches, against `nn.BatchNorm1d` and
# `2d`, in float64, in training and in evaluation mode.

# %% [markdown] lang="zh"
# 与 `nn.BatchNorm1d` 和 `2d` 对照：输出，对输入、weight、bias 的梯度，以及三个批次之后的滑动平均；float64，训练与评估两种模式。

# %%
differences = {}
for reference_class, shape in ((nn.BatchNorm1d, (32, 6)), (nn.BatchNorm2d, (8, 6, 5, 5))):
    ours, theirs = BatchNorm(6).double(), reference_class(6).double()
    for training in (True, False):
        ours.train(training), theirs.train(training)
        gaps = []
        for _ in range(3):
            x = 2 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
            upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
            both = []
            for layer in (ours, theirs):
                inputs = x.clone().requires_grad_()
                y = layer(inputs)
                both.append([y, *torch.autograd.grad(y, [inputs, layer.weight, layer.bias], upstream)])
            gaps += [(a - b).abs().max().item() for a, b in zip(*both, strict=True)]
        gaps += [(a - b).abs().max().item() for a, b in zip(ours.buffers(), theirs.buffers(), strict=True)]
        differences[f"{reference_class.__name__}, {'training' if training else 'evaluation'}"] = max(gaps)
table(["against", "largest difference"], differences.items())

x = torch.randn(64, 6, generator=generator, dtype=torch.float64)
upstream = torch.randn(64, 6, generator=generator, dtype=torch.float64)
normalized = normalize(x, eps=0.0)
gradient = normalize_backward(upstream, normalized.x_hat, normalized.inv_std)
along_ones = gradient.sum(0).abs().max().item()
along_x_hat = (gradient * normalized.x_hat).sum(0).abs().max().item()
print(f"  with ε = 0, the gradient's part along 1: {along_ones:.1e}, along x̂: {along_x_hat:.1e}")
given_back = BatchNorm(6).double()
with torch.no_grad():
    given_back.weight.copy_((x.var(0, correction=0) + given_back.eps).sqrt())
    given_back.bias.copy_(x.mean(0))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: −3.5, −0.5, …, 7", output, [-3.5, -0.5, -0.5, -0.5, 1, 1, 4, 7], 1e-4)
check_close(
    "the running averages after it are 0.5 and 1.357",
    [by_hand.running_mean.item(), by_hand.running_var.item()],
    [0.5, 0.9 + 3.2 / 7],
    1e-9,
)
for name, difference in differences.items():
    check(f"values, gradients and averages are those of torch's {name}", difference < 1e-10)
check_close("γ = √(σ² + ε) and β = μ give the input back", given_back(x), x, 1e-10)
check("the gradient has no part along 1 or along x̂", max(along_ones, along_x_hat) < 1e-12)
check_close("a feature as quiet as √ε comes out at 1/√2", spreads_out[3], 0.5**0.5, 1e-6)
check("a constant feature is 0 with ε, and not a number without", spreads_out[-1] == 0 and math.isnan(without_eps[-1]))
check(
    "the running mean follows as 1 − 0.9ᵏ, within 3 %",
    all(abs(mean / expected - 1) < 0.03 for _, mean, expected, _ in averages),
)
check("from torch's default weights nothing trains, with any seed", min(map(min, losses["default weights"])) > 2.2)
check(
    "from He's weights some rates work and 1.0 does not, with any seed",
    max(min(losses["He's weights"], key=max)) < 1.8 and not any(loss < 1.8 for loss in losses["He's weights"][-1]),
)
check("with batch norm all rates tried work, with every seed", max(map(max, losses["batch norm"])) < 1.4)
check(
    "at each one's best rate batch norm ends lower, with every seed",
    max(min(losses["batch norm"], key=max)) < min(min(losses["He's weights"], key=max)),
)
check(
    "small batches are noisy, about as 1/√n, with every seed", all(-0.8 < power < -0.3 for power in falls_as.values())
)
check(
    "after five steps the running averages cost at least 20 points of accuracy, with every seed",
    all(by_batch - by_average > 0.2 for by_batch, by_average in early.values()),
)
check(
    "after sixty they serve: above 65 % right, and the gap is less than half of that after five steps",
    all(by_average > 0.65 for _, by_average in late.values())
    and all(2 * (late[seed][0] - late[seed][1]) < early[seed][0] - early[seed][1] for seed in seeds),
)
check_close("in evaluation an image's logits are its own", alone, together, 1e-4)
check_close("fused, the network gives the same logits", fused(tests), network(tests), 1e-4)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The network of the capstone `mnist-classifier` has a batch norm in each block; run
# `uv run --package mnist-classifier train --max-minutes 2`. Residual networks (05/07) and `cifar10-resnet` are built
# on it.
#
# Papers: [Ioffe & Szegedy 2015](https://arxiv.org/abs/1502.03167); [Santurkar et al.
# 2018](https://arxiv.org/abs/1805.11604) ask why it helps, and find another reason than the first paper's title names.
# Next: other ways to keep a network from memorizing, 04/08, and initial weights for networks without it, 04/09.

# %% [markdown] lang="zh"
# 实战项目 `mnist-classifier` 的网络每个模块里都有批归一化；运行 `uv run --package mnist-classifier train --max-minutes 2`。
# 残差网络（05/07）和 `cifar10-resnet` 都建立在它之上。
#
# 论文：[Ioffe 与 Szegedy 2015](https://arxiv.org/abs/1502.03167)；
# [Santurkar 等 2018](https://arxiv.org/abs/1805.11604) 研究它为什么有效，得出的原因与前一篇标题所说的不同。
# 下一课：防止网络死记硬背的其他办法，04/08；没有批归一化时如何初始化，04/09。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `normalize`, `normalize_backward` and `BatchNorm.forward`: `uv run lesson exercise 04/07` makes the file,
# `uv run lesson check 04/07` judges it. The layer's constructor and `scale_and_shift` are given.

# %% [markdown] lang="zh"
# 写出 `normalize`、`normalize_backward` 和 `BatchNorm.forward`：`uv run lesson exercise 04/07` 生成文件，
# `uv run lesson check 04/07` 评判。该层的构造函数和 `scale_and_shift` 已经给好。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Reduce over all axes but axis 1: `x.mean(axes, keepdim=True)` with `axes` such as `(0,)` or `(0, 2, 3)`.
# 2. `normalize` returns `Normalized(x_hat, mean, var, inv_std)`, the statistics with all axes kept. The variance is the
#    biased one, the mean of the squared distances.
# 3. The gradient has three terms: what arrives, minus its mean, minus $\hat x$ times the mean of what arrives times
#    $\hat x$; all of it times $1/\sigma$. The means are over the same axes.
# 4. In `forward`, call your `normalize` and compute `weight * x_hat + bias`: autograd then finds the gradients by
#    itself (`BatchNormFunction.apply` does it with the formula). `weight` is `[C]`: give it `x`'s number of axes
#    first, with `view(1, -1, 1, 1)` or the like.
# 5. The running averages: within `torch.no_grad()`, in place, the variance times $m/(m - 1)$, only in training. Count
#    the batch in `num_batches_tracked`.

# %% [markdown] lang="zh"
# 1. 对除轴 1 以外的所有轴求平均：`x.mean(axes, keepdim=True)`，`axes` 形如 `(0,)` 或 `(0, 2, 3)`。
# 2. `normalize` 返回 `Normalized(x_hat, mean, var, inv_std)`，统计量保留所有轴。方差用有偏的，即差的平方的平均。
# 3. 梯度有三项：传来的梯度，减去它的均值，再减去 $\hat x$ 乘以“传来的梯度乘 $\hat x$”的均值；
#    整体乘以 $1/\sigma$。均值都在同样的轴上求。
# 4. 在 `forward` 里调用你的 `normalize`，算 `weight * x_hat + bias`，autograd 会自己求出梯度；
#    `BatchNormFunction.apply` 则按公式来求。`weight` 是 `[C]`，要先补足轴数，例如 `view(1, -1, 1, 1)`。
# 5. 滑动平均：放在 `torch.no_grad()` 里，就地更新，方差乘以 $m/(m - 1)$，只在训练时进行。
#    别忘了把 `num_batches_tracked` 加一。


# %%
@exercise(normalize, normalize_backward, BatchNorm.forward)
def judge(yours, reference):
    draw = torch.Generator().manual_seed(9)

    def random(*shape):
        return 1.5 + 2 * torch.randn(*shape, generator=draw, dtype=torch.float64)

    def refuses(action):
        try:
            action()
        except ValueError:
            return True
        return False

    for shape, eps in (((5, 3), 1e-5), ((4, 3, 2, 2), 1e-5), ((5, 3), 0.7)):
        x = random(*shape)
        mine, expected = (part.normalize(x, eps) for part in (yours, reference))
        where = f"inputs {list(shape)}, eps={eps}"
        for name in ("mean", "var", "inv_std", "x_hat"):
            check_close(f"normalize, {where}: {name}", getattr(mine, name), getattr(expected, name), 1e-9)
    check("normalize refuses one value per feature", refuses(lambda: yours.normalize(random(1, 3))))
    for shape in ((5, 3), (4, 3, 2, 2)):
        part, g = reference.normalize(random(*shape)), random(*shape)
        mine, expected = (each.normalize_backward(g, part.x_hat, part.inv_std) for each in (yours, reference))
        check_close(f"normalize_backward, inputs {list(shape)}", mine, expected, 1e-9)

    for shape in ((6, 3), (4, 3, 2, 5)):
        layers, where = [part.BatchNorm(3, 1e-3, 0.3).double() for part in (yours, reference)], f"inputs {list(shape)}"
        for layer in layers:
            with torch.no_grad():
                layer.weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
                layer.bias.copy_(torch.tensor([1.0, 0.0, 3.0]))
        for batch in ("first", "second"):
            x, g, found = random(*shape), random(*shape), []
            for layer in layers:
                inputs = x.clone().requires_grad_()
                y = layer(inputs)
                found.append([y, *torch.autograd.grad(y, [inputs, layer.weight, layer.bias], g), *layer.buffers()])
            names = ["the output", "∂L/∂x", "∂L/∂weight", "∂L/∂bias"]
            names += ["running_mean", "running_var", "num_batches_tracked"]
            for name, mine, expected in zip(names, *found, strict=True):
                check_close(f"training, {where}, {batch} batch: {name}", mine, expected, 1e-9)
        check(f"training, {where}: the running averages carry no gradient", not layers[0].running_mean.requires_grad)
        before = [buffer.clone() for buffer in layers[0].buffers()]
        x = random(*shape)
        mine, expected = (layer.eval()(x) for layer in layers)
        check_close(f"evaluation, {where}: the output", mine, expected, 1e-9)
        kept = all(torch.equal(a, b) for a, b in zip(before, layers[0].buffers(), strict=True))
        check(f"evaluation, {where}: the running averages stay", kept)
        check_close(f"evaluation, {where}: a single sample", layers[0](x[:1]), mine[:1], 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does a linear layer before batch norm need no bias? · 批归一化前面的线性层为什么不需要偏置？

# %% [markdown] lang="en"
# A bias adds a constant to a feature in all samples; subtracting the batch mean takes it out again. It changes nothing
# in the output, so its gradient is 0. Batch norm's own β does what the bias was for. Leaving it out saves memory and
# time, and keeps weight decay from working on a number without meaning.

# %% [markdown] lang="zh"
# 偏置给所有样本的同一特征加上一个常数，减去批次均值时又被减掉了。它对输出没有任何影响，所以梯度为 0。
# 偏置原来的作用由批归一化的 β 承担。去掉它省内存、省时间，也免得权重衰减作用在一个没有意义的数上。

# %%
linear, norm = nn.Linear(6, 4).double(), BatchNorm(4).double()
norm(linear(x)).square().mul(upstream[:, :4]).sum().backward()
print(f"  gradient of the bias {linear.bias.grad.abs().max():.1e}, of the weights {linear.weight.grad.abs().max():.1e}")

# %% [markdown]
# ### What do train() and eval() change, and how do you notice that eval() was forgotten? · train() 与 eval() 改变什么？忘了 eval() 有什么迹象？

# %% [markdown] lang="en"
# In training mode it takes the batch's statistics and moves the running averages; in evaluation mode it takes these
# averages and changes nothing. Forgotten: a sample's prediction depends on what else is in the batch and on its
# order, a batch of one fails or gives nonsense, the numbers get better with the batch size, and evaluating changes
# the model, since the averages go on moving over test data.

# %% [markdown] lang="zh"
# 训练模式使用本批统计量，并更新滑动平均；评估模式使用滑动平均，什么也不改。
# 忘了 eval() 的迹象：一个样本的预测随同批其他样本而变，批大小为 1 时报错或结果荒唐，批次越大指标越好；
# 而且评估本身会改变模型，因为滑动平均在测试数据上继续移动。

# %%
with torch.no_grad():
    for mode in (True, False):
        network.train(mode)
        first, second = network(tests[:8])[0], network(torch.cat([tests[:1], tests[8:15]]))[0]
        print(
            f"  {'train' if mode else 'eval '}: one image in two batches, logits differ by {(first - second).abs().max():.3f}"
        )

# %% [markdown]
# ### Why does batch norm allow larger learning rates? · 批归一化为什么允许更大的学习率？

# %% [markdown] lang="en"
# The output does not depend on the size of the weights before it: ten times the weights give the same output and a
# tenth of the gradient. A step that was too large makes the weights longer, so later steps are relatively smaller: it
# slows itself down. Signals keep their size through all layers. The original paper named the shift of the layers'
# inputs ("internal covariate shift"); Santurkar et al. 2018 added such shifts on purpose and it still trained well;
# they found a smoother loss instead.

# %% [markdown] lang="zh"
# 输出与前面权重的大小无关：权重放大十倍，输出不变，梯度缩小为十分之一。
# 某一步走得太大，权重就变长，之后的步子相对变小：它会自己慢下来。信号穿过各层时大小也保持不变。
# 原论文的解释是各层输入分布的漂移（internal covariate shift）；
# Santurkar 等 2018 故意加入这种漂移，训练仍然很好，他们发现的原因是损失曲面变得更平滑。

# %%
weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
by_size = []
for size in (1.0, 10.0):
    scaled = (size * weight).requires_grad_()
    y = normalize(x @ scaled, eps=0.0).x_hat
    by_size.append((y.detach(), torch.autograd.grad(y, scaled, upstream[:, :4])[0]))
(y_1, gradient_1), (y_10, gradient_10) = by_size
print(
    f"  weights × 10: output differs by {(y_10 - y_1).abs().max():.1e}, gradient is {(gradient_10 / gradient_1).mean():.3f} of it"
)

# %% [markdown]
# ### What goes wrong with batches of two or four, and what then? · 每批只有两到四个样本会出什么问题？怎么办？

# %% [markdown] lang="en"
# Mean and variance are estimates from few samples: the noise falls only as $1/\sqrt n$, and the running averages used
# later belong to a network that saw other numbers. Remedies: group norm or layer norm, which take statistics within one
# sample; statistics over all devices (SyncBatchNorm); or frozen averages when a pretrained network is tuned, as in
# detection. Note that gradient accumulation does not help: each small batch is still normalized by itself.

# %% [markdown] lang="zh"
# 均值和方差只由少数样本估计：噪声只按 $1/\sqrt n$ 下降，之后使用的滑动平均与训练时实际用的数也不一致。
# 办法：改用组归一化或层归一化，它们在单个样本内部求统计量；跨设备合并统计量（SyncBatchNorm）；
# 微调预训练网络时冻结滑动平均（检测任务常这样做）。注意梯度累积没有用：每个小批次仍然各自归一化。

# %%
for size, spread in zip(sizes, noise[0], strict=True):
    print(f"  {size:3d} images: the first one's logits vary by {spread:.3f}")

# %% [markdown]
# ### What does batch norm cost at inference? · 批归一化在推理时有多大开销？

# %% [markdown] lang="en"
# None, if it stands behind a linear layer or a convolution: in evaluation it is $a x + b$ per feature with fixed
# numbers, so $W$ becomes $a W$ and the bias $a \cdot \text{bias} + b$. Exporters do this. It must be done after
# training and with the running averages, and it is not possible where a nonlinearity stands between.

# %% [markdown] lang="zh"
# 如果紧跟在线性层或卷积之后，就没有开销：评估时它对每个特征是固定的 $a x + b$，
# 所以 $W$ 变成 $a W$，偏置变成 $a \cdot \text{bias} + b$，导出工具会自动完成。
# 必须在训练之后、用滑动平均来做；中间隔着非线性时不能合并。

# %%
network.eval()
print(
    f"  {sum(isinstance(layer, BatchNorm) for layer in layers)} batch norms fused: {len(layers)} layers become {len(fused)}"
)

# %% [markdown]
# ### Why do Transformers use layer norm and not batch norm? · Transformer 为什么用层归一化而不用批归一化？

# %% [markdown] lang="en"
# Layer norm takes mean and variance over the features of one token, so a token depends on no other sample: training and
# inference compute the same, no running averages are needed, and padding, sequences of any length and generation of one
# token at a time do no harm. Batch statistics over texts of different lengths are noisy and dominated by padding and
# common words.

# %% [markdown] lang="zh"
# 层归一化在单个词元的特征上求均值和方差，不依赖其他样本：训练与推理的计算相同，不需要滑动平均，
# 填充、任意长度的序列、逐个词元生成都没有问题。而在长短不一的文本上，批统计量噪声大，还会被填充和常见词主导。

# %%
tokens = torch.randn(3, 8, generator=generator)
layer_norm, batch_norm = nn.LayerNorm(8), nn.BatchNorm1d(8)
for name, norm in (("layer norm", layer_norm), ("batch norm", batch_norm)):
    change = (norm(tokens)[0] - norm(torch.cat([tokens[:1], 5 * tokens[1:]]))[0]).abs().max()
    print(f"  {name}: other samples times 5 change the first one by {change.item():.3f}")
