# %% [markdown]
# # AlexNet · AlexNet（2012）
#
# In 2012 a network with five convolutions won ImageNet with 15 % of errors among its first five guesses; the next best,
# without a network, had 26 %, and computer vision changed over within two years. The plan was LeNet's. New were its
# size, two GPUs to train it, and five ingredients (Krizhevsky et al. 2012): ReLU in place of tanh, dropout, images
# cropped and mirrored at random, pooling windows that overlap, and local response normalization. All but the last are
# in use today.
#
# The lesson counts where AlexNet's parameters and its work are, then takes the five ingredients one at a time: what
# each does by itself, and what it does to a small version that is trained on few real images.
#
# 2012 年，一个只有五层卷积的网络以 15% 的前五错误率赢得 ImageNet，第二名（不用神经网络）是 26%，
# 计算机视觉在两年之内改换了方向。它的整体设计仍是 LeNet 的，新的是规模、用两块 GPU 训练，以及五种“配料”：
# 用 ReLU 取代 tanh、随机失活、随机裁剪与镜像、相互重叠的池化窗口，还有局部响应归一化。除最后一种外，都沿用至今。
# 本课先统计 AlexNet 的参数和计算量分布在哪里，再逐一考察五种配料：它本身做了什么，
# 以及在少量真实图像上训练缩小版时有多大作用。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torchvision
from dlcommon.cnn.alexnet import AlexNet
from dlcommon.cnn.comparison import accuracy, count_params_and_macs, fit, sample
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.neural_networks.initialization import init_weights, kaiming_normal_
from dlcommon.pytorch_core.augmentation import pad_reflect, random_crop, random_horizontal_flip
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

pictures = data("cifar10", "colour-scenes")
images, labels = sample(pictures.train_images, pictures.train_labels, 400, size=16)
tests, test_labels = sample(pictures.test_images, pictures.test_labels, 1000, size=16)

# %% [markdown]
# ## Parameters and multiply-adds · 参数量与计算量
#
# Counted on torch's meta device (shapes without contents). The libraries' AlexNet is the one-column form of 2014. The
# original was split over two GPUs, and its second, fourth and fifth convolution saw only the maps of their own half: a
# convolution in two groups. 原版分在两块 GPU 上，部分卷积只看自己那一半通道，即分组卷积。


