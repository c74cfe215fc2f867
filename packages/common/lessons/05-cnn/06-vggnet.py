# %% [markdown]
# # VGG · VGG：堆叠 3×3 卷积
#
# Simonyan and Zisserman (2015, https://arxiv.org/abs/1409.1556) took every choice out of AlexNet but one. All kernels
# are 3×3, all pooling is 2×2, the width doubles when the resolution halves; what is left is depth, and they raised it
# from 11 to 19 layers. Two ideas outlived the network: larger kernels are better made of small ones, and a network is
# a pattern with a few numbers. It also showed where depth ends: the deeper ones could only be trained from a shallow
# one's weights. Batch norm, a year later, mended that.
#
# The lesson counts the four networks against the documented numbers, compares stacks of 3×3 with single 5×5 and 7×7
# convolutions in what they see, cost and learn, and trains 11 to 19 layers with and without batch norm.
#
# Simonyan 和 Zisserman（2015）把 AlexNet 里的各种选择几乎全部去掉：卷积核一律 3×3，池化一律 2×2，
# 分辨率减半时宽度加倍，剩下的只有深度，他们把它从 11 层加到 19 层。有两个想法比网络本身活得更久：
# 大卷积核不如用几个小卷积核堆成；网络可以是一种模式加上几个数字。它也碰到了深度的边界：
# 较深的版本只能从较浅版本的权重出发才训练得动。一年后出现的批归一化解决了这个问题。
# 本课核对四个网络的参数量与计算量；比较堆叠的 3×3 与单个 5×5、7×7 卷积看到什么、花费多少、学得怎样；
# 再训练 11 到 19 层、有无批归一化的缩小版。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample
from dlcommon.cnn.plain import ConvStage, PlainCNN
from dlcommon.cnn.receptive_field import gradient_map, receptive_fields
from dlcommon.cnn.vgg import DEPTHS, VGG, vgg
from dlcommon.course.lesson import check, check_close, data, show, table
from torch import nn
from torch.nn import functional as F

pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 500, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)

# %% [markdown]
# ## Where the parameters are · 参数在哪里
#
# Counted on torch's meta device (shapes without contents). Three quarters of VGG-16 are one matrix, from the 7×7×512
# last maps to 4,096 units. Global average pooling, which all later networks have, does without.
# VGG-16 四分之三的参数在一个矩阵里。


# %%
counted, documented, parts, same_shapes = {}, {}, {}, []
for layers in DEPTHS:
    name = f"vgg{layers}"
    with torch.device("meta"):
        network, reference = vgg(layers), torchvision.models.get_model(name)
        counted[name] = count_params_and_macs(network, torch.empty(1, 3, 224, 224))
    documented[name] = torchvision.models.get_model_weights(name).DEFAULT.meta
    same_shapes.append([p.shape for p in network.parameters()] == [p.shape for p in reference.parameters()])
    linear = [sum(p.numel() for p in network.classifier[number].parameters()) for number in (0, 3, 6)]
    parts[name] = [counted[name][0] - sum(linear), *linear]
table(
    ("network", "parameters", "documented", "billion multiply-adds", "documented", "first linear layer"),
    [
        (n, f"{p:,}", f"{documented[n]['num_params']:,}", m / 1e9, documented[n]["_ops"], f"{parts[n][1] / p:.0%}")
        for n, (p, m) in counted.items()
    ],
)
headless = parts["vgg16"][0] + 512 * 1000 + 1000
print(f"  VGG-16 with global average pooling and one linear layer would have {headless:,}")

# The layers themselves, in a narrow form: the same maps and gradients from the same weights.
reference = torchvision.models.vgg.make_layers([4, "M", 8, "M", 8, 8, "M", 8, 8, "M", 8, 8, "M"], batch_norm=True)
ours = VGG(DEPTHS[11], widths=(4, 8, 8, 8, 8), hidden_features=1, pool_size=1, batch_norm=True).features
ours.load_state_dict(reference.state_dict())
maps, gradients = [], []
for features in (ours.double(), reference.double()):
    x = F.interpolate(tests[:4], 32).double().requires_grad_()
    maps.append(features(x))
    gradients.append(torch.autograd.grad(maps[-1].square().sum(), x)[0])

# %% [markdown]
# ## One large kernel or several small · 一个大核还是几个小核
#
# Two 3×3 convolutions see 5×5 pixels, three see 7×7; with C channels they have 18C² and 27C² weights in place of 25C²
# and 49C², and a ReLU after each. The paper's argument, in one table. 感受野相同，参数更少，非线性更多。

