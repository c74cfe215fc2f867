# %% [markdown]
# # The chain rule: an autograd engine · 链式法则：自动求导引擎

# %% [markdown] lang="en"
# After this lesson you can compute the gradient of a small network on paper, explain why one backward pass is enough
# for a million weights, and write the engine that does it. You need derivatives and gradients (02/03) and matrix
# products (02/01). To look things up: [linear algebra and gradients](../../../../docs/LINEAR_ALGEBRA_DL.md).

# %% [markdown] lang="zh"
# 学完本课，你能在纸上算出小网络的梯度，能解释为什么一次反向传播就够一百万个权重用，还能自己写出这样的自动求导引擎。
# 先修：导数与梯度（02/03）、矩阵乘法（02/01）。速查：[线性代数与梯度](../../../../docs/LINEAR_ALGEBRA_DL.md)。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.course.smoothing import moving_average
from dlcommon.mathematics import functional as F
from dlcommon.mathematics.autograd import Variable, backpropagate, matmul, unbroadcast
from dlcommon.mathematics.derivatives import numerical_gradient

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A network that reads handwritten digits has 50,890 weights and one loss. To lower the loss you must know, for every
# weight, in which direction and how strongly the loss reacts to it. You could move each weight a little and look
# (02/03): two evaluations per weight, 101,780 of them, for one single step of training. Thousands of steps are needed.
#
# A network is a chain of simple functions, though: products, sums, exponentials. The derivative of each is known. The
# question of this lesson is how to put these small derivatives together so that all 50,890 answers come out of one
# pass.

# %% [markdown] lang="zh"
# 一个识别手写数字的网络有 50,890 个权重，而损失只有一个。要让损失下降，就得知道每个权重往哪个方向动、损失反应有多强。
# 可以把每个权重轻轻挪一下再看损失（02/03）：每个权重要算两次，总共 101,780 次，这才换来一步训练，而训练需要几千步。
#
# 不过，网络是由乘、加、指数这些简单函数串成的，每一个的导数都是已知的。
# 本课要回答的是：怎样把这些小导数拼起来，让 50,890 个答案在一遍计算中全部得到。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One weight $w = 1.5$, one bias $b = -0.5$, one input $x = 2$ with label 1. The model's score is $z = wx + b$, its
# loss is the logistic loss plus a penalty on large weights: $\ell = \log(1 + e^{-z}) + 0.1\,w^2$.
#
# Forward, one operation at a time: $z = 2.5$, $n = -z = -2.5$, $u = e^n = 0.0821$, $d = \log(1 + u) = 0.0789$, the
# penalty $p = 0.1\,w^2 = 0.225$, and $\ell = d + p = 0.3039$.
#
# Backward, from the loss to the weights. Each operation knows only its own derivative:
# $\partial d/\partial u = 1/(1 + u) = 0.9241$, $\partial u/\partial n = u = 0.0821$, $\partial n/\partial z = -1$. In
# a chain, derivatives multiply: $\partial\ell/\partial z = 0.9241 \cdot 0.0821 \cdot (-1) = -0.0759$. From $z$ to the
# bias the factor is 1, so $\partial\ell/\partial b = -0.0759$.
#
# The weight reaches the loss along two paths. Through $z$ the factor is $x = 2$, which gives $-0.1517$; through the
# penalty it is $0.2\,w = 0.3$. Where paths meet, derivatives add: $\partial\ell/\partial w = -0.1517 + 0.3 = 0.1483$.
# Multiply along a path, add over paths: that is the whole chain rule.

# %% [markdown] lang="zh"
# 一个权重 $w = 1.5$，一个偏置 $b = -0.5$，一个输入 $x = 2$，标签为 1。模型的打分是 $z = wx + b$，
# 损失是逻辑损失加上对大权重的惩罚：$\ell = \log(1 + e^{-z}) + 0.1\,w^2$。
#
# 前向，一次算一步：$z = 2.5$，$n = -z = -2.5$，$u = e^n = 0.0821$，$d = \log(1 + u) = 0.0789$，
# 惩罚项 $p = 0.1\,w^2 = 0.225$，最后 $\ell = d + p = 0.3039$。
#
# 反向，从损失往权重走。每个运算只知道自己的导数：$\partial d/\partial u = 1/(1 + u) = 0.9241$，
# $\partial u/\partial n = u = 0.0821$，$\partial n/\partial z = -1$。一条链上的导数相乘：
# $\partial\ell/\partial z = 0.9241 \cdot 0.0821 \cdot (-1) = -0.0759$。
# 从 $z$ 到偏置的系数是 1，所以 $\partial\ell/\partial b = -0.0759$。
#
# 权重有两条路通到损失。经过 $z$ 的系数是 $x = 2$，得 $-0.1517$；经过惩罚项的系数是 $0.2\,w = 0.3$。
# 几条路会合，导数相加：$\partial\ell/\partial w = -0.1517 + 0.3 = 0.1483$。
# 沿路相乘，各路相加：这就是链式法则的全部。

