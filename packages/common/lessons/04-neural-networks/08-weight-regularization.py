# %% [markdown]
# # Weight regularization: L1 and L2 · 权重正则化：L1 与 L2
#
# A model that fits few samples with many weights does so with large weights that cancel each other. A penalty on
# their size makes it choose the smallest weights that still explain the data. L2, the sum of squares, shrinks all of
# them; L1, the sum of absolute values, takes many to exactly zero. Both trade a little bias for much less variance.
#
# This lesson follows the weights of a house-price model as the penalty grows, equal to scikit-learn's Ridge and
# Lasso; shows why gradient descent on L1 never arrives at zero, and the one-line step that does; and measures what
# both do to a network that has far more weights than images.
#
# 用很少的样本拟合很多权重时，模型会用互相抵消的大权重来记住数据。惩罚权重的大小，
# 就迫使它选择仍能解释数据的最小权重。L2（平方和）让所有权重都变小，L1（绝对值之和）让许多权重恰好为零；
# 二者都用少量偏差换取小得多的方差。
#
# 本课观察房价模型的权重如何随惩罚增大而变化，并与 scikit-learn 的 Ridge、Lasso 对照；
# 说明为什么对 L1 做梯度下降永远到不了零，以及一行代码的近端步骤如何做到；最后测量两者对一个权重远多于图像的网络的作用。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.neural_networks.initialization import init_weights, kaiming_normal_
from dlcommon.neural_networks.regularization import (
    l1_penalty,
    l2_penalty,
    lasso_path,
    param_groups_weight_decay,
    proximal_l1_step_,
    ridge_path,
)
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD
from sklearn.linear_model import Lasso, Ridge
from torch import nn

# %% [markdown]
# ## Sixty houses, twenty features · 60 套房，20 个特征
#
# Logarithms of real prices, features scaled to mean 0 and variance 1 on the sixty houses; all other houses are the
# test. Scaling comes first: a penalty compares weights, so that their features must be in one unit. (The best
# strength is read off the test houses here, to show what there is to win; a model is chosen by cross-validation.)
# 惩罚比较的是权重的大小，所以特征必须先标准化。

# %%
columns = """LotArea OverallCond YearBuilt YearRemodAdd BsmtFinSF1 BsmtUnfSF TotalBsmtSF GrLivArea BsmtFullBath FullBath
HalfBath BedroomAbvGr TotRmsAbvGrd Fireplaces GarageCars GarageArea WoodDeckSF OpenPorchSF MoSold YrSold""".split()
houses = data("house-prices", "ames")
numbers = houses.train[columns].fillna(0).to_numpy(dtype=np.float64)
prices = np.log(houses.train[houses.target].to_numpy(dtype=np.float64))
order = np.random.default_rng(0).permutation(len(prices))
few, rest = order[:60], order[60:]
X = (numbers - numbers[few].mean(0)) / numbers[few].std(0)
y = prices - prices[few].mean()

all_zero_from = 1.01 * np.abs(X[few].T @ y[few]).max() / len(few)
strengths = {"ridge": np.geomspace(1e4, 1e-2, 40), "lasso": np.geomspace(all_zero_from, all_zero_from / 1e4, 40)}
paths = {
    "ridge": ridge_path(X[few], y[few], strengths["ridge"]),
    "lasso": lasso_path(X[few], y[few], strengths["lasso"]),
}
references = {
    "ridge": [Ridge(alpha=alpha).fit(X[few], y[few]).coef_ for alpha in strengths["ridge"]],
    "lasso": [
        Lasso(alpha=alpha, tol=1e-10, max_iter=1_000_000).fit(X[few], y[few]).coef_ for alpha in strengths["lasso"]
    ],
}
errors = {name: ((X[rest] @ path.T - y[rest, None]) ** 2).mean(0) ** 0.5 for name, path in paths.items()}
least_squares = np.linalg.lstsq(X[few], y[few], rcond=None)[0]
plain_error = float(((X[rest] @ least_squares - y[rest]) ** 2).mean() ** 0.5)
used = (paths["lasso"] != 0).sum(1)  # [strengths]
best = {name: int(error.argmin()) for name, error in errors.items()}
table(
    ["penalty", "best strength", "weights not 0", "error on other houses (log price)"],
    [
        ("none", 0.0, len(columns), plain_error),
        *[
            (name, strengths[name][n], int((paths[name][n] != 0).sum()), float(errors[name][n]))
            for name, n in best.items()
        ],
    ],
)
print("  first to enter the lasso:", ", ".join(columns[j] for j in np.flatnonzero(paths["lasso"][used >= 4][0])))

# %% [markdown]
# ## Getting to zero · 到达零
#
# The slope of λ|w| is ±λ however small w is: a gradient step jumps over 0, and back. The proximal step shrinks every
# weight by learning rate · λ and stops at 0. Both descend from the same start; only one arrives. 近端步骤才能真正到零。

# %%
alpha = float(strengths["lasso"][10])
inputs, goals = torch.from_numpy(X[few]), torch.from_numpy(y[few])
rate = len(few) / torch.linalg.matrix_norm(inputs, 2).item() ** 2  # 1 / the largest curvature
arrivals = {}
for method in ("gradient", "proximal"):
    w = torch.zeros(len(columns), dtype=torch.float64, requires_grad=True)
    optimizer = SGD([w], lr=rate)
    for _ in range(2000):
        optimizer.zero_grad()
        loss = (inputs @ w - goals).square().mean() / 2
        (loss + alpha * l1_penalty([w]) if method == "gradient" else loss).backward()
        optimizer.step()
        if method == "proximal":
            proximal_l1_step_([w], rate * alpha)
    arrivals[method] = w.detach().numpy()
