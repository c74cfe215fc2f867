# %% [markdown]
# # Text classification · 文本分类

# %% [markdown] lang="en"
# After this lesson you can classify texts in six ways, from counting words to a pretrained encoder, compare them at equal
# computing time, and say what a model that ignores the order of words can never learn. You need logistic regression and
# naive Bayes (02/06), convolution (05/01), LSTM (06/04) and BERT (07/07).

# %% [markdown] lang="zh"
# 学完本课，你能用六种方法给文本分类，从数词到预训练编码器；会在相同的计算时间下比较它们，
# 并能说出不看词序的模型永远学不会什么。先修：逻辑回归与朴素贝叶斯（02/06）、卷积（05/01）、LSTM（06/04）、BERT（07/07）。

# %%
import re
from functools import partial
from time import process_time

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.mathematics.intervals import wilson_interval
from dlcommon.nlp.bag_of_words import CountVectorizer, MultinomialNaiveBayes, TfidfTransformer, terms_of
from dlcommon.nlp.text_cnn import TextCNN, max_over_time, windows
from dlcommon.rnn.recurrent import LSTM
from dlcommon.runtime.data import find
from dlcommon.transformer.bert import mean_pool
from dlcommon.transformer.bert_weights import load_pretrained
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# Reviews come in by the thousand, and each is to be filed as praise or complaint. The simplest model counts words: "good"
# speaks for praise, "bad" for complaint. But it cannot tell which word a "not" belongs to. An LSTM reads in order, and BERT has
# read a large part of the web before. Each of them costs more than the one before. What does one get for it, if all are
# given the same time?

# %% [markdown] lang="zh"
# 成千上万条评论涌进来，每一条都要归为好评或差评。最简单的模型只数词：“good” 说明是好评，“bad” 说明是差评。
# 但它分不清 “not good” 里的 “not” 管着谁。LSTM 按顺序读；BERT 事先读过大量网络文本。
# 每一种都比前一种贵。如果给它们同样的时间，多花的代价换来了什么？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Three reviews: "good film" is positive, "not good" and "bad film" are negative.
#
# **TF-IDF.** "good" is in two of three texts, "not" in one. The rarer word says more: the weights are
# $\ln \frac{1 + 3}{1 + 2} + 1 = 1.288$ and $\ln \frac{1 + 3}{1 + 1} + 1 = 1.693$. "not good" becomes (1.288, 1.693), at length 1 (0.605, 0.796).
#
# **Naive Bayes.** Count words in each class, add 1 to each of the four. Positive: good 2, film 2, bad 1, not 1, of 6.
# Negative: 2 each, of 8. "good" changes the log odds by $\ln \frac{2/6}{2/8} = 0.288$, "not" by
# $\ln \frac{1/6}{2/8} = -0.405$, in *every* text. So if "not" turns "good" into a complaint, it cannot turn "bad" into praise:
# it pushes both in the same direction.
#
# **A filter over two words.** Let "good" be the number 1, "not" $-1$, all others 0, and the filter $(-1, 1)$. In "not good" its
# largest response is $(-1)(-1) + 1 \cdot 1 = 2$; in "film good" and in "good not" only 1. It sees a pair in its order.

# %% [markdown] lang="zh"
# 三条评论：“good film” 是正面，“not good” 和 “bad film” 是负面。
#
# **TF-IDF。** “good” 出现在三条中的两条，“not” 在一条中。越少见的词越有信息：
# 权重为 $\ln \frac{1 + 3}{1 + 2} + 1 = 1.288$ 和 $\ln \frac{1 + 3}{1 + 1} + 1 = 1.693$。“not good” 变成 (1.288, 1.693)，长度归一后是 (0.605, 0.796)。
#
# **朴素贝叶斯。** 在每一类中数词，四个词各加 1。正面：good 2、film 2、bad 1、not 1，共 6。负面：各 2，共 8。
# “good” 使对数几率改变 $\ln \frac{2/6}{2/8} = 0.288$，“not” 改变 $\ln \frac{1/6}{2/8} = -0.405$，在*每一条*文本里都一样。
# 所以如果 “not” 能把 “good” 变成差评，就不能把 “bad” 变成好评：它把两者推向同一个方向。
#
# **跨两个词的滤波器。** 令 “good” 为 1，“not” 为 $-1$，其余为 0，滤波器为 $(-1, 1)$。
# 在 “not good” 中最大响应是 $(-1)(-1) + 1 \cdot 1 = 2$；在 “film good” 和 “good not” 中只有 1。它看到的是有先后的一对词。

# %%
three_texts, three_labels = ["good film", "not good", "bad film"], np.array([1, 0, 0])
vectorizer = CountVectorizer().fit(three_texts)
three_counts = vectorizer.transform(three_texts)
three_weights = TfidfTransformer().fit(three_counts)
by_hand_bayes = MultinomialNaiveBayes().fit(three_counts, three_labels)
by_hand_odds = by_hand_bayes.log_probability[1] - by_hand_bayes.log_probability[0]
table(
    ["term", "idf", "tf-idf in “not good”", "log odds"],
    [
        (term, float(three_weights.idf[n]), float(three_weights.transform(three_counts)[1, n]), float(by_hand_odds[n]))
        for term, n in vectorizer.columns.items()
    ],
)
VALUES = {"good": 1.0, "not": -1.0, "film": 0.0}
responses = {}
for phrase in ("not good", "film good", "good not"):
    numbers = torch.tensor([[[VALUES[word]] for word in phrase.split()]])  # [batch 1, tokens 2, dim 1]
    response = windows(numbers, 2) @ torch.tensor([[-1.0], [1.0]])  # [1, 2, 1]
    responses[phrase] = max_over_time(F.relu(response), torch.ones(1, 2, dtype=torch.bool)).item()
print(f"  largest response of the filter: {responses}")

