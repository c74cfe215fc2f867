# %% [markdown]
# # FlashAttention: exact attention in tiles · FlashAttention：分块的精确注意力

# %% [markdown] lang="en"
# After this lesson you can compute attention without its matrix of weights, forward and backward, say why the result is
# exact, count the memory traffic that is saved, and say what a GPU kernel does that Python cannot. You need attention and
# its masks (07/01) and the chain rule (02/04).

# %% [markdown] lang="zh"
# 学完本课，你能在不生成权重矩阵的情况下计算注意力的前向和反向，能说明结果为什么是精确的，
# 能算出省下的内存流量，并能说明 GPU 内核做了哪些 Python 做不到的事。
# 先修：注意力与掩码（07/01）、链式法则（02/04）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.llm.attention_traffic import fast_memory_needed, largest_query_block, standard_traffic, tiled_traffic
from dlcommon.llm.flash_attention import FlashAttention, flash_attention, key_blocks, online_softmax_step
from dlcommon.llm.peak_memory import peak_bytes
from dlcommon.training.activation_memory import saved_bytes
from dlcommon.transformer.attention import causal_mask, padding_mask, scaled_dot_product_attention
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Attention compares each token with each other. For 32,768 tokens that is a matrix of a billion weights: 2 GB in 16 bits, for each
# head and each layer, written to memory, read for the softmax, written again, read again for the values, and kept for the backward
# pass. The inputs and the output have 2 million numbers each.
#
# A GPU multiplies faster than its memory delivers. Most of the time of such an attention goes into moving a matrix that
# nobody wanted: only its product with the values is needed. Could one do without it? The softmax seems to forbid it: each weight is
# divided by a sum over all keys, so that it looks as if all logits must be there before the first weight is known.

# %% [markdown] lang="zh"
# 注意力把每个词元与每个词元比较。32,768 个词元就是十亿个权重的矩阵：16 位要 2 GB，每层每头都有一个，
# 写进内存，为 softmax 读出来，再写一次，为乘以值再读一次，还要留给反向传播。而输入和输出各自只有 200 万个数。
#
# GPU 的乘法比它的内存供数快。这样的注意力把大部分时间花在搬运一个没人想要的矩阵上：需要的只是它与值的乘积。
# 能不能不要它？softmax 似乎不允许：每个权重都要除以对所有键的求和，看起来必须先有全部 logits，才能知道第一个权重。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# One query, three keys with logits 1, 3, 2 and values 10, 20, 40. All at once: exponentials relative to the largest, $e^{-2},
# 1, e^{-1}$, sum 1.503; the output is $(0.135 \cdot 10 + 1 \cdot 20 + 0.368 \cdot 40) / 1.503 = 23.99$.
#
# One after the other, with three running numbers: the largest logit, the sum, and the sum of exponential times value.
#
# - After the first key: largest 1, sum 1, output 10.
# - The second key has logit 3, which is larger. What was summed relative to 1 must now be relative to 3: times $e^{1-3} = 0.135$. Sum
#   $0.135 + 1 = 1.135$; output $1.353 + 20 = 21.353$.
# - The third has logit 2; the largest stays. Sum $1.135 + 0.368 = 1.503$; output $21.353 + 14.715 = 36.068$.
#
# At the end $36.068 / 1.503 = 23.99$. It is the same number, and no logit had to be kept.

# %% [markdown] lang="zh"
# 一个查询，三个键的 logits 是 1、3、2，值是 10、20、40。一次算完：相对最大值取指数，$e^{-2}, 1, e^{-1}$，和为 1.503；
# 输出是 $(0.135 \cdot 10 + 1 \cdot 20 + 0.368 \cdot 40) / 1.503 = 23.99$。
#
# 逐个来，只记三个数：目前最大的 logit、指数之和、指数乘以值之和。
#
# - 第一个键之后：最大 1，和 1，输出 10。
# - 第二个键的 logit 是 3，更大。以 1 为基准的和现在要改为以 3 为基准：乘以 $e^{1-3} = 0.135$。
#   和 $0.135 + 1 = 1.135$；输出 $1.353 + 20 = 21.353$。
# - 第三个的 logit 是 2，最大值不变。和 $1.135 + 0.368 = 1.503$；输出 $21.353 + 14.715 = 36.068$。
#
# 最后 $36.068 / 1.503 = 23.99$。是同一个数，而且一个 logit 都不用留着。

# %%
logits, values = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0, 40.0])
state = torch.tensor([[-torch.inf]]), torch.zeros(1, 1), torch.zeros(1, 1)
steps = []
for logit, value in zip(logits, values, strict=True):
    state = online_softmax_step(*state, logit.view(1, 1), value.view(1, 1))
    steps.append([each.item() for each in state])
table(
    ["after key", "largest logit", "sum", "output", "output / sum"],
    [(number + 1, *step, step[2] / step[1]) for number, step in enumerate(steps)],
)
at_once = (logits.softmax(dim=0) @ values).item()
print(f"  all at once: {at_once:.3f}")

