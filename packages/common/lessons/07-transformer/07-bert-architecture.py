# %% [markdown]
# # BERT's architecture · BERT 的结构

# %% [markdown] lang="en"
# After this lesson you can say what BERT reads, what it is trained to do and why it may look at both sides of a word;
# you can split a word by WordPiece on paper, load published weights into a BERT of your own, and turn a sentence into a
# vector that can be compared with others. You need the Transformer's encoder (07/04).

# %% [markdown] lang="zh"
# 学完本课，你能说清 BERT 读入什么、训练目标是什么、为什么它可以同时看一个词的两侧；能在纸上用 WordPiece 切分一个词，
# 能把公开的权重装进自己写的 BERT，并把句子变成可以互相比较的向量。先修：Transformer 编码器（07/04）。

# %%
import matplotlib.pyplot as plt
import torch
import transformers
from dlcommon.course.lesson import asset, check, check_close, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.training.schedules import linear, set_learning_rate
from dlcommon.transformer.attention import causal_mask
from dlcommon.transformer.bert import (
    IGNORED,
    Bert,
    BertConfig,
    BertEmbeddings,
    BertForMaskedLM,
    mask_tokens,
    mean_pool,
)
from dlcommon.transformer.bert_weights import load_pretrained, load_transformers_weights, translate_name
from dlcommon.transformer.wordpiece import wordpiece
from tokenizers import Tokenizer, models
from torch.nn import functional as F

transformers.logging.disable_progress_bar()

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# You want to sort reviews, find names in a text, or find the question that was asked before in other words. Labelled
# examples are few; texts without labels there are as many as you like. What could a network learn from plain text that
# helps with all these tasks?
#
# Predicting the next word is one answer, but it makes the network read with one eye shut: at each word it may only look
# to the left. In `the keys near the door are gone` the word `are` tells that `keys` is plural, and it stands to the
# right. For a text that is there as a whole, both sides should count. Yet a network that sees everything also sees the
# word that it is to predict, and would only copy it.
#
# BERT's way out: hide some of the words, and let the network fill the gaps from both sides.

# %% [markdown] lang="zh"
# 你想给评论分类，想在文本里找出人名，想找到以前有人用别的说法问过的同一个问题。有标注的样本很少，没有标注的文本却要多少有多少。
# 网络能从纯文本里学到什么，对所有这些任务都有帮助？
#
# 预测下一个词是一种答案，但这样网络像是闭着一只眼在读：每个词只能看左边。
# 在 `the keys near the door are gone` 这句话里，是 `are` 说明 `keys` 是复数，而它在右边。
# 既然整段文本都在眼前，两侧都应该算数。可是什么都看得到的网络，也看得到要预测的那个词，照抄就行了。
#
# BERT 的办法：把一部分词遮住，让网络根据两侧填空。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# **Words into pieces.** BERT's vocabulary has about 30,000 pieces; those that continue a word begin with `##`. WordPiece
# takes the longest piece that fits, from left to right. Let the vocabulary be `un`, `##a`, `##aff`, `##able`, `play`,
# `##ing`. For `unaffable` it tries `unaffable`, `unaffabl`, … until `un` fits; then, from `affable` on, `##affable`, …,
# until `##aff` fits, then `##able`. For `unplay` it finds `un`, but no piece `##play` or a shorter one: the whole word
# becomes `[UNK]`, unknown.
#
# **What the encoder reads.** A text is framed by `[CLS]` and `[SEP]`; a second text may follow, with another `[SEP]`.
# Each token's vector is the sum of three: which piece, which of the two texts (segment), which place. Say the piece's
# vector is $(2, 1)$, the first segment's $(0.5, 0)$, the third place's $(0.5, -2)$. The sum is $(3, -1)$; its mean is 1
# and its variance 4, so layer normalization makes it $(1, -1)$.
#
# **What is hidden.** Of 1,000 tokens 15 % are chosen: 150. Of these 80 %, 120, become `[MASK]`, 10 %, 15, a random
# piece, and 15 stay as they are. The loss counts all 150, and none of the other 850.

# %% [markdown] lang="zh"
# **词切成片段。** BERT 的词表约有三万个片段，接在词中间的片段以 `##` 开头。WordPiece 从左到右，每次取放得下的最长片段。
# 设词表为 `un`、`##a`、`##aff`、`##able`、`play`、`##ing`。对 `unaffable`，依次试 `unaffable`、`unaffabl`……直到 `un` 匹配；
# 再从 `affable` 开始试 `##affable`……直到 `##aff` 匹配，最后是 `##able`。
# 对 `unplay`，找到 `un` 之后没有 `##play` 或更短的片段可用，于是整个词变成 `[UNK]`，即未知。
#
# **编码器读入什么。** 文本前面加 `[CLS]`，末尾加 `[SEP]`；后面可以再接第二段文本和一个 `[SEP]`。
# 每个 token 的向量是三个向量之和：是哪个片段、属于哪段文本（segment）、在第几个位置。
# 设片段的向量为 $(2, 1)$，第一段的向量为 $(0.5, 0)$，第三个位置的向量为 $(0.5, -2)$。
# 和为 $(3, -1)$，均值 1，方差 4，层归一化之后是 $(1, -1)$。
#
# **遮住什么。** 1,000 个 token 选出 15 %，即 150 个。其中 80 %（120 个）换成 `[MASK]`，10 %（15 个）换成随机片段，
# 剩下 15 个保持原样。损失计算这 150 个，其余 850 个不算。

# %%
pieces = ["un", "##a", "##aff", "##able", "play", "##ing"]
split = {word: wordpiece(word, pieces) for word in ("unaffable", "playing", "unplay")}
table(["word", "pieces"], [(word, " ".join(parts)) for word, parts in split.items()])

tiny = BertEmbeddings(BertConfig(vocab_size=3, dim=2, num_heads=1, max_tokens=3, dropout=0.0))
with torch.no_grad():
    tiny.word.weight[1] = torch.tensor([2.0, 1.0])
    tiny.segment.weight[0] = torch.tensor([0.5, 0.0])
    tiny.position.weight[2] = torch.tensor([0.5, -2.0])
    by_hand = tiny(torch.tensor([[0, 2, 1]]))[0, 2]  # piece 1 in the third place
