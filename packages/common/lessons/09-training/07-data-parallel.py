# %% [markdown]
# # Data parallelism · 数据并行

# %% [markdown] lang="en"
# After this lesson you can train one model on several processes such that the result is that of one process with the whole
# batch, name the four things that break this equality (unequal parts, batch norm, dropout's seeds, padded data), and
# estimate what the exchange of gradients costs and how much of it can be hidden. You need the training loop (03/09),
# batch norm (04/07) and gradient accumulation (09/06).

# %% [markdown] lang="zh"
# 学完本课，你能用多个进程训练同一个模型，并使结果与一个进程用整个批次训练的结果相同；
# 能说出破坏这种相等的四件事（各份大小不等、批归一化、dropout 的种子、数据补齐），并能估算交换梯度的代价，以及其中多少可以被掩盖。
# 先修：训练循环（03/09）、批归一化（04/07）、梯度累积（09/06）。

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.training.communication_cost import (
    LinkCost,
    fit_link_cost,
    make_buckets,
    overlapped_seconds,
    scaling_efficiency,
)
from dlcommon.training.data_parallel import GradientReducer, weighted_mean_gradients
from dlcommon.training.processes import run_processes
from dlcommon.training.sync_batch_norm import SyncBatchNorm
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DistributedSampler

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A training takes eight days on one GPU, and you have eight. The obvious plan: give each an eighth of every batch. But then
# each GPU computes another gradient and takes another step, and after one step you have eight different models. You
# could average the models now and then, but is that still the training that was tuned on one GPU?
#
# What has to be exchanged, and when, so that eight processes do exactly what one would do? And why are eight GPUs then
# often only six times as fast?

# %% [markdown] lang="zh"
# 一次训练在一块 GPU 上要八天，而你有八块。最直接的办法是每块拿每个批次的八分之一。
# 但这样每块 GPU 算出的梯度不同，走的步也不同，一步之后就有了八个不同的模型。
# 可以隔一段时间把模型平均一下，可那还是在一块 GPU 上调好的那个训练吗？
#
# 要交换什么、什么时候交换，才能让八个进程做的恰好就是一个进程会做的事？又为什么八块 GPU 往往只带来六倍左右的速度，而不是八倍？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One weight $w = 1$, the model $wx$, four samples $x = 1, 2, 3, 4$ with targets 0, and the loss $(wx)^2$. The gradients are
# $2x^2$: 2, 8, 18, 32. One process takes their mean, 15.
#
# Two processes with two samples each: $(2 + 8)/2 = 5$ and $(18 + 32)/2 = 25$. The mean of the two is 15 again. Three samples
# and one: $28/3 = 9.33$ and 32, whose mean is 20.67: wrong, since the one sample of the second process counts as much as
# the three of the first. Weighted by samples: $(3 \cdot 9.33 + 1 \cdot 32) / 4 = 15$.
#
# *The cost.* 100 million weights in float32 are 400 MB of gradients. A ring of eight processes (next lesson) sends 14
# messages of 50 MB each, one after the other. At 10 GB/s and with a latency of 50 µs that is $14 \cdot (0.05 + 5)$ ms = 70.7
# ms. If computing takes 300 ms, a step takes 370.7 ms, and the eight processes do the work of $8 \cdot 300 / 370.7 = 6.5$.

# %% [markdown] lang="zh"
# 一个权重 $w = 1$，模型 $wx$，四个样本 $x = 1, 2, 3, 4$，目标都是 0，损失 $(wx)^2$。梯度是 $2x^2$：2、8、18、32。一个进程取平均，得 15。
#
# 两个进程各拿两个样本：$(2 + 8)/2 = 5$ 和 $(18 + 32)/2 = 25$，两者的平均还是 15。
# 如果一个拿三个、一个拿一个：$28/3 = 9.33$ 和 32，平均是 20.67，错了，因为第二个进程的一个样本与第一个进程的三个样本一样重。
# 按样本数加权：$(3 \cdot 9.33 + 1 \cdot 32) / 4 = 15$。
#
# *代价。* 一亿个 float32 权重，梯度是 400 MB。八个进程的环（下一课）依次发送 14 条 50 MB 的消息。
# 带宽 10 GB/s、延迟 50 µs 时，是 $14 \cdot (0.05 + 5)$ 毫秒 = 70.7 毫秒。
# 如果计算要 300 毫秒，一步就是 370.7 毫秒，八个进程完成的工作相当于 $8 \cdot 300 / 370.7 = 6.5$ 个。

# %%
w = torch.ones(1, requires_grad=True)
xs = torch.tensor([1.0, 2.0, 3.0, 4.0])


def gradient_of(part: torch.Tensor) -> torch.Tensor:
    """Gradient of the mean loss over these samples, [1]."""
    return torch.autograd.grad((w * part).square().mean(), w)[0]


rows = []
for name, parts in (("one process", (xs,)), ("2 + 2", xs.split(2)), ("3 + 1", xs.split([3, 1]))):
    each = [gradient_of(part) for part in parts]
    weighted = weighted_mean_gradients([[g] for g in each], [len(part) for part in parts])[0]
    rows.append((name, [round(g.item(), 2) for g in each], torch.stack(each).mean().item(), weighted.item()))
table(["samples", "gradients", "plain mean", "weighted by samples"], rows)

fast = LinkCost(latency=50e-6, bandwidth=10e9)
exchange = fast.ring_seconds(400e6, 8)
print(
    f"  all-reduce of 400 MB among 8: {1e3 * exchange:.1f} ms; 8 processes are worth {8 * 0.3 / (0.3 + exchange):.2f}"
)

