# %% [markdown]
# # Autoencoders · 自编码器

# %% [markdown] lang="en"
# After this lesson you can say what an autoencoder learns and why: prove that a linear one finds the subspace of PCA,
# measure what hidden layers add to it, and show that a network which removes noise has learned the direction towards the
# data, the score, on which diffusion models are built. You need PCA (02/02), the perceptron with hidden layers (04/02)
# and the training loop (03/09).

# %% [markdown] lang="zh"
# 学完本课，你能说出自编码器学到了什么、为什么：证明线性自编码器找到的就是 PCA 的子空间，测量隐藏层能带来多少改进，
# 并展示一个学会去噪的网络其实学会了指向数据的方向，即 score（得分函数），扩散模型正是建立在它之上。
# 先修：PCA（02/02）、多层感知机（04/02）、训练循环（03/09）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.generative.autoencoder import (
    Autoencoder,
    denoising_loss,
    denoising_score,
    fully_connected,
    linear_reconstruction,
    optimal_denoiser,
    optimal_encoder,
    reconstruction_error,
)
from dlcommon.neural_networks.stacked_models import StackedModels
from sklearn.decomposition import PCA
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A picture of 14 × 14 pixels is a list of 196 numbers, but hardly any list of 196 numbers is a picture of a digit. How few
# numbers describe the digits, and how are they found, if nobody has labelled anything?
#
# The idea: let a network reproduce its own input. The target costs nothing, and the error is easy to measure. But a network
# that just copies has no error at all, and has learned nothing. So something has to stand in its way: a layer that is too
# narrow for copying, or noise that must not be copied. What does it learn then?

# %% [markdown] lang="zh"
# 一张 14 × 14 像素的图是 196 个数，但随便 196 个数几乎都不是数字的图。描述这些数字最少要几个数？没有任何标签，又怎样找到它们？
#
# 想法：让网络重现自己的输入。目标不用花钱，误差也容易测。但只会照抄的网络误差为零，却什么也没学到。
# 所以必须有东西挡住照抄：一个窄得抄不过去的层，或者不许照抄的噪声。那么它会学到什么？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *A code of one number.* Four points: $(2, 2)$, $(-2, -2)$, $(1, -1)$, $(-1, 1)$. The decoder is $D = (1, 1)^\top$: it can
# draw only points of the diagonal. Its best encoder is $E = (\frac12, \frac12)$, the mean of both coordinates: $(2, 2)$ has the
# code 2 and comes back as $(2, 2)$; $(1, -1)$ has the code 0 and comes back as $(0, 0)$, a squared error of 2. The loss is
# $(0 + 0 + 2 + 2) / 4 = 1$. With $D = (2, 2)^\top$ the best encoder is $(\frac14, \frac14)$: other codes, the same
# reconstructions. With $D = (1, 0)^\top$ the second coordinate is lost: $(4 + 4 + 1 + 1) / 4 = 2.5$. The variances along
# the diagonals are 4 and 1: the best line keeps the 4 and loses the 1.
#
# *Noise.* The data are two points on a line, $-1$ and $1$. One of them has been disturbed by noise of $\sigma = 1$, and 0.5 is
# seen. The weights of the two are as $e^{-1.5^2/2}$ to $e^{-0.5^2/2}$, that is 0.269 and 0.731; the best guess is
# $-0.269 + 0.731 = 0.462$. With $\sigma = 0.5$ the weights are 0.018 and 0.982, the guess is 0.964, and the step towards
# it, divided by $\sigma^2$, is $(0.964 - 0.5) / 0.25 = 1.856$: to the right, to the nearest point.

# %% [markdown] lang="zh"
# *只用一个数的编码。* 四个点：$(2, 2)$、$(-2, -2)$、$(1, -1)$、$(-1, 1)$。解码器 $D = (1, 1)^\top$ 只能画出对角线上的点。
# 与它最配的编码器是 $E = (\frac12, \frac12)$，即两个坐标的平均：$(2, 2)$ 的编码是 2，还原为 $(2, 2)$；
# $(1, -1)$ 的编码是 0，还原为 $(0, 0)$，平方误差 2。损失是 $(0 + 0 + 2 + 2) / 4 = 1$。
# 若 $D = (2, 2)^\top$，最配的编码器是 $(\frac14, \frac14)$：编码不同，还原相同。
# 若 $D = (1, 0)^\top$，第二个坐标丢了：$(4 + 4 + 1 + 1) / 4 = 2.5$。两条对角线方向的方差是 4 和 1：最好的直线保住 4，丢掉 1。
#
# *噪声。* 数据是直线上的两个点 $-1$ 和 $1$。其中一个被 $\sigma = 1$ 的噪声扰动，看到的是 0.5。
# 两者的权重之比是 $e^{-1.5^2/2}$ 比 $e^{-0.5^2/2}$，即 0.269 和 0.731；最好的猜测是 $-0.269 + 0.731 = 0.462$。
# 若 $\sigma = 0.5$，权重是 0.018 和 0.982，猜测是 0.964；
# 朝它走的一步除以 $\sigma^2$ 是 $(0.964 - 0.5) / 0.25 = 1.856$：向右，指向最近的点。

# %%
points = torch.tensor([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0], [-1.0, 1.0]])
hand_losses = {}
for name, column in (("(1, 1)", [1.0, 1.0]), ("(2, 2)", [2.0, 2.0]), ("(1, 0)", [1.0, 0.0])):
    hand_decoder = torch.tensor(column)[:, None]  # [features 2, latent 1]
    hand_encoder = optimal_encoder(hand_decoder)
    hand_losses[name] = reconstruction_error(linear_reconstruction(points, hand_encoder, hand_decoder), points).item()
    print(f"  decoder {name}: best encoder {hand_encoder.flatten().tolist()}, loss {hand_losses[name]}")
two_points, seen = torch.tensor([[-1.0], [1.0]]), torch.tensor([[0.5]])
guesses = {std: optimal_denoiser(seen, two_points, std) for std in (1.0, 0.5)}
hand_scores = {std: denoising_score(guess, seen, std).item() for std, guess in guesses.items()}
table(["σ", "best guess", "step towards it / σ²"], [(std, guesses[std].item(), hand_scores[std]) for std in guesses])

