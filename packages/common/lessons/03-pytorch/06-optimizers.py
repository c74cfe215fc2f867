# %% [markdown]
# # Optimizers · 优化器
#
# Every optimizer answers one question: given the gradient, and what is remembered of earlier ones, where to next?
# Plain descent takes the gradient as it is. Momentum averages directions, so that zigzags cancel. RMSprop and Adam
# divide by the size that each weight's gradient usually has. AdamW shrinks weights beside that, not through it.
#
# The rules of dlcommon/pytorch_core/optimizers.py are written as their papers state them and follow torch.optim step
# by step. This lesson holds them to that, measures momentum's speed-up against theory, shows what Adam is blind to and
# why its weight decay had to be taken out of the gradient, and trains a small network on digits with each.
#
# 每个优化器都在回答同一个问题：已知当前梯度和对以往梯度的记忆，下一步往哪里走？普通梯度下降直接用梯度；
# 动量对方向取平均，让来回的锯齿相互抵消；RMSprop 与 Adam 再除以每个权重梯度的惯常大小；AdamW 则在此之外单独收缩权重。
#
# 这些更新规则都照论文写成，并与 torch.optim 逐步一致。本课验证这一点，把动量的加速同理论比较，
# 说明 Adam 对什么视而不见、为什么权重衰减必须从梯度里拿出来，最后在数字识别上逐一训练。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, seconds, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD, Adam, AdamW, RMSprop
from torch import nn

# %% [markdown]
# ## Step by step torch's · 与 torch 逐步一致
#
# The same network, batches and options; the largest difference between any two weights after any of 30 steps.


# %%
def small_network() -> nn.Module:
    network = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 4)).double()
    start = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=start)
    return network


def path(optimizer_class, options: dict) -> torch.Tensor:
    """All weights after each step, [30, weights]."""
    network, batches = small_network(), torch.Generator().manual_seed(2)
    optimizer, visited = optimizer_class(network.parameters(), **options), []
    for _ in range(30):
        inputs = torch.randn(16, 12, generator=batches, dtype=torch.float64)
        optimizer.zero_grad()
        cross_entropy(network(inputs), torch.randint(4, (16,), generator=batches)).backward()
        optimizer.step()
        visited.append(nn.utils.parameters_to_vector(network.parameters()).detach().clone())
    return torch.stack(visited)


