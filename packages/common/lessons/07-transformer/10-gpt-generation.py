# %% [markdown]
# # Generating text · 文本生成

# %% [markdown] lang="en"
# After this lesson you can write text with a language model in eight ways, say for each what it keeps and what it throws
# away, explain why the most probable text is a bad text, and compute what a cache saves. You need the GPT (07/09), the
# softmax with temperature (02/07), and beam search's purpose from translation (06/07).

# %% [markdown] lang="zh"
# 学完本课，你能用八种方式让语言模型写作，说清每种方式保留什么、丢掉什么，
# 解释为什么概率最高的文本反而是坏文本，并算出缓存省了多少。
# 先修：GPT（07/09）、带温度的 softmax（02/07），以及翻译中为什么用束搜索（06/07）。

# %%
import math
import re
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from dlcommon.course.lesson import check, check_close, data, exercise, quiz, settle, show, source, table
from dlcommon.course.schematic import Schematic
from dlcommon.transformer.beam_search import beam_search
from dlcommon.transformer.contrastive_search import contrastive_search
from dlcommon.transformer.gpt import GPT, GPTConfig
from dlcommon.transformer.gpt2 import GPT2, GPT2_SIZES, GPT2Config
from dlcommon.transformer.kv_cache import KVCache
from dlcommon.transformer.sampling import Sampling
from torch.nn import functional as F

# %% [markdown]
# ## Problem · 问题

# %% [markdown] lang="en"
# A language model gives no text. It gives, for each text so far, a probability for every next token, and somebody has to
# choose. Always the most probable one? Or by lot, each with its probability? Both seem right, and both fail: the first
# goes round in circles, the second stumbles sooner or later over one of the thousands of tokens that are improbable each
# by itself, but not together.
#
# Everything between the two is a decoding strategy. None of them changes the model. They differ in a few lines, and in
# what comes out.

# %% [markdown] lang="zh"
# 语言模型给出的不是文本，而是在已有文本之后每个词元的概率，总得有人来选。
# 每次都选概率最高的？还是按概率抽签？两种看起来都对，却都会失败：前者原地打转；
# 后者迟早会栽在某个词元上，成千上万个不太可能的词元单个看概率很小，合起来却不小。
#
# 两者之间的一切做法都叫解码策略。它们都不改变模型，只差几行代码，写出来的东西却大不相同。

# %% [markdown]
# ## By hand · 手算

# %% [markdown] lang="en"
# Five tokens with the probabilities 0.40, 0.30, 0.15, 0.10 and 0.05.
#
# - Temperature 0.5 doubles the logits, so it squares the probabilities: 0.16, 0.09, 0.0225, 0.01, 0.0025, sum 0.285; the
#   first gets $0.16 / 0.285 = 0.56$.
# - Top-k with $k = 2$ keeps the first two: $0.4 / 0.7 = 0.57$ and 0.43.
# - Top-p with $p = 0.75$ goes down the list until 0.75 is reached: 0.40, 0.70, 0.85. It keeps three.
# - Min-p with $m = 0.3$ keeps what has at least 0.3 of the largest probability, $0.3 \cdot 0.40 = 0.12$: three again.
#
# Now two tokens in a row. After the start: a 0.6, b 0.4. After a: c 0.45, d 0.55. After b: c 0.9, d 0.1. Greedy search
# takes a, then d: $0.6 \cdot 0.55 = 0.33$. Beam search with two beams keeps both a and b, and finds "b c": $0.4 \cdot 0.9
# = 0.36$. What is best now need not be the beginning of what is best in the end.

# %% [markdown] lang="zh"
# 五个词元，概率为 0.40、0.30、0.15、0.10、0.05。
#
# - 温度 0.5 把 logits 加倍，也就是把概率平方：0.16、0.09、0.0225、0.01、0.0025，和为 0.285；
#   第一个变成 $0.16 / 0.285 = 0.56$。
# - top-k 取 $k = 2$，保留前两个：$0.4 / 0.7 = 0.57$ 和 0.43。
# - top-p 取 $p = 0.75$，从大到小累加直到够 0.75：0.40、0.70、0.85，保留三个。
# - min-p 取 $m = 0.3$，保留不低于最大概率 0.3 倍的，即 $0.3 \cdot 0.40 = 0.12$：也是三个。
#
# 再看连续两个词元。开头之后：a 0.6，b 0.4。a 之后：c 0.45，d 0.55。b 之后：c 0.9，d 0.1。
# 贪心搜索先取 a 再取 d：$0.6 \cdot 0.55 = 0.33$。
# 两个束的束搜索同时保留 a 和 b，找到“b c”：$0.4 \cdot 0.9 = 0.36$。眼下最好的，不一定是最终最好的开头。

# %%
FIVE = np.log([0.40, 0.30, 0.15, 0.10, 0.05])
NOTHING_SEEN = np.zeros(5, dtype=bool)
WAYS_BY_HAND = {
    "as it is": Sampling(),
    "temperature 0.5": Sampling(0.5),
    "top-k 2": Sampling(top_k=2),
    "top-p 0.75": Sampling(top_p=0.75),
    "min-p 0.3": Sampling(min_p=0.3),
}
by_hand = {name: way.probabilities(FIVE, NOTHING_SEEN) for name, way in WAYS_BY_HAND.items()}
table(["sampling", "1", "2", "3", "4", "5"], [(name, *map(float, row)) for name, row in by_hand.items()])

TOKENS = "abcd<"
FOLLOWING = {"<": {"a": 0.6, "b": 0.4}, "a": {"c": 0.45, "d": 0.55}, "b": {"c": 0.9, "d": 0.1}}


def toy_step(tokens, state):
    """A model that looks at the last token only."""
    rows = [[FOLLOWING[TOKENS[token]].get(following, 1e-30) for following in TOKENS] for token in tokens]
    return np.log(rows), state


START = np.array([TOKENS.index("<")])
paths = {beams: beam_search(toy_step, {}, START, max_length=2, num_beams=beams)[0][0] for beams in (1, 2)}
table(
    ["beams", "text", "probability"],
    [
        (beams, "".join(TOKENS[token] for token in one.tokens), math.exp(one.log_probability))
        for beams, one in paths.items()
    ],
)

