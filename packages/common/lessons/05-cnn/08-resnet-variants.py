# %% [markdown]
# # ResNet-18, 34, 50, 101 · ResNet 的几种规格
#
# One recipe, five sizes: four stages, each at half the resolution and twice the width of the one before. Up to 34
# layers a block is two 3×3 convolutions. From 50 on it is a bottleneck: 1×1 to a quarter of the channels, 3×3 there,
# 1×1 back. Who picks a backbone picks from this table, so one should know where its parameters and its time go, and
# that these are not the same places.
#
# The lesson counts both for the full-size networks, against what torchvision documents; takes the bottleneck apart;
# finds the difference between "ResNet-50" in the paper and in every library; and trains small versions of three sizes.
#
# 同一套配方，五种规格：四个阶段，每个阶段分辨率减半、宽度加倍。34 层及以下的块是两个 3×3 卷积；
# 50 层起改用瓶颈块：先用 1×1 降到四分之一的通道，在那里做 3×3，再用 1×1 升回去。
# 选骨干网络其实就是在这张表里选，所以应当知道参数在哪里、计算量又在哪里：两者并不在同一处。
# 本课统计全尺寸网络的参数与计算量，并与 torchvision 公布的数字核对；拆解瓶颈块；
# 指出论文里的 ResNet-50 与各家库里的差别；最后训练三种规格的缩小版。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample
from dlcommon.cnn.residual import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# %% [markdown]
# ## Parameters and multiply-adds · 参数量与计算量
#
# On the meta device tensors have shapes but no contents: a network of 60 million parameters is built and run in no
# time. Depth in the third stage grows most. 在 meta 设备上只有形状没有数据，因此统计几乎不花时间。

# %%
stages = ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")
parameters, operations, documented = {}, {}, {}
for build in (resnet18, resnet34, resnet50, resnet101, resnet152):
    with torch.device("meta"):
        network, image = build(), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    name = build.__name__
    flops = counter.get_flop_counts()
    parameters[name] = [sum(p.numel() for p in getattr(network, stage).parameters()) for stage in stages]
    parameters[name][0] += sum(p.numel() for p in network.bn1.parameters())
    operations[name] = [sum(flops[f"ResNet.{stage}"].values()) / 2e9 for stage in stages]
    documented[name] = torchvision.models.get_model_weights(name).DEFAULT.meta
table(
    ("network", "parameters", "documented", "billion multiply-adds at 224×224", "documented"),
    [
        (name, f"{sum(parameters[name]):,}", f"{d['num_params']:,}", sum(operations[name]), float(d["_ops"]))
        for name, d in documented.items()
    ],
)

# %% [markdown]
# ## The bottleneck · 瓶颈块
#
# Both blocks of the third stage cost about the same, yet the bottleneck hands on four times the channels: most of its
# work is done where there are few of them. Equal to torchvision's, in value and gradient, is the block with a
# projection; lesson 07 held the whole network to it. 瓶颈块以相近的代价传递四倍的通道。

# %%
with torch.device("meta"):
    sizes = {
        block.__name__: sum(p.numel() for p in block(256 * block.expansion, 256).parameters())
        for block in (BasicBlock, Bottleneck)
    }
table(
    ("block, width 256", "channels", "parameters"),
    [("basic", 256, sizes["BasicBlock"]), ("bottleneck", 1024, sizes["Bottleneck"])],
)

random = torch.Generator().manual_seed(0)
projection = nn.Sequential(nn.Conv2d(16, 32, 1, stride=2, bias=False), nn.BatchNorm2d(32))
reference = torchvision.models.resnet.Bottleneck(16, 8, stride=2, downsample=projection).double()
ours = Bottleneck(16, 8, stride=2).double()
ours.load_state_dict(reference.state_dict())
outputs, gradients = [], []
for block in (ours, reference):
    x = torch.randn(2, 16, 8, 8, generator=random.manual_seed(1), dtype=torch.float64).requires_grad_()
    outputs.append(block(x))
    gradients.append(torch.autograd.grad(outputs[-1].square().sum(), x)[0])

# %% [markdown]
# ## Which ResNet-50? · 哪一个 ResNet-50？
#
# In the paper the first 1×1 convolution of a stage has the stride, and so never looks at three of four places.
# Libraries moved the stride to the 3×3 behind it ("v1.5"): some more work, about half a point of accuracy on ImageNet.
# Weights of one do not fit the other, though every shape agrees.
#
# 论文把步长放在第一个 1×1 卷积里，库的实现则移到了 3×3 卷积。

