# %% [markdown]
# # The multilayer perceptron · 多层感知机
#
# A hidden layer computes new features, and the last layer separates these instead of the inputs. That is all that XOR
# needs, and with units enough it is all that any continuous function needs (Cybenko 1989, Hornik 1991).
#
# This lesson builds XOR and a sine wave from weights set by hand, shows that layers without a nonlinearity are one
# layer, and measures three things: how often gradient descent finds XOR for a given width, how fast the error of an
# approximation falls with the number of units, and what a hidden layer is worth on real digits.
#
# 隐藏层先算出新的特征，最后一层再对这些特征（而不是原始输入）做线性划分。解决异或只需要这一点；
# 只要单元足够多，任何连续函数也只需要这一点（万能逼近定理）。本课先手工设定权重，搭出异或和正弦波，
# 说明没有非线性的多层网络等于一层，然后实测三件事：不同宽度下梯度下降多大概率能学会异或，
# 逼近误差随单元数下降得多快，以及一个隐藏层在真实手写数字上值多少准确率。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.mathematics.intervals import wilson_interval
from dlcommon.neural_networks.mlp import MLP
from dlcommon.pytorch_core.optimizers import AdamW
from torch.nn import functional as F

generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## XOR from two units · 用两个隐藏单元算异或
#
# "At least one" and "both" are separable, and XOR is the first without the second. With ReLU: h₁ = relu(x₁ + x₂),
# h₂ = relu(x₁ + x₂ − 1), XOR = h₁ − 2 h₂. The hidden layer lays (0, 1) and (1, 0) onto the same point.
# 隐藏层把 (0, 1) 与 (1, 0) 折叠到同一点，于是一条直线就够了。

# %%
corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float64)
xor = np.array([0, 1, 1, 0])
hidden = np.maximum(corners @ np.ones((2, 2)) + [0, -1], 0)  # [4, hidden 2]
output = hidden @ [1, -2]
table(["x", "hidden", "output"], zip(corners.tolist(), hidden.tolist(), output, strict=True))

# %% [markdown]
# ## Without a nonlinearity, no second layer · 没有非线性，就没有第二层
#
# (x A + a) B + b = x (A B) + (a B + b): ten linear layers are one, with more parameters. 十个线性层仍是一个线性层。

# %%
layers = [(torch.randn(8, 8, generator=generator).double() / 3, torch.randn(8, generator=generator)) for _ in range(10)]
x = torch.randn(5, 8, generator=generator).double()
deep, matrix, offset = x, torch.eye(8).double(), torch.zeros(8).double()
for weight, bias in layers:
    deep = deep @ weight + bias
    matrix, offset = matrix @ weight, offset @ weight + bias
shallow = x @ matrix + offset
print(f"  ten layers of {10 * 72} parameters equal one of 72, up to {(deep - shallow).abs().max():.1e}")

# %% [markdown]
# ## Any curve from hinges · 用折线拼出任意曲线
#
# relu(x − k) is a hinge: it bends the line at k. The sum of n of them, each weighted with the change of slope that is
# wanted there, passes through n + 1 points of a curve; no training is needed. For a smooth curve the error between the
# points falls as 1/n² (at most h²/8 · max |f″| for a spacing h). 每个 ReLU 单元就是一个折点，误差按 1/n² 下降。

# %%
grid = np.linspace(0, 2 * np.pi, 5001)
built, errors, limits = {}, [], []
units_tried = [4, 8, 16, 32, 64, 128]
for units in units_tried:
    knots = np.linspace(0, 2 * np.pi, units + 1)
    slopes = np.diff(np.sin(knots)) / np.diff(knots)
    output_weights = np.diff(slopes, prepend=0.0)  # [units]: the change of slope at each knot
    built[units] = np.maximum(grid[:, None] - knots[:-1], 0) @ output_weights
    errors.append(np.abs(built[units] - np.sin(grid)).max())
    limits.append((2 * np.pi / units) ** 2 / 8)
table(["hidden units", "largest error on a sine", "bound h²/8"], zip(units_tried, errors, limits, strict=True))

# %% [markdown]
# ## Does gradient descent find it? · 梯度下降找得到吗？
#
# That weights exist does not mean that training finds them. 200 networks at once for every width, each from its own
# random start (He), all trained on XOR by full-batch Adam. With two units, just enough, most are stuck for good: in
# most failures there is a dead unit, 0 on all four corners, which hears no gradient any more. The function does not
# need spare units; the search for it does. 权重存在，不等于训练能找到；多余的单元是为搜索准备的。

# %%
widths, networks = [2, 3, 4, 8, 16], 200
inputs, goals = torch.tensor(corners).float(), torch.tensor(xor).float()
solved, dead = [], []
for width in widths:
    first = torch.randn(networks, 2, width, generator=generator).requires_grad_()  # He: √(2 / 2 inputs) = 1
    last = (torch.randn(networks, width, 1, generator=generator) * (2 / width) ** 0.5).requires_grad_()
    biases = [torch.zeros(networks, 1, n, requires_grad=True) for n in (width, 1)]
    optimizer = AdamW([first, last, *biases], lr=0.05, weight_decay=0.0)
    for _ in range(200):
        units = torch.relu(inputs @ first + biases[0])  # [networks, 4, width]
        logits = (units @ last + biases[1]).squeeze(2)  # [networks, 4]
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(logits, goals.expand(networks, 4), reduction="sum").backward()
        optimizer.step()
    learned = ((logits > 0) == (goals > 0)).all(1)
    solved.append(int(learned.sum()))
    dead.append(int((units == 0).all(1).any(1)[~learned].sum()))
