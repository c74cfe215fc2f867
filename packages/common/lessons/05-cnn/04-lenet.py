# %% [markdown]
# # LeNet-5 · LeNet-5（1998）
#
# A fully connected network does not know that neighbouring pixels belong together, nor that a stroke is the same
# stroke two pixels further on. LeNet-5 (LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf) builds
# both in: local receptive fields, one kernel for all places, then coarser maps, three times over. It read millions of
# cheques a day, and its plan is still that of a convolutional network. Its parts are not: pooling had weights, a table
# said which maps see which, and the outputs were distances to pictures of the characters.
#
# The lesson rebuilds the published network, parameter by parameter and connection by connection, takes its four
# forgotten parts one at a time, and trains it on real digits beside its present form and a network without
# convolutions.
#
# 全连接网络不知道相邻的像素彼此相关，也不知道一笔画移动两个像素之后仍是同一笔。LeNet-5（LeCun 等，1998）
# 把这两点直接写进结构：局部感受野、处处共享的卷积核，再降低分辨率，如此重复三遍。它当年每天读取数百万张支票，
# 整体设计沿用至今；但零件已经换了：当时的池化带有可训练的权重，第三层按一张表决定谁看谁，
# 输出则是到各个字符“标准图样”的距离。
# 本课按论文逐个参数、逐条连接地重建这个网络，逐一考察四个已被遗忘的零件，
# 再用真实数字训练，与今天的写法以及没有卷积的网络对照。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit
from dlcommon.cnn.lenet import CONNECTIONS, LeNet5, PartialConvolution, Subsampling, modern_lenet, scaled_tanh
from dlcommon.course.lesson import check, check_close, data, show, table
from torch import nn
from torch.nn import functional as F

digits = data("mnist", "mnist-sample")


def as_in_the_paper(images):
    """32×32, so that a stroke's end can lie in the middle of a field; ink 1.175 and paper -0.1, so that the mean is
    about 0."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return F.pad(x * 1.275 - 0.1, (2, 2, 2, 2), value=-0.1)


images, labels = as_in_the_paper(digits.train_images[:2000]), torch.from_numpy(digits.train_labels[:2000])
tests, test_labels = as_in_the_paper(digits.test_images[:1000]), torch.from_numpy(digits.test_labels[:1000])
print(f"  {len(images):,} digits to train on, mean of their pixels {images.mean():.3f}")

# %% [markdown]
# ## 60,000 parameters, 340,908 connections · 六万个参数，三十四万条连接
#
# Both numbers are the paper's (section II.B). A connection is one use of a weight or a bias; weights are shared by all
# places of a map, so there are many more connections than parameters. Outputs have connections but nothing to train.
# 权值共享，所以连接远多于参数；输出层有连接，却没有可训练的参数。

# %%
torch.manual_seed(0)
original = LeNet5()
shapes = {}
hooks = [
    layer.register_forward_hook(lambda layer, _, output, name=name: shapes.update({name: output.shape[1:]}))
    for name, layer in original.named_children()
]
with torch.no_grad():
    original(images[:1])
for hook in hooks:
    hook.remove()
rows = []
for name, layer in original.named_children():
    size, places = sum(p.numel() for p in layer.parameters()), shapes[name][1:].numel()
    per_place = 5 * shapes[name][0] if isinstance(layer, Subsampling) else size  # four pixels and a bias
    rows.append((name.upper(), "×".join(map(str, shapes[name])), size, per_place * places))
rows.append(("output", "10", 0, original.codes.numel()))
parameters, connections = (sum(row[column] for row in rows) for column in (2, 3))
table(("layer", "outputs", "parameters", "connections"), [*rows, ("all", "", parameters, connections)])

# %% [markdown]
# ## Who sees whom · 谁看谁
#
# Each of C3's sixteen maps takes three, four or all six of S2's (table I): fewer connections, and maps that cannot come
# to the same thing since they are given different inputs. It is a dense convolution with zeros that stay zeros.

# %%
partial = original.c3
seen = torch.zeros(16, 6)
for output, maps in enumerate(CONNECTIONS):
    seen[output, list(maps)] = 1
dense_weight = torch.randn(16, 6, 5, 5, generator=torch.Generator().manual_seed(0))
alike = PartialConvolution(CONNECTIONS)
for kernel, weight, maps in zip(alike.kernels, dense_weight, CONNECTIONS, strict=True):
    kernel.data = weight[None, list(maps)]
s2 = torch.randn(2, 6, 14, 14, generator=torch.Generator().manual_seed(1))
by_table, by_zeros = alike(s2), F.conv2d(s2, dense_weight * seen[:, :, None, None])
dense_size = nn.Conv2d(6, 16, 5).weight.numel() + 16
partial_size = sum(p.numel() for p in partial.parameters())
print(f"  C3 has {partial_size:,} parameters; with full connections {dense_size:,}")

# %% [markdown]
# ## Tanh, scaled · 缩放的 tanh
#
# 1.7159 tanh(2x/3) takes ±1 to ±1, and is most curved there, in both directions halfway to saturation; so targets of ±1
# never push a unit to where its gradient vanishes. 目标取 ±1 时，单元不会被推进饱和区。

# %%
x = torch.linspace(-3, 3, 6001, dtype=torch.float64).requires_grad_()
(slope,) = torch.autograd.grad(scaled_tanh(x).sum(), x, create_graph=True)
(curvature,) = torch.autograd.grad(slope.sum(), x)
most_curved = abs(x[curvature.abs().argmax()].item())
print(f"  f(1) = {scaled_tanh(torch.tensor(1.0)).item():.4f}; most curved at ±{most_curved:.3f}")

# %% [markdown]
# ## Distances to codes · 到码字的距离
#
# A class is a fixed code of 84 signs, and the logit is minus the squared distance from F6 to it (radial basis
# functions). Written out, −|f − c|² = 2 f·c − |f|² − 84: the softmax leaves 2 f·c, today's linear layer with weights
# that are not learned. What made it more is a constant in the criterion (equation 9), which is like one more class, of
# rubbish, at the distance j: to beat it, F6 must come near the code, not just nearer than to the others.
#
# 归一化之后，它就是权重固定的线性层。真正的区别在于式 9 中的常数 j，相当于多了一个“垃圾”类：
# 只比别的类近还不够，必须真正靠近自己的码字。


# %%
class WithRubbish(nn.Module):
    """Logits [batch, classes + 1] whose cross-entropy is the paper's equation 9."""

    def __init__(self, network, j=20.0):
        super().__init__()
        self.network, self.j = network, j

    def forward(self, x):
        logits = self.network(x)
        return torch.cat([logits, torch.full_like(logits[:, :1], -self.j)], dim=1)


