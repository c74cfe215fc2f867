# %% [markdown]
# # Diffusion implementation · 扩散模型实现

# %% [markdown] lang="en"
# After this lesson you can build the U-Net of a diffusion model, train it on real pictures, sample with DDPM and in a few
# steps with DDIM, ask for a class with classifier-free guidance, and replace the whole theory by flow matching, in five
# lines. You need the theory of 08/06, residual blocks (05/07) and attention (07/02).

# %% [markdown] lang="zh"
# 学完本课，你能搭出扩散模型的 U-Net，在真实图片上训练它，用 DDPM 采样，用 DDIM 以很少的步数采样，
# 用无分类器引导指定类别，并能用五行代码的流匹配代替整套理论。先修：扩散理论（08/06）、残差块（05/07）、注意力（07/02）。

# %%
import matplotlib.pyplot as plt
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.generative.ddim import ddim_sample, ddim_step
from dlcommon.generative.ddpm import diffusion_loss
from dlcommon.generative.flow_matching import flow_matching_loss, flow_sample
from dlcommon.generative.guidance import ClassifierFreeGuidance, drop_labels
from dlcommon.generative.noise_schedules import NoiseSchedule, cosine_betas
from dlcommon.generative.unet import UNet
from dlcommon.generative.unet_blocks import AttentionBlock, ResidualBlock, timestep_embedding
from dlcommon.training.averaging import ExponentialMovingAverage
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# In 08/06 the data was a number and the network three layers. Pictures pose four new questions. Which network maps a noisy
# picture to a picture, sees both strokes and the whole, and knows how much noise to expect? Who is going to call it a
# thousand times for each sample? How does one ask for a seven? And do we need the chain, the schedule and the bound at
# all, or is there a shorter way from noise to data?

# %% [markdown] lang="zh"
# 在 08/06 中数据是一个数，网络只有三层。换成图片后有四个新问题：什么样的网络把带噪图片映射成图片，既看得见笔画又看得见整体，
# 还知道该有多少噪声？每个样本要调用它一千次，谁等得起？怎样指定要一个“7”？
# 还有，那条链、噪声调度和变分界真的都需要吗，从噪声到数据有没有更短的路？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Timestep 10 as four features*: two clock hands, 1 and 0.01 radians a step; cosines, then sines: $\cos 10 = -0.839$,
# $\cos 0.1 = 0.995$, $\sin 10 = -0.544$, $\sin 0.1 = 0.100$.
#
# *One DDIM step.* A pixel is $x_t = 0.5$ at $\bar\alpha_t = 0.25$, and the guessed noise is 0.8. Then the guessed data is $(0.5 -
# 0.866 \cdot 0.8) / 0.5 = -0.386$. Mix the same two guesses anew, for any earlier timestep: at $\bar\alpha_s = 0.81$ it
# is $0.9 \cdot (-0.386) + 0.436 \cdot 0.8 = 0.002$. Nothing is drawn.
#
# *Flow matching.* Data $x_0 = -0.6$, noise $\epsilon = 0.5$: the straight line between them has the velocity $\epsilon - x_0 = 1.1$
# everywhere. From the noise, one step back of length 1: $0.5 - 1.1 = -0.6$. Two steps of length ½: $-0.05$, then $-0.6$.
#
# *Guidance.* For the label "7" the network guesses the noise 0.5, without a label 0.8. The label has moved it by $-0.3$; with a
# scale of 3 we go three times as far: $0.8 - 0.9 = -0.1$.

# %% [markdown] lang="zh"
# *时间步 10 变成四个特征*：两根表针，每步转 1 弧度和 0.01 弧度；先余弦后正弦：
# $\cos 10 = -0.839$，$\cos 0.1 = 0.995$，$\sin 10 = -0.544$，$\sin 0.1 = 0.100$。
#
# *一步 DDIM。*某像素在 $\bar\alpha_t = 0.25$ 处为 $x_t = 0.5$，猜测的噪声是 0.8，
# 于是猜测的数据是 $(0.5 - 0.866 \cdot 0.8) / 0.5 = -0.386$。把这两个猜测按任意更早的时间步重新混合：
# 在 $\bar\alpha_s = 0.81$ 处是 $0.9 \cdot (-0.386) + 0.436 \cdot 0.8 = 0.002$。没有任何抽样。
#
# *流匹配。*数据 $x_0 = -0.6$，噪声 $\epsilon = 0.5$：连接两者的直线处处速度都是 $\epsilon - x_0 = 1.1$。
# 从噪声往回走一步，步长 1：$0.5 - 1.1 = -0.6$。走两步，步长 ½：先到 $-0.05$，再到 $-0.6$。
#
# *引导。*给定标签“7”，网络猜噪声是 0.5；不给标签猜 0.8。标签使它移动了 $-0.3$；引导强度为 3 就走三倍远：$0.8 - 0.9 = -0.1$。

# %%
one = torch.tensor([[1.0]])
embedded = timestep_embedding(torch.tensor([10]), 4)
stepped = ddim_step(0.8 * one, 0.5 * one, 0.25 * one, 0.81 * one)
straight = [flow_sample(lambda x, t: 1.1 * torch.ones_like(x), 0.5 * one, steps) for steps in (1, 2)]
guided = ClassifierFreeGuidance(
    lambda x, t, labels: torch.where(labels[:, None] == 7, 0.5, 0.8), torch.tensor([7]), 10, 3.0
)
by_hand = torch.cat((embedded[0], stepped[0], straight[0][0], straight[1][0], guided(one, torch.tensor([0]))[0]))
names = ["cos 10", "cos 0.1", "sin 10", "sin 0.1", "DDIM", "flow, 1 step", "flow, 2 steps", "guided"]
table(names, [tuple(by_hand.tolist())])

