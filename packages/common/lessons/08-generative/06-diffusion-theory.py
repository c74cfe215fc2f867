# %% [markdown]
# # Diffusion theory · 扩散模型理论

# %% [markdown] lang="en"
# After this lesson you can add noise to data in one step and in a thousand, reverse a step exactly where the data is known,
# derive the training loss from the likelihood bound, and say why predicting the noise, the data or the velocity is one
# and the same model. You need normal distributions and Bayes' rule (02/06), KL divergence (02/07) and the bound of the
# VAE (08/05).

# %% [markdown] lang="zh"
# 学完本课，你能一步或分一千步地给数据加噪，能在已知 $x_0$ 时精确地反转一步，能从似然的下界推出训练损失，
# 并能说明为什么预测噪声、预测数据、预测速度是同一个模型。
# 先修：正态分布与贝叶斯公式（02/06）、KL 散度（02/07）、VAE 的下界（08/05）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.generative.ddpm import bound_coefficients, ddpm_sample, ddpm_step, diffusion_loss, posterior
from dlcommon.generative.noise_schedules import NoiseSchedule, cosine_betas, linear_betas
from dlcommon.generative.prediction_types import training_target, x0_and_noise
from dlcommon.generative.unet_blocks import timestep_embedding
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal, kl_divergence

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# We can draw noise, and we can train networks by regression. Can we make one picture out of the other? Pair each noise
# vector with a random picture and regress: the best answer to all noise alike is the average of all pictures, a
# grey blur. The step from noise to data is too large for regression, since everything is still possible.
#
# So take small steps. Destroying is easy: add a little noise, a thousand times, until nothing is left. If a single
# step is small enough, it can be undone by regression: given the slightly noisier picture, little is uncertain. This
# lesson does all of it in one dimension, where we know the right answer to every question; the next one does it with
# pictures.

# %% [markdown] lang="zh"
# 我们会抽取噪声，也会用回归训练网络。能把噪声变成图片吗？把每个噪声向量随机配一张图片做回归：
# 对任何噪声，最好的回答都是所有图片的平均，一片灰蒙蒙的模糊。从噪声到数据这一步对回归来说太大了，因为一切都还有可能。
#
# 那就走小步。破坏很容易：加一点噪声，重复一千次，直到什么都不剩。如果每一步足够小，就能用回归撤销它：
# 看到只多了一点噪声的图片，不确定的东西很少。本课在一维中把这些全部做一遍，那里每个问题都有已知的正确答案；下一课换成图片。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Forward.* The data is one number, $x_0 = 1$. Two steps, each keeps the share $\alpha = 0.5$ of the variance and adds noise of
# variance $\beta = 0.5$: $x_1 = \sqrt{0.5}\, x_0 + \sqrt{0.5}\, z_1$. With the draws $z_1 = 0.4$ and $z_2 = -1$: $x_1 = 0.707 + 0.283 =
# 0.990$ and $x_2 = 0.707 \cdot 0.990 - 0.707 = -0.007$. Over all draws, $x_2$ has the mean $0.5$ and the variance $0.5 \cdot 0.5 +
# 0.5 = 0.75$. Both follow from $\bar\alpha_2 = 0.5 \cdot 0.5 = 0.25$: the mean is $\sqrt{0.25}\, x_0$, the variance $1 - 0.25$.
# No need to walk: one jump of noise does the same.
#
# *Backward, if $x_0$ is known.* Where was $x_1$, given $x_0 = 1$ and $x_2 = -0.007$? Both neighbors pull: the mean is
# $0.471\, x_0 + 0.471\, x_2 = 0.468$, the variance $0.333$.
#
# *If it is not known.* Let the data be $+1$ or $-1$, equally often, and $x_2 = 1$. The densities at 1 have the ratio
# $e^{2 \cdot 0.5 / 0.75} = 3.79$, so $+1$ has the probability $0.791$, and the best guess of $x_0$ is $0.791 - 0.209 = 0.583$. The
# best guess of the noise is then $(1 - 0.5 \cdot 0.583) / \sqrt{0.75} = 0.818$. That guess is all that a network has to learn.

# %% [markdown] lang="zh"
# *前向。*数据是一个数 $x_0 = 1$。走两步，每步保留方差的 $\alpha = 0.5$，加入方差为 $\beta = 0.5$ 的噪声：
# $x_1 = \sqrt{0.5}\, x_0 + \sqrt{0.5}\, z_1$。抽到 $z_1 = 0.4$、$z_2 = -1$ 时，$x_1 = 0.707 + 0.283 = 0.990$，
# $x_2 = 0.707 \cdot 0.990 - 0.707 = -0.007$。对所有抽样而言，$x_2$ 的均值是 $0.5$，方差是 $0.5 \cdot 0.5 + 0.5 = 0.75$。
# 两者都可由 $\bar\alpha_2 = 0.5 \cdot 0.5 = 0.25$ 得到：均值为 $\sqrt{0.25}\, x_0$，方差为 $1 - 0.25$。不必一步步走，一次跳跃就行。
#
# *反向，已知 $x_0$。*已知 $x_0 = 1$、$x_2 = -0.007$，$x_1$ 在哪里？两个邻居各拉一把：
# 均值是 $0.471\, x_0 + 0.471\, x_2 = 0.468$，方差是 $0.333$。
#
# *不知道 $x_0$。*设数据以相同概率取 $+1$ 或 $-1$，看到 $x_2 = 1$。两者在 1 处的密度之比是 $e^{2 \cdot 0.5 / 0.75} = 3.79$，
# 所以 $+1$ 的概率是 $0.791$，$x_0$ 的最佳猜测是 $0.791 - 0.209 = 0.583$，
# 噪声的最佳猜测是 $(1 - 0.5 \cdot 0.583) / \sqrt{0.75} = 0.818$。网络要学的就只是这个猜测。

# %%
by_hand = NoiseSchedule(torch.tensor([0.5, 0.5]))
one = torch.tensor([1.0])
walked = [one]
for z in (0.4, -1.0):
    walked.append(math.sqrt(0.5) * walked[-1] + math.sqrt(0.5) * z)
undone = posterior(one, walked[2], by_hand.alpha_bar(1, one), by_hand.alpha_bar(0, one))
positive = torch.sigmoid(torch.tensor(2 * 0.5 / 0.75))
guessed_x0 = 2 * positive - 1
guessed_noise = (1 - 0.5 * guessed_x0) / math.sqrt(0.75)
table(
    ["x_1", "x_2", "mean of x_1, x_0 known", "variance", "P(x_0 = 1 | x_2 = 1)", "best x_0", "best noise"],
    [tuple(float(each) for each in (walked[1], walked[2], *undone, positive, guessed_x0, guessed_noise))],
)

drawing = Schematic(13.6, 3.2, "Forward: noise is added by a fixed rule. Backward: each step is learned")
for name, x, text in (
    ("x0", 1.2, "x₀: data"), ("x1", 4.0, "x₁"), ("dots", 6.8, "…"), ("xs", 9.6, "x_T−1"), ("xT", 12.4, "x_T: noise"),
):  # fmt: skip
    drawing.box(name, x, 1.6, text, "data", 1.7)
for start, end in (("x0", "x1"), ("x1", "dots"), ("dots", "xs"), ("xs", "xT")):
    drawing.arrow(start, end, bend=0.35)
    drawing.arrow(end, start, bend=0.35, dashed=True)
