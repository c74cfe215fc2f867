# %% [markdown]
# # Gradient clipping · 梯度裁剪

# %% [markdown] lang="en"
# After this lesson you can clip by value, by norm, by global norm, by a percentile of past norms and relative to the
# weights, say what each does to the direction of a step, choose a threshold, and put clipping in its right place among
# loss scaling, accumulation and the optimizer. You need the training loop (03/09), recurrent networks and their exploding
# gradients (06/03), momentum (09/01) and Adam (09/02).

# %% [markdown] lang="zh"
# 学完本课，你能按元素、按范数、按全局范数、按历史范数的分位数以及相对于权重来裁剪梯度，能说出每一种对步子的方向做了什么，
# 会选阈值，并能把裁剪放在损失缩放、梯度累积和优化器之间的正确位置。
# 先修：训练循环（03/09）、循环网络及其梯度爆炸（06/03）、动量（09/01）、Adam（09/02）。

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.course.smoothing import moving_average
from dlcommon.pytorch_core.optimizers import SGD, Adam
from dlcommon.training.gradient_clipping import (
    PercentileClipping,
    clip_adaptively,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
    global_norm,
    gradients_of,
)
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Training has gone well for an hour. Then, within one step, the loss leaps from 0.5 to 2,000, and what was learned is gone.
# Perhaps the loss surface has a cliff, as recurrent networks do, and one step came upon it. Perhaps one batch was
# damaged: a picture with values up to 255 among pictures with values up to 1.
#
# The gradient says in which direction to go, and it is right about that only nearby; how far it may be trusted, it does
# not say. A gradient 300 times as large as usual makes a step 300 times as long. So one sets a limit. On what: on each number,
# each tensor, all of them together? At which size? And when, if gradients are also scaled, accumulated, averaged over
# devices, and handed to an optimizer with a memory of its own?

# %% [markdown] lang="zh"
# 训练顺利进行了一个小时。然后，只一步，损失从 0.5 跳到 2,000，学到的东西全没了。
# 也许损失曲面上有悬崖（循环网络就有），某一步正好撞上；也许某个批次坏了：像素值到 1 的图片里混进了像素值到 255 的。
#
# 梯度指出往哪个方向走，但只在附近才对；它并没有说可以信多远。梯度是平常的 300 倍，步子就长 300 倍。
# 于是要设上限。对什么设：每个数、每个张量，还是全部合起来？设多大？
# 如果梯度还要缩放、累积、跨设备平均，再交给自带记忆的优化器，又该在什么时候裁剪？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Two tensors have the gradients $(3, 4)$ and $(12)$. Their norms are 5 and 12; together, as one vector, $(3, 4, 12)$, the norm
# is $\sqrt{9 + 16 + 144} = 13$.
#
# *By value*, limit 3.5: $(3, 3.5)$ and $(3.5)$. The direction changes: the cosine with the old one is
# $(9 + 14 + 42) / (13 \cdot 5.79) = 0.864$.
#
# *By norm*, each tensor to 6: $(3, 4)$ stays, 12 becomes 6. The direction changes too, between the tensors.
#
# *By global norm* to 6.5: all are halved, $(1.5, 2)$ and $(6)$. The direction stays.
#
# *Relative to the weights* (AGC), factor 0.5: if the weights of the first have norm 10 and those of the second norm 2, they
# may have gradients up to 5 and up to 1: $(3, 4)$ stays, 12 becomes 1.
#
# *By percentile*: the norms so far were 1 and 2, this one is 13. Their median is 2, so that everything is scaled by $2/13$.

# %% [markdown] lang="zh"
# 两个张量的梯度是 $(3, 4)$ 和 $(12)$，范数是 5 和 12；合成一个向量 $(3, 4, 12)$，范数是 $\sqrt{9 + 16 + 144} = 13$。
#
# *按元素*裁到 3.5：$(3, 3.5)$ 和 $(3.5)$。方向变了：与原方向的余弦是 $(9 + 14 + 42) / (13 \cdot 5.79) = 0.864$。
#
# *按范数*，每个张量裁到 6：$(3, 4)$ 不变，12 变成 6。方向也变了，变在张量之间。
#
# *按全局范数*裁到 6.5：全部减半，$(1.5, 2)$ 和 $(6)$。方向不变。
#
# *相对于权重*（AGC），系数 0.5：若第一个张量的权重范数为 10，第二个为 2，允许的梯度范数就是 5 和 1：$(3, 4)$ 不变，12 变成 1。
#
# *按分位数*：之前的范数是 1 和 2，这次是 13，中位数是 2，所以全部乘以 $2/13$。