# %%
w, b, x = Variable(1.5), Variable(-0.5), 2.0
z = w * x + b
n = -z
u = F.exp(n)
d = F.log(1 + u)
penalty = 0.1 * w**2
small_loss = d + penalty
small_loss.backward()
to_z = float(1 / (1 + u.data) * u.data * -1)
table(
    ["path from the loss", "factors", "product"],
    [
        ("to b, through z", f"{1 / (1 + u.data):.4f} · {u.data:.4f} · (−1) · 1", to_z),
        ("to w, through z", f"{1 / (1 + u.data):.4f} · {u.data:.4f} · (−1) · 2", 2 * to_z),
        ("to w, through the penalty", "0.2 · 1.5", 0.3),
        ("to w, both", "", 2 * to_z + 0.3),
    ],
)
print(f"  the engine: ∂ℓ/∂b = {b.grad:.4f}, ∂ℓ/∂w = {w.grad:.4f}")

drawing = Schematic(14, 4.3, "Values forward (in the boxes), gradients backward (below them)")
for name, text, place, kind, below in (
    ("w", "w\n1.5", (1.0, 2.1), "parameter", f"∂ℓ/∂w = {2 * to_z:.4f} + 0.3"),
    ("b", "b\n-0.5", (1.0, 0.8), "parameter", f"∂ℓ/∂b = {to_z:.4f}"),
    ("z", "z = 2w + b\n2.5", (3.6, 2.1), "operation", f"∂ℓ/∂z = {to_z:.4f}"),
    ("n", "n = -z\n-2.5", (6.2, 2.1), "operation", f"∂ℓ/∂n = {-to_z:.4f}"),
    ("u", f"u = exp n\n{u.data:.4f}", (8.8, 2.1), "operation", f"∂ℓ/∂u = {1 / (1 + u.data):.4f}"),
    ("d", f"d = log(1 + u)\n{d.data:.4f}", (11.8, 2.1), "operation", "∂ℓ/∂d = 1"),
    ("p", "p = 0.1 w²\n0.225", (6.2, 3.7), "operation", "∂ℓ/∂p = 1"),
    ("l", f"ℓ = d + p\n{small_loss.data:.4f}", (11.8, 3.7), "data", "∂ℓ/∂ℓ = 1"),
):
    drawing.box(name, *place, text.replace("-", "−"), kind, width=1.6, height=0.8)
    drawing.text(place[0] + (0.75 if name == "l" else 0), place[1] - 0.6, below.replace("-", "−"))
for start, end, factor in (
    ("w", "z", "×2"),
    ("b", "z", "×1"),
    ("z", "n", "×(−1)"),
    ("n", "u", "×u"),
    ("u", "d", "×1/(1+u)"),
    ("d", "l", "×1"),
    ("w", "p", "×0.2w"),
    ("p", "l", "×1"),
):
    drawing.arrow(start, end, factor)
show(drawing.figure, "graph")

# %% [markdown]
# ## Formula · 公式
#
# $$\bar v = \frac{\partial L}{\partial v}, \qquad \bar L = 1, \qquad \bar v = \sum_{u \in \mathrm{uses}(v)} J_{uv}^\top \, \bar u$$
#
# $$y = \varphi(x): \quad \bar x = \bar y \odot \varphi'(x) \qquad\qquad y = a + b: \quad \bar a = \bar y, \;\; \bar b = \bar y$$
#
# $$Y = A B: \quad \bar A = \bar Y B^\top, \quad \bar B = A^\top \bar Y$$
#
# $$L = -\frac{1}{N} \sum_{i=1}^{N} \log p_{i, t_i}, \quad p_i = \mathrm{softmax}(z_i): \qquad \bar z_i = \frac{p_i - e_{t_i}}{N}$$

# %% [markdown] lang="en"
# - $L$: the loss, a single number. $v$: any array of the computation, given or computed.
# - $\bar v$: the gradient of the loss with respect to $v$, in $v$'s shape.
# - $\mathrm{uses}(v)$: the operations that take $v$ as an input; $u$ is the result of one of them.
# - $J_{uv} = \partial u / \partial v$: the Jacobian, with one row per element of $u$ and one column per element of $v$.
#   It is never built: each operation computes the product $J_{uv}^\top \bar u$ directly (a vector-Jacobian product).
# - $\varphi$: a function applied to each element, $\varphi'$ its derivative; $\odot$: the product of elements.
# - $A$: a matrix `[m, n]`, $B$: `[n, k]`, $Y$: `[m, k]`. Shapes leave only one way to multiply: $\bar Y$ `[m, k]`
#   times $B^\top$ `[k, n]` gives $\bar A$ `[m, n]`.
# - $N$: the number of samples; $z_i$: the logits of sample $i$, $p_i$ its probabilities, $t_i$ its class, $e_{t_i}$:
#   the vector with 1 at that class and 0 elsewhere.
#
# The sum over uses is equation 7 of Rumelhart, Hinton & Williams 1986; the whole scheme is reverse mode in section 3.2
# of Baydin et al. 2018. A smaller array that is broadcast is used once per copy, so its gradient is the sum over the
# copies: a bias `[64]` that is added to `[batch, 64]` gets the sum over the batch.

