# %% [markdown]
# # Optimizers · 优化器

# %% [markdown] lang="en"
# After this lesson you can write SGD, momentum, Nesterov, RMSprop, Adam and AdamW from their formulas, say what each
# remembers and why, derive Adam's bias correction, and compare optimizers fairly. You need gradients (02/03, 02/04)
# and a loss (03/05).

# %% [markdown] lang="zh"
# 学完本课，你能根据公式写出 SGD、动量、Nesterov、RMSprop、Adam 和 AdamW，说清楚每一个记住了什么、为什么，
# 能推导 Adam 的偏差修正，也能公平地比较优化器。先修：梯度（02/03、02/04）和损失函数（03/05）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.course.smoothing import moving_average
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD, Adam, AdamW, RMSprop
from torch import nn

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Backpropagation gives you the gradient: the direction in which the loss rises fastest. You step the other way, but
# how far? With a short step, nothing seems to happen for hours. With a long one the loss jumps between the walls of a
# valley and finally becomes `nan`. And one length has to serve all weights, those with gradients of 10 and those with
# gradients of 0.0001.
#
# Every optimizer answers one question: given this gradient and some memory of earlier ones, where to next? There are
# two ideas: average the direction over several steps, and measure each weight's gradient against its own usual size.

# %% [markdown] lang="zh"
# 反向传播给出了梯度，也就是损失上升最快的方向。你要往反方向走，但走多远？步子太小，几个小时也看不到变化；
# 步子太大，损失在山谷两壁之间来回跳，最后变成 `nan`。
# 而且所有权重共用一个步长，不管它的梯度是 10 还是 0.0001。
#
# 每个优化器都在回答同一个问题：已知当前的梯度，以及对以往梯度的一点记忆，下一步往哪里走？
# 思路有两条：把方向在若干步上取平均；把每个权重的梯度与它自己平常的大小相比。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One weight, loss $w^2$, so the gradient is $2w$. Start at $w = 1$, learning rate 0.1, two steps.
#
# Plain descent: $w = 1 - 0.1 \cdot 2 = 0.8$, then $0.8 - 0.1 \cdot 1.6 = 0.64$.
#
# Momentum 0.9 keeps a velocity $v$. First $v = 2$ and $w = 0.8$, as before. Then $v = 0.9 \cdot 2 + 1.6 = 3.4$ and
# $w = 0.8 - 0.34 = 0.46$: the second step is longer, since both gradients point the same way.
#
# Adam keeps the averages $m$ of the gradient and $v$ of its square, both from 0. First $m = 0.1 \cdot 2 = 0.2$ and
# $v = 0.001 \cdot 4 = 0.004$: far too small, since nine tenths (or 999 thousandths) of them are still the zero of the
# start. The correction divides by the share that the gradients have so far, $1 - \beta^t$: $\hat m = 0.2 / (1 - 0.9) = 2$,
# $\hat v = 0.004 / (1 - 0.999) = 4$. The step is $0.1 \cdot 2 / \sqrt 4 = 0.1$: the learning rate itself, $w = 0.9$.
# Had the gradient been 2,000, the step would be the same.

# %% [markdown] lang="zh"
# 一个权重，损失 $w^2$，所以梯度是 $2w$。从 $w = 1$ 出发，学习率 0.1，走两步。
#
# 普通梯度下降：$w = 1 - 0.1 \cdot 2 = 0.8$，再到 $0.8 - 0.1 \cdot 1.6 = 0.64$。
#
# 动量（系数 0.9）保存一个速度 $v$。第一步 $v = 2$，$w = 0.8$，与前面相同。
# 第二步 $v = 0.9 \cdot 2 + 1.6 = 3.4$，$w = 0.8 - 0.34 = 0.46$：两次梯度方向一致，步子就变大了。
#
# Adam 保存两个平均：梯度的平均 $m$ 和梯度平方的平均 $v$，都从 0 开始。第一步 $m = 0.1 \cdot 2 = 0.2$，
# $v = 0.001 \cdot 4 = 0.004$：都小得多，因为其中十分之九（或千分之九百九十九）还是起始的零。
# 修正就是除以已经占到的那部分比例：$\hat m = 0.2 / (1 - 0.9) = 2$，$\hat v = 0.004 / (1 - 0.999) = 4$。
# 步长是 $0.1 \cdot 2 / \sqrt 4 = 0.1$，正好是学习率，$w = 0.9$。即使梯度是 2,000，步长也一样。


# %%
def two_steps(optimizer_class, **options) -> list[float]:
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer, visited = optimizer_class([w], lr=0.1, **options), []
    for _ in range(2):
        optimizer.zero_grad()
        w.square().sum().backward()
        optimizer.step()
        visited.append(w.item())
    return visited


by_hand = {
    "SGD": two_steps(SGD),
    "momentum 0.9": two_steps(SGD, momentum=0.9),
    "Nesterov 0.9": two_steps(SGD, momentum=0.9, nesterov=True),
    "RMSprop, α = 0.9": two_steps(RMSprop, alpha=0.9),
    "Adam": two_steps(Adam),
    "AdamW, λ = 0.1": two_steps(AdamW, weight_decay=0.1),
}
table(["rule", "w after one step", "after two"], [(name, *path) for name, path in by_hand.items()])

drawing = Schematic(12.6, 3.6, "What Adam remembers: two averages, each with its correction")
drawing.box("g", 1.0, 1.9, "gradient g", "data", width=1.5)
drawing.box("m", 3.9, 2.8, "m: mean of g", width=2.0)
drawing.box("v", 3.9, 1.0, "v: mean of g²", width=2.0)
drawing.box("mh", 6.6, 2.8, "÷ (1 − β₁ᵗ)", width=1.7)
drawing.box("vh", 6.6, 1.0, "÷ (1 − β₂ᵗ), √", width=1.7)
drawing.box("ratio", 9.4, 1.9, "divide", width=1.2)
drawing.box("w", 11.7, 1.9, "weight w", "parameter", width=1.3)
for start, end, label in (
    ("g", "m", "β₁"),
    ("g", "v", "β₂"),
    ("m", "mh", ""),
    ("v", "vh", ""),
    ("mh", "ratio", "m̂"),
    ("vh", "ratio", "√v̂ + ε"),
    ("ratio", "w", "× η"),
):
    drawing.arrow(start, end, label)
