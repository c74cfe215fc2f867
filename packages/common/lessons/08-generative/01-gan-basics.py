# %% [markdown]
# # GAN basics · GAN 基础

# %% [markdown] lang="en"
# After this lesson you can train a generative adversarial network, derive what its discriminator converges to and what the
# loss then measures, say why nobody trains with the generator loss of the paper's first formula, and count mode collapse
# instead of guessing at it. You need cross-entropy (03/05) and the Kullback-Leibler divergence (02/07).

# %% [markdown] lang="zh"
# 学完本课，你能训练生成对抗网络（GAN），能推导判别器收敛到什么、此时损失度量的是什么，
# 能说明为什么没有人用论文第一个公式里的生成器损失来训练，并且能统计模式坍塌，而不是凭感觉判断。
# 先修：交叉熵（03/05）、KL 散度（02/07）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.generative.gan_losses import (
    GAN_LOSSES,
    discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    optimal_discriminator,
    relativistic_discriminator_loss,
)
from dlcommon.generative.gaussian_mixtures import mode_coverage, ring_centers, sample_mixture
from dlcommon.generative.stacked_mlp import StackedMLP
from dlcommon.mathematics.information import js_divergence
from sklearn.datasets import load_digits
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You have a thousand handwritten digits and want a program that writes new ones. Turning random numbers into pictures
# with a network is easy; but what is its loss? Comparing each picture with one of the thousand by squared error rewards the
# mean of them all, which is a grey smear. Maximum likelihood needs the probability of a picture, and a network that maps noise
# to pictures does not tell it.
#
# What we can do is tell apart: a classifier for "real" and "generated" is an ordinary network with an ordinary loss. If even
# a well trained classifier cannot tell, the pictures are good. So let the classifier be the loss. What does such a loss
# measure, and what goes wrong?

# %% [markdown] lang="zh"
# 你有一千个手写数字，想让程序写出新的。用网络把随机数变成图片很容易，但损失是什么？
# 用平方误差把每张图与一千张中的某一张比较，最划算的是它们的平均，一团灰色。
# 最大似然需要一张图的概率，而把噪声映射成图片的网络并不给出这个概率。
#
# 我们能做的是分辨：区分“真实”与“生成”的分类器是普通的网络，损失也普通。
# 如果训练得很好的分类器也分不出来，图片就够好了。那就让分类器来当损失。这样的损失度量的是什么？又会出什么问题？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Three kinds of pictures, a, b, c. Real ones are a or b, half each: $p = (0.5, 0.5, 0)$. The generator makes
# $q = (0.25, 0.25, 0.5)$. Show someone an a, drawn by a coin toss from either side: it is real with probability
# $0.5 / (0.5 + 0.25) = 2/3$. The same for b; a c is never real. So the best discriminator answers $(2/3, 2/3, 0)$.
#
# Its mean log-likelihood: real pictures give $\log \frac{2}{3} = -0.405$; generated ones $0.5 \log \frac{1}{3} + 0.5 \log 1 =
# -0.549$; together $-0.955$. Were $q = p$, it could only answer ½ and would get $2 \log \frac{1}{2} = -1.386$. The distance,
# 0.432, is exactly twice the Jensen-Shannon divergence of $p$ and $q$, 0.216.
#
# Now the generator's side. A sure discriminator gives a generated picture the logit $-4$, so $D = 0.018$. The slope of
# $\log(1 - D)$ there is $-0.018$, that of $-\log D$ is $-0.982$: both say "raise the logit", but the first can hardly be
# heard.

# %% [markdown] lang="zh"
# 三种图片 a、b、c。真实的只有 a 和 b，各占一半：$p = (0.5, 0.5, 0)$。生成器给出 $q = (0.25, 0.25, 0.5)$。
# 抛硬币决定从哪一方抽，抽到 a：它是真的概率为 $0.5 / (0.5 + 0.25) = 2/3$。b 也一样；c 永远是假的。
# 所以最好的判别器回答 $(2/3, 2/3, 0)$。
#
# 它的平均对数似然：真图贡献 $\log \frac{2}{3} = -0.405$，假图贡献 $0.5 \log \frac{1}{3} + 0.5 \log 1 = -0.549$，合计 $-0.955$。
# 如果 $q = p$，它只能回答 ½，得到 $2 \log \frac{1}{2} = -1.386$。两者之差 0.432，
# 恰好是 $p$ 与 $q$ 的 Jensen-Shannon 散度 0.216 的两倍。
#
# 再看生成器一侧。有把握的判别器给假图的 logit 是 $-4$，即 $D = 0.018$。
# 在这里 $\log(1 - D)$ 的斜率是 $-0.018$，$-\log D$ 的斜率是 $-0.982$：两者都说“把 logit 提高”，但前者几乎听不见。

