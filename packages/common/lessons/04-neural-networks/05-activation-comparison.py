# %% [markdown]
# # Activation functions compared · 激活函数对比
#
# Which activation is best? The question has no answer without the network around it. This lesson trains the same
# networks with five activations, each from its own fitting initialization and at its own best learning rate, chosen on
# validation digits, over several seeds, in three settings: shallow, deep, and deep with normalization.
#
# It also measures why: how the gradient fades from layer to layer, how alike different images have become after eight
# layers, how many units die, and what an activation costs in time. A comparison that fixes one learning rate for all,
# or takes one seed, would say something else every time.
#
# 哪种激活函数最好？脱离具体网络，这个问题没有答案。本课用五种激活函数训练同样的网络：各自使用合适的初始化，
# 在验证集上各自选出最佳学习率，并重复多个随机种子，比较三种情形：浅层、深层、带归一化的深层。
# 同时测量原因：梯度逐层衰减多少，不同图像经过八层之后变得多么相似，有多少单元“死亡”，以及各自的计算代价。
# 若对所有函数固定同一个学习率，或只跑一个种子，每次都会得出不同的结论。

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, data, seconds, show, table
from dlcommon.neural_networks.activations import GELU, LEAKY_RELU, RELU, SELU, SIGMOID, TANH
from dlcommon.neural_networks.backpropagation import backward, cross_entropy, forward, init_layers
from dlcommon.neural_networks.initialization import calculate_gain
from torch.nn import functional as F

compared = (SIGMOID, TANH, RELU, SELU, GELU)
names = [activation.name for activation in compared]
in_torch = {name: getattr(F, name) for name in [*names, "leaky_relu"]}
gains = {name: calculate_gain(function) for name, function in in_torch.items()}

digits = data("mnist", "mnist-sample")
small = [
    part.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196).astype(np.float32) / 255  # 14 × 14, quick to train
    for part in (digits.train_images[:2400], digits.test_images[:1000])
]
images, test_images = (torch.from_numpy((part - small[0].mean()) / small[0].std()) for part in small)
labels = torch.from_numpy(digits.train_labels[:2400]).long()
validation, validation_labels = images[1800:], labels[1800:]
test_labels = torch.from_numpy(digits.test_labels[:1000]).long()

# %% [markdown]
# ## Before training: what comes through eight layers · 训练之前：信号与梯度能传多远
#
# One forward and one backward pass by hand (lesson 03) through random networks, weights scaled so that every
# activation keeps the mean square of its signal. The gradient by the first layer's sums, relative to the last hidden
# layer's; and the mean cosine between the hidden layers of two different images. Where all images look alike, the
# network has to tell them apart by what little differs. 输出均值不为零的激活函数，会让所有图像越来越相似。

# %%
depth = 8
few, few_labels = images[:200].numpy().astype(np.float64), labels[:200].numpy()
gradient_sizes, likeness = {}, {}
for activation in compared:
    sizes, cosines = np.zeros((5, depth)), np.zeros((5, depth + 1))
    for seed in range(5):
        layers = init_layers((196, *[64] * depth, 10), np.random.default_rng(seed), gains[activation.name])
        passed = forward(layers, activation, few)
        gradients, _ = backward(layers, activation, passed, cross_entropy(passed.logits, few_labels)[1])
        sizes[seed] = [np.linalg.norm(gradient.weight) for gradient in gradients[1:]]
        for level, h in enumerate(passed.inputs):
            unit = h / np.linalg.norm(h, axis=1, keepdims=True)
            cosines[seed, level] = (np.square(unit.sum(0)).sum() - len(h)) / (len(h) * (len(h) - 1))
    gradient_sizes[activation.name] = np.exp(np.log(sizes).mean(0))
    gradient_sizes[activation.name] /= gradient_sizes[activation.name][-1]
    likeness[activation.name] = cosines.mean(0)