drawing = Schematic(13.2, 4.6, "One step of data parallelism, two processes")
for rank, y in ((0, 3.4), (1, 1.0)):
    for name, x, text, kind, width in (
        ("part", 2.9, f"part {rank}", "data", 1.2),
        ("model", 4.9, f"copy {rank}\nof the model", "parameter", 1.7),
        ("gradient", 7.0, f"gradient {rank}", "data", 1.6),
        ("step", 11.9, "the same step\nof the optimizer", "operation", 2.1),
    ):
        drawing.box(f"{name}{rank}", x, y, text, kind, width, height=0.8)
    drawing.arrow(f"part{rank}", f"model{rank}")
    drawing.arrow(f"model{rank}", f"gradient{rank}")
drawing.box("batch", 1.0, 2.2, "batch", "data", 1.3, 0.8)
drawing.box("mean", 9.4, 2.2, "all-reduce:\nthe mean for all", "operation", 2.1, 0.9)
for rank in (0, 1):
    drawing.arrow("batch", f"part{rank}")
    drawing.arrow(f"gradient{rank}", "mean")
    drawing.arrow("mean", f"step{rank}")
show(drawing.figure, "step")

# %% [markdown]
# ## Formula · 公式
#
# $$g = \frac{\sum_r n_r \, g_r}{\sum_r n_r}, \qquad g_r = \frac{1}{n_r} \sum_{i \in \text{part } r} \nabla \ell_i$$
#
# $$T_{\text{message}}(m) = \alpha + \frac{m}{B}, \qquad T_{\text{ring}}(m) = 2(n - 1)\left(\alpha + \frac{m}{nB}\right)$$
#
# $$e_k = \max(e_{k-1},\, t_k) + T_{\text{ring}}(m_k), \qquad E = \frac{T_1}{n \, T_n}$$

# %% [markdown] lang="en"
# - $n$: the number of processes; $r$: the number of one of them, its *rank*, from 0.
# - $n_r$: the samples of process $r$; $g_r$: the gradient of their mean loss; $\ell_i$: the loss of sample $i$.
# - $g$: the gradient of the whole batch's mean loss; with equal $n_r$ it is the plain mean of the $g_r$.
# - $\alpha$: the latency of a message in seconds; $B$: the bandwidth in bytes per second; $m$: bytes.
# - $T_{\text{ring}}$: the time of an all-reduce over a ring: $2(n - 1)$ messages of $m/n$ bytes. For many processes it tends to
#   $2m/B$ plus a latency that grows with $n$.
# - $t_k$: when backward has computed bucket $k$ of gradients, of $m_k$ bytes; $e_k$: when its exchange ends. The step of the
#   optimizer begins at the last $e_k$.
# - $E$: the scaling efficiency; $T_1$, $T_n$: the time of the same work with one process and with $n$.

# %% [markdown] lang="zh"
# - $n$：进程数；$r$：其中一个的编号，即 *rank*，从 0 起。
# - $n_r$：进程 $r$ 的样本数；$g_r$：它们平均损失的梯度；$\ell_i$：样本 $i$ 的损失。
# - $g$：整个批次平均损失的梯度；各 $n_r$ 相等时就是 $g_r$ 的普通平均。
# - $\alpha$：一条消息的延迟，秒；$B$：带宽，字节每秒；$m$：字节数。
# - $T_{\text{ring}}$：环上一次 all-reduce 的时间：$2(n - 1)$ 条各 $m/n$ 字节的消息。
#   进程很多时趋于 $2m/B$，再加上随 $n$ 增长的延迟。
# - $t_k$：反向传播算好第 $k$ 个梯度桶（$m_k$ 字节）的时刻；$e_k$：它交换完的时刻。最后一个 $e_k$ 之后优化器才走步。
# - $E$：扩展效率；$T_1$、$T_n$：同样的工作用一个进程和用 $n$ 个进程的时间。

# %% [markdown]
# ## Code · 代码

# %%
source(weighted_mean_gradients)
source(GradientReducer._hook)
source(GradientReducer._send)
source(GradientReducer.wait)
source(overlapped_seconds)

# %% [markdown] lang="en"
# `GradientReducer` is what `DistributedDataParallel` does, without the special cases. A hook on every parameter is called
# as soon as backward has finished that parameter's gradient. When the last one of a bucket has come, the bucket is
# flattened into one vector `[numbers in the bucket]` and its all-reduce begins, with `async_op=True`: backward goes on
# while the numbers travel. `wait` is called before the optimizer, divides by the number of processes, and copies the means
# back.
#
# All processes must send their buckets in the same order, since an all-reduce is matched by its order, not by a name. If
# a parameter takes no part in the loss of one process, its bucket is never sent there, and without the check in `wait` the
# others would wait for it forever (`find_unused_parameters=True` in DDP).

# %% [markdown] lang="zh"
# `GradientReducer`做的就是 `DistributedDataParallel` 做的事，去掉了特殊情况。
# 每个参数上有一个钩子，反向传播一算完该参数的梯度就被调用。
# 一个桶里的最后一个梯度到齐后，整个桶被展平成一个向量 `[桶内元素数]`，随即以 `async_op=True` 开始 all-reduce：
# 数据在路上时，反向传播继续。`wait` 在优化器之前调用，除以进程数，再把平均值拷回去。
#
# 所有进程必须按同样的次序发送各个桶，因为 all-reduce 是按次序而不是按名字配对的。
# 如果某个参数没有参与某个进程的损失，那里就永远不会发送它的桶；
# 没有 `wait` 里的检查，其他进程会一直等下去（DDP 里对应 `find_unused_parameters=True`）。

