# %% [markdown]
# # The receptive field · 感受野
#
# A unit deep in a network sees only some of the image's pixels: its receptive field. One 3×3 convolution sees 3×3, a
# second one 5×5; every stride makes all later layers take larger steps. If the field is smaller than the object,
# nothing that the network learns can help. So it is the first thing to compute when one designs a network, and
# subtler than it looks: most of the pixels that a unit can see have next to no influence on it.
#
# The lesson computes fields for any module, checks them by gradients, and measures the effective receptive field (Luo
# et al. 2016, https://arxiv.org/abs/1701.04128): why it is a Gaussian that is left behind by the theoretical field as
# networks deepen, how VGG, ResNet and dilated convolutions differ, and what training does to it on real images.
#
# 网络深处的一个单元只能看到图像的一部分像素，这就是它的感受野。一个 3×3 卷积看到 3×3，再叠一个看到 5×5；
# 每多一个步幅，后面各层的步子就更大。如果感受野比物体还小，学什么都无济于事，所以设计网络时首先要算的就是它。
# 但它比看上去微妙：看得见的像素，大多几乎没有影响。本课为任意模块计算感受野，用梯度核对，
# 再测量“有效感受野”：它为什么呈高斯形，并随着网络加深而越来越落后于理论值；
# VGG、ResNet 与空洞卷积有何不同；以及训练会怎样改变它。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.cnn.alexnet import AlexNet
from dlcommon.cnn.comparison import accuracy, fit, sample, update_bn_stats
from dlcommon.cnn.receptive_field import gradient_map, receptive_fields
from dlcommon.cnn.residual import BasicBlock, ResNet, convolution, resnet18, resnet50
from dlcommon.cnn.vgg import DEPTHS, VGG, vgg
from dlcommon.course.lesson import check, check_close, data, show, table
from matplotlib.patches import Rectangle
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## The arithmetic · 计算规则
#
# The jump is how many pixels lie between neighbouring units: the product of all strides so far. A layer with a kernel
# of k adds (k − 1) · jump to the field, and one with dilation d as much as a kernel of d · (k − 1) + 1. VGG-16 is
# worked out by hand below; the calculator follows any module, through branches too. The published fields are those of
# Araujo et al. 2019 (https://doi.org/10.23915/distill.00021).
#
# 步距（jump）是此前所有步幅之积；核为 k 的一层使感受野增加 (k − 1) · 步距。

# %%
size = jump = 1
for depth in DEPTHS[16]:
    for kernel, stride in [(3, 1)] * depth + [(2, 2)]:
        size, jump = size + (kernel - 1) * jump, jump * stride
with torch.device("meta"):
    famous = {"AlexNet": AlexNet(), "VGG-16": vgg(16), "ResNet-18": resnet18(), "ResNet-50": resnet50()}
published, last = {"AlexNet": 195, "VGG-16": 212, "ResNet-18": 435}, {"AlexNet": "features", "VGG-16": "features"}
fields = {name: receptive_fields(net, (3, 224, 224))[last.get(name, "layer4")].rows for name, net in famous.items()}
table(
    ("last maps of", "field", "jump", "published"),
    [(name, span.size, span.jump, published.get(name, "")) for name, span in fields.items()],
)

# %% [markdown]
# ## Checked by gradients · 用梯度核对
#
# With weights that are all positive nothing cancels, and the gradient of one unit is not zero just where it sees
# something (behind max pooling, in one image or another: that passes on one pixel at a time). The calculator gives an
# interval; dilated convolutions can leave holes in it: 2, 2, 2 never looks at every other pixel, 1, 2, 5 leaves out
# none (Wang et al. 2018, https://arxiv.org/abs/1702.08502).
#
# 权重全为正时梯度不会相互抵消：梯度非零处就是看得见的像素。空洞卷积若一律取 2，会在感受野里留下空洞。


# %%
def stack(dilations, width=1, channels=1):
    """3×3 convolutions, one for each dilation, with ReLUs; the size stays."""
    layers = []
    for number, dilation in enumerate(dilations):
        inputs = width if number else channels
        layers += [nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation, bias=False), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, nonlinearity="relu")
    return nn.Sequential(*layers)