drawing.text(5.0, 3.4, "momentum keeps only this average (as a sum)")
drawing.text(5.0, 0.4, "RMSprop keeps only this one, uncorrected")
show(drawing.figure, "adam")

# %% [markdown]
# ## Formula · 公式
#
# $$\text{SGD:} \quad w_t = w_{t-1} - \eta \, g_t$$
#
# $$\text{momentum:} \quad v_t = \mu v_{t-1} + g_t, \qquad w_t = w_{t-1} - \eta \, v_t$$
#
# $$\text{Nesterov:} \quad v_t = \mu v_{t-1} + g_t, \qquad w_t = w_{t-1} - \eta \, (g_t + \mu v_t)$$
#
# $$\text{RMSprop:} \quad s_t = \alpha s_{t-1} + (1 - \alpha) g_t^2, \qquad w_t = w_{t-1} - \eta \, \frac{g_t}{\sqrt{s_t} + \varepsilon}$$
#
# $$\text{Adam:} \quad m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2$$
#
# $$\hat m_t = \frac{m_t}{1 - \beta_1^t}, \qquad \hat v_t = \frac{v_t}{1 - \beta_2^t}, \qquad w_t = w_{t-1} - \eta \, \frac{\hat m_t}{\sqrt{\hat v_t} + \varepsilon}$$
#
# $$\text{AdamW:} \quad w_t = (1 - \eta \lambda) \, w_{t-1} - \eta \, \frac{\hat m_t}{\sqrt{\hat v_t} + \varepsilon}$$

# %% [markdown] lang="en"
# - $w_t$: the weights after step $t = 1, 2, \dots$; $g_t$: the gradient of the loss at $w_{t-1}$. All are tensors of
#   one shape, and squares, roots and quotients are taken element by element.
# - $\eta$: the learning rate, `lr`. $\mu$: the momentum. $\lambda$: the weight decay.
# - $v_t$ of momentum: the velocity, a sum of gradients of which the one $k$ steps back counts $\mu^k$; $v_0 = 0$
#   (Polyak 1964). Nesterov's form steps as if the velocity had already acted once more (Sutskever et al. 2013).
# - $s_t$, and Adam's $v_t$: running means of the squared gradient; $\alpha$, $\beta_2$: how much of them is kept per
#   step.
# - $m_t$: Adam's running mean of the gradient; $\beta_1$: how much of it is kept.
# - $\hat m_t$, $\hat v_t$: the same without the bias of the start. $\varepsilon$: keeps the quotient finite, $10^{-8}$.
#
# Adam is algorithm 1 of Kingma & Ba 2015, AdamW algorithm 2 of Loshchilov & Hutter 2019 (in torch's form, and ours, the
# decay is also multiplied by the learning rate; in the paper only by the schedule). Weight decay in SGD, RMSprop
# and Adam is the gradient of $\frac{\lambda}{2} \lVert w \rVert^2$: $\lambda w$ is added to $g$ before anything else.
#
# Why $1 - \beta^t$? Written out, $m_t = (1 - \beta_1) \sum_{i=1}^{t} \beta_1^{t-i} g_i$. The weights sum to
# $(1 - \beta_1) (1 + \beta_1 + \dots + \beta_1^{t-1}) = 1 - \beta_1^t$, less than 1. If all gradients have the same
# mean, $m_t$ is too small by just this factor on average, and dividing by it makes it an honest mean (section 3 of
# the paper, equations 1 to 4, for $v_t$).

# %% [markdown] lang="zh"
# - $w_t$：第 $t = 1, 2, \dots$ 步之后的权重；$g_t$：损失在 $w_{t-1}$ 处的梯度。
#   它们都是同样形状的张量，平方、开方、除法都逐元素进行。
# - $\eta$：学习率，即 `lr`。$\mu$：动量系数。$\lambda$：权重衰减系数。
# - 动量里的 $v_t$：速度，即梯度的加权和，$k$ 步之前的梯度权重为 $\mu^k$；$v_0 = 0$（Polyak 1964）。
#   Nesterov 形式相当于让速度提前再作用一次（Sutskever 等 2013）。
# - $s_t$ 以及 Adam 的 $v_t$：梯度平方的滑动平均；$\alpha$、$\beta_2$：每步保留多少。
# - $m_t$：Adam 中梯度的滑动平均；$\beta_1$：每步保留多少。
# - $\hat m_t$、$\hat v_t$：去掉起始偏差之后的值。$\varepsilon$：防止除以零，取 $10^{-8}$。
#
# Adam 是 Kingma 与 Ba 2015 的算法 1，AdamW 是 Loshchilov 与 Hutter 2019 的算法 2。
# SGD、RMSprop 和 Adam 中的权重衰减是 $\frac{\lambda}{2} \lVert w \rVert^2$ 的梯度：先把 $\lambda w$ 加到 $g$ 上，再做别的。
#
# 为什么是 $1 - \beta^t$？展开得 $m_t = (1 - \beta_1) \sum_{i=1}^{t} \beta_1^{t-i} g_i$，
# 各项权重之和为 $(1 - \beta_1)(1 + \beta_1 + \dots + \beta_1^{t-1}) = 1 - \beta_1^t$，小于 1。
# 如果各步梯度的均值相同，$m_t$ 平均起来就恰好小了这个倍数，除以它才是真正的平均（论文第 3 节式 1 至 4，以 $v_t$ 为例）。

