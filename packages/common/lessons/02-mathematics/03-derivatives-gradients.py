# %% [markdown]
# # Derivatives and gradients · 导数与梯度
#
# Training is a question asked millions of times: if this weight changes a little, how does the loss change? The answer
# for all weights at once is the gradient. It can be had from a formula, exactly, or from differences, approximately and
# slowly, but without any formula that could be wrong. So the second tests the first.
#
# This lesson measures how wrong differences are as the step shrinks, and checks the formula for the gradient of a
# softmax classifier on real digits (`dlcommon.mathematics.derivatives`). To look things up:
# [docs/LINEAR_ALGEBRA_DL.md](../../../../docs/LINEAR_ALGEBRA_DL.md) 速查文档：线性代数与梯度。
#
# 训练就是反复回答一个问题：某个权重变化一点点，损失会变化多少？对所有权重同时给出答案，就是梯度。梯度可以用公式精确计算
# （解析梯度），也可以用差分近似（数值梯度）：差分慢而不准，却不依赖可能写错的公式，因此用来检验前者。本课测量差分误差随
# 步长的变化，并在真实手写数字上检验 softmax 分类器的梯度公式。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.mathematics.derivatives import (
    central_difference,
    complex_step,
    forward_difference,
    numerical_gradient,
    numerical_hessian,
    numerical_jacobian,
)

random = np.random.default_rng(0)
digits = data("mnist", "mnist-sample")

# %% [markdown]
# ## How small a step? · 步长取多小？
#
# The smaller $h$, the better the tangent, in mathematics. In floating point $f(x+h) - f(x)$ cancels: all but the last
# digits are equal. The error has two slopes, and its minimum lies where they meet: near $\sqrt\varepsilon$ for
# one-sided differences, near $\varepsilon^{1/3}$ for central ones. A complex step subtracts nothing and may be as small
# as it likes.
#
# 步长太大，截断误差大；步长太小，相近的数相减丢失有效数字。最优步长在两者之间。


# %%
def function(x):
    return np.exp(np.sin(x))


x = 1.0
truth = np.cos(x) * function(x)
steps = 10.0 ** -np.arange(0, 16, 0.05)
error = {
    "forward": np.abs(forward_difference(function, x, steps) / truth - 1),
    "central": np.abs(central_difference(function, x, steps) / truth - 1),
    "complex step": np.abs(complex_step(function, x, steps) / truth - 1),
}
epsilon = np.finfo(float).eps
best = {name: (float(steps[curve.argmin()]), float(curve.min())) for name, curve in error.items()}
typical = {name: float(np.median(curve[(steps > 1e-9) & (steps < 1e-7)])) for name, curve in error.items()}
table(["rule", "median error near h = 1e-8"], typical.items())

# %% [markdown]
# ## The gradient of a classifier · 分类器的梯度
#
# Softmax regression: probabilities $p = \mathrm{softmax}(x W)$, loss $-\log p_y$, averaged. Its gradient is
# $\nabla_W = X^T (P - Y) / n$, where $Y$ holds the labels one-hot: the error, carried back by the inputs.

# %%
images = digits.train_images[:200].reshape(200, 7, 4, 7, 4).mean((2, 4)).reshape(200, 49) / 255.0
labels = digits.train_labels[:200]
one_hot = np.eye(10)[labels]
weights = 0.1 * random.standard_normal((49, 10))


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def loss(w):
    return float(-np.log(softmax(images @ w)[np.arange(200), labels]).mean())


def analytic(w):
    return images.T @ (softmax(images @ w) - one_hot) / 200


gradient, numerical = analytic(weights), numerical_gradient(loss, weights)
time_analytic, time_numerical = (
    seconds(lambda: analytic(weights)),
    seconds(lambda: numerical_gradient(loss, weights), 1),
)
print(
    f"  490 weights: the formula is {time_numerical / time_analytic:.0f} times as fast as 980 evaluations of the loss"
)

# %% [markdown]
# A planted mistake, the division by $n$ forgotten for one class, shows at once in the relative difference, which is the
# number to look at in every gradient check.

