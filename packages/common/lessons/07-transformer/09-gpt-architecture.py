# %% [markdown]
# # The architecture of GPT · GPT 的结构

# %% [markdown] lang="en"
# After this lesson you can draw GPT-2 from memory and write its forward pass, count its parameters in your head, say why
# one pass trains on every position of a text at once, and name what today's models have changed. You need multi-head
# attention (07/02), the causal mask and the cache (07/05), and pre-norm (07/06).

# %% [markdown] lang="zh"
# 学完本课，你能凭记忆画出 GPT-2 并写出它的前向计算，能心算它的参数量，
# 能说清为什么一次前向就训练了文本的所有位置，并能说出今天的模型改了哪些部件。
# 先修：多头注意力（07/02）、因果掩码与缓存（07/05）、前置归一化（07/06）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.transformer.attention import causal_mask
from dlcommon.transformer.gpt import GPT, GPTConfig
from dlcommon.transformer.gpt2 import GPT2, GPT2_SIZES, GPT2Block, GPT2Config, from_transformers
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# The Transformer of 07/06 needs pairs: a sentence and its translation. Pairs are rare; plain text is plentiful. What can
# a network learn from text that nobody has labelled?
#
# One answer: the next token. Every position of every text is then a labelled example, the text before it being the input.
# A network that is good at it must have learned spelling, grammar, and some of what the text is about; and it can write,
# by saying a token, appending it, and being asked again. There is nothing to translate, so half of the Transformer, the
# encoder, goes. What is left is a GPT.

# %% [markdown] lang="zh"
# 07/06 的 Transformer 需要成对的数据：句子和它的译文。成对的数据很少，普通文本却很多。
# 从没有任何标注的文本里，网络能学到什么？
#
# 一个答案是：预测下一个词元（token）。这样一来，任何文本的任何位置都是一个有标签的样本，前面的文字就是输入。
# 能做好这件事的网络，必然学到了拼写、语法以及文本内容的一部分；而且它会写作：说出一个词元，接到后面，再问下一个。
# 没有要翻译的东西，Transformer 的一半（编码器）就可以去掉。剩下的就是 GPT。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Three tokens, a, b and c, and the text "a b a c". A model gives $p(b \mid a) = 0.5$, $p(a \mid ab) = 0.8$ and $p(c \mid
# aba) = 0.1$. The text that follows the first token has the probability $0.5 \cdot 0.8 \cdot 0.1 = 0.04$. The losses
# are $-\ln 0.5 = 0.693$, $-\ln 0.8 = 0.223$ and $-\ln 0.1 = 2.303$, their mean 1.073. The perplexity, $e^{1.073} =
# 2.92 = 0.04^{-1/3}$, says: on average the model was as unsure as if it had to choose among 2.92 equally likely tokens.
#
# The input is "a b a", the targets are "b a c": the same text, shifted by one. All three predictions come out of one
# pass, if row $t$ sees the columns up to $t$ only. With equal attention logits, the masked softmax gives the rows (1),
# (½, ½) and (⅓, ⅓, ⅓).
#
# How many parameters has a GPT-2 with 13 tokens, 16 positions, one layer, 8 wide? Embeddings: $(13 + 16) \cdot 8 =
# 232$. Attention: four matrices with biases, $4 \cdot (64 + 8) = 288$. Feed-forward: $8 \cdot 32 + 32 + 32 \cdot 8 + 8
# = 552$. Three normalizations: $3 \cdot 16 = 48$. Together 1,120. The output layer adds none: it is the embedding's
# matrix.

# %% [markdown] lang="zh"
# 三个词元 a、b、c，文本是“a b a c”。模型给出 $p(b \mid a) = 0.5$、$p(a \mid ab) = 0.8$、$p(c \mid aba) = 0.1$。
# 第一个词元之后的文本，概率为 $0.5 \cdot 0.8 \cdot 0.1 = 0.04$。
# 各处的损失是 $-\ln 0.5 = 0.693$、$-\ln 0.8 = 0.223$、$-\ln 0.1 = 2.303$，平均 1.073。
# 困惑度 $e^{1.073} = 2.92 = 0.04^{-1/3}$ 的意思是：平均来看，模型拿不准的程度相当于在 2.92 个同样可能的词元里挑一个。
#
# 输入是“a b a”，目标是“b a c”：同一段文本错开一位。只要第 $t$ 行只看到第 $t$ 列为止，三个预测一次前向就都得到了。
# 如果注意力 logits 全部相等，带掩码的 softmax 给出三行权重：(1)、(½, ½)、(⅓, ⅓, ⅓)。
#
# 13 个词元、16 个位置、一层、宽度 8 的 GPT-2 有多少参数？嵌入：$(13 + 16) \cdot 8 = 232$。
# 注意力：四个带偏置的矩阵，$4 \cdot (64 + 8) = 288$。前馈：$8 \cdot 32 + 32 + 32 \cdot 8 + 8 = 552$。
# 三个归一化：$3 \cdot 16 = 48$。合计 1,120。输出层不增加参数：它就是嵌入矩阵。

# %%
given = torch.tensor([0.5, 0.8, 0.1], dtype=torch.float64)  # of b after a, a after a b, c after a b a
losses = -given.log()
perplexity = losses.mean().exp().item()
table(
    ["losses", "mean", "perplexity"], [["  ".join(f"{loss:.3f}" for loss in losses), losses.mean().item(), perplexity]]
)

undecided = torch.zeros(3, 3).masked_fill(~causal_mask(3), -torch.inf).softmax(dim=1)
table(["query", "a", "b", "a"], [(token, *row) for token, row in zip("aba", undecided.tolist(), strict=True)])

tiny = GPT2Config(vocab_size=13, context_length=16, num_layers=1, num_heads=2, dim=8)
counted = sum(parameter.numel() for parameter in GPT2(tiny).parameters())
print(f"  parameters: {counted} counted, {tiny.num_parameters()} by the formula")

