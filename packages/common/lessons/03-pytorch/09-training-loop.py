# %% [markdown]
# # The training loop · 训练循环

# %% [markdown] lang="en"
# After this lesson you can write a training loop from memory, show that it is connected correctly before you spend
# hours on it, and say how much of its result is luck. You need losses (03/05), optimizers (03/06) and data loaders
# (03/07).

# %% [markdown] lang="zh"
# 学完本课，你能默写一个训练循环，能在花几个小时训练之前验证它连接正确，并能说出结果里有多少是运气。
# 先修：损失函数（03/05）、优化器（03/06）和数据加载（03/07）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.neural_networks.mlp import MLP
from dlcommon.pytorch_core.loader import DataLoader, RandomSampler, TensorDataset
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.pytorch_core.optimizers import SGD, AdamW
from dlcommon.pytorch_core.training_loop import evaluate, fit
from dlcommon.training.gradient_clipping import clip_by_global_norm
from dlcommon.training.schedules import cosine, linear
from torch import nn

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You have a network, digits and an optimizer; some thirty lines connect them. Leave out one of them, for example the
# one that clears the gradients, and nothing crashes, and the loss may even fall. A training loop fails silently.
#
# So three questions have to be answered, and they are this lesson: is the loop right? When does it stop, and which
# weights does it keep? And if another seed gives 1 % more, is that better or luck?

# %% [markdown] lang="zh"
# 网络、数据、优化器都有了，三十来行代码把它们连起来。漏掉其中一行（比如清空梯度），程序不会报错，
# 损失甚至可能照样下降。训练循环出错时是无声的。
#
# 因此要回答三个问题，这就是本课的内容：循环写对了吗？何时停止、保留哪一组权重？
# 换一个随机种子高出 1 %，是更好，还是运气？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One weight $w = 1$, one sample $x = 2$ with target $y = 1$, loss $(wx - y)^2$, learning rate 0.1. Forward: the loss
# is $(2 - 1)^2 = 1$. Backward: the gradient is $2(wx - y)x = 4$. It is longer than 1, so it is clipped to 1. Step: $w
# = 1 - 0.1 \cdot 1 = 0.9$. The next loss is $(1.8 - 1)^2 = 0.64$: lower. Do this once more without clearing the
# gradient, and the new one, $3.2$, is added to the old one.
#
# A gradient of two weights, $(3, 4)$, has length 5; clipped to 1 it is $(0.6, 0.8)$: shorter, in the same direction.

# %% [markdown] lang="zh"
# 一个权重 $w = 1$，一个样本 $x = 2$，目标 $y = 1$，损失 $(wx - y)^2$，学习率 0.1。
# 前向：损失为 $(2 - 1)^2 = 1$。反向：梯度为 $2(wx - y)x = 4$，长度超过 1，裁剪为 1。
# 更新：$w = 1 - 0.1 \cdot 1 = 0.9$。下一次的损失是 $(1.8 - 1)^2 = 0.64$，变小了。
# 如果再做一步却没有清空梯度，新的梯度 $3.2$ 就会加到旧的上面。
#
# 两个权重的梯度 $(3, 4)$ 长度为 5，裁剪到 1 之后是 $(0.6, 0.8)$：变短了，方向不变。

# %%
w = torch.tensor([1.0], requires_grad=True)
by_hand = SGD([w], lr=0.1)
rows = []
for step in range(2):
    by_hand.zero_grad()
    loss = (w * 2 - 1).square().sum()
    loss.backward()
    gradient = w.grad.item()
    clip_by_global_norm([w], 1.0)
    by_hand.step()
    rows.append((step, loss.item(), gradient, w.grad.item(), w.item()))
table(["step", "loss", "gradient", "clipped", "w after"], rows)

drawing = Schematic(11, 3.4, "One epoch of the training loop")
for number, name in enumerate(["batch", "forward", "loss", "backward", "clip", "step"]):
    drawing.box(name, 1 + 1.8 * number, 2.4, kind="data" if name in ("batch", "loss") else "operation", width=1.2)
for start, end in (("batch", "forward"), ("forward", "loss"), ("loss", "backward"), ("backward", "clip")):
    drawing.arrow(start, end)
