# %% [markdown]
# # Residual networks · 残差网络
#
# A deeper network could always do what a shallower one does: its further layers need only learn the identity. In
# practice it did worse, and worse on its own training images, so that overfitting was not to blame. He et al. (2016)
# let each block learn what to add, relu(x + F(x)): then the identity is F = 0, and gradients have a way back that no
# layer can block. Nearly everything built since has such shortcuts, Transformers included.
#
# The lesson shows the failure and the cure with networks that differ in the shortcut alone: gradients at the start,
# training, and what is left when a single block is taken out of a trained network.
#
# 更深的网络至少应当不比浅的差，因为多出来的层只要学会恒等映射即可。但实践中它反而更差，而且是在训练集上更差，
# 所以不是过拟合。何恺明等人（2016）让每个块只学习“要加上什么”：relu(x + F(x))，恒等映射就是 F = 0，
# 梯度也有了一条任何一层都堵不住的回路。此后几乎所有网络（包括 Transformer）都有这样的捷径。
# 本课用仅在捷径上不同的网络展示这个现象与解法：初始梯度、训练过程，以及从训练好的网络中拿掉一个块之后还剩下什么。

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample
from dlcommon.cnn.residual import BasicBlock, ResNet, convolution, resnet18
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from torch import nn
from torch.nn import functional as F

pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 1200, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)

# %% [markdown]
# ## The same as torchvision's · 与 torchvision 一致
#
# The full-size ResNet-18 has its documented number of parameters (counted on torch's meta device, where tensors have
# shapes but no contents), and with the same weights one block per stage gives the same logits and the same gradient.

# %%
with torch.device("meta"):
    parameters = sum(parameter.numel() for parameter in resnet18().parameters())
documented = torchvision.models.ResNet18_Weights.DEFAULT.meta["num_params"]
print(f"  ResNet-18: {parameters:,} parameters; torchvision documents {documented:,}")

reference = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10).double()
ours = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=10).double()
ours.load_state_dict(reference.state_dict())
logits, gradients = [], []
for network in (ours, reference):
    x = tests[:4].double().requires_grad_()
    logits.append(network(x))
    gradients.append(torch.autograd.grad(logits[-1].square().sum(), x)[0])

# %% [markdown]
# ## The same network without shortcuts · 去掉捷径的同一个网络
#
# Two sizes of each, with 10 and 26 layers. All weights begin as in the paper; the refinement that begins each block as
# the identity (lesson 08) is left out, so that both kinds start with the same blocks.


