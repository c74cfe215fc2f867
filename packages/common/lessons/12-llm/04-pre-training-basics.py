# %% [markdown]
# # Pre-training basics · 预训练基础

# %% [markdown] lang="en"
# After this lesson you can clean and deduplicate a corpus, pack documents into rows without letting them see each other,
# compare models by bits per byte, and fit a scaling law that predicts the loss of a larger model before it is trained. You
# need Llama (12/01), tokenizers (12/02) and cross-entropy (02/06).

# %% [markdown] lang="zh"
# 学完本课，你能清洗语料并去重，能把文档装进行里而互不可见，能用每字节比特数比较模型，
# 还能拟合缩放定律，在训练更大的模型之前预测它的损失。
# 先修：Llama（12/01）、分词器（12/02）、交叉熵（02/06）。

# %%
from itertools import chain

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.llm.bits_per_byte import bits_per_byte, perplexity
from dlcommon.llm.llama import Llama, LlamaConfig
from dlcommon.llm.model_size import count_parameters
from dlcommon.llm.near_duplicates import (
    MinHash,
    candidate_pairs,
    candidate_probability,
    estimated_jaccard,
    jaccard,
    shingles,
    without_near_duplicates,
)
from dlcommon.llm.packing import document_mask, document_numbers, document_positions, pack
from dlcommon.llm.scaling_law import (
    CHINCHILLA,
    CHINCHILLA_REFITTED,
    ScalingLaw,
    compute_optimal,
    fit_scaling_law,
    training_flops,
)
from dlcommon.llm.text_quality import quality_problems
from dlcommon.neural_networks.stacked_models import StackedModels
from scipy.optimize import curve_fit, minimize_scalar
from scipy.sparse import csr_array
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You have a few weeks on a thousand GPUs, once. The run cannot be repeated, so everything must be decided beforehand: which
# pages of the web to read, how to lay them out in rows, how large the model should be, and how long to train it. A model that is
# too small wastes the data, one that is too large does not get through them. How do you choose among runs that nobody can
# afford to try?

# %% [markdown] lang="zh"
# 你有一千块 GPU，能用几个星期，只此一次。训练不能重来，所以一切都要事先定好：
# 读网上的哪些页面，怎样排成行，模型多大，训练多久。模型太小，浪费数据；太大，又读不完。
# 这些方案谁也试不起，该怎样选择？

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *Duplicates*. “one cat sat on one mat” and “one cat sat on my mat”, as sets of word pairs: 5 pairs each, 3 in common, 7 in
# all. Their Jaccard similarity is $3/7 = 0.43$.
#
# *Bands*. A signature of 128 numbers is cut into 16 bands of 8. Two texts of similarity 0.8 agree in a band with probability
# $0.8^8 = 0.168$, and in at least one of 16 with $1 - 0.832^{16} = 0.947$. At similarity 0.5 it is 0.06.
#
# *Packing*. Documents of 5, 3, 4, 2 and 6 tokens, rows of 8. One to a row: 20 of 40 places are used. Packed, the longest first:
# $6 + 2$, $5 + 3$, $4$; 20 of 24. Chained with an end token after each and cut every 8: 25 tokens, 3 full rows, one token
# left over, and documents are torn apart.
#
# *Compute*. 7 billion parameters and 2 trillion tokens: $6 \cdot 7 \cdot 10^9 \cdot 2 \cdot 10^{12} = 8.4 \cdot 10^{22}$
# operations. A thousand GPUs that each reach 400 TFLOP/s take 210,000 seconds, two and a half days.
#
# *Bits per byte*. A model over tokens of 4 bytes has a loss of 2 nats, a model over bytes has 1 nat. Perplexity says 7.4
# against 2.7. Per byte it is $2 / (4 \ln 2) = 0.72$ bits against $1.44$: the first is twice as good.

# %% [markdown] lang="zh"
# *重复*。“one cat sat on one mat” 与 “one cat sat on my mat” 看成相邻词对的集合：各 5 对，3 对相同，一共 7 对。
# 杰卡德相似度（Jaccard）是 $3/7 = 0.43$。
#
# *分段*。128 个数的签名切成 16 段，每段 8 个。相似度 0.8 的两篇在某一段上一致的概率是 $0.8^8 = 0.168$，
# 在 16 段中至少一段上一致的概率是 $1 - 0.832^{16} = 0.947$。相似度 0.5 时只有 0.06。
#
# *装填*。文档长 5、3、4、2、6 个词元，每行 8 个位置。一行一篇：40 个位置用了 20 个。
# 从长到短装填：$6 + 2$、$5 + 3$、$4$，24 个位置用了 20 个。
# 每篇后面加结束符，首尾相接，每 8 个切一刀：25 个词元，3 个满行，剩下 1 个，而且文档会被切断。
#
# *运算量*。70 亿参数、2 万亿词元：$6 \cdot 7 \cdot 10^9 \cdot 2 \cdot 10^{12} = 8.4 \cdot 10^{22}$ 次运算。
# 一千块 GPU，每块实际达到 400 TFLOP/s，要 210,000 秒，两天半。
#
# *每字节比特数*。一个模型的词元平均 4 字节，损失 2 奈特；另一个按字节预测，损失 1 奈特。困惑度是 7.4 对 2.7。
# 按字节算却是 $2 / (4 \ln 2) = 0.72$ 比特对 $1.44$：前者好一倍。

# %%
cat, other_cat = (shingles(f"one cat sat on {word} mat", 2) for word in ("one", "my"))
LENGTHS = [5, 3, 4, 2, 6]
rows = pack(LENGTHS, 8)
numbers = document_numbers([[LENGTHS[each] for each in row] for row in rows], 8)
table(
    ["what", "result"],
    [
        ("Jaccard similarity", jaccard(cat, other_cat)),
        ("candidates: J = 0.8, 0.5", [round(candidate_probability(each, 16, 8), 3) for each in (0.8, 0.5)]),
        ("rows, as numbers of documents", rows),
        ("7 B parameters, 2 T tokens", f"{training_flops(7e9, 2e12):.2g} FLOPs"),
        ("bits per byte", [round(bits_per_byte(nats, 1, size), 2) for nats, size in ((2.0, 4), (1.0, 1))]),
    ],
)
chained = torch.cat([torch.full((length + 1,), number + 1) for number, length in enumerate(LENGTHS)])[:24].view(3, 8)
figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.2), layout="constrained")
for axis, held, title in (
    (axes[0], numbers, "packed (0: padding)"),
    (axes[1], chained, "chained and cut"),
):
    axis.imshow(held.numpy(), cmap="tab10", vmin=0, vmax=9, aspect="auto")
    for (row, column), number in np.ndenumerate(held.numpy()):
        axis.text(column, row, str(number), ha="center", va="center", color="white")
    axis.set(title=title, xlabel="place", yticks=range(3), ylabel="row")