drawing.arrow("clip", "step")
drawing.box("weights", 6.4, 1.0, "weights θ", "parameter")
drawing.box("validate", 3.4, 1.0, width=1.2)
drawing.arrow("step", "weights")
drawing.arrow("weights", "forward")
drawing.arrow("weights", "validate", "each epoch")
drawing.box("keep", 1.0, 1.0, "keep best,\nor stop", "data", width=1.3)
drawing.arrow("validate", "keep")
show(drawing.figure, "loop")

# %% [markdown]
# ## Formula · 公式
#
# $$L_t(\theta) = -\frac{1}{B} \sum_{i \in \mathcal{B}_t} \log p_\theta(y_i \mid x_i), \qquad g_t = \nabla_\theta L_t$$
#
# $$\hat g_t = g_t \cdot \min\left(1, \frac{c}{\lVert g_t \rVert}\right)$$
#
# $$\eta_t = \frac{\eta}{2} \left(1 + \cos \pi \frac{t - T_w}{T - T_w}\right), \qquad \theta_{t+1} = \theta_t - \eta_t \, u(\hat g_t)$$
#
# $$e^* = \arg\min_e V(\theta_e), \qquad \text{stop when } e - e^* = P$$

# %% [markdown] lang="en"
# - $t$ of $T$: the step; $\mathcal{B}_t$: the batch of step $t$, of $B$ samples $x_i$ with classes $y_i$.
# - $\theta$: all weights as one vector; $p_\theta(y \mid x)$: the probability that the network gives class $y$.
# - $L_t$: the loss of the batch; $g_t$: its gradient; $\lVert g_t \rVert$: its length over all weights together.
# - $c$: the longest gradient that is allowed; $\hat g_t$: the clipped gradient (Pascanu et al. 2013, algorithm 1).
# - $\eta$: the base learning rate; $\eta_t$: that of step $t$, after a rise over the first $T_w$ steps (the warm-up);
#   half a cosine (Loshchilov & Hutter 2017, equation 5).
# - $u$: the optimizer's rule; for plain gradient descent $u(g) = g$, for AdamW see 03/06.
# - $V(\theta_e)$: the validation loss after epoch $e$; $e^*$: the best epoch so far; $P$: the patience.
#
# Two numbers follow that are worth knowing before any training. A network that knows nothing gives each of $C$
# classes $1/C$, so its loss is $\log C$: 2.303 for ten digits. And if a softmax is put before a loss that expects
# logits, the best "logits" are $1, 0, \dots, 0$, and the loss cannot fall below $\log(e + C - 1) - 1$.

# %% [markdown] lang="zh"
# - $t$（共 $T$ 步）：第几步；$\mathcal{B}_t$：第 $t$ 步的批次，含 $B$ 个样本 $x_i$，类别为 $y_i$。
# - $\theta$：把所有权重看成一个向量；$p_\theta(y \mid x)$：网络给类别 $y$ 的概率。
# - $L_t$：该批次的损失；$g_t$：它的梯度；$\lVert g_t \rVert$：所有权重的梯度合在一起的长度。
# - $c$：允许的最大梯度长度；$\hat g_t$：裁剪后的梯度（Pascanu 等 2013，算法 1）。
# - $\eta$：基础学习率；$\eta_t$：第 $t$ 步的学习率，先用 $T_w$ 步升上去（预热），再沿半个余弦下降（Loshchilov 与 Hutter 2017，式 5）。
# - $u$：优化器的更新规则；普通梯度下降是 $u(g) = g$，AdamW 见 03/06。
# - $V(\theta_e)$：第 $e$ 轮之后的验证损失；$e^*$：到目前为止最好的一轮；$P$：耐心值。
#
# 由此得到训练之前就该知道的两个数。什么都不知道的网络给 $C$ 个类别各 $1/C$ 的概率，损失是 $\log C$：十个数字时为 2.303。
# 如果在接收 logits 的损失之前多做了一次 softmax，最好的“logits”也只是 $1, 0, \dots, 0$，损失不可能低于 $\log(e + C - 1) - 1$。

# %% [markdown]
# ## Code · 代码

# %%
source(fit)
source(clip_by_global_norm)