torch.manual_seed(0)
small = ResNet(BasicBlock, (1, 1, 1, 1), 10, small_images=True, widths=(4, 4, 4, 4))
tried = {
    "dilations 2, 2, 2": (stack((2, 2, 2), channels=3), 21, 10, 10),
    "dilations 1, 2, 5": (stack((1, 2, 5), channels=3), 21, 10, 10),
    "VGG, three stages": (VGG((1, 1, 2), 10, widths=(4, 4, 4)).features, 48, 3, 4),
    "ResNet, two stages": (nn.Sequential(small.conv1, small.bn1, small.layer1, small.layer2), 48, 9, 6),
}
rows, agree, share, maps = [], [], {}, {}
for name, (network, side, row, column) in tried.items():
    network.eval().load_state_dict({key: value.abs() + 0.01 for key, value in network.state_dict().items()})
    field = receptive_fields(network, (3, side, side))[""]
    computed = [*field.rows.pixels(row, side), *field.columns.pixels(column, side)]
    maps[name] = gradient_map(network, torch.rand(64, 3, side, side), row, column)
    seen = [maps[name].amax(dim=axis).nonzero().flatten() for axis in (1, 0)]
    top, bottom, left, right = reached = [int(lines[end]) for lines in seen for end in (0, -1)]
    share[name] = (maps[name] > 0).sum().item() / ((bottom - top + 1) * (right - left + 1))
    agree.append(reached == computed)
    rows.append((name, f"rows {top}–{bottom}, columns {left}–{right}", agree[-1], f"{share[name]:.0%}"))
table(("network", "sees, by gradients", "as computed", "of the pixels in between"), rows)

# %% [markdown]
# ## The effective field is a Gaussian · 有效感受野是高斯形的
#
# A pixel in the middle reaches the output on many paths through the layers, one at the edge on a single one. Summing
# over paths is convolving n boxes: by the central limit theorem the influence is a Gaussian of standard deviation
# √(2n/3) pixels for n layers of 3×3. With random weights it is the squares that add up, so that |gradient| is √2 times
# as wide. The field grows with n, the Gaussian with √n. Its effective side: the root of the number of pixels that
# have at least 4.55 % of the strongest influence, the paper's threshold. A Gaussian of standard deviation σ falls to
# that height at √(2 ln(1 / 0.0455)) = 2.49 σ, so that the effective side is √π · 2.49 σ = 4.41 σ. (4.55 % is the mass
# that a Gaussian has beyond 2 σ; its height there is 13.5 % of the peak.)
#
# 中间的像素有许多条路径通向输出，边缘的只有一条。方框反复卷积趋于高斯分布，宽度只随 √n 增长，理论感受野却随 n 增长。
# 有效边长取影响不低于峰值 4.55% 的像素数的平方根（论文的阈值）：
# 高斯曲线在 2.49 σ 处降到这个高度，因此有效边长约为 4.41 σ。
# （4.55% 是 2 σ 以外的概率质量；曲线在 2 σ 处的高度是峰值的 13.5%。）


# %%
def effective_side(strength):
    return (strength > 0.0455 * strength.max()).sum().sqrt().item()


def profile(strength):
    """Influence of each column, and its standard deviation in pixels."""
    line = strength.sum(dim=0) / strength.sum()
    offsets = torch.arange(len(line)) - len(line) // 2
    return line, (line * offsets**2).sum().sqrt().item()


rows, profiles, spreads, ratios = [], {}, {}, {}
for depth in (5, 10, 20, 40):
    side = 2 * depth + 1
    uniform, drawn = stack([1] * depth), stack([1] * depth, 16, 16)
    uniform.load_state_dict({name: torch.full_like(weight, 1 / 9) for name, weight in uniform.state_dict().items()})
    even = gradient_map(uniform, torch.ones(1, 1, side, side), depth, depth)
    uneven = gradient_map(drawn, torch.randn(4, 16, side, side), depth, depth)
    profiles[depth], spread = profile(even)
    spreads[depth] = spread, profile(uneven)[1]
    ratios[depth] = effective_side(even) / side, effective_side(uneven) / side
    rows.append((depth, side, (2 * depth / 3) ** 0.5, *spreads[depth], *ratios[depth]))