for axis, allowed, title in (
    (axes[2], torch.ones(8, 8).tril(), "causal mask"),
    (axes[3], document_mask(numbers)[0, 0].float(), "causal, within a document (row 0)"),
):
    axis.imshow(allowed.numpy(), cmap="Blues", vmin=0, vmax=1.4)
    axis.set(title=title, xlabel="attends to", ylabel="token")
show(figure, "packing")

# %% [markdown]
# ## Formula · 公式
#
# $$J(A, B) = \frac{|A \cap B|}{|A \cup B|} = P\left( \min_{a \in A} h(a) = \min_{b \in B} h(b) \right), \qquad P(\mathrm{candidate}) = 1 - (1 - J^r)^b$$
#
# $$C \approx 6 N D$$
#
# $$L(N, D) = E + \frac{A}{N^\alpha} + \frac{B}{D^\beta}, \qquad L(C) = E + \frac{A}{C^\alpha}$$
#
# $$\min_{E, A, B, \alpha, \beta} \sum_i \left( \log \hat L(N_i, D_i) - \log L_i \right)^2$$
#
# $$N^*(C) = \left( \frac{\alpha A}{\beta B} \right)^{\frac{1}{\alpha + \beta}} \left( \frac C6 \right)^{\frac{\beta}{\alpha + \beta}}, \qquad D^*(C) = \frac{C}{6 N^*(C)}$$
#
# $$\mathrm{perplexity} = e^{L}, \qquad \mathrm{bits\ per\ byte} = \frac{L}{\ln 2} \cdot \frac{\mathrm{tokens}}{\mathrm{bytes}}$$

# %% [markdown] lang="en"
# - $A, B$ (first line): the shingles of two documents, runs of five words as a rule; $h$: a random hash function (Broder
#   1997).
# - $b, r$: bands, and numbers in each; $b\,r$ is the length of a signature.
# - $N$: parameters; $D$: tokens trained on; $C$: floating-point operations of the run: 2 for each parameter and token forward,
#   4 backward (Kaplan et al. 2020, section 2.1).
# - $L$: loss on new text, nats per token; $L_i$: measured; $\hat L$: the law's.
# - $E$: the loss that is left with an infinite model and infinite text; $A, B, \alpha, \beta$: how much is missing, and how
#   quickly it shrinks (Hoffmann et al. 2022, equation 2). The paper uses Huber's loss in place of the square (equation 3).
# - $N^*, D^*$: the division of the compute that gives the lowest loss (equation 4).

# %% [markdown] lang="zh"
# - $A, B$（第一行）：两篇文档的片段（shingle）集合，通常取连续五个词；$h$：随机哈希函数（Broder 1997）。
# - $b, r$：段数，每段的数的个数；$b\,r$ 是签名的长度。
# - $N$：参数量；$D$：训练的词元数；$C$：训练的浮点运算次数：
#   每个参数、每个词元，前向 2 次，反向 4 次（Kaplan 等 2020，第 2.1 节）。
# - $L$：新文本上的损失，每词元奈特；$L_i$：测得的；$\hat L$：定律给出的。
# - $E$：模型和文本都无限时还剩的损失；$A, B, \alpha, \beta$：还差多少，缩小得多快（Hoffmann 等 2022，式 2）。
#   论文用 Huber 损失代替平方（式 3）。
# - $N^*, D^*$：使损失最低的运算量分配（式 4）。

# %% [markdown]
# ## Code · 代码

# %%
source(MinHash.signature)
source(candidate_pairs)
source(document_mask)
source(fit_scaling_law)
source(compute_optimal)

# %% [markdown] lang="en"
# `signature` hashes each shingle once, then lets 128 functions $(a x + b) \bmod p$ permute the values, `[shingles, 128]`, and
# keeps the least of each column. `candidate_pairs` never compares two documents: equal bands fall into the same bucket.
#
# `document_mask` compares the numbers of all pairs of places, `[rows, tokens, tokens]`, and keeps the lower triangle.
#
# `fit_scaling_law` works with $\log E, \log A, \log B$, so that all stay positive, and adds the terms by `logaddexp`. The sizes are
# measured from their mean; without this a small change of $\alpha$ would need a huge one of $A$. The valley of this
# error is long and flat, so 9 or 27 starts are tried.

# %% [markdown] lang="zh"
# `signature` 对每个片段只做一次哈希，再让 128 个函数 $(a x + b) \bmod p$ 打乱这些值，`[shingles, 128]`，每列取最小。
# `candidate_pairs` 从不两两比较文档：相同的段会落进同一个桶。
#
# `document_mask` 比较所有位置对的文档编号，`[rows, tokens, tokens]`，再只留下三角。
#
# `fit_scaling_law` 用 $\log E, \log A, \log B$ 作参数，使它们恒为正，并用 `logaddexp` 把各项相加。
# 尺寸从均值量起；不这样做，$\alpha$ 稍变，$A$ 就得变很多。这个误差的谷又长又平，所以从 9 或 27 个起点出发。

# %% [markdown]
# ## Experiment: a corpus that repeats itself · 实验：自我重复的语料

# %% [markdown] lang="en"
# Python's own manual, as `help()` shows it: paragraphs of 15 words or more. Some are code, some stand there twice. The rules of
# Gopher's corpus judge each paragraph, MinHash finds near-duplicates, and all pairs are compared as a check.

# %% [markdown] lang="zh"
# Python 自己的手册，就是 `help()` 显示的那份，取 15 个词以上的段落。有些是代码，有些出现了两次。
# 用 Gopher 语料的规则评判每一段，用 MinHash 找近似重复，再用两两比较来核对。

# %%
quiz(
    "repeated",
    en="What percentage of the manual's paragraphs repeats an earlier one, nearly or exactly?",
    zh="手册的段落中，与前面某段几乎或完全相同的占百分之几？",
)

