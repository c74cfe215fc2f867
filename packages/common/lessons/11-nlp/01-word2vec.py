# %% [markdown]
# # word2vec · 词向量训练

# %% [markdown] lang="en"
# After this lesson you can train word vectors by skip-gram and CBOW with negative sampling, gradients written by hand, on
# English and on Chinese (which has no spaces), and you can tell by measurement which neighbors of a word are knowledge and
# which are chance. You need the logistic loss (02/07, 03/05) and gradients through a sum (02/04).

# %% [markdown] lang="zh"
# 学完本课，你能用 skip-gram 和 CBOW 加负采样训练词向量，梯度自己推导，语料有英文，也有没有空格的中文；
# 还能通过测量分清一个词的近邻哪些是学到的，哪些是偶然的。先修：logistic 损失（02/07、03/05）和求和的梯度（02/04）。

# %%
import re

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.mathematics.principal_components import PCA
from dlcommon.nlp.phrases import join_phrases, phrase_scores
from dlcommon.nlp.similarity import (
    nearest_label_accuracy,
    nearest_neighbors,
    neighbor_agreement,
    neighbor_precision,
)
from dlcommon.nlp.vocabulary import Vocabulary
from dlcommon.nlp.word2vec import (
    Word2Vec,
    cbow_examples,
    context_windows,
    keep_probability,
    negative_sampling,
    noise_distribution,
    skip_gram_examples,
    train_word2vec,
)
from dlcommon.runtime.data import find
from torch import nn
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# To a program, *June* and *July* are number 3,104 and number 871 of a list: as different as *June* and *infantry*. A
# classifier that has read about June has learned nothing about July.
#
# But nobody has to tell a machine that the two are alike. Cover the word in "the troops landed on 6 ___ 1944", and both
# fit. Words that fit into the same places mean similar things (the distributional hypothesis). Can a vector for each
# word be learned from nothing but which words stand near which? And how much text does it take before the neighbors of a
# word mean something?

# %% [markdown] lang="zh"
# 对程序来说，*June*（六月）和 *July*（七月）只是词表里的第 3104 号和第 871 号，和 *June* 与 *infantry*（步兵）一样毫不相干。
# 分类器读过关于六月的句子，对七月还是一无所知。
#
# 但并不需要有人告诉机器这两个词相像。把 `the troops landed on 6 ___ 1944` 里的词盖住，两个词都填得进去。
# 能填进相同位置的词，意思相近（分布假设）。能不能只凭哪些词出现在哪些词旁边，就为每个词学出一个向量？
# 又要多少文本，一个词的近邻才真有意义？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *One example.* The input vector of *June* is $h = (1, 0)$. The true neighbor *6* has the output vector $(1, 1)$: logit 1,
# probability $\sigma(1) = 0.731$; it should be 1, the error is $-0.269$. A noise word, drawn at random, has the output
# vector $(2, -1)$: logit 2, probability $\sigma(2) = 0.881$; it should be 0, the error is $0.881$. The loss is
# $-\log 0.731 - \log(1 - 0.881) = 0.313 + 2.127 = 2.440$. The gradient with respect to $h$ is the sum of errors times
# output vectors: $-0.269 \cdot (1, 1) + 0.881 \cdot (2, -1) = (1.493, -1.150)$. A step against it turns $h$ to the true word
# and away from the noise.
#
# *Frequent words.* With threshold $t = 0.0005$, a word that is 5 % of the text (*the*) is kept with probability
# $\sqrt{0.0005 / 0.05} = 0.1$; one that is 0.02 % of it is always kept. As noise, a word that is 100 times as frequent as
# another is drawn only $100^{0.75} = 31.6$ times as often.
#
# *Chinese.* Nothing marks where words begin. But if in 100 characters `酒` stands 4 times, `店` 5 times, and `酒店` together 4
# times, that is $4 \cdot 100 / (4 \cdot 5) = 20$ times as often as by chance: a word.

# %% [markdown] lang="zh"
# *一个样本。* *June* 的输入向量是 $h = (1, 0)$。真实邻居 *6* 的输出向量是 $(1, 1)$：logit 为 1，概率 $\sigma(1) = 0.731$，
# 应该是 1，误差为 $-0.269$。随机抽来的噪声词的输出向量是 $(2, -1)$：logit 为 2，概率 $\sigma(2) = 0.881$，
# 应该是 0，误差为 $0.881$。损失是 $-\log 0.731 - \log(1 - 0.881) = 0.313 + 2.127 = 2.440$。
# 对 $h$ 的梯度是误差乘以输出向量之和：$-0.269 \cdot (1, 1) + 0.881 \cdot (2, -1) = (1.493, -1.150)$。
# 逆着它走一步，$h$ 就转向真实的词，背离噪声。
#
# *高频词。* 阈值 $t = 0.0005$ 时，占全文 5 % 的词（*the*）以概率 $\sqrt{0.0005 / 0.05} = 0.1$ 保留；
# 占 0.02 % 的词总是保留。作为噪声，频率高 100 倍的词被抽中的次数只高 $100^{0.75} = 31.6$ 倍。
#
# *中文。* 没有记号表明词从哪里开始。但如果 100 个字里“酒”出现 4 次，“店”5 次，“酒店”连在一起 4 次，
# 那就是偶然情况的 $4 \cdot 100 / (4 \cdot 5) = 20$ 倍：这是一个词。

# %%
by_hand = negative_sampling(
    torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, -1.0]]), torch.ones(1, 1)
)
print(f"  loss {by_hand[0]:.3f}, gradient of h {[round(value, 3) for value in by_hand[1][0].tolist()]}")
counts = np.array([5000, 20, 94_980])
keep, noise = keep_probability(counts, 5e-4), noise_distribution(np.array([100, 1]))
print(f"  kept: {keep[0]:.3f} of a word that is 5 % of the text, {keep[1]:.0f} of one that is 0.02 %")
print(f"  as noise, 100 times as frequent is {noise[0] / noise[1]:.1f} times as often")
sentence, reach = "troops landed on 6 june 1944".split(), 2
windows = context_windows(np.arange(6), 1, np.random.default_rng(0))
pairs = zip(*(each.flatten().tolist() for each in skip_gram_examples(np.arange(6), windows)), strict=True)
table(["input", "target: skip-gram, window 1"], [(sentence[a], sentence[b]) for a, b in pairs])

