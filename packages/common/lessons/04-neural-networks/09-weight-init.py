# %% [markdown]
# # Initial weights · 权重初始化
#
# A deep network multiplies its signal by one weight matrix after another, and its gradient by their transposes on the
# way back. If each multiplication changes the size by a factor c, fifty change it by c⁵⁰: with c = 0.7 nothing is
# left, with c = 1.4 everything overflows. Xavier's and He's rules choose the variance of the first weights so that c
# is 1, for tanh and for ReLU.
#
# This lesson sends real digits through fifty layers and their gradient back, for each rule and each activation, and
# compares with what the theory predicts; looks at what orthogonal matrices do better; and trains a network of thirty
# layers from three starts of which only one works.
#
# 深层网络让信号依次乘以一个个权重矩阵，反向时梯度再乘以它们的转置。每一层若把大小改变 c 倍，五十层就是 c⁵⁰：
# c = 0.7 时什么都不剩，c = 1.4 时全部溢出。Xavier 与 He 规则为 tanh 和 ReLU 选择初始权重的方差，使 c 等于 1。
#
# 本课让真实数字穿过五十层网络、让梯度原路返回，逐一测量各种规则与激活函数，并与理论预测对照；
# 再看正交矩阵好在哪里；最后从三种初始化训练一个三十层的网络，其中只有一种行得通。

# %%
from functools import partial

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.neural_networks.initialization import (
    calculate_gain,
    init_weights,
    kaiming_normal_,
    kaiming_uniform_,
    orthogonal_,
    xavier_normal_,
)
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD
from torch import nn
from torch.nn import functional as F

depth, width = 50, 256
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().flatten(1) / 255
images = (images - images.mean()) / images.std()
labels = torch.from_numpy(digits.train_labels[:4000])

# %% [markdown]
# ## Signal and gradient, layer by layer · 逐层的信号与梯度
#
# The root mean square of every layer's output, and of the gradient that arrives at it when noise of size 1 is sent
# back from the last. 信号与梯度的均方根。


