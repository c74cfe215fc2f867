# %% [markdown]
# # Batch normalization · 批归一化
#
# Batch norm gives each feature of a layer mean 0 and variance 1 over the batch, then a learnt scale and shift. The
# layer behind it always sees inputs of one size, whatever the weights before it do, and much larger learning rates
# become safe. The price: in training, what one sample gets depends on the others in its batch.
#
# dlcommon/neural_networks/normalization.py writes forward and backward by hand. This lesson holds both against torch
# in training and evaluation, looks at what the backward formula takes out of the gradient, measures at which learning
# rates a network trains with and without, how noisy small batches are, and folds the layer away for use.
#
# 批归一化让每个特征在批次内均值为 0、方差为 1，再乘以可学习的缩放、加上可学习的平移。无论前面的权重怎么变，
# 后面的层看到的输入大小始终一致，因此可以放心使用大得多的学习率。代价是：训练时一个样本的结果取决于同批的其他样本。
#
# 本课手写前向与反向，并在训练、评估两种模式下与 torch 对照；看反向公式从梯度里去掉了什么；测量有无批归一化时
# 哪些学习率可用、小批次带来多大噪声；最后在推理时把它并入前一层。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, show, table
from dlcommon.neural_networks.initialization import init_weights, kaiming_normal_
from dlcommon.neural_networks.normalization import BatchNorm, fuse_linear_bn, normalize, normalize_backward
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD
from torch import nn

generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Equal to torch in both modes · 两种模式下都与 torch 一致
#
# Output, the gradients of input, weight and bias, and the running statistics after three batches; float64, flat
# features and images. 输出、三种梯度与滑动统计量都一致。

# %%
differences = {}
for reference_class, shape in ((nn.BatchNorm1d, (32, 6)), (nn.BatchNorm2d, (8, 6, 5, 5))):
    ours, theirs = BatchNorm(6).double(), reference_class(6).double()
    for training in (True, False):
        ours.train(training), theirs.train(training)
        gaps = []
        for _ in range(3):
            x = 2 + 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
            upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
            both = []
            for layer in (ours, theirs):
                inputs = x.clone().requires_grad_()
                y = layer(inputs)
                both.append([y, *torch.autograd.grad(y, [inputs, layer.weight, layer.bias], upstream)])
            gaps += [(a - b).abs().max().item() for a, b in zip(*both, strict=True)]
        gaps += [(a - b).abs().max().item() for a, b in zip(ours.buffers(), theirs.buffers(), strict=True)]
        differences[f"{reference_class.__name__}, {'training' if training else 'evaluation'}"] = max(gaps)
table(["against", "largest difference"], differences.items())

# %% [markdown]
# ## What the gradient loses · 梯度失去了什么
#
# Adding a constant to a feature, or stretching it, leaves x̂ as it is. So the gradient has no part along 1 and none
# along x̂: (g − mean(g) − x̂ · mean(g·x̂)) / σ. And weights before a batch norm may be of any size: ten times the weight
# gives the same output, and a tenth of the gradient. 权重放大十倍，输出不变，梯度缩小为十分之一。

# %%
x = torch.randn(64, 6, generator=generator, dtype=torch.float64)
values, _, _, scale = normalize(x, eps=0.0)
gradient = normalize_backward(torch.randn(64, 6, generator=generator, dtype=torch.float64), values, scale)
along_one = gradient.sum(0).abs().max().item()
along_values = (gradient * values).sum(0).abs().max().item()
print(f"  the gradient's part along 1: {along_one:.1e}, along the values: {along_values:.1e}")

weight = torch.randn(6, 4, generator=generator, dtype=torch.float64)
upstream = torch.randn(64, 4, generator=generator, dtype=torch.float64)
by_size = []
for size in (1.0, 10.0):
    scaled = (size * weight).requires_grad_()
    output = normalize(x @ scaled, eps=0.0).x_hat
    by_size.append((output.detach(), torch.autograd.grad(output, scaled, upstream)[0]))
(output_1, gradient_1), (output_10, gradient_10) = by_size

# %% [markdown]
# ## Which learning rates work · 哪些学习率可用
#
# Eight hidden layers of 64 units, plain SGD, 80 batches of real digits; the mean loss of the last 20. Without batch
# norm from torch's default weights, and from He's, which suit ReLU (lesson 04/09); with it from the default ones.
# 八层网络、普通 SGD：无批归一化时分别用默认与 He 初始化，有批归一化时用默认初始化。

# %%
digits = data("mnist", "mnist-sample")
images = torch.from_numpy(digits.train_images[:4000]).float().flatten(1) / 255
labels = torch.from_numpy(digits.train_labels[:4000])
tests = torch.from_numpy(digits.test_images[:1000]).float().flatten(1) / 255
test_labels = torch.from_numpy(digits.test_labels[:1000])


def deep_network(with_norm: bool, with_he: bool) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers: list[nn.Module] = []
        for inputs in [784, *[64] * 7]:
            layers += [nn.Linear(inputs, 64), *([BatchNorm(64)] if with_norm else []), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Linear(64, 10))
        if with_he:
            init_weights(network, kaiming_normal_)
        return network