# %% [markdown] lang="zh"
# - $L$：损失，一个数。$v$：计算中的任意数组，给定的或算出来的。
# - $\bar v$：损失对 $v$ 的梯度，形状与 $v$ 相同。
# - $\mathrm{uses}(v)$：以 $v$ 为输入的那些运算；$u$ 是其中一个运算的结果。
# - $J_{uv} = \partial u / \partial v$：雅可比矩阵，$u$ 的每个元素占一行，$v$ 的每个元素占一列。
#   它从不真正构造出来：每个运算直接算乘积 $J_{uv}^\top \bar u$（向量-雅可比积）。
# - $\varphi$：逐元素作用的函数，$\varphi'$ 是它的导数；$\odot$：逐元素相乘。
# - $A$：矩阵 `[m, n]`，$B$：`[n, k]`，$Y$：`[m, k]`。按形状只有一种乘法可行：
#   $\bar Y$ `[m, k]` 乘 $B^\top$ `[k, n]`，得 $\bar A$ `[m, n]`。
# - $N$：样本数；$z_i$：样本 $i$ 的 logits，$p_i$ 是它的概率，$t_i$ 是它的类别，$e_{t_i}$：该类别处为 1、其余为 0 的向量。
#
# 对所有用处求和，就是 Rumelhart、Hinton 与 Williams 1986 的式 7；整套算法即 Baydin 等 2018 第 3.2 节的反向模式。
# 较小的数组被广播时，每复制一份就算用了一次，所以它的梯度是对各份求和：
# 偏置 `[64]` 加到 `[batch, 64]` 上，梯度就要对批次求和。

# %% [markdown]
# ## Code · 代码

# %%
source(Variable.__mul__)
source(matmul)
source(unbroadcast)
source(backpropagate)

# %% [markdown] lang="en"
# A `Variable` holds an array, `data`, and `inputs`: for each variable that it was computed from, a pair of that
# variable and a function `vjp` that maps $\bar u$ to this input's part of the gradient, a vector-Jacobian product
# (VJP). Calling `w * x` computes the product at once and notes two such functions: the gradient for one factor is
# $\bar u$ times the other factor. Nothing else is needed; the graph is these notes.
#
# `backpropagate` walks the notes in two loops. The first counts how often each variable is used. The second starts at
# the output with its gradient and hands each input its part. A variable may pass its gradient on only when it is
# complete, that is, when the parts of all its uses have arrived: then its count is 0 and it is `ready`. Variables
# that were not computed from others are the leaves of the graph; what arrives there is the result. Shapes: `part`
# always has the shape of `source.data`; where broadcasting made the result larger, `unbroadcast` sums `[batch, 64]`
# back to `[64]`.

# %% [markdown] lang="zh"
# `Variable` 里有一个数组 `data`，以及 `inputs`：它由哪些变量算出，每个变量配一个函数 `vjp`，
# 把 $\bar u$ 变成这个输入应得的那一份梯度，也就是向量-雅可比积（VJP）。执行 `w * x` 时立刻算出乘积，同时记下两个这样的函数：
# 对一个因子的梯度等于 $\bar u$ 乘另一个因子。除此之外什么都不需要，这些记录就是计算图。
#
# `backpropagate` 用两个循环走完这些记录。第一个循环数每个变量被用了几次。
# 第二个循环从输出和它的梯度出发，把每一份梯度交给输入。一个变量的梯度收齐了才能继续往回传，
# 也就是说，每一处使用都交来了自己的那一份：此时计数归零，变量进入 `ready`。
# 不由别的变量算出的变量是图的叶子，传到叶子的梯度就是结果。
# 形状方面：`part` 总与 `source.data` 同形；如果结果因广播而变大，`unbroadcast` 把 `[batch, 64]` 求和变回 `[64]`。

# %% [markdown]
# ## Experiment: many paths, one pass · 实验：路径很多，只走一遍

# %% [markdown] lang="en"
# Double a number twenty times, each time as $x + x$. Each $x$ is used twice, so $2^{20}$ paths lead from the first
# $x$ to the end. The chain rule adds over all paths; we compare following every path by itself with `backpropagate`,
# and count the vector-Jacobian products (calls of `vjp`).

# %% [markdown] lang="zh"
# 把一个数翻倍二十次，每次都写成 $x + x$。每个 $x$ 用了两次，所以从最初的 $x$ 到终点共有 $2^{20}$ 条路径。
# 链式法则要对所有路径求和；我们把“逐条路径走”和 `backpropagate` 相比，数一数各做了多少次向量-雅可比积（即调用 `vjp` 的次数）。

# %%
quiz(
    "products",
    en="Twenty doublings: how many vector-Jacobian products does backpropagate compute?",
    zh="翻倍二十次：backpropagate 要做多少次向量-雅可比积？",
)
quiz(
    "overwritten",
    en="If an engine kept only the last part instead of the sum, what would it say for x·x at x = 3?",
    zh="如果引擎只保留最后一份梯度而不求和，x·x 在 x = 3 处它会给出多少？",
)


# %%
def doubled(depth: int, calls: list[int]) -> tuple[Variable, Variable]:
    """The first and the last of `depth` doublings; `calls` grows by one at each vector-Jacobian product."""

    def vjp(gradient):
        calls.append(1)
        return gradient

    first = last = Variable(1.0)
    for _ in range(depth):
        last = Variable(last.data + last.data, ((last, vjp), (last, vjp)))
    return first, last


def path_by_path(variable: Variable, gradient: np.ndarray) -> None:
    """Follows each path to its beginning: right, but each variable is visited once per path."""
    if not variable.inputs:
        variable.grad = gradient if variable.grad is None else variable.grad + gradient
    for before, vjp in variable.inputs:
        path_by_path(before, vjp(gradient))


