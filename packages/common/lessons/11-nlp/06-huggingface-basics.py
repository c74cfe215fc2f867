# %% [markdown]
# # Hugging Face basics · Hugging Face 基础

# %% [markdown] lang="en"
# After this lesson you know what happens between a text and an answer in `transformers` (tokenizer, batch, model, pipeline)
# well enough to do it by hand, where its files lie and how to work offline or from a mirror, which files may run code on
# your machine, and why a sentence can get another vector in company than alone. You need BERT (07/07) and saving models
# (03/10).

# %% [markdown] lang="zh"
# 学完本课，你清楚 `transformers` 从文本到答案之间发生的事（分词器、批次、模型、流水线），能自己手工做一遍；
# 知道它的文件放在哪里，怎样离线或用镜像工作，哪些文件会在你的机器上执行代码，以及为什么同一句话单独算和放在批里算向量会不同。
# 先修：BERT（07/07）、模型的保存与加载（03/10）。

# %%
import hashlib
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import torch
import transformers
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, seconds, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.nlp.hub_cache import cached_commit, cached_file
from dlcommon.nlp.text_batches import batches_by_length, pad_batch, padded_share, sentence_vectors, truncate_pair
from dlcommon.transformer.bert import Bert, BertConfig, mean_pool
from dlcommon.transformer.bert_weights import load_pretrained, load_transformers_weights
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Three lines from a model's page give an answer, and nobody knows how: `pipeline("text-classification")("…")`. Then it has to
# run on a server without internet, and hangs. Next week the same name gives other answers, because the repository behind
# it has changed. A batch of 32 sentences gives other vectors than the sentences one by one. And a colleague sends a
# folder with a file `pytorch_model.bin` and the advice to set `trust_remote_code=True`.
#
# Each of these has a plain cause in one of four parts: the tokenizer, the batch, the model's files, the cache. This lesson
# takes the pipeline apart, builds each part by hand, and holds it against the library.

# %% [markdown] lang="zh"
# 模型主页上的三行代码就能给出答案，却没人知道是怎么来的：`pipeline("text-classification")("…")`。
# 然后要放到没有外网的服务器上，它就卡住了。下周同一个名字给出不同的答案，因为背后的仓库变了。
# 32 句一批算出的向量与逐句算出的不同。同事发来一个文件夹，里面有 `pytorch_model.bin`，还建议设 `trust_remote_code=True`。
#
# 每件事都有简单的原因，就在这四个部分之一：分词器、批次、模型文件、缓存。
# 本课把流水线拆开，每个部分手工做一遍，再与库对照。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# **Mean.** A text has two tokens with the features $(1, 2)$ and $(3, 4)$; the batch has three columns, and the third holds
# padding, for which the network has computed something as well, say $(9, 9)$. With the mask $(1, 1, 0)$ the mean is $(2, 3)$;
# without, $(4.33, 5)$.
#
# **Padding.** Four texts of 3, 9, 4 and 8 tokens, two in a batch. In this order the batches have $2 \cdot 9 + 2 \cdot 8 = 34$
# places for 24 tokens: 29 % is padding. Sorted by length, $2 \cdot 4 + 2 \cdot 9 = 26$ places: 8 %.
#
# **Truncation.** A question of 4 and a passage of 9 tokens into 10 places: the longer one is cut, 4 and 6. Into 6 places: both,
# 3 and 3.
#
# **Cache.** The file `config.json` of the model `course/tiny` at commit `1111…` is found at
# `models--course--tiny/snapshots/1111…/config.json`; the branch `main` is a small file `refs/main` that holds the commit.

# %% [markdown] lang="zh"
# **平均。** 一段文本有两个词元，特征为 $(1, 2)$ 和 $(3, 4)$；批次有三列，第三列是填充，网络对它也算出了东西，比如 $(9, 9)$。
# 用掩码 $(1, 1, 0)$，平均是 $(2, 3)$；不用掩码则是 $(4.33, 5)$。
#
# **填充。** 四段文本各 3、9、4、8 个词元，两段一批。按这个顺序，批次共有 $2 \cdot 9 + 2 \cdot 8 = 34$ 个位置，
# 只放 24 个词元：29 % 是填充。按长度排序后是 $2 \cdot 4 + 2 \cdot 9 = 26$ 个位置：8 %。
#
# **截断。** 4 个词元的问题和 9 个词元的段落放进 10 个位置：截较长的，剩 4 和 6。放进 6 个位置：两边都截，3 和 3。
#
# **缓存。** 模型 `course/tiny` 在提交 `1111…` 的文件 `config.json` 位于 `models--course--tiny/snapshots/1111…/config.json`；
# 分支 `main` 是一个小文件 `refs/main`，里面写着提交号。

# %%
two_tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])  # [1 text, 3 tokens, dim 2]
with_mask, without_mask = mean_pool(two_tokens, torch.tensor([[1, 1, 0]]))[0], mean_pool(two_tokens)[0]
print(f"  mean with mask {with_mask.tolist()}, without {[round(value, 2) for value in without_mask.tolist()]}")
four_texts = [3, 9, 4, 8]
in_order, by_length = [[0, 1], [2, 3]], batches_by_length(four_texts, 2)
table(
    ["batches", "texts", "share of padding"],
    [
        (name, str(each), padded_share(four_texts, each))
        for name, each in (("in order", in_order), ("by length", by_length))
    ],
)
fits = [tuple(len(part) for part in truncate_pair([0] * 4, [0] * 9, room)) for room in (10, 6)]
print(f"  4 and 9 tokens into 10 places: {fits[0]}; into 6: {fits[1]}")

drawing = Schematic(13.4, 5.0, "A pipeline, and the cache that it is loaded from")
for name, x, y, text, kind, width in (
    ("text", 1.1, 4.2, "texts", "data", 1.2),
    ("tokenizer", 3.2, 4.2, "tokenizer:\npieces, ids", "operation", 1.8),
    ("batch", 5.6, 4.2, "pad_batch:\nids, mask", "operation", 1.8),
    ("model", 8.0, 4.2, "model:\nfeatures, logits", "parameter", 2.0),
    ("post", 10.5, 4.2, "softmax, labels\nor masked mean", "operation", 2.0),
    ("answer", 12.6, 4.2, "answers", "data", 1.2),
    ("refs", 1.6, 1.0, "refs/main:\na commit", "data", 1.7),
    ("snapshot", 4.8, 1.0, "snapshots/<commit>/\nconfig.json, model.safetensors, …", "data", 4.0),
    ("blobs", 9.0, 1.0, "blobs/<checksum>:\neach content once", "data", 2.6),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.6)
