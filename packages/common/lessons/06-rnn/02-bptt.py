# %% [markdown]
# # Backpropagation through time · 沿时间反向传播
#
# An RNN unrolled over T steps is a network of T layers that share their weights. Backpropagation goes through it as
# through any other, from the last step to the first, and adds up what every step says about the same weights. It has
# to keep all T states for that; on a long text one cuts the way back into windows: truncated backpropagation, which
# carries states over the cuts, but no gradients.
#
# Here the gradient is derived by hand in NumPy and held against autograd and finite differences. Then we measure what
# truncation costs, and train a character model on real text with nothing but NumPy.
#
# 把 RNN 在 T 个时间步上展开，就得到一个 T 层、权重共享的网络。反向传播从最后一步走回第一步，
# 把每一步对同一组权重的梯度加起来，为此必须保存全部 T 个状态。对于很长的文本，人们把回传切成窗口：
# 截断反向传播——状态跨窗口传递，梯度不传。本课用 NumPy 手工推导梯度，与 autograd 和有限差分对照，
# 测量截断的代价，并只用 NumPy 在真实文本上训练一个字符模型。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.rnn.bptt import RNNParameters, backward, cross_entropy, forward, init_parameters

random = np.random.default_rng(0)

# %% [markdown]
# ## The gradient by hand · 手推梯度
#
# With s_t = W x_t + U h_{t−1} + b and h_t = tanh(s_t), the chain rule gives, from the last step to the first,
#
# $$\delta_t = \left(V^\top \frac{\partial L}{\partial z_t} + U^\top \delta_{t+1}\right) \odot (1 - h_t^2), \qquad
# \frac{\partial L}{\partial U} = \sum_t \delta_t h_{t-1}^\top$$
#
# where z are the logits. The term with U is what makes it "through time". `dlcommon.rnn.bptt` is these lines.

# %%
steps, batch, size, hidden = 12, 4, 6, 8
weights = init_parameters(size, hidden, size, random)
inputs, start = random.standard_normal((steps, batch, size)), random.standard_normal((batch, hidden))
targets = random.integers(0, size, (steps, batch))
trace = forward(weights, inputs, start)
by_hand = backward(weights, trace, targets)

leaves = RNNParameters(*(torch.tensor(weight, requires_grad=True) for weight in weights))
state, total = torch.tensor(start), torch.zeros((), dtype=torch.float64)
for x, target in zip(torch.tensor(inputs), torch.tensor(targets), strict=True):
    state = torch.tanh(x @ leaves.weight_ih.T + state @ leaves.weight_hh.T + leaves.bias_h)
    total = total + torch.nn.functional.cross_entropy(state @ leaves.weight_ho.T + leaves.bias_o, target) / steps
by_autograd = torch.autograd.grad(total, leaves)

nudge = np.zeros_like(weights.weight_hh)
nudge[2, 3] = 1e-5
nudged = [weights._replace(weight_hh=weights.weight_hh + sign * nudge) for sign in (1, -1)]
above, below = (cross_entropy(forward(near, inputs, start), targets) for near in nudged)
by_differences = (above - below) / 2e-5

# %% [markdown]
# ## Real text, by NumPy alone · 只用 NumPy 学习真实文本
#
# Characters are vectors with a single one. 32 places in the text are read side by side, 25 characters at a time; the
# state goes on from window to window, the gradient does not: truncated backpropagation at its plainest.

# %%
text = data("tinyshakespeare", "python-manual").train[:200_000]
alphabet = sorted(set(text))
characters = np.array([alphabet.index(character) for character in text])
streams = characters[: len(text) // 32 * 32].reshape(32, -1).T  # [time, 32]
one_hot = np.eye(len(alphabet))

model = init_parameters(len(alphabet), 64, len(alphabet), random)
state, squares, losses, window = np.zeros((32, 64)), RNNParameters(*(np.zeros_like(part) for part in model)), [], 25
for begin in range(0, 200 * window, window):
    following = streams[begin + 1 : begin + window + 1]
    trace_of_text = forward(model, one_hot[streams[begin : begin + window]], state)
    losses.append(cross_entropy(trace_of_text, following))
    gradient = backward(model, trace_of_text, following)
    squares = RNNParameters(*(old + new**2 for old, new in zip(squares, gradient, strict=True)))  # Adagrad's step sizes
    model = RNNParameters(
        *(
            part - 0.1 * slope / np.sqrt(square + 1e-8)
            for part, slope, square in zip(model, gradient, squares, strict=True)
        )
    )
    state = trace_of_text.hidden_states[-1]

frequencies = np.bincount(characters) / len(characters)
guessing = -np.sum(frequencies * np.log(frequencies))
learned = float(np.mean(losses[-20:]))
print(f"  {guessing:.2f} nats a character from frequencies alone, {learned:.2f} after {len(losses)} steps of the RNN")

# %% [markdown]
# ## What truncation costs · 截断的代价
#
# The trained network gives the gradient of a loss at 100 characters once in full, and once for windows of several
# lengths. The cosine says how far the truncated direction is from the true one.
#
# 对训练好的网络，比较完整梯度与各种窗口长度下截断梯度的方向（余弦）。

# %%
length = 100
long_trace = forward(model, one_hot[streams[:length]], np.zeros((32, 64)))
full = backward(model, long_trace, streams[1 : length + 1]).weight_hh.ravel()
windows = (1, 2, 3, 5, 10, 25, 50, 100)
cosines, kept = [], []
for cut in windows:
    part = backward(model, long_trace, streams[1 : length + 1], cut).weight_hh.ravel()
    cosines.append(float(part @ full / np.linalg.norm(part) / np.linalg.norm(full)))
    kept.append(cut * 32 * 64 * 8 / 1024)
table(("window", "cosine with the full gradient", "states kept, KiB"), zip(windows, cosines, kept, strict=True))

# %%
fig, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
axes[0].plot(losses, color="tab:blue", alpha=0.4)
axes[0].plot(*moving_average(losses, 20), color="tab:blue", label="RNN, mean of 20 updates")
axes[0].axhline(guessing, color="gray", linestyle=":", label="frequencies alone")
axes[0].set(title=f"By hand, in NumPy: {learned:.2f} nats", xlabel="update", ylabel="nats a character")
axes[0].legend()
axes[1].plot(windows, cosines, marker="o")
axes[1].set(
    xscale="log", xticks=windows, xticklabels=windows, xlabel="window, steps", ylabel="cosine with the full gradient",
    title="A short window points elsewhere",
)  # fmt: skip
axes[1].minorticks_off()
show(fig, "truncation")

# %%
for name, ours, theirs in zip(RNNParameters._fields, by_hand, by_autograd, strict=True):
    check_close(f"the gradient of {name} equals autograd's", ours, theirs, 1e-10)
check_close("and that of one weight its finite difference", by_hand.weight_hh[2, 3], by_differences, 1e-6)
check("a window as long as the sequence cuts nothing", abs(cosines[-1] - 1) < 1e-12)
check("a window of one step points elsewhere, 25 steps almost the right way", cosines[0] < 0.9 and cosines[5] > 0.95)
check("the network that NumPy trained has learned more than frequencies", learned < guessing - 0.4)