print(f"  normalized sum: ({by_hand[0]:.3f}, {by_hand[1]:.3f})")

thousand = torch.randint(5, 100, (1, 1000))
read, labels = mask_tokens(
    thousand, thousand > 0, mask_token_id=4, vocab_size=100, generator=torch.Generator().manual_seed(0)
)
chosen = labels != IGNORED
counts = {
    "[MASK]": int((read == 4).sum()),
    "another piece": int((chosen & (read != 4) & (read != thousand)).sum()),
    "unchanged": int((chosen & (read == thousand)).sum()),
}
table(["of 1,000 tokens, chosen", *counts], [(int(chosen.sum()), *counts.values())])

words = ["[CLS]", "my", "dog", "play", "##s", "[SEP]", "he", "like", "##s", "it", "[SEP]"]
drawing = Schematic(13, 4.0, "What BERT reads: piece + segment + position")
for number, word in enumerate(words):
    x, part = 1.4 + 1.1 * number, "A" if number < 6 else "B"
    drawing.box(f"word {number}", x, 3.0, word, "data", width=1.0, height=0.5)
    drawing.box(f"segment {number}", x, 2.3, part, "parameter", width=1.0, height=0.5)
    drawing.box(f"position {number}", x, 1.6, str(number), "parameter", width=1.0, height=0.5)
    drawing.box(f"sum {number}", x, 0.5, "norm", width=1.0, height=0.5)
    drawing.arrow(f"position {number}", f"sum {number}")
for y, name in ((3.0, "piece"), (2.3, "segment"), (1.6, "position")):
    drawing.text(0.4, y, name)
drawing.text(6.9, 3.55, "the three vectors of each column are added")
show(drawing.figure, "input")

# %% [markdown]
# ## Formula · 公式
#
# $$h^0_i = \mathrm{LN}(W_{x_i} + S_{s_i} + P_i)$$
#
# $$a^l = \mathrm{LN}(h^{l-1} + \mathrm{MultiHead}(h^{l-1})), \qquad h^l = \mathrm{LN}(a^l + W_2\,\mathrm{GELU}(W_1 a^l + b_1) + b_2)$$
#
# $$p(x_i \mid \tilde x) = \mathrm{softmax}\left(W\,\mathrm{LN}(\mathrm{GELU}(T h^L_i + t)) + b\right)_{x_i}, \qquad \mathcal{L} = -\frac{1}{|M|} \sum_{i \in M} \log p(x_i \mid \tilde x)$$
#
# $$c = \tanh(V h^L_0 + v), \qquad \bar h = \frac{\sum_i m_i h^L_i}{\sum_i m_i}$$

# %% [markdown] lang="en"
# - $x_i$: id of token $i$ of $n$; $\tilde x$: the tokens with gaps; $M$: the chosen places, $|M|$ their number.
# - $s_i$: segment of the token, 0 or 1; $m_i$: 1 for a token, 0 for padding.
# - $W$: word embeddings, `[vocab_size, dim]`; $S$: of the segments, `[2, dim]`; $P$: of the positions, `[512, dim]`, learned.
# - $\mathrm{LN}$: layer normalization, after each sum (post-norm); $\mathrm{MultiHead}$: attention of every token to all tokens with $m = 1$.
# - $h^l_i$: features of token $i$ after layer $l$ of $L$, `[dim]`; $a^l$: after its attention.
# - $W_1, b_1, W_2, b_2$: the feed-forward network, `[4·dim, dim]` and back.
# - $T, t$: one more layer before the output, `[dim, dim]`; $b$: a bias per piece. The output weights are the word embeddings $W$ again.
# - $\mathcal{L}$: the masked language model's loss (Devlin et al. 2019, section 3.1).
# - $c$: the pooled `[CLS]`, with weights $V, v$, for classification; $\bar h$: the mean of the tokens, for sentence vectors.
#
# BERT was also trained to say whether the second text follows the first (next-sentence prediction, from $c$). Later work
# showed that this brings little (Liu et al. 2019), and left it out; the segments and the pooler stem from it.

# %% [markdown] lang="zh"
# - $x_i$：共 $n$ 个 token 中第 $i$ 个的编号；$\tilde x$：带空缺的序列；$M$：被选中的位置，$|M|$ 是它们的个数。
# - $s_i$：token 所属的段，0 或 1；$m_i$：真实 token 为 1，填充为 0。
# - $W$：词嵌入，`[vocab_size, dim]`；$S$：段嵌入，`[2, dim]`；$P$：位置嵌入，`[512, dim]`，由学习得到。
# - $\mathrm{LN}$：层归一化，放在每次相加之后（post-norm）；$\mathrm{MultiHead}$：每个 token 对所有 $m = 1$ 的 token 的注意力。
# - $h^l_i$：第 $l$ 层（共 $L$ 层）之后 token $i$ 的特征，`[dim]`；$a^l$：该层注意力之后的特征。
# - $W_1, b_1, W_2, b_2$：前馈网络，`[4·dim, dim]` 再变回来。
# - $T, t$：输出之前多加的一层，`[dim, dim]`；$b$：每个片段一个偏置。输出权重就是词嵌入 $W$ 本身。
# - $\mathcal{L}$：掩码语言模型的损失（Devlin 等 2019，3.1 节）。
# - $c$：用于分类的 `[CLS]` 池化结果，权重为 $V, v$；$\bar h$：各 token 的平均，用作句向量。
#
# BERT 训练时还要判断第二段文本是否接在第一段之后（下一句预测，由 $c$ 给出）。
# 后来的研究表明这几乎没有帮助（Liu 等 2019），就去掉了；段嵌入和池化层由此而来。

# %% [markdown]
# ## Code · 代码

# %%
source(BertEmbeddings.add_context)
source(Bert.encode)
source(BertForMaskedLM.predict)
source(mask_tokens)