drawing = Schematic(12, 3.6, "Beam search with two beams (dashed: greedy search)")
for name, x, y, text, kind in (
    ("start", 0.9, 1.8, "start", "data"),
    ("a", 4.2, 2.7, "a: 0.60", "data"),
    ("b", 4.2, 0.9, "b: 0.40", "data"),
    ("ac", 8.6, 3.1, "a c: 0.27", "operation"),
    ("ad", 8.6, 2.2, "a d: 0.33", "data"),
    ("bc", 8.6, 1.3, "b c: 0.36", "data"),
    ("bd", 8.6, 0.4, "b d: 0.04", "operation"),
):
    drawing.box(name, x, y, text, kind, 1.5)
for start, end, label, greedy in (
    ("start", "a", "0.6", True), ("start", "b", "0.4", False), ("a", "ac", "0.45", False), ("a", "ad", "0.55", True),
    ("b", "bc", "0.9", False), ("b", "bd", "0.1", False),
):  # fmt: skip
    drawing.arrow(start, end, label, dashed=greedy)
drawing.text(10.8, 1.3, "kept, and best")
drawing.text(10.8, 2.2, "kept")
show(drawing.figure, "beams")

# %% [markdown]
# ## Formula · 公式
#
# $$q_i = \frac{e^{z_i / \tau}}{\sum_j e^{z_j / \tau}}, \qquad p'_i = \frac{q_i \, [i \in K]}{\sum_{j \in K} q_j}$$
#
# $$K_k = \{i : r_i \le k\}, \qquad K_p = \{i : \textstyle\sum_{j : r_j < r_i} q_j < p\}, \qquad K_m = \{i : q_i \ge m \max_j q_j\}$$
#
# $$z_i \leftarrow \frac{\max(z_i, 0)}{\rho} + \rho \min(z_i, 0), \qquad i \in S$$
#
# $$\hat y = \arg\max_{y \in B} \frac{\log p(y)}{|y|^{\alpha}}, \qquad \log p(y) = \sum_t \log p(y_t \mid x, y_1, \dots, y_{t-1})$$
#
# $$x_t = \arg\max_{v \in K_k} \Big\{ (1 - \beta) \, p(v \mid x_1, \dots, x_{t-1}) - \beta \max_{j < t} \cos(h_v, h_{x_j}) \Big\}$$
#
# $$\text{rep-}n = 1 - \frac{|G_n(y)|}{|y| - n + 1}, \qquad \text{distinct-}n = \frac{\left|\bigcup_y G_n(y)\right|}{\sum_y (|y| - n + 1)}$$

# %% [markdown] lang="en"
# - $z_i$: the logit of token $i$, of $V$ tokens; $\tau$: the temperature. $\tau \to 0$ is greedy search, $\tau = 1$ changes
#   nothing.
# - $q$: the distribution after the temperature; $K$: the tokens that are kept, by top-k $K_k$, by top-p $K_p$, by min-p
#   $K_m$; $r_i$: the rank of token $i$ in $q$, 1 for the most probable; $[i \in K]$: 1 if it is kept,
#   else 0; $p'$: what is drawn from.
# - $k$, $p$, $m$: the thresholds of top-k (Fan et al. 2018), top-p (Holtzman et al. 2020, equations 2 and 3) and min-p
#   (Nguyen et al. 2025).
# - $\rho \ge 1$: the repetition penalty (Keskar et al. 2019, section 4.1); $S$: the tokens that have occurred.
# - $x$: the prompt; $y$: a continuation of $|y|$ tokens; $B$: those that the search has kept; $\alpha$: the length penalty.
#   With $\alpha = 0$ every further token lowers the score; $\alpha = 1$ is the mean log-probability per token. (Wu et al.
#   2016, equation 14, divide by $((5 + |y|) / 6)^\alpha$.)
# - $h_v$: the features of candidate $v$, computed by reading it, `[dim]`; $h_{x_j}$: those of token $j$ of the text so far;
#   $\beta$: how much likeness costs (Su et al. 2022, equation 5, where it is called $\alpha$).
# - $G_n(y)$: the set of the n-grams of $y$, each once; $|G_n(y)|$: how many there are. rep-n is of one text (Welleck et al.
#   2019), distinct-n of many together (Li et al. 2016).

# %% [markdown] lang="zh"
# - $z_i$：词元 $i$ 的 logit，共 $V$ 个词元；$\tau$：温度。$\tau \to 0$ 就是贪心搜索，$\tau = 1$ 不做改变。
# - $q$：加了温度之后的分布；$K$：保留的词元，top-k 为 $K_k$，top-p 为 $K_p$，min-p 为 $K_m$；
#   $r_i$：词元 $i$ 在 $q$ 中的名次，最可能的为 1；$[i \in K]$：保留为 1，否则为 0；$p'$：实际用来抽样的分布。
# - $k$、$p$、$m$：top-k（Fan 等 2018）、top-p（Holtzman 等 2020，式 2、式 3）和 min-p（Nguyen 等 2025）的阈值。
# - $\rho \ge 1$：重复惩罚（Keskar 等 2019，第 4.1 节）；$S$：已经出现过的词元。
# - $x$：提示；$y$：长度为 $|y|$ 的续写；$B$：搜索保留下来的续写；$\alpha$：长度惩罚。$\alpha = 0$ 时每多一个词元得分都会下降；
#   $\alpha = 1$ 就是每个词元的平均对数概率。（Wu 等 2016 的式 14 除以的是 $((5 + |y|) / 6)^\alpha$。）
# - $h_v$：读入候选 $v$ 之后得到的特征，`[dim]`；$h_{x_j}$：已有文本第 $j$ 个词元的特征；
#   $\beta$：相似要付出多大代价（Su 等 2022 的式 5，那里记作 $\alpha$）。
# - $G_n(y)$：$y$ 的 n-gram 的集合，相同的只算一次；$|G_n(y)|$：其中元素的个数。
#   rep-n 针对单篇文本（Welleck 等 2019），distinct-n 针对多篇合在一起（Li 等 2016）。

# %% [markdown]
# ## Code · 代码

# %%
source(Sampling.probabilities)
source(contrastive_search)

# %% [markdown] lang="en"
# `probabilities` takes logits `[vocabulary]` and returns the distribution to draw from, of the same shape. The order is
# fixed: penalty, temperature, then the filters, each of which looks at the same distribution; what any of them drops is
# dropped. In top-p, `before` is the probability of all tokens ahead in the list: a token stays if they do not reach $p$ yet, so
# the first always stays, and so does the one that crosses the line.
#
# `contrastive_search` reads all $k$ candidates as one batch of $k$ rows: the state is repeated by indexing its rows, and of
# the $k$ states after it the chosen one is kept, again by an index. So each token costs one pass, and the logits for the next
# token are there already. `beam_search`, in the module beside it, moves its beams by the same indexing; its score table is
# `[sentences, beams · vocabulary]`, and the best $2 \cdot \text{beams}$ cells of each row are the candidates.

