# %% [markdown]
# # The chain rule: an autograd engine · 链式法则：自动求导引擎
#
# A network is a long composition of small functions. The chain rule multiplies their derivatives; done from the loss
# backwards, one pass gives the derivative for every weight, at the price of about two forward passes. That algorithm is
# backpropagation, and the 200 lines of `dlcommon.mathematics.autograd` are all there is to it.
#
# This lesson follows it through one small expression, compares every operation with torch, measures its cost against
# differences, and trains a network on real digits with nothing but our own engine. To look things up:
# [docs/LINEAR_ALGEBRA_DL.md](../../../../docs/LINEAR_ALGEBRA_DL.md) 速查文档：线性代数与梯度。
#
# 神经网络是许多小函数的复合，链式法则把它们的导数乘起来。从损失出发往回算，一遍就能得到所有权重的导数，代价只相当于两三
# 次前向计算，这就是反向传播。`dlcommon.mathematics.autograd` 用约两百行代码实现了它：支持广播、矩阵乘法、归约和各种激活
# 函数。本课先跟踪一个小表达式，再逐个与 torch 对比，测量它与差分法的代价，最后只用自己的引擎在真实手写数字上训练一个网
# 络。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.mathematics import functional as F
from dlcommon.mathematics.autograd import Variable
from dlcommon.mathematics.derivatives import numerical_gradient

random = np.random.default_rng(0)

# %% [markdown]
# ## One expression · 一个表达式
#
# $\ell = \log(1 + e^{-(wx + b)})$, the logistic loss. Each step knows only its own derivative; the product of all of
# them is $d\ell/dw = -x (1 - \sigma(wx + b))$.

# %%
w, b, x = Variable(1.5), Variable(-0.5), 2.0
z = w * x + b
small_loss = F.log(1 + F.exp(-z))
small_loss.backward()
small_slope = float(w.grad)
local = [-1.0, float(np.exp(-z.data)), float(1 / (1 + np.exp(-z.data)))]
table(["step", "its own derivative"], zip(["z → −z", "exp", "log(1 + ·)"], local, strict=True))
print(f"  product {np.prod(local):.6f}, times x for w: {np.prod(local) * x:.6f}; the engine says {small_slope:.6f}")

# %% [markdown]
# ## Every operation equals torch's · 每个运算都与 torch 一致

# %%
a, c, m = random.standard_normal((3, 4)), random.standard_normal((1, 4)), random.standard_normal((4, 2))
operations = {
    "a + c (broadcast)": (lambda a, c, m: a + c, lambda a, c, m: a + c),
    "a * c (broadcast)": (lambda a, c, m: a * c, lambda a, c, m: a * c),
    "a / (c² + 1)": (lambda a, c, m: a / (c**2 + 1), lambda a, c, m: a / (c**2 + 1)),
    "a @ m": (lambda a, c, m: a @ m, lambda a, c, m: a @ m),
    "mean over rows": (lambda a, c, m: (a * c).mean(0), lambda a, c, m: (a * c).mean(0)),
    "max over columns": (lambda a, c, m: (a * c).max(1), lambda a, c, m: (a * c).amax(1)),
    "index, one row twice": (lambda a, c, m: a[[0, 2, 2]] * c, lambda a, c, m: a[[0, 2, 2]] * c),
    "transpose, reshape": (lambda a, c, m: (a.T @ a).reshape(16), lambda a, c, m: (a.T @ a).reshape(16)),
    "exp": (lambda a, c, m: F.exp(a + c), lambda a, c, m: torch.exp(a + c)),
    "tanh": (lambda a, c, m: F.tanh(a @ m), lambda a, c, m: torch.tanh(a @ m)),
    "sigmoid": (lambda a, c, m: F.sigmoid(a @ m), lambda a, c, m: torch.sigmoid(a @ m)),
    "relu": (lambda a, c, m: F.relu(a + c), lambda a, c, m: torch.relu(a + c)),
    "softmax": (lambda a, c, m: F.softmax(a * c), lambda a, c, m: torch.softmax(a * c, -1)),
    "log_softmax": (lambda a, c, m: F.log_softmax(a * c), lambda a, c, m: torch.log_softmax(a * c, -1)),
}
disagreement = {}
for name, (ours, theirs) in operations.items():
    variables = [Variable(array) for array in (a, c, m)]
    tensors = [torch.tensor(array, requires_grad=True) for array in (a, c, m)]
    found, expected = ours(*variables), theirs(*tensors)
    vector = random.standard_normal(found.shape)
    found.backward(vector)
    expected.backward(torch.tensor(vector))
    gaps = [np.abs(found.data - expected.detach().numpy()).max()]
    gaps += [
        np.abs(v.grad - t.grad.numpy()).max() for v, t in zip(variables, tensors, strict=True) if t.grad is not None
    ]
    disagreement[name] = float(max(gaps))
table(["operation", "largest difference, value or gradient"], disagreement.items())

# %% [markdown]
# ## What a gradient costs · 梯度的代价
#
# Differences ask the loss twice for each weight. Backwards, the price of all weights is a small multiple of one forward
# pass, whatever their number: without this, nothing with a million weights could be trained.