ratio = "effective / field"
table(("layers", "field", "√(2n/3)", "equal: deviation", "random", f"equal: {ratio}", "random"), rows)

# %% [markdown]
# ## VGG, ResNet, dilated · 三种结构的比较
#
# With random weights, on noise; narrow versions, since the field does not depend on the width. Strides reach far, and
# so do dilations that double, which fill their field almost evenly. Shortcuts pull the effective field inwards: among a
# residual network's paths are short ones. If each block starts as the identity (lesson 08), there are no others yet.
#
# 捷径使有效感受野向中心收拢；若每个残差块初始为恒等映射，一开始就只有这些短路径。


# %%
def residual_trunk(identity):
    network = ResNet(BasicBlock, (2, 2, 2, 2), 10, widths=(8, 16, 32, 64))
    for block in network.modules():
        if isinstance(block, BasicBlock) and not identity:
            nn.init.ones_(block.bn2.weight)
    return nn.Sequential(*list(network.children())[:2], nn.ReLU(), *list(network.children())[2:-1])


torch.manual_seed(0)
compared = {
    "plain, 7 layers": (stack([1] * 7, 16, 3), 95),
    "dilated 1 1 2 4 8 16 1": (stack((1, 1, 2, 4, 8, 16, 1), 16, 3), 95),
    "VGG-16": (VGG(DEPTHS[16], 10, widths=(8, 16, 32, 64, 64)).features, 448),
    "ResNet-18": (residual_trunk(identity=False), 448),
    "ResNet-18, identity blocks": (residual_trunk(identity=True), 448),
}
rows, effective, theory = [], {}, {}
for name, (network, side) in compared.items():
    span = receptive_fields(network.eval(), (3, side, side))[""].rows
    middle = side // 2 // span.jump
    maps[name] = gradient_map(network, torch.randn(2, 3, side, side), middle, middle)
    effective[name], theory[name] = effective_side(maps[name]), span
    rows.append((name, span.jump, span.size, effective[name], effective[name] / span.size))
table(("network", "jump", "field", "effective side", ratio), rows)

# %% [markdown]
# ## Trained, on real images · 在真实图像上训练
#
# Seven convolutions whose units see 27 of 32 pixels, plain and residual. The paper found that long training of deep
# networks widens the effective field; this short one, of a small network, narrows it. The test of what it means: put
# another image everywhere but in a square around the middle. How far does the middle unit's output change, if 1 is how
# far it changes with the image? At the theoretical field's edge it is nothing at all; long before, it is little.
#
# 只保留中央的方块，其余换成另一幅图像：输出改变多少？超出理论感受野则丝毫不变；而远在此之前，影响就已经很小了。

# %%
pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 1000, size=32)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 300, size=32)


class PlainBlock(BasicBlock):
    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


rows, trained, changes, halves = [], {}, {}, range(15)
for name, block in (("plain", PlainBlock), ("residual", BasicBlock)):
    torch.manual_seed(0)
    body = nn.Sequential(convolution(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), *(block(16, 16) for _ in range(3)))
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    seen = receptive_fields(body, (3, 32, 32))[""].rows
    update_bn_stats(network, images)
    before = effective_side(gradient_map(body, tests, 8, 8))
    fit(network, images, labels, epochs=3, batch_size=100, lr=0.01)
    trained[name] = before, effective_side(gradient_map(body, tests, 8, 8))
    rows.append((name, seen.size, *trained[name], accuracy(network, tests, test_labels)))
    with torch.no_grad():
        output, changes[name] = body(tests)[:, :, 8, 8], []
        for half in halves:
            kept = slice(16 - half, 17 + half)  # unit 8 lies at pixel 16
            mixed = tests.roll(1, dims=0)
            mixed[:, :, kept, kept] = tests[:, :, kept, kept]
            change = (body(mixed)[:, :, 8, 8] - output).norm() / (output.roll(1, dims=0) - output).norm()
            changes[name].append(change.item())
table(("network", "field", "effective side at the start", "trained", "test accuracy"), rows)