drawing = Schematic(12.6, 5.2, "Tiles: 4 blocks of queries, 4 blocks of keys, causal")
for row in range(4):
    for column in range(4):
        color = {True: "0.55", False: "white"}[column == row] if column >= row else "0.82"
        spot = plt.Rectangle((1.9 + 0.9 * column, 3.3 - 0.9 * row), 0.8, 0.8, facecolor=color, edgecolor="black")
        drawing.axes.add_patch(spot)
    drawing.text(1.2, 3.7 - 0.9 * row, f"queries {row + 1}")
    drawing.text(2.3 + 0.9 * row, 4.4, f"keys {row + 1}")
drawing.text(3.7, 0.25, "light: whole, dark: masked in part, white: never computed")
drawing.box("slow", 7.3, 3.9, "slow memory:\nQ, K, V, O", "data", 2.0, 0.9)
drawing.box("tile", 11.0, 3.9, "fast memory:\none tile", "operation", 2.0, 0.9)
drawing.box("state", 11.0, 1.9, "largest, sum,\noutput so far", "data", 2.0, 0.9)
drawing.arrow("slow", "tile", "a block of K, V", bend=0.25)
drawing.arrow("tile", "state", "online softmax")
drawing.arrow("state", "slow", "O, log-sum-exp:\nonce a row", bend=0.15)
show(drawing.figure, "tiles")

# %% [markdown]
# ## Formula · 公式
#
# $$m' = \max\Big(m, \max_j s_j\Big), \qquad \ell' = e^{m - m'} \ell + \sum_j e^{s_j - m'}, \qquad o' = e^{m - m'} o + \sum_j e^{s_j - m'} v_j$$
#
# $$O_i = \frac{o}{\ell}, \qquad L_i = m + \log \ell, \qquad P_{ij} = e^{S_{ij} - L_i}$$
#
# $$dV = P^\top dO, \qquad dP = dO\, V^\top, \qquad dS_{ij} = P_{ij}\,(dP_{ij} - D_i), \qquad D_i = \sum_k dO_{ik} O_{ik}$$
#
# $$dQ = \frac{dS\, K}{\sqrt d}, \qquad dK = \frac{dS^\top Q}{\sqrt d}$$
#
# $$\text{standard: } 4 N^2 + 4 N d, \qquad \text{tiled: } 2 N d + N + \frac{2 N^2 d}{B} = \Theta\Big(\frac{N^2 d^2}{M}\Big)$$

# %% [markdown] lang="en"
# - $s_j, v_j$: the logits and values of the new block of keys; $m, \ell, o$: largest logit, sum of exponentials and output so far,
#   for each query of the block, `[queries, 1]`, `[queries, 1]`, `[queries, head_dim]`; primes: after the block.
# - $O_i$: the output; $L_i$: the log-sum-exp of query $i$'s logits, the only thing that is saved beside $Q, K, V, O$.
# - $S_{ij} = q_i^\top k_j / \sqrt d$; $P_{ij}$: the weight, in the backward pass computed again, a tile at a time (Dao 2023,
#   section 3.1).
# - $dO$ and so on: gradients of the loss with respect to $O$ and so on.
# - $D_i$: what the softmax's Jacobian subtracts from each row of $dP$. It is $\sum_j P_{ij}\, dP_{ij}$, a sum over all keys; but
#   that is $\sum_j P_{ij} (dO_i^\top v_j) = dO_i^\top O_i$, a product over `head_dim`.
# - $N$: tokens; $d$: width of a head; $B$: queries in a block; $M$: how many numbers fit into fast memory. A block of
#   queries and its output need about $2 B d$ of it, so that $B \approx M / 2d$. Counts are of numbers moved in the
#   forward pass; Dao et al. (2022, theorem 2) prove $\Theta(N^2 d^2 / M)$.
#
# Why it is exact: no term of any sum is left out. Only the order of summation differs, as it does between any two matrix products,
# and the common factor $e^{-m}$ cancels in $o / \ell$.

# %% [markdown] lang="zh"
# - $s_j, v_j$：新一块键的 logits 和值；$m, \ell, o$：到目前为止最大的 logit、指数之和、输出，
#   块内每个查询各有一份，`[queries, 1]`、`[queries, 1]`、`[queries, head_dim]`；带撇的是处理这一块之后的。
# - $O_i$：输出；$L_i$：第 $i$ 个查询的 logits 的 log-sum-exp，除 $Q, K, V, O$ 外只保存它。
# - $S_{ij} = q_i^\top k_j / \sqrt d$；$P_{ij}$：权重，反向传播时逐块重新计算（Dao 2023，第 3.1 节）。
# - $dO$ 等：损失对 $O$ 等的梯度。
# - $D_i$：softmax 的雅可比矩阵从 $dP$ 的每一行减去的量。它是 $\sum_j P_{ij}\, dP_{ij}$，对所有键求和；
#   但它等于 $\sum_j P_{ij} (dO_i^\top v_j) = dO_i^\top O_i$，只是 `head_dim` 上的一个点积。
# - $N$：词元数；$d$：一个头的宽度；$B$：一块的查询数；$M$：快速内存能放多少个数。
#   一块查询及其输出约占 $2 B d$，所以 $B \approx M / 2d$。计数的是前向传播搬运的数；
#   Dao 等（2022，定理 2）证明了 $\Theta(N^2 d^2 / M)$。
#
# 为什么精确：任何求和都没有漏项。只是求和次序不同，任何两种矩阵乘法之间也是如此；公共因子 $e^{-m}$ 在 $o / \ell$ 中约去。