table(
    ["activation", "gain", "gradient of hidden layer 2, last layer 1", "cosine of two images, input", "layer 8"],
    [(n, gains[n], float(gradient_sizes[n][0]), float(likeness[n][0]), float(likeness[n][-1])) for n in names],
)

# %% [markdown]
# ## Training, fairly · 公平的训练
#
# Three learning rates times three seeds are nine networks, trained side by side as one batched product; momentum 0.9,
# two epochs of 1,800 digits. Every activation sees the same images in the same order from the same random numbers.

# %%
rates, seeds, width = (0.02, 0.1, 0.5), 3, 32


def normalized(z):
    """Batch normalization without its two parameters: every unit to mean 0 and variance 1 over the images."""
    variance, mean = torch.var_mean(z, 1, correction=0, keepdim=True)
    return (z - mean) * torch.rsqrt(variance + 1e-5)


def hidden_layers(x, weights, biases, activation, normalize):
    """Sums z of every layer, [networks, images, width] each; the last are the logits."""
    sums, h = [], x
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        z = h @ weight + bias
        if normalize and number < len(weights) - 1:
            z = normalized(z)
        sums.append(z)
        h = activation(z)
    return sums


def trained(name, hidden, normalize=False, rates=rates):
    """Accuracy on validation and test digits, [rates, seeds], and of the latter the last hidden sums."""
    networks = len(rates) * seeds
    rate_of = torch.tensor(rates).repeat_interleave(seeds).reshape(networks, 1, 1)
    generator = torch.Generator().manual_seed(0)
    widths = (196, *[width] * hidden, 10)
    weights, biases = [], []
    for number in range(hidden + 1):
        scale = (gains[name] if number < hidden else 1.0) / widths[number] ** 0.5
        drawn = torch.randn(seeds, widths[number], widths[number + 1], generator=generator) * scale
        weights.append(drawn.repeat(len(rates), 1, 1).requires_grad_())
        biases.append(torch.zeros(networks, 1, widths[number + 1], requires_grad=True))
    parameters = [*weights, *biases]
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    for _ in range(2):
        for rows in torch.randperm(1800, generator=generator).split(60):
            logits = hidden_layers(images[rows], weights, biases, in_torch[name], normalize)[-1]
            loss = F.cross_entropy(logits.flatten(0, 1), labels[rows].repeat(networks)) * networks
            for parameter, velocity, slope in zip(
                parameters, velocities, torch.autograd.grad(loss, parameters), strict=True
            ):
                velocity.mul_(0.9).add_(slope)
                parameter.data -= rate_of * velocity
    scores = []
    with torch.no_grad():
        for x, truth in ((validation, validation_labels), (test_images, test_labels)):
            sums = hidden_layers(x, weights, biases, in_torch[name], normalize)
            scores.append((sums[-1].argmax(2) == truth).float().mean(1).reshape(len(rates), seeds))
    return *scores, sums[hidden - 1].unflatten(0, (len(rates), seeds))


settings = {"2 layers": (2, False), "8 layers": (depth, False), "8 layers, normalized": (depth, True)}
results = {(name, setting): trained(name, *how) for setting, how in settings.items() for name in names}
chosen = {key: int(valid.mean(1).argmax()) for key, (valid, _, _) in results.items()}
tested = {key: results[key][1][chosen[key]].numpy() for key in results}  # [seeds]
table(
    ["test accuracy ± standard error (rate)", *settings],
    [
        (
            name,
            *(
                f"{tested[key].mean():.3f} ± {tested[key].std(ddof=1) / seeds**0.5:.3f} ({rates[chosen[key]]})"
                for key in [(name, setting) for setting in settings]
            ),
        )
        for name in names
    ],
)

# %% [markdown]
# ## Units that died · 死亡的单元
#
# A unit whose derivative is below 0.001 for every one of 1,000 digits hears nothing any more, and cannot come back. The
# share of such units in the second layer of the shallow networks, trained at high learning rates.
# 学习率过大时，ReLU 单元会成批死亡。