# %% [markdown] lang="zh"
# `probabilities` 接收 logits `[vocabulary]`，返回同样形状的抽样分布。
# 顺序是固定的：先惩罚，再温度，然后各个过滤器都看同一个分布，被任何一个丢掉就丢掉了。
# 在 top-p 中，`before` 是排在前面的所有词元的概率之和：它还没达到 $p$，该词元就保留，
# 所以第一个总会保留，刚好越过界线的那个也会保留。
#
# `contrastive_search` 把 $k$ 个候选作为 $k$ 行的一个批次一起读：用索引把状态的行重复 $k$ 份，
# 读完之后再用索引留下被选中的那一份。所以每个词元只需一次前向，而且下一个词元的 logits 已经有了。
# 旁边模块里的 `beam_search` 用同样的索引移动各个束；它的得分表是 `[sentences, beams · vocabulary]`，
# 每行最好的 $2 \cdot \text{beams}$ 个格子就是候选。

# %% [markdown]
# ## Experiment: what the cache saves · 实验：缓存省了多少

# %% [markdown] lang="en"
# A GPT-2 of four blocks, untrained, since speed does not depend on what is written, continues 16 tokens by 112, greedily:
# once reading the whole text for every token, once with the cache, which reads each token once. The texts must be the same.

# %% [markdown] lang="zh"
# 一个四个块、未训练的 GPT-2（速度与写什么无关）在 16 个词元之后贪心地续写 112 个：
# 一次是每个词元都把全文重读一遍，一次是用缓存，每个词元只读一次。两次的文本必须相同。

# %%
PROMPT, WRITTEN = 16, 112
torch.manual_seed(0)
untrained = GPT2(GPT2Config(vocab_size=64, context_length=256, num_layers=4, num_heads=4, dim=128, init_std=0.1)).eval()
beginning = torch.randint(64, (1, PROMPT))


@torch.no_grad()
def written_in_full() -> tuple[list[int], int]:
    """The new tokens, and how many rows of tokens were computed."""
    text, computed = beginning, 0
    for _ in range(WRITTEN):
        computed += text.size(1)
        text = torch.cat((text, untrained(text)[:, -1:].argmax(dim=2)), dim=1)
    return text[0, PROMPT:].tolist(), computed


@torch.no_grad()
def written_with_cache() -> tuple[list[int], int]:
    """The same with the cache."""
    new, position, cache, text, computed = (
        beginning,
        torch.zeros(1, dtype=torch.long),
        untrained.initial_state(1),
        [],
        0,
    )
    for _ in range(WRITTEN):
        computed += new.size(1)
        logits, cache = untrained.step(new, position, cache)
        position, new = position + new.size(1), logits[:, -1:].argmax(dim=2)
        text.append(new.item())
    return text, computed


started = time.perf_counter()
full_text, full_rows = written_in_full()
halfway = time.perf_counter()
cached_text, cached_rows = written_with_cache()
times = {"in full": halfway - started, "with the cache": time.perf_counter() - halfway}
table(
    ["112 tokens", "token rows computed", "milliseconds"],
    [("in full", full_rows, 1e3 * times["in full"]), ("with the cache", cached_rows, 1e3 * times["with the cache"])],
)
print(f"  time in full / time with the cache: {times['in full'] / times['with the cache']:.1f}")

# %% [markdown]
# ## Experiment: what each way writes · 实验：各种方式写出什么

# %% [markdown] lang="en"
# A small GPT learns characters for a few seconds; it will know short words, not much more. Then twelve passages of new text
# are continued by 100 characters in each way, and four things are measured: the mean log-probability of what was written,
# by the model's own account; rep-4; distinct-4 over the twelve; and the share of the words of three letters and more that
# occur in the training text. The true continuations are measured as well. Three seeds.

# %% [markdown] lang="zh"
# 一个小 GPT 学几秒钟字符；它会认得一些短词，仅此而已。然后用每种方式把十二段新文本各续写 100 个字符，
# 测量四项：按模型自己的说法，所写内容的平均对数概率；rep-4；十二段合在一起的 distinct-4；
# 以及写出的三个字母以上的单词有多少在训练文本中出现过。真实的后文也同样测量。三个种子。

# %%
quiz(
    "likelihood",
    en="Which text does the model itself find most probable, per character?",
    zh="按每个字符计，模型自己认为哪种文本概率最高？",
    choices={
        "real": "the true continuation · 真实的后文",
        "drawn": "what is drawn from its own distribution · 从它自己的分布中抽出的文本",
        "greedy": "what greedy search writes · 贪心搜索写出的文本",
    },
)
quiz(
    "distinct",
    en="Of the 4-grams in twelve greedy texts of 100 characters, which share is different ones (0 to 1)?",
    zh="十二段各 100 个字符的贪心文本里，互不相同的 4-gram 占多大比例（0 到 1）？",
)

# %%
SEEDS, WINDOW, STEPS, PROMPT_LENGTH, LENGTH, TEXTS = (0, 1, 2), 64, 170, 16, 100, 12
corpus = data("tinyshakespeare", "python-manual")
alphabet = sorted(set(corpus.train + corpus.test))
number_of = {character: number for number, character in enumerate(alphabet)}
train_tokens, test_tokens = (
    np.array([number_of[character] for character in text]) for text in (corpus.train, corpus.test)
)
known_words = set(re.findall(r"[A-Za-z]+", corpus.train))
begins = 200 + 1500 * np.arange(TEXTS)
prompts = test_tokens[begins[:, None] + np.arange(PROMPT_LENGTH)]  # [texts, 16]
real = test_tokens[begins[:, None] + PROMPT_LENGTH + np.arange(LENGTH)]  # [texts, 100]