# %% [markdown] lang="en"
# `add_context` gets the word vectors `[batch, tokens, dim]`. The positions 0, 1, 2, … are the same for all texts of the
# batch, so `self.position(…)` is `[tokens, dim]` and is broadcast. Between the embeddings and the features lies nothing
# but the encoder of 07/04, in post-norm with GELU. `encode` brings the padding's mask into the shape of the attention
# weights, `[batch, heads, queries, keys]`: a column of padding is closed to all queries. There is no causal mask, and
# this is all that makes BERT bidirectional.
#
# `predict` compares each place's features with all word embeddings: a dot product for each of the vocabulary's pieces.
# In `mask_tokens`, two independent draws decide whether a token is chosen and what happens to it. `IGNORED`, −100, is the
# label that `F.cross_entropy` leaves out.

# %% [markdown] lang="zh"
# `add_context` 接收词向量 `[batch, tokens, dim]`。位置 0、1、2……对批次里所有文本都一样，
# 所以 `self.position(…)` 的形状是 `[tokens, dim]`，靠广播相加。从嵌入到特征之间，只有 07/04 的编码器：post-norm，激活函数 GELU。
# `encode` 把填充掩码变成注意力权重的形状 `[batch, heads, queries, keys]`：填充所在的列对所有查询都关闭。
# 没有因果掩码，BERT 的“双向”仅此而已。
#
# `predict` 把每个位置的特征与所有词嵌入比较：对词表里每个片段做一次点积。
# `mask_tokens` 用两次独立的抽样决定一个 token 是否被选中、以及怎样处理。`IGNORED` 即 −100，是 `F.cross_entropy` 会跳过的标签。

# %% [markdown]
# ## Experiment: both sides · 实验：两侧的信息

# %% [markdown] lang="en"
# A language of 28 words: `the key near the dogs is gone`. The verb agrees with the first noun; the second noun is there
# to distract. Two networks with the same weights at the start learn to fill gaps in the same sentences. One may look to
# both sides, the other, by a causal mask, only to the left. Then one word is hidden at a time, and we ask whether the
# network finds the singular or the plural words more probable.

# %% [markdown] lang="zh"
# 一种只有 28 个词的语言：`the key near the dogs is gone`。动词与第一个名词的单复数一致，第二个名词用来干扰。
# 两个初始权重相同的网络在同样的句子上学习填空：一个可以看两侧，另一个加了因果掩码，只能看左边。
# 之后每次遮住一个词，看网络认为单数的词更可能，还是复数的词更可能。

# %%
quiz(
    "left only",
    en="In 'the [MASK] near the dogs is gone', how often (0 to 1) does the network that only looks left choose the right number for the masked noun?",
    zh="在 'the [MASK] near the dogs is gone' 中，只看左边的网络有多大比例（0 到 1）能判断对被遮名词的单复数？",
)
quiz(
    "embeddings",
    en="all-MiniLM-L6-v2 is a BERT of 6 layers, 384 wide, with 30,522 pieces: what share of its parameters are embeddings (0 to 1)?",
    zh="all-MiniLM-L6-v2 是 6 层、宽 384、词表 30,522 的 BERT：它的参数中嵌入占多大比例（0 到 1）？",
)

# %%
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
NOUNS = (["key", "dog", "child", "king"], ["keys", "dogs", "children", "kings"])  # singular, plural
VERBS = (["is", "was", "has"], ["are", "were", "have"])
VOCABULARY = [
    *SPECIAL,
    "the",
    "near",
    *NOUNS[0],
    *NOUNS[1],
    *VERBS[0],
    *VERBS[1],
    "here",
    "gone",
    "seen",
    "old",
    "lost",
]
ID = {word: number for number, word in enumerate(VOCABULARY)}
MASK, FIRST_NOUN, VERB, TOKENS = ID["[MASK]"], 2, 6, 9