# %%
inputs = random.standard_normal((16, 32))
sizes, reverse_seconds, difference_seconds = [8, 16, 32, 64], [], []
for outputs in sizes:
    matrix = random.standard_normal((32, outputs))

    def energy(matrix):
        return (F.tanh(inputs @ matrix) ** 2).mean()

    reverse_seconds.append(seconds(lambda energy=energy, matrix=matrix: energy(Variable(matrix)).backward()))
    difference_seconds.append(
        seconds(
            lambda energy=energy, matrix=matrix: numerical_gradient(lambda w: float(energy(Variable(w)).data), matrix),
            repeats=1,
        )
    )
weights_count = [32 * outputs for outputs in sizes]

# %% [markdown]
# ## A network on real digits · 在真实数字上训练网络
#
# 784 → 64 → 10 with ReLU and cross-entropy, stochastic gradient descent with momentum. The loop is torch's loop: zero
# the gradients, forward, backward, step. Twenty steps in torch from the same start end at the same weights.

# %%
digits = data("mnist", "mnist-sample")
train = digits.train_images[:4000].reshape(4000, 784) / 255.0
test = digits.test_images[:1000].reshape(-1, 784) / 255.0
labels, test_labels = digits.train_labels[:4000], digits.test_labels[:1000]
start = [
    random.standard_normal((784, 64)) * (2 / 784) ** 0.5,
    np.zeros(64),
    random.standard_normal((64, 10)) / 8,
    np.zeros(10),
]
order = np.concatenate([random.permutation(4000) for _ in range(6)]).reshape(-1, 50)  # [steps, batch]

parameters = [Variable(array.copy()) for array in start]
velocities = [np.zeros_like(array) for array in start]
losses, after_twenty = [], []
for step, batch in enumerate(order):
    w1, b1, w2, b2 = parameters
    loss = F.cross_entropy(F.relu(train[batch] @ w1 + b1) @ w2 + b2, labels[batch])
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    for parameter, velocity in zip(parameters, velocities, strict=True):
        velocity *= 0.9
        velocity += parameter.grad
        parameter.data = parameter.data - 0.05 * velocity
    losses.append(float(loss.data))
    if step == 19:
        after_twenty = [parameter.data for parameter in parameters]
w1, b1, w2, b2 = (parameter.data for parameter in parameters)
predicted = (np.maximum(test @ w1 + b1, 0) @ w2 + b2).argmax(1)
accuracy = float((predicted == test_labels).mean())
print(f"  {len(order)} steps, loss {losses[0]:.3f} → {np.mean(losses[-20:]):.3f}, test accuracy {accuracy:.3f}")

tensors = [torch.tensor(array, requires_grad=True) for array in start]
optimizer = torch.optim.SGD(tensors, lr=0.05, momentum=0.9)
for batch in order[:20]:
    t1, c1, t2, c2 = tensors
    hidden = torch.relu(torch.tensor(train[batch]) @ t1 + c1)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(hidden @ t2 + c2, torch.tensor(labels[batch])).backward()
    optimizer.step()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8))
left.semilogy(weights_count, np.array(difference_seconds) * 1e3, "o-", label="differences")
left.semilogy(weights_count, np.array(reverse_seconds) * 1e3, "o-", label="backwards, our engine")
left.set(title="One backward pass serves all weights", xlabel="weights", ylabel="milliseconds a gradient")
left.legend()
right.plot(losses, lw=0.5, alpha=0.5)
right.plot(*moving_average(losses, 20), label="mean of 20 steps")
right.set(
    title=f"Trained by our engine: {accuracy:.1%} of test digits right",
    xlabel="step",
    ylabel="cross-entropy",
    ylim=(0, 2.5),
)
right.legend()
show(figure, "cost-and-training")

figure, axes = plt.subplots(2, 8, figsize=(11, 3.2), layout="constrained")
strongest = np.argsort(-np.abs(w2).sum(1))[:16]
for axis, unit in zip(axes.ravel(), strongest, strict=True):
    axis.imshow(w1[:, unit].reshape(28, 28), cmap="RdBu", vmin=-0.3, vmax=0.3)
    axis.axis("off")
figure.suptitle("What sixteen hidden units look for")
show(figure, "hidden-units")

# %%
check_close("the engine's derivative is the formula's", small_slope, -x * (1 - 1 / (1 + np.exp(-float(z.data)))))
check("every operation agrees with torch in value and gradient", max(disagreement.values()) < 1e-12)
check(
    "differences cost at least fifty times as much at 2,048 weights", difference_seconds[-1] > 50 * reverse_seconds[-1]
)
for name, mine, reference in zip(
    ("first layer", "first bias", "second layer", "second bias"), after_twenty, tensors, strict=True
):
    check_close(f"after twenty steps torch has the same {name}", mine, reference, tolerance=1e-9)
check("the loss starts near log 10, the loss of a guess", abs(losses[0] - np.log(10)) < 0.6)
check("the network recognizes far more than four digits in five", accuracy > 0.87)
