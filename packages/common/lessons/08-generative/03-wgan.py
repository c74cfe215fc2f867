# %% [markdown]
# # Wasserstein GAN · Wasserstein GAN

# %% [markdown] lang="en"
# After this lesson you can compute the Wasserstein distance on a line by sorting, train a critic whose loss estimates it,
# hold that critic to a slope of 1 by weight clipping and by a gradient penalty, and say by how much each of them errs.
# You need the losses of 08/01 and gradients of gradients (03/03).

# %% [markdown] lang="zh"
# 学完本课，你能用排序计算直线上的 Wasserstein 距离，能训练一个损失就是该距离估计值的评分网络（critic），
# 能用权重裁剪和梯度惩罚把它的斜率限制在 1，并能说出两者各有多大偏差。
# 先修：08/01 的损失、梯度的梯度（03/03）。

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.generative.gan_losses import (
    critic_generator_loss,
    critic_loss,
    discriminator_loss,
    minimax_generator_loss,
)
from dlcommon.generative.gradient_penalties import (
    input_gradient_norms,
    input_gradients,
    interpolate,
    one_centered_penalty,
    wgan_gp_penalty,
    zero_centered_penalty,
)
from dlcommon.generative.stacked_mlp import StackedMLP
from dlcommon.generative.wasserstein import clip_weights, wasserstein_distance
from dlcommon.mathematics.information import js_divergence
from scipy import stats

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# The loss of 08/01 has two defects. It says nothing of how good the generator is: while samples become better, it hovers
# about the same value. And where real and made-up samples do not overlap, a good discriminator is sure everywhere, and
# its slope, the generator's only teacher, is 0.
#
# Suppose the made-up samples lie four to the right of the real ones. Everyone sees the way: move left. What distance
# between distributions sees it too, and can a network measure it from samples?

# %% [markdown] lang="zh"
# 08/01 的损失有两个缺点。它不说明生成器有多好：样本在变好，它却在同一个值附近徘徊。
# 而且真假样本不重叠时，好的判别器处处都很有把握，它的斜率是生成器唯一的老师，却等于 0。
#
# 设想假样本在真样本右边四个单位处。谁都看得出该往左移。分布之间的什么距离也看得出来？网络能否由样本测出它？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Earth lies in heaps of one barrow each at 0, 1 and 5; it is wanted at 2, 3 and 4. Sort both and move in order: 0 to 2, 1
# to 3, 5 to 4. The ways are 2, 2 and 1, on average $5/3 = 1.667$: the Wasserstein distance. Crossing pays for nothing: 0 to
# 4 and 5 to 2 would make 4 and 3.
#
# Now a function $f$ that is never steeper than 1 prices the places: one barrow moved from $x$ to $y$ gains at most $|x - y|$.
# Take $f(x) = -x$ up to 4 and $x - 8$ from there on: at 0, 1, 5 it is $0, -1, -3$, at 2, 3, 4 it is $-2, -3, -4$. The means differ
# by $-4/3 + 3 = 5/3$: the best price list recovers the distance. A network can look for it.
#
# And Jensen-Shannon? The heaps share no place, so it is $\log 2$. Were they a mile apart, it would be $\log 2$.

# %% [markdown] lang="zh"
# 0、1、5 处各有一车土，要运到 2、3、4。两边排序，按次序运：0 到 2，1 到 3，5 到 4。
# 路程是 2、2、1，平均 $5/3 = 1.667$：这就是 Wasserstein 距离。交叉着运没有好处：0 到 4、5 到 2 要走 4 和 3。
#
# 再设一个处处不陡于 1 的函数 $f$ 给各处定价：一车土从 $x$ 运到 $y$，差价最多是 $|x - y|$。
# 取 $f(x)$ 在 4 以内为 $-x$，此后为 $x - 8$：在 0、1、5 处是 $0, -1, -3$，在 2、3、4 处是 $-2, -3, -4$。
# 平均值之差是 $-4/3 + 3 = 5/3$：最好的价目表恰好还原出距离。网络可以去寻找它。
#
# Jensen-Shannon 呢？两边没有一处相同，所以是 $\log 2$。就算相隔一里，也还是 $\log 2$。

# %%
have, want = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([2.0, 3.0, 4.0])
by_sorting = wasserstein_distance(have, want).item()


def price(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x < 4, -x, x - 8)


by_prices = (price(have).mean() - price(want).mean()).item()
table(["way to compute", "distance"], [("sorted, moved in order", by_sorting), ("best prices", by_prices)])
figure, axes = plt.subplots(1, 2, figsize=(12, 3.2), layout="constrained")
for row, (source_place, target) in enumerate(zip(have.tolist(), want.tolist(), strict=True)):
    axes[0].annotate("", (target, 0.6 - 0.2 * row), (source_place, 0.6 - 0.2 * row), arrowprops={"arrowstyle": "-|>"})
