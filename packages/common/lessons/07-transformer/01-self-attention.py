# %% [markdown]
# # Self-attention · 自注意力

# %% [markdown] lang="en"
# After this lesson you can write scaled dot-product attention from memory, first with loops and then as two matrix
# products, say why the logits are divided by $\sqrt{d}$ and show what happens without it, and apply causal and padding
# masks without letting anything leak. You need matrix products (02/01), the softmax (03/05) and the idea of attention
# from a decoder to an encoder (06/08).

# %% [markdown] lang="zh"
# 学完本课，你能默写缩放点积注意力：先写成循环，再写成两次矩阵乘法；能说清为什么要除以 $\sqrt{d}$，
# 并演示不除会怎样；能正确使用因果掩码和填充掩码，不泄漏任何信息。
# 先修：矩阵乘法（02/01）、softmax（03/05）、解码器对编码器的注意力（06/08）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.transformer.attention import causal_mask, padding_mask, scaled_dot_product_attention
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# "The animal didn't cross the street because it was too tired." To make sense of *it*, a network must bring
# information from *animal*, six words earlier, and not from *street*, which is nearer. Which word matters depends on
# what the words say: with "too wide" at the end it would be the street.
#
# A convolution sees a window of fixed width, with weights that depend on distance only. An RNN can carry *animal*
# along, but has to squeeze everything into one state, one step after the other (06/03, 06/04). What is wanted: every
# token looks at every other one directly, decides from the content how much each matters, and all tokens do so at the
# same time.

# %% [markdown] lang="zh"
# “那只动物没有穿过马路，因为它太累了。”要理解“它”，网络必须取到前面的“动物”的信息，而不是更近的“马路”。
# 哪个词重要，取决于内容：如果句尾换成“因为它太宽了”，指的就是马路。
#
# 卷积只看固定宽度的窗口，权重只取决于距离。RNN 可以把“动物”一路带过来，
# 但要一步接一步地把所有内容压进同一个状态（06/03、06/04）。
# 我们想要的是：每个词元（token）都能直接看到其他每个词元，由内容决定各占多大比重，而且所有词元同时进行。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Think of a library. A reader has a question (the *query*), each book has a title on its back (the *key*) and a text
# inside (the *value*). The question is compared with every title; the better the match, the more of that book's text
# goes into the answer. In self-attention every token is all three at once: it asks, it is asked, and it gives.
#
# The query is $q = (2, 0)$. Three tokens have the keys $(1, 0)$, $(0, 1)$, $(1, 1)$ and the values $(10, 0)$,
# $(0, 10)$, $(5, 5)$.
#
# - Products $q \cdot k$: 2, 0, 2. Divided by $\sqrt 2$, since keys have two numbers: 1.414, 0, 1.414.
# - Softmax: $e^{1.414} = 4.11$, $e^0 = 1$, so the weights are $4.11 / 9.23 = 0.446$, $0.108$, $0.446$. They sum to 1.
# - Output: $0.446 \cdot (10, 0) + 0.108 \cdot (0, 10) + 0.446 \cdot (5, 5) = (6.69, 3.31)$.
#
# Now hide the third token: its logit becomes $-\infty$, and $e^{-\infty} = 0$. The others share what it had: weights
# $4.11 / 5.11 = 0.804$, $0.196$ and $0$, output $(8.04, 1.96)$.

# %% [markdown] lang="zh"
# 想象一个图书馆。读者有一个问题（*查询*，query），每本书的书脊上有书名（*键*，key），里面是正文（*值*，value）。
# 问题与每个书名比较，越匹配，那本书的正文在答案里占的比例就越大。
# 在自注意力中，每个词元同时扮演三种角色：提问，被查，给出内容。
#
# 查询为 $q = (2, 0)$。三个词元的键是 $(1, 0)$、$(0, 1)$、$(1, 1)$，值是 $(10, 0)$、$(0, 10)$、$(5, 5)$。
#
# - 点积 $q \cdot k$：2、0、2。键有两个分量，所以除以 $\sqrt 2$：1.414、0、1.414。
# - softmax：$e^{1.414} = 4.11$，$e^0 = 1$，权重是 $4.11 / 9.23 = 0.446$、$0.108$、$0.446$，总和为 1。
# - 输出：$0.446 \cdot (10, 0) + 0.108 \cdot (0, 10) + 0.446 \cdot (5, 5) = (6.69, 3.31)$。
#
# 再把第三个词元遮住：它的 logit 变成 $-\infty$，而 $e^{-\infty} = 0$。它的份额由另外两个分走：
# 权重 $4.11 / 5.11 = 0.804$、$0.196$ 和 $0$，输出 $(8.04, 1.96)$。

# %%
q = torch.tensor([[2.0, 0.0]], dtype=torch.float64)  # [1 query, head_dim 2]
keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)  # [3 keys, head_dim 2]
values = torch.tensor([[10.0, 0.0], [0.0, 10.0], [5.0, 5.0]], dtype=torch.float64)
seen = scaled_dot_product_attention(q, keys, values)
hidden = scaled_dot_product_attention(q, keys, values, mask=torch.tensor([True, True, False]))
table(
    ["", "weight 1", "weight 2", "weight 3", "output"],
    [
        (name, *weights[0].tolist(), " ".join(f"{number:.2f}" for number in output[0]))
        for name, (output, weights) in (("all three", seen), ("third hidden", hidden))
    ],
)

