# %% [markdown]
# # The whole Transformer · 完整的 Transformer

# %% [markdown] lang="en"
# After this lesson you can put encoder and decoder together, train them on a task of your own, and say what warm-up, the
# order of the norm, tied embeddings and label smoothing are for. You need the encoder (07/04) and the decoder (07/05).

# %% [markdown] lang="zh"
# 学完本课，你能把编码器和解码器组装起来，在自己的任务上训练，并能说清预热、归一化的顺序、共享嵌入和标签平滑各有什么用。
# 先修：编码器（07/04）和解码器（07/05）。

# %%
import datetime
import math
import warnings

import matplotlib.pyplot as plt
import torch
from dlcommon.course.lesson import check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.pytorch_core.losses import cross_entropy
from dlcommon.training.schedules import constant, cosine, inverse_sqrt, set_learning_rate
from dlcommon.transformer.encoder import TransformerEncoder
from dlcommon.transformer.positional_encoding import sinusoidal_encoding
from dlcommon.transformer.torch_names import torch_names
from dlcommon.transformer.transformer import Transformer, TransformerConfig
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You have an encoder that reads and a decoder that writes. A program is to turn dates as people write them, "27 Nov 2026"
# or "Nov 27, 2026", into the eight digits that a database wants, 20261127. You connect the parts, start the training with
# a learning rate that has served you well, and the loss stays where it was; with another it falls. Nothing is wrong in the
# code.
#
# Transformers are sensitive in the first steps. The paper's authors found a recipe: a learning rate that rises first and
# falls later, labels that are not quite certain, one matrix that serves three times. This lesson says what each part does,
# measures it, and trains the program.

# %% [markdown] lang="zh"
# 你有了会读的编码器和会写的解码器。现在要写一个程序，把人们书写的日期“27 Nov 2026”或“Nov 27, 2026”变成数据库要的八位数字 20261127。
# 你把各部分接好，用一个一直好用的学习率开始训练，损失却不动；换一个学习率，它就下降了。代码并没有错。
#
# Transformer 在最初几步很敏感。论文作者找到了一套配方：学习率先升后降，标签不完全确定，一个矩阵用三次。
# 本课说明每一项的作用，加以测量，并把这个程序训练出来。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *The learning rate* of the paper, with $d = 512$ and 4,000 steps of warm-up. At step 4,000 it is highest, $1 / \sqrt{512
# \cdot 4000} = 0.0007$. At step 1,000 a quarter of that, since it rises in proportion; at step 16,000 half of it, since it
# falls with the square root.
#
# *Label smoothing* with $\varepsilon = 0.1$ and four classes: the truth gets $0.9 + 0.1 / 4 = 0.925$, every other class
# $0.025$. The best prediction is this very distribution. Its loss is $-0.925 \log 0.925 - 3 \cdot 0.025 \log 0.025 = 0.349$,
# and the true logit lies $\log (0.925 / 0.025) = 3.6$ above the others. Without smoothing the best gap would be infinite.
#
# *Embeddings*: the matrix has entries of size $1 / \sqrt d$, so an embedding has length 1. The sinusoidal encoding has
# length $\sqrt{d / 2} = 16$, and the word would drown in its position. Times $\sqrt d$ the embedding has length 22.6.

# %% [markdown] lang="zh"
# **论文的学习率**，$d = 512$，预热 4000 步。第 4000 步最高，为 $1 / \sqrt{512 \cdot 4000} = 0.0007$。
# 上升阶段与步数成正比，所以第 1000 步是它的四分之一；下降阶段与步数的平方根成反比，所以第 16000 步是它的一半。
#
# **标签平滑**，$\varepsilon = 0.1$，四个类别：正确类得 $0.9 + 0.1 / 4 = 0.925$，其余各得 $0.025$。
# 最好的预测就是这个分布本身，损失为 $-0.925 \log 0.925 - 3 \cdot 0.025 \log 0.025 = 0.349$，
# 正确类的 logit 比其他高 $\log (0.925 / 0.025) = 3.6$。不做平滑时，最优的差距是无穷大。
#
# **嵌入**：矩阵元素的大小约为 $1 / \sqrt d$，所以一个嵌入的长度是 1。正弦位置编码的长度是 $\sqrt{d / 2} = 16$，
# 词会被位置淹没。乘以 $\sqrt d$ 之后，嵌入的长度是 22.6。

# %%
rate = inverse_sqrt(warmup=4000 / 100_000)  # of a training of 100,000 steps
highest = (512 * 4000) ** -0.5
hand_rates = {step: highest * rate(step / 100_000) for step in (1000, 4000, 16_000)}
table(["step", "learning rate"], list(hand_rates.items()))

