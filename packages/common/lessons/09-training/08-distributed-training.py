# %% [markdown]
# # Distributed training · 分布式训练

# %% [markdown] lang="en"
# After this lesson you can write the ring all-reduce, compute what a process holds under ZeRO's stages and FSDP, split a
# layer over processes (tensor parallelism) and layers over processes (pipeline parallelism), and start a training such that
# it survives the death of a process. Everything here runs in real processes on this machine. You need data parallelism
# (09/07).

# %% [markdown] lang="zh"
# 学完本课，你能写出环形 all-reduce，能算出 ZeRO 各阶段和 FSDP 下每个进程保存多少字节，
# 能把一层切到多个进程（张量并行）、把各层分给多个进程（流水线并行），并能让训练在某个进程死掉之后继续。
# 这里的一切都在本机的真实进程里运行。先修：数据并行（09/07）。

# %%
import json
import logging
import os
import signal
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import CheckFailedError, check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.training.pipeline_parallel import (
    bubble_fraction,
    gpipe,
    one_forward_one_backward,
    run_pipeline,
    timeline,
)
from dlcommon.training.processes import run_processes
from dlcommon.training.ring_all_reduce import count_sent, ring_all_gather, ring_all_reduce, ring_reduce_scatter
from dlcommon.training.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from dlcommon.training.zero import ZeroOptimizer, held_memory, memory_per_process
from torch import distributed, nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A model of 7.5 billion weights is to be trained with Adam in mixed precision: 2 bytes for a weight, 2 for its gradient,
# and 12 for the optimizer (a float32 copy and two moments). That is 120 GB, and a GPU has 80. Data parallelism does not
# help, since every process holds all of it: 64 GPUs hold 64 identical copies, and none of them fits.
#
# What has to be split, and what does the splitting cost in messages? And with 64 machines at work for weeks, one will die.
# What has to be there so that the other 63 do not lose their work?

# %% [markdown] lang="zh"
# 要用 Adam 以混合精度训练一个 75 亿权重的模型：每个权重 2 字节，梯度 2 字节，优化器 12 字节（一份 float32 副本和两个矩）。
# 合计 120 GB，而一块 GPU 只有 80 GB。数据并行没有用，因为每个进程都保存全部：64 块 GPU 保存 64 份相同的副本，没有一份放得下。
#
# 该把什么切开，切开又要多发多少消息？而且 64 台机器连续工作几周，总会有一台坏掉。需要准备什么，才能使另外 63 台的工作不白费？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Ring, three processes.* They hold $(1, 2, 3)$, $(10, 20, 30)$ and $(100, 200, 300)$, one chunk for each process. Step 1:
# process 0 sends its chunk 0, process 1 its chunk 1, process 2 its chunk 2, each to the next, which adds: $1 + 10 = 11$,
# $20 + 200 = 220$, $300 + 3 = 303$. Step 2: each sends the sum it has just made: $11 + 100 = 111$, $220 + 2 = 222$,
# $303 + 30 = 333$. Three chunks are whole, each at another process (reduce-scatter). Two more steps carry them around
# (all-gather), and all hold $(111, 222, 333)$. Everyone sent $4$ chunks of a third: $4/3$ of the data.
#
# *Memory.* 7.5 billion weights, 64 processes. Stage 1 splits the optimizer: $4 \cdot 7.5 + 12 \cdot 7.5 / 64 = 31.4$ GB.
# Stage 2 the gradients too: $2 \cdot 7.5 + 14 \cdot 7.5 / 64 = 16.6$ GB. Stage 3 the weights as well: $16 \cdot 7.5 / 64 = 1.9$
# GB.
#
# *Tensor.* $y = W_2 \, \mathrm{relu}(W_1 x)$ with $x = 2$, $W_1 = (1, -3)^\top$, $W_2 = (5, 7)$: the hidden values are $2$ and
# $0$, $y = 10$. Process 0 takes the first hidden value: $5 \cdot 2 = 10$; process 1 the second: $7 \cdot 0 = 0$. Their sum is
# $y$: one number is exchanged, and neither process needs the other's weights.
#
# *Pipeline.* Four stages, eight micro-batches. A stage works on 8 and waits for 3, while the pipeline fills and drains: the
# bubble is $3 / 11 = 27 \%$.

# %% [markdown] lang="zh"
# *环，三个进程。* 它们持有 $(1, 2, 3)$、$(10, 20, 30)$、$(100, 200, 300)$，每个进程一块。
# 第 1 步：进程 0 发送自己的第 0 块，进程 1 发送第 1 块，进程 2 发送第 2 块，各发给下一个，对方相加：
# $1 + 10 = 11$，$20 + 200 = 220$，$300 + 3 = 303$。
# 第 2 步：各自发送刚得到的和：$11 + 100 = 111$，$220 + 2 = 222$，$303 + 30 = 333$。
# 三块都完整了，各在一个进程（reduce-scatter）。再走两步把它们传一圈（all-gather），所有进程都持有 $(111, 222, 333)$。
# 每个进程发送了 $4$ 块，每块三分之一：共 $4/3$ 份数据。
#
# *内存。* 75 亿权重，64 个进程。阶段 1 切开优化器：$4 \cdot 7.5 + 12 \cdot 7.5 / 64 = 31.4$ GB。
# 阶段 2 再切开梯度：$2 \cdot 7.5 + 14 \cdot 7.5 / 64 = 16.6$ GB。阶段 3 连权重也切开：$16 \cdot 7.5 / 64 = 1.9$ GB。
#
# *张量。* $y = W_2 \, \mathrm{relu}(W_1 x)$，$x = 2$，$W_1 = (1, -3)^\top$，$W_2 = (5, 7)$：隐藏值是 $2$ 和 $0$，$y = 10$。
# 进程 0 算第一个隐藏值：$5 \cdot 2 = 10$；进程 1 算第二个：$7 \cdot 0 = 0$。
# 两者之和就是 $y$：只交换一个数，谁也不需要对方的权重。
#
# *流水线。* 四个阶段、八个微批次。每个阶段工作 8 份、等待 3 份（流水线充满和排空时）：气泡是 $3 / 11 = 27 \%$。