drawing = Schematic(13.6, 4.4, "Two models, one loss")
for name, x, y, text, kind, width in (
    ("in", 1.3, 3.3, "june", "data", 1.2),
    ("vector", 3.3, 3.3, "input vector", "parameter", 1.7),
    ("left", 1.3, 1.6, "on, 6", "data", 1.2),
    ("right", 1.3, 0.7, "1944", "data", 1.2),
    ("vectors", 3.3, 1.15, "input vectors", "parameter", 1.7),
    ("mean", 5.3, 1.15, "mean", "operation", 1.0),
    ("h", 7.0, 2.2, "h", "data", 0.8),
    ("logits", 9.0, 2.2, "products", "operation", 1.3),
    ("true", 9.0, 3.6, "output vector of\nthe true word", "parameter", 2.2),
    ("noise", 9.0, 0.7, "output vectors of\nnoise words", "parameter", 2.2),
    ("loss", 11.7, 2.2, "true: 1, noise: 0\nlogistic loss", "operation", 2.2),
):
    drawing.box(name, x, y, text, kind, width, height=0.8 if "\n" in text else 0.6)
for start, end in (
    ("in", "vector"), ("vector", "h"), ("left", "vectors"), ("right", "vectors"), ("vectors", "mean"), ("mean", "h"),
    ("h", "logits"), ("true", "logits"), ("noise", "logits"), ("logits", "loss"),
):  # fmt: skip
    drawing.arrow(start, end)
drawing.text(2.3, 3.95, "skip-gram: one word to each neighbor")
drawing.text(3.2, 2.15, "CBOW: all neighbors to the word")
show(drawing.figure, "models")

# %% [markdown]
# ## Formula · 公式
#
# $$h = v_c \text{ (skip-gram)}, \qquad h = \frac{1}{|C|} \sum_{c \in C} v_c \text{ (CBOW)}$$
#
# $$\mathcal{L} = -\log \sigma(u_o^\top h) - \sum_{n=1}^{k} \log \sigma(-u_n^\top h)$$
#
# $$\frac{\partial \mathcal{L}}{\partial h} = (\sigma(u_o^\top h) - 1)\, u_o + \sum_{n=1}^{k} \sigma(u_n^\top h)\, u_n$$
#
# $$P(\mathrm{keep}\; w) = \min\left(1, \sqrt{t / f_w}\right), \qquad P_{\mathrm{noise}}(w) \propto f_w^{3/4}$$
#
# $$\mathrm{score}(a, b) = \frac{(n_{ab} - \delta) N}{n_a n_b}$$

# %% [markdown] lang="en"
# - $v_c$: the input vector of word $c$, `[dim]`, the one that is kept; $u_o$: the output vector of the word to be
#   predicted.
# - $C$: the neighbors of a word up to a distance drawn from 1 to `window`; $|C|$: how many there are.
# - $k$: how many noise words count against one true word; $u_n$: their output vectors, drawn from $P_{\mathrm{noise}}$
#   (Mikolov et al. 2013b, equation 4).
# - $f_w$: the share of word $w$ in the text; $t$: the threshold of subsampling (2013b, equation 5, there as the probability
#   to discard).
# - $n_{ab}$: how often token $b$ follows token $a$; $n_a$, $n_b$: how often each occurs; $N$: the number of tokens; $\delta$:
#   a discount against rare pairs (2013b, equation 6, without $N$).
#
# The loss is logistic regression with two sets of unknowns: is this pair from the text, or made up? Its derivative with
# respect to each logit is *probability minus answer*. In CBOW, each of the $|C|$ input vectors gets the gradient of $h$
# divided by $|C|$.

# %% [markdown] lang="zh"
# - $v_c$：词 $c$ 的输入向量，`[dim]`，最后留用的就是它；$u_o$：要预测的词的输出向量。
# - $C$：一个词的邻居，最大距离从 1 到 `window` 随机抽取；$|C|$：邻居的个数。
# - $k$：一个真实词对多少个噪声词；$u_n$：噪声词的输出向量，从 $P_{\mathrm{noise}}$ 中抽取（Mikolov 等 2013b，式 4）。
# - $f_w$：词 $w$ 在文本中所占比例；$t$：下采样的阈值（2013b，式 5，原文写的是丢弃概率）。
# - $n_{ab}$：词元 $b$ 紧跟词元 $a$ 的次数；$n_a$、$n_b$：各自出现的次数；$N$：词元总数；
#   $\delta$：对罕见词对的折扣（2013b，式 6，原文没有 $N$）。
#
# 这个损失就是有两组未知量的 logistic 回归：这一对词来自文本，还是编造的？对每个 logit 的导数都是*概率减去答案*。
# 在 CBOW 里，$|C|$ 个输入向量各得到 $h$ 的梯度除以 $|C|$。

# %% [markdown]
# ## Code · 代码

# %%
source(negative_sampling)
source(Word2Vec.gradients)
source(context_windows)
source(join_phrases)

# %% [markdown] lang="en"
# The papers' program takes one pair after the other, with five noise words for each. Here a whole batch shares its noise
# words, so that all noise logits are one matrix product, `[batch, dim] @ [dim, noise]`; the weight $k$ / noise keeps the
# mean of the loss what it was. `gradients` turns both models into one: a row of `inputs` holds one word (skip-gram) or all
# neighbors, `-1` where there is none (CBOW), and `share` is the weight of each in the mean. A word occurs in a batch many
# times; `index_add_` sums its gradients.
#
# `context_windows` makes the neighbors of all tokens at once: `places` `[tokens, 2 · window]` are indices, and what lies
# outside the text, or beyond the distance drawn for this token, becomes -1. `join_phrases` finds all pairs of neighbors
# above the threshold; in a run of overlapping pairs every other one is joined.