# %% [markdown]
# ## Code · 代码

# %%
source(online_softmax_step)
source(key_blocks)
source(FlashAttention.forward)
source(FlashAttention.backward)

# %% [markdown] lang="en"
# `forward` has two loops. The outer one takes a block of queries, `[batch, heads, block, head_dim]`, and begins with $m = -\infty$; the inner one
# takes each block of keys that these queries may attend to. Only the tile of logits, `[batch, heads, block of queries, block of
# keys]`, exists at any time. With a causal mask, tiles above the diagonal are not masked but skipped: half of the work.
#
# A row that is masked so far has $m = -\infty$, and $-\infty - (-\infty)$ is not a number; so the reference is 0 there, and the sum stays 0. A
# query that may attend to nothing gets the output 0 and $L = +\infty$, so that its weights are 0 in the backward pass too.
#
# `backward` computes each tile of logits once more, and gets the weights from $L$ without a second softmax. That is one more product
# than a backward pass with saved weights needs: five instead of four. It is faster all the same where memory, not arithmetic, is the limit.

# %% [markdown] lang="zh"
# `forward` 有两层循环。外层取一块查询 `[batch, heads, block, head_dim]`，从 $m = -\infty$ 开始；
# 内层依次取这些查询可以关注的每一块键。任何时刻只存在一块 logits，`[batch, heads, block of queries, block of keys]`。
# 有因果掩码时，对角线上方的块不是被掩掉，而是直接跳过：省一半的工作。
#
# 到目前为止全被掩掉的行有 $m = -\infty$，而 $-\infty - (-\infty)$ 不是数；所以那里的基准取 0，和保持为 0。
# 什么也不能关注的查询输出为 0，$L = +\infty$，反向传播时它的权重也就是 0。
#
# `backward` 把每块 logits 再算一遍，由 $L$ 直接得到权重，不必再做 softmax。
# 与保存权重的反向传播相比多一次矩阵乘法：五次而不是四次。在内存而非算力是瓶颈的地方，它仍然更快。

# %% [markdown]
# ## Experiment: memory traffic · 实验：内存流量

# %% [markdown] lang="en"
# We count the numbers that pass between slow and fast memory, from the very loops of `flash_attention`: one head of width
# 64, blocks of 64 keys, and as many queries in a block as fit into the fast memory. A streaming multiprocessor of an A100 has 192 KB of it: 98,304
# numbers of 16 bits.

# %% [markdown] lang="zh"
# 我们按 `flash_attention` 的循环，数出在慢速与快速内存之间搬运的数：一个头，宽 64，每块 64 个键，
# 查询块大到快速内存刚好放得下为止。A100 的一个流式多处理器有 192 KB 快速内存，即 98,304 个 16 位数。

# %%
quiz(
    "twice the memory",
    en="1,024 tokens of width 64: by what factor does standard attention move more numbers than tiles with 256 queries?",
    zh="1,024 个词元，宽 64：标准注意力搬运的数是每块 256 个查询的分块算法的几倍？",
)
quiz(
    "twice the tokens",
    en="Tiles of one size, twice as many tokens: how does the traffic of the tiled loops grow?",
    zh="块大小不变，词元数加倍：分块循环的流量怎样增长？",
    choices={"2": "about twice · 约两倍", "4": "about four times · 约四倍", "log": "hardly · 几乎不变"},
)

# %%
DIM, KEYS = 64, 64
settle(
    "twice the memory", standard_traffic(1024, 1024, DIM) / tiled_traffic(1024, 1024, DIM, 256, KEYS), tolerance=0.15
)
TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
A100 = 98_304
fits = largest_query_block(DIM, A100, KEYS)
rows = []
for tokens in TOKENS:
    plain, tiled = standard_traffic(tokens, tokens, DIM), tiled_traffic(tokens, tokens, DIM, fits, KEYS)
    causal = tiled_traffic(tokens, tokens, DIM, fits, KEYS, causal=True)
    rows.append((tokens, plain / 1e6, tiled / 1e6, causal / 1e6, plain / tiled))
print(f"  {fits} queries in a block: {fast_memory_needed(DIM, fits, KEYS):,} of {A100:,} numbers")
table(["tokens", "standard, millions", "tiled", "tiled, causal", "standard / tiled"], rows)
doubled = tiled_traffic(8192, 8192, DIM, 64, KEYS) / tiled_traffic(4096, 4096, DIM, 64, KEYS)
settle("twice the tokens", "2" if doubled < 3 else "4")