# %% [markdown]
# ## Formula · 公式
#
# $$x_{dw} = \frac{n_{dw} \, \mathrm{idf}_w}{\lVert n_d \odot \mathrm{idf} \rVert}, \qquad \mathrm{idf}_w = \ln \frac{1 + N}{1 + N_w} + 1$$
#
# $$\log p(c \mid d) = \log p(c) + \sum_w n_{dw} \log \theta_{cw} + \text{const}, \qquad \theta_{cw} = \frac{n_{cw} + \alpha}{\sum_v (n_{cv} + \alpha)}$$
#
# $$h_{tf} = \max\left(0, \; w_f^\top [x_t; \dots; x_{t+k-1}] + b_f\right), \qquad \hat h_f = \max_t h_{tf}, \qquad z = V \hat h + v$$

# %% [markdown] lang="en"
# - $n_{dw}$: how often term $w$ is in text $d$, `[texts, terms]`; $N$: texts in training; $N_w$: those with the term.
# - $\odot$: product element by element; $x_d$: the text's weights, of length 1.
# - $c$: a class; $n_{cw}$: the term's count in all texts of the class; $\alpha$: added to each count; $\theta_{cw}$: probability of the term.
# - const: the same for all classes, so it decides nothing.
# - $x_t$: vector of token $t$, `[dim]`; $k$: width of a filter; $[\,;\,]$: laid side by side, `[k · dim]`.
# - $w_f, b_f$: filter $f$; $\hat h_f$: its largest response in the text (Kim 2014, section 2); $z$: logits; $V, v$: the classifier.
#
# The first two lines know a text only through its counts: whatever order the words stand in, the result is the same. In
# the second each word adds its own amount, whoever stands beside it. Pairs of words as terms (bigrams) are the way
# out within counting: "not good" becomes a word of its own, which has to be seen often enough.

# %% [markdown] lang="zh"
# - $n_{dw}$：词项 $w$ 在文本 $d$ 中出现的次数，`[texts, terms]`；$N$：训练文本数；$N_w$：含该词项的文本数。
# - $\odot$：逐元素相乘；$x_d$：文本的权重，长度为 1。
# - $c$：类别；$n_{cw}$：该类所有文本中词项的次数；$\alpha$：每个次数加上的数；$\theta_{cw}$：词项的概率。
# - const：对所有类别都相同，不影响判断。
# - $x_t$：词元 $t$ 的向量，`[dim]`；$k$：滤波器的宽度；$[\,;\,]$：并排拼接，`[k · dim]`。
# - $w_f, b_f$：滤波器 $f$；$\hat h_f$：它在文本中的最大响应（Kim 2014，第 2 节）；$z$：logits；$V, v$：分类器。
#
# 前两行只通过次数认识文本：词怎样排列，结果都一样。第二行里每个词各加各的，不管旁边是谁。
# 在计数的框架内，出路是把相邻词对（bigram）当作词项：“not good” 成了一个单独的词，但必须出现得足够多。

# %% [markdown]
# ## Code · 代码

# %%
source(TfidfTransformer.fit)
source(TfidfTransformer.transform)
source(MultinomialNaiveBayes.fit)
source(windows)
source(max_over_time)
source(TextCNN.forward)

# %% [markdown] lang="en"
# Counts are sparse: of some 14,000 terms a sentence holds about fifteen. `counts.indices` lists the column of every stored entry, so
# counting these gives $N_w$. `counts.T @ one_hot` sums the counts of each class in one product, `[terms, num_classes]`.
#
# In `windows`, `unfold` makes `[batch, tokens, dim, width]` of the padded text, and the last two axes are exchanged and
# flattened: `[batch, tokens, width · dim]`. A convolution over words is a linear map of that. `max_over_time` sets responses
# in the padding to $-\infty$ first; without that, a text's logits would depend on what it shares a batch with.

# %% [markdown] lang="zh"
# 次数矩阵是稀疏的：约 14,000 个词项中，一句话只含十几个。`counts.indices` 列出每个非零元素的列号，数一数就得到 $N_w$。
# `counts.T @ one_hot` 一次乘法就把各类的次数加起来，`[terms, num_classes]`。
#
# `windows` 中，`unfold` 把补零后的文本变成 `[batch, tokens, dim, width]`，再交换并展平最后两轴：`[batch, tokens, width · dim]`。
# 对词做卷积，就是对它做线性映射。`max_over_time` 先把填充处的响应设为 $-\infty$；
# 否则一条文本的 logits 会取决于和谁分在同一批。

# %% [markdown]
# ## Experiment: half a second each · 实验：每种方法半秒

# %% [markdown] lang="en"
# SST-2: 6,920 sentences of film reviews to train, 872 to test. Every way has half a second of one core (CPU time, so that other
# programs on the machine do not matter) to read the texts and to train:
#
# - *naive Bayes* on counts, and *logistic regression* on TF-IDF of words and pairs; both see all sentences and are done early;
# - *TextCNN* and a bidirectional *LSTM*, small ones with random weights, which get their words as numbers for free; they
#   train until the time is over;
# - *MiniLM's word vectors*: mean of the frozen table's rows, no layers, then logistic regression;
# - *MiniLM*, all six layers frozen, mean of the tokens, then logistic regression: it gets through as many sentences as fit.
#
# What is trained with chance runs with three seeds. The encoder is slow, so it trains and is tested on short sentences, up to
# 14 pieces; the last column is of these for all. How far half a second goes depends on your machine. Without the data
# set or the encoder, generated sentences take their place, and the lesson claims nothing about real ones.

# %% [markdown] lang="zh"
# SST-2：6,920 句影评用来训练，872 句用来测试。每种方法有单核半秒（CPU 时间，机器上的其他程序不影响）来读文本并训练：
#
# - 词数上的*朴素贝叶斯*；单词与词对的 TF-IDF 上的*逻辑回归*；两者看完所有句子，很早就结束；
# - *TextCNN* 和双向 *LSTM*，都很小，从随机权重开始，词的编号事先备好、不计时；训练到时间用完；
# - *MiniLM 的词向量*：冻结的嵌入表各行取平均，不经过任何层，再做逻辑回归；
# - *MiniLM*：六层全部冻结，取各词元的平均，再做逻辑回归；时间内能读多少句就用多少句。
#
# 带随机性的方法跑三个种子。编码器慢，所以它用短句（不超过 14 个片段）训练和测试，最后一列对所有方法都只算这些句子。
# 半秒能做多少取决于你的机器。没有数据集或编码器时，用生成的句子代替，本课不对真实文本下结论。