# %% [markdown]
# ## Code · 代码

# %%
source(SGD.update)
source(RMSprop.update)
source(Adam._adam_step)
source(AdamW.update)

# %% [markdown] lang="en"
# `torch.optim.Optimizer` does the bookkeeping: for each parameter `w` it calls `update` with the gradient `g`, a
# dictionary `state` that belongs to this parameter and is empty at first, and `group`, which holds the options. `w`,
# `g` and everything in `state` have the same shape, such as `[out_features, in_features]`.
#
# Methods with an underscore at the end (`mul_`, `add_`, `sub_`) change a tensor in place: `w` and the averages must be
# changed, `g` must not, since it is the parameter's own `.grad`. Each chain is one line of the formulas:
# `mul_(beta1).add_((1 - beta1) * g)` is $\beta_1 m + (1 - \beta_1) g$. The step count $t$ is part of the state, because
# the correction needs it. `AdamW.update` differs from Adam in one line: it shrinks `w` by itself and keeps $\lambda w$
# out of the averages.

# %% [markdown] lang="zh"
# `torch.optim.Optimizer` 负责日常管理：对每个参数 `w`，它调用 `update`，传入梯度 `g`、
# 属于这个参数的字典 `state`（起初为空），以及存放选项的 `group`。
# `w`、`g` 和 `state` 里的张量形状都相同，例如 `[out_features, in_features]`。
#
# 以下划线结尾的方法（`mul_`、`add_`、`sub_`）就地修改张量：`w` 和各个平均应当被修改，`g` 则不能，因为它就是参数的 `.grad`。
# 每一串调用对应公式的一行：`mul_(beta1).add_((1 - beta1) * g)` 就是 $\beta_1 m + (1 - \beta_1) g$。
# 步数 $t$ 也存在状态里，因为修正要用到它。`AdamW.update` 与 Adam 只差一行：它直接收缩 `w`，不让 $\lambda w$ 进入那些平均。

# %% [markdown]
# ## Experiment: a long valley · 实验：狭长的山谷

# %% [markdown] lang="en"
# $f(x, y) = (x^2 + 100 y^2)/2$ is a hundred times as steep across as along. The steep direction limits the learning
# rate, the flat one then needs many steps. With the best constants, the error shrinks per step by the factor
# $(\kappa - 1)/(\kappa + 1)$ for descent and $(\sqrt\kappa - 1)/(\sqrt\kappa + 1)$ for momentum (Polyak 1964), where
# $\kappa = 100$ is the ratio of the curvatures. For descent that is 0.980 per step: 346 steps for a thousandth.

# %% [markdown] lang="zh"
# $f(x, y) = (x^2 + 100 y^2)/2$ 横向比纵向陡一百倍。陡的方向限制了学习率，平的方向于是要走很多步。
# 取最佳常数时，每步误差缩小的倍数，梯度下降是 $(\kappa - 1)/(\kappa + 1)$，
# 动量是 $(\sqrt\kappa - 1)/(\sqrt\kappa + 1)$（Polyak 1964），$\kappa = 100$ 是两个曲率之比。
# 对梯度下降，这是每步 0.980：缩小到千分之一要 346 步。

# %%
quiz(
    "momentum's steps",
    en="Descent needs about 346 steps to a thousandth of the error. How many does momentum need?",
    zh="误差缩小到千分之一，梯度下降约需 346 步。动量需要多少步？",
    choices={"300": "about 300 · 约 300", "170": "about 170 · 约 170", "50": "about 50 · 约 50", "5": "about 5 · 约 5"},
)

# %%
curvature = torch.tensor([1.0, 100.0], dtype=torch.float64)
beginning = torch.tensor([-8.0, 1.0], dtype=torch.float64)


def descend(optimizer_class, steps: int, scale: float = 1.0, **options) -> torch.Tensor:
    """Positions [steps + 1, 2] in the valley, the loss multiplied by `scale`."""
    position = beginning.clone().requires_grad_()
    optimizer, visited = optimizer_class([position], **options), [beginning]
    for _ in range(steps):
        position.grad = scale * curvature * position.detach()
        optimizer.step()
        visited.append(position.detach().clone())
    return torch.stack(visited)


kappa = 100.0
theory = {"descent": (kappa - 1) / (kappa + 1), "momentum": (kappa**0.5 - 1) / (kappa**0.5 + 1)}
best = {
    "descent": {"lr": 2 / (1 + kappa)},
    "momentum": {"lr": (2 / (1 + kappa**0.5)) ** 2, "momentum": theory["momentum"] ** 2},
}
measured, steps_needed = {}, {}
for name, options in best.items():
    error = descend(SGD, 600, **options).norm(dim=1)
    measured[name] = ((error[300] / error[100]) ** (1 / 200)).item()
    steps_needed[name] = int((error > error[0] / 1000).sum())
table(
    ["method", "factor per step, theory", "measured from step 100 to 300", "steps to a thousandth"],
    [(name, theory[name], measured[name], steps_needed[name]) for name in best],
)
settle("momentum's steps", min(("300", "170", "50", "5"), key=lambda n: abs(int(n) - steps_needed["momentum"])))

# %% [markdown]
# ## Experiment: the first steps of Adam · 实验：Adam 的最初几步

# %% [markdown] lang="en"
# What would happen without the correction? For a constant gradient the corrected step is the learning rate, at every
# step. Without it, $m$ and $v$ both start too small, but $v$ more so ($\beta_2$ is nearer to 1), and the step divides
# by its root.

# %% [markdown] lang="zh"
# 如果不做修正会怎样？梯度恒定时，修正后的步长在每一步都等于学习率。
# 不修正的话，$m$ 和 $v$ 起初都偏小，但 $v$ 偏小得更厉害（$\beta_2$ 更接近 1），而步长要除以它的平方根。