for start, end in (
    ("text", "tokenizer"), ("tokenizer", "batch"), ("batch", "model"), ("model", "post"), ("post", "answer"),
    ("refs", "snapshot"), ("snapshot", "blobs"), ("snapshot", "tokenizer"), ("snapshot", "model"),
):  # fmt: skip
    drawing.arrow(start, end)
show(drawing.figure, "pipeline")

# %% [markdown]
# ## Formula · 公式
#
# $$A_{ij} = \frac{\exp(q_i^\top k_j / \sqrt d)\, m_j}{\sum_l \exp(q_i^\top k_l / \sqrt d)\, m_l}, \qquad \bar h = \frac{\sum_i m_i h_i}{\sum_i m_i}, \qquad u = \frac{\bar h}{\lVert \bar h \rVert}$$
#
# $$\mathrm{waste} = 1 - \frac{\sum_t n_t}{\sum_b |b| \max_{t \in b} n_t}$$
#
# $$(n_1, n_2) \to (\min(n_1, \lfloor M/2 \rfloor),\; \min(n_2, M - n_1')) \quad \text{for } n_1 \le n_2$$

# %% [markdown] lang="en"
# - $m_i$: the attention mask, 1 for a token, 0 for padding. It is needed twice: in each attention, where a masked key gets
#   no weight, and in the mean.
# - $q_i, k_j$: query and key of a head, `[head_dim]`; $d$: its width; $A_{ij}$: how much token $i$ attends to token $j$.
# - $h_i$: the features of token $i$ after the last layer, `[dim]`; $\bar h$: their mean; $u$: the sentence vector, of length 1
#   (Reimers & Gurevych 2019, section 3), so that $u^\top u'$ is the cosine of two sentences.
# - $n_t$: the number of tokens of text $t$; $b$: a batch, $|b|$: its number of texts.
# - $M$: room for two texts together, special tokens taken off; $n_1 \le n_2$: their lengths; $n_1'$: the shorter one's length
#   after the cut (strategy `longest_first`).

# %% [markdown] lang="zh"
# - $m_i$：注意力掩码，词元为 1，填充为 0。它用在两处：每个注意力里，被掩的键没有权重；以及求平均时。
# - $q_i, k_j$：一个头的查询和键，`[head_dim]`；$d$：它的宽度；$A_{ij}$：词元 $i$ 对词元 $j$ 的注意力。
# - $h_i$：最后一层之后词元 $i$ 的特征，`[dim]`；$\bar h$：它们的平均；
#   $u$：长度为 1 的句向量（Reimers 与 Gurevych 2019，第 3 节），于是 $u^\top u'$ 就是两句的余弦。
# - $n_t$：文本 $t$ 的词元数；$b$：一个批次，$|b|$：其中的文本数。
# - $M$：两段文本合起来的位置数（已扣除特殊词元）；$n_1 \le n_2$：它们的长度；$n_1'$：较短者截断后的长度（策略 `longest_first`）。

# %% [markdown]
# ## Code · 代码

# %%
source(truncate_pair)
source(pad_batch)
source(sentence_vectors)
source(cached_file)

# %% [markdown] lang="en"
# `pad_batch` is what a *collator* does: it makes a rectangle `[batch, tokens]` of rows of different lengths, as wide as the
# longest row of this batch. Padding all texts to the model's limit instead (`padding="max_length"`) computes mostly
# nothing. The mask says which places are real; nothing else does, since the padding's id is a token like any other.
#
# `truncate_pair` keeps the shorter text whole if it needs at most half of the room. `sentence_vectors` is the recipe of
# all-MiniLM-L6-v2's page in two lines. `cached_file` reads two small things: which commit the branch was, and whether the
# file lies in that commit's folder. Nothing is asked of the network.

# %% [markdown] lang="zh"
# `pad_batch` 就是*整理器*（collator）做的事：把长短不一的行变成矩形 `[batch, tokens]`，宽度等于这一批里最长的行。
# 如果把所有文本都填充到模型的上限（`padding="max_length"`），大部分计算都是白费。
# 掩码说明哪些位置是真的；别的什么都说明不了，因为填充的编号与其他词元没有两样。
#
# `truncate_pair` 在较短文本不超过一半位置时完整保留它。`sentence_vectors` 用两行写出了 all-MiniLM-L6-v2 主页上的做法。
# `cached_file` 只读两样小东西：分支对应哪个提交，文件在不在那个提交的文件夹里。完全不访问网络。

# %% [markdown]
# ## Experiment: from text to ids · 实验：从文本到编号

# %% [markdown] lang="en"
# A tokenizer is four steps: normalize (lower case, accents), split into words, split words into pieces of a vocabulary, add
# special tokens. It is a part of the model: with another vocabulary, every id means something else. Here a small WordPiece
# vocabulary is trained on film reviews, and a BERT of two layers with random weights comes with it; they are all that the
# parts on files, cache and pipeline need. Where all-MiniLM-L6-v2 is at hand, its tokenizer stands beside it, and its
# weights serve the experiments on padding; else the small BERT takes its place there too.

# %% [markdown] lang="zh"
# 分词器有四步：规范化（小写、去重音符号），切成单词，把单词切成词表里的片段，加上特殊词元。
# 它是模型的一部分：换一个词表，每个编号的含义都变了。这里在影评上训练一个小的 WordPiece 词表，配一个随机权重的两层 BERT；
# 文件、缓存和流水线几部分只需要它们。如果本机有 all-MiniLM-L6-v2，就把它的分词器摆在旁边，并用它的权重做填充实验；
# 否则那里也用这个小 BERT 代替。

# %%
quiz(
    "neighbors",
    en="64 sentences are encoded in one batch and the mask is forgotten everywhere. How many get another nearest neighbor?",
    zh="64 个句子放在一批里编码，完全忘了掩码。有多少句的最近邻会改变？",
)
quiz(
    "waste",
    en="Film reviews in random order, 32 in a batch, each batch as wide as its longest: what share of the places is padding?",
    zh="影评随机排列，32 句一批，每批宽度等于其中最长的一句：有多大比例的位置是填充？",
)
quiz(
    "blobs",
    en="Two commits of a model differ in its weights only. Its snapshots hold 2 × 3 files; how many contents are stored?",
    zh="一个模型的两次提交只有权重不同。快照里共有 2 × 3 个文件，实际存了几份内容？",
)

