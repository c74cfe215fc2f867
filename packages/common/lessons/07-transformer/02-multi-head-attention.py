# %% [markdown]
# # Multi-head attention · 多头注意力

# %% [markdown] lang="en"
# After this lesson you can write multi-head attention with all its reshaping, say why several narrow heads cost as much
# as one wide head and when they do more, when they do less, and look up what each head of a trained network does. You
# need scaled dot-product attention (07/01).

# %% [markdown] lang="zh"
# 学完本课，你能写出完整的多头注意力，包括其中的形状变换；能说清为什么几个窄头与一个宽头开销相同，
# 何时多头更强、何时更弱；还能查明训练好的网络里每个头在做什么。先修：缩放点积注意力（07/01）。

# %%
import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.transformer.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# "Anna gave Ben the book that he had lent her." To understand *gave*, one must know who gave, to whom, and what: three
# words, in three different roles. But attention as in 07/01 has one set of weights for each query, and returns one
# weighted average. If it gives a third of the weight to each of the three words, it returns their mean, and the mean
# does not tell who gave and who received.
#
# What is wanted are several sets of weights at the same time, each looking for something else, whose findings are kept
# apart. And it should cost no more.

# %% [markdown] lang="zh"
# “小安把书还给了小本，那是他借给她的。”要理解“还”，必须知道谁还、还给谁、还什么：三个词，三种不同的角色。
# 可是 07/01 的注意力对每个查询只有一组权重，只返回一个加权平均。
# 如果三个词各占三分之一，返回的就是它们的平均，而平均说不清谁还、谁收。
#
# 我们想要的是同时有几组权重，各找各的，找到的内容分开保存；而且不增加开销。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Two tokens with values of width 4: $A = (1, 2, 3, 4)$ and $B = (5, 6, 7, 8)$. One head with the weights 0.5 and 0.5
# returns $(3, 4, 5, 6)$. So do the tokens $(2, 3, 4, 5)$ and $(4, 5, 6, 7)$: who had what is lost.
#
# Two heads share the width: the first owns coordinates 1 and 2, the second 3 and 4, and each has weights of its own.
#
# - Head 1 looks at $A$ with 0.9 and at $B$ with 0.1: $0.9 \cdot (1, 2) + 0.1 \cdot (5, 6) = (1.4, 2.4)$.
# - Head 2 looks at $A$ with 0.2 and at $B$ with 0.8: $0.2 \cdot (3, 4) + 0.8 \cdot (7, 8) = (6.2, 7.2)$.
# - Side by side: $(1.4, 2.4, 6.2, 7.2)$. What was found at $A$ stands left, what was found at $B$ right.
#
# And the cost? For width 512, one head has a query matrix of $512 \times 512$. Eight heads have eight of $512 \times
# 64$: as many numbers. A logit is a product of 512 numbers in the one head, and of 64 in each of the eight: as many
# multiplications.

# %% [markdown] lang="zh"
# 两个词元，值的宽度为 4：$A = (1, 2, 3, 4)$，$B = (5, 6, 7, 8)$。
# 一个头，权重 0.5 和 0.5，返回 $(3, 4, 5, 6)$。词元 $(2, 3, 4, 5)$ 和 $(4, 5, 6, 7)$ 也会得到同样的结果：谁有什么已经丢了。
#
# 两个头平分宽度：第一个占第 1、2 个分量，第二个占第 3、4 个，各有自己的权重。
#
# - 头 1 看 $A$ 占 0.9，看 $B$ 占 0.1：$0.9 \cdot (1, 2) + 0.1 \cdot (5, 6) = (1.4, 2.4)$。
# - 头 2 看 $A$ 占 0.2，看 $B$ 占 0.8：$0.2 \cdot (3, 4) + 0.8 \cdot (7, 8) = (6.2, 7.2)$。
# - 并排放在一起：$(1.4, 2.4, 6.2, 7.2)$。在 $A$ 处找到的在左边，在 $B$ 处找到的在右边。
#
# 开销呢？宽度 512 时，一个头的查询矩阵是 $512 \times 512$；八个头有八个 $512 \times 64$ 的矩阵，数目一样多。
# 一个 logit 在单头里是 512 个数的点积，在八个头里各是 64 个数的点积，乘法次数也一样多。

# %%
values = torch.tensor([[1.0, 2, 3, 4], [5.0, 6, 7, 8]])  # [2 tokens, dim 4]


def mixed(weights: list[float], values: torch.Tensor) -> torch.Tensor:
    """The attention's output for given weights: log w as a bias, since softmax(log w) = w."""
    query = torch.zeros(1, values.size(1))
    return scaled_dot_product_attention(query, torch.zeros_like(values), values, torch.tensor(weights).log())[0][0]


one_head = mixed([0.5, 0.5], values)
one_head_others = mixed([0.5, 0.5], torch.tensor([[2.0, 3, 4, 5], [4.0, 5, 6, 7]]))
two_heads = torch.cat([mixed([0.9, 0.1], values[:, :2]), mixed([0.2, 0.8], values[:, 2:])])
table(
    ["", "1", "2", "3", "4"],
    [
        ("one head", *one_head.tolist()),
        ("one head, other tokens", *one_head_others.tolist()),
        ("two heads", *two_heads.tolist()),
    ],
)

