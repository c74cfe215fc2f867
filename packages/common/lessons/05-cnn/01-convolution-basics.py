# %% [markdown]
# # Convolution · 卷积基础
#
# A dense layer on an image learns anew for every place what an edge looks like. A convolution has one small kernel for
# all places: it looks at a patch, multiplies, adds up, and moves on. So it needs few weights, and what it has learned
# in one corner it knows everywhere: if the image moves, its output moves along. That is all the knowledge about images
# that a convolutional network is born with.
#
# The lesson computes it three ways, by its definition (loops), as one matrix product (im2col) and by the Fourier
# transform, and holds values and gradients to torch's. It shows what stride, padding, dilation and groups change, what
# a few famous kernels see in real images, how well gradient descent finds them again, and when which way is fast.
#
# 全连接层要在图像的每个位置上重新学一遍“边缘长什么样”。卷积则让所有位置共用一个小小的卷积核：
# 盖住一块，对应相乘，求和，再挪到下一块。因此权重很少，而且在一处学会的东西处处可用：图像平移，输出也随之平移。
# 卷积网络对图像的先验知识，全在于此。
# 本课用三种方法计算卷积：按定义循环、化为一次矩阵乘法（im2col）、以及傅里叶变换，并与 torch 核对数值和梯度；
# 再看步幅、填充、空洞与分组各改变了什么，几个著名的卷积核在真实图像里看见了什么，
# 梯度下降能否把它们重新找出来，以及哪种算法在什么时候更快。

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.cnn.comparison import sample
from dlcommon.cnn.convolution import conv2d_fft, conv2d_im2col, conv2d_loops, conv2d_loops_backward, im2col
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Ways to move a kernel · 移动卷积核的方式
#
# The stride leaves out places, padding adds a border of zeros, dilation pulls the kernel's weights apart, and groups
# let each output see only some of the channels. The three ways beside torch's, in float64: output and gradients. The
# backward pass also counts how often a pixel is heard, that is, in how many outputs it takes part: the gradient of the
# outputs' sum, with a kernel of ones. Without padding a corner is heard once and the middle nine times; with a stride
# larger than the kernel some pixels are never heard at all.
#
# 步幅跳过位置，填充补一圈零，空洞把权重拉开，分组让每个输出只看一部分通道。
# 反向传播还能数出每个像素参与了多少个输出：不填充时角落只有一次、中间九次；步幅大于核时，有些像素从未被看见。


# %%
def differences(x, weight, geometry):
    """Largest difference to torch's output and gradients, for each of the three ways."""
    given = [torch.randn(shape, generator=random).double() for shape in (x.shape, weight.shape, (len(weight),))]
    given = [tensor.requires_grad_() for tensor in given]
    y = F.conv2d(*given, **geometry)
    gradient = torch.randn(y.shape, generator=random).double()
    expected = [y, *torch.autograd.grad(y, given, gradient)]
    with torch.no_grad():
        results = [[conv2d_loops(*given, **geometry), *conv2d_loops_backward(gradient, *given[:2], **geometry)]]
    for convolve in (conv2d_im2col, conv2d_fft):
        y = convolve(*given, **geometry)
        results.append([y, *torch.autograd.grad(y, given, gradient)])
    return [max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True)) for found in results]


def multiply_adds(y, weight):
    """One for each weight of the kernel at each output."""
    return y.numel() * weight[0].numel()


def multiply_adds_counted(x, weight, geometry):
    """Those of im2col's matrix product, counted by torch as it runs (two operations each)."""
    with FlopCounterMode(display=False) as counter:
        conv2d_im2col(x, weight, **geometry)
    return counter.get_total_flops() // 2