# %%
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
datasets.disable_progress_bars()
temporary = tempfile.TemporaryDirectory()
work = Path(temporary.name)
reviews = data("sst2", "generated-reviews")
texts = list(reviews.train.texts[:2000])
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
trained = Tokenizer(models.WordPiece(unk_token="[UNK]"))
trained.normalizer, trained.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
trained.train_from_iterator(
    texts, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
)
texts = [text for text in texts if len(trained.encode(text)) <= 62]  # with two special tokens, what the model can read
trained.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
tiny_tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=trained,
    pad_token="[PAD]",
    unk_token="[UNK]",
    cls_token="[CLS]",
    sep_token="[SEP]",
    mask_token="[MASK]",
    model_max_length=64,
)
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
tiny_config = transformers.BertConfig(
    vocab_size=len(tiny_tokenizer),
    max_position_embeddings=64,
    initializer_range=0.3,
    id2label={0: "negative", 1: "positive"},
    label2id={"negative": 0, "positive": 1},
    **SIZES,
)
tiny_model = transformers.BertForSequenceClassification(tiny_config).eval()
folder = asset("all-minilm-l6-v2")
if folder is not None:
    tokenizer, encoder = transformers.AutoTokenizer.from_pretrained(folder), load_pretrained(folder)
else:
    tokenizer = tiny_tokenizer
    encoder = Bert(BertConfig(len(tiny_tokenizer), 32, 2, 4, 64, max_tokens=64), pooler=False).eval()
    load_transformers_weights(
        encoder,
        {name: t for name, t in tiny_model.state_dict().items() if name.startswith("bert.") and "pooler" not in name},
    )
shown = "The actors are unbelievably good. 演员很好"
for name, each in (("trained here", tiny_tokenizer), ("all-MiniLM-L6-v2", tokenizer))[: 1 + (folder is not None)]:
    encoded = each(shown, return_offsets_mapping=True)
    pieces = each.convert_ids_to_tokens(encoded["input_ids"])
    print(f"  {name}, {len(each):,} pieces: {' '.join(pieces)}")
    print(
        f"    ids {encoded['input_ids'][:6]} …; '{pieces[3]}' stands at the characters {encoded['offset_mapping'][3]}"
    )
    print(f"    decoded: {each.decode(encoded['input_ids'], skip_special_tokens=True)}")

# %% [markdown] lang="en"
# Upper case and the exact spaces are gone for good: decoding gives a text, not the text; whoever needs the original takes
# the offsets. An English vocabulary has hardly any Chinese characters, and what it lacks becomes `[UNK]`: the model cannot
# even see which character it was. The library says nothing about it. Count `[UNK]` before you use a model on another
# language.

# %% [markdown] lang="zh"
# 大小写和原来的空格再也找不回来：解码给出*一段*文本，而不是原文；需要原文就用偏移量。
# 英文词表里几乎没有汉字，缺的都变成 `[UNK]`：模型连是哪个字都看不见，而库对此一声不吭。把模型用到另一种语言之前，先数一数 `[UNK]`。

# %% [markdown]
# ## Experiment: alone and in company · 实验：单独与成批

# %% [markdown] lang="en"
# 64 sentences of different lengths are encoded alone, which needs no padding and is right by definition, and then all in
# one batch in five ways: as it should be; without a mask in the mean; without one in the attention; without any; and padded
# on the left, with a mask. For each way: the largest distance of a sentence vector from the right one, and how many
# sentences get another nearest neighbor. And 2,000 reviews in batches of 32, in random order and by length.

# %% [markdown] lang="zh"
# 64 个长短不一的句子先逐句编码，不需要填充，结果按定义就是对的；再放进一个批次，用五种做法：正确的做法；求平均时不用掩码；
# 注意力里不用掩码；都不用；填充放在左边（用掩码）。每种做法看句向量与正确结果的最大距离，以及多少句的最近邻变了。
# 另外把 2,000 条影评按 32 句分批，比较随机次序与按长度排列。

# %%
some = texts[:64]
rows = [tokenizer(text)["input_ids"] for text in some]
pad_id = tokenizer.pad_token_id
with torch.no_grad():
    alone = torch.cat(
        [sentence_vectors(encoder(ids), mask) for ids, mask in (pad_batch([row], pad_id) for row in rows)]
    )
    ids, mask = pad_batch(rows, pad_id)
    left_ids, left_mask = pad_batch(rows, pad_id, side="left")
    everything = torch.ones_like(mask)
    ways = {
        "masked everywhere": sentence_vectors(encoder(ids, mask), mask),
        "no mask in the mean": sentence_vectors(encoder(ids, mask), everything),
        "no mask in the attention": sentence_vectors(encoder(ids), mask),
        "no mask at all": sentence_vectors(encoder(ids), everything),
        "padded on the left, masked": sentence_vectors(encoder(left_ids, left_mask), left_mask),
    }


def nearest(vectors: torch.Tensor) -> torch.Tensor:
    """The most similar other sentence of each, [sentences]."""
    return (vectors @ vectors.T).fill_diagonal_(-2).argmax(dim=1)


error = {name: (vectors - alone).norm(dim=1).max().item() for name, vectors in ways.items()}
moved = {name: int((nearest(vectors) != nearest(alone)).sum()) for name, vectors in ways.items()}
table(
    ["64 sentences in one batch", "largest distance from the vector alone", "another nearest neighbor"],
    [(name, error[name], f"{moved[name]} of 64") for name in ways],
)
settle("neighbors", moved["no mask at all"], tolerance=0.3)

lengths = [len(row) for row in tokenizer(texts)["input_ids"]]
shuffled = random.Random(0).sample(range(len(texts)), len(texts))
BATCHES = {
    "all padded to 128": None,
    "random order": [shuffled[at : at + 32] for at in range(0, len(shuffled), 32)],
    "by length": batches_by_length(lengths, 32),
}
waste = {
    name: 1 - sum(lengths) / (128 * len(lengths)) if batches is None else padded_share(lengths, batches)
    for name, batches in BATCHES.items()
}
table(
    ["batches of 32", "share of padding", "places computed for each token"],
    [(n, w, 1 / (1 - w)) for n, w in waste.items()],
)
settle("waste", waste["random order"], tolerance=0.2)
long_text = " ".join(texts[:20])
full, cut = (len(tiny_tokenizer(long_text, truncation=choice, verbose=False)["input_ids"]) for choice in (False, True))
try:
    with torch.no_grad():
        tiny_model(**tiny_tokenizer(long_text, return_tensors="pt", verbose=False))
    refused = ""
except (RuntimeError, IndexError, ValueError) as failure:
    refused = f"{type(failure).__name__}: {str(failure).splitlines()[0][:80]}"
print(f"  a text of {full} tokens for a model with 64 positions: {refused or 'accepted'}")
print(f"  with truncation=True: {cut} tokens, without a word about the {full - cut} that are lost")

