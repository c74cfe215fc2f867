# %% [markdown]
# # Dropout · 随机失活
#
# While a network trains, dropout sets a random share of its hidden units to zero at every step. No unit can rely on
# one particular other unit, and a network with n droppable units trains 2ⁿ networks that share their weights. When it
# is used, nothing is dropped: the whole network stands in for the average of all of them.
#
# This lesson holds dlcommon/neural_networks/dropout.py against torch, shows by counting all masks in which sense the
# whole network is an average and which penalty on the weights dropout is, then measures on few real digits what it
# does against overfitting, and what the spread of the thinned networks says about the digits they get wrong.
#
# 训练时，dropout 在每一步都把一部分隐藏单元随机置零。任何单元都不能只依赖某个特定的同伴；
# n 个可丢弃的单元等于同时训练 2ⁿ 个共享权重的网络。使用时什么都不丢，整个网络代表它们的平均。
#
# 本课把我们的实现与 torch 对照，用穷举所有掩码的方法说明“平均”的确切含义，以及 dropout 相当于对权重施加了怎样的惩罚；
# 然后在少量真实数字上测量它对过拟合的作用，并看看这些子网络之间的分歧能否揭示哪些数字容易认错。

# %%
import itertools

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.neural_networks.dropout import Dropout, dropout, monte_carlo_dropout
from dlcommon.neural_networks.initialization import init_weights, kaiming_normal_
from dlcommon.pytorch_core.losses import cross_entropy, mse_loss
from dlcommon.pytorch_core.optimizers import AdamW
from torch import nn
from torch.nn import functional as F

generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## The same mask, the same numbers as torch · 同样的掩码，与 torch 同样的数
#
# What is kept is divided by 1 − p, so that each unit keeps its mean. From one random state, values and gradients are
# torch's to the last bit. 保留下来的值除以 1 − p，期望不变。

# %%
x = torch.randn(1000, 50, generator=generator)
upstream = torch.randn(1000, 50, generator=generator)
results = []
for drop in (lambda x: dropout(x, 0.3), lambda x: F.dropout(x, 0.3)):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        inputs = x.clone().requires_grad_()
        outputs = drop(inputs)
    results.append((outputs.detach(), *torch.autograd.grad(outputs, inputs, upstream)))
(ours, our_gradient), (torchs, torchs_gradient) = results
dropped = (ours == 0).float().mean().item()
print(f"  dropped {dropped:.4f} of the elements; sum before {x.abs().sum():.0f}, after {ours.abs().sum():.0f}")

# %% [markdown]
# ## The average of 1024 networks · 1024 个网络的平均
#
# Ten hidden units, then a linear layer and softmax. Over all masks, the mean of the logits is the whole network's,
# and so the geometric mean of the 1024 predictions, normalized, is the whole network's prediction exactly
# (Srivastava et al. 2014). The arithmetic mean is not, but near. 几何平均恰好等于整个网络的预测。

# %%
share = 0.4
hidden = torch.rand(10, generator=generator, dtype=torch.float64)
readout = torch.randn(10, 5, generator=generator, dtype=torch.float64)
masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=10)), dtype=torch.float64)  # [1024, units]
probability = (share ** (1 - masks) * (1 - share) ** masks).prod(1)
thinned = (hidden * masks / (1 - share)) @ readout  # logits, [1024, classes]
whole = (hidden @ readout).softmax(0)
geometric = (probability @ thinned.log_softmax(1)).softmax(0)
arithmetic = probability @ thinned.softmax(1)
table(
    ["class", "whole network", "geometric mean", "arithmetic mean"],
    [(n, whole[n].item(), geometric[n].item(), arithmetic[n].item()) for n in range(5)],
)

# %% [markdown]
# ## A penalty in disguise · 伪装的惩罚项
#
# For a linear model with squared error, the loss averaged over all masks of the inputs is the loss without dropout
# plus p/(1 − p) · Σ wⱼ² · mean(xⱼ²): an L2 penalty that weighs each input by its size (Wager et al. 2013).
# 对线性模型，dropout 就是按输入大小加权的 L2 惩罚。

# %%
features = torch.randn(30, 10, generator=generator, dtype=torch.float64) * torch.linspace(0.2, 2, 10)
goal = torch.randn(30, generator=generator, dtype=torch.float64)
w = torch.randn(10, generator=generator, dtype=torch.float64).requires_grad_()
noisy = torch.stack([mse_loss(features * mask / (1 - share) @ w, goal) for mask in masks])
over_masks = probability @ noisy
penalized = mse_loss(features @ w, goal) + share / (1 - share) * (w.square() * features.square().mean(0)).sum()
(slope_over_masks,) = torch.autograd.grad(over_masks, w)
(slope_penalized,) = torch.autograd.grad(penalized, w)
print(f"  mean over 1024 masks {over_masks.item():.6f}, loss with the penalty {penalized.item():.6f}")

