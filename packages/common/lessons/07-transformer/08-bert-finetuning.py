# %% [markdown]
# # Fine-tuning BERT · 微调 BERT

# %% [markdown] lang="en"
# After this lesson you can turn a pretrained encoder into a classifier in four ways, from frozen features to training all
# layers, choose rates that do not destroy what it knows, and say what a few hundred labelled sentences can decide. You
# need BERT (07/07) and AdamW with warm-up (03/06, 03/09).

# %% [markdown] lang="zh"
# 学完本课，你能用四种方式把预训练编码器变成分类器（从冻结特征到训练全部层），会选不破坏已有知识的学习率，
# 并知道几百句标注数据能说明什么、不能说明什么。先修：BERT（07/07），AdamW 与预热（03/06、03/09）。

# %%
import copy

import matplotlib.pyplot as plt
import torch
import transformers
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.runtime.data import find
from dlcommon.training.schedules import linear, set_learning_rate
from dlcommon.transformer.bert import Bert, BertConfig, BertForSequenceClassification, mean_pool
from dlcommon.transformer.bert_weights import load_pretrained, load_transformers_weights, translate_name
from dlcommon.transformer.fine_tuning import freeze_all_but_last, layerwise_param_groups
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You have a few hundred film reviews, marked as positive or negative, and an encoder of 22.7 million weights that has
# read a large part of the web. Trained from scratch, a network of this size would learn your sentences by heart and
# nothing about film reviews. So you want to keep what the encoder knows and change as little of it as needed. But how
# much is that: nothing, the last layers, everything? And how fast may the weights move before the old knowledge is
# overwritten?

# %% [markdown] lang="zh"
# 你有几百条标了正负的影评，以及一个读过大量网络文本、有 2,270 万个权重的编码器。
# 这么大的网络如果从零训练，只会把你的句子背下来，对影评一无所知。所以要保留编码器已有的知识，只改动必要的部分。
# 但改动多少合适：完全不动、只改最后几层，还是全部？权重变化多快，才不会把原来的知识冲掉？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# **What is trained.** all-MiniLM-L6-v2 is 384 wide. A classifier of two classes on top has $2 \cdot 384 + 2 = 770$
# weights. One of the six layers has about $12 \cdot 384^2 \approx 1.77$ million: four matrices of attention, and two of
# the feed-forward network that are four times as large. Two layers and the classifier are 3.55 million, 16 % of all.
#
# **How fast.** Three parts from the input to the output, a rate of 0.001 for the last one, a decay of ½ from part to
# part: 0.00025, 0.0005, 0.001. What lies near the input, general knowledge of words, moves least.
#
# **The first steps.** AdamW divides a gradient by its own size. In the first step this is $g / \sqrt{g^2} = \pm 1$: each
# weight moves by the whole rate, however small its gradient, and this before the gradients' size is known. A warm-up
# over 10 of 100 steps begins with a tenth of the rate.

# %% [markdown] lang="zh"
# **训练什么。** all-MiniLM-L6-v2 宽 384。上面加一个二分类器，有 $2 \cdot 384 + 2 = 770$ 个权重。
# 六层中的每一层约有 $12 \cdot 384^2 \approx 177$ 万个：注意力的四个矩阵，加上前馈网络的两个四倍大的矩阵。
# 两层加分类器共 355 万，占全部的 16 %。
#
# **多快。** 从输入到输出分三部分，最后一部分的学习率为 0.001，每往前一部分乘 ½：0.00025、0.0005、0.001。
# 靠近输入的是关于词的一般知识，动得最少。
#
# **最初几步。** AdamW 用梯度自身的大小去除梯度。第一步就是 $g / \sqrt{g^2} = \pm 1$：不管梯度多小，每个权重都走满一个学习率，
# 而此时对梯度大小还没有像样的估计。在 100 步中用 10 步预热，就从十分之一的学习率开始。

# %%
MINILM = BertConfig(30_522, 384, 6, 12, 1536)
with torch.device("meta"):  # shapes without contents
    shapes = BertForSequenceClassification(Bert(MINILM, pooler=False), 2, pooling="mean")
total = sum(p.numel() for p in shapes.parameters())
NAMES = {1: "head only", 3: "last two layers and head", 7: "all six layers and head", 8: "everything"}
trained_counts = {}
for count, name in NAMES.items():
    freeze_all_but_last(shapes.parts(), count)
    trained_counts[name] = sum(p.numel() for p in shapes.parameters() if p.requires_grad)
table(["trained", "weights", "share"], [(name, count, count / total) for name, count in trained_counts.items()])

three = [nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)]
rates = [group["lr"] for group in layerwise_param_groups(three, 1e-3, decay=0.5) if group["weight_decay"]]
print(f"  rates of three parts: {rates}")
weight = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
step_by_hand = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.0)
weight.grad = torch.tensor([100.0, -1.0, 1e-4])
step_by_hand.step()
first_moves = weight.detach() - 1
print(f"  AdamW's first moves for gradients 100, −1, 0.0001: {[round(move, 4) for move in first_moves.tolist()]}")