# %%
quiz(
    "uncorrected first step",
    en="Without bias correction, how many learning rates long is Adam's first step?",
    zh="不做偏差修正，Adam 的第一步有几个学习率那么长？",
)

# %%
gradient, lr = 2.0, 0.1
corrected, uncorrected = [], []
w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
adam = Adam([w], lr=lr)
for _ in range(2000):
    before = w.item()
    w.grad = torch.full_like(w, gradient)
    adam.step()
    state = adam.state[w]
    corrected.append((before - w.item()) / lr)
    uncorrected.append((state["exp_avg"] / state["exp_avg_sq"].sqrt()).item())
settle("uncorrected first step", uncorrected[0])
longest = max(uncorrected)
table(
    ["step", "corrected, in learning rates", "uncorrected"],
    [(step, corrected[step - 1], uncorrected[step - 1]) for step in (1, 2, 10, 100, 1000, 2000)],
)
print(f"  uncorrected, the longest step is {longest:.2f} learning rates, at step {uncorrected.index(longest) + 1}")

# %% [markdown]
# ## Experiment: what Adam does not see · 实验：Adam 看不到什么

# %% [markdown] lang="en"
# Multiply the loss by 1,000, for example by taking a sum where there was a mean. All gradients grow by 1,000. We take
# 20 steps in the valley with both losses.

# %% [markdown] lang="zh"
# 把损失乘以 1,000，比如把平均写成了求和，所有梯度都随之变大 1,000 倍。我们用两种损失在山谷里各走 20 步。

# %%
quiz(
    "loss times 1000",
    en="Whose path changes when the loss is multiplied by 1,000?",
    zh="损失乘以 1,000 之后，谁走的路会变？",
    choices={
        "SGD": "SGD's only · 只有 SGD",
        "Adam": "Adam's only · 只有 Adam",
        "both": "both · 两者都变",
        "neither": "neither's · 都不变",
    },
)

# %%
ends = {
    name: [descend(rule, 20, scale, lr=rate)[-1] for scale in (1.0, 1000.0)]
    for name, rule, rate in (("SGD", SGD, 0.01), ("Adam", Adam, 0.1))
}
moved = {name: (a - b).abs().max().item() for name, (a, b) in ends.items()}
changed = [name for name, distance in moved.items() if distance > 1e-4]
settle("loss times 1000", "both" if len(changed) == 2 else changed[0] if changed else "neither")
table(
    ["rule", "after 20 steps", "loss times 1,000"],
    [(name, str(a.numpy().round(4)), f"{b[0]:.4g}, {b[1]:.4g}") for name, (a, b) in ends.items()],
)
first_step = (descend(Adam, 1, lr=0.1)[1] - beginning).abs()
print(f"  Adam's first step: {first_step.tolist()}, with gradients of {(curvature * beginning).abs().tolist()}")

# %% [markdown]
# ## Experiment: weight decay inside and beside Adam · 实验：权重衰减，在内还是在外

# %% [markdown] lang="en"
# 2,000 weights start at 1 and get pure noise as their gradient, half of them small noise (0.1), half large (10). On
# average only the decay moves them. In Adam, $\lambda w$ is divided by $\sqrt{\hat v}$ with the rest: weights with
# large gradients hardly decay, those with small ones decay much faster. In AdamW all shrink alike, by
# $(1 - \eta\lambda)^{300}$.

# %% [markdown] lang="zh"
# 2,000 个权重从 1 出发，梯度是纯噪声，一半噪声小（0.1），一半大（10）。平均来看，只有衰减在移动它们。
# 在 Adam 里，$\lambda w$ 和其余部分一起除以 $\sqrt{\hat v}$：梯度大的权重几乎不衰减，梯度小的衰减快得多。
# 在 AdamW 里所有权重一样收缩，即 $(1 - \eta\lambda)^{300}$。

# %%
noise_scale = torch.tensor([0.1, 10.0]).repeat_interleave(1000)
remaining: dict[str, list[list[float]]] = {"Adam": [], "AdamW": []}
for seed in (0, 1, 2):
    for optimizer_class in (Adam, AdamW):
        weights = torch.ones(2000, requires_grad=True)
        optimizer, noise = optimizer_class([weights], lr=0.002, weight_decay=0.5), torch.Generator().manual_seed(seed)
        for _ in range(300):
            weights.grad = noise_scale * torch.randn(2000, generator=noise)
            optimizer.step()
        remaining[optimizer_class.__name__].append(weights.detach().view(2, 1000).mean(1).tolist())
expected_decay = (1 - 0.002 * 0.5) ** 300
table(
    ["optimizer", "seed", "mean weight, small gradients", "large gradients"],
    [(name, seed, *means) for name, runs in remaining.items() for seed, means in enumerate(runs)],
)
print(f"  (1 − ηλ)³⁰⁰ = {expected_decay:.4f}")

# %% [markdown]
# ## Experiment: a fair comparison on digits · 实验：在数字上公平比较

# %% [markdown] lang="en"
# The same network, the same 100 batches, three seeds. A learning rate means something else to each rule: momentum 0.9
# adds up ten gradients, Adam divides the gradient by its size. So a comparison at one common rate compares rates, not
# rules. Each rule gets three rates, about a factor of 3 apart, and is judged by its best.

# %% [markdown] lang="zh"
# 同一个网络、同样的 100 个批次、三个种子。同一个学习率对不同规则意义不同：动量 0.9 会累加约十个梯度，
# Adam 则把梯度除以它的大小。用同一个学习率来比较，比的是学习率，而不是规则。
# 因此每个规则给三个学习率（相邻约差 3 倍），按各自最好的一个来评判。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:4000])