def learn(seed: int) -> GPT:
    torch.manual_seed(seed)
    model, draws = GPT(GPTConfig(len(alphabet), WINDOW, num_layers=1, num_heads=4, dim=80)), np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / STEPS))
    for _ in range(STEPS):
        starts = draws.integers(len(train_tokens) - WINDOW, size=8)
        windows = torch.from_numpy(train_tokens[starts[:, None] + np.arange(WINDOW + 1)])  # [8, 65]
        loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def read(model: GPT, tokens: np.ndarray, state=None):
    """Reads tokens [rows, new]; returns logits and features of each, and the state as arrays with the rows first."""
    if state is None:
        empty = model.initial_state(len(tokens))
        state = {
            "keys": empty.keys.numpy(),
            "values": empty.values.numpy(),
            "position": np.zeros(len(tokens), np.int64),
        }
    cache = KVCache(torch.from_numpy(state["keys"]), torch.from_numpy(state["values"]))
    features, cache = model.features(torch.from_numpy(tokens), torch.from_numpy(state["position"]), cache)
    after = {
        "keys": cache.keys.numpy(),
        "values": cache.values.numpy(),
        "position": state["position"] + tokens.shape[1],
    }
    return model.lm_head(features).numpy(), features.numpy(), after


def draw(model: GPT, sampling: Sampling, seed: int) -> np.ndarray:
    """Continues all prompts, token by token: [texts, 100]."""
    random, written = np.random.default_rng(seed), []
    seen = np.zeros((TEXTS, len(alphabet)), dtype=bool)
    new, state = prompts, None
    for _ in range(LENGTH):
        np.put_along_axis(seen, new, True, axis=1)
        logits, _, state = read(model, new, state)
        distributions = [sampling.probabilities(*row) for row in zip(logits[:, -1], seen, strict=True)]
        new = np.array([[random.choice(len(alphabet), p=distribution)] for distribution in distributions])  # [texts, 1]
        written.append(new)
    return np.concatenate(written, axis=1)


def search(model: GPT, num_beams: int) -> np.ndarray:
    """The best of the beams for each prompt; no token ends a text here."""
    _, _, state = read(model, prompts[:, :-1])

    def step(tokens, state):
        logits, _, state = read(model, tokens[:, None], state)
        return logits[:, -1], state

    best = beam_search(step, state, prompts[:, -1], max_length=LENGTH, num_beams=num_beams)
    return np.stack([hypotheses[0].tokens for hypotheses in best])


def contrast(model: GPT, alpha: float) -> np.ndarray:
    """Contrastive search among the four most probable tokens, one text after the other."""

    def step(tokens, state):
        logits, features, state = read(model, tokens[:, None], state)
        return logits[:, -1], features[:, -1], state

    texts = []
    for prompt in prompts:
        logits, features, state = read(model, prompt[None])
        texts.append(contrastive_search(step, state, logits[0, -1], features[0], num_tokens=LENGTH, k=4, alpha=alpha))
    return np.stack(texts)


def text_of(tokens: np.ndarray) -> str:
    return "".join(alphabet[token] for token in tokens)


def four_grams(tokens: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(tokens[i : i + 4].tolist()) for i in range(len(tokens) - 3)]


@torch.no_grad()
def measured(model: GPT, texts: np.ndarray) -> tuple[float, float, float, float]:
    """Mean log-probability of a character, rep-4, distinct-4, share of known words."""
    whole = torch.from_numpy(np.concatenate((prompts, texts), axis=1))
    logits = model(whole[:, :-1])[:, PROMPT_LENGTH - 1 :]  # [texts, 100, vocabulary]
    likelihood = -F.cross_entropy(logits.flatten(0, 1), whole[:, PROMPT_LENGTH:].flatten()).item()
    grams = [four_grams(text) for text in texts]
    repeated = float(np.mean([1 - len(set(each)) / len(each) for each in grams]))
    together = [gram for each in grams for gram in each]
    # The first and the last word may be cut; of one and two letters nearly every combination occurs somewhere.
    words = [word for text in texts for word in re.findall(r"[A-Za-z]+", text_of(text))[1:-1] if len(word) > 2]
    right = sum(word in known_words for word in words) / len(words)
    return likelihood, repeated, len(set(together)) / len(together), right


WAYS = {
    "real text": lambda model, seed: real,
    "greedy": lambda model, seed: draw(model, Sampling(0), seed),
    "beam 4": lambda model, seed: search(model, 4),
    "greedy, penalty 1.3": lambda model, seed: draw(model, Sampling(0, repetition_penalty=1.3), seed),
    "contrastive": lambda model, seed: contrast(model, 0.6),
    "sampling": lambda model, seed: draw(model, Sampling(), seed),
    "temperature 0.7": lambda model, seed: draw(model, Sampling(0.7), seed),
    "top-k 5": lambda model, seed: draw(model, Sampling(top_k=5), seed),
    "top-p 0.9": lambda model, seed: draw(model, Sampling(top_p=0.9), seed),
    "min-p 0.1": lambda model, seed: draw(model, Sampling(min_p=0.1), seed),
}
models = {seed: learn(seed) for seed in SEEDS}
texts = {(name, seed): way(models[seed], seed) for name, way in WAYS.items() for seed in SEEDS}
scores = {name: np.array([measured(models[seed], texts[name, seed]) for seed in SEEDS]) for name in WAYS}  # [seeds, 4]
likelihood, repetition, distinct, known = ({name: found[:, i] for name, found in scores.items()} for i in range(4))


def each_seed(values: np.ndarray) -> str:
    return "  ".join(f"{value:.2f}" for value in values)


table(
    ["way", "log-probability, each seed", "rep-4", "distinct-4", "known words"],
    [(name, *(each_seed(found[name]) for found in (likelihood, repetition, distinct, known))) for name in WAYS],
)
candidates = {"real": "real text", "drawn": "sampling", "greedy": "greedy"}
settle("likelihood", max(candidates, key=lambda key: likelihood[candidates[key]].mean()))
settle("distinct", float(distinct["greedy"].mean()), tolerance=0.05)
for name in WAYS:
    print(f"  {name + ':':21}{text_of(texts[name, 0][0])[:66]!r}")

# %% [markdown] lang="en"
# The most probable text is a circle. Greedy search finds a loop and never leaves it, since each round makes the next one
# more probable; beam search, which looks ahead, ends in loops all the same. The model finds real text far less probable than that: real
# text keeps saying what could not be foreseen. Drawing from the distribution as it is gives texts about as probable as the
# real ones, and as varied, but this small model's tail is full of errors, and few of its words are words.
#
# The repetition penalty does not help here: after a few lines every letter has occurred, so all are punished alike. It is made
# for large vocabularies. Contrastive search, which is deterministic too, repeats less than greedy search, but on a model of
# this size still far more than real text. (The paper's models are a thousand times as large.)

