# %% [markdown]
# # Gradient accumulation · 梯度累积

# %% [markdown] lang="en"
# After this lesson you can train with batches that do not fit into memory, prove that the gradient is that of the large
# batch, and name the places where it is not: batch norm, token counts, dropout, clipping, and processes that exchange
# gradients too often. You need autograd (03/03), the training loop (03/09) and batch norm (04/07).

# %% [markdown] lang="zh"
# 学完本课，你能用放不进内存的批量训练，能证明梯度与大批量的相同，并能指出哪些地方不相同：
# 批归一化、词元数、dropout、裁剪，以及过于频繁交换梯度的多个进程。先修：自动求导（03/03）、训练循环（03/09）、批归一化（04/07）。

# %%
import contextlib
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.runtime.batches import Batch
from dlcommon.runtime.gradient_accumulation import GradientAccumulation
from dlcommon.training.activation_memory import saved_bytes
from dlcommon.training.gradient_clipping import clip_by_global_norm
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A paper trains with batches of 512. Yours run out of memory above 64, since every activation of every sample is kept
# for the backward pass. With 64 the gradients are noisier, and the paper's learning rate diverges.
#
# But a batch's loss is a mean, and the gradient of a mean is the mean of the gradients. So compute eight batches of 64
# one after the other, add the gradients up, and take one step. PyTorch even does the adding by itself: `backward` adds
# to `.grad`. It is four lines of code, and in October 2024 it turned out that the most used training library had them
# wrong for years.

# %% [markdown] lang="zh"
# 论文用 512 的批量训练。你的显存超过 64 就不够了，因为每个样本的每个激活值都要为反向传播保留。
# 用 64，梯度噪声更大，论文的学习率会发散。
#
# 但批次的损失是平均值，而平均值的梯度就是梯度的平均值。所以依次计算八个 64 的批次，把梯度加起来，再走一步。
# 连加法都是 PyTorch 自己做的：`backward` 是往 `.grad` 上加。四行代码的事，
# 然而 2024 年 10 月人们发现，使用最广的训练库多年来一直把它写错了。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# A language model's loss is a mean over *tokens*. Micro-batch A has a single token, with the gradient 4. Micro-batch B
# has three, with the gradient 1 each. The large batch of all four: $(4 + 1 + 1 + 1) / 4 = 1.75$.
#
# The obvious accumulation takes the mean of each micro-batch, 4 and 1, divides by their number, and adds:
# $4/2 + 1/2 = 2.5$. The one token of A counts as much as the three of B together. It is a mean of means, and that is a
# mean only if all have the same size.
#
# The right weights are the token counts: $(1 \cdot 4 + 3 \cdot 1) / (1 + 3) = 1.75$. When A is computed we do not know
# yet that B will have three tokens. So scale relative to the first: A by $1/1$, B by $3/1$, sum $4 + 3 = 7$. At the
# end, when the total is known, multiply the sum by $1/4$.

# %% [markdown] lang="zh"
# 语言模型的损失是对*词元*的平均。微批次 A 只有一个词元，梯度为 4；微批次 B 有三个词元，梯度各为 1。
# 四个词元合成的大批次：$(4 + 1 + 1 + 1) / 4 = 1.75$。
#
# 想当然的累积是取每个微批次的平均（4 和 1），除以微批次数，再相加：$4/2 + 1/2 = 2.5$。
# A 的一个词元与 B 的三个词元合起来一样重。这是平均的平均，只有大小都相同时才等于平均。
#
# 正确的权重是词元数：$(1 \cdot 4 + 3 \cdot 1) / (1 + 3) = 1.75$。计算 A 时还不知道 B 会有三个词元。
# 所以相对于第一个来缩放：A 乘 $1/1$，B 乘 $3/1$，和为 $4 + 3 = 7$。最后总数已知，再乘 $1/4$。

# %%
weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
micro_batches = [torch.tensor([4.0]), torch.tensor([1.0, 1.0, 1.0])]  # each token's gradient


def by_class(world_size: int, held: list[list[torch.Tensor]]) -> list[float]:
    """Gradient of each process; `held` has a row for each batch, with the tokens that each process holds of it."""
    found = []
    for rank in range(world_size):
        weight.grad = None
        accumulation = GradientAccumulation(len(held), world_size)
        for row in held:
            tokens = row[rank]
            accumulation.begin(Batch((tokens,), len(tokens), len(tokens), sum(len(part) for part in row)), last=False)
            (accumulation.loss_scale * (weight * tokens).mean()).backward()
        accumulation.average_gradients([weight])
        found.append(weight.grad.item())
    return found


alone = by_class(1, [[micro_batches[0]], [micro_batches[1]]])
pair = by_class(2, [micro_batches])  # one batch, A on the first process, B on the second
table(
    ["", "gradient"],
    [
        ("large batch", torch.cat(micro_batches).mean().item()),
        ("mean of means", sum(part.mean().item() for part in micro_batches) / 2),
        ("GradientAccumulation, one process, two micro-batches", alone[0]),
        ("the same, two processes with one each: their gradients", str(pair)),
        ("… averaged, as DDP does", sum(pair) / 2),
    ],
)

drawing = Schematic(12.4, 3.6, "Four micro-batches, one step")
for i in range(4):
    x = 1.1 + 2.3 * i
    drawing.box(f"m{i}", x, 2.6, f"micro-batch {i + 1}", "data", 1.9)
    drawing.box(f"g{i}", x, 1.0, ".grad += …", "operation", 1.7)
    drawing.arrow(f"m{i}", f"g{i}", "backward")
    if i:
        drawing.arrow(f"g{i - 1}", f"g{i}")