# %% [markdown] lang="en"
# Read `fit` from the inside out. `zero_grad` clears what the last step left, since `backward` adds to `.grad`. The
# network maps inputs `[batch, 784]` to logits `[batch, 10]`; the loss is a scalar, the mean over the batch.
# `clip_by_global_norm` sees every `.grad` as part of one vector, so one factor shortens all. `step` moves the weights.
#
# Around it, once an epoch: `evaluate` switches to evaluation mode (batch norm takes its running averages, dropout is
# off) and back. The best weights are copied, because `state_dict` shares memory with the network: without the copy
# the "best" weights would be the last ones.

# %% [markdown] lang="zh"
# 从内向外读 `fit`。`backward` 会把梯度累加到 `.grad`，所以先用 `zero_grad` 清空上一步留下的梯度。
# 网络把输入 `[batch, 784]` 变成 logits `[batch, 10]`；损失是标量，即批次的平均。
# `clip_by_global_norm` 把所有 `.grad` 看成一个向量，用同一个系数缩短。`step` 更新权重。
#
# 外面每轮一次：`evaluate` 切换到评估模式（批归一化用滑动平均，关闭 dropout），之后再切换回来。
# 最好的权重要复制一份，因为 `state_dict` 与网络共享内存：不复制的话，“最好的”权重其实就是最后的权重。

# %% [markdown]
# ## Experiment: is it connected? · 实验：连接正确吗？

# %% [markdown] lang="en"
# Three parts of the data: training digits for gradients, validation digits for decisions (when to stop, what to
# keep), test digits for one number at the end. What decides must not be what is reported.
#
# Before training, two tests take a second. An untrained network must have a loss near $\log C$. And any network can
# learn 32 digits by heart: if the loss does not reach 0, then labels, loss, gradients or optimizer are connected
# wrongly. One such mistake, a softmax before the loss, is tried.

# %% [markdown] lang="zh"
# 数据分三份：训练集用来求梯度，验证集用来做决定（何时停止、保留什么），测试集只在最后给出一个数。
# 做决定的数据不能用来报告结果。
#
# 训练之前先做两项检查，只要一秒。未训练的网络，损失必须接近 $\log C$。
# 任何网络都能把 32 个数字背下来：如果损失降不到 0，标签、损失、梯度或优化器一定有一处接错了。
# 我们故意犯一个错误：在损失之前多做一次 softmax。

# %%
quiz(
    "untrained loss",
    en="What is the cross-entropy of ten classes before any training?",
    zh="十个类别，训练之前的交叉熵是多少？",
)
quiz(
    "softmax twice",
    en="With one softmax too many, how low can the loss of 32 digits get?",
    zh="多做一次 softmax，32 个数字的损失最低能降到多少？",
)

# %%
digits = data("mnist", "mnist-sample")


def prepared(images, labels) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.from_numpy(images).float().flatten(1) / 255 - 0.1307) / 0.3081, torch.from_numpy(labels)


train_images, train_labels = prepared(digits.train_images[:1500], digits.train_labels[:1500])  # [1500, 784], [1500]
validation = prepared(digits.train_images[1500:3000], digits.train_labels[1500:3000])
test = prepared(digits.test_images[:1000], digits.test_labels[:1000])


def new_network(seed: int) -> nn.Module:
    with torch.random.fork_rng():  # leaves the global generator as it was
        torch.manual_seed(seed)
        return MLP(784, [128, 64], 10)


