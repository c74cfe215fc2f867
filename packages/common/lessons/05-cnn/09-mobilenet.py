# %% [markdown]
# # MobileNet v1, v2, v3 · MobileNet 三代
#
# A 3×3 convolution mixes space and channels at once, and pays for every pair of channels at each of nine places.
# MobileNet does the two one after the other: a depthwise convolution (each channel by itself), then a 1×1 convolution
# (each place by itself), for an eighth or ninth of the work. v2 turns the residual block inside out: it joins narrow
# ends, which stay linear; v3 lets a search choose the shapes and adds squeeze-and-excitation. This is how networks got
# onto phones, and depthwise convolutions are in nearly every efficient network since.
#
# The lesson counts the full-size networks against the documented numbers, shows what the factorization can and cannot
# express, why the narrow ends must be linear, what the saved work is worth in seconds, and trains small versions beside
# the dense network that they replace.
#
# 3×3 卷积同时混合空间与通道，九个位置上每一对通道都要付出代价。MobileNet 把两件事拆开：
# 先做逐通道的深度卷积，再做逐点的 1×1 卷积，计算量只有八九分之一。v2 把残差块“翻过来”，连接的是窄的两端，
# 并且让窄端保持线性；v3 用搜索决定形状，并加入通道注意力（SE）。
# 本课核对全尺寸网络的参数量与计算量，说明这种分解能表达什么、窄端为什么必须线性、
# 省下的计算换来多少时间，并训练三代的缩小版，与它们所取代的普通卷积网络对照。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample
from dlcommon.cnn.mobilenet import MobileNetV1, MobileNetV2
from dlcommon.cnn.mobilenet_v3 import BlockConfig, MobileNetV3, mobilenet_v3_large, mobilenet_v3_small
from dlcommon.cnn.residual import convolution
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.course.smoothing import moving_average
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)


# %% [markdown]
# ## Parameters and multiply-adds · 参数量与计算量
#
# Of the full-size networks, on the meta device (shapes without contents), beside what torchvision documents and, for
# v1, which it does not have, table 8 of the paper. ResNet-50 needs 4.1 billion multiply-adds. 与公布的数字一致。


# %%
builders = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
}
counted, documented = {}, {"mobilenet_v1": (4.2e6, 569e6)}
for name, build in builders.items():
    with torch.device("meta"):
        counted[name] = count_params_and_macs(build(), torch.empty(1, 3, 224, 224))
    if name not in documented:
        meta = torchvision.models.get_model_weights(name).DEFAULT.meta
        documented[name] = meta["num_params"], 1e9 * meta["_ops"]
table(
    ("network", "parameters", "documented", "million multiply-adds", "documented"),
    [(n, f"{p:,}", f"{documented[n][0]:,.0f}", m / 1e6, documented[n][1] / 1e6) for n, (p, m) in counted.items()],
)

# %% [markdown]
# ## One convolution as two · 一个卷积拆成两个
#
# Without an activation between them the two are one dense convolution with a special kernel: each input channel has one
# 3×3 pattern, and each output channel only chooses how much of each.
#
# 每个输入通道只有一种 3×3 图样，输出通道只能调配比例。

# %%
inputs, outputs = 16, 32
x = torch.randn(2, inputs, 9, 9, generator=random, dtype=torch.float64)
patterns = torch.randn(inputs, 1, 3, 3, generator=random, dtype=torch.float64)
mixture = torch.randn(outputs, inputs, 1, 1, generator=random, dtype=torch.float64)
separable = F.conv2d(F.conv2d(x, patterns, padding=1, groups=inputs), mixture)
dense = F.conv2d(x, mixture * patterns.transpose(0, 1), padding=1)
with torch.device("meta"):
    image = torch.empty(1, inputs, 32, 32)
    _, whole_work = count_params_and_macs(convolution(inputs, outputs, 3), image)
    _, depthwise_work = count_params_and_macs(nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), image)
    _, pointwise_work = count_params_and_macs(convolution(inputs, outputs, 1), image)
ratio = (depthwise_work + pointwise_work) / whole_work
print(f"  separable over dense work: {ratio:.4f}; 1/outputs + 1/9 = {1 / outputs + 1 / 9:.4f}")

# %% [markdown]
# ## Work is not time · 计算量不等于时间
#
# A depthwise convolution does few multiply-adds with each number that it reads, so memory and overhead rule. Here is
# how many a second one core manages in each kind, on the same maps. 深度卷积的算术强度低，同样的计算量要花更多时间。

# %%
maps = torch.randn(8, 64, 32, 32, generator=random)
kinds = {
    "dense 3×3": convolution(64, 64, 3),
    "pointwise 1×1": convolution(64, 64, 1),
    "depthwise 3×3": nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False),
}
threads = torch.get_num_threads()
torch.set_num_threads(1)
speeds = {}
with torch.no_grad():
    for name, layer in kinds.items():
        speeds[name] = count_params_and_macs(layer, maps)[1] / seconds(lambda layer=layer: layer(maps), repeats=7) / 1e9
torch.set_num_threads(threads)
table(("convolution, 64 channels", "billion multiply-adds a second"), speeds.items())

# %% [markdown]
# ## Why the narrow ends stay linear · 窄端为什么必须线性
#
# v2's argument (its figure 1), with numbers: a curve in two dimensions is embedded in n channels by a random matrix,
# goes through a ReLU and is taken back. A point can be recovered only if at least two of its channels are positive;
# each is with probability one half, so (n + 1) / 2ⁿ of the points are lost: most of them in few channels, none in many.
# A ReLU belongs where the block is wide. ReLU 在通道少时会丢失信息，通道多时几乎无损。