# %%
high_rates = (0.1, 0.3, 0.6)
dead = {}
for activation in (TANH, RELU, LEAKY_RELU, GELU):
    _, scores, sums = trained(activation.name, 2, rates=high_rates)
    silent = (np.abs(activation.derivative(sums.numpy())) < 1e-3).all(2).mean((1, 2))  # [rates]
    dead[activation.name] = silent, scores.mean(1)
table(
    ["dead units, test accuracy at rate", *map(str, high_rates)],
    [(n, *(f"{d:.0%}, {a:.2f}" for d, a in zip(*pair, strict=True))) for n, pair in dead.items()],
)

# %% [markdown]
# ## What it costs · 计算代价
#
# One activation of [256, 512] forward, in torch, beside the product with [512, 512] that it follows.

# %%
wide, weight = torch.randn(256, 512), torch.randn(512, 512)
product_seconds = seconds(lambda: wide @ weight, repeats=20)
costs = {name: seconds(lambda f=in_torch[name]: f(wide), repeats=20) for name in in_torch}
print(f"  the matrix product: {product_seconds * 1e3:.2f} ms")
table(["activation", "ms", "share of the product"], [(n, c * 1e3, c / product_seconds) for n, c in costs.items()])

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
for name in names:
    axes[0].semilogy(range(2, depth + 2), gradient_sizes[name], "o-", markersize=3, label=name)
    axes[1].plot(range(depth + 1), likeness[name], "o-", markersize=3, label=name)
axes[0].set(title="The sigmoid's gradient fades on its way back", xlabel="layer", ylabel="gradient, last layer = 1")
axes[1].set(title="With a mean above 0, images grow alike", xlabel="hidden layer", ylabel="cosine of two images")
axes[0].legend()
for place, setting in enumerate(settings):
    scores = np.array([tested[name, setting] for name in names])
    axes[2].bar(np.arange(5) + 0.27 * (place - 1), scores.mean(1), 0.25, label=setting)
    axes[2].plot(np.arange(5)[:, None] + 0.27 * (place - 1), scores, "k.", markersize=3)
axes[2].set_xticks(range(5), names)
axes[2].set(title="Depth divides them, normalization unites", ylabel="test accuracy", ylim=(0, 1.2))
axes[2].legend(ncols=3, loc="upper center", fontsize=8)
show(figure, "comparison")

# %% [markdown]
# ## What holds · 结论
#
# With two layers the choice hardly matters, once each has its own learning rate: even the sigmoid follows close behind.
# With eight it decides, and then not ReLU wins but what keeps its mean at 0. Normalization gives that to all of them,
# which is why today's deep networks can use what is simple and cheap. 有了归一化，激活函数的选择就不再关键。

# %%
accuracy = {setting: {name: float(tested[name, setting].mean()) for name in names} for setting in settings}
shallow, deep, steadied = accuracy.values()
check("eight layers leave the sigmoid under 1/500 of its gradient", gradient_sizes["sigmoid"][0] < 1 / 500)
check("and all others over a third", min(gradient_sizes[name][0] for name in names[1:]) > 1 / 3)
check("ReLU makes images alike, tanh and SELU do not", likeness["relu"][-1] > 0.75 > 0.5 > likeness["selu"][-1])
check("with two layers, every one at its own rate, all are within 0.12", np.ptp(list(shallow.values())) < 0.12)
check("with eight layers the sigmoid does not get off the ground", deep["sigmoid"] < 0.25)
check("and SELU and tanh are ahead of ReLU by over 0.05", min(deep["selu"], deep["tanh"]) > deep["relu"] + 0.05)
check("normalization lifts ReLU by over 0.05", steadied["relu"] > deep["relu"] + 0.05)
check("and brings all within 0.15 of each other", np.ptp(list(steadied.values())) < 0.15)
check("high rates kill a quarter of the ReLUs and more", dead["relu"][0][-1] > 0.25)
check("a leak keeps units alive, but does not make the rate right", dead["leaky_relu"][0].max() == 0)
