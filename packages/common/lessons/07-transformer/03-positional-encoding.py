# %% [markdown]
# # Positional encoding · 位置编码

# %% [markdown] lang="en"
# After this lesson you can write the five common ways to tell attention where a token stands (sinusoidal, learned, rotary,
# ALiBi, T5's relative bias), say which of them depend on distances only, and predict what happens when a model trained on
# short texts reads long ones. You need attention and its masks (07/01) and heads (07/02).

# %% [markdown] lang="zh"
# 学完本课，你能写出把词元位置告诉注意力的五种常用方法（正弦、学习式、旋转、ALiBi、T5 的相对偏置），
# 能说出其中哪些只取决于距离，并能预测用短文本训练的模型读长文本时会发生什么。
# 先修：注意力与掩码（07/01）、多头（07/02）。

# %%
import math

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.transformer.attention import causal_mask, scaled_dot_product_attention
from dlcommon.transformer.positional_encoding import (
    LearnedPositionalEmbedding,
    RelativePositionBias,
    alibi_bias,
    alibi_slopes,
    relative_position_bucket,
    relative_positions,
    sinusoidal_encoding,
)
from dlcommon.transformer.rotary_embedding import apply_rotary_emb, rotary_cos_sin
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# "Dog bites man" and "Man bites dog" have the same words. To attention they are the same: a logit is the product of a query
# and a key, and neither knows where it stands. If the tokens are shuffled, the outputs are shuffled with them, and each
# of them is what it was (the last check of 07/01).
#
# So the position has to be told. The obvious way, one learned vector for each position, has a limit: whoever has trained
# on 512 positions has no 513th. Texts at work are longer than those in training. How should the position be told, so
# that a model can also use it where it has never been?

# %% [markdown] lang="zh"
# “狗咬人”和“人咬狗”用的是同样的词。对注意力来说它们没有区别：logit 是查询与键的点积，两者都不知道自己在第几位。
# 词元打乱，输出也跟着打乱，每个输出本身不变（07/01 的最后一项检验）。
#
# 所以必须把位置告诉它。最直接的办法是每个位置学一个向量，但这有上限：训练时只有 512 个位置，就没有第 513 个。
# 而实际使用时的文本往往比训练时长。该怎样告诉位置，才能让模型在从未到过的位置也用得上？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Sinusoidal*, width 4: two clock hands, a fast one that turns by 1 radian for each token, and a slow one that turns by
# 0.01. The encoding holds sine and cosine of both. Position 0: $(0, 1, 0, 1)$. Position 1: $(0.841, 0.540, 0.010, 1.000)$.
# Position 2: $(0.909, -0.416, 0.020, 1.000)$. The product of positions 0 and 1 is $0.540 + 1.000 = 1.540$; that of 1 and 2
# is 1.540 again: it depends on the distance only.
#
# *Rotary*: nothing is added; the query itself is turned like a clock hand. Let query and key be $(1, 0)$, with 1 radian for
# each token. The query at position 3 is turned by 3, the key at position 1 by 1; their product is the cosine of the angle
# between them, $\cos 2 = -0.416$.
#
# *ALiBi*: a penalty for distance is taken from the logit. With slope 0.5, three keys that match equally well at distances
# 0, 1, 2 get the logits $0, -0.5, -1$; $e^0 = 1$, $e^{-0.5} = 0.607$, $e^{-1} = 0.368$, so the weights are 0.506, 0.307,
# 0.186.
#
# *T5*: a learned number is added for each distance, but not for each one separately. With 8 buckets up to distance 16:
# distances 0, 1, 2, 3 have a bucket each; then 4 and 5 share one, 6 and 7, 8 to 11, and all from 12 on.

# %% [markdown] lang="zh"
# *正弦*，宽度 4：两根表针，快的每个词元转 1 弧度，慢的转 0.01 弧度，编码里放的是两者的正弦和余弦。
# 位置 0：$(0, 1, 0, 1)$。位置 1：$(0.841, 0.540, 0.010, 1.000)$。位置 2：$(0.909, -0.416, 0.020, 1.000)$。
# 位置 0 与 1 的点积是 $0.540 + 1.000 = 1.540$，位置 1 与 2 的点积还是 1.540：只取决于距离。
#
# *旋转*：什么也不加，而是把查询本身像表针一样转动。设查询和键都是 $(1, 0)$，每个词元转 1 弧度。
# 位置 3 的查询转 3，位置 1 的键转 1，点积是两者夹角的余弦，$\cos 2 = -0.416$。
#
# *ALiBi*：按距离从 logit 里扣分。斜率为 0.5，三个同样匹配的键距离为 0、1、2，logits 为 $0, -0.5, -1$；
# $e^0 = 1$，$e^{-0.5} = 0.607$，$e^{-1} = 0.368$，权重是 0.506、0.307、0.186。
#
# *T5*：每个距离加一个学到的数，但不是每个距离各有一个。8 个桶、最远 16 时：
# 距离 0、1、2、3 各有一个桶；然后 4 和 5 共用一个，6 和 7 共用一个，8 到 11 共用一个，12 以上全部共用一个。

# %%
encodings = sinusoidal_encoding(torch.arange(3), 4)  # [3 positions, dim 4]
table(["position", "sin fast", "cos fast", "sin slow", "cos slow"], [(p, *encodings[p].tolist()) for p in range(3)])
print(f"  products: 0 with 1: {encodings[0] @ encodings[1]:.3f}, 1 with 2: {encodings[1] @ encodings[2]:.3f}")


def rotated_product(query_at: int, key_at: int) -> float:
    """Product of two vectors (1, 0) that are turned by one radian for each token."""
    turned = [
        apply_rotary_emb(torch.tensor([[[[1.0, 0.0]]]]), *rotary_cos_sin(torch.tensor([place]), 2))
        for place in (query_at, key_at)
    ]
    return (turned[0] * turned[1]).sum().item()


by_slope = (-0.5 * torch.arange(3)).softmax(dim=0)
buckets = relative_position_bucket(-torch.arange(20), bidirectional=False, num_buckets=8, max_distance=16)
print(f"  rotary, 3 and 1: {rotated_product(3, 1):.3f}")
print(f"  ALiBi, slope 0.5: {[round(weight, 3) for weight in by_slope.tolist()]}")
table(["distance", *(str(distance) for distance in range(20))], [("bucket", *buckets.tolist())])