figure, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
axes[0].barh(list(error), [max(value, 1e-8) for value in error.values()], color="0.8", edgecolor="black")
axes[0].invert_yaxis()
axes[0].set(xscale="log", xlabel="distance from the vector alone", title="The same sentences in one batch")
axes[1].hist(lengths, bins=range(0, max(lengths) + 3, 2), color="0.8", edgecolor="black")
axes[1].set(xlabel="tokens", ylabel="reviews", title="Lengths")
axes[2].bar(list(waste), [100 * value for value in waste.values()], color="0.8", edgecolor="black")
axes[2].set(ylabel="share of padding, %", title="What is computed for nothing", ylim=(0, 100))
show(figure, "batches")

# %% [markdown] lang="en"
# With both masks, company changes nothing but rounding. Each forgotten mask moves the vectors, the short sentences most,
# since they have most padding; no error is raised, and the numbers look as good as before. Padding on the left is masked
# correctly and still wrong *here*: BERT counts positions from the first column, so that the words have moved. (Language
# models that continue a text are padded on the left, so that the last column holds the last word; they derive
# positions from the mask.)

# %% [markdown] lang="zh"
# 两处掩码都用上，放进批里只有舍入误差。少用一处，向量就移动，短句移动最多，因为它们的填充最多；不会报错，数字看上去也一样漂亮。
# 左侧填充的掩码没错，*在这里*结果却是错的：BERT 从第一列数位置，词的位置都变了。
# （续写文本的语言模型才在左侧填充，让最后一列放最后一个词；它们由掩码推出位置。）

# %% [markdown]
# ## Experiment: files and cache · 实验：文件与缓存

# %% [markdown] lang="en"
# `save_pretrained` writes a folder, `from_pretrained` reads it back: from a folder, no name of a repository is needed, and
# no network. Then the small model is put into a cache as the hub's library lays it out, in two commits whose weights
# differ, and found there by name and revision, offline.

# %% [markdown] lang="zh"
# `save_pretrained` 写出一个文件夹，`from_pretrained` 读回来：给它文件夹，就不需要仓库名，也不需要网络。
# 然后把小模型按 hub 库的布局放进缓存，做成两个权重不同的提交，再离线按名字和版本找到它。

# %%
saved = work / "tiny"
tiny_model.save_pretrained(saved)
tiny_tokenizer.save_pretrained(saved)
table(["file", "bytes"], [(path.name, path.stat().st_size) for path in sorted(saved.iterdir())])
again = transformers.AutoModelForSequenceClassification.from_pretrained(saved)
tokenizer_again = transformers.AutoTokenizer.from_pretrained(saved)
content = (saved / "model.safetensors").read_bytes()
(header_length,) = struct.unpack("<Q", content[:8])  # a file of safetensors: 8 bytes, a header in JSON, numbers
header = json.loads(content[8 : 8 + header_length])
entry = header["classifier.weight"]
first_byte, after = (8 + header_length + offset for offset in entry["data_offsets"])
classifier_by_hand = np.frombuffer(content[first_byte:after], dtype="<f4").reshape(entry["shape"])
print(f"  classifier.weight is {entry}; no place for code in it")


class Surprise:
    """Pickles to a call of whatever its author likes."""

    def __reduce__(self):
        return Path.touch, (work / "code-of-a-stranger-ran",)


torch.save({"weights": Surprise()}, work / "pytorch_model.bin")
try:
    torch.load(work / "pytorch_model.bin", weights_only=True)
    pickle_refused = ""
except pickle.UnpicklingError as failure:
    pickle_refused = str(failure).splitlines()[0]
print(f"  pytorch_model.bin with weights_only=True: refused ({pickle_refused[:60]} …)")

foreign = work / "foreign"
foreign.mkdir()
(foreign / "configuration_foreign.py").write_text(f"open({str(work / 'code-of-a-stranger-ran')!r}, 'w')\n")
described = {"model_type": "foreign", "auto_map": {"AutoConfig": "configuration_foreign.ForeignConfig"}}
(foreign / "config.json").write_text(json.dumps(described))
try:
    transformers.AutoConfig.from_pretrained(foreign, trust_remote_code=False)
    code_refused = ""
except ValueError as failure:
    code_refused = str(failure).splitlines()[0]
print(f"  a repository with its own Python files: refused ({code_refused[:75]} …)")


# %%
def put_into_cache(cache: Path, repository: str, commit: str, files: dict[str, bytes]) -> None:
    """Adds a commit as `huggingface_hub` does: contents by checksum, and links to them."""
    place = cache / f"models--{repository.replace('/', '--')}"
    for part in ("blobs", "refs", f"snapshots/{commit}"):
        (place / part).mkdir(parents=True, exist_ok=True)
    for name, stored in files.items():
        blob = place / "blobs" / hashlib.sha256(stored).hexdigest()
        blob.write_bytes(stored)
        (place / "snapshots" / commit / name).symlink_to(os.path.relpath(blob, place / "snapshots" / commit))
    (place / "refs" / "main").write_text(commit)


OLD, NEW, NAME = "1" * 40, "2" * 40, "course/tiny"
hub = work / "hub"
files = {name: (saved / name).read_bytes() for name in ("config.json", "model.safetensors", "tokenizer.json")}
put_into_cache(hub, NAME, OLD, files)
with torch.no_grad():
    again.classifier.weight.neg_()  # someone retrains the model, and pushes to main
again.save_pretrained(work / "retrained")
put_into_cache(hub, NAME, NEW, files | {"model.safetensors": (work / "retrained" / "model.safetensors").read_bytes()})
example = tiny_tokenizer(texts[:4], padding=True, return_tensors="pt")
answers = {}
for revision in ("main", OLD, NEW):
    place = cached_file(hub, NAME, "config.json", revision).parent  # a folder is read without asking the hub
    model = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    with torch.no_grad():
        answers[revision] = model(**example).logits
blobs = len(list((hub / "models--course--tiny" / "blobs").iterdir()))
settle("blobs", blobs)
table(
    ["revision", "commit", "probability of 'positive' of four texts"],
    [
        (revision[:8], cached_commit(hub, NAME, revision)[:8], [round(p, 3) for p in logits.softmax(1)[:, 1].tolist()])
        for revision, logits in answers.items()
    ],
)
try:
    hf_hub_download("course/absent", "config.json", cache_dir=hub, local_files_only=True)
    absent = ""
except LocalEntryNotFoundError as failure:
    absent = str(failure).splitlines()[0]
print(f"  a model that is not there: {absent[:110]} …")

