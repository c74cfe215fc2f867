# %% [markdown]
# # Entropy and divergence · 熵与 KL 散度
#
# Entropy is the number of bits that a message needs at best; cross-entropy is what it costs with a code made for
# another distribution; their difference, the KL divergence, is the price of being wrong. A classifier is trained to pay
# as little as possible: its loss is a cross-entropy, and cannot fall below the entropy of the labels.
#
# This lesson measures these on real digits, and shows what the asymmetry of KL does when a model is too simple
# (`dlcommon.mathematics.information`). To look things up:
# [docs/PROBABILITY_FOR_DL.md](../../../../docs/PROBABILITY_FOR_DL.md) 速查文档：概率论与信息论。
#
# 熵是编码一条消息最少需要的比特数；交叉熵是用另一个分布的编码所付的代价；两者之差就是 KL 散度，即“信错分布”的损失。分类
# 器的训练目标就是交叉熵，它不可能低于标签本身的熵。本课在真实手写数字上测量这些量，计算每个像素与数字类别之间的互信息，
# 并展示模型过于简单时，KL 散度的不对称性会带来什么后果。

# %%
import matplotlib.pyplot as plt
import numpy as np
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.course.smoothing import moving_average
from dlcommon.mathematics import functional as F
from dlcommon.mathematics.autograd import Variable
from dlcommon.mathematics.information import (
    cross_entropy,
    entropy,
    gaussian_kl,
    js_divergence,
    kl_divergence,
    mutual_information,
)

random = np.random.default_rng(0)
BIT = np.log(2)  # the functions answer in nats

# %% [markdown]
# ## Entropy is a code's length · 熵就是编码长度
#
# $H(p) = -\sum_i p_i \log p_i$. A code that spends $-\log_2 p_i$ bits on symbol $i$ reaches it. Spend the lengths of
# another distribution $q$, and the same message costs $H(p, q) = H(p) + \mathrm{KL}(p \Vert q)$.

# %%
weather = np.array([0.5, 0.25, 0.125, 0.125])
uniform = np.full(4, 0.25)
lengths = -np.log2(weather)  # 1, 2, 3, 3 bits: the code 0, 10, 110, 111
message = random.choice(4, size=50_000, p=weather)
bits = float(lengths[message].mean())
table(
    ["bits a symbol", ""],
    [
        ["entropy", float(entropy(weather) / BIT)],
        ["measured with its own code", bits],
        ["with a code of equal lengths", float(cross_entropy(weather, uniform) / BIT)],
        ["the difference, KL", float(kl_divergence(weather, uniform) / BIT)],
    ],
)

# %% [markdown]
# ## What a pixel tells · 一个像素能告诉我们什么
#
# Mutual information $I(X; Y) = \mathrm{KL}(p(x, y) \Vert p(x) p(y))$ is how much a look at $X$ saves in guessing $Y$.
# One black-or-white pixel can tell at most one bit of the 3.32 that a digit has.

# %%
digits = data("mnist", "mnist-sample")
train, labels = digits.train_images[:4000].reshape(4000, 784) / 255.0, digits.train_labels[:4000]
test, test_labels = digits.test_images[:1000].reshape(-1, 784) / 255.0, digits.test_labels[:1000]
one_hot = np.eye(10)[labels]
white = (train > 0.5).T @ one_hot / len(train)  # [pixels, classes], p(white, class)
joint = np.stack([one_hot.mean(0) - white, white], axis=1)  # [pixels, 2, classes]
told = mutual_information(joint) / BIT
label_bits = float(entropy(one_hot.mean(0)) / BIT)
print(f"  label: {label_bits:.2f} bits; the best pixel tells {told.max():.2f}, the median one {np.median(told):.3f}")

# %% [markdown]
# ## KL is not symmetric · KL 散度不对称
#
# Fit one Gaussian to a mixture of two. $\mathrm{KL}(p \Vert q)$, which maximum likelihood minimizes, punishes
# $q \approx 0$ where $p$ has mass: the fit covers both modes. $\mathrm{KL}(q \Vert p)$, which variational inference
# minimizes, punishes mass where $p \approx 0$: the fit picks one mode. Blurred images of one kind of generator and
# missing modes of another are these two faces.
#
# 前向 KL 让拟合覆盖所有峰，反向 KL 让拟合只选一个峰。