def learn_by_heart(prepare) -> list[float]:
    network, curve = new_network(0), []
    optimizer = AdamW(network.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = cross_entropy(prepare(network(train_images[:32])), train_labels[:32])
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return curve


untrained = sum(evaluate(new_network(seed), *validation)[0] for seed in range(3)) / 3
by_heart, twice = learn_by_heart(lambda logits: logits), learn_by_heart(lambda logits: logits.softmax(1))
floor = math.log(math.e + 9) - 1
settle("untrained loss", untrained)
settle("softmax twice", twice[-1], tolerance=0.05)
table(
    ["network", "loss at first", "after 120 steps", "the formula's limit"],
    [("logits", by_heart[0], by_heart[-1], 0.0), ("softmax twice", twice[0], twice[-1], floor)],
)

# %% [markdown]
# ## Experiment: when to stop · 实验：何时停止

# %% [markdown] lang="en"
# Now the real training: AdamW, a cosine after a short warm-up, gradients clipped to 1, up to 40 epochs of 1,500
# digits, four epochs of patience. Before you run it: one of the two losses goes on falling after the epoch that is
# kept. Which?

# %% [markdown] lang="zh"
# 现在正式训练：AdamW，短暂预热后按余弦下降，梯度裁剪到 1，最多 40 轮，每轮 1,500 个数字，耐心值为 4。
# 运行之前先想一想：在被保留的那一轮之后，训练损失和验证损失中哪一个还在下降？

# %%
quiz(
    "after the best epoch",
    en="From the kept epoch to the last one, which loss still falls?",
    zh="从保留的那一轮到最后一轮，哪个损失还在下降？",
    choices={
        "training": "the training loss only · 只有训练损失",
        "validation": "the validation loss only · 只有验证损失",
        "both": "both · 两个都降",
        "neither": "neither · 都不降",
    },
)


# %%
def train(seed: int):
    network = new_network(seed)
    loader = DataLoader(TensorDataset(train_images, train_labels), 100, RandomSampler(1500, seed), drop_last=True)
    optimizer = AdamW(network.parameters(), lr=2e-3)
    return network, fit(network, optimizer, loader, validation, 40, cosine(warmup=0.1), max_grad_norm=1.0)


network, history = train(seed=0)
epochs, best = len(history.validation_losses), history.best_epoch
training_losses = torch.tensor(history.losses).view(epochs, 15).mean(1).tolist()  # [epochs · 15 steps] to [epochs]
falls = {
    "training": training_losses[-1] < training_losses[best],
    "validation": history.validation_losses[-1] < history.validation_losses[best],
}
falling = next((name for name, fell in falls.items() if fell), "neither")
settle("after the best epoch", "both" if all(falls.values()) else falling)
shown = sorted({0, 1, 2, 4, 8, best, epochs - 1} & set(range(epochs)))
table(
    ["epoch", "training loss", "validation loss"],
    [(epoch, training_losses[epoch], history.validation_losses[epoch]) for epoch in shown],
)
print(f"  kept epoch {best}, stopped after epoch {epochs - 1}")

# %% [markdown]
# ## Experiment: reproducibility and luck · 实验：可复现与运气

# %% [markdown] lang="en"
# The same seed again, on the same machine, must give the same weights, bit for bit: if not, something is random that you do not know
# of. Two other seeds then say how large luck is: a difference between two methods that is not larger says nothing.
# Only now, once, the test digits; a thousand of them alone leave an uncertainty of $1.96 \sqrt{a (1 - a) / 1000}$
# around an accuracy $a$.

# %% [markdown] lang="zh"
# 同一台机器、同一个种子，再训练一次，结果必须逐位相同；否则就有你不知道的随机来源。
# 再换两个种子，看运气有多大：两种方法的差别如果不比它大，就什么也说明不了。
# 到这时才用测试集，而且只用一次；一千个测试数字本身就给准确率 $a$ 留下 $1.96 \sqrt{a (1 - a) / 1000}$ 的不确定性。

# %%
again, repeated = train(seed=0)
identical = all(
    torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
)
runs = {0: (network, history), **{seed: train(seed) for seed in (1, 2)}}
results = {seed: evaluate(fitted, *test)[1] for seed, (fitted, _) in runs.items()}
mean = sum(results.values()) / len(results)
spread = max(results.values()) - min(results.values())
sampling = 1.96 * math.sqrt(mean * (1 - mean) / len(test[1]))
table(["seed", "epochs", "test accuracy"], [(s, len(runs[s][1].validation_losses), results[s]) for s in runs])
print(f"  mean {mean:.1%}, spread over seeds {spread:.1%}; 1,000 test digits alone leave ± {sampling:.1%}")

figure, axes = plt.subplots(1, 3, figsize=(13, 3.8))
axes[0].semilogy(by_heart, label="logits")
axes[0].semilogy(twice, "--", label="softmax twice")
axes[0].axhline(floor, color="grey", linestyle=":", label=f"its limit, {floor:.2f}")
axes[0].set(xlabel="step", ylabel="loss of 32 digits", title="Overfit one batch: the mistake shows")
ends = [15 * (epoch + 1) for epoch in range(epochs)]
axes[1].semilogy(history.losses, linewidth=0.7, label="training batches")
axes[1].semilogy(ends, history.validation_losses, "o-", markersize=3, label="validation")
axes[1].axvline(ends[best], color="black", linestyle=":", label="kept")
axes[1].set(xlabel="step", ylabel="loss", title="When to stop")
axes[2].plot(history.gradient_norms, linewidth=0.7, label="gradient norm")
axes[2].axhline(1.0, color="tab:red", linestyle=":", label="clipped above")
axes[2].plot([500 * rate for rate in history.learning_rates], "--", color="tab:green", label="learning rate × 500")
axes[2].set(xlabel="step", ylabel="norm of all gradients", title="Gradient norm and learning rate")
for axis in axes:
    axis.legend(fontsize=8)
figure.tight_layout()
show(figure, "training")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# PyTorch has every part but not the loop. The same training written with torch's own loss, optimizer, schedule,
# clipping and loader, in float64, must arrive at the same weights: 30 steps, each of which builds on the gradients
# before it.

# %% [markdown] lang="zh"
# PyTorch 提供了所有零件，但不提供循环本身。用 torch 自己的损失、优化器、调度、裁剪和加载器写同样的训练，
# 在 float64 下必须得到同样的权重：共 30 步，每一步都建立在之前的梯度之上。

# %%
inputs, targets = train_images[:320].double(), train_labels[:320]
ours, theirs = new_network(3).double(), new_network(3).double()
schedule = cosine(warmup=0.1)
dataset = TensorDataset(inputs, targets)
fit(ours, AdamW(ours.parameters(), lr=2e-3), DataLoader(dataset, 32), (inputs, targets), 3, schedule, 1.0)

optimizer = torch.optim.AdamW(theirs.parameters(), lr=2e-3)
rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step / 30))
for _ in range(3):
    for x, y in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        rates.step()
