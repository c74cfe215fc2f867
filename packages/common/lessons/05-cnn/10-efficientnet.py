# %% [markdown]
# # EfficientNet and compound scaling · EfficientNet 与复合缩放
#
# A network can be made larger in three ways: more layers, more channels, larger images. Each by itself soon gains
# little. Tan and Le (2019, https://arxiv.org/abs/1905.11946) scale all three together, by 1.2^φ, 1.1^φ and 1.15^φ, so
# that each step of φ doubles the work. What they scale, B0, was found by a search whose blocks are MobileNetV2's with
# squeeze-and-excitation (the whole image decides how much each channel counts); stochastic depth leaves blocks out in
# training. B7 was as accurate as the best network of its day with an eighth of its parameters.
#
# The lesson counts B0 to B4, holds B0 to torchvision's outputs, measures the scaling rule, takes squeeze-and-excitation
# and stochastic depth apart, scales a small network in each way for about the same work, and ends with the networks of
# this phase in one table.
#
# 把网络做大有三种办法：更多层、更多通道、更大的图像。单独使用其中任何一种，收益很快见顶。Tan 与 Le（2019）
# 按 1.2^φ、1.1^φ、1.15^φ 同时放大三者，φ 每加一，计算量约翻一倍。被放大的 B0 由搜索得到，
# 它的块是带有通道注意力（SE，由整幅图像决定每个通道的权重）的 MobileNetV2 块，训练时还会随机跳过一些块（随机深度）。
# 本课核对 B0 到 B4，验证 B0 的输出与 torchvision 一致；测量缩放规则；拆解 SE 与随机深度；
# 在大致相同的计算量下用各种方式放大一个小网络；最后把本阶段的网络放进同一张表。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample
from dlcommon.cnn.efficientnet import EfficientNet, MBConv, MBConvConfig, StochasticDepth, efficientnet
from dlcommon.cnn.squeeze_excitation import SqueezeExcitation
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from torch.nn import functional as F

pictures = data("cifar10", "colour-scenes")
tests, _ = sample(pictures.test_images, pictures.test_labels, 1000, size=16)

# %% [markdown]
# ## B0 to B4 · B0 到 B4
#
# Counted on torch's meta device (shapes without contents), at the image side that torchvision's weights are meant for:
# the authors', but for B2, which has 288 in place of 260. 在 meta 设备上统计，与公布的数字一致。


# %%
def weights(name):
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]


counted, documented, sides = {}, {}, {}
for number in range(5):
    documented[number] = weights(f"efficientnet_b{number}").meta
    sides[number] = weights(f"efficientnet_b{number}").transforms.keywords["crop_size"]
    with torch.device("meta"):
        counted[number] = count_params_and_macs(efficientnet(number), torch.empty(1, 3, sides[number], sides[number]))
table(
    ("network", "image side", "parameters", "documented", "billion multiply-adds", "documented"),
    [
        (f"B{n}", sides[n], f"{p:,}", f"{documented[n]['num_params']:,}", m / 1e9, documented[n]["_ops"])
        for n, (p, m) in counted.items()
    ],
)

torch.manual_seed(0)
reference, ours = torchvision.models.efficientnet_b0(num_classes=10).double(), efficientnet(0, 10).double()
ours.load_state_dict(reference.state_dict())
logits, gradients = [], []
for network in (ours.eval(), reference.eval()):
    x = F.interpolate(tests[:2], 64).double().requires_grad_()
    logits.append(network(x))
    gradients.append(torch.autograd.grad(logits[-1].square().sum(), x)[0])

# %% [markdown]
# ## The rule, measured · 测量缩放规则
#
# Work grows with depth, with the square of the width (a convolution's inputs and outputs both grow) and with the square
# of the image's side. So 1.2 · 1.1² · 1.15² = 1.92 is about 2, and φ is the logarithm of the work. Channels are rounded
# to multiples of eight and blocks upwards, so that the network needs somewhat more. 宽度和边长都按平方计。

# %%
with torch.device("meta"):
    base = count_params_and_macs(efficientnet(0), torch.empty(1, 3, 224, 224))[1]
    doubled = {
        "depth": count_params_and_macs(EfficientNet(depth_mult=2), torch.empty(1, 3, 224, 224))[1],
        "width": count_params_and_macs(EfficientNet(width_mult=2), torch.empty(1, 3, 224, 224))[1],
        "side": count_params_and_macs(EfficientNet(), torch.empty(1, 3, 448, 448))[1],
    }
    grown = []
    for phi in range(4):
        side = round(224 * 1.15**phi)
        grown.append(
            count_params_and_macs(
                EfficientNet(width_mult=1.1**phi, depth_mult=1.2**phi), torch.empty(1, 3, side, side)
            )[1]
            / base
        )