# %% [markdown]
# ## Experiment: is it the same training? · 实验：还是同一个训练吗？

# %% [markdown] lang="en"
# A small network, 10 steps of SGD with momentum on batches of 24 samples: in one process; in four replicas within this
# process, averaged by hand; in two real processes with our reducer; in two with torch's DDP. `run_processes` starts new
# processes that talk over gloo, the library for CPUs (NCCL is its counterpart for NVIDIA's GPUs). At the end all weights are
# compared.

# %% [markdown] lang="zh"
# 一个小网络，用带动量的 SGD 在每批 24 个样本上走 10 步：一个进程；本进程内四个副本，手工平均；
# 两个真实进程，用我们的 reducer；两个真实进程，用 torch 的 DDP。
# `run_processes` 启动新的进程，它们通过 gloo 通信，这是用于 CPU 的库（NVIDIA GPU 上对应的是 NCCL）。最后比较所有权重。

# %%
STEPS, BATCH = 10, 24
inputs, targets = torch.randn(STEPS, BATCH, 8), torch.randn(STEPS, BATCH, 3)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))


def momentum_step(model: nn.Module, velocity: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, v in zip(model.parameters(), velocity, strict=True):
            v.mul_(0.9).add_(parameter.grad)
            parameter.sub_(v, alpha=0.1)


def train(model: nn.Module, rank: int = 0, world_size: int = 1, after_backward=lambda: None) -> torch.Tensor:
    """Trains on this rank's part of every batch; returns all weights, [numbers]."""
    velocity = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for x, y in zip(inputs, targets, strict=True):
        model.zero_grad()
        F.mse_loss(model(x.chunk(world_size)[rank]), y.chunk(world_size)[rank]).backward()
        after_backward()
        momentum_step(model, velocity)
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def train_together(library: bool) -> torch.Tensor:
    """What each of the real processes runs."""
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    if library:
        return train(DistributedDataParallel(network()), rank, world_size)
    model = network()
    reducer = GradientReducer(model, bucket_bytes=2000)
    return train(model, rank, world_size, reducer.wait)


def train_replicas(count: int) -> torch.Tensor:
    """Copies in this process, whose gradients are averaged by hand."""
    replicas = [network() for _ in range(count)]
    velocities = [[torch.zeros_like(parameter) for parameter in replica.parameters()] for replica in replicas]
    for x, y in zip(inputs, targets, strict=True):
        own = [
            torch.autograd.grad(F.mse_loss(replica(a), b), list(replica.parameters()))
            for replica, a, b in zip(replicas, x.chunk(count), y.chunk(count), strict=True)
        ]
        mean = weighted_mean_gradients(own, [BATCH // count] * count)
        for replica, velocity in zip(replicas, velocities, strict=True):
            for parameter, gradient in zip(replica.parameters(), mean, strict=True):
                parameter.grad = gradient
            momentum_step(replica, velocity)
    return torch.cat([parameter.detach().flatten() for parameter in replicas[-1].parameters()])


alone = train(network())
ours, theirs = (run_processes(train_together, library) for library in (False, True))
trained = {"4 replicas by hand": train_replicas(4), "2 processes, ours": ours[1], "2 processes, DDP": theirs[1]}
apart = train(network(), 0, 2)  # a half of each batch and no exchange
largest = {name: (weights - alone).abs().max().item() for name, weights in trained.items()}
table(
    ["against one process", "largest difference of a weight"],
    [*largest.items(), ("half of each batch, no exchange", (apart - alone).abs().max().item())],
)

# %% [markdown] lang="en"
# The same training, up to rounding: the mean of 24 numbers and the mean of two means of 12 are summed in another order. That
# all *processes* hold the very same bits matters more: each gets the same sums and takes the same step, so that the weights
# themselves need never be sent.

# %% [markdown] lang="zh"
# 是同一个训练，只差舍入：24 个数的平均与两个“12 个数的平均”再平均，求和次序不同。
# 更要紧的是所有*进程*的权重逐位相同：每个进程得到同样的和、走同样的步，所以权重本身从不需要发送。

# %% [markdown]
# ## Experiment: batch norm, seeds, and the last batch · 实验：批归一化、种子与最后一批

# %% [markdown] lang="en"
# Batch norm makes the samples of a batch depend on each other, and a process knows only its own part. We take one layer of
# batch norm and a loss, and measure how far the gradient of the inputs lies from that of the whole batch of 128 samples,
# relative to its size, for 2 to 64 samples per process, over three seeds. *Synchronized* batch norm also exchanges the sums
# of which mean and variance are made, forward and backward.

# %% [markdown] lang="zh"
# 批归一化让同一批的样本相互依赖，而每个进程只知道自己那一份。
# 取一层批归一化和一个损失，量输入的梯度与整个批次（128 个样本）的梯度相差多远（相对大小），每个进程 2 到 64 个样本，三个种子。
# *同步*批归一化还会交换计算均值和方差所用的和，前向、反向都交换。

# %%
quiz(
    "statistics",
    en="Each process normalizes 8 samples on its own instead of 128. By what share is the gradient of the inputs off?",
    zh="每个进程各自归一化 8 个样本，而不是 128 个一起。输入的梯度相对偏差是多少？",
    choices={
        "1 %": "about 1 % · 约 1 %",
        "over 10 %": "over 10 % · 超过 10 %",
        "over 100 %": "over 100 % · 超过 100 %",
    },
)
quiz(
    "padded",
    en="DistributedSampler deals 10 samples to 4 processes. How many samples does an epoch hold?",
    zh="DistributedSampler 把 10 个样本分给 4 个进程。一个 epoch 里有多少个样本？",
)

# %%
FEATURES, SIZES, SEEDS = 16, (2, 4, 8, 16, 32, 64), (0, 1, 2)


def norm_gradient(x: torch.Tensor, y: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """Gradient of the inputs [samples, features] under the sum of (output − target)⁴."""
    x = x.clone().requires_grad_()
    (layer(x) - y).pow(4).sum().backward()
    return x.grad


def synchronized(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """This process's part of the gradient, with the statistics of the whole batch; unequal parts."""
    part = (slice(0, 100), slice(100, 128))[distributed.get_rank()]
    return norm_gradient(x[part], y[part], SyncBatchNorm(FEATURES))


off = {size: [] for size in SIZES}
for seed in SEEDS:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(128, FEATURES, generator=generator) for _ in range(2))
    expected = norm_gradient(x, y, nn.BatchNorm1d(FEATURES))
    for size in SIZES:
        apart_gradient = torch.cat(
            [norm_gradient(a, b, nn.BatchNorm1d(FEATURES)) for a, b in zip(x.split(size), y.split(size), strict=True)]
        )
        off[size].append(((apart_gradient - expected).norm() / expected.norm()).item())
together = torch.cat(run_processes(synchronized, x, y))  # of the last seed
sync_off = ((together - expected).norm() / expected.norm()).item()
table(
    ["samples per process", *(f"seed {seed}" for seed in SEEDS)],
    [*((size, *values) for size, values in off.items()), ("synchronized, 100 + 28", "", "", sync_off)],
)
eight = max(off[8])
settle("statistics", "over 100 %" if eight > 1 else "over 10 %" if eight > 0.1 else "1 %")

# Dropout: what two processes with one seed draw, and with a seed for each rank.
masks = {
    name: [F.dropout(torch.ones(1000), 0.5, True) for seed in chosen if torch.manual_seed(seed)]
    for name, chosen in (("one seed", (7, 7)), ("a seed for each rank", (7, 8)))
}
alike = {name: (first == second).float().mean().item() for name, (first, second) in masks.items()}
print(f"  dropout masks of two processes agree in {alike}")

dealt = [list(DistributedSampler(range(10), num_replicas=4, rank=rank, shuffle=False)) for rank in range(4)]
table(["rank", "samples of this epoch"], list(enumerate(dealt)))
settle("padded", sum(len(indices) for indices in dealt))

# %% [markdown] lang="en"
# *Batch norm*: with few samples per process the statistics are noise, and the gradient is that of another function. It is
# still a training, and often a good one (each process is as one GPU with a small batch), but not the same one. Synchronized,
# it is equal, also for unequal parts, at the price of two small exchanges in every layer and direction.
#
# *Seeds*: initialization and the order of the data need the same seed on all processes, dropout and augmentation another
# one on each. With one seed everywhere, sample 1 of each process is thinned out by the same mask: fewer different masks in
# a batch, and nothing that would tell you.
#
# *The last batch*: an all-reduce needs all processes, so the sampler repeats samples until they divide evenly. In training
# that is harmless; in evaluation two samples of ten are counted twice, and the accuracy is wrong.

# %% [markdown] lang="zh"
# *批归一化*：每个进程样本少时统计量几乎是噪声，梯度是另一个函数的梯度。
# 这仍是一种训练，往往也不错（每个进程就像一块用小批次的 GPU），但不是同一个训练。
# 同步之后就相等，各份大小不等也成立，代价是每层每个方向两次小的交换。
#
# *种子*：初始化和数据次序在所有进程上要用同一个种子，dropout 和数据增强则每个进程各用一个。
# 如果处处同一个种子，每个进程的第 1 个样本会被同一个掩码遮挡：一批里不同的掩码变少，而且没有任何迹象告诉你。
#
# *最后一批*：all-reduce 需要所有进程参加，所以采样器会重复一些样本，直到能整除。
# 训练时无妨；评估时十个样本里有两个被数了两次，准确率就错了。

# %% [markdown]
# ## Experiment: what an all-reduce costs · 实验：一次 all-reduce 的代价

# %% [markdown] lang="en"
# We time all-reduces of 1 KB to 4 MB between two processes on this machine, and fit $\alpha$ and $B$. (Your numbers will
# differ: this is shared memory and the loopback device, under whatever else the machine does.) Then the calculation for a
# cluster: 85 million weights as in the twelve layers of GPT-2 small, backward 300 ms, eight machines on an Ethernet of 3
# GB/s with a latency of 0.2 ms. How large should the buckets be?

# %% [markdown] lang="zh"
# 在本机的两个进程之间给 1 KB 到 4 MB 的 all-reduce 计时，拟合 $\alpha$ 和 $B$。
# （你的数字会不同：这里走的是本机回环，还受机器上其他工作的影响。）
# 然后为一个集群做计算：8500 万个权重，相当于 GPT-2 small 的十二层，反向传播 300 毫秒，
# 八台机器用 3 GB/s 的以太网相连，延迟 0.2 毫秒。桶应该多大？

# %%
quiz(
    "bucket",
    en="Which bucket size gives the shortest step on that cluster?",
    zh="在这个集群上，多大的桶使一步最短？",
    choices={
        "per tensor": "one message per tensor · 每个张量一条消息",
        "25 MB": "25 MB",
        "all": "one for all gradients · 全部一条",
    },
)


# %%
def time_all_reduce(sizes: list[int]) -> list[float]:
    """Seconds of an all-reduce of each size in bytes, the fastest of several."""
    found = []
    for size in sizes:
        values = torch.ones(size // 4)
        found.append(seconds(lambda values=values: distributed.all_reduce(values), repeats=10))
    return found


measured_sizes = [2**exponent for exponent in range(10, 23, 2)]
measured = np.max(run_processes(time_all_reduce, measured_sizes), axis=0)
here = fit_link_cost(measured_sizes, measured, 2)
modelled = [here.ring_seconds(size, 2) for size in measured_sizes]
table(
    ["bytes", "measured, ms", "fitted, ms"],
    [(size, 1e3 * a, 1e3 * b) for size, a, b in zip(measured_sizes, measured.tolist(), modelled, strict=True)],
)
print(f"  here: latency {1e6 * here.latency:.0f} µs, bandwidth {here.bandwidth / 1e9:.2f} GB/s")

cluster, PROCESSES, BACKWARD = LinkCost(latency=0.2e-3, bandwidth=3e9), 8, 0.3
WIDTH = 768
layer_shapes = [
    WIDTH,
    WIDTH,
    3 * WIDTH**2,
    3 * WIDTH,
    WIDTH**2,
    WIDTH,
    WIDTH,
    WIDTH,
    4 * WIDTH**2,
    4 * WIDTH,
    4 * WIDTH**2,
    WIDTH,
]
tensor_bytes = [
    4 * numbers for _ in range(12) for numbers in layer_shapes
]  # 144 tensors, in the order of the forward pass
print(f"  {sum(tensor_bytes) / 4e6:.0f} million weights, {sum(tensor_bytes) / 1e6:.0f} MB of gradients")


def step_timeline(
    limit: float, link: LinkCost = cluster, processes: int = PROCESSES
) -> tuple[list[float], list[float]]:
    """When each bucket is ready, and how long its exchange takes; backward takes time in proportion to the weights."""
    ready, durations, done = [], [], 0
    for bucket in make_buckets(tensor_bytes, int(limit)):
        size = sum(tensor_bytes[position] for position in bucket)
        done += size
        ready.append(BACKWARD * done / sum(tensor_bytes))
        durations.append(link.ring_seconds(size, processes))
    return ready, durations


LIMITS = {"per tensor": 1, "1 MB": 1e6, "5 MB": 5e6, "25 MB": 25e6, "100 MB": 100e6, "all": 1e12}
bucket_rows = {name: step_timeline(limit) for name, limit in LIMITS.items()}
ends = {name: overlapped_seconds(*row) for name, row in bucket_rows.items()}
without_overlap = BACKWARD + cluster.ring_seconds(sum(tensor_bytes), PROCESSES)
table(
    ["buckets of", "messages", "exchange alone, ms", "backward and exchange, ms"],
    [(name, len(row[0]), 1e3 * sum(row[1]), 1e3 * ends[name]) for name, row in bucket_rows.items()],
)
settle("bucket", min(("per tensor", "25 MB", "all"), key=ends.get))

figure, axes = plt.subplots(1, 3, figsize=(16.5, 4.4), layout="constrained")
axes[0].loglog(measured_sizes, 1e3 * measured, "o", color="black", label="measured here")
grid = np.geomspace(1e3, 5e6, 50)
curve = np.array([here.ring_seconds(size, 2) for size in grid])
axes[0].loglog(grid, np.where(curve > 0, 1e3 * curve, np.nan), color="tab:blue", label="α–β model, fitted")
axes[0].set(xlabel="bytes", ylabel="ms", title="All-reduce between two processes")
axes[0].legend()
for row, name in enumerate(("per tensor", "25 MB", "all")):
    ready, durations = bucket_rows[name]
    end = 0.0
    axes[1].broken_barh([(0, 1e3 * BACKWARD)], (3 * row, 1), color="tab:blue", edgecolor="white")
    for number, (begins, takes) in enumerate(zip(ready, durations, strict=True)):
        start = max(end, begins)
        end = start + takes
        axes[1].broken_barh([(1e3 * start, 1e3 * takes)], (3 * row + 1, 1), color=("tab:orange", "tab:red")[number % 2])
    axes[1].text(1e3 * end + 8, 3 * row + 1.5, f"{1e3 * end:.0f} ms", va="center")
axes[1].set_yticks([1, 4, 7], ["per tensor", "25 MB", "one for all"])
axes[1].set(xlabel="ms", xlim=(0, 720), title="Backward (blue) and the buckets' exchange")
counts = np.array([1, 2, 4, 8, 16, 32, 64])
for link, label, color in (
    (LinkCost(5e-6, 200e9), "in one machine: 200 GB/s, 5 µs", "tab:green"),
    (LinkCost(20e-6, 25e9), "InfiniBand: 25 GB/s, 20 µs", "tab:blue"),
    (cluster, "Ethernet: 3 GB/s, 200 µs", "tab:red"),
):
    for overlap, style in ((True, "-"), (False, "--")):
        efficiency = []
        for count in counts.tolist():
            ready, durations = step_timeline(25e6, link, count)
            takes = overlapped_seconds(ready, durations) if overlap else BACKWARD + sum(durations)
            efficiency.append(scaling_efficiency(count * BACKWARD, takes, count))
        axes[2].plot(counts, efficiency, style, color=color, label=label if overlap else None)
axes[2].set_xscale("log", base=2)
axes[2].set_xticks(counts, [str(count) for count in counts])
axes[2].set(
    xlabel="processes", ylabel="efficiency", ylim=(0, 1.05), title="Scaling efficiency; dashed: without overlap"
)
axes[2].legend(fontsize=8, loc="lower left")
show(figure, "cost")

# %% [markdown] lang="en"
# One message per tensor pays the latency 144 times. One for all waits until backward is over and hides nothing. Between the
# two, 25 MB (DDP's default) hides nearly all of the exchange: only the last bucket sticks out. (Here 5 MB is a little
# better still, since its last bucket is smaller; with more processes the latency would decide.) The right panel shows why a
# training scales within a machine and along InfiniBand, and why on Ethernet one would accumulate gradients over several
# batches before each exchange (`no_sync` in DDP), send them in bf16, or make the batch larger.

# %% [markdown] lang="zh"
# 每个张量一条消息，要付 144 次延迟。全部合成一条，则要等反向传播结束，什么也掩盖不了。
# 两者之间，25 MB（DDP 的默认值）几乎掩盖了整个交换：只有最后一个桶露在外面。
# （这里 5 MB 还略好一点，因为最后一个桶更小；进程更多时则由延迟决定。）
# 右图说明为什么在一台机器内和用 InfiniBand 时扩展得好，而在以太网上，人们会先累积几个批次的梯度再交换（DDP 的 `no_sync`）、
# 用 bf16 发送，或加大批次。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch's `DistributedDataParallel` was one of the trainings above. Here the gradients of one backward pass: ours with small
# buckets and with one, and DDP's, against autograd in this process. (`nn.SyncBatchNorm` needs an accelerator; ours is held
# against `nn.BatchNorm1d` on the whole batch.)

# %% [markdown] lang="zh"
# 上面的训练之一就是 torch 的 `DistributedDataParallel`。这里再比较一次反向传播的梯度：
# 我们的（小桶和一个大桶）、DDP 的，与本进程内的自动求导。
# （`nn.SyncBatchNorm` 需要加速器；我们的同步批归一化与整个批次上的 `nn.BatchNorm1d` 比较。）


# %%
def one_backward(limit: int | None) -> torch.Tensor:
    """All gradients of one batch; with a limit, of our buckets, else of DDP."""
    rank, model = distributed.get_rank(), network()
    wrapped, finish = model, lambda: None
    if limit is None:
        wrapped = DistributedDataParallel(model)
    else:
        finish = GradientReducer(model, limit).wait
    F.mse_loss(wrapped(inputs[0].chunk(2)[rank]), targets[0].chunk(2)[rank]).backward()
    finish()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def all_backwards() -> dict[str, torch.Tensor]:
    return {name: one_backward(limit) for name, limit in (("small", 1), ("one bucket", 10**9), ("DDP", None))}


reduced = run_processes(all_backwards)
model = network()
F.mse_loss(model(inputs[0]), targets[0]).backward()
by_autograd = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: 3 + 1 samples, weighted, give 15", rows[2][3], 15.0)
check("by hand: the plain mean does not", abs(rows[2][2] - 15.0) > 5)
check_close("by hand: 70.7 ms for 400 MB among eight", exchange, 0.0707)
for name, weights in trained.items():
    check_close(f"10 steps equal those of one process: {name}", weights, alone, 1e-5)
check("without an exchange it is another training", (apart - alone).abs().max() > 1e-2)
check("both processes hold the same bits", torch.equal(ours[0], ours[1]) and torch.equal(theirs[0], theirs[1]))
for of_rank in reduced:
    check_close("our gradients equal DDP's", of_rank["small"], of_rank["DDP"], 1e-6)
    check_close("with one bucket as well", of_rank["one bucket"], of_rank["DDP"], 1e-6)
    check_close("and those of the whole batch", of_rank["DDP"], by_autograd, 1e-6)
check("batch norm of 8 samples is off by over 10 %, with every seed", min(off[8]) > 0.1)
check(
    "the fewer samples per process, the further off, with every seed",
    all(off[few][seed] > off[more][seed] for few, more in pairwise(SIZES) for seed in SEEDS),
)
check_close("synchronized, it equals that of the whole batch", together, expected, 1e-4)
check("with one seed the masks of two processes are the same", alike["one seed"] == 1.0)
check("with a seed for each they agree by chance only", 0.4 < alike["a seed for each rank"] < 0.6)
check(
    "the sampler repeats two of ten samples", sorted(i for part in dealt for i in part) == [0, 0, 1, 1, *range(2, 10)]
)
synthetic = [cluster.ring_seconds(size, 4) for size in measured_sizes]
refitted = fit_link_cost(measured_sizes, synthetic, 4)
check_close("the fit finds latency and bandwidth again", [refitted.latency, refitted.bandwidth / 3e9], [0.2e-3, 1.0])
check(
    "25 MB is better than a message per tensor, and than one for all",
    ends["25 MB"] < min(ends["per tensor"], ends["all"]),
)
check_close("one for all hides nothing", ends["all"], without_overlap)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every capstone with a training loop runs this way, by the same command line:
# `uv run --package char-lm torchrun --nproc-per-node=2 --no-python char-lm train`. `dlcommon/runtime/compute.py` sets up the
# processes through accelerate, whose `prepare` wraps the models in DDP; `runtime/batches.py` gives each process its slice
# of one batch, so that two processes see what one would; `runtime/gradient_accumulation.py` weights unequal parts. The tests
# train with two processes and compare with one.
#
# Papers: [PyTorch Distributed (Li et al. 2020)](https://arxiv.org/abs/2006.15704) describes DDP's buckets and overlap;
# [Goyal et al. 2017](https://arxiv.org/abs/1706.02677) trained ImageNet in an hour with 256 GPUs, and say what to do with the
# learning rate. Next: 09/08 opens the all-reduce itself, and splits the model as well.

# %% [markdown] lang="zh"
# 每个带训练循环的项目都能这样运行，用同一条命令行：
# `uv run --package char-lm torchrun --nproc-per-node=2 --no-python char-lm train`。
# `dlcommon/runtime/compute.py` 通过 accelerate 建立各进程，由它的 `prepare` 把模型包进 DDP；
# `runtime/batches.py` 让每个进程拿到同一批次的一片，所以两个进程看到的就是一个进程会看到的；
# `runtime/gradient_accumulation.py` 给大小不等的各份加权。测试用两个进程训练，并与一个进程比较。
#
# 论文：[PyTorch Distributed（Li 等 2020）](https://arxiv.org/abs/2006.15704)讲 DDP 的桶与重叠；
# [Goyal 等 2017](https://arxiv.org/abs/1706.02677)用 256 块 GPU 在一小时内训练 ImageNet，并讲学习率该怎么调。
# 下一课：09/08 打开 all-reduce 本身，并把模型也切开。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the weighted mean, and the two halves of the reducer: `_send` flattens a bucket and begins its all-reduce, `wait`
# finishes all of them. `uv run lesson exercise 09/07` writes the file. The judge runs yours in two processes.

# %% [markdown] lang="zh"
# 写出加权平均，以及 reducer 的两半：`_send` 展平一个桶并开始它的 all-reduce，`wait` 完成所有的交换。
# `uv run lesson exercise 09/07` 会生成文件。判题时会在两个进程里运行你的代码。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. A replica's gradient times `count / total`, then the sum over replicas, for each parameter.
# 2. `_send`: take the gradients of the bucket's parameters, `torch.cat` them flattened, call
#    `distributed.all_reduce(flat, async_op=True)`, and keep gradients, vector and request in `_sent`.
# 3. The count in `_missing` must be set back to the bucket's length, or the next backward pass sends nothing.
# 4. `wait`: check first that all buckets were sent. Then for each: `request.wait()`, divide by the number of processes,
#    `split` the vector by the gradients' `numel()`, and `copy_` each part back in its gradient's shape. Clear `_sent`.

# %% [markdown] lang="zh"
# 1. 每个副本的梯度乘以 `count / total`，再对副本求和，逐个参数进行。
# 2. `_send`：取桶里各参数的梯度，展平后 `torch.cat`，调用 `distributed.all_reduce(flat, async_op=True)`，
#    把梯度、向量和请求存入 `_sent`。
# 3. `_missing` 里的计数要恢复为桶的长度，否则下一次反向传播什么也不会发送。
# 4. `wait`：先检查所有的桶都已发送。然后对每个桶：`request.wait()`，除以进程数，
#    按各梯度的 `numel()` 用 `split` 切开向量，再按梯度的形状 `copy_` 回去。最后清空 `_sent`。


# %%
@exercise(weighted_mean_gradients, GradientReducer._send, GradientReducer.wait)
def judge(yours, reference):
    random = torch.Generator().manual_seed(3)
    gradients = [[torch.randn(2, 3, generator=random), torch.randn(4, generator=random)] for _ in range(3)]
    for counts in ((5, 5, 5), (1, 7, 2)):
        mine, expected = (each.weighted_mean_gradients(gradients, counts) for each in (yours, reference))
        check(f"weighted_mean_gradients, {counts} samples: a tensor for each parameter", len(mine) == 2)
        for position, (found, wanted) in enumerate(zip(mine, expected, strict=True)):
            check_close(f"weighted_mean_gradients, {counts} samples, parameter {position}", found, wanted, 1e-6)
    reducers = {"yours": yours.GradientReducer, "reference": reference.GradientReducer}

    def backward_twice() -> dict[str, list[torch.Tensor]]:
        found = {}
        for name, reducer in reducers.items():
            torch.manual_seed(5)
            model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
            exchange = reducer(model, bucket_bytes=20)
            found[name] = []
            for batch in (1, 2):
                model.zero_grad()
                model(torch.full((2, 3), float(batch + distributed.get_rank()))).square().sum().backward()
                exchange.wait()
                found[name].append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        return found

    def without_a_part() -> bool:
        layers = nn.ModuleList([nn.Linear(3, 4), nn.Linear(3, 4)])
        exchange = reducers["yours"](layers, bucket_bytes=1)
        layers[0](torch.ones(1, 3)).sum().backward()
        try:
            exchange.wait()
        except RuntimeError:
            return True
        return False

    run_processes(distributed.get_rank)  # the first start takes long, and does not count
    first, second = run_processes(backward_twice, timeout=30)
    check("after wait, both processes hold the same gradients", torch.equal(first["yours"][0], second["yours"][0]))
    check_close("the gradients of the first batch", first["yours"][0], first["reference"][0], 1e-6)
    check_close(
        "those of the second batch: the buckets are filled anew", first["yours"][1], first["reference"][1], 1e-6
    )
    check("a bucket that was never sent is a RuntimeError", all(run_processes(without_a_part, timeout=30)))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why are gradients averaged, and not the weights? · 为什么平均的是梯度，而不是权重？

# %% [markdown] lang="en"
# The gradient of a mean is the mean of the gradients, so averaging gradients gives exactly the step of the whole batch,
# for any optimizer. Averaging weights after the step gives the same only where the step is linear in the gradient (plain
# SGD, momentum with equal states); Adam's is not, since each process would divide by its own second moment. Local SGD
# averages weights every few steps on purpose, to send less, and is another algorithm.

# %% [markdown] lang="zh"
# 平均值的梯度就是梯度的平均值，所以平均梯度得到的恰好是整个批次的那一步，对任何优化器都成立。
# 走步之后再平均权重，只有当这一步对梯度是线性的才相同（普通 SGD、状态相同的动量）；
# Adam 不是，因为每个进程会除以自己的二阶矩。Local SGD 有意每隔几步才平均权重以减少通信，那是另一个算法。

# %%
first, second = torch.tensor([1.0, -3.0]), torch.tensor([2.0, 1.0])
sign_like = [g / (g.square().sqrt() + 1e-8) for g in (first, second)]  # Adam's first step
print(f"  mean of Adam's first steps {((sign_like[0] + sign_like[1]) / 2).tolist()}")
mean_gradient = (first + second) / 2
print(f"  Adam's first step of the mean {(mean_gradient / (mean_gradient.square().sqrt() + 1e-8)).tolist()}")

# %% [markdown]
# ### What does an all-reduce cost, and how does that depend on the number of processes? · all-reduce 的代价是多少，与进程数有什么关系？

# %% [markdown] lang="en"
# Over a ring $2(n-1)(\alpha + m/(nB))$: each process sends $2(n-1)/n$ of the data, which is less than twice the data however
# many processes there are, while the latency grows with $n$. So large messages scale and small ones do not, which is why
# gradients are put into buckets, and why libraries use trees for small messages.

# %% [markdown] lang="zh"
# 在环上是 $2(n-1)(\alpha + m/(nB))$：每个进程发送数据的 $2(n-1)/n$，无论多少进程都不到两倍，而延迟随 $n$ 增长。
# 所以大消息能扩展，小消息不能；这就是梯度要装桶、库对小消息改用树形算法的原因。

# %%
table(
    ["processes", "400 MB, ms", "4 KB, ms"],
    [(n, 1e3 * fast.ring_seconds(400e6, n), 1e3 * fast.ring_seconds(4e3, n)) for n in (2, 8, 64, 512)],
)

# %% [markdown]
# ### How does DDP hide communication? · DDP 怎样掩盖通信？

# %% [markdown] lang="en"
# Backward computes the last layers' gradients first. DDP fills buckets in that order and begins the all-reduce of a bucket
# as soon as its last gradient is there, while backward computes the earlier layers. If the exchange of a bucket takes less
# than computing the next one, only the last bucket's exchange is seen. It needs hooks on the parameters, which is why DDP
# wraps the model, and why all processes must use the same parameters in the same order.

# %% [markdown] lang="zh"
# 反向传播先算最后几层的梯度。DDP 按这个次序装桶，桶里最后一个梯度一到就开始该桶的 all-reduce，同时反向传播继续算前面的层。
# 如果交换一个桶的时间短于计算下一个桶的时间，就只看得见最后一个桶的交换。
# 这需要参数上的钩子，所以 DDP 要包住模型，也所以各进程必须以同样的次序使用同样的参数。

# %%
for name in ("25 MB", "all"):
    seen = ends[name] - BACKWARD
    print(f"  {name}: {1e3 * sum(bucket_rows[name][1]):.0f} ms of exchange, of which {1e3 * seen:.0f} ms are seen")

# %% [markdown]
# ### You go from 1 GPU to 8 with the same batch per GPU. What changes about the training? · 从 1 块 GPU 换到 8 块，每块批次不变，训练有什么变化？

# %% [markdown] lang="en"
# The batch is eight times as large and there are an eighth of the steps per epoch. The gradient has an eighth of the
# variance, so a larger learning rate is possible: linearly larger with warmup for SGD (Goyal et al. 2017), often with the
# square root for Adam, up to a critical batch size beyond which more samples per step no longer help. Keeping batch and
# learning rate, with an eighth on each GPU, keeps the training, but gives each GPU little to do.

# %% [markdown] lang="zh"
# 批次变成八倍，每个 epoch 的步数变成八分之一。梯度的方差变成八分之一，所以可以用更大的学习率：
# SGD 用线性放大加预热（Goyal 等 2017），Adam 常用平方根放大，直到某个临界批次，再大每步多出的样本就没有帮助了。
# 如果批次和学习率不变、每块 GPU 各拿八分之一，训练不变，但每块 GPU 没多少活可干。

# %%
samples = torch.randn(4096, 32)
for size in (32, 256):
    spread = samples.view(-1, size, 32).mean(dim=1).var(dim=0).mean().item()
    print(f"  batch of {size}: variance of the mean gradient {spread:.4f}")

# %% [markdown]
# ### Two processes hang in training without an error. What do you look for? · 两个进程训练时卡住，没有报错，你查什么？

# %% [markdown] lang="en"
# A collective that not all processes call, or not in the same order: an evaluation or a checkpoint with a collective below
# `if rank == 0`, one process with a batch more than the others, a branch that leaves parameters without gradients, an
# exception on one process while the others wait. Collectives match by order, not by name. Look at every process's stack
# (`py-spy dump`), set `TORCH_DISTRIBUTED_DEBUG=DETAIL`, and give the group a timeout.

# %% [markdown] lang="zh"
# 某个集合通信不是所有进程都调用，或次序不同：`if rank == 0` 之下的评估或检查点里有集合通信；
# 某个进程比别的多一个批次；某个分支使一些参数没有梯度；一个进程抛了异常而其他进程还在等。
# 集合通信按次序配对，不按名字。看每个进程的调用栈（`py-spy dump`），设 `TORCH_DISTRIBUTED_DEBUG=DETAIL`，并给进程组设超时。

# %%
ready, durations = step_timeline(25e6)
print(f"  a step of this model is {len(ready)} collectives, which all processes must call in the same order")