geometries = {
    "plain": {},
    "padding 1": {"padding": 1},
    "padding 1, stride 2": {"padding": 1, "stride": 2},
    "padding 2, dilation 2": {"padding": 2, "dilation": 2},
    "stride 4": {"stride": 4},
    "padding 1, 4 groups": {"padding": 1, "groups": 4},
}
rows, work, promised, errors, heard = [], {}, {}, {}, {}
for name, geometry in geometries.items():
    x, weight = torch.zeros(1, 4, 9, 9), torch.ones(4, 4 // geometry.get("groups", 1), 3, 3)
    y = F.conv2d(x, weight, **geometry)
    work[name], promised[name] = multiply_adds_counted(x, weight, geometry), multiply_adds(y, weight)
    errors[name] = differences(x, weight, geometry)
    alone = geometry | {"groups": 1}
    heard[name] = conv2d_loops_backward(torch.ones_like(y[:, :1]), x[:, :1], weight[:1, :1], **alone)[0][0, 0]
    counted = (weight.numel(), x.numel() * y.numel(), work[name])
    rows.append((name, tuple(y.shape[1:]), *counted, *(f"{error:.0e}" for error in errors[name])))
table(("3×3, (4, 9, 9) to", "output", "weights", "if dense", "multiply-adds", "loops", "im2col", "FFT"), rows)

# %% [markdown]
# ## What a kernel sees · 卷积核看见什么
#
# Kernels that people wrote by hand, on grey images: an average that blurs, differences that find edges (Sobel), and
# the difference between a pixel and its neighbours (Laplace). How much of the images' variance comes through, and how
# much of white noise's? The blur keeps most of an image and little of the noise: neighbouring pixels of an image are
# alike. 模糊保留了图像的大部分方差，却几乎抹掉了白噪声：图像里相邻的像素彼此相似。

# %%
pictures = data("cifar10", "colour-scenes")
images = sample(pictures.test_images, pictures.test_labels, 500, size=32)[0].mean(dim=1, keepdim=True)
noise = torch.randn(images.shape, generator=random)
line, slope = torch.tensor([1.0, 2.0, 1.0]) / 4, torch.tensor([-1.0, 0.0, 1.0]) / 2
kernels = {
    "blur": torch.outer(line, line),
    "Sobel, vertical edges": torch.outer(line, slope),
    "Sobel, horizontal edges": torch.outer(slope, line),
    "Laplace": torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]) / 4,
}
bank = torch.stack(list(kernels.values())).unsqueeze(1)  # [4, 1, 3, 3]
seen, seen_moved = conv2d_im2col(images, bank), conv2d_im2col(images.roll((3, 2), dims=(2, 3)), bank)
brighter, turned = conv2d_im2col(images + 1, bank), conv2d_im2col(images.mT, bank)
kept, kept_of_noise = (
    conv2d_im2col(batch, bank).var(dim=(2, 3)).mean(dim=0) / batch.var(dim=(2, 3)).mean() for batch in (images, noise)
)
table(
    ("kernel", "sum", "images' variance kept", "noise's"),
    zip(kernels, bank.sum(dim=(1, 2, 3)).tolist(), kept.tolist(), kept_of_noise.tolist(), strict=True),
)

# %% [markdown]
# ## Finding the kernels again · 把卷积核学回来
#
# A network learns its kernels. Given images and what the four kernels made of them, gradient descent through im2col's
# backward pass starts from random ones. On images it soon makes nearly the right outputs, with the wrong kernels:
# smooth images hardly tell kernels apart that differ in fine detail, so the gradient there is tiny. On white noise it
# finds them at once. This is why some networks that must learn fast whiten their input.
#
# 在真实图像上，输出很快就几乎正确，卷积核却仍然不对：图像太平滑，细节方向上的梯度极小；换成白噪声则马上找到。


