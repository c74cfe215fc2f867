# %% [markdown]
# # Word vectors, examined · 词嵌入分析

# %% [markdown] lang="en"
# After this lesson you can fit GloVe with gradients of your own, give a vector to a word that was never seen, and examine any
# set of word vectors: analogies with their baselines and intervals, a common direction, associations that texts carry, and
# what is lost when rows are shared. You need word2vec (11/01), bootstrap intervals (02/06) and PCA (02/02).

# %% [markdown] lang="zh"
# 学完本课，你能自己写梯度来拟合 GloVe，给从未见过的词一个向量，并检查任何一组词向量：带基线和区间的类比、公共方向、
# 文本带来的关联，以及共用行会丢失什么。先修：word2vec（11/01）、自助法区间（02/06）和 PCA（02/02）。

# %%
import re

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import asset, check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.mathematics.intervals import bootstrap_interval
from dlcommon.mathematics.principal_components import PCA
from dlcommon.nlp.association import associations, effect_size, permutation_p_value
from dlcommon.nlp.glove import GloVe, cooccurrences, glove_weights, train_glove
from dlcommon.nlp.similarity import (
    nearest_neighbors,
    neighbor_agreement,
    neighbor_precision,
    solve_analogies,
)
from dlcommon.nlp.subwords import character_ngrams, fnv_1a, ngram_rows, subword_table
from dlcommon.nlp.vector_geometry import all_but_the_top, mean_cosine, prune_vectors
from dlcommon.nlp.vocabulary import Vocabulary
from dlcommon.nlp.word2vec import train_word2vec
from dlcommon.runtime.data import find
from safetensors import safe_open
from sklearn import decomposition
from sklearn.manifold import TSNE
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You are handed a file of word vectors. The page that it comes from says: *king - man + woman = queen*. Is that so? What
# would be right without any arithmetic? What does the file say about a word that is not in it? About men and women? And
# somebody has made the file five times smaller, and says that nothing was lost.
#
# A file of vectors does not raise errors. Whatever is wrong with it shows only where somebody measures it, with something
# to compare with. This lesson makes two sets of vectors of its own, from 2.4 MB of Wikipedia, and examines them together
# with the word table of a pretrained model.

# %% [markdown] lang="zh"
# 有人给你一个词向量文件，下载页上写着：*king - man + woman = queen*。真是这样吗？不做任何算术又能答对多少？
# 文件里没有的词怎么办？它对男人和女人是怎么说的？还有人把文件缩小到五分之一，说什么都没丢。
#
# 向量文件不会报错。有什么问题，只有去测量、并且有东西可比时才会显现。
# 本课用 2.4 MB 的维基百科自己做两组向量，连同一个预训练模型的词表一起检查。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# *GloVe.* Two words met 20 times. Their vectors have the product 0.5, their biases are 0.1 and 0.2: the model says 0.8, the
# truth is $\log 20 = 2.996$, the error $-2.196$. The entry's weight is $(20/100)^{0.75} = 0.299$, its loss $0.299 \cdot
# 2.196^2 = 1.442$. The gradient of the first bias is $2 \cdot 0.299 \cdot (-2.196) = -1.313$.
#
# *Subwords.* The 3-grams of *where* are `<wh`, `whe`, `her`, `ere`, `re>`: `her` inside it is not the word `<her>`.
#
# *A common direction.* $(1, 0)$ and $(0, 1)$ have the cosine 0. Add $(2, 2)$ to both: $(3, 2)$ and $(2, 3)$, cosine $12 / 13 =
# 0.923$. Now everything resembles everything, and nothing has been learned. Subtracting the mean undoes it.

# %% [markdown] lang="zh"
# *GloVe。* 两个词相遇 20 次。向量的点积是 0.5，偏置是 0.1 和 0.2：模型说 0.8，实际是 $\log 20 = 2.996$，误差 $-2.196$。
# 这一项的权重是 $(20/100)^{0.75} = 0.299$，损失是 $0.299 \cdot 2.196^2 = 1.442$。
# 第一个偏置的梯度是 $2 \cdot 0.299 \cdot (-2.196) = -1.313$。
#
# *子词。* *where* 的 3-gram 是 `<wh`、`whe`、`her`、`ere`、`re>`：其中的 `her` 不是单词 `<her>`。
#
# *公共方向。* $(1, 0)$ 与 $(0, 1)$ 的余弦是 0。两者都加上 $(2, 2)$：$(3, 2)$ 与 $(2, 3)$，余弦 $12 / 13 = 0.923$。
# 现在什么都像什么，却什么也没学到。减去均值就能还原。

# %%
one = GloVe(torch.tensor([[0.5]]), torch.tensor([[1.0]]), torch.tensor([0.1]), torch.tensor([0.2]))
one_loss, one_gradients = one.gradients(torch.tensor([[20.0]]).log(), glove_weights(torch.tensor([[20.0]])))
shifted = torch.tensor([[3.0, 2.0], [2.0, 3.0]])
table(
    ["by hand", "value"],
    [
        ("GloVe: loss of the entry", one_loss.item()),
        ("GloVe: gradient of the bias", one_gradients[2].item()),
        ("3-grams of where", " ".join(character_ngrams("where", 3, 3))),
        ("cosine after adding (2, 2)", mean_cosine(shifted)),
        ("after subtracting the mean", mean_cosine(all_but_the_top(shifted, 0))),
    ],
)

# %% [markdown]
# ## Formula · 公式
#
# $$J = \sum_{i,j} f(X_{ij}) \left(w_i^\top u_j + b_i + c_j - \log X_{ij}\right)^2, \qquad f(x) = \min\left(1, (x / x_{\max})^{3/4}\right)$$
#
# $$v_w = \frac{1}{|G_w|} \sum_{g \in G_w} z_g$$
#
# $$\mathrm{answer}(a, b, c) = \arg\max_{d \notin \{a, b, c\}} \cos(v_d, v_b - v_a + v_c)$$
#
# $$s(w) = \frac{1}{|A|} \sum_{a \in A} \cos(v_w, v_a) - \frac{1}{|B|} \sum_{b \in B} \cos(v_w, v_b), \qquad d = \frac{\bar s_X - \bar s_Y}{\mathrm{std}_{X \cup Y}(s)}$$

# %% [markdown] lang="en"
# - $X_{ij}$: how often words $i$ and $j$ meet within a window, each meeting weighted by 1 / distance; $J$: GloVe's loss
#   (Pennington et al. 2014, equation 8); $f$: the weight of an entry (equation 9), 0 where the words never meet.
# - $w_i$, $u_j$: the two vectors of a word, `[dim]`; their sum is used; $b_i$, $c_j$: biases, which take up the frequency.
# - $G_w$: the n-grams of $w$ and the word itself; $z_g$: the vector of n-gram $g$ (Bojanowski et al. 2017, section 3.2, who
#   sum; their program takes the mean).
# - $v_a$, $v_b$, $v_c$, $v_d$: vectors of length 1; the words of the question are not allowed as an answer.
# - $A$, $B$: attribute words (such as *he …*, *she …*); $X$, $Y$: target words; $s(w)$: how much nearer $w$ is to $A$ than
#   to $B$; $d$: the effect size, between -2 and 2 (Caliskan et al. 2017).