drawing = Schematic(13.6, 5.2, "Multi-head attention with two heads")
for name, x, y, text, kind, width in (
    ("x", 0.9, 3.6, "x\n[tokens, dim]", "data", 1.5),
    ("memory", 0.9, 1.6, "memory\n(x itself, or\nanother text)", "data", 1.5),
    ("q", 3.2, 4.2, "query_proj", "parameter", 1.5),
    ("k", 3.2, 2.6, "key_proj", "parameter", 1.5),
    ("v", 3.2, 1.0, "value_proj", "parameter", 1.5),
    ("split", 5.4, 2.6, "split\nthe width", "operation", 1.3),
    ("head 1", 7.6, 3.7, "attention\nof head 1", "operation", 1.5),
    ("head 2", 7.6, 1.5, "attention\nof head 2", "operation", 1.5),
    ("join", 9.7, 2.6, "side\nby side", "operation", 1.1),
    ("out", 11.3, 2.6, "out_proj", "parameter", 1.2),
    ("y", 12.9, 2.6, "output", "data", 1.0),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.6)
for start, end in (
    ("x", "q"), ("memory", "k"), ("memory", "v"), ("q", "split"), ("k", "split"), ("v", "split"), ("split", "head 1"),
    ("split", "head 2"), ("head 1", "join"), ("head 2", "join"), ("join", "out"), ("out", "y"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.text(7.6, 4.4, "[tokens, dim / 2]")
drawing.text(7.6, 0.8, "[tokens, dim / 2]")
show(drawing.figure, "multi-head")

# %% [markdown]
# ## Formula · 公式
#
# $$H_i = \mathrm{softmax}\left(\frac{(X W_Q^i) (Y W_K^i)^\top}{\sqrt{d}} + M\right) Y W_V^i, \qquad d = \frac{D}{h}$$
#
# $$\mathrm{MultiHead}(X, Y) = [H_1, \dots, H_h] \, W_O = \sum_{i=1}^{h} H_i W_O^i$$
#
# $$\mathrm{rank}\left(W_Q^i (W_K^i)^\top\right) \le d$$

# %% [markdown] lang="en"
# - $X$: the features that ask, `[queries, D]`; $D$: their width, `dim`.
# - $Y$: the features that are attended to (`memory`), `[keys, D]`: $X$ itself in self-attention, the encoder's output in
#   cross-attention.
# - $h$: the number of heads; $d$: the width of a head, `head_dim`.
# - $W_Q^i, W_K^i, W_V^i$: the projections of head $i$, `[D, d]`. Those of all heads side by side are `query_proj`,
#   `key_proj` and `value_proj`, `[D, D]`.
# - $M$: the mask, 0 or $-\infty$; $H_i$: the output of head $i$, `[queries, d]`.
# - $[H_1, \dots, H_h]$: the heads side by side, `[queries, D]`; $W_O$: `out_proj`, `[D, D]`; $W_O^i$: its rows for head
#   $i$, `[d, D]`.
#
# This is section 3.2.2 of Vaswani et al. 2017 (biases left out). The second line says two things with one sum: the heads
# stand side by side and are mixed by $W_O$, or each head writes its own contribution into all $D$ coordinates, and the
# contributions are added. The third line is the price: the logits of a head come from a matrix of rank $d$, so a head
# that is very narrow cannot tell many keys apart (Bhojanapalli et al. 2020).

# %% [markdown] lang="zh"
# - $X$：提问一方的特征，`[queries, D]`；$D$：宽度，即 `dim`。
# - $Y$：被看一方的特征（`memory`），`[keys, D]`：自注意力时就是 $X$ 本身，交叉注意力时是编码器的输出。
# - $h$：头数；$d$：每个头的宽度，即 `head_dim`。
# - $W_Q^i, W_K^i, W_V^i$：头 $i$ 的投影，`[D, d]`。所有头的并排放在一起就是 `query_proj`、`key_proj`、`value_proj`，`[D, D]`。
# - $M$：掩码，取 0 或 $-\infty$；$H_i$：头 $i$ 的输出，`[queries, d]`。
# - $[H_1, \dots, H_h]$：各头并排，`[queries, D]`；$W_O$：`out_proj`，`[D, D]`；$W_O^i$：其中属于头 $i$ 的行，`[d, D]`。
#
# 这是 Vaswani 等 2017 的第 3.2.2 节（省去了偏置）。第二行用一个和式说了两件事：
# 各头并排，由 $W_O$ 混合；或者说，每个头把自己的贡献写到全部 $D$ 个分量上，再相加。
# 第三行是代价：一个头的 logits 来自秩为 $d$ 的矩阵，头太窄就分不清很多个键（Bhojanapalli 等 2020）。

# %% [markdown]
# ## Code · 代码

# %%
source(MultiHeadAttention.project_keys_values)
source(MultiHeadAttention.attend)
source(MultiHeadAttention._split_heads)
source(MultiHeadAttention._merge_heads)

# %% [markdown] lang="en"
# `_split_heads` is the heart of it. One product with `query_proj` gives `[batch, tokens, dim]`, in which head $i$'s
# numbers are the $i$-th slice of every row. `view` gives that slice an axis: `[batch, tokens, heads, head_dim]`;
# `transpose(1, 2)` moves the heads in front of the tokens: `[batch, heads, tokens, head_dim]`. Attention then treats
# batch and heads alike, as axes that are carried along: all heads of all sentences in one product. `_merge_heads` goes
# back the same way.
#
# `attend` takes keys and values that are computed already. For a single pass, `forward` computes them and calls it. A
# decoder that writes word by word calls the parts itself: the keys and values of earlier words never change, so they are
# kept (07/05). If nobody asks for the weights, torch's fused kernel computes the output, and they are never stored.

# %% [markdown] lang="zh"
# 关键在 `_split_heads`。与 `query_proj` 相乘一次得到 `[batch, tokens, dim]`，其中头 $i$ 的数是每一行的第 $i$ 段。
# `view` 给这一段一个轴：`[batch, tokens, heads, head_dim]`；
# `transpose(1, 2)` 把头移到词元前面：`[batch, heads, tokens, head_dim]`。
# 之后注意力把批次和头同等看待，都是原样带上的轴：所有句子的所有头一次乘法算完。`_merge_heads` 沿原路返回。
#
# `attend` 接收已经算好的键和值。一次算完时，由 `forward` 算出它们再调用它。
# 逐词生成的解码器则分别调用：先前的词的键和值不会再变，可以留着（07/05）。
# 没有人要权重时，输出由 torch 的融合内核计算，权重根本不会存储。

# %% [markdown]
# ## Experiment: the heads one by one · 实验：逐个头计算

# %% [markdown] lang="en"
# The reshaping must not be taken on trust. Here the same layer is computed head by head with matrices cut out of the
# projections, without any `view`; and its output is put together as a sum of contributions, one for each head.

# %% [markdown] lang="zh"
# 形状变换不能想当然。这里把同一层逐个头地算一遍：从投影里切出各头的矩阵，完全不用 `view`；
# 再把输出写成各头贡献之和。

# %%
quiz(
    "weights",
    en="How many times as many weights has the layer with eight heads as the one with a single head?",
    zh="八个头的层，权重数是单头的几倍？",
)

# %%
layers = {heads: MultiHeadAttention(32, heads) for heads in (1, 8)}
sizes = {heads: sum(parameter.numel() for parameter in layer.parameters()) for heads, layer in layers.items()}
settle("weights", sizes[8] / sizes[1], tolerance=0.01)
table(["heads", "weights"], list(sizes.items()))

random = torch.Generator().manual_seed(0)
torch.manual_seed(0)
layer = MultiHeadAttention(12, 3).double()
x = torch.randn(2, 5, 12, generator=random, dtype=torch.float64)  # [batch, tokens, dim]
contributions = []
for head in range(3):
    mine = slice(4 * head, 4 * head + 4)  # the coordinates of this head
    query, key, value = (
        x @ projection.weight[mine].T + projection.bias[mine]
        for projection in (layer.query_proj, layer.key_proj, layer.value_proj)
    )  # each [batch, tokens, 4]
    found, _ = scaled_dot_product_attention(query, key, value)
    contributions.append(found @ layer.out_proj.weight[:, mine].T)  # [batch, tokens, dim]
head_by_head = sum(contributions) + layer.out_proj.bias
at_once, _ = layer(x)

# %% [markdown]
# ## Experiment: how many heads? · 实验：要几个头？

# %% [markdown] lang="en"
# Two tasks, one layer of width 32 for each, and heads of width 32, 16, 8 and 1. All layers have the same number of
# weights, the same data, 220 or 120 updates with the same learning rate, and three seeds.
#
# - *Gather*: eight tokens, each with one of 16 symbols; four of them are marked as giver, receiver, object and place, in
#   any order. From one query, all four symbols are to be named. Guessing: 1/16.
# - *Look up*: 16 tokens, each a name (one of 32) with a symbol; a name is asked for, its symbol is the answer. Only one
#   token matters, but 32 names must be told apart.

# %% [markdown] lang="zh"
# 两个任务，各用一层宽度为 32 的注意力，头的宽度取 32、16、8、1。所有层的权重数相同，数据相同，
# 学习率相同，更新 220 次或 120 次，各用三个种子。
#
# - *收集*（gather）：八个词元，各带 16 个符号之一；其中四个分别标为给予者、接受者、物品、地点，次序任意。
#   由一个查询说出全部四个符号。乱猜的正确率是 1/16。
# - *查找*（look up）：16 个词元，各是一个名字（共 32 个）配一个符号；问一个名字，回答它的符号。
#   只有一个词元要紧，但要分清 32 个名字。

# %%
quiz(
    "both tasks",
    en="Which number of heads learns both tasks (over 95 % right with every seed)?",
    zh="几个头能学会两个任务（每个种子的正确率都超过 95 %）？",
    choices={"1": "1", "2": "2", "4": "4", "32": "32"},
)

# %%
SYMBOLS, ROLES, NAMES, DIM, SEEDS, HEADS = 16, 4, 32, 32, (0, 1, 2), (1, 2, 4, 32)


class Gather(nn.Module):
    """Names the symbols of the four marked tokens, from one learned query."""

    updates = 220

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.symbols, self.roles = nn.Embedding(SYMBOLS, DIM), nn.Embedding(ROLES + 1, DIM)  # the last role: none
        self.query = nn.Parameter(torch.randn(1, 1, DIM))
        self.attention, self.head = MultiHeadAttention(DIM, heads), nn.Linear(DIM, ROLES * SYMBOLS)

    def forward(self, symbols: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        """Maps two tensors [batch, 8] to logits [batch, 4, symbols]."""
        found, _ = self.attention(self.query.expand(len(symbols), 1, DIM), self.tokens(symbols, roles))
        return self.head(found).view(-1, ROLES, SYMBOLS)

    def tokens(self, symbols: torch.Tensor, roles: torch.Tensor) -> torch.Tensor:
        return (self.symbols(symbols) + self.roles(roles)) / 2**0.5

    @staticmethod
    def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        symbols = torch.randint(SYMBOLS, (count, 8), generator=generator)
        places = torch.rand(count, 8, generator=generator).argsort(dim=1)[:, :ROLES]  # where each role stands
        roles = torch.full((count, 8), ROLES).scatter(1, places, torch.arange(ROLES).expand(count, ROLES))
        return symbols, roles, symbols.gather(1, places)


class LookUp(nn.Module):
    """Names the symbol that stands with the name asked for."""

    updates = 120

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.names, self.symbols = nn.Embedding(NAMES, DIM), nn.Embedding(SYMBOLS, DIM)
        self.attention, self.head = MultiHeadAttention(DIM, heads), nn.Linear(DIM, SYMBOLS)

    def forward(self, names: torch.Tensor, symbols: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Maps names and symbols [batch, 16] and a name [batch, 1] to logits [batch, 1, symbols]."""
        pairs = (self.names(names) + self.symbols(symbols)) / 2**0.5
        return self.head(self.attention(self.names(asked), pairs)[0])

    @staticmethod
    def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        names = torch.rand(count, NAMES, generator=generator).argsort(dim=1)[:, :16]
        symbols = torch.randint(SYMBOLS, (count, 16), generator=generator)
        asked = torch.randint(16, (count, 1), generator=generator)
        return names, symbols, names.gather(1, asked), symbols.gather(1, asked)


def learn(task: type[Gather] | type[LookUp], heads: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network, generator = task(heads), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(task.updates):
        *question, answers = task.draw(32, generator)
        loss = F.cross_entropy(network(*question).flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@torch.no_grad()
def right(network: Gather | LookUp) -> torch.Tensor:
    """Share of right answers for 1,000 new questions, one for each answer of a question."""
    *question, answers = network.draw(1000, torch.Generator().manual_seed(1000))
    return (network(*question).argmax(dim=2) == answers).float().mean(dim=0)


TASKS = {"gather": Gather, "look up": LookUp}
networks = {
    (name, heads, seed): learn(task, heads, seed) for name, task in TASKS.items() for heads in HEADS for seed in SEEDS
}
accuracies = {
    (name, heads): [right(networks[name, heads, seed]).mean().item() for seed in SEEDS]
    for name in TASKS
    for heads in HEADS
}
table(
    ["heads", "head_dim", *(f"{name}, each seed" for name in TASKS)],
    [
        (heads, DIM // heads, *(" ".join(f"{value:.0%}" for value in accuracies[name, heads]) for name in TASKS))
        for heads in HEADS
    ],
)
able = [heads for heads in HEADS if min(accuracies["gather", heads] + accuracies["look up", heads]) > 0.95]
settle("both tasks", str(able[0]))

# %% [markdown] lang="en"
# Each task punishes one extreme. With a single head, four symbols have to share one weighted average. It is not hopeless:
# unequal weights, say 0.5, 0.25, 0.15 and 0.1, leave a trace of who had which, but it is hard to read. With 32 heads,
# each compares names by a single number, on which 32 names lie too close together. Four heads of width 8 do both. That is
# why models keep the head wide enough (64 to 128 is usual) and get more heads by more width.

# %% [markdown] lang="zh"
# 两个任务各惩罚一个极端。只有一个头时，四个符号要挤进同一个加权平均。也不是毫无希望：
# 不等的权重（比如 0.5、0.25、0.15、0.1）会留下“谁是谁”的痕迹，但很难读出来。
# 有 32 个头时，每个头只凭一个数来比较名字，32 个名字在一条线上挤得太近。四个宽度为 8 的头两样都行。
# 所以实际的模型让头保持足够的宽度（通常 64 到 128），靠加宽模型来增加头数。

# %% [markdown]
# ## Experiment: what each head does · 实验：每个头在做什么

# %% [markdown] lang="en"
# Nobody told the four heads of *gather* to divide the work. For 1,000 new questions: how much of its weight does each head
# give to the giver, the receiver, the object, the place and the unmarked tokens? Then one head is removed: its columns
# of `out_proj` are set to zero, so that its contribution to the sum is gone.

# %% [markdown] lang="zh"
# 没有人规定 *收集* 的四个头如何分工。对 1,000 个新问题统计：每个头分别把多少权重给了给予者、接受者、物品、地点和没有标记的词元？
# 然后去掉一个头：把 `out_proj` 中属于它的列置零，它在和式里的贡献就没有了。

# %%
quiz(
    "without one head",
    en="One of the four heads is removed. How many of the four answers stay over 80 % right, on average?",
    zh="去掉四个头中的一个，四个答案里平均还有几个保持 80 % 以上的正确率？",
)


# %%
@torch.no_grad()
def attention_by_role(network: Gather) -> torch.Tensor:
    """Mean weight that each head gives to the token of each role, [heads, roles + 1]; the last column: no role."""
    symbols, roles, _ = network.draw(1000, torch.Generator().manual_seed(1000))
    query = network.query.expand(1000, 1, DIM)
    _, weights = network.attention(query, network.tokens(symbols, roles), need_weights=True)  # [1000, heads, 1, 8]
    return torch.einsum("bht,btr->hr", weights[:, :, 0], F.one_hot(roles, ROLES + 1).float()) / 1000


@torch.no_grad()
def right_without_heads(network: Gather) -> torch.Tensor:
    """Share of right answers for each role if one head is removed, [heads, roles]."""
    weight, found = network.attention.out_proj.weight, []
    for columns in torch.arange(DIM).chunk(network.attention.num_heads):
        kept = weight[:, columns].clone()
        weight[:, columns] = 0.0
        found.append(right(network))
        weight[:, columns] = kept
    return torch.stack(found)


by_role = {seed: attention_by_role(networks["gather", 4, seed]) for seed in SEEDS}
without = {seed: right_without_heads(networks["gather", 4, seed]) for seed in SEEDS}
favourites = {seed: by_role[seed].argmax(dim=1) for seed in SEEDS}
settle("without one head", sum((without[seed] > 0.8).sum().item() for seed in SEEDS) / (4 * len(SEEDS)), tolerance=0.1)
NAMED = ("giver", "receiver", "object", "place")
table(
    ["seed", "head", "looks mostly at", "weight", *(f"{name} right without it" for name in NAMED)],
    [
        (seed, head, (*NAMED, "no role")[favourites[seed][head]], by_role[seed][head].max().item(),
         *(f"{value:.0%}" for value in without[seed][head]))
        for seed in SEEDS for head in range(4)
    ],
)  # fmt: skip

figure, axes = plt.subplots(1, 3, figsize=(14.5, 4.2), layout="constrained")
for name, marker in (("gather", "o"), ("look up", "s")):
    means = [sum(accuracies[name, heads]) / len(SEEDS) for heads in HEADS]
    axes[0].plot(range(len(HEADS)), means, marker + "-", label=name)
    for seed in range(len(SEEDS)):
        axes[0].plot(range(len(HEADS)), [accuracies[name, heads][seed] for heads in HEADS], "k.", markersize=4)
axes[0].axhline(1 / SYMBOLS, color="black", linestyle=":", label="guessing")
axes[0].set(
    xticks=range(len(HEADS)), xticklabels=[f"{heads} × {DIM // heads}" for heads in HEADS], xlabel="heads × head_dim",
    ylabel="accuracy", ylim=(0, 1.05), title="The same number of weights (dots: seeds)",
)  # fmt: skip
axes[0].legend()
for axis, shown, columns, title in (
    (axes[1], by_role[0], (*NAMED, "no role"), "Weight that each head gives, seed 0"),
    (axes[2], without[0], NAMED, "Right answers without that head, seed 0"),
):
    axis.imshow(shown.numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(4), [f"head {head}" for head in range(4)])
    axis.set_title(title)
    for row in range(4):
        for column in range(len(columns)):
            value = shown[row, column].item()
            color = "white" if value > 0.6 else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color=color)
show(figure, "heads")

# %% [markdown] lang="en"
# Each head has taken one role, another one with each seed, and carries that answer alone. This task asks for exactly four
# things and there are four heads. In large trained models the picture is less tidy: some heads have a recognizable job,
# many can be removed at little cost (Michel et al. 2019), and weights alone do not prove what a head contributes.
# Removing it does.

# %% [markdown] lang="zh"
# 每个头各占一个角色（换个种子分工就不同），并独自承担那个答案。这个任务恰好要四样东西，又恰好有四个头。
# 训练好的大模型没有这么整齐：有些头的工作能认出来，很多头去掉也无妨（Michel 等 2019）；
# 而且光看权重并不能证明一个头贡献了什么，把它去掉才能。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `torch.nn.MultiheadAttention` stacks the three projections into one matrix `in_proj_weight`, `[3·dim, dim]`. With the same
# numbers, outputs, weights of each head and gradients must agree in float64: self-attention with a causal mask, and
# cross-attention with padding. Two traps: without `batch_first=True` it expects `[tokens, batch, dim]`, and in its
# masks True means *hidden*, the reverse of ours.

# %% [markdown] lang="zh"
# `torch.nn.MultiheadAttention` 把三个投影叠成一个矩阵 `in_proj_weight`，`[3·dim, dim]`。
# 数值相同时，float64 下的输出、各头的权重和梯度都必须与我们的一致：带因果掩码的自注意力，带填充的交叉注意力。
# 有两个陷阱：不写 `batch_first=True` 时它要的是 `[tokens, batch, dim]`；它的掩码里 True 表示*遮住*，与我们相反。

# %%
reference_layer = nn.MultiheadAttention(12, 3, batch_first=True).double()
with torch.no_grad():
    projections = (layer.query_proj, layer.key_proj, layer.value_proj)
    reference_layer.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
    reference_layer.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
    reference_layer.out_proj.load_state_dict(layer.out_proj.state_dict())
memory, may = torch.randn(2, 7, 12, generator=random, dtype=torch.float64), padding_mask(torch.tensor([7, 4]), 7)
ours, theirs, our_gradients, their_gradients = {}, {}, {}, {}
ours["self"] = layer(x, mask=causal_mask(5), need_weights=True)
theirs["self"] = reference_layer(x, x, x, attn_mask=~causal_mask(5), average_attn_weights=False)
ours["cross"] = layer(x, memory, mask=may, need_weights=True)
theirs["cross"] = reference_layer(x, memory, memory, key_padding_mask=~may[:, 0, 0], average_attn_weights=False)
for name in ours:
    mine = torch.autograd.grad(ours[name][0].square().sum(), [p.weight for p in (*projections, layer.out_proj)])
    reference = [reference_layer.in_proj_weight, reference_layer.out_proj.weight]
    our_gradients[name] = torch.cat(mine)
    their_gradients[name] = torch.cat(torch.autograd.grad(theirs[name][0].square().sum(), reference))

long, wide_layer = torch.randn(1, 512, 128, generator=random), MultiHeadAttention(128, 4)
with torch.no_grad():
    fused, plain = wide_layer(long)[0], wide_layer(long, need_weights=True)[0]
    table(
        ["4 heads, 512 tokens, dim 128", "milliseconds"],
        [
            ("with the weights", 1e3 * seconds(lambda: wide_layer(long, need_weights=True), 3)),
            ("fused, without them", 1e3 * seconds(lambda: wide_layer(long), 3)),
        ],
    )
cache = layer.project_keys_values(x[:, :0])  # no tokens yet: [batch, heads, 0, head_dim]
token_by_token = []
for new in x.split(1, dim=1):  # one token at a time, [batch, 1, dim]
    cache = cache.append(layer.project_keys_values(new))
    token_by_token.append(layer.attend(new, cache)[0])

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: one head gives (3, 4, 5, 6), for other tokens too", one_head, one_head_others)
check_close("by hand: two heads give (1.4, 2.4, 6.2, 7.2)", two_heads, [1.4, 2.4, 6.2, 7.2])
check("one head or eight, the layer has the same number of weights", sizes[1] == sizes[8] == 4 * (32 * 32 + 32))
check_close("head by head gives the same as all at once", head_by_head, at_once, 1e-12)
for name in ours:
    check_close(f"the output equals torch's: {name}-attention", ours[name][0], theirs[name][0], 1e-10)
    check_close(f"so do the weights of each head: {name}-attention", ours[name][1], theirs[name][1], 1e-10)
    check_close(f"and all gradients: {name}-attention", our_gradients[name], their_gradients[name], 1e-9)
check_close("the fused kernel gives the same output", fused, plain)
check_close(
    "token by token with a cache gives the causal output", torch.cat(token_by_token, dim=1), ours["self"][0], 1e-10
)
check("to gather four things one head is not enough, with any seed", max(accuracies["gather", 1]) < 0.85)
check("four heads are, with every seed", min(accuracies["gather", 4]) > 0.95)
check("to tell 32 names apart, 32 heads of width 1 are too narrow, with any seed", max(accuracies["look up", 32]) < 0.5)
check(
    "heads of width 8 and more are not, with every seed",
    min(accuracies["look up", 4] + accuracies["look up", 1]) > 0.95,
)
check(
    "each of the four heads looks mostly at a role of its own, with every seed",
    all(sorted(favourites[seed].tolist()) == [0, 1, 2, 3] for seed in SEEDS),
)
check(
    "without a head, the answer for its role fails and the others stand, with every seed",
    all(
        (without[seed][head, role] < 0.5) == (role == favourites[seed][head])
        for seed in SEEDS for head in range(4) for role in range(4)
    ),
)  # fmt: skip

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `char-lm` has four heads of width 64 in each of its six layers. Train it with another number and
# compare: `uv run --package char-lm train --heads 8 --max-minutes 5`.
#
# Read the paper with code in
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md). Papers: [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), section 3.2.2, and table 3 (A), which varies the number
# of heads; [Bhojanapalli et al. 2020](https://arxiv.org/abs/2002.07028) on heads that are too narrow; [Michel et al.
# 2019](https://arxiv.org/abs/1905.10650) on removing heads; [Ainslie et al. 2023](https://arxiv.org/abs/2305.13245) on
# heads that share keys and values. Next: neither one head nor eight know the order of the tokens, 07/03.

# %% [markdown] lang="zh"
# 实战项目 `char-lm` 的六层各有四个宽度为 64 的头。换个头数训练并比较：
# `uv run --package char-lm train --heads 8 --max-minutes 5`。
#
# 对照代码精读论文：
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md)。
# 论文：[Vaswani 等 2017](https://arxiv.org/abs/1706.03762) 第 3.2.2 节，以及改变头数的表 3 (A)；
# [Bhojanapalli 等 2020](https://arxiv.org/abs/2002.07028) 讨论过窄的头；
# [Michel 等 2019](https://arxiv.org/abs/1905.10650) 讨论去掉头；
# [Ainslie 等 2023](https://arxiv.org/abs/2305.13245) 让多个头共享键和值。
# 下一课：一个头也好，八个头也好，都不知道词元的顺序，07/03。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the four methods `project_keys_values`, `attend`, `_split_heads` and `_merge_heads` of `MultiHeadAttention`
# yourself. `uv run lesson exercise 07/02` makes a file with the rest of the class, `uv run lesson check 07/02` judges
# values and gradients with weights of its own.

# %% [markdown] lang="zh"
# 自己实现 `MultiHeadAttention` 的四个方法：`project_keys_values`、`attend`、`_split_heads`、`_merge_heads`。
# `uv run lesson exercise 07/02` 生成带有类的其余部分的文件，`uv run lesson check 07/02` 用另外的权重检查数值与梯度。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Begin with `_split_heads`: first `view` to `[batch, tokens, heads, head_dim]`, then exchange axes 1 and 2. A `view`
#    straight to `[batch, heads, tokens, head_dim]` has the right shape and mixes up the tokens.
# 2. `_merge_heads` goes back: exchange the axes, then `reshape` (not `view`: after `transpose` the numbers do not lie
#    in order in memory).
# 3. `project_keys_values` applies `key_proj` and `value_proj` to the memory, splits both, and returns a `KVCache`.
# 4. In `attend`, project and split the queries. With `need_weights`, call `scaled_dot_product_attention` of this module;
#    without, `F.scaled_dot_product_attention`, and return `None` for the weights. Dropout is 0 unless `self.training`.
# 5. At the end the heads are merged and go through `out_proj`, on both paths.

# %% [markdown] lang="zh"
# 1. 从 `_split_heads` 开始：先 `view` 成 `[batch, tokens, heads, head_dim]`，再交换第 1、2 轴。
#    直接 `view` 成 `[batch, heads, tokens, head_dim]` 形状虽对，词元却全乱了。
# 2. `_merge_heads` 反过来：先交换两个轴，再 `reshape`（不能用 `view`：`transpose` 之后数在内存里不再按顺序排列）。
# 3. `project_keys_values` 对 memory 使用 `key_proj` 和 `value_proj`，都拆成头，返回 `KVCache`。
# 4. 在 `attend` 中，先投影并拆分查询。要权重（`need_weights`）时调用本模块的 `scaled_dot_product_attention`；
#    不要时调用 `F.scaled_dot_product_attention`，权重返回 `None`。除非 `self.training`，dropout 为 0。
# 5. 两条路最后都要合并各头，再经过 `out_proj`。


# %%
@exercise(
    MultiHeadAttention.project_keys_values,
    MultiHeadAttention.attend,
    MultiHeadAttention._split_heads,
    MultiHeadAttention._merge_heads,
)
def judge(yours, reference):
    random = torch.Generator().manual_seed(11)

    def drawn(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    def layers(**options):
        pair = [each.MultiHeadAttention(12, 3, **options).double() for each in (yours, reference)]
        values = {name: drawn(*value.shape) / 3 for name, value in pair[1].state_dict().items()}
        for layer in pair:
            layer.load_state_dict(values)
        return pair

    mine, expected = layers()
    x, memory, heads = drawn(2, 4, 12), drawn(2, 5, 12), drawn(2, 3, 4, 4)
    split = mine._split_heads(x)
    check("_split_heads gives [batch, heads, tokens, head_dim]", split.shape == (2, 3, 4, 4))
    check_close("_split_heads: head 1 has coordinates 4 to 7 of every token", split[:, 1], x[:, :, 4:8], 1e-12)
    check_close("_split_heads, all heads", split, expected._split_heads(x), 1e-12)
    merged = mine._merge_heads(heads)
    check("_merge_heads gives [batch, tokens, dim]", merged.shape == (2, 4, 12))
    check_close("_merge_heads puts the heads of a token side by side", merged, expected._merge_heads(heads), 1e-12)

    cache, expected_cache = (layer.project_keys_values(memory) for layer in (mine, expected))
    check("project_keys_values returns a KVCache", getattr(cache, "_fields", ()) == ("keys", "values"))
    check_close("the keys", cache.keys, expected_cache.keys, 1e-10)
    check_close("the values", cache.values, expected_cache.values, 1e-10)

    result = mine.attend(x, expected_cache)
    check("attend returns a pair", isinstance(result, tuple) and len(result) == 2)
    check("the weights are None unless they are asked for", result[1] is None)
    bias = drawn(3, 4, 5)
    for name, mask in (
        ("without a mask", None),
        ("with a padding mask", reference.padding_mask(torch.tensor([5, 2]), 5)),
        ("with a bias for each head", bias),
    ):
        theirs, their_weights = expected.attend(x, expected_cache, mask=mask, need_weights=True)
        output, weights = mine.attend(x, expected_cache, mask=mask, need_weights=True)
        check_close(f"the weights of each head {name}", weights, their_weights, 1e-10)
        check_close(f"the output {name}, weights asked for", output, theirs, 1e-10)
        check_close(
            f"the output {name}, weights not asked for", mine.attend(x, expected_cache, mask=mask)[0], theirs, 1e-10
        )

    for name, arguments in (("self-attention", (x,)), ("cross-attention", (x, memory))):
        gradients = [
            torch.autograd.grad(layer(*arguments)[0].square().sum(), list(layer.parameters()))
            for layer in (mine, expected)
        ]
        for (weight, _), a, b in zip(expected.named_parameters(), *gradients, strict=True):
            check_close(f"the gradient of {weight} in {name}", a, b, 1e-8)

    mine, expected = layers(dropout=0.5)
    for need_weights in (False, True):
        outputs = [mine.train()(x, need_weights=need_weights)[0] for _ in range(2)]
        check(f"dropout acts while training, need_weights={need_weights}", not torch.equal(*outputs))
        output = mine.eval()(x, need_weights=need_weights)[0]
        check_close(f"and not in evaluation, need_weights={need_weights}", output, expected.eval()(x)[0], 1e-10)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why several heads instead of one wide head? · 为什么用多个头，而不是一个宽头？

# %% [markdown] lang="en"
# A head has one set of weights for each query and returns one average. Several heads look at several places for
# several reasons at once, and their findings stay in coordinates of their own. The cost is the same. The gain is there
# when a token needs more than one other token, which is the rule in language.

# %% [markdown] lang="zh"
# 一个头对每个查询只有一组权重，只返回一个平均。多个头能同时因不同的理由看不同的地方，找到的内容各占各的分量，互不混淆，
# 而开销相同。只要一个词元需要不止一个其他词元，多头就有好处；语言里通常如此。

# %%
for heads in HEADS:
    print(f"  gather four things, {heads} heads: {sum(accuracies['gather', heads]) / len(SEEDS):.0%}")

# %% [markdown]
# ### What do eight heads cost compared with one? · 八个头比一个头多花多少？

# %% [markdown] lang="en"
# The same number of weights and the same number of multiplications: $h$ times a width of $D / h$. What grows are the
# attention weights, $h n^2$ instead of $n^2$, with their softmax; they cost memory traffic, unless a fused kernel never
# writes them down.

# %% [markdown] lang="zh"
# 参数数量和乘法次数都一样：$h$ 份，每份宽 $D / h$。增加的是注意力权重，从 $n^2$ 个变成 $h n^2$ 个，以及对它们做的 softmax；
# 这会占用内存带宽，除非用融合内核，根本不把它们写出来。

# %%
table(
    ["heads, dim 512, 1,000 tokens", "parameters", "multiplications of the logits", "attention weights"],
    [(heads, 4 * 512 * 512, heads * 1000**2 * (512 // heads), heads * 1000**2) for heads in (1, 8, 64)],
)

# %% [markdown]
# ### Can a model have too many heads? · 头会太多吗？

# %% [markdown] lang="en"
# Yes, at a fixed width: each head gets narrower, and its logits come from a matrix of rank $d = D / h$. With width 1 a
# head orders all keys on a line and can only favor one of its ends. So widths of 64 to 128 are kept and the number of
# heads grows with the model.

# %% [markdown] lang="zh"
# 会，如果总宽度不变：头越来越窄，而它的 logits 来自秩为 $d = D / h$ 的矩阵。
# 宽度为 1 的头把所有键排在一条直线上，只能偏向其中一端。所以头的宽度保持在 64 到 128，头数随模型一起增加。

# %%
for heads in HEADS:
    attention = networks["look up", heads, 0].attention
    first = slice(0, DIM // heads)
    rank = torch.linalg.matrix_rank(attention.query_proj.weight[first].T @ attention.key_proj.weight[first]).item()
    accuracy = sum(accuracies["look up", heads]) / len(SEEDS)
    print(f"  look up, {heads} heads: rank of the first head's logits {rank}, accuracy {accuracy:.0%}")

# %% [markdown]
# ### What goes wrong with view(batch, heads, tokens, head_dim) without transpose? · 不转置、直接 view 成 [batch, heads, tokens, head_dim] 会怎样？

# %% [markdown] lang="en"
# The shape is right and nothing crashes. But `view` reads the numbers in the order of memory, token after token: the
# first "head" then holds the first tokens with all their coordinates instead of all tokens with the first coordinates.
# Attention mixes within pieces of the wrong kind, tokens of one "head" never see those of another, and the causal mask
# no longer means anything. Such a model even trains, just badly.

# %% [markdown] lang="zh"
# 形状没错，也不报错。但 `view` 按内存顺序读数，一个词元接一个词元：
# 第一个“头”里装的是前几个词元的全部分量，而不是全部词元的前几个分量。注意力在错误的块里混合，
# 一个“头”里的词元永远看不到另一个“头”里的，因果掩码也失去意义。这样的模型照样能训练，只是效果差。

# %%
numbered = torch.arange(4)[:, None].expand(4, 6)[None]  # 4 tokens of width 6; each number tells its token
print(f"  right, head 0: {numbered.view(1, 4, 2, 3).transpose(1, 2)[0, 0].tolist()}")
print(f"  wrong, head 0: {numbered.reshape(1, 2, 4, 3)[0, 0].tolist()}")

# %% [markdown]
# ### What is the output projection for? · 输出投影有什么用？

# %% [markdown] lang="en"
# Without it each head could write only into its own slice of the features, and the next layer would find the finding of
# head 3 in the coordinates of head 3 only. $W_O$ lets every head write into all coordinates, in directions that it learns;
# the layer's output is the sum of what the heads write.

# %% [markdown] lang="zh"
# 没有它，每个头只能写进特征中自己的那一段，后面的层只能在头 3 的分量里找到头 3 的结果。
# $W_O$ 让每个头都能沿学到的方向写进全部分量；这一层的输出就是各头所写内容之和。

# %%
total = sum(contributions) + layer.out_proj.bias
print(f"  sum of the three heads' contributions and the layer's output differ by {(total - at_once).abs().max():.0e}")

# %% [markdown]
# ### What are multi-query and grouped-query attention, and what do they save? · 多查询注意力和分组查询注意力是什么，省了什么？

# %% [markdown] lang="en"
# While a model writes, it keeps the keys and values of all earlier tokens for every head of every layer, and reads them
# all for each new token. In multi-query attention all heads share one set of keys and values, in grouped-query attention
# a group of heads does. Only the queries stay many. That divides the cache, and the time to read it, by the size of the
# group, at a small loss of quality (Ainslie et al. 2023).

# %% [markdown] lang="zh"
# 模型生成时，要为每一层的每个头保存之前所有词元的键和值，每写一个新词元都要全部读一遍。
# 多查询注意力（MQA）让所有头共用一组键和值，分组查询注意力（GQA）让一组头共用一组，只有查询仍然是多份。
# 缓存及读取时间因此除以组的大小，质量只略有损失（Ainslie 等 2023）。

# %%
for name, kv_heads in (("each head its own", 64), ("groups of 8 heads", 8), ("all heads share", 1)):
    bytes_a_token = 2 * 80 * kv_heads * 128 * 2  # keys and values, 80 layers, head_dim 128, two bytes a number
    print(f"  80 layers of 64 heads, {name}: {bytes_a_token * 4096 / 2**30:.2f} GiB for 4,096 tokens")