# %%
quiz(
    "best",
    en="Which is best on the short sentences after half a second?",
    zh="半秒之后，哪一种在短句上最好？",
    choices={
        "naive Bayes": "naive Bayes · 朴素贝叶斯",
        "TF-IDF, regression": "TF-IDF, regression · TF-IDF 加逻辑回归",
        "TextCNN": "TextCNN",
        "LSTM": "LSTM",
        "word vectors": "MiniLM's word vectors · MiniLM 词向量",
        "MiniLM": "MiniLM",
    },
)

# %%
BUDGET, SEEDS, SHORT = 0.5, (0, 1, 2), 14
folder = asset("all-minilm-l6-v2")
reviews = data("sst2", "generated-reviews")
real = folder is not None and find("sst2") is not None
train_texts, test_texts = list(reviews.train.texts), list(reviews.test.texts)
train_labels, test_labels = np.array(reviews.train.labels), np.array(reviews.test.labels)
seconds_of: dict[str, list[float]] = {}
sentences_of: dict[str, list[int]] = {}
predicted: dict[tuple[str, int], np.ndarray] = {}  # classes of all test sentences, by method and seed
classify: dict[str, object] = {}  # functions from texts to classes; of the last seed


def record(name: str, seed: int, started: float, sentences: int, classifier) -> None:
    """Notes how long the training took, then classifies the test sentences, which is not timed."""
    seconds_of.setdefault(name, []).append(process_time() - started)
    sentences_of.setdefault(name, []).append(sentences)
    predicted[name, seed] = classifier(test_texts)
    classify[name] = classifier


started = process_time()
counter = CountVectorizer().fit(train_texts)
bayes = MultinomialNaiveBayes().fit(counter.transform(train_texts), train_labels)
record("naive Bayes", 0, started, len(train_texts), lambda texts: bayes.predict(counter.transform(texts)))

started = process_time()
pairs = CountVectorizer(longest=2, min_df=2).fit(train_texts)
pair_counts = pairs.transform(train_texts)
weights = TfidfTransformer().fit(pair_counts)
regression = LogisticRegression(C=4.0, max_iter=100).fit(weights.transform(pair_counts), train_labels)
record(
    "TF-IDF, regression",
    0,
    started,
    len(train_texts),
    lambda texts: regression.predict(weights.transform(pairs.transform(texts))),
)


class Reader(nn.Module):
    """Classifies by the largest output of a bidirectional LSTM over the words."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(vocab_size, 32, padding_idx=0), LSTM(32, 32, bidirectional=True)
        self.dropout, self.classifier = nn.Dropout(0.3), nn.Linear(64, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.lstm(self.embedding(ids), lengths=mask.sum(dim=1))  # [batch, tokens, 64]
        return self.classifier(self.dropout(max_over_time(outputs, mask)))


def padded(texts: list[str], numbers: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask [texts, tokens]; 0 is the padding, 1 a word that is not in the table."""
    rows = [torch.tensor([numbers.get(word, 1) for word in text.lower().split()]) for text in texts]
    ids = pad_sequence(rows, batch_first=True)
    return ids, ids != 0


counts_of_words: dict[str, int] = {}
for text in train_texts:
    for word in text.lower().split():
        counts_of_words[word] = counts_of_words.get(word, 0) + 1
numbers = {word: n for n, word in enumerate((w for w, count in counts_of_words.items() if count > 1), start=2)}
by_length = sorted(range(len(train_texts)), key=lambda n: train_texts[n].count(" "))
chunks = [by_length[start : start + 64] for start in range(0, len(by_length), 64)]  # texts of similar length
batches = [
    (*padded([train_texts[n] for n in chunk], numbers), torch.from_numpy(train_labels[chunk])) for chunk in chunks
]


def train_network(name: str, make, seed: int, budget: float = BUDGET) -> None:
    """Trains until the time is over."""
    torch.manual_seed(seed)
    begun, generator = process_time(), torch.Generator().manual_seed(seed)
    network = make(len(numbers) + 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
    seen = 0
    while (progress := (process_time() - begun) / budget) < 1:
        if seen % len(batches) == 0:
            order = torch.randperm(len(batches), generator=generator).tolist()
        ids, mask, labels = batches[order[seen % len(batches)]]
        loss = F.cross_entropy(network(ids, mask), labels)
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, 2 - 2 * progress)  # falls in the second half
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += 1
    network.eval()

    def classifier(texts: list[str]) -> np.ndarray:
        with torch.no_grad():
            return network(*padded(texts, numbers)).argmax(dim=1).numpy()

    record(name, seed, begun, 64 * seen, classifier)


small_cnn = partial(TextCNN, num_classes=2, dim=32, filters=24, dropout=0.3)
for network in (small_cnn, Reader):  # torch loads much at its first steps; that is over before the clock starts
    train_network("warm-up", network, 0, budget=0.01)
del seconds_of["warm-up"], sentences_of["warm-up"], predicted["warm-up", 0], classify["warm-up"]
for seed in SEEDS:
    train_network("TextCNN", small_cnn, seed)
    train_network("LSTM", Reader, seed)