def new_sentences(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids [count, 9] of '[CLS] the NOUN near the NOUN VERB WORD [SEP]', and whether the first noun is plural."""

    def pick(forms: tuple[list[str], list[str]], plural: torch.Tensor) -> torch.Tensor:
        ids = torch.tensor([[ID[word] for word in form] for form in forms])  # [2, words]
        return ids[plural, torch.randint(ids.size(1), (count,), generator=random)]

    plural, other = torch.randint(2, (2, count), generator=random)
    fixed = {word: torch.full((count,), ID[word]) for word in ("[CLS]", "the", "near", "[SEP]")}
    last = torch.randint(ID["here"], ID["lost"] + 1, (count,), generator=random)
    columns = [fixed["[CLS]"], fixed["the"], pick(NOUNS, plural), fixed["near"], fixed["the"], pick(NOUNS, other)]
    return torch.stack([*columns, pick(VERBS, plural), last, fixed["[SEP]"]], dim=1), plural.bool()


def new_network(seed: int) -> BertForMaskedLM:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = BertConfig(len(VOCABULARY), 32, 1, 2, 64, max_tokens=16, dropout=0.0)  # dim 32, 1 layer, 2 heads
        network = BertForMaskedLM(Bert(config, pooler=False))
    with torch.no_grad():  # BERT's standard deviation of 0.02 is made for a width of 768
        for weight in network.parameters():
            weight.mul_(8.0 if weight.ndim == 2 else 1.0)
    return network


def fill(network: BertForMaskedLM, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Logits [batch, tokens, vocab_size]; `mask` [tokens, tokens] says who may look at whom."""
    features, _ = network.bert.encoder(network.bert.embeddings(ids), mask)
    return network.predict(features)


def learn(seed: int, mask: torch.Tensor | None, steps: int = 260) -> tuple[BertForMaskedLM, list[float]]:
    network, random, losses = new_network(seed), torch.Generator().manual_seed(seed), []
    optimizer, schedule = torch.optim.AdamW(network.parameters(), lr=6e-3), linear(warmup=0.1)
    for step in range(steps):
        set_learning_rate(optimizer, schedule(step / steps))
        ids, _ = new_sentences(64, random)
        given, wanted = mask_tokens(
            ids, ids > ID["near"], mask_token_id=MASK, vocab_size=len(VOCABULARY), generator=random, probability=0.3
        )
        loss = F.cross_entropy(fill(network, given, mask).transpose(1, 2), wanted, ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network.eval(), losses


@torch.no_grad()
def right_number(network: BertForMaskedLM, place: int, mask: torch.Tensor | None) -> float:
    """Share of 500 new sentences in which the word hidden at `place` is given the right number."""
    ids, plural = new_sentences(500, torch.Generator().manual_seed(99))
    forms = NOUNS if place == FIRST_NOUN else VERBS
    ids[:, place] = MASK
    p = fill(network, ids, mask)[:, place].softmax(dim=1)
    singular_p, plural_p = (p[:, [ID[word] for word in form]].sum(dim=1) for form in forms)
    return ((plural_p > singular_p) == plural).double().mean().item()


SEEDS = (0, 1, 2)
LOOKS = {"both sides": None, "left only": causal_mask(TOKENS)}
networks = {(look, seed): learn(seed, mask) for look, mask in LOOKS.items() for seed in SEEDS}
numbers = {
    (look, place, seed): right_number(networks[look, seed][0], place, mask)
    for look, mask in LOOKS.items()
    for place in (FIRST_NOUN, VERB)
    for seed in SEEDS
}
settle("left only", sum(numbers["left only", FIRST_NOUN, seed] for seed in SEEDS) / len(SEEDS))
table(
    ["looks to", "hidden word", *(f"right number, seed {seed}" for seed in SEEDS)],
    [
        (look, {FIRST_NOUN: "noun", VERB: "verb"}[place], *(numbers[look, place, seed] for seed in SEEDS))
        for look in LOOKS
        for place in (FIRST_NOUN, VERB)
    ],
)

# %% [markdown] lang="en"
# Both learn the verb, whose noun stands to the left. For the noun, the network that looks left can only guess: half of
# the sentences. The other reads it off the verb. Nothing else differs between the two.

# %% [markdown] lang="zh"
# 动词的依据（名词）在左边，所以两个网络都学会了动词。对名词，只看左边的网络只能猜，对一半；另一个网络从动词就看出来了。
# 两者之间没有别的差别。

# %% [markdown]
# ## Experiment: a pretrained BERT · 实验：预训练好的 BERT

# %% [markdown] lang="en"
# The published BERTs differ in size only. We build three of them without memory for their weights and count. Then, if
# it is on this machine, we load all-MiniLM-L6-v2: a BERT of 6 layers, taught by a larger one, then trained further so
# that the mean of a sentence's tokens says what it means. Where it is missing the lesson goes on with the small network
# and says so.

# %% [markdown] lang="zh"
# 公开的各种 BERT 只是大小不同。我们先在不占内存的情况下搭出其中三个，数一数参数。
# 然后，如果本机有 all-MiniLM-L6-v2，就加载它：这是一个 6 层的 BERT，由更大的模型教出来，
# 再继续训练，使一句话各 token 的平均能代表它的意思。如果没有，本课会说明，并用上面的小网络继续。

# %%
CONFIGS = {
    "all-MiniLM-L6-v2": BertConfig(30_522, 384, 6, 12, 1536),
    "BERT-base": BertConfig(30_522),
    "BERT-large": BertConfig(30_522, 1024, 24, 16, 4096),
}
sizes = {}
for name, config in CONFIGS.items():
    with torch.device("meta"):  # shapes without contents
        built = Bert(config)
    parts = (built, built.embeddings, built.encoder)
    sizes[name] = [sum(p.numel() for p in part.parameters()) for part in parts]
settle("embeddings", sizes["all-MiniLM-L6-v2"][1] / sizes["all-MiniLM-L6-v2"][0])
table(
    ["model", "parameters", "embeddings", "encoder", "share of the embeddings"],
    [(name, *counted, counted[1] / counted[0]) for name, counted in sizes.items()],
)

TRIPLES = (  # a sentence, another with the same meaning, and one that shares more of its words
    ("How do I reset my password?", "I forgot my login and need a new one.", "How do I wash my car?"),
    ("The head of the company spoke.", "The firm's chief gave a talk.", "The head of the horse moved."),
    ("The film was a waste of time.", "I regret watching this movie.", "The trip was a matter of time."),
    ("A man plays the guitar.", "Someone is making music.", "A man plays the fool."),
    ("He broke the record.", "No one had ever been faster.", "He broke the window."),
)
folder = asset("all-minilm-l6-v2")
pretrained = tokenizer = None
similarity: dict[str, list[tuple[float, float]]] = {}
if folder is not None:
    pretrained, tokenizer = load_pretrained(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()  # to the longest sentence; the file asks for 128
    encoded = tokenizer.encode_batch([sentence for triple in TRIPLES for sentence in triple])
    ids = torch.tensor([each.ids for each in encoded])  # [15, tokens]
    real = torch.tensor([each.attention_mask for each in encoded])
    print(f"  {TRIPLES[0][1]} → {' '.join(token for token in encoded[1].tokens if token != '[PAD]')}")
    with torch.no_grad():
        stages = {"word embeddings": pretrained.embeddings.word(ids), "after 6 layers": pretrained(ids, real)}
    for stage, features in stages.items():
        vectors = F.normalize(mean_pool(features, real), dim=1).view(len(TRIPLES), 3, -1)
        cosines = torch.einsum("td,tsd->ts", vectors[:, 0], vectors[:, 1:])  # [5, 2]
        similarity[stage] = [(same, shared) for same, shared in cosines.tolist()]
    table(
        ["sentence", "stage", "same meaning", "shared words"],
        [
            (TRIPLES[n][0], stage, *pair)
            for n in range(len(TRIPLES))
            for stage, rows in similarity.items()
            for pair in rows[n : n + 1]
        ],
    )

# %% [markdown] lang="en"
# Averaged word embeddings see shared words and little else. After six layers the same meaning is closer in the first
# four triples, although the sentences share hardly a word: each token's features have taken in what stands around it.
# The fifth shows the limit: that a broken record means speed has to be known, and `he broke` still wins.

# %% [markdown] lang="zh"
# 词嵌入的平均只看得到相同的词。经过六层之后，前四组里意思相同的句子反而更接近，尽管它们几乎没有共同的词：
# 每个 token 的特征都吸收了周围的内容。第五组说明了局限：要知道“打破纪录”指的是速度，而 `he broke` 仍然占了上风。

# %% [markdown]
# ## Experiment: what the layers attend to · 实验：各层在看什么

# %% [markdown] lang="en"
# For each layer, we sum the attention that a token gives to itself, to its two neighbours, to `[CLS]`, to `[SEP]` and to
# all others, averaged over tokens, heads and sentences. In BERT-base more than half of the attention in the middle layers
# goes to `[SEP]` (Clark et al. 2019), in all-MiniLM-L6-v2 about half goes to `[CLS]`, from the second layer on. The
# weights of a head must sum to one, and a head that finds nothing to look for parks them at a token that is always there.

# %% [markdown] lang="zh"
# 对每一层，分别统计一个 token 给自己、左右相邻两个、`[CLS]`、`[SEP]` 和其余 token 的注意力，再对 token、头和句子取平均。
# BERT-base 的中间几层有一半以上的注意力落在 `[SEP]` 上（Clark 等 2019）；all-MiniLM-L6-v2 从第二层起约有一半落在 `[CLS]` 上。
# 一个头的权重之和必须为 1，找不到要看的内容时，就把权重放在一个总是存在的 token 上。

# %%
TARGETS = ("itself", "neighbours", "[CLS]", "[SEP]", "others", "padding")


def attention_targets(bert: Bert, ids: torch.Tensor, mask: torch.Tensor, sep: int) -> torch.Tensor:
    """Share of the attention that goes to each of TARGETS, [layers, 6]."""
    with torch.no_grad():
        _, weights = bert.encoder(bert.embeddings(ids), mask.bool()[:, None, None], need_weights=True)
    weights = weights.mean(dim=2)  # [batch, layers, queries, keys]: the mean of the heads
    places = torch.arange(ids.size(1))
    distance = (places[:, None] - places).abs().expand(len(ids), -1, -1)  # [batch, queries, keys]
    kind = torch.full_like(distance, TARGETS.index("others"))
    kind[distance == 1], kind[distance == 0] = TARGETS.index("neighbours"), TARGETS.index("itself")
    for name, at in (("[CLS]", places == 0), ("[SEP]", ids == sep), ("padding", mask == 0)):
        at = at.expand(len(ids), -1)[:, None, :].expand_as(kind)
        kind[at & (distance > 0) if name != "padding" else at] = TARGETS.index(name)
    asks = mask.bool()[:, None, :, None]  # padding's own questions do not count
    count = mask.sum()
    return torch.stack([(weights * (asks & (kind == k)[:, None])).sum((0, 2, 3)) / count for k in range(6)], dim=1)


small = networks["both sides", 0][0]
given, _ = new_sentences(200, torch.Generator().manual_seed(5))
given[:, FIRST_NOUN] = MASK
if pretrained is not None:
    shown, shares = "all-MiniLM-L6-v2, 15 sentences", attention_targets(pretrained, ids, real, 102)
else:
    shown, shares = "the small network", attention_targets(small.bert, given, torch.ones_like(given), ID["[SEP]"])
table(["layer", *TARGETS], [(layer + 1, *row) for layer, row in enumerate(shares.tolist())])

with torch.no_grad():
    _, weights = small.bert.encoder(small.bert.embeddings(given), need_weights=True)
from_gap = weights[:, 0, :, FIRST_NOUN].mean(dim=0)  # [heads, keys]: what the hidden noun attends to

figure, axes = plt.subplots(1, 3, figsize=(13.5, 3.8))
for look, style in (("both sides", "-"), ("left only", "--")):
    axes[0].plot(networks[look, 0][1], style, linewidth=1, label=look)
axes[0].set(xlabel="step", ylabel="loss of the hidden words", title="Filling gaps")
axes[0].legend()
axes[1].imshow(from_gap, cmap="Greys", vmin=0, vmax=1, aspect="auto")
names = ["[CLS]", "the", "[MASK]", "near", "the", "noun", "verb", "word", "[SEP]"]
axes[1].set_xticks(range(TOKENS), names, rotation=60)
axes[1].set(yticks=(0, 1), ylabel="head", title="What the hidden noun attends to")
bottom = torch.zeros(len(shares))
hatches = ("", "//", "..", "xx", "", "")
for name, part, hatch, shade in zip(TARGETS, shares.T, hatches, (0.2, 0.5, 0.7, 0.85, 0.95, 1.0), strict=True):
    if name != "padding":
        layers = range(1, len(shares) + 1)
        axes[2].bar(
            layers, part, bottom=bottom, label=name, color=str(shade), hatch=hatch, edgecolor="black", linewidth=0.4
        )
        bottom += part
axes[2].set(
    xlabel="layer", ylabel="share of the attention", title=f"Attention: {shown}", xticks=range(1, len(shares) + 1)
)
axes[2].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
figure.tight_layout()
show(figure, "bert")

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# transformers' `BertForMaskedLM` with random weights, in float64, copied into ours name by name: logits and all
# gradients must agree, with padding and two segments. Then, where the pretrained weights are at hand, transformers'
# `BertModel` reads the same files. WordPiece is compared with the library `tokenizers`.

# %% [markdown] lang="zh"
# 把 transformers 的 `BertForMaskedLM` 的随机权重（float64）按名字逐个装进我们的模型：
# 在有填充、有两段文本的情况下，logits 和所有梯度都必须一致。如果本机有预训练权重，再让 transformers 的 `BertModel` 读同样的文件来比较。
# WordPiece 则与 `tokenizers` 库比较。

# %%
SMALL = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
theirs = transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, max_position_embeddings=20)).double().eval()
with torch.no_grad():
    for weight in theirs.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
ours = BertForMaskedLM(Bert(BertConfig(40, 24, 2, 4, 48, max_tokens=20), pooler=False)).double().eval()
load_transformers_weights(ours, theirs.state_dict())
batch, batch_mask = torch.randint(1, 40, (3, 11)), torch.ones(3, 11, dtype=torch.long)
batch_mask[1, 7:], batch_mask[2, 3:] = 0, 0
segments = (torch.arange(11) >= 5).long().expand(3, -1)
our_logits = ours(batch, batch_mask, segments)
their_logits = theirs(batch, attention_mask=batch_mask, token_type_ids=segments).logits
for logits in (our_logits, their_logits):
    logits.square().mean().backward()
their_gradients = {translate_name(name.removeprefix("bert.")): p.grad for name, p in theirs.named_parameters()}
our_gradient, their_gradient = (
    torch.cat([gradient.flatten() for gradient in gradients])
    for gradients in (
        [p.grad for p in ours.parameters()],
        [their_gradients[name.removeprefix("bert.")] for name, _ in ours.named_parameters()],
    )
)
print(f"  random weights: largest difference of the logits {(our_logits - their_logits).abs().max().item():.1e}")
if pretrained is not None:
    reference = transformers.BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        ours_here, theirs_here = pretrained(ids, real), reference(ids, attention_mask=real).last_hidden_state
    print(f"  all-MiniLM-L6-v2: largest difference of the features {(ours_here - theirs_here).abs().max().item():.1e}")

vocabulary = {piece: number for number, piece in enumerate(["[UNK]", *pieces])}
library = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))

