# %% [markdown]
# # DCGAN · DCGAN

# %% [markdown] lang="en"
# After this lesson you can enlarge a picture with a transposed convolution by hand, say where checkerboards come from and
# which kernel sizes avoid them, build DCGAN's two networks by its rules, and measure generated pictures by the statistics of
# a network's features. You need convolution (05/01), batch norm (04/07) and the losses of 08/01.

# %% [markdown] lang="zh"
# 学完本课，你能手算用转置卷积放大图片，能说出棋盘格从哪里来、哪些核尺寸可以避免，
# 能按 DCGAN 的规则搭建两个网络，并能用网络特征的统计量来度量生成的图片。
# 先修：卷积（05/01）、批归一化（04/07）、08/01 的损失。

# %%
import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.generative.dcgan import Discriminator, Generator
from dlcommon.generative.gan_losses import discriminator_loss, non_saturating_generator_loss
from dlcommon.generative.stacked_mlp import StackedMLP
from dlcommon.generative.transposed_convolution import conv_transpose2d, overlap_counts
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# The perceptrons of 08/01 drew 8×8 digits, roughly. At 64×64 in color a perceptron's last layer alone would have millions
# of weights, and would have to learn anew at each place what a stroke looks like. Classifiers share weights by convolution,
# which shrinks maps step by step. A generator has to do the opposite: from a vector to a small map to a larger one. Which
# layer runs a convolution backwards, and what rules make two such networks train against each other at all? Before 2016
# attempts to do so mostly failed.

# %% [markdown] lang="zh"
# 08/01 的感知机能粗略地画出 8×8 的数字。换成 64×64 的彩色图，感知机光最后一层就有上百万个权重，
# 还得在每个位置重新学习笔画长什么样。分类器靠卷积共享权重，一步步缩小特征图。
# 生成器要反过来：从向量到小图，再到大图。什么层能把卷积反着做？又要遵守什么规则，这样两个网络才能对抗着训练起来？
# 2016 年以前，这样的尝试大多失败。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# A transposed convolution is a stamp. Input $(1, 2)$, kernel $(1, 2, 1)$, stride 2: stamp the kernel once with strength 1 at
# place 0, once with strength 2 at place 2, and add: $(1, 2, 1, 0, 0) + (0, 0, 2, 4, 2) = (1, 2, 3, 4, 2)$. Two numbers have become
# $(2 - 1) \cdot 2 + 3 = 5$.
#
# How many stamps reach each place? $(1, 1, 2, 1, 1)$: with a longer input $1, 1, 2, 1, 2, 1, 2, 1, 1$. Every second place gets
# twice as much, in two dimensions up to four times: a checkerboard before anything has been learned. With a kernel of 4
# it is $(1, 1, 2, 2, 1, 1)$, and inside a longer output 2 everywhere.

# %% [markdown] lang="zh"
# 转置卷积就是盖章。输入 $(1, 2)$，核 $(1, 2, 1)$，步长 2：在位置 0 以强度 1 盖一次，在位置 2 以强度 2 盖一次，然后相加：
# $(1, 2, 1, 0, 0) + (0, 0, 2, 4, 2) = (1, 2, 3, 4, 2)$。两个数变成了 $(2 - 1) \cdot 2 + 3 = 5$ 个。
#
# 每个位置盖到几次？$(1, 1, 2, 1, 1)$；输入更长时是 $1, 1, 2, 1, 2, 1, 2, 1, 1$。
# 每隔一个位置多一倍，二维时最多四倍：什么都还没学，棋盘格已经在了。
# 核为 4 时是 $(1, 1, 2, 2, 1, 1)$，输出更长时内部处处为 2。