for x in (2.6, 11.0):
    drawing.text(x, 2.45, "+ noise")
    drawing.text(x, 0.75, "network, then a little noise")
show(drawing.figure, "chain")

# %% [markdown]
# ## Formula · 公式
#
# $$q(x_t \mid x_{t-1}) = \mathcal N\big(\sqrt{\alpha_t}\, x_{t-1},\ \beta_t I\big), \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \qquad \mathrm{SNR}_t = \frac{\bar\alpha_t}{1 - \bar\alpha_t}$$
#
# $$q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t, \tilde\beta_t I), \qquad \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, x_0 + \frac{\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t, \qquad \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t$$
#
# $$-\log p_\theta(x_0) \le \mathbb E_q \Big[ D\big(q(x_T \mid x_0) \,\|\, p(x_T)\big) + \sum_{t=2}^T D\big(q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t)\big) - \log p_\theta(x_0 \mid x_1) \Big]$$
#
# $$D\big(q(x_{t-1} \mid x_t, x_0) \,\|\, p_\theta(x_{t-1} \mid x_t)\big) = \frac{\beta_t^2}{2 \sigma_t^2 \alpha_t (1 - \bar\alpha_t)} \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2 + C_t, \qquad L_{\text{simple}} = \mathbb E_{t, x_0, \epsilon} \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2$$
#
# $$v = \sqrt{\bar\alpha_t}\, \epsilon - \sqrt{1 - \bar\alpha_t}\, x_0, \qquad \mathbb E[\epsilon \mid x_t] = -\sqrt{1 - \bar\alpha_t}\ \nabla \log q_t(x_t)$$

# %% [markdown] lang="en"
# - $x_0$: data, `[batch, ...]`, scaled to a variance of about 1; $x_t$: the data after $t$ steps of noise, $t = 1, \dots, T$.
#   The code counts steps from 0, as diffusers does: its timestep 0 is $t = 1$ here, and timestep −1 is the clean data.
# - $\beta_t$: the variance that step $t$ adds; $\alpha_t = 1 - \beta_t$: the share of the variance that it keeps.
# - $\bar\alpha_t = \alpha_1 \cdots \alpha_t$: the share of the data's variance that is left; $\epsilon$: standard normal noise, shaped
#   like $x_0$ (Ho et al. 2020, equation 4).
# - $q$: the forward process, fixed; $\tilde\mu_t, \tilde\beta_t$: mean and variance of its reversal where $x_0$ is known (equations 6
#   and 7).
# - $p_\theta(x_{t-1} \mid x_t)$: the learned reversal, normal with the mean $\tilde\mu_t$ for the guessed $x_0$ and the variance
#   $\sigma_t^2$; $p(x_T)$: standard normal.
# - $D$: KL divergence. The third line is the bound of a VAE with $T$ latent variables whose encoder is fixed (equation 5); in
#   the fourth, $C_t$ does not depend on the network and is 0 for $\sigma_t^2 = \tilde\beta_t$ (equation 12); $L_{\text{simple}}$ leaves the
#   factor out (equation 14).
# - $\epsilon_\theta(x_t, t)$: the network's guess of the noise; $v$: the velocity, which it may guess instead (Salimans & Ho 2022).
# - $q_t$: the density of $x_t$; $\nabla \log q_t$: its *score*, which points to where the density rises (Tweedie's formula).

# %% [markdown] lang="zh"
# - $x_0$：数据，`[batch, ...]`，缩放到方差约为 1；$x_t$：加了 $t$ 步噪声后的数据，$t = 1, \dots, T$。
#   代码与 diffusers 一样从 0 数起：代码的时间步 0 就是这里的 $t = 1$，时间步 −1 是干净的数据。
# - $\beta_t$：第 $t$ 步加入的方差；$\alpha_t = 1 - \beta_t$：这一步保留的方差比例。
# - $\bar\alpha_t = \alpha_1 \cdots \alpha_t$：数据的方差剩下的比例；$\epsilon$：标准正态噪声，形状与 $x_0$ 相同（Ho 等 2020，式 4）。
# - $q$：固定的前向过程；$\tilde\mu_t, \tilde\beta_t$：已知 $x_0$ 时反转一步的均值和方差（式 6、7）。
# - $p_\theta(x_{t-1} \mid x_t)$：学到的反转，正态分布，均值是把猜测的 $x_0$ 代入 $\tilde\mu_t$，方差是 $\sigma_t^2$；$p(x_T)$：标准正态。
# - $D$：KL 散度。第三行是一个有 $T$ 层隐变量、编码器固定的 VAE 的界（式 5）；
#   第四行中 $C_t$ 与网络无关，$\sigma_t^2 = \tilde\beta_t$ 时为 0（式 12）；$L_{\text{simple}}$ 去掉了前面的系数（式 14）。
# - $\epsilon_\theta(x_t, t)$：网络对噪声的猜测；$v$：速度，也可以改为预测它（Salimans 与 Ho 2022）。
# - $q_t$：$x_t$ 的密度；$\nabla \log q_t$：它的*得分*（score），指向密度上升的方向（Tweedie 公式）。

# %% [markdown]
# ## Code · 代码

# %%
source(NoiseSchedule.add_noise)
source(posterior)
source(training_target)
source(x0_and_noise)
source(ddpm_step)
source(diffusion_loss)

# %% [markdown] lang="en"
# `add_noise` looks $\bar\alpha_t$ up for each sample, `[batch, 1, …, 1]`, and jumps. `diffusion_loss` is the whole training: draw a
# timestep for each sample, draw noise, jump, let the network guess, and compare. No chain is ever walked in training.
#
# `x0_and_noise` turns any prediction into a guess of $x_0$; `ddpm_step` puts it into the posterior, as if it were true, and
# draws. The posterior is written for any earlier timestep $s$, not only $t - 1$: then $\alpha$ is the product over all
# steps between, $\bar\alpha_t / \bar\alpha_s$, and sampling may skip timesteps.
#
# The variance is a choice, since the true reversal is no normal distribution: $\tilde\beta_t$ (`fixed_small`) is right if the data
# is one point, $\beta_t$ (`fixed_large`) if it is standard normal. They differ in the first few timesteps only, the last
# of sampling. A network may also learn to mix them (`learned_range`, Nichol & Dhariwal 2021).

# %% [markdown] lang="zh"
# `add_noise`为每个样本查出 $\bar\alpha_t$，`[batch, 1, …, 1]`，一步跳到位。`diffusion_loss` 就是训练的全部：
# 为每个样本抽一个时间步，抽噪声，跳跃，让网络猜，再比较。训练时从不走完整条链。
#
# `x0_and_noise` 把任何一种预测换成对 $x_0$ 的猜测；`ddpm_step` 把它当作真的代入后验，再抽样。
# 后验是对任意更早的时间步 $s$ 写的，不限于 $t - 1$：这时 $\alpha$ 是中间各步的乘积 $\bar\alpha_t / \bar\alpha_s$，所以采样可以跳步。
#
# 方差可以选，因为真正的反转并不是正态分布：数据只有一个点时 $\tilde\beta_t$（`fixed_small`）是对的，
# 数据是标准正态时 $\beta_t$（`fixed_large`）是对的。两者只在最初几个时间步不同，也就是采样的最后几步。
# 网络也可以学着在两者之间取值（`learned_range`，Nichol 与 Dhariwal 2021）。