axes[0].scatter(have, [0.0] * 3, s=120, label="have")
axes[0].scatter(want, [0.0] * 3, s=120, marker="s", label="want")
axes[0].set(title="In order: 2 + 2 + 1 for three barrows", yticks=[], xlabel="place", ylim=(-0.2, 0.8))
axes[0].legend()
places = torch.linspace(-0.5, 5.5, 100)
axes[1].plot(places, price(places), color="black", label="f, slope −1 or 1")
axes[1].scatter(have, price(have), s=80, label=f"have: mean {price(have).mean():.2f}")
axes[1].scatter(want, price(want), s=80, marker="s", label=f"want: mean {price(want).mean():.2f}")
axes[1].set(title="Best prices: the means differ by 5/3", xlabel="place")
axes[1].legend()
show(figure, "by-hand")

# %% [markdown]
# ## Formula · 公式
#
# $$W_1(p, q) = \inf_{\gamma} \mathbb{E}_{(x, y) \sim \gamma} |x - y| = \sup_{\|f\|_L \le 1} \mathbb{E}_{x \sim p} f(x) - \mathbb{E}_{y \sim q} f(y)$$
#
# $$W_1(p, q) = \int_0^1 |F^{-1}(t) - G^{-1}(t)| \, dt \quad \text{on a line}$$
#
# $$L_{\text{critic}} = \mathbb{E} f(y) - \mathbb{E} f(x) + \lambda\, \mathbb{E} (\|\nabla f(\hat x)\| - 1)^2, \qquad \hat x = (1 - t) x + t y$$
#
# $$\max_a \; a W - \lambda (a - 1)^2 \;\Rightarrow\; a = 1 + \frac{W}{2 \lambda}$$

# %% [markdown] lang="en"
# - $p, q$: the distributions of real samples $x$ and made-up ones $y$, `[batch, features]`.
# - $\gamma$: a transport plan, a joint distribution with $p$ and $q$ as its margins; the best one has the least mean way.
# - $f$: the critic, a network without sigmoid; $\|f\|_L$: its Lipschitz constant, the steepest slope anywhere.
# - $F^{-1}, G^{-1}$: the quantile functions, that is, the sorted samples.
# - $\lambda$: the weight of the penalty, 10 in Gulrajani et al. 2017 (equation 3); $\hat x$: a random point between $x$ and $y$, $t$ uniform.
# - $a$: the slope of a critic that is a straight line.
#
# That least transport and best prices are the same number is the Kantorovich-Rubinstein duality (Arjovsky et al. 2017,
# equation 2). It turns the search over plans, of which nobody knows how to store one, into the training of a network.
# The condition on the slope is all the difficulty. Clipping keeps every weight within $[-c, c]$, which bounds the slope by
# *some* number $K$; the estimate is then up to $K W_1$. The penalty asks for slope 1 where it matters, but softly: for a
# line, the gain $aW$ is weighed against $\lambda (a - 1)^2$, and the best slope is a little above 1 (last formula).

# %% [markdown] lang="zh"
# - $p, q$：真样本 $x$ 与假样本 $y$ 的分布，`[batch, features]`。
# - $\gamma$：运输方案，以 $p$ 和 $q$ 为边缘分布的联合分布；最好的方案平均路程最短。
# - $f$：评分网络（critic），没有 sigmoid；$\|f\|_L$：它的 Lipschitz 常数，即各处最陡的斜率。
# - $F^{-1}, G^{-1}$：分位数函数，也就是排好序的样本。
# - $\lambda$：惩罚的权重，Gulrajani 等 2017（式 3）取 10；$\hat x$：$x$ 与 $y$ 之间的随机点，$t$ 均匀。
# - $a$：当评分网络是一条直线时的斜率。
#
# 最省的运输与最好的价格是同一个数，这是 Kantorovich-Rubinstein 对偶（Arjovsky 等 2017，式 2）。
# 它把对运输方案的搜索（这样的方案连存都存不下）变成了训练一个网络。全部困难在于斜率的条件。
# 裁剪把每个权重限制在 $[-c, c]$，斜率于是有*某个*上界 $K$，估计值最多是 $K W_1$。
# 惩罚项要求在要紧处斜率为 1，但只是软约束：对直线来说，收益 $aW$ 与 $\lambda (a - 1)^2$ 相权衡，
# 最佳斜率略大于 1（最后一个公式）。

# %% [markdown]
# ## Code · 代码

# %%
source(wasserstein_distance)
source(critic_loss)
source(clip_weights)
source(input_gradients)
source(wgan_gp_penalty)

# %% [markdown] lang="en"
# `wasserstein_distance` sorts `[n]` and `[m]`; the quantile functions are constant between levels $i/n$ and $j/m$, which are
# counted in units of $1/(nm)$ so that they are whole numbers. With $n = m$ that is the mean of `|x.sort() − y.sort()|`.
#
# `input_gradients` returns `[batch, features]`, with `create_graph=True`: the gradient is itself a node of the graph, and
# the penalty built on it has a gradient for the weights (double backward). Summing the logits first is allowed because
# logit $i$ depends on sample $i$ alone; batch norm would break that, so critics go without.