# %%
row = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
stamp = torch.tensor([1.0, 2.0, 1.0]).view(1, 1, 1, 3)
stamped = conv_transpose2d(row, stamp, stride=2)[0, 0, 0]
counts = {kernel: overlap_counts(6, kernel, 2) for kernel in (3, 4, 5)}
print(f"  stamped: {stamped.tolist()}")
table(
    ["kernel", "stamps that reach each place of the middle row"],
    [(kernel, " ".join(str(int(each)) for each in count[len(count) // 2])) for kernel, count in counts.items()],
)
drawing = Schematic(14, 2.6, "DCGAN's generator for 16×16 pixels: half the channels, twice the size")
for name, x, text, kind, width in (
    ("z", 1.0, "noise\n[32]", "data", 1.3),
    ("first", 3.1, "4×4 stamp\nnorm, ReLU", "parameter", 1.7),
    ("small", 5.1, "[32, 4, 4]", "data", 1.5),
    ("second", 7.1, "4×4, stride 2\nnorm, ReLU", "parameter", 1.8),
    ("middle", 9.1, "[16, 8, 8]", "data", 1.5),
    ("last", 11.0, "4×4, stride 2\ntanh", "parameter", 1.7),
    ("image", 13.0, "[1, 16, 16]", "data", 1.5),
):
    drawing.box(name, x, 1.3, text, kind, width, height=0.9)
for start, end in zip(
    ("z", "first", "small", "second", "middle", "last"),
    ("first", "small", "second", "middle", "last", "image"),
    strict=True,
):
    drawing.arrow(start, end)
show(drawing.figure, "generator")

# %% [markdown]
# ## Formula · 公式
#
# $$Y_{o,\; s i + a,\; s j + b} \mathrel{+}= \sum_{c} W_{c o a b}\, X_{c i j}, \qquad n_{\text{out}} = (n - 1)\, s + k - 2 r$$
#
# $$\langle \mathrm{conv}_W(Y),\, X \rangle = \langle Y,\, \mathrm{conv}^\top_W(X) \rangle$$
#
# $$d^2 = \|\mu_1 - \mu_2\|^2 + \mathrm{tr}\left(C_1 + C_2 - 2 (C_1 C_2)^{1/2}\right)$$

# %% [markdown] lang="en"
# - $X$: the input map, `[channels, height, width]`; $Y$: the output, which starts as 0 and is added to.
# - $W$: the kernel, `[in_channels, out_channels, k, k]`; $a, b$ run over its rows and columns, $i, j$ over the input.
# - $s$: the stride, the distance of two stamps; $k$: the kernel size; $r$: the padding, here a border that is cut off.
# - $\langle \cdot, \cdot \rangle$: the sum of products of all elements.
# - $\mu, C$: mean and covariance of features of a set of pictures, `[features]` and `[features, features]`.
# - $d$: the Fréchet distance between two Gaussians with these statistics (Heusel et al. 2017, section on FID).
#
# The second line is the definition: the transpose of the matrix that a convolution is. Backpropagation through a
# convolution multiplies by the same transpose, so every framework had the layer before it had the name. With $s = 2$,
# $k = 4$, $r = 1$ the size doubles: $2n - 2 + 4 - 2 = 2n$.
#
# DCGAN's rules (Radford et al. 2016, section 3): strides instead of pooling; batch norm in both networks, except at the
# generator's output and the discriminator's input; no fully connected hidden layers; ReLU in the generator, tanh at its
# end; leaky ReLU in the discriminator. Weights from $N(0, 0.02^2)$, Adam with rate 0.0002 and $\beta_1 = 0.5$.

# %% [markdown] lang="zh"
# - $X$：输入特征图，`[channels, height, width]`；$Y$：输出，从 0 开始累加。
# - $W$：卷积核，`[in_channels, out_channels, k, k]`；$a, b$ 遍历核的行和列，$i, j$ 遍历输入。
# - $s$：步长，两次盖章的距离；$k$：核的大小；$r$：填充，这里是裁掉的边。
# - $\langle \cdot, \cdot \rangle$：所有元素乘积之和。
# - $\mu, C$：一组图片的特征的均值和协方差，`[features]` 与 `[features, features]`。
# - $d$：具有这些统计量的两个高斯之间的 Fréchet 距离（Heusel 等 2017，FID 一节）。
#
# 第二行就是定义：卷积是一个矩阵，这里是它的转置。卷积的反向传播乘的正是这个转置，所以每个框架在有这个名称之前就有了这个层。
# 取 $s = 2$、$k = 4$、$r = 1$，尺寸加倍：$2n - 2 + 4 - 2 = 2n$。
#
# DCGAN 的规则（Radford 等 2016，第 3 节）：用步长代替池化；两个网络都用批归一化，但生成器的输出和判别器的输入除外；
# 没有全连接隐藏层；生成器用 ReLU，末尾用 tanh；判别器用 leaky ReLU。
# 权重取自 $N(0, 0.02^2)$，Adam 学习率 0.0002，$\beta_1 = 0.5$。

# %% [markdown]
# ## Code · 代码

# %%
source(conv_transpose2d)
source(overlap_counts)
source(Generator)
source(Discriminator.features)

# %% [markdown] lang="en"
# `conv_transpose2d` loops over kernel entries, not over pixels: entry (row, column) of all stamps at once is a weighted sum
# of channels, `[batch, out_channels, height, width]`, which lands in every `stride`-th row and column of the output.
#
# The generator treats the noise as a picture of 1×1 pixel, so that its first layer needs no reshaping: `[batch, 32, 1, 1]`
# becomes `[batch, 32, 4, 4]`. Batch norm has its own bias, so convolutions before it have none. The discriminator is the
# mirror; its first stage has no norm, `if stage and self.norms`.

# %% [markdown] lang="zh"
# `conv_transpose2d` 循环的是核的元素，而不是像素：所有印章的第 (row, column) 个元素一次算完，
# 是通道的加权和 `[batch, out_channels, height, width]`，落在输出每隔 `stride` 的行和列上。
#
# 生成器把噪声当作 1×1 像素的图片，第一层就不必改变形状：`[batch, 32, 1, 1]` 变成 `[batch, 32, 4, 4]`。
# 批归一化自带偏置，所以它前面的卷积不带。判别器是镜像；它的第一级没有归一化，即 `if stage and self.norms`。

# %% [markdown]
# ## Experiment: checkerboards before training · 实验：训练之前的棋盘格

# %% [markdown] lang="en"
# A constant map of 8 channels goes through one layer with random weights, 400 times: kernels of 3, 4 and 5 with stride 2,
# and the remedy of Odena et al. 2016, enlarging by nearest neighbors and then an ordinary 3×3 convolution. How strongly
# do neighboring pixels vary? A layer that treats all places alike has equal variance at the four phases of the stride
# (even or odd row, even or odd column).

# %% [markdown] lang="zh"
# 8 个通道的常数图经过一层随机权重，重复 400 次：核为 3、4、5，步长 2；
# 还有 Odena 等 2016 的办法，先用最近邻放大，再做普通的 3×3 卷积。相邻像素的波动有多大差别？
# 对所有位置一视同仁的层，在步长的四种相位（行的奇偶、列的奇偶）上方差应当相等。

# %%
quiz(
    "unevenness",
    en="Kernel 3, stride 2: by which factor do the variances of the strongest and the weakest phase differ?",
    zh="核 3、步长 2：最强与最弱相位的方差相差几倍？",
)
quiz(
    "architecture",
    en="DCGAN or a perceptron with more weights, equally many updates: whose digits have the smaller feature distance?",
    zh="更新次数相同，DCGAN 与权重更多的感知机，谁画的数字特征距离更小？",
    choices={
        "perceptron": "the perceptron's · 感知机",
        "equal": "within a factor of 1.5 · 相差不到 1.5 倍",
        "dcgan": "DCGAN's, clearly · DCGAN，明显更小",
    },
)

# %%
torch.manual_seed(0)
REPEATS = 400
flat = torch.ones(1, 8, 10, 10)


def phase_variances(outputs: torch.Tensor) -> torch.Tensor:
    """Variance over random kernels at the four phases, away from the border: [4]."""
    inner = outputs[:, 6:14, 6:14]  # [repeats, 8, 8]
    phases = [inner[:, a::2, b::2] for a in (0, 1) for b in (0, 1)]
    return torch.stack([phase[:, 1, 1].square().mean() for phase in phases])


outputs = {}
for kernel in (3, 4, 5):
    weight = torch.randn(8, REPEATS, kernel, kernel)
    outputs[f"transposed, kernel {kernel}"] = conv_transpose2d(flat, weight, stride=2, padding=kernel // 2)[0]
enlarged = F.interpolate(flat, scale_factor=2)
outputs["nearest, then 3×3"] = F.conv2d(enlarged, torch.randn(REPEATS, 8, 3, 3), padding=1)[0]
variances = {name: phase_variances(each) for name, each in outputs.items()}
uneven = {name: (each.max() / each.min()).item() for name, each in variances.items()}
table(
    ["layer", "variance at the four phases, per channel", "largest / smallest"],
    [(name, " ".join(f"{value / 8:.1f}" for value in each.tolist()), uneven[name]) for name, each in variances.items()],
)
inner_counts = {kernel: overlap_counts(10, kernel, 2, kernel // 2)[6:14, 6:14] for kernel in (3, 4, 5)}
settle("unevenness", (inner_counts[3].max() / inner_counts[3].min()).item(), tolerance=0.3)
figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), layout="constrained")
for axis, (name, each) in zip(axes, outputs.items(), strict=True):
    axis.imshow(each[0].numpy(), cmap="gray")
    axis.set(title=name, xticks=[], yticks=[])
show(figure, "checkerboards")

# %% [markdown] lang="en"
# The variance at each phase is the number of stamps that reach it, to the precision of 400 draws. With kernel 4 the four
# phases are equally strong, so that nothing is favored in advance; they still have weights of their own, and a trained
# network can make stripes if it wants to. Only enlarging first makes a constant remain exactly constant.

# %% [markdown] lang="zh"
# 每个相位的方差就是盖到它的印章数，精确到 400 次抽样的误差。核为 4 时四个相位一样强，没有哪个天生占优；
# 但它们各有各的权重，训练出来的网络想画条纹还是能画。只有先放大再卷积，常数才严格保持为常数。

# %% [markdown]
# ## Experiment: digits, measured by features · 实验：用特征度量数字

# %% [markdown] lang="en"
# The data: real MNIST digits, 16×16 pixels. To measure pictures we need features in which digits that look alike are near
# each other: the last hidden layer of a small classifier of these digits, 32 numbers per picture. The distance $d^2$ compares
# mean and covariance of 1,000 pictures with those of the training set. (With features of Inception on ImageNet this is called
# FID; ours is not that, and its values compare only with each other.) First we test the ruler on known damage.

# %% [markdown] lang="zh"
# 数据：真实的 MNIST 数字，16×16 像素。要度量图片，需要一种让相像的数字彼此靠近的特征：
# 用这些数字的小分类器的最后一个隐藏层，每张图 32 个数。
# 距离 $d^2$ 把 1,000 张图的均值和协方差与训练集的相比较。
# （用 ImageNet 上的 Inception 的特征时，它叫 FID；我们的不是，数值只能互相比较。）先用已知的损坏检验这把尺子。

# %%
SEEDS, LATENT, UPDATES, BATCH = 3, 32, 160, 48
digits = data("mnist-sample")


def small(images: np.ndarray) -> torch.Tensor:
    """Digits [count, 28, 28, 1] as [count, 1, 16, 16] from −1 to 1."""
    padded = F.pad(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
    return F.avg_pool2d(padded, 2)


real, unseen = small(digits.train_images), small(digits.test_images)
labels = torch.from_numpy(digits.train_labels)
torch.manual_seed(0)
classifier = nn.Sequential(
    nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
    nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
)  # fmt: skip
optimizer = torch.optim.Adam(classifier.parameters(), lr=5e-3, fused=True)
for batch in torch.cat([torch.randperm(len(real)) for _ in range(2)]).split(100):
    optimizer.zero_grad()
    F.cross_entropy(classifier(real[batch]), labels[batch]).backward()
    optimizer.step()
with torch.no_grad():
    accuracy = (classifier(unseen).argmax(dim=1).numpy() == digits.test_labels).mean()


@torch.no_grad()
def features(images: torch.Tensor) -> torch.Tensor:
    """The classifier's last hidden layer, float64 [count, 32]."""
    return classifier[:-2](images).double()


def frechet_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """d² of Gaussians with the features' means and covariances."""
    covariances = torch.cov(first.T), torch.cov(second.T)
    # tr (C₁C₂)^½ is the sum of the roots of the product's eigenvalues, which are real and not negative.
    roots = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp(min=0).sqrt()
    trace = covariances[0].trace() + covariances[1].trace() - 2 * roots.sum()
    return ((first.mean(dim=0) - second.mean(dim=0)).square().sum() + trace).item()


known = features(real)
one_class = real[labels == 3]
damaged = {
    "unseen real digits": unseen,
    "with noise": (unseen + 0.3 * torch.randn_like(unseen)).clamp(-1, 1),
    "blurred": F.avg_pool2d(unseen, 3, 1, 1),
    "only threes, all of them perfect": one_class,
}
ruler = {name: frechet_distance(features(images), known) for name, images in damaged.items()}
print(f"  the classifier is right on {accuracy:.1%} of unseen digits")
table(["pictures", "feature distance to the training set"], list(ruler.items()))


# %%
def train_dcgan(seed: int) -> tuple[Generator, Discriminator]:
    torch.manual_seed(seed)
    generator, discriminator = Generator(16, 1, LATENT, width=16), Discriminator(16, 1, width=16)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999), fused=True)
        for network in (generator, discriminator)
    ]
    for _ in range(UPDATES):
        images = real[torch.randint(len(real), (BATCH,))]
        fake = generator(torch.randn(BATCH, LATENT))
        optimizers[1].zero_grad()
        discriminator_loss(discriminator(images), discriminator(fake.detach())).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        non_saturating_generator_loss(discriminator(fake)).backward()
        optimizers[0].step()
    return generator.eval(), discriminator


def train_perceptrons() -> StackedMLP:
    """The same with perceptrons, three seeds side by side; returns the generators."""
    torch.manual_seed(0)
    generator, discriminator = StackedMLP(SEEDS, LATENT, 128, 256, 256), StackedMLP(SEEDS, 256, 256, 128, 1)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999), fused=True)
        for network in (generator, discriminator)
    ]
    for _ in range(UPDATES):
        images = real[torch.randint(len(real), (SEEDS, BATCH))].flatten(2)
        fake = torch.tanh(generator(torch.randn(SEEDS, BATCH, LATENT)))
        optimizers[1].zero_grad()
        (discriminator_loss(discriminator(images), discriminator(fake.detach())) * SEEDS).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (non_saturating_generator_loss(discriminator(fake)) * SEEDS).backward()
        optimizers[0].step()
    return generator