drawing = Schematic(13.6, 5.4, "The U-Net of this lesson: 8 × 8 pixels, 8 channels; 4 × 4 pixels, 16 channels")
for name, x, y, text, kind, width in (
    ("x", 0.9, 4.4, "noisy x_t", "data", 1.4),
    ("in", 2.6, 4.4, "conv", "parameter", 1.0),
    ("d1", 4.3, 4.4, "residual 8", "parameter", 1.5),
    ("half", 4.3, 2.9, "halve", "parameter", 1.3),
    ("d2", 4.3, 1.4, "residual 16", "parameter", 1.5),
    ("mid", 6.9, 1.4, "residual, attention,\nresidual", "parameter", 2.4),
    ("u2", 9.6, 1.4, "2 × residual 16", "parameter", 2.0),
    ("double", 9.6, 2.9, "double", "parameter", 1.3),
    ("u1", 9.6, 4.4, "2 × residual 8", "parameter", 2.0),
    ("out", 11.5, 4.4, "conv", "parameter", 1.0),
    ("y", 12.9, 4.4, "guess", "data", 1.1),
    ("t", 6.9, 2.9, "timestep, label\nto every residual block", "data", 2.9),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.6)
for start, end in (
    ("x", "in"), ("in", "d1"), ("d1", "half"), ("half", "d2"), ("d2", "mid"), ("mid", "u2"), ("u2", "double"),
    ("double", "u1"), ("u1", "out"), ("out", "y"), ("t", "mid"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.arrow("d1", "u1", "kept results, side by side", bend=0.08)
drawing.arrow("d2", "u2", "", bend=-0.25)
show(drawing.figure, "unet")

# %% [markdown]
# ## Formula · 公式
#
# $$h = W_1 * \mathrm{silu}(\mathrm{norm}(x)) + W_e\, \mathrm{silu}(e), \qquad y = x + W_2 * \mathrm{silu}(\mathrm{norm}(h)), \qquad e = \mathrm{MLP}\big(\mathrm{PE}(t)\big) + E_c$$
#
# $$\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\, \hat\epsilon}{\sqrt{\bar\alpha_t}}, \qquad x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s - \sigma^2}\, \hat\epsilon + \sigma z, \qquad \sigma^2 = \eta^2\, \frac{1 - \bar\alpha_s}{1 - \bar\alpha_t} \Big(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\Big)$$
#
# $$x_t = (1 - t)\, x_0 + t\, \epsilon, \qquad L = \mathbb E_{t, x_0, \epsilon} \lVert (\epsilon - x_0) - v_\theta(x_t, t) \rVert^2, \qquad \frac{dx}{dt} = v_\theta(x, t)$$
#
# $$\tilde v_\theta(x, t, c) = v_\theta(x, t, \varnothing) + w\, \big( v_\theta(x, t, c) - v_\theta(x, t, \varnothing) \big)$$

# %% [markdown] lang="en"
# - $x, h, y$: features `[batch, channels, height, width]`; $W_1, W_2$: 3 × 3 convolutions; $\mathrm{norm}$: group normalization (Ho et
#   al. 2020, appendix B).
# - $e$: the embedding of timestep and label, `[batch, 4 · channels]`; $\mathrm{PE}$: sinusoids, as for positions (07/03); $E_c$: a
#   learned vector for label $c$; $W_e$: maps $e$ to the channels.
# - $\hat\epsilon, \hat x_0$: the guesses of noise and data at $x_t$; $s$: any earlier timestep; $z$: fresh noise (Song et al. 2021,
#   equation 12).
# - $\eta$: how much of the predicted noise is replaced by fresh noise (equation 16): 0 is DDIM, 1 is DDPM's step.
# - $t \in [0, 1]$ in the third line: the share of noise on the straight line from data to noise; $v_\theta$: the learned velocity (Liu
#   et al. 2023, equation 1, and Lipman et al. 2023 count time the other way round, with noise at 0).
# - $c$: the label; $\varnothing$: none; $w$: the guidance scale, 1 for none (Ho & Salimans 2022, equation 6, where the scale is
#   $1 + w$).

# %% [markdown] lang="zh"
# - $x, h, y$：特征 `[batch, channels, height, width]`；$W_1, W_2$：3 × 3 卷积；$\mathrm{norm}$：组归一化（Ho 等 2020，附录 B）。
# - $e$：时间步与标签的嵌入，`[batch, 4 · channels]`；$\mathrm{PE}$：正弦，与位置编码相同（07/03）；
#   $E_c$：标签 $c$ 的可学习向量；$W_e$：把 $e$ 映射到各通道。
# - $\hat\epsilon, \hat x_0$：在 $x_t$ 处对噪声和数据的猜测；$s$：任意更早的时间步；$z$：新的噪声（Song 等 2021，式 12）。
# - $\eta$：预测的噪声中有多少换成新噪声（式 16）：0 是 DDIM，1 是 DDPM 的一步。
# - 第三行的 $t \in [0, 1]$：从数据到噪声的直线上噪声所占的比例；$v_\theta$：学到的速度。
#   Liu 等 2023（式 1）和 Lipman 等 2023 的时间方向相反，噪声在 0。
# - $c$：标签；$\varnothing$：没有标签；$w$：引导强度，1 为不引导（Ho 与 Salimans 2022，式 6，那里的强度写作 $1 + w$）。

# %% [markdown]
# ## Code · 代码

# %%
source(ResidualBlock.forward)
source(AttentionBlock.forward)
source(UNet.forward)
source(ddim_step)
source(flow_matching_loss)
source(flow_sample)
source(ClassifierFreeGuidance.__call__)

# %% [markdown] lang="en"
# In `ResidualBlock` the embedding becomes one number for each channel, `[batch, channels, 1, 1]`, added to all pixels: the
# block learns to do different things at different noise. `AttentionBlock` reads pixels as tokens, `[batch, height · width,
# channels]`, with the attention of 07/02. `UNet.forward` keeps every result on the way down and takes them in
# reverse on the way up, side by side with what comes from below.
#
# `ddim_step` splits $x_t$ into the two guesses and mixes them anew. `flow_matching_loss` has no schedule and no table: draw a
# time, mix, compare with $\epsilon - x_0$. `flow_sample` is Euler's method. Guidance is a denoiser made of another, one pass
# over twice the batch, and works for all samplers.

# %% [markdown] lang="zh"
# `ResidualBlock`中，嵌入变成每个通道一个数 `[batch, channels, 1, 1]`，加到所有像素上：块就学会在不同的噪声下做不同的事。
# `AttentionBlock` 把像素当作词元 `[batch, height · width, channels]`，用 07/02 的注意力。
# `UNet.forward` 向下时保留每个结果，向上时按相反次序取用，与下面来的特征并排拼接。
#
# `ddim_step` 把 $x_t$ 拆成两个猜测再重新混合。`flow_matching_loss` 没有噪声调度，也没有表：抽一个时间，混合，与 $\epsilon - x_0$ 比较。
# `flow_sample` 就是欧拉法。引导是由一个去噪器造出的另一个去噪器，对两倍的批次跑一遍网络，适用于所有采样器。

# %% [markdown]
# ## Experiment: real digits in few steps · 实验：用很少的步数生成真实的数字

# %% [markdown] lang="en"
# The pictures: scikit-learn's 1,797 handwritten digits of 8 × 8 pixels, real ones; 256 are kept aside. The network above is
# trained twice from each of three seeds: as a diffusion model (cosine schedule, it predicts the velocity $v$, which 08/06
# found safe at both ends) and with flow matching. Same pictures, same number of updates, constant learning rate. One label
# in seven is dropped, and an exponential average of the weights is kept.
#
# Then each is asked for 10 digits of each class in 2, 5 and 15 steps, which is 2, 5 and 15 calls of the network: DDPM and
# DDIM with the diffusion model, Euler's method with the other. Two measures. *Fréchet distance* between samples and
# training pictures, taken on the pixels: the formula of FID without its network, so it is no FID. *Right*: the share
# that a nearest-neighbor classifier of real digits takes for the digit asked for.

# %% [markdown] lang="zh"
# 图片：scikit-learn 的 1,797 张真实手写数字，8 × 8 像素，留出 256 张。上面的网络从三个种子各训练两次：
# 一次作为扩散模型（余弦调度，预测速度 $v$，08/06 表明它在两端都安全），一次用流匹配。图片相同，更新次数相同，学习率恒定。
# 七分之一的标签被丢弃，并保留权重的指数滑动平均。
#
# 然后让每个模型用 2、5、15 步，也就是调用网络 2、5、15 次，为每一类生成 10 张：扩散模型用 DDPM 和 DDIM，另一个用欧拉法。
# 两个指标。*Fréchet 距离*：样本与训练图片之间，直接在像素上计算，是去掉网络的 FID 公式，所以不是 FID。
# *正确*：用真实数字的最近邻分类器判断，样本有多大比例是所要的数字。

# %%
quiz(
    "few",
    en="Five steps: which sampler comes closest to the real digits?",
    zh="只走五步：哪个采样器最接近真实的数字？",
    choices={"DDPM": "DDPM", "DDIM": "DDIM", "flow": "flow matching · 流匹配"},
)

# %%
SEEDS, UPDATES, NONE, COUNTS = (0, 1, 2), 90, 10, (2, 5, 15)
digits = load_digits()
pictures = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1  # [1797, 1, 8, 8], from −1 to 1
labels = torch.tensor(digits.target)
kept_aside = torch.arange(len(pictures)) % 7 == 6  # writers follow one another, so of all writers
pictures, labels, held_out = pictures[~kept_aside], labels[~kept_aside], pictures[kept_aside]
classifier = KNeighborsClassifier(3).fit(pictures.flatten(1).numpy(), labels.numpy())
schedule = NoiseSchedule(cosine_betas())


def learn(kind: str, seed: int) -> tuple[UNet, UNet, list[float]]:
    """Trains a network; returns it, the average of its weights, and the losses."""
    torch.manual_seed(seed)
    network = UNet(1, channels=(8, 16), attention=(False, False), blocks=1, num_classes=11)
    average = ExponentialMovingAverage(network, 0.95)
    optimizer = torch.optim.AdamW(network.parameters(), lr=8e-3, fused=True)
    generator, losses = torch.Generator().manual_seed(seed), []
    for update in range(UPDATES):
        optimizer.param_groups[0]["lr"] = 8e-3 * min(1.0, (update + 1) / 10)
        some = torch.randint(len(pictures), (64,), generator=generator)
        asked = drop_labels(labels[some], NONE, 1 / 7, generator=generator)

        def denoise(x: torch.Tensor, timesteps: torch.Tensor, asked: torch.Tensor = asked) -> torch.Tensor:
            return network(x, timesteps, asked)

        if kind == "flow":
            loss = flow_matching_loss(denoise, pictures[some], generator=generator)
        else:
            loss = diffusion_loss(
                denoise, pictures[some], schedule, prediction_type="v_prediction", generator=generator
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(network)
        losses.append(loss.item())
    return network, average.model, losses


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Fréchet distance of two normal distributions with the pixels' means and covariances."""
    first, second = first.flatten(1).double(), second.flatten(1).double()
    values, vectors = torch.linalg.eigh(first.T.cov())
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # of the first covariance
    shared = torch.linalg.eigvalsh(root @ second.T.cov() @ root).clamp(min=0).sqrt().sum()
    apart = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    return (apart + first.T.cov().trace() + second.T.cov().trace() - 2 * shared).item()


wanted = torch.arange(10).repeat(10)  # [100]


def sample(
    sampler: str, network: UNet, steps: int, scale: float = 1.0, seed: int = 0, asked: torch.Tensor = wanted
) -> torch.Tensor:
    """Draws one picture for each label: [len(asked), 1, 8, 8]."""
    generator = torch.Generator().manual_seed(seed)
    noise, guided = (
        torch.randn(len(asked), 1, 8, 8, generator=generator),
        ClassifierFreeGuidance(network, asked, NONE, scale),
    )
    if sampler == "flow":
        return flow_sample(guided, noise, steps).clamp(-1, 1)
    return ddim_sample(
        guided, noise, schedule, steps, eta=float(sampler == "DDPM"), prediction_type="v_prediction", clip=1.0,
        generator=generator,
    )  # fmt: skip


def right(samples: torch.Tensor) -> float:
    return float((classifier.predict(samples.flatten(1).numpy()) == wanted[: len(samples)].numpy()).mean())


def written(values: list[float], form: str = ".2f") -> str:
    return " ".join(f"{value:{form}}" for value in values)


trained = {(kind, seed): learn(kind, seed) for kind in ("diffusion", "flow") for seed in SEEDS}
made, away, hits = {}, {}, {}
for sampler in ("DDPM", "DDIM", "flow"):
    kind = "flow" if sampler == "flow" else "diffusion"
    for steps in COUNTS:
        made[sampler, steps] = [sample(sampler, trained[kind, seed][1], steps, seed=seed) for seed in SEEDS]
        away[sampler, steps] = [frechet_distance(pictures, each) for each in made[sampler, steps]]
        hits[sampler, steps] = [right(each) for each in made[sampler, steps]]
real = frechet_distance(pictures, held_out[:100])
noise_away = frechet_distance(pictures, torch.randn(100, 1, 8, 8).clamp(-1, 1))
table(
    ["sampler", "steps", "Fréchet distance on pixels, three seeds", "right"],
    [(*key, written(away[key]), written(hits[key], ".0%")) for key in away]
    + [("real digits, kept aside", "", f"{real:.2f}", ""), ("noise", "", f"{noise_away:.2f}", "")],
)
at_five = {sampler: sum(away[sampler, 5]) for sampler in ("DDPM", "DDIM", "flow")}
settle("few", min(at_five, key=at_five.get))

figure, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
for kind, color in (("diffusion", "tab:blue"), ("flow", "tab:orange")):
    for seed in SEEDS:
        smooth = torch.tensor(trained[kind, seed][2]).view(-1, 5).mean(dim=1)
        axes[0].plot(range(0, UPDATES, 5), smooth, color=color, label=kind if seed == 0 else None)
axes[0].set(xlabel="updates", ylabel="loss", title="Training, three seeds (losses of two tasks)")
axes[0].legend()
for sampler in ("DDPM", "DDIM", "flow"):
    axes[1].plot(COUNTS, [sum(away[sampler, steps]) / 3 for steps in COUNTS], "o-", label=sampler)
    axes[2].plot(COUNTS, [sum(hits[sampler, steps]) / 3 for steps in COUNTS], "o-", label=sampler)
axes[1].axhline(real, color="grey", linestyle=":", label="real digits")
axes[1].set(xlabel="steps", xticks=COUNTS, title="Fréchet distance on pixels, mean of three seeds", ylim=(0, None))
axes[1].legend()
axes[2].set(xlabel="steps", xticks=COUNTS, title="Right, mean of three seeds", ylim=(0, 1))
axes[2].legend()
show(figure, "steps")


def gallery(rows: dict[str, torch.Tensor], name: str) -> None:
    """Shows rows of ten pictures each, [10, 1, 8, 8]."""
    framed = [F.pad(row[:, 0], (1, 1, 1, 1), value=-0.7) for row in rows.values()]  # each [10, 10, 10]
    figure, axis = plt.subplots(figsize=(8, 0.8 * len(rows)), layout="constrained")
    mosaic = torch.cat([row.transpose(0, 1).flatten(1) for row in framed])
    axis.imshow(mosaic.numpy(), cmap="gray_r", vmin=-1, vmax=1)
    axis.set(xticks=[], yticks=[10 * line + 4.5 for line in range(len(rows))], yticklabels=list(rows))
    show(figure, name)


gallery(
    {"real": held_out[:10]}
    | {
        f"{sampler}, {steps}": made[sampler, steps][0][:10] for sampler in ("DDPM", "DDIM", "flow") for steps in (5, 15)
    },
    "digits",
)

# %% [markdown] lang="en"
# In 90 updates the network has learned to draw digits. Flow matching gets there first: at two steps it is ahead with every
# seed, at five on average, and more than five steps bring it nothing: its paths are nearly straight. The diffusion model
# gains from more steps. DDPM's fresh noise makes little difference here, since a network trained for a second errs more
# than the steps do; 08/06 shows what the steps alone cost. "Right" alone misleads: it falls with more steps while
# the samples come closer to the data, since blurry digits near the average of their class are the easiest to tell.
#
# That is no law: the two objectives weight the noise levels differently, and with other schedules, weights and long training
# the gap narrows. But flow matching needs no choice of a schedule to do well, and it is the shorter code.

# %% [markdown] lang="zh"
# 更新 90 次，网络就学会了画数字。流匹配最快：两步时每个种子都领先，五步时平均领先，超过五步也没有更好，因为它的路径几乎是直的。
# 扩散模型则步数越多越好。DDPM 的新噪声在这里差别不大，因为只训练了一秒的网络比步数带来的误差更大；单由步数造成的代价见 08/06。
# 只看“正确”会误导：步数增加时它下降，样本却更接近数据，因为接近该类平均的模糊数字最容易辨认。
#
# 这不是定律：两种目标对各噪声水平的权重不同，换别的噪声调度、权重，训练得久，差距会缩小。
# 但流匹配不必挑选噪声调度就有好结果，代码也更短。

# %% [markdown]
# ## Experiment: noise decides, or chance · 实验：由噪声决定，还是由偶然决定

# %% [markdown] lang="en"
# DDIM and flow draw nothing on the way: the noise at the start decides on the picture. If that is so, 5 and 15 steps from the
# same noise must give nearly the same picture, while DDPM gives another one. The correlation of the pixels tells; 1
# would be the same picture.

# %% [markdown] lang="zh"
# DDIM 和流匹配途中什么都不抽：起点的噪声决定图片。如果真是这样，从同样的噪声出发，走 5 步与走 15 步应得到几乎相同的图片，
# 而 DDPM 会得到另一张。用像素的相关系数衡量，1 表示同一张图片。


# %%
def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean correlation of pixels, after the mean picture of each class is taken away."""
    kept = []
    for each in (first, second):
        of_class = each.flatten(1).view(10, 10, 64)  # samples of a class stand 10 apart
        kept.append((of_class - of_class.mean(dim=0)).flatten(0, 1))
    return F.cosine_similarity(*kept, dim=1).mean().item()


agreeing = {
    sampler: [correlation(*pair) for pair in zip(made[sampler, 5], made[sampler, 15], strict=True)]
    for sampler in ("DDPM", "DDIM", "flow")
}
table(["sampler", "5 against 15 steps, three seeds"], [(name, written(values)) for name, values in agreeing.items()])

# %% [markdown] lang="en"
# With DDIM and flow matching the picture is decided by the noise at the start; the number of steps only changes how exactly it
# is computed. So noise is a code for pictures: a walk between two codes is a walk between two pictures, and a seed can be
# tried in few steps and drawn again in many. DDPM's picture is decided on the way.

# %% [markdown] lang="zh"
# 用 DDIM 和流匹配时，图片由起点的噪声决定，步数只影响算得多精确。所以噪声就是图片的编码：
# 在两个编码之间移动，就是在两张图片之间移动；一个种子可以先用几步试画，再用许多步重画。DDPM 的图片是在途中才决定的。

# %% [markdown]
# ## Experiment: guidance · 实验：引导

# %% [markdown] lang="en"
# The same flow network, five steps, four guidance scales: 0 ignores the label, 1 is the network as it was trained. Beside the
# share of right digits, how varied are they? *Variety* is the standard deviation of the pixels within a class,
# relative to that of real digits.

# %% [markdown] lang="zh"
# 同一个流匹配网络，五步，四种引导强度：0 忽略标签，1 就是训练出来的网络。除了正确的比例，还看它们有多少变化：
# *变化*是同一类内像素的标准差，相对于真实数字的标准差。

# %%
quiz(
    "stronger",
    en="Guidance 4 instead of 1: more digits are right. What happens to the Fréchet distance?",
    zh="引导强度从 1 变成 4：正确的数字更多。Fréchet 距离会怎样？",
    choices={"falls": "it falls: better · 下降：更好", "rises": "it rises: worse · 上升：更差"},
)


# %%
def spread(samples: torch.Tensor, kinds: torch.Tensor) -> float:
    """Standard deviation of the pixels within classes."""
    flat = samples.flatten(1)
    return torch.stack([flat[kinds == kind].var(dim=0).mean() for kind in range(10)]).mean().sqrt().item()


SCALES = (0.0, 1.0, 2.0, 4.0)
guidance = {"right": {}, "away": {}, "variety": {}}
for scale in SCALES:
    drawn = made["flow", 5]
    if scale != 1:
        drawn = [sample("flow", trained["flow", seed][1], 5, scale, seed) for seed in SEEDS]
    guidance["right"][scale] = [right(each) for each in drawn]
    guidance["away"][scale] = [frechet_distance(pictures, each) for each in drawn]
    guidance["variety"][scale] = [spread(each, wanted) / spread(pictures, labels) for each in drawn]
table(
    ["scale", "right", "variety within a class", "Fréchet distance"],
    [
        (
            scale,
            written(guidance["right"][scale], ".0%"),
            written(guidance["variety"][scale]),
            written(guidance["away"][scale]),
        )
        for scale in SCALES
    ],
)
settle("stronger", "rises" if sum(guidance["away"][4.0]) > sum(guidance["away"][1.0]) else "falls")
last = {
    sampler: [frechet_distance(pictures, sample(sampler, trained[kind, seed][0], 5, seed=seed)) for seed in SEEDS]
    for kind, sampler in (("diffusion", "DDIM"), ("flow", "flow"))
}
table(
    ["5 steps", "distance with the last weights", "with averaged weights"],
    [(sampler, written(values), written(away[sampler, 5])) for sampler, values in last.items()],
)

gallery(
    {f"scale {scale:g}": sample("flow", trained["flow", 0][1], 5, scale, asked=torch.arange(10)) for scale in SCALES},
    "guidance",
)

# %% [markdown] lang="en"
# Guidance buys certainty with variety. At 2 nineteen of twenty digits are right; at 4 nearly all, but they look alike, with exaggerated
# contrast, and the distance to the real distribution has more than doubled. Without a label (0) the digits are as
# varied as real ones and right one time in ten, by chance. Averaged weights are better than the last ones: at
# a constant learning rate the weights jump around a good place, and their average lies nearer to it. That is
# why diffusion models are always sampled with them.

# %% [markdown] lang="zh"
# 引导用变化换取确定。强度 2 时二十个里有十九个正确；强度 4 时几乎全部正确，但彼此相像，对比度过度，与真实分布的距离增大了一倍多。
# 不给标签（0）时，数字与真实的一样多变，碰巧对的有十分之一。平均权重比最后的权重好：
# 学习率恒定时，权重在好的位置周围跳动，平均值离它更近。所以扩散模型总是用平均权重采样。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# With the trained networks, whole chains must equal those of diffusers' schedulers: DDIM with η = 0 and with η = 1 and the
# same fresh noise, and Euler's method. The U-Net and its blocks equal `UNet2DModel` and `ResnetBlock2D` in value and
# gradient; that is in this repository's tests, since importing those classes takes longer than it teaches.

# %% [markdown] lang="zh"
# 用训练好的网络，整条链必须与 diffusers 调度器的结果相等：DDIM 取 η = 0，以及 η = 1 且新噪声相同，还有欧拉法。
# U-Net 及其各块与 `UNet2DModel`、`ResnetBlock2D` 的数值和梯度都相等；这在本仓库的测试中比较，因为导入那些类太费时间。

# %%
few, asked = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([3, 1, 4, 1])
diffusion, flow = (ClassifierFreeGuidance(trained[kind, 0][1], asked, NONE, 1.0) for kind in ("diffusion", "flow"))
chains = {}
for eta in (0.0, 1.0):
    theirs, x = (
        DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"),
        few,
    )
    theirs.set_timesteps(10)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for timestep in theirs.timesteps:
            guess = diffusion(x, timestep.expand(4))
            x = theirs.step(
                guess, timestep, x, eta=eta, use_clipped_model_output=True, generator=generator if eta else None
            ).prev_sample
    ours = ddim_sample(
        diffusion, few, schedule, 10, eta=eta, prediction_type="v_prediction", clip=1.0,
        generator=torch.Generator().manual_seed(6),
    )  # fmt: skip
    chains[f"DDIM, η = {eta:g}"] = (ours, x)
euler, x = FlowMatchEulerDiscreteScheduler(), few
euler.set_timesteps(sigmas=[1 - step / 10 for step in range(10)])
with torch.no_grad():
    for timestep in euler.timesteps:
        x = euler.step(flow(x, timestep.expand(4)), timestep, x).prev_sample
chains["Euler's method"] = (flow_sample(flow, few, 10), x)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: all eight numbers", by_hand, [-0.8391, 0.9950, -0.5440, 0.0998, 0.0016, -0.6, -0.6, -0.1], 1e-4)
for name, (ours, theirs) in chains.items():
    check_close(f"a chain of 10 steps equals diffusers': {name}", ours, theirs, 1e-3)
for sampler in ("DDPM", "DDIM", "flow"):
    check(
        f"{sampler}: digits, not noise, with every seed",
        max(away[sampler, 15]) < noise_away / 8 and min(hits[sampler, 15]) > 0.4,
    )
check(
    "two steps: flow matching is closer than DDIM, with every seed",
    all(mine < other for mine, other in zip(away["flow", 2], away["DDIM", 2], strict=True)),
)
check("five steps: it is on average", sum(away["flow", 5]) < sum(away["DDIM", 5]))
check("flow matching: 15 steps are no better than 5", sum(away["flow", 5]) < 1.1 * sum(away["flow", 15]))
check(
    "DDIM: 15 steps are better than 2, with every seed",
    max(b - a for a, b in zip(away["DDIM", 2], away["DDIM", 15], strict=True)) < 0,
)
check(
    "the noise decides on the picture: DDIM and flow, with every seed", min(agreeing["DDIM"] + agreeing["flow"]) > 0.9
)
check("with DDPM it does not", max(agreeing["DDPM"]) < 0.7)
for seed in SEEDS:
    rising, falling = ([guidance[name][scale][seed] for scale in (0.0, 1.0, 2.0, 4.0)] for name in ("right", "variety"))
    check(
        f"seed {seed}: guided more, more are right",
        rising[0] < 0.3 and rising[1] < min(rising[2:]) and min(rising[2:]) > 0.85,
    )
    check(f"seed {seed}: and they vary less", falling[0] > falling[1] > falling[2] > falling[3])
    check(
        f"seed {seed}: too much guidance leaves the distribution",
        guidance["away"][4.0][seed] > 1.3 * guidance["away"][1.0][seed],
    )
check(
    "averaged weights are better, on average of both models and three seeds",
    sum(away["DDIM", 5] + away["flow", 5]) < sum(last["DDIM"] + last["flow"]),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The modules take pictures of 8 to 64 pixels and any number of channels; `UNet(3, channels=(64, 128, 256))` is a size for
# colored pictures. The next lesson moves all of this into the latent space of an autoencoder and lets text steer
# it: `uv run lesson run 08/08`.
#
# Papers: [Ho et al. 2020](https://arxiv.org/abs/2006.11239), DDPM and its U-Net; [Song et al.
# 2021](https://arxiv.org/abs/2010.02502), DDIM; [Ho & Salimans 2022](https://arxiv.org/abs/2207.12598), guidance;
# [Lipman et al. 2023](https://arxiv.org/abs/2210.02747), flow matching; [Liu et al.
# 2023](https://arxiv.org/abs/2209.03003), rectified flow; [Esser et al. 2024](https://arxiv.org/abs/2403.03206), Stable
# Diffusion 3, which is trained with it.

# %% [markdown] lang="zh"
# 这些模块接受 8 到 64 像素、任意通道数的图片；彩色图片可用 `UNet(3, channels=(64, 128, 256))`。
# 下一课把这一切搬进自编码器的潜空间，让文字来引导：`uv run lesson run 08/08`。
#
# 论文：[Ho 等 2020](https://arxiv.org/abs/2006.11239)，DDPM 及其 U-Net；[Song 等 2021](https://arxiv.org/abs/2010.02502)，DDIM；
# [Ho 与 Salimans 2022](https://arxiv.org/abs/2207.12598)，引导；[Lipman 等 2023](https://arxiv.org/abs/2210.02747)，流匹配；
# [Liu 等 2023](https://arxiv.org/abs/2209.03003)，整流流；
# [Esser 等 2024](https://arxiv.org/abs/2403.03206)，Stable Diffusion 3，就是用它训练的。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `ddim_step` and `ddim_sample` yourself. `uv run lesson exercise 08/07` makes a file with their signatures,
# `uv run lesson check 08/07` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `ddim_step` 和 `ddim_sample`。`uv run lesson exercise 08/07` 生成带有签名的文件，`uv run lesson check 08/07` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `x0_and_noise` gives both guesses. If $\hat x_0$ is clipped, the noise must be computed anew, so that the two still make $x_t$.
# 2. The variance of the fresh noise is $\eta^2$ times that of the posterior. What it adds is taken from the share of the predicted
#    noise: $1 - \bar\alpha_s - \sigma^2$; rounding may make that slightly negative, so clamp it at 0 before the root.
# 3. `ddim_sample` walks `sampling_timesteps(len(schedule), steps, spacing)`; the timestep after the last one is −1. The
#    denoiser takes one timestep for each sample, `[batch]`.
# 4. Draw fresh noise before each step, from `generator`, and only if `eta` is above 0.

# %% [markdown] lang="zh"
# 1. `x0_and_noise`给出两个猜测。$\hat x_0$ 被裁剪后，噪声要重新计算，使两者仍能合成 $x_t$。
# 2. 新噪声的方差是后验方差的 $\eta^2$ 倍，它占的份额从预测的噪声中扣除：$1 - \bar\alpha_s - \sigma^2$；
#    舍入误差可能使它略小于 0，开方前先限制到 0。
# 3. `ddim_sample` 依次走过 `sampling_timesteps(len(schedule), steps, spacing)`，最后一个之后的时间步是 −1。
#    去噪器要为每个样本给一个时间步，`[batch]`。
# 4. 每一步之前用 `generator` 抽新噪声，只在 `eta` 大于 0 时抽。


# %%
@exercise(ddim_step, ddim_sample)
def judge(yours, reference):
    made = torch.Generator().manual_seed(5)
    x_t, prediction, z = (torch.randn(3, 2, 4, generator=made, dtype=torch.float64) for _ in range(3))
    noise_schedule = NoiseSchedule(cosine_betas(50))
    for timestep, previous in ((30, 29), (30, 10), (49, 4), (0, -1)):
        alpha_bars = (noise_schedule.alpha_bar(timestep, x_t), noise_schedule.alpha_bar(previous, x_t))
        for kind in ("epsilon", "sample", "v_prediction"):
            for eta, clip in ((0.0, None), (0.0, 0.5), (0.6, None), (1.0, 0.5)):
                options = {"eta": eta, "clip": clip, "prediction_type": kind, "noise": z if eta else None}
                mine, theirs = (each.ddim_step(prediction, x_t, *alpha_bars, **options) for each in (yours, reference))
                named = f"from {timestep} to {previous}, {kind}, eta={eta}, clip={clip}"
                check(f"ddim_step keeps the shape: {named}", mine.shape == x_t.shape)
                check_close(f"ddim_step: {named}", mine, theirs)
    for wrong, given in ((0.5, None), (1.5, z), (-0.1, z)):
        try:
            yours.ddim_step(prediction, x_t, *alpha_bars, eta=wrong, noise=given)
            refused = False
        except ValueError:
            refused = True
        check(
            f"ddim_step with eta={wrong} {'and noise' if given is not None else 'without noise'} raises ValueError",
            refused,
        )

    def denoiser(x, timesteps):
        return x.sin() + timesteps.view(-1, 1, 1) / 50

    for steps in (1, 7, 50):
        for eta in (0.0, 0.5):
            for spacing in ("trailing", "leading"):
                mine, theirs = (
                    each.ddim_sample(
                        denoiser, z, noise_schedule, steps, eta=eta, prediction_type="v_prediction", clip=1.0,
                        spacing=spacing, generator=torch.Generator().manual_seed(3),
                    )
                    for each in (yours, reference)
                )  # fmt: skip
                check_close(f"ddim_sample in {steps} steps, eta={eta}, {spacing}", mine, theirs)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### How does the network know how noisy the picture is? · 网络怎么知道图片有多少噪声？

# %% [markdown] lang="en"
# It is told the timestep. Sinusoids turn the number into features, an MLP mixes them, and each residual block adds a projection of
# the result to its channels. One network thus serves all noise levels and shares what they have in common. (It could
# mostly guess the level from the picture; being told is easier and more exact.)

# %% [markdown] lang="zh"
# 把时间步告诉它。正弦把这个数变成特征，MLP 再混合它们，每个残差块把结果投影后加到自己的通道上。
# 这样一个网络就能用于所有噪声水平，并共享其中共同的部分。（从图片多半也能猜出噪声水平；但直接告诉它更容易、更准确。）

# %%
codes = timestep_embedding(torch.tensor([0, 10, 500, 999]), 16)
print("  distances between the embeddings of timesteps 0, 10, 500, 999:")
for row in torch.cdist(codes, codes).tolist():
    print("   ", written(row))

# %% [markdown]
# ### Why a U-Net and not a plain stack of convolutions? · 为什么用 U-Net，而不是一串普通的卷积？

# %% [markdown] lang="en"
# The output has the size of the input and must be right at each pixel, and what is right depends on the whole picture. On
# the way down, features see more and more of it at low cost; the kept results bring the exact places back. Without them,
# all detail would have to pass through the lowest level. Diffusion Transformers (Peebles & Xie 2023) reach the same with
# attention over patches, at higher cost.

# %% [markdown] lang="zh"
# 输出与输入一样大，每个像素都要对，而怎样才对取决于整张图片。向下时特征以很低的代价看到越来越大的范围；保留的结果带回准确的位置。
# 没有它们，所有细节都得挤过最低一层。扩散 Transformer（Peebles 与 Xie 2023）用图块上的注意力做到同样的事，代价更高。

# %%
network = trained["flow", 0][1]
print(f"  this U-Net has {sum(each.numel() for each in network.parameters()):,} parameters")
probe = torch.zeros(1, 1, 8, 8, requires_grad=True)
network(probe, torch.tensor([500.0]), torch.tensor([3]))[0, 0, 0, 0].backward()
print(f"  one pixel of the output depends on {int((probe.grad != 0).sum())} of the 64 pixels of the input")

# %% [markdown]
# ### How can DDIM skip steps with a network that was trained for a thousand? · 网络按一千步训练，DDIM 为什么可以跳步？

# %% [markdown] lang="en"
# Training fixes only the distributions of $x_t$ given $x_0$, and many processes share them. DDPM's draws fresh noise at
# each step, which later steps must remove. DDIM's draws none: it follows an ordinary differential equation, whose paths
# are smooth, so that large steps err little. The network is the same; only the sampler differs. Where the network
# itself errs, fresh noise can also help, since it covers the errors of earlier steps.

# %% [markdown] lang="zh"
# 训练只规定了给定 $x_0$ 时 $x_t$ 的分布，而许多过程都有这样的分布。DDPM 的过程每步抽新噪声，之后的步子必须再去掉它。
# DDIM 的过程什么也不抽：它沿着一个常微分方程走，路径光滑，步子大误差也小。网络相同，不同的只是采样器。
# 网络本身有误差时，新噪声也可能有好处，因为它掩盖了前面几步的误差。

# %%
for steps in COUNTS:
    print(
        f"  {steps} steps: distance with DDPM {written(away['DDPM', steps])}, with DDIM {written(away['DDIM', steps])}"
    )

# %% [markdown]
# ### What does classifier-free guidance do, and what does it cost? · 无分类器引导做了什么，代价是什么？

# %% [markdown] lang="en"
# It moves each prediction further in the direction in which the label has moved it, as if the classifier $p(c \mid x)$ were
# raised to a power. Samples become more typical and less varied, and the distribution is no longer that of the data; too
# strong, and contrast is exaggerated. It costs two passes for each step, and labels dropped in training.

# %% [markdown] lang="zh"
# 它把每次预测朝标签推动的方向再推远一些，好比把分类器 $p(c \mid x)$ 取了幂。样本更典型，变化更少，分布也不再是数据的分布；
# 太强时对比度会过度。代价是每步跑两遍网络，以及训练时要丢弃一部分标签。

# %%
for scale in SCALES:
    print(
        f"  scale {scale:g}: right {written(guidance['right'][scale], '.0%')}, variety {written(guidance['variety'][scale])}"
    )

# %% [markdown]
# ### How does flow matching differ from diffusion? · 流匹配与扩散有什么不同？

# %% [markdown] lang="en"
# It interpolates along straight lines with weights $1 - t$ and $t$ instead of $\sqrt{\bar\alpha}$ and $\sqrt{1 - \bar\alpha}$, predicts the
# velocity, and samples by solving an equation. With normal noise it is a diffusion model with another schedule and
# another weighting of errors; each can be rewritten as the other. The paths of *single* pairs are straight, those of
# the model are not, since lines cross and the model predicts their mean; but they bend less, so that few steps do.

# %% [markdown] lang="zh"
# 它沿直线插值，权重是 $1 - t$ 和 $t$，而不是 $\sqrt{\bar\alpha}$ 和 $\sqrt{1 - \bar\alpha}$；预测速度，采样就是解一个方程。
# 噪声为正态时，它就是换了噪声调度、换了误差权重的扩散模型，两者可以互相改写。
# *单个*数据对的路径是直的，模型的路径却不直，因为直线会相交，而模型预测它们的平均；但弯得较少，所以几步就够。

# %%
for steps in COUNTS:
    print(
        f"  {steps} steps: distance with flow matching {written(away['flow', steps])}, with DDIM {written(away['DDIM', steps])}"
    )
time = torch.tensor(0.3)
alpha_bar = (1 - time) ** 2 / ((1 - time) ** 2 + time**2)
print(f"  t = {time:.1f} of the straight line has the signal-to-noise ratio of ᾱ = {alpha_bar:.3f}")

# %% [markdown]
# ### How do you know that the model does not copy its training pictures? · 怎么知道模型没有照抄训练图片？

# %% [markdown] lang="en"
# Look up the nearest training picture of each sample, and compare the distances with those of real pictures that were
# not trained on. Samples that are much nearer are copies. Small data and long training make copies likely; the
# distance in pixels misses shifted ones, so large models are tested on features.

# %% [markdown] lang="zh"
# 为每个样本找最近的训练图片，把距离与未参与训练的真实图片的距离比较。样本若近得多，就是抄的。
# 数据少、训练久时容易抄；像素距离看不出平移过的抄袭，所以大模型要在特征上检验。

# %%
near = {
    name: torch.cdist(some.flatten(1), pictures.flatten(1)).min(dim=1).values.median().item()
    for name, some in (("real digits, kept aside", held_out), ("samples", made["flow", 15][0]))
}
check("no sample is a copy", near["samples"] > 0.5 * near["real digits, kept aside"])
for name, value in near.items():
    print(f"  {name}: median distance to the nearest training picture {value:.2f}")