# %% [markdown] lang="zh"
# `wasserstein_distance` 给 `[n]` 和 `[m]` 排序；分位数函数在水平 $i/n$ 与 $j/m$ 之间是常数，
# 以 $1/(nm)$ 为单位计数，水平就都是整数。$n = m$ 时它就是 `|x.sort() − y.sort()|` 的平均。
#
# `input_gradients` 返回 `[batch, features]`，用了 `create_graph=True`：梯度本身是计算图的一个节点，
# 建立在它之上的惩罚项才有对权重的梯度（二次反向传播）。先对 logits 求和是允许的，因为第 $i$ 个 logit 只取决于第 $i$ 个样本；
# 批归一化会破坏这一点，所以评分网络不用它。

# %% [markdown]
# ## Experiment: who sees the way? · 实验：谁看得见方向？

# %% [markdown] lang="en"
# Real samples are uniform on $[0, 1]$, made-up ones on $[\theta, \theta + 1]$, which is Arjovsky's example on a line. The divergences
# can be computed exactly: $\mathrm{JS} = \min(\theta, 1) \log 2$ and $W_1 = \theta$. Then networks have to find them: for six shifts and three
# seeds, 18 critics train side by side, under a gradient penalty, under clipping with three limits, and 18 discriminators
# with the loss of 08/01.

# %% [markdown] lang="zh"
# 真样本在 $[0, 1]$ 上均匀分布，假样本在 $[\theta, \theta + 1]$ 上，即 Arjovsky 的例子搬到直线上。
# 两种散度可以精确算出：$\mathrm{JS} = \min(\theta, 1) \log 2$，$W_1 = \theta$。
# 然后让网络去找：六个位移、三个种子，18 个评分网络并排训练，一组用梯度惩罚，三组用不同上限的裁剪；
# 另有 18 个判别器用 08/01 的损失。

# %%
quiz(
    "estimate",
    en="Shift 4, penalty weight 10. What distance does a perfectly trained critic report?",
    zh="位移为 4，惩罚权重为 10。训练得完美的评分网络报告的距离是多少？",
)
quiz(
    "limits",
    en="The clipping limit rises from 0.03 to 0.3, tenfold. By which factor does the estimate grow (three weight matrices)?",
    zh="裁剪上限从 0.03 提高到 0.3，即十倍。估计值增大多少倍（网络有三个权重矩阵）？",
    choices={"1": "not at all · 不变", "10": "about 10 · 约 10", "300": "over 300 · 超过 300"},
)


# %%
SHIFTS, SEEDS, BATCH, WEIGHT = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0), 3, 128, 10.0
COPIES = len(SHIFTS) * SEEDS
SHIFT = torch.tensor(SHIFTS).repeat_interleave(SEEDS)[:, None, None]  # [copies, 1, 1]


def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and made-up samples, each [copies, count, 1]."""
    return torch.rand(COPIES, count, 1), torch.rand(COPIES, count, 1) + SHIFT


def train_critics(kind: str, limit: float = 0.0, gentle: int = 60, updates: int = 250) -> StackedMLP:
    """Trains one critic for each shift and seed; the penalty's weight is 0.1 for the `gentle` first updates, then 10."""
    torch.manual_seed(0)
    critics = StackedMLP(COPIES, 1, 32, 32, 1)
    optimizer = torch.optim.Adam(critics.parameters(), lr=1e-2, betas=(0.5, 0.9), fused=True)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - update / updates)
        x, y = draw(BATCH)
        loss = (discriminator_loss if kind == "discriminator" else critic_loss)(critics(x), critics(y))
        if kind == "penalty":
            loss = loss + (0.1 if update < gentle else WEIGHT) * wgan_gp_penalty(
                lambda points: critics(points.view(COPIES, BATCH, 1)).flatten(), x.flatten(0, 1), y.flatten(0, 1)
            )
        optimizer.zero_grad()
        (loss * COPIES).backward()  # a mean over copies, made their sum
        optimizer.step()
        if kind == "clipping":
            clip_weights(critics.parameters(), limit)
    return critics


def per_seed(values: torch.Tensor) -> torch.Tensor:
    return values.view(len(SHIFTS), SEEDS)


def estimate(critics: StackedMLP) -> torch.Tensor:
    """Difference of the means on new samples, [shifts, seeds]."""
    torch.manual_seed(1)
    with torch.no_grad():
        x, y = (critics(each).mean(dim=(1, 2)) for each in draw(4000))
    return per_seed(x - y)


def steepest(critics: StackedMLP) -> torch.Tensor:
    """Largest slope between the real samples' left and the made-up ones' right end, [shifts, seeds]."""
    share = torch.linspace(0, 1, 400)[None, :, None]
    points = (share * (SHIFT + 1)).flatten(0, 1).requires_grad_()  # [copies · 400, 1]
    slopes = input_gradient_norms(critics(points.view(COPIES, 400, 1)), points)
    return per_seed(slopes.detach().view(COPIES, 400).amax(dim=1))


LIMITS = (0.03, 0.1, 0.3)
critics = {"penalty": train_critics("penalty"), "10 at once": train_critics("penalty", gentle=0)} | {
    f"clipped to {limit}": train_critics("clipping", limit) for limit in LIMITS
}
estimates = {name: estimate(each) for name, each in critics.items()}
lipschitz = {name: steepest(each) for name, each in critics.items()}
expected = torch.tensor(SHIFTS) * (1 + torch.tensor(SHIFTS) / (2 * WEIGHT))
settle("estimate", expected[-1].item(), tolerance=0.05)
factor = estimates["clipped to 0.3"][-1] / estimates["clipped to 0.03"][-1]  # [seeds]
settle("limits", "300" if factor.min() > 300 else "10" if factor.min() > 3 else "1")