exponents = {what: float(np.log2(work / base)) for what, work in doubled.items()}
table(("doubled", "work grows by", "exponent"), [(w, doubled[w] / base, e) for w, e in exponents.items()])
table(("φ", "work over B0's", "1.92^φ"), [(phi, work, 1.92**phi) for phi, work in enumerate(grown)])

# %% [markdown]
# ## Squeeze-and-excitation · 通道注意力
#
# Each channel's mean over all places goes through two small matrices; out come factors from 0 to 1, one a channel. They
# cost parameters but hardly any work, and do not know where in the image anything is. 只增加参数，几乎不增加计算量。

# %%
gates = [module for module in ours.modules() if isinstance(module, SqueezeExcitation)]
gate_share = sum(p.numel() for gate in gates for p in gate.parameters()) / sum(p.numel() for p in ours.parameters())
with torch.device("meta"):
    without = count_params_and_macs(EfficientNet(use_se=False), torch.empty(1, 3, 224, 224))
work_share = 1 - without[1] / base
print(f"  in B0: {gate_share:.1%} of the parameters, {work_share:.2%} of the work")
x = torch.randn(2, 32, 9, 9, dtype=torch.float64)
still, moved = gates[0].scale(x), gates[0].scale(x.roll((2, 3), (2, 3)))

# %% [markdown]
# ## Stochastic depth · 随机深度
#
# In training a block's branch is left out for some images, more often in later blocks. What stays is divided by the
# share that stays, so that the mean over many passes is what evaluation computes. 多次前向的平均等于评估时的输出。

# %%
blocks = [module for module in ours.modules() if isinstance(module, MBConv)]
dropped = [block.stochastic_depth.p for block in blocks if block.use_shortcut]
print(
    f"  B0 has {len(blocks)} blocks; on average {sum(dropped):.2f} of the {len(dropped)} with a shortcut are left out"
)
branch = torch.randn(1, 8, 4, 4, dtype=torch.float64)
layer = StochasticDepth(0.5)
mean = layer(branch.expand(10_000, -1, -1, -1)).mean(0, keepdim=True)

# %% [markdown]
# ## A small network, scaled · 放大一个小网络
#
# Three stages; each way of scaling is given about twice the work, as far as whole blocks and channels allow. All are
# trained alike, for 32 steps. Two more have the base's size: without squeeze-and-excitation, and with stochastic depth
# up to one half. So few steps show what scaling costs; what it gains takes a whole training (the last table).
#
# 训练这么短，只能看出缩放的代价；它的收益要完整训练才看得到（见最后一张表）。

# %%
stages = (MBConvConfig(1, 3, 1, 16, 1), MBConvConfig(4, 3, 2, 24, 2), MBConvConfig(4, 3, 2, 40, 2))
ways = {
    "base": ({}, 16),
    "deeper": ({"depth_mult": 2}, 16),
    "wider": ({"width_mult": 1.4}, 16),
    "larger images": ({}, 23),
    "compound": ({"depth_mult": 1.2, "width_mult": 1.1}, 18),
    "base, no squeeze": ({"use_se": False}, 16),
    "base, stochastic depth": ({"stochastic_depth_prob": 0.5}, 16),
}
rows, losses, works, networks = [], {}, {}, {}
for name, (scale, side) in ways.items():
    images, labels = sample(pictures.train_images, pictures.train_labels, 400, side)
    tests, test_labels = sample(pictures.test_images, pictures.test_labels, 500, side)
    torch.manual_seed(0)
    networks[name] = EfficientNet(10, **{"dropout": 0, "stochastic_depth_prob": 0, **scale}, stages=stages)
    size, works[name] = count_params_and_macs(networks[name], tests[:1])
    losses[name] = fit(networks[name], images, labels, epochs=4, batch_size=50, lr=0.01)
    found = float(np.mean(losses[name][-10:])), accuracy(networks[name], tests, test_labels)
    rows.append((name, side, size, works[name] / 1e6, works[name] / works["base"], *found))
table(("network", "side", "parameters", "million multiply-adds", "over base", "training loss", "test accuracy"), rows)

# %% [markdown]
# What the base's last gate makes of the images that it was trained on. Do the means of its factors differ more between
# classes than between ten groups drawn at random? 门控系数的类间差异是否大于随机分组？

# %%
inputs, labels = sample(pictures.train_images, pictures.train_labels, 400, 16)
factors = []
gate = [module for module in networks["base"].modules() if isinstance(module, SqueezeExcitation)][-1]
hook = gate.register_forward_hook(lambda gate, inputs, _: factors.append(gate.scale(inputs[0]).flatten(1)))
with torch.no_grad():
    networks["base"](inputs)
hook.remove()


def by_group(groups):
    """Mean factors [groups, channels]."""
    return torch.stack([factors[0][groups == number].mean(dim=0) for number in range(10)])