if folder is not None:
    encoder, tokenizer = load_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    table_of_vectors = encoder.embeddings.word.weight.detach()  # [pieces, 384]

    def piece_ids(texts: list[str]) -> list[list[int]]:
        return [each.ids for each in tokenizer.encode_batch(texts)]

    def word_vectors(texts: list[str]) -> np.ndarray:
        """Mean of the pieces' vectors, [texts, 384]."""
        rows = piece_ids(texts)
        offsets = torch.tensor([0, *(len(ids) for ids in rows[:-1])]).cumsum(0)
        flat = torch.tensor([piece for ids in rows for piece in ids])
        return 10 * F.embedding_bag(flat, table_of_vectors, offsets, mode="mean").numpy()  # 10: about size 1

    @torch.inference_mode()
    def sentence_vectors(texts: list[str], until: float = np.inf) -> np.ndarray:
        """Mean of the tokens' features after six layers, [texts, 384]; stops early when CPU time is `until`."""
        rows, found = piece_ids(texts), []
        for start in range(0, len(texts), 16):
            if process_time() > until:
                break
            ids = pad_sequence([torch.tensor(row) for row in rows[start : start + 16]], batch_first=True)
            found.append(mean_pool(encoder(ids, ids != 0), ids != 0))
        return torch.cat(found).numpy()

    def is_short(texts: list[str]) -> np.ndarray:
        return np.array([len(ids) <= SHORT for ids in piece_ids(texts)])

    started = process_time()
    averaged = LogisticRegression(C=4.0, max_iter=100).fit(word_vectors(train_texts), train_labels)
    record("word vectors", 0, started, len(train_texts), lambda texts: averaged.predict(word_vectors(texts)))
    short_train, short_test = np.flatnonzero(is_short(train_texts)), np.flatnonzero(is_short(test_texts))
    short_texts = [test_texts[n] for n in short_test]
    short_features = sentence_vectors(sorted(short_texts, key=len))
    short_features = short_features[np.argsort(sorted(range(len(short_texts)), key=lambda n: len(short_texts[n])))]
    same_sentences: list[float] = []  # accuracy of naive Bayes trained on the encoder's sentences alone
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(short_train)[:2000]
        started = process_time()
        features = sentence_vectors([train_texts[n] for n in order], until=started + 0.95 * BUDGET)
        labels = train_labels[order[: len(features)]]
        head = LogisticRegression(C=4.0, max_iter=100).fit(features, labels)
        seconds_of.setdefault("MiniLM", []).append(process_time() - started)
        sentences_of.setdefault("MiniLM", []).append(len(features))
        answers = np.full(len(test_texts), -1)
        answers[short_test] = head.predict(short_features)
        predicted["MiniLM", seed] = answers
        few = [train_texts[n] for n in order[: len(features)]]
        few_counter = CountVectorizer().fit(few)
        few_bayes = MultinomialNaiveBayes().fit(few_counter.transform(few), labels)
        few_answers = few_bayes.predict(few_counter.transform(short_texts))
        same_sentences.append(float((few_answers == test_labels[short_test]).mean()))
    classify["MiniLM"] = lambda texts: head.predict(sentence_vectors(texts))
else:
    short_test = np.flatnonzero([text.count(" ") < SHORT for text in test_texts])
    short_texts = [test_texts[n] for n in short_test]


def accuracies(name: str, chosen: np.ndarray) -> list[float]:
    """Of each seed, on the chosen test sentences."""
    return [
        float((answer[chosen] == test_labels[chosen]).mean()) for (own, _), answer in predicted.items() if own == name
    ]


def interval(name: str, chosen: np.ndarray) -> tuple[float, float]:
    """95 % interval (Wilson) of the first seed's accuracy."""
    right = int((predicted[name, 0][chosen] == test_labels[chosen]).sum())
    low, high = wilson_interval(right, len(chosen))
    return float(low), float(high)


def written(values: list[float]) -> str:
    return " ".join(f"{value:.1%}" for value in values)


METHODS = list(seconds_of)
everything = np.arange(len(test_texts))
table(
    [
        "method",
        "CPU seconds",
        "sentences read",
        f"accuracy on all {len(test_texts)}",
        f"on {len(short_test)} short ones",
    ],
    [
        (
            name,
            f"{max(seconds_of[name]):.2f}",
            " ".join(map(str, sentences_of[name])),
            written(accuracies(name, everything)) if name != "MiniLM" else "–",
            written(accuracies(name, short_test)),
        )
        for name in METHODS
    ],
)
spread = {name: interval(name, short_test if name == "MiniLM" else everything) for name in METHODS}
low, high = spread["naive Bayes"]
print(
    f"  95 % interval of naive Bayes: {low:.1%} to {high:.1%} on all; on the short ones {written(list(interval('naive Bayes', short_test)))}"
)
means = {name: float(np.mean(accuracies(name, short_test))) for name in METHODS}
settle("best", max(means, key=lambda name: means[name]))
if folder is not None:
    print(f"  naive Bayes from the very sentences that MiniLM has read: {written(same_sentences)} on the short ones")

# %% [markdown] lang="en"
# With real reviews: counting is done in a fraction of the time, and the networks with random weights stay far behind it.
# They have to learn from 6,920 sentences what words mean, and half a second is not enough for that. Vectors that others have
# trained know it already: their mean does as well as counting on all sentences, and better on short ones, where
# few words have been seen often. The whole encoder gets through only a hundred sentences or two, and with these alone
# it comes near naive Bayes with thousands; from the very same few, naive Bayes is far worse. So what is scarce decides: with many
# labels and little time count words or average vectors; with few labels take an encoder.

# %% [markdown] lang="zh"
# 真实影评的结果：计数的方法只用了一小部分时间，从随机权重开始的网络远远落在后面。
# 它们要从 6,920 句里学会每个词的意思，半秒不够。别人训练好的词向量已经知道这些：取平均后，在全部句子上与计数相当，
# 在短句上更好，因为短句里见过多次的词很少。整个编码器只读得了一两百句，而只凭这些就接近读了几千句的朴素贝叶斯；
# 用完全相同的少量句子训练，朴素贝叶斯差得多。所以取决于缺什么：标注多、时间少，就数词或平均词向量；标注少，就用编码器。

# %% [markdown]
# ## Experiment: what order brings · 实验：词序带来什么

# %% [markdown] lang="en"
# Two trials. *Shuffled*: the words of each test sentence in random order. *Not*: "the film is good" and "the film is not
# good", with eight words of praise and eight of complaint: 16 sentences without "not", 16 with it.

# %% [markdown] lang="zh"
# 两项试验。*打乱*：把每个测试句的词随机排列。*否定*：`the film is good` 与 `the film is not good`，
# 用八个褒义词和八个贬义词：16 句没有 “not”，16 句有。