# %%
with torch.device("meta"):
    paper = resnet50()
for module in paper.modules():
    if isinstance(module, Bottleneck):
        module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
original = count_params_and_macs(paper, torch.empty(1, 3, 224, 224, device="meta"))[1] / 1e9
print(f"  ResNet-50 as in the paper: {original:.2f} billion multiply-adds (its table 1 says 3.8)")
print(f"  ResNet-50 v1.5: {sum(operations['resnet50']):.2f}")

# %% [markdown]
# ## Small versions, trained · 训练缩小版
#
# The same depths, an eighth of the widths (a sixteenth for 50 layers), images of 16×16, a few steps. In all of them the
# last batch norm of each block begins at zero, so that the block begins as the identity (Goyal et al. 2017,
# https://arxiv.org/abs/1706.02677, section 5.1). The fourth is ResNet-50 once more without that.

# %%
pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 512, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)
small = {
    "18 layers": (BasicBlock, (2, 2, 2, 2), (8, 16, 32, 64)),
    "34 layers": (BasicBlock, (3, 4, 6, 3), (8, 16, 32, 64)),
    "50 layers": (Bottleneck, (3, 4, 6, 3), (4, 8, 16, 32)),
    "50 layers, not from the identity": (Bottleneck, (3, 4, 6, 3), (4, 8, 16, 32)),
}
rows, losses, final = [], {}, {}
for name, (block, depths, widths) in small.items():
    torch.manual_seed(0)
    network = ResNet(block, depths, 10, small_images=True, widths=widths)
    if "not" in name:
        for module in network.modules():
            if isinstance(module, Bottleneck):
                nn.init.ones_(module.bn3.weight)
    size, work = count_params_and_macs(network, tests[:1])
    losses[name] = fit(network, images, labels, epochs=4, batch_size=64)
    final[name] = float(np.mean(losses[name][-8:]))
    rows.append((name, size, work / 1e6, final[name], accuracy(network, tests, test_labels)))
table(("network", "parameters", "million multiply-adds", "training loss", "test accuracy"), rows)

# %% [markdown]
# A few seconds decide nothing about test accuracy, which is near guessing for all; the training loss already shows that
# depth trains if every block begins as the identity. 几秒钟的训练谈不上测试精度，但训练损失已说明：
# 每个块从恒等映射开始，深网络才容易训练。

# %%
fig, axes = plt.subplots(1, 3, figsize=(15, 4.3), layout="constrained")
names = [name.removeprefix("resnet") for name in parameters]
for axis, values, unit in ((axes[0], parameters, 1e6), (axes[1], operations, 1)):
    amounts = np.array(list(values.values())) / unit  # [networks, stages]
    below = np.zeros(len(names))
    for number, stage in enumerate(stages):
        axis.bar(names, amounts[:, number], bottom=below, label=stage, color=plt.cm.viridis(number / 5))
        below += amounts[:, number]
    axis.set(xlabel="layers")
axes[0].set(title="Most parameters are in the last stages", ylabel="million parameters")
axes[1].set(title="Most work is done in the third stage", ylabel="billion multiply-adds")
axes[0].legend()
for name, values in losses.items():
    axes[2].plot(*moving_average(values, 5), label=name)
axes[2].set(title="Small versions: training", xlabel="step", ylabel="training loss, mean of 5 steps")
axes[2].legend(fontsize=8)
show(fig, "sizes")

# %% [markdown]
# ## What holds · 结论

# %%
ours_counted = [sum(values) for values in parameters.values()]
check(
    "all five have the documented number of parameters", ours_counted == [d["num_params"] for d in documented.values()]
)
check(
    "and of multiply-adds, to the three digits that are given",
    all(abs(sum(operations[name]) - d["_ops"]) < 0.001 for name, d in documented.items()),
)
check(
    "a bottleneck with four times the channels has fewer parameters than a basic block",
    sizes["Bottleneck"] < sizes["BasicBlock"],
)
check_close("the bottleneck is torchvision's", *outputs, 1e-10)
check_close("so is its gradient", *gradients, 1e-10)
check("the paper's own ResNet-50 needs at least 5 % fewer", original < 0.95 * sum(operations["resnet50"]))
check(
    "in ResNet-50 the last stage holds most parameters, the third does most work",
    max(parameters["resnet50"]) == parameters["resnet50"][4]
    and max(operations["resnet50"]) == operations["resnet50"][3],
)
check(
    "beginning as the identity helps 50 layers", final["50 layers"] < final["50 layers, not from the identity"] - 0.04
)