# %%
def two_tensors() -> list[torch.Tensor]:
    """Weights of norms 10 and 2 with the gradients (3, 4) and (12)."""
    tensors = [torch.tensor([6.0, 8.0]), torch.tensor([2.0])]
    tensors[0].grad, tensors[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    return tensors


def percentile_after_two(tensors: list[torch.Tensor]) -> None:
    clipping = PercentileClipping(50)
    clipping.norms.extend([1.0, 2.0])
    clipping(tensors)


ways = {
    "none": lambda tensors: None,
    "by value, 3.5": lambda tensors: clip_by_value(tensors, 3.5),
    "by norm, 6": lambda tensors: clip_by_norm(tensors, 6.0),
    "by global norm, 6.5": lambda tensors: clip_by_global_norm(tensors, 6.5),
    "relative to the weights, 0.5": lambda tensors: clip_adaptively(tensors, 0.5),
    "to the median of norms": percentile_after_two,
}
by_hand = {}
for name, clip in ways.items():
    tensors = two_tensors()
    clip(tensors)
    by_hand[name] = torch.cat(gradients_of(tensors))
cosines = {name: F.cosine_similarity(vector, by_hand["none"], dim=0).item() for name, vector in by_hand.items()}
table(
    ["clipping", "first tensor", "", "second", "norm", "cosine with the gradient"],
    [(name, *vector.tolist(), vector.norm().item(), cosines[name]) for name, vector in by_hand.items()],
)

drawing = Schematic(14.4, 1.8, "Where clipping stands in a step")
steps = (
    "backward",
    "accumulate\nk batches",
    "average over\ndevices",
    "unscale\n(float16)",
    "clip",
    "optimizer\nstep",
)
for place, text in enumerate(steps):
    kind = "parameter" if text == "clip" else "operation"
    drawing.box(text, 1.2 + 2.4 * place, 0.8, text, kind, 1.6, 0.8)
for first_step, second_step in pairwise(steps):
    drawing.arrow(first_step, second_step)
show(drawing.figure, "place")

# %% [markdown]
# ## Formula · 公式
#
# $$\text{value:} \quad g_i \leftarrow \min(\max(g_i, -c), c)$$
#
# $$\text{global norm:} \quad g \leftarrow g \cdot \min\left(1, \frac{c}{\lVert g \rVert}\right), \qquad \lVert g \rVert = \sqrt{\sum_k \lVert g_k \rVert^2}$$
#
# $$\text{AGC:} \quad G_i \leftarrow G_i \cdot \min\left(1, \lambda \, \frac{\max(\lVert W_i \rVert, \epsilon)}{\lVert G_i \rVert}\right)$$
#
# $$\text{percentile:} \quad c_t = Q_p(\lVert g^{(1)} \rVert, \dots, \lVert g^{(t)} \rVert)$$
#
# $$\text{momentum:} \quad \lVert \Delta w \rVert \le \frac{\eta\,c}{1 - \mu}, \qquad \text{Adam, } k \text{ steps after } G: \quad \frac{|\Delta w|}{\eta} \approx \frac{|g|}{\sqrt{g^2 + (1 - \beta_2) \beta_2^k G^2}}$$

# %% [markdown] lang="en"
# - $g$: all gradients as one vector; $g_k$: that of tensor $k$; $g_i$: one number of it; $g^{(t)}$: that of step $t$.
# - $c$: the threshold. For the norm it is Pascanu et al. 2013, algorithm 1; torch adds $10^{-6}$ to the norm.
# - $W_i$, $G_i$: the weights of unit $i$ (a row, a kernel) and their gradient; $\lambda$: the clip factor, 0.01 … 0.2;
#   $\epsilon$: $10^{-3}$, so that weights of zero can begin to move (Brock et al. 2021, equation 3).
# - $Q_p$: the percentile $p$ of the norms so far (Seetharaman et al. 2020).
# - $\eta$, $\mu$, $\beta_2$: learning rate, momentum, decay of Adam's $v$; $\Delta w$: with momentum a step, for Adam that of a
#   weight whose gradient is $g$ as always, once a single gradient $G$ came $k$ steps before and has left $m$.
#
# Clipping makes the update depend on the batch in a nonlinear way: a mean of clipped gradients is not the clipped mean. So
# clipped SGD does not follow the gradient of the loss on average; rare large gradients count less. That is the
# purpose, and a bias at the same time.

# %% [markdown] lang="zh"
# - $g$：所有梯度合成的向量；$g_k$：第 $k$ 个张量的梯度；$g_i$：其中一个数；$g^{(t)}$：第 $t$ 步的梯度。
# - $c$：阈值。按范数裁剪是 Pascanu 等 2013 的算法 1；torch 给范数加上 $10^{-6}$。
# - $W_i$、$G_i$：第 $i$ 个单元（一行、一个卷积核）的权重及其梯度；$\lambda$：裁剪系数，0.01 到 0.2；
#   $\epsilon$：$10^{-3}$，使为零的权重也能动起来（Brock 等 2021，式 3）。
# - $Q_p$：至今各步范数的第 $p$ 百分位数（Seetharaman 等 2020）。
# - $\eta$、$\mu$、$\beta_2$：学习率、动量、Adam 中 $v$ 的保留比例；$\Delta w$：对动量是一步；
#   对 Adam 是某个权重的一步，它的梯度一直是 $g$，只在 $k$ 步之前来过一个 $G$，且 $G$ 已从 $m$ 中消退。
#
# 裁剪使更新以非线性的方式依赖于批次：裁剪之后的平均，不等于平均之后的裁剪。
# 所以裁剪过的 SGD 平均而言并不沿着损失的梯度：罕见的大梯度算得少了。这正是目的，同时也是偏差。

# %% [markdown]
# ## Code · 代码

# %%
source(clip_by_global_norm)
source(global_norm)
source(clip_adaptively)
source(PercentileClipping.__call__)

# %% [markdown] lang="en"
# `global_norm` takes the norm of each tensor, a scalar, and the norm of these `[tensors]`: squares add up. One `factor` of at
# most 1 multiplies all gradients in place. `clamp` instead of `if`: on a GPU, a condition would wait for the norm.
#
# `clip_adaptively` computes a norm for each row, `[out, 1]`, or kernel, `[out, 1, 1, 1]`, of weights and of gradients, so that the
# factor broadcasts over the unit. `PercentileClipping` needs the norm as a number, and keeps all of them or a window.

# %% [markdown] lang="zh"
# `global_norm` 先算每个张量的范数（标量），再对这些 `[tensors]` 求范数：平方可以相加。一个不大于 1 的 `factor` 就地乘到所有梯度上。
# 用 `clamp` 而不用 `if`：在 GPU 上，条件判断要等范数算出来。
#
# `clip_adaptively` 对权重和梯度的每一行 `[out, 1]` 或每个卷积核 `[out, 1, 1, 1]` 求范数，系数就能广播到整个单元。
# `PercentileClipping` 需要把范数取成数值，保存全部或一个窗口。

# %% [markdown]
# ## Experiment: the cliff · 实验：悬崖

# %% [markdown] lang="en"
# The smallest recurrent network that has a cliff (Pascanu et al. 2013): one unit, $x_t = w\,\sigma(x_{t-1}) + b$, fifty
# steps from $x_0 = 0.5$, and the loss $(\sigma(x_{50}) - 0.7)^2$. Two weights, so that the whole surface can be drawn. We walk
# on it from five starting points, 150 steps at rate 0.5, without clipping and clipped to norm 1.

# %% [markdown] lang="zh"
# 有悬崖的最小循环网络（Pascanu 等 2013）：一个单元，$x_t = w\,\sigma(x_{t-1}) + b$，从 $x_0 = 0.5$ 走五十步，
# 损失是 $(\sigma(x_{50}) - 0.7)^2$。只有两个权重，整个曲面都画得出来。从五个起点各走 150 步，学习率 0.5，一次不裁剪，一次裁到范数 1。

# %%
quiz(
    "thrown",
    en="The surface is 4 wide. How long is the longest unclipped step of the five walks?",
    zh="曲面宽 4。五条路线里，不裁剪时最长的一步有多长？",
    choices={"0.1": "about 0.1 · 约 0.1", "1": "about 1 · 约 1", "10": "about 10 · 约 10"},
)


# %%
def unit_loss(w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    x = torch.full_like(w, 0.5)
    for _ in range(50):
        x = w * x.sigmoid() + b
    return (x.sigmoid() - 0.7) ** 2


grid = torch.meshgrid(
    torch.linspace(3, 7, 161, dtype=torch.float64), torch.linspace(-3.4, -1.4, 161, dtype=torch.float64), indexing="xy"
)
surface_weights = [axis.clone().requires_grad_() for axis in grid]
surface = unit_loss(*surface_weights)
slopes = torch.stack(torch.autograd.grad(surface.sum(), surface_weights)).norm(dim=0)  # [161, 161]


starts = ((4.5, -2.0), (5.0, -2.9), (5.5, -2.9), (6.0, -3.2), (6.5, -3.3))
places = {
    (start, limit): torch.tensor(start, dtype=torch.float64, requires_grad=True)
    for limit in (math.inf, 1.0)
    for start in starts
}  # ten walks at once, each with a tensor of its own
optimizer, points, losses = SGD(places.values(), lr=0.5), [], []
for _ in range(151):
    here = torch.stack(list(places.values()))  # [walks, 2]
    loss = unit_loss(here[:, 0], here[:, 1])  # [walks]
    points.append(here.detach().clone())
    losses.append(loss.detach())
    optimizer.zero_grad()
    loss.sum().backward()
    clip_by_norm([place for (_, limit), place in places.items() if limit == 1.0], 1.0)
    optimizer.step()
walks = {
    key: (torch.stack(points)[:, number], torch.stack(losses)[:, number]) for number, key in enumerate(places)
}  # points [151, 2] and losses [151]
longest = {key: points.diff(dim=0).norm(dim=1).max().item() for key, (points, _) in walks.items()}
table(
    ["start (w, b)", "longest step, unclipped", "clipped", "loss at the end, unclipped", "clipped"],
    [
        (start, longest[start, math.inf], longest[start, 1.0], walks[start, math.inf][1][-1].item(),
         walks[start, 1.0][1][-1].item())
        for start in starts
    ],
)  # fmt: skip
print(f"  gradient on the surface: median {slopes.median():.2g}, largest {slopes.max():.3g}")
thrown = max(longest[start, math.inf] for start in starts)
settle("thrown", min(("0.1", "1", "10"), key=lambda size: abs(math.log(float(size) / thrown))))

# %% [markdown] lang="en"
# Along a line the gradient is a thousand times what it is beside it. Unclipped, the weights are thrown far from all that they had
# found, onto a plain where the gradient is nearly 0, and stay there. Clipped, the same direction is taken for a short step,
# and the walk goes on along the foot of the cliff.

# %% [markdown] lang="zh"
# 沿着一条线，梯度是旁边的上千倍。不裁剪，权重被抛得远远的，落到梯度近乎为 0 的平地上，再也回不来。
# 裁剪之后，沿同样的方向只迈一小步，然后继续沿崖脚前进。

# %% [markdown]
# ## Experiment: a recurrent network on real text · 实验：真实文本上的循环网络

# %% [markdown] lang="en"
# A tanh RNN with 48 units predicts the next of 30 characters; SGD with momentum 0.9, 60 updates, three seeds. At a moderate
# rate and at one four times as large; without clipping, clipped by global norm to 0.3, and each tensor to 0.2.

# %% [markdown] lang="zh"
# 48 个单元的 tanh RNN，在 30 个字符上逐个预测下一个字符；SGD，动量 0.9，60 次更新，三个种子。
# 一个适中的学习率，一个大四倍的；不裁剪、按全局范数裁到 0.3、每个张量各裁到 0.2。

# %%
text = data("tinyshakespeare", "python-manual").train[:100_000]
alphabet = sorted(set(text))
characters = torch.tensor([alphabet.index(character) for character in text])


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(alphabet), 16)
        self.rnn, self.head = nn.RNN(16, 48, batch_first=True), nn.Linear(48, len(alphabet))

    def forward(self, read: torch.Tensor) -> torch.Tensor:
        """Maps characters [batch, length] to logits [batch, length, alphabet]."""
        states, _ = self.rnn(self.embedding(read))
        return self.head(states)


def learn_to_read(lr: float, clip, seed: int) -> tuple[list[float], list[float]]:
    """Loss and gradient norm, before clipping, of each of 60 updates."""
    torch.manual_seed(seed)
    reader, draw = Reader(), torch.Generator().manual_seed(seed)
    parameters, losses, norms = list(reader.parameters()), [], []
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    for _ in range(60):
        places = torch.randint(len(characters) - 31, (16, 1), generator=draw) + torch.arange(31)
        window = characters[places]  # [16, 31]
        loss = F.cross_entropy(reader(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        norms.append(global_norm(gradients_of(parameters)).item())
        clip(parameters)
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


text_clips = {
    "none": lambda parameters: None,
    "global norm 0.3": lambda parameters: clip_by_global_norm(parameters, 0.3),
    "each tensor 0.2": lambda parameters: clip_by_norm(parameters, 0.2),
}
readings = {
    (lr, name): [learn_to_read(lr, clip, seed) for seed in (0, 1, 2)]
    for lr in (0.5, 2.0)
    for name, clip in text_clips.items()
}
read_loss = {key: [sum(losses[-15:]) / 15 for losses, _ in runs] for key, runs in readings.items()}
table(
    ["rate", "clipping", "loss of the last 15 updates, three seeds", "", "", "median norm", "largest"],
    [
        (*key, *read_loss[key], torch.tensor(readings[key][0][1]).median().item(), max(readings[key][0][1]))
        for key in readings
    ],
)

# %% [markdown] lang="en"
# At the moderate rate clipping makes little difference. At four times the rate, the unclipped network learns
# far less, or diverges, and the clipped ones lose hardly anything, with every seed. So clipping is not only insurance against accidents: it
# widens the range of rates that work, because the threshold and the rate together bound the step by $\eta c / (1 - \mu)$.

# %% [markdown] lang="zh"
# 学习率适中时，裁不裁剪差别不大。学习率大四倍时，每个种子上，不裁剪的网络学到的少得多，甚至发散，裁剪的几乎没有损失。
# 可见裁剪不只是防意外的保险：它放宽了可用学习率的范围，因为阈值与学习率一起把步长限制在 $\eta c / (1 - \mu)$ 之内。

# %% [markdown]
# ## Experiment: one damaged batch · 实验：一个坏批次

# %% [markdown] lang="en"
# A classifier of digits reads pixels in 0 … 1. At update 40 of 80 somebody has forgotten to divide by 255. What does this one
# batch do to SGD with momentum, and to Adam, and what does clipping change? Three seeds.

# %% [markdown] lang="zh"
# 数字分类器读取 0 到 1 的像素。在 80 次更新的第 40 次，有人忘了除以 255。
# 这一个批次对带动量的 SGD 和 Adam 各有什么影响，裁剪又改变了什么？三个种子。

# %%
quiz(
    "after the outlier",
    en="Adam: all gradients are 1, one is 1,000. How long are the steps 100 updates later, in learning rates?",
    zh="Adam：所有梯度都是 1，只有一个是 1,000。100 次更新之后，步长是多少个学习率？",
    choices={"1": "1, as before · 1，与之前一样", "0.3": "about 0.3 · 约 0.3", "0.03": "about 0.03 · 约 0.03"},
)
quiz(
    "wrong order",
    en="The loss is multiplied by 65,536. If one clips to norm 1 and unscales then, how long is the gradient that is left?",
    zh="损失乘了 65,536。如果先裁到范数 1、再还原，剩下的梯度有多长？",
    choices={"1": "1", "0.004": "1/256", "0.000015": "1/65,536"},
)

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().view(-1, 784) / 255
labels = torch.from_numpy(digits.train_labels[:4000])


def train_over_damage(rule: str, make_clip, seed: int) -> tuple[list[float], list[float]]:
    """Loss and gradient norm, before clipping, of each of 80 updates; batch 40 has pixels up to 255."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    parameters, draw, clip = list(network.parameters()), torch.Generator().manual_seed(seed), make_clip()
    if rule == "Adam":
        optimizer: torch.optim.Optimizer = Adam(parameters, lr=0.003)
    else:
        optimizer = SGD(parameters, lr=0.1, momentum=0.9)
    losses, norms = [], []
    for update in range(80):
        rows = torch.randint(len(images), (64,), generator=draw)
        inputs = images[rows] * (255 if update == 40 else 1)
        loss = F.cross_entropy(network(inputs), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        norms.append(global_norm(gradients_of(parameters)).item())
        clip(parameters)
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


damage_clips = {
    "none": lambda: lambda parameters: None,
    "global norm 1": lambda: lambda parameters: clip_by_global_norm(parameters, 1.0),
    "median of norms": lambda: PercentileClipping(50),
    "AGC 0.1": lambda: lambda parameters: clip_adaptively(parameters, 0.1),
}
damaged = {
    (rule, name): [train_over_damage(rule, make_clip, seed) for seed in (0, 1, 2)]
    for rule in ("momentum", "Adam")
    for name, make_clip in damage_clips.items()
}
before = {key: [sum(losses[30:40]) / 10 for losses, _ in runs] for key, runs in damaged.items()}
peaks = {key: [max(losses[41:]) for losses, _ in runs] for key, runs in damaged.items()}
ends = {key: [sum(losses[-10:]) / 10 for losses, _ in runs] for key, runs in damaged.items()}
table(
    ["rule", "clipping", "loss before", "largest loss after, three seeds", "", "", "loss at the end", "", ""],
    [(*key, before[key][0], *peaks[key], *ends[key]) for key in damaged],
)
usual_norm, damaged_norm = (
    torch.tensor([norms[40] if of_damage else sum(norms[30:40]) / 10 for _, norms in damaged["momentum", "none"]])
    for of_damage in (False, True)
)
print(f"  norm of the gradient: {usual_norm.mean():.2f} before, {damaged_norm.mean():.0f} for the damaged batch")

lengths: dict[float, list[float]] = {}
for limit in (math.inf, 2.0):
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = Adam([w], lr=1.0)
    lengths[limit] = []
    for update in range(3500):
        place, w.grad = w.item(), torch.full_like(w, 1000.0 if update == 3000 else 1.0)
        clip_by_global_norm([w], limit)
        adam.step()
        lengths[limit].append(place - w.item())
table(
    ["Adam, one gradient of 1,000", "the step it makes", "step 100 updates later", "400 updates later"],
    [
        ("unclipped" if limit == math.inf else "clipped to 2", of[3000], of[3100], of[3400])
        for limit, of in lengths.items()
    ],
)
settle(
    "after the outlier",
    min(("1", "0.3", "0.03"), key=lambda size: abs(math.log(float(size) / lengths[math.inf][3100]))),
)

# %% [markdown] lang="en"
# With momentum the damaged gradient, hundreds of times the usual, makes one huge step, and then goes on acting through the velocity, for
# ten more. Adam bounds the step itself, since it divides by the gradient's size; but $v$ remembers the outlier for a thousand
# updates, and all that time the steps are too short. So Adam needs clipping as well, for another reason: to
# protect its memory. All three ways of clipping bring both through. The percentile and AGC do so without a threshold
# in units of the gradient.

# %% [markdown] lang="zh"
# 用动量时，坏梯度是平常的几百倍，先迈出巨大的一步，然后通过速度再作用十来步。
# Adam 因为除以梯度的大小，步长本身有界；但 $v$ 会把这个异常值记住上千次更新，这期间步子都太短。
# 所以 Adam 也需要裁剪，只是理由不同：保护它的记忆。三种裁剪都让两者平安通过。分位数和 AGC 不需要以梯度为单位的阈值。

# %% [markdown]
# ## Experiment: the right place · 实验：放在正确的位置

# %% [markdown] lang="en"
# Gradients of one network, computed in several wrong orders. *Scaling*: under float16 the loss is multiplied by 65,536 so that small
# gradients do not vanish (09/05); the gradients must be divided again before they are compared with a threshold.
# *Accumulation*: eight batches of 8 stand for one of 64 (09/06); what is to be clipped is their mean.

# %% [markdown] lang="zh"
# 同一个网络的梯度，用几种错误的次序计算。*缩放*：float16 下损失乘以 65,536，以免小梯度消失（09/05）；
# 梯度要先除回来，才能与阈值比较。*累积*：八个大小为 8 的批次代表一个 64 的批次（09/06）；该裁剪的是它们的平均。

# %%
torch.manual_seed(0)
network = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)).double()
parameters = list(network.parameters())
inputs, answers = images[:64].double(), labels[:64]
inputs[3] *= 30  # one picture is far brighter than the others


def gradient(rows: slice, scale: float = 1.0) -> torch.Tensor:
    """Sets the gradients of the mean loss of these rows, multiplied by `scale`, and returns them as one vector."""
    network.zero_grad()
    (scale * F.cross_entropy(network(inputs[rows]), answers[rows])).backward()
    return torch.cat([each.flatten() for each in gradients_of(parameters)])


def clipped(vector: torch.Tensor, max_norm: float) -> torch.Tensor:
    holder = torch.zeros_like(vector)
    holder.grad = vector.clone()
    clip_by_global_norm([holder], max_norm)
    return holder.grad


whole = gradient(slice(None))
scaled = gradient(slice(None), 65_536.0)
parts = [gradient(slice(start, start + 8)) for start in range(0, 64, 8)]
right = clipped(whole, 1.0)
orders = {
    "unscale, then clip": clipped(scaled / 65_536, 1.0),
    "clip, then unscale": clipped(scaled, 1.0) / 65_536,
    "accumulate, then clip": clipped(torch.stack(parts).mean(dim=0), 1.0),
    "clip each, then accumulate": torch.stack([clipped(part, 1.0) for part in parts]).mean(dim=0),
}
alike = {name: F.cosine_similarity(vector, right, dim=0).item() for name, vector in orders.items()}
table(
    ["order", "norm that is left", "cosine with the right one"],
    [(name, vector.norm().item(), alike[name]) for name, vector in orders.items()],
)
print(f"  norms of the eight parts: {[round(part.norm().item(), 1) for part in parts]}")
kept = orders["clip, then unscale"].norm().item()
settle("wrong order", min(("1", "0.004", "0.000015"), key=lambda size: abs(math.log(float(size) / kept))))

figure, axes = plt.subplots(1, 3, figsize=(16.5, 4.4), layout="constrained")
picture = axes[0].pcolormesh(
    *(axis.numpy() for axis in grid), surface.detach().numpy(), shading="auto", cmap="viridis", rasterized=True
)
figure.colorbar(picture, ax=axes[0], label="loss")
for start in starts[:3]:
    steady, leap = walks[start, 1.0][0][:60], walks[start, math.inf][0][:60]
    axes[0].plot(steady[:, 0], steady[:, 1], ".-", color="white", linewidth=0.7, markersize=2.5)
    axes[0].plot(leap[:, 0], leap[:, 1], "--", color="tab:red", linewidth=1.2)
    axes[0].plot(*start, "o", color="black", markersize=6)
axes[0].plot([], [], ".-", color="grey", label="clipped (drawn white)")
axes[0].plot([], [], "--", color="tab:red", label="unclipped")
axes[0].legend(fontsize=8, loc="upper right")
axes[0].set(xlabel="w", ylabel="b", title="The cliff of a recurrent unit", xlim=(3, 7), ylim=(-3.4, -1.4))
for (lr, name), runs in readings.items():
    mean = torch.tensor([losses for losses, _ in runs]).mean(dim=0).numpy()
    axes[1].plot(*moving_average(mean, 6), "-" if lr == 2.0 else ":", label=f"rate {lr}, {name}")
axes[1].set(xlabel="update", ylabel="loss, mean of three seeds and 6 updates", title="RNN on text", ylim=(2.2, 6))
for (rule, name), runs in damaged.items():
    if name in ("none", "global norm 1"):
        mean = torch.tensor([losses for losses, _ in runs]).mean(dim=0)
        axes[2].semilogy(mean, "-" if name == "none" else "--", label=f"{rule}, clipping: {name}")
axes[2].set(xlabel="update", ylabel="loss, mean of three seeds", title="Digits, batch 40 is damaged", ylim=(0.2, 1e6))
for axis in axes[1:]:
    axis.legend(fontsize=8)
show(figure, "clipping")

# %% [markdown] lang="en"
# Clipped before it is unscaled, every gradient exceeds the threshold and comes out with norm 1/65,536. SGD then stands still;
# Adam goes on, since it does not see the size, and nobody notices that the *relative* sizes of gradients are gone.
# Clipped part by part, each batch counts alike, however large its gradient: that is another direction, and one
# that depends on how many parts the batch was cut into.

# %% [markdown] lang="zh"
# 还原之前就裁剪，每个梯度都超过阈值，出来时范数都是 1/65,536。SGD 于是停住不动；Adam 照走不误，因为它看不到大小，
# 没有人会注意到梯度之间的*相对*大小已经丢了。逐份裁剪，则不管梯度大小，每份算得一样多：那是另一个方向，而且取决于把批次切成几份。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.nn.utils.clip_grad_norm_` and `clip_grad_value_`, on the gradients of the RNN, for three norms and several thresholds: the
# returned norm and every gradient. torch has no AGC; in this repository's tests ours is held against timm's, and here
# against its own definition row by row. The runtime of the capstones calls torch's, which clips many tensors in one
# call (`foreach`).

# %% [markdown] lang="zh"
# 与 `torch.nn.utils.clip_grad_norm_` 和 `clip_grad_value_` 对照：用 RNN 的梯度，三种范数、几个阈值，比较返回的范数和每个梯度。
# torch 没有 AGC：本仓库的测试用 timm 的实现对照，这里逐行用定义对照。
# 实战项目的运行时调用 torch 的实现，它一次调用裁剪许多张量（`foreach`）。

# %%
torch.manual_seed(0)
reader = Reader().double()
window = characters[torch.arange(31) + torch.arange(0, 640, 40)[:, None]]  # [16, 31]


def reader_gradients(clip) -> torch.Tensor:
    """What `clip` returns, if anything, and all gradients after it."""
    reader.zero_grad()
    (20 * F.cross_entropy(reader(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())).backward()
    norm = clip(list(reader.parameters()))
    return torch.cat([*([] if norm is None else [norm.view(1)]), *(p.grad.flatten() for p in reader.parameters())])


rows = []
compared: list[tuple[torch.Tensor, torch.Tensor]] = []
for norm_type in (1.0, 2.0, math.inf):
    for limit in (0.1, 1.0, 1e4):
        own = reader_gradients(lambda p, limit=limit, of=norm_type: clip_by_global_norm(p, limit, of))
        torchs = reader_gradients(lambda p, limit=limit, of=norm_type: nn.utils.clip_grad_norm_(p, limit, of))
        compared.append((own, torchs))
        rows.append((f"norm of order {norm_type:g}", limit, own[0].item(), (own - torchs).abs().max().item()))
own = reader_gradients(lambda p: clip_by_value(p, 0.05))
torchs = reader_gradients(lambda p: nn.utils.clip_grad_value_(p, 0.05))
rows.append(("value", 0.05, float("nan"), (own - torchs).abs().max().item()))
table(["clipping", "threshold", "norm before", "largest difference from torch's"], rows)
recurrent = reader.rnn.weight_hh_l0
reader_gradients(lambda p: None)
ratios = recurrent.grad.norm(dim=1) / recurrent.detach().norm(dim=1)  # of the 48 units
factor = ratios.median().item()  # a clip factor that concerns half of them
reader_gradients(lambda p: clip_adaptively(p, factor))
clipped_ratios = recurrent.grad.norm(dim=1) / recurrent.detach().norm(dim=1)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: by value", by_hand["by value, 3.5"], [3, 3.5, 3.5])
check_close("by hand: each tensor by norm", by_hand["by norm, 6"], [3, 4, 6])
check_close("by hand: by global norm", by_hand["by global norm, 6.5"], [1.5, 2, 6])
check_close("by hand: relative to the weights", by_hand["relative to the weights, 0.5"], [3, 4, 1])
check_close("by hand: to the median of norms", by_hand["to the median of norms"], [6 / 13, 8 / 13, 24 / 13])
check_close("only value and tensor by tensor turn the direction", cosines["by global norm, 6.5"], 1.0)
check_close(
    "norm and gradients are torch's, for three norms and three thresholds",
    *(torch.stack(side) for side in zip(*compared, strict=True)),
    1e-10,
)
check_close("by value too", own, torchs, 1e-12)
check_close(
    "AGC brings each unit of the recurrent weights to its share, and leaves the others",
    clipped_ratios,
    ratios.clamp(max=factor),
    1e-9,
)
check("the cliff is a thousand times as steep as its surroundings", slopes.max() > 1000 * slopes.median())
check(
    "from every start, the unclipped walk ends a tenfold above the clipped one",
    all(walks[start, math.inf][1][-1] > 10 * walks[start, 1.0][1][-1] for start in starts),
)
check("no clipped step is longer than the rate", max(longest[start, 1.0] for start in starts) < 0.5 + 1e-9)
check(
    "RNN at rate 0.5: with and without clipping differ by less than half as much as at rate 2.0, with every seed",
    all(
        abs(read_loss[0.5, name][seed] - read_loss[0.5, "none"][seed])
        < 0.5 * abs(read_loss[2.0, name][seed] - read_loss[2.0, "none"][seed])
        for name in ("global norm 0.3", "each tensor 0.2")
        for seed in (0, 1, 2)
    ),
)
check(
    "at rate 2.0 both ways of clipping end lower than none, with every seed",
    all(
        max(read_loss[2.0, "global norm 0.3"][seed], read_loss[2.0, "each tensor 0.2"][seed])
        < read_loss[2.0, "none"][seed]
        for seed in (0, 1, 2)
    ),
)
check(
    "the damaged batch has a gradient more than 100 times the usual, with every seed",
    (damaged_norm > 100 * usual_norm).all(),
)
check("momentum, unclipped: the loss leaps above 100, with every seed", min(peaks["momentum", "none"]) > 100)
check(
    "clipped in any of three ways it stays below 2 with momentum and Adam, with every seed",
    max(max(peaks[rule, name]) for rule in ("momentum", "Adam") for name in damage_clips if name != "none") < 2,
)
check(
    "and ends below the unclipped one, with both rules and every seed",
    all(
        ends[rule, "global norm 1"][seed] < ends[rule, "none"][seed]
        for rule in ("momentum", "Adam")
        for seed in (0, 1, 2)
    ),
)
remembered = 1 / math.sqrt(1 + 0.001 * 0.999**100 * 1e6 / (1 - 0.999**3101))
check_close("Adam remembers the outlier as the formula says", lengths[math.inf][3100], remembered, 0.02)
check("clipped, Adam's steps stay within a percent of the rate", abs(lengths[2.0][3100] - 1) < 0.01)
check_close("unscaled first, clipping is as without a scale", orders["unscale, then clip"], right, 1e-9)
check_close("accumulated first, as with the whole batch", orders["accumulate, then clip"], right, 1e-9)
check_close("clipped first, 1/65,536 is left", kept, 1 / 65_536, 1e-9)
check("clipped part by part, it points elsewhere", alike["clip each, then accumulate"] < 0.9)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstones `translator`, `sentiment-bert` and `char-lm` (with the preset `lstm`) train with a global norm of 1; any other does with a flag:
# `uv run --package char-lm train --max-minutes 2 --max-grad-norm 1`. The call stands in `TrainingRun.apply`, after
# accumulation and before the optimizers.
#
# Papers: [Pascanu et al. 2013](https://arxiv.org/abs/1211.5063), the cliff, and clipping by norm; [Brock et al.
# 2021](https://arxiv.org/abs/2102.06171), AGC, networks without normalization; [Seetharaman et al.
# 2020](https://arxiv.org/abs/2007.14469), the percentile; [Zhang et al. 2020](https://arxiv.org/abs/1905.11881), why clipping
# speeds training up. Next: the scale that must be undone before clipping, mixed precision, 09/05.

# %% [markdown] lang="zh"
# 实战项目 `translator`、`sentiment-bert` 和 `char-lm`（预设 `lstm`）训练时全局范数裁到 1；其他项目加一个选项即可：
# `uv run --package char-lm train --max-minutes 2 --max-grad-norm 1`。调用处在 `TrainingRun.apply`，在累积之后、优化器之前。
#
# 论文：[Pascanu 等 2013](https://arxiv.org/abs/1211.5063)，悬崖与按范数裁剪；
# [Brock 等 2021](https://arxiv.org/abs/2102.06171)，AGC，无归一化的网络；
# [Seetharaman 等 2020](https://arxiv.org/abs/2007.14469)，分位数；
# [Zhang 等 2020](https://arxiv.org/abs/1905.11881)，裁剪为什么加快训练。下一课：裁剪之前必须还原的缩放，即混合精度，09/05。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `clip_by_value`, `clip_by_norm`, `global_norm`, `clip_by_global_norm` and `clip_adaptively`.
# `uv run lesson exercise 09/04` makes a file with their signatures, `uv run lesson check 09/04` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `clip_by_value`、`clip_by_norm`、`global_norm`、`clip_by_global_norm` 和 `clip_adaptively`。
# `uv run lesson exercise 09/04` 生成带有签名的文件，`uv run lesson check 09/04` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `gradients_of(parameters)` leaves out those without a gradient. Change gradients in place, with `clamp_` and `mul_`:
#    assigning to a local name changes nothing.
# 2. The norm of the norms is the norm of everything, for every order, also for `math.inf`.
# 3. A factor is never above 1: small gradients are not made larger.
# 4. AGC takes one norm for each unit, `unit_norm`, of weights and of gradients. The norm of the weights is at least `eps`, that
#    of the gradient at least `EPS`, so that nothing is divided by 0.

# %% [markdown] lang="zh"
# 1. `gradients_of(parameters)` 会略去没有梯度的参数。要就地修改梯度（`clamp_`、`mul_`）：给局部变量赋值什么也不会改变。
# 2. 范数的范数就是全体的范数，对每一种阶都成立，包括 `math.inf`。
# 3. 系数不会大于 1：小的梯度不放大。
# 4. AGC 对权重和梯度的每个单元各求一个范数（`unit_norm`）。权重的范数至少为 `eps`，梯度的至少为 `EPS`，以免除以 0。


# %%
@exercise(clip_by_value, clip_by_norm, global_norm, clip_by_global_norm, clip_adaptively)
def judge(yours, reference):
    def after(part, name: str, *arguments, size: float = 1.0):
        draw = torch.Generator().manual_seed(4)
        tensors = [
            torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((4, 3), (4,), (2, 3, 2, 2), (5,))
        ]
        tensors[3] = torch.zeros(5, dtype=torch.float64)
        for number, each in enumerate(tensors):
            each.grad = size * (number + 1) * torch.randn(each.shape, generator=draw, dtype=torch.float64)
        frozen = torch.ones(2)  # has no gradient
        returned = getattr(part, name)([*tensors[:1], frozen, *tensors[1:]], *arguments)
        return torch.cat([each.grad.flatten() for each in tensors]), returned

    def compare(claim: str, name: str, *arguments, size: float = 1.0):
        mine, theirs = (after(part, name, *arguments, size=size) for part in (yours, reference))
        check_close(claim, mine[0], theirs[0], 1e-9)
        if theirs[1] is not None:
            check_close(f"{claim}: the norm before clipping is returned", mine[1], theirs[1], 1e-9)

    compare("clip_by_value", "clip_by_value", 0.7)
    compare("clip_by_norm: each tensor by its own norm", "clip_by_norm", 2.0)
    compare("clip_by_norm: small gradients stay", "clip_by_norm", 2.0, size=1e-3)
    some = [torch.tensor([3.0]), torch.tensor([[4.0, 0.0]]), torch.tensor(12.0)]
    for order in (2.0, 1.0, math.inf):
        mine, theirs = (part.global_norm(some, order) for part in (yours, reference))
        check_close(f"global_norm of order {order:g}", mine, theirs, 1e-9)
    compare("clip_by_global_norm: one factor for all", "clip_by_global_norm", 2.0)
    compare("clip_by_global_norm: small gradients stay", "clip_by_global_norm", 2.0, size=1e-3)
    compare("clip_by_global_norm of order 1", "clip_by_global_norm", 2.0, 1.0)
    compare("clip_adaptively: each unit by its weights", "clip_adaptively", 0.3)
    compare("clip_adaptively: small gradients stay", "clip_adaptively", 0.3, size=1e-3)
    compare("clip_adaptively: weights of zero count as eps", "clip_adaptively", 0.3, 0.5)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Clipping by value or by norm: which one, and why? · 按元素裁剪还是按范数裁剪？为什么？

# %% [markdown] lang="en"
# By global norm, as a rule: one factor shortens the step and keeps its direction. By value, large entries are cut and small
# ones are not, so that the direction turns toward the diagonal; it is used where single entries explode, for example some
# GANs and reinforcement learning. Tensor by tensor, the balance between layers changes.

# %% [markdown] lang="zh"
# 通常按全局范数：一个系数缩短步子，方向不变。按元素裁剪会砍掉大的分量而留下小的，方向转向对角线；
# 只在个别元素会爆炸时使用，例如某些 GAN 和强化学习。逐张量裁剪会改变各层之间的比例。

# %%
for name, cosine in cosines.items():
    print(f"  {name}: cosine with the gradient {cosine:.3f}")

# %% [markdown]
# ### How do you choose the threshold? · 阈值怎么选？

# %% [markdown] lang="en"
# Log the norm before clipping for some hundred steps without trouble, and set the threshold somewhat above its usual values: so
# it acts on outliers only. 1.0 is common for Transformers. If it acts at every step, you train with normalized
# gradients, and the threshold multiplies the learning rate: legitimate, but then do not tune both. A percentile adapts by
# itself as norms fall during training.

# %% [markdown] lang="zh"
# 在没有异常的几百步里记录裁剪之前的范数，阈值设得比平常值略高，这样它只对异常值起作用。Transformer 常用 1.0。
# 如果每一步都触发裁剪，就等于用归一化的梯度训练，阈值与学习率相乘：这没有错，但不要两个都调。
# 训练中范数会变小，分位数能自动跟随。

# %%
for name in ("none", "global norm 1"):
    norms = torch.tensor(damaged["momentum", name][0][1])
    print(f"  {name}: quantiles 10/50/90 % of the norm {[round(norms.quantile(q).item(), 2) for q in (0.1, 0.5, 0.9)]}")
    print(f"    a threshold of 1 acts at {(norms > 1).float().mean():.0%} of the updates")

# %% [markdown]
# ### Adam divides by the gradient's size. Why clip at all? · Adam 已经除以梯度大小，为什么还要裁剪？

# %% [markdown] lang="en"
# A constant factor on all gradients cancels in Adam, but an outlier does not. Its own step is several learning rates long (up
# to $(1 - \beta_1)/\sqrt{1 - \beta_2} = 3.2$), and then $v$ holds it for about $1/(1 - \beta_2)$ steps, in which the
# weights hardly move. Clipping keeps the outlier out of $v$.

# %% [markdown] lang="zh"
# 所有梯度同乘一个常数，在 Adam 里会约掉；但个别异常值不会。它自己的那一步可达几个学习率（至多 $(1 - \beta_1)/\sqrt{1 - \beta_2} = 3.2$），
# 然后 $v$ 会把它保留约 $1/(1 - \beta_2)$ 步，这期间权重几乎不动。裁剪把异常值挡在 $v$ 之外。

# %%
print(
    f"  unclipped: the step is {lengths[math.inf][3000]:.1f} rates long, 100 updates later {lengths[math.inf][3100]:.3f}"
)
print(f"  clipped to 2: {lengths[2.0][3000]:.2f} and {lengths[2.0][3100]:.3f}")

# %% [markdown]
# ### Where does clipping stand relative to loss scaling, accumulation and data parallelism? · 裁剪与损失缩放、梯度累积、数据并行的先后次序？

# %% [markdown] lang="en"
# Last before the optimizer. After unscaling, or the threshold means something else by the factor of the scale (in torch:
# `scaler.unscale_(optimizer)`, clip, `scaler.step`). After the last accumulated batch and after the all-reduce: what is
# clipped is the gradient of the whole batch, and all replicas must get the same factor. With sharded parameters (FSDP) the
# squares of the shards' norms have to be added up over processes first.

# %% [markdown] lang="zh"
# 在优化器之前的最后一步。要在还原缩放之后，否则阈值的含义差了缩放的倍数（torch 里是 `scaler.unscale_(optimizer)`，裁剪，`scaler.step`）。
# 要在最后一个累积批次和 all-reduce 之后：裁剪的是整个批次的梯度，而且所有副本要得到同样的系数。
# 参数分片（FSDP）时，要先把各片范数的平方在进程之间加起来。

# %%
for name, vector in orders.items():
    print(f"  {name}: norm {vector.norm():.2g}, cosine with the right one {alike[name]:.3f}")

# %% [markdown]
# ### Does clipping help against vanishing gradients, or against NaN? · 裁剪能防梯度消失吗？能防 NaN 吗？

# %% [markdown] lang="en"
# Neither. Its factor is at most 1, so small gradients stay small; gates, residual connections and initialization are for
# that. An infinite norm gives the factor 0, and $\infty \cdot 0$ is NaN; a NaN norm makes every gradient NaN. Check that
# the norm is finite and skip the step, or let torch raise the error (`error_if_nonfinite=True`).

# %% [markdown] lang="zh"
# 都不能。系数至多为 1，小的梯度仍然小；那要靠门控、残差连接和初始化。
# 范数为无穷大时系数为 0，而 $\infty \cdot 0$ 是 NaN；范数为 NaN 则所有梯度都变成 NaN。
# 应检查范数是否有限并跳过这一步，或让 torch 报错（`error_if_nonfinite=True`）。

# %%
for bad in (1e-9, math.inf, math.nan):
    holder = torch.zeros(2)
    holder.grad = torch.tensor([1e-9, bad])
    print(f"  gradient {holder.grad.tolist()}", end="")
    clip_by_global_norm([holder], 1.0)
    print(f" becomes {holder.grad.tolist()}")

# %% [markdown]
# ### How does clipping interact with momentum? · 裁剪与动量怎样相互作用？

# %% [markdown] lang="en"
# Clip the gradient before it enters the velocity: then the velocity is at most $c/(1 - \mu)$ and a step at most
# $\eta c/(1 - \mu)$. Without it, one gradient of size $G$ moves the weights by $\eta G/(1 - \mu)$ in total, most of it in
# the steps after the bad one, when the new gradients are already sound. Clipping the velocity instead would bound
# the step as well, but keep the outlier in memory.

# %% [markdown] lang="zh"
# 在梯度进入速度之前裁剪：这样速度至多 $c/(1 - \mu)$，步长至多 $\eta c/(1 - \mu)$。
# 不裁剪的话，一个大小为 $G$ 的梯度总共会把权重移动 $\eta G/(1 - \mu)$，大部分发生在坏批次之后、新梯度已经正常的时候。
# 改为裁剪速度也能限制步长，但异常值会留在记忆里。

# %%
for limit in (math.inf, 1.0):
    w = torch.zeros(1, requires_grad=True)
    optimizer = SGD([w], lr=0.1, momentum=0.9)
    for update in range(60):
        w.grad = torch.full_like(w, 250.0 if update == 0 else 0.0)
        clip_by_global_norm([w], limit)
        optimizer.step()
    print(f"  one gradient of 250, threshold {limit}: the weight moves by {-w.item():.2f} in all")

# %% [markdown]
# ### What is adaptive gradient clipping, and where is it used? · 什么是自适应梯度裁剪（AGC）？用在哪里？

# %% [markdown] lang="en"
# It bounds the gradient of each unit by a fraction of the norm of its weights: what matters is the relative change of a
# unit. A single threshold for all layers cannot fit layers of different scale, and must be tuned again for every
# depth and batch size. Brock et al. 2021 trained NFNets, networks without batch normalization, at large
# batches with it; the last layer is left unclipped.

# %% [markdown] lang="zh"
# 它把每个单元的梯度限制为其权重范数的一个比例：要紧的是单元的相对变化。
# 所有层共用一个阈值，无法适合尺度不同的层，而且每换深度和批次大小都要重调。
# Brock 等 2021 用它在大批次上训练了没有批归一化的 NFNet；最后一层不裁剪。

# %%
print(f"  recurrent units of the reader, ‖G‖/‖W‖: {ratios.min():.3f} to {ratios.max():.3f}")
print(f"  after AGC with the factor {factor:.3f}: {clipped_ratios.min():.3f} to {clipped_ratios.max():.3f}")

# %% [markdown]
# ### The loss of a long training spikes now and then. What do you do? · 长时间训练中损失偶尔出现尖峰，怎么办？

# %% [markdown] lang="en"
# First look: norm before clipping, learning rate, and the batch at the spike; is it data (damaged, very long, in another
# unit), or the optimizer ($v$ too small after calm, then large gradients)? Remedies: clip by a norm close to the usual one;
# a lower $\beta_2$; a longer warm-up or a lower rate; normalize queries and keys where attention logits grow. If it does
# not recover: go back to a checkpoint before it and skip the batches. Clipping limits the damage, it does not explain it.

# %% [markdown] lang="zh"
# 先看：尖峰处裁剪之前的范数、学习率和那个批次。是数据的问题（损坏、过长、单位不同），
# 还是优化器的问题（平静期之后 $v$ 太小，随后来了大梯度）？办法：裁剪阈值接近平常的范数；减小 $\beta_2$；延长预热或降低学习率；
# 注意力 logits 变大时对查询和键做归一化。如果回不来：退回尖峰之前的检查点，跳过那些批次。裁剪只能限制损害，不能解释原因。

# %%
for key in (("momentum", "none"), ("momentum", "global norm 1"), ("Adam", "none"), ("Adam", "global norm 1")):
    print(f"  {key[0]}, clipping {key[1]}: the spike reaches {max(peaks[key]):.3g}, the end {sum(ends[key]) / 3:.2f}")