zeros = {method: int((w == 0).sum()) for method, w in arrivals.items()}
table(["steps on", "weights exactly 0 (of 20)"], zeros.items())

# %% [markdown]
# ## Weight decay is L2 · 权重衰减就是 L2
#
# In plain SGD, adding λ/2 · Σw² to the loss and `weight_decay` λ are one and the same. (In Adam they are not: see
# lesson 03/06.) Biases and the scales of normalizations are left out: `param_groups_weight_decay` says which is which.


# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:300]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:300])
tests = torch.from_numpy(digits.test_images[:1000]).float().flatten(1) / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])


def trained(l2: float = 0.0, l1: float = 0.0, l2_in_loss: float = 0.0, epochs: int = 80) -> nn.Sequential:
    network, batches = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)), torch.Generator().manual_seed(2)
    init_weights(network, kaiming_normal_, batches)
    matrices = [network[0].weight, network[2].weight]
    optimizer = SGD(param_groups_weight_decay(network, l2), lr=0.3)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.3 * (1 - epoch / epochs)
        for rows in torch.randperm(len(images), generator=batches).split(50):
            optimizer.zero_grad()
            loss = cross_entropy(network(images[rows]), labels[rows])
            (loss + l2_in_loss * l2_penalty(matrices) if l2_in_loss else loss).backward()
            optimizer.step()
            if l1:
                proximal_l1_step_(matrices, optimizer.param_groups[0]["lr"] * l1)
    return network


decayed = trained(l2=0.01, epochs=5)[0].weight
penalized = trained(l2_in_loss=0.01, epochs=5)[0].weight

# %% [markdown]
# ## A network of 51,000 weights, 300 digits · 五万个权重，三百张图
#
# How far apart are training and test loss, and how many weights are left? 正则化缩小了训练与测试之间的差距。

# %%
settings = {
    "none": {},
    **{f"L2 {l2}": {"l2": l2} for l2 in (0.003, 0.01, 0.04)},
    **{f"L1 {l1}": {"l1": l1} for l1 in (0.0003, 0.001, 0.002)},
}
networks = {name: trained(**setting) for name, setting in settings.items()}
measured = {}
for name, network in networks.items():
    with torch.no_grad():
        logits = network(tests)
        weights = torch.cat([network[0].weight.flatten(), network[2].weight.flatten()])
        measured[name] = {
            "training loss": cross_entropy(network(images), labels).item(),
            "test loss": cross_entropy(logits, test_labels).item(),
            "test accuracy": (logits.argmax(1) == test_labels).float().mean().item(),
            "norm of the weights": weights.norm().item(),
            "share at 0": (weights == 0).float().mean().item(),
        }
table(["penalty", *measured["none"]], [(name, *row.values()) for name, row in measured.items()])

figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
for axis, name in zip(axes, paths, strict=False):
    axis.semilogx(strengths[name], paths[name], linewidth=1)
    axis.axvline(strengths[name][best[name]], color="grey", linestyle=":", linewidth=1)
    axis.set(xlabel="strength of the penalty (dotted: best)", ylabel="weight")
axes[0].set_title("Ridge shrinks all 20 weights together")
axes[1].set_title("The lasso takes them away one by one")
for name, error in errors.items():
    axes[2].semilogx(strengths[name] / strengths[name].max(), error, label=name)
axes[2].axhline(plain_error, color="grey", linestyle=":", label="no penalty")
axes[2].set(
    title="At the right strength, other houses fit better",
    xlabel="strength, relative to the largest",
    ylabel="error of log price",
)
axes[2].legend()
show(figure, "paths")

figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
for axis, name in zip(axes, ("none", "L2 0.01", "L1 0.002"), strict=True):
    size = networks[name][0].weight.detach().abs().sum(0).reshape(28, 28)
    picture = axis.imshow(size.where(size > 0, torch.nan).numpy(), cmap="viridis", vmin=0)
    figure.colorbar(picture, ax=axis, shrink=0.8)
    axis.set(title=f"{name}: {int((size > 0).sum())} of 784 pixels used", xticks=[], yticks=[])
figure.suptitle("Σ|w| of the first layer, by pixel (white: exactly 0)")
show(figure, "pixels")

# %%
check_close("the ridge path is scikit-learn's", paths["ridge"], references["ridge"], tolerance=1e-8)
check_close("the lasso path is scikit-learn's", paths["lasso"], references["lasso"], tolerance=1e-5)
check("the lasso's first weights are all 0, ridge's never are", used[0] == 0 and (paths["ridge"] != 0).all())
check("both predict other houses better than no penalty", max(e.min() for e in errors.values()) < plain_error)
check("gradient steps on L1 reach 0 nowhere", zeros["gradient"] == 0)
check_close("proximal steps end at the lasso", arrivals["proximal"], paths["lasso"][10], tolerance=1e-5)
check("with the same weights at 0", ((arrivals["proximal"] == 0) == (paths["lasso"][10] == 0)).all())
check_close("L2 in the loss is weight decay in SGD", penalized, decayed, tolerance=1e-4)
check("L2 lowers the test loss", measured["L2 0.01"]["test loss"] < measured["none"]["test loss"] - 0.03)
check("too much of it fits worse than little", measured["L2 0.04"]["test loss"] > measured["L2 0.01"]["test loss"])
check("L1 takes more than half of the weights away", measured["L1 0.001"]["share at 0"] > 0.5)
check(
    "at hardly any loss of accuracy", measured["L1 0.001"]["test accuracy"] > measured["none"]["test accuracy"] - 0.03
)
