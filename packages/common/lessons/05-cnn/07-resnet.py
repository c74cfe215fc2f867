# %% [markdown]
# # Residual networks · 残差网络

# %% [markdown] lang="en"
# After this lesson you can write a residual block with its projection from memory, show on data that a deep network
# without shortcuts fails on its own training images, and say what the shortcut does to the gradient, and what it does
# not. You need convolutions (05/01), VGG (05/06) and batch norm (04/07).

# %% [markdown] lang="zh"
# 学完本课，你能默写一个带投影的残差块，能用数据说明没有捷径的深层网络连训练集都拟合不好，
# 并能说清捷径对梯度做了什么、没做什么。先修：卷积（05/01）、VGG（05/06）和批归一化（04/07）。

# %%
import copy
import itertools

import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.comparison import accuracy, fit, sample
from dlcommon.cnn.residual import BasicBlock, ResNet, convolution, resnet18, shortcut
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.course.smoothing import moving_average
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# VGG made networks better by making them deeper, up to 19 layers. Take that further, and at some depth the network
# gets worse. That could be overfitting, but it is not: it gets worse on the very images it is trained on. Nor is it a
# lack of capacity: the deeper network could copy the shallower one and let its further layers pass their input on
# unchanged. A better solution exists, and training does not find it. He et al. (2016) call this degradation.
#
# This lesson reproduces the failure, asks whether vanishing gradients are to blame, as is often said, and repairs it
# with one addition per block.

# %% [markdown] lang="zh"
# VGG 靠加深网络取得了更好的效果，最深到 19 层。继续加深，到某个深度反而会变差。
# 容易想到过拟合，但并不是：变差的正是训练集上的表现。也不是容量不够：
# 更深的网络完全可以照抄较浅的网络，让多出来的层把输入原样传下去。
# 更好的解存在，训练却找不到它。何恺明等人（2016）把这个现象称为退化（degradation）。
#
# 本课先复现这个失败，再检验常听到的解释“梯度消失”是否成立，最后用每个块一次加法来解决它。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# A block of two layers with one number each: $F(x) = w_2 \max(0, w_1 x)$, with $x = 2$, $w_1 = 0.5$, $w_2 = -0.3$.
# Then $F(2) = -0.3$.
#
# Without a shortcut the block gives $\max(0, -0.3) = 0$, and its derivative is 0: both the signal and the gradient
# end here. With the shortcut it gives $\max(0, 2 - 0.3) = 1.7$, and its derivative is $1 + w_2 w_1 = 0.85$. The block
# only had to learn a correction of $-0.3$; to pass $x$ on unchanged it would need $w_2 = 0$.
#
# Where a block halves the resolution, $x$ and $F(x)$ differ in shape and cannot be added. A 1×1 convolution with
# stride 2, the projection, brings $x$ into shape. On a 4×4 image of the numbers 1 to 16 it reads every second row and
# column, 1, 3, 9 and 11, and multiplies them by one weight per output channel, here 1 and −1.

# %% [markdown] lang="zh"
# 取一个两层的块，每层只有一个数：$F(x) = w_2 \max(0, w_1 x)$，其中 $x = 2$、$w_1 = 0.5$、$w_2 = -0.3$，
# 于是 $F(2) = -0.3$。
#
# 没有捷径时，块的输出是 $\max(0, -0.3) = 0$，导数也是 0：信号和梯度都断在这里。
# 有捷径时，输出是 $\max(0, 2 - 0.3) = 1.7$，导数是 $1 + w_2 w_1 = 0.85$。
# 块只需要学一个修正量 $-0.3$；想让 $x$ 原样通过，只要 $w_2 = 0$。
#
# 如果块把分辨率减半，$x$ 与 $F(x)$ 的形状就不同，无法相加。这时用步长为 2 的 1×1 卷积（即投影）把 $x$ 变成所需的形状。
# 在由 1 到 16 组成的 4×4 图像上，它隔行隔列读取 1、3、9、11，再乘以每个输出通道的一个权重（这里是 1 和 −1）。

# %%
x = torch.tensor(2.0, requires_grad=True)
scalar_rows = []
for name, shortcut_weight in (("without shortcut", 0.0), ("with shortcut", 1.0)):
    output = F.relu(-0.3 * F.relu(0.5 * x) + shortcut_weight * x)
    (slope,) = torch.autograd.grad(output, x)
    scalar_rows.append((name, output.item(), slope.item()))
table(["block", "output", "derivative"], scalar_rows)

picture = torch.arange(1.0, 17).view(1, 1, 4, 4)  # [batch, channels, height, width]
to_two_channels = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)  # [out channels, in channels, 1, 1]
projected = F.conv2d(picture, to_two_channels, stride=2)  # [1, 2, 2, 2]
print(f"  projection of 4×4 to two channels of 2×2: {projected.flatten(2)[0].tolist()}")