drawing = Schematic(12, 4.3, "Four ways to use a pretrained encoder (dashed: frozen)")
for column, (count, title) in enumerate(((0, "frozen"), (1, "head only"), (3, "last two layers"), (7, "all layers"))):
    x = 1.6 + 2.9 * column
    heads = ["embeddings", *(f"layer {number}" for number in range(1, 7)), "regression" if count == 0 else "head"]
    for row, part in enumerate(heads):
        trained = row >= 8 - max(count, 1)
        drawing.box(f"{title} {part}", x, 0.4 + 0.44 * row, part, "operation" if trained else "parameter", 2.0, 0.36)
    drawing.text(x, 4.0, title)
show(drawing.figure, "ways")

# %% [markdown]
# ## Formula · 公式
#
# $$\bar h = \frac{\sum_i m_i h^L_i}{\sum_i m_i}, \qquad z = V \bar h + v, \qquad \mathcal{L} = -\log \mathrm{softmax}(z)_y$$
#
# $$\eta_k(t) = \eta \cdot \xi^{K - k} \cdot r(t/T), \qquad r(p) = \min\left(\frac{p}{w}, \frac{1 - p}{1 - w}\right)$$
#
# $$\theta_k \leftarrow (1 - \eta_k \lambda)\,\theta_k - \eta_k \, \frac{\hat m}{\sqrt{\hat v} + \epsilon}$$

# %% [markdown] lang="en"
# - $h^L_i$: features of token $i$ after the last layer $L$, `[dim]`; $m_i$: 1 for a token, 0 for padding; $\bar h$: their mean.
# - $V, v$: the classifier, `[classes, dim]` and `[classes]`; $z$: logits; $y$: the class; $\mathcal{L}$: the loss.
# - $k$: a part of the network, from 1, the embeddings, to $K$, the head; $\theta_k$: its weights.
# - $\eta$: the head's rate; $\xi$: the decay from part to part, at most 1 (Howard & Ruder 2018, section 3.2); $\eta_k$: the part's rate.
# - $t$ of $T$: the step; $r$: the schedule; $w$: the fraction of the steps that are warm-up.
# - $\hat m, \hat v$: AdamW's running means of gradient and squared gradient (03/06); $\lambda$: weight decay, 0 for biases and norms.
#
# A frozen part has no rate at all: no gradient is computed for it, and all that lies below the first trained layer can
# be computed once for each sentence and kept.

# %% [markdown] lang="zh"
# - $h^L_i$：最后一层 $L$ 之后 token $i$ 的特征，`[dim]`；$m_i$：真实 token 为 1，填充为 0；$\bar h$：它们的平均。
# - $V, v$：分类器，`[classes, dim]` 和 `[classes]`；$z$：logits；$y$：类别；$\mathcal{L}$：损失。
# - $k$：网络的一个部分，从 1（嵌入）到 $K$（分类头）；$\theta_k$：它的权重。
# - $\eta$：分类头的学习率；$\xi$：每往前一部分的衰减系数，不大于 1（Howard 与 Ruder 2018，3.2 节）；$\eta_k$：该部分的学习率。
# - $t$（共 $T$ 步）：第几步；$r$：学习率调度；$w$：预热所占的步数比例。
# - $\hat m, \hat v$：AdamW 中梯度与梯度平方的滑动平均（03/06）；$\lambda$：权重衰减，偏置和归一化参数取 0。
#
# 冻结的部分没有学习率：不为它计算梯度；第一个被训练的层以下的所有结果，每句话算一次存起来就行。

# %% [markdown]
# ## Code · 代码

# %%
source(freeze_all_but_last)
source(layerwise_param_groups)
source(BertForSequenceClassification.classify)

# %% [markdown] lang="en"
# `parts()` of the classifier lists embeddings, layers and head in order, 8 parts in a model of six layers. Freezing is
# `requires_grad_(False)`: backpropagation stops at the lowest part that is trained. The groups are what every torch
# optimizer takes; `set_learning_rate` multiplies the rate of each group by the schedule, so the ratios stay.
#
# `classify` maps features `[batch, tokens, dim]` to one vector a sentence, `[batch, dim]`, and to logits `[batch, 2]`. It
# takes the mean of the tokens here, since all-MiniLM-L6-v2 was trained with it; the paper's way is the `[CLS]` token.

# %% [markdown] lang="zh"
# 分类器的 `parts()` 按顺序列出嵌入、各层和分类头，六层的模型共 8 个部分。冻结就是 `requires_grad_(False)`：
# 反向传播到最低的被训练部分为止。参数组是 torch 所有优化器都接受的格式；
# `set_learning_rate` 用调度系数乘每一组的学习率，组与组的比例不变。
#
# `classify` 把特征 `[batch, tokens, dim]` 变成每句一个向量 `[batch, dim]`，再变成 logits `[batch, 2]`。
# 这里取各 token 的平均，因为 all-MiniLM-L6-v2 就是这样训练的；论文的做法是取 `[CLS]`。