# %%
class PlainBlock(nn.Module):
    """A BasicBlock whose input is not added to its output."""

    expansion = 1

    def __init__(self, inputs, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


blocks = {"plain": PlainBlock, "residual": BasicBlock}


def build(kind, depth, seed):
    torch.manual_seed(seed)
    network = ResNet(blocks[kind], (depth,) * 4, 10, small_images=True, widths=(8, 16, 32, 64))
    for module in network.modules():
        if isinstance(module, BasicBlock):
            nn.init.ones_(module.bn2.weight)
    return network


networks = {(kind, 8 * depth + 2): build(kind, depth, seed=0) for kind in blocks for depth in (1, 3)}

# %% [markdown]
# ## Gradients at the start · 初始时的梯度
#
# Before any training: the norm of the loss's gradient for the first convolution of each block. Batch norm keeps the
# signal's size on its way forward, yet on the way back through many plain blocks the gradient grows and grows.

# %%
norms = {}
for name, network in networks.items():
    loss = F.cross_entropy(network(images[:100]), labels[:100])
    weights = [weight for key, weight in network.named_parameters() if key.endswith(".conv1.weight")]
    norms[name] = [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]
grown = {name: values[0] / values[-1] for name, values in norms.items()}

# %% [markdown]
# ## Training · 训练

# %%
rows, losses, scores = [], {}, {}
for (kind, layers), network in networks.items():
    losses[kind, layers] = fit(network, images, labels, epochs=3, batch_size=100)
    scores[kind, layers] = accuracy(network, images, labels)
    size, work = count_params_and_macs(network, tests[:1])
    end = float(np.mean(losses[kind, layers][-10:]))
    found = (end, scores[kind, layers], accuracy(network, tests, test_labels))
    rows.append((kind, layers, size, work / 1e6, grown[kind, layers], *found))
table(
    (
        "network", "layers", "parameters", "million multiply-adds", "gradient, first/last block",
        "training loss", "training accuracy", "test accuracy",
    ),
    rows,
)  # fmt: skip
final = {(kind, layers): end for kind, layers, *_, end, _, _ in rows}

# %% [markdown]
# More layers make the plain network worse at its own training images. With shortcuts the same layers cost far
# less, or bring a gain. (With so little training all of them are poor at images that they have not seen.)
#
# 层数增加后，普通网络连自己的训练集都拟合得更差；有捷径时，加深同样的层数代价小得多，甚至有所收益。
# （训练这么短，几个网络对没见过的图像都不好。）
#
# ## Taking out a block · 拿掉一个块
#
# In a plain network each block needs what the one before it makes. A residual network is more like a sum of many paths,
# most of them short: without one block it loses some of them (Veit et al. 2016, https://arxiv.org/abs/1605.06431).
# Here each block that keeps its input's shape is left out in turn. The plain network has less to lose, so what counts
# is the share that is left of the accuracy above chance (0.1), of networks from three starts.
#
# 残差网络像许多短路径之和，少一个块只损失其中一部分。普通网络本来就没多少可丢，
# 所以比较的是：拿掉一个块之后，高于随机猜测（0.1）的那部分准确率还剩多少（三个初始值）。


# %%
def without_a_block(network):
    """Training accuracies with each of the eight blocks that keep their input's shape left out."""
    found = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in (1, 2):
            wounded = copy.deepcopy(network)
            getattr(wounded, stage)[block] = nn.Identity()
            found.append(accuracy(wounded, images, labels))
    return found


rows, kept, without = [], {kind: [] for kind in blocks}, {}
for seed in range(3):
    for kind in blocks:
        network = networks[kind, 26] if seed == 0 else build(kind, 3, seed)
        if seed > 0:
            fit(network, images, labels, epochs=3, batch_size=100)
        whole, wounded = accuracy(network, images, labels), without_a_block(network)
        without.setdefault(kind, wounded)
        kept[kind].append(float((np.mean(wounded) - 0.1) / (whole - 0.1)))
        rows.append((seed, kind, whole, float(np.mean(wounded)), min(wounded), f"{kept[kind][-1]:.0%}"))
table(("seed", "26 layers", "training accuracy", "one block out, mean", "worst", "kept above chance"), rows)

# %%
fig, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
styles = {"plain": "tab:red", "residual": "tab:blue"}
for (kind, layers), values in norms.items():
    line = {"color": styles[kind], "linestyle": "-" if layers == 26 else ":", "label": f"{kind}, {layers} layers"}
    axes[0].plot(np.linspace(0, 1, len(values)), values, marker=".", **line)
    axes[1].plot(*moving_average(losses[kind, layers], 6), **line)
axes[0].set(
    title="Through plain blocks gradients grow on their way back", xlabel="place in the network, from input to output",
    ylabel="gradient of the block's first weights", yscale="log",
)  # fmt: skip
axes[1].set(title="Depth hurts where there are no shortcuts", xlabel="step", ylabel="training loss, mean of 6 steps")
places = np.arange(8)
for shift, (kind, values) in zip((-0.2, 0.2), without.items(), strict=True):
    axes[2].bar(places + shift, values, 0.4, color=styles[kind], label=kind)
    axes[2].axhline(scores[kind, 26], color=styles[kind], linestyle="--", linewidth=1)
axes[2].set(
    title="One block taken out (dashed: none)", xlabel="block that is taken out",
    ylabel="training accuracy", xticks=places, xticklabels=places + 1,
    ylim=(0, 1.3 * scores["residual", 26]),
)  # fmt: skip
for axis in axes:
    axis.legend()
show(fig, "shortcuts")

# %% [markdown]
# ## What holds · 结论

# %%
check("ResNet-18 has the parameters that torchvision documents", parameters == documented)
check_close("logits are torchvision's", *logits, 1e-9)
check_close("so is the gradient", *gradients, 1e-9)
check(
    "gradients grow more through plain blocks than through residual ones",
    grown["plain", 26] > 2 * grown["residual", 26],
)
check(
    "the deep plain network is worse than the shallow one on its own training images",
    final["plain", 26] > final["plain", 10] + 0.12,
)
check("shortcuts make up for most of it", final["residual", 26] < final["plain", 26] - 0.1)
check(
    "without one block a residual network keeps a larger share of what it can do, with every seed",
    min(kept["residual"]) > max(kept["plain"]),
)