def histogram_js(shift: float) -> float:
    """JS divergence of both uniform densities in 100 cells per unit."""
    cells = np.zeros((2, 600))
    start = round(100 * shift)
    cells[0, :100], cells[1, start : start + 100] = 0.01, 0.01
    return float(js_divergence(cells[0], cells[1]))


exact_js = [histogram_js(shift) for shift in SHIFTS]
torch.manual_seed(2)
samples = [each[::SEEDS, :, 0] for each in draw(4000)]  # one copy of each shift, [shifts, 4000]
exact_w1 = [wasserstein_distance(x, y).item() for x, y in zip(*samples, strict=True)]


def written(values: torch.Tensor) -> str:
    return " ".join(f"{value:.3g}" for value in values.tolist())


table(
    [
        "shift",
        "JS",
        "W₁ by sorting",
        "penalty: estimate",
        "W (1 + W/20)",
        "10 at once",
        *(f"clipped to {limit}" for limit in LIMITS),
    ],
    [
        (
            shift,
            exact_js[row],
            exact_w1[row],
            written(estimates["penalty"][row]),
            expected[row].item(),
            written(estimates["10 at once"][row]),
            *(written(estimates[f"clipped to {limit}"][row]) for limit in LIMITS),
        )
        for row, shift in enumerate(SHIFTS)
    ],
)
table(
    ["Lipschitz constant, measured", *(f"shift {shift}" for shift in SHIFTS[1:])],
    [(name, *(written(row) for row in values[1:])) for name, values in lipschitz.items()],
)

# %% [markdown] lang="en"
# JS stops at 1 and says no more; $W_1$ goes on. The penalized critic reports the distance, a little more of it the farther,
# just as the formula says: $W (1 + W / 2\lambda)$. Clipped critics rank the shifts correctly, but in units of their own: the slope
# of three matrices grows as the cube of the limit, from far too flat to far too steep. So the limit is a second learning
# rate that nobody knows in advance.
#
# The column "10 at once" shows a trap. On a line, a critic whose slope happens to begin with the wrong sign would have to
# pass through slope 0, where the penalty is $\lambda$. If $W < 2\lambda$ it settles at the slope $-(1 - W / 2\lambda)$ instead, and
# reports $-W (1 - W / 2\lambda)$. So our critics get a gentle penalty for their first updates. In two or more dimensions a
# gradient can turn around without ever being 0, and the trap is gone.

# %% [markdown] lang="zh"
# JS 到 1 就停住，不再说什么；$W_1$ 继续增长。带惩罚的评分网络报出了距离，越远多报得越多，
# 正如公式所说：$W (1 + W / 2\lambda)$。裁剪的网络把位移的次序排对了，但用的是各自的单位：
# 三个矩阵的斜率按上限的三次方增长，从过于平缓到过于陡峭。于是上限成了第二个谁也不能预先知道的学习率。
#
# “10 at once”一列显示了一个陷阱。在直线上，斜率起初符号就错了的评分网络必须经过斜率 0，而那里的惩罚是 $\lambda$。
# 如果 $W < 2\lambda$，它就停在斜率 $-(1 - W / 2\lambda)$ 处，报告 $-W (1 - W / 2\lambda)$。
# 所以我们的网络在最初几次更新时用温和的惩罚。在二维或更高维中，梯度可以掉头而不必等于 0，这个陷阱就没有了。

# %% [markdown]
# ## Experiment: what the generator hears · 实验：生成器听到什么

# %% [markdown] lang="en"
# The generator learns from one thing: the slope of its loss at its samples. We compare that of the trained discriminators
# (minimax loss) with that of the penalized critics, for each shift. And the weights: how many of a clipped critic stand
# at the limit?

# %% [markdown] lang="zh"
# 生成器只从一样东西学习：损失在它的样本处的斜率。我们按位移比较训练好的判别器（极小极大损失）与带惩罚的评分网络。
# 再看权重：裁剪的网络有多少权重顶在上限？

# %%
discriminators = train_critics("discriminator")


def slope_heard(networks: StackedMLP, generator_loss) -> torch.Tensor:
    """Mean |∂ loss / ∂ sample| at made-up samples, [shifts, seeds]."""
    torch.manual_seed(3)
    y = draw(500)[1].requires_grad_()
    loss = generator_loss(networks(y)) * COPIES * 500  # the sum over samples: each keeps its own slope
    return per_seed(torch.autograd.grad(loss, y)[0].abs().mean(dim=(1, 2)))


heard = {
    "discriminator": slope_heard(discriminators, minimax_generator_loss),
    "critic, penalty": slope_heard(critics["penalty"], critic_generator_loss),
}
table(
    ["slope heard", *(f"shift {shift}" for shift in SHIFTS[1:])],
    [
        (name, *(" ".join(f"{value:.1g}" for value in row.tolist()) for row in values[1:]))
        for name, values in heard.items()
    ],
)
hidden = critics["clipped to 0.1"].weights[1].detach()[SEEDS:]  # of the shifts above 0
at_limit = (hidden.abs() > 0.0999).float().mean().item()
free = critics["penalty"].weights[1].detach()[SEEDS:]
print(f"  hidden weights of the critics clipped to 0.1 that stand at the limit: {at_limit:.0%}")