# %% [markdown]
# ## Checks · 检验

# %%
check(
    "by hand: un ##aff ##able, and an unknown word",
    split["unaffable"] == ["un", "##aff", "##able"] and split["unplay"] == ["[UNK]"],
)
check(
    "the library's WordPiece splits the same way",
    all(library.encode(word).tokens == parts for word, parts in split.items()),
)
check_close("by hand: the normalized sum is (1, −1)", by_hand, [1.0, -1.0])
check(
    "about 15 % of the tokens are chosen, most of them masked",
    110 < chosen.sum() < 190 and counts["[MASK]"] > 0.7 * chosen.sum(),
)
check_close("our masked language model gives transformers' logits", our_logits, their_logits, 1e-10)
check_close("and its gradients", our_gradient, their_gradient, 1e-9)
check_close(
    "BERT-base has 109.5 million parameters, BERT-large 335.1",
    [sizes["BERT-base"][0] / 1e6, sizes["BERT-large"][0] / 1e6],
    [109.48, 335.14],
    1e-3,
)
check(
    "who looks to both sides finds the noun's number, with every seed",
    min(numbers["both sides", FIRST_NOUN, s] for s in SEEDS) > 0.95,
)
check("who looks only left does not, with any seed", max(numbers["left only", FIRST_NOUN, s] for s in SEEDS) < 0.6)
check(
    "the verb's number both find, with every seed", min(numbers[look, VERB, s] for look in LOOKS for s in SEEDS) > 0.95
)
check_close(
    "the shares of the attention sum to one, and padding gets none",
    [*shares.sum(dim=1), shares[:, -1].max()],
    [1.0] * len(shares) + [0.0],
)
if pretrained is not None:
    check(
        "with the published weights, our features are transformers' to 1e-5",
        (ours_here - theirs_here).abs().max() < 1e-5,
    )
    check(
        "word embeddings prefer shared words in every triple",
        all(shared > same for same, shared in similarity["word embeddings"]),
    )
    check(
        "after six layers the same meaning is closer in four triples of five",
        sum(same > shared for same, shared in similarity["after 6 layers"]) == 4,
    )
    check("from the second layer on more than 0.4 of the attention goes to [CLS]", shares[1:, 2].min() > 0.4)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# The capstone `sentiment-bert` trains this very encoder on film reviews: `uv run --package sentiment-bert train`. The
