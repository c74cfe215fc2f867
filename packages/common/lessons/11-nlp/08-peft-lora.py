# %% [markdown]
# # Parameter-efficient fine-tuning: LoRA · 参数高效微调：LoRA

# %% [markdown] lang="en"
# After this lesson you can put low-rank adapters into any network, count what they save in training and on disk, choose
# rank, scaling and target layers from measurements, merge adapters into the weights and say what rounding does to them,
# and exchange them with peft. You need fine-tuning (07/08, 11/07) and the singular value decomposition (02/02).

# %% [markdown] lang="zh"
# 学完本课，你能给任何网络装上低秩适配器，算出它在训练和存储上省下多少，根据测量选择秩、缩放和目标层，
# 把适配器合并进权重并说清舍入的影响，还能与 peft 互相读写适配器文件。先修：微调（07/08、11/07）、奇异值分解（02/02）。

# %%
import copy
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import peft
import torch
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.nlp.dora import DoRALinear
from dlcommon.nlp.lora import (
    LoRAConfig,
    LoRALinear,
    add_lora,
    load_lora_state_dict,
    lora_state_dict,
    merge_lora,
    unmerge_lora,
)
from dlcommon.nlp.lora_checkpoint import WEIGHTS, load_adapter, save_adapter
from dlcommon.nlp.pissa import PiSSALinear
from dlcommon.runtime.data import find
from dlcommon.training.schedules import linear, set_learning_rate
from dlcommon.transformer.bert import Bert, BertConfig, mean_pool
from dlcommon.transformer.bert_weights import load_pretrained
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You fine-tune one language model for ten customers. Training all weights needs four numbers for each of them: the weight,
# its gradient, and AdamW's two averages. A model of 7 billion weights that answers on 14 GB takes 112 GB in training. And
# each customer gets a file of the full size, which the server has to load before it can answer the next question.
#
# But fine-tuning only nudges a network that knows almost everything already. Must a small change of behavior be stored as
# a change of *every* weight? If the change of a matrix had few degrees of freedom, one could train and store only those.

# %% [markdown] lang="zh"
# 你要为十个客户微调同一个语言模型。训练全部权重时，每个权重要占四个数：权重、梯度、AdamW 的两个滑动平均。
# 一个推理只需 14 GB 的 70 亿权重的模型，训练要 112 GB。
# 而且每个客户都得到一个全尺寸的文件，服务器要先把它加载进来，才能回答下一个问题。
#
# 但微调只是轻推一个几乎什么都会的网络。行为上的小改变，非得存成*每个*权重的改变吗？
# 如果一个矩阵的改变只有很少的自由度，就只需训练和存储这些自由度。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# A layer with the weights $W = \begin{pmatrix} 1 & 0 & 2 \\ 0 & 1 & 1 \end{pmatrix}$ reads $x = (1, 2, 1)$ and gives
# $W x = (3, 3)$. We leave $W$ alone and put a detour of width 1 beside it: $A = (0.5, 0, 1)$ reads $x$ and gives
# $A x = 1.5$; $B = (1, -1)^\top$ makes $(1.5, -1.5)$ of it; a scaling of 2 makes $(3, -3)$. Output: $(6, 0)$.
#
# The detour can be dissolved: $2 B A = \begin{pmatrix} 1 & 0 & 2 \\ -1 & 0 & -2 \end{pmatrix}$, added to $W$, gives
# $\begin{pmatrix} 2 & 0 & 4 \\ -1 & 1 & -1 \end{pmatrix}$, and this times $x$ is $(6, 0)$ again, without extra cost.
#
# What is saved? A matrix of 384 × 384 has 147,456 weights. With width 8, $A$ and $B$ have $2 \cdot 8 \cdot 384 = 6{,}144$:
# 4.2 %. In SmolLM2, 134.5 million weights, all linear layers of 30 blocks with width 8 take 2.4 million. In float32 a
# trained weight costs 16 bytes (weight, gradient, two averages), a frozen one 4.

# %% [markdown] lang="zh"
# 一层的权重是 $W = \begin{pmatrix} 1 & 0 & 2 \\ 0 & 1 & 1 \end{pmatrix}$，输入 $x = (1, 2, 1)$，输出 $W x = (3, 3)$。
# 我们不动 $W$，在旁边加一条宽度为 1 的支路：$A = (0.5, 0, 1)$ 读 $x$，得 $A x = 1.5$；$B = (1, -1)^\top$ 把它变成 $(1.5, -1.5)$；
# 再乘以缩放 2，得 $(3, -3)$。输出：$(6, 0)$。
#
# 支路可以并回去：把 $2 B A = \begin{pmatrix} 1 & 0 & 2 \\ -1 & 0 & -2 \end{pmatrix}$ 加到 $W$ 上，
# 得 $\begin{pmatrix} 2 & 0 & 4 \\ -1 & 1 & -1 \end{pmatrix}$，乘以 $x$ 仍是 $(6, 0)$，而且没有额外开销。
#
# 省了多少？384 × 384 的矩阵有 147,456 个权重。宽度为 8 时，$A$ 和 $B$ 共 $2 \cdot 8 \cdot 384 = 6{,}144$ 个，占 4.2 %。
# SmolLM2 有 1.345 亿个权重，30 个模块的所有线性层取宽度 8，共 240 万个。
# float32 下，被训练的权重每个占 16 字节（权重、梯度、两个平均），冻结的只占 4 字节。

# %%
W, A, B = torch.tensor([[1.0, 0, 2], [0, 1, 1]]), torch.tensor([[0.5, 0, 1]]), torch.tensor([[1.0], [-1]])
by_hand = LoRALinear(nn.Linear(3, 2, bias=False), LoRAConfig(rank=1, alpha=2, targets=("*",)))
with torch.no_grad():
    by_hand.base.weight.copy_(W)
    by_hand.lora_a.copy_(A)
    by_hand.lora_b.copy_(B)
apart = by_hand(torch.tensor([1.0, 2, 1])).tolist()
by_hand.merge()
merged_output = by_hand(torch.tensor([1.0, 2, 1])).tolist()
print(f"  apart {apart}, merged {merged_output}; merged weights {by_hand.base.weight.tolist()}")

# query, key, value, output, gate, up, down of one of SmolLM2-135M's blocks: [out_features, in_features]
SHAPES = [(576, 576), (192, 576), (192, 576), (576, 576), (1536, 576), (1536, 576), (576, 1536)]
SMOL, GB = 134_515_008, 1e9
adapters = {rank: 30 * sum(rank * (out + into) for out, into in SHAPES) for rank in (1, 8, 64)}
table(
    ["SmolLM2-135M, float32", "trained", "share", "GB in training", "MB to store"],
    [("all weights", SMOL, 1.0, 16 * SMOL / GB, 4 * SMOL / 1e6)]
    + [(f"LoRA, rank {r}", n, n / SMOL, (4 * SMOL + 16 * n) / GB, 4 * n / 1e6) for r, n in adapters.items()],
)