def trained(with_norm: bool, with_he: bool, rate: float) -> tuple[nn.Sequential, float]:
    """The network after 80 steps, and its mean loss in the last 20."""
    network, batches, losses = deep_network(with_norm, with_he), torch.Generator().manual_seed(2), []
    optimizer = SGD(network.parameters(), lr=rate)
    for _ in range(80):
        rows = torch.randint(len(images), (64,), generator=batches)
        optimizer.zero_grad()
        loss = cross_entropy(network(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network, sum(losses[-20:]) / 20


rates = [0.01, 0.03, 0.1, 0.3, 1.0]
kinds = {"default weights": (False, False), "He's weights": (False, True), "batch norm": (True, False)}
runs = {name: [trained(*kind, rate) for rate in rates] for name, kind in kinds.items()}
last_losses = {name: [loss for _, loss in row] for name, row in runs.items()}
table(["learning rate", *kinds], zip(rates, *last_losses.values(), strict=True))

# %% [markdown]
# ## A sample depends on its batch · 样本依赖于同批样本
#
# In training mode the same image gets other logits in another batch. The statistics are means over n samples, so the
# spread falls as 1/√n: batches of a few images are very noisy. In evaluation mode there is no spread at all.

# %%
network = runs["batch norm"][2][0]
sizes, spreads = [4, 8, 16, 32, 64, 128, 256], []
with torch.no_grad():
    for size in sizes:
        logits = []
        for _ in range(40):
            others = torch.randint(1, len(images), (size - 1,), generator=generator)
            logits.append(network.train()(torch.cat([images[:1], images[others]]))[0])
        spreads.append(torch.stack(logits).std(0).mean().item())
slope = (torch.tensor(spreads[-1]) / spreads[2]).log().item() / (torch.tensor(sizes[-1]) / sizes[2]).log().item()
table(["images in the batch", "spread of the first one's logits"], zip(sizes, spreads, strict=True))
print(f"  from 16 to 256 images the spread falls as n^{slope:.2f}")
network, _ = trained(True, False, 0.1)  # afresh: those passes have moved the running statistics
network.eval()
alone, together = network(tests[:1]), network(tests)[:1]

# %% [markdown]
# ## Folded away · 并入前一层
#
# In evaluation the layer is a·x + b with fixed a and b: it goes into the weights before it. 推理时可完全并入线性层。

# %%
layers = list(network)
plain = nn.Sequential(
    *[
        fuse_linear_bn(layer, layers[n + 1]) if n + 1 < len(layers) and isinstance(layers[n + 1], BatchNorm) else layer
        for n, layer in enumerate(layers)
        if not isinstance(layer, BatchNorm)
    ]
)
accuracy = (network(tests).argmax(1) == test_labels).float().mean().item()
print(f"  {len(layers)} layers become {len(plain)}; test accuracy {accuracy:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
for name, row in last_losses.items():
    (line,) = left.semilogx(rates, row, "o-", label=name)
    diverged = [rate for rate, loss in zip(rates, row, strict=True) if not loss < 10]
    left.plot(diverged, [2.5] * len(diverged), "x", color=line.get_color(), markersize=10, label="_")
left.axhline(torch.tensor(10.0).log().item(), color="grey", linewidth=1, linestyle=":", label="a guess, log 10")
left.set(
    title="Batch norm trains at every rate tried (×: diverged)",
    xlabel="learning rate",
    ylabel="training loss at the end",
    ylim=(0, 2.6),
)
left.legend()
right.loglog(sizes, spreads, "o-", label="measured")
right.loglog(sizes, [spreads[3] * (sizes[3] / size) ** 0.5 for size in sizes], ":", color="grey", label="1/√n")
right.set_yticks([0.1, 0.2, 0.5, 1], ["0.1", "0.2", "0.5", "1"])
right.set_xticks(sizes, [str(size) for size in sizes])
right.minorticks_off()
right.set(
    title="How much a batch changes one image's logits", xlabel="images in the batch", ylabel="standard deviation"
)
right.legend()
show(figure, "rates-and-batches")

# %%
for name, difference in differences.items():
    check(f"equal to torch's {name}", difference < 1e-10)
check("the gradient has no part along 1 or along the values", max(along_one, along_values) < 1e-12)
check_close("ten times the weights give the same output", output_10, output_1, tolerance=1e-10)
check_close("and a tenth of the gradient", 10 * gradient_10, gradient_1, tolerance=1e-10)
check("from torch's default weights nothing trains in 80 steps", min(last_losses["default weights"]) > 2.2)
check(
    "from He's weights only some rates work",
    not last_losses["He's weights"][-1] < 2 and min(last_losses["He's weights"]) < 1.6,
)
check("with batch norm every rate tried does", max(last_losses["batch norm"]) < 1.9)
check("and the best is better than without", min(last_losses["batch norm"]) < min(last_losses["He's weights"]))
check("small batches are noisy, about as 1/√n", -0.8 < slope < -0.3)
check_close("in evaluation an image's logits are its own", alone, together, tolerance=1e-4)
check_close("folded, the network gives the same logits", plain(tests), network(tests), tolerance=1e-4)