# %%
def ring_by_hand() -> tuple[list[float], list[float]]:
    """What this process holds after the reduce-scatter, and after the all-gather."""
    values = torch.tensor([1.0, 2.0, 3.0]) * 10 ** distributed.get_rank()
    chunks = values.tensor_split(distributed.get_world_size())
    ring_reduce_scatter(chunks)
    half = values.tolist()
    ring_all_gather(chunks)
    return half, values.tolist()


by_hand = run_processes(ring_by_hand, world_size=3)
table(["process", "after reduce-scatter", "after all-gather"], [(rank, *each) for rank, each in enumerate(by_hand)])
stages_by_hand = [memory_per_process(7_500_000_000, 64, stage, 2, 2, 12).total / 1e9 for stage in range(4)]
table(["ZeRO stage", "GB per process"], list(enumerate(stages_by_hand)))

# Which processes' values each chunk holds, step by step, for four processes.
COUNT = 4
holds = [[{rank} for _ in range(COUNT)] for rank in range(COUNT)]
snapshots = [[[set(chunk) for chunk in row] for row in holds]]
for step in range(2 * (COUNT - 1)):
    gathering = step >= COUNT - 1
    sent = [(rank, (rank - step) % COUNT) for rank in range(COUNT)]  # always the chunk that came last
    moving = [(chunk, set(holds[rank][chunk])) for rank, chunk in sent]
    for (rank, _), (chunk, contents) in zip(sent, moving, strict=True):
        target = holds[(rank + 1) % COUNT]
        target[chunk] = contents if gathering else target[chunk] | contents
    snapshots.append([[set(chunk) for chunk in row] for row in holds])
figure, axes = plt.subplots(1, len(snapshots), figsize=(16, 2.9), layout="constrained")
for number, (axis, snapshot) in enumerate(zip(axes, snapshots, strict=True)):
    axis.imshow([[len(chunk) for chunk in row] for row in snapshot], cmap="Blues", vmin=0, vmax=5)
    for rank, row in enumerate(snapshot):
        for chunk, contents in enumerate(row):
            dark = "white" if len(contents) == COUNT else "black"
            axis.text(
                chunk, rank, "".join(str(r) for r in sorted(contents)), ha="center", va="center", color=dark, fontsize=9
            )
    phase = "start" if number == 0 else "reduce-scatter" if number < COUNT else "all-gather"
    axis.set(title=f"{number}: {phase}", xticks=range(COUNT), yticks=range(COUNT), xlabel="chunk")
axes[0].set_ylabel("process")
figure.suptitle("Ring of four: whose values each chunk holds, after each step")
show(figure, "ring")

# %% [markdown]
# ## Formula · 公式
#
# $$\text{sent by each process} = 2\,\frac{n - 1}{n}\, m, \qquad \text{all-reduce} = \text{reduce-scatter} + \text{all-gather}$$
#
# $$M_0 = (w + g + o)\Psi, \quad M_1 = \left(w + g + \frac{o}{n}\right)\Psi, \quad M_2 = \left(w + \frac{g + o}{n}\right)\Psi, \quad M_3 = \frac{w + g + o}{n}\Psi$$
#
# $$y = W_2\, \varphi(W_1 x) + b = \sum_r W_2^{(r)} \varphi\big(W_1^{(r)} x\big) + b$$
#
# $$\text{bubble} = \frac{p - 1}{k + p - 1}$$

# %% [markdown] lang="en"
# - $n$: the number of processes; $m$: the bytes that are reduced.
# - $\Psi$: the number of weights; $w, g, o$: bytes for a weight, its gradient, its optimizer state: 2, 2, 12 in mixed precision
#   with Adam, 4, 4, 8 in float32.
# - $M_s$: the bytes of a process in ZeRO's stage $s$ (Rajbhandari et al. 2020, figure 1), without activations.
# - $W_1^{(r)}$: a part of the rows of $W_1$ `[hidden / n, in]`; $W_2^{(r)}$: the matching columns of $W_2$ `[out, hidden / n]`;
#   $\varphi$: a function of each number, such as GELU (Shoeybi et al. 2019, section 3).
# - $p$: the stages of the pipeline; $k$: the micro-batches of a batch; the bubble: the share of a stage's time in which it
#   waits (GPipe, Huang et al. 2019).

# %% [markdown] lang="zh"
# - $n$：进程数；$m$：要归约的字节数。
# - $\Psi$：权重个数；$w, g, o$：每个权重、它的梯度、它的优化器状态的字节数：Adam 混合精度为 2、2、12，float32 为 4、4、8。
# - $M_s$：ZeRO 阶段 $s$ 下一个进程的字节数（Rajbhandari 等 2020，图 1），不含激活值。
# - $W_1^{(r)}$：$W_1$ 的一部分行 `[hidden / n, in]`；$W_2^{(r)}$：$W_2$ 中对应的列 `[out, hidden / n]`；
#   $\varphi$：逐元素的函数，如 GELU（Shoeybi 等 2019，第 3 节）。
# - $p$：流水线的阶段数；$k$：一个批次的微批次数；气泡：一个阶段等待的时间占比（GPipe，Huang 等 2019）。

# %% [markdown]
# ## Code · 代码

# %%
source(ring_reduce_scatter)
source(ring_all_gather)
source(ZeroOptimizer.step)
source(ColumnParallelLinear.forward)
source(RowParallelLinear.forward)
source(one_forward_one_backward)

# %% [markdown] lang="en"
# The *ring*: in step $s$ of the reduce-scatter, process $r$ sends chunk $r - s$ and adds what comes to chunk $r - s - 1$: it
# always passes on the chunk that it received last. After $n - 1$ steps chunk $r + 1$ is whole. The all-gather walks the same
# way, and copies instead of adding. `pass_on` begins to send before it receives, since two processes that both send and
# wait would wait forever.
#
# *ZeRO* puts the optimizer between the two halves. After the reduce-scatter a process has the whole gradient of one chunk,
# and needs optimizer state for that chunk only; what the all-gather then carries are the new weights. The bytes sent are
# those of an all-reduce. (Stage 3 gathers the weights of each layer before its forward and its backward pass, and frees
# them after: half as much again.)
#
# *Tensor parallel*: `copy_to_group` does nothing forward, and sums gradients backward; `reduce_from_group` sums forward, and
# does nothing backward. The *pipeline's* schedule is a list: stage 0 of four takes three micro-batches ahead, the last
# stage none, and from then on every stage alternates.