drawing = Schematic(13, 4.6, "Self-attention: queries, keys and values of the same tokens")
for name, x, y, text, kind, width in (
    ("x", 1.0, 2.3, "tokens $X$\n[tokens, dim]", "data", 1.7),
    ("wq", 3.2, 3.8, "$W_Q$", "parameter", 0.9),
    ("wk", 3.2, 2.3, "$W_K$", "parameter", 0.9),
    ("wv", 3.2, 0.8, "$W_V$", "parameter", 0.9),
    ("q", 5.0, 3.8, "queries $Q$", "data", 1.5),
    ("k", 5.0, 2.3, "keys $K$", "data", 1.5),
    ("v", 5.0, 0.8, "values $V$", "data", 1.5),
    ("scores", 7.2, 3.05, "$QK^T / \\sqrt{d}$", "operation", 1.6),
    ("mask", 9.0, 3.05, "mask", "operation", 0.9),
    ("softmax", 10.6, 3.05, "softmax", "operation", 1.2),
    ("mix", 10.6, 0.8, "weights · $V$", "operation", 1.6),
    ("out", 12.3, 0.8, "output", "data", 1.1),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (
    ("x", "wq"), ("x", "wk"), ("x", "wv"), ("wq", "q"), ("wk", "k"), ("wv", "v"), ("q", "scores"), ("k", "scores"),
    ("scores", "mask"), ("mask", "softmax"), ("v", "mix"), ("mix", "out"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.arrow("softmax", "mix", "weights [tokens, tokens]")
show(drawing.figure, "self-attention")

# %% [markdown]
# ## Formula · 公式
#
# $$Q = X W_Q, \qquad K = X W_K, \qquad V = X W_V$$
#
# $$Z = \frac{Q K^\top}{\sqrt{d}} + M, \qquad A_{ij} = \frac{e^{Z_{ij}}}{\sum_l e^{Z_{il}}}, \qquad O = A V$$
#
# $$\mathrm{Var}(q \cdot k) = \sum_{c=1}^{d} \mathrm{Var}(q_c k_c) = d, \qquad \frac{\partial A_{ij}}{\partial Z_{il}} = A_{ij} (\delta_{jl} - A_{il})$$

# %% [markdown] lang="en"
# - $X$: the features of the tokens, `[tokens, dim]`, one row a token.
# - $W_Q, W_K, W_V$: learned matrices, `[dim, d]`; $d$: the width of queries and keys, `head_dim`.
# - $Q, K, V$: queries, keys and values, `[tokens, d]`.
# - $Z$: the logits, `[tokens, tokens]`; row $i$ belongs to the query of token $i$, column $j$ to the key of token $j$.
# - $M$: the mask, 0 where token $i$ may attend to token $j$ and $-\infty$ where it may not. The causal mask allows
#   $j \le i$, the padding mask those $j$ that are tokens of the sentence.
# - $A$: the attention weights, each row a softmax: positive, with sum 1. $O$: the output, `[tokens, d]`.
# - $\delta_{jl}$: 1 if $j = l$, otherwise 0.
#
# This is equation 1 of Vaswani et al. 2017, with the mask written out. The last line says why $\sqrt d$ is there. If
# the numbers in queries and keys are independent with mean 0 and variance 1, each product $q_c k_c$ has variance 1, so
# $d$ of them together have variance $d$: the logits have a standard deviation of $\sqrt d$. Divided by it, it is 1 for
# any width. Otherwise one logit towers over the others, its weight is nearly 1, and then every entry of the softmax's
# derivative $A_{ij} (\delta_{jl} - A_{il})$ is nearly 0: no gradient reaches queries and keys.

# %% [markdown] lang="zh"
# - $X$：词元的特征，`[tokens, dim]`，每行一个词元。
# - $W_Q, W_K, W_V$：要学习的矩阵，`[dim, d]`；$d$：查询和键的宽度，即 `head_dim`。
# - $Q, K, V$：查询、键、值，`[tokens, d]`。
# - $Z$：logits，`[tokens, tokens]`；第 $i$ 行属于词元 $i$ 的查询，第 $j$ 列属于词元 $j$ 的键。
# - $M$：掩码；词元 $i$ 可以看词元 $j$ 处为 0，不可以处为 $-\infty$。因果掩码允许 $j \le i$，填充掩码允许属于句子本身的 $j$。
# - $A$：注意力权重，每行是一个 softmax：都为正，和为 1。$O$：输出，`[tokens, d]`。
# - $\delta_{jl}$：$j = l$ 时为 1，否则为 0。
#
# 这就是 Vaswani 等 2017 的式 1，只是把掩码写了出来。最后一行说明 $\sqrt d$ 从何而来。
# 如果查询和键的各分量独立、均值 0、方差 1，每个乘积 $q_c k_c$ 的方差就是 1，$d$ 个加起来方差为 $d$：
# logits 的标准差是 $\sqrt d$。除以它之后，不论多宽，标准差都是 1。
# 否则会有一个 logit 远高于其余，它的权重接近 1，这时 softmax 的导数 $A_{ij} (\delta_{jl} - A_{il})$ 处处接近 0，
# 梯度到不了查询和键。

# %% [markdown]
# ## Code · 代码

# %%
source(scaled_dot_product_attention)
source(causal_mask)
source(padding_mask)

# %% [markdown] lang="en"
# `key.transpose(-2, -1)` turns `[..., keys, head_dim]` into `[..., head_dim, keys]`, so one matrix product gives the
# logits of every query with every key, `[..., queries, keys]`. Whatever stands at the dots (batch, heads) is carried
# along. The softmax runs over the last axis, the keys: each query has its own. A second product mixes the values.
#
# A boolean mask writes $-\infty$ into the logits, a float mask is added to them. If a whole row is $-\infty$, the
# softmax would be 0 / 0; such a row is put aside, and its weights are 0.
#
# `causal_mask` compares two ranges: key number ≤ query number. With cached tokens, the first new query is number
# `cached`. `padding_mask` compares a range with the lengths; its axes of size 1 fit `[batch, heads, queries, keys]`.

# %% [markdown] lang="zh"
# `key.transpose(-2, -1)` 把 `[..., keys, head_dim]` 变成 `[..., head_dim, keys]`，
# 于是一次矩阵乘法就得到每个查询与每个键的 logit，形状 `[..., queries, keys]`。省略号处的轴（批次、头）原样带上。
# softmax 沿最后一轴（键）进行：每个查询各有一个。第二次矩阵乘法把值混合起来。
#
# 布尔掩码把 $-\infty$ 写进 logits，浮点掩码则与 logits 相加。
# 如果一整行都是 $-\infty$，softmax 会变成 0 / 0；这样的行单独处理，权重为 0。
#
# `causal_mask` 比较两个序列：键的编号 ≤ 查询的编号。有缓存的词元时，第一个新查询的编号是 `cached`。
# `padding_mask` 把序号与长度比较；大小为 1 的两个轴是为了配合 `[batch, heads, queries, keys]`。

# %% [markdown]
# ## Experiment: from loops to matrices · 实验：从循环到矩阵

# %% [markdown] lang="en"
# The same computation three times: number by number, as it was done by hand; one query at a time, each a product of a
# matrix and a vector; all at once. Nothing but the order of the work differs, so the results must agree.

# %% [markdown] lang="zh"
# 同一个计算写三遍：逐个数地算，像手算那样；每次一个查询，矩阵乘向量；全部一次算完。
# 三者只是运算的次序不同，结果必须一致。


# %%
def by_numbers(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of [tokens, head_dim] with Python's own numbers."""
    rows, queries, keys, values = [], query.tolist(), key.tolist(), value.tolist()
    for q in queries:
        logits = [sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q)) for k in keys]
        powers = [math.exp(logit - max(logits)) for logit in logits]  # the shift cancels, and nothing overflows
        weights = [power / sum(powers) for power in powers]
        rows.append([sum(w * v[c] for w, v in zip(weights, values, strict=True)) for c in range(len(values[0]))])
    return torch.tensor(rows, dtype=value.dtype)


def by_queries(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of [tokens, head_dim], one query [head_dim] after the other."""
    return torch.stack([(key @ q / math.sqrt(len(q))).softmax(dim=0) @ value for q in query])


def by_matrices(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(query, key, value)[0]


random = torch.Generator().manual_seed(0)
small = [torch.randn(24, 16, generator=random, dtype=torch.float64) for _ in range(3)]  # Q, K, V: [tokens, head_dim]
results = {"numbers": by_numbers(*small), "queries": by_queries(*small), "matrices": by_matrices(*small)}
rows = []
for tokens in (32, 64, 128):
    inputs = [torch.randn(tokens, 16, generator=random) for _ in range(3)]
    times = [1e3 * seconds(lambda f=f, x=inputs: f(*x), 2) for f in (by_numbers, by_queries, by_matrices)]
    rows.append((tokens, tokens * tokens, *times))
table(["tokens", "weights", "by numbers, ms", "by queries, ms", "by matrices, ms"], rows)

# %% [markdown] lang="en"
# The second column is the price of letting every token look at every other: twice as many tokens make four times as
# many weights, and four times as many multiplications. For 100 tokens this is nothing; for 100,000 it is ten billion
# weights for each head of each layer.

# %% [markdown] lang="zh"
# 第二列就是“每个词元都看其他每个词元”的代价：词元数翻倍，权重数变成四倍，乘法次数也变成四倍。
# 100 个词元时微不足道；10 万个词元时，每一层的每个头都有一百亿个权重。

# %% [markdown]
# ## Experiment: why the square root · 实验：为什么要除以根号

# %% [markdown] lang="en"
# Queries and keys of independent numbers with variance 1, 1,000 queries and 64 keys, for several widths. Measured, with
# and without the division: the standard deviation of the logits, the largest of the 64 weights (the mean over the
# queries), and the length of the gradient that comes back through the softmax to the logits if a random one of unit
# variance arrives at the weights (the median over the queries).

# %% [markdown] lang="zh"
# 查询和键的各分量相互独立、方差为 1；1,000 个查询，64 个键，换几种宽度。除与不除两种情况下分别测量：
# logits 的标准差；64 个权重中最大的一个（对查询取平均）；
# 给权重一个方差为 1 的随机梯度，穿过 softmax 回到 logits 之后梯度的长度（对查询取中位数）。

# %%
quiz(
    "largest weight",
    en="head_dim 1,024, not divided: how large is the largest of the 64 weights on average (0 to 1)?",
    zh="head_dim 为 1,024 且不做除法时，64 个权重中最大的一个平均是多少（0 到 1）？",
)

# %%
WIDTHS = (4, 16, 64, 256, 1024)


def at_the_start(width: int, scale: float) -> tuple[float, float, float]:
    """Standard deviation of the logits, mean of the largest weight, median length of the gradient of the logits."""
    generator = torch.Generator().manual_seed(width)
    query, key = torch.randn(1000, width, generator=generator), torch.randn(64, width, generator=generator)
    logits = (query @ key.T * scale).requires_grad_()  # [1000 queries, 64 keys]
    weights = logits.softmax(dim=1)
    upstream = torch.randn(1000, 64, generator=generator)
    (gradient,) = torch.autograd.grad(weights, logits, upstream)
    return logits.std().item(), weights.amax(dim=1).mean().item(), gradient.norm(dim=1).median().item()


unscaled = {width: at_the_start(width, 1.0) for width in WIDTHS}
scaled = {width: at_the_start(width, width**-0.5) for width in WIDTHS}
settle("largest weight", unscaled[1024][1], tolerance=0.05)
table(
    ["head_dim", "√head_dim", "std of logits", "largest weight", "gradient", "… divided: std", "largest", "gradient"],
    [(width, math.sqrt(width), *unscaled[width], *scaled[width]) for width in WIDTHS],
)

# %% [markdown] lang="en"
# Without the division a wide head starts with each query staring at one key chosen by chance, and with a gradient
# that is a thousand times smaller and more at width 1,024, so that it hardly learns to look elsewhere. Does it matter in training? The task: eight
# tokens, each a name with a symbol; then a name is asked for, and its symbol is the answer. One attention layer of width
# 512 learns it for 120 updates, three ways:
#
# - *divided* by $\sqrt{512}$;
# - *not divided*;
# - *small*: not divided, but queries and keys start smaller by $\sqrt[4]{512}$ each, so that the logits are the same
#   as in *divided* at first.
#
# Two learning rates, three seeds; guessing is right one time in 16.

# %% [markdown] lang="zh"
# 不做除法时，很宽的头一开始每个查询就死盯着一个碰巧选中的键，宽度 1,024 时梯度小了一千倍以上，很难学会看别处。这在训练中要紧吗？
# 任务：八个词元，每个是一个名字配一个符号；然后问其中一个名字，回答它的符号。
# 一个宽度为 512 的注意力层训练 120 次更新，共三种做法：
#
# - *divided*：除以 $\sqrt{512}$；
# - *not divided*：不除；
# - *small*：不除，但查询和键的初始权重各缩小 $\sqrt[4]{512}$ 倍，所以一开始的 logits 与 *divided* 相同。
#
# 两种学习率，三个种子；乱猜的正确率是 1/16。

# %%
quiz(
    "robust",
    en="Which ways learn the task (over 90 % right) at both learning rates?",
    zh="哪些做法在两种学习率下都能学会（正确率超过 90 %）？",
    choices={
        "divided": "divided only · 只有 divided",
        "both": "divided and small · divided 和 small",
        "all": "all three · 三种都能",
        "none": "none · 都不能",
    },
)

# %%
SYMBOLS, PAIRS, DIM, HEAD_DIM, SEEDS = 16, 8, 32, 512, (0, 1, 2)
RATES = (3e-3, 1e-2)


def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Names and symbols [count, 8], the names asked for [count, 1], and the answers [count]."""
    names = torch.rand(count, SYMBOLS, generator=generator).argsort(dim=1)[:, :PAIRS]  # all different
    symbols = torch.randint(SYMBOLS, (count, PAIRS), generator=generator)
    asked = torch.randint(PAIRS, (count, 1), generator=generator)
    return names, symbols, names.gather(1, asked), symbols.gather(1, asked).squeeze(1)


class Lookup(nn.Module):
    """Answers from the pairs by a single attention, whose logits are divided by √head_dim or not."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.names, self.symbols = nn.Embedding(SYMBOLS, DIM), nn.Embedding(SYMBOLS, DIM)  # variance 1
        self.query_proj, self.key_proj = (nn.Linear(DIM, HEAD_DIM, bias=False) for _ in range(2))
        self.value_proj, self.head = nn.Linear(DIM, DIM, bias=False), nn.Linear(DIM, SYMBOLS)
        for projection in (self.query_proj, self.key_proj, self.value_proj):
            nn.init.normal_(projection.weight, std=DIM**-0.5)  # variance 1 in, variance 1 out
        self.undo = 1.0 if way == "divided" else math.sqrt(HEAD_DIM)
        if way == "small":
            for projection in (self.query_proj, self.key_proj):
                nn.init.normal_(projection.weight, std=DIM**-0.5 / HEAD_DIM**0.25)

    def forward(
        self, names: torch.Tensor, symbols: torch.Tensor, asked: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [batch, symbols] and attention weights [batch, 8]."""
        pairs = (self.names(names) + self.symbols(symbols)) / math.sqrt(2)  # [batch, 8, dim]
        query = self.query_proj(self.names(asked)) * self.undo  # [batch, 1, head_dim]
        found, weights = scaled_dot_product_attention(query, self.key_proj(pairs), self.value_proj(pairs))
        return self.head(found.squeeze(1)), weights.squeeze(1)


def learn(way: str, lr: float, seed: int) -> tuple[Lookup, list[float], float]:
    """Trains for 120 updates; returns the network, its losses, and its accuracy for 1,000 new questions."""
    torch.manual_seed(seed)
    network, generator, losses = Lookup(way), torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.Adam(network.parameters(), lr)
    for _ in range(120):
        *question, answers = draw(32, generator)
        loss = F.cross_entropy(network(*question)[0], answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    *question, answers = draw(1000, torch.Generator().manual_seed(1000 + seed))
    with torch.no_grad():
        return network, losses, (network(*question)[0].argmax(dim=1) == answers).float().mean().item()


WAYS = ("divided", "not divided", "small")
runs = {(way, lr, seed): learn(way, lr, seed) for way in WAYS for lr in RATES for seed in SEEDS}
accuracies = {(way, lr): [runs[way, lr, seed][2] for seed in SEEDS] for way in WAYS for lr in RATES}
table(
    ["way", "learning rate", "accuracy, each seed"],
    [(way, lr, " ".join(f"{value:.0%}" for value in values)) for (way, lr), values in accuracies.items()],
)
robust = {way: min(value for lr in RATES for value in accuracies[way, lr]) > 0.9 for way in WAYS}
settle(
    "robust",
    {(True, False, False): "divided", (True, False, True): "both", (True, True, True): "all"}.get(
        tuple(robust.values()), "none"
    ),
)

# %% [markdown] lang="en"
# Starting from the same logits is enough at the lower rate, not at the higher one: the division does more than to set
# the start. Adam moves every weight of $W_Q$ and $W_K$ by about the learning rate in each step. A logit is a sum over 512
# coordinates, in which all these moves add up, each multiplied by a number of the other vector. In *small* those numbers
# are smaller by $\sqrt[4]{512} = 4.8$, in *divided* the sum is smaller by $\sqrt{512} = 22.6$. So the logits of *small*
# should change 4.8 times as fast at the same learning rate, and run into saturation. The first update tells.

# %% [markdown] lang="zh"
# 在较低的学习率下，只要起点的 logits 相同就够了；在较高的学习率下则不够：除法不只是设定起点。
# Adam 每一步把 $W_Q$ 和 $W_K$ 的每个权重移动约一个学习率那么多。logit 是 512 个分量的和，这些移动在其中累加，
# 每一项还要乘以对方向量的一个分量。在 *small* 中这些分量小 $\sqrt[4]{512} = 4.8$ 倍，在 *divided* 中整个和小 $\sqrt{512} = 22.6$ 倍。
# 所以同样的学习率下，*small* 的 logits 应当变化快 4.8 倍，一路冲进饱和区。看第一次更新就知道。


# %%
def pace(way: str, seed: int) -> float:
    """Standard deviation of the change of the logits, less each question's mean, by one update with rate 0.001."""
    torch.manual_seed(seed)
    network, (*question, answers) = Lookup(way), draw(256, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    output, before = network(*question)
    F.cross_entropy(output, answers).backward()
    optimizer.step()
    change = network(*question)[1].log() - before.log()  # the softmax's logarithm is the logits less a constant
    return (change - change.mean(dim=1, keepdim=True)).std().item()


paces = {way: [pace(way, seed) for seed in SEEDS] for way in ("divided", "small")}
ratios = [small / divided for divided, small in zip(*paces.values(), strict=True)]
table(
    ["seed", "divided: change of the logits", "small: change of the logits", "ratio", "expected"],
    [(seed, paces["divided"][seed], paces["small"][seed], ratios[seed], 512**0.25) for seed in SEEDS],
)

# %% [markdown]
# ## Experiment: masks · 实验：掩码

# %% [markdown] lang="en"
# A model that predicts the next word must not see it. There are two ways to hide the future that look alike: to write
# $-\infty$ into the logits before the softmax, or to set the weights to zero after it. Which input moves which output is
# told by the derivative of each output with respect to each input, for six tokens with random projections.

# %% [markdown] lang="zh"
# 预测下一个词的模型不能看到那个词。遮住未来有两种看起来差不多的写法：在 softmax 之前把 $-\infty$ 写进 logits，
# 或在 softmax 之后把权重置零。哪个输入会影响哪个输出，求每个输出对每个输入的导数就知道：六个词元，随机的投影矩阵。

# %%
quiz(
    "after the softmax",
    en="Future weights are set to zero after the softmax. Does the first output still depend on later tokens?",
    zh="在 softmax 之后把未来的权重置零，第一个输出还依赖后面的词元吗？",
    choices={"yes": "yes · 依赖", "no": "no · 不依赖"},
)

# %%
tokens, dim = 6, 8
projections = [torch.randn(dim, dim, generator=random, dtype=torch.float64) / math.sqrt(dim) for _ in range(3)]
x = torch.randn(tokens, dim, generator=random, dtype=torch.float64)


def without_mask(x: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(*(x @ w for w in projections))[0]


def causal(x: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(*(x @ w for w in projections), mask=causal_mask(tokens))[0]


def zeroed_after(x: torch.Tensor) -> torch.Tensor:
    query, key, value = (x @ w for w in projections)
    weights = (query @ key.T / math.sqrt(dim)).softmax(dim=1)
    return (weights * causal_mask(tokens)) @ value


def influence(attention) -> torch.Tensor:
    """Length of the derivative of each output with respect to each input, [tokens, tokens]."""
    jacobian = torch.autograd.functional.jacobian(attention, x)  # [tokens, dim, tokens, dim]
    return jacobian.square().sum(dim=(1, 3)).sqrt()


influences = {"no mask": without_mask, "causal mask": causal, "zeroed after the softmax": zeroed_after}
influences = {name: influence(attention) for name, attention in influences.items()}
leaks = {name: found.triu(1).max().item() for name, found in influences.items()}
settle("after the softmax", "yes" if leaks["zeroed after the softmax"] > 0 else "no")
table(["mask", "largest influence of a later token"], list(leaks.items()))

network = runs["divided", 3e-3, 0][0]
names, symbols, asked, answers = draw(12, torch.Generator().manual_seed(5))
with torch.no_grad():
    looked = network(names, symbols, asked)[1]  # [12, 8]
figure, axes = plt.subplots(2, 3, figsize=(14, 8), layout="constrained")
axes[0, 0].loglog(WIDTHS, [unscaled[width][0] for width in WIDTHS], "o-", label="not divided")
axes[0, 0].loglog(WIDTHS, [scaled[width][0] for width in WIDTHS], "s-", label="divided by √head_dim")
axes[0, 0].loglog(WIDTHS, [math.sqrt(width) for width in WIDTHS], "k:", label="√head_dim")
axes[0, 0].set(xlabel="head_dim", ylabel="standard deviation", title="Logits at the start")
axes[0, 1].loglog(WIDTHS, [unscaled[width][2] for width in WIDTHS], "o-", label="not divided")
axes[0, 1].loglog(WIDTHS, [scaled[width][2] for width in WIDTHS], "s-", label="divided by √head_dim")
axes[0, 1].set(xlabel="head_dim", ylabel="median length", title="Gradient through the softmax")
for way, color in zip(WAYS, ("tab:orange", "tab:blue", "tab:green"), strict=True):
    for seed in SEEDS:
        losses = torch.tensor(runs[way, 1e-2, seed][1]).view(-1, 5).mean(dim=1)  # 24 means of 5 updates each
        axes[0, 2].plot(torch.arange(24) * 5 + 2, losses, color=color, alpha=0.8, label=way if seed == 0 else None)
axes[0, 2].axhline(math.log(SYMBOLS), color="black", linestyle=":", label="guessing")
axes[0, 2].set(xlabel="update", ylabel="loss, nats", title="Learning rate 0.01, three seeds each")
for axis in axes[0]:
    axis.legend(fontsize=8)
for axis, name in zip(axes[1, :2], ("causal mask", "zeroed after the softmax"), strict=True):
    axis.imshow(influences[name].clamp(min=1e-6).log10().numpy(), cmap="Blues", vmin=-3, vmax=0.5)
    axis.set(xlabel="input token", ylabel="output token", title=f"Influence (log scale): {name}")
axes[1, 2].imshow(looked.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
for row in range(12):
    for column in range(PAIRS):
        if names[row, column] == asked[row, 0]:
            axes[1, 2].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="red"))
axes[1, 2].set(xlabel="pair", ylabel="question", title="Where the trained network looks (red: asked)")
show(figure, "scaling-and-masks")

# %% [markdown] lang="en"
# The second way leaks: the future is gone from the sum of values, but still in the softmax's denominator. A language
# model trained so has a loss that is too good, and writes badly, since at generation there is no future to peek at.
#
# Padding is the other use. Sentences in a batch are filled up to the longest one; no token may attend to the filler.
# With the mask, a sentence in a batch must give what it gives alone, whatever stands in the filler.

# %% [markdown] lang="zh"
# 第二种写法会泄漏：未来虽然不在值的加权和里了，却还在 softmax 的分母里。这样训练的语言模型损失好得不真实，
# 生成时却写不好，因为那时没有未来可以偷看。
#
# 填充是掩码的另一个用处。一个批次里的句子都补到最长的那句的长度，任何词元都不能看补上的部分。
# 有了掩码，一句话在批次里的结果必须与它单独计算时相同，不管填充处是什么内容。

# %%
lengths = torch.tensor([6, 4, 0])
batch = torch.randn(3, 1, tokens, dim, generator=random, dtype=torch.float64)  # [batch, heads, tokens, dim]
batch[1, :, 4:] = 1e3  # the filler
mask = padding_mask(lengths, tokens)
in_batch, batch_weights = scaled_dot_product_attention(batch, batch, batch, mask)
alone, _ = scaled_dot_product_attention(*(batch[1, :, :4],) * 3)
naive = (batch @ batch.transpose(2, 3)).masked_fill(~mask, -torch.inf).softmax(dim=-1)
table(
    ["sentence", "length", "weight on the filler", "naive softmax"],
    [
        (row, int(lengths[row]), batch_weights[row, :, :, int(lengths[row]) :].sum().item(), naive[row].sum().item())
        for row in range(3)
    ],
)

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.nn.functional.scaled_dot_product_attention` takes the same arguments and returns the output only: its fused
# kernels (FlashAttention among them) never store the matrix of weights. Values and gradients in float64, for each kind
# of mask, must agree with ours.

# %% [markdown] lang="zh"
# `torch.nn.functional.scaled_dot_product_attention` 的参数与我们的相同，但只返回输出：
# 它的融合内核（包括 FlashAttention）从不存储权重矩阵。在 float64 下，对每种掩码，数值和梯度都必须与我们的一致。

# %%
query, key, value = (torch.randn(2, 3, 7, 16, generator=random, dtype=torch.float64) for _ in range(3))
inputs = [each.requires_grad_() for each in (query, key, value)]
MASKS = {
    "no mask": None,
    "causal": causal_mask(7),
    "padding": padding_mask(torch.tensor([7, 3]), 7),
    "a bias": torch.randn(3, 7, 7, generator=random, dtype=torch.float64),
}
ours, theirs, our_gradients, their_gradients = {}, {}, {}, {}
for name, mask in MASKS.items():
    ours[name] = scaled_dot_product_attention(*inputs, mask)[0]
    theirs[name] = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    for outputs, gradients in ((ours, our_gradients), (theirs, their_gradients)):
        gradients[name] = torch.stack(torch.autograd.grad(outputs[name].square().sum(), inputs))
long = [torch.randn(1, 4, 512, 32, generator=random) for _ in range(3)]
table(
    ["4 heads, 512 tokens, head_dim 32", "milliseconds"],
    [
        ("ours", 1e3 * seconds(lambda: scaled_dot_product_attention(*long), 3)),
        ("torch's fused kernel", 1e3 * seconds(lambda: F.scaled_dot_product_attention(*long), 3)),
    ],
)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the weights are 0.446, 0.108, 0.446", seen[1], [[0.4458, 0.1084, 0.4458]], 1e-4)
check_close("by hand: the output is (6.69, 3.31)", seen[0], [[6.6869, 3.3131]], 1e-4)
check_close("by hand, third token hidden: the output is (8.04, 1.96)", hidden[0], [[8.0443, 1.9557]], 1e-4)
check_close("number by number gives the same as matrices", results["numbers"], results["matrices"], 1e-12)
check_close("query by query gives the same as matrices", results["queries"], results["matrices"], 1e-12)
for name in MASKS:
    check_close(f"the output equals torch's: {name}", ours[name], theirs[name], 1e-10)
    check_close(
        f"so do the gradients of queries, keys and values: {name}", our_gradients[name], their_gradients[name], 1e-9
    )
check(
    "undivided logits have a standard deviation of √head_dim, divided ones of 1, up to 10 %",
    all(abs(unscaled[w][0] / math.sqrt(w) - 1) < 0.1 and abs(scaled[w][0] - 1) < 0.1 for w in WIDTHS),
)
check(
    "at width 1,024 the undivided gradient is a thousand times smaller",
    unscaled[1024][2] < 1e-3 * scaled[1024][2],
)
check("divided, the task is learned at both rates, with every seed", robust["divided"])
check(
    "not divided, it is learned at neither, with any seed",
    max(value for lr in RATES for value in accuracies["not divided", lr]) < 0.8,
)
check(
    "small initial weights do at the lower rate, with every seed, and not at the higher, with any",
    min(accuracies["small", 3e-3]) > 0.9 and max(accuracies["small", 1e-2]) < 0.8,
)
check(
    "the logits of small move 4.8 times as fast, up to a quarter, with every seed",
    all(0.75 < ratio / 512**0.25 < 1.25 for ratio in ratios),
)
right = (names == asked).float()  # [12, 8]
check("the trained network looks at the pair whose name is asked for", (looked * right).sum(dim=1).min() > 0.8)
check("with the causal mask no later token has any influence", leaks["causal mask"] == 0)
check("with zeros after the softmax it has", leaks["zeroed after the softmax"] > 0.01)
check_close("a padded sentence gives what it gives alone", in_batch[1, :, :4], alone, 1e-12)
check("a sentence of length 0 gives zeros", not in_batch[2].any() and naive[2].isnan().all())
order = torch.randperm(tokens, generator=random)
check_close(
    "without a mask, another order of tokens only reorders the output",
    without_mask(x[order]),
    without_mask(x)[order],
    1e-12,
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `char-lm` is a GPT: six layers of this attention with a causal mask. Train it on text with
# `uv run --package char-lm train --max-minutes 5`; the attention is in
# `packages/common/src/dlcommon/transformer/gpt.py`.
#
# Read the paper with code in
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md). Paper: [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), section 3.2.1; its footnote 4 is the variance above.
# [Dao et al. 2022](https://arxiv.org/abs/2205.14135) compute the same without storing the weights (FlashAttention). The
# last check points to what is missing: attention knows nothing of order, which is the subject of 07/03. Next: several
# attentions side by side, 07/02.

# %% [markdown] lang="zh"
# 实战项目 `char-lm` 是一个 GPT：六层这样的注意力，带因果掩码。
# 用 `uv run --package char-lm train --max-minutes 5` 在文本上训练它；
# 注意力的代码在 `packages/common/src/dlcommon/transformer/gpt.py`。
#
# 对照代码精读论文：
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md)。
# 论文：[Vaswani 等 2017](https://arxiv.org/abs/1706.03762) 第 3.2.1 节，其中脚注 4 就是上面的方差推导。
# [Dao 等 2022](https://arxiv.org/abs/2205.14135) 不存储权重也能得到同样的结果（FlashAttention）。
# 最后一项检验说明还缺什么：注意力不知道顺序，这是 07/03 的主题。下一课：几个注意力并排使用，07/02。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `scaled_dot_product_attention`, `causal_mask` and `padding_mask` yourself. `uv run lesson exercise 07/01` makes a
# file with their signatures, `uv run lesson check 07/01` judges values and gradients on inputs of its own.

# %% [markdown] lang="zh"
# 自己实现 `scaled_dot_product_attention`、`causal_mask` 和 `padding_mask`。
# `uv run lesson exercise 07/01` 生成带有签名的文件，`uv run lesson check 07/01` 用另外的输入检查数值与梯度。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Begin without mask and dropout: logits, softmax over the last axis, product with the values. Return output and
#    weights. `query.size(-1)` is the width. Run the check: its first lines are then ticked.
# 2. `logits.masked_fill(~mask, -torch.inf)` hides what a boolean mask forbids; a float mask is added. Both broadcast.
# 3. A row that is $-\infty$ throughout: find it with `(logits == -torch.inf).all(dim=-1, keepdim=True)`, fill it with 0
#    before the softmax and its weights with 0 after it. Filling only after it would repair the value, but leave a
#    gradient that is not a number.
# 4. `F.dropout(weights, dropout)` comes after the softmax, and the weights returned are those that were multiplied.
# 5. Both masks compare an `arange` with something that stands in a column: `[:, None]` makes `[tokens]` to `[tokens, 1]`.

# %% [markdown] lang="zh"
# 1. 先不管掩码和 dropout：算 logits，沿最后一轴做 softmax，再与值相乘，返回输出和权重。
#    宽度是 `query.size(-1)`。运行检查，前几项就会打勾。
# 2. `logits.masked_fill(~mask, -torch.inf)` 遮住布尔掩码不允许的位置；浮点掩码则相加。两者都会广播。
# 3. 整行都是 $-\infty$ 的情况：用 `(logits == -torch.inf).all(dim=-1, keepdim=True)` 找出来，
#    softmax 之前把它填成 0，之后再把它的权重填成 0。只在之后填，数值对了，梯度却仍是 NaN。
# 4. `F.dropout(weights, dropout)` 放在 softmax 之后；返回的权重就是实际与值相乘的那些。
# 5. 两个掩码都是拿 `arange` 与一个竖着放的量比较：`[:, None]` 把 `[tokens]` 变成 `[tokens, 1]`。


# %%
@exercise(scaled_dot_product_attention, causal_mask, padding_mask)
def judge(yours, reference):
    random = torch.Generator().manual_seed(11)

    def drawn(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    query, key, value = drawn(2, 3, 4, 8), drawn(2, 3, 5, 8), drawn(2, 3, 5, 6)  # values of another width
    output, weights = yours.scaled_dot_product_attention(query, key, value)
    check("the output is [..., queries, value_dim]", output.shape == (2, 3, 4, 6))
    check("the weights are [..., queries, keys]", weights.shape == (2, 3, 4, 5))
    check_close("the weights of each query sum to 1", weights.sum(dim=-1), torch.ones(2, 3, 4), 1e-9)
    expected, expected_weights = reference.scaled_dot_product_attention(query, key, value)
    logits = [each.clamp(min=1e-12).log() for each in (weights, expected_weights)]
    spreads = [(each - each.mean(dim=-1, keepdim=True)).std() for each in logits]
    check_close("the spread of the logits: they are divided once, by √head_dim", *spreads, 1e-6)
    check_close("the weights without a mask", weights, expected_weights, 1e-9)
    check_close("the output without a mask", output, expected, 1e-9)

    allowed = drawn(2, 1, 4, 5) > 0
    allowed[..., 0] = True
    bias = drawn(3, 4, 5)
    nothing = allowed.clone()
    nothing[1, :, 2] = False
    for name, mask in (
        ("with a boolean mask", allowed),
        ("with a float mask", bias),
        ("with a mask that hides every key of a query", nothing),
        (
            "with a float mask that hides every key of a query",
            torch.zeros(nothing.shape).masked_fill(~nothing, -torch.inf),
        ),
    ):
        inputs = [each.clone().requires_grad_() for each in (query, key, value)]
        found, expected = (each.scaled_dot_product_attention(*inputs, mask) for each in (yours, reference))
        check_close(f"the weights {name}", found[1], expected[1], 1e-9)
        check_close(f"the output {name}", found[0], expected[0], 1e-9)
        mine, theirs = (torch.autograd.grad(each[0].square().sum(), inputs) for each in (found, expected))
        for part, a, b in zip(("queries", "keys", "values"), mine, theirs, strict=True):
            check_close(f"the gradient of the {part} {name}", a, b, 1e-8)

    wide = drawn(1, 40, 8)
    _, full = reference.scaled_dot_product_attention(wide, wide, wide)
    output, dropped = yours.scaled_dot_product_attention(wide, wide, wide, dropout=0.25)
    kept = dropped != 0
    check("with dropout=0.25 about a quarter of the weights is zero", 0.2 < (~kept).float().mean() < 0.3)
    check_close("the weights kept by dropout are scaled up", dropped[kept], full[kept] / 0.75, 1e-9)
    check_close("the output uses the weights after dropout", output, dropped @ wide, 1e-9)

    for cached in (0, 3):
        mine, theirs = (each.causal_mask(4, cached) for each in (yours, reference))
        check(f"causal_mask(4, cached={cached}) is boolean", mine.dtype == torch.bool)
        check_close(f"causal_mask(4, cached={cached})", mine, theirs)
    mine, theirs = (each.padding_mask(torch.tensor([2, 5, 0]), 5) for each in (yours, reference))
    check("padding_mask is boolean, [batch, 1, 1, tokens]", mine.dtype == torch.bool and mine.shape == (3, 1, 1, 5))
    check_close("padding_mask of lengths 2, 5, 0", mine, theirs)
    try:
        yours.scaled_dot_product_attention(query, key, value, torch.ones(4, 5, dtype=torch.int64))
        refused = False
    except TypeError:
        refused = True
    check("a mask of integers raises TypeError", refused)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why divide by √d, and not by d? · 为什么除以 √d 而不是 d？

# %% [markdown] lang="en"
# The sum of d independent products of variance 1 has variance d, so a standard deviation of √d: that is what must be
# divided by to get logits of size 1 at any width. Division by d would make them 1/√d: for a wide head the softmax starts
# almost uniform, each query averages all values, and the logits have to grow far before attention selects anything.
# (Where widths are scaled up with tuned learning rates carried over, µP divides by d: queries and keys are then
# correlated by training, and their product grows like d.)

# %% [markdown] lang="zh"
# d 个方差为 1 的独立乘积之和，方差是 d，标准差是 √d：要让任何宽度下的 logits 大小都是 1，就该除以它。
# 若除以 d，logits 只有 1/√d：头很宽时 softmax 一开始几乎是均匀的，每个查询都在对所有值求平均，
# logits 要增长很多才谈得上选择。（µP 在放大宽度、沿用调好的学习率时除以 d：训练后查询与键相关，点积按 d 增长。）

# %%
query, key = torch.randn(200, 1024, generator=random), torch.randn(64, 1024, generator=random)
for name, divisor in (("1", 1.0), ("√d", 32.0), ("d", 1024.0)):
    weights = (query @ key.T / divisor).softmax(dim=1)
    print(f"  divided by {name}: the largest of 64 weights is {weights.amax(dim=1).mean():.3f} (uniform: {1 / 64:.3f})")

# %% [markdown]
# ### Why are there separate projections for queries, keys and values? · 为什么查询、键、值要有各自的投影？

# %% [markdown] lang="en"
# With $XX^\top$ the logits are symmetric: if *it* looks at *animal*, *animal* must look at *it* just as much, and every
# token matches itself best. Separate $W_Q$ and $W_K$ let a token ask for something other than what it offers. Separate
# values let it hand over something other than what it is found by: the key says "I am a noun", the value says which.

# %% [markdown] lang="zh"
# 用 $XX^\top$ 时 logits 是对称的：“它”看“动物”多少，“动物”就得看“它”多少；而且每个词元与自己最匹配。
# 分开的 $W_Q$ 和 $W_K$ 让词元要找的东西可以不同于它提供的东西。
# 分开的值让它交出的内容可以不同于被检索的依据：键说“我是名词”，值说是哪个名词。

# %%
features = torch.randn(200, 64, generator=random)
itself = (features @ features.T).argmax(dim=1) == torch.arange(200)
w_query, w_key = (torch.randn(64, 64, generator=random) / 8 for _ in range(2))
projected = ((features @ w_query) @ (features @ w_key).T).argmax(dim=1) == torch.arange(200)
print(
    f"  tokens that match themselves best: {itself.float().mean():.0%} with X Xᵀ, {projected.float().mean():.0%} projected"
)

# %% [markdown]
# ### Why is −∞ written before the softmax, instead of zeros after it? · 为什么在 softmax 之前写 −∞，而不是之后置零？

# %% [markdown] lang="en"
# After the softmax the hidden keys have already been counted in the denominator: the weights of the others do not sum
# to 1, and they change with what is hidden, which is a leak. Before it, $e^{-\infty} = 0$ in numerator and denominator,
# as if the key were not there. One could renormalize after zeroing, which is the same in exact arithmetic; but if a hidden
# logit is very large, all the others underflow to 0 and there is nothing left to renormalize.

# %% [markdown] lang="zh"
# softmax 之后再置零，被遮的键早已算进分母：其余权重的和不是 1，而且会随被遮的内容变化，这就是泄漏。
# 在之前写 −∞，则分子分母里都是 $e^{-\infty} = 0$，就像这个键不存在。
# 置零后再归一化在精确算术下等价；但如果被遮的 logit 很大，其余权重全部下溢为 0，就没有东西可归一化了。

# %%
logits, may = torch.tensor([1.0, 0.0, 200.0]), torch.tensor([True, True, False])
before = logits.masked_fill(~may, -torch.inf).softmax(dim=0)
after = logits.softmax(dim=0) * may
for name, weights in (("−∞ before", before), ("zero after", after), ("… renormalized", after / after.sum())):
    print(f"  {name}: {[round(weight, 3) for weight in weights.tolist()]}")

# %% [markdown]
# ### What does self-attention cost, compared with an RNN and a convolution? · 自注意力的开销与 RNN、卷积相比如何？

# %% [markdown] lang="en"
# For $n$ tokens of width $d$: attention takes about $n^2 d$ multiplications for the logits and as many for the values,
# an RNN $2 n d^2$ (input and state), a convolution of width $k$ $k n d^2$. So attention is the cheapest of them while
# $n < d$ (the projections, $4 n d^2$, come on top) and grows out of hand for long texts. In return every two tokens are one step
# apart, against $n$ steps in the RNN, and nothing has to wait for the step before (table 1 of the paper).

# %% [markdown] lang="zh"
# 设有 $n$ 个宽度为 $d$ 的词元：注意力算 logits 约需 $n^2 d$ 次乘法，混合值也要这么多；
# RNN 是 $2 n d^2$（输入和状态），宽度为 $k$ 的卷积是 $k n d^2$。所以 $n < d$ 时注意力最省（另外还有投影的 $4 n d^2$），文本很长时则急剧增长。
# 换来的是任意两个词元只隔一步（RNN 要 $n$ 步），而且没有一步需要等前一步（论文表 1）。

# %%
table(
    ["tokens n, width 512", "attention 2 n² d", "RNN 2 n d²", "convolution of width 3"],
    [
        (n, *(f"{count:.1e}" for count in (1024 * n * n, 2 * n * 512**2, 3 * n * 512**2)))
        for n in (128, 512, 2048, 32768)
    ],
)

# %% [markdown]
# ### A loss suddenly is NaN in a model with padding. Where do you look? · 带填充的模型损失突然变成 NaN，先查哪里？

# %% [markdown] lang="en"
# At rows that are masked completely: an empty sentence, a padded query under a mask that hides everything, a causal
# mask combined with padding on the left. The softmax of only $-\infty$ is 0 / 0. Filling the output with zeros afterwards
# repairs the value, but the gradient of the softmax is still not a number; the row has to be put aside before. A large
# finite number instead of $-\infty$ gives no NaN, but a uniform average over the filler, which is silent.

# %% [markdown] lang="zh"
# 查被完全遮住的行：空句子、被填充的查询遇上遮住一切的掩码、因果掩码加左侧填充。
# 全是 $-\infty$ 的 softmax 是 0 / 0。事后把输出填成零能修好数值，但 softmax 的梯度仍是 NaN，必须在之前就把这一行单独处理。
# 用一个很大的有限数代替 $-\infty$ 不会出 NaN，但得到的是对填充内容的均匀平均，而且悄无声息。

# %%
row = torch.zeros(1, 3, requires_grad=True)
repaired = (row - torch.inf).softmax(dim=1).nan_to_num(0.0)
(bad,) = torch.autograd.grad(repaired.sum(), row)
output, _ = scaled_dot_product_attention(row, torch.ones(2, 3), torch.ones(2, 3), torch.tensor([False, False]))
(good,) = torch.autograd.grad(output.sum(), row)
print(f"  repaired afterwards: gradient {bad.tolist()[0]}; put aside before: {good.tolist()[0]}")
print(f"  −1e9 instead of −∞: each weight is {(row.detach() - 1e9).softmax(dim=1)[0, 0]:.3f}")

# %% [markdown]
# ### What does True mean in an attention mask? · 注意力掩码里的 True 是什么意思？

# %% [markdown] lang="en"
# It depends on the function, and a mistake raises no error. In `F.scaled_dot_product_attention` (and here) True means
# "may attend"; in `nn.MultiheadAttention` and `nn.Transformer` True means "is hidden"; in Hugging Face models the mask
# of a tokenizer has 1 for tokens to attend to. Test it: change a token that should be hidden and see whether the output
# moves.

# %% [markdown] lang="zh"
# 要看是哪个函数，而且弄反了不会报错。在 `F.scaled_dot_product_attention`（以及本课）里 True 表示“可以看”；
# 在 `nn.MultiheadAttention` 和 `nn.Transformer` 里 True 表示“遮住”；
# Hugging Face 模型中，分词器给出的掩码用 1 表示要看的词元。办法是实测：改动一个应被遮住的词元，看输出动不动。

# %%
single = nn.MultiheadAttention(8, 1, batch_first=True)
sentence = torch.randn(1, 3, 8, generator=random)
changed = sentence.clone()
changed[0, 2] += 1.0  # the last token changes: under a causal mask, the first output must not
for name, mask in (("True = may attend", causal_mask(3)), ("True = hidden", ~causal_mask(3))):
    with torch.no_grad():
        moved = [single(x, x, x, attn_mask=mask, need_weights=False)[0][0, 0] for x in (sentence, changed)]
    print(f"  nn.MultiheadAttention with {name}: the first output moves by {(moved[1] - moved[0]).norm():.3f}")