# %%
def costs_by_layer(network, image):
    """Parameters and multiply-adds of each layer that has any, for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(image)
    flops = counter.get_flop_counts()
    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {
        name: (sum(p.numel() for p in m.parameters()), sum(flops[f"AlexNet.{name}"].values()) // 2)
        for name, m in layers
    }


with torch.device("meta"):
    column, reference, image = AlexNet(), torchvision.models.alexnet(), torch.empty(1, 3, 224, 224)
    original = AlexNet(widths=(96, 256, 384, 384, 256))
    for number in (3, 8, 10):
        whole = original.features[number]
        sizes = whole.in_channels, whole.out_channels, whole.kernel_size
        original.features[number] = nn.Conv2d(*sizes, padding=whole.padding, groups=2)
    layers, original_layers = costs_by_layer(column, image), costs_by_layer(original, image)
documented = torchvision.models.AlexNet_Weights.DEFAULT.meta
parameters, operations = (sum(cost[k] for cost in layers.values()) for k in (0, 1))
original_parameters, original_operations = (sum(cost[k] for cost in original_layers.values()) for k in (0, 1))
dense_share = sum(p for name, (p, _) in layers.items() if name.startswith("classifier")) / parameters
convolution_share = sum(m for name, (_, m) in layers.items() if name.startswith("features")) / operations
table(
    ("network", "parameters", "million multiply-adds"),
    [
        ("one column", f"{parameters:,}", operations / 1e6),
        ("torchvision documents", f"{documented['num_params']:,}", 1e3 * documented["_ops"]),
        ("two GPUs (2012)", f"{original_parameters:,}", original_operations / 1e6),
    ],
)
print(f"  linear layers: {dense_share:.0%} of the parameters; convolutions: {convolution_share:.0%} of the work")

same_shapes = [p.shape for p in column.parameters()] == [p.shape for p in reference.parameters()]
narrow_head = AlexNet(1, hidden_features=1).double()  # the linear layers would take half a gigabyte
theirs = reference.features.to_empty(device="cpu").double()
theirs.load_state_dict(narrow_head.features.state_dict())
maps, gradients = [], []
for features in (narrow_head.features, theirs):
    x = F.interpolate(tests[:2], 96).double().requires_grad_()
    maps.append(features(x))
    gradients.append(torch.autograd.grad(maps[-1].square().sum(), x)[0])

# %% [markdown]
# ## ReLU does not saturate · ReLU 不会饱和
#
# A unit hands back the gradient times its activation's slope. ReLU's is 0 or 1, whatever the size of the signal. That
# of tanh falls to nothing where the signal is large: here the mean slope, with weights that are too large by a factor
# in each layer. Initialization was guessed in 2012 (He's rule is of 2015), so this mattered. 饱和的 tanh 不传梯度。


# %%
def small(activation=nn.ReLU, dropout=0.0, overlapping=True, factor=1.0):
    """From weights that keep the signal's size: He's for ReLU, half their variance for tanh."""
    torch.manual_seed(0)
    network = AlexNet(10, (12, 24, 32, 32, 24), 256, dropout, activation, small_images=True)
    init_weights(network, kaiming_normal_)
    if activation is nn.Tanh:
        factor = factor / 2**0.5
    for number, module in enumerate(network.features):
        if isinstance(module, nn.MaxPool2d) and not overlapping:
            network.features[number] = nn.MaxPool2d(2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data *= factor
    return network


factors = (0.5, 1, 2, 4, 8)
slopes = {}
for activation in (nn.ReLU, nn.Tanh):
    for factor in factors:
        found = []
        network = small(activation, factor=factor)
        x = images[:50]
        for layer in network.features:
            if isinstance(layer, activation):
                before = x.detach().requires_grad_()
                found.append(torch.autograd.grad(layer(before).sum(), before)[0].mean().item())
            x = layer(x)
        slopes[activation.__name__, factor] = float(np.mean(found))
table(
    ("weights times", "mean slope of ReLU", "of tanh"),
    [(factor, slopes["ReLU", factor], slopes["Tanh", factor]) for factor in factors],
)

# %% [markdown]
# ## Local response normalization · 局部响应归一化
#
# Each unit is divided by (2 + α Σ a²)^0.75, the sum over five neighbouring maps at its place, with α = 10⁻⁴ (section
# 3.3). torch divides α by the number of maps, so the paper's α is 5·10⁻⁴ there. What does it do? Where the factor is
# the same everywhere, nothing. That depends on how large activations are: the original was fed pixels from 0 to 255
# less their mean, today's inputs have variance one. 输入已归一化时，这个因子处处几乎相同，等于什么都没做。

# %%
with torch.no_grad():
    responses = small().features[:2](images[:100])
    squares = F.pad(responses.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
    written_out = responses / (2 + 1e-4 * squares) ** 0.75
    torchs = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2)(responses)
    spreads = {}
    for kind, scale in (("variance about 1", 1), ("0 to 255", 64)):
        factor = (2 + 1e-4 * scale**2 * squares) ** -0.75
        spreads[kind] = (factor.quantile(0.05) / factor.quantile(0.95)).item()
table(("pixels", "factor, 5 % quantile over 95 %"), spreads.items())

# %% [markdown]
# ## Windows that overlap · 重叠的窗口
#
# Windows of 3×3 every two pixels share a row with their neighbours. Moved by one pixel, a window keeps two thirds of
# what it saw in place of half, so the pooled map changes less. Measured on real images. 平移一个像素时变化更小。

# %%
changes = {}
for name, kernel in (("2×2", 2), ("3×3, overlapping", 3)):
    still, moved = (F.max_pool2d(responses.roll(pixels, 3)[..., 2:-1], kernel, 2) for pixels in (0, 1))
    changes[name] = ((still - moved).norm() / still.norm()).item()
table(("pooling, stride 2", "change of the pooled maps"), changes.items())

# %% [markdown]
# ## Trained on 400 images · 用 400 张图像训练
#
# 30 epochs each. Without regularization the network learns its 400 images by heart. Augmentation shows every image 30
# times differently: cropped from a margin of two pixels, and mirrored. 没有正则化时，网络把 400 张图背了下来。

# %%
epochs = 30
random = torch.Generator().manual_seed(0)
shown = torch.cat(
    [random_crop(pad_reflect(random_horizontal_flip(images, random), 2), 16, random) for _ in range(epochs)]
)
runs = {
    "none": (small(), False),
    "tanh": (small(nn.Tanh), False),
    "2×2 pooling": (small(overlapping=False), False),
    "dropout": (small(dropout=0.5), False),
    "augmentation": (small(), True),
}
rows, losses, gap = [], {}, {}
for name, (network, augmented) in runs.items():
    given = (shown, labels.repeat(epochs), 1) if augmented else (images, labels, epochs)
    losses[name] = fit(network, *given, batch_size=50, lr=1e-3)
    with torch.no_grad():
        gap[name] = [F.cross_entropy(network(x), y).item() for x, y in ((images, labels), (tests, test_labels))]
    size, work = count_params_and_macs(network, tests[:1])
    rows.append((name, size, work / 1e6, *gap[name], accuracy(network, tests, test_labels)))
table(("change", "parameters", "million multiply-adds", "training loss", "test loss", "test accuracy"), rows)

# %% [markdown]
# From weights of the right size and with Adam, tanh learns no slower here: the paper's sixfold gain (figure 1) was
# measured with plain gradient descent, before either was known. Dropout narrows the gap but learns slowly (the paper
# reports twice the number of steps), and 240 are too few; augmentation does more in so short a time.
#
# 如今有了合适的初始化和 Adam，tanh 在这里并不慢；论文中的六倍差距是在普通梯度下降下测得的。
# 随机失活缩小了差距，但学得慢（论文说步数大约要翻倍）；训练这么短时，数据增强更划算。

# %%
fig, axes = plt.subplots(1, 4, figsize=(18, 4.2), layout="constrained")
short = [*(f"convolution {n}" for n in range(1, 6)), *(f"linear {n}" for n in range(1, 4))]
amounts = np.array(list(layers.values()), dtype=float)  # [layers, (parameters, multiply-adds)]
places = np.arange(len(short))
for shift, kind, values in zip((-0.2, 0.2), ("parameters", "multiply-adds"), amounts.T, strict=True):
    axes[0].barh(places + shift, 100 * values / values.sum(), 0.4, label=kind)
axes[0].set(title="Weights in one half, work in the other", yticks=places, yticklabels=short, xlabel="%")
axes[0].invert_yaxis()
axes[0].legend()
for name in ("ReLU", "Tanh"):
    axes[1].plot(factors, [slopes[name, factor] for factor in factors], "o-", label=name)
axes[1].set(title="Slope of the activation", xlabel="weights of every layer, times", ylabel="mean slope", ylim=(0, 1))
axes[1].set_xscale("log", base=2)
axes[1].set_xticks(factors, [f"{factor:g}" for factor in factors])
axes[1].legend()
for name in ("none", "tanh", "dropout", "augmentation"):
    axes[2].plot(*moving_average(losses[name], 10), label=name)
axes[2].set(title="Training", xlabel="step", ylabel="training loss, mean of 10 steps")
axes[2].legend()
for shift, which in ((-0.2, 0), (0.2, 1)):
    heights = [values[which] for values in gap.values()]
    axes[3].bar(np.arange(len(gap)) + shift, heights, 0.4, label=("400 training images", "test images")[which])
axes[3].axhline(np.log(10), color="grey", linestyle=":", label="a guess, log 10")
axes[3].set(title="Regularization narrows the gap", ylabel="loss", ylim=(0, 1.4 * max(map(max, gap.values()))))
axes[3].set_xticks(range(len(gap)), list(gap), rotation=20)
axes[3].legend()
show(fig, "ingredients")

# %% [markdown]
# ## What holds · 结论

# %%
check("the parameters are those that torchvision documents", parameters == documented["num_params"] and same_shapes)
check("and the multiply-adds, in the digits given", abs(operations / 1e9 - documented["_ops"]) < 0.001)
check_close("the convolutions give torchvision's maps", *maps, 1e-9)
check_close("and gradient", *gradients, 1e-9)
check("the original has 60 million parameters, as the paper says", original_parameters // 10**6 == 60)
check(
    "linear layers hold nine tenths of them, convolutions do nine tenths of the work",
    min(dense_share, convolution_share) > 0.9,
)
check(
    "tanh's slope vanishes with large weights, ReLU's stays",
    slopes["Tanh", 8] < slopes["Tanh", 1] / 2 and slopes["ReLU", 8] > 0.7 * slopes["ReLU", 1],
)
check_close("local response normalization is torch's with five times the paper's α", written_out, torchs, 1e-5)
check("with today's inputs it hardly depends on the image", spreads["variance about 1"] > 0.95)
check("with the original's it does", spreads["0 to 255"] < 0.7)
check("where windows overlap, a shift by a pixel changes less", changes["3×3, overlapping"] < changes["2×2"])
check("unregularized, the network learns its images by heart", gap["none"][0] < 0.3 and gap["none"][1] > 2)
gaps = {name: test - training for name, (training, test) in gap.items()}
for name in ("dropout", "augmentation"):
    check(f"{name} narrows the gap between training and test", gaps[name] < 0.6 * gaps["none"])