# %% [markdown]
# ## Experiment: four ways · 实验：四种方式

# %% [markdown] lang="en"
# Short sentences of SST-2, at most 14 pieces; 128 of them to train with, another 128 for each of three seeds, and all
# short sentences of the validation part to test. Beside the four ways stands a model that knows no language: TF-IDF,
# which counts words and pairs of words. Where layers are trained, the head starts with the regression's weights (Kumar et
# al. 2022), so that the first gradients mean something.
#
# If the pretrained weights are not on this machine, a small encoder with random weights takes their place, and generated
# sentences that of the reviews. Then the numbers say nothing about pretraining, and the lesson claims nothing of it.

# %% [markdown] lang="zh"
# 数据是 SST-2 中不超过 14 个片段的短句：三个种子各抽 128 句来训练，验证集里所有的短句用来测试。
# 与四种方式对照的，是一个不懂语言的模型：TF-IDF，它只统计词和相邻的词对。
# 训练各层时，分类头以回归的权重为起点（Kumar 等 2022），这样最初的梯度就有意义。
#
# 如果本机没有预训练权重，就用一个随机权重的小编码器和生成的句子代替。那时的数字与预训练无关，本课也不据此下结论。

# %%
quiz(
    "gain",
    en="With 128 sentences, does the best of the trained ways beat the frozen encoder by more than the uncertainty of the test?",
    zh="只有 128 句时，训练方式中最好的一种，能比冻结编码器高出测试本身的不确定性吗？",
    choices={"yes": "yes · 能", "no": "no · 不能"},
)
quiz(
    "moved",
    en="All layers are trained with a decay of 0.9 from layer to layer: how many times as far does layer 6 move as layer 1?",
    zh="训练全部层，相邻层的学习率衰减为 0.9：第 6 层移动的距离是第 1 层的几倍？",
)

# %%
LONGEST, COUNT, SEEDS = 14, 128, (0, 1, 2)
folder = asset("all-minilm-l6-v2")
real = folder is not None and find("sst2") is not None
reviews = data("sst2", "generated-reviews") if folder is not None else data("generated-reviews")
if folder is not None:
    encoder, tokenizer = load_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
else:
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *sorted({word for text in reviews.train.texts for word in text.split()}),
    ]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    encoder = Bert(BertConfig(len(vocabulary), 48, 6, 4, 96), pooler=False).eval()
    with torch.no_grad():  # a standard deviation of 0.02 is made for a width of 768
        for p in encoder.parameters():
            p.mul_(4.0 if p.ndim == 2 else 1.0)


def short_sentences(split) -> tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts, ids [sentences, 14] and mask of the same shape, labels [sentences]."""
    encoded = tokenizer.encode_batch(list(split.texts))
    kept = [n for n, each in enumerate(encoded) if len(each.ids) <= LONGEST]
    ids = torch.tensor([encoded[n].ids + [0] * (LONGEST - len(encoded[n].ids)) for n in kept])
    return [split.texts[n] for n in kept], ids, (ids != 0).long(), torch.tensor([split.labels[n] for n in kept])


@torch.no_grad()
def hidden_states(ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Features before layer 1, …, before layer 6, and after it, each [sentences, 14, dim]."""
    states = [encoder.embeddings(ids)]
    for layer in encoder.encoder.layers:
        states.append(layer(states[-1], mask.bool()[:, None, None])[0])
    return states


texts, all_ids, all_mask, all_labels = short_sentences(reviews.train)
test_texts, test_ids, test_mask, test_labels = short_sentences(reviews.test)
test_states = hidden_states(test_ids, test_mask)
print(
    f"  {len(texts)} short sentences to choose from, {len(test_texts)} to test; {100 * test_labels.double().mean():.0f} % positive"
)


def logits_from(
    model: BertForSequenceClassification, start: int, states: list[torch.Tensor], mask: torch.Tensor
) -> torch.Tensor:
    """Logits [batch, 2], computed on from what the frozen layers below `start` have given."""
    x = states[start]
    for layer in model.bert.encoder.layers[start:]:
        x, _ = layer(x, mask.bool()[:, None, None])
    return model.classify(x, mask)