# %% [markdown] lang="zh"
# *环*：reduce-scatter 的第 $s$ 步，进程 $r$ 发送第 $r - s$ 块，把收到的加到第 $r - s - 1$ 块上：它总是转发上一步收到的那一块。
# $n - 1$ 步之后第 $r + 1$ 块完整。all-gather 走同样的路，只是复制而不是相加。
# `pass_on` 先开始发送再接收，因为两个进程若都发送并等待，就会永远等下去。
#
# *ZeRO* 把优化器放在两半之间。reduce-scatter 之后，进程拥有其中一块的完整梯度，也只需要这一块的优化器状态；
# 随后 all-gather 传的是新的权重。发送的字节数与一次 all-reduce 相同。
# （阶段 3 在每层的前向和反向之前收集该层的权重，用完就释放：多一半通信。）
#
# *张量并行*：`copy_to_group` 前向什么也不做，反向对梯度求和；`reduce_from_group` 前向求和，反向什么也不做。
# *流水线*的调度是一个列表：四个阶段中的第 0 阶段先做三个微批次，最后一个阶段一个也不先做，之后每个阶段前向反向交替。

# %% [markdown]
# ## Experiment: the ring's bytes, and memory as measured · 实验：环的字节数，以及实测的内存

# %% [markdown] lang="en"
# The ring of 2, 3 and 4 real processes reduces 60,000 numbers; we compare with `distributed.all_reduce` and count what every
# process sends. Then two processes train a network of 0.5 million weights for a step with AdamW in three ways: everything
# everywhere (DDP), our split optimizer (ZeRO 1), and PyTorch's `fully_shard` (FSDP, ZeRO 3), and count the bytes they hold.

# %% [markdown] lang="zh"
# 2、3、4 个真实进程组成的环归约 60,000 个数；与 `distributed.all_reduce` 比较，并数每个进程发送的字节。
# 然后两个进程用 AdamW 训练一个 50 万权重的网络一步，分三种方式：处处保存全部（DDP）、我们切开的优化器（ZeRO 1）、
# PyTorch 的 `fully_shard`（FSDP，ZeRO 3），并数它们保存的字节。

# %%
quiz(
    "sent",
    en="From 2 processes to 4: by what factor do the bytes that one process sends grow?",
    zh="从 2 个进程到 4 个：一个进程发送的字节数变成几倍？",
)
quiz(
    "stage 1",
    en="Two processes, AdamW in float32 (16 bytes a weight). How many bytes a weight remain in stage 1?",
    zh="两个进程，float32 的 AdamW（每个权重 16 字节）。阶段 1 下每个权重还剩多少字节？",
)


# %%
def reduce_and_count() -> tuple[float, int, int]:
    """Largest difference to torch's all-reduce; messages and bytes that this process sent."""
    values = torch.randn(60_000, generator=torch.Generator().manual_seed(distributed.get_rank()))
    expected = values.clone()
    distributed.all_reduce(expected)
    with count_sent() as sent:
        ring_all_reduce(values)
    return (values - expected).abs().max().item(), sent.messages, sent.bytes


rings = {n: run_processes(reduce_and_count, world_size=n) for n in (2, 3, 4)}
SIZE = 60_000 * 4
table(
    ["processes", "difference to all_reduce", "messages", "bytes sent by each", "2(n − 1)/n · size"],
    [(n, max(each[0] for each in ring), ring[0][1], ring[0][2], 2 * (n - 1) / n * SIZE) for n, ring in rings.items()],
)
settle("sent", rings[4][0][2] / rings[2][0][2])


def network() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 400))


samples, answers = torch.randn(16, 64), torch.randn(16, 400)