def training_losses(optimizer_class, options: dict, seed: int) -> list[float]:
    """The loss of each of 100 steps; the seed draws the weights and the batches."""
    network, draw = nn.Sequential(nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 10)), torch.Generator().manual_seed(seed)
    for layer in (network[0], network[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=draw)
        nn.init.zeros_(layer.bias)
    optimizer, curve = optimizer_class(network.parameters(), **options), []
    for _ in range(100):
        rows = torch.randint(len(images), (64,), generator=draw)
        optimizer.zero_grad()
        loss = cross_entropy(network(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


candidates = {
    "SGD": (SGD, {}, (0.1, 0.3, 1.0)),
    "momentum 0.9": (SGD, {"momentum": 0.9}, (0.03, 0.1, 0.3)),
    "Nesterov 0.9": (SGD, {"momentum": 0.9, "nesterov": True}, (0.03, 0.1, 0.3)),
    "RMSprop": (RMSprop, {}, (0.001, 0.003, 0.01)),
    "AdamW": (AdamW, {}, (0.003, 0.01, 0.03)),
}
curves = {
    (name, rate, seed): training_losses(rule, {**options, "lr": rate}, seed)
    for name, (rule, options, tried) in candidates.items()
    for rate in tried
    for seed in (0, 1, 2)
}
final = {run: sum(curve[-30:]) / 30 for run, curve in curves.items()}  # mean of the last 30 steps
best_rate = {
    name: min(tried, key=lambda rate: sum(final[name, rate, seed] for seed in (0, 1, 2)))
    for name, (_, _, tried) in candidates.items()
}
at_best = {name: [final[name, best_rate[name], seed] for seed in (0, 1, 2)] for name in candidates}
table(
    ["rule", "rate", "loss of the last 30 steps, seed 0", "seed 1", "seed 2", ""],
    [
        (name, rate, *(final[name, rate, seed] for seed in (0, 1, 2)), "best" if rate == best_rate[name] else "")
        for name, (_, _, tried) in candidates.items()
        for rate in tried
    ],
)

figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
u, v = torch.meshgrid(torch.linspace(-9, 3, 200), torch.linspace(-4.2, 4.2, 400), indexing="xy")
axes[0].contour(u, v, (u**2 + 100 * v**2) / 2, levels=[1, 10, 40, 150, 400, 800], colors="lightgrey")
walks = {
    "descent": (descend(SGD, 40, **best["descent"]), ".-"),
    "momentum": (descend(SGD, 40, **best["momentum"]), "s-"),
    "RMSprop": (descend(RMSprop, 40, lr=0.3, alpha=0.9), "^-"),
    "Adam": (descend(Adam, 40, lr=0.4), "x-"),
}
for name, (walk, style) in walks.items():
    axes[0].plot(walk[:, 0], walk[:, 1], style, linewidth=1, markersize=4, label=name)
axes[0].set(
    xlim=(-9, 3), ylim=(-4.2, 4.2), xlabel="x (flat)", ylabel="y (100 times as steep)", title="40 steps in the valley"
)
axes[1].semilogx(range(1, 2001), corrected, label="corrected")
axes[1].semilogx(range(1, 2001), uncorrected, "--", label="uncorrected")
axes[1].set(
    xlabel="step", ylabel="step in learning rates", title="Adam's step, constant gradient", ylim=(0, 1.1 * longest)
)
for (name, rate), style in zip(best_rate.items(), ("-", "--", "-.", ":", "-"), strict=True):
    axes[2].semilogy(*moving_average(curves[name, rate, 0], 10), style, label=f"{name}, {rate}")
axes[2].set(
    xlabel="step", ylabel="training loss, mean of ten steps", title="Digits, each rule at its best rate (seed 0)"
)
for axis in axes:
    axis.legend(fontsize=8)
figure.tight_layout()
show(figure, "paths-correction-losses")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Seven settings against `torch.optim`: the same network and batches, all weights after each of 30 steps, in float64.
# The gradients at every step depend on all steps before, so one wrong term would grow. The state has torch's names:
# ours continues what torch began. What torch does better is speed: it updates many tensors in one call (`foreach`).

# %% [markdown] lang="zh"
# 七种设置与 `torch.optim` 对照：同一个网络、同样的批次，float64，比较 30 步中每一步之后的全部权重。
# 每一步的梯度都取决于之前所有的步，任何一项写错，差别都会越滚越大。状态用的是 torch 的名字：torch 训练到一半，我们可以接着训练。
# torch 胜在速度：一次调用更新许多张量（`foreach`）。


# %%
def small_network() -> nn.Module:
    network = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 4)).double()
    draw = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=draw)
    return network


def path(optimizer_class, options: dict, resumed_with=None) -> torch.Tensor:
    """All weights after each step, [30, weights]; after 15 steps another class may take over the state."""
    network, batches = small_network(), torch.Generator().manual_seed(2)
    optimizer, visited = optimizer_class(network.parameters(), **options), []
    for step in range(30):
        if step == 15 and resumed_with is not None:
            saved = optimizer.state_dict()
            optimizer = resumed_with(network.parameters(), **options)
            optimizer.load_state_dict(saved)
        inputs = torch.randn(16, 12, generator=batches, dtype=torch.float64)
        optimizer.zero_grad()
        cross_entropy(network(inputs), torch.randint(4, (16,), generator=batches)).backward()
        optimizer.step()
        visited.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
    return torch.stack(visited)