# %% [markdown]
# ## Few digits, many weights · 样本少，权重多
#
# 1000 real images and 235,000 weights: the plain network soon knows its images by heart, and grows ever more certain
# where it is wrong. The same network with dropout, of 0.5 of the hidden units and 0.2 of the pixels, starts from the
# same weights and sees the same batches. 权重远多于样本时，dropout 推迟了死记硬背。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:1000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:1000])
tests = torch.from_numpy(digits.test_images[:1000]).float().flatten(1) / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])


def trained(share: float, epochs: int = 24) -> tuple[nn.Module, torch.Tensor]:
    """The network, and its loss on training and test images after each epoch, [epochs, 2]."""
    network = nn.Sequential(
        Dropout(0.4 * share), nn.Linear(784, 256), nn.ReLU(),
        Dropout(share), nn.Linear(256, 128), nn.ReLU(),
        Dropout(share), nn.Linear(128, 10),
    )  # fmt: skip
    order = torch.Generator().manual_seed(2)
    init_weights(network, kaiming_normal_, order)
    optimizer, curve = AdamW(network.parameters(), lr=3e-3, weight_decay=0), []
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(images), generator=order).split(100):
            optimizer.zero_grad()
            cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            pairs = ((images, labels), (tests, test_labels))
            curve.append([cross_entropy(network(some), right).item() for some, right in pairs])
    return network, torch.tensor(curve)


runs = {share: trained(share) for share in (0.0, 0.5)}
table(
    ["share dropped", "training loss", "test loss, last", "test loss, best", "test accuracy"],
    [
        (
            share,
            curve[-1, 0].item(),
            curve[-1, 1].item(),
            curve[:, 1].min().item(),
            (network(tests).argmax(1) == test_labels).float().mean().item(),
        )
        for share, (network, curve) in runs.items()
    ],
)

# %% [markdown]
# ## Asking the thinned networks · 询问子网络
#
# Left on at test time, dropout gives many opinions of one image (Gal & Ghahramani 2016). Here is how often the mean
# opinion is wrong, for the test images from the most to the least agreed upon. 分歧大的图像更容易认错。

# %%
network = runs[0.5][0]
opinions = monte_carlo_dropout(network, tests, num_samples=50).softmax(2)  # [samples, images, classes]
mean = opinions.mean(0)
wrong = mean.argmax(1) != test_labels
# Mutual information of class and mask: the entropy of the mean less the mean entropy, in nats.
disagreement = torch.special.entr(mean).sum(1) - torch.special.entr(opinions).sum(2).mean(0)
fifths = disagreement.argsort().chunk(5)
errors = [wrong[rows].float().mean().item() for rows in fifths]
table(
    ["images", "mean disagreement, nats", "wrong"],
    [(f"fifth {n}", disagreement[rows].mean().item(), errors[n - 1]) for n, rows in enumerate(fifths, start=1)],
)

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for (share, (_, curve)), colour in zip(runs.items(), ("tab:red", "tab:blue"), strict=True):
    name = f"dropout {share}" if share else "no dropout"
    left.plot(range(1, len(curve) + 1), curve[:, 1], color=colour, label=f"{name}, test")
    left.plot(range(1, len(curve) + 1), curve[:, 0], "--", color=colour, linewidth=1, label=f"{name}, training")
left.set(title="1000 images: dropout delays learning by heart", xlabel="epoch", ylabel="cross-entropy", ylim=(0, 0.9))
left.legend()
right.bar(range(1, 6), [100 * share for share in errors], color="tab:blue")
right.set(
    title="Where 50 thinned networks disagree, they are often wrong",
    xlabel="fifth of the test images, by disagreement",
    ylabel="wrong, %",
)
show(figure, "overfitting-and-disagreement")

# %%
check("values are torch's to the last bit", torch.equal(ours, torchs))
check("gradients are torch's to the last bit", torch.equal(our_gradient, torchs_gradient))
check_close("the geometric mean of 1024 networks is the whole one", geometric, whole, tolerance=1e-12)
check("their arithmetic mean is not", (arithmetic - whole).abs().max() > 1e-3)
check_close("averaged over masks, dropout is a penalty", over_masks, penalized, tolerance=1e-12)
check_close("its gradient is the penalty's", slope_over_masks, slope_penalized, tolerance=1e-10)
plain, with_dropout = runs[0.0][1], runs[0.5][1]
check("dropout fits the training images less", with_dropout[-1, 0] > 2 * plain[-1, 0])
check("and loses less on the test images in the end", with_dropout[-1, 1] < plain[-1, 1] - 0.02)
check("the most disputed fifth holds most of the errors", errors[-1] > sum(errors[:-1]))