# weights that this lesson loads come with `uv run data fetch all-minilm-l6-v2`. Search by meaning, clustering and the
# retrieval part of chat systems use sentence vectors such as $\bar h$.
#
# Papers: [Devlin et al. 2019](https://arxiv.org/abs/1810.04805), BERT; [Wu et al.
# 2016](https://arxiv.org/abs/1609.08144), WordPiece; [Liu et al. 2019](https://arxiv.org/abs/1907.11692), which of it
# matters; [Reimers & Gurevych 2019](https://arxiv.org/abs/1908.10084), sentence vectors; [Clark et al.
# 2019](https://arxiv.org/abs/1906.04341), its attention. Next: fine-tuning it, 07/08.

# %% [markdown] lang="zh"
# 实战项目 `sentiment-bert` 就用这个编码器在影评上训练：`uv run --package sentiment-bert train`。
# 本课加载的权重可用 `uv run data fetch all-minilm-l6-v2` 获得。
# 按意思搜索、聚类以及对话系统的检索部分，用的都是 $\bar h$ 这样的句向量。
#
# 论文：[Devlin 等 2019](https://arxiv.org/abs/1810.04805)，BERT；[Wu 等 2016](https://arxiv.org/abs/1609.08144)，WordPiece；
# [Liu 等 2019](https://arxiv.org/abs/1907.11692)，其中哪些部分真正重要；
# [Reimers 与 Gurevych 2019](https://arxiv.org/abs/1908.10084)，句向量；
# [Clark 等 2019](https://arxiv.org/abs/1906.04341)，它的注意力。下一课：微调 BERT，07/08。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `mean_pool`, `BertEmbeddings.add_context` and `mask_tokens` yourself. `uv run lesson exercise 07/07` makes a file
# with their signatures, `uv run lesson check 07/07` judges values, gradients and shares.

# %% [markdown] lang="zh"
# 自己实现 `mean_pool`、`BertEmbeddings.add_context` 和 `mask_tokens`。`uv run lesson exercise 07/07` 生成带有签名的文件，
# `uv run lesson check 07/07` 检查数值、梯度和各种比例。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. In `mean_pool` give the mask a third axis, multiply, sum over the tokens, and divide by the number of real tokens,
#    not by the length of the batch.
# 2. In `add_context` the positions are `torch.arange(tokens)`. Without segment ids every token gets the vector of
#    segment 0; its shape `[dim]` is broadcast. Order: sum, then `self.norm`, then `self.dropout`.
# 3. In `mask_tokens` draw `torch.rand(input_ids.shape, generator=generator)` twice: once for choosing, once for what
#    happens. A single draw would do too, if you divide its range well.
# 4. `torch.where(condition, a, b)` takes `a` where the condition holds. The labels are the old ids where a token is
#    chosen, also where it stays unchanged; change nothing in place.

# %% [markdown] lang="zh"
# 1. `mean_pool`：给掩码加第三个轴，相乘，沿 token 求和，再除以真实 token 的个数，而不是批次的长度。
# 2. `add_context`：位置是 `torch.arange(tokens)`。没有给段编号时，每个 token 都加第 0 段的向量，它的形状 `[dim]` 会广播。
#    顺序：先求和，再 `self.norm`，最后 `self.dropout`。
# 3. `mask_tokens`：调用两次 `torch.rand(input_ids.shape, generator=generator)`，一次决定选谁，一次决定怎样处理。
#    只抽一次、把区间分好也可以。
# 4. `torch.where(condition, a, b)` 在条件成立处取 `a`。被选中的位置（包括保持原样的）标签都是原来的编号；不要原地修改。