# %% [markdown] lang="zh"
# - $X_{ij}$：词 $i$ 与 $j$ 在窗口内相遇的次数，每次按 1 / 距离加权；$J$：GloVe 的损失（Pennington 等 2014，式 8）；
#   $f$：一项的权重（式 9），从不相遇的词对为 0。
# - $w_i$、$u_j$：一个词的两个向量，`[dim]`，使用时取和；$b_i$、$c_j$：偏置，吸收词频。
# - $G_w$：$w$ 的 n-gram 和词本身；$z_g$：n-gram $g$ 的向量（Bojanowski 等 2017，第 3.2 节，论文求和，程序取平均）。
# - $v_a$、$v_b$、$v_c$、$v_d$：长度为 1 的向量；题目里的词不能作答案。
# - $A$、$B$：属性词（如 *he …*、*she …*）；$X$、$Y$：目标词；$s(w)$：$w$ 离 $A$ 比离 $B$ 近多少；
#   $d$：效应量，在 -2 与 2 之间（Caliskan 等 2017）。

# %% [markdown]
# ## Code · 代码

# %%
source(cooccurrences)
source(GloVe.gradients)
source(subword_table)
source(solve_analogies)
source(all_but_the_top)
source(prune_vectors)

# %% [markdown] lang="en"
# `cooccurrences` writes each pair as one number, so that `bincount` counts all pairs of one distance at once. In `gradients`
# the whole table is one matrix `[vocab, vocab]`: the derivative of a weighted square is twice weight times error, and from
# there it goes to the vectors by two matrix products and to the biases by sums. `subword_table` makes fastText of the
# skip-gram of 11/01: the input of a word is the mean of several rows instead of one. `all_but_the_top` takes directions
# from the covariance `[dim, dim]`, which is small however many words there are.

# %% [markdown] lang="zh"
# `cooccurrences` 把一对词写成一个数，这样 `bincount` 一次就数完某个距离的所有对。
# 在 `gradients` 里整张表就是一个矩阵 `[vocab, vocab]`：加权平方的导数是权重乘误差的两倍，
# 再经两次矩阵乘法到向量，经求和到偏置。`subword_table` 把 11/01 的 skip-gram 变成 fastText：一个词的输入是若干行的平均，而不是一行。
# `all_but_the_top` 从协方差 `[dim, dim]` 求方向，词再多它也很小。

# %% [markdown]
# ## Experiment: GloVe and a common direction · 实验：GloVe 与公共方向

# %% [markdown] lang="en"
# GloVe is fitted to the 1,200 most frequent words of 120 articles of Wikipedia, skip-gram with 3-grams to the same text, each
# with three seeds. The third set is the word table of all-MiniLM-L6-v2, a BERT that was trained on over a billion pairs of
# sentences: its 10,000 most frequent whole words. Measured: groups found, as in 11/01, and the mean cosine of all pairs,
# before and after subtracting the mean vector.

# %% [markdown] lang="zh"
# 用 120 篇维基百科文章中最常用的 1,200 个词拟合 GloVe，用同样的文本训练带 3-gram 的 skip-gram，各三个种子。
# 第三组是 all-MiniLM-L6-v2 的词表，这是一个用超过十亿对句子训练的 BERT：取其中最常用的 10,000 个完整的词。
# 测量：与 11/01 一样找词组；所有词对的平均余弦，减去均值向量之前和之后。

