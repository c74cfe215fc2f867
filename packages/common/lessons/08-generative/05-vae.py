# %% [markdown]
# # The variational autoencoder · 变分自编码器

# %% [markdown] lang="en"
# After this lesson you can derive the bound that a variational autoencoder (VAE) maximizes, write its terms and their
# gradients, draw new digits from it, and recognize posterior collapse: a code that has gone empty. You need autoencoders
# (08/04), KL divergence (02/07) and the Gaussian (02/06).

# %% [markdown] lang="zh"
# 学完本课，你能推导变分自编码器（VAE）所最大化的下界，写出它的各项及其梯度，从中抽出新的数字，
# 并能识别后验坍缩：编码变空了。先修：自编码器（08/04）、KL 散度（02/07）、高斯分布（02/06）。

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.generative.vae import (
    ELBO,
    VAE,
    active_units,
    bernoulli_log_likelihood,
    gaussian_kl,
    gaussian_log_density,
    importance_weighted_bound,
    reparametrize,
    score_function_surrogate,
)
from dlcommon.neural_networks.stacked_models import StackedModels
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# The decoder of an autoencoder turns a code into a digit. So could one make up a code, and get a new digit? One could, if one
# knew which codes are in use. The autoencoder of 08/04 puts them wherever it likes, with holes between, and a code from a hole
# gives no digit.
#
# So two things are wanted at once: codes that carry enough to draw the digit, and codes that together look like something one can
# draw from, such as a standard normal distribution. And it should be one loss with a meaning, not two with an arbitrary
# weight between: how probable does the model think real digits are?

# %% [markdown] lang="zh"
# 自编码器的解码器把编码变成数字。那么随便编一个编码，能得到新的数字吗？如果知道哪些编码在用，就可以。
# 但 08/04 的自编码器把编码放在它喜欢的任何地方，中间有空洞，空洞里的编码画不出数字。
#
# 所以要同时做到两件事：编码带有足够的信息来画出数字；所有编码合起来又像一个可以抽样的分布，例如标准正态分布。
# 而且应该是一个有含义的损失，而不是两个损失加一个随意的权重：模型认为真实的数字有多大概率？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One latent coordinate, two pixels $x = (1, 0)$. The encoder says $\mu = 1$, $\sigma = 0.5$. The draw $\varepsilon = -1$ gives
# $z = 1 + 0.5 \cdot (-1) = 0.5$. The decoder's logits are $2z$ and $-2z$, that is 1 and −1: both pixels have probability
# $1 / (1 + e^{-1}) = 0.731$ of being what they are, $\log p(x \mid z) = 2 \log 0.731 = -0.627$. The code costs
# $\frac12 (\mu^2 + \sigma^2 - 1 - \log \sigma^2) = \frac12 (1 + 0.25 - 1 + 1.386) = 0.818$ nats. The bound, for this draw:
# $-0.627 - 0.818 = -1.445$.
#
# *Two gradients.* How does $\mathbb{E}[(z - 3)^2]$ change with $\mu$? Exactly, by $2(\mu - 3) = -4$. From the draws
# $\varepsilon = -1$ and $1$, which give $z = 0.5$ and $1.5$: the derivative at the draws is $2(z - 3) = -5$ and $-3$. The
# other way, which needs no derivative of the function, multiplies its value with $(z - \mu) / \sigma^2$: $6.25 \cdot (-2) =
# -12.5$ and $2.25 \cdot 2 = 4.5$. Both pairs have the mean −4; one is spread by 1, the other by 8.5.

# %% [markdown] lang="zh"
# 一个潜在坐标，两个像素 $x = (1, 0)$。编码器给出 $\mu = 1$，$\sigma = 0.5$。抽到 $\varepsilon = -1$，则 $z = 1 + 0.5 \cdot (-1) = 0.5$。
# 解码器的 logits 是 $2z$ 和 $-2z$，即 1 和 −1：两个像素取现有值的概率都是 $1 / (1 + e^{-1}) = 0.731$，
# $\log p(x \mid z) = 2 \log 0.731 = -0.627$。
# 编码的代价是 $\frac12 (\mu^2 + \sigma^2 - 1 - \log \sigma^2) = \frac12 (1 + 0.25 - 1 + 1.386) = 0.818$ nat。
# 这次抽样的下界：$-0.627 - 0.818 = -1.445$。
#
# *两种梯度。* $\mathbb{E}[(z - 3)^2]$ 随 $\mu$ 怎样变化？精确值是 $2(\mu - 3) = -4$。
# 抽到 $\varepsilon = -1$ 和 $1$，即 $z = 0.5$ 和 $1.5$：在抽样点处求导得 $2(z - 3) = -5$ 和 $-3$。
# 另一种办法不需要函数的导数，用函数值乘以 $(z - \mu) / \sigma^2$：$6.25 \cdot (-2) = -12.5$ 和 $2.25 \cdot 2 = 4.5$。
# 两对的均值都是 −4；一对的偏离是 1，另一对是 8.5。

# %%
hand_mean, hand_log_variance = torch.tensor([[1.0]]), torch.tensor([[math.log(0.25)]])
hand_z = reparametrize(hand_mean, hand_log_variance, torch.tensor([[-1.0]]))
hand_logits = hand_z * torch.tensor([[2.0, -2.0]])
hand = ELBO(
    bernoulli_log_likelihood(hand_logits, torch.tensor([[1.0, 0.0]])), gaussian_kl(hand_mean, hand_log_variance)
)
table(
    ["z", "log p(x | z)", "KL", "bound"],
    [(hand_z.item(), hand.log_likelihood.item(), hand.kl.item(), hand.bound.item())],
)
hand_draws = torch.tensor([0.5, 1.5])
pathwise_pair, score_pair = 2 * (hand_draws - 3), (hand_draws - 3).square() * (hand_draws - 1) / 0.25
table(
    ["gradient", "ε = −1", "ε = 1", "mean"],
    [
        ("derivative at the draw", *pathwise_pair.tolist(), pathwise_pair.mean().item()),
        ("value times (z − μ) / σ²", *score_pair.tolist(), score_pair.mean().item()),
    ],
)