# %%
@exercise(mean_pool, BertEmbeddings.add_context, mask_tokens)
def judge(yours, reference):
    random = torch.Generator().manual_seed(11)

    def drawn(*shape):
        return torch.randn(shape, generator=random, dtype=torch.float64)

    def both(compute, *inputs):
        """Results of the learner's and the module's, and their gradients."""
        results = []
        for module in (yours, reference):
            leaves = [value.clone().requires_grad_() for value in inputs]
            result = compute(module, *leaves)
            gradients = torch.autograd.grad((result * result.detach().cos()).sum(), leaves, allow_unused=True)
            results.append((result.detach(), gradients))
        return results

    features, mask = drawn(3, 5, 4), torch.tensor([[1] * 5, [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    mine, expected = both(lambda module, x: module.mean_pool(x, mask), features)
    check("mean_pool gives one vector a text, [batch, dim]", mine[0].shape == (3, 4))
    check_close("a text without padding", mine[0][0], expected[0][0], 1e-10)
    check_close("texts with padding", mine[0], expected[0], 1e-10)
    check_close("the gradient of the features", mine[1][0], expected[1][0], 1e-10)
    mine, expected = both(lambda module, x: module.mean_pool(x), features)
    check_close("mean_pool without a mask", mine[0], expected[0], 1e-10)

    config = BertConfig(vocab_size=9, dim=4, num_heads=1, max_tokens=6, dropout=0.0)
    tables = drawn(2, 4), drawn(6, 4), drawn(4), drawn(4)

    def embeddings(module, dropout=0.0):
        layer = module.BertEmbeddings(config).double().eval()
        layer.dropout.p = dropout
        return layer

    def add(segment_ids):
        def compute(module, words, segments, positions, weight, bias):
            layer = embeddings(module)
            names = ("segment.weight", "position.weight", "norm.weight", "norm.bias")
            values = dict(zip(names, (segments, positions, weight, bias), strict=True))
            call = torch.func.functional_call
            layer.forward = layer.add_context
            return call(layer, values, (words, segment_ids))

        return compute

    names = ("the words", "the segments", "the positions", "the norm's weight", "the norm's bias")
    for case, segment_ids in (
        ("without segment ids", None),
        ("with segment ids", torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [0] * 5])),
    ):
        mine, expected = both(add(segment_ids), features, *tables)
        check_close(f"add_context {case}", mine[0], expected[0], 1e-9)
        for name, *pair in zip(names, mine[1], expected[1], strict=True):
            check(f"add_context {case} depends on {name}", pair[0] is not None)
            check_close(f"add_context {case}: the gradient of {name}", *pair, 1e-9)
    try:
        embeddings(yours).add_context(drawn(1, 7, 4))
        refused = False
    except ValueError:
        refused = True
    check("more tokens than positions raise ValueError", refused)
    dropped = embeddings(yours, dropout=0.5).train().add_context(drawn(8, 6, 4))
    check(
        "dropout comes last: about half of the outputs are zero in training",
        0.25 < (dropped == 0).double().mean() < 0.75,
    )

    ids = torch.randint(5, 500, (200, 50), generator=random)
    maskable, before = torch.rand(200, 50, generator=random) < 0.8, ids.clone()
    given, labels = yours.mask_tokens(
        ids, maskable, mask_token_id=4, vocab_size=500, generator=torch.Generator().manual_seed(1)
    )
    check("mask_tokens returns ids and labels, [batch, tokens] each", given.shape == labels.shape == ids.shape)
    check("the given ids are left as they were", torch.equal(ids, before))
    chosen = labels != reference.IGNORED
    check("nothing is chosen that may not be", not (chosen & ~maskable).any())
    check("about 15 % of what may be is chosen", abs(chosen[maskable].double().mean() - 0.15) < 0.02)
    check("the labels of the chosen tokens are their ids", torch.equal(labels[chosen], ids[chosen]))
    check("what is not chosen stays as it is", torch.equal(given[~chosen], ids[~chosen]))
    masked, kept = given[chosen] == 4, given[chosen] == ids[chosen]
    check("about 80 % of the chosen are masked", abs(masked.double().mean() - 0.8) < 0.05)
    check("about 10 % of the chosen stay as they are", abs(kept.double().mean() - 0.1) < 0.04)
    others = given[chosen][~masked & ~kept]
    check("the rest are random tokens, of the whole vocabulary", len(others.unique()) > 50 and others.max() > 400)
    settings = {"mask_token_id": 4, "vocab_size": 500, "probability": 1.0}
    given, labels = yours.mask_tokens(ids, maskable, generator=torch.Generator().manual_seed(2), **settings)
    check("with probability 1 all that may be is chosen", torch.equal(labels != reference.IGNORED, maskable))
    again, _ = yours.mask_tokens(ids, maskable, generator=torch.Generator().manual_seed(2), **settings)
    check("the same generator seed gives the same tokens", torch.equal(given, again))


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why is BERT trained with masks and not to predict the next word? · BERT 为什么用掩码训练，而不是预测下一个词？

# %% [markdown] lang="en"
# In BERT every token attends to all others. If the next word had to be predicted, it would stand in the input, and the
# network would copy it. Hiding a word removes it from the input, so both sides can be used for guessing it. The price:
# only 15 % of the tokens give a training signal per pass, against all of them in a left-to-right model.

# %% [markdown] lang="zh"
# BERT 的每个 token 都能看到其他所有 token。如果要预测下一个词，它就在输入里，网络照抄即可。
# 把一个词遮住，它就不在输入中，两侧的信息都可以用来猜它。代价是每次前向只有 15 % 的 token 提供训练信号，
# 而从左到右的模型是全部。

# %%
for look in LOOKS:
    print(f"  looks to {look}: hidden noun's number right in {numbers[look, FIRST_NOUN, 0]:.0%}")

# %% [markdown]
# ### Why are only 80 % of the chosen tokens replaced by [MASK]? · 为什么选中的 token 只有 80 % 换成 [MASK]？

# %% [markdown] lang="en"
# `[MASK]` does not occur in the texts of the later task. If every chosen token were masked, the network could learn to
# compute good features at `[MASK]` only. Since a chosen token may also be a wrong or the right word, it must form an
# opinion about every place. The shares themselves matter little: later models use other ones.

# %% [markdown] lang="zh"
# 后续任务的文本里不会出现 `[MASK]`。如果选中的 token 全部换成它，网络可能只学会在 `[MASK]` 处算出好的特征。
# 由于选中的 token 也可能是错的词或原来的词，网络必须对每个位置都做判断。具体比例并不重要，后来的模型用了别的比例。

# %%
print(f"  of {int(chosen.sum())} chosen tokens: " + ", ".join(f"{count} {name}" for name, count in counts.items()))

# %% [markdown]
# ### What is [CLS] for, and when is the mean of the tokens better? · [CLS] 有什么用？什么时候取平均更好？

# %% [markdown] lang="en"
# `[CLS]` has no meaning of its own, so its place can collect what the whole text says. It does so only if a loss asks
# for it: next-sentence prediction in BERT, the classification loss in fine-tuning. Without such training its features
# are poor sentence vectors. all-MiniLM-L6-v2 was trained with the mean, so its mean is to be used.

# %% [markdown] lang="zh"
# `[CLS]` 本身没有含义，所以它的位置可以汇总整段文本。但只有损失要求它这样做时才会如此：
# BERT 里是下一句预测，微调时是分类损失。没有这样的训练，它的特征并不是好的句向量。
# all-MiniLM-L6-v2 是用平均训练的，所以应当取平均。

# %%
if pretrained is None:
    print("  needs all-minilm-l6-v2")
else:
    first = F.normalize(stages["after 6 layers"][:, 0], dim=1).view(len(TRIPLES), 3, -1)
    by_first = torch.einsum("td,tsd->ts", first[:, 0], first[:, 1:])
    gaps = {
        "mean": [same - shared for same, shared in similarity["after 6 layers"]],
        "[CLS]": (by_first[:, 0] - by_first[:, 1]).tolist(),
    }
    table(
        ["vector", "how much closer the same meaning is than the shared words, each triple"],
        [(name, " ".join(f"{gap:+.2f}" for gap in each)) for name, each in gaps.items()],
    )

# %% [markdown]
# ### What happens if the attention mask is forgotten? · 忘了注意力掩码会怎样？

# %% [markdown] lang="en"
# Nothing crashes. The tokens attend to the padding as if it were text, so the features of a sentence depend on how long
# the longest sentence in its batch happens to be: results change with the batch size. With the mask, a sentence has the
# same features alone and in a batch.

# %% [markdown] lang="zh"
# 程序不会报错。token 会把填充当作文本来关注，于是一句话的特征取决于同批最长的句子有多长：批大小一变，结果就变。
# 加上掩码，一句话单独算和放在批次里算，特征相同。

# %%
with torch.no_grad():
    alone = ours.bert(batch[2:, :3])
    for name, given_mask in (("with the mask", batch_mask), ("without", None)):
        print(
            f"  {name}: difference between alone and padded {(ours.bert(batch, given_mask)[2:, :3] - alone).abs().max().item():.1e}"
        )

# %% [markdown]
# ### BERT or GPT: what decides? · 用 BERT 还是 GPT，由什么决定？

# %% [markdown] lang="en"
# Whether a text is to be understood or written. For classes, names, similarity or search the whole text is there, and an
# encoder reads it in one pass with both sides in view: a small one is cheap and often as good. To write, the next word
# must be predicted from the left, and past keys and values can be cached: a decoder. BERT cannot write well, since it
# never learned to continue a text.

# %% [markdown] lang="zh"
# 看任务是理解文本还是生成文本。分类、找名字、比相似度、搜索时，整段文本都在，编码器一次前向就能从两侧读完：
# 小模型便宜，效果往往不差。要生成，就得根据左边预测下一个词，过去的键和值可以缓存：用解码器。
# BERT 没有学过续写，写不好文本。

# %%
for look, mask in LOOKS.items():
    links = TOKENS * TOKENS if mask is None else int(mask.sum())
    print(f"  looks to {look}: {links} of {TOKENS * TOKENS} pairs of tokens may attend")

# %% [markdown]
# ### Why can BERT read only 512 tokens, and what do you do with longer texts? · BERT 为什么只能读 512 个 token？更长的文本怎么办？

# %% [markdown] lang="en"
# Its positions are a table with 512 learned rows; there is no row 513. And attention compares all pairs, so twice the
# length costs four times as much in that part. Cut off the end where the beginning says enough, or cut the text into
# overlapping windows and combine their results, or take a model with rotary positions that was trained on longer texts.

# %% [markdown] lang="zh"
# 它的位置嵌入是一张 512 行的表，没有第 513 行。而且注意力要比较所有的 token 对，长度加倍，这部分的计算量变为四倍。
# 开头已经够用时截断；否则切成有重叠的窗口再合并结果；或者换用旋转位置编码、在更长文本上训练过的模型。

# %%
try:
    ours(torch.ones(1, 21, dtype=torch.long))
except ValueError as error:
    print(f"  {error}")

# %% [markdown]
# ### What does WordPiece do with a word that it has never seen? · WordPiece 遇到没见过的词怎么办？

# %% [markdown] lang="en"
# It puts it together from pieces: rare words become several tokens, so that the vocabulary stays at 30,000 and hardly
# any word is unknown, since the single letters are pieces too. Only a word with a character that is not in the
# vocabulary becomes `[UNK]` as a whole. Always use the tokenizer that came with the weights: with another one the ids
# mean other words.

# %% [markdown] lang="zh"
# 用片段拼起来：少见的词变成几个 token，词表保持在三万左右，而且单个字母也是片段，几乎没有未知的词。
# 只有含词表之外字符的词，才会整个变成 `[UNK]`。一定要用与权重配套的分词器：换一个分词器，编号就对应别的词了。

# %%
letters = {*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")}
for word in ("unaffable", "unplay", "naïve"):
    print(f"  {word}: {' '.join(wordpiece(word, {*pieces, *letters}))}")