# %% [markdown] lang="zh"
# 概率最高的文本是个圆圈。贪心搜索走进循环就再也出不来，因为每转一圈，下一圈的概率都更高；
# 束搜索看得更远，结果同样陷在循环里。模型认为真实文本的概率远低于此：真实的文字总在说无法预料的东西。
# 按原分布抽样得到的文本，概率和真实文本差不多，变化也一样多，但这个小模型的长尾里全是错误，写出的词没几个是真词。
#
# 重复惩罚在这里没有用：写了几行之后，每个字母都出现过，于是全都受到同样的惩罚。它是为大词表设计的。
# 对比搜索同样是确定性的，重复比贪心少，但在这么小的模型上仍远多于真实文本。（论文里的模型要大上千倍。）

# %% [markdown]
# ## Experiment: the dial · 实验：旋钮

# %% [markdown] lang="en"
# Temperature is a dial between the two failures. Turned from 0.2 to 1.4, with three seeds, what do variety and correct words
# do? The filters are dials as well; each way of the table above is a point in the same plane.

# %% [markdown] lang="zh"
# 温度是在两种失败之间调节的旋钮。从 0.2 调到 1.4，三个种子，多样性和真词比例怎样变化？
# 各种过滤器也是旋钮；上表中的每种方式都是同一平面上的一个点。

# %%
TEMPERATURES = (0.2, 0.5, 0.8, 1.1, 1.4)
dial = {
    temperature: np.array(
        [measured(models[seed], draw(models[seed], Sampling(temperature), seed)) for seed in SEEDS]
    )  # [seeds, 4]
    for temperature in TEMPERATURES
}
table(
    ["temperature", "log-probability", "rep-4", "distinct-4", "known words"],
    [(temperature, *map(float, found.mean(axis=0))) for temperature, found in dial.items()],
)

flat, peaked = np.full(12, 1 / 12), np.array([0.93, *[0.07 / 11] * 11])
figure, axes = plt.subplots(1, 3, figsize=(16.5, 4.6), layout="constrained")
kept = {
    name: [np.count_nonzero(way.probabilities(np.log(p), np.zeros(12, bool))) for p in (peaked, flat)]
    for name, way in (
        ("top-k 4", Sampling(top_k=4)),
        ("top-p 0.9", Sampling(top_p=0.9)),
        ("min-p 0.1", Sampling(min_p=0.1)),
    )
}
for number, label in enumerate(("one token has 93 %", "all twelve alike")):
    axes[0].bar(
        np.arange(3) + 0.4 * number - 0.2, [counts[number] for counts in kept.values()], 0.38,
        color=("0.35", "0.8")[number], edgecolor="black", label=label,
    )  # fmt: skip
axes[0].set(xticks=range(3), xticklabels=kept, ylabel="tokens kept, of 12", title="What the filters keep")
for name, style in (("greedy", "-"), ("real text", "--")):
    model, tokens = models[0], np.concatenate((prompts[:1], texts[name, 0][:1]), axis=1)
    with torch.no_grad():
        chances = model(torch.from_numpy(tokens[:, :-1])).softmax(dim=2)[0]  # [115, vocabulary]
    chosen = chances[torch.arange(len(chances)), torch.from_numpy(tokens[0, 1:])][PROMPT_LENGTH - 1 :]
    axes[1].plot(chosen[:60], style, marker=".", linewidth=1.2, label=name)
axes[1].set(xlabel="character", ylabel="its probability", title="Real text is not always probable (seed 0)")
axes[2].plot(
    [found[:, 2].mean() for found in dial.values()],
    [found[:, 3].mean() for found in dial.values()],
    "k.-",
    label="temperature",
)
for temperature, found in dial.items():
    axes[2].annotate(
        f"{temperature}", (found[:, 2].mean(), found[:, 3].mean()), xytext=(4, 5), textcoords="offset points"
    )
markers = dict(zip(WAYS, "*sDvP^o<>X", strict=True))
for name in WAYS:
    if not name.startswith("temperature"):
        axes[2].plot(distinct[name].mean(), known[name].mean(), markers[name], markersize=9, label=name)
axes[2].set(xlabel="distinct-4", ylabel="known words", title="Variety against correctness (means of 3 seeds)")
for axis in axes:
    axis.legend(fontsize=8)
show(figure, "ways")

# %% [markdown] lang="en"
# The line is the bargain that a model of given quality offers: more variety, fewer correct words. A way of decoding chooses a
# point on it or near it; only a better model comes closer to the real text in the upper right. On the left you see what the
# filters react to: where one token is almost certain, top-k still lets three others in, top-p and min-p none; where all are
# alike, top-k cuts good ones off, and only min-p keeps all.

# %% [markdown] lang="zh"
# 这条线就是一个给定水平的模型所能提供的交易：变化越多，正确的词越少。
# 解码方式只是在线上或线附近选一个点；要更接近右上角的真实文本，只能靠更好的模型。
# 左图是各个过滤器的反应：当一个词元几乎确定时，top-k 仍会放进另外三个，top-p 和 min-p 一个也不放；
# 当所有词元都差不多时，top-k 会砍掉好的，只有 min-p 全部保留。

# %% [markdown]
# ## Library · 与库对照

# %% [markdown] lang="en"
# transformers calls the same things logits processors; what they forbid gets a logit of minus infinity. For random logits each
# must leave the same distribution as ours. (Combined, they differ in one point: transformers lets each filter see what the
# one before has left.) Beam search itself is compared with `generate(num_beams=…)` in the module's tests; here greedy search
# and one beam are held against the plain loop.

# %% [markdown] lang="zh"
# transformers 把这些叫做 logits processor，被禁止的词元得到负无穷的 logit。
# 对随机 logits，每一种都必须得到与我们相同的分布。（组合使用时有一点不同：transformers 的每个过滤器看到的是前一个过滤之后的结果。）
# 束搜索本身与 `generate(num_beams=…)` 的比较在模块的测试里；这里把贪心搜索和一个束与最朴素的循环对照。