# %% [markdown]
# ## Experiment: a thousand steps and one jump · 实验：一千步与一次跳跃

# %% [markdown] lang="en"
# The data of this lesson: 30 % come from a narrow peak at −1.2, 70 % from a broad one at 0.6. We walk all 1000 steps of
# DDPM's linear schedule with 5,000 samples, and compare with the jump. The distance between two sets of numbers is
# measured by sorting both: the mean difference of the sorted numbers (Wasserstein distance).

# %% [markdown] lang="zh"
# 本课的数据：30 % 来自 −1.2 处的窄峰，70 % 来自 0.6 处的宽峰。用 5,000 个样本走完 DDPM 线性调度的全部 1000 步，与一次跳跃比较。
# 两组数之间的距离这样量：各自排序，取对应数之差的平均（Wasserstein 距离）。

# %%
quiz(
    "half",
    en="Linear schedule, 1000 steps: after how many of them is there more noise than data (SNR below 1)?",
    zh="线性调度共 1000 步：多少步之后噪声多于数据（SNR 小于 1）？",
)

# %%
SEEDS = (0, 1, 2)
SHARES, MEANS, STDS = torch.tensor([0.3, 0.7]), torch.tensor([-1.2, 0.6]), torch.tensor([0.15, 0.35])
linear, cosine = NoiseSchedule(linear_betas()), NoiseSchedule(cosine_betas())