# %% [markdown] lang="zh"
# 论文的程序一对一对地处理，每对抽五个噪声词。这里整个批次共用噪声词，
# 于是所有噪声 logits 就是一次矩阵乘法 `[batch, dim] @ [dim, noise]`；权重 $k$ / noise 使损失的期望不变。`gradients` 把两个模型合成一个：
# `inputs` 的一行要么是一个词（skip-gram），要么是全部邻居，没有的位置为 `-1`（CBOW），`share` 是各自在平均中的权重。
# 一个词在批次里出现很多次，`index_add_` 把它的梯度加起来。
#
# `context_windows` 一次算出所有词元的邻居：`places` `[tokens, 2 · window]` 是下标，
# 在文本之外的、或超出该词元抽到的距离的，变成 -1。`join_phrases` 找出所有超过阈值的相邻对；
# 一串互相重叠的对里，每隔一个合并一个。

# %% [markdown]
# ## Experiment: English · 实验：英文

# %% [markdown] lang="en"
# The text: 120 articles of Wikipedia (WikiText-2's validation and test part), 2.4 MB. Words that occur fewer than ten
# times are left out. That is very little: the vectors that one downloads are trained on a thousand to a million times as
# much. Both models are trained with three seeds, 32 coordinates, three passes.
#
# Two measurements. *Groups*: words that belong together without doubt, such as the months; which share of the nearest
# neighbors of each is the rest of its group? (By chance: about 0.2 %.) *Stability*: which share of the ten nearest
# neighbors of a word is the same with another seed? Whatever changes with the seed is not knowledge of the text.

# %% [markdown] lang="zh"
# 文本：维基百科的 120 篇文章（WikiText-2 的验证集和测试集），2.4 MB。出现不到十次的词不要。
# 这非常少：人们下载的词向量用的文本要多一千倍到一百万倍。两个模型各用三个种子，32 维，读三遍。
#
# 两种测量。*词组*：毫无疑问属于一类的词，例如月份；每个词的最近邻里，有多大比例是同组的其他词？（乱猜约 0.2 %。）
# *稳定性*：一个词的十个最近邻，换一个种子后有多大比例不变？随种子而变的，就不是从文本中学到的。

# %%
quiz(
    "months",
    en="Of the ten nearest neighbors of a month, which share are months (skip-gram, mean of three seeds)?",
    zh="一个月份的十个最近邻里，月份占多大比例（skip-gram，三个种子平均）？",
)
quiz(
    "stable",
    en="Which share of the ten nearest neighbors of a word that occurs 10 to 19 times stays the same with another seed?",
    zh="一个出现 10 到 19 次的词，换一个种子，它的十个最近邻有多大比例不变？",
)

# %%
SEEDS = (0, 1, 2)
english_is_real = find("wikitext-2") is not None
corpus = data("wikitext-2", "python-manual")
tokens = [word for word in re.findall(r"[a-z]+|[0-9]+", (corpus.train + corpus.test).lower()) if word != "unk"]
vocabulary = Vocabulary.build(tokens, min_count=10)
ids = vocabulary.encode(tokens)
print(f"  {len(ids):,} tokens, {len(vocabulary):,} different words")
GROUPS = (
    {
        "months": "january february march april june july august september october november december",
        "numbers": "two three four five six seven eight nine ten",
        "directions": "north south east west northern southern eastern western northwest southeast",
        "military": "army navy troops division battalion infantry forces brigade regiment",
        "family": "father mother son daughter brother sister wife",
        "countries": "england france germany america australia japan china italy britain canada",
        "rulers": "king queen prince emperor princess",
        "judgements": "good great bad better best poor strong",
    }
    if english_is_real
    else {
        "types": "int float str bytes list tuple dict set",
        "statements": "if while for try with return raise import",
        "parts": "class function method module attribute",
        "values": "true false none",
    }
)
MODELS = ("skip-gram", "cbow")
trained = {
    (model, seed): train_word2vec(
        ids,
        vocabulary.counts,
        seed,
        model,
        epochs=3 if english_is_real else 15,
        batch_size=2048 if model == "skip-gram" else 1024,
    )
    for model in MODELS
    for seed in SEEDS
}
for model in MODELS:
    print(f"  {model}: loss of each pass {[round(loss, 2) for loss in trained[model, 0][1]]}")
members = {group: vocabulary.known(words.split()) for group, words in GROUPS.items()}
precision = {
    (model, group): [
        float(np.mean(neighbor_precision(trained[model, seed][0].input, members[group]))) for seed in SEEDS
    ]
    for model in MODELS
    for group in GROUPS
}


def written(values: list[float]) -> str:
    return " ".join(f"{value:.0%}" for value in values)