drawing = Schematic(13.4, 4.6, "Two residual blocks: identity shortcut (above), projection (below)")
for row, y, stride, size in (("a", 3.0, "", "C, H, W"), ("b", 0.5, ",\nstride 2", "C, H, W")):
    drawing.box(f"{row}x", 0.8, y, f"x\n[{size}]", "data", width=1.2, height=0.7)
    places = (2.6, 4.2, 5.5, 6.9, 8.5)
    names = (f"3×3 conv{stride}", "norm", "ReLU", "3×3 conv", "norm")
    for number, (place, name) in enumerate(zip(places, names, strict=True)):
        kind = "parameter" if "conv" in name or name == "norm" else "operation"
        drawing.box(f"{row}{number}", place, y, name, kind, width=1.2 if "conv" in name else 0.9)
    drawing.box(f"{row}+", 9.9, y, "+", width=0.6)
    drawing.box(f"{row}r", 11.1, y, "ReLU", width=0.9)
    drawing.box(
        f"{row}y", 12.6, y, "y\n[C, H, W]" if row == "a" else "y\n[2C, H/2, W/2]", "data", width=1.3, height=0.7
    )
    chain = [f"{row}x", *(f"{row}{number}" for number in range(5)), f"{row}+", f"{row}r", f"{row}y"]
    for start, end in itertools.pairwise(chain):
        drawing.arrow(start, end)
drawing.arrow("ax", "a+", bend=0.22)
drawing.text(5.4, 4.3, "identity: no parameters")
drawing.box("projection", 5.3, 1.7, "1×1 conv, stride 2, norm", "parameter", width=2.7, height=0.5)
drawing.arrow("bx", "projection", bend=0.1)
drawing.arrow("projection", "b+", bend=0.15)
show(drawing.figure, "blocks")

# %% [markdown]
# ## Formula · 公式
#
# $$y = \sigma(F(x) + x), \qquad F(x) = N_2(W_2 * \sigma(N_1(W_1 * x)))$$
#
# $$y = \sigma(F(x) + N_s(W_s * x))$$
#
# $$x_L = x_l + \sum_{i=l}^{L-1} F_i(x_i), \qquad \frac{\partial E}{\partial x_l} = \frac{\partial E}{\partial x_L} \left(1 + \frac{\partial}{\partial x_l} \sum_{i=l}^{L-1} F_i(x_i)\right)$$

# %% [markdown] lang="en"
# - $x$: the block's input, `[batch, channels, height, width]`; $y$: its output.
# - $F$: the residual branch, what the block adds to its input; He et al. 2016, equation 1.
# - $W_1, W_2$: the kernels of the two 3×3 convolutions; $*$: convolution, without bias.
# - $N_1, N_2, N_s$: batch norms, each with a scale $\gamma$ and a shift $\beta$ per channel; $\sigma$: ReLU.
# - $W_s$: the kernel of the projection, `[channels of y, channels of x, 1, 1]`; equation 2 (batch norm is left out of
#   the paper's equations, not of its networks).
# - $x_l$: the input of block $l$ in a chain of identity blocks; $L$: a later block; $E$: the loss. He et al. 2016b,
#   equations 4 and 5, for blocks in which no ReLU follows the addition.
#
# The last line says two things. Forward, a later activation is an earlier one plus a sum, not a product of many
# layers. Backward, the gradient at $x_L$ arrives at $x_l$ as it is, beside what comes through the branches. In our
# blocks, as in the first paper, a ReLU follows the addition: where the sum is negative, it blocks this way too.

# %% [markdown] lang="zh"
# - $x$：块的输入，`[batch, channels, height, width]`；$y$：块的输出。
# - $F$：残差分支，即块要加到输入上的量；何恺明等 2016，式 1。
# - $W_1, W_2$：两个 3×3 卷积的卷积核；$*$：卷积，不带偏置。
# - $N_1, N_2, N_s$：批归一化，每个通道各有缩放 $\gamma$ 与平移 $\beta$；$\sigma$：ReLU。
# - $W_s$：投影的卷积核，形状 `[y 的通道数, x 的通道数, 1, 1]`；式 2（论文的公式省略了批归一化，网络里并没有省略）。
# - $x_l$：一串恒等捷径块中第 $l$ 块的输入；$L$：后面的某一块；$E$：损失。何恺明等 2016b，式 4、式 5，
#   前提是加法之后没有 ReLU。
#
# 最后一行说了两件事。前向：后面的激活等于前面的激活加上一个和，而不是许多层的连乘。
# 反向：$x_L$ 处的梯度原样到达 $x_l$，再加上经过各分支的部分。
# 我们的块与第一篇论文一样，加法之后还有 ReLU：和为负的地方，这条路也会被堵住。

# %% [markdown]
# ## Code · 代码

# %%
source(shortcut)
source(BasicBlock)

# %% [markdown] lang="en"
# `shortcut` decides which of the two formulas applies. Same number of channels and stride 1: `nn.Identity`, nothing to
# learn. Otherwise a 1×1 convolution with the block's stride and a batch norm; the paper calls this option B.
#
# In `forward` the branch turns `[batch, in, H, W]` into `[batch, width, H / stride, W / stride]`: only `conv1` has the
# stride. The second batch norm has no ReLU behind it, so that the branch can also subtract. Then comes the addition,
# and one ReLU over the sum.