def draw(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws data, [count, 1]."""
    peak = torch.multinomial(SHARES, count, replacement=True, generator=generator)
    return (MEANS[peak] + STDS[peak] * torch.randn(count, generator=generator))[:, None]


def distance(samples: torch.Tensor, truth: torch.Tensor) -> float:
    """Wasserstein distance of two sets of equal size."""
    return (samples.flatten().sort().values - truth.flatten().sort().values).abs().mean().item()


generator = torch.Generator().manual_seed(0)
clean = draw(5000, generator)
x, paths, rows, walking_error = clean, [clean[:40]], [], []
for step, beta in enumerate(linear.betas.tolist(), start=1):
    x = math.sqrt(1 - beta) * x + math.sqrt(beta) * torch.randn(x.shape, generator=generator)
    paths.append(x[:40])
    if step in (1, 50, 200, 500, 1000):
        jumped = linear.add_noise(clean, torch.randn(clean.shape, generator=generator), step - 1)
        walking_error.append(distance(x, jumped))
        rows.append(
            (step, float(x.mean()), float(jumped.mean()), float(x.std()), float(jumped.std()), walking_error[-1])
        )
table(["steps", "mean walked", "jumped", "std walked", "jumped", "distance"], rows)
more_noise = {name: int((s.snr() >= 1).sum()) for name, s in (("linear", linear), ("cosine", cosine))}
settle("half", more_noise["linear"])
table(
    ["schedule", "SNR below 1 from step", "√ᾱ at the end"],
    [
        (name, more_noise[name], float(s.alphas_cumprod[-1].sqrt()))
        for name, s in (("linear", linear), ("cosine", cosine))
    ],
)


def diffused(alpha_bar: torch.Tensor) -> MixtureSameFamily:
    """The true density of the noisy data, for ᾱ of [batch, 1]."""
    components = Normal(alpha_bar.sqrt() * MEANS, (alpha_bar * STDS.square() + 1 - alpha_bar).sqrt())
    return MixtureSameFamily(Categorical(SHARES.expand(len(alpha_bar), 2)), components)


grid = torch.linspace(-3, 3, 200)
density = torch.stack(
    [diffused(linear.alphas_cumprod[[t]].float()[:, None]).log_prob(grid).exp().flatten() for t in range(0, 1000, 5)]
)
figure, axes = plt.subplots(1, 3, figsize=(16, 4), layout="constrained")
axes[0].imshow(density.T.clamp(max=1.2).numpy(), extent=(0, 1000, -3, 3), origin="lower", aspect="auto", cmap="Greys")
axes[0].plot(range(0, 1001, 5), torch.stack(paths[::5])[:, :8, 0], linewidth=0.8)
axes[0].set(xlabel="steps", ylabel="x", title="Density (grey) and eight walks, linear schedule", ylim=(-3, 3))
for name, schedule in (("linear", linear), ("cosine", cosine)):
    axes[1].plot(schedule.alphas_cumprod.sqrt(), label=f"{name}: √ᾱ, what is left of the data")
    axes[2].plot(schedule.snr().log10(), label=name)
axes[1].set(xlabel="steps", title="Schedules")
axes[1].legend()
axes[2].axhline(0, color="grey", linestyle=":")
axes[2].set(xlabel="steps", ylabel="log10 SNR", title="Signal-to-noise ratio")
axes[2].legend()
show(figure, "forward")

# %% [markdown] lang="en"
# Walked or jumped, the numbers have the same distribution; what differs is chance. The linear schedule has more noise than
# data after a quarter of its steps already, so that most steps are spent where little is to be seen. The cosine
# schedule divides them evenly. Neither ends at exactly 0: a trace of the data is left (Lin et al. 2024 show what that
# does to very dark and very bright pictures).

# %% [markdown] lang="zh"
# 走一千步还是跳一次，得到的数分布相同，差别只是偶然。线性调度走完四分之一的步数，噪声就多于数据了，多数步数花在几乎看不见东西的地方。
# 余弦调度分配得均匀。两者的终点都不是恰好 0：还留有一丝数据（Lin 等 2024 说明了这对很暗和很亮的图片有什么影响）。

# %% [markdown]
# ## Experiment: back again, with the perfect guess · 实验：用完美的猜测走回来

# %% [markdown] lang="en"
# In one dimension the best guess of the noise can be computed: at $x_t$, each peak has a probability, and each peak has its
# score. No network is needed, so what goes wrong here is the fault of the steps alone. How many steps does it take, and
# which variance is better? 2,000 samples, three seeds; and the variational bound, against the true value of
# $-\mathbb E \log q(x_0)$, which no model can go below.

# %% [markdown] lang="zh"
# 一维时噪声的最佳猜测可以直接算出：在 $x_t$ 处，每个峰有一个概率，也有自己的得分。不需要网络，所以这里的任何误差都只来自步数。
# 需要多少步？哪种方差更好？每次 2,000 个样本，三个种子；
# 再计算变分界，与真实值 $-\mathbb E \log q(x_0)$ 比较，任何模型都不可能低于它。

# %%
quiz(
    "variance",
    en="Which variance of the steps is better when there are only 5 of them?",
    zh="只走 5 步时，哪种方差更好？",
    choices={"fixed_small": "β̃, the smaller · β̃，较小的", "fixed_large": "β, the larger · β，较大的"},
)

# %%


def exact_noise(schedule: NoiseSchedule):
    """Makes the denoiser whose guess E[ε | x_t] is exact."""

    def denoise(x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        alpha_bar = schedule.alpha_bar(timesteps, x)  # [batch, 1]
        means, variances = alpha_bar.sqrt() * MEANS, alpha_bar * STDS.square() + 1 - alpha_bar  # [batch, 2 peaks]
        peaks = (SHARES.log() - variances.log() / 2 - (x - means).square() / (2 * variances)).softmax(dim=1)
        score = (peaks * (means - x) / variances).sum(dim=1, keepdim=True)
        return -(1 - alpha_bar).sqrt() * score

    return denoise


truth = draw(400_000, torch.Generator().manual_seed(99)).flatten().sort().values[100::200]  # 2,000 quantiles
COUNTS = (5, 10, 30, 100, 300)
away: dict[tuple[int, str], list[float]] = {}
drawn: dict[int, torch.Tensor] = {}
for steps in COUNTS:
    schedule = NoiseSchedule(cosine_betas(steps))
    for variance in ("fixed_small", "fixed_large"):
        away[steps, variance] = []
        for seed in SEEDS:
            generator = torch.Generator().manual_seed(seed)
            start = torch.randn(2000, 1, generator=generator)
            samples = ddpm_sample(exact_noise(schedule), start, schedule, variance_type=variance, generator=generator)
            away[steps, variance].append(distance(samples, truth))
            if seed == 0 and variance == "fixed_small":
                drawn[steps] = samples
chance = [distance(draw(2000, torch.Generator().manual_seed(seed)), truth) for seed in SEEDS]


def written(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


table(
    ["steps", "distance with β̃, three seeds", "with β"],
    [(steps, written(away[steps, "fixed_small"]), written(away[steps, "fixed_large"])) for steps in COUNTS]
    + [("true data", written(chance), "")],
)
five = {variance: sum(away[5, variance]) for variance in ("fixed_small", "fixed_large")}
settle("variance", min(five, key=five.get))


def noise_errors(schedule: NoiseSchedule, denoise, count: int = 8000) -> torch.Tensor:
    """Mean squared errors of the guessed noise at each timestep, [T]."""
    generator, errors = torch.Generator().manual_seed(1), []
    for timestep in range(len(schedule)):
        data, noise = draw(count, generator), torch.randn(count, 1, generator=generator)
        guess = denoise(schedule.add_noise(data, noise, timestep), torch.full((count,), timestep))
        errors.append((noise - guess).square().mean())
    return torch.stack(errors)


entropy = -diffused(torch.ones(1, 1)).log_prob(draw(400_000, torch.Generator().manual_seed(3)).T).mean().item()
second_moment = (SHARES * (MEANS.square() + STDS.square())).sum()
terms, bound_gaps = {}, {"fixed_small": [], "fixed_large": []}
for steps in (10, 100, 1000):
    schedule = NoiseSchedule(cosine_betas(steps))
    errors, last = noise_errors(schedule, exact_noise(schedule)), schedule.alphas_cumprod[-1]
    of_noise = (last * second_moment + (1 - last) - 1 - torch.log(1 - last)) / 2  # divergence of x_T from p(x_T)
    for variance, values in bound_gaps.items():
        weights, constants = bound_coefficients(schedule, variance)
        terms[steps, variance] = torch.cat((weights * errors + constants, of_noise[None]))
        values.append(terms[steps, variance].sum().item() - entropy)
table(
    ["steps", "bound with β̃, nats", "too high by", "bound with β", "too high by"],
    [
        (steps, small + entropy, small, large + entropy, large)
        for steps, small, large in zip((10, 100, 1000), *bound_gaps.values(), strict=True)
    ],
)
print(f"  true value: {entropy:.4f}")

figure, axes = plt.subplots(1, 3, figsize=(16, 4), layout="constrained")
grid = torch.linspace(-2.5, 2.5, 300)
axes[0].plot(
    grid, diffused(torch.ones(1, 1)).log_prob(grid[None].T).exp().flatten(), color="black", label="true density"
)
for steps, color in ((5, "tab:red"), (30, "tab:blue")):
    axes[0].hist(
        drawn[steps].flatten().numpy(),
        bins=80,
        range=(-2.5, 2.5),
        density=True,
        histtype="step",
        color=color,
        label=f"{steps} steps",
    )
axes[0].set(xlabel="x", title="Samples by the exact guess, β̃")
axes[0].legend()
for variance, style in (("fixed_small", "-"), ("fixed_large", "--")):
    axes[1].plot(COUNTS, [sum(away[steps, variance]) / 3 for steps in COUNTS], f"o{style}", label=variance)
axes[1].axhline(sum(chance) / 3, color="grey", linestyle=":", label="true data: chance")
axes[1].set(
    xscale="log", yscale="log", xlabel="steps", ylabel="distance, mean of three seeds", title="Distance to the truth"
)
axes[1].legend()
axes[2].semilogy(bound_coefficients(cosine)[0], label="weight in the bound (β)")
axes[2].semilogy(terms[1000, "fixed_large"][1:-1], label="term of the bound, nats")
axes[2].axhline(1, color="grey", linestyle=":", label="weight in L_simple")
axes[2].set(xlabel="timestep", title="1000 steps: what the bound counts")
axes[2].legend()
show(figure, "backward")

# %% [markdown] lang="en"
# With the perfect guess, more steps come ever closer to the truth, and with many of them the samples cannot be told from
# data. With few steps they can, although the guess is perfect: the true reversal of a large step has two peaks, and we
# draw from one normal distribution. The bound tells the same story. With $\beta$ its gap closes as the steps shrink: it
# is what the normal approximation costs. With $\tilde\beta$ a gap remains for any number of steps. $\tilde\beta$ would be right if
# the data were a point; but seen through the little noise of the first timesteps, real data is spread evenly around
# $x_t$, and the reversal is as wide as $\beta$. Learned variances (Nichol & Dhariwal 2021) find this by themselves.
#
# The right figure shows why L_simple ignores the weights. The largest terms of the bound are those of the first few
# timesteps, where the noise is too weak to be seen; training on it would spend the network on that. With equal weights
# the middle timesteps count, in which the picture takes shape. (The weight rises again at the very end, where no guess
# can be far off: $x_t$ is the noise.)

# %% [markdown] lang="zh"
# 有了完美的猜测，步数越多越接近真实分布，步数足够多时样本与数据无法区分。步数少时就能区分，尽管猜测是完美的：
# 大步的真正反转有两个峰，而我们只从一个正态分布中抽样。变分界说的是同一件事。
# 用 $\beta$ 时，步子越小差距越小：这个差距就是正态近似的代价。用 $\tilde\beta$ 时，无论多少步都留有差距。
# 数据若是一个点，$\tilde\beta$ 就是对的；但透过最初几个时间步的那点噪声看去，真实数据在 $x_t$ 周围铺得很均匀，反转的宽度就是 $\beta$。
# 学习的方差（Nichol 与 Dhariwal 2021）能自己发现这一点。
#
# 右图说明 L_simple 为什么去掉权重。变分界中最大的项来自最初的几个时间步，那里的噪声弱得看不见；按它训练，网络的力气都花在那里。
# 权重相等时，中间的时间步才算数，而图片正是在那里成形的。（权重在最末端又升高，但那里怎么猜都不会差太多：$x_t$ 就是噪声。）

# %% [markdown]
# ## Experiment: learn the guess · 实验：学会猜测

# %% [markdown] lang="en"
# Now a small network has to learn the guess from data alone: three layers of 64 features, 500 updates, 100 timesteps.
# Nobody tells it the density or the score. Three seeds.

# %% [markdown] lang="zh"
# 现在让一个小网络只从数据中学会猜测：三层，每层 64 个特征，500 次更新，100 个时间步。没有人告诉它密度或得分。三个种子。

# %%
quiz(
    "floor",
    en="How low can L_simple get here for the perfect denoiser? (Guessing 0 costs 1.)",
    zh="对完美的去噪器，这里的 L_simple 能降到多低？（总猜 0 的损失是 1。）",
)

# %%
STEPS = 100
short = NoiseSchedule(cosine_betas(STEPS))


class Denoiser(nn.Module):
    """Guesses the noise in numbers [batch, 1] at timesteps [batch]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1 + 16, 64),
            nn.SiLU(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, 64),
            nn.SiLU(),
            nn.Linear(64, 1),
        )

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        # Stretched to 0 … 1000, so that the slower sinusoids move as well.
        return self.layers(torch.cat((x, timestep_embedding(timesteps * (1000 / STEPS), 16)), dim=1))