ask = "from huggingface_hub import constants, hf_hub_url as url; print(constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, url('o/n', 'f'))"
chosen = {"HF_HOME": "/srv/models", "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "https://mirror.example"}
plain = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and name != "XDG_CACHE_HOME"}
answered = subprocess.run(
    [sys.executable, "-c", ask], env=plain | chosen, capture_output=True, text=True, check=True
).stdout.split()
table(
    ["variable", "set to", "its effect"],
    [(*item, effect) for item, effect in zip(chosen.items(), answered, strict=True)],
)
before = constants.ENDPOINT
os.environ["HF_ENDPOINT"] = "https://too-late.example"
unchanged = before == constants.ENDPOINT
del os.environ["HF_ENDPOINT"]
print(f"  set in this process, after the import: {'no effect' if unchanged else 'effect'}")

# %% [markdown] lang="en"
# `main` is whatever was pushed last: the same line of code gives the opposite answer. A commit never changes, so whatever
# must give the same answer next year names one: `revision="2222…"`. Contents are stored by checksum, so that what two
# commits share is stored once. To take a model to a machine without internet, copy a folder of `save_pretrained`, or the
# cache, or fetch on a machine that has a network (`hf download`).
#
# The variables are read when the library is imported, so set them in the shell or above all imports. `HF_HUB_OFFLINE=1`
# makes a missing file an error at once, instead of a wait for a server that cannot be reached; the argument
# `local_files_only=True` alone is not enough everywhere (with `peft` installed, transformers 5.24 still asks the hub whether a
# cached model has an adapter, and tries six times). A mirror
# (`HF_ENDPOINT`) sees what you ask for and could hand you other files: pin the commit, and compare checksums.

# %% [markdown] lang="zh"
# `main` 就是最后推送的内容：同一行代码给出了相反的答案。提交永远不变，所以明年还要得到同样答案的，就写明提交：`revision="2222…"`。
# 内容按校验和存放，两个提交共有的只存一份。要把模型带到没有外网的机器上，可以拷贝 `save_pretrained` 的文件夹或整个缓存，
# 或者先在有网的机器上下载（`hf download`）。
#
# 这些变量在导入库时读取，所以要在 shell 里或所有 import 之前设置。设了 `HF_HUB_OFFLINE=1`，缺文件会立刻报错，而不是等待连不上的服务器；
# 只传参数 `local_files_only=True` 并非处处够用（装了 `peft` 时，transformers 5.24 仍会向 hub 询问缓存中的模型有没有适配器，并尝试六次）。
# 镜像（`HF_ENDPOINT`）看得到你请求什么，也可能给你别的文件：固定提交，并核对校验和。

# %% [markdown]
# ## Experiment: data sets on disk · 实验：磁盘上的数据集

# %% [markdown] lang="en"
# `datasets` keeps a table in an Arrow file and maps it into memory: rows are read from the disk when they are asked for. A
# table of 20 MB is opened both ways. And 2,000 reviews from a file of JSON lines are tokenized one by one, and in batches;
# the result is cached under a fingerprint of the function.

# %% [markdown] lang="zh"
# `datasets` 把表放在 Arrow 文件里并做内存映射：要哪一行才从磁盘读哪一行。用两种方式打开一张 20 MB 的表。
# 另外从 JSON Lines 文件读入 2,000 条影评，逐条分词与成批分词；结果以函数的指纹为名缓存起来。

# %%
lines = work / "reviews.jsonl"
lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
loaded = datasets.load_dataset("json", data_files=str(lines), split="train", cache_dir=str(work / "datasets"))
calls = {"one by one": 0, "in batches": 0}


def tokenize_one(row):
    calls["one by one"] += 1
    return {"input_ids": tiny_tokenizer(row["text"])["input_ids"]}


def tokenize_batch(batch):
    calls["in batches"] += 1
    return {"input_ids": tiny_tokenizer(batch["text"])["input_ids"]}


spent = {
    "one by one": seconds(lambda: loaded.map(tokenize_one, new_fingerprint="one"), 1),
    "in batches": seconds(lambda: loaded.map(tokenize_batch, batched=True, new_fingerprint="batch"), 1),
}
tokenized = loaded.map(tokenize_batch, batched=True, new_fingerprint="batch")  # from the cache
table(["map", "calls of the function", "seconds here"], [(name, calls[name], spent[name]) for name in calls])
stream = datasets.load_dataset(
    "json", data_files=str(lines), split="train", streaming=True, cache_dir=str(work / "datasets")
)
first_three = [row["text"] for row in stream.take(3)]

numbers = np.arange(20_000 * 256, dtype=np.int32).reshape(20_000, 256)
datasets.Dataset.from_dict({"ids": numbers}).save_to_disk(work / "numbers")
held = {}
for name, in_memory in (("mapped", False), ("in memory", True)):
    before = pa.total_allocated_bytes()
    opened = datasets.load_from_disk(work / "numbers", keep_in_memory=in_memory)
    held[name] = (pa.total_allocated_bytes() - before) / 1e6
    last_row = opened[19_999]["ids"]
    del opened
table(["a table of 20 MB", "memory that opening it takes, MB"], list(held.items()))

# %% [markdown] lang="en"
# A mapped table costs no memory of the process however large it is, and several processes share its pages. In batches the
# function is called a thousand times less often, and a fast tokenizer uses all cores for a batch. A stream reads the file
# as it goes, knows no length, and can only be shuffled within a buffer.

# %% [markdown] lang="zh"
# 映射的表无论多大都不占进程的内存，多个进程还能共享它的页。成批处理时函数的调用次数少到千分之一，而且快速分词器会用所有的核处理一批。
# 流式读取边走边读，不知道长度，只能在缓冲区内打乱。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The pipeline by hand: tokenizer, `pad_batch`, model, softmax, label. It must give what `transformers.pipeline` gives. The
# model under `AutoModel` is our `Bert` with the same weights: outputs, and the gradients of the word embeddings. The
# cache's files are where `huggingface_hub` finds them, and the batch is what its collator makes.

# %% [markdown] lang="zh"
# 手工流水线：分词器、`pad_batch`、模型、softmax、标签，结果必须与 `transformers.pipeline` 相同。
# `AutoModel` 背后就是取同样权重的、我们的 `Bert`：比较输出和词嵌入的梯度。
# 缓存中的文件就在 `huggingface_hub` 找到的地方，批次也与它的整理器做出的相同。