def three_ways() -> dict[str, tuple[list[torch.Tensor], object]]:
    """One step of AdamW in each way: the new weights, and the memory that this process holds."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    rank, found = distributed.get_rank(), {}
    for way in ("DDP", "ZeRO 1", "FSDP"):
        model = network()
        if way == "FSDP":
            for layer in model:
                fully_shard(layer, mesh=init_device_mesh("cpu", (2,)))
        if way == "ZeRO 1":
            optimizer = ZeroOptimizer(model.parameters(), lambda own: torch.optim.AdamW(own, lr=0.001))
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
        F.mse_loss(model(samples.chunk(2)[rank]), answers.chunk(2)[rank]).backward()
        if way == "DDP":
            for parameter in model.parameters():
                distributed.all_reduce(parameter.grad)
                parameter.grad /= 2
        optimizer.step()
        memory = held_memory(model.parameters(), optimizer.optimizer if way == "ZeRO 1" else optimizer)
        whole = [p.full_tensor() if way == "FSDP" else p for p in model.parameters()]
        found[way] = ([p.detach() for p in whole], memory)
    return found


alone = network()
PARAMETERS = sum(p.numel() for p in alone.parameters())
adamw = torch.optim.AdamW(alone.parameters(), lr=0.001)
F.mse_loss(alone(samples), answers).backward()
adamw.step()
ways = run_processes(three_ways)
predicted = {way: memory_per_process(PARAMETERS, 2, stage) for way, stage in (("DDP", 0), ("ZeRO 1", 1), ("FSDP", 3))}
table(
    ["bytes a weight, process 0", "weights", "gradients", "optimizer", "all", "as computed"],
    [
        (
            way,
            *(getattr(m, part) / PARAMETERS for part in ("weights", "gradients", "optimizer", "total")),
            predicted[way].total / PARAMETERS,
        )
        for way, (_, m) in ways[0].items()
    ],
)
settle("stage 1", ways[0]["ZeRO 1"][1].total / PARAMETERS)

# %% [markdown] lang="en"
# The ring agrees with torch's all-reduce, and the bytes of a process hardly grow: $1$, $4/3$, $3/2$ of the data, never 2.
# The memory is what the formula says, to the byte. What the formula leaves out are activations, which grow with the batch
# and are split by none of the stages, and the one layer that FSDP holds whole while it computes.

# %% [markdown] lang="zh"
# 环与 torch 的 all-reduce 一致，而每个进程的字节数几乎不增长：数据的 $1$、$4/3$、$3/2$，永远不到 2。
# 内存与公式逐字节相同。公式没有算的是激活值（随批次增长，哪个阶段都不切它），以及 FSDP 计算时完整持有的那一层。

# %% [markdown]
# ## Experiment: split a layer, split the layers · 实验：切开一层，切开各层

# %% [markdown] lang="en"
# Two ways to split the *computation* of one sample instead of the batch. Tensor parallel: each of two processes holds half of
# the hidden units of a block. Pipeline: process 0 holds the first layers, process 1 the rest, and a batch of 16 samples flows
# through in 8 micro-batches, in GPipe's order and in 1F1B's. Values and gradients are compared with one process. The
# figure shows four stages, as the schedules would run if a backward pass took twice as long as a forward pass.

# %% [markdown] lang="zh"
# 两种不切批次、而切*计算*的办法。张量并行：两个进程各持有一个块中一半的隐藏单元。
# 流水线：进程 0 持有前几层，进程 1 持有其余各层，16 个样本的批次分成 8 个微批次流过，按 GPipe 的次序和按 1F1B 的次序。
# 数值和梯度与一个进程比较。图中是四个阶段，假定反向传播耗时是前向的两倍。

# %%
quiz(
    "bubble",
    en="Four stages. From 4 micro-batches to 16: the share of the time that a stage waits falls from 43 % to how many per cent?",
    zh="四个阶段。微批次从 4 个增加到 16 个：一个阶段等待的时间占比从 43 % 降到百分之几？",
)


# %%
def tensor_parallel() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Output of a split block [16, 400] and this process's gradients."""
    whole = network()
    block = nn.Sequential(ColumnParallelLinear(whole[2]), nn.GELU(), RowParallelLinear(whole[4]))
    with torch.no_grad():
        hidden = whole[:2](samples)  # [16, 512]
    output = block(hidden)
    F.mse_loss(output, answers).backward()
    return output.detach(), [parameter.grad for parameter in block.parameters()]


def pipeline(schedule) -> tuple[float, int, list[torch.Tensor]]:
    """The loss, the largest number of micro-batches kept at once, and this stage's gradients."""
    rank = distributed.get_rank()
    stage = network()[:3] if rank == 0 else network()[3:]
    targets = answers.chunk(8)
    loss, most = run_pipeline(
        stage, schedule(2, rank, 8), samples.chunk(8), lambda y, number: F.mse_loss(y, targets[number]), (2, 512)
    )
    return loss, most, [parameter.grad for parameter in stage.parameters()]


reference = network()
loss = F.mse_loss(reference(samples), answers)
loss.backward()
expected = [parameter.grad for parameter in reference.parameters()]
split = run_processes(tensor_parallel)
piped = {name: run_processes(pipeline, each) for name, each in (("GPipe", gpipe), ("1F1B", one_forward_one_backward))}
table(
    ["schedule", "loss", "one process", "kept at once by stages 0 and 1"],
    [(name, stages[1][0], loss.item(), [stage[1] for stage in stages]) for name, stages in piped.items()],
)
STAGES = 4
waits = {}
for micro_batches in (4, 8, 16, 32):
    times = timeline([one_forward_one_backward(STAGES, stage, micro_batches) for stage in range(STAGES)])
    whole_time = max(end for stage in times for _, end in stage.values())
    waits[micro_batches] = 1 - 3 * micro_batches / whole_time
table(
    ["micro-batches", "waiting, from the timeline", "(p − 1) / (k + p − 1)"],
    [(count, share, bubble_fraction(STAGES, count)) for count, share in waits.items()],
)
settle("bubble", 100 * waits[16])

figure, axes = plt.subplots(1, 3, figsize=(17, 3.8), layout="constrained", width_ratios=(2, 2, 1))
for axis, (name, schedule) in zip(axes, (("GPipe", gpipe), ("1F1B", one_forward_one_backward)), strict=False):
    schedules = [schedule(STAGES, stage, 6) for stage in range(STAGES)]
    for stage, tasks in enumerate(timeline(schedules)):
        for (kind, number), (begins, ends) in tasks.items():
            color = "tab:blue" if kind == "forward" else "tab:orange"
            axis.broken_barh([(begins, ends - begins)], (stage - 0.4, 0.8), color=color, edgecolor="white")
            axis.text((begins + ends) / 2, stage, str(number), ha="center", va="center", color="white", fontsize=8)
    kept = []
    for tasks in schedules:
        running = [sum(1 if kind == "forward" else -1 for kind, _ in tasks[: end + 1]) for end in range(len(tasks))]
        kept.append(max(running))
    axis.set(title=f"{name}: kept at once {kept}", xlabel="time, forward passes", ylabel="stage", yticks=range(STAGES))
    axis.invert_yaxis()
counts = list(range(1, 65))
for stages in (2, 4, 8):
    axes[2].plot(counts, [bubble_fraction(stages, count) for count in counts], label=f"{stages} stages")
axes[2].set(xlabel="micro-batches", ylabel="share of time waiting", title="The bubble", ylim=(0, 1))
axes[2].legend()
show(figure, "pipeline")

# %% [markdown] lang="en"
# Both give the gradients of one process. The two schedules wait equally long (the white gaps), but under 1F1B a stage keeps
# at most as many micro-batches as there are stages from it to the last, however long the batch. With GPipe the memory for
# activations grows with the number of micro-batches, which is the very number that must grow to shrink the bubble.
#
# *Which for what?* Tensor parallelism exchanges activations in every block, forward and backward, and nothing goes on
# meanwhile: it stays within a machine. The pipeline sends one activation from stage to stage, which suits the slow links
# between machines, and pays with the bubble. FSDP and data parallelism need a batch that is large enough to be split. Large
# models combine all three.