# %%
quiz(
    "shuffled",
    en="How many of these methods answer every shuffled sentence as they answer the original?",
    zh="这些方法中，有几种对每个打乱的句子都给出与原句相同的答案？",
)
quiz(
    "negated",
    en="What share of the 16 sentences with “not” does naive Bayes get right?",
    zh="带 “not” 的 16 句，朴素贝叶斯答对多大比例？",
)

# %%
PRAISE = "good great funny brilliant beautiful charming delightful moving".split()
BLAME = "bad awful boring dull stupid tedious terrible pointless".split()
plain = [f"the film is {word}" for word in (*PRAISE, *BLAME)]
negated = [f"the film is not {word}" for word in (*PRAISE, *BLAME)]
is_praise = np.array([1] * 8 + [0] * 8)
drawn = np.random.default_rng(0)
shuffled_texts = [" ".join(drawn.permutation(text.split())) for text in test_texts]
moved = {}
for name in METHODS:
    chosen = short_test if name == "MiniLM" else everything
    before = predicted[name, max(SEEDS) if (name, max(SEEDS)) in predicted else 0][chosen]
    after = np.asarray(classify[name]([shuffled_texts[n] for n in chosen]))
    right_before, right_after = before == test_labels[chosen], after == test_labels[chosen]
    moved[name] = (right_before.mean(), right_after.mean(), (before != after).mean())
on_pairs = {
    name: ((classify[name](plain) == is_praise).mean(), (classify[name](negated) == 1 - is_praise).mean())
    for name in METHODS
}
table(
    ["method", "accuracy", "shuffled", "answers that change", "16 without “not”", "16 with “not”"],
    [(name, *(f"{value:.1%}" for value in (*moved[name], *on_pairs[name]))) for name in METHODS],
)
settle("shuffled", sum(changed == 0 for _, _, changed in moved.values()))
settle("negated", float(on_pairs["naive Bayes"][1]), tolerance=0.1)

odds = np.diff(bayes.joint_log_likelihood(counter.transform([*plain, *negated])), axis=1).ravel()
shift = odds[16:] - odds[:16]  # what “not” adds to the log odds of each sentence
held = sum(f"not {word}" in pairs.columns for word in (*PRAISE, *BLAME))
print(f"  TF-IDF has {held} of the 16 pairs “not …” among its terms")
print(f"  naive Bayes: “not” adds {shift.min():.3f} to {shift.max():.3f} to the log odds of praise")
has_not = np.array([bool(re.search(r"\b(not|never|no|nothing)\b|n't", text)) for text in test_texts])
with_not, without_not = np.flatnonzero(has_not), np.flatnonzero(~has_not)
table(
    ["test sentences", "number", *(name for name in METHODS if name != "MiniLM")],
    [
        (
            label,
            len(chosen),
            *(
                f"{np.mean(accuracies(name, chosen)):.1%}" if len(chosen) else "–"
                for name in METHODS
                if name != "MiniLM"
            ),
        )
        for label, chosen in (("with a negation", with_not), ("without", without_not))
    ],
)
certain = np.abs(np.diff(bayes.joint_log_likelihood(counter.transform(short_texts)), axis=1).ravel())
mistaken = [n for n in np.argsort(-certain) if predicted["naive Bayes", 0][short_test[n]] != test_labels[short_test[n]]]
print("  the short sentences that naive Bayes gets wrong most surely, and who gets them right:")
for n in mistaken[:6]:
    truth = test_labels[short_test[n]]
    others = [name for name in METHODS if predicted[name, 0][short_test[n]] == truth]
    print(f"    {reviews.classes[truth]}: {short_texts[n]}  [{', '.join(others) or 'nobody'}]")

figure, axes = plt.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
for row, name in enumerate(METHODS):
    values = accuracies(name, short_test)
    low, high = interval(name, short_test)
    axes[0].barh(row, np.mean(values), color="0.85", edgecolor="black")
    axes[0].plot([low, high], [row, row], color="black", linewidth=1)
    axes[0].plot(values, [row] * len(values), "k.", markersize=7)
    axes[1].plot(
        np.mean(sentences_of[name]),
        np.mean(values),
        "os^Dv*"[row],
        markersize=9,
        color="black",
        fillstyle="none",
        label=name,
    )
axes[0].set_yticks(range(len(METHODS)), METHODS)
axes[0].invert_yaxis()
axes[0].set(
    xlim=(0.4, 1),
    xlabel="accuracy on short sentences; line: 95 % interval of the first seed",
    title=f"{BUDGET} s of CPU time each",
)
axes[1].set(
    xscale="log",
    xlabel="training sentences read",
    ylabel="accuracy on short sentences",
    title="Accuracy and sentences read",
)
axes[1].legend(fontsize=8)
places = np.arange(len(METHODS))
for offset, (column, label, shade) in enumerate(((0, "is good", "0.85"), (1, "is not good", "0.45"))):
    axes[2].bar(
        places + 0.4 * offset - 0.2,
        [on_pairs[name][column] for name in METHODS],
        0.4,
        color=shade,
        edgecolor="black",
        label=label,
    )
axes[2].axhline(0.5, color="black", linestyle=":", linewidth=1)
axes[2].set_xticks(places, [name.replace(" ", "\n") for name in METHODS], fontsize=8)
axes[2].set(ylim=(0, 1.05), ylabel="accuracy", title="Sixteen adjectives, with and without “not”")
axes[2].legend(fontsize=8)
show(figure, "comparison")

# %% [markdown] lang="en"
# Naive Bayes and the mean of word vectors give the same answers to shuffled words, of course. That the others lose little as
# well says something about the data: in most reviews the words alone tell. But where a "not" is in the sentence, every
# method that counts is worse than elsewhere, and the sixteen pairs show why. Naive Bayes adds the same amount for "not"
# everywhere, so that of "not good" and "not bad" it cannot get both right; in these reviews the amount is small, and it
# gets none of the first and calls the second a complaint. Pairs of words could help, but most of these pairs do not
# occur twice in 6,920 sentences. The encoder, with a hundred sentences to learn from, is not reliable either. Test what you need.