# %% [markdown]
# ## Training, then and now · 过去与现在
#
# All for 160 steps with Adam. (In 1998: 20 epochs of all 60,000 digits, step sizes from second derivatives.) "Today"
# has ReLU, max pooling, full connections and a linear layer with softmax; in two networks one of the old parts is put
# back. The last one has as many parameters and no convolution. It is tested on the digits as they are and moved to the
# right. 最后一个网络参数同样多，但没有卷积。测试时还把数字向右平移。


# %%
def today(activation=nn.ReLU, pooling=nn.MaxPool2d):
    parts = {nn.ReLU: activation, nn.MaxPool2d: lambda: pooling(2)}
    return nn.Sequential(*(parts[type(layer)]() if type(layer) in parts else layer for layer in modern_lenet()))


torch.manual_seed(0)
networks = {
    "1998": original,
    "1998, without j": LeNet5(),
    "today": today(),
    "today, tanh": today(activation=nn.Tanh),
    "today, mean pooling": today(pooling=nn.AvgPool2d),
    "no convolution": nn.Sequential(nn.Flatten(), nn.Linear(1024, 58), nn.ReLU(), nn.Linear(58, 10)),
}
rows, right, moved = [], {}, {}
for name, network in networks.items():
    size, work = count_params_and_macs(network, tests[:1])
    fit(WithRubbish(network) if name == "1998" else network, images, labels, epochs=4, batch_size=50)
    right[name] = accuracy(network.eval(), tests, test_labels)
    moved[name] = [accuracy(network, tests.roll(pixels, 3), test_labels) for pixels in range(5)]
    rows.append((name, size, work, right[name], moved[name][2], moved[name][4]))
table(("network", "parameters", "multiply-adds", "test accuracy", "moved by 2 pixels", "by 4"), rows)