# %%
def search(batch, steps=80):
    """Squared errors of outputs and kernels at every step, relative to the outputs and kernels themselves."""
    target, history = conv2d_im2col(batch, bank), []
    patches = im2col(batch, (3, 3), 1, 0, 1).transpose(0, 1).flatten(1)  # [9, images · places]
    rate = 0.5 / torch.linalg.eigvalsh(patches @ patches.T / patches.size(1)).max()  # a larger one could overshoot
    learned = (0.3 * torch.randn(bank.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    for _ in range(steps):
        loss = (conv2d_im2col(batch, learned) - target).square().mean(dim=(0, 2, 3)).sum()
        (gradient,) = torch.autograd.grad(loss, learned)
        output_error = loss.item() / target.square().mean(dim=(0, 2, 3)).sum().item()
        history.append((output_error, ((learned.detach() - bank).square().sum() / bank.square().sum()).item()))
        learned = (learned.detach() - rate * gradient).requires_grad_()
    return np.array(history)


found = {"images": search(images[:64]), "white noise": search(noise[:64])}
table(
    ("learned from", "step", "outputs' error", "kernels' error"),
    [(name, step, *history[step].tolist()) for name, history in found.items() for step in (2, 20, 79)],
)

# %% [markdown]
# ## What it costs · 代价
#
# 8 to 8 channels on maps of 64×64. The work of the direct ways grows with the kernel's area. The FFT's grows only with
# the padding, because a product of spectra does not know how large the kernel was: it wins with large kernels, and
# loses with the 3×3 of nearly every network. im2col does the same multiply-adds as the loops, but as one matrix
# product; it pays with memory, a copy of the maps for each weight of the kernel.
#
# 直接计算的工作量与核面积成正比，FFT 则几乎与核大小无关：大核时占优，小核时吃亏。im2col 用内存换速度。

# %%
channels, side, sizes = 8, 64, (1, 3, 5, 7, 9, 13, 17, 21)
maps = torch.randn(1, channels, side, side, generator=random)


def fft_multiply_adds(kernel):
    """N real numbers take about 2.5 N log₂ N operations, half of them multiplications; one transform for each map in,
    each kernel and each map out. The products are complex, four real ones each, on half of the spectrum."""
    points, transforms = (side + kernel - 1) ** 2, channels + channels**2 + channels
    return transforms * 1.25 * points * math.log2(points) + 2 * channels**2 * points


ways = {"im2col": conv2d_im2col, "FFT": conv2d_fft, "torch": F.conv2d}
times, costs = {way: [] for way in ways}, {"direct": [], "FFT": []}
threads = torch.get_num_threads()
torch.set_num_threads(1)
with torch.no_grad():
    for size in sizes:
        given = maps, torch.randn(channels, channels, size, size, generator=random), None, 1, size // 2
        for way, convolve in ways.items():
            times[way].append(1000 * seconds(lambda f=convolve, g=given: f(*g), repeats=3))
        costs["direct"].append(multiply_adds(F.conv2d(*given), given[1]) / 1e6)
        costs["FFT"].append(fft_multiply_adds(size) / 1e6)
    few = maps[:, :, :8, :8], torch.randn(channels, channels, 3, 3, generator=random)
    slow, quick = (1000 * seconds(lambda f=f: f(*few), repeats=2) for f in (conv2d_loops, conv2d_im2col))
torch.set_num_threads(threads)
table(
    ("kernel", "million multiply-adds", "by FFT, estimated", *(f"{way}, ms" for way in ways)),
    zip(sizes, *costs.values(), *times.values(), strict=True),
)
print(f"  3×3 on maps of 8×8: loops {slow:.0f} ms, im2col {quick:.2f} ms")

# %%
fig = plt.figure(figsize=(14, 8), layout="constrained")
above, below = fig.subfigures(2, 1, height_ratios=(1.4, 1))
axes = above.subplots(2, 5)
for axis, (name, outputs) in zip(axes[0], heard.items(), strict=False):
    axis.imshow(outputs.numpy(), cmap="viridis", vmin=0, vmax=9)
    for (row, column), number in np.ndenumerate(outputs.int().numpy()):
        shade = "black" if number > 5 else "white"
        axis.text(column, row, number, ha="center", va="center", fontsize=7, color=shade)
    axis.set_title(f"3×3, {name}", fontsize=10)
axes[0, 0].set_ylabel("outputs that hear a pixel")
shown = images.flatten(1).std(dim=1).argmax()
panels = {"image": images[shown, 0], **dict(zip(kernels, seen[shown], strict=True))}
for axis, (name, panel) in zip(axes[1], panels.items(), strict=True):
    limit = panel.abs().max().item()
    signed = name not in ("image", "blur")
    axis.imshow(panel.numpy(), **({"cmap": "RdBu", "vmin": -limit, "vmax": limit} if signed else {"cmap": "gray"}))
    axis.set_title(name, fontsize=10)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
left, middle, right = below.subplots(1, 3)
for (name, history), colour in zip(found.items(), ("tab:blue", "tab:gray"), strict=True):
    for what, style, values in zip(("outputs", "kernels"), ("-", ":"), history.T, strict=True):
        left.plot(values, style, color=colour, label=f"{what}, from {name}")
colours = {"direct": "black", "im2col": "tab:blue", "FFT": "tab:red", "torch": "tab:gray"}
for axis, lines in ((middle, costs), (right, times)):
    for name, values in lines.items():
        axis.plot(sizes, values, marker=".", color=colours[name], label=name)
    axis.set(yscale="log", xlabel="side of the kernel", xticks=sizes)
left.set(
    yscale="log", ylim=(1e-4, 30), xlabel="step", ylabel="squared error, relative", title="Good outputs, wrong kernels"
)
middle.set(ylabel="million multiply-adds", title="Work (FFT: estimated)")
right.set(ylabel="ms, one core", title="Time")
for axis in (left, middle, right):
    axis.legend(fontsize=8)
show(fig, "kernels")

# %% [markdown]
# ## What holds · 结论

# %%
check("all three ways are torch's, output and gradients, in every geometry", max(map(max, errors.values())) < 1e-11)
check("im2col multiplies once for each weight of the kernel at each output, in every geometry", work == promised)
check("so that four groups do a quarter of the work", 4 * work["padding 1, 4 groups"] == work["padding 1"])
heard_least = heard["plain"][0, 0], heard["padding 1"][0, 0], heard["stride 4"].min()
check("a corner is heard once, with padding four times; a large stride leaves gaps", heard_least == (1, 4, 0))
check_close("if an image moves, so does the output", seen_moved[:, :, 3:, 2:], seen[:, :, :-3, :-2], 1e-6)
check_close("kernels that sum to zero do not see brightness", brighter[:, 1:], seen[:, 1:], 1e-5)
check_close("Sobel's two kernels change places on the transposed image", turned[:, 1], seen[:, 2].mT, 1e-5)
check("a blur keeps most of an image's variance, little of white noise's", kept[0] > 0.6 and kept_of_noise[0] < 0.2)
check("from white noise the kernels are found in two steps", found["white noise"][2, 1] < 1e-4)
outputs_off, kernels_off = found["images"][-1]
check("from images the outputs come right long before the kernels do", outputs_off < 0.1 and kernels_off > 0.2)