MEMORIES = [2**power for power in range(14, 19)]
by_memory = [tiled_traffic(16384, 16384, DIM, largest_query_block(DIM, memory, 16), 16) for memory in MEMORIES]
law = [4 * 16384**2 * DIM**2 / memory for memory in MEMORIES]
SIZES = (8, 16, 32, 64, 128, 256, 512)
figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained")
axes[0].plot(TOKENS, [row[1] for row in rows], "o-", label="standard")
axes[0].plot(TOKENS, [row[2] for row in rows], "s-", label=f"tiled, {fits} queries in a block")
axes[0].plot(TOKENS, [row[3] for row in rows], "^-", label="tiled, causal")
axes[0].plot(TOKENS, [4 * tokens * DIM / 1e6 for tokens in TOKENS], ":", color="grey", label="inputs and output alone")
axes[0].set(xscale="log", yscale="log", xlabel="tokens", ylabel="millions of numbers moved", title="Both grow as N²")
axes[1].plot(SIZES, [tiled_traffic(4096, 4096, DIM, size, KEYS) / 1e6 for size in SIZES], "o-", label="tiled")
axes[1].axhline(standard_traffic(4096, 4096, DIM) / 1e6, color="black", linestyle="--", label="standard")
axes[1].set(xscale="log", yscale="log", xlabel="queries in a block", title="4,096 tokens: larger blocks, less traffic")
axes[2].plot(MEMORIES, [count / 1e6 for count in by_memory], "o-", label="tiled, largest block that fits")
axes[2].plot(MEMORIES, [count / 1e6 for count in law], ":", color="black", label="4 N² d² / M")
axes[2].set(xscale="log", yscale="log", xlabel="fast memory M, in numbers", title="16,384 tokens: N² d² / M")
axes[2].set_xticks(MEMORIES, [f"{memory:,}" for memory in MEMORIES], fontsize=8)
axes[2].set_yticks([20, 50, 100, 200, 400], ["20", "50", "100", "200", "400"])
axes[2].minorticks_off()
for axis in axes:
    axis.legend(fontsize=8)
show(figure, "traffic")

# %% [markdown] lang="en"
# Tiled attention still does $N^2$ arithmetic, and its traffic still grows as $N^2$: every block of queries reads all keys. But each
# key that is read serves a whole block of queries, so that the traffic is smaller by a factor of about $2B/d$. With blocks of $d/2 = 32$ queries or
# fewer nothing is gained at all: what counts is that $M$ is much larger than $d^2$. For a wide head ($d = 256$) the same
# fast memory saves much less.

# %% [markdown] lang="zh"
# 分块注意力的运算量仍是 $N^2$，流量也仍按 $N^2$ 增长：每块查询都要读全部的键。
# 但读进来的每个键为整块查询服务，所以流量约减小到原来的 $d / 2B$。每块只有 $d/2 = 32$ 个查询或更少时毫无收益：
# 关键是 $M$ 要远大于 $d^2$。头很宽时（$d = 256$），同样的快速内存省得少得多。

# %% [markdown]
# ## Experiment: memory held · 实验：占用的内存

# %% [markdown] lang="en"
# Traffic is counted; memory can be measured, here on the CPU: what the forward pass keeps for the backward pass, and the largest amount that
# tensors take at any time, from torch's record of each allocation. Two heads of width 32, forward and backward, with standard attention
# (07/01), with our tiles of 64 × 64, and with torch's fused function. Times are printed for honesty: ours is Python.

# %% [markdown] lang="zh"
# 流量靠计数，内存则可以实测，这里在 CPU 上测：前向传播为反向传播保留了多少，
# 以及张量在任一时刻最多占多少（来自 torch 对每次分配的记录）。两个头，宽 32，前向加反向，
# 比较标准注意力（07/01）、我们 64 × 64 的分块，以及 torch 的融合函数。也如实打印时间：我们的是 Python。

# %%
quiz(
    "saved",
    en="From 512 to 1,024 tokens: how many times as much does standard attention keep for the backward pass?",
    zh="从 512 到 1,024 个词元：标准注意力为反向传播保留的内存变成几倍？",
)


# %%
def heads_of(tokens: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(1, 2, tokens, 32, generator=generator).requires_grad_() for _ in range(3)]


ATTENTIONS = {
    "standard": lambda q, k, v: scaled_dot_product_attention(q, k, v)[0],
    "tiled, ours": flash_attention,
    "torch's fused": F.scaled_dot_product_attention,
}


def forward_backward(attend, inputs: list[torch.Tensor]) -> None:
    torch.autograd.grad(attend(*inputs).sum(), inputs)


LENGTHS = (128, 256, 512, 1024)
saved, peaks, times = {}, {}, {}
for name, attend in ATTENTIONS.items():
    for tokens in LENGTHS:
        inputs = heads_of(tokens)
        saved[name, tokens] = saved_bytes(lambda attend=attend, inputs=inputs: attend(*inputs), inputs)
        peaks[name, tokens] = peak_bytes(lambda attend=attend, inputs=inputs: forward_backward(attend, inputs))
    times[name] = seconds(lambda attend=attend, inputs=inputs: forward_backward(attend, inputs), repeats=2)