drawing.box("end", 10.9, 1.0, "× W₁ / Σ W\nclip, step", "operation", 1.8, height=0.9)
drawing.arrow("g3", "end")
show(drawing.figure, "accumulation")

# %% [markdown]
# ## Formula · 公式
#
# $$L = \frac{\sum_i w_i\, l_i}{\sum_i w_i}, \qquad \nabla L = \frac{\sum_i w_i \nabla l_i}{\sum_i w_i} = \frac{W_1}{\sum_i W_i} \sum_i \frac{w_i}{W_1} \nabla l_i$$
#
# $$\nabla L = \frac{1}{P} \sum_{r=1}^{P} \left( \frac{W_1}{\sum_i W_i} \sum_i \frac{P\, w_{ri}}{W_1} \nabla l_{ri} \right), \qquad W_i = \sum_{r} w_{ri}$$
#
# $$\mathrm{clip}_c\Big(\sum_i g_i\Big) \neq \sum_i \mathrm{clip}_c(g_i)$$
#
# $$\hat x = \frac{x - \mu_{\text{batch}}}{\sqrt{\sigma^2_{\text{batch}} + \varepsilon}}$$

# %% [markdown] lang="en"
# - $l_i$: the mean loss of micro-batch $i$, a scalar; $w_i$: what the mean is taken over: samples, or target tokens.
# - $L$: the loss of the large batch. If all $w_i$ are equal, it is the plain mean of the $l_i$, and only then.
# - $W_1$: the weight of the first micro-batch: known when the first loss is to be scaled, unlike the sum.
# - $P$: the number of processes; $w_{ri}$: the part of $W_i$ that process $r$ holds. The outer mean, $\frac1P \sum_r$,
#   is taken by DDP; the factor $P$ undoes its division.
# - $g_i$: the gradient of micro-batch $i$; $\mathrm{clip}_c$: scaling down to the norm $c$.
# - $\mu_{\text{batch}}, \sigma^2_{\text{batch}}$: mean and variance over the batch at hand, `[features]`: each sample's
#   output depends on the others of its batch, so that the loss is no mean of losses of single samples (Ioffe & Szegedy
#   2015, algorithm 1).

# %% [markdown] lang="zh"
# - $l_i$：微批次 $i$ 的平均损失，标量；$w_i$：平均是对多少个取的：样本数或目标词元数。
# - $L$：大批次的损失。只有当所有 $w_i$ 相等时，它才是 $l_i$ 的简单平均。
# - $W_1$：第一个微批次的权重：缩放第一个损失时已经知道，总和则不知道。
# - $P$：进程数；$w_{ri}$：$W_i$ 中进程 $r$ 持有的部分。外层的平均 $\frac1P \sum_r$ 由 DDP 来取；因子 $P$ 抵消它的除法。
# - $g_i$：微批次 $i$ 的梯度；$\mathrm{clip}_c$：按比例缩小到范数 $c$。
# - $\mu_{\text{batch}}, \sigma^2_{\text{batch}}$：当前批次上的均值和方差，`[features]`：
#   每个样本的输出取决于同批的其他样本，所以损失不是单个样本损失的平均（Ioffe 与 Szegedy 2015，算法 1）。

# %% [markdown]
# ## Code · 代码

# %%
source(GradientAccumulation)

# %% [markdown] lang="en"
# This is the class that the capstones' training loops go through, not a copy for the lesson. A loop calls, for each
# micro-batch: `begin(batch, last)`, then the forward pass, then `(loss_scale * loss).backward()`; when `is_complete`,
# it calls `average_gradients` and takes the step. `Batch` says what the loss is a mean over: `weight` on this process,
# `total_weight` on all of them.
#
# `begin` starts a new group if the last one was complete. `last` ends a group early: the training is over, and its last
# batches must not be lost. `average_gradients` multiplies all gradients at once with `torch._foreach_mul_`. It scales
# by what was really there, so a short last group has a gradient of the right size too.
#
# `add_loss` keeps the same weighted mean of the losses that are shown. It takes no part in the gradients, but a display
# that shows a mean of means is how the bug of 2024 stayed unnoticed, and how it was found.

# %% [markdown] lang="zh"
# 这就是各实战项目的训练循环所经过的那个类，而不是为本课另写的副本。训练循环对每个微批次调用 `begin(batch, last)`，
# 然后前向，再 `(loss_scale * loss).backward()`；当 `is_complete` 时调用 `average_gradients` 并更新。
# `Batch` 说明损失是对多少个取的平均：`weight` 是本进程的，`total_weight` 是所有进程的。
#
# 上一组完成后，`begin` 开始新的一组。`last` 让一组提前结束：训练到头了，最后几个批次不能丢。
# `average_gradients` 用 `torch._foreach_mul_` 一次乘完所有梯度。它按实际有的数量缩放，所以最后不满的一组，梯度大小也正确。
#
# `add_loss` 对要显示的损失取同样的加权平均。它不影响梯度，但显示平均的平均，正是 2024 年那个错误长期没被注意、后来又被发现的原因。

# %% [markdown]
# ## Experiment: which networks allow it? · 实验：哪些网络可以？

# %% [markdown] lang="en"
# 64 real digits as one batch, and as four micro-batches of 16, in float64. The same network without normalization, with
# layer norm, with batch norm, and with dropout. How far is the accumulated gradient from that of the large batch,
# relative to its norm?