# %%
real_share, fake_share = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.25, 0.25, 0.5]).double()
best = optimal_discriminator(real_share, fake_share)
value = (torch.xlogy(real_share, best) + torch.xlogy(fake_share, 1 - best)).sum().item()
divergence = float(js_divergence(real_share.numpy(), fake_share.numpy()))
table(["", "a", "b", "c"], [("p", *real_share.tolist()), ("q", *fake_share.tolist()), ("best D", *best.tolist())])
print(f"  value {value:.3f}, −log 4 + 2 JS = {-math.log(4) + 2 * divergence:.3f}")
logits = torch.linspace(-6, 6, 121, requires_grad=True)
slopes = {}
for name in ("minimax", "non-saturating"):
    losses = GAN_LOSSES[name].generator(logits, logits) * len(logits)  # the sum, so that each logit has its own slope
    slopes[name] = torch.autograd.grad(losses, logits)[0]
at_minus_4 = {name: slope[20].item() for name, slope in slopes.items()}
print(f"  slopes at the logit −4: {at_minus_4}")

drawing = Schematic(12, 4.0, "Two networks, one loss, opposite aims")
for name, x, y, text, kind, width in (
    ("noise", 1.2, 1.7, "noise z", "data", 1.4),
    ("G", 3.4, 1.7, "generator G", "parameter", 1.8),
    ("fake", 5.7, 1.7, "generated G(z)", "data", 1.8),
    ("real", 5.7, 3.1, "real x", "data", 1.4),
    ("D", 8.1, 2.4, "discriminator D", "parameter", 2.0),
    ("logit", 10.6, 2.4, "logit: real?", "data", 1.7),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (("noise", "G"), ("G", "fake"), ("fake", "D"), ("real", "D"), ("D", "logit")):
    drawing.arrow(start, end)
drawing.arrow("logit", "G", "gradient through D (frozen)", bend=0.3, dashed=True)
show(drawing.figure, "networks")

# %% [markdown]
# ## Formula · 公式
#
# $$\min_G \max_D V(D, G) = \mathbb{E}_{x \sim p} \log D(x) + \mathbb{E}_{z} \log\left(1 - D(G(z))\right)$$
#
# $$D^*(x) = \frac{p(x)}{p(x) + q(x)}, \qquad V(D^*, G) = -\log 4 + 2\, \mathrm{JS}(p \,\|\, q)$$
#
# $$L_G^{\text{minimax}} = \mathbb{E}_z \log (1 - D(G(z))), \qquad L_G^{\text{non-saturating}} = -\mathbb{E}_z \log D(G(z))$$
#
# $$\frac{\partial}{\partial \ell} \log(1 - \sigma(\ell)) = -\sigma(\ell), \qquad \frac{\partial}{\partial \ell} \left(-\log \sigma(\ell)\right) = -(1 - \sigma(\ell))$$

# %% [markdown] lang="en"
# - $x$: a real sample, drawn from the density $p$; `[batch, features]`.
# - $z$: noise, `[batch, latent_dim]`, standard normal; $G(z)$: a generated sample, whose density is $q$, known to nobody.
# - $D(x) = \sigma(\ell)$: the discriminator's probability that $x$ is real; $\ell$: its logit, `[batch, 1]`.
# - $V$: the value of the game (Goodfellow et al. 2014, equation 1); $D^*$: the best answer to a fixed $G$ (proposition 1).
# - $\mathrm{JS}$: the Jensen-Shannon divergence, the mean of $\mathrm{KL}(p \| m)$ and $\mathrm{KL}(q \| m)$ with $m = (p + q) / 2$, from 0 to $\log 2$.
# - $L_G$: the generator's loss; the discriminator's is $-V$.
#
# Why $D^*$: at each $x$ the integrand of $V$ is $p \log D + q \log (1 - D)$; its derivative $p / D - q / (1 - D)$ is 0 at
# $D = p / (p + q)$. Why JS: insert it, and $p \log \frac{p}{p + q} = p \log \frac{p}{m} - p \log 2$; the same for $q$. The two $\log 2$
# make $-\log 4$, the rest is two KL divergences (theorem 1). So against the best discriminator the generator minimizes
# a divergence that is 0 only for $q = p$. Whether training gets there is another matter: both move, and neither is ever
# at its best.

# %% [markdown] lang="zh"
# - $x$：真实样本，来自密度 $p$；`[batch, features]`。
# - $z$：噪声，`[batch, latent_dim]`，标准正态；$G(z)$：生成的样本，其密度 $q$ 无人知道。
# - $D(x) = \sigma(\ell)$：判别器认为 $x$ 为真的概率；$\ell$：它的 logit，`[batch, 1]`。
# - $V$：博弈的值（Goodfellow 等 2014，式 1）；$D^*$：对固定的 $G$ 的最佳应对（命题 1）。
# - $\mathrm{JS}$：Jensen-Shannon 散度，$\mathrm{KL}(p \| m)$ 与 $\mathrm{KL}(q \| m)$ 的平均，$m = (p + q) / 2$，取值从 0 到 $\log 2$。
# - $L_G$：生成器的损失；判别器的损失是 $-V$。
#
# 为什么是 $D^*$：在每个 $x$ 处，$V$ 的被积函数是 $p \log D + q \log (1 - D)$；
# 导数 $p / D - q / (1 - D)$ 在 $D = p / (p + q)$ 处为 0。
# 为什么是 JS：代入得 $p \log \frac{p}{p + q} = p \log \frac{p}{m} - p \log 2$，$q$ 同理。
# 两个 $\log 2$ 合成 $-\log 4$，余下是两个 KL 散度（定理 1）。
# 所以面对最佳判别器，生成器最小化的是一个只在 $q = p$ 时为 0 的散度。
# 训练能不能到那里是另一回事：双方都在动，谁也不曾处于最佳。

# %% [markdown]
# ## Code · 代码

# %%
source(optimal_discriminator)
source(discriminator_loss)
source(minimax_generator_loss)
source(non_saturating_generator_loss)
source(mode_coverage)

# %% [markdown] lang="en"
# The losses take logits `[batch, 1]` and never a probability: $-\log \sigma(\ell) = \mathrm{softplus}(-\ell)$ and
# $-\log(1 - \sigma(\ell)) = \mathrm{softplus}(\ell)$ stay finite where $\sigma$ has been rounded to 0 or 1. The two generator losses
# differ by one sign inside and one outside of `softplus`.
#
# `mode_coverage` is our instrument for data whose modes are known: `cdist` gives distances `[samples, modes]`; a sample
# is good if it lies within three standard deviations of the nearest center, and a mode is covered if enough good
# samples are nearest to it.

# %% [markdown] lang="zh"
# 损失只接受 logits `[batch, 1]`，从不接受概率：
# $-\log \sigma(\ell) = \mathrm{softplus}(-\ell)$，$-\log(1 - \sigma(\ell)) = \mathrm{softplus}(\ell)$，
# 在 $\sigma$ 已被舍入成 0 或 1 的地方仍是有限值。两种生成器损失只差 `softplus` 内外各一个符号。
#
# `mode_coverage` 是为模式已知的数据准备的仪器：`cdist` 给出距离 `[samples, modes]`；
# 距最近的中心不超过三个标准差的样本算好样本，有足够多好样本离它最近的模式算被覆盖。

# %% [markdown]
# ## Experiment: does a discriminator find p / (p + q)? · 实验：判别器找得到 p / (p + q) 吗？

# %% [markdown] lang="en"
# Here both densities are known: real numbers come from two Gaussians at −1.5 and 1.5, generated ones from one Gaussian in
# the middle. A small network sees samples only. Three seeds train side by side, as a stack of matrices (`StackedMLP`).

# %% [markdown] lang="zh"
# 这里两个密度都已知：真实的数来自中心在 −1.5 和 1.5 的两个高斯，假的来自中间的一个高斯。
# 小网络只看到样本。三个种子叠成一摞矩阵同时训练（`StackedMLP`）。

# %%
quiz(
    "loss at the end",
    en="If the generator were perfect, what would the discriminator's loss be in the end (natural logarithm)?",
    zh="如果生成器已经完美，判别器的损失最后会是多少（自然对数）？",
)

# %%
SEEDS = 3
perfect = optimal_discriminator(real_share, real_share)
settle("loss at the end", -2 * perfect.log().mean().item(), tolerance=0.05)


def gaussian(x: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    return torch.exp(-(((x - mean) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))


def draw_pair(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and generated numbers, each [seeds, count, 1]."""
    signs = torch.randint(0, 2, (SEEDS, count, 1)) * 2 - 1
    return 1.5 * signs + 0.5 * torch.randn(SEEDS, count, 1), torch.randn(SEEDS, count, 1)


torch.manual_seed(0)
judge_network = StackedMLP(SEEDS, 1, 32, 32, 1)
optimizer = torch.optim.Adam(judge_network.parameters(), lr=1e-2, fused=True)
UPDATES = 300
for update in range(UPDATES):
    optimizer.param_groups[0]["lr"] = 1e-2 * (1 - update / UPDATES)
    real, fake = draw_pair(512)
    loss = discriminator_loss(judge_network(real), judge_network(fake)) * SEEDS  # a mean over seeds, made their sum
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

grid = torch.linspace(-3.5, 3.5, 701)
p, q = (gaussian(grid, -1.5, 0.5) + gaussian(grid, 1.5, 0.5)) / 2, gaussian(grid, 0.0, 1.0)
exact = optimal_discriminator(p, q)
with torch.no_grad():
    found = judge_network(grid[None, :, None].expand(SEEDS, -1, -1)).sigmoid()[..., 0]  # [seeds, points]
    real, fake = draw_pair(20_000)
    values = -torch.stack(
        [discriminator_loss(*pair) for pair in zip(judge_network(real), judge_network(fake), strict=True)]
    )
weights = (p + q) / (p + q).sum()
errors = ((found - exact).abs() * weights).sum(dim=1)  # where samples fall, it counts
shares = [(density / density.sum()).double().numpy() for density in (p, q)]
bound = -math.log(4) + 2 * float(js_divergence(*shares))
table(
    ["seed", "mean |D − D*|", "V(D), measured", "−log 4 + 2 JS"],
    [(seed, errors[seed].item(), values[seed].item(), bound) for seed in range(SEEDS)],
)
figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
axes[0].plot(grid, p, label="p, real")
axes[0].plot(grid, q, label="q, generated")
axes[0].plot(grid, exact, color="black", label="p / (p + q)")
for seed in range(SEEDS):
    axes[0].plot(grid, found[seed], "--", linewidth=1, label=f"trained D, seed {seed}")
axes[0].set(xlabel="x", title="A trained discriminator is a ratio of densities")
axes[0].legend(fontsize=8)
for name, slope in slopes.items():
    axes[1].plot(logits.detach(), -slope, label=name)
axes[1].set(
    xlabel="logit of a generated sample",
    ylabel="|slope of the generator's loss|",
    title="Minimax: no slope where D is sure",
)
axes[1].legend()
show(figure, "optimal")

# %% [markdown] lang="en"
# It does, without ever having seen a density: classification estimates a ratio of densities. And $V$ comes to rest a
# little below $-\log 4 + 2\,\mathrm{JS}$, since a trained network is never better than the best.

# %% [markdown] lang="zh"
# 找得到，而且它从没见过密度：分类就是在估计密度之比。
# $V$ 停在略低于 $-\log 4 + 2\,\mathrm{JS}$ 的地方，因为训练出来的网络不会比最佳的更好。

# %% [markdown]
# ## Experiment: digits, and a discriminator with a head start · 实验：数字，以及先跑一步的判别器

# %% [markdown] lang="en"
# Now the whole game, on 1,797 real digits of 8×8 pixels. Per round one update of the discriminator, then one or several of
# the generator. First, the discriminator gets a head start of 150 updates against a generator that makes noise, until it is
# sure. How much of its verdict reaches the generator's weights?

# %% [markdown] lang="zh"
# 现在是完整的博弈，数据是 1,797 个真实的 8×8 手写数字。每一轮判别器更新一次，然后生成器更新一次或几次。
# 先让判别器对着只会产生噪声的生成器多训练 150 次，直到它很有把握。它的判断有多少能传到生成器的权重上？

# %%
quiz(
    "ratio",
    en="By which factor is the non-saturating gradient larger than the minimax one, after the head start?",
    zh="判别器先跑一步之后，非饱和损失的梯度是极小极大损失的多少倍？",
    choices={"10": "about 10 · 约 10", "1000": "about 1,000 · 约 1,000", "100000": "over 100,000 · 超过 100,000"},
)
quiz(
    "modes",
    en="Ring of eight Gaussians: how many are covered if the generator makes five updates for each of the discriminator's?",
    zh="八个高斯围成的环：如果判别器每更新一次，生成器更新五次，能覆盖几个？",
    choices={"8": "all 8 · 全部 8 个", "4-7": "4 to 7 · 4 到 7 个", "1-3": "1 to 3 · 1 到 3 个"},
)


# %%
def train(
    draw, name: str, sizes: tuple[int, ...], activation, updates: int, per_round: int = 1, head_start: int = 0, lr=5e-3
):
    """Trains a stack of seeds. Returns samples [seeds, 1000, dim] at four times, and the first gradients' norms."""
    torch.manual_seed(0)
    loss, dim, latent = GAN_LOSSES[name], sizes[-1], sizes[0]
    generator, discriminator = StackedMLP(SEEDS, *sizes), StackedMLP(SEEDS, dim, *sizes[1:-1], 1)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)
        for network in (generator, discriminator)
    ]

    def make(count: int = 64) -> torch.Tensor:
        return activation(generator(torch.randn(SEEDS, count, latent)))

    snapshots, norms = [], torch.zeros(SEEDS)
    for update in range(-head_start, updates):
        real = draw(64)
        fake = make().detach()  # the discriminator's update leaves the generator alone
        real_logits, fake_logits = discriminator(torch.cat((real, fake), dim=1)).chunk(2, dim=1)
        optimizers[1].zero_grad()
        (loss.discriminator(real_logits, fake_logits) * SEEDS).backward()
        optimizers[1].step()
        if update < 0:
            continue
        discriminator.requires_grad_(False)  # the generator's gradient passes through it and leaves nothing there
        for repeat in range(per_round):
            optimizers[0].zero_grad()
            (loss.generator(real_logits, discriminator(make())) * SEEDS).backward()
            if update == repeat == 0:
                squares = [parameter.grad.flatten(1).square().sum(dim=1) for parameter in generator.parameters()]
                norms = torch.stack(squares).sum(dim=0).sqrt()  # [seeds]
            optimizers[0].step()
        discriminator.requires_grad_(True)
        if (update + 1) % (updates // 4) == 0:
            with torch.no_grad():
                snapshots.append(make(1000))
    return snapshots, norms


images, labels = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
digits = images.float() / 8 - 1  # [1797, 64], from −1 to 1


def draw_digits(count: int) -> torch.Tensor:
    return digits[torch.randint(len(digits), (SEEDS, count))]


def classes_made(samples: torch.Tensor) -> int:
    """How many of the ten digits make up at least 1 % of the samples [count, 64], by the nearest real digit."""
    nearest = labels[torch.cdist(samples, digits).argmin(dim=1)]
    return int((torch.bincount(nearest, minlength=10) >= 0.01 * len(samples)).sum())


DIGITS = (16, 96, 96, 64)
written, gradient = {}, {}
for name, per_round, head_start, updates in (
    ("minimax", 1, 150, 200),
    ("non-saturating", 1, 150, 200),
    ("non-saturating", 5, 0, 120),
):
    snapshots, norms = train(draw_digits, name, DIGITS, torch.tanh, updates, per_round, head_start, lr=2e-3)
    written[name, per_round], gradient[name, per_round] = snapshots[-1], norms
made = {key: [classes_made(samples) for samples in written[key]] for key in written}
spread = torch.pdist(digits[:500]).mean().item()
variety = {key: [torch.pdist(samples[:500]).mean().item() / spread for samples in written[key]] for key in written}
ratio = gradient["non-saturating", 1] / gradient["minimax", 1]  # [seeds]
table(
    ["generator's loss", "its updates a round", "first gradient (3 seeds)", "digits made (of 10)", "variety (real: 1)"],
    [
        (
            name,
            per_round,
            " ".join(f"{norm:.0e}" for norm in gradient[name, per_round].tolist()),
            made[name, per_round],
            " ".join(f"{each:.2f}" for each in variety[name, per_round]),
        )
        for name, per_round in written
    ],
)
settle("ratio", "100000" if ratio.min() > 1e5 else "1000" if ratio.min() > 300 else "10")

figure, axes = plt.subplots(1, 4, figsize=(14, 3.9), layout="constrained")
for axis, (title, samples) in zip(
    axes, [("real", digits[:25])] + [(f"{key[0]}, {key[1]} a round", each[0, :25]) for key, each in written.items()],
    strict=True,
):  # fmt: skip
    axis.imshow(
        F.pad(samples.view(5, 5, 8, 8), (1, 1, 1, 1), value=-1.0).transpose(1, 2).reshape(50, 50).numpy(),
        cmap="gray_r",
        vmin=-1,
        vmax=1,
    )
    axis.set(title=title, xticks=[], yticks=[])
show(figure, "digits")

# %% [markdown] lang="en"
# The minimax gradient is gone, the non-saturating one is there. That the first generator learned nonetheless is Adam's
# merit: it divides each gradient by its own size, and so turns a whisper into a step. Plain gradient descent would stand
# still. Both lead to the same equilibrium, so one takes the loss that does not depend on the optimizer's help.
#
# The last row is another failure. Its gradient is fine, but it makes the same picture over and over, with slight
# variations. (That 8×8 pixels of a perceptron stay rough is no surprise: networks for pictures follow in 08/02.)

# %% [markdown] lang="zh"
# 极小极大损失的梯度没了，非饱和损失的还在。前一个生成器仍然学会了，是 Adam 的功劳：
# 它把每个梯度除以自身的大小，于是细语也成了一步。普通的梯度下降会停在原地。
# 两者的平衡点相同，所以选那个不必靠优化器帮忙的损失。
#
# 最后一行是另一种失败。它的梯度没有问题，但翻来覆去只画同一张图，略有变化。
# （感知机画的 8×8 像素仍然粗糙并不奇怪：适合图片的网络见 08/02。）

# %% [markdown]
# ## Experiment: mode collapse, counted · 实验：统计模式坍塌

# %% [markdown] lang="en"
# Eight Gaussians on a ring show it. One run has one generator update per round, the other five; all else is equal, and
# both see the same number of real samples. We look at four times and count the modes that hold at least 1 % of 1,000
# samples.

# %% [markdown] lang="zh"
# 八个高斯围成的环看得最清楚。一组每轮更新生成器一次，另一组五次；其余都一样，看到的真实样本数也相同。
# 在四个时刻观察，数出 1,000 个样本中至少占 1 % 的模式。

# %%
CENTERS, STD = ring_centers(8, 2.0), 0.15


def draw_ring(count: int) -> torch.Tensor:
    return sample_mixture(CENTERS, STD, SEEDS * count).view(SEEDS, count, 2)


rings = {
    per_round: train(draw_ring, "non-saturating", (4, 48, 48, 2), torch.nn.Identity(), 600, per_round, lr=1e-2)[0]
    for per_round in (1, 5)
}
coverage = {
    per_round: [
        [mode_coverage(samples, CENTERS, STD, least=10) for samples in snapshot] for snapshot in rings[per_round]
    ]
    for per_round in rings
}
covered = {per_round: [each.covered for each in coverage[per_round][-1]] for per_round in rings}
table(
    ["generator updates a round", *(f"modes after {150 * time} rounds" for time in range(1, 5))],
    [(per_round, *([each.covered for each in row] for row in coverage[per_round])) for per_round in rings],
)
settle("modes", "1-3" if max(covered[5]) <= 3 else "4-7" if max(covered[5]) < 8 else "8")

figure, axes = plt.subplots(2, 4, figsize=(13, 6.8), layout="constrained", sharex=True, sharey=True)
for row, per_round in zip(axes, rings, strict=True):
    for axis, time in zip(row, range(4), strict=True):
        axis.scatter(*CENTERS.T, s=160, facecolors="none", edgecolors="tab:red")
        axis.scatter(*rings[per_round][time][0].T, s=3, alpha=0.4)
        axis.set(
            title=f"{per_round} a round, after {150 * (time + 1)}", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal"
        )
show(figure, "collapse")

# %% [markdown] lang="en"
# The order of the game matters. $\min_G \max_D$ assumes that the discriminator is always at its best. If the generator moves
# several times against one that stands still, it plays $\max_D \min_G$: for a fixed $D$, the best answer of a generator is
# to put everything on the point where $D$ is highest. The discriminator then learns to reject that point, the
# generator jumps to the next one: it goes round the ring without ever covering it. Goodfellow et al. call it the Helvetica
# scenario. Large networks collapse in milder forms at equal rates too, and the loss curve shows nothing of it; one has to
# count.

# %% [markdown] lang="zh"
# 博弈的次序很重要。$\min_G \max_D$ 假定判别器总处于最佳。如果生成器面对静止的判别器连走几步，玩的就是 $\max_D \min_G$：
# 对固定的 $D$，生成器最好的回答是把一切都放在 $D$ 最高的那一点。
# 判别器随后学会拒绝这一点，生成器就跳到下一点：绕着环走，却从不覆盖它。
# Goodfellow 等称之为“Helvetica 情形”。
# 大网络在更新次数相等时也会有较轻的坍塌，而损失曲线上什么也看不出来，只能去数。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Torch has no adversarial loss; `F.binary_cross_entropy_with_logits` against ones and zeros is what everyone builds it from.
# Values and gradients for the logits, in float64, for logits up to ±12.

# %% [markdown] lang="zh"
# torch 没有对抗损失；大家都用 `F.binary_cross_entropy_with_logits` 对全 1 和全 0 的目标来搭建。
# 在 float64 下比较数值和对 logits 的梯度，logits 最大到 ±12。

# %%
real_logits, fake_logits = ((4 * torch.randn(64, dtype=torch.float64)).requires_grad_() for _ in range(2))
ones, zeros = torch.ones(64, dtype=torch.float64), torch.zeros(64, dtype=torch.float64)
cross_entropy = F.binary_cross_entropy_with_logits
pairs = {
    "discriminator": (
        discriminator_loss(real_logits, fake_logits),
        cross_entropy(real_logits, ones) + cross_entropy(fake_logits, zeros),
    ),
    "minimax generator": (minimax_generator_loss(fake_logits), -cross_entropy(fake_logits, zeros)),
    "non-saturating generator": (non_saturating_generator_loss(fake_logits), cross_entropy(fake_logits, ones)),
    "relativistic": (
        relativistic_discriminator_loss(real_logits, fake_logits),
        cross_entropy(real_logits - fake_logits, ones),
    ),
}
compared = {
    name: [(each, torch.autograd.grad(each, fake_logits, retain_graph=True)[0]) for each in pair]
    for name, pair in pairs.items()
}

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the best discriminator is (2/3, 2/3, 0)", best, [2 / 3, 2 / 3, 0])
check_close("by hand: its value is −0.955", value, math.log(2 / 3) + 0.5 * math.log(1 / 3))
check_close("and that is −log 4 + 2 JS", value, -math.log(4) + 2 * divergence, 1e-12)
check_close(
    "by hand: slopes −0.018 and −0.982 at the logit −4",
    [at_minus_4["minimax"], at_minus_4["non-saturating"]],
    [-0.01799, -0.98201],
    1e-4,
)
for name, (ours, theirs) in compared.items():
    check_close(f"{name}: the loss equals torch's", ours[0], theirs[0], 1e-12)
    check_close(f"{name}: so does its gradient", ours[1], theirs[1], 1e-12)
check("a trained discriminator is p / (p + q) within 0.04, with every seed", errors.max() < 0.04)
check("its value is −log 4 + 2 JS within 0.03, with every seed", (values - bound).abs().max() < 0.03)
check("a sure discriminator starves the minimax loss only, with every seed", ratio.min() > 1e4)
check(
    "after a head start both losses still learn with Adam: at least 8 digits, with every seed",
    min(made["minimax", 1] + made["non-saturating", 1]) >= 8,
)
check(
    "five generator updates a round collapse to 3 digits or fewer, with every seed", max(made["non-saturating", 5]) <= 3
)
check(
    "the collapse shows in the distances between samples, with every seed",
    max(variety["non-saturating", 5]) < 0.5 < min(variety["non-saturating", 1]),
)
check("on the ring: one update a round covers 7 modes or 8, with every seed", min(covered[1]) >= 7)
check("five cover 3 at most, with every seed", max(covered[5]) <= 3)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `face-gan` draws faces with these losses: `uv run --package face-gan train --max-minutes 5`. It trains with
# the relativistic pair of `GAN_LOSSES` and gradient penalties (R3GAN, [Huang et al. 2024](https://arxiv.org/abs/2501.05441)),
# and measures precision and recall, since a collapsed generator can have beautiful samples. Papers: [Goodfellow et al.
# 2014](https://arxiv.org/abs/1406.2661); [Metz et al. 2017](https://arxiv.org/abs/1611.02163) on the ring and on why the
# order of the game matters; [Arjovsky & Bottou 2017](https://arxiv.org/abs/1701.04862) on vanishing gradients. Next: networks
# for pictures, 08/02; a loss that does measure distance, 08/03.

# %% [markdown] lang="zh"
# 实战项目 `face-gan` 用这些损失画人脸：`uv run --package face-gan train --max-minutes 5`。
# 它用 `GAN_LOSSES` 里的相对配对损失加梯度惩罚训练（R3GAN，[Huang 等 2024](https://arxiv.org/abs/2501.05441)），
# 并且度量精确率和召回率，因为坍塌的生成器也可以有很漂亮的样本。
# 论文：[Goodfellow 等 2014](https://arxiv.org/abs/1406.2661)；
# [Metz 等 2017](https://arxiv.org/abs/1611.02163)，高斯环以及博弈次序为何重要；
# [Arjovsky 与 Bottou 2017](https://arxiv.org/abs/1701.04862)，梯度消失。
# 下一课：适合图片的网络，08/02；真正度量距离的损失，08/03。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `optimal_discriminator`, `discriminator_loss`, `minimax_generator_loss`, `non_saturating_generator_loss` and
# `relativistic_discriminator_loss` yourself. `uv run lesson exercise 08/01` makes a file with their signatures,
# `uv run lesson check 08/01` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `optimal_discriminator`、`discriminator_loss`、`minimax_generator_loss`、
# `non_saturating_generator_loss` 和 `relativistic_discriminator_loss`。
# `uv run lesson exercise 08/01` 生成带有签名的文件，`uv run lesson check 08/01` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Where both densities are 0, divide by 1 instead and take ½: `torch.where` evaluates both branches.
# 2. $-\log \sigma(\ell)$ is `F.softplus(-logits)`; $-\log(1 - \sigma(\ell))$ is `F.softplus(logits)`. Never take `sigmoid` first:
#    in float32 it is exactly 1 from a logit of 17 on, and the logarithm of what is left is infinite.
# 3. Each half is a mean of its own; with unequal batches a mean over all logits would weigh them wrongly.
# 4. The relativistic loss has one logit for each pair, real − fake, and the target "real".

# %% [markdown] lang="zh"
# 1. 两个密度都为 0 的地方改为除以 1，结果取 ½：`torch.where` 的两个分支都会被计算。
# 2. $-\log \sigma(\ell)$ 是 `F.softplus(-logits)`，$-\log(1 - \sigma(\ell))$ 是 `F.softplus(logits)`。
#    不要先取 `sigmoid`：float32 中 logit 从 17 起它就恰好是 1，剩下部分的对数是无穷。
# 3. 两半各自取平均；两批大小不同时，对全部 logits 一起取平均会使权重出错。
# 4. 相对损失每一对只有一个 logit，即真减假，目标是“真”。


# %%
@exercise(
    optimal_discriminator,
    discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    relativistic_discriminator_loss,
)
def judge(yours, reference):
    p, q = torch.tensor([0.3, 0.0, 0.7, 0.0]), torch.tensor([0.1, 0.5, 0.7, 0.0])
    ratio = yours.optimal_discriminator(p, q)
    check("optimal_discriminator is finite where no sample falls", ratio.isfinite().all())
    check_close("optimal_discriminator: where samples fall", ratio[:3], reference.optimal_discriminator(p, q)[:3])
    check_close("optimal_discriminator: where none falls", ratio, reference.optimal_discriminator(p, q))
    real = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    fake = torch.tensor([-3.0, 0.0, 1.5, 4.0, -0.5], requires_grad=True)
    for name, arguments in (
        ("discriminator_loss", (real, fake)),
        ("minimax_generator_loss", (fake,)),
        ("non_saturating_generator_loss", (fake,)),
        ("relativistic_discriminator_loss", (real, fake[:3])),
    ):
        mine, theirs = (getattr(each, name)(*arguments) for each in (yours, reference))
        check(f"{name} is a scalar", mine.shape == ())
        check_close(f"{name}: the value", mine, theirs)
        check_close(f"{name}: the gradient", torch.autograd.grad(mine, fake)[0], torch.autograd.grad(theirs, fake)[0])
    sure = torch.tensor([200.0])
    for name, arguments in (("discriminator_loss", (-sure, sure)), ("non_saturating_generator_loss", (-sure,))):
        check(f"{name} is finite for a logit of 200", getattr(yours, name)(*arguments).isfinite())


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What are the discriminator's output and loss when the generator is perfect? · 生成器完美时，判别器的输出和损失是多少？

# %% [markdown] lang="en"
# The best discriminator is $p / (p + q)$, which is ½ everywhere for $q = p$; its cross-entropy, the sum over real and fake, is
# $2 \log 2 = 1.386$. But a loss of 1.386 does not prove a good generator: an untrained discriminator has it as well.

# %% [markdown] lang="zh"
# 最佳判别器是 $p / (p + q)$，当 $q = p$ 时处处为 ½；真假两部分之和的交叉熵是 $2 \log 2 = 1.386$。
# 但损失等于 1.386 不证明生成器好：没有训练过的判别器也是这个值。

# %%
print(f"  {discriminator_loss(torch.zeros(4), torch.zeros(4)).item():.3f}")

# %% [markdown]
# ### Why is the generator trained with −log D and not with log(1 − D)? · 为什么生成器用 −log D 训练，而不用 log(1 − D)？

# %% [markdown] lang="en"
# Early on the discriminator rejects all fakes, $D \approx 0$. There the slope of $\log(1 - D)$ for the logit is $-D \approx 0$, while
# that of $-\log D$ is $-(1 - D) \approx -1$. The first saturates just where the generator has most to learn. The fixed point is
# the same; the game is no longer zero-sum.

# %% [markdown] lang="zh"
# 一开始判别器拒绝所有假样本，$D \approx 0$。此时 $\log(1 - D)$ 对 logit 的斜率是 $-D \approx 0$，
# 而 $-\log D$ 的是 $-(1 - D) \approx -1$。前者恰恰在生成器最需要学习的地方饱和。不动点相同，但博弈不再是零和的。

# %%
table(["loss", "slope at the logit −4"], list(at_minus_4.items()))

# %% [markdown]
# ### What is mode collapse, and how do you notice it? · 什么是模式坍塌，怎样发现它？

# %% [markdown] lang="en"
# The generator produces few kinds of samples, each of them possibly perfect. Losses do not show it. Count: modes or classes
# covered, recall in a feature space (Kynkäänniemi et al. 2019), distances between samples. Against it: discriminators that
# keep up and see several samples at once (minibatch statistics), losses that pair real and fake, gradient penalties.

# %% [markdown] lang="zh"
# 生成器只产生少数几种样本，单独看每个可能都很完美。损失看不出来。
# 要去数：覆盖的模式或类别、特征空间里的召回率（Kynkäänniemi 等 2019）、样本之间的距离。
# 对策：让判别器跟得上并同时看多个样本（小批量统计）、真假配对的损失、梯度惩罚。

# %%
table(
    ["updates a round", "modes", "samples near a mode"],
    [(rounds, row[-1][0].covered, row[-1][0].good) for rounds, row in coverage.items()],
)

# %% [markdown]
# ### Why is the fake batch detached in the discriminator's update? · 更新判别器时为什么要对假样本 detach？

# %% [markdown] lang="en"
# The discriminator's loss must not move the generator: its gradient would teach it to be caught. `detach()` cuts the graph,
# which also saves the backward pass through the generator. In the generator's update the gradient must pass *through* the
# discriminator, so there nothing is detached; only its weights are frozen.

# %% [markdown] lang="zh"
# 判别器的损失不应移动生成器：那个梯度会教它被抓住。`detach()` 切断计算图，还省去了穿过生成器的反向传播。
# 而更新生成器时，梯度必须*穿过*判别器，所以那里不 detach，只冻结判别器的权重。

# %%
sample = torch.ones(2, 1, requires_grad=True)
print(f"  attached: {(-F.softplus(sample)).requires_grad}, detached: {(-F.softplus(sample.detach())).requires_grad}")

# %% [markdown]
# ### Where does the argument with the JS divergence fail in practice? · JS 散度的论证在实际中哪里不成立？

# %% [markdown] lang="en"
# It assumes a discriminator at its optimum and densities that overlap. Pictures lie on thin surfaces; if two do not
# overlap, JS is $\log 2$ however far apart they are, its gradient is 0, and a perfect discriminator teaches nothing. That is
# why one does not train the discriminator to the end, adds penalties, or takes another distance (08/03).

# %% [markdown] lang="zh"
# 它假定判别器处于最优、两个密度有重叠。图片分布在很薄的曲面上；如果两者不重叠，
# 无论相距多远 JS 都是 $\log 2$，梯度为 0，完美的判别器什么也教不了。
# 所以人们不把判别器训练到底，或加惩罚项，或换一种距离（08/03）。

# %%
for gap in (1, 5, 50):
    near, far = torch.zeros(100).double(), torch.zeros(100).double()
    near[0], far[gap] = 1, 1
    print(f"  {gap} apart: JS = {float(js_divergence(near.numpy(), far.numpy())):.4f}, log 2 = {math.log(2):.4f}")