# %%
manual = data("python-manual")
paragraphs = [each for each in (manual.train + manual.test).split("\n\n") if len(each.split()) >= 15]
hasher = MinHash(128)
sets = [shingles(each) for each in paragraphs]
signatures = np.stack([hasher.signature(each) for each in sets])
candidates = candidate_pairs(signatures, 16)
kept = without_near_duplicates(paragraphs, hasher=hasher)
repeated = 1 - len(kept) / len(paragraphs)

# Exactly: all pairs, as a product of the sparse matrix [paragraphs, shingles] of zeros and ones with itself.
place_of = {each: place for place, each in enumerate(sorted(set().union(*sets)))}
sizes = np.array([len(each) for each in sets])
columns = [place_of[each] for elements in sets for each in elements]
membership = csr_array((np.ones(len(columns)), columns, np.cumsum([0, *sizes])), shape=(len(sets), len(place_of)))
common = (membership @ membership.T).toarray()
exact = common / np.maximum(sizes[:, None] + sizes - common, 1)
first, second = np.triu_indices(len(sets), 1)
similar = {(int(a), int(b)) for a, b in zip(first, second, strict=True) if exact[a, b] >= 0.8}
found = {pair for pair in candidates if estimated_jaccard(signatures[pair[0]], signatures[pair[1]]) >= 0.8}
broken = [quality_problems(each, min_words=15) for each in paragraphs]
cut = int(0.9 * len(paragraphs))
leaked = sum(bool((exact[number, :cut] >= 0.8).any()) for number in range(cut, len(paragraphs)))
table(
    ["paragraphs", "number"],
    [
        ("in all", len(paragraphs)),
        ("different, character for character", len(set(paragraphs))),
        ("kept by MinHash", len(kept)),
        ("pairs in all", len(first)),
        ("candidates among them", len(candidates)),
        ("pairs of similarity 0.8 and more; of them found", f"{len(similar)}; {len(similar & found)}"),
        ("break a rule of Gopher's corpus", sum(map(bool, broken))),
        ("last tenth (a test set?)", len(paragraphs) - cut),
        ("of them repeated from the first nine tenths", leaked),
    ],
)
close = sorted((exact[pair], pair) for pair in candidates if 0.6 < exact[pair] < 0.97)
for similarity, pair in close[-2:]:
    print(f"  similarity {similarity:.2f}:")
    for number in pair:
        print(f"    {' '.join(paragraphs[number].split())[:100]}")
rules = sorted({rule for each in broken for rule in each})
table(["rule", "broken by"], [(rule, sum(rule in each for each in broken)) for rule in rules])
settle("repeated", 100 * repeated, tolerance=5)

# %% [markdown] lang="en"
# About one paragraph in five repeats another, in a text that people wrote with care. A split at nine tenths puts copies on both
# sides: part of such a *test set* measures memory, so deduplicate before you split. Candidates are a few hundred of nearly a
# million pairs. The near-duplicates are what the method is for and where it hurts: `ljust` and `rjust` differ in one word,
# and that word is the information. And rules made for prose throw out code: each filter is a decision about what the model shall
# know.

# %% [markdown] lang="zh"
# 大约每五段就有一段是重复，而这还是人们精心写成的文本。按九比一切分，两边会有相同的段落：
# 这种*测试集*有一部分测的是记忆，所以要先去重再切分。近百万对之中只有几百对成为候选。
# 近似重复正是这个方法的用处，也是它的坏处：`ljust` 与 `rjust` 只差一个词，而信息恰恰在那个词里。
# 为散文定的规则会丢掉代码：每个过滤器都决定了模型将会知道什么。

# %% [markdown]
# ## Experiment: rows · 实验：排成行

# %% [markdown] lang="en"
# The kept paragraphs, one token for each character, in rows of 512. Four ways to fill them. Then the two that do not tear documents
# are put through a Llama with random weights: a packed document must get the logits that it gets alone.

# %% [markdown] lang="zh"
# 留下的段落，一个字符一个词元，每行 512 个，四种排法。
# 然后把其中不切断文档的装填法放进一个随机权重的 Llama：装填后的文档得到的 logits 必须与单独计算时相同。

# %%
ROW = 512
lengths = [min(len(paragraphs[number]), ROW) for number in kept]
arrival = [0]  # next-fit: a document that no longer fits begins a new row
for length in lengths:
    arrival = [*arrival, length] if arrival[-1] + length > ROW else [*arrival[:-1], arrival[-1] + length]