# %%
sample = texts[64:72]
classify = transformers.pipeline("text-classification", model=tiny_model, tokenizer=tiny_tokenizer)
their_answers = classify(sample, batch_size=8)
ids, mask = pad_batch([tiny_tokenizer(text)["input_ids"] for text in sample], tiny_tokenizer.pad_token_id)
with torch.no_grad():
    probabilities = tiny_model(ids, attention_mask=mask).logits.softmax(dim=1)
our_answers = [
    {"label": tiny_config.id2label[int(row.argmax())], "score": float(row.max())} for row in probabilities
]  # one dictionary a text, as the pipeline gives
table(
    ["text", "pipeline", "by hand"],
    [
        (text[:40], f"{a['label']} {a['score']:.4f}", f"{b['label']} {b['score']:.4f}")
        for text, a, b in zip(sample[:3], their_answers[:3], our_answers[:3], strict=True)
    ],
)
collator = transformers.DataCollatorWithPadding(tiny_tokenizer)
collated = collator([tiny_tokenizer(text) for text in sample])

auto = transformers.AutoModel.from_pretrained(saved, add_pooling_layer=False).double().eval()
ours = Bert(BertConfig(len(tiny_tokenizer), 32, 2, 4, 64, max_tokens=64), pooler=False).double().eval()
load_transformers_weights(ours, auto.state_dict())
outputs = auto(ids, attention_mask=mask).last_hidden_state, ours(ids, mask)
their_gradient, our_gradient = (
    torch.autograd.grad((output * mask[:, :, None]).square().sum(), weight)[0]
    for output, weight in zip(
        outputs, (auto.embeddings.word_embeddings.weight, ours.embeddings.word.weight), strict=True
    )
)
their_vectors = F.normalize((outputs[0] * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True), dim=1)
if folder is not None:
    with torch.no_grad():
        minilm = transformers.AutoModel.from_pretrained(folder)(*pad_batch(rows[:8], pad_id)).last_hidden_state
        our_minilm = encoder(*pad_batch(rows[:8], pad_id))

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the mean with mask is (2, 3)", with_mask, [2.0, 3.0])
check_close(
    "by hand: padding 29 % and 8 %",
    [padded_share(four_texts, each) for each in (in_order, by_length)],
    [10 / 34, 2 / 26],
)
check("by hand: 4 and 9 tokens into 10 places and into 6", fits == [(4, 6), (3, 3)])
check_close(
    "the pipeline by hand gives the same scores",
    [a["score"] for a in our_answers],
    [a["score"] for a in their_answers],
    1e-5,
)
check("and the same labels", [a["label"] for a in our_answers] == [a["label"] for a in their_answers])
check_close("our batch is the collator's", ids, collated["input_ids"])
check_close("AutoModel's output is our Bert's", outputs[1], outputs[0], 1e-9)
check_close("so is the gradient of the word embeddings", our_gradient, their_gradient, 1e-8)
check_close("sentence vectors: masked mean of length 1", sentence_vectors(outputs[1], mask), their_vectors, 1e-9)
if folder is not None:
    check_close("all-MiniLM-L6-v2: AutoModel and our Bert agree", our_minilm, minilm, 1e-4)
check("a round trip to disk keeps ids", tokenizer_again(sample)["input_ids"] == tiny_tokenizer(sample)["input_ids"])
check_close("a tensor read from the file by hand", classifier_by_hand, tiny_model.classifier.weight, 1e-12)
check("with both masks, a batch gives what each sentence gives alone", error["masked everywhere"] < 1e-4)
check("and no other neighbor", moved["masked everywhere"] == 0)
check(
    "each forgotten mask moves the vectors a thousand times as far",
    min(error[name] for name in list(ways)[1:4]) > 1000 * max(error["masked everywhere"], 1e-6),
)
check(
    "padding on the left moves BERT's vectors, mask or not",
    error["padded on the left, masked"] > 1000 * max(error["masked everywhere"], 1e-6),
)
check("by length there is less padding than in random order", waste["by length"] < 0.5 * waste["random order"])
check(
    "a text that is too long is refused by the model, and cut silently by the tokenizer", refused and cut == 64 < full
)
check(
    "neither the pickle nor the foreign repository ran its code",
    pickle_refused and code_refused and not (work / "code-of-a-stranger-ran").exists(),
)
for revision in ("main", OLD, NEW):
    found = try_to_load_from_cache(NAME, "model.safetensors", cache_dir=hub, revision=revision)
    check(
        f"the cache: {revision[:8]} is found where huggingface_hub finds it",
        str(cached_file(hub, NAME, "model.safetensors", revision)) == found,
    )
check(
    "what is not in the cache is not found",
    cached_file(hub, NAME, "vocab.txt") is None and cached_file(hub, "course/absent", "config.json") is None,
)
check_close("main is the newer commit", answers["main"], answers[NEW], 1e-6)
check("a pinned commit still gives the old answers", (answers[OLD] - answers[NEW]).abs().max() > 0.01 and blobs == 4)
check(
    "variables work only before the import",
    unchanged and answered[0].startswith("/srv/models") and answered[2].startswith("https://mirror.example/"),
)
check(
    "datasets: opening a mapped table takes less than a tenth of its size", held["mapped"] < 2 < 18 < held["in memory"]
)
check("its last row is there", last_row == numbers[-1].tolist())
check(
    "in batches the function is called a hundred times less often",
    calls["in batches"] * 100 <= calls["one by one"] == len(texts),
)
check("the stream begins as the file", first_three == texts[:3] and len(tokenized) == len(texts))

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `sentiment-bert` batches texts by length and loads all-MiniLM-L6-v2 with our own `Bert`; `uv run --package
# sentiment-bert train --max-minutes 5` trains it. `uv run data fetch all-minilm-l6-v2` downloads the encoder at one commit,
# with a checksum for each file, through `HF_ENDPOINT` if it names a mirror; `data verify` compares them again. The runtime of
# this repository opens safetensors and JSON only.
#
# Sources: [transformers](https://huggingface.co/docs/transformers), [its installation
# offline](https://huggingface.co/docs/transformers/installation#offline-mode), [the hub's
# cache](https://huggingface.co/docs/huggingface_hub/guides/manage-cache),
# [datasets](https://huggingface.co/docs/datasets), [safetensors](https://huggingface.co/docs/safetensors), the papers [Wolf et
# al. 2020](https://arxiv.org/abs/1910.03771), [Lhoest et al. 2021](https://arxiv.org/abs/2109.02846), [Reimers & Gurevych
# 2019](https://arxiv.org/abs/1908.10084). Next: training with the library's Trainer and with a plain loop, 11/07.