# %% [markdown] lang="zh"
# `shortcut` 决定用哪个公式。通道数相同且步长为 1：用 `nn.Identity`，没有任何参数。
# 否则用带步长的 1×1 卷积加批归一化，即论文中的方案 B。
#
# 在 `forward` 里，分支把 `[batch, in, H, W]` 变成 `[batch, width, H / stride, W / stride]`，只有 `conv1` 带步长。
# 第二个批归一化之后没有 ReLU，这样分支也能做减法。然后相加，再对和做一次 ReLU。

# %% [markdown]
# ## Experiment: does the better solution exist? · 实验：更好的解存在吗？

# %% [markdown] lang="en"
# Two kinds of networks that differ in the shortcut alone, of 10 and 26 layers, all weights drawn as in the paper. First
# the argument of the opening, made concrete. With kernels that copy their input (a one at the center) a plain block
# passes on unchanged what comes out of a ReLU; a residual block does so as soon as the last batch norm's $\gamma$ is 0.
# So the deeper network of either kind can do what the shallower one does.

# %% [markdown] lang="zh"
# 两类网络只在捷径上不同，深度为 10 层和 26 层，权重都按论文的方式初始化。先把开头的论证落到实处。
# 普通块的卷积核如果只复制输入（中心为 1），就能把 ReLU 的输出原样传下去；
# 残差块只要最后一个批归一化的 $\gamma$ 为 0，就是恒等映射。所以两类网络加深之后，都能做到较浅网络所做的事。


# %%
class PlainBlock(nn.Module):
    """A BasicBlock whose input is not added to its output."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(in_channels, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


BLOCKS = {"plain": PlainBlock, "residual": BasicBlock}
SEEDS = (0, 1, 2)
EPOCHS, LR, BATCH = 12, 4e-3, 50
pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 200, size=12)  # [200, 3, 12, 12], [200]


def build(kind: str, layers: int, seed: int) -> ResNet:
    torch.manual_seed(seed)
    network = ResNet(BLOCKS[kind], ((layers - 2) // 8,) * 4, 10, small_images=True, widths=(8, 16, 32, 64))
    for module in network.modules():
        if isinstance(module, BasicBlock):
            nn.init.ones_(module.bn2.weight)  # our ResNet begins with 0 (lesson 05/08); PlainBlock cannot
    return network


passed_on = {}
for kind, block_type in BLOCKS.items():
    block = block_type(8, 8).eval()  # in evaluation mode a fresh batch norm leaves its input as it is, up to ε
    if kind == "plain":
        nn.init.dirac_(block.conv1.weight)
        nn.init.dirac_(block.conv2.weight)
    else:
        nn.init.zeros_(block.bn2.weight)
    activations = F.relu(torch.randn(4, 8, 16, 16))
    with torch.no_grad():
        passed_on[kind] = (block(activations) - activations).abs().max().item()
table(["block", "change of its input at most"], list(passed_on.items()))

# %% [markdown]
# ## Experiment: gradients at the start · 实验：初始梯度

# %% [markdown] lang="en"
# Before any training. The first measurement: the norm of the loss's gradient at the input of the first block, divided
# by that at the output of the last one. A number near 0 would mean that the gradient vanishes on its way back. The
# second: move each image 1 % of the way towards another one; how similar is the gradient at the first block after
# that (cosine, 1: the same direction)? Training relies on it: a step is computed at one place and meant for its
# neighborhood.

# %% [markdown] lang="zh"
# 训练之前先量两件事。第一，损失对第一个块输入的梯度范数，除以对最后一个块输出的梯度范数：接近 0 就是梯度在回传途中消失了。
# 第二，把每张图像朝另一张移动 1 %，第一个块处的梯度还有多相似（余弦，1 表示方向相同）？
# 训练正依赖于此：每一步在某个点上算出，却要对它的邻域有效。

# %%
quiz(
    "gradient",
    en="26 layers without shortcuts, with batch norm: on its way back, the gradient …",
    zh="26 层、没有捷径、有批归一化：梯度在回传途中……",
    choices={
        "vanishes": "vanishes (ratio below 0.3) · 消失（比值小于 0.3）",
        "stays": "stays about as large · 大小基本不变",
        "grows": "grows (ratio above 3) · 变大（比值大于 3）",
    },
)


# %%
def gradients(network: ResNet, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of the summed loss by the input of every block and, last, by the output of the last block."""
    passing = [F.relu(network.bn1(network.conv1(x)))]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            passing.append(block(passing[-1]))  # [batch, channels, height, width]
    logits = network.fc(passing[-1].mean(dim=(2, 3)))
    return list(torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), passing))


first, others = images[:50], images[50:100]
start_rows, norms = [], {}
for seed in SEEDS:
    for kind in BLOCKS:
        for layers in (10, 26):
            network = build(kind, layers, seed)
            here = gradients(network, first, labels[:50])
            there = gradients(network, first + 0.01 * (others - first), labels[:50])
            norms[kind, layers, seed] = [gradient.norm().item() for gradient in here]
            growth = norms[kind, layers, seed][0] / norms[kind, layers, seed][-1]
            similar = F.cosine_similarity(here[0].flatten(1), there[0].flatten(1), dim=1).mean().item()
            start_rows.append((seed, kind, layers, growth, similar))