rows = []
for depth in (1, 4, 8, 12, 20):
    in_one_pass: list[int] = []
    first, last = doubled(depth, in_one_pass)
    last.backward()
    along_paths: list[int] = []
    if depth <= 12:
        path_by_path(doubled(depth, along_paths)[1], np.ones(()))
    rows.append((depth, 2**depth, float(first.grad), len(in_one_pass), len(along_paths) or "too many"))
table(["doublings", "paths", "gradient", "products in one pass", "path by path"], rows)
settle("products", rows[-1][3])
square = Variable(3.0)
(by_first, vjp_first), (by_second, vjp_second) = (square * square).inputs
overwritten = float(vjp_second(np.ones(())))
settle("overwritten", overwritten)
print(f"  x·x at 3: the parts are {vjp_first(np.ones(()))} and {overwritten}, the gradient is their sum")

# %% [markdown]
# ## Experiment: long products · 实验：很长的乘积

# %% [markdown] lang="en"
# A deep network multiplies as many derivatives as it has layers. Here a single number passes through 30 layers of one
# unit each. The slope of a sigmoid is at most 1/4; that of a ReLU is 1 where its input is positive, and a weight of
# 1.5 multiplies it by 1.5.

# %% [markdown] lang="zh"
# 网络有多少层，就要乘多少个导数。这里让一个数依次穿过 30 层，每层只有一个单元。
# sigmoid 的斜率最多 1/4；ReLU 在输入为正时斜率是 1，权重 1.5 则让它再乘 1.5。

# %%
quiz(
    "ten sigmoids",
    en="How large is the derivative of ten sigmoids in a row, at 0?",
    zh="十个 sigmoid 连着作用，在 0 处的导数有多大？",
    choices={"0.1": "about 0.1 · 约 0.1", "0.001": "about 0.001 · 约 0.001", "tiny": "below 0.000001 · 小于 0.000001"},
)

# %%
layers = {
    "sigmoid": (F.sigmoid, 1.0, 0.0),
    "tanh": (F.tanh, 1.0, 0.5),
    "ReLU": (F.relu, 1.0, 0.5),
    "ReLU, weights 1.5": (F.relu, 1.5, 0.5),
}
depths = list(range(1, 31))
slopes: dict[str, list[float]] = {}
for name, (activation, weight, start) in layers.items():
    slopes[name] = []
    for depth in depths:
        signal = entered = Variable(start)
        for _ in range(depth):
            signal = activation(weight * signal)
        signal.backward()
        slopes[name].append(float(entered.grad))
ten_sigmoids = slopes["sigmoid"][9]
settle("ten sigmoids", "tiny" if ten_sigmoids < 1e-6 else "0.001" if ten_sigmoids < 0.01 else "0.1")
table(["layers", *slopes], [(depth, *(row[depth - 1] for row in slopes.values())) for depth in (1, 5, 10, 30)])

# %% [markdown]
# ## Experiment: what a gradient costs · 实验：梯度的代价

# %% [markdown] lang="en"
# The same gradient by central differences and by one backward pass. Differences evaluate the function twice for each
# weight; the backward pass computes about two products for each one of the forward pass, whatever the number of
# weights. The times are those of this machine.

# %% [markdown] lang="zh"
# 同一个梯度，分别用中心差分和一次反向传播来算。差分法对每个权重要计算两次函数；
# 反向传播对前向的每个乘法大约再做两个乘法，与权重多少无关。时间是本机测得的。

# %%
random = np.random.default_rng(0)
inputs = random.standard_normal((16, 32))  # [batch, features]
sizes, costs = [8, 16, 32, 64], []
for outputs in sizes:
    matrix, evaluations = random.standard_normal((32, outputs)), []

    def energy(matrix, evaluations=evaluations):
        evaluations.append(1)
        return (F.tanh(inputs @ matrix) ** 2).mean()

    by_differences = numerical_gradient(lambda w, energy=energy: float(energy(Variable(w)).data), matrix)
    needed = len(evaluations)
    variable = Variable(matrix)
    energy(variable).backward()
    gap = float(np.abs(variable.grad - by_differences).max())
    one_pass = seconds(lambda energy=energy, matrix=matrix: energy(Variable(matrix)).backward())
    one_evaluation = seconds(lambda energy=energy, matrix=matrix: energy(Variable(matrix)))
    costs.append((32 * outputs, needed, 1e3 * needed * one_evaluation, 1e3 * one_pass, gap))
table(["weights", "evaluations for differences", "their ms", "ms of one backward pass", "largest difference"], costs)

# %% [markdown]
# ## Experiment: a network on real digits · 实验：在真实数字上训练网络

# %% [markdown] lang="en"
# 784 → 64 → 10 with ReLU and cross-entropy, stochastic gradient descent with momentum (03/06), nothing but our engine.
# The loop is every training loop: clear the gradients, forward, backward, step. Three seeds draw other weights and
# other batches.

# %% [markdown] lang="zh"
# 784 → 64 → 10 的网络，ReLU 加交叉熵，用带动量的随机梯度下降（03/06）训练，全程只用我们自己的引擎。
# 循环就是所有训练循环的样子：清空梯度、前向、反向、更新。三个种子各取不同的初始权重和批次顺序。

# %%
digits = data("mnist", "mnist-sample")
train_images = digits.train_images[:4000].reshape(4000, 784) / 255.0
test_images = digits.test_images[:1000].reshape(-1, 784) / 255.0
labels, test_labels = digits.train_labels[:4000], digits.test_labels[:1000]


