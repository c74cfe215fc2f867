# %% [markdown]
# # Activation functions · 激活函数
#
# The activation is the only part of a network that is not linear, and its derivative is a factor in every gradient
# that passes. Its history is one of derivatives: the sigmoid's is never above 1/4, tanh's is 1 only at 0, ReLU's is 1
# on a whole half-line and 0 on the other, and GELU, SiLU and Mish round that corner off.
#
# This lesson draws twelve of them with their derivatives, holds both against torch, measures the properties that one
# chooses by, and shows where the textbook's formula fails in float32. Which of them trains best is measured in the next
# lesson.
#
# 激活函数是网络中唯一的非线性部分，它的导数是每一个梯度的乘数。它的历史就是一部导数的历史：sigmoid 的导数不超过 1/4；
# tanh 只在 0 处为 1；ReLU 在半条实轴上恒为 1，在另外半条上为 0；GELU、SiLU、Mish 则把这个折角磨圆。
# 本课画出十二种激活函数及其导数，与 torch 逐一对照，测量选择时要看的性质，
# 并指出教科书公式在 float32 下失效的地方。哪一种训练效果最好，留到下一课实测。

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, show, table
from dlcommon.neural_networks.activations import ACTIVATIONS, GELU, GELU_TANH, RELU, SELU, SIGMOID, SOFTPLUS, TANH
from scipy.special import expit
from torch.nn import functional as F

random = np.random.default_rng(0)

# %% [markdown]
# ## Twelve functions and their derivatives · 十二个函数及其导数

# %%
x = np.linspace(-5, 5, 1001)
figure, axes = plt.subplots(3, 4, figsize=(13, 7.6), sharex=True, sharey=True, layout="constrained")
for axis, activation in zip(axes.ravel(), ACTIVATIONS, strict=True):
    axis.axhline(0, color="gray", lw=0.5)
    axis.axvline(0, color="gray", lw=0.5)
    axis.plot(x, activation(x), label="function")
    axis.plot(x, activation.derivative(x), "--", label="derivative")
    axis.set(title=activation.name, ylim=(-2, 3))
axes[0, 0].legend(loc="upper left")
figure.supxlabel("x")
figure.suptitle("From the sigmoid to the rounded corners: the derivative came up to 1")
show(figure, "functions")

# %% [markdown]
# ## Equal to torch's · 与 torch 一致
#
# Value and derivative, at 5,000 random points and at the corners 0 and ±3, where torch's choice is taken.

# %%
points = np.append(3 * random.standard_normal(5000), [0.0, -3.0, 3.0])
values, slopes, torch_values, torch_slopes = [], [], [], []
for activation in ACTIVATIONS:
    function = partial(F.gelu, approximate="tanh") if activation is GELU_TANH else getattr(F, activation.name)
    tensor = torch.tensor(points, requires_grad=True)
    result = function(tensor)
    result.sum().backward()
    values.append(activation(points))
    slopes.append(activation.derivative(points))
    torch_values.append(result.detach().numpy())
    torch_slopes.append(tensor.grad.numpy())

# %% [markdown]
# ## What one chooses by · 选择的依据
#
# Bounded or not; the largest slope, since the product of slopes over 30 layers is at most its 30th power; what slope is
# left at −5 and 5 (0 there is saturation: no gradient, no learning); and the mean of the output for a normal input,
# which the next layer has to carry as a bias. 关注：是否有界、最大斜率（三十层的斜率之积不超过它的三十次方）、
# 两端是否饱和、输出均值是否为零。

# %%
wide = np.linspace(-30, 30, 60_001)
normal = random.standard_normal(200_000)
lowest, largest_slope, mean_output = {}, {}, {}
for activation in ACTIVATIONS:
    lowest[activation.name] = float(activation(wide).min())
    largest_slope[activation.name] = float(activation.derivative(wide).max())
    mean_output[activation.name] = float(activation(normal).mean())
table(
    ["activation", "lowest", "largest slope", "its 30th power", "slope at −5", "at 5", "mean of a normal input"],
    [
        (
            a.name,
            lowest[a.name],
            largest_slope[a.name],
            largest_slope[a.name] ** 30,
            *a.derivative(np.array([-5.0, 5.0])).tolist(),
            mean_output[a.name],
        )
        for a in ACTIVATIONS
    ],
)

# %% [markdown]
# ## Where the textbook's formula fails · 教科书公式在哪里失效
#
# The derivative of the sigmoid is σ(1 − σ). In float32 σ(17) has already been rounded to 1, and the derivative to 0;
# σ(x) σ(−x) is the same number and keeps its digits. log(1 + eˣ) overflows at 89.
# 等价的公式，数值上并不等价。