drawing = Schematic(13.6, 4.0, "A variational autoencoder: the gradient flows through z to μ and σ, not into the noise")
for name, x, y, text, kind, width in (
    ("x", 0.9, 2.0, "image x", "data", 1.3),
    ("encoder", 2.7, 2.0, "encoder", "parameter", 1.4),
    ("mean", 4.7, 2.8, "μ", "data", 0.9),
    ("std", 4.7, 1.2, "σ", "data", 0.9),
    ("noise", 6.4, 0.5, "noise ε", "data", 1.3),
    ("times", 6.4, 1.6, "·", "operation", 0.6),
    ("plus", 7.6, 2.4, "+", "operation", 0.6),
    ("z", 8.8, 2.4, "z", "data", 0.9),
    ("decoder", 10.4, 2.4, "decoder", "parameter", 1.4),
    ("likelihood", 12.4, 2.4, "log p(x | z)", "operation", 1.6),
    ("kl", 6.4, 3.6, "KL from N(0, 1)", "operation", 2.0),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (
    ("x", "encoder"), ("encoder", "mean"), ("encoder", "std"), ("std", "times"), ("noise", "times"), ("times", "plus"),
    ("mean", "plus"), ("plus", "z"), ("z", "decoder"), ("decoder", "likelihood"), ("mean", "kl"), ("std", "kl"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "vae")

# %% [markdown]
# ## Formula · 公式
#
# $$\log p(x) = \mathrm{ELBO} + \mathrm{KL}\left( q(z \mid x) \,\Vert\, p(z \mid x) \right)$$
#
# $$\mathrm{ELBO} = \mathbb{E}_q \left[ \log \frac{p(x, z)}{q(z \mid x)} \right] = \mathbb{E}_q [\log p(x \mid z)] - \mathrm{KL}\left( q(z \mid x) \,\Vert\, p(z) \right)$$
#
# $$\mathrm{KL} = \frac12 \sum_j \left( \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2 \right), \qquad z = \mu + \sigma \varepsilon, \quad \varepsilon \sim N(0, I)$$
#
# $$\nabla_\mu \, \mathbb{E}[f(z)] = \mathbb{E}[f'(\mu + \sigma \varepsilon)] = \mathbb{E}[f(z) \, \nabla_\mu \log q(z)]$$
#
# $$\mathcal{L}_K = \mathbb{E} \left[ \log \frac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)} \right], \qquad \mathrm{ELBO} = \mathcal{L}_1 \le \mathcal{L}_K \le \log p(x)$$

# %% [markdown] lang="en"
# - $x$: an image, `[pixels]`, in $\{0, 1\}$; $z$: its latent code, `[latent]`; $p(z) = N(0, I)$: the prior.
# - $p(x \mid z)$: the decoder: pixels that are independent once $z$ is known, with probabilities by the logits.
# - $q(z \mid x) = N(\mu, \sigma^2)$: the encoder: mean and variance, each `[latent]`, as functions of $x$.
# - $p(z \mid x)$: the true posterior, which nobody can compute: it needs $p(x) = \int p(x \mid z)\, p(z)\, dz$.
# - $\varepsilon$: noise, `[latent]`, that does not depend on any parameter (Kingma & Welling 2014, section 2.4).
# - $-\mathbb{E}[\log p(x \mid z)]$: the *distortion* $D$; $\mathrm{KL}(q \Vert p(z))$: the *rate* $R$, in nats, what the code tells
#   about the image (appendix B for the closed form). The loss $D + \beta R$ with $\beta \ne 1$ is the β-VAE (Higgins et al. 2017).
# - $\mathcal{L}_K$: the importance-weighted bound with $K$ draws (Burda et al. 2016, equation 8).
#
# *Derivation.* For every $z$, $\log p(x) = \log p(x, z) - \log p(z \mid x)$. Subtract and add $\log q(z \mid x)$:
# $\log p(x) = \log \frac{p(x, z)}{q(z \mid x)} + \log \frac{q(z \mid x)}{p(z \mid x)}$. The left side does not depend on $z$; average the
# right one over $q$, and the first formula stands there. A KL divergence is never negative, so the ELBO is a lower
# bound, and the gap is zero exactly where $q$ is the true posterior. With $p(x, z) = p(x \mid z)\, p(z)$ the second form of the ELBO follows.
#
# *Two gradients.* The expectation is over a distribution that itself depends on $\mu$. Written with $\varepsilon$, it does not,
# and the derivative goes inside (*reparametrization*). Or one differentiates the density, $\nabla q = q \nabla \log q$ (the *score
# function*, REINFORCE; this score is with respect to parameters, that of 08/04 with respect to the data). Both are unbiased.
# The first knows in which direction $f$ grows; the second has only its values.
#
# *More draws.* The mean of $K$ weights $w_k = p(x, z_k) / q(z_k \mid x)$ has the expectation $p(x)$ for any $K$. The logarithm is
# concave, so that its expectation lies below $\log p(x)$ (Jensen), and nearer to it the less the mean varies.

# %% [markdown] lang="zh"
# - $x$：图像，`[pixels]`，取值 $\{0, 1\}$；$z$：它的潜在编码，`[latent]`；$p(z) = N(0, I)$：先验。
# - $p(x \mid z)$：解码器：给定 $z$ 后各像素独立，概率由 logits 给出。
# - $q(z \mid x) = N(\mu, \sigma^2)$：编码器：均值和方差，各为 `[latent]`，都是 $x$ 的函数。
# - $p(z \mid x)$：真正的后验，没人算得出：它需要 $p(x) = \int p(x \mid z)\, p(z)\, dz$。
# - $\varepsilon$：噪声，`[latent]`，不依赖任何参数（Kingma & Welling 2014，第 2.4 节）。
# - $-\mathbb{E}[\log p(x \mid z)]$：*失真* $D$；$\mathrm{KL}(q \Vert p(z))$：*码率* $R$，单位 nat，
#   即编码说出了多少关于图像的信息（闭式见附录 B）。$\beta \ne 1$ 时损失 $D + \beta R$ 就是 β-VAE（Higgins 等 2017）。
# - $\mathcal{L}_K$：抽 $K$ 次的重要性加权下界（Burda 等 2016，式 8）。
#
# *推导。* 对每个 $z$ 都有 $\log p(x) = \log p(x, z) - \log p(z \mid x)$。减去再加上 $\log q(z \mid x)$：
# $\log p(x) = \log \frac{p(x, z)}{q(z \mid x)} + \log \frac{q(z \mid x)}{p(z \mid x)}$。
# 左边不依赖 $z$；右边对 $q$ 取平均，就得到第一个公式。KL 散度不会是负的，所以 ELBO 是下界，
# 当且仅当 $q$ 就是真正的后验时差距为零。代入 $p(x, z) = p(x \mid z)\, p(z)$ 得 ELBO 的第二种写法。
#
# *两种梯度。* 期望所用的分布本身依赖 $\mu$。改用 $\varepsilon$ 来写就不依赖了，导数可以移到里面（*重参数化*）。
# 也可以对密度求导，$\nabla q = q \nabla \log q$（*得分函数*法，REINFORCE；这里的得分是对参数求导，08/04 的是对数据求导）。
# 两者都无偏。前者知道 $f$ 朝哪个方向增长，后者只有函数值。
#
# *多次抽样。* $K$ 个权重 $w_k = p(x, z_k) / q(z_k \mid x)$ 的平均，对任何 $K$ 期望都是 $p(x)$。
# 对数是凹函数，所以其期望低于 $\log p(x)$（Jensen 不等式）；平均值波动越小，就越接近。

# %% [markdown]
# ## Code · 代码

# %%
source(reparametrize)
source(gaussian_kl)
source(bernoulli_log_likelihood)
source(VAE.forward)
source(ELBO.loss)
source(importance_weighted_bound)
source(score_function_surrogate)

# %% [markdown] lang="en"
# The encoder's last layer has `2 * latent` units, mean and *log* variance, so that a variance is positive whatever the network
# says. Noise comes in from outside, `[batch, latent]` for the ELBO and `[draws, batch, latent]` for several draws. The
# likelihood is written with `softplus`, since $\log \mathrm{sigmoid}$ of a large negative logit would be the logarithm of 0.
# Terms are *summed* over pixels and coordinates: with means, a pixel would count 196 / 12 times less than a coordinate, and
# that is another β. `logsumexp` adds weights that, at $e^{-40}$ and less, one does not want to leave the logarithm.

# %% [markdown] lang="zh"
# 编码器最后一层有 `2 * latent` 个单元：均值和*对数*方差，这样不管网络输出什么，方差都是正的。
# 噪声从外面传入，ELBO 用 `[batch, latent]`，多次抽样用 `[draws, batch, latent]`。
# 似然用 `softplus` 来写，因为很负的 logit 取 $\log \mathrm{sigmoid}$ 会变成 0 的对数。
# 各项对像素和坐标*求和*：若取平均，一个像素的分量就比一个坐标小 196 / 12 倍，那等于换了一个 β。
# `logsumexp` 用来相加小到 $e^{-40}$ 以下的权重，不离开对数。

# %% [markdown]
# ## Experiment: the gap, and two gradients · 实验：差距，以及两种梯度

# %% [markdown] lang="en"
# First a model so simple that all is known: $z \sim N(0, 1)$ and $x \sim N(2z, 1)$, hence $x \sim N(0, 5)$, and the true
# posterior of $x$ is $N(2x/5, 1/5)$. For three choices of $q$: the ELBO, and its gap to $\log p(x)$ at $x = 1.5$.
#
# Then the two gradients of the example by hand, $f(z) = (z - 3)^2$ at $\mu = 1$, $\sigma = 0.5$, with 20,000 draws.

# %% [markdown] lang="zh"
# 先看一个简单到一切都已知的模型：$z \sim N(0, 1)$，$x \sim N(2z, 1)$，所以 $x \sim N(0, 5)$，真正的后验是 $N(2x/5, 1/5)$。
# 取三种 $q$：在 $x = 1.5$ 处的 ELBO 以及它与 $\log p(x)$ 的差距。
#
# 然后是手算例子的两种梯度，$f(z) = (z - 3)^2$，$\mu = 1$，$\sigma = 0.5$，各抽 20,000 次。

# %%
quiz(
    "spread",
    en="How many times the standard deviation of the reparametrized gradient does the score function's have?",
    zh="得分函数梯度的标准差是重参数化梯度的几倍？",
)

# %%
SEEDS, random = (0, 1, 2), torch.Generator().manual_seed(0)
observed = torch.tensor(1.5, dtype=torch.float64)
evidence = Normal(0.0, math.sqrt(5)).log_prob(observed).item()
gaps = []
for name, q_mean, q_variance in (("the prior", 0.0, 1.0), ("too narrow", 0.6, 0.05), ("the posterior", 0.6, 0.2)):
    center, log_variance = (torch.tensor([each], dtype=torch.float64) for each in (q_mean, math.log(q_variance)))
    # E[log N(x; 2z, 1)] over q in closed form: at the mean of z, less half the variance of 2z.
    expected = gaussian_log_density(observed[None], 2 * center, torch.zeros(1).double()) - 2 * q_variance
    bound = (expected - gaussian_kl(center, log_variance).sum()).item()
    gap = kl_divergence(Normal(q_mean, math.sqrt(q_variance)), Normal(0.6, math.sqrt(0.2))).item()
    gaps.append((name, bound, gap, bound + gap))
table(["q is", "ELBO", "KL to the posterior", "sum", "log p(x)"], [(*row, evidence) for row in gaps])

MU, SIGMA, DRAWS = 1.0, 0.5, 20_000
draws = MU + SIGMA * torch.randn(DRAWS, generator=random, dtype=torch.float64)
scores = (draws - MU) / SIGMA**2  # derivative of log q by μ
value = (draws - 3).square()
estimates = {
    "reparametrized": 2 * (draws - 3),
    "score function": value * scores,
    "score function, baseline": (value - value.mean()) * scores,
}
table(
    ["gradient by μ (exactly −4)", "mean", "standard deviation"],
    [(name, each.mean().item(), each.std().item()) for name, each in estimates.items()],
)
settle("spread", (estimates["score function"].std() / estimates["reparametrized"].std()).item(), tolerance=0.2)

figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
for name, each in estimates.items():
    axis.hist(each.numpy(), bins=torch.linspace(-40, 30, 141).numpy(), histtype="step", label=name, density=True)
axis.axvline(-4, color="black", linestyle=":", label="exact")
axis.set(xlabel="estimate from one draw", ylabel="density", yscale="log", title="Same mean, different spread")
axis.legend()
show(figure, "gradients")

# %% [markdown] lang="en"
# ELBO and gap add up to $\log p(x)$ for every $q$: to raise the ELBO is to raise the likelihood, or to bring $q$ nearer to the
# posterior. The gradients agree in the mean. The score function's is spread more than ten times as far, which takes more than a
# hundred times as many draws for the same precision; a baseline helps, since $\mathbb{E}[\nabla \log q] = 0$ allows for
# subtracting any constant.

# %% [markdown] lang="zh"
# 对每个 $q$，ELBO 与差距之和都是 $\log p(x)$：提高 ELBO，就是提高似然，或让 $q$ 更接近后验。
# 两种梯度均值一致。得分函数的梯度分散了十倍以上，要达到同样的精度就需要一百倍以上的抽样；
# 基线有帮助，因为 $\mathbb{E}[\nabla \log q] = 0$，减去任何常数都可以。

# %% [markdown]
# ## Experiment: rate against distortion · 实验：码率与失真

# %% [markdown] lang="en"
# Real digits, 14 × 14, each pixel black or white; a VAE of 12 latent coordinates with one hidden layer of 128 on each side.
# Four prices of the code, β = 0.25, 1, 4, 16, three seeds each, 300 updates with batches of 100, all twelve models trained at
# once (`StackedModels`). In nats, on 1,000 test digits. A coordinate is *active* if its mean varies among the digits.

# %% [markdown] lang="zh"
# 真实的手写数字，14 × 14，像素非黑即白；VAE 有 12 个潜在坐标，编码器和解码器各有一个 128 单元的隐藏层。
# 编码的四种价格 β = 0.25、1、4、16，各三个种子，更新 300 次，批大小 100，十二个模型一起训练（`StackedModels`）。
# 在 1,000 张测试图上以 nat 计。若某坐标的均值随数字而变，就说它是*活跃*的。

# %%
quiz(
    "empty",
    en="With β = 16, what is in the code?",
    zh="β = 16 时，编码里有什么？",
    choices={
        "less": "less than with β = 4, but the kind of digit · 比 β = 4 时少，但仍有数字的种类",
        "nothing": "nothing at all · 什么都没有",
        "more": "more, since it is worth more · 更多，因为它更值钱",
    },
)

# %%
PIXELS, LATENT, BETAS = 196, 12, (0.25, 1.0, 4.0, 16.0)
digits = data("mnist-sample")


def black_and_white(images) -> torch.Tensor:
    """Averages 2 × 2 pixels of images [n, 784], 0 to 255, and rounds: [n, 196] in {0, 1}."""
    whole = torch.from_numpy(images.reshape(-1, 1, 28, 28)).float() / 255
    return (F.avg_pool2d(whole, 2).flatten(1) > 0.5).float()


train, test = black_and_white(digits.train_images), black_and_white(digits.test_images)


def build(kind: type[VAE], seed: int) -> VAE:
    """Makes a VAE whose decoder begins at the mean of the digits, whatever the code."""
    torch.manual_seed(seed)
    vae = kind(PIXELS, (128,), LATENT)
    with torch.no_grad():
        vae.decoder[-1].bias.copy_(train.mean(dim=0).clamp(0.005, 0.995).logit())
    return vae


def train_stacked(
    models: list[VAE], betas: list[float], updates: int = 300, warmups: list[float] | None = None
) -> list[VAE]:
    """Trains VAEs at once, each with a β of its own, which rises from 0 during the model's warm-up."""
    stacked, generator, beta = StackedModels(models), torch.Generator().manual_seed(0), torch.tensor(betas)[:, None]
    risen = torch.tensor(warmups or [1.0] * len(models))[:, None]  # updates until β is reached
    optimizer = torch.optim.Adam(stacked.parameters(), lr=1e-2, fused=True)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, 2 - 2 * update / updates)  # falls in the second half
        x = train[torch.randint(len(train), (len(models), 100), generator=generator)]  # [models, batch, pixels]
        noise = torch.randn(len(models), 100, LATENT, generator=generator)
        terms = stacked(x, noise)
        loss = len(models) * terms.loss(beta * ((update + 1) / risen).clamp(max=1.0))  # the sum of the models' losses
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return stacked.unstack()


@torch.no_grad()
def measure(vae: VAE) -> dict[str, float]:
    """Measures a VAE on the test digits, with four draws of the code for each."""
    generator = torch.Generator().manual_seed(1)
    terms = [vae(test, torch.randn(len(test), LATENT, generator=generator)) for _ in range(4)]
    distortion = -sum(each.log_likelihood.mean().item() for each in terms) / len(terms)
    rate = terms[0].kl.sum(dim=1).mean().item()
    active = active_units(vae.encode(test)[0]).sum().item()
    return {"distortion": distortion, "rate": rate, "bound": -distortion - rate, "active": active}


def written(values: list[float]) -> str:
    return " ".join(f"{value:.1f}" if value % 1 else f"{value:.0f}" for value in values)


trained = train_stacked([build(VAE, seed) for _ in BETAS for seed in SEEDS], [beta for beta in BETAS for _ in SEEDS])
vaes = {beta: trained[3 * number : 3 * number + 3] for number, beta in enumerate(BETAS)}
measured = {beta: [measure(vae) for vae in vaes[beta]] for beta in BETAS}
COLUMNS = ("distortion", "rate", "bound", "active")
table(
    ["β", *COLUMNS],
    [(beta, *(written([each[column] for each in measured[beta]]) for column in COLUMNS)) for beta in BETAS],
)
settle("empty", "nothing" if max(each["rate"] for each in measured[16.0]) < 0.01 else "less")


def mosaic(rows: list[torch.Tensor]) -> torch.Tensor:
    """Puts images [n, 196], a row for each, beside and below each other."""
    return torch.cat([torch.cat([image.view(14, 14) for image in row], dim=1) for row in rows])


figure, axes = plt.subplots(1, 3, figsize=(15.5, 4.2), layout="constrained", width_ratios=(1, 1.15, 1.15))
for beta in BETAS:
    rates, distortions = ([each[column] for each in measured[beta]] for column in ("rate", "distortion"))
    axes[0].scatter(rates, distortions, label=f"β = {beta:g}")
for total in (36, 40, 50):
    axes[0].plot([0, 22], [total, total - 22], color="grey", linewidth=0.8, linestyle=":")
axes[0].set(xlabel="rate, nats", ylabel="distortion, nats", title="Dotted: equal ELBO", ylim=(15, 55))
axes[0].legend()
codes = torch.randn(10, LATENT, generator=random)
shown = torch.tensor([int((torch.from_numpy(digits.test_labels) == label).nonzero()[0]) for label in range(10)])
with torch.no_grad():
    rebuilt = [vaes[beta][0].decoder(vaes[beta][0].encode(test[shown])[0]).sigmoid() for beta in BETAS]
    sampled = [vaes[beta][0].decoder(codes).sigmoid() for beta in BETAS]
for axis, rows, title in (
    (axes[1], [test[shown], *rebuilt], "reconstructed"),
    (axes[2], sampled, "drawn from the prior"),
):
    axis.imshow(mosaic(rows).numpy(), cmap="gray_r")
    names = [f"β = {beta:g}" for beta in BETAS]
    axis.set_yticks([7 + 14 * place for place in range(len(rows))], names if len(rows) == 4 else ["test", *names])
    axis.set(xticks=[], title=title)
show(figure, "rate-distortion")

# %% [markdown] lang="en"
# A cheap code carries more and is drawn more sharply; a dear one carries less. Only with β = 1 the loss is minus the ELBO, and
# there the bound is the best. With β = 16 nothing is worth its price: the rate is zero, no coordinate is active, every code
# decodes to the mean of all digits. And a small β is not simply better: its reconstructions are the sharpest, but its codes
# do not look like the prior, so that draws from the prior fall into holes again.

# %% [markdown] lang="zh"
# 便宜的编码带得多，画得清楚；贵的编码带得少。只有 β = 1 时损失才是负的 ELBO，那里的下界也最好。
# β = 16 时什么都不值那个价钱：码率为零，没有活跃的坐标，任何编码都解码成所有数字的平均。
# β 小也不是一味地好：它的重建最清楚，但它的编码不像先验，从先验抽样又会落进空洞。

# %% [markdown]
# ## Experiment: posterior collapse · 实验：后验坍缩

# %% [markdown] lang="en"
# The code can go empty with β = 1 as well: if the decoder does not need it. Here is one that also sees the pixels before the
# one it predicts, in reading order, through a matrix above the diagonal (it is *autoregressive*, as a language model is). What a
# neighbor tells is free; what $z$ tells costs rate. The same data, β = 1, 300 updates, three seeds. And one of the usual remedies,
# *warm-up*: β rises from 0 to 1 during the first 200 updates, so that the code is in use before it has a price.

# %% [markdown] lang="zh"
# β = 1 时编码也会变空：如果解码器不需要它。
# 这里的解码器还能通过对角线以上的矩阵看到阅读顺序中排在前面的像素（像语言模型一样是*自回归*的）。
# 相邻像素说出的信息是免费的，$z$ 说出的要付码率。同样的数据，β = 1，更新 300 次，三个种子。
# 还有一种常用的补救办法，*预热*（warm-up）：β 在前 200 次更新中从 0 升到 1，让编码在收费之前先用起来。

# %%
quiz(
    "autoregressive",
    en="With a decoder that sees the preceding pixels, the code carries … than with the plain one:",
    zh="与普通解码器相比，配上能看到前面像素的解码器，编码携带的信息：",
    choices={"more": "more · 更多", "as much": "as much · 一样多", "less": "less · 更少"},
)


# %%
class AutoregressiveVAE(VAE):
    """Adds to each pixel's logit a weighted sum of the pixels before it."""

    def __init__(self, features: int, hidden_sizes: tuple[int, ...], latent: int) -> None:
        super().__init__(features, hidden_sizes, latent)
        self.before = nn.Parameter(torch.zeros(features, features))  # [from, to]

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> ELBO:
        mean, log_variance = self.encode(x)
        logits = self.decoder(reparametrize(mean, log_variance, noise)) + x @ self.before.triu(diagonal=1)
        return ELBO(bernoulli_log_likelihood(logits, x), gaussian_kl(mean, log_variance))


WARMUP = 200
autoregressive = train_stacked(
    [build(AutoregressiveVAE, seed) for _ in range(2) for seed in SEEDS],
    [1.0] * 6,
    warmups=[1.0] * 3 + [float(WARMUP)] * 3,
)
strong = {
    "plain decoder": measured[1.0],
    "autoregressive": [measure(vae) for vae in autoregressive[:3]],
    "autoregressive, warm-up": [measure(vae) for vae in autoregressive[3:]],
}
table(
    ["β = 1", *COLUMNS],
    [(name, *(written([each[column] for each in strong[name]]) for column in COLUMNS)) for name in strong],
)
less = all(a["rate"] < 0.8 * b["rate"] for a, b in zip(strong["autoregressive"], strong["plain decoder"], strict=True))
settle("autoregressive", "less" if less else "as much")

# %% [markdown] lang="en"
# The bound is better, the code emptier: by the likelihood alone one would not notice. With a stronger decoder (a deep
# autoregressive one, or a language model) the rate goes to zero. Warm-up brings the code back with the same decoder,
# the same loss at the end and a bound that is no worse, so that the empty code was not simply the optimum: early in training the code is still noise, the
# decoder learns to ignore it, the KL term pulls $q$ onto the prior, and then there is nothing to learn from.

# %% [markdown] lang="zh"
# 下界更好，编码却更空：只看似然不会察觉。换成更强的解码器（深的自回归网络、语言模型），码率会降到零。
# 同样的解码器、同样的最终损失，预热就让编码恢复，下界也不变差，可见空编码不单纯是最优解：
# 训练初期编码还只是噪声，解码器学会忽略它，KL 项把 $q$ 拉向先验，此后就没有什么可学的了。

# %% [markdown]
# ## Experiment: a tighter bound, and a walk · 实验：更紧的下界，以及插值

# %% [markdown] lang="en"
# How good are the models with β = 1 really? The ELBO says at least how good. With more draws the bound can only rise: 500 test
# digits, $K$ = 1, 8 and 64. And at last some pictures: new digits, and walks between two test digits, in the code and, for
# comparison, in the pixels.

# %% [markdown] lang="zh"
# β = 1 的模型到底有多好？ELBO 只说至少有多好。抽样越多，下界只会越高：500 张测试图，$K$ = 1、8、64。
# 最后是一些图：新的数字，以及两张测试图之间的插值，一行在编码空间，一行在像素空间作对比。

# %%
SAMPLE_COUNTS = (1, 8, 64)
with torch.no_grad():
    bounds = {}
    for count in SAMPLE_COUNTS:
        noise = torch.randn(count, 500, LATENT, generator=random)
        bounds[count] = [
            importance_weighted_bound(vae.importance_weights(test[:500], noise)).mean().item() for vae in vaes[1.0]
        ]
table(
    ["draws K", "bound, three seeds"], [(count, " ".join(f"{v:.2f}" for v in bounds[count])) for count in SAMPLE_COUNTS]
)

model = vaes[1.0][0]
walk = torch.linspace(0, 1, 12)[:, None]
with torch.no_grad():
    new = model.decoder(torch.randn(36, LATENT, generator=random)).sigmoid()
    rows = []
    for start, end in ((3, 5), (1, 7), (0, 6)):
        first, last = model.encode(test[shown[[start, end]]])[0]
        rows += [model.decoder((1 - walk) * first + walk * last).sigmoid()]
        rows += [(1 - walk) * test[shown[start]] + walk * test[shown[end]]]
figure, axes = plt.subplots(2, 1, figsize=(9, 7.4), layout="constrained", height_ratios=(1, 2))
axes[0].imshow(mosaic(list(new.view(3, 12, PIXELS))).numpy(), cmap="gray_r")
axes[0].set(xticks=[], yticks=[], title="New digits: codes from N(0, I), β = 1")
axes[1].imshow(mosaic(rows).numpy(), cmap="gray_r")
axes[1].set_yticks(
    [7 + 14 * place for place in range(6)],
    ["3 to 5: code", "pixels", "1 to 7: code", "pixels", "0 to 6: code", "pixels"],
)
axes[1].set(xticks=[], title="Interpolated in the code, and in the pixels")
show(figure, "samples")

# %% [markdown] lang="en"
# The bounds rise with every seed. Between two codes the decoder draws one stroke that changes its shape; between two pictures
# of pixels there are two strokes, each half black.

# %% [markdown] lang="zh"
# 每个种子的下界都随抽样数上升。在两个编码之间，解码器画的是一笔逐渐变形；在两张图的像素之间，则是两笔各半黑的重影。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Term by term on a trained VAE and 100 test digits, in float64: KL against `torch.distributions.kl_divergence`, the
# reconstruction against `Bernoulli.log_prob`, densities against `Normal.log_prob`; then the gradient of the whole loss with
# respect to every weight. And both estimates of the gradient in the VAE itself: with respect to the posterior mean of
# one digit, each from 2,000 draws.

# %% [markdown] lang="zh"
# 在训练好的 VAE 和 100 张测试图上逐项比较（float64）：KL 对照 `torch.distributions.kl_divergence`，
# 重建项对照 `Bernoulli.log_prob`，密度对照 `Normal.log_prob`；再比较整个损失对每个权重的梯度。
# 还有 VAE 自身的两种梯度估计：对一张图的后验均值求导，各抽 2,000 次。

# %%
double, x, noise = build(VAE, 0).double(), test[:100].double(), torch.randn(100, LATENT, generator=random).double()
double.load_state_dict(model.state_dict())
ours = double(x, noise)
mean, log_variance = double.encode(x)
q = Normal(mean, (0.5 * log_variance).exp())
z = mean + q.stddev * noise
theirs = ELBO(Bernoulli(logits=double.decoder(z)).log_prob(x).sum(dim=1), kl_divergence(q, Normal(0.0, 1.0)))
density = {"ours": gaussian_log_density(z, mean, log_variance), "torch": q.log_prob(z).sum(dim=1)}
weights = list(double.parameters())
loss_gradients = [
    torch.cat([each.flatten() for each in torch.autograd.grad(loss, weights, retain_graph=True)])
    for loss in (ours.loss(), -(theirs.log_likelihood - theirs.kl.sum(dim=1)).mean())
]

spreads = []
for seed, vae in enumerate(vaes[1.0]):
    with torch.no_grad():
        one_mean, one_log_variance = vae.encode(test[:1])
    sample_noise = torch.randn(2000, LATENT, generator=random)
    z = reparametrize(one_mean, one_log_variance, sample_noise).requires_grad_()
    likelihoods = bernoulli_log_likelihood(vae.decoder(z), test[:1])
    (by_path,) = torch.autograd.grad(likelihoods.sum(), z)  # [draws, latent]; z moves as its mean does
    by_score = (likelihoods - likelihoods.mean()).detach()[:, None] * (z.detach() - one_mean) / one_log_variance.exp()
    apart = (by_path.mean(dim=0) - by_score.mean(dim=0)).abs()
    error = (by_path.var(dim=0) + by_score.var(dim=0)).div(2000).sqrt()
    used = gaussian_kl(one_mean, one_log_variance)[0].argmax()  # the coordinate that tells most
    spreads.append(
        (seed, by_path.std(dim=0)[used].item(), by_score.std(dim=0)[used].item(), (apart / error).max().item())
    )
table(["seed", "std, reparametrized", "std, score function with baseline", "means apart, in standard errors"], spreads)
center = torch.tensor(MU, dtype=torch.float64, requires_grad=True)
log_density = gaussian_log_density(draws[:, None], center, torch.tensor(2 * math.log(SIGMA), dtype=torch.float64))
(by_surrogate,) = torch.autograd.grad(score_function_surrogate(value, log_density), center)

# %% [markdown]
# ## Checks · 检验

# %%
check_close(
    "by hand: −0.627, 0.818, −1.445",
    [hand.log_likelihood.item(), hand.kl.item(), hand.bound.item()],
    [-0.6265, 0.8181, -1.4446],
    1e-3,
)
check_close("by hand: both gradients have the mean −4", [pathwise_pair.mean(), score_pair.mean()], [-4.0, -4.0])
check_close("the reconstruction equals Bernoulli.log_prob", ours.log_likelihood, theirs.log_likelihood, 1e-9)
check_close("the KL terms equal kl_divergence", ours.kl, theirs.kl, 1e-9)
check_close("the density equals Normal.log_prob", density["ours"], density["torch"], 1e-9)
check_close("the gradient of the loss by every weight", *loss_gradients, 1e-9)
for name, _, _, total in gaps:
    check_close(f"ELBO and gap add up to log p(x): q is {name}", total, evidence, 1e-6)
check_close("q is the posterior: no gap", gaps[2][1], evidence, 1e-6)
for name, each in estimates.items():
    error = each.std().item() / math.sqrt(DRAWS)
    check(f"{name}: the mean is −4 within five standard errors", abs(each.mean().item() + 4) < 5 * error)
check_close("the surrogate's gradient is their mean", by_surrogate, estimates["score function"].mean(), 1e-9)
check_close(
    "the deviations are 2σ and √123.75",
    [estimates["reparametrized"].std(), estimates["score function"].std()],
    [1.0, math.sqrt(123.75)],
    0.05,
)
check("in the VAE the two agree in the mean, with every seed", max(row[3] for row in spreads) < 5)
check(
    "and the score function's, even with a baseline, spreads at least twice as far",
    all(row[2] > 2 * row[1] for row in spreads),
)
for column, sign in (("rate", -1), ("distortion", 1)):
    check(
        f"the {column} {'falls' if sign < 0 else 'grows'} with β, with every seed",
        all(
            sign * (measured[dearer][seed][column] - measured[beta][seed][column]) > 0
            for beta, dearer in pairwise(BETAS)
            for seed in SEEDS
        ),
    )
check(
    "the bound is best at β = 1, with every seed",
    all(max(BETAS, key=lambda beta, seed=seed: measured[beta][seed]["bound"]) == 1.0 for seed in SEEDS),
)
check(
    "β = 16: no rate, no active coordinate", all(each["rate"] < 0.01 and not each["active"] for each in measured[16.0])
)
check("and every code decodes to the same picture", (sampled[3] - sampled[3].mean(dim=0)).abs().max() < 0.05)
check(
    "an autoregressive decoder: a better bound with a lower rate, with every seed",
    all(
        a["bound"] > b["bound"] + 0.5 and a["rate"] < 0.8 * b["rate"]
        for a, b in zip(strong["autoregressive"], strong["plain decoder"], strict=True)
    ),
)
check(
    "warm-up brings the rate back at no cost in the bound, with every seed",
    all(
        a["rate"] > 1.4 * b["rate"] and a["bound"] > b["bound"] - 0.1
        for a, b in zip(strong["autoregressive, warm-up"], strong["autoregressive"], strict=True)
    ),
)
check(
    "more draws tighten the bound, with every seed",
    all(bounds[1][seed] < bounds[8][seed] - 0.3 < bounds[64][seed] - 0.5 for seed in SEEDS),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The first stage of Stable Diffusion is a VAE with a tiny β: its code is 48 times smaller than the picture, and diffusion works
# there; `uv run lesson run 08/08` builds one. VAEs also find outliers (a low bound), fill in missing pixels, and compress.
# As generators by themselves they have given way to GANs (08/01) and diffusion (08/06), whose samples are sharper.
#
# Papers: [Kingma & Welling 2014](https://arxiv.org/abs/1312.6114), the VAE; [Rezende et al.
# 2014](https://arxiv.org/abs/1401.4082), the same at the same time; [Higgins et al.
# 2017](https://openreview.net/forum?id=Sy2fzU9gl), β; [Alemi et al. 2018](https://arxiv.org/abs/1711.00464), rate and distortion;
# [Burda et al. 2016](https://arxiv.org/abs/1509.00519), the tighter bound and active units; [Bowman et al.
# 2016](https://arxiv.org/abs/1511.06349), collapse beside a language model, and warm-up; [Williams
# 1992](https://doi.org/10.1007/BF00992696), the score function's gradient. Next: diffusion, 08/06.

# %% [markdown] lang="zh"
# Stable Diffusion 的第一级就是一个 β 极小的 VAE：编码比图小 48 倍，扩散在编码上进行；`uv run lesson run 08/08` 会搭一个。
# VAE 还能发现异常（下界低）、补全缺失的像素、压缩数据。单独作为生成器，它已让位于样本更清晰的 GAN（08/01）和扩散模型（08/06）。
#
# 论文：[Kingma & Welling 2014](https://arxiv.org/abs/1312.6114)，VAE；
# [Rezende 等 2014](https://arxiv.org/abs/1401.4082)，同时提出的同样方法；
# [Higgins 等 2017](https://openreview.net/forum?id=Sy2fzU9gl)，β；
# [Alemi 等 2018](https://arxiv.org/abs/1711.00464)，码率与失真；
# [Burda 等 2016](https://arxiv.org/abs/1509.00519)，更紧的下界与活跃坐标；
# [Bowman 等 2016](https://arxiv.org/abs/1511.06349)，配语言模型时的坍缩与预热；
# [Williams 1992](https://doi.org/10.1007/BF00992696)，得分函数梯度。下一课：扩散模型，08/06。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `reparametrize`, `gaussian_kl`, `gaussian_log_density`, `bernoulli_log_likelihood`, `importance_weighted_bound` and
# `score_function_surrogate` yourself. `uv run lesson exercise 08/05` makes a file with their signatures, `uv run lesson
# check 08/05` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `reparametrize`、`gaussian_kl`、`gaussian_log_density`、`bernoulli_log_likelihood`、
# `importance_weighted_bound` 和 `score_function_surrogate`。
# `uv run lesson exercise 08/05` 生成带有签名的文件，`uv run lesson check 08/05` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. The standard deviation is the square root of the variance: in logarithms, half.
# 2. `gaussian_kl` keeps the coordinates apart, `[batch, latent]`; nothing is summed. It is 0 for μ = 0, log σ² = 0.
# 3. The log density of a Gaussian has three terms: squared distance over variance, log variance, $\log 2\pi$; all times −½,
#    summed over the last axis.
# 4. $\log \mathrm{sigmoid}(l) = l - \log(1 + e^l)$ and $\log(1 - \mathrm{sigmoid}(l)) = -\log(1 + e^l)$: write both at once with
#    $x$, and the last term with `F.softplus`.
# 5. The mean of $K$ weights, in logarithms: `logsumexp` over the draws, less $\log K$.
# 6. The surrogate's *gradient* is what counts. Values must not be differentiated: `.detach()`.

# %% [markdown] lang="zh"
# 1. 标准差是方差的平方根：取对数后就是一半。
# 2. `gaussian_kl` 让各坐标分开，`[batch, latent]`，不求和。μ = 0、log σ² = 0 时为 0。
# 3. 高斯的对数密度有三项：平方距离除以方差、对数方差、$\log 2\pi$；全部乘以 −½，对最后一轴求和。
# 4. $\log \mathrm{sigmoid}(l) = l - \log(1 + e^l)$，$\log(1 - \mathrm{sigmoid}(l)) = -\log(1 + e^l)$：
#    用 $x$ 把两者写成一式，最后一项用 `F.softplus`。
# 5. $K$ 个权重的平均取对数：对抽样做 `logsumexp`，再减去 $\log K$。
# 6. 重要的是这个标量的*梯度*。函数值不能参与求导：`.detach()`。


# %%
@exercise(
    reparametrize, gaussian_kl, gaussian_log_density, bernoulli_log_likelihood, importance_weighted_bound,
    score_function_surrogate,
)  # fmt: skip
def judge(yours, reference):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def compare(claim, name, inputs, *others):
        """Compares values, then the gradients with respect to each of the inputs."""
        outputs = [getattr(each, name)(*inputs, *others) for each in (yours, reference)]
        check(f"{claim}: the shape is {list(outputs[1].shape)}", outputs[0].shape == outputs[1].shape)
        check_close(claim, *outputs, 1e-9)
        mine, theirs = (torch.autograd.grad(output.square().sum(), inputs) for output in outputs)
        for number, (one, other) in enumerate(zip(mine, theirs, strict=True), start=1):
            check_close(f"{claim}: the gradient of argument {number}", one, other, 1e-9)

    mean, log_variance = draw(5, 3).requires_grad_(), draw(5, 3).requires_grad_()
    compare("reparametrize", "reparametrize", (mean, log_variance), draw(5, 3))
    compare("reparametrize with several draws", "reparametrize", (mean, log_variance), draw(4, 5, 3))
    zero = torch.zeros(2, 3, dtype=torch.float64)
    check_close("gaussian_kl of the standard normal is 0", yours.gaussian_kl(zero, zero), zero)
    compare("gaussian_kl", "gaussian_kl", (mean, log_variance))
    compare("gaussian_log_density", "gaussian_log_density", (draw(5, 3).requires_grad_(), mean, log_variance))
    compare(
        "gaussian_log_density of several draws",
        "gaussian_log_density",
        (draw(4, 5, 3).requires_grad_(), mean, log_variance),
    )
    x = (draw(5, 7) > 0).double()
    compare("bernoulli_log_likelihood", "bernoulli_log_likelihood", ((3 * draw(5, 7)).requires_grad_(),), x)
    far = torch.tensor([[-800.0, 800.0]], dtype=torch.float64)
    mine, theirs = (each.bernoulli_log_likelihood(far, torch.zeros_like(far)) for each in (yours, reference))
    check_close("bernoulli_log_likelihood of logits −800 and 800", mine, theirs)
    compare("importance_weighted_bound of one draw", "importance_weighted_bound", (draw(1, 5).requires_grad_(),))
    compare("importance_weighted_bound of six draws", "importance_weighted_bound", (draw(6, 5).requires_grad_(),))
    small = yours.importance_weighted_bound(torch.full((3, 2), -2000.0, dtype=torch.float64))
    check_close("importance_weighted_bound of weights e^−2000", small, torch.full((2,), -2000.0))
    center = draw(1).requires_grad_()
    z = center.detach() + draw(50)
    results = []
    for each in (yours, reference):
        surrogate = each.score_function_surrogate((z - center).square(), -(z - center).square() / 2)
        results.append(torch.autograd.grad(surrogate, center)[0])
    check_close("score_function_surrogate: the gradient, through the log density only", *results, 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Derive the ELBO. How large is the gap? · 推导 ELBO，差距有多大？

# %% [markdown] lang="en"
# $\log p(x) = \log p(x, z) - \log p(z \mid x)$ for every $z$; subtract and add $\log q(z \mid x)$ and average over $q$. That gives
# $\log p(x) = \mathrm{ELBO} + \mathrm{KL}(q \Vert p(z \mid x))$: the gap is the divergence of $q$ from the true posterior. Part of
# it comes from the family (a Gaussian with independent coordinates), part from one encoder having to serve all images (the
# amortization gap).

# %% [markdown] lang="zh"
# 对每个 $z$，$\log p(x) = \log p(x, z) - \log p(z \mid x)$；减去再加上 $\log q(z \mid x)$，对 $q$ 取平均，
# 得到 $\log p(x) = \mathrm{ELBO} + \mathrm{KL}(q \Vert p(z \mid x))$：差距就是 $q$ 对真后验的散度。
# 一部分来自分布族（坐标独立的高斯），一部分来自一个编码器要服务所有图像（摊销差距）。

# %%
for name, bound, gap, _ in gaps:
    print(f"  q is {name}: ELBO {bound:.3f}, gap {gap:.3f}, together {bound + gap:.3f}; log p(x) is {evidence:.3f}")

# %% [markdown]
# ### Why reparametrize, and when is it impossible? · 为什么要重参数化，什么时候做不到？

# %% [markdown] lang="en"
# The draw of $z$ depends on the encoder's output, and one cannot differentiate a draw. $z = \mu + \sigma\varepsilon$ moves the
# randomness to the side, and the derivative of the decoder reaches the encoder. The score function's gradient is unbiased as
# well and needs only values, but varies far more. It is what remains where $z$ is discrete or $f$ has no derivative
# (reinforcement learning), or one relaxes the draw (Gumbel–softmax) or passes the gradient straight through.

# %% [markdown] lang="zh"
# $z$ 的抽样依赖编码器的输出，而抽样不能求导。$z = \mu + \sigma\varepsilon$ 把随机性移到旁边，解码器的导数就能传到编码器。
# 得分函数梯度也无偏，只需要函数值，但方差大得多。当 $z$ 离散或 $f$ 没有导数时（强化学习）只能用它，
# 或者把抽样松弛（Gumbel–softmax），或用直通估计。

# %%
for seed, path_std, score_std, _ in spreads:
    print(
        f"  VAE, seed {seed}: std {path_std:.2f} reparametrized, {score_std:.2f} by the score function with a baseline"
    )

# %% [markdown]
# ### What is posterior collapse, and what helps? · 什么是后验坍缩，怎么办？

# %% [markdown] lang="en"
# $q(z \mid x) \approx p(z)$ for all images, in some or all coordinates: the code tells nothing. It is measured by the rate and the
# active units, not seen in the loss. Causes: a decoder that does without (autoregressive), too high a β, and the start of
# training, when the code is still noise. Helps: warm-up of β, a free allowance of nats for each coordinate, a weaker
# decoder, more encoder updates. A few unused coordinates are no fault: the ELBO prunes what does not pay.

# %% [markdown] lang="zh"
# 对所有图像都有 $q(z \mid x) \approx p(z)$，部分或全部坐标如此：编码什么也没说。要用码率和活跃坐标来测，从损失上看不出来。
# 原因：解码器不需要编码（自回归）；β 太大；训练初期编码还只是噪声。
# 办法：β 预热；每个坐标给一份免费的 nat；削弱解码器；多更新编码器。少数坐标没用上并不是毛病：ELBO 会剪掉不划算的。

# %%
for name in strong:
    print(f"  {name}: rate {written([each['rate'] for each in strong[name]])} nats")
print(f"  β = 16: rate {max(each['rate'] for each in measured[16.0]):.1e} nats, active {measured[16.0][0]['active']}")

# %% [markdown]
# ### What does β trade? · β 在权衡什么？

# %% [markdown] lang="en"
# Rate against distortion: each β finds the point of the curve where another nat in the code saves β nats of distortion. β = 1 is
# the likelihood's bound. β > 1 gives simpler codes, sometimes with one factor of variation a coordinate; β < 1 gives sharper
# reconstructions, but codes that do not fill the prior, so that samples get worse.

# %% [markdown] lang="zh"
# 码率与失真：每个 β 找到曲线上的一点，在那里编码多一个 nat 能省下 β 个 nat 的失真。β = 1 是似然的下界。
# β > 1 编码更简单，有时一个坐标对应一个变化因素；β < 1 重建更清楚，但编码填不满先验，样本变差。

# %%
for beta in BETAS[:3]:
    mean, log_variance = vaes[beta][0].encode(test)
    total = (mean.var(dim=0) + log_variance.exp().mean(dim=0)).detach()
    print(
        f"  β = {beta}: rate {measured[beta][0]['rate']:.1f}, distortion {measured[beta][0]['distortion']:.1f}; "
        f"variance of all codes together {total.min():.2f} to {total.max():.2f} a coordinate (the prior's: 1)"
    )

# %% [markdown]
# ### Why are samples of a VAE blurred? · VAE 的样本为什么模糊？

# %% [markdown] lang="en"
# Shown are the decoder's probabilities, a mean over all images that may belong to $z$: pixels are independent given $z$, so that
# what the code leaves open (the rate is limited) becomes grey. And maximum likelihood punishes missing an image more than drawing
# impossible ones, so that the model covers too much. A sharper decoder (autoregressive, diffusion) or an adversarial loss
# helps.

# %% [markdown] lang="zh"
# 展示的是解码器给出的概率，即对所有可能属于 $z$ 的图像的平均：给定 $z$ 后像素独立，编码没说清的（码率有限）就变成灰色。
# 而且最大似然对漏掉一张图的惩罚重于画出不可能的图，所以模型覆盖得过宽。更强的解码器（自回归、扩散）或对抗损失会有帮助。

# %%
for beta in BETAS[:3]:
    probabilities = vaes[beta][0].decoder(vaes[beta][0].encode(test)[0]).sigmoid()
    grey = ((probabilities > 0.1) & (probabilities < 0.9)).float().mean()
    print(f"  β = {beta}: {grey:.0%} of the pixels are neither black nor white (0.1 to 0.9)")

# %% [markdown]
# ### How is the likelihood of a VAE reported? · 怎样报告 VAE 的似然？

# %% [markdown] lang="en"
# By the importance-weighted bound with many draws (often 5,000) on test data, in nats, or in bits for each dimension:
# nats / (dimensions · log 2). The ELBO alone mixes model and encoder. Compare only for the same treatment of the data:
# binarized once, binarized anew each time, or grey values.

# %% [markdown] lang="zh"
# 用测试数据上多次抽样（常用 5,000 次）的重要性加权下界，单位 nat，或每维比特数：nat / (维数 · log 2)。
# 只看 ELBO 会把模型和编码器混在一起。只有数据处理方式相同才能比较：一次性二值化、每次重新二值化、或灰度值。

# %%
for count in SAMPLE_COUNTS:
    nats = sum(bounds[count]) / len(SEEDS)
    print(f"  {count} draws: {nats:.2f} nats, {-nats / (PIXELS * math.log(2)):.3f} bits a pixel")