figure, axes = plt.subplots(1, 4, figsize=(16, 3.7), layout="constrained")
axes[0].plot(SHIFTS, exact_js, "o-", label="JS")
axes[0].plot(SHIFTS, exact_w1, "s-", label="W₁")
axes[0].plot(SHIFTS, estimates["penalty"].mean(dim=1), "k--", label="penalized critic")
axes[0].set(xlabel="shift θ", title="Distance against shift")
axes[0].legend()
for name in ("penalty", *(f"clipped to {limit}" for limit in LIMITS)):
    values = estimates[name]
    axes[1].plot(SHIFTS[1:], values.mean(dim=1)[1:], "o-", label=name)
axes[1].set(xlabel="shift θ", yscale="log", title="Each clipping limit: its own unit")
axes[1].legend(fontsize=8)
line = torch.linspace(-0.5, 5.5, 200)
with torch.no_grad():
    for name in ("penalty", "clipped to 0.1"):
        scores = critics[name](line[None, :, None].expand(COPIES, -1, -1))[-1, :, 0]  # shift 4, last seed
        axes[2].plot(line, scores - scores[0], label=name)
    verdict = discriminators(line[None, :, None].expand(COPIES, -1, -1))[-1, :, 0].sigmoid()
axes[2].plot(line, verdict, color="tab:red", label="discriminator's D(x)")
axes[2].axvspan(0, 1, alpha=0.15)
axes[2].axvspan(4, 5, alpha=0.15, color="tab:orange")
axes[2].set(xlabel="x: real on [0, 1], made up on [4, 5]", title="Who shows the way back?")
axes[2].legend(fontsize=8)
axes[3].hist(hidden.flatten().numpy(), bins=41, range=(-0.4, 0.4), alpha=0.7, label="clipped to 0.1")
axes[3].hist(free.flatten().numpy(), bins=41, range=(-0.4, 0.4), alpha=0.5, label="penalty")
axes[3].set(xlabel="hidden weight", title="Clipping drives weights to the limits")
axes[3].legend(fontsize=8)
show(figure, "critics")

# %% [markdown] lang="en"
# The better the discriminator, the less it teaches; the better the critic, the more exactly it teaches. That is why a
# Wasserstein critic may be trained as far as one likes, five updates or more for each of the generator's.

# %% [markdown] lang="zh"
# 判别器越好，教得越少；评分网络越好，教得越准。所以 Wasserstein 的评分网络可以尽管训练，生成器每更新一次它更新五次或更多。

# %% [markdown]
# ## Experiment: a loss worth plotting · 实验：值得画出来的损失

# %% [markdown] lang="en"
# Now the generator trains as well, on a line, where we can look up the truth at any time. Real numbers come from two
# Gaussians at 2 and 6; the generator begins near 0. The critic is clipped to 0.1 and updated five times a round (the
# algorithm of the first paper). Does its loss tell how far the generator still is?

# %% [markdown] lang="zh"
# 现在生成器也一起训练，在直线上，真实距离随时可查。真实的数来自中心在 2 和 6 的两个高斯，生成器从 0 附近出发。
# 评分网络裁剪到 0.1，每轮更新五次（第一篇论文的算法）。它的损失能说明生成器还差多远吗？

# %%
torch.manual_seed(0)
generator, follower = StackedMLP(SEEDS, 1, 32, 32, 1), StackedMLP(SEEDS, 1, 32, 32, 1)
optimizers = [
    torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)
    for network, lr in ((generator, 1e-3), (follower, 5e-3))
]


def draw_real(count: int) -> torch.Tensor:
    return 2 + 4 * torch.randint(0, 2, (SEEDS, count, 1)) + 0.4 * torch.randn(SEEDS, count, 1)


history = []  # of each tenth round: (estimate, true distance) of each seed
for round_number in range(150):
    for _ in range(5 if round_number else 100):  # the first time, the critic starts from nothing
        real, fake = draw_real(BATCH), generator(torch.randn(SEEDS, BATCH, 1)).detach()
        optimizers[1].zero_grad()
        (critic_loss(follower(real), follower(fake)) * SEEDS).backward()
        optimizers[1].step()
        clip_weights(follower.parameters(), 0.1)
    if round_number % 10 == 0:
        with torch.no_grad():
            real, fake = draw_real(1000), generator(torch.randn(SEEDS, 1000, 1))
            reported = (follower(real) - follower(fake)).mean(dim=(1, 2))
            truth = torch.stack([wasserstein_distance(real[seed, :, 0], fake[seed, :, 0]) for seed in range(SEEDS)])
            history.append((reported, truth))
    optimizers[0].zero_grad()
    (critic_generator_loss(follower(generator(torch.randn(SEEDS, BATCH, 1)))) * SEEDS).backward()
    optimizers[0].step()

