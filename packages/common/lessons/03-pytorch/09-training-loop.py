# %% [markdown]
# # The training loop · 训练循环
#
# Everything so far meets in forty lines: batches, forward, loss, backward, clip, step, schedule, evaluate, keep the
# best, stop. The loop below hides nothing; the capstones' loops have the same shape.
#
# A loop that runs is not yet a loop that is right. So before it: the loss of an untrained network must be log(classes),
# and one batch must be learnt by heart. After it: the same seed must give the same bits, and other seeds say how much
# of a result is luck. The test set is looked at once.
#
# 前面的一切汇合成四十行：取批次、前向、损失、反向、裁剪、更新、调度、评估、保留最优、提前停止。
# 下面的循环毫无隐藏，各个项目的训练循环也是同样的形状。
#
# 能跑的循环不等于正确的循环。所以之前要验证：未训练网络的损失应为 log(类别数)，并且能把一个批次背下来；
# 之后要验证：同一种子得到逐位相同的结果，而不同种子则告诉我们结果里有多少是运气。测试集只看一次。

# %%
import copy
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, data, show, table
from dlcommon.neural_networks.mlp import MLP
from dlcommon.pytorch_core.loader import RandomSampler
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import AdamW
from dlcommon.training.schedules import cosine, set_learning_rate
from torch import nn

# %% [markdown]
# ## Three parts of the data · 数据的三个部分
#
# Training digits for gradients, validation digits for decisions (when to stop, what to keep, which options), test
# digits for one number at the end. What decides must not be what is reported. 做决定的数据不能用来报告结果。

# %%
digits = data("mnist", "mnist-sample")


def prepared(images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.from_numpy(images).float().flatten(1) / 255 - 0.1307) / 0.3081, torch.from_numpy(labels)


train_images, train_labels = prepared(digits.train_images[:1500], digits.train_labels[:1500])
validation_images, validation_labels = prepared(digits.train_images[1500:3000], digits.train_labels[1500:3000])
test_images, test_labels = prepared(digits.test_images[:1000], digits.test_labels[:1000])


def new_network(seed: int) -> nn.Module:
    with torch.random.fork_rng():  # leaves the global generator as it was
        torch.manual_seed(seed)
        return MLP(784, [128, 64], 10)


