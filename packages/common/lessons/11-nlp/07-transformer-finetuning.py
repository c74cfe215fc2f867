# %% [markdown]
# # Fine-tuning: Trainer and a plain loop · 微调：Trainer 与普通循环

# %% [markdown] lang="en"
# After this lesson you can say what transformers' `Trainer` does in every step, write a loop that gives the same losses,
# rates and weights, name the defaults that decide a result, find a fault in `Trainer` by comparing, and measure what a
# model forgets. You need fine-tuning (07/08), schedules and clipping (09/03, 09/04) and gradient accumulation (09/06).

# %% [markdown] lang="zh"
# 学完本课，你能说出 transformers 的 `Trainer` 每一步做了什么，写出损失、学习率和权重都与它相同的循环，
# 说出哪些默认值决定结果，通过对照找到 `Trainer` 的一个毛病，并能测量模型忘了多少。
# 先修：微调（07/08）、学习率调度与梯度裁剪（09/03、09/04）、梯度累积（09/06）。

# %%
import copy
import dataclasses
import math
import tempfile
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
import transformers
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.nlp.trainer_loop import (
    TrainerConfig,
    accumulate_gradients,
    epoch_batches,
    fine_tune,
    train_step,
)
from dlcommon.runtime.data import find
from dlcommon.training.schedules import linear
from dlcommon.transformer.bert import Bert, BertConfig, mean_pool
from dlcommon.transformer.bert_weights import load_pretrained
from dlcommon.transformer.fine_tuning import layerwise_param_groups
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from torch.nn import functional as F
from transformers.trainer_callback import PrinterCallback

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A colleague's fine-tuning script is five lines: a model, a data set, `TrainingArguments`, `Trainer`, `trainer.train()`. You
# write the loop yourself, with the same model, data, rate and batch size, and get another loss from the second step on.
# Which of the two is wrong? `TrainingArguments` has more than a hundred settings. Most were never typed, yet some of
# their defaults decide the result, and none of them stands in the script.
#
# The way to know is to rebuild the training until the two agree in every step. What is needed for that is what `Trainer`
# does; what is not needed, it does not do.

# %% [markdown] lang="zh"
# 同事的微调脚本只有五行：模型、数据集、`TrainingArguments`、`Trainer`、`trainer.train()`。
# 你自己写循环，模型、数据、学习率、批大小都相同，从第二步起损失就不一样了。谁错了？
# `TrainingArguments` 有一百多个设置，大多数谁也没写过，但有些默认值决定结果，而脚本里一个都看不到。
#
# 要弄清楚，就重建这个训练，直到两者每一步都一致。为此需要的，就是 `Trainer` 所做的；不需要的，它就没有做。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# **The rate.** 6 optimizer steps, 2 of them warm-up. `Trainer` counts from 0: the multipliers are 0, ½, 1, ¾, ½, ¼. The very
# first step has the rate 0 and changes nothing; the last one is not 0.
#
# **Clipping.** A gradient of $(3, 4)$ has the norm 5. With `max_grad_norm` 1, the default, it becomes $(0.6, 0.8)$.
#
# **Accumulation.** Two batches make one step: 4 texts with the mean loss 0.5, and the last 2 with 1.1. The mean over the 6
# texts is $(4 \cdot 0.5 + 2 \cdot 1.1) / 6 = 0.7$. The mean of the two means is 0.8: the last two texts count double. Their sum
# is 1.6.
#
# **The order.** Epoch 0 is shuffled with a generator of the seed 42, epoch 1 with 43. No other random number matters for it.

# %% [markdown] lang="zh"
# **学习率。** 共 6 个优化步，其中 2 步预热。`Trainer` 从 0 数起：系数依次为 0、½、1、¾、½、¼。
# 第一步的学习率是 0，什么也不改变；最后一步不是 0。
#
# **裁剪。** 梯度 $(3, 4)$ 的范数是 5。`max_grad_norm` 取默认值 1，梯度变成 $(0.6, 0.8)$。
#
# **累积。** 两个批次合成一步：4 条文本的平均损失为 0.5，最后 2 条为 1.1。
# 6 条文本的平均是 $(4 \cdot 0.5 + 2 \cdot 1.1) / 6 = 0.7$。两个平均的平均是 0.8：最后两条被算了双份。它们的和是 1.6。
#
# **顺序。** 第 0 轮用种子 42 的发生器打乱，第 1 轮用 43。其他随机数对顺序没有影响。

# %%
multipliers = [linear(warmup=2 / 6)(step / 6) for step in range(6)]
by_hand = nn.Parameter(torch.zeros(2))
by_hand.grad = torch.tensor([3.0, 4.0])
torch.nn.utils.clip_grad_norm_([by_hand], 1.0)
table(["step", *(str(step) for step in range(6))], [("multiplier of the rate", *multipliers)])
print(f"  clipped: {[round(g, 3) for g in by_hand.grad.tolist()]}")
right, of_means, summed = (4 * 0.5 + 2 * 1.1) / 6, (0.5 + 1.1) / 2, 0.5 + 1.1
print(f"  mean over the texts {right:.1f}, mean of the means {of_means:.1f}, sum {summed:.1f}")