free_logits = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
for _ in range(2000):  # nothing but four logits, moved downhill
    smoothed = cross_entropy(free_logits, torch.tensor([0]), label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(smoothed, free_logits)
    free_logits = (free_logits - gradient).detach().requires_grad_()
hand_gap = (free_logits[0, 0] - free_logits[0, 1]).item()
table(["label smoothing 0.1, four classes", "loss", "gap of the logits"], [("by descent", smoothed.item(), hand_gap)])

one_word = torch.randn(512, generator=torch.Generator().manual_seed(0)) / 512**0.5
hand_lengths = [
    each.norm().item() for each in (one_word, sinusoidal_encoding(torch.tensor(7), 512), 512**0.5 * one_word)
]
table(["length of", "embedding", "position", "embedding · √d"], [("d = 512", *hand_lengths)])

drawing = Schematic(
    12.6, 5.4, "The Transformer: one matrix E embeds the source, embeds the target, and gives the logits"
)
for name, x, y, text, kind, width in (
    ("source", 1.3, 1.0, "source", "data", 1.5),
    ("E in", 1.3, 2.3, "E · √d\n+ position", "parameter", 1.7),
    ("encoder", 4.0, 2.3, "encoder\nlayers", "parameter", 1.7),
    ("memory", 6.3, 2.3, "memory", "data", 1.3),
    ("target", 11.3, 1.0, "target so far", "data", 1.7),
    ("E out", 8.6, 1.0, "E · √d\n+ position", "parameter", 1.7),
    ("decoder", 8.6, 2.3, "decoder\nlayers", "parameter", 1.7),
    ("logits", 8.6, 3.7, "E (as output)", "parameter", 1.7),
    ("next", 8.6, 4.8, "next token", "data", 1.7),
):
    drawing.box(name, x, y, text, kind, width)
for start, end in (
    ("source", "E in"), ("E in", "encoder"), ("encoder", "memory"), ("memory", "decoder"), ("target", "E out"),
    ("E out", "decoder"), ("decoder", "logits"), ("logits", "next"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "transformer")

# %% [markdown]
# ## Formula · 公式
#
# $$x_t = \sqrt d \, E_{w_t} + P_t, \qquad m = \mathrm{Encoder}(x^{\mathrm{source}}), \qquad z_t = E \, \mathrm{Decoder}(x^{\mathrm{target}}, m)_t$$
#
# $$\eta_s = d^{-0.5} \min\left(s^{-0.5}, \; s \, W^{-1.5}\right)$$
#
# $$q_k = (1 - \varepsilon) \, \delta_{ky} + \frac{\varepsilon}{K}, \qquad L = -\sum_{k=1}^{K} q_k \log p_k$$
#
# $$\min L = -\sum_{k=1}^{K} q_k \log q_k, \qquad z_y - z_k = \log \frac{1 - \varepsilon + \varepsilon / K}{\varepsilon / K}$$

# %% [markdown] lang="en"
# - $w_t$: the token at place $t$; $E$: the embedding matrix, `[vocab_size, dim]`, and $E_{w}$ its row; $P_t$: the
#   positional encoding, `[dim]`; $d$: the width, `dim`.
# - $x$: the features that enter, `[batch, tokens, dim]`; $m$: the memory, `[batch, source tokens, dim]`.
# - $z_t$: the logits of the next token, `[vocab_size]`; $p = \mathrm{softmax}(z)$.
# - $\eta_s$: the learning rate at step $s$; $W$: the steps of warm-up (equation 3 of the paper). As a multiple of its highest
#   value it is $\min(s / W, \sqrt{W / s})$.
# - $K$: the number of classes, here of tokens; $y$: the true one; $\delta_{ky}$: 1 for $k = y$, else 0.
# - $\varepsilon$: the smoothing (Szegedy et al. 2016; 0.1 in the paper, section 5.4); $q$: the smoothed target; $L$: the
#   loss, lowest where $p = q$.

# %% [markdown] lang="zh"
# - $w_t$：第 $t$ 个位置的词元（token）；$E$：嵌入矩阵，`[vocab_size, dim]`，$E_{w}$ 是其中一行；
#   $P_t$：位置编码，`[dim]`；$d$：宽度 `dim`。
# - $x$：输入的特征，`[batch, tokens, dim]`；$m$：memory，`[batch, source tokens, dim]`。
# - $z_t$：下一个词元的 logits，`[vocab_size]`；$p = \mathrm{softmax}(z)$。
# - $\eta_s$：第 $s$ 步的学习率；$W$：预热步数（论文式 3）。写成最大值的倍数，就是 $\min(s / W, \sqrt{W / s})$。
# - $K$：类别数，这里是词元的种数；$y$：正确的那一个；$\delta_{ky}$：$k = y$ 时为 1，否则为 0。
# - $\varepsilon$：平滑系数（Szegedy 等 2016；论文第 5.4 节取 0.1）；$q$：平滑后的目标；$L$：损失，在 $p = q$ 处最小。

# %% [markdown]
# ## Code · 代码

# %%
source(Transformer.forward)
source(Transformer.encode)
source(Transformer._embed)
source(Transformer._logits)
source(Transformer.greedy_decode)

# %% [markdown] lang="en"
# `forward` is one line: read, then write. `source_mask` is `[batch, 1, 1, source tokens]`, false at padding; encoder and
# cross-attention both need it. `_embed` takes any shape of positions, `[tokens]` in training and `[batch, tokens]` while
# writing. `_logits` is a product with the transpose of the embedding matrix, `[batch, tokens, dim]` to `[batch, tokens,
# vocab_size]`: a token is likely if the features point where its embedding points.
#
# `greedy_decode` reads the source once, starts a state, and feeds each chosen token back in. A sentence that has ended gets
# padding until the longest has ended too.

# %% [markdown] lang="zh"
# `forward` 只有一行：先读，再写。`source_mask` 的形状是 `[batch, 1, 1, source tokens]`，填充处为假；编码器和交叉注意力都要用它。
# `_embed` 接受任意形状的位置：训练时是 `[tokens]`，生成时是 `[batch, tokens]`。
# `_logits` 就是乘以嵌入矩阵的转置，`[batch, tokens, dim]` 变为 `[batch, tokens, vocab_size]`：
# 特征指向哪个词元的嵌入，那个词元的概率就大。
#
# `greedy_decode` 把原文读一遍，建立状态，再把每次选出的词元送回去。已经结束的句子用填充补到最长的句子也结束为止。

# %% [markdown]
# ## Experiment: before the first step · 实验：训练之前

# %% [markdown] lang="en"
# Untrained encoders of 1, 4 and 16 layers and a linear layer, on random input: how large is the gradient of the weights in
# the last layer, for pre-norm and for post-norm? Three seeds.

# %% [markdown] lang="zh"
# 未训练的编码器，分别有 1、4、16 层，后接一个线性层，输入随机：在 pre-norm 和 post-norm 中，最后一层权重的梯度有多大？
# 用三个种子。

# %%
quiz(
    "gradients",
    en="In post-norm, from 1 layer to 16, how does the gradient of the last layer's weights change?",
    zh="post-norm 中，从 1 层增加到 16 层，最后一层权重的梯度怎么变？",
    choices={
        "smaller": "to less than half · 不到一半",
        "same": "it is about as large, or larger · 差不多大，或更大",
        "vanishes": "to less than a hundredth · 不到百分之一",
    },
)

# %%
SEEDS, DEPTHS = (0, 1, 2), (1, 4, 16)


def gradient_norm(norm_first: bool, depth: int, seed: int) -> float:
    """Returns the norm of the gradient of the feed-forward matrices in the last layer."""
    torch.manual_seed(seed)
    encoder, output = TransformerEncoder(64, 4, 256, depth, dropout=0.0, norm_first=norm_first), nn.Linear(64, 10)
    features, _ = encoder(torch.randn(8, 10, 64))
    cross_entropy(output(features).flatten(0, 1), torch.randint(10, (80,))).backward()
    last = encoder.layers[-1].feed_forward
    return math.hypot(*(parameter.grad.norm().item() for parameter in last.parameters() if parameter.dim() == 2))


norms = {
    name: [[gradient_norm(order, depth, seed) for depth in DEPTHS] for seed in SEEDS]
    for name, order in (("pre-norm", True), ("post-norm", False))
}
ratios = {name: [curve[-1] / curve[0] for curve in curves] for name, curves in norms.items()}  # 16 layers over 1
least = min(ratios["post-norm"])
settle("gradients", "same" if least > 0.7 else "smaller" if least > 0.01 else "vanishes")
table(
    ["gradient of the last layer", *(f"{depth} layers, seed {seed}" for seed in SEEDS for depth in (1, 16))],
    [(name, *(norm for curve in curves for norm in (curve[0], curve[-1]))) for name, curves in norms.items()],
)

# %% [markdown] lang="en"
# In post-norm each layer's sum is normalized again, so the last layer has as much say as if it were alone, however many are
# below it: sixteen layers, each with the full gradient, move at once, and the step is too long. In pre-norm the sum of all
# layers grows like the root of their number, the last norm divides by it, and each layer's part and gradient shrink
# accordingly: deeper stacks take smaller steps by themselves. Xiong et al. (2020, theorem 1) derive these orders: a
# constant, and $1 / \sqrt L$ for $L$ layers.

# %% [markdown] lang="zh"
# 在 post-norm 中，每一层的和都重新归一化，所以不管下面有多少层，最后一层的分量都和只有它一层时一样：
# 十六层各带着完整的梯度同时移动，这一步就太大了。
# 在 pre-norm 中，各层之和约按层数的平方根增长，最后的归一化除以它，每层的分量和梯度随之变小：网络越深，步子自动越小。
# Xiong 等（2020，定理 1）推出了这两个量级：前者是常数，后者是 $1 / \sqrt L$，$L$ 为层数。

# %% [markdown]
# ## Experiment: the first steps · 实验：最初几步

# %% [markdown] lang="en"
# Now the dates. Source and target share one vocabulary of 26 tokens: digits, twelve months, a comma, and padding, begin and
# end. Two layers each, the same high learning rate for all, 50 steps: pre-norm without warm-up, post-norm without, post-norm
# with a warm-up of 15 steps. Three seeds.

# %% [markdown] lang="zh"
# 现在来做日期。原文和目标共用一个 26 个词元的词表：数字、十二个月份、逗号，以及填充、开始、结束。
# 编码器、解码器各两层，学习率相同且偏高，训练 50 步：pre-norm 无预热，post-norm 无预热，post-norm 预热 15 步。三个种子。

# %%
PAD, BOS, EOS = 0, 1, 2
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
VOCABULARY = ["<pad>", "<begin>", "<end>", *"0123456789", ",", *MONTHS]
IDS = {token: number for number, token in enumerate(VOCABULARY)}


def dates(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws days of 1900 to 2099: sources int64 [count, tokens], padded, and targets int64 [count, 10] with begin and end."""
    random = torch.Generator().manual_seed(seed)
    first, last = datetime.date(1900, 1, 1).toordinal(), datetime.date(2099, 12, 31).toordinal()
    days = [
        datetime.date.fromordinal(day) for day in torch.randint(first, last + 1, (count,), generator=random).tolist()
    ]
    sources, targets = [], []
    for day, style in zip(days, torch.randint(2, (count,), generator=random).tolist(), strict=True):
        month, number, year = MONTHS[day.month - 1], str(day.day), str(day.year)
        tokens = [*number, month, *year] if style == 0 else [month, *number, ",", *year]
        sources.append(torch.tensor([*(IDS[token] for token in tokens), EOS]))
        targets.append(torch.tensor([BOS, *(IDS[digit] for digit in day.strftime("%Y%m%d")), EOS]))
    return nn.utils.rnn.pad_sequence(sources, batch_first=True, padding_value=PAD), torch.stack(targets)


def text(tokens: torch.Tensor) -> str:
    return " ".join(VOCABULARY[token] for token in tokens.tolist() if token > EOS)


def train(shape: dict, seed: int, steps: int, lr: float, schedule, batch: int, smoothing: float = 0.0):
    """Trains a Transformer with teacher forcing; returns it with its losses."""
    torch.manual_seed(seed)
    model = Transformer(TransformerConfig(len(VOCABULARY), num_heads=4, dropout=0.0, **shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    random, losses = torch.Generator().manual_seed(seed), []
    for step in range(steps):
        set_learning_rate(optimizer, schedule((step + 1) / steps))
        rows = torch.randint(len(sources), (batch,), generator=random)
        logits = model(sources[rows], targets[rows, :-1])  # reads begin and digits, predicts digits and end
        loss = cross_entropy(logits.flatten(0, 1), targets[rows, 1:].flatten(), label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), losses


sources, targets = dates(6000, seed=0)
test_sources, test_targets = dates(500, seed=1)
table(["source", "target"], [(text(s), text(t)) for s, t in zip(sources[:3], targets[:3], strict=True)])

SMALL = {"dim": 32, "feedforward_dim": 64, "encoder_layers": 2, "decoder_layers": 2}
WAYS = {
    "pre-norm, no warm-up": (True, constant),
    "post-norm, warm-up": (False, inverse_sqrt(warmup=0.3)),
    "post-norm, no warm-up": (False, constant),
}
starts = {
    name: [train({**SMALL, "norm_first": order}, seed, 50, 1.5e-2, schedule, 32)[1] for seed in SEEDS]
    for name, (order, schedule) in WAYS.items()
}
after_start = {name: [sum(losses[-10:]) / 10 for losses in curves] for name, curves in starts.items()}
frequencies = targets[:, 1:].flatten().bincount().double() / targets[:, 1:].numel()
without_reading = torch.special.entr(frequencies).sum().item()  # the entropy of single tokens
table(
    ["loss after 50 steps", *(f"seed {seed}" for seed in SEEDS)],
    [(name, *found) for name, found in after_start.items()],
)
print(f"  loss of a model that knows how frequent each token is, and nothing else: {without_reading:.2f}")

# %% [markdown] lang="en"
# With every seed, post-norm without warm-up stays near the loss of a model that knows how frequent each digit is and reads
# nothing. Warm-up brings it off; pre-norm does not need any. This is a statement on the first steps at a
# high rate, not on which order ends better: at lower rates post-norm trains as well, and BERT was trained that way.

# %% [markdown] lang="zh"
# 每个种子下，没有预热的 post-norm 都停在一个平台附近，这个损失相当于只知道各数字的频率、什么都不读的模型。
# 预热让它离开平台；pre-norm 不需要预热。这个结论说的是高学习率下的最初几步，并不是说哪种顺序最终更好：
# 学习率低一些，post-norm 也训练得起来，BERT 就是这样训练的。

# %% [markdown]
# ## Experiment: the whole recipe · 实验：完整的配方

# %% [markdown] lang="en"
# One layer each, pre-norm, warm-up and then half a cosine to 0, label smoothing 0.1, 250 steps, three seeds. What counts is
# the share of whole dates that are right, written by the model itself, of 500 that it was not trained on.

# %% [markdown] lang="zh"
# 各一层，pre-norm，先预热再沿半个余弦降到 0，标签平滑 0.1，训练 250 步，三个种子。
# 看的是模型自己写出来、整个日期都对的比例，用的是没有训练过的 500 个日期。

# %%
quiz(
    "floor",
    en="How low can the training loss get with label smoothing of 0.1 over 26 tokens?",
    zh="标签平滑 0.1、共 26 个词元时，训练损失最低能到多少？",
)

# %%
K, EPSILON = len(VOCABULARY), 0.1
surest = 1 - EPSILON + EPSILON / K  # the probability of the truth at which the smoothed loss is lowest
floor = -surest * math.log(surest) - (K - 1) * EPSILON / K * math.log(EPSILON / K)
ONE_LAYER = {"dim": 48, "feedforward_dim": 96, "encoder_layers": 1, "decoder_layers": 1}
recipe = [train(ONE_LAYER, seed, 250, 1e-2, cosine(warmup=0.2), 64, EPSILON) for seed in SEEDS]
settle("floor", floor)
right, confidences = [], []
for model, _ in recipe:
    written = model.greedy_decode(test_sources, BOS, EOS, max_length=9)
    right.append((F.pad(written, (0, 9 - written.size(1))) == test_targets[:, 1:]).all(dim=1).float().mean().item())
    with torch.no_grad():
        probabilities = model(test_sources, test_targets[:, :-1]).softmax(dim=2).amax(dim=2)
    confidences.append(probabilities.mean().item())
table(
    ["seed", "loss at the end", "lowest possible", "mean confidence", "limit", "whole dates right"],
    [
        (seed, sum(losses[-10:]) / 10, floor, confidences[seed], surest, right[seed])
        for seed, (_, losses) in enumerate(recipe)
    ],
)

# %%
best = recipe[0][0]
example = test_sources[:1]
with torch.no_grad():
    mask = best.source_mask(example)
    _, weights = best.decode_with_weights(test_targets[:1, :-1], best.encode(example, mask), mask)
looked_at = weights[0, 0].mean(dim=0)  # [target tokens, source tokens], mean of the heads

figure, axes = plt.subplots(1, 4, figsize=(17, 3.9), layout="constrained")
for number, (name, curves) in enumerate(norms.items()):
    for seed, curve in enumerate(curves):
        axes[0].loglog(DEPTHS, curve, "o-", color=f"C{number}", label=name if seed == 0 else None)
axes[0].loglog(DEPTHS, [norms["pre-norm"][0][0] * depth**-0.5 for depth in DEPTHS], "k:", label="1 / √layers")
axes[0].set(xlabel="layers", ylabel="gradient norm, last layer", title="Before the first step")
axes[0].set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
axes[0].minorticks_off()
axes[0].legend()
for number, (name, curves) in enumerate(starts.items()):
    for seed, losses in enumerate(curves):
        axes[1].plot(losses, color=f"C{number}", linewidth=0.8, label=name if seed == 0 else None)
axes[1].axhline(without_reading, color="black", linestyle=":", label="frequencies only")
axes[1].set(xlabel="step", ylabel="loss", title="The first steps at a high rate", ylim=(1, 4))
axes[1].legend(fontsize=8)
for _, losses in recipe:
    axes[2].plot(losses, linewidth=0.8)
axes[2].axhline(floor, color="black", linestyle=":", label=f"lowest possible, {floor:.2f}")
axes[2].set(xlabel="step", ylabel="smoothed loss", title="The whole recipe")
axes[2].legend()
axes[3].imshow(looked_at.numpy(), cmap="Blues", vmin=0)
axes[3].set(title="Where each digit looks", xlabel="source", ylabel="written")
axes[3].set_xticks(range(example.size(1)), [VOCABULARY[token] for token in example[0].tolist()], rotation=60)
axes[3].set_yticks(range(9), [VOCABULARY[token] for token in test_targets[0, 1:].tolist()])
show(figure, "training")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# `nn.Transformer` is encoder and decoder without embeddings and output. With the same weights, fed with our embeddings, it
# must give our features and our gradients. It puts a last norm behind both stacks in post-norm too, which the paper does not.
# Label smoothing is an argument of `F.cross_entropy`.

# %% [markdown] lang="zh"
# `nn.Transformer` 是不带嵌入和输出层的编码器加解码器。用同样的权重、输入我们的嵌入，它必须给出我们的特征和梯度。
# 它在 post-norm 时也会在两个堆叠的末尾再加一个归一化，论文没有这样做。标签平滑是 `F.cross_entropy` 的一个参数。

# %%
torch.manual_seed(0)
shape = {"dim": 24, "num_heads": 3, "encoder_layers": 2, "decoder_layers": 2, "feedforward_dim": 40, "dropout": 0.0}
ours = Transformer(TransformerConfig(len(VOCABULARY), **shape)).double()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says that it has no faster path in pre-norm
    theirs = nn.Transformer(24, 3, 2, 2, 40, 0.0, batch_first=True, norm_first=True).double()
stacks = ("encoder.", "decoder.")
theirs.load_state_dict(torch_names({n: w for n, w in ours.state_dict().items() if n.startswith(stacks)}))
few, few_targets = sources[:8], targets[:8]
padding = few == PAD
positions = [torch.arange(few.size(1)), torch.arange(9)]
embedded = [
    ours._embed(embedding, tokens, each)
    for embedding, tokens, each in zip(
        (ours.source_embedding, ours.target_embedding), (few, few_targets[:, :-1]), positions, strict=True
    )
]
future = torch.ones(9, 9, dtype=torch.bool).triu(1)  # torch's masks are true where attention is forbidden
features = theirs(*embedded, tgt_mask=future, src_key_padding_mask=padding, memory_key_padding_mask=padding)
expected_logits = features @ ours.target_embedding.weight.T
our_logits = ours(few, few_targets[:, :-1])
our_loss = cross_entropy(our_logits.flatten(0, 1), few_targets[:, 1:].flatten(), label_smoothing=0.1)
their_loss = F.cross_entropy(expected_logits.flatten(0, 1), few_targets[:, 1:].flatten(), label_smoothing=0.1)
named = [(name, weight) for name, weight in ours.named_parameters() if name.startswith(stacks)]
our_gradients = torch_names(
    dict(zip([n for n, _ in named], torch.autograd.grad(our_loss, [w for _, w in named]), strict=True))
)
their_gradients = torch.autograd.grad(their_loss, list(theirs.parameters()))
our_gradients = torch.cat([our_gradients[name].flatten() for name, _ in theirs.named_parameters()])
their_gradients = torch.cat([gradient.flatten() for gradient in their_gradients])

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the learning rates", list(hand_rates.values()), [1.747e-4, 6.988e-4, 3.494e-4], 1e-7)
check_close("by hand: the smoothed loss is 0.349 at best", smoothed, 0.3488, 1e-3)
check_close("by hand: at a gap of the logits of log 37", hand_gap, math.log(37), 1e-3)
check_close("by hand: lengths of embedding and position", hand_lengths, [1.0, 16.0, 22.6], 0.1)
check_close("logits equal those of torch's nn.Transformer", our_logits, expected_logits, 1e-10)
check_close("the smoothed loss equals torch's", our_loss, their_loss, 1e-10)
check_close("and so do the gradients of all weights", our_gradients, their_gradients, 1e-10)
check("post-norm: 16 layers leave the last layer more than 0.7 of its gradient, with every seed", least > 0.7)
check("pre-norm: it falls to less than 0.6 of that of one layer, with every seed", max(ratios["pre-norm"]) < 0.6)
check(
    "at a high rate post-norm without warm-up is behind pre-norm without, with every seed",
    min(after_start["post-norm, no warm-up"]) > max(after_start["pre-norm, no warm-up"]) + 0.3,
)
check(
    "warm-up helps post-norm, with every seed",
    all(
        warm < cold - 0.1
        for warm, cold in zip(after_start["post-norm, warm-up"], after_start["post-norm, no warm-up"], strict=True)
    ),
)
check(
    "the smoothed loss ends above its limit and within 0.15 of it, with every seed",
    all(floor < sum(losses[-10:]) / 10 < floor + 0.15 for _, losses in recipe),
)
check("the confidence stays at or below about its limit", max(confidences) < surest + 0.02)
check("four of five unseen dates are right as a whole, with every seed", min(right) > 0.8)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `translator` trains this class on sentences: `uv run --package translator train --max-minutes 10`, then `uv
# run --package translator demo`.
#
# Read the paper with code in
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md). Papers: [Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), all of it now; [Xiong et al.
# 2020](https://arxiv.org/abs/2002.04745) on the order of the norm; [Press & Wolf 2017](https://arxiv.org/abs/1608.05859) on
# tied embeddings; [Müller et al. 2019](https://arxiv.org/abs/1906.02629) on what label smoothing does. Next: an encoder that
# others have trained, BERT, 07/07.

# %% [markdown] lang="zh"
# 实战项目 `translator` 用这个类训练翻译：`uv run --package translator train --max-minutes 10`，
# 然后 `uv run --package translator demo`。
#
# 对照代码精读论文：
# [docs/ATTENTION_IS_ALL_YOU_NEED.md](../../../../docs/ATTENTION_IS_ALL_YOU_NEED.md)。
# 论文：[Vaswani 等 2017](https://arxiv.org/abs/1706.03762)，现在可以通读全文；
# [Xiong 等 2020](https://arxiv.org/abs/2002.04745) 讨论归一化的顺序；
# [Press 与 Wolf 2017](https://arxiv.org/abs/1608.05859) 讨论共享嵌入；
# [Müller 等 2019](https://arxiv.org/abs/1906.02629) 讨论标签平滑的作用。
# 下一课：别人训练好的编码器 BERT，07/07。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write what joins encoder and decoder: `source_mask`, `_embed`, `_logits`, `encode` and `greedy_decode` of `Transformer`. `uv
# run lesson exercise 07/06` makes a file with their signatures, `uv run lesson check 07/06` judges them.

# %% [markdown] lang="zh"
# 实现把编码器和解码器连接起来的部分：`Transformer` 的 `source_mask`、`_embed`、`_logits`、`encode` 和 `greedy_decode`。
# `uv run lesson exercise 07/06` 生成带有签名的文件，`uv run lesson check 07/06` 评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `source_mask` compares with `self.config.pad_id`; two axes of size 1 go between batch and tokens.
# 2. `_embed`: the embedding times √dim, plus the encoding of the positions, then dropout on the sum. The encoding is
#    float32: bring it to the embedding's type.
# 3. `_logits` is `F.linear(x, self.target_embedding.weight)`. `encode` embeds with the positions 0, 1, 2, …; the encoder
#    returns two things.
# 4. `greedy_decode`: mask, `encode`, `start`, then a loop of `step`. `position` is `[batch]`, the number of the step. Choose
#    with `argmax`, fill in `pad_id` where the end came earlier, then note who has ended with this token, and stop when all
#    have.

# %% [markdown] lang="zh"
# 1. `source_mask` 与 `self.config.pad_id` 比较；在 batch 和词元之间插入两个大小为 1 的轴。
# 2. `_embed`：嵌入乘以 √dim，加上位置编码，再对和做 dropout。编码是 float32，要转成嵌入的类型。
# 3. `_logits` 就是 `F.linear(x, self.target_embedding.weight)`。`encode` 用位置 0、1、2、…… 做嵌入；编码器返回两样东西。
# 4. `greedy_decode`：掩码，`encode`，`start`，然后循环调用 `step`。`position` 的形状是 `[batch]`，值为当前步数。
#    用 `argmax` 选择；之前已经结束的填 `pad_id`；再记下这一步结束的；全部结束就停止。


# %%
@exercise(
    Transformer.source_mask, Transformer.encode, Transformer.greedy_decode, Transformer._embed, Transformer._logits
)
def judge(yours, reference):
    def both(**options):
        config = TransformerConfig(
            13, dim=16, num_heads=2, encoder_layers=2, decoder_layers=2, feedforward_dim=24, **options
        )
        torch.manual_seed(3)
        expected = reference.Transformer(config).double().eval()
        mine = yours.Transformer(config).double().eval()
        mine.load_state_dict(expected.state_dict())
        return mine, expected

    source = torch.tensor([[5, 6, 7, 8, 2], [9, 10, 2, 0, 0]])
    target = torch.randint(3, 13, (2, 6), generator=torch.Generator().manual_seed(1))
    mine, expected = both()
    mask = mine.source_mask(source)
    check("source_mask is boolean", mask.dtype == torch.bool)
    check("source_mask is [batch, 1, 1, source tokens]", mask.shape == (2, 1, 1, 5))
    check("source_mask is true at tokens and false at padding", torch.equal(mask, expected.source_mask(source)))
    other, _ = both(pad_id=9)
    check("the padding token is the config's", not other.source_mask(source)[1, 0, 0, 0])

    arguments = (expected.target_embedding, target, torch.arange(6))
    check("_embed returns [batch, tokens, dim]", mine._embed(*arguments).shape == (2, 6, 16))
    check("in the type of the embedding", mine._embed(*arguments).dtype == torch.float64)
    check_close("embedding and positions", mine._embed(*arguments), expected._embed(*arguments), 1e-10)
    arguments = (expected.target_embedding, target[:, :1], torch.tensor([[3], [5]]))
    check_close("with a position for each sequence", mine._embed(*arguments), expected._embed(*arguments), 1e-10)
    dropped, _ = both(dropout=1.0)
    check("while training, dropout is applied to the sum", not dropped.train()._embed(*arguments).any())

    features = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    check_close("the logits", mine._logits(features), expected._logits(features), 1e-10)
    mask = expected.source_mask(source)
    check_close("encode without a mask", mine.encode(source), expected.encode(source), 1e-10)
    check_close("encode with a mask", mine.encode(source, mask), expected.encode(source, mask), 1e-10)
    mine, expected = both(share_embeddings=False)
    check_close("with an embedding of the source's own", mine(source, target), expected(source, target), 1e-10)
    gradients = [
        torch.autograd.grad(module(source, target).pow(2).sum(), list(module.parameters()))
        for module in (mine, expected)
    ]
    for (name, _), *pair in zip(expected.named_parameters(), *gradients, strict=True):
        check_close(f"the gradient of {name}", *pair, 1e-8)

    for seed in range(4):  # random models that write something different each
        torch.manual_seed(seed)
        for module in (mine, expected):
            torch.manual_seed(seed)
            for parameter in module.parameters():
                nn.init.normal_(parameter, std=0.6)
        ends = expected.greedy_decode(source, 1, 99, 7)[0, 2].item()  # a token that the first sequence writes
        found = mine.greedy_decode(source, 1, ends, 7)
        wanted = expected.greedy_decode(source, 1, ends, 7)
        check("greedy_decode returns integers, [batch, tokens]", found.dtype == torch.int64 and found.dim() == 2)
        check("the first token", torch.equal(found[:, 0], wanted[:, 0]))
        check("it stops when all have ended, or at max_length", found.shape == wanted.shape)
        check("all tokens; padding after the end", torch.equal(found, wanted))
        check("no gradient is kept", not found.requires_grad)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does a Transformer need warm-up, and when not? · Transformer 为什么需要预热？什么时候不需要？

# %% [markdown] lang="en"
# In the first steps Adam's averages are made of few gradients, so its steps are long and badly aimed. In post-norm every
# layer of a deep stack has a full-sized gradient, so they all take such steps at once; softmaxes saturate, and the model may
# not recover. A rate that rises slowly avoids it. In pre-norm the gradients shrink with depth and the model trains without; a
# short warm-up is kept anyway, since it costs nothing.

# %% [markdown] lang="zh"
# 最初几步，Adam 的滑动平均只由几个梯度构成，步子大而方向差。在 post-norm 中，深层网络的每一层都有完整大小的梯度，
# 所有层同时迈出这样的步子，softmax 饱和，模型可能再也恢复不过来。学习率缓慢上升可以避免。
# pre-norm 的梯度随深度变小，不预热也能训练；不过短暂的预热没有代价，通常还是保留。

# %%
for name, found in after_start.items():
    print(f"  {name}: loss after 50 steps {', '.join(f'{value:.2f}' for value in found)}")

# %% [markdown]
# ### What does label smoothing do, and what does it cost? · 标签平滑有什么作用，代价是什么？

# %% [markdown] lang="en"
# The target keeps ε/K for each class, so the best logits have a finite gap and the model is never pushed to be certain. That
# regularizes, and helps accuracy and BLEU. The loss is no longer comparable with an unsmoothed one: it cannot fall below the
# entropy of the smoothed target, and the paper notes that perplexity gets worse. And students distilled from smoothed
# teachers learn less, since the relations between wrong classes are flattened.

# %% [markdown] lang="zh"
# 目标给每个类别都留 ε/K，最优 logits 的差距有限，模型不会被逼到绝对肯定。这是一种正则化，对准确率和 BLEU 有益。
# 代价：损失不能再与未平滑的相比，它不可能低于平滑目标的熵，论文也指出困惑度会变差；
# 用平滑过的教师模型做蒸馏，学生学到的也少，因为错误类别之间的关系被抹平了。

# %%
for epsilon in (0.0, 0.1, 0.3):
    target = torch.full((K,), epsilon / K, dtype=torch.float64)
    target[0] += 1 - epsilon
    entropy = torch.special.entr(target).sum().item()
    print(f"  ε = {epsilon}: loss at best {entropy:.3f}, probability of the truth {target[0]:.3f}")

# %% [markdown]
# ### Why are embeddings multiplied by √d? · 嵌入为什么要乘 √d？

# %% [markdown] lang="en"
# The same matrix gives the logits: there its rows must be short, entries of about 1/√d, or an untrained model would give
# logits of size √d and be sure of nonsense. As an input the row would have length 1, next to a positional encoding of length
# √(d/2). The factor serves both: short as an output, long as an input.

# %% [markdown] lang="zh"
# 同一个矩阵还要给出 logits：作为输出，行必须短，元素约为 1/√d，否则未训练的模型会给出大小为 √d 的 logits，对胡话深信不疑。
# 作为输入，长度为 1 的行放在长度为 √(d/2) 的位置编码旁边就太弱了。乘这个系数兼顾两者：输出时短，输入时长。

# %%
torch.manual_seed(0)
fresh = Transformer(TransformerConfig(1000, dim=64, num_heads=4, encoder_layers=2, decoder_layers=2)).eval()
with torch.no_grad():
    first = fresh(torch.randint(3, 1000, (4, 9)), torch.randint(3, 1000, (4, 9)))
    print(f"  logits of an untrained model: {first.std():.2f}; with rows √d times as long: {8 * first.std():.1f}")

# %% [markdown]
# ### How many parameters do shared embeddings save? · 共享嵌入省下多少参数？

# %% [markdown] lang="en"
# Three matrices of vocab_size × dim become one: source embedding, target embedding, output. The paper's base model has 37,000
# tokens and d = 512: 19 million, of which the other two copies would cost 38 million, more than half of its 65 million in all.
# It takes one vocabulary for both languages, which is good for names and numbers.

# %% [markdown] lang="zh"
# 源嵌入、目标嵌入、输出层这三个 vocab_size × dim 的矩阵合为一个。论文的 base 模型有 37000 个词元，d = 512：一个矩阵 1900 万，
# 另外两份要 3800 万，超过它全部 6500 万参数的一半。前提是两种语言共用一个词表，这对人名和数字也有好处。

# %%
with torch.device("meta"):  # shapes without memory
    base = Transformer(TransformerConfig(37_000))
print(f"  the paper's base model: {sum(p.numel() for p in base.parameters()) / 1e6:.0f} million parameters")
print(f"  embeddings: {base.target_embedding.weight.numel() / 1e6:.0f} million, used three times")

# %% [markdown]
# ### Why did attention replace recurrence? · 注意力为什么取代了循环网络？

# %% [markdown] lang="en"
# Table 1 of the paper: a layer of self-attention has a constant number of steps that must wait for each other, an RNN as many
# as there are tokens; and between any two tokens there is one step of attention, in an RNN as many as lie between them. So
# training uses the hardware fully and gradients reach far. The price is n² · d for the scores instead of n · d²: less, as
# long as sentences are shorter than the model is wide.

# %% [markdown] lang="zh"
# 论文表 1：一层自注意力中必须先后等待的步数是常数，RNN 则与词元数相同；任意两个词元之间，注意力只隔一步，RNN 要隔它们之间的所有步。
# 因此训练能用满硬件，梯度也传得远。代价是打分需要 n² · d，而 RNN 是 n · d²：只要句子比模型的宽度短，反而更省。

# %%
table(
    ["d = 512, operations of a layer", "self-attention n² · d", "recurrent n · d²", "steps in turn: RNN"],
    [(f"{n} tokens", f"{n * n * 512:.1e}", f"{n * 512 * 512:.1e}", n) for n in (25, 512, 8192)],
)

# %% [markdown]
# ### Greedy decoding wrote a wrong date. What do you look at? · 贪心解码写错了一个日期，你看什么？

# %% [markdown] lang="en"
# First whether teacher forcing gets the same token right: then an earlier mistake led it astray. Then the probability of the
# wrong token: if it is low, the model was unsure, and a beam may help or the case can be handed to a person; if it is high,
# the training data lack something. Then where the step looked, and which kind of source the mistakes
# share: what do those below have in common?

# %% [markdown] lang="zh"
# 先看教师强制时同一个词元对不对：如果对，就是前面的错误把它带偏了。
# 再看错误词元的概率：低，说明模型没把握，可以用束搜索，或交给人处理；高，说明训练数据缺了什么。
# 最后看这一步看向哪里，以及出错的原文有什么共同点：下面这几个有什么共同点？

# %%
written = best.greedy_decode(test_sources, BOS, EOS, max_length=9)
written = F.pad(written, (0, 9 - written.size(1)))
wrong = (written != test_targets[:, 1:]).any(dim=1).nonzero()[:3, 0]
with torch.no_grad():
    sure = best(test_sources[wrong], F.pad(written[wrong, :-1], (1, 0), value=BOS)).softmax(dim=2).amax(dim=2)
table(
    ["source", "written", "truth", "lowest confidence"],
    [
        (text(test_sources[row]), text(written[row]), text(test_targets[row]), confidence.min().item())
        for row, confidence in zip(wrong, sure, strict=True)
    ],
)