@torch.no_grad()
def evaluate(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean loss and accuracy, in evaluation mode."""
    network.eval()
    logits = network(images)
    network.train()
    return cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item()


# %% [markdown]
# ## Before training: two tests of the wiring · 训练前的两项检查
#
# An untrained classifier knows nothing: its loss is near log 10. And any network can learn 32 digits by heart: if
# the loss does not reach 0, labels, loss, gradients or optimizer are connected wrongly. One such mistake, a softmax
# before a loss that expects logits, is tried: the loss can then never fall below 1.46. 先过拟合一个批次。

# %%
untrained, _ = evaluate(new_network(0), validation_images, validation_labels)


def one_batch(prepare) -> list[float]:
    network, curve = new_network(0), []
    optimizer = AdamW(network.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = cross_entropy(prepare(network(train_images[:32])), train_labels[:32])
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


by_heart, twice = one_batch(lambda logits: logits), one_batch(lambda logits: logits.softmax(1))
floor = -math.log(math.e / (math.e + 9))  # the best that probabilities 1, 0, …, 0 can do as logits
table(
    ["network", "loss at first", "after 120 steps"],
    [("logits", by_heart[0], by_heart[-1]), ("softmax twice", twice[0], twice[-1])],
)

# %% [markdown]
# ## The loop · 循环
#
# The learning rate follows a cosine after a short warm-up; gradients longer than 1 are shortened to 1, all together,
# so that their direction stays; after each epoch the validation loss decides what is kept, and four epochs without a
# better one end the training. 余弦调度、裁剪、提前停止，一应俱全。


# %%
def train(seed: int, epochs: int = 40, batch_size: int = 100, patience: int = 4, longest: float = 1.0):
    """The network of the best epoch, and a record of every step and epoch."""
    network, sampler = new_network(seed), RandomSampler(len(train_images), seed)
    optimizer, schedule = AdamW(network.parameters(), lr=2e-3), cosine(warmup=0.1)
    steps_per_epoch = len(train_images) // batch_size
    steps, record = epochs * steps_per_epoch, {"loss": [], "norm": [], "rate": [], "validation": [], "accuracy": []}
    best_loss, best_epoch, best_weights = math.inf, 0, None
    step = 0
    for epoch in range(epochs):
        order = torch.tensor(sampler.indices(epoch))
        for rows in order.split(batch_size)[:steps_per_epoch]:
            set_learning_rate(optimizer, schedule(step / steps))
            optimizer.zero_grad()
            loss = cross_entropy(network(train_images[rows]), train_labels[rows])
            if not loss.isfinite():
                raise FloatingPointError(f"step {step}: the loss is {loss.item()}; lower the learning rate")
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), longest)
            optimizer.step()
            record["loss"].append(loss.item())
            record["norm"].append(norm.item())
            record["rate"].append(optimizer.param_groups[0]["lr"])
            step += 1
        validation_loss, accuracy = evaluate(network, validation_images, validation_labels)
        record["validation"].append(validation_loss)
        record["accuracy"].append(accuracy)
        if validation_loss < best_loss:
            best_loss, best_epoch = validation_loss, epoch
            best_weights = copy.deepcopy(network.state_dict())  # a copy: state_dict shares memory with the network
        elif epoch - best_epoch >= patience:
            break
    network.load_state_dict(best_weights)
    record["best_epoch"] = best_epoch
    return network, record


network, record = train(seed=0)
last = len(record["validation"]) - 1
table(
    ["epoch", "validation loss", "accuracy"],
    [
        (e, record["validation"][e], record["accuracy"][e])
        for e in sorted({0, 1, 2, 4, 8, record["best_epoch"], last})
        if e <= last
    ],
)
print(f"  stopped after epoch {last}, best was {record['best_epoch']}")

# %% [markdown]
# ## What clipping does · 梯度裁剪做了什么
#
# The norm is over all gradients together, as if they were one vector; all are multiplied by one number.

# %%
probe = new_network(1)
(20 * cross_entropy(probe(train_images[:100]), train_labels[:100])).backward()
before = torch.cat([p.grad.flatten() for p in probe.parameters()])
reported = nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
after = torch.cat([p.grad.flatten() for p in probe.parameters()])
same_direction = nn.functional.cosine_similarity(before, after, dim=0).item()

# %% [markdown]
# ## Seeds: bits and luck · 随机种子：可复现与运气
#
# The same seed again, on the same machine: the same bits. Then two other seeds: their spread is what a difference
# between two methods has to exceed. Only now the test set. 不同种子的差异是比较方法时的最小尺度。

# %%
again, repeated = train(seed=0)
identical = all(
    torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
)
runs = {0: (network, record), **{seed: train(seed) for seed in (1, 2)}}
results = {seed: evaluate(fitted, test_images, test_labels)[1] for seed, (fitted, _) in runs.items()}
mean = sum(results.values()) / len(results)
spread = max(results.values()) - min(results.values())
sampling = 1.96 * math.sqrt(mean * (1 - mean) / len(test_labels))
table(["seed", "epochs", "test accuracy"], [(s, len(runs[s][1]["validation"]), results[s]) for s in runs])
print(f"  mean {mean:.1%}, spread over seeds {spread:.1%}; 1,000 test digits alone leave ± {sampling:.1%}")

figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
axes[0].semilogy(by_heart, label="logits")
axes[0].semilogy(twice, label="softmax twice")
axes[0].axhline(floor, color="grey", linestyle=":", label=f"its floor, {floor:.2f}")
axes[0].set(xlabel="step", ylabel="loss of 32 digits", title="Overfit one batch: the bug shows")
per_epoch = len(record["loss"]) // len(record["validation"])
axes[1].semilogy(record["loss"], linewidth=0.7, label="training batches")
ends = [per_epoch * (epoch + 1) for epoch in range(last + 1)]
axes[1].semilogy(ends, record["validation"], "o-", markersize=3, label="validation")
axes[1].axvline(ends[record["best_epoch"]], color="black", linestyle=":", label="kept")
axes[1].set(xlabel="step", ylabel="loss", title="Training loss falls on, validation stays")
axes[2].plot(record["norm"], linewidth=0.7, label="gradient norm")
axes[2].axhline(1.0, color="tab:red", linestyle=":", label="clipped above")
axes[2].plot([500 * rate for rate in record["rate"]], color="tab:green", label="learning rate × 500")
axes[2].set(xlabel="step", ylabel="norm of all gradients", title="Gradient norm and learning rate")
for axis in axes:
    axis.legend(fontsize=8)
figure.tight_layout()
show(figure, "training")

# %% [markdown]
# ## What holds · 结论

# %%
check("the untrained loss is within 15 % of log 10", abs(untrained / math.log(10) - 1) < 0.15)
check("one batch is learnt by heart: loss below 0.01", by_heart[-1] < 0.01)
check("with softmax twice the loss stays above its floor", min(twice) > floor - 1e-3)
check(
    "clipping reports the norm over all gradients, scales it to 1 and keeps the direction",
    abs(reported / before.norm() - 1) < 1e-5 and after.norm() <= 1.00001 and same_direction > 0.9999,
)
check(
    "training stopped early, and the kept epoch has the lowest validation loss",
    last < 39 and record["validation"][record["best_epoch"]] == min(record["validation"]),
)
check(
    "the network that is kept is that of the best epoch",
    abs(evaluate(network, validation_images, validation_labels)[0] - min(record["validation"])) < 1e-6,
)
check("the same seed gives the same bits", identical and record == repeated)
check("1,500 digits are enough for 86 % of test digits, with every seed", min(results.values()) > 0.86)