# %% [markdown] lang="zh"
# 词打乱后，朴素贝叶斯和词向量平均的答案当然不变。其他方法也损失不大，这说明的是数据：大多数影评单看词就够了。
# 但句中有 “not” 时，所有计数的方法都比平时差，十六对句子说明了原因。朴素贝叶斯在任何地方都给 “not” 加同样的数，
# 所以 “not good” 和 “not bad” 不可能都答对；在这些影评里这个数很小，于是前者都答错，后者都当成差评。
# 词对本来可以帮忙，但这些词对大多没有在 6,920 句里出现过两次。只学了一百来句的编码器同样靠不住。需要什么，就测试什么。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# scikit-learn's `TfidfVectorizer` and `MultinomialNB` on the first 500 sentences: terms, weights and log-likelihoods must
# agree. The convolution must be `F.conv1d`'s in value and gradient.

# %% [markdown] lang="zh"
# scikit-learn 的 `TfidfVectorizer` 和 `MultinomialNB` 用前 500 句：词项、权重、对数似然都必须一致。
# 卷积的数值和梯度必须等于 `F.conv1d`。

# %%
some = train_texts[:500]
our_counter = CountVectorizer(longest=2).fit(some)
our_counts = our_counter.transform(some)
our_tfidf = TfidfTransformer().fit(our_counts).transform(our_counts)
their_vectorizer = TfidfVectorizer(ngram_range=(1, 2))
their_tfidf = their_vectorizer.fit_transform(some)
our_likelihood = MultinomialNaiveBayes().fit(our_counts, train_labels[:500]).joint_log_likelihood(our_counts)
their_likelihood = MultinomialNB().fit(our_counts, train_labels[:500]).predict_joint_log_proba(our_counts)
random = torch.Generator().manual_seed(0)
x, kernel = (
    torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True) for shape in ((2, 9, 4), (6, 12))
)
our_convolution = windows(x, 3) @ kernel.T  # [2, 9, 6]
as_conv1d = kernel.unflatten(1, (3, 4)).transpose(1, 2)  # [filters, dim, width]
their_convolution = F.conv1d(F.pad(x.transpose(1, 2), (0, 2)), as_conv1d).transpose(1, 2)
convolution_gradients = [
    torch.cat([each.flatten() for each in torch.autograd.grad(output.square().sum(), (x, kernel), retain_graph=True)])
    for output in (our_convolution, their_convolution)
]
torch.manual_seed(0)
small_network = TextCNN(20, 2).eval()
alone = torch.tensor([[3, 7, 5]])
beside = F.pad(alone, (0, 8))

# %% [markdown]
# ## Checks · 检验

# %%
not_good = three_weights.transform(three_counts)[1].toarray()[0]
check_close(
    "by hand: TF-IDF of “not good” is 0.605, 0.796",
    not_good[[vectorizer.columns[w] for w in ("good", "not")]],
    [0.605, 0.796],
    1e-3,
)
check_close(
    "by hand: log odds 0.288 of “good”, −0.405 of “not”",
    by_hand_odds[[vectorizer.columns[w] for w in ("good", "not")]],
    [0.288, -0.405],
    1e-3,
)
check_close("by hand: the filter gives 2, 1 and 1", list(responses.values()), [2.0, 1.0, 1.0])
check("our terms are scikit-learn's", list(our_counter.columns) == their_vectorizer.get_feature_names_out().tolist())
check_close("so are the TF-IDF weights", our_tfidf.toarray(), their_tfidf.toarray(), 1e-12)
check_close("and naive Bayes's log-likelihoods", our_likelihood, their_likelihood, 1e-10)
check_close("windows and a linear map are torch's convolution", our_convolution, their_convolution, 1e-12)
check_close("in gradients as well", *convolution_gradients, 1e-12)
check_close(
    "padding does not change TextCNN's logits",
    small_network(alone, alone != 0),
    small_network(beside, beside != 0),
    1e-5,
)
check("naive Bayes gives shuffled sentences the same answers", moved["naive Bayes"][2] == 0)
check_close("“not” adds the same to every sentence's log odds", shift, np.full(16, shift[0]), 1e-9)
if real:
    check("naive Bayes is right in over 78 % of all test sentences", accuracies("naive Bayes", everything)[0] > 0.78)
    check(
        "no network from random weights beats naive Bayes by more than the test's uncertainty, with any seed",
        max(accuracies("TextCNN", everything) + accuracies("LSTM", everything)) < spread["naive Bayes"][1],
    )
    check(
        "from the same sentences the frozen encoder beats naive Bayes by five points, with every seed",
        all(a > b + 0.05 for a, b in zip(accuracies("MiniLM", short_test), same_sentences, strict=True)),
    )
    check("naive Bayes gets at most half of the sentences with “not” right", on_pairs["naive Bayes"][1] <= 0.5)
    check("and nearly all of those without", on_pairs["naive Bayes"][0] > 0.8)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `uv run --package sentiment-bert train` fine-tunes the layers of MiniLM on all of SST-2, which takes minutes instead of half a
# second, and `uv run --package sentiment-bert demo` shows which words moved the answer. Before you train anything that
# large, train what is here: it is the baseline that has to be beaten, and it may be enough.
#
# Papers: [Spärck Jones 1972](https://doi.org/10.1108/eb026526), the idea of idf; [Pang et al.
# 2002](https://aclanthology.org/W02-1011), sentiment from words; [Wang & Manning
# 2012](https://aclanthology.org/P12-2018), baselines and bigrams; [Kim 2014](https://arxiv.org/abs/1408.5882), TextCNN;
# [Socher et al. 2013](https://aclanthology.org/D13-1170), SST. Next: tags instead of classes, 11/04.