drawing = Schematic(
    16, 4.4, "GPT-2: a straight residual path; each sublayer reads a normalized copy and adds its result"
)
for name, x, y, text, kind, width in (
    ("tokens", 0.9, 1.7, "tokens", "data", 1.2),
    ("embedding", 2.7, 1.7, "embedding $E$", "parameter", 1.6),
    ("positions", 4.3, 0.5, "positions $P$", "parameter", 1.6),
    ("+0", 4.3, 1.7, "+", "operation", 0.5),
    ("norm1", 5.4, 3.1, "norm", "operation", 0.9),
    ("attention", 7.0, 3.1, "causal\nattention", "operation", 1.4),
    ("+1", 8.1, 1.7, "+", "operation", 0.5),
    ("norm2", 9.1, 3.1, "norm", "operation", 0.9),
    ("feed-forward", 10.6, 3.1, "GELU network\n4 · dim wide", "operation", 1.5),
    ("+2", 11.8, 1.7, "+", "operation", 0.5),
    ("norm", 13.0, 1.7, "norm", "operation", 0.9),
    ("head", 14.1, 1.7, "$E^⊤$", "parameter", 0.7),
    ("logits", 15.3, 1.7, "logits", "data", 1.0),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (
    ("tokens", "embedding"), ("embedding", "+0"), ("positions", "+0"), ("+0", "+1"), ("+0", "norm1"),
    ("norm1", "attention"), ("attention", "+1"), ("+1", "+2"), ("+1", "norm2"), ("norm2", "feed-forward"),
    ("feed-forward", "+2"), ("+2", "norm"), ("norm", "head"), ("head", "logits"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.axes.plot([4.75, 12.25, 12.25, 4.75, 4.75], [1.2, 1.2, 3.8, 3.8, 1.2], color="0.5", linestyle=":")
drawing.text(8.5, 4.0, "one block, repeated: 12, 24, 36 or 48 times")
drawing.text(8.5, 0.75, "one matrix $E$ at both ends: weight tying")
show(drawing.figure, "gpt2")

# %% [markdown]
# ## Formula · 公式
#
# $$p(x_1, \dots, x_T) = \prod_{t=1}^{T} p(x_t \mid x_1, \dots, x_{t-1})$$
#
# $$L = -\frac{1}{T-1} \sum_{t=1}^{T-1} \log p_\theta(x_{t+1} \mid x_1, \dots, x_t)$$
#
# $$h^0_t = E_{x_t} + P_t$$
#
# $$a^l = h^{l-1} + \mathrm{Attention}(\mathrm{LN}(h^{l-1})), \qquad h^l = a^l + W_2 \, \mathrm{GELU}(W_1 \mathrm{LN}(a^l) + b_1) + b_2$$
#
# $$p_\theta(x_{t+1} = v \mid x_1, \dots, x_t) = \mathrm{softmax}_v\left(E \, \mathrm{LN}(h^{\Lambda}_t)\right)$$
#
# $$N = (V + T_{\max}) \, d + \Lambda \, (12 d^2 + 13 d) + 2 d$$

# %% [markdown] lang="en"
# - $x_t$: token $t$ of a text of $T$ tokens, a number from 0 to $V - 1$; $V$: the size of the vocabulary.
# - $p$: any distribution over texts. The first line is the chain rule of probability and no assumption; $p_\theta$ is the
#   model's, with the parameters $\theta$.
# - $L$: the loss, the mean of $T - 1$ cross-entropies, in nats; $e^L$ is the perplexity.
# - $E$: the token embedding, `[V, d]`, $E_v$ its row $v$; $P$: the position embedding, `[T_max, d]`; $d$: the width;
#   $T_{\max}$: the context length.
# - $h^l_t$: the features of position $t$ after block $l$, `[d]`; $a^l$: those between the two sublayers; $\Lambda$: the
#   number of blocks.
# - $\mathrm{LN}$: layer normalization (04/07); $\mathrm{Attention}$: multi-head attention with the causal mask: row $t$
#   sees rows 1 to $t$.
# - $W_1$: `[4d, d]`, $W_2$: `[d, 4d]`, $b_1, b_2$: biases; $\mathrm{GELU}(a) = \frac{a}{2}\left(1 + \tanh\left(\sqrt{2 /
#   \pi} \, (a + 0.044715 \, a^3)\right)\right)$.
# - $N$: the number of parameters. In a block: $4d^2 + 4d$ of attention, $8d^2 + 5d$ of the feed-forward network, $4d$ of
#   two normalizations.
#
# The first line is equation 1 of Radford et al. 2019 (GPT-2), the loss equation 1 of Radford et al. 2018 (GPT), and the
# rest equation 2 there, but for the normalizations: GPT has them after each sublayer, GPT-2 before, and one more at the
# end. The tanh form of GELU is from Hendrycks & Gimpel 2016, section 2.

# %% [markdown] lang="zh"
# - $x_t$：长度为 $T$ 的文本中的第 $t$ 个词元，取值 0 到 $V - 1$；$V$：词表大小。
# - $p$：文本上的任意一个分布。第一行就是概率的链式法则，没有任何假设；$p_\theta$ 是模型给出的分布，参数为 $\theta$。
# - $L$：损失，是 $T - 1$ 个交叉熵的平均，单位 nat；$e^L$ 是困惑度。
# - $E$：词元嵌入，`[V, d]`，$E_v$ 是它的第 $v$ 行；$P$：位置嵌入，`[T_max, d]`；$d$：宽度；$T_{\max}$：上下文长度。
# - $h^l_t$：第 $l$ 个块之后位置 $t$ 的特征，`[d]`；$a^l$：两个子层之间的特征；$\Lambda$：块数。
# - $\mathrm{LN}$：层归一化（04/07）；$\mathrm{Attention}$：带因果掩码的多头注意力，第 $t$ 行只看第 1 到 $t$ 行。
# - $W_1$：`[4d, d]`；$W_2$：`[d, 4d]`；$b_1, b_2$：偏置；
#   $\mathrm{GELU}(a) = \frac{a}{2}\left(1 + \tanh\left(\sqrt{2 / \pi} \, (a + 0.044715 \, a^3)\right)\right)$。
# - $N$：参数量。每个块里，注意力 $4d^2 + 4d$，前馈网络 $8d^2 + 5d$，两个归一化 $4d$。
#
# 第一行是 Radford 等 2019（GPT-2）的式 1，损失是 Radford 等 2018（GPT）的式 1，其余是那里的式 2，
# 只有归一化不同：GPT 放在每个子层之后，GPT-2 放在之前，末尾再加一个。
# GELU 的 tanh 形式见 Hendrycks 与 Gimpel 2016 第 2 节。

# %% [markdown]
# ## Code · 代码

# %%
source(GPT2Block.forward)
source(GPT2.features)
source(GPT2.logits)

# %% [markdown] lang="en"
# Read `features` first. Token ids `[batch, tokens]` become features `[batch, tokens, dim]`: one row of the embedding for
# each token, plus one row of the positions, which broadcasts over the batch. Then the blocks, then the last
# normalization. A block never changes the shape. Its two sums are the residual path: what a sublayer computes is added,
# so that a gradient reaches the embedding without passing through any sublayer.
#
# `logits` compares each feature vector with the embedding of every token: `[batch, tokens, dim]` times `[vocab_size,
# dim]` transposed. The same tensor is used at both ends; autograd adds up both gradients.
#
# `cache` is for writing (07/10): keys and values of tokens read before, so that one new token costs one row. The mask
# then has one row for each new token and a column for every token, `[tokens, cached + tokens]`.

# %% [markdown] lang="zh"
# 先读 `features`。词元编号 `[batch, tokens]` 变成特征 `[batch, tokens, dim]`：
# 每个词元取嵌入的一行，加上位置嵌入的一行（沿批次广播）。然后是各个块，最后是归一化。
# 块不改变形状。其中两次加法就是残差通路：子层算出的结果是加上去的，所以梯度不经过任何子层就能到达嵌入。
#
# `logits` 把每个特征向量与所有词元的嵌入比较：`[batch, tokens, dim]` 乘以 `[vocab_size, dim]` 的转置。
# 两端用的是同一个张量，autograd 会把两处的梯度加起来。
#
# `cache` 用于写作（07/10）：保存之前读过的词元的键和值，这样新增一个词元只需计算一行。
# 此时掩码对每个新词元有一行，对所有词元各有一列，即 `[tokens, cached + tokens]`。

# %% [markdown]
# ## Experiment: one pass, all positions · 实验：一次前向，所有位置

# %% [markdown] lang="en"
# The claim that makes GPT trainable: the logits at position $t$ of one pass over a text are those of a pass over its
# first $t$ tokens alone. And the price of getting it wrong: the same network, but every token sees the whole window, that
# is, no mask. Both are trained on windows of real text, characters as tokens, with three seeds: with the mask for 200
# steps, without it for 100.

# %% [markdown] lang="zh"
# 让 GPT 能够训练的关键性质：对整段文本做一次前向，位置 $t$ 的 logits 与只输入前 $t$ 个词元时相同。
# 再看弄错的代价：同样的网络，但没有掩码，每个词元都能看到整个窗口。
# 两者都在真实文本的窗口上训练，词元是字符，各三个种子：有掩码的训练 200 步，没有掩码的训练 100 步。

# %%
quiz(
    "millions",
    en="GPT-2 small: 12 blocks 768 wide, 50,257 tokens, 1,024 positions. How many million parameters?",
    zh="GPT-2 small：12 个块，宽 768，词表 50,257，位置 1,024。参数量是多少百万？",
)
quiz(
    "no mask",
    en="Without the causal mask, how do the training loss and the loss on new text, read from left to right, compare?",
    zh="去掉因果掩码，训练损失和在新文本上从左到右读的损失，与有掩码时相比如何？",
    choices={
        "both higher": "both are higher · 都更高",
        "both lower": "both are lower · 都更低",
        "lower, higher": "training lower, new text higher · 训练更低，新文本更高",
        "higher, lower": "training higher, new text lower · 训练更高，新文本更低",
    },
)

# %%
SEEDS, WINDOW, BATCH, STEPS = (0, 1, 2), 32, 16, 200
corpus = data("tinyshakespeare", "python-manual")
alphabet = sorted(set(corpus.train + corpus.test))
number_of = {character: number for number, character in enumerate(alphabet)}
train_tokens, test_tokens = (
    torch.tensor([number_of[character] for character in text]) for text in (corpus.train, corpus.test[:20_000])
)
test_windows = test_tokens[: len(test_tokens) // (WINDOW + 1) * (WINDOW + 1)].view(-1, WINDOW + 1)

# What counting gives: single characters, and pairs, each count one larger than it is so that no pair is impossible.
pairs = torch.ones(len(alphabet), len(alphabet))
pairs.index_put_((train_tokens[:-1], train_tokens[1:]), torch.ones(len(train_tokens) - 1), accumulate=True)
before, after = test_windows[:, :-1].flatten(), test_windows[:, 1:].flatten()
bigram = -(pairs / pairs.sum(dim=1, keepdim=True)).log()[before, after].mean().item()
unigram = -(pairs.sum(dim=0) / pairs.sum()).log()[after].mean().item()


def gpt2_small_enough() -> GPT2:
    return GPT2(GPT2Config(len(alphabet), WINDOW, num_layers=1, num_heads=4, dim=64, init_std=1 / math.sqrt(3 * 64)))


def without_mask(model: GPT2, tokens: torch.Tensor) -> torch.Tensor:
    """What `GPT2.forward` computes, but every token attends to the whole window."""
    x = model.token_embedding(tokens) + model.position_embedding(torch.arange(tokens.size(1)))
    everything = torch.ones(tokens.size(1), tokens.size(1), dtype=torch.bool)
    for block in model.blocks:
        x, _ = block(x, everything)
    return model.logits(model.norm(x))


def position_losses(logits: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """The loss of every prediction, [batch, tokens]."""
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="none").view(len(windows), -1)


def learn(build, seed: int, steps: int, forward=lambda model, tokens: model(tokens)):
    """Trains a model; returns it and its losses."""
    torch.manual_seed(seed)
    model, curve, draws = build(), [], torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / steps))
    for _ in range(steps):
        starts = torch.randint(len(train_tokens) - WINDOW, (BATCH,), generator=draws)
        windows = train_tokens[starts[:, None] + torch.arange(WINDOW + 1)]  # [batch, tokens + 1]
        loss = position_losses(forward(model, windows[:, :-1]), windows).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        curve.append(loss.item())
    return model, curve


@torch.no_grad()
def test_losses(model: GPT2 | GPT) -> torch.Tensor:
    """The mean loss at each position of the test windows, [tokens]."""
    return position_losses(model(test_windows[:, :-1]), test_windows).mean(dim=0)


def ending(curve: list[float]) -> float:
    return sum(curve[-10:]) / 10


probe = gpt2_small_enough()
with torch.no_grad():
    text = test_windows[:1, :-1]  # [1, 32]
    at_once = probe(text)[0]  # [32, vocabulary]
    one_by_one = torch.stack([probe(text[:, : t + 1])[0, -1] for t in range(WINDOW)])
    table(
        ["32 predictions", "token rows computed", "milliseconds"],
        [
            ("one pass", WINDOW, 1e3 * seconds(lambda: probe(text), 3)),
            (
                "a pass for each prefix", WINDOW * (WINDOW + 1) // 2,
                1e3 * seconds(lambda: [probe(text[:, : t + 1]) for t in range(WINDOW)], 3),
            ),
        ],
    )  # fmt: skip

masked = {seed: learn(gpt2_small_enough, seed, STEPS) for seed in SEEDS}
unmasked = {seed: learn(gpt2_small_enough, seed, 100, without_mask) for seed in SEEDS}
trained = {name: [ending(runs[seed][1]) for seed in SEEDS] for name, runs in (("mask", masked), ("none", unmasked))}
real = {
    name: [test_losses(runs[seed][0]).mean().item() for seed in SEEDS]
    for name, runs in (("mask", masked), ("none", unmasked))
}
table(
    ["network", "training loss, each seed", "new text, left to right, each seed"],
    [
        (title, *("  ".join(f"{value:.2f}" for value in found[name]) for found in (trained, real)))
        for name, title in (("mask", "causal mask"), ("none", "no mask"))
    ],
)
print(f"  counting: characters {unigram:.2f}, pairs {bigram:.2f}; guessing evenly {math.log(len(alphabet)):.2f}")
sides = ["lower" if max(found["none"]) < min(found["mask"]) else "higher" for found in (trained, real)]
settle("no mask", f"both {sides[0]}" if sides[0] == sides[1] else ", ".join(sides))

# %% [markdown] lang="en"
# Without the mask the training loss falls far below what any honest model reaches: the answer to position $t$ stands in
# the input at position $t + 1$, and attention has only to fetch it. On new text, read from left to right, the answer is
# not there yet, and the network is worse than somebody who knows nothing but how frequent each character is. A loss that
# is too good is a leak until proven otherwise.

# %% [markdown] lang="zh"
# 没有掩码，训练损失远低于任何诚实的模型所能达到的值：位置 $t$ 的答案就在输入的位置 $t + 1$，注意力只要取过来就行。
# 在新文本上从左到右读时，答案还不存在，这个网络比只知道各字符频率的人猜得还差。
# 损失好得出奇，就应当先认定有泄漏，直到证明没有。

# %% [markdown]
# ## Experiment: where the parameters are · 实验：参数在哪里

# %% [markdown] lang="en"
# The four published sizes, built on torch's meta device, which has shapes but no memory, and counted against the
# formula.

# %% [markdown] lang="zh"
# 四种已发布的规格，在 torch 的 meta 设备上构建（只有形状，不占内存），与公式核对参数量。

# %%
sizes = {}
for name, size in GPT2_SIZES.items():
    with torch.device("meta"):
        model = GPT2(size)
    total = sum(parameter.numel() for parameter in model.parameters())
    blocks = sum(parameter.numel() for parameter in model.blocks.parameters())
    sizes[name] = (total, size.num_parameters(), blocks, model.token_embedding.weight.numel())
table(
    ["GPT-2", "blocks", "width", "million parameters", "formula", "in blocks", "in the embedding of tokens", "untied"],
    [
        (
            name, size.num_layers, size.dim, f"{total / 1e6:.1f}", f"{formula / 1e6:.1f}", f"{blocks / total:.0%}",
            f"{embedding / total:.0%}", f"{(total + embedding) / 1e6:.1f}",
        )
        for (name, size), (total, formula, blocks, embedding) in zip(GPT2_SIZES.items(), sizes.values(), strict=True)
    ],
)  # fmt: skip
settle("millions", sizes["small"][0] / 1e6, tolerance=6)

# %% [markdown] lang="en"
# The small model has nearly a third of its parameters in the token embedding; without tying it would have a second
# matrix of that size. In the largest one the blocks are almost everything, so for large models $N \approx 12 \Lambda
# d^2$.

# %% [markdown] lang="zh"
# 小模型有近三分之一的参数在词元嵌入里；不共享的话，还要再多一个同样大小的矩阵。
# 最大的模型里几乎全部参数都在块中，所以对大模型 $N \approx 12 \Lambda d^2$。

# %% [markdown]
# ## Experiment: what today's models changed · 实验：今天的模型改了什么

# %% [markdown] lang="en"
# `dlcommon.transformer.gpt` is the GPT that the capstone `char-lm` trains: the same skeleton, other parts. Rotary
# positions (07/03) instead of a learned table; RMSNorm, which subtracts no mean; queries and keys normalized before their
# product; squared ReLU instead of GELU; no biases; output projections that start at zero, so that a block starts as the
# identity; an output layer of its own. Both are one block 64 wide and read the same 200 batches, with three seeds. (One
# learning rate, short training: what is compared is how fast they learn.)

# %% [markdown] lang="zh"
# `dlcommon.transformer.gpt` 是实战项目 `char-lm` 训练的 GPT：骨架相同，部件不同。
# 用旋转位置（07/03）代替学习得到的位置表；用 RMSNorm，不减均值；查询和键在相乘之前归一化；
# 用 ReLU 的平方代替 GELU；没有偏置；输出投影从零开始，所以块一开始是恒等映射；输出层有自己的矩阵。
# 两者都是一个 64 宽的块，读同样的 200 个批次，各三个种子。（只用一个学习率、训练很短：比较的是学得多快。）

# %%
modern = {
    seed: learn(lambda: GPT(GPTConfig(len(alphabet), WINDOW, num_layers=1, num_heads=4, dim=64)), seed, STEPS)
    for seed in SEEDS
}
by_position = {
    name: torch.stack([test_losses(runs[seed][0]) for seed in SEEDS])  # [seeds, tokens]
    for name, runs in (("GPT-2", masked), ("today's GPT", modern))
}
table(
    ["network", "parameters", "test loss, each seed", "at the 2nd character", "at the last 8"],
    [
        (
            name, sum(parameter.numel() for parameter in runs[0][0].parameters()),
            "  ".join(f"{value:.3f}" for value in by_position[name].mean(dim=1)),
            by_position[name][:, 1].mean().item(), by_position[name][:, -8:].mean().item(),
        )
        for name, runs in (("GPT-2", masked), ("today's GPT", modern))
    ],
)  # fmt: skip
print(f"  counting: characters {unigram:.3f}, pairs {bigram:.3f}")

figure, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
axes[0].plot(masked[0][1], color="tab:blue", label="causal mask")
axes[0].plot(unmasked[0][1], color="tab:red", linestyle="--", label="no mask")
axes[0].plot(STEPS - 1, real["mask"][0], "o", color="tab:blue", label="new text, causal mask")
axes[0].plot(99, real["none"][0], "X", markersize=9, color="tab:red", label="new text, no mask")
axes[0].axhline(bigram, color="black", linestyle=":", label="counted pairs")
axes[0].set(title="A leak: the loss is too good (seed 0)", xlabel="step", ylabel="loss, nats a character")
left = torch.zeros(len(GPT2_SIZES))
parts = {
    "blocks": [part[2] for part in sizes.values()],
    "token embedding": [part[3] for part in sizes.values()],
    "positions, last norm": [part[0] - part[2] - part[3] for part in sizes.values()],
}
for (name, counts), color in zip(parts.items(), ("0.75", "tab:blue", "black"), strict=True):
    shares = torch.tensor(counts) / torch.tensor([part[0] for part in sizes.values()])
    axes[1].bar(list(GPT2_SIZES), shares, bottom=left, color=color, edgecolor="black", label=name)
    left = left + shares
axes[1].set(title="Where the parameters of GPT-2 are", ylabel="share", ylim=(0, 1.25))
for (name, found), style in zip(by_position.items(), ("-", "--"), strict=True):
    axes[2].plot(range(1, WINDOW + 1), found.mean(dim=0), style, label=name)
    axes[2].fill_between(range(1, WINDOW + 1), found.amin(dim=0), found.amax(dim=0), alpha=0.2)
axes[2].axhline(bigram, color="black", linestyle=":", label="counted pairs")
axes[2].set(title="More context, lower loss (range: seeds)", xlabel="characters seen", ylabel="test loss, nats")
for axis in axes:
    axis.legend(fontsize=8)
show(figure, "training")

# %% [markdown] lang="en"
# Both have learned more than counting pairs gives. Today's parts learn faster with every seed; which of them brings how
# much is in the table of `packages/char-lm/README.md`: of the changes tried there, rotary positions bring most.

# %% [markdown] lang="zh"
# 两者学到的都多于统计相邻字符。换成今天的部件，每个种子都学得更快；
# 各个部件贡献多少，见 `packages/char-lm/README.md` 里的表：那里试过的部件改动中，旋转位置的贡献最大。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `GPT2LMHeadModel` of transformers is what loads the published weights. A small one with random weights is copied into
# ours. Two things about its format: the matrices of its layers are transposed (`Conv1D`), and query, key and value are one
# matrix three times as wide. Logits and all gradients must agree.

# %% [markdown] lang="zh"
# transformers 的 `GPT2LMHeadModel` 就是加载已发布权重的那个类。把一个随机权重的小模型复制到我们的实现里。
# 它的格式有两点要注意：层里的矩阵是转置的（`Conv1D`）；查询、键、值合在一个三倍宽的矩阵里。
# logits 和所有梯度都必须一致。

# %%
from transformers import GPT2Config as TransformersConfig  # noqa: E402
from transformers import GPT2LMHeadModel  # noqa: E402

theirs = GPT2LMHeadModel(
    TransformersConfig(vocab_size=13, n_positions=16, n_layer=3, n_head=2, n_embd=8, bos_token_id=0, eos_token_id=0)
).double()
theirs.train(False)  # without dropout
ours = GPT2(GPT2Config(vocab_size=13, context_length=16, num_layers=3, num_heads=2, dim=8)).double()
random = torch.Generator().manual_seed(0)
with torch.no_grad():
    for parameter in theirs.parameters():  # biases too, which are zero in a new model
        parameter.copy_(torch.randn(parameter.shape, generator=random) / 2)
ours.load_transformers(theirs.state_dict())
sample = torch.randint(13, (4, 16), generator=random)
our_logits, their_logits = ours(sample), theirs(sample).logits
for logits in (our_logits, their_logits):
    F.cross_entropy(logits[:, :-1].flatten(0, 1), sample[:, 1:].flatten()).backward()
renamed = from_transformers({name: parameter.grad for name, parameter in theirs.named_parameters()})
our_gradients, their_gradients = (
    torch.cat([gradients[name].flatten() for name in sorted(renamed)])
    for gradients in ({name: parameter.grad for name, parameter in ours.named_parameters()}, renamed)
)

# Tied and untied: the output layer gets a copy of the embedding, and with it a gradient of its own.
separate_head = ours.token_embedding.weight.detach().clone().requires_grad_()
untied_logits = F.linear(ours.features(sample)[0], separate_head)
untied_loss = F.cross_entropy(untied_logits[:, :-1].flatten(0, 1), sample[:, 1:].flatten())
input_part, output_part = torch.autograd.grad(untied_loss, [ours.token_embedding.weight, separate_head])
tied = ours.token_embedding.weight.grad

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the losses", losses, [0.6931, 0.2231, 2.3026], 1e-4)
check_close("by hand: the perplexity is the probability to the power of -1/3", perplexity, 0.04 ** (-1 / 3), 1e-12)
check("by hand: 1,120 parameters", counted == tiny.num_parameters() == 1120)
check_close("logits equal transformers'", our_logits, their_logits, 1e-10)
check_close("so do all gradients", our_gradients, their_gradients, 1e-9)
check_close("the tied matrix's gradient is the sum of its two uses'", tied, input_part + output_part, 1e-10)
check_close("one pass gives the logits of every prefix", at_once, one_by_one)
check("the formula counts the parameters of all four sizes", all(part[0] == part[1] for part in sizes.values()))
check(
    "without the mask the training loss is far too good, with every seed: half of the pairs' at most",
    max(trained["none"]) < bigram / 2,
)
check(
    "and on new text that network is worse than the frequencies of single characters, with every seed",
    min(real["none"]) > unigram,
)
check("GPT-2 learns more than counting pairs gives, with every seed", by_position["GPT-2"].mean(dim=1).max() < bigram)
check(
    "today's parts learn faster, with every seed",
    by_position["today's GPT"].mean(dim=1).max() < by_position["GPT-2"].mean(dim=1).min(),
)
check(
    "with context the loss is lower than after one character, for both and with every seed",
    all((found[:, -8:].mean(dim=1) < found[:, 0]).all() for found in by_position.values()),
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `char-lm` trains the GPT with today's parts on this text: `uv run --package char-lm train --preset fast
# --max-minutes 5`, then `uv run --package char-lm demo` to write along with it. Its export is one step of decoding with
# the cache.
#
# Papers: [Radford et al. 2018](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf),
# GPT; [Radford et al. 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
# GPT-2; [Press & Wolf 2017](https://arxiv.org/abs/1608.05859), weight tying; [Hendrycks & Gimpel
# 2016](https://arxiv.org/abs/1606.08415), GELU. To read in full: [nanoGPT](https://github.com/karpathy/nanoGPT), which
# trains GPT-2 itself. Next: how to write with it, 07/10.

# %% [markdown] lang="zh"
# 实战项目 `char-lm` 在这份文本上训练用今天部件的 GPT：`uv run --package char-lm train --preset fast --max-minutes 5`，
# 之后用 `uv run --package char-lm demo` 和它一起写作。它导出的图就是带缓存的一步解码。
#
# 论文：[Radford 等 2018](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf)，GPT；
# [Radford 等 2019](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)，GPT-2；
# [Press 与 Wolf 2017](https://arxiv.org/abs/1608.05859)，权重共享；
# [Hendrycks 与 Gimpel 2016](https://arxiv.org/abs/1606.08415)，GELU。
# 值得通读的代码：[nanoGPT](https://github.com/karpathy/nanoGPT)，它训练的就是 GPT-2。下一课：怎样用它写作，07/10。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the forward pass: `GPT2Block.forward`, `GPT2.features` and `GPT2.logits`. The constructors are there. `uv run
# lesson exercise 07/09` makes the file, `uv run lesson check 07/09` judges it on weights and texts of its own, with and
# without a cache.

# %% [markdown] lang="zh"
# 实现前向计算：`GPT2Block.forward`、`GPT2.features` 和 `GPT2.logits`。构造函数已经写好。
# `uv run lesson exercise 07/09` 生成文件，`uv run lesson check 07/09` 用另外的权重和文本检查，包括有缓存和没有缓存两种情况。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. In the block, normalize first and keep the normalized features: the queries, keys and values are all computed from
#    them. `self.attention.project_keys_values(normed)` gives the new keys and values, `cache.append(new)` puts them behind
#    the old ones, `self.attention.attend(normed, cache, mask=mask)` returns a pair whose first part is the output.
# 2. The sums: attention's output is added to the `x` from before its normalization; the feed-forward network normalizes
#    the new `x`. Dropout acts on what is added. `F.gelu(…, approximate="tanh")`.
# 3. In `features`, positions are 0, 1, …; with `position` they start there, one start for each row of the batch: `[batch,
#    1] + [tokens]`. Dropout acts on the sum of both embeddings.
# 4. `causal_mask(tokens, cached=…)`: the stacked cache is `[batch, layers, heads, cached, head_dim]`. Give block number i
#    `cache.layer(i)`, collect what the blocks return, and stack it with `KVCache.stack`. Do not forget the last norm.
# 5. `logits` has no parameters of its own: `F.linear(x, W)` computes $x W^\top$.

# %% [markdown] lang="zh"
# 1. 在块中先归一化，并保留归一化后的特征：查询、键、值都由它算出。`self.attention.project_keys_values(normed)` 给出新的键和值，
#    `cache.append(new)` 把它们接在旧的后面，`self.attention.attend(normed, cache, mask=mask)` 返回二元组，第一项是输出。
# 2. 两次加法：注意力的输出加到归一化之前的 `x` 上；前馈网络归一化的是新的 `x`。
#    dropout 作用在要加上去的结果上。激活函数是 `F.gelu(…, approximate="tanh")`。
# 3. 在 `features` 中，位置是 0、1、……；给了 `position` 就从那里开始，批次中每一行各有起点：`[batch, 1] + [tokens]`。
#    dropout 作用在两个嵌入之和上。
# 4. `causal_mask(tokens, cached=…)`：整个模型的缓存形状是 `[batch, layers, heads, cached, head_dim]`。
#    第 i 个块用 `cache.layer(i)`，把各块返回的缓存收集起来，用 `KVCache.stack` 叠在一起。别忘了最后的归一化。
# 5. `logits` 没有自己的参数：`F.linear(x, W)` 计算 $x W^\top$。


# %%
@exercise(GPT2Block.forward, GPT2.features, GPT2.logits)
def judge(yours, reference):
    random = torch.Generator().manual_seed(7)
    config = GPT2Config(vocab_size=11, context_length=10, num_layers=2, num_heads=2, dim=8)
    expected, mine = reference.GPT2(config).double().eval(), yours.GPT2(config).double().eval()
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) / 2)
    mine.load_state_dict(expected.state_dict())

    x = torch.randn(3, 5, 8, generator=random, dtype=torch.float64)
    mask = causal_mask(5)

    def block(model, silenced=()):
        """The model's first block with some of its projections set to 0, on copies."""
        weights = {name: p.clone() for name, p in model.blocks[0].named_parameters()}
        for name in silenced:
            weights[f"{name}.weight"], weights[f"{name}.bias"] = (
                0 * weights[f"{name}.weight"],
                0 * weights[f"{name}.bias"],
            )
        return torch.func.functional_call(model.blocks[0], weights, (x, mask))

    found = block(mine)
    check("the block returns features and a cache", isinstance(found, tuple) and len(found) == 2)
    check("the block keeps the shape [batch, tokens, dim]", found[0].shape == x.shape)
    for claim, silenced in (
        ("if both sublayers give 0, the block gives its input", ("attention.out_proj", "down_proj")),
        ("the attention sublayer and its sum", ("down_proj",)),
        ("the feed-forward sublayer and its sum", ("attention.out_proj",)),
        ("the whole block", ()),
    ):
        check_close(claim, block(mine, silenced)[0], block(expected, silenced)[0], 1e-9)
    check_close("the block's keys", found[1].keys, block(expected)[1].keys, 1e-9)

    text = torch.randint(11, (3, 9), generator=random)
    features, cache = mine.features(text)
    check("the features are [batch, tokens, dim]", features.shape == (3, 9, 8))
    with torch.no_grad():
        check_close("the features of a text", features, expected.features(text)[0], 1e-9)
        check("the cache is [batch, layers, heads, tokens, head_dim]", cache.keys.shape == (3, 2, 2, 9, 4))
        check_close("the logits", mine.logits(features), expected.logits(features), 1e-9)
        start = torch.tensor([0, 1, 4])
        check_close(
            "the features where each text starts at another position",
            mine.features(text[:, :5], start)[0], expected.features(text[:, :5], start)[0], 1e-9,
        )  # fmt: skip
        first, cache = mine.features(text[:, :4])
        second, cache = mine.features(text[:, 4:], torch.full((3,), 4), cache)
        check_close("read in two parts, with the cache, as at once", torch.cat((first, second), 1), features, 1e-9)
        check("the cache then holds all tokens", cache.keys.shape[3] == 9)
    try:
        mine.features(torch.zeros(1, 11, dtype=torch.long))
        refused = False
    except (ValueError, IndexError) as error:
        refused = isinstance(error, ValueError)
    check("more tokens than positions raise ValueError", refused)

    def gradients(model):
        model.zero_grad()
        F.cross_entropy(model(text)[:, :-1].flatten(0, 1), text[:, 1:].flatten()).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    ours, reference_gradients = gradients(mine), gradients(expected)
    for name, gradient in reference_gradients.items():
        check(f"the loss depends on {name}", ours[name] is not None)
        check_close(f"the gradient of {name}", ours[name], gradient, 1e-8)

    class Doubling(torch.nn.Module):
        """Stands for dropout, and shows where it acts."""

        def forward(self, x):
            return 2 * x

    for model in (mine, expected):
        model.blocks[0].dropout = Doubling()
    check_close("dropout acts on what each sublayer adds", block(mine)[0], block(expected)[0], 1e-9)
    for model in (mine, expected):
        model.dropout = Doubling()
    check_close("and on the sum of both embeddings", mine.features(text)[0], expected.features(text)[0], 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why can a GPT be trained on all positions in parallel, but writes one token at a time? · 为什么 GPT 能并行训练所有位置，写作时却只能逐个词元？

# %% [markdown] lang="en"
# In training all tokens are known. The causal mask makes row t of one pass equal to a pass over the first t tokens, so one
# pass gives T losses. While writing, token t + 1 is an input of the next step and does not exist before step t has been
# computed. A cache avoids computing old rows again, but the steps stay sequential.

# %% [markdown] lang="zh"
# 训练时所有词元都是已知的。因果掩码使一次前向的第 t 行等于只输入前 t 个词元的结果，所以一次前向得到 T 个损失。
# 写作时，词元 t + 1 是下一步的输入，在第 t 步算完之前它并不存在。缓存免去了旧行的重复计算，但各步仍然只能依次进行。

# %%
print(f"  largest difference of one pass and 32 prefixes: {(at_once - one_by_one).abs().max().item():.1e}")

# %% [markdown]
# ### How do you estimate a GPT's number of parameters in your head? · 怎样心算 GPT 的参数量？

# %% [markdown] lang="en"
# A block has 4d² in attention (query, key, value, output) and 8d² in the feed-forward network (up and down, four times as
# wide), together 12d²; biases and norms hardly count. Add V·d for the embedding. GPT-2 small: 12 · 12 · 768² = 85 million,
# plus 50,257 · 768 = 39 million: 124 million.

# %% [markdown] lang="zh"
# 每个块：注意力 4d²（查询、键、值、输出），前馈 8d²（升维和降维，宽四倍），共 12d²；偏置和归一化可以忽略。
# 再加嵌入的 V·d。GPT-2 small：12 · 12 · 768² = 8,500 万，加上 50,257 · 768 = 3,900 万，共 1.24 亿。

# %%
for name, size in GPT2_SIZES.items():
    estimate = 12 * size.num_layers * size.dim**2 + size.vocab_size * size.dim
    print(f"  {name}: estimated {estimate / 1e6:.0f} million, exactly {size.num_parameters() / 1e6:.1f}")

# %% [markdown]
# ### What is weight tying, and when does it pay? · 什么是权重共享（weight tying）？什么时候划算？

# %% [markdown] lang="en"
# The output layer uses the embedding's matrix, so the logit of a token is the product of the features with that token's
# embedding. It saves V·d parameters, a quarter of what untied GPT-2 small would have, and each row gets gradients from both
# uses, which helps rare tokens. In very large models the share is small and the two roles differ, so many leave them
# apart.

# %% [markdown] lang="zh"
# 输出层使用嵌入的矩阵，所以一个词元的 logit 就是特征与该词元嵌入的内积。它省下 V·d 个参数，
# 约为不共享的 GPT-2 small 的四分之一；每一行还能从两处得到梯度，对少见的词元有帮助。
# 在很大的模型里这部分占比很小，而两种角色的要求不同，所以很多模型不共享。

# %%
total, _, _, embedding = sizes["small"]
print(
    f"  small, untied: {(total + embedding) / 1e6:.1f} million, of which tying saves {embedding / (total + embedding):.0%}"
)
print(f"  norms of the two parts of its gradient: input {input_part.norm():.3f}, output {output_part.norm():.3f}")

# %% [markdown]
# ### Decoder-only or encoder-only: what is gained and lost? · 只用解码器与只用编码器，各有什么得失？

# %% [markdown] lang="en"
# A decoder-only model is trained on every position of every text, and it writes; a token sees what is before it only. An
# encoder such as BERT sees both sides, which is better for labelling a given text, but masked-token training gets losses
# from about 15 % of the positions, and it cannot write. Large models are decoder-only since one model then serves all tasks
# that can be put as text.

# %% [markdown] lang="zh"
# 只用解码器的模型在所有文本的所有位置上训练，而且会写作；但每个词元只能看到前面。
# BERT 这样的编码器两边都能看到，给现成的文本做标注时更好；但掩码训练只有约 15 % 的位置产生损失，而且它不会写作。
# 大模型都只用解码器，因为凡是能写成文本的任务，一个模型就都能做。

# %%
mask = causal_mask(WINDOW)
print(f"  a window of {WINDOW}: GPT trains on {WINDOW} positions, BERT on about {0.15 * WINDOW:.0f};")
print(f"  of the attention's {WINDOW**2} pairs the causal mask keeps {mask.sum().item()}")

# %% [markdown]
# ### Why do GPT-2's output projections start smaller, by 1 / √(2L)? · GPT-2 的输出投影为什么按 1 / √(2L) 缩小初始化？

# %% [markdown] lang="en"
# Each block adds two outputs to the residual path. Independent terms add up their variances, so after L blocks it would
# have grown with 2L. Dividing the standard deviation of those projections by √(2L) keeps the sum's variance the same at any
# depth.

# %% [markdown] lang="zh"
# 每个块往残差通路上加两个输出。相互独立的项，方差相加，所以 L 个块之后方差会随 2L 增长。
# 把这些投影的标准差除以 √(2L)，无论多深，和的方差都不变。

# %%
for depth in (2, 8, 32):
    torch.manual_seed(0)
    deep = GPT2(GPT2Config(13, 16, num_layers=depth, num_heads=2, dim=32, init_std=1 / math.sqrt(3 * 32)))
    x, added = torch.zeros(1, 16, 32), []
    for scale in (1.0, math.sqrt(2 * depth)):  # as initialized, and as if the factor were left out
        x = deep.token_embedding(sample[:1]) + deep.position_embedding(torch.arange(16))
        start = x
        for block in deep.blocks:
            with torch.no_grad():
                for projection in (block.attention.out_proj, block.down_proj):
                    projection.weight *= scale
            x, _ = block(x, causal_mask(16))
        added.append((x - start).std().item())
    print(f"  {depth} blocks: what they add has a deviation of {added[0]:.2f}; without the factor {added[1]:.2f}")

# %% [markdown]
# ### What happens if GPT-2 is given a text longer than its context, and what do today's models do? · 文本超过 GPT-2 的上下文长度会怎样？今天的模型怎么做？

# %% [markdown] lang="en"
# Learned positions have a row for each trained position and none beyond: it cannot read on, the window has to be moved, and
# the cache, whose keys contain old positions, computed anew. Rotary positions are a function, defined everywhere, and
# depend on distances only, so old keys can be dropped from the cache. That they are defined does not mean that the model is
# good there: longer texts need further training or scaled frequencies.

# %% [markdown] lang="zh"
# 学习得到的位置表，每个训练过的位置有一行，再往后就没有了：读不下去，只能移动窗口，
# 而缓存的键里含有旧的位置，必须重新计算。旋转位置是函数，处处有定义，而且只取决于距离，所以可以从缓存里丢掉旧的键。
# 不过有定义不等于效果好：更长的文本仍需继续训练或缩放频率。

# %%
longer = test_tokens[None, : 2 * WINDOW]
try:
    masked[0][0](longer)
except ValueError as error:
    print(f"  GPT-2: {error}")
print(f"  rotary positions: logits {tuple(modern[0][0](longer).shape)}")
