# %% [markdown]
# # Vanishing and exploding gradients · 梯度消失与梯度爆炸
#
# Backpropagation through time multiplies by the recurrent weights once for every step. A product of a hundred factors
# is either almost nothing or enormous: what happened long ago either teaches the network nothing, or throws its
# weights across the room (Bengio et al. 1994; Pascanu et al. 2013).
#
# This lesson measures how the gradient fades or grows with distance, and tries the three remedies that are in use:
# orthogonal initialisation, gates (LSTM and GRU), and clipping. Whether a network can *learn* over the distance is
# then tried on a task that needs it, generated so that nothing else helps: repeat the first symbol at the end.
#
# 沿时间反向传播时，每一步都要乘一次循环权重。一百个因子的乘积不是趋近于零就是极其巨大：
# 很久以前的信息要么教不会网络任何东西，要么把权重抛到九霄云外。本课测量梯度随距离如何衰减或增长，
# 并检验三种常用的办法：正交初始化、门控（LSTM 与 GRU）、梯度裁剪；最后用一个必须记住远处信息的
# 合成任务（在末尾重复第一个符号）检验网络能否真正学会。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, show, table
from dlcommon.rnn.recurrent import GRU, LSTM, RNN
from torch import nn
from torch.nn import functional as F

random = torch.Generator().manual_seed(0)

# %% [markdown]
# ## A product of a hundred matrices · 一百个矩阵的乘积
#
# Without tanh the gradient over k steps is U^k. Its size goes as the spectral radius ρ of U to the power k.

# %%
matrix = torch.randn(64, 64, generator=random, dtype=torch.float64)
matrix /= torch.linalg.eigvals(matrix).abs().max()  # spectral radius 1
distances = torch.arange(1, 101)
linear = {}
for radius in (0.8, 1.0, 1.2):
    power, sizes = torch.eye(64, dtype=torch.float64), []
    for _ in distances:
        power = power @ (radius * matrix)
        sizes.append(torch.linalg.matrix_norm(power).item() / 8)  # 8 = √64: the identity has size 1
    linear[radius] = sizes

# %% [markdown]
# ## Real cells · 真实的单元
#
# How much does the output after 100 steps depend on the input k steps before? Autograd says: the gradient by each
# input, averaged over 8 random sequences, relative to that of the last input.