drawing = Schematic(13.6, 4.8, "Where each encoding enters the attention")
for name, x, y, text, kind, width in (
    ("sinusoidal", 1.3, 4.0, "sinusoidal\nor learned", "parameter", 1.7),
    ("tokens", 1.3, 2.4, "embeddings", "data", 1.6),
    ("plus", 3.1, 2.4, "+", "operation", 0.6),
    ("q", 5.0, 3.2, "queries", "data", 1.3),
    ("k", 5.0, 2.0, "keys", "data", 1.3),
    ("v", 5.0, 0.7, "values", "data", 1.3),
    ("turn", 7.0, 2.6, "rotary:\nturn both", "parameter", 1.5),
    ("logits", 9.0, 2.6, "logits", "operation", 1.1),
    ("add", 10.5, 2.6, "+", "operation", 0.6),
    ("bias", 10.5, 4.0, "ALiBi or T5's bias\nof the distance", "parameter", 2.5),
    ("softmax", 12.2, 2.6, "softmax", "operation", 1.2),
    ("out", 12.2, 0.7, "weights · values", "operation", 1.9),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.6)
for start, end in (
    ("sinusoidal", "plus"), ("tokens", "plus"), ("plus", "q"), ("plus", "k"), ("plus", "v"), ("q", "turn"), ("k", "turn"),
    ("turn", "logits"), ("logits", "add"), ("bias", "add"), ("add", "softmax"), ("softmax", "out"), ("v", "out"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "where")

# %% [markdown]
# ## Formula · 公式
#
# $$\omega_i = \theta^{-2i/d}, \qquad \mathrm{PE}(p)_{2i} = \sin(p\,\omega_i), \qquad \mathrm{PE}(p)_{2i+1} = \cos(p\,\omega_i)$$
#
# $$R_p = \begin{pmatrix} \cos p\omega_i & -\sin p\omega_i \\ \sin p\omega_i & \cos p\omega_i \end{pmatrix}, \qquad (R_p q)^\top (R_s k) = q^\top R_{s-p}\, k$$
#
# $$Z_{ps} = \frac{q_p^\top k_s}{\sqrt d} - m_h \, |p - s|, \qquad m_h = 2^{-8h/H}$$
#
# $$Z_{ps} = \frac{q_p^\top k_s}{\sqrt d} + b_{h,\,\beta(p - s)}$$
#
# $$\beta(n) = n \text{ for } n < E, \qquad \beta(n) = \min\left(B - 1, E + \left\lfloor (B - E) \frac{\log(n / E)}{\log(N / E)} \right\rfloor\right) \text{ for } n \ge E$$

# %% [markdown] lang="en"
# - $p$: the position of the query; $s$: that of the key; both counted from 0.
# - $\omega_i$: the frequency of pair $i$, in radians for each token, for $i = 0, \dots, d/2 - 1$; $\theta$: 10,000.
# - $d$: the width: of the features (`dim`) for sinusoids, of a head (`head_dim`) for rotary embedding.
# - $\mathrm{PE}(p)$: the sinusoidal encoding, `[dim]`, added to the embedding (Vaswani et al. 2017, section 3.5). A learned
#   encoding replaces it by row $p$ of a table `[max_positions, dim]`.
# - $R_p$: the rotation of a pair of coordinates by the angle $p\,\omega_i$ (Su et al. 2021, equation 34).
# - $q_p, k_s$: query and key, `[head_dim]`; $Z_{ps}$: their logit.
# - $m_h$: the slope of head $h$ of $H$, fixed, not learned (Press et al. 2022, section 3).
# - $b_{h,\beta}$: the bias of head $h$ for bucket $\beta$, learned (Raffel et al. 2020, section 2.1); $B$: the number of
#   buckets of keys before the query; $E = B/2$: the number of those with one distance each; $N$: the distance from which
#   on all share the last bucket.
#
# The second line is why rotary embedding works: both vectors are turned by their absolute position, but rotations
# undo each other, and what is left in the product is the difference $s - p$. The same angles make $\mathrm{PE}(p + n)$ a
# rotation of $\mathrm{PE}(p)$, and $\mathrm{PE}(p)^\top \mathrm{PE}(p + n) = \sum_i \cos(n\,\omega_i)$ for every $p$. But with
# sinusoids the *logits* are not products of two encodings: word and position are mixed by $W_Q$ and $W_K$, and what the
# model does with positions it must learn.

# %% [markdown] lang="zh"
# - $p$：查询的位置；$s$：键的位置；都从 0 数起。
# - $\omega_i$：第 $i$ 对分量的频率，单位是弧度每词元，$i = 0, \dots, d/2 - 1$；$\theta$：10,000。
# - $d$：宽度；正弦编码用特征的宽度（`dim`），旋转编码用一个头的宽度（`head_dim`）。
# - $\mathrm{PE}(p)$：正弦编码，`[dim]`，加到词嵌入上（Vaswani 等 2017，第 3.5 节）。学习式编码则换成表 `[max_positions, dim]` 的第 $p$ 行。
# - $R_p$：把一对分量旋转 $p\,\omega_i$ 角（Su 等 2021，式 34）。
# - $q_p, k_s$：查询和键，`[head_dim]`；$Z_{ps}$：它们的 logit。
# - $m_h$：共 $H$ 个头，第 $h$ 个头的斜率，固定不学（Press 等 2022，第 3 节）。
# - $b_{h,\beta}$：第 $h$ 个头、第 $\beta$ 个桶的偏置，是学到的（Raffel 等 2020，第 2.1 节）；
#   $B$：查询之前的键的桶数；$E = B/2$：其中只含一个距离的桶数；$N$：从这个距离起全部共用最后一个桶。
#
# 第二行说明旋转编码为什么有效：两个向量各按自己的绝对位置转动，但旋转互相抵消，点积里只剩位置差 $s - p$。
# 同样的角度使 $\mathrm{PE}(p + n)$ 是 $\mathrm{PE}(p)$ 的旋转，
# 并且对任何 $p$ 都有 $\mathrm{PE}(p)^\top \mathrm{PE}(p + n) = \sum_i \cos(n\,\omega_i)$。
# 但正弦编码的 *logits* 并不是两个编码的点积：词和位置被 $W_Q$、$W_K$ 混在一起，怎样利用位置要靠模型自己学。

# %% [markdown]
# ## Code · 代码

# %%
source(sinusoidal_encoding)
source(apply_rotary_emb)
source(relative_positions)
source(alibi_bias)
source(relative_position_bucket)

# %% [markdown] lang="en"
# `sinusoidal_encoding` takes cosines and sines `[tokens, dim / 2]` of all angles and lets them alternate: `stack` makes
# `[tokens, dim / 2, 2]`, `flatten` makes `[tokens, dim]`. `apply_rotary_emb` uses the very same angles for queries and keys;
# it pairs coordinate $i$ with $i + d/2$ instead of its neighbor, which is one order of coordinates as good as another.
#
# `relative_positions` is the table of $s - p$: a row of key positions less a column of query positions. ALiBi multiplies
# its absolute values `[tokens, keys]` with a slope for each head `[heads, 1, 1]`. The result goes to attention as a float
# mask, like the causal mask in another form.
#
# In `relative_position_bucket` the logarithm is taken of distances that are at least `exact`, so that no $\log 0$
# occurs; `torch.where` then takes the exact bucket for near keys and the wide one for far keys.

# %% [markdown] lang="zh"
# `sinusoidal_encoding` 取得所有角度的余弦和正弦 `[tokens, dim / 2]`，让它们交替排列：
# `stack` 得到 `[tokens, dim / 2, 2]`，`flatten` 得到 `[tokens, dim]`。
# `apply_rotary_emb` 对查询和键用完全相同的角度；它把分量 $i$ 与 $i + d/2$ 配对，而不是与相邻的配对，只是分量次序不同，效果一样。
#
# `relative_positions` 就是 $s - p$ 的表：一行键的位置减去一列查询的位置。
# ALiBi 把它的绝对值 `[tokens, keys]` 乘以每个头的斜率 `[heads, 1, 1]`，结果作为浮点掩码交给注意力，与因果掩码的用法一样。
#
# 在 `relative_position_bucket` 中，取对数的距离至少是 `exact`，所以不会出现 $\log 0$；
# `torch.where` 再让近处的键用精确的桶，远处的键用宽的桶。

# %% [markdown]
# ## Experiment: who notices what? · 实验：谁察觉到什么？

# %% [markdown] lang="en"
# One causal layer with four heads of width 8, with random weights, in six versions: without any encoding, and with each of
# the five. Two questions. Does the output at the last token change if the tokens before it are shuffled? And does it
# change if the same text begins at position 100 instead of 0?

# %% [markdown] lang="zh"
# 一个因果注意力层，四个头，每个宽 8，随机权重，共六个版本：不带任何编码，以及五种编码各一个。
# 两个问题：把前面的词元打乱，最后一个词元的输出变不变？同一段文字从位置 100 而不是 0 开始，输出变不变？

# %%
quiz(
    "far away",
    en="Rotary: query and key (1, 0) have the product −0.416 at positions 3 and 1. What is it at 103 and 101?",
    zh="旋转编码：查询和键都是 (1, 0)，在位置 3 和 1 的点积是 −0.416。在 103 和 101 是多少？",
)

# %%
settle("far away", rotated_product(103, 101), tolerance=0.02)
SYMBOLS, DIM, HEADS, TRAINED, LONG, SEEDS = 8, 32, 4, 16, 128, (0, 1, 2)
ENCODINGS = ("none", "learned", "sinusoidal", "rotary", "ALiBi", "T5")


class Reader(nn.Module):
    """Names one of eight symbols at every token: a causal attention layer with one of the encodings."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self.encoding, self.embedding = encoding, nn.Embedding(SYMBOLS + 1, DIM)  # token 0 is a blank
        self.qkv_proj, self.out_proj, self.head = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, SYMBOLS)
        if encoding == "learned":
            self.positions = LearnedPositionalEmbedding(LONG, DIM)
        if encoding == "T5":  # the last bucket begins within the texts of the training, so that all are trained
            self.bias = RelativePositionBias(HEADS, bidirectional=False, num_buckets=16, max_distance=TRAINED)

    def forward(
        self, tokens: torch.Tensor, start: int = 0, window: int | None = None, squeeze: float = 1.0
    ) -> torch.Tensor:
        """Maps [batch, tokens] to logits [batch, tokens, symbols].

        The first token is number `start`. With a `window`, only that many tokens are attended to, the own one included.
        Positions are multiplied by `squeeze`.
        """
        count, x = tokens.size(1), self.embedding(tokens)
        positions = (start + torch.arange(count)) * squeeze
        if self.encoding == "learned":
            x = x + self.positions(count, start)
        if self.encoding == "sinusoidal":
            x = x + sinusoidal_encoding(positions, DIM)
        qkv = self.qkv_proj(x).unflatten(2, (3, HEADS, DIM // HEADS))  # [batch, tokens, 3, heads, head_dim]
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [batch, heads, tokens, head_dim]
        if self.encoding == "rotary":
            angles = rotary_cos_sin(positions, DIM // HEADS)
            query, key = apply_rotary_emb(query, *angles), apply_rotary_emb(key, *angles)
        mask = torch.zeros(count, count).masked_fill(~causal_mask(count), -torch.inf)
        if self.encoding == "ALiBi":
            mask = mask + alibi_bias(HEADS, count)
        if self.encoding == "T5":
            mask = mask + self.bias(count)
        if window is not None:
            mask = mask.masked_fill(relative_positions(count) <= -window, -torch.inf)
        found = F.scaled_dot_product_attention(query, key, value, mask)
        return self.head(self.out_proj(found.transpose(1, 2).flatten(2)))


order, shifted = {}, {}
text = torch.tensor([[3, 1, 7, 2, 5, 8, 4, 6]])
shuffled = text[:, [4, 2, 6, 0, 5, 1, 3, 7]]  # the last token stays
for encoding in ENCODINGS:
    torch.manual_seed(0)
    reader = Reader(encoding)
    for parameter in reader.parameters():  # biases and positional tables that matter
        nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        last = reader(text)[0, -1]
        order[encoding] = (reader(shuffled)[0, -1] - last).abs().max().item()
        shifted[encoding] = (reader(text, start=100)[0, -1] - last).abs().max().item()
table(
    ["encoding", "shuffled: the output moves by", "begun at 100: moves by"],
    [(encoding, order[encoding], shifted[encoding]) for encoding in ENCODINGS],
)

figure, axes = plt.subplots(1, 4, figsize=(17, 3.8), layout="constrained")
axes[0].imshow(sinusoidal_encoding(torch.arange(64), 32).T.numpy(), cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
axes[0].set(xlabel="position", ylabel="coordinate", title="Sinusoidal encoding, dim 32")
near = sinusoidal_encoding(torch.arange(129), 64)
axes[1].plot(range(-64, 65), near @ near[64], label="products of encodings")
axes[1].set(xlabel="distance", ylabel="PE(p) · PE(p + distance)", title="Sinusoids: near means similar")
distances = torch.arange(64)
for head, slope in enumerate(alibi_slopes(HEADS).tolist(), start=1):
    axes[2].plot(distances, -slope * distances, label=f"head {head}, slope {slope:.4g}")
axes[2].set(xlabel="distance", ylabel="added to the logit", title="ALiBi, four heads", ylim=(-17, 1))
axes[2].legend(fontsize=8)
far = torch.arange(300)
axes[3].plot(far, relative_position_bucket(-far, bidirectional=False, num_buckets=32, max_distance=128))
axes[3].axvline(128, color="black", linestyle=":", label="max_distance")
axes[3].set(xlabel="distance", ylabel="bucket", title="T5: near exact, far coarse")
axes[3].legend()
show(figure, "encodings")

# %% [markdown] lang="en"
# Without an encoding, a shuffled text is the same text. Learned and sinusoidal encodings are *absolute*: the same words at
# other positions give another output. Rotary, ALiBi and T5's bias are *relative*: only distances count.

# %% [markdown] lang="zh"
# 没有编码时，打乱的文字与原来的没有区别。学习式和正弦编码是*绝对*的：同样的词放在别的位置，输出就不同。
# 旋转、ALiBi 和 T5 的偏置是*相对*的：只有距离起作用。

# %% [markdown]
# ## Experiment: train short, read long · 实验：短训练，长阅读

# %% [markdown] lang="en"
# Now the readers learn. The task, *latest*: most tokens are blank, three in ten hold one of eight symbols; at every token,
# name the latest symbol so far. (So one reads a program for the current value of a variable.) They learn it on texts of
# 16 tokens, 80 updates, and are then given texts of 128. For the learned encoding the table has 128 rows, of which 112 are
# never trained. Three seeds; guessing is right one time in eight.

# %% [markdown] lang="zh"
# 现在让它们学习。任务 *latest*：大多数词元是空白，十个里有三个带八种符号之一；在每个词元处说出到目前为止最近的符号。
# （读程序时找变量的当前值就是这样。）用 16 个词元的文本训练 80 次更新，然后给它们 128 个词元的文本。
# 学习式编码的表有 128 行，其中 112 行从未训练过。三个种子；乱猜的正确率是八分之一。

# %%
quiz(
    "holds",
    en="Which encoding is still over 90 % right at eight times the trained length?",
    zh="在训练长度的八倍处，哪种编码的正确率仍超过 90 %？",
    choices={"sinusoidal": "sinusoidal · 正弦", "rotary": "rotary · 旋转", "ALiBi": "ALiBi", "T5": "T5"},
)
quiz(
    "worse than nothing",
    en="How many of the five encodings are worse there than none at all?",
    zh="在那里，五种编码中有几种还不如完全没有编码？",
)


# %%
def latest(count: int, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [count, length], 0 for blank, and the latest symbol at each of them, 0 to 7."""
    tokens = torch.randint(1, SYMBOLS + 1, (count, length), generator=generator)
    blank = torch.rand(count, length, generator=generator) > 0.3
    blank[:, 0] = False  # a text begins with a symbol
    tokens = tokens.masked_fill(blank, 0)
    places = torch.where(blank, 0, torch.arange(length)).cummax(dim=1).values  # of the latest symbol
    return tokens, tokens.gather(1, places) - 1


def two_back(count: int, length: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [count, length] without blanks, and the symbol two tokens before each; 0 for the first two."""
    tokens = torch.randint(1, SYMBOLS + 1, (count, length), generator=generator)
    return tokens, F.pad(tokens, (2, 0), value=1)[:, :length] - 1


def learn(encoding: str, draw, updates: int, seed: int) -> Reader:
    torch.manual_seed(seed)
    reader, generator = Reader(encoding), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(reader.parameters(), lr=2e-2, fused=True)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = 2e-2 * min(1.0, 2 - 2 * update / updates)  # falls in the second half
        tokens, answers = draw(32, TRAINED, generator)
        loss = F.cross_entropy(reader(tokens).flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reader


RANGES = {"0–15": (0, 16), "16–31": (16, 32), "32–63": (32, 64), "64–127": (64, 128)}


@torch.no_grad()
def accuracy(reader: Reader, draw, **options) -> torch.Tensor:
    """Share of right answers at each of 128 positions, for 60 new texts."""
    tokens, answers = draw(60, LONG, torch.Generator().manual_seed(1000))
    return (reader(tokens, **options).argmax(dim=2) == answers).float().mean(dim=0)


def by_range(curves: list[torch.Tensor]) -> dict[str, list[float]]:
    """Accuracy of each seed in each range of positions."""
    return {name: [curve[a:b].mean().item() for curve in curves] for name, (a, b) in RANGES.items()}


def written(values: list[float]) -> str:
    return " ".join(f"{value:.0%}" for value in values)


readers = {(encoding, seed): learn(encoding, latest, 80, seed) for encoding in ENCODINGS for seed in SEEDS}
curves = {encoding: [accuracy(readers[encoding, seed], latest) for seed in SEEDS] for encoding in ENCODINGS}
reached = {encoding: by_range(curves[encoding]) for encoding in ENCODINGS}
table(
    ["encoding", "0–15, as trained", "16–31", "32–63", "64–127"],
    [(encoding, *(written(values) for values in reached[encoding].values())) for encoding in ENCODINGS],
)
holding = [encoding for encoding in ENCODINGS if min(reached[encoding]["64–127"]) > 0.9]
settle("holds", holding[0])
means = {encoding: sum(reached[encoding]["64–127"]) / len(SEEDS) for encoding in ENCODINGS}
settle("worse than nothing", sum(means[encoding] < means["none"] for encoding in ENCODINGS[1:]))

# %% [markdown] lang="en"
# All five solve the task where they were trained, and only there are they alike. Learned and sinusoidal encodings break at
# once: vectors that were never seen in training send the queries anywhere. That sinusoids can be *computed* for
# any position does not mean that the model knows what to do with them. Rotary embedding lasts a little longer, then breaks
# too, although it is relative: distances above 15 are as new to it as positions. ALiBi needs no knowledge of far
# distances, since its penalty goes on growing by itself. T5's last bucket holds all far keys with one bias; each of them
# gets little weight, but there are more and more of them.

# %% [markdown] lang="zh"
# 五种编码在训练过的范围内都解决了任务，也只有在那里它们才一样。学习式和正弦编码立刻失效：训练中从未见过的向量把查询引向任意地方。
# 正弦编码对任何位置都*算得出*，不等于模型知道怎么用。旋转编码多撑了一会儿，然后也失效了，尽管它是相对的：
# 大于 15 的距离对它来说和新位置一样陌生。ALiBi 不需要了解远距离，因为扣分会自己继续增长。
# T5 的最后一个桶让所有远处的键共用一个偏置：每个键分到的权重很小，但键越来越多。

# %% [markdown]
# ## Experiment: repairs, and the other side · 实验：补救办法，以及另一面

# %% [markdown] lang="en"
# If unseen distances are what breaks rotary embedding, two repairs without any training suggest themselves. *Window*: attend
# to the last 16 tokens only, so that no unseen distance occurs. *Squeeze*: multiply all positions by 16 / 128, so that 128
# tokens fit into the angles of 16 (position interpolation, Chen et al. 2023).
#
# And is ALiBi simply best? Its penalty prefers near keys, which is what *latest* asks for. The second task, *two back*, asks
# for the symbol exactly two tokens before, whatever it is: the distance decides, and the nearest key is not the right
# one. 60 updates on 16 tokens.

# %% [markdown] lang="zh"
# 如果旋转编码失效是因为没见过的距离，就有两种不用训练的补救办法。
# *窗口*（window）：只看最近的 16 个词元，这样就没有陌生的距离。
# *压缩*（squeeze）：所有位置乘以 16 / 128，让 128 个词元落进 16 个词元的角度范围（位置内插，Chen 等 2023）。
#
# 那么 ALiBi 就是最好的吗？它的扣分偏爱近处的键，而 *latest* 要的正是这个。
# 第二个任务 *two back* 问恰好两个词元之前的符号，不管它是什么：由距离决定，而最近的键并不是正确答案。用 16 个词元的文本更新 60 次。

# %%
windowed = {
    encoding: [accuracy(readers[encoding, seed], latest, window=TRAINED) for seed in SEEDS] for encoding in ENCODINGS
}
squeezed = [accuracy(readers["rotary", seed], latest, squeeze=TRAINED / LONG) for seed in SEEDS]
repaired = {f"{encoding}, window": by_range(windowed[encoding]) for encoding in ENCODINGS}
repaired["rotary, squeezed"] = by_range(squeezed)
table(
    ["latest", *RANGES],
    [(name, *(written(values) for values in ranges.values())) for name, ranges in repaired.items()],
)
exact = {encoding: [learn(encoding, two_back, 60, seed) for seed in SEEDS] for encoding in ("rotary", "ALiBi", "T5")}
exact_reached = {encoding: by_range([accuracy(reader, two_back) for reader in exact[encoding]]) for encoding in exact}
exact_reached["rotary, window"] = by_range([accuracy(reader, two_back, window=TRAINED) for reader in exact["rotary"]])
exact_reached["rotary, squeezed"] = by_range(
    [accuracy(reader, two_back, squeeze=TRAINED / LONG) for reader in exact["rotary"]]
)
table(
    ["two back", *RANGES],
    [(name, *(written(values) for values in ranges.values())) for name, ranges in exact_reached.items()],
)


def smooth(curves: list[torch.Tensor]) -> torch.Tensor:
    """Mean over seeds and over 4 positions each, [32]."""
    return torch.stack(curves).mean(dim=0).view(-1, 4).mean(dim=1)


places = 4 * torch.arange(LONG // 4) + 2
figure, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained", sharey=True)
COLORS = dict(zip(ENCODINGS, ("black", "tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple"), strict=True))
for encoding, color in COLORS.items():
    style = ":" if encoding == "none" else "-"
    axes[0].plot(places, smooth(curves[encoding]), style, color=color, label=encoding)
axes[0].set(title="latest: trained on 16 tokens", ylabel="accuracy, mean of three seeds", ylim=(0, 1.05))
for encoding, shown, style, label in (
    ("rotary", curves["rotary"], "-", "rotary"),
    ("rotary", windowed["rotary"], "--", "… with a window of 16"),
    ("rotary", squeezed, "-.", "… positions squeezed to 16"),
    ("sinusoidal", windowed["sinusoidal"], "--", "sinusoidal with a window of 16"),
):
    axes[1].plot(places, smooth(shown), style, color=COLORS[encoding], label=label)
axes[1].set(title="latest: repairs without training")
for encoding in exact:
    curve = smooth([accuracy(reader, two_back) for reader in exact[encoding]])
    axes[2].plot(places, curve, color=COLORS[encoding], label=encoding)
axes[2].set(title="two back: trained on 16 tokens")
for axis in axes:
    axis.axvline(TRAINED, color="grey", linestyle="--", linewidth=1)
    axis.axhline(1 / SYMBOLS, color="grey", linestyle=":", linewidth=1)
    axis.set(xlabel="position")
    axis.legend(fontsize=8)
show(figure, "extrapolation")

# %% [markdown] lang="en"
# The window brings rotary and T5 back to what they reach at the trained length, far out as well. It does not do so for
# the absolute encodings (the sinusoids come and go with the position): so what broke the relative ones were the unseen
# distances. Squeezing helps on *latest*, where order is enough, at the price of some accuracy at short range; on *two
# back* it destroys what was learned, since neighbors now lie closer than the model has learned to tell apart. (In
# practice one trains on for a short while after squeezing.) ALiBi fails on *two back* even at the trained length: a
# penalty that only grows can say "near", but not "exactly two". Each encoding brings an assumption about what matters;
# extrapolation is good where the assumption fits. (One layer, two small tasks: deeper models can combine heads, and do
# better.)

# %% [markdown] lang="zh"
# 有了窗口，旋转和 T5 在远处也恢复到训练长度内的水平；绝对编码则不行（正弦编码随位置时好时坏）。
# 可见使相对编码失效的正是没见过的距离。压缩对 *latest* 有帮助，因为那里只要先后次序，
# 代价是近处损失一些正确率；在 *two back* 上它毁掉了学到的东西，因为相邻词元靠得比模型学会分辨的还近。
# （实际中压缩之后会再训练一小段。）ALiBi 在 *two back* 上连训练长度之内都失败：只会增长的扣分能表达“近”，却表达不了“恰好两个”。
# 每种编码都带着一个关于“什么重要”的假设，假设合适的地方外推才好。（这是一层网络、两个小任务；更深的模型能组合多个头，会好一些。）

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# A bias is a float mask, so `F.scaled_dot_product_attention` takes ALiBi's and T5's as they are; values and gradients,
# that of T5's learned biases included, must agree with our attention. Rotation by an angle is multiplication by a complex
# number of length 1, which is how Llama's own code does it with `torch.polar`. In this repository's tests the functions
# are also held against transformers: the sinusoids against Pegasus, ALiBi against BLOOM, buckets and biases against T5,
# the rotation against Llama (importing that library takes longer than this lesson).

# %% [markdown] lang="zh"
# 偏置就是浮点掩码，所以 `F.scaled_dot_product_attention` 可以直接使用 ALiBi 和 T5 的偏置；
# 数值和梯度（包括 T5 可学习偏置的梯度）都必须与我们的注意力一致。
# 旋转一个角度就是乘以一个模为 1 的复数，Llama 自己的代码就是用 `torch.polar` 这样写的。
# 本仓库的测试还与 transformers 比较：正弦对 Pegasus，ALiBi 对 BLOOM，桶和偏置对 T5，旋转对 Llama
# （导入那个库的时间比整节课还长）。

# %%
random = torch.Generator().manual_seed(0)
query, key, value = (torch.randn(2, HEADS, 20, 8, generator=random, dtype=torch.float64) for _ in range(3))
inputs = [each.requires_grad_() for each in (query, key, value)]
learned_bias = RelativePositionBias(HEADS, bidirectional=False).double()
nn.init.normal_(learned_bias.weight)
hidden = torch.zeros(20, 20, dtype=torch.float64).masked_fill(~causal_mask(20), -torch.inf)
attended = {}
for name, bias, parameters in (
    ("ALiBi", alibi_bias(HEADS, 20).double(), inputs),
    ("T5", learned_bias(20), [*inputs, learned_bias.weight]),
):
    for whose, output in (
        ("ours", scaled_dot_product_attention(*inputs, bias + hidden)[0]),
        ("torch", F.scaled_dot_product_attention(*inputs, attn_mask=bias + hidden)),
    ):
        gradients = torch.autograd.grad(output.square().sum(), parameters, retain_graph=True)
        attended[name, whose] = (output, torch.cat([gradient.flatten() for gradient in gradients]))
cos, sin = rotary_cos_sin(torch.arange(20), 8)
turned = apply_rotary_emb(query, cos, sin)
angles = torch.arange(20).double()[:, None] * 10_000.0 ** (-torch.arange(4).double() / 4)  # [tokens, 4 pairs]
as_complex = torch.complex(query[..., :4], query[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
by_complex = torch.cat((as_complex.real, as_complex.imag), dim=-1)

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the encoding of position 1", encodings[1], [0.8415, 0.5403, 0.0100, 0.99995], 1e-4)
check_close("by hand: ALiBi's weights 0.506, 0.307, 0.186", by_slope, [0.5065, 0.3072, 0.1863], 1e-4)
check_close("by hand: T5's buckets", buckets, [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, *[7] * 8])
check_close("rotary: the same product at 3 and 1, at 103 and 101", rotated_product(103, 101), math.cos(2))
where = torch.arange(50)
frequencies = 10_000.0 ** (-torch.arange(16) / 16)
products = (sinusoidal_encoding(where, 32) * sinusoidal_encoding(where + 7, 32)).sum(dim=1)
check_close(
    "sinusoids: PE(p) · PE(p + 7) is Σ cos 7ω for every p", products, (7 * frequencies).cos().sum().expand(50), 1e-4
)
for name in ("ALiBi", "T5"):
    check_close(
        f"attention with {name}'s bias equals torch's", attended[name, "ours"][0], attended[name, "torch"][0], 1e-10
    )
    check_close(f"so do its gradients: {name}", attended[name, "ours"][1], attended[name, "torch"][1], 1e-9)
check_close("the rotation is a product of complex numbers", turned, by_complex)
check("without an encoding, order is not noticed", order["none"] < 1e-5)
check("with any of the five it is", min(order[encoding] for encoding in ENCODINGS[1:]) > 1e-3)
check(
    "rotary, ALiBi and T5 see distances only", max(shifted[encoding] for encoding in ("rotary", "ALiBi", "T5")) < 1e-4
)
check("learned and sinusoidal see positions", min(shifted["learned"], shifted["sinusoidal"]) > 1e-2)
check(
    "where they were trained, all five solve the task, with every seed",
    min(value for encoding in ENCODINGS[1:] for value in reached[encoding]["0–15"]) > 0.93,
)
check("without an encoding it cannot be solved, with any seed", max(reached["none"]["0–15"]) < 0.85)
check(
    "far beyond it, learned, sinusoidal and rotary are worse than none, with every seed",
    all(
        reached[encoding]["64–127"][seed] < reached["none"]["64–127"][seed]
        for encoding in ("learned", "sinusoidal", "rotary")
        for seed in SEEDS
    ),
)
check("ALiBi holds at eight times the length, with every seed", min(reached["ALiBi"]["64–127"]) > 0.9)
check(
    "T5 loses some, with every seed",
    all(0.65 < far < near - 0.08 for near, far in zip(reached["T5"]["0–15"], reached["T5"]["64–127"], strict=True)),
)
check(
    "a window repairs rotary and T5, with every seed",
    min(repaired["rotary, window"]["64–127"] + repaired["T5, window"]["64–127"]) > 0.9,
)
check(
    "but neither learned nor sinusoidal, with any",
    max(repaired["learned, window"]["64–127"] + repaired["sinusoidal, window"]["64–127"]) < 0.8,
)
check(
    "squeezing helps far away and costs near, with every seed",
    all(
        repaired["rotary, squeezed"]["64–127"][seed] > reached["rotary"]["64–127"][seed] + 0.2
        and repaired["rotary, squeezed"]["0–15"][seed] < reached["rotary"]["0–15"][seed] - 0.05
        for seed in SEEDS
    ),
)
check(
    "ALiBi cannot point two tokens back even as trained; rotary and T5 can, with every seed",
    max(exact_reached["ALiBi"]["0–15"]) < 0.6
    and min(exact_reached["rotary"]["0–15"] + exact_reached["T5"]["0–15"]) > 0.9,
)
check("squeezed, rotary cannot either", max(exact_reached["rotary, squeezed"]["0–15"]) < 0.4)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `char-lm` uses rotary embedding, and windows that grow while it trains:
# `uv run --package char-lm train --max-minutes 5`. When it writes more than its context, the oldest keys are dropped from the
# cache: the window of this lesson. The full Transformer of 07/06 takes sinusoids, as the paper does; BERT (07/07) and
# GPT-2 (07/09) have learned positions.
#
# Read the paper with code in
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md). Papers: [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), section 3.5; [Gehring et al.
# 2017](https://arxiv.org/abs/1705.03122), learned positions; [Su et al. 2021](https://arxiv.org/abs/2104.09864), rotary;
# [Press et al. 2022](https://arxiv.org/abs/2108.12409), ALiBi and "train short, test long"; [Raffel et al.
# 2020](https://arxiv.org/abs/1910.10683), T5; [Chen et al. 2023](https://arxiv.org/abs/2306.15595), squeezing. Next: all
# parts in one block, the encoder, 07/04.

# %% [markdown] lang="zh"
# 实战项目 `char-lm` 使用旋转编码，窗口随训练逐步加长：`uv run --package char-lm train --max-minutes 5`。
# 当它写得比上下文更长时，最旧的键会从缓存中丢掉，这就是本课的窗口。
# 07/06 的完整 Transformer 与论文一样用正弦编码；BERT（07/07）和 GPT-2（07/09）用学习式位置。
#
# 对照代码精读论文：
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md)。
# 论文：[Vaswani 等 2017](https://arxiv.org/abs/1706.03762) 第 3.5 节；
# [Gehring 等 2017](https://arxiv.org/abs/1705.03122)，学习式位置；[Su 等 2021](https://arxiv.org/abs/2104.09864)，旋转编码；
# [Press 等 2022](https://arxiv.org/abs/2108.12409)，ALiBi 与“短训练、长测试”；
# [Raffel 等 2020](https://arxiv.org/abs/1910.10683)，T5；[Chen 等 2023](https://arxiv.org/abs/2306.15595)，压缩位置。
# 下一课：把所有部件装进一个模块，编码器，07/04。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `sinusoidal_encoding`, `relative_positions`, `alibi_slopes`, `alibi_bias` and `relative_position_bucket` yourself.
# `uv run lesson exercise 07/03` makes a file with their signatures, `uv run lesson check 07/03` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `sinusoidal_encoding`、`relative_positions`、`alibi_slopes`、`alibi_bias` 和 `relative_position_bucket`。
# `uv run lesson exercise 07/03` 生成带有签名的文件，`uv run lesson check 07/03` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `rotary_cos_sin(positions, dim, theta)` gives cosines and sines of all angles, `[..., dim / 2]`. Sine comes first in
#    each pair. `torch.cat` would put all sines before all cosines; stack them on a new last axis, then flatten the two.
# 2. Query $i$ is token `cached + i`. A column of query positions, `[:, None]`, is taken from a row of key positions.
# 3. The slopes of $n$ heads, $n$ a power of two, are $2^{-8h/n}$ for $h = 1, \dots, n$. For other numbers, begin with the
#    next lower power of two and go on with the first, third, fifth … of the next higher one.
# 4. The bias is negative: `-slopes[:, None, None] * distances`.
# 5. Buckets: halve `num_buckets` first if keys after the query have their own, and add that half for them. `exact` is half
#    of what is left. Compute the wide bucket with `.clamp(min=exact)` before the logarithm, in float32, cut off the
#    fraction with `.long()`, and clamp it to the last bucket; `torch.where` chooses.

# %% [markdown] lang="zh"
# 1. `rotary_cos_sin(positions, dim, theta)` 给出所有角度的余弦和正弦，`[..., dim / 2]`。每一对中正弦在前。
#    `torch.cat` 会把所有正弦排在所有余弦之前；应在新的最后一轴上 `stack`，再把两轴展平。
# 2. 第 $i$ 个查询是词元 `cached + i`。从一行键的位置中减去一列查询的位置（`[:, None]`）。
# 3. $n$ 是 2 的幂时，$n$ 个头的斜率是 $2^{-8h/n}$，$h = 1, \dots, n$。
#    其他情况先取较小的 2 的幂的全部斜率，再取较大的 2 的幂的第一、第三、第五……个。
# 4. 偏置是负的：`-slopes[:, None, None] * distances`。
# 5. 桶：如果查询之后的键有自己的桶，先把 `num_buckets` 减半，并给它们加上这一半。`exact` 是剩下的一半。
#    算宽桶时先 `.clamp(min=exact)` 再取对数（float32），用 `.long()` 去掉小数，再限制到最后一个桶；用 `torch.where` 选择。


# %%
@exercise(sinusoidal_encoding, relative_positions, alibi_slopes, alibi_bias, relative_position_bucket)
def judge(yours, reference):
    positions = torch.tensor([[0, 1, 5], [30, 200, 7]])
    mine, theirs = (each.sinusoidal_encoding(positions, 12) for each in (yours, reference))
    check("sinusoidal_encoding gives [..., dim]", mine.shape == (2, 3, 12))
    check_close("sinusoidal_encoding: position 0", mine[0, 0], theirs[0, 0])
    check_close("sinusoidal_encoding: the fastest pair", mine[..., :2], theirs[..., :2], 1e-4)
    check_close("sinusoidal_encoding: all pairs", mine, theirs, 1e-4)
    mine, theirs = (each.sinusoidal_encoding(positions, 12, theta=100.0) for each in (yours, reference))
    check_close("sinusoidal_encoding with another theta", mine, theirs, 1e-4)
    try:
        yours.sinusoidal_encoding(positions, 7)
        refused = False
    except ValueError:
        refused = True
    check("sinusoidal_encoding of an odd width raises ValueError", refused)

    for cached in (0, 3):
        mine, theirs = (each.relative_positions(4, cached) for each in (yours, reference))
        check_close(f"relative_positions(4, cached={cached})", mine, theirs)

    for heads in (8, 4, 1, 6, 12):
        mine, theirs = (each.alibi_slopes(heads) for each in (yours, reference))
        check_close(f"the slopes of {heads} heads", mine, theirs, 1e-6)
    for cached in (0, 3):
        mine, theirs = (each.alibi_bias(4, 5, cached) for each in (yours, reference))
        check(f"alibi_bias with cached={cached} is [heads, tokens, keys]", mine.shape == (4, 5, 5 + cached))
        check_close(f"alibi_bias with cached={cached}", mine, theirs, 1e-6)

    distances = torch.arange(-300, 301)
    for bidirectional, few, far in ((False, 32, 128), (True, 32, 128), (False, 8, 20), (True, 12, 64)):
        options = {"bidirectional": bidirectional, "num_buckets": few, "max_distance": far}
        mine, theirs = (each.relative_position_bucket(distances, **options) for each in (yours, reference))
        exact = few // (4 if bidirectional else 2)
        near = (distances <= 0) & (distances > -exact)
        named = f"{few} buckets up to {far}, bidirectional={bidirectional}"
        check_close(f"near keys before the query: {named}", mine[near], theirs[near])
        check_close(f"all keys before the query: {named}", mine[distances <= 0], theirs[distances <= 0])
        check_close(f"keys after the query: {named}", mine[distances > 0], theirs[distances > 0])


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does attention need positions, while an RNN or a convolution does not? · 为什么注意力需要位置编码，而 RNN 和卷积不需要？

# %% [markdown] lang="en"
# An RNN reads in order, and a convolution has another weight for each offset: order is in the computation itself.
# Attention is a weighted sum over a set; a logit depends on the contents of query and key only, and a sum does not
# know its order. Permuting the inputs permutes the outputs and does nothing else.

# %% [markdown] lang="zh"
# RNN 按顺序读，卷积对每个偏移有不同的权重：顺序就在计算里。注意力是对一个集合的加权和；
# logit 只取决于查询和键的内容，而求和不知道次序。输入重排，输出就照样重排，别无变化。

# %%
for encoding in ENCODINGS:
    print(f"  {encoding}: shuffling the tokens before moves the last output by {order[encoding]:.1e}")

# %% [markdown]
# ### Why do sinusoidal encodings use many frequencies? · 正弦编码为什么要用很多频率？

# %% [markdown] lang="en"
# One fast frequency tells neighbors apart but repeats after 6.28 tokens, so that position 44 looks like 0; a slow one does not repeat but can hardly tell
# neighbors apart. Together they are like the hands of a clock, or the digits of a number: a geometric series from 1
# radian to 1/10,000 covers all scales. And for each fixed offset, the encoding there is a rotation of the encoding here,
# which a linear map can learn.

# %% [markdown] lang="zh"
# 一个快的频率能分清相邻位置，但每 6.28 个词元就重复，位置 44 看起来与 0 一样；慢的不重复，却几乎分不清相邻位置。
# 合在一起就像时钟的几根针，或数字的各位：从 1 弧度到 1/10,000 的等比数列覆盖所有尺度。
# 而且对每个固定的偏移，那里的编码就是这里的编码的旋转，线性映射可以学到。

# %%
for name, coordinates in (
    ("fastest pair", slice(0, 2)),
    ("slowest pair", slice(30, 32)),
    ("all 16 pairs", slice(0, 32)),
):
    some = sinusoidal_encoding(torch.arange(64), 32)[:, coordinates]
    gaps = (some[1:] - some[0]).norm(dim=1)
    print(
        f"  {name}: nearest other position {gaps.argmin() + 1}, at distance {gaps.min():.2g}; position 1 at {gaps[0]:.2g}"
    )

# %% [markdown]
# ### Why does rotary embedding turn queries and keys, but not values? · 旋转编码为什么转查询和键，而不转值？

# %% [markdown] lang="en"
# The rotations are there to meet in the product $q^\top k$, where they cancel to the difference of positions. A value is
# multiplied with no partner: if it were turned by its absolute position, it would arrive so turned in the output, and
# the same text would mean something else further back.

# %% [markdown] lang="zh"
# 旋转是为了在点积 $q^\top k$ 里相遇，互相抵消，只剩位置差。值没有与之配对相乘的对象：
# 如果按绝对位置转动，它会带着这个旋转进入输出，同一段文字换个位置意思就变了。

# %%
q, k, v = (torch.randn(1, 1, 6, 8, generator=random) for _ in range(3))
for name, turn_values in (("queries and keys", False), ("values too", True)):
    outputs = []
    for start in (0, 50):
        places_now = rotary_cos_sin(start + torch.arange(6), 8)
        turned_v = apply_rotary_emb(v, *places_now) if turn_values else v
        outputs.append(
            scaled_dot_product_attention(apply_rotary_emb(q, *places_now), apply_rotary_emb(k, *places_now), turned_v)[
                0
            ]
        )
    print(f"  {name} turned: 50 positions later the output differs by {(outputs[1] - outputs[0]).abs().max():.1e}")

# %% [markdown]
# ### A model was trained on 2,048 tokens and is to read 8,192. What can be done? · 模型用 2,048 个词元训练，要读 8,192 个，怎么办？

# %% [markdown] lang="en"
# With learned positions: nothing, without training new ones. With rotary embedding: a sliding window, if far text is not
# needed; squeezing the positions (or changing $\theta$), and then a short training on long texts, since squeezing alone
# costs accuracy nearby. With ALiBi: it runs, but prefers near text. In any case measure by position, not on average over
# the text: the first 2,048 tokens hide the rest.

# %% [markdown] lang="zh"
# 学习式位置：除非训练新的位置，否则没有办法。旋转编码：不需要远处内容时用滑动窗口；
# 或者压缩位置（或改 $\theta$），再用长文本短暂训练，因为单纯压缩会损失近处的准确率。ALiBi：能跑，但偏爱近处。
# 无论哪种，都要按位置分段测量，而不是对整段文本取平均：前 2,048 个词元会掩盖后面的问题。

# %%
for name in ("rotary, window", "rotary, squeezed"):
    print(
        f"  {name}: as trained {written(repaired[name]['0–15'])}, eight times as long {written(repaired[name]['64–127'])}"
    )
whole = torch.stack(curves["rotary"]).mean().item()
print(f"  rotary as it is: on average over the text {whole:.0%}, at its end {written(reached['rotary']['64–127'])}")

# %% [markdown]
# ### What does ALiBi assume, and when does it hurt? · ALiBi 的假设是什么，何时有害？

# %% [markdown] lang="en"
# That near matters more than far, smoothly, with a rate for each head. That is true of much text, and the penalty is
# defined at any distance, so it extrapolates. It hurts where an exact offset counts, or where something far away must be
# found among near things that match almost as well: the logit has to make up for slope times distance.

# %% [markdown] lang="zh"
# 假设近处比远处重要，平滑递减，每个头有自己的速率。很多文本确实如此，而且扣分在任何距离都有定义，所以能外推。
# 当恰好的偏移要紧，或要在差不多匹配的近处内容之中找到远处的东西时，它就有害：logit 要补回斜率乘以距离那么多。

# %%
table(
    ["trained and tested on 16 tokens", "latest", "two back"],
    [
        (name, written(reached[name]["0–15"]), written(exact_reached[name]["0–15"]))
        for name in ("rotary", "ALiBi", "T5")
    ],
)

# %% [markdown]
# ### Can a causal model do without any positional encoding? · 因果模型可以完全不用位置编码吗？

# %% [markdown] lang="en"
# One layer cannot: its last query sees a set. But with a causal mask, each earlier token sees another number of tokens, so
# that its output depends on what stood before it; a second layer can read the order from that. Deep decoders without
# any encoding do learn positions (Haviv et al. 2022). An encoder without a mask never can.

# %% [markdown] lang="zh"
# 一层不行：最后一个查询看到的是一个集合。但有了因果掩码，前面每个词元看到的词元数不同，它的输出取决于之前有什么；
# 第二层就能从中读出次序。没有位置编码的深层解码器确实能学到位置（Haviv 等 2022）。没有掩码的编码器则永远不行。

# %%
x = torch.randn(1, 6, 8, generator=random)
reordered = x[:, [3, 1, 4, 0, 2, 5]]  # the last token stays
for layers in (1, 2):
    for name, mask in (("causal", causal_mask(6)), ("no mask", None)):
        first, second = x, reordered
        for _ in range(layers):
            first, second = (scaled_dot_product_attention(each, each, each, mask)[0] for each in (first, second))
        print(
            f"  {layers} layer(s), {name}: reordering moves the last output by {(first - second)[0, -1].abs().max():.1e}"
        )