torch.manual_seed(0)
noise = torch.randn(1000, LATENT)
pairs = [train_dcgan(seed) for seed in range(SEEDS)]
perceptrons = train_perceptrons()
with torch.no_grad():
    untrained = Generator(16, 1, LATENT, width=16)(noise)
    by_dcgan = [generator(noise) for generator, _ in pairs]
    by_perceptron = torch.tanh(perceptrons(noise.expand(SEEDS, -1, -1))).view(SEEDS, -1, 1, 16, 16)
distances = {
    "DCGAN": [frechet_distance(features(images), known) for images in by_dcgan],
    "perceptron": [frechet_distance(features(images), known) for images in by_perceptron],
}
start = frechet_distance(features(untrained), known)
weights = {
    "DCGAN": sum(parameter.numel() for network in pairs[0] for parameter in network.parameters()),
    "perceptron": sum(2 * a * b for a, b in ((LATENT, 128), (128, 256), (256, 256))),
}
table(
    ["networks", "weights, about", f"feature distance after {UPDATES} updates (3 seeds)", "untrained DCGAN"],
    [(name, weights[name], " ".join(f"{each:.0f}" for each in distances[name]), start) for name in distances],
)
advantage = min(distances["perceptron"]) / max(distances["DCGAN"])
settle("architecture", "dcgan" if advantage > 1.5 else "equal" if advantage > 1 / 1.5 else "perceptron")