# %%
wrong = gradient.copy()
wrong[:, 3] *= 200
difference = {
    "right formula": float(np.abs(gradient - numerical).max() / np.abs(numerical).max()),
    "planted mistake": float(np.abs(wrong - numerical).max() / np.abs(numerical).max()),
}
table(["gradient", "relative difference"], difference.items())

# %% [markdown]
# ## The steepest direction · 最陡的方向
#
# Along a unit vector $d$ the loss changes at the rate $\nabla f \cdot d = \lVert \nabla f \rVert \cos\theta$. The
# gradient is the direction of fastest growth, and orthogonal to it the loss does not change at all.

# %%
size = np.linalg.norm(gradient)
other = random.standard_normal(gradient.shape)
other -= (other * gradient).sum() / size**2 * gradient  # only what is orthogonal to the gradient
other /= np.linalg.norm(other)
angles = np.linspace(0, np.pi, 37)
directions = [np.cos(a) * gradient / size + np.sin(a) * other for a in angles]
rates = np.array([central_difference(lambda t, d=d: loss(weights + t * d), 0.0, 1e-5) for d in directions])

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2))
for name, curve in error.items():
    left.loglog(steps, np.maximum(curve, 1e-17), lw=1, label=name)
left.axvline(epsilon**0.5, color="0.6", ls="--", lw=1)
left.axvline(epsilon ** (1 / 3), color="0.6", ls=":", lw=1)
left.text(epsilon**0.5, 20, r" $\sqrt{\varepsilon}$")
left.text(epsilon ** (1 / 3), 20, r" $\varepsilon^{1/3}$")
left.set(title="Differences fail on both sides", xlabel="step h", ylabel="relative error", ylim=(2e-18, 1e3))
left.invert_xaxis()
left.legend()
right.plot(np.degrees(angles), rates, "o", ms=4, label="measured")
right.plot(np.degrees(angles), size * np.cos(angles), label="‖gradient‖ cos θ")
right.set(
    title="The loss grows fastest along the gradient", xlabel="angle to the gradient, degrees", ylabel="rate of change"
)
right.legend()
show(figure, "differences-and-directions")

# %% [markdown]
# ## Jacobian and Hessian · 雅可比与海森矩阵
#
# A function to many numbers has a Jacobian: of softmax it is $\mathrm{diag}(p) - p p^T$. The Jacobian of a gradient is
# the Hessian; where it has no negative eigenvalue the loss curves up in every direction, so that softmax regression has
# a single valley.

# %%
logits = random.standard_normal(5)
p = softmax(logits)
hessian = numerical_hessian(
    lambda w: analytic(np.concatenate([w[:, None], weights[:, 1:]], axis=1))[:, 0], weights[:, 0]
)  # [49, 49], of the first class's weights
curvatures = np.linalg.eigvalsh(hessian)

# %%
check("forward differences are best near √ε", 0.02 < best["forward"][0] / epsilon**0.5 < 50)
check("central ones near the cube root of ε", 0.02 < best["central"][0] / epsilon ** (1 / 3) < 50)
central_error = np.median(error["central"][(steps > 2e-6) & (steps < 2e-5)])
check(
    "at their best steps, central differences are over a hundred times as accurate",
    central_error < typical["forward"] / 100,
)
check("a complex step is exact however small", error["complex step"][steps < 1e-8].max() < 1e-14)
check_close("the formula equals the differences", gradient, numerical)
tensor = torch.tensor(weights, requires_grad=True)
torch.nn.functional.cross_entropy(torch.tensor(images) @ tensor, torch.tensor(labels)).backward()
check_close("and torch's gradient", gradient, tensor.grad)
check("the check finds a planted mistake", difference["planted mistake"] > 1e5 * difference["right formula"])
check_close("rates of change follow the cosine", rates, size * np.cos(angles))
check_close("softmax's Jacobian is diag(p) − p pᵀ", numerical_jacobian(softmax, logits), np.diag(p) - np.outer(p, p))
check("no curvature of softmax regression is negative", curvatures.min() > -1e-8)