# %% [markdown] lang="zh"
# 实战项目 `sentiment-bert` 按长度分批，并用我们自己的 `Bert` 载入 all-MiniLM-L6-v2；
# `uv run --package sentiment-bert train --max-minutes 5` 训练它。
# `uv run data fetch all-minilm-l6-v2` 下载固定提交的编码器，每个文件都有校验和，`HF_ENDPOINT` 若设为镜像就走镜像；
# `data verify` 可再次核对。本仓库的运行库只打开 safetensors 和 JSON。
#
# 资料：[transformers](https://huggingface.co/docs/transformers)、
# [离线安装](https://huggingface.co/docs/transformers/installation#offline-mode)、
# [hub 的缓存](https://huggingface.co/docs/huggingface_hub/guides/manage-cache)、
# [datasets](https://huggingface.co/docs/datasets)、[safetensors](https://huggingface.co/docs/safetensors)，
# 论文 [Wolf 等 2020](https://arxiv.org/abs/1910.03771)、[Lhoest 等 2021](https://arxiv.org/abs/2109.02846)、
# [Reimers 与 Gurevych 2019](https://arxiv.org/abs/1908.10084)。下一课：用库的 Trainer 训练，以及用普通循环训练，11/07。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `truncate_pair`, `pad_batch`, `batches_by_length`, `padded_share` and `sentence_vectors` yourself. `uv run lesson exercise
# 11/06` makes a file with their signatures, `uv run lesson check 11/06` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `truncate_pair`、`pad_batch`、`batches_by_length`、`padded_share` 和 `sentence_vectors`。
# `uv run lesson exercise 11/06` 生成带有签名的文件，`uv run lesson check 11/06` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `truncate_pair`: the shorter text gets its own length, but no more than half of the room (rounded down); the longer one
#    gets what is left, but no more than its own length. Then give each text the number that belongs to it.
# 2. `pad_batch`: `torch.full` and `torch.zeros` make the rectangle; a row fills the slice from 0, or the last `len(row)` columns.
#    Round up with `-(-n // multiple_of) * multiple_of`.
# 3. `padded_share`: a batch has as many places as its number of texts times its longest text.
# 4. `sentence_vectors`: `mean_pool` is imported; the length is taken along the last dimension.

# %% [markdown] lang="zh"
# 1. `truncate_pair`：较短的文本得到自己的长度，但不超过总位置的一半（向下取整）；较长的得到剩下的，但不超过自己的长度。
#    最后把两个数各自对应回去。
# 2. `pad_batch`：用 `torch.full` 和 `torch.zeros` 造出矩形；每行填进从 0 开始的切片，或最后 `len(row)` 列。
#    向上取整用 `-(-n // multiple_of) * multiple_of`。
# 3. `padded_share`：一批的位置数等于文本数乘以其中最长的长度。
# 4. `sentence_vectors`：`mean_pool` 已经导入；长度沿最后一维计算。


# %%
@exercise(truncate_pair, pad_batch, batches_by_length, padded_share, sentence_vectors)
def judge(yours, reference):
    for first, second, room in ((4, 9, 10), (9, 4, 10), (4, 9, 6), (9, 4, 7), (6, 6, 7), (3, 2, 9), (5, 5, 1)):
        pair = list(range(1, 1 + first)), list(range(101, 101 + second))
        mine, theirs = (tuple(map(list, each.truncate_pair(*pair, room))) for each in (yours, reference))
        named = f"truncate_pair of {first} and {second} tokens into {room} places"
        check(f"{named}: the lengths", [len(part) for part in mine] == [len(part) for part in theirs])
        check(f"{named}: the tokens that are kept", mine == theirs)
    try:
        yours.truncate_pair([1], [2], 0)
        refused = False
    except ValueError:
        refused = True
    check("truncate_pair without room raises ValueError", refused)

    rows = [[5, 6, 7], [1], [2, 3, 4, 5, 6]]
    for options in ({}, {"side": "left"}, {"multiple_of": 4}, {"multiple_of": 4, "side": "left"}):
        mine, theirs = (each.pad_batch(rows, 9, **options) for each in (yours, reference))
        check(f"pad_batch {options}: the shapes", [each.shape for each in mine] == [each.shape for each in theirs])
        check(f"pad_batch {options}: int64", {each.dtype for each in mine} == {torch.int64})
        check_close(f"pad_batch {options}: the ids", mine[0], theirs[0])
        check_close(f"pad_batch {options}: the mask", mine[1], theirs[1])
    try:
        yours.pad_batch([], 0)
        refused = False
    except ValueError:
        refused = True
    check("pad_batch without rows raises ValueError", refused)

    lengths = [3, 9, 4, 8, 1, 7, 2]
    for size in (1, 2, 3, 10):
        mine, theirs = ([list(batch) for batch in each.batches_by_length(lengths, size)] for each in (yours, reference))
        check(f"batches_by_length of {size}: each text once", sorted(sum(mine, [])) == list(range(7)))  # noqa: RUF017
        check(f"batches_by_length of {size}: the batches", mine == theirs)
        check_close(
            f"padded_share of batches of {size}",
            yours.padded_share(lengths, theirs),
            reference.padded_share(lengths, theirs),
        )

    features = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    results = []
    for each in (yours, reference):
        leaf = features.clone().requires_grad_()
        vectors = each.sentence_vectors(leaf, mask)
        weights = torch.arange(vectors.numel(), dtype=torch.float64).view_as(vectors)
        results.append((vectors.detach(), torch.autograd.grad((vectors * weights).sum(), leaf)[0]))
    check("sentence_vectors gives [batch, dim]", results[0][0].shape == (3, 4))
    check_close("sentence_vectors without padding", results[0][0][0], results[1][0][0], 1e-9)
    check_close("sentence_vectors with padding", results[0][0], results[1][0], 1e-9)
    check_close("sentence_vectors: the gradient", results[0][1], results[1][1], 1e-9)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What does a pipeline do, step by step? · 流水线一步步做了什么？

# %% [markdown] lang="en"
# Preprocess: the tokenizer splits the text, adds special tokens, and makes ids and a mask. Batch: rows are padded to the
# longest. Forward: the model, in evaluation mode and without gradients, gives logits. Postprocess: softmax, the label's name
# from the config, sorting. Each step can be replaced; what must fit is tokenizer and model.

# %% [markdown] lang="zh"
# 预处理：分词器切分文本、加特殊词元，得到编号和掩码。组批：各行填充到最长。前向：模型在评估模式、不求梯度，给出 logits。
# 后处理：softmax，从配置中取标签名，排序。每一步都可以替换；必须配套的是分词器与模型。