def fine_tune(
    states, mask, labels, count: int, lr: float, epochs: int, seed: int, decay: float = 0.9, regression=None
) -> tuple[BertForSequenceClassification, float]:
    """Trains the last `count` parts, the head from a regression's weights if given; returns model and test accuracy."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification(copy.deepcopy(encoder), 2, pooling="mean").train()
    if regression is not None:
        with torch.no_grad():  # the difference of the two logits is the regression's
            half = torch.tensor(regression.coef_[0] / 2), torch.tensor(regression.intercept_[0] / 2)
            model.classifier.weight.copy_(torch.stack([-half[0], half[0]]))
            model.classifier.bias.copy_(torch.stack([-half[1], half[1]]))
    freeze_all_but_last(model.parts(), count)
    optimizer = torch.optim.AdamW(layerwise_param_groups(model.parts(), lr, decay=decay))
    schedule, start, steps = linear(warmup=0.1), 7 - count, epochs * len(labels) // 8
    for step in range(steps):
        if step % (len(labels) // 8) == 0:
            order = torch.randperm(len(labels)).split(8)
        chosen = order[step % len(order)]
        set_learning_rate(optimizer, schedule((step + 0.5) / steps))
        batch = [each[chosen] for each in states]
        loss = F.cross_entropy(logits_from(model, start, batch, mask[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        found = logits_from(model, start, test_states, test_mask).argmax(dim=1)
    return model, (found == test_labels).double().mean().item()


def relative_change(model: BertForSequenceClassification) -> list[float]:
    """How far each layer's matrices have moved, as a fraction of their size."""
    changes = []
    for now, before in zip(model.bert.encoder.layers, encoder.encoder.layers, strict=True):
        pairs = [(p, q) for p, q in zip(now.parameters(), before.parameters(), strict=True) if p.ndim == 2]
        moved = torch.cat([(p - q).flatten() for p, q in pairs]).norm()
        changes.append((moved / torch.cat([q.flatten() for _, q in pairs]).norm()).item())
    return changes


def regress(features, labels) -> LogisticRegression:
    return LogisticRegression(max_iter=1000).fit(features, labels)


FINE_TUNED = {  # trained parts, rate of the head, epochs
    "head only": (1, 1e-2, 20),
    "last two layers": (3, 2e-4, 1) if folder is not None else (3, 3e-3, 4),
    "all six layers": (7, 1e-4, 1) if folder is not None else (7, 3e-3, 8),
}
accuracies: dict[str, list[float]] = {}
samples, regressions, moved = {}, {}, {}
for seed in SEEDS:
    chosen = torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed))[:COUNT]
    mask, labels = all_mask[chosen], all_labels[chosen]
    states = samples[seed] = hidden_states(all_ids[chosen], mask), mask, labels
    cls, mean = states[0][-1][:, 0], mean_pool(states[0][-1], mask)
    counted = TfidfVectorizer(ngram_range=(1, 2)).fit([texts[n] for n in chosen])
    words, test_words = (counted.transform(each) for each in ([texts[n] for n in chosen], test_texts))
    regressions[seed] = regress(mean, labels)
    results = {
        "TF-IDF, regression": regress(words, labels).score(test_words, test_labels),
        "frozen, [CLS], regression": regress(cls, labels).score(test_states[-1][:, 0], test_labels),
        "frozen, mean, regression": regressions[seed].score(mean_pool(test_states[-1], test_mask), test_labels),
    }
    for name, (count, lr, epochs) in FINE_TUNED.items():
        start = regressions[seed] if count > 1 else None
        model, results[name] = fine_tune(*states, count, lr, epochs, seed, regression=start)
        moved[name, seed] = relative_change(model)
    for name, result in results.items():
        accuracies.setdefault(name, []).append(result)
means = {name: sum(values) / len(values) for name, values in accuracies.items()}
uncertainty = (
    1.96 * (means["frozen, mean, regression"] * (1 - means["frozen, mean, regression"]) / len(test_texts)) ** 0.5
)
best = max(FINE_TUNED, key=lambda name: means[name])
gain = means[best] - means["frozen, mean, regression"]
settle("gain", "yes" if gain > uncertainty else "no")
table(
    ["128 sentences", *(f"seed {seed}" for seed in SEEDS), "mean"],
    [(name, *values, means[name]) for name, values in accuracies.items()],
)
print(f"  {len(test_texts)} test sentences leave ± {uncertainty:.1%}; the best trained way gains {gain:+.1%}")

# %% [markdown] lang="en"
# With the pretrained encoder, what it has read is worth far more than how it is trained: a logistic regression on frozen
# features leaves TF-IDF far behind. The features of `[CLS]` are worse than the mean, because nothing has trained them to
# stand for a sentence. Training more than the regression pays nothing yet: no way differs from it by more than the
# uncertainty of the test. Of the short training of millions of weights on 128 sentences no more can be expected. So
# start with frozen features: they cost one pass. What more labels and more epochs change, the capstone's curve shows.

# %% [markdown] lang="zh"
# 有预训练编码器时，它读过什么，比怎样训练它重要得多：冻结特征上的逻辑回归远远超过 TF-IDF。
# `[CLS]` 的特征不如平均，因为没有任何训练让它代表整句话。
# 在回归之外再训练更多，目前还没有回报：没有哪种方式与它的差别超出测试的不确定性。
# 用 128 句话短时间训练几百万个权重，也不能指望更多。所以先从冻结特征做起：它只需一次前向。
# 标注更多、训练更久会怎样，实战项目的曲线给出答案。

# %% [markdown]
# ## Experiment: too fast · 实验：学习率太大

# %% [markdown] lang="en"
# The same last two layers, once with fifty times the rate, 0.01, which is a usual one for a small network trained from
# scratch. And how far has each layer moved when all six were trained, relative to the size of its weights?

# %% [markdown] lang="zh"
# 同样训练最后两层，但学习率放大 50 倍，即 0.01，这对从零训练的小网络是常用值。
# 另外，训练全部六层时，每一层相对于自身权重的大小移动了多远？