settle("saved", saved["standard", 1024] / saved["standard", 512], tolerance=0.1)
table(
    ["1,024 tokens", "kept for backward, kB", "peak, kB", "peak at 512, kB", "seconds here"],
    [
        (name, saved[name, 1024] / 1e3, peaks[name, 1024] / 1e3, peaks[name, 512] / 1e3, times[name])
        for name in ATTENTIONS
    ],
)
figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained", sharey=True)
for axis, found, title in (
    (axes[0], saved, "Kept for the backward pass"),
    (axes[1], peaks, "Peak, forward and backward"),
):
    for name, style in zip(ATTENTIONS, ("o-", "s-", "^--"), strict=True):
        axis.plot(LENGTHS, [found[name, tokens] / 1e3 for tokens in LENGTHS], style, label=name)
    axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel="kB", title=title, xticks=LENGTHS, xticklabels=LENGTHS)
    axis.minorticks_off()
    axis.legend()
show(figure, "memory")

# %% [markdown] lang="en"
# What is kept falls from the square to a straight line: the output, and one number for each query. The peak does so too.
# That, not speed, is what our Python shows. It is not faster on a CPU, and cannot be: every line of the inner loop is an operation of its own,
# which writes its result to memory before the next one reads it.
#
# A kernel is one program for the whole loop. It loads a block of keys into the chip's memory, and logits, maxima, exponentials and
# products stay there and in registers until the output is written. It starts one group of threads for each block of queries and head; it
# loads the next block while it multiplies the current one; and it lays out tiles for the units that multiply matrices. In Python one can
# say *what* is computed, tile by tile, but not *where* the numbers are between two lines. Triton and CUDA can.

# %% [markdown] lang="zh"
# 保留的内存从平方降为直线：只有输出，以及每个查询一个数。峰值也是如此。我们的 Python 展示的是这一点，而不是速度。
# 它在 CPU 上并不更快，也不可能更快：内层循环的每一行都是单独的操作，结果先写进内存，下一行再读出来。
#
# 内核是把整个循环写成一个程序。它把一块键载入片上内存，logits、最大值、指数和乘积一直留在那里和寄存器里，直到写出输出。
# 它为每块查询、每个头启动一组线程；一边乘当前块，一边载入下一块；并按矩阵乘法单元的要求排列各块。
# Python 能说明逐块*算什么*，却不能说明两行之间数放在*哪里*。Triton 和 CUDA 可以。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The reference is `F.scaled_dot_product_attention` in float64, in value and gradient, with causal and padding masks, and with block sizes that do not divide
# the tokens. One sequence is padding altogether. torch chooses among kernels itself, FlashAttention among them, on
# GPUs and on CPUs.

# %% [markdown] lang="zh"
# 参照是 float64 下的 `F.scaled_dot_product_attention`，比较数值和梯度，带因果掩码和填充掩码，块大小不能整除词元数，
# 其中一个序列全是填充。torch 会自己在多种内核中选择，包括 GPU 和 CPU 上的 FlashAttention。

