# %% [markdown]
# # Looking inside a network · 特征可视化
#
# What has a trained network learned to look for? Three ways to ask. Record what its layers answer to an image. Find the
# patches of real images that a unit answers to most strongly. Or let the unit draw: ascend the gradient from noise to
# the image that it would like best. Who debugs a vision model starts here: dead units, units that all do the same, and
# a class that is recognised by its background show up in minutes.
#
# The third way has a trap, which this lesson measures. Plain ascent finds noise: much of what excites this one network
# leaves another cold. With a prior on what images look like, far more of the excitement carries over to a second
# network that was trained apart from the first, so that what is drawn tells of the data and not of one set of weights.
#
# 训练好的网络到底学会了看什么？有三种问法：记录各层对一张图的响应；在真实图像中找出让某个单元响应最强的小块；
# 或者让单元自己“画”：从噪声出发做梯度上升，得到它最喜欢的图像。调试视觉模型往往从这里开始：
# 死掉的单元、彼此重复的单元、靠背景认类别的问题，几分钟内就能看出来。
# 第三种问法有一个陷阱，本课用实验衡量：不加约束的上升得到的是噪声，它对这个网络的刺激只有一部分能传给别的网络；
# 加入自然图像的先验之后，传给另一个独立训练网络的比例高得多，画出来的才是数据中的规律，而不是某一组权重的偶然。

# %%
from collections import OrderedDict

import matplotlib.pyplot as plt
import torch
from dlcommon.cnn.comparison import accuracy, fit, sample
from dlcommon.cnn.feature_visualization import (
    activation_maximization,
    color_correlation_sqrt,
    record_outputs,
    top_activations,
)
from dlcommon.cnn.receptive_field import receptive_fields
from dlcommon.course.lesson import check, check_close, data, show, table
from torch import nn

pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 10000, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)


# %% [markdown]
# ## Two networks, trained apart · 两个独立训练的网络
#
# Three convolutions each, different first weights, different halves of the images. The second is only the judge.


# %%
def network(seed):
    torch.manual_seed(seed)
    layers = OrderedDict()
    for number, (inputs, outputs, kernel, stride) in enumerate(((3, 24, 5, 2), (24, 32, 3, 1), (32, 64, 3, 2)), 1):
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        if number == 1:
            nn.init.normal_(convolution.weight, std=0.01)  # so small that what is learned soon outweighs the noise
        layers[f"layer{number}"] = nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
    return nn.Sequential(layers | {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(64, 10)})


ours, judge = network(0), network(1)
untrained = ours.layer1[0].weight.detach().clone()
fit(ours, images[:5000], labels[:5000], epochs=3, lr=0.01, batch_size=100)
fit(judge, images[5000:], labels[5000:], epochs=3, lr=0.01, batch_size=100, seed=1)
scores = {"ours": accuracy(ours, tests, test_labels), "judge": accuracy(judge, tests, test_labels)}
table(("network", "test accuracy"), scores.items())

# %% [markdown]
# ## What the layers answer · 各层的响应
#
# `recorded` keeps what the named layers put out while an image runs through. How much a channel cares for classes is
# told by its selectivity: over the classes' mean responses, (largest − mean of the others) / (largest + mean of the
# others), which is 0 for a channel that answers all classes alike and 1 for one that answers one class only
# (Morcos et al. 2018, https://arxiv.org/abs/1803.06959).
#
# 用前向钩子记录各层输出；再算每个通道对类别的“选择性”：0 表示一视同仁，1 表示只对一个类别有响应。

# %%
layers = ("layer1", "layer2", "layer3")
with torch.no_grad(), record_outputs(ours, *layers) as maps:
    ours(tests)
of_class, selectivity = {}, {}
for name in layers:
    answer = maps[name].mean(dim=(2, 3))
    of_class[name] = torch.stack([answer[test_labels == label].mean(dim=0) for label in range(10)])  # [10, channels]
    best = of_class[name].amax(dim=0)
    others = (of_class[name].sum(dim=0) - best) / 9
    selectivity[name] = (best - others) / (best + others).clamp(min=1e-9)
table(
    ("layer", "channels", "places", "zeros", "mean selectivity"),
    [
        (n, m.size(1), f"{m.size(2)}×{m.size(3)}", f"{(m == 0).float().mean():.0%}", selectivity[n].mean().item())
        for n, m in maps.items()
    ],
)

# %% [markdown]
# ## Filters of the first layer · 第一层的滤波器
#
# They multiply colours, so they can be looked at as small images. Training has moved them from noise towards edges and
# blobs of colour: neighbouring weights have become more alike. 训练使相邻权重趋于相似，噪声逐渐变成边缘与色块。

# %%
filters = ours.layer1[0].weight.detach()  # [24, 3, 5, 5]


def roughness(x):
    """Mean squared step from pixel to pixel over the variance; 2 for white noise."""
    steps = x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()
    return (steps / (2 * (x - x.mean(dim=(-2, -1), keepdim=True)).square().mean())).item()


print(f"  roughness of the filters: {roughness(untrained):.2f} before training, {roughness(filters):.2f} after")

# %% [markdown]
# ## Where units answer most strongly · 响应最强的地方
#
# A unit of layer 3 sees a patch of the image, whose place and size the receptive field tells (lesson 03). Here are the
# strongest patches, one an image, of the three most selective channels. What lies outside the patch does not matter
# at all, which we test by blackening it. 感受野以外的像素对该单元毫无影响。

# %%
field = receptive_fields(ours, (3, 16, 16))["layer3"]
favourites = of_class["layer3"].argmax(dim=0)  # each channel's class
keen = (selectivity["layer3"] * of_class["layer3"].amax(dim=0)).argsort(descending=True)  # selective and awake
channels = []
for channel in keen.tolist():
    if len(channels) < 3 and favourites[channel] not in favourites[channels]:
        channels.append(channel)