# %%
SEEDS, BUCKETS = (0, 1, 2), 3000
english_is_real = find("wikitext-2") is not None
corpus = data("wikitext-2", "python-manual")
tokens = [word for word in re.findall(r"[a-z]+|[0-9]+", (corpus.train + corpus.test).lower()) if word != "unk"]
everything = Vocabulary.build(tokens, min_count=3)
size = min(1200, len(everything) // 2)
vocabulary = Vocabulary(everything.words[:size], everything.counts[:size])
ids = vocabulary.encode(tokens)
together = cooccurrences(ids, size, window=5)
print(f"  {len(ids):,} tokens of {size:,} words; {(together > 0).mean():.0%} of all pairs meet")
fits = [train_glove(together, seed, updates=50) for seed in SEEDS]
print(f"  GloVe's mean squared error of log x: {fits[0][1][0]:.2f} at first, {fits[0][1][-1]:.2f} at the end")
subwords = subword_table(vocabulary.words, BUCKETS, 3, 3)
with_subwords = [
    train_word2vec(ids, vocabulary.counts, seed, epochs=1, threshold=3e-4, subwords=subwords)[0] for seed in SEEDS
]


def composed(rows: list[list[int]], input_table: torch.Tensor) -> torch.Tensor:
    """Means of rows of the input table, one for each list, [lists, dim]."""
    return torch.stack([input_table[row].mean(dim=0) for row in rows])


word_rows = [row[row >= 0].tolist() for row in subwords]
sets = {
    "GloVe": [fit.vectors for fit, _ in fits],
    "skip-gram, 3-grams": [composed(word_rows, vectors.input) for vectors in with_subwords],
}
folder = asset("all-minilm-l6-v2")
if folder is not None:
    with safe_open(folder / "model.safetensors", "pt") as stored:
        every_row = stored.get_tensor("embeddings.word_embeddings.weight")
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    chosen = [n for n, piece in enumerate(pieces) if re.fullmatch("[a-z]{2,}", piece)][:10_000]
    strong, strong_words = every_row[chosen].float(), [pieces[n] for n in chosen]
    sets["MiniLM's table"] = [strong]
else:  # what follows is then shown on vectors of our own
    strong, strong_words = sets["GloVe"][0], list(vocabulary.words)
strong_vocabulary = Vocabulary(tuple(strong_words), np.ones(len(strong_words)))

GROUPS = (
    {
        "months": "january february march april june july august september october november december",
        "numbers": "two three four five six seven eight nine ten",
        "directions": "north south east west northern southern eastern western",
        "military": "army navy troops division battalion infantry forces brigade",
    }
    if english_is_real
    else {
        "types": "int float str bytes list tuple dict set",
        "statements": "if while for try with return raise import",
    }
)


def written(values: list[float], form: str = ".2f") -> str:
    return " ".join(f"{value:{form}}" for value in values)


def found(vectors: torch.Tensor, words: Vocabulary) -> float:
    """Mean precision of the groups."""
    return float(
        np.mean([np.mean(neighbor_precision(vectors, words.known(group.split()))) for group in GROUPS.values()])
    )


geometry = {}
for name, vectors in sets.items():
    words = strong_vocabulary if name.startswith("MiniLM") else vocabulary
    geometry[name] = {
        "mean cosine": [mean_cosine(each) for each in vectors],
        "centered": [mean_cosine(all_but_the_top(each, 0)) for each in vectors],
        "groups": [found(each, words) for each in vectors],
        "groups, centered": [found(all_but_the_top(each, 0), words) for each in vectors],
    }
table(
    ["vectors", "mean cosine", "centered", "groups found", "centered"],
    [(name, *(written(values) for values in measured.values())) for name, measured in geometry.items()],
)

# %% [markdown] lang="en"
# Skip-gram's vectors lie in a narrow cone: two words at random have a large cosine (Mimno & Thompson 2017). So "cosine 0.9"
# says nothing by itself; compare with the cosine of random pairs. Subtracting the mean removes the cone at once, and what it
# does to the groups stands beside it. MiniLM's table has no cone: do not repeat from a paper that vectors are anisotropic,
# compute the mean cosine of yours.

# %% [markdown] lang="zh"
# skip-gram 的向量挤在一个狭窄的锥里：随便两个词的余弦就很大（Mimno 与 Thompson 2017）。
# 所以“余弦 0.9”本身不说明任何问题，要与随机词对的余弦相比。减去均值立刻消除这个锥，对词组的影响列在旁边。
# MiniLM 的词表没有这样的锥：不要照搬论文说向量是各向异性的，算一下你自己的平均余弦。

# %% [markdown]
# ## Experiment: analogies · 实验：类比

# %% [markdown] lang="en"
# Five relations of ten pairs each, written for this lesson; each ordered choice of two pairs is a question, 90 in each. Three
# ways to answer: the arithmetic as usual, where the three words of the question are not allowed; the same arithmetic with
# all words allowed; and no arithmetic at all, the nearest neighbor of the third word.

# %% [markdown] lang="zh"
# 五种关系各十对词，是为本课写的；每有序地取两对就是一道题，每种 90 道。三种答法：
# 通常的算术，不许用题目里的三个词；同样的算术，但所有词都可以；完全不做算术，取第三个词的最近邻。

# %%
quiz(
    "allowed",
    en="Which share of the questions is still right if the words of the question may be the answer?",
    zh="如果题目里的词也可以作答案，还有多大比例的题答对？",
)

# %%
RELATIONS = {
    "capitals": "france paris germany berlin italy rome japan tokyo russia moscow spain madrid england london egypt cairo "
    "ireland dublin austria vienna",
    "plurals": "car cars dog dogs house houses book books king kings bird birds river rivers tree trees game games song songs",
    "comparatives": "good better bad worse big bigger small smaller fast faster long longer high higher old older strong "
    "stronger young younger",
    "gender": "man woman king queen father mother son daughter brother sister husband wife uncle aunt prince princess boy "
    "girl actor actress",
    "past": "go went take took see saw write wrote build built give gave win won lose lost find found run ran",
}


def known_pairs(words: Vocabulary, relation: str) -> list[tuple[int, int]]:
    listed = RELATIONS[relation].split()
    return [
        (words.index[a], words.index[b])
        for a, b in zip(listed[::2], listed[1::2], strict=True)
        if a in words.index and b in words.index
    ]


def right(vectors: torch.Tensor, pairs: list[tuple[int, int]], way: str) -> np.ndarray:
    """Whether each question is answered right, [pairs, pairs]; the diagonal, no question, is not a number."""
    n = len(pairs)
    i, j = np.nonzero(~np.eye(n, dtype=bool))
    first, second = np.array(pairs).T
    a, b, c = first[i].tolist(), second[i].tolist(), first[j].tolist()
    if way == "nearest":
        answers = nearest_neighbors(vectors, c, 1)[:, 0]
    else:
        answers = solve_analogies(vectors, a, b, c, exclude=way == "excluded")
    grid = np.full((n, n), np.nan)
    grid[i, j] = answers.numpy() == second[j]
    return grid


WAYS = ("excluded", "allowed", "nearest")
grids = {
    (relation, way): right(strong, pairs, way)
    for relation in RELATIONS
    if len(pairs := known_pairs(strong_vocabulary, relation)) > 5
    for way in WAYS
}
answered = {key: float(np.nanmean(grid)) for key, grid in grids.items()}


def interval_over_pairs(grid: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of the share that is right, whole word pairs redrawn."""

    def share(drawn: np.ndarray) -> np.ndarray:
        return np.nanmean(grid[drawn[:, :, None], drawn[:, None, :]], axis=(1, 2))

    return bootstrap_interval(np.arange(len(grid)), share, np.random.default_rng(0))


intervals = {}
for relation in sorted({relation for relation, _ in grids}, key=list(RELATIONS).index):
    grid = grids[relation, "excluded"]
    each = grid[~np.isnan(grid)]
    intervals[relation] = (
        interval_over_pairs(grid),
        bootstrap_interval(each, lambda drawn: drawn.mean(axis=1), np.random.default_rng(0)),
    )
table(
    [
        "relation",
        "pairs",
        "words excluded",
        "95 %, pairs redrawn",
        "95 %, questions redrawn",
        "all allowed",
        "nearest to c",
    ],
    [
        (
            relation,
            len(grids[relation, "excluded"]),
            f"{answered[relation, 'excluded']:.0%}",
            *(f"{low:.0%} to {high:.0%}" for low, high in intervals[relation]),
            f"{answered[relation, 'allowed']:.0%}",
            f"{answered[relation, 'nearest']:.0%}",
        )
        for relation in intervals
    ],
)
overall = {way: float(np.mean([answered[relation, way] for relation in intervals] or [0.0])) for way in WAYS}
own_grids = [
    [right(vectors, pairs, "excluded") for relation in RELATIONS if len(pairs := known_pairs(vocabulary, relation)) > 5]
    for vectors in sets["GloVe"]
]
own = [float(np.mean([np.nanmean(grid) for grid in of_seed])) for of_seed in own_grids if of_seed]
print(f"  GloVe of 2.4 MB, relations of which it knows six pairs, each seed: {written(own, '.0%') or 'none'}")
settle("allowed", overall["allowed"], tolerance=0.05)

# %% [markdown] lang="en"
# With MiniLM's table: allowed every word, the arithmetic answers almost nothing. *Paris - France + Germany* is nearest to
# *Germany* or *Paris*; that *Berlin* comes out is the work of the rule that forbids both (Linzen 2016). Nor is the score the
# arithmetic's own: the plural is the nearest neighbor of the singular anyway, the comparative six times in ten. Capitals,
# which are never the nearest neighbor, are where the arithmetic does something. The gap to the last column is the result,
# not the first column.
#
# And 90 questions are not 90 measurements: they are made of ten pairs. Drawing pairs anew gives the wider and honest
# interval. (Where every answer is right the bootstrap sees no variation, and gives no width; that is its limit, not
# certainty.) Our own GloVe has read too little for any of this.

# %% [markdown] lang="zh"
# 用 MiniLM 的词表：所有词都可以作答时，算术几乎什么都答不对。*Paris - France + Germany* 离 *Germany* 或 *Paris* 最近；
# 能得出 *Berlin*，靠的是禁止这两个词的规则（Linzen 2016）。得分也不全是算术的功劳：
# 复数本来就是单数的最近邻，比较级十次里有六次也是。首都从来不是最近邻，那里算术才真起作用。结果是与最后一列的差距，而不是第一列。
#
# 而且 90 道题不是 90 次测量：它们由十对词组成。重抽词对得到的区间更宽，也更诚实。
# （全部答对时，自助法看不到任何变化，区间宽度为零；这是它的局限，不是确定无疑。）我们自己的 GloVe 读得太少，谈不上这些。

# %% [markdown]
# ## Experiment: words never seen · 实验：没见过的词

# %% [markdown] lang="en"
# Of the rarer words, which were left out of training, take those with *-s*, *-ed* or *-ing* whose stem is known. Two
# questions to the vector that their 3-grams make. *Stem*: is the stem among the five nearest words? *Neighbors*: which of
# two words stands beside it in the text, its own neighbor or that of another of these words, at random (so that frequent
# words are no better a guess)? Both with a control: 3-grams with random vectors that were never trained, where only
# spelling counts.

# %% [markdown] lang="zh"
# 在没有参加训练的较少见的词中，取以 *-s*、*-ed*、*-ing* 结尾且词干已知的。对它们的 3-gram 组成的向量问两个问题。
# *词干*：词干在最近的五个词里吗？*邻居*：两个词里哪一个在文本中挨着它，是它自己的邻居，
# 还是随机抽的另一个这类词的邻居（这样猜常见词就没有便宜可占）？
# 两个问题都有对照：用从未训练的随机 3-gram 向量，只有拼写起作用。

# %%
quiz(
    "spelling",
    en="With which 3-gram vectors is the stem found more often?",
    zh="用哪种 3-gram 向量更常找到词干？",
    choices={"trained": "trained ones · 训练过的", "random": "random ones · 随机的"},
)

# %%
stems = [
    (word, stem)
    for word in everything.words[size:]
    for ending, added in (("s", ""), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"))
    if word.endswith(ending) and len(word) > 4 and (stem := word[: -len(ending)] + added) in vocabulary.index
]
last_row = int(subwords.max())
unseen_rows = [
    [row for each in ngram_rows(word, BUCKETS, 3, 3) if (row := size + each) <= last_row] for word, _ in stems
]


def stem_found(input_table: torch.Tensor) -> float:
    near = (
        (
            F.normalize(composed(unseen_rows, input_table), dim=-1)
            @ F.normalize(composed(word_rows, input_table), dim=-1).T
        )
        .topk(5)
        .indices
    )
    answers = torch.tensor([vocabulary.index[stem] for _, stem in stems])
    return (near == answers[:, None]).any(dim=1).double().mean().item()


def meetings(of: dict[str, int]) -> np.ndarray:
    """Numbers of the given words and of their known neighbors, wherever they meet, [meetings, 2]."""
    return np.array(
        [
            (of[word], vocabulary.index[tokens[near]])
            for at, word in enumerate(tokens)
            if word in of
            for near in (at - 2, at - 1, at + 1, at + 2)
            if 0 <= near < len(tokens) and tokens[near] in vocabulary.index
        ]
    )


def neighbor_told(hidden: torch.Tensor, output: torch.Tensor, met: np.ndarray) -> float:
    """How often a true neighbor has the larger logit, ties by halves; hidden [words, dim], output [vocab, dim]."""
    at, others = hidden[met[:, 0]], np.random.default_rng(0).permutation(met[:, 1])
    true, other = ((at * output[which]).sum(dim=1) for which in (met[:, 1], others))
    return ((true > other).double() + (true == other).double() / 2).mean().item()


met_unseen = meetings({word: n for n, (word, _) in enumerate(stems)})
met_known = meetings({stem: vocabulary.index[stem] for _, stem in stems})
unseen = {
    name: []
    for name in (
        "stem, trained",
        "stem, random",
        "neighbors, trained",
        "neighbors, random",
        "neighbors of the stems, trained",
    )
}
for seed, vectors in zip(SEEDS, with_subwords, strict=True):
    random_table = torch.randn(vectors.input.shape, generator=torch.Generator().manual_seed(seed))
    of_unseen, of_known = composed(unseen_rows, vectors.input), composed(word_rows, vectors.input)
    unseen["stem, trained"].append(stem_found(vectors.input))
    unseen["stem, random"].append(stem_found(random_table))
    unseen["neighbors, trained"].append(neighbor_told(of_unseen, vectors.output, met_unseen))
    unseen["neighbors, random"].append(neighbor_told(composed(unseen_rows, random_table), vectors.output, met_unseen))
    unseen["neighbors of the stems, trained"].append(neighbor_told(of_known, vectors.output, met_known))
print(f"  {len(stems)} unseen words, such as {', '.join(word for word, _ in stems[:5])}; {len(met_unseen):,} meetings")
table(["question, vectors", "right, each seed"], [(name, written(values, ".0%")) for name, values in unseen.items()])
settle("spelling", "random" if np.mean(unseen["stem, random"]) > np.mean(unseen["stem, trained"]) else "trained")

# %% [markdown] lang="en"
# The stem is found, which is often shown as proof that fastText understands inflection. The control finds it *better*: words
# that are spelled alike share rows, and random rows keep spellings apart most cleanly. On the second question, which
# spelling cannot answer, the trained 3-grams of unseen words are hardly better than a coin, and so are the vectors of words
# that were trained on (the last row): there was little to pass on. After one pass over 2.4 MB there is spelling in these
# vectors and hardly any meaning; the published ones have read thousands of times as much. Ask of every demonstration what
# untrained weights would show.

# %% [markdown] lang="zh"
# 词干找到了，人们常以此证明 fastText 懂得词形变化。但对照组找得*更好*：拼写相近的词共用行，而随机的行把不同拼写分得最清。
# 第二个问题靠拼写答不了，没见过的词用训练过的 3-gram 也几乎和抛硬币一样，连参加过训练的词也差不多（最后一行）：本来就没多少可传。
# 2.4 MB 只读一遍，这些向量里有拼写，几乎没有意思；公开发布的向量读过的文本要多几千倍。
# 对任何演示都要问一句：没训练过的权重会是什么结果？

# %% [markdown]
# ## Experiment: associations · 实验：关联

# %% [markdown] lang="en"
# WEAT asks whether two sets of words lean towards two sets of attributes. First a case that harms nobody: flowers and insects,
# pleasant and unpleasant. Then career and family, mathematics and arts, each with words for men and for women. Beside the
# effect size $d$ stands the probability of so large a one if the target words were dealt at random, and the range of $d$ if
# any one target word is left out: the lists are somebody's choice.

# %% [markdown] lang="zh"
# WEAT 问两组词是否偏向两组属性。先看一个无害的例子：花与昆虫，愉快与不愉快。
# 然后是事业与家庭、数学与艺术，对男性词与女性词。效应量 $d$ 旁边是目标词随机分组时出现这么大效应的概率，
# 以及去掉任何一个目标词时 $d$ 的范围：词表毕竟是某个人选的。

# %%
WORDS = {
    "flowers": "rose lily daisy tulip orchid violet iris flower blossom clover",
    "insects": "ant spider bee wasp fly beetle mosquito moth flea insect",
    "pleasant": "love peace happy wonderful pleasure joy friend heaven gentle laughter paradise",
    "unpleasant": "hatred murder sick accident death poison assault disaster evil ugly filth prison",
    "male": "he him his man boy father son brother male",
    "female": "she her hers woman girl mother daughter sister female",
    "career": "career office business salary corporation management professional executive",
    "family": "family home parents children wedding marriage relatives cousins",
    "math": "math algebra geometry calculus equations computation numbers addition",
    "arts": "poetry art dance literature novel symphony drama sculpture",
}
TESTS = (
    ("flowers", "insects", "pleasant", "unpleasant"),
    ("career", "family", "male", "female"),
    ("math", "arts", "male", "female"),
)


def leaning(
    vectors: torch.Tensor, words: Vocabulary, test: tuple[str, ...]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Associations of both target sets; None where fewer than three words of a set are known."""
    known = [words.known(WORDS[name].split()) for name in test]
    if min(map(len, known)) < 3:
        return None
    x, y, a, b = (vectors[each] for each in known)
    return associations(x, a, b), associations(y, a, b)


effects = {}
for test in TESTS:
    if folder is not None and (measured := leaning(strong, strong_vocabulary, test)) is not None:
        first, second = measured
        without = [effect_size(first[torch.arange(len(first)) != n], second) for n in range(len(first))] + [
            effect_size(first, second[torch.arange(len(second)) != n]) for n in range(len(second))
        ]
        p_value = permutation_p_value(first, second, np.random.default_rng(0))
        effects[test] = (effect_size(first, second), p_value, min(without), max(without))
table(
    ["MiniLM: targets, attributes", "d", "p", "one word left out"],
    [(" ".join(test), d, p_value, f"{low:.2f} to {high:.2f}") for test, (d, p_value, low, high) in effects.items()],
)
of_seeds = [leaning(vectors, vocabulary, TESTS[1]) for vectors in sets["GloVe"]]
small = [effect_size(*measured) for measured in of_seeds if measured is not None]
print(f"  GloVe of 2.4 MB, career and family, male and female, each seed: {written(small) or 'too few words known'}")

# %% [markdown] lang="en"
# Read such a table slowly. Flowers come out as they should, so the instrument works. Mathematics and arts lean as Caliskan et
# al. found; career and family, the best known example, hardly lean in this table. Neither "the model is biased" nor "it
# is not" follows: three tests were made, so one in twenty is not rare; other lists give other values; and an association
# among vectors is not yet harm in a product, nor is its absence safety (Gonen & Goldberg 2019: removing the direction
# leaves the words clustered as before). What does follow: the vectors carry what their texts carried; whoever ranks
# people with them must measure the *product*, on people.

# %% [markdown] lang="zh"
# 这样的表要慢慢读。花与昆虫的结果符合预期，说明这件仪器管用。数学与艺术的偏向与 Caliskan 等的发现一致；
# 最有名的例子，事业与家庭，在这张表里几乎没有偏向。既不能得出“模型有偏见”，也不能得出“没有”：
# 做了三个检验，二十分之一就不算罕见；换一份词表，数值就变；向量之间的关联还不是产品里的伤害，
# 没有关联也不等于安全（Gonen 与 Goldberg 2019：去掉那个方向，词仍像原来一样聚在一起）。
# 能得出的是：文本带着什么，向量就带着什么；要用它给人排名次，就必须对*产品*、在人身上测量。

# %% [markdown]
# ## Experiment: pruned vectors · 实验：剪枝的向量

# %% [markdown] lang="en"
# A package with 20,000 rows can claim to know 500,000 words: a word without a row of its own is given the row of its nearest
# neighbor among those that stay. (spaCy's *md* models do it; in one of them *king* and *evil* share a row.) Here the most
# frequent fifth of the rows stays.

# %% [markdown] lang="zh"
# 一个只有 20,000 行的包可以声称认识 500,000 个词：没有自己那一行的词，就用留下的词中最近的那一行。
# （spaCy 的 *md* 模型就是这样，其中一个里 *king* 和 *evil* 共用一行。）这里留下最常用的五分之一。

# %%
quiz(
    "pruned",
    en="Which share of the analogies is right after pruning (words excluded; before: 74 % with MiniLM's table)?",
    zh="剪枝之后，类比还有多大比例答对（排除题目中的词；剪枝前 MiniLM 的词表为 74 %）？",
)

# %%
kept_rows = len(strong) // 5
rows = prune_vectors(strong, kept_rows)
pruned = strong[:kept_rows][rows]
after = {
    relation: float(np.nanmean(right(pruned, known_pairs(strong_vocabulary, relation), "excluded")))
    for relation in intervals
}
shown_words = "happy sad|monday tuesday|cat dog|ugly handsome|uncle aunt|hot cold".split("|")
if folder is None:
    shown_words = ["int float", "true false", "january july", "army navy"]
table(
    ["words", "rows that they use", "cosine before", "after"],
    [
        (
            pair,
            " ".join(strong_words[n] for n in rows[known].tolist()),
            *(mean_cosine(each[known]) for each in (strong, pruned)),
        )
        for pair in shown_words
        if len(known := strong_vocabulary.known(pair.split())) == 2
    ],
)
sample = list(range(kept_rows, len(strong), 37))
agreement = neighbor_agreement(strong, pruned, sample)
shared = 1 - len(rows.unique()) / len(rows)
sizes = torch.bincount(rows)
print(f"  words without a row of their own: {shared:.0%}; the most crowded row holds {sizes.max()} words")
print(f"  neighbors of pruned words that are the same as before: {agreement:.0%}")
print(f"  analogies: {overall['excluded']:.0%} before, {np.mean(list(after.values()) or [0.0]):.0%} after")
settle("pruned", float(np.mean(list(after.values()) or [0.0])), tolerance=0.1)

# %% [markdown] lang="en"
# A file that "knows" every word, and has no error to report: but *happy* is *sad*, and *Monday* is *Tuesday*, with a cosine
# of exactly 1. Opposites are each other's neighbors (11/01), so that pruning merges just them. The average cosine to the old
# vector, which the maker of the file will quote, hides it. A cosine of exactly 1 between different words is the sign to
# look for; the number of different rows tells the rest.

# %% [markdown] lang="zh"
# 一个“认识”每个词、也从不报错的文件：但 *happy* 就是 *sad*，*Monday* 就是 *Tuesday*，余弦恰好为 1。
# 反义词互为近邻（11/01），剪枝合并的正是它们。文件作者会引用的与旧向量的平均余弦，掩盖了这一点。
# 不同的词余弦恰好为 1，就是要找的迹象；数一数不同的行有多少，其余就清楚了。

# %%
drawn_groups = {
    relation: [n for pair in known_pairs(strong_vocabulary, relation) for n in pair] for relation in intervals
} or {group: vocabulary.known(words.split()) for group, words in GROUPS.items()}
points = [n for group in drawn_groups.values() for n in group]
unit = F.normalize(strong, dim=-1)[points].double().numpy()
by_pca = PCA.fit(unit, 2, np.random.default_rng(0)).transform(unit)
by_tsne = TSNE(2, perplexity=min(10, len(points) // 4), init="pca", random_state=0).fit_transform(
    unit.astype(np.float32)
)
distances = {
    name: torch.cdist(each, each).fill_diagonal_(torch.inf)
    for name, each in (
        ("all", torch.from_numpy(unit)),
        ("PCA", torch.from_numpy(by_pca)),
        ("t-SNE", torch.from_numpy(by_tsne).double()),
    )
}
near = {name: each.topk(5, largest=False).indices for name, each in distances.items()}
retained = {
    name: (near[name][:, :, None] == near["all"][:, None, :]).any(dim=2).double().mean().item()
    for name in ("PCA", "t-SNE")
}
figure, axes = plt.subplots(1, 3, figsize=(16.5, 4.8), layout="constrained")
for axis, (name, coordinates) in zip(axes, (("PCA", by_pca), ("t-SNE", by_tsne)), strict=False):
    start = 0
    for group, members in drawn_groups.items():
        xy = coordinates[start : start + len(members)]
        axis.scatter(xy[:, 0], xy[:, 1], s=14, label=group)
        for n in range(0, len(members), 4):
            axis.annotate(strong_words[members[n]], xy[n], fontsize=7)
        start += len(members)
    axis.set(title=f"{name}: {retained[name]:.0%} of 5 neighbors are real", xticks=[], yticks=[])
axes[0].legend(fontsize=8)
axes[2].set(
    title="Analogies: share right, MiniLM's table" if folder is not None else "Analogies: share right, GloVe",
    ylim=(0, 1.3),
)
for place, relation in enumerate(intervals):
    low, high = intervals[relation][0]
    axes[2].bar(place - 0.3, answered[relation, "excluded"], 0.2, color="tab:blue")
    axes[2].vlines(place - 0.3, low, high, color="black")
    axes[2].bar(place - 0.1, answered[relation, "nearest"], 0.2, color="tab:orange")
    axes[2].bar(place + 0.1, after[relation], 0.2, color="tab:green")
    axes[2].bar(place + 0.3, answered[relation, "allowed"], 0.2, color="tab:red")
axes[2].set_xticks(range(len(intervals)), list(intervals), fontsize=8)
for color, label in (
    ("blue", "words excluded, 95 %"),
    ("orange", "nearest to c"),
    ("green", "pruned"),
    ("red", "all allowed"),
):
    axes[2].plot([], [], "s", color=f"tab:{color}", label=label)
axes[2].legend(fontsize=8, ncols=2, loc="upper center")
show(figure, "examined")

# %% [markdown] lang="en"
# The pictures, too, are to be measured: their titles say which share of a word's five nearest neighbors in the picture are
# so in all dimensions. A linear projection to two of 384 dimensions keeps little; t-SNE arranges neighbors well, but its
# distances between clusters mean nothing.

# %% [markdown] lang="zh"
# 图也要测量：标题说明图中每个词的五个最近邻有多大比例在全部维度中也是近邻。
# 从 384 维线性投影到两维，留下的很少；t-SNE 把邻居安排得好，但簇与簇之间的距离没有意义。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# autograd differentiates GloVe's loss as it stands in the paper; scikit-learn's PCA removes the same components. In this
# repository's tests, n-grams and their hash are held against gensim's, analogies against its `most_similar`, GloVe against
# a double loop, and the permutation test against all deals. (GloVe's own program has no maintained Python package.)

# %% [markdown] lang="zh"
# autograd 对论文写法的 GloVe 损失求导；scikit-learn 的 PCA 去掉同样的成分。
# 本仓库的测试还把 n-gram 及其哈希与 gensim 比较，类比与它的 `most_similar` 比较，GloVe 与双重循环比较，
# 置换检验与全部分法比较。（GloVe 自己的程序没有仍在维护的 Python 包。）

# %%
random = torch.Generator().manual_seed(0)
leaves = [
    torch.randn(*shape, generator=random, dtype=torch.float64).requires_grad_()
    for shape in ((9, 4), (9, 4), (9,), (9,))
]
counts = 150 * torch.rand(9, 9, generator=random, dtype=torch.float64)
error = torch.einsum("id,jd->ij", leaves[0], leaves[1]) + leaves[2][:, None] + leaves[3] - counts.log()
library_loss = F.mse_loss(error * glove_weights(counts).sqrt(), torch.zeros_like(error), reduction="sum")
library_gradients = torch.autograd.grad(library_loss, leaves)
loss, gradients = GloVe(*(leaf.detach() for leaf in leaves)).gradients(counts.log(), glove_weights(counts))
some = torch.randn(60, 8, generator=random, dtype=torch.float64) + 1
fitted = decomposition.PCA(2).fit(some.numpy())

# %% [markdown]
# ## Checks · 检验

# %%
check_close("by hand: the loss is 1.442, the gradient -1.313", [one_loss, one_gradients[2][0]], [1.4420, -1.3133], 1e-3)
check_close("by hand: the cosine is 12 / 13", mean_cosine(shifted), 12 / 13, 1e-9)
check("by hand: the 3-grams of where", character_ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"])
check("the hash is FNV-1a: its published value for 'a'", fnv_1a("a") == 0xE40C292C)
check_close("GloVe's loss equals torch's", loss, library_loss, 1e-10)
for name, ours, theirs in zip(("w", "u", "b", "c"), gradients, library_gradients, strict=True):
    check_close(f"so does its gradient of {name}", ours, theirs, 1e-10)
check_close(
    "removing two components equals scikit-learn's PCA",
    all_but_the_top(some, 2),
    some.numpy() - fitted.inverse_transform(fitted.transform(some.numpy())),
    1e-8,
)
check("GloVe's error falls to less than a quarter, with every seed", all(fit[-1] < fit[0] / 4 for _, fit in fits))
check(
    "skip-gram's vectors lie in a narrower cone than GloVe's, with every seed",
    min(geometry["skip-gram, 3-grams"]["mean cosine"]) > max(geometry["GloVe"]["mean cosine"]),
)
check(
    "subtracting the mean removes it, with every seed",
    max(abs(value) for measured in geometry.values() for value in measured["centered"]) < 0.1,
)
check(
    "untrained 3-grams find more stems than trained ones, with every seed",
    all(a > b for a, b in zip(unseen["stem, random"], unseen["stem, trained"], strict=True)),
)
check("pruning shares rows: at most a fifth is different", len(rows.unique()) <= kept_rows)
if english_is_real:
    check(
        "Wikipedia: GloVe finds most months, with every seed",
        min(np.mean(neighbor_precision(v, vocabulary.known(GROUPS["months"].split()))) for v in sets["GloVe"]) > 0.6,
    )
if folder is not None:
    check("MiniLM: with all words allowed, fewer than 1 analogy in 10 is right", overall["allowed"] < 0.1)
    check(
        "MiniLM: plurals need no arithmetic", answered["plurals", "nearest"] >= answered["plurals", "excluded"] - 0.05
    )
    check("MiniLM: capitals do", answered["capitals", "excluded"] > answered["capitals", "nearest"] + 0.3)
    check("MiniLM: flowers are nearer to what is pleasant", effects[TESTS[0]][0] > 1 and effects[TESTS[0]][1] < 0.05)
    check(
        "MiniLM: pruning costs more than half of the analogies", np.mean(list(after.values())) < overall["excluded"] / 2
    )
    check("MiniLM: t-SNE keeps more neighbors than PCA", retained["t-SNE"] > retained["PCA"])

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# Subwords won: BERT's WordPiece (07/07) and GPT's BPE (12/02) give every word pieces with vectors of their own. Neighbors by
# cosine are how retrieval works (11/05), with vectors of sentences instead of words; all that is measured here, the common
# direction, baselines, shared rows, is worth measuring there. The capstone `sentiment-bert` begins with the table that was
# examined here: `uv run --package sentiment-bert train --max-minutes 5`.
#
# Papers: [Pennington et al. 2014](https://aclanthology.org/D14-1162), GloVe; [Bojanowski et al.
# 2017](https://arxiv.org/abs/1607.04606), subwords; [Linzen 2016](https://arxiv.org/abs/1606.07736), what analogies show; [Mimno &
# Thompson 2017](https://aclanthology.org/D17-1308), the cone; [Mu & Viswanath 2018](https://arxiv.org/abs/1702.01417), removing
# components; [Caliskan et al. 2017](https://arxiv.org/abs/1608.07187), WEAT; [Gonen & Goldberg
# 2019](https://arxiv.org/abs/1903.03862), what debiasing leaves. Next: classifying texts, 11/03.

# %% [markdown] lang="zh"
# 子词赢了：BERT 的 WordPiece（07/07）和 GPT 的 BPE（12/02）让每个词由有自己向量的片段组成。
# 按余弦找近邻就是检索的做法（11/05），只是向量属于句子而不是词；这里测量的一切，公共方向、基线、共用的行，在那里也值得测。
# 实战项目 `sentiment-bert` 就从这里检查的这张表开始：`uv run --package sentiment-bert train --max-minutes 5`。
#
# 论文：[Pennington 等 2014](https://aclanthology.org/D14-1162)，GloVe；
# [Bojanowski 等 2017](https://arxiv.org/abs/1607.04606)，子词；[Linzen 2016](https://arxiv.org/abs/1606.07736)，类比说明什么；
# [Mimno 与 Thompson 2017](https://aclanthology.org/D17-1308)，锥；
# [Mu 与 Viswanath 2018](https://arxiv.org/abs/1702.01417)，去掉成分；
# [Caliskan 等 2017](https://arxiv.org/abs/1608.07187)，WEAT；
# [Gonen 与 Goldberg 2019](https://arxiv.org/abs/1903.03862)，去偏之后留下什么。下一课：文本分类，11/03。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `cooccurrences`, `glove_weights` and `GloVe.gradients` yourself. `uv run lesson exercise 11/02` makes a file with their
# signatures, `uv run lesson check 11/02` judges them one after the other.

# %% [markdown] lang="zh"
# 自己实现 `cooccurrences`、`glove_weights` 和 `GloVe.gradients`。
# `uv run lesson exercise 11/02` 生成带有签名的文件，`uv run lesson check 11/02` 依次评判。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Tokens at distance $d$ are `ids[:-d]` and `ids[d:]`. Write a pair as `first * vocab_size + second` and count with
#    `np.bincount(…, minlength=vocab_size ** 2)`; divide by the distance; add the transpose at the end.
# 2. Clamp the ratio to 1 before the power; 0 stays 0.
# 3. The error is a matrix: products, plus a column of biases, plus a row of biases, minus the logarithms.
# 4. The derivative of $f e^2$ with respect to $e$ is $2 f e$. The gradient of the output vectors needs the transpose.

# %% [markdown] lang="zh"
# 1. 距离为 $d$ 的词元是 `ids[:-d]` 和 `ids[d:]`。把一对写成 `first * vocab_size + second`，
#    用 `np.bincount(…, minlength=vocab_size ** 2)` 计数；除以距离；最后加上转置。
# 2. 先把比值限制到 1 再取幂；0 仍是 0。
# 3. 误差是矩阵：点积，加一列偏置，加一行偏置，减对数。
# 4. $f e^2$ 对 $e$ 的导数是 $2 f e$。输出向量的梯度要用转置。


# %%
@exercise(cooccurrences, glove_weights, GloVe.gradients)
def judge(yours, reference):
    ids = np.random.default_rng(1).integers(0, 7, size=40)
    for window in (1, 4):
        mine, theirs = (each.cooccurrences(ids, 7, window) for each in (yours, reference))
        check(f"cooccurrences with window {window} is [vocab, vocab]", np.shape(mine) == (7, 7))
        check_close(f"cooccurrences with window {window} is symmetric", mine, np.transpose(mine))
        check_close(f"cooccurrences with window {window}", mine, theirs)
    counts = torch.tensor([[0.0, 3.0], [100.0, 250.0]])
    check_close("glove_weights", yours.glove_weights(counts), reference.glove_weights(counts))
    check_close(
        "glove_weights with other options",
        yours.glove_weights(counts, 50.0, 0.5),
        reference.glove_weights(counts, 50.0, 0.5),
    )
    random = torch.Generator().manual_seed(2)
    parts = [torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((6, 3), (6, 3), (6,), (6,))]
    logs, weights = (torch.rand(6, 6, generator=random, dtype=torch.float64) for _ in range(2))
    mine, theirs = (each.GloVe(*parts).gradients(logs, weights) for each in (yours, reference))
    check_close("gradients: the loss", mine[0], theirs[0], 1e-10)
    for name, a, b in zip(("input", "output", "input_bias", "output_bias"), mine[1], theirs[1], strict=True):
        check_close(f"gradients: {name}", a, b, 1e-10)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### What distinguishes GloVe from word2vec? · GloVe 与 word2vec 有什么区别？

# %% [markdown] lang="en"
# GloVe counts first and then fits the logarithms of the counts by weighted least squares; word2vec goes through the text and
# never sees the counts. Their aims are close: skip-gram with negative sampling fits PMI minus $\log k$, GloVe fits $\log X$
# with free biases, which can hold the logarithms of the frequencies. GloVe ignores pairs that never meet; negative
# sampling pushes them apart.

# %% [markdown] lang="zh"
# GloVe 先计数，再用加权最小二乘拟合计数的对数；word2vec 一遍遍读文本，从不看计数。两者目标相近：
# 负采样的 skip-gram 拟合 PMI 减 $\log k$，GloVe 拟合 $\log X$，自由的偏置可以容纳频率的对数。
# GloVe 不理会从不相遇的词对；负采样则把它们推开。

# %%
bias = fits[0][0].input_bias + fits[0][0].output_bias
correlation = np.corrcoef(bias.numpy(), np.log(vocabulary.counts))[0, 1]
print(f"  GloVe's biases and the logarithms of the counts: correlation {correlation:.2f}")

# %% [markdown]
# ### Why is GloVe's loss weighted? · GloVe 的损失为什么要加权？

# %% [markdown] lang="en"
# Most entries are small and noisy: whether two words met once or twice is chance, but its logarithm differs by 0.7. A weight
# that grows with the count makes sure ones count more, the cap keeps the few huge ones from taking everything, and $f(0) =
# 0$ spares the logarithm of zero.

# %% [markdown] lang="zh"
# 大多数项又小又有噪声：两个词相遇一次还是两次是偶然，对数却差 0.7。权重随计数增长，使可靠的项更重要；
# 上限不让少数巨大的项占去一切；$f(0) = 0$ 则免去零的对数。

# %%
entries = torch.from_numpy(together[together > 0])
weight = glove_weights(entries)
for name, chosen_entries in (("up to 2", entries <= 2), ("above 100", entries > 100)):
    print(
        f"  counts {name}: {chosen_entries.double().mean():.1%} of the entries, {weight[chosen_entries].sum() / weight.sum():.0%} of the weight"
    )

# %% [markdown]
# ### How does fastText give a vector to a word that it never saw? · fastText 怎样给从未见过的词一个向量？

# %% [markdown] lang="en"
# As the mean of the vectors of its character n-grams, which other words have trained. N-grams are not listed but hashed to a
# fixed number of rows, so memory is bounded and some share a row. It helps for inflections and compounds, not for names
# whose letters say nothing; and likeness of spelling is not likeness of meaning.

# %% [markdown] lang="zh"
# 用它的字符 n-gram 向量的平均，这些向量是别的词训练出来的。n-gram 不逐个登记，而是哈希到固定数目的行，
# 所以内存有上限，有些 n-gram 会共用一行。它对词形变化和复合词有用，对字母不说明意思的人名没用；拼写相近也不等于意思相近。

# %%
different = sorted({ngram for word in vocabulary.words for ngram in character_ngrams(word, 3, 3)})
used = {fnv_1a(ngram) % BUCKETS for ngram in different}
print(f"  {len(different):,} different 3-grams in {len(used):,} of {BUCKETS:,} rows")

# %% [markdown]
# ### How would you evaluate analogies honestly? · 怎样诚实地评测类比？

# %% [markdown] lang="en"
# Report each relation separately; report the nearest neighbor of the third word as a baseline; say that the words of the
# question are excluded, and what happens if not; redraw pairs, not questions, for the interval, since questions share
# pairs. And prefer a test of the task that you have.

# %% [markdown] lang="zh"
# 每种关系分别报告；以第三个词的最近邻为基线；说明排除了题目中的词，以及不排除会怎样；求区间时重抽词对而不是题目，
# 因为题目共用词对。更好的办法是直接在你的任务上测。

# %%
for relation, (by_pairs, by_questions) in intervals.items():
    print(
        f"  {relation}: the interval is {by_pairs[1] - by_pairs[0]:.2f} wide by pairs, {by_questions[1] - by_questions[0]:.2f} by questions"
    )
if not intervals:
    print("  no relation has six known pairs here")

# %% [markdown]
# ### Two words have a cosine of 0.8. Are they similar? · 两个词的余弦是 0.8，它们相似吗？

# %% [markdown] lang="en"
# That depends on the cosine of random pairs. If all vectors share a direction, 0.8 may be below average. Compare with that
# distribution, or remove the mean first, or use ranks, which a shared direction disturbs less.

# %% [markdown] lang="zh"
# 要看随机词对的余弦是多少。如果所有向量有一个公共方向，0.8 可能还低于平均。与这个分布相比，或先减去均值，或用名次，名次受公共方向影响较小。

# %%
for name, vectors in sets.items():
    unit_vectors = F.normalize(vectors[0], dim=-1)
    pairs = torch.randint(0, len(unit_vectors), (2, 5000), generator=torch.Generator().manual_seed(0))
    cosines = (unit_vectors[pairs[0]] * unit_vectors[pairs[1]]).sum(dim=1)[pairs[0] != pairs[1]]
    print(f"  {name}: random pairs, median {cosines.median():.2f}, 99 % below {cosines.quantile(0.99):.2f}")

# %% [markdown]
# ### Can bias be removed from word vectors? · 能从词向量中去掉偏见吗？

# %% [markdown] lang="en"
# A direction can: project it out, and words no longer lean along it. But the leaning is spread over many dimensions; words
# that leaned the same way stay near each other, so that a classifier finds them again (Gonen & Goldberg 2019). Removing a
# direction makes the test pass rather than the bias go; measure the product instead.

# %% [markdown] lang="zh"
# 一个方向可以去掉：投影之后，词就不再沿它偏斜。但偏斜散布在许多维度里；原来偏向同一边的词仍彼此靠近，
# 分类器能把它们重新找出来（Gonen 与 Goldberg 2019）。去掉一个方向，是让测试通过，而不是让偏见消失；应当测量产品。

# %%
direction = F.normalize(
    strong[strong_vocabulary.known(WORDS["male"].split())].mean(dim=0)
    - strong[strong_vocabulary.known(WORDS["female"].split())].mean(dim=0)
    if min(len(strong_vocabulary.known(WORDS[name].split())) for name in ("male", "female"))
    else strong[0] - strong[1],
    dim=-1,
)
unit_strong = F.normalize(strong, dim=-1)
lean = unit_strong @ direction
projected = unit_strong - lean[:, None] * direction
leaning_words = lean[2000 if folder is not None else 100 :].abs().topk(200 if folder is not None else 40).indices + (
    2000 if folder is not None else 100
)
sides = (lean[leaning_words] > 0).long()
cosines = F.normalize(projected[leaning_words], dim=-1) @ F.normalize(projected[leaning_words], dim=-1).T
same = (sides[cosines.fill_diagonal_(-torch.inf).argmax(dim=1)] == sides).double().mean()
print(
    f"  after the direction is removed: lean {(projected @ direction).abs().max():.1e}, yet {same:.0%} of the words that"
)
print(
    f"  leaned most have a nearest neighbor that leaned the same way (by chance {torch.bincount(sides).max() / len(sides):.0%} at most)"
)