reported, truth = (torch.stack(each) for each in zip(*history, strict=True))  # each [times, seeds]
correlation = [float(np.corrcoef(reported[:, seed], truth[:, seed])[0, 1]) for seed in range(SEEDS)]
table(
    ["seed", "W₁ at the start", "W₁ at the end", "correlation of the critic's estimate with W₁"],
    [(seed, truth[0, seed].item(), truth[-1, seed].item(), correlation[seed]) for seed in range(SEEDS)],
)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
for seed in range(SEEDS):
    axes[0].plot(10 * torch.arange(len(truth)), truth[:, seed], color=f"C{seed}", label=f"W₁, seed {seed}")
    axes[0].plot(10 * torch.arange(len(truth)), reported[:, seed], "--", color=f"C{seed}")
    axes[1].scatter(truth[:, seed], reported[:, seed], label=f"seed {seed}")
axes[0].set(xlabel="generator updates", title="True distance, and the critic's estimate (dashed)")
axes[0].legend(fontsize=8)
axes[1].set(xlabel="W₁", ylabel="critic's estimate, in its own unit", title="The loss follows the distance")
axes[1].legend()
show(figure, "curve")

# %% [markdown] lang="en"
# It does: the curve falls as the samples become better, which the loss of 08/01 cannot promise. It is no absolute measure,
# though: not with clipping, whose unit is arbitrary, nor between two critics of different size.

# %% [markdown] lang="zh"
# 能：样本变好时曲线下降，08/01 的损失不能保证这一点。
# 但它不是绝对的度量：裁剪时单位是任意的，大小不同的两个评分网络之间也不能比较。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `scipy.stats.wasserstein_distance` computes the distance from the distribution functions; ours goes by quantiles, and can
# be differentiated. For the penalty no library has a function; torch's own `torch.func.grad` per sample gives the slopes
# in another way, and the penalty's gradient for the weights is compared as well.

# %% [markdown] lang="zh"
# `scipy.stats.wasserstein_distance` 由分布函数计算距离；我们用分位数，并且可以求导。
# 惩罚项没有现成的库函数；torch 的 `torch.func.grad` 逐样本求斜率，是另一种算法，惩罚项对权重的梯度也一并比较。

# %%
a, b = torch.randn(70, dtype=torch.float64).requires_grad_(), torch.randn(110, dtype=torch.float64) * 2 + 1
ours_w1, scipy_w1 = wasserstein_distance(a, b), stats.wasserstein_distance(a.detach().numpy(), b.numpy())
w1_gradient = torch.autograd.grad(ours_w1, a)[0]
step = torch.zeros(70, dtype=torch.float64)
step[7] = 1e-6
numerical = (
    stats.wasserstein_distance((a + step).detach().numpy(), b.numpy())
    - stats.wasserstein_distance((a - step).detach().numpy(), b.numpy())
) / 2e-6
network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
points = torch.randn(16, 3, dtype=torch.float64, requires_grad=True)
parameters = dict(network.named_parameters())


def score(weights: dict, point: torch.Tensor) -> torch.Tensor:
    return torch.func.functional_call(network, weights, (point,)).squeeze()


per_sample = torch.func.vmap(torch.func.grad(score, argnums=1), (None, 0))(parameters, points)
by_func = (per_sample.square().sum(dim=1).sqrt() - 1).square().mean()
ours_penalty = one_centered_penalty(network(points), points)
weight_gradients = [
    torch.cat([each.flatten() for each in torch.autograd.grad(penalty, list(parameters.values())[:3])])
    for penalty in (ours_penalty, by_func)
]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: 5/3 by sorting and by prices", [by_sorting, by_prices], [5 / 3, 5 / 3])
check_close("the distance equals scipy's", ours_w1, scipy_w1, 1e-12)
check_close("its gradient is the difference quotient of scipy's", w1_gradient[7], numerical, 1e-6)
check_close("the penalty equals that of torch.func", ours_penalty, by_func, 1e-12)
check_close("so does its gradient for the weights", *weight_gradients, 1e-10)
check_close("JS is min(θ, 1) log 2", exact_js, [min(shift, 1) * math.log(2) for shift in SHIFTS], 1e-9)
check_close("W₁ is θ", exact_w1, SHIFTS, 0.03)
off = (estimates["penalty"] - expected[:, None]).abs()
check("the penalized critic reports W (1 + W / 2λ) within 0.1, for every shift and seed", off.max() < 0.1)
mirrored = -torch.tensor(SHIFTS) * (1 - torch.tensor(SHIFTS) / (2 * WEIGHT))
at_once = estimates["10 at once"][1:]
right, wrong = ((at_once - each[1:, None]).abs() < 0.1 for each in (expected, mirrored))
check("with 10 at once, each critic is at that optimum or at the one of the wrong sign", (right | wrong).all())
check("some of them at the wrong one", wrong.any())
check("a tenfold clipping limit changes the estimate over 300-fold, with every seed", factor.min() > 300)
check(
    "clipped critics are too flat at 0.03 and too steep at 0.3, for every shift above 0 and seed",
    lipschitz["clipped to 0.03"].max() < 0.2 and lipschitz["clipped to 0.3"][1:].min() > 3,
)
check(
    "at shift 4 the discriminator's slope has vanished, the critic's is about 1, with every seed",
    heard["discriminator"][-1].max() < 0.01 and (heard["critic, penalty"][-1] - 1.2).abs().max() < 0.4,
)
check("over half of the clipped hidden weights stand at the limit", at_limit > 0.5)
check("the critic's loss follows W₁ in training: correlation over 0.9, with every seed", min(correlation) > 0.9)
check("the distance fell by more than half, with every seed", (truth[-1] < truth[0] / 2).all())

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `face-gan` holds its discriminator's slope with zero-centered penalties, R1 on real and R2 on made-up samples
# (`zero_centered_penalty`): `uv run --package face-gan train --max-minutes 5`. Distances after Wasserstein return as the
# Fréchet distance of its evaluation, which is $W_2$ between two Gaussians. Papers: [Arjovsky et al.
# 2017](https://arxiv.org/abs/1701.07875), WGAN; [Gulrajani et al. 2017](https://arxiv.org/abs/1704.00028), the penalty;
# [Miyato et al. 2018](https://arxiv.org/abs/1802.05957), spectral norm, a third way to bound the slope (in
# `dlcommon.generative.spectral_norm`); [Mescheder et al. 2018](https://arxiv.org/abs/1801.04406), R1 and why slope 0 at the
# data makes training converge. Next: generative models without an opponent, 08/04.