def tiled(images: torch.Tensor, across: int) -> np.ndarray:
    """Pictures [count, 1, 16, 16] in rows of `across`."""
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    return padded.view(-1, across, 18, 18).transpose(1, 2).reshape(-1, 18 * across).numpy()


with torch.no_grad():
    share = torch.linspace(0, 1, 12)[:, None]
    walk = torch.cat([pairs[0][0](torch.lerp(noise[a], noise[a + 1], share)) for a in (0, 2, 4)])
figure, axes = plt.subplots(1, 4, figsize=(17, 4), layout="constrained", width_ratios=(1, 1, 1, 2))
for axis, title, images, across in (
    (axes[0], "real", real[:36], 6),
    (axes[1], "DCGAN, seed 0", by_dcgan[0][:36], 6),
    (axes[2], "perceptron, seed 0", by_perceptron[0][:36], 6),
    (axes[3], "DCGAN: from one noise vector to another", walk, 12),
):
    axis.imshow(tiled(images, across), cmap="gray_r", vmin=-1, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
show(figure, "digits")

# %% [markdown] lang="en"
# The ruler works: unseen digits are near, damage is far, and so are perfect threes alone, since covariance misses the
# other nine. DCGAN comes about twice as near as the perceptron in as many updates, with a sixth of the weights: nearby pixels belong
# together, and a stroke is a stroke at any place; convolution knows both in advance. Between two noise vectors one shape
# turns into another without a jump, which a program that had memorized pictures could not do. (These are a few seconds of
# training; strokes become clean after minutes.)

# %% [markdown] lang="zh"
# 尺子可用：没见过的真数字很近，损坏的很远，只有完美的“3”也很远，因为协方差里缺了另外九个。
# 更新次数相同，DCGAN 的权重只有六分之一，距离却只有感知机的大约一半：相邻像素属于一起，笔画在哪里都是笔画；这两点卷积事先就知道。
# 在两个噪声向量之间，一个形状平滑地变成另一个，只会背图片的程序做不到这一点。
# （这里只训练了几秒；笔画要训练几分钟才会干净。）

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# Torch's `F.conv_transpose2d` and, through its definition as a transpose, `F.conv2d`'s gradient. The distance is held
# against scipy's matrix root. (In this repository's tests both networks equal PyTorch's DCGAN example in value and gradient.)

# %% [markdown] lang="zh"
# 与 torch 的 `F.conv_transpose2d` 比较；按转置的定义，还与 `F.conv2d` 的梯度比较。距离则与 scipy 的矩阵平方根比较。
# （本仓库的测试中，两个网络的数值和梯度都与 PyTorch 的 DCGAN 示例相等。）

# %%
torch.manual_seed(1)
x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
kernel = torch.randn(3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
ours, theirs = conv_transpose2d(x, kernel, 2, 1), F.conv_transpose2d(x, kernel, None, 2, 1)
upstream = torch.randn_like(theirs)
gradients = [torch.autograd.grad((each * upstream).sum(), (x, kernel)) for each in (ours, theirs)]
picture = torch.zeros(2, 4, 10, 12, dtype=torch.float64, requires_grad=True)
as_gradient = torch.autograd.grad((F.conv2d(picture, kernel, None, 2, 1) * x.detach()).sum(), picture)[0]
blurred = features(damaged["blurred"])
means = [each.mean(dim=0).numpy() for each in (blurred, known)]
covariances = [np.cov(each.numpy().T) for each in (blurred, known)]
root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
by_scipy = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: (1, 2, 3, 4, 2)", stamped, [1, 2, 3, 4, 2])
check_close("the transposed convolution equals torch's", ours, theirs, 1e-10)
check_close("so does its gradient for the input", gradients[0][0], gradients[1][0], 1e-10)
check_close("so does its gradient for the kernel", gradients[0][1], gradients[1][1], 1e-10)
check_close("it is what a convolution does to gradients", ours, as_gradient, 1e-10)
check_close("the Fréchet distance equals scipy's", ruler["blurred"], by_scipy, 1e-5)
check("kernel 3 with stride 2: inner places get 1, 2 or 4 stamps", inner_counts[3].unique().tolist() == [1, 2, 4])
check("kernel 4 with stride 2: all inner places get 4", inner_counts[4].unique().tolist() == [4])
check(
    "random kernels show it: variances differ threefold or more for kernel 3, by less than 1.5 for kernel 4",
    uneven["transposed, kernel 3"] > 3 and uneven["transposed, kernel 4"] < 1.5,
)
constant = outputs["nearest, then 3×3"][:, 2:-2, 2:-2]
check("enlarging first keeps a constant constant", (constant - constant[:, :1, :1]).abs().max() < 1e-4)
check(
    "the ruler: unseen digits are ten times nearer than blurred ones or threes alone",
    10 * ruler["unseen real digits"] < min(ruler["blurred"], ruler["only threes, all of them perfect"]),
)
check("training brings DCGAN below a third of its distance, with every seed", max(distances["DCGAN"]) < start / 3)
check("and below two thirds of the perceptron's, with every seed", advantage > 1.5)
check("with fewer weights", weights["DCGAN"] < weights["perceptron"])
check("pictures stay within −1 … 1", max(each.abs().max().item() for each in by_dcgan) <= 1)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# DCGAN is the baseline of the capstone `face-gan`, at 64×64 in color: `uv run --package face-gan train --max-minutes 5`.
# Its evaluation works like this lesson's, with features of a pretrained network. Papers: [Radford et al.
# 2016](https://arxiv.org/abs/1511.06434), DCGAN; [Dumoulin & Visin 2016](https://arxiv.org/abs/1603.07285), the arithmetic
# of transposed convolutions; [Odena et al. 2016](https://distill.pub/2016/deconv-checkerboard/), checkerboards; [Heusel et al.
# 2017](https://arxiv.org/abs/1706.08500), the Fréchet distance. Next: a loss that measures distance, 08/03.

# %% [markdown] lang="zh"
# DCGAN 是实战项目 `face-gan` 的基线，64×64 彩色：`uv run --package face-gan train --max-minutes 5`。
# 它的评测方式与本课相同，只是用预训练网络的特征。
# 论文：[Radford 等 2016](https://arxiv.org/abs/1511.06434)，DCGAN；
# [Dumoulin 与 Visin 2016](https://arxiv.org/abs/1603.07285)，转置卷积的算术；
# [Odena 等 2016](https://distill.pub/2016/deconv-checkerboard/)，棋盘格；
# [Heusel 等 2017](https://arxiv.org/abs/1706.08500)，Fréchet 距离。下一课：度量距离的损失，08/03。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `conv_transpose2d` and `overlap_counts` yourself. `uv run lesson exercise 08/02` makes a file with their signatures,
# `uv run lesson check 08/02` judges them.

# %% [markdown] lang="zh"
# 自己实现 `conv_transpose2d` 和 `overlap_counts`。
# `uv run lesson exercise 08/02` 生成带有签名的文件，`uv run lesson check 08/02` 进行评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Make the uncropped output first: $(n - 1) s + k$ rows of zeros. Cropping comes last.
# 2. For kernel entry $(a, b)$: `torch.einsum("bihw,io->bohw", x, weight[:, :, a, b])` is added to
#    `output[:, :, a : a + s * height : s, b : b + s * width : s]`.
# 3. Height and width differ in the judge's pictures and kernels; use each in its place.
# 4. Counting stamps: a picture of ones, stamped with a kernel of ones.

# %% [markdown] lang="zh"
# 1. 先做未裁剪的输出：$(n - 1) s + k$ 行零。裁剪放在最后。
# 2. 对核的元素 $(a, b)$：把 `torch.einsum("bihw,io->bohw", x, weight[:, :, a, b])`
#    加到 `output[:, :, a : a + s * height : s, b : b + s * width : s]` 上。
# 3. 评判用的图片和核高宽不等；各用各的。
# 4. 数印章：全 1 的图，用全 1 的核来盖。


# %%
@exercise(conv_transpose2d, overlap_counts)
def judge(yours, reference):
    torch.manual_seed(0)
    one = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    stamp = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    check_close("one pixel stamps the kernel once", yours.conv_transpose2d(one, stamp, 2)[0, 0, 0, :3], stamp[0, 0, 0])
    x, weight = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(3, 2, 4, 3, requires_grad=True)
    for stride, padding in ((1, 0), (2, 0), (2, 1), (3, 1)):
        mine, theirs = (each.conv_transpose2d(x, weight, stride, padding) for each in (yours, reference))
        check(f"stride {stride}, padding {padding}: the output's size", mine.shape == theirs.shape)
        check_close(f"stride {stride}, padding {padding}: the values", mine, theirs)
        for name, variable in (("input", x), ("kernel", weight)):
            pair = [torch.autograd.grad(each.square().sum(), variable, retain_graph=True)[0] for each in (mine, theirs)]
            check_close(f"stride {stride}, padding {padding}: the gradient of the {name}", *pair, 1e-4)
    for arguments in ((5, 3, 2, 0), (5, 4, 2, 1), (3, 2, 3, 0)):
        pair = [each.overlap_counts(*arguments) for each in (yours, reference)]
        check_close(f"overlap_counts of size, kernel, stride, padding {arguments}", *pair)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Is a transposed convolution the inverse of a convolution? · 转置卷积是卷积的逆吗？

# %% [markdown] lang="en"
# No. It has the transposed matrix, not the inverse: it restores the shape, not the values. It is the operation that
# backpropagation applies to gradients, and has its own, learned, weights in a generator.

# %% [markdown] lang="zh"
# 不是。它用的是转置矩阵而不是逆矩阵：恢复的是形状，不是数值。反向传播对梯度做的就是这个运算；在生成器里它有自己要学的权重。

# %%
there = F.conv2d(conv_transpose2d(x, kernel, 2, 1), kernel, None, 2, 1)
print(f"  the shape returns: {there.shape == x.shape}; the values do not: off by up to {(there - x).abs().max():.1f}")

# %% [markdown]
# ### How large is the output of a transposed convolution with kernel 4, stride 2, padding 1? · 核 4、步长 2、填充 1 的转置卷积，输出多大？

# %% [markdown] lang="en"
# $(n - 1) \cdot 2 + 4 - 2 = 2n$: exactly twice the input. Padding takes away here, since it undoes the padding of the
# convolution that it transposes.

# %% [markdown] lang="zh"
# $(n - 1) \cdot 2 + 4 - 2 = 2n$：恰好是输入的两倍。这里填充是减，因为它撤销的是被转置的那个卷积的填充。

# %%
for size in (4, 7):
    print(f"  {size} becomes {conv_transpose2d(torch.zeros(1, 1, size, size), torch.zeros(1, 1, 4, 4), 2, 1).size(2)}")

# %% [markdown]
# ### Where do checkerboard artifacts come from, and what helps? · 棋盘格从哪里来，怎么办？

# %% [markdown] lang="en"
# If the stride does not divide the kernel size, some pixels are reached by more stamps than others. Choose a kernel size
# that the stride divides (4 with 2), or enlarge by interpolation and convolve with stride 1. Strided convolutions in the
# discriminator cause the same pattern in gradients.

# %% [markdown] lang="zh"
# 如果步长不能整除核的大小，有些像素盖到的印章比别的多。选步长能整除的核（步长 2 配核 4），或者先插值放大再做步长 1 的卷积。
# 判别器里带步长的卷积在梯度上造成同样的图样。

# %%
table(["layer", "largest / smallest variance"], list(uneven.items()))

# %% [markdown]
# ### Why is there no batch norm at the generator's output and the discriminator's input? · 为什么生成器的输出和判别器的输入不用批归一化？

# %% [markdown] lang="en"
# Batch norm fixes mean and variance of each channel. At the images that would erase brightness and contrast, which the
# discriminator must see and the generator must be free to choose; the paper reports oscillation with it.

# %% [markdown] lang="zh"
# 批归一化固定每个通道的均值和方差。放在图片处会抹去亮度和对比度，而这正是判别器要看、生成器要自由选择的；
# 论文报告说那样会振荡。

# %%
bright, dark = torch.rand(8, 1, 4, 4) + 3, torch.rand(8, 1, 4, 4) - 3
norm = nn.BatchNorm2d(1)
print(
    f"  means: {bright.mean():.1f} and {dark.mean():.1f}; after batch norm {norm(bright).mean():.1f} and {norm(dark).mean():.1f}"
)

# %% [markdown]
# ### Why does the generator end in tanh, and what must be done to the data? · 生成器为什么以 tanh 结尾，数据要怎样配合？

# %% [markdown] lang="en"
# Tanh bounds pixels to −1 … 1, centered on 0, which suits the discriminator's first layer. Real images must be scaled to the
# same range; otherwise the discriminator tells them apart by range alone and teaches nothing else.

# %% [markdown] lang="zh"
# tanh 把像素限制在 −1 到 1，以 0 为中心，适合判别器的第一层。真图必须缩放到同样的范围；
# 否则判别器单凭取值范围就能分辨，别的什么也不教。

# %%
print(f"  real: {real.min():.0f} to {real.max():.0f}; generated: {by_dcgan[0].min():.2f} to {by_dcgan[0].max():.2f}")

# %% [markdown]
# ### What does the Fréchet distance of features see that a look at samples does not, and what does it miss? · 特征的 Fréchet 距离能看到哪些肉眼看样本看不到的，又漏掉什么？

# %% [markdown] lang="en"
# It sees missing variety, through the covariance: perfect threes alone are far. It misses all that mean and covariance do
# not hold, is blind to memorized training pictures, depends on the features, and is biased upward with few samples. So
# compare at equal sample counts only.

# %% [markdown] lang="zh"
# 它通过协方差看到多样性的缺失：只有完美的“3”也很远。它漏掉均值和协方差之外的一切，看不出照搬的训练图，
# 取决于所用的特征，而且样本少时偏大，所以只能在样本数相同时比较。

# %%
fewer = {count: frechet_distance(features(unseen[:count]), known) for count in (100, 300, 1000)}
table(["unseen real digits", "feature distance"], list(fewer.items()))