drawing = Schematic(13.6, 3.3, "An autoencoder; dashed: the denoising one")
for name, x, y, text, kind, width in (
    ("x", 0.9, 1.6, "sample x", "data", 1.4),
    ("noise", 2.8, 2.8, "noise σε", "data", 1.4),
    ("plus", 2.8, 1.6, "+", "operation", 0.6),
    ("encoder", 4.8, 1.6, "encoder", "parameter", 1.5),
    ("code", 6.9, 1.6, "code, narrow", "data", 1.6),
    ("decoder", 9.0, 1.6, "decoder", "parameter", 1.5),
    ("y", 11.0, 1.6, "reconstruction", "data", 1.8),
    ("loss", 12.8, 1.6, "distance²", "operation", 1.3),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (("x", "plus"), ("plus", "encoder"), ("encoder", "code"), ("code", "decoder"), ("decoder", "y")):
    drawing.arrow(start, end)
drawing.arrow("noise", "plus", dashed=True)
drawing.arrow("y", "loss")
drawing.arrow("x", "loss", "target", bend=-0.16)
show(drawing.figure, "autoencoder")

# %% [markdown]
# ## Formula · 公式
#
# $$L(E, D) = \frac1N \sum_{n=1}^N \lVert x_n - D E x_n \rVert^2$$
#
# $$E^* = (D^\top D)^{-1} D^\top, \qquad D E^* = P, \qquad P^2 = P = P^\top$$
#
# $$L(E^*, D) = \mathrm{tr}\, S - \mathrm{tr}\, P S \;\ge\; \sum_{i > k} \lambda_i$$
#
# $$L_\sigma(r) = \mathbb{E} \lVert r(x + \sigma \varepsilon) - x \rVert^2, \qquad r^*(\tilde x) = \mathbb{E}[x \mid \tilde x] = \tilde x + \sigma^2 \, \nabla \log p_\sigma(\tilde x)$$

# %% [markdown] lang="en"
# - $x_n$: a sample of $N$, centered, `[features]`; $S = \frac1N \sum_n x_n x_n^\top$: the covariance,
#   `[features, features]`; $\lambda_1 \ge \lambda_2 \ge \dots$: its eigenvalues, the variances along the principal
#   components $u_1, u_2, \dots$
# - $E$: the encoder, `[latent, features]`; $D$: the decoder, `[features, latent]`; $k$: the number of latent units.
# - $P$: the orthogonal projection onto the column space of $D$, `[features, features]`.
# - $r$: a network that sees the noisy sample $\tilde x = x + \sigma \varepsilon$, with $\varepsilon \sim N(0, I)$, and is asked
#   for $x$ (Vincent et al. 2008).
# - $p_\sigma$: the density of noisy samples; $\nabla \log p_\sigma$: its *score*, the direction in which it grows fastest.
#   For small $\sigma$ it is the score of the data (Alain & Bengio 2014, theorem 1).
#
# *Why PCA.* For a given decoder the best reconstruction of $x$ is the nearest point that $D$ can draw, $P x$, and the
# pseudo-inverse $E^*$ gives its code. Because $P^2 = P = P^\top$, $\lVert x - P x \rVert^2 = \lVert x \rVert^2 - x^\top P x$; the
# mean is $\mathrm{tr}\, S - \mathrm{tr}\, P S$. In the eigenbasis $\mathrm{tr}\, P S = \sum_i \lambda_i p_i$ with
# $p_i = u_i^\top P u_i$. These $p_i$ lie between 0 and 1 and add up to $\mathrm{tr}\, P = k$, so that the sum is largest
# if the first $k$ are 1: $D$ spans the first $k$ components, and the loss is the rest of the variance. If
# $\lambda_k > \lambda_{k+1}$, no other subspace reaches it. But $DA$ and $A^{-1}E$ give the same product for every invertible
# $A$: the subspace is determined, the code is not. And every other set of $k$ eigenvectors is a saddle, never a
# minimum (Baldi & Hornik 1989): no training gets stuck for good.
#
# *Why the score.* The minimum of a squared error is the conditional mean. The noisy density is
# $p_\sigma(\tilde x) = \int p(x)\, N(\tilde x; x, \sigma^2 I)\, dx$; its gradient brings down a factor $(x - \tilde x) / \sigma^2$,
# hence $\nabla p_\sigma(\tilde x) = p_\sigma(\tilde x)\, (\mathbb{E}[x \mid \tilde x] - \tilde x) / \sigma^2$. Divide by
# $p_\sigma$. (Robbins 1956, where it is credited to Tweedie; Miyasawa 1961; Vincent 2011 for networks.)

# %% [markdown] lang="zh"
# - $x_n$：共 $N$ 个样本之一，已中心化，`[features]`；$S = \frac1N \sum_n x_n x_n^\top$：协方差，`[features, features]`；
#   $\lambda_1 \ge \lambda_2 \ge \dots$：它的特征值，即沿主成分 $u_1, u_2, \dots$ 的方差。
# - $E$：编码器，`[latent, features]`；$D$：解码器，`[features, latent]`；$k$：潜在单元数。
# - $P$：到 $D$ 的列空间的正交投影，`[features, features]`。
# - $r$：看到带噪样本 $\tilde x = x + \sigma \varepsilon$（$\varepsilon \sim N(0, I)$）而要答出 $x$ 的网络（Vincent 等 2008）。
# - $p_\sigma$：带噪样本的密度；$\nabla \log p_\sigma$：它的 *score*，即密度增长最快的方向。
#   $\sigma$ 很小时就是数据本身的 score（Alain & Bengio 2014，定理 1）。
#
# *为什么是 PCA。* 解码器给定时，$x$ 的最佳还原是 $D$ 能画出的最近的点 $P x$，伪逆 $E^*$ 给出它的编码。
# 因为 $P^2 = P = P^\top$，所以 $\lVert x - P x \rVert^2 = \lVert x \rVert^2 - x^\top P x$，取平均就是 $\mathrm{tr}\, S - \mathrm{tr}\, P S$。
# 在特征基下 $\mathrm{tr}\, P S = \sum_i \lambda_i p_i$，其中 $p_i = u_i^\top P u_i$。
# 这些 $p_i$ 在 0 与 1 之间，总和为 $\mathrm{tr}\, P = k$，所以前 $k$ 个取 1 时和最大：
# $D$ 张成前 $k$ 个主成分，损失就是剩下的方差。若 $\lambda_k > \lambda_{k+1}$，别的子空间都达不到。
# 但对任何可逆的 $A$，$DA$ 与 $A^{-1}E$ 的乘积不变：子空间是确定的，编码不是。
# 其他任何 $k$ 个特征向量的组合都是鞍点，不是极小点（Baldi & Hornik 1989）：训练不会永远卡住。
#
# *为什么是 score。* 平方误差的最小点是条件均值。
# 带噪密度是 $p_\sigma(\tilde x) = \int p(x)\, N(\tilde x; x, \sigma^2 I)\, dx$；求梯度时多出一个因子 $(x - \tilde x) / \sigma^2$，
# 于是 $\nabla p_\sigma(\tilde x) = p_\sigma(\tilde x)\, (\mathbb{E}[x \mid \tilde x] - \tilde x) / \sigma^2$，再除以 $p_\sigma$ 即得。
# （Robbins 1956，文中归功于 Tweedie；Miyasawa 1961；用于网络：Vincent 2011。）

# %% [markdown]
# ## Code · 代码

# %%
source(linear_reconstruction)
source(optimal_encoder)
source(Autoencoder.__init__)
source(denoising_loss)
source(optimal_denoiser)

# %% [markdown] lang="en"
# Samples are rows, so that $D E x$ is written `samples @ encoder.T @ decoder.T`. `optimal_encoder` solves
# $(D^\top D)\, E = D^\top$, a small system, instead of inverting a matrix. `Autoencoder` mirrors the widths of the encoder in
# the decoder; its last layer is linear, since a reconstruction may have any value.
#
# In `denoising_loss` only the network's input is noisy; the target is clean. `optimal_denoiser` knows all samples: distances
# `[batch, samples]`, a softmax over the samples, a weighted mean. (It is attention whose keys and values are the data.)

# %% [markdown] lang="zh"
# 样本是行，所以 $D E x$ 写作 `samples @ encoder.T @ decoder.T`。`optimal_encoder` 解小方程组 $(D^\top D)\, E = D^\top$，不求逆矩阵。
# `Autoencoder` 的解码器各层宽度与编码器对称；最后一层是线性的，因为还原值可以是任意数。
#
# `denoising_loss` 里只有网络的输入带噪声，目标是干净的。
# `optimal_denoiser` 知道所有样本：距离 `[batch, samples]`，对样本做 softmax，再加权平均。（这就是以数据为键和值的注意力。）

# %% [markdown]
# ## Experiment: a linear autoencoder · 实验：线性自编码器

# %% [markdown] lang="en"
# Real digits, 14 × 14 (each pixel the mean of four), 4,000 for training and 1,000 for testing. Two matrices are trained by
# their gradients (L-BFGS) from three random starts, with a code of four numbers. The loss depends on the samples only through
# their covariance, so that 196 vectors of the same covariance stand for the 4,000.

# %% [markdown] lang="zh"
# 真实的手写数字，14 × 14（每个像素是四个像素的平均），4,000 张训练，1,000 张测试。
# 两个矩阵从三个随机起点用梯度训练（L-BFGS），编码为四个数。
# 损失只通过协方差依赖于样本，所以用协方差相同的 196 个向量代替 4,000 个样本。

# %%
quiz(
    "linear",
    en="A linear autoencoder is trained to the minimum. Its four code numbers compared with PCA's:",
    zh="线性自编码器训练到最小值。它的四个编码数与 PCA 的相比：",
    choices={
        "same": "the same numbers · 数值相同",
        "subspace": "other coordinates of the same subspace · 同一子空间的另一组坐标",
        "other": "another subspace · 另一个子空间",
    },
)

# %%
SEEDS, PIXELS = (0, 1, 2), 196
digits = data("mnist-sample")


def quartered(images) -> torch.Tensor:
    """Averages 2 × 2 pixels of images [n, 784], 0 to 255: [n, 196], 0 to 1."""
    whole = torch.from_numpy(images.reshape(-1, 1, 28, 28)).float() / 255
    return F.avg_pool2d(whole, 2).flatten(1)


train, test = quartered(digits.train_images), quartered(digits.test_images)
mean = train.mean(dim=0)
train, test = train - mean, test - mean  # [4000, 196] and [1000, 196]
_, values, components = torch.linalg.svd(train.double(), full_matrices=False)  # components: rows, [196, 196]
variances = values.square() / len(train)
compact = (values * math.sqrt(PIXELS / len(train)))[:, None] * components  # [196 vectors, 196], the same covariance


def pca_error(samples: torch.Tensor, k: int) -> float:
    """Error of samples [n, 196] that are projected onto the first k components of the training samples."""
    first = components[:k].to(samples)
    return reconstruction_error(samples @ first.T @ first, samples).item()


def train_linear(k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    encoder = (0.1 * torch.randn(k, PIXELS, generator=generator)).double().requires_grad_()
    decoder = (0.1 * torch.randn(PIXELS, k, generator=generator)).double().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [encoder, decoder], max_iter=300, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-13,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = reconstruction_error(linear_reconstruction(compact, encoder, decoder), compact)
        loss.backward()
        return loss

    optimizer.step(closure)
    return encoder.detach(), decoder.detach()


linear_rows, single_cosines = [], []
for seed in SEEDS:
    encoder, decoder = train_linear(4, seed)
    loss = reconstruction_error(linear_reconstruction(train.double(), encoder, decoder), train.double()).item()
    basis = torch.linalg.qr(decoder).Q  # orthonormal columns of the same span
    principal = torch.linalg.svdvals(components[:4] @ basis)  # cosines of the angles between the two subspaces
    directions = decoder / decoder.norm(dim=0)
    single_cosines.append((components[:4] @ directions).abs().amax(dim=1).min().item())
    linear_rows.append((seed, loss, variances[4:].sum().item(), principal.min().item(), single_cosines[-1]))
table(["seed", "loss", "PCA's loss", "least cosine of the subspaces", "of single directions"], linear_rows)
same_subspace = min(row[3] for row in linear_rows) > 0.999
settle("linear", ("same" if min(single_cosines) > 0.999 else "subspace") if same_subspace else "other")

# %% [markdown] lang="en"
# The loss is PCA's, the subspace is PCA's, from every start; the columns of the decoder are not the components. PCA adds two
# conventions that the loss does not know: orthogonal directions, ordered by variance.

# %% [markdown] lang="zh"
# 无论从哪里开始，损失都等于 PCA 的损失，子空间也是 PCA 的子空间；但解码器的各列并不是主成分。
# PCA 另外加了损失所不知道的两个约定：方向互相正交，并按方差排序。

# %% [markdown]
# ## Experiment: the bottleneck · 实验：瓶颈

# %% [markdown] lang="en"
# Now a hidden layer of 128 units with ReLU on each side, for codes of 2, 8 and 32 numbers; three seeds, 250 updates with
# batches of 100. The seeds are trained together (`StackedModels`): three products in one. Errors are those of the 1,000 test
# digits, squared and summed over the pixels.

# %% [markdown] lang="zh"
# 现在编码器和解码器各加一个 128 个单元的 ReLU 隐藏层，编码为 2、8、32 个数；三个种子，各更新 250 次，批大小 100。
# 三个种子一起训练（`StackedModels`）：三个乘积合成一个。误差是 1,000 张测试图的平方误差，对像素求和。

# %%
quiz(
    "two numbers",
    en="With a code of 2 numbers: what fraction of PCA's error do hidden layers leave?",
    zh="编码为 2 个数时：有隐藏层的误差是 PCA 误差的几分之几（小数）？",
)


# %%
def train_stacked(models: list[nn.Module], draw, updates: int, std: float = 0.0) -> list[nn.Module]:
    """Trains models of one shape with batches [models, batch, features] of `draw`, and noise of `std` on the inputs."""
    stacked, generator = StackedModels(models), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(stacked.parameters(), lr=1e-2, fused=True)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, 2 - 2 * update / updates)  # falls in the second half
        clean = draw(generator)
        noise = torch.randn(clean.shape, generator=generator)
        loss = len(models) * denoising_loss(stacked, clean, noise, std)  # the sum of the models' losses
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return stacked.unstack()


def of_each_seed(build) -> list[nn.Module]:
    models = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        models.append(build())
    return models


def digit_batches(generator: torch.Generator) -> torch.Tensor:
    return train[torch.randint(len(train), (len(SEEDS), 100), generator=generator)]


SIZES = (2, 8, 32)
nonlinear = {
    k: train_stacked(of_each_seed(lambda k=k: Autoencoder(PIXELS, (128,), k)), digit_batches, 250) for k in SIZES
}
with torch.no_grad():
    errors = {k: [reconstruction_error(model(test), test).item() for model in nonlinear[k]] for k in SIZES}
linear_errors = {k: pca_error(test, k) for k in SIZES}
fractions = {k: [error / linear_errors[k] for error in errors[k]] for k in SIZES}
table(
    ["code", "PCA", "seed 0", "seed 1", "seed 2", "of PCA's"],
    [(k, linear_errors[k], *errors[k], f"{sum(fractions[k]) / len(SEEDS):.0%}") for k in SIZES],
)
settle("two numbers", sum(fractions[2]) / len(SEEDS), tolerance=0.05)

figure, axes = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained", width_ratios=(1.5, 1, 1))
shown = torch.tensor([int((torch.from_numpy(digits.test_labels) == label).nonzero()[0]) for label in range(10)])
first = components[:8].float()
rows = [test[shown], test[shown] @ first.T @ first, nonlinear[8][0](test[shown]).detach()]
rows += [test[shown] @ first[:2].T @ first[:2], nonlinear[2][0](test[shown]).detach()]
mosaic = torch.cat([torch.cat([(image + mean).view(14, 14) for image in row], dim=1) for row in rows])
axes[0].imshow(mosaic.clamp(0, 1).numpy(), cmap="gray_r")
axes[0].set(xticks=[], title="Five rows of the same ten test digits")
axes[0].set_yticks([7, 21, 35, 49, 63], ["test", "PCA 8", "autoencoder 8", "PCA 2", "autoencoder 2"])
codes = {"PCA, 2 numbers": test @ first[:2].T, "autoencoder, 2 numbers": nonlinear[2][0].encoder(test).detach()}
for axis, (name, code) in zip(axes[1:], codes.items(), strict=True):
    scatter = axis.scatter(code[:, 0], code[:, 1], c=digits.test_labels, cmap="tab10", s=8)
    axis.set(title=f"{name}; color: the digit", xlabel="first", ylabel="second")
figure.colorbar(scatter, ax=axes[2])
show(figure, "bottleneck")

# %% [markdown] lang="en"
# Hidden layers bend the plane that PCA has to leave flat, and pass nearer to the digits, with every seed and at every size.
# The fewer dimensions are enough because digits lie near a *curved* surface of few dimensions. The gain at 8 is the largest
# in proportion; at 32 a flat subspace is nearly as good (and these networks are trained for a few seconds only). The map of 2
# numbers has never seen a label, and still sorts many digits into regions. But it has holes: what does the decoder draw
# between two regions? Nothing has told it. That is the next lesson.

# %% [markdown] lang="zh"
# 隐藏层把 PCA 只能保持平直的平面弯曲，更贴近这些数字，每个种子、每种大小都如此。
# 数字位于维数很低的*弯曲*曲面附近，所以较少的维数就够了。按比例看，8 个数时改进最大；32 个数时平直的子空间已差不多够好（而且这些网络只训练了几秒）。
# 两个数的图从未见过标签，却把许多数字分到了不同区域。但图上有空洞：解码器在两个区域之间会画出什么？没有任何东西教过它。这是下一课的内容。

# %% [markdown]
# ## Experiment: noise instead of a bottleneck · 实验：用噪声代替瓶颈

# %% [markdown] lang="en"
# Points on a spiral in the plane. The network is 2–64–64–64–2: much wider than the data, so that copying is easy. Trained
# once without noise, once with noise of $\sigma = 0.25$ on its inputs, three seeds each. Then new noisy points are given to
# it, and its step $(r(\tilde x) - \tilde x) / \sigma^2$ is compared with the exact score of the noisy density: the cosine between
# the two fields, and the squared error relative to the score's own square.

# %% [markdown] lang="zh"
# 平面上一条螺旋线上的点。网络是 2–64–64–64–2：比数据宽得多，照抄很容易。
# 一次不加噪声训练，一次在输入上加 $\sigma = 0.25$ 的噪声训练，各三个种子。
# 然后给它新的带噪点，把它的步子 $(r(\tilde x) - \tilde x) / \sigma^2$ 与带噪密度的精确 score 比较：
# 两个向量场之间的余弦，以及相对于 score 自身平方的平方误差。

# %%
quiz(
    "direction",
    en="Two networks, trained with and without noise: whose step leads from a noisy point to the spiral?",
    zh="加噪声训练和不加噪声训练的两个网络：谁的步子从带噪点走向螺旋线？",
    choices={
        "both": "both · 两个都是",
        "noise": "only the one trained with noise · 只有加噪声训练的那个",
        "none": "neither, nobody has shown them a direction · 都不是，没人给它们看过方向",
    },
)

# %%
STD = 0.25


def spiral(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws points [count, 2] of a spiral of one and a half turns."""
    turn = torch.rand(count, generator=generator).sqrt() * 3 * math.pi
    return turn[:, None] * torch.stack((turn.cos(), turn.sin()), dim=1) / 5


random = torch.Generator().manual_seed(0)
curve = spiral(1500, random)  # what the networks are trained on


def spiral_batches(generator: torch.Generator) -> torch.Tensor:
    return curve[torch.randint(len(curve), (len(SEEDS), 256), generator=generator)]


denoisers = {
    name: train_stacked(of_each_seed(lambda: Autoencoder(2, (64, 64), 64)), spiral_batches, 300, std)
    for name, std in (("without noise", 0.0), ("with noise", STD))
}
noisy = spiral(1000, random)
noisy = noisy + STD * torch.randn(noisy.shape, generator=random)
true_score = denoising_score(optimal_denoiser(noisy, curve, STD), noisy, STD)  # [1000, 2]
cosines, misses, nearer = {}, {}, {}
with torch.no_grad():
    for name, models in denoisers.items():
        steps = [denoising_score(model(noisy), noisy, STD) for model in models]
        cosines[name] = [F.cosine_similarity(step.flatten(), true_score.flatten(), dim=0).item() for step in steps]
        misses[name] = [((step - true_score).square().sum() / true_score.square().sum()).item() for step in steps]
        walks = [noisy]
        for _ in range(3):
            walks.append(denoisers[name][0](walks[-1]))
        nearer[name] = [torch.cdist(walk, curve).amin(dim=1).mean().item() for walk in walks]
table(
    ["trained", "cosine with the score, three seeds", "relative squared error"],
    [
        (name, " ".join(f"{v:.2f}" for v in cosines[name]), " ".join(f"{v:.2f}" for v in misses[name]))
        for name in denoisers
    ],
)
settle("direction", "noise" if min(cosines["with noise"]) > 0.9 > max(cosines["without noise"]) else "both")
table(
    ["mean distance to the spiral", "noisy", "denoised once", "twice", "three times"],
    [(name, *nearer[name]) for name in denoisers],
)

figure, axes = plt.subplots(1, 3, figsize=(15, 4.8), layout="constrained", sharex=True, sharey=True)
line = torch.linspace(-2.2, 2.2, 23)
grid = torch.cartesian_prod(line, line)
grid = grid[torch.cdist(grid, curve).amin(dim=1) < 2.2 * STD]  # where noisy points are seen
fields = {"exact score of the noisy density": denoising_score(optimal_denoiser(grid, curve, STD), grid, STD)}
for name, models in denoisers.items():
    fields[f"(r(x) − x) / σ², trained {name}"] = denoising_score(models[0](grid).detach(), grid, STD)
for axis, (name, field) in zip(axes, fields.items(), strict=True):
    axis.scatter(curve[:, 0], curve[:, 1], s=2, color="tab:orange")
    axis.quiver(grid[:, 0], grid[:, 1], field[:, 0], field[:, 1], angles="xy", scale=130, width=0.003)
    axis.set(title=name, aspect="equal")
show(figure, "score")

# %% [markdown] lang="en"
# Nobody has shown the network an arrow, and yet its step is the score, nearly: to predict the mean of the clean points that may
# be behind a noisy one, it must know where the data are. Without noise, $r(x) = x$ on the spiral is all that was asked
# for; beside it the network does something, but not that.
#
# A score is enough to *generate*: start anywhere, step along it, add a little noise, repeat (Langevin dynamics). With one
# noise level it works near the data only; far away there are no samples, and the arrows are guesses. Diffusion models
# (08/06) learn the score for many levels, from pure noise down to none.

# %% [markdown] lang="zh"
# 没人给网络看过箭头，它的步子却几乎就是 score：要预测一个带噪点背后可能的干净点的均值，它就必须知道数据在哪里。
# 不加噪声时，只要求它在螺旋线上 $r(x) = x$；线外它也会做点什么，但不是这个。
#
# 有了 score 就能*生成*：从任意处出发，沿它走一步，加一点噪声，反复进行（朗之万动力学）。
# 只有一个噪声水平时，只在数据附近有效；远处没有样本，箭头只是猜测。扩散模型（08/06）为从纯噪声到无噪声的许多水平学习 score。

# %% [markdown]
# ## Experiment: noisy digits · 实验：带噪声的数字

# %% [markdown] lang="en"
# The same on digits: a code of 64, wide enough to copy most of a picture, 160 updates, noise of $\sigma = 0.4$ on every pixel.
# The opponents: the same network trained without noise, and PCA with the number of components that is best for these very test
# digits, which is more than one could know beforehand.

# %% [markdown] lang="zh"
# 在数字上做同样的事：编码为 64 个数，足以抄下图的大部分，更新 160 次，每个像素加 $\sigma = 0.4$ 的噪声。
# 对手：不加噪声训练的同一网络；以及 PCA，主成分个数取恰好对这些测试图最好的，这是事先不可能知道的。

# %%
DIGIT_STD = 0.4
noisy_test = test + DIGIT_STD * torch.randn(test.shape, generator=random)
best_size = min(
    range(1, 60),
    key=lambda k: reconstruction_error(noisy_test @ components[:k].T.float() @ components[:k].float(), test).item(),
)
chosen = components[:best_size].float()
projected = noisy_test @ chosen.T @ chosen
cleaners = {
    name: train_stacked(of_each_seed(lambda: Autoencoder(PIXELS, (128,), 64)), digit_batches, 160, std)
    for name, std in (("trained without noise", 0.0), ("trained with noise", DIGIT_STD))
}
with torch.no_grad():
    left = {
        name: [reconstruction_error(model(noisy_test), test).item() for model in models]
        for name, models in cleaners.items()
    }
untouched, by_pca = reconstruction_error(noisy_test, test).item(), reconstruction_error(projected, test).item()
table(
    ["error against the clean digit", "seed 0", "seed 1", "seed 2"],
    [
        ("noisy, as it is", untouched, "", ""),
        (f"PCA, best size {best_size}", by_pca, "", ""),
        *((name, *values) for name, values in left.items()),
    ],
)
figure, axis = plt.subplots(figsize=(9, 4.6), layout="constrained")
rows = [test, noisy_test, projected, *(models[0](noisy_test).detach() for models in cleaners.values())]
mosaic = torch.cat([torch.cat([(image + mean).view(14, 14) for image in row[shown]], dim=1) for row in rows])
axis.imshow(mosaic.clamp(0, 1).numpy(), cmap="gray_r")
axis.set(xticks=[])
axis.set_yticks([7, 21, 35, 49, 63], ["clean", "noisy", f"PCA {best_size}", *cleaners])
show(figure, "denoised")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The projection against scikit-learn's PCA; the encoder against `torch.linalg.pinv`, the error against `F.mse_loss` and the
# score against the derivative of a mixture of Gaussians of `torch.distributions`, one around each sample: values and gradients.

# %% [markdown] lang="zh"
# 投影对照 scikit-learn 的 PCA；编码器对照 `torch.linalg.pinv`，误差对照 `F.mse_loss`，
# score 对照 `torch.distributions` 的高斯混合（每个样本周围一个高斯）的导数：比较数值和梯度。

# %%
reference = torch.from_numpy(PCA(4).fit(train.double().numpy()).components_)
some = torch.randn(7, 3, generator=random, dtype=torch.float64).requires_grad_()
encoders = {"ours": optimal_encoder(some), "torch": torch.linalg.pinv(some)}
encoder_gradients = {whose: torch.autograd.grad(each.square().sum(), some)[0] for whose, each in encoders.items()}
squared = {
    "ours": reconstruction_error(some, torch.ones_like(some)),
    "torch": 3 * F.mse_loss(some, torch.ones_like(some)),
}
error_gradients = {whose: torch.autograd.grad(each, some)[0] for whose, each in squared.items()}
at, around = noisy[:20].double().requires_grad_(), curve[:300].double()
mixture = MixtureSameFamily(
    Categorical(torch.ones(300, dtype=torch.float64)), Independent(Normal(around, torch.tensor(STD).double()), 1)
)
scores = {
    "ours": denoising_score(optimal_denoiser(at, around, STD), at, STD),
    "torch": torch.autograd.grad(mixture.log_prob(at).sum(), at, create_graph=True)[0],
}
score_gradients = {whose: torch.autograd.grad(each.square().sum(), at)[0] for whose, each in scores.items()}

# A plane of wrong eigenvectors, components 1 and 3, and the same turned a little from the third towards the second.
wrong = components[[0, 2]].T.clone().requires_grad_()
wrong_loss = reconstruction_error(linear_reconstruction(compact, optimal_encoder(wrong), wrong), compact)
wrong_gradient = torch.autograd.grad(wrong_loss, wrong)[0]
turned = torch.stack((components[0], 0.995 * components[2] + 0.1 * components[1]), dim=1)
turned_loss = reconstruction_error(linear_reconstruction(compact, optimal_encoder(turned), turned), compact)

# %% [markdown]
# ## Checks · 检验

# %%
check("by hand: losses 1, 1 and 2.5", list(hand_losses.values()) == [1.0, 1.0, 2.5])
check_close("by hand: guesses 0.462 and 0.964", [each.item() for each in guesses.values()], [0.462, 0.964], 1e-3)
check_close("by hand: the score at 0.5 is −0.038 and 1.856", list(hand_scores.values()), [-0.038, 1.856], 1e-3)
check_close("the pseudo-inverse equals torch's", encoders["ours"], encoders["torch"], 1e-9)
check_close("so does its gradient", encoder_gradients["ours"], encoder_gradients["torch"], 1e-9)
check_close("the error is torch's mean squared error times the features", squared["ours"], squared["torch"], 1e-9)
check_close("so is its gradient", error_gradients["ours"], error_gradients["torch"], 1e-9)
check_close("the optimal denoiser's step is the derivative of log p", scores["ours"], scores["torch"], 1e-9)
check_close("so are its gradients", score_gradients["ours"], score_gradients["torch"], 1e-8)
for seed, loss, expected, cosine, _ in linear_rows:
    check_close(f"linear, seed {seed}: the loss is the variance of the components left out", loss, expected, 1e-5)
    check_close(f"linear, seed {seed}: the subspace is PCA's", cosine, 1.0, 1e-5)
projector = components[:4].T @ components[:4]
check_close("scikit-learn's components span the same", reference.T @ reference, projector, 1e-8)
check_close(
    "wrong eigenvectors: their loss is theirs", wrong_loss.item(), variances.sum() - variances[0] - variances[2], 1e-8
)
check("wrong eigenvectors: no gradient", wrong_gradient.abs().max() < 1e-10)
check("wrong eigenvectors: a saddle, turned towards a better one the loss falls", turned_loss < wrong_loss)
check(
    "hidden layers lower the error at every size, with every seed",
    all(fraction < 0.97 for k in SIZES for fraction in fractions[k]),
)
check(
    "most at 8 in proportion, least at 32, with every seed", max(fractions[8]) < min(fractions[2] + fractions[32])
    and min(fractions[32]) > max(fractions[2] + fractions[8]),
)  # fmt: skip
check("trained with noise, the step is nearly the score, with every seed", min(cosines["with noise"]) > 0.93)
check("and misses it by little", max(misses["with noise"]) < 0.15)
check("trained without, it is not, with any", min(misses["without noise"]) > 0.5)
check("denoising brings points nearer to the data", nearer["with noise"][1] < 0.6 * nearer["with noise"][0])
check(
    "digits: trained with noise is better than PCA at its best, with every seed",
    max(left["trained with noise"]) < 0.9 * by_pca,
)
check(
    "and than trained without, with every seed",
    max(left["trained with noise"]) < 0.6 * min(left["trained without noise"]),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Stable Diffusion works in the code of an autoencoder (08/08), because a picture of 512 × 512 is 48 times as many numbers as
# its code. Reconstruction errors also find outliers: what is unlike the training data comes back worse. `uv run lesson run
# 08/05` turns the autoencoder into a model that one can draw from.
#
# Papers: [Baldi & Hornik 1989](https://doi.org/10.1016/0893-6080(89)90014-2), the linear case; [Hinton & Salakhutdinov
# 2006](https://doi.org/10.1126/science.1127647), deep autoencoders against PCA; [Vincent et al.
# 2008](https://doi.org/10.1145/1390156.1390294), denoising; [Vincent 2011](https://doi.org/10.1162/NECO_a_00142), its tie to
# score matching; [Alain & Bengio 2014](https://arxiv.org/abs/1211.4246), what is learned; [Makhzani & Frey
# 2014](https://arxiv.org/abs/1312.5663), sparse codes. Next: the variational autoencoder, 08/05.

# %% [markdown] lang="zh"
# Stable Diffusion 在自编码器的编码上工作（08/08），因为一张 512 × 512 的图的数字个数是其编码的 48 倍。
# 还原误差还能发现异常：与训练数据不像的东西还原得更差。`uv run lesson run 08/05` 把自编码器变成可以从中抽样的模型。
#
# 论文：[Baldi & Hornik 1989](https://doi.org/10.1016/0893-6080(89)90014-2)，线性情形；
# [Hinton & Salakhutdinov 2006](https://doi.org/10.1126/science.1127647)，深层自编码器与 PCA；
# [Vincent 等 2008](https://doi.org/10.1145/1390156.1390294)，去噪；
# [Vincent 2011](https://doi.org/10.1162/NECO_a_00142)，与得分匹配的联系；
# [Alain & Bengio 2014](https://arxiv.org/abs/1211.4246)，学到了什么；
# [Makhzani & Frey 2014](https://arxiv.org/abs/1312.5663)，稀疏编码。下一课：变分自编码器，08/05。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `linear_reconstruction`, `optimal_encoder`, `denoising_loss`, `optimal_denoiser` and `denoising_score` yourself.
# `uv run lesson exercise 08/04` makes a file with their signatures, `uv run lesson check 08/04` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `linear_reconstruction`、`optimal_encoder`、`denoising_loss`、`optimal_denoiser` 和 `denoising_score`。
# `uv run lesson exercise 08/04` 生成带有签名的文件，`uv run lesson check 08/04` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Samples are rows: $E x$ for all of them is `samples @ encoder.T`.
# 2. `torch.linalg.solve(A, B)` gives the $X$ with $A X = B$. Which $A$ and $B$ make $X$ the pseudo-inverse?
# 3. Noise is multiplied by σ and added to the input only; the target stays clean. `reconstruction_error` does the rest.
# 4. `noisy[:, None] - samples` is `[batch, samples, features]`. A Gaussian's log density is −distance² / 2σ², up to a constant
#    that the softmax ignores. Normalize over the samples.
# 5. The score is the step from the noisy point to the denoised one, divided by σ².

# %% [markdown] lang="zh"
# 1. 样本是行：对全部样本算 $E x$ 就是 `samples @ encoder.T`。
# 2. `torch.linalg.solve(A, B)` 给出满足 $A X = B$ 的 $X$。怎样的 $A$ 和 $B$ 使 $X$ 成为伪逆？
# 3. 噪声乘以 σ 后只加到输入上，目标保持干净。其余交给 `reconstruction_error`。
# 4. `noisy[:, None] - samples` 是 `[batch, samples, features]`。高斯的对数密度是 −距离² / 2σ²，常数项会被 softmax 消去。对样本做归一化。
# 5. score 是从带噪点到去噪点的一步，除以 σ²。


# %%
@exercise(linear_reconstruction, optimal_encoder, denoising_loss, optimal_denoiser, denoising_score)
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
            check_close(f"{claim}: the gradient of argument {number}", one, other, 1e-8)

    samples, encoder, decoder = (draw(9, 5).requires_grad_(), draw(2, 5).requires_grad_(), draw(5, 2).requires_grad_())
    compare("linear_reconstruction", "linear_reconstruction", (samples, encoder, decoder))
    compare("optimal_encoder of one column", "optimal_encoder", (draw(5, 1).requires_grad_(),))
    compare("optimal_encoder of three columns", "optimal_encoder", (draw(5, 3).requires_grad_(),))

    clean, noise = draw(9, 5).requires_grad_(), draw(9, 5)
    for name, std in (("σ = 0", 0.0), ("σ = 0.5", 0.5)):
        mine, theirs = (each.denoising_loss(torch.tanh, clean, noise, std) for each in (yours, reference))
        check_close(f"denoising_loss with {name}", mine, theirs, 1e-9)
        gradients = [torch.autograd.grad(loss, clean)[0] for loss in (mine, theirs)]
        check_close(f"denoising_loss with {name}: the gradient of the clean samples", *gradients, 1e-9)

    noisy, known = draw(6, 3).requires_grad_(), draw(8, 3).requires_grad_()
    for std in (1.0, 0.3):
        compare(f"optimal_denoiser with σ = {std}", "optimal_denoiser", (noisy, known), std)
        compare(f"denoising_score with σ = {std}", "denoising_score", (draw(6, 3).requires_grad_(), noisy), std)
    far = yours.optimal_denoiser(torch.full((1, 3), 1e3, dtype=torch.float64), known.detach(), 0.1)
    check("optimal_denoiser far from all samples is finite", far.isfinite().all())


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### How is a linear autoencoder related to PCA? · 线性自编码器与 PCA 是什么关系？

# %% [markdown] lang="en"
# With squared error and centered data its minimum has PCA's loss, the variance of the components that are left out, and its
# decoder spans PCA's subspace. The code is determined only up to an invertible matrix: directions need not be orthogonal
# nor ordered. There are no other local minima, only saddles. With weight decay on both matrices the freedom shrinks to
# rotations (Kunin et al. 2019).

# %% [markdown] lang="zh"
# 平方误差、数据已中心化时，它的最小值就是 PCA 的损失，即被舍弃的主成分的方差，解码器张成 PCA 的子空间。
# 编码只确定到一个可逆矩阵：方向不必正交，也不必有序。没有其他局部极小点，只有鞍点。
# 对两个矩阵都加权重衰减时，自由度缩小为旋转（Kunin 等 2019）。

# %%
encoder, decoder = train_linear(4, 0)
mixing = torch.randn(4, 4, generator=random, dtype=torch.float64)
for name, matrices in (
    ("as trained", (encoder, decoder)),
    ("code mixed by a random matrix", (torch.linalg.inv(mixing) @ encoder, decoder @ mixing)),
):
    print(f"  {name}: loss {reconstruction_error(linear_reconstruction(compact, *matrices), compact):.6f}")
print(f"  PCA: {variances[4:].sum():.6f}")

# %% [markdown]
# ### Why does an autoencoder need a bottleneck or something like it? · 自编码器为什么需要瓶颈之类的限制？

# %% [markdown] lang="en"
# Otherwise the identity has no error, and the code says nothing about the data. A narrow code, noise on the input, a penalty
# for active units (sparse), a penalty for the encoder's derivatives (contractive) or for the information in the code
# (variational) each forbid the plain copy; what is then kept is what is common among the data.

# %% [markdown] lang="zh"
# 否则恒等映射误差为零，编码对数据什么也没说。窄的编码、输入加噪声、对活跃单元的惩罚（稀疏）、对编码器导数的惩罚（收缩）、
# 对编码信息量的惩罚（变分），都禁止单纯照抄；留下来的是数据的共性。

# %%
shuffled_pixels = torch.rand(200, PIXELS, generator=random) - mean  # pictures of nothing
with torch.no_grad():
    for name, model in (("code 8", nonlinear[8][0]), ("code 64, no noise", cleaners["trained without noise"][0])):
        own, alien = (reconstruction_error(model(x), x) / x.square().sum(dim=1).mean() for x in (test, shuffled_pixels))
        print(f"  {name}: loses {own:.0%} of a digit, {alien:.0%} of random pixels")

# %% [markdown]
# ### What does a denoising autoencoder learn? · 去噪自编码器学到了什么？

# %% [markdown] lang="en"
# The conditional mean of the clean sample, which is the noisy one plus σ² times the score of the noisy density. So its step
# points to where data are dense; no density is ever computed, nor its normalizing constant. That is denoising score
# matching, and the loss of DDPM is the same at many noise levels, with the noise as the target instead of the sample.

# %% [markdown] lang="zh"
# 干净样本的条件均值，它等于带噪样本加上 σ² 乘以带噪密度的 score。所以它的步子指向数据稠密处；
# 从不需要计算密度，也不需要归一化常数。这就是去噪得分匹配；DDPM 的损失就是它在许多噪声水平上的版本，只是目标从样本换成了噪声。

# %%
print(f"  cosine of the learned step with the exact score: {' '.join(f'{v:.3f}' for v in cosines['with noise'])}")
print(f"  distance to the data before and after one step: {nearer['with noise'][0]:.3f}, {nearer['with noise'][1]:.3f}")

# %% [markdown]
# ### Why are denoised pictures blurred? · 去噪后的图为什么模糊？

# %% [markdown] lang="en"
# The minimum of a squared error is a mean over all clean samples that may be behind the noisy one. If these differ, the mean
# is none of them. It blurs more the stronger the noise. Diffusion models do not escape this in one step; they remove a
# little noise at a time and draw new noise between, which ends at one sample instead of the mean.

# %% [markdown] lang="zh"
# 平方误差的最小点是带噪样本背后所有可能的干净样本的均值。它们若不相同，均值就不是其中任何一个。噪声越强越模糊。
# 扩散模型一步也躲不开这一点；它每次只去掉一点噪声，中间再加新的噪声，最后到达一个样本而不是均值。

# %%
for std in (0.2, 0.6, 1.5):
    seen_digit = test[:1] + std * torch.randn(1, PIXELS, generator=random)
    weights = (-(seen_digit - train).square().sum(dim=1) / (2 * std**2)).softmax(dim=0)
    spread = 1 / weights.square().sum()
    print(f"  σ = {std}: the best guess is a mean of about {spread:.0f} of the 4,000 training digits")

# %% [markdown]
# ### When do hidden layers pay against PCA? · 隐藏层什么时候比 PCA 划算？

# %% [markdown] lang="en"
# Where the data lie near a curved surface and the code is small. With a large code the flat subspace already holds nearly
# all variance, and PCA is exact, fast, has no seeds and orders its directions. Measure on held-out data; a network can
# also memorize the training samples.

# %% [markdown] lang="zh"
# 当数据位于弯曲的曲面附近、而编码又小的时候。编码大时，平直的子空间已容纳几乎全部方差，
# 而 PCA 精确、快、没有随机种子、方向有序。要在留出的数据上测量；网络还可能背下训练样本。

# %%
for k in SIZES:
    print(f"  code {k}: PCA loses {linear_errors[k]:.2f}, hidden layers {' '.join(f'{v:.2f}' for v in errors[k])}")

# %% [markdown]
# ### What is a sparse autoencoder? · 什么是稀疏自编码器？

# %% [markdown] lang="en"
# A code wider than the sample, of which only few units may be active at a time: by an L1 penalty on ReLU activations, a
# target for the mean activation, or by keeping only the $k$ largest (Makhzani & Frey 2014). Each unit then stands for a part
# that occurs in some samples only. Today they are trained on the activations of language models to find features that
# people can name.

# %% [markdown] lang="zh"
# 编码比样本还宽，但同时只许少数单元活跃：对 ReLU 激活加 L1 惩罚，给平均激活定一个目标，或只保留最大的 $k$ 个（Makhzani & Frey 2014）。
# 这样每个单元就代表只在部分样本中出现的一个部件。如今人们用它处理语言模型的激活，寻找人能叫出名字的特征。


# %%
class WideCode(nn.Module):
    """Encodes into 256 ReLU units, more than the 196 pixels, and returns reconstruction and code."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = fully_connected(PIXELS, 256), fully_connected(256, PIXELS)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        code = self.encoder(x).relu()
        return self.decoder(code), code


for penalty in (0.0, 0.1):
    stacked = StackedModels(of_each_seed(WideCode))
    optimizer = torch.optim.Adam(stacked.parameters(), lr=3e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        x = digit_batches(generator)
        reconstructed, code = stacked(x)
        loss = reconstruction_error(reconstructed, x) + penalty * code.sum(dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        pairs = [model(test) for model in stacked.unstack()]
    shares = " ".join(f"{(code > 0).float().mean():.0%}" for _, code in pairs)
    lost = " ".join(f"{reconstruction_error(reconstructed, test):.2f}" for reconstructed, _ in pairs)
    print(f"  L1 penalty {penalty}: active units {shares}, error {lost}, three seeds")
