# %% [markdown]
# # Pooling · 池化层
#
# Pooling sums up each window of a map by one number: the largest (was the feature anywhere here?) or the mean (how much
# of it was there?). It has no weights. It makes maps smaller, so that later layers cost less and see further, and lets
# a feature move a little without changing the answer.
#
# The lesson holds values and gradients to torch's and looks at where the gradients go. Then it measures what pooling is
# praised for, tolerance to small shifts, and what is wrong with it: whatever keeps every second place folds fine
# patterns into coarse ones that were never there, so that a shift by one pixel can change the answer. The remedy is
# older than neural networks: blur first (Zhang 2019, https://arxiv.org/abs/1904.11486).
#
# 池化把特征图的每个窗口概括成一个数：最大值（这里有没有这个特征？）或平均值（这里有多少？）。它没有权重，
# 却能缩小特征图，让后面的层算得更省、看得更远，还允许特征稍微挪动而不影响结论。
# 本课先与 torch 核对数值和梯度，看看梯度流向何处；再测量池化最受称道的优点，即对小位移的容忍，
# 以及它的毛病：只要隔一个取一个，细密的花纹就会“混叠”成原本不存在的粗花纹，于是平移一个像素就可能改变结论。
# 解决办法比神经网络还要古老：先模糊，再采样。

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from dlcommon.cnn.comparison import accuracy, fit, sample
from dlcommon.cnn.pooling import adaptive_avg_pool2d, avg_pool2d, blur_pool2d, max_pool2d, max_unpool2d
from dlcommon.cnn.residual import convolution
from dlcommon.course.lesson import check, check_close, data, show, table
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The same as torch's, and where the gradient goes · 与 torch 一致；梯度流向何处
#
# The maximum hands its gradient to one pixel of the window, the mean divides it among all. Adaptive pooling is asked
# for the size of the result instead of the windows'; to 1×1 it is global average pooling, which lets a network take
# images of any size. 最大池化只把梯度交给窗口中的一个像素，平均池化则平分给所有像素。

# %%
pairs = {
    "max 2×2": (lambda x: max_pool2d(x, 2)[0], lambda x: F.max_pool2d(x, 2)),
    "max 3×3, stride 2, padding 1": (lambda x: max_pool2d(x, 3, 2, 1)[0], lambda x: F.max_pool2d(x, 3, 2, 1)),
    "average 2×2": (lambda x: avg_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2)),
    "average 3×3, padding not counted": (
        lambda x: avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    "adaptive average, to 5×5": (lambda x: adaptive_avg_pool2d(x, (5, 5)), lambda x: F.adaptive_avg_pool2d(x, 5)),
    "global average": (lambda x: adaptive_avg_pool2d(x, (1, 1)), lambda x: x.mean(dim=(2, 3), keepdim=True)),
    "global max": (lambda x: max_pool2d(x, 12)[0], lambda x: x.amax(dim=(2, 3), keepdim=True)),
}
given = torch.randn(8, 4, 12, 12, generator=random, dtype=torch.float64).requires_grad_()
rows, errors, reached = [], {}, {}
for name, pair in pairs.items():
    ours, theirs = (pool(given) for pool in pair)
    ours_back, theirs_back = (torch.autograd.grad(y.square().sum(), given)[0] for y in (ours, theirs))
    errors[name] = max((ours - theirs).abs().max().item(), (ours_back - theirs_back).abs().max().item())
    reached[name] = (ours_back != 0).double().mean().item()
    rows.append((name, tuple(ours.shape[2:]), f"{errors[name]:.0e}", f"{reached[name]:.1%}"))
table(("pooling of 12×12", "output", "difference to torch", "pixels that get a gradient"), rows)
values, places = max_pool2d(given, 2)
restored = max_unpool2d(values, places, (12, 12))

# %% [markdown]
# ## Tolerance to shifts · 对平移的容忍
#
# Maps as a first layer makes them: edges of four directions in real images. A window of 24×24 moves to the right over
# the image of 32×32, and real pixels come in at its edge. How far do the pooled maps change? The unit is how far apart
# two different images are. 以“两幅不同图像之间的距离”为 1：池化窗口越大，平移造成的变化越小。