# %% [markdown] lang="zh"
# 实战项目 `face-gan` 用零中心惩罚约束判别器的斜率，真样本上是 R1，假样本上是 R2（`zero_centered_penalty`）：
# `uv run --package face-gan train --max-minutes 5`。
# Wasserstein 的距离还会以 Fréchet 距离的形式出现在它的评测里，那是两个高斯之间的 $W_2$。
# 论文：[Arjovsky 等 2017](https://arxiv.org/abs/1701.07875)，WGAN；
# [Gulrajani 等 2017](https://arxiv.org/abs/1704.00028)，梯度惩罚；
# [Miyato 等 2018](https://arxiv.org/abs/1802.05957)，谱归一化，限制斜率的第三种办法（在 `dlcommon.generative.spectral_norm`）；
# [Mescheder 等 2018](https://arxiv.org/abs/1801.04406)，R1，以及为什么在数据处斜率为 0 能使训练收敛。
# 下一课：没有对手的生成模型，08/04。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `input_gradients`, `zero_centered_penalty`, `one_centered_penalty`, `interpolate` and `wgan_gp_penalty` yourself.
# `uv run lesson exercise 08/03` makes a file with their signatures, `uv run lesson check 08/03` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `input_gradients`、`zero_centered_penalty`、`one_centered_penalty`、`interpolate` 和 `wgan_gp_penalty`。
# `uv run lesson exercise 08/03` 生成带有签名的文件，`uv run lesson check 08/03` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `torch.autograd.grad(logits.sum(), samples, create_graph=True)[0]`. Without `create_graph` the penalty is a constant for
#    the weights.
# 2. Flatten all but the batch before squaring and summing: `[batch, …]` to `[batch, features]`. Then take the mean over the
#    batch, not over all elements.
# 3. One share $t$ for each sample, not for each element: `torch.rand(batch, 1, …)`, from the given generator. `torch.lerp`
#    interpolates; detach both ends, and call `requires_grad_()` on the result.
# 4. The critic sees the points *after* `requires_grad_()`.

# %% [markdown] lang="zh"
# 1. `torch.autograd.grad(logits.sum(), samples, create_graph=True)[0]`。没有 `create_graph`，惩罚项对权重就是常数。
# 2. 平方求和之前把批以外的维度展平：`[batch, …]` 变成 `[batch, features]`。然后对批取平均，而不是对所有元素。
# 3. 每个样本一个比例 $t$，而不是每个元素一个：`torch.rand(batch, 1, …)`，取自给定的生成器。
#    用 `torch.lerp` 插值；两端都 detach，结果调用 `requires_grad_()`。
# 4. 评分网络看到的点必须*先*调用过 `requires_grad_()`。


# %%
@exercise(input_gradients, zero_centered_penalty, one_centered_penalty, interpolate, wgan_gp_penalty)
def judge(yours, reference):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    weight = network[1].weight
    images = torch.randn(5, 2, 2, 2, requires_grad=True)
    mine, theirs = (each.input_gradients(network(images), images) for each in (yours, reference))
    check("input_gradients has the samples' shape", mine.shape == images.shape)
    check_close("input_gradients: the values", mine, theirs)
    check("input_gradients can be differentiated again", mine.requires_grad)
    for name in ("zero_centered_penalty", "one_centered_penalty"):
        pair = [getattr(each, name)(network(images), images) for each in (yours, reference)]
        check_close(f"{name}: the value", *pair)
        check_close(f"{name}: the gradient for the weights", *(torch.autograd.grad(each, weight)[0] for each in pair))
    real, fake = torch.zeros(400, 2, 2, 2), torch.ones(400, 2, 2, 2)
    points = yours.interpolate(real, fake, torch.Generator().manual_seed(1))
    check("interpolate gives points that require gradients", points.requires_grad and points.shape == real.shape)
    shares = points.detach().flatten(1)
    check("interpolate draws one share for each sample", (shares.amax(dim=1) - shares.amin(dim=1)).max() < 1e-6)
    check("interpolate draws shares from 0 to 1 evenly", abs(shares.mean() - 0.5) < 0.05 and shares.std() > 0.2)
    pair = [
        each.wgan_gp_penalty(network, real[:5], fake[:5], torch.Generator().manual_seed(1))
        for each in (yours, reference)
    ]
    check_close("wgan_gp_penalty: the value", *pair)
    check_close("wgan_gp_penalty: the gradient", *(torch.autograd.grad(each, weight)[0] for each in pair))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is the Wasserstein distance a better loss than JS for a generator? · 对生成器来说，Wasserstein 距离为什么是比 JS 更好的损失？