our_weights, their_weights = (nn.utils.parameters_to_vector(each.parameters()) for each in (ours, theirs))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the losses are 1 and 0.64, the weight 0.9", [rows[0][1], rows[1][1], rows[0][4]], [1, 0.64, 0.9])
check_close("our loop and one of torch's parts arrive at the same weights", our_weights, their_weights, 1e-9)
check("the untrained loss is within 15 % of log 10", abs(untrained / math.log(10) - 1) < 0.15)
check("one batch is learnt by heart: loss below 0.01", by_heart[-1] < 0.01)
check("with softmax twice the loss stops at its limit", floor - 1e-3 < min(twice) < floor + 0.05)
check(
    "with every seed the network has the weights of the best epoch, not of the last",
    all(abs(evaluate(n, *validation)[0] - min(h.validation_losses)) < 1e-6 for n, h in runs.values()),
)
check(
    "with every seed the training ends four epochs after the best, or after all 40",
    all(len(h.validation_losses) == min(h.best_epoch + 5, 40) for _, h in runs.values()),
)
check("the same seed gives the same weights, bit for bit", identical and history == repeated)
check("1,500 digits are enough for 86 % of test digits, with every seed", min(results.values()) > 0.86)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `mnist-classifier` has a loop of the same shape, and around it what real work needs (devices, exact
# resume, records): read `packages/mnist-classifier/src/mnist_classifier/train.py`, then run `uv run --package
# mnist-classifier train --max-minutes 2`.
#
# Papers: [Pascanu et al. 2013](https://arxiv.org/abs/1211.5063) on clipping, [Loshchilov & Hutter
# 2017](https://arxiv.org/abs/1608.03983) on the cosine. Next: saving what was trained, 03/10.

# %% [markdown] lang="zh"
# 实战项目 `mnist-classifier` 的循环与此结构相同，外加实际工作所需的部分（设备、断点续训、记录）：
# 先读 `packages/mnist-classifier/src/mnist_classifier/train.py`，
# 再运行 `uv run --package mnist-classifier train --max-minutes 2`。
#
# 论文：梯度裁剪见 [Pascanu 等 2013](https://arxiv.org/abs/1211.5063)，
# 余弦调度见 [Loshchilov 与 Hutter 2017](https://arxiv.org/abs/1608.03983)。下一课：保存训练好的模型，03/10。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `fit` yourself: `uv run lesson exercise 03/09` makes a file with its signature, `uv run lesson check 03/09`
# judges it on networks and data of the judge's own.

# %% [markdown] lang="zh"
# 自己实现 `fit`：`uv run lesson exercise 03/09` 生成带有函数签名的文件，
# `uv run lesson check 03/09` 用另外的网络和数据来评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Write the four lines of one step first: clear, forward and loss, backward, step. Run the check: its first line is
#    then ticked.
# 2. The progress that the schedule gets is `(epoch + step / len(loader)) / epochs`, and the rate is set before the
#    step.
# 3. The norm that is recorded is what `clip_by_global_norm` returns. The validation comes after the epoch's last step.
# 4. Keep `copy.deepcopy(network.state_dict())` whenever the validation loss is lower than ever, stop when the best
#    epoch lies `patience` epochs back, and load the kept weights at the end.

# %% [markdown] lang="zh"
# 1. 先写一步的四行：清空梯度、前向与损失、反向、更新。运行检查，第一项就会打勾。
# 2. 传给调度的进度是 `(epoch + step / len(loader)) / epochs`，学习率要在更新之前设置。
# 3. 要记录的范数就是 `clip_by_global_norm` 的返回值。验证在每轮最后一步之后进行。
# 4. 每当验证损失创新低，就保存 `copy.deepcopy(network.state_dict())`；最好的一轮已过去 `patience` 轮时停止；
#    最后载入保存的权重。


# %%
@exercise(fit)
def judge(yours, reference):
    random = torch.Generator().manual_seed(5)
    inputs, targets = torch.randn(24, 6, generator=random).double(), torch.randint(3, (24,), generator=random)
    others = torch.randn(40, 6, generator=random).double(), torch.randint(3, (40,), generator=random)

    def run(fit, batches, epochs, lr=0.1, dropout=0.0, **options):
        torch.manual_seed(7)
        network = MLP(6, [8], 3, dropout).double().eval()
        samples = TensorDataset(inputs[: 8 * batches], targets[: 8 * batches])
        history = fit(network, SGD(network.parameters(), lr), DataLoader(samples, 8), others, epochs, **options)
        return torch.cat([weight.flatten() for weight in network.parameters()]), history, network

    def compare(claim, part, *settings, **options):
        mine, expected = (part(*run(fit, *settings, **options)) for fit in (yours.fit, reference.fit))
        check_close(claim, mine, expected, 1e-9)

    def weights(found, history, network):
        return found

    compare("the weights after a single step", weights, 1, 1)
    compare("the weights after a second step: gradients do not add up", weights, 2, 1)
    compare("the loss of each of three steps is recorded", lambda _, history, __: history.losses, 3, 1)
    compare("the norm of the gradient before clipping", lambda _, h, __: h.gradient_norms, 1, 1, max_grad_norm=0.01)
    compare("the weights with max_grad_norm=0.01", weights, 3, 1, max_grad_norm=0.01)
    compare("the learning rates with a schedule", lambda _, h, __: h.learning_rates, 3, 2, schedule=linear())
    compare("the weights with a schedule", weights, 3, 1, schedule=linear())
    compare("the validation loss is taken in evaluation mode", lambda _, h, __: h.validation_losses, 3, 1, dropout=0.5)
    compare("the second epoch is in training mode again", lambda _, h, __: h.losses, 3, 2, dropout=0.5)
    compare("best_epoch of 12", lambda _, h, __: h.best_epoch, 3, 12, lr=0.5, patience=12)
    compare(
        "the number of epochs with patience=2", lambda _, h, __: len(h.validation_losses), 3, 30, lr=0.5, patience=2
    )
    compare("the weights are the best epoch's, not the last one's", weights, 3, 30, lr=0.5, patience=2)
    kept = run(yours.fit, 3, 30, lr=0.5, patience=2)
    check(
        "and so are the running averages of batch norm",
        abs(evaluate(kept[2], *others)[0] - min(kept[1].validation_losses)) < 1e-9,
    )
    inputs[0] = float("nan")
    try:
        run(yours.fit, 1, 1)
        stopped = False
    except FloatingPointError:
        stopped = True
    check("a loss that is not a number raises FloatingPointError", stopped)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is the loss of an untrained classifier near log C, and what if it is not? · 未训练的分类器损失为什么接近 log C？若不是呢？

# %% [markdown] lang="en"
# It knows nothing, so it gives each of C classes about 1/C, and −log(1/C) = log C. A much larger first loss says that
# the network is sure and wrong: the last layer's weights start too large, or the inputs are not normalized. A smaller
# one says that something was known: weights were loaded, the last bias holds the classes' frequencies, or the zeros
# of ignored targets (padding) are averaged in.

# %% [markdown] lang="zh"
# 它什么都不知道，给 C 个类别各约 1/C 的概率，而 −log(1/C) = log C。
# 第一个损失大得多，说明网络很自信却错了：最后一层初始权重太大，或输入没有归一化。
# 偏小则说明事先知道了什么：加载了权重，最后一层的偏置设成了类别频率，或者把被忽略目标（填充）的零也平均进去了。

# %%
print(f"  untrained {untrained:.3f}, log 10 = {math.log(10):.3f}")

# %% [markdown]
# ### A model trains but reaches less than expected. What do you check first? · 模型能训练但效果不如预期，先查什么？

# %% [markdown] lang="en"
# Whether it can learn one batch by heart: that takes a second and tests labels, loss, gradients and optimizer
# together. If it cannot, the loop is wrong; a loss that stops at a value such as 1.46 names the mistake (softmax
# twice). If it can, look at the data, the learning rate, and the gap between training and validation loss.

# %% [markdown] lang="zh"
# 先看它能否把一个批次背下来：只要一秒，就同时检验了标签、损失、梯度和优化器。
# 背不下来，循环就有错；损失停在 1.46 这样的值，本身就指出了错误（做了两次 softmax）。
# 背得下来，再看数据、学习率，以及训练损失与验证损失之间的差距。

# %%
table(["network", "32 digits after 120 steps"], [("right", by_heart[-1]), ("softmax twice", twice[-1])])

# %% [markdown]
# ### Why clip by the norm of all gradients and not each number by itself? · 为什么按所有梯度的总范数裁剪，而不是逐个数值裁剪？

# %% [markdown] lang="en"
# One common factor keeps the direction of the step and limits only its length. Cutting each number at a limit changes
# the direction: (10, 1) cut at 1 becomes (1, 1), which favors a weight that hardly mattered. And the relation between
# the layers' steps is lost.

# %% [markdown] lang="zh"
# 乘以同一个系数，更新方向不变，只限制长度。逐个截断会改变方向：(10, 1) 在 1 处截断变成 (1, 1)，
# 一个本来几乎无关紧要的权重被放大了；各层更新之间的比例也丢失了。

# %%
long = torch.tensor([10.0, 1.0])
for name, short in (("by the norm", long / long.norm()), ("each by itself", long.clamp(-1, 1))):
    cosine_with_gradient = nn.functional.cosine_similarity(long, short, 0).item()
    print(f"  {name}: ({short[0]:.3f}, {short[1]:.3f}), cosine with the gradient {cosine_with_gradient:.3f}")

# %% [markdown]
# ### What goes wrong when the test set decides when to stop? · 用测试集决定何时停止，会出什么问题？

# %% [markdown] lang="en"
# Its number is then the best of many looks, too good by what luck gives: the epoch was chosen because it fits these
# very samples. The validation set decides, and its own best value is too good in the same way; the test set is looked
# at once, at the end, and its number is what new data will give on average.

# %% [markdown] lang="zh"
# 那样得到的是多次查看中最好的一次，因运气而偏高：这一轮正是因为恰好适合这些样本才被选中。
# 应由验证集做决定（它的最佳值同样偏高）；测试集最后只看一次，得到的才是新数据上平均能期望的结果。

# %%
print(
    f"  validation accuracy {evaluate(network, *validation)[1]:.1%} (decided), test {evaluate(network, *test)[1]:.1%}"
)

# %% [markdown]
# ### Method B is 0.5 % better than method A. Is it better? · 方法 B 比 A 高 0.5 %，它真的更好吗？

# %% [markdown] lang="en"
# One run of each says nothing: other seeds alone move the accuracy about as much, and a thousand test samples leave
# one or two percent. Run both with several seeds, the same ones for both, and compare the difference with its spread;
# if it does not stand out, say so.

# %% [markdown] lang="zh"
# 各跑一次说明不了什么：单是换种子就会带来差不多的变化，一千个测试样本本身就有一两个百分点的不确定性。
# 两种方法用同样的几个种子各跑几次，把差别与它的波动相比；不明显，就照实说。

# %%
print(f"  spread over three seeds {spread:.1%}, uncertainty of 1,000 test digits ± {sampling:.1%}")