# %% [markdown] lang="zh"
# 64 张真实数字作为一个批次，以及拆成四个 16 的微批次，用 float64。
# 同一个网络：不带归一化、带层归一化、带批归一化、带 dropout。累积的梯度与大批次的梯度相差多少（相对于其范数）？

# %%
quiz(
    "how many differ",
    en="Of the four networks, how many get a gradient that is not the large batch's?",
    zh="四个网络中，有几个得到的梯度与大批次不同？",
)

# %%
MICRO, SEEDS = 4, (0, 1, 2)
digits = data("mnist-sample")
pixels = torch.from_numpy(digits.train_images[..., 0]).double()[:, None] / 255  # [images, 1, 28, 28]
images = 4 * F.avg_pool2d(pixels, 2).flatten(1) - 1  # [images, 196]
labels = torch.from_numpy(digits.train_labels).long()
KINDS = {
    "plain": nn.Identity,
    "layer norm": lambda: nn.LayerNorm(32),
    "batch norm": lambda: nn.BatchNorm1d(32),
    "dropout": nn.Dropout,
}


def classifier(kind: str, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(196, 32), KINDS[kind](), nn.ReLU(), nn.Linear(32, 10)).double()


def flat_gradient(network: nn.Module) -> torch.Tensor:
    """All gradients as one vector; clears them."""
    flat = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    network.zero_grad()
    return flat