table(["seed", "network", "layers", "gradient, first / last", "cosine after 1 %"], start_rows)
growths = {(kind, layers, seed): growth for seed, kind, layers, growth, _ in start_rows}
similarities = {(kind, layers, seed): similar for seed, kind, layers, _, similar in start_rows}
deep = float(np.mean([growths["plain", 26, seed] for seed in SEEDS]))
settle("gradient", "vanishes" if deep < 0.3 else "grows" if deep > 3 else "stays")

# %% [markdown] lang="en"
# So the usual explanation does not hold here: with batch norm the gradient does not vanish on its way through plain
# blocks, it grows (He et al. write as much in section 4.1: neither forward nor backward signals vanish). What is lost
# is its meaning: 1 % further on it points elsewhere. Balduzzi et al. (2017) call such gradients shattered. With
# shortcuts it grows less and stays similar. That is what is measured; that the one causes the failure below is a
# plausible reading, not proven by it.

# %% [markdown] lang="zh"
# 可见常见的解释在这里并不成立：有批归一化时，梯度经过普通块并没有消失，反而变大。
# 何恺明等在 4.1 节也写道：前向与反向的信号都没有消失。丢掉的是梯度的意义：往前走 1 %，它就指向别处了。
# Balduzzi 等（2017）称之为破碎的梯度（shattered gradients）。有捷径时，梯度增长得少，方向也保持相近。
# 以上是测量结果；至于它就是下面训练失败的原因，这是合理的推测，并未由此得到证明。

# %% [markdown]
# ## Experiment: degradation · 实验：退化

# %% [markdown] lang="en"
# The test is on training images, 200 of them at 12×12 pixels, seen twelve times: can the network learn them by heart? All networks
# get the same batches and the same recipe, with three seeds. A recipe that suits one network can be wrong for
# another, so the deep plain network gets a second chance with twice the learning rate.

# %% [markdown] lang="zh"
# 检验在训练集上进行：200 张缩小到 12×12 像素的图像，每张看 12 遍，网络能把它们背下来吗？所有网络用同样的批次、同样的训练设置，各用三个种子。
# 适合一个网络的设置未必适合另一个，所以再给深层普通网络一次机会：学习率加倍。

# %%
quiz(
    "degrades",
    en="Which network has not learned the 200 images by heart in the end?",
    zh="最后哪个网络没能背下这 200 张图像？",
    choices={
        "plain 10": "plain, 10 layers · 普通，10 层",
        "plain 26": "plain, 26 layers · 普通，26 层",
        "residual 10": "residual, 10 layers · 残差，10 层",
        "residual 26": "residual, 26 layers · 残差，26 层",
    },
)

# %%
trained, losses, final, scores = {}, {}, {}, {}
for kind, layers, lr in (
    ("plain", 10, LR),
    ("residual", 10, LR),
    ("plain", 26, LR),
    ("residual", 26, LR),
    ("plain", 26, 2 * LR),
):
    for seed in SEEDS:
        network = build(kind, layers, seed)
        key = (kind, layers, lr, seed)
        losses[key] = fit(network, images, labels, EPOCHS, lr=lr, batch_size=BATCH, seed=seed)
        final[key] = float(np.mean(losses[key][-8:]))
        scores[key] = accuracy(network, images, labels)
        trained[key] = network
table(
    ["network", "layers", "learning rate", *(f"loss, seed {seed}" for seed in SEEDS), "training accuracy"],
    [
        (
            kind, layers, lr, *(final[kind, layers, lr, seed] for seed in SEEDS),
            " ".join(f"{scores[kind, layers, lr, seed]:.0%}" for seed in SEEDS),
        )
        for kind, layers, lr in dict.fromkeys(key[:3] for key in final)
    ],
)  # fmt: skip
worst = min(scores, key=scores.get)
settle("degrades", f"{worst[0]} {worst[1]}")

# %% [markdown] lang="en"
# Sixteen more layers ruin the plain network and do not hurt the residual one: its loss is even the lowest. Say no
# more than that. Nothing here speaks of test images, of which no network trained on 200 knows much. Degradation is a matter of how well training works, not of what can
# be represented.

# %% [markdown] lang="zh"
# 多出来的 16 层毁了普通网络，却没有伤到残差网络，它的损失甚至最低。结论到此为止：
# 这里没有涉及测试集（只用 200 张图像训练，哪个网络都谈不上泛化）。
# 退化说的是训练是否顺利，而不是能否表示。

# %% [markdown]
# ## Experiment: taking out a block · 实验：拿掉一个块

# %% [markdown] lang="en"
# In a plain network each block reads what only the block before it makes. In a residual network a block reads a sum,
# of which one term would be missing (Veit et al. 2016). From the trained networks of 26 layers each of the eight
# blocks that are not the first of their stage is left out in turn. Since the plain network has less to lose, what counts is
# the fraction that is left of the accuracy above chance, 0.1.

# %% [markdown] lang="zh"
# 普通网络里，每个块读的是前一个块独自产生的结果；残差网络里，每个块读的是一个和，少一个块只是少了一项（Veit 等 2016）。
# 在训练好的 26 层网络中，把每个阶段第一块以外的八个块逐个拿掉。普通网络本来可失去的就少，
# 所以比较的是：高于随机猜测（0.1）的那部分准确率还剩几成。