# %%
generator = torch.Generator().manual_seed(0)
query, key, value = (
    torch.randn(3, 2, 19, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(3)
)
lengths = torch.tensor([19, 11, 0])
upstream = torch.randn(3, 2, 19, 8, generator=generator, dtype=torch.float64)
compared = {}
for name, causal, real in (
    ("no mask", False, None),
    ("causal", True, None),
    ("padding", False, lengths),
    ("causal and padding", True, lengths),
):
    mask = torch.ones(3, 1, 19, 19, dtype=torch.bool)
    if causal:
        mask = mask & causal_mask(19)
    if real is not None:
        mask = mask & padding_mask(real, 19)
    for whose, output in (
        ("torch", F.scaled_dot_product_attention(query, key, value, attn_mask=mask)),
        ("ours", flash_attention(query, key, value, causal=causal, lengths=real, query_block=4, key_block=6)),
    ):
        gradients = torch.autograd.grad(output, (query, key, value), upstream)
        compared[name, whose] = output.detach(), torch.stack(gradients)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: largest, sum and output after two keys", steps[1], [3.0, 1.1353, 21.3534], 1e-4)
check_close("by hand: after three keys, 36.068 / 1.503", steps[2][2] / steps[2][1], 23.994, 1e-4)
check_close("the online softmax is the softmax", steps[2][2] / steps[2][1], at_once)
for name in ("no mask", "causal", "padding", "causal and padding"):
    check_close(f"equals torch's: {name}", compared[name, "ours"][0], compared[name, "torch"][0], 1e-12)
    check_close(f"so do the gradients: {name}", compared[name, "ours"][1], compared[name, "torch"][1], 1e-11)
sizes = [flash_attention(query, key, value, query_block=size, key_block=size + 1) for size in (1, 3, 7, 64)]
check("any block sizes give one result, up to rounding", max((each - sizes[0]).abs().max() for each in sizes) < 1e-13)
check("standard attention moves 4N² + 4Nd numbers", standard_traffic(1024, 1024, 64) == 4 * 1024**2 + 4 * 1024 * 64)
check(
    "tiles move 2Nd + N + 2N²d/B",
    tiled_traffic(4096, 4096, 64, 128, 64) == 2 * 4096 * 64 + 4096 + 2 * 4096**2 * 64 // 128,
)
once = 2 * 16384 * DIM + 16384  # queries, output and log-sum-exp pass once
check(
    "beyond what passes once, the traffic is 1 to 1.4 times 4 N² d² / M over a factor of 16 in M",
    all(1 < (count - once) / rule < 1.4 for count, rule in zip(by_memory, law, strict=True)),
)
check(
    "blocks of 16 queries move more than standard attention",
    tiled_traffic(4096, 4096, 64, 16, 64) > standard_traffic(4096, 4096, 64),
)
check(
    "kept for the backward pass: the square of the tokens with standard attention, a straight line with tiles",
    saved["standard", 1024] > 3.5 * saved["standard", 512]
    and saved["tiled, ours", 1024] == 2 * saved["tiled, ours", 512],
)
check("at 1,024 tokens the peak is less than a fifth", peaks["tiled, ours", 1024] < peaks["standard", 1024] / 5)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Every attention of this repository calls `F.scaled_dot_product_attention`, which chooses a fused kernel where there is one; so
# does the capstone `char-lm`: `uv run --package char-lm train --max-minutes 5`. Ask for the weights (07/01), and it must fall back on
# the standard way, since the kernel never has them.
#
# Papers: [Dao et al. 2022](https://arxiv.org/abs/2205.14135), FlashAttention; [Dao
# 2023](https://arxiv.org/abs/2307.08691), FlashAttention-2, whose loops these are; [Milakov and Gimelshein
# 2018](https://arxiv.org/abs/1805.02867), the online softmax; [Rabe and Staats
# 2021](https://arxiv.org/abs/2112.05682), attention without quadratic memory; [Williams et al.
# 2009](https://doi.org/10.1145/1498765.1498785), the roofline. Next: what a model is trained on before all else, 12/04.

# %% [markdown] lang="zh"
# 本仓库的注意力都调用 `F.scaled_dot_product_attention`，有融合内核时它会自动选用；
# 实战项目 `char-lm` 也是：`uv run --package char-lm train --max-minutes 5`。
# 如果要返回权重（07/01），就只能退回标准做法，因为内核里从来没有完整的权重。
#
# 论文：[Dao 等 2022](https://arxiv.org/abs/2205.14135)，FlashAttention；
# [Dao 2023](https://arxiv.org/abs/2307.08691)，FlashAttention-2，本课的循环出自这里；
# [Milakov 和 Gimelshein 2018](https://arxiv.org/abs/1805.02867)，在线 softmax；
# [Rabe 和 Staats 2021](https://arxiv.org/abs/2112.05682)，不用平方内存的注意力；
# [Williams 等 2009](https://doi.org/10.1145/1498765.1498785)，roofline 模型。下一课：模型最先学什么，预训练，12/04。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `online_softmax_step`, `key_blocks` and the backward pass, `FlashAttention.backward`, yourself. `uv run lesson exercise
# 12/03` makes a file with their signatures, `uv run lesson check 12/03` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `online_softmax_step`、`key_blocks` 和反向传播 `FlashAttention.backward`。
# `uv run lesson exercise 12/03` 生成带有签名的文件，`uv run lesson check 12/03` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. The new largest logit is `torch.maximum` of the old one and the block's `amax`. Everything summed before is multiplied by
#    `(old - new).exp()`, the new exponentials are taken relative to the new one.
# 2. If all is masked so far, the new largest is $-\infty$: replace it by 0 where exponentials are taken, not where it is returned.
# 3. With a causal mask, the last query of the block `rows` is token `keys - queries + rows.stop - 1`; no key after it is needed. A block
#    of keys that is begun is taken whole.
# 4. Go through the same tiles as `forward`, compute the logits with `_logits` and `_hidden`, and the weights as `exp(logits - log_total)`.
# 5. Sum $D_i$ once, before the loops. Each tile adds to three gradients; the factor $1/\sqrt d$ belongs to those of queries and keys. Return
#    them in the inputs' dtypes, and `None` four times.

# %% [markdown] lang="zh"
# 1. 新的最大 logit 是旧的与本块 `amax` 的 `torch.maximum`。之前的累加都乘以 `(old - new).exp()`，新的指数以新的最大值为基准。
# 2. 如果到目前为止全被掩掉，新的最大值是 $-\infty$：取指数时用 0 代替它，返回时不代替。
# 3. 有因果掩码时，块 `rows` 的最后一个查询是第 `keys - queries + rows.stop - 1` 个词元；它之后的键都不需要。
#    已经开始的一块键取完整的一块。
# 4. 与 `forward` 走同样的块，用 `_logits` 和 `_hidden` 算 logits，权重是 `exp(logits - log_total)`。
# 5. $D_i$ 在循环之前一次算好。每块给三个梯度各加一份；因子 $1/\sqrt d$ 属于查询和键的梯度。
#    按输入的 dtype 返回它们，再返回四个 `None`。


# %%
@exercise(online_softmax_step, key_blocks, FlashAttention.backward)
def judge(yours, reference):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    begin = torch.full((4, 1), -torch.inf).double(), torch.zeros(4, 1).double(), torch.zeros(4, 3).double()
    first, second, values = 3 * draw(4, 5), 3 * draw(4, 5) + 4, draw(5, 3)
    masked = first.clone()
    masked[1] = -torch.inf
    names = ("the largest logit", "the sum", "the output")
    for case, blocks_of_logits in (
        ("one block", [first]),
        ("a block with larger logits after it", [first, second]),
        ("a block with smaller logits after it", [second, first]),
        ("a row that is masked at first", [masked, second]),
    ):
        mine = theirs = begin
        for block in blocks_of_logits:
            mine = yours.online_softmax_step(*mine, block, values)
            theirs = reference.online_softmax_step(*theirs, block, values)
        for name, ours, expected in zip(names, mine, theirs, strict=True):
            check_close(f"online_softmax_step, {case}: {name}", ours, expected, 1e-9)
    mine, theirs = (each.online_softmax_step(*begin, masked, values) for each in (yours, reference))
    check("online_softmax_step: a row that is masked altogether has the sum 0", mine[1][1].item() == 0)
    check("online_softmax_step: … and its largest logit stays −∞", mine[0][1].item() == -torch.inf)

    for queries, keys, causal in ((8, 8, False), (8, 8, True), (4, 9, True), (3, 3, True)):
        for rows in (slice(0, 2), slice(2, 3)):
            mine, theirs = (list(each.key_blocks(rows, queries, keys, 3, causal)) for each in (yours, reference))
            named = f"{rows.start} to {rows.stop} of {queries} queries, {keys} keys, causal={causal}"
            check(f"key_blocks covers the keys that are needed, in order: {named}", mine == theirs)

    lengths = torch.tensor([7, 3])
    for causal, real in ((False, None), (True, None), (True, lengths)):
        inputs = [draw(2, 1, 7, width).requires_grad_() for width in (4, 4, 5)]
        upstream = draw(2, 1, 7, 5)
        mine, theirs = (
            torch.autograd.grad(each.FlashAttention.apply(*inputs, real, causal, 2, 3), inputs, upstream)
            for each in (yours, reference)
        )
        named = f"causal={causal}, {'padding' if real is not None else 'no padding'}"
        for name, ours, expected in zip(("values", "keys", "queries"), mine[::-1], theirs[::-1], strict=True):
            check_close(f"backward: the gradient of {name}, {named}", ours, expected, 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Is FlashAttention an approximation? · FlashAttention 是近似吗？

# %% [markdown] lang="en"
# No. It computes the same sums in another order, and differs from standard attention by rounding, as any two matrix products
# do. Sparse, low-rank and linear attention are approximations (or other functions): they leave terms out to
# have less arithmetic. FlashAttention has slightly more arithmetic, and less traffic.

# %% [markdown] lang="zh"
# 不是。它以另一种次序计算同样的和，与标准注意力只差舍入误差，任何两种矩阵乘法之间也是如此。
# 稀疏、低秩和线性注意力才是近似（或者说是别的函数）：它们舍去一些项来减少运算。FlashAttention 的运算还略多一点，但流量更少。

# %%
exact, _ = scaled_dot_product_attention(query, key, value)
near = (torch.arange(19)[:, None] - torch.arange(19)).abs() < 6
windowed, _ = scaled_dot_product_attention(query, key, value, near)
tiled = flash_attention(query, key, value, query_block=4, key_block=6)
print(
    f"  tiles differ by {(tiled - exact).abs().max():.1e}, a window of 6 tokens by {(windowed - exact).abs().max():.1e}"
)

# %% [markdown]
# ### It computes the logits twice. Why is it faster? · 它把 logits 算了两遍，为什么反而更快？

# %% [markdown] lang="en"
# Because the time of standard attention goes into moving the matrices, not into products. Per byte moved, an A100 can do about 200
# operations in 16 bits (312 TFLOP/s over 1.5 TB/s); the softmax does a handful for each number. Recomputing a tile costs arithmetic, of which
# there is plenty, and saves a write and a read of $N^2$ numbers. On hardware with fast memory and slow arithmetic, such as a CPU
# with large caches, there is less to gain.

# %% [markdown] lang="zh"
# 因为标准注意力的时间花在搬运矩阵上，不在乘法上。A100 每搬一个字节的时间，
# 能做约 200 次 16 位运算（312 TFLOP/s 除以 1.5 TB/s），而 softmax 对每个数只做几次运算。
# 重算一块花的是富余的算力，省下的是 $N^2$ 个数的一次写和一次读。在内存快而算力慢的硬件上，例如缓存很大的 CPU，收益就小。

# %%
tokens = 8192
for name, moved in (
    ("standard", standard_traffic(tokens, tokens, DIM)),
    ("tiled", tiled_traffic(tokens, tokens, DIM, 128, 64)),
):
    arithmetic = 4 * tokens**2 * DIM / 312e12
    print(
        f"  {name}, one head, forward, an estimate: {1e6 * 2 * moved / 1.5e12:.0f} µs for traffic, "
        f"{1e6 * arithmetic:.0f} µs for products"
    )

# %% [markdown]
# ### Does FlashAttention make attention linear? · FlashAttention 让注意力变成线性的了吗？

# %% [markdown] lang="en"
# Memory, yes: $O(N d)$ instead of $O(N^2)$. Arithmetic, no: $4 N^2 d$ operations forward, as before. Traffic, no: $N^2 d^2 / M$, which
# is smaller by a factor, but quadratic. Twice the context costs four times the time.

# %% [markdown] lang="zh"
# 内存是：$O(N d)$ 而不是 $O(N^2)$。运算不是：前向仍是 $4 N^2 d$ 次。流量也不是：$N^2 d^2 / M$，小了一个倍数，但仍是平方的。
# 上下文加倍，时间变成四倍。

# %%
for name, at in (
    ("kept for backward", lambda tokens: saved["tiled, ours", tokens]),
    ("traffic", lambda tokens: tiled_traffic(tokens, tokens, 32, 64, 64)),
    ("multiplications", lambda tokens: 2 * tokens * tokens * 32),
):
    print(f"  {name}: 1,024 tokens against 512: × {at(1024) / at(512):.2f}")

# %% [markdown]
# ### What has to be saved for the backward pass, and why is that enough? · 反向传播需要保存什么？为什么够用？

# %% [markdown] lang="en"
# $Q, K, V$, the output $O$, and for each query $L$, the log-sum-exp of its logits. With $L$ a tile's weights are $e^{S - L}$ at once, without its
# neighbors. The softmax's gradient needs a sum over the whole row, $D_i$, but that is $dO_i^\top O_i$. So every tile
# can be worked on by itself.

# %% [markdown] lang="zh"
# $Q, K, V$、输出 $O$，以及每个查询的 $L$，即它的 logits 的 log-sum-exp。有了 $L$，一块的权重直接就是 $e^{S - L}$，不需要邻块。
# softmax 的梯度需要整行的和 $D_i$，但它等于 $dO_i^\top O_i$。所以每一块都能独立处理。

# %%
S = (query @ key.transpose(-2, -1) / math.sqrt(8)).detach()
weights, weights_grad = S.softmax(dim=-1), (upstream @ value.transpose(-2, -1)).detach()
by_rows = (weights * weights_grad).sum(dim=-1)
by_output = ((weights @ value.detach()) * upstream).sum(dim=-1)
print(f"  Σ P dP against dO · O: {(by_rows - by_output).abs().max():.1e}")
print(f"  exp(S − L) against the softmax: {((S - S.logsumexp(dim=-1, keepdim=True)).exp() - weights).abs().max():.1e}")

# %% [markdown]
# ### Why keep a running maximum? · 为什么要维护运行中的最大值？

# %% [markdown] lang="en"
# $e^{89}$ overflows in float32, and $e^{12}$ in float16; relative to the maximum every exponential is at most 1. All at once, one can find the maximum
# first. In a stream it changes, and rescaling by $e^{m - m'}$ makes up for that exactly. The factor is 1 as long as no larger
# logit comes.

# %% [markdown] lang="zh"
# $e^{89}$ 在 float32 中溢出，$e^{12}$ 在 float16 中溢出；相对最大值取指数，则每个都不超过 1。
# 一次算完时可以先求最大值；逐块时它会变化，乘以 $e^{m - m'}$ 正好补上。只要没有更大的 logit 出现，这个因子就是 1。

# %%
large = torch.tensor([[100.0, 90.0]])
print(f"  without a maximum: {(large.exp() / large.exp().sum()).tolist()}")
state = torch.tensor([[-torch.inf]]), torch.zeros(1, 1), torch.zeros(1, 2)
for number in range(2):
    state = online_softmax_step(*state, large[:, number : number + 1], torch.eye(2)[number : number + 1])
print(f"  with a running maximum: {(state[2] / state[1]).tolist()}")

# %% [markdown]
# ### How does a causal mask become a saving? · 因果掩码怎样变成节省？

# %% [markdown] lang="en"
# Tiles above the diagonal are skipped, so almost half of arithmetic and traffic goes away; only tiles on the diagonal are masked element by element.
# The same holds for sliding windows and for several documents in one sequence: whole tiles are skipped where the mask's shape is known. A mask
# that is an arbitrary tensor would itself have $N^2$ elements to be read.

# %% [markdown] lang="zh"
# 对角线上方的块直接跳过，运算和流量省去近一半；只有对角线上的块要逐元素掩码。
# 滑动窗口、一个序列里拼多篇文档也一样：只要知道掩码的形状，就能整块跳过。
# 如果掩码是任意张量，它自己就有 $N^2$ 个元素要读。

# %%
for size in (256, 64, 16):
    full, half = (tiled_traffic(1024, 1024, DIM, size, size, causal=causal) for causal in (False, True))
    print(f"  blocks of {size}: causal attention moves {half / full:.0%} of what full attention moves")
