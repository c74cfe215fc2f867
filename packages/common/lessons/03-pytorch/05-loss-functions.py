# %% [markdown]
# # Loss functions · 损失函数
#
# A loss says what a mistake costs, and its gradient says what the network hears about it. Squared error listens to
# the loudest outlier, absolute error to the majority; cross-entropy punishes confident mistakes without limit; focal
# loss turns down what is easy. Each is the negative log-likelihood of some assumption, or a deliberate bend of one.
#
# The losses of dlcommon/pytorch_core/losses.py are written from their definitions. Here they are held against torch's
# and torchvision's, in value and gradient, shown to survive logits that break the textbook formula, and put to work:
# a line through data with outliers, rare positives among many negatives, and overconfident predictions on real digits.
#
# 损失函数规定一个错误的代价，它的梯度则是网络听到的反馈。平方误差听命于最离谱的点，绝对误差听从多数；
# 交叉熵对自信的错误惩罚不设上限；焦点损失把容易的样本调低音量。每种损失都是某个假设下的负对数似然，或对它有意的修改。
#
# 这些损失都按定义从零写成。本课把它们的数值与梯度同 torch、torchvision 对照，
# 证明它们在教科书公式失效的大 logit 下依然有效，并实际使用：
# 带离群点的直线拟合、极少的正样本，以及真实数字上过度自信的预测。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.pytorch_core import losses
from dlcommon.pytorch_core.optimizers import SGD, AdamW
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Equal to the references · 与参考实现一致
#
# Values and gradients, float64, random inputs. 数值与梯度都要一致。


# %%
def value_and_gradient(loss, inputs):
    inputs = inputs.detach().clone().requires_grad_()
    value = loss(inputs)
    (gradient,) = torch.autograd.grad(value, inputs)
    return torch.cat([value.detach().reshape(1), gradient.flatten()])


numbers, goals = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
classes = torch.tensor([0, 3, 1, -100, 4, 2])  # −100: does not count
soft, binary = goals.softmax(1), (goals > 0).double()
pairs = {
    "MSE": (losses.mse_loss, F.mse_loss, goals),
    "MAE": (losses.l1_loss, F.l1_loss, goals),
    "Huber": (losses.huber_loss, F.huber_loss, goals),
    "cross-entropy": (losses.cross_entropy, F.cross_entropy, classes),
    "cross-entropy of probabilities": (losses.cross_entropy, F.cross_entropy, soft),
    "label smoothing": (
        lambda x, y: losses.cross_entropy(x, y, label_smoothing=0.1),
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
        classes,
    ),
    "BCE with logits": (losses.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits, soft),
    "focal": (losses.sigmoid_focal_loss, lambda x, y: sigmoid_focal_loss(x, y, reduction="mean"), binary),
}
compared = {
    name: [value_and_gradient(lambda x, loss=loss, y=y: loss(x, y), numbers) for loss in (ours, theirs)]
    for name, (ours, theirs, y) in pairs.items()
}
table(
    ["loss", "value", "largest difference of value or gradient"],
    [(n, o[0].item(), (o - t).abs().max().item()) for n, (o, t) in compared.items()],
)

# %% [markdown]
# ## The formula in the textbook overflows · 教科书公式会溢出
#
# log Σ eˣ overflows for x > 88 in float32, and log σ(x) is log 0 below −104. Taking out the largest logit first, or
# writing −log σ(x) as log(e⁰ + e⁻ˣ), costs nothing. This is why losses take logits. 因此损失函数都应直接接收 logit。

# %%
extreme = torch.tensor([[120.0, 0.0, -120.0]])
textbook = -(extreme.exp() / extreme.exp().sum()).log()[0]
stable = -losses.log_softmax(extreme)[0]
confident = torch.tensor([-20.0])  # right, and sure of it: the loss is e⁻²⁰
tiny = losses.binary_cross_entropy_with_logits(confident, torch.zeros(1)).item()
table(["class", "−log softmax, textbook", "ours"], [(n, textbook[n].item(), stable[n].item()) for n in range(3)])
naive = (1 - confident.sigmoid()).log().abs().item()
print(f"  BCE of a sure, right answer: {tiny:.3e}; by −log(1 − sigmoid(x)): {naive:.1e}")

# %% [markdown]
# ## Outliers: mean, median, and between · 离群点：均值、中位数与折中
#
# A line through 60 synthetic points, of which every eighth was measured wrongly. 合成数据：每八个点就有一个测错。

# %%
x = torch.linspace(-1, 1, 60)
y = 2 * x + 0.1 * torch.randn(60, generator=generator)
y[::8] += 8 * (x[::8] > 0)  # errors that all point up, on the right
regression = {"MSE": losses.mse_loss, "MAE": losses.l1_loss, "Huber": losses.huber_loss}
lines = {}
for name, loss in regression.items():
    line = torch.zeros(2, requires_grad=True)
    optimizer = SGD([line], lr=0.1, momentum=0.9)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimizer.zero_grad()
        loss(line[0] * x + line[1], y).backward()
        optimizer.step()
    lines[name] = line.detach()