# %% [markdown]
# ## What is no digit · 不是数字的图像
#
# Digits are cut into sixteen pieces and put together wrongly. Probabilities must sum to one, and are as sure of these;
# the distance to the nearest code tells. 概率之和必须为 1，所以对乱拼的图也很“自信”；到最近码字的距离却能分辨。

# %%
order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
pieces = F.unfold(tests, 8, stride=8).unflatten(1, (1, 64))[:, 0]  # [digits, 64 pixels, 16 pieces]
rubbish = F.fold(pieces[:, :, order], 32, 8, stride=8)
seen_by_f6 = []
hook = original.f6.register_forward_hook(lambda _, __, output: seen_by_f6.append(scaled_tanh(output)))
with torch.no_grad():
    distances, of_rubbish = original.distances(tests), original.distances(rubbish)
hook.remove()
as_distance, as_layer = torch.softmax(-distances, 1), torch.softmax(2 * seen_by_f6[0] @ original.codes.T, 1)
near, far = distances.min(1).values, of_rubbish.min(1).values
sure, falsely_sure = as_distance.max(1).values, torch.softmax(-of_rubbish, 1).max(1).values


def apart(digits, others):
    """Share of all pairs in which the digit has the smaller value."""
    return (digits[:, None] < others).float().mean().item()


by_distance, by_probability = apart(near, far), apart(-sure, -falsely_sure)
table(
    ("told apart by", "share of pairs", "median of digits", "of rubbish"),
    [
        ("distance to the nearest code", by_distance, near.median().item(), far.median().item()),
        ("largest probability", by_probability, sure.median().item(), falsely_sure.median().item()),
    ],
)

# %%
fig = plt.figure(figsize=(15, 7.2), layout="constrained")
above, below = fig.subfigures(2, 1, height_ratios=(1, 1.25))
above.suptitle("The classes' codes of 84 signs as pictures; F6 for the test digit that comes nearest; that digit")
for digit, column in enumerate(above.subplots(3, 10).T):
    one = int(distances[:, digit].argmin())
    pictures = (original.codes[digit].view(12, 7), seen_by_f6[0][one].view(12, 7), 2 * tests[one, 0, 4:28, 4:28] - 1)
    for axis, picture in zip(column, pictures, strict=True):
        axis.imshow(picture.numpy(), cmap="gray_r", vmin=-1.2, vmax=1.2)
        axis.set(xticks=[], yticks=[])
axes = below.subplots(1, 3)
axes[0].imshow(seen.T.numpy(), cmap="Blues", vmax=1.4)
axes[0].set(title="Table I: which maps C3 sees", xlabel="map of C3", ylabel="map of S2", xticks=range(0, 16, 3))
for name, values in moved.items():
    if name != "1998, without j":
        axes[1].plot(range(5), values, "o-", markersize=4, label=name)
axes[1].set(title="Test digits, moved to the right", xlabel="pixels", ylabel="accuracy", xticks=range(5), ylim=(0, 1))
axes[1].legend(loc="lower left")
bins = np.linspace(0, 130, 45)
axes[2].hist(near.numpy(), bins, alpha=0.7, label="digits")
axes[2].hist(far.numpy(), bins, alpha=0.7, label="digits cut up", color="tab:red")
axes[2].set(title="Distance to the nearest code", xlabel="squared distance", ylabel="images")
axes[2].legend()
show(fig, "lenet")

# %% [markdown]
# ## What holds · 结论

# %%
check("the published network has 60,000 parameters", parameters == 60_000)
check("and 340,908 connections", connections == 340_908)
check_close("the table is a dense convolution with zeros", by_table, by_zeros, 1e-5)
check(
    "C3's maps see different inputs, each of S2's maps by ten",
    len(set(CONNECTIONS)) == 16 and (seen.sum(0) == 10).all(),
)
check("the scaled tanh keeps ±1, and is most curved there", abs(most_curved - 1) < 0.02)
check_close("after the softmax distances are a linear layer with fixed weights", as_distance, as_layer, 1e-3)
check("convolution beats full connections with as many parameters", right["today"] > right["no convolution"] + 0.02)
check("and more so where digits are moved", moved["today"][2] > moved["no convolution"][2] + 0.08)
check("max pooling bears moves better than means", moved["today"][2] > moved["today, mean pooling"][2] + 0.01)
check("distance tells rubbish from digits", by_distance > 0.95)
check("better than probabilities", by_distance > by_probability + 0.15)