# %%
angles = torch.linspace(0.5, 9, 600)
spiral = torch.stack([angles * angles.cos(), angles * angles.sin()])  # [2, points]
widths = (2, 3, 5, 15, 30)
recovered, lost = {}, {}
for width in widths:
    matrices = torch.randn(300, width, 2, generator=random)
    active = (matrices @ spiral > 0).sum(dim=1)  # [300, points]
    lost[width] = (active < 2).float().mean().item()
    recovered[width] = torch.linalg.pinv(matrices[0]) @ (matrices[0] @ spiral).relu()
expected = {width: (width + 1) / 2**width for width in widths}
table(("channels", "points lost", "(n + 1) / 2ⁿ"), [(n, lost[n], expected[n]) for n in widths])

# %% [markdown]
# ## Small versions, trained · 训练缩小版
#
# Images of 16×16, so the stems have no stride and there are few stages. "Dense" is v1 with ordinary 3×3 convolutions in
# place of the separable ones. 输入为 16×16；dense 是把可分离卷积换回普通 3×3 卷积的 v1。

# %%
pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 1000, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)
v1_stages = ((16, 1, 1), (32, 2, 2), (64, 2, 2))
v2_stages = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 2, 2))
v3_rows = (
    BlockConfig(3, 16, 16, False, False, 1), BlockConfig(3, 64, 24, False, False, 2),
    BlockConfig(3, 72, 24, False, False, 1), BlockConfig(5, 96, 32, True, True, 2),
)  # fmt: skip
torch.manual_seed(0)
small = {
    "dense": MobileNetV1(10, 1.0, v1_stages, stem_stride=1),
    "v1": MobileNetV1(10, 1.0, v1_stages, stem_stride=1),
    "v2": MobileNetV2(10, 0.5, v2_stages, stem_stride=1, last_channel=128, dropout=0),
    "v3": MobileNetV3(v3_rows, 64, 10, stem_stride=1, dropout=0),
}
for stage in small["dense"].blocks:
    for number, block in enumerate(stage):
        channels = block.conv_pw.in_channels, block.conv_pw.out_channels
        stride = block.conv_dw.stride[0]
        stage[number] = nn.Sequential(convolution(*channels, 3, stride), nn.BatchNorm2d(channels[1]), nn.ReLU6())
rows, losses, final = [], {}, {}
for name, network in small.items():
    parameters, work = count_params_and_macs(network, tests[:1])
    losses[name] = fit(network, images, labels, epochs=4, batch_size=100, lr=0.01)
    final[name] = float(np.mean(losses[name][-10:]))
    rows.append((name, parameters, work / 1e6, final[name], accuracy(network, tests, test_labels)))
table(("network", "parameters", "million multiply-adds", "training loss", "test accuracy"), rows)
(_, dense_size, dense_work, *_), (_, v1_size, v1_work, *_) = rows[:2]

# %%
fig = plt.figure(figsize=(14, 6.4), layout="constrained")
above, below = fig.subfigures(2, 1, height_ratios=(1, 1.4))
for axis, (width, curve) in zip(above.subplots(1, 6), {0: spiral, **recovered}.items(), strict=True):
    axis.scatter(*curve, c=angles, s=3, cmap="viridis")
    axis.set(xticks=[], yticks=[], title=f"{width} channels: {lost[width]:.0%} lost" if width else "the curve")
above.suptitle("A curve through a random embedding, ReLU, and back (share of lost points: mean of 300 embeddings)")
axes = below.subplots(1, 3)
for name, values in losses.items():
    axes[0].plot(*moving_average(values, 5), label=name)
axes[0].set(title="Small versions: training", xlabel="step", ylabel="training loss, mean of 5 steps")
axes[0].legend()
for name, parameters, work, *_ in rows:
    axes[1].scatter(work, parameters, s=60)
    axes[1].annotate(name, (work, parameters), textcoords="offset points", xytext=(8, -3))
axes[1].set(
    title="What they cost", xlabel="million multiply-adds an image", ylabel="parameters", ylim=(0, 1.15 * dense_size),
    xlim=(0, 1.25 * dense_work),
)  # fmt: skip
axes[2].barh(list(speeds), list(speeds.values()), color="tab:gray")
axes[2].set(title="Work is not time", xlabel="billion multiply-adds a second, one core")
show(fig, "mobilenets")

# %% [markdown]
# ## What holds · 结论

# %%
ours = [counted[name][0] for name in list(builders)[1:]]
check("v2 and v3 have the documented parameters", ours == [documented[name][0] for name in list(builders)[1:]])
check("v1 has the paper's, in the digits that are given", round(counted["mobilenet_v1"][0], -5) == 4.2e6)
check(
    "all do the documented multiply-adds, up to the last digit given",
    all(abs(counted[name][1] - documented[name][1]) < 0.6e6 for name in builders),
)
check_close("depthwise and pointwise are one dense convolution whose kernel factorizes", separable, dense, 1e-10)
check("and cost 1/outputs + 1/9 of it", abs(ratio - 1 / outputs - 1 / 9) < 1e-9)
check(
    "a depthwise convolution does fewer multiply-adds a second", speeds["depthwise 3×3"] < speeds["pointwise 1×1"] / 1.2
)
check(
    "behind a ReLU of n channels (n + 1) / 2ⁿ of the points are lost",
    all(abs(lost[n] - expected[n]) < 0.06 for n in widths),
)
check(
    "small v1 has less than a quarter of the dense network's parameters and work",
    v1_size < dense_size / 4 and v1_work < dense_work / 4,
)
check("and trains about as well", final["v1"] < final["dense"] + 0.12)