# %% [markdown] lang="zh"
# 两种办法都得到一个进程的梯度。两种调度等待的时间一样长（白色空隙），
# 但 1F1B 下每个阶段保留的微批次数，最多是从它到最后的阶段数，不管批次多长；
# GPipe 保存激活值的内存随微批次数增长，而要缩小气泡，恰恰要增大这个数。
#
# *各适合什么？* 张量并行在每个块的前向和反向都要交换激活值，其间别的什么也做不了，所以留在一台机器之内。
# 流水线只在阶段之间传一份激活值，适合机器之间的慢链路，代价是气泡。FSDP 和数据并行需要足够大、切得开的批次。
# 大模型三者并用。

# %% [markdown]
# ## Experiment: a process dies · 实验：一个进程死掉

# %% [markdown] lang="en"
# A launcher starts the processes of a machine, tells each by environment variables who it is (`RANK`, `WORLD_SIZE`,
# `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`), and watches them. If one dies, the others cannot go on: they wait in a collective
# for someone who will not come. So the launcher ends them all and starts all again, up to `max_restarts` times. It restores
# nothing; that is up to the program: whoever starts looks for a checkpoint first.
#
# Below is the launcher behind `torchrun`, with two processes that train a small regression together. In its first life,
# process 1 kills itself after step 6 of 10.

# %% [markdown] lang="zh"
# 启动器启动一台机器上的各个进程，并看着它们；每个进程是谁，由环境变量告诉它：
# `RANK`、`WORLD_SIZE`、`LOCAL_RANK`、`MASTER_ADDR`、`MASTER_PORT`。
# 如果一个死了，其余的也走不下去：它们在集合通信里等一个不会再来的进程。
# 所以启动器结束所有进程，再全部重新启动，最多 `max_restarts` 次。
# 它什么也不恢复，那是程序的事：谁启动，谁先找检查点。
#
# 下面用的就是 `torchrun` 背后的启动器，两个进程一起训练一个小回归。进程 1 第一次运行时，在 10 步中的第 6 步之后杀死自己。


# %%
def worker(folder: str, dies_after: int | None) -> dict[str, object]:
    """Trains for 10 steps with the other process, from the checkpoint if there is one."""
    distributed.init_process_group("gloo")
    rank, lives = distributed.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    checkpoint = Path(folder, "checkpoint.json")
    state = json.loads(checkpoint.read_text()) if checkpoint.is_file() else {"step": 0, "weight": 1.0}
    began_at = state["step"]
    while state["step"] < 10:
        gradient = torch.tensor(2 * (state["weight"] - rank))  # of (w − rank)², each process's own data
        distributed.all_reduce(gradient)
        state = {"step": state["step"] + 1, "weight": state["weight"] - 0.1 * gradient.item() / 2}
        if rank == 0:  # written under another name, so that a half-written one is never read
            Path(folder, "writing").write_text(json.dumps(state))
            Path(folder, "writing").replace(checkpoint)
        distributed.barrier()
        if rank == 1 and lives == 0 and state["step"] == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
    distributed.destroy_process_group()
    return {"restarts": lives, "began at step": began_at, "weight": state["weight"]}