# %%
def reach(network):
    """[100]: size of d(last output)/d(input k steps before), k = 0, 1, …, relative to k = 0."""
    x = torch.randn(8, 100, 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    outputs, _ = network(x)
    outputs[:, -1].sum().backward()
    sizes = x.grad.norm(dim=2).mean(dim=0).flip(0)
    return sizes / sizes[0]


def orthogonal(network):
    """Recurrent weights that turn the state without stretching it; no biases, so that tanh starts where it is steep."""
    nn.init.orthogonal_(network.weight_hh_l0)
    nn.init.zeros_(network.bias_ih_l0)
    nn.init.zeros_(network.bias_hh_l0)
    return network


cells = {
    "RNN, torch's init": RNN(16, 64),
    "RNN, orthogonal": orthogonal(RNN(16, 64)),
    "GRU": GRU(16, 64),
    "LSTM": LSTM(16, 64),
    "LSTM, forget bias 4": LSTM(16, 64, forget_bias=4.0),
}
reaches = {name: reach(network) for name, network in cells.items()}
table(
    ("cell", *(f"{k} steps back" for k in (10, 30, 60, 99))),
    [(name, *(sizes[k].item() for k in (10, 30, 60, 99))) for name, sizes in reaches.items()],
)

# %% [markdown]
# ## Can it learn over the distance? · 能学会吗？
#
# The first of the inputs is one of eight symbols; noise follows; at the end the network must name the symbol. Guessing
# is right one time in eight. All networks have 32 hidden units, the same data and the same 200 updates.


# %%
def recall(network, delay, updates=200):
    """Accuracy of repeating the first symbol `delay` steps later, on the last ten batches, before training on them."""
    draws = torch.Generator().manual_seed(delay)
    head = nn.Linear(32, 8)
    parameters = [*network.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    correct = []
    for _ in range(updates):
        symbol = torch.randint(8, (32,), generator=draws)
        noise = 0.1 * torch.randn(32, delay, 8, generator=draws)
        x = torch.cat([F.one_hot(symbol, 8)[:, None].float(), noise], dim=1)
        logits = head(network(x)[0][:, -1])
        correct.append((logits.argmax(dim=1) == symbol).float().mean().item())
        optimizer.zero_grad()
        F.cross_entropy(logits, symbol).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return sum(correct[-10:]) / 10


delays = (5, 15, 40)
learners = {
    "RNN, torch's init": lambda: RNN(8, 32),
    "RNN, orthogonal": lambda: orthogonal(RNN(8, 32)),
    "LSTM": lambda: LSTM(8, 32),
    "LSTM, forget bias 4": lambda: LSTM(8, 32, forget_bias=4.0),
}
learned = {name: [recall(build(), delay) for delay in delays] for name, build in learners.items()}
table(("network", *(f"{delay} steps" for delay in delays)), [(name, *scores) for name, scores in learned.items()])

# %% [markdown]
# ## Clipping · 梯度裁剪
#
# The scalar network h ← w h, asked for h_30 = 0.5 from h_0 = 1, has a loss (w^30 − ½)² with a cliff. One step of
# gradient descent from the cliff's edge lands far away; with the gradient's length clipped to 1 it goes the same way,
# but not far. Clipping limits the size of a step; it does nothing for a gradient that has vanished.

# %%
edge = torch.tensor(1.1, dtype=torch.float64, requires_grad=True)
(edge**30 - 0.5).square().backward()
rate = 0.05
jumped = (edge - rate * edge.grad).item()
clipped = (edge - rate * edge.grad / max(1.0, edge.grad.norm())).item()
print(f"  gradient {edge.grad.item():.4g}: from w = {edge.item():.2f} to {jumped:.4g}, clipped to {clipped:.4g}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
for (radius, sizes), shade in zip(linear.items(), ("lightgray", "gray", "black"), strict=True):
    axes[0].plot(distances, sizes, color=shade, label=f"spectral radius {radius}")
axes[0].set(yscale="log", xlabel="steps back, k", ylabel="size of U^k", title="Powers of a matrix vanish or explode")
colours = dict(zip(cells, ("tab:blue", "tab:orange", "tab:purple", "tab:green", "tab:red"), strict=True))
for name, sizes in reaches.items():
    axes[1].plot(sizes, color=colours[name], label=name)
axes[1].set(
    yscale="log", xlabel="steps back", ylabel="gradient, relative to the last step",
    title="Gates and orthogonal weights reach back", ylim=(1e-12, 20),
)  # fmt: skip
for name, scores in learned.items():
    axes[2].plot(delays, scores, marker="o", color=colours[name], label=name)
axes[2].axhline(1 / 8, color="gray", linestyle=":", label="guessing")
axes[2].set(xlabel="steps to remember", ylabel="accuracy", title="What reaches back can be learned", ylim=(0, 1.05))
for axis in axes:
    axis.legend(fontsize=8)
show(fig, "reach")

# %%
ratio = [linear[radius][99] / linear[radius][49] for radius in (0.8, 1.2)]
check("powers go as the spectral radius: 50 more steps shrink by 0.8^50", 0.2 < ratio[0] / 0.8**50 < 5)
check("and grow by 1.2^50", 0.2 < ratio[1] / 1.2**50 < 5)
usual, turned, gated = (reaches[name] for name in ("RNN, torch's init", "RNN, orthogonal", "LSTM, forget bias 4"))
check("torch's usual RNN has forgotten what lies 60 steps back", usual[60] < 1e-6)
check("orthogonal weights reach a million times further there", turned[60] > 1e6 * usual[60])
check("and so do gates that are open", gated[60] > 1e6 * usual[60])
check("over 5 steps every network learns to remember", min(scores[0] for scores in learned.values()) > 0.9)
check("over 40 steps the usual RNN only guesses", learned["RNN, torch's init"][2] < 0.4)
check("and gates that are half open are no better", learned["LSTM"][2] < 0.4)
check("while orthogonal weights remember", learned["RNN, orthogonal"][2] > 0.6)
check("and so do gates that start open", learned["LSTM, forget bias 4"][2] > 0.7)
check("at the cliff a step without clipping leaves the valley, a clipped one does not", jumped < 0 < clipped < 1.1)