drawing = Schematic(13.2, 3.2, "One optimizer step of Trainer")
for name, x, y, text, kind, width in (
    ("order", 1.1, 2.2, "order of\nseed + epoch", "parameter", 1.8),
    ("batches", 3.3, 2.2, "k batches", "data", 1.4),
    ("loss", 5.3, 2.2, "loss / labels\nof all k", "operation", 1.7),
    ("gradient", 7.3, 2.2, "add up\ngradients", "operation", 1.5),
    ("clip", 9.2, 2.2, "clip to\nnorm 1", "operation", 1.3),
    ("adamw", 11.4, 2.2, "AdamW, decay of\nmatrices only", "operation", 2.2),
    ("dropout", 5.3, 0.7, "dropout of\nthe seed", "parameter", 1.7),
    ("rate", 11.4, 0.7, "rate of step t:\nup, then down to 0", "parameter", 2.4),
):
    drawing.box(name, x, y, text, kind, width, 0.8)
for start, end in (
    ("order", "batches"), ("batches", "loss"), ("loss", "gradient"), ("gradient", "clip"), ("clip", "adamw"),
    ("dropout", "loss"), ("rate", "adamw"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "step")

# %% [markdown]
# ## Formula · 公式
#
# $$\mathcal{L} = \frac{\sum_{b} n_b \, \ell_b}{\sum_b n_b}, \qquad g \leftarrow g \cdot \min\left(1, \frac{c}{\|g\| + 10^{-6}}\right)$$
#
# $$\eta_t = \eta \cdot \min\left(\frac{t}{w}, \frac{T - t}{T - w}\right), \qquad t = 0, 1, \dots, T - 1$$
#
# $$\theta \leftarrow (1 - \eta_t \lambda) \, \theta - \eta_t \, \frac{\hat m}{\sqrt{\hat v} + \epsilon}$$

# %% [markdown] lang="en"
# - $b$: the batches of one optimizer step, `gradient_accumulation_steps` many; $n_b$: the labels in one; $\ell_b$: their mean loss.
# - $g$: the gradient of $\mathcal{L}$, all parameters as one vector; $c$: `max_grad_norm`, 1 by default.
# - $\eta$: `learning_rate`, $5 \cdot 10^{-5}$ by default; $\eta_t$: that of step $t$.
# - $w$: `warmup_steps`, 0 by default; $T$: all optimizer steps, over all epochs.
# - $\theta$: the weights; $\lambda$: `weight_decay`, 0 by default, and always 0 for biases and normalization.
# - $\hat m, \hat v$: AdamW's averages with $\beta_1 = 0.9$, $\beta_2 = 0.999$, $\epsilon = 10^{-8}$ (09/02).
#
# Not in a formula, but part of the result: dropout is on, its random numbers come from `seed`, and a `DataLoader` draws one
# random number at the start of each epoch.

# %% [markdown] lang="zh"
# - $b$：一个优化步里的批次，共 `gradient_accumulation_steps` 个；$n_b$：批次中的标签数；$\ell_b$：它们的平均损失。
# - $g$：$\mathcal{L}$ 的梯度，所有参数连成一个向量；$c$：`max_grad_norm`，默认 1。
# - $\eta$：`learning_rate`，默认 $5 \cdot 10^{-5}$；$\eta_t$：第 $t$ 步的学习率。
# - $w$：`warmup_steps`，默认 0；$T$：全部轮次的优化步总数。
# - $\theta$：权重；$\lambda$：`weight_decay`，默认 0；对偏置和归一化参数总是 0。
# - $\hat m, \hat v$：AdamW 的滑动平均，$\beta_1 = 0.9$、$\beta_2 = 0.999$、$\epsilon = 10^{-8}$（09/02）。
#
# 公式里没有、但影响结果的：dropout 是打开的，随机数来自 `seed`；`DataLoader` 在每轮开始时抽一个随机数。

# %% [markdown]
# ## Code · 代码

# %%
source(epoch_batches)
source(accumulate_gradients)
source(train_step)
source(fine_tune)

# %% [markdown] lang="en"
# The loop is model-agnostic: a model is called with a batch's tensors by name and returns something with a `loss`, as all
# of transformers' do. `accumulate_gradients` weighs each batch's mean by its labels, so that the gradient is that of one
# large batch. `layerwise_param_groups` (07/08) with one part makes `Trainer`'s two groups: matrices, which are decayed, and
# vectors, which are not. `Trainer` sorts by names (`bias`, `LayerNorm`); for BERT both ways give the same groups.
#
# `linear` is a function of progress $t / T$, and equals `get_linear_schedule_with_warmup`. `parts` and `layer_decay` are the
# one thing that `Trainer` has no setting for: a rate for each layer needs an optimizer of one's own there.

# %% [markdown] lang="zh"
# 循环与模型无关：按名字把批次的张量传给模型，模型返回带 `loss` 的结果，transformers 的模型都是如此。
# `accumulate_gradients` 按标签数给每个批次的平均加权，于是梯度与一个大批次的相同。
# `layerwise_param_groups`（07/08）只给一个部分时，正好得到 `Trainer` 的两组：衰减的矩阵和不衰减的向量。
# `Trainer` 按名字（`bias`、`LayerNorm`）区分；对 BERT 来说两种办法得到的组相同。
#
# `linear` 是进度 $t / T$ 的函数，等于 `get_linear_schedule_with_warmup`。`parts` 和 `layer_decay` 是 `Trainer` 唯一没有的设置：
# 在那里，每层一个学习率需要自己的优化器。

# %% [markdown]
# ## Experiment: step by step · 实验：逐步对照

# %% [markdown] lang="en"
# A small BERT with random weights and dropout learns from 46 sentences: 2 epochs, batches of 4, two of them to a step, the
# last of an epoch with 2 sentences only, 2 steps of warm-up, weight decay 0.5, gradients clipped to 0.5. Once with `Trainer`,
# once with our loop.
#
# Then our loop runs again with one ingredient missing or changed at a time. From which step on do the losses differ?

# %% [markdown] lang="zh"
# 一个随机权重、带 dropout 的小 BERT 学习 46 个句子：2 轮，每批 4 句，两批一步，每轮最后一批只有 2 句，
# 预热 2 步，权重衰减 0.5，梯度裁剪到 0.5。一次用 `Trainer`，一次用我们的循环。
#
# 然后再跑我们的循环，每次去掉或改变一样。损失从第几步起不同？

# %%
quiz(
    "warm-up",
    en="Without the two steps of warm-up, in which step (counted from 0) does the loss first differ?",
    zh="如果没有那两步预热，损失最早在第几步（从 0 数起）出现差别？",
)
quiz(
    "doubled",
    en="Trainer as it is, on transformers' BERT classifier, two batches to a step: how many times the true loss does it log?",
    zh="原样使用 Trainer 训练 transformers 的 BERT 分类器，两批一步：它记录的损失是真实损失的几倍？",
)

# %%
folder = asset("all-minilm-l6-v2")
real = folder is not None and find("sst2") is not None
reviews = data("sst2", "generated-reviews") if folder is not None else data("generated-reviews")
if folder is not None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
else:
    words = sorted({word for text in reviews.train.texts for word in text.split()})
    vocabulary = {w: n for n, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
encoded = [each.ids for each in tokenizer.encode_batch(list(reviews.train.texts[:3000]))]
SHORT = [n for n, ids in enumerate(encoded) if len(ids) <= 10]
EXAMPLES = [{"ids": encoded[n], "label": reviews.train.labels[n]} for n in SHORT[:46]]
CONFIG = TrainerConfig(
    learning_rate=2e-3, weight_decay=0.5, warmup_steps=2, max_grad_norm=0.5, num_train_epochs=2,
    per_device_train_batch_size=4, gradient_accumulation_steps=2, seed=7,
)  # fmt: skip


def pad(rows: list[list[int]], length: int | None = None) -> torch.Tensor:
    """Ids [rows, tokens], filled up with 0."""
    longest = length or max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    ids = pad([row["ids"] for row in rows])
    labels = torch.tensor([row["label"] for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def small_bert() -> transformers.BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    shape = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), **sizes, hidden_dropout_prob=0.1)
    return transformers.BertForSequenceClassification(shape)


def parts(model: transformers.BertForSequenceClassification) -> list[nn.Module]:
    """From the input to the output."""
    return [model.bert.embeddings, *model.bert.encoder.layer, nn.ModuleList([model.bert.pooler, model.classifier])]


def with_trainer(model: nn.Module, **options) -> list[dict[str, float]]:
    """Trains with transformers' Trainer, and returns what it has logged in each step."""
    settings = dataclasses.asdict(CONFIG)
    del settings["layer_decay"]
    with tempfile.TemporaryDirectory() as temporary:
        arguments = transformers.TrainingArguments(
            output_dir=temporary, logging_steps=1, save_strategy="no", disable_tqdm=True, use_cpu=True,
            remove_unused_columns=False, dataloader_pin_memory=False, **settings,
        )  # fmt: skip
        trainer = transformers.Trainer(model, arguments, train_dataset=EXAMPLES, data_collator=collate, **options)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [record for record in trainer.state.log_history if "grad_norm" in record]


def over_all_labels(outputs, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> torch.Tensor:
    """Mean loss over the labels of all batches of a step, to be added up over them."""
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


ours, theirs, untouched = small_bert(), small_bert(), small_bert()
steps = fine_tune(ours, EXAMPLES, collate, CONFIG)
logged = with_trainer(theirs, compute_loss_func=over_all_labels)
as_it_is = with_trainer(untouched)
table(
    ["step", "loss, ours", "Trainer's", "rate, ours", "Trainer's ", "norm, ours", "Trainer's  "],
    [
        (n, a.loss, float(b["loss"]), a.learning_rate, b["learning_rate"], a.grad_norm, float(b["grad_norm"]))
        for n, (a, b) in enumerate(zip(steps, logged, strict=True))
    ],
)
times = float(as_it_is[0]["loss"]) / steps[0].loss
settle("doubled", times)


def drawing_one_more(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Collates as always, but takes a random number from the stream that the dropout is drawn from."""
    torch.rand(())
    return collate(rows)


CHANGES = {
    "no warm-up": (EXAMPLES, collate, {"warmup_steps": 0}),
    "no clipping": (EXAMPLES, collate, {"max_grad_norm": 0.0}),
    "no weight decay": (EXAMPLES, collate, {"weight_decay": 0.0}),
    "the sentences in another order": (EXAMPLES[::-1], collate, {}),
    "one random number more a batch": (EXAMPLES, drawing_one_more, {}),
}
differences = {}
for change, (rows, collating, settings) in CHANGES.items():
    found = fine_tune(small_bert(), rows, collating, dataclasses.replace(CONFIG, **settings))
    differences[change] = [abs(a.loss - b.loss) for a, b in zip(found, steps, strict=True)]
differences["Trainer's loop, ours"] = [abs(a.loss - float(b["loss"])) for a, b in zip(steps, logged, strict=True)]
first = {name: next((n for n, d in enumerate(values) if d > 2e-6), None) for name, values in differences.items()}
settle("warm-up", first["no warm-up"])
table(
    ["what is changed", "first step that differs", "largest difference of the loss"],
    [
        (name, "none" if first[name] is None else first[name], f"{max(values):.1e}")
        for name, values in differences.items()
    ],
)

# %% [markdown] lang="en"
# Nothing is left over: with these few ingredients the loop follows `Trainer` to rounding, and each that is taken away is seen.
# Warm-up shows from step 1 only, because the loss of step 0 is computed before any update. The order and the dropout are
# seen at once: two runs with the same settings but another random stream are as different as two seeds.
#
# The comparison has also found something. `Trainer` as it is logs twice the true loss here. It sees that BERT's `forward`
# takes keyword arguments, hands over the number of labels, and trusts the model to divide by it; but BERT's classifier ignores
# it, and the means of the batches are added up. The gradient is doubled as well. AdamW hardly notices, since it divides by
# the gradient's size, but clipping does: it sets in at half the intended norm. (transformers 5.24, issue 47688; a
# `compute_loss_func`, as above, repairs it.)

# %% [markdown] lang="zh"
# 没有剩下任何秘密：有了这几样，循环与 `Trainer` 的差别只在舍入；去掉任何一样都看得出来。
# 预热的影响从第 1 步才出现，因为第 0 步的损失在更新之前就算好了。顺序和 dropout 立刻可见：
# 设置相同、随机数流不同的两次运行，差别与换一个种子一样大。
#
# 对照还发现了一件事：原样的 `Trainer` 在这里记录的损失是真实值的两倍。
# 它看到 BERT 的 `forward` 接受关键字参数，就把标签数交给模型，相信模型会除以它；可是 BERT 的分类器不理会，于是各批的平均被直接相加。
# 梯度也翻了倍。AdamW 几乎不受影响，因为它会除以梯度的大小；但裁剪受影响：实际在一半的范数就开始裁剪。
# （transformers 5.24，issue 47688；像上面那样传入 `compute_loss_func` 即可修正。）

# %% [markdown]
# ## Experiment: what is forgotten · 实验：忘了什么

# %% [markdown] lang="en"
# all-MiniLM-L6-v2 was made to find texts that belong together. From 100 longer reviews we take the first two thirds and the
# last two thirds: for how many of the beginnings is their own end the nearest of all 100? Then the encoder's last layer is
# fine-tuned on sentiment, 128 short sentences, each seen once, with our loop: at two rates, three seeds. The head has ten
# times the rate of the layer. After that we look for the ends again.
#
# If the pretrained weights are not on this machine, a small encoder with random weights takes their place, which has
# nothing to forget. Then the lesson claims nothing about it.

# %% [markdown] lang="zh"
# all-MiniLM-L6-v2 的本行是找出属于一起的文本。从 100 条较长的影评里各取前三分之二和后三分之二：
# 有多少个开头，在全部 100 个结尾中最近的正是自己的那一个？
# 然后用我们的循环在情感分类上微调编码器的最后一层：128 个短句各看一次，两种学习率，三个种子，分类头的学习率是该层的十倍。
# 之后再找一次结尾。
#
# 如果本机没有预训练权重，就用随机权重的小编码器代替，它没有什么可忘的，本课也不据此下结论。

# %%
SEEDS, RATES, COUNT, HELD_OUT, PAIRS = (0, 1, 2), (5e-4, 5e-3), 128, 200, 100
if folder is not None:
    encoder = load_pretrained(folder)
else:
    encoder = Bert(BertConfig(tokenizer.get_vocab_size(), 48, 6, 4, 96), pooler=False).eval()
    with torch.no_grad():  # a standard deviation of 0.02 is made for a width of 768
        for p in encoder.parameters():
            p.mul_(4.0 if p.ndim == 2 else 1.0)


@torch.no_grad()
def lower_layers(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """States after the five frozen layers [rows, tokens, dim], which never change, and the mask [rows, tokens]."""
    ids = pad(rows)
    x, mask = encoder.embeddings(ids), ids != 0
    for layer in encoder.encoder.layers[:-1]:
        x, _ = layer(x, mask[:, None, None])
    return x, mask


longer = sorted((ids for ids in encoded if len(ids) <= 24), key=len)[-PAIRS:]
ends = [[], []]
for row in longer:
    body, two_thirds = row[1:-1], len(row[1:-1]) * 2 // 3
    ends[0].append([row[0], *body[:two_thirds], row[-1]])
    ends[1].append([row[0], *body[-two_thirds:], row[-1]])
beginnings_and_ends = [lower_layers(side) for side in ends]
pool = SHORT[46 : 46 + HELD_OUT + 2 * COUNT]
states, mask = lower_layers([encoded[n] for n in pool])
answers = torch.tensor([reviews.train.labels[n] for n in pool])
test_rows, train_rows = slice(0, HELD_OUT), range(HELD_OUT, len(pool))


class Classifier(nn.Module):
    """The encoder's last layer with a new head; gives the loss as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = copy.deepcopy(encoder.encoder.layers[-1])
        self.head = nn.Linear(encoder.config.dim, 2)
        nn.init.normal_(self.head.weight, std=0.02)

    def features(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """One vector a text, [batch, dim]."""
        return mean_pool(self.layer(x, mask[:, None, None])[0], mask)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        logits = self.head(self.features(x, mask))
        return SimpleNamespace(logits=logits, loss=F.cross_entropy(logits, labels))


@torch.no_grad()
def found_ends(model: Classifier) -> float:
    """Share of beginnings whose own end is the nearest of all."""
    left, right = (F.normalize(model.eval().features(*half), dim=1) for half in beginnings_and_ends)
    return ((left @ right.T).argmax(dim=1) == torch.arange(len(left))).double().mean().item()


def batch_of(rows: list[int]) -> dict[str, torch.Tensor]:
    return {"x": states[rows], "mask": mask[rows], "labels": answers[rows]}


before = found_ends(Classifier())
accuracy, kept_ends, curves = {}, {}, {}
for rate in RATES:
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = Classifier()
        chosen = torch.randperm(len(train_rows), generator=torch.Generator().manual_seed(seed))[:COUNT] + HELD_OUT
        config = TrainerConfig(learning_rate=10 * rate, layer_decay=0.1, num_train_epochs=1, warmup_steps=2, seed=seed)
        curves[rate, seed] = [
            s.loss for s in fine_tune(model, chosen.tolist(), batch_of, config, [model.layer, model.head])
        ]
        with torch.no_grad():
            logits = model.eval()(states[test_rows], mask[test_rows], answers[test_rows]).logits
        accuracy[rate, seed] = (logits.argmax(dim=1) == answers[test_rows]).double().mean().item()
        kept_ends[rate, seed] = found_ends(model)
table(
    ["rate of the layer", *(f"seed {seed}: sentiment, ends" for seed in SEEDS)],
    [("not fine-tuned", *[f"–, {before:.2f}"] * len(SEEDS))]
    + [(rate, *(f"{accuracy[rate, seed]:.2f}, {kept_ends[rate, seed]:.2f}" for seed in SEEDS)) for rate in RATES],
)

figure, axes = plt.subplots(1, 3, figsize=(14, 4.2))
axes[0].plot([step.loss for step in steps], "o", label="our loop", markersize=9, fillstyle="none")
axes[0].plot([float(record["loss"]) for record in logged], "x", label="Trainer")
axes[0].plot([float(record["loss"]) for record in as_it_is], "k:", label="Trainer as it is")
axes[0].set(xlabel="optimizer step", ylabel="loss", title="Step by step")
axes[0].legend()
for (name, values), style in zip(differences.items(), ("o-", "s-", "^-", "v-", "d-", "k.--"), strict=True):
    axes[1].semilogy([max(value, 1e-9) for value in values], style, label=name, markersize=4)
axes[1].set(xlabel="optimizer step", ylabel="difference of the loss, at least 1e-9", title="One ingredient changed")
axes[1].set_ylim(3e-10, 30)
axes[1].legend(fontsize=7, loc="upper left", ncols=2)
for rate, marker in zip(RATES, "os", strict=True):
    axes[2].plot(
        [kept_ends[rate, s] for s in SEEDS],
        [accuracy[rate, s] for s in SEEDS],
        marker,
        markersize=9,
        label=f"rate {rate}",
    )
axes[2].axvline(before, color="black", linestyle=":", label="before")
axes[2].set(xlabel="ends found", ylabel="accuracy on sentiment", title="Learned and forgotten, three seeds")
axes[2].legend()
figure.tight_layout()
show(figure, "trainer")

# %% [markdown] lang="en"
# With the pretrained encoder, the small rate has learned something of sentiment, and lost nothing that this test can see. At
# the tenfold rate, 16 steps on sentiment wipe out more than half of what the encoder was made for, with every seed, and it
# does not know sentiment better for it. No sentence said that similarity does not matter any more; but none said that it
# does. Small rates and few steps are the cheapest protection; others are adapters beside frozen weights (11/08), mixing in
# old tasks, and pulling the weights back to where they started. Whoever needs both abilities measures both.

# %% [markdown] lang="zh"
# 对预训练编码器来说，小学习率学到了一些情感，而在这个测验能看到的范围内什么也没丢。
# 学习率放大十倍，在情感任务上走 16 步，就抹掉了编码器一大半的看家本领，每个种子都是如此，情感却没有学得更好。
# 没有一句话说过相似度不再重要，但也没有一句话说它重要。
# 最便宜的防护是学习率小、步数少；此外还有在冻结的权重旁边装适配器（11/08）、掺入旧任务、把权重拉回起点。
# 两种能力都要，就得两种都测。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The defaults of our `TrainerConfig` beside those of `TrainingArguments`; the parameters that `Trainer` decays; and rates that
# fall by half from layer to layer, which `Trainer` takes as an optimizer and a scheduler of one's own.

# %% [markdown] lang="zh"
# 我们的 `TrainerConfig` 与 `TrainingArguments` 的默认值；`Trainer` 对哪些参数做权重衰减；
# 以及逐层减半的学习率：`Trainer` 要自己传入优化器和调度器。

# %%
defaults = transformers.TrainingArguments(output_dir=tempfile.gettempdir())
named = [field for field in dataclasses.fields(TrainerConfig) if field.name != "layer_decay"]
table(
    ["setting", "ours", "TrainingArguments"],
    [(field.name, field.default, getattr(defaults, field.name)) for field in named]
    + [
        ("lr_scheduler_type", "linear", str(defaults.lr_scheduler_type.value)),
        ("optim", "AdamW", str(defaults.optim.value)),
    ],
)
model = small_bert()
decayed = {
    id(p) for group in layerwise_param_groups([model], 1.0, decay=1.0, weight_decay=0.1) if group["weight_decay"] for p in group["params"]
}  # fmt: skip
our_names = {name for name, p in model.named_parameters() if id(p) in decayed}
their_names = set(transformers.Trainer.get_decay_parameter_names(None, model))
print(f"  decayed: {len(our_names)} of {len(list(model.parameters()))} tensors")

layered, layered_theirs = small_bert(), small_bert()
layered_steps = fine_tune(layered, EXAMPLES, collate, dataclasses.replace(CONFIG, layer_decay=0.5), parts(layered))
optimizer = torch.optim.AdamW(layerwise_param_groups(parts(layered_theirs), 2e-3, decay=0.5, weight_decay=0.5))
total = CONFIG.num_train_epochs * CONFIG.steps_per_epoch(len(EXAMPLES))
scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 2, total)
layered_logged = with_trainer(layered_theirs, compute_loss_func=over_all_labels, optimizers=(optimizer, scheduler))


def all_weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the rate's multipliers", multipliers, [0, 0.5, 1, 0.75, 0.5, 0.25], 1e-12)
check_close("by hand: the clipped gradient", by_hand.grad, [0.6, 0.8], 1e-5)
check_close("the losses of all steps are Trainer's", [s.loss for s in steps], [float(r["loss"]) for r in logged], 1e-4)
check_close(
    "and the rates", [s.learning_rate for s in steps], [float(r["learning_rate"]) for r in logged], 1e-9
)  # fmt: skip
check_close(
    "and the norms of the gradients", [s.grad_norm for s in steps], [float(r["grad_norm"]) for r in logged], 1e-3
)
check_close("the trained weights are Trainer's", all_weights(ours), all_weights(theirs), 1e-4)
check_close("with a rate for each layer as well", all_weights(layered), all_weights(layered_theirs), 1e-4)
check("which are others than with one rate", (all_weights(layered) - all_weights(ours)).abs().max() > 1e-3)
check("the same parameters are decayed", our_names == their_names)
check("our defaults are those of TrainingArguments", all(getattr(defaults, f.name) == f.default for f in named))
check("each ingredient is needed", all(first[name] is not None for name in CHANGES))
check("order and dropout are seen at once, the others from the first step that changes something on", (
    first["the sentences in another order"] == 0
    and first["one random number more a batch"] == 0
    and min(first[name] for name in ("no warm-up", "no clipping", "no weight decay")) > 0
))  # fmt: skip
if real:
    check("before fine-tuning most ends are found", before > 0.6)
    check(
        "the small rate keeps nine in ten of them, with every seed",
        min(kept_ends[5e-4, s] for s in SEEDS) > 0.9 * before,
    )
    check("the tenfold rate loses half of them, with every seed", max(kept_ends[5e-3, s] for s in SEEDS) < 0.5 * before)
    check(
        "and is not better at sentiment, on average",
        sum(accuracy[5e-3, s] for s in SEEDS) < sum(accuracy[5e-4, s] for s in SEEDS),
    )
    check("the small rate has learned, with every seed", min(accuracy[5e-4, s] for s in SEEDS) > 0.55)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `uv run --package sentiment-bert train` fine-tunes with a loop like this one, with checkpoints and resuming around it; compare
# its `train.py`. Use `Trainer` where its hundred settings save work (several GPUs, half precision, checkpoints to the hub), and a
# loop of your own where you must know what happens.
#
# Papers and sources: [Trainer](https://github.com/huggingface/transformers/blob/main/src/transformers/trainer.py), its
# `_run_epoch` and `training_step`; [issue 47688](https://github.com/huggingface/transformers/issues/47688), the doubled loss;
# [Dodge et al. 2020](https://arxiv.org/abs/2002.06305), what the seeds of order and head decide; [Mosbach et al.
# 2021](https://arxiv.org/abs/2006.04884), small rates with warm-up, and more steps; [Kirkpatrick et al.
# 2017](https://arxiv.org/abs/1612.00796), catastrophic forgetting. Next: LoRA, 11/08.

# %% [markdown] lang="zh"
# `uv run --package sentiment-bert train` 用的就是这样的循环，外面再加检查点和恢复；可以对照它的 `train.py`。
# 需要 `Trainer` 那一百个设置省事时（多 GPU、半精度、检查点上传）用它，必须清楚发生了什么时，用自己的循环。
#
# 论文与来源：[Trainer](https://github.com/huggingface/transformers/blob/main/src/transformers/trainer.py)，
# 看它的 `_run_epoch` 和 `training_step`；
# [issue 47688](https://github.com/huggingface/transformers/issues/47688)，翻倍的损失；
# [Dodge 等 2020](https://arxiv.org/abs/2002.06305)，顺序和分类头的种子决定多少；
# [Mosbach 等 2021](https://arxiv.org/abs/2006.04884)，小学习率加预热，多走几步；
# [Kirkpatrick 等 2017](https://arxiv.org/abs/1612.00796)，灾难性遗忘。下一课：LoRA，11/08。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write the loop yourself: `uv run lesson exercise 11/07` makes a file with the signatures, `uv run lesson check 11/07` judges it
# on a model of its own.

# %% [markdown] lang="zh"
# 自己写这个循环：`uv run lesson exercise 11/07` 生成带有签名的文件，
# `uv run lesson check 11/07` 用另外的模型评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `epoch_batches`: `torch.randperm` with a generator of its own, seeded with `seed + epoch`; then slices.
# 2. `accumulate_gradients`: count the labels of all batches first. Each batch's loss times its share of the labels is
#    what `backward` is called on; gradients add up by themselves.
# 3. `train_step`: accumulate, clip all gradients as one vector (`math.inf` if there is no limit), step, set the gradients to
#    zero. The norm is the one before clipping.
# 4. `fine_tune`: the rate of step $t$ is set before the step, with progress $t / T$. Seed once, before the first epoch.

# %% [markdown] lang="zh"
# 1. `epoch_batches`：`torch.randperm` 配一个自己的发生器，种子是 `seed + epoch`；然后切片。
# 2. `accumulate_gradients`：先数所有批次的标签。每批的损失乘以它占标签的份额，再调用 `backward`；梯度会自己累加。
# 3. `train_step`：累积，把所有梯度当作一个向量裁剪（没有上限时用 `math.inf`），更新，梯度清零。返回的是裁剪前的范数。
# 4. `fine_tune`：第 $t$ 步的学习率在这一步之前设好，进度为 $t / T$。只在第一轮之前设一次种子。


# %%
@exercise(epoch_batches, accumulate_gradients, train_step, fine_tune)
def judge(yours, reference):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            self.body, self.dropout, self.head = nn.Linear(4, 6), nn.Dropout(0.2), nn.Linear(6, 3)

        def forward(self, x, labels):
            logits = self.head(self.dropout(torch.tanh(self.body(x))))
            return SimpleNamespace(logits=logits, loss=F.cross_entropy(logits, labels))

    generator = torch.Generator().manual_seed(6)
    features, labels = torch.randn(11, 4, generator=generator), torch.randint(0, 3, (11,), generator=generator)

    def collate(rows):
        return {"x": features[rows], "labels": labels[rows]}

    config = reference.TrainerConfig(
        learning_rate=0.02, weight_decay=0.3, warmup_steps=2, max_grad_norm=0.2, num_train_epochs=3,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, seed=3,
    )  # fmt: skip
    mine = yours.epoch_batches(11, 1, config)
    check(
        "an epoch's batches hold each index once", sorted(index for batch in mine for index in batch) == list(range(11))
    )
    check("sizes of the batches", [len(batch) for batch in mine] == [2, 2, 2, 2, 2, 1])
    check("the order of the epoch", mine == reference.epoch_batches(11, 1, config))

    batches = [collate([0, 1, 2]), collate([3]), collate([4, 5])]
    batches[2]["labels"] = torch.tensor([-100, 1])
    models = Model().eval(), Model().eval()
    values = [
        module.accumulate_gradients(model, batches) for module, model in zip((yours, reference), models, strict=True)
    ]
    check_close("the mean loss over all labels, those of -100 left out", *values)
    for (name, p), q in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        check_close(f"the accumulated gradient of {name}", p.grad, q.grad)

    for limit in (0.2, 0.0):
        models, found = (Model().eval(), Model().eval()), []
        for module, model in zip((yours, reference), models, strict=True):
            # Unlike AdamW's, a step of SGD shows the gradient's size.
            optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
            found.append(module.train_step(model, batches, optimizer, dataclasses.replace(config, max_grad_norm=limit)))
        case = f"max_grad_norm {limit}"
        check_close(f"{case}: loss and norm before clipping", *found)
        for (name, p), q in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            check_close(f"{case}: {name} after the step", p, q)
        check(
            f"{case}: no gradient is left over", all(p.grad is None or not p.grad.any() for p in models[0].parameters())
        )

    for case, changed, layered in (
        ("one rate", config, False),
        ("layers", dataclasses.replace(config, layer_decay=0.5), True),
    ):
        models, records = (Model(), Model()), []
        for module, model in zip((yours, reference), models, strict=True):
            torch.manual_seed(0 if module is yours else 1)
            split = [model.body, model.head] if layered else None
            records.append(module.fine_tune(model, list(range(11)), collate, changed, split))
        check(f"{case}: the number of optimizer steps", len(records[0]) == 9)
        for field in ("learning_rate", "loss", "grad_norm"):
            check_close(f"{case}: {field} of all steps", *([getattr(s, field) for s in record] for record in records))
        for (name, p), q in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            check_close(f"{case}: {name} at the end", p, q)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Which defaults of TrainingArguments would you always look at? · TrainingArguments 的哪些默认值必须看？

# %% [markdown] lang="en"
# `learning_rate` 5e-5 with a linear decay to zero over all epochs, so that the number of epochs changes every step's rate;
# `warmup_steps` 0; `weight_decay` 0; `max_grad_norm` 1, so that gradients *are* clipped; `num_train_epochs` 3 and a batch of 8
# for each device, so that more GPUs mean a larger batch; no evaluation; a checkpoint every 500 steps; `seed` 42. Dropout comes
# from the model's config.

# %% [markdown] lang="zh"
# `learning_rate` 为 5e-5，在全部轮次上线性降到零，所以改轮数会改变每一步的学习率；`warmup_steps` 为 0；`weight_decay` 为 0；
# `max_grad_norm` 为 1，即默认就裁剪梯度；`num_train_epochs` 为 3，每个设备批大小 8，GPU 越多总批次越大；
# 默认不做评估；每 500 步存一次检查点；`seed` 为 42。dropout 由模型的 config 决定。

# %%
for name in ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm", "num_train_epochs", "seed"):
    print(f"  {name}: {getattr(defaults, name)}")

# %% [markdown]
# ### Why are biases and LayerNorm not decayed? · 为什么偏置和 LayerNorm 不做权重衰减？

# %% [markdown] lang="en"
# Decay limits the size of matrices, which multiply features and can overfit. A bias only shifts; a normalization's gain sets
# the scale of its output, and pulling it to zero shrinks the features instead of simplifying the function. There are few of
# them, so they hardly overfit. Whether it matters depends on $\eta \lambda T$: in a short fine-tuning with $\lambda = 0.01$ it is far
# too small to be seen.

# %% [markdown] lang="zh"
# 衰减限制的是矩阵的大小，它们与特征相乘，可能过拟合。偏置只是平移；归一化的增益决定输出的尺度，
# 把它拉向零只会缩小特征，而不会使函数更简单。这些参数很少，几乎不会过拟合。
# 影响大小取决于 $\eta \lambda T$：短暂的微调取 $\lambda = 0.01$ 时小得看不出来。

# %%
print(f"  largest change of a loss without any weight decay: {max(differences['no weight decay']):.1e}")
print(f"  share of a weight that 1,000 steps at 5e-5 with decay 0.01 remove: {1 - (1 - 5e-5 * 0.01) ** 1000:.4f}")

# %% [markdown]
# ### Gradient accumulation gives another result than a large batch. Why? · 梯度累积与大批次结果不同，为什么？

# %% [markdown] lang="en"
# In exact arithmetic they are equal if the loss is divided by the number of labels of *all* batches. Common faults: the mean of
# the batches' means where batches have different numbers of labels, as in language models with padding; no division at all, as
# found above; clipping each batch instead of the sum. Real differences: dropout masks are drawn in another order, batch
# normalization sees small batches, sums are rounded differently.

# %% [markdown] lang="zh"
# 若损失除以*所有*批次的标签总数，数学上两者相等。常见毛病：各批标签数不同（如带填充的语言模型）时取平均的平均；
# 根本没有除，如上面所发现的；对每个批次而不是对总和裁剪。真实的差别：dropout 掩码的抽取次序不同，
# 批归一化看到的是小批次，求和的舍入不同。

# %%
print(f"  Trainer as it is: {times:.3f} times the loss of step 0; true mean {steps[0].loss:.4f}")

# %% [markdown]
# ### Same seed, same code, other losses: where do you look? · 同样的种子和代码，损失却不同，查哪里？

# %% [markdown] lang="en"
# At the first step that differs. At step 0: other weights (a new head drawn at another point of the random stream), other
# data order, other tokenization or padding, dropout. From step 1 on: rate, schedule, clipping, weight decay, loss scaling.
# Slowly growing from $10^{-7}$: rounding, from another kernel, number of threads or precision. To separate them, switch
# dropout off, fix the order, and compare loss, gradient norm and rate of each step.

# %% [markdown] lang="zh"
# 看最早不同的那一步。第 0 步就不同：权重不同（新分类头在随机数流的另一处抽取）、数据顺序、分词或填充、dropout。
# 从第 1 步起：学习率、调度、裁剪、权重衰减、损失的缩放。从 $10^{-7}$ 慢慢变大：舍入，来自不同的内核、线程数或精度。
# 要分开它们，就关掉 dropout、固定顺序，再逐步比较损失、梯度范数和学习率。

# %%
table(["what is changed", "first step that differs"], [(name, str(n)) for name, n in first.items()])

# %% [markdown]
# ### What is catastrophic forgetting, and what helps? · 什么是灾难性遗忘，怎样缓解？

# %% [markdown] lang="en"
# Training on a new task overwrites what the weights held for old ones, because no gradient speaks for them any more. It grows
# with the rate and the number of steps. What helps: a smaller rate, fewer steps, freezing, adapters; mixing in old data or
# data like it; a penalty for moving away from the start (L2-SP, EWC). Always measure the old ability: the new task's
# validation loss does not show it.

# %% [markdown] lang="zh"
# 训练新任务会覆盖权重中为旧任务保存的内容，因为不再有梯度为它们说话。学习率越大、步数越多，忘得越多。
# 缓解办法：小学习率、少走几步、冻结、适配器；掺入旧数据或类似的数据；惩罚偏离起点（L2-SP、EWC）。
# 一定要测旧能力：新任务的验证损失看不出来。

# %%
print(f"  ends found before: {before:.2f}")
for rate in RATES:
    print(f"  after fine-tuning at {rate}: {', '.join(f'{kept_ends[rate, seed]:.2f}' for seed in SEEDS)}")

# %% [markdown]
# ### When do you write the loop yourself? · 什么时候自己写循环？

# %% [markdown] lang="en"
# When the step itself is unusual (several losses or models, a second forward pass, replay), when you must reproduce a paper
# exactly, or when you teach. A loop is some forty lines; what costs work is around it: checkpoints that restore order and random
# numbers, mixed precision, several devices, logging. For these, take a library that leaves the loop in sight, such as
# accelerate, on which `Trainer` itself stands.

# %% [markdown] lang="zh"
# 步骤本身特殊（多个损失或模型、第二次前向、重放）、必须精确复现论文，或者教学的时候。
# 循环只有四十行左右，费工夫的是周围：能恢复顺序和随机数的检查点、混合精度、多设备、日志。
# 这些可以交给让循环留在眼前的库，比如 accelerate，`Trainer` 本身就建立在它上面。

# %%
print(f"  {CONFIG.num_train_epochs} epochs of {CONFIG.steps_per_epoch(len(EXAMPLES))} steps: {len(steps)} records")
print(f"  clipping without a limit is clipping to {math.inf}")