def launch(dies_after: int | None) -> list[dict[str, object]]:
    """What `torchrun --nproc-per-node=2 --max-restarts=1` does, for a function; returns what each process returned."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # it reports the failure at length
    # Else the restarted processes find the addresses of the dead ones (github.com/pytorch/pytorch/issues/135712).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=2,
            max_restarts=1,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            start_method="fork",
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=Std.ALL),
        )
        results = elastic_launch(config, worker)(folder, dies_after)
    return [results[rank] for rank in sorted(results)]


(uninterrupted,) = run_processes(launch, None, world_size=1, group=False)
(restarted,) = run_processes(launch, 6, world_size=1, group=False)
table(
    ["training", "process", "restarts", "began at step", "weight in the end"],
    [
        (name, rank, *each.values())
        for name, results in (("uninterrupted", uninterrupted), ("process 1 killed", restarted))
        for rank, each in enumerate(results)
    ],
)
table(
    ["to start", "command"],
    [
        ("one machine, 2 processes", "torchrun --nproc-per-node=2 --no-python char-lm train"),
        ("the same by accelerate", "accelerate launch --num_processes 2 --multi_gpu --no_python char-lm train"),
        ("each of 2 machines", "torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-id=JOB"),
        ("", "  --rdzv-endpoint=FIRST_HOST:29500 --max-restarts=3 --no-python char-lm train"),
    ],
)

# %% [markdown] lang="en"
# Both processes were started anew, found the checkpoint of step 6, and ended with the very same weight. With machines it is
# the same, with one condition more: the checkpoint has to lie where every machine can read it, and the work since the last
# one is lost. If a machine dies every $T$ hours and a checkpoint takes $c$ hours, one every $\sqrt{2cT}$ loses least (Young
# 1974).

# %% [markdown] lang="zh"
# 两个进程都被重新启动，找到第 6 步的检查点，最后的权重完全相同。
# 多台机器也是如此，只多一个条件：检查点必须放在每台机器都能读到的地方，而最后一个检查点之后的工作会丢失。
# 如果平均每 $T$ 小时坏一台机器、写一次检查点要 $c$ 小时，每隔 $\sqrt{2cT}$ 写一次损失最小（Young 1974）。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `distributed.all_reduce` and `fully_shard` were compared above. Here torch's own tensor parallelism: `parallelize_module` with
# `ColwiseParallel` and `RowwiseParallel` makes `DTensor`s of the same block. (The pipeline is held against
# `torch.distributed.pipelining` in this repository's tests.)

# %% [markdown] lang="zh"
# `distributed.all_reduce` 和 `fully_shard` 在上面已经比较过。
# 这里是 torch 自己的张量并行：`parallelize_module` 配合 `ColwiseParallel` 和 `RowwiseParallel`，把同一个块变成 `DTensor`。
# （流水线在本仓库的测试中与 `torch.distributed.pipelining` 比较。）


# %%
def torchs_tensor_parallel() -> tuple[torch.Tensor, list[torch.Tensor]]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    whole = network()
    with torch.no_grad():
        hidden = whole[:2](samples)
    mesh = init_device_mesh("cpu", (2,))
    block = parallelize_module(nn.Sequential(*whole[2:]), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    output = block(hidden)
    F.mse_loss(output, answers).backward()
    return output.detach(), [parameter.grad.to_local() for parameter in block.parameters()]


library = run_processes(torchs_tensor_parallel)

# %% [markdown]
# ## Checks · 检验

# %%
for rank, (half, whole) in enumerate(by_hand):
    check_close(
        f"by hand: process {rank} has the sum of chunk {(rank + 1) % 3}",
        half[(rank + 1) % 3],
        (111, 222, 333)[(rank + 1) % 3],
    )
    check_close(f"by hand: process {rank} ends with all sums", whole, [111, 222, 333])
check_close("by hand: 120, 31.4, 16.6 and 1.9 GB", stages_by_hand, [120, 31.4, 16.6, 1.9], 0.02)
check(
    "the figure's ring ends with everything everywhere",
    all(len(chunk) == COUNT for row in snapshots[-1] for chunk in row),
)
for n, ring in rings.items():
    check(f"the ring of {n} equals all_reduce", max(each[0] for each in ring) < 1e-5)
    check_close(f"each of {n} sends 2(n − 1)/n of the data", [each[2] for each in ring], [2 * (n - 1) / n * SIZE] * n)
for rank, found in enumerate(ways):
    for way, (weights, memory) in found.items():
        wanted = [p.detach() for p in alone.parameters()]
        check_close(
            f"{way}, process {rank}: the step of one process",
            torch.cat([w.flatten() for w in weights]),
            torch.cat([w.flatten() for w in wanted]),
            1e-5,
        )
        if way != "ZeRO 1":
            check(f"{way}, process {rank}: the memory is as computed, to the byte", memory == predicted[way])
check("ZeRO 1 holds half of the optimizer's state", ways[0]["ZeRO 1"][1].optimizer == predicted["ZeRO 1"].optimizer)
with torch.no_grad():
    wanted = reference(samples)
for rank in (0, 1):
    check_close(f"tensor parallel, process {rank}: the output of one process", split[rank][0], wanted, 1e-5)
    for found, theirs in zip(split[rank][1], library[rank][1], strict=True):
        check_close(f"process {rank}: gradients equal those of parallelize_module", found, theirs, 1e-6)
check_close(
    "both halves make the gradient of one process", torch.cat([split[r][1][0] for r in (0, 1)]), expected[2], 1e-6
)
for name, stages in piped.items():
    check_close(f"{name}: the loss of one process", stages[1][0], loss.item())
    for found, gradient in zip(stages[0][2] + stages[1][2], expected, strict=True):
        check_close(f"{name}: the gradients of one process", found, gradient, 1e-6)
check(
    "GPipe keeps all 8 micro-batches, 1F1B two and one",
    [s[1] for s in piped["GPipe"]] == [8, 8] and [s[1] for s in piped["1F1B"]] == [2, 1],
)
check_close("the timeline waits as the formula says", list(waits.values()), [bubble_fraction(STAGES, k) for k in waits])
check(
    "both processes were restarted once, and resumed at step 6",
    all(r["restarts"] == 1 and r["began at step"] == 6 for r in restarted),
)
check(
    "and end with the weight of an uninterrupted training, bit for bit",
    restarted[0]["weight"] == uninterrupted[0]["weight"],
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `uv run --package char-lm torchrun --nproc-per-node=2 --no-python char-lm train --shard` trains with FSDP;
# `dlcommon/runtime/sharding.py` is the code, and checkpoints hold whole tensors, so that a run may be resumed with another
# number of processes. Under `torchrun --max-restarts` a training that lost a process continues its own run from the last
# checkpoint. [Training on several machines](../../../../docs/CLUSTERS.md) has recipes for Slurm, Kubernetes and SkyPilot.
#
# Papers: [ring all-reduce (Patarasuk & Yuan 2009)](https://doi.org/10.1016/j.jpdc.2008.09.002),
# [ZeRO](https://arxiv.org/abs/1910.02054), [FSDP](https://arxiv.org/abs/2304.11277),
# [Megatron-LM](https://arxiv.org/abs/1909.08053), [GPipe](https://arxiv.org/abs/1811.06965),
# [PipeDream (1F1B)](https://arxiv.org/abs/1806.03377). Next: 09/09, the search for good settings, for which many machines
# need hardly talk at all.

# %% [markdown] lang="zh"
# `uv run --package char-lm torchrun --nproc-per-node=2 --no-python char-lm train --shard` 就是用 FSDP 训练；
# 代码在 `dlcommon/runtime/sharding.py`，检查点保存完整的张量，所以可以用另一个进程数继续。
# 在 `torchrun --max-restarts` 下，失去一个进程的训练会从最后的检查点继续自己的那次运行。
# [在多台机器上训练](../../../../docs/CLUSTERS.zh-CN.md)有 Slurm、Kubernetes、SkyPilot 的现成配置。
#
# 论文：[环形 all-reduce（Patarasuk & Yuan 2009）](https://doi.org/10.1016/j.jpdc.2008.09.002)、
# [ZeRO](https://arxiv.org/abs/1910.02054)、[FSDP](https://arxiv.org/abs/2304.11277)、
# [Megatron-LM](https://arxiv.org/abs/1909.08053)、[GPipe](https://arxiv.org/abs/1811.06965)、
# [PipeDream（1F1B）](https://arxiv.org/abs/1806.03377)。
# 下一课：09/09，寻找好的设置，那时多台机器几乎不需要通信。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the ring: `ring_reduce_scatter`, `ring_all_gather` and `ring_all_reduce`, with `pass_on`, which is given.
# `uv run lesson exercise 09/08` writes the file. The judge runs yours in three processes; a ring in which someone waits for
# a message that nobody sends is stopped after half a minute.

# %% [markdown] lang="zh"
# 写出环：`ring_reduce_scatter`、`ring_all_gather` 和 `ring_all_reduce`，使用已给出的 `pass_on`。
# `uv run lesson exercise 09/08` 会生成文件。判题时在三个进程里运行你的代码；如果有进程在等一条没人发送的消息，半分钟后会被停止。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. In step $s$ of the reduce-scatter process $r$ sends chunk $(r - s) \bmod n$ and receives chunk $(r - s - 1) \bmod n$, which it
#    adds to its own. Receive into `torch.empty_like` of that chunk: the data must not be overwritten.
# 2. After $n - 1$ steps chunk $(r + 1) \bmod n$ is whole here: return that number.
# 3. The all-gather begins with that chunk: in step $s$ send $(r + 1 - s) \bmod n$ and receive $(r - s) \bmod n$, straight into
#    its place.
# 4. `ring_all_reduce`: `values.view(-1).tensor_split(n)` gives views, so that what happens to the chunks happens to `values`.

# %% [markdown] lang="zh"
# 1. reduce-scatter 的第 $s$ 步，进程 $r$ 发送第 $(r - s) \bmod n$ 块，接收第 $(r - s - 1) \bmod n$ 块并加到自己的那块上。
#    接收到该块的 `torch.empty_like` 里：原来的数据不能被覆盖。
# 2. $n - 1$ 步之后，第 $(r + 1) \bmod n$ 块在这里是完整的：返回这个编号。
# 3. all-gather 从这一块开始：第 $s$ 步发送第 $(r + 1 - s) \bmod n$ 块，接收第 $(r - s) \bmod n$ 块，直接放进它的位置。
# 4. `ring_all_reduce`：`values.view(-1).tensor_split(n)` 得到的是视图，对各块做的事就是对 `values` 做的事。


# %%
@exercise(ring_reduce_scatter, ring_all_gather, ring_all_reduce)
def judge(yours, reference):
    functions = {
        name: (each.ring_reduce_scatter, each.ring_all_gather, each.ring_all_reduce)
        for name, each in (("yours", yours), ("reference", reference))
    }

    def run() -> dict[str, tuple[int, torch.Tensor, torch.Tensor, torch.Tensor, int]]:
        rank, world_size, found = distributed.get_rank(), distributed.get_world_size(), {}
        for name, (reduce_scatter, all_gather, all_reduce) in functions.items():
            values = torch.arange(12.0) * (rank + 1)
            chunks = values.tensor_split(world_size)
            whole = reduce_scatter(chunks)
            own = chunks[(rank + 1) % world_size].clone()
            for number, chunk in enumerate(chunks):  # the all-gather is judged by itself
                chunk.fill_(100.0 * rank if number == (rank + 1) % world_size else -1.0)
            all_gather(chunks)
            uneven = torch.arange(10.0).view(2, 5) ** (rank + 1)
            with count_sent() as sent:
                all_reduce(uneven)
            found[name] = (whole, own, values.clone(), uneven, sent.bytes)
        return found

    run_processes(distributed.get_rank)  # the first start takes long, and does not count
    try:
        results = run_processes(run, world_size=3, timeout=30)
    except TimeoutError:
        raise CheckFailedError("every process ends: one of yours waits for a message that nobody sends") from None
    for rank, found in enumerate(results):
        mine, wanted = found["yours"], found["reference"]
        check_close(f"ring_reduce_scatter, process {rank}: the chunk that is whole there", mine[1], wanted[1])
        check(f"ring_reduce_scatter, process {rank}: returns its number", mine[0] == wanted[0])
    for rank, found in enumerate(results):
        mine, wanted = found["yours"], found["reference"]
        check_close(f"ring_all_gather, process {rank}: all chunks", mine[2], wanted[2])
    for rank, found in enumerate(results):
        mine, wanted = found["yours"], found["reference"]
        check_close(f"ring_all_reduce, process {rank}: 10 numbers among three, [2, 5]", mine[3], wanted[3])
        check(f"process {rank} sends no more bytes than a ring needs", mine[4] <= wanted[4])


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### How does a ring all-reduce work, and why is its traffic almost independent of the number of processes? · 环形 all-reduce 怎样工作，为什么通信量几乎与进程数无关？

# %% [markdown] lang="en"
# The data are cut into $n$ chunks. In $n - 1$ steps each process passes one chunk to its neighbor, which adds its own:
# reduce-scatter. In $n - 1$ more steps the finished chunks go around: all-gather. A process sends $2(n - 1)$ chunks of $m/n$
# bytes, less than $2m$ for any $n$, and all links are busy at once. The price is latency: $2(n - 1)$ messages one after the
# other, so that small data are better reduced over a tree.

# %% [markdown] lang="zh"
# 数据切成 $n$ 块。$n - 1$ 步里每个进程把一块传给邻居，邻居加上自己的：reduce-scatter。
# 再用 $n - 1$ 步让完成的块转一圈：all-gather。
# 一个进程发送 $2(n - 1)$ 块、每块 $m/n$ 字节，无论 $n$ 多大都不到 $2m$，而且所有链路同时在用。
# 代价是延迟：$2(n - 1)$ 条消息依次进行，所以小数据更适合用树形归约。

# %%
table(["processes", "share of the data sent by each"], [(n, 2 * (n - 1) / n) for n in (2, 8, 64, 1024)])

# %% [markdown]
# ### How much memory does training a 7-billion-parameter model with Adam take, and what do ZeRO's stages save? · 用 Adam 训练 70 亿参数的模型要多少内存，ZeRO 各阶段省下什么？

# %% [markdown] lang="en"
# In mixed precision 16 bytes a weight: 2 for the weight, 2 for the gradient, 12 for the float32 copy and two moments: 112 GB,
# without activations. Stage 1 splits the 12, stage 2 also the gradients, stage 3 all 16. Stages 1 and 2 send as much as data
# parallelism, since a reduce-scatter and an all-gather are an all-reduce; stage 3 gathers the weights once more for the
# backward pass, 1.5 times as much. Activations need something else: checkpointing, shorter sequences, tensor parallelism.

# %% [markdown] lang="zh"
# 混合精度下每个权重 16 字节：权重 2、梯度 2、float32 副本和两个矩共 12，合计 112 GB，不含激活值。
# 阶段 1 切开那 12，阶段 2 再切开梯度，阶段 3 切开全部 16。
# 阶段 1、2 的通信量与数据并行相同，因为 reduce-scatter 加 all-gather 就是 all-reduce；
# 阶段 3 在反向时还要再收集一次权重，是 1.5 倍。激活值要靠别的办法：重计算、缩短序列、张量并行。

# %%
table(
    ["stage", *(f"{n} GPUs, GB" for n in (1, 8, 64))],
    [(s, *(memory_per_process(7_000_000_000, n, s, 2, 2, 12).total / 1e9 for n in (1, 8, 64))) for s in range(4)],
)

# %% [markdown]
# ### When do you use tensor parallelism, and when pipeline parallelism? · 什么时候用张量并行，什么时候用流水线并行？

# %% [markdown] lang="en"
# Tensor parallelism splits every matrix and needs two all-reduces of the activations per transformer layer forward and two
# backward (one for attention, one for the MLP), during which nothing else can be computed: within a machine, over NVLink. A
# pipeline sends one activation between neighboring stages, which fits slower links between machines, but has a bubble, needs
# many micro-batches, and layers that divide evenly. Both leave the batch as it is; data parallelism goes on top.

# %% [markdown] lang="zh"
# 张量并行切开每个矩阵，每个 Transformer 层前向要两次、反向要两次激活值的 all-reduce（注意力一次、MLP 一次），
# 其间不能做别的计算：用于一台机器之内，走 NVLink。
# 流水线只在相邻阶段之间传一份激活值，适合机器间较慢的链路，但有气泡，需要很多微批次，各层也要分得均匀。
# 两者都不改变批次；数据并行再叠加在上面。

# %%
tokens, width, layers = 8 * 2048, 4096, 32
per_step = 4 * layers * 2 * tokens * width
print(
    f"  tensor parallel: {4 * layers} all-reduces of {2 * tokens * width / 1e6:.0f} MB in bf16, {per_step / 1e9:.0f} GB a step"
)
print(f"  pipeline: {2 * 2 * tokens * width / 1e6:.0f} MB over each border between two stages, there and back")

# %% [markdown]
# ### What determines the pipeline bubble, and how do you shrink it? · 流水线气泡由什么决定，怎样缩小？

# %% [markdown] lang="en"
# $(p - 1)/(k + p - 1)$: stages and micro-batches. More micro-batches shrink it, until they are too small to keep a GPU busy,
# or the batch too large to learn well. 1F1B has the same bubble as GPipe with less memory, which allows more micro-batches.
# Interleaving (each process holds several short stages) divides it by their number for more messages; zero-bubble schedules
# split backward into the part that the neighbor waits for and the part it does not.

# %% [markdown] lang="zh"
# $(p - 1)/(k + p - 1)$：阶段数和微批次数。微批次越多气泡越小，直到微批次小得喂不饱 GPU，或批次大得学不好。
# 1F1B 与 GPipe 气泡相同但内存更少，因而允许更多微批次。
# 交错调度（每个进程持有几个短阶段）把气泡除以段数，代价是消息更多；
# 零气泡调度把反向拆成邻居在等的部分和不用等的部分。

# %%
table(
    ["micro-batches", *(f"{p} stages" for p in (2, 4, 8))],
    [(k, *(bubble_fraction(p, k) for p in (2, 4, 8))) for k in (1, 4, 16, 64)],
)

# %% [markdown]
# ### One of 64 processes is killed in the middle of a training. What happens, and what must be there to go on? · 64 个进程中有一个在训练途中被杀死，会发生什么，要继续需要什么？

# %% [markdown] lang="en"
# The others wait in the next collective, until the connection breaks or a timeout passes. The launcher notices the dead
# process, ends the rest on its machine, all agents meet again (rendezvous), and everybody is started anew with a new rank
# and a higher `TORCHELASTIC_RESTART_COUNT`. To go on, there must be a whole checkpoint that all can read: weights, optimizer,
# step, data position, random states, written atomically; and a program that looks for it. If fewer machines come back, the
# batch per process or the accumulation has to change, or the training does.

# %% [markdown] lang="zh"
# 其余进程在下一次集合通信里等待，直到连接断开或超时。
# 启动器发现死掉的进程，结束本机的其余进程，各启动器重新会合（rendezvous），
# 所有进程以新的 rank 和更大的 `TORCHELASTIC_RESTART_COUNT` 重新启动。
# 要继续，必须有一个所有进程都能读到的完整检查点：权重、优化器、步数、数据位置、随机状态，原子地写入；还要有会去找它的程序。
# 如果回来的机器变少，就要改变每个进程的批次或累积步数，否则训练就变了。

# %%
for rank, each in enumerate(restarted):
    print(
        f"  process {rank}: restart {each['restarts']}, began at step {each['began at step']}, weight {each['weight']:.6f}"
    )

# %% [markdown]
# ### DDP or FSDP? · DDP 还是 FSDP？

# %% [markdown] lang="en"
# DDP where model, gradients and optimizer fit: one all-reduce, easily hidden, and nothing else to know. FSDP where they do
# not, or where the memory saved allows a larger batch: it gathers each layer's weights twice a step, so the batch must be
# large enough to hide that, and saving, clipping and evaluating must know of split tensors. Its layers are gathered in
# units; too small units pay latency, and one unit for the whole model saves nothing at the peak.

# %% [markdown] lang="zh"
# 模型、梯度、优化器都放得下就用 DDP：一次 all-reduce，容易掩盖，别无讲究。
# 放不下，或省下的内存能换更大的批次时用 FSDP：它每步收集各层权重两次，批次要大到足以掩盖；
# 保存、裁剪、评估都要懂得切开的张量。它按单元收集各层：单元太小要付延迟，整个模型一个单元则峰值内存一点不省。

# %%
for way, (_, memory) in ways[0].items():
    print(f"  {way}: {memory.total / 1e6:.2f} MB held by each of two processes")