# %%
hot = [fine_tune(*samples[seed], 3, 1e-2, 1, seed, 1.0, regressions[seed])[1] for seed in SEEDS]
table(
    ["last two layers", *(f"seed {seed}" for seed in SEEDS)],
    [(f"rate {FINE_TUNED['last two layers'][1]}", *accuracies["last two layers"]), ("rate 0.01", *hot)],
)


by_layer = [moved["all six layers", seed] for seed in SEEDS]
ratio = sum(changes[-1] / changes[0] for changes in by_layer) / len(SEEDS)
settle("moved", ratio, tolerance=0.3)
table(["relative change", *(f"layer {n}" for n in range(1, 7))], [(f"seed {seed}", *by_layer[seed]) for seed in SEEDS])

figure, axes = plt.subplots(1, 3, figsize=(13.5, 4))
for row, (name, values) in enumerate(accuracies.items()):
    axes[0].barh(row, means[name], color="0.8", edgecolor="black")
    axes[0].plot(values, [row] * 3, "k.", markersize=6)
axes[0].axvspan(
    means["frozen, mean, regression"] - uncertainty, means["frozen, mean, regression"] + uncertainty, alpha=0.15
)
axes[0].set_yticks(range(len(accuracies)), list(accuracies))
axes[0].invert_yaxis()
axes[0].set(xlabel="test accuracy", xlim=(0.4, 1.0), title="128 sentences, three seeds")
progress = torch.linspace(0, 1, 101).tolist()
for part, style in ((8, "-"), (6, "--"), (2, ":")):
    axes[1].plot(
        progress,
        [1e-4 * 0.9 ** (8 - part) * linear(0.1)(p) for p in progress],
        style,
        label={8: "head", 6: "layer 5", 2: "layer 1"}[part],
    )
axes[1].set(xlabel="progress", ylabel="learning rate", title="Warm-up, and a rate per layer")
axes[1].legend()
for seed, marker in zip(SEEDS, "os^", strict=True):
    axes[2].plot(range(1, 7), [100 * change for change in by_layer[seed]], f"{marker}-", label=f"seed {seed}")
axes[2].set(xlabel="layer", ylabel="relative change, %", ylim=(0, None), title="How far each layer has moved")
axes[2].legend()
figure.tight_layout()
show(figure, "finetuning")

# %% [markdown] lang="en"
# At 0.01 a single epoch ruins the encoder: in each of its 16 steps every weight moves by about the whole rate, and what
# the two layers knew is gone. Fine-tuning rates are therefore tens to hundreds of times smaller than those of training
# from scratch. The layers near the input move less, as their rates say: AdamW takes the size of the gradients out, so
# that the rate alone decides how far a layer moves.

# %% [markdown] lang="zh"
# 学习率 0.01 时，只要一轮就毁掉了编码器：16 步里每个权重每步都移动约一个学习率，这两层原有的知识就没了。
# 所以微调的学习率比从零训练小几十到几百倍。靠近输入的层移动较小，正如它们的学习率所示：
# AdamW 消去了梯度的大小，一层移动多远只由学习率决定。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# transformers' `BertForSequenceClassification` and ours with the same random weights, in float64: logits, gradients, and
# the weights after three steps of AdamW. Theirs gets its groups written out by hand, a rate for each part.

# %% [markdown] lang="zh"
# transformers 的 `BertForSequenceClassification` 与我们的模型取同样的随机权重（float64）：比较 logits、梯度，
# 以及 AdamW 走三步之后的权重。它的参数组手工写出，每部分一个学习率。

# %%
SMALL = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
theirs = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL, num_labels=2)).double().eval()
ours = BertForSequenceClassification(Bert(BertConfig(30, 16, 2, 2, 32)), 2).double().eval()
load_transformers_weights(ours, theirs.state_dict())
ids, mask, targets = torch.randint(1, 30, (4, 7)), torch.ones(4, 7, dtype=torch.long), torch.tensor([0, 1, 1, 0])
mask[1, 4:] = 0
layers = theirs.bert.encoder.layer
their_parts = [theirs.bert.embeddings, layers[0], layers[1], nn.ModuleList([theirs.bert.pooler, theirs.classifier])]
their_groups = [
    {
        "params": [p for p in part.parameters() if (p.ndim == 2) == matrix],
        "lr": lr,
        "weight_decay": 0.01 if matrix else 0.0,
    }
    for part, lr in zip(their_parts, (5.12e-4, 6.4e-4, 8e-4, 1e-3), strict=True)
    for matrix in (True, False)
]
our_optimizer = torch.optim.AdamW(layerwise_param_groups(ours.parts(), 1e-3, decay=0.8))
their_optimizer = torch.optim.AdamW(their_groups)
our_logits, their_logits = ours(ids, mask), theirs(ids, attention_mask=mask).logits