# %%
quiz(
    "kept",
    en="How much of its accuracy above chance does the residual network keep without one block, on average? (percent)",
    zh="拿掉一个块之后，残差网络高于随机猜测的准确率平均还剩百分之几？",
)


# %%
def without_a_block(network: ResNet) -> list[float]:
    """Training accuracies with each of the eight blocks that do not begin a stage left out."""
    found = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in (1, 2):
            wounded = copy.deepcopy(network)
            getattr(wounded, stage)[block] = nn.Identity()
            found.append(accuracy(wounded, images, labels))
    return found


rows, kept, without = [], {kind: [] for kind in BLOCKS}, {}
for seed in SEEDS:
    for kind in BLOCKS:
        whole, wounded = scores[kind, 26, LR, seed], without_a_block(trained[kind, 26, LR, seed])
        without.setdefault(kind, wounded)
        kept[kind].append(float((np.mean(wounded) - 0.1) / (whole - 0.1)))
        rows.append((seed, kind, whole, float(np.mean(wounded)), min(wounded), f"{kept[kind][-1]:.0%}"))
table(["seed", "26 layers", "training accuracy", "one block out, mean", "worst", "kept above chance"], rows)
settle("kept", 100 * float(np.mean(kept["residual"])), tolerance=0.2)

# %%
figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
styles = {"plain": "tab:red", "residual": "tab:blue"}
for (kind, layers, seed), values in norms.items():
    if layers == 26:
        label = f"{kind}, 26 layers" if seed == SEEDS[0] else None
        relative = np.array(values) / values[-1]
        axes[0].plot(relative, marker=".", color=styles[kind], linestyle="-" if kind == "plain" else "--", label=label)
axes[0].set(
    title="The gradient grows on its way back, most without shortcuts", xlabel="block (0: input of the first)",
    ylabel="norm of the gradient, relative to the end", yscale="log",
)  # fmt: skip
for (kind, layers, lr, seed), values in losses.items():
    if lr == LR:
        label = f"{kind}, {layers} layers" if seed == SEEDS[0] else None
        line = {"color": styles[kind], "linestyle": "-" if layers == 26 else ":", "label": label}
        axes[1].plot(*moving_average(values, 6), **line)
axes[1].set(title="The deep plain network does not fit", xlabel="step", ylabel="training loss, mean of 6 steps")
places = np.arange(8)
for shift, hatch, (kind, values) in zip((-0.2, 0.2), ("//", None), without.items(), strict=True):
    axes[2].bar(places + shift, values, 0.4, color=styles[kind], hatch=hatch, edgecolor="black", label=kind)
    axes[2].axhline(scores[kind, 26, LR, SEEDS[0]], color=styles[kind], linestyle="--", linewidth=1)
axes[2].set(
    title=f"One block taken out (dashed: none), seed {SEEDS[0]}", xlabel="block that is taken out",
    ylabel="training accuracy", xticks=places, xticklabels=places + 1, ylim=(0, 1.35),
)  # fmt: skip
for axis in axes:
    axis.legend()
show(figure, "shortcuts")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torchvision's block takes the projection ready made; its weights load into ours by name. Values and gradients of a
# block with a projection must agree, and those of a network with one block per stage. ResNet-18 at full size must have
# the documented number of parameters; it is counted on torch's meta device, where tensors have shapes but no contents.

# %% [markdown] lang="zh"
# torchvision 的块要求把投影现成传入；它的权重可以按名字直接载入我们的块。
# 带投影的块、每阶段一个块的网络，数值与梯度都必须一致。完整尺寸的 ResNet-18 的参数量必须等于文档所写；
# 统计在 torch 的 meta 设备上进行，那里的张量只有形状，没有内容。

# %%
with torch.random.fork_rng():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))
    their_block = torchvision.models.resnet.BasicBlock(4, 6, stride=2, downsample=made).double()
    their_network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], 10).double()
our_block, our_network = BasicBlock(4, 6, 2).double(), ResNet(BasicBlock, (1, 1, 1, 1), 10).double()
our_block.load_state_dict(their_block.state_dict())
our_network.load_state_dict(their_network.state_dict())
block_input = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
compared = {}
for name, pair, x in (
    ("block", (our_block, their_block), block_input),
    ("network", (our_network, their_network), images[:4].double()),
):
    outputs = [module(x) for module in pair]
    grads = [torch.autograd.grad(y.square().sum(), list(m.parameters())) for y, m in zip(outputs, pair, strict=True)]
    compared[name] = outputs, [torch.cat([part.flatten() for part in parts]) for parts in grads]

with torch.device("meta"):
    parameters = sum(parameter.numel() for parameter in resnet18().parameters())