def at_once(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    F.cross_entropy(network(x), y).backward()
    return flat_gradient(network)


def accumulated(network: nn.Module, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Gradient of micro-batches, by the class of the runtime."""
    accumulation = GradientAccumulation(len(parts), world_size=1)
    for x, y in parts:
        accumulation.begin(Batch((x, y), len(x), len(y), len(y)), last=False)
        (accumulation.loss_scale * F.cross_entropy(network(x), y)).backward()
    accumulation.average_gradients(network.parameters())
    return flat_gradient(network)


def in_parts(x: torch.Tensor, y: torch.Tensor, sizes: int | list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


x, y = images[:64], labels[:64]
apart: dict[str, dict[str, float]] = {}
for kind in KINDS:
    network = classifier(kind)
    whole = at_once(copy.deepcopy(network), x, y)
    many = [torch.randperm(64, generator=torch.Generator().manual_seed(draw)) for draw in range(200)]
    draws = torch.stack([accumulated(copy.deepcopy(network), in_parts(x[o], y[o], 16)) for o in many])
    # Dropout makes the large batch random as well: compare with the mean over as many draws.
    wholes = torch.stack([at_once(copy.deepcopy(network), x, y) for _ in many]) if kind == "dropout" else whole[None]
    apart[kind] = {"once": distance(draws[0], whole), "averaged": distance(draws.mean(dim=0), wholes.mean(dim=0))}
    # … which itself is only known up to the noise of its draws.
    apart[kind]["noise"] = distance(wholes[::2].mean(dim=0), wholes[1::2].mean(dim=0)) if kind == "dropout" else 0.0
table(
    ["network", "distance of the gradient, one split", "of the mean over 200 splits", "noise of that mean"],
    [(kind, found["once"], found["averaged"], found["noise"]) for kind, found in apart.items()],
)
settle("how many differ", sum(found["once"] > 1e-9 for found in apart.values()))

network = classifier("batch norm")
norms = {}
for name, sizes in (("64 at once", 64), ("4 × 16", 16)):
    copied = copy.deepcopy(network)
    accumulated(copied, in_parts(x, y, sizes))
    norms[name] = copied[1]
table(
    ["batch norm after one step", "batches counted", "mean of its running variance"],
    [(name, norm.num_batches_tracked.item(), norm.running_var.mean().item()) for name, norm in norms.items()],
)

# %% [markdown] lang="en"
# Dropout and batch norm differ, but not alike. Dropout draws other masks: the gradient is another sample of the same
# distribution, and averaged over many draws the difference sinks to the noise. Batch norm computes *another function*:
# statistics over 16 samples instead of 64. Averaged over 200 ways to split, the difference is still there: it is a
# bias. Besides, its running statistics have moved four times instead of once. Accumulation gives batch norm a large
# batch for the step, not for the statistics; use layer or group norm, or accept statistics over the micro-batch, which
# is what one does with one process for each GPU anyway.

# %% [markdown] lang="zh"
# 不同的是 dropout 和批归一化，但性质不一样。dropout 抽到别的掩码：梯度是同一分布的另一个样本，对多次抽取取平均，差别就降到噪声以下。
# 批归一化算的是*另一个函数*：统计量来自 16 个样本而不是 64 个。对 200 种拆法取平均，差别仍在：这是偏差。
# 此外，它的滑动统计量移动了四次而不是一次。累积给批归一化的是更新用的大批量，而不是统计用的大批量；
# 应改用层归一化或组归一化，或者接受微批次上的统计量，每块 GPU 一个进程时本来就是这样做的。

# %% [markdown]
# ## Experiment: tokens count · 实验：词元数要紧

# %% [markdown] lang="en"
# Text by lines, a small network that predicts the next character from the last three. Each step takes 32 lines in four
# micro-batches of 8; lines of similar length go together, as they do in practice, to spare padding. We train 150 steps
# in three ways: by the class, by the mean of means, and with all lines at once. Then we measure the loss on other lines
# of the same text, as a mean over characters.

# %% [markdown] lang="zh"
# 按行的文本，一个小网络根据最近三个字符预测下一个字符。每步取 32 行，分成四个 8 行的微批次；长度相近的行放在一起，实际中也是这样，以节省填充。
# 用三种方式各训练 150 步：用这个类、用平均的平均、所有行一次算完。然后在同一文本的另外一些行上测量损失，对字符取平均。

# %%
quiz(
    "who is favored",
    en="Trained by the mean of means, on which lines is the loss lower than by the class?",
    zh="用平均的平均训练，在哪些行上损失比用这个类训练更低？",
    choices={"short": "short lines · 短行", "long": "long lines · 长行", "none": "on none · 都不"},
)

# %%
corpus = data("tinyshakespeare", "python-manual")
ALPHABET = sorted(set(corpus.train))
NUMBERS = {character: number for number, character in enumerate(ALPHABET)}
CONTEXT = 3


def as_samples(line: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Three characters before each character [tokens, 3], and the character itself [tokens]; the line's end included."""
    codes = torch.tensor([NUMBERS["\n"]] * CONTEXT + [NUMBERS[character] for character in line + "\n"])
    return codes.unfold(0, CONTEXT, 1)[:-1], codes[CONTEXT:]


def lines_of(text: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [as_samples(line) for line in text.split("\n") if line.strip()][:count]


lines = lines_of(corpus.train, 4800)
test_lines = lines[::8]
train_lines = [line for number, line in enumerate(lines) if number % 8]


def joined(some: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([context for context, _ in some]), torch.cat([target for _, target in some])


def step_parts(generator: torch.Generator) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Four micro-batches of 8 lines each; lines of similar length are together."""
    drawn = [train_lines[i] for i in torch.randint(len(train_lines), (32,), generator=generator).tolist()]
    drawn.sort(key=lambda line: len(line[1]))
    return [joined(drawn[8 * i : 8 * i + 8]) for i in range(MICRO)]


def reader(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    embedding = nn.Embedding(len(ALPHABET), 12)
    return nn.Sequential(embedding, nn.Flatten(), nn.Linear(CONTEXT * 12, 64), nn.Tanh(), nn.Linear(64, len(ALPHABET)))


def mean_of_means(network: nn.Module, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for x, y in parts:
        (F.cross_entropy(network(x), y) / len(parts)).backward()


def by_tokens(network: nn.Module, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    accumulation = GradientAccumulation(len(parts), world_size=1)
    for x, y in parts:
        accumulation.begin(Batch((x, y), 8, len(y), len(y)), last=False)
        (accumulation.loss_scale * F.cross_entropy(network(x), y)).backward()
    accumulation.average_gradients(network.parameters())


def all_at_once(network: nn.Module, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    x, y = joined(parts)
    F.cross_entropy(network(x), y).backward()


def train(backward, seed: int) -> nn.Module:
    network, generator = reader(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3, fused=True)
    for _ in range(150):
        optimizer.zero_grad()
        backward(network, step_parts(generator))
        optimizer.step()
    return network


by_length = sorted(test_lines, key=lambda line: len(line[1]))
GROUPS = {"all": test_lines, "short": by_length[: len(by_length) // 4], "long": by_length[-len(by_length) // 4 :]}
losses: dict[str, dict[str, list[float]]] = {}
weights_after = {}
for name, backward in (("class", by_tokens), ("mean of means", mean_of_means), ("at once", all_at_once)):
    networks = [train(backward, seed) for seed in SEEDS]
    weights_after[name] = torch.cat([parameter.detach().flatten() for parameter in networks[0].parameters()])
    with torch.no_grad():
        losses[name] = {
            group: [F.cross_entropy(network(contexts), targets).item() for network in networks]
            for group, (contexts, targets) in ((group, joined(some)) for group, some in GROUPS.items())
        }
counts = torch.tensor([[len(y) for _, y in step_parts(torch.Generator().manual_seed(seed))] for seed in range(50)])
counts = counts.double().mean(dim=0)  # characters in each of the four micro-batches, on average
print(f"  characters in the four micro-batches, on average: {[round(count) for count in counts.tolist()]}")


def written(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


table(
    ["trained by", "loss on all characters, three seeds", "shortest quarter of lines", "longest quarter"],
    [(name, *(written(found[group]) for group in GROUPS)) for name, found in losses.items()],
)
lower = {g: all(a < b for a, b in zip(losses["mean of means"][g], losses["class"][g], strict=True)) for g in GROUPS}
settle("who is favored", next((group for group in ("short", "long") if lower[group]), "none"))

figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
share, places = (counts / counts.sum()).numpy(), np.arange(MICRO)
axes[0].bar(places - 0.2, share, 0.4, label="share of the characters: the class")
axes[0].bar(places + 0.2, np.full(MICRO, 1 / MICRO), 0.4, label="mean of means")
axes[0].set_xticks(places, [f"micro-batch {i + 1}" for i in range(MICRO)])
axes[0].set(ylabel="weight in the gradient", title="Shortest lines left, longest right")
axes[0].legend()
for i, group in enumerate(GROUPS):
    for seed in SEEDS:
        difference = losses["mean of means"][group][seed] - losses["class"][group][seed]
        axes[1].plot(i, difference, "o", color=f"C{seed}", label=f"seed {seed}" if i == 0 else None)
axes[1].axhline(0, color="black", linewidth=1)
axes[1].set_xticks(range(len(GROUPS)), list(GROUPS))
axes[1].set(ylabel="loss, mean of means − class", title="Above 0: the mean of means is worse")
axes[1].legend()
show(figure, "tokens")

# %% [markdown] lang="en"
# The class trains the very network that all lines at once do. The mean of means trains another one, with every seed:
# better on short lines, worse on long ones, and worse over all characters, which is what the loss was meant to be. A
# fourth of the gradient comes from the micro-batch with the shortest lines, which holds about a tenth of the
# characters. It is no noise that more training removes: it minimizes another objective, in which a character of a short
# line counts several times.
#
# The display tells it too: the mean of means that is shown does not fit the loss that the large batch shows. With lines
# of equal length (text cut into blocks, as in pretraining) the two agree, which is how it went unnoticed; fine-tuning
# on answers of all lengths, with padding masked, is where it counts.

# %% [markdown] lang="zh"
# 用这个类训练出的网络，与所有行一次算完的完全相同。平均的平均则训练出另一个网络，每个种子都如此：
# 短行更好，长行更差，对全部字符更差，而后者才是损失本来的含义。四分之一的梯度来自行最短的那个微批次，它只含大约十分之一的字符。
# 这不是多训练就能消除的噪声：它在最小化另一个目标，其中短行的一个字符顶好几个。
#
# 从显示的数字也看得出来：显示的平均的平均，与大批次显示的损失对不上。行长相等时（预训练那样把文本切成块）两者一致，所以没人注意；
# 用各种长度的回答微调、并屏蔽填充时，它就要紧了。

# %% [markdown]
# ## Experiment: clipping, memory, processes · 实验：裁剪、内存、进程

# %% [markdown] lang="en"
# Three more places. *Clipping*: once, when the gradient is whole, or for each micro-batch? *Memory*: how much is kept
# for the backward pass at any time? *Processes*: DDP exchanges gradients in every backward pass; of four micro-batches
# only the last needs it. `no_sync` switches it off. We count with a hook in a group of one process; in a larger one
# each exchange goes over the network.

# %% [markdown] lang="zh"
# 还有三处。*裁剪*：等梯度完整后裁一次，还是每个微批次裁一次？*内存*：任一时刻为反向传播保留多少？
# *进程*：DDP 在每次反向传播时交换梯度；四个微批次中只有最后一个需要。`no_sync` 可以关掉它。
# 我们在只有一个进程的组里用钩子计数；在更大的组里，每次交换都要走网络。

# %%
network, LIMIT = classifier("plain"), 0.5
parts = in_parts(x, y, 16)
clipped = {}
for name in ("large batch", "once, at the end", "each micro-batch"):
    if name == "large batch":
        F.cross_entropy(network(x), y).backward()
    else:
        accumulation = GradientAccumulation(MICRO, world_size=1)
        total = [torch.zeros_like(parameter) for parameter in network.parameters()]
        for part_x, part_y in parts:
            accumulation.begin(Batch((), 16, 16, 16), last=False)
            (accumulation.loss_scale * F.cross_entropy(network(part_x), part_y)).backward()
            if name == "each micro-batch":
                clip_by_global_norm(network.parameters(), LIMIT)
                for kept, parameter in zip(total, network.parameters(), strict=True):
                    kept += parameter.grad
                network.zero_grad()
        if name == "each micro-batch":
            for kept, parameter in zip(total, network.parameters(), strict=True):
                parameter.grad = kept
        accumulation.average_gradients(network.parameters())
    if name != "each micro-batch":
        clip_by_global_norm(network.parameters(), LIMIT)
    clipped[name] = flat_gradient(network)
table(
    ["clipped", "norm", "distance from the large batch's"],
    [(name, found.norm().item(), distance(found, clipped["large batch"])) for name, found in clipped.items()],
)

memory = {
    size: saved_bytes(lambda n=size: F.cross_entropy(network(x[:n].clone()), y[:n].clone()), network.parameters())
    for size in (64, 16)
}
print(f"  kept for the backward pass: 64 at once {memory[64]:,} bytes, 16 of them {memory[16]:,}")

distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
replica = DistributedDataParallel(copy.deepcopy(network))
exchanges = []


def counted(state: None, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """Takes the place of all-reduce, and notes the size of what would be sent."""
    exchanges.append(bucket.buffer().numel())
    future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    future.set_result(bucket.buffer())
    return future


replica.register_comm_hook(None, counted)
exchanged = {}
for name in ("every micro-batch", "no_sync before the last"):
    exchanges.clear()
    accumulation = GradientAccumulation(MICRO, world_size=1)
    for part_x, part_y in parts:
        accumulation.begin(Batch((), 16, 16, 16), last=False)
        exchange = accumulation.is_complete or name == "every micro-batch"
        with contextlib.nullcontext() if exchange else replica.no_sync():  # around the forward pass as well
            (accumulation.loss_scale * F.cross_entropy(replica(part_x), part_y)).backward()
    accumulation.average_gradients(replica.parameters())
    exchanged[name] = (sum(exchanges), flat_gradient(replica))
distributed.destroy_process_group()
table(["DDP exchanges in", "numbers sent in one step"], [(name, sent) for name, (sent, _) in exchanged.items()])

# %% [markdown] lang="en"
# Clipped at the end, the gradient is the large batch's. Clipped in each micro-batch it is another one, whatever the
# limit is divided by: those with large gradients, which clipping is for, are cut apart from the others. Memory is a
# quarter; time is not saved: the same arithmetic in smaller portions. And the exchanges fall from four to one, with the
# same gradient.

# %% [markdown] lang="zh"
# 最后裁剪，得到的就是大批次的梯度。每个微批次各自裁剪则是另一个梯度，不管上限怎么除：梯度大的微批次，正是裁剪所针对的，被单独砍掉了。
# 内存是四分之一；时间没有节省：同样的计算分成更小的份。交换从四次降到一次，梯度不变。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The reference is PyTorch's own gradient of the large batch, for equal and unequal micro-batches and for two processes;
# `F.cross_entropy(…, reduction="sum")` divided by the number of all tokens is how transformers does it since the
# repair: the trainer counts the tokens of all micro-batches before the first one (`num_items_in_batch`), which needs
# them in advance. accelerate's `accumulate` divides by the number of micro-batches: the mean of means, unless you scale
# the loss yourself.

# %% [markdown] lang="zh"
# 参照是 PyTorch 自己对大批次求的梯度，包括大小相等、不相等的微批次和两个进程的情况；
# `F.cross_entropy(…, reduction="sum")` 除以全部词元数，是 transformers 修复之后的做法：
# 训练器在第一个微批次之前先数好所有微批次的词元（`num_items_in_batch`），这需要提前取到它们。
# accelerate 的 `accumulate` 除以微批次数：就是平均的平均，除非你自己缩放损失。

# %%
network = classifier("plain")
whole = at_once(network, x, y)
equal_parts = accumulated(network, in_parts(x, y, 16))
unequal_parts = accumulated(network, in_parts(x, y, [1, 40, 3, 20]))
for part_x, part_y in in_parts(x, y, [1, 40, 3, 20]):  # transformers since 2024
    (F.cross_entropy(network(part_x), part_y, reduction="sum") / 64).backward()
known_total = flat_gradient(network)
for part_x, part_y in in_parts(x, y, [1, 40, 3, 20]):  # and before
    (F.cross_entropy(network(part_x), part_y) / 4).backward()
wrong = flat_gradient(network)
held = in_parts(x, y, [5, 11, 30, 18])  # two batches: 5 and 11 samples on the two processes, then 30 and 18
ranks = []
for rank in (0, 1):
    accumulation = GradientAccumulation(2, world_size=2)
    for step, total_weight in ((0, 16), (1, 48)):
        part_x, part_y = held[2 * step + rank]
        accumulation.begin(Batch((), total_weight, len(part_y), total_weight), last=False)
        (accumulation.loss_scale * F.cross_entropy(network(part_x), part_y)).backward()
    accumulation.average_gradients(network.parameters())
    ranks.append(flat_gradient(network))
two_processes = (ranks[0] + ranks[1]) / 2

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: 1.75, in one process and in two", [alone[0], sum(pair) / 2], [1.75, 1.75], 1e-12)
check_close("four equal micro-batches have the gradient of the large batch", equal_parts, whole, 1e-12)
check_close("four unequal ones have", unequal_parts, whole, 1e-12)
check_close("so has the sum over all samples divided by their number", known_total, whole, 1e-12)
check_close("two processes with unequal parts of two batches have", two_processes, whole, 1e-12)
check("the mean of means has not", distance(wrong, whole) > 0.05)
for kind in ("plain", "layer norm"):
    check(f"{kind}: accumulation changes nothing", apart[kind]["once"] < 1e-12)
check(
    "dropout: a difference that is noise",
    apart["dropout"]["averaged"] < 2 * apart["dropout"]["noise"] < apart["dropout"]["once"],
)
check("batch norm: a difference that stays when averaged over splits", apart["batch norm"]["averaged"] > 0.05)
check("batch norm's statistics move four times", norms["4 × 16"].num_batches_tracked == 4)
check_close(
    "trained by the class, the weights are those of the large batch",
    weights_after["class"],
    weights_after["at once"],
    1e-2,
)


def worse(one: str, other: str, group: str) -> bool:
    """Whether the loss is higher with every seed."""
    return all(a > b for a, b in zip(losses[one][group], losses[other][group], strict=True))


check("the mean of means has a higher loss on all characters, with every seed", worse("mean of means", "class", "all"))
check("and on the long lines, with every seed", worse("mean of means", "class", "long"))
check("it favors the short lines, with every seed", worse("class", "mean of means", "short"))
check_close(
    "clipped once, the gradient is the large batch's", clipped["once, at the end"], clipped["large batch"], 1e-12
)
check("clipped in each micro-batch it is not", distance(clipped["each micro-batch"], clipped["large batch"]) > 0.02)
check("a quarter of the memory is kept", abs(memory[64] / memory[16] - 4) < 0.1)
check(
    "without no_sync four times as much is sent",
    exchanged["every micro-batch"][0] == 4 * exchanged["no_sync before the last"][0],
)
check_close(
    "and the gradient is the same", exchanged["every micro-batch"][1], exchanged["no_sync before the last"][1], 1e-12
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every training loop takes it as a flag: `uv run --package translator train --batch-size 1024
# --gradient-accumulation-steps 4 --max-minutes 5`. A step then holds four batches, and `max_grad_norm` clips once. The
# class is in `dlcommon/runtime/gradient_accumulation.py`; `TrainingRun.update` calls it, `TrainingRun.forward` enters
# `no_sync` for all but the last batch. The translator's batches hold sentences of similar length, and are weighted by
# their target tokens.
#
# Sources: [Fixing Gradient Accumulation](https://huggingface.co/blog/gradient_accumulation), the story of 2024, and
# [the repair](https://github.com/huggingface/transformers/pull/34191); [Goyal et al.
# 2017](https://arxiv.org/abs/1706.02677), who list the pitfalls of averaging over workers (section 3); [Ioffe & Szegedy
# 2015](https://arxiv.org/abs/1502.03167), batch norm; [Wu & He 2018](https://arxiv.org/abs/1803.08494), group norm for
# small batches. Next: several processes, 09/07.

# %% [markdown] lang="zh"
# 每个训练循环都有这个选项：`uv run --package translator train --batch-size 1024 --gradient-accumulation-steps 4 --max-minutes 5`。
# 这样一步含四个批次，`max_grad_norm` 只裁剪一次。这个类在 `dlcommon/runtime/gradient_accumulation.py`；
# `TrainingRun.update` 调用它，`TrainingRun.forward` 对除最后一个以外的批次进入 `no_sync`。
# 翻译项目的批次由长度相近的句子组成，按目标词元数加权。
#
# 来源：[Fixing Gradient Accumulation](https://huggingface.co/blog/gradient_accumulation)，2024 年那件事的经过，
# 以及[修复](https://github.com/huggingface/transformers/pull/34191)；
# [Goyal 等 2017](https://arxiv.org/abs/1706.02677) 列出了在多个工作进程上取平均的陷阱（第 3 节）；
# [Ioffe 与 Szegedy 2015](https://arxiv.org/abs/1502.03167)，批归一化；[Wu 与 He 2018](https://arxiv.org/abs/1803.08494)，适合小批量的组归一化。
# 下一课：多个进程，09/07。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `begin`, `loss_scale` and `average_gradients` of `GradientAccumulation` yourself. `uv run lesson exercise 09/06`
# makes a file with their signatures, `uv run lesson check 09/06` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `GradientAccumulation` 的 `begin`、`loss_scale` 和 `average_gradients`。
# `uv run lesson exercise 09/06` 生成带有签名的文件，`uv run lesson check 09/06` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `begin`: if the last group is complete, count and total weight start at 0, the first weight is this batch's
#    `total_weight`, and the losses that were shown are dropped. Then count the batch and add its weight.
# 2. A group is complete with its last batch, or when `last` says that the training ends.
# 3. `loss_scale`: this process's weight relative to the first total weight, times the number of processes, since DDP
#    divides by it.
# 4. `average_gradients`: the factor is the first total weight over the sum of all. Change the gradients in place, leave
#    out parameters without one.

# %% [markdown] lang="zh"
# 1. `begin`：如果上一组已完成，计数和总权重从 0 开始，首个权重取本批次的 `total_weight`，并丢掉显示用的损失。
#    然后给批次计数、累加它的权重。
# 2. 一组在最后一个批次时完成，或者 `last` 表示训练结束时完成。
# 3. `loss_scale`：本进程的权重除以首个总权重，再乘以进程数，因为 DDP 会除以它。
# 4. `average_gradients`：因子是首个总权重除以全部权重之和。就地修改梯度，跳过没有梯度的参数。


# %%
@exercise(GradientAccumulation.begin, GradientAccumulation.loss_scale.fget, GradientAccumulation.average_gradients)
def judge(yours, reference):
    def batch(weight, total):
        return Batch((), 1, weight, total)

    mine = yours.GradientAccumulation(3, 1)
    completes = []
    for number in range(7):
        mine.begin(batch(2.0, 2.0), last=number == 6)
        completes.append(mine.is_complete)
    check("begin: a group of three is complete with its third batch", completes[:3] == [False, False, True])
    check("begin: the next group is counted anew", completes[3:6] == [False, False, True])
    check("begin: `last` ends a group early", completes[6])

    for world_size, weights in ((1, [(2, 2), (6, 6), (1, 1)]), (2, [(3, 4), (1, 10), (0, 5)])):
        scales, gradients = [], []
        for module in (yours, reference):
            accumulation, parameter = module.GradientAccumulation(3, world_size), nn.Parameter(torch.zeros(2))
            unused, found = nn.Parameter(torch.zeros(1)), []
            for _ in range(2):  # two groups, the second beginning with another weight
                parameter.grad = None
                for weight, total in weights:
                    accumulation.begin(batch(float(weight), float(total)), last=False)
                    found.append(accumulation.loss_scale)
                    (accumulation.loss_scale * (parameter * torch.tensor([1.0, -weight])).sum()).backward()
                accumulation.average_gradients([parameter, unused])
                weights = weights[::-1] if weights[-1][0] else weights
            scales.append(found)
            gradients.append(parameter.grad)
        check_close(f"loss_scale of the first batch, {world_size} process(es)", scales[0][0], scales[1][0])
        check_close(f"loss_scale of all batches, {world_size} process(es)", *scales)
        check_close(f"average_gradients, {world_size} process(es)", *gradients)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### When is accumulation exactly the large batch, and when not? · 什么时候累积与大批量完全相同，什么时候不同？

# %% [markdown] lang="en"
# Exactly, up to rounding, if the loss is a mean of losses of single samples, the micro-batches are weighted by what the
# mean is over, and nothing is done to the gradients before they are whole. Not with batch norm or a contrastive loss,
# which mix the samples of a batch; not with dropout, unless the masks are the same; not with means of means, and not
# with clipping for each micro-batch.

# %% [markdown] lang="zh"
# 如果损失是单个样本损失的平均，微批次按平均所对的数量加权，并且梯度完整之前不做任何处理，那么除舍入外完全相同。
# 批归一化或对比损失不同，它们把一个批次的样本混在一起；dropout 不同，除非掩码一样；
# 平均的平均不同，每个微批次各自裁剪也不同。

# %%
for kind, found in apart.items():
    print(f"  {kind}: relative distance from the large batch's gradient {found['once']:.1e}")

# %% [markdown]
# ### Why was the Trainer's loss wrong, although each micro-batch's loss was right? · 每个微批次的损失都对，为什么 Trainer 的损失却错了？

# %% [markdown] lang="en"
# Each was a mean over its own tokens, and these means were averaged with equal weights. That equals the mean over all
# tokens only if each micro-batch has as many. With answers of different lengths, tokens in micro-batches with few of
# them counted more. The repair: sum over tokens, divided by the number of tokens of all micro-batches (and all
# processes).

# %% [markdown] lang="zh"
# 每个损失是对自己的词元取的平均，再把这些平均等权平均。只有每个微批次词元一样多时，才等于对全部词元的平均。
# 回答长短不一时，词元少的微批次里，每个词元就更重。修复办法：对词元求和，再除以所有微批次（和所有进程）的词元总数。

# %%
for name, found in (("mean of means", wrong), ("by weights", unequal_parts), ("sum / all", known_total)):
    print(f"  micro-batches of 1, 40, 3 and 20, {name}: distance {distance(found, whole):.1e}")

# %% [markdown]
# ### Does accumulation make training faster? · 累积能让训练更快吗？

# %% [markdown] lang="en"
# On one device no: it is the same arithmetic, with smaller and so often less efficient products. It saves memory. With
# several processes it does save time, since gradients are exchanged once instead of for every micro-batch. If memory is
# not the limit, take the larger batch.

# %% [markdown] lang="zh"
# 单个设备上不能：计算量相同，乘积更小，往往效率更低。它省的是内存。多个进程时确实省时间，
# 因为梯度只交换一次，而不是每个微批次一次。如果内存不是瓶颈，就直接用大批量。

# %%
print(f"  kept for backward: {memory[64]:,} bytes at once, {memory[16]:,} in quarters")
print(
    f"  sent between processes: {exchanged['every micro-batch'][0]:,} numbers, with no_sync {exchanged['no_sync before the last'][0]:,}"
)

# %% [markdown]
# ### What is no_sync for, and what happens without it? · no_sync 有什么用？不用会怎样？

# %% [markdown] lang="en"
# DDP averages gradients over processes during every backward pass. While accumulating, only the last exchange is
# needed: the mean is linear, so that averaging the sums equals summing the averages. Without `no_sync` the result is
# the same, but as many exchanges are made as there are micro-batches. It has to enclose the forward pass too, since DDP
# prepares its hooks there.

# %% [markdown] lang="zh"
# DDP 在每次反向传播时对各进程的梯度取平均。累积时只有最后一次交换是必要的：平均是线性的，先求和再平均等于先平均再求和。
# 不用 `no_sync` 结果相同，但有几个微批次就交换几次。它必须把前向也包在里面，因为 DDP 在前向时准备钩子。

# %%
per_process = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))  # [processes, micro-batches, weights]
print(f"  mean of sums {per_process.sum(dim=1).mean(dim=0).tolist()}")
print(f"  sum of means {per_process.mean(dim=0).sum(dim=0).tolist()}")

# %% [markdown]
# ### An epoch has 10 batches and steps take 4. What about the last two? · 一个 epoch 有 10 个批次，每步 4 个，最后两个怎么办？

# %% [markdown] lang="en"
# Either take a step with two, or let the group go on into the next epoch. The fault to avoid is dividing by 4 what
# holds 2: that step is half as long. Ours goes on across epochs, and at the end of training takes the step with what is
# there, divided by the weights that were really counted.

# %% [markdown] lang="zh"
# 要么用两个批次走一步，要么让这一组延续到下一个 epoch。要避免的错误是只有 2 个却除以 4：那一步就短了一半。
# 我们的做法是跨 epoch 延续，训练结束时用现有的批次走一步，除以实际计入的权重。

# %%
accumulation = GradientAccumulation(4, world_size=1)
for number in range(10):
    accumulation.begin(Batch((), 16, 16, 16), last=number == 9)
    part_x, part_y = images[16 * number : 16 * number + 16], labels[16 * number : 16 * number + 16]
    (accumulation.loss_scale * F.cross_entropy(network(part_x), part_y)).backward()
    if accumulation.is_complete:
        accumulation.average_gradients(network.parameters())
        print(f"  step after batch {number + 1}: gradient norm {flat_gradient(network).norm():.3f}")

# %% [markdown]
# ### The batch is now 8 times as large. What else has to change? · 批量变成 8 倍，还要改什么？

# %% [markdown] lang="en"
# There are an eighth as many steps in an epoch: schedules, warm-up, weight averages and evaluation that count steps are
# now eight times as long in samples. The noise of the gradient falls by √8, so that the learning rate may rise (09/03),
# up to where the curvature limits it. Beyond the critical batch size more samples in a step bring little.

# %% [markdown] lang="zh"
# 每个 epoch 的步数变成八分之一：按步数计的调度、预热、权重平均和评估，以样本计就长了八倍。
# 梯度噪声降为 1/√8，学习率可以提高（09/03），直到曲率成为限制。超过临界批量之后，一步里再多样本也收益甚微。

# %%
center = at_once(network, images[:2048], labels[:2048])
for size in (16, 64, 256):
    some = [at_once(network, *part) for part in in_parts(images[:2048], labels[:2048], size)[:8]]
    noise = torch.stack([(gradient - center).norm() for gradient in some]).mean()
    print(f"  batches of {size}: distance from the gradient of 2,048 digits {noise / center.norm():.2f} of its norm")