by_class = by_group(labels)
between = by_class.var(dim=0).mean().item()
random = torch.Generator().manual_seed(0)
drawn = [by_group(labels[torch.randperm(len(labels), generator=random)]).var(dim=0).mean().item() for _ in range(20)]
chance = float(np.mean(drawn))
print(f"  variance of the factors between classes {between:.1e}; between random groups {chance:.1e}")

# %% [markdown]
# ## The phase in one table · 一张表看完本阶段
#
# What torchvision documents for its first weights of each network. Not all of EfficientNet's lead is its architecture:
# it was trained with stronger augmentation, and by a newer recipe ResNet-50 reaches 80.9 % (its second weights).
#
# 各网络第一版权重公布的 ImageNet 精度。EfficientNet 的领先有一部分来自更强的数据增强：
# 换用新的训练方法，ResNet-50 也能达到 80.9%。

# %%
names = (
    "alexnet", "vgg11", "vgg16", "vgg19", "vgg16_bn", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", *(f"efficientnet_b{n}" for n in range(8))
)  # fmt: skip
published = {name: weights(name).meta for name in names}
top1 = {name: meta["_metrics"]["ImageNet-1K"]["acc@1"] for name, meta in published.items()}
work = {name: meta["_ops"] for name, meta in published.items()}
table(
    ("network", "ImageNet top-1, %", "million parameters", "billion multiply-adds"),
    [(name, top1[name], published[name]["num_params"] / 1e6, work[name]) for name in sorted(names, key=top1.get)],
)

# %%
fig, axes = plt.subplots(2, 2, figsize=(14, 10), layout="constrained")
families = {
    "AlexNet": names[:1], "VGG": names[1:4], "VGG, batch norm": names[4:5], "ResNet": names[5:10],
    "MobileNetV2": names[10:11], "MobileNetV3": names[11:13], "EfficientNet": names[13:]
}  # fmt: skip
for family, members in families.items():
    axes[0, 0].plot([work[n] for n in members], [top1[n] for n in members], "o-", markersize=5, label=family)
axes[0, 0].set(
    title="Documented: accuracy for work", xlabel="billion multiply-adds", ylabel="ImageNet top-1, %", xscale="log"
)
axes[0, 0].legend(loc="lower right")
for rule, values in (("measured", grown), ("1.92^φ", [1.92**phi for phi in range(4)])):
    axes[0, 1].plot(range(4), values, "o-" if rule == "measured" else ":", label=rule)
axes[0, 1].set(title="B0, scaled by φ", xlabel="φ", ylabel="work over B0's", yscale="log", xticks=range(4))
axes[0, 1].set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
axes[0, 1].minorticks_off()
axes[0, 1].legend()
for name in ways:
    axes[1, 0].plot(*moving_average(losses[name], 8), linestyle=":" if "base," in name else "-", label=name)
axes[1, 0].set(title="Small versions: training", xlabel="step", ylabel="training loss, mean of 8 steps")
axes[1, 0].legend()
most = by_class.var(dim=0).argsort(descending=True)[:40]
picture = axes[1, 1].imshow((by_class - by_class.mean(dim=0))[:, most].numpy(), cmap="RdBu_r", aspect="auto")
axes[1, 1].set_yticks(range(10), pictures.classes)
axes[1, 1].set(title="Factors of the last gate, less their mean over classes", xlabel="channel, most varied first")
fig.colorbar(picture, ax=axes[1, 1])
show(fig, "efficientnets")

# %% [markdown]
# ## What holds · 结论

# %%
check("B0 to B4 have the documented parameters", all(counted[n][0] == documented[n]["num_params"] for n in counted))
check(
    "and multiply-adds, in the digits given",
    all(abs(counted[n][1] / 1e9 - documented[n]["_ops"]) < 0.005 for n in counted),
)
check_close("B0 gives torchvision's logits", *logits, 1e-9)
check_close("and gradient", *gradients, 1e-9)
check(
    "work grows about as depth, width² and side²",
    all(abs(exponents[what] - ideal) < 0.2 for what, ideal in (("depth", 1), ("width", 2), ("side", 2))),
)
check(
    "a step of φ about doubles it: rounding adds less than 40 %",
    all(1 <= work / 1.92**phi < 1.4 for phi, work in enumerate(grown)),
)
check(
    "gates are more than a tenth of B0's parameters, and less than a hundredth of its work",
    gate_share > 0.1 and work_share < 0.01,
)
check_close("they do not know where anything is", still, moved, 1e-12)
check("but tell the classes apart, more than random groups", between > 1.4 * chance)
check("stochastic depth is right on average", (mean - branch).norm() < 0.05 * branch.norm())
check(
    "every way of scaling does 1.7 to 2.8 times the base's work",
    all(1.7 < works[n] / works["base"] < 2.8 for n in list(ways)[1:5]),
)
check(
    "B0 is documented as more accurate than ResNet-50, with less than a tenth of the work",
    top1["efficientnet_b0"] > top1["resnet50"] and work["efficientnet_b0"] < work["resnet50"] / 10,
)