# %%
pictures = data("cifar10", "colour-scenes")
images, _ = sample(pictures.test_images, pictures.test_labels, 400, size=32)
edge = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])) / 8
edges = torch.stack([edge, edge.T, -edge, -edge.T]).unsqueeze(1)
maps = F.conv2d(images.mean(dim=1, keepdim=True), edges, padding=1).relu()  # [400, 4, 32, 32]

summaries = {
    "none": lambda x: x,
    "max 2×2": lambda x: max_pool2d(x, 2)[0],
    "max 4×4": lambda x: max_pool2d(x, 4)[0],
    "max 8×8": lambda x: max_pool2d(x, 8)[0],
    "average 8×8": lambda x: avg_pool2d(x, 8),
    "global max": lambda x: max_pool2d(x, 24)[0],
    "global average": lambda x: adaptive_avg_pool2d(x, (1, 1)),
}


def distance(a, b):
    return (a - b).square().sum(dim=(1, 2, 3)).mean().sqrt().item()


changes = {}
for name, summary in summaries.items():
    at_rest = summary(maps[:, :, 4:28, :24])
    moved = [summary(maps[:, :, 4:28, shift : shift + 24]) for shift in range(9)]
    changes[name] = [distance(at_rest, there) / distance(at_rest, at_rest.roll(1, dims=0)) for there in moved]
table(
    ("pooling", *(f"shift {shift}" for shift in (1, 2, 4, 8))),
    [(name, *(change[shift] for shift in (1, 2, 4, 8))) for name, change in changes.items()],
)

# %% [markdown]
# ## Aliasing · 混叠
#
# Ways to halve a map. One pixel is half a place afterwards, so an honest method gives, for the shifted map, what its
# result for the map at rest gives when moved by half a place (which the Fourier transform does exactly). What differs
# tells nothing but where the grid happened to lie. How large is it beside the variance of the result? Measured on the
# edges of real images, mirrored so that they close up without a seam.
#
# 平移一个像素等于结果平移半格。若“先平移再缩小”与“先缩小再平移半格”不同，差别就只取决于采样网格碰巧落在哪里。

# %%
halvings = {
    "stride": lambda x: x[:, :, ::2, ::2],
    "max": lambda x: max_pool2d(x, 2)[0],
    "average": lambda x: avg_pool2d(x, 2),
    "blur": blur_pool2d,
    "max, then blur": lambda x: blur_pool2d(max_pool2d(x, 2, stride=1)[0]),
}


def half_place(y):
    """Moved to the right by half a place, as if it went on periodically."""
    turn = torch.exp(-0.5j * 2 * torch.pi * torch.fft.rfftfreq(y.size(3)))
    return torch.fft.irfft(torch.fft.rfft(y) * turn, n=y.size(3))


seamless = torch.cat([maps[:200], maps[:200].flip(2)], dim=2)
seamless = torch.cat([seamless, seamless.flip(3)], dim=3)  # [200, 4, 64, 64]
aliasing = {}
for name, halve in halvings.items():
    shifted, expected = halve(seamless.roll(1, dims=3)), half_place(halve(seamless))
    inner = slice(2, -2)  # the outermost places look over the edge, and not all in the same way
    wrong = (shifted - expected)[:, :, inner, inner].square().mean()
    aliasing[name] = (wrong / shifted[:, :, inner, inner].var(dim=(2, 3), correction=0).mean()).item()

# %% [markdown]
# ## Does a network change its mind? · 网络会改变主意吗？
#
# One small network with four ways of halving its maps, trained alike. The test images are cut out at four places, at
# most a pixel apart: how often is the answer the same for all four (consistency)?
#
# 同一张测试图在最多相差一个像素的四个位置裁剪，四次的答案是否一致？

# %%
train, labels = sample(pictures.train_images, pictures.train_labels, 1000, size=20)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=20)