table(
    ["group", "words", "median count", *MODELS, "by chance"],
    [
        (
            group,
            len(known),
            int(np.median(vocabulary.counts[known])),
            *(written(precision[model, group]) for model in MODELS),
            f"{(len(known) - 1) / (len(vocabulary) - 1):.1%}",
        )
        for group, known in members.items()
    ],
)
BANDS = ((10, 20), (20, 50), (50, 100), (100, 300), (300, 10**9))
stability = {
    (model, low): [
        neighbor_agreement(
            trained[model, a][0].input,
            trained[model, b][0].input,
            np.flatnonzero((vocabulary.counts >= low) & (vocabulary.counts < high))[:300].tolist(),
        )
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    for model in MODELS
    for low, high in BANDS
}
table(
    ["occurrences", *(f"{model}: the same neighbors" for model in MODELS)],
    [(f"{low} or more", *(written(stability[model, low]) for model in MODELS)) for low, _ in BANDS],
)
first_group = next(iter(GROUPS))
settle("months", float(np.mean(precision["skip-gram", first_group])), tolerance=0.1)
settle("stable", float(np.mean(stability["skip-gram", 10])), tolerance=0.05)
for word in ("june", "army", "king", "good") if english_is_real else ("int", "class", "try"):
    near = nearest_neighbors(trained["skip-gram", 0][0].input, vocabulary.known([word]), 6)[0].tolist()
    print(f"  {word}: {', '.join(vocabulary.words[n] for n in near)}")

# %% [markdown] lang="en"
# With Wikipedia: nearly all neighbors of months are months, with every seed and both models; each occurs some 200 times, always
# between a day and a year. Numbers, directions and words of war, which the articles are full of, are found partly, a
# hundred times as often as by chance. Rulers, countries and judgements are not found: *king* occurs 112 times, but in every
# article near other words, and *good* stands near everything. (Where Wikipedia is not at hand, Python's manual takes its
# place, and its types and statements show the same in small.)
#
# The second table needs no opinion on what belongs together. Of words that occur 10 to 19 times, hardly one neighbor in
# twenty survives another seed: these vectors are still mostly what they were drawn as. Whoever prints the neighbors of
# one rare word with one seed reads tea leaves. Stability rises with frequency, and says for *your* text from where on
# vectors may be believed.

# %% [markdown] lang="zh"
# 使用维基百科时：月份的近邻几乎都是月份，每个种子、两个模型都如此；每个月份出现 200 次左右，总在日与年之间。
# 数字、方位和军事词在这些文章里很多，能找到一部分，是乱猜的一百倍。
# 君主、国家、评价词则找不到：*king* 出现 112 次，但每篇文章里旁边的词都不同；*good* 则什么词都可能挨着。
# （没有维基百科时用 Python 手册代替，其中的类型和语句在小范围内显示同样的情况。）
#
# 第二张表不需要判断什么词属于一类。出现 10 到 19 次的词，换一个种子，二十个近邻里几乎留不下一个：
# 这些向量基本还是随机抽出来的样子。只用一个种子、打印一个罕见词的近邻，等于看茶叶算命。
# 稳定性随频率上升，它告诉你，对*你的*文本，向量从什么频率起才可信。

# %% [markdown]
# ## Experiment: Chinese · 实验：中文

# %% [markdown] lang="en"
# 3,000 reviews of hotels, computers and books. Words are found by the score alone, without a dictionary: two characters are
# joined if they follow each other ten times as often as by chance, and then once more, up to four characters. This is not
# what a linguist would segment: `这本书` ("this book") and `很方便` ("very handy") become words, rare words stay in pieces; errors in
# it are errors of the vectors. (Dictionaries such as jieba's are better at names; BPE, 07/07 and 12/02, is the other way
# without one.) Contexts run on from one review to the next.
#
# Two tests by the nearest neighbor among given words. *Topic*: 29 words of hotels, computers or books. *Judgement*: 26
# words of praise or blame. Each review is about one topic and, mostly, of one opinion.

# %% [markdown] lang="zh"
# 3,000 条关于酒店、电脑和书的评论。词只凭得分发现，不用词典：两个字相连的次数是偶然的十倍以上就合并，再合并一次，最长四个字。
# 这不是语言学家会做的分词：“这本书”“很方便”也成了词，罕见词仍是碎片；分词的错误就是向量的错误。
# （jieba 那样的词典更擅长人名地名；BPE 是另一种不用词典的办法，见 07/07 和 12/02。）上下文会从一条评论延续到下一条。
#
# 用给定词中的最近邻做两个测试。*主题*：酒店、电脑或书的 29 个词。*褒贬*：26 个褒义或贬义词。
# 每条评论只谈一个主题，而且大多只有一种态度。

# %%
quiz(
    "opposites",
    en="Which is seen better: that 键盘 (keyboard) and 屏幕 (screen) share a topic, or that 差 (bad) and 糟糕 (awful) both blame?",
    zh="哪一个看得更清楚：“键盘”和“屏幕”同一主题，还是“差”和“糟糕”都是贬义？",
    choices={"topic": "topic · 主题", "judgement": "judgement · 褒贬", "alike": "both alike · 一样"},
)

# %%
TOPICS = (
    "酒店 宾馆 房间 前台 早餐 服务员 卫生间 大堂 大床房 空调",
    "键盘 屏幕 散热 内存 硬盘 电池 显卡 系统 驱动 机器",
    "作者 小说 故事 文字 阅读 书中 情节 内容 读者",
)
JUDGEMENTS = (
    "好 不错 很好 满意 漂亮 舒服 方便 干净 热情 值得 经典 精彩 喜欢",
    "差 太差 失望 糟糕 贵 脏 旧 吵 后悔 垃圾 郁闷 不好 恶劣",
)


def chinese(token: str) -> bool:
    return "\u4e00" <= token[0] <= "\u9fff"


def segment(text: str) -> list[str]:
    """Cuts a text into words, numbers and punctuation: characters joined twice, up to four."""
    characters = re.findall(r"[a-z0-9]+|\S", text.lower())
    once = join_phrases(characters, 10, 10, lambda a, b: chinese(a) and chinese(b))
    return join_phrases(once, 10, 50, lambda a, b: chinese(a) and chinese(b) and len(a + b) <= 4)


def labelled(vocabulary: Vocabulary, classes: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Numbers of the known words of each class, and the class of each."""
    known = [vocabulary.known(words.split()) for words in classes]
    return [word for each in known for word in each], [label for label, each in enumerate(known) for _ in each]


chinese_is_here = find("chinese-reviews") is not None
accuracy = {}
if chinese_is_here:
    reviews = data("chinese-reviews").train.texts[:3000]
    pieces = segment("\n".join(reviews))
    print(f"  {' '.join(pieces[:60])}")
    chinese_vocabulary = Vocabulary.build((piece for piece in pieces if chinese(piece)), min_count=10)
    chinese_ids = chinese_vocabulary.encode(pieces)
    print(f"  {len(chinese_ids):,} tokens, {len(chinese_vocabulary):,} different words, the most frequent longer ones:")
    print(f"  {' '.join([word for word in chinese_vocabulary.words if len(word) > 2][:20])}")
    chinese_vectors = [
        train_word2vec(chinese_ids, chinese_vocabulary.counts, seed, window=4)[0].input for seed in SEEDS
    ]
    for name, classes in (("topic", TOPICS), ("judgement", JUDGEMENTS)):
        words, labels = labelled(chinese_vocabulary, classes)
        accuracy[name] = [nearest_label_accuracy(vectors, words, labels) for vectors in chinese_vectors]
        chance = (np.bincount(labels) * (np.bincount(labels) - 1)).sum() / len(labels) / (len(labels) - 1)
        print(
            f"  {name}: {len(words)} words, the nearest is of the same class: {written(accuracy[name])}; by chance {chance:.0%}"
        )
    table(
        ["word", "nearest (seed 0)"],
        [
            (word, " ".join(chinese_vocabulary.words[n] for n in near.tolist()))
            for word in ("酒店", "键盘", "作者", "便宜", "差")
            for near in nearest_neighbors(chinese_vectors[0], chinese_vocabulary.known([word]), 7)
        ],
    )
    means = {name: float(np.mean(values)) for name, values in accuracy.items()}
else:
    print(
        "  the Chinese reviews are not on this machine; get them with `data fetch chinese-reviews`. Elsewhere they gave:"
    )
    means = {"topic": 1.0, "judgement": 0.65}
settle("opposites", max(means, key=means.get) if abs(means["topic"] - means["judgement"]) > 0.05 else "alike")

# %% [markdown] lang="en"
# Topics are seen without a mistake; judgements, depending on the seed, somewhere between chance, which is half, and three in
# four: 好 and 差 fit into the very same places ("the breakfast is ___"), and places are all that these vectors know. Nearness means *can stand here instead*, not *means the same*. For sentiment this is
# fatal, and it does not go away with more text, since it is in the definition; classifiers (11/03) need labels.

# %% [markdown] lang="zh"
# 主题一个不错；褒贬则随种子不同，在乱猜（一半）与四分之三之间：“好”和“差”填得进完全相同的位置（“早餐很___”），而这些向量只知道位置。
# 相近的意思是*可以替换在这里*，而不是*意思相同*。对情感分析这是致命的，并且文本再多也不会消失，因为它就在定义里；
# 分类器（11/03）需要标签。

# %%
figure, axes = plt.subplots(1, 3, figsize=(16, 4.2), layout="constrained")
for offset, model in ((-0.2, "skip-gram"), (0.2, "cbow")):
    places = np.arange(len(GROUPS)) + offset
    axes[0].barh(places, [np.mean(precision[model, group]) for group in GROUPS], 0.38, label=model, alpha=0.6)
    for place, group in zip(places, GROUPS, strict=True):
        axes[0].plot(precision[model, group], [place] * len(SEEDS), "k.", markersize=4)
axes[0].set_yticks(
    range(len(GROUPS)), [f"{group} ({int(np.median(vocabulary.counts[members[group]]))})" for group in GROUPS]
)
axes[0].invert_yaxis()
axes[0].set(title="Neighbors from the same group (median count)", xlabel="share; dots: seeds")
axes[0].legend()
for model in MODELS:
    axes[1].plot([low for low, _ in BANDS], [np.mean(stability[model, low]) for low, _ in BANDS], "o-", label=model)
axes[1].set(
    title="Neighbors that another seed has too",
    xscale="log",
    xlabel="occurrences, from … on",
    ylabel="share",
    ylim=(0, None),
)
axes[1].legend()
shown_vectors, shown_ids, shown_labels = (
    (chinese_vectors[0], *labelled(chinese_vocabulary, TOPICS))
    if chinese_is_here
    else (trained["skip-gram", 0][0].input, *labelled(vocabulary, tuple(GROUPS.values())[:3]))
)
names = ("hotels", "computers", "books") if chinese_is_here else tuple(GROUPS)[:3]
unit = F.normalize(shown_vectors, dim=-1)[shown_ids].double().numpy()
coordinates = PCA.fit(unit, 2, np.random.default_rng(0)).transform(unit)
for label, name in enumerate(names):
    chosen = coordinates[np.array(shown_labels) == label]
    axes[2].scatter(chosen[:, 0], chosen[:, 1], label=name)
axes[2].set(
    title=f"{'Chinese w' if chinese_is_here else 'W'}ords of three groups", xlabel="principal component 1", ylabel="2"
)
axes[2].legend(loc="upper left")
show(figure, "measured")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# torch has the parts: `nn.EmbeddingBag` looks words up and takes their mean, `binary_cross_entropy_with_logits` is the
# loss, autograd does the rest. Values and gradients of both tables must agree. In this repository's tests, single updates
# are also held against gensim's, the library that is used in practice; and the phrase scores against its `Phrases`. (One
# difference: with several context words, gensim and the authors' program do not divide the gradient by their number.)

# %% [markdown] lang="zh"
# torch 有现成的部件：`nn.EmbeddingBag` 查词并求平均，`binary_cross_entropy_with_logits` 是损失，其余交给 autograd。
# 两张表的数值和梯度都必须一致。本仓库的测试还拿单步更新与实际常用的 gensim 比较，短语得分与它的 `Phrases` 比较。
# （有一处不同：上下文有多个词时，gensim 和作者的程序不把梯度除以词数。）

# %%
random = torch.Generator().manual_seed(0)
text = torch.randint(0, 12, (60,), generator=random).numpy()
contexts, targets = (
    torch.from_numpy(each) for each in cbow_examples(text, context_windows(text, 2, np.random.default_rng(0)))
)
ours = Word2Vec(*(torch.randn(12, 6, generator=random, dtype=torch.float64) for _ in range(2)))
drawn = torch.tensor([3, 7, 7, 0])
loss, *gradients = ours.gradients(contexts, targets, drawn, negatives=5.0)
bag = nn.EmbeddingBag.from_pretrained(ours.input.clone(), freeze=False, mode="mean")
output = ours.output.clone().requires_grad_()
there = contexts >= 0
starts = torch.cat((torch.zeros(1, dtype=torch.long), there.sum(dim=1).cumsum(0)[:-1]))
hidden = bag(contexts[there], starts)
compared = torch.cat((targets[:, None], drawn.expand(len(targets), -1)), dim=1)  # [batch, 1 + noise]
logits = torch.einsum("bd,bnd->bn", hidden, output[compared])
answers = torch.zeros_like(logits)
answers[:, 0] = 1
weights = torch.where(compared == targets[:, None], 0.0, 5.0 / len(drawn))
weights[:, 0] = 1
library_loss = F.binary_cross_entropy_with_logits(logits, answers, weights.double(), reduction="sum")
library_loss.backward()

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the loss is 2.440", by_hand[0], 0.3133 + 2.1269, 1e-3)
check_close("by hand: the gradient of h is (1.493, -1.150)", by_hand[1][0], [1.4927, -1.1497], 1e-3)
check_close(
    "by hand: kept 0.1 and 1; noise 31.6 times", [keep[0], keep[1], noise[0] / noise[1]], [0.1, 1.0, 31.623], 1e-3
)
hotels = np.array([0, 1] * 4 + [1] + [2, 3] * 45 + [2])
scored = dict(zip(map(tuple, phrase_scores(hotels, 0)[0].tolist()), phrase_scores(hotels, 0)[1].tolist(), strict=True))
check_close("by hand: 酒店 is 20 times as frequent as by chance", scored[0, 1], 20.0, 1e-9)
check_close("the loss equals torch's", loss, library_loss, 1e-10)
check_close("so does the gradient of the input vectors", gradients[0], bag.weight.grad, 1e-10)
check_close("and that of the output vectors", gradients[1], output.grad, 1e-10)
check("the loss falls, with every seed", all(losses[-1] < losses[0] for _, losses in trained.values()))
chances = {group: (len(known) - 1) / (len(vocabulary) - 1) for group, known in members.items()}
check(
    "groups are found far more often than by chance on average, with every seed and both models",
    all(
        np.mean([precision[model, group][seed] for group in GROUPS]) > 5 * np.mean(list(chances.values()))
        for model in MODELS
        for seed in SEEDS
    ),
)
check(
    "neighbors of frequent words are stabler than those of rare ones, between all seeds and with both models",
    all(min(stability[model, BANDS[-1][0]]) > 2 * max(stability[model, BANDS[0][0]]) for model in MODELS),
)
if english_is_real:
    check(
        "Wikipedia: at least 3 in 4 neighbors of a month are months, with every seed and both models",
        min(precision["skip-gram", "months"] + precision["cbow", "months"]) > 0.75,
    )
    check(
        "Wikipedia: rulers and judgements are not found, with any seed and either model",
        max(precision[model, group][seed] for model in MODELS for group in ("rulers", "judgements") for seed in SEEDS)
        < 0.2,
    )
    check(
        "Wikipedia: of words that occur 10 to 19 times, fewer than 1 neighbor in 10 survives another seed",
        max(stability["skip-gram", 10] + stability["cbow", 10]) < 0.1,
    )
if chinese_is_here:
    check(
        "Chinese: the topic is seen better than the judgement, with every seed",
        all(topic > judged + 0.1 for topic, judged in zip(accuracy["topic"], accuracy["judgement"], strict=True)),
    )

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Vectors of this kind were the first layer of every text model until 2018. Today the first layer of BERT (07/07) and GPT
# (07/09) is still such a table; only that it is trained along with the layers above, which make the vector depend on the
# sentence. The same loss embeds whatever has contexts: products in baskets, songs in playlists, nodes on walks. The
# capstone `sentiment-bert` judges Chinese reviews with vectors that it learns from labels:
# `uv run --package sentiment-bert train --preset chinese`.
#
# Papers: [Mikolov et al. 2013a](https://arxiv.org/abs/1301.3781), the two models; [Mikolov et al.
# 2013b](https://arxiv.org/abs/1310.4546), negative sampling, subsampling, phrases; [Levy & Goldberg
# 2014](https://papers.nips.cc/paper/5477-neural-word-embedding-as-implicit-matrix-factorization), what is factorized; [Ji et
# al. 2016](https://arxiv.org/abs/1604.04661), shared noise words; [İrsoy et al. 2021](https://arxiv.org/abs/2012.15332),
# CBOW's gradient. Next: GloVe, subwords, analogies and bias, 11/02.

# %% [markdown] lang="zh"
# 2018 年之前，这类向量是所有文本模型的第一层。今天 BERT（07/07）和 GPT（07/09）的第一层仍是这样一张表，
# 只是与上面的层一起训练，由上面的层让向量随句子而变。同样的损失可以嵌入任何有上下文的东西：
# 购物篮里的商品、歌单里的歌、随机游走中的节点。
# 实战项目 `sentiment-bert` 用从标签学到的向量判断中文评论：`uv run --package sentiment-bert train --preset chinese`。
#
# 论文：[Mikolov 等 2013a](https://arxiv.org/abs/1301.3781)，两个模型；
# [Mikolov 等 2013b](https://arxiv.org/abs/1310.4546)，负采样、下采样、短语；
# [Levy 与 Goldberg 2014](https://papers.nips.cc/paper/5477-neural-word-embedding-as-implicit-matrix-factorization)，
# 分解的是什么；[Ji 等 2016](https://arxiv.org/abs/1604.04661)，共用噪声词；
# [İrsoy 等 2021](https://arxiv.org/abs/2012.15332)，CBOW 的梯度。下一课：GloVe、子词、类比与偏见，11/02。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `keep_probability`, `noise_distribution`, `context_windows`, `negative_sampling` and `Word2Vec.gradients` yourself.
# `uv run lesson exercise 11/01` makes a file with their signatures, `uv run lesson check 11/01` judges them one after the
# other.

# %% [markdown] lang="zh"
# 自己实现 `keep_probability`、`noise_distribution`、`context_windows`、`negative_sampling` 和 `Word2Vec.gradients`。
# `uv run lesson exercise 11/01` 生成带有签名的文件，`uv run lesson check 11/01` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. A word's relative frequency is `counts / counts.sum()`; `np.minimum` caps the probability at 1. The noise
#    distribution must sum to 1 after the power.
# 2. Draw `reach` first, with `rng.integers(1, window + 1, size=len(ids))`. Distances run from -window to window without 0.
#    Clip the places before you index, and put -1 where they are outside the text or beyond the reach.
# 3. `F.softplus(-x)` is $-\log \sigma(x)$. The errors are $\sigma - 1$ for true words and weight · $\sigma$ for noise.
# 4. In `gradients`, the mean's weights are `there / there.sum(dim=1, keepdim=True)`. Weights of noise words that equal the
#    target are 0. Sum gradients of repeated words with `index_add_`; plain indexed assignment keeps only the last.

# %% [markdown] lang="zh"
# 1. 词的相对频率是 `counts / counts.sum()`；用 `np.minimum` 把概率限制在 1 以内。噪声分布取幂之后要归一化。
# 2. 先抽 `reach`：`rng.integers(1, window + 1, size=len(ids))`。距离从 -window 到 window，不含 0。
#    取值之前先把下标截断到范围内，文本之外或超出 reach 的位置填 -1。
# 3. `F.softplus(-x)` 就是 $-\log \sigma(x)$。真实词的误差是 $\sigma - 1$，噪声词的误差是权重乘 $\sigma$。
# 4. 在 `gradients` 里，平均的权重是 `there / there.sum(dim=1, keepdim=True)`。与目标相同的噪声词权重为 0。
#    重复的词用 `index_add_` 累加梯度；普通的下标赋值只会留下最后一个。


# %%
@exercise(keep_probability, noise_distribution, context_windows, negative_sampling, Word2Vec.gradients)
def judge(yours, reference):
    counts = np.array([900, 90, 9, 1])
    check("keep_probability is at most 1", yours.keep_probability(counts, 0.01).max() <= 1)
    check_close(
        "keep_probability of four words", yours.keep_probability(counts, 0.01), reference.keep_probability(counts, 0.01)
    )
    check_close("noise_distribution sums to 1", yours.noise_distribution(counts).sum(), 1.0)
    for power in (0.75, 0.0):
        check_close(
            f"noise_distribution with power {power}",
            yours.noise_distribution(counts, power),
            reference.noise_distribution(counts, power),
        )
    ids = np.random.default_rng(1).integers(0, 9, size=30)
    for window in (1, 3):
        mine, theirs = (each.context_windows(ids, window, np.random.default_rng(2)) for each in (yours, reference))
        check(f"context_windows with window {window} is [tokens, {2 * window}]", mine.shape == (30, 2 * window))
        check_close(f"context_windows with window {window}: where there is a neighbor", mine >= 0, theirs >= 0)
        check_close(f"context_windows with window {window}: the neighbors", mine, theirs)
    random = torch.Generator().manual_seed(3)
    hidden, positive, negative = (torch.randn(n, 4, generator=random, dtype=torch.float64) for n in (6, 6, 3))
    weight = torch.rand(6, 3, generator=random, dtype=torch.float64)
    mine, theirs = (each.negative_sampling(hidden, positive, negative, weight) for each in (yours, reference))
    for name, a, b in zip(
        ("the loss", "the gradient of hidden", "of positive", "of negative"), mine, theirs, strict=True
    ):
        check_close(f"negative_sampling: {name}", a, b, 1e-10)
    tables = [torch.randn(9, 5, generator=random, dtype=torch.float64) for _ in range(2)]
    inputs = torch.randint(0, 9, (20, 3), generator=random)
    targets, noise = torch.randint(0, 9, (20,), generator=random), torch.tensor([1, 4, 4, 8])
    for name, given in (
        ("one input word", inputs[:, :1]),
        ("three input words", inputs),
        ("missing input words", torch.where(inputs < 4, -1, inputs)),
    ):
        given = torch.where((given >= 0).any(dim=1, keepdim=True), given, 0)
        mine, theirs = (each.Word2Vec(*tables).gradients(given, targets, noise, 5.0) for each in (yours, reference))
        for what, a, b in zip(("the loss", "input gradients", "output gradients"), mine, theirs, strict=True):
            check_close(f"gradients, {name}: {what}", a, b, 1e-10)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does negative sampling replace the softmax? · 为什么用负采样代替 softmax？

# %% [markdown] lang="en"
# A softmax over the vocabulary needs the logit of every word for each example, and a gradient for each. Negative sampling
# asks a smaller question, true pair or noise, for $1 + k$ words. It does not give probabilities of words, which a language
# model needs, but vectors are all that is wanted. (Hierarchical softmax costs about $\log_2$ of the vocabulary and does give
# probabilities.)

# %% [markdown] lang="zh"
# 对整个词表做 softmax，每个样本都要算所有词的 logit 和梯度。负采样问的是更小的问题：真实的对还是噪声，只涉及 $1 + k$ 个词。
# 它给不出语言模型需要的词的概率，但这里要的只是向量。（层次 softmax 的代价约为词表大小的 $\log_2$，并且给得出概率。）

# %%
words, width = len(vocabulary), 32
table(
    ["for one example", "products of vectors", "multiplications"],
    [
        ("softmax", words, words * width),
        ("hierarchical softmax, about", round(float(np.log2(words))), round(float(np.log2(words))) * width),
        ("negative sampling, k = 5", 6, 6 * width),
    ],
)

# %% [markdown]
# ### Why has each word two vectors? · 为什么每个词有两个向量？

# %% [markdown] lang="en"
# With one vector, $v_w^\top v_w = |v_w|^2$ is positive, so the model would say that a word is likely to stand next to itself;
# but words hardly ever do. Two tables separate "what I am" from "what I stand beside". The input vectors are kept; some
# keep the sum. Similar words have similar *input* vectors, while the product of an input and an output vector says how
# likely the two are to *meet*.

# %% [markdown] lang="zh"
# 如果只有一个向量，$v_w^\top v_w = |v_w|^2$ 为正，模型就会认为词很可能紧挨着自己；而词几乎从不这样出现。
# 两张表把“我是什么”和“我挨着什么”分开。通常留用输入向量，也有人用两者之和。
# 相似的词，*输入*向量相近；输入向量与输出向量的点积则表示两个词*相遇*的可能性。

# %%
vectors = trained["skip-gram", 0][0]
some = torch.arange(200)
squared = vectors.input[some].square().sum(dim=1).median()
meets = (vectors.input[some] * vectors.output[some]).sum(dim=1).median()
print(f"  200 frequent words beside themselves, median logit: one table would say {squared:.2f}, two say {meets:.2f}")

# %% [markdown]
# ### Why is the noise distribution raised to the power 3/4? · 噪声分布为什么取 3/4 次幂？

# %% [markdown] lang="en"
# It was found by trial (2013b, section 2.2). Between drawing words as often as they occur, where the noise is nearly always
# *the* and *of*, and drawing all alike, where it is nearly always a rare word that is easily told apart. The power flattens:
# rare words are noise more often than they occur, frequent ones more seldom.

# %% [markdown] lang="zh"
# 是试出来的（2013b，第 2.2 节）。介于两种极端之间：按出现频率抽，噪声几乎总是 *the* 和 *of*；
# 全部等概率抽，则几乎总是一眼就能分辨的罕见词。取幂使分布变平：罕见词做噪声比实际出现得多，高频词则少。

# %%
table(
    ["power", "noise that is one of the 100 most frequent words"],
    [(power, f"{noise_distribution(vocabulary.counts, power)[:100].sum():.0%}") for power in (1.0, 0.75, 0.0)],
)

# %% [markdown]
# ### What does subsampling of frequent words bring, besides speed? · 高频词下采样除了更快，还有什么好处？

# %% [markdown] lang="en"
# Dropped words make room: neighbors are counted after dropping, so that a window reaches further, and to words that say more
# than *the* does. Rare words get more informative contexts, and frequent ones are still seen thousands of times.

# %% [markdown] lang="zh"
# 丢掉的词腾出了位置：邻居是在丢弃之后数的，窗口因此伸得更远，够到比 *the* 更有信息的词。
# 罕见词得到更有信息的上下文，高频词仍然被看到成千上万次。

# %%
kept = keep_probability(vocabulary.counts, 5e-4)
share = float((vocabulary.counts * kept).sum() / vocabulary.counts.sum())
print(f"  kept {share:.0%} of the tokens: a window of 2 reaches up to {2 / share:.1f} words of the text, on average")
print(
    f"  '{vocabulary.words[0]}': kept {kept[0]:.1%} of {vocabulary.counts[0]:,}, still {kept[0] * vocabulary.counts[0]:,.0f}"
)

# %% [markdown]
# ### What do the products of skip-gram's vectors converge to? · skip-gram 向量的点积收敛到什么？

# %% [markdown] lang="en"
# If the dimension does not limit them, $v_w^\top u_c = \mathrm{PMI}(w, c) - \log k$ for noise drawn by frequency (Levy & Goldberg
# 2014): set the derivative of the expected loss with respect to the logit to zero. So word2vec factorizes a matrix of
# co-occurrence statistics, as older methods did; pairs that never meet would be at $-\infty$, and the few dimensions
# smooth them.

# %% [markdown] lang="zh"
# 如果维数不构成限制，噪声按频率抽取时 $v_w^\top u_c = \mathrm{PMI}(w, c) - \log k$（Levy 与 Goldberg 2014）：
# 令期望损失对 logit 的导数为零即得。所以 word2vec 是在分解一个共现统计矩阵，和更早的方法一样；
# 从不相遇的词对本应是 $-\infty$，较少的维数把它们平滑了。

# %%
n_pairs = torch.tensor([[30.0, 5.0, 1.0], [5.0, 2.0, 9.0], [1.0, 9.0, 4.0]], dtype=torch.float64)  # words, contexts
total, k_noise = n_pairs.sum(), 5
n_words, n_contexts = n_pairs.sum(dim=1, keepdim=True), n_pairs.sum(dim=0, keepdim=True)
shifted_pmi = (n_pairs * total / (n_words * n_contexts)).log() - np.log(k_noise)
logits = shifted_pmi.clone().requires_grad_()
expected_loss = (n_pairs * F.softplus(-logits) + k_noise * n_words * n_contexts / total * F.softplus(logits)).sum()
print(
    f"  gradient of the expected loss at PMI - log k: {torch.autograd.grad(expected_loss, logits)[0].abs().max():.1e}"
)

# %% [markdown]
# ### Skip-gram or CBOW? · 选 skip-gram 还是 CBOW？

# %% [markdown] lang="en"
# CBOW makes one example of a window, skip-gram one of each pair: skip-gram does several times the work in a pass, and gives
# rare words whole updates of their own, where CBOW averages them with their neighbors. On little text and for rare words
# skip-gram is the usual choice, on a lot of text CBOW is cheaper. Part of CBOW's bad name comes from a wrong gradient in the
# common programs (İrsoy et al. 2021). Here, after equally many passes, both find
# the months, and skip-gram's neighbors are the stabler ones.

# %% [markdown] lang="zh"
# CBOW 一个窗口做一个样本，skip-gram 每一对做一个：skip-gram 读一遍的工作量多几倍，但罕见词能得到完整的更新，
# 而 CBOW 把它们和邻居平均在一起。文本少、看重罕见词时常选 skip-gram，文本很多时 CBOW 更便宜。
# CBOW 名声不佳，部分原因是常用程序里的梯度不对（İrsoy 等 2021）。这里读同样多遍之后，两者都找到了月份，skip-gram 的近邻更稳定。

# %%
example_windows = context_windows(ids[:10_000], 2, np.random.default_rng(0))
for name, make in (("skip-gram", skip_gram_examples), ("cbow", cbow_examples)):
    made = len(make(ids[:10_000], example_windows)[1])
    print(
        f"  {name}: {made / 10_000:.1f} examples a token; stability of words seen 300 times: {written(stability[name, 300])}"
    )

# %% [markdown]
# ### Do near vectors mean the same? · 向量相近就是意思相同吗？

# %% [markdown] lang="en"
# They mean that the words occur in similar places: synonyms, but also opposites, members of one list, and words of one
# topic. A small window gives words that can replace each other, a large one words of the same topic. Whoever needs
# sentiment, logic or the sense in this very sentence needs labels or a model of context.

# %% [markdown] lang="zh"
# 只说明这些词出现在相似的位置：可能是同义词，也可能是反义词、同一列表的成员、同一主题的词。
# 小窗口得到可以互相替换的词，大窗口得到同一主题的词。需要情感、逻辑或在这句话里的具体词义，就要标签或能读上下文的模型。

# %%
if chinese_is_here:
    unit = F.normalize(torch.stack(chinese_vectors), dim=-1)  # [seeds, vocab, dim]
    for a, b in (("好", "差"), ("好", "很好"), ("键盘", "屏幕"), ("键盘", "作者")):
        if len(known := chinese_vocabulary.known([a, b])) == 2:
            cosines = (unit[:, known[0]] * unit[:, known[1]]).sum(dim=1).tolist()
            print(f"  {a} and {b}: cosine {' '.join(f'{cosine:.2f}' for cosine in cosines)}")
else:
    unit = F.normalize(trained["skip-gram", 0][0].input, dim=-1)
    a, b = vocabulary.known(["true", "false"])
    print(f"  true and false: cosine {unit[a] @ unit[b]:.2f}")