table(["loss", "slope (true: 2)", "intercept (true: 0)"], [(n, *line.tolist()) for n, line in lines.items()])

# %% [markdown]
# ## Rare positives: what the gradient is made of · 稀有正样本
#
# Find one digit among all: one image in ten is a positive. After a little training most negatives are easy, yet
# together they still speak. Here is the share of the whole gradient that comes from the easiest half of the images,
# under binary cross-entropy and under focal loss. 焦点损失降低了容易样本在梯度中的比重。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:3000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:3000])
tests = torch.from_numpy(digits.test_images[:1000]).float().flatten(1) / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])


def trained(network: nn.Module, loss, targets: torch.Tensor, epochs: int) -> nn.Module:
    optimizer = AdamW(network.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=order).split(100):
            optimizer.zero_grad()
            loss(network(images[rows]), targets[rows]).backward()
            optimizer.step()
    return network


is_eight = (labels == 8).float().unsqueeze(1)
detector = trained(nn.Linear(784, 1), losses.binary_cross_entropy_with_logits, is_eight, epochs=3)
logits = detector(images).detach().requires_grad_()
easiest = (
    losses.binary_cross_entropy_with_logits(logits, is_eight, reduction="none").detach().flatten().argsort()[:1500]
)
shares = {}
for gamma in (0.0, 1.0, 2.0, 5.0):
    total = losses.sigmoid_focal_loss(logits, is_eight, alpha=None, gamma=gamma, reduction="sum")
    (gradient,) = torch.autograd.grad(total, logits)
    shares[gamma] = (gradient[easiest].abs().sum() / gradient.abs().sum()).item()
table(["gamma", "gradient from the easiest half"], shares.items())

# %% [markdown]
# ## Label smoothing: less sure of itself · 标签平滑：不那么自信
#
# Targets of 0.91 and 0.01 can be reached with finite logits; targets of 1 and 0 cannot, so the network goes on growing
# its logits. 硬标签永远达不到，logit 会不断变大。


# %%
def network(seed: int = 2) -> nn.Module:
    layers = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    weights = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in (layers[0], layers[2]):
            layer.weight.normal_(0, (2 / layer.in_features) ** 0.5, generator=weights)
            layer.bias.zero_()
    return layers


smoothed = {}
for smoothing in (0.0, 0.1):
    fitted = trained(
        network(), lambda z, t, s=smoothing: losses.cross_entropy(z, t, label_smoothing=s), labels, epochs=8
    )
    with torch.no_grad():
        probabilities = fitted(tests).softmax(1)
    right = probabilities.argmax(1) == test_labels
    smoothed[smoothing] = (right.float().mean().item(), probabilities.amax(1))
table(
    ["label smoothing", "accuracy", "median confidence"], [(s, a, c.median().item()) for s, (a, c) in smoothed.items()]
)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 3.9))
axes[0].plot(x, y, "k.", markersize=4)
for name, line in lines.items():
    axes[0].plot(x, line[0] * x + line[1], label=f"{name}: slope {line[0]:.1f}")
axes[0].set(xlabel="x", ylabel="y", title="Squared error follows the outliers")
probability = torch.linspace(0.01, 0.999, 300)
for gamma in shares:
    curve = losses.sigmoid_focal_loss(probability.logit(), torch.ones(300), alpha=None, gamma=gamma, reduction="none")
    axes[1].plot(probability, curve, label=f"gamma {gamma:g}" + (" (cross-entropy)" if gamma == 0 else ""))
axes[1].set(
    xlabel="probability given to the truth", ylabel="loss", ylim=(0, 5), title="Focal loss turns down what is easy"
)
for smoothing, (_, confidence) in smoothed.items():
    axes[2].hist(confidence.numpy(), bins=40, range=(0.2, 1), alpha=0.6, label=f"smoothing {smoothing:g}")
axes[2].set(
    xlabel="probability of the predicted digit", ylabel="test digits", title="Smoothed targets: less sure of itself"
)
for axis in axes:
    axis.legend()
figure.tight_layout()
show(figure, "losses")

# %% [markdown]
# ## What holds · 结论

# %%
ours, theirs = (torch.cat([pair[side] for pair in compared.values()]) for side in (0, 1))
check_close("values and gradients of all eight are the references'", ours, theirs, 1e-12)
check(
    "the textbook's softmax breaks at 120, ours is exact",
    not textbook.isfinite().all() and stable.tolist() == [0.0, 120.0, 240.0],
)
check("the loss of a sure, right answer keeps its digits", abs(tiny / 2.0611536e-9 - 1) < 1e-4)
off = {name: abs(line[0].item() - 2) for name, line in lines.items()}
check(
    "outliers pull the squared error's slope off by over 0.5, the others' less",
    off["MSE"] > 0.5 > max(off["MAE"], off["Huber"]),
)
check("focal loss takes at least half of the easy images' share of the gradient", shares[2.0] < 0.5 * shares[0.0])
(plain, sure), (smooth, unsure) = smoothed.values()
check("label smoothing lowers confidence", unsure.median() < sure.median() - 0.02)
check("and costs no more than two points of accuracy", smooth > plain - 0.02)