packed = pack(lengths, ROW)
chained_length = sum(lengths) + len(lengths)
torn = sum(
    begin // ROW != (begin + length - 1) // ROW
    for begin, length in zip(np.cumsum([0, *(each + 1 for each in lengths[:-1])]), lengths, strict=True)
)
ways = {
    "one document a row, padded": (len(lengths), 0),
    "packed in the order of arrival": (len(arrival), 0),
    "packed, the longest first": (len(packed), 0),
    "chained with end tokens, cut": (-(-chained_length // ROW), torn),
}
table(
    ["way", "rows", "places used", "documents torn"],
    [(way, count, f"{sum(lengths) / (count * ROW):.1%}", cuts) for way, (count, cuts) in ways.items()],
)

torch.manual_seed(0)
random_llama = Llama(LlamaConfig(128, 32, 2, 4, 2, 8, 64)).eval()
for parameter in random_llama.parameters():
    torch.nn.init.normal_(parameter, std=0.3)
chosen = [[number % 128 for number in map(ord, paragraphs[kept[each]][:ROW])] for each in packed[-1]]
together = torch.tensor([list(chain(*chosen))])
numbers = document_numbers([[len(each) for each in chosen]], together.size(1))
with torch.no_grad():
    alone = torch.cat([random_llama(torch.tensor([each]))[0] for each in chosen])
    masked = random_llama(together, document_positions(numbers), document_mask(numbers))[0]
    unmasked = random_llama(together)[0]
start = len(chosen[0])  # of the second document
changed = {
    "within documents": (masked - alone).abs().amax(dim=1),
    "across documents": (unmasked - alone).abs().amax(dim=1),
}
table(
    ["attention", "largest change of a logit, first document", "others"],
    [(name, each[:start].max().item(), each[start:].max().item()) for name, each in changed.items()],
)

# %% [markdown] lang="en"
# Padding wastes half of the arithmetic; packing wastes little, and chaining hardly anything, but it tears half of the
# documents and lets every one attend to strangers before it. The mask removes these, and positions that begin anew at 0 do the
# rest: the logits are those of the document alone. Zhao et al. 2024 found such masks to help at pre-training. Llama 3 uses one
# and reports little effect on short rows, but a need for it on very long ones. FlashAttention takes lengths instead of a
# mask and skips the blocks between documents.

# %% [markdown] lang="zh"
# 填充浪费一半的运算；装填浪费很少；首尾相接几乎毫无浪费，但会切断一半的文档，还让每篇文档都能注意到前面不相干的文档。
# 掩码去掉了这一点，再让位置从 0 重新数起：logits 就与文档单独计算时相同。
# Zhao 等 2024 发现这种掩码对预训练有益。Llama 3 用了它，并报告说短行时影响不大，很长的行则需要。
# FlashAttention 接受的是长度而不是掩码，直接跳过文档之间的块。

# %% [markdown]
# ## Experiment: a law of loss · 实验：损失的定律

# %% [markdown] lang="en"
# Llamas of one layer and five widths learn characters, three seeds each. *All get the same compute*, $4 \cdot 10^8$ operations: the
# narrowest reads about 160,000 characters, the widest 8,000. The learning rate is 0.32 over the width. Since the loss is wanted at all
# lengths, the rate does not decay; a running average of the weights is measured instead. The lowest loss at each compute
# gives the law. It is asked about four times the compute, and only then is that model trained.

# %% [markdown] lang="zh"
# 五种宽度的单层 Llama 学习字符，各三个种子。*它们的运算量都相同*，$4 \cdot 10^8$ 次：
# 最窄的读约 16 万个字符，最宽的读约 8 千个。学习率取 0.32 除以宽度。
# 因为各种训练长度上的损失都要用，学习率不衰减，而是测量权重的滑动平均。
# 每个运算量下的最低损失给出定律。再问它四倍运算量时的损失，之后才训练那个模型。

# %%
quiz(
    "width",
    en="Which width reaches the lowest loss with the same compute?",
    zh="运算量相同，哪个宽度的损失最低？",
    choices={"4": "4", "8": "8", "12": "12", "16": "16", "24": "24"},
)
quiz(
    "ratio",
    en="Chinchilla's law, refitted: how many tokens for each parameter are best with 5.76e23 operations?",
    zh="按重新拟合的 Chinchilla 定律，5.76e23 次运算时，每个参数配多少个词元最好？",
)

# %%
SEEDS, WINDOW, BATCH, BUDGET, WIDTHS = (0, 1, 2), 32, 8, 4e8, (4, 8, 12, 16, 24)
corpus = data("tinyshakespeare", "python-manual")
alphabet = sorted(set(corpus.train + corpus.test))
number_of = {character: number for number, character in enumerate(alphabet)}
train_tokens, test_tokens = (
    torch.tensor([number_of[character] for character in text])
    for text in (corpus.train, corpus.test[: 96 * (WINDOW + 1)])
)
test_windows = test_tokens.view(-1, WINDOW + 1)


def config_of(width: int) -> LlamaConfig:
    return LlamaConfig(len(alphabet), width, 1, 2, 2, width // 2, 8 * width // 3 // 4 * 4, tie_embeddings=True)


def size_of(width: int) -> int:
    count = count_parameters(config_of(width))
    return count.total - count.norms  # all matrices; the embedding counts, since it is also the output layer


@torch.no_grad()
def losses_of(models: StackedModels) -> np.ndarray:
    """The loss of each seed on new text."""
    logits = models(test_windows[:, :-1].expand(len(SEEDS), -1, -1))
    return np.array([F.cross_entropy(each.flatten(0, 1), test_windows[:, 1:].flatten()).item() for each in logits])


def learn(width: int, flops: float) -> dict[int, np.ndarray]:
    """Trains three seeds side by side; returns the losses by the number of tokens seen."""
    models, draws = [], [torch.Generator().manual_seed(seed) for seed in SEEDS]
    for seed in SEEDS:
        torch.manual_seed(seed)
        models.append(Llama(config_of(width)))
        for parameter in models[-1].parameters():
            if parameter.dim() == 2:
                torch.nn.init.normal_(parameter, std=width**-0.5)
    learners, averages = StackedModels(models), StackedModels(models)
    optimizer = torch.optim.AdamW(learners.parameters(), lr=0.32 / width, betas=(0.9, 0.95), weight_decay=0, fused=True)
    steps = round(flops / training_flops(size_of(width), BATCH * WINDOW))
    measured_at, measured = {round(steps / 2 ** (half / 2)) for half in range(8)}, {}
    for step in range(1, steps + 1):
        starts = torch.stack([torch.randint(len(train_tokens) - WINDOW, (BATCH, 1), generator=each) for each in draws])
        windows = train_tokens[starts + torch.arange(WINDOW + 1)]  # [seeds, batch, tokens + 1]
        loss = F.cross_entropy(learners(windows[..., :-1]).flatten(0, 2), windows[..., 1:].flatten())
        optimizer.zero_grad()
        (len(SEEDS) * loss).backward()
        optimizer.step()
        with torch.no_grad():  # the average reaches back over a fixed fraction of the run
            for average, weight in zip(averages.parameters(), learners.parameters(), strict=True):
                average.lerp_(weight, min(1.0, 5 / (step + 4)))
        if step in measured_at:
            measured[step * BATCH * WINDOW] = losses_of(averages)
    return dict(sorted(measured.items()))


with sdpa_kernel(SDPBackend.MATH):  # the one attention of torch that models can be stacked with
    curves = {width: learn(width, BUDGET) for width in WIDTHS}
final = {width: list(curves[width].values())[-1] for width in WIDTHS}
table(
    ["width", "parameters", "tokens", "tokens a parameter", *(f"seed {seed}" for seed in SEEDS), "mean"],
    [
        (
            width,
            size_of(width),
            max(curves[width]),
            max(curves[width]) / size_of(width),
            *final[width].tolist(),
            float(final[width].mean()),
        )
        for width in WIDTHS
    ],
)
best_width = min(WIDTHS, key=lambda width: final[width].mean())
settle("width", str(best_width))


def frontier(seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The lowest loss at each compute, of one seed or of the mean of all, between the points that were measured."""
    budgets, lowest = BUDGET / 2 ** np.arange(3, -0.1, -0.5), []
    for budget in budgets:
        reached = []
        for width, curve in curves.items():
            compute = [training_flops(size_of(width), tokens) for tokens in curve]
            losses = [each.mean() if seed is None else each[seed] for each in curve.values()]
            reached.append(np.interp(np.log(budget), np.log(compute), losses, left=np.inf))
        lowest.append(min(reached))
    return budgets, np.array(lowest)


laws = {seed: fit_scaling_law(*frontier(seed)) for seed in (None, *SEEDS)}
LARGER = 4 * BUDGET
predicted = {seed: float(law.loss(LARGER)) for seed, law in laws.items()}
with sdpa_kernel(SDPBackend.MATH):
    larger = learn(16, LARGER)
reached = list(larger.values())[-1]
measured = {None: reached.mean(), **{seed: reached[seed] for seed in SEEDS}}
table(
    ["law of", "E", "alpha", "predicted at 4 C", "measured", "off by"],
    [
        (
            "the mean" if seed is None else f"seed {seed}",
            laws[seed].floor,
            laws[seed].exponents[0],
            predicted[seed],
            float(measured[seed]),
            f"{predicted[seed] / measured[seed] - 1:+.1%}",
        )
        for seed in laws
    ],
)

TOTAL = 5.76e23  # Chinchilla's own training run
optima = {
    "as published": compute_optimal(CHINCHILLA, TOTAL),
    "refitted by Besiroglu et al.": compute_optimal(CHINCHILLA_REFITTED, TOTAL),
    "Chinchilla itself": (70e9, 1.4e12),
    "Gopher, about the same compute": (280e9, 300e9),
}
table(
    ["5.76e23 operations", "parameters", "tokens", "tokens a parameter", "loss by the refitted law"],
    [
        (name, f"{n / 1e9:.0f} B", f"{d / 1e12:.2f} T", d / n, float(CHINCHILLA_REFITTED.loss(n, d)))
        for name, (n, d) in optima.items()
    ],
)
best_size, best_tokens = optima["refitted by Besiroglu et al."]
settle("ratio", best_tokens / best_size, tolerance=6)

figure, axes = plt.subplots(1, 3, figsize=(15.5, 4.2), layout="constrained")
for width, curve in curves.items():
    compute = [training_flops(size_of(width), tokens) for tokens in curve]
    axes[0].plot(compute, [each.mean() for each in curve.values()], marker=".", label=f"width {width}")
span = np.geomspace(BUDGET / 8, 1.3 * LARGER, 50)
axes[0].plot(span, laws[None].loss(span), color="black", linestyle="--", label="law of the lowest")
axes[0].plot([LARGER] * 3, reached, "k*", label="trained afterwards")
axes[0].set(
    xscale="log", ylim=(2.2, 3.6), xlabel="operations, 6 N D", ylabel="loss on new text", title="Loss and compute"
)
axes[0].legend(fontsize=8)
for seed in SEEDS:
    axes[1].plot(
        [size_of(width) for width in WIDTHS], [final[width][seed] for width in WIDTHS], marker="o", label=f"seed {seed}"
    )
axes[1].set(xscale="log", xlabel="parameters", title="The same compute for all")
axes[1].legend(fontsize=8)
for total in (1e21, 1e22, 1e23, TOTAL):
    many = np.geomspace(1e8, 1e12, 200)
    axes[2].plot(many, CHINCHILLA_REFITTED.loss(many, total / (6 * many)), label=f"{total:.3g}")
    size, tokens = compute_optimal(CHINCHILLA_REFITTED, total)
    axes[2].plot(size, CHINCHILLA_REFITTED.loss(size, tokens), "k.")
axes[2].set(xscale="log", ylim=(1.9, 3), xlabel="parameters", title="Chinchilla's law, at fixed operations")
axes[2].legend(fontsize=8)
show(figure, "scaling")

# %% [markdown] lang="en"
# The curve in the middle has the shape that counts. To the left, models are too small to hold what they read; to the right they
# have not read enough. The law, fitted to runs of at most $4 \cdot 10^8$ operations, tells the loss at four times as many
# within a few percent, before that model exists. It does not tell $E$: over so short a range $E$, $A$ and $\alpha$ trade against each
# other, and the seeds disagree about them. Even the published fit had this trouble: by its constants the best model would have 30
# to 40 billion parameters, while the same paper's other two methods, and the model that was trained, say about 70. Besiroglu et
# al. traced it to the fit. The lesson that remained: Gopher was four times too large for its 300 billion tokens; about 20
# tokens a parameter were better.

# %% [markdown] lang="zh"
# 中间那条曲线的形状最要紧。左边的模型太小，装不下读到的东西；右边的读得不够。
# 定律只用至多 $4 \cdot 10^8$ 次运算的训练拟合，却能在模型存在之前，把四倍运算量时的损失预测到百分之几以内。
# 但它说不出 $E$：范围这么窄，$E$、$A$、$\alpha$ 可以互相抵消，各个种子给出的也不一致。
# 已发表的拟合也有这个毛病：按它的常数，最好的模型是 300 到 400 亿参数，
# 而同一篇论文的另外两种方法、以及真正训练的那个，都是约 700 亿。Besiroglu 等查出问题在于拟合。
# 留下来的结论是：Gopher 对它的 3000 亿词元来说大了四倍；每个参数配约 20 个词元更好。

# %% [markdown]
# ## Experiment: perplexity of what? · 实验：什么的困惑度？

# %% [markdown] lang="en"
# Two models that only count, on the same text: how often each character occurs, and how often each pair of characters. The
# tokens of the second are twice as long.

# %% [markdown] lang="zh"
# 同一文本上两个只会计数的模型：每个字符出现多少次，每两个字符出现多少次。第二个的词元长一倍。


# %%
def counted(length: int) -> tuple[float, float]:
    """Perplexity and bits per byte of a model that counts pieces of `length` characters, each once more than seen."""
    pieces = [
        [text[start : start + length] for start in range(0, len(text) - len(text) % length, length)]
        for text in (corpus.train, corpus.test)
    ]
    kinds, frequency = np.unique(pieces[0], return_counts=True)
    chances = dict(zip(kinds.tolist(), (frequency + 1).tolist(), strict=True))
    vocabulary = len(alphabet) ** length
    nats = float(np.mean([np.log((len(pieces[0]) + vocabulary) / chances.get(each, 1)) for each in pieces[1]]))
    return perplexity(nats), bits_per_byte(nats, len(pieces[1]), len("".join(pieces[1]).encode()))


by_counting = {length: counted(length) for length in (1, 2)}
table(["characters a token", "perplexity", "bits per byte"], [(length, *both) for length, both in by_counting.items()])

# %% [markdown] lang="en"
# The better model has the far higher perplexity, since it chooses among far more tokens. Perplexities compare only between models of
# one tokenizer; bits per byte compare all.

# %% [markdown] lang="zh"
# 更好的模型困惑度反而高得多，因为它要从多得多的词元里选。只有分词器相同的模型才能比较困惑度；每字节比特数可以比较所有模型。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# The fit must find what SciPy's `curve_fit` finds from a start nearby, the optimum what a search along the line of fixed compute
# finds, and both must give back the constants of a law that produced the losses. Torch's gradient of the loss with
# respect to $\log N$ along that line must be zero at the optimum.

# %% [markdown] lang="zh"
# 拟合必须与 SciPy 的 `curve_fit` 从附近出发的结果相同，最优点必须与沿等运算量线的搜索结果相同，
# 而且用定律生成的损失必须能还原它的常数。沿这条线，torch 求出的损失对 $\log N$ 的梯度在最优点必须为零。

# %%
budgets, lowest = frontier()
law = laws[None]


def log_of_law(log_compute, floor, log_coefficient, exponent):
    return np.log(floor + np.exp(log_coefficient - exponent * log_compute))


near = (law.floor * 0.98, np.log(law.coefficients[0]) * 1.02, law.exponents[0])
by_scipy, _ = curve_fit(log_of_law, np.log(budgets), np.log(lowest), p0=near, maxfev=20_000)
searched = minimize_scalar(
    lambda log_size: float(CHINCHILLA_REFITTED.loss(np.exp(log_size), TOTAL / (6 * np.exp(log_size)))),
    bounds=(np.log(1e8), np.log(1e13)),
    method="bounded",
)
grid = np.array([(n, d) for n in (1e8, 1e9, 1e10, 7e10) for d in (1e9, 2e10, 3e11)])
recovered = fit_scaling_law(grid, CHINCHILLA.loss(*grid.T))
log_size = torch.tensor(np.log(best_size), requires_grad=True)
a, b = CHINCHILLA_REFITTED.coefficients
alpha, beta = CHINCHILLA_REFITTED.exponents
along = a * torch.exp(-alpha * log_size) + b * torch.exp(-beta * (np.log(TOTAL / 6) - log_size))
(slope,) = torch.autograd.grad(along, log_size)
pairs = sorted(candidates)
estimates = [estimated_jaccard(signatures[pair[0]], signatures[pair[1]]) for pair in pairs]

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: similarity 3/7", jaccard(cat, other_cat), 3 / 7)
check_close(
    "by hand: candidates 0.947 and 0.061",
    [candidate_probability(each, 16, 8) for each in (0.8, 0.5)],
    [0.947, 0.0607],
    1e-3,
)
check("by hand: five documents fit three rows", rows == [[4, 3], [0, 1], [2]])
check_close("by hand: 8.4e22 operations", training_flops(7e9, 2e12) / 1e22, 8.4)
check("MinHash finds nine in ten of the similar pairs", len(similar & found) >= 0.9 * len(similar))
check(
    "its estimates are within five standard errors",
    all(
        abs(estimate - exact[pair]) <= 5 * np.sqrt(max(exact[pair] * (1 - exact[pair]), 1e-12) / 128) + 1e-9
        for estimate, pair in zip(estimates, pairs, strict=True)
    ),
)
check("more than a tenth of the manual is repeated", repeated > 0.1)
check_close("a packed document gets the logits it gets alone", masked, alone, 1e-4)
check("without the mask, later documents get others", changed["across documents"][start:].max() > 1e-2)
check(
    "the same compute: width 8 beats both the narrowest and the widest, with every seed",
    all(final[8][seed] < min(final[4][seed], final[24][seed]) for seed in SEEDS),
)
check(
    "the law of the mean tells the loss of the larger run within 6 %", abs(predicted[None] / measured[None] - 1) < 0.06
)
check(
    "with every seed it is nearer than the lowest loss so far",
    all(abs(predicted[seed] - measured[seed]) < abs(frontier(seed)[1][-1] - measured[seed]) for seed in SEEDS),
)
check_close("the fit equals SciPy's", law.loss(budgets), np.exp(log_of_law(np.log(budgets), *by_scipy)), 2e-3)
check_close("it gives back the exponents of Chinchilla's law", recovered.exponents, CHINCHILLA.exponents, 1e-3)
check_close("the optimum is where the search finds it", np.log(best_size), searched.x, 1e-3)
check_close("and torch's slope is zero there", slope.item(), 0.0, 1e-6)
check(
    "pairs: higher perplexity, fewer bits per byte",
    by_counting[2][0] > by_counting[1][0] and by_counting[2][1] < by_counting[1][1],
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# `char-lm` trains language models of this kind and reports bits per character: `uv run --package char-lm train`. `llm-lora`
# packs conversations into rows with the same mask. At scale, [datatrove](https://github.com/huggingface/datatrove) filters and
# deduplicates with these rules and MinHash.
#
# Papers: [Kaplan et al. 2020](https://arxiv.org/abs/2001.08361), scaling laws; [Hoffmann et al.
# 2022](https://arxiv.org/abs/2203.15556), Chinchilla; [Besiroglu et al. 2024](https://arxiv.org/abs/2404.10102), the refit; [Lee
# et al. 2022](https://arxiv.org/abs/2107.06499), deduplication; [Rae et al. 2021](https://arxiv.org/abs/2112.11446), Gopher and its
# corpus; [Zhao et al. 2024](https://arxiv.org/abs/2402.13991), masks between documents. Next: from a model that continues texts to
# one that answers, 12/05.

# %% [markdown] lang="zh"
# `char-lm` 训练这类语言模型，报告每字符比特数：`uv run --package char-lm train`。`llm-lora` 用同样的掩码把对话装进行里。
# 大规模时，[datatrove](https://github.com/huggingface/datatrove) 就用这些规则和 MinHash 来过滤、去重。
#
# 论文：[Kaplan 等 2020](https://arxiv.org/abs/2001.08361)，缩放定律；
# [Hoffmann 等 2022](https://arxiv.org/abs/2203.15556)，Chinchilla；
# [Besiroglu 等 2024](https://arxiv.org/abs/2404.10102)，重新拟合；[Lee 等 2022](https://arxiv.org/abs/2107.06499)，去重；
# [Rae 等 2021](https://arxiv.org/abs/2112.11446)，Gopher 及其语料；[Zhao 等 2024](https://arxiv.org/abs/2402.13991)，文档间的掩码。
# 下一课：从续写文本的模型到回答问题的模型，12/05。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `training_flops`, `ScalingLaw.loss`, `fit_scaling_law` and `compute_optimal` yourself. `uv run lesson exercise 12/04` makes a
# file with their signatures, `uv run lesson check 12/04` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `training_flops`、`ScalingLaw.loss`、`fit_scaling_law` 和 `compute_optimal`。
# `uv run lesson exercise 12/04` 生成带有签名的文件，`uv run lesson check 12/04` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Forward takes a multiplication and an addition for each parameter and token. Backward needs the gradient of the weights and that
#    of the inputs: two products of the same size.
# 2. The law is a sum of one term for each size. `loss` gets numbers or arrays.
# 3. Fit logarithms: of the floor and of the coefficients. SciPy's `least_squares` wants the vector of errors,
#    `log(prediction) - log(loss)`; `np.logaddexp.reduce` adds the terms.
# 4. Subtract the mean of `log(size)` before, and account for it in the coefficients afterwards. Try several starts for
#    the floor and the exponents, and keep the fit of the lowest cost.
# 5. For the optimum replace $D$ by $C / (6 N)$, differentiate with respect to $N$, and set to zero.

# %% [markdown] lang="zh"
# 1. 前向：每个参数、每个词元一次乘法、一次加法。反向要求权重的梯度和输入的梯度：两个同样大小的乘积。
# 2. 定律是和，每个尺寸一项。`loss` 的参数可以是数，也可以是数组。
# 3. 拟合下限和系数的对数。SciPy 的 `least_squares` 要误差向量 `log(prediction) - log(loss)`；
#    用 `np.logaddexp.reduce` 把各项相加。
# 4. 先从 `log(size)` 中减去均值，最后在系数里补回来。对下限和指数多试几个起点，留下代价最低的拟合。
# 5. 求最优点：把 $D$ 换成 $C / (6 N)$，对 $N$ 求导，令其为零。


# %%
@exercise(training_flops, ScalingLaw.loss, fit_scaling_law, compute_optimal)
def judge(yours, reference):
    check_close("the operations of a run", yours.training_flops(3e6, 5e7), reference.training_flops(3e6, 5e7))
    mine, theirs = (each.ScalingLaw(1.5, (300.0, 900.0), (0.3, 0.4)) for each in (yours, reference))
    n, d = np.array([1e6, 1e7, 1e8]), np.array([3e7, 2e9, 1e9])
    check_close("the loss of one size of each", mine.loss(1e6, 3e7), theirs.loss(1e6, 3e7))
    check_close("the losses of arrays of sizes", mine.loss(n, d), theirs.loss(n, d))
    known = reference.ScalingLaw(2.0, (40.0,), (0.25,))
    compute = np.geomspace(1e6, 1e10, 9)
    found = yours.fit_scaling_law(compute, known.loss(compute))
    check_close("a power law: the exponent", found.exponents, known.exponents, 1e-3)
    check_close("a power law: the floor", found.floor, known.floor, 1e-3)
    check_close("a power law: the coefficient", found.coefficients, known.coefficients, 1e-2)
    points = np.array([(n, d) for n in (1e6, 1e7, 1e8) for d in (1e7, 1e8, 1e9, 1e10)])
    noise = 1 + 0.01 * np.sin(np.arange(len(points)) * 2.7)
    losses = theirs.loss(*points.T) * noise
    fits = [each.fit_scaling_law(points, losses).loss(*points.T) for each in (yours, reference)]
    check_close("parameters and tokens, with noise: the fitted losses", fits[0], fits[1], 1e-3)
    losses[3] *= 1.5
    fits = [each.fit_scaling_law(points, losses, huber_delta=1e-3).loss(*points.T) for each in (yours, reference)]
    check_close("Huber's loss, with an outlier: the fitted losses", fits[0], fits[1], 3e-3)
    for flops in (1e15, 1e20):
        best = [each.compute_optimal(law, flops) for each, law in ((yours, mine), (reference, theirs))]
        check_close(f"the best number of parameters at {flops:g}", np.log(best[0][0]), np.log(best[1][0]))
        check_close(f"the best number of tokens at {flops:g}", np.log(best[0][1]), np.log(best[1][1]))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Where does 6ND come from, and when is it wrong? · 6ND 从哪里来，什么时候不对？

# %% [markdown] lang="en"
# Each parameter of a matrix takes a multiplication and an addition for each token: 2ND. Backward computes two products of that
# size, for the gradient of the inputs and of the weights: 4ND. It leaves out attention scores, which grow with the context:
# for long rows of a small model they matter. Embeddings that are only looked up should not be counted, a mixture of experts
# counts active parameters, and recomputing activations adds another 2ND.

# %% [markdown] lang="zh"
# 矩阵的每个参数对每个词元要一次乘法、一次加法：2ND。反向要算两个同样大小的乘积，分别求输入和权重的梯度：4ND。
# 它没有计入注意力得分，而那部分随上下文增长：小模型配长行时不可忽略。
# 只查表的嵌入不应计入；专家混合按激活参数计；重算激活再加 2ND。

# %%
shape = LlamaConfig(32_000, 4096, 32, 32, 32, 128, 11_008)
matrices = count_parameters(shape).total
for context in (2048, 131_072):
    scores = 4 * shape.num_layers * shape.num_heads * shape.head_dim * context / 2  # forward, half of them causal
    print(f"  Llama 2 7B, {context:,} tokens: attention adds {scores / (2 * matrices):.0%} to 2 N a token")

# %% [markdown]
# ### Chinchilla says 20 tokens a parameter. Why did Llama 3 8B get 15 trillion tokens, 1,875 a parameter? · Chinchilla 说每参数 20 个词元，Llama 3 8B 为什么训练了 15 万亿词元、每参数 1,875 个？

# %% [markdown] lang="en"
# Chinchilla minimizes the cost of training alone. A model that is used pays 2N for each token it reads or writes, for
# years; then a smaller model trained longer is cheaper in total, and it fits smaller machines. The law prices this: what does it
# cost to reach the same loss with half the parameters?

# %% [markdown] lang="zh"
# Chinchilla 只把训练成本降到最低。真正投入使用的模型，每读写一个词元都要付出 2N，一用几年；
# 这时训练更久的小模型总成本更低，还放得进更小的机器。定律能给出价格：参数减半而损失不变，要多花多少训练？

# %%
size, tokens = compute_optimal(CHINCHILLA_REFITTED, 1e23)
target = float(CHINCHILLA_REFITTED.loss(size, tokens))
for share in (1.0, 0.5, 0.3):
    left = target - CHINCHILLA_REFITTED.floor - a / (share * size) ** alpha
    needed = (b / left) ** (1 / beta)
    print(
        f"  {share * size / 1e9:.1f} B parameters, {needed / 1e12:.2f} T tokens: {6 * share * size * needed:.2g} "
        f"operations to train, {2 * share * size:.2g} for each token served"
    )

# %% [markdown]
# ### How does MinHash find duplicates among billions of documents? · MinHash 怎样在数十亿文档中找到重复？

# %% [markdown] lang="en"
# Each document becomes a short signature whose entries agree with those of another with probability J, the Jaccard similarity.
# Signatures are cut into bands, and each band is a key: documents that share a key are candidates, found by sorting or
# a hash join, linear in the number of documents. The number of bands and their length place the threshold, where the S-shaped curve
# rises, at about (1/b)^(1/r). Then connected components are formed, and one document of each is kept.

# %% [markdown] lang="zh"
# 每篇文档变成一个短签名，两个签名的每一项以概率 J（杰卡德相似度）相同。签名切成段，每段是一个键：
# 键相同的文档成为候选，用排序或哈希连接就能找到，与文档数成线性。
# 段数与段长决定 S 形曲线在哪里上升，大约在 (1/b)^(1/r)。最后求连通分量，每个分量只留一篇。

# %%
for bands, length in ((16, 8), (32, 4), (8, 16)):
    chances = [f"{candidate_probability(each, bands, length):.2f}" for each in (0.3, 0.5, 0.7, 0.8, 0.9)]
    print(
        f"  {bands} bands of {length}: rises at {(1 / bands) ** (1 / length):.2f}; J = 0.3 0.5 0.7 0.8 0.9: {' '.join(chances)}"
    )

# %% [markdown]
# ### Why does deduplication help, beyond saving compute? · 去重除了节省运算，还有什么好处？

# %% [markdown] lang="en"
# What is repeated is memorized, and may be recited word for word, private data included. Copies across a split make test scores a
# measure of memory. And a page that stands there a thousand times gets a thousand times the weight. Lee et al. 2022 found
# models trained on deduplicated text to recite ten times less, at an equal or better perplexity. Repeating *good* data a few times
# on purpose is another matter: where new text runs out, up to about four epochs are almost as good as new text (Muennighoff et
# al. 2023).

# %% [markdown] lang="zh"
# 重复的内容会被背下来，可能逐字吐出，其中包括隐私。训练集与测试集之间的副本使测试分数变成对记忆的测量。
# 出现一千次的页面，权重就是一千倍。Lee 等 2022 发现，用去重后的文本训练的模型，背诵减少到十分之一，困惑度不变或更好。
# 有意把*好*数据重复几遍则是另一回事：新文本用完以后，约四轮以内几乎与新文本一样好（Muennighoff 等 2023）。

# %%
print(f"  of the manual's last tenth, {leaked} of {len(paragraphs) - cut} paragraphs stand in the first nine tenths")

# %% [markdown]
# ### When do two perplexities compare? · 两个困惑度什么时候可以比较？

# %% [markdown] lang="en"
# With the same tokenizer, on the same text, with the same context. Perplexity is per token, so a larger vocabulary, with fewer and longer
# tokens, has a higher one for the same probability of the text. Bits per byte divide the same total by something that no
# tokenizer changes. The context counts too: windows that do not overlap let their first tokens be guessed from nothing.

# %% [markdown] lang="zh"
# 分词器相同、文本相同、上下文也相同时。困惑度是按词元算的，所以词表越大、词元越少越长，对同一文本概率的困惑度就越高。
# 每字节比特数用分词器改变不了的量去除同一个总和。上下文也有影响：互不重叠的窗口，开头的词元只能凭空猜。

# %%
for length, (hesitation, bits) in by_counting.items():
    print(f"  {length} characters a token: perplexity {hesitation:.0f}, {bits:.2f} bits per byte")

# %% [markdown]
# ### Why do you fit a scaling law to logarithms, and what can go wrong? · 缩放定律为什么在对数上拟合，会出什么问题？

# %% [markdown] lang="en"
# Errors of a loss are relative, and so are the differences that matter; logarithms weigh large and small runs alike. The floor,
# the coefficient and the exponent trade against each other: over a short range many triples fit equally well and part ways only when
# extrapolated. Runs must end with a learning-rate schedule of their own length, as intermediate losses of a longer one are too
# high; hyperparameters must suit every size; and the law holds for this data, tokenizer and recipe only.

# %% [markdown] lang="zh"
# 损失的误差是相对的，要紧的差别也是；取对数使大小训练同等重要。下限、系数和指数可以互相抵消：
# 在窄范围内许多组合拟合得一样好，外推时才分道扬镳。每次训练的学习率计划必须与自己的长度匹配，
# 拿更长计划的中途损失会偏高；超参数要适合每个尺寸；定律只对这份数据、这个分词器和这套做法成立。

# %%
for seed in SEEDS:
    print(
        f"  seed {seed}: E {laws[seed].floor:.2f}, alpha {laws[seed].exponents[0]:.2f}; "
        f"predicted at 4 C: {predicted[seed]:.2f}, at 1,000 C: {float(laws[seed].loss(1000 * BUDGET)):.2f}"
    )