def learn(seed: int) -> tuple[Denoiser, list[float]]:
    torch.manual_seed(seed)
    denoiser, generator, losses = Denoiser(), torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=5e-3, fused=True)
    for update in range(500):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1.0, 2 - 2 * update / 500)  # falls in the second half
        loss = diffusion_loss(denoiser, draw(512, generator), short, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return denoiser, losses


perfect, generator = exact_noise(short), torch.Generator().manual_seed(7)
timesteps = torch.arange(STEPS).repeat_interleave(400)
data, noise = draw(len(timesteps), generator), torch.randn(len(timesteps), 1, generator=generator)
noisy = short.add_noise(data, noise, timesteps)
best = perfect(noisy, timesteps)
noise_variance = 1 - short.alpha_bar(timesteps, noisy)
noisy_moment = second_moment * (1 - noise_variance) + noise_variance  # E[x_t²]
linear_guess = noise_variance.sqrt() / noisy_moment * noisy  # E[ε x_t] / E[x_t²]: the best multiple of x_t


def error(first: torch.Tensor, second: torch.Tensor) -> float:
    return (first - second).square().mean().item()


floor = error(noise, best)
settle("floor", floor)
learned, curves = zip(*(learn(seed) for seed in SEEDS), strict=True)
rows, gaps, excess, reached = [], [], [], []
for seed, denoiser in zip(SEEDS, learned, strict=True):
    with torch.no_grad():
        guess = denoiser(noisy, timesteps)
    gaps.append(error(guess, best))
    excess.append(error(noise, guess) - floor)
    generator = torch.Generator().manual_seed(seed)
    made = ddpm_sample(denoiser, torch.randn(2000, 1, generator=generator), short, generator=generator)
    reached.append(distance(made, truth))
    rows.append((f"network, seed {seed}", floor + excess[-1], gaps[-1], reached[-1]))
rows += [("best linear guess", error(noise, linear_guess), error(linear_guess, best), "")]
rows += [("perfect guess", floor, 0.0, sum(away[100, "fixed_small"]) / 3)]
table(["denoiser", "L_simple", "error against the perfect guess", "distance of its samples"], rows)

figure, axes = plt.subplots(1, 3, figsize=(16, 4), layout="constrained")
for seed, losses in zip(SEEDS, curves, strict=True):
    axes[0].plot(torch.tensor(losses).view(-1, 10).mean(dim=1), label=f"seed {seed}")
axes[0].axhline(floor, color="black", linestyle=":", label="perfect guess")
axes[0].set(xlabel="updates / 10", ylabel="L_simple", title="Training", ylim=(0, 1))
axes[0].legend()
grid = torch.linspace(-2.5, 2.5, 200)[:, None]
for timestep, color in ((10, "tab:blue"), (40, "tab:orange"), (70, "tab:green")):
    at = torch.full((200,), timestep)
    with torch.no_grad():
        axes[1].plot(grid, learned[0](grid, at), color=color, label=f"timestep {timestep}: network")
    axes[1].plot(grid, perfect(grid, at), ":", color="black", label="perfect" if timestep == 70 else None)
axes[1].set(xlabel="x", ylabel="guessed noise", title="What the network has learned (seed 0)", ylim=(-3.5, 3.5))
axes[1].legend()
axes[2].plot(grid, diffused(torch.ones(1, 1)).log_prob(grid).exp().flatten(), color="black", label="true density")
axes[2].hist(made.flatten().numpy(), bins=60, range=(-2.5, 2.5), density=True, histtype="step", label="samples, seed 2")
axes[2].set(xlabel="x", title="100 steps with the learned guess")
axes[2].legend()
show(figure, "learned")

# %% [markdown] lang="en"
# The loss does not go to 0 and cannot: from $x_t$ alone the noise is not known, and the perfect guess, an average over what is
# possible, is wrong by as much as those possibilities differ. What a network loses *above* that floor is its squared
# distance to the perfect guess (the two middle columns of the table differ by the floor). So a regression on random
# noise finds $\mathbb E[\epsilon \mid x_t]$, and with it the score of a density that it has never seen. A loss curve of a
# diffusion model therefore says little by itself: without knowing the floor, 0.4 may be perfect. The middle figure shows
# where the network is wrong: between and beyond the peaks at little noise, where hardly any sample ever comes.

# %% [markdown] lang="zh"
# 损失不会降到 0，也不可能：只看 $x_t$ 并不知道噪声，完美的猜测是各种可能的平均，可能性之间差多大，它就错多少。
# 网络*高出*这个下限的部分，正是它与完美猜测的距离的平方（表中间两列之差就是下限）。
# 于是对随机噪声做回归就找到了 $\mathbb E[\epsilon \mid x_t]$，也就得到了一个它从未见过的密度的得分。
# 所以扩散模型的损失曲线本身说明不了多少：不知道下限，0.4 也许已经完美。
# 中图显示网络错在哪里：噪声很小时，在两峰之间和之外，那里几乎没有样本到过。

# %% [markdown]
# ## Experiment: three names of one guess · 实验：同一猜测的三个名字

# %% [markdown] lang="en"
# Noise, data and velocity: whoever knows one of them at $x_t$ knows all. But a network's small error means something else in
# each. An error of 0.1 in the prediction: how large is it in $\hat x_0$? (DDPM's linear schedule.)

# %% [markdown] lang="zh"
# 噪声、数据、速度：在 $x_t$ 处知道其中一个就知道全部。但网络的小误差在三者中的意义不同。
# 预测差 0.1，$\hat x_0$ 差多少？（DDPM 的线性调度。）

# %%
off, rows = {}, []
for timestep in (0, 100, 250, 500, 999):
    alpha_bar, x_t = linear.alpha_bar(timestep, one), torch.tensor([0.3])
    for kind in ("epsilon", "sample", "v_prediction"):
        first, second = (x0_and_noise(torch.tensor([value]), x_t, alpha_bar, kind)[0] for value in (0.5, 0.6))
        off[timestep, kind] = (first - second).abs().item()
    rows.append((timestep, *(off[timestep, kind] for kind in ("epsilon", "sample", "v_prediction"))))
table(["timestep", "predicted ε off by 0.1", "predicted x_0", "predicted v"], rows)

# %% [markdown] lang="en"
# Near pure noise a guess of the noise says next to nothing about the data: 0.1 becomes 15, and pictures are clipped to
# stay in range. The reverse holds near the data, where a guess of $x_0$ says little about the noise. The velocity is never
# worse than 1 in either direction, which is why it, or its sibling in flow matching (08/07), is what newer models predict.

# %% [markdown] lang="zh"
# 接近纯噪声时，对噪声的猜测几乎说不出数据是什么：0.1 变成 15，图片只好靠裁剪保持在范围内。接近数据时正相反，对 $x_0$ 的猜测说不出噪声。
# 速度在两个方向上的放大都不超过 1，所以较新的模型预测它，或者预测它在流匹配（08/07）中的近亲。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `diffusers` has all of this as a scheduler. With the same prediction and the same noise, `add_noise`, `get_velocity` and
# every step of the chain must be equal, for both variances; so must our score and the gradient that autograd takes of
# torch's mixture density, and our weighted error and torch's KL divergence. (`learned_range` and clipping are
# compared in this repository's tests.)

# %% [markdown] lang="zh"
# `diffusers` 把这一切做成了调度器（scheduler）。预测和噪声相同时，`add_noise`、`get_velocity` 和链上的每一步都必须相等，两种方差都是；
# 我们的得分必须等于 autograd 对 torch 混合密度求出的梯度，加权误差必须等于 torch 的 KL 散度。
# （`learned_range` 和裁剪在本仓库的测试中比较。）

# %%
random = torch.Generator().manual_seed(0)
pictures, added = (torch.randn(4, 3, 8, 8, generator=random) for _ in range(2))
places = torch.tensor([0, 10, 500, 999])
scheduler = DDPMScheduler(clip_sample=False)
noised = (linear.add_noise(pictures, added, places), scheduler.add_noise(pictures, added, places))
velocities = (
    training_target(pictures, added, linear.alpha_bar(places, pictures), "v_prediction"),
    scheduler.get_velocity(pictures, added, places),
)
chains = {}
for variance in ("fixed_small", "fixed_large"):
    theirs = DDPMScheduler(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", variance_type=variance, clip_sample=False
    )
    ours_now = theirs_now = torch.randn(500, 1, generator=random)
    for timestep in theirs.timesteps.tolist():
        at, fresh = torch.full((500,), timestep), torch.Generator().manual_seed(timestep)
        theirs_now = theirs.step(perfect(theirs_now, at), timestep, theirs_now, generator=fresh).prev_sample
        z = torch.randn(500, 1, generator=fresh.manual_seed(timestep))
        alpha_bars = (short.alpha_bar(timestep, z), short.alpha_bar(timestep - 1, z))
        ours_now = ddpm_step(perfect(ours_now, at), ours_now, z, *alpha_bars, variance_type=variance)
    chains[variance] = (ours_now, theirs_now)
some, at = torch.linspace(-2, 2, 50)[:, None].requires_grad_(), torch.arange(0, 100, 2)
alpha_bar = short.alpha_bar(at, some)
torchs_score = torch.autograd.grad(diffused(alpha_bar).log_prob(some.T[0]).sum(), some)[0]
ours_noise, torchs_noise = perfect(some.detach(), at), -(1 - alpha_bar).sqrt() * torchs_score
alpha_bars = (short.alpha_bar(60, data), short.alpha_bar(59, data))
middle = short.add_noise(data, noise, 60)
guess = perfect(middle, torch.full((len(data),), 60))
means = [
    posterior(each, middle, *alpha_bars) for each in (data, x0_and_noise(guess, middle, alpha_bars[0], "epsilon")[0])
]
sizes = (means[0][1], 1 - alpha_bars[0] / alpha_bars[1])  # β̃ and β
divergence = kl_divergence(*(Normal(mean, size.sqrt()) for (mean, _), size in zip(means, sizes, strict=True)))
weight, constant = (each[60].float() for each in bound_coefficients(short))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the walk 0.990, −0.007", torch.cat(walked[1:]), [0.98995, -0.00711], 1e-4)
check_close(
    "by hand: the posterior 0.468, 0.333", torch.cat([each.flatten() for each in undone]), [0.46805, 0.33333], 1e-4
)
check_close(
    "by hand: the best guesses 0.583, 0.818", torch.stack((guessed_x0, guessed_noise)), [0.58278, 0.81824], 1e-4
)
check("walked and jumped samples differ by chance only", max(walking_error) < 0.06)
check("the linear schedule is half noise after a quarter of its steps", 230 < more_noise["linear"] < 290)
check("the cosine schedule after half of them", 480 < more_noise["cosine"] < 510)
check_close("add_noise equals diffusers'", *noised, 1e-4)
check_close("the velocity equals diffusers'", *velocities, 1e-4)
for variance, (ours_now, theirs_now) in chains.items():
    check_close(f"a whole chain of 100 steps equals diffusers': {variance}", ours_now, theirs_now, 1e-3)
check_close("the exact noise is −√(1 − ᾱ) times the gradient of torch's log density", ours_noise, torchs_noise, 1e-4)
check_close(
    "the term of the bound is torch's KL divergence",
    weight * (noise - guess).square() + constant,
    divergence,
    1e-3,
)
small = {steps: away[steps, "fixed_small"] for steps in COUNTS}
check("with the perfect guess, 10 steps are worse than 30, with every seed", min(small[10]) > max(small[30]))
check("300 steps cannot be told from data", max(small[300]) < 2 * max(chance) + 0.01)
check("few steps can, though the guess is perfect", min(small[5]) > 2 * max(chance))
check("β is better than β̃ in 5 steps, with every seed", max(away[5, "fixed_large"]) < min(small[5]))
first, second, third = bound_gaps["fixed_large"]
check("with β, the gap of the bound closes as steps are added", first > second > abs(third))
check("with 1000 steps it is within 0.06 nats", abs(third) < 0.06)
check("with β̃ a gap remains", bound_gaps["fixed_small"][2] > 0.2)
check("the loss of the perfect guess is far from 0", floor > 0.2)
check("every network comes close to the perfect guess", max(gaps) < 0.02)
check("closer than any linear guess", max(gaps) < error(linear_guess, best) / 3)
check_close("the loss above the floor is the distance to the perfect guess", excess, gaps, 0.003)
check("samples of every network are near the truth", max(reached) < 0.09)
check(
    "an error of ε is magnified near noise, one of v never", off[999, "epsilon"] > 10 > 0.11 > off[999, "v_prediction"]
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The next lesson trains a U-Net with `diffusion_loss` on pictures: `uv run lesson run 08/07`. Every model of the Stable
# Diffusion family is trained this way, in the space of an autoencoder (08/08).
#
# Papers: [Ho et al. 2020](https://arxiv.org/abs/2006.11239), DDPM; [Sohl-Dickstein et al.
# 2015](https://arxiv.org/abs/1503.03585), where the idea is from; [Song & Ermon 2019](https://arxiv.org/abs/1907.05600) and
# [Song et al. 2021](https://arxiv.org/abs/2011.13456), scores; [Nichol & Dhariwal 2021](https://arxiv.org/abs/2102.09672),
# cosine schedule and learned variances; [Salimans & Ho 2022](https://arxiv.org/abs/2202.00512), velocity; [Lin et al.
# 2024](https://arxiv.org/abs/2305.08891), the last step of a schedule.

# %% [markdown] lang="zh"
# 下一课用 `diffusion_loss` 在图片上训练 U-Net：`uv run lesson run 08/07`。
# Stable Diffusion 家族的模型都是这样训练的，只是在自编码器的潜空间里（08/08）。
#
# 论文：[Ho 等 2020](https://arxiv.org/abs/2006.11239)，DDPM；
# [Sohl-Dickstein 等 2015](https://arxiv.org/abs/1503.03585)，思想的来源；
# [Song 与 Ermon 2019](https://arxiv.org/abs/1907.05600)、[Song 等 2021](https://arxiv.org/abs/2011.13456)，得分；
# [Nichol 与 Dhariwal 2021](https://arxiv.org/abs/2102.09672)，余弦调度与学习的方差；
# [Salimans 与 Ho 2022](https://arxiv.org/abs/2202.00512)，速度；[Lin 等 2024](https://arxiv.org/abs/2305.08891)，噪声调度的终点。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `diffusion_loss`, `posterior`, `bound_coefficients` and `ddpm_step` yourself. `uv run lesson exercise 08/06` makes a
# file with their signatures, `uv run lesson check 08/06` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `diffusion_loss`、`posterior`、`bound_coefficients` 和 `ddpm_step`。
# `uv run lesson exercise 08/06` 生成带有签名的文件，`uv run lesson check 08/06` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. The loss draws timesteps first, then noise, both from `generator` and on the device of `x0`. `schedule.alpha_bar(timesteps,
#    x0)` is shaped so that it multiplies `x0`; `training_target` and `schedule.add_noise` do the rest.
# 2. In the posterior, $\alpha_t$ is `alpha_bar / previous_alpha_bar`, and $\beta_t$ is 1 less that. The two shares multiply $x_0$ and
#    $x_t$; return the variance as well.
# 3. The coefficients need $\bar\alpha_{t-1}$ for all timesteps: put a 1 before $\bar\alpha$ and leave the last one out. Of two normal
#    densities with the same mean and the variances $\tilde\beta$ and $\sigma^2$, the divergence is half of $r - 1 - \log r$, with $r =
#    \tilde\beta / \sigma^2$. At timestep 0, $\tilde\beta$ is 0: the variance is $\beta_0$, the constant $\log(2 \pi \beta_0) / 2$.
# 4. The step: for `learned_range`, split the prediction along dimension 1. Guess $x_0$, clip it, take the posterior.
#    `fixed_large` is $1 - \bar\alpha_t / \bar\alpha_s$. No noise is added where `previous_alpha_bar` is 1.

# %% [markdown] lang="zh"
# 1. 损失先抽时间步，再抽噪声，都用 `generator`，放在 `x0` 的设备上。
#    `schedule.alpha_bar(timesteps, x0)` 的形状可以直接乘 `x0`；其余交给 `training_target` 和 `schedule.add_noise`。
# 2. 后验中的 $\alpha_t$ 是 `alpha_bar / previous_alpha_bar`，$\beta_t$ 是 1 减去它。两个系数分别乘 $x_0$ 和 $x_t$；方差也要返回。
# 3. 系数需要所有时间步的 $\bar\alpha_{t-1}$：在 $\bar\alpha$ 前面放一个 1，去掉最后一个。
#    均值相同、方差为 $\tilde\beta$ 和 $\sigma^2$ 的两个正态密度，散度是 $r - 1 - \log r$ 的一半，$r = \tilde\beta / \sigma^2$。
#    时间步 0 处 $\tilde\beta$ 为 0：方差用 $\beta_0$，常数是 $\log(2 \pi \beta_0) / 2$。
# 4. 一步：`learned_range` 时沿第 1 维拆开预测。猜 $x_0$，裁剪，取后验。
#    `fixed_large` 是 $1 - \bar\alpha_t / \bar\alpha_s$。`previous_alpha_bar` 为 1 时不加噪声。


# %%
@exercise(diffusion_loss, posterior, bound_coefficients, ddpm_step)
def judge(yours, reference):
    made = torch.Generator().manual_seed(5)
    x0, x_t, z = (torch.randn(3, 2, 4, generator=made, dtype=torch.float64) for _ in range(3))
    schedule, weight = NoiseSchedule(linear_betas(50, 0.002, 0.4)), torch.tensor(0.4, dtype=torch.float64)
    weight.requires_grad_()

    def denoiser(x, timesteps):
        return weight * x + timesteps.view(-1, 1, 1) / 50

    for kind in ("epsilon", "sample", "v_prediction"):
        losses = [
            each.diffusion_loss(
                denoiser, x0, schedule, prediction_type=kind, generator=torch.Generator().manual_seed(6)
            )
            for each in (yours, reference)
        ]
        check(f"diffusion_loss of {kind} is a scalar", losses[0].shape == ())
        check_close(f"diffusion_loss of {kind}", *losses)
        gradients = [torch.autograd.grad(loss, weight)[0] for loss in losses]
        check_close(f"the gradient of diffusion_loss of {kind}", *gradients)

    for timestep, previous in ((30, 29), (30, 10), (0, -1)):
        alpha_bars = (schedule.alpha_bar(timestep, x0), schedule.alpha_bar(previous, x0))
        mine, theirs = (each.posterior(x0, x_t, *alpha_bars) for each in (yours, reference))
        check_close(f"the posterior's mean, from {timestep} to {previous}", mine[0], theirs[0])
        check_close(f"the posterior's variance, from {timestep} to {previous}", mine[1], theirs[1])

    for variance in ("fixed_small", "fixed_large"):
        mine, theirs = (each.bound_coefficients(schedule, variance) for each in (yours, reference))
        check(
            "bound_coefficients gives a weight and a constant for each timestep",
            mine[0].shape == mine[1].shape == (50,),
        )
        check_close(f"the weights after timestep 0: {variance}", mine[0][1:], theirs[0][1:])
        check_close(f"the weight of timestep 0: {variance}", mine[0][0], theirs[0][0])
        check_close(f"the constants after timestep 0: {variance}", mine[1][1:], theirs[1][1:])
        check_close(f"the constant of timestep 0: {variance}", mine[1][0], theirs[1][0])

    prediction = torch.randn(3, 2, 4, generator=made, dtype=torch.float64)
    for timestep, previous in ((30, 29), (30, 10), (0, -1)):
        alpha_bars = (schedule.alpha_bar(timestep, x0), schedule.alpha_bar(previous, x0))
        for variance in ("fixed_small", "fixed_large", "learned_range"):
            output = torch.cat((prediction, x0.tanh()), dim=1) if variance == "learned_range" else prediction
            for kind, clip in (("epsilon", None), ("v_prediction", 0.5)):
                options = {"prediction_type": kind, "variance_type": variance, "clip": clip}
                mine, theirs = (each.ddpm_step(output, x_t, z, *alpha_bars, **options) for each in (yours, reference))
                named = f"from {timestep} to {previous}, {variance}, {kind}, clip={clip}"
                check(f"ddpm_step keeps the shape: {named}", mine.shape == x_t.shape)
                check_close(f"ddpm_step: {named}", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is it important that $x_t$ can be drawn in one step? · 能一步抽出 $x_t$ 为什么重要？

# %% [markdown] lang="en"
# The loss is a sum over timesteps, and each term needs $x_t$ only. With the closed form, a training step draws one random
# timestep for each picture and costs one pass of the network; otherwise each picture would have to be walked through up
# to $T$ steps. It holds because sums of independent normal variables are normal, with variances added.

# %% [markdown] lang="zh"
# 损失是对时间步求和，每一项只需要 $x_t$。有了闭式，训练一步只为每张图片抽一个时间步，网络只跑一次；否则每张图片要走最多 $T$ 步。
# 它之所以成立，是因为独立正态变量之和仍是正态，方差相加。

# %%
mean, variance = 1.0, 0.0
for beta in linear.betas[:300].tolist():
    mean, variance = mean * math.sqrt(1 - beta), variance * (1 - beta) + beta
closed = linear.alphas_cumprod[299].item()
print(f"  300 steps: mean {mean:.4f}, variance {variance:.4f}; at once: {math.sqrt(closed):.4f}, {1 - closed:.4f}")

# %% [markdown]
# ### Why may the reverse step be a normal distribution? · 反向的一步为什么可以用正态分布？

# %% [markdown] lang="en"
# By Bayes' rule $q(x_{t-1} \mid x_t) \propto q(x_t \mid x_{t-1})\, q(x_{t-1})$. If $\beta_t$ is small, the first factor is a narrow normal
# density, over whose width the second is nearly $e^{\text{linear}}$; the product is normal again. If $\beta_t$ is large, the data's own
# shape shows, and the reversal can have several peaks. Hence many small steps, or a sampler that is no chain of draws (08/07).

# %% [markdown] lang="zh"
# 由贝叶斯公式，$q(x_{t-1} \mid x_t) \propto q(x_t \mid x_{t-1})\, q(x_{t-1})$。
# $\beta_t$ 小时，第一个因子是很窄的正态密度，在这个宽度内第二个因子近似于 $e^{\text{线性}}$，乘积仍是正态。
# $\beta_t$ 大时，数据自身的形状就显现出来，反转可能有好几个峰。所以要很多小步，或者换一种不逐步抽样的采样器（08/07）。

# %%
wide = torch.linspace(-3, 3, 601)
for beta in (0.02, 0.9):
    shape = Normal(math.sqrt(1 - beta) * wide, math.sqrt(beta)).log_prob(torch.tensor(0.0))
    shape = (shape + diffused(torch.ones(1, 1)).log_prob(wide[:, None]).flatten()).softmax(dim=0)
    peaks = int(((shape[1:-1] > shape[:-2]) & (shape[1:-1] > shape[2:])).sum())
    print(f"  from x_t = 0, a step of β = {beta}: the true reversal has {peaks} peak(s)")

# %% [markdown]
# ### How are noise prediction and the score related? · 预测噪声与得分是什么关系？

# %% [markdown] lang="en"
# The network that minimizes the squared error predicts $\mathbb E[\epsilon \mid x_t]$, and by Tweedie's formula that is
# $-\sqrt{1 - \bar\alpha_t}\, \nabla \log q_t(x_t)$. So DDPM is denoising score matching at many noise levels, and sampling follows the score uphill
# while adding noise. It needs no normalizing constant, since the gradient of $\log q_t$ does not contain it.

# %% [markdown] lang="zh"
# 使平方误差最小的网络预测的是 $\mathbb E[\epsilon \mid x_t]$，由 Tweedie 公式，
# 它等于 $-\sqrt{1 - \bar\alpha_t}\, \nabla \log q_t(x_t)$。所以 DDPM 就是在许多噪声水平上做去噪得分匹配，
# 采样就是一边加噪声一边沿着得分上坡。归一化常数不需要知道，因为 $\log q_t$ 的梯度里没有它。

# %%
spread = (ours_noise - torchs_noise).abs().max()
print(f"  exact E[ε | x_t] against autograd's gradient of log q_t: they differ by {spread:.1e} at most")
print(f"  learned against exact, mean squared: {', '.join(f'{value:.4f}' for value in gaps)}")

# %% [markdown]
# ### Why train on L_simple and not on the bound? · 为什么用 L_simple 而不用变分界训练？

# %% [markdown] lang="en"
# With DDPM's schedule, the bound's weights are largest where there is hardly any noise. They are right for the likelihood, which counts every
# imperceptible detail, but samples look worse, and the estimate varies more. Equal weights favor the noisier timesteps,
# where structure is decided. If likelihood is wanted as well, the bound is added with a small factor to train the
# variances (Nichol & Dhariwal 2021).

# %% [markdown] lang="zh"
# 用 DDPM 的噪声调度时，变分界的权重在几乎没有噪声的地方最大。这对似然是对的，因为似然计较每一个看不见的细节，但样本的观感更差，估计的方差也更大。
# 权重相等则偏向噪声较大的时间步，结构正是在那里决定的。若也想要似然，就以小系数加上变分界来训练方差（Nichol 与 Dhariwal 2021）。

# %%
weights, _ = bound_coefficients(linear)
print(
    f"  linear schedule: weights {weights[1]:.3g} at timestep 1, {weights[500]:.3g} at 500, {weights[900]:.3g} at 900"
)
print(f"  the first 1 % of the timesteps carry {weights[:10].sum() / weights.sum():.0%} of the weight")

# %% [markdown]
# ### ε, $x_0$ or v: what should the network predict? · 网络应预测 ε、$x_0$ 还是 v？

# %% [markdown] lang="en"
# With $x_t$ given, each is a linear function of each other; the choice only weights the errors. In terms of the error of
# $x_0$, predicting ε counts SNR, predicting $x_0$ counts 1, predicting v counts 1 + SNR. At the noisy end ε is useless: it is
# almost $x_t$ itself, and the division by $\sqrt{\bar\alpha_t}$ magnifies its error. v is safe at both ends, and the only one
# of ε and v that still means something at SNR 0.

# %% [markdown] lang="zh"
# 给定 $x_t$，三者互为线性函数；选择只改变误差的权重。以 $x_0$ 的误差为准，预测 ε 的权重是 SNR，预测 $x_0$ 是 1，预测 v 是 1 + SNR。
# 在噪声一端 ε 没有用：它几乎就是 $x_t$，而除以 $\sqrt{\bar\alpha_t}$ 会放大误差。
# v 在两端都安全；SNR 为 0 时，ε 和 v 之中只有 v 仍有意义。

# %%
for timestep in (0, 250, 999):
    snr = linear.snr()[timestep].item()
    measured = (0.1 / off[timestep, "epsilon"]) ** 2, (0.1 / off[timestep, "v_prediction"]) ** 2
    print(
        f"  timestep {timestep}: SNR {snr:.4g}, measured {measured[0]:.4g}; 1 + SNR {1 + snr:.4g}, measured {measured[1]:.4g}"
    )

# %% [markdown]
# ### In what sense is a diffusion model a VAE? · 扩散模型在什么意义上是 VAE？

# %% [markdown] lang="en"
# Both maximize a lower bound of the likelihood with an encoder $q$ and a decoder $p$. Here the latent variables are $x_1, \dots,
# x_T$, as large as the data, and the encoder is fixed: it adds noise. So nothing can collapse, and only the decoder is
# trained, all of its $T$ layers by one network that is told the timestep. The first term of the bound has no parameters.

# %% [markdown] lang="zh"
# 两者都用编码器 $q$ 和解码器 $p$ 最大化似然的下界。这里的隐变量是 $x_1, \dots, x_T$，与数据一样大，而编码器是固定的：加噪声。
# 所以不会坍缩，只训练解码器，它的 $T$ 层由同一个被告知时间步的网络充当。界的第一项没有参数。

# %%
parts = terms[1000, "fixed_large"]
print(
    f"  1000 steps, in nats: x_T {parts[-1]:.1e} (fixed), the steps {parts[1:-1].sum():.3f}, x_0 given x_1 {parts[0]:.3f}"
)