# %%
stages = {"5×5": (1, 5), "two 3×3": (2, 3), "7×7": (1, 7), "three 3×3": (3, 3)}
rows, seen, weights, sensitivity, middle = [], {}, {}, {}, {}
for name, (depth, kernel) in stages.items():
    torch.manual_seed(0)
    stage = ConvStage(32, 32, depth, kernel).eval()
    seen[name] = int(receptive_fields(stage, (32, 15, 15))[""].rows.size)
    weights[name] = sum(module.weight.numel() for module in stage.convolutions)
    inputs = torch.randn(20, 32, 15, 15, generator=torch.Generator().manual_seed(0))
    sensitivity[name] = gradient_map(stage, inputs, 7, 7)
    middle[name] = (sensitivity[name][6:9, 6:9].sum() / sensitivity[name].sum()).item()
    rows.append((name, f"{seen[name]}×{seen[name]}", weights[name], weights[name] / 32**2, middle[name]))
table(("32 to 32 channels", "sees", "weights", "weights / C²", "of the gradient, in the middle 3×3"), rows)

# %% [markdown]
# Trained: three stages of each, of 12, 24 and 48 channels, with batch norm. (So short a training ranks them differently
# on other images; the costs it does not change.) 每种各训练一个三阶段的小网络；训练太短，名次会随数据变化。

# %%
rows, losses, final = [], {}, {}
for name, (depth, kernel) in {"3×3": (1, 3), **stages}.items():
    torch.manual_seed(0)
    network = PlainCNN(3, (12, 24, 48), (depth,) * 3, 10, kernel)
    size, work = count_params_and_macs(network, tests[:1])
    losses[name] = fit(network, images, labels, epochs=5, batch_size=50)
    final[name] = float(np.mean(losses[name][-10:]))
    rows.append((name, size, work / 1e6, final[name], accuracy(network, tests, test_labels)))
table(("each stage", "parameters", "million multiply-adds", "training loss", "test accuracy"), rows)

# %% [markdown]
# ## Depth at the start · 初始状态下的深度
#
# Before any training: the gradient of the first convolution, by how the weights begin. The paper drew them with a
# deviation of 0.01, which shrinks the signal in each layer (even more in the narrow ones here), and so had to begin its
# deeper networks with a trained shallow one's layers. He's rule (2015) keeps the signal's size at any depth; batch norm
# does, whatever the weights. Images are 16×16, so the last pooling is left out.
#
# 标准差 0.01 的权重让信号逐层缩小；He 初始化在任何深度都保持信号大小；批归一化则与权重无关地做到这一点。

# %%
widths = (8, 16, 32, 32, 32)


def small(layers, start):
    torch.manual_seed(0)
    network = VGG(
        DEPTHS[layers], 10, widths, hidden_features=64, pool_size=1, batch_norm="batch norm" in start, dropout=0
    )
    network.features = network.features[:-1]
    if "0.01" in start:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
    return network


starts = ("0.01", "He", "0.01, batch norm")
norms = {}
for start in starts:
    for layers in DEPTHS:
        network = small(layers, start)
        loss = F.cross_entropy(network(images[:100]), labels[:100])
        norms[start, layers] = torch.autograd.grad(loss, network.features[0].weight)[0].norm().item()
table(("layers", *starts), [(layers, *(norms[start, layers] for start in starts)) for layers in DEPTHS])

# %% [markdown]
# ## 11 to 19 layers, trained · 训练 11 到 19 层

# %%
rows, depth_losses, ends = [], {}, {}
for start in ("0.01", "He", "He, batch norm"):
    for layers in (11, 19) if start == "0.01" else DEPTHS:
        network = small(layers, start)
        size, work = count_params_and_macs(network, tests[:1])
        depth_losses[start, layers] = fit(network, images, labels, epochs=5, batch_size=50)
        ends[start, layers] = float(np.mean(depth_losses[start, layers][-10:]))
        found = (ends[start, layers], accuracy(network, tests, test_labels))
        rows.append((layers, start, size, work / 1e6, *found))
table(("layers", "start", "parameters", "million multiply-adds", "training loss", "test accuracy"), rows)