rules = {
    "SGD": (SGD, torch.optim.SGD, {"lr": 0.1}),
    "weight decay": (SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "Nesterov": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "RMSprop": (RMSprop, torch.optim.RMSprop, {"lr": 0.01}),
    "Adam": (Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "AdamW": (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
}
paths = {name: (path(ours, options), path(theirs, options)) for name, (ours, theirs, options) in rules.items()}
table(
    ["rule", "options", "largest difference in 30 steps"],
    [(n, rules[n][2], (a - b).abs().max().item()) for n, (a, b) in paths.items()],
)

# %% [markdown]
# ## A long valley · 狭长的山谷
#
# f = (x² + 100·y²)/2. The steep direction limits the step, the flat one needs many. The error shrinks per step by
# (κ − 1)/(κ + 1) for descent and by (√κ − 1)/(√κ + 1) for momentum, with κ = 100 and the best constants (Polyak 1964).
# 条件数 κ 决定速度；动量把 κ 换成 √κ。

# %%
curvature = torch.tensor([1.0, 100.0], dtype=torch.float64)


def descend(optimizer_class, steps: int, start=(-8.0, 1.0), **options) -> torch.Tensor:
    """Positions [steps + 1, 2]."""
    position = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer, visited = optimizer_class([position], **options), [position.detach().clone()]
    for _ in range(steps):
        position.grad = curvature * position.detach()
        optimizer.step()
        visited.append(position.detach().clone())
    return torch.stack(visited)


kappa = 100.0
theory = {"descent": (kappa - 1) / (kappa + 1), "momentum": (kappa**0.5 - 1) / (kappa**0.5 + 1)}
best = {
    "descent": {"lr": 2 / (1 + kappa)},
    "momentum": {"lr": (2 / (1 + kappa**0.5)) ** 2, "momentum": theory["momentum"] ** 2},
}
measured = {}
for name, options in best.items():
    error = descend(SGD, 300, **options).norm(dim=1)
    measured[name] = ((error[300] / error[100]) ** (1 / 200)).item()
table(["method", "error shrinks per step, theory", "measured"], [(n, theory[n], measured[n]) for n in best])

# %% [markdown]
# ## What Adam does not see · Adam 看不到什么
#
# Dividing by the usual size of the gradient makes the step independent of the loss's scale: multiply the loss by 1000
# and Adam walks the same path, while SGD leaves the plane. The first step is the learning rate, whatever the gradient.
# Adam 的步长与损失的尺度无关。


# %%
def scaled(optimizer_class, scale: float, **options) -> torch.Tensor:
    position = torch.tensor([-8.0, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_class([position], **options)
    for _ in range(20):
        position.grad = scale * curvature * position.detach()
        optimizer.step()
    return position.detach()


adam_paths = [scaled(Adam, scale, lr=0.1) for scale in (1.0, 1000.0)]
sgd_paths = [scaled(SGD, scale, lr=0.01) for scale in (1.0, 1000.0)]
first_step = (descend(Adam, 1, lr=0.1)[1] - torch.tensor([-8.0, 1.0], dtype=torch.float64)).abs()
print("  Adam's first step:", first_step.tolist(), "with gradients of", (curvature * torch.tensor([8.0, 1.0])).tolist())

# %% [markdown]
# ## Weight decay inside and beside Adam · 权重衰减：在内还是在外
#
# 2,000 synthetic weights start at 1 and get pure noise for a gradient: half of them small noise, half large. Only
# decay moves them on average. In Adam, λ·w goes through the division with the rest, and weights with large gradients
# are hardly decayed. AdamW decays all alike: (1 − η·λ)ⁿ. AdamW 对所有权重的衰减相同。

# %%
noise_scale = torch.tensor([0.1, 10.0]).repeat_interleave(1000)
left_over = {}
for optimizer_class in (Adam, AdamW):
    weights = torch.ones(2000, requires_grad=True)
    optimizer, noise = optimizer_class([weights], lr=0.002, weight_decay=0.5), torch.Generator().manual_seed(3)
    for _ in range(300):
        weights.grad = noise_scale * torch.randn(2000, generator=noise)
        optimizer.step()
    left_over[optimizer_class.__name__] = weights.detach().reshape(2, 1000).mean(1).tolist()
expected = (1 - 0.002 * 0.5) ** 300
table(["optimizer", "mean weight, small gradients", "large gradients"], [(n, *v) for n, v in left_over.items()])
print(f"  (1 − η·λ)³⁰⁰ is {expected:.4f}")

# %% [markdown]
# ## On real digits · 在真实数字上
#
# The same network, the same 150 batches, a learning rate of each rule's own kind.

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:4000])


def training_losses(optimizer_class, options: dict) -> list[float]:
    network, order = nn.Sequential(nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 10)), torch.Generator().manual_seed(4)
    for layer in (network[0], network[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=order)
        nn.init.zeros_(layer.bias)
    optimizer, curve = optimizer_class(network.parameters(), **options), []
    for _ in range(150):
        rows = torch.randint(len(images), (64,), generator=order)
        optimizer.zero_grad()
        loss = cross_entropy(network(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


candidates = {
    "SGD 0.05": (SGD, {"lr": 0.05}),
    "momentum 0.9": (SGD, {"lr": 0.05, "momentum": 0.9}),
    "Nesterov 0.9": (SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "RMSprop 0.002": (RMSprop, {"lr": 0.002}),
    "AdamW 0.003": (AdamW, {"lr": 0.003}),
}
curves = {name: training_losses(*candidate) for name, candidate in candidates.items()}
final = {name: sum(curve[-30:]) / 30 for name, curve in curves.items()}
table(
    ["optimizer", "loss of the first 10 steps", "of the last 30"],
    [(n, sum(c[:10]) / 10, final[n]) for n, c in curves.items()],
)

figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.3))
u, v = torch.meshgrid(torch.linspace(-9, 3, 200), torch.linspace(-4.2, 4.2, 400), indexing="xy")
left.contour(u, v, (u**2 + 100 * v**2) / 2, levels=[1, 10, 40, 150, 400, 800], colors="lightgrey")
walks = {
    "descent": descend(SGD, 40, **best["descent"]),
    "momentum": descend(SGD, 40, **best["momentum"]),
    "RMSprop": descend(RMSprop, 40, lr=0.3, alpha=0.9),
    "Adam": descend(Adam, 40, lr=0.4),
}
for name, walk in walks.items():
    left.plot(walk[:, 0], walk[:, 1], ".-", linewidth=1, markersize=4, label=name)
left.set(
    xlim=(-9, 3),
    ylim=(-4.2, 4.2),
    xlabel="x (flat)",
    ylabel="y (100 times as steep)",
    title="40 steps in a long valley, constants of the table",
)
left.legend(loc="upper right")
for name, curve in curves.items():
    right.semilogy(*moving_average(curve, 10), label=name)
right.set(xlabel="step", ylabel="training loss (mean of ten steps)", title="The same network and batches of digits")
right.legend()
figure.tight_layout()
show(figure, "paths-and-losses")

# %% [markdown]
# ## What one step costs · 一步的代价
#
# Ours is a loop over parameters, as the papers are written; torch updates many tensors in one call (`foreach`). With
# many small tensors that shows. 参数很多时，torch 的批量更新更快。

# %%
many = [nn.Parameter(torch.randn(64, 64)) for _ in range(100)]
for parameter in many:
    parameter.grad = torch.ones_like(parameter)
ours, theirs = AdamW(many), torch.optim.AdamW(many, foreach=True)
times = {"ours": seconds(ours.step), "torch, foreach": seconds(theirs.step)}
table(["AdamW over 100 tensors", "ms a step"], [(name, 1e3 * time) for name, time in times.items()])

# %% [markdown]
# ## What holds · 结论

# %%
ours, theirs = (torch.stack([pair[side] for pair in paths.values()]) for side in (0, 1))
check_close("thirty steps of all seven are torch's", ours, theirs, 1e-9)
check(
    "descent and momentum are as fast as theory says, within one percent a step",
    all(abs(measured[n] / theory[n] - 1) < 0.01 for n in best),
)
check(
    "Adam's path does not depend on the loss's scale, SGD's does",
    (adam_paths[0] - adam_paths[1]).abs().max() < 1e-6 and sgd_paths[1].abs().max() > 1e3,
)
check("Adam's first step is the learning rate in every direction", (first_step - 0.1).abs().max() < 1e-6)
check("AdamW decays all weights alike, by (1 − ηλ) a step", all(abs(w - expected) < 0.03 for w in left_over["AdamW"]))
check(
    "Adam decays weights with large gradients far less than those with small ones",
    left_over["Adam"][0] < left_over["Adam"][1] - 0.2,
)
check(
    "on digits, momentum and AdamW end below plain descent",
    max(final["momentum 0.9"], final["AdamW 0.003"]) < final["SGD 0.05"],
)