# %%
line = np.linspace(-9, 9, 721)


def bell(mean, std):
    density = np.exp(-0.5 * ((line - mean) / std) ** 2)
    return density / density.sum()


target = 0.6 * bell(-2.5, 0.8) + 0.4 * bell(2.5, 1.0)
candidates = [(mean, std) for mean in np.linspace(-4, 4, 81) for std in np.linspace(0.5, 4, 36)]
shapes = np.stack([bell(*candidate) for candidate in candidates])  # [candidates, points]
shapes = np.maximum(shapes, 1e-300) / np.maximum(shapes, 1e-300).sum(1, keepdims=True)  # far tails are not impossible
covering = candidates[int(kl_divergence(target, shapes).argmin())]
seeking = candidates[int(kl_divergence(shapes, target).argmin())]
moments = float((target * line).sum()), float(np.sqrt((target * line**2).sum() - (target * line).sum() ** 2))
table(
    ["fit", "mean", "std"],
    [
        ["KL(p‖q): covers", *map(float, covering)],
        ["KL(q‖p): picks", *map(float, seeking)],
        ["moments of the target", *moments],
    ],
)

# %% [markdown]
# Two bells that move apart: KL grows without bound and is infinite without overlap; Jensen–Shannon, the divergence of
# the first GANs, levels off at $\log 2$ and then gives no gradient, which is the reason for the Wasserstein distance.

# %%
distances = np.linspace(0, 7, 29)
narrow = [(bell(-d / 2, 0.5), bell(d / 2, 0.5)) for d in distances]
js = np.array([float(js_divergence(p, q)) for p, q in narrow])
kl = np.array([float(gaussian_kl(np.array(-d / 2), np.array(0.5), d / 2, 0.5)) for d in distances])

# %% [markdown]
# ## The loss of a classifier · 分类损失
#
# With labels one-hot, $H(p, q)$ is $-\log q_y$. Its gradient with respect to the logits is $q - p$: how much too much,
# class by class. If a fifth of the labels are replaced by others, nobody can do better on labels of that kind than the
# entropy of the noise, $-0.8 \log 0.8 - 0.2 \log(0.2 / 9)$, however good the classifier.
#
# Two classifiers, one trained on true labels and one on noisy ones, are asked about unseen images whose labels are
# noisy as well. Which pays less? The one that knows the digits better, or the one that has learned how far labels can
# be trusted? Three draws of the noise.
#
# 标签为 one-hot 时，交叉熵就是 $-\log q_y$，它对 logits 的梯度是 $q - p$。
# 若五分之一的标签被换成别的类别，任何分类器在这种标签上的损失都不可能低于噪声的熵。
# 两个分类器，一个用真标签训练，一个用带噪标签训练，在带噪标签的新图片上，谁付出的代价更小？


# %%
def replace_a_fifth(labels, random):
    """With probability 0.2 a label becomes one of the nine others, each equally likely."""
    others = (labels + random.integers(1, 10, size=len(labels))) % 10
    return np.where(random.random(len(labels)) < 0.2, others, labels)


def fit(targets, random):
    """Trains a linear classifier for four epochs; returns its loss at each step and its test probabilities."""
    w, b, curve = Variable(np.zeros((784, 10))), Variable(np.zeros(10)), []
    for _ in range(4):
        for batch in random.permutation(4000).reshape(-1, 100):
            loss = F.cross_entropy(train[batch] @ w + b, targets[batch])
            w.grad = b.grad = None
            loss.backward()
            w.data, b.data = w.data - 0.3 * w.grad, b.data - 0.3 * b.grad
            curve.append(float(loss.data))
    return curve, F.softmax(Variable(test @ w.data + b.data)).data


floor = float(entropy(np.array([0.8, *[0.2 / 9] * 9])))
rows, paid, right, curves = [], [], [], {}
for seed in range(3):
    noise = np.random.default_rng(seed)
    noisy_test = replace_a_fifth(test_labels, noise)
    for name, targets in (("true labels", labels), ("a fifth replaced", replace_a_fifth(labels, noise))):
        curve, beliefs = fit(targets, noise)
        curves.setdefault(name, curve)
        paid.append(float(-np.log(beliefs[np.arange(len(test)), noisy_test]).mean()))
        right.append(float((beliefs.argmax(1) == test_labels).mean()))
        rows.append((seed, name, right[-1], float(beliefs.max(1).mean()), paid[-1]))