def gradients_in_our_order(model: nn.Module, of: str) -> torch.Tensor:
    named = {
        (translate_name(name.removeprefix("bert.")) if model is theirs else name.removeprefix("bert.")): p
        for name, p in model.named_parameters()
    }
    order = [name.removeprefix("bert.") for name, _ in ours.named_parameters()]
    return torch.cat([getattr(named[name], of).flatten() for name in order]).detach().clone()


for step in range(3):
    for model, optimizer in ((ours, our_optimizer), (theirs, their_optimizer)):
        logits = model(ids, mask) if model is ours else model(ids, attention_mask=mask).logits
        optimizer.zero_grad()
        F.cross_entropy(logits, targets).backward()
    if step == 0:
        our_gradient, their_gradient = (gradients_in_our_order(model, "grad") for model in (ours, theirs))
    our_optimizer.step()
    their_optimizer.step()
our_weights, their_weights = (gradients_in_our_order(model, "data") for model in (ours, theirs))
print(f"  after three steps: largest difference of the weights {(our_weights - their_weights).abs().max().item():.1e}")

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: three parts have the rates 0.00025, 0.0005, 0.001", rates, [2.5e-4, 5e-4, 1e-3], 1e-12)
check_close("by hand: AdamW's first move is the rate, whatever the gradient", first_moves, [-0.01, 0.01, -0.01], 1e-4)
check(
    "by hand: the head has 770 weights, two layers and head 16 % of all",
    trained_counts["head only"] == 770 and 0.15 < trained_counts["last two layers and head"] / total < 0.16,
)
check_close("our classifier gives transformers' logits", our_logits, their_logits, 1e-10)
check_close("and its gradients", our_gradient, their_gradient, 1e-9)
check_close("after three steps with a rate per part the weights agree", our_weights, their_weights, 1e-7)
check(
    "frozen layers have not moved at all, trained ones have",
    max(moved["last two layers", 0][:4]) == 0 and min(moved["last two layers", 0][4:]) > 0,
)
check(
    "with every seed the last layer has moved further than the first",
    all(changes[-1] > 1.1 * changes[0] for changes in by_layer),
)
check("all six layers trained: better than guessing, with every seed", min(accuracies["all six layers"]) > 0.6)
if real:
    check(
        "the frozen encoder beats TF-IDF by ten points, with every seed",
        all(
            frozen - words > 0.1
            for frozen, words in zip(
                accuracies["frozen, mean, regression"], accuracies["TF-IDF, regression"], strict=True
            )
        ),
    )
    check(
        "the mean beats [CLS], with every seed",
        all(
            a > b
            for a, b in zip(
                accuracies["frozen, mean, regression"], accuracies["frozen, [CLS], regression"], strict=True
            )
        ),
    )
    check(
        "no trained way differs from the frozen encoder by more than the test's uncertainty",
        all(abs(means[name] - means["frozen, mean, regression"]) < uncertainty for name in FINE_TUNED),
    )
    check(
        "at the rate 0.01 the encoder is worse than frozen, with every seed",
        all(a < b - 0.05 for a, b in zip(hot, accuracies["frozen, mean, regression"], strict=True)),
    )

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# A sentiment system is made this way, on more sentences: `uv run --package sentiment-bert train` fine-tunes the layers of
# all-MiniLM-L6-v2 (`uv run data fetch all-minilm-l6-v2`) on the 6,920 of SST-2, with a rate for each layer, and
# `uv run --package sentiment-bert demo` colors the words that moved its answer. The phase's capstone translates:
# `uv run --package translator demo`.
#
# Papers: [Devlin et al. 2019](https://arxiv.org/abs/1810.04805), section 4 and table 7 (features against fine-tuning);
# [Howard & Ruder 2018](https://arxiv.org/abs/1801.06146), a rate per layer; [Mosbach et al.
# 2021](https://arxiv.org/abs/2006.04884), why fine-tuning on few sentences fails for some seeds; [Kumar et al.
# 2022](https://arxiv.org/abs/2202.10054), how fine-tuning can distort features. Next: GPT, 07/09.

# %% [markdown] lang="zh"
# 情感分析系统就是这样做的，只是句子更多：
# `uv run --package sentiment-bert train` 在 SST-2 的 6,920 句上微调 all-MiniLM-L6-v2 的各层，
# 每层一个学习率，权重用 `uv run data fetch all-minilm-l6-v2` 获得；
# `uv run --package sentiment-bert demo` 把影响判断的词标上颜色。本阶段的实战项目做翻译：`uv run --package translator demo`。
#
# 论文：[Devlin 等 2019](https://arxiv.org/abs/1810.04805)，第 4 节和表 7（特征与微调的比较）；
# [Howard 与 Ruder 2018](https://arxiv.org/abs/1801.06146)，每层一个学习率；
# [Mosbach 等 2021](https://arxiv.org/abs/2006.04884)，为什么数据少时微调在某些种子上失败；
# [Kumar 等 2022](https://arxiv.org/abs/2202.10054)，微调怎样破坏特征。下一课：GPT，07/09。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `freeze_all_but_last` and `layerwise_param_groups` yourself: `uv run lesson exercise 07/08` makes a file with their
# signatures, `uv run lesson check 07/08` judges them on networks of its own.