# %% [markdown] lang="en"
# For distributions that do not overlap JS is the constant $\log 2$, with gradient 0; $W_1$ still grows with the way between
# them and has a slope almost everywhere (for a Lipschitz generator). It is continuous where JS jumps.

# %% [markdown] lang="zh"
# 分布不重叠时 JS 是常数 $\log 2$，梯度为 0；$W_1$ 仍随两者之间的路程增长，几乎处处有斜率（生成器为 Lipschitz 时）。
# 在 JS 跳变的地方它是连续的。

# %%
moved = torch.rand(100).add(4).requires_grad_()
print(
    f"  slope of W₁ for the shift: {torch.autograd.grad(wasserstein_distance(moved, torch.rand(100)), moved)[0].sum():.3f}"
)

# %% [markdown]
# ### Why must the critic be Lipschitz, and what happens without? · 评分网络为什么必须是 Lipschitz 的，否则会怎样？

# %% [markdown] lang="en"
# The duality takes the supremum over functions of slope at most 1. Without a bound, doubling $f$ doubles the difference of
# means: the loss has no minimum, and training lets the scores grow without end.

# %% [markdown] lang="zh"
# 对偶是在斜率不超过 1 的函数上取上确界。没有上界，把 $f$ 加倍，平均值之差也加倍：损失没有最小值，训练会让评分无限增长。

# %%
for scale in (1.0, 2.0, 100.0):
    print(f"  f times {scale:g}: difference of means {scale * by_prices:.3f}")

# %% [markdown]
# ### What is wrong with weight clipping? · 权重裁剪有什么问题？

# %% [markdown] lang="en"
# It bounds the slope by an unknown number that grows as the limit to the power of the depth, so the estimate is in arbitrary
# units and gradients vanish or explode. And the best clipped critic pushes its weights to the limits, which makes for
# simple functions (Gulrajani et al. 2017, section 3).

# %% [markdown] lang="zh"
# 它给斜率的上界是个未知数，按上限的“深度次方”增长，所以估计值的单位是任意的，梯度会消失或爆炸。
# 而且最优的裁剪网络会把权重推到上限，只剩下简单的函数（Gulrajani 等 2017，第 3 节）。

# %%
table(
    ["limit", "steepest slope at shift 4 (3 seeds)"],
    [(limit, written(lipschitz[f"clipped to {limit}"][-1])) for limit in LIMITS],
)

# %% [markdown]
# ### Why does the penalty ask for slope 1 rather than at most 1, and why between the samples? · 惩罚项为什么要求斜率等于 1 而不是不超过 1，又为什么在样本之间？

# %% [markdown] lang="en"
# The optimal critic has slope 1 almost everywhere on the straight lines between samples that the best plan couples
# (Gulrajani et al. 2017, proposition 1). Those pairs are unknown, so random pairs stand in. Checking the slope
# everywhere in space would be impossible. A one-sided penalty exists too.

# %% [markdown] lang="zh"
# 在最优方案配成对的样本之间的直线上，最优评分网络的斜率几乎处处为 1（Gulrajani 等 2017，命题 1）。
# 这些配对未知，所以用随机配对代替。在整个空间检查斜率是做不到的。也有只罚超过 1 的单侧版本。

# %%
check(
    "the penalized critic's slope at shift 4 is near 1 + 4/20", (heard["critic, penalty"][-1] - 1.2).abs().max() < 0.4
)

# %% [markdown]
# ### Why no batch norm in a critic with a gradient penalty? · 带梯度惩罚的评分网络为什么不用批归一化？

# %% [markdown] lang="en"
# The penalty concerns the slope of each sample's own score. Batch norm lets each score depend on the whole batch, so the
# gradient of the sum mixes influences on other scores. Layer norm or none is used instead.

# %% [markdown] lang="zh"
# 惩罚项针对每个样本自己的评分的斜率。批归一化使每个评分取决于整批样本，对总和求的梯度就混进了对其他评分的影响。
# 改用层归一化，或者不用归一化。

# %%
inputs = torch.randn(4, 2, requires_grad=True)
for layer in (torch.nn.BatchNorm1d(2), torch.nn.LayerNorm(2)):
    influence = torch.autograd.grad(layer(inputs)[0].square().sum(), inputs)[0][1:].abs().max().item()
    print(f"  {type(layer).__name__}: sample 0's output depends on other samples with a slope up to {influence:.2g}")