patches, answers, alone = [], [], []
for channel in channels:
    for image, row, column in top_activations(maps["layer3"], channel, k=8):
        (top, bottom), (left, right) = field.rows.pixels(row, 16), field.columns.pixels(column, 16)
        covered = torch.zeros(1, 3, 16, 16)
        patches.append(tests[image, :, top : bottom + 1, left : right + 1])
        covered[0, :, top : bottom + 1, left : right + 1] = patches[-1]
        with torch.no_grad(), record_outputs(ours, "layer3") as output:
            ours(covered)
        answers.append(maps["layer3"][image, channel, row, column])
        alone.append(output["layer3"][0, channel, row, column])
print(f"  a unit of layer 3 sees {field.rows.size:.0f}×{field.columns.size:.0f} of the 16×16 pixels")

# %%
brightness = (tests * 64 + 127.5).clamp(0, 255) / 255  # back to 0 to 1, [1000, 3, 16, 16]
fig = plt.figure(figsize=(14, 4.2), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=(1, 1.4))
left.suptitle("The filters of layer 1 after training")
for axis, kernel in zip(left.subplots(4, 6).flat, filters, strict=True):
    axis.imshow((0.5 + 0.5 * kernel / kernel.abs().max()).permute(1, 2, 0).numpy())
    axis.axis("off")
right.suptitle("What excites three channels of layer 3 most: a patch from each of eight test images")
for number, axis in enumerate(right.subplots(3, 8).flat):
    axis.imshow((patches[number] * 64 + 127.5).clamp(0, 255).permute(1, 2, 0).numpy() / 255)
    axis.set(xticks=[], yticks=[])
    if number % 8 == 0:
        channel = channels[number // 8]
        axis.set_ylabel(f"channel {channel}\n({pictures.classes[favourites[channel]]})")
show(fig, "filters-and-patches")

# %% [markdown]
# ## What a class would look like · 网络心中的类别
#
# Activation maximization: ten images, each ascending the gradient of its own class's logit. Once on plain pixels from
# noise, once with a prior: Fourier coefficients weighed as in natural images, colours mixed as in the data, and a
# random shift at each step (Olah et al. 2017, https://distill.pub/2017/feature-visualization).
#
# 激活最大化：对每个类别的 logit 做梯度上升。一次直接优化像素，一次加入先验（自然图像的频谱、颜色相关性与随机平移）。


# %%
def seen(network, x):
    """Logits of images from 0 to 1."""
    return network((255 * x - 127.5) / 64)


def own_class(x):
    return seen(ours, x).diagonal()


random = torch.Generator().manual_seed(0)
mixing = color_correlation_sqrt(brightness)
wanted = {
    "plain pixels": activation_maximization(
        own_class, 32, torch.eye(3), num_images=10, steps=60, decay_power=0, generator=random
    ),
    "with a prior": activation_maximization(
        own_class, 32, mixing, num_images=10, steps=120, lr=0.5, jitter=3, generator=random
    ),
}

# %% [markdown]
# How much of the excitement carries over: what the judge's logit of the class gains, over its mean on real images,
# divided by what our own logit gains. 可迁移比例：评判网络的 logit 增量与自身 logit 增量之比。

# %%
with torch.no_grad():
    usual = {name: seen(f, brightness).mean(dim=0) for name, f in (("ours", ours), ("judge", judge))}
    highest = seen(ours, brightness).amax(dim=0)
    own = {name: own_class(x) for name, x in wanted.items()}
    gains = {name: (own[name] - usual["ours"]).mean() for name in wanted}
    carried = {
        name: ((seen(judge, x).diagonal() - usual["judge"]).mean() / gains[name]).item() for name, x in wanted.items()
    }
rough = {name: roughness(x) for name, x in wanted.items()}
above = {name: (logits > highest).sum().item() for name, logits in own.items()}
table(
    ("ascent", "gain of its own logit", "above all real images", "carries over to the judge", "roughness"),
    [(n, gains[n].item(), f"{above[n]} of 10", f"{carried[n]:.0%}", rough[n]) for n in wanted]
    + [("real images", 0.0, "", "", roughness(brightness))],
)

# %%
fig, axes = plt.subplots(2, 10, figsize=(15, 3.7), layout="constrained")
for axis, name in zip(axes[0], pictures.classes, strict=True):
    axis.set_title(name)
for row, (name, x) in zip(axes, wanted.items(), strict=True):
    for label, axis in enumerate(row):
        axis.imshow(x[label].permute(1, 2, 0).numpy())
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(f"{name}\ncarries over: {carried[name]:.0%}")
fig.suptitle("What each class would like to see, and how much of the excitement a second network shares")
show(fig, "activation-maximization")

# %% [markdown]
# ## What holds · 结论

# %%
with torch.no_grad():
    by_hand = torch.relu(ours.layer1[1](ours.layer1[0](tests)))
check_close("what was recorded is what the layer computes", maps["layer1"], by_hand)
check_close("outside its receptive field nothing matters to a unit", torch.stack(alone), torch.stack(answers), 1e-4)
check("deeper layers are more selective", selectivity["layer3"].mean() > 1.2 * selectivity["layer1"].mean())
check("training has made the filters smoother", roughness(filters) < 0.9 * roughness(untrained))
check("plain ascent excites nearly every class more than any real image does", above["plain pixels"] >= 8)
check("plain ascent ends in noise", rough["plain pixels"] > 1.7 * rough["with a prior"])
check("what is found with a prior carries over better", carried["with a prior"] > carried["plain pixels"] + 0.06)