# %% [markdown] lang="zh"
# 自己实现 `freeze_all_but_last` 和 `layerwise_param_groups`：`uv run lesson exercise 07/08` 生成带有签名的文件，
# `uv run lesson check 07/08` 用另外的网络评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Part number $i$ of $n$, counted from 0, is trained if $i \ge n - \text{count}$. Set both ways: what was frozen
#    before has to be trained again. Check `count` first.
# 2. The rate of part $i$ is `lr * decay ** (n - 1 - i)`: the exponent of the last part is 0.
# 3. `parameter.ndim >= 2` tells a matrix from a vector. Each part gives at most two groups, dictionaries with `params`,
#    `lr` and `weight_decay`; an empty group is left out.
# 4. Leave out parameters whose `requires_grad` is false.

# %% [markdown] lang="zh"
# 1. 共 $n$ 个部分，从 0 数起，第 $i$ 个在 $i \ge n - \text{count}$ 时被训练。两个方向都要设：之前冻结的也要重新打开。
#    先检查 `count`。
# 2. 第 $i$ 部分的学习率是 `lr * decay ** (n - 1 - i)`：最后一部分的指数为 0。
# 3. `parameter.ndim >= 2` 区分矩阵和向量。每部分最多两组，是含 `params`、`lr`、`weight_decay` 的字典；空的组不要。
# 4. `requires_grad` 为假的参数不要放进去。


# %%
@exercise(freeze_all_but_last, layerwise_param_groups)
def judge(yours, reference):
    def network():
        return [
            nn.Embedding(5, 4),
            nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
            nn.Conv1d(4, 3, 2),
            nn.Linear(4, 2),
        ]

    for count in (1, 4, 0, 2):
        parts = network()
        nn.ModuleList(parts).requires_grad_(count != 4)
        yours.freeze_all_but_last(parts, count)
        trained = [[p.requires_grad for p in part.parameters()] for part in parts]
        check(f"the last {count} of four parts are trained", all(all(flags) for flags in trained[4 - count :]))
        check(f"the first {4 - count} are not", not any(any(flags) for flags in trained[: 4 - count]))

    def refused(call):
        try:
            call()
        except ValueError:
            return True
        return False

    check("more parts than there are raise ValueError", refused(lambda: yours.freeze_all_but_last(network(), 5)))
    check("fewer than none raise ValueError", refused(lambda: yours.freeze_all_but_last(network(), -1)))
    for decay in (0.0, 1.2):
        check(
            f"a decay of {decay} raises ValueError",
            refused(lambda d=decay: yours.layerwise_param_groups(network(), 1.0, decay=d)),
        )

    for case, frozen in (("", 0), (", the first two parts frozen", 2)):
        parts = network()
        nn.ModuleList(parts[:frozen]).requires_grad_(False)
        mine, expected = (
            {
                id(p): group
                for group in module.layerwise_param_groups(parts, 0.1, decay=0.5, weight_decay=0.3)
                for p in group["params"]
            }
            for module in (yours, reference)
        )
        check(f"every trained parameter is in a group, and no other{case}", set(mine) == set(expected))
        order = [id(p) for part in parts for p in part.parameters() if id(p) in expected]
        check_close(
            f"rates, from the input to the output{case}",
            [mine[n]["lr"] for n in order],
            [expected[n]["lr"] for n in order],
            1e-12,
        )
        check_close(
            f"weight decay{case}",
            [mine[n]["weight_decay"] for n in order],
            [expected[n]["weight_decay"] for n in order],
            1e-12,
        )
        groups = yours.layerwise_param_groups(parts, 0.1, decay=0.5)
        check(f"no group is empty{case}", all(len(group["params"]) for group in groups))
        check(f"no parameter is in two groups{case}", sum(len(group["params"]) for group in groups) == len(expected))
        check_close(
            f"the usual weight decay is 0.01{case}",
            sorted({group["weight_decay"] for group in groups}),
            [0.0, 0.01],
            1e-12,
        )
    torch.optim.AdamW(yours.layerwise_param_groups(network(), 1e-3, decay=1.0))
    check("torch's optimizers take the groups", True)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### When would you freeze the encoder, and when train all of it? · 什么时候冻结编码器，什么时候全部训练？

# %% [markdown] lang="en"
# Freeze with few labels, many tasks on one encoder, or little compute: the features are computed once, and a regression
# on them takes seconds and has one answer. Train all of it with thousands of labels, or if the texts differ from what
# the encoder has read. In between, try the last layers. Always report the frozen features beside it: they are the
# baseline that fine-tuning has to beat.

# %% [markdown] lang="zh"
# 标注少、同一个编码器要服务多个任务、算力有限时冻结：特征只算一次，上面的回归几秒钟就好，而且结果唯一。
# 有几千条以上标注，或文本与编码器读过的差别大时，全部训练。介于两者之间就试最后几层。
# 总要同时报告冻结特征的结果：它是微调必须超过的基线。