# %% [markdown] lang="zh"
# `uv run --package sentiment-bert train` 在整个 SST-2 上微调 MiniLM 的各层，要几分钟而不是半秒；
# `uv run --package sentiment-bert demo` 显示哪些词左右了答案。在训练那么大的模型之前，先训练本课的这些：
# 它们是必须超过的基线，而且可能已经够用。
#
# 论文：[Spärck Jones 1972](https://doi.org/10.1108/eb026526)，idf 的想法；
# [Pang 等 2002](https://aclanthology.org/W02-1011)，用词判断情感；
# [Wang 与 Manning 2012](https://aclanthology.org/P12-2018)，基线与 bigram；[Kim 2014](https://arxiv.org/abs/1408.5882)，TextCNN；
# [Socher 等 2013](https://aclanthology.org/D13-1170)，SST。下一课：不是给整句分类，而是给每个词打标签，11/04。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `terms_of`, `CountVectorizer.fit`, `CountVectorizer.transform`, `TfidfTransformer.fit`, `TfidfTransformer.transform`,
# `MultinomialNaiveBayes.fit` and `MultinomialNaiveBayes.joint_log_likelihood` yourself: `uv run lesson exercise 11/03` makes
# the file, `uv run lesson check 11/03` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `terms_of`、`CountVectorizer.fit`、`CountVectorizer.transform`、`TfidfTransformer.fit`、`TfidfTransformer.transform`、
# `MultinomialNaiveBayes.fit` 和 `MultinomialNaiveBayes.joint_log_likelihood`：
# `uv run lesson exercise 11/03` 生成文件，`uv run lesson check 11/03` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. `WORD.findall(text.lower())` gives the words. All single words come first, then all pairs, and so on.
# 2. The document frequency counts a term once a text: count over `set(terms)`. Number the kept terms in alphabetical order.
# 3. `sparse.csr_matrix((values, (rows, columns)), shape)` adds up entries at the same place.
# 4. `np.bincount(counts.indices, minlength=terms)` is $N_w$. Scale columns by multiplying with `sparse.diags(idf)` from the
#    right, rows from the left. The length of a text without known terms is 0: do not divide by it.
# 5. Sum the counts of each class with a one-hot matrix, add `alpha`, divide each row by its sum, and take logarithms. The prior
#    is the share of each class.

# %% [markdown] lang="zh"
# 1. `WORD.findall(text.lower())` 给出所有词。先列全部单词，再列全部词对，依此类推。
# 2. 文档频率中，一个词项每条文本只算一次：对 `set(terms)` 计数。留下的词项按字母顺序编号。
# 3. `sparse.csr_matrix((values, (rows, columns)), shape)` 会把同一位置的元素相加。
# 4. `np.bincount(counts.indices, minlength=terms)` 就是 $N_w$。右乘 `sparse.diags(idf)` 缩放各列，左乘缩放各行。
#    没有已知词项的文本长度为 0：不要除以它。
# 5. 用 one-hot 矩阵把各类的次数加起来，加上 `alpha`，每行除以行和，再取对数。先验是各类所占的比例。


# %%
@exercise(
    terms_of,
    CountVectorizer.fit,
    CountVectorizer.transform,
    TfidfTransformer.fit,
    TfidfTransformer.transform,
    MultinomialNaiveBayes.fit,
    MultinomialNaiveBayes.joint_log_likelihood,
)
def judge(yours, reference):
    texts = [
        "A good film, not bad",
        "NOT good. Not good at all!",
        "x",
        "the end of the film of the year",
        "bad, bad end",
    ]
    unseen = ["good, good year", "", "nothing known here"]
    labels = np.array([1, 0, 1, 2, 0])
    check(
        "terms_of: words in lower case, of two letters or more",
        yours.terms_of("Not a GOOD film!") == ["not", "good", "film"],
    )
    for longest in (1, 2, 3):
        check(
            f"terms_of: up to {longest} words, the short terms first",
            [yours.terms_of(text, longest) for text in texts] == [reference.terms_of(text, longest) for text in texts],
        )
    check("terms_of a text without words", yours.terms_of("") == [])

    def refused(call):
        try:
            call()
        except ValueError:
            return True
        return False

    for options in ({}, {"min_df": 2}, {"longest": 2}):
        mine, theirs = (module.CountVectorizer(**options).fit(texts) for module in (yours, reference))
        check(f"CountVectorizer.fit returns itself: {options}", isinstance(mine, yours.CountVectorizer))
        check(f"CountVectorizer.fit: the terms that are kept: {options}", set(mine.columns) == set(theirs.columns))
        check(f"CountVectorizer.fit: their columns: {options}", mine.columns == theirs.columns)
        for group in (texts, unseen):
            found, expected = (each.transform(group).toarray() for each in (mine, theirs))
            check(f"CountVectorizer.transform gives [texts, terms]: {options}", found.shape == expected.shape)
            check_close(f"CountVectorizer.transform: the counts: {options}", found, expected)
    check("no term left raises ValueError", refused(lambda: yours.CountVectorizer(min_df=9).fit(texts)))

    counter = reference.CountVectorizer().fit(texts)
    counts, new = counter.transform(texts), counter.transform(unseen)
    mine, theirs = (module.TfidfTransformer().fit(counts) for module in (yours, reference))
    check_close("TfidfTransformer.fit: idf", mine.idf, theirs.idf, 1e-10)
    for case, group in (("", counts), (" of unseen texts", new)):
        found, expected = (each.transform(group) for each in (mine, theirs))
        check(f"TfidfTransformer.transform is sparse{case}", hasattr(found, "tocsr"))
        found, expected = found.toarray(), expected.toarray()
        lengths = np.linalg.norm(found, axis=1)
        check_close(f"TfidfTransformer.transform: each text has length 1, or 0{case}", lengths, lengths.round(), 1e-10)
        check_close(f"TfidfTransformer.transform{case}", found, expected, 1e-10)

    for alpha in (1.0, 0.1):
        mine, theirs = (module.MultinomialNaiveBayes(alpha).fit(counts, labels) for module in (yours, reference))
        check_close(f"MultinomialNaiveBayes.fit: the prior, alpha {alpha}", mine.log_prior, theirs.log_prior, 1e-10)
        check_close(
            f"each class's probabilities add up to 1, alpha {alpha}",
            np.exp(mine.log_probability).sum(axis=1),
            np.ones(3),
            1e-10,
        )
        check_close(
            f"MultinomialNaiveBayes.fit: log probabilities, alpha {alpha}",
            mine.log_probability,
            theirs.log_probability,
            1e-10,
        )
        found, expected = (each.joint_log_likelihood(new) for each in (mine, theirs))
        check_close(f"joint_log_likelihood, alpha {alpha}", found, expected, 1e-10)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does one multiply counts by idf? · 为什么要乘 idf？