def start_and_order(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights, and the rows of each batch [steps, 50]."""
    generator = np.random.default_rng(seed)
    hidden, last = generator.standard_normal((784, 64)) * (2 / 784) ** 0.5, generator.standard_normal((64, 10)) / 8
    order = np.concatenate([generator.permutation(4000) for _ in range(3)]).reshape(-1, 50)
    return [hidden, np.zeros(64), last, np.zeros(10)], order


def train(seed: int, steps: int | None = None) -> tuple[list[np.ndarray], list[float]]:
    """The weights after training, and the loss of each step."""
    start, order = start_and_order(seed)
    parameters = [Variable(array) for array in start]
    velocities, losses = [np.zeros_like(array) for array in start], []
    for batch in order[:steps]:
        for parameter in parameters:
            parameter.grad = None
        w1, b1, w2, b2 = parameters
        hidden = F.relu(train_images[batch] @ w1 + b1)  # [50, 784] @ [784, 64] + [64]
        loss = F.cross_entropy(hidden @ w2 + b2, labels[batch])
        loss.backward()
        for parameter, velocity in zip(parameters, velocities, strict=True):
            velocity *= 0.9
            velocity += parameter.grad
            parameter.data = parameter.data - 0.05 * velocity
        losses.append(float(loss.data))
    return [parameter.data for parameter in parameters], losses


runs = {seed: train(seed) for seed in (0, 1, 2)}
accuracies = {}
for seed, ((w1, b1, w2, b2), _) in runs.items():
    predicted = (np.maximum(test_images @ w1 + b1, 0) @ w2 + b2).argmax(1)
    accuracies[seed] = float((predicted == test_labels).mean())
table(
    ["seed", "first loss", "mean of the last 20", "test accuracy"],
    [(seed, losses[0], float(np.mean(losses[-20:])), accuracies[seed]) for seed, (_, losses) in runs.items()],
)

figure, axes = plt.subplots(1, 3, figsize=(14, 3.9))
for (name, row), style in zip(slopes.items(), ("-", "--", "-.", ":"), strict=True):
    axes[0].semilogy(depths, row, style, label=name)
axes[0].set(title="A product of as many slopes as layers", xlabel="layers", ylabel="derivative, first to last")
weights_count = [row[0] for row in costs]
axes[1].semilogy(weights_count, [row[2] for row in costs], "o-", label="differences")
axes[1].semilogy(weights_count, [row[3] for row in costs], "o--", label="one backward pass")
axes[1].set(title="One pass serves all weights", xlabel="weights", ylabel="milliseconds per gradient")
for seed, (_, losses) in runs.items():
    axes[2].plot(*moving_average(losses, 20), label=f"seed {seed}: {accuracies[seed]:.1%} of test digits")
axes[2].set(
    title="Digits, trained by our engine", xlabel="step", ylabel="cross-entropy, mean of 20 steps", ylim=(0, 2.4)
)
for axis in axes:
    axis.legend(fontsize=8)
figure.tight_layout()
show(figure, "products-cost-training")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch's autograd is the same algorithm. Every operation of ours is compared with torch's, value and gradients, on
# random inputs; then twenty training steps from the same start must end at the same weights.

# %% [markdown] lang="zh"
# torch 的 autograd 用的是同一个算法。先在随机输入上把我们的每个运算与 torch 对比，数值和梯度都比；
# 再从同一起点训练二十步，必须得到同样的权重。

# %%
a, c, m = random.standard_normal((3, 4)), random.standard_normal((1, 4)), random.standard_normal((4, 2))
operations = {
    "a + c (broadcast)": (lambda a, c, m: a + c, lambda a, c, m: a + c),
    "a * c (broadcast)": (lambda a, c, m: a * c, lambda a, c, m: a * c),
    "a / (c² + 1)": (lambda a, c, m: a / (c**2 + 1), lambda a, c, m: a / (c**2 + 1)),
    "a @ m": (lambda a, c, m: a @ m, lambda a, c, m: a @ m),
    "mean over rows": (lambda a, c, m: (a * c).mean(0), lambda a, c, m: (a * c).mean(0)),
    "max over columns": (lambda a, c, m: (a * c).max(1), lambda a, c, m: (a * c).amax(1)),
    "index, one row twice": (lambda a, c, m: a[[0, 2, 2]] * c, lambda a, c, m: a[[0, 2, 2]] * c),
    "transpose, reshape": (lambda a, c, m: (a.T @ a).reshape(16), lambda a, c, m: (a.T @ a).reshape(16)),
    "exp": (lambda a, c, m: F.exp(a + c), lambda a, c, m: torch.exp(a + c)),
    "tanh": (lambda a, c, m: F.tanh(a @ m), lambda a, c, m: torch.tanh(a @ m)),
    "sigmoid": (lambda a, c, m: F.sigmoid(a @ m), lambda a, c, m: torch.sigmoid(a @ m)),
    "relu": (lambda a, c, m: F.relu(a + c), lambda a, c, m: torch.relu(a + c)),
    "log_softmax": (lambda a, c, m: F.log_softmax(a * c), lambda a, c, m: torch.log_softmax(a * c, -1)),
}
disagreement = {}
for name, (ours, theirs) in operations.items():
    variables = [Variable(array) for array in (a, c, m)]
    tensors = [torch.tensor(array, requires_grad=True) for array in (a, c, m)]
    found, expected = ours(*variables), theirs(*tensors)
    vector = random.standard_normal(found.shape)
    found.backward(vector)
    expected.backward(torch.tensor(vector))
    gaps = [np.abs(found.data - expected.detach().numpy()).max()]
    gaps += [
        np.abs(v.grad - t.grad.numpy()).max() for v, t in zip(variables, tensors, strict=True) if t.grad is not None
    ]
    disagreement[name] = float(max(gaps))
table(["operation", "largest difference, value or gradient"], disagreement.items())

start, order = start_and_order(seed=0)
tensors = [torch.tensor(array, requires_grad=True) for array in start]
optimizer = torch.optim.SGD(tensors, lr=0.05, momentum=0.9)
for batch in order[:20]:
    t1, c1, t2, c2 = tensors
    hidden = torch.relu(torch.tensor(train_images[batch]) @ t1 + c1)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(hidden @ t2 + c2, torch.tensor(labels[batch])).backward()
    optimizer.step()
after_twenty = train(seed=0, steps=20)[0]

# %% [markdown]
# ## Checks · 检验

# %%
check_close(
    "by hand: ∂ℓ/∂b = −0.0759 and ∂ℓ/∂w = 0.1483", [float(b.grad), float(w.grad)], [-0.0759, 0.1483], tolerance=1e-4
)
check(
    "doubling d times takes 2·d products, and the gradient is 2^d", all(r[3] == 2 * r[0] and r[2] == r[1] for r in rows)
)
check("path by path, twelve doublings take 8,190 products", rows[3][4] == 8190)
check("ten sigmoids leave less than a millionth, ten ReLUs all", ten_sigmoids < 1e-6 and slopes["ReLU"][9] == 1)
check("differences need two evaluations per weight", all(needed == 2 * count for count, needed, *_ in costs))
check("and agree with the backward pass to seven digits", max(row[-1] for row in costs) < 1e-7)
check("every operation agrees with torch in value and gradient", max(disagreement.values()) < 1e-12)
for name, mine, reference in zip(
    ("first layer", "first bias", "second layer", "second bias"), after_twenty, tensors, strict=True
):
    check_close(f"after twenty steps torch has the same {name}", mine, reference, tolerance=1e-9)
check("with every seed the network recognizes more than 85 % of test digits", min(accuracies.values()) > 0.85)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every `loss.backward()` of this course is this algorithm. You meet it in the capstone `mnist-classifier`: read
# `packages/mnist-classifier/src/mnist_classifier/train.py` and run
# `uv run --package mnist-classifier train --max-minutes 2`.
#
# Papers: [Rumelhart, Hinton & Williams 1986](https://doi.org/10.1038/323533a0), which made it known for networks, and
# the survey by [Baydin et al. 2018](https://arxiv.org/abs/1502.05767). Next: what to do with a gradient, 02/05;
# torch's engine, 03/03; the same gradients layer by layer, 04/03; and why the long products matter in recurrent
# networks, 06/03.

# %% [markdown] lang="zh"
# 本课程里的每一个 `loss.backward()` 都是这个算法。在实战项目 `mnist-classifier` 里可以见到它：
# 读 `packages/mnist-classifier/src/mnist_classifier/train.py`，
# 再运行 `uv run --package mnist-classifier train --max-minutes 2`。
#
# 论文：[Rumelhart、Hinton 与 Williams 1986](https://doi.org/10.1038/323533a0) 让它在神经网络中广为人知；
# 综述见 [Baydin 等 2018](https://arxiv.org/abs/1502.05767)。
# 下一课：有了梯度怎么用，02/05；torch 的引擎见 03/03，逐层推导同样的梯度见 04/03，长乘积在循环网络中的后果见 06/03。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the heart of the engine: `unbroadcast`, which sums a gradient back to an operand's shape, and `backpropagate`.
# `uv run lesson exercise 02/04` makes a file with their signatures, `uv run lesson check 02/04` judges it. Variables
# and operations are given: a `Variable` has `data` and `inputs`, a tuple of pairs `(source, vjp)`.

# %% [markdown] lang="zh"
# 写出引擎的核心：`unbroadcast` 把梯度求和变回操作数的形状，`backpropagate` 走完整个计算图。
# `uv run lesson exercise 02/04` 生成带有函数签名的文件，`uv run lesson check 02/04` 评判。
# 变量和运算已经给好：`Variable` 有 `data` 和 `inputs`，后者是若干对 `(source, vjp)` 组成的元组。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `unbroadcast` has two cases. Axes that the operand does not have stand in front: sum over them and drop them. Axes
#    where the operand has size 1 and the gradient more: sum with `keepdims=True`.
# 2. A result that is used once is easy: keep a list of variables to visit and a dictionary from variable to gradient,
#    and hand `vjp(gradient)` to each input. `Variable`s can be keys of a dictionary.
# 3. Where a variable is used several times, add the parts, and wait: first walk the graph once and count the uses of
#    each variable (`collections.Counter`); a variable is visited when its count has come down to 0.
# 4. In the first walk, follow the inputs of each variable only once, or it takes as long as there are paths. No
#    recursion: Python allows about a thousand nested calls, and graphs are deeper.
# 5. In `x * x` the same variable stands twice in `inputs`: that is two uses. Only leaves, variables without inputs,
#    belong in what is returned.

# %% [markdown] lang="zh"
# 1. `unbroadcast` 分两种情况。操作数没有的轴排在最前面：对它们求和并去掉。
#    操作数大小为 1 而梯度更大的轴：用 `keepdims=True` 求和。
# 2. 结果只用一次时很简单：准备一个待访问的变量列表，一个从变量到梯度的字典，
#    把 `vjp(gradient)` 交给每个输入。`Variable` 可以当字典的键。
# 3. 变量被用多次时，要把各份相加，并且要等齐：先走一遍图，数出每个变量的使用次数（`collections.Counter`）；
#    计数减到 0 时才访问它。
# 4. 第一遍走图时，每个变量的输入只展开一次，否则有多少条路径就要走多少遍。
#    不要用递归：Python 的嵌套调用上限约一千层，而计算图更深。
# 5. 在 `x * x` 中，同一个变量在 `inputs` 里出现两次，算两次使用。返回的字典里只放叶子，即没有输入的变量。


# %%
@exercise(backpropagate, unbroadcast)
def judge(yours, reference):
    random = np.random.default_rng(8)
    for shape in ((4,), (1, 4), (3, 1), (), (2, 1, 4)):
        operand, gradient = np.zeros(shape), random.standard_normal((2, 3, 4))
        mine, expected = (part.unbroadcast(gradient, operand) for part in (yours, reference))
        check_close(f"unbroadcast from [2, 3, 4] to {list(shape)}", mine, expected, 1e-12)

    def compare(claim, output, gradient, leaves):
        mine, expected = (part.backpropagate(output, gradient) for part in (yours, reference))
        for name, variable in leaves.items():
            check(f"{claim}: {name} has a gradient", variable in mine)
            check_close(f"{claim}: the gradient of {name}", mine[variable], expected[variable], 1e-12)
        check(f"{claim}: only leaves are in the result", set(mine) == set(expected))

    x, w = Variable(random.standard_normal((5, 3))), Variable(random.standard_normal((3, 2)))
    chained = F.tanh(F.exp(x * 0.3))
    compare("a chain", chained, random.standard_normal((5, 3)), {"x": x})
    layer = F.tanh(x @ w)
    compare("a layer of two inputs", layer, random.standard_normal((5, 2)), {"x": x, "w": w})
    compare("x used twice by one operation", x * x, random.standard_normal((5, 3)), {"x": x})
    branched = F.exp(x) * x + F.tanh(x)
    compare("x used three times", branched, random.standard_normal((5, 3)), {"x": x})
    hidden = F.tanh(x @ w)
    late = hidden + F.exp(hidden * hidden)  # one use of `hidden` is near the output, two are far from it
    compare("a computed variable used near and far", late, random.standard_normal((5, 2)), {"x": x, "w": w})
    compare("a leaf as the output", x, np.ones((5, 3)), {"x": x})

    def products(depth):
        calls, first = [], Variable(1.0)

        def vjp(gradient):
            calls.append(1)
            return gradient / 2

        last = first
        for _ in range(depth):
            last = Variable(last.data, ((last, vjp), (last, vjp)))
        yours.backpropagate(last, np.ones(()))
        return len(calls)

    check("each operation's products are computed once: 16 doublings take 32", products(16) == 32)
    try:
        deep = products(5000)
    except RecursionError:
        deep = 0
    check("a chain of 5,000 operations is no problem", deep == 10_000)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why do networks use reverse mode and not forward mode? · 神经网络为什么用反向模式，而不是前向模式？

# %% [markdown] lang="en"
# Both multiply the same Jacobians, in another order. A reverse pass starts at one output and gives its derivatives for
# all inputs; a forward pass starts at one input and gives the derivatives of all outputs for it. A loss is one output
# of millions of inputs, so reverse mode needs one pass, forward mode millions. With few inputs and many outputs it is
# the other way round. The price of reverse mode is memory: intermediate results are kept.

# %% [markdown] lang="zh"
# 两者乘的是同样的雅可比矩阵，只是顺序不同。反向走一遍，得到一个输出对所有输入的导数；
# 前向走一遍，得到所有输出对一个输入的导数。损失是一个输出、上百万个输入，
# 反向只要一遍，前向要上百万遍。输入少、输出多时则相反。反向模式的代价是内存：要保留中间结果。

# %%
tall, point = random.standard_normal((200, 3)), random.standard_normal(3)
by_rows = []
for unit in np.eye(200):
    v = Variable(point)
    F.tanh(tall @ v).backward(unit)
    by_rows.append(v.grad)
by_columns = []
for unit in np.eye(3):  # forward: each value carries its derivative along one input
    value, slope = tall @ point, tall @ unit
    by_columns.append(slope * (1 - np.tanh(value) ** 2))
gap = np.abs(np.stack(by_rows) - np.stack(by_columns, 1)).max()
print(f"  3 inputs, 200 outputs: {len(by_rows)} reverse passes or {len(by_columns)} forward ones; difference {gap:.1e}")

# %% [markdown]
# ### Why does backward add to .grad instead of overwriting it? · backward 为什么累加到 .grad 而不是覆盖？

# %% [markdown] lang="en"
# Because the chain rule adds over all uses. A weight that is used several times (an embedding, a recurrent weight, a
# loss of two terms with a backward call each) needs the sum. It also allows gradient accumulation: several small
# batches, one step. The price is that the loop must clear the gradients itself.

# %% [markdown] lang="zh"
# 因为链式法则要对所有用处求和。同一个权重被多次使用（词嵌入、循环权重，或两项损失各调用一次 backward）时，需要的正是总和。
# 这也使梯度累积成为可能：几个小批次合起来更新一次。代价是训练循环必须自己清空梯度。

# %%
v = Variable(3.0)
for call in (1, 2):
    (v * v).backward()
    print(f"  x·x at 3, backward call {call}: grad = {v.grad}")

# %% [markdown]
# ### Why does training need more memory than inference? · 训练为什么比推理更耗内存？

# %% [markdown] lang="en"
# The vector-Jacobian products need values of the forward pass: the factors of a product, the output of a tanh. All
# intermediate results are kept until the backward pass has used them, and their size grows with the batch and the
# depth. Inference can drop each one at once. Gradients and the optimizer's state come on top. Checkpointing keeps only
# some results and computes the others again.

# %% [markdown] lang="zh"
# 向量-雅可比积要用到前向的数值：乘法的两个因子、tanh 的输出。所有中间结果都要保留到反向用完为止，
# 大小随批次和深度增长；推理时用完即可丢弃。此外还有梯度和优化器状态。
# 梯度检查点（checkpointing）只保留一部分结果，其余的在反向时重新计算。


# %%
def kept_bytes(output: Variable) -> int:
    """Bytes of all computed arrays that the graph holds."""
    seen, todo = {output}, [output]
    while todo:
        for before, _ in todo.pop().inputs:
            if before not in seen:
                seen.add(before)
                todo.append(before)
    return sum(v.data.nbytes for v in seen if v.inputs)


weights = [Variable(array) for array in runs[0][0]]
for size in (50, 100, 200):
    hidden = F.relu(train_images[:size] @ weights[0] + weights[1])
    loss = F.cross_entropy(hidden @ weights[2] + weights[3], labels[:size])
    print(f"  batch of {size}: {kept_bytes(loss):,} bytes of intermediate results")

# %% [markdown]
# ### A bias of shape [64] is added to [batch, 64]. What is its gradient, and why a sum? · 形状 [64] 的偏置加到 [batch, 64] 上，它的梯度是什么？为什么是求和？

# %% [markdown] lang="en"
# The sum over the batch of the gradient that arrives. Broadcasting uses the bias once per sample, so there are as many
# paths to the loss as samples, and paths add. The mean in the loss is already in the gradient that arrives; to take the
# mean again is a common mistake.

# %% [markdown] lang="zh"
# 是传回来的梯度对批次求和。广播相当于每个样本用一次偏置，有多少样本就有多少条路径通到损失，各路相加。
# 损失里的平均已经包含在传回的梯度中，再平均一次是常见的错误。

# %%
bias, arrived = Variable(np.zeros(4)), random.standard_normal((3, 4))
(Variable(np.ones((3, 4))) + bias).backward(arrived)
print(f"  gradient of the bias {bias.grad.round(3)}, sum over the batch {arrived.sum(0).round(3)}")

# %% [markdown]
# ### How do you test a backward pass that you wrote yourself? · 自己写的反向传播怎么测试？

# %% [markdown] lang="en"
# Against central differences, in float64, on random inputs, with a random vector in front so that no error cancels in a
# sum. With a step near $10^{-5}$ about ten digits agree. In float32 only four or five digits are left, and
# only with a larger step. Avoid points where the function has a kink, such as ReLU at 0. torch has `torch.autograd.gradcheck` for this.

# %% [markdown] lang="zh"
# 与中心差分对比：用 float64、随机输入，再乘一个随机向量，以免误差在求和时相互抵消。
# 步长取 $10^{-5}$ 左右，约有十位数字一致；float32 下只剩四五位，而且步长还要取得更大。
# 要避开不可导的点，比如 ReLU 的 0 点。torch 自带 `torch.autograd.gradcheck`。

# %%
point, vector = random.standard_normal((3, 4)), random.standard_normal((3, 4))
v = Variable(point)
F.softmax(v).backward(vector)
by_differences = numerical_gradient(lambda t: float((F.softmax(Variable(t)).data * vector).sum()), point)
print(f"  softmax: largest difference {np.abs(v.grad - by_differences).max():.1e}")

# %% [markdown]
# ### What is the gradient of softmax cross-entropy with respect to the logits? · softmax 交叉熵对 logits 的梯度是什么？

# %% [markdown] lang="en"
# Probabilities minus the one-hot target, divided by the batch size: $(p - e_t)/N$. It is bounded by 1 and does not
# vanish when the network is sure and wrong. With a squared error behind a sigmoid, the factor $p(1 - p)$ would make it
# vanish exactly there.

# %% [markdown] lang="zh"
# 概率减去 one-hot 目标，再除以批次大小：$(p - e_t)/N$。它不超过 1，而且在网络“很自信但错了”时不会消失。
# 如果是 sigmoid 后面接平方误差，多出的因子 $p(1 - p)$ 恰恰会在这种时候让梯度消失。

# %%
logits = Variable(np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 6.0]]))
F.cross_entropy(logits, np.array([0, 1])).backward()
by_formula = (F.softmax(logits).data - np.eye(3)[[0, 1]]) / 2
print(f"  sure and wrong (second row): {logits.grad[1].round(4)}; by the formula {by_formula[1].round(4)}")