# %%
def signal_and_gradient(rule, activation) -> tuple[torch.Tensor, torch.Tensor]:
    """Of fifty layers, for 64 digits: root mean squares of outputs and gradients, [depth] each."""
    generator = torch.Generator().manual_seed(0)
    # The first layer brings 784 pixels to 256 features of mean square 1 behind the activation, whatever the rule.
    first = kaiming_normal_(torch.empty(width, 784, dtype=torch.float64), gain=1.0, generator=generator)
    h = activation(images[:64].double() @ first.T)  # float64, since float32 ends at 1e-45
    h = (h / h.square().mean().sqrt()).requires_grad_()
    outputs = []
    for _ in range(depth):
        h = activation(h @ rule(torch.empty(width, width, dtype=torch.float64), generator=generator).T)
        outputs.append(h)
    noise = torch.randn(h.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad(h, outputs, noise)
    return tuple(torch.stack([t.square().mean().sqrt() for t in tensors]).detach() for tensors in (outputs, gradients))


default = partial(kaiming_uniform_, gain=3**-0.5)  # what nn.Linear draws: even in ±1/√inputs
small = partial(kaiming_normal_, gain=0.01 * width**0.5)  # a standard deviation of 0.01, once customary
relu_rules = {"std 0.01": small, "torch's default": default, "Xavier": xavier_normal_, "He": kaiming_normal_}
through_relu = {name: signal_and_gradient(rule, torch.relu) for name, rule in relu_rules.items()}
factors = {"std 0.01": 0.01 * (width / 2) ** 0.5, "torch's default": 6**-0.5, "Xavier": 2**-0.5, "He": 1.0}  # c
table(
    ["ReLU, rule", "signal after 50 layers", "theory, c⁵⁰", "gradient after 50 back"],
    [(name, s[-1].item(), factors[name] ** depth, g[0].item()) for name, (s, g) in through_relu.items()],
)
measured_factors = {name: (s[-1] / s[9]).item() ** (1 / (depth - 10)) for name, (s, _) in through_relu.items()}

# %% [markdown]
# ## Other activations: the gain · 其他激活函数与增益
#
# The gain that keeps a signal of size 1 is 1/√E[φ(z)²] for normal z; for ReLU it is √2. Is that size stable? The same
# integral says what one layer makes of a signal half or twice as large. tanh and SELU pull it back to 1, ReLU keeps
# the ratio, GELU and SiLU push it away: over fifty layers their signal drifts. And what keeps the signal need not
# keep the gradient, which sees φ′. 增益让大小 1 成为不动点，但未必稳定；保住信号，也未必保住梯度。

# %%
activations = {"ReLU": torch.relu, "tanh": torch.tanh, "SELU": torch.selu, "GELU": F.gelu, "SiLU": F.silu}
gains = {name: calculate_gain(activation) for name, activation in activations.items()}
through = {
    name: signal_and_gradient(partial(kaiming_normal_, gain=gains[name]), activation)
    for name, activation in activations.items()
}
after_one = {
    (name, size): gains[name] / calculate_gain(lambda z, size=size, activation=activation: activation(size * z))
    for name, activation in activations.items()
    for size in (0.5, 2.0)
}
table(
    ["activation", "gain", "a layer makes of 0.5", "of 2", "signal after 50 layers", "gradient after 50 back"],
    [
        (name, gains[name], after_one[name, 0.5], after_one[name, 2.0], signal[-1].item(), gradient[0].item())
        for name, (signal, gradient) in through.items()
    ],
)
tanh_rules = {"std 0.01": small, "Xavier": xavier_normal_, "gain 1.59": partial(kaiming_normal_, gain=gains["tanh"])}
tanh_rules["gain 3"] = partial(kaiming_normal_, gain=3.0)
# Gain 3 is too much: tanh hides it from the signal, which it cannot let grow, but not from the gradient.
through_tanh = {name: signal_and_gradient(rule, torch.tanh) for name, rule in tanh_rules.items()}

# %% [markdown]
# ## More than the size: directions · 不只是大小：方向
#
# Fifty Gaussian matrices keep the mean square of a signal, but stretch some directions and lose the others. Of a
# product of orthogonal matrices all singular values are 1 (Saxe et al. 2014). 高斯矩阵之积会丢掉大部分方向。

# %%
spectra = {}
for name, rule in {"Gaussian": partial(kaiming_normal_, gain=1.0), "orthogonal": orthogonal_}.items():
    generator, product = torch.Generator().manual_seed(1), torch.eye(128, dtype=torch.float64)
    for _ in range(depth):
        product = rule(torch.empty(128, 128, dtype=torch.float64), generator=generator) @ product
    spectra[name] = torch.linalg.svdvals(product)
kept = {name: int((s > 0.01 * s[0]).sum()) for name, s in spectra.items()}
table(
    ["fifty matrices", "largest singular value", "the 64th", "above 1 % of the largest"],
    [(name, s[0].item(), s[63].item(), f"{kept[name]} of 128") for name, s in spectra.items()],
)

# %% [markdown]
# ## Thirty layers that train, or do not · 三十层，能否训练
#
# The same network and batches from three starts: He, Xavier, and torch's default. 同一网络、同样的批次。


# %%
def losses_from(rule) -> list[float]:
    layers = [layer for inputs in [784, *[64] * 28] for layer in (nn.Linear(inputs, 64), nn.ReLU())]
    network, batches, losses = nn.Sequential(*layers, nn.Linear(64, 10)), torch.Generator().manual_seed(2), []
    init_weights(network, rule, batches)
    optimizer = SGD(network.parameters(), lr=0.01, momentum=0.9)
    for _ in range(160):
        rows = torch.randint(len(images), (64,), generator=batches)
        optimizer.zero_grad()
        loss = cross_entropy(network(images[rows]), labels[rows])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


curves = {name: losses_from(relu_rules[name]) for name in ("He", "Xavier", "torch's default")}
final = {name: sum(curve[-40:]) / 40 for name, curve in curves.items()}
table(["first weights", "mean loss of the last 40 steps"], final.items())

# %%
layer_numbers = range(1, depth + 1)
figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
for name, (signal, gradient) in through_relu.items():
    (line,) = axes[0].semilogy(layer_numbers, signal, label=name)
    axes[0].semilogy(layer_numbers, [factors[name] ** n for n in layer_numbers], ":", color="black", linewidth=0.8)
    axes[1].semilogy(layer_numbers, gradient, color=line.get_color(), label=name)
axes[0].set(title="ReLU: only He keeps the signal (dotted: theory)", xlabel="layer", ylabel="root mean square")
axes[1].set(
    title="and the gradient, which comes from the right", xlabel="layer", ylabel="root mean square of the gradient"
)
for axis in axes[:2]:
    axis.set_ylim(1e-50, 1e5)
axes[0].legend(loc="lower left")
for name, (signal, gradient) in through_tanh.items():
    (line,) = axes[2].semilogy(layer_numbers, signal, label=name)
    axes[2].semilogy(layer_numbers, gradient, "--", color=line.get_color())
axes[2].set(
    title="tanh: signal (solid), gradient (dashed)", xlabel="layer", ylabel="root mean square", ylim=(1e-3, 1e8)
)
axes[2].legend(loc="upper right")
show(figure, "fifty-layers")

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for name, spectrum in spectra.items():
    left.semilogy(range(1, 129), spectrum, label=name)
left.set(title="A product of fifty matrices", xlabel="singular value, by size", ylabel="value", ylim=(1e-14, 1e4))
left.legend()
for (name, curve), style in zip(curves.items(), ("-", "-", "--"), strict=True):
    right.plot(*moving_average(curve, 10), style, label=name)
right.set(title="Thirty ReLU layers on digits", xlabel="step", ylabel="loss (mean of ten steps)")
right.legend()
show(figure, "directions-and-training")

# %%
for name, factor in factors.items():
    check_close(f"{name}: a layer changes the signal by the predicted factor", measured_factors[name], factor, 0.03)
he_signal, he_gradient = through_relu["He"]
check(
    "He keeps signal and gradient within a factor of 5",
    min(he_signal.min(), he_gradient.min()) > 0.2 and max(he_signal.max(), he_gradient.max()) < 5,
)
check("Xavier's signal is lost in ReLU layers", through_relu["Xavier"][0][-1] < 1e-6)
check_close("ReLU's gain is √2", gains["ReLU"], 2**0.5, tolerance=1e-6)
check(
    "tanh and SELU pull a signal back to 1",
    all(
        after_one[name, 0.5] > 0.5 and after_one[name, 2.0] < 2 and 0.3 < through[name][0][-1] < 3
        for name in ("tanh", "SELU")
    ),
)
check(
    "GELU and SiLU push it away", all(after_one[name, 2.0] > 2 > 4 * after_one[name, 0.5] for name in ("GELU", "SiLU"))
)
squashed, blown_up = through_tanh["gain 3"]
check("too large weights do not show in tanh's signal, but in its gradient", squashed[-1] < 1 and blown_up[0] > 1e3)
check("tanh's signal fades slowly with Xavier's weights", 0.01 < through_tanh["Xavier"][0][-1] < 0.5)
check_close("orthogonal matrices keep every direction", spectra["orthogonal"], torch.ones(128), tolerance=1e-10)
check("Gaussian ones lose most", kept["Gaussian"] < 32)
check(
    "thirty layers train from He's weights only",
    final["He"] < 1.9 and min(final["Xavier"], final["torch's default"]) > 2.2,
)

# %% [markdown]
# ## The project of this phase · 本阶段的实战项目
#
# Phase 4 ends with a regression, the prices of houses: a multilayer perceptron that starts from He's weights, beside an
# elastic net, support vectors and boosted trees; a blend of all, measured by repeated cross-validation; an interval for
# each price.
#
# 第 4 阶段以回归任务“房价预测”收尾：用 He 初始化的多层感知机，与弹性网络、支持向量机和梯度提升树融合，
# 用重复交叉验证衡量，并为每个价格给出区间。
#
# ```bash
# uv run --package house-prices train
# ```