low, high = wilson_interval(np.array(solved), networks)
table(
    ["hidden units", "of 200 learned XOR", "95% interval", "failures", "of these with a dead unit"],
    [
        (width, n, f"{100 * a:.0f}% … {100 * b:.0f}%", networks - n, d)
        for width, n, a, b, d in zip(widths, solved, low, high, dead, strict=True)
    ],
)

# %% [markdown]
# ## What it is worth on digits · 在手写数字上值多少
#
# `dlcommon.neural_networks.mlp.MLP` puts batch normalization (lesson 07) and ReLU between its layers. The same few
# epochs for every width; width 0 is a linear classifier.

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:3000]).float() / 255
labels = torch.from_numpy(digits.train_labels[:3000]).long()
test_images = torch.from_numpy(digits.test_images[:1000]).float() / 255
test_labels = torch.from_numpy(digits.test_labels[:1000]).long()
digit_widths, fitted, accuracies = [0, 4, 16, 64, 256], [], []
for width in digit_widths:
    model = MLP(784, [width] if width else [], 10)
    optimizer = AdamW(model.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(images), generator=generator).split(100):
            optimizer.zero_grad()
            F.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        fitted.append((model(images).argmax(1) == labels).float().mean().item())
        accuracies.append((model(test_images).argmax(1) == test_labels).float().mean().item())
sizes = [sum(p.numel() for p in MLP(784, [width] if width else [], 10).parameters()) for width in digit_widths]
table(
    ["hidden units", "parameters", "accuracy on training digits", "on test digits"],
    zip(digit_widths, sizes, fitted, accuracies, strict=True),
)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
for axis, points in zip(axes, (corners, hidden), strict=False):
    for value, marker in ((0, "o"), (1, "s")):
        axis.plot(*points[xor == value].T, marker, markersize=12, alpha=0.7, label=f"XOR is {value}")
    axis.legend(loc="center left")
for x1, x2 in corners:
    axes[0].annotate(f"{x1:.0f}, {x2:.0f}", (x1, x2 + 0.14), ha="center")
for place, label in (((0, -0.22), "0, 0"), ((1, -0.22), "0, 1 and 1, 0"), ((2, 1.14), "1, 1")):
    axes[1].annotate(label, place, ha="center")
axes[0].set(title="Inputs: no line will do", xlabel="$x_1$", ylabel="$x_2$", xlim=(-0.4, 1.5), ylim=(-0.4, 1.5))
axes[1].plot([0.4, 2.6], [-0.05, 1.05], "k--")  # h1 − 2 h2 = 1/2
axes[1].set(title="Hidden units: one line will", xlabel="$h_1$", ylabel="$h_2$", xlim=(-0.4, 2.6), ylim=(-0.4, 1.5))
shares = np.array(solved) / networks
axes[2].errorbar(range(len(widths)), shares, [shares - low, high - shares], fmt="o-", capsize=3)
axes[2].set_xticks(range(len(widths)), [str(width) for width in widths])
axes[2].set(
    title="Spare units make training easy", xlabel="hidden units", ylabel="share that learned XOR (95%)", ylim=(0, 1.05)
)
show(figure, "xor")

figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
axes[0].plot(grid, np.sin(grid), "k", lw=3, alpha=0.3, label="sine")
for units in (4, 8):
    axes[0].plot(grid, built[units], label=f"{units} hidden units")
axes[0].set(title="A curve from hinges, weights set by hand", xlabel="x", ylabel="output")
axes[0].legend()
axes[1].loglog(units_tried, limits, "k--", label="bound $h^2/8$")
axes[1].loglog(units_tried, errors, "o-", label="measured")
axes[1].set(title="Twice the units, a quarter of the error", xlabel="hidden units", ylabel="largest error")
axes[1].legend()
axes[2].plot(range(len(digit_widths)), fitted, "o--", label="training digits")
axes[2].plot(range(len(digit_widths)), accuracies, "o-", label="test digits")
axes[2].set_xticks(range(len(digit_widths)), ["none", *map(str, digit_widths[1:])])
axes[2].set(title="What a hidden layer is worth", xlabel="hidden units", ylabel="accuracy")
axes[2].legend()
show(figure, "width")

# %% [markdown]
# ## What holds · 结论

# %%
check("two hidden units by hand compute XOR", np.array_equal(output, xor))
check_close("ten linear layers are one", deep, shallow, 1e-10)
check("the sine's error stays under its bound", all(e <= b * 1.0001 for e, b in zip(errors, limits, strict=True)))
order = float(np.polyfit(np.log(units_tried[1:]), np.log(errors[1:]), 1)[0])
check(f"it falls with the square of the number of units (measured exponent {order:.2f})", abs(order + 2) < 0.1)
check("with two units most networks are stuck on XOR, with sixteen few", high[0] < 0.5 and low[-1] > 0.9)
check("in most failures a unit is dead", sum(dead) > 0.6 * (networks * len(widths) - sum(solved)))
check("a hidden layer of 256 beats the linear classifier on test digits", accuracies[-1] > accuracies[0] + 0.02)
check("a hidden layer of 4 is a bottleneck that costs more than it brings", accuracies[1] < accuracies[0])