# %%
single = np.linspace(0, 60, 601, dtype=np.float32)
textbook_slope = expit(single) * (1 - expit(single))
exact_slope = SIGMOID.derivative(single.astype(np.float64))
with np.errstate(over="ignore"):
    textbook_softplus = np.log(1 + np.exp(np.float32(100)))
stable_softplus = float(SOFTPLUS(np.array([100], dtype=np.float32))[0])
first_zero = float(single[textbook_slope == 0][0])
relative = np.abs(SIGMOID.derivative(single) / exact_slope - 1).max()
print(f"  σ(1 − σ) is 0 from x = {first_zero:.1f} on; σ(x) σ(−x) is right to {relative:.0e} up to x = 60")
print(f"  softplus(100): {textbook_softplus} by the textbook, {stable_softplus} here")

# %% [markdown]
# ## GELU's short cuts · GELU 的近似
#
# GELU is x Φ(x), Φ being the normal distribution. GPT-2 took a tanh for it, since erf was slow; x σ(1.702 x) is cheaper
# still. A checkpoint has to be run with the one that it was trained with: the difference is small, but every layer adds
# its own. 预训练模型用哪种近似训练，就必须用哪种近似推理。

# %%
tanh_error = GELU_TANH(x) - GELU(x)
sigmoid_error = x * expit(1.702 * x) - GELU(x)
print(f"  largest error: tanh {np.abs(tanh_error).max():.1e}, sigmoid {np.abs(sigmoid_error).max():.1e}")

# %% [markdown]
# ## SELU: normal by itself · SELU：自归一化
#
# The two constants of SELU are solved so that a layer maps mean 0 and variance 1 to mean 0 and variance 1, and anything
# near them closer (Klambauer et al. 2017). A random network of 50 layers, weights of variance 1/n (2/n for ReLU, He's),
# and an input that is wrong in both: mean 1, variance 4.

# %%
layers, width = 50, 300
traces = {}
for activation, gain in ((SELU, 1.0), (RELU, 2**0.5), (TANH, 1.0)):
    h = 1 + 2 * random.standard_normal((200, width))
    trace = [(h.mean(), h.var())]
    for _ in range(layers):
        h = activation(h @ (gain * random.standard_normal((width, width)) / width**0.5))
        trace.append((h.mean(), h.var()))
    traces[activation.name] = np.array(trace)
table(
    ["activation", "mean after 50 layers", "variance after 50 layers"],
    [(name, *trace[-1].tolist()) for name, trace in traces.items()],
)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.9), layout="constrained")
for label, slope in (("σ (1 − σ)", textbook_slope), ("σ(x) σ(−x)", SIGMOID.derivative(single))):
    axes[0].semilogy(single, np.maximum(np.abs(slope / exact_slope - 1), 1e-9), label=label)
axes[0].set(title="One derivative, two formulas, float32", xlabel="x", ylabel="relative error", xlim=(0, 30))
axes[1].plot(x, tanh_error, label="tanh form")
axes[1].plot(x, sigmoid_error, label="x σ(1.702 x)")
axes[1].set(title="What GELU's short cuts cost", xlabel="x", ylabel="error")
for name, trace in traces.items():
    axes[2].semilogy(trace[:, 1], label=name)
axes[2].axhline(1, color="gray", lw=0.5)
axes[2].set(title="SELU brings the variance to 1", xlabel="layer", ylabel="variance of the activations")
for axis in axes:
    axis.legend()
show(figure, "numbers")

# %% [markdown]
# ## What holds · 结论

# %%
check_close("all twelve functions are torch's", np.stack(values), np.stack(torch_values), 1e-12)
check_close("and their derivatives", np.stack(slopes), np.stack(torch_slopes), 1e-12)
check_close("the sigmoid's slope is at most 1/4", largest_slope["sigmoid"], 0.25, 1e-9)
check("over 30 layers that leaves less than 1e-18", largest_slope["sigmoid"] ** 30 < 1e-18)
check("softplus' derivative is the sigmoid", np.array_equal(SOFTPLUS.derivative(x), SIGMOID(x)))
check(
    "GELU, SiLU and Mish dip below 0, and their slope rises above 1",
    all(lowest[name] < -0.1 and largest_slope[name] > 1.05 for name in ("gelu", "silu", "mish")),
)
check(
    "in float32 the textbook's slope of the sigmoid is 0 from 17 on, ours never", first_zero < 17.5 and relative < 1e-5
)
check("the textbook's softplus overflows, ours does not", np.isinf(textbook_softplus) and stable_softplus == 100)
check(
    "the tanh form of GELU is off by less than 0.0005, the sigmoid's by 0.02",
    (np.abs(tanh_error).max() < 5e-4 and 0.015 < np.abs(sigmoid_error).max() < 0.025),
)
check("SELU goes to mean 0 and variance 1", abs(traces["selu"][-1, 0]) < 0.1 and abs(traces["selu"][-1, 1] - 1) < 0.2)