class Halve(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return self.how(x)


def network(how):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [convolution(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU(), Halve(how)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


corners = [(row, column) for row in (1, 2) for column in (1, 2)]
consistency, scores, rows = {}, {}, []
for name in ("stride", "max", "average", "max, then blur"):
    trained = network(halvings[name])
    fit(trained, train[:, :, 2:18, 2:18], labels, epochs=4, batch_size=100, lr=0.01)
    with torch.no_grad():
        logits = torch.stack([trained(tests[:, :, row : row + 16, column : column + 16]) for row, column in corners])
    answers = logits.argmax(dim=2)  # [4, tests]
    consistency[name] = (answers == answers[0]).all(dim=0).float().mean().item()
    scores[name] = accuracy(trained, tests[:, :, 2:18, 2:18], test_labels)
for name, share in aliasing.items():
    rows.append((name, share, *(found.get(name, "") for found in (scores, consistency))))
table(("halving", "aliasing in edge maps", "test accuracy", "consistency"), rows)

# %%
y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
zone_plate = torch.cos(torch.pi * (x**2 + y**2) / 192).expand(1, 1, -1, -1)  # up to half a cycle a pixel
fig = plt.figure(figsize=(15, 8.4), layout="constrained")
above, below = fig.subfigures(2, 1, height_ratios=(1.3, 1))
axes = above.subplots(2, 6)
chosen = images.mean(dim=1).flatten(1).std(dim=1).argmax()
grey = images[chosen].mean(dim=0).expand(1, 1, -1, -1)
for row, original in zip(axes, (zone_plate, grey), strict=True):
    panels = {f"{original.size(2)}×{original.size(2)}": original}
    panels |= {f"{name}, to a half": halve(original) for name, halve in halvings.items()}
    for axis, (name, panel) in zip(row, panels.items(), strict=True):
        axis.imshow(panel[0, 0].numpy(), cmap="gray", vmin=original.min().item(), vmax=original.max().item())
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=10)
left, middle, right = below.subplots(1, 3)
for name, change in changes.items():
    left.plot(change, marker=".", label=name)
left.set(title="A larger window tolerates more", xlabel="shift, pixels", ylabel="change (1: another image)")
left.legend(fontsize=8, ncols=2, loc="upper left")
left.set_ylim(0, 1.45)
for axis, found, title in (
    (middle, aliasing, "Aliasing: share of the result"),
    (right, consistency, "The same answer, shifted by up to one pixel"),
):
    bars = axis.barh(list(found), [100 * value for value in found.values()], color="tab:blue")
    axis.bar_label(bars, fmt="%.0f %%", padding=3)
    axis.set(title=title, xlabel="%", xlim=(0, 120 * max(found.values())))
    axis.invert_yaxis()
show(fig, "pooling")

# %% [markdown]
# ## What holds · 结论

# %%
check("values and gradients are torch's", max(errors.values()) < 1e-12)
check("the maximum gives its gradient to one pixel of four", reached["max 2×2"] == 0.25)
check("the mean gives some to every pixel", reached["average 2×2"] == reached["global average"] == 1)
kept = F.interpolate(values, scale_factor=2) == given
check_close("unpooling puts the maxima back where they were", restored, given * kept, 1e-12)
grown = [changes[name] for name in ("none", "max 2×2", "max 4×4", "max 8×8", "global max")]
check(
    "the larger the window, the less a shift changes",
    all(less[shift] < more[shift] for more, less in pairwise(grown) for shift in (1, 2, 4, 8)),
)
check("plain stride suffers most", aliasing["stride"] > 1.5 * max(aliasing["max"], aliasing["average"]))
check("a blur before it takes most of the aliasing away", aliasing["blur"] < aliasing["stride"] / 3)
check("and does the same for max pooling", aliasing["max, then blur"] < aliasing["max"] / 4)
others = min(share for name, share in consistency.items() if name != "stride")
check("a network with plain strides changes its mind most often", consistency["stride"] < others - 0.04)