# %%
from transformers.generation.logits_process import (  # noqa: E402
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

random_logits = np.random.default_rng(0).standard_normal((20, 50)) * 3
occurred = torch.randint(50, (20, 12), generator=torch.Generator().manual_seed(0))
seen = np.zeros((20, 50), dtype=bool)
np.put_along_axis(seen, occurred.numpy(), True, axis=1)
PAIRS = {
    "temperature": (Sampling(0.7), TemperatureLogitsWarper(0.7)),
    "top-k": (Sampling(top_k=7), TopKLogitsWarper(7)),
    "top-p": (Sampling(top_p=0.8), TopPLogitsWarper(0.8)),
    "min-p": (Sampling(min_p=0.05), MinPLogitsWarper(0.05)),
    "penalty": (Sampling(repetition_penalty=1.4), RepetitionPenaltyLogitsProcessor(1.4)),
}
compared = {
    name: (
        np.stack([ours.probabilities(*row) for row in zip(random_logits, seen, strict=True)]),
        theirs(occurred, torch.from_numpy(random_logits.copy())).softmax(dim=1).numpy(),
    )
    for name, (ours, theirs) in PAIRS.items()
}

model, plain_loop = models[0], torch.from_numpy(prompts)
with torch.no_grad():
    for _ in range(20):  # the whole text is read again for every token
        plain_loop = torch.cat((plain_loop, model(plain_loop)[:, -1:].argmax(dim=2)), dim=1)
plain_loop = plain_loop[:, PROMPT_LENGTH:].numpy()
one_beam = search(model, 1)[:, :20]

# %% [markdown]
# ## Checks · 检验

# %%
check_close(
    "by hand: temperature 0.5", by_hand["temperature 0.5"], np.array([0.16, 0.09, 0.0225, 0.01, 0.0025]) / 0.285
)
check(
    "by hand: top-p 0.75 and min-p 0.3 keep three",
    all(np.count_nonzero(by_hand[way]) == 3 for way in ("top-p 0.75", "min-p 0.3")),
)
check_close(
    "by hand: greedy search finds 0.33, two beams 0.36",
    [math.exp(paths[beams].log_probability) for beams in (1, 2)],
    [0.33, 0.36],
)
for name, (ours, theirs) in compared.items():
    check_close(f"{name}: the distribution is transformers'", ours, theirs, 1e-9)
check("with and without the cache the same text is written", full_text == cached_text)
check("in full, 8,008 token rows are computed, with the cache 127", (full_rows, cached_rows) == (8_008, 127))
check(
    "greedy search and one beam write what the plain loop writes",
    np.array_equal(plain_loop, texts["greedy", 0][:, :20]) and np.array_equal(plain_loop, one_beam),
)
check(
    "what the searches write is far more probable than real text, with every seed: by half a nat a character",
    all((likelihood[way] > likelihood["real text"] + 0.5).all() for way in ("greedy", "beam 4")),
)
check(
    "and it repeats itself: rep-4 above one half, of real text below a fifth, with every seed",
    all((repetition[way] > 0.5).all() for way in ("greedy", "beam 4")) and (repetition["real text"] < 0.2).all(),
)
check(
    "what is drawn is about as probable as real text, within a quarter nat, with every seed",
    (abs(likelihood["sampling"] - likelihood["real text"]) < 0.25).all(),
)
check(
    "every filter, and a lower temperature, writes more probable text than plain sampling, with every seed",
    all(
        (likelihood[way] > likelihood["sampling"]).all()
        for way in ("temperature 0.7", "top-k 5", "top-p 0.9", "min-p 0.1")
    ),
)
check(
    "contrastive search repeats less than greedy search, with every seed",
    (repetition["contrastive"] < repetition["greedy"]).all(),
)
check("the penalty does not end the loop here, with any seed", (repetition["greedy, penalty 1.3"] > 0.5).all())
check(
    "the hotter, the more variety and the fewer known words, with every seed (0.2, 0.8, 1.4)",
    all(
        (dial[hotter][:, 2] > dial[colder][:, 2]).all() and (dial[hotter][:, 3] < dial[colder][:, 3]).all()
        for colder, hotter in ((0.2, 0.8), (0.8, 1.4))
    ),
)
check(
    "where one token is almost certain, top-k lets others in, top-p and min-p do not",
    [kept[way][0] for way in kept] == [4, 1, 1],
)

# %% [markdown]
# ## Use · 用处

# %% [markdown] lang="en"
# In the capstone `char-lm` all these samplings are sliders of the page, on a far better model: `uv run --package char-lm
# demo`. The phase ends in two more capstones. `translator` is the Transformer of 07/06, and decodes with this beam search:
# `uv run --package translator train`, then `uv run --package translator demo`. `sentiment-bert` fine-tunes the BERT of 07/07
# and 07/08: `uv run --package sentiment-bert train`, then `uv run --package sentiment-bert demo`.
#
# Papers: [Holtzman et al. 2020](https://arxiv.org/abs/1904.09751), why likely text degenerates, and top-p; [Fan et al.
# 2018](https://arxiv.org/abs/1805.04833), top-k; [Nguyen et al. 2025](https://arxiv.org/abs/2407.01082), min-p; [Keskar et
# al. 2019](https://arxiv.org/abs/1909.05858), the repetition penalty; [Su et al. 2022](https://arxiv.org/abs/2202.06417),
# contrastive search; [Wu et al. 2016](https://arxiv.org/abs/1609.08144), beam search with a length penalty; [Welleck et al.
# 2019](https://arxiv.org/abs/1908.04319) and [Li et al. 2016](https://arxiv.org/abs/1510.03055), the measures. Next: networks that
# generate pictures, 08/01.

# %% [markdown] lang="zh"
# 在实战项目 `char-lm` 中，这些抽样方式都是页面上的滑块，背后是好得多的模型：`uv run --package char-lm demo`。
# 本阶段还有两个实战项目。`translator` 就是 07/06 的 Transformer，用这里的束搜索解码：
# 先运行 `uv run --package translator train`，再运行 `uv run --package translator demo`。
# `sentiment-bert` 微调 07/07 和 07/08 的 BERT：
# 先运行 `uv run --package sentiment-bert train`，再运行 `uv run --package sentiment-bert demo`。
#
# 论文：[Holtzman 等 2020](https://arxiv.org/abs/1904.09751)，高概率文本为什么退化，以及 top-p；
# [Fan 等 2018](https://arxiv.org/abs/1805.04833)，top-k；[Nguyen 等 2025](https://arxiv.org/abs/2407.01082)，min-p；
# [Keskar 等 2019](https://arxiv.org/abs/1909.05858)，重复惩罚；[Su 等 2022](https://arxiv.org/abs/2202.06417)，对比搜索；
# [Wu 等 2016](https://arxiv.org/abs/1609.08144)，带长度惩罚的束搜索；
# [Welleck 等 2019](https://arxiv.org/abs/1908.04319) 和 [Li 等 2016](https://arxiv.org/abs/1510.03055)，两个指标。
# 下一课：生成图像的网络，08/01。

# %% [markdown]
# ## Exercise · 练习

# %% [markdown] lang="en"
# Write `Sampling.probabilities`, in NumPy: penalty, temperature, top-k, top-p and min-p in one method. `uv run lesson exercise
# 07/10` makes the file, `uv run lesson check 07/10` judges it on distributions of its own, ties and extremes included.

# %% [markdown] lang="zh"
# 用 NumPy 实现 `Sampling.probabilities`：惩罚、温度、top-k、top-p、min-p 都在这一个方法里。
# `uv run lesson exercise 07/10` 生成文件，`uv run lesson check 07/10` 用另外的分布来检查，包括并列和极端情况。

# %% [markdown]
# ### Hints · 提示

# %% [markdown] lang="en"
# 1. Begin with temperature alone: divide the logits by it, subtract their largest, `np.exp`, divide by the sum. Compute in
#    float64. Temperature 0 gets a line of its own, which returns 1 for the most probable token.
# 2. The penalty comes before the temperature, for tokens where `seen` is true: divided where the logit is positive, multiplied
#    where it is not. Use `np.where`; do not change the caller's array.
# 3. Keep a boolean array `kept`, all true at first. `order = np.argsort(-probabilities, kind="stable")` lists the tokens, most
#    probable first; of two alike the one with the smaller number is first. Top-k: `kept[order[k:]] = False`.
# 4. Top-p: `np.cumsum` over the ordered probabilities minus the token's own is what comes before it. Drop the tokens whose
#    predecessors reach $p$ already.
# 5. Min-p compares with `min_p * probabilities.max()`. All filters look at the same probabilities; at the end set what was
#    dropped to 0 and divide by the sum once.

# %% [markdown] lang="zh"
# 1. 先只写温度：logits 除以温度，减去最大值，`np.exp`，再除以总和。用 float64 计算。
#    温度为 0 单独处理，返回最可能的词元为 1 的分布。
# 2. 惩罚在温度之前，作用于 `seen` 为真的词元：logit 为正就除，否则就乘。用 `np.where`，不要修改传入的数组。
# 3. 用布尔数组 `kept`，开始全为真。`order = np.argsort(-probabilities, kind="stable")` 把词元从最可能到最不可能排列，
#    并列时编号小的在前。top-k：`kept[order[k:]] = False`。
# 4. top-p：对排好序的概率做 `np.cumsum`，减去自己的概率，就是排在它前面的总和。前面的总和已达到 $p$ 的词元要丢掉。
# 5. min-p 与 `min_p * probabilities.max()` 比较。所有过滤器看的都是同一组概率；最后把丢掉的设为 0，再除以总和，只除一次。


# %%
@exercise(Sampling.probabilities)
def judge(yours, reference):
    random = np.random.default_rng(4)
    logits, seen = random.standard_normal(9) * 2, np.array([True, False, True, False, True, False, False, True, False])
    nothing = np.zeros(9, dtype=bool)

    def compare(claim, logits=logits, seen=nothing, **options):
        mine, expected = (
            module.Sampling(**options).probabilities(logits.copy(), seen) for module in (yours, reference)
        )
        check_close(claim, mine, expected, 1e-9)

    found = yours.Sampling().probabilities(logits.copy(), nothing)
    check("the result is an array [vocabulary]", np.shape(found) == (9,))
    compare("without options, the softmax of the logits")
    compare("logits as large as 1000 do not overflow", logits=logits * 1000)
    compare("temperature 0.5", temperature=0.5)
    compare("temperature 2", temperature=2.0)
    compare("temperature 0 takes the most probable token", temperature=0)
    compare("top-k keeps 3", top_k=3)
    compare("top-k larger than the vocabulary keeps all", top_k=100)
    compare("top-k of equal logits keeps the first ones", logits=np.zeros(9), top_k=4)
    compare("top-p 0.8 keeps the token that crosses the line", top_p=0.8)
    compare("top-p 0.01 keeps the most probable token", top_p=0.01)
    compare("top-p 0.5 of eight equal logits keeps four", logits=np.zeros(8), seen=nothing[:8], top_p=0.5)
    compare("min-p 0.2", min_p=0.2)
    compare("min-p 1 keeps only the most probable", min_p=1.0)
    compare("the filters look at the distribution after the temperature", temperature=2.0, top_p=0.6)
    compare("top-k and top-p look at the same distribution", top_k=3, top_p=0.9)
    compare("min-p brings nothing back that top-k has dropped", top_k=2, min_p=0.001)
    compare("all three filters together", top_k=5, top_p=0.95, min_p=0.1)
    compare("the penalty lowers positive logits that occurred", logits=abs(logits), seen=seen, repetition_penalty=1.5)
    compare("the penalty lowers negative logits that occurred", logits=-abs(logits), seen=seen, repetition_penalty=1.5)
    compare("the penalty comes before the greedy choice", seen=seen, repetition_penalty=3.0, temperature=0)
    compare("everything at once", seen=seen, repetition_penalty=1.3, temperature=0.8, top_k=6, top_p=0.9, min_p=0.05)
    given = logits.copy()
    yours.Sampling(0.5, repetition_penalty=2.0).probabilities(given, seen)
    check("the caller's logits are left as they were", np.array_equal(given, logits))
    precise = yours.Sampling(top_p=0.9).probabilities(logits.astype(np.float32), nothing)
    check("float32 logits give a float64 distribution", precise.dtype == np.float64)
    check_close("that sums to 1", precise.sum(), 1.0, 1e-12)


# %% [markdown]
# ## Interview · 面试

# %% [markdown]
# ### Why does greedy decoding repeat itself, and why is the most probable text not the best? · 贪心解码为什么会重复？为什么概率最高的文本不是最好的？

# %% [markdown] lang="en"
# Models have learned that what occurred occurs again, so every repetition raises the probability of the next, and nothing in a
# deterministic rule breaks the loop. And good text is not probable text: people say what is not obvious, so human text moves
# around the model's mean surprise, its entropy, while the maximum lies far above. Training asks for good probabilities of real
# text; it does not ask for the maximum to be good.

# %% [markdown] lang="zh"
# 模型学到了“出现过的还会再出现”，所以每重复一次，下一次重复的概率就更高，而确定性的规则里没有任何东西能打破循环。
# 而且好文本不等于高概率文本：人会说不那么显而易见的话，所以人写的文本在模型的平均惊讶度（熵）附近波动，而最大值远高于此。
# 训练要求的是真实文本的概率准确，并没有要求最大值是好文本。

# %%
for name in ("real text", "sampling", "greedy"):
    print(f"  {name}: {likelihood[name].mean():.2f} nats a character, rep-4 {repetition[name].mean():.2f}")

# %% [markdown]
# ### Top-k, top-p, min-p: which problem does each solve? · top-k、top-p、min-p 各解决什么问题？

# %% [markdown] lang="en"
# Top-k cuts the tail, but by a fixed number: too many where the model is sure, too few where many continuations are fine.
# Top-p adapts the number to the probability that is covered; at high temperature, when the distribution is flat, it lets the
# tail in again. Min-p measures against the most probable token, so its threshold moves with the model's certainty.

# %% [markdown] lang="zh"
# top-k 砍掉长尾，但个数固定：模型很确定时留得太多，有很多合理续写时又留得太少。
# top-p 让个数随覆盖的概率变化；但温度高、分布平坦时，它又会把长尾放进来。
# min-p 以最可能的词元为基准，门槛随模型的确定程度移动。

# %%
for name, (when_peaked, when_flat) in kept.items():
    print(f"  {name}: keeps {when_peaked} of 12 tokens where one has 93 %, {when_flat} where all are alike")
lively = np.log([0.6, 0.2, 0.1, *[0.1 / 97] * 97])
for name, way in (("top-p 0.9", Sampling(2.0, top_p=0.9)), ("min-p 0.1", Sampling(2.0, min_p=0.1))):
    print(
        f"  {name} at temperature 2: keeps {np.count_nonzero(way.probabilities(lively, np.zeros(100, bool)))} of 100 tokens"
    )

# %% [markdown]
# ### When is beam search right, and when wrong? Why a length penalty? · 什么时候该用束搜索，什么时候不该？为什么要长度惩罚？

# %% [markdown] lang="en"
# Right where the input fixes the answer, as in translation or recognition: there the probable answer is the good one. Wrong for
# open-ended writing, where it finds loops. Each further token multiplies by a probability below 1, so without a penalty the
# shortest answer wins; dividing the log-probability by the length to the power of α takes that advantage away.

# %% [markdown] lang="zh"
# 输入基本决定了答案时适合，比如翻译和语音识别：那里概率高的答案就是好答案。
# 开放式写作不适合，它会找到循环。每多一个词元就要乘上一个小于 1 的概率，不加惩罚的话最短的答案总是赢；
# 把对数概率除以长度的 α 次方，就消除了这种优势。


# %%
def impatient(tokens, state):
    """Ends at once with 0.6; or goes on with 0.4, and then nearly always says the same four tokens."""
    follow = {0: {5: 0.6, 1: 0.4}, 1: {2: 0.9}, 2: {3: 0.9}, 3: {4: 0.9}, 4: {5: 0.9}}
    return np.log([[follow[token].get(after, 1e-9) for after in range(6)] for token in tokens.tolist()]), state


for alpha in (0.0, 1.0):
    best = beam_search(
        impatient, {}, np.array([0]), max_length=8, end_token=5, num_beams=2, length_penalty=alpha, early_stopping=False
    )[0][0]
    print(
        f"  α = {alpha:g}: {len(best.tokens)} tokens before the end, probability {math.exp(best.log_probability):.2f}"
    )

# %% [markdown]
# ### What is in a KV cache, and how large is it? · KV 缓存里存了什么？有多大？

# %% [markdown] lang="en"
# The keys and values of every token in every layer; queries are needed once only. Its size is 2 · layers · tokens · dim numbers
# for each text, so it grows with the batch and the length, and in long conversations it is larger than one would think. It is
# the reason for sharing keys and values among heads (multi-query and grouped-query attention).

# %% [markdown] lang="zh"
# 每一层、每个词元的键和值；查询只用一次，不必保存。每段文本的大小是 2 · 层数 · 词元数 · 宽度个数，
# 随批次和长度增长，长对话时大得出乎意料。让多个头共用键和值（multi-query、grouped-query attention）就是为了它。

# %%
for name, size in GPT2_SIZES.items():
    numbers = 2 * size.num_layers * size.context_length * size.dim
    print(f"  {name}: {2 * numbers / 2**20:.0f} MiB in 16 bits for a text of {size.context_length} tokens")
cache = untrained.step(beginning, torch.zeros(1, dtype=torch.long), untrained.initial_state(1))[1]
print(f"  counted: {cache.keys.numel() + cache.values.numel()} = 2 · 4 · {PROMPT} · 128 = {2 * 4 * PROMPT * 128}")

# %% [markdown]
# ### Does temperature change which token is most probable? What are its limits? · 温度会改变最可能的词元吗？它的极限是什么？

# %% [markdown] lang="en"
# No: dividing all logits by the same positive number keeps their order. Towards 0 all the probability goes to the largest, which
# is greedy search; towards infinity all tokens become equally probable. A token's odds against another are raised to the power
# of 1/τ.

# %% [markdown] lang="zh"
# 不会：所有 logits 除以同一个正数，顺序不变。趋于 0 时全部概率集中到最大者，即贪心搜索；
# 趋于无穷时所有词元概率相等。一个词元相对另一个的几率比变成原来的 1/τ 次方。

# %%
for temperature in (0.1, 1.0, 10.0):
    print(f"  τ = {temperature:g}: {Sampling(temperature).probabilities(FIVE, NOTHING_SEEN).round(3).tolist()}")

# %% [markdown]
# ### Someone changes only the decoding and reports a lower perplexity of the generated text. Is the model better? · 有人只改了解码方式，报告生成文本的困惑度更低。模型变好了吗？

# %% [markdown] lang="en"
# No. The model is the same, and the perplexity of its own text can be made as low as one likes by repeating oneself. Report the
# perplexity of held-out real text for the model; for generated text, compare likelihood, repetition and variety with those of real
# text: too probable is as wrong as too improbable.

# %% [markdown] lang="zh"
# 没有。模型还是那个模型，而它自己写的文本，困惑度只要靠重复就能压到任意低。
# 评价模型应报告留出的真实文本的困惑度；评价生成的文本，应把概率、重复和多样性与真实文本相比：太可能和太不可能一样不对。

# %%
table(
    ["text", "perplexity a character"],
    [
        (name, float(np.exp(-likelihood[name].mean())))
        for name in ("greedy", "temperature 0.7", "sampling", "real text")
    ],
)