# %% [markdown] lang="en"
# A word that is in every text says nothing about any of them, however often it occurs. Idf weighs each term by how few texts
# have it, so that the length of the vector is not spent on "the". It is a weight without labels; a classifier can learn
# weights of its own, so the gain shows mostly with similarity and search, with regularized models, and with few labels.

# %% [markdown] lang="zh"
# 每条文本里都有的词，出现再多次也说明不了什么。idf 按含有该词的文本有多少来加权，向量的长度就不会浪费在 “the” 上。
# 它不需要标注；分类器本来也能自己学权重，所以好处主要体现在相似度与检索、带正则化的模型，以及标注少的时候。

# %%
by_idf = sorted(pairs.columns, key=lambda term: weights.idf[pairs.columns[term]])
print(f"  the lightest terms: {', '.join(by_idf[:8])}")

# %% [markdown]
# ### What can a bag of words not express, and what is the cheapest remedy? · 词袋表达不了什么？最便宜的补救是什么？

# %% [markdown] lang="en"
# Everything that depends on order: who did what to whom, what "not" refers to. With a linear model on top, each word
# also adds the same amount in every text. The cheapest remedy are bigrams as terms: "not good" gets its own weight. The
# price is a larger vocabulary of rarer terms; pairs that training does not have bring nothing.

# %% [markdown] lang="zh"
# 一切取决于次序的东西：谁对谁做了什么，“not” 管着谁。上面接线性模型时，每个词在任何文本里加的数也都一样。
# 最便宜的补救是把 bigram 当词项：“not good” 有自己的权重。代价是词表变大、词项变稀；训练中没有的词对毫无帮助。

# %%
for term in ("good", "not", "not good", "bad", "not bad"):
    if term in pairs.columns:
        print(f"  {term}: weight {regression.coef_[0, pairs.columns[term]]:+.2f}")
    else:
        print(f"  {term}: not among the terms")

# %% [markdown]
# ### Naive Bayes assumes independence, which is false. Why does it classify well? · 朴素贝叶斯的独立假设不成立，为什么分类还不错？

# %% [markdown] lang="en"
# For the class only the sign of the log odds counts, not its size. Words that come together are counted as if they were
# separate evidence, so the odds are exaggerated: it is overconfident, but often on the right side. And it has few
# parameters, each estimated by counting, so it needs little data and no iterations.

# %% [markdown] lang="zh"
# 判断类别只看对数几率的符号，不看大小。经常一起出现的词被当作各自独立的证据，所以几率被夸大：它过分自信，但方向常常是对的。
# 而且参数少，每个都是数出来的，所需数据少，也不用迭代。

# %%
sure = 1 / (1 + np.exp(-np.abs(np.diff(bayes.joint_log_likelihood(counter.transform(test_texts)), axis=1))))
print(f"  mean confidence {sure.mean():.1%}, accuracy {accuracies('naive Bayes', everything)[0]:.1%}")

# %% [markdown]
# ### Why does TextCNN take the maximum over time? · TextCNN 为什么对时间取最大？

# %% [markdown] lang="en"
# It makes one vector of a text of any length: for each filter, how strongly its pattern occurs anywhere. A phrase counts
# wherever it stands, and words that match nothing do not dilute it, as they would in a mean. What is lost: where, how
# often, and in which order of the filters. Padding has to be masked, or it takes part.

# %% [markdown] lang="zh"
# 它把任意长度的文本变成一个向量：每个滤波器的模式在某处出现得有多强。短语在哪里都算数，无关的词也不会像取平均那样把它冲淡。
# 丢掉的是：在哪里、出现几次、各滤波器的先后。填充必须屏蔽，否则会参与竞争。

# %%
short_text, long_text = torch.tensor([[5.0, 0.0]]), torch.tensor([[5.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
for label, text in (("two words", short_text), ("six words", long_text)):
    print(f"  one strong response, {label}: maximum {text.max():.1f}, mean {text.mean():.2f}")

# %% [markdown]
# ### How would you compare classifiers of different cost fairly? · 怎样公平比较代价不同的分类器？

# %% [markdown] lang="en"
# Fix what is scarce, and give it to all in equal amount: computing time, labels, memory or latency; say which. Tune each
# with the same effort on validation data, repeat what is random, and report intervals of the test: with 872
# sentences they are about 2.7 points to each side at 80 %. Always include the simplest method. And plot the curve: the order at half a second is
# not that at an hour.

# %% [markdown] lang="zh"
# 固定稀缺的资源，等量分给各方：计算时间、标注、内存或延迟，并说明是哪一个。
# 在验证集上以同样的力气调参，有随机性的要重复，测试结果要给区间：872 句、准确率 80 % 时左右各约 2.7 个百分点。
# 一定要带上最简单的方法。还要画曲线：半秒时的名次不是一小时后的名次。

# %%
for name in METHODS:
    low, high = spread[name]
    print(f"  {name}: {max(seconds_of[name]):.2f} s, 95 % interval {low:.1%} to {high:.1%}")

# %% [markdown]
# ### Accuracy hardly falls when the words are shuffled. What follows? · 词打乱后准确率几乎不降，说明什么？

# %% [markdown] lang="en"
# That most sentences of this test can be judged by their words alone; not that the model is blind to order, nor that order
# does not matter in use. To learn what a model does with order, test sentences where it decides: minimal pairs with
# "not", exchanged subject and object. An average over a test set hides them.

# %% [markdown] lang="zh"
# 说明这个测试集的大多数句子单看词就能判断；并不说明模型看不见词序，也不说明实际使用时词序不要紧。
# 想知道模型怎样利用词序，要测试由词序决定的句子：带 “not” 的最小对立对、主宾互换。测试集的平均值会把它们掩盖掉。

# %%
for name in METHODS:
    print(
        f"  {name}: shuffled {moved[name][1] - moved[name][0]:+.1%}; of 16 negated sentences {on_pairs[name][1]:.0%} right"
    )