rules = {
    "SGD": (SGD, torch.optim.SGD, {"lr": 0.1}),
    "weight decay": (SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "Nesterov": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "RMSprop": (RMSprop, torch.optim.RMSprop, {"lr": 0.01}),
    "Adam": (Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "AdamW": (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
}
paths = {name: (path(ours, options), path(theirs, options)) for name, (ours, theirs, options) in rules.items()}
table(
    ["rule", "options", "largest difference in 30 steps"],
    [(name, rules[name][2], (a - b).abs().max().item()) for name, (a, b) in paths.items()],
)
continued = path(torch.optim.AdamW, rules["AdamW"][2], resumed_with=AdamW)

many = [nn.Parameter(torch.randn(64, 64)) for _ in range(100)]
for parameter in many:
    parameter.grad = torch.ones_like(parameter)
ours, theirs = AdamW(many), torch.optim.AdamW(many, foreach=True)
times = {"ours, a loop": seconds(ours.step), "torch, foreach": seconds(theirs.step)}
table(["AdamW over 100 tensors", "ms per step"], [(name, 1e3 * time) for name, time in times.items()])

# %% [markdown]
# ## Checks · 检验

# %%
check_close(
    "by hand: 0.8, 0.64; 0.8, 0.46; Adam's first step is 0.1",
    [*by_hand["SGD"], *by_hand["momentum 0.9"], by_hand["Adam"][0]],
    [0.8, 0.64, 0.8, 0.46, 0.9],
    1e-6,
)
check_close(
    "thirty steps of all seven are torch's", *(torch.stack(side) for side in zip(*paths.values(), strict=True)), 1e-9
)
check_close("ours continues a run of torch's AdamW", continued, paths["AdamW"][1], 1e-9)
check(
    "descent and momentum are as fast as theory says, within one percent per step",
    all(abs(measured[name] / theory[name] - 1) < 0.01 for name in best),
)
check(
    "to a thousandth momentum takes less than a fifth of the steps",
    5 * steps_needed["momentum"] < steps_needed["descent"],
)
check_close("corrected, every step is one learning rate", corrected, [1.0] * 2000, 1e-6)
check_close("uncorrected, the first is (1 − β₁)/√(1 − β₂)", uncorrected[0], 0.1 / math.sqrt(0.001), 1e-6)
check("and later ones are more than six learning rates", longest > 6)
check("Adam's path does not depend on the loss's scale, SGD's does", moved["Adam"] < 1e-6 and moved["SGD"] > 1e3)
check(
    "AdamW decays all weights by (1 − ηλ) per step, with every seed",
    all(abs(mean - expected_decay) < 0.03 for means in remaining["AdamW"] for mean in means),
)
check(
    "Adam decays weights with large gradients far less than those with small ones, with every seed",
    all(small < large - 0.2 for small, large in remaining["Adam"]),
)
check(
    "each at its best rate, momentum, Nesterov, RMSprop and AdamW end below SGD, with every seed",
    all(
        other < plain
        for name in at_best
        if name != "SGD"
        for other, plain in zip(at_best[name], at_best["SGD"], strict=True)
    ),
)
check(
    "momentum 0.9 at rate 0.03 does about what SGD does at 0.3: losses within 20 %, with every seed",
    all(abs(final["momentum 0.9", 0.03, seed] / final["SGD", 0.3, seed] - 1) < 0.2 for seed in (0, 1, 2)),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `mnist-classifier` uses AdamW for its last layer, norms and biases, and Muon, a later rule with
# momentum, for its matrices: read `packages/mnist-classifier/src/mnist_classifier/train.py`, then run
# `uv run --package mnist-classifier train --max-minutes 2`.
#
# Papers: [Kingma & Ba 2015](https://arxiv.org/abs/1412.6980) (Adam), [Loshchilov & Hutter
# 2019](https://arxiv.org/abs/1711.05101) (AdamW), [Sutskever et al.
# 2013](https://proceedings.mlr.press/v28/sutskever13.html) (momentum). Next: 03/07, where batches come from, and 03/09,
# the loop around the optimizer.

# %% [markdown] lang="zh"
# 实战项目 `mnist-classifier` 对最后一层、归一化层和偏置用 AdamW，对矩阵用较新的、同样带动量的 Muon：
# 先读 `packages/mnist-classifier/src/mnist_classifier/train.py`，
# 再运行 `uv run --package mnist-classifier train --max-minutes 2`。
#
# 论文：[Kingma 与 Ba 2015](https://arxiv.org/abs/1412.6980)（Adam）、
# [Loshchilov 与 Hutter 2019](https://arxiv.org/abs/1711.05101)（AdamW）、
# [Sutskever 等 2013](https://proceedings.mlr.press/v28/sutskever13.html)（动量）。
# 下一课：批次从哪里来，03/07；围绕优化器的训练循环见 03/09。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write every update rule: `uv run lesson exercise 03/06` makes a file with the four classes, their options and
# docstrings, and the bodies of `SGD.update`, `RMSprop.update`, `Adam._adam_step` and `AdamW.update` left to you.
# `uv run lesson check 03/06` judges them, in this order.

# %% [markdown] lang="zh"
# 写出所有更新规则：`uv run lesson exercise 03/06` 生成一个文件，里面有四个类、它们的选项和文档字符串，
# `SGD.update`、`RMSprop.update`、`Adam._adam_step` 和 `AdamW.update` 的函数体留给你写。
# `uv run lesson check 03/06` 按这个顺序评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. The options are in `group`: `group["lr"]`, `group["momentum"]`, `group["betas"]`. Change `w` in place, with
#    `w.sub_(…)`; `w = w - …` changes nothing outside.
# 2. Do not change `g` in place. `g = g + group["weight_decay"] * w` makes a new tensor, which is what you want.
# 3. At the first step `state` is empty: put `torch.zeros_like(w)` there. An average that is kept must be changed in
#    place (`mul_`, `add_`), or be stored in `state` again.
# 4. Nesterov first updates the velocity, then steps along `g + momentum * v`, with the decay already in `g`.
# 5. Adam counts its steps from 1. $\varepsilon$ is added after the root. The corrected averages are new tensors: what
#    is kept stays uncorrected.
# 6. AdamW decays `w` before Adam's step, and the step gets the plain gradient.

# %% [markdown] lang="zh"
# 1. 选项在 `group` 里：`group["lr"]`、`group["momentum"]`、`group["betas"]`。
#    要就地修改 `w`，即 `w.sub_(…)`；写成 `w = w - …`，函数外面什么也不会变。
# 2. 不要就地修改 `g`。`g = g + group["weight_decay"] * w` 会生成新张量，这正是需要的。
# 3. 第一步时 `state` 是空的：放入 `torch.zeros_like(w)`。要保留的平均必须就地修改（`mul_`、`add_`），或者重新存回 `state`。
# 4. Nesterov 先更新速度，再沿 `g + momentum * v` 走，此时 `g` 已经包含权重衰减。
# 5. Adam 的步数从 1 数起。$\varepsilon$ 在开方之后再加。修正后的平均是新张量，保存的仍是未修正的值。
# 6. AdamW 先收缩 `w`，再做 Adam 的一步，这一步用的是不含衰减的梯度。


# %%
@exercise(SGD.update, RMSprop.update, Adam._adam_step, AdamW.update)
def judge(yours, reference):
    def walk(part, rule, steps, **options):
        draw = torch.Generator().manual_seed(6)
        w = torch.randn(3, 4, generator=draw, dtype=torch.float64).requires_grad_()
        optimizer, untouched = getattr(part, rule)([w], **options), True
        for _ in range(steps):
            w.grad = torch.randn(3, 4, generator=draw, dtype=torch.float64) + 0.3
            given = w.grad.clone()
            optimizer.step()
            untouched = untouched and torch.equal(w.grad, given)
        return w.detach(), untouched, dict(optimizer.state[w])

    def compare(claim, rule, steps, **options):
        (mine, untouched, _), (expected, *_) = (walk(part, rule, steps, **options) for part in (yours, reference))
        check_close(claim, mine, expected, 1e-9)
        check(f"{claim}: the gradient itself is left as it was", untouched)

    compare("SGD, one step", "SGD", 1, lr=0.1)
    compare("SGD with weight decay", "SGD", 3, lr=0.1, weight_decay=0.2)
    compare("momentum, first step", "SGD", 1, lr=0.1, momentum=0.9)
    compare("momentum, four steps", "SGD", 4, lr=0.1, momentum=0.9)
    compare("momentum with weight decay: both in the velocity", "SGD", 4, lr=0.1, momentum=0.9, weight_decay=0.2)
    compare("Nesterov, one step", "SGD", 1, lr=0.1, momentum=0.8, nesterov=True)
    compare("Nesterov, four steps", "SGD", 4, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.1)
    compare("RMSprop, one step", "RMSprop", 1, lr=0.1, alpha=0.8)
    compare("RMSprop, four steps, with weight decay", "RMSprop", 4, lr=0.1, alpha=0.8, weight_decay=0.2)
    compare("RMSprop with a large ε: where it is added", "RMSprop", 4, lr=0.1, alpha=0.8, eps=0.5)
    compare("Adam, first step", "Adam", 1, lr=0.1)
    compare("Adam, second step: the corrections count steps", "Adam", 2, lr=0.1, betas=(0.8, 0.95))
    compare("Adam, eight steps", "Adam", 8, lr=0.1, betas=(0.8, 0.95))
    compare("Adam with a large ε: where it is added", "Adam", 8, lr=0.1, eps=0.5)
    compare("Adam with weight decay", "Adam", 8, lr=0.1, weight_decay=0.3)
    compare("AdamW, first step: decayed by ηλ", "AdamW", 1, lr=0.1, weight_decay=0.3)
    compare("AdamW, eight steps", "AdamW", 8, lr=0.1, betas=(0.8, 0.95), weight_decay=0.3)
    for rule, options in (("SGD", {"momentum": 0.9}), ("RMSprop", {}), ("AdamW", {})):
        mine, expected = (walk(part, rule, 3, lr=0.1, **options)[2] for part in (yours, reference))
        check(f"{rule}: the state has the documented names", set(mine) == set(expected))
        for name in expected:
            check_close(f"{rule}: what is kept as {name}", mine[name], expected[name], 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does Adam correct its bias, and what happens without? · Adam 为什么要做偏差修正？不做会怎样？

# %% [markdown] lang="en"
# Its averages start at 0, so early on they are too small, by the factor $1 - \beta^t$. Both are, but not equally: with
# 0.9 and 0.999, the first uncorrected step is $0.1/\sqrt{0.001} = 3.2$ learning rates long and later ones more than
# six, just when the weights are random and the gradients largest. Corrected, the step has the right length from the
# first. Even so $\hat v$ is an estimate from few gradients at the beginning, and noisy; a warm-up of the learning rate
# helps against that.

# %% [markdown] lang="zh"
# 它的两个平均从 0 开始，起初偏小，偏小的倍数是 $1 - \beta^t$。两者都偏小，但程度不同：
# 取 0.9 和 0.999 时，不修正的第一步有 $0.1/\sqrt{0.001} = 3.2$ 个学习率那么长，后面还会超过六个，
# 而这时权重是随机的，梯度正大。修正后，从第一步起步长就是对的。
# 即便如此，起初的 $\hat v$ 只由少数几个梯度估计，噪声很大，学习率预热可以缓解这一点。

# %%
print(
    f"  uncorrected: first step {uncorrected[0]:.2f}, longest {longest:.2f} learning rates; corrected {corrected[0]:.2f}"
)

# %% [markdown]
# ### What is the difference between Adam with L2 regularization and AdamW? · 带 L2 正则的 Adam 与 AdamW 有什么区别？

# %% [markdown] lang="en"
# L2 adds $\lambda w$ to the gradient, so Adam averages it and divides it by $\sqrt{\hat v}$: a weight with large
# gradients is decayed little, one with small gradients a lot. AdamW leaves the gradient alone and multiplies every
# weight by $1 - \eta\lambda$. For plain SGD the two are the same; for Adam they are not.

# %% [markdown] lang="zh"
# L2 把 $\lambda w$ 加进梯度，Adam 便会对它取平均、再除以 $\sqrt{\hat v}$：梯度大的权重衰减得少，梯度小的衰减得多。
# AdamW 不动梯度，直接把每个权重乘以 $1 - \eta\lambda$。对普通 SGD 两者等价，对 Adam 则不等价。

# %%
for name, (first, *_) in remaining.items():
    print(f"  {name}: of weight 1 remain {first[0]:.3f} (small gradients) and {first[1]:.3f} (large ones)")

# %% [markdown]
# ### Why does momentum help, and where? · 动量为什么有用？在什么情况下有用？

# %% [markdown] lang="en"
# In a long valley the gradients across change their sign at each step and cancel in the average; those along agree
# and add up, to $1/(1 - \mu)$ times one gradient. With the best constants the number of steps grows with
# $\sqrt\kappa$ instead of the condition number $\kappa$. Where all curvatures are alike it brings little. In
# training, a good part of what momentum gains at the same learning rate is only the tenfold step; compare at each
# rule's own best rate.

# %% [markdown] lang="zh"
# 在狭长的山谷里，横向梯度每步变号，平均后相互抵消；纵向梯度方向一致，累加到单个梯度的 $1/(1 - \mu)$ 倍。
# 取最佳常数时，所需步数由正比于条件数 $\kappa$ 变成正比于 $\sqrt\kappa$。各方向曲率相近时，动量帮助不大。
# 训练中，同一学习率下动量的优势，很大一部分只是步长大了十倍；应当在各自最佳的学习率下比较。

# %%
print(f"  steps to a thousandth, κ = 100: {steps_needed}")
for name, rate in (("SGD", 0.1), ("SGD", 0.3), ("momentum 0.9", 0.03), ("momentum 0.9", 0.1)):
    print(f"  {name} at {rate}: loss on digits {sum(final[name, rate, seed] for seed in (0, 1, 2)) / 3:.3f}")

# %% [markdown]
# ### How much memory does each optimizer need? · 各优化器需要多少显存？

# %% [markdown] lang="en"
# Beside weights and gradients: SGD nothing, momentum and RMSprop one number per weight, Adam two. For a model of 7
# billion weights in float32 that is 28 GB of weights, 28 GB of gradients, and 56 GB for Adam's averages. This is why
# their precision is lowered (8-bit Adam) or they are divided among devices (ZeRO).

# %% [markdown] lang="zh"
# 除权重和梯度之外：SGD 不需要，动量和 RMSprop 每个权重一个数，Adam 每个权重两个数。
# 70 亿参数的模型用 float32：权重 28 GB，梯度 28 GB，Adam 的两个平均 56 GB。
# 所以才有降低其精度（8 位 Adam）或分摊到多张卡上（ZeRO）的做法。

# %%
for name, rule, options in (("SGD", SGD, {}), ("momentum", SGD, {"momentum": 0.9}), ("AdamW", AdamW, {})):
    w = nn.Parameter(torch.ones(1000))
    w.grad = torch.ones(1000)
    optimizer = rule([w], lr=0.1, **options)
    optimizer.step()
    numbers = sum(value.numel() for value in optimizer.state[w].values() if isinstance(value, torch.Tensor))
    print(f"  {name}: {numbers / 1000:.0f} numbers per weight")

# %% [markdown]
# ### What is ε for, and when does its size matter? · ε 有什么用？什么时候它的大小有影响？

# %% [markdown] lang="en"
# It keeps the quotient finite where all gradients have been 0. It matters when $\sqrt{\hat v}$ is not much larger: then
# the step shrinks. A gradient of $10^{-8}$, for example after the loss was divided by a large number, gets half a
# step, one of $10^{-10}$ a hundredth, and Adam is no longer blind to scale. In float16, $10^{-8}$ rounds to 0, and $0/0$ is `nan`: state is kept in
# float32, or ε is set larger.

# %% [markdown] lang="zh"
# 当梯度一直为 0 时，它防止除以零。$\sqrt{\hat v}$ 不比它大多少时，它的大小就有影响：步长会缩小。
# 梯度为 $10^{-8}$ 时（比如损失除以了一个很大的数），步长只剩一半，$10^{-10}$ 时只剩约百分之一，
# Adam 也就不再与尺度无关。
# 在 float16 里 $10^{-8}$ 会舍入成 0，而 $0/0$ 是 `nan`：所以状态要用 float32 保存，或把 ε 设大。

# %%
for size in (1.0, 1e-6, 1e-8, 1e-10):
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    w.grad = torch.full_like(w, size)
    Adam([w], lr=0.1).step()
    print(f"  gradient {size:g}: first step {-w.item() / 0.1:.4f} learning rates")
print(f"  1e-8 in float16: {torch.tensor(1e-8, dtype=torch.float16).item()}")

# %% [markdown]
# ### The loss is changed from a mean to a sum over the batch. What happens with SGD and with Adam? · 损失从批次平均改成批次求和，SGD 和 Adam 各会怎样？

# %% [markdown] lang="en"
# All gradients grow by the batch size. SGD's steps grow with them and it may diverge: the learning rate must be divided
# by the batch size. Adam's steps stay the same, as the factor cancels in $\hat m/\sqrt{\hat v}$ (as long as ε is small
# beside it). What does change for both: clipping at a fixed norm, L2 terms beside the loss, and logged numbers.

# %% [markdown] lang="zh"
# 所有梯度都变大批次大小那么多倍。SGD 的步长随之变大，可能发散：学习率要除以批次大小。
# Adam 的步长不变，因为这个倍数在 $\hat m/\sqrt{\hat v}$ 中约掉了（只要 ε 相比之下很小）。
# 对两者都有影响的是：固定阈值的梯度裁剪、与损失相加的 L2 项，以及记录下来的损失值。

# %%
for name, distance in moved.items():
    print(f"  {name}: loss × 1,000 moves the end of 20 steps by {distance:.3g}")