drawing = Schematic(11.5, 3.9, "A linear layer with its adapter (dashed: frozen)")
for name, x, y, text, kind, width in (
    ("x", 1.0, 1.9, "x\n[in]", "data", 1.0),
    ("W", 5.0, 3.0, "W, b   [out, in]", "parameter", 3.4),
    ("drop", 2.9, 0.9, "dropout", "operation", 1.3),
    ("A", 4.7, 0.9, "A   [r, in]", "operation", 1.5),
    ("B", 6.6, 0.9, "B   [out, r]", "operation", 1.5),
    ("scale", 8.4, 0.9, "× α / r", "operation", 1.2),
    ("plus", 9.3, 1.9, "+", "operation", 0.6),
    ("h", 10.6, 1.9, "h\n[out]", "data", 1.0),
):
    drawing.box(name, x, y, text, kind, width, 0.8 if "\n" in text else 0.6)
for start, end in (
    ("x", "W"), ("x", "drop"), ("drop", "A"), ("A", "B"), ("B", "scale"), ("scale", "plus"), ("W", "plus"), ("plus", "h"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "adapter")

# %% [markdown]
# ## Formula · 公式
#
# $$h = W x + b + s \, B A \, x, \qquad s = \frac{\alpha}{r} \quad \text{or, rank-stabilized,} \quad s = \frac{\alpha}{\sqrt r}$$
#
# $$\frac{\partial \mathcal{L}}{\partial B} = s \, G \, (A x)^\top, \qquad \frac{\partial \mathcal{L}}{\partial A} = s \, B^\top G \, x^\top$$
#
# $$W' = W + s \, B A, \qquad \min_{\mathrm{rank}\, M \le r} \lVert \Delta - M \rVert_F^2 = \sum_{i > r} \sigma_i^2$$
#
# $$\text{DoRA:} \quad W' = m \odot \frac{W + s B A}{\lVert W + s B A \rVert}, \qquad \text{PiSSA:} \quad s B_0 A_0 = U_r \Sigma_r V_r^\top, \quad W' = W - s B_0 A_0 + s B A$$

# %% [markdown] lang="en"
# - $W, b$: the pretrained weights `[out, in]` and bias `[out]`, frozen; $x$: the input `[in]`; $h$: the output `[out]`.
# - $A$: `[r, in]`, random at first; $B$: `[out, r]`, zero at first (Hu et al. 2021, section 4.1, equation 3).
# - $r$: the rank; $\alpha$: a constant; $s$: the scaling. With $\alpha / \sqrt r$ the size of the outputs and gradients
#   does not shrink as the rank grows (Kalajdzievski 2023).
# - $G = \partial \mathcal{L} / \partial h$: the gradient at the output, `[out]`.
# - $W'$: the merged weights. $\Delta$: a change that one would like to make; $\sigma_i$: its singular values, largest
#   first. The second formula is Eckart and Young's: no matrix of rank $r$ comes closer (02/02).
# - $m$: DoRA's magnitudes `[out]`, trained beside $A$ and $B$; the norm is taken of each row, one for each output.
# - $U_r \Sigma_r V_r^\top$: the part of $W$ with the $r$ largest singular values, where PiSSA's $B$ and $A$ start.
#
# At the start $B = 0$, so the network is exactly the pretrained one. The gradient of $A$ is zero then as well, but that of
# $B$ is not; after one step both are trained. If both started at zero, both gradients would be zero for good.

# %% [markdown] lang="zh"
# - $W, b$：预训练的权重 `[out, in]` 和偏置 `[out]`，冻结；$x$：输入 `[in]`；$h$：输出 `[out]`。
# - $A$：`[r, in]`，随机初始化；$B$：`[out, r]`，初始为零（Hu 等 2021，4.1 节，式 3）。
# - $r$：秩；$\alpha$：常数；$s$：缩放。取 $\alpha / \sqrt r$ 时，输出和梯度的大小不随秩的增大而缩小（Kalajdzievski 2023）。
# - $G = \partial \mathcal{L} / \partial h$：输出处的梯度，`[out]`。
# - $W'$：合并后的权重。$\Delta$：想要实现的改变；$\sigma_i$：它的奇异值，从大到小。
#   第二个公式是 Eckart–Young 定理：秩为 $r$ 的矩阵不可能更接近（02/02）。
# - $m$：DoRA 的幅度 `[out]`，与 $A$、$B$ 一起训练；范数按行取，每个输出一个。
# - $U_r \Sigma_r V_r^\top$：$W$ 中奇异值最大的 $r$ 个分量，PiSSA 的 $B$ 和 $A$ 从这里开始。
#
# 开始时 $B = 0$，网络与预训练的完全一样。此时 $A$ 的梯度也是零，但 $B$ 的不是；走一步之后两者都在训练。
# 如果两者都从零开始，两个梯度就永远为零。

# %% [markdown]
# ## Code · 代码

# %%
source(LoRALinear.forward)
source(LoRALinear.adapt)
source(LoRALinear.update)
source(LoRALinear.merge)
source(add_lora)

# %% [markdown] lang="en"
# `forward` computes the frozen layer, `[..., out]`, and hands input and output to `adapt`. There `low_rank` is
# `[..., r]`, the narrow place; $B A$ itself, `[out, in]`, is never formed in training. A half-precision model keeps its
# adapters in float32: a step of $10^{-4}$ would be lost in a bfloat16 number near 1. `update` forms the product for merging.
#
# `add_lora` needs to know nothing about the network: it walks through `named_modules`, takes the linear layers whose dotted
# name ends with a target, `query_proj` or `layers.5.*`, freezes everything, and exchanges these layers for wrapped ones. A
# target that names nothing is an error: an adapter that was never inserted would otherwise go unnoticed for a whole
# training. Variants override `adapt` and `update` only.

# %% [markdown] lang="zh"
# `forward`计算冻结的层，得到 `[..., out]`，再把输入和输出交给 `adapt`。其中 `low_rank` 是 `[..., r]`，即最窄处；
# 训练时从不生成 `[out, in]` 的 $B A$。半精度的模型仍用 float32 保存适配器：对接近 1 的 bfloat16 数，$10^{-4}$ 的一步会被舍掉。
# `update` 为合并生成这个乘积。
#
# `add_lora` 不需要了解网络：它遍历 `named_modules`，取出名字以目标（如 `query_proj`、`layers.5.*`）结尾的线性层，
# 冻结一切，再把这些层换成包装过的层。目标没有对应的层就报错：否则适配器没装上，整个训练都不会有人发现。
# 变体只改写 `adapt` 和 `update`。

# %% [markdown]
# ## Experiment: what a rank can do · 实验：秩的能力

# %% [markdown] lang="en"
# First without any language: a layer of 16 × 16 is to become another one, which differs from it by a matrix of rank 4. The
# loss is the squared distance of the two matrices. Adapters of rank 1, 2 and 4 are trained with Adam, from three seeds.

# %% [markdown] lang="zh"
# 先不涉及语言：一个 16 × 16 的层要变成另一个层，两者之差是秩为 4 的矩阵。损失是两个矩阵距离的平方。
# 用 Adam 训练秩为 1、2、4 的适配器，三个种子。

# %%
quiz(
    "first step",
    en="B starts at zero, A at random. Which of them has a zero gradient in the first step?",
    zh="B 从零开始，A 随机。第一步时，谁的梯度为零？",
    choices={"A": "A", "B": "B", "both": "both · 两者", "none": "neither · 都不为零"},
)
quiz(
    "rank",
    en="All weights of MiniLM's last layer are fine-tuned. Of the 384 singular values of each matrix's change, how many "
    "have to be kept so that the loss on held-out sentences stays within 0.05?",
    zh="微调 MiniLM 最后一层的全部权重。每个矩阵的改变有 384 个奇异值，要保留几个，留出句子上的损失才能相差不超过 0.05？",
    choices={"few": "up to 4 · 不超过 4 个", "some": "5 to 64 · 5 到 64 个", "most": "more · 更多"},
)

# %%
SEEDS, IDENTITY, RANKS = (0, 1, 2), torch.eye(16), (1, 2, 4)
floors, distances = {}, {}
for seed in SEEDS:
    torch.manual_seed(seed)
    plain, change = nn.Linear(16, 16, bias=False), torch.randn(16, 4) @ torch.randn(4, 16) / 8
    target, singular = plain.weight.detach() + change, torch.linalg.svdvals(change)
    for rank in RANKS:
        layer = LoRALinear(copy.deepcopy(plain), LoRAConfig(rank, alpha=rank, targets=("*",)))
        optimizer, start = torch.optim.Adam([layer.lora_a, layer.lora_b], lr=0.05), {}
        for step in range(200):
            loss = (layer(IDENTITY) - target.T).square().sum()
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                gradients_at_start = {"A": layer.lora_a.grad.norm().item(), "B": layer.lora_b.grad.norm().item()}
            set_learning_rate(optimizer, min(1.0, 2 - step / 100))
            optimizer.step()
        distances[rank, seed], floors[rank, seed] = loss.item(), singular[rank:].square().sum().item()
settle("first step", "A" if gradients_at_start["A"] == 0 < gradients_at_start["B"] else "none")
table(
    ["rank", *(f"seed {seed}: trained, floor" for seed in SEEDS)],
    [(r, *(f"{distances[r, seed]:.3f}, {floors[r, seed]:.3f}" for seed in SEEDS)) for r in RANKS],
)

# %% [markdown] lang="en"
# Below the rank of the change, training ends at the floor that Eckart and Young set: the adapter has found the largest
# singular values, and no optimizer could do better. At rank 4, nothing is left. So LoRA works exactly as far as the
# needed change has a low rank. Has it, in a real network?

# %% [markdown] lang="zh"
# 秩不够时，训练停在 Eckart–Young 给出的下限：适配器找到了最大的奇异值，任何优化器都不能更好。
# 到秩 4，误差全部消失。所以，所需的改变秩有多低，LoRA 就有多管用。真实网络里它的秩低吗？

# %% [markdown]
# ## Experiment: a real layer · 实验：真实的一层

# %% [markdown] lang="en"
# The last layer of all-MiniLM-L6-v2 learns to tell good reviews from bad: 192 short sentences of SST-2, each seen once, 24
# steps of 8, three seeds; 120 other sentences are held out. A new head is trained in all ways. Full fine-tuning has a
# learning rate of 0.001, LoRA one of 0.01, since its two small factors have to multiply up to a change. Ranks 1 and 8 are
# tried with two values of $\alpha$ each. The rest is equal, steps included.
#
# If the pretrained weights are not on this machine, a small encoder with random weights takes their place, and generated
# sentences that of the reviews. Then the numbers say nothing about pretrained networks, and the lesson claims nothing of
# them.

# %% [markdown] lang="zh"
# 让 all-MiniLM-L6-v2 的最后一层学会区分好评与差评：SST-2 的 192 个短句，各看一次，每步 8 句，共 24 步，三个种子；
# 另有 120 句留出。每种方式都训练一个新的分类头。完全微调的学习率是 0.001，LoRA 是 0.01，因为它要靠两个小因子相乘得到改变。
# 秩 1 和秩 8 各试两个 $\alpha$。其余全部相同，包括步数。
#
# 如果本机没有预训练权重，就用随机权重的小编码器和生成的句子代替。那时的数字与预训练网络无关，本课也不据此下结论。

# %%
LONGEST, COUNT, HELD_OUT, BATCH = 10, 192, 120, 8
folder = asset("all-minilm-l6-v2")
real = folder is not None and find("sst2") is not None
reviews = data("sst2", "generated-reviews") if folder is not None else data("generated-reviews")
if folder is not None:
    encoder, tokenizer = load_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
else:
    words = sorted({word for text in reviews.train.texts for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(["[PAD]", "[UNK]", *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    encoder = Bert(BertConfig(len(words) + 2, 48, 6, 4, 96), pooler=False).eval()
    with torch.no_grad():  # a standard deviation of 0.02 is made for a width of 768
        for p in encoder.parameters():
            p.mul_(4.0 if p.ndim == 2 else 1.0)
encoder.pooler = None

texts, labels = reviews.train.texts + reviews.test.texts, reviews.train.labels + reviews.test.labels
encoded = tokenizer.encode_batch(list(texts))
kept = [n for n, each in enumerate(encoded) if len(each.ids) <= LONGEST]
kept = [
    kept[n] for n in torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))[: HELD_OUT + 3 * COUNT // 2]
]
ids = torch.tensor([encoded[n].ids + [0] * (LONGEST - len(encoded[n].ids)) for n in kept])
mask, answers = ids != 0, torch.tensor([labels[n] for n in kept])
with torch.no_grad():  # the five frozen layers give the same in every run: computed once
    states = encoder.embeddings(ids)
    for layer in encoder.encoder.layers[:-1]:
        states, _ = layer(states, mask[:, None, None])
held_out = slice(0, HELD_OUT)
print(f"  {len(ids) - HELD_OUT} sentences to draw from, {HELD_OUT} held out")


class LastLayer(nn.Module):
    """The encoder's last layer with a new head; the layer is named as in the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = copy.deepcopy(encoder.encoder.layers[-1:])
        self.classifier = nn.Linear(encoder.config.dim, 2)
        nn.init.normal_(self.classifier.weight, std=0.02)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Maps the states of the layer below [batch, tokens, dim] to logits [batch, 2]."""
        x, _ = self.layers[0](x, mask[:, None, None])
        return self.classifier(mean_pool(x, mask))


ALL, QUERY_VALUE = ("*_proj",), ("query_proj", "value_proj")
WAYS = {
    "head only": None,
    "rank 1, α = 1": LoRAConfig(1, 1, ALL),
    "rank 1, α = 8": LoRAConfig(1, 8, ALL),
    "rank 8, α = 8": LoRAConfig(8, 8, ALL),
    "rank 8, α = 64": LoRAConfig(8, 64, ALL),
    "query, value: rank 8, α = 32": LoRAConfig(8, 32, QUERY_VALUE),
    "full": "full",
}


def fine_tune(way: str, seed: int) -> LastLayer:
    """Trains the layer in one of the ways, without dropout, so that nothing else differs."""
    torch.manual_seed(seed)
    model, config = LastLayer().eval(), WAYS[way]
    if isinstance(config, LoRAConfig):
        add_lora(model.layers, config)
    else:
        model.layers.requires_grad_(config == "full")
    body = [p for p in model.layers.parameters() if p.requires_grad]
    groups = [{"params": list(model.classifier.parameters()), "lr": 1e-3}]
    groups += [{"params": body, "lr": 1e-3 if config == "full" else 1e-2}] if body else []
    optimizer, schedule = torch.optim.AdamW(groups, weight_decay=0.0), linear(warmup=0.1)
    order = HELD_OUT + torch.randperm(len(ids) - HELD_OUT, generator=torch.Generator().manual_seed(seed))[:COUNT]
    for step, chosen in enumerate(order.split(BATCH)):
        set_learning_rate(optimizer, schedule((step + 0.5) * BATCH / COUNT))
        loss = F.cross_entropy(model(states[chosen], mask[chosen]), answers[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@torch.no_grad()
def evaluate(model: LastLayer) -> tuple[float, float]:
    """Loss and accuracy on the held-out sentences."""
    logits = model(states[held_out], mask[held_out])
    right = (logits.argmax(dim=1) == answers[held_out]).double().mean().item()
    return F.cross_entropy(logits, answers[held_out]).item(), right


tuned = {(way, seed): fine_tune(way, seed) for way in WAYS for seed in SEEDS}
measured = {key: evaluate(model) for key, model in tuned.items()}
losses = {way: [measured[way, seed][0] for seed in SEEDS] for way in WAYS}
trained = {
    way: sum(p.numel() for p in tuned[way, 0].layers.parameters() if p.requires_grad) for way in WAYS
}  # without the head
table(
    ["way", "trained", "optimizer, MB", *(f"loss, seed {seed}" for seed in SEEDS), "mean accuracy"],
    [
        (way, trained[way], 8 * trained[way] / 1e6, *losses[way], sum(measured[way, s][1] for s in SEEDS) / len(SEEDS))
        for way in WAYS
    ],
)

# %% [markdown] lang="en"
# With MiniLM, three very different adapters reach what full fine-tuning reaches, up to what 120 sentences can tell: rank 1
# with 0.4 % of the layer's weights, rank 8 with 3 %, and rank 8 on query and value alone. The head alone hardly begins in
# 24 steps.
#
# What matters most is neither rank nor target but the step size. $\alpha = 8$ suits rank 1 and rank 8 alike: this is what the
# division by $r$ is for, since a sum of eight products grows eight times as fast as one. With $\alpha = 1$ rank 1 is a little
# slower on average, and with $\alpha = 64$ rank 8 loses its way in some runs. So whoever compares ranks or targets has to find
# a good step size for each first. The values of $\alpha$ were chosen on sentences like these: small differences between the
# rows mean nothing.

# %% [markdown] lang="zh"
# 在 MiniLM 上，三种很不同的适配器都达到了完全微调的水平，差别在 120 句所能分辨的范围之内：
# 秩 1 只有这一层 0.4 % 的权重，秩 8 有 3 %，还有只装在查询和值上的秩 8。只训练分类头，24 步几乎还没有起步。
#
# 最要紧的既不是秩也不是目标层，而是步长。$\alpha = 8$ 对秩 1 和秩 8 都合适：除以 $r$ 正是为此，因为八个乘积之和比一个长得快八倍。
# 秩 1 取 $\alpha = 1$ 平均稍慢，秩 8 取 $\alpha = 64$ 在有些运行中就迷了路。所以，比较秩或目标层之前，要先为每一种找到合适的步长。
# 这些 $\alpha$ 是用类似的句子选的：各行之间的小差别没有意义。

# %% [markdown]
# ## Experiment: the rank of full fine-tuning · 实验：完全微调的秩

# %% [markdown] lang="en"
# Full fine-tuning may change a matrix in any way. Which one does it choose? We take the change of each of the layer's six
# matrices apart into singular values, keep the $k$ largest, drop the rest, and measure the loss again.

# %% [markdown] lang="zh"
# 完全微调可以任意改变矩阵，它选择了怎样的改变？
# 我们对这一层六个矩阵的改变分别做奇异值分解，只保留最大的 $k$ 个，去掉其余的，再测一次损失。

# %%
KEPT = (0, 1, 2, 4, 16, encoder.config.dim)
truncated, energy = {}, {}
for seed in SEEDS:
    before, model = encoder.encoder.layers[-1], copy.deepcopy(tuned["full", seed])
    pairs = [
        (p, q.detach()) for p, q in zip(model.layers[0].parameters(), before.parameters(), strict=True) if p.ndim == 2
    ]
    parts = [torch.linalg.svd(p.detach() - q, full_matrices=False) for p, q in pairs]
    total = sum(s.square().sum() for _, s, _ in parts)
    for count in KEPT:
        with torch.no_grad():
            for (p, q), (u, s, vh) in zip(pairs, parts, strict=True):
                p.copy_(q + (u[:, :count] * s[:count]) @ vh[:count])
        truncated[count, seed] = evaluate(model)[0]
        energy[count, seed] = (sum(s[:count].square().sum() for _, s, _ in parts) / total).item()
enough = min(k for k in KEPT if all(truncated[k, seed] < losses["full"][seed] + 0.05 for seed in SEEDS))
settle("rank", "few" if enough <= 4 else "some" if enough <= 64 else "most")
table(
    ["kept", *(f"loss, seed {seed}" for seed in SEEDS), "share of the squared change"],
    [(k, *(truncated[k, s] for s in SEEDS), sum(energy[k, s] for s in SEEDS) / len(SEEDS)) for k in KEPT],
)

figure, axes = plt.subplots(1, 3, figsize=(14, 4.2))
for seed, marker in zip(SEEDS, "os^", strict=True):
    axes[0].semilogy(RANKS, [max(floors[r, seed], 1e-3) for r in RANKS], "-", color="0.75")
    axes[0].semilogy(
        RANKS, [max(distances[r, seed], 1e-3) for r in RANKS], f"{marker}", color="C0", label=f"seed {seed}"
    )
    axes[2].plot(range(len(KEPT)), [truncated[k, seed] for k in KEPT], f"{marker}-", label=f"seed {seed}")
axes[0].set(
    xlabel="rank of the adapter",
    ylabel="squared distance, at least 0.001",
    title="A change of rank 4 (lines: the floor)",
)
axes[0].set_xticks(RANKS)
axes[0].legend()
for row, way in enumerate(WAYS):
    axes[1].plot(losses[way], [row] * len(SEEDS), "k.", markersize=9)
    axes[1].plot([sum(losses[way]) / len(SEEDS)], [row], "C3|", markersize=18)
axes[1].set_yticks(range(len(WAYS)), [f"{way}\n{trained[way]:,}" for way in WAYS])
axes[1].invert_yaxis()
axes[1].set(xlabel="loss on held-out sentences", title="24 steps, three seeds (red: mean)")
axes[2].set_xticks(range(len(KEPT)), [str(k) for k in KEPT])
axes[2].set(xlabel="singular values kept", ylabel="loss on held-out sentences", title="Full fine-tuning, cut to rank k")
axes[2].legend()
figure.tight_layout()
show(figure, "ranks")

# %% [markdown] lang="en"
# One or two of 384 singular values carry what full fine-tuning has learned of this task; the long rest is a large part of
# the change by size, but does next to nothing. This is why low rank is enough here: not because the update *must* be
# low-rank, but because what matters of it is. A task that is far from what the network knows, such as a new language, may
# need more, and only a measurement tells.

# %% [markdown] lang="zh"
# 384 个奇异值中的一两个，就承载了完全微调在这个任务上学到的东西；其余的长尾按大小占了改变的很大一部分，却几乎不起作用。
# 所以这里低秩就够了：并不是更新*必须*低秩，而是其中要紧的部分是低秩的。
# 任务若远离网络已有的知识，比如一门新语言，可能需要更高的秩，只有测量才知道。

# %% [markdown]
# ## Experiment: merging and rounding · 实验：合并与舍入

# %% [markdown] lang="en"
# The trained adapter of rank 8 is merged into the weights, in float32 and in bfloat16, which keeps 8 bits. How far do the
# logits move, and how far are the weights from the pretrained ones after they were merged and unmerged ten times?

# %% [markdown] lang="zh"
# 把训练好的秩 8 适配器合并进权重，分别用 float32 和只有 8 位有效数字的 bfloat16。logits 变了多少？
# 合并、取消合并十次之后，权重离预训练的有多远？

# %%
shifts, drifts = {}, {}
for dtype in (torch.float32, torch.bfloat16):
    model = copy.deepcopy(tuned["rank 8, α = 8", 0])
    for part in (model.classifier, *(each for each in model.layers.modules() if not isinstance(each, LoRALinear))):
        if not list(part.children()):
            part.to(dtype)  # the adapters' own matrices stay in float32
    x = states[:64].to(dtype)
    original = {name: p.clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        unmerged = model(x, mask[:64])
        merge_lora(model)
        shifts[dtype] = ((model(x, mask[:64]) - unmerged).norm() / unmerged.norm()).item()
    unmerge_lora(model)
    for _ in range(9):
        merge_lora(model)
        unmerge_lora(model)
    drifts[dtype] = max((p - original[name]).abs().max().item() for name, p in model.named_parameters())
table(
    ["weights", "logits move, relatively", "largest change of a weight after ten rounds"],
    [(str(dtype).removeprefix("torch."), f"{shifts[dtype]:.1e}", f"{drifts[dtype]:.1e}") for dtype in shifts],
)

# %% [markdown] lang="en"
# In float32 merging is free. In bfloat16 each merged weight is rounded by up to 0.4 %, and unmerging does not restore it:
# whoever swaps adapters keeps the pretrained weights, and applies adapters apart or merges into a copy. Weights of four bits
# cannot take up such a change at all; they are dequantized before merging.

# %% [markdown] lang="zh"
# float32 下合并没有代价。bfloat16 下每个合并后的权重有最多 0.4 % 的舍入误差，取消合并也不能还原：
# 要切换适配器，就保留预训练权重，让适配器单独计算，或者合并到副本里。
# 4 位的权重根本容纳不下这样的改变，合并前要先反量化。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# peft's layers with the same weights, on a network with dropout: outputs and gradients, for LoRA, rank-stabilized LoRA, DoRA
# and PiSSA. Then the file: peft reads what we store, and we read what peft stores.

# %% [markdown] lang="zh"
# 取相同的权重，与 peft 的层比较：网络带 dropout，比较输出和梯度，包括 LoRA、秩稳定的 LoRA、DoRA 和 PiSSA。
# 然后是文件：peft 读我们存的，我们读 peft 存的。

# %%
VARIANTS = {
    "LoRA": (LoRALinear, {}),
    "rank-stabilized": (LoRALinear, {"use_rslora": True}),
    "DoRA": (DoRALinear, {"use_dora": True}),
    "PiSSA": (PiSSALinear, {"init_lora_weights": "pissa"}),
}
PLACES = {"lora_a": "lora_A", "lora_b": "lora_B", "magnitude": "lora_magnitude_vector"}
features = torch.randn(5, 6)
output_pairs, gradient_pairs = {}, {}
for name, (kind, options) in VARIANTS.items():
    ours = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    theirs = peft.inject_adapter_in_model(
        peft.LoraConfig(r=2, lora_alpha=6, lora_dropout=0.2, target_modules=["0", "2"], **options), copy.deepcopy(ours)
    )
    add_lora(ours, LoRAConfig(2, 6, ("0", "2"), rank_stabilized=name == "rank-stabilized", dropout=0.2), kind)
    matrices = [
        (getattr(ours[n], matrix), getattr(theirs[n], PLACES[matrix])["default"].weight)
        for n in (0, 2)
        for matrix in kind.trained
    ]
    with torch.no_grad():
        for mine, other in matrices:
            mine += 0.3 * torch.randn_like(mine)
            other.copy_(mine)
    results = []
    for model in (ours, theirs):
        torch.manual_seed(1)  # both draw the same dropout
        results.append(model.train()(features))
        results[-1].square().sum().backward()
    output_pairs[name] = results
    gradient_pairs[name] = [torch.cat([pair[side].grad.flatten() for pair in matrices]) for side in (0, 1)]
    distance = (results[0] - results[1]).abs().max().item()
    print(f"  {name}: largest difference of outputs {distance:.1e}")

with tempfile.TemporaryDirectory() as temporary:
    ours, plain = tuned["rank 8, α = 8", 0], LastLayer().eval()
    plain.classifier.load_state_dict(ours.classifier.state_dict())
    save_adapter(ours, Path(temporary) / "ours")
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(plain), Path(temporary) / "ours").eval()
    theirs.save_pretrained(str(Path(temporary) / "theirs"))
    back = copy.deepcopy(plain)
    load_adapter(back, Path(temporary) / "theirs")
    adapter_bytes = (Path(temporary) / "ours" / WEIGHTS).stat().st_size
    with torch.no_grad():
        in_three = [model(states[:64], mask[:64]) for model in (ours, theirs, back.eval())]
layer_bytes = 4 * trained["full"]
print(f"  the adapter's file has {adapter_bytes:,} bytes; the layer's weights would take {layer_bytes:,}")

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the output is (6, 0), apart and merged", [apart, merged_output], [[6.0, 0.0], [6.0, 0.0]], 1e-6)
check("by hand: rank 8 of a 384 × 384 matrix is 4.2 %", round(1000 * 2 * 8 * 384 / 384**2) == 42)
check("in the first step only B has a gradient", gradients_at_start["A"] == 0 < gradients_at_start["B"])
check(
    "below the rank of the change, training ends at Eckart and Young's floor, with every seed",
    all(floors[r, s] <= distances[r, s] * (1 + 1e-4) < 1.02 * floors[r, s] for r in (1, 2) for s in SEEDS),
)
check("at its rank, nothing is left", max(distances[4, s] for s in SEEDS) < 0.01)
for name in VARIANTS:
    check_close(f"{name}: peft's outputs", *output_pairs[name], 1e-5)
    check_close(f"{name}: and its gradients", *gradient_pairs[name], 1e-4)
check_close("peft reads our file and computes the same", in_three[1], in_three[0], 1e-5)
check_close("we read peft's file and compute the same", in_three[2], in_three[0], 1e-6)
check("an adapter's frozen layer has not moved", all(
    torch.equal(mine.base.weight, theirs.weight)
    for mine, theirs in zip(
        [m for m in tuned["rank 8, α = 8", 0].modules() if isinstance(m, LoRALinear)],
        [m for m in encoder.encoder.layers[-1].modules() if isinstance(m, nn.Linear)],
        strict=True,
    )
))  # fmt: skip
check("merging in float32 moves the logits by less than 0.01 %", shifts[torch.float32] < 1e-4)
check("in bfloat16 by less than 5 %", shifts[torch.bfloat16] < 0.05)
check(
    "unmerging restores float32, and leaves traces in bfloat16", drifts[torch.float32] < 1e-5 < drifts[torch.bfloat16]
)
if real:

    def below(first: str, second: str, margin: float) -> bool:
        """Whether a way's loss is lower than another's by a margin, with every seed."""
        return all(a < b - margin for a, b in zip(losses[first], losses[second], strict=True))

    check("rank 8 beats the head alone, with every seed", below("rank 8, α = 8", "head only", 0.05))
    mean = {way: sum(values) / len(SEEDS) for way, values in losses.items()}
    check(
        "rank 1 learns more slowly with α = 1 than with 8, on average",
        mean["rank 1, α = 8"] < mean["rank 1, α = 1"],
    )
    check(
        "rank 8 is worse off with α = 64 than with 8, on average", mean["rank 8, α = 8"] < mean["rank 8, α = 64"] - 0.05
    )
    for way in ("rank 1, α = 8", "rank 8, α = 8", "query, value: rank 8, α = 32"):
        check(
            f"{way}: the mean loss is within 0.06 of full fine-tuning's",
            abs(mean[way] - mean["full"]) < 0.06,
        )
    check("rank 8 trains about 3 % of the layer", 0.025 < trained["rank 8, α = 8"] / trained["full"] < 0.035)
    check("at most four singular values carry what full fine-tuning has learned", enough <= 4)
    check("though they are less than 80 % of the squared change", max(energy[4, s] for s in SEEDS) < 0.8)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `uv run --package sentiment-bert train --preset lora` trains adapters on all six layers of the encoder. The same module
# carries the next project, a language model fine-tuned on a laptop: `add_lora(model, LoRAConfig(8, 16, ("*_proj",)))`
# works on any causal language model of the hub whose projections are linear layers. The phase's project, with all layers
# trained, is:
#
# ```bash
# uv run --package sentiment-bert train
# uv run --package sentiment-bert demo
# ```
#
# Papers: [Hu et al. 2021](https://arxiv.org/abs/2106.09685), section 7 on rank and targets; [Aghajanyan et al.
# 2020](https://arxiv.org/abs/2012.13255), why fine-tuning has few degrees of freedom; [Kalajdzievski
# 2023](https://arxiv.org/abs/2312.03732), the scaling; [Liu et al. 2024](https://arxiv.org/abs/2402.09353), DoRA; [Meng et
# al. 2024](https://arxiv.org/abs/2404.02948), PiSSA; [Biderman et al. 2024](https://arxiv.org/abs/2405.09673), where LoRA
# learns less than full fine-tuning, and forgets less. Next: large language models, 12/01.

# %% [markdown] lang="zh"
# `uv run --package sentiment-bert train --preset lora` 在编码器的全部六层上训练适配器。
# 下一个项目在笔记本电脑上微调语言模型，用的是同一个模块：`add_lora(model, LoRAConfig(8, 16, ("*_proj",)))`
# 适用于 hub 上任何投影是线性层的因果语言模型。本阶段的项目训练所有的层：
#
# ```bash
# uv run --package sentiment-bert train
# uv run --package sentiment-bert demo
# ```
#
# 论文：[Hu 等 2021](https://arxiv.org/abs/2106.09685)，第 7 节讨论秩和目标层；
# [Aghajanyan 等 2020](https://arxiv.org/abs/2012.13255)，为什么微调只有很少的自由度；
# [Kalajdzievski 2023](https://arxiv.org/abs/2312.03732)，缩放；[Liu 等 2024](https://arxiv.org/abs/2402.09353)，DoRA；
# [Meng 等 2024](https://arxiv.org/abs/2404.02948)，PiSSA；
# [Biderman 等 2024](https://arxiv.org/abs/2405.09673)，LoRA 在哪些地方学得比完全微调少、忘得也少。下一课：大语言模型，12/01。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the adapter and its insertion yourself: `uv run lesson exercise 11/08` makes a file with the signatures, `uv run
# lesson check 11/08` judges them on networks of its own.

# %% [markdown] lang="zh"
# 自己实现适配器和它的插入：`uv run lesson exercise 11/08` 生成带有签名的文件，
# `uv run lesson check 11/08` 用另外的网络评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `adapt` gets the frozen layer's output: add the scaled detour to it. Dropout acts on $x$ before $A$. `F.linear(x, A)`
#    is $A x$ for any number of leading axes.
# 2. `update` is `[out, in]`: $B$ comes first.
# 3. `merge` changes `self.base.weight` in place under `torch.no_grad`, and remembers in `self.merged` that it did: merging
#    twice adds the change once. Look at how `forward` uses `merged`. Quantized weights are not floating-point.
# 4. `add_lora`: collect the names of all linear layers first, check every target against them, and only then call
#    `wrap_layers`, so that a wrong target changes nothing.

# %% [markdown] lang="zh"
# 1. `adapt` 得到冻结层的输出：把缩放后的支路加上去。dropout 作用在进入 $A$ 之前的 $x$ 上。
#    `F.linear(x, A)` 对任意多个前置轴计算 $A x$。
# 2. `update` 的形状是 `[out, in]`：$B$ 在前。
# 3. `merge` 在 `torch.no_grad` 下原地修改 `self.base.weight`，并在 `self.merged` 里记住：合并两次只加一次。
#    看看 `forward` 怎样使用 `merged`。量化的权重不是浮点数。
# 4. `add_lora`：先收集所有线性层的名字，逐个检查目标，然后才调用 `wrap_layers`，这样目标写错时什么都不会改变。


# %%
@exercise(LoRALinear.adapt, LoRALinear.update, LoRALinear.merge, LoRALinear.unmerge, add_lora)
def judge(yours, reference):
    torch.manual_seed(3)
    config = reference.LoRAConfig(rank=2, alpha=5.0, targets=("*",), dropout=0.4)
    plain = nn.Linear(5, 4)
    layers = [module.LoRALinear(copy.deepcopy(plain), config) for module in (yours, reference)]
    a, b, x = torch.randn(2, 5), torch.randn(4, 2), torch.randn(3, 6, 5)
    with torch.no_grad():
        for layer in layers:
            layer.lora_a.copy_(a)
            layer.lora_b.copy_(b)
    mine, right = layers
    check("the output has the shape [..., out_features]", mine.eval()(x).shape == (3, 6, 4))
    check_close("the output in evaluation", mine(x), right.eval()(x))
    outputs = []
    for layer in layers:
        torch.manual_seed(4)
        outputs.append(layer.train()(x))
        outputs[-1].square().sum().backward()
    check_close("the output in training, with dropout", *outputs)
    for matrix in ("lora_a", "lora_b"):
        check_close(f"the gradient of {matrix}", getattr(mine, matrix).grad, getattr(right, matrix).grad, 1e-4)
    check("the pretrained weights get no gradient", mine.base.weight.grad is None)
    check("the change has the shape [out_features, in_features]", mine.update().shape == (4, 5))
    check_close("the change of the matrix", mine.update(), right.update())

    mine.eval()
    before = mine(x).detach()
    mine.merge()
    mine.merge()
    right.merge()
    check("a merged layer says so", mine.merged is True)
    check_close("the merged weights, though merged twice", mine.base.weight, right.base.weight)
    check_close("the outputs stay the same", mine(x), before, 1e-4)
    mine.unmerge()
    mine.unmerge()
    check("an unmerged layer says so", mine.merged is False)
    check_close("the weights are the pretrained ones again", mine.base.weight, plain.weight, 1e-5)

    def refused(call):
        try:
            call()
        except ValueError:
            return True
        return False

    quantized = yours.LoRALinear(nn.Linear(3, 3), config)
    quantized.base.weight = nn.Parameter(torch.zeros(9, dtype=torch.uint8), requires_grad=False)
    check("merging into quantized weights raises ValueError", refused(quantized.merge))

    def network():
        torch.manual_seed(5)
        block = nn.ModuleDict({"query": nn.Linear(4, 4), "up": nn.Linear(4, 8), "down": nn.Linear(8, 4)})
        return nn.ModuleDict({"words": nn.Embedding(9, 4), "first": block, "query_head": nn.Linear(4, 2)})

    for targets in (("query",), ("first.*",), ("u?", "query_head"), ("*",)):
        model, expected = network(), network()
        config = reference.LoRAConfig(rank=2, alpha=2.0, targets=targets)
        names = yours.add_lora(model, config)
        check(f"targets {targets}: the names of the layers", names == reference.add_lora(expected, config))
        check(f"targets {targets}: these layers have adapters", all(
            isinstance(model.get_submodule(name), yours.LoRALinear) for name in names
        ))  # fmt: skip
        trained = [name for name, p in model.named_parameters() if p.requires_grad]
        check(
            f"targets {targets}: only the adapters are trained",
            trained == [name for name, p in expected.named_parameters() if p.requires_grad],
        )
    model = network()
    wrong = reference.LoRAConfig(rank=2, alpha=2.0, targets=("query", "value"))
    check("a target without a layer raises ValueError", refused(lambda: yours.add_lora(model, wrong)))
    check("and nothing has been frozen", all(p.requires_grad for p in model.parameters()))
    yours.add_lora(model, config)
    check("adapters on adapters raise ValueError", refused(lambda: yours.add_lora(model, config)))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does B start at zero, and not A? · 为什么 B 从零开始，而不是 A？

# %% [markdown] lang="en"
# One of them has to be zero, so that training starts from the pretrained network. The gradient of each factor contains the
# other one, so the other must not be zero. With $B = 0$, $A$ random, the first step moves only $B$, then both learn. $A = 0$,
# $B$ random works as well, but then trains differently: studies find that the usual choice tolerates larger learning
# rates. Both zero never learns anything.

# %% [markdown] lang="zh"
# 必须有一个为零，训练才能从预训练网络出发。每个因子的梯度里都有另一个因子，所以另一个不能为零。
# $B = 0$、$A$ 随机时，第一步只动 $B$，之后两者都在学。$A = 0$、$B$ 随机也行，但训练动态不同：
# 有研究发现通常的选择能承受更大的学习率。两者都为零则永远学不到东西。

# %%
print(f"  norms of the first gradients: A {gradients_at_start['A']:.3f}, B {gradients_at_start['B']:.3f}")

# %% [markdown]
# ### Where does LoRA save memory, and where not? · LoRA 在哪里省内存，在哪里不省？

# %% [markdown] lang="en"
# It saves gradients and optimizer states of the frozen weights, 12 of 16 bytes each in float32, and makes checkpoints
# small. It does not save the weights themselves, which quantization does (QLoRA keeps them in 4 bits), and hardly any
# activations: the gradient still has to flow through every layer down to the lowest adapter. For long texts activations
# are the largest part, and checkpointing them helps more.

# %% [markdown] lang="zh"
# 省的是冻结权重的梯度和优化器状态，float32 下每个权重 16 字节中的 12 字节，检查点也变小。
# 不省权重本身，那要靠量化（QLoRA 用 4 位保存）；激活也几乎不省：梯度仍要穿过每一层，直到最低的适配器。
# 文本长时激活占大头，激活重计算更有用。

# %%
table(
    ["way", "optimizer states in MB"],
    [(way, 8 * count / 1e6) for way, count in trained.items()],
)

# %% [markdown]
# ### What does alpha do, and why alpha / √r? · α 起什么作用，为什么用 α / √r？

# %% [markdown] lang="en"
# It scales the change, much as a learning rate for the adapter's product. With $\alpha / r$ one hoped to keep the rate when
# the rank changes, but this factor shrinks too fast: at high ranks the gradients nearly vanish, and a larger rank does not
# help. rsLoRA shows that $\alpha / \sqrt r$ keeps the size of activations and gradients independent of the rank. In
# practice one fixes alpha (often $2r$) and tunes the rate, which for LoRA is about ten times that of full fine-tuning.

# %% [markdown] lang="zh"
# 它缩放改变量，很像适配器乘积的学习率。用 $\alpha / r$ 本想在换秩时不必重调学习率，但这个因子缩得太快：
# 秩高时梯度几乎消失，加大秩也没有用。rsLoRA 证明 $\alpha / \sqrt r$ 能使激活和梯度的大小与秩无关。
# 实践中固定 α（常取 $2r$）再调学习率，LoRA 的学习率约为完全微调的十倍。

# %%
table(
    ["rank", "α / r, α = 16", "α / √r, α = 16"],
    [
        (r, *(LoRAConfig(r, 16, ("*",), rank_stabilized=stabilized).scaling for stabilized in (False, True)))
        for r in (1, 8, 64, 256)
    ],
)
for way in ("rank 1, α = 1", "rank 1, α = 8", "rank 8, α = 8", "rank 8, α = 64"):
    print(f"  {way}: loss {[round(x, 3) for x in losses[way]]}")


# %% [markdown]
# ### Which layers would you target, at which rank? · 选哪些层、多大的秩？

# %% [markdown] lang="en"
# Start with all linear layers of the blocks, rank 8 or 16. The paper adapted attention only and found that, for a fixed
# number of parameters, a low rank on several matrices beats a high rank on one. Later work on language models
# needed adapters on all linear layers to match full fine-tuning. Small tasks, as here, do not tell the difference. Raise the
# rank if the *training* loss stays above that of full fine-tuning, and tune the rate for each choice. New tokens need
# trained embeddings as well.

# %% [markdown] lang="zh"
# 从各模块的全部线性层、秩 8 或 16 开始。原论文只改注意力，发现参数总数固定时，在几个矩阵上用低秩优于在一个矩阵上用高秩。
# 后来在语言模型上的工作要在全部线性层上装适配器，才能追上完全微调。像本课这样的小任务分不出差别。
# 如果*训练*损失一直高于完全微调，再提高秩，并为每种选择分别调学习率。加了新词元时，还要训练词嵌入。

# %%
table(
    ["way", "trained", "mean loss"],
    [(way, trained[way], sum(losses[way]) / len(SEEDS)) for way in WAYS],
)

# %% [markdown]
# ### How do you serve a hundred adapters on one model? · 怎样在一个模型上服务一百个适配器？

# %% [markdown] lang="en"
# Keep the base once and the adapters apart, a few megabytes each. For each request compute $W x$ for the whole batch, and
# add $s B_i A_i x$ with the matrices of the request's adapter, gathered per row. Merging is for the case of one adapter:
# the fastest, but then the base is changed, and in half precision it cannot be restored exactly.

# %% [markdown] lang="zh"
# 基座只留一份，适配器分开存，每个几兆字节。整个批次一起算 $W x$，再按每条请求取出它的适配器矩阵，加上 $s B_i A_i x$。
# 合并适合只有一个适配器的情形：最快，但基座被改动，半精度下不能精确还原。

# %%
model = LastLayer().eval()
add_lora(model.layers, WAYS["rank 8, α = 8"])
for seed in SEEDS:  # one base, three adapters, exchanged without touching a frozen weight
    load_lora_state_dict(model.layers, lora_state_dict(tuned["rank 8, α = 8", seed].layers))
    model.classifier.load_state_dict(tuned["rank 8, α = 8", seed].classifier.state_dict())
    print(f"  adapter {seed}: loss {evaluate(model)[0]:.3f}, as trained {losses['rank 8, α = 8'][seed]:.3f}")

# %% [markdown]
# ### What do DoRA and PiSSA change? · DoRA 和 PiSSA 改了什么？

# %% [markdown] lang="en"
# DoRA splits each row of a weight matrix into length and direction, lets LoRA change the direction, and trains the lengths
# on their own: one more number for each output, at a cost in time, since the norm of $W + sBA$ is needed in each step.
# PiSSA changes only the start: $A$ and $B$ begin as the principal part of $W$ instead of noise and zero, which makes the
# first steps larger where $W$ is. Both merge like LoRA.

# %% [markdown] lang="zh"
# DoRA 把权重矩阵的每一行分成长度和方向，方向由 LoRA 改变，长度单独训练：每个输出只多一个数，
# 但更费时间，因为每一步都要算 $W + sBA$ 的范数。PiSSA 只改起点：$A$ 和 $B$ 从 $W$ 的主成分开始，而不是噪声和零，
# 于是最初几步在 $W$ 大的方向上迈得更大。两者都能像 LoRA 一样合并。

# %%
plain = nn.Linear(6, 6, bias=False)
dora, pissa = (kind(copy.deepcopy(plain), LoRAConfig(2, 2, ("*",))) for kind in (DoRALinear, PiSSALinear))
print(f"  DoRA's magnitudes are the rows' norms: {[round(n, 3) for n in dora.magnitude.tolist()]}")
values = [
    [round(s, 3) for s in torch.linalg.svdvals(each.detach()).tolist()]
    for each in (plain.weight, pissa.lora_b @ pissa.lora_a)
]
print(f"  singular values of W {values[0]}; of PiSSA's B A at the start {values[1]}")