documented = torchvision.models.ResNet18_Weights.DEFAULT.meta["num_params"]
print(f"  ResNet-18: {parameters:,} parameters; torchvision documents {documented:,}")

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: outputs 0 and 1.7, derivatives 0 and 0.85", [r[1:] for r in scalar_rows], [[0, 0], [1.7, 0.85]])
check_close("the projection reads 1, 3, 9, 11", projected[0].flatten(1), [[1, 3, 9, 11], [-1, -3, -9, -11]])
check_close("a block with a projection has torchvision's outputs", *compared["block"][0], 1e-9)
check_close("and its gradients", *compared["block"][1], 1e-9)
check_close("a whole network has torchvision's logits", *compared["network"][0], 1e-9)
check_close("and its gradients", *compared["network"][1], 1e-8)
check("ResNet-18 has the documented number of parameters", parameters == documented)
check("either kind of block can pass its input on unchanged", max(passed_on.values()) < 1e-3)
check(
    "through plain blocks the gradient grows, and more than through residual ones, with every seed",
    all(growths["plain", 26, seed] > max(3, 1.5 * growths["residual", 26, seed]) for seed in SEEDS),
)
check(
    "the deep plain network's gradient is the least similar 1 % further on, with every seed",
    all(
        similarities["plain", 26, seed] < 0.7 * min(similarities[kind, n, seed] for kind, n in others)
        for others in [(("plain", 10), ("residual", 10), ("residual", 26))]
        for seed in SEEDS
    ),
)
check(
    "three of the networks know at least 97 % of the 200 images by heart, with every seed",
    min(scores[k, n, LR, seed] for k, n in (("plain", 10), ("residual", 10), ("residual", 26)) for seed in SEEDS)
    >= 0.97,
)
check(
    "the deep plain network does not, with neither learning rate nor any seed",
    max(scores["plain", 26, lr, seed] for lr in (LR, 2 * LR) for seed in SEEDS) < 0.93,
)
check(
    "the deep residual network ends with the lowest loss, with every seed",
    all(
        final["residual", 26, LR, seed] < min(final[k, n, LR, seed] for k, n in (("plain", 10), ("residual", 10)))
        for seed in SEEDS
    ),
)
check(
    "without one block the residual network keeps a larger part of what it can, with every seed",
    min(kept["residual"]) > 2 * max(kept["plain"]),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `cifar10-resnet` trains residual networks on 32×32 images: `uv run --package cifar10-resnet train --model
# resnet18 --max-minutes 5` uses this very class. Outside of vision the shortcut is everywhere as well: each half of a
# Transformer block is $x + F(x)$ (phase 7), and an LSTM's cell state is an addition through time (06/04).
#
# Papers: [He et al. 2016](https://arxiv.org/abs/1512.03385), the blocks and the degradation; [He et al.
# 2016b](https://arxiv.org/abs/1603.05027), why the identity should stay clear; [Veit et al.
# 2016](https://arxiv.org/abs/1605.06431), many short paths; [Balduzzi et al. 2017](https://arxiv.org/abs/1702.08591),
# shattered gradients. Next: the sizes from 18 to 152 layers, 05/08.

# %% [markdown] lang="zh"
# 实战项目 `cifar10-resnet` 在 32×32 图像上训练残差网络：
# `uv run --package cifar10-resnet train --model resnet18 --max-minutes 5` 用的就是这个类。
# 视觉之外捷径也无处不在：Transformer 块的每一半都是 $x + F(x)$（第 7 阶段），LSTM 的细胞状态则是沿时间的加法（06/04）。
#
# 论文：[何恺明等 2016](https://arxiv.org/abs/1512.03385) 提出残差块与退化问题；
# [何恺明等 2016b](https://arxiv.org/abs/1603.05027) 解释恒等路径为什么要保持畅通；
# [Veit 等 2016](https://arxiv.org/abs/1605.06431) 讲许多短路径；
# [Balduzzi 等 2017](https://arxiv.org/abs/1702.08591) 讲破碎的梯度。下一课：18 到 152 层的各种规格，05/08。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `shortcut` and both methods of `BasicBlock` yourself. `uv run lesson exercise 05/07` makes a file with their
# signatures, `uv run lesson check 05/07` judges it: shapes, values, gradients, and whether torchvision's weights load.

# %% [markdown] lang="zh"
# 自己实现 `shortcut` 和 `BasicBlock` 的两个方法。`uv run lesson exercise 05/07` 生成带有签名的文件，
# `uv run lesson check 05/07` 检查形状、数值、梯度，以及能否载入 torchvision 的权重。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `shortcut` first: `nn.Identity()` if nothing changes; else `nn.Sequential` of `convolution(…, 1, stride)` and a
#    batch norm. A stride alone changes the shape, and so does a number of channels alone.
# 2. torchvision's names are `conv1`, `bn1`, `conv2`, `bn2` and `downsample`; call `super().__init__()` before you
#    assign a module. The second convolution maps `width` channels to `width`, with stride 1.
# 3. The branch is convolution, norm, ReLU, convolution, norm. Its last norm is not followed by a ReLU.
# 4. Add `self.downsample(x)` of the block's input, not of an intermediate result, then apply the ReLU to the sum.

# %% [markdown] lang="zh"
# 1. 先写 `shortcut`：形状不变就返回 `nn.Identity()`，否则返回由 `convolution(…, 1, stride)` 和批归一化组成的 `nn.Sequential`。
#    只改步长，或只改通道数，形状都会变。
# 2. torchvision 的名字是 `conv1`、`bn1`、`conv2`、`bn2`、`downsample`；给属性赋模块之前先调用 `super().__init__()`。
#    第二个卷积从 `width` 个通道到 `width` 个通道，步长为 1。
# 3. 分支依次是卷积、归一化、ReLU、卷积、归一化；最后的归一化之后没有 ReLU。
# 4. 加上的是块的输入经过 `self.downsample(x)` 的结果，不是中间结果；最后对和做 ReLU。


# %%
@exercise(shortcut, BasicBlock.__init__, BasicBlock.forward)
def judge(yours, reference):
    random = torch.Generator().manual_seed(7)

    def drawn(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    identity = yours.shortcut(5, 5, 1)
    x = drawn(3, 5, 6, 6)
    check("shortcut: same channels, stride 1: no parameters", not list(identity.parameters()))
    check_close("shortcut: same channels, stride 1: the input itself", identity(x), x)
    for name, arguments in (("other channels", (5, 7, 1)), ("stride 2", (5, 5, 2)), ("both", (5, 7, 2))):
        mine, expected = (module.shortcut(*arguments).double() for module in (yours, reference))
        shapes = [{key: list(value.shape) for key, value in each.state_dict().items()} for each in (mine, expected)]
        check(f"shortcut, {name}: the output is {list(expected(x).shape)}", mine(x).shape == expected(x).shape)
        check(f"shortcut, {name}: has the parameters of a convolution and a batch norm", shapes[0] == shapes[1])
        mine.load_state_dict(expected.state_dict())
        check_close(f"shortcut, {name}: the output", mine(x), expected(x), 1e-9)

    for name, arguments in (("identity", (4, 4, 1)), ("more channels", (4, 6, 1)), ("stride 2", (4, 6, 2))):
        mine, expected = (module.BasicBlock(*arguments).double() for module in (yours, reference))
        keys = [set(each.state_dict()) for each in (mine, expected)]
        missing, unknown = sorted(keys[1] - keys[0]), sorted(keys[0] - keys[1])
        check(f"block, {name}: torchvision's names (missing: {missing}, unknown: {unknown})", keys[0] == keys[1])
        with torch.no_grad():
            for value in expected.parameters():
                value.copy_(drawn(*value.shape))
        mine.load_state_dict(expected.state_dict())
        x, names = drawn(3, 4, 6, 6).requires_grad_(), list(dict(expected.named_parameters()))
        outputs = [block(x) for block in (mine, expected)]
        check(f"block, {name}: the output is {list(outputs[1].shape)}", outputs[0].shape == outputs[1].shape)
        found, wanted = (
            torch.autograd.grad(y.square().sum(), [x, *map(block.get_parameter, names)], allow_unused=True)
            for y, block in zip(outputs, (mine, expected), strict=True)
        )
        for key, gradient in zip(["x", *names], found, strict=True):
            check(f"block, {name}: the output depends on {key}", gradient is not None)
        check_close(f"block, {name}: the output", *outputs, 1e-9)
        for key, *pair in zip(["x", *names], found, wanted, strict=True):
            check_close(f"block, {name}: the gradient of {key}", *pair, 1e-8)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What problem does a residual network solve: overfitting or vanishing gradients? · 残差网络解决的是过拟合还是梯度消失？

# %% [markdown] lang="en"
# Neither, first of all: it solves degradation. A deeper plain network has a higher training error, so it is not
# overfitting; and with batch norm its gradients do not vanish, at the start they even grow backward. The deeper
# network could represent a better solution, but optimization does not reach it. With x + F(x) doing nothing is the
# easy case, F = 0, and the layers only learn corrections. (In networks without normalization vanishing gradients are
# a reason as well, and shortcuts help there too.)

# %% [markdown] lang="zh"
# 首先都不是，它解决的是退化。更深的普通网络训练误差更高，所以不是过拟合；有批归一化时梯度也没有消失，初始时反向甚至变大。
# 更深的网络能表示更好的解，但优化到不了那里。有了 x + F(x)，“什么都不做”变成最容易的情形（F = 0），各层只需学习修正量。
# （没有归一化的网络里，梯度消失也是原因之一，捷径同样有帮助。）

# %%
table(
    ["26 layers, mean of the seeds", "gradient, first / last", "training loss at the end"],
    [
        (
            kind,
            float(np.mean([growths[kind, 26, seed] for seed in SEEDS])),
            float(np.mean([final[kind, 26, LR, seed] for seed in SEEDS])),
        )
        for kind in BLOCKS
    ],
)

# %% [markdown]
# ### When does a shortcut need a projection, and why not always use one? · 什么时候需要投影？为什么不全都用投影？

# %% [markdown] lang="en"
# Where the number of channels or the resolution changes, since only equal shapes can be added; in ResNet-18 that is
# three of eight blocks. Elsewhere the identity costs nothing and keeps the way clear. The paper compared: A, pad the
# missing channels with zeros; B, project where needed; C, project always. C was only slightly better than B, for many
# more parameters. Note that a 1×1 convolution with stride 2 reads one of four places; later variants average first.

# %% [markdown] lang="zh"
# 通道数或分辨率改变的地方才需要，因为形状相同才能相加；ResNet-18 的八个块中有三个。其余地方恒等捷径不花任何代价，也让路径保持畅通。
# 论文比较过：A，缺的通道补零；B，只在需要处投影；C，处处投影。C 只比 B 好一点点，参数却多得多。
# 另外，步长为 2 的 1×1 卷积只读四个位置中的一个；后来的变体会先做平均池化。

# %%
with torch.device("meta"):
    projections = [
        sum(parameter.numel() for parameter in block.downsample.parameters())
        for block in resnet18().modules()
        if isinstance(block, BasicBlock)
    ]
print(f"  ResNet-18, parameters of the eight shortcuts: {projections}; all of it: {parameters:,}")

# %% [markdown]
# ### Where can the gradient still be blocked in the original block, and what did pre-activation change? · 原始残差块里梯度还会在哪里被堵？预激活改了什么？

# %% [markdown] lang="en"
# In the ReLU after the addition: where x + F(x) is negative, neither way gets a gradient. So x_L = x_l + Σ F holds
# exactly only if nothing follows the addition. Pre-activation (He et al. 2016b) moves norm and ReLU to the front of
# the branch, x + W₂ σ(N₂(W₁ σ(N₁(x)))): the path from the last block to the first is then free of any function, and
# 1,001 layers train. Transformers with the norm first ("pre-norm") follow the same idea.

# %% [markdown] lang="zh"
# 在加法之后的 ReLU：x + F(x) 为负的地方，两条路都得不到梯度。所以只有加法之后什么都没有时，x_L = x_l + Σ F 才严格成立。
# 预激活（何恺明等 2016b）把归一化和 ReLU 移到分支开头：x + W₂ σ(N₂(W₁ σ(N₁(x))))。
# 这样从最后一块到第一块的路径上没有任何函数，1001 层也能训练。把归一化放在前面的 Transformer（pre-norm）是同样的思路。

# %%
network, blocked = build("residual", 26, 0), []
with torch.no_grad():
    x = F.relu(network.bn1(network.conv1(first)))
    for block in network.layer1:
        branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
        blocked.append((x + branch < 0).float().mean().item())
        x = F.relu(x + branch)
print("  first stage, untrained: the sum is negative at", ", ".join(f"{fraction:.0%}" for fraction in blocked))

# %% [markdown]
# ### Why does a residual network survive the loss of a block? · 为什么残差网络少一个块还能工作？

# %% [markdown] lang="en"
# Multiply out a chain of n blocks: the signal can go through or past each of them, which makes 2ⁿ paths, and most of
# them go through about half of the blocks. Taking one block out removes the half of the paths that went through it;
# the others are as before. In a plain network there is a single path, and each block reads only the one before it.
# (Blocks are not linear, so the sum over paths is a picture; the measurement above is not.)

# %% [markdown] lang="zh"
# 把 n 个块的链展开：信号在每个块处可以穿过，也可以绕过，共有 2ⁿ 条路径，其中多数穿过大约一半的块。
# 拿掉一个块，只是去掉了穿过它的那一半路径，其余照旧。普通网络只有一条路径，每个块只读前一个块。
# （块不是线性的，“路径之和”只是一种图景；上面的测量则是实打实的。）

# %%
lengths = np.array([int(np.prod(range(13 - k, 13)) // np.prod(range(1, k + 1))) for k in range(13)])  # 12 over k
print(f"  12 blocks: {lengths.sum()} paths; {lengths[4:9].sum() / lengths.sum():.0%} go through 4 to 8 of them")
print(f"  kept above chance without a block: residual {kept['residual'][0]:.0%}, plain {kept['plain'][0]:.0%}")

# %% [markdown]
# ### What happens to the size of the signal in x + F(x), and what is done about it? · x + F(x) 会让信号的大小怎样变化？怎么处理？

# %% [markdown] lang="en"
# If branch and input are unrelated, variances add: a branch with a batch norm at its end adds 1 before the ReLU (less
# after it), so the variance grows about linearly with the number of blocks; without norms it would double in each. The
# later branches then matter relatively less. Remedies: start with γ = 0 in the last norm of a branch (Goyal et al. 2017; our ResNet
# does), scale branches by 1/√(number of blocks), or put a norm in front of the head.

# %% [markdown] lang="zh"
# 分支与输入不相关时，方差相加：分支末尾有批归一化，在 ReLU 之前每个块增加 1（之后会小一些），
# 所以方差大致随块数线性增长；没有归一化则每块翻倍。
# 越往后的分支，相对作用越小。常用办法：分支最后一个归一化的 γ 从 0 开始（Goyal 等 2017，我们的 ResNet 就是这样）、
# 把分支乘以 1/√块数，或在输出头之前加归一化。

# %%
with torch.random.fork_rng():
    torch.manual_seed(0)
    chain = [BasicBlock(16, 16) for _ in range(8)]
x, sizes = F.relu(torch.randn(16, 16, 12, 12, generator=torch.Generator().manual_seed(0))), []
with torch.no_grad():
    for block in chain:
        x = block(x)
        sizes.append(x.var().item())
print("  variance after each of eight blocks:", ", ".join(f"{size:.2f}" for size in sizes))