table(["seed", "trained on", "digits right", "mean confidence", "loss on noisy labels"], rows)
paid, right = np.reshape(paid, (3, 2)), np.reshape(right, (3, 2))  # [seeds, true or noisy]
print(f"  entropy of the noise: {floor:.3f}")

# %% [markdown]
# The better classifier pays more: it is sure, and a fifth of the time it is surely wrong. The other recognizes somewhat
# fewer digits, but keeps probability for the labels that noise may bring. Cross-entropy rewards honest doubt, accuracy
# does not.
#
# 更准的分类器反而付得更多：它太确信，而五分之一的时候确信地错了。交叉熵奖励诚实的怀疑，准确率则不会。

# %%
logits = random.standard_normal((6, 10))
variable = Variable(logits)
F.cross_entropy(variable, labels[:6]).backward()
softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

figure, axes = plt.subplots(2, 2, figsize=(12, 8), layout="constrained")
picture = axes[0, 0].imshow(told.reshape(28, 28), cmap="magma")
axes[0, 0].set_title("Bits that each pixel tells of the digit")
axes[0, 0].axis("off")
figure.colorbar(picture, ax=axes[0, 0])
axes[0, 1].fill_between(line, target, color="0.85", label="target p")
axes[0, 1].plot(line, bell(*covering), label="argmin KL(p‖q): covers")
axes[0, 1].plot(line, bell(*seeking), label="argmin KL(q‖p): picks")
axes[0, 1].set(title="One Gaussian for two modes", xlabel="x", ylabel="probability a cell")
axes[0, 1].legend()
axes[1, 0].plot(distances, kl, label="KL")
axes[1, 0].plot(distances, js, label="Jensen–Shannon")
axes[1, 0].axhline(BIT, color="0.6", ls=":", label="log 2")
axes[1, 0].set(title="Two bells of width 0.5, moving apart", xlabel="distance", ylabel="nats", ylim=(0, 4))
axes[1, 0].legend()
for (name, curve), colour in zip(curves.items(), ("tab:blue", "tab:red"), strict=True):
    axes[1, 1].plot(*moving_average(curve, 10), color=colour, label=name)
axes[1, 1].axhline(np.log(10), color="0.5", ls="--", lw=1, label="log 10: knows nothing")
axes[1, 1].axhline(floor, color="tab:red", ls=":", lw=1, label="entropy of the noise")
axes[1, 1].set(
    title="A classifier's loss between ignorance and noise",
    xlabel="step",
    ylabel="nats, mean of 10 steps",
    ylim=(0, 3.6),
)
axes[1, 1].legend()
show(figure, "information")

# %%
check("the code reaches the entropy, 1.75 bits", abs(bits - entropy(weather) / BIT) < 0.02)
check_close(
    "cross-entropy is entropy plus KL",
    cross_entropy(weather, uniform),
    entropy(weather) + kl_divergence(weather, uniform),
)
check(
    "no pixel tells more than it has or than there is to know", told.min() > -1e-12 and told.max() < min(1, label_bits)
)
check("the best pixel tells far more than the median one", told.max() > 4 * np.median(told))
check("forward KL has the moments of the target", np.abs(np.subtract(covering, moments)).max() < 0.11)
check("reverse KL sits on the larger mode", np.abs(np.subtract(seeking, (-2.5, 0.8))).max() < 0.2)
check(
    "Jensen–Shannon stops at log 2 while KL grows with the square",
    js.max() <= BIT + 1e-9 and js[-1] > 0.999 * BIT and abs(kl[-1] / kl[14] - 4) < 1e-6,
)
check("an untrained classifier's loss is log 10", abs(curves["true labels"][0] - np.log(10)) < 1e-9)
check_close("the gradient of the loss is (q − p) / n", variable.grad, (softmax - one_hot[:6]) / 6)
check("nobody pays less for noisy labels than their entropy, whatever the seed", paid.min() > floor)
check(
    "who is trained on them pays less for them than the better classifier, with every seed",
    all(paid[:, 1] < paid[:, 0]),
)
check("which recognizes more digits, with every seed", all(right[:, 0] > right[:, 1]))