# %%
fig = plt.figure(figsize=(15, 7.2), layout="constrained")
above, below = fig.subfigures(2, 1, height_ratios=(1, 1.15))
axes = above.subplots(1, 6)
for axis, name in zip(axes, ("dilations 2, 2, 2", *compared), strict=True):
    strength = maps[name]
    axis.imshow((strength / strength.max()).sqrt().numpy(), cmap="magma")
    label = f"sees {share[name]:.0%} of its field" if name in share else ""
    if span := theory.get(name):
        start = len(strength) // 2 // span.jump * span.jump + span.first - 0.5
        axis.add_patch(Rectangle((start, start), span.size, span.size, fill=False, color="white", linestyle="--"))
        label = f"field {span.size:g}, effective {effective[name]:.0f}"
    axis.set_title(f"{name}\n{label}", fontsize=9)
    axis.set(xticks=[], yticks=[])
above.suptitle("Influence of each pixel on one unit (root of the gradient's size); dashed: the theoretical field")
left, middle, right = below.subplots(1, 3)
for depth, line in profiles.items():
    offsets = torch.arange(len(line)) - depth
    left.plot(offsets.numpy(), line.numpy(), label=f"{depth} layers")
    variance = 2 * depth / 3
    gaussian = (-(offsets**2) / (2 * variance)).exp() / (2 * torch.pi * variance) ** 0.5
    left.plot(offsets.numpy(), gaussian.numpy(), color="black", linestyle=":", linewidth=1)
left.set(title="Equal weights: a Gaussian (dotted)", xlabel="pixels off the middle", ylabel="influence", xlim=(-25, 25))
for number, name in enumerate(("equal weights", "random weights, ReLU")):
    middle.plot(list(ratios), [ratio[number] for ratio in ratios.values()], marker="o", label=name)
middle.plot(list(ratios), [ratios[40][0] * (40 / depth) ** 0.5 for depth in ratios], "k:", label="as 1 / √n")
middle.set(title="Deeper: a smaller part of the field counts", xlabel="layers, n", ylabel="effective / field")
for name, change in changes.items():
    right.plot([2 * half + 1 for half in halves], change, marker=".", label=name)
right.axvline(27, color="gray", linestyle="--", label="theoretical field")
right.set(title="Another image outside a square", xlabel="side of the square", ylabel="change of the middle unit")
for axis in (left, middle, right):
    axis.legend(fontsize=8)
show(fig, "fields")

# %% [markdown]
# ## What holds · 结论

# %%
check("VGG-16's field is as worked out by hand", (fields["VGG-16"].size, fields["VGG-16"].jump) == (size, jump))
check("fields are the published ones", all(fields[name].size == pixels for name, pixels in published.items()))
check("gradients reach exactly as far as was computed", all(agree))
check("dilations 2, 2, 2 leave most of their field unseen", share["dilations 2, 2, 2"] < 0.3)
check("dilations 1, 2, 5 see all of theirs", share["dilations 1, 2, 5"] == 1)
even, uneven = torch.tensor(list(spreads.values())).T
check_close("n layers of equal weights spread by √(2n/3)", even, (torch.tensor(list(spreads)) * 2 / 3).sqrt(), 1e-4)
edge = (2 * torch.tensor(1 / 0.0455).log()).sqrt()  # in standard deviations
promised = (torch.pi**0.5 * edge * even[-1]).item()
check("40 layers have the effective side of that Gaussian, to 3 %", abs(ratios[40][0] * 81 / promised - 1) < 0.03)
check("random ones by about √2 times that", ((uneven / even / 2**0.5 - 1).abs() < 0.2).all())
shrunk = [deep / shallow for shallow, deep in zip(ratios[10], ratios[40], strict=True)]
check("with depth a smaller part of the field counts: half, when it is four times as deep", max(shrunk) < 0.65)
plain, dilated, _, residual, identity = effective.values()
check("with as many layers doubling dilations reach much further", dilated > 2.5 * plain)
check("blocks that start as the identity see next to nothing of what they could", identity < 0.2 * residual)
check("this training narrows the effective field", all(after < before for before, after in trained.values()))
check("shortcuts make it narrower than the plain network's", trained["residual"][1] < trained["plain"][1])
check("beyond the theoretical field nothing counts", max(change[13] for change in changes.values()) < 1e-5)
check("in it, replacing the outer three quarters of the area changes little", changes["residual"][6] < 0.4)