# %%
for text, answer in zip(sample[:2], our_answers[:2], strict=True):
    print(f"  {text[:32]} … → {len(tiny_tokenizer(text)['input_ids'])} ids → {answer}")

# %% [markdown]
# ### What is the attention mask for, and where is it needed? · 注意力掩码有什么用，哪里需要它？

# %% [markdown] lang="en"
# It marks which places of a batch are tokens and which are padding. In every attention layer the logits of padding are
# −∞, so that it gets no weight; in pooling, padding must not enter the mean; in a loss over tokens, its labels are
# ignored (−100). Forgetting it raises no error: short texts of a batch get other vectors than alone. So test that a text
# gives the same alone and in company.

# %% [markdown] lang="zh"
# 它标明批次中哪些位置是词元、哪些是填充。每个注意力层里填充的 logit 为 −∞，得不到权重；池化时填充不能进入平均；
# 按词元计算损失时，填充的标签要忽略（−100）。忘了它不会报错：批里的短文本得到与单独计算不同的向量。
# 所以要测试一段文本单独算与成批算结果相同。

# %%
for name in ("masked everywhere", "no mask at all"):
    print(f"  {name}: distance from the vector alone up to {error[name]:.1e}, {moved[name]} of 64 other neighbors")

# %% [markdown]
# ### Why safetensors instead of pickle, and what does `weights_only=True` do? · 为什么用 safetensors 而不用 pickle？`weights_only=True` 做了什么？

# %% [markdown] lang="en"
# A pickle is a program: loading it may call any function, with your rights. A safetensors file is a header in JSON and
# numbers; it holds no code, is mapped into memory, and can be read in part. `weights_only=True`, the default of `torch.load`
# since 2.6, lets a pickle call only a short list of functions that rebuild tensors. It is a second-best for old files.

# %% [markdown] lang="zh"
# pickle 是一段程序：加载时可能以你的权限调用任何函数。safetensors 文件是 JSON 头加数字，没有代码，可以内存映射，也可以只读一部分。
# `weights_only=True` 自 torch 2.6 起是 `torch.load` 的默认值，只允许 pickle 调用一小组重建张量的函数。它是对付旧文件的次优办法。

# %%
print(f"  {len(header)} entries, such as classifier.bias: {header['classifier.bias']}")
print(f"  the pickle: {pickle_refused[:60]} …")

# %% [markdown]
# ### What does `trust_remote_code=True` allow, and how do you limit it? · `trust_remote_code=True` 允许什么，怎样限制？

# %% [markdown] lang="en"
# It runs Python files from the model's repository on your machine: whoever can push there can run code with your rights,
# today or after the next push. Limit it: prefer models that the library implements; read the code; pin the commit
# (`revision` and `code_revision`), since a reviewed file may change; run it in a container without secrets and network.
# safetensors does not help here, since the danger is not in the weights.

# %% [markdown] lang="zh"
# 它在你的机器上运行模型仓库里的 Python 文件：谁能往那里推送，谁就能以你的权限执行代码，今天可以，下次推送之后也可以。
# 限制办法：优先选库里已实现的模型；读代码；固定提交（`revision` 和 `code_revision`），因为审过的文件可能会变；
# 放进没有密钥、没有网络的容器里运行。safetensors 在这里帮不上忙，因为危险不在权重里。

# %%
print(f"  {code_refused.replace(str(work), '…')[:110]} …")

# %% [markdown]
# ### How do you run a model on a machine without internet? · 没有外网的机器上怎么运行模型？

# %% [markdown] lang="en"
# Copy a folder written by `save_pretrained` (model and tokenizer), or the cache of a machine that has loaded it, and load from
# that path. Set `HF_HUB_OFFLINE=1` before Python starts, so that whatever is missing fails at once. Where a mirror can be
# reached, `HF_ENDPOINT` names it, and `HF_HOME` puts the cache on a large disk. Pin the commit, and verify checksums.

# %% [markdown] lang="zh"
# 拷贝 `save_pretrained` 写出的文件夹（模型和分词器），或者已加载过它的机器的缓存，从这个路径加载。
# 在启动 Python 之前设 `HF_HUB_OFFLINE=1`，缺什么就立刻报错。能访问镜像时用 `HF_ENDPOINT` 指定，`HF_HOME` 把缓存放到大磁盘上。
# 固定提交，核对校验和。

# %%
print(f"  {cached_file(hub, NAME, 'config.json', OLD).relative_to(hub)}")

# %% [markdown]
# ### The library says that weights are missing or unexpected. Which is dangerous? · 库提示权重缺失或多余，哪个危险？

# %% [markdown] lang="en"
# *Missing* means that the model has weights which the file does not: they are drawn at random, and the model answers all
# the same. That is right for a new classifier that you are about to train, and a serious fault for anything else.
# *Unexpected* means that the file holds more than the model takes, such as a head that is not needed; mostly harmless, but
# a misspelled name shows as both at once.

# %% [markdown] lang="zh"
# *缺失*（missing）是模型有而文件里没有的权重：它们被随机初始化，模型照样作答。对马上要训练的新分类头来说没问题，其他情况都是严重错误。
# *多余*（unexpected）是文件里有而模型用不上的，比如不需要的输出头；大多无害，但名字拼错时两者会同时出现。

# %%
_, loading = transformers.AutoModelForTokenClassification.from_pretrained(saved, num_labels=5, output_loading_info=True, ignore_mismatched_sizes=True)  # fmt: skip
print(f"  classifier of 2 classes loaded as one of 5: {sorted(key for key, found in loading.items() if found)}")
_, loading = transformers.AutoModel.from_pretrained(saved, output_loading_info=True)
print(
    f"  the encoder alone: missing {sorted(loading['missing_keys'])}, unexpected {sorted(loading['unexpected_keys'])}"
)

# %% [markdown]
# ### How can a data set be larger than the memory? · 数据集怎么能比内存还大？

# %% [markdown] lang="en"
# Arrow files have the same layout on disk and in memory, so that they are mapped: the operating system loads the pages that
# are touched, and drops them when it needs room. Random access stays possible. If even the disk is too small, a stream
# reads over the network; then there is no length and no random access, and shuffling happens within a buffer.

# %% [markdown] lang="zh"
# Arrow 文件在磁盘上和内存里布局相同，所以可以映射：操作系统只载入碰到的页，需要空间时再丢弃。随机访问仍然可行。
# 连磁盘都放不下时，就通过网络流式读取；那样没有长度，不能随机访问，打乱也只能在缓冲区内进行。

# %%
print(f"  20 MB opened: mapped {held['mapped']:.1f} MB, in memory {held['in memory']:.1f} MB")
temporary.cleanup()