# %% [markdown]
# Without batch norm, weights of 0.01 learn nothing, and He's little in so few steps. With it all depths learn. But 19
# layers still fit their own training images worse than 11: what depth then needed was shortcuts (lesson 07).
#
# 批归一化让各种深度都能训练，但 19 层对训练集的拟合仍不如 11 层；接下来缺的是捷径（第 07 课）。

# %%
fig, axes = plt.subplots(1, 4, figsize=(18, 4.2), layout="constrained")
amounts, below = np.array(list(parts.values())) / 1e6, np.zeros(len(parts))
for number, part in enumerate(("convolutions", "first linear layer", "second", "third")):
    axes[0].bar(list(DEPTHS), amounts[:, number], 1.2, bottom=below, label=part)
    below += amounts[:, number]
axes[0].set(title="One matrix holds most parameters", xlabel="layers", xticks=list(DEPTHS), ylabel="million parameters")
axes[0].set_ylim(0, 205)
axes[0].legend(ncols=2, fontsize=9)
axes[1].set_axis_off()
axes[1].set_title("What one output's gradient reaches, untrained")
for number, (name, reached) in enumerate(sensitivity.items()):
    inset = axes[1].inset_axes((0.02 + 0.5 * (number % 2), 0.52 - 0.52 * (number // 2), 0.44, 0.4))
    inset.imshow(reached[2:-2, 2:-2].numpy(), cmap="viridis")
    inset.set(xticks=[], yticks=[])
    inset.set_title(name, fontsize=9)
colours = {"0.01": "tab:gray", "He": "tab:red", "0.01, batch norm": "tab:blue", "He, batch norm": "tab:blue"}
for start in starts:
    axes[2].semilogy(list(DEPTHS), [norms[start, layers] for layers in DEPTHS], "o-", color=colours[start], label=start)
axes[2].set(title="Before training", xlabel="layers", xticks=list(DEPTHS), ylabel="gradient of the first convolution")
axes[2].legend()
for (start, layers), end in ends.items():
    axes[3].plot(layers, end, "o", color=colours[start], label=start if layers == 11 else "_")
for start in ("He", "He, batch norm"):
    axes[3].plot(list(DEPTHS), [ends[start, layers] for layers in DEPTHS], color=colours[start])
axes[3].axhline(np.log(10), color="black", linestyle=":", linewidth=1, label="a guess, log 10")
axes[3].set(title="After 50 steps", xlabel="layers", xticks=list(DEPTHS), ylabel="training loss")
axes[3].legend()
show(fig, "depth")

# %% [markdown]
# ## What holds · 结论

# %%
check(
    "all four have the documented parameters, layer by layer torchvision's shapes",
    all(same_shapes) and all(counted[n][0] == documented[n]["num_params"] for n in counted),
)
check(
    "and multiply-adds, in the digits given",
    all(abs(counted[n][1] / 1e9 - documented[n]["_ops"]) < 0.01 for n in counted),
)
check_close("the layers give torchvision's maps", *maps, 1e-9)
check_close("and gradient", *gradients, 1e-9)
check("the first linear layer holds more than 70 % of all parameters", all(p[1] > 0.7 * sum(p) for p in parts.values()))
check(
    "two 3×3 convolutions see what a 5×5 sees, three what a 7×7 sees",
    seen["two 3×3"] == seen["5×5"] == 5 and seen["three 3×3"] == seen["7×7"] == 7,
)
check(
    "with 18/25 and 27/49 of the weights",
    25 * weights["two 3×3"] == 18 * weights["5×5"] and 49 * weights["three 3×3"] == 27 * weights["7×7"],
)
check("stacks look more at the middle", middle["three 3×3"] > 1.3 * middle["7×7"])
check("with weights of 0.01 the gradient dies with depth", norms["0.01", 19] < 1e-6 * norms["0.01", 11])
check(
    "with He's rule or batch norm it stays within two orders of magnitude",
    all(0.01 < norms[start, 19] / norms[start, 11] < 100 for start in starts[1:]),
)
check("from weights of 0.01 nothing is learnt", min(ends["0.01", layers] for layers in (11, 19)) > 2.25)
mean = {start: np.mean([ends[start, layers] for layers in DEPTHS]) for start in ("He", "He, batch norm")}
check("at all depths together batch norm learns more than He's rule alone", mean["He, batch norm"] < mean["He"] - 0.06)
check("yet 19 layers fit worse than 11", ends["He, batch norm", 19] > ends["He, batch norm", 11] + 0.05)