# %%
for name in ("frozen, mean, regression", *FINE_TUNED):
    print(f"  {name}: {', '.join(f'{value:.1%}' for value in accuracies[name])}")

# %% [markdown]
# ### Why are learning rates for fine-tuning so small? · 微调的学习率为什么这么小？

# %% [markdown] lang="en"
# The weights are already good; the best new ones lie nearby. AdamW moves each weight by about the rate per step,
# whatever the gradient, so 16 steps at 0.01 change weights of size 0.05 completely. Usual are 1e-5 to 5e-5 for
# BERT-base, up to some 1e-4 for smaller models.

# %% [markdown] lang="zh"
# 权重已经很好，新的最优点就在附近。AdamW 每步让每个权重移动约一个学习率，与梯度大小无关，
# 所以 0.01 走 16 步，大小约 0.05 的权重就面目全非了。BERT-base 常用 1e-5 到 5e-5，更小的模型可到几个 1e-4。

# %%
size = torch.cat([p.flatten() for p in encoder.encoder.layers[5].parameters() if p.ndim == 2]).std().item()
print(
    f"  standard deviation of layer 6's weights {size:.3f}; accuracy at 0.01: {', '.join(f'{value:.1%}' for value in hot)}"
)

# %% [markdown]
# ### What does the warm-up prevent? · 预热防止什么？

# %% [markdown] lang="en"
# A head that starts at random sends gradients into the encoder that say little, and AdamW's estimate of their size rests
# on a few batches. With the full rate at once, the first steps would move all layers far in arbitrary directions. With a
# rising rate the head learns first, and the encoder moves when the gradients mean something. A head that starts with a
# regression's weights, as here, avoids the first of the two troubles, not the second.

# %% [markdown] lang="zh"
# 随机初始化的分类头传给编码器的梯度没什么意义，AdamW 对梯度大小的估计也只来自几个批次。
# 若一开始就用全部学习率，最初几步会把所有层往任意方向推得很远。学习率逐渐升高时，分类头先学起来，
# 等梯度有了意义，编码器再移动。像本课这样以回归的权重为起点，能避免第一个问题，但避免不了第二个。

# %%
print(
    "  share of the rate in the first of 100 steps: "
    + ", ".join(f"warm-up {w}: {linear(w)(0.005) if w else 1.0:.3f}" for w in (0.0, 0.1))
)

# %% [markdown]
# ### Why does layer-wise decay give lower layers smaller rates? · 逐层衰减为什么给低层更小的学习率？

# %% [markdown] lang="en"
# Lower layers hold what all tasks share: words and their forms. Upper layers hold what the pretraining task needed, and
# have to change most. A change below also shifts the inputs of all layers above. The decay is a mild form of freezing:
# at 0.9 the lowest of six layers has 59 % of the rate of the top one.

# %% [markdown] lang="zh"
# 低层保存所有任务共有的东西：词及其形态。高层保存预训练任务所需的内容，最需要改变。
# 低层一变，上面所有层的输入也跟着变。逐层衰减是温和的冻结：系数 0.9 时，六层中最低一层的学习率是最高层的 59 %。

# %%
print(f"  0.9⁵ = {0.9**5:.2f}; layer 6 has moved {ratio:.1f} times as far as layer 1")

# %% [markdown]
# ### Two runs differ by 2 points. What do you conclude? · 两次运行差 2 个百分点，你的结论是什么？

# %% [markdown] lang="en"
# Nothing yet. A few hundred test sentences leave several points of uncertainty, and with few training sentences the
# choice of sentences, the order and the head's start move the result by as much. Repeat with several seeds, on the same
# splits for both, compare the means with the spread, and test on more sentences before choosing.

# %% [markdown] lang="zh"
# 还不能下结论。几百句测试集本身就有几个百分点的不确定性；训练句子少时，抽到哪些句子、顺序和分类头的初值，
# 也会让结果变动这么多。用几个种子、相同的划分重复，把平均差与波动相比，并在更多句子上测试，再做选择。

# %%
spread = {name: max(values) - min(values) for name, values in accuracies.items()}
print(
    f"  spread over seeds: {', '.join(f'{name} {value:.1%}' for name, value in spread.items() if name in FINE_TUNED)}"
)

# %% [markdown]
# ### How do you make training cheaper when the lower layers are frozen? · 低层冻结时怎样让训练更便宜？

# %% [markdown] lang="en"
# Without gradients below, the backward pass ends at the lowest trained layer, and the optimizer needs no state for the
# rest. If the frozen part has no dropout, its outputs are the same in every epoch: compute them once per sentence and
# start there, as `logits_from` does here. For the head alone, an epoch then costs almost nothing.

# %% [markdown] lang="zh"
# 下面不需要梯度，反向传播到最低的被训练层为止，优化器也不用为其余部分保存状态。
# 冻结部分关掉 dropout 时，每轮输出都一样：每句话算一次，从那里接着算，就像本课的 `logits_from`。
# 只训练分类头时，一轮几乎不花时间。

# %%
table(["trained", "weights that the optimizer holds"], list(trained_counts.items()))
